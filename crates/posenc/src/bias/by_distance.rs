//! # What biases by distance share
//!
//! A bias that depends on `key − query` alone has, for queries and keys at consecutive positions, only `q_len + k_len − 1` values per head: row i of a tile is a slice
//! of them, and so is the gradient of that row. Beyond the distances that a method tells apart it is one value. Packed documents and padded rows are a few such slices; scattered positions look
//! each pair up in the same values.

use crate::call::Parts;
use crate::distances::{KeyRun, Met, Span, add_row, check_one_axis};
use crate::error::Result;
use crate::kernels::{self, Present};
use crate::memory;
use crate::params::{Bound, BoundMut, ParamSpec};
use crate::plan::Prepared;
use crate::positions::Positions;
use crate::real::Real;
use crate::steps::owned;
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use std::sync::Arc;

/// How a table of biases is read: what differs between the methods that have one.
#[derive(Clone, Debug)]
pub(crate) struct TableBias {
    /// `[rows, heads]`, or `[rows]` for all heads.
    pub spec: ParamSpec,
    /// Query heads.
    pub heads: usize,
    /// The entry is subtracted.
    pub subtracted: bool,
    /// Distances beyond ± this are read as this.
    pub reach: usize,
}

impl TableBias {
    /// Resolves the positions of a call: the table row of each distance that the method tells apart, shared by all layers. `row` takes `key − query`.
    pub fn at(self, method: &'static str, q_at: &Positions, k_at: &Positions, row: impl Fn(i64) -> usize) -> Result<TableAt> {
        check_one_axis(method, q_at, k_at)?;
        q_at.check_len()?;
        k_at.check_len()?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        let near = Span::clipped(self.reach as i64, q_at, k_at);
        // Twice the rows, as they are collected, and a value of each column.
        let columns = self.spec.shape.get(1).map_or(2, |columns| columns.saturating_add(1));
        memory::check::<u64>("distances of a call [heads, distances]", &[columns, near.count])?;
        Ok(TableAt {
            slots: Span::whole(q_at, k_at).unwrap_or(near),
            near,
            rows: near.distances().map(|d| row(d) as u32).collect(),
            bias: self,
        })
    }

    /// The same at other positions; `false` where they are refused.
    pub fn advance<R: Real>(
        &self,
        method: &'static str,
        [q_at, k_at]: [&Positions; 2],
        prepared: &mut Arc<dyn Prepared<R>>,
        row: impl Fn(i64) -> usize,
    ) -> bool {
        let Some(TableAt { slots, near, rows, .. }) = owned(prepared) else {
            return false;
        };
        if check_one_axis(method, q_at, k_at).is_err() || q_at.check_whole().is_err() || k_at.check_whole().is_err() {
            return false;
        }
        let reach = self.reach as i64;
        let needed = Span::clipped(reach, q_at, k_at);
        if !near.covers(needed) {
            *near = near.grown(needed, reach);
            if memory::check::<u64>("distances of a call", &[near.count]).is_err() {
                return false;
            }
            *rows = near.distances().map(|d| row(d.clamp(-reach, reach)) as u32).collect();
        }
        *slots = Span::whole(q_at, k_at).unwrap_or(needed);
        true
    }
}

/// A table of biases with its positions resolved.
#[derive(Clone, Debug)]
pub(crate) struct TableAt {
    bias: TableBias,
    /// Distances that have a gradient of their own, so that far ones, which read one entry, are summed in f64.
    slots: Span,
    /// Distances that the method tells apart; what lies beyond is read as its end.
    near: Span,
    /// Their table rows.
    rows: Arc<[u32]>,
}

