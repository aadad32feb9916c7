//! Matrices in slices, and their product.

use crate::error::Result;
use crate::kernels;
use crate::number::Number;
use crate::parallel;
use posenc::Error;
use std::ops::Range;

/// A row-major matrix to be read, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, R> {
    pub(crate) data: &'a [R],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

/// A row-major matrix to be written; its rows do not overlap.
#[derive(Debug)]
pub struct MatrixMut<'a, R> {
    pub(crate) data: &'a mut [R],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
}

/// The row stride to compute with, after checking that the slice holds the matrix. A stride that is never stepped is replaced by the width.
fn checked_stride(len: usize, rows: usize, cols: usize, row_stride: usize) -> Result<usize> {
    let needed = if rows == 0 || cols == 0 {
        Some(0)
    } else {
        (rows - 1).checked_mul(row_stride).and_then(|last| last.checked_add(cols))
    };
    match needed {
        Some(needed) if needed <= len => Ok(if rows > 1 && cols > 0 { row_stride } else { cols.max(1) }),
        needed => Err(Error::Storage {
            needed: needed.unwrap_or(usize::MAX),
            given: len,
        }
        .into()),
    }
}

/// The matrix is the whole slice.
fn whole(len: usize, rows: usize, cols: usize) -> Result<()> {
    match rows.checked_mul(cols) {
        Some(size) if size == len => Ok(()),
        size => Err(Error::Storage {
            needed: size.unwrap_or(usize::MAX),
            given: len,
        }
        .into()),
    }
}

impl<'a, R> Matrix<'a, R> {
    /// A matrix of the whole slice.
    ///
    /// # Errors
    /// The slice does not hold exactly `rows · cols` numbers.
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Result<Self> {
        whole(data.len(), rows, cols)?;
        Matrix::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` numbers apart: one head of a fused projection, say.
    ///
    /// # Errors
    /// The slice is shorter than the matrix reaches.
    pub fn strided(data: &'a [R], rows: usize, cols: usize, row_stride: usize) -> Result<Self> {
        Ok(Matrix {
            data,
            rows,
            cols,
            row_stride: checked_stride(data.len(), rows, cols, row_stride)?,
            col_stride: 1,
        })
    }

    /// The transpose; nothing is moved.
    pub fn t(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Some of its rows.
    fn some_rows(self, rows: Range<usize>) -> Self {
        Matrix {
            data: self.data.get(rows.start * self.row_stride..).unwrap_or_default(),
            rows: rows.len(),
            ..self
        }
    }

    /// Some of its columns.
    fn some_cols(self, cols: Range<usize>) -> Self {
        self.t().some_rows(cols).t()
    }
}

impl<'a, R> MatrixMut<'a, R> {
    /// A matrix of the whole slice.
    ///
    /// # Errors
    /// The slice does not hold exactly `rows · cols` numbers.
    pub fn new(data: &'a mut [R], rows: usize, cols: usize) -> Result<Self> {
        whole(data.len(), rows, cols)?;
        MatrixMut::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` numbers apart.
    ///
    /// # Errors
    /// The slice is shorter than the matrix reaches, or its rows overlap.
    pub fn strided(data: &'a mut [R], rows: usize, cols: usize, row_stride: usize) -> Result<Self> {
        if rows > 1 && row_stride < cols {
            return Err(Error::Overlap {
                shape: vec![rows, cols],
                strides: vec![row_stride, 1],
            }
            .into());
        }
        Ok(MatrixMut {
            row_stride: checked_stride(data.len(), rows, cols, row_stride)?,
            data,
            rows,
            cols,
        })
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }
}

/// C = α·A·B + β·C. C is not read where β is 0, so it may hold anything.
///
/// A large product is cut by its shape into blocks of rows of C, or, where C is small and k long, as in the gradient of a weight, into pieces of k with a sum of their own, which are added in order; with the
/// feature `rayon` the parts are spread over the caller's threads. The same call gives the same bits on the same machine, on any number of threads. Another machine, or other shapes
/// around the same rows, may sum in another order.
///
/// # Errors
/// Shapes do not fit: A is `[m, k]`, B `[k, n]`, C `[m, n]`.
///
/// ```
/// use posenc_nn::{Matrix, MatrixMut, matmul};
///
/// let (a, b) = ([1.0f32, 2.0, 3.0, 4.0], [10.0, 20.0]);
/// let mut c = [f32::NAN; 2];
/// // [2, 2] · [1, 2]ᵀ
/// matmul(1.0, Matrix::new(&a, 2, 2)?, Matrix::new(&b, 1, 2)?.t(), 0.0, MatrixMut::new(&mut c, 2, 1)?)?;
/// assert_eq!(c, [50.0, 110.0]);
/// # Ok::<(), posenc_nn::Error>(())
/// ```
pub fn matmul<R: Number>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, beta: R, c: MatrixMut<'_, R>) -> Result<()> {
    product(alpha, a, b, Onto::Scaled(beta), c)
}

