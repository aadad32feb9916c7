//! Runs the records of a folder of reference vectors through the public API and says what came of each set.

pub mod asked;
mod attention;
mod bounded;
pub mod compare;
mod encodings;
mod format;
mod layers;
mod mpnet;
mod onnx;
mod oracle;
mod positions;
mod rotary;
mod rotation;
pub mod set;

use crate::through;
use compare::Worst;
use set::{Outcome, Record, Set, Stop, skip};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Sets that are expected in a folder, whether or not their records run yet. Others that lie there are named too.
const SETS: [&str; 10] = [
    "attention",
    "encodings",
    "hf_axes",
    "hf_positions",
    "hf_rotary",
    "layers",
    mpnet::NAME,
    "onnx",
    "rope_scaling",
    "rounding",
];

/// A test binary without a harness, because one hides what a passing test prints; what tools ask of one is answered. `own` is the project's folder of sets,
/// of which as many records must pass as the file `expected` says; `POSENC_GOLDEN` names another.
#[allow(dead_code, reason = "the harness of this runner has one of its own")]
pub fn main(own: &Path, expected: &Path) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("golden: test");
        return ExitCode::SUCCESS;
    }
    if !arguments.is_empty() && arguments.iter().all(|a| !a.starts_with('-') && !"golden".contains(a.as_str())) {
        return ExitCode::SUCCESS;
    }
    let given = std::env::var_os("POSENC_GOLDEN").map(PathBuf::from);
    let folder = given.as_deref().unwrap_or(own);
    let mut complaints = Vec::new();
    if !folder.is_dir() {
        complaints.push(format!("{} is not a folder", folder.display()));
    }
    let reports = run(folder);
    for report in &reports {
        println!("{report}");
        if !report.failed.is_empty() {
            complaints.push(format!("{} of {} failed", report.failed.len(), report.name));
        }
    }
    if given.is_none() {
        match std::fs::read_to_string(expected) {
            Ok(expected) => complaints.extend(shortfalls(&expected, &reports)),
            Err(error) => complaints.push(format!("{}: {error}", expected.display())),
        }
    }
    for complaint in &complaints {
        eprintln!("golden: {complaint}");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What came of one set.
#[derive(Debug, Default)]
pub struct Report {
    pub name: String,
    pub passed: usize,
    /// Record and message.
    pub failed: Vec<(String, String)>,
    /// Records by the reason why they were not run.
    pub skipped: BTreeMap<String, usize>,
    /// The record that came nearest to a bound.
    pub worst: Option<(String, Worst)>,
}

/// All sets of a folder, sorted by name.
pub fn run(folder: &Path) -> Vec<Report> {
    let mut names: Vec<String> = SETS.map(String::from).to_vec();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let (Some("json"), Some(stem)) = (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|s| s.to_str())) {
            names.push(stem.to_string());
        }
    }
    names.sort();
    names.dedup();
    names.iter().map(|name| run_set(folder, name)).collect()
}

fn run_set(folder: &Path, name: &str) -> Report {
    let mut report = Report {
        name: name.to_string(),
        ..Report::default()
    };
    if name == mpnet::NAME {
        report.note(name, guarded(|| mpnet::check(folder)));
        return report;
    }
    let set = match Set::read(folder, name) {
        Ok(set) => set,
        Err(stop) => {
            report.note(name, Err(stop));
            return report;
        }
    };
    let check: fn(&Record<'_>) -> Outcome<Worst> = match name {
        "attention" => attention::check,
        "encodings" => encodings::check,
        "hf_axes" | "hf_rotary" => rotary::models::check,
        "hf_positions" => positions::check,
        "biases" | "layers" => layers::check,
        "onnx" => onnx::check,
        "rope_scaling" => rotary::scaling::check,
        "rounding" => rotary::rounding::check,
        _ => {
            let reason = "this set is not known here";
            for _ in &set.records {
                report.note(name, skip(reason));
            }
            return report;
        }
    };
    for index in 0..set.records.len() {
        match set.record(index) {
            Ok(record) => report.note(record.id, guarded(|| check(&record))),
            Err(stop) => report.note(name, Err(stop)),
        }
    }
    report
}

/// A panic is a failure of its record, not of the run.
fn guarded(check: impl FnOnce() -> Outcome<Worst>) -> Outcome<Worst> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        set::fail(format!("panicked: {}", text.unwrap_or("no message")))
    })
}

impl Report {
    fn note(&mut self, record: &str, outcome: Outcome<Worst>) {
        let outcome = match (outcome, through::reached()) {
            (Ok(_), false) => skip(through::OUT_OF_REACH),
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(worst) => {
                self.passed += 1;
                if self.worst.as_ref().is_none_or(|(_, w)| worst.ratio > w.ratio) {
                    self.worst = Some((record.to_string(), worst));
                }
            }
            Err(Stop::Skip(reason)) => *self.skipped.entry(reason).or_default() += 1,
            Err(Stop::Fail(message)) => self.failed.push((record.to_string(), message)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        write!(
            f,
            "golden {}: {} passed, {} failed, {skipped} skipped",
            self.name,
            self.passed,
            self.failed.len()
        )?;
        if let Some((record, worst)) = self.worst.as_ref().filter(|(_, worst)| worst.ratio > 0.0) {
            write!(
                f,
                "\n    nearest to its bound: {record}, {}, {:.3} of it",
                worst.tensor, worst.ratio
            )?;
        }
        for (reason, count) in &self.skipped {
            write!(f, "\n    {count} skipped: {reason}")?;
        }
        for (record, message) in &self.failed {
            write!(f, "\n    FAILED {record}: {message}")?;
        }
        Ok(())
    }
}

/// What `expected.txt` asks of a run: lines `NAME P`, at least P records of the set passed. Complaints, none if all is well.
pub fn shortfalls(expected: &str, reports: &[Report]) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((name, count)) = line
            .split_once(' ')
            .and_then(|(name, count)| Some((name, count.trim().parse::<usize>().ok()?)))
        else {
            complaints.push(format!("expected.txt: `{line}` is not `NAME P`"));
            continue;
        };
        let passed = reports.iter().find(|report| report.name == name).map_or(0, |report| report.passed);
        if passed < count {
            complaints.push(format!("expected.txt: {count} records of {name} must pass, {passed} did"));
        }
    }
    complaints
}
