//! Text in columns whose cells wrap, in English and in Chinese.

/// Between two columns.
const GAP: usize = 2;

/// A table: headings with their columns' widths, a rule, and rows. A cell is a list of paragraphs; each begins on its own line and wraps inside its column.
pub fn table<const N: usize>(columns: [(&str, usize); N], rows: &[[Vec<String>; N]]) -> String {
    let mut out = String::new();
    row(&mut out, &columns, &columns.map(|(heading, _)| vec![heading.to_string()]));
    row(&mut out, &columns, &columns.map(|(_, width)| vec!["─".repeat(width)]));
    for cells in rows {
        row(&mut out, &columns, cells);
    }
    out
}

fn row<const N: usize>(out: &mut String, columns: &[(&str, usize); N], cells: &[Vec<String>; N]) {
    let wrapped: Vec<Vec<String>> = cells
        .iter()
        .zip(columns)
        .map(|(paragraphs, &(_, width))| paragraphs.iter().flat_map(|paragraph| wrap(paragraph, width)).collect())
        .collect();
    for i in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
        let mut line = String::new();
        for (lines, &(_, columns)) in wrapped.iter().zip(columns) {
            let text = lines.get(i).map_or("", String::as_str);
            line.push_str(text);
            line.push_str(&" ".repeat(columns + GAP - width(text).min(columns)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// A paragraph that fits into `columns`: `first` stands before the first line, as many spaces before the others.
pub fn paragraph(first: &str, text: &str, columns: usize) -> String {
    let indent = width(first);
    let lines = wrap(text, columns.saturating_sub(indent));
    let lines = lines.iter().enumerate().map(|(i, line)| match i {
        0 => format!("{first}{line}\n"),
        _ => format!("{}{line}\n", " ".repeat(indent)),
    });
    lines.collect()
}

/// Lines of at most `columns` columns. A line breaks at a space or beside a Chinese character, and inside a word that is longer than a line.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (spaced, piece) in pieces(text) {
        let line = lines.last_mut().expect("there is always a line");
        let space = usize::from(spaced && !line.is_empty());
        if width(line) + space + width(&piece) <= columns {
            line.push_str(&" ".repeat(space));
            line.push_str(&piece);
            continue;
        }
        if !line.is_empty() {
            lines.push(String::new());
        }
        for c in piece.chars() {
            let line = lines.last_mut().expect("there is always a line");
            if !line.is_empty() && width(line) + character_width(c) > columns {
                lines.push(c.to_string());
            } else {
                line.push(c);
            }
        }
    }
    lines
}

/// What may not be broken, each with whether a space stands before it: a word, or a Chinese character with the punctuation that may not begin a line.
fn pieces(text: &str) -> Vec<(bool, String)> {
    const CLOSING: &str = "，。；：、）”》？！";
    let mut pieces: Vec<(bool, String)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut spaced = true;
        let mut before = None;
        for c in word.chars() {
            let breaks =
                before.is_none_or(|before| (character_width(before) == 2 || character_width(c) == 2) && before != '（' && before != '“');
            match pieces.last_mut() {
                Some((_, piece)) if !breaks || (before.is_some() && CLOSING.contains(c)) => piece.push(c),
                _ => {
                    pieces.push((spaced, c.to_string()));
                    spaced = false;
                }
            }
            before = Some(c);
        }
    }
    pieces
}

fn width(text: &str) -> usize {
    text.chars().map(character_width).sum()
}

/// Columns that a character takes in a terminal: Chinese characters and full-width punctuation take two.
fn character_width(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x20000.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_at_spaces_and_only_long_ones_break() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("a extraordinary b", 6), ["a", "extrao", "rdinar", "y b"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn chinese_breaks_anywhere_but_before_its_punctuation() {
        assert_eq!(wrap("每层的查询与键，投影之后", 14), ["每层的查询与", "键，投影之后"]);
        assert_eq!(wrap("全模型一份（k）", 10), ["全模型一份", "（k）"]);
        assert_eq!(wrap("每层 2 · k", 6), ["每层 2", "· k"]);
    }

    #[test]
    fn a_paragraph_hangs_from_its_mark() {
        assert_eq!(paragraph("- ", "the quick brown fox", 11), "- the quick\n  brown fox\n");
    }

    #[test]
    fn rows_stand_under_their_headings() {
        let cells = [vec!["first".into(), "second one".into()], vec!["键".into()]];
        assert_eq!(
            table([("A", 6), ("B", 4)], &[cells]),
            "A       B\n──────  ────\nfirst   键\nsecond\none\n"
        );
    }
}
