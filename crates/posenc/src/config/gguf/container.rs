//! A GGUF file's header: its metadata, and where the few tensors lie that hold frequencies.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  pairs u64
//! pairs   × (key string, type u32, value)               string: length u64, bytes.  array: type u32, length u64, values
//! tensors × (name string, dimensions u32, each u64, type u32, offset u64)
//! padding to the alignment, data
//! ```
//! Versions 2 and 3; in a big-endian file every number but the magic is. Counts are believed only as far as bytes are there to back them: nothing is allocated by a count, and what is not needed is skipped.

use super::super::ConfigError;
use super::super::json::LONGEST_LIST;
use std::collections::HashMap;

/// Pairs that are read: a hundred times the largest file's.
const MOST_PAIRS: usize = 1 << 16;
/// Tensors that are read: some models have a few per expert and layer.
const MOST_TENSORS: usize = 1 << 20;
/// The longest key that the format allows.
const LONGEST_KEY: usize = (1 << 16) - 1;
/// Text that is kept: names, not chat templates.
const LONGEST_TEXT: usize = 1024;
/// Numbers of a list that are kept: one per layer, not one per token.
const LONGEST_VALUE: usize = 8192;
/// Numbers of all lists together that are kept: a number in memory is many times as large as a byte of the file.
const MOST_KEPT: usize = 1 << 20;
/// Bytes of one value: beyond any file.
const MOST_BYTES: u64 = 1 << 50;
/// Arrays of arrays.
const DEEPEST: usize = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
    Flag(bool),
    Text(String),
    List(Vec<Value>),
    /// Text or a list that no key here needs, with its length.
    Long(u64),
}

/// A tensor that says something about positions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub shape: Vec<u64>,
    pub kind: u32,
    /// First byte of its data in the file.
    pub at: u64,
}

/// What is known of the tensors.
#[derive(Clone, Debug)]
pub(super) enum Tensors {
    /// All are listed; those that matter here by their names, and how many there are.
    Listed { named: HashMap<String, Tensor>, count: usize },
    /// The file ends within the list.
    Cut(ConfigError),
}

/// A file's header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub metadata: HashMap<String, Value>,
    pub tensors: Tensors,
    big_endian: bool,
}

/// Whether a tensor of this name is kept.
fn matters(name: &str) -> bool {
    name.starts_with("rope_f") || name == "position_embd.weight" || name.ends_with("attn_rel_b.weight")
}

impl Header {
    pub fn read(bytes: &[u8]) -> Result<Header, ConfigError> {
        let mut from = Cursor {
            bytes,
            at: 4,
            big_endian: false,
            kept: 0,
        };
        let version = from.u32("the version")?;
        // A little version number in the other byte order has nothing in its low half.
        from.big_endian = version & 0xffff == 0 && version != 0;
        let version = if from.big_endian { version.swap_bytes() } else { version };
        if !matches!(version, 2 | 3) {
            return Err(from.wrong(4, format!("version {version}"), "version 2 or 3: convert older files anew"));
        }
        let tensors = from.count("tensors", MOST_TENSORS)?;
        let pairs = from.count("pairs of metadata", MOST_PAIRS)?;
        let mut metadata = HashMap::new();
        for _ in 0..pairs {
            let at = from.at;
            let key = from.string("a key of the metadata", LONGEST_KEY)?;
            let key = std::str::from_utf8(key)
                .map_err(|_| from.wrong(at + 8, shown(key), "a key in UTF-8"))?
                .to_string();
            let value = from.value(&key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(from.wrong(at, format!("the key `{key}` a second time"), "each key once"));
            }
        }
        let big_endian = from.big_endian;
        let tensors = match list(&mut from, tensors, &metadata) {
            Err(cut @ ConfigError::Cut { .. }) => Tensors::Cut(cut),
            listed => listed?,
        };
        Ok(Header {
            metadata,
            tensors,
            big_endian,
        })
    }

