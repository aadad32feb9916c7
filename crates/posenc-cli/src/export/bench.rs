//! Measurements as a table.

use posenc_lab::bench::{Row, Spread};

/// The names of the columns.
pub fn heading() -> String {
    format!(
        "{:<54}{:<6}{:>18}{:>8}{:>12}{:>8}  {:<8}{:>22}  {}",
        "work", "type", "shape", "threads", "time", "GB/s", "limit", "time / limit's", "goal"
    )
}

/// One measurement.
pub fn line(row: &Row) -> String {
    let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let Spread { median, low, high } = row.ratio;
    let goal = match (row.goal, row.met()) {
        (Some(goal), Some(true)) => format!("≤ {goal:.2} met"),
        (Some(goal), _) => format!("≤ {goal:.2} missed"),
        (None, _) => String::new(),
    };
    // What a limit is in full stands in the JSON.
    let limit = row.limit.split(',').next().unwrap_or_default();
    format!(
        "{:<54}{:<6}{shape:>18}{:>8}{:>12}{:>8.1}  {:<8}{:>22}  {goal}",
        row.work,
        row.stored,
        row.threads,
        time(row.seconds.median),
        row.gigabytes_per_second(),
        limit,
        format!("{median:.2} ({low:.2} to {high:.2})")
    )
    .trim_end()
    .to_string()
}

/// In the unit that has one to three digits before its point.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} µs", s * 1e6),
    }
}
