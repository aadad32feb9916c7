//! The two number traits: what arithmetic is done in, and what is stored.

use crate::kernels::{
    Compiled, CompiledSkewed, CompiledStored, Vectors, load_bf16, load_f16, load_split_bf16, rounded_bf16, store_bf16, store_f16,
    store_merged_bf16,
};
use fearless_simd::{Simd, prelude::*};
use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// What arithmetic is done in: `f32`, or `f64`, which is the oracle of gradients.
pub trait Real:
    Vectors
    + Compiled
    + CompiledSkewed
    + Element<Real = Self>
    + Default
    + PartialOrd
    + Debug
    + Display
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞: the score of a pair that may not attend.
    const NEG_INFINITY: Self;
    /// The largest finite number.
    const MAX: Self;
    /// The distance from 1 to the next number.
    const EPSILON: Self;
    /// The nearest representable number.
    fn of(x: f64) -> Self;
    /// The same number in f64.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// eˣ.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger of two numbers.
    fn max(self, other: Self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// eˣ for x ≤ 0 as softmax needs it: written so that a loop over a slice becomes vector code, at most 2 ulp off, and exactly 0 where the
    /// result would be so small that its products are subnormal (below 2⁻⁹⁶ in f32).
    fn softmax_exp(self) -> Self;
}

/// What is stored: `f32`, `f64`, `f16` or `bf16`. A number is converted when its row is loaded or stored, once: without a branch, so that a loop over a row becomes vector code.
pub trait Element: sealed::Sealed + CompiledStored + Copy + Send + Sync + 'static {
    /// What its arithmetic is done in.
    type Real: Real;
    /// The largest magnitude up to which every whole number is representable: 2²⁴ for `f32`.
    const EXACT_INTEGERS: f64;
    /// To the arithmetic type; exact.
    fn widen(self) -> Self::Real;
    /// From the arithmetic type; rounds to nearest even.
    fn narrow(x: Self::Real) -> Self;
    /// The row itself, where what is stored is what is computed in.
    #[doc(hidden)]
    #[inline(always)]
    fn as_real(_row: &mut [Self]) -> Option<&mut [Self::Real]> {
        None
    }
    /// The first numbers of a row, widened.
    #[doc(hidden)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> <Self::Real as Vectors>::Vector<S>;
    /// Over the first numbers of a row, each rounded as [`narrow`](Element::narrow) rounds.
    #[doc(hidden)]
    fn store<S: Simd>(simd: S, vector: <Self::Real as Vectors>::Vector<S>, to: &mut [Self]);
    /// Each number rounded as [`narrow`](Element::narrow) rounds, and widened again. NaN has no digits that are lost in rounding, or it may end as a number.
    #[doc(hidden)]
    #[inline(always)]
    fn round_lanes<S: Simd>(_: S, vector: <Self::Real as Vectors>::Vector<S>) -> <Self::Real as Vectors>::Vector<S> {
        vector
    }
    /// Two vectors of a row are better read by [`load_split`](Element::load_split) than one after the other.
    #[doc(hidden)]
    const SPLITS_WELL: bool = false;
    /// Twice as many numbers: those at even places and those at odd ones.
    #[doc(hidden)]
    #[inline(always)]
    fn load_split<S: Simd>(simd: S, from: &[Self]) -> [<Self::Real as Vectors>::Vector<S>; 2] {
        let lanes = <Self::Real as Vectors>::LANES;
        Self::load(simd, from).deinterleave(Self::load(simd, &from[lanes..])).into()
    }
    /// The reverse. NaN has no digits that are lost in rounding, or it may end as a number.
    #[doc(hidden)]
    #[inline(always)]
    fn store_merged<S: Simd>(simd: S, [even, odd]: [<Self::Real as Vectors>::Vector<S>; 2], to: &mut [Self]) {
        let (first, second) = even.interleave(odd);
        Self::store(simd, first, to);
        Self::store(simd, second, &mut to[<Self::Real as Vectors>::LANES..]);
    }
}

impl Element for f32 {
    type Real = f32;
    const EXACT_INTEGERS: f64 = 16_777_216.0;
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn as_real(row: &mut [f32]) -> Option<&mut [f32]> {
        Some(row)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f32]) -> <f32 as Vectors>::Vector<S> {
        SimdBase::from_slice(simd, &from[..16])
    }
    #[inline(always)]
    fn store<S: Simd>(_: S, vector: <f32 as Vectors>::Vector<S>, to: &mut [f32]) {
        vector.store_slice(&mut to[..16]);
    }
}

