//! Where the tokens are: always an argument, never hidden state.
//!
//! A position is a whole number or an `f64`; half-precision positions do not exist here, because bf16 cannot tell 256 from 257. A token may have no position at all:
//! it then adds nothing, biases nothing and is not turned, but it can still be attended to. Causality and windows compare the order of tokens, never these ids.

mod documents;
mod join;
mod make;
mod mrope;
mod shards;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::real::Element;
use std::sync::Arc;

pub use documents::Documents;
pub use mrope::{Mrope, Next, Padding, Patches, Placed, Segment, Time};
pub use shards::{Cut, Shards};

/// Positions of one stream of tokens: shared by the batch, or one row per batch row; one axis, or several (image grids).
#[derive(Clone, Debug, PartialEq)]
#[doc(alias = "seq_positions")]
#[doc(alias = "position_ids")]
#[doc(alias = "q_positions")]
#[doc(alias = "k_positions")]
pub struct Positions {
    ids: Ids,
    batch: usize,
    len: usize,
    axes: usize,
    present: Option<Presence>,
}

/// Row-major `[axes, batch, len]`, or a range without storage.
#[derive(Clone, Debug, PartialEq)]
enum Ids {
    Range(i64),
    Whole(Arc<[i64]>),
    Real(Arc<[f64]>),
}

/// Which tokens have a position, `[batch, len]`.
#[derive(Clone, Debug, PartialEq)]
struct Presence {
    flags: Arc<[bool]>,
    batch: usize,
}

/// Positions of the rows or columns of one tile, on one axis.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The ids.
    pub ids: AtIds<'a>,
    /// Which of them exist; all if `None`.
    pub present: Option<&'a [bool]>,
}

/// The ids of an [`At`]. A range is what makes biases by distance cheap.
#[derive(Clone, Copy, Debug)]
pub enum AtIds<'a> {
    /// Consecutive whole numbers from this one.
    Range(i64),
    /// Whole numbers.
    Whole(&'a [i64]),
    /// Any finite numbers.
    Real(&'a [f64]),
}

impl At<'_> {
    /// The position of entry `i`, or `None` if it has none.
    #[inline]
    pub fn get(&self, i: usize) -> Option<f64> {
        if self.present.is_some_and(|flags| !flags[i]) {
            return None;
        }
        Some(match self.ids {
            AtIds::Range(start) => start.saturating_add(i as i64) as f64,
            AtIds::Whole(ids) => ids[i] as f64,
            AtIds::Real(ids) => ids[i],
        })
    }

    /// The position of entry `i` if it is a whole number; `None` if it has none. Fractional positions are floored: methods that need whole
    /// numbers refuse them before any tile is made.
    #[inline]
    pub fn whole(&self, i: usize) -> Option<i64> {
        if self.present.is_some_and(|flags| !flags[i]) {
            return None;
        }
        Some(match self.ids {
            AtIds::Range(start) => start.saturating_add(i as i64),
            AtIds::Whole(ids) => ids[i],
            AtIds::Real(ids) => ids[i].floor() as i64,
        })
    }

    /// The first id, if the entries are consecutive and all exist.
    #[inline]
    pub fn range(&self) -> Option<i64> {
        match (self.ids, self.present) {
            (AtIds::Range(start), None) => Some(start),
            _ => None,
        }
    }
}

impl Positions {
    /// The longest row of tokens that anything is computed for. Longer ones can be made, because a range has no storage; every call refuses them.
    pub const LONGEST: usize = 1 << 31;

    /// The most coordinates of a token: far past any grid.
    const MOST_AXES: usize = 1 << 16;

    /// The id that stands at a token, whether or not it counts.
    fn raw(&self, axis: usize, batch: usize, token: usize) -> f64 {
        match self.at(axis, batch, token, 1).ids {
            AtIds::Range(id) => id as f64,
            AtIds::Whole(ids) => ids[0] as f64,
            AtIds::Real(ids) => ids[0],
        }
    }

    /// The same of positions that are whole numbers.
    fn raw_whole(&self, axis: usize, batch: usize, token: usize) -> i64 {
        match self.at(axis, batch, token, 1).ids {
            AtIds::Range(id) => id,
            AtIds::Whole(ids) => ids[0],
            AtIds::Real(ids) => ids[0] as i64,
        }
    }

    /// Tokens in a row.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows that differ: 1 if all rows of the batch share their positions.
    pub fn batch(&self) -> usize {
        self.batch.max(self.present.as_ref().map_or(1, |p| p.batch))
    }

    /// Coordinates per token.
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// The first id, if the positions are one range without gaps on one axis.
    pub fn start(&self) -> Option<i64> {
        match (&self.ids, &self.present) {
            (Ids::Range(start), None) => Some(*start),
            _ => None,
        }
    }

