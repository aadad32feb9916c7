//! What a model's own configuration file says it does with positions, and what a sequence of some length meets there.
//!
//! [`explain_model`] takes what [`config::read`](crate::config::read) made of a file and counts, plan by plan: how fast each pair turns, which pairs never complete a turn in the lengths that the
//! file names, and which angles, distances and rows a sequence of a given length meets that no shorter one has shown. Nothing is looked up and no training is assumed that the file does not name.
//!
//! ```
//! use posenc::config::{Mode, read};
//! use posenc::explain::{Standing, explain_model};
//! let file = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 2048}"#;
//! let model = explain_model(&read(file, Mode::Strict)?, "config.json", Some(8192))?;
//! let plan = &model.parts[0].plans[0];
//! assert_eq!(plan.layers, [0, 1]);
//! // Of 8 pairs, 2 take more than 2048 tokens for a turn, so 8192 tokens turn them to new angles.
//! let at = plan.at.as_ref().unwrap();
//! assert_eq!((at.standing, at.rotary.as_ref().unwrap().arcs[0].beyond), (Some(Standing::Beyond), 2));
//! println!("{model}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **What counts as seen.** A model that was trained on L tokens has seen a pair of frequency f turn by f, 2f, …, (L − 1)f. A pair with L·f ≥ 2π has shown its whole circle. Of any other, a
//! sequence of N tokens meets a new angle where its last one, (N − 1)·f′, is at least L·f, which is where the first token after training would have stood; f′ is the frequency as scaled at N.
//! Distances are a query's to a key; a window of w keys keeps them below w, so layers with a window are looked at as if N and L were at most w.

mod at;
mod extension;
mod facts;
mod text;

pub use at::{Arcs, AtLength, RotaryAt, Rounding, Standing};
pub use extension::{ExtensionReport, PlanReport, explain_extension};
pub use facts::{AxisFacts, Incomplete, RotaryFacts, Scaled, Wave};

use super::Finding;
use crate::attention::Attention;
use crate::config::{Format, LayerPlan, ModelConfig, Numbering, Part, Provenance, Source};
use crate::dims::Dims;
use crate::encoding::Method;
use crate::error::{Error, Result};
use crate::rotate::{Axes, Precision, Rotary, Scaling};
use crate::words::Words;
use serde::Serialize;

/// A model's file, explained: plain data. `Display` is the English text, [`ModelExplanation::text`] any language.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelExplanation {
    /// What the file is called in advice.
    pub file: String,
    /// The file's model type.
    pub model_type: String,
    /// Each stack of layers; the language model first, where there is one.
    pub parts: Vec<PartExplanation>,
    /// What was wrong and was read all the same.
    pub warnings: Vec<String>,
    /// Parts that were not read.
    pub left: Vec<Left>,
}

/// A part of a file that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its path in the file.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// One stack of layers, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartExplanation {
    /// Path of its object in the file; empty at the top.
    pub path: String,
    /// Its model type.
    pub model_type: String,
    /// `encoder` or `decoder`, where one object of the file describes both.
    pub stack: Option<&'static str>,
    /// How many layers; 0 where the file does not say.
    pub layers: usize,
    /// Which lengths the file names.
    pub lengths: Lengths,
    /// Tokens of the sequence that was looked at; none where none was asked for and the file names no length.
    pub length: Option<usize>,
    /// What acts on the embeddings, as it prints itself; `none` for nothing.
    pub embeddings: String,
    /// Each value of that, and where it comes from.
    pub values: Vec<Provenance>,
    /// What a sequence of this length meets there.
    pub on_embeddings: Vec<Finding>,
    /// Layers that are alike.
    pub plans: Vec<PlanExplanation>,
    /// The worst of its plans and embeddings.
    pub standing: Option<Standing>,
    /// In a sentence: what to expect at this length.
    pub verdict: Option<Words>,
    /// What can be done.
    pub advice: Vec<Words>,
    /// What its positions also do and a list of layers does not say.
    pub note: String,
}

