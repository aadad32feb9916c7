//! The tiles of one call: what is packed once per item, and how the scores of a tile come about. Forward and adjoint compute them by the same code.

use super::driver::{Item, Shape};
use super::mask::ResolvedMask;
use super::{Attention, Inputs, Mask, Temperature};
use crate::call::Call;
use crate::dropout::{Dropout, Mode};
use crate::error::Result;
use crate::kernels::{Left, Present, RowSum, padded, product};
use crate::memory;
use crate::real::{Element, Real};
use crate::rotate::{Side, Turn};
use crate::term::{Block, BlockMut, Granularity, Place, Reach, ScoreTerm, Tile};
use crate::view::View;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a tile: query vectors that meet a block of keys together.
const ROWS: usize = 64;
/// Columns of a tile: a tile of f32 scores then takes 32 KiB.
const COLS: usize = 128;
/// Rows of a tile that spans all keys.
const WHOLE_ROWS: usize = 16;

/// One call, checked, with its tile sizes.
pub(super) struct Tiles<'a, 'p, 'm, R: Real> {
    pub call: &'a Call<'p, R>,
    pub shape: Shape,
    pub scale: f64,
    pub softcap: Option<f64>,
    temperature: Option<Temperature>,
    pub mask: ResolvedMask<'m, R>,
    pub dropout: Option<Dropout>,
    granularity: Granularity,
    rows: usize,
    cols: usize,
}

/// Packed buffers of one thread. Rows are padded to the vector width; each is described where it is filled.
#[derive(Debug, Default)]
pub(super) struct Scratch<R> {
    /// Rotated keys `[kv_heads, k_len, head_dim]`, and transposed `[kv_heads, head_dim, k_len]`.
    pub k: Vec<R>,
    pub kt: Vec<R>,
    /// Values `[kv_heads, k_len, value_dim]`, and transposed `[kv_heads, value_dim, k_len]` for the adjoint.
    pub v: Vec<R>,
    pub vt: Vec<R>,
    /// Rotated queries of a block of rows `[heads, rows, head_dim]`.
    pub q: Vec<R>,
    /// Scores, then weights, of a tile `[heads, rows, cols]`.
    pub s: Vec<R>,
    /// Scores before each term that reads them, and before the biases where scores are soft-capped.
    pub before: Vec<R>,
    pub capped: Vec<R>,
    /// Running maximum, sum and correction of each row `[heads, rows]`.
    pub max: Vec<R>,
    pub sum: Vec<R>,
    pub correction: Vec<R>,
    /// Outputs of a block of rows `[heads, rows, value_dim]`.
    pub o: Vec<R>,
    /// The adjoint's own: gradients of outputs, weights, queries, keys and values, row sums, weights after dropout.
    pub d_o: Vec<R>,
    pub ds: Vec<R>,
    pub dq: Vec<R>,
    pub dk: Vec<R>,
    pub dv: Vec<R>,
    pub delta: Vec<R>,
    pub sums: Vec<RowSum<R>>,
    pub kept: Vec<R>,
    /// One widened row.
    pub row: Vec<R>,
}

/// `n` zeros.
pub(super) fn zeros<R: Real>(buffer: &mut Vec<R>, n: usize) {
    buffer.clear();
    buffer.resize(n, R::ZERO);
}

/// Some `n` numbers, to be overwritten.
pub(super) fn grow<R: Real>(buffer: &mut Vec<R>, n: usize) {
    if buffer.len() < n {
        buffer.resize(n, R::ZERO);
    }
}

/// Room for as many numbers as the shape has.
pub(super) fn ask<T>(buffer: &mut Vec<T>, shape: [usize; 3]) -> Result<()> {
    memory::reserve("a buffer of attention's workspace", buffer, &shape).map(|_| ())
}

/// Distances in the packed buffers.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    /// Padded head_dim, value_dim and k_len.
    pub d: usize,
    pub dv: usize,
    pub k_len: usize,
    /// Rows of a block, padded columns of a tile.
    pub rows: usize,
    pub cols: usize,
}

/// Where a tile lies, by order.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub q0: usize,
    pub rows: usize,
    pub k0: usize,
    pub cols: usize,
}

