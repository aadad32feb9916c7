//! candle's storage as the core's views, and back. Nothing is copied: a view is the tensor's own memory with its own strides.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, DType, Layout, Shape, Storage, Tensor, WithDType};
use half::{bf16, f16};
use posenc::{Element, View, ViewMut};
use std::sync::Mutex;

/// What both candle and the core store.
pub(crate) trait Stored: Element<Real: crate::shared::Arithmetic> + WithDType + crate::kernels::AnyBits {
    /// The numbers of a storage of this type.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($t:ident $variant:ident;)+) => {
        $(impl Stored for $t {
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [$t]> {
                match storage {
                    CpuStorage::$variant(numbers) => Some(numbers),
                    _ => None,
                }
            }
        })+
    };
}

stored! {
    f32 F32;
    f64 F64;
    f16 F16;
    bf16 BF16;
}

/// Types that something here computes with.
pub(crate) const FLOATS: &str = "F32, F64, F16 or BF16";

/// Runs `$body` with `$t` as the type that a dtype stands for.
macro_rules! by_type {
    ($what:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            candle_core::DType::F16 => {
                type $t = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            given => Err($crate::error::Error::Type {
                what: $what,
                given,
                expected: $crate::storage::FLOATS,
                shape: None,
            }),
        }
    };
}
pub(crate) use by_type;

/// The type that numbers of this one are computed in.
pub(crate) fn real_of(what: &'static str, dtype: DType) -> Result<DType> {
    match dtype {
        DType::F64 => Ok(DType::F64),
        DType::F32 | DType::F16 | DType::BF16 => Ok(DType::F32),
        given => Err(Error::Type {
            what,
            given,
            expected: FLOATS,
            shape: None,
        }),
    }
}

/// The type that a tensor's numbers are computed in.
pub(crate) fn real_of_tensor(what: &'static str, x: &Tensor) -> Result<DType> {
    real_of(what, x.dtype()).map_err(|_| Error::Type {
        what,
        given: x.dtype(),
        expected: FLOATS,
        shape: Some(x.shape().clone()),
    })
}

/// The lengths of a tensor with this many axes.
pub(crate) fn dims<const N: usize>(what: &'static str, shape: &Shape) -> Result<[usize; N]> {
    shape.dims().try_into().map_err(|_| Error::Rank {
        what,
        expected: N,
        given: shape.clone(),
    })
}

fn strides<const N: usize>(layout: &Layout) -> [usize; N] {
    std::array::from_fn(|axis| layout.stride()[axis])
}

/// The last axis has no gaps.
pub(crate) fn check_rows(what: &'static str, layout: &Layout) -> Result<()> {
    match (layout.dims().last(), layout.stride().last()) {
        (Some(&length), Some(&stride)) if length > 1 && stride != 1 => Err(Error::Strided {
            what,
            shape: layout.shape().clone(),
            stride,
        }),
        _ => Ok(()),
    }
}

/// A tensor where it lies.
pub(crate) fn view<'s, T: WithDType, const N: usize>(
    what: &'static str,
    storage: &'s CpuStorage,
    layout: &Layout,
) -> Result<View<'s, T, N>> {
    let shape = dims(what, layout.shape())?;
    check_rows(what, layout)?;
    let numbers = T::cpu_storage_as_slice(storage)?;
    Ok(View::strided(from(numbers, layout.start_offset()), shape, strides(layout))?)
}

/// A tensor to be written where it lies.
pub(crate) fn view_mut<'s, T: Stored, const N: usize>(
    what: &'static str,
    storage: &'s mut CpuStorage,
    layout: &Layout,
) -> Result<ViewMut<'s, T, N>> {
    let shape = dims(what, layout.shape())?;
    check_rows(what, layout)?;
    let given = storage_type(storage);
    let numbers = T::slice_mut(storage).ok_or(Error::Types {
        what,
        expected: T::DTYPE,
        given,
        shape: layout.shape().clone(),
    })?;
    let start = layout.start_offset().min(numbers.len());
    Ok(ViewMut::strided(&mut numbers[start..], shape, strides(layout))?)
}

/// What a storage holds.
pub(crate) fn storage_type(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// The numbers from an offset on; that of an empty tensor may lie anywhere.
fn from<T>(numbers: &[T], start: usize) -> &[T] {
    &numbers[start.min(numbers.len())..]
}

/// The numbers of a tensor of one axis without gaps.
pub(crate) fn slice<'s, T: WithDType>(what: &'static str, storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [T]> {
    let view = view::<T, 1>(what, storage, layout)?;
    Ok(view.row([0]))
}

/// A tensor's numbers in a new vector, row after row.
pub(crate) fn copied<T: Copy, const N: usize>(view: View<'_, T, N>) -> Vec<T> {
    if let Some(all) = view.as_slice() {
        return all.to_vec();
    }
    let shape = view.shape();
    let mut all = Vec::with_capacity(shape.iter().product());
    let rows = if shape.contains(&0) { 0 } else { shape[..N - 1].iter().product() };
    for row in 0..rows {
        let (mut at, mut rest) = ([0; N], row);
        for axis in (0..N - 1).rev() {
            (at[axis], rest) = (rest % shape[axis], rest / shape[axis]);
        }
        all.extend_from_slice(view.row(at));
    }
    all
}

/// The tensor itself if its last axis is contiguous, a copy otherwise: for gradients, which arrive as candle's operations leave them.
pub(crate) fn by_rows(tensor: &Tensor) -> candle_core::Result<Tensor> {
    match check_rows("a gradient", tensor.layout()) {
        Ok(()) => Ok(tensor.clone()),
        Err(_) => tensor.contiguous(),
    }
}

/// Lets a closure read a tensor's storage, which must be on the CPU.
pub(crate) fn on_cpu<O>(op: &'static str, tensor: &Tensor, read: impl FnOnce(&CpuStorage, &Layout) -> Result<O>) -> Result<O> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(storage, layout),
        _ => Err(Error::Device {
            op,
            shape: layout.shape().clone(),
        }),
    }
}

/// The error of an operation that candle runs, kept as it is on its way through candle's own error, which holds text alone.
#[derive(Debug, Default)]
pub(crate) struct Refusal(Mutex<Option<Error>>);

impl Refusal {
    /// What candle is told.
    pub fn keep<O>(&self, result: Result<O>) -> candle_core::Result<O> {
        result.map_err(|error| {
            let text = candle_core::Error::msg(&error);
            if let Ok(mut kept) = self.0.lock() {
                *kept = Some(error);
            }
            text
        })
    }

    /// What the caller is told.
    pub fn given_back<O>(&self, result: candle_core::Result<O>) -> Result<O> {
        result.map_err(|error| {
            let kept = self.0.lock().ok().and_then(|mut kept| kept.take());
            kept.unwrap_or(Error::Candle(error))
        })
    }
}
