//! # Tables that are read along the diagonals of a tile
//!
//! Queries and keys at consecutive positions read one table row per diagonal of a tile: the pair (i, j) of m rows reads that of index t = m − 1 − i + j. What a term adds is then
//! few products of the tile's rows with panels of [`PANEL`] table rows (`kernels/skewed.rs`), and its adjoint as many. Indices that read the same row, as those far from a clipped
//! table's middle do, cost one product for all of them.
//!
//! Each number comes about in the same order of operations wherever a tile begins and ends: a fused product per coordinate, first to last, then one with the factor.

use crate::distances::add_row;
use crate::kernels::{self, LANES, Left, PANEL, Part, Present, Product, Right, Store, padded};
use crate::real::Real;
use crate::term::{Block, BlockMut};
use std::ops::Range;

/// Rows of a tile whose sums are kept on the stack together.
pub(super) const ROWS: usize = 96;
/// Coordinates that are kept there: wider rows are taken in parts.
const WIDE: usize = 64;
/// Rows of a panel that lie in the tile in part only: fewer than a panel has indices, and what makes products of whole rows a multiple of [`STEP`].
const EDGE: usize = PANEL + STEP;
/// Products of so many rows, or fewer than three more, keep their sums in registers together.
const STEP: usize = 4;
/// Where no row is.
const NONE: u32 = u32::MAX;

/// Rows of `dim` numbers, `step` apart.
#[derive(Clone, Copy)]
pub(super) struct TableRows<'a, R> {
    pub data: &'a [R],
    pub step: usize,
    pub dim: usize,
}

impl<R: Real> TableRows<'_, R> {
    /// `scores[j] = scale · k[j] · row` for no more than [`ROWS`] keys: what [`Diagonals::add`] would add for each pair of this row.
    pub fn scores(&self, row: usize, k: &Block<'_, R>, scale: R, scores: &mut [R; ROWS]) {
        let (mut panel, mut sums) = ([R::ZERO; WIDE * PANEL], [R::ZERO; ROWS * LANES]);
        let on = Present::current();
        for [d0, w] in parts(self.dim) {
            R::pack_columns(on, &self.data[row * self.step + d0..], w, [1, w], &mut panel);
            let product = Product {
                shape: [k.rows, LANES, w],
                alpha: scale,
                a: Left {
                    data: &k.data[d0..],
                    row: k.ld,
                    col: 1,
                },
                b: Right {
                    data: &panel,
                    row: PANEL,
                    panel: w * PANEL,
                },
                c: &mut sums,
                ldc: LANES,
                store: Store::Add,
            };
            R::product(on, product);
        }
        scores
            .iter_mut()
            .zip(sums.chunks_exact(LANES))
            .for_each(|(score, sums)| *score = sums[0]);
    }
}

/// Coordinates of a row, some at a time: first and number.
fn parts(dim: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..dim).step_by(WIDE).map(move |d0| [d0, WIDE.min(dim - d0)])
}

/// A tile of `rows` × `cols` whose pair (i, j) reads the table row `row(rows − 1 − i + j)`, if there is one.
#[derive(Clone, Copy)]
pub(super) struct Diagonals<'a, R, F> {
    pub rows: usize,
    pub cols: usize,
    pub row: F,
    pub table: TableRows<'a, R>,
}

/// Rows of the tile, as one operand of products.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a, R> {
    pub rows: Block<'a, R>,
    /// Is added to each of them.
    pub shift: Option<&'a [R]>,
}

impl<'a, R> Operand<'a, R> {
    pub fn of(rows: Block<'a, R>) -> Self {
        Operand { rows, shift: None }
    }
}

/// What becomes of gradients, or of weights: each is left out where nobody asks for it.
pub(super) struct Totals<'s, 'b, R> {
    /// `[rows, dim]` += alpha · what each row's pairs read, weighted.
    pub rows: Option<&'s mut BlockMut<'b, R>>,
    /// The sum of that over the rows.
    pub shift: Option<&'s mut [R]>,
    /// `[table rows, dim]` += alpha · the operand's rows of the pairs that read it, weighted.
    pub table: Option<&'s mut [R]>,
}

/// Indices that follow each other.
enum Piece {
    /// All read this row.
    Same { row: usize, indices: Range<i64> },
    /// [`PANEL`] from this one on: their rows, or [`NONE`].
    Panel { from: i64, rows: [u32; PANEL] },
}

/// The rows of a block of `m` rows that an index panel meets: those that meet a part of it, and among them those that meet all.
struct Met {
    some: Range<usize>,
    all: Range<usize>,
}

