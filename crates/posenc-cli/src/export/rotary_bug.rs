//! The demonstration of document 003's rotary sample for the terminal.

use posenc::Language;
use posenc_lab::demo::rotary_bug::{Checked, Claim, Code, RotaryBug, Turned, Width};

use super::words::{list, number, say, verdicts};
use crate::columns::{paragraph, table};

/// Columns of a terminal that it fits into.
const COLUMNS: usize = 80;

const SAMPLE: &str = "    cos, sin = cos.repeat_interleave(2, dim=1), sin.repeat_interleave(2, dim=1)
    x * cos + torch.cat([-x[..., 1::2], x[..., ::2]], dim=-1) * sin
";

const STACKED: &str = "    torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
";

const HALVES: &str = "    cos, sin = torch.cat([cos, cos], dim=1), torch.cat([sin, sin], dim=1)
    x1, x2 = x.chunk(2, dim=-1)
    torch.cat([-x2, x1], dim=-1)
";

/// The demonstration as text.
pub fn text(bug: &RotaryBug, lang: Language) -> String {
    let RotaryBug { seed, distance, .. } = bug;
    let said = |en: &str, zh: &str| paragraph("", &say(lang, en, zh), COLUMNS);
    [
        said("Document 003's rotary sample against its own formula", "文档 003 的旋转编码示例与它自己的公式"),
        said(
            "The formula turns neighbours together: (x0, x1) by one angle, (x2, x3) by the next, and so on. The sample's cosines and sines fit that; the vector that goes with the sines does not:",
            "公式让相邻的数一起旋转：(x0, x1) 转一个角，(x2, x3) 转下一个角，依此类推。示例的余弦和正弦与此相符，与正弦相乘的向量却不符：",
        ),
        SAMPLE.to_string(),
        said(
            &format!(
                "That vector is [−x1, −x3, …, x0, x2, …]: coordinates of different pairs meet, at one pair's angle. Below, random vectors of width d (seed {seed}) are turned by the \
                 sample at position p."
            ),
            &format!("这个向量是 [−x1, −x3, …, x0, x2, …]：不同对的数相遇，却用其中一对的角。以下用示例在位置 p 旋转宽度为 d 的随机向量（种子 {seed}）。"),
        ),
        said("Largest difference of a coordinate from the formula", "与公式相比，各坐标的最大差距"),
        by_position(bug, |t, i| number(t.from_interleaved[i])),
        said(
            "Length after turning, divided by the length before (a rotation: 1)",
            "旋转后的长度除以旋转前的长度（真正的旋转：1）",
        ),
        by_position(bug, |t, i| format!("{:.3}", t.length[i])),
        said(
            &format!("q·k with the query {distance} positions after its key, the key at p (rotary: one number)"),
            &format!("q·k：查询在键之后 {distance} 个位置，键在 p（旋转编码：同一个数）"),
        ),
        scores(bug, lang),
        verdicts(
            bug.claims.iter().map(|checked| (checked.holds, claim(bug, checked, lang))),
            lang,
            COLUMNS,
        ),
        said(
            "How to repair it. The vector that goes with the sines, if neighbours turn together as the formula says:",
            "如何修正。若按公式让相邻的数一起旋转，与正弦相乘的向量是：",
        ),
        STACKED.to_string(),
        said(
            "Or, if coordinate i turns with i + d/2, as LLaMA and GPT-NeoX do in transformers:",
            "或者像 transformers 中的 LLaMA 和 GPT-NeoX 那样，让坐标 i 与 i + d/2 一起旋转：",
        ),
        HALVES.to_string(),
        said(
            "In this library it is `posenc::rotate::rotary::rotate` with `Pairing::Interleaved` or `Pairing::Halves`. A trained model needs the pairing that it was trained with.",
            "本库中用 `posenc::rotate::rotary::rotate`，取 `Pairing::Interleaved` 或 `Pairing::Halves`。训练好的模型要用训练时的配对方式。",
        ),
    ]
    .join("\n")
}

