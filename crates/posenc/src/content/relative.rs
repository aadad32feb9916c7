//! # What relative tables of head space share
//!
//! Transformer-XL, XLNet, DeBERTa and Music Transformer read a row of a table by the distance of a pair, for each head one of its own:
//! ```text
//! s(i, j) += scale · [ (qᵢ + v) · K[r(i − j)] + u · kⱼ + kⱼ · Q[r(i − j)] ]
//! ```
//! Each method has some of these parts. Where positions lie in long runs, each is a few products of matrices per tile (`diagonals.rs`), the last one of the tile turned, so that its keys are rows.
//! Where they are scattered, (q + v)·K is at most one product of `head_dim` per pair and one for all neighbouring pairs that share a row; the last part is a product per pair.

use crate::content::diagonals::{Diagonals, Operand, ROWS, TableRows, Totals};
use crate::distances::{FARTHEST, Run, Span, add_row, add_scaled, dot, in_long_runs, runs, sum};
use crate::error::{Error, Result};
use crate::kernels::{FewScores, LANES, Left, Lying, PANEL, Present, Product, Right, Store};
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
    /// Tiles are computed by products, run by run.
    in_runs: bool,
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
            in_runs: in_long_runs(q_at, k_at),
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
        self.in_runs = in_long_runs(q_at, k_at);
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

impl RowsAt {
    /// The row of each index `rows − 1 − i + j` of a run.
    fn along(&self, run: Run) -> impl Fn(usize) -> Option<usize> + Copy + use<'_> {
        let first = run.lowest.saturating_sub(self.span.lowest);
        let last = self.rows.len() as i64 - 1;
        move |t: usize| match self.rows[first.saturating_add(t as i64).clamp(0, last) as usize] {
            NONE => None,
            row => Some(row as usize),
        }
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

    /// Rows as wide as these are whole vectors.
    fn is_whole(&self) -> bool {
        self.dim.is_multiple_of(LANES)
    }

    /// The first row's products with no more than [`COLUMNS`] keys, `scale · k·row`.
    fn meet(&self, head: usize, k: &Block<'_, R>, scale: R, scores: &mut [R; COLUMNS]) {
        let row = self.of(head, 0);
        if !self.is_whole() {
            return (0..k.rows).for_each(|j| scores[j] = scale * dot(k.row(j), row));
        }
        let job = FewScores {
            shape: [1, 1, k.rows, self.dim],
            alpha: scale,
            q: row,
            q_steps: [0; 2],
            k: Lying { data: k.data, row: k.ld },
            s: scores,
            s_steps: [0; 2],
        };
        R::few_scores(Present::current(), job);
    }

    /// The adjoint where all pairs of a tile have the product of their key with one row.
    fn all_meet_adjoint(
        &self,
        [head, row]: [usize; 2],
        k: &Block<'_, R>,
        scale: R,
        ds: &Block<'_, R>,
        dk: &mut BlockMut<'_, R>,
        d_row: &mut [R],
    ) {
        for from in (0..ds.cols).step_by(COLUMNS) {
            let (n, mut masses) = (COLUMNS.min(ds.cols - from), [R::ZERO; COLUMNS]);
            (0..ds.rows).for_each(|i| add_row(&mut masses[..n], &ds.row(i)[from..from + n]));
            self.meet_adjoint(
                self.of(head, row),
                &k.some_rows([from, n]),
                scale,
                &masses,
                &mut dk.some_rows([from, n]),
                d_row,
            );
        }
    }