    /// The coordinate of a token on an axis; `None` if it has no position.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn get(&self, axis: usize, batch: usize, token: usize) -> Option<f64> {
        assert!(axis < self.axes && token < self.len);
        self.at(axis, batch, token, 1).get(0)
    }

    /// The coordinates of `len` tokens from `start` on an axis, for a row of the batch (any row, if they are shared).
    ///
    /// # Panics
    /// If an index is out of range.
    #[inline]
    pub fn at(&self, axis: usize, batch: usize, start: usize, len: usize) -> At<'_> {
        // Of a range, nothing else would notice.
        assert!(
            axis < self.axes && start <= self.len && len <= self.len - start,
            "tokens {start}.. ({len}) of {}",
            self.len
        );
        let row = |rows: usize| (if rows == 1 { 0 } else { batch }) * self.len + start;
        let from = axis * self.batch * self.len + row(self.batch);
        let ids = match &self.ids {
            Ids::Range(first) => AtIds::Range(first + start as i64),
            Ids::Whole(ids) => AtIds::Whole(&ids[from..from + len]),
            Ids::Real(ids) => AtIds::Real(&ids[from..from + len]),
        };
        At {
            ids,
            present: self.present.as_ref().map(|p| &p.flags[row(p.batch)..row(p.batch) + len]),
        }
    }

    /// The largest coordinate of a token that has a position, on any axis.
    pub(crate) fn largest(&self) -> Option<f64> {
        if let Some(start) = self.start() {
            return (self.len > 0).then(|| start.saturating_add(self.len as i64 - 1) as f64);
        }
        let tokens = (0..self.axes).flat_map(|axis| (0..self.batch()).map(move |b| (axis, b)));
        let rows = tokens.flat_map(|(axis, b)| (0..self.len).filter_map(move |t| self.at(axis, b, t, 1).get(0)));
        rows.fold(None, |largest, id| Some(largest.map_or(id, |largest: f64| largest.max(id))))
    }

    /// All coordinates are whole numbers that f64 tells from their neighbours, or the first that is not. Those of tokens without a position are not read.
    pub(crate) fn check_whole(&self) -> Result<()> {
        let Ids::Real(ids) = &self.ids else { return Ok(()) };
        for (index, &value) in ids.iter().enumerate() {
            let (b, t) = (index / self.len % self.batch, index % self.len);
            let rows = if self.batch == 1 { 0..self.batch() } else { b..b + 1 };
            let fine = value.fract() == 0.0 && value.abs() <= f64::EXACT_INTEGERS;
            if fine || rows.into_iter().all(|b| self.at(0, b, t, 1).get(0).is_none()) {
                continue;
            }
            if value.fract() != 0.0 {
                return Err(Error::Fractional { value, index });
            }
            return Err(Error::Imprecise {
                value,
                index,
                limit: f64::EXACT_INTEGERS,
            });
        }
        Ok(())
    }

    /// No coordinate of a token that has a position is larger than `limit`, up to which a number type counts by one; the first that is.
    pub(crate) fn check_counted(&self, limit: f64) -> Result<()> {
        if let Some(start) = self.start() {
            let last = start.saturating_add(self.len as i64 - 1);
            if self.is_empty() || (start as f64 >= -limit && last as f64 <= limit) {
                return Ok(());
            }
        }
        for axis in 0..self.axes {
            for b in 0..self.batch() {
                let ids = self.at(axis, b, 0, self.len);
                let far = (0..self.len)
                    .filter_map(|t| Some((t, ids.get(t)?)))
                    .find(|(_, id)| id.abs() > limit);
                if let Some((t, value)) = far {
                    let index = (axis * self.batch() + b) * self.len + t;
                    return Err(Error::Imprecise { value, index, limit });
                }
            }
        }
        Ok(())
    }

    /// No row is longer than [`Positions::LONGEST`].
    pub(crate) fn check_len(&self) -> Result<()> {
        if self.len > Positions::LONGEST {
            return Err(too_many_tokens(self.len));
        }
        Ok(())
    }

    /// The positions fit a stream of `len` tokens in `batch` rows, and are not too many.
    pub(crate) fn check_fit(&self, what: &'static str, batch: usize, len: usize) -> Result<()> {
        self.check_len()?;
        // Ids that fill no row cannot say how long the rows would be.
        if batch == 0 && self.is_empty() {
            return Ok(());
        }
        if self.len != len || (self.batch() != 1 && self.batch() != batch) {
            return Err(Error::Shape {
                what,
                expected: vec![batch, len],
                given: vec![self.batch(), self.len],
            });
        }
        Ok(())
    }
}

/// Why a row of this many tokens is not made.
fn too_many_tokens(given: usize) -> Error {
    Error::Invalid {
        what: "tokens in a row of positions",
        given: given.to_string(),
        expected: "at most 2^31",
    }
}

/// A token has not more coordinates than any grid.
fn check_axes(axes: usize) -> Result<()> {
    if axes > Positions::MOST_AXES {
        return Err(Error::Invalid {
            what: "axes of the positions",
            given: axes.to_string(),
            expected: "at most 2^16",
        });
    }
    Ok(())
}

/// Rows that differ and tokens of each, where `size` entries are `[batch, seq]`. Rows of no tokens do not differ, however many there are.
fn rows_of(what: &'static str, size: usize, batch: usize) -> Result<[usize; 2]> {
    if size == 0 {
        return Ok([1, 0]);
    }
    if batch == 0 || !size.is_multiple_of(batch) {
        return Err(Error::NotDivisible {
            what,
            value: size,
            by: "batch",
            divisor: batch,
        });
    }
    Ok([batch, size / batch])
}
