//! Rows of scores to weights, and the weights' gradients to the scores'.

use super::{LANES, Present, multiversion, vectors};
use crate::real::Real;
use fearless_simd::{Simd, prelude::*};

/// What a row of the softmax is known by: its largest score, and the inverse of Σ exp(score − max); 0 where nothing was attended to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowSum<R> {
    pub max: R,
    pub inverse: R,
}

/// Rows of a tile: `rows` × `cols` numbers, rows `ld` apart; cols a multiple of [`LANES`].
#[derive(Clone, Copy)]
pub struct Of {
    pub rows: usize,
    pub cols: usize,
    pub ld: usize,
}

impl Of {
    fn check<R>(self, data: &[R]) {
        let Of { rows, cols, ld } = self;
        assert!(cols % LANES == 0 && (rows == 0 || (rows - 1) * ld + cols <= data.len()));
    }
}

/// What the rows of an online softmax have come to: each row's running maximum `[rows]`, its sum by lanes `[rows, Vectors::LANES]`, and what earlier outputs must be multiplied by `[rows]`.
pub struct Running<'a, R> {
    pub max: &'a mut [R],
    pub sum: &'a mut [R],
    pub correction: &'a mut [R],
}

/// One step of the online softmax on a tile: turns scores into `exp(s − max)`. `largest` `[rows, Vectors::LANES]` are each row's largest numbers, if they are known.
pub(crate) fn softmax_step<R: Real>(on: Present, s: &mut [R], tile: Of, largest: Option<&[R]>, running: Running<'_, R>) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, s: &mut [R], tile: Of, largest: Option<&[R]>, running: Running<'_, R>) {
        let lanes = R::LANES;
        let Running { max, sum, correction } = running;
        for i in 0..tile.rows {
            let row = &mut s[i * tile.ld..][..tile.cols];
            let most = match largest {
                Some(largest) => R::load(simd, &largest[i * lanes..]),
                None => row
                    .chunks_exact(lanes)
                    .fold(R::splat(simd, R::NEG_INFINITY), |most, chunk| most.max(R::load(simd, chunk))),
            };
            let mut most = max[i].max(R::largest(simd, most));
            if most > R::MAX {
                most = bounded(row);
            }
            // A row that has seen nothing but −∞ stays at zero weights: 0 stands in for its maximum.
            let base = if most == R::NEG_INFINITY { R::ZERO } else { most };
            // Most tiles change no maximum.
            let factor = if most == max[i] { R::ONE } else { (max[i] - base).softmax_exp() };
            let sum = &mut sum[i * lanes..][..lanes];
            let from = R::splat(simd, base);
            let mut total = R::load(simd, sum) * R::splat(simd, factor);
            for chunk in row.chunks_exact_mut(lanes) {
                let e = R::softmax_exps(simd, R::load(simd, chunk) - from);
                R::store(simd, e, chunk);
                total += e;
            }
            R::store(simd, total, sum);
            correction[i] = factor;
            max[i] = most;
        }
    }
    tile.check(s);
    vectors!(on, simd => body(simd, s, tile, largest, running));
}

/// Scores past the largest number become it, because ∞ − ∞ would be NaN: finite parts of a score may add up to more than a number holds. Gives that number.
#[cold]
fn bounded<R: Real>(row: &mut [R]) -> R {
    row.iter_mut().for_each(|s| *s = if *s > R::MAX { R::MAX } else { *s });
    R::MAX
}

/// Scores to weights where the row's sum is known: `exp(s − max) · inverse`; zeros where nothing was attended to.
pub(crate) fn probabilities<R: Real>(on: Present, s: &mut [R], tile: Of, sums: &[RowSum<R>]) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, s: &mut [R], tile: Of, sums: &[RowSum<R>]) {
        for (i, RowSum { max, inverse }) in sums[..tile.rows].iter().copied().enumerate() {
            let base = if max == R::NEG_INFINITY { R::ZERO } else { max };
            let row = &mut s[i * tile.ld..][..tile.cols];
            if max == R::MAX {
                bounded(row);
            }
            let (from, inverse) = (R::splat(simd, base), R::splat(simd, inverse));
            for chunk in row.chunks_exact_mut(R::LANES) {
                R::store(simd, R::softmax_exps(simd, R::load(simd, chunk) - from) * inverse, chunk);
            }
        }
    }
    tile.check(s);
    vectors!(on, simd => body(simd, s, tile, sums));
}

