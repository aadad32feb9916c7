//! Rows of scores to weights, and the weights' gradients to the scores'.

use super::{LANES, Present, vectors};
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
