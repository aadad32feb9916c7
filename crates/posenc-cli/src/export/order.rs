//! The demonstration of word order for the terminal.

use posenc::Language;
use posenc_lab::demo::order::{Checked, Claim, Measured, Order, Outcome, Row, Variant};

use super::words::{list, number, say, verdicts};
use crate::columns::{paragraph, table};

/// Columns of a terminal that it fits into.
const COLUMNS: usize = 80;
/// How the pairs are called in the table.
const LETTERS: [&str; 3] = ["A", "B", "C"];

/// The demonstration as text.
pub fn text(order: &Order, lang: Language) -> String {
    let Order {
        seed, model_dim, heads, ..
    } = order;
    let mut out = say(lang, "Does attention see the order of words?", "注意力看得见词序吗？") + "\n\n";
    let intro = say(
        lang,
        format!(
            "Two orders of the same words go through one attention layer: f64, width {model_dim}, {heads} heads, random weights (seed {seed}). The table says how far the outputs \
             of the two orders are apart when each is paired with the one that fits it best. `same`: not at all; what is left is rounding."
        ),
        format!(
            "同一组词的两种顺序通过同一个注意力层：f64，宽度 {model_dim}，{heads} 个头，随机权重（种子 {seed}）。表中是两种顺序的输出按最佳配对后的差距。`same`：没有差距，剩下的只是舍入误差。"
        ),
    );
    out += &paragraph("", &intro, COLUMNS);
    out.push('\n');
    let longest = order.pairs.iter().map(|pair| pair.first.len()).max().unwrap_or(0);
    let reversal = say(lang, "   (read backwards)", "   （倒着读）");
    for (pair, letter) in order.pairs.iter().zip(LETTERS) {
        let backwards = if pair.reversal { reversal.as_str() } else { "" };
        let line = format!("  {letter}  {:longest$}  /  {:longest$}{backwards}", pair.first, pair.second);
        out += &format!("{}\n", line.trim_end());
    }
    out.push('\n');
    out += &rows(order, lang);
    out.push('\n');
    let refused = order.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Refused(why) => {
            let said = format!("{}: {}: {why}", say(lang, "not run", "未运行"), name(row, lang));
            Some(paragraph("  ", &said, COLUMNS))
        }
        Outcome::Measured(_) => None,
    });
    out.extend(refused);
    let claims = order.claims.iter().map(|checked| (checked.holds, claim(order, checked, lang)));
    out += &verdicts(claims, lang, COLUMNS);
    out.push('\n');
    let bound = number(measured(order).map(|m| m.bound).fold(0.0, f64::max));
    let tables = say(
        lang,
        format!(
            "Everything that an encoding learns is drawn from N(0, 1): many tables begin with zeros, and before training such an encoding is as blind as none. \
             A difference counts as `same` up to {bound}, the most that rounding could make of equal outputs; --json has the bound of each row, the difference for \
             each word, and the means over tokens."
        ),
        format!(
            "编码要学习的数都取自 N(0, 1)：许多表以零开始，训练之前这样的编码和没有编码一样看不见词序。差距不超过 {bound} 算作 `same`，这是舍入误差至多能造成的差距；--json 给出每行的界、每个词的差距和各词元的平均值。"
        ),
    );
    out += &paragraph("", &tables, COLUMNS);
    out
}

/// The claims that were not seen, in words.
pub fn not_shown(order: &Order) -> Vec<String> {
    let failed = order.claims.iter().filter(|checked| !checked.holds);
    failed.map(|checked| claim(order, checked, Language::English)).collect()
}

fn measured(order: &Order) -> impl Iterator<Item = &Measured> {
    order.rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Measured(measured) => Some(measured),
        Outcome::Refused(_) => None,
    })
}

fn name(row: &Row, lang: Language) -> String {
    match row.variant {
        Variant::Preset | Variant::CausalMask => row.name.into(),
        Variant::BothSides => format!("{}{}", row.name, say(lang, ", both sides", "，双向")),
    }
}

