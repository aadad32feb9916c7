//! GGUF: metadata of a file for llama.cpp as layers.
//!
//! Which keys there are and what they mean is llama.cpp's loader; what no key says stands in [`architectures`]. Llama 3's and LongRoPE's frequencies are tensors (`rope_freqs.weight`, `rope_factors_long.weight`,
//! `rope_factors_short.weight`): they are read where their bytes were given, and are an error, or a warning in lenient mode, where they were not.

mod architectures;
mod container;

use super::stack::{Layer, Stack, layers};
use super::{ConfigError, Format, Mode, ModelConfig, Part, Source, Trace};
use crate::attention::{Attention, Temperature, Window};
use crate::bias::{Alibi, Slopes, T5Bias};
use crate::dims::Dims;
use crate::embed::Learned;
use crate::encoding::Encoding;
use crate::params::Scope;
use crate::rotate::{Axes, LongRope, Magnitude, Pairing, Precision, Rotary, Scaling, Slice, Yarn, yarn_magnitude};
use architectures::{Absent, Architecture, Layers, Method, Multiplier, Recurrent, Scale, Shape, Sliding, Turning};
use container::{Header, Tensor, Tensors, Value};

/// Architectures of GGUF files in the order of their names, each with what its layers do with positions, in a few words, or with the reason why it is not read.
///
/// ```
/// let known = posenc::config::known_gguf();
/// assert!(known.iter().any(|(name, what)| *name == "bloom" && what.as_ref().is_ok_and(|what| what.starts_with("ALiBi"))));
/// ```
pub fn known_gguf() -> Vec<(&'static str, Result<String, &'static str>)> {
    let mut all: Vec<_> = architectures::ARCHITECTURES.iter().map(|a| (a.name, a.summary())).collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

/// Whether these bytes are of a GGUF file.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GGUF")
}

pub(super) fn read(bytes: &[u8], mode: Mode) -> Result<ModelConfig, ConfigError> {
    let header = Header::read(bytes)?;
    let name = match header.metadata.get("general.architecture") {
        Some(Value::Text(name)) => name.clone(),
        Some(other) => {
            return Err(ConfigError::Wrong {
                key: "general.architecture".into(),
                given: shown(other),
                expected: "text",
            });
        }
        None => {
            return Err(ConfigError::Missing {
                key: "general.architecture".into(),
                needed_for: "which keys and rules are the model's",
            });
        }
    };
    let Some(architecture) = architectures::find(&name) else {
        let nearest = architectures::nearest(&name);
        return Err(ConfigError::UnknownModel { model_type: name, nearest });
    };
    if let Method::Refused(reason) = architecture.method {
        return Err(ConfigError::NotExpressed { model_type: name, reason });
    }
    let mut file = File {
        bytes,
        header,
        architecture,
        mode,
        warnings: Vec::new(),
    };
    let parts = file.parts()?;
    Ok(ModelConfig {
        format: Format::Gguf,
        model_type: name,
        parts,
        left: Vec::new(),
        warnings: file.warnings,
    })
}

/// A value in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Whole(x) => x.to_string(),
        Value::Real(x) => x.to_string(),
        Value::Flag(x) => x.to_string(),
        Value::Text(x) => format!("{x:?}"),
        Value::List(x) => format!("a list of {}", x.len()),
        Value::Long(x) => format!("text or a list of length {x}"),
    }
}

struct File<'b> {
    bytes: &'b [u8],
    header: Header,
    architecture: &'static Architecture,
    mode: Mode,
    warnings: Vec<ConfigError>,
}

/// What layers that slide, or layers that do not, turn by.
#[derive(Clone)]
struct Turned {
    rotary: Rotary,
    softmax_factor: Option<f64>,
    trace: Trace,
}

/// Widths and counts of one layer.
struct Widths {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    head_key: String,
}

