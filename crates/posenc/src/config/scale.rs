//! A dictionary's kind and numbers as a [`Scaling`].

use super::json::Node;
use super::part::Reader;
use super::registry::Head;
use super::rope::Dictionary;
use super::said::at;
use super::{ConfigError, Source, Trace};
use crate::rotate::{LongRope, Magnitude, Scaling, Yarn};

impl Reader<'_> {
    /// How a dictionary of this kind changes the frequencies of exponents over `over` coordinates.
    pub fn scaling(
        &mut self,
        node: &Node<'_>,
        dictionary: &Dictionary<'_>,
        kind: &'static str,
        base: f64,
        over: usize,
        trace: &mut Trace,
    ) -> Result<Scaling, ConfigError> {
        let Some(given) = dictionary.given.clone().filter(|_| kind != "default") else {
            return Ok(Scaling::Unscaled);
        };
        let number = |key: &str| -> Result<Option<(f64, Source)>, ConfigError> { Ok(given.number(key)?.map(|x| (x, at(given.path(key))))) };
        let needed = |key: &str, what| -> Result<f64, ConfigError> {
            given.number(key)?.ok_or_else(|| ConfigError::Missing {
                key: given.path(key),
                needed_for: what,
            })
        };
        let beside = "original_max_position_embeddings";
        if let (Some(own), Some(inner), false) = (node.size(beside)?, given.size(beside)?, dictionary.nested)
            && own != inner
        {
            self.doubts.complain(ConfigError::Conflict {
                first: (node.path(beside), own.to_string()),
                second: (given.path(beside), inner.to_string()),
                taken: node.path(beside),
            })?;
        }
        let longest = self.max_len(node)?;
        let max_len = || -> Result<usize, ConfigError> {
            longest.ok_or_else(|| ConfigError::Missing {
                key: node.path("max_position_embeddings"),
                needed_for: "the length that the model was trained on",
            })
        };
        // Phi-3 writes it beside the dictionary, and that one counts.
        let original = |trace: &mut Trace| -> Result<usize, ConfigError> {
            let key = "original_max_position_embeddings";
            let (len, source) = match (node.size(key)?, given.size(key)?) {
                (Some(len), _) if !dictionary.nested => (len, self.said.source(node, key)),
                (_, Some(len)) => (len, at(given.path(key))),
                _ => (
                    max_len()?,
                    Source::Derived(format!("{}: no {key}", node.path("max_position_embeddings"))),
                ),
            };
            trace.note("original_len", len.to_string(), source);
            Ok(len)
        };
        // Where it is not given: how much longer the model reads than it was trained on.
        let factor = |original_len: usize, trace: &mut Trace| -> Result<f64, ConfigError> {
            let (factor, source) = match number("factor")? {
                Some(given) => given,
                None => (
                    max_len()? as f64 / original_len.max(1) as f64,
                    Source::Derived("max_position_embeddings / original_max_position_embeddings".into()),
                ),
            };
            trace.note("factor", factor.to_string(), source);
            Ok(factor)
        };
        let magnitude = || -> Result<Option<Magnitude>, ConfigError> { Ok(given.number("attention_factor")?.map(Magnitude::Given)) };
        let scaling = match kind {
            "linear" => Scaling::Linear {
                factor: needed("factor", "linear scaling")?,
            },
            "ntk" => Scaling::Ntk {
                factor: needed("factor", "NTK-aware scaling")?,
            },
            // HunYuan's: a base that is larger once and for all.
            "dynamic" if given.find("alpha").is_some() && given.number("alpha")? != Some(0.0) => Scaling::Alpha {
                alpha: needed("alpha", "the base")?,
            },
            "dynamic" => Scaling::Dynamic {
                factor: needed("factor", "dynamic scaling")?,
                original_len: max_len()?,
            },
            "llama3" => Scaling::Llama3 {
                factor: needed("factor", "Llama 3's scaling")?,
                original_len: original(trace)?,
                low_freq_factor: needed("low_freq_factor", "Llama 3's scaling")?,
                high_freq_factor: needed("high_freq_factor", "Llama 3's scaling")?,
            },
            "longrope" => {
                let list = |key: &'static str| {
                    given.numbers(key)?.ok_or_else(|| ConfigError::Missing {
                        key: given.path(key),
                        needed_for: "LongRoPE",
                    })
                };
                let original_len = original(trace)?;
                Scaling::Longrope(LongRope {
                    short_factor: list("short_factor")?,
                    long_factor: list("long_factor")?,
                    original_len,
                    factor: factor(original_len, trace)?,
                    magnitude: magnitude()?.unwrap_or(Magnitude::Own),
                })
            }
            _ => {
                let original_len = original(trace)?;
                // Zero and absent are the same to the code that these files are for.
                let or = |key: &str, default: f64| -> Result<f64, ConfigError> {
                    Ok(given.number(key)?.filter(|x| *x != 0.0).unwrap_or(default))
                };
                let multiplier = given.number("attn_factor")?;
                let ratio = (or("mscale", 0.0)?, or("mscale_all_dim", 0.0)?);
                let own = match (magnitude()?, multiplier, ratio) {
                    (Some(given_factor), multiplier, _) => {
                        if let Some(x) = multiplier {
                            self.doubts.complain(ConfigError::Conflict {
                                first: (given.path("attention_factor"), format!("{given_factor:?}")),
                                second: (given.path("attn_factor"), x.to_string()),
                                taken: given.path("attention_factor"),
                            })?;
                        }
                        given_factor
                    }
                    (None, Some(x), _) => Magnitude::OwnTimes(x),
                    (None, None, (mscale, mscale_all_dim)) if mscale != 0.0 && mscale_all_dim != 0.0 => {
                        Magnitude::Ratio { mscale, mscale_all_dim }
                    }
                    _ => Magnitude::Own,
                };
                Scaling::Yarn(Yarn {
                    factor: factor(original_len, trace)?,
                    original_len,
                    beta_fast: or("beta_fast", 32.0)?,
                    beta_slow: or("beta_slow", 1.0)?,
                    truncate: given.flag("truncate")?.unwrap_or(true),
                    magnitude: own,
                })
            }
        };
        trace.note("scaling", scaling.to_string(), at(given.path.clone()));
        scaling.check(base, over).map_err(|error| ConfigError::Setting {
            path: given.path.clone(),
            error,
        })?;
        Ok(scaling)
    }

    /// DeepSeek multiplies its softmax scale by the square of YaRN's magnitude at `mscale_all_dim`.
    pub fn softmax_factor(
        &mut self,
        dictionary: &Dictionary<'_>,
        scaling: &Scaling,
        trace: &mut Trace,
    ) -> Result<Option<f64>, ConfigError> {
        let (Head::Latent, Scaling::Yarn(yarn), Some(given)) = (self.model.head, scaling, &dictionary.given) else {
            return Ok(None);
        };
        let Some(mscale) = given.number("mscale_all_dim")?.filter(|x| *x != 0.0) else {
            return Ok(None);
        };
        let factor = crate::rotate::yarn_magnitude(yarn.factor, mscale).powi(2);
        trace.note(
            "softmax factor",
            factor.to_string(),
            Source::Derived(format!("(1 + 0.1 · {} · ln factor)²", given.path("mscale_all_dim"))),
        );
        Ok(Some(factor))
    }
}
