//! # A configuration for longer texts
//!
//! [`extend`] takes the bytes of a Hugging Face `config.json` and gives them back with the keys by which transformers and others scale its rotary positions to more tokens. Every other byte stays as
//! it is: order, spacing, how numbers are written. What it wrote it has read again, and what it read is what was meant, or it is an error.
//!
//! ```
//! use posenc::config::extend::{By, Extension, extend};
//! let file = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 4096, "rope_theta": 10000.0}"#;
//! let longer = extend(file, &Extension::new(16_384, By::yarn()))?;
//! assert!(longer.text.contains(r#""max_position_embeddings": 16384"#));
//! assert!(longer.text.contains(r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}"#));
//! # Ok::<(), posenc::config::extend::ExtendError>(())
//! ```
//!
//! **Where keys go.** Where the file's own rotary settings stand: in `rope_parameters` or `rope_scaling`, flat, or in the dictionary of each layer type whose layers see every key (layers with a window
//! never meet a longer distance, and stay as they are where the model's class can tell them apart: Gemma 3, Olmo 3, ModernBERT). A file without a dictionary gets `rope_scaling` beside its base, which every
//! version of transformers reads; where that would scale layers with a window too, it gets `rope_parameters` by layer type.
//!
//! **`max_position_embeddings`** becomes the new length under YaRN, Llama 3, LongRoPE and a larger base, which say themselves what length they scale (`original_max_position_embeddings`), and stays under
//! linear and dynamic scaling, whose files have no other place for it. transformers 5.23 warns where YaRN's factor is not the new length over the original one; Qwen's own instructions keep the old length
//! there, which it accepts too.
//!
//! **A file that is scaled already** is refused, unless [`Extension::replace`]: then its scaling goes, and the new one is laid over the length before it. A family's own settings stay where the method does:
//! YaRN's ramp and `mscale`, Llama 3's bands, LongRoPE's lists.

mod spans;
#[cfg(test)]
mod tests;
mod write;

use super::{ConfigError, LayerPlan, Mode, ModelConfig, Part, read};
use crate::dims::Dims;
use crate::encoding::Method;
use crate::rotate::{Axes, LongRope, Magnitude, Rotary, Scaling, Yarn};
use serde::Serialize;
use std::fmt;

/// Which method, with what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// Position interpolation.
    Linear,
    /// A larger base (NTK-aware): written as a base, since transformers has no name for it.
    Ntk,
    /// Dynamic NTK.
    Dynamic,
    /// YaRN.
    Yarn,
    /// Llama 3's bands.
    Llama3 {
        /// Wavelengths above the original length over this are scaled; the file's own, else 1, if `None`.
        low_freq_factor: Option<f64>,
        /// Wavelengths below the original length over this stay; the file's own, else 4, if `None`.
        high_freq_factor: Option<f64>,
    },
    /// LongRoPE, with a divisor for each pair: the file's own if `None`.
    Longrope {
        /// In calls of at most the original length.
        short_factor: Option<Vec<f64>>,
        /// In longer ones.
        long_factor: Option<Vec<f64>>,
    },
}

impl By {
    /// YaRN with the paper's ramp, or the file's.
    pub fn yarn() -> By {
        By::Yarn
    }

    /// Llama 3's with its own bands, 1 and 4, or the file's.
    pub fn llama3() -> By {
        By::Llama3 {
            low_freq_factor: None,
            high_freq_factor: None,
        }
    }

    /// Its name in files.
    pub fn name(&self) -> &'static str {
        match self {
            By::Linear => "linear",
            By::Ntk => "ntk",
            By::Dynamic => "dynamic",
            By::Yarn => "yarn",
            By::Llama3 { .. } => "llama3",
            By::Longrope { .. } => "longrope",
        }
    }
}

/// What is asked of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Extension {
    /// Tokens that it shall read.
    pub to: usize,
    /// How.
    pub by: By,
    /// Tokens that it was trained on before any scaling: what the file says if `None`.
    pub original: Option<usize>,
    /// By how much frequencies are scaled: `to` over the original length if `None`.
    pub factor: Option<f64>,
    /// A scaling that is there gives way to this one.
    pub replace: bool,
    /// How contradictions in the file are met.
    pub mode: Mode,
}

impl Extension {
    /// To a length by a method, the rest as the file says.
    pub fn new(to: usize, by: By) -> Extension {
        Extension {
            to,
            by,
            original: None,
            factor: None,
            replace: false,
            mode: Mode::Strict,
        }
    }
}

