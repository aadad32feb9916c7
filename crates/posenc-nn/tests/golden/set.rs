//! A set on disk: `NAME.json`, a list of records, and `NAME.safetensors`, their tensors.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Why a record did not pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Not run, and why: records with the same reason are counted together.
    Skip(String),
    /// Wrong, missing or malformed.
    Fail(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::Fail(message)
    }
}

impl From<posenc::Error> for Stop {
    fn from(error: posenc::Error) -> Stop {
        Stop::Fail(format!("refused: {error}"))
    }
}

impl From<posenc_nn::Error> for Stop {
    fn from(error: posenc_nn::Error) -> Stop {
        Stop::Fail(format!("refused: {error}"))
    }
}

pub type Outcome<T> = Result<T, Stop>;

pub fn skip<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skip(reason.into()))
}

pub fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::Fail(message.into()))
}

/// A tensor of a record.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub enum Data {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    /// Nothing here reads it yet: smaller integers.
    Other,
}

/// Records and tensors of one set.
pub struct Set {
    pub records: Vec<Value>,
    tensors: BTreeMap<String, Tensor>,
}

impl Set {
    /// `Skip` where the file pair is not there, `Fail` where it cannot be read.
    pub fn read(folder: &Path, name: &str) -> Outcome<Set> {
        let file = |ending: &str| {
            let path = folder.join(format!("{name}.{ending}"));
            match std::fs::read(&path) {
                Ok(bytes) => Ok(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => skip(format!("{} is not there", path.display())),
                Err(error) => fail(format!("{}: {error}", path.display())),
            }
        };
        let json = file("json")?;
        let bytes = file("safetensors")?;
        let records: Value = serde_json::from_slice(&json).map_err(|error| format!("{name}.json is not JSON: {error}"))?;
        let Value::Array(records) = records else {
            return fail(format!("{name}.json is not a list of records"));
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("{name}.safetensors is damaged: {error}"))?;
        let tensors = file.iter().map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F64 => Data::F64(numbers(view.data(), f64::from_le_bytes)),
                Dtype::F32 => Data::F32(numbers(view.data(), f32::from_le_bytes)),
                Dtype::F16 => Data::F16(numbers(view.data(), f16::from_le_bytes)),
                Dtype::BF16 => Data::Bf16(numbers(view.data(), bf16::from_le_bytes)),
                Dtype::I64 => Data::I64(numbers(view.data(), i64::from_le_bytes)),
                Dtype::BOOL => Data::Bool(view.data().iter().map(|b| *b != 0).collect()),
                _ => Data::Other,
            };
            let shape = view.shape().to_vec();
            (name.to_string(), Tensor { shape, data })
        });
        Ok(Set {
            records,
            tensors: tensors.collect(),
        })
    }

    /// A record by its index; its name stands in its field `id`; `name` in the set `onnx`, `key` in `hf_rotary` and `hf_axes`.
    pub fn record(&self, index: usize) -> Outcome<Record<'_>> {
        let json = &self.records[index];
        match json["id"].as_str().or(json["name"].as_str()).or(json["key"].as_str()) {
            Some(id) => Ok(Record { id, json, set: self }),
            None => fail(format!("record {index} has no `id` and no `key`")),
        }
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
}

/// One record with its tensors.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub id: &'a str,
    pub json: &'a Value,
    set: &'a Set,
}

impl<'a> Record<'a> {
    /// Tensors of this record, by their names in it.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = format!("{}/", self.id);
        self.set.tensors.keys().filter_map(move |name| name.strip_prefix(&prefix))
    }

    pub fn find(&self, name: &str) -> Option<&'a Tensor> {
        self.set.tensors.get(&format!("{}/{name}", self.id))
    }

    pub fn tensor(&self, name: &str) -> Outcome<&'a Tensor> {
        match self.find(name) {
            Some(tensor) => Ok(tensor),
            None => fail(format!("tensor `{name}` is missing")),
        }
    }

    /// An f32 tensor of this rank.
    pub fn f32s<const N: usize>(&self, name: &str) -> Outcome<([usize; N], &'a [f32])> {
        let tensor = self.tensor(name)?;
        match (<[usize; N]>::try_from(tensor.shape.as_slice()), &tensor.data) {
            (Ok(shape), Data::F32(data)) => Ok((shape, data)),
            _ => fail(format!("tensor `{name}` is not f32 of rank {N}, its shape is {:?}", tensor.shape)),
        }
    }

    /// An i64 tensor of any shape.
    pub fn i64s(&self, name: &str) -> Outcome<(&'a [usize], &'a [i64])> {
        let tensor = self.tensor(name)?;
        match &tensor.data {
            Data::I64(data) => Ok((&tensor.shape, data)),
            _ => fail(format!("tensor `{name}` is not i64")),
        }
    }

    /// What a field of the record names; `Skip` where it names more than is known here, because what it would change is not known either.
    pub fn only(&self, field: &str, known: &[&str]) -> Outcome<()> {
        let Some(object) = self.json[field].as_object() else {
            return fail(format!("field `{field}` is missing"));
        };
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => skip(format!("`{field}.{key}` is not known here")),
            None => Ok(()),
        }
    }

    /// As [`Record::only`], of the tensors; those that begin with `param.` or `grad.` are looked up by the parameters' names.
    pub fn only_tensors(&self, known: &[&str]) -> Outcome<()> {
        let parameter = |name: &str| name.starts_with("param.") || name.starts_with("grad.");
        match self.names().find(|name| !known.contains(name) && !parameter(name)) {
            Some(name) => skip(format!("tensor `{name}` is not known here")),
            None => Ok(()),
        }
    }

    /// A whole number in a field.
    pub fn size(&self, field: &str, name: &str) -> Outcome<usize> {
        match self.json[field][name].as_u64() {
            Some(value) => Ok(value as usize),
            None => fail(format!("`{field}.{name}` is not a whole number")),
        }
    }

    /// A number in a field, or what it is if absent.
    pub fn number_or(&self, field: &str, name: &str, default: f64) -> Outcome<f64> {
        let value = &self.json[field][name];
        match value.as_f64() {
            Some(value) => Ok(value),
            None if value.is_null() => Ok(default),
            None => fail(format!("`{field}.{name}` is not a number")),
        }
    }

    /// A flag in a field, or what it is if absent.
    pub fn flag_or(&self, field: &str, name: &str, default: bool) -> Outcome<bool> {
        let value = &self.json[field][name];
        match value.as_bool() {
            Some(value) => Ok(value),
            None if value.is_null() => Ok(default),
            None => fail(format!("`{field}.{name}` is neither true nor false")),
        }
    }

    /// Text in a field, if it is there.
    pub fn text(&self, field: &str, name: &str) -> Option<&'a str> {
        self.json[field][name].as_str()
    }
}