impl<'a, 'p, 'm, R: Real> Tiles<'a, 'p, 'm, R> {
    pub fn new(
        attention: &Attention,
        call: &'a Call<'p, R>,
        shape: Shape,
        mask: &'m Mask<'m, R>,
        mode: Mode,
        whole_rows: bool,
        chunks: &'m mut Vec<usize>,
    ) -> Result<Self> {
        let mask = mask.resolve([shape.batch, shape.heads, shape.q_len, shape.k_len], attention, call.k_at(), chunks)?;
        let has = |g| call.terms().any(|t| t.needs().granularity == g);
        let all_heads = has(Granularity::AllHeads);
        let whole_rows = whole_rows || has(Granularity::WholeRows);
        Ok(Tiles {
            call,
            shape,
            scale: attention.scale_for(shape.head_dim),
            softcap: attention.softcap,
            temperature: attention.temperature,
            mask,
            dropout: mode.dropout(attention.dropout),
            granularity: if all_heads { Granularity::AllHeads } else { Granularity::Tile },
            rows: (if whole_rows || all_heads { WHOLE_ROWS } else { ROWS }).min(shape.q_len.max(1)),
            cols: if whole_rows {
                shape.k_len.max(1)
            } else {
                COLS.min(shape.k_len.max(1))
            },
        })
    }

    /// Key heads and query heads of an item of work.
    pub fn item_heads(&self) -> [usize; 2] {
        match self.granularity {
            Granularity::AllHeads => [self.shape.kv_heads, self.shape.heads],
            _ => [1, self.shape.group()],
        }
    }

    /// How many items of work there are. A tensor with that many heads is in memory.
    pub fn items(&self) -> usize {
        self.shape.batch * (self.shape.kv_heads / self.item_heads()[0])
    }

    /// Item `i`, in the order in which outputs and slots lie.
    pub fn item(&self, i: usize) -> Item {
        let [kv_heads, heads] = self.item_heads();
        let parts = self.shape.kv_heads / kv_heads;
        let (batch, part) = (i / parts, i % parts);
        Item {
            batch,
            kv0: part * kv_heads,
            kv_heads,
            head0: part * heads,
            heads,
        }
    }

    /// Memory for every buffer of one thread, asked for before anything is written: what follows allocates nothing.
    pub fn reserve(&self, scratch: &mut Scratch<R>, adjoint: bool) -> Result<()> {
        let ([kv, q], ld) = (self.item_heads(), self.strides());
        let (rows, plane) = ([q, ld.rows, 1], [q, ld.rows, ld.cols]);
        let (keys, values, queries, outputs) = ([kv, ld.k_len, ld.d], [kv, ld.k_len, ld.dv], [q, ld.rows, ld.d], [q, ld.rows, ld.dv]);
        let kept = [self.reading_terms(), q * ld.rows, ld.cols];
        let capped = if self.softcap.is_some() { plane } else { [0; 3] };
        for (buffer, shape) in [
            (&mut scratch.k, keys),
            (&mut scratch.kt, keys),
            (&mut scratch.v, values),
            (&mut scratch.q, queries),
            (&mut scratch.s, plane),
            (&mut scratch.max, rows),
            (&mut scratch.sum, rows),
            (&mut scratch.correction, rows),
            (&mut scratch.o, outputs),
        ] {
            ask(buffer, shape)?;
        }
        if !adjoint {
            return Ok(());
        }
        for (buffer, shape) in [
            (&mut scratch.vt, values),
            (&mut scratch.before, kept),
            (&mut scratch.capped, capped),
            (&mut scratch.d_o, outputs),
            (&mut scratch.ds, plane),
            (&mut scratch.dq, queries),
            (&mut scratch.dk, keys),
            (&mut scratch.dv, values),
            (&mut scratch.delta, rows),
            (&mut scratch.kept, [1, ld.rows, ld.cols]),
            (&mut scratch.row, [1, 1, ld.dv]),
        ] {
            ask(buffer, shape)?;
        }
        ask(&mut scratch.sums, rows)
    }

