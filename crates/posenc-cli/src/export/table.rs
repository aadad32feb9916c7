//! The table in the terminal: the answer, the verdicts, the means, and what was refused. Plain text, at most 100 columns.

use posenc_lab::results::{Reach, Results, VerdictAt};
use posenc_lab::verdict::STILL_FALLING_ABOVE;

use super::answer::{self, Row};
use super::scaled::{self, Group, Judged};
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
        of_encodings(&mut out, &rows, &past, trained, verdict);
    }
    out.push('\n');
    wrap(
        &mut out,
        "",
        &format!("Mean loss over non-overlapping windows, in nats per token{of_seeds}"),
    );
    of_encodings(&mut out, &rows, &results.config.lengths, trained, |row, length| {
        row.mean(length).map_or_else(|| absent(row, length).into(), words::loss)
    });

    for group in scaled::groups(results, &rows) {
        out.push('\n');
        scaled_model(&mut out, results, &group, &past);
    }

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

/// A trained model under each scaling: what was found of what is known, then the two halves of its table.
fn scaled_model(out: &mut String, results: &Results, group: &Group, past: &[usize]) {
    let trained = results.config.training.length;
    let encoding = shorten(&group.row.verdict.encoding);
    wrap(
        out,
        "",
        &format!(
            "The trained {encoding} model, scaled, without training; rise of the aligned loss over the unscaled model's at the trained length"
        ),
    );
    let halves = [
        (
            "set for, read at".to_string(),
            past.iter().map(|&length| group.read_where_set(length)).collect::<Vec<_>>(),
        ),
        (
            format!("set for, read at {trained}"),
            past.iter().map(|&length| group.read_where_trained(length, trained)).collect(),
        ),
    ];
    for (corner, halves) in &halves {
        let Some(first) = halves.first() else { continue };
        let names: Vec<String> = first.iter().map(|(name, _)| name.to_string()).collect();
        let cell = |reading: &Option<Judged<'_>>| match reading {
            Some((verdict, rise)) => judged(*verdict, rise),
            None => words::NOTHING.into(),
        };
        let columns: Vec<Vec<String>> = (past.iter().zip(halves))
            .map(|(&length, lines)| {
                column(
                    words::length(length, trained),
                    lines.iter().map(|(_, reading)| cell(reading)).collect(),
                )
            })
            .collect();
        grid(out, corner, &names, &columns);
        out.push('\n');
    }
    for (outcome, sentence) in scaled::checks(results, &group.row.verdict.encoding) {
        wrap(out, "  ", &format!("{}: {sentence}.", scaled::found(outcome)));
    }
}

/// `broken  +0.83`; the word is padded by [`grid`], which knows how wide its column is.
fn verdict(row: &Row, length: usize) -> String {
    let Some(VerdictAt { verdict, rise, .. }) = row.verdict.lengths.iter().find(|at| at.length == length) else {
        return words::NOTHING.into();
    };
    judged(*verdict, rise)
}

fn judged(verdict: Reach, rise: &[f64]) -> String {
    match words::mean(rise.iter().copied()) {
        Some(rise) => format!("{}\t{}", words::reach(verdict), words::rise(rise)),
        None => words::reach(verdict).into(),
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

/// Encodings down, lengths across.
fn of_encodings(out: &mut String, rows: &[Row], lengths: &[usize], trained: usize, cell: impl Fn(&Row, usize) -> String) {
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{}{}", shorten(&row.verdict.encoding), if starred(row) { " *" } else { "" }))
        .collect();
    let of = |&length: &usize| column(words::length(length, trained), rows.iter().map(|row| cell(row, length)).collect());
    grid(out, "", &names, &lengths.iter().map(of).collect::<Vec<_>>());
}

/// Names down, columns with their headings across; columns that do not fit are continued below.
fn grid(out: &mut String, corner: &str, names: &[String], columns: &[Vec<String>]) {
    let name_width = names.iter().map(|name| width(name)).chain([width(corner)]).max().unwrap_or(0);
    let mut rest = columns;
    while !rest.is_empty() {
        let mut used = name_width;
        let fits = rest.iter().take_while(|column| {
            used += GAP.len() + width(&column[0]);
            used <= COLUMNS
        });
        let (block, later) = rest.split_at(fits.count().max(1));
        for line in 0..=names.len() {
            let name = if line == 0 { corner } else { &names[line - 1] };
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

/// A heading and one cell per name, all of the same width. A tab in a cell parts a word (left) from a number (right).
fn column(heading: String, cells: Vec<String>) -> Vec<String> {
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
    let mut column: Vec<String> = std::iter::once(heading).chain(cells).collect();
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
