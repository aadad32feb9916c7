//! # What relative tables of head space share
//!
//! Transformer-XL, XLNet, DeBERTa and Music Transformer read a row of a table by the distance of a pair, for each head one of its own:
//! ```text
//! s(i, j) += scale · [ (qᵢ + v) · K[r(i − j)] + u · kⱼ + kⱼ · Q[r(i − j)] ]
//! ```
//! Each method has some of these parts. A query meets each of its rows once per run of keys at the same row, so (q + v)·K is at most one product of `head_dim` per pair and one for all pairs
//! that share a row; the last part is a product per pair.

use crate::distances::{FARTHEST, Span, add_row, add_scaled, dot, sum};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{BoundMut, ParamSpec};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use std::ops::Range;
use std::sync::Arc;

/// No row: the pair gets nothing.
const NONE: u32 = u32::MAX;

/// The table row of each distance of a call.
#[derive(Clone, Debug)]
pub(crate) struct RowsAt {
    span: Span,
    rows: Arc<[u32]>,
}

impl RowsAt {
    /// `row` takes `query − key`. Distances beyond ±`reach` must read what ±`reach` reads; without a reach every distance has a row of its own, and positions must not be so far apart
    /// that there are many more distances than tokens.
    pub fn new(
        method: &'static str,
        q_at: &Positions,
        k_at: &Positions,
        reach: Option<i64>,
        row: impl Fn(i64) -> Option<usize>,
    ) -> Result<RowsAt> {
        let span = span(method, q_at, k_at, reach)?;
        // Twice, as they are collected.
        memory::check::<u64>("distances of a call", &[span.count])?;
        Ok(RowsAt {
            span,
            rows: rows_of(span, row),
        })
    }

    /// The same at other positions; `false` where they are refused.
    pub fn advance(
        &mut self,
        method: &'static str,
        [q_at, k_at]: [&Positions; 2],
        reach: Option<i64>,
        row: impl Fn(i64) -> Option<usize>,
    ) -> bool {
        let Ok(needed) = span(method, q_at, k_at, reach) else {
            return false;
        };
        if !self.span.covers(needed) {
            // Distances beyond the reach are read as it, but each run of them must be found: they are in the table too.
            self.span = self.span.grown(needed, i64::MAX);
            if memory::check::<u64>("distances of a call", &[self.span.count]).is_err() {
                return false;
            }
            self.rows = rows_of(self.span, row);
        }
        true
    }

    /// Visits the pairs of a tile that have a row, as runs of columns at the same one: tile row, columns, table row.
    #[inline]
    fn each(&self, at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, Range<usize>, usize)) {
        self.span.each(at, rows, cols, |i, cols, first| {
            let rows = &self.rows[first..first + cols.len()];
            let mut from = 0;
            for run in rows.chunk_by(|a, b| a == b) {
                if run[0] != NONE {
                    visit(i, cols.start + from..cols.start + from + run.len(), run[0] as usize);
                }
                from += run.len();
            }
        });
    }
}

/// `row` takes `query − key`.
fn rows_of(span: Span, row: impl Fn(i64) -> Option<usize>) -> Arc<[u32]> {
    let rows = span.distances().map(|d| row(d.saturating_neg()).map_or(NONE, |r| r as u32));
    rows.collect()
}

/// The distances of a call, `key − query`, as far as a method tells them apart.
pub(crate) fn span(method: &'static str, q_at: &Positions, k_at: &Positions, reach: Option<i64>) -> Result<Span> {
    q_at.check_whole()?;
    k_at.check_whole()?;
    let clipped = || {
        reach
            .filter(|reach| *reach <= FARTHEST as i64)
            .map(|reach| Span::clipped(reach, q_at, k_at))
    };
    Span::few(q_at, k_at).or_else(clipped).ok_or(Error::Unsupported {
        method,
        what: "positions lie so far apart that their distances outnumber the tokens, and the method tells them all apart; \
               clamp the distances, or number the tokens closer together",
    })
}

/// Rows of `dim` numbers per head.
#[derive(Clone)]
pub(crate) struct HeadRows<'p, R> {
    spec: ParamSpec,
    /// Not a parameter, but a table that the layer projects.
    table: bool,
    values: &'p [R],
    heads: usize,
    /// Query heads that read the same rows.
    group: usize,
    /// Distance of two rows of a head, and of two heads.
    row: usize,
    head: usize,
    dim: usize,
}

