//! Which type each layer has, and which layers turn.

use super::json::{Node, shown};
use super::read::{DEEPEST, Reader};
use super::registry::{Pattern, Turning};
use super::{ConfigError, Source, Trace};
use serde_json::Value;

impl Reader<'_> {
    /// The type of each layer, where there are types.
    pub fn layer_types(&self, node: &Node<'_>, count: Option<usize>) -> Result<Option<Vec<String>>, ConfigError> {
        for key in ["layer_types", "layers_block_type"] {
            let Some(list) = node.list(key)? else { continue };
            if list.len() > DEEPEST {
                return Err(ConfigError::TooMany {
                    what: "layer types",
                    given: list.len(),
                    limit: DEEPEST,
                });
            }
            let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(String::from)).collect();
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
        let Some(count) = count.filter(|count| *count <= DEEPEST) else {
            return Ok(None);
        };
        let window = node.find("sliding_window").is_some();
        let rule: Box<dyn Fn(usize) -> bool> = match self.model.pattern {
            Pattern::None => return Ok(None),
            Pattern::EveryLast(key, n) => {
                let n = node.size(key)?.unwrap_or(n).max(1);
                Box::new(move |i| (i + 1) % n != 0)
            }
            Pattern::EveryFirst(key, n) => {
                let n = node.size(key)?.unwrap_or(n).max(1);
                Box::new(move |i| i % n != 0)
            }
            Pattern::Sliding => Box::new(move |_| window),
            Pattern::Above => {
                let on = node.flag("use_sliding_window")?.unwrap_or(false) && window;
                let from = node.size("max_window_layers")?.unwrap_or(0);
                Box::new(move |i| on && i >= from)
            }
        };
        let name = |i| if rule(i) { "sliding_attention" } else { "full_attention" };
        Ok(Some((0..count).map(|i| name(i).to_string()).collect()))
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
            Turning::Listed => match node.numbers("no_rope_layers")?.filter(|list| !list.is_empty()) {
                // 1 says that the layer has rotary positions.
                Some(list) => (list.get(layer).is_none_or(|x| *x != 0.0), Source::Key(node.path("no_rope_layers"))),
                None => {
                    let key = "no_rope_layer_interval";
                    let (n, source) = match node.size(key)? {
                        Some(n) => (n, Source::Key(node.path(key))),
                        None => (4, Source::ClassDefault),
                    };
                    (n == 0 || !(layer + 1).is_multiple_of(n), source)
                }
            },
            Turning::Bases => match node.numbers("layer_rope_theta")? {
                Some(list) => (
                    list.get(layer).is_none_or(|x| *x != 0.0),
                    Source::Key(node.path("layer_rope_theta")),
                ),
                None => return Ok(true),
            },
            Turning::If(key, setting, default) => match node.find(key) {
                None => (default, Source::ClassDefault),
                Some(value) => {
                    let on = setting.is(value);
                    (on, Source::Key(node.path(key)))
                }
            },
        };
        trace.note("turns", turns.to_string(), source);
        Ok(turns)
    }
}
