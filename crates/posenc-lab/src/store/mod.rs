//! The results folder: what was asked, every run as soon as it is finished, and at the end the results.
//!
//! ```text
//! results/
//!   config.json               what is compared; written before the first run, never changed
//!   runs/<encoding>-<seed>.json   one finished run, with the configuration that it belongs to
//!   results.json              everything, once every run is there
//!   results.csv               the same measurements, one row per encoding, seed and length, and one per scaled reading
//!   report.html               the same, to be read
//! ```
//!
//! A file appears whole or not at all, so that after Ctrl-C, `kill -9` or a full disk the folder holds exactly the runs that were finished. Only one process may hold a
//! folder: two that begin at once would calibrate to two numbers of steps.

mod files;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::first_difference;
use crate::csv::to_csv;
use crate::error::LabError;
use crate::results::{Baselines, Config, Results, Run, SCHEMA};
use crate::scalings::{Scaled, readings_of, scaled_verdicts, scaling_checks};
use crate::verdict::verdicts;
use posenc::rng::{FNV_START, fnv1a};

pub use files::write_whole;

const POSENC: &str = env!("CARGO_PKG_VERSION");

const CONFIG: &str = "config.json";
const RUNS: &str = "runs";
const RESULTS: &str = "results.json";
const CSV: &str = "results.csv";
/// The report's name in the folder.
pub const REPORT: &str = "report.html";

const REPAIR_CONFIG: &str = "delete this file and repeat the command: it is restored from the finished runs, none of which is lost";
const REPAIR_RUN: &str = "delete this file and repeat the command: only this run is repeated";
const REPAIR_RESULTS: &str = "repeat the command that made it: it is written again from the finished runs";

/// `config.json`.
#[derive(Serialize, Deserialize)]
struct ConfigFile {
    schema: u32,
    posenc: String,
    config: Config,
}

/// `runs/*.json`. The configuration is repeated, so that a run cannot be taken for one of another comparison, and a lost `config.json` can be restored.
#[derive(Serialize, Deserialize)]
struct RunFile {
    schema: u32,
    posenc: String,
    config: Config,
    run: Run,
}

/// An open results folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    config: Config,
    runs: Vec<Run>,
    notes: Vec<String>,
    /// Held, not read: letting go of it lets go of the folder.
    _lock: Option<File>,
}

impl Store {
    /// Begins a comparison in `folder`, or resumes the one that it holds.
    ///
    /// `steps` is what the user asked for. `None` leaves the number to the folder: a comparison that was begun keeps its steps, and a new one calls `calibrate`, once,
    /// after everything else was found to be in order. Either way `wanted.training.steps` and `steps_from` are not read; [`config`](Self::config) has the ones that
    /// hold. When this returns, the configuration is on the disk.
    pub fn open(
        folder: &Path,
        mut wanted: Config,
        steps: Option<usize>,
        calibrate: impl FnOnce() -> Result<usize, LabError>,
    ) -> Result<Self, LabError> {
        wanted.training.steps = steps.unwrap_or(1);
        wanted.training.steps_from = if steps.is_some() { "given" } else { "calibrated" }.into();
        wanted.check()?;

        let unwritable = |source| LabError::FolderUnwritable {
            path: folder.into(),
            source,
        };
        fs::create_dir_all(folder).map_err(unwritable)?;
        refuse_foreign(folder)?;
        let lock = files::lock(folder)?;
        fs::create_dir_all(folder.join(RUNS)).map_err(unwritable)?;
        files::remove_temporary(folder);
        files::remove_temporary(&folder.join(RUNS));
        // Found out now, and not when the first run is finished.
        files::try_writing(&folder.join(RUNS))?;

        let config = match stored_config(folder)? {
            Some((path, stored)) => {
                if steps.is_none() {
                    wanted.training.steps = stored.training.steps;
                }
                same_comparison(&path, &stored, &wanted)?;
                stored
            }
            None => {
                if steps.is_none() {
                    wanted.training.steps = calibrate()?;
                    wanted.check()?;
                }
                wanted
            }
        };
        let runs = stored_runs(folder, &config)?;
        let path = folder.join(CONFIG);
        if !path.exists() {
            files::write_json(
                &path,
                &ConfigFile {
                    schema: SCHEMA,
                    posenc: POSENC.into(),
                    config: config.clone(),
                },
            )?;
        }
        let mut notes = Vec::new();
        if let Err(error) = files::read_json::<Results>(&folder.join(RESULTS), REPAIR_RESULTS) {
            notes.push(error.to_string());
        }
        Ok(Self {
            folder: folder.into(),
            config,
            runs,
            notes,
            _lock: lock,
        })
    }