impl<'p, R: Real> HeadRows<'p, R> {
    /// A projected table `[n, heads of the table, dim]`.
    pub fn of_table(spec: ParamSpec, values: &'p [R], heads: usize) -> Self {
        let (own, dim) = (spec.shape[1], spec.shape[2]);
        HeadRows {
            table: true,
            heads: own,
            group: heads / own,
            row: own * dim,
            head: dim,
            dim,
            spec,
            values,
        }
    }

    /// A parameter `[n, heads, dim]`.
    pub fn by_row(spec: ParamSpec, values: &'p [R]) -> Self {
        let heads = spec.shape[1];
        HeadRows {
            table: false,
            ..HeadRows::of_table(spec, values, heads)
        }
    }

    /// A parameter `[heads, n, dim]`, or `[heads, dim]` for one row.
    pub fn by_head(spec: ParamSpec, values: &'p [R]) -> Self {
        let dim = spec.shape[spec.shape.len() - 1];
        HeadRows {
            table: false,
            heads: spec.shape[0],
            group: 1,
            row: dim,
            head: values.len() / spec.shape[0],
            dim,
            spec,
            values,
        }
    }

    #[inline]
    pub fn of(&self, head: usize, row: usize) -> &'p [R] {
        &self.values[head / self.group * self.head + row * self.row..][..self.dim]
    }

    /// Numbers that one query head reads, and its gradient slots.
    pub fn slots(&self) -> usize {
        self.values.len() / self.heads
    }

    /// Adds the slots of `heads` query heads, `[heads, per_head]` from column `from`, to the gradient; those of heads that share rows are summed in f64.
    pub fn collect(&self, slots: &[R], per_head: usize, from: usize, grads: &mut BoundMut<'_, R>) -> Result<()> {
        let grad = if self.table {
            grads.table_mut(&self.spec)?
        } else {
            grads.get_mut(&self.spec)?
        };
        for own in 0..self.heads {
            for r in 0..self.slots() / self.dim {
                for (c, grad) in grad[own * self.head + r * self.row..][..self.dim].iter_mut().enumerate() {
                    let heads = own * self.group..(own + 1) * self.group;
                    let slot = |head: usize| slots[head * per_head + from + r * self.dim + c].to_f64();
                    *grad += R::of(heads.map(slot).sum());
                }
            }
        }
        Ok(())
    }
}

/// The term: what of it a method has.
#[derive(Clone)]
pub(crate) struct RelativeTerm<'p, R> {
    pub at: RowsAt,
    /// K.
    pub keys: Option<HeadRows<'p, R>>,
    /// Q.
    pub queries: Option<HeadRows<'p, R>>,
    /// u, for all pairs: it reads no position.
    pub content_bias: Option<HeadRows<'p, R>>,
    /// v.
    pub position_bias: Option<HeadRows<'p, R>>,
}

impl<'p, R: Real> RelativeTerm<'p, R> {
    pub fn new(at: RowsAt) -> Self {
        RelativeTerm {
            at,
            keys: None,
            queries: None,
            content_bias: None,
            position_bias: None,
        }
    }

    /// The parts in the order of their slots: K, Q, u, v.
    fn parts(&self) -> [Option<&HeadRows<'p, R>>; 4] {
        [
            self.keys.as_ref(),
            self.queries.as_ref(),
            self.content_bias.as_ref(),
            self.position_bias.as_ref(),
        ]
    }

    /// q + v.
    fn shifted<'t>(&'t self, q: Block<'t, R>, head: usize) -> Shifted<'t, R> {
        Shifted::new(q, self.position_bias.as_ref().map(|v| v.of(head, 0)))
    }
}

/// Numbers of a head that lie on the stack: more than any model's heads have.
const WIDEST: usize = 512;
/// Columns of a tile whose sums are kept together.
const COLUMNS: usize = 128;

/// The rows of q + v, one at a time: those of a tile are asked for in turn, and several times each.
pub(crate) struct Shifted<'t, R> {
    q: Block<'t, R>,
    v: Option<&'t [R]>,
    /// The row that is there.
    row: usize,
    near: [R; WIDEST],
    wide: Vec<R>,
}

impl<'t, R: Real> Shifted<'t, R> {
    pub fn new(q: Block<'t, R>, v: Option<&'t [R]>) -> Self {
        Shifted {
            q,
            v,
            row: usize::MAX,
            near: [R::ZERO; WIDEST],
            wide: Vec::new(),
        }
    }

