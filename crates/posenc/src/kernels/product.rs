//! The matrix product of a tile.
//!
//! The right factor lies in panels of [`PANEL`] columns, which a call packs once and every block of rows reads again: a panel's rows follow each other, so it is read as one stream, where the rows of
//! a whole matrix may lie whole pages apart. Rows × vectors of sums stay in registers while k runs; a panel stays in the first-level cache while the rows pass by.

use super::{LANES, Present, vectors};
use crate::real::{Element, Real};
use fearless_simd::{Simd, prelude::*};

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// The left factor: element (i, p) lies at `i * row + p * col`, so a transposed factor needs no copy.
#[derive(Clone, Copy)]
pub struct Left<'a, R> {
    pub data: &'a [R],
    pub row: usize,
    pub col: usize,
}

/// The right factor: element (p, j) lies at `j / PANEL * panel + p * row + j % PANEL`. Packed panels have rows [`PANEL`] apart; a matrix whose rows are short may as well be
/// read where it lies, with panels [`PANEL`] apart.
#[derive(Clone, Copy)]
pub struct Right<'a, R> {
    pub data: &'a [R],
    pub row: usize,
    pub panel: usize,
}

/// What becomes of a product.
pub enum Store<'a, R> {
    /// It is written over what is there.
    Over,
    /// The same, and what is past the largest number becomes it: a term of the other sign that is added to ∞ would make NaN.
    Bounded,
    /// It is added to what is there.
    Add,
    /// It is written over what is there with `line[m − 1 − i + j]` added, if there is a line, and each row's largest numbers to `max` `[m, Vectors::LANES]`.
    Scores { line: Option<&'a [R]>, max: &'a mut [R] },
}

/// `c = alpha·a·b`, stored as `store` says: `a` is m × k, `b` is k × n, `c` is m × n with rows `ldc` apart; n is a multiple of [`LANES`].
pub struct Product<'a, R> {
    pub shape: [usize; 3],
    pub alpha: R,
    pub a: Left<'a, R>,
    pub b: Right<'a, R>,
    pub c: &'a mut [R],
    pub ldc: usize,
    pub store: Store<'a, R>,
}