impl Met {
    fn of(from: i64, m: usize, n: usize) -> Met {
        let (m, n, p) = (m as i64, n as i64, PANEL as i64);
        let some = (m - from - p).clamp(0, m)..(n + m - 1 - from).clamp(0, m);
        let start = (m - 1 - from).max(some.start);
        let end = (n + m - from - p).min(some.end);
        // What is left over joins the rows at the side that has some anyway.
        let between = (end - start).max(0);
        let whole = if between == some.end - some.start {
            between
        } else {
            between / STEP as i64 * STEP as i64
        };
        let start = if start == some.start { start } else { end.max(start) - whole };
        // Rows that meet nothing make products of the others as quick.
        let some = (some.start - (some.start - start).rem_euclid(STEP as i64)).max(0)..some.end;
        let to = |range: Range<i64>| range.start as usize..range.end.max(range.start) as usize;
        Met {
            all: to(start..start + whole),
            some: to(some),
        }
    }

    /// The rows that meet a part only, some at a time.
    fn edges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Met { some, all } = self;
        let sides = if all.is_empty() {
            [some.clone(), 0..0]
        } else {
            [some.start..all.start, all.end..some.end]
        };
        sides
            .into_iter()
            .flat_map(|side| side.clone().step_by(EDGE).map(move |r| r..(r + EDGE).min(side.end)))
    }
}

