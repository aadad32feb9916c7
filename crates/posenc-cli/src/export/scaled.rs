//! The trained rotary models read with their frequencies scaled: what was found of what is known, the table's cells, the section of the page.

use std::fmt::Write;

use posenc_lab::results::{Reach, Results};
use posenc_lab::scalings::{Claim, Found, ScaledVerdict, ScaledVerdictAt, ScalingCase, ScalingCheck, ScalingMethod};

use super::answer::Row;
use super::words::{self, escape};
use super::{plots, svg};

/// One scaled encoding: its own row of the comparison, and its verdicts under each scaling.
pub struct Group<'a> {
    pub row: &'a Row<'a>,
    pub verdicts: Vec<&'a ScaledVerdict>,
}

/// The encodings that were scaled, in the order of the rows.
pub fn groups<'a>(results: &'a Results, rows: &'a [Row<'a>]) -> Vec<Group<'a>> {
    let group = |row: &'a Row<'a>| Group {
        row,
        verdicts: (results.scaled_verdicts.iter())
            .filter(|verdict| verdict.encoding == row.verdict.encoding)
            .collect(),
    };
    rows.iter().map(group).filter(|group| !group.verdicts.is_empty()).collect()
}

/// A verdict with each seed's rise.
pub type Judged<'a> = (Reach, &'a [f64]);

/// A scaling as people call it.
pub fn name(scaling: ScalingMethod) -> &'static str {
    match scaling {
        ScalingMethod::Linear => "linear",
        ScalingMethod::Ntk => "NTK-aware",
        ScalingMethod::Yarn => "YaRN",
        ScalingMethod::Dynamic => "dynamic NTK",
    }
}

/// The unscaled model's name beside them.
pub const UNSCALED: &str = "unscaled";

impl Group<'_> {
    /// The table's lines in its first half: the unscaled model, then each scaling.
    pub fn read_where_set(&self, length: usize) -> Vec<(&'static str, Option<Judged<'_>>)> {
        let unscaled = self.row.verdict.lengths.iter().find(|at| at.length == length);
        let mut lines = vec![(UNSCALED, unscaled.map(|at| (at.verdict, at.rise.as_slice())))];
        lines.extend(self.verdicts.iter().map(|verdict| {
            // The trained length is read at other factors too, and stands in the other half.
            let at = verdict.readings.iter().find(|at| at.length == length);
            (name(verdict.scaling), at.map(parts))
        }));
        lines
    }

    /// In its second half: each scaling at the trained length, set for `length`.
    pub fn read_where_trained(&self, length: usize, trained: usize) -> Vec<(&'static str, Option<Judged<'_>>)> {
        let factor = length as f64 / trained as f64;
        let lines = self.verdicts.iter().map(|&verdict| {
            // The dynamic rule does not look at its factor here.
            let is_set = |at: &&ScaledVerdictAt| verdict.scaling == ScalingMethod::Dynamic || at.factor == factor;
            let found = verdict.readings.iter().find(|at| at.length == trained && is_set(at));
            (name(verdict.scaling), found.map(parts))
        });
        lines.collect()
    }
}

fn parts(at: &ScaledVerdictAt) -> Judged<'_> {
    (at.verdict, &at.rise)
}

/// What is known and was looked for in one encoding: whether it was found, and a sentence with the numbers.
pub fn checks(results: &Results, encoding: &str) -> Vec<(Found, String)> {
    let trained = results.config.training.length;
    let of = results.scaling_checks.iter().filter(|check| check.encoding == encoding);
    of.map(|check| (check.found, sentence(check, trained))).collect()
}

/// The outcome in a word or two.
pub fn found(found: Found) -> &'static str {
    match found {
        Found::Held => "held",
        Found::NotHeld => "not held",
        Found::Inconclusive => "inconclusive",
    }
}

fn sentence(check: &ScalingCheck, trained: usize) -> String {
    let at = check
        .cases
        .first()
        .map_or_else(String::new, |case| words::length(case.length, trained));
    let claim = match check.claim {
        Claim::BeatsUnscaled => format!("Every scaling beats the unscaled model at {at}, where the difference of their losses is"),
        Claim::LinearCosts => format!("Linear scaling is worse than unscaled within the trained length: at {at} by"),
        Claim::SameAtTrained => {
            format!("A factor of 1, and dynamic within the trained length, change no bit: at {at} the difference is")
        }
    };
    let cases: Vec<String> = check.cases.iter().map(|case| evidence(check.claim, case, trained)).collect();
    format!("{claim} {}", words::list(&cases))
}

