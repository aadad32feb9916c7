//! The demonstration of word order for the terminal.

use posenc_lab::demo::order::{Checked, Claim, Measured, Order, Outcome, Row, Variant};

use super::words::{list, number, verdicts};
use crate::columns::{paragraph, table};

/// Columns of a terminal that it fits into.
const COLUMNS: usize = 80;
/// How the pairs are called in the table.
const LETTERS: [&str; 3] = ["A", "B", "C"];

/// The demonstration as text.
pub fn text(order: &Order) -> String {
    let Order {
        seed, model_dim, heads, ..
    } = order;
    let mut out = String::from("Does attention see the order of words?\n\n");
    let intro = format!(
        "Two orders of the same words go through one attention layer: f64, width {model_dim}, {heads} heads, random weights (seed {seed}). The table says how far the outputs of \
         the two orders are apart when each is paired with the one that fits it best. `same`: not at all; what is left is rounding."
    );
    out += &paragraph("", &intro, COLUMNS);
    out.push('\n');
    let longest = order.pairs.iter().map(|pair| pair.first.len()).max().unwrap_or(0);
    for (pair, letter) in order.pairs.iter().zip(LETTERS) {
        let backwards = if pair.reversal { "   (read backwards)" } else { "" };
        let line = format!("  {letter}  {:longest$}  /  {:longest$}{backwards}", pair.first, pair.second);
        out += &format!("{}\n", line.trim_end());
    }
    out.push('\n');
    out += &rows(order);
    out.push('\n');
    let refused = order.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Refused(why) => Some(paragraph("  ", &format!("not run: {}: {why}", name(row)), COLUMNS)),
        Outcome::Measured(_) => None,
    });
    out.extend(refused);
    out += &verdicts(order.claims.iter().map(|checked| (checked.holds, claim(order, checked))), COLUMNS);
    out.push('\n');
    let tables = format!(
        "Everything that an encoding learns is drawn from N(0, 1): most tables begin with zeros, and before training such an encoding is as blind as none. \
         A difference counts as `same` up to {}, the most that rounding could make of equal outputs; --json has the bound of each row, the difference for \
         each word, and the means over tokens.",
        number(measured(order).map(|m| m.bound).fold(0.0, f64::max))
    );
    out += &paragraph("", &tables, COLUMNS);
    out
}

/// The claims that were not seen, in words.
pub fn not_shown(order: &Order) -> Vec<String> {
    let failed = order.claims.iter().filter(|checked| !checked.holds);
    failed.map(|checked| claim(order, checked)).collect()
}

fn measured(order: &Order) -> impl Iterator<Item = &Measured> {
    order.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Measured(measured) => Some(measured),
        Outcome::Refused(_) => None,
    })
}

fn name(row: &Row) -> String {
    match row.variant {
        Variant::Preset | Variant::CausalMask => row.name.into(),
        Variant::BothSides => format!("{}, both sides", row.name),
    }
}

fn rows(order: &Order) -> String {
    let places = measured(order)
        .map(|m| format!("{} {}/{}", m.places.word, m.places.at[0], m.places.at[1]))
        .next();
    let places = places.unwrap_or_default();
    let columns = [
        ("encoding", 19),
        ("mask", 6),
        (LETTERS[0], 10),
        (LETTERS[1], 10),
        (LETTERS[2], 10),
        (&places, 10),
    ];
    let cell = |difference: f64, same: bool| {
        vec![if same {
            format!("same {}", number(difference))
        } else {
            number(difference)
        }]
    };
    let rows = order.rows.iter().map(|row| {
        let mask = if row.causal { "causal" } else { "none" };
        let mut cells = [vec![name(row)], vec![mask.into()], vec![], vec![], vec![], vec![]];
        match &row.outcome {
            Outcome::Measured(m) => {
                for (into, pair) in cells[2..5].iter_mut().zip(&m.pairs) {
                    *into = cell(pair.difference, pair.same);
                }
                cells[5] = cell(m.places.difference, m.places.same);
            }
            Outcome::Refused(_) => cells[2] = vec!["not run".into()],
        }
        cells
    });
    table(columns, &rows.collect::<Vec<_>>())
}

fn claim(order: &Order, checked: &Checked) -> String {
    let except = match checked.except.as_slice() {
        [] => String::new(),
        names => format!(" (not so: {})", list(&names.iter().map(ToString::to_string).collect::<Vec<_>>())),
    };
    let reversals: Vec<String> = order
        .pairs
        .iter()
        .zip(LETTERS)
        .filter(|(pair, _)| pair.reversal)
        .map(|(_, letter)| letter.into())
        .collect();
    let said = match checked.claim {
        Claim::NoEncodingIsBlind => {
            "Without an encoding and without a mask order is invisible: every word's output is the same wherever it stands, so the multiset and the mean over tokens are, too.".into()
        }
        Claim::EncodingsSeeOrder => "With every encoding of `posenc list` the outputs of the two orders differ, in each pair; ALiBi is causal there.".into(),
        Claim::EncodingsSeePlaces => {
            let m = measured(order).next();
            m.map_or_else(String::new, |m| {
                format!("So do the two outputs of `{}`, at place {} and at place {} of pair A (counted from 0).", m.places.word, m.places.at[0], m.places.at[1])
            })
        }
        Claim::SymmetricIsBlindToReversal => format!(
            "ALiBi on both sides, −m·|i − j|, is blind to a sentence read backwards, which keeps every distance: {}. It sees A, which is no reversal. A table with a number for each \
             direction is not blind.",
            list(&reversals)
        ),
        Claim::CausalMaskSeesOrder => {
            "A causal mask alone, without an encoding (NoPE), tells orders apart: earlier words see fewer. In rows with that mask part of the difference is the mask's.".into()
        }
    };
    said + &except
}
