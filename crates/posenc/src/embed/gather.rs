//! From position ids to rows of a table: offset, padding row, and what happens past the end.

use crate::error::{Error, Result};
use crate::positions::Positions;
use serde::{Deserialize, Serialize};

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
    /// The whole table is stretched linearly over the ids `0 ..= largest id` of the call, as vision models do with their grids: row r is read at
    /// `id · (rows − 1) / largest`. Within the table's length nothing changes.
    Interpolate,
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

/// The rows of all tokens of a call.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    rows: Vec<Option<RowMix>>,
    batch: usize,
    len: usize,
}

impl Gather {
    /// Resolves positions against a table; the first one without an answer is the error.
    pub fn new(table: &TableRows, at: &Positions) -> Result<Gather> {
        at.check_whole()?;
        let (batch, len) = (at.batch(), at.len());
        let ids = |b: usize, t: usize| at.at(0, b, t, 1).whole(0);
        let last = table.rows as i64 - 1;
        let largest = match table.overflow {
            Overflow::Interpolate => (0..batch)
                .flat_map(|b| (0..len).filter_map(move |t| ids(b, t)))
                .max()
                .unwrap_or(0)
                .saturating_add(table.offset as i64),
            _ => last,
        };
        let mut rows = Vec::with_capacity(batch * len);
        for b in 0..batch {
            for t in 0..len {
                let Some(id) = ids(b, t) else {
                    rows.push(None);
                    continue;
                };
                if id < 0 {
                    return Err(Error::Negative {
                        position: id,
                        batch: b,
                        token: t,
                    });
                }
                let position = id.saturating_add(table.offset as i64);
                let exact = |row: i64| RowMix {
                    low: row as usize,
                    high: row as usize,
                    weight: 0.0,
                };
                let mix = if position <= last && (table.overflow != Overflow::Interpolate || largest <= last) {
                    exact(position)
                } else {
                    match table.overflow {
                        Overflow::Error => {
                            return Err(Error::PastTable {
                                position,
                                batch: b,
                                token: t,
                                rows: table.rows,
                            });
                        }
                        Overflow::Clamp => exact(last),
                        Overflow::Wrap => exact((id % (table.rows - table.offset) as i64) + table.offset as i64),
                        Overflow::Interpolate => {
                            // The rows below the offset are not positions and take no part in the stretch.
                            let first = table.offset as i64;
                            let x = first as f64 + id as f64 * (last - first) as f64 / (largest - first) as f64;
                            let low = x.floor().min(last as f64) as usize;
                            RowMix {
                                low,
                                high: (low + 1).min(last as usize),
                                weight: x - low as f64,
                            }
                        }
                    }
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
