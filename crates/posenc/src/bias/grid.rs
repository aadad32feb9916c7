//! # What biases by offset on a grid share
//!
//! The offset of two cells, rows and columns, is the difference of two numbers: `row · stride + column`, with a stride that no difference of columns reaches. So a table of offsets is a table of
//! distances (`by_distance.rs`) between these numbers.

use crate::distances::extent;
use crate::error::{Error, Result};
use crate::params::BoundMut;
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};

/// Rows and columns that lie between the cells of a call at the most.
pub(super) type Extent = [usize; 2];

/// Queries and keys of a call as cells of a grid, of one row if positions have one axis.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    q_at: Positions,
    k_at: Positions,
    /// The farthest that a key and a query of one row of the batch lie apart on each axis.
    pub extent: Extent,
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
        let mut cells = Cells {
            q_at: q_at.clone(),
            k_at: k_at.clone(),
            extent: [0, 0],
        };
        for batch in 0..q_at.batch().max(k_at.batch()) {
            for axis in 0..q_at.axes() {
                if let Some([q, k]) = cells.bounds(axis, batch) {
                    let apart = k.1.saturating_sub(q.0).max(q.1.saturating_sub(k.0)).max(0);
                    let on = &mut cells.extent[2 - q_at.axes() + axis];
                    *on = (*on).max(usize::try_from(apart).unwrap_or(usize::MAX));
                }
            }
        }
        Ok(cells)
    }

    /// The lowest and the highest coordinate of queries and of keys, where both have one.
    fn bounds(&self, axis: usize, batch: usize) -> Option<[(i64, i64); 2]> {
        let of = |at: &Positions| {
            // Positions on one axis may be a range, which has no storage to read.
            if at.axes() == 1 {
                return extent(at, (at.batch() > 1).then_some(batch));
            }
            let row = at.at(axis, if at.batch() > 1 { batch } else { 0 }, 0, at.len());
            let ids = (0..at.len()).filter_map(|t| row.whole(t));
            ids.fold(None, |bounds, id| match bounds {
                None => Some((id, id)),
                Some((low, high)) => Some((id.min(low), id.max(high))),
            })
        };
        Some([of(&self.q_at)?, of(&self.k_at)?])
    }

    /// No two cells lie farther apart than this.
    pub fn check_within(&self, most: Extent) -> Result<()> {
        for (axis, what) in ["rows between a query and a key", "columns between a query and a key"]
            .into_iter()
            .enumerate()
        {
            if self.extent[axis] > most[axis] {
                return Err(Error::Invalid {
                    what,
                    given: format!("{} or more", most[axis] + 1),
                    expected: "fewer than the window's side: give each window a row of the batch, with positions counted within it",
                });
            }
        }
        Ok(())
    }

    /// One axis: distances as they are.
    pub fn is_line(&self) -> bool {
        self.q_at.axes() == 1
    }

    /// The numbers of the cells, for columns that differ by less than half the stride.
    pub fn numbered(&self, stride: usize) -> Result<[Positions; 2]> {
        if self.is_line() {
            return Ok([self.q_at.clone(), self.k_at.clone()]);
        }
        let batch = self.q_at.batch().max(self.k_at.batch());
        let origin: Vec<[i64; 2]> = (0..batch)
            .map(|b| [0, 1].map(|axis| self.bounds(axis, b).map_or(0, |[q, k]| q.0.min(k.0))))
            .collect();
        let number = |at: &Positions| {
            // Rows that share their cells must be counted from where each row's other side begins.
            let rows = batch.max(1);
            let (mut numbers, mut present) = (Vec::with_capacity(rows * at.len()), Vec::with_capacity(rows * at.len()));
            for (b, origin) in origin.iter().enumerate() {
                let from = if at.batch() > 1 { b } else { 0 };
                let (y, x) = (at.at(0, from, 0, at.len()), at.at(1, from, 0, at.len()));
                for t in 0..at.len() {
                    let cell = y.whole(t).zip(x.whole(t));
                    present.push(cell.is_some());
                    // Of a row whose other side has no cell nothing is read.
                    numbers.push(cell.map_or(0, |(y, x)| {
                        let [y, x] = [y.saturating_sub(origin[0]), x.saturating_sub(origin[1])];
                        y.saturating_mul(stride as i64).saturating_add(x)
                    }));
                }
            }
            let numbered = Positions::whole_rows(&numbers, rows)?;
            if present.contains(&false) {
                return numbered.with_presence_rows(&present, rows);
            }
            Ok(numbered)
        };
        Ok([number(&self.q_at)?, number(&self.k_at)?])
    }
}

/// A term by distance that reads the numbers of cells in place of a call's positions.
pub(super) struct OnGrid<T> {
    pub term: T,
    pub numbers: [Positions; 2],
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
