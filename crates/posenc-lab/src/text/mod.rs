//! The text that is trained on and the text that is held out: the bundled novels, or a file of the user's.

mod austen;
mod baselines;
mod tokens;

use std::fs;
use std::path::Path;

use crate::error::{LabError, NotText};
use crate::results::{Baselines, TextConfig};
use posenc::rng::{FNV_START, fnv1a};

pub use austen::{BUNDLED_NAME, Novel, novels};
pub use baselines::baselines;
pub use tokens::{RARE_BELOW, Tokens, Vocabulary};

/// A text as tokens, cut into what is trained on and what is held out.
#[derive(Clone, Debug)]
pub struct Text {
    /// The training part.
    pub train: Vec<u16>,
    /// The held-out part.
    pub held_out: Vec<u16>,
    /// What the tokens stand for.
    pub vocabulary: Vocabulary,
    config: TextConfig,
}

impl Text {
    /// Five of the bundled novels to train on, and Persuasion held out whole.
    ///
    /// `held_out_needed` as in [`from_file`](Self::from_file); here only a very long length is refused.
    pub fn bundled(tokens: Tokens, held_out_needed: usize) -> Result<Self, LabError> {
        let novels = novels();
        let titles = |held_out| {
            novels
                .iter()
                .filter(|n| n.held_out == held_out)
                .map(|n| n.title.to_string())
                .collect()
        };
        let part = |held_out| {
            novels
                .iter()
                .filter(|n| n.held_out == held_out)
                .map(Novel::text)
                .collect::<String>()
        };
        let (train, held_out) = (part(false), part(true));
        let labels = Labels {
            name: BUNDLED_NAME.into(),
            trained_on: titles(false),
            held_out: titles(true),
        };
        let text = Self::new(labels, &train, &held_out, tokens)?;
        if text.held_out.len() < held_out_needed {
            let name = text.config.name;
            return Err(LabError::TextTooShort {
                name,
                part: "held-out part",
                given: text.held_out.len(),
                needed: held_out_needed,
            });
        }
        Ok(text)
    }

    /// A text file in UTF-8, its last tenth held out; more than a tenth if `held_out_needed` tokens are more.
    ///
    /// `held_out_needed` is what the longest evaluation reads ([`held_out_needed`](crate::windows::held_out_needed)). The training part must not be shorter than
    /// that either: a text that is mostly held out measures memory. Line endings and all other characters are taken as they are.
    pub fn from_file(path: &Path, tokens: Tokens, held_out_needed: usize) -> Result<Self, LabError> {
        let bytes = fs::read(path).map_err(|source| LabError::TextUnreadable { path: path.into(), source })?;
        Self::from_bytes(path, bytes, tokens, held_out_needed)
    }

    fn from_bytes(path: &Path, bytes: Vec<u8>, tokens: Tokens, held_out_needed: usize) -> Result<Self, LabError> {
        let binary = |found, offset| LabError::TextBinary {
            path: path.into(),
            found,
            offset,
        };
        if bytes.is_empty() {
            return Err(LabError::TextEmpty { path: path.into() });
        }
        // A byte 0 is valid UTF-8, but a file that has one is an archive, an image or UTF-16, and no text.
        if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
            return Err(binary(NotText::Nul, offset));
        }
        let text = String::from_utf8(bytes).map_err(|error| binary(NotText::NotUtf8, error.utf8_error().valid_up_to()))?;

        let total = tokens.count(&text);
        let needed = held_out_needed.saturating_mul(2).max(2);
        if total < needed {
            return Err(LabError::TextTooShort {
                name: path.display().to_string(),
                part: "text",
                given: total,
                needed,
            });
        }
        let held_out = total.div_ceil(10).max(held_out_needed);
        let (train, held_out) = text.split_at(tokens.boundary(&text, total - held_out));
        let labels = Labels {
            name: path.display().to_string(),
            trained_on: vec![format!("the first {} tokens", tokens.count(train))],
            held_out: vec![format!("the last {} tokens", tokens.count(held_out))],
        };
        Self::new(labels, train, held_out, tokens)
    }

    fn new(labels: Labels, train: &str, held_out: &str, tokens: Tokens) -> Result<Self, LabError> {
        let vocabulary = Vocabulary::of(train, tokens);
        let limit = usize::from(u16::MAX) + 1;
        let too_many = |given| LabError::TextVocabulary {
            name: labels.name.clone(),
            given,
            limit,
        };
        if vocabulary.size() > limit {
            return Err(too_many(vocabulary.size()));
        }
        let (train_tokens, held_out_tokens) = (vocabulary.encode(train), vocabulary.encode(held_out));
        // With a single token there is nothing to predict, and every loss is 0.
        if train_tokens.iter().all(|&token| token == train_tokens[0]) {
            return Err(too_many(1));
        }
        let config = TextConfig {
            hash: format!(
                "{:016x}",
                [train, held_out].iter().fold(FNV_START, |hash, part| fnv1a(hash, part.as_bytes()))
            ),
            name: labels.name,
            trained_on: labels.trained_on,
            held_out: labels.held_out,
            tokens: tokens.name().into(),
            vocabulary: vocabulary.size(),
            train_tokens: train_tokens.len(),
            held_out_tokens: held_out_tokens.len(),
        };
        Ok(Self {
            train: train_tokens,
            held_out: held_out_tokens,
            vocabulary,
            config,
        })
    }

    /// What identifies the text in a configuration.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Losses of counting models on the first `window_tokens` targets of the held-out part: the targets of which the mean is taken, so that the two compare.
    pub fn baselines(&self, window_tokens: usize) -> Baselines {
        let end = window_tokens.saturating_add(1).min(self.held_out.len());
        baselines(&self.train, &self.held_out[..end], self.vocabulary.size())
    }
}

