//! A file's bytes as JSON, and typed access to it by paths.

use super::ConfigError;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Bytes of a file that are read: a hundred times the largest configuration with labels for every class.
const LONGEST: usize = 16 << 20;

/// Numbers of a list that are read, in each layer anew: a thousand times as many as a head has pairs.
pub(super) const LONGEST_LIST: usize = 1 << 16;

/// The object in these bytes.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    // What is no text at all is not the parser's: it would only say that it expected a value.
    if let Some(wrong) = unlike_text(bytes) {
        return Err(ConfigError::Json {
            line: 1,
            column: 1,
            message: wrong.into(),
        });
    }
    if bytes.len() > LONGEST {
        return Err(ConfigError::TooMany {
            what: "bytes",
            given: bytes.len(),
            limit: LONGEST,
        });
    }
    // Nesting deeper than 128 is refused by the parser.
    let once: Once = serde_json::from_slice(bytes).map_err(|error| ConfigError::Json {
        line: error.line(),
        column: error.column(),
        message: message(&error),
    })?;
    match once.0 {
        Value::Object(map) => Ok(map),
        other => Err(ConfigError::Wrong {
            key: "the file".into(),
            given: shown(&other),
            expected: "an object",
        }),
    }
}

/// Why bytes are no text, from their beginning: none at all, or not UTF-8 without control characters.
fn unlike_text(bytes: &[u8]) -> Option<&'static str> {
    const LOOKED_AT: usize = 256;
    if bytes.len() <= LOOKED_AT && bytes.iter().all(u8::is_ascii_whitespace) {
        return Some("the file is empty");
    }
    let head = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut where the look ends.
        Err(error) if error.error_len().is_none() && head.len() < bytes.len() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "\0",
    };
    let strange = text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
    strange.then_some("the file is neither text nor GGUF; of weights in another format, the config.json beside them is read")
}

/// The parser's words without the place, which stands beside them.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

/// JSON in which no object has a key twice: the second would silently win.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Once, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Once;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "JSON")
            }
            fn visit_bool<E>(self, x: bool) -> Result<Once, E> {
                Ok(Once(x.into()))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Once, E> {
                Ok(Once(x.into()))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Once, E> {
                Ok(Once(x.into()))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Once, E> {
                Ok(Once(Number::from_f64(x).map_or(Value::Null, Value::Number)))
            }
            fn visit_str<E>(self, x: &str) -> Result<Once, E> {
                Ok(Once(x.into()))
            }
            fn visit_unit<E>(self) -> Result<Once, E> {
                Ok(Once(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
                let mut values = Vec::new();
                while let Some(Once(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Once(Value::Array(values)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Once, A::Error> {
                let mut map = Map::new();
                while let Some((key, Once(value))) = object.next_entry::<String, Once>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key `{key}` stands twice in one object")));
                    }
                    map.insert(key, value);
                }
                Ok(Once(Value::Object(map)))
            }
        }
        from.deserialize_any(Values)
    }
}

/// A value in a message: cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An object with its path in the file.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub map: &'a Map<String, Value>,
    /// Empty at the top.
    pub path: String,
}

impl<'a> Node<'a> {
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// `null` is what many writers leave where a key has no value.
    pub fn find(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, key: &str, expected: &'static str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::Wrong {
                key: self.path(key),
                given: shown(value),
                expected,
            }),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A whole number; some writers put `4096.0`.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.typed(key, "a whole number from 0 to 2^53", |value| {
            let x = value.as_f64()?;
            (x >= 0.0 && x.fract() == 0.0 && x <= (1u64 << 53) as f64).then_some(x as usize)
        })
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(key, "text", Value::as_str)
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A list of numbers, one per layer or per pair.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        if let Some(given) = self
            .find(key)
            .and_then(Value::as_array)
            .map(Vec::len)
            .filter(|given| *given > LONGEST_LIST)
        {
            return Err(ConfigError::TooMany {
                what: "numbers in a list",
                given,
                limit: LONGEST_LIST,
            });
        }
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    pub fn object(&self, key: &str) -> Result<Option<Node<'a>>, ConfigError> {
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Node { map, path: self.path(key) }))
    }

    /// The first of these keys that has a value.
    pub fn first(&self, keys: &[&'static str]) -> Option<&'static str> {
        keys.iter().copied().find(|key| self.find(key).is_some())
    }
}
