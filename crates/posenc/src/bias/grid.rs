//! # What biases by offset on a grid share
//!
//! The offset of two cells, rows and columns, is the difference of two numbers: `row · stride + column`, with as large a stride as there are offsets of columns. So a table of offsets is a table
//! of distances (`by_distance.rs`) between these numbers.

use super::by_distance::{TableAt, TableBias};
use crate::error::{Error, Result};
use crate::params::BoundMut;
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use std::sync::Arc;

/// Queries and keys of a call as cells of a grid, of one row if positions have one axis.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    q_at: Positions,
    k_at: Positions,
    /// The lowest and the highest offsets, query − key, of a query and a key of one row of the batch: of rows, then of columns.
    pub lowest: [i64; 2],
    pub highest: [i64; 2],
}

/// The rows of a table of offsets, of rows and then of columns, by lowest offset and size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub lowest: [i64; 2],
    pub sides: [usize; 2],
}

/// Where the cells of a call meet the rows of a table.
pub(super) enum Read {
    /// The row of a pair is that of its distance.
    Distances(TableAt),
    /// The row of a pair is the difference of two numbers.
    Numbers(TableAt, [Positions; 2]),
}

impl Read {
    pub fn table(&self) -> &TableAt {
        match self {
            Read::Distances(at) | Read::Numbers(at, _) => at,
        }
    }

    /// A term of the table's, which reads distances, as one of the call's.
    pub fn bind<'p, R: Real>(&self, term: impl ScoreTerm<R> + 'p) -> Arc<dyn ScoreTerm<R> + 'p> {
        match self {
            Read::Distances(_) => Arc::new(term),
            Read::Numbers(_, numbers) => Arc::new(OnGrid {
                term,
                numbers: numbers.clone(),
            }),
        }
    }
}

impl Cells {
    /// Checks the positions: whole numbers on one axis (columns) or two (rows, columns).
    pub fn new(method: &'static str, q_at: &Positions, k_at: &Positions) -> Result<Cells> {
        if q_at.axes() != k_at.axes() || q_at.axes() > 2 {
            return Err(Error::Unsupported {
                method,
                what: "positions need one axis, or two: rows and columns; those of queries and keys as many",
            });
        }
        q_at.check_len()?;
        k_at.check_len()?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        if q_at.batch() > 1 {
            k_at.check_fit("key positions [batch, seq]", q_at.batch(), k_at.len())?;
        }
        let mut cells = Cells {
            q_at: q_at.clone(),
            k_at: k_at.clone(),
            lowest: [0, 0],
            highest: [0, 0],
        };
        let mut seen = None;
        for batch in 0..q_at.batch().max(k_at.batch()) {
            let Some([q, k]) = cells.bounds(batch) else { continue };
            let of = |side: fn([i64; 2], [i64; 2]) -> i64| [0, 1].map(|axis| side(q[axis], k[axis]));
            let (low, high) = (of(|q, k| q[0].saturating_sub(k[1])), of(|q, k| q[1].saturating_sub(k[0])));
            let (lowest, highest) = seen.unwrap_or((low, high));
            seen = Some((
                [lowest[0].min(low[0]), lowest[1].min(low[1])],
                [highest[0].max(high[0]), highest[1].max(high[1])],
            ));
        }
        if let Some((lowest, highest)) = seen {
            (cells.lowest, cells.highest) = (lowest, highest);
        }
        Ok(cells)
    }

    /// The cell of a token, of a row of the batch.
    fn cell(at: &Positions, batch: usize, token: usize) -> Option<[i64; 2]> {
        let whole = |axis| at.at(axis, if at.batch() > 1 { batch } else { 0 }, token, 1).whole(0);
        match at.axes() {
            1 => Some([0, whole(0)?]),
            _ => Some([whole(0)?, whole(1)?]),
        }
    }

    /// The lowest and the highest coordinate of queries and of keys on each axis, where both have one.
    fn bounds(&self, batch: usize) -> Option<[[[i64; 2]; 2]; 2]> {
        let of = |at: &Positions| -> Option<[[i64; 2]; 2]> {
            if let Some(first) = at.start() {
                // A range may be longer than anything that is read.
                return (!at.is_empty()).then(|| [[0, 0], [first, first.saturating_add(at.len() as i64 - 1)]]);
            }
            let cells = (0..at.len()).filter_map(|t| Cells::cell(at, batch, t));
            cells.fold(None, |bounds, cell| {
                let bounds = bounds.unwrap_or(cell.map(|x| [x, x]));
                Some([0, 1].map(|axis| {
                    let ([low, high], x): ([i64; 2], i64) = (bounds[axis], cell[axis]);
                    [low.min(x), high.max(x)]
                }))
            })
        };
        Some([of(&self.q_at)?, of(&self.k_at)?])
    }

