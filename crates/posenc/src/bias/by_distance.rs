//! # What biases by distance share
//!
//! A bias that depends on `key − query` alone has, for queries and keys at consecutive positions, only `q_len + k_len − 1` values per head: row i of a tile is a slice
//! of them, and so is the gradient of that row. Other positions (packed documents, padding, tokens without a position) look each pair up in the same values.

use crate::call::Parts;
use crate::error::{Error, Result};
use crate::params::{Bound, BoundMut, ParamSpec};
use crate::plan::Prepared;
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads};
use crate::view::ViewMut;
use std::ops::Range;
use std::sync::Arc;

/// The largest distance that a table can tell from larger ones: its row numbers then fit `u32` with room to spare.
const FARTHEST: usize = 1 << 30;

/// A run of distances `key − query`, lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    lowest: i64,
    count: usize,
}

impl Span {
    /// Every distance of a call in which both streams are ranges.
    pub fn of_ranges(q_at: &Positions, k_at: &Positions) -> Option<Span> {
        let (q, k) = (q_at.start()?, k_at.start()?);
        let count = (q_at.len() + k_at.len()).saturating_sub(1);
        let last_query = q.checked_add(i64::try_from(q_at.len()).ok()?)?.checked_sub(1)?;
        let lowest = k.checked_sub(last_query)?;
        lowest.checked_add(i64::try_from(count).ok()?)?;
        Some(Span { lowest, count })
    }

    /// The distances of any other call as far as a method tells them apart: those beyond ±`reach` count as `reach`.
    fn within(reach: i64, q_at: &Positions, k_at: &Positions) -> Span {
        let (Some((q_low, q_high)), Some((k_low, k_high))) = (extent(q_at), extent(k_at)) else {
            return Span { lowest: 0, count: 1 };
        };
        let lowest = k_low.saturating_sub(q_high).clamp(-reach, reach);
        let highest = k_high.saturating_sub(q_low).clamp(-reach, reach);
        Span {
            lowest,
            count: (highest - lowest) as usize + 1,
        }
    }

    /// The distances, lowest first.
    pub fn distances(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |d| self.lowest + d as i64)
    }

    /// Where the distances of row `i` of a tile lie, if they are consecutive and all here.
    #[inline]
    pub fn run(&self, at: &Place<'_>, i: usize, cols: usize) -> Option<Range<usize>> {
        let (q, k) = (at.q_at.range()?, at.k_at.range()?);
        let first = k.checked_sub(q.checked_add(i as i64)?)?.checked_sub(self.lowest)?;
        let first = usize::try_from(first).ok()?;
        (first + cols <= self.count).then_some(first..first + cols)
    }

    /// Visits each pair of row `i` of a tile in which both have a position: column, index of its distance.
    #[inline]
    fn each(&self, at: &Place<'_>, i: usize, cols: usize, mut visit: impl FnMut(usize, usize)) {
        let Some(q) = at.q_at.whole(i) else { return };
        let highest = self.lowest + self.count as i64 - 1;
        for j in 0..cols {
            if let Some(k) = at.k_at.whole(j) {
                visit(j, (k.saturating_sub(q).clamp(self.lowest, highest) - self.lowest) as usize);
            }
        }
    }
}

/// The smallest and the largest id; `None` if no token has one.
fn extent(at: &Positions) -> Option<(i64, i64)> {
    let mut extent = None;
    for b in 0..at.batch() {
        let row = at.at(0, b, 0, at.len());
        for id in (0..at.len()).filter_map(|t| row.whole(t)) {
            let (low, high) = extent.unwrap_or((id, id));
            extent = Some((id.min(low), id.max(high)));
        }
    }
    extent
}

/// One axis: these methods have one distance.
pub(crate) fn check_one_axis(method: &'static str, q_at: &Positions, k_at: &Positions) -> Result<()> {
    if q_at.axes() != 1 || k_at.axes() != 1 {
        return Err(Error::Unsupported {
            method,
            what: "positions have several axes; this method reads one",
        });
    }
    Ok(())
}

