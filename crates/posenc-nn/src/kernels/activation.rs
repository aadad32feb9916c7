//! GELU and the normal distribution's tail.
//!
//! Both forms are x·c(x) with c rising from 0 to 1 and c(−x) = 1 − c(x). With a = |x| and the tail t = c(−a) ≤ ½ they are relu(x) − a·t: no
//! cancellation on the negative side, where 1 + erf loses every digit, and one exponential of a number ≤ 0 serves value and derivative.

use super::multiversion;
use crate::number::Number;
use posenc::Real;

/// √(2/π), of the tanh form.
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic coefficient of the tanh form.
const CUBIC: f64 = 0.044_715;
/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;
/// Beyond this the tail is exactly 0 in f32 and a·tail below 10⁻⁸⁷ in f64: inputs are clamped to it, so that ∞·0 does not arise.
const FAR: f64 = 20.0;

/// relu(x), NaN kept.
#[inline(always)]
fn relu<R: Number>(x: R) -> R {
    if x < R::ZERO { R::ZERO } else { x }
}

/// min(|x|, FAR).
#[inline(always)]
fn magnitude<R: Number>(x: R) -> R {
    let (a, far) = (x.abs(), R::of(FAR));
    if a < far { a } else { far }
}

/// t = σ(−2u(a)) with u = √(2/π)(a + 0.044715 a³).
#[inline(always)]
fn tanh_tail<R: Number>(a: R) -> R {
    let twice = R::of(2.0 * SQRT_2_OVER_PI) * (a + R::of(CUBIC) * (a * a * a));
    let e = (-twice).softmax_exp();
    e / (R::ONE + e)
}

/// c(x) + x·c′(x) from the tail and x·c′(x), which is even up to the sign of x. NaN kept.
#[inline(always)]
fn slope<R: Number>(x: R, tail: R, steep: R) -> R {
    // For x < 0: t − a·c′; else 1 − t + a·c′.
    let below = tail - steep;
    if x < R::ZERO {
        below
    } else if x >= R::ZERO {
        R::ONE - below
    } else {
        x
    }
}

/// x comes as what lies before the function, less a bias of its rows (an empty one adds nothing); y becomes the function of it, and x the slope there. One exponential serves both, and
/// neither is computed again in the adjoint.
#[inline(always)]
fn with_slope<R: Number>(x: &mut [R], bias: &[R], y: &mut [R], both: impl Fn(R) -> (R, R)) {
    if bias.is_empty() {
        for (x, y) in x.iter_mut().zip(y) {
            (*y, *x) = both(*x);
        }
        return;
    }
    for (x, y) in x.chunks_exact_mut(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
            (*y, *x) = both(*x + *b);
        }
    }
}

/// x·Φ(x) and its derivative.
#[inline(always)]
fn exact_both<R: Number>(x: R) -> (R, R) {
    let a = magnitude(x);
    let (tail, density) = R::normal_tail(a);
    (relu(x) - a * tail, slope(x, tail, a * density))
}

/// The tanh form and its derivative.
#[inline(always)]
fn tanh_both<R: Number>(x: R) -> (R, R) {
    let a = magnitude(x);
    let tail = tanh_tail(a);
    let twice_du = R::of(2.0 * SQRT_2_OVER_PI) + R::of(6.0 * SQRT_2_OVER_PI * CUBIC) * (a * a);
    (relu(x) - a * tail, slope(x, tail, a * (tail * (R::ONE - tail)) * twice_du))
}