    pub fn strides(&self) -> Strides {
        Strides {
            d: padded(self.shape.head_dim),
            dv: padded(self.shape.value_dim),
            k_len: padded(self.shape.k_len),
            rows: self.rows,
            cols: padded(self.cols),
        }
    }

    /// Blocks of rows.
    pub fn row_blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<R> {
        let (q_len, rows) = (self.shape.q_len, self.rows);
        (0..q_len).step_by(rows).map(move |q0| (q0, rows.min(q_len - q0)))
    }

    /// The tiles of a block of rows: those that its rows can see by order.
    pub fn tiles_of(&self, batch: usize, q0: usize, rows: usize) -> impl Iterator<Item = Span> + use<R> {
        let visible = self.visible(batch, q0, rows);
        let cols = self.cols;
        // A tile that spans all keys does so whatever the mask; others begin at a multiple of the tile, so that packed rows stay aligned.
        let start = if cols >= self.shape.k_len { 0 } else { visible.start / cols * cols };
        let end = if cols >= self.shape.k_len && self.granularity_is_whole() {
            self.shape.k_len
        } else {
            visible.end
        };
        (start..end).step_by(cols).map(move |k0| Span {
            q0,
            rows,
            k0,
            cols: cols.min(end - k0),
        })
    }

    /// A term must see whole rows, or weights are wanted.
    fn granularity_is_whole(&self) -> bool {
        self.cols > COLS || self.call.terms().any(|t| t.needs().granularity == Granularity::WholeRows)
    }

    fn visible(&self, batch: usize, q0: usize, rows: usize) -> Range<usize> {
        let (first, last) = (self.mask.visible(batch, q0), self.mask.visible(batch, q0 + rows - 1));
        first.start.min(last.start)..first.end.max(last.end)
    }

    /// Keys (rotated) and values of an item, widened; `transposed_values` for the adjoint.
    pub fn pack_keys<T: Element<Real = R>>(&self, item: Item, inputs: &Inputs<'_, T>, transposed_values: bool, scratch: &mut Scratch<R>) {
        let Shape {
            k_len,
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let ld = self.strides();
        zeros(&mut scratch.k, item.kv_heads * ld.k_len * ld.d);
        zeros(&mut scratch.kt, item.kv_heads * ld.d * ld.k_len);
        zeros(&mut scratch.v, item.kv_heads * ld.k_len * ld.dv);
        if transposed_values {
            zeros(&mut scratch.vt, item.kv_heads * ld.dv * ld.k_len);
        }
        for g in 0..item.kv_heads {
            for j in 0..k_len {
                let row = &mut scratch.k[(g * ld.k_len + j) * ld.d..][..head_dim];
                load(inputs.k.row([item.batch, item.kv0 + g, j, 0]), row);
                self.turn::<T>(Side::Key, Turn::Forward, [item.batch, item.kv0 + g, j], row);
                for (p, x) in row.iter().enumerate() {
                    scratch.kt[(g * ld.d + p) * ld.k_len + j] = *x;
                }
                let row = &mut scratch.v[(g * ld.k_len + j) * ld.dv..][..value_dim];
                load(inputs.v.row([item.batch, item.kv0 + g, j, 0]), row);
                if transposed_values {
                    for (p, x) in row.iter().enumerate() {
                        scratch.vt[(g * ld.dv + p) * ld.k_len + j] = *x;
                    }
                }
            }
        }
    }

    /// Queries (rotated, times their temperature) of a block of rows, widened.
    pub fn pack_queries<T: Element<Real = R>>(&self, item: Item, q: View<'_, T, 4>, q0: usize, rows: usize, scratch: &mut Scratch<R>) {
        let ld = self.strides();
        zeros(&mut scratch.q, item.heads * ld.rows * ld.d);
        for h in 0..item.heads {
            for i in 0..rows {
                let row = &mut scratch.q[(h * ld.rows + i) * ld.d..][..self.shape.head_dim];
                load(q.row([item.batch, item.head0 + h, q0 + i, 0]), row);
                self.turn::<T>(Side::Query, Turn::Forward, [item.batch, item.head0 + h, q0 + i], row);
                self.sharpen(item.batch, q0 + i, row);
            }
        }
    }

    /// Multiplies a query, or its gradient, by its temperature.
    pub fn sharpen(&self, batch: usize, token: usize, row: &mut [R]) {
        if let Some(temperature) = self.temperature
            && let Some(position) = self.call.q_at().get(0, batch, token)
        {
            let factor = R::of(temperature.factor(position));
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// Turns a row of numbers that are stored as `T`: [batch, head, token].
    pub fn turn<T: Element<Real = R>>(&self, side: Side, turn: Turn, place: [usize; 3], row: &mut [R]) {
        if let Some(pair) = self.call.rotations().first() {
            pair.side(side).turn_head::<T>(turn, place, row);
        }
    }

    /// The place of a head's part of a tile.
    pub fn place(&self, item: Item, h: usize, span: Span) -> Place<'a> {
        Place {
            batch: item.batch,
            head: item.head0 + h,
            kv_head: item.kv0 + h / self.shape.group(),
            q0: span.q0,
            k0: span.k0,
            q_at: self.call.q_at().at(0, item.batch, span.q0, span.rows),
            k_at: self.call.k_at().at(0, item.batch, span.k0, span.cols),
            scale: self.scale,
        }
    }

    /// Some term rules out every pair of the tile.
    pub fn unreachable(&self, item: Item, span: Span) -> bool {
        (0..item.heads).all(|h| {
            let at = self.place(item, h, span);
            self.call.terms().any(|t| t.reach(&at, span.rows, span.cols) == Reach::None)
        })
    }

    /// Terms of the same tile, each with its index among all terms.
    pub fn content(&self) -> impl DoubleEndedIterator<Item = (usize, &Arc<dyn ScoreTerm<R> + 'p>)> {
        self.call.content().iter().enumerate()
    }

    pub fn bias(&self) -> impl DoubleEndedIterator<Item = (usize, &Arc<dyn ScoreTerm<R> + 'p>)> {
        let first = self.call.content().len();
        self.call.bias().iter().enumerate().map(move |(i, t)| (first + i, t))
    }

    /// The query rows of a head (of all heads, as planes) as a block.
    pub fn q_block<'s>(&self, q: &'s [R], h: usize, span: Span) -> Block<'s, R> {
        let ld = self.strides();
        let plane = ld.rows * ld.d;
        Block {
            planes: 1,
            rows: span.rows,
            cols: self.shape.head_dim,
            ld: ld.d,
            plane,
            data: &q[h * plane..],
        }
    }

