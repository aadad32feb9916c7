//! # What methods by distance share
//!
//! Queries and keys at consecutive positions have only `q_len + k_len − 1` distances between them, and those of a row of a tile are consecutive. Packed documents and padded rows are a
//! few such runs; scattered positions are looked up one by one.

use crate::error::{Error, Result};
use crate::kernels::{self, Present};
use crate::params::Scope;
use crate::positions::{At, Positions};
use crate::real::Real;
use crate::term::Place;
use std::ops::Range;

/// The largest distance that a table can tell from larger ones: its row numbers then fit `u32` with room to spare.
pub(crate) const FARTHEST: usize = 1 << 30;

/// Numbers that a call may hold per token, so that all its distances lie in one run.
const PER_TOKEN: usize = 4;

/// Distances that a call may always hold, however few its tokens are.
const FEW: usize = 1 << 12;

fn per_token(q_at: &Positions, k_at: &Positions) -> usize {
    q_at.len().saturating_add(k_at.len()).saturating_mul(PER_TOKEN)
}

/// A run of distances `key − query`, lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    /// The lowest, `key − query`.
    pub lowest: i64,
    /// How many follow each other from there.
    pub count: usize,
}

impl Span {
    /// Every distance of a call, if they are O(q_len + k_len): always for ranges, and for packed documents and padded rows.
    pub fn whole(q_at: &Positions, k_at: &Positions) -> Option<Span> {
        Span::within(per_token(q_at, k_at), q_at, k_at)
    }

    /// Every distance of a call, if they are [`Span::whole`] or few at all: for methods that need a row for each.
    pub fn few(q_at: &Positions, k_at: &Positions) -> Option<Span> {
        Span::within(FEW.max(per_token(q_at, k_at)), q_at, k_at)
    }

    fn within(most: usize, q_at: &Positions, k_at: &Positions) -> Option<Span> {
        let (Some((q_low, q_high)), Some((k_low, k_high))) = (extent(q_at, None), extent(k_at, None)) else {
            return Some(Span { lowest: 0, count: 1 });
        };
        let (lowest, highest) = (k_low.checked_sub(q_high)?, k_high.checked_sub(q_low)?);
        let count = usize::try_from(highest.checked_sub(lowest)?).ok()?.checked_add(1)?;
        (count <= most).then_some(Span { lowest, count })
    }

    /// The distances of a call as far as a method tells them apart: those beyond ±`reach` count as `reach`.
    pub fn clipped(reach: i64, q_at: &Positions, k_at: &Positions) -> Span {
        let (Some((q_low, q_high)), Some((k_low, k_high))) = (extent(q_at, None), extent(k_at, None)) else {
            return Span { lowest: 0, count: 1 };
        };
        let lowest = k_low.saturating_sub(q_high).clamp(-reach, reach);
        let highest = k_high.saturating_sub(q_low).clamp(-reach, reach);
        Span {
            lowest,
            count: (highest - lowest) as usize + 1,
        }
    }

    /// It has all that `other` has.
    pub fn covers(self, other: Span) -> bool {
        let low = other.lowest.checked_sub(self.lowest);
        low.is_some_and(|low| low >= 0 && (low as usize).saturating_add(other.count) <= self.count)
    }

    /// All that both have, and twice as many as these at an end that does not reach, so that tables grow rarely; no further than ±`reach`, as which what lies beyond is read.
    pub fn grown(self, needed: Span, reach: i64) -> Span {
        let end = |span: Span| span.lowest.saturating_add(span.count as i64 - 1);
        let more = self.count as i64;
        let low = match needed.lowest < self.lowest {
            true => needed.lowest.min(self.lowest.saturating_sub(more).max(-reach)),
            false => self.lowest,
        };
        let high = match end(needed) > end(self) {
            true => end(needed).max(end(self).saturating_add(more).min(reach)),
            false => end(self),
        };
        // Spans that lie far apart have nothing to share.
        let most = 4 * needed.count.max(FEW) as i64;
        match high.checked_sub(low) {
            Some(last) if last < most => Span {
                lowest: low,
                count: last as usize + 1,
            },
            _ => needed,
        }
    }

