//! What a file says, with what the class leaves unsaid beneath it.

use super::json::{Node, shown};
use super::registry::{Defaults, Model};
use super::{ConfigError, Source};
use serde_json::{Map, Value};

/// The path of a class's dictionary of rotary settings, which no file has.
const CLASS: &str = "class default";

/// A key, its value, and where that comes from if not from its own place in the file.
pub(super) type Entry = (String, Option<Value>, Option<Source>);

/// An object of a file over the defaults of its model's class.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// All of it.
    pub map: Map<String, Value>,
    /// Keys and where their values come from, where that is not their own place in the file: defaults, other names, values of a layer type.
    sources: Vec<(String, Source)>,
    /// Keys that say different things under two names.
    pub conflicts: Vec<ConfigError>,
}

impl Said {
    /// A key that the file has, even with `null`, stands above the class's default.
    pub fn over(file: &Node<'_>, model: &Model, defaults: Defaults, changes: Map<String, Value>) -> Said {
        let mut said = Said {
            map: file.map.clone(),
            sources: Vec::new(),
            conflicts: Vec::new(),
        };
        // Settings of attention in an object of their own (DBRX).
        if let Some(Value::Object(inner)) = model.inner.and_then(|key| file.map.get(key)) {
            for (key, value) in inner {
                let path = format!("{}.{key}", file.path(model.inner.unwrap_or_default()));
                said.put(key, value.clone(), Source::Key(path));
            }
        }
        for (other, own) in &defaults.names {
            if let (Some(value), Some(known)) = (file.find(other), file.find(own))
                && value != known
                && other != own
            {
                said.conflicts.push(ConfigError::Conflict {
                    first: (file.path(own), shown(known)),
                    second: (file.path(other), shown(value)),
                    taken: file.path(own),
                });
                said.put(other, known.clone(), Source::Key(file.path(own)));
            }
            if let (Some(value), false) = (file.map.get(other), said.map.contains_key(own)) {
                said.put(own, value.clone(), Source::Key(file.path(other)));
            }
        }
        let mut fields = defaults.fields;
        fields.extend(changes);
        for (key, value) in fields {
            if !said.map.contains_key(&key) {
                said.put(&key, value, Source::ClassDefault);
            }
        }
        said
    }

    fn put(&mut self, key: &str, value: Value, source: Source) {
        self.map.insert(key.to_string(), value);
        self.sources.push((key.to_string(), source));
    }

    /// Puts other values in the place of some keys, those of one layer, and gives back what stood there.
    pub fn exchange(&mut self, own: Vec<Entry>) -> Vec<Entry> {
        let mut before = Vec::new();
        for (key, value, source) in own {
            let old_source = self
                .sources
                .iter()
                .position(|(known, _)| *known == key)
                .map(|at| self.sources.swap_remove(at).1);
            let old = match value {
                Some(value) => self.map.insert(key.clone(), value),
                None => self.map.remove(&key),
            };
            if let Some(source) = source {
                self.sources.push((key.clone(), source));
            }
            before.push((key, old, old_source));
        }
        before.reverse();
        before
    }

    /// Where a key's value comes from.
    pub fn source(&self, node: &Node<'_>, key: &str) -> Source {
        match self.sources.iter().find(|(known, _)| known == key) {
            Some((_, source)) => source.clone(),
            None => Source::Key(node.path(key)),
        }
    }

    /// Whether the file itself has a value here.
    pub fn is_own(&self, node: &Node<'_>, key: &str) -> bool {
        node.find(key).is_some() && self.source(node, key) != Source::ClassDefault
    }

    /// The first of these keys that the file has; else the first that the class has.
    pub fn first(&self, node: &Node<'_>, keys: &[&'static str]) -> Option<&'static str> {
        let own = keys.iter().copied().find(|key| self.is_own(node, key));
        own.or_else(|| node.first(keys))
    }
}

/// The class's dictionary of rotary settings as if the file had it.
pub(super) fn class_dictionary(map: &Map<String, Value>) -> Node<'_> {
    Node {
        map,
        path: CLASS.to_string(),
    }
}

/// Whether a dictionary is the class's.
pub(super) fn is_class(dictionary: &Node<'_>) -> bool {
    dictionary.path == CLASS || dictionary.path.starts_with("class default.")
}

/// Where a value at this path of a dictionary comes from.
pub(super) fn at(path: String) -> Source {
    if path.starts_with(CLASS) {
        Source::ClassDefault
    } else {
        Source::Key(path)
    }
}
