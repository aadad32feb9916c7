//! The tiles of one call: what is packed once per item, and how the scores of a tile come about. Forward and adjoint compute them by the same code.

use super::driver::{Item, Shape};
use super::mask::ResolvedMask;
use super::{Attention, Mask, Temperature};
use crate::call::Call;
use crate::dropout::{Dropout, Mode};
use crate::error::Result;
use crate::kernels::{LANES, Left, Lines, Of, PANEL, Present, Product, RowSum, Store, padded};
use crate::memory;
use crate::positions::{At, AtIds, Positions};
use crate::real::Real;
use crate::term::{Block, BlockMut, Granularity, Place, Reach, ScoreTerm, Tile};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a tile: query vectors that meet a block of keys together. A multiple of the rows that a product keeps in registers.
const ROWS: usize = 96;
/// Columns of a tile: a tile of f32 scores then takes 96 KiB, and stays in the second-level cache. A multiple of [`PANEL`].
const COLS: usize = 256;
/// Columns of a tile of [`FEW`] rows: keys and values are each read in longer stretches.
const FEW_COLS: usize = 2048;
/// Queries per head up to which keys and values are read where they lie: packing them would cost more than their products.
const FEW: usize = 8;
/// Rows of a tile that spans all keys.
const WHOLE_ROWS: usize = 16;
/// Positions so near 0 that the distance of any two of them is a whole number.
const NEAR: u64 = 1 << 61;

/// What scores are computed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Outputs alone.
    Inference,
    /// Outputs and what their adjoint needs, or the adjoint itself.
    Training,
    /// The weights too: a tile then spans all keys.
    WithWeights,
}

/// One call, checked, with its tile sizes.
pub(super) struct Tiles<'a, 'p, 'm, R: Real> {
    pub call: &'a Call<'p, R>,
    pub shape: Shape,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub temperature: Option<Temperature>,
    pub mask: ResolvedMask<'m, R>,
    pub dropout: Option<Dropout>,
    granularity: Granularity,
    rows: usize,
    cols: usize,
    /// A term must see whole rows, or weights are wanted: a tile spans all keys.
    whole_rows: bool,
    /// The first positions of queries and keys, if these follow each other and the call's terms are biases that distances alone decide: each tile then asks for a line of them.
    by_distance: Option<[i64; 2]>,
    /// Keys and values are read where they lie: see `unpacked.rs`.
    pub unpacked: bool,
}

/// Packed buffers of one thread. Rows are padded to the vector width; each is described where it is filled.
#[derive(Debug, Default)]
pub(super) struct Scratch<R> {
    /// Rotated keys as rows `[kv_heads, k_len, head_dim]`, if a term reads them, and as columns of panels `[kv_heads, k_len / PANEL, head_dim, PANEL]`.
    pub k: Lines<R>,
    pub kt: Lines<R>,
    /// Values as rows of panels `[kv_heads, value_dim / PANEL, k_len, PANEL]`.
    pub v: Lines<R>,
    /// For the adjoint: values as columns and keys as rows of panels, likewise.
    pub vt: Lines<R>,
    pub kp: Lines<R>,
    /// As many rows as a panel has columns, widened and rotated.
    pub staged: Lines<R>,
    /// Rotated queries of a block of rows `[heads, rows, head_dim]`.
    pub q: Lines<R>,
    /// Scores, then weights, of a tile `[heads, rows, cols]`, each row's largest by lanes `[heads, rows, Vectors::LANES]`, and biases by distance `[rows + cols]`.
    pub s: Lines<R>,
    pub largest: Lines<R>,
    pub line: Lines<R>,
    /// Scores before each term that reads them, and before the biases where scores are soft-capped.
    pub before: Lines<R>,
    pub capped: Lines<R>,
    /// Running maximum and correction of each row `[heads, rows]`, and its sum by lanes `[heads, rows, Vectors::LANES]`.
    pub max: Lines<R>,
    pub sum: Lines<R>,
    pub correction: Lines<R>,
    /// Outputs of a block of rows `[heads, rows, value_dim]`.
    pub o: Lines<R>,
    /// The adjoint's own: gradients of outputs, weights, queries, keys and values, row sums, weights after dropout.
    pub d_o: Lines<R>,
    pub ds: Lines<R>,
    pub dq: Lines<R>,
    pub dk: Lines<R>,
    pub dv: Lines<R>,
    pub delta: Lines<R>,
    pub sums: Vec<RowSum<R>>,
    pub kept: Lines<R>,
    /// One widened row.
    pub row: Lines<R>,
}

