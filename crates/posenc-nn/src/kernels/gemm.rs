//! The raw matrix product: `gemm-f32` and `gemm-f64`, with their pointers checked.

use super::{Native, activation};
use crate::matrix::{Matrix, MatrixMut};
use gemm_common::Parallelism;
use std::cell::Cell;
use std::thread::LocalKey;

/// What `gemm` exports: m, n, k; dst with column and row stride and whether to read it; lhs; rhs, likewise; the factor of dst; the factor of
/// lhs·rhs; three conjugations; threads.
pub type GemmFunction<R> = unsafe fn(
    usize,
    usize,
    usize,
    *mut R,
    isize,
    isize,
    bool,
    *const R,
    isize,
    isize,
    *const R,
    isize,
    isize,
    R,
    R,
    bool,
    bool,
    bool,
    Parallelism,
);

impl Native for f32 {
    fn spare() -> &'static LocalKey<Cell<Vec<f32>>> {
        thread_local! { static SPARE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) } }
        &SPARE
    }

    fn gemm_function() -> GemmFunction<f32> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }

    #[inline(always)]
    fn normal_tail(a: f32) -> (f32, f32) {
        activation::normal_tail_f32(a)
    }
}

impl Native for f64 {
    fn spare() -> &'static LocalKey<Cell<Vec<f64>>> {
        thread_local! { static SPARE: Cell<Vec<f64>> = const { Cell::new(Vec::new()) } }
        &SPARE
    }

    fn gemm_function() -> GemmFunction<f64> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }

    fn normal_tail(a: f64) -> (f64, f64) {
        activation::normal_tail_f64(a)
    }
}

/// c = alpha·a·b + beta·c, c not read where beta is 0.
///
/// # Panics
/// If the shapes do not fit: the caller has checked them, this is what the pointers below rely on.
pub(crate) fn gemm<R: crate::Number>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, beta: R, c: &mut MatrixMut<'_, R>) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert!(b.rows == k && c.rows == m && c.cols == n, "gemm: shapes do not fit");
    let within = |len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize| {
        rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len
    };
    assert!(
        within(a.data.len(), m, k, a.row_stride, a.col_stride)
            && within(b.data.len(), k, n, b.row_stride, b.col_stride)
            && within(c.data.len(), m, n, c.row_stride, 1),
        "gemm: a matrix reaches past its slice"
    );
    let zero = beta == R::ZERO;
    // The kernels write columns fastest where the destination has contiguous columns, so c, which has contiguous rows, is computed as cᵀ = bᵀ·aᵀ.
    // SAFETY: every index that m, n, k and the strides reach lies inside its slice (asserted above; strides are below `isize::MAX` because a slice
    // that they reach into exists, or they are normalised by `Matrix` where an axis has one element). `c` is borrowed mutably, so it overlaps
    // neither operand, and its rows do not overlap each other (`MatrixMut` checks it).
    unsafe {
        R::gemm_function()(
            n,
            m,
            k,
            c.data.as_mut_ptr(),
            c.row_stride as isize,
            1,
            !zero,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            beta,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
