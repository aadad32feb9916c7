//! Measurements as a table.

use posenc_lab::bench::{Bandwidth, Machine, Row, Spread};

/// The machine in a line.
pub fn machine(machine: &Machine) -> String {
    let caches: Vec<String> = machine
        .caches
        .iter()
        .map(|cache| format!("L{} {}", cache.level, size(cache.bytes)))
        .collect();
    let mut parts = vec![match machine.cores {
        1 => "1 core".into(),
        cores => format!("{cores} cores"),
    }];
    parts.extend((!caches.is_empty()).then(|| caches.join(", ")));
    parts.push(format!("runs {} of {}", machine.isa, machine.present.join(", ")));
    match &machine.processor {
        Some(name) => format!("{name}: {}", parts.join("; ")),
        None => parts.join("; "),
    }
}

/// How fast memory moves on a number of threads, by the size of the buffers.
pub fn bandwidth(sizes: &[Bandwidth]) -> String {
    let column = |text: &str| format!("{text:>20}");
    let mut out = format!("{:<24}", "10⁹ bytes a second");
    sizes.iter().for_each(|at| out += &column(&size(at.bytes)));
    let mut line = |name: &str, of: fn(&Bandwidth) -> Spread| {
        out += &format!("\n  {name:<22}");
        for at in sizes {
            let Spread { median, low, high } = of(at);
            let [median, low, high] = [median, low, high].map(|x| digits(x * 1e-9));
            out += &column(&format!("{median} ({low}–{high})"));
        }
    };
    line("read", |at| at.read);
    line("write (memset)", |at| at.write);
    line("write to new memory", |at| at.write_new);
    line("both (x *= c)", |at| at.sweep);
    line("both (copy)", |at| at.copy);
    out
}

/// The names of the columns.
pub fn heading() -> String {
    format!(
        "{:<47} {:<4} {:>14} {:>8} {:>4} {:<6} {:<16} goal",
        "work", "type", "shape", "time", "10⁹/s", "limit", "ratio (range)"
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
        (Some(goal), _) => format!("≤ {goal:.2} missed"),
        (None, _) => String::new(),
    };
    // What a limit is in full stands in the JSON.
    let limit = row.limit.split(',').next().unwrap_or_default();
    format!(
        "{:<47} {:<4} {shape:>14} {:>8} {:>4} {limit:<6} {:<16} {goal}",
        row.work,
        row.stored,
        time(row.seconds.median),
        row.rate().map_or("–".into(), digits),
        format!("{} ({}–{})", digits(median), digits(low), digits(high))
    )
    .trim_end()
    .to_string()
}

/// Three digits, in at most four columns.
fn digits(x: f64) -> String {
    match x {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

/// Three digits, in the unit that has one to three of them before its point.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 0.9995 => format!("{} s", digits(s)),
        s if s >= 0.9995e-3 => format!("{} ms", digits(s * 1e3)),
        s if s >= 0.9995e-6 => format!("{} µs", digits(s * 1e6)),
        s => format!("{} ns", digits(s * 1e9)),
    }
}

/// Bytes in the largest unit that they fill.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_the_unit_that_suits_them() {
        let times = [1.0, 0.99951e-3, 965.84e-6, 12.34e-6, 4.346e-9].map(time);
        assert_eq!(times, ["1.00 s", "1.00 ms", "966 µs", "12.3 µs", "4.35 ns"]);
        assert_eq!(
            [9.994, 9.996, 99.94, 99.96, 1234.5].map(digits),
            ["9.99", "10.0", "99.9", "100", "1234"]
        );
        assert_eq!([48 << 10, 2 << 20, 3 << 30].map(size), ["48 KiB", "2 MiB", "3 GiB"]);
    }
}
