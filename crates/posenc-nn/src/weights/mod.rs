//! Parameters in safetensors files: the format in which weights are shared.
//!
//! ```
//! use posenc::Params;
//! use posenc_nn::{Linear, weights};
//!
//! let specs = Linear::new("up", 4, 8).specs();
//! let trained: Params<f32> = Params::init(&specs, 1)?;
//! let bytes = weights::to_bytes(&trained, &[("encoding", "alibi")])?;
//!
//! let mut params: Params<f32> = Params::zeros(&specs)?;
//! let unused = weights::load(&mut params, &bytes)?;
//! assert!(unused.is_empty());
//! assert_eq!(params.flat(), trained.flat());
//! # Ok::<(), posenc_nn::Error>(())
//! ```
//!
//! A file may come from anywhere: whatever its bytes are, reading it gives its tensors or a typed error, and on error the store is as it was.
//!
//! **Number types.** A store of f32, f64, f16 or bf16 is read from a file of any of them, and written to one. Widening is exact; narrowing rounds once, to
//! nearest even, and a finite number that would become infinite is an error. Integers and eight-bit numbers are errors where the store asks for them, and
//! are left alone where it does not (a buffer of position ids beside the weights).

mod dtype;
mod header;

pub use dtype::Dtype;
pub(crate) use dtype::Stored;

use crate::error::{Error, Result};
use crate::storage::Storage;
use half::{bf16, f16};
use header::{Entry, File};
use posenc::{Init, ParamSpec, Params, Real};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Where [`load_from`] finds a tensor of the store in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tensor of this name, of the same shape.
    Tensor(String),
    /// These tensors below each other, each with its number of rows (the first axis): separate query, key and value projections in one.
    Rows(Vec<(String, usize)>),
}

/// All tensors as the bytes of a safetensors file, in their own precision, with key-value pairs of metadata. The same store gives the same bytes.
///
/// # Errors
/// A tensor whose name is the format's own (`__metadata__`), a key of the metadata that comes twice, more than 100 MB of names.
pub fn to_bytes<T: Storage>(params: &Params<T>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    to_bytes_as(params, T::DTYPE, metadata)
}

/// As [`to_bytes`], with numbers of another type, rounded once.
///
/// # Errors
/// As [`to_bytes`], or a finite number that the type cannot hold.
pub fn to_bytes_as<T: Storage>(params: &Params<T>, dtype: Dtype, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    // By name, as the format's own writer does.
    let mut specs: Vec<&ParamSpec> = params.specs().iter().collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    let tensors: Vec<(&str, &[usize], usize)> = specs
        .iter()
        .map(|spec| (spec.name.as_str(), &spec.shape[..], spec.size() * dtype.bytes()))
        .collect();
    let mut out = header::write(dtype.name(), &tensors, metadata)?;
    out.reserve(params.size() * dtype.bytes());
    for spec in specs {
        for (index, x) in params.get(&spec.name)?.iter().enumerate() {
            let x = x.widen().to_f64();
            if !dtype.write(x, &mut out) && x.is_finite() {
                return Err(overflow(&spec.name, index, x, dtype));
            }
        }
    }
    Ok(out)
}

/// Replaces every tensor of a store by the file's tensor of its name, converted from f32, f64, f16 or bf16, and returns the names of tensors that
/// the store does not have, sorted: a head or a position table that was expected to load is then not overlooked.
///
/// # Errors
/// Not a safetensors file, tensors missing (all are named), another shape or another kind of number, a finite number that the store's type cannot
/// hold.
#[must_use = "the names of tensors that were not loaded"]
pub fn load<T: Storage>(params: &mut Params<T>, bytes: &[u8]) -> Result<Vec<String>> {
    load_from(params, bytes, |name| Source::Tensor(name.to_string()))
}

