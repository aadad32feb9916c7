//! Cosines and sines of many angles at once.

use super::multiversion;
use crate::real::Real;
use std::f64::consts::FRAC_2_PI;

/// π/2 in three parts. The first two have 30 bits each, so that their products with a count below 2²³ are exact; the third is the rest, rounded to 53 bits.
const QUARTER: [f64; 3] = [
    f64::from_bits(0x3FF9_21FB_5400_0000),
    f64::from_bits(0x3E11_0B46_1180_0000),
    f64::from_bits(0x3C23_1319_8A2E_0370),
];

/// Up to this size of an angle its quarter turns can be counted so; past it, which no position below 10⁷ reaches, the standard library's reduction is used.
const EXACT_UP_TO: f64 = 8_388_000.0 * std::f64::consts::FRAC_PI_2;

/// Adding and subtracting 1.5·2⁵² rounds to the nearest integer, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Angles that are worked on together: their cosines and sines stay in the first-level cache.
const CHUNK: usize = 64;

multiversion! {
    /// `cos[i] = factor·cos(angles[i])`, `sin[i] = factor·sin(angles[i])`, rounded once; all of one length. Angles are finite.
    ///
    /// In f64 within 1.5 ulp of the larger of the two, before the factor: the argument is reduced exactly, and the polynomials on [−π/4, π/4] are truncated below 2⁻⁵⁶.
    pub(crate) fn cos_sin<R: Real>(angles: &[f64], factor: f64, cos: &mut [R], sin: &mut [R]) = body
}

multiversion! {
    /// Cosines and sines of the sums of angles whose cosines and sines, in this order, are given; times the factor, rounded once. All of one length. In f64 within 8·2⁻⁵³: each factor is within
    /// 1.5 units of 2⁻⁵³, which two products add to 2√2 · 1.5, and the products and their sum are rounded.
    pub(crate) fn angle_sums<R: Real>(a: [&[f64]; 2], b: [&[f64]; 2], factor: f64, cos: &mut [R], sin: &mut [R]) = sums
}

#[inline(always)]
fn sums<R: Real>(a: [&[f64]; 2], b: [&[f64]; 2], factor: f64, cos: &mut [R], sin: &mut [R]) {
    let n = cos.len();
    let (a_cos, a_sin, b_cos, b_sin) = (&a[0][..n], &a[1][..n], &b[0][..n], &b[1][..n]);
    let (cos, sin) = (&mut cos[..n], &mut sin[..n]);
    for i in 0..n {
        cos[i] = R::of((a_cos[i] * b_cos[i] - a_sin[i] * b_sin[i]) * factor);
        sin[i] = R::of((a_sin[i] * b_cos[i] + a_cos[i] * b_sin[i]) * factor);
    }
}

#[inline(always)]
fn body<R: Real>(angles: &[f64], factor: f64, cos: &mut [R], sin: &mut [R]) {
    let n = angles.len();
    let (cos, sin) = (&mut cos[..n], &mut sin[..n]);
    for start in (0..n).step_by(CHUNK) {
        let end = (start + CHUNK).min(n);
        let (angles, cos, sin) = (&angles[start..end], &mut cos[start..end], &mut sin[start..end]);
        let mut largest = 0.0f64;
        for x in angles {
            let size = x.abs();
            largest = if size > largest { size } else { largest };
        }
        if largest <= EXACT_UP_TO {
            for i in 0..angles.len() {
                let (c, s) = reduced(angles[i]);
                cos[i] = R::of(c * factor);
                sin[i] = R::of(s * factor);
            }
        } else {
            for i in 0..angles.len() {
                let (s, c) = angles[i].sin_cos();
                cos[i] = R::of(c * factor);
                sin[i] = R::of(s * factor);
            }
        }
    }
}

