//! Rows of stored numbers as vectors of the type that they are computed in.

use fearless_simd::{Simd, f32x16, f64x8, prelude::*, u16x16, u16x32, u32x16};
use half::slice::HalfFloatSliceExt;
use std::ops::{Add, Mul, Sub};

/// Vectors of an arithmetic type. Public in a private module: only f32 and f64 have them.
pub trait Vectors {
    /// Of [`LANES`](Vectors::LANES) numbers.
    type Vector<S: Simd>: SimdFloat<S> + Add<Output = Self::Vector<S>> + Sub<Output = Self::Vector<S>> + Mul<Output = Self::Vector<S>>;
    /// Numbers of a vector.
    const LANES: usize;
    /// One number in all lanes.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// The largest lane.
    fn largest<S: Simd>(simd: S, x: Self::Vector<S>) -> Self;
    /// eˣ for x ≤ 0 as softmax needs it: at most 2 ulp off, NaN where x is, and exactly 0 where the result would be so small that its products are subnormal (below 2⁻⁹⁶ in f32).
    fn softmax_exps<S: Simd>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The hyperbolic tangent, at most 3 ulp off.
    fn tanhs<S: Simd>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The largest number of its sign for an infinity; NaN stays NaN.
    fn bounded<S: Simd>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// One number where two are equal, another where they are not.
    fn where_equal<S: Simd>(simd: S, pair: [Self::Vector<S>; 2], one: Self::Vector<S>, other: Self::Vector<S>) -> Self::Vector<S>;
}

impl Vectors for f32 {
    type Vector<S: Simd> = f32x16<S>;
    const LANES: usize = 16;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f32) -> f32x16<S> {
        f32x16::splat(simd, x)
    }
    #[inline(always)]
    fn largest<S: Simd>(simd: S, x: f32x16<S>) -> f32 {
        let (low, high) = simd.split_f32x16(x);
        let (low, high) = simd.split_f32x8(low.max(high));
        let lanes: [f32; 4] = low.max(high).to_array();
        lanes.iter().fold(f32::NEG_INFINITY, |most, x| if *x > most { *x } else { most })
    }
    #[inline(always)]
    fn softmax_exps<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
        // x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by the polynomial of degree 6 whose largest relative error on that range is smallest (3.1e-9), ln 2 in two parts.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Below ln 2⁻⁹⁶ the result is 0.
        const SMALLEST: f32 = -66.542_13;
        // Adding and subtracting 1.5·2²³ rounds to the nearest whole number; the last bits of the sum are then n, and with another 127 the exponent of 2ⁿ.
        const ROUND: f32 = 12_582_912.0 + 127.0;
        let of = |x: f32| f32x16::splat(simd, x);
        let shifted = x.mul_add(of(std::f32::consts::LOG2_E), of(ROUND));
        let n = shifted - of(ROUND);
        let r = n.mul_add(of(-LN2_LOW), n.mul_add(of(-LN2_HIGH), x));
        let p = r.mul_add(of(0.001_381_446_7), of(0.008_368_781));
        let p = r.mul_add(p, of(0.041_668_393));
        let p = r.mul_add(p, of(0.166_665_2));
        let p = r.mul_add(p, of(0.499_999_94));
        let p = r.mul_add(p, of(1.0));
        let p = r.mul_add(p, of(1.0));
        let power = f32x16::from_bits(shifted.to_bits() << 23);
        x.simd_lt(of(SMALLEST)).select(of(0.0), p * power)
    }
    #[inline(always)]
    fn tanhs<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
        // Near 0 by its series, whose next term is below 6e-9 of the sum where it ends; from there on as (1 − e) / (1 + e) with e = exp(−2|x|), which takes nothing away from digits that are there.
        const NEAR: f32 = 0.25;
        let of = |x: f32| f32x16::splat(simd, x);
        let size = x.abs();
        let e = Self::softmax_exps(simd, size * of(-2.0));
        let far = (of(1.0) - e) / (of(1.0) + e);
        let square = x * x;
        let p = square.mul_add(of(62.0 / 2835.0), of(-17.0 / 315.0));
        let p = square.mul_add(p, of(2.0 / 15.0));
        let p = square.mul_add(p, of(-1.0 / 3.0));
        let near = (x * square).mul_add(p, x);
        size.simd_lt(of(NEAR)).select(near, far.copysign(x))
    }
    #[inline(always)]
    fn bounded<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
        let most = f32x16::splat(simd, f32::MAX);
        let x = x.simd_gt(most).select(most, x);
        let least = f32x16::splat(simd, -f32::MAX);
        x.simd_lt(least).select(least, x)
    }
    #[inline(always)]
    fn where_equal<S: Simd>(_: S, [x, y]: [f32x16<S>; 2], one: f32x16<S>, other: f32x16<S>) -> f32x16<S> {
        x.simd_eq(y).select(one, other)
    }
}

