//! Two ways to the same numbers: that they agree, and how long each takes.
//!
//! New memory is what the peers write into: they allocate what they return. A caller of ours has to allocate it as zeros.

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use posenc::Element;
use posenc_lab::bench::{Paired, paired};

/// Errors come from three libraries and are shown as they are.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Prints what is asked for, as it is measured.
pub struct Bench {
    pub only: Option<String>,
    pub rounds: usize,
    /// As a table of Markdown, with a row for all of [`WAYS`]; otherwise a line for each.
    pub markdown: bool,
}

/// Where ours writes: over its input, into a buffer that is kept, or into memory that is allocated each time, as the peers'.
pub const WAYS: [&str; 3] = ["in place", "a buffer", "new memory"];

/// What is compared.
pub struct Work<'w> {
    pub name: &'w str,
    pub stored: &'static str,
    pub shape: &'w [usize],
    pub peer: &'w str,
}

impl Bench {
    pub fn heading(markdown: bool) -> String {
        if markdown {
            let ways = WAYS.map(|way| format!(" {way} | ratio |")).concat();
            return format!(
                "| work | type | peer | its time |{ways}\n|---|---|---|---:|{}",
                "---:|---:|".repeat(WAYS.len())
            );
        }
        format!(
            "{:<24} {:<4} {:>13}  {:<24} {:>8}  {:<11} {:>8}  ratio (range)",
            "work", "type", "shape", "peer", "time", "ours", "time"
        )
    }

    /// A peer's comparisons for this work are asked for.
    pub fn wants(&self, work: &str, peer: &str) -> bool {
        self.only.as_deref().is_none_or(|only| work.contains(only) || peer.contains(only))
    }

    /// Runs the peer and each of ours in turn, and prints them.
    pub fn run(&self, work: &Work<'_>, mut theirs: impl FnMut(), ours: &mut [(&str, &mut dyn FnMut())]) {
        let mut cells = WAYS.map(|_| None);
        for (way, ours) in ours {
            let measured = paired(self.rounds, &mut theirs, ours);
            if !self.markdown {
                println!("{}", line(work, way, &measured));
            }
            if let Some(i) = WAYS.iter().position(|known| known == way) {
                cells[i] = Some(measured);
            }
        }
        if self.markdown {
            println!("{}", row(work, &cells));
        }
    }
}

fn line(work: &Work<'_>, way: &str, measured: &Paired) -> String {
    let shape = work.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    format!(
        "{:<24} {:<4} {shape:>13}  {:<24} {:>8}  {way:<11} {:>8}  {}",
        work.name,
        work.stored,
        work.peer,
        time(measured.seconds.median),
        time(measured.other.median),
        ratio(measured)
    )
}

fn row(work: &Work<'_>, cells: &[Option<Paired>]) -> String {
    let peer = cells
        .iter()
        .flatten()
        .next()
        .map_or(String::new(), |measured| time(measured.seconds.median));
    let ours = cells.iter().map(|cell| match cell {
        Some(measured) => format!(" {} | {} |", time(measured.other.median), ratio(measured)),
        None => " | |".into(),
    });
    format!(
        "| {} | {} | {} | {peer} |{}",
        work.name,
        work.stored,
        work.peer,
        ours.collect::<String>()
    )
}

fn ratio(measured: &Paired) -> String {
    let [median, low, high] = [measured.ratio.median, measured.ratio.low, measured.ratio.high].map(digits);
    format!("{median} ({low}–{high})")
}

/// Three digits.
pub fn digits(x: f64) -> String {
    match x {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

pub fn time(seconds: f64) -> String {
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
