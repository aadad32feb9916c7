//! A few queries behind many keys: keys and values are read once, where they lie. Rows that must be rotated, or that are no whole number of vectors, are staged a block at a time.

use super::driver::Item;
use super::pack::load;
use super::tile::{Scratch, Span, Tiles};
use crate::kernels::{FewScores, FewSums, LANES, Lines, Lying, PANEL, Present};
use crate::real::{Element, Real};
use crate::rotate::{Side, Turn};
use crate::view::View;
use std::ops::Range;

impl<R: Real> Tiles<'_, '_, '_, R> {
    /// The scores of a tile for all heads of the item. Always false: their largest are not known.
    pub fn unpacked_scores<T: Element<Real = R>>(
        &self,
        item: Item,
        k: View<'_, T, 4>,
        heads: Range<usize>,
        span: Span,
        scratch: &mut Scratch<R>,
    ) -> bool {
        let (ld, d) = (self.strides(), self.shape.head_dim);
        let plane = ld.rows * ld.cols;
        scratch.s.grow(item.heads * plane);
        let (alpha, on) = (R::of(self.scale), Present::current());
        let shape = |keys: usize, width: usize| [heads.len(), span.rows, keys, width];
        let (q, q_steps, s_steps) = (&scratch.q[heads.start * ld.rows * ld.d..], [ld.rows * ld.d, ld.d], [plane, ld.cols]);
        let s = &mut scratch.s[heads.start * plane..];
        if d.is_multiple_of(LANES) && self.call.rotations().is_empty() {
            let k = lying(k, item, span.k0);
            let shape = shape(span.cols, d);
            T::few_scores(
                on,
                FewScores {
                    shape,
                    alpha,
                    q,
                    q_steps,
                    k,
                    s,
                    s_steps,
                },
            );
        } else {
            scratch.staged.grow(PANEL * ld.d.max(ld.dv));
            for j0 in (0..span.cols).step_by(PANEL) {
                let keys = PANEL.min(span.cols - j0);
                let staged = &mut scratch.staged[..keys * ld.d];
                stage(k, item, span.k0 + j0, ld.d, staged);
                self.turn::<T>(Side::Key, Turn::Forward, [item.batch, item.kv0, span.k0 + j0], staged);
                let k = Lying {
                    data: &scratch.staged,
                    row: ld.d,
                };
                let (shape, s) = (shape(keys, ld.d), &mut s[j0..]);
                R::few_scores(
                    on,
                    FewScores {
                        shape,
                        alpha,
                        q,
                        q_steps,
                        k,
                        s,
                        s_steps,
                    },
                );
            }
        }
        self.finish(item, heads, span, false, scratch)
    }

    /// What a head's weights make of the values of a tile, added to its rows of `o`.
    pub fn unpacked_sums<T: Element<Real = R>>(
        &self,
        item: Item,
        v: View<'_, T, 4>,
        p: &[R],
        staged: &mut Lines<R>,
        span: Span,
        o: &mut [R],
    ) {
        let (ld, on) = (self.strides(), Present::current());
        let (p_row, o_row) = (ld.cols, ld.dv);
        if self.shape.value_dim.is_multiple_of(LANES) {
            let v = lying(v, item, span.k0);
            let shape = [span.rows, span.cols, self.shape.value_dim];
            return T::few_sums(
                on,
                FewSums {
                    shape,
                    p,
                    p_row,
                    v,
                    o,
                    o_row,
                },
            );
        }
        staged.grow(PANEL * ld.d.max(ld.dv));
        for j0 in (0..span.cols).step_by(PANEL) {
            let keys = PANEL.min(span.cols - j0);
            stage(v, item, span.k0 + j0, ld.dv, &mut staged[..keys * ld.dv]);
            let v = Lying { data: staged, row: ld.dv };
            let (shape, p) = ([span.rows, keys, ld.dv], &p[j0..]);
            R::few_sums(
                on,
                FewSums {
                    shape,
                    p,
                    p_row,
                    v,
                    o: &mut *o,
                    o_row,
                },
            );
        }
    }
}

/// The rows of an item's key head from a token on.
fn lying<'a, T: Element>(x: View<'a, T, 4>, item: Item, token: usize) -> Lying<'a, T> {
    let (data, _, [batch, head, row, _]) = x.into_parts();
    Lying {
        data: &data[item.batch * batch + item.kv0 * head + token * row..],
        row,
    }
}

/// Some rows of an item's key head, widened and padded with zeros to `ld` numbers.
fn stage<T: Element>(x: View<'_, T, 4>, item: Item, first: usize, ld: usize, staged: &mut [T::Real]) {
    let width = x.shape()[3];
    for (j, row) in staged.chunks_exact_mut(ld).enumerate() {
        let (row, padding) = row.split_at_mut(width);
        load(x.row([item.batch, item.kv0, first + j, 0]), row);
        padding.fill(T::Real::ZERO);
    }
}