fn rows(order: &Order, lang: Language) -> String {
    let places = measured(order)
        .map(|m| format!("{} {}/{}", m.places.word, m.places.at[0], m.places.at[1]))
        .next();
    let places = places.unwrap_or_default();
    let (encoding, mask) = (say(lang, "encoding", "编码"), say(lang, "mask", "掩码"));
    let columns = [
        (encoding.as_str(), 19),
        (&mask, 6),
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
        let mask = if row.causal {
            say(lang, "causal", "因果")
        } else {
            say(lang, "none", "无")
        };
        let mut cells = [vec![name(row, lang)], vec![mask], vec![], vec![], vec![], vec![]];
        match &row.outcome {
            Outcome::Measured(m) => {
                for (into, pair) in cells[2..5].iter_mut().zip(&m.pairs) {
                    *into = cell(pair.difference, pair.same);
                }
                cells[5] = cell(m.places.difference, m.places.same);
            }
            Outcome::Refused(_) => cells[2] = vec![say(lang, "not run", "未运行")],
        }
        cells
    });
    table(columns, &rows.collect::<Vec<_>>())
}

fn claim(order: &Order, checked: &Checked, lang: Language) -> String {
    let except = match checked.except.as_slice() {
        [] => String::new(),
        names => {
            let names = list(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
            say(lang, format!(" (not so: {names})"), format!("（例外：{names}）"))
        }
    };
    let reversals = order.pairs.iter().zip(LETTERS).filter(|(pair, _)| pair.reversal);
    let reversals: Vec<String> = reversals.map(|(_, letter)| letter.to_string()).collect();
    let said = match checked.claim {
        Claim::NoEncodingIsBlind => say(
            lang,
            "Without an encoding and without a mask order is invisible: every word's output is the same wherever it stands, so the multiset of outputs and their mean are, too.",
            "没有编码也没有掩码时，词序不可见：每个词无论站在哪里输出都相同，因此输出的多重集和平均值也相同。",
        ),
        Claim::EncodingsSeeOrder => say(
            lang,
            "With every encoding of `posenc list` the outputs of the two orders differ, in each pair; those made for a causal mask have one there.",
            "用 `posenc list` 中的任何一种编码，每一对句子两种顺序的输出都不同；为因果掩码设计的编码在此带有掩码。",
        ),
        Claim::EncodingsSeePlaces => {
            let places = measured(order).map(|m| (m.places.word.as_str(), m.places.at)).next();
            let (word, [first, second]) = places.unwrap_or_default();
            say(
                lang,
                format!("So do the two outputs of `{word}`, at place {first} and at place {second} of pair A (counted from 0)."),
                format!("A 中 `{word}` 在位置 {first} 和位置 {second}（从 0 数）的两个输出也不同。"),
            )
        }
        Claim::SymmetricIsBlindToReversal => say(
            lang,
            format!(
                "ALiBi on both sides, −m·|i − j|, is blind to a sentence read backwards, which keeps every distance: {}. It sees A, which is no reversal. A table with a number \
                 for each direction is not blind.",
                list(&reversals)
            ),
            format!(
                "双向的 ALiBi（−m·|i − j|）看不出倒着读的句子，因为所有距离都不变：{}。A 不是倒读，它看得见。每个方向各有数值的表则看得出倒读。",
                reversals.join("、")
            ),
        ),
        Claim::CausalMaskSeesOrder => say(
            lang,
            "A causal mask alone, without an encoding (NoPE), tells orders apart: earlier words see fewer. In rows with that mask part of the difference is the mask's.",
            "仅有因果掩码而没有编码（NoPE）也能分辨词序：靠前的词看到的词更少。带此掩码的各行，差距有一部分来自掩码。",
        ),
    };
    said + &except
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_or_not_seen_is_said() {
        let mut order = posenc_lab::demo::order(1);
        assert!(not_shown(&order).is_empty());
        order.rows[4].outcome = Outcome::Refused("too wide for this layer".into());
        order.claims[1].holds = false;
        order.claims[1].except = vec!["rotary"];
        let text = text(&order, Language::English);
        let name = order.rows[4].name;
        assert!(
            text.lines().any(|line| line.starts_with(name) && line.ends_with("not run")),
            "{text}"
        );
        assert!(text.contains(&format!("not run: {name}: too wide for this layer")), "{text}");
        assert!(
            text.contains("✗ NOT SHOWN: With every encoding") && text.contains("(not so: rotary)"),
            "{text}"
        );
        assert!(matches!(&not_shown(&order)[..], [one] if one.contains("rotary")));
    }
}