impl TableAt {
    /// The term of one layer's table: its values by head and distance, so that a row of a tile is one slice.
    pub fn term<R: Real>(&self, table: &[R]) -> impl ScoreTerm<R> + 'static {
        let columns = self.columns();
        let mut values = Vec::with_capacity(columns * self.near.count);
        for column in 0..columns {
            values.extend(self.rows.iter().map(|&row| {
                let value = table[row as usize * columns + column];
                if self.bias.subtracted { -value } else { value }
            }));
        }
        TableTerm { at: self.clone(), values }
    }

    /// The gradient of the table, `[rows, columns]`, from the summed slots: from distances to table rows; the sum of a row that many distances share is taken in f64.
    pub fn table_gradient<R: Real>(&self, slots: &[R]) -> Vec<f64> {
        let TableAt {
            bias,
            slots: span,
            near,
            rows,
        } = self;
        let columns = self.columns();
        let mut sums = vec![0.0; bias.spec.size()];
        for head in 0..bias.heads {
            for (slot, d) in slots[head * span.count..][..span.count].iter().zip(span.distances()) {
                let row = rows[d.saturating_sub(near.lowest).clamp(0, near.count as i64 - 1) as usize];
                sums[row as usize * columns + self.column(head)] += slot.to_f64();
            }
        }
        if bias.subtracted {
            sums.iter_mut().for_each(|sum| *sum = -*sum);
        }
        sums
    }

    fn columns(&self) -> usize {
        self.bias.spec.shape.get(1).copied().unwrap_or(1)
    }

    /// The column of the table that a head reads.
    fn column(&self, head: usize) -> usize {
        if self.columns() == 1 { 0 } else { head }
    }
}

impl<R: Real> Prepared<R> for TableAt {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.bias.push(Arc::new(self.term(params.get(&self.bias.spec)?)));
        Ok(())
    }
}

struct TableTerm<R> {
    at: TableAt,
    /// `[columns, distances]`.
    values: Vec<R>,
}

/// Adds a head's `values`, by distance from `lowest` on, to a tile or writes them over it: a slice per row where keys follow each other, else one by one. A distance past either end
/// reads that end.
pub(crate) fn put_values<R: Real, const WRITE: bool>(at: &Place<'_>, s: &mut BlockMut<'_, R>, values: &[R], lowest: i64) {
    let on = Present::current();
    match Met::of(&at.k_at, s.cols) {
        Met::Runs(runs) => {
            if WRITE && runs.clone().next().is_none_or(|run| run.cols.len() < s.cols) {
                s.clear();
            }
            for KeyRun { cols, first } in runs {
                let first = |i: usize| Some(first.saturating_sub(at.q_at.whole(i)?).saturating_sub(lowest));
                match WRITE {
                    true => kernels::write_runs(on, s, &cols, &first, values),
                    false => kernels::add_runs(on, s, &cols, &first, values),
                }
            }
        }
        Met::Scattered => {
            let query = |i: usize| at.q_at.whole(i);
            match WRITE {
                true => kernels::write_gathered(on, s, &at.k_at, &query, lowest, values),
                false => kernels::add_gathered(on, s, &at.k_at, &query, lowest, values),
            }
        }
    }
}

/// Sums the gradient of a tile by distance: the adjoint of [`put_values`] for distances that all lie in `slots_of`.
pub(crate) fn sum_by_distance<R: Real>(slots_of: Span, at: &Place<'_>, ds: &Block<'_, R>, slots: &mut [R]) {
    slots_of.each(at, ds.rows, ds.cols, |i, cols, d| match &ds.row(i)[cols] {
        [ds] => slots[d] += *ds,
        row => add_row(&mut slots[d..d + row.len()], row),
    });
}

impl<R: Real> TableTerm<R> {
    fn put<const WRITE: bool>(&self, at: &Place<'_>, s: &mut BlockMut<'_, R>) {
        let Span { lowest, count } = self.at.near;
        put_values::<R, WRITE>(at, s, &self.values[self.at.column(at.head) * count..][..count], lowest);
    }
}

impl<R: Real> ScoreTerm<R> for TableTerm<R> {
    fn needs(&self) -> Needs {
        Needs::bias(self.at.slots.count).by_distance()
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<false>(&tile.at, s);
    }

    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<true>(&tile.at, s);
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        sum_by_distance(self.at.slots, &tile.at, &ds.as_block(), into.slots);
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let grad = grads.get_mut(&self.at.bias.spec)?;
        for (grad, sum) in grad.iter_mut().zip(self.at.table_gradient(slots)) {
            *grad += R::of(sum);
        }
        Ok(())
    }
}
