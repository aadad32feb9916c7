//! From a file to its parts.

use super::error::Doubts;
use super::json::{self, Node, shown};
use super::part::{Reader, WIDTHS};
use super::registry::{self, Model};
use super::said::Said;
use super::{ConfigError, Format, Mode, ModelConfig, Part, gguf, params};
use serde_json::{Map, Value};

/// Keys of rotary settings, which a whole's class does not read beside the part that they belong to.
const ROTARY: [&str; 3] = ["rope_theta", "rope_scaling", "rope_parameters"];
/// Parts of files whose model type is not known, where a language model may stand.
const LANGUAGE: [&str; 4] = ["text_config", "llm_config", "language_config", "thinker_config"];

/// Reads a configuration file.
///
/// # Errors
/// Not JSON; a model type that is not known; what is needed is missing or of another kind; settings outside their range. In strict mode also contradictions and rotary settings without a meaning.
pub fn read(bytes: &[u8], mode: Mode) -> Result<ModelConfig, ConfigError> {
    if gguf::is(bytes) {
        return gguf::read(bytes, mode);
    }
    let map = json::object(bytes)?;
    let top = Node {
        map: &map,
        path: String::new(),
    };
    if params::is(&map) {
        return params::read(&top, mode);
    }
    let model_type = top.text("model_type")?.unwrap_or_default().to_string();
    let mut found = Found {
        parts: Vec::new(),
        left: Vec::new(),
        doubts: Doubts::new(mode),
    };
    found.node(&top, None, Map::new(), 0)?;
    Ok(ModelConfig {
        format: Format::HuggingFace,
        model_type,
        parts: found.parts,
        left: found.left,
        warnings: found.doubts.warnings,
    })
}

