//! Typed access to the metadata, by keys without the architecture before them.

use super::super::{ConfigError, Source};
use super::File;
use super::container::Value;

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Whole(x) => x.to_string(),
        Value::Real(x) => x.to_string(),
        Value::Flag(x) => x.to_string(),
        Value::Text(x) => format!("{x:?}"),
        Value::List(x) => format!("a list of {}", x.len()),
        Value::Long(x) => format!("text or a list of length {x}"),
    }
}

impl File<'_> {
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    pub(super) fn find(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(&self.key(key))
    }

    pub(super) fn source(&self, key: &str) -> Source {
        Source::Key(self.key(key))
    }

    pub(super) fn wrong(&self, key: &str, value: &Value, expected: &'static str) -> ConfigError {
        ConfigError::Wrong {
            key: self.key(key),
            given: shown(value),
            expected,
        }
    }

    pub(super) fn missing(&self, key: &str, needed_for: &'static str) -> ConfigError {
        ConfigError::Missing {
            key: self.key(key),
            needed_for,
        }
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.find(key).map(|value| self.as_size(key, value)).transpose()
    }

    pub(super) fn as_size(&self, key: &str, value: &Value) -> Result<usize, ConfigError> {
        match value {
            Value::Whole(x) if (0..=1 << 53).contains(x) => Ok(*x as usize),
            other => Err(self.wrong(key, other, "a whole number from 0 to 2^53")),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Real(x)) if x.is_finite() => Ok(Some(*x)),
            Some(Value::Whole(x)) => Ok(Some(*x as f64)),
            Some(other) => Err(self.wrong(key, other, "a finite number")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Flag(on)) => Ok(Some(*on)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "text")),
        }
    }

    /// A number for all layers, or one of a list.
    pub(super) fn per_layer(&self, key: &str, layer: usize) -> Result<Option<usize>, ConfigError> {
        match self.find(key) {
            Some(list @ Value::List(values)) => match values.get(layer) {
                Some(value) => self.as_size(key, value).map(Some),
                None => Err(self.wrong(key, list, "one number for each layer")),
            },
            _ => self.size(key),
        }
    }

    /// Of each layer, whether; `None` where the key is no list.
    pub(super) fn flags(&self, key: &str, count: usize) -> Result<Option<Vec<bool>>, ConfigError> {
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
}
