//! How fast the library's hooks are, each against what the machine can do at best.
//!
//! A hook moves memory, so its limit is a plain movement of the same bytes: an in-place product by a constant, a copy, a fill. The hook and its limit run alternately in one process, and what is
//! reported is the median of the **paired** ratios with their range: a machine that slows down for a while slows both.
//!
//! ```no_run
//! use posenc_lab::bench::{Options, run};
//! let report = run(&Options { only: Some("rotary".into()), ..Options::default() }, |row| println!("{}: {:.2}", row.work, row.ratio.median))?;
//! assert!(!report.rows.is_empty());
//! # Ok::<(), posenc_lab::LabError>(())
//! ```

mod addition;
mod bias;
mod growth;
mod paired;
mod rotation;
mod steps;
mod tables;

use crate::error::LabError;
use paired::Timer;
use posenc::{Error, Isa};
use serde::Serialize;

/// What is measured, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only works whose name contains this.
    pub only: Option<String>,
    /// Numbers of threads to measure with.
    pub threads: Vec<usize>,
    /// Pairs of measurements of each work.
    pub rounds: usize,
    /// Also the rotation at lengths from 128 to 131 072 and batches from 1 to 64.
    pub growth: bool,
}

impl Default for Options {
    /// One and two threads, 15 pairs each, without growth.
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
}

impl Row {
    /// 10⁹ bytes a second.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds.median * 1e-9
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
    /// The instruction set that the kernels ran on.
    pub isa: &'static str,
    /// Those that the processor has.
    pub present: Vec<&'static str>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Pairs of measurements of each work.
    pub rounds: usize,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

/// Measures, and calls `seen` with each row as it is there.
///
/// # Errors
/// No threads or rounds; threads that cannot be started; settings that the library refuses.
pub fn run(options: &Options, mut seen: impl FnMut(&Row) + Send) -> Result<Report, LabError> {
    if options.rounds == 0 || options.threads.is_empty() || options.threads.contains(&0) {
        return Err(LabError::Encoding(Error::Zero { what: "rounds or threads" }));
    }
    let mut rows = Vec::new();
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
            rotation::measure(&mut timer)?;
            addition::measure(&mut timer)?;
            bias::measure(&mut timer)?;
            tables::measure(&mut timer)?;
            steps::measure(&mut timer)?;
            if options.growth {
                growth::measure(&mut timer)?;
            }
            Ok(())
        })?;
    }
    Ok(Report {
        isa: Isa::current().name(),
        present: Isa::present().map(Isa::name).collect(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        rounds: options.rounds,
        rows,
    })
}