    /// No two cells lie farther apart than this.
    pub fn check_within(&self, most: [usize; 2]) -> Result<()> {
        for (axis, name) in ["rows", "columns"].into_iter().enumerate() {
            if self.lowest[axis].unsigned_abs().max(self.highest[axis].unsigned_abs()) > most[axis] as u64 {
                return Err(Error::OutsideWindow {
                    axis: name,
                    side: most[axis] + 1,
                });
            }
        }
        Ok(())
    }

    /// Where these cells read a table with a row for each of these offsets, which hold all of theirs: rows before columns, lowest first.
    pub fn read(&self, method: &'static str, table: TableBias, offsets: Offsets) -> Result<Read> {
        let Offsets { lowest, sides } = offsets;
        let (wide, rows) = (sides[1] as i64, (sides[0] * sides[1]) as i64);
        if self.q_at.start().is_some() && self.k_at.start().is_some() {
            // The row of the offset 0, as far outside the table as it may be: distances reach both ends of i64.
            let first = -i128::from(lowest[0]) * i128::from(wide) - i128::from(lowest[1]);
            let reach = self.lowest[1].unsigned_abs().max(self.highest[1].unsigned_abs());
            let table = TableBias {
                reach: usize::try_from(reach).unwrap_or(usize::MAX).min(i64::MAX as usize),
                ..table
            };
            let row = |d: i64| (first - i128::from(d)).clamp(0, i128::from(rows - 1)) as usize;
            return Ok(Read::Distances(table.at(method, &self.q_at, &self.k_at, row)?));
        }
        let numbers = self.numbered(lowest, wide)?;
        let table = TableBias {
            reach: rows as usize - 1,
            ..table
        };
        let at = table.at(method, &numbers[0], &numbers[1], |d| (-d).clamp(0, rows - 1) as usize)?;
        Ok(Read::Numbers(at, numbers))
    }

    /// Numbers of the cells such that a query's minus a key's is the row of their offset.
    fn numbered(&self, lowest: [i64; 2], wide: i64) -> Result<[Positions; 2]> {
        let batch = self.q_at.batch().max(self.k_at.batch()).max(1);
        // Both sides of a row are counted from where its keys begin, so that numbers are as small as the table.
        let origins: Vec<[i64; 2]> = (0..batch)
            .map(|b| self.bounds(b).map_or([0, 0], |[_, k]| k.map(|[low, _]| low)))
            .collect();
        let number = |at: &Positions, from: [i64; 2]| {
            let (mut numbers, mut present) = (Vec::with_capacity(batch * at.len()), Vec::with_capacity(batch * at.len()));
            for (b, origin) in origins.iter().enumerate() {
                for t in 0..at.len() {
                    let cell = Cells::cell(at, b, t);
                    present.push(cell.is_some());
                    // Of a row whose other side has no cell nothing is read, whatever the number.
                    numbers.push(cell.map_or(0, |cell| {
                        let [y, x] = [0, 1].map(|axis| cell[axis].saturating_sub(origin[axis]).saturating_sub(from[axis]));
                        y.saturating_mul(wide).saturating_add(x)
                    }));
                }
            }
            let numbered = Positions::whole_rows(&numbers, batch)?;
            match present.contains(&false) {
                true => numbered.with_presence_rows(&present, batch),
                false => Ok(numbered),
            }
        };
        Ok([number(&self.q_at, lowest)?, number(&self.k_at, [0, 0])?])
    }
}

/// A term by distance that reads the numbers of cells in place of a call's positions.
struct OnGrid<T> {
    term: T,
    numbers: [Positions; 2],
}

impl<T> OnGrid<T> {
    fn place<'a>(&'a self, at: &Place<'a>, rows: usize, cols: usize) -> Place<'a> {
        let [q_at, k_at] = &self.numbers;
        Place {
            q_at: q_at.at(0, at.batch, at.q0, rows),
            k_at: k_at.at(0, at.batch, at.k0, cols),
            ..*at
        }
    }
}

impl<R: Real, T: ScoreTerm<R>> ScoreTerm<R> for OnGrid<T> {
    fn needs(&self) -> Needs {
        Needs {
            // Of the numbers, not of the call's positions.
            by_distance: false,
            ..self.term.needs()
        }
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let at = self.place(&tile.at, s.rows, s.cols);
        self.term.add(&Tile::of_positions(at), s);
    }

    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let at = self.place(&tile.at, s.rows, s.cols);
        self.term.write(&Tile::of_positions(at), s);
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let at = self.place(&tile.at, ds.rows, ds.cols);
        self.term.adjoint(&Tile::of_positions(at), ds, into);
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        self.term.collect(slots, grads)
    }
}
