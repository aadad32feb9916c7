//! `posenc bench`: how fast the hooks are on this machine.

use posenc_lab::bench::{Options, run as measure};

use super::{print, print_json};
use crate::args::bench::BenchArguments;
use crate::export::bench::{heading, line, threads};
use crate::failure::Failure;

pub fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = match (arguments.threads.as_slice(), cores) {
        ([], 1) => vec![1],
        ([], cores) => vec![1, cores],
        (given, _) => given.to_vec(),
    };
    let options = Options {
        only: arguments.only.clone(),
        threads: counts,
        rounds: arguments.rounds,
        growth: arguments.growth,
    };
    if arguments.json {
        return print_json(&measure(&options, |_| {})?);
    }
    let (mut written, mut above) = (Ok(()), 0);
    let report = measure(&options, |row| {
        // A line as soon as it is there: all of it takes a minute or two.
        if written.is_ok() && above != row.threads {
            let names = if above == 0 { heading() + "\n" } else { String::new() };
            above = row.threads;
            written = print(&(names + &threads(above)));
        }
        if written.is_ok() {
            written = print(&line(row));
        }
    })?;
    written?;
    if report.rows.is_empty() {
        let only = arguments.only.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "no work has a name that contains '{only}'; `posenc bench` without --only prints them all"
        )));
    }
    print(&format!(
        "\nInstruction set {} (this processor has {}), {} cores.\nRatio: time over the limit's, the median of {} pairs (smallest–largest). A goal without a word was not met.",
        report.isa,
        report.present.join(", "),
        report.cores,
        report.rounds
    ))
}
