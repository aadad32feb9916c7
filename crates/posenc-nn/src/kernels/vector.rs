//! Sums in a fixed order, and the loops over whole vectors.

use super::multiversion;
use crate::number::Number;
use crate::parallel;

/// Partial sums of a reduction: one AVX-512 register of f32. The same on every machine, so that sums are too.
pub(super) const LANES: usize = 16;

/// Σ f(xᵢ, yᵢ): lane l sums the indices l, l + 16, …; the lanes are then added as a tree.
#[inline(always)]
pub(super) fn sum2<R: Number>(x: &[R], y: &[R], f: impl Fn(R, R) -> R) -> R {
    let mut lanes = [R::ZERO; LANES];
    let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for l in 0..LANES {
            lanes[l] += f(x[l], y[l]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(xs.remainder()).zip(ys.remainder()) {
        *lane += f(x, y);
    }
    tree(lanes, |a, b| a + b)
}

/// Σ f(xᵢ) in the order of [`sum2`].
#[inline(always)]
pub(super) fn sum<R: Number>(x: &[R], f: impl Fn(R) -> R) -> R {
    sum2(x, x, |x, _| f(x))
}

/// The lanes of a reduction as one number.
#[inline(always)]
pub(super) fn tree<R: Copy>(mut lanes: [R; LANES], f: impl Fn(R, R) -> R) -> R {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = f(lanes[l], lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Columns whose sums are made at once.
const COLUMNS: usize = 4 * LANES;

/// Numbers of a part of a sum of columns that threads share.
const SUMMED: usize = 1 << 18;

/// `out[j] += Σᵢ x[i, j]`, rows added in order.
pub(crate) fn add_column_sums<R: Number>(x: &[R], out: &mut [R]) {
    let width = out.len().max(1);
    let rows = (x.len() / width).max(1);
    let some = (SUMMED / rows).max(1).next_multiple_of(COLUMNS);
    parallel::parts(out, some, |i, out| add_some_column_sums(x, width, i * some, out));
}

multiversion! {
    /// `out[j] += Σᵢ x[i, j]`, rows added in order: the columns of `out`, from `first` on, of rows of `width`.
    fn add_some_column_sums<R: Number>(x: &[R], width: usize, first: usize, out: &mut [R]) {
        let (some, columns) = (out.len(), out.len() / COLUMNS * COLUMNS);
        // Sums of some columns stay in registers while the rows pass by.
        for (j, out) in out[..columns].chunks_exact_mut(COLUMNS).enumerate() {
            let mut sums = [R::ZERO; COLUMNS];
            sums.copy_from_slice(out);
            for row in x.chunks_exact(width) {
                let row = &row[first + j * COLUMNS..][..COLUMNS];
                for l in 0..COLUMNS {
                    sums[l] += row[l];
                }
            }
            out.copy_from_slice(&sums);
        }
        for row in x.chunks_exact(width) {
            for (out, &x) in out[columns..].iter_mut().zip(&row[first + columns..first + some]) {
                *out += x;
            }
        }
    }

    /// x += y.
    pub(crate) fn add<R: Number>(x: &mut [R], y: &[R]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += *y;
        }
    }

    /// x *= factor; 0 if that is 0, whatever is there.
    pub(crate) fn scale_or_zero<R: Number>(x: &mut [R], factor: R) {
        for x in x {
            *x = if factor == R::ZERO { R::ZERO } else { *x * factor };
        }
    }

    /// y = x + row, row by row.
    pub(crate) fn add_to_rows<R: Number>(x: &[R], row: &[R], y: &mut [R]) {
        let width = row.len().max(1);
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            for ((y, x), r) in y.iter_mut().zip(x).zip(row) {
                *y = *x + *r;
            }
        }
    }

    /// Σ xᵢ² in f64, which f32 gradients cannot overflow.
    pub(crate) fn sum_of_squares<R: Number>(x: &[R]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let mut chunks = x.chunks_exact(LANES);
        for x in &mut chunks {
            for l in 0..LANES {
                let x = x[l].to_f64();
                lanes[l] += x * x;
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane += x.to_f64() * x.to_f64();
        }
        tree(lanes, |a, b| a + b)
    }

    /// x *= factor.
    pub(crate) fn scale<R: Number>(x: &mut [R], factor: R) {
        for x in x {
            *x *= factor;
        }
    }

    /// One step of AdamW over one tensor; `rates` is made by the optimiser. Slices have one length.
    pub(crate) fn adamw_step<R: Number>(rates: &AdamWRates<R>, x: &mut [R], gradient: &[R], mean: &mut [R], square: &mut [R]) {
        let AdamWRates { keep, beta1, beta2, one_minus_beta1, one_minus_beta2, step, square_scale, eps } = *rates;
        let n = x.len();
        let (gradient, mean, square) = (&gradient[..n], &mut mean[..n], &mut square[..n]);
        let (smallest_mean, smallest_square) = (R::of(1e-30), R::of(1e-36));
        for i in 0..n {
            let g = gradient[i];
            let m = beta1 * mean[i] + one_minus_beta1 * g;
            let v = beta2 * square[i] + one_minus_beta2 * (g * g);
            // Written so that NaN stays.
            let m = if m.abs() < smallest_mean { R::ZERO } else { m };
            let v = if v < smallest_square { R::ZERO } else { v };
            mean[i] = m;
            square[i] = v;
            x[i] = keep * x[i] - step * m / (v.sqrt() * square_scale + eps);
        }
    }
}

/// What one AdamW step multiplies by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWRates<R> {
    /// 1 − rate · decay.
    pub keep: R,
    /// β₁.
    pub beta1: R,
    /// β₂.
    pub beta2: R,
    /// 1 − β₁.
    pub one_minus_beta1: R,
    /// 1 − β₂.
    pub one_minus_beta2: R,
    /// rate / (1 − β₁ᵗ).
    pub step: R,
    /// 1 / √(1 − β₂ᵗ).
    pub square_scale: R,
    /// ε.
    pub eps: R,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::on_every_level;

    #[test]
    fn sums_take_every_element_once() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            assert_eq!(sum(&x, |x| x), (0..n).sum::<usize>() as f64);
            let squares = on_every_level(|| sum_of_squares(&x));
            assert!(squares.iter().all(|s| *s == (0..n).map(|i| i * i).sum::<usize>() as f64));
        }
    }

    #[test]
    fn squares_of_large_gradients_do_not_overflow() {
        assert_eq!(sum_of_squares(&[1e30f32; 4]).sqrt() as f32, 2e30);
    }

    #[test]
    fn column_sums_add_to_what_is_there() {
        for (rows, width) in [(3, 64), (2, 150), (5000, 200)] {
            let x: Vec<f64> = (0..rows * width).map(|i| (i % 7) as f64).collect();
            let mut out = vec![1.0; width];
            add_column_sums(&x, &mut out);
            for (j, out) in out.iter().enumerate() {
                assert_eq!(
                    *out,
                    1.0 + (0..rows).map(|i| x[i * width + j]).sum::<f64>(),
                    "column {j} of {width}"
                );
            }
        }
        let mut out = [1.0f32, 2.0, 3.0];
        add_column_sums(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], &mut out);
        assert_eq!(out, [12.0, 24.0, 36.0]);
        add_column_sums::<f32>(&[], &mut []);
    }
}
