//! Other people's numbers: every record of `golden/` that the crates can run, and the reason of each that is not run.
//!
//! `POSENC_GOLDEN=DIR cargo test -p posenc-nn --test golden` reads the same sets from another folder.

#[path = "golden/mod.rs"]
mod golden;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    // No test harness, because it hides what a passing test prints; what tools ask of one is answered.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("golden: test");
        return ExitCode::SUCCESS;
    }
    if !arguments.is_empty() && arguments.iter().all(|a| !a.starts_with('-') && !"golden".contains(a.as_str())) {
        return ExitCode::SUCCESS;
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let given = std::env::var_os("POSENC_GOLDEN").map(PathBuf::from);
    let folder = given.as_ref().unwrap_or(&own);
    let mut complaints = Vec::new();
    if !folder.is_dir() {
        complaints.push(format!("{} is not a folder", folder.display()));
    }
    let reports = golden::run(folder);
    for report in &reports {
        println!("{report}");
        if !report.failed.is_empty() {
            complaints.push(format!("{} of {} failed", report.failed.len(), report.name));
        }
    }
    if given.is_none() {
        match std::fs::read_to_string(own.join("expected.txt")) {
            Ok(expected) => complaints.extend(golden::shortfalls(&expected, &reports)),
            Err(error) => complaints.push(format!("expected.txt: {error}")),
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
