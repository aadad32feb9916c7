//! `posenc compare`: train, evaluate, judge, and say where the files are.

use std::io::{self, IsTerminal};

use posenc_lab::compare::{Event, Export, compare};
use posenc_lab::store::REPORT;

use super::print;
use crate::args::compare::CompareArguments;
use crate::export::{html, table};
use crate::failure::Failure;
use crate::progress::Progress;

/// Written into the folder beside the results.
const EXPORTS: [Export; 1] = [(REPORT, html::report)];

pub fn run(arguments: &CompareArguments) -> Result<(), Failure> {
    let request = arguments.request();
    let stderr = io::stderr();
    let mut progress = Progress::new(stderr.lock(), stderr.is_terminal());
    let results = compare(&request, &EXPORTS, &mut |event: Event<'_>| progress.show(&event));
    progress.clear();
    let results = results?;
    print(&format!(
        "\n{}\nOpen {} to read it; results.json and results.csv beside it hold every number.",
        table::table(&results),
        request.out.join(REPORT).display()
    ))
}