impl Element for f64 {
    type Real = f64;
    const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;
    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
    #[inline(always)]
    fn narrow(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn as_real(row: &mut [f64]) -> Option<&mut [f64]> {
        Some(row)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f64]) -> <f64 as Vectors>::Vector<S> {
        SimdBase::from_slice(simd, &from[..8])
    }
    #[inline(always)]
    fn store<S: Simd>(_: S, vector: <f64 as Vectors>::Vector<S>, to: &mut [f64]) {
        vector.store_slice(&mut to[..8]);
    }
}

impl Element for half::f16 {
    type Real = f32;
    const EXACT_INTEGERS: f64 = 2048.0;
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let (sign, size) = ((bits & 0x8000) << 16, (bits & 0x7FFF) << 13);
        // The exponent is moved by a product, which is exact and sees to subnormal numbers; ∞ and NaN keep the largest exponent.
        let moved = (f32::from_bits(size) * f32::from_bits(0x7780_0000)).to_bits();
        let special = if size >= 0x0F80_0000 { 0x7F80_0000 } else { 0 };
        f32::from_bits(sign | moved | special)
    }
    #[inline(always)]
    fn narrow(x: f32) -> half::f16 {
        let bits = x.to_bits();
        let (sign, size) = ((bits >> 16) & 0x8000, bits & 0x7FFF_FFFF);
        // Half an ulp less a bit, and a bit more where the number below is odd: ties go to even. A carry moves into the exponent, and from there to ∞.
        let normal = (size.wrapping_add(0x0FFF + ((size >> 13) & 1)).wrapping_sub(0x3800_0000)) >> 13;
        // Below 2⁻¹⁴ the sum with a half has its last bit where a subnormal has.
        let subnormal = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0x3F00_0000);
        let finite = if size < 0x3880_0000 { subnormal } else { normal };
        // From 65 520 on it is ∞; NaN stays NaN.
        let large = if size > 0x7F80_0000 {
            0x7E00 | ((size >> 13) & 0x3FF)
        } else {
            0x7C00
        };
        half::f16::from_bits((sign | if size >= 0x477F_F000 { large } else { finite }) as u16)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[half::f16]) -> <f32 as Vectors>::Vector<S> {
        load_f16(simd, from)
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, vector: <f32 as Vectors>::Vector<S>, to: &mut [half::f16]) {
        store_f16(simd, vector, to);
    }
    #[inline(always)]
    fn round_lanes<S: Simd>(simd: S, vector: <f32 as Vectors>::Vector<S>) -> <f32 as Vectors>::Vector<S> {
        let mut stored = [half::f16::ZERO; <f32 as Vectors>::LANES];
        store_f16(simd, vector, &mut stored);
        load_f16(simd, &stored)
    }
}

impl Element for half::bf16 {
    type Real = f32;
    const EXACT_INTEGERS: f64 = 256.0;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(x: f32) -> half::bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
        // A NaN whose payload is in the lower half alone would become ∞.
        let nan = (bits >> 16) | 0x40;
        half::bf16::from_bits(if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { rounded } as u16)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[half::bf16]) -> <f32 as Vectors>::Vector<S> {
        load_bf16(simd, from)
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, vector: <f32 as Vectors>::Vector<S>, to: &mut [half::bf16]) {
        store_bf16(simd, vector, to);
    }
    const SPLITS_WELL: bool = true;
    #[inline(always)]
    fn round_lanes<S: Simd>(simd: S, vector: <f32 as Vectors>::Vector<S>) -> <f32 as Vectors>::Vector<S> {
        rounded_bf16(simd, vector)
    }
    #[inline(always)]
    fn load_split<S: Simd>(simd: S, from: &[half::bf16]) -> [<f32 as Vectors>::Vector<S>; 2] {
        load_split_bf16(simd, from)
    }
    #[inline(always)]
    fn store_merged<S: Simd>(simd: S, vectors: [<f32 as Vectors>::Vector<S>; 2], to: &mut [half::bf16]) {
        store_merged_bf16(simd, vectors, to);
    }
}

macro_rules! real_by_std {
    ($t:ty) => {
        const ZERO: $t = 0.0;
        const ONE: $t = 1.0;
        const NEG_INFINITY: $t = <$t>::NEG_INFINITY;
        const MAX: $t = <$t>::MAX;
        const EPSILON: $t = <$t>::EPSILON;
        #[inline(always)]
        fn of(x: f64) -> $t {
            x as $t
        }
        #[inline(always)]
        fn to_f64(self) -> f64 {
            self as f64
        }
        #[inline(always)]
        fn mul_add(self, a: $t, b: $t) -> $t {
            <$t>::mul_add(self, a, b)
        }
        #[inline(always)]
        fn exp(self) -> $t {
            <$t>::exp(self)
        }
        #[inline(always)]
        fn ln(self) -> $t {
            <$t>::ln(self)
        }
        #[inline(always)]
        fn tanh(self) -> $t {
            <$t>::tanh(self)
        }
        #[inline(always)]
        fn sqrt(self) -> $t {
            <$t>::sqrt(self)
        }
        #[inline(always)]
        fn abs(self) -> $t {
            <$t>::abs(self)
        }
        #[inline(always)]
        fn max(self, other: $t) -> $t {
            // The comparison form, not `f32::max`: it becomes one vector instruction.
            if self > other { self } else { other }
        }
        #[inline(always)]
        fn is_finite(self) -> bool {
            <$t>::is_finite(self)
        }
    };
}

