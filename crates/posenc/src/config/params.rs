//! `params.json`: the files beside the weights that Meta and Mistral publish themselves.
//!
//! Both name the width `dim` and count `n_layers` and `n_heads`; both kinds of weights have pairs of neighbours. Which one a file is only decides what is assumed where it is silent. A file is of this kind if it has these three keys and no
//! model type of transformers; and then
//! - Mistral's, if it has a key that only Mistral's code reads ([`MISTRAL`]);
//! - Meta's, if it has one that only Meta's reads ([`META`]);
//! - with keys of both, a contradiction: an error, and Mistral's in lenient mode;
//! - with keys of neither, both say the same, if the file has a base; without one it is an error, because their defaults differ.

mod meta;
mod mistral;

use super::error::Doubts;
use super::json::Node;
use super::{ConfigError, Format, Mode, ModelConfig, Part, Source, Trace};
use crate::attention::Attention;
use crate::dims::Dims;
use crate::encoding::Encoding;
use serde_json::{Map, Value};

/// Keys of Mistral's alone, those that every file has first.
const MISTRAL: [&str; 12] = [
    "hidden_dim",
    "sliding_window",
    "_sliding_window",
    "yarn",
    "llama_4_scaling",
    "moe",
    "vision_encoder",
    "multimodal",
    "max_position_embeddings",
    "tied_embeddings",
    "qk_rope_head_dim",
    "causal",
];
/// Keys of Meta's alone.
const META: [&str; 14] = [
    "multiple_of",
    "ffn_dim_multiplier",
    "use_scaled_rope",
    "rope_scaling_factor",
    "rope_high_freq_factor",
    "nope_layer_interval",
    "attention_chunk_size",
    "attn_temperature_tuning",
    "use_qk_norm",
    "moe_args",
    "vision_args",
    "vision_chunk_size",
    "ffn_exp",
    "quantization_args",
];

/// Whether an object is of this kind.
pub(super) fn is(map: &Map<String, Value>) -> bool {
    let foreign = match map.get("model_type") {
        // What Mistral's own files may say.
        None | Some(Value::Null) => false,
        Some(given) => given.as_str() != Some("transformer"),
    };
    let has = |key: &str| map.get(key).is_some_and(|value| !value.is_null());
    !foreign && ["dim", "n_layers", "n_heads"].into_iter().all(has) && !has("hidden_size") && !has("architectures")
}

pub(super) fn read(top: &Node<'_>, mode: Mode) -> Result<ModelConfig, ConfigError> {
    let mut file = File {
        top,
        left: Vec::new(),
        doubts: Doubts::new(mode),
    };
    let (mistral, meta) = (top.first(&MISTRAL), top.first(&META));
    let said = |key: &str| (key.to_string(), "there".to_string());
    let (format, parts) = match (mistral, meta) {
        (Some(ours), Some(theirs)) => {
            file.doubts.complain(ConfigError::Conflict {
                first: (format!("{ours}, which only Mistral's files have,"), "there".into()),
                second: said(&format!("{theirs}, which only Meta's have,")),
                taken: "Mistral's defaults".into(),
            })?;
            (Format::Mistral, file.mistral()?)
        }
        (Some(_), None) => (Format::Mistral, file.mistral()?),
        (None, Some(_)) => (Format::Meta, file.meta()?),
        (None, None) => {
            if top.number("rope_theta")?.is_none() {
                return Err(ConfigError::Missing {
                    key: "rope_theta".into(),
                    needed_for: "the base, whose default differs between Meta's and Mistral's code, and no other key tells whose file this is (hidden_dim: Mistral's; multiple_of: Meta's)",
                });
            }
            (Format::Meta, file.meta()?)
        }
    };
    Ok(ModelConfig {
        format,
        model_type: parts.first().map(|part| part.model_type.clone()).unwrap_or_default(),
        parts,
        left: file.left,
        warnings: file.doubts.warnings,
    })
}

struct File<'f> {
    top: &'f Node<'f>,
    left: Vec<(String, ConfigError)>,
    doubts: Doubts,
}

impl File<'_> {
    fn needed(&self, key: &str, what: &'static str) -> Result<usize, ConfigError> {
        self.top.size(key)?.ok_or_else(|| ConfigError::Missing {
            key: self.top.path(key),
            needed_for: what,
        })
    }

    /// Widths, of heads as wide as this where it is given.
    fn dims(&self, head_dim: Option<(usize, Source)>, trace: &mut Trace) -> Result<Dims, ConfigError> {
        let width = self.needed("dim", "the widths of the model")?;
        let heads = self.needed("n_heads", "the widths of the model")?;
        trace.note("heads", heads.to_string(), Source::Key("n_heads".into()));
        let (kv_heads, source) = match self.top.size("n_kv_heads")? {
            Some(given) => (given, Source::Key("n_kv_heads".into())),
            None => (heads, Source::Derived("n_heads: no n_kv_heads".into())),
        };
        trace.note("kv_heads", kv_heads.to_string(), source);
        let (head_dim, source) = match head_dim {
            Some(given) => given,
            None => (width.checked_div(heads).unwrap_or(0), Source::Derived("dim / n_heads".into())),
        };
        trace.note("head_dim", head_dim.to_string(), source);
        Ok(Dims {
            model_dim: width,
            heads,
            kv_heads,
            head_dim,
        })
    }

    /// `rope_theta`, or the code's default for this file.
    fn base(&self, default: f64, trace: &mut Trace) -> Result<f64, ConfigError> {
        let (base, source) = match self.top.number("rope_theta")? {
            Some(base) => (base, Source::Key(self.top.path("rope_theta"))),
            None => (default, Source::ClassDefault),
        };
        if !(base.is_finite() && base > 0.0) {
            return Err(ConfigError::Wrong {
                key: self.top.path("rope_theta"),
                given: base.to_string(),
                expected: "a positive number",
            });
        }
        trace.note("base", base.to_string(), source);
        Ok(base)
    }
}

/// What both files leave to the weights.
fn note_pairs(trace: &mut Trace) {
    trace.note("pairing", "Interleaved".into(), Source::Model);
    trace.note("precision", "f32 angles, as the model was trained".into(), Source::Model);
}

/// Layers without another bias or scale.
fn plain(head_dim: usize, trace: &mut Trace) -> (Encoding, Attention) {
    trace.note("scale", format!("1/√{head_dim}"), Source::Derived("1 / √head_dim".into()));
    (Encoding::none(), Attention::default())
}

type Parts = Vec<Part>;