/// The softmax's adjoint: `ds = p·(dp − delta)`, written over `dp`.
pub(crate) fn score_gradient<R: Real>(on: Present, p: &[R], dp: &mut [R], tile: Of, delta: &[R]) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, p: &[R], dp: &mut [R], tile: Of, delta: &[R]) {
        for (i, delta) in delta[..tile.rows].iter().enumerate() {
            let (p, dp) = (&p[i * tile.ld..][..tile.cols], &mut dp[i * tile.ld..][..tile.cols]);
            let delta = R::splat(simd, *delta);
            for (p, dp) in p.chunks_exact(R::LANES).zip(dp.chunks_exact_mut(R::LANES)) {
                R::store(simd, R::load(simd, p) * (R::load(simd, dp) - delta), dp);
            }
        }
    }
    tile.check(p);
    tile.check(dp);
    vectors!(on, simd => body(simd, p, dp, tile, delta));
}

/// Soft-capped scores: `s = cap·tanh(s / cap)`. A blocked pair's −∞ stays.
pub(crate) fn soft_cap<R: Real>(on: Present, s: &mut [R], tile: Of, cap: R) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, s: &mut [R], tile: Of, cap: R) {
        let (cap, inverse, blocked) = (R::splat(simd, cap), R::splat(simd, R::ONE / cap), R::splat(simd, R::NEG_INFINITY));
        for i in 0..tile.rows {
            for chunk in s[i * tile.ld..][..tile.cols].chunks_exact_mut(R::LANES) {
                let s = R::load(simd, chunk);
                let capped = R::tanhs(simd, s * inverse) * cap;
                R::store(simd, R::where_equal(simd, [s, blocked], blocked, capped), chunk);
            }
        }
    }
    tile.check(s);
    vectors!(on, simd => body(simd, s, tile, cap));
}

/// Its adjoint: `ds` times 1 − (s / cap)², where s is what was soft-capped; 0 where a pair is blocked.
pub(crate) fn soft_cap_gradient<R: Real>(on: Present, ds: &mut [R], s: &[R], tile: Of, cap: R) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, ds: &mut [R], s: &[R], tile: Of, cap: R) {
        let (inverse, blocked) = (R::splat(simd, R::ONE / cap), R::splat(simd, R::NEG_INFINITY));
        let (one, zero) = (R::splat(simd, R::ONE), R::splat(simd, R::ZERO));
        for i in 0..tile.rows {
            let rows = ds[i * tile.ld..][..tile.cols].chunks_exact_mut(R::LANES);
            for (chunk, s) in rows.zip(s[i * tile.ld..][..tile.cols].chunks_exact(R::LANES)) {
                let s = R::load(simd, s);
                let t = s * inverse;
                let gradient = R::load(simd, chunk) * (one - t * t);
                R::store(simd, R::where_equal(simd, [s, blocked], zero, gradient), chunk);
            }
        }
    }
    tile.check(ds);
    tile.check(s);
    vectors!(on, simd => body(simd, ds, s, tile, cap));
}

multiversion! {
    /// Adds a row of a mask to a row of scores. −∞ blocks: a score past the largest number is ∞, and with −∞ it would become NaN.
    pub(crate) fn add_mask<R: Real>(s: &mut [R], mask: &[R]) = added_mask
}

#[inline(always)]
fn added_mask<R: Real>(s: &mut [R], mask: &[R]) {
    for (s, m) in s.iter_mut().zip(mask) {
        *s = if *m == R::NEG_INFINITY { R::NEG_INFINITY } else { *s + *m };
    }
}

multiversion! {
    /// Writes −∞ over the scores of a row where its mask is `blocks`.
    pub(crate) fn block_where<R: Real>(s: &mut [R], mask: &[bool], blocks: bool) = blocked_where
}

#[inline(always)]
fn blocked_where<R: Real>(s: &mut [R], mask: &[bool], blocks: bool) {
    for (s, m) in s.iter_mut().zip(mask) {
        *s = if *m == blocks { R::NEG_INFINITY } else { *s };
    }
}

/// Multiplies each row by its factor.
pub(crate) fn rescale<R: Real>(on: Present, x: &mut [R], tile: Of, factors: &[R]) {
    #[inline(always)]
    fn body<S: Simd, R: Real>(simd: S, x: &mut [R], tile: Of, factors: &[R]) {
        for (i, factor) in factors[..tile.rows].iter().enumerate().filter(|(_, factor)| **factor != R::ONE) {
            let factor = R::splat(simd, *factor);
            for chunk in x[i * tile.ld..][..tile.cols].chunks_exact_mut(R::LANES) {
                R::store(simd, R::load(simd, chunk) * factor, chunk);
            }
        }
    }
    tile.check(x);
    vectors!(on, simd => body(simd, x, tile, factors));
}