/// The same, whole and on the calling thread whatever its size: for those who share products out by themselves.
///
/// # Errors
/// As [`matmul`].
pub fn matmul_here<R: Number>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, beta: R, mut c: MatrixMut<'_, R>) -> Result<()> {
    check_product(&a, &b, &c)?;
    kernels::gemm(alpha, a, b, beta, &mut c);
    Ok(())
}

fn check_product<R>(a: &Matrix<'_, R>, b: &Matrix<'_, R>, c: &MatrixMut<'_, R>) -> Result<()> {
    let refuse = |what, expected: [usize; 2], given: [usize; 2]| Error::Shape {
        what,
        expected: expected.to_vec(),
        given: given.to_vec(),
    };
    if b.rows != a.cols {
        return Err(refuse("matmul's B [k, n]", [a.cols, b.cols], [b.rows, b.cols]).into());
    }
    if c.shape() != [a.rows, b.cols] {
        return Err(refuse("matmul's C [m, n]", [a.rows, b.cols], c.shape()).into());
    }
    Ok(())
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Onto<'a, R> {
    /// What is there, times this; it is not read if this is 0.
    Scaled(R),
    /// This row, in each row.
    Row(&'a [R]),
    /// This matrix, which has C's shape and no gaps, and a row in each of its rows.
    Rows(&'a [R], Option<&'a [R]>),
}

impl<'a, R: Number> Onto<'a, R> {
    /// The same for some rows of C, of this width.
    fn some_rows(self, rows: Range<usize>, width: usize) -> Self {
        match self {
            Onto::Rows(matrix, row) => Onto::Rows(&matrix[rows.start * width..rows.end * width], row),
            same => same,
        }
    }

    /// Writes what the product is added to, and returns the factor that is left.
    fn begin(self, c: &mut MatrixMut<'_, R>) -> R {
        let (width, stride) = (c.cols, c.row_stride);
        match self {
            Onto::Scaled(beta) => return beta,
            Onto::Row(row) => c.data.chunks_mut(stride).take(c.rows).for_each(|c| c[..width].copy_from_slice(row)),
            Onto::Rows(matrix, Some(row)) => kernels::add_to_rows(matrix, row, c.data),
            Onto::Rows(matrix, None) => c.data[..matrix.len()].copy_from_slice(matrix),
        }
        R::ONE
    }
}

/// Products and sums of a part of a product: some milliseconds of one core, beside which neither another thread nor packing the same factor once more counts.
const PART: usize = 1 << 27;

/// The most parts of one product.
const MOST_PARTS: usize = 16;

/// Rows of C that a part has at least.
const FEWEST_ROWS: usize = 48;

/// Numbers of a sum for each row of C from which on it is rather cut than the rows.
const LONG: usize = 4;

/// Numbers of C up to which each part of a sum may have its own.
const SMALL: usize = 1 << 19;

/// Numbers of a sum that a part has at least.
const SHORTEST_SUM: usize = 512;

/// C = α·A·B onto something.
pub(crate) fn product<R: Number>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, onto: Onto<'_, R>, mut c: MatrixMut<'_, R>) -> Result<()> {
    check_product(&a, &b, &c)?;
    let [m, k, n] = [a.rows, a.cols, b.cols];
    let most = (m.saturating_mul(k).saturating_mul(n) / PART).min(MOST_PARTS);
    let (rows, sum, stride) = (m.div_ceil(most.max(1)), k.div_ceil(most.max(1)), c.row_stride);
    // Parts by rows pack B once each; parts of k write and read as many matrices of C's size.
    let by_sums = sum >= SHORTEST_SUM && m.saturating_mul(n) <= SMALL && (rows < FEWEST_ROWS || k / LONG >= m);
    if most > 1 && by_sums {
        let mut sums = R::spare().take();
        sums.resize(sums.len().max(most * m * n), R::ZERO);
        parallel::parts(&mut sums[..most * m * n], m * n, |i, data| {
            let some = (i * sum).min(k)..((i + 1) * sum).min(k);
            let mut c = MatrixMut {
                data,
                rows: m,
                cols: n,
                row_stride: n,
            };
            kernels::gemm(alpha, a.some_cols(some.clone()), b.some_rows(some), R::ZERO, &mut c);
        });
        in_rows(c, rows, onto, |some, beta, c| {
            for (i, c) in some.zip(c.data.chunks_mut(stride)) {
                kernels::scale_or_zero(&mut c[..n], beta);
                for sums in sums.chunks_exact(m * n).take(most) {
                    kernels::add(&mut c[..n], &sums[i * n..][..n]);
                }
            }
        });
        R::spare().set(sums);
    } else if most > 1 && rows >= FEWEST_ROWS {
        in_rows(c, rows, onto, |some, beta, c| kernels::gemm(alpha, a.some_rows(some), b, beta, c));
    } else {
        let beta = onto.begin(&mut c);
        kernels::gemm(alpha, a, b, beta, &mut c);
    }
    Ok(())
}

