//! The matrix product of a tile: small, packed, padded in the vector direction.

use super::{LANES, multiversion};
use crate::real::Real;

/// The left factor: element (i, p) lies at `i * row + p * col`, so a transposed factor needs no copy.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, R> {
    pub data: &'a [R],
    pub row: usize,
    pub col: usize,
}

multiversion! {
    /// `c = alpha·a·b` (`+ c` if `accumulate`): `a` is m × k, `b` is k × n with rows `ldb` apart, `c` is m × n with rows `ldc` apart; n is a
    /// multiple of [`LANES`].
    pub(crate) fn product<R: Real>(shape: [usize; 3], alpha: R, a: Left<'_, R>, b: &[R], ldb: usize, c: &mut [R], ldc: usize, accumulate: bool) = body[true, 4, 32; true, 4, 16; false, 2, 16]
}

#[inline(always)]
fn body<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    shape: [usize; 3],
    alpha: R,
    a: Left<'_, R>,
    b: &[R],
    ldb: usize,
    c: &mut [R],
    ldc: usize,
    accumulate: bool,
) {
    let [m, n, k] = shape;
    if m == 0 || n == 0 {
        return;
    }
    assert!(n % LANES == 0 && ldc >= n, "n = {n}, ldc = {ldc}");
    assert!((m - 1) * ldc + n <= c.len());
    if k > 0 {
        assert!((m - 1) * a.row + (k - 1) * a.col < a.data.len());
        assert!((k - 1) * ldb + n <= b.len());
    }
    let mut j = 0;
    while j + NR <= n {
        column::<R, FMA, MR, NR>(m, k, alpha, a, j, b, ldb, c, ldc, accumulate);
        j += NR;
    }
    while j < n {
        // Half as wide, so twice as high: as many sums in flight.
        if NR > LANES {
            column::<R, FMA, 8, LANES>(m, k, alpha, a, j, b, ldb, c, ldc, accumulate);
        } else {
            column::<R, FMA, MR, LANES>(m, k, alpha, a, j, b, ldb, c, ldc, accumulate);
        }
        j += LANES;
    }
}

/// All rows of `NR` columns of `c`.
#[inline(always)]
fn column<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    m: usize,
    k: usize,
    alpha: R,
    a: Left<'_, R>,
    j: usize,
    b: &[R],
    ldb: usize,
    c: &mut [R],
    ldc: usize,
    accumulate: bool,
) {
    let mut i = 0;
    while i + MR <= m {
        tile::<R, FMA, MR, NR>(i, k, alpha, a, j, b, ldb, c, ldc, accumulate);
        i += MR;
    }
    while i < m {
        tile::<R, FMA, 1, NR>(i, k, alpha, a, j, b, ldb, c, ldc, accumulate);
        i += 1;
    }
}

/// `MR` × `NR` sums held in registers while k runs.
#[inline(always)]
fn tile<R: Real, const FMA: bool, const MR: usize, const NR: usize>(
    i: usize,
    k: usize,
    alpha: R,
    a: Left<'_, R>,
    j: usize,
    b: &[R],
    ldb: usize,
    c: &mut [R],
    ldc: usize,
    accumulate: bool,
) {
    let mut sum = [[R::ZERO; NR]; MR];
    for p in 0..k {
        // SAFETY: `body` checked that row k − 1 of b holds n ≥ j + NR elements.
        let b = unsafe { &*b.as_ptr().add(p * ldb + j).cast::<[R; NR]>() };
        for r in 0..MR {
            // SAFETY: `body` checked the last element of a.
            let x = unsafe { *a.data.get_unchecked((i + r) * a.row + p * a.col) };
            for l in 0..NR {
                sum[r][l] = if FMA { x.mul_add(b[l], sum[r][l]) } else { sum[r][l] + x * b[l] };
            }
        }
    }
    for r in 0..MR {
        // SAFETY: `body` checked that row m − 1 of c holds n ≥ j + NR elements.
        let c = unsafe { &mut *c.as_mut_ptr().add((i + r) * ldc + j).cast::<[R; NR]>() };
        for l in 0..NR {
            let x = alpha * sum[r][l];
            c[l] = if accumulate { c[l] + x } else { x };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Present;
    use crate::rng::Rng;

    #[test]
    fn equals_the_naive_product_in_every_layout() {
        let mut rng = Rng::new(1);
        for [m, n, k] in [[1, 16, 1], [4, 32, 7], [5, 48, 16], [9, 80, 33], [3, 16, 0], [0, 16, 4]] {
            for transposed in [false, true] {
                let a: Vec<f32> = (0..m * k).map(|_| rng.normal() as f32).collect();
                let b: Vec<f32> = (0..k * n).map(|_| rng.normal() as f32).collect();
                let left = if transposed {
                    Left { data: &a, row: 1, col: m }
                } else {
                    Left { data: &a, row: k, col: 1 }
                };
                for (on, accumulate) in Present::all().flat_map(|on| [(on, false), (on, true)]) {
                    let mut c = vec![if accumulate { 1.0f32 } else { f32::NAN }; m * n];
                    product(on, [m, n, k], 0.5, left, &b, n, &mut c, n, accumulate);
                    for i in 0..m {
                        for j in 0..n {
                            let terms = (0..k).map(|p| f64::from(a[i * left.row + p * left.col]) * f64::from(b[p * n + j]));
                            let (exact, size) = terms.fold((0.0, 0.0), |(s, t), x| (s + 0.5 * x, t + (0.5 * x).abs()));
                            let exact = exact + if accumulate { 1.0 } else { 0.0 };
                            // k products and sums, each rounded once, and the two operations that store.
                            let bound = (k + 3) as f64 * 6e-8 * (size + exact.abs());
                            assert!(
                                (f64::from(c[i * n + j]) - exact).abs() <= bound,
                                "{}: {m}x{n}x{k} at {i},{j}",
                                on.isa()
                            );
                        }
                    }
                }
            }
        }
    }
}