    /// The configuration that holds, its steps included.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The finished runs, in the order of the results.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The runs that remain to be done, as encoding and seed, in the order of the results.
    pub fn missing(&self) -> Vec<(String, u64)> {
        let all = self
            .config
            .encodings
            .iter()
            .flat_map(|encoding| self.config.seeds.iter().map(move |&seed| (encoding, seed)));
        let is_missing = |encoding: &str, seed| !self.runs.iter().any(|run| run.encoding == encoding && run.seed == seed);
        all.filter(|&(encoding, seed)| is_missing(encoding, seed))
            .map(|(encoding, seed)| (encoding.clone(), seed))
            .collect()
    }

    /// Lines worth printing about the folder that was opened: a `results.json` that could not be read and will be written again.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Keeps a finished run. When this returns, it is on the disk; if it fails, nothing that was there has changed.
    pub fn save_run(&mut self, run: Run) -> Result<(), LabError> {
        let path = self.folder.join(RUNS).join(run_file_name(&run.encoding, run.seed));
        belongs(&self.config, &run).map_err(|reason| LabError::Configuration {
            field: "run",
            expected: "one of the configuration's".into(),
            given: format!("{}, seed {}: {reason}", run.encoding, run.seed),
        })?;
        let file = RunFile {
            schema: SCHEMA,
            posenc: POSENC.into(),
            config: self.config.clone(),
            run,
        };
        files::write_json(&path, &file)?;
        self.runs
            .retain(|other| other.encoding != file.run.encoding || other.seed != file.run.seed);
        self.runs.push(file.run);
        sort(&mut self.runs, &self.config);
        Ok(())
    }

    /// Judges the finished runs and writes `results.json` and `results.csv`. Refused while runs are missing.
    pub fn finish(&self, baselines: Baselines) -> Result<Results, LabError> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(LabError::Unfinished {
                missing: missing.iter().map(|(encoding, seed)| format!("{encoding} seed {seed}")).collect(),
            });
        }
        let results = Results {
            schema: SCHEMA,
            posenc: POSENC.into(),
            verdicts: verdicts(&self.config, &baselines, &self.runs),
            scaled_verdicts: scaled_verdicts(&self.config, &self.runs),
            scaling_checks: scaling_checks(&self.config, &self.runs),
            config: self.config.clone(),
            baselines,
            runs: self.runs.clone(),
        };
        files::write_json(&self.folder.join(RESULTS), &results)?;
        self.write(CSV, &to_csv(&results))?;
        Ok(results)
    }

    /// Writes a further file into the folder, whole or not at all: the report.
    pub fn write(&self, name: &str, contents: &str) -> Result<(), LabError> {
        write_whole(&self.folder.join(name), contents.as_bytes())
    }
}

/// Reads a `results.json`.
pub fn read_results(path: &Path) -> Result<Results, LabError> {
    let missing = || LabError::Damaged {
        path: path.into(),
        reason: "there is no such file".into(),
        remedy: REPAIR_RESULTS,
    };
    files::read_json(path, REPAIR_RESULTS)?.ok_or_else(missing)
}

