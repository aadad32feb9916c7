//! Two ways to the same numbers: that they agree, and how long each takes.
//!
//! New memory is what the peers write into: they allocate what they return. A caller of ours has to allocate it as zeros.

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use posenc::Element;
use posenc_lab::bench::paired;

/// Errors come from three libraries and are shown as they are.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Prints a row for each comparison that is asked for.
pub struct Bench {
    pub only: Option<String>,
    pub rounds: usize,
}

/// What is compared.
pub struct Work<'w> {
    pub name: &'w str,
    pub stored: &'static str,
    pub shape: &'w [usize],
    /// Where ours writes.
    pub ours: &'w str,
    pub peer: &'w str,
}

impl Bench {
    pub fn heading() -> String {
        format!(
            "{:<26} {:<4} {:>14}  {:<12} {:>8}  {:<22} {:>8}  ratio (range)",
            "work", "type", "shape", "ours", "time", "peer", "time"
        )
    }

    /// A peer's comparisons for this work are asked for.
    pub fn wants(&self, work: &str, peer: &str) -> bool {
        self.only.as_deref().is_none_or(|only| work.contains(only) || peer.contains(only))
    }

    /// Runs both in turn and prints the row.
    pub fn row(&self, work: Work<'_>, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
        let measured = paired(self.rounds, &mut theirs, &mut ours);
        let shape = work.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        println!(
            "{:<26} {:<4} {shape:>14}  {:<12} {:>8}  {:<22} {:>8}  {} ({}–{})",
            work.name,
            work.stored,
            work.ours,
            time(measured.other.median),
            work.peer,
            time(measured.seconds.median),
            digits(measured.ratio.median),
            digits(measured.ratio.low),
            digits(measured.ratio.high)
        );
    }
}

/// Three digits.
fn digits(x: f64) -> String {
    match x {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 0.9995 => format!("{} s", digits(s)),
        s if s >= 0.9995e-3 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} µs", digits(s * 1e6)),
    }
}

/// Both are the same within `bound`; nothing is timed that computes something else.
pub fn agree(what: &str, ours: &[f32], theirs: &[f32], bound: f32) -> Result<()> {
    if ours.len() != theirs.len() {
        return Err(format!("{what}: {} numbers here, {} there", ours.len(), theirs.len()).into());
    }
    let far = ours
        .iter()
        .zip(theirs)
        .position(|(a, b)| (a - b).abs().partial_cmp(&bound).is_none_or(|order| order.is_gt()));
    match far {
        Some(i) => Err(format!(
            "{what}: number {i} is {} here and {} there; the bound is {bound:e}",
            ours[i], theirs[i]
        )
        .into()),
        None => Ok(()),
    }
}

/// What all three libraries store.
pub trait Stored: Element<Real = f32> + candle_core::WithDType + burn::tensor::Element {
    const NAME: &'static str;
    const BURN: DType;
    /// What rounding to it costs at most, as a part of the number.
    const HALF_ULP: f32;
    /// New memory, zero as the system hands it out.
    fn zeros(numbers: usize) -> Vec<Self>;
    fn wide(numbers: &[Self]) -> Vec<f32>;
}

impl Stored for f32 {
    const NAME: &'static str = "f32";
    const BURN: DType = DType::F32;
    const HALF_ULP: f32 = f32::EPSILON / 2.0;
    fn zeros(numbers: usize) -> Vec<f32> {
        vec![0.0; numbers]
    }
    fn wide(numbers: &[f32]) -> Vec<f32> {
        numbers.to_vec()
    }
}

impl Stored for bf16 {
    const NAME: &'static str = "bf16";
    const BURN: DType = DType::BF16;
    const HALF_ULP: f32 = 1.0 / 256.0 / 2.0;
    fn zeros(numbers: usize) -> Vec<bf16> {
        vec![0u16; numbers].reinterpret_into()
    }
    fn wide(numbers: &[bf16]) -> Vec<f32> {
        numbers.to_f32_vec()
    }
}

/// Numbers between −1 and 1 that differ from their neighbours.
pub fn numbers<T: Stored>(count: usize) -> Vec<T> {
    (0..count).map(|i| Element::narrow((i * 37 % 255) as f32 / 127.0 - 1.0)).collect()
}

/// As candle holds them.
pub fn candle<T: Stored>(numbers: &[T], shape: &[usize]) -> Result<candle_core::Tensor> {
    Ok(candle_core::Tensor::from_slice(numbers, shape, &candle_core::Device::Cpu)?)
}

/// Out of candle.
pub fn from_candle(tensor: &candle_core::Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
}

/// As burn holds them.
pub fn burn<T: Stored, const D: usize>(numbers: &[T], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), (&Device::flex(), T::BURN))
}

/// Out of burn.
pub fn from_burn<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
