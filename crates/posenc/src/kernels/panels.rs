//! Packed memory: buffers whose rows begin where lines of the cache do, and matrices as panels of columns.

use super::{PANEL, Present, vectors};
use crate::error::Result;
use crate::memory;
use crate::real::Real;
use fearless_simd::{Simd, prelude::*};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Numbers of a [`Line`].
const OF_LINE: usize = 16;

/// Numbers that begin at a line of the cache: large vectors of the system's allocator do not.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line<R>([R; OF_LINE]);

/// A buffer that is kept from call to call and begins at a line of the cache.
pub(crate) struct Lines<R>(Vec<Line<R>>);

impl<R> Default for Lines<R> {
    fn default() -> Self {
        Lines(Vec::new())
    }
}

impl<R> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.0.len())
    }
}

impl<R> Deref for Lines<R> {
    type Target = [R];
    #[inline]
    fn deref(&self) -> &[R] {
        // SAFETY: each line is an array of so many numbers, without padding: a number's size times 16 is a multiple of 64 (see `grow`).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * OF_LINE) }
    }
}

impl<R> DerefMut for Lines<R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [R] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * OF_LINE) }
    }
}

impl<R: Real> Lines<R> {
    /// Room for as many numbers as the shape has.
    pub fn ask(&mut self, [a, b, c]: [usize; 3]) -> Result<()> {
        memory::reserve("a buffer of attention's workspace", &mut self.0, &[a, b, c.div_ceil(OF_LINE)]).map(|_| ())
    }

    /// Some `n` numbers, to be overwritten.
    pub fn grow(&mut self, n: usize) {
        const { assert!(size_of::<Line<R>>() == OF_LINE * size_of::<R>()) };
        let lines = n.div_ceil(OF_LINE);
        if self.0.len() < lines {
            self.0.resize(lines, Line([R::ZERO; OF_LINE]));
        }
    }

    /// `n` zeros.
    pub fn zeros(&mut self, n: usize) {
        self.grow(n);
        self[..n].fill(R::ZERO);
    }
}

/// Rows as the columns of one panel, `[width, PANEL]`: `count` rows of `width` numbers, `ld` apart; columns without a row are zeros.
pub(super) fn pack_columns<R: Real>(on: Present, rows: &[R], ld: usize, [count, width]: [usize; 2], panel: &mut [R]) {
    assert!(count <= PANEL);
    let panel = &mut panel[..width * PANEL];
    if count < PANEL {
        panel.fill(R::ZERO);
    }
    // Whole squares by vectors, the rest one by one.
    let [squares, whole] = [count, width].map(|n| n - n % R::LANES);
    vectors!(on, simd => turn_squares(simd, rows, ld, [squares, whole], panel));
    for j in 0..count {
        let done = if j < squares { whole } else { 0 };
        for (p, x) in rows[j * ld..][..width].iter().enumerate().skip(done) {
            panel[p * PANEL + j] = *x;
        }
    }
}

/// Squares of vectors, rows to columns. Interleaving the first half of a square with its second half rotates the bits of each number's place by one; as many rounds as a row's place has bits make of rows columns.
#[inline(always)]
fn turn_squares<S: Simd, R: Real>(simd: S, rows: &[R], ld: usize, [count, width]: [usize; 2], panel: &mut [R]) {
    let n = R::LANES;
    for (j, p) in (0..count).step_by(n).flat_map(|j| (0..width).step_by(n).map(move |p| (j, p))) {
        let mut square = [R::splat(simd, R::ZERO); OF_LINE];
        for i in 0..n {
            square[i] = R::load(simd, &rows[(j + i) * ld + p..]);
        }
        for _ in 0..n.trailing_zeros() {
            let before = square;
            for i in 0..n / 2 {
                (square[2 * i], square[2 * i + 1]) = before[i].interleave(before[i + n / 2]);
            }
        }
        for i in 0..n {
            R::store(simd, square[i], &mut panel[(p + i) * PANEL + j..]);
        }
    }
}

/// Rows as rows of panels `[width / PANEL, .., PANEL]`, which lie `panel` apart: `count` rows of `width` numbers, `ld` apart; columns beyond are zeros.
pub(super) fn pack_rows<R: Real>(rows: &[R], ld: usize, [count, width]: [usize; 2], panels: &mut [R], panel: usize) {
    for (c, p0) in (0..width).step_by(PANEL).enumerate() {
        let some = PANEL.min(width - p0);
        for j in 0..count {
            let to = &mut panels[c * panel + j * PANEL..][..PANEL];
            let (to, beyond) = to.split_at_mut(some);
            to.copy_from_slice(&rows[j * ld + p0..][..some]);
            beyond.fill(R::ZERO);
        }
    }
}