/// Cosine and sine, without a branch, so that a loop becomes vector code.
#[inline(always)]
fn reduced(x: f64) -> (f64, f64) {
    let shifted = x * FRAC_2_PI + ROUND;
    let turns = shifted - ROUND;
    let quarter = shifted.to_bits();
    // x − turns · π/2: the products are exact, and so is the first difference (its terms are near each other); what the others lose is kept beside.
    let (first, second, third) = (x - turns * QUARTER[0], turns * QUARTER[1], turns * QUARTER[2]);
    let high = first - second;
    let r = high - third;
    let rest = ((first - high) - second) + ((high - r) - third);
    let z = r * r;
    // Taylor coefficients as far as they count on [−π/4, π/4]: the next terms are below 2⁻⁵⁶ of the result.
    let p = -1.0 / 1_307_674_368_000.0;
    let p = p * z + 1.0 / 6_227_020_800.0;
    let p = p * z - 1.0 / 39_916_800.0;
    let p = p * z + 1.0 / 362_880.0;
    let p = p * z - 1.0 / 5_040.0;
    let p = p * z + 1.0 / 120.0;
    let p = p * z - 1.0 / 6.0;
    let s = r + (p * z * r + rest * (1.0 - 0.5 * z));
    let q = 1.0 / 20_922_789_888_000.0;
    let q = q * z - 1.0 / 87_178_291_200.0;
    let q = q * z + 1.0 / 479_001_600.0;
    let q = q * z - 1.0 / 3_628_800.0;
    let q = q * z + 1.0 / 40_320.0;
    let q = q * z - 1.0 / 720.0;
    let q = q * z + 1.0 / 24.0;
    // 1 − z/2 is rounded; what it lost is added with the small terms.
    let half = 0.5 * z;
    let w = 1.0 - half;
    let c = w + (((1.0 - w) - half) + (q * z * z - r * rest));
    // Which of the two, and its sign, by the quarter: cos, −sin, −cos, sin and sin, cos, −sin, −cos.
    let odd = 0u64.wrapping_sub(quarter & 1);
    let (sb, cb) = (s.to_bits(), c.to_bits());
    let cos = ((cb & !odd) | (sb & odd)) ^ ((quarter.wrapping_add(1) & 2) << 62);
    let sin = ((sb & !odd) | (cb & odd)) ^ ((quarter & 2) << 62);
    (f64::from_bits(cos), f64::from_bits(sin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Present;
    use crate::rng::Rng;

    /// The standard library's cosine and sine are within an ulp of the truth, these within 1.5 (see [`cos_sin`]); an ulp of a number below 1 is at most 2⁻⁵³.
    const BOUND: f64 = 2.5 / 9_007_199_254_740_992.0;

    #[test]
    fn agree_with_the_standard_library_on_every_instruction_set() {
        let mut rng = Rng::new(5);
        let mut angles: Vec<f64> = (0..20_000).map(|i| rng.normal() * 10f64.powi(i % 9 - 2)).collect();
        // Where cosine or sine vanishes, and where the reduction changes hands.
        angles.extend((0..1000).map(|i| f64::from(i) * std::f64::consts::FRAC_PI_2));
        angles.extend((0..1000).map(|i| (f64::from(i) + 0.5) * std::f64::consts::FRAC_PI_2 * 4001.0));
        angles.extend([0.0, -0.0, EXACT_UP_TO, -EXACT_UP_TO, EXACT_UP_TO * 1.0001, 1e300, -1e22]);
        for on in Present::all() {
            let (mut cos, mut sin) = (vec![f64::NAN; angles.len()], vec![f64::NAN; angles.len()]);
            cos_sin(on, &angles, 1.0, &mut cos, &mut sin);
            for (i, x) in angles.iter().enumerate() {
                let (s, c) = x.sin_cos();
                assert!(
                    (cos[i] - c).abs() <= BOUND && (sin[i] - s).abs() <= BOUND,
                    "{}: angle {x}: {} {c}, {} {s}",
                    on.isa(),
                    cos[i],
                    sin[i]
                );
            }
        }
    }

    /// The bound of [`angle_sums`], and what the standard library's are off by. The sum of the angles is exact: they are multiples of 2⁻²⁰ below 2³⁰.
    #[test]
    fn sums_of_angles_agree_with_the_standard_library() {
        let mut rng = Rng::new(7);
        let mut exact = |size: f64| -> Vec<f64> { (0..3000).map(|_| (rng.normal() * size).round() / 1_048_576.0).collect() };
        let (a, b) = (exact(1e12), exact(1e6));
        for on in Present::all() {
            let turned = |angles: &[f64]| {
                let (mut cos, mut sin) = (vec![0.0; angles.len()], vec![0.0; angles.len()]);
                cos_sin(on, angles, 1.0, &mut cos, &mut sin);
                [cos, sin]
            };
            let ([ac, asin], [bc, bsin]) = (turned(&a), turned(&b));
            let (mut cos, mut sin) = (vec![f64::NAN; a.len()], vec![f64::NAN; a.len()]);
            angle_sums(on, [&ac, &asin], [&bc, &bsin], 1.0, &mut cos, &mut sin);
            for i in 0..a.len() {
                let (s, c) = (a[i] + b[i]).sin_cos();
                let bound = 9.0 / 9_007_199_254_740_992.0;
                assert!(
                    (cos[i] - c).abs() <= bound && (sin[i] - s).abs() <= bound,
                    "{}: {} + {}",
                    on.isa(),
                    a[i],
                    b[i]
                );
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut rng = Rng::new(6);
        let angles: Vec<f64> = (0..5000).map(|_| rng.normal() * 1e5).collect();
        let all: Vec<_> = Present::all()
            .map(|on| {
                let (mut cos, mut sin) = (vec![0.0f32; angles.len()], vec![0.0f32; angles.len()]);
                cos_sin(on, &angles, 1.25, &mut cos, &mut sin);
                (cos, sin)
            })
            .collect();
        assert!(all.iter().all(|x| *x == all[0]));
    }
}
