//! Positions from positions: with tokens that have none, and of a cache that grows.

use super::{AtIds, Ids, Positions, Presence, check_axes, rows_of, too_many_tokens};
use crate::error::{Error, Result};
use crate::memory;
use std::sync::Arc;

impl Positions {
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
        if longer > Positions::LONGEST || memory::check::<[i64; 2]>("tokens of the rows", &[rows, longer]).is_err() {
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

    /// The positions of some of the tokens, in this order, by their index in a row: a rank's part of a sequence, the last tokens of a mask that has grown, the rows that
    /// a cache keeps.
    ///
    /// # Errors
    /// An index past the last token.
    ///
    /// ```
    /// use posenc::Positions;
    /// assert_eq!(Positions::range(5..9).select(&[3, 0])?, Positions::whole(&[8, 5]));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "gather")]
    pub fn select(&self, tokens: &[usize]) -> Result<Positions> {
        if let Some(token) = tokens.iter().find(|token| **token >= self.len) {
            return Err(Error::Invalid {
                what: "index of a token",
                given: token.to_string(),
                expected: "less than the number of positions in a row",
            });
        }
        if tokens.len() > Positions::LONGEST {
            return Err(too_many_tokens(tokens.len()));
        }
        // Neighbours of a range are a range, which biases by distance read faster.
        if let (Some(start), Some(&first)) = (self.start(), tokens.first())
            && tokens.iter().enumerate().all(|(t, token)| *token == first + t)
        {
            let start = start.saturating_add(first as i64);
            return Ok(Positions::range(start..start.saturating_add(tokens.len() as i64)));
        }
        memory::check::<[i64; 2]>("selected positions [axes, batch, seq]", &[self.axes, self.batch(), tokens.len()])?;
        let row = |rows: usize| (0..rows).flat_map(|row| tokens.iter().map(move |token| row * self.len + token));
        let ids = match &self.ids {
            Ids::Range(start) => Ids::Whole(tokens.iter().map(|token| start + *token as i64).collect()),
            Ids::Whole(ids) => Ids::Whole(row(self.axes * self.batch).map(|i| ids[i]).collect()),
            Ids::Real(ids) => Ids::Real(row(self.axes * self.batch).map(|i| ids[i]).collect()),
        };
        let present = self.present.as_ref().map(|present| Presence {
            flags: row(present.batch).map(|i| present.flags[i]).collect(),
            batch: present.batch,
        });
        Ok(Positions {
            ids,
            batch: self.batch,
            len: tokens.len(),
            axes: self.axes,
            present,
        })
    }

    /// Tokens at the beginning of every row that stand where they stand in `other`; `None` where rows or axes are others.
    pub(crate) fn in_common(&self, other: &Positions) -> Option<usize> {
        if self.batch() != other.batch() || self.axes != other.axes {
            return None;
        }
        let mut common = self.len.min(other.len);
        if let (Some(a), Some(b)) = (self.start(), other.start()) {
            return Some(if a == b { common } else { 0 });
        }
        for (axis, b) in (0..self.axes).flat_map(|axis| (0..self.batch()).map(move |b| (axis, b))) {
            let (own, others) = (self.at(axis, b, 0, common), other.at(axis, b, 0, common));
            let alike = |t: &usize| match (own.ids, others.ids) {
                // f64 does not tell all whole numbers apart.
                (AtIds::Range(_) | AtIds::Whole(_), AtIds::Range(_) | AtIds::Whole(_)) => own.whole(*t) == others.whole(*t),
                // Bits: 0 and −0 have sines of their own.
                _ => own.get(*t).map(f64::to_bits) == others.get(*t).map(f64::to_bits),
            };
            common = (0..common).take_while(alike).count();
        }
        Some(common)
    }

    /// The tokens from this one on, of every row.
    pub(crate) fn rest(&self, from: usize) -> Positions {
        match self.start() {
            Some(start) => Positions::range(start + from as i64..start.saturating_add(self.len as i64)),
            None => {
                let tokens: Vec<usize> = (from..self.len).collect();
                // All of them are below the length.
                self.select(&tokens).unwrap_or_else(|_| self.clone())
            }
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
        let [batch, len] = rows_of("position mask [batch, seq]", has_position.len(), batch)?;
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
        check_axes(self.axes + other.axes)?;
        let (batch, len) = (self.batch.max(other.batch), self.len);
        memory::check::<[i64; 2]>("positions [axes, batch, seq]", &[self.axes + other.axes, own.max(others), len])?;
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
        memory::check::<[i64; 2]>("positions [axes, batch, seq]", &[self.axes, batch, len])?;
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
}

/// `rows` rows of `len` entries, each behind `count` fillers.
fn behind<N: Copy>(count: usize, rows: usize, len: usize, filler: N, entry: impl Fn(usize) -> N) -> Arc<[N]> {
    let entry = &entry;
    let row = |row: usize| std::iter::repeat_n(filler, count).chain((0..len).map(move |t| entry(row * len + t)));
    (0..rows).flat_map(row).collect()
}
