//! A dictionary of rotary settings, in any of its spellings, as a [`Rotary`].
//!
//! A value is looked for in the dictionary, then beside it in the file (older layouts), then in the class's defaults: transformers' order. Where two places say different
//! things, that is a conflict.

use super::json::{Node, shown};
use super::part::Reader;
use super::registry::{AxesRule, Head, Turning};
use super::said::{at, is_class};
use super::{ConfigError, Source, Trace};
use crate::rotate::{Axes, Pairing, Precision, Rotary, Scaling, Slice};
use serde_json::{Map, Value};

/// Names of the base beside the dictionary.
const BASES: [&str; 4] = ["rope_theta", "rotary_emb_base", "rotary_embedding_base", "rope_base"];
/// Names of the share of a head beside the dictionary.
const SHARES: [&str; 3] = ["partial_rotary_factor", "rotary_pct", "rope_pct"];
/// Names of the turning width beside the dictionary.
const WIDTHS: [&str; 2] = ["rotary_dim", "n_rot"];

/// One dictionary with what stands around it.
#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary<'a> {
    /// The file's, if it has one.
    pub given: Option<Node<'a>>,
    /// The class's.
    pub default: Option<Map<String, Value>>,
    /// The layer type that it is for.
    pub label: Option<String>,
    /// The older key of this layer type's base.
    pub old_theta: Option<&'static str>,
    /// The file has a dictionary per layer type, so what stands beside them is a fallback, not another saying of the same.
    pub nested: bool,
}

/// The kind of a dictionary, by the name that this library writes.
fn kind_of(written: &str) -> Option<&'static str> {
    Some(match written {
        // "mrope" is plain frequencies over several axes.
        "default" | "mrope" | "axial" => "default",
        "linear" => "linear",
        "dynamic" | "xdrope" => "dynamic",
        "ntk" => "ntk",
        "yarn" | "deepseek_yarn" => "yarn",
        "longrope" | "su" => "longrope",
        "llama3" => "llama3",
        "proportional" => "proportional",
        _ => return None,
    })
}

/// Whether two values of one key say the same: numbers, or dictionaries whose kinds have one name.
pub(super) fn alike(one: &Value, other: &Value) -> bool {
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => {
            let kind = |map: &Map<String, Value>| {
                let written = map.get("rope_type").or(map.get("type")).and_then(Value::as_str);
                written.map_or(Some("default"), kind_of)
            };
            let rest = |map: &Map<String, Value>| {
                let said = map
                    .iter()
                    .filter(|(key, value)| !["rope_type", "type"].contains(&key.as_str()) && !value.is_null());
                said.map(|(key, value)| (key.clone(), value.as_f64().map_or(value.clone(), Value::from)))
                    .collect::<Map<String, Value>>()
            };
            kind(one) == kind(other) && rest(one) == rest(other)
        }
        _ => one == other || one.as_f64().is_some_and(|x| other.as_f64() == Some(x)),
    }
}

/// Keys that a kind has beside those that every dictionary may have.
fn keys_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "linear" => &["factor"],
        "dynamic" => &["factor", "alpha", "original_max_position_embeddings"],
        "ntk" => &["factor"],
        "yarn" => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "attn_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            "max_position_embeddings",
        ],
        "longrope" => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "short_factor",
            "long_factor",
        ],
        "llama3" => &["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
        "proportional" => &["factor"],
        _ => &[],
    }
}

/// Keys that any dictionary may have.
const ANY: [&str; 8] = [
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "mrope_section",
    "mrope_interleaved",
    "xdrope_section",
    BETA,
];
/// How fast a temperature grows, past each multiple of `original_max_position_embeddings` in the same dictionary.
pub(super) const BETA: &str = "llama_4_scaling_beta";

/// The rotary part of a layer.
pub(super) struct Turned {
    pub rotary: Rotary,
    /// Width of a head, turned or not.
    pub head_dim: usize,
    /// What the softmax scale is multiplied by (DeepSeek's mscale²).
    pub softmax_factor: Option<f64>,
}

