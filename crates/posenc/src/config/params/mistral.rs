//! Mistral's `params.json`: the arguments of `mistral-inference`, and the keys that newer models have in vLLM's reader of the same files.

use super::super::ConfigError;
use super::super::json::{Node, shown};
use super::super::stack::{Layer, Stack, layers};
use super::super::{Numbering, Part, Source, Trace};
use super::{File, Parts, note_pairs, plain};
use crate::attention::{Attention, Temperature, Window};
use crate::dims::Dims;
use crate::rotate::{Axes, Magnitude, Pairing, Precision, Rotary, Scaling, Slice, Yarn, yarn_magnitude};
use serde_json::Value;

impl File<'_> {
    pub(super) fn mistral(&mut self) -> Result<Parts, ConfigError> {
        let top = self.top;
        let count = layers(self.needed("n_layers", "how many layers there are")?)?;
        let windows = self.windows()?;
        let mut facts = Trace::default();
        // Mistral 7B's first version has a window and no base: 10 000. Later models have neither, or a base.
        let default = if windows.is_empty() { 1_000_000.0 } else { 10_000.0 };
        let base = self.base(default, &mut facts)?;
        let latent = top.size("qk_rope_head_dim")?;
        let head_dim = match latent {
            Some(turning) => {
                let rest = self.needed("qk_nope_head_dim", "the width of a head")?;
                let sum = rest.saturating_add(turning);
                Some((sum, Source::Derived("qk_nope_head_dim + qk_rope_head_dim".into())))
            }
            None => top.size("head_dim")?.map(|width| (width, Source::Key("head_dim".into()))),
        };
        let dims = self.dims(head_dim, &mut facts)?;
        let turning = latent.unwrap_or(dims.head_dim);
        if let Some(width) = latent {
            facts.note("rotary_dim", format!("last {width}"), Source::Key("qk_rope_head_dim".into()));
        }
        note_pairs(&mut facts);
        let (scaling, softmax_factor) = self.yarn(latent.is_some(), &mut facts)?;
        scaling.check(base, turning).map_err(|error| ConfigError::Setting {
            path: top.path("yarn"),
            error,
        })?;
        let rotary = Rotary {
            base,
            precision: Precision::Reference,
            scaling,
            rotary_dim: latent,
            slice: if latent.is_some() { Slice::Trailing } else { Slice::Leading },
            ..Rotary::new(Pairing::Interleaved)
        };
        let temperature = self.temperature(&mut facts)?;
        let longest = top.first(&["max_position_embeddings", "max_seq_len"]);
        let max_len = longest.map(|key| top.size(key)).transpose()?.flatten();
        let mut stack = Stack::new("", "mistral", max_len, "").long_by(longest.map(Into::into));
        for layer in 0..count {
            let window = windows.get(layer % windows.len().max(1)).copied().flatten();
            let mut trace = Trace(facts.0.clone());
            let (others, mut attention) = plain(dims.head_dim, &mut trace);
            if let Some(factor) = softmax_factor {
                attention.scale = Some(attention.scale_for(dims.head_dim) * factor);
            }
            attention.temperature = temperature;
            if let Some((keys, path)) = window.map(|keys| (keys, self.window_key())) {
                attention.window = Some(Window::last(keys).map_err(|error| ConfigError::Setting { path: path.into(), error })?);
                trace.note("window", format!("the last {keys} keys"), Source::Key(path.into()));
            }
            let kind = match (windows.is_empty(), window) {
                (true, _) => None,
                (false, Some(_)) => Some("sliding_attention"),
                (false, None) => Some("full_attention"),
            };
            stack.push(Layer {
                kind,
                attends: true,
                dims,
                rotary: Some(rotary.clone()),
                turns: true,
                others,
                attention,
                trace,
            })?;
        }
        let mut parts = vec![stack.part()];
        self.towers(&mut parts)?;
        Ok(parts)
    }

    fn window_key(&self) -> &'static str {
        self.top.first(&["sliding_window", "_sliding_window"]).unwrap_or("sliding_window")
    }

    /// One window for all layers, or a list that repeats; `null` in it is a layer without.
    fn windows(&self) -> Result<Vec<Option<usize>>, ConfigError> {
        let key = self.window_key();
        let Some(value) = self.top.find(key) else { return Ok(Vec::new()) };
        let Value::Array(list) = value else {
            return Ok(vec![self.top.size(key)?]);
        };
        let one = |value: &Value| match value {
            Value::Null => Some(None),
            value => value.as_u64().and_then(|keys| usize::try_from(keys).ok()).map(Some),
        };
        let all: Option<Vec<Option<usize>>> = list.iter().map(one).collect();
        all.filter(|all| !all.is_empty()).ok_or_else(|| ConfigError::Wrong {
            key: self.top.path(key),
            given: shown(value),
            expected: "a number of keys, or a list of numbers and null",
        })
    }

    fn unknown(&mut self, node: &Node<'_>, known: &[&str]) -> Result<(), ConfigError> {
        for (key, value) in node.map {
            if !known.contains(&key.as_str()) && !value.is_null() {
                self.doubts.complain(ConfigError::UnknownKey {
                    key: node.path(key),
                    kind: node.path.clone(),
                })?;
            }
        }
        Ok(())
    }

    /// `yarn`: `beta` is the fast end of the ramp and `alpha` the slow one.
    fn yarn(&mut self, latent: bool, trace: &mut Trace) -> Result<(Scaling, Option<f64>), ConfigError> {
        let Some(yarn) = self.top.object("yarn")?.filter(|yarn| !yarn.map.is_empty()) else {
            return Ok((Scaling::Unscaled, None));
        };
        self.unknown(
            &yarn,
            &["factor", "original_max_position_embeddings", "alpha", "beta", "apply_scale"],
        )?;
        let missing = |key| ConfigError::Missing {
            key: yarn.path(key),
            needed_for: "YaRN",
        };
        let factor = yarn.number("factor")?.ok_or_else(|| missing("factor"))?;
        trace.note("factor", factor.to_string(), Source::Key(yarn.path("factor")));
        let key = "original_max_position_embeddings";
        let original_len = yarn.size(key)?.ok_or_else(|| missing(key))?;
        trace.note("original_len", original_len.to_string(), Source::Key(yarn.path(key)));
        let (on, source) = match yarn.flag("apply_scale")? {
            Some(on) => (on, Source::Key(yarn.path("apply_scale"))),
            None => (true, Source::ClassDefault),
        };
        // With latent attention the magnitude stands in the softmax scale, as in DeepSeek's code.
        let magnitude = if on && !latent { Magnitude::Own } else { Magnitude::Given(1.0) };
        trace.note("magnitude", format!("{magnitude:?}"), source.clone());
        let softmax_factor = (on && latent).then(|| yarn_magnitude(factor, 1.0).powi(2));
        if let Some(factor) = softmax_factor {
            trace.note("softmax factor", factor.to_string(), source);
        }
        let scaling = Scaling::Yarn(Yarn {
            factor,
            original_len,
            beta_fast: yarn.number("beta")?.unwrap_or(32.0),
            beta_slow: yarn.number("alpha")?.unwrap_or(1.0),
            truncate: true,
            magnitude,
        });
        trace.note("scaling", scaling.to_string(), Source::Key(yarn.path.clone()));
        Ok((scaling, softmax_factor))
    }

    /// `llama_4_scaling`, in all layers.
    fn temperature(&mut self, trace: &mut Trace) -> Result<Option<Temperature>, ConfigError> {
        let Some(given) = self.top.object("llama_4_scaling")?.filter(|given| !given.map.is_empty()) else {
            return Ok(None);
        };
        self.unknown(&given, &["beta", "original_max_position_embeddings"])?;
        let number = |key: &str| {
            given.number(key)?.ok_or_else(|| ConfigError::Missing {
                key: given.path(key),
                needed_for: "the temperature of queries",
            })
        };
        let temperature = Temperature::mistral(number("beta")?, number("original_max_position_embeddings")?);
        trace.note("temperature", format!("{temperature:?}"), Source::Key(given.path.clone()));
        Ok(Some(temperature))
    }

    /// What stands beside the language model.
    fn towers(&mut self, parts: &mut Parts) -> Result<(), ConfigError> {
        let top = self.top;
        let multimodal = top.object("multimodal")?;
        let mut pictures = top.object("vision_encoder")?;
        if let Some(multimodal) = &multimodal {
            pictures = pictures.or(multimodal.object("vision_encoder_args")?);
            if multimodal.find("whisper_model_args").is_some() {
                let error = ConfigError::NotExpressed {
                    model_type: "the tower for sound".into(),
                    reason: "which of its positions are sinusoidal and which rotary depends on code beside the file: read the model's config.json",
                };
                self.left.push((multimodal.path("whisper_model_args"), error));
            }
        }
        if let Some(node) = pictures.filter(|node| !node.map.is_empty()) {
            parts.push(pixtral(&node)?);
        }
        Ok(())
    }
}

