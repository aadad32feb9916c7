//! # A model's configuration file as its layers' positions
//!
//! A checkpoint's `config.json` says how the model was told where its tokens are, in one of many layouts, and leaves to the model's class what it does not say. [`read`] takes the bytes and gives a
//! [`LayerSpec`] for each layer, and for each value where it comes from: a key, the class's default, or other values.
//!
//! ```
//! use posenc::config::{Mode, read};
//! let file = br#"{
//!     "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
//!     "max_position_embeddings": 131072, "rope_theta": 500000.0,
//!     "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
//! }"#;
//! let model = read(file, Mode::Strict)?;
//! assert_eq!(model.parts[0].layers.len(), 32);
//! let layer = model.parts[0].layer(0).unwrap();
//! assert_eq!(layer.spec.encoding.to_string(), "rotary(halves, base 500000, Llama 3 ×8 of 8192, f32 angles)");
//! assert_eq!(layer.source("base").unwrap().to_string(), "rope_theta");
//! assert_eq!(layer.source("head_dim").unwrap().to_string(), "hidden_size / num_attention_heads");
//! # Ok::<(), posenc::config::ConfigError>(())
//! ```
//!
//! **To attention.** A layer's encoding makes its plan, and its [`Attention`](crate::Attention) takes the call; who has an attention of their own turns queries and keys by
//! [`Rotary::rotation`].
//!
//! ```
//! use posenc::config::{Mode, read};
//! use posenc::{Mask, Method, Positions, View, ViewMut, attention::*, rotate::Turn};
//! // Each fourth layer of SmolLM3 does not turn.
//! let file = br#"{"model_type": "smollm3", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4}"#;
//! let model = read(file, Mode::Strict)?;
//! let at = Positions::range(0..8);
//! let (q, kv) = (vec![0.5f32; 4 * 8 * 16], vec![0.5f32; 2 * 8 * 16]); // [batch, heads, seq, head_dim], already projected
//! for layer in (0..4).filter_map(|index| model.parts[0].layer(index)) {
//!     let plan = layer.spec.encoding.plan(layer.dims)?;
//!     let params = plan.init::<f32>(0)?; // of rotary positions: none
//!     let call = plan.call(&params, &at, &at)?;
//!     let (queries, keys) = (View::new(&q, [1, 4, 8, 16])?, View::new(&kv, [1, 2, 8, 16])?);
//!     let mut out = vec![0.0; 4 * 8 * 16];
//!     let outputs = Outputs { out: ViewMut::new(&mut out, [1, 4, 8, 16])?, saved: None, weights: None };
//!     let (inputs, mask) = (Inputs::new(queries, keys, keys), Mask::none().causal(0));
//!     layer.spec.attention.forward(&call, inputs, &mask, posenc::Mode::Evaluate, outputs, &mut Workspace::default())?;
//!     // The same turn alone, in place.
//!     if let [Method::Rotary(rotary)] = &layer.spec.encoding.methods[..] {
//!         let mut turned = q.clone();
//!         rotary.rotation::<f32>(16, &at)?.apply(Turn::Forward, ViewMut::new(&mut turned, [1, 4, 8, 16])?)?;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Formats**, told apart by their content ([`Format`]; the page `docs/config-formats.md` has the rules):
//! - *Hugging Face's `config.json`*;
//! - *GGUF*: bytes that begin with `GGUF`; the whole file, or its beginning: metadata, and for some architectures the list of tensors and the few that hold frequencies. An error says how many bytes are needed.
//!   [`known_gguf`] lists the architectures;
//! - *`params.json`* of Meta and of Mistral: objects with `dim`, `n_layers` and `n_heads` and no model type of transformers.
//!
//! A model's pairing is that of the file's weights: converters permute the projections of queries and keys for some formats ([`convert_rows`](crate::rotate::convert_rows) does it too), so one model is
//! [`Pairing::Halves`](crate::Pairing::Halves) in one file and [`Pairing::Interleaved`](crate::Pairing::Interleaved) in another, with the same frequencies.
//!
//! **Layouts of Hugging Face's.** `rope_parameters` (flat, or one dictionary per layer type), the older `rope_theta` with `rope_scaling`, and the spellings before it; parts nested under `text_config`,
//! `vision_config` and the like. **Precision** is [`Precision::Reference`](crate::Precision::Reference): the rotation that the checkpoint knows.
//! A position past 2²⁴ is an error when it is made: f32 does not tell it from its neighbour.
//!
//! **What a file leaves out** is its class's default: sizes, windows, patterns of layer types, scales, whole parts. Each such value says so ([`Source::ClassDefault`]). A key that the file has, even with `null`, stands above it;
//! in models without rotary positions `null` is as absent.
//!
//! **Layers** differ by type, window, chunk, width, scale, temperature of queries, and by whether they turn; layers of linear attention and of convolutions are named and have no positions
//! ([`LayerPlan::attends`]). What is read is compared with what reaches the softmax in transformers' own modules, for every rotary model type (`golden/config/`).
//!
//! **Strict and lenient.** Keys that contradict each other and rotary settings that mean nothing are errors in [`Mode::Strict`]; [`Mode::Lenient`] does what transformers does and lists them in
//! [`ModelConfig::warnings`]. A base is never guessed: it is the file's, or the default of the class that the model type names, and a model type that is not known is an error in both:
//! only around a language model that says its own, lenient mode reads that one, with a warning.
//!
//! **Rules** are those of transformers 5.23.0, with these differences, each of which a test holds to what transformers does instead.
//!
//! - A dictionary's `truncate` is read where it stands; transformers reads it beside nested dictionaries, where it is not.
//! - `partial_rotary_factor` counts for every kind of scaling, as in vLLM; classes without a share of their own (Llama) ignore it there when nothing is scaled.
//! - `attn_factor` multiplies YaRN's own magnitude, as in vLLM; transformers ignores it.
//! - An older OLMo 3 file's `rope_theta` is the base of its sliding layers, too; transformers gives them the class's.
//! - A base or share beside no dictionary stands above that of the class's own dictionary (Ministral 3, Apertus); transformers drops it.
//! - HunYuan-VL's sections are chunks of pairs, as in its authors' code.
//! - MPT's `alibi_bias_max` counts, as in its authors' code; transformers always takes 8.
//!
//! `head_dim: null` is an absent `head_dim` for every kind of scaling, here and there.
//!
//! **Positions that are not rotary.** What acts on the embeddings is [`Part::embeddings`]: a learned table with its offset and padding row, or sinusoids; [`Part::numbering`] says how the model counts its tokens. What acts in
//! layers stands in each [`LayerSpec`]: buckets, slopes, relative attention, scale, window. An encoder and a decoder in one file are two parts ([`Part::stack`]); cross-attention has no positions unless a note says so.
//!
//! ```
//! use posenc::config::{Mode, Numbering, read};
//! let t5 = read(br#"{"model_type": "t5", "num_layers": 12, "d_model": 768, "num_heads": 12}"#, Mode::Strict)?;
//! assert_eq!((t5.parts[0].stack, t5.parts[1].stack), (Some("encoder"), Some("decoder")));
//! let layer = t5.parts[1].layer(0).unwrap();
//! assert_eq!(layer.spec.encoding.to_string(), "t5 bias(unidirectional, 32 buckets to 128, one table per model)");
//! assert_eq!((layer.spec.attention.scale, layer.source("buckets").unwrap().to_string().as_str()), (Some(1.0), "class default"));
//!
//! let roberta = read(br#"{"model_type": "roberta", "max_position_embeddings": 514}"#, Mode::Strict)?;
//! assert_eq!(roberta.parts[0].embeddings.to_string(), "learned(max_len 514, offset 2, padding row 1)");
//! assert_eq!(roberta.parts[0].numbering, Numbering::NotPadding { id: 1 });
//! # Ok::<(), posenc::config::ConfigError>(())
//! ```