struct Labels {
    name: String,
    trained_on: Vec<String>,
    held_out: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: &[u8], tokens: Tokens, needed: usize) -> Result<Text, LabError> {
        Text::from_bytes(Path::new("a.txt"), bytes.to_vec(), tokens, needed)
    }

    #[test]
    fn the_bundled_text_holds_a_novel_out() {
        let text = Text::bundled(Tokens::Characters, 1000).unwrap();
        let config = text.config();
        assert_eq!(config.held_out, ["Persuasion"]);
        assert_eq!(config.trained_on.len(), 5);
        assert_eq!((config.train_tokens, config.held_out_tokens), (3_558_174, 466_854));
        // 81 different characters, four of them fewer than ten times; one token for those and all others.
        assert_eq!((config.vocabulary, config.tokens.as_str()), (78, "characters"));
        assert_eq!(config.hash, "e7c477f66a7a8be8");
        let bytes = Text::bundled(Tokens::Bytes, 1000).unwrap();
        assert_eq!((bytes.config().train_tokens, bytes.config().vocabulary), (3_558_175, 256));
        assert_eq!(bytes.config().hash, config.hash);
        assert!(matches!(
            Text::bundled(Tokens::Bytes, 466_855),
            Err(LabError::TextTooShort {
                given: 466_854,
                needed: 466_855,
                ..
            })
        ));
    }

    #[test]
    fn the_last_tenth_of_a_file_is_held_out() {
        let prose = "never took up any book but the Baronetage; ".repeat(100);
        let text = load(prose.as_bytes(), Tokens::Characters, 40).unwrap();
        assert_eq!((text.train.len(), text.held_out.len()), (3870, 430));
        assert_eq!(text.vocabulary.encode(&prose[3870..]), text.held_out);
        // More than a tenth where the evaluation needs more.
        let text = load(prose.as_bytes(), Tokens::Bytes, 1000).unwrap();
        assert_eq!((text.train.len(), text.held_out.len()), (3300, 1000));
        assert_eq!(text.config().held_out, ["the last 1000 tokens"]);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        let prose = "日本語の文章、".repeat(300);
        let text = load(prose.as_bytes(), Tokens::Bytes, 101).unwrap();
        assert_eq!(text.train.len() % 3, 0);
        assert!(text.held_out.len() >= prose.len() / 10);
        let text = load(prose.as_bytes(), Tokens::Characters, 101).unwrap();
        assert_eq!(text.held_out.len(), 210);
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let missing = Text::from_file(Path::new("no/such/file"), Tokens::Bytes, 10).unwrap_err();
        assert!(matches!(&missing, LabError::TextUnreadable { .. }), "{missing}");
        let folder = Text::from_file(&std::env::temp_dir(), Tokens::Bytes, 10).unwrap_err();
        assert!(matches!(&folder, LabError::TextUnreadable { .. }), "{folder}");
        assert!(matches!(load(b"", Tokens::Bytes, 10), Err(LabError::TextEmpty { .. })));
        assert!(matches!(
            load(b"ab\0d", Tokens::Bytes, 1),
            Err(LabError::TextBinary {
                found: NotText::Nul,
                offset: 2,
                ..
            })
        ));
        for tokens in [Tokens::Bytes, Tokens::Characters] {
            assert!(matches!(
                load(b"caf\xe9 noir", tokens, 1),
                Err(LabError::TextBinary {
                    found: NotText::NotUtf8,
                    offset: 3,
                    ..
                })
            ));
        }
    }

    #[test]
    fn too_short_a_text_says_how_much_is_there_and_needed() {
        let error = load("häh?".repeat(20).as_bytes(), Tokens::Characters, 50).unwrap_err();
        assert!(
            matches!(
                error,
                LabError::TextTooShort {
                    given: 80,
                    needed: 100,
                    ..
                }
            ),
            "{error}"
        );
        let line = error.to_string();
        assert!(line.contains("80") && line.contains("100"), "{line}");
        assert!(load("häh?".repeat(20).as_bytes(), Tokens::Bytes, 50).is_ok(), "100 bytes suffice");
        assert!(
            matches!(load(b"a", Tokens::Bytes, 0), Err(LabError::TextTooShort { .. })),
            "one token cannot be cut in two"
        );
    }

    #[test]
    fn a_text_of_one_token_is_refused() {
        assert!(matches!(
            load(&[b'a'; 500], Tokens::Bytes, 10),
            Err(LabError::TextVocabulary { given: 1, .. })
        ));
        // Every character once: all of them are 'anything else'.
        let rare: String = ('一'..='俿').collect();
        assert!(matches!(
            load(rare.as_bytes(), Tokens::Characters, 10),
            Err(LabError::TextVocabulary { given: 1, .. })
        ));
        assert!(load(rare.as_bytes(), Tokens::Bytes, 10).is_ok());
    }
}