    /// The distances, lowest first.
    pub fn distances(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |d| self.lowest + d as i64)
    }

    /// Visits the pairs of a tile that have positions, run of keys by run: row, columns, index of the first column's distance. Those of the other columns follow it.
    #[inline]
    pub fn each(self, at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, Range<usize>, usize)) {
        for KeyRun { cols, first } in key_runs(&at.k_at, cols) {
            for i in 0..rows {
                let Some(q) = at.q_at.whole(i) else { continue };
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
#[derive(Clone)]
pub(crate) struct KeyRuns<'a> {
    at: At<'a>,
    next: usize,
    cols: usize,
}

/// See [`KeyRuns`].
pub(crate) fn key_runs<'a>(at: &At<'a>, cols: usize) -> KeyRuns<'a> {
    KeyRuns { at: *at, next: 0, cols }
}

impl Iterator for KeyRuns<'_> {
    type Item = KeyRun;

    #[inline]
    fn next(&mut self) -> Option<KeyRun> {
        let end = self.cols;
        if self.next == 0
            && end > 0
            && let Some(first) = self.at.range()
        {
            self.next = end;
            return Some(KeyRun { cols: 0..end, first });
        }
        let (from, first) = (self.next..end).find_map(|j| Some((j, self.at.whole(j)?)))?;
        let follows = |j: usize| self.at.whole(j).is_some() && self.at.whole(j) == first.checked_add((j - from) as i64);
        let to = (from + 1..end).find(|&j| !follows(j)).unwrap_or(end);
        self.next = to;
        Some(KeyRun { cols: from..to, first })
    }
}

/// Tokens that run on average to the next gap in positions, where runs are taken as tiles of their own.
const LONG: usize = 32;

/// Queries and keys lie in long runs of consecutive positions: ranges, padded rows, packed documents of some length. Decided for a call, so that its tiles are all computed alike.
pub(crate) fn in_long_runs(q_at: &Positions, k_at: &Positions) -> bool {
    [q_at, k_at].into_iter().all(|at| {
        (0..at.batch()).all(|batch| {
            let row = at.at(0, batch, 0, at.len());
            let runs = || key_runs(&row, at.len());
            row.range().is_some() || runs().count() * LONG <= runs().map(|run| run.cols.len()).sum()
        })
    })
}

/// A part of a tile whose queries and whose keys lie at consecutive positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    /// Its first row and column, and how many.
    pub rows: [usize; 2],
    pub cols: [usize; 2],
    /// The distance `key − query` of its last row and first column: that of row i and column j is `rows − 1 − i + j` more.
    pub lowest: i64,
}

/// The pairs of a tile that have positions, as runs of queries and keys.
pub(crate) fn runs<'a>(at: &Place<'a>, rows: usize, cols: usize) -> impl Iterator<Item = Run> + use<'a> {
    let k_at = at.k_at;
    key_runs(&at.q_at, rows).flat_map(move |q| {
        let last = q.first.saturating_add(q.cols.len() as i64 - 1);
        key_runs(&k_at, cols).map(move |k| Run {
            rows: [q.cols.start, q.cols.len()],
            cols: [k.cols.start, k.cols.len()],
            // Distances past the ends of i64 are read as those at the ends are: both are far past any table.
            lowest: k.first.saturating_sub(last),
        })
    })
}

/// How a term by distance meets the keys of a tile.
pub(crate) enum Met<'a> {
    /// Run by run.
    Runs(KeyRuns<'a>),
    /// One by one: many keys begin a run of their own, and all have a position.
    Scattered,
}

impl<'a> Met<'a> {
    /// Runs of fewer keys than this, on average, cost more than looking up each key.
    const SHORT: usize = 8;
    /// Keys at the beginning of a tile that are looked at.
    const SAMPLE: usize = 64;

