//! A file's object with what its class has where the file says nothing.

use super::json::{Node, shown};
use super::{ConfigError, Source};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Per model type: each key's default, and under `attribute_map` the other names of keys. Written by `golden/hf_positions.py`.
static CLASSES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("registry/plain.json")).unwrap_or_default());

/// What the class of a model type has.
pub(super) fn class(model_type: &str) -> Option<&'static Map<String, Value>> {
    CLASSES.get(model_type)?.as_object()
}

/// An object of a file, filled with its class's defaults.
pub(super) struct Filled {
    map: Map<String, Value>,
    path: String,
    /// The path in the file of each key that the file has, under this or another name.
    given: BTreeMap<String, String>,
    /// Keys that say different things under two names.
    pub conflicts: Vec<ConfigError>,
}

impl Filled {
    pub fn new(node: &Node<'_>, model_type: &str) -> Filled {
        let none = Map::new();
        let class = class(model_type).unwrap_or(&none);
        let mut map = class.clone();
        map.remove("attribute_map");
        let mut given = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (key, value) in node.map.iter().filter(|(_, value)| !value.is_null()) {
            given.insert(key.clone(), node.path(key));
            map.insert(key.clone(), value.clone());
        }
        let other_names = class.get("attribute_map").and_then(Value::as_object).unwrap_or(&none);
        for (other, key) in other_names.iter().filter_map(|(other, key)| Some((other, key.as_str()?))) {
            let Some(value) = node.find(other).filter(|_| other != key) else {
                continue;
            };
            match node.find(key) {
                None => {
                    given.insert(key.into(), node.path(other));
                    map.insert(key.into(), value.clone());
                }
                Some(own) if own != value => conflicts.push(ConfigError::Conflict {
                    first: (node.path(key), shown(own)),
                    second: (node.path(other), shown(value)),
                    taken: node.path(key),
                }),
                Some(_) => {}
            }
        }
        Filled {
            map,
            path: node.path.clone(),
            given,
            conflicts,
        }
    }

    /// For typed access by key.
    pub fn node(&self) -> Node<'_> {
        Node {
            map: &self.map,
            path: self.path.clone(),
        }
    }

    /// Where the value of a key comes from.
    pub fn source(&self, key: &str) -> Source {
        match self.given.get(key) {
            Some(path) => Source::Key(path.clone()),
            None => Source::ClassDefault,
        }
    }

    /// The path under which the file has the key, or would have it.
    pub fn path(&self, key: &str) -> String {
        self.given.get(key).cloned().unwrap_or_else(|| self.node().path(key))
    }

    /// Whether the file itself has the key.
    pub fn says(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The first of these keys with a value.
    pub fn first(&self, keys: &[&'static str]) -> Option<&'static str> {
        self.node().first(keys)
    }

    pub fn missing(&self, key: &str, needed_for: &'static str) -> ConfigError {
        ConfigError::Missing {
            key: self.path(key),
            needed_for,
        }
    }

    pub fn wrong(&self, key: &str, given: String, expected: &'static str) -> ConfigError {
        ConfigError::Wrong {
            key: self.path(key),
            given,
            expected,
        }
    }

    /// A whole number that must be there.
    pub fn needed(&self, key: &str, needed_for: &'static str) -> Result<usize, ConfigError> {
        self.node().size(key)?.ok_or_else(|| self.missing(key, needed_for))
    }

    /// A number for both sides, or a pair: height, width.
    pub fn sides(&self, key: &str) -> Result<[usize; 2], ConfigError> {
        let expected = "a whole number, or a pair of them";
        let size = |value: &Value| value.as_u64().and_then(|x| usize::try_from(x).ok()).filter(|x| *x <= 1 << 24);
        let value = self.node().find(key).ok_or_else(|| self.missing(key, "the cells of the picture"))?;
        let pair = match value {
            Value::Array(list) => match list.as_slice() {
                [h, w] => size(h).zip(size(w)),
                _ => None,
            },
            one => size(one).map(|x| (x, x)),
        };
        match pair {
            Some((h, w)) => Ok([h, w]),
            None => Err(self.wrong(key, shown(value), expected)),
        }
    }
}
