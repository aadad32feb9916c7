//! What a comparison measured, as plain data: the schema of `results.json`.
//!
//! Everything else (the table in the terminal, the CSV, the report) is made from these values, so that a reader of the file sees what a reader of the report sees.
//! All losses are in nats per token; one that is not a number (a model that broke down) is `null` in the file.
//! Nothing but the fields named `seconds` depends on the machine's speed: two runs of the same configuration give the same file apart from those.

/// The classes of the rule; [`verdict`](crate::verdict) has it.
pub use posenc::catalogue::Reach;

use crate::scalings::{Scaled, ScaledVerdict, ScalingCheck, ScalingMethod};
use serde::{Deserialize, Deserializer, Serialize};

/// The version of the schema; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// A whole comparison: what was asked, what was measured, what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`] of the program that wrote the file.
    pub schema: u32,
    /// Version of posenc that measured.
    pub posenc: String,
    /// What was compared, down to the last number that changes a result.
    pub config: Config,
    /// Losses of models without attention on the held-out text: the marks to beat.
    pub baselines: Baselines,
    /// One entry per encoding and seed, in the order of [`Config::encodings`], then of [`Config::seeds`].
    pub runs: Vec<Run>,
    /// One entry per encoding, in the order of [`Config::encodings`].
    pub verdicts: Vec<Verdict>,
    /// One entry per rotary encoding and scaling, in the order of the configuration; empty where nothing was scaled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaled_verdicts: Vec<ScaledVerdict>,
    /// What is known of scalings, and whether it was found, per rotary encoding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaling_checks: Vec<ScalingCheck>,
}

/// The configuration of a comparison. Two folders hold the same comparison if and only if these are equal, two labels
/// apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The encodings' names, as `posenc list` prints them.
    pub encodings: Vec<String>,
    /// One training run per encoding and seed; a seed fixes initial weights and batches.
    pub seeds: Vec<u64>,
    /// The text and how it is cut.
    pub text: TextConfig,
    /// The model that every encoding is put into.
    pub model: ModelConfig,
    /// How it is trained.
    pub training: TrainingConfig,
    /// Evaluated lengths in tokens, ascending; the first is the trained length.
    pub lengths: Vec<usize>,
    /// Held-out tokens read for the mean over non-overlapping windows, at each length.
    pub window_tokens: usize,
    /// Places in the held-out text whose last `aligned_targets` targets are scored with growing context.
    pub aligned_places: usize,
    /// Targets scored at the end of each aligned window.
    pub aligned_targets: usize,
    /// How trained rotary models are scaled to be read again; empty where no encoding rotates, and in files from before it was measured.
    #[serde(default)]
    pub scalings: Vec<ScalingMethod>,
}

/// Which text is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// What a person calls it: `six novels by Jane Austen`, or the path that was given. A label: [`hash`](Self::hash) says which text it is.
    pub name: String,
    /// Titles (or parts) that were trained on.
    pub trained_on: Vec<String>,
    /// Titles (or parts) that were held out whole.
    pub held_out: Vec<String>,
    /// FNV-1a hash of the text, so that a resumed run reads what the first one read.
    pub hash: String,
    /// `characters` or `bytes`.
    pub tokens: String,
    /// Number of different tokens, the one for "anything else" included.
    pub vocabulary: usize,
    /// Tokens in the training part.
    pub train_tokens: usize,
    /// Tokens in the held-out part.
    pub held_out_tokens: usize,
}

/// The transformer: pre-layer-norm decoder, GELU, tied head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub model_dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer of the MLP.
    pub mlp_dim: usize,
}

/// AdamW with linear warm-up and cosine decay to a tenth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Tokens per training sequence: the trained length L.
    pub length: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Steps, fixed before the first run.
    pub steps: usize,
    /// `calibrated` to a time budget on the machine that began the comparison, or `given` by the user. A label.
    pub steps_from: String,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's two averaging factors.
    pub betas: [f64; 2],
    /// Share of the steps spent warming up.
    pub warmup: f64,
    /// The gradient's norm is clipped to this.
    pub clip: f64,
}

/// Losses of counting models on the targets of which the mean is taken ([`Losses::mean`]): the first `window_tokens` of the held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Every token has the frequency it had in training.
    pub unigram: f64,
    /// Each token given the one before it, smoothed by adding one.
    pub bigram: f64,
}

