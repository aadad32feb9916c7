//! From position ids to rows of a table: offset, padding row, and what happens past the end.

use crate::error::{Error, Result};
use crate::kernels::Mix;
use crate::memory;
use crate::positions::Positions;
use crate::real::Real;
use crate::steps::ByToken;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a learned table answers for a position past its last row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// A typed error: the default, because every other answer is one the model was not trained with.
    #[default]
    Error,
    /// The last row: all tokens past the end share it, their order is lost.
    Clamp,
    /// The id modulo the number of rows: ids repeat.
    Wrap,
    /// The table is stretched linearly over the ids `0 ..= largest`, where `largest` is the largest id of the call in the streams that read the table: an id
    /// reads it at `id · (rows − 1) / largest`, so first and last row stay first and last. Within the table's length nothing changes. The stretch
    /// depends on the call: a sequence that is decoded token by token is stretched anew at each step; [`Overflow::InterpolateTo`] is not.
    Interpolate,
    /// The same stretch, always over the ids `0 .. len`: a token keeps its row however long the call is. An id of `len` or more is an error.
    InterpolateTo(usize),
}

impl Overflow {
    /// What a `Display` of a method says of it: nothing of the default.
    pub(crate) fn describe(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overflow::Error => Ok(()),
            Overflow::Clamp => write!(f, ", clamped past the end"),
            Overflow::Wrap => write!(f, ", wrapped past the end"),
            Overflow::Interpolate => write!(f, ", interpolated past the end"),
            Overflow::InterpolateTo(len) => write!(f, ", interpolated to {len}"),
        }
    }
}

/// The rows of a table that a position can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableRows {
    /// Rows in the table.
    pub rows: usize,
    /// Added to each id (2 in OPT and BART: their first two rows are not positions).
    pub offset: usize,
    /// A row that adds nothing and learns nothing.
    pub padding_row: Option<usize>,
    /// Past the end.
    pub overflow: Overflow,
}

/// One token's answer: a row, or a mix of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowMix {
    pub low: usize,
    pub high: usize,
    /// Share of `high`.
    pub weight: f64,
}

impl RowMix {
    fn exact(row: i64) -> RowMix {
        RowMix {
            low: row as usize,
            high: row as usize,
            weight: 0.0,
        }
    }
}

/// The rows of all tokens of a call.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    rows: Rows,
    /// The largest id that a stretched table serves.
    stretch: Option<i64>,
}

#[derive(Clone, Debug)]
enum Rows {
    /// Consecutive ones from here, the same for all rows of the batch.
    Run(usize),
    Each(ByToken<Option<RowMix>>),
}

impl TableRows {
    /// The settings make sense.
    pub fn check(&self) -> Result<()> {
        if self.rows == 0 {
            return Err(Error::Zero { what: "max_len" });
        }
        if self.offset >= self.rows {
            return Err(Error::Invalid {
                what: "offset",
                given: self.offset.to_string(),
                expected: "less than max_len",
            });
        }
        if let Some(row) = self.padding_row
            && row >= self.rows
        {
            return Err(Error::Invalid {
                what: "padding_row",
                given: row.to_string(),
                expected: "less than max_len",
            });
        }
        if let Some(row) = self.padding_row
            && row >= self.offset
            && matches!(self.overflow, Overflow::Interpolate | Overflow::InterpolateTo(_))
        {
            return Err(Error::Invalid {
                what: "padding_row",
                given: row.to_string(),
                expected: "less than the offset: an interpolated table would mix the padding row into its neighbours",
            });
        }
        if self.overflow == Overflow::InterpolateTo(0) {
            return Err(Error::Zero {
                what: "length to interpolate to",
            });
        }
        Ok(())
    }

    /// The last id that has an answer; `None` if all have one.
    fn last_id(&self, stretch: Option<i64>) -> Option<i64> {
        let last = (self.rows - 1 - self.offset) as i64;
        match self.overflow {
            Overflow::Clamp | Overflow::Wrap | Overflow::Interpolate => None,
            Overflow::Error => Some(last),
            Overflow::InterpolateTo(_) => Some(last.max(stretch.unwrap_or(last))),
        }
    }

    /// The answer for one id that is not negative; `None` past the end. `stretch` is the largest id that the table must serve.
    fn row(&self, id: i64, stretch: Option<i64>) -> Option<RowMix> {
        let (first, last) = (self.offset as i64, self.rows as i64 - 1);
        if let Some(largest) = stretch
            && largest > last - first
        {
            // The rows below the offset are not positions and take no part in the stretch.
            let x = first as f64 + id as f64 * (last - first) as f64 / largest as f64;
            let low = x.floor().min(last as f64);
            return (id <= largest).then_some(RowMix {
                low: low as usize,
                high: (low as usize + 1).min(last as usize),
                weight: x - low,
            });
        }
        if id <= last - first {
            return Some(RowMix::exact(id + first));
        }
        match self.overflow {
            Overflow::Clamp => Some(RowMix::exact(last)),
            Overflow::Wrap => Some(RowMix::exact(id % (last - first + 1) + first)),
            Overflow::Error | Overflow::Interpolate | Overflow::InterpolateTo(_) => None,
        }
    }

