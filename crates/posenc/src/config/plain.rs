//! Parts without rotary positions.

use super::error::Doubts;
use super::filled::Filled;
use super::json::Node;
use super::part::{DEEPEST, Reader};
use super::read::Found;
use super::registry::{self, Plain, Scores, Stack};
use super::said::Said;
use super::{ConfigError, LayerPlan, Mode, Part, Provenance, Source, Trace};
use crate::attention::{Attention, LayerSpec};
use crate::dims::Dims;
use crate::rotate::Rotary;
use serde_json::Map;

/// Keys of the width of the layers.
const WIDTHS: [&str; 6] = ["hidden_size", "d_model", "n_embd", "embed_dim", "emb_dim", "dim"];
/// Of the query heads.
const HEADS: [&str; 9] = [
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "attention_heads",
    "heads",
    "encoder_attention_heads",
    "encoder_num_attention_heads",
    "decoder_attention_heads",
];
const ENCODER_HEADS: [&str; 5] = [
    "encoder_attention_heads",
    "num_encoder_attention_heads",
    "encoder_num_attention_heads",
    "num_heads",
    "num_attention_heads",
];
const DECODER_HEADS: [&str; 5] = [
    "decoder_attention_heads",
    "num_decoder_attention_heads",
    "decoder_num_attention_heads",
    "num_heads",
    "num_attention_heads",
];
/// Of the number of layers.
const LAYERS: [&str; 7] = [
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "layers",
    "encoder_layers",
    "decoder_layers",
];
const ENCODER_LAYERS: [&str; 4] = ["encoder_layers", "num_encoder_layers", "num_layers", "num_hidden_layers"];
const DECODER_LAYERS: [&str; 4] = ["decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers"];
/// Of the width of a head.
const HEAD_DIMS: [&str; 6] = [
    "d_kv",
    "head_dim",
    "d_head",
    "dim_head",
    "attention_head_size",
    "attention_head_dim",
];