impl<R: Real> Scratch<R> {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let Scratch {
            k,
            kt,
            v,
            vt,
            kp,
            staged,
            q,
            s,
            largest,
            line,
            before,
            capped,
            max,
            sum,
            correction,
            o,
            d_o,
            ds,
            dq,
            dk,
            dv,
            delta,
            sums,
            kept,
            row,
        } = self;
        let lines = [
            k, kt, v, vt, kp, staged, q, s, largest, line, before, capped, max, sum, correction, o, d_o, ds, dq, dk, dv, delta, kept, row,
        ];
        lines.iter().map(|buffer| size_of::<R>() * buffer.len()).sum::<usize>() + size_of_val(sums.as_slice())
    }
}

/// `n` zeros.
pub(super) fn zeros<R: Real>(buffer: &mut Vec<R>, n: usize) {
    buffer.clear();
    buffer.resize(n, R::ZERO);
}

/// Room for as many numbers as the shape has.
pub(super) fn ask<T>(buffer: &mut Vec<T>, shape: [usize; 3]) -> Result<()> {
    memory::reserve("a buffer of attention's workspace", buffer, &shape).map(|_| ())
}

/// Distances in the packed buffers.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    /// Padded head_dim and value_dim, and k_len as whole panels.
    pub d: usize,
    pub dv: usize,
    pub k_len: usize,
    /// Rows of a block, and what rows of a tile lie apart: not a power of two, or rows would share a few places of the cache.
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
        pass: Pass,
        chunks: &'m mut Vec<usize>,
    ) -> Result<Self> {
        let mask = mask.resolve([shape.batch, shape.heads, shape.q_len, shape.k_len], attention, call.k_at(), chunks)?;
        let has = |g| call.terms().any(|t| t.needs().granularity == g);
        let all_heads = has(Granularity::AllHeads);
        let whole_rows = pass == Pass::WithWeights || has(Granularity::WholeRows);
        // An adjoint computes the scores again, and those that it meets must be the same to the last bit: beside −1e9 that bit is 64.
        let unpacked = pass == Pass::Inference && shape.q_len <= FEW && !whole_rows && !all_heads && call.content().is_empty();
        let near = |at: &Positions| at.start().filter(|first| first.unsigned_abs() < NEAR);
        let biases = !unpacked && call.content().is_empty() && attention.softcap.is_none() && !call.bias().is_empty();
        let by_distance = biases
            && call
                .bias()
                .iter()
                .all(|term| term.needs().by_distance && !term.needs().reads_scores && term.needs().granularity == Granularity::Tile);
        let starts = near(call.q_at()).zip(near(call.k_at())).map(|(q, k)| [q, k]);
        Ok(Tiles {
            by_distance: starts.filter(|_| by_distance),
            unpacked,
            whole_rows,
            call,
            shape,
            scale: attention.scale_for(shape.head_dim),
            softcap: attention.softcap,
            temperature: attention.temperature,
            mask,
            dropout: mode.dropout(attention.dropout),
            granularity: if all_heads { Granularity::AllHeads } else { Granularity::Tile },
            rows: (if whole_rows || all_heads { WHOLE_ROWS } else { ROWS }).min(shape.q_len.max(1)),
            cols: match (whole_rows, unpacked) {
                (true, _) => shape.k_len,
                (_, true) => FEW_COLS.min(shape.k_len),
                _ => COLS.min(shape.k_len),
            }
            .max(1),
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
        let (rows, lanes, plane) = ([q, ld.rows, 1], [q, ld.rows, LANES], [q, ld.rows, ld.cols]);
        let panels = |width: usize| [kv, ld.k_len, width.next_multiple_of(PANEL)];
        let (keys, queries, outputs) = ([kv, ld.k_len, ld.d], [q, ld.rows, ld.d], [q, ld.rows, ld.dv]);
        let only_if = |wanted: bool, shape: [usize; 3]| if wanted { shape } else { [0; 3] };
        for (buffer, shape) in [
            (&mut scratch.k, only_if(self.reads_keys() && !self.unpacked, keys)),
            (&mut scratch.kt, only_if(!self.unpacked, keys)),
            (&mut scratch.v, only_if(!self.unpacked, panels(ld.dv))),
            (&mut scratch.staged, [1, PANEL, ld.d.max(ld.dv)]),
            (&mut scratch.q, queries),
            (&mut scratch.s, plane),
            (&mut scratch.largest, lanes),
            (&mut scratch.line, only_if(self.by_distance.is_some(), [1, 1, ld.rows + ld.cols])),
            (&mut scratch.max, rows),
            (&mut scratch.sum, lanes),
            (&mut scratch.correction, rows),
            (&mut scratch.o, outputs),
        ] {
            buffer.ask(shape)?;
        }
        if !adjoint {
            return Ok(());
        }
        for (buffer, shape) in [
            (&mut scratch.vt, [kv, ld.k_len, ld.dv]),
            (&mut scratch.kp, panels(ld.d)),
            (&mut scratch.before, [self.reading_terms(), q * ld.rows, ld.cols]),
            (&mut scratch.capped, only_if(self.softcap.is_some(), plane)),
            (&mut scratch.d_o, outputs),
            (&mut scratch.ds, plane),
            (&mut scratch.dq, queries),
            (&mut scratch.dk, keys),
            (&mut scratch.dv, [kv, ld.k_len, ld.dv]),
            (&mut scratch.delta, rows),
            (&mut scratch.kept, [1, ld.rows, ld.cols]),
            (&mut scratch.row, [1, 1, ld.dv]),
        ] {
            buffer.ask(shape)?;
        }
        ask(&mut scratch.sums, rows)
    }

    /// A tile's rows and columns, padding included.
    pub fn of(&self, span: Span) -> Of {
        Of {
            rows: span.rows,
            cols: padded(span.cols),
            ld: self.strides().cols,
        }
    }

    pub fn strides(&self) -> Strides {
        Strides {
            d: padded(self.shape.head_dim),
            dv: padded(self.shape.value_dim),
            k_len: self.shape.k_len.next_multiple_of(PANEL),
            rows: self.rows,
            cols: padded(self.cols) + LANES,
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
        let end = if self.whole_rows { self.shape.k_len } else { visible.end };
        (start..end).step_by(cols).map(move |k0| Span {
            q0,
            rows,
            k0,
            cols: cols.min(end - k0),
        })
    }

    fn visible(&self, batch: usize, q0: usize, rows: usize) -> Range<usize> {
        let (first, last) = (self.mask.visible(batch, q0), self.mask.visible(batch, q0 + rows - 1));
        first.start.min(last.start)..first.end.max(last.end)
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

    /// The key rows of a head's key head as a block; empty where no term reads them.
    pub fn k_block<'s>(&self, k: &'s [R], h: usize, span: Span) -> Block<'s, R> {
        if self.unpacked || !self.reads_keys() {
            return Block::new(&[], 0, 0, 0);
        }
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

    /// Some term may read the keys' rows: those that distances alone decide do not.
    pub fn reads_keys(&self) -> bool {
        self.call.terms().any(|term| !term.needs().by_distance)
    }

    /// The biases of a tile as a line of distances: that of row i and column j is at `rows − 1 − i + j`.
    fn write_line(&self, item: Item, h: usize, span: Span, starts: [i64; 2], line: &mut [R]) {
        let before = span.rows - 1;
        let at = Place {
            q_at: At {
                ids: AtIds::Range(starts[0] + span.q0 as i64),
                present: None,
            },
            k_at: At {
                ids: AtIds::Range(starts[1] + span.k0 as i64 - before as i64),
                present: None,
            },
            k0: span.k0.saturating_sub(before),
            ..self.place(item, h, span)
        };
        let (n, tile) = (line.len(), Tile::of_positions(at));
        for (first, (_, term)) in self.bias().enumerate() {
            let mut line = BlockMut::new(line, 1, n, n);
            match first {
                0 => term.write(&tile, &mut line),
                _ => term.add(&tile, &mut line),
            }
        }
    }

    /// The heads of an item whose scores are computed together: all of them where a term mixes heads, or where they share the keys that they read.
    pub fn together(&self, item: Item) -> impl Iterator<Item = Range<usize>> + use<R> {
        let all = self.granularity == Granularity::AllHeads || self.unpacked;
        let heads = if all { item.heads } else { 1 };
        (0..item.heads).step_by(heads).map(move |h| h..h + heads)
    }

    /// The scores of a tile for some heads of the item, from packed keys: [`Tiles::finish`] after products. `keep` for the adjoint: copies of what its terms read.
    /// Whether `scratch.largest` holds each row's largest score.
    pub fn scores(&self, item: Item, heads: Range<usize>, span: Span, keep: bool, scratch: &mut Scratch<R>) -> bool {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        let cols = padded(span.cols);
        scratch.s.grow(item.heads * plane);
        scratch.largest.grow(item.heads * ld.rows * R::LANES);
        if self.by_distance.is_some() {
            scratch.line.grow(ld.rows + ld.cols);
        }
        for h in heads.clone() {
            let line = self.by_distance.map(|starts| {
                let line = &mut scratch.line[..span.rows - 1 + cols];
                // No further than the tile's own distances: a term may know no others.
                let (own, padding) = line.split_at_mut(span.rows - 1 + span.cols);
                self.write_line(item, h, span, starts, own);
                padding.fill(R::ZERO);
                &*line
            });
            R::product(
                Present::current(),
                Product {
                    shape: [span.rows, cols, self.shape.head_dim],
                    alpha: R::of(self.scale),
                    a: Left {
                        data: &scratch.q[h * ld.rows * ld.d..],
                        row: ld.d,
                        col: 1,
                    },
                    b: self.columns(&scratch.kt, ld.d, h / self.shape.group(), span.k0),
                    c: &mut scratch.s[h * plane..],
                    ldc: ld.cols,
                    store: match self.call.content() {
                        [] => Store::Scores {
                            line,
                            max: &mut scratch.largest[h * ld.rows * R::LANES..][..span.rows * R::LANES],
                        },
                        _ => Store::Bounded,
                    },
                },
            );
        }
        self.finish(item, heads, span, keep, scratch)
    }

    /// From products to scores: content, soft cap, biases, mask. Padding columns are −∞.
    pub fn finish(&self, item: Item, heads: Range<usize>, span: Span, keep: bool, scratch: &mut Scratch<R>) -> bool {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        let cols = padded(span.cols);
        if keep {
            scratch.before.grow(self.reading_terms() * item.heads * plane);
        }
        let mut kept = 0;
        for (_, term) in self.content() {
            self.add_term(item, heads.clone(), span, term.as_ref(), keep, &mut kept, scratch);
        }
        if let Some(cap) = self.softcap {
            for h in heads.clone() {
                R::soft_cap(Present::current(), &mut scratch.s[h * plane..], self.of(span), R::of(cap));
            }
            if keep {
                scratch.capped.grow(item.heads * plane);
                let of = heads.start * plane..heads.end * plane;
                scratch.capped[of.clone()].copy_from_slice(&scratch.s[of]);
            }
        }
        if self.by_distance.is_none() {
            for (_, term) in self.bias() {
                self.add_term(item, heads.clone(), span, term.as_ref(), keep, &mut kept, scratch);
            }
        }
        let biased = self.by_distance.is_none() && !self.call.bias().is_empty();
        let untouched = !self.unpacked && self.call.content().is_empty() && self.softcap.is_none() && !biased;
        let open = self
            .mask
            .is_open(item.batch, span.q0..span.q0 + span.rows, span.k0..span.k0 + span.cols);
        if open && cols == span.cols {
            return untouched;
        }
        for h in heads.clone() {
            for i in 0..span.rows {
                let row = &mut scratch.s[h * plane + i * ld.cols..][..cols];
                let (row, padding) = row.split_at_mut(span.cols);
                if !open {
                    self.mask.apply([item.batch, item.head0 + h, span.q0 + i], span.k0, row);
                }
                padding.fill(R::NEG_INFINITY);
            }
        }
        false
    }

    /// Writes −∞ where pairs of the tile are blocked.
    fn block(&self, item: Item, heads: Range<usize>, span: Span, s: &mut [R]) {
        let ld = self.strides();
        for h in heads {
            for i in 0..span.rows {
                let row = &mut s[(h * ld.rows + i) * ld.cols..][..span.cols];
                self.mask.block([item.batch, item.head0 + h, span.q0 + i], span.k0, row);
            }
        }
    }

    /// Terms whose adjoint reads the scores before them.
    pub fn reading_terms(&self) -> usize {
        self.call.terms().filter(|t| t.needs().reads_scores).count()
    }

    fn add_term(
        &self,
        item: Item,
        heads: Range<usize>,
        span: Span,
        term: &(dyn ScoreTerm<R> + 'p),
        keep: bool,
        kept: &mut usize,
        scratch: &mut Scratch<R>,
    ) {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        let size = item.heads * plane;
        let needs = term.needs();
        if needs.reads_scores {
            // Such a term must not take a blocked pair's score for one.
            self.block(item, heads.clone(), span, &mut scratch.s);
        }
        if keep && needs.reads_scores {
            let of = heads.start * plane..heads.end * plane;
            scratch.before[*kept * size..][of.clone()].copy_from_slice(&scratch.s[of]);
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
            for h in heads {
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
