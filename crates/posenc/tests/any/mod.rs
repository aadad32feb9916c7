//! Any bytes as calls of the library: hostile shapes, strides, offsets, ids, number types and settings through every entry point. The fuzzer (`fuzz/`) drives it with bytes that it finds, and `corpus.rs` with those that it
//! kept.
//!
//! What must hold of any input: no panic, no read or write outside of a slice, an end; an error has written nothing; an answer is that of the definition wherever that is cheap to compute, and the
//! same whichever way it was asked for.

mod adding;
mod attending;
mod bytes;
mod placing;
mod scoring;
mod turning;

use bytes::Bytes;
use half::{bf16, f16};
use posenc::{Element, Real};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (entry, dtype) = (bytes.below(8), bytes.below(4));
    match dtype {
        0 => of_type::<f32>(entry, bytes),
        1 => of_type::<f64>(entry, bytes),
        2 => of_type::<f16>(entry, bytes),
        _ => of_type::<bf16>(entry, bytes),
    }
}

fn of_type<T: Number>(entry: usize, bytes: Bytes<'_>) {
    match entry {
        0 => placing::views(bytes),
        1 => placing::positions(bytes),
        2 => turning::rotate::<T>(bytes),
        3 => attending::attention::<T>(bytes),
        4 => adding::add::<T>(bytes),
        5 => adding::tables::<T>(bytes),
        6 => scoring::bias::<T>(bytes),
        _ => scoring::attend::<T>(bytes),
    }
}

/// A stored number that can be told from another by its bits.
pub trait Number: Element + Default + std::fmt::Debug {
    fn bits(self) -> u64;
}

macro_rules! numbers {
    ($($t:ty)+) => { $(impl Number for $t { fn bits(self) -> u64 { u64::from(self.to_bits()) } })+ };
}
numbers! { f32 f64 f16 bf16 }

/// What stands where nothing may be written.
fn poison<T: Number>() -> T {
    T::narrow(T::Real::of(-77.0))
}

/// The same numbers, bit for bit; NaN is NaN.
#[track_caller]
fn same<T: Number>(what: &str, a: &[T], b: &[T]) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let nan = |x: &T| x.widen().to_f64().is_nan();
        assert!(a.bits() == b.bits() || nan(a) && nan(b), "{what}: {a:?} against {b:?} at {i}");
    }
}

/// Nothing was written.
#[track_caller]
fn untouched<T: Number>(what: &str, x: &[T]) {
    assert!(x.iter().all(|x| x.bits() == poison::<T>().bits()), "{what} wrote before it refused");
}

fn all_finite<T: Number>(x: &[T]) -> bool {
    x.iter().all(|x| x.widen().to_f64().is_finite())
}
