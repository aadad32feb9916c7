//! How a layer's scores become weights, and its widths.

use super::json::Node;
use super::part::{KEY_HEADS, Reader};
use super::registry::{self, Cooling, ScoreScale, Sinks, Sliding};
use super::rope::{BETA, Dictionary};
use super::{ConfigError, Source, Trace};
use crate::attention::{Attention, Temperature, Window};
use crate::dims::Dims;

impl Reader<'_> {
    pub fn dims(&self, node: &Node<'_>, head_dim: usize, trace: &mut Trace) -> Result<Dims, ConfigError> {
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
        trace.note("model_dim", model_dim.to_string(), self.said.source(node, width_key));
        trace.note("heads", heads.to_string(), self.said.source(node, heads_key));
        // The classes of these take no other number, whatever stands in the file.
        let as_many = matches!(self.model.head, registry::Head::Latent | registry::Head::Across);
        let kv_heads = match self.said.first(node, &KEY_HEADS).filter(|_| !as_many) {
            Some(key) => {
                let given = node.size(key)?.unwrap_or(heads);
                trace.note("kv_heads", given.to_string(), self.said.source(node, key));
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

    /// The settings of a layer that attends.
    pub fn attention(
        &self,
        node: &Node<'_>,
        dictionary: Option<&Dictionary<'_>>,
        kind: Option<&str>,
        turns: bool,
        head_dim: usize,
        trace: &mut Trace,
    ) -> Result<Attention, ConfigError> {
        let mut attention = Attention {
            scale: self.scale(node, head_dim, trace)?,
            sinks: self.sinks(node, kind)?,
            ..Attention::default()
        };
        if attention.sinks {
            trace.note("sinks", "a logit for each head".into(), Source::Model);
        }
        if let Some(key) = self.model.softcap
            && let Some(cap) = node.number(key)?.filter(|cap| *cap != 0.0)
        {
            attention.softcap = Some(cap);
            trace.note("softcap", cap.to_string(), self.said.source(node, key));
        }
        attention.window = self.window(node, kind, trace)?;
        if kind == Some("chunked_attention") {
            let key = "attention_chunk_size";
            attention.chunk = node.size(key)?.filter(|keys| *keys > 0);
            if let Some(keys) = attention.chunk {
                trace.note("chunk", format!("{keys} tokens"), self.said.source(node, key));
            }
        }
        attention.temperature = self.temperature(node, dictionary, turns, trace)?;
        attention.check().map_err(|error| ConfigError::Setting {
            path: node.path.clone(),
            error,
        })?;
        Ok(attention)
    }

    fn scale(&self, node: &Node<'_>, head_dim: usize, trace: &mut Trace) -> Result<Option<f64>, ConfigError> {
        let plain = |trace: &mut Trace| {
            trace.note("scale", format!("1/√{head_dim}"), Source::Derived("1 / √head_dim".into()));
            None
        };
        Ok(match self.model.scale {
            ScoreScale::HeadDim => plain(trace),
            ScoreScale::One => {
                trace.note("scale", "1".into(), Source::Model);
                Some(1.0)
            }
            ScoreScale::Of(key) => match node.number(key)? {
                None => plain(trace),
                Some(scalar) => {
                    trace.note("scale", format!("1/√{scalar}"), self.said.source(node, key));
                    Some(1.0 / scalar.sqrt())
                }
            },
            ScoreScale::Is(key) => match node.number(key)? {
                None => plain(trace),
                Some(scale) => {
                    trace.note("scale", scale.to_string(), self.said.source(node, key));
                    Some(scale)
                }
            },
            ScoreScale::HalfHead => {
                trace.note("scale", format!("1/√{}", head_dim as f64 / 2.0), Source::Model);
                Some(1.0 / (head_dim as f64 / 2.0).sqrt())
            }
        })
    }

    fn sinks(&self, node: &Node<'_>, kind: Option<&str>) -> Result<bool, ConfigError> {
        Ok(match self.model.sinks {
            Sinks::None => false,
            Sinks::All => true,
            Sinks::Flags => {
                let (key, default) = match kind.is_some_and(|kind| kind.contains("sliding")) {
                    true => ("add_swa_attention_sink_bias", true),
                    false => ("add_full_attention_sink_bias", false),
                };
                node.flag(key)?.unwrap_or(default)
            }
        })
    }

    fn window(&self, node: &Node<'_>, kind: Option<&str>, trace: &mut Trace) -> Result<Option<Window>, ConfigError> {
        let slides = match self.model.sliding {
            Sliding::Always(_) => true,
            _ => kind.is_some_and(|kind| kind.contains("sliding") && !kind.starts_with("reference")),
        };
        if !slides {
            return Ok(None);
        }
        let key = match self.model.sliding {
            Sliding::Always(key) | Sliding::Last(key) | Sliding::Sides(key) | Sliding::HalfSides(key) | Sliding::LastHalf(key) => key,
        };
        let Some(keys) = node.size(key)?.filter(|keys| *keys > 0) else {
            return Ok(None);
        };
        let setting = |error| ConfigError::Setting {
            path: node.path(key),
            error,
        };
        // A model that sees both ways counts a window to each side.
        let both = match node.find("use_bidirectional_attention") {
            Some(value) => value.as_bool() == Some(true) || value.as_str() == Some("all"),
            None => false,
        };
        let sides = |keys: usize| Window {
            left: Some(keys),
            right: Some(keys),
        };
        let window = match self.model.sliding {
            Sliding::Last(_) if both => sides(keys / 2),
            Sliding::Last(_) | Sliding::Always(_) => Window::last(keys).map_err(setting)?,
            Sliding::LastHalf(_) => Window::last((keys / 2).max(1)).map_err(setting)?,
            Sliding::Sides(_) => sides(keys),
            Sliding::HalfSides(_) => sides(keys / 2),
        };
        let shown = match (self.model.sliding, window.left) {
            (Sliding::Sides(_) | Sliding::HalfSides(_), Some(side)) => format!("{side} keys on each side"),
            (_, Some(side)) if both => format!("{side} keys on each side"),
            (_, side) => format!("the last {} keys", side.map_or(0, |side| side + 1)),
        };
        trace.note("window", shown, self.said.source(node, key));
        Ok(Some(window))
    }

    fn temperature(
        &self,
        node: &Node<'_>,
        dictionary: Option<&Dictionary<'_>>,
        turns: bool,
        trace: &mut Trace,
    ) -> Result<Option<Temperature>, ConfigError> {
        let (temperature, source) = match self.model.cooling {
            Cooling::None => return Ok(None),
            Cooling::Still => {
                let on = "attn_temperature_tuning";
                // Llama 4 was first published with a number here.
                let tuned = node
                    .find(on)
                    .is_some_and(|value| value.as_bool() == Some(true) || value.as_f64().is_some_and(|x| x != 0.0));
                let (Some(scale), Some(floor), false, true) = (node.number("attn_scale")?, node.number("floor_scale")?, turns, tuned)
                else {
                    return Ok(None);
                };
                (Temperature::llama4(scale, floor), self.said.source(node, on))
            }
            Cooling::Beta => {
                let Some(given) = dictionary.and_then(|d| d.given.as_ref()) else {
                    return Ok(None);
                };
                let key = BETA;
                let len = given.number("original_max_position_embeddings")?;
                let (Some(beta), Some(len)) = (given.number(key)?, len) else {
                    return Ok(None);
                };
                (Temperature::mistral(beta, len), super::said::at(given.path(key)))
            }
        };
        trace.note("temperature", format!("{temperature:?}"), source);
        Ok(Some(temperature))
    }
}