/// The new file, with what it was made from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Extended {
    /// The new file.
    pub text: String,
    /// The part that was extended: the path of its object; empty at the top.
    pub path: String,
    /// Tokens before any scaling.
    pub original: usize,
    /// Tokens now.
    pub to: usize,
    /// By how much frequencies are scaled.
    pub factor: f64,
    /// The method.
    pub by: By,
    /// Which keys are others than before.
    pub changes: Vec<Change>,
    /// Layers that turn, by plan.
    pub plans: Vec<PlanChange>,
    /// The file as it was.
    pub before: ModelConfig,
    /// The file as it is now.
    pub after: ModelConfig,
}

/// A key that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path.
    pub key: String,
    /// What stood there.
    pub before: Option<String>,
    /// What stands there now.
    pub after: Option<String>,
}

/// Layers that turn, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanChange {
    /// Which layers.
    pub layers: Vec<usize>,
    /// The layer type, where the file has several.
    pub kind: Option<String>,
    /// Widths.
    pub dims: Dims,
    /// Keys that a query sees at most, where a window or a chunk bounds them.
    pub window: Option<usize>,
    /// As they were.
    pub before: Rotary,
    /// As they are.
    pub after: Rotary,
}

/// Why a file was not extended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExtendError {
    /// The file is refused.
    Config(ConfigError),
    /// It is not a Hugging Face `config.json`.
    Layout,
    /// No layer of the model turns by the positions of tokens.
    NotRotary {
        /// The model type.
        model_type: String,
    },
    /// The file reads that many tokens already.
    NotLonger {
        /// Tokens asked for.
        to: usize,
        /// Tokens that it was trained on.
        trained: usize,
    },
    /// Every layer that turns sees fewer keys than the model was trained on, so none meets a new distance.
    Windowed {
        /// Keys that a query sees.
        window: usize,
    },
    /// The file is scaled.
    Scaled {
        /// By what.
        scaling: String,
        /// Where that stands.
        path: String,
    },
    /// The length before any scaling is not in the file.
    NoLength {
        /// The scaling that hides it, if one does.
        scaling: Option<String>,
    },
    /// LongRoPE without its lists.
    NoLists,
    /// The model's class reads no such scaling.
    NotTaken {
        /// The model type.
        model_type: String,
        /// The method.
        method: &'static str,
        /// What its class takes instead.
        takes: &'static str,
    },
    /// The settings are out of range.
    Setting(crate::Error),
    /// The model's class cannot say what was asked for.
    NoPlace {
        /// The model type.
        model_type: String,
        /// What the file would have said instead.
        reason: String,
    },
}

impl From<ConfigError> for ExtendError {
    fn from(error: ConfigError) -> ExtendError {
        ExtendError::Config(error)
    }
}

impl From<crate::Error> for ExtendError {
    fn from(error: crate::Error) -> ExtendError {
        ExtendError::Setting(error)
    }
}

impl fmt::Display for ExtendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExtendError::Config(error) => write!(f, "{error}"),
            ExtendError::Layout => write!(f, "only a Hugging Face config.json can be extended: an object with `model_type`"),
            ExtendError::NotRotary { model_type } => {
                write!(
                    f,
                    "`{model_type}` has no layer that turns by the positions of tokens: there is nothing to scale"
                )
            }
            ExtendError::NotLonger { to, trained } => {
                write!(
                    f,
                    "{to} tokens are no more than the {trained} that it was trained on: nothing to extend"
                )
            }
            ExtendError::Windowed { window } => write!(
                f,
                "every layer that turns sees at most {window} keys, which is no more than it was trained on: no length brings a new distance, and scaling would only change short ones"
            ),
            ExtendError::Scaled { scaling, path } => write!(
                f,
                "`{path}` scales already ({scaling}): leave the file as it is, or replace that, so that the new scaling is laid over the length before it"
            ),
            ExtendError::NoLength { scaling: None } => {
                write!(f, "the file names no length that the model was trained on: say it")
            }
            ExtendError::NoLength { scaling: Some(scaling) } => write!(
                f,
                "the file does not say how many tokens the model was trained on before its scaling ({scaling}): say it"
            ),
            ExtendError::NoLists => write!(
                f,
                "LongRoPE needs a divisor for each pair, found by search on the model itself: give both lists, or use yarn, which needs none"
            ),
            ExtendError::NotTaken { model_type, method, takes } => write!(
                f,
                "the class of `{model_type}` in transformers does not read {method} scaling: what is written would be ignored or refused; {takes}"
            ),
            ExtendError::Setting(error) => write!(f, "{error}"),
            ExtendError::NoPlace { model_type, reason } => write!(f, "the file of a `{model_type}` has no place for it: {reason}"),
        }
    }
}