impl<R: Real, F: Fn(usize) -> Option<usize>> Diagonals<'_, R, F> {
    /// The pieces of rows `i0..i0 + m`, their indices counted from the lowest of these rows.
    fn pieces(&self, i0: usize, m: usize, mut visit: impl FnMut(Piece, &[u32; PANEL])) {
        let (count, below) = (m + self.cols - 1, self.rows - i0 - m);
        let rows_from = |from: i64| -> [u32; PANEL] {
            std::array::from_fn(|x| match usize::try_from(from + x as i64) {
                Ok(t) if t < count => (self.row)(below + t).map_or(NONE, |row| row as u32),
                _ => NONE,
            })
        };
        // With a first index that is not there, panels begin where rows that meet all of them are whole panels apart.
        let (mut from, mut next) = (-1, rows_from(-1));
        let mut same: Option<(u32, Range<i64>)> = None;
        while from < count as i64 {
            let rows = next;
            let to = from + PANEL as i64;
            next = rows_from(to);
            let there = (-from).max(0) as usize..(count as i64 - from).min(PANEL as i64) as usize;
            let first = rows[there.start];
            let alike = rows[there].iter().all(|row| *row == first);
            match &mut same {
                Some((row, indices)) if alike && *row == first => indices.end = to,
                _ => {
                    if let Some((row, indices)) = same.take() {
                        visit(
                            Piece::Same {
                                row: row as usize,
                                indices,
                            },
                            &rows,
                        );
                    }
                    if !alike {
                        visit(Piece::Panel { from, rows }, &next);
                    } else if first != NONE {
                        same = Some((first, from..to));
                    }
                }
            }
            from = to;
        }
        if let Some((row, indices)) = same {
            visit(
                Piece::Same {
                    row: row as usize,
                    indices,
                },
                &next,
            );
        }
    }

    /// Coordinates `d0..d0 + w` of the panel's rows where they lie, if these follow each other, and the distance of two.
    fn lying(&self, rows: &[u32], [d0, w]: [usize; 2]) -> Option<(&[R], usize)> {
        let TableRows { data, step, .. } = self.table;
        let follow = rows[0] != NONE && rows.windows(2).all(|two| two[1] != NONE && two[0].wrapping_add(1) == two[1]);
        (follow && w.is_multiple_of(LANES)).then(|| (&data[rows[0] as usize * step + d0..], step))
    }

    /// The same, copied: [`WIDE`] apart, with zeros up to whole vectors.
    fn staged(&self, rows: &[u32], [d0, w]: [usize; 2]) -> [R; PANEL * WIDE] {
        let mut near = [R::ZERO; PANEL * WIDE];
        for (row, near) in rows.iter().zip(near.chunks_exact_mut(WIDE)).filter(|(row, _)| **row != NONE) {
            near[..w].copy_from_slice(&self.table.data[*row as usize * self.table.step + d0..][..w]);
        }
        near
    }

    /// Asks for the rows of the panel after this one.
    fn fetch(&self, next: &[u32; PANEL], [d0, w]: [usize; 2]) {
        let rows = next.iter().filter(|row| **row != NONE);
        kernels::fetch(rows.map(|row| *row as usize * self.table.step + d0), self.table.data, w);
    }

    /// Coordinates `d0..d0 + w` of the operand's rows, [`WIDE`] apart, with zeros up to whole vectors.
    fn copy(x: Operand<'_, R>, [i0, m]: [usize; 2], [d0, w]: [usize; 2], to: &mut [R]) {
        for (i, to) in to.chunks_exact_mut(WIDE).take(m).enumerate() {
            let (to, beyond) = to[..padded(w)].split_at_mut(w);
            to.copy_from_slice(&x.rows.row(i0 + i)[d0..d0 + w]);
            beyond.fill(R::ZERO);
            if let Some(shift) = x.shift {
                add_row(to, &shift[d0..d0 + w]);
            }
        }
    }

    /// The row that all pairs read, if it is one; `None` within if none reads any.
    pub fn only(&self) -> Option<Option<usize>> {
        let count = (self.rows + self.cols).checked_sub(1)?;
        let first = (self.row)(0);
        // From the middle out: rows differ there, if they do.
        let middle = count / 2;
        (middle..count).chain(0..middle).all(|t| (self.row)(t) == first).then_some(first)
    }

    /// `s[i, j] += alpha · x[i] · row(i, j)`.
    #[inline(never)]
    pub fn add(&self, x: Operand<'_, R>, alpha: R, s: &mut BlockMut<'_, R>) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let on = Present::current();
        // Zeros are written only where the buffer is used: it takes half of the first-level cache.
        let mut buffer;
        let shifted: &mut [R] = if x.shift.is_some() {
            buffer = [R::ZERO; ROWS * WIDE];
            &mut buffer
        } else {
            &mut []
        };
        let (mut panel, mut sums) = ([R::ZERO; WIDE * PANEL], [R::ZERO; ROWS * LANES]);
        const { assert!(EDGE * PANEL <= ROWS * LANES) };
        let (cols, ld) = (self.cols, s.ld);
        let blocks = (0..self.rows).step_by(ROWS).map(|i0| [i0, ROWS.min(self.rows - i0)]);
        for ([i0, m], part) in blocks.flat_map(|rows| parts(self.table.dim).map(move |part| (rows, part))) {
            let [d0, w] = part;
            let left = if x.shift.is_some() {
                Self::copy(x, [i0, m], part, shifted);
                Block::new(&*shifted, m, w, WIDE)
            } else {
                Block::new(&x.rows.data[i0 * x.rows.ld + d0..], m, w, x.rows.ld)
            };
            self.pieces(i0, m, |piece, next| {
                self.fetch(next, part);
                let product = |rows: Range<usize>, panel: &[R], c: &mut [R], [n, ldc]: [usize; 2], alpha: R, store: Store<'_, R>| {
                    let product = Product {
                        shape: [rows.len(), n, w],
                        alpha,
                        a: Left {
                            data: &left.data[rows.start * left.ld..],
                            row: left.ld,
                            col: 1,
                        },
                        b: Right {
                            data: panel,
                            row: PANEL,
                            panel: w * PANEL,
                        },
                        c,
                        ldc,
                        store,
                    };
                    R::product(on, product);
                };
                match piece {
                    Piece::Same { row, indices } => {
                        R::pack_columns(on, &self.table.data[row * self.table.step + d0..], w, [1, w], &mut panel);
                        let reach = |i: usize| reach(&indices, m, i, cols);
                        let met = (0..m).find(|i| !reach(*i).is_empty()).unwrap_or(m);
                        let met = met..(met..m).rfind(|i| !reach(*i).is_empty()).map_or(met, |i| i + 1);
                        product(met.clone(), &panel, &mut sums, [LANES, LANES], R::ONE, Store::Over);
                        for (i, sums) in met.zip(sums.chunks_exact(LANES)) {
                            R::add_same(on, sums[0], alpha, &mut s.data[(i0 + i) * ld..][reach(i)]);
                        }
                    }
                    Piece::Panel { from, rows } => {
                        match self.lying(&rows, part) {
                            Some((table, step)) => R::pack_columns(on, table, step, [PANEL, w], &mut panel),
                            None => R::pack_columns(on, &self.staged(&rows, part), WIDE, [PANEL, w], &mut panel),
                        }
                        let met = Met::of(from, m, cols);
                        let place = Place { from, i0, m, cols, ld };
                        if !met.all.is_empty() {
                            let c = &mut s.data[place.first(met.all.start)..];
                            product(met.all.clone(), &panel, c, [PANEL, ld + 1], alpha, Store::Add);
                        }
                        for edge in met.edges() {
                            product(edge.clone(), &panel, &mut sums, [PANEL, PANEL], R::ONE, Store::Over);
                            R::add_part(on, &sums, place.part(edge), alpha, s.data);
                        }
                    }
                }
            });
        }
    }

    /// The adjoint of [`Diagonals::add`] from the gradients `g` of what it added to; and what weights `g` make of the rows that their pairs read.
    #[inline(never)]
    pub fn sums(&self, g: &Block<'_, R>, alpha: R, x: Operand<'_, R>, mut into: Totals<'_, '_, R>) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let on = Present::current();
        // Zeros are written only where a buffer is used: each of the first two takes half of the first-level cache.
        let (mut of_given, mut of_out, mut of_column);
        let (given, column): (&mut [R], &mut [R]) = if into.table.is_some() {
            (of_given, of_column) = ([R::ZERO; ROWS * WIDE], [R::ZERO; PANEL * WIDE]);
            (&mut of_given, &mut of_column)
        } else {
            (&mut [], &mut [])
        };
        let out: &mut [R] = if into.rows.is_some() || into.shift.is_some() {
            of_out = [R::ZERO; ROWS * WIDE];
            &mut of_out
        } else {
            &mut []
        };
        let wanted = !out.is_empty();
        let mut edges = [R::ZERO; EDGE * PANEL];
        let (cols, ld, dim) = (self.cols, g.ld, self.table.dim);
        let blocks = (0..self.rows).step_by(ROWS).map(|i0| [i0, ROWS.min(self.rows - i0)]);
        for ([i0, m], part) in blocks.flat_map(|rows| parts(dim).map(move |part| (rows, part))) {
            let ([d0, w], wide) = (part, padded(part[1]));
            if into.table.is_some() {
                Self::copy(x, [i0, m], part, given);
            }
            if !out.is_empty() {
                out[..m * WIDE].fill(R::ZERO);
            }
            self.pieces(i0, m, |piece, next| {
                self.fetch(next, part);
                // `rows` of the block, each `k` numbers of g.
                let mut to_rows = |rows: Range<usize>, k: usize, g: &[R], step: usize, table: (&[R], usize)| {
                    let product = Product {
                        shape: [rows.len(), wide, k],
                        alpha,
                        a: Left {
                            data: g,
                            row: step,
                            col: 1,
                        },
                        b: Right {
                            data: table.0,
                            row: table.1,
                            panel: PANEL,
                        },
                        c: &mut out[rows.start * WIDE..],
                        ldc: WIDE,
                        store: Store::Add,
                    };
                    R::product(on, product);
                };
                let to_table = |rows: Range<usize>, k: usize, g: &[R], step: usize, c: &mut [R], ldc: usize, store: Store<'_, R>| {
                    let product = Product {
                        shape: [k, wide, rows.len()],
                        alpha,
                        a: Left {
                            data: g,
                            row: 1,
                            col: step,
                        },
                        b: Right {
                            data: &given[rows.start * WIDE..],
                            row: WIDE,
                            panel: PANEL,
                        },
                        c,
                        ldc,
                        store,
                    };
                    R::product(on, product);
                };
                match piece {
                    Piece::Same { row, indices } => {
                        let masses = &mut edges[..m];
                        for (i, mass) in masses.iter_mut().enumerate() {
                            *mass = R::sum_row(on, &g.data[(i0 + i) * ld..][reach(&indices, m, i, cols)]);
                        }
                        if masses.iter().all(|mass| *mass == R::ZERO) {
                            return;
                        }
                        if wanted {
                            let row = [row as u32];
                            match self.lying(&row, part) {
                                Some(table) => to_rows(0..m, 1, masses, 1, table),
                                None => to_rows(0..m, 1, masses, 1, (&self.staged(&row, part), WIDE)),
                            }
                        }
                        if let Some(slots) = &mut into.table {
                            to_table(0..m, 1, masses, 1, column, WIDE, Store::Over);
                            add_row(&mut slots[row * dim + d0..][..w], &column[..w]);
                        }
                    }
                    Piece::Panel { from, rows } => {
                        let met = Met::of(from, m, cols);
                        let place = Place { from, i0, m, cols, ld };
                        let staged;
                        let table = match self.lying(&rows, part) {
                            Some(table) => table,
                            None if !wanted => (&[][..], 0),
                            None => {
                                staged = self.staged(&rows, part);
                                (&staged[..], WIDE)
                            }
                        };
                        let mut filled = false;
                        let whole = (!met.all.is_empty()).then(|| met.all.clone());
                        for rows in whole.into_iter().chain(met.edges()) {
                            let (from, step): (&[R], usize) = if rows.start == met.all.start && !met.all.is_empty() {
                                (&g.data[place.first(rows.start)..], ld + 1)
                            } else {
                                R::take_part(on, g.data, place.part(rows.clone()), &mut edges);
                                (&edges, PANEL)
                            };
                            if wanted {
                                to_rows(rows.clone(), PANEL, from, step, table);
                            }
                            if into.table.is_some() {
                                let store = if filled { Store::Add } else { Store::Over };
                                to_table(rows, PANEL, from, step, column, WIDE, store);
                                filled = true;
                            }
                        }
                        if let Some(slots) = into.table.as_deref_mut().filter(|_| filled) {
                            for (row, column) in rows.iter().zip(column.chunks_exact(WIDE)).filter(|(row, _)| **row != NONE) {
                                add_row(&mut slots[*row as usize * dim + d0..][..w], &column[..w]);
                            }
                        }
                    }
                }
            });
            for (i, out) in out.chunks_exact(WIDE).take(m).enumerate() {
                if let Some(rows) = &mut into.rows {
                    add_row(&mut rows.row(i0 + i)[d0..d0 + w], &out[..w]);
                }
                if let Some(shift) = &mut into.shift {
                    add_row(&mut shift[d0..d0 + w], &out[..w]);
                }
            }
        }
    }
}