/// Model types that are read, in the order of their names, each with what its layers do with positions, in a few words, or with the reason why they are not read.
pub fn known() -> Vec<(&'static str, Result<String, &'static str>)> {
    let turning = registry::models().map(|m| {
        let text = match registry::plain(m.name) {
            Some(other) => format!("{}; {}", other.summary(), m.summary()),
            None => m.summary(),
        };
        (m.name, Ok(text))
    });
    let mut all: Vec<(&'static str, Result<String, &'static str>)> = turning.collect();
    let others = registry::plains().filter(|m| registry::find(m.name).is_none());
    all.extend(others.map(|m| (m.name, Ok(m.summary()))));
    let parts = |parts: &[(&str, &str)]| {
        let one = |(key, of): &(&str, &str)| match of.is_empty() {
            true => format!("`{key}`"),
            false => format!("`{key}` ({of})"),
        };
        parts.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    all.extend(registry::composites().map(|(name, of)| (*name, Ok(format!("parts: {}", parts(of))))));
    all.extend(
        registry::UNEXPRESSED
            .iter()
            .filter(|(name, _)| registry::plain(name).is_none())
            .map(|(name, reason)| (*name, Err(*reason))),
    );
    all.sort_by_key(|(name, _)| *name);
    all
}

pub(super) struct Found {
    pub parts: Vec<Part>,
    pub left: Vec<(String, ConfigError)>,
    pub doubts: Doubts,
}

impl Found {
    /// Reads an object whose model type is its own, or else `implied`. `changes` are defaults of the whole that differ from those of the part's class.
    fn node(&mut self, node: &Node<'_>, implied: Option<&str>, changes: Map<String, Value>, depth: usize) -> Result<(), ConfigError> {
        let own = node.text("model_type")?.filter(|own| !own.is_empty());
        let Some(model_type) = own.or(implied) else {
            return Err(ConfigError::Missing {
                key: node.path("model_type"),
                needed_for: "what the model's class leaves unsaid",
            });
        };
        if let Some((name, parts)) = registry::composites().find(|(name, _)| *name == model_type) {
            return self.composite(node, name, parts, depth);
        }
        if let Some(model) = registry::plain(model_type)
            && model.describes(node)
        {
            return self.plain(node, model, depth);
        }
        if let Some(model) = registry::find(model_type) {
            return self.stack(node, model, changes);
        }
        if let Some((_, reason)) = registry::UNEXPRESSED.iter().find(|(name, _)| *name == model_type) {
            return Err(ConfigError::NotExpressed {
                model_type: model_type.into(),
                reason,
            });
        }
        // A wrapper that is not known around a language model that says what it is.
        for key in LANGUAGE {
            if let Some(inner) = node.object(key)?
                && depth < 4
                && (inner.find("model_type").is_some() || LANGUAGE.iter().any(|key| inner.find(key).is_some()))
            {
                self.doubts.complain(ConfigError::UnknownModel {
                    model_type: model_type.into(),
                    nearest: registry::nearest(model_type),
                })?;
                return self.node(&inner, None, Map::new(), depth + 1);
            }
        }
        Err(ConfigError::UnknownModel {
            model_type: model_type.into(),
            nearest: registry::nearest(model_type),
        })
    }

    /// Reads one stack of layers.
    fn stack(&mut self, node: &Node<'_>, model: &'static Model, changes: Map<String, Value>) -> Result<(), ConfigError> {
        let said = Said::over(node, model, registry::defaults(model.name), changes);
        let part = Reader {
            model,
            doubts: &mut self.doubts,
            said,
        }
        .part(node)?;
        self.parts.push(part);
        Ok(())
    }

    /// The first part is the model; what is wrong with another is listed.
    fn composite(&mut self, node: &Node<'_>, name: &str, parts: &[(&'static str, &'static str)], depth: usize) -> Result<(), ConfigError> {
        if depth >= 4 {
            return Err(ConfigError::TooMany {
                what: "models within models",
                given: depth + 1,
                limit: 4,
            });
        }
        let defaults = registry::defaults(name);
        for (index, (key, implied)) in parts.iter().enumerate() {
            let fixed = Some(*implied).filter(|implied| !implied.is_empty());
            let implied = fixed.or_else(|| defaults.implied(key));
            let outcome = match self.object(node, key)? {
                Some(mut map) => {
                    if index == 0 {
                        self.beside(node, key, &map)?;
                    }
                    // Some files write the whole's model type into a part whose class is fixed.
                    if fixed.is_some() && map.get("model_type").and_then(Value::as_str) == Some(name) {
                        map.remove("model_type");
                    }
                    let inner = Node {
                        map: &map,
                        path: node.path(key),
                    };
                    self.node(&inner, implied, Map::new(), depth + 1)
                }
                // Older files have the language model's keys at the top.
                None if index == 0 && node.first(&WIDTHS).is_some() && implied.and_then(registry::plain).is_none() => {
                    match implied.and_then(registry::find) {
                        Some(model) => self.stack(node, model, Map::new()),
                        None => Err(ConfigError::Missing {
                            key: node.path(key),
                            needed_for: "the language model",
                        }),
                    }
                }
                // Absent, not `null`: the class makes one of its own.
                None => match defaults.absent(key).filter(|_| !node.map.contains_key(*key)) {
                    Some(absent) => {
                        let map = Map::new();
                        let inner = Node {
                            map: &map,
                            path: node.path(key),
                        };
                        self.node(&inner, Some(&absent.model_type), absent.changes, depth + 1)
                    }
                    // As far as the class's defaults are known.
                    None if implied.is_some_and(|implied| registry::plain(implied).is_some()) && !node.map.contains_key(*key) => {
                        let map = Map::new();
                        let inner = Node {
                            map: &map,
                            path: node.path(key),
                        };
                        self.node(&inner, implied, Map::new(), depth + 1)
                    }
                    None => Err(ConfigError::Missing {
                        key: node.path(key),
                        needed_for: "this part of the model",
                    }),
                },
            };
            match outcome {
                Ok(()) => {}
                Err(error) if index > 0 && self.may_be_left(&error) => self.left.push((node.path(key), error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Rotary settings beside the object of the part that they are meant for say the same as those inside, or nobody reads them.
    fn beside(&mut self, node: &Node<'_>, key: &str, part: &Map<String, Value>) -> Result<(), ConfigError> {
        for name in ROTARY {
            let Some(outer) = node.find(name).filter(|value| value.as_object().is_none_or(|map| !map.is_empty())) else {
                continue;
            };
            let path = format!("{}.{name}", node.path(key));
            match part.get(name).filter(|value| !value.is_null()) {
                Some(inner) if super::rope::alike(outer, inner) => {}
                Some(inner) => self.doubts.complain(ConfigError::Conflict {
                    first: (path.clone(), shown(inner)),
                    second: (node.path(name), shown(outer)),
                    taken: path,
                })?,
                None => self.doubts.complain(ConfigError::Wrong {
                    key: node.path(name),
                    given: shown(outer),
                    expected: "its place inside the language model's object, which alone is read: move it there",
                })?,
            }
        }
        Ok(())
    }

    /// Whether a part that is not the first may be listed instead of read.
    pub fn may_be_left(&self, error: &ConfigError) -> bool {
        matches!(
            error,
            ConfigError::UnknownModel { .. } | ConfigError::NotExpressed { .. } | ConfigError::Missing { .. }
        )
    }

    /// Reads the model under a key; its class's default where the file has none.
    pub fn inner(&mut self, node: &Node<'_>, key: &str, implied: &'static str, depth: usize) -> Result<(), ConfigError> {
        let map = self.object(node, key)?.unwrap_or_default();
        let inner = Node {
            map: &map,
            path: node.path(key),
        };
        self.node(&inner, Some(implied), Map::new(), depth + 1)
    }

    /// The object under a key. Files of CLIP's line say some parts twice, the second time under `…_dict`; the class takes the second.
    fn object(&mut self, node: &Node<'_>, key: &str) -> Result<Option<Map<String, Value>>, ConfigError> {
        let (first, second) = (node.object(key)?, node.object(&format!("{key}_dict"))?);
        let Some(second) = second else {
            return Ok(first.map(|first| first.map.clone()));
        };
        let mut map = first.map(|first| first.map.clone()).unwrap_or_default();
        for (name, value) in second.map {
            let old = map.insert(name.clone(), value.clone());
            if let Some(old) = old.filter(|old| old != value && !old.is_null() && !value.is_null()) {
                self.doubts.complain(ConfigError::Conflict {
                    first: (format!("{}.{name}", node.path(key)), shown(&old)),
                    second: (second.path(name), shown(value)),
                    taken: second.path(name),
                })?;
            }
        }
        Ok(Some(map))
    }
}
