//! `posenc-candle` on candle's tensors, against candle's own operations on the same tensors: what its users would write without it. Each row has the goal that was set for it.

mod attention;
mod gpt;
mod rotation;
mod training;

use crate::compare::{Bench, Result, digits, time};
use posenc_lab::bench::paired;
use std::time::Instant;

/// These rows are measured where they are asked for alone: the slowest of candle's expressions take ten seconds each time.
const SECTION: &str = "on candle";

/// What must hold of the two times.
#[derive(Clone, Copy)]
pub enum Goal {
    /// Its time over ours is at least this.
    Faster(f64),
    /// Ours over its time is at most this.
    Within(f64),
}

/// What is compared.
pub struct Row<'r> {
    pub work: &'r str,
    pub stored: &'r str,
    pub shape: &'r [usize],
    /// What it is set against.
    pub against: &'r str,
    pub goal: Option<Goal>,
}

/// Whether these rows are what is asked for.
pub fn asked(only: Option<&str>) -> bool {
    only.is_some_and(|only| only.starts_with(SECTION))
}

pub fn run(bench: &Bench) -> Result<()> {
    rotation::run(bench)?;
    attention::run(bench)?;
    training::run(bench)
}

pub fn heading(markdown: bool) -> String {
    if markdown {
        return "| work | type | shape | against | its time | ours | ratio | goal | |\n|---|---|---|---|---:|---:|---:|---:|---|".into();
    }
    format!(
        "{:<50} {:<4} {:>13}  {:<36} {:>8} {:>8}  ratio (range)       goal",
        "work", "type", "shape", "against", "its time", "ours"
    )
}

/// Runs both in turn and prints the row. An error stops the measurement.
pub fn pair(bench: &Bench, row: &Row<'_>, mut theirs: impl FnMut() -> Result<()>, mut ours: impl FnMut() -> Result<()>) -> Result<()> {
    let mut failed = None;
    let keep = |result: Result<()>, failed: &mut Option<_>| {
        if let Err(error) = result {
            failed.get_or_insert(error);
        }
    };
    let cell = std::cell::RefCell::new(&mut failed);
    let measured = paired(
        bench.rounds,
        || keep(theirs(), &mut cell.borrow_mut()),
        || keep(ours(), &mut cell.borrow_mut()),
    );
    if let Some(error) = failed {
        return Err(error);
    }
    let spread = [measured.ratio.median, measured.ratio.low, measured.ratio.high];
    print(bench, row, [measured.seconds.median, measured.other.median], spread);
    Ok(())
}

/// Seconds of each, run in turn as many times; one more round, the first, warms up.
pub fn in_turn<const N: usize>(rounds: usize, mut works: [&mut dyn FnMut() -> Result<()>; N]) -> Result<Vec<[f64; N]>> {
    let mut all = Vec::new();
    for _ in 0..rounds.max(1) + 1 {
        let mut seconds = [0.0; N];
        for (work, seconds) in works.iter_mut().zip(&mut seconds) {
            let begin = Instant::now();
            work()?;
            *seconds = begin.elapsed().as_secs_f64();
        }
        all.push(seconds);
    }
    all.remove(0);
    Ok(all)
}

/// Runs both in turn with what is around them, and prints what they take beyond that: the third.
pub fn net(
    bench: &Bench,
    row: &Row<'_>,
    theirs: &mut dyn FnMut() -> Result<()>,
    ours: &mut dyn FnMut() -> Result<()>,
    around: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let all = in_turn(bench.rounds, [theirs, ours, around])?;
    let net: Vec<[f64; 2]> = all.iter().map(|[a, b, around]| [a - around, b - around]).collect();
    let column = |of: fn(&[f64; 2]) -> f64| spread(net.iter().map(of).collect());
    let (theirs, ours, ratio) = (column(|n| n[0]), column(|n| n[1]), column(|n| n[0] / n[1]));
    print(bench, row, [theirs[0], ours[0]], ratio);
    Ok(())
}

/// Median, smallest, largest.
pub fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    [(values[(n - 1) / 2] + values[n / 2]) / 2.0, values[0], values[n - 1]]
}

/// `ratio` is its time over ours: median, smallest, largest.
fn print(bench: &Bench, row: &Row<'_>, [theirs, ours]: [f64; 2], ratio: [f64; 3]) {
    let [median, low, high] = match row.goal {
        Some(Goal::Within(_)) => [1.0 / ratio[0], 1.0 / ratio[2], 1.0 / ratio[1]],
        _ => ratio,
    };
    let (goal, met) = match row.goal {
        Some(Goal::Faster(goal)) => (format!("≥ {goal}"), if median >= goal { "met" } else { "missed" }),
        Some(Goal::Within(goal)) => (format!("≤ {goal}"), if median <= goal { "met" } else { "missed" }),
        None => (String::new(), ""),
    };
    let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let (work, stored, against) = (row.work, row.stored, row.against);
    let (theirs, ours) = (time(theirs), time(ours));
    let ratio = format!("{} ({}–{})", digits(median), digits(low), digits(high));
    if bench.markdown {
        println!("| {work} | {stored} | {shape} | {against} | {theirs} | {ours} | {ratio} | {goal} | {met} |");
    } else {
        println!("{work:<50} {stored:<4} {shape:>13}  {against:<36} {theirs:>8} {ours:>8}  {ratio:<19} {goal} {met}");
    }
}
