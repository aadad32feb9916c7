//! From a file to its parts, and from a part to its layers.

use super::json::{self, Node, shown};
use super::registry::{self, Model};
use super::rope::Dictionary;
use super::{ConfigError, LayerPlan, Mode, ModelConfig, Numbering, Part, Source, Trace};
use crate::attention::{Attention, LayerSpec, Window};
use crate::dims::Dims;
use crate::encoding::Encoding;
use serde_json::{Map, Value};

/// Layers that are read: several times the deepest model's.
pub(super) const DEEPEST: usize = 4096;

/// Keys of the number of layers, in the order in which they are looked for.
const LAYERS: [&str; 9] = [
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "depth",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
    "memory_attention_num_layers",
];
/// Of the query heads.
const HEADS: [&str; 8] = [
    "num_attention_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "decoder_num_attention_heads",
    "encoder_num_attention_heads",
    "speech_encoder_attention_heads",
    "encoder_attention_heads",
];
/// Of the width of the residual stream.
const WIDTHS: [&str; 5] = ["hidden_size", "n_embd", "d_model", "embed_dim", "dim"];
/// Of the key heads.
const KEY_HEADS: [&str; 3] = ["num_key_value_heads", "num_kv_heads", "n_head_kv"];
/// Of the longest input.
const LENGTHS: [&str; 6] = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
];
/// Parts of files whose model type is not known, where a language model may stand.
const LANGUAGE: [&str; 4] = ["text_config", "llm_config", "language_config", "thinker_config"];

/// Reads a configuration file.
///
/// # Errors
/// Not JSON; a model type that is not known; what is needed is missing or of another kind; settings outside their range. In strict mode also contradictions and rotary settings without a meaning.
pub fn read(bytes: &[u8], mode: Mode) -> Result<ModelConfig, ConfigError> {
    let map = json::object(bytes)?;
    let top = Node {
        map: &map,
        path: String::new(),
    };
    let model_type = top.text("model_type")?.unwrap_or_default().to_string();
    let mut found = Found {
        mode,
        parts: Vec::new(),
        left: Vec::new(),
        warnings: Vec::new(),
    };
    found.node(&top, None, 0)?;
    Ok(ModelConfig {
        model_type,
        parts: found.parts,
        left: found.left,
        warnings: found.warnings,
    })
}

