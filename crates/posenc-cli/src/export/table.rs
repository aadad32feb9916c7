//! The table in the terminal: the answer, the verdicts, the means, and what was refused. Plain text, at most 100 columns.

use posenc_lab::results::{Reach, Results, VerdictAt};
use posenc_lab::verdict::STILL_FALLING_ABOVE;

use super::answer::{self, Row};
use super::words;

const COLUMNS: usize = 100;
/// Longer names are cut, so that at least one length fits beside them.
const NAME: usize = 32;
const GAP: &str = "  ";

/// The answer in sentences, then encodings × lengths.
pub fn table(results: &Results) -> String {
    let trained = results.config.training.length;
    let rows = answer::rows(results);
    let mut out = String::new();
    for sentence in answer::answer(results, &str::to_string) {
        wrap(&mut out, "", &sentence);
    }

    let past: Vec<usize> = results.config.lengths.iter().copied().filter(|&length| length != trained).collect();
    let of_seeds = if results.config.seeds.len() > 1 {
        format!(" (mean of {} seeds)", results.config.seeds.len())
    } else {
        String::new()
    };
    if !past.is_empty() {
        out.push('\n');
        wrap(
            &mut out,
            "",
            &format!("Verdict, and rise of the aligned loss over the trained length, in nats per token{of_seeds}"),
        );
        grid(&mut out, &rows, &past, trained, verdict);
    }
    out.push('\n');
    wrap(
        &mut out,
        "",
        &format!("Mean loss over non-overlapping windows, in nats per token{of_seeds}"),
    );
    grid(&mut out, &rows, &results.config.lengths, trained, |row, length| {
        row.mean(length).map_or_else(|| absent(row, length).into(), words::loss)
    });

    let mut notes = String::new();
    if rows.iter().any(starred) {
        let text = format!(
            "* not converged: held-out loss still fell by more than {STILL_FALLING_ABOVE} nat over the last tenth of the steps, or does not beat the \
             bigram (loss {}).",
            words::loss(results.baselines.bigram)
        );
        wrap(&mut notes, "  ", &text);
    }
    for row in &rows {
        for (length, text) in row.refusals() {
            wrap(
                &mut notes,
                "  ",
                &format!("{} refuses {}: {text}", row.verdict.encoding, words::length(length, trained)),
            );
        }
    }
    if !notes.is_empty() {
        out.push('\n');
        out.push_str(&notes);
    }
    out
}

/// `broken  +0.83`; the word is padded by [`grid`], which knows how wide its column is.
fn verdict(row: &Row, length: usize) -> String {
    let Some(VerdictAt { verdict, rise, .. }) = row.verdict.lengths.iter().find(|at| at.length == length) else {
        return words::NOTHING.into();
    };
    match words::mean(rise.iter().copied()) {
        Some(rise) => format!("{}\t{}", words::reach(*verdict), words::rise(rise)),
        None => words::reach(*verdict).into(),
    }
}

fn absent(row: &Row, length: usize) -> &'static str {
    let refused = row
        .verdict
        .lengths
        .iter()
        .any(|at| at.length == length && at.verdict == Reach::Refuses);
    if refused { words::reach(Reach::Refuses) } else { words::NOTHING }
}

fn starred(row: &Row) -> bool {
    !row.verdict.converged && row.runs.iter().any(|run| !run.held_out.is_empty())
}

/// Encodings down, lengths across; lengths that do not fit are continued below. A tab in a cell parts a word (left) from a number (right).
fn grid(out: &mut String, rows: &[Row], lengths: &[usize], trained: usize, cell: impl Fn(&Row, usize) -> String) {
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{}{}", shorten(&row.verdict.encoding), if starred(row) { " *" } else { "" }))
        .collect();
    let name_width = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let columns: Vec<Vec<String>> = lengths.iter().map(|&length| column(rows, length, trained, &cell)).collect();
    let mut rest = columns.as_slice();
    while !rest.is_empty() {
        let mut used = name_width;
        let fits = rest.iter().take_while(|column| {
            used += GAP.len() + width(&column[0]);
            used <= COLUMNS
        });
        let (block, later) = rest.split_at(fits.count().max(1));
        for line in 0..=rows.len() {
            let name = if line == 0 { "" } else { &names[line - 1] };
            let mut text = pad(name, name_width);
            for column in block {
                text.push_str(GAP);
                text.push_str(&column[line]);
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        rest = later;
        if !rest.is_empty() {
            out.push('\n');
        }
    }
}

/// A heading and one cell per encoding, all of the same width.
fn column(rows: &[Row], length: usize, trained: usize, cell: &impl Fn(&Row, usize) -> String) -> Vec<String> {
    let cells: Vec<String> = rows.iter().map(|row| cell(row, length)).collect();
    let parts = |cell: &str| cell.split_once('\t').map(|(word, number)| (word.to_string(), number.to_string()));
    let words = cells
        .iter()
        .map(|cell| parts(cell).map_or(0, |(word, _)| width(&word)))
        .max()
        .unwrap_or(0);
    let numbers = cells
        .iter()
        .filter_map(|cell| parts(cell))
        .map(|(_, number)| width(&number))
        .max()
        .unwrap_or(0);
    let cells = cells.iter().map(|cell| match parts(cell) {
        Some((word, number)) => format!("{} {}{number}", pad(&word, words), " ".repeat(numbers - width(&number))),
        None => cell.clone(),
    });
    let mut column: Vec<String> = std::iter::once(words::length(length, trained)).chain(cells).collect();
    let widest = column.iter().map(|cell| width(cell)).max().unwrap_or(0);
    for cell in &mut column {
        *cell = pad(cell, widest);
    }
    column
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

fn shorten(name: &str) -> String {
    if width(name) <= NAME {
        name.into()
    } else {
        name.chars().take(NAME - 1).chain(['…']).collect()
    }
}

/// Words in lines of at most [`COLUMNS`]; lines after the first are indented.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.trim().is_empty() && width(&line) + 1 + width(word) > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line = indent.to_string();
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
