//! GGUF: metadata of a file for llama.cpp as layers.
//!
//! Which keys there are and what they mean is llama.cpp's loader; what no key says stands in [`architectures`]. Llama 3's and LongRoPE's frequencies are tensors (`rope_freqs.weight`, `rope_factors_long.weight`,
//! `rope_factors_short.weight`): they are read where their bytes were given, and are an error, or a warning in lenient mode, where they were not.

mod architectures;
mod attention;
mod container;
mod turned;
mod values;

use super::error::Doubts;
use super::stack::{Layer, Stack, layers};
use super::{ConfigError, Format, Mode, ModelConfig, Part, Source, Trace};
use crate::attention::Attention;
use crate::bias::T5Bias;
use crate::dims::Dims;
use crate::embed::Learned;
use crate::encoding::Encoding;
use crate::params::Scope;
use crate::rotate::{Rotary, Slice};
use architectures::{Architecture, Method};
use attention::Sees;
use container::{Header, Tensor, Tensors, Value};
use turned::Turned;
use values::shown;

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
        doubts: Doubts::new(mode),
    };
    let parts = file.parts()?;
    Ok(ModelConfig {
        format: Format::Gguf,
        model_type: name,
        parts,
        left: Vec::new(),
        warnings: file.doubts.warnings,
    })
}

struct File<'b> {
    bytes: &'b [u8],
    header: Header,
    architecture: &'static Architecture,
    doubts: Doubts,
}

/// Widths and counts of one layer.
struct Widths {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    head_key: String,
}

impl File<'_> {
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
        let mut stack = Stack::new("", a.name, max_len, a.note).long_by(Some(self.key("context_length")));
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
                (true, true, _) if attention.chunk.is_some() => Some("chunked_attention"),
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
                attends,
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
                return self.doubts.complain(ConfigError::Unread {
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
        let mut stack = Stack::new("", self.architecture.name, self.size("context_length")?, note)
            .long_by(Some(self.key("context_length")))
            .of_two(name);
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
                attends: true,
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
