//! What one item packs: keys and values once, as its products read them, and each block of queries.

use super::Inputs;
use super::driver::{Item, Shape};
use super::tile::{Scratch, Tiles};
use crate::kernels::{PANEL, Present, Right, fetch_ahead};
use crate::real::{Element, Real};
use crate::rotate::{Side, Turn};
use crate::view::View;

impl<R: Real> Tiles<'_, '_, '_, R> {
    /// Keys (rotated) and values of an item, widened, and packed as the products of a forward pass read them, and of an adjoint if it is one.
    pub fn pack_keys<T: Element<Real = R>>(&self, item: Item, inputs: &Inputs<'_, T>, adjoint: bool, scratch: &mut Scratch<R>) {
        let Shape {
            k_len,
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let (ld, rows_too) = (self.strides(), self.reads_keys());
        let wide = |width: usize| ld.k_len * width.next_multiple_of(PANEL);
        scratch.kt.grow(item.kv_heads * ld.k_len * ld.d);
        scratch.v.grow(item.kv_heads * wide(ld.dv));
        scratch.staged.grow(PANEL * ld.d.max(ld.dv));
        if rows_too {
            scratch.k.zeros(item.kv_heads * ld.k_len * ld.d);
        }
        if adjoint {
            scratch.vt.grow(item.kv_heads * ld.k_len * ld.dv);
            scratch.kp.grow(item.kv_heads * wide(ld.d));
        }
        let panel = ld.k_len * PANEL;
        for (g, k0) in (0..item.kv_heads).flat_map(|g| (0..k_len).step_by(PANEL).map(move |k0| (g, k0))) {
            let count = PANEL.min(k_len - k0);
            for (j, row) in scratch.staged.chunks_exact_mut(ld.d).take(count).enumerate() {
                fetch(inputs.k, [item.batch, item.kv0 + g, k0 + j]);
                load(inputs.k.row([item.batch, item.kv0 + g, k0 + j, 0]), row);
            }
            let staged = &mut scratch.staged[..count * ld.d];
            self.turn::<T>(Side::Key, Turn::Forward, [item.batch, item.kv0 + g, k0], staged);
            if rows_too {
                for (j, row) in staged.chunks_exact(ld.d).enumerate() {
                    scratch.k[(g * ld.k_len + k0 + j) * ld.d..][..head_dim].copy_from_slice(&row[..head_dim]);
                }
            }
            R::pack_columns(
                Present::current(),
                &scratch.staged,
                ld.d,
                [count, head_dim],
                &mut scratch.kt[(g * ld.k_len + k0) * ld.d..],
            );
            if adjoint {
                let rows = &mut scratch.kp[g * wide(ld.d) + k0 * PANEL..];
                R::pack_rows(&scratch.staged, ld.d, [count, head_dim], rows, panel);
            }
            for (j, row) in scratch.staged.chunks_exact_mut(ld.dv).take(count).enumerate() {
                fetch(inputs.v, [item.batch, item.kv0 + g, k0 + j]);
                load(inputs.v.row([item.batch, item.kv0 + g, k0 + j, 0]), row);
            }
            let rows = &mut scratch.v[g * wide(ld.dv) + k0 * PANEL..];
            R::pack_rows(&scratch.staged, ld.dv, [count, value_dim], rows, panel);
            if adjoint {
                R::pack_columns(
                    Present::current(),
                    &scratch.staged,
                    ld.dv,
                    [count, value_dim],
                    &mut scratch.vt[(g * ld.k_len + k0) * ld.dv..],
                );
            }
        }
    }

    /// Keys from k0 on as columns, of panels of padded head_dim (values likewise, of padded value_dim): what queries are multiplied by.
    pub fn columns<'s>(&self, packed: &'s [R], width: usize, g: usize, k0: usize) -> Right<'s, R> {
        Right {
            data: &packed[(g * self.strides().k_len + k0) * width..],
            row: PANEL,
            panel: width * PANEL,
        }
    }

    /// Keys or values from k0 on as rows: what weights and their gradients are multiplied by.
    pub fn rows_of<'s>(&self, packed: &'s [R], width: usize, g: usize, k0: usize) -> Right<'s, R> {
        let k_len = self.strides().k_len;
        Right {
            data: &packed[g * k_len * width.next_multiple_of(PANEL) + k0 * PANEL..],
            row: PANEL,
            panel: k_len * PANEL,
        }
    }

    /// Queries (rotated, times their temperature) of a block of rows, widened.
    pub fn pack_queries<T: Element<Real = R>>(&self, item: Item, q: View<'_, T, 4>, q0: usize, rows: usize, scratch: &mut Scratch<R>) {
        let ld = self.strides();
        scratch.q.zeros(item.heads * ld.rows * ld.d);
        for h in 0..item.heads {
            let packed = &mut scratch.q[h * ld.rows * ld.d..][..rows * ld.d];
            for (i, row) in packed.chunks_exact_mut(ld.d).enumerate() {
                fetch(q, [item.batch, item.head0 + h, q0 + i]);
                load(q.row([item.batch, item.head0 + h, q0 + i, 0]), &mut row[..self.shape.head_dim]);
            }
            self.turn::<T>(Side::Query, Turn::Forward, [item.batch, item.head0 + h, q0], packed);
            self.sharpen(item.batch, q0, packed);
        }
    }

    /// Multiplies packed queries from a token on, or their gradients, by their temperatures.
    pub fn sharpen(&self, batch: usize, token: usize, packed: &mut [R]) {
        let Some(temperature) = self.temperature else { return };
        for (i, row) in packed.chunks_exact_mut(self.strides().d).enumerate() {
            if let Some(position) = self.call.q_at().get(0, batch, token + i) {
                let factor = R::of(temperature.factor(position));
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }

    /// Turns packed rows of one head, of numbers that are stored as `T`, whose tokens follow each other: [batch, head, first token].
    pub fn turn<T: Element<Real = R>>(&self, side: Side, turn: Turn, place: [usize; 3], packed: &mut [R]) {
        if let Some(pair) = self.call.rotations().first() {
            pair.side(side)
                .turn_rows::<T>(turn, place, self.shape.head_dim, self.strides().d, packed);
        }
    }
}

/// Asks for a row of the head that is loaded soon.
#[inline]
pub(super) fn fetch<T: Element>(x: View<'_, T, 4>, [batch, head, token]: [usize; 3]) {
    const AHEAD: usize = 16;
    if token + AHEAD < x.shape()[2] {
        fetch_ahead(x.row([batch, head, token + AHEAD, 0]));
    }
}

/// A row to arithmetic precision.
#[inline]
pub(super) fn load<T: Element>(from: &[T], to: &mut [T::Real]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
}

/// A row to storage precision.
#[inline]
pub(super) fn store<T: Element>(from: &[T::Real], to: &mut [T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = T::narrow(*from));
}