impl File<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    fn find(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(&self.key(key))
    }

    fn source(&self, key: &str) -> Source {
        Source::Key(self.key(key))
    }

    fn wrong(&self, key: &str, value: &Value, expected: &'static str) -> ConfigError {
        ConfigError::Wrong {
            key: self.key(key),
            given: shown(value),
            expected,
        }
    }

    fn missing(&self, key: &str, needed_for: &'static str) -> ConfigError {
        ConfigError::Missing {
            key: self.key(key),
            needed_for,
        }
    }

    /// An error in strict mode, else a warning.
    fn complain(&mut self, wrong: ConfigError) -> Result<(), ConfigError> {
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

    fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.find(key).map(|value| self.as_size(key, value)).transpose()
    }

    fn as_size(&self, key: &str, value: &Value) -> Result<usize, ConfigError> {
        match value {
            Value::Whole(x) if (0..=1 << 53).contains(x) => Ok(*x as usize),
            other => Err(self.wrong(key, other, "a whole number from 0 to 2^53")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Real(x)) if x.is_finite() => Ok(Some(*x)),
            Some(Value::Whole(x)) => Ok(Some(*x as f64)),
            Some(other) => Err(self.wrong(key, other, "a finite number")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Flag(on)) => Ok(Some(*on)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "text")),
        }
    }

    /// A number for all layers, or one of a list.
    fn per_layer(&self, key: &str, layer: usize) -> Result<Option<usize>, ConfigError> {
        match self.find(key) {
            Some(list @ Value::List(values)) => match values.get(layer) {
                Some(value) => self.as_size(key, value).map(Some),
                None => Err(self.wrong(key, list, "one number for each layer")),
            },
            _ => self.size(key),
        }
    }

    /// Of each layer, whether; `None` where the key is no list.
    fn flags(&self, key: &str, count: usize) -> Result<Option<Vec<bool>>, ConfigError> {
        let Some(list @ Value::List(values)) = self.find(key) else {
            return Ok(None);
        };
        let one = |value: &Value| match value {
            Value::Flag(on) => Some(*on),
            Value::Whole(x) => Some(*x != 0),
            _ => None,
        };
        let all: Option<Vec<bool>> = values.iter().map(one).collect();
        match all.filter(|all| all.len() >= count) {
            Some(all) => Ok(Some(all)),
            None => Err(self.wrong(key, list, "true or false for each layer")),
        }
    }

    fn parts(&mut self) -> Result<Vec<Part>, ConfigError> {
        let all = self
            .size("block_count")?
            .ok_or_else(|| self.missing("block_count", "how many layers there are"))?;
        let all = layers(all)?;
        // Layers that predict further tokens stand behind the others.
        let ahead = self.size("nextn_predict_layers")?.unwrap_or(0);
        let count = all.checked_sub(ahead).ok_or_else(|| ConfigError::Conflict {
            first: (self.key("nextn_predict_layers"), ahead.to_string()),
            second: (self.key("block_count"), all.to_string()),
            taken: self.key("block_count"),
        })?;
        if let Method::T5 { decoder } = self.architecture.method {
            let mut parts = vec![self.t5(count, true)?];
            if decoder {
                let count = layers(self.size("decoder_block_count")?.unwrap_or(count))?;
                parts.push(self.t5(count, false)?);
            }
            return Ok(parts);
        }
        Ok(vec![self.part(count)?])
    }

    fn part(&mut self, count: usize) -> Result<Part, ConfigError> {
        let a = self.architecture;
        let max_len = self.size("context_length")?;
        let mut stack = Stack::new("", a.name, max_len, a.note);
        let slides = self.slides(count)?;
        let window = self.window(&slides)?;
        let any_slides = window.is_some() && slides.iter().any(|s| *s);
        let recurrent = self.recurrent(count)?;
        // Of layers without attention: the widths of one that has it.
        let mut of_another = None;
        for layer in 0..count {
            let widths = self.widths(layer, slides[layer] && any_slides)?;
            if widths.heads > 0 && widths.kv_heads > 0 {
                of_another = Some(layer);
                break;
            }
        }
        let Some(of_another) = of_another.or((count == 0).then_some(0)) else {
            return Err(ConfigError::NotExpressed {
                model_type: a.name.into(),
                reason: "no layer has heads",
            });
        };
        self.table(&mut stack, of_another, max_len)?;
        let mut turned: [Option<Turned>; 2] = [None, None];
        for layer in 0..count {
            let sliding = any_slides && slides[layer];
            let mut widths = self.widths(layer, sliding)?;
            let attends = !recurrent[layer] && widths.heads > 0 && widths.kv_heads > 0;
            if !attends {
                widths = self.widths(of_another, false)?;
            }
            let mut trace = Trace::default();
            let dims = self.dims(&widths, &mut trace)?;
            let mut attention = Attention {
                sinks: a.sinks,
                ..Attention::default()
            };
            let mut rotary = None;
            let mut others = Encoding::none();
            let mut turns = false;
            if attends {
                match self.pairing(count)? {
                    Some(pairing) => {
                        let known = turned[usize::from(sliding)]
                            .as_ref()
                            .filter(|t| t.rotary.rotary_dim.is_some_and(|r| r <= widths.head_dim));
                        let found = match known {
                            Some(found) => found.clone(),
                            None => self.turned(pairing, widths.head_dim, sliding)?,
                        };
                        turned[usize::from(sliding)] = Some(found.clone());
                        turns = self.turns(layer, sliding, any_slides, count, &mut trace)?;
                        trace.0.extend(found.trace.0);
                        self.scale(&mut attention, &widths, found.softmax_factor, count, &mut trace)?;
                        rotary = Some(found.rotary);
                    }
                    None => {
                        self.scale(&mut attention, &widths, None, count, &mut trace)?;
                        if let Some(alibi) = self.alibi(count, &mut trace)? {
                            others = alibi.into();
                        }
                    }
                }
                self.attention(&mut attention, &mut trace)?;
                match window.clone() {
                    Some(Sees::Window(window, shown)) if sliding => {
                        attention.window = Some(window);
                        trace.note("window", shown, self.source("attention.sliding_window"));
                    }
                    Some(Sees::Chunk(keys)) if sliding => {
                        attention.chunk = Some(keys);
                        trace.note("chunk", keys.to_string(), self.source("attention.sliding_window"));
                    }
                    _ => {}
                }
                attention.temperature = self.temperature(turns, any_slides, &mut trace)?;
            }
            let kind = match (attends, sliding, any_slides) {
                (false, ..) => Some("no_attention"),
                (true, true, _) => Some("sliding_attention"),
                (true, false, true) => Some("full_attention"),
                (true, false, false) => None,
            };
            // All of a head turns where nothing says less.
            if let Some(rotary) = rotary.as_mut().filter(|r: &&mut Rotary| r.rotary_dim == Some(widths.head_dim)) {
                rotary.rotary_dim = None;
                rotary.slice = Slice::Leading;
            }
            stack.push(Layer {
                kind,
                dims,
                rotary,
                turns,
                others,
                attention,
                trace,
            })?;
        }
        Ok(stack.part())
    }

    fn widths(&self, layer: usize, sliding: bool) -> Result<Widths, ConfigError> {
        let width = self
            .size("embedding_length")?
            .ok_or_else(|| self.missing("embedding_length", "the widths of the model"))?;
        let heads = self
            .per_layer("attention.head_count", layer)?
            .ok_or_else(|| self.missing("attention.head_count", "the widths of the model"))?;
        let kv_heads = self.per_layer("attention.head_count_kv", layer)?.unwrap_or(heads);
        let key = ["attention.key_length_mla", "attention.key_length_swa", "attention.key_length"]
            .into_iter()
            .filter(|key| {
                (*key != "attention.key_length_mla" || self.architecture.latent) && (*key != "attention.key_length_swa" || sliding)
            })
            .find(|key| self.find(key).is_some());
        let (head_dim, head_key) = match key {
            Some(key) => (self.size(key)?.unwrap_or(0), self.key(key)),
            None => {
                // The first layer's, as llama.cpp; of layers with other counts of heads the width is the same.
                let first = self
                    .per_layer("attention.head_count", 0)?
                    .filter(|first| *first > 0)
                    .unwrap_or(heads);
                let head_key = format!("{} / {}", self.key("embedding_length"), self.key("attention.head_count"));
                (width.checked_div(first).unwrap_or(0), head_key)
            }
        };
        Ok(Widths {
            heads,
            kv_heads: if self.architecture.latent && kv_heads > 0 {
                heads
            } else {
                kv_heads
            },
            head_dim,
            head_key,
        })
    }

    fn dims(&self, widths: &Widths, trace: &mut Trace) -> Result<Dims, ConfigError> {
        trace.note("heads", widths.heads.to_string(), self.source("attention.head_count"));
        let kv_source = match self.find("attention.head_count_kv") {
            Some(_) if !self.architecture.latent => self.source("attention.head_count_kv"),
            _ => Source::Derived(self.key("attention.head_count")),
        };
        trace.note("kv_heads", widths.kv_heads.to_string(), kv_source);
        let head_source = match widths.head_key.contains('/') {
            true => Source::Derived(widths.head_key.clone()),
            false => Source::Key(widths.head_key.clone()),
        };
        trace.note("head_dim", widths.head_dim.to_string(), head_source);
        Ok(Dims {
            model_dim: self.size("embedding_length")?.unwrap_or(0),
            heads: widths.heads,
            kv_heads: widths.kv_heads,
            head_dim: widths.head_dim,
        })
    }

    /// The pairing of a model that turns.
    fn pairing(&self, count: usize) -> Result<Option<Pairing>, ConfigError> {
        Ok(match self.architecture.method {
            Method::Rotary(pairing) => Some(pairing),
            // The larger of the two published sizes has ALiBi, and no key says so.
            Method::Baichuan => (count != 40).then_some(Pairing::Interleaved),
            Method::Spread => Some(Pairing::Halves),
            Method::Chunked(without) => Some(match (self.sections()?, without) {
                (Some(_), _) => Pairing::Halves,
                (None, Some(pairing)) => pairing,
                (None, None) => return Err(self.missing("rope.dimension_sections", "which axis turns which pair")),
            }),
            _ => None,
        })
    }

    /// Pairs of each axis; those without a pair are left out.
    fn sections(&self) -> Result<Option<Vec<usize>>, ConfigError> {
        let key = "rope.dimension_sections";
        let Some(value) = self.find(key) else { return Ok(None) };
        let Value::List(list) = value else {
            return Err(self.wrong(key, value, "four numbers of pairs"));
        };
        let sections: Result<Vec<usize>, ConfigError> = list.iter().map(|x| self.as_size(key, x)).collect();
        let mut sections = sections?;
        while sections.last() == Some(&0) {
            sections.pop();
        }
        if sections.len() > 4 || sections.iter().any(|pairs| *pairs > Dims::WIDEST) {
            return Err(self.wrong(key, value, "at most four numbers of pairs"));
        }
        // llama.cpp turns by one axis where the second has none.
        Ok((sections.len() >= 2 && sections[0] > 0 && sections[1] > 0).then_some(sections))
    }

    /// The rotary positions of layers that slide, or of those that do not.
    fn turned(&mut self, pairing: Pairing, head_dim: usize, sliding: bool) -> Result<Turned, ConfigError> {
        let a = self.architecture;
        let mut trace = Trace::default();
        let key = "rope.freq_base";
        let full = match self.number(key)? {
            Some(base) => (base, self.source(key)),
            None => (10_000.0, Source::ClassDefault),
        };
        let own = match self.number("rope.freq_base_swa")? {
            Some(base) => Some((base, self.source("rope.freq_base_swa"))),
            None => matches!(a.sliding, Sliding::Local).then_some((10_000.0, Source::ClassDefault)),
        };
        let (base, source) = if sliding { own.unwrap_or(full) } else { full };
        if !(base.is_finite() && base > 0.0) {
            return Err(ConfigError::Wrong {
                key: source.to_string(),
                given: base.to_string(),
                expected: "a positive number",
            });
        }
        let alpha = self.number("rope.scaling.alpha")?.filter(|alpha| *alpha != 0.0);
        trace.note("base", base.to_string(), source);

        let swa = self.size("rope.dimension_count_swa")?.filter(|_| sliding);
        let (mut width, source) = match (swa, self.size("rope.dimension_count")?) {
            (Some(width), _) => (width, self.source("rope.dimension_count_swa")),
            (None, Some(width)) => (width, self.source("rope.dimension_count")),
            (None, None) => (head_dim, Source::Derived("the whole head".into())),
        };
        if a.name == "step35" && !sliding {
            // Its full layers turn half of what the key says, which is the width of those that slide.
            width /= 2;
        }
        if width > head_dim {
            return Err(ConfigError::Wrong {
                key: source.to_string(),
                given: width.to_string(),
                expected: "at most the width of a head",
            });
        }
        trace.note("rotary_dim", width.to_string(), source);
        let by = match pairing {
            Pairing::Interleaved => "Interleaved: this architecture's weights in GGUF",
            _ => "Halves: this architecture's weights in GGUF",
        };
        trace.note("pairing", by.into(), Source::Model);
        trace.note("precision", "f32 angles, as the model was trained".into(), Source::Model);
        let mut rotary = Rotary {
            base,
            rotary_dim: Some(width),
            precision: Precision::Reference,
            slice: if a.latent { Slice::Trailing } else { Slice::Leading },
            axes: self.axes(width, &mut trace)?,
            ..Rotary::new(pairing)
        };
        let scaled = !sliding || matches!(a.sliding, Sliding::Same);
        let mut softmax_factor = None;
        if scaled {
            (rotary.scaling, softmax_factor) = self.scaling(width, &mut trace)?;
        }
        if let Some(alpha) = alpha {
            if rotary.scaling != Scaling::Unscaled {
                return Err(ConfigError::Conflict {
                    first: (self.key("rope.scaling.alpha"), alpha.to_string()),
                    second: (self.key("rope.scaling.type"), rotary.scaling.to_string()),
                    taken: "neither".into(),
                });
            }
            rotary.scaling = Scaling::Alpha { alpha };
            trace.note("scaling", rotary.scaling.to_string(), self.source("rope.scaling.alpha"));
        }
        rotary.scaling.check(base, width).map_err(|error| ConfigError::Setting {
            path: self.key("rope.scaling"),
            error,
        })?;
        Ok(Turned {
            rotary,
            softmax_factor,
            trace,
        })
    }

    fn axes(&self, width: usize, trace: &mut Trace) -> Result<Axes, ConfigError> {
        let spread = matches!(self.architecture.method, Method::Spread);
        if !spread && !matches!(self.architecture.method, Method::Chunked(_)) {
            return Ok(Axes::One);
        }
        let key = "rope.dimension_sections";
        let Some(sections) = self.sections()? else {
            return match spread {
                true => Err(self.missing(key, "which axis turns which pair")),
                false => Ok(Axes::One),
            };
        };
        let total: usize = sections.iter().sum();
        if total != width / 2 {
            return Err(ConfigError::Wrong {
                key: self.key(key),
                given: format!("{sections:?}, together {total}"),
                expected: "together as many as pairs turn",
            });
        }
        trace.note("axes", format!("{sections:?}"), self.source(key));
        Ok(if spread {
            Axes::Spread { sections }
        } else {
            Axes::Chunked { sections }
        })
    }

    /// How frequencies are changed, and what the softmax scale is multiplied by.
    fn scaling(&mut self, width: usize, trace: &mut Trace) -> Result<(Scaling, Option<f64>), ConfigError> {
        let a = self.architecture;
        let kind = match self.text("rope.scaling.type")? {
            None => "linear",
            Some(kind @ ("none" | "linear" | "yarn" | "longrope")) => match kind {
                "none" => "none",
                "yarn" => "yarn",
                "longrope" => "longrope",
                _ => "linear",
            },
            Some(other) => {
                return Err(ConfigError::Wrong {
                    key: self.key("rope.scaling.type"),
                    given: format!("\"{other}\""),
                    expected: "none, linear, yarn or longrope",
                });
            }
        };
        if self.find("rope.scaling.type").is_some() {
            trace.note("rope_type", kind.into(), self.source("rope.scaling.type"));
        }
        // 0 is absent; the older key counts where the newer is not.
        let new = self.number("rope.scaling.factor")?.map(|s| (s, "rope.scaling.factor"));
        let old = self.number("rope.scale_linear")?.map(|s| (s, "rope.scale_linear"));
        if let (Some((new, _)), Some((old, _))) = (new, old)
            && new != old
        {
            self.complain(ConfigError::Conflict {
                first: (self.key("rope.scaling.factor"), new.to_string()),
                second: (self.key("rope.scale_linear"), old.to_string()),
                taken: self.key("rope.scaling.factor"),
            })?;
        }
        let factor = new.or(old).filter(|(s, _)| *s != 0.0 && kind != "none");
        if let Some((s, key)) = factor {
            trace.note("factor", s.to_string(), self.source(key));
        }
        let s = factor.map_or(1.0, |(s, _)| s);
        let times = self.number("rope.scaling.attn_factor")?;
        if let Some(x) = times {
            trace.note("attn_factor", x.to_string(), self.source("rope.scaling.attn_factor"));
        }
        let context = self.size("context_length")?;
        let original = match self.size("rope.scaling.original_context_length")? {
            Some(len) if len > 0 => Some((len, self.source("rope.scaling.original_context_length"))),
            _ => context.map(|len| {
                (
                    len,
                    Source::Derived(format!("{}: no original_context_length", self.key("context_length"))),
                )
            }),
        };
        let trained = |trace: &mut Trace| -> Result<usize, ConfigError> {
            let (len, source) = original.clone().ok_or(ConfigError::Missing {
                key: format!("{}.context_length", a.name),
                needed_for: "the length that the model was trained on",
            })?;
            trace.note("original_len", len.to_string(), source);
            Ok(len)
        };
        let divisors = self.divisors(kind, width, trace)?;
        if kind == "yarn" {
            // What part of YaRN is blended in: all, or none, which is linear.
            let part = self.number("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0);
            if divisors.is_some() || !(part == 1.0 || part == 0.0) {
                return Err(ConfigError::Wrong {
                    key: self.key("rope.scaling.yarn_ext_factor"),
                    given: part.to_string(),
                    expected: "0 or 1, and no tensor of frequencies beside it",
                });
            }
            if part == 1.0 {
                let original_len = trained(trace)?;
                return self.yarn(s, original_len, times, trace);
            }
        }
        let scaling = match divisors {
            Some(Divisors::Same(name, list)) => {
                let divisors = list.iter().map(|divisor| divisor * s).collect();
                let scaling = Scaling::Divided {
                    divisors,
                    magnitude: times.unwrap_or(1.0),
                };
                trace.note("scaling", scaling.to_string(), Source::Key(name));
                scaling
            }
            Some(Divisors::ByLength { short, long }) => {
                let original_len = trained(trace)?;
                let of = |list: Vec<f64>| list.iter().map(|divisor| divisor * s).collect::<Vec<f64>>();
                let longer = context.unwrap_or(original_len) as f64 / original_len as f64;
                let scaling = Scaling::Longrope(LongRope {
                    short_factor: of(short),
                    long_factor: of(long),
                    original_len,
                    factor: longer,
                    magnitude: Magnitude::Given(times.unwrap_or(1.0)),
                });
                let names = "rope_factors_short.weight and rope_factors_long.weight";
                trace.note("scaling", scaling.to_string(), Source::Key(names.into()));
                scaling
            }
            None if times.is_some_and(|x| x != 1.0) => Scaling::Divided {
                divisors: vec![s; width.div_ceil(2)],
                magnitude: times.unwrap_or(1.0),
            },
            None if s != 1.0 => {
                let scaling = Scaling::Linear { factor: s };
                trace.note(
                    "scaling",
                    scaling.to_string(),
                    self.source(factor.map_or("rope.scaling.factor", |(_, key)| key)),
                );
                scaling
            }
            None => Scaling::Unscaled,
        };
        Ok((scaling, None))
    }

    /// ggml multiplies YaRN's tables by `1 + 0.1 ln s` itself, whatever it is told, and llama.cpp divides that out again: what is left is the file's `attn_factor` times YaRN's own magnitude, or times the ratio that
    /// `yarn_log_multiplier` (transformers' `mscale_all_dim`) asks for.
    fn yarn(&mut self, s: f64, original_len: usize, times: Option<f64>, trace: &mut Trace) -> Result<(Scaling, Option<f64>), ConfigError> {
        let a = self.architecture;
        // Zero and absent are the same here.
        let given = self.number("rope.scaling.yarn_log_multiplier")?.filter(|x| *x != 0.0);
        let multiplier = given.map(|x| match a.log_multiplier {
            Multiplier::Written => x,
            // Both are f32 numbers, and so is their quotient there: 1, not 1.000000015.
            Multiplier::Tenth | Multiplier::TenthOfBoth => f64::from(x as f32 / 0.1f32),
        });
        let magnitude = match (multiplier, times) {
            (None, None) => Magnitude::Own,
            (None, Some(times)) => Magnitude::OwnTimes(times),
            (Some(all), times) => {
                let mscale = if a.log_multiplier == Multiplier::TenthOfBoth { all } else { 1.0 };
                match times {
                    None => Magnitude::Ratio {
                        mscale,
                        mscale_all_dim: all,
                    },
                    Some(times) => Magnitude::Given(yarn_magnitude(s, mscale) / yarn_magnitude(s, all) * times),
                }
            }
        };
        let scaling = Yarn {
            factor: s,
            original_len,
            beta_fast: self.number("rope.scaling.yarn_beta_fast")?.unwrap_or(a.beta_fast),
            beta_slow: self.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: a.truncate,
            magnitude,
        };
        let scaling = Scaling::Yarn(scaling);
        trace.note("scaling", scaling.to_string(), self.source("rope.scaling.type"));
        let (shown, source) = match given {
            Some(_) => (format!("{magnitude:?}"), self.source("rope.scaling.yarn_log_multiplier")),
            None => (format!("{magnitude:?}"), Source::Derived("1 + 0.1 ln factor".into())),
        };
        trace.note("magnitude", shown, source);
        // llama.cpp does not read this one where YaRN is on; a converter writes transformers' attention_factor there.
        if let Some(x) = self.number("rope.scaling.yarn_attn_factor")? {
            let tables = scaling.frequencies(10_000.0, 4, 0).map_or(f64::NAN, |f| f.table_factor);
            let same = (x - tables).abs() <= f64::from(f32::EPSILON) * tables.abs();
            if !same && !(a.name == "grok" && x == 1.0) {
                self.complain(ConfigError::Conflict {
                    first: (self.key("rope.scaling.yarn_attn_factor"), x.to_string()),
                    second: ("the tables' magnitude by the other keys".into(), tables.to_string()),
                    taken: "the other keys, as llama.cpp does".into(),
                })?;
            }
        }
        if a.log_multiplier == Multiplier::Written {
            return Ok((scaling, None));
        }
        let Some(all) = multiplier else {
            self.complain(self.missing(
                "rope.scaling.yarn_log_multiplier",
                "what the softmax scale is multiplied by (lenient mode takes 1, as transformers)",
            ))?;
            return Ok((scaling, None));
        };
        let tables = scaling.frequencies(10_000.0, 4, 0).map_or(1.0, |f| f.table_factor);
        let factor = (tables * (1.0 + 0.1 * all * s.ln())).powi(2);
        trace.note(
            "softmax factor",
            factor.to_string(),
            Source::Derived(format!("{} squared", self.key("rope.scaling.yarn_log_multiplier"))),
        );
        Ok((scaling, Some(factor)))
    }

    /// Frequencies that stand in tensors.
    fn divisors(&mut self, kind: &str, width: usize, trace: &mut Trace) -> Result<Option<Divisors>, ConfigError> {
        const ONE: &str = "rope_freqs.weight";
        const SHORT: &str = "rope_factors_short.weight";
        const LONG: &str = "rope_factors_long.weight";
        let needed = kind == "longrope";
        if !self.architecture.divided && !needed {
            return Ok(None);
        }
        let elsewhere = |what: &str| ConfigError::Unread {
            tensor: if needed { LONG.into() } else { ONE.into() },
            reason: format!(
                "{what}, so whether it divides the frequencies (Llama 3.1's, LongRoPE's) cannot be known; lenient mode reads them undivided"
            ),
        };
        let (named, count) = match &self.header.tensors {
            Tensors::Cut(cut) => {
                let why = elsewhere(&format!("the bytes end before the list of tensors does ({cut})"));
                return self.complain(why).map(|()| None);
            }
            Tensors::Listed { named, count } => (named, *count),
        };
        let of_several = matches!(self.header.metadata.get("split.count"), Some(Value::Whole(x)) if *x > 1);
        let find = |name: &str| named.get(name).cloned();
        let (one, short, long) = (find(ONE), find(SHORT), find(LONG));
        let numbers = |file: &mut Self, name: &str, tensor: &Tensor| -> Result<Option<Vec<f64>>, ConfigError> {
            match file.header.numbers(file.bytes, name, tensor, width.div_ceil(2)) {
                Ok(list) => Ok(Some(list)),
                Err(ConfigError::Cut { given, needed, .. }) => {
                    let why = ConfigError::Unread {
                        tensor: name.into(),
                        reason: format!(
                            "it divides the frequencies (Llama 3.1's, LongRoPE's), and its numbers lie behind the {given} bytes given: give the first {needed}; lenient mode reads the frequencies undivided"
                        ),
                    };
                    file.complain(why).map(|()| None)
                }
                Err(error) => Err(error),
            }
        };
        if let Some(tensor) = one {
            return Ok(numbers(self, ONE, &tensor)?.map(|list| Divisors::Same(ONE.into(), list)));
        }
        match (short, long) {
            (Some(short), Some(long)) => {
                let (short, long) = (numbers(self, SHORT, &short)?, numbers(self, LONG, &long)?);
                return Ok(short.zip(long).map(|(short, long)| Divisors::ByLength { short, long }));
            }
            (None, None) => {}
            (Some(_), None) => return Err(self.lone(LONG, SHORT)),
            (None, Some(_)) => return Err(self.lone(SHORT, LONG)),
        }
        if count == 0 || of_several {
            let why = if of_several {
                "the model is in several files, and this one does not list it"
            } else {
                "the file lists no tensors"
            };
            self.complain(elsewhere(why))?;
        } else if needed {
            return Err(ConfigError::Missing {
                key: LONG.into(),
                needed_for: "LongRoPE",
            });
        } else if self.architecture.name == "llama"
            && self.number("rope.freq_base")? == Some(500_000.0)
            && self.size("context_length")?.is_some_and(|len| len > 8192)
        {
            // Converters before July 2024 left it out, and perplexity past 8192 tokens showed it.
            self.complain(ConfigError::Unread {
                tensor: ONE.into(),
                reason: "base and length are those of Llama 3.1, whose frequencies this tensor divides, and the file has none: convert the model anew (lenient mode reads them undivided)".into(),
            })?;
        } else {
            trace.note("divisors", "none".into(), Source::Derived(format!("no tensor `{ONE}` in the file")));
        }
        Ok(None)
    }

    fn lone(&self, missing: &str, found: &str) -> ConfigError {
        ConfigError::Missing {
            key: missing.into(),
            needed_for: if found.contains("short") {
                "LongRoPE in longer calls"
            } else {
                "LongRoPE in shorter calls"
            },
        }
    }

    /// Which layers slide.
    fn slides(&mut self, count: usize) -> Result<Vec<bool>, ConfigError> {
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
            (Layers::None, Some(keys)) => self.complain(ConfigError::Wrong {
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
    fn window(&self, slides: &[bool]) -> Result<Option<Sees>, ConfigError> {
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
    fn recurrent(&self, count: usize) -> Result<Vec<bool>, ConfigError> {
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

    fn turns(&self, layer: usize, sliding: bool, any_slides: bool, count: usize, trace: &mut Trace) -> Result<bool, ConfigError> {
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

    fn scale(
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
    fn temperature(&self, turns: bool, chunks: bool, trace: &mut Trace) -> Result<Option<Temperature>, ConfigError> {
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
    fn attention(&self, attention: &mut Attention, trace: &mut Trace) -> Result<(), ConfigError> {
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

    fn alibi(&self, count: usize, trace: &mut Trace) -> Result<Option<Alibi>, ConfigError> {
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

    /// A table of positions, where the architecture has one or the file a tensor of it.
    fn table(&mut self, stack: &mut Stack, layer: usize, max_len: Option<usize>) -> Result<(), ConfigError> {
        const NAME: &str = "position_embd.weight";
        let found = match &self.header.tensors {
            Tensors::Listed { named, .. } => named.get(NAME).cloned(),
            Tensors::Cut(_) => None,
        };
        let whole = matches!(&self.header.tensors, Tensors::Listed { count, .. } if *count > 0);
        match self.architecture.method {
            Method::Learned => {}
            // MPT's without ALiBi.
            Method::Alibi { .. } if found.is_some() => {}
            Method::Alibi { max: None, .. } if !whole && self.number("attention.max_alibi_bias")?.unwrap_or(0.0) == 0.0 => {
                return self.complain(ConfigError::Unread {
                    tensor: NAME.into(),
                    reason: "without ALiBi there may be a table of positions, and the list of tensors is not within these bytes (lenient mode reads none)".into(),
                });
            }
            _ => return Ok(()),
        }
        let rows = max_len.ok_or_else(|| self.missing("context_length", "the rows of the table of positions"))?;
        if let Some(Tensor { shape, .. }) = &found
            && shape.get(1).copied() != Some(rows as u64)
        {
            return Err(ConfigError::Conflict {
                first: (self.key("context_length"), rows.to_string()),
                second: (NAME.into(), format!("of shape {shape:?}")),
                taken: "neither".into(),
            });
        }
        let widths = self.widths(layer, false)?;
        let dims = self.dims(&widths, &mut Trace::default())?;
        let mut trace = Trace::default();
        trace.note("rows", rows.to_string(), self.source("context_length"));
        stack.embeddings(Learned::new(rows).into(), dims, trace)
    }

    /// One of T5's two stacks.
    fn t5(&mut self, count: usize, encoder: bool) -> Result<Part, ConfigError> {
        let (name, note) = match encoder {
            true => ("encoder", ""),
            false => ("decoder", "attention to the encoder has no positions"),
        };
        let mut stack = Stack::new("", self.architecture.name, self.size("context_length")?, note).of_two(name);
        let key = "attention.relative_buckets_count";
        let buckets = self.size(key)?.ok_or_else(|| self.missing(key, "the buckets of distances"))?;
        // UMT5 has a table in each layer, T5 in the first.
        let second = format!("{}.blk.1.attn_rel_b.weight", if encoder { "enc" } else { "dec" });
        let per_layer = matches!(&self.header.tensors, Tensors::Listed { named, .. } if named.contains_key(&second));
        let bias = if encoder { T5Bias::encoder() } else { T5Bias::decoder() };
        let bias = bias
            .with_buckets(buckets, 128)
            .with_scope(if per_layer { Scope::Layer } else { Scope::Model });
        for layer in 0..count {
            let widths = self.widths(layer, false)?;
            let mut trace = Trace::default();
            let dims = self.dims(&widths, &mut trace)?;
            trace.note("buckets", buckets.to_string(), self.source(key));
            trace.note("max_distance", "128".into(), Source::Model);
            let mut attention = Attention::default();
            self.scale(&mut attention, &widths, None, count, &mut trace)?;
            stack.push(Layer {
                kind: None,
                dims,
                rotary: None,
                turns: false,
                others: bias.clone().into(),
                attention,
                trace,
            })?;
        }
        Ok(stack.part())
    }
}

/// What a layer that slides can see.
#[derive(Clone)]
enum Sees {
    /// And in words.
    Window(Window, String),
    Chunk(usize),
}

enum Divisors {
    /// The tensor's name and its numbers.
    Same(String, Vec<f64>),
    ByLength {
        short: Vec<f64>,
        long: Vec<f64>,
    },
}
