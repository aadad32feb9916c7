//! Packed memory: buffers whose rows begin where lines of the cache do, and matrices as panels of columns.

use super::PANEL;
use crate::error::Result;
use crate::memory;
use crate::real::Real;
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
pub(super) fn pack_columns<R: Real>(rows: &[R], ld: usize, [count, width]: [usize; 2], panel: &mut [R]) {
    assert!(count <= PANEL);
    let panel = &mut panel[..width * PANEL];
    if count < PANEL {
        panel.fill(R::ZERO);
    }
    // Squares of a line of numbers: what is read and what is written stay in the first-level cache.
    for p0 in (0..width).step_by(OF_LINE) {
        let some = OF_LINE.min(width - p0);
        for j in 0..count {
            let row = &rows[j * ld + p0..][..some];
            for (p, x) in row.iter().enumerate() {
                panel[(p0 + p) * PANEL + j] = *x;
            }
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