/// The lengths that a part of a file names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The longest input, by `max_position_embeddings` or another name of it.
    pub named: Option<usize>,
    /// Where that stands.
    pub key: Option<String>,
    /// Tokens that it was trained on before its frequencies were scaled, where the scaling names them.
    pub original: Option<usize>,
    /// The longest that the file provides for: the named length, or the original one times the factor.
    pub reach: Option<usize>,
}

/// Layers that are alike, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanExplanation {
    /// Which layers, counted from 0; empty where no layer reads the dictionary, or the file does not say how many layers there are.
    pub layers: Vec<usize>,
    /// The layer type, where the file has several.
    pub kind: Option<String>,
    /// The dictionary of rotary settings, where the file has one per layer type.
    pub dictionary: Option<String>,
    /// Widths.
    pub dims: Dims,
    /// The encoding, as it prints itself.
    pub encoding: String,
    /// Whether they attend: layers of states and convolutions do not.
    pub attends: bool,
    /// How scores become weights.
    pub attention: Attention,
    /// Each value and where it comes from.
    pub values: Vec<Provenance>,
    /// How queries and keys turn, where they do.
    pub rotary: Option<RotaryFacts>,
    /// What a sequence of the given length meets.
    pub at: Option<AtLength>,
}

/// Explains what `model` does with positions, and with a sequence of `length` tokens; of as many as each part's file provides for if `None`. `file` is what advice calls the file.
///
/// # Errors
/// A length of zero or past `u32::MAX`, or a plan that its own encoding refuses, which [`read`](crate::config::read) does not make.
pub fn explain_model(model: &ModelConfig, file: &str, length: Option<usize>) -> Result<ModelExplanation> {
    if let Some(length) = length {
        super::checked("length", length)?;
    }
    Ok(ModelExplanation {
        file: file.into(),
        model_type: model.model_type.clone(),
        parts: model
            .parts
            .iter()
            .enumerate()
            // `extend` writes the first part of a Hugging Face file.
            .map(|(index, one)| part(one, file, length, index == 0 && model.format == Format::HuggingFace))
            .collect::<Result<_>>()?,
        warnings: model.warnings.iter().map(ToString::to_string).collect(),
        left: model
            .left
            .iter()
            .map(|(path, reason)| Left {
                path: path.clone(),
                reason: reason.to_string(),
            })
            .collect(),
    })
}

fn part(part: &Part, file: &str, asked: Option<usize>, extends: bool) -> Result<PartExplanation> {
    let lengths = lengths(part);
    // Cells of a picture are no tokens of a sequence. A file may name a length past any that is counted with.
    let in_order = matches!(part.numbering, Numbering::Order | Numbering::Mask | Numbering::NotPadding { .. });
    let length = asked
        .or(lengths.reach)
        .filter(|length| in_order && (1..=u32::MAX as usize).contains(length));
    let plans: Vec<PlanExplanation> = part
        .plans
        .iter()
        .enumerate()
        .map(|(index, one)| plan(part, index, one, &lengths, length))
        .collect::<Result<_>>()?;
    let on_embeddings = match (part.plans.first(), length, lengths.named) {
        (Some(plan), Some(length), Some(trained)) => at::findings(&part.embeddings, plan.dims, trained, length)?,
        _ => Vec::new(),
    };
    let mut explained = PartExplanation {
        path: part.path.clone(),
        model_type: part.model_type.clone(),
        stack: part.stack,
        values: part.provenance.clone(),
        layers: part.layers.len(),
        lengths,
        length,
        embeddings: part.embeddings.to_string(),
        on_embeddings,
        plans,
        standing: None,
        verdict: None,
        advice: Vec::new(),
        note: part.note.into(),
    };
    at::conclude(&mut explained, extends.then_some(file));
    Ok(explained)
}

