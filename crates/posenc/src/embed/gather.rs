//! From position ids to rows of a table: offset, padding row, and what happens past the end.

use crate::error::{Error, Result};
use crate::memory;
use crate::positions::Positions;
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
    rows: Vec<Option<RowMix>>,
    batch: usize,
    len: usize,
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
        let stretch = match table.overflow {
            Overflow::Interpolate => Some(largest_id(streams)),
            Overflow::InterpolateTo(len) => Some(i64::try_from(len - 1).unwrap_or(i64::MAX)),
            _ => None,
        };
        let (batch, len) = (at.batch(), at.len());
        if let Some(start) = at.start()
            && start >= 0
            && let Some(last) = table.last_id(stretch)
            && len > 0
            && start.saturating_add(len as i64 - 1) > last
        {
            // The first id of a range that has no row is known without the rows before it.
            let id = start.max(last.saturating_add(1));
            return Err(no_row(id, table.offset, 0, (id - start) as usize, table.rows));
        }
        let mut rows = Vec::with_capacity(memory::check::<Option<RowMix>>(
            "table rows of the positions [batch, seq]",
            &[batch, len],
        )?);
        for b in 0..batch {
            let ids = at.at(0, b, 0, len);
            for t in 0..len {
                let Some(id) = ids.whole(t) else {
                    rows.push(None);
                    continue;
                };
                let mix = if id < 0 { None } else { table.row(id, stretch) };
                let Some(mix) = mix else {
                    return Err(no_row(id, table.offset, b, t, table.rows));
                };
                let padding = table.padding_row.is_some_and(|row| mix.low == row && mix.weight == 0.0);
                rows.push((!padding).then_some(mix));
            }
        }
        Ok(Gather { rows, batch, len })
    }

    /// The answer for a token; `None` if it has no position or means the padding row.
    #[inline]
    pub fn get(&self, batch: usize, token: usize) -> Option<RowMix> {
        self.rows[(if self.batch == 1 { 0 } else { batch }) * self.len + token]
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
