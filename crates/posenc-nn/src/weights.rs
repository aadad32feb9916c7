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

use crate::error::{Error, Result};
use crate::number::Number;
use half::{bf16, f16};
use posenc::{Init, ParamSpec, Params};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// All tensors as the bytes of a safetensors file, in their own precision, with key-value pairs of metadata. Bytes of two or more pairs differ from
/// call to call in the order of the pairs, which the format does not fix.
///
/// # Errors
/// None that a store can cause; the format's own are passed on.
pub fn to_bytes<R: Number>(params: &Params<R>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut data = Vec::with_capacity(size_of_val(params.flat()));
    params.flat().iter().for_each(|x| x.write(&mut data));
    let (mut tensors, mut rest) = (Vec::new(), &data[..]);
    for spec in params.specs() {
        let (bytes, after) = rest.split_at(spec.size() * size_of::<R>());
        rest = after;
        tensors.push((spec.name.as_str(), TensorView::new(R::DTYPE, spec.shape.clone(), bytes)?));
    }
    let metadata: HashMap<String, String> = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Ok(safetensors::serialize(tensors, (!metadata.is_empty()).then_some(metadata))?)
}

/// Replaces every tensor of a store by the file's tensor of its name, converted from f32, f64, f16 or bf16, and returns the names of tensors that
/// the store does not have, sorted: a head or a position table that was expected to load is then not overlooked.
///
/// # Errors
/// Not a safetensors file, tensors missing (all are named), another shape or another kind of number, a finite number that the store's type cannot
/// hold.
#[must_use = "the names of tensors that were not loaded"]
pub fn load<R: Number>(params: &mut Params<R>, bytes: &[u8]) -> Result<Vec<String>> {
    let file = SafeTensors::deserialize(bytes)?;
    let present: HashMap<&str, TensorView<'_>> = file.iter().collect();
    let missing = |spec: &&ParamSpec| !present.contains_key(spec.name.as_str());
    let names: Vec<String> = params.specs().iter().filter(missing).map(|spec| spec.name.clone()).collect();
    if !names.is_empty() {
        return Err(Error::MissingTensors { names });
    }
    let mut values = Vec::with_capacity(params.size());
    for spec in params.specs() {
        let tensor = &present[spec.name.as_str()];
        if tensor.shape() != spec.shape {
            return Err(posenc::Error::ParameterShape {
                name: spec.name.clone(),
                expected: spec.shape.clone(),
                given: tensor.shape().to_vec(),
            }
            .into());
        }
        read(&spec.name, tensor, &mut values)?;
    }
    params.flat_mut().copy_from_slice(&values);
    let mut unused: Vec<String> = present
        .into_keys()
        .filter(|name| params.get(name).is_err())
        .map(str::to_string)
        .collect();
    unused.sort();
    Ok(unused)
}

