//! Where the tokens are: always an argument, never hidden state.
//!
//! A position is a whole number or an `f64`; half-precision positions do not exist here, because bf16 cannot tell 256 from 257. A token may have no position at all:
//! it then adds nothing, biases nothing and is not turned, but it can still be attended to. Causality and windows compare the order of tokens, never these ids.

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use std::ops::Range;
use std::sync::Arc;

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
            AtIds::Range(start) => (start + i as i64) as f64,
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
            AtIds::Range(start) => start + i as i64,
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

    /// Consecutive positions, the same for each row of the batch: `0..n` for a whole sequence, `past..past + 1` for one decoded token.
    ///
    /// ```
    /// use posenc::Positions;
    /// assert_eq!(Positions::range(7..9).get(0, 0, 1), Some(8.0));
    /// ```
    pub fn range(ids: Range<i64>) -> Positions {
        let len = ids.end.saturating_sub(ids.start).max(0) as usize;
        Positions {
            ids: Ids::Range(ids.start),
            batch: 1,
            len,
            axes: 1,
            present: None,
        }
    }

    /// What a model does when it is given no positions: `0..len`.
    #[doc(alias = "arange")]
    pub fn absent(len: usize) -> Positions {
        Positions::range(0..i64::try_from(len).unwrap_or(i64::MAX))
    }

    /// Whole-number positions `(T,)`, the same for each row of the batch; any order, repeats and negative ones allowed.
    pub fn whole(ids: &[i64]) -> Positions {
        Positions {
            ids: Ids::Whole(ids.into()),
            batch: 1,
            len: ids.len(),
            axes: 1,
            present: None,
        }
    }

    /// Whole-number positions `(B, T)`, row-major.
    ///
    /// # Errors
    /// `ids` does not split into `batch` rows.
    pub fn whole_rows(ids: &[i64], batch: usize) -> Result<Positions> {
        let len = rows_of("positions [batch, seq]", ids.len(), batch)?;
        Ok(Positions {
            ids: Ids::Whole(ids.into()),
            batch: batch.max(1),
            len,
            axes: 1,
            present: None,
        })
    }

    /// Positions `(T,)` that may be fractional, for methods whose maths allows it (sinusoidal, rotary, ALiBi).
    ///
    /// # Errors
    /// NaN or infinity.
    pub fn real(ids: &[f64]) -> Result<Positions> {
        Positions::real_rows(ids, 1)
    }

    /// Positions `(B, T)` that may be fractional, row-major.
    ///
    /// # Errors
    /// NaN or infinity, or `ids` does not split into `batch` rows.
    pub fn real_rows(ids: &[f64], batch: usize) -> Result<Positions> {
        Positions::real_axes(ids, 1, batch)
    }

    /// Positions `(axes, B, T)` that may be fractional, row-major: the coordinates of a grid on each of its axes.
    ///
    /// # Errors
    /// NaN or infinity, no axis, or `ids` does not split into axes and rows.
    ///
    /// ```
    /// use posenc::Positions;
    /// let corners = Positions::real_axes(&[0.0, 0.0, 1.0, 1.0, /* widths: */ 0.0, 0.5, 0.0, 0.5], 2, 1)?;
    /// assert_eq!((corners.axes(), corners.len(), corners.get(1, 0, 3)), (2, 4, Some(0.5)));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn real_axes(ids: &[f64], axes: usize, batch: usize) -> Result<Positions> {
        if axes == 0 {
            return Err(Error::Zero { what: "axes" });
        }
        if !ids.len().is_multiple_of(axes) {
            return Err(Error::NotDivisible {
                what: "positions [axes, batch, seq]",
                value: ids.len(),
                by: "axes",
                divisor: axes,
            });
        }
        let len = rows_of("positions [batch, seq]", ids.len() / axes, batch)?;
        if let Some((index, &value)) = ids.iter().enumerate().find(|(_, id)| !id.is_finite()) {
            return Err(Error::NonFinite { value, index });
        }
        Ok(Positions {
            ids: Ids::Real(ids.into()),
            batch: batch.max(1),
            len,
            axes,
            present: None,
        })
    }

    /// Ids `(B, T)` that arrive as floats but mean whole numbers (document 001): each must be integral and small enough that its type still
    /// counts by one (2²⁴ in `f32`, 2⁵³ in `f64`).
    ///
    /// # Errors
    /// NaN, infinity, a fraction, or a magnitude beyond [`Element::EXACT_INTEGERS`].
    ///
    /// ```
    /// use posenc::{Error, Positions};
    /// assert_eq!(Positions::strict(&[0.0f32, 2.0], 1)?, Positions::whole(&[0, 2]));
    /// assert!(matches!(Positions::strict(&[1.5f32], 1), Err(Error::Fractional { index: 0, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn strict<T: Element>(ids: &[T], batch: usize) -> Result<Positions> {
        let mut whole = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let value = id.widen().to_f64();
            if !value.is_finite() {
                return Err(Error::NonFinite { value, index });
            }
            if value.fract() != 0.0 {
                return Err(Error::Fractional { value, index });
            }
            if value.abs() > T::EXACT_INTEGERS {
                return Err(Error::Imprecise {
                    value,
                    index,
                    limit: T::EXACT_INTEGERS,
                });
            }
            whole.push(value as i64);
        }
        Positions::whole_rows(&whole, batch)
    }

    /// Ids `(B, T)` that arrive as floats, truncated toward zero as PyTorch's `.long()` does: 2.9999998 becomes 2, −0.5 becomes 0.
    ///
    /// # Errors
    /// NaN, infinity or a magnitude past `i64`, where PyTorch's result is undefined.
    pub fn truncated<T: Element>(ids: &[T], batch: usize) -> Result<Positions> {
        let mut whole = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let value = id.widen().to_f64();
            if !value.is_finite() {
                return Err(Error::NonFinite { value, index });
            }
            if value.abs() >= 9_223_372_036_854_775_808.0 {
                return Err(Error::Imprecise {
                    value,
                    index,
                    limit: T::EXACT_INTEGERS,
                });
            }
            whole.push(value as i64);
        }
        Positions::whole_rows(&whole, batch)
    }

    /// Documents packed into one row: each begins at 0 again. The mask that keeps them apart is the caller's.
    pub fn packed(lengths: &[usize]) -> Positions {
        let len = lengths.iter().fold(0usize, |sum, &len| sum.saturating_add(len));
        if len > Positions::LONGEST {
            return Positions::too_long(len, 1);
        }
        Positions::whole(&lengths.iter().flat_map(|&len| 0..len as i64).collect::<Vec<_>>())
    }

    /// Positions `(B, T)` from a padding mask that is true where there is a token: each row counts its tokens from 0, and padding has no position.
    /// Left and right padding give a token the position that it has without padding (transformers: `cumsum(mask) - 1`).
    ///
    /// # Errors
    /// `is_token` does not split into `batch` rows.
    pub fn from_padding(is_token: &[bool], batch: usize) -> Result<Positions> {
        let len = rows_of("is_token [batch, seq]", is_token.len(), batch)?;
        let mut ids = Vec::with_capacity(is_token.len());
        for row in 0..batch {
            let mut seen = 0;
            for &token in &is_token[row * len..(row + 1) * len] {
                ids.push(if token { seen } else { 0 });
                seen += i64::from(token);
            }
        }
        Positions::whole_rows(&ids, batch)?.with_presence_rows(is_token, batch)
    }

    /// The cells of an image in row-major order: axis 0 is the row (height), axis 1 the column (width).
    pub fn grid(height: usize, width: usize) -> Positions {
        let cells = height.saturating_mul(width);
        if cells > Positions::LONGEST {
            return Positions::too_long(cells, 2);
        }
        let rows = (0..cells).map(|cell| (cell / width.max(1)) as i64);
        let columns = (0..cells).map(|cell| (cell % width.max(1)) as i64);
        Positions {
            ids: Ids::Whole(rows.chain(columns).collect()),
            batch: 1,
            len: cells,
            axes: 2,
            present: None,
        }
    }

    /// More tokens than any call takes: a length to be refused, without storage.
    fn too_long(len: usize, axes: usize) -> Positions {
        Positions {
            axes,
            ..Positions::absent(len)
        }
    }

    /// The same positions after `count` tokens that have none: the class token (and registers) in front of an image.
    ///
    /// ```
    /// use posenc::Positions;
    /// let at = Positions::grid(2, 2).after_unplaced(1);
    /// assert_eq!((at.len(), at.get(0, 0, 0), at.get(1, 0, 2)), (5, None, Some(1.0)));
    /// ```
    pub fn after_unplaced(self, count: usize) -> Positions {
        let (len, rows, batch) = (self.len, self.axes * self.batch, self.batch());
        let longer = count.saturating_add(len);
        if longer > Positions::LONGEST {
            return Positions::too_long(longer, self.axes);
        }
        let ids = match &self.ids {
            Ids::Range(start) => Ids::Whole(behind(count, rows, len, 0, |i| start + i as i64)),
            Ids::Whole(ids) => Ids::Whole(behind(count, rows, len, 0, |i| ids[i])),
            Ids::Real(ids) => Ids::Real(behind(count, rows, len, 0.0, |i| ids[i])),
        };
        let placed = |i: usize| self.at(0, i / len, i % len, 1).get(0).is_some();
        let flags = behind(count, batch, len, false, placed);
        Positions {
            ids,
            len: longer,
            present: Some(Presence { flags, batch }),
            ..self
        }
    }

    /// The same positions, but only tokens whose flag is true have one; `(T,)`, for each row of the batch.
    ///
    /// # Errors
    /// Another number of flags than tokens.
    #[doc(alias = "q_position_mask")]
    #[doc(alias = "k_position_mask")]
    #[doc(alias = "position_mask")]
    pub fn with_presence(self, has_position: &[bool]) -> Result<Positions> {
        self.with_presence_rows(has_position, 1)
    }

    /// The same positions, but only tokens whose flag is true have one; `(B, T)`, row-major. Its rank may differ from the ids' own.
    ///
    /// # Errors
    /// Another number of flags per row than tokens, or a batch that neither matches the ids' nor is 1.
    pub fn with_presence_rows(mut self, has_position: &[bool], batch: usize) -> Result<Positions> {
        let len = rows_of("position mask [batch, seq]", has_position.len(), batch)?;
        if len != self.len || (batch != 1 && self.batch != 1 && batch != self.batch) {
            return Err(Error::Shape {
                what: "position mask [batch, seq]",
                expected: vec![self.batch, self.len],
                given: vec![batch, len],
            });
        }
        self.present = Some(Presence {
            flags: has_position.into(),
            batch,
        });
        Ok(self)
    }

    /// The same positions with those of `other` as a further axis: the segments of [`XlNet`](crate::XlNet), or another coordinate. A token has a position where it has one in both.
    ///
    /// # Errors
    /// Another number of tokens, or batches of which neither is 1 and that differ.
    ///
    /// ```
    /// use posenc::Positions;
    /// let at = Positions::range(0..3).with_axis(&Positions::whole(&[7, 7, 8]))?;
    /// assert_eq!((at.axes(), at.get(0, 0, 2), at.get(1, 0, 2)), (2, Some(2.0), Some(8.0)));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn with_axis(self, other: &Positions) -> Result<Positions> {
        let (own, others) = (self.batch(), other.batch());
        if self.len != other.len || (own != others && own != 1 && others != 1) {
            return Err(Error::Shape {
                what: "positions of a further axis [batch, seq]",
                expected: vec![own, self.len],
                given: vec![others, other.len],
            });
        }
        self.check_len()?;
        let (batch, len) = (self.batch.max(other.batch), self.len);
        let axes = || {
            (0..self.axes)
                .map(|axis| (&self, axis))
                .chain((0..other.axes).map(|axis| (other, axis)))
        };
        let every = axes().flat_map(|(from, axis)| (0..batch * len).map(move |i| (from, axis, i / len, i % len)));
        // Ids of tokens without a position are kept as they are: `at` reads them whatever the flag.
        let ids = if [&self, other].iter().any(|from| matches!(from.ids, Ids::Real(_))) {
            Ids::Real(every.map(|(from, axis, b, t)| from.raw(axis, b, t)).collect())
        } else {
            Ids::Whole(every.map(|(from, axis, b, t)| from.raw_whole(axis, b, t)).collect())
        };
        let rows = own.max(others);
        let placed = |i: usize| [&self, other].iter().all(|from| from.at(0, i / len, i % len, 1).get(0).is_some());
        let present = (self.present.is_some() || other.present.is_some()).then(|| Presence {
            flags: (0..rows * len).map(placed).collect(),
            batch: rows,
        });
        Ok(Positions {
            ids,
            batch,
            len,
            axes: self.axes + other.axes,
            present,
        })
    }

    /// The positions of a cache that has grown: for each batch row its first `kept[b]` tokens of these, then its first `taken[b]` tokens of `more`, then
    /// fillers without a position up to the longest row.
    ///
    /// # Errors
    /// Another number of axes, more tokens than there are, or batches that do not match.
    ///
    /// ```
    /// use posenc::Positions;
    /// let cached = Positions::range(0..3);
    /// let grown = cached.followed_by(&Positions::range(7..8), &[3, 1], &[1, 1])?;
    /// assert_eq!((grown.batch(), grown.len()), (2, 4));
    /// assert_eq!((grown.get(0, 0, 3), grown.get(0, 1, 1), grown.get(0, 1, 2)), (Some(7.0), Some(7.0), None));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn followed_by(&self, more: &Positions, kept: &[usize], taken: &[usize]) -> Result<Positions> {
        let batch = kept.len();
        if taken.len() != batch || [self.batch(), more.batch()].iter().any(|rows| ![1, batch].contains(rows)) {
            return Err(Error::Shape {
                what: "tokens kept and taken per batch row [batch]",
                expected: vec![self.batch().max(more.batch())],
                given: vec![batch, taken.len()],
            });
        }
        if self.axes != more.axes {
            return Err(Error::Shape {
                what: "axes of the positions",
                expected: vec![self.axes],
                given: vec![more.axes],
            });
        }
        for (at, counts) in [(self, kept), (more, taken)] {
            at.check_len()?;
            if let Some(count) = counts.iter().find(|count| **count > at.len) {
                return Err(Error::Invalid {
                    what: "tokens of a row",
                    given: count.to_string(),
                    expected: "at most as many as there are positions",
                });
            }
        }
        let len = kept.iter().zip(taken).map(|(kept, taken)| kept + taken).max().unwrap_or(0);
        // One range after the other, of every row, or one alone: still a range, which biases by distance read faster.
        if let ([first, ..], [count, ..]) = (kept, taken)
            && kept.iter().all(|n| n == first)
            && taken.iter().all(|n| n == count)
        {
            let (start, next) = (self.start(), more.start());
            let joined = match (first, count) {
                (_, 0) => start,
                (0, _) => next,
                _ => start.filter(|start| start.checked_add(*first as i64) == next),
            };
            if let Some(start) = joined {
                return Ok(Positions::range(start..start.saturating_add(len as i64)));
            }
        }
        // Where each slot's id is found; a filler has none.
        let slots = (0..batch).flat_map(|b| (0..len).map(move |t| (b, t)));
        let source = |(b, t): (usize, usize)| -> Option<(&Positions, usize)> {
            match t.checked_sub(kept[b]) {
                None => Some((self, t)),
                Some(t) => (t < taken[b]).then_some((more, t)),
            }
        };
        let flags: Vec<bool> = slots
            .clone()
            .map(|(b, t)| source((b, t)).is_some_and(|(at, t)| at.at(0, b, t, 1).get(0).is_some()))
            .collect();
        let whole = ![self, more].iter().any(|at| matches!(at.ids, Ids::Real(_)));
        let axes = 0..self.axes;
        let every = axes.flat_map(|axis| slots.clone().map(move |slot| (axis, slot)));
        // Ids of tokens without a position are kept as they are: `at` reads them whatever the flag.
        let ids = if whole {
            Ids::Whole(
                every
                    .map(|(axis, (b, t))| source((b, t)).map_or(0, |(at, t)| at.raw_whole(axis, b, t)))
                    .collect(),
            )
        } else {
            Ids::Real(
                every
                    .map(|(axis, (b, t))| source((b, t)).map_or(0.0, |(at, t)| at.raw(axis, b, t)))
                    .collect(),
            )
        };
        let all = Positions {
            ids,
            batch,
            len,
            axes: self.axes,
            present: None,
        };
        if flags.iter().all(|flag| *flag) {
            Ok(all)
        } else {
            all.with_presence_rows(&flags, batch)
        }
    }

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
    pub fn at(&self, axis: usize, batch: usize, start: usize, len: usize) -> At<'_> {
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

    /// No row is longer than [`Positions::LONGEST`].
    pub(crate) fn check_len(&self) -> Result<()> {
        if self.len > Positions::LONGEST {
            return Err(Error::Invalid {
                what: "tokens in a row of positions",
                given: self.len.to_string(),
                expected: "at most 2^31",
            });
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

/// `rows` rows of `len` entries, each behind `count` fillers.
fn behind<N: Copy>(count: usize, rows: usize, len: usize, filler: N, entry: impl Fn(usize) -> N) -> Arc<[N]> {
    let entry = &entry;
    let row = |row: usize| std::iter::repeat_n(filler, count).chain((0..len).map(move |t| entry(row * len + t)));
    (0..rows).flat_map(row).collect()
}

fn rows_of(what: &'static str, size: usize, batch: usize) -> Result<usize> {
    if batch == 0 && size == 0 {
        return Ok(0);
    }
    if batch == 0 || !size.is_multiple_of(batch) {
        return Err(Error::NotDivisible {
            what,
            value: size,
            by: "batch",
            divisor: batch,
        });
    }
    Ok(size / batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_are_not_ids_are_refused_with_their_index() {
        assert!(matches!(
            Positions::strict(&[0.0, f32::NAN], 1),
            Err(Error::NonFinite { index: 1, .. })
        ));
        assert!(matches!(
            Positions::strict(&[2.999_999_8f32], 1),
            Err(Error::Fractional { index: 0, .. })
        ));
        assert!(matches!(Positions::strict(&[16_777_218.0f32], 1), Err(Error::Imprecise { .. })));
        assert!(Positions::strict(&[16_777_216.0f32, -0.0], 1).is_ok());
        assert!(Positions::strict(&[16_777_218.0f64], 1).is_ok());
        assert!(matches!(
            Positions::strict(&[half::bf16::from_f32(258.0)], 1),
            Err(Error::Imprecise { .. })
        ));
    }

    #[test]
    fn truncation_is_toward_zero() {
        assert_eq!(
            Positions::truncated(&[2.999_999_8f32, -0.5, 0.999, -1.5], 1).unwrap(),
            Positions::whole(&[2, 0, 0, -1])
        );
        assert!(Positions::truncated(&[1e20f32], 1).is_err());
        assert!(Positions::truncated(&[f64::INFINITY], 1).is_err());
    }

    #[test]
    fn padding_counts_tokens_only() {
        let at = Positions::from_padding(&[false, false, true, true, true, true, true, false], 2).unwrap();
        assert_eq!(
            (0..4).map(|t| at.get(0, 0, t)).collect::<Vec<_>>(),
            [None, None, Some(0.0), Some(1.0)]
        );
        assert_eq!(
            (0..4).map(|t| at.get(0, 1, t)).collect::<Vec<_>>(),
            [Some(0.0), Some(1.0), Some(2.0), None]
        );
    }

    #[test]
    fn presence_may_have_another_rank_than_ids() {
        let shared = Positions::range(0..3)
            .with_presence_rows(&[true, true, false, true, true, true], 2)
            .unwrap();
        assert_eq!((shared.batch(), shared.get(0, 0, 2), shared.get(0, 1, 2)), (2, None, Some(2.0)));
        assert!(Positions::range(0..3).with_presence(&[true]).is_err());
    }

    #[test]
    fn a_grid_has_two_axes_in_row_major_order() {
        let at = Positions::grid(2, 3);
        assert_eq!((at.len(), at.axes()), (6, 2));
        assert_eq!((at.get(0, 0, 4), at.get(1, 0, 4)), (Some(1.0), Some(1.0)));
        assert_eq!(Positions::grid(0, 0).len(), 0);
    }

    #[test]
    fn more_tokens_than_any_call_takes_are_refused_and_not_stored() {
        for at in [
            Positions::range(0..i64::MAX),
            Positions::range(i64::MIN..i64::MAX),
            Positions::absent(usize::MAX),
            Positions::absent(Positions::LONGEST + 1),
            Positions::packed(&[3, usize::MAX]),
            Positions::grid(usize::MAX, 2),
            Positions::grid(1 << 20, 1 << 20),
            Positions::range(0..3).after_unplaced(usize::MAX),
            Positions::absent(usize::MAX).after_unplaced(1),
        ] {
            assert!(at.len() > Positions::LONGEST && at.start() == Some(at.at(0, 0, 0, 1).whole(0).unwrap()));
            assert!(matches!(at.check_len(), Err(Error::Invalid { .. })));
            assert!(matches!(at.check_fit("ids", 1, at.len()), Err(Error::Invalid { .. })));
        }
        assert!(Positions::absent(Positions::LONGEST).check_len().is_ok());
    }

    #[test]
    fn a_class_token_has_no_position_and_moves_no_other() {
        let plain = Positions::real_axes(&[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5], 2, 2).unwrap();
        let masked = plain.with_presence_rows(&[true, false, true, true], 2).unwrap();
        let at = masked.clone().after_unplaced(2);
        assert_eq!((at.len(), at.batch(), at.axes()), (4, 2, 2));
        for (axis, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!((at.get(axis, b, 0), at.get(axis, b, 1)), (None, None));
            for t in 0..2 {
                assert_eq!(at.get(axis, b, t + 2), masked.get(axis, b, t));
            }
        }
        let range = Positions::range(5..7).after_unplaced(1);
        assert_eq!((range.get(0, 0, 0), range.get(0, 0, 2)), (None, Some(6.0)));
    }

    #[test]
    fn what_a_token_without_position_carries_is_not_read() {
        let at = Positions::real(&[0.0, 0.5, 2.0]).unwrap();
        assert!(matches!(at.check_whole(), Err(Error::Fractional { index: 1, .. })));
        assert!(at.with_presence(&[true, false, true]).unwrap().check_whole().is_ok());
        let huge = Positions::real(&[1e300]).unwrap();
        assert!(matches!(huge.check_whole(), Err(Error::Imprecise { index: 0, .. })));
    }

    #[test]
    fn no_rows_are_positions_too() {
        let none = Positions::strict::<f32>(&[], 0).unwrap();
        assert!(none.is_empty() && none.check_fit("ids", 0, 7).is_ok() && none.check_fit("ids", 1, 7).is_err());
        assert!(Positions::strict(&[1.0f32], 0).is_err());
    }

    #[test]
    fn a_further_axis_keeps_ids_presence_and_batch() {
        let rows = Positions::whole_rows(&[5, 6, 7, 8], 2).unwrap();
        let at = Positions::range(3..5).with_axis(&rows).unwrap();
        assert_eq!((at.batch(), at.axes()), (2, 2));
        assert_eq!(
            (at.get(0, 1, 1), at.get(1, 1, 1), at.get(1, 0, 0)),
            (Some(4.0), Some(8.0), Some(5.0))
        );
        let masked = rows.with_presence(&[true, false]).unwrap();
        let real = Positions::real(&[0.5, 1.5])
            .unwrap()
            .with_presence_rows(&[true, true, false, true], 2)
            .unwrap();
        let both = masked.with_axis(&real).unwrap();
        assert_eq!((both.get(0, 0, 0), both.get(1, 0, 0)), (Some(5.0), Some(0.5)));
        assert_eq!((both.get(0, 1, 0), both.get(1, 0, 1)), (None, None));
        let three = Positions::range(0..3);
        assert!(matches!(both.clone().with_axis(&three), Err(Error::Shape { .. })));
        let batch = Positions::whole_rows(&[0; 6], 3).unwrap();
        assert!(matches!(both.with_axis(&batch), Err(Error::Shape { .. })));
    }

    #[test]
    fn packed_documents_begin_again() {
        assert_eq!(Positions::packed(&[2, 3]), Positions::whole(&[0, 1, 0, 1, 2]));
    }

    #[test]
    fn a_grown_cache_keeps_ids_presence_axes_and_ranges() {
        let old = Positions::range(3..6);
        assert_eq!(
            old.followed_by(&Positions::range(6..8), &[3], &[2]).unwrap(),
            Positions::range(3..8)
        );
        assert_eq!(
            old.followed_by(&Positions::range(9..10), &[3], &[1]).unwrap(),
            Positions::whole(&[3, 4, 5, 9])
        );
        // One of the two alone; and no rows.
        assert_eq!(old.followed_by(&old, &[2, 2], &[0, 0]).unwrap(), Positions::range(3..5));
        assert_eq!(
            old.followed_by(&Positions::range(9..11), &[0], &[1]).unwrap(),
            Positions::range(9..10)
        );
        assert!(old.followed_by(&old, &[], &[]).unwrap().is_empty());
        let real = old.followed_by(&Positions::real(&[6.5]).unwrap(), &[3], &[1]).unwrap();
        assert_eq!((real.get(0, 0, 2), real.get(0, 0, 3)), (Some(5.0), Some(6.5)));

        let masked = Positions::whole_rows(&[5, 6, 7, 8], 2)
            .unwrap()
            .with_presence_rows(&[true, false, true, true], 2)
            .unwrap();
        let grown = old.followed_by(&masked, &[1, 3], &[2, 1]).unwrap();
        let row = |b| (0..4).map(|t| grown.get(0, b, t)).collect::<Vec<_>>();
        assert_eq!((grown.batch(), grown.len()), (2, 4));
        assert_eq!(row(0), [Some(3.0), Some(5.0), None, None]);
        assert_eq!(row(1), [Some(3.0), Some(4.0), Some(5.0), Some(7.0)]);

        let grid = Positions::grid(2, 2);
        let twice = grid.followed_by(&grid, &[4], &[1]).unwrap();
        assert_eq!(
            (twice.axes(), twice.get(0, 0, 3), twice.get(1, 0, 3), twice.get(1, 0, 4)),
            (2, Some(1.0), Some(1.0), Some(0.0))
        );

        assert!(matches!(old.followed_by(&grid, &[3], &[1]), Err(Error::Shape { .. })));
        assert!(matches!(old.followed_by(&old, &[4], &[1]), Err(Error::Invalid { .. })));
        assert!(matches!(masked.followed_by(&old, &[1], &[1]), Err(Error::Shape { .. })));
        assert!(matches!(old.followed_by(&old, &[1], &[]), Err(Error::Shape { .. })));
    }
}
