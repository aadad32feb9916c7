//! `posenc bench`: how fast the hooks are on this machine.

use posenc_lab::bench::{Options, Report, Seen, run as measure};

use super::show::{Format, check_one, write_one};
use super::{print, print_json};
use crate::args::bench::BenchArguments;
use crate::export::bench::{bandwidth, heading, line, machine, memory, threads};
use crate::export::pictures::growth;
use crate::failure::Failure;

pub fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    let plot = arguments
        .plot
        .as_deref()
        .map(|path| check_one(path).and_then(|()| Ok((path, Format::of(path)?))))
        .transpose()?;
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
    let mut table = Table::default();
    let report = measure(&options, |seen| {
        if !arguments.json {
            table.say(seen);
        }
    })?;
    table.written?;
    if report.rows.is_empty() && report.bandwidth.is_empty() && report.memory.is_empty() {
        let (only, growth) = (
            arguments.only.as_deref().unwrap_or_default(),
            if arguments.growth { " --growth" } else { "" },
        );
        return Err(Failure::Usage(format!(
            "no work has a name that contains '{only}'; `posenc bench{growth}` without --only prints them all"
        )));
    }
    if let Some((path, format)) = plot {
        write_one(&growth::lines(&report), path, format)?;
    }
    if arguments.json {
        return print_json(&report);
    }
    print(&closing(&report, arguments))
}

/// The table as it grows, a line as soon as it is there: all of it takes minutes.
struct Table {
    written: Result<(), Failure>,
    /// The machine, until something was measured on it.
    machine: Option<String>,
    headed: bool,
    /// The number of threads that stands above.
    above: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            written: Ok(()),
            machine: None,
            headed: false,
            above: 0,
        }
    }
}

impl Table {
    fn say(&mut self, seen: Seen<'_>) {
        if self.written.is_err() {
            return;
        }
        let text = match seen {
            Seen::Machine(on) => {
                self.machine = Some(machine(on) + "\n");
                return;
            }
            Seen::Bandwidth(sizes) => self.under(sizes.first().map_or(1, |at| at.threads)) + &bandwidth(sizes),
            Seen::Memory(lengths) => self.under(lengths.first().map_or(1, |at| at.threads)) + &memory(lengths),
            Seen::Row(row) => {
                let mut text = self.under(row.threads);
                if !self.headed {
                    self.headed = true;
                    text += &(heading() + "\n");
                }
                text + &line(row)
            }
        };
        self.written = print(&text);
    }

    /// What stands above the first rows of a number of threads; the names of the columns come once for each.
    fn under(&mut self, count: usize) -> String {
        if self.above == count {
            return String::new();
        }
        (self.above, self.headed) = (count, false);
        format!("{}\n{}\n", self.machine.take().unwrap_or_default(), threads(count))
    }
}

fn closing(report: &Report, arguments: &BenchArguments) -> String {
    let goals = report.rows.iter().filter_map(|row| row.met());
    let met = goals.clone().filter(|met| *met).count();
    let mut text = format!(
        "\n10⁹/s: bytes read and written, or operations of attention's products, a second.\nRatio: time over the limit's, the median of {} pairs (smallest–largest).",
        report.rounds
    );
    match goals.count() {
        0 => {}
        all => text += &format!(" {met} of {all} goals are met."),
    }
    if let Some(path) = &arguments.plot {
        text += &format!("\nwrote {}", path.display());
    }
    text
}
