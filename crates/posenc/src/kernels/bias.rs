//! Biases by distance, tile by tile, and written out.
//!
//! Keys at consecutive positions read consecutive values, so a row of a tile is a slice of them; beyond the distances that are told apart it is one value. Keys at any positions are
//! gathered. Each number is computed as one by one, on every instruction set.

use super::rows::{RowsMut, copy_row, narrow_row, share_planes};
use super::{Present, multiversion};
use crate::positions::{At, AtIds};
use crate::real::{Element, Real};
use crate::term::BlockMut;
use crate::view::ViewMut;
use std::ops::Range;

/// Columns of a tile that are gathered together.
const GATHERED: usize = 128;
/// Positions may differ by this much, and tables have so many values, where distances are counted in 32 bits: sums of three such numbers do not overflow.
const NEAR: i64 = 1 << 29;
/// Numbers of a row that are computed in the first-level cache before they are stored.
const STAGE: usize = 2048;
/// Distances that are computed there for several rows, where rows are slices of a line of them.
const LINE: usize = 4096;
/// Rows that are slices of one line at the least: fewer are computed one by one.
const TOGETHER: usize = 4;

/// What becomes of a value: it is added to what is there, or written over it (`WRITE`; a sum with 0, so that there is no −0 either way).
#[inline(always)]
fn put<R: Real, const WRITE: bool>(s: &mut R, value: R) {
    *s = if WRITE { R::ZERO + value } else { *s + value };
}

/// The row's columns, and zeros in them where it is written and its query has no position.
#[inline(always)]
fn row_of<'s, R: Real, const WRITE: bool>(s: &'s mut BlockMut<'_, R>, i: usize, cols: &Range<usize>, placed: bool) -> Option<&'s mut [R]> {
    let row = &mut s.row(i)[cols.clone()];
    if !placed && WRITE {
        row.fill(R::ZERO);
    }
    placed.then_some(row)
}

multiversion! {
    /// `s[i, j] += values[first(i) + (j − cols.start)]` for columns whose keys follow each other; an index past either end reads that end. Rows without a `first` get nothing.
    pub(crate) fn add_runs<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, cols: &Range<usize>, first: &F, values: &[R]) = runs[false; false; false]
}

multiversion! {
    /// As [`add_runs`], over what is there.
    pub(crate) fn write_runs<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, cols: &Range<usize>, first: &F, values: &[R]) = runs[true; true; true]
}

#[inline(always)]
fn runs<R: Real, F: Fn(usize) -> Option<i64>, const WRITE: bool>(s: &mut BlockMut<'_, R>, cols: &Range<usize>, first: &F, values: &[R]) {
    let (n, count) = (cols.len() as i64, values.len() as i64);
    for i in 0..s.rows {
        let first = first(i);
        let Some(row) = row_of::<R, WRITE>(s, i, cols, first.is_some()) else {
            continue;
        };
        let first = first.unwrap_or(0);
        let near = first.saturating_neg().clamp(0, n);
        let far = count.saturating_sub(first).clamp(near, n);
        let (before, rest) = row.split_at_mut(near as usize);
        let (between, after) = rest.split_at_mut((far - near) as usize);
        let value = values[0];
        before.iter_mut().for_each(|s| put::<R, WRITE>(s, value));
        if !between.is_empty() {
            let values = &values[(first + near) as usize..][..between.len()];
            between.iter_mut().zip(values).for_each(|(s, value)| put::<R, WRITE>(s, *value));
        }
        let value = values[values.len() - 1];
        after.iter_mut().for_each(|s| put::<R, WRITE>(s, value));
    }
}

multiversion! {
    /// `s[i, j] += slope · d` with d the distance `first(i) + (j − cols.start)`, or minus its size where `symmetric`, rounded once.
    pub(crate) fn add_ramp<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, cols: &Range<usize>, first: &F, slope: R, symmetric: bool) = ramp[false; false; false]
}

multiversion! {
    /// As [`add_ramp`], over what is there.
    pub(crate) fn write_ramp<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, cols: &Range<usize>, first: &F, slope: R, symmetric: bool) = ramp[true; true; true]
}