impl Vectors for f64 {
    type Vector<S: Simd> = f64x8<S>;
    const LANES: usize = 8;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f64) -> f64x8<S> {
        f64x8::splat(simd, x)
    }
    #[inline(always)]
    fn largest<S: Simd>(_: S, x: f64x8<S>) -> f64 {
        let lanes: [f64; 8] = x.to_array();
        lanes.iter().fold(f64::NEG_INFINITY, |most, x| if *x > most { *x } else { most })
    }
    #[inline(always)]
    fn softmax_exps<S: Simd>(simd: S, x: f64x8<S>) -> f64x8<S> {
        f64x8::load_array(simd, x.to_array().map(f64::exp))
    }
    #[inline(always)]
    fn tanhs<S: Simd>(simd: S, x: f64x8<S>) -> f64x8<S> {
        f64x8::load_array(simd, x.to_array().map(f64::tanh))
    }
    #[inline(always)]
    fn bounded<S: Simd>(simd: S, x: f64x8<S>) -> f64x8<S> {
        let most = f64x8::splat(simd, f64::MAX);
        let x = x.simd_gt(most).select(most, x);
        let least = f64x8::splat(simd, -f64::MAX);
        x.simd_lt(least).select(least, x)
    }
    #[inline(always)]
    fn where_equal<S: Simd>(_: S, [x, y]: [f64x8<S>; 2], one: f64x8<S>, other: f64x8<S>) -> f64x8<S> {
        x.simd_eq(y).select(one, other)
    }
}

#[inline(always)]
pub(crate) fn load_bf16<S: Simd>(simd: S, from: &[half::bf16]) -> f32x16<S> {
    #[cfg(target_arch = "x86_64")]
    if let Some(loaded) = native::load_bf16(simd, from) {
        return loaded;
    }
    let (low, high) = simd.widen_u16x16(u16x16::from_slice(simd, from[..16].reinterpret_cast()));
    f32x16::from_bits(simd.combine_u32x8(low, high) << 16)
}

/// The numbers at even and at odd places of the first 32: a shift and a mask, where [`load_bf16`] has to move numbers between lanes.
#[inline(always)]
pub(crate) fn load_split_bf16<S: Simd>(simd: S, from: &[half::bf16]) -> [f32x16<S>; 2] {
    let both: u32x16<S> = u16x32::from_slice(simd, from[..32].reinterpret_cast()).bitcast();
    if cfg!(target_endian = "big") {
        return [f32x16::from_bits(both & 0xFFFF_0000), f32x16::from_bits(both << 16)];
    }
    [f32x16::from_bits(both << 16), f32x16::from_bits(both & 0xFFFF_0000)]
}

#[inline(always)]
pub(crate) fn store_bf16<S: Simd>(simd: S, vector: f32x16<S>, to: &mut [half::bf16]) {
    #[cfg(target_arch = "x86_64")]
    if native::store_bf16(simd, vector, to) {
        return;
    }
    let (low, high) = simd.split_u32x16(round_bf16(simd, vector));
    simd.narrow_u32x8(low, high).store_slice(to[..16].reinterpret_cast_mut());
}