/// As [`load`], for files with other names or separate projections: `source` says for each tensor of the store where it is in the file. Several may
/// come from one (tied weights).
///
/// Most checkpoints on Hugging Face keep three projections where [`MultiheadAttention`](crate::MultiheadAttention) has one:
///
/// ```
/// use posenc::{Dims, ParamSpec, Init, Params};
/// use posenc_nn::{MultiheadAttention, weights::{self, Source}};
///
/// // Four heads of 2, two of them for keys and values, in a model of width 8.
/// let attn = MultiheadAttention::new("attn", 8, Dims::new(8, 4)?.with_kv_heads(2)?);
/// # let separate = |name: &str, rows: usize| [("weight", vec![rows, 8]), ("bias", vec![rows])]
/// #     .map(|(part, shape)| ParamSpec::new(format!("model.layers.0.self_attn.{name}.{part}"), shape, Init::Normal(1.0)));
/// # let specs = [separate("q_proj", 8), separate("k_proj", 4), separate("v_proj", 4), separate("o_proj", 8)].concat();
/// # let theirs: Params<f32> = Params::init(&specs, 1)?;
/// # let bytes = weights::to_bytes(&theirs, &[])?;
/// let rows = attn.in_proj_rows();
/// let mut params: Params<f32> = Params::init(&attn.specs(), 1)?;
/// let unused = weights::load_from(&mut params, &bytes, |name| {
///     let theirs = |part: &str| format!("model.layers.0.self_attn.{part}");
///     match name.strip_prefix("attn.in_proj_") {
///         // `weight` or `bias`.
///         Some(kind) => Source::Rows(
///             ["q_proj", "k_proj", "v_proj"].iter().zip(&rows).map(|(part, rows)| (theirs(&format!("{part}.{kind}")), rows.len())).collect(),
///         ),
///         None => Source::Tensor(theirs(&name.replace("attn.out_proj", "o_proj"))),
///     }
/// })?;
/// assert!(unused.is_empty());
/// # assert_eq!(params.get("attn.in_proj_weight")?[8 * 8..8 * 12], *theirs.get("model.layers.0.self_attn.k_proj.weight")?);
/// # assert_eq!(params.get("attn.out_proj.bias")?, theirs.get("model.layers.0.self_attn.o_proj.bias")?);
/// # Ok::<(), posenc_nn::Error>(())
/// ```
///
/// # Errors
/// As [`load`]; rows that do not add up to the store's tensor.
#[must_use = "the names of tensors that were not loaded"]
pub fn load_from<T: Storage>(params: &mut Params<T>, bytes: &[u8], mut source: impl FnMut(&str) -> Source) -> Result<Vec<String>> {
    let file = File::read(bytes)?;
    let sources: Vec<Source> = params.specs().iter().map(|spec| source(&spec.name)).collect();
    let asked: HashSet<&str> = sources.iter().flat_map(Source::names).collect();
    let others: Vec<String> = file
        .tensors
        .iter()
        .filter(|entry| !asked.contains(entry.name.as_str()))
        .map(|entry| entry.name.clone())
        .collect();
    let mut names: Vec<String> = sources.iter().flat_map(Source::names).map(str::to_string).collect();
    names.retain(|name| file.find(name).is_none());
    if !names.is_empty() {
        return Err(Error::MissingTensors { names, others });
    }
    let mut values = Vec::with_capacity(params.size());
    for (spec, source) in params.specs().iter().zip(&sources) {
        for (name, shape) in source.parts(spec)? {
            // All are there, as was just seen.
            let Some(entry) = file.find(name) else { continue };
            if entry.shape != shape {
                return Err(another_shape(name, &shape, &entry.shape));
            }
            read(entry, &mut values)?;
        }
    }
    params.flat_mut().copy_from_slice(&values);
    Ok(others)
}

impl Source {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Source::Tensor(name) => (Some(name.as_str()), &[][..]),
            Source::Rows(parts) => (None, &parts[..]),
        };
        one.into_iter().chain(several.iter().map(|(name, _)| name.as_str()))
    }

    /// The file's tensors and the shapes that they must have.
    fn parts(&self, spec: &ParamSpec) -> Result<Vec<(&str, Vec<usize>)>> {
        let parts = match self {
            Source::Tensor(name) => return Ok(vec![(name, spec.shape.clone())]),
            Source::Rows(parts) => parts,
        };
        let total = parts.iter().try_fold(0usize, |total, (_, rows)| total.checked_add(*rows));
        let Some((_, columns)) = spec.shape.split_first().filter(|(rows, _)| Some(**rows) == total) else {
            let given: Vec<usize> = total.into_iter().chain(spec.shape.iter().skip(1).copied()).collect();
            return Err(another_shape(&spec.name, &spec.shape, &given));
        };
        Ok(parts
            .iter()
            .map(|(name, rows)| (name.as_str(), [&[*rows], columns].concat()))
            .collect())
    }
}