impl std::error::Error for ExtendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ExtendError::Config(error) => Some(error),
            ExtendError::Setting(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether the class of a model type reads such a scaling.
pub(crate) fn takes(model_type: &str, by: &By) -> bool {
    write::check_class(model_type, by).is_ok()
}

/// A plan's rotary method, where its layers turn by the positions of tokens.
fn turning(plan: &LayerPlan) -> Option<&Rotary> {
    plan.spec.encoding.methods.iter().find_map(|method| match method {
        Method::Rotary(rotary) if !matches!(rotary.axes, Axes::Grid { .. } | Axes::InTurn { .. } | Axes::Dealt { .. }) => Some(rotary),
        _ => None,
    })
}

/// Keys that a query of this plan sees at most, where something bounds them.
fn bound(plan: &LayerPlan) -> Option<usize> {
    let attention = &plan.spec.attention;
    let window = attention
        .window
        .and_then(|window| Some(window.left?.max(window.right?).saturating_add(1)));
    window.into_iter().chain(attention.chunk).min()
}

fn is_scaled(scaling: &Scaling) -> bool {
    !matches!(scaling, Scaling::Unscaled | Scaling::Proportional { factor: 1.0, .. })
}

/// Writes what makes a model's file read more tokens.
///
/// # Errors
/// A file that is refused; no layer that turns; a length that is not longer; a scaling that is there and shall stay; what the method needs and the file does not say.
pub fn extend(bytes: &[u8], extension: &Extension) -> Result<Extended, ExtendError> {
    let before = read(bytes, extension.mode)?;
    let text = std::str::from_utf8(bytes).map_err(|_| ExtendError::Layout)?;
    let root = spans::scan(text)
        .filter(|root| root.get("model_type").is_some())
        .ok_or(ExtendError::Layout)?;
    let part = before.parts.first().ok_or(ExtendError::Layout)?;
    let not_rotary = || ExtendError::NotRotary {
        model_type: part.model_type.clone(),
    };

    let used = |index: &usize| part.layers.is_empty() || part.layers.contains(index);
    let turn: Vec<usize> = (0..part.plans.len())
        .filter(used)
        .filter(|i| turning(&part.plans[*i]).is_some())
        .collect();
    if turn.is_empty() {
        return Err(not_rotary());
    }
    // Layers that see every key are extended; those with a window only where the class has one dictionary for all.
    let original = original(part, &turn, extension)?;
    let open = |i: &usize| bound(&part.plans[*i]).is_none_or(|keys| keys > original);
    let Some(&first) = turn.iter().find(|i| open(i)) else {
        let window = turn.iter().filter_map(|i| bound(&part.plans[*i])).max().unwrap_or(0);
        return Err(ExtendError::Windowed { window });
    };
    if u32::try_from(extension.to).is_err() {
        return Err(ExtendError::Setting(crate::Error::Invalid {
            what: "the new length",
            given: extension.to.to_string(),
            expected: "at most 4294967295",
        }));
    }
    if extension.to <= original {
        return Err(ExtendError::NotLonger {
            to: extension.to,
            trained: original,
        });
    }
    write::check_class(&part.model_type, &extension.by)?;
    let apart = part.plans[first].dictionary.is_some();
    let targets: Vec<usize> = turn
        .iter()
        .copied()
        .filter(|i| {
            let label = &part.plans[*i].dictionary;
            !apart || turn.iter().any(|j| part.plans[*j].dictionary == *label && open(j))
        })
        .collect();

    let factor = write::as_read(extension.factor.unwrap_or(extension.to as f64 / original as f64));
    if !(factor.is_finite() && factor >= 1.0) {
        return Err(ExtendError::Setting(crate::Error::Invalid {
            what: "scaling factor",
            given: factor.to_string(),
            expected: "a number of at least 1",
        }));
    }
    let mut wanted = Vec::new();
    for &i in &targets {
        let plan = &part.plans[i];
        if let Some(rotary) = turning(plan) {
            let after = scaled(rotary, plan.dims.head_dim, extension, original, factor, &part.model_type)?;
            // Out of range settings are refused before anything is written.
            after.frequencies(plan.dims.head_dim, extension.to)?;
            wanted.push((i, after));
        }
    }
    let written = write::write(text, &root, part, &wanted, extension, original, factor)?;
    let plans = turn.iter().filter_map(|&i| {
        let plan = &part.plans[i];
        let before = turning(plan)?.clone();
        Some(PlanChange {
            layers: (0..part.layers.len()).filter(|layer| part.layers[*layer] == i).collect(),
            kind: plan.kind.clone().or(plan.dictionary.clone()),
            dims: plan.dims,
            window: bound(plan).filter(|keys| *keys < extension.to),
            after: wanted
                .iter()
                .find(|(j, _)| *j == i)
                .map_or_else(|| before.clone(), |(_, after)| after.clone()),
            before,
        })
    });
    Ok(Extended {
        plans: plans.collect(),
        text: written.text,
        path: part.path.clone(),
        original,
        to: extension.to,
        factor,
        by: extension.by.clone(),
        changes: written.changes,
        after: written.after,
        before: before.clone(),
    })
}

/// Tokens that the model was trained on before any scaling.
fn original(part: &Part, turn: &[usize], extension: &Extension) -> Result<usize, ExtendError> {
    let scaled = turn
        .iter()
        .filter_map(|i| Some((&part.plans[*i], turning(&part.plans[*i])?)))
        .find(|(plan, rotary)| is_scaled(&rotary.scaling) && bound(plan).is_none())
        .or(turn
            .iter()
            .filter_map(|i| Some((&part.plans[*i], turning(&part.plans[*i])?)))
            .find(|(_, rotary)| is_scaled(&rotary.scaling)));
    if let Some((plan, rotary)) = scaled.filter(|_| !extension.replace) {
        return Err(ExtendError::Scaled {
            scaling: rotary.scaling.to_string(),
            path: plan.source("scaling").map_or_else(|| "the file".into(), ToString::to_string),
        });
    }
    if let Some(0) = extension.original {
        return Err(ExtendError::Setting(crate::Error::Zero { what: "original length" }));
    }
    let own = match scaled.map(|(_, rotary)| &rotary.scaling) {
        None => part.max_len,
        Some(Scaling::Dynamic { original_len, .. } | Scaling::Llama3 { original_len, .. }) => Some(*original_len),
        Some(Scaling::Yarn(yarn)) => Some(yarn.original_len),
        Some(Scaling::Longrope(long)) => Some(long.original_len),
        Some(_) => None,
    };
    extension.original.or(own).ok_or_else(|| ExtendError::NoLength {
        scaling: scaled.map(|(_, rotary)| rotary.scaling.to_string()),
    })
}

/// The rotary method with its frequencies scaled as asked.
fn scaled(
    rotary: &Rotary,
    head_dim: usize,
    extension: &Extension,
    original: usize,
    factor: f64,
    model_type: &str,
) -> Result<Rotary, ExtendError> {
    let over = rotary
        .exponent_dim
        .unwrap_or_else(|| rotary.axes.exponent_dim(rotary.width(head_dim)));
    let scaling = match (&extension.by, &rotary.scaling) {
        (By::Linear, Scaling::Proportional { partial, .. }) => Scaling::Proportional { partial: *partial, factor },
        (by, Scaling::Proportional { .. }) => {
            return Err(ExtendError::NotTaken {
                model_type: model_type.into(),
                method: by.name(),
                takes: "its layers turn a share of their pairs (`proportional`), and only linear goes with that",
            });
        }
        (By::Linear, _) => Scaling::Linear { factor },
        (By::Dynamic, _) => Scaling::Dynamic {
            factor,
            original_len: original,
        },
        (By::Ntk, _) => {
            // Refused where the width is too small for it.
            Scaling::Ntk { factor }.check(rotary.base, over)?;
            let r = over as f64;
            return Ok(Rotary {
                base: write::as_read(rotary.base * factor.powf(r / (r - 2.0))),
                scaling: Scaling::Unscaled,
                ..rotary.clone()
            });
        }
        (By::Yarn, Scaling::Yarn(own)) => Scaling::Yarn(Yarn {
            factor,
            original_len: original,
            // A number that was given was for another factor.
            magnitude: if let Magnitude::Given(_) = own.magnitude {
                Magnitude::Own
            } else {
                own.magnitude
            },
            ..own.clone()
        }),
        (By::Yarn, _) => Scaling::Yarn(Yarn::new(factor, original)),
        (
            By::Llama3 {
                low_freq_factor,
                high_freq_factor,
            },
            own,
        ) => {
            let (low, high) = match own {
                Scaling::Llama3 {
                    low_freq_factor,
                    high_freq_factor,
                    ..
                } => (*low_freq_factor, *high_freq_factor),
                _ => (1.0, 4.0),
            };
            Scaling::Llama3 {
                factor,
                original_len: original,
                low_freq_factor: write::as_read(low_freq_factor.unwrap_or(low)),
                high_freq_factor: write::as_read(high_freq_factor.unwrap_or(high)),
            }
        }
        (By::Longrope { short_factor, long_factor }, own) => {
            let own = match own {
                Scaling::Longrope(own) => Some(own),
                _ => None,
            };
            let list = |given: &Option<Vec<f64>>, own: Option<&Vec<f64>>| -> Result<Vec<f64>, ExtendError> {
                let list = given.as_ref().or(own).ok_or(ExtendError::NoLists)?;
                Ok(list.iter().map(|x| write::as_read(*x)).collect())
            };
            Scaling::Longrope(LongRope {
                short_factor: list(short_factor, own.map(|own| &own.short_factor))?,
                long_factor: list(long_factor, own.map(|own| &own.long_factor))?,
                original_len: original,
                factor,
                magnitude: Magnitude::Own,
            })
        }
    };
    scaling.check(rotary.base, over)?;
    Ok(Rotary { scaling, ..rotary.clone() })
}
