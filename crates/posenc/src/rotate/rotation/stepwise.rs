//! Rows in half precision, rounded as eager code rounds them: [`Rounding`].

use super::{Rotation, Turn};
use crate::real::{Element, Real};
use crate::reference::rotary::{pair, written};
use crate::rotate::Rounding;

impl<R: Real> Rotation<R> {
    /// Rows of `T` are rounded on the way, and not only when they are stored. Numbers of the arithmetic's own type are rounded by each of its steps as they are.
    #[inline(always)]
    pub(super) fn rounds<T: Element<Real = R>>(&self) -> bool {
        self.rounding != Rounding::Once && T::EXACT_INTEGERS != R::EXACT_INTEGERS
    }

    /// Turns the columns of a row by these tables as `T` holds them; with [`Rounding::EachStep`] both products and their sum are rounded to `T` too.
    pub(super) fn turn_stepwise<T: Element<Real = R>>(&self, turn: Turn, cos: &[R], sin: &[R], row: &mut [R]) {
        let stored = |x: R| T::narrow(x).widen();
        let step = |x: R| if self.rounding == Rounding::EachStep { stored(x) } else { x };
        let [cos, sin] = [cos, sin].map(|table| table.iter().map(|x| stored(*x)).collect::<Vec<R>>());
        if turn == Turn::Inverse {
            // Rounded tables are no rotation: each pair has a determinant near 1.
            return self.undo_row(&cos, &sin, row);
        }
        let (before, r) = (row.to_vec(), row.len());
        for i in 0..self.pairs {
            let (from, to) = (pair(i, r, self.pairing), written(i, r, self.pairing));
            let ((a, b), (to_a, to_b), s) = match turn {
                Turn::Forward => (from, to, sin[i]),
                Turn::Adjoint | Turn::Inverse => (to, from, -sin[i]),
            };
            let (x, y, c) = (before[a], before[b], cos[i]);
            row[to_a] = step(step(x * c) - step(y * s));
            row[to_b] = step(step(x * s) + step(y * c));
        }
    }
}
