//! How fast the library's hooks are, each against what the machine can do at best.
//!
//! A hook moves memory, so its limit is a plain movement of the same bytes: an in-place product by a constant, a copy, a fill. Attention computes, so its limit is matrix products of as many operations. The work and its limit run alternately in one process, and what is
//! reported is the median of the **paired** ratios with their range: a machine that slows down for a while slows both. What the machine itself does at best ([`Bandwidth`]) is measured first.
//!
//! ```no_run
//! use posenc_lab::bench::{Options, Seen, run};
//! let options = Options { only: Some("rotary".into()), ..Options::default() };
//! let report = run(&options, |seen| {
//!     if let Seen::Row(row) = seen {
//!         println!("{}: {:.2}", row.work, row.ratio.median);
//!     }
//! })?;
//! assert!(!report.rows.is_empty());
//! # Ok::<(), posenc_lab::LabError>(())
//! ```

mod addition;
mod attention;
mod bandwidth;
mod bias;
mod growth;
mod machine;
mod paired;
mod rotation;
mod steps;
mod tables;

pub use bandwidth::Bandwidth;
pub use machine::{Cache, Machine};
pub use paired::{Paired, paired};

use crate::error::LabError;
use paired::Timer;
use posenc::Error;
use serde::Serialize;

/// What is measured, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only works whose name contains this; how fast memory moves is named `bandwidth`.
    pub only: Option<String>,
    /// Numbers of threads to measure with.
    pub threads: Vec<usize>,
    /// Pairs of measurements of each work.
    pub rounds: usize,
    /// Instead of the works at their usual shapes, some at lengths from 128 to 131 072 and at batches from 1 to 64.
    pub growth: bool,
}

impl Default for Options {
    /// One and two threads, 15 pairs each: how fast memory moves, and every work at its usual shapes.
    fn default() -> Options {
        Options {
            only: None,
            threads: vec![1, 2],
            rounds: 15,
            growth: false,
        }
    }
}

/// A median with its range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Each number times `factor`: seconds in another unit, or of a part.
    pub fn scaled(self, factor: f64) -> Spread {
        Spread {
            median: self.median * factor,
            low: self.low * factor,
            high: self.high * factor,
        }
    }
}

/// One work against its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// What is done: method, place, pairing.
    pub work: String,
    /// What is stored.
    pub stored: &'static str,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Threads.
    pub threads: usize,
    /// Bytes that are read and written.
    pub bytes: usize,
    /// Operations of products: two for a number times a number, added.
    pub operations: usize,
    /// Seconds: median and range.
    pub seconds: Spread,
    /// What it is compared with.
    pub limit: &'static str,
    /// Seconds of the limit.
    pub limit_seconds: Spread,
    /// Time over the limit's time, pair by pair.
    pub ratio: Spread,
    /// The ratio that was set as a goal.
    pub goal: Option<f64>,
    /// Where it stands on a line, if it was measured to see one.
    pub growth: Option<Growth>,
}

/// A point of a line: what grows, and how much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Growth {
    /// What grows.
    pub axis: Axis,
    /// How far it has grown.
    pub at: usize,
    /// What the cost is divided by: tokens, or keys of a bias.
    pub tokens: usize,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Tokens of a sequence, or the position of the one that is new.
    Length,
    /// Sequences.
    Batch,
}

impl Row {
    /// 10⁹ bytes a second, or 10⁹ operations where those are what counts; `None` where neither is counted.
    pub fn rate(&self) -> Option<f64> {
        let done = if self.operations > 0 { self.operations } else { self.bytes };
        (done > 0).then(|| done as f64 / self.seconds.median * 1e-9)
    }

    /// The median keeps to the goal; `None` without one.
    pub fn met(&self) -> Option<bool> {
        self.goal.map(|goal| self.ratio.median <= goal)
    }
}

/// What was measured, and on what.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// Pairs of measurements of each work.
    pub rounds: usize,
    /// How fast memory moves: sizes, for each number of threads.
    pub bandwidth: Vec<Bandwidth>,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

/// A part of the report, as soon as it is there.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'r> {
    /// First of all: what everything runs on.
    Machine(&'r Machine),
    /// Before the rows of a number of threads: how fast they move memory, by size.
    Bandwidth(&'r [Bandwidth]),
    /// One work.
    Row(&'r Row),
}

/// Measures, and calls `seen` with each part as it is there.
///
/// # Errors
/// No threads or rounds; threads that cannot be started; settings that the library refuses.
pub fn run(options: &Options, mut seen: impl FnMut(Seen<'_>) + Send) -> Result<Report, LabError> {
    if options.rounds == 0 || options.threads.is_empty() || options.threads.contains(&0) {
        return Err(LabError::Encoding(Error::Zero { what: "rounds or threads" }));
    }
    let machine = Machine::this();
    seen(Seen::Machine(&machine));
    let (mut bandwidth, mut rows) = (Vec::new(), Vec::new());
    for &threads in &options.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|_| {
            LabError::Encoding(Error::Invalid {
                what: "threads",
                given: threads.to_string(),
                expected: "as many as this system starts",
            })
        })?;
        let mut timer = Timer {
            rounds: options.rounds,
            threads,
            only: options.only.as_deref(),
            seen: &mut seen,
            rows: &mut rows,
        };
        pool.install(|| -> Result<(), LabError> {
            if timer.wants("bandwidth") {
                let probed = bandwidth::probe(options.rounds);
                (timer.seen)(Seen::Bandwidth(&probed));
                bandwidth.extend(probed);
            }
            if options.growth {
                return growth::measure(&mut timer);
            }
            rotation::measure(&mut timer)?;
            addition::measure(&mut timer)?;
            bias::measure(&mut timer)?;
            tables::measure(&mut timer)?;
            steps::measure(&mut timer)?;
            attention::measure(&mut timer)
        })?;
    }
    Ok(Report {
        machine,
        rounds: options.rounds,
        bandwidth,
        rows,
    })
}