    /// The numbers of a tensor.
    pub fn numbers(&self, bytes: &[u8], name: &str, tensor: &Tensor, expected: usize) -> Result<Vec<f64>, ConfigError> {
        if expected > LONGEST_LIST {
            return Err(ConfigError::TooMany {
                what: "divisors of frequencies",
                given: expected,
                limit: LONGEST_LIST,
            });
        }
        let count = tensor.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        if count != Some(expected as u64) {
            return Err(ConfigError::Wrong {
                key: name.into(),
                given: format!("of shape {:?}", tensor.shape),
                expected: "one number for each pair that turns",
            });
        }
        if tensor.kind != 0 {
            return Err(ConfigError::Wrong {
                key: name.into(),
                given: format!("of type {}", tensor.kind),
                expected: "f32 (type 0), as ggml reads it",
            });
        }
        let end = tensor.at.saturating_add(4 * expected as u64);
        let data = usize::try_from(end).ok().and_then(|end| bytes.get(tensor.at as usize..end));
        let data = data.ok_or_else(|| ConfigError::Cut {
            what: format!("the tensor `{name}`"),
            given: bytes.len(),
            needed: end,
        })?;
        let one = |b: &[u8]| {
            let bits = [b[0], b[1], b[2], b[3]];
            f64::from(if self.big_endian {
                f32::from_be_bytes(bits)
            } else {
                f32::from_le_bytes(bits)
            })
        };
        Ok(data.chunks_exact(4).map(one).collect())
    }
}