/// `−1.59 to −1.37 (NTK-aware)`.
fn evidence(claim: Claim, case: &ScalingCase, trained: usize) -> String {
    // Where the claim is about bits, two decimals would hide them.
    let number = |x: f64| {
        if claim == Claim::SameAtTrained {
            words::number(x)
        } else {
            words::rise(x)
        }
    };
    let numbers = match words::extent(case.differences.iter().copied()) {
        _ if case.differences.iter().any(|x| !x.is_finite()) => "no number".into(),
        Some((low, high)) if number(low) != number(high) => format!("{} to {}", number(low), number(high)),
        Some((low, _)) => number(low),
        None => words::NOTHING.into(),
    };
    let which = match claim {
        Claim::LinearCosts => format!("set for {}", words::ratio((case.factor * trained as f64).round() as usize, trained)),
        Claim::BeatsUnscaled | Claim::SameAtTrained => name(case.scaling).into(),
    };
    match case.found {
        Found::Held => format!("{numbers} ({which})"),
        Found::NotHeld => format!("{numbers} ({which}, with no seed)"),
        Found::Inconclusive => format!("{numbers} ({which}, the seeds disagree)"),
    }
}

/// The section of the page; nothing where nothing was scaled.
pub fn section(page: &mut String, results: &Results, rows: &[Row]) {
    let groups = groups(results, rows);
    let (trained, lengths) = (results.config.training.length, &results.config.lengths);
    let past: Vec<usize> = lengths.iter().copied().filter(|&length| length > trained).collect();
    let heading = match groups.as_slice() {
        [] => return,
        [one] => format!("The trained {} model, scaled", escape(&one.row.verdict.encoding)),
        _ => "The trained rotary models, scaled".into(),
    };
    let _ = write!(
        page,
        "<h2>{heading}</h2>\n<p>The same weights on the same windows, without any training: only the angles by which queries and keys turn are made smaller, so that a longer text turns them \
         no farther than the trained one did. A scaling is set for a length; its factor is that length divided by the trained one. Dynamic scaling grows with what is read and is set once, for the \
         longest length.</p>\n"
    );
    for (i, group) in groups.iter().enumerate() {
        if groups.len() > 1 {
            let _ = writeln!(page, "<h3>{}</h3>", escape(&group.row.verdict.encoding));
        }
        page.push_str(
            "<p>What is known of these scalings, looked for here (differences of the aligned loss, in nats per token):</p>\n<ul>\n",
        );
        for (outcome, sentence) in checks(results, &group.row.verdict.encoding) {
            let _ = writeln!(page, "<li><b>{}</b>: {}.</li>", found(outcome), escape(&sentence));
        }
        page.push_str("</ul>\n");
        if !past.is_empty() {
            table(page, group, &past, trained);
        }
        if let Some(plot) = plots::scaled(results, group, i) {
            let see = plot.see.iter().map(|text| escape(text)).collect::<Vec<_>>().join(" ");
            let _ = write!(
                page,
                "<figure id=\"{}\">\n<h3>{}</h3>\n<p class=\"see\">{see}</p>\n{}</figure>\n",
                plot.chart.id,
                plot.heading,
                svg::figure(&plot.chart)
            );
        }
    }
}

fn table(page: &mut String, group: &Group, past: &[usize], trained: usize) {
    page.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Verdicts on scaled models\">\n<table class=\"verdicts\">\n<thead><tr><th scope=\"col\">Set for</th>",
    );
    for &length in past {
        let _ = write!(page, "<th scope=\"col\">{}</th>", words::length(length, trained));
    }
    page.push_str("</tr></thead>\n");
    let halves = [
        (
            "and read at that length".to_string(),
            past.iter().map(|&length| group.read_where_set(length)).collect::<Vec<_>>(),
        ),
        (
            format!("but read at {}", words::length(trained, trained)),
            past.iter().map(|&length| group.read_where_trained(length, trained)).collect(),
        ),
    ];
    for (title, columns) in &halves {
        let _ = writeln!(
            page,
            "<tbody>\n<tr class=\"half\"><th colspan=\"{}\" scope=\"rowgroup\">{title}</th></tr>",
            past.len() + 1
        );
        let lines = columns.first().map_or(0, Vec::len);
        for line in 0..lines {
            let _ = write!(page, "<tr><th scope=\"row\">{}</th>", columns[0][line].0);
            for column in columns {
                cell(page, column[line].1);
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n");
    }
    let _ = write!(
        page,
        "</table>\n</div>\n<p class=\"note\">Each cell as in the table of the encodings: the verdict by the same rule, and the rise of the aligned loss over that of the unscaled model at {}.</p>\n",
        words::length(trained, trained)
    );
}

fn cell(page: &mut String, reading: Option<Judged<'_>>) {
    let Some((verdict, rise)) = reading else {
        let _ = write!(page, "<td>{}</td>", words::NOTHING);
        return;
    };
    let word = words::reach(verdict);
    let _ = write!(page, "<td class=\"{word}\"><b>{word}</b>");
    if let Some(rise) = words::mean(rise.iter().copied()) {
        page.push_str(&words::rise(rise));
    }
    if let Some(range) = words::range(rise) {
        let _ = write!(page, "<small>{range}</small>");
    }
    page.push_str("</td>");
}
