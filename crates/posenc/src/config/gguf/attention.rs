//! What layers see, which of them turn, how scores are scaled, and the bias of those that do not turn.

use super::super::{ConfigError, Source, Trace};
use super::architectures::{Absent, Layers, Method, Recurrent, Scale, Shape, Turning};
use super::container::Value;
use super::{File, Widths};
use crate::attention::{Attention, Temperature, Window};
use crate::bias::{Alibi, Slopes};

/// What a layer that slides can see.
#[derive(Clone)]
pub(super) enum Sees {
    /// And in words.
    Window(Window, String),
    Chunk(usize),
}

impl File<'_> {
    /// Which layers slide.
    pub(super) fn slides(&mut self, count: usize) -> Result<Vec<bool>, ConfigError> {
        let a = self.architecture;
        let key = "attention.sliding_window_pattern";
        if let (Some(list), false) = (self.flags(key, count)?, a.windows.layers == Layers::None) {
            return Ok(list);
        }
        let n = self.find(key).filter(|v| !matches!(v, Value::List(_)));
        let n = n.map(|value| self.as_size(key, value)).transpose()?;
        let every = |i: usize, default: usize, first: bool| match n.unwrap_or(default) {
            // 0: all slide.
            0 => true,
            n if first => !i.is_multiple_of(n),
            n => !(i + 1).is_multiple_of(n),
        };
        let rule = |i| match a.windows.layers {
            Layers::None | Layers::Listed => false,
            Layers::All => true,
            Layers::EveryLast(n) => every(i, n, false),
            Layers::EveryFirst(n) => every(i, n, true),
        };
        let found = self.size("attention.sliding_window")?.filter(|keys| *keys > 0);
        match (a.windows.layers, found) {
            (Layers::None, Some(keys)) => self.doubts.complain(ConfigError::Wrong {
                key: self.key("attention.sliding_window"),
                given: keys.to_string(),
                expected: "nothing: which layers of this architecture slide is not known (lenient mode: none)",
            })?,
            (Layers::Listed, _) if count > 0 => return Err(self.missing(key, "which layers slide")),
            _ => {}
        }
        Ok((0..count).map(rule).collect())
    }

    /// What layers that slide can see, and in words.
    pub(super) fn window(&self, slides: &[bool]) -> Result<Option<Sees>, ConfigError> {
        let a = self.architecture;
        if a.windows.layers == Layers::None || !slides.iter().any(|s| *s) {
            return Ok(None);
        }
        let key = "attention.sliding_window";
        let keys = match (self.size(key)?, a.windows.absent) {
            (Some(keys), _) => keys,
            (None, Absent::Keys(keys)) => keys,
            // The larger of its two published sizes has windows, and its older files no key.
            (None, Absent::None) if a.name == "exaone4" && slides.len() == 64 => 4096,
            (None, Absent::None) => 0,
            (None, Absent::Needed) => return Err(self.missing(key, "what layers that slide can see")),
        };
        if keys == 0 {
            return Ok(None);
        }
        let setting = |error| ConfigError::Setting {
            path: self.key(key),
            error,
        };
        Ok(Some(match a.windows.shape {
            Shape::Chunk => Sees::Chunk(keys),
            Shape::Last => Sees::Window(Window::last(keys).map_err(setting)?, format!("the last {keys} keys")),
            Shape::Sides => {
                let side = Some(keys / 2);
                Sees::Window(Window { left: side, right: side }, format!("{} keys on each side", keys / 2))
            }
        }))
    }

    /// Which layers have no attention though they may have heads.
    pub(super) fn recurrent(&self, count: usize) -> Result<Vec<bool>, ConfigError> {
        let Recurrent::Interval(n) = self.architecture.recurrent else {
            return Ok(vec![false; count]);
        };
        if let Some(list) = self.flags("attention.recurrent_layers", count)? {
            return Ok(list);
        }
        let key = "full_attention_interval";
        let n = self.size(key)?.unwrap_or(n);
        if n == 0 {
            return Err(self.wrong(key, &Value::Whole(0), "at least 1"));
        }
        Ok((0..count).map(|i| !(i + 1).is_multiple_of(n)).collect())
    }

    pub(super) fn turns(
        &self,
        layer: usize,
        sliding: bool,
        any_slides: bool,
        count: usize,
        trace: &mut Trace,
    ) -> Result<bool, ConfigError> {
        let (turns, source) = match self.architecture.turning {
            Turning::All => return Ok(true),
            Turning::NotEveryLast(n) => {
                // Llama 4's way to say that every layer turns.
                let none = self.size("attention.sliding_window")? == Some(0);
                (
                    none && self.architecture.name == "llama4" || !(layer + 1).is_multiple_of(n),
                    Source::Model,
                )
            }
            Turning::NotEveryFirst(n) => (!any_slides || !layer.is_multiple_of(n), Source::Model),
            Turning::SlidingIfAny => (!any_slides || sliding, Source::Model),
            Turning::Sliding => (sliding, Source::Model),
            Turning::Finetuned => match self.flag("rope.scaling.finetuned")? {
                Some(on) => (on, self.source("rope.scaling.finetuned")),
                None => (true, Source::ClassDefault),
            },
            Turning::Listed => match self.flags("attention.rope_pattern", count)? {
                Some(list) => (list[layer], self.source("attention.rope_pattern")),
                None => (true, Source::ClassDefault),
            },
        };
        trace.note("turns", turns.to_string(), source);
        Ok(turns)
    }

    pub(super) fn scale(
        &self,
        attention: &mut Attention,
        widths: &Widths,
        softmax_factor: Option<f64>,
        count: usize,
        trace: &mut Trace,
    ) -> Result<(), ConfigError> {
        let head_dim = widths.head_dim;
        // 0 is absent.
        let given = self.number("attention.scale")?.filter(|scale| *scale != 0.0);
        let (scale, shown, source) = match (given, self.architecture.scale) {
            (Some(scale), _) => (Some(scale), scale.to_string(), self.source("attention.scale")),
            (None, Scale::One) => (Some(1.0), "1".into(), Source::Model),
            (None, Scale::WidthAt(layers)) if layers == count => {
                let width = self.size("embedding_length")?.unwrap_or(0) / widths.heads.max(1);
                (Some(1.0 / (width as f64).sqrt()), format!("1/√{width}"), Source::Model)
            }
            (None, Scale::Turned) => {
                let width = self.size("rope.dimension_count")?.unwrap_or(head_dim);
                (Some(1.0 / (width as f64).sqrt()), format!("1/√{width}"), Source::Model)
            }
            (None, Scale::Output(default)) => match self.number("attention.output_scale")? {
                Some(scale) => (Some(scale), scale.to_string(), self.source("attention.output_scale")),
                None => (Some(default), default.to_string(), Source::ClassDefault),
            },
            (None, Scale::Head | Scale::WidthAt(_)) => (None, format!("1/√{head_dim}"), Source::Derived("1 / √head_dim".into())),
        };
        attention.scale = scale;
        trace.note("scale", shown, source);
        if let Some(factor) = softmax_factor {
            attention.scale = Some(attention.scale_for(head_dim) * factor);
        }
        Ok(())
    }

    /// What queries are multiplied by, by their position.
    pub(super) fn temperature(&self, turns: bool, chunks: bool, trace: &mut Trace) -> Result<Option<Temperature>, ConfigError> {
        // Llama 4's is in the code; the others' key is what transformers calls beta.
        if self.architecture.name == "llama4" {
            let temperature = (chunks && !turns).then(|| Temperature::llama4(0.1, 8192.0));
            if let Some(temperature) = temperature {
                trace.note("temperature", format!("{temperature:?}"), Source::Model);
            }
            return Ok(temperature);
        }
        let key = "attention.temperature_scale";
        let Some(beta) = self.number(key)?.filter(|beta| *beta != 0.0) else {
            return Ok(None);
        };
        let mut lengths = [
            "attention.temperature_length",
            "rope.scaling.original_context_length",
            "context_length",
        ]
        .into_iter();
        let length = lengths.find(|key| self.find(key).is_some());
        let length = length.map(|key| self.number(key)).transpose()?.flatten();
        let length = length.ok_or_else(|| self.missing("attention.temperature_length", "the temperature of queries"))?;
        let temperature = Temperature::mistral(beta, length);
        trace.note("temperature", format!("{temperature:?}"), self.source(key));
        Ok(Some(temperature))
    }

    /// What scores are capped at.
    pub(super) fn attention(&self, attention: &mut Attention, trace: &mut Trace) -> Result<(), ConfigError> {
        let Some(default) = self.architecture.softcap else { return Ok(()) };
        let key = "attn_logit_softcapping";
        let (cap, source) = match self.number(key)? {
            Some(cap) => (cap, self.source(key)),
            None => (default, Source::ClassDefault),
        };
        attention.softcap = Some(cap);
        trace.note("softcap", cap.to_string(), source);
        Ok(())
    }

    pub(super) fn alibi(&self, count: usize, trace: &mut Trace) -> Result<Option<Alibi>, ConfigError> {
        let (max, symmetric) = match self.architecture.method {
            Method::Alibi { max, symmetric } => (max, symmetric),
            Method::Baichuan if count == 40 => (Some(8.0), false),
            _ => return Ok(None),
        };
        let key = "attention.max_alibi_bias";
        let (max, source) = match (max, self.number(key)?) {
            (Some(max), _) => (max, Source::Model),
            (None, Some(max)) => (max, self.source(key)),
            (None, None) => (0.0, Source::ClassDefault),
        };
        trace.note("alibi_bias_max", max.to_string(), source);
        if max == 0.0 {
            return Ok(None);
        }
        let alibi = if symmetric { Alibi::symmetric() } else { Alibi::new() };
        // ggml's slopes are the authors' with 2^−max for 2^−8, which MPT's rule gives for every count of heads.
        Ok(Some(if max == 8.0 {
            alibi
        } else {
            alibi.with_slopes(Slopes::Mpt { bias_max: max })
        }))
    }
}