/// Runs `each` for parts of so many rows of C, with their numbers and the factor of what they begin with.
fn in_rows<R: Number>(
    c: MatrixMut<'_, R>,
    size: usize,
    onto: Onto<'_, R>,
    each: impl Fn(Range<usize>, R, &mut MatrixMut<'_, R>) + Sync + Send,
) {
    let (m, n, stride) = (c.rows, c.cols, c.row_stride);
    parallel::parts(c.data, size * stride, |i, data| {
        let some = (i * size).min(m)..((i + 1) * size).min(m);
        let mut c = MatrixMut {
            data,
            rows: some.len(),
            cols: n,
            row_stride: stride,
        };
        let beta = onto.some_rows(some.clone(), n).begin(&mut c);
        each(some, beta, &mut c);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use posenc::Rng;

    fn random<R: Number>(n: usize, rng: &mut Rng) -> Vec<R> {
        (0..n).map(|_| R::of(rng.normal())).collect()
    }

    /// One product of every kind against Σₖ in f64, element by element. A sum of k products, each rounded once and added in any order, is off by at
    /// most k·ε·Σ|aᵢₖ·bₖⱼ|; alpha, beta and the last sum add four roundings.
    fn against_naive<R: Number>(m: usize, k: usize, n: usize, a_transposed: bool, b_transposed: bool, alpha: f64, beta: f64) {
        for whole in [false, true] {
            one_against_naive::<R>(whole, [m, k, n], [a_transposed, b_transposed], alpha, beta);
        }
    }

    fn one_against_naive<R: Number>(whole: bool, [m, k, n]: [usize; 3], [a_transposed, b_transposed]: [bool; 2], alpha: f64, beta: f64) {
        let mut rng = Rng::new((m * 10_007 + k * 101 + n) as u64);
        let gap = 3;
        let (a_rows, a_cols) = if a_transposed { (k, m) } else { (m, k) };
        let (b_rows, b_cols) = if b_transposed { (n, k) } else { (k, n) };
        let a: Vec<R> = random(a_rows * (a_cols + gap), &mut rng);
        let b: Vec<R> = random(b_rows * (b_cols + gap), &mut rng);
        let before: Vec<R> = random(m * (n + gap), &mut rng);
        let mut c = before.clone();
        if beta == 0.0 {
            for i in 0..m {
                c[i * (n + gap)..][..n].fill(R::of(f64::NAN));
            }
        }
        let view = |data, rows, cols: usize, transposed| {
            let matrix = Matrix::strided(data, rows, cols, cols + gap).unwrap();
            if transposed { matrix.t() } else { matrix }
        };
        let multiply = if whole { matmul_here } else { matmul };
        multiply(
            R::of(alpha),
            view(&a, a_rows, a_cols, a_transposed),
            view(&b, b_rows, b_cols, b_transposed),
            R::of(beta),
            MatrixMut::strided(&mut c, m, n, n + gap).unwrap(),
        )
        .unwrap();
        let at_a = |i: usize, l: usize| a[if a_transposed { l * (m + gap) + i } else { i * (k + gap) + l }].to_f64();
        let at_b = |l: usize, j: usize| b[if b_transposed { j * (k + gap) + l } else { l * (n + gap) + j }].to_f64();
        for i in 0..m {
            for j in 0..n + gap {
                let at = i * (n + gap) + j;
                if j >= n {
                    assert_eq!(c[at], before[at], "the gap between rows was written");
                    continue;
                }
                let old = if beta == 0.0 { 0.0 } else { beta * before[at].to_f64() };
                let (mut exact, mut size) = (old, old.abs());
                for l in 0..k {
                    let product = alpha * at_a(i, l) * at_b(l, j);
                    exact += product;
                    size += product.abs();
                }
                let allowed = (k + 4) as f64 * R::EPSILON.to_f64() * size;
                let error = (c[at].to_f64() - exact).abs();
                assert!(error <= allowed, "{m}×{k}×{n} ({i}, {j}): {} against {exact}", c[at]);
            }
        }
    }

    #[test]
    fn odd_shapes_match_the_naive_sum() {
        let sizes = [0, 1, 2, 3, 7, 16, 17, 33, 65];
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &k) in sizes.iter().enumerate() {
                for (l, &n) in sizes.iter().enumerate() {
                    let kind = i + 2 * j + 3 * l;
                    let (alpha, beta) = [(1.0, 0.0), (1.0, 1.0), (0.5, 0.0), (-2.0, 0.25)][kind % 4];
                    against_naive::<f32>(m, k, n, kind & 4 != 0, kind & 8 != 0, alpha, beta);
                    against_naive::<f64>(m, k, n, kind & 8 != 0, kind & 4 != 0, alpha, beta);
                }
            }
        }
        for (transposed_a, transposed_b) in [(false, false), (false, true), (true, false), (true, true)] {
            against_naive::<f32>(129, 1030, 67, transposed_a, transposed_b, 1.0, 0.0);
            against_naive::<f32>(1, 64, 70, transposed_a, transposed_b, 1.0, 1.0);
            against_naive::<f32>(70, 64, 1, transposed_a, transposed_b, 1.0, 0.0);
        }
    }

    /// Cut into rows, into pieces of k, and not at all: as the naive sum says, with gaps between rows and every kind of start.
    #[test]
    fn large_products_match_the_naive_sum() {
        against_naive::<f32>(200, 2500, 600, false, true, -2.0, 0.25);
        against_naive::<f32>(33, 70_000, 130, true, false, 0.5, 1.0);
        against_naive::<f32>(33, 70_000, 130, false, true, 1.0, 0.0);
    }

    /// What a product begins with is in its sum: Σ in f32 of k terms of order 1, and two more. Bound: (k + 2)·ε/2·Σ|terms|, the terms below 4 in size.
    #[test]
    fn products_onto_rows_are_products_and_rows() {
        let mut rng = Rng::new(3);
        for [m, k, n] in [[3, 5, 7], [100, 3000, 900], [40, 20_000, 400]] {
            let (a, b): (Vec<f32>, Vec<f32>) = (random(m * k, &mut rng), random(k * n, &mut rng));
            let (residual, row): (Vec<f32>, Vec<f32>) = (random(m * n, &mut rng), random(n, &mut rng));
            let (a, b) = (Matrix::new(&a, m, k).unwrap(), Matrix::new(&b, k, n).unwrap());
            let of = |onto| {
                let mut c = vec![f32::NAN; m * n];
                product(1.0, a, b, onto, MatrixMut::new(&mut c, m, n).unwrap()).unwrap();
                c
            };
            let plain = of(Onto::Scaled(0.0));
            let bound = 2.0 * (k + 2) as f32 * f32::EPSILON / 2.0 * 4.0 * (k as f32);
            let (with_row, with_both, alone) = (
                of(Onto::Row(&row)),
                of(Onto::Rows(&residual, Some(&row))),
                of(Onto::Rows(&residual, None)),
            );
            for i in 0..m * n {
                assert!((with_row[i] - plain[i] - row[i % n]).abs() <= bound);
                assert!((with_both[i] - plain[i] - row[i % n] - residual[i]).abs() <= bound);
                assert!((alone[i] - plain[i] - residual[i]).abs() <= bound);
            }
        }
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn threads_do_not_matter() {
        let mut rng = Rng::new(3);
        for [m, k, n] in [[500, 700, 900], [200, 3000, 500], [40, 20_000, 400]] {
            let (a, b, before): (Vec<f32>, Vec<f32>, Vec<f32>) =
                (random(m * k, &mut rng), random(k * n, &mut rng), random(m * n, &mut rng));
            let on = |threads| {
                let mut c = before.clone();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (a, b) = (Matrix::new(&a, m, k).unwrap(), Matrix::new(&b, k, n).unwrap());
                    matmul(1.0, a, b, 1.0, MatrixMut::new(&mut c, m, n).unwrap()).unwrap();
                });
                kernels::testing::bits(&c)
            };
            assert!(on(1) == on(2) && on(1) == on(5), "{m}×{k}×{n}");
        }
    }

    #[test]
    fn wrong_shapes_and_short_slices_are_refused() {
        let data = [0.0f32; 6];
        let mut out = [0.0f32; 6];
        let a = Matrix::new(&data, 2, 3).unwrap();
        assert!(matmul(1.0, a, a, 0.0, MatrixMut::new(&mut out, 2, 3).unwrap()).is_err());
        assert!(matmul(1.0, a, a.t(), 0.0, MatrixMut::new(&mut out, 2, 3).unwrap()).is_err());
        assert!(Matrix::new(&data, 2, 2).is_err());
        assert!(Matrix::strided(&data, 3, 3, 2).is_err());
        assert!(Matrix::strided(&data, 2, 2, usize::MAX).is_err());
        assert!(Matrix::new(&data, usize::MAX, 2).is_err());
        assert!(MatrixMut::strided(&mut out, 2, 3, 2).is_err());
        assert!(Matrix::strided(&data, 1, 3, usize::MAX).is_ok(), "a stride that is never stepped");
        assert_eq!(out, [0.0; 6]);
    }
}