/// The tensors' list, which stands behind the metadata.
fn list(from: &mut Cursor<'_>, count: usize, metadata: &HashMap<String, Value>) -> Result<Tensors, ConfigError> {
    let mut named = HashMap::new();
    for _ in 0..count {
        let at = from.at;
        let name = from.string("the name of a tensor", LONGEST_KEY)?;
        let name = std::str::from_utf8(name).map_err(|_| from.wrong(at + 8, shown(name), "a name in UTF-8"))?;
        let (name, dimensions_at) = (name.to_string(), from.at);
        let dimensions = from.u32("a tensor's number of dimensions")?;
        if dimensions > 4 {
            return Err(from.wrong(dimensions_at, format!("{dimensions} dimensions"), "at most 4, as ggml"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(from.u64("a tensor's shape")?);
        }
        let kind = from.u32("a tensor's type")?;
        let offset = from.u64("a tensor's offset")?;
        if !matters(&name) {
            continue;
        }
        let tensor = Tensor { shape, kind, at: offset };
        if named.insert(name.clone(), tensor).is_some() {
            return Err(from.wrong(at, format!("the tensor `{name}` a second time"), "each tensor once"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Whole(x)) if (1..=1 << 32).contains(x) && (*x as u64).is_power_of_two() => *x as u64,
        Some(other) => {
            return Err(ConfigError::Wrong {
                key: "general.alignment".into(),
                given: format!("{other:?}"),
                expected: "a power of two",
            });
        }
    };
    let start = (from.at as u64).next_multiple_of(alignment);
    for tensor in named.values_mut() {
        tensor.at = tensor.at.saturating_add(start);
    }
    Ok(Tensors::Listed { named, count })
}

/// Bytes in a message.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    format!("{:?}{}", text, if bytes.len() > 60 { "…" } else { "" })
}

/// Reads numbers one after the other, none past the end.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
    big_endian: bool,
    /// Numbers of lists so far.
    kept: usize,
}

impl<'b> Cursor<'b> {
    fn wrong(&self, at: usize, given: String, expected: &'static str) -> ConfigError {
        ConfigError::Bytes { at, given, expected }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: u64, what: &str) -> Result<&'b [u8], ConfigError> {
        if count > MOST_BYTES {
            return Err(self.wrong(self.at, format!("{what} of {count} bytes"), "as many as a file can have"));
        }
        let end = (self.at as u64).saturating_add(count);
        let found = usize::try_from(end).ok().and_then(|end| Some((end, self.bytes.get(self.at..end)?)));
        let Some((end, found)) = found else {
            return Err(ConfigError::Cut {
                what: what.into(),
                given: self.bytes.len(),
                needed: end,
            });
        };
        self.at = end;
        Ok(found)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ConfigError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        if self.big_endian {
            out.reverse();
        }
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, ConfigError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, ConfigError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, ConfigError> {
        let given = self.u64(what)?;
        match usize::try_from(given) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(ConfigError::TooMany {
                what,
                given: usize::try_from(given).unwrap_or(usize::MAX),
                limit,
            }),
        }
    }

    fn string(&mut self, what: &'static str, longest: usize) -> Result<&'b [u8], ConfigError> {
        let at = self.at;
        let length = self.u64(what)?;
        if length > longest as u64 {
            return Err(self.wrong(at, format!("{what} of {length} bytes"), "at most 65535 bytes"));
        }
        self.take(length, what)
    }

    /// A value with its type before it.
    fn value(&mut self, key: &str) -> Result<Value, ConfigError> {
        let at = self.at;
        let kind = self.u32(key)?;
        self.of_kind(kind, at, key, 0)
    }

    fn of_kind(&mut self, kind: u32, at: usize, key: &str, depth: usize) -> Result<Value, ConfigError> {
        Ok(match kind {
            0 => Value::Whole(i128::from(u8::from_le_bytes(self.array(key)?))),
            1 => Value::Whole(i128::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Whole(i128::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Whole(i128::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Whole(i128::from(self.u32(key)?)),
            5 => Value::Whole(i128::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::Real(f64::from(f32::from_le_bytes(self.array(key)?))),
            7 => match self.array(key)? {
                [0] => Value::Flag(false),
                [1] => Value::Flag(true),
                [other] => return Err(self.wrong(at, format!("`{key}` is {other}"), "0 or 1 for a flag")),
            },
            8 => {
                let length = self.u64(key)?;
                let text = self.take(length, key)?;
                match std::str::from_utf8(text) {
                    Ok(text) if text.len() <= LONGEST_TEXT => Value::Text(text.into()),
                    // Text that no model is known by may be anything: tokens are.
                    _ => Value::Long(length),
                }
            }
            9 => self.list(key, depth)?,
            10 => Value::Whole(i128::from(self.u64(key)?)),
            11 => Value::Whole(i128::from(i64::from_le_bytes(self.array(key)?))),
            12 => Value::Real(f64::from_le_bytes(self.array(key)?)),
            other => return Err(self.wrong(at, format!("`{key}` of type {other}"), "a type from 0 to 12")),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Value, ConfigError> {
        let at = self.at;
        if depth == DEEPEST {
            return Err(self.wrong(at, format!("`{key}` nested more than {DEEPEST} deep"), "a list of values"));
        }
        let kind = self.u32(key)?;
        let length = self.u64(key)?;
        let width: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            // Those say their own length: eight bytes or more.
            8 | 9 => 0,
            other => return Err(self.wrong(at, format!("`{key}`, a list of type {other}"), "a type from 0 to 12")),
        };
        if width > 0 && (length > LONGEST_VALUE as u64 || self.kept + length as usize > MOST_KEPT) {
            self.take(length.saturating_mul(width), key)?;
            return Ok(Value::Long(length));
        }
        if width > 0 {
            self.kept += length as usize;
        }
        // Each takes at least a byte, so a wrong length ends with the bytes.
        let mut values = Vec::new();
        for _ in 0..length {
            let at = self.at;
            let value = self.of_kind(kind, at, key, depth + 1)?;
            if width > 0 {
                values.push(value);
            }
        }
        Ok(if width > 0 { Value::List(values) } else { Value::Long(length) })
    }
}