    /// The adjoint of the keys' products with a row, from the gradient of each.
    fn meet_adjoint(&self, row: &[R], k: &Block<'_, R>, scale: R, masses: &[R; COLUMNS], dk: &mut BlockMut<'_, R>, d_row: &mut [R]) {
        let (dim, n) = (self.dim, k.rows);
        if !self.is_whole() {
            for (j, mass) in masses[..n].iter().enumerate() {
                add_scaled(dk.row(j), scale * *mass, row);
                add_scaled(d_row, scale * *mass, k.row(j));
            }
            return;
        }
        let product = |shape, right: Block<'_, R>, c: &mut [R], ldc: usize| {
            let product = Product {
                shape,
                alpha: scale,
                a: Left {
                    data: masses,
                    row: 1,
                    col: 1,
                },
                b: Right {
                    data: right.data,
                    row: right.ld,
                    panel: PANEL,
                },
                c,
                ldc,
                store: Store::Add,
            };
            R::product(Present::current(), product);
        };
        product([n, dim, 1], Block::new(row, 1, dim, dim), dk.data, dk.ld);
        product([1, dim, n], *k, d_row, dim);
    }

    /// All rows of a head; none where a call's pairs read none, as its table has no rows then.
    fn table(&self, head: usize) -> TableRows<'p, R> {
        TableRows {
            data: self.values.get(head / self.group * self.head..).unwrap_or_default(),
            step: self.row,
            dim: self.dim,
        }
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

    /// The same, as an operand of products.
    fn operand<'t>(&'t self, q: Block<'t, R>, head: usize) -> Operand<'t, R> {
        Operand {
            rows: q,
            shift: self.position_bias.as_ref().map(|v| v.of(head, 0)),
        }
    }

    /// (q + v)·K and k·Q of a part of a tile.
    fn add_run(&self, run: Run, at: &Place<'_>, [q, k]: [Block<'_, R>; 2], s: &mut BlockMut<'_, R>) {
        let (head, scale, row) = (at.head, R::of(at.scale), self.at.along(run));
        let (rows, cols, k) = (s.rows, s.cols, k.some_rows(run.cols));
        if let Some(keys) = &self.keys {
            let table = keys.table(head);
            let q = self.operand(q.some_rows(run.rows), head);
            Diagonals { rows, cols, row, table }.add(q, scale, s);
        }
        let Some(queries) = &self.queries else { return };
        let table = queries.table(head);
        if let Some(only) = (Diagonals { rows, cols, row, table }).only() {
            let Some(row) = only else { return };
            let mut scores = [R::ZERO; ROWS];
            for part in parts(cols) {
                table.scores(row, &k.some_rows(part), scale, &mut scores);
                (0..rows).for_each(|i| add_row(&mut s.row(i)[part[0]..][..part[1]], &scores[..part[1]]));
            }
            return;
        }
        for (j, i) in squares(rows, cols) {
            let (m, n) = (i[1], j[1]);
            let mut turned = [R::ZERO; ROWS * TURNED];
            let sums = &mut BlockMut::new(&mut turned, n, m, TURNED);
            turn(rows, i, j, row, table).add(Operand::of(k.some_rows(j)), scale, sums);
            let (ld, to) = (s.ld, s.part(i, j).data);
            R::transpose(Present::current(), &turned, to, [n, m], [TURNED, ld], true);
        }
    }

    /// The adjoint of [`RelativeTerm::add_run`]: into dq and dk, and the slots of K, Q and v.
    fn run_adjoint(
        &self,
        run: Run,
        at: &Place<'_>,
        [q, k]: [Block<'_, R>; 2],
        ds: &Block<'_, R>,
        [dq, dk]: [&mut BlockMut<'_, R>; 2],
        [d_keys, d_queries, d_v]: [&mut [R]; 3],
    ) {
        let (head, scale, row) = (at.head, R::of(at.scale), self.at.along(run));
        let (rows, cols, k) = (ds.rows, ds.cols, k.some_rows(run.cols));
        if let Some(keys) = &self.keys {
            let (table, q) = (keys.table(head), self.operand(q.some_rows(run.rows), head));
            let totals = Totals {
                rows: Some(dq),
                shift: (!d_v.is_empty()).then_some(d_v),
                table: Some(d_keys),
            };
            Diagonals { rows, cols, row, table }.sums(ds, scale, q, totals);
        }
        let Some(queries) = &self.queries else { return };
        let (table, dim) = (queries.table(head), queries.dim);
        if let Some(only) = (Diagonals { rows, cols, row, table }).only() {
            if let Some(row) = only {
                queries.all_meet_adjoint([head, row], &k, scale, ds, dk, &mut d_queries[row * dim..][..dim]);
            }
            return;
        }
        let mut turned = [R::ZERO; ROWS * TURNED];
        for (j, i) in squares(rows, cols) {
            let (m, n) = (i[1], j[1]);
            R::transpose(Present::current(), ds.part(i, j).data, &mut turned, [m, n], [ds.ld, TURNED], false);
            let totals = Totals {
                rows: Some(&mut dk.some_rows(j)),
                shift: None,
                table: Some(&mut *d_queries),
            };
            let keys = Operand::of(k.some_rows(j));
            turn(rows, i, j, row, table).sums(&Block::new(&turned, n, m, TURNED), scale, keys, totals);
        }
    }

    /// The same where positions are scattered, for a whole tile.
    fn scattered_adjoint(
        &self,
        tile: &Tile<'_, R>,
        ds: &Block<'_, R>,
        [dq, dk]: [&mut BlockMut<'_, R>; 2],
        [d_keys, d_queries, d_v]: [&mut [R]; 3],
    ) {
        let Tile { at, q, k, .. } = tile;
        let (head, scale, rows, cols) = (at.head, R::of(at.scale), ds.rows, ds.cols);
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
    }

    /// q + v.
    fn shifted<'t>(&'t self, q: Block<'t, R>, head: usize) -> Shifted<'t, R> {
        Shifted::new(q, self.position_bias.as_ref().map(|v| v.of(head, 0)))
    }
}

/// Rows of a turned tile lie so far apart: not a power of two, or they would share a few places of the cache.
const TURNED: usize = ROWS + 16;

/// No more than [`ROWS`] at a time: first and number.
fn parts(n: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..n).step_by(ROWS).map(move |at| [at, ROWS.min(n - at)])
}

/// A tile in parts: columns and rows.
fn squares(rows: usize, cols: usize) -> impl Iterator<Item = ([usize; 2], [usize; 2])> {
    parts(cols).flat_map(move |j| parts(rows).map(move |i| (j, i)))
}

/// A part of a tile of `all` rows, turned: its rows are keys, and its diagonals run the other way.
fn turn<'t, R: Real>(
    all: usize,
    [i0, m]: [usize; 2],
    [j0, n]: [usize; 2],
    row: impl Fn(usize) -> Option<usize> + Copy,
    table: TableRows<'t, R>,
) -> Diagonals<'t, R, impl Fn(usize) -> Option<usize>> {
    let last = all - 1 - i0 + j0 + n - 1;
    Diagonals {
        rows: n,
        cols: m,
        row: move |t: usize| row(last - t),
        table,
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
                u.meet(head, &k.some_rows([from, to - from]), scale, &mut row);
                (0..rows).for_each(|i| add_row(&mut s.row(i)[from..to], &row));
            }
        }
        if self.at.in_runs {
            for run in runs(at, rows, cols) {
                self.add_run(run, at, [*q, *k], &mut s.part(run.rows, run.cols));
            }
            return;
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
        if self.at.in_runs {
            for run in runs(at, rows, cols) {
                let (dq, dk) = (&mut dq.some_rows(run.rows), &mut dk.some_rows(run.cols));
                self.run_adjoint(run, at, [*q, *k], &ds.part(run.rows, run.cols), [dq, dk], [d_keys, d_queries, d_v]);
            }
        } else {
            self.scattered_adjoint(tile, &ds, [dq, dk], [d_keys, d_queries, d_v]);
        }
        if let Some(u) = &self.content_bias {
            u.all_meet_adjoint([head, 0], k, scale, &ds, dk, d_u);
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
