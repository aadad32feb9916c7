//! The demonstration of document 003's rotary sample for the terminal.

use posenc_lab::demo::rotary_bug::{Checked, Claim, Code, RotaryBug, Turned, Width};

use super::words::{list, number, verdicts};
use crate::columns::{paragraph, table};

/// Columns of a terminal that it fits into.
const COLUMNS: usize = 80;

const SAMPLE: &str = "    cos, sin = cos.repeat_interleave(2, dim=1), sin.repeat_interleave(2, dim=1)
    x * cos + torch.cat([-x[..., 1::2], x[..., ::2]], dim=-1) * sin
";

const REPAIRS: &str = "  Neighbours turn together, as the formula says:
    torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)

  Or coordinate i with i + d/2, as LLaMA and GPT-NeoX in transformers:
    cos, sin = torch.cat([cos, cos], dim=1), torch.cat([sin, sin], dim=1)
    x1, x2 = x.chunk(2, dim=-1)
    torch.cat([-x2, x1], dim=-1)
";

/// The demonstration as text.
pub fn text(bug: &RotaryBug) -> String {
    let RotaryBug { seed, distance, .. } = bug;
    let mut out = String::from("Document 003's rotary sample against its own formula\n\n");
    out += &paragraph(
        "",
        "The formula turns neighbours together: (x0, x1) by one angle, (x2, x3) by the next, and so on. The sample's cosines and sines fit that; the vector that goes with the sines does not:",
        COLUMNS,
    );
    out += &format!("\n{SAMPLE}\n");
    out += &paragraph(
        "",
        &format!(
            "That vector is [−x1, −x3, …, x0, x2, …]: coordinates of different pairs meet, at one pair's angle. Below, random vectors of width d (seed {seed}) are turned by the sample at \
             position p."
        ),
        COLUMNS,
    );
    out += "\nLargest difference of a coordinate from the formula\n\n";
    out += &by_position(bug, |t, i| number(t.from_interleaved[i]));
    out += "\nLength after turning, divided by the length before (a rotation: 1)\n\n";
    out += &by_position(bug, |t, i| format!("{:.3}", t.length[i]));
    out += &format!("\nq·k with the query {distance} positions after its key, the key at p (rotary: one number)\n\n");
    out += &scores(bug);
    out.push('\n');
    out += &verdicts(bug.claims.iter().map(|checked| (checked.holds, claim(bug, checked))), COLUMNS);
    out += &format!("\nHow to repair it: the vector that goes with the sines is\n\n{REPAIRS}\n");
    out += &paragraph(
        "",
        "In this library it is `posenc::rotate::rotary::rotate` with `Pairing::Interleaved` or `Pairing::Halves`. A trained model needs the pairing that it was trained with.",
        COLUMNS,
    );
    out
}

/// The claims that were not seen, in words.
pub fn not_shown(bug: &RotaryBug) -> Vec<String> {
    let failed = bug.claims.iter().filter(|checked| !checked.holds);
    failed.map(|checked| claim(bug, checked)).collect()
}

/// A row for each width, a column for each position, of the sample.
fn by_position(bug: &RotaryBug, cell: impl Fn(&Turned, usize) -> String) -> String {
    let headings: Vec<String> = bug.positions.iter().map(|p| format!("p={p}")).collect();
    let columns: [(&str, usize); 10] = std::array::from_fn(|i| {
        if i == 0 {
            ("d", 2)
        } else {
            (headings.get(i - 1).map_or("", String::as_str), 6)
        }
    });
    let rows = bug.widths.iter().map(|width| {
        let turned = width.code(Code::AsPrinted);
        std::array::from_fn(|i| match (i, turned) {
            (0, _) => vec![width.head_dim.to_string()],
            (i, Some(turned)) if i <= bug.positions.len() => vec![cell(turned, i - 1)],
            _ => vec![],
        })
    });
    table(columns, &rows.collect::<Vec<_>>())
}

/// Scores at one distance: a row for the formula and one for the sample, for each width.
fn scores(bug: &RotaryBug) -> String {
    let headings: Vec<String> = bug.keys.iter().map(|p| format!("p={p}")).collect();
    let columns: [(&str, usize); 9] = std::array::from_fn(|i| match i {
        0 => ("d", 2),
        1 => ("code", 7),
        8 => ("max − min", 9),
        i => (headings.get(i - 2).map_or("", String::as_str), 7),
    });
    let row = |width: &Width, code, name: &str| -> [Vec<String>; 9] {
        let turned = width.code(code);
        std::array::from_fn(|i| {
            vec![match (i, turned) {
                (0, _) => width.head_dim.to_string(),
                (1, _) => name.to_string(),
                (8, Some(turned)) => number(turned.spread),
                (i, Some(turned)) => turned.scores.get(i - 2).map_or_else(String::new, |&score| number(score)),
                (_, None) => String::new(),
            }]
        })
    };
    let rows = bug
        .widths
        .iter()
        .flat_map(|width| [row(width, Code::Formula, "formula"), row(width, Code::AsPrinted, "sample")]);
    table(columns, &rows.collect::<Vec<_>>())
}

fn claim(bug: &RotaryBug, checked: &Checked) -> String {
    // The largest over the widths with more than one pair.
    let largest = |code, of: &dyn Fn(&Turned) -> f64| {
        let widths = bug.widths.iter().filter(|width| width.head_dim > 2);
        number(widths.filter_map(|width| width.code(code)).map(of).fold(0.0, f64::max))
    };
    let percent = bug
        .widths
        .iter()
        .filter_map(|width| width.code(Code::AsPrinted))
        .map(|turned| 100.0 * turned.stretch());
    let except = match checked.except.as_slice() {
        [] => String::new(),
        widths => format!(
            " (not so for d = {})",
            list(&widths.iter().map(ToString::to_string).collect::<Vec<_>>())
        ),
    };
    let said = match checked.claim {
        Claim::FormulaIsRelative => format!(
            "The formula keeps lengths (to {}), and a score depends on the distance alone (to {}).",
            largest(Code::Formula, &Turned::stretch),
            largest(Code::Formula, &|t| t.spread)
        ),
        Claim::SampleIsRightForOnePair => {
            "The sample is right at position 0, and for d = 2, a single pair: tests there do not find the fault.".into()
        }
        Claim::SampleIsNeitherPairing => "Everywhere else it is neither pairing in use, neighbours or halves.".into(),
        Claim::SampleChangesLengths => format!(
            "It changes lengths, by up to {:.0} %, differently at each position.",
            percent.fold(0.0, f64::max)
        ),
        Claim::SampleScoresDrift => format!(
            "Its scores at one distance drift by up to {} over {} positions: they are not relative.",
            largest(Code::AsPrinted, &|t| t.spread),
            bug.sequence
        ),
        Claim::RepairsAreThePairings => "Each repair below is the library's rotation with one of the two pairings, up to rounding.".into(),
    };
    said + &except
}