/// Over the first 32: numbers for even and for odd places. NaN keeps to its upper half, as it does in what is computed from numbers of 16 bits.
#[inline(always)]
pub(crate) fn store_merged_bf16<S: Simd>(simd: S, [even, odd]: [f32x16<S>; 2], to: &mut [half::bf16]) {
    let (even, odd) = (carried(simd, even), carried(simd, odd));
    #[cfg(target_arch = "x86_64")]
    if native::store_upper(simd, [even, odd], to) {
        return;
    }
    let both = if cfg!(target_endian = "big") {
        (even & 0xFFFF_0000) | (odd >> 16)
    } else {
        (even >> 16) | (odd & 0xFFFF_0000)
    };
    let both: u16x32<S> = both.bitcast();
    both.store_slice(to[..32].reinterpret_cast_mut());
}

/// Each number rounded to bf16. NaN keeps to its upper half, as in [`store_merged_bf16`].
#[inline(always)]
pub(crate) fn rounded_bf16<S: Simd>(simd: S, vector: f32x16<S>) -> f32x16<S> {
    f32x16::from_bits(carried(simd, vector) & 0xFFFF_0000)
}

/// The bits of each number, rounded in their upper half.
#[inline(always)]
fn carried<S: Simd>(simd: S, vector: f32x16<S>) -> u32x16<S> {
    #[cfg(target_arch = "x86_64")]
    if let Some(bits) = native::carried(simd, vector) {
        return bits;
    }
    let _ = simd;
    let bits: u32x16<S> = vector.to_bits();
    bits + (((bits >> 16) & 1) + 0x7FFF)
}

/// The bits of each number, rounded to bf16, in the lower half of its lane.
#[inline(always)]
fn round_bf16<S: Simd>(simd: S, vector: f32x16<S>) -> u32x16<S> {
    let bits: u32x16<S> = vector.to_bits();
    let (high, rounded) = (bits >> 16, carried(simd, vector) >> 16);
    // A NaN whose payload is in the lower half alone would become ∞.
    let is_nan = (bits & 0x7FFF_FFFF).simd_gt(0x7F80_0000);
    is_nan.select(high | 0x40, rounded)
}

#[inline(always)]
pub(crate) fn load_f16<S: Simd>(simd: S, from: &[half::f16]) -> f32x16<S> {
    #[cfg(target_arch = "x86_64")]
    if let Some(loaded) = native::load(simd, from) {
        return loaded;
    }
    // As `Element::widen` does it, number by number.
    let (low, high) = simd.widen_u16x16(u16x16::from_slice(simd, from[..16].reinterpret_cast()));
    let bits: u32x16<S> = simd.combine_u32x8(low, high);
    let size = (bits & 0x7FFF) << 13;
    let moved: u32x16<S> = (f32x16::from_bits(size) * f32::from_bits(0x7780_0000)).to_bits();
    let special = size
        .simd_ge(0x0F80_0000)
        .select(u32x16::splat(simd, 0x7F80_0000), u32x16::splat(simd, 0));
    f32x16::from_bits(((bits & 0x8000) << 16) | moved | special)
}

#[inline(always)]
pub(crate) fn store_f16<S: Simd>(simd: S, vector: f32x16<S>, to: &mut [half::f16]) {
    #[cfg(target_arch = "x86_64")]
    if native::store(simd, vector, to) {
        return;
    }
    // As `Element::narrow` does it, number by number.
    let bits: u32x16<S> = vector.to_bits();
    let size = bits & 0x7FFF_FFFF;
    let normal = (size + (((size >> 13) & 1) + 0x0FFF) - 0x3800_0000) >> 13;
    let small: u32x16<S> = (f32x16::from_bits(size) + 0.5).to_bits();
    let finite = size.simd_lt(0x3880_0000).select(small - 0x3F00_0000, normal);
    let nan = ((size >> 13) & 0x3FF) | 0x7E00;
    let large = size.simd_gt(0x7F80_0000).select(nan, u32x16::splat(simd, 0x7C00));
    let stored = ((bits >> 16) & 0x8000) | size.simd_ge(0x477F_F000).select(large, finite);
    let (low, high) = simd.split_u32x16(stored);
    simd.narrow_u32x8(low, high).store_slice(to[..16].reinterpret_cast_mut());
}

