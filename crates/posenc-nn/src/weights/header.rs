//! The header of a safetensors file: which tensor lies where. Everything that it says is checked against the bytes that are there.
//!
//! The format (<https://github.com/huggingface/safetensors#format>): eight little-endian bytes with the header's length; the header, JSON that begins
//! with `{`; the numbers, little-endian and row-major. An entry is `"NAME": {"dtype": …, "shape": […], "data_offsets": [BEGIN, END]}`, its offsets counted
//! from the header's end; `"__metadata__"` holds pairs of strings. No name comes twice, and the tensors cover all bytes after the header, each once.
//!
//! The format's own reader (safetensors 0.7) is no use here: it panics where offsets near 2⁶⁴ meet overflow checks, takes a name that comes twice, and does not say
//! which tensor is wrong.

use crate::error::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// The entry that is no tensor.
const METADATA: &str = "__metadata__";

/// The longest header that the format's own readers take.
const LONGEST: usize = 100_000_000;

/// Bytes before the header.
const LENGTH: usize = size_of::<u64>();

/// Number types that the format names, and their bits.
const TYPES: [(&str, usize); 20] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// A tensor of a file.
#[derive(Debug)]
pub struct Entry<'a> {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Its bytes: as many as type and shape ask for.
    pub data: &'a [u8],
}

/// What a file holds.
#[derive(Debug)]
pub struct File<'a> {
    /// Sorted by name.
    pub tensors: Vec<Entry<'a>>,
    /// Sorted by key.
    pub metadata: Vec<(String, String)>,
}

/// An entry as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A header as it is written, and the entry that was being read when reading stopped.
#[derive(Debug, Default)]
struct Written {
    tensors: Vec<(String, Info)>,
    metadata: Vec<(String, String)>,
    at: Option<String>,
}

impl<'a> File<'a> {
    /// Reads the header of a file. What it allocates is bounded by the header's own bytes, never by a number in it.
    pub fn read(bytes: &'a [u8]) -> Result<File<'a>> {
        let (length, rest) = match bytes.split_first_chunk::<LENGTH>() {
            Some((length, rest)) => (u64::from_le_bytes(*length), rest),
            None => {
                return Err(damaged(
                    None,
                    "eight bytes with the header's length",
                    format!("{} bytes", bytes.len()),
                ));
            }
        };
        let (header, data) = match usize::try_from(length) {
            Ok(length) if length <= LONGEST && length <= rest.len() => rest.split_at(length),
            _ => {
                let most = rest.len().min(LONGEST);
                return Err(damaged(
                    None,
                    "a header within the file and 100 MB",
                    format!("{length} bytes of at most {most}"),
                ));
            }
        };
        let text = std::str::from_utf8(header).map_err(|error| damaged(None, "a header in UTF-8", error.to_string()))?;
        if !text.starts_with('{') {
            let given = text
                .chars()
                .next()
                .map_or("nothing".to_string(), |first| format!("`{}`", first.escape_debug()));
            return Err(damaged(None, "a header that begins with `{`", given));
        }
        let mut written = Written::default();
        let mut json = serde_json::Deserializer::from_str(text);
        if let Err(error) = written.read(&mut json).and_then(|()| json.end()) {
            return Err(damaged(written.at, "a header as the format has it", error.to_string()));
        }
        let mut tensors = place(written.tensors, data)?;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        written.metadata.sort();
        Ok(File {
            tensors,
            metadata: written.metadata,
        })
    }

    /// A tensor by its name.
    pub fn find(&self, name: &str) -> Option<&Entry<'a>> {
        let at = self.tensors.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[at])
    }
}