#[inline(always)]
fn ramp<R: Real, F: Fn(usize) -> Option<i64>, const WRITE: bool>(
    s: &mut BlockMut<'_, R>,
    cols: &Range<usize>,
    first: &F,
    slope: R,
    symmetric: bool,
) {
    for i in 0..s.rows {
        let first = first(i);
        let Some(row) = row_of::<R, WRITE>(s, i, cols, first.is_some()) else {
            continue;
        };
        let first = first.unwrap_or(0);
        if first.unsigned_abs() <= NEAR as u64 && row.len() <= NEAR as usize {
            // 32 bits become vectors; the conversion rounds once, as that of f64 does.
            let first = first as i32;
            match symmetric {
                true => (0..row.len()).for_each(|j| put::<R, WRITE>(&mut row[j], slope * R::of(f64::from(-(first + j as i32).abs())))),
                false => (0..row.len()).for_each(|j| put::<R, WRITE>(&mut row[j], slope * R::of(f64::from(first + j as i32)))),
            }
            continue;
        }
        for (j, s) in row.iter_mut().enumerate() {
            let d = first.saturating_add(j as i64) as f64;
            put::<R, WRITE>(s, slope * R::of(if symmetric { -d.abs() } else { d }));
        }
    }
}

multiversion! {
    /// `s[i, j] += values[key(j) − query(i) − lowest]` for keys at any positions, all of which have one; an index past either end reads that end.
    pub(crate) fn add_gathered<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, keys: &At<'_>, query: &F, lowest: i64, values: &[R]) = gathered[false; false; false]
}

multiversion! {
    /// As [`add_gathered`], over what is there.
    pub(crate) fn write_gathered<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, keys: &At<'_>, query: &F, lowest: i64, values: &[R]) = gathered[true; true; true]
}

#[inline(always)]
fn gathered<R: Real, F: Fn(usize) -> Option<i64>, const WRITE: bool>(
    s: &mut BlockMut<'_, R>,
    keys: &At<'_>,
    query: &F,
    lowest: i64,
    values: &[R],
) {
    let last = values.len() as i64 - 1;
    let far = |k: i64, q: i64| values[k.saturating_sub(q).saturating_sub(lowest).clamp(0, last) as usize];
    if last >= NEAR || lowest.unsigned_abs() > NEAR as u64 {
        return scattered::<R, _, _, _, WRITE>(s, keys, query, None::<fn(i32) -> R>, far);
    }
    let (low, last) = (lowest as i32, last as i32);
    scattered::<R, _, _, _, WRITE>(
        s,
        keys,
        query,
        Some(
            #[inline(always)]
            |d: i32| {
                // SAFETY: from 0 to the last, and there is one, or the clamp would have panicked.
                unsafe { *values.get_unchecked((d - low).clamp(0, last) as usize) }
            },
        ),
        far,
    );
}

multiversion! {
    /// As [`add_ramp`], for keys at any positions, all of which have one.
    pub(crate) fn add_ramp_at<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, keys: &At<'_>, query: &F, slope: R, symmetric: bool) = ramp_at[false; false; false]
}

multiversion! {
    /// As [`add_ramp_at`], over what is there.
    pub(crate) fn write_ramp_at<R: Real, F: Fn(usize) -> Option<i64>>(s: &mut BlockMut<'_, R>, keys: &At<'_>, query: &F, slope: R, symmetric: bool) = ramp_at[true; true; true]
}

#[inline(always)]
fn ramp_at<R: Real, F: Fn(usize) -> Option<i64>, const WRITE: bool>(
    s: &mut BlockMut<'_, R>,
    keys: &At<'_>,
    query: &F,
    slope: R,
    symmetric: bool,
) {
    let far = |k: i64, q: i64| {
        let d = k.saturating_sub(q) as f64;
        slope * R::of(if symmetric { -d.abs() } else { d })
    };
    match symmetric {
        true => scattered::<R, _, _, _, WRITE>(s, keys, query, Some(|d: i32| slope * R::of(f64::from(-d.abs()))), far),
        false => scattered::<R, _, _, _, WRITE>(s, keys, query, Some(|d: i32| slope * R::of(f64::from(d))), far),
    }
}