/// Conversions by the processor's own instructions; widening and narrowing in one step, which the portable vectors do in halves.
#[cfg(target_arch = "x86_64")]
mod native {
    use fearless_simd::{Level, Simd, f32x16, prelude::*, u32x16};
    use std::arch::x86_64 as x86;

    #[inline(always)]
    pub fn load<S: Simd>(simd: S, from: &[half::f16]) -> Option<f32x16<S>> {
        let from = from[..16].as_ptr();
        let mut numbers = [0.0f32; 16];
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions (Ice Lake's set and x86-64-v3 have F16C); 16 numbers are read and written.
            Level::Avx512(_) => unsafe {
                x86::_mm512_storeu_ps(numbers.as_mut_ptr(), x86::_mm512_cvtph_ps(x86::_mm256_loadu_si256(from.cast())));
            },
            // SAFETY: as above.
            Level::Avx2(_) => unsafe {
                x86::_mm256_storeu_ps(numbers.as_mut_ptr(), x86::_mm256_cvtph_ps(x86::_mm_loadu_si128(from.cast())));
                x86::_mm256_storeu_ps(
                    numbers.as_mut_ptr().add(8),
                    x86::_mm256_cvtph_ps(x86::_mm_loadu_si128(from.add(8).cast())),
                );
            },
            _ => return None,
        }
        Some(f32x16::load_array(simd, numbers))
    }