/// A clip distance that a table can have.
pub(crate) fn check_distance(max_distance: usize) -> Result<()> {
    if max_distance > FARTHEST {
        return Err(Error::Invalid {
            what: "max_distance",
            given: max_distance.to_string(),
            expected: "at most 2^30",
        });
    }
    Ok(())
}

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
        q_at.check_whole()?;
        k_at.check_whole()?;
        let reach = self.reach as i64;
        let span = Span::of_ranges(q_at, k_at).unwrap_or_else(|| Span::within(reach, q_at, k_at));
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

    fn add(&self, at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
        let count = self.at.span.count;
        let values = &self.values[self.at.column(at.head) * count..][..count];
        for i in 0..s.rows {
            let (cols, row) = (s.cols, s.row(i));
            match self.at.span.run(at, i, cols) {
                Some(run) => row.iter_mut().zip(&values[run]).for_each(|(s, v)| *s += *v),
                None => self.at.span.each(at, i, cols, |j, d| row[j] += values[d]),
            }
        }
    }

    fn adjoint(
        &self,
        at: &Place<'_>,
        _q: &Block<'_, R>,
        _k: &Block<'_, R>,
        _before: &Block<'_, R>,
        ds: &mut BlockMut<'_, R>,
        into: &mut TermGrads<'_, R>,
    ) {
        let slots = &mut *into.slots;
        for i in 0..ds.rows {
            let (cols, row) = (ds.cols, &*ds.row(i));
            match self.at.span.run(at, i, cols) {
                Some(run) => slots[run].iter_mut().zip(row).for_each(|(slot, d)| *slot += *d),
                None => self.at.span.each(at, i, cols, |j, d| slots[d] += row[j]),
            }
        }
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
    mut out: ViewMut<'_, R, 3>,
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
    let none = Block::new(&[], 0, 0, 0);
    for head in 0..heads {
        for i in 0..q_at.len() {
            let at = Place {
                batch: 0,
                head,
                kv_head: head,
                q0: i,
                k0: 0,
                q_at: q_at.at(0, 0, i, 1),
                k_at: k_at.at(0, 0, 0, k_at.len()),
                scale: 1.0,
            };
            let row = out.row_mut([head, i, 0]);
            row.fill(R::ZERO);
            term.add(&at, &none, &none, &mut BlockMut::new(row, 1, k_at.len(), k_at.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_give_every_distance_and_other_ids_only_those_told_apart() {
        let (q, k) = (Positions::range(5..8), Positions::range(0..8));
        let span = Span::of_ranges(&q, &k).unwrap();
        assert_eq!(span.distances().collect::<Vec<_>>(), (-7..=2).collect::<Vec<_>>());
        let packed = Positions::packed(&[100, 3]);
        assert_eq!(Span::of_ranges(&packed, &k), None);
        assert_eq!(Span::within(4, &packed, &k), Span { lowest: -4, count: 9 });
        // All distances lie beyond the clip: one value serves them.
        assert_eq!(
            Span::within(4, &Positions::whole(&[50]), &Positions::whole(&[3, 9])),
            Span { lowest: -4, count: 1 }
        );
    }

    #[test]
    fn distances_that_overflow_are_clipped_not_wrapped() {
        let (q, k) = (Positions::range(i64::MAX - 2..i64::MAX), Positions::range(i64::MIN..i64::MIN + 2));
        assert_eq!(Span::of_ranges(&q, &k), None);
        assert_eq!(Span::within(4, &q, &k), Span { lowest: -4, count: 1 });
    }

    #[test]
    fn no_token_with_a_position_is_no_distance() {
        let none = Positions::range(0..2).with_presence(&[false, false]).unwrap();
        assert_eq!(Span::within(4, &none, &Positions::range(0..2)), Span { lowest: 0, count: 1 });
        assert_eq!(Span::of_ranges(&Positions::range(0..0), &Positions::range(0..3)).unwrap().count, 2);
    }
}
