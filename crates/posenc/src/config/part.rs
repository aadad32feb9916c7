//! From a part of a file to its layers.

use super::error::Doubts;
use super::json::{Node, shown};
use super::registry::Model;
use super::rope::Dictionary;
use super::said::{Entry, Said, class_dictionary};
use super::{ConfigError, LayerPlan, Numbering, Part, Source, Trace};
use crate::attention::{Attention, LayerSpec};
use crate::encoding::Encoding;
use serde_json::{Map, Value};

/// Layers that are read: several times the deepest model's.
pub(super) const DEEPEST: usize = 4096;

/// Keys of the number of layers, in the order in which they are looked for.
const LAYERS: [&str; 11] = [
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "depth",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
    "memory_attention_num_layers",
    "num_attention_layers",
    "decoder_num_hidden_layers",
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
pub(super) const WIDTHS: [&str; 5] = ["hidden_size", "n_embd", "d_model", "embed_dim", "dim"];
/// Of the key heads.
pub(super) const KEY_HEADS: [&str; 4] = ["num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads"];
/// Of the longest input.
const LENGTHS: [&str; 6] = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
];
/// Keys that change what layers do and that are not read, with what lenient mode reads.
const UNREAD: [(&str, &str); 3] = [
    (
        "dual_chunk_attention_config",
        "engines that read it number positions anew past its chunks; lenient mode reads what transformers does, which ignores it",
    ),
    (
        "use_dynamic_ntk",
        "a base that grows with the text, by code beside the file; lenient mode reads the file without it",
    ),
    (
        "use_logn_attn",
        "a temperature that grows with the text, by code beside the file; lenient mode reads the file without it",
    ),
];

/// Reads one stack of layers.
pub(super) struct Reader<'w> {
    pub model: &'static Model,
    pub doubts: &'w mut Doubts,
    /// What the file and the class say.
    pub said: Said,
}

