//! Writes GGUF files, by hand and by the format's page.

use std::fmt::Debug;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    /// A list of u32.
    Numbers(Vec<u32>),
    Flags(Vec<bool>),
    Texts(Vec<String>),
}

impl From<i32> for Value {
    fn from(x: i32) -> Value {
        u32::try_from(x).map_or(Value::I32(x), Value::U32)
    }
}

/// As converters write it.
impl From<f64> for Value {
    fn from(x: f64) -> Value {
        Value::F32(x as f32)
    }
}

impl From<f32> for Value {
    fn from(x: f32) -> Value {
        Value::F32(x)
    }
}

impl From<bool> for Value {
    fn from(x: bool) -> Value {
        Value::Bool(x)
    }
}

impl From<&str> for Value {
    fn from(x: &str) -> Value {
        Value::Text(x.into())
    }
}

/// A file that is put together.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub version: u32,
    pub big_endian: bool,
    pub pairs: Vec<(String, Value)>,
    pub tensors: Vec<(String, Vec<f32>)>,
}

impl Gguf {
    /// Of this architecture, with one small weight, so that its tensors are known to be listed.
    pub fn new(architecture: &str) -> Gguf {
        Gguf {
            version: 3,
            big_endian: false,
            pairs: vec![("general.architecture".into(), architecture.into())],
            tensors: vec![("token_embd.weight".into(), vec![0.0; 8])],
        }
    }

    /// The same with a key of the architecture.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Gguf {
        let key = format!("{}.{key}", self.architecture());
        self.pairs.retain(|(known, _)| *known != key);
        self.pairs.push((key, value.into()));
        self
    }

    pub fn without(mut self, key: &str) -> Gguf {
        let key = format!("{}.{key}", self.architecture());
        self.pairs.retain(|(known, _)| *known != key);
        self
    }

    pub fn tensor(mut self, name: &str, data: &[f64]) -> Gguf {
        self.tensors.push((name.into(), data.iter().map(|x| *x as f32).collect()));
        self
    }

    fn architecture(&self) -> String {
        match &self.pairs[0].1 {
            Value::Text(name) => name.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn put<const N: usize>(&self, out: &mut Vec<u8>, mut little: [u8; N]) {
        if self.big_endian {
            little.reverse();
        }
        out.extend(little);
    }

    fn string(&self, out: &mut Vec<u8>, text: &str) {
        self.put(out, (text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn value(&self, out: &mut Vec<u8>, value: &Value) {
        let list = |out: &mut Vec<u8>, kind: u32, length: usize| {
            self.put(out, 9u32.to_le_bytes());
            self.put(out, kind.to_le_bytes());
            self.put(out, (length as u64).to_le_bytes());
        };
        let mut scalar = |kind: u32| self.put(out, kind.to_le_bytes());
        match value {
            Value::U32(x) => {
                scalar(4);
                self.put(out, x.to_le_bytes());
            }
            Value::I32(x) => {
                scalar(5);
                self.put(out, x.to_le_bytes());
            }
            Value::F32(x) => {
                scalar(6);
                self.put(out, x.to_le_bytes());
            }
            Value::Bool(x) => {
                scalar(7);
                out.push(u8::from(*x));
            }
            Value::Text(text) => {
                scalar(8);
                self.string(out, text);
            }
            Value::U64(x) => {
                scalar(10);
                self.put(out, x.to_le_bytes());
            }
            Value::F64(x) => {
                scalar(12);
                self.put(out, x.to_le_bytes());
            }
            Value::Numbers(all) => {
                list(out, 4, all.len());
                all.iter().for_each(|x| self.put(out, x.to_le_bytes()));
            }
            Value::Flags(all) => {
                list(out, 7, all.len());
                out.extend(all.iter().map(|x| u8::from(*x)));
            }
            Value::Texts(all) => {
                list(out, 8, all.len());
                all.iter().for_each(|text| self.string(out, text));
            }
        }
    }

    /// The whole file, and where its metadata, its list of tensors and its data end.
    pub fn bytes(&self) -> (Vec<u8>, [usize; 3]) {
        let mut out = b"GGUF".to_vec();
        self.put(&mut out, self.version.to_le_bytes());
        self.put(&mut out, (self.tensors.len() as u64).to_le_bytes());
        self.put(&mut out, (self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            self.string(&mut out, key);
            self.value(&mut out, value);
        }
        let metadata = out.len();
        let mut offset = 0u64;
        for (name, data) in &self.tensors {
            self.string(&mut out, name);
            self.put(&mut out, 1u32.to_le_bytes());
            self.put(&mut out, (data.len() as u64).to_le_bytes());
            self.put(&mut out, 0u32.to_le_bytes());
            self.put(&mut out, offset.to_le_bytes());
            offset = (offset + 4 * data.len() as u64).next_multiple_of(32);
        }
        let list = out.len();
        for (_, data) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            data.iter().for_each(|x| self.put(&mut out, x.to_le_bytes()));
        }
        let end = out.len();
        (out, [metadata, list, end])
    }

    pub fn whole(&self) -> Vec<u8> {
        self.bytes().0
    }
}
