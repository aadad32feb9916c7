//! # What biases by distance share
//!
//! A bias that depends on `key − query` alone has, for queries and keys at consecutive positions, only `q_len + k_len − 1` values per head: row i of a tile is a slice
//! of them, and so is the gradient of that row. Packed documents and padded rows are a few such slices; scattered positions look each pair up in the same values.

use crate::call::Parts;
use crate::error::{Error, Result};
use crate::params::{Bound, BoundMut, ParamSpec};
use crate::plan::Prepared;
use crate::positions::{At, Positions};
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use crate::view::ViewMut;
use std::ops::Range;
use std::sync::Arc;

/// The largest distance that a table can tell from larger ones: its row numbers then fit `u32` with room to spare.
const FARTHEST: usize = 1 << 30;

/// Numbers that a call may hold per token, so that all its distances lie in one run.
const PER_TOKEN: usize = 4;

/// A run of distances `key − query`, lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    lowest: i64,
    count: usize,
}

impl Span {
    /// Every distance of a call, if they are O(q_len + k_len): always for ranges, and for packed documents and padded rows.
    pub fn whole(q_at: &Positions, k_at: &Positions) -> Option<Span> {
        let (Some((q_low, q_high)), Some((k_low, k_high))) = (extent(q_at), extent(k_at)) else {
            return Some(Span { lowest: 0, count: 1 });
        };
        let (lowest, highest) = (k_low.checked_sub(q_high)?, k_high.checked_sub(q_low)?);
        let count = usize::try_from(highest.checked_sub(lowest)?).ok()?.checked_add(1)?;
        (count <= PER_TOKEN * (q_at.len() + k_at.len())).then_some(Span { lowest, count })
    }

    /// The distances of a call as far as a method tells them apart: those beyond ±`reach` count as `reach`.
    fn clipped(reach: i64, q_at: &Positions, k_at: &Positions) -> Span {
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

    /// Visits the pairs of a tile that have positions: row, columns, index of the first column's distance. Those of the other columns follow it.
    #[inline]
    pub fn each(self, at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, Range<usize>, usize)) {
        let keys = key_runs(&at.k_at, cols);
        for i in 0..rows {
            let Some(q) = at.q_at.whole(i) else { continue };
            for KeyRun { cols, first } in &keys {
                let first = first.saturating_sub(q).saturating_sub(self.lowest);
                if first >= 0 && first as usize + cols.len() <= self.count {
                    visit(i, cols.clone(), first as usize);
                    continue;
                }
                for (t, j) in cols.clone().enumerate() {
                    let index = first.saturating_add(t as i64).clamp(0, self.count as i64 - 1);
                    visit(i, j..j + 1, index as usize);
                }
            }
        }
    }
}

/// Keys of a tile at consecutive positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyRun {
    /// Their columns.
    pub cols: Range<usize>,
    /// The position of the first.
    pub first: i64,
}

/// The keys of a tile that have a position, as runs: one for a range, one per document where documents are packed.
pub(crate) fn key_runs(at: &At<'_>, cols: usize) -> Vec<KeyRun> {
    if let Some(first) = at.range() {
        return vec![KeyRun { cols: 0..cols, first }];
    }
    let mut runs: Vec<KeyRun> = Vec::new();
    for j in 0..cols {
        let Some(key) = at.whole(j) else { continue };
        match runs.last_mut() {
            Some(run) if run.cols.end == j && run.first.checked_add(run.cols.len() as i64) == Some(key) => run.cols.end += 1,
            _ => runs.push(KeyRun {
                cols: j..j + 1,
                first: key,
            }),
        }
    }
    runs
}

/// The smallest and the largest id; `None` if no token has one.
fn extent(at: &Positions) -> Option<(i64, i64)> {
    if let Some(first) = at.start() {
        return (!at.is_empty()).then(|| (first, first.saturating_add(at.len() as i64 - 1)));
    }
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

/// `y += x`. Not inlined: as a function of its own it becomes vector code, because its arguments cannot overlap.
#[inline(never)]
fn add_row<R: Real>(y: &mut [R], x: &[R]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += *x);
}

/// `y += a·x`, likewise.
#[inline(never)]
pub(crate) fn add_scaled<R: Real>(y: &mut [R], a: R, x: &[R]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * *x);
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
        let span = Span::whole(q_at, k_at).unwrap_or_else(|| Span::clipped(reach, q_at, k_at));
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
            term.add(&Tile::of_positions(at), &mut BlockMut::new(row, 1, k_at.len(), k_at.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_holds_every_distance_or_only_those_told_apart() {
        let (q, k) = (Positions::range(5..8), Positions::range(0..8));
        let span = Span::whole(&q, &k).unwrap();
        assert_eq!(span.distances().collect::<Vec<_>>(), (-7..=2).collect::<Vec<_>>());
        let packed = Positions::packed(&[100, 3]);
        assert_eq!(Span::whole(&packed, &packed), Some(Span { lowest: -99, count: 199 }));
        let scattered = Positions::whole(&[1000, -1000]);
        assert_eq!(Span::whole(&scattered, &k), None);
        assert_eq!(Span::clipped(4, &scattered, &k), Span { lowest: -4, count: 9 });
        // All distances lie beyond the clip: one value serves them.
        assert_eq!(
            Span::clipped(4, &Positions::whole(&[50]), &Positions::whole(&[3, 9])),
            Span { lowest: -4, count: 1 }
        );
    }

    #[test]
    fn distances_that_overflow_are_clipped_not_wrapped() {
        let (q, k) = (Positions::range(i64::MAX - 2..i64::MAX), Positions::range(i64::MIN..i64::MIN + 2));
        assert_eq!(Span::whole(&q, &k), None);
        assert_eq!(Span::clipped(4, &q, &k), Span { lowest: -4, count: 1 });
        let table: Vec<f32> = (0..9).map(|x| x as f32).collect();
        let mut bias = [f32::NAN; 4];
        let out = ViewMut::new(&mut bias, [1, 2, 2]).unwrap();
        let direction = crate::Direction::KeyMinusQuery;
        crate::clipped_bias(crate::View::new(&table, [9, 1]).unwrap(), direction, &q, &k, out).unwrap();
        assert_eq!(bias, [0.0; 4]);
    }

    #[test]
    fn no_token_with_a_position_is_no_distance() {
        let none = Positions::range(0..2).with_presence(&[false, false]).unwrap();
        assert_eq!(Span::whole(&none, &Positions::range(0..2)), Some(Span { lowest: 0, count: 1 }));
        assert_eq!(Span::whole(&Positions::range(0..0), &Positions::range(0..3)).unwrap().count, 1);
    }

    #[test]
    fn runs_of_keys_break_at_gaps_and_tokens_without_a_position() {
        let at = Positions::whole(&[3, 4, 5, 0, 1, 7, 8])
            .with_presence(&[true, true, true, true, true, false, true])
            .unwrap();
        let run = |cols, first| KeyRun { cols, first };
        assert_eq!(key_runs(&at.at(0, 0, 0, 7), 7), [run(0..3, 3), run(3..5, 0), run(6..7, 8)]);
        let padded = Positions::from_padding(&[true, false, true], 1).unwrap();
        assert_eq!(key_runs(&padded.at(0, 0, 0, 3), 3), [run(0..1, 0), run(2..3, 1)]);
        assert_eq!(key_runs(&Positions::range(4..9).at(0, 0, 2, 3), 3), [run(0..3, 6)]);
    }
}