mod attend;
mod biases;
mod embeddings;
mod error;
pub mod extend;
mod filled;
mod gguf;
mod json;
mod layers;
#[cfg(test)]
mod layers_of_transformers;
mod numbering;
mod params;
mod part;
mod plain;
#[cfg(test)]
mod published;
mod read;
mod registry;
mod rope;
mod said;
mod scale;
mod stack;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unturned;

pub use error::ConfigError;
pub use gguf::known_gguf;
pub use numbering::Numbering;
pub use read::{known, read};

use crate::attention::LayerSpec;
use crate::dims::Dims;
use crate::encoding::Encoding;
use crate::rotate::Rotary;
use serde::Serialize;
use std::fmt;

/// What is done with contradictions and settings without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are errors.
    Strict,
    /// They are listed; what transformers does with them is done.
    Lenient,
}

/// Which code a file was written for: told by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// `config.json` of Hugging Face's transformers.
    HuggingFace,
    /// The metadata at the start of a GGUF file, for llama.cpp and its like.
    Gguf,
    /// Meta's `params.json`.
    Meta,
    /// Mistral's `params.json`.
    Mistral,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A key of the file, by its path; in a GGUF file also a tensor, by its name.
    Key(String),
    /// The default of the code that the file was written for: the model type's class in transformers, llama.cpp's loader, the authors' own class.
    ClassDefault,
    /// What every model of this type does; no file says it.
    Model,
    /// Other values.
    Derived(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Key(path) => write!(f, "{path}"),
            Source::ClassDefault => write!(f, "class default"),
            Source::Model => write!(f, "the model type"),
            Source::Derived(from) => write!(f, "{from}"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Its name in this library.
    pub value: &'static str,
    /// The value as text.
    pub shown: String,
    /// Where it comes from.
    pub source: Source,
}

/// Values in the order in which they were decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Vec<Provenance>);

impl Trace {
    pub(crate) fn note(&mut self, value: &'static str, shown: String, source: Source) {
        self.0.push(Provenance { value, shown, source });
    }
}

/// Layers that are alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// The layer type, where the file has several.
    pub kind: Option<String>,
    /// Whether it attends: layers of linear attention, of convolutions and of recurrences do not, and have no positions.
    pub attends: bool,
    /// The dictionary of rotary settings that these layers read, where the file has one per layer type.
    pub dictionary: Option<String>,
    /// Widths.
    pub dims: Dims,
    /// What the layer does.
    pub spec: LayerSpec,
    /// The rotary positions that the file describes, also for layers that do not turn.
    pub described: Option<Rotary>,
    /// Where each value comes from.
    pub provenance: Vec<Provenance>,
}