/// The rotary method of a plan, where its layers turn.
fn rotary(plan: &LayerPlan) -> Option<&Rotary> {
    plan.spec.encoding.methods.iter().find_map(|method| match method {
        Method::Rotary(rotary) => Some(rotary),
        _ => None,
    })
}

/// Positions are rows and columns of a picture, which no length in tokens bounds.
fn is_grid(rotary: &Rotary) -> bool {
    matches!(rotary.axes, Axes::Grid { .. } | Axes::InTurn { .. } | Axes::Dealt { .. })
}

/// What a scaling says of the length before it, and by how much it stretches.
fn stretched(scaling: &Scaling) -> (Option<usize>, f64) {
    match scaling {
        Scaling::Dynamic { factor, original_len } | Scaling::Llama3 { factor, original_len, .. } => (Some(*original_len), *factor),
        Scaling::Yarn(yarn) => (Some(yarn.original_len), yarn.factor),
        Scaling::Longrope(long) => (Some(long.original_len), long.factor),
        Scaling::Linear { factor } | Scaling::Ntk { factor } | Scaling::Proportional { factor, .. } => (None, *factor),
        Scaling::Unscaled | Scaling::Alpha { .. } | Scaling::Divided { .. } => (None, 1.0),
    }
}

fn lengths(part: &Part) -> Lengths {
    let named = part.max_len;
    let scaled = part.plans.iter().filter_map(rotary).filter(|rotary| !is_grid(rotary));
    let scaled: Vec<(usize, f64)> = scaled
        .filter_map(|rotary| {
            let (original, factor) = stretched(&rotary.scaling);
            Some((original?, factor))
        })
        .collect();
    let original = scaled.iter().map(|(original, _)| *original).max();
    // Llama 3's factor is how much the slowest pairs are slowed, not how far the model reads: its files name that.
    let provided = scaled
        .iter()
        .map(|(original, factor)| (*original as f64 * factor).floor() as usize)
        .max();
    Lengths {
        named,
        key: part.max_len_source.as_ref().map(Source::to_string),
        original,
        reach: named.max(provided),
    }
}

fn plan(part: &Part, index: usize, plan: &LayerPlan, lengths: &Lengths, length: Option<usize>) -> Result<PlanExplanation> {
    let facts = rotary(plan).map(|rotary| facts::facts(plan, rotary, lengths)).transpose()?;
    Ok(PlanExplanation {
        layers: (0..part.layers.len()).filter(|layer| part.layers[*layer] == index).collect(),
        kind: plan.kind.clone(),
        dictionary: plan.dictionary.clone(),
        dims: plan.dims,
        encoding: plan.spec.encoding.to_string(),
        attends: plan.attends,
        attention: plan.spec.attention.clone(),
        values: plan.provenance.clone(),
        rotary: facts,
        at: length
            .map(|length| at::at(plan, lengths, length, !part.embeddings.methods.is_empty()))
            .transpose()?,
    })
}

/// Frequencies of each pair in f64, as scaled in a call of `length` tokens, or as they would be unscaled. What f32 code makes of them differs in the last bits, which no count here depends on.
fn frequencies(rotary: &Rotary, head_dim: usize, length: usize, scaled: bool) -> Result<Vec<f64>> {
    let mut exact = Rotary {
        precision: Precision::Exact,
        ..rotary.clone()
    };
    if !scaled {
        exact.scaling = match &rotary.scaling {
            // Which pairs turn at all is no scaling.
            Scaling::Proportional { partial, .. } => Scaling::Proportional {
                partial: *partial,
                factor: 1.0,
            },
            _ => Scaling::Unscaled,
        };
    }
    Ok(exact.frequencies(head_dim, length)?.pairs)
}

/// A length that counts, as the counting functions take it.
fn counted(length: usize) -> Result<u64> {
    u64::try_from(length).map_err(|_| Error::Invalid {
        what: "length",
        given: length.to_string(),
        expected: "at most 2^64 − 1",
    })
}

#[cfg(test)]
mod tests;
