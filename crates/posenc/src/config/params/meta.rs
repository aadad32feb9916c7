//! Meta's `params.json`: the arguments of the classes in `llama` and `llama-models`.

use super::super::ConfigError;
use super::super::stack::{Layer, Stack, layers};
use super::super::{Source, Trace};
use super::{File, Parts, note_pairs, plain};
use crate::attention::Temperature;
use crate::rotate::{Pairing, Precision, Rotary, Scaling};

/// Keys that only the class of Llama 3 and those after it read.
const NEWER: [&str; 4] = ["use_scaled_rope", "vision_chunk_size", "quantization_args", "lora_args"];
/// Keys that only the class of Llama 4 reads.
const NEWEST: [&str; 9] = [
    "rope_scaling_factor",
    "rope_high_freq_factor",
    "nope_layer_interval",
    "attention_chunk_size",
    "attn_temperature_tuning",
    "use_qk_norm",
    "moe_args",
    "vision_args",
    "ffn_exp",
];
/// Tokens of Llama 1 and 2, with the four that Code Llama adds; Llama 3 begins with 128 256.
const OLDER_TOKENS: f64 = 32_016.0;

impl File<'_> {
    pub(super) fn meta(&mut self) -> Result<Parts, ConfigError> {
        let top = self.top;
        let count = layers(self.needed("n_layers", "how many layers there are")?)?;
        let newest = top.first(&NEWEST).is_some();
        let tokens = top.number("vocab_size")?;
        // The base was written into the code until Llama 2, and is an argument with another default since Llama 3.
        let older = !newest && top.first(&NEWER).is_none() && tokens.is_none_or(|tokens| tokens <= OLDER_TOKENS);
        let (model_type, default) = match (newest, older) {
            (true, _) => ("llama4", 500_000.0),
            (_, false) => ("llama3", 500_000.0),
            (_, true) => ("llama2", 10_000.0),
        };

        let mut facts = Trace::default();
        let class = match model_type {
            "llama4" => "Llama 4's arguments, by its keys",
            "llama3" => "Llama 3's arguments, by its keys or its vocabulary",
            _ => "Llama 1 and 2's arguments: no key of later ones, and no larger vocabulary",
        };
        facts.note("class", class.into(), Source::Derived("keys and vocab_size".into()));
        let base = self.base(default, &mut facts)?;
        let dims = self.dims(None, &mut facts)?;
        if let Some(given) = top.size("head_dim")?.filter(|given| *given != dims.head_dim) {
            self.doubts.complain(ConfigError::Conflict {
                first: ("head_dim".into(), given.to_string()),
                second: ("dim / n_heads".into(), dims.head_dim.to_string()),
                taken: "dim / n_heads".into(),
            })?;
        }
        note_pairs(&mut facts);
        let scaling = self.bands(newest, &mut facts)?;
        let rotary = Rotary {
            base,
            precision: Precision::Reference,
            scaling,
            ..Rotary::new(Pairing::Interleaved)
        };

        let interval = match top.size("nope_layer_interval")? {
            Some(0) => {
                return Err(ConfigError::Wrong {
                    key: "nope_layer_interval".into(),
                    given: "0".into(),
                    expected: "at least 1: each n-th layer does not turn",
                });
            }
            given => given,
        };
        let chunk = top.size("attention_chunk_size")?;
        let tuned = top.flag("attn_temperature_tuning")?.unwrap_or(false);
        let temperature = Temperature::llama4(
            top.number("attn_scale")?.unwrap_or(0.1),
            top.number("floor_scale")?.unwrap_or(8192.0),
        );
        let mut stack = Stack::new("", model_type, None, "");
        for layer in 0..count {
            let turns = interval.is_none_or(|n| !(layer + 1).is_multiple_of(n));
            let mut trace = Trace(facts.0.clone());
            let (others, mut attention) = plain(dims.head_dim, &mut trace);
            if interval.is_some() {
                trace.note("turns", turns.to_string(), Source::Key("nope_layer_interval".into()));
            }
            if let Some(chunk) = chunk.filter(|_| turns) {
                attention.chunk = Some(chunk);
                trace.note("chunk", chunk.to_string(), Source::Key("attention_chunk_size".into()));
            }
            if tuned && !turns {
                attention.temperature = Some(temperature);
                trace.note(
                    "temperature",
                    format!("{temperature:?}"),
                    Source::Key("attn_temperature_tuning".into()),
                );
            }
            let kind = match (chunk, turns) {
                (None, _) => None,
                (Some(_), true) => Some("chunked_attention"),
                (Some(_), false) => Some("full_attention"),
            };
            stack.push(Layer {
                kind,
                attends: true,
                dims,
                rotary: Some(rotary.clone()),
                turns,
                others,
                attention,
                trace,
            })?;
        }
        for key in ["vision_args", "vision_chunk_size"] {
            let size = top.find(key).and_then(serde_json::Value::as_f64);
            if top.find(key).is_some() && size.is_none_or(|size| size > 0.0) {
                let error = ConfigError::NotExpressed {
                    model_type: format!("{model_type}'s pictures"),
                    reason: "their tower is given by arguments of another class, most of which its code fills in: read the model's config.json",
                };
                self.left.push((key.into(), error));
            }
        }
        Ok(vec![stack.part()])
    }

    /// Llama 3's bands, which its code has as constants: factor 8 from 8192 tokens, low 1, high 4; Llama 4's 16 and 1, or the file's.
    fn bands(&mut self, newest: bool, trace: &mut Trace) -> Result<Scaling, ConfigError> {
        let top = self.top;
        let on = top.flag("use_scaled_rope")?.unwrap_or(false);
        let (factor, high) = (top.number("rope_scaling_factor")?, top.number("rope_high_freq_factor")?);
        if !on {
            for (key, value) in [("rope_scaling_factor", factor), ("rope_high_freq_factor", high)] {
                if value.is_some() {
                    self.doubts.complain(ConfigError::UnknownKey {
                        key: key.into(),
                        kind: "default: use_scaled_rope is not true".into(),
                    })?;
                }
            }
            return Ok(Scaling::Unscaled);
        }
        let (default_factor, default_high) = if newest { (16.0, 1.0) } else { (8.0, 4.0) };
        let mut known = |name, given: Option<f64>, key: &str, default: f64| {
            let source = given.map_or(Source::ClassDefault, |_| Source::Key(key.into()));
            let value = given.unwrap_or(default);
            trace.note(name, value.to_string(), source);
            value
        };
        let factor = known("factor", factor, "rope_scaling_factor", default_factor);
        let high_freq_factor = known("high_freq_factor", high, "rope_high_freq_factor", default_high);
        let low_freq_factor = known("low_freq_factor", None, "", 1.0);
        let original_len = known("original_len", None, "", 8192.0) as usize;
        let scaling = Scaling::Llama3 {
            factor,
            original_len,
            low_freq_factor,
            high_freq_factor,
        };
        trace.note("scaling", scaling.to_string(), Source::Key("use_scaled_rope".into()));
        Ok(scaling)
    }
}
