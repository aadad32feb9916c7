//! `posenc extend`: a model's file for longer texts.

use std::fs;
use std::io::Write;
use std::path::Path;

use posenc::config::Mode;
use posenc::config::extend::{By, Extension, extend};
use posenc::explain::{ExtensionReport, explain_extension};
use posenc_lab::LabError;
use posenc_lab::store::write_whole;
use serde::Serialize;
use serde_json::value::RawValue;

use super::model::{bytes, file};
use super::{print, print_json};
use crate::args::extend::{ExtendArguments, MethodName};
use crate::failure::Failure;

/// The new file with what changed.
#[derive(Serialize)]
struct Extended<'a> {
    #[serde(flatten)]
    report: ExtensionReport,
    /// The new file, its keys in their order and its numbers as they are written.
    config: &'a RawValue,
}

pub fn run(arguments: &ExtendArguments) -> Result<(), Failure> {
    let by = by(arguments)?;
    let path = file(&arguments.file);
    // Before any work: what stands there is somebody's.
    if let Some(out) = arguments.out.as_deref().filter(|out| out.exists() && !arguments.force) {
        return Err(Failure::Exists { path: out.into() });
    }
    let extension = Extension {
        original: arguments.original,
        factor: arguments.factor,
        replace: arguments.replace,
        mode: if arguments.lenient { Mode::Lenient } else { Mode::Strict },
        ..Extension::new(arguments.to, by)
    };
    let extended = extend(&bytes(&path)?, &extension).map_err(|error| Failure::Extend {
        path: path.clone(),
        error: Box::new(error),
        lenient: arguments.lenient,
    })?;
    let report = explain_extension(&extended)?;
    if let Some(out) = &arguments.out {
        write(out, &extended.text)?;
    }
    if arguments.report || arguments.out.is_some() && !arguments.json {
        // A closed stderr is no reason to fail.
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "{}", report.text(arguments.lang).trim_end());
    }
    if arguments.json {
        let config: &RawValue = serde_json::from_str(&extended.text).expect("what was read again is JSON");
        return print_json(&Extended { report, config });
    }
    match &arguments.out {
        Some(out) => print(&format!("wrote {}", out.display())),
        None => print(&extended.text),
    }
}

fn write(out: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| Failure::Unwritable {
            path: out.into(),
            source,
            option: "--out",
        })?;
    }
    write_whole(out, text.as_bytes()).map_err(|error| match error {
        LabError::FolderUnwritable { path, source } => Failure::Unwritable {
            path,
            source,
            option: "--out",
        },
        other => Failure::Lab(other),
    })
}

/// The method with its own options; another method's are refused.
fn by(arguments: &ExtendArguments) -> Result<By, Failure> {
    let own = |method: MethodName, options: &[(&str, bool)]| match options.iter().find(|(_, given)| *given) {
        Some((option, _)) if arguments.method != method => Err(Failure::Usage(format!(
            "--{option} is for another method than this; `posenc extend --help` says which"
        ))),
        _ => Ok(()),
    };
    own(
        MethodName::Llama3,
        &[
            ("low-freq-factor", arguments.low_freq_factor.is_some()),
            ("high-freq-factor", arguments.high_freq_factor.is_some()),
        ],
    )?;
    own(
        MethodName::Longrope,
        &[
            ("short-factors", arguments.short_factors.is_some()),
            ("long-factors", arguments.long_factors.is_some()),
        ],
    )?;
    let numbers = |path: &Option<std::path::PathBuf>| path.as_deref().map(numbers).transpose();
    Ok(match arguments.method {
        MethodName::Yarn => By::Yarn,
        MethodName::Linear => By::Linear,
        MethodName::Dynamic => By::Dynamic,
        MethodName::Ntk => By::Ntk,
        MethodName::Llama3 => By::Llama3 {
            low_freq_factor: arguments.low_freq_factor,
            high_freq_factor: arguments.high_freq_factor,
        },
        MethodName::Longrope => By::Longrope {
            short_factor: numbers(&arguments.short_factors)?,
            long_factor: numbers(&arguments.long_factors)?,
        },
    })
}

/// The numbers of a file: a JSON list, or words.
fn numbers(path: &Path) -> Result<Vec<f64>, Failure> {
    let bytes = bytes(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    words
        .map(|word| {
            word.parse().map_err(|_| {
                let shown: String = word.chars().take(40).collect();
                Failure::Usage(format!(
                    "{}: `{shown}` is no number; a number for each pair is wanted",
                    path.display()
                ))
            })
        })
        .collect()
}