/// Values of distances `key − query`: `near` of those up to ±2³⁰, where it is given, or `far` of key and query.
#[inline(always)]
fn scattered<R: Real, F: Fn(usize) -> Option<i64>, N: Fn(i32) -> R, D: Fn(i64, i64) -> R, const WRITE: bool>(
    s: &mut BlockMut<'_, R>,
    keys: &At<'_>,
    query: &F,
    near: Option<N>,
    far: D,
) {
    let mut block = [0; GATHERED];
    for start in (0..s.cols).step_by(GATHERED) {
        let cols = start..(start + GATHERED).min(s.cols);
        let key = |j: usize| keys.whole(j).unwrap_or(0);
        let base = key(start);
        let mut widest = 0;
        let mut place = |to: &mut i32, key: i64| {
            let from_base = key.saturating_sub(base);
            widest |= from_base.unsigned_abs();
            *to = from_base as i32;
        };
        match keys.ids {
            // Without a choice for each key it becomes vector code.
            AtIds::Whole(ids) => ids[cols.clone()].iter().zip(&mut block).for_each(|(id, to)| place(to, *id)),
            _ => cols.clone().zip(&mut block).for_each(|(j, to)| place(to, key(j))),
        }
        // A power of two: all are below it if no bit from there on is set.
        let fits = widest < NEAR as u64;
        for i in 0..s.rows {
            let query = query(i);
            let Some(row) = row_of::<R, WRITE>(s, i, &cols, query.is_some()) else {
                continue;
            };
            let query = query.unwrap_or(0);
            let from_base = query.saturating_sub(base);
            match &near {
                Some(near) if fits && from_base.unsigned_abs() <= NEAR as u64 => {
                    let q = from_base as i32;
                    row.iter_mut().zip(&block).for_each(|(s, k)| put::<R, WRITE>(s, near(*k - q)));
                }
                _ => row
                    .iter_mut()
                    .zip(cols.clone())
                    .for_each(|(s, j)| put::<R, WRITE>(s, far(key(j), query))),
            }
        }
    }
}

/// How the numbers of a matrix come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Any columns of a row.
    Parts,
    /// A row at once.
    WholeRows,
    /// Each row is the one before it, moved by a column: only the distance `column − row` decides. Columns before the first may be asked for, as far to the left as there are rows.
    ByDistance,
}

/// Writes every row of `out` `[batch, heads, rows, width]`: `write([batch, head, row], first column, part)` gives some columns of one, or all.
/// What is rounded, and what is large, is computed in the first-level cache and stored from there; by the caller's pool.
pub(crate) fn write_rows<T: Element>(
    on: Present,
    out: ViewMut<'_, T, 4>,
    how: Written,
    write: impl Fn([usize; 3], i64, &mut [T::Real]) + Sync + Send,
) {
    let width = out.shape()[3];
    share_planes(out, |mut rows| {
        if how == Written::ByDistance && (TOGETHER..=LINE / 2).contains(&rows.tokens().len()) {
            return slide(on, &mut rows, &write);
        }
        if !rows.far() && T::as_real(&mut []).is_some() {
            return rows.each(|at, row| {
                if let Some(row) = T::as_real(row) {
                    write(at, 0, row);
                }
            });
        }
        let mut stage = [T::Real::ZERO; STAGE];
        // Of a size that the stack may not have: for terms of a user's own.
        let mut long = Vec::new();
        let stage = if how == Written::WholeRows && width > STAGE {
            long.resize(width, T::Real::ZERO);
            &mut long[..]
        } else {
            &mut stage[..]
        };
        let at_once = stage.len();
        rows.each_ahead(|at, row, later| {
            for start in (0..width).step_by(at_once) {
                let to = &mut row[start..(start + at_once).min(width)];
                let stage = &mut stage[..to.len()];
                write(at, start as i64, stage);
                let ahead = later.map_or(to.as_ptr(), |later| later.wrapping_add(start));
                narrow_row(on, stage, to, ahead);
            }
        });
    });
}

/// Rows that are slices of one line of distances, which is computed and rounded once for all rows of a head.
fn slide<T: Element>(on: Present, rows: &mut RowsMut<'_, T>, write: &impl Fn([usize; 3], i64, &mut [T::Real])) {
    let zero = T::narrow(T::Real::ZERO);
    let (mut line, mut stage) = ([zero; LINE], [T::Real::ZERO; STAGE]);
    let (first, last) = (rows.tokens().start, rows.tokens().len() - 1);
    rows.each_head(|[b, h], rows| {
        let at_once = LINE - last;
        for start in (0..rows.width()).step_by(at_once) {
            let columns = start..(start + at_once).min(rows.width());
            let line = &mut line[..columns.len() + last];
            for (i, line) in line.chunks_mut(STAGE).enumerate() {
                let left = (start + i * STAGE) as i64 - last as i64;
                if let Some(line) = T::as_real(line) {
                    write([b, h, first], left, line);
                    continue;
                }
                let stage = &mut stage[..line.len()];
                write([b, h, first], left, stage);
                narrow_row(on, stage, line, line.as_ptr());
            }
            rows.columns(columns).each_ahead(|[_, _, t], row, later| {
                let ahead = later.unwrap_or(row.as_ptr());
                copy_row(on, &line[last - (t - first)..][..row.len()], row, ahead);
            });
        }
    });
}

#[cfg(test)]
mod tests;