    /// The largest id that the table must serve in a call of these streams, where it is stretched.
    fn stretch(&self, streams: &[&Positions]) -> Option<i64> {
        match self.overflow {
            Overflow::Interpolate => Some(largest_id(streams)),
            Overflow::InterpolateTo(len) => Some(i64::try_from(len - 1).unwrap_or(i64::MAX)),
            _ => None,
        }
    }

    /// The rows of one stream.
    fn resolve(&self, at: &Positions, stretch: Option<i64>) -> Result<Rows> {
        let len = at.len();
        if let Some(start) = at.start()
            && start >= 0
            && len > 0
        {
            let end = start.saturating_add(len as i64 - 1);
            if let Some(last) = self.last_id(stretch)
                && end > last
            {
                // The first id of a range that has no row is known without the rows before it.
                let id = start.max(last.saturating_add(1));
                return Err(no_row(id, self.offset, 0, (id - start) as usize, self.rows));
            }
            let (last, first) = ((self.rows - 1 - self.offset) as i64, start as usize + self.offset);
            let stretched = stretch.is_some_and(|largest| largest > last);
            let padding = self.padding_row.is_some_and(|row| (first..first + len).contains(&row));
            if end <= last && !stretched && !padding {
                return Ok(Rows::Run(first));
            }
        }
        self.each(at, stretch).map(Rows::Each)
    }

    /// The row of each token, one by one.
    fn each(&self, at: &Positions, stretch: Option<i64>) -> Result<ByToken<Option<RowMix>>> {
        let (batch, len) = (at.batch(), at.len());
        let numbers = memory::check::<Option<RowMix>>("table rows of the positions [batch, seq]", &[batch, len])?;
        let mut rows = Vec::with_capacity(numbers);
        for b in 0..batch {
            let ids = at.at(0, b, 0, len);
            for t in 0..len {
                let Some(id) = ids.whole(t) else {
                    rows.push(None);
                    continue;
                };
                let mix = if id < 0 { None } else { self.row(id, stretch) };
                let Some(mix) = mix else {
                    return Err(no_row(id, self.offset, b, t, self.rows));
                };
                let padding = self.padding_row.is_some_and(|row| mix.low == row && mix.weight == 0.0);
                rows.push((!padding).then_some(mix));
            }
        }
        Ok(ByToken::new(rows, batch, len, 1))
    }
}

/// The largest id of these streams.
fn largest_id(streams: &[&Positions]) -> i64 {
    let mut largest = 0;
    for at in streams {
        if let Some(start) = at.start() {
            if !at.is_empty() {
                largest = largest.max(start.saturating_add(at.len() as i64 - 1));
            }
            continue;
        }
        for b in 0..at.batch() {
            let ids = at.at(0, b, 0, at.len());
            largest = (0..at.len()).filter_map(|t| ids.whole(t)).fold(largest, i64::max);
        }
    }
    largest
}

impl Gather {
    /// Resolves the positions of one stream against a table; the first one without an answer is the error. `streams` are all streams that read the
    /// table in this call: they share one stretch.
    pub fn new(table: &TableRows, at: &Positions, streams: &[&Positions]) -> Result<Gather> {
        for at in streams {
            check_ids(at)?;
        }
        let stretch = table.stretch(streams);
        let rows = table.resolve(at, stretch)?;
        Ok(Gather { rows, stretch })
    }

    /// The same of the positions `at` instead of `before`; `false` where that is no less work, or refused.
    pub fn go_on(&mut self, table: &TableRows, before: &Positions, at: &Positions, streams: &[&Positions]) -> bool {
        if streams.iter().any(|at| check_ids(at).is_err()) || table.stretch(streams) != self.stretch {
            return false;
        }
        let (Some(kept), Rows::Each(rows)) = (at.in_common(before), &mut self.rows) else {
            return false;
        };
        match table.each(&at.rest(kept), self.stretch) {
            Ok(rest) if rest.batch() == rows.batch() => rows.go_on(kept, &rest),
            _ => false,
        }
    }

    /// The answer for a token; `None` if it has no position or means the padding row.
    #[inline]
    pub fn get(&self, batch: usize, token: usize) -> Option<RowMix> {
        match &self.rows {
            Rows::Run(first) => Some(RowMix::exact((first + token) as i64)),
            Rows::Each(rows) => rows.data()[rows.index(batch, token)],
        }
    }

    /// The same as the kernels take it.
    #[inline]
    pub fn mix<R: Real>(&self, batch: usize, token: usize) -> Option<Mix<R>> {
        self.get(batch, token).map(|mix| Mix {
            row: mix.low,
            other: (mix.weight != 0.0).then(|| (mix.high, [R::of(1.0 - mix.weight), R::of(mix.weight)])),
        })
    }
}

/// A table is indexed by whole numbers on one axis.
pub(crate) fn check_ids(at: &Positions) -> Result<()> {
    if at.axes() != 1 {
        return Err(Error::Unsupported {
            method: "learned table",
            what: "positions have several axes; a table is read by one id per token",
        });
    }
    at.check_whole()
}

/// Why an id has no row.
pub(crate) fn no_row(id: i64, offset: usize, batch: usize, token: usize, rows: usize) -> Error {
    if id < 0 {
        Error::Negative {
            position: id,
            batch,
            token,
        }
    } else {
        Error::PastTable {
            position: id.saturating_add(offset as i64),
            batch,
            token,
            rows,
        }
    }
}
