//! The number types of a file.

use half::{bf16, f16};
use posenc::{Element, Real};
use std::fmt;

/// What the numbers of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Eight bytes.
    F64,
    /// Four bytes.
    F32,
    /// IEEE's half precision: eleven bits of significand, at most 65 504.
    F16,
    /// The upper half of an f32: eight bits of significand, f32's range.
    Bf16,
}

impl Dtype {
    pub(super) const ALL: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// Its name in a file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Appends a number, rounded once; whether it is still finite.
    pub(super) fn write(self, x: f64, out: &mut Vec<u8>) -> bool {
        fn put<T: Stored>(x: f64, out: &mut Vec<u8>) -> bool {
            let x = T::rounded(x);
            x.write(out);
            x.widen().is_finite()
        }
        match self {
            Dtype::F64 => put::<f64>(x, out),
            Dtype::F32 => put::<f32>(x, out),
            Dtype::F16 => put::<f16>(x, out),
            Dtype::Bf16 => put::<bf16>(x, out),
        }
    }
}

/// What the four types of a store do differently in a file. Public in a private module: it seals [`crate::Storage`].
pub trait Stored: Element {
    /// Its name in a file.
    const DTYPE: Dtype;
    /// The nearest number, of two that are as near the even one.
    fn rounded(x: f64) -> Self;
    /// Appends its little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! stored {
    ($($name:ident $type:ty: $rounded:expr;)*) => {$(
        impl Stored for $type {
            const DTYPE: Dtype = Dtype::$name;

            #[inline]
            fn rounded(x: f64) -> $type {
                $rounded(x)
            }

            #[inline]
            fn write(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

stored! {
    F64 f64: std::convert::identity;
    F32 f32: |x| x as f32;
    F16 f16: |x| f16::from_f32(to_odd(x));
    Bf16 bf16: |x| bf16::from_f32(to_odd(x));
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The f32 next to a number that is not one on the side of zero, with its last bit set (Boldo and Melquiond, *Emulation of FMA and correctly rounded
/// sums: proved algorithms using rounding to odd*, 2008): rounding that once more to a type with at least two bits less gives what rounding the number at
/// once gives. `half` narrows an f64 through the nearest f32, which rounds twice.
fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let exact = f64::from(nearest);
    if exact == x || x.is_nan() {
        return nearest;
    }
    let inner = if exact.abs() > x.abs() {
        nearest.to_bits() - 1
    } else {
        nearest.to_bits()
    };
    f32::from_bits(inner | 1)
}