    #[inline(always)]
    pub fn load_bf16<S: Simd>(simd: S, from: &[half::bf16]) -> Option<f32x16<S>> {
        let from = from[..16].as_ptr();
        let mut numbers = [0.0f32; 16];
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions; 16 numbers are read and written.
            Level::Avx512(_) => unsafe {
                let wide = x86::_mm512_cvtepu16_epi32(x86::_mm256_loadu_si256(from.cast()));
                x86::_mm512_storeu_si512(numbers.as_mut_ptr().cast(), x86::_mm512_slli_epi32::<16>(wide));
            },
            _ => return None,
        }
        Some(f32x16::load_array(simd, numbers))
    }

    #[inline(always)]
    pub fn store_bf16<S: Simd>(simd: S, vector: f32x16<S>, to: &mut [half::bf16]) -> bool {
        let (numbers, to) = (vector.to_array(), to[..16].as_mut_ptr());
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions; 16 numbers are read and written.
            Level::Avx512(_) => unsafe {
                let x = x86::_mm512_loadu_ps(numbers.as_ptr());
                let bits = x86::_mm512_castps_si512(x);
                let carried = add_half(bits);
                // NaN stays NaN: see the portable form.
                let nan = x86::_mm512_cmp_ps_mask::<{ x86::_CMP_UNORD_Q }>(x, x);
                let rounded = x86::_mm512_mask_or_epi32(carried, nan, bits, x86::_mm512_set1_epi32(0x40_0000));
                // The upper halves of all lanes, in one step; narrowing to memory takes several.
                const UPPER: [u16; 32] = {
                    let mut places = [0; 32];
                    let mut i = 0;
                    while i < 16 {
                        places[i] = 2 * i as u16 + 1;
                        i += 1;
                    }
                    places
                };
                let packed = x86::_mm512_permutexvar_epi16(x86::_mm512_loadu_si512(UPPER.as_ptr().cast()), rounded);
                x86::_mm256_storeu_si256(to.cast(), x86::_mm512_castsi512_si256(packed));
            },
            _ => return false,
        }
        true
    }

    /// The upper halves of both, in turn: two shifts, one of them over both. The optimiser would make of the portable form a general permutation, which takes longer.
    #[inline(always)]
    pub fn store_upper<S: Simd>(simd: S, [even, odd]: [u32x16<S>; 2], to: &mut [half::bf16]) -> bool {
        let (even, odd, to) = (even.to_array(), odd.to_array(), to[..32].as_mut_ptr());
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions (Ice Lake's set has VBMI2); 32 numbers are written.
            Level::Avx512(_) => unsafe {
                let (even, odd) = (
                    x86::_mm512_loadu_si512(even.as_ptr().cast()),
                    x86::_mm512_loadu_si512(odd.as_ptr().cast()),
                );
                let both = x86::_mm512_shrdi_epi32::<16>(even, x86::_mm512_srli_epi32::<16>(odd));
                x86::_mm512_storeu_si512(to.cast(), both);
            },
            _ => return false,
        }
        true
    }

    /// Half an ulp less a bit, and a bit more where the upper half is odd, in two steps where there would be four: that bit times 1 and 1 times 0x7FFF, added to the number's bits.
    #[inline(always)]
    pub fn carried<S: Simd>(simd: S, vector: f32x16<S>) -> Option<u32x16<S>> {
        let (numbers, mut bits) = (vector.to_array(), [0u32; 16]);
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions; 16 numbers are read and written.
            Level::Avx512(_) => unsafe {
                let carried = add_half(x86::_mm512_loadu_si512(numbers.as_ptr().cast()));
                x86::_mm512_storeu_si512(bits.as_mut_ptr().cast(), carried);
            },
            _ => return None,
        }
        Some(u32x16::load_array(simd, bits))
    }

    /// See [`carried`].
    ///
    /// # Safety
    /// The processor has Ice Lake's set, of which VNNI is a part.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn add_half(x: x86::__m512i) -> x86::__m512i {
        const OR_OF_AND: i32 = 0xF8;
        let odd_and_one = x86::_mm512_ternarylogic_epi32::<OR_OF_AND>(x86::_mm512_set1_epi32(1), x, x86::_mm512_set1_epi32(1 << 16));
        x86::_mm512_dpwssd_epi32(x, odd_and_one, x86::_mm512_set1_epi32(1 << 16 | 0x7FFF))
    }

    #[inline(always)]
    pub fn store<S: Simd>(simd: S, vector: f32x16<S>, to: &mut [half::f16]) -> bool {
        let (numbers, to) = (vector.to_array(), to[..16].as_mut_ptr());
        const NEAREST: i32 = x86::_MM_FROUND_TO_NEAREST_INT;
        match simd.level() {
            // SAFETY: the level says that the processor has the instructions; 16 numbers are read and written.
            Level::Avx512(_) => unsafe {
                x86::_mm256_storeu_si256(to.cast(), x86::_mm512_cvtps_ph::<NEAREST>(x86::_mm512_loadu_ps(numbers.as_ptr())));
            },
            // SAFETY: as above.
            Level::Avx2(_) => unsafe {
                x86::_mm_storeu_si128(to.cast(), x86::_mm256_cvtps_ph::<NEAREST>(x86::_mm256_loadu_ps(numbers.as_ptr())));
                x86::_mm_storeu_si128(
                    to.add(8).cast(),
                    x86::_mm256_cvtps_ph::<NEAREST>(x86::_mm256_loadu_ps(numbers.as_ptr().add(8))),
                );
            },
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Present, vectors};
    use crate::real::{Element, Real};
    use crate::rng::Rng;

    #[inline(always)]
    fn stored<S: Simd, T: Element<Real = f32>>(simd: S, from: &[f32], to: &mut [T]) {
        for (from, to) in from.chunks_exact(16).zip(to.chunks_exact_mut(16)) {
            T::store(simd, f32::load(simd, from), to);
        }
    }

    #[inline(always)]
    fn loaded<S: Simd, T: Element<Real = f32>>(simd: S, from: &[T], to: &mut [f32]) {
        for (from, to) in from.chunks_exact(16).zip(to.chunks_exact_mut(16)) {
            f32::store(simd, T::load(simd, from), to);
        }
    }

    /// Bit for bit what one number at a time gives: random bits, and every sign, exponent and first half of the digits with a tie behind it.
    fn as_single_numbers<T: Element<Real = f32> + PartialEq + std::fmt::Debug>() {
        let mut rng = Rng::new(9);
        let mut from: Vec<f32> = (0..64_000).map(|_| f32::from_bits((rng.bits() >> 32) as u32)).collect();
        from.extend((0..=u16::MAX).map(|high| f32::from_bits(u32::from(high) << 16 | 0x8000)));
        from.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 1.0);
        for on in Present::all() {
            let (mut narrow, mut wide) = (vec![T::narrow(0.0); from.len()], vec![0.0; from.len()]);
            vectors!(on, simd => stored(simd, &from, &mut narrow));
            vectors!(on, simd => loaded(simd, &narrow, &mut wide));
            for (i, x) in from.iter().enumerate() {
                assert_eq!(narrow[i], T::narrow(*x), "{}: {x:e}", on.isa());
                assert_eq!(wide[i].to_bits(), narrow[i].widen().to_bits(), "{}: {x:e}", on.isa());
            }
            // NaN stays NaN, whatever its digits.
            let nans: Vec<f32> = (0..16).map(|i| f32::from_bits(0x7F80_0000 | 1 << i)).collect();
            vectors!(on, simd => stored(simd, &nans, &mut narrow));
            assert!(narrow[..16].iter().all(|x| x.widen().is_nan()), "{}", on.isa());
        }
    }

    #[inline(always)]
    fn exps<S: Simd, R: Real>(simd: S, x: &mut [R]) {
        for chunk in x.chunks_exact_mut(R::LANES) {
            R::store(simd, R::softmax_exps(simd, R::load(simd, chunk)), chunk);
        }
    }

    /// The doc comment's bound over a grid of the range that does not vanish, exactly 1 and 0 where they belong, and NaN where NaN was.
    #[test]
    fn exponentials_are_within_two_ulp_and_vanish_before_their_products_are_subnormal() {
        let grid: Vec<f32> = (0..91_008).map(|i| i as f32 * -0.000_731).collect();
        let ends = [0.0, -67.0, -103.0, -1e9, -3e38, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
        for on in Present::all() {
            let mut e = grid.clone();
            vectors!(on, simd => exps(simd, &mut e));
            for (x, e) in grid.iter().zip(&e) {
                let exact = f64::from(*x).exp();
                let bits = (exact as f32).to_bits();
                let ulp = f64::from(f32::from_bits(bits + 1)) - f64::from(f32::from_bits(bits));
                assert!((f64::from(*e) - exact).abs() <= 2.0 * ulp, "{}: {x} gives {e:e}", on.isa());
            }
            let mut e: Vec<f32> = ends.iter().copied().cycle().take(16).collect();
            vectors!(on, simd => exps(simd, &mut e));
            assert_eq!(e[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "{}", on.isa());
            assert!(e[6].is_nan() && e[7].is_nan(), "{}", on.isa());
            let mut e = [0.0f64, -1.0, f64::NEG_INFINITY, f64::NAN, -800.0, -2.0, -3.0, -4.0];
            vectors!(on, simd => exps(simd, &mut e));
            assert_eq!(e[..3], [1.0, (-1.0f64).exp(), 0.0], "{}", on.isa());
            assert!(e[3].is_nan(), "{}", on.isa());
        }
    }

    #[test]
    fn vectors_convert_as_single_numbers_do() {
        as_single_numbers::<half::f16>();
        as_single_numbers::<half::bf16>();
        as_single_numbers::<f32>();
    }
}