impl LayerPlan {
    /// Where a value comes from, by its name in [`Provenance::value`].
    pub fn source(&self, value: &str) -> Option<&Source> {
        self.provenance.iter().find(|p| p.value == value).map(|p| &p.source)
    }
}

/// One stack of layers: a language model, a vision tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// Path of its object in the file; empty at the top.
    pub path: String,
    /// Its model type.
    pub model_type: String,
    /// `encoder` or `decoder`, where one object of the file describes both.
    pub stack: Option<&'static str>,
    /// What acts on the embeddings, once.
    pub embeddings: Encoding,
    /// Width of the embeddings, where it is not the layers' own: the model projects them after `embeddings` has acted (ALBERT, ELECTRA).
    pub embedding_dim: Option<usize>,
    /// How tokens are numbered before `embeddings` and the layers see their positions.
    pub numbering: Numbering,
    /// Where each value of `embeddings` and `numbering` comes from.
    pub provenance: Vec<Provenance>,
    /// The longest input that the file names.
    pub max_len: Option<usize>,
    /// Where that stands in the file.
    pub max_len_source: Option<Source>,
    /// Plans that differ. All that [`Part::layers`] counts, then those of dictionaries that no layer reads.
    pub plans: Vec<LayerPlan>,
    /// The plan of each layer, as an index. Empty where the file does not say how many layers there are.
    pub layers: Vec<usize>,
    /// What its positions also do and a list of layers does not say.
    pub note: &'static str,
}

impl Part {
    /// Where a value of the embeddings comes from, by its name in [`Provenance::value`].
    pub fn source(&self, value: &str) -> Option<&Source> {
        self.provenance.iter().find(|p| p.value == value).map(|p| &p.source)
    }

    /// The plan of a layer.
    pub fn layer(&self, index: usize) -> Option<&LayerPlan> {
        self.plans.get(*self.layers.get(index)?)
    }

    /// A list of what each layer does.
    pub fn specs(&self) -> Vec<&LayerSpec> {
        self.layers.iter().map(|plan| &self.plans[*plan].spec).collect()
    }
}

/// A model as its file describes it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Which code the file was written for.
    pub format: Format,
    /// The file's model type.
    pub model_type: String,
    /// Its stacks of layers; the language model first, where there is one.
    pub parts: Vec<Part>,
    /// Parts that were not read, by their paths, and why.
    pub left: Vec<(String, ConfigError)>,
    /// What was wrong and is no error in this mode.
    pub warnings: Vec<ConfigError>,
}