/// A store of all tensors in a file, sorted by name, converted as by [`load`]. How they would begin is not in a file: [`Init::Zeros`].
///
/// # Errors
/// As [`load`].
pub fn from_bytes<T: Storage>(bytes: &[u8]) -> Result<Params<T>> {
    let file = File::read(bytes)?;
    let mut values = Vec::new();
    let mut specs = Vec::new();
    for entry in &file.tensors {
        read(entry, &mut values)?;
        specs.push(ParamSpec::new(&entry.name, &entry.shape[..], Init::Zeros));
    }
    let mut params = Params::zeros(&specs)?;
    params.flat_mut().copy_from_slice(&values);
    Ok(params)
}

/// The key-value pairs of a file's metadata, sorted by key.
///
/// # Errors
/// Not a safetensors file.
pub fn metadata(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    Ok(File::read(bytes)?.metadata)
}

/// Writes a store to a file by [`to_bytes`]. The file appears whole or not at all: it is written beside its place and then moved there.
///
/// # Errors
/// The file cannot be written.
pub fn save_file<T: Storage>(path: impl AsRef<Path>, params: &Params<T>, metadata: &[(&str, &str)]) -> Result<()> {
    let path = path.as_ref();
    let bytes = to_bytes(params, metadata)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, bytes).map_err(at(&partial))?;
    std::fs::rename(&partial, path).map_err(at(path))
}

/// Reads a file into a store by [`load`].
///
/// # Errors
/// The file cannot be read, or as [`load`].
#[must_use = "the names of tensors that were not loaded"]
pub fn load_file<T: Storage>(path: impl AsRef<Path>, params: &mut Params<T>) -> Result<Vec<String>> {
    let path = path.as_ref();
    load(params, &std::fs::read(path).map_err(at(path))?)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    |source| Error::Io { path, source }
}

fn another_shape(name: &str, expected: &[usize], given: &[usize]) -> Error {
    let (name, expected, given) = (name.to_string(), expected.to_vec(), given.to_vec());
    posenc::Error::ParameterShape { name, expected, given }.into()
}

fn overflow(name: &str, index: usize, value: f64, into: Dtype) -> Error {
    let name = name.to_string();
    Error::Overflow { name, index, value, into }
}

/// Appends a tensor's numbers, converted. The bytes fit the shape: the header was checked.
fn read<T: Storage>(entry: &Entry<'_>, values: &mut Vec<T>) -> Result<()> {
    match Dtype::ALL.into_iter().find(|dtype| dtype.name() == entry.dtype) {
        Some(Dtype::F32) => convert(entry, |b| f64::from(f32::from_le_bytes(b)), values),
        Some(Dtype::F64) => convert(entry, f64::from_le_bytes, values),
        Some(Dtype::F16) => convert(entry, |b| f16::from_le_bytes(b).to_f64(), values),
        Some(Dtype::Bf16) => convert(entry, |b| bf16::from_le_bytes(b).to_f64(), values),
        None => Err(Error::Dtype {
            name: entry.name.clone(),
            given: entry.dtype.clone(),
        }),
    }
}

/// Every accepted type is exact in f64, so the only rounding is to the store's type.
fn convert<T: Storage, const B: usize>(entry: &Entry<'_>, number: impl Fn([u8; B]) -> f64, values: &mut Vec<T>) -> Result<()> {
    let (numbers, _) = entry.data.as_chunks::<B>();
    values.reserve(numbers.len());
    for (index, bytes) in numbers.iter().enumerate() {
        let value = number(*bytes);
        let narrowed = T::rounded(value);
        if value.is_finite() && !narrowed.widen().is_finite() {
            return Err(overflow(&entry.name, index, value, T::DTYPE));
        }
        values.push(narrowed);
    }
    Ok(())
}
