//! Characters or bytes as tokens.

use std::collections::BTreeMap;

/// A character that the training part has fewer times than this is 'anything else'.
///
/// A model that reads it a handful of times learns nothing about it, and each rare character makes the output layer of every step wider. In the bundled novels it
/// concerns `£`, `[`, `]` and `Z`.
pub const RARE_BELOW: usize = 10;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tokens {
    /// A character (Unicode scalar value).
    Characters,
    /// A byte of the UTF-8 text.
    Bytes,
}

impl Tokens {
    /// As it stands in a configuration: `characters` or `bytes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Bytes => "bytes",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Characters, Self::Bytes].into_iter().find(|tokens| tokens.name() == name)
    }

    /// Number of tokens of a text.
    pub fn count(self, text: &str) -> usize {
        match self {
            Self::Characters => text.chars().count(),
            Self::Bytes => text.len(),
        }
    }

    /// The byte at which the text is cut after `count` tokens: before the character that this would split.
    pub(super) fn boundary(self, text: &str, count: usize) -> usize {
        match self {
            Self::Characters => text.char_indices().nth(count).map_or(text.len(), |(at, _)| at),
            Self::Bytes => (0..=count.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0),
        }
    }
}

/// The tokens of a text, numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// The 256 bytes, each its own number.
    Bytes,
    /// These characters in ascending order, then one number for anything else.
    Characters(Vec<char>),
}

impl Vocabulary {
    /// The vocabulary of a training part. The held-out part has no say in it.
    pub fn of(train: &str, tokens: Tokens) -> Self {
        match tokens {
            Tokens::Bytes => Self::Bytes,
            Tokens::Characters => {
                let mut counts = BTreeMap::new();
                for c in train.chars() {
                    *counts.entry(c).or_insert(0_usize) += 1;
                }
                Self::Characters(
                    counts
                        .into_iter()
                        .filter(|&(_, count)| count >= RARE_BELOW)
                        .map(|(c, _)| c)
                        .collect(),
                )
            }
        }
    }

    /// Number of different tokens.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::Characters(characters) => characters.len() + 1,
        }
    }

    /// The tokens of a text.
    ///
    /// # Panics
    /// If the vocabulary has more than 65,536 tokens; no [`Text`](super::Text) has such a one.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        let narrow = |token: usize| u16::try_from(token).expect("a vocabulary fits u16");
        match self {
            Self::Bytes => text.bytes().map(u16::from).collect(),
            Self::Characters(characters) => text
                .chars()
                .map(|c| narrow(characters.binary_search(&c).unwrap_or(characters.len())))
                .collect(),
        }
    }

    /// The character (or byte) of a token, for a person to read; the replacement character for anything else.
    pub fn show(&self, token: u16) -> String {
        match self {
            Self::Bytes => char::from_u32(token.into())
                .filter(char::is_ascii_graphic)
                .map_or(format!("0x{token:02x}"), String::from),
            Self::Characters(characters) => characters
                .get(usize::from(token))
                .copied()
                .unwrap_or(char::REPLACEMENT_CHARACTER)
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_numbered_in_order_and_rare_ones_share_the_last_number() {
        let train = format!("{}{}", "cab".repeat(RARE_BELOW), "z".repeat(RARE_BELOW - 1));
        let vocabulary = Vocabulary::of(&train, Tokens::Characters);
        assert_eq!(vocabulary, Vocabulary::Characters(vec!['a', 'b', 'c']));
        assert_eq!(vocabulary.size(), 4);
        assert_eq!(vocabulary.encode("abcz語"), [0, 1, 2, 3, 3]);
        assert_eq!((vocabulary.show(1), vocabulary.show(3)), ("b".to_string(), "\u{fffd}".to_string()));
    }

    #[test]
    fn bytes_are_themselves() {
        let vocabulary = Vocabulary::of("anything", Tokens::Bytes);
        assert_eq!(vocabulary.size(), 256);
        assert_eq!(vocabulary.encode("aé"), [0x61, 0xc3, 0xa9]);
        assert_eq!(
            (vocabulary.show(0x61), vocabulary.show(0xc3)),
            ("a".to_string(), "0xc3".to_string())
        );
    }

    #[test]
    fn cuts_lie_between_characters() {
        assert_eq!(Tokens::Characters.boundary("aéb", 2), 3);
        assert_eq!(Tokens::Characters.boundary("aéb", 9), 4);
        assert_eq!(Tokens::Bytes.boundary("aéb", 2), 1);
        assert_eq!(Tokens::Bytes.boundary("aéb", 3), 3);
        assert_eq!(Tokens::Bytes.boundary("aéb", 9), 4);
    }

    #[test]
    fn names_go_both_ways() {
        for tokens in [Tokens::Characters, Tokens::Bytes] {
            assert_eq!(Tokens::from_name(tokens.name()), Some(tokens));
        }
        assert_eq!(Tokens::from_name("words"), None);
    }
}