/// Pixtral's tower: the frequencies of a whole head dealt out to row and column.
fn pixtral(node: &Node<'_>) -> Result<Part, ConfigError> {
    let needed = |key: &str| {
        node.size(key)?.ok_or_else(|| ConfigError::Missing {
            key: node.path(key),
            needed_for: "the widths of the tower for pictures",
        })
    };
    let (width, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
    let count = layers(needed("num_hidden_layers")?)?;
    let mut facts = Trace::default();
    let (base, source) = match node.number("rope_theta")? {
        Some(base) => (base, Source::Key(node.path("rope_theta"))),
        None => (10_000.0, Source::ClassDefault),
    };
    if !(base.is_finite() && base > 0.0) {
        return Err(ConfigError::Wrong {
            key: node.path("rope_theta"),
            given: base.to_string(),
            expected: "a positive number",
        });
    }
    facts.note("base", base.to_string(), source);
    facts.note("heads", heads.to_string(), Source::Key(node.path("num_attention_heads")));
    let head_dim = width.checked_div(heads).unwrap_or(0);
    let derived = format!("{} / {}", node.path("hidden_size"), node.path("num_attention_heads"));
    facts.note("head_dim", head_dim.to_string(), Source::Derived(derived));
    note_pairs(&mut facts);
    facts.note("axes", "row and column".into(), Source::Model);
    let rotary = Rotary {
        base,
        precision: Precision::Reference,
        axes: Axes::Dealt { axes: 2 },
        ..Rotary::new(Pairing::Interleaved)
    };
    let side = match (node.size("image_size")?, node.size("patch_size")?) {
        (Some(image), Some(patch)) if patch > 0 => Some(image / patch),
        _ => None,
    };
    let mut stack = Stack::new(
        &node.path,
        "pixtral",
        side,
        "each picture has rows and columns of its own, and pictures do not see each other",
    )
    .numbered(Numbering::Cells { leading: 0 });
    for _ in 0..count {
        let mut trace = Trace(facts.0.clone());
        let (others, attention): (_, Attention) = plain(head_dim, &mut trace);
        let dims = Dims {
            model_dim: width,
            heads,
            kv_heads: heads,
            head_dim,
        };
        stack.push(Layer {
            kind: None,
            attends: true,
            dims,
            rotary: Some(rotary.clone()),
            turns: true,
            others,
            attention,
            trace,
        })?;
    }
    Ok(stack.part())
}
