//! Text for people, in English and in Chinese side by side, and its layout in a terminal.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Columns of a terminal that text is wrapped at.
pub(crate) const COLUMNS: usize = 100;

/// A language that explanations are written in.
///
/// ```
/// use posenc::Language;
/// assert_eq!("zh".parse::<Language>()?, Language::Chinese);
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese, as document 003 asked.
    Chinese,
}

impl Language {
    /// Names that [`Language::from_str`] knows.
    pub const NAMES: [&'static str; 5] = ["en", "english", "zh", "chinese", "中文"];
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(name: &str) -> Result<Language> {
        match name.to_lowercase().as_str() {
            "en" | "english" => Ok(Language::English),
            "zh" | "chinese" | "中文" => Ok(Language::Chinese),
            _ => Err(Error::unknown_name("language", name, &Language::NAMES)),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::English => "en",
            Language::Chinese => "zh",
        })
    }
}

/// The same text in both languages. `Words<&'static str>` is what is known when the library is compiled.
///
/// ```
/// use posenc::{Language, Words};
/// let words = Words { en: "position", zh: "位置" };
/// assert_eq!(words.get(Language::Chinese), "位置");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words<S = String> {
    /// English.
    pub en: S,
    /// Simplified Chinese.
    pub zh: S,
}

impl<S: AsRef<str>> Words<S> {
    /// The text in one language.
    pub fn get(&self, language: Language) -> &str {
        match language {
            Language::English => self.en.as_ref(),
            Language::Chinese => self.zh.as_ref(),
        }
    }
}

impl Words {
    /// The text followed by a further sentence.
    pub(crate) fn and(self, more: Words) -> Words {
        Words {
            en: format!("{} {}", self.en, more.en),
            zh: self.zh + &more.zh,
        }
    }
}

/// One sentence in both languages, each a format string. Chinese writes its percent sign without a space.
macro_rules! words {
    ($en:literal, $zh:literal $(,)?) => {
        $crate::words::Words {
            en: format!($en),
            zh: format!($zh).replace("\u{a0}%", "%"),
        }
    };
}
pub(crate) use words;

/// Two texts that are known when the library is compiled.
pub(crate) const fn said(en: &'static str, zh: &'static str) -> Words<&'static str> {
    Words { en, zh }
}

/// Digits in groups of three, from five digits on: `4 501 500`, `3000`. The spaces do not break.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// At most `places` decimals, without trailing zeros.
pub(crate) fn decimal(x: f64, places: usize) -> String {
    let text = format!("{x:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// A number with three significant digits: a plain decimal where that is short, a power of ten where it is not.
pub(crate) fn significant(x: f64) -> String {
    if x == 0.0 || (1e-3..1e6).contains(&x.abs()) {
        let places = if x == 0.0 {
            0
        } else {
            (2 - x.abs().log10().floor() as i32).max(0) as usize
        };
        decimal(x, places)
    } else {
        format!("{x:.1e}")
    }
}

/// Columns that a character takes in a terminal.
fn columns(c: char) -> usize {
    let wide = matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xff60 | 0xffe0..=0xffe6);
    1 + usize::from(wide)
}

/// Columns that a text takes in a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text, filled up with spaces to `to` columns.
pub(crate) fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Appends `text` to `out`, wrapped at [`COLUMNS`]: the first line goes on where `out` stands (which is `indent` columns in), the others are indented. Ends the line.
///
/// English breaks at spaces, Chinese between characters but never before a closing or after an opening mark.
pub(crate) fn wrap(text: &str, indent: usize, out: &mut String) {
    let mut at = indent;
    let mut first = true;
    for (space, piece) in pieces(text) {
        let needed = width(piece) + usize::from(space);
        if !first && at + needed > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        } else if space && !first {
            out.push(' ');
            at += 1;
        }
        first = false;
        out.extend(piece.chars().map(|c| if c == '\u{a0}' { ' ' } else { c }));
        at += width(piece);
    }
    out.push('\n');
}

/// Pieces that are not broken, each with whether a space stands before it.
fn pieces(text: &str) -> Vec<(bool, &str)> {
    const CLOSING: &str = "，。；：、）」》？！";
    const OPENING: &str = "（「《";
    let mut found = Vec::new();
    for (i, word) in text.split(' ').enumerate() {
        let mut start = 0;
        let mut before: Option<char> = None;
        for (at, c) in word.char_indices() {
            let breaks = before.is_some_and(|b| {
                (columns(b) == 2 || columns(c) == 2)
                    && !CLOSING.contains(c)
                    && !OPENING.contains(b)
                    && !(c.is_ascii_punctuation() && c != '(')
            });
            if breaks {
                found.push((i > 0 && start == 0, &word[start..at]));
                start = at;
            }
            before = Some(c);
        }
        if start < word.len() {
            found.push((i > 0 && start == 0, &word[start..]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(grouped(3000), "3000");
        assert_eq!(grouped(4_501_500), "4\u{a0}501\u{a0}500");
        assert_eq!(decimal(1.464_843_75, 4), "1.4648");
        assert_eq!(decimal(2.0, 3), "2");
        assert_eq!(decimal(100.0, 0), "100");
        assert_eq!(significant(3.354e-4), "3.4e-4");
        assert_eq!(significant(-11.7148), "-11.7");
        assert_eq!(significant(1499.5), "1500");
        assert_eq!(significant(0.03162), "0.0316");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_is_lost() {
        let texts = [
            "a sentence of many words that goes on ".repeat(12),
            "位置编码决定模型如何知道词元的顺序，超过训练长度（trained length）时，它可能失效。".repeat(8),
        ];
        for text in texts {
            let mut out = String::from("  ");
            wrap(&text, 2, &mut out);
            assert!(out.lines().count() > 3);
            for line in out.lines() {
                assert!(width(line) <= COLUMNS, "{line}");
                assert!(!line.trim_start().starts_with(['，', '。', '）']), "{line}");
            }
            let letters = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&out), letters(&text));
        }
    }

    #[test]
    fn grouped_digits_stay_on_one_line_and_print_as_spaces() {
        let mut out = String::new();
        wrap(&format!("{} {}", "x".repeat(COLUMNS - 5), grouped(4_501_500)), 0, &mut out);
        assert!(out.ends_with("\n4 501 500\n"));
    }

    #[test]
    fn an_unknown_language_names_the_nearest() {
        let Err(Error::UnknownName { nearest, .. }) = "englsh".parse::<Language>() else {
            panic!()
        };
        assert_eq!(nearest.as_deref(), Some("english"));
    }
}