multiversion! {
    /// y = relu(x + bias); x becomes its slope, 0 at 0.
    pub(crate) fn relu_with_slope<R: Number>(x: &mut [R], bias: &[R], y: &mut [R]) {
        with_slope(x, bias, y, |x| (relu(x), if x <= R::ZERO { R::ZERO } else { R::ONE }));
    }

    /// y = gelu(x + bias); x becomes its slope.
    pub(crate) fn gelu_exact_with_slope<R: Number>(x: &mut [R], bias: &[R], y: &mut [R]) {
        with_slope(x, bias, y, exact_both);
    }

    /// The same by the tanh form.
    pub(crate) fn gelu_tanh_with_slope<R: Number>(x: &mut [R], bias: &[R], y: &mut [R]) {
        with_slope(x, bias, y, tanh_both);
    }

    /// d *= slope.
    pub(crate) fn multiply<R: Number>(slope: &[R], d: &mut [R]) {
        for (d, slope) in d.iter_mut().zip(slope) {
            *d *= *slope;
        }
    }

    /// y = x·Φ(x).
    pub(crate) fn gelu_exact<R: Number>(x: &[R], y: &mut [R]) {
        for (y, &x) in y.iter_mut().zip(x) {
            let a = magnitude(x);
            *y = relu(x) - a * R::normal_tail(a).0;
        }
    }

    /// d *= (x·Φ(x))′ = Φ(x) + x·φ(x).
    pub(crate) fn gelu_exact_adjoint<R: Number>(x: &[R], d: &mut [R]) {
        for (d, &x) in d.iter_mut().zip(x) {
            *d *= exact_both(x).1;
        }
    }

    /// y = x·σ(2u(x)) = x·(1 + tanh u)/2.
    pub(crate) fn gelu_tanh<R: Number>(x: &[R], y: &mut [R]) {
        for (y, &x) in y.iter_mut().zip(x) {
            let a = magnitude(x);
            *y = relu(x) - a * tanh_tail(a);
        }
    }

    /// d *= c + x·c(1 − c)·2u′.
    pub(crate) fn gelu_tanh_adjoint<R: Number>(x: &[R], d: &mut [R]) {
        for (d, &x) in d.iter_mut().zip(x) {
            *d *= tanh_both(x).1;
        }
    }
}

/// Φ(−a) = e^(−a²/2)·t·P(t), t = 1/(1 + 0.27a): P interpolates at Chebyshev nodes of 0 ≤ a ≤ 11.6 with a relative error of 2.6e-8, below
/// which the rounding of f32 lies.
#[inline(always)]
pub(super) fn normal_tail_f32(a: f32) -> (f32, f32) {
    const P: [f32; 9] = [
        0.107_714_23,
        0.107_645_36,
        0.101_119_57,
        0.074_624_87,
        0.102_016_19,
        -0.061_074_77,
        0.162_866_57,
        -0.123_212_55,
        0.028_300_54,
    ];
    let e = (-0.5 * (a * a)).softmax_exp();
    let t = 1.0 / (1.0 + 0.27 * a);
    let mut p = P[8];
    for i in (0..8).rev() {
        p = p * t + P[i];
    }
    (e * (t * p), e * DENSITY_AT_0 as f32)
}

