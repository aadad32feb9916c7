//! Measurements as a table.

use posenc_lab::bench::{Row, Spread};

/// The names of the columns.
pub fn heading() -> String {
    format!(
        "{:<48}{:<5}{:>14}{:>10}{:>6} {:<6}{:>19} goal",
        "work", "type", "shape", "time", "GB/s", "limit", "ratio (range)"
    )
}

/// What stands above the rows of a number of threads.
pub fn threads(count: usize) -> String {
    match count {
        1 => "On one thread".into(),
        count => format!("On {count} threads"),
    }
}

/// One measurement.
pub fn line(row: &Row) -> String {
    let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let Spread { median, low, high } = row.ratio;
    let goal = match (row.goal, row.met()) {
        (Some(goal), Some(true)) => format!("≤ {goal:.2} met"),
        (Some(goal), _) => format!("≤ {goal:.2}"),
        (None, _) => String::new(),
    };
    // What a limit is in full stands in the JSON.
    let limit = row.limit.split(',').next().unwrap_or_default();
    format!(
        "{:<48}{:<5}{shape:>14}{:>10}{:>6.1} {limit:<6}{:>19} {goal}",
        row.work,
        row.stored,
        time(row.seconds.median),
        row.gigabytes_per_second(),
        format!("{} ({}–{})", ratio(median), ratio(low), ratio(high))
    )
    .trim_end()
    .to_string()
}

/// Three digits.
fn ratio(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

/// In the unit that has one to three digits before its point.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} µs", s * 1e6),
    }
}
