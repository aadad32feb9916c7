//! What no comparison can have, and what makes two comparisons different.

use serde::Serialize;
use serde_json::Value;

use crate::error::LabError;
use crate::results::Config;

impl Config {
    /// Checks that the configuration can be run: names and seeds that are there once, lengths that ascend from the trained one, counts that are not zero.
    ///
    /// What depends on the text (is it long enough?) is checked by [`EvaluationWindows::new`](crate::windows::EvaluationWindows::new).
    pub fn check(&self) -> Result<(), LabError> {
        let refuse = |field, expected: &str, given: String| {
            Err(LabError::Configuration {
                field,
                expected: expected.into(),
                given,
            })
        };
        if self.encodings.is_empty() || has_duplicates(&self.encodings) || self.encodings.iter().any(String::is_empty) {
            return refuse(
                "encodings",
                "at least one name and each of them once",
                format!("{:?}", self.encodings),
            );
        }
        if self.seeds.is_empty() || has_duplicates(&self.seeds) {
            return refuse("seeds", "at least one and each of them once", format!("{:?}", self.seeds));
        }
        if self.training.length == 0 {
            return refuse("training.length", "at least 1", "0".into());
        }
        if self.lengths.first() != Some(&self.training.length) || self.lengths.windows(2).any(|pair| pair[0] >= pair[1]) {
            let expected = format!("ascending from the trained length {}", self.training.length);
            return refuse("lengths", &expected, format!("{:?}", self.lengths));
        }
        let counts = [
            ("training.batch", self.training.batch),
            ("training.steps", self.training.steps),
            ("window_tokens", self.window_tokens),
            ("aligned_places", self.aligned_places),
            ("aligned_targets", self.aligned_targets),
        ];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            Some((field, _)) => refuse(field, "at least 1", "0".into()),
            None => Ok(()),
        }
    }

    /// Position of a run's encoding and seed in the order of the results; `None` if the configuration has no such run.
    pub fn index(&self, encoding: &str, seed: u64) -> Option<(usize, usize)> {
        let encoding = self.encodings.iter().position(|name| name == encoding)?;
        let seed = self.seeds.iter().position(|&other| other == seed)?;
        Some((encoding, seed))
    }
}

/// A field in which two configurations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: `training.batch`.
    pub field: String,
    /// The value in the first configuration.
    pub first: String,
    /// The value in the second.
    pub second: String,
}

/// The first field in which two comparisons differ, in alphabetical order; `None` where a run of one is a run of the other.
///
/// Two fields are labels and do not count: the text's name (its hash does), because the same file may be reached by two paths, and whether the steps were given or
/// calibrated (their number does).
pub fn first_difference(first: &Config, second: &Config) -> Option<Difference> {
    let value = |config: &Config| {
        let mut config = config.clone();
        config.text.name.clear();
        config.training.steps_from.clear();
        to_value(&config)
    };
    differ("", &value(first), &value(second))
}

fn differ(field: &str, first: &Value, second: &Value) -> Option<Difference> {
    if let (Value::Object(a), Value::Object(b)) = (first, second) {
        // Both come from the same type, so they have the same fields.
        return a.iter().zip(b.values()).find_map(|((name, one), other)| {
            let inner = if field.is_empty() {
                name.clone()
            } else {
                format!("{field}.{name}")
            };
            differ(&inner, one, other)
        });
    }
    (first != second).then(|| Difference {
        field: field.into(),
        first: first.to_string(),
        second: second.to_string(),
    })
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data with string keys always becomes JSON")
}

fn has_duplicates<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(i, item)| list[..i].contains(item))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::results::{ModelConfig, TextConfig, TrainingConfig};

    /// A small configuration, for the tests of the whole crate.
    pub(crate) fn small() -> Config {
        Config {
            encodings: vec!["alibi".into(), "rotary".into()],
            seeds: vec![0, 1],
            text: TextConfig {
                name: "a text".into(),
                trained_on: vec!["one".into()],
                held_out: vec!["two".into()],
                hash: "00".into(),
                tokens: "bytes".into(),
                vocabulary: 256,
                train_tokens: 9000,
                held_out_tokens: 1000,
            },
            model: ModelConfig {
                layers: 2,
                model_dim: 64,
                heads: 4,
                mlp_dim: 256,
            },
            training: TrainingConfig {
                length: 8,
                batch: 4,
                steps: 20,
                steps_from: "given".into(),
                learning_rate: 3e-3,
                weight_decay: 0.01,
                betas: [0.9, 0.95],
                warmup: 0.05,
                clip: 1.0,
            },
            lengths: vec![8, 12, 16],
            window_tokens: 48,
            aligned_places: 5,
            aligned_targets: 4,
        }
    }

    fn refused(change: impl FnOnce(&mut Config)) -> &'static str {
        let mut config = small();
        change(&mut config);
        match config.check() {
            Err(LabError::Configuration { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn impossible_configurations_are_refused_by_name() {
        small().check().unwrap();
        assert_eq!(refused(|c| c.encodings.clear()), "encodings");
        assert_eq!(refused(|c| c.encodings[1] = "alibi".into()), "encodings");
        assert_eq!(refused(|c| c.seeds = vec![3, 3]), "seeds");
        assert_eq!(refused(|c| c.lengths = vec![]), "lengths");
        assert_eq!(refused(|c| c.lengths = vec![12, 16]), "lengths");
        assert_eq!(refused(|c| c.lengths = vec![8, 16, 16]), "lengths");
        assert_eq!(refused(|c| c.training.length = 0), "training.length");
        assert_eq!(refused(|c| c.training.steps = 0), "training.steps");
        assert_eq!(refused(|c| c.aligned_places = 0), "aligned_places");
    }

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        assert_eq!(first_difference(&small(), &small()), None);
        let mut other = small();
        other.training.batch = 32;
        let expected = Difference {
            field: "training.batch".into(),
            first: "4".into(),
            second: "32".into(),
        };
        assert_eq!(first_difference(&small(), &other), Some(expected));
        other.encodings.push("none".into());
        assert_eq!(first_difference(&small(), &other).unwrap().field, "encodings");
    }

    #[test]
    fn labels_make_no_difference() {
        let mut other = small();
        other.text.name = "./a text".into();
        other.training.steps_from = "calibrated".into();
        assert_eq!(first_difference(&small(), &other), None);
    }

    #[test]
    fn runs_are_ordered_as_in_the_configuration() {
        assert_eq!(small().index("rotary", 1), Some((1, 1)));
        assert_eq!(small().index("rotary", 2), None);
        assert_eq!(small().index("none", 0), None);
    }
}