    /// Chooses for a tile of this many columns.
    pub fn of(at: &At<'a>, cols: usize) -> Met<'a> {
        let runs = key_runs(at, cols);
        if at.range().is_some() || at.present.is_some_and(|flags| flags[..cols].contains(&false)) {
            return Met::Runs(runs);
        }
        let sample = cols.min(Met::SAMPLE);
        match key_runs(at, sample).nth(sample / Met::SHORT) {
            Some(_) if cols > 1 => Met::Scattered,
            _ => Met::Runs(runs),
        }
    }
}

/// The smallest and the largest id, in a row of the batch or in all; `None` if no token has one.
pub(crate) fn extent(at: &Positions, batch: Option<usize>) -> Option<(i64, i64)> {
    if let Some(first) = at.start() {
        return (!at.is_empty()).then(|| (first, first.saturating_add(at.len() as i64 - 1)));
    }
    let mut extent = None;
    for b in batch.map_or(0..at.batch(), |b| b..b + 1) {
        let row = at.at(0, b, 0, at.len());
        for id in (0..at.len()).filter_map(|t| row.whole(t)) {
            let (low, high) = extent.unwrap_or((id, id));
            extent = Some((id.min(low), id.max(high)));
        }
    }
    extent
}

/// `y += x`.
#[inline]
pub(crate) fn add_row<R: Real>(y: &mut [R], x: &[R]) {
    kernels::add_row(Present::current(), y, x);
}

/// `y += a·x`.
#[inline]
pub(crate) fn add_scaled<R: Real>(y: &mut [R], a: R, x: &[R]) {
    kernels::add_scaled(Present::current(), y, a, x);
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

/// x·y in 16 partial sums, so that it becomes vector code.
#[inline]
pub(crate) fn dot<R: Real>(x: &[R], y: &[R]) -> R {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    let mut sums = [R::ZERO; 16];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: R = x_rest.iter().zip(y_rest).map(|(x, y)| *x * *y).sum();
    sums.into_iter().sum::<R>() + rest
}

/// The sum of x, in 16 partial sums.
#[inline]
pub(crate) fn sum<R: Real>(x: &[R]) -> R {
    let (x, rest) = x.as_chunks::<16>();
    let mut sums = [R::ZERO; 16];
    for x in x {
        for lane in 0..16 {
            sums[lane] += x[lane];
        }
    }
    let rest: R = rest.iter().copied().sum();
    sums.into_iter().sum::<R>() + rest
}

/// Whose table it is, in a `Display`.
pub(crate) fn owner(scope: Scope) -> &'static str {
    match scope {
        Scope::Model => "model",
        Scope::Layer => "layer",
    }
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
    fn tables_of_distances_grow_to_twice_their_size_and_not_over_gaps() {
        let span = |lowest, count| Span { lowest, count };
        let (mut have, mut grown) = (span(-10, 11), 0);
        for t in 10..100_000i64 {
            let needed = span(-t, t as usize + 1);
            if !have.covers(needed) {
                (have, grown) = (have.grown(needed, i64::MAX), grown + 1);
            }
            assert!(have.covers(needed) && have.count <= 2 * needed.count);
        }
        assert!(grown <= 14, "{grown}");
        assert_eq!(span(-10, 11).grown(span(-13, 14), 12), span(-13, 14));
        assert_eq!(span(-10, 11).grown(span(-11, 12), 12), span(-12, 13));
        assert_eq!(span(-10, 11).grown(span(1 << 40, 5), i64::MAX), span(1 << 40, 5));
        assert_eq!(span(i64::MIN, 3).grown(span(i64::MAX - 2, 3), i64::MAX), span(i64::MAX - 2, 3));
    }

    #[test]
    fn distances_that_overflow_are_clipped_not_wrapped() {
        let (q, k) = (Positions::range(i64::MAX - 2..i64::MAX), Positions::range(i64::MIN..i64::MIN + 2));
        assert_eq!(Span::whole(&q, &k), None);
        assert_eq!(Span::clipped(4, &q, &k), Span { lowest: -4, count: 1 });
        let table: Vec<f32> = (0..9).map(|x| x as f32).collect();
        let mut bias = [f32::NAN; 4];
        let out = crate::ViewMut::new(&mut bias, [1, 2, 2]).unwrap();
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
        assert_eq!(
            key_runs(&at.at(0, 0, 0, 7), 7).collect::<Vec<_>>(),
            [run(0..3, 3), run(3..5, 0), run(6..7, 8)]
        );
        let padded = Positions::from_padding(&[true, false, true], 1).unwrap();
        assert_eq!(
            key_runs(&padded.at(0, 0, 0, 3), 3).collect::<Vec<_>>(),
            [run(0..1, 0), run(2..3, 1)]
        );
        assert_eq!(
            key_runs(&Positions::range(4..9).at(0, 0, 2, 3), 3).collect::<Vec<_>>(),
            [run(0..3, 6)]
        );
    }
}