/// Gives every entry its bytes: in order of their offsets they cover all, without gap or overlap.
fn place(mut entries: Vec<(String, Info)>, data: &[u8]) -> Result<Vec<Entry<'_>>> {
    entries.sort_by_key(|(_, info)| info.data_offsets);
    let mut covered = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (
        name,
        Info {
            dtype,
            shape,
            data_offsets,
        },
    ) in entries
    {
        let Some(bits) = TYPES.iter().find(|(known, _)| *known == dtype).map(|(_, bits)| *bits) else {
            return Err(Error::Dtype { name, given: dtype });
        };
        let (begin, end) = data_offsets;
        let offsets = || format!("data_offsets [{begin}, {end}]");
        if begin > end || end > data.len() {
            let expected = format!("BEGIN ≤ END ≤ {}", data.len());
            return Err(damaged(Some(name), expected, offsets()));
        }
        if begin != covered {
            return Err(damaged(
                Some(name),
                format!("a tensor that begins at {covered}, where the one before ends"),
                offsets(),
            ));
        }
        let size = shape
            .iter()
            .try_fold(1usize, |size, n| size.checked_mul(*n))
            .and_then(|size| size.checked_mul(bits))
            .filter(|bits| bits % 8 == 0);
        if size != Some(8 * (end - begin)) {
            let expected = size.map_or("a shape whose bytes can be counted".to_string(), |bits| {
                format!("{} bytes", bits / 8)
            });
            return Err(damaged(Some(name), expected, format!("{dtype} {shape:?} in {}", offsets())));
        }
        covered = end;
        let data = &data[begin..end];
        tensors.push(Entry { name, dtype, shape, data });
    }
    if covered != data.len() {
        let given = format!("{} bytes of numbers", data.len());
        return Err(damaged(None, format!("{covered} bytes of numbers, which the tensors cover"), given));
    }
    Ok(tensors)
}

/// The bytes before the numbers of a file whose tensors, each a name, a shape and its bytes' length, follow each other in this order; padded with
/// spaces, so that the numbers are aligned to eight bytes.
pub fn write(dtype: &str, tensors: &[(&str, &[usize], usize)], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut keys = HashSet::new();
    if let Some((key, _)) = metadata.iter().find(|(key, _)| !keys.insert(*key)) {
        return Err(damaged(None, "keys of metadata that differ", format!("`{key}` twice")));
    }
    if tensors.iter().any(|(name, ..)| *name == METADATA) {
        return Err(damaged(Some(METADATA.to_string()), "another name", "the format's own".to_string()));
    }
    let mut header = vec![0; LENGTH];
    written(&mut header, dtype, tensors, metadata).map_err(|error| damaged(None, "a header in JSON", error.to_string()))?;
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let length = header.len() - LENGTH;
    if length > LONGEST {
        return Err(damaged(
            None,
            "a header of at most 100 MB",
            format!("{length} bytes of names and metadata"),
        ));
    }
    header[..LENGTH].copy_from_slice(&(length as u64).to_le_bytes());
    Ok(header)
}

fn written(out: &mut Vec<u8>, dtype: &str, tensors: &[(&str, &[usize], usize)], metadata: &[(&str, &str)]) -> serde_json::Result<()> {
    let mut json = serde_json::Serializer::new(out);
    let mut map = json.serialize_map(None)?;
    if !metadata.is_empty() {
        map.serialize_entry(METADATA, &Pairs(metadata))?;
    }
    let mut begin = 0;
    for (name, shape, bytes) in tensors {
        let info = Info {
            dtype: dtype.to_string(),
            shape: shape.to_vec(),
            data_offsets: (begin, begin + bytes),
        };
        begin += bytes;
        map.serialize_entry(name, &info)?;
    }
    map.end()
}

/// An object of strings, in the order given.
struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl Written {
    fn read<'de, D: Deserializer<'de>>(&mut self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Written {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with a tensor per name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            self.at = Some(name.clone());
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom("the name comes twice"));
            }
            if name == METADATA {
                map.next_value_seed(Strings(&mut self.metadata))?;
            } else {
                self.tensors.push((name, map.next_value()?));
            }
            self.at = None;
        }
        Ok(())
    }
}

/// Reads an object of strings, none of whose keys comes twice.
struct Strings<'a>(&'a mut Vec<(String, String)>);

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if !keys.insert(key.clone()) {
                return Err(serde::de::Error::custom(format!("the key `{key}` comes twice")));
            }
            self.0.push((key, value));
        }
        Ok(())
    }
}

fn damaged(tensor: Option<String>, expected: impl Into<String>, given: String) -> Error {
    Error::Format {
        tensor,
        expected: expected.into(),
        given,
    }
}