/// A store of all tensors in a file, sorted by name, converted as by [`load`]. How they would begin is not in a file: [`Init::Zeros`].
///
/// # Errors
/// As [`load`].
pub fn from_bytes<R: Number>(bytes: &[u8]) -> Result<Params<R>> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors: Vec<(&str, TensorView<'_>)> = file.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    let mut values = Vec::new();
    let mut specs = Vec::new();
    for (name, tensor) in &tensors {
        read(name, tensor, &mut values)?;
        specs.push(ParamSpec::new(*name, tensor.shape(), Init::Zeros));
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
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let mut pairs: Vec<(String, String)> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    pairs.sort();
    Ok(pairs)
}

/// Writes a store to a file by [`to_bytes`]. The file appears whole or not at all: it is written beside its place and then moved there.
///
/// # Errors
/// The file cannot be written.
pub fn save_file<R: Number>(path: impl AsRef<Path>, params: &Params<R>, metadata: &[(&str, &str)]) -> Result<()> {
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
pub fn load_file<R: Number>(path: impl AsRef<Path>, params: &mut Params<R>) -> Result<Vec<String>> {
    let path = path.as_ref();
    load(params, &std::fs::read(path).map_err(at(path))?)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    |source| Error::Io { path, source }
}

/// Appends a tensor's numbers, converted. The bytes fit the shape: `safetensors` has checked it.
fn read<R: Number>(name: &str, tensor: &TensorView<'_>, values: &mut Vec<R>) -> Result<()> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => convert(name, data, |b| f64::from(f32::from_le_bytes(b)), values),
        Dtype::F64 => convert(name, data, f64::from_le_bytes, values),
        Dtype::F16 => convert(name, data, |b| f16::from_le_bytes(b).to_f64(), values),
        Dtype::BF16 => convert(name, data, |b| bf16::from_le_bytes(b).to_f64(), values),
        other => Err(Error::Dtype {
            name: name.to_string(),
            given: other.to_string(),
        }),
    }
}

/// Every accepted type is exact in f64, so the only rounding is to the store's type.
fn convert<R: Number, const B: usize>(name: &str, data: &[u8], number: impl Fn([u8; B]) -> f64, values: &mut Vec<R>) -> Result<()> {
    let (numbers, _) = data.as_chunks::<B>();
    values.reserve(numbers.len());
    for (index, bytes) in numbers.iter().enumerate() {
        let value = number(*bytes);
        let narrowed = R::of(value);
        if value.is_finite() && !narrowed.is_finite() {
            return Err(Error::Overflow {
                name: name.to_string(),
                index,
                value,
            });
        }
        values.push(narrowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<ParamSpec> {
        vec![
            ParamSpec::new("b.weight", [2, 3], Init::Normal(1.0)),
            ParamSpec::new("a", [4], Init::Normal(1.0)),
            ParamSpec::new("scalar", [], Init::Ones),
            ParamSpec::new("empty", [0, 3], Init::Ones),
        ]
    }

    /// A file of one tensor.
    fn file(name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
        safetensors::serialize([(name, TensorView::new(dtype, shape.to_vec(), data).unwrap())], None).unwrap()
    }

    #[test]
    fn bytes_come_back_bit_for_bit() {
        let params: Params<f32> = Params::init(&specs(), 1).unwrap();
        let bytes = to_bytes(&params, &[("encoding", "alibi")]).unwrap();
        assert_eq!(
            bytes,
            to_bytes(&params, &[("encoding", "alibi")]).unwrap(),
            "the same store, the same bytes"
        );
        assert_eq!(metadata(&bytes).unwrap(), [("encoding".to_string(), "alibi".to_string())]);
        let mut back: Params<f32> = Params::zeros(&specs()).unwrap();
        assert!(load(&mut back, &bytes).unwrap().is_empty());
        assert_eq!(back.flat(), params.flat());
        let whole: Params<f64> = from_bytes(&bytes).unwrap();
        assert_eq!(whole.get("a").unwrap()[0], f64::from(params.get("a").unwrap()[0]));
        assert_eq!(whole.specs()[0].name, "a");
        let doubles: Params<f64> = Params::init(&specs(), 1).unwrap();
        let again: Params<f64> = from_bytes(&to_bytes(&doubles, &[]).unwrap()).unwrap();
        assert_eq!(again.get("b.weight").unwrap(), doubles.get("b.weight").unwrap());
    }

    #[test]
    fn half_precision_is_widened_and_doubles_are_rounded_once() {
        let spec = [ParamSpec::new("a", [2], Init::Zeros)];
        let mut params: Params<f32> = Params::zeros(&spec).unwrap();
        let f16s: Vec<u8> = [1.5, -0.25].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let _ = load(&mut params, &file("a", Dtype::F16, &[2], &f16s)).unwrap();
        assert_eq!(params.flat(), [1.5, -0.25]);
        let bf16s: Vec<u8> = [3e38f32, f32::NAN].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        let _ = load(&mut params, &file("a", Dtype::BF16, &[2], &bf16s)).unwrap();
        assert!(params.flat()[0] > 2.9e38 && params.flat()[1].is_nan());
        let f64s = |x: [f64; 2]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let _ = load(&mut params, &file("a", Dtype::F64, &[2], &f64s([0.1, f64::INFINITY]))).unwrap();
        assert_eq!(params.flat(), [0.1, f32::INFINITY]);
        let error = load(&mut params, &file("a", Dtype::F64, &[2], &f64s([0.0, 1e300]))).unwrap_err();
        assert!(matches!(error, Error::Overflow { index: 1, .. }));
        assert_eq!(params.flat(), [0.1, f32::INFINITY], "nothing was written");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut params: Params<f32> = Params::init(&specs(), 1).unwrap();
        let before = params.flat().to_vec();
        let error = load(&mut params, &file("a", Dtype::F32, &[4], &[0; 16])).unwrap_err();
        assert!(matches!(&error, Error::MissingTensors { names } if names == &["b.weight", "scalar", "empty"]));
        let spec = [ParamSpec::new("a", [4], Init::Zeros)];
        let mut one: Params<f32> = Params::init(&spec, 1).unwrap();
        let error = load(&mut one, &file("a", Dtype::F32, &[2, 2], &[0; 16])).unwrap_err();
        assert!(matches!(
            &error,
            Error::Core(posenc::Error::ParameterShape { expected, given, .. }) if expected == &[4] && given == &[2, 2]
        ));
        let error = load(&mut one, &file("a", Dtype::I32, &[4], &[0; 16])).unwrap_err();
        assert!(matches!(&error, Error::Dtype { given, .. } if given == "I32"));
        let all = to_bytes(&params, &[]).unwrap();
        assert_eq!(load(&mut one, &all).unwrap(), ["b.weight", "empty", "scalar"]);
        assert_eq!(params.flat(), before);
    }

    #[test]
    fn hostile_and_truncated_bytes_are_errors_not_panics() {
        let params: Params<f32> = Params::init(&specs(), 1).unwrap();
        let bytes = to_bytes(&params, &[]).unwrap();
        for end in 0..bytes.len() {
            assert!(matches!(from_bytes::<f32>(&bytes[..end]), Err(Error::Format(_))), "cut at {end}");
        }
        let with_header = |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
        for header in [
            "",
            "[]",
            "{\"a\":",
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        ] {
            assert!(matches!(from_bytes::<f32>(&with_header(header)), Err(Error::Format(_))), "{header}");
        }
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        assert!(matches!(metadata(&huge), Err(Error::Format(_))));
    }

    #[test]
    fn files_are_written_whole_and_missing_ones_are_named() {
        let directory = std::env::temp_dir().join(format!("posenc-nn-weights-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("model.safetensors");
        let params: Params<f32> = Params::init(&specs(), 1).unwrap();
        save_file(&path, &params, &[]).unwrap();
        let mut back: Params<f32> = Params::zeros(&specs()).unwrap();
        assert!(load_file(&path, &mut back).unwrap().is_empty());
        assert_eq!(back.flat(), params.flat());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "no partial file is left");
        let error = load_file(directory.join("none"), &mut back).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("none")));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