/// One trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name from [`Config::encodings`].
    pub encoding: String,
    /// The plan's own one-line description.
    pub plan: String,
    /// Seed from [`Config::seeds`].
    pub seed: u64,
    /// Trainable numbers in the whole model.
    pub parameters: usize,
    /// Of these, the encoding's own.
    pub encoding_parameters: usize,
    /// Training loss: mean over the steps since the point before.
    pub training: Vec<CurvePoint>,
    /// Loss on fixed held-out windows of the trained length, during training.
    pub held_out: Vec<CurvePoint>,
    /// One entry per evaluated length, in the order of [`Config::lengths`].
    pub lengths: Vec<AtLength>,
    /// What the trained model does with its frequencies scaled, by [`readings`](crate::scalings::readings_of).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaled: Vec<Scaled>,
    /// Wall-clock time of training; the only field, with `evaluation_seconds`, that differs between two equal runs.
    pub training_seconds: f64,
    /// Wall-clock time of evaluation.
    pub evaluation_seconds: f64,
}

/// A point of a training curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps done.
    pub step: usize,
    /// Loss in nats per token.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
}

/// What a trained model did at one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtLength {
    /// Tokens of context.
    pub length: usize,
    /// Measured, or why it could not be.
    pub outcome: Outcome,
}

/// Measured, or why it could not be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model ran.
    Measured(Losses),
    /// The encoding refuses this length: the error's text.
    Refused(String),
}

/// Losses at one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Mean over all targets of non-overlapping windows.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean: f64,
    /// Mean over the aligned targets: the same targets at every length, only the context before them grows.
    #[serde(deserialize_with = "null_is_nan")]
    pub aligned: f64,
    /// Loss per position, averaged over the windows and over `per_position_width` neighbouring positions.
    #[serde(deserialize_with = "nulls_are_nan")]
    pub per_position: Vec<f64>,
    /// Positions averaged into one entry of `per_position`; the last entry may hold fewer.
    pub per_position_width: usize,
    /// Non-overlapping windows read.
    pub windows: usize,
}

/// What follows from the runs of one encoding, by the rule of `docs/method.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name from [`Config::encodings`].
    pub encoding: String,
    /// One entry per evaluated length.
    pub lengths: Vec<VerdictAt>,
    /// Loss at the trained length (mean over windows), averaged over the seeds; not a number if it could not be measured.
    #[serde(deserialize_with = "null_is_nan")]
    pub trained_loss: f64,
    /// The runs converged: held-out loss fell by at most 0.05 nat over the last tenth of the steps, and it beats the bigram, with every seed.
    pub converged: bool,
}

/// The verdict at one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictAt {
    /// Tokens of context.
    pub length: usize,
    /// By the rule.
    pub verdict: Reach,
    /// Aligned loss minus the aligned loss at the trained length, for each seed with which both were measured; empty where the encoding refuses.
    #[serde(deserialize_with = "nulls_are_nan")]
    pub rise: Vec<f64>,
}

/// JSON has no NaN and no infinity: serde writes them as `null`, and this reads them back, so that the result of a model that broke down is not a damaged file.
pub(crate) fn null_is_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// [`null_is_nan`] for a list.
pub(crate) fn nulls_are_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Option<f64>>::deserialize(from)?
        .into_iter()
        .map(|number| number.unwrap_or(f64::NAN))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_not_a_number_is_null_and_comes_back() {
        let losses = Losses {
            mean: f64::NAN,
            aligned: 1.5,
            per_position: vec![f64::INFINITY, 2.0],
            per_position_width: 1,
            windows: 1,
        };
        let json = serde_json::to_string(&losses).unwrap();
        assert!(json.contains(r#""mean":null"#) && json.contains("[null,2.0]"), "{json}");
        let back: Losses = serde_json::from_str(&json).unwrap();
        assert!(back.mean.is_nan() && back.per_position[0].is_nan());
        assert_eq!((back.aligned, back.per_position[1]), (1.5, 2.0));
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
    }

    #[test]
    fn a_loss_that_is_missing_is_not_a_number_by_mistake() {
        assert!(serde_json::from_str::<CurvePoint>(r#"{"step":3}"#).is_err());
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        // Each of these changes when read by a parser that rounds twice.
        let mut state = 0;
        for _ in 0..20_000 {
            state = posenc::rng::split_mix(state);
            let loss = f64::from_bits((state >> 2) | 0x3000_0000_0000_0000);
            let back: CurvePoint = serde_json::from_str(&serde_json::to_string(&CurvePoint { step: 1, loss }).unwrap()).unwrap();
            assert_eq!(back.loss.to_bits(), loss.to_bits());
        }
    }
}
