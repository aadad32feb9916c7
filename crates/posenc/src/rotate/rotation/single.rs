//! Pairs one at a time, where kernels do not turn them: an inverse that divides, and numbers of the arithmetic's own type that are rounded as if they were stored in half precision
//! ([`Rounding`]).

use super::{Rotation, Turn};
use crate::kernels;
use crate::real::{Element, Real};
use crate::reference::rotary::{pair, written};
use crate::rotate::{Pairing, Rounding};

impl<R: Real> Rotation<R> {
    /// Rows of `T` are rounded on the way, and not only when they are stored. Numbers of the arithmetic's own type are rounded by each of its steps as they are.
    #[inline(always)]
    pub(super) fn rounds<T: Element<Real = R>>(&self) -> bool {
        self.rounding != Rounding::Once && T::EXACT_INTEGERS != R::EXACT_INTEGERS
    }

    /// Whether this turn divides each pair by its determinant c² + s². An inverse is the transpose alone where all determinants are 1; where tables have a factor, tokens with a position and
    /// tokens without one have others, and rounded tables are no rotation at all.
    #[inline(always)]
    pub(super) fn divides<T: Element<Real = R>>(&self, turn: Turn) -> bool {
        turn == Turn::Inverse && (self.factor != Some(1.0) || self.rounds::<T>())
    }

    /// Turns the columns of a row, by these tables as `T` holds them; with [`Rounding::EachStep`] both products and their sum are rounded to `T` too.
    pub(super) fn turn_singly<T: Element<Real = R>, E: Element<Real = R>>(&self, turn: Turn, cos: &[R], sin: &[R], row: &mut [E]) {
        if self.pairing == Pairing::InterleavedToHalves {
            // No pair lies where it came from.
            return kernels::with_copy(row, |before, row| self.turn_each::<T, E>(turn, cos, sin, row, |_, i| before[i]));
        }
        self.turn_each::<T, E>(turn, cos, sin, row, |row, i| row[i]);
    }

    #[inline(always)]
    fn turn_each<T: Element<Real = R>, E: Element<Real = R>>(
        &self,
        turn: Turn,
        cos: &[R],
        sin: &[R],
        row: &mut [E],
        before: impl Fn(&[E], usize) -> E,
    ) {
        let (rounds, divides, r) = (self.rounds::<T>(), self.divides::<T>(turn), row.len());
        let stored = |x: R| if rounds { T::narrow(x).widen() } else { x };
        let step = |x: R| if self.rounding == Rounding::EachStep { stored(x) } else { x };
        for i in 0..self.pairs {
            let (read, write) = (pair(i, r, self.pairing), written(i, r, self.pairing));
            let (c, s) = (stored(cos[i]), stored(sin[i]));
            let ((a, b), (to_a, to_b), s) = match turn {
                Turn::Forward => (read, write, s),
                Turn::Adjoint | Turn::Inverse => (write, read, -s),
            };
            let (x, y) = (before(row, a).widen(), before(row, b).widen());
            let (x, y) = if divides {
                // In f64: the squares of f32 numbers are exact there, and do not vanish.
                let [x, y, c, s] = [x, y, c, s].map(R::to_f64);
                let determinant = c * c + s * s;
                let scale = if determinant == 0.0 { 0.0 } else { 1.0 / determinant };
                (R::of((x * c - y * s) * scale), R::of((x * s + y * c) * scale))
            } else {
                (step(step(x * c) - step(y * s)), step(step(x * s) + step(y * c)))
            };
            (row[to_a], row[to_b]) = (E::narrow(x), E::narrow(y));
        }
    }
}