/// The product. What is generic over numbers calls [`Compiled::product`](super::Compiled::product), so that this is compiled with this crate alone.
pub(crate) fn product<R: Real>(on: Present, product: Product<'_, R>) {
    let Product {
        shape: [m, n, k],
        alpha,
        a,
        b,
        c,
        ldc,
        store,
    } = product;
    if m == 0 || n == 0 {
        return;
    }
    assert!(n % LANES == 0 && ldc >= n, "n = {n}, ldc = {ldc}");
    assert!((m - 1) * ldc + n <= c.len());
    let last = (n - 1) / PANEL;
    if k > 0 {
        assert!((m - 1) * a.row + (k - 1) * a.col < a.data.len());
        assert!(last * b.panel + (k - 1) * b.row + n - last * PANEL <= b.data.len() && (last == 0 || b.panel + PANEL <= b.data.len()));
    }
    let (mode, line, max) = match store {
        Store::Over => (Mode::Over, std::ptr::null(), std::ptr::null_mut()),
        Store::Bounded => (Mode::Bounded, std::ptr::null(), std::ptr::null_mut()),
        Store::Add => (Mode::Add, std::ptr::null(), std::ptr::null_mut()),
        Store::Scores { line, max } => {
            assert!(max.len() >= m * R::LANES && line.is_none_or(|line| line.len() >= m - 1 + n));
            max.fill(R::NEG_INFINITY);
            (
                Mode::Scores,
                line.map_or(std::ptr::null(), |line| line[m - 1..].as_ptr()),
                max.as_mut_ptr(),
            )
        }
    };
    let mut j = 0;
    while j < n {
        let columns = PANEL.min(n - j);
        let panel = Columns {
            m,
            k,
            alpha,
            a: a.data.as_ptr(),
            steps: [a.row, a.col, b.row],
            b: b.data.as_ptr().wrapping_add(j / PANEL * b.panel),
            c: c.as_mut_ptr().wrapping_add(j),
            ldc,
            mode,
            line: if line.is_null() { line } else { line.wrapping_add(j) },
            max,
        };
        // SAFETY: the bounds of the last element of each matrix, of the line and of the largest numbers were checked above; a part of a panel has a whole number of `LANES`.
        unsafe { all_rows(on, &panel, columns) };
        j += columns;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Over,
    Bounded,
    Add,
    Scores,
}

/// All rows of some columns.
#[derive(Clone, Copy)]
struct Columns<R> {
    m: usize,
    k: usize,
    alpha: R,
    a: *const R,
    /// From row to row and from column to column of the left factor, and from row to row of the right one.
    steps: [usize; 3],
    b: *const R,
    c: *mut R,
    ldc: usize,
    mode: Mode,
    /// Of row 0.
    line: *const R,
    max: *mut R,
}

impl<R: Real> Columns<R> {
    /// The same `by` columns further right.
    fn right(self, by: usize) -> Self {
        Columns {
            b: self.b.wrapping_add(by),
            c: self.c.wrapping_add(by),
            line: if self.line.is_null() {
                self.line
            } else {
                self.line.wrapping_add(by)
            },
            ..self
        }
    }
}

/// Rows of sums in registers, by vectors of a row: as many sums as there are registers for, beside a row of the right factor and a number of the left one.
///
/// # Safety
/// All elements of `columns` columns lie in their matrices, and columns are a multiple of [`LANES`].
unsafe fn all_rows<R: Real>(on: Present, panel: &Columns<R>, columns: usize) {
    let wide = 2 * R::LANES;
    let mut j = 0;
    // SAFETY: the caller's.
    unsafe {
        match on.isa() {
            super::Isa::Avx512 => {
                while j + wide <= columns {
                    vectors!(on, simd => rows::<_, R, 12, 4, 2>(simd, &panel.right(j)));
                    j += wide;
                }
                if j < columns {
                    vectors!(on, simd => rows::<_, R, 12, 4, 1>(simd, &panel.right(j)));
                }
            }
            super::Isa::Avx2 => {
                while j < columns {
                    vectors!(on, simd => rows::<_, R, 6, 2, 1>(simd, &panel.right(j)));
                    j += R::LANES;
                }
            }
            super::Isa::Portable => {
                while j < columns {
                    vectors!(on, simd => rows::<_, R, 2, 1, 1>(simd, &panel.right(j)));
                    j += R::LANES;
                }
            }
        }
    }
}

/// All rows, `MR` at a time, and what is left `REST` at a time, and then one by one.
#[inline(always)]
unsafe fn rows<S: Simd, R: Real, const MR: usize, const REST: usize, const NV: usize>(simd: S, panel: &Columns<R>) {
    let mut i = 0;
    // SAFETY: the caller's.
    unsafe {
        while i + MR <= panel.m {
            tile::<S, R, MR, NV>(simd, panel, i);
            i += MR;
        }
        while i + REST <= panel.m {
            tile::<S, R, REST, NV>(simd, panel, i);
            i += REST;
        }
        while i < panel.m {
            tile::<S, R, 1, NV>(simd, panel, i);
            i += 1;
        }
    }
}

/// `MR` rows × `NV` vectors of sums held in registers while k runs.
#[inline(always)]
unsafe fn tile<S: Simd, R: Real, const MR: usize, const NV: usize>(simd: S, panel: &Columns<R>, i: usize) {
    // SAFETY: the caller's, of this and of every pointer below.
    let load = |from: *const R| <R as Element>::load(simd, unsafe { std::slice::from_raw_parts(from, R::LANES) });
    let store = |x, to: *mut R| <R as Element>::store(simd, x, unsafe { std::slice::from_raw_parts_mut(to, R::LANES) });
    let [row, col, next] = panel.steps;
    let mut sum = [[R::splat(simd, R::ZERO); NV]; MR];
    let (mut a, mut b) = (panel.a.wrapping_add(i * row), panel.b);
    for _ in 0..panel.k {
        let mut right = [R::splat(simd, R::ZERO); NV];
        for v in 0..NV {
            right[v] = load(b.wrapping_add(v * R::LANES));
        }
        for r in 0..MR {
            // SAFETY: as above.
            let left = R::splat(simd, unsafe { *a.wrapping_add(r * row) });
            for v in 0..NV {
                sum[r][v] = left.mul_add(right[v], sum[r][v]);
            }
        }
        a = a.wrapping_add(col);
        b = b.wrapping_add(next);
    }
    let alpha = R::splat(simd, panel.alpha);
    let c = panel.c.wrapping_add(i * panel.ldc);
    let at = |r: usize, v: usize| c.wrapping_add(r * panel.ldc + v * R::LANES);
    match panel.mode {
        Mode::Over => (0..MR).for_each(|r| (0..NV).for_each(|v| store(sum[r][v] * alpha, at(r, v)))),
        Mode::Bounded => (0..MR).for_each(|r| (0..NV).for_each(|v| store(R::bounded(simd, sum[r][v] * alpha), at(r, v)))),
        Mode::Add => (0..MR).for_each(|r| (0..NV).for_each(|v| store(sum[r][v].mul_add(alpha, load(at(r, v))), at(r, v)))),
        Mode::Scores => {
            for r in 0..MR {
                let to = panel.max.wrapping_add((i + r) * R::LANES);
                let mut max = load(to);
                for v in 0..NV {
                    let x = if panel.line.is_null() {
                        sum[r][v] * alpha
                    } else {
                        sum[r][v].mul_add(alpha, load(panel.line.wrapping_sub(i + r).wrapping_add(v * R::LANES)))
                    };
                    max = max.max(x);
                    store(x, at(r, v));
                }
                store(max, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Compiled, padded};
    use crate::rng::Rng;

    /// A matrix k × n as panels: packed, or as it is.
    fn right<R: Real>(b: &[R], k: usize, n: usize, packed: bool) -> (Vec<R>, usize, usize) {
        if !packed {
            return (b.to_vec(), n, PANEL);
        }
        let mut panels = vec![R::ZERO; n.next_multiple_of(PANEL) * k];
        R::pack_rows(b, n, [k, n], &mut panels, k * PANEL);
        (panels, PANEL, k * PANEL)
    }

    fn equals_the_naive_product<R: Real>() {
        let mut rng = Rng::new(1);
        let mut numbers = |n: usize| -> Vec<R> { (0..n).map(|_| R::of(rng.normal())).collect() };
        for [m, n, k] in [
            [1, 16, 1],
            [4, 32, 7],
            [5, 48, 16],
            [9, 80, 33],
            [23, 96, 5],
            [3, 16, 0],
            [0, 16, 4],
        ] {
            let (a, b, line) = (numbers(m * k), numbers(k * n), numbers(m + n));
            for (transposed, packed, stored) in [
                (false, true, 0),
                (true, false, 0),
                (false, false, 1),
                (true, true, 1),
                (false, true, 2),
                (true, false, 3),
                (false, true, 4),
            ] {
                let [row, col] = if transposed { [1, m] } else { [k, 1] };
                let (data, of_row, panel) = right(&b, k, n, packed);
                for on in Present::all() {
                    let mut c = vec![R::of(if stored == 1 { 1.0 } else { f64::NAN }); m * n];
                    let mut max = vec![R::of(f64::NAN); m * R::LANES];
                    R::product(
                        on,
                        Product {
                            shape: [m, n, k],
                            alpha: R::of(0.5),
                            a: Left { data: &a, row, col },
                            b: Right {
                                data: &data,
                                row: of_row,
                                panel,
                            },
                            c: &mut c,
                            ldc: n,
                            store: match stored {
                                0 => Store::Over,
                                1 => Store::Add,
                                4 => Store::Bounded,
                                _ => Store::Scores {
                                    line: (stored == 3).then_some(&line),
                                    max: &mut max,
                                },
                            },
                        },
                    );
                    for i in 0..m {
                        for j in 0..n {
                            let terms = (0..k).map(|p| 0.5 * a[i * row + p * col].to_f64() * b[p * n + j].to_f64());
                            let (exact, size) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
                            let other = match stored {
                                1 => 1.0,
                                3 => line[m - 1 - i + j].to_f64(),
                                _ => 0.0,
                            };
                            // k products and sums, each rounded once, and the two operations that store.
                            let bound = (k + 3) as f64 * R::EPSILON.to_f64() / 2.0 * (size + (exact + other).abs());
                            let error = (c[i * n + j].to_f64() - exact - other).abs();
                            assert!(error <= bound, "{}: {m}x{n}x{k} at {i},{j}: {error:e}", on.isa());
                        }
                        if (2..4).contains(&stored) {
                            let largest = c[i * n..][..n].iter().fold(R::NEG_INFINITY, |most, x| most.max(*x));
                            let lanes = max[i * R::LANES..][..R::LANES].iter().fold(R::NEG_INFINITY, |most, x| most.max(*x));
                            assert_eq!(lanes, largest, "{}", on.isa());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn equals_the_naive_product_in_every_layout() {
        equals_the_naive_product::<f32>();
        equals_the_naive_product::<f64>();
    }

    #[test]
    fn what_is_past_the_largest_number_is_bounded_and_nan_stays() {
        let (a, panel) = ([1.0f32, f32::NAN, -1.0], [f32::MAX; PANEL]);
        for on in Present::all() {
            let mut c = [0.0f32; 3 * PANEL];
            let [m, n, k] = [3, PANEL, 1];
            f32::product(
                on,
                Product {
                    shape: [m, n, k],
                    alpha: 2.0,
                    a: Left { data: &a, row: 1, col: 1 },
                    b: Right {
                        data: &panel,
                        row: PANEL,
                        panel: PANEL,
                    },
                    c: &mut c,
                    ldc: PANEL,
                    store: Store::Bounded,
                },
            );
            assert!(c[..PANEL].iter().all(|x| *x == f32::MAX), "{}", on.isa());
            assert!(c[PANEL..2 * PANEL].iter().all(|x| x.is_nan()), "{}", on.isa());
            assert!(c[2 * PANEL..].iter().all(|x| *x == -f32::MAX), "{}", on.isa());
        }
    }

    #[test]
    fn columns_of_a_panel_are_rows_and_then_zeros() {
        for (count, width) in [(1, 3), (31, 17), (32, 48), (0, 2)] {
            let ld = padded(width) + 1;
            let rows: Vec<f32> = (0..count * ld).map(|x| x as f32).collect();
            let mut panel = vec![f32::NAN; width * PANEL];
            let wide: Vec<f64> = rows.iter().map(|x| f64::from(*x)).collect();
            for on in Present::all() {
                let mut of_wide = vec![f64::NAN; width * PANEL];
                f32::pack_columns(on, &rows, ld, [count, width], &mut panel);
                f64::pack_columns(on, &wide, ld, [count, width], &mut of_wide);
                for (at, x) in panel.iter().enumerate() {
                    let (p, j) = (at / PANEL, at % PANEL);
                    assert_eq!(*x, if j < count { rows[j * ld + p] } else { 0.0 }, "{}: {p}, {j}", on.isa());
                    assert_eq!(f64::from(*x), of_wide[at], "{}: {p}, {j}", on.isa());
                }
            }
        }
    }
}
