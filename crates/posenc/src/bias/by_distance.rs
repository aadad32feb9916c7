//! # What biases by distance share
//!
//! A bias that depends on `key − query` alone has, for queries and keys at consecutive positions, only `q_len + k_len − 1` values per head: row i of a tile is a slice
//! of them, and so is the gradient of that row. Packed documents and padded rows are a few such slices; scattered positions look each pair up in the same values.

use crate::call::Parts;
use crate::distances::{Span, add_row, check_one_axis};
use crate::error::{Error, Result};
use crate::kernels::{self, Present};
use crate::memory;
use crate::params::{Bound, BoundMut, ParamSpec};
use crate::plan::Prepared;
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use crate::view::ViewMut;
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
    /// Resolves the positions of a call: the table row of each distance, shared by all layers. `row` takes `key − query`.
    pub fn at(self, method: &'static str, q_at: &Positions, k_at: &Positions, row: impl Fn(i64) -> usize) -> Result<TableAt> {
        check_one_axis(method, q_at, k_at)?;
        q_at.check_len()?;
        k_at.check_len()?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        let reach = self.reach as i64;
        let span = Span::whole(q_at, k_at).unwrap_or_else(|| Span::clipped(reach, q_at, k_at));
        // Twice the rows, as they are collected, and a value of each column.
        let columns = self.spec.shape.get(1).map_or(1, |columns| columns.saturating_add(1));
        memory::check::<u64>("distances of a call [heads, distances]", &[columns, span.count])?;
        let rows = span.distances().map(|d| row(d.clamp(-reach, reach)) as u32).collect();
        Ok(TableAt { bias: self, span, rows })
    }
}

/// A table of biases with its positions resolved.
#[derive(Clone, Debug)]
pub(crate) struct TableAt {
    bias: TableBias,
    span: Span,
    rows: Arc<[u32]>,
}

impl TableAt {
    /// The term of one layer's table: its values by head and distance, so that a row of a tile is one slice.
    pub fn term<R: Real>(&self, table: &[R]) -> impl ScoreTerm<R> + 'static {
        let columns = self.columns();
        let mut values = Vec::with_capacity(columns * self.span.count);
        for column in 0..columns {
            values.extend(self.rows.iter().map(|&row| {
                let value = table[row as usize * columns + column];
                if self.bias.subtracted { -value } else { value }
            }));
        }
        TableTerm { at: self.clone(), values }
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

impl<R: Real> ScoreTerm<R> for TableTerm<R> {
    fn needs(&self) -> Needs {
        Needs::bias(self.at.span.count)
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let at = &tile.at;
        let count = self.at.span.count;
        let values = &self.values[self.at.column(at.head) * count..][..count];
        self.at.span.each(at, s.rows, s.cols, |i, cols, d| match &mut s.row(i)[cols] {
            [s] => *s += values[d],
            row => add_row(row, &values[d..d + row.len()]),
        });
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let at = &tile.at;
        let (ds, slots) = (ds.as_block(), &mut *into.slots);
        self.at.span.each(at, ds.rows, ds.cols, |i, cols, d| match &ds.row(i)[cols] {
            [ds] => slots[d] += *ds,
            row => add_row(&mut slots[d..d + row.len()], row),
        });
    }

    /// From distances to table rows; the sum of a row that many distances share is taken in f64.
    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let TableAt { bias, span, rows } = &self.at;
        let (columns, grad) = (self.at.columns(), grads.get_mut(&bias.spec)?);
        let mut sums = vec![0.0; grad.len()];
        for head in 0..bias.heads {
            for (slot, &row) in slots[head * span.count..][..span.count].iter().zip(rows.iter()) {
                sums[row as usize * columns + self.at.column(head)] += slot.to_f64();
            }
        }
        for (grad, sum) in grad.iter_mut().zip(sums) {
            *grad += R::of(if bias.subtracted { -sum } else { sum });
        }
        Ok(())
    }
}

/// The matrix of a bias, `[heads, q_len, k_len]`, for the one-call functions.
pub(crate) fn write_matrix<R: Real>(
    term: &dyn ScoreTerm<R>,
    heads: usize,
    q_at: &Positions,
    k_at: &Positions,
    out: ViewMut<'_, R, 3>,
) -> Result<()> {
    let expected = [heads, q_at.len(), k_at.len()];
    if out.shape() != expected {
        return Err(Error::Shape {
            what: "bias [heads, q_len, k_len]",
            expected: expected.to_vec(),
            given: out.shape().to_vec(),
        });
    }
    q_at.check_fit("query positions [1, seq]", 1, q_at.len())?;
    k_at.check_fit("key positions [1, seq]", 1, k_at.len())?;
    let keys = k_at.len();
    kernels::write_rows(Present::current(), out.with_batch(), |[_, head, i], row| {
        let at = Place {
            batch: 0,
            head,
            kv_head: head,
            q0: i,
            k0: 0,
            q_at: q_at.at(0, 0, i, 1),
            k_at: k_at.at(0, 0, 0, keys),
            scale: 1.0,
        };
        term.add(&Tile::of_positions(at), &mut BlockMut::new(row, 1, keys, keys));
    });
    Ok(())
}
