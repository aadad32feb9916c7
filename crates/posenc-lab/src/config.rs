//! What no comparison can have, and what makes two comparisons different.

use serde::Serialize;
use serde_json::Value;

use crate::error::LabError;
use crate::results::{Config, ModelConfig, TrainingConfig};

/// The most weights in a model's blocks: with gradients and the optimiser's two averages it takes 16 GiB, and no sweep of such models ends.
pub const MOST_WEIGHTS: usize = 1 << 30;

/// The most tokens in a training step, and in the trained length.
pub const MOST_STEP_TOKENS: usize = 1 << 24;

/// The most training steps.
pub const MOST_STEPS: usize = 1 << 30;

impl ModelConfig {
    /// Checks that the model has parts, and not more than a machine holds. How heads divide the width is checked by the plan.
    pub fn check(&self) -> Result<(), LabError> {
        let counts = [
            ("model.layers", self.layers),
            ("model.model_dim", self.model_dim),
            ("model.heads", self.heads),
            ("model.mlp_dim", self.mlp_dim),
        ];
        for (field, count) in counts {
            at_least_one(field, count)?;
            // Any one of them alone can be too much; then it is the one to name.
            if count > MOST_WEIGHTS {
                return refuse(field, format!("at most {MOST_WEIGHTS}"), count);
            }
        }
        let (layers, model_dim, mlp_dim) = (self.layers as u128, self.model_dim as u128, self.mlp_dim as u128);
        let weights = layers * (4 * model_dim * model_dim + 2 * model_dim * mlp_dim);
        if weights > MOST_WEIGHTS as u128 {
            let given = format!(
                "{} ({} layers, mlp_dim {}: {weights} weights)",
                self.model_dim, self.layers, self.mlp_dim
            );
            return refuse("model.model_dim", format!("small enough for at most {MOST_WEIGHTS} weights"), given);
        }
        Ok(())
    }
}

impl TrainingConfig {
    /// Checks every field but the number of steps, which may not be known yet.
    pub fn check(&self) -> Result<(), LabError> {
        at_least_one("training.length", self.length)?;
        at_least_one("training.batch", self.batch)?;
        if self.length > MOST_STEP_TOKENS {
            return refuse("training.length", format!("at most {MOST_STEP_TOKENS}"), self.length);
        }
        if self.batch > MOST_STEP_TOKENS / self.length {
            let expected = format!("at most {} sequences of {} tokens", MOST_STEP_TOKENS / self.length, self.length);
            return refuse("training.batch", expected, self.batch);
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let numbers = [
            (
                "training.learning_rate",
                self.learning_rate,
                positive(self.learning_rate),
                "a positive number",
            ),
            (
                "training.weight_decay",
                self.weight_decay,
                self.weight_decay == 0.0 || positive(self.weight_decay),
                "0 or a positive number",
            ),
            (
                "training.warmup",
                self.warmup,
                (0.0..=1.0).contains(&self.warmup),
                "a share from 0 to 1",
            ),
            ("training.clip", self.clip, positive(self.clip), "a positive number"),
        ];
        for (field, number, ok, expected) in numbers {
            if !ok {
                return refuse(field, expected, number);
            }
        }
        if self.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return refuse(
                "training.betas",
                "two numbers in [0, 1)",
                format!("{}, {}", self.betas[0], self.betas[1]),
            );
        }
        Ok(())
    }
}

fn at_least_one(field: &'static str, count: usize) -> Result<(), LabError> {
    if count == 0 { refuse(field, "at least 1", 0) } else { Ok(()) }
}

fn refuse(field: &'static str, expected: impl Into<String>, given: impl ToString) -> Result<(), LabError> {
    Err(LabError::Configuration {
        field,
        expected: expected.into(),
        given: given.to_string(),
    })
}

impl Config {
    /// Checks that the configuration can be run: names and seeds that are there once, lengths that ascend from the trained one, counts that are
    /// not zero, numbers that training can use.
    ///
    /// What depends on the text (is it long enough?) is checked by [`EvaluationWindows::new`](crate::windows::EvaluationWindows::new).
    pub fn check(&self) -> Result<(), LabError> {
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
        if has_duplicates(&self.scalings) {
            let names: Vec<&str> = self.scalings.iter().map(|scaling| scaling.name()).collect();
            return refuse("scalings", "each of them once", names.join(","));
        }
        self.model.check()?;
        self.training.check()?;
        if self.lengths.first() != Some(&self.training.length) || self.lengths.windows(2).any(|pair| pair[0] >= pair[1]) {
            let expected = format!("ascending from the trained length {}", self.training.length);
            return refuse("lengths", expected, format!("{:?}", self.lengths));
        }
        let counts = [
            ("training.steps", self.training.steps),
            ("window_tokens", self.window_tokens),
            ("aligned_places", self.aligned_places),
            ("aligned_targets", self.aligned_targets),
        ];
        for (field, count) in counts {
            at_least_one(field, count)?;
        }
        if self.training.steps > MOST_STEPS {
            return refuse("training.steps", format!("at most {MOST_STEPS}"), self.training.steps);
        }
        Ok(())
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
    use crate::scalings::ScalingMethod;

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
            scalings: Vec::new(),
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
        assert_eq!(refused(|c| c.scalings = vec![ScalingMethod::Ntk; 2]), "scalings");
        assert_eq!(refused(|c| c.lengths = vec![]), "lengths");
        assert_eq!(refused(|c| c.lengths = vec![12, 16]), "lengths");
        assert_eq!(refused(|c| c.lengths = vec![8, 16, 16]), "lengths");
        assert_eq!(refused(|c| c.training.length = 0), "training.length");
        assert_eq!(refused(|c| c.training.steps = 0), "training.steps");
        assert_eq!(refused(|c| c.aligned_places = 0), "aligned_places");
    }

    #[test]
    fn numbers_that_training_cannot_use_are_refused_by_name() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(refused(|c| c.training.learning_rate = bad), "training.learning_rate");
            assert_eq!(refused(|c| c.training.weight_decay = bad), "training.weight_decay");
            assert_eq!(refused(|c| c.training.betas[1] = bad), "training.betas");
            assert_eq!(refused(|c| c.training.warmup = bad), "training.warmup");
            assert_eq!(refused(|c| c.training.clip = bad), "training.clip");
        }
        assert_eq!(refused(|c| c.training.learning_rate = 0.0), "training.learning_rate");
        assert_eq!(refused(|c| c.training.clip = 0.0), "training.clip");
        assert_eq!(refused(|c| c.training.betas[0] = 1.0), "training.betas");
        assert_eq!(refused(|c| c.training.warmup = 1.5), "training.warmup");
        let mut config = small();
        (config.training.weight_decay, config.training.warmup) = (0.0, 0.0);
        config.check().unwrap();
    }

    #[test]
    fn more_than_a_machine_holds_is_refused_before_it_is_allocated() {
        assert_eq!(refused(|c| c.model.layers = 0), "model.layers");
        assert_eq!(refused(|c| c.model.layers = usize::MAX), "model.layers");
        assert_eq!(refused(|c| c.model.mlp_dim = usize::MAX), "model.mlp_dim");
        assert_eq!(refused(|c| c.model.heads = usize::MAX), "model.heads");
        assert_eq!(refused(|c| c.model.model_dim = 1 << 20), "model.model_dim");
        assert_eq!(refused(|c| c.training.batch = usize::MAX), "training.batch");
        assert_eq!(refused(|c| c.training.length = usize::MAX), "training.length");
        assert_eq!(refused(|c| c.training.steps = usize::MAX), "training.steps");
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
