//! Rows of scores to weights, and the weights' gradients to the scores'.

use super::{LANES, multiversion};
use crate::real::Real;

/// What a row of the softmax is known by: its largest score, and the inverse of Σ exp(score − max); 0 where nothing was attended to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowSum<R> {
    pub max: R,
    pub inverse: R,
}

multiversion! {
    /// One step of the online softmax on a tile of `rows` × `cols` (cols a multiple of [`LANES`]): turns scores into `exp(s − max)`, updates each row's running maximum and
    /// sum, and writes to `correction` what earlier sums and outputs must be multiplied by.
    pub(crate) fn softmax_step<R: Real>(s: &mut [R], rows: usize, cols: usize, ld: usize, max: &mut [R], sum: &mut [R], correction: &mut [R]) = step[true, 4, 32; true, 4, 16; false, 2, 16]
}

#[inline(always)]
fn step<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    s: &mut [R],
    rows: usize,
    cols: usize,
    ld: usize,
    max: &mut [R],
    sum: &mut [R],
    correction: &mut [R],
) {
    for i in 0..rows {
        let row = &mut s[i * ld..i * ld + cols];
        let mut lanes = [R::NEG_INFINITY; LANES];
        for chunk in row.chunks_exact(LANES) {
            for l in 0..LANES {
                lanes[l] = lanes[l].max(chunk[l]);
            }
        }
        let mut largest = lanes.iter().fold(max[i], |m, x| m.max(*x));
        if largest > R::MAX {
            largest = bounded(row);
        }
        // A row that has seen nothing but −∞ stays at zero weights: 0 stands in for its maximum.
        let base = if largest == R::NEG_INFINITY { R::ZERO } else { largest };
        let mut lanes = [R::ZERO; LANES];
        for chunk in row.chunks_exact_mut(LANES) {
            for l in 0..LANES {
                let e = (chunk[l] - base).softmax_exp();
                chunk[l] = e;
                lanes[l] += e;
            }
        }
        correction[i] = (max[i] - base).softmax_exp();
        sum[i] = sum[i] * correction[i] + lanes.iter().copied().sum::<R>();
        max[i] = largest;
    }
}

/// Scores past the largest number become it, because ∞ − ∞ would be NaN: finite parts of a score may add up to more than a number holds. Gives that number.
#[cold]
fn bounded<R: Real>(row: &mut [R]) -> R {
    row.iter_mut().for_each(|s| *s = if *s > R::MAX { R::MAX } else { *s });
    R::MAX
}

multiversion! {
    /// Scores to weights where the row's sum is known: `exp(s − max) · inverse`; zeros where nothing was attended to.
    pub(crate) fn probabilities<R: Real>(s: &mut [R], rows: usize, cols: usize, ld: usize, sums: &[RowSum<R>]) = weights[true, 4, 32; true, 4, 16; false, 2, 16]
}

#[inline(always)]
fn weights<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    s: &mut [R],
    rows: usize,
    cols: usize,
    ld: usize,
    sums: &[RowSum<R>],
) {
    for i in 0..rows {
        let RowSum { max, inverse } = sums[i];
        let base = if max == R::NEG_INFINITY { R::ZERO } else { max };
        let row = &mut s[i * ld..i * ld + cols];
        if max == R::MAX {
            bounded(row);
        }
        for chunk in row.chunks_exact_mut(LANES) {
            for l in 0..LANES {
                chunk[l] = (chunk[l] - base).softmax_exp() * inverse;
            }
        }
    }
}

multiversion! {
    /// The softmax's adjoint: `ds = p·(dp − delta)`, written over `dp`.
    pub(crate) fn score_gradient<R: Real>(p: &[R], dp: &mut [R], rows: usize, cols: usize, ld: usize, delta: &[R]) = gradient[true, 4, 32; true, 4, 16; false, 2, 16]
}

#[inline(always)]
fn gradient<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    p: &[R],
    dp: &mut [R],
    rows: usize,
    cols: usize,
    ld: usize,
    delta: &[R],
) {
    for i in 0..rows {
        let delta = delta[i];
        let p = &p[i * ld..i * ld + cols];
        for (p, dp) in p.chunks_exact(LANES).zip(dp[i * ld..i * ld + cols].chunks_exact_mut(LANES)) {
            for l in 0..LANES {
                dp[l] = p[l] * (dp[l] - delta);
            }
        }
    }
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
