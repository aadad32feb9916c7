//! The innermost loop: pairs of one row.

use super::even_odd;
use crate::kernels::Vectors;
use crate::real::Element;
use fearless_simd::Simd;

/// Turns pairs by staged tables. They lie as neighbours (`true`) or as two halves, `apart` from each other, where they are read and where they are written.
///
/// # Safety
/// `n` pairs can be read at `from` and written at `to`, and twice as many numbers read at `by`. The first two are the same and the two orders too, or they share no memory.
#[inline(always)]
pub(super) unsafe fn pairs<S: Simd, T: Element, const READ: bool, const WRITE: bool, const STEPS: bool>(
    simd: S,
    n: usize,
    apart: usize,
    by: *const T::Real,
    from: *const T,
    to: *mut T,
) {
    let lanes = <T::Real as Vectors>::LANES;
    // SAFETY: of each slice, the caller's: pair i has its numbers at 2i and 2i + 1, or at i and apart + i.
    let (read, write, table) = unsafe {
        (
            #[inline(always)]
            |at: usize, count: usize| std::slice::from_raw_parts(from.add(at), count),
            #[inline(always)]
            |at: usize, count: usize| std::slice::from_raw_parts_mut(to.add(at), count),
            #[inline(always)]
            |at: usize| <T::Real as Element>::load(simd, std::slice::from_raw_parts(by.add(at), lanes)),
        )
    };
    let mut i = 0;
    while i + 2 * lanes <= n {
        let by = [0, 1, 2, 3].map(
            #[inline(always)]
            |j| table(2 * i + j * lanes),
        );
        let ([x0, x1], [y0, y1]) = if READ {
            let [x0, y0] = T::load_split(simd, read(2 * i, 2 * lanes));
            let [x1, y1] = T::load_split(simd, read(2 * i + 2 * lanes, 2 * lanes));
            ([x0, x1], [y0, y1])
        } else if even_odd::<T>(READ, WRITE) {
            (
                T::load_split(simd, read(i, 2 * lanes)),
                T::load_split(simd, read(apart + i, 2 * lanes)),
            )
        } else {
            (
                [T::load(simd, read(i, lanes)), T::load(simd, read(i + lanes, lanes))],
                [T::load(simd, read(apart + i, lanes)), T::load(simd, read(apart + i + lanes, lanes))],
            )
        };
        let (x0, y0) = turned::<_, T, STEPS>(simd, by[0], by[2], x0, y0);
        let (x1, y1) = turned::<_, T, STEPS>(simd, by[1], by[3], x1, y1);
        if WRITE {
            T::store_merged(simd, [x0, y0], write(2 * i, 2 * lanes));
            T::store_merged(simd, [x1, y1], write(2 * i + 2 * lanes, 2 * lanes));
        } else if even_odd::<T>(READ, WRITE) {
            T::store_merged(simd, [x0, x1], write(i, 2 * lanes));
            T::store_merged(simd, [y0, y1], write(apart + i, 2 * lanes));
        } else {
            T::store(simd, x0, write(i, lanes));
            T::store(simd, x1, write(i + lanes, lanes));
            T::store(simd, y0, write(apart + i, lanes));
            T::store(simd, y1, write(apart + i + lanes, lanes));
        }
        i += 2 * lanes;
    }
    if i + lanes <= n {
        let (c, s) = (table(2 * i), table(2 * i + lanes));
        let [x, y] = if READ {
            T::load_split(simd, read(2 * i, 2 * lanes))
        } else {
            [T::load(simd, read(i, lanes)), T::load(simd, read(apart + i, lanes))]
        };
        let (x, y) = turned::<_, T, STEPS>(simd, c, s, x, y);
        if WRITE {
            T::store_merged(simd, [x, y], write(2 * i, 2 * lanes));
        } else {
            T::store(simd, x, write(i, lanes));
            T::store(simd, y, write(apart + i, lanes));
        }
        i += lanes;
    }
    if i < n {
        // SAFETY: as above; `by` has the tables of these pairs at its end.
        unsafe { pairs_left::<T, READ, WRITE, STEPS>(i..n, apart, by, from, to) };
    }
}

/// The last pairs of a row, fewer than a vector has.
///
/// # Safety
/// As [`pairs`].
#[inline(never)]
unsafe fn pairs_left<T: Element, const READ: bool, const WRITE: bool, const STEPS: bool>(
    left: std::ops::Range<usize>,
    apart: usize,
    by: *const T::Real,
    from: *const T,
    to: *mut T,
) {
    let (count, n) = (left.len(), left.end);
    for (j, i) in left.enumerate() {
        let at = |neighbours: bool| if neighbours { (2 * i, 2 * i + 1) } else { (i, apart + i) };
        let ((from_x, from_y), (to_x, to_y)) = (at(READ), at(WRITE));
        let step = |x: T::Real| if STEPS { T::narrow(x).widen() } else { x };
        // SAFETY: the caller's.
        unsafe {
            let (c, s) = (*by.add(2 * n - 2 * count + j), *by.add(2 * n - count + j));
            let (x, y) = ((*from.add(from_x)).widen(), (*from.add(from_y)).widen());
            *to.add(to_x) = T::narrow(step(x * c) - step(y * s));
            *to.add(to_y) = T::narrow(step(x * s) + step(y * c));
        }
    }
}

/// The transpose has sines of the other sign: x·c − y·(−s) is x·c + y·s, to the bit.
#[inline(always)]
fn turned<S: Simd, T: Element, const STEPS: bool>(
    simd: S,
    c: Wide<S, T>,
    s: Wide<S, T>,
    x: Wide<S, T>,
    y: Wide<S, T>,
) -> (Wide<S, T>, Wide<S, T>) {
    let [xc, ys, xs, yc] = [x * c, y * s, x * s, y * c].map(
        #[inline(always)]
        |x| if STEPS { T::round_lanes(simd, x) } else { x },
    );
    (xc - ys, xs + yc)
}

/// Numbers that are stored as `T`, in a vector.
type Wide<S, T> = <<T as Element>::Real as Vectors>::Vector<S>;