    pub fn row(&mut self, i: usize) -> &[R] {
        let (q, Some(v)) = (self.q.row(i), self.v) else {
            return self.q.row(i);
        };
        let dim = q.len();
        if dim > WIDEST {
            self.wide.resize(dim, R::ZERO);
        }
        let x = if dim > WIDEST { &mut self.wide[..] } else { &mut self.near[..dim] };
        if self.row != i {
            x.copy_from_slice(q);
            add_row(x, v);
            self.row = i;
        }
        x
    }
}

impl<R: Real> ScoreTerm<R> for RelativeTerm<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(self.parts().into_iter().flatten().map(HeadRows::slots).sum())
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let Tile { at, q, k, .. } = tile;
        let (head, scale, rows, cols) = (at.head, R::of(at.scale), s.rows, s.cols);
        if let Some(u) = &self.content_bias {
            let mut row = [R::ZERO; COLUMNS];
            for from in (0..cols).step_by(COLUMNS) {
                let to = (from + COLUMNS).min(cols);
                (from..to)
                    .zip(&mut row)
                    .for_each(|(j, score)| *score = scale * dot(k.row(j), u.of(head, 0)));
                (0..rows).for_each(|i| add_row(&mut s.row(i)[from..to], &row));
            }
        }
        if let Some(keys) = &self.keys {
            let mut x = self.shifted(*q, head);
            self.at.each(at, rows, cols, |i, cols, r| {
                let score = scale * dot(x.row(i), keys.of(head, r));
                s.row(i)[cols].iter_mut().for_each(|s| *s += score);
            });
        }
        if let Some(queries) = &self.queries {
            self.at.each(at, rows, cols, |i, cols, r| {
                let row = queries.of(head, r);
                let s = &mut s.row(i)[cols.clone()];
                for (s, j) in s.iter_mut().zip(cols) {
                    *s += scale * dot(k.row(j), row);
                }
            });
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let Tile { at, q, k, .. } = tile;
        let (head, scale, rows, cols) = (at.head, R::of(at.scale), ds.rows, ds.cols);
        let ds = ds.as_block();
        let TermGrads { dq, dk, slots } = into;
        let sizes = self.parts().map(|part| part.map_or(0, HeadRows::slots));
        let (d_keys, rest) = slots.split_at_mut(sizes[0]);
        let (d_queries, rest) = rest.split_at_mut(sizes[1]);
        let (d_u, d_v) = rest.split_at_mut(sizes[2]);
        if let Some(keys) = &self.keys {
            let (mut x, dim) = (self.shifted(*q, head), keys.dim);
            self.at.each(at, rows, cols, |i, cols, r| {
                let mass = scale * sum(&ds.row(i)[cols]);
                // Blocked pairs weigh nothing: half of a causal tile.
                if mass != R::ZERO {
                    add_scaled(dq.row(i), mass, keys.of(head, r));
                    add_scaled(&mut d_keys[r * dim..][..dim], mass, x.row(i));
                    add_scaled(d_v, mass, keys.of(head, r));
                }
            });
        }
        if let Some(queries) = &self.queries {
            let dim = queries.dim;
            self.at.each(at, rows, cols, |i, cols, r| {
                for (ds, j) in ds.row(i)[cols.clone()].iter().zip(cols) {
                    if *ds != R::ZERO {
                        add_scaled(dk.row(j), scale * *ds, queries.of(head, r));
                        add_scaled(&mut d_queries[r * dim..][..dim], scale * *ds, k.row(j));
                    }
                }
            });
        }
        if let Some(u) = &self.content_bias {
            for from in (0..cols).step_by(COLUMNS) {
                let (to, mut masses) = ((from + COLUMNS).min(cols), [R::ZERO; COLUMNS]);
                (0..rows).for_each(|i| add_row(&mut masses, &ds.row(i)[from..to]));
                for (j, mass) in (from..to).zip(masses) {
                    add_scaled(dk.row(j), scale * mass, u.of(head, 0));
                    add_scaled(d_u, scale * mass, k.row(j));
                }
            }
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let per_head = ScoreTerm::<R>::needs(self).slots;
        let mut from = 0;
        for part in self.parts().into_iter().flatten() {
            part.collect(slots, per_head, from, grads)?;
            from += part.slots();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