    /// The key rows of a head's key head as a block.
    pub fn k_block<'s>(&self, k: &'s [R], h: usize, span: Span) -> Block<'s, R> {
        let ld = self.strides();
        let plane = ld.k_len * ld.d;
        let start = h / self.shape.group() * plane + span.k0 * ld.d;
        Block {
            planes: 1,
            rows: span.cols,
            cols: self.shape.head_dim,
            ld: ld.d,
            plane,
            data: &k[start..],
        }
    }

    /// The scores of a tile for every head of the item: products, content, soft cap, biases, mask. Padding columns are −∞. `keep` for the adjoint: copies of what
    /// its terms read.
    pub fn scores(&self, item: Item, span: Span, keep: bool, scratch: &mut Scratch<R>) {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        grow(&mut scratch.s, item.heads * plane);
        let cols = padded(span.cols);
        for h in 0..item.heads {
            let g = h / self.shape.group();
            let q = Left {
                data: &scratch.q[h * ld.rows * ld.d..],
                row: ld.d,
                col: 1,
            };
            let kt = &scratch.kt[g * ld.d * ld.k_len + span.k0..];
            let s = &mut scratch.s[h * plane..];
            product(
                Present::current(),
                [span.rows, cols, self.shape.head_dim],
                R::of(self.scale),
                q,
                kt,
                ld.k_len,
                s,
                ld.cols,
                false,
            );
            if !self.call.content().is_empty() {
                // Past what a number holds, a product and a term of opposite signs would be NaN.
                s[..span.rows * ld.cols].iter_mut().for_each(|s| *s = bounded(*s));
            }
        }
        if keep {
            grow(&mut scratch.before, self.reading_terms() * item.heads * plane);
        }
        let mut kept = 0;
        for (_, term) in self.content() {
            self.add_term(item, span, term.as_ref(), keep, &mut kept, scratch);
        }
        if let Some(cap) = self.softcap {
            let cap = R::of(cap);
            for h in 0..item.heads {
                for i in 0..span.rows {
                    for s in &mut scratch.s[h * plane + i * ld.cols..][..span.cols] {
                        // A pair that a term or the mask has blocked stays blocked.
                        *s = if *s == R::NEG_INFINITY { *s } else { cap * (*s / cap).tanh() };
                    }
                }
            }
            if keep {
                scratch.capped.clear();
                scratch.capped.extend_from_slice(&scratch.s[..item.heads * plane]);
            }
        }
        for (_, term) in self.bias() {
            self.add_term(item, span, term.as_ref(), keep, &mut kept, scratch);
        }
        for h in 0..item.heads {
            for i in 0..span.rows {
                let row = &mut scratch.s[h * plane + i * ld.cols..][..cols];
                let (row, padding) = row.split_at_mut(span.cols);
                self.mask.add(item.batch, item.head0 + h, span.q0 + i, span.k0, row);
                self.mask.block(item.batch, item.head0 + h, span.q0 + i, span.k0, row);
                padding.fill(R::NEG_INFINITY);
            }
        }
    }

    /// Writes −∞ where pairs of the tile are blocked.
    fn block(&self, item: Item, span: Span, s: &mut [R]) {
        let ld = self.strides();
        for h in 0..item.heads {
            for i in 0..span.rows {
                let row = &mut s[(h * ld.rows + i) * ld.cols..][..span.cols];
                self.mask.block(item.batch, item.head0 + h, span.q0 + i, span.k0, row);
            }
        }
    }

    /// Terms whose adjoint reads the scores before them.
    pub fn reading_terms(&self) -> usize {
        self.call.terms().filter(|t| t.needs().reads_scores).count()
    }

    fn add_term(&self, item: Item, span: Span, term: &(dyn ScoreTerm<R> + 'p), keep: bool, kept: &mut usize, scratch: &mut Scratch<R>) {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        let size = item.heads * plane;
        let needs = term.needs();
        if needs.reads_scores {
            // Such a term must not take a blocked pair's score for one.
            self.block(item, span, &mut scratch.s);
        }
        if keep && needs.reads_scores {
            scratch.before[*kept * size..][..size].copy_from_slice(&scratch.s[..size]);
            *kept += 1;
        }
        let shape = (span.rows, span.cols, ld.cols);
        if needs.granularity == Granularity::AllHeads {
            let q = Block {
                planes: item.heads,
                ..self.q_block(&scratch.q, 0, span)
            };
            let k = Block {
                planes: item.kv_heads,
                ..self.k_block(&scratch.k, 0, span)
            };
            let (rows, cols, ld) = shape;
            let mut s = BlockMut {
                planes: item.heads,
                rows,
                cols,
                ld,
                plane,
                data: &mut scratch.s,
            };
            term.add(&Tile::new(self.place(item, 0, span), q, k), &mut s);
        } else {
            for h in 0..item.heads {
                let (q, k) = (self.q_block(&scratch.q, h, span), self.k_block(&scratch.k, h, span));
                let mut s = BlockMut::new(&mut scratch.s[h * plane..(h + 1) * plane], shape.0, shape.1, shape.2);
                term.add(&Tile::new(self.place(item, h, span), q, k), &mut s);
            }
        }
    }

    /// Multiplies weights by their dropout factors.
    pub fn drop_out(&self, item: Item, h: usize, span: Span, p: &mut [R]) {
        let Some(dropout) = self.dropout else { return };
        let ld = self.strides().cols;
        for i in 0..span.rows {
            let row = dropout.row(item.batch, item.head0 + h, span.q0 + i);
            for (j, p) in p[i * ld..][..span.cols].iter_mut().enumerate() {
                *p *= R::of(dropout.factor(row, span.k0 + j));
            }
        }
    }
}

/// The largest number of its sign for an infinity.
#[inline]
fn bounded<R: Real>(s: R) -> R {
    if s > R::MAX {
        R::MAX
    } else if s < -R::MAX {
        -R::MAX
    } else {
        s
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