impl Found {
    /// Reads the stacks of a model type; those that are not expressed are listed, unless none is.
    pub fn plain(&mut self, node: &Node<'_>, model: &'static Plain, depth: usize) -> Result<(), ConfigError> {
        let filled = Filled::new(node, model.name);
        for conflict in &filled.conflicts {
            self.doubts.complain(conflict.clone())?;
        }
        self.dropped(&filled, model)?;
        let described = unturned(node, model);
        let mut read = 0;
        let mut left = Vec::new();
        for stack in model.stacks.iter().flatten() {
            if !stack.left.is_empty() {
                let name = stack.name.unwrap_or_default();
                left.push((
                    if node.path.is_empty() {
                        name.to_string()
                    } else {
                        format!("{}.{name}", node.path)
                    },
                    ConfigError::NotExpressed {
                        model_type: model.name.into(),
                        reason: stack.left,
                    },
                ));
                continue;
            }
            let mut part = filled.part(model, stack)?;
            if stack.name.is_none_or(|name| name == "speech_encoder") {
                for plan in &mut part.plans {
                    let Some((rotary, provenance)) = &described else { break };
                    plan.described = Some(rotary.clone());
                    let new = provenance
                        .iter()
                        .filter(|new| plan.provenance.iter().all(|old| old.value != new.value));
                    let new: Vec<Provenance> = new.cloned().collect();
                    plan.provenance.extend(new);
                }
            }
            self.parts.push(part);
            read += 1;
        }
        if read == 0
            && let Some((_, error)) = left.pop()
        {
            return Err(error);
        }
        self.left.extend(left);
        for (key, implied) in model.inner {
            match self.inner(node, key, implied, depth) {
                Err(error) if self.may_be_left(&error) => self.left.push((node.path(key), error)),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Positions that the class once had and no longer has.
    fn dropped(&mut self, filled: &Filled, model: &Plain) -> Result<(), ConfigError> {
        let key = "position_embedding_type";
        let about = |stack: &Stack| stack.embeds.reads(key) || stack.scores.reads(key);
        let reads = model.when.is_some_and(|(of, ..)| of == key) || model.stacks.iter().flatten().any(about);
        let node = filled.node();
        let mpt = model.stacks.iter().flatten().any(|stack| matches!(stack.scores, Scores::Mpt));
        if let Some(inner) = node.object("attn_config")?.filter(|_| mpt)
            && inner.flag("alibi")? == Some(false)
        {
            return self.doubts.complain(ConfigError::Wrong {
                key: inner.path("alibi"),
                given: "false".into(),
                expected: "true: the class has no learned table and adds ALiBi whatever this says; lenient mode reads it as the class does",
            });
        }
        match node.text(key)? {
            Some(kind) if kind.starts_with("relative") && !reads => self.doubts.complain(filled.wrong(
                key,
                format!("\"{kind}\""),
                "\"absolute\": the class no longer has relative positions, and the checkpoint was trained with them; lenient mode reads its table as the class does",
            )),
            _ => Ok(()),
        }
    }
}

/// The rotary positions that a file describes whose layers do not turn, where its class can also turn, and where they come from.
fn unturned(node: &Node<'_>, model: &Plain) -> Option<(Rotary, Vec<Provenance>)> {
    let turning = registry::find(model.name)?;
    let reader = Reader {
        model: turning,
        doubts: &mut Doubts::new(Mode::Lenient),
        said: Said::over(node, turning, registry::defaults(turning.name), Map::new()),
    };
    let part = reader.part(node).ok()?;
    let plan = part.plans.into_iter().next()?;
    Some((plan.described?, plan.provenance))
}

impl Filled {
    fn part(&self, model: &Plain, stack: &Stack) -> Result<Part, ConfigError> {
        let [width_key, heads_key, layers_key] = self.size_keys(stack);
        let mut trace = Trace::default();
        let width = match width_key {
            Some(key) => Some(self.needed(key, "the width of the model")?),
            None => None,
        };
        let narrow = match stack.narrow {
            Some(key) => match self.node().size(key)? {
                Some(narrow) if Some(narrow) != width => {
                    trace.note("embedding_dim", narrow.to_string(), self.source(key));
                    Some(narrow)
                }
                _ => None,
            },
            None => None,
        };
        let embedded = self.embedded(&stack.embeds, narrow.or(width).unwrap_or(1), stack.count, &mut trace)?;
        let (max_len, max_len_source) = match embedded.max_len {
            Some(len) => {
                let said = trace.0.iter().find(|value| ["max_len", "rows"].contains(&value.value));
                (Some(len), said.map(|value| value.source.clone()))
            }
            None => match self.first(&["max_position_embeddings", "n_positions", "max_seq_len", "seq_length"]) {
                Some(key) => (self.node().size(key)?, Some(self.source(key))),
                None => (None, None),
            },
        };
        let mut part = Part {
            path: self.node().path,
            model_type: model.name.into(),
            stack: stack.name,
            embeddings: embedded.encoding,
            embedding_dim: narrow,
            numbering: embedded.numbering,
            provenance: trace.0,
            max_len,
            max_len_source,
            plans: Vec::new(),
            layers: Vec::new(),
            note: model.note,
        };
        // Convolutions and state spaces have no heads.
        let (Some(width_key), Some(heads_key)) = (width_key, heads_key) else {
            return Ok(part);
        };
        if self.node().find(heads_key).is_some_and(serde_json::Value::is_array) {
            return Ok(part);
        }
        let count = match layers_key {
            Some(key) => self.node().size(key)?.unwrap_or(0),
            None => self.listed()?,
        };
        if count > DEEPEST {
            return Err(ConfigError::TooMany {
                what: "layers",
                given: count,
                limit: DEEPEST,
            });
        }
        for layer in 0..count.max(1) {
            let plan = self.layer(model, stack, [width_key, heads_key], layer)?;
            let index = match part.plans.iter().position(|known| *known == plan) {
                Some(index) => index,
                None => {
                    part.plans.push(plan);
                    part.plans.len() - 1
                }
            };
            if layer < count {
                part.layers.push(index);
            }
        }
        Ok(part)
    }

    /// How many layers a file lists that does not count them.
    fn listed(&self) -> Result<usize, ConfigError> {
        for key in ["layer_types", "layers_block_type"] {
            if let Some(list) = self.node().list(key)? {
                return Ok(list.len());
            }
        }
        Ok(self.node().text("hybrid_override_pattern")?.map_or(0, str::len))
    }

    /// The keys of width, heads and layers.
    fn size_keys(&self, stack: &Stack) -> [Option<&'static str>; 3] {
        let (heads, layers): (&[&'static str], &[&'static str]) = match stack.name {
            Some("encoder") => (&ENCODER_HEADS, &ENCODER_LAYERS),
            Some("decoder") => (&DECODER_HEADS, &DECODER_LAYERS),
            _ => (&HEADS, &LAYERS),
        };
        let [width, own_heads, own_layers] = stack.sizes;
        [
            width.or_else(|| self.first(&WIDTHS)),
            own_heads.or_else(|| self.first(heads)),
            own_layers.or_else(|| self.first(layers)),
        ]
    }

    fn layer(&self, model: &Plain, stack: &Stack, keys: [&'static str; 2], layer: usize) -> Result<LayerPlan, ConfigError> {
        let mut trace = Trace::default();
        let dims = self.dims(keys, &mut trace)?;
        let (encoding, scale) = self.scored(model.name, &stack.scores, stack, dims, &mut trace)?;
        let (mut attention, kind) = self.attention(stack, layer, dims, &mut trace)?;
        if let Some(scale) = scale {
            attention.scale = Some(scale);
            trace.0.retain(|known| known.value != "scale");
            trace.note("scale", scale.to_string(), Source::Derived("1 / √(head_dim · (1 + terms))".into()));
        }
        encoding.plan(dims).map_err(|error| self.setting(error))?;
        let attends = kind.as_deref().is_none_or(super::part::attends);
        if !attends {
            attention = Attention::default();
            trace.0.retain(|known| known.value != "scale");
        }
        Ok(LayerPlan {
            attends,
            kind,
            dictionary: None,
            dims,
            spec: LayerSpec { encoding, attention },
            described: None,
            provenance: trace.0,
        })
    }

    fn dims(&self, [width_key, heads_key]: [&'static str; 2], trace: &mut Trace) -> Result<Dims, ConfigError> {
        let node = self.node();
        let model_dim = self.needed(width_key, "the width of the model")?;
        let heads = self.needed(heads_key, "the widths of heads")?;
        if heads == 0 {
            return Err(self.wrong(heads_key, "0".into(), "at least one head"));
        }
        let latent = ["qk_nope_head_dim", "qk_rope_head_dim"];
        let (head_dim, source) = match self.first(&HEAD_DIMS) {
            _ if latent.iter().all(|key| node.find(key).is_some()) => {
                let [a, b] = [
                    self.needed(latent[0], "the width of a head")?,
                    self.needed(latent[1], "the width of a head")?,
                ];
                (a.saturating_add(b), Source::Derived("qk_nope_head_dim + qk_rope_head_dim".into()))
            }
            Some(key) => (self.needed(key, "the width of a head")?, self.source(key)),
            None => {
                if !model_dim.is_multiple_of(heads) {
                    return Err(self.wrong(heads_key, heads.to_string(), "a divisor of the model's width"));
                }
                let derived = format!("{} / {}", self.path(width_key), self.path(heads_key));
                (model_dim / heads, Source::Derived(derived))
            }
        };
        trace.note("head_dim", head_dim.to_string(), source);
        trace.note("heads", heads.to_string(), self.source(heads_key));
        let multi_query = node.flag("multi_query")?.unwrap_or(false);
        let new = node.flag("new_decoder_architecture")?.unwrap_or(false);
        let kv_key = self.first(&["num_key_value_heads", "num_kv_heads"]).filter(|_| new || !multi_query);
        let (kv_heads, source) = match kv_key {
            _ if multi_query && !new => (1, self.source("multi_query")),
            Some(key) if self.says(key) || !self.says(heads_key) => (self.needed(key, "the heads of keys")?, self.source(key)),
            _ => (heads, Source::Derived(format!("{}: no key heads", self.path(heads_key)))),
        };
        trace.note("kv_heads", kv_heads.to_string(), source);
        Dims {
            model_dim,
            heads,
            kv_heads,
            head_dim,
        }
        .checked()
        .map_err(|error| self.setting(error))
    }
}