/// The sum of a row by lanes, in one order.
pub(crate) fn total<R: Real>(lanes: &[R]) -> R {
    let mut part = [R::ZERO; LANES];
    part[..R::LANES].copy_from_slice(&lanes[..R::LANES]);
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            let other = part[l + half];
            part[l] += other;
        }
    }
    part[0]
}

/// Σ aᵢ bᵢ with a fixed order of summation; lengths are multiples of [`LANES`].
pub(crate) fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut lanes = [R::ZERO; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for l in 0..LANES {
            lanes[l] += a[l] * b[l];
        }
    }
    lanes.iter().copied().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Compiled, Vectors};

    /// The bound that `Vectors::tanhs` states, over the numbers of both signs from nothing to where the tangent is 1.
    fn soft_caps_are_tangents<R: Real>(ulps: f64) {
        let mut s: Vec<f64> = (0..4000).map(|i| 1e-4 * 1.003f64.powi(i)).take_while(|x| *x < 60.0).collect();
        s.extend(s.clone().iter().map(|x| -x));
        s.push(0.0);
        s.resize(s.len().next_multiple_of(LANES), 0.0);
        let (cols, tile) = (s.len(), |rows| Of {
            rows,
            cols: s.len(),
            ld: s.len(),
        });
        for on in Present::all() {
            // A cap of 1 leaves the tangent alone.
            let mut capped: Vec<R> = s.iter().map(|x| R::of(*x)).collect();
            R::soft_cap(on, &mut capped, tile(1), R::ONE);
            for (x, t) in s.iter().zip(&capped) {
                let exact = R::of(*x).to_f64().tanh();
                let error = (t.to_f64() - exact).abs();
                assert!(error <= ulps * R::EPSILON.to_f64() * exact.abs(), "{}: {x}: {t:?}", on.isa());
            }
            let mut ends = vec![R::of(f64::NAN); 16];
            (ends[0], ends[1], ends[2], ends[3]) = (R::NEG_INFINITY, R::MAX * R::of(2.0), R::MAX, -R::MAX);
            let ends_tile = Of { rows: 1, cols: 16, ld: 16 };
            let mut ds = vec![R::ONE; 16];
            R::soft_cap(on, &mut ends, ends_tile, R::of(30.0));
            assert!(ends[0] == R::NEG_INFINITY && ends[1..4] == [R::of(30.0), R::of(30.0), R::of(-30.0)] && ends[4].to_f64().is_nan());
            R::soft_cap_gradient(on, &mut ds, &ends, ends_tile, R::of(30.0));
            assert!(ds[..4] == [R::ZERO; 4] && ds[4].to_f64().is_nan(), "{ds:?}");
            // 1 − t², where t and its square are rounded.
            let mut ds = vec![R::ONE; cols];
            R::soft_cap_gradient(on, &mut ds, &capped, tile(1), R::ONE);
            for (t, d) in capped.iter().zip(&ds) {
                assert!((d.to_f64() - (1.0 - t.to_f64() * t.to_f64())).abs() <= 2.0 * R::EPSILON.to_f64());
            }
        }
        assert!(cols % <R as Vectors>::LANES == 0);
    }

    #[test]
    fn soft_caps_are_tangents_and_blocked_pairs_stay() {
        soft_caps_are_tangents::<f32>(3.0);
        soft_caps_are_tangents::<f64>(2.0);
    }

    #[test]
    fn masks_are_added_or_block() {
        for on in Present::all() {
            let (mut s, mut other) = ([f32::INFINITY, 1.0, f32::NAN, 2.0, 3.0], [1.0f32; 37]);
            f32::add_mask(on, &mut s, &[f32::NEG_INFINITY, -0.5, 1.0, f32::NEG_INFINITY, 0.0]);
            assert!(
                s[0] == f32::NEG_INFINITY && s[1] == 0.5 && s[2].is_nan() && s[3] == f32::NEG_INFINITY && s[4] == 3.0,
                "{s:?}"
            );
            let flags: Vec<bool> = (0..37).map(|i| i % 3 == 0).collect();
            for blocks in [true, false] {
                other.fill(1.0);
                f32::block_where(on, &mut other, &flags, blocks);
                assert!(
                    other
                        .iter()
                        .zip(&flags)
                        .all(|(s, flag)| (*s == f32::NEG_INFINITY) == (*flag == blocks))
                );
            }
        }
    }
}