/// Φ(−a) to the rounding of f64: below 4 by ½ − φ(a)·(a + a³/3 + a⁵/15 + …), whose terms are all positive; above by the continued fraction
/// φ(a) / (a + 1/(a + 2/(a + 3/…))) of Laplace.
pub(super) fn normal_tail_f64(a: f64) -> (f64, f64) {
    let density = (-0.5 * a * a).exp() * DENSITY_AT_0;
    if a < 4.0 {
        let (mut term, mut series, mut odd) = (a, a, 1.0);
        while term > series * 1e-17 {
            odd += 2.0;
            term *= a * a / odd;
            series += term;
        }
        (0.5 - density * series, density)
    } else {
        let fraction = (1..80).rev().fold(a, |below, k| a + k as f64 / below);
        (density / fraction, density)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Native;
    use crate::kernels::testing::{bits, on_every_level};

    /// From mpmath at 30 digits.
    #[test]
    fn f64_tail_matches_reference_values() {
        for (a, expected) in REFERENCE {
            let (tail, _) = f64::normal_tail(a);
            // Rounding −a²/2 costs the exponential a²/2·ε/2 of its size, sums and products four roundings more; that is relative to ½ below 4,
            // where the tail is what ½ leaves, and to the tail itself above.
            let size = if a < 4.0 { 0.5 } else { expected };
            let allowed = size * (a * a / 2.0 + 4.0) * f64::EPSILON;
            assert!((tail - expected).abs() <= allowed, "{a}: {tail} against {expected}");
        }
    }

    const REFERENCE: [(f64, f64); 10] = [
        (0.0, 0.5),
        (0.1, 0.460_172_162_722_971),
        (0.5, 0.308_537_538_725_986_9),
        (1.0, 0.158_655_253_931_457_05),
        (2.0, 0.022_750_131_948_179_21),
        (3.0, 0.001_349_898_031_630_094_6),
        (3.9, 4.809_634_401_760_273_5e-5),
        (4.1, 2.065_750_691_254_677e-5),
        (6.0, 9.865_876_450_376_98e-10),
        (12.0, 1.776_482_112_077_679e-33),
    ];

    fn grid() -> Vec<f32> {
        (-24_000..24_000)
            .map(|i| i as f32 * 0.000_5)
            .chain([-0.0, 1e-20, -1e-20, 30.0, -30.0])
            .collect()
    }

    /// Largest error over the grid of |computed − exact| / max(1, |exact|).
    fn worst_error(computed: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        let errors = grid().into_iter().zip(computed).map(|(x, y)| {
            let exact = exact(f64::from(x));
            (f64::from(*y) - exact).abs() / exact.abs().max(1.0)
        });
        errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
    }

    fn gelu64(x: f64) -> f64 {
        x.max(0.0) - x.abs() * f64::normal_tail(x.abs()).0
    }

    fn gelu_tanh64(x: f64) -> f64 {
        0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + CUBIC * x * x * x)).tanh())
    }

    fn slope64(x: f64) -> f64 {
        let (tail, density) = f64::normal_tail(x.abs());
        (if x < 0.0 { tail } else { 1.0 - tail }) + x * density
    }

    fn slope_tanh64(x: f64) -> f64 {
        let tanh = (SQRT_2_OVER_PI * (x + CUBIC * x * x * x)).tanh();
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x)
    }

    /// ε/2 = 6.0e-8 is one rounding; tail, product and difference make about four of them, the exponential two more.
    const VALUE_BOUND: f64 = 2.0e-7;
    /// The derivative's second part is at most 0.24 of a tail's size and adds as many roundings.
    const SLOPE_BOUND: f64 = 3.0e-7;

    #[test]
    fn f32_values_and_slopes_are_within_their_bounds_and_the_same_on_every_instruction_set() {
        type Case = (fn(&[f32], &mut [f32]), fn(f64) -> f64, f64);
        let cases: [Case; 4] = [
            (gelu_exact, gelu64, VALUE_BOUND),
            (gelu_tanh, gelu_tanh64, VALUE_BOUND),
            (gelu_exact_adjoint, slope64, SLOPE_BOUND),
            (gelu_tanh_adjoint, slope_tanh64, SLOPE_BOUND),
        ];
        let x = grid();
        for (i, (kernel, exact, bound)) in cases.into_iter().enumerate() {
            let results = on_every_level(|| {
                // Values are overwritten; the adjoints multiply.
                let mut y = vec![if i < 2 { f32::NAN } else { 1.0 }; x.len()];
                kernel(&x, &mut y);
                let worst = worst_error(&y, exact);
                println!("case {i}: {worst:.2e}");
                assert!(worst <= bound, "case {i}: {worst}");
                bits(&y)
            });
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "case {i}");
        }
    }

    /// In one pass or in two, biased before or on the way: the same bits.
    #[test]
    fn values_with_slopes_are_those_without() {
        type Case = (fn(&mut [f32], &[f32], &mut [f32]), fn(&[f32], &mut [f32]), fn(&[f32], &mut [f32]));
        let cases: [Case; 2] = [
            (gelu_exact_with_slope, gelu_exact, gelu_exact_adjoint),
            (gelu_tanh_with_slope, gelu_tanh, gelu_tanh_adjoint),
        ];
        let bias = [0.25, -0.5, 0.0, 1.0, -1.0];
        let x: Vec<f32> = grid()
            .into_iter()
            .take(48_000)
            .chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0])
            .collect();
        for (both, value, adjoint) in cases {
            for biased in [false, true] {
                on_every_level(|| {
                    let before: Vec<f32> = x
                        .iter()
                        .zip(bias.iter().cycle())
                        .map(|(x, b)| if biased { x + b } else { *x })
                        .collect();
                    let (mut y, mut slope) = (vec![7.0; x.len()], x.clone());
                    both(&mut slope, if biased { &bias } else { &[] }, &mut y);
                    let (mut expected, mut d) = (vec![7.0; x.len()], vec![1.0; x.len()]);
                    value(&before, &mut expected);
                    adjoint(&before, &mut d);
                    let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(y.iter().zip(&expected).all(|(a, b)| same(a, b)));
                    assert!(slope.iter().zip(&d).all(|(a, b)| same(a, b)));
                });
            }
        }
    }

    #[test]
    fn infinities_have_their_limits_and_nan_stays() {
        let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        for (value, adjoint) in [
            (gelu_exact as fn(&[f32], &mut [f32]), gelu_exact_adjoint as fn(&[f32], &mut [f32])),
            (gelu_tanh, gelu_tanh_adjoint),
        ] {
            let (mut y, mut d) = ([7.0; 3], [1.0; 3]);
            value(&x, &mut y);
            adjoint(&x, &mut d);
            assert!(y[0] == f32::INFINITY && y[1] == 0.0 && y[2].is_nan(), "{y:?}");
            assert!(d[0] == 1.0 && d[1] == 0.0 && d[2].is_nan(), "{d:?}");
        }
    }
}
