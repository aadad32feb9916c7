//! What layers turn by.

use super::super::{ConfigError, Source, Trace};
use super::File;
use super::architectures::{Method, Multiplier, Sliding};
use super::container::{Tensor, Tensors, Value};
use crate::dims::Dims;
use crate::rotate::{Axes, LongRope, Magnitude, Pairing, Precision, Rotary, Scaling, Slice, Yarn, yarn_magnitude};

/// What layers that slide, or layers that do not, turn by.
#[derive(Clone)]
pub(super) struct Turned {
    pub rotary: Rotary,
    pub softmax_factor: Option<f64>,
    pub trace: Trace,
}

impl File<'_> {
    /// The pairing of a model that turns.
    pub(super) fn pairing(&self, count: usize) -> Result<Option<Pairing>, ConfigError> {
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
    pub(super) fn turned(&mut self, pairing: Pairing, head_dim: usize, sliding: bool) -> Result<Turned, ConfigError> {
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
            self.doubts.complain(ConfigError::Conflict {
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
            if !(same || a.name == "grok" && x == 1.0) {
                self.doubts.complain(ConfigError::Conflict {
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
            self.doubts.complain(self.missing(
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
            Source::Derived(format!(
                "((1 + 0.1 · {} · ln factor) · the tables' factor)²",
                self.key("rope.scaling.yarn_log_multiplier")
            )),
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
                return self.doubts.complain(why).map(|()| None);
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
                    file.doubts.complain(why).map(|()| None)
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
            self.doubts.complain(elsewhere(why))?;
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
            self.doubts.complain(ConfigError::Unread {
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
}

enum Divisors {
    /// The tensor's name and its numbers.
    Same(String, Vec<f64>),
    ByLength {
        short: Vec<f64>,
        long: Vec<f64>,
    },
}
