//! The values of a plan and where they come from, in columns.

use crate::attention::Temperature;
use crate::config::Source;
use crate::words::{COLUMNS, Language, Words, padded, width, words, wrap};

/// What stands in values and their sources in words, and in Chinese. Longer phrases come before those that they hold.
const PHRASES: [(&str, &str); 22] = [
    ("the whole head", "整个头"),
    (": no key heads", "：没有另写键头数"),
    ("f32 angles, as the model was trained", "f32 角度，与训练时相同"),
    ("f32 angles", "f32 角度"),
    ("a logit for each head", "每个头一个 logit"),
    (" keys on each side", " 个键（每侧）"),
    ("the first layer, for all", "第一层的表，供所有层使用"),
    ("keys before the query", "查询之前的键"),
    ("by order", "按顺序"),
    ("both", "两个方向"),
    (" in the file", "，文件中的写法"),
    (" squared", " 的平方"),
    ("the row behind the padding's", "填充行之后的一行"),
    ("row and column", "行与列"),
    ("three axes of an even width each", "三个轴，各为偶数宽"),
    (" and the layer type", " 与层的类型"),
    ("in turn", "轮流"),
    ("Halves: this architecture's weights in GGUF", "Halves：此架构在 GGUF 中的权重"),
    (
        "Interleaved: this architecture's weights in GGUF",
        "Interleaved：此架构在 GGUF 中的权重",
    ),
    (" divisors up to ", " 个除数，至多 "),
    ("the tables' factor", "表的因子"),
    ("last ", "最后 "),
];

/// A value or a source in a language; what is a key, a number or a formula is the same in all.
fn said_in(language: Language, text: &str) -> String {
    if language == Language::English {
        return text.to_string();
    }
    // The count stands inside this one.
    let text = match text.strip_prefix("the last ").and_then(|rest| rest.strip_suffix(" keys")) {
        Some(keys) => return format!("最后 {keys} 个键"),
        None => text.to_string(),
    };
    PHRASES.iter().fold(text, |text, (en, zh)| text.replace(en, zh))
}

/// Names, values and where they come from, in columns.
pub(super) fn table<'v>(values: impl Iterator<Item = (&'v str, String, &'v Source)>, language: Language, out: &mut String) {
    let rows: Vec<[String; 3]> = values
        .map(|(name, shown, from)| {
            let (shown, from) = (said_in(language, &shown), source(from).get(language).to_string());
            [name.to_string(), shown, from]
        })
        .collect();
    let widest = |column: usize, most: usize| rows.iter().map(|row| width(&row[column])).filter(|w| *w <= most).max().unwrap_or(0) + 2;
    let (first, second) = (widest(0, 30), widest(1, 32));
    for [name, value, from] in &rows {
        out.push_str("  ");
        out.push_str(&padded(name, first));
        let at = 2 + first + second;
        if width(value) + 2 > second {
            wrap(value, 2 + first, out);
            out.push_str(&" ".repeat(at));
        } else {
            out.push_str(&padded(value, second));
        }
        // A path that is one long word begins further left, on a line of its own.
        let longest = from.split(' ').map(width).max().unwrap_or(0);
        if at + longest > COLUMNS {
            let at = COLUMNS.saturating_sub(longest).min(at);
            while out.ends_with(' ') {
                out.pop();
            }
            out.push('\n');
            out.push_str(&" ".repeat(at));
            wrap(from, at, out);
        } else {
            wrap(from, at, out);
        }
    }
}

/// What a query at position p is multiplied by.
pub(super) fn temperature(temperature: Temperature) -> String {
    match temperature {
        Temperature::Steps { scale, length, first: 0.0 } => format!("1 + {scale}·ln(1 + ⌊p / {length}⌋)"),
        Temperature::Steps { scale, length, first } => format!("1 + {scale}·ln(1 + ⌊(p + {first}) / {length}⌋)"),
        Temperature::Smooth { scale, length } => format!("1 + {scale}·ln(max(1, (p + 1) / {length}))"),
    }
}

fn source(source: &Source) -> Words {
    match source {
        Source::ClassDefault => words!("class default", "类的默认值"),
        Source::Model => words!("the model type", "由模型类型决定"),
        Source::Key(path) => words!("{path}", "{path}"),
        Source::Derived(from) => {
            let zh = said_in(Language::Chinese, from);
            words!("= {from}", "= {zh}")
        }
    }
}