/// The columns of row i of a block of m rows that meet the indices.
fn reach(indices: &Range<i64>, m: usize, i: usize, cols: usize) -> Range<usize> {
    let column = |t: i64| (t - (m - 1 - i) as i64).clamp(0, cols as i64) as usize;
    column(indices.start)..column(indices.end)
}

/// Where a panel of indices lies in a tile.
#[derive(Clone, Copy)]
struct Place {
    from: i64,
    i0: usize,
    m: usize,
    cols: usize,
    ld: usize,
}

impl Place {
    fn left(self, row: usize) -> i64 {
        self.from - (self.m - 1 - row) as i64
    }

    /// Where the first index of a row that meets all of them lies.
    fn first(self, row: usize) -> usize {
        (self.i0 + row) * self.ld + self.left(row) as usize
    }

    fn part(self, rows: Range<usize>) -> Part {
        Part {
            rows: rows.len(),
            row: self.i0 + rows.start,
            left: self.left(rows.start),
            cols: self.cols,
            ld: self.ld,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::normal;

    /// A row per index; rows that several share, some of them far; and indices without one.
    const KINDS: [fn(usize) -> Option<usize>; 4] = [
        |t| Some(t + 2),
        |t| Some(500 - t.clamp(90, 330)),
        |t| (t % 5 != 0 && !(100..200).contains(&t)).then(|| t * 7 % 90),
        |_| Some(3),
    ];

    fn equals_the_naive_sums<R: Real>() {
        for (rows, cols, dim) in [(1, 1, 1), (3, 70, 5), (96, 256, 64), (101, 45, 16), (40, 33, 70), (97, 300, 130)] {
            for (kind, row) in KINDS.into_iter().enumerate() {
                let (ld, step) = (cols + 5, dim + 3);
                let [table, x, mut s]: [Vec<R>; 3] = [1, 2, 3].map(|seed| normal(seed, 512 * 200));
                let shift: Vec<R> = normal(4, dim);
                s.truncate(rows * ld);
                for at in (0..s.len()).filter(|at| at % ld >= cols) {
                    s[at] = R::of(f64::NAN);
                }
                let along = Diagonals {
                    rows,
                    cols,
                    row,
                    table: TableRows { data: &table, step, dim },
                };
                let operand = |shift| Operand {
                    rows: Block::new(&x, rows, dim, dim),
                    shift,
                };
                let alpha = R::of(0.25);
                let of = |i: usize, j: usize| row(rows - 1 - i + j);
                for shift in [None, Some(&shift[..])] {
                    let shifted = |i: usize, c: usize| x[i * dim + c].to_f64() + shift.map_or(0.0, |shift| shift[c].to_f64());
                    let mut given = s.clone();
                    along.add(operand(shift), alpha, &mut BlockMut::new(&mut given, rows, cols, ld));
                    let (mut to_rows, mut to_shift) = (vec![R::ONE; rows * dim], vec![R::ZERO; dim]);
                    let mut to_table = vec![R::ONE; 512 * dim];
                    let totals = Totals {
                        rows: Some(&mut BlockMut::new(&mut to_rows, rows, dim, dim)),
                        shift: Some(&mut to_shift),
                        table: Some(&mut to_table),
                    };
                    along.sums(&Block::new(&s, rows, cols, ld), alpha, operand(shift), totals);

                    // Exact sums, and the sizes of their terms.
                    let mut rows_sums = vec![[1.0, 1.0]; rows * dim];
                    let mut table_sums = vec![[1.0, 1.0]; 512 * dim];
                    // Each sum of n terms is off by no more than n + 4 roundings: a product's, the factor's, the shift's, and those of parts of sums.
                    let check = |given: R, [exact, size]: [f64; 2], n: usize, what: &str| {
                        let bound = (n + 4) as f64 * R::EPSILON.to_f64() * size;
                        let error = (given.to_f64() - exact).abs();
                        assert!(error <= bound, "{rows}x{cols}x{dim}, kind {kind}: {what} {given} for {exact}");
                    };
                    for (i, j) in (0..rows).flat_map(|i| (0..ld).map(move |j| (i, j))) {
                        let before = s[i * ld + j].to_f64();
                        if j >= cols {
                            assert!(given[i * ld + j].to_f64().is_nan(), "nothing between rows");
                            continue;
                        }
                        let mut sum = [before, before.abs()];
                        for c in (0..dim).filter(|_| of(i, j).is_some()) {
                            let r = of(i, j).unwrap_or(0);
                            let (a, q) = (table[r * step + c].to_f64(), shifted(i, c));
                            let size = q.abs().max(x[i * dim + c].to_f64().abs());
                            for (sum, by) in [
                                (&mut sum, [q * a, size * a.abs()]),
                                (&mut rows_sums[i * dim + c], [before * a, (before * a).abs()]),
                                (&mut table_sums[r * dim + c], [before * q, before.abs() * size]),
                            ] {
                                sum[0] += 0.25 * by[0];
                                sum[1] += 0.25 * by[1];
                            }
                        }
                        check(given[i * ld + j], sum, dim, "score");
                    }
                    for (given, sum) in to_rows.iter().zip(&rows_sums) {
                        check(*given, *sum, cols, "row");
                    }
                    for (given, sum) in to_table.iter().zip(&table_sums) {
                        check(*given, *sum, rows * cols.min(rows), "table");
                    }
                    for c in 0..dim {
                        let terms = (0..rows).map(|i| rows_sums[i * dim + c]);
                        let sum = terms.fold([0.0, 0.0], |[s, t], [x, size]| [s + x - 1.0, t + size]);
                        check(to_shift[c], sum, cols + rows, "shift");
                    }
                }
            }
        }
    }

    #[test]
    fn products_along_diagonals_equal_the_naive_sums() {
        equals_the_naive_sums::<f32>();
        equals_the_naive_sums::<f64>();
    }

    /// The first row and column of a part change nothing: the same bits.
    #[test]
    fn parts_of_a_tile_are_computed_as_the_whole_is() {
        let (rows, cols, dim) = (70, 90, 24);
        let [table, x, s]: [Vec<f32>; 3] = [1, 2, 3].map(|seed| normal(seed, 600 * dim));
        for row in KINDS {
            let add = |[i0, m]: [usize; 2], [j0, n]: [usize; 2], s: &mut [f32]| {
                let along = Diagonals {
                    rows: m,
                    cols: n,
                    row: |t: usize| row(rows - i0 - m + j0 + t),
                    table: TableRows {
                        data: &table,
                        step: dim,
                        dim,
                    },
                };
                let x = Operand::of(Block::new(&x, rows, dim, dim).some_rows([i0, m]));
                along.add(x, 0.3, &mut BlockMut::new(s, rows, cols, cols).part([i0, m], [j0, n]));
            };
            let mut whole = s.clone();
            add([0, rows], [0, cols], &mut whole);
            for [m, n] in [[7, 11], [64, 40], [1, 90], [70, 1]] {
                let mut parts = s.clone();
                for (i0, j0) in (0..rows).step_by(m).flat_map(|i| (0..cols).step_by(n).map(move |j| (i, j))) {
                    add([i0, m.min(rows - i0)], [j0, n.min(cols - j0)], &mut parts);
                }
                assert_eq!(parts, whole, "{m}x{n}");
            }
        }
    }
}
