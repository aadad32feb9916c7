//! Which type each layer has, and which layers turn.

use super::json::{Node, shown};
use super::part::{DEEPEST, Reader, nested};
use super::registry::{Pattern, Turning};
use super::{ConfigError, Source, Trace};
use serde_json::Value;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// A layer type by the name that transformers writes now.
pub(super) fn renamed(name: &str) -> &str {
    match name {
        "mamba" | "recurrent" => "linear_attention",
        "attention" => FULL,
        "deepseek_sparse_attention" | "qwen_sparse_attention" => "indexed_attention",
        name => name,
    }
}

/// A list of one number for each layer is as long as there are layers.
fn enough(node: &Node<'_>, key: &str, list: &[f64], layers: usize) -> Result<(), ConfigError> {
    match list.len() >= layers {
        true => Ok(()),
        false => Err(ConfigError::Wrong {
            key: node.path(key),
            given: format!("a list of {}", list.len()),
            expected: "a number for each layer",
        }),
    }
}

/// A layer's number in such a list.
fn of_layer(node: &Node<'_>, key: &str, list: &[f64], layer: usize) -> Result<f64, ConfigError> {
    enough(node, key, list, layer + 1).map(|()| list[layer])
}

impl Reader<'_> {
    /// The type of each layer, where there are types.
    pub fn layer_types(&self, node: &Node<'_>, count: Option<usize>) -> Result<Option<Vec<String>>, ConfigError> {
        let mut types = self.listed(node, count)?;
        if types.is_none() {
            types = match count.filter(|count| *count <= DEEPEST) {
                Some(count) => self.by_rule(node, count)?,
                None => None,
            };
        }
        if let (true, Some(last)) = (self.model.ends_full, types.as_mut().and_then(|types| types.last_mut())) {
            *last = FULL.into();
        }
        Ok(types)
    }

    /// The file's list.
    fn listed(&self, node: &Node<'_>, count: Option<usize>) -> Result<Option<Vec<String>>, ConfigError> {
        for key in ["layer_types", "layers_block_type"] {
            let Some(list) = node.list(key)? else { continue };
            if list.len() > DEEPEST {
                return Err(ConfigError::TooMany {
                    what: "layer types",
                    given: list.len(),
                    limit: DEEPEST,
                });
            }
            let names: Option<Vec<String>> = list
                .iter()
                .map(|name| name.as_str().map(|name| renamed(name).to_string()))
                .collect();
            let wrong = |given: String, expected| ConfigError::Wrong {
                key: node.path(key),
                given,
                expected,
            };
            let names = names.ok_or_else(|| wrong(shown(&Value::Array(list.to_vec())), "a list of names"))?;
            if count.is_some_and(|count| names.len() < count) {
                return Err(wrong(format!("a list of {}", names.len()), "a name for each layer"));
            }
            return Ok(Some(names));
        }
        Ok(None)
    }

    /// The class's rule.
    fn by_rule(&self, node: &Node<'_>, count: usize) -> Result<Option<Vec<String>>, ConfigError> {
        let window = node.size("sliding_window")?.is_some_and(|keys| keys > 0);
        let used = node.flag("use_sliding_window")?.unwrap_or(false) && window;
        let period = |key: &str, n: usize| -> Result<usize, ConfigError> { Ok(node.size(key)?.unwrap_or(n).max(1)) };
        let slides = |on: bool| if on { SLIDING } else { FULL };
        let rule: Box<dyn Fn(usize) -> &'static str> = match self.model.pattern {
            Pattern::None => return Ok(None),
            // EXAONE 4's first files: a letter for each layer of a round, G for one that sees all.
            Pattern::EveryLast(key, _) if node.find(key).is_some_and(Value::is_string) => {
                let letters = node.text(key)?.unwrap_or_default().as_bytes().to_vec();
                if letters.is_empty() || !letters.iter().all(|letter| b"LG".contains(letter)) {
                    return Err(ConfigError::Wrong {
                        key: node.path(key),
                        given: node.find(key).map(shown).unwrap_or_default(),
                        expected: "a whole number, or letters L and G for the layers of a round",
                    });
                }
                Box::new(move |i| slides(letters[i % letters.len()] == b'L'))
            }
            Pattern::EveryLast(key, n) => {
                let n = period(key, n)?;
                Box::new(move |i| slides((i + 1) % n != 0))
            }
            Pattern::EveryFirst(key, n) => {
                let n = period(key, n)?;
                Box::new(move |i| slides(i % n != 0))
            }
            Pattern::Linear(key, n, name) => {
                let n = period(key, n)?;
                Box::new(move |i| if (i + 1) % n == 0 { name } else { "linear_attention" })
            }
            Pattern::All(name) => Box::new(move |_| name),
            Pattern::Slides(name) => Box::new(move |_| if window { name } else { FULL }),
            Pattern::Above(flag) => {
                let on = window && flag.map_or(Ok(Some(true)), |flag| node.flag(flag))?.unwrap_or(false);
                let from = node.size("max_window_layers")?.unwrap_or(0);
                Box::new(move |i| slides(on && i >= from))
            }
            Pattern::Below => {
                let below = node.size("max_window_layers")?.unwrap_or(0);
                Box::new(move |i| slides(used && i % 2 == 0 && i < below))
            }
            Pattern::Used => Box::new(move |_| slides(used)),
            Pattern::Written(first, cycle, last) => Box::new(move |i| match last {
                Some(last) if i + 1 == count => last,
                _ => first
                    .get(i)
                    .copied()
                    .unwrap_or_else(|| if cycle.is_empty() { FULL } else { cycle[i % cycle.len()] }),
            }),
            Pattern::FromEnd(n) => Box::new(move |i| slides(!(count - 1 - i).is_multiple_of(n))),
            Pattern::Chosen(key, chosen, others, without) => match node.numbers(key)? {
                Some(list) => Box::new(move |i| if list.contains(&(i as f64)) { chosen } else { others }),
                None => Box::new(move |_| without),
            },
            Pattern::Flags(path, on, off, without) => match nested(node, path)? {
                Some((value, path)) => {
                    let flag = |x: &Value| x.as_bool().or_else(|| Some(x.as_f64()? != 0.0));
                    let list: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().map(flag).collect());
                    let list = list.filter(|list| list.len() >= count).ok_or_else(|| ConfigError::Wrong {
                        key: path,
                        given: shown(value),
                        expected: "a list of one flag or number for each layer",
                    })?;
                    Box::new(move |i| if list[i] { on } else { off })
                }
                None => Box::new(move |_| without),
            },
            Pattern::Windows(key, cycle) => match node.numbers(key)? {
                Some(list) => {
                    enough(node, key, &list, count)?;
                    Box::new(move |i| slides(list[i] != 0.0))
                }
                None => Box::new(move |i| cycle[i % cycle.len()]),
            },
            Pattern::Chunks => {
                let turning = self.still(node, count)?;
                Box::new(move |i| if turning[i] { "chunked_attention" } else { FULL })
            }
            Pattern::StillSlides => {
                let turning = self.still(node, count)?;
                Box::new(move |i| slides(used && !turning[i]))
            }
            Pattern::Prefixed => {
                let (first, n) = (
                    period("prefix_dense_sliding_window_pattern", 1)?,
                    period("sliding_window_pattern", 4)?,
                );
                let prefix = node.size("first_k_dense_replace")?.unwrap_or(0);
                Box::new(move |i| match i < prefix {
                    true => slides((i + 1) % first != 0),
                    false => slides((i - prefix + 1) % n != 0),
                })
            }
            Pattern::Ratios => match node.numbers("compress_ratios")? {
                Some(list) => {
                    enough(node, "compress_ratios", &list, count)?;
                    Box::new(move |i| match list[i] {
                        0.0 => SLIDING,
                        4.0 => "compressed_sparse_attention",
                        _ => "heavily_compressed_attention",
                    })
                }
                None => Box::new(|i| {
                    if i >= 2 && i % 2 == 1 {
                        "compressed_sparse_attention"
                    } else {
                        "heavily_compressed_attention"
                    }
                }),
            },
            Pattern::Round(key) => {
                let names: Vec<&'static str> = node
                    .list(key)?
                    .unwrap_or_default()
                    .iter()
                    .map(|name| {
                        if name.as_str() == Some("attention") {
                            SLIDING
                        } else {
                            "linear_attention"
                        }
                    })
                    .collect();
                if names.is_empty() {
                    return Ok(None);
                }
                Box::new(move |i| names[i % names.len()])
            }
        };
        Ok(Some((0..count).map(|i| rule(i).to_string()).collect()))
    }

    /// Which layers turn by `no_rope_layers`.
    fn still(&self, node: &Node<'_>, count: usize) -> Result<Vec<bool>, ConfigError> {
        (0..count)
            .map(|layer| self.turns(node, None, layer, &mut Trace::default()))
            .collect()
    }

    /// Whether a layer turns.
    pub fn turns(&self, node: &Node<'_>, kind: Option<&str>, layer: usize, trace: &mut Trace) -> Result<bool, ConfigError> {
        let (turns, source) = match self.model.turning {
            Turning::All => return Ok(true),
            Turning::Types(types) => (kind.is_none_or(|kind| types.contains(&kind)), Source::Model),
            Turning::SlidingIfAny => {
                let key = "sliding_window";
                let turns = node.find(key).is_none() || kind.is_some_and(|kind| kind.contains("sliding"));
                (turns, Source::Derived(format!("{} and the layer type", node.path(key))))
            }
            Turning::Listed => {
                let key = "no_rope_layers";
                match node.numbers(key)?.filter(|list| !list.is_empty()) {
                    // 1 says that the layer has rotary positions.
                    Some(list) => (of_layer(node, key, &list, layer)? != 0.0, self.said.source(node, key)),
                    None => {
                        let key = "no_rope_layer_interval";
                        let (n, source) = match node.size(key)? {
                            Some(n) => (n, self.said.source(node, key)),
                            None => (4, Source::ClassDefault),
                        };
                        (n == 0 || !(layer + 1).is_multiple_of(n), source)
                    }
                }
            }
            Turning::Bases(types) => match node.numbers("layer_rope_theta")? {
                Some(list) => (
                    of_layer(node, "layer_rope_theta", &list, layer)? != 0.0,
                    self.said.source(node, "layer_rope_theta"),
                ),
                None if types.is_empty() => return Ok(true),
                None => (kind.is_none_or(|kind| types.contains(&kind)), Source::ClassDefault),
            },
            Turning::If(key, setting, default) => match node.find(key) {
                None => (default, Source::ClassDefault),
                Some(value) => (setting.is(value), self.said.source(node, key)),
            },
        };
        trace.note("turns", turns.to_string(), source);
        Ok(turns)
    }
}