impl Real for f32 {
    real_by_std!(f32);

    #[inline(always)]
    fn softmax_exp(self) -> f32 {
        // x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor polynomial to r⁶ (remainder below 1.3e-7 · 2⁻¹ relative), ln 2 in two parts.
        const LOG2_E: f32 = std::f32::consts::LOG2_E;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Below ln 2⁻⁹⁶ the result is 0; the clamp keeps the exponent arithmetic in range until then.
        const SMALLEST: f32 = -66.542_13;
        // Written so that NaN passes through.
        let x = if self < SMALLEST { SMALLEST } else { self };
        // Adding and subtracting 1.5·2²³ rounds to the nearest integer without a libm call.
        const ROUND: f32 = 12_582_912.0;
        let shifted = x * LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        let p = 1.0 / 5040.0;
        let p = p * r + 1.0 / 720.0;
        let p = p * r + 1.0 / 120.0;
        let p = p * r + 1.0 / 24.0;
        let p = p * r + 1.0 / 6.0;
        let p = p * r + 0.5;
        let p = p * r + 1.0;
        let p = p * r + 1.0;
        let power = f32::from_bits(((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127) as u32) << 23);
        if self < SMALLEST { 0.0 } else { p * power }
    }
}

impl Real for f64 {
    real_by_std!(f64);

    #[inline(always)]
    fn softmax_exp(self) -> f64 {
        f64::exp(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The doc comment's bound, over a grid of the whole range that does not vanish.
    #[test]
    fn softmax_exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        let mut x = -66.5f32;
        while x <= 0.0 {
            let exact = (x as f64).exp();
            let ulp = (exact as f32).to_bits();
            let ulp = f32::from_bits(ulp + 1) as f64 - f32::from_bits(ulp) as f64;
            worst = worst.max((x.softmax_exp() as f64 - exact).abs() / ulp);
            x += 0.000_731;
        }
        assert!(worst <= 2.0, "{worst} ulp");
        assert_eq!(0.0f32.softmax_exp(), 1.0);
    }

    #[test]
    fn softmax_exp_is_zero_where_products_would_be_subnormal() {
        assert_eq!((-67.0f32).softmax_exp(), 0.0);
        assert_eq!((-1e9f32).softmax_exp(), 0.0);
        assert_eq!(f32::NEG_INFINITY.softmax_exp(), 0.0);
        assert_eq!(f64::NEG_INFINITY.softmax_exp(), 0.0);
        assert!(f32::NAN.softmax_exp().is_nan(), "NaN is not hidden");
    }

    #[test]
    fn half_types_round_to_nearest_even() {
        assert_eq!(half::bf16::narrow(257.0).widen(), 256.0);
        assert_eq!(half::f16::narrow(2049.0).widen(), 2048.0);
    }

    /// Bit for bit the conversions of the crate that defines the types: every stored number, and f32 numbers in steps that meet every exponent, tie and edge.
    #[test]
    fn conversions_are_those_of_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (f, b) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
            let same = |ours: f32, theirs: f32| ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
            assert!(same(f.widen(), f.to_f32()), "{bits:#x}");
            assert!(same(b.widen(), b.to_f32()), "{bits:#x}");
        }
        let check = |x: f32| {
            let same = |a: u16, b: u16, infinity: u16| a == b || (a & 0x7FFF > infinity && b & 0x7FFF > infinity);
            let (f, b) = (half::f16::narrow(x), half::bf16::narrow(x));
            assert!(same(f.to_bits(), half::f16::from_f32(x).to_bits(), 0x7C00), "{x:e} as f16: {f:?}");
            assert!(same(b.to_bits(), half::bf16::from_f32(x).to_bits(), 0x7F80), "{x:e} as bf16: {b:?}");
        };
        (0..=u32::MAX).step_by(977).for_each(|bits| check(f32::from_bits(bits)));
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                check(f32::from_bits(u32::from(high) << 16 | low));
            }
        }
    }
}