/// Model types that are read, in the order of their names, each with what its layers do with positions, in a few words, or with the reason why they are not read.
pub fn known() -> Vec<(&'static str, Result<String, &'static str>)> {
    let mut all: Vec<(&'static str, Result<String, &'static str>)> = registry::models().map(|m| (m.name, Ok(m.summary()))).collect();
    let parts = |parts: &[(&str, &str)]| {
        let one = |(key, of): &(&str, &str)| match of.is_empty() {
            true => format!("`{key}`"),
            false => format!("`{key}` ({of})"),
        };
        parts.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    all.extend(
        registry::PARTS
            .iter()
            .map(|(name, of)| (*name, Ok(format!("parts: {}", parts(of))))),
    );
    all.extend(registry::UNEXPRESSED.iter().map(|(name, reason)| (*name, Err(*reason))));
    all.sort_by_key(|(name, _)| *name);
    all
}

struct Found {
    mode: Mode,
    parts: Vec<Part>,
    left: Vec<(String, ConfigError)>,
    warnings: Vec<ConfigError>,
}

impl Found {
    /// Reads an object whose model type is its own, or else `implied`.
    fn node(&mut self, node: &Node<'_>, implied: Option<&str>, depth: usize) -> Result<(), ConfigError> {
        let own = node.text("model_type")?.filter(|own| !own.is_empty());
        let Some(model_type) = own.or(implied) else {
            return Err(ConfigError::Missing {
                key: node.path("model_type"),
                needed_for: "what the model's class leaves unsaid",
            });
        };
        if let Some((_, parts)) = registry::PARTS.iter().find(|(name, _)| *name == model_type) {
            return self.composite(node, parts, depth);
        }
        if let Some(model) = registry::find(model_type) {
            let mut reader = Reader {
                model,
                mode: self.mode,
                warnings: &mut self.warnings,
            };
            let part = reader.part(node)?;
            self.parts.push(part);
            return Ok(());
        }
        if let Some((_, reason)) = registry::UNEXPRESSED.iter().find(|(name, _)| *name == model_type) {
            return Err(ConfigError::NotExpressed {
                model_type: model_type.into(),
                reason,
            });
        }
        // A wrapper that is not known around a language model that says what it is.
        for key in LANGUAGE {
            if let Some(inner) = node.object(key)?
                && depth < 4
                && (inner.find("model_type").is_some() || LANGUAGE.iter().any(|key| inner.find(key).is_some()))
            {
                self.warnings.push(ConfigError::UnknownModel {
                    model_type: model_type.into(),
                    nearest: registry::nearest(model_type),
                });
                return self.node(&inner, None, depth + 1);
            }
        }
        Err(ConfigError::UnknownModel {
            model_type: model_type.into(),
            nearest: registry::nearest(model_type),
        })
    }

    /// The first part is the model; what is wrong with another is listed.
    fn composite(&mut self, node: &Node<'_>, parts: &[(&'static str, &'static str)], depth: usize) -> Result<(), ConfigError> {
        if depth >= 4 {
            return Err(ConfigError::TooMany {
                what: "models within models",
                given: depth + 1,
                limit: 4,
            });
        }
        for (index, (key, implied)) in parts.iter().enumerate() {
            let implied = Some(*implied).filter(|implied| !implied.is_empty());
            let outcome = match node.object(key)? {
                Some(inner) => self.node(&inner, implied, depth + 1),
                // Older files have the language model's keys at the top.
                None if index == 0 && node.first(&WIDTHS).is_some() => {
                    let Some(model) = implied.and_then(registry::find) else {
                        return Err(ConfigError::Missing {
                            key: node.path(key),
                            needed_for: "the language model",
                        });
                    };
                    let mut reader = Reader {
                        model,
                        mode: self.mode,
                        warnings: &mut self.warnings,
                    };
                    reader.part(node).map(|part| self.parts.push(part))
                }
                None => Err(ConfigError::Missing {
                    key: node.path(key),
                    needed_for: "this part of the model",
                }),
            };
            match outcome {
                Ok(()) => {}
                Err(error @ (ConfigError::UnknownModel { .. } | ConfigError::NotExpressed { .. } | ConfigError::Missing { .. }))
                    if index > 0 =>
                {
                    self.left.push((node.path(key), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads one stack of layers.
pub(super) struct Reader<'w> {
    pub model: &'static Model,
    pub mode: Mode,
    pub warnings: &'w mut Vec<ConfigError>,
}

impl Reader<'_> {
    /// An error in strict mode, else a warning.
    pub fn complain(&mut self, wrong: ConfigError) -> Result<(), ConfigError> {
        match self.mode {
            Mode::Strict => Err(wrong),
            Mode::Lenient => {
                if !self.warnings.contains(&wrong) {
                    self.warnings.push(wrong);
                }
                Ok(())
            }
        }
    }

    pub fn max_len(&self, node: &Node<'_>) -> Result<Option<usize>, ConfigError> {
        node.first(&LENGTHS).map_or(Ok(None), |key| node.size(key))
    }

    pub fn width_key(&self, node: &Node<'_>) -> Result<&'static str, ConfigError> {
        node.first(&WIDTHS).ok_or_else(|| ConfigError::Missing {
            key: node.path(WIDTHS[0]),
            needed_for: "the width of a head",
        })
    }

    pub fn heads_key(&self, node: &Node<'_>) -> Result<&'static str, ConfigError> {
        node.first(&HEADS).ok_or_else(|| ConfigError::Missing {
            key: node.path(HEADS[0]),
            needed_for: "the width of a head",
        })
    }

    fn part(&mut self, node: &Node<'_>) -> Result<Part, ConfigError> {
        if let Some((key, setting, reason)) = self.model.refuses
            && node.find(key).is_some_and(|value| setting.is(value))
        {
            return Err(ConfigError::NotExpressed {
                model_type: self.model.name.into(),
                reason,
            });
        }
        let count = match node.first(&LAYERS) {
            Some(key) => node.size(key)?,
            None => None,
        };
        let types = self.layer_types(node, count)?;
        let count = count.or(types.as_ref().map(Vec::len));
        if let Some(given) = count.filter(|count| *count > DEEPEST) {
            return Err(ConfigError::TooMany {
                what: "layers",
                given,
                limit: DEEPEST,
            });
        }
        let dictionaries = self.dictionaries(node)?;
        let mut part = Part {
            path: node.path.clone(),
            model_type: self.model.name.into(),
            stack: None,
            embeddings: Encoding::none(),
            embedding_dim: None,
            numbering: Numbering::Order,
            provenance: Vec::new(),
            max_len: self.max_len(node)?,
            max_len_source: node.first(&LENGTHS).map(|key| Source::Key(node.path(key))),
            plans: Vec::new(),
            layers: Vec::new(),
            note: self.model.note,
        };
        let mut add = |plan: LayerPlan| match part.plans.iter().position(|known| *known == plan) {
            Some(index) => index,
            None => {
                part.plans.push(plan);
                part.plans.len() - 1
            }
        };
        let mut layers = Vec::new();
        let seen: Vec<Option<&str>> = types.iter().flatten().map(|kind| self.label_of(kind)).collect();
        for layer in 0..count.unwrap_or(0) {
            let kind = types.as_ref().and_then(|types| types.get(layer)).map(String::as_str);
            layers.push(add(self.layer(node, &dictionaries, kind, None, layer)?));
        }
        // Dictionaries that no layer read, and files that do not say how many layers there are.
        for dictionary in &dictionaries {
            let label = dictionary.label.as_deref();
            let read = !layers.is_empty() && (label.is_none() || seen.contains(&label));
            if read {
                continue;
            }
            let kind = types.as_ref().and_then(|types| {
                types
                    .iter()
                    .find(|kind| self.label_of(kind) == label || Some(kind.as_str()) == label)
            });
            add(self.layer(node, &dictionaries, kind.map(String::as_str).or(label), label, 0)?);
        }
        part.layers = layers;
        Ok(part)
    }

    /// The label of the dictionary that layers of this type read.
    fn label_of<'k>(&self, kind: &'k str) -> Option<&'k str> {
        Some((self.model.label)(kind).unwrap_or(kind))
    }

    /// Every dictionary of rotary settings: one, or one per label. A label whose dictionary is `null` is not in the list.
    fn dictionaries<'f>(&mut self, node: &Node<'f>) -> Result<Vec<Dictionary<'f>>, ConfigError> {
        let (new, old) = (node.object("rope_parameters")?, node.object("rope_scaling")?);
        // An empty object says nothing.
        let (new, old) = (new.filter(|n| !n.map.is_empty()), old.filter(|o| !o.map.is_empty()));
        if let (Some(new), Some(old)) = (&new, &old)
            && new.map != old.map
        {
            self.complain(ConfigError::Conflict {
                first: (new.path.clone(), shown(&Value::Object(new.map.clone()))),
                second: (old.path.clone(), shown(&Value::Object(old.map.clone()))),
                taken: old.path.clone(),
            })?;
        }
        let given = old.or(new);
        let default: Option<Map<String, Value>> = match self.model.dictionary {
            "" => None,
            text => serde_json::from_str(text).ok(),
        };
        let nested = |map: &Map<String, Value>| !map.is_empty() && map.values().all(|value| value.is_object() || value.is_null());
        let nested_default = default.as_ref().filter(|map| nested(map));
        let old_theta = |label: &str| self.model.old_theta.iter().find(|(of, _)| *of == label).map(|(_, key)| *key);
        let entry = |map: &Map<String, Value>, label: &str| map.get(label).and_then(Value::as_object).cloned();

        match (given, nested_default) {
            (Some(given), default) if nested(given.map) => {
                let mut all = Vec::new();
                for label in given.map.keys() {
                    let Some(inner) = given.object(label)? else { continue };
                    all.push(Dictionary {
                        given: Some(inner),
                        default: default.and_then(|map| entry(map, label)),
                        label: Some(label.clone()),
                        old_theta: None,
                        nested: true,
                    });
                }
                Ok(all)
            }
            // One dictionary, or none, for a model that has one per layer type: older files.
            (given, Some(default)) => {
                let mut all = Vec::new();
                for (label, value) in default {
                    let scaled = self.model.flat_scales.is_empty() || self.model.flat_scales.contains(&label.as_str());
                    let Some(own) = value.as_object() else { continue };
                    all.push(Dictionary {
                        given: given.clone().filter(|_| scaled),
                        default: Some(own.clone()),
                        label: Some(label.clone()),
                        old_theta: old_theta(label),
                        nested: true,
                    });
                }
                Ok(all)
            }
            (given, None) => Ok(vec![Dictionary {
                given,
                default,
                ..Dictionary::default()
            }]),
        }
    }

    /// A layer of this type, or of this label where no layer reads it.
    fn layer(
        &mut self,
        node: &Node<'_>,
        dictionaries: &[Dictionary<'_>],
        kind: Option<&str>,
        label: Option<&str>,
        layer: usize,
    ) -> Result<LayerPlan, ConfigError> {
        // What a layer has of its own stands above what all have.
        let own = match node.object("per_layer_config")? {
            Some(per_layer) if label.is_none() => per_layer.map.get(&format!("{layer:02}")).or(per_layer.map.get(&layer.to_string())),
            // Any layer of the type that reads the label.
            Some(per_layer) => self.first_of(node, label).and_then(|i| per_layer.map.get(&format!("{i:02}"))),
            None => None,
        };
        let merged = own.and_then(Value::as_object).map(|own| {
            let mut map = node.map.clone();
            map.extend(own.clone());
            map
        });
        let node = &Node {
            map: merged.as_ref().unwrap_or(node.map),
            path: node.path.clone(),
        };
        let mut trace = Trace::default();
        let wanted = label.or(kind.and_then(|kind| self.label_of(kind)));
        let dictionary = match dictionaries {
            [one] if one.label.is_none() => Some(one),
            several => several.iter().find(|d| d.label.as_deref() == wanted),
        };
        let turned = dictionary.map(|d| self.turned(node, d, layer, &mut trace)).transpose()?;
        let turns = turned.is_some() && self.turns(node, kind, layer, &mut trace)?;

        let head_dim = match &turned {
            Some(turned) => turned.head_dim,
            None => {
                let (head_dim, source) = self.head_dim(node)?;
                trace.note("head_dim", head_dim.to_string(), source);
                head_dim
            }
        };
        let dims = self.dims(node, head_dim, &mut trace)?;
        let mut attention = self.attention(node, kind, head_dim, &mut trace)?;
        if let Some(factor) = turned.as_ref().and_then(|turned| turned.softmax_factor) {
            attention.scale = Some(attention.scale_for(head_dim) * factor);
        }
        let described = turned.map(|turned| turned.rotary);
        let encoding = match (&described, turns) {
            (Some(rotary), true) => Encoding::from(rotary.clone()),
            _ => Encoding::none(),
        };
        // Nothing is handed out that a plan would refuse.
        if let Some(rotary) = &described {
            Encoding::from(rotary.clone()).plan(dims).map_err(|error| ConfigError::Setting {
                path: node.path.clone(),
                error,
            })?;
        }
        Ok(LayerPlan {
            kind: kind.map(String::from),
            dictionary: dictionary.and_then(|d| d.label.clone()),
            dims,
            spec: LayerSpec { encoding, attention },
            described,
            provenance: trace.0,
        })
    }

    /// The first layer that reads a label.
    fn first_of(&self, node: &Node<'_>, label: Option<&str>) -> Option<usize> {
        let types = node.find("layer_types")?.as_array()?;
        types
            .iter()
            .position(|kind| kind.as_str().and_then(|kind| self.label_of(kind)) == label)
    }

    fn dims(&self, node: &Node<'_>, head_dim: usize, trace: &mut Trace) -> Result<Dims, ConfigError> {
        let heads_key = match self.model.head {
            registry::Head::Over(_, heads) => heads,
            _ => self.heads_key(node)?,
        };
        let width_key = match self.model.head {
            registry::Head::Over(width, _) => width,
            _ => self.width_key(node)?,
        };
        let missing = |key| ConfigError::Missing {
            key: node.path(key),
            needed_for: "the widths of the model",
        };
        let heads = node.size(heads_key)?.ok_or_else(|| missing(heads_key))?;
        let model_dim = node.size(width_key)?.ok_or_else(|| missing(width_key))?;
        trace.note("heads", heads.to_string(), Source::Key(node.path(heads_key)));
        let kv_heads = match node.first(&KEY_HEADS) {
            Some(key) => {
                let given = node.size(key)?.unwrap_or(heads);
                trace.note("kv_heads", given.to_string(), Source::Key(node.path(key)));
                given
            }
            None => {
                trace.note(
                    "kv_heads",
                    heads.to_string(),
                    Source::Derived(format!("{}: no key heads", node.path(heads_key))),
                );
                heads
            }
        };
        Dims {
            model_dim,
            heads,
            kv_heads,
            head_dim,
        }
        .checked()
        .map_err(|error| ConfigError::Setting {
            path: node.path.clone(),
            error,
        })
    }

    fn attention(&self, node: &Node<'_>, kind: Option<&str>, head_dim: usize, trace: &mut Trace) -> Result<Attention, ConfigError> {
        let mut attention = Attention {
            sinks: self.model.sinks,
            ..Attention::default()
        };
        if let Some(scalar) = node.number("query_pre_attn_scalar")? {
            attention.scale = Some(1.0 / scalar.sqrt());
            trace.note("scale", format!("1/√{scalar}"), Source::Key(node.path("query_pre_attn_scalar")));
        } else if let Some(scale) = node.number("attention_multiplier")? {
            attention.scale = Some(scale);
            trace.note("scale", scale.to_string(), Source::Key(node.path("attention_multiplier")));
        } else {
            trace.note("scale", format!("1/√{head_dim}"), Source::Derived("1 / √head_dim".into()));
        }
        if let Some(cap) = node.number("attn_logit_softcapping")? {
            attention.softcap = Some(cap);
            trace.note("softcap", cap.to_string(), Source::Key(node.path("attn_logit_softcapping")));
        }
        if kind.is_some_and(|kind| kind.contains("sliding")) {
            let setting = |error| ConfigError::Setting {
                path: node.path("sliding_window"),
                error,
            };
            if let Some(keys) = node.size("sliding_window")? {
                attention.window = Some(Window::last(keys).map_err(setting)?);
                trace.note("window", format!("the last {keys} keys"), Source::Key(node.path("sliding_window")));
            } else if let Some(keys) = node.size("local_attention")? {
                let side = Some(keys / 2);
                attention.window = Some(Window { left: side, right: side });
                trace.note(
                    "window",
                    format!("{} keys on each side", keys / 2),
                    Source::Key(node.path("local_attention")),
                );
            }
        }
        attention.check().map_err(|error| ConfigError::Setting {
            path: node.path.clone(),
            error,
        })?;
        Ok(attention)
    }
}