impl Reader<'_> {
    pub fn max_len(&self, node: &Node<'_>) -> Result<Option<usize>, ConfigError> {
        self.said.first(node, &LENGTHS).map_or(Ok(None), |key| node.size(key))
    }

    pub fn width_key(&self, node: &Node<'_>) -> Result<&'static str, ConfigError> {
        self.said.first(node, &WIDTHS).ok_or_else(|| ConfigError::Missing {
            key: node.path(WIDTHS[0]),
            needed_for: "the width of a head",
        })
    }

    pub fn heads_key(&self, node: &Node<'_>) -> Result<&'static str, ConfigError> {
        self.said.first(node, &HEADS).ok_or_else(|| ConfigError::Missing {
            key: node.path(HEADS[0]),
            needed_for: "the width of a head",
        })
    }

    /// What is said, as an object of the file.
    fn whole<'m>(map: &'m Map<String, Value>, file: &Node<'_>) -> Node<'m> {
        Node {
            map,
            path: file.path.clone(),
        }
    }

    pub fn part(mut self, file: &Node<'_>) -> Result<Part, ConfigError> {
        if let Some(key) = self.model.needs
            && file.find(key).is_none()
        {
            return Err(ConfigError::Missing {
                key: file.path(key),
                needed_for: "which architecture of this name it is",
            });
        }
        for conflict in std::mem::take(&mut self.said.conflicts) {
            self.doubts.complain(conflict)?;
        }
        for (key, reason) in UNREAD {
            if file.find(key).is_some_and(|value| value.as_bool() != Some(false)) {
                self.doubts.complain(ConfigError::Unread {
                    tensor: file.path(key),
                    reason: reason.into(),
                })?;
            }
        }
        let everything = self.said.map.clone();
        let node = &Self::whole(&everything, file);
        let count = match self.said.first(node, &LAYERS) {
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
        let class: Option<Map<String, Value>> = serde_json::from_str(self.model.dictionary).ok();
        let dictionaries = self.dictionaries(node, class.as_ref())?;
        let mut part = Part {
            path: node.path.clone(),
            model_type: self.model.name.into(),
            stack: None,
            embeddings: Encoding::none(),
            embedding_dim: None,
            numbering: Numbering::Order,
            provenance: Vec::new(),
            max_len: self.max_len(node)?,
            max_len_source: self.said.first(node, &LENGTHS).map(|key| self.said.source(node, key)),
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
            layers.push(add(self.layer(file, &dictionaries, types.as_deref(), None, layer)?));
        }
        // Dictionaries that no layer read, and files that do not say how many layers there are.
        for dictionary in &dictionaries {
            let label = dictionary.label.as_deref();
            let read = !layers.is_empty() && (label.is_none() || seen.contains(&label));
            if read {
                continue;
            }
            // As a layer of the type that reads it does, or as one of the label's own name.
            let all = types.as_deref().unwrap_or_default();
            let at = all
                .iter()
                .position(|kind| self.label_of(kind) == label || Some(kind.as_str()) == label);
            let one: Vec<String> = label.map(|label| vec![label.to_string()]).unwrap_or_default();
            let (types, layer) = match (at, label) {
                (Some(at), _) => (Some(all), at),
                (None, Some(_)) => (Some(one.as_slice()), 0),
                (None, None) => (None, 0),
            };
            add(self.layer(file, &dictionaries, types, Some(label), layer)?);
        }
        part.layers = layers;
        Ok(part)
    }

    /// The label of the dictionary that layers of this type read.
    fn label_of<'k>(&self, kind: &'k str) -> Option<&'k str> {
        Some((self.model.label)(kind).unwrap_or(kind))
    }

    /// Every dictionary of rotary settings: one, or one per label. A label whose dictionary is `null` is not in the list.
    fn dictionaries<'f>(&mut self, node: &Node<'f>, class: Option<&'f Map<String, Value>>) -> Result<Vec<Dictionary<'f>>, ConfigError> {
        let (new, old) = (node.object("rope_parameters")?, node.object("rope_scaling")?);
        // An empty object says nothing.
        let (mut new, old) = (new.filter(|n| !n.map.is_empty()), old.filter(|o| !o.map.is_empty()));
        let nested = |map: &Map<String, Value>| !map.is_empty() && map.values().all(|value| value.is_object() || value.is_null());
        // Gemma 3's and Olmo 3's classes read a dictionary for all under its older name alone, and put theirs beside the keys of this one.
        let by_type = !self.model.flat_scales.is_empty() && !self.model.old_theta.is_empty();
        if let Some(flat) = new.take_if(|new| by_type && old.is_none() && !nested(new.map)) {
            self.doubts.complain(ConfigError::Wrong {
                key: flat.path.clone(),
                given: shown(&Value::Object(flat.map.clone())),
                expected: "a dictionary for each layer type (one for all is read as rope_scaling): its class ignores this one, and so does lenient mode",
            })?;
        }
        if let (Some(new), Some(old)) = (&new, &old)
            && new.map != old.map
        {
            self.doubts.complain(ConfigError::Conflict {
                first: (new.path.clone(), shown(&Value::Object(new.map.clone()))),
                second: (old.path.clone(), shown(&Value::Object(old.map.clone()))),
                taken: old.path.clone(),
            })?;
        }
        let default = class.cloned();
        // Without any, the class's; a base beside it stands above its own.
        let aged = self.model.old_theta.iter().any(|(_, key)| self.said.is_own(node, key));
        let given = old.or(new).or_else(|| class.filter(|_| !aged).map(class_dictionary));
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

    /// One layer. `label`: its dictionary is the one of this label, whether or not its type reads that.
    fn layer(
        &mut self,
        file: &Node<'_>,
        dictionaries: &[Dictionary<'_>],
        types: Option<&[String]>,
        label: Option<Option<&str>>,
        layer: usize,
    ) -> Result<LayerPlan, ConfigError> {
        let kind = types.and_then(|types| types.get(layer)).map(String::as_str);
        // What a layer has of its own stands above what all have.
        let own = self.own_of(file, types.unwrap_or_default(), layer)?;
        let before = self.said.exchange(own);
        // Out of the reader while a layer is read, for where values come from stands beside it.
        let everything = std::mem::take(&mut self.said.map);
        let plan = self.plan(&Self::whole(&everything, file), dictionaries, kind, label, layer);
        self.said.map = everything;
        self.said.exchange(before);
        plan
    }

    fn plan(
        &mut self,
        node: &Node<'_>,
        dictionaries: &[Dictionary<'_>],
        kind: Option<&str>,
        label: Option<Option<&str>>,
        layer: usize,
    ) -> Result<LayerPlan, ConfigError> {
        let mut trace = Trace::default();
        let wanted = label.flatten().or(kind.and_then(|kind| self.label_of(kind)));
        let dictionary = match dictionaries {
            [one] if one.label.is_none() => Some(one),
            several => several.iter().find(|d| d.label.as_deref() == wanted),
        };
        let turned = dictionary.map(|d| self.turned(node, d, layer, &mut trace)).transpose()?;
        let attends = kind.is_none_or(attends);
        let turns = turned.is_some() && attends && self.turns(node, kind, layer, &mut trace)?;

        let head_dim = match &turned {
            Some(turned) => turned.head_dim,
            None => {
                let (head_dim, source) = self.head_dim(node)?;
                trace.note("head_dim", head_dim.to_string(), source);
                head_dim
            }
        };
        let dims = self.dims(node, head_dim, &mut trace)?;
        let mut attention = match attends {
            true => self.attention(node, dictionary, kind, turns, head_dim, &mut trace)?,
            false => Attention::default(),
        };
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
            let planned = Encoding::from(rotary.clone()).plan(dims).map(|_| ());
            planned
                .and_then(|()| super::stack::usable(rotary))
                .map_err(|error| ConfigError::Setting {
                    path: node.path.clone(),
                    error,
                })?;
        }
        Ok(LayerPlan {
            kind: kind.map(String::from),
            attends,
            dictionary: dictionary.and_then(|d| d.label.clone()),
            dims,
            spec: LayerSpec { encoding, attention },
            described,
            provenance: trace.0,
        })
    }

    /// What one layer has of its own: from `per_layer_config`, from lists of one value per layer, and from the keys of its layer type.
    fn own_of(&self, file: &Node<'_>, types: &[String], layer: usize) -> Result<Vec<Entry>, ConfigError> {
        let node = &Self::whole(&self.said.map, file);
        if let Some(per_layer) = node.object("per_layer_config")? {
            let name = [format!("{layer:02}"), layer.to_string()]
                .into_iter()
                .find(|name| per_layer.map.contains_key(name));
            let Some((name, Value::Object(own))) = name.and_then(|name| per_layer.map.get_key_value(&name)) else {
                return Ok(Vec::new());
            };
            let entry = |(key, value): (&String, &Value)| {
                let source = Source::Key(format!("{}.{key}", per_layer.path(name)));
                (key.clone(), Some(value.clone()), Some(source))
            };
            return Ok(own.iter().map(entry).collect());
        }
        let kind = types.get(layer).map(String::as_str);
        let mut entries = Vec::new();
        for own in self.model.own {
            if !own.kinds.is_empty() && !kind.is_some_and(|kind| own.kinds.contains(&kind)) {
                continue;
            }
            if let Some((flag, default)) = own.only_if
                && !node.flag(flag)?.unwrap_or(default)
            {
                continue;
            }
            if let Some(flag) = own.unless
                && node.flag(flag)?.unwrap_or(false)
            {
                continue;
            }
            if own.every_second && types.iter().take(layer).filter(|other| Some(other.as_str()) == kind).count() % 2 == 0 {
                continue;
            }
            let (value, source) = match nested(node, own.from)? {
                Some((Value::Array(list), path)) => match list.get(layer) {
                    Some(value) => (value.clone(), Source::Key(format!("{path}[{layer}]"))),
                    None => {
                        return Err(ConfigError::Wrong {
                            key: path,
                            given: format!("a list of {}", list.len()),
                            expected: "a value for each layer",
                        });
                    }
                },
                Some((value, path)) if own.times != 1 => match value.as_u64() {
                    Some(x) => (
                        Value::from(x.saturating_mul(own.times)),
                        Source::Derived(format!("{} · {path}", own.times)),
                    ),
                    None => continue,
                },
                Some((value, _)) if !own.from.contains('.') => (value.clone(), self.said.source(node, own.from)),
                Some((value, path)) => (value.clone(), Source::Key(path)),
                None => match own.default {
                    Some(default) => (Value::from(default), Source::ClassDefault),
                    None => continue,
                },
            };
            entries.push((own.key.to_string(), Some(value), Some(source)));
        }
        Ok(entries)
    }
}

/// A value by its path, `a` or `a.b`.
pub(super) fn nested<'m>(node: &Node<'m>, path: &str) -> Result<Option<(&'m Value, String)>, ConfigError> {
    match path.split_once('.') {
        None => Ok(node.find(path).map(|value| (value, node.path(path)))),
        Some((outer, inner)) => Ok(node.object(outer)?.and_then(|node| Some((node.find(inner)?, node.path(inner))))),
    }
}

/// Whether layers of this type attend at all.
pub(super) fn attends(kind: &str) -> bool {
    !matches!(kind, "linear_attention" | "conv" | "recurrent" | "mamba" | "mamba2" | "moe" | "mlp")
}