impl Reader<'_> {
    /// A dictionary as rotary positions, for heads in `layer` of this node.
    pub fn turned(&mut self, node: &Node<'_>, dictionary: &Dictionary<'_>, layer: usize, trace: &mut Trace) -> Result<Turned, ConfigError> {
        let base = self.base(node, dictionary, layer, trace)?;
        let (head_dim, rotary_dim) = self.widths(node, dictionary, layer, trace)?;
        let kind = self.kind(dictionary, trace)?;
        self.unknown_keys(dictionary, kind)?;
        let axes_of = self.axes(dictionary, rotary_dim, trace)?;

        let proportional = kind == "proportional";
        let mut rotary = Rotary {
            base,
            precision: if self.model.exact { Precision::Exact } else { Precision::Reference },
            reversed: self.model.reversed,
            axes: axes_of,
            ..Rotary::new(self.model.pairing)
        };
        // DeepSeek's class can also turn halves as they are.
        let interleave = node.flag("rope_interleave")?;
        match (rotary.pairing, interleave) {
            (Pairing::InterleavedToHalves, Some(on)) => {
                if !on {
                    rotary.pairing = Pairing::Halves;
                }
                trace.note(
                    "pairing",
                    format!("{:?}", rotary.pairing),
                    self.said.source(node, "rope_interleave"),
                );
            }
            _ => trace.note("pairing", format!("{:?}", rotary.pairing), Source::Model),
        }
        let precision = match self.model.exact {
            true => "f64 angles, rounded once",
            false => "f32 angles, as the model was trained",
        };
        trace.note("precision", precision.into(), Source::Model);
        if proportional {
            rotary.scaling = Scaling::Proportional {
                partial: rotary_dim as f64 / head_dim as f64,
                factor: self.number(dictionary, "factor")?.unwrap_or(1.0),
            };
            // The pairs that turn are counted by the share itself, not by the width it is cut to.
            if let (Scaling::Proportional { partial, .. }, Some(share)) = (&mut rotary.scaling, self.share(node, dictionary, layer)?) {
                *partial = share.0;
            }
        } else {
            match self.model.head {
                Head::Latent | Head::Last => {
                    rotary.slice = Slice::Trailing;
                    rotary.rotary_dim = Some(rotary_dim);
                }
                Head::Across => {
                    rotary.across_heads = true;
                    rotary.exponent_dim = Some(rotary_dim);
                }
                _ if rotary_dim != head_dim => rotary.rotary_dim = Some(rotary_dim),
                _ => {}
            }
            if let AxesRule::Three = self.model.axes {
                rotary.exponent_dim = Some(rotary_dim / 3);
            } else if !rotary_dim.is_multiple_of(2) && rotary_dim < head_dim {
                // An odd share of a head: one coordinate more turns, with exponents over the odd number.
                rotary.rotary_dim = Some(rotary_dim + 1);
                rotary.exponent_dim = Some(rotary_dim);
            }
            let (base, over) = (rotary.base, rotary.exponent_dim.unwrap_or(rotary_dim));
            rotary.scaling = self.scaling(node, dictionary, kind, base, over, trace)?;
        }
        let softmax_factor = self.softmax_factor(dictionary, &rotary.scaling, trace)?;
        Ok(Turned {
            rotary,
            head_dim,
            softmax_factor,
        })
    }

    fn base(&mut self, node: &Node<'_>, dictionary: &Dictionary<'_>, layer: usize, trace: &mut Trace) -> Result<f64, ConfigError> {
        if let (Turning::Bases(_), Some(key)) = (self.model.turning, node.first(&["layer_rope_theta"])) {
            // 0 marks a layer that does not turn.
            let (base, path) = per_layer(node, key, layer)?;
            if base > 0.0 {
                trace.note("base", base.to_string(), Source::Key(path));
                return Ok(base);
            }
        }
        let key = match dictionary.old_theta {
            Some(key) => node.first(&[key]),
            None => self.one_of(node, &BASES)?,
        };
        // An older key of another layer type is not this one's base.
        let beside = key.map(|key| per_layer(node, key, layer)).transpose()?;
        // What the file says beside it stands above the class's dictionary.
        let inside = dictionary
            .given
            .as_ref()
            .filter(|given| beside.is_none() || !is_class(given))
            .map(|given| given.number("rope_theta"))
            .transpose()?
            .flatten();
        let (value, source) = match (inside, beside) {
            (Some(x), beside) => {
                let path = dictionary.given.as_ref().map(|given| given.path("rope_theta")).unwrap_or_default();
                if let (Some((y, other)), false) = (beside, dictionary.nested)
                    && x != y
                {
                    self.doubts.complain(ConfigError::Conflict {
                        first: (path.clone(), x.to_string()),
                        second: (other, y.to_string()),
                        taken: path.clone(),
                    })?;
                }
                (x, at(path))
            }
            (None, Some((y, path))) => (y, Source::Key(path)),
            (None, None) => {
                let in_default = dictionary
                    .default
                    .as_ref()
                    .and_then(|d| d.get("rope_theta"))
                    .and_then(Value::as_f64);
                match node.number("rope_ratio")? {
                    Some(ratio) => (10_000.0 * ratio, Source::Derived(format!("10000 · {}", node.path("rope_ratio")))),
                    None => (in_default.unwrap_or(self.model.theta), Source::ClassDefault),
                }
            }
        };
        if !(value.is_finite() && value > 0.0) {
            return Err(ConfigError::Wrong {
                key: source.to_string(),
                given: value.to_string(),
                expected: "a positive number",
            });
        }
        trace.note("base", value.to_string(), source);
        Ok(value)
    }

    /// The name that counts of several names of one value; the others must say the same.
    fn one_of(&mut self, node: &Node<'_>, names: &[&'static str]) -> Result<Option<&'static str>, ConfigError> {
        let reads = names
            .iter()
            .copied()
            .find(|name| self.model.reads.contains(name) && node.find(name).is_some());
        let Some(taken) = reads.or_else(|| self.said.first(node, names)) else {
            return Ok(None);
        };
        let Some(own) = node.find(taken) else { return Ok(None) };
        for other in names.iter().filter(|other| **other != taken) {
            if let Some(value) = node.find(other)
                && (value.as_f64() != own.as_f64() || value.is_array() && value != own)
            {
                self.doubts.complain(ConfigError::Conflict {
                    first: (node.path(taken), shown(own)),
                    second: (node.path(other), shown(value)),
                    taken: node.path(taken),
                })?;
            }
        }
        Ok(Some(taken))
    }

    /// `partial_rotary_factor` under any of its names, with where it stands.
    fn share(&mut self, node: &Node<'_>, dictionary: &Dictionary<'_>, layer: usize) -> Result<Option<(f64, Source)>, ConfigError> {
        let list = node.first(&["partial_rotary_factors"]);
        let beside = self.one_of(node, &SHARES)?.or(list);
        let inside = match &dictionary.given {
            Some(given) if beside.is_none() || !is_class(given) => given
                .number("partial_rotary_factor")?
                .map(|x| (x, at(given.path("partial_rotary_factor")))),
            _ => None,
        };
        let found = match (inside, beside) {
            (Some(inside), _) => Some(inside),
            (None, Some(key)) => {
                let (x, path) = per_layer(node, key, layer)?;
                Some((x, Source::Key(path)))
            }
            (None, None) => {
                let in_default = dictionary
                    .default
                    .as_ref()
                    .and_then(|d| d.get("partial_rotary_factor"))
                    .and_then(Value::as_f64);
                in_default.or(self.model.partial).map(|x| (x, Source::ClassDefault))
            }
        };
        // Where all heads turn together a share may be of several; its width is checked against theirs.
        let most = if let Head::Across = self.model.head { f64::MAX } else { 1.0 };
        match found {
            Some((x, source)) if !(x > 0.0 && x <= most) => Err(ConfigError::Wrong {
                key: source.to_string(),
                given: x.to_string(),
                expected: "a share of the head: above 0 and at most 1",
            }),
            found => Ok(found),
        }
    }

    /// Width of a head, and how much of it turns.
    fn widths(
        &mut self,
        node: &Node<'_>,
        dictionary: &Dictionary<'_>,
        layer: usize,
        trace: &mut Trace,
    ) -> Result<(usize, usize), ConfigError> {
        let (head_dim, source) = self.head_dim(node)?;
        trace.note("head_dim", head_dim.to_string(), source);
        if head_dim == 0 {
            return Err(ConfigError::Setting {
                path: node.path.clone(),
                error: crate::Error::Zero { what: "head_dim" },
            });
        }
        if let Head::Latent = self.model.head {
            let key = "qk_rope_head_dim";
            let width = node.size(key)?.ok_or_else(|| ConfigError::Missing {
                key: node.path(key),
                needed_for: "the part of a head that turns",
            })?;
            trace.note("rotary_dim", format!("last {width}"), self.said.source(node, key));
            return Ok((head_dim, width));
        }
        if let Head::HalfAtLeast(_, least) = self.model.head {
            let width = (head_dim / 2).max(least);
            trace.note(
                "rotary_dim",
                width.to_string(),
                Source::Derived(format!("half a head, at least {least}")),
            );
            return Ok((head_dim, width));
        }
        if let AxesRule::Three = self.model.axes {
            let width = 3 * (2 * (head_dim / 2 / 3));
            trace.note(
                "rotary_dim",
                width.to_string(),
                Source::Derived("three axes of an even width each".into()),
            );
            return Ok((head_dim, width));
        }
        let named = node.first(&WIDTHS).filter(|_| !self.model.deaf_to_rotary_dim);
        let inside = dictionary
            .given
            .as_ref()
            .is_some_and(|given| given.find("partial_rotary_factor").is_some());
        let (width, source) = match (named, self.share(node, dictionary, layer)?) {
            (Some(key), share) if !inside && !matches!(share, Some((_, Source::Key(_)))) => {
                (node.size(key)?.unwrap_or(head_dim), self.said.source(node, key))
            }
            (_, Some((share, source))) => (
                (head_dim as f64 * share) as usize,
                Source::Derived(format!("head_dim · {share}, {source}")),
            ),
            (_, None) => (head_dim, Source::Derived("the whole head".into())),
        };
        if width > head_dim && !matches!(self.model.head, Head::Across) {
            return Err(ConfigError::Wrong {
                key: source.to_string(),
                given: width.to_string(),
                expected: "at most the width of a head",
            });
        }
        let name = if let Head::Across = self.model.head {
            "exponent_dim"
        } else {
            "rotary_dim"
        };
        trace.note(name, width.to_string(), source);
        Ok((head_dim, width))
    }

    /// Width of a head.
    pub fn head_dim(&self, node: &Node<'_>) -> Result<(usize, Source), ConfigError> {
        let divided = |width: &'static str, heads: &'static str| -> Result<(usize, Source), ConfigError> {
            let missing = |key| ConfigError::Missing {
                key: node.path(key),
                needed_for: "the width of a head",
            };
            let d = node.size(width)?.ok_or_else(|| missing(width))?;
            let h = node.size(heads)?.ok_or_else(|| missing(heads))?;
            if h == 0 {
                return Err(ConfigError::Wrong {
                    key: node.path(heads),
                    given: "0".into(),
                    expected: "at least one head",
                });
            }
            Ok((d / h, Source::Derived(format!("{} / {}", node.path(width), node.path(heads)))))
        };
        match self.model.head {
            Head::Latent => {
                let part = |key| {
                    node.size(key)?.ok_or_else(|| ConfigError::Missing {
                        key: node.path(key),
                        needed_for: "the width of a head",
                    })
                };
                let sum = part("qk_nope_head_dim")?.saturating_add(part("qk_rope_head_dim")?);
                Ok((sum, Source::Derived("qk_nope_head_dim + qk_rope_head_dim".into())))
            }
            Head::Over(width, heads) => divided(width, heads),
            Head::Twice => {
                let (half, source) = divided(self.width_key(node)?, self.heads_key(node)?)?;
                Ok((2 * half, Source::Derived(format!("2 · {source}"))))
            }
            Head::HalfAtLeast(width, _) => divided(width, "num_attention_heads"),
            Head::Key(key) if node.find(key).is_some() => Ok((node.size(key)?.unwrap_or(0), self.said.source(node, key))),
            Head::Own | Head::Last | Head::Across | Head::Key(_) => match node.size("head_dim")? {
                Some(d) => Ok((d, self.said.source(node, "head_dim"))),
                None => divided(self.width_key(node)?, self.heads_key(node)?),
            },
        }
    }

    /// The dictionary's kind; both spellings must say the same.
    fn kind(&mut self, dictionary: &Dictionary<'_>, trace: &mut Trace) -> Result<&'static str, ConfigError> {
        let Some(given) = &dictionary.given else { return Ok("default") };
        let read = |key: &str| -> Result<Option<(&str, &'static str)>, ConfigError> {
            let Some(written) = given.text(key)? else { return Ok(None) };
            match kind_of(written) {
                Some(kind) => Ok(Some((written, kind))),
                None => Err(ConfigError::Wrong {
                    key: given.path(key),
                    given: format!("\"{written}\""),
                    expected: "default, linear, ntk, dynamic, yarn, longrope, llama3, proportional, or an older name of one of them",
                }),
            }
        };
        // An older name is said beside the one that it has now.
        let named = |(written, kind): (&str, &str)| match written == kind {
            true => kind.to_string(),
            false => format!("{kind} (\"{written}\" in the file)"),
        };
        let kind = match (read("rope_type")?, read("type")?) {
            (Some(new), Some(old)) => {
                if new.1 != old.1 {
                    self.doubts.complain(ConfigError::Conflict {
                        first: (given.path("rope_type"), new.0.into()),
                        second: (given.path("type"), old.0.into()),
                        taken: given.path("rope_type"),
                    })?;
                }
                trace.note("rope_type", named(new), at(given.path("rope_type")));
                new.1
            }
            (Some(new), None) => {
                trace.note("rope_type", named(new), at(given.path("rope_type")));
                new.1
            }
            (None, Some(old)) => {
                trace.note("rope_type", named(old), at(given.path("type")));
                old.1
            }
            (None, None) => "default",
        };
        Ok(kind)
    }

    fn unknown_keys(&mut self, dictionary: &Dictionary<'_>, kind: &'static str) -> Result<(), ConfigError> {
        let Some(given) = &dictionary.given else { return Ok(()) };
        let takes_sections = !matches!(self.model.axes, AxesRule::One);
        for (key, value) in given.map {
            let known = ANY.contains(&key.as_str()) || keys_of(kind).contains(&key.as_str());
            let sections = key.contains("rope_section") || key == "mrope_interleaved";
            // HunYuan's files hold YaRN's numbers beside the one that their class reads.
            let beside_alpha = kind == "dynamic" && given.find("alpha").is_some() && keys_of("yarn").contains(&key.as_str());
            // What transformers fills in beside an unscaled kind says nothing; a temperature counts from it under any kind; null is absent.
            let trained_len = key == "original_max_position_embeddings" && (kind == "default" || given.find(BETA).is_some());
            if value.is_null() || (known && (takes_sections || !sections)) || trained_len || beside_alpha {
                continue;
            }
            self.doubts.complain(ConfigError::UnknownKey {
                key: given.path(key),
                kind: kind.into(),
            })?;
        }
        Ok(())
    }

    fn axes(&mut self, dictionary: &Dictionary<'_>, rotary_dim: usize, trace: &mut Trace) -> Result<Axes, ConfigError> {
        let pairs = rotary_dim.div_ceil(2);
        let (sections, default) = match self.model.axes {
            AxesRule::One => return Ok(Axes::One),
            AxesRule::Grid(axes) => return Ok(Axes::Grid { axes: axes.to_vec() }),
            AxesRule::InTurn(axes) => return Ok(Axes::InTurn { axes: axes.to_vec() }),
            AxesRule::Dealt(axes) => return Ok(Axes::Dealt { axes }),
            AxesRule::Three => return Ok(Axes::Grid { axes: vec![0, 1, 2] }),
            AxesRule::Chunked(default) | AxesRule::Spread(default) | AxesRule::GridFirst(default) => {
                let given = dictionary.given.as_ref().and_then(|given| {
                    let key = given.first(&["mrope_section", "xdrope_section"])?;
                    Some((given, key))
                });
                match given {
                    Some((given, key)) => {
                        let list = given.list(key)?.unwrap_or_default();
                        let sections: Option<Vec<usize>> = list.iter().map(|x| usize::try_from(x.as_u64()?).ok()).collect();
                        let fits = sections.filter(|s| (2..=8).contains(&s.len()) && s.iter().all(|s| *s <= pairs));
                        let Some(sections) = fits else {
                            return Err(ConfigError::Wrong {
                                key: given.path(key),
                                given: shown(&Value::Array(list.to_vec())),
                                expected: "two to eight whole numbers of pairs, none more than a head has",
                            });
                        };
                        let total: usize = sections.iter().sum();
                        if total != pairs {
                            let wrong = ConfigError::Wrong {
                                key: given.path(key),
                                given: format!("{sections:?}, together {total}"),
                                expected: "together as many as pairs turn",
                            };
                            match self.model.axes {
                                // The code that trained these leaves what no other axis has to the first.
                                AxesRule::Spread(_) => self.doubts.warn(wrong),
                                _ => return Err(wrong),
                            }
                        }
                        trace.note("axes", format!("{sections:?}"), at(given.path(key)));
                        (sections, false)
                    }
                    None => {
                        trace.note("axes", format!("{default:?}"), Source::ClassDefault);
                        (default.to_vec(), true)
                    }
                }
            }
        };
        let total: usize = sections.iter().sum();
        Ok(match self.model.axes {
            // A class default that does not fill this head is for another size of the model; text alone needs no sections.
            AxesRule::Chunked(_) | AxesRule::GridFirst(_) if default && total != pairs => {
                self.doubts.warn(ConfigError::Wrong {
                    key: "the class's mrope_section".into(),
                    given: format!("{sections:?}"),
                    expected: "together as many as pairs turn: write mrope_section; read as one axis",
                });
                Axes::One
            }
            AxesRule::Chunked(_) => Axes::Chunked { sections },
            AxesRule::GridFirst(_) => match sections[..] {
                [row, column, _] if row == column => Axes::GridFirst { grid: row + column },
                _ => {
                    return Err(ConfigError::Wrong {
                        key: "mrope_section".into(),
                        given: format!("{sections:?}"),
                        expected: "pairs of row, column and time, the first two equal",
                    });
                }
            },
            _ => Axes::Spread { sections },
        })
    }

    /// A number in the file's dictionary.
    pub fn number(&self, dictionary: &Dictionary<'_>, key: &str) -> Result<Option<f64>, ConfigError> {
        dictionary
            .given
            .as_ref()
            .map(|given| given.number(key))
            .transpose()
            .map(Option::flatten)
    }
}

/// A number, or a layer's in a list of one per layer, and its path.
fn per_layer(node: &Node<'_>, key: &str, layer: usize) -> Result<(f64, String), ConfigError> {
    let wrong = |value: &Value| ConfigError::Wrong {
        key: node.path(key),
        given: shown(value),
        expected: "a number, or a list of one per layer",
    };
    match node.find(key) {
        Some(list @ Value::Array(values)) => {
            let x = values.get(layer).and_then(Value::as_f64).ok_or_else(|| wrong(list))?;
            Ok((x, format!("{}[{layer}]", node.path(key))))
        }
        Some(value) => Ok((value.as_f64().ok_or_else(|| wrong(value))?, node.path(key))),
        None => Err(wrong(&Value::Null)),
    }
}