/// The claims that were not seen, in words.
pub fn not_shown(bug: &RotaryBug) -> Vec<String> {
    let failed = bug.claims.iter().filter(|checked| !checked.holds);
    failed.map(|checked| claim(bug, checked, Language::English)).collect()
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
fn scores(bug: &RotaryBug, lang: Language) -> String {
    let (code, formula, sample) = (say(lang, "code", "代码"), say(lang, "formula", "公式"), say(lang, "sample", "示例"));
    let headings: Vec<String> = bug.keys.iter().map(|p| format!("p={p}")).collect();
    let columns: [(&str, usize); 9] = std::array::from_fn(|i| match i {
        0 => ("d", 2),
        1 => (code.as_str(), 7),
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
        .flat_map(|width| [row(width, Code::Formula, &formula), row(width, Code::AsPrinted, &sample)]);
    table(columns, &rows.collect::<Vec<_>>())
}

fn claim(bug: &RotaryBug, checked: &Checked, lang: Language) -> String {
    // The largest over the widths with more than one pair.
    let largest = |code, of: &dyn Fn(&Turned) -> f64| {
        let widths = bug.widths.iter().filter(|width| width.head_dim > 2);
        widths.filter_map(|width| width.code(code)).map(of).fold(0.0, f64::max)
    };
    let except = match checked.except.as_slice() {
        [] => String::new(),
        widths => {
            let widths = list(&widths.iter().map(ToString::to_string).collect::<Vec<_>>());
            say(lang, format!(" (not so for d = {widths})"), format!("（例外：d = {widths}）"))
        }
    };
    let said = match checked.claim {
        Claim::FormulaIsRelative => {
            let (stretch, spread) = (largest(Code::Formula, &Turned::stretch), largest(Code::Formula, &|t| t.spread));
            let (stretch, spread) = (number(stretch), number(spread));
            say(
                lang,
                format!("The formula keeps lengths (to {stretch}), and a score depends on the distance alone (to {spread})."),
                format!("公式保持长度（误差 {stretch}），分数只取决于距离（误差 {spread}）。"),
            )
        }
        Claim::SampleIsRightForOnePair => say(
            lang,
            "The sample is right at position 0, and for d = 2, a single pair: tests there do not find the fault.",
            "示例在位置 0 以及 d = 2（只有一对）时是对的：只在这里测试发现不了错误。",
        ),
        Claim::SampleIsNeitherPairing => say(
            lang,
            "Everywhere else it is neither pairing in use, neighbours or halves.",
            "在其他任何地方，它都不是通行的两种配对（相邻或两半）之一。",
        ),
        Claim::SampleChangesLengths => {
            let percent = 100.0 * largest(Code::AsPrinted, &Turned::stretch);
            say(
                lang,
                format!("It changes lengths, by up to {percent:.0} %, differently at each position."),
                format!("它改变长度，最多 {percent:.0}%，每个位置各不相同。"),
            )
        }
        Claim::SampleScoresDrift => {
            let (drift, sequence) = (number(largest(Code::AsPrinted, &|t| t.spread)), bug.sequence);
            say(
                lang,
                format!("Its scores at one distance drift by up to {drift} over {sequence} positions: they are not relative."),
                format!("同一距离上，它的分数在 {sequence} 个位置间漂移达 {drift}：分数不是相对的。"),
            )
        }
        Claim::RepairsAreThePairings => say(
            lang,
            "Each repair below is the library's rotation with one of the two pairings, up to rounding.",
            "下面的两种修正各自等于本库中一种配对的旋转，只差舍入误差。",
        ),
    };
    said + &except
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_said() {
        let mut bug = posenc_lab::demo::rotary_bug(1).unwrap();
        assert!(not_shown(&bug).is_empty());
        bug.claims[4].holds = false;
        bug.claims[4].except = vec![8, 64];
        let text = text(&bug, Language::English);
        assert!(
            text.contains("✗ NOT SHOWN: Its scores") && text.contains("(not so for d = 8 and 64)"),
            "{text}"
        );
        assert!(matches!(&not_shown(&bug)[..], [one] if one.contains("8 and 64")));
    }
}