/// Name of a run's file. Of an encoding's name, what a file system might not take is replaced, and a hash keeps the result unique.
fn run_file_name(encoding: &str, seed: u64) -> String {
    let safe: String = encoding
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    if safe == encoding && !safe.starts_with('.') {
        return format!("{safe}-{seed}.json");
    }
    format!(
        "{}-{:08x}-{seed}.json",
        safe.trim_start_matches('.'),
        fnv1a(FNV_START, encoding.as_bytes()) as u32
    )
}

/// A folder without a comparison may hold anything but the files that one would overwrite.
fn refuse_foreign(folder: &Path) -> Result<(), LabError> {
    if folder.join(CONFIG).exists() || !files::json_files(&folder.join(RUNS)).is_empty() {
        return Ok(());
    }
    match [RESULTS, CSV, REPORT].into_iter().find(|name| folder.join(name).exists()) {
        Some(name) => Err(LabError::FolderForeign {
            path: folder.into(),
            file: name.into(),
        }),
        None => Ok(()),
    }
}

/// The configuration that a folder holds and the file that says so: `config.json`, or without it the first finished run.
fn stored_config(folder: &Path) -> Result<Option<(PathBuf, Config)>, LabError> {
    let path = folder.join(CONFIG);
    if let Some(file) = files::read_json::<ConfigFile>(&path, REPAIR_CONFIG)? {
        same_program(&path, file.posenc)?;
        return Ok(Some((path, file.config)));
    }
    match files::json_files(&folder.join(RUNS)).into_iter().next() {
        Some(path) => Ok(read_run(&path)?.map(|file| (path, file.config))),
        None => Ok(None),
    }
}

fn stored_runs(folder: &Path, config: &Config) -> Result<Vec<Run>, LabError> {
    let mut runs = Vec::new();
    for path in files::json_files(&folder.join(RUNS)) {
        let Some(file) = read_run(&path)? else { continue };
        same_comparison(&path, &file.config, config)?;
        let damaged = |reason: String| LabError::Damaged {
            path: path.clone(),
            reason,
            remedy: REPAIR_RUN,
        };
        belongs(config, &file.run).map_err(damaged)?;
        let name = run_file_name(&file.run.encoding, file.run.seed);
        if !path.ends_with(&name) {
            return Err(damaged(format!("it holds the run of {name}")));
        }
        runs.push(file.run);
    }
    sort(&mut runs, config);
    Ok(runs)
}

fn read_run(path: &Path) -> Result<Option<RunFile>, LabError> {
    let Some(file) = files::read_json::<RunFile>(path, REPAIR_RUN)? else {
        return Ok(None);
    };
    same_program(path, file.posenc.clone())?;
    Ok(Some(file))
}

/// Another version may compute another last digit, and a comparison across two programs would compare these.
fn same_program(path: &Path, stored: String) -> Result<(), LabError> {
    if stored == POSENC {
        return Ok(());
    }
    Err(LabError::OtherConfiguration {
        path: path.into(),
        field: "posenc".into(),
        stored,
        wanted: POSENC.into(),
    })
}

fn same_comparison(path: &Path, stored: &Config, wanted: &Config) -> Result<(), LabError> {
    match first_difference(stored, wanted) {
        Some(d) => Err(LabError::OtherConfiguration {
            path: path.into(),
            field: d.field,
            stored: d.first,
            wanted: d.second,
        }),
        None => Ok(()),
    }
}

/// Why a run cannot be one of this configuration's.
fn belongs(config: &Config, run: &Run) -> Result<(), String> {
    if config.index(&run.encoding, run.seed).is_none() {
        return Err("its encoding and seed are not in the configuration".into());
    }
    if !run.lengths.iter().map(|at| at.length).eq(config.lengths.iter().copied()) {
        return Err("its lengths are not the configuration's".into());
    }
    let expected = readings_of(config, &run.encoding, &run.lengths);
    if !run.scaled.iter().map(Scaled::reading).eq(expected) {
        return Err("its scaled readings are not the configuration's".into());
    }
    Ok(())
}

fn sort(runs: &mut [Run], config: &Config) {
    runs.sort_by_key(|run| config.index(&run.encoding, run.seed));
}
