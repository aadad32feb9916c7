//! Diagonals of a tile as columns of a matrix product.
//!
//! Where queries and keys lie at consecutive positions, what a pair reads by distance depends on `j − i`: the pair (i, j) of a tile of m rows meets index t = m − 1 − i + j. Scores of m rows against
//! the rows of [`PANEL`] consecutive indices are one product, and its row i belongs i columns further right than its first: in a tile with rows `ld` apart, it is a matrix with rows `ld + 1` apart, which
//! the product adds to where it lies. What is here is what products cannot do: the rows whose part of a panel begins before the tile or ends behind it, indices that read the same row, and turned tiles.

use super::prefetch::prefetch_bytes;
use super::{PANEL, Present, Vectors, vectors};
use crate::real::Real;
use fearless_simd::{Simd, prelude::*};
use std::ops::Range;

/// Some rows of a tile as a panel of [`PANEL`] indices meets them: index 0 of its first row, `row`, lies in column `left` of the tile, which may be outside; that of the next row one further right.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub rows: usize,
    pub row: usize,
    pub left: i64,
    /// Of the tile, and what its rows lie apart.
    pub cols: usize,
    pub ld: usize,
}

impl Part {
    /// The indices of row r that lie in the tile.
    #[inline(always)]
    fn inside(self, r: usize) -> Range<usize> {
        let left = self.left + r as i64;
        let start = left.saturating_neg().clamp(0, PANEL as i64);
        start as usize..(self.cols as i64 - left).clamp(start, PANEL as i64) as usize
    }

    /// Where index `x` of row r lies: for those inside it is no less than 0.
    #[inline(always)]
    fn at(self, r: usize, x: usize) -> i64 {
        (self.row + r) as i64 * self.ld as i64 + self.left + (r + x) as i64
    }
}

/// Kernels by type, compiled with this crate. Public in a private module: only f32 and f64 have them.
pub trait CompiledSkewed: Sized {
    /// `s += alpha·sums` where `sums` `[rows, PANEL]` lies in the tile, with one rounding.
    fn add_part(on: Present, sums: &[Self], part: Part, alpha: Self, s: &mut [Self]);
    /// The tile's numbers that the panel meets, and zeros: `[rows, PANEL]`.
    fn take_part(on: Present, s: &[Self], part: Part, to: &mut [Self]);
    /// `s += alpha·x` for the numbers of a row, with one rounding.
    fn add_same(on: Present, x: Self, alpha: Self, s: &mut [Self]);
    /// The sum of a row, in a fixed order.
    fn sum_row(on: Present, s: &[Self]) -> Self;
    /// `to[j, i] = from[i, j]` for `shape` `[rows, cols]` of `from`; rows `steps` apart. With `add` it is added.
    fn transpose(on: Present, from: &[Self], to: &mut [Self], shape: [usize; 2], steps: [usize; 2], add: bool);
}

macro_rules! compiled_skewed {
    ($($t:ty),*) => {
        $(impl CompiledSkewed for $t {
            fn add_part(on: Present, sums: &[$t], part: Part, alpha: $t, s: &mut [$t]) {
                vectors!(on, simd => add_part(simd, sums, part, alpha, s));
            }
            fn take_part(on: Present, s: &[$t], part: Part, to: &mut [$t]) {
                vectors!(on, simd => take_part(simd, s, part, to));
            }
            fn add_same(on: Present, x: $t, alpha: $t, s: &mut [$t]) {
                vectors!(on, simd => add_same(simd, x, alpha, s));
            }
            fn sum_row(on: Present, s: &[$t]) -> $t {
                vectors!(on, simd => sum(simd, s))
            }
            fn transpose(on: Present, from: &[$t], to: &mut [$t], shape: [usize; 2], steps: [usize; 2], add: bool) {
                let [rows, cols] = shape.map(|n| n - n % <$t as Vectors>::LANES);
                match add {
                    true => vectors!(on, simd => turn::<_, $t, true>(simd, from, to, [rows, cols], steps)),
                    false => vectors!(on, simd => turn::<_, $t, false>(simd, from, to, [rows, cols], steps)),
                }
                for i in 0..shape[0] {
                    for j in (if i < rows { cols } else { 0 })..shape[1] {
                        let (x, to) = (from[i * steps[0] + j], &mut to[j * steps[1] + i]);
                        *to = if add { *to + x } else { x };
                    }
                }
            }
        })*
    };
}

compiled_skewed!(f32, f64);

/// Asks for rows that are read soon.
pub(crate) fn fetch<R: Real>(rows: impl Iterator<Item = usize>, data: &[R], width: usize) {
    for at in rows {
        prefetch_bytes::<false>(data.as_ptr().wrapping_add(at).cast(), width * size_of::<R>());
    }
}

/// The most lanes of a vector.
const MOST: usize = 16;

/// Runs `op` on the numbers of a row, a vector at a time: a last part as a vector with zeros behind it, so that each number is computed alike.
#[inline(always)]
fn each<S: Simd, R: Real>(simd: S, s: &mut [R], mut op: impl FnMut(R::Vector<S>) -> R::Vector<S>) {
    let mut chunks = s.chunks_exact_mut(R::LANES);
    for chunk in &mut chunks {
        let x = op(R::load(simd, chunk));
        R::store(simd, x, chunk);
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut last = [R::ZERO; MOST];
        last[..rest.len()].copy_from_slice(rest);
        let x = op(R::load(simd, &last));
        R::store(simd, x, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// 0, 1, 2, …
#[inline(always)]
fn lanes<S: Simd, R: Real>(simd: S) -> R::Vector<S> {
    let mut lanes = [R::ZERO; MOST];
    (1..MOST).for_each(|l| lanes[l] = lanes[l - 1] + R::ONE);
    R::load(simd, &lanes)
}

/// Visits the vectors of a panel that have lanes in the tile: row, first index, where it lies, and the lanes that are inside, from and to.
#[inline(always)]
fn vectors_of<R: Real>(part: Part, mut visit: impl FnMut(usize, usize, i64, [usize; 2])) {
    for r in 0..part.rows {
        let inside = part.inside(r);
        for x in (0..PANEL).step_by(R::LANES) {
            let (from, to) = (inside.start.max(x), inside.end.min(x + R::LANES));
            if from < to {
                visit(r, x, part.at(r, x), [from - x, to - x]);
            }
        }
    }
}

/// The numbers of a vector of which some are the tile's: whole where it lies in the slice, or those that do and zeros.
#[inline(always)]
fn load_some<S: Simd, R: Real>(simd: S, s: &[R], at: i64, [from, to]: [usize; 2]) -> (R::Vector<S>, Option<Range<usize>>) {
    match usize::try_from(at) {
        Ok(at) if at + R::LANES <= s.len() => (R::load(simd, &s[at..at + R::LANES]), Some(at..at + R::LANES)),
        _ => {
            let mut some = [R::ZERO; MOST];
            let first = (at + from as i64) as usize;
            some[from..to].copy_from_slice(&s[first..first + to - from]);
            (R::load(simd, &some), None)
        }
    }
}

#[inline(always)]
fn add_part<S: Simd, R: Real>(simd: S, sums: &[R], part: Part, alpha: R, s: &mut [R]) {
    let (alpha, lane) = (R::splat(simd, alpha), lanes::<S, R>(simd));
    vectors_of::<R>(
        part,
        #[inline(always)]
        |r, x, at, [from, to]| {
            let (old, whole) = load_some(simd, s, at, [from, to]);
            let sum = R::load(simd, &sums[r * PANEL + x..][..R::LANES]).mul_add(alpha, old);
            let sum = lane.simd_lt(R::splat(simd, R::of(from as f64))).select(old, sum);
            let sum = lane.simd_lt(R::splat(simd, R::of(to as f64))).select(sum, old);
            if let Some(at) = whole {
                R::store(simd, sum, &mut s[at]);
                return;
            }
            let mut some = [R::ZERO; MOST];
            R::store(simd, sum, &mut some);
            let first = (at + from as i64) as usize;
            s[first..first + to - from].copy_from_slice(&some[from..to]);
        },
    );
}

#[inline(always)]
fn take_part<S: Simd, R: Real>(simd: S, s: &[R], part: Part, to: &mut [R]) {
    let (zero, lane) = (R::splat(simd, R::ZERO), lanes::<S, R>(simd));
    to[..part.rows * PANEL].fill(R::ZERO);
    vectors_of::<R>(
        part,
        #[inline(always)]
        |r, x, at, [from, end]| {
            let (some, _) = load_some(simd, s, at, [from, end]);
            let some = lane.simd_lt(R::splat(simd, R::of(from as f64))).select(zero, some);
            let some = lane.simd_lt(R::splat(simd, R::of(end as f64))).select(some, zero);
            R::store(simd, some, &mut to[r * PANEL + x..][..R::LANES]);
        },
    );
}

#[inline(always)]
fn add_same<S: Simd, R: Real>(simd: S, x: R, alpha: R, s: &mut [R]) {
    let (x, alpha) = (R::splat(simd, x), R::splat(simd, alpha));
    each(
        simd,
        s,
        #[inline(always)]
        |s| x.mul_add(alpha, s),
    );
}

#[inline(always)]
fn sum<S: Simd, R: Real>(simd: S, s: &[R]) -> R {
    let zero = R::splat(simd, R::ZERO);
    let (mut sums, mut chunks) = ([zero; 4], s.chunks_exact(4 * R::LANES));
    for chunk in &mut chunks {
        for v in 0..4 {
            sums[v] += R::load(simd, &chunk[v * R::LANES..]);
        }
    }
    let mut rest = chunks.remainder().chunks_exact(R::LANES);
    for chunk in &mut rest {
        sums[0] += R::load(simd, chunk);
    }
    let mut last = [R::ZERO; MOST];
    last[..rest.remainder().len()].copy_from_slice(rest.remainder());
    let whole = (sums[0] + sums[1]) + (sums[2] + sums[3]) + R::load(simd, &last);
    R::store(simd, whole, &mut last);
    super::total(&last)
}

#[inline(always)]
fn turn<S: Simd, R: Real, const ADD: bool>(simd: S, from: &[R], to: &mut [R], [rows, cols]: [usize; 2], steps: [usize; 2]) {
    let n = R::LANES;
    for (i, j) in (0..rows).step_by(n).flat_map(|i| (0..cols).step_by(n).map(move |j| (i, j))) {
        let mut square = [R::splat(simd, R::ZERO); MOST];
        for l in 0..n {
            square[l] = R::load(simd, &from[(i + l) * steps[0] + j..]);
        }
        // As in `panels.rs`: each round rotates the bits of a number's place by one.
        for _ in 0..n.trailing_zeros() {
            let before = square;
            for l in 0..n / 2 {
                (square[2 * l], square[2 * l + 1]) = before[l].interleave(before[l + n / 2]);
            }
        }
        for l in 0..n {
            let to = &mut to[(j + l) * steps[1] + i..][..n];
            let x = if ADD { R::load(simd, to) + square[l] } else { square[l] };
            R::store(simd, x, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Tiles whose rows lie apart: what lies between is NaN and must stay so.
    fn parts_are_the_numbers_that_a_panel_meets<R: Real>() {
        let mut rng = Rng::new(1);
        for (rows, cols, row, left) in [
            (5, 40, 0, 0),
            (34, 50, 2, -33),
            (36, 7, 1, -20),
            (33, 64, 0, 31),
            (1, 1, 3, -31),
            (3, 20, 0, 40),
            (3, 20, 0, -40),
        ] {
            let part = Part {
                rows,
                row,
                left,
                cols,
                ld: cols + 3,
            };
            let tile: Vec<R> = (0..(row + rows) * part.ld)
                .map(|at| R::of(if at % part.ld < cols { rng.normal() } else { f64::NAN }))
                .collect();
            let sums: Vec<R> = (0..rows * PANEL).map(|_| R::of(rng.normal())).collect();
            let alpha = R::of(0.3);
            for on in Present::all() {
                let (mut s, mut taken) = (tile.clone(), vec![R::of(f64::NAN); rows * PANEL]);
                R::add_part(on, &sums, part, alpha, &mut s);
                R::take_part(on, &tile, part, &mut taken);
                for r in 0..row + rows {
                    for j in 0..part.ld {
                        let (at, x) = (r * part.ld + j, j as i64 - left - (r as i64 - row as i64));
                        let met = r >= row && j < cols && (0..PANEL as i64).contains(&x);
                        let from = (r.saturating_sub(row)) * PANEL + x.clamp(0, PANEL as i64 - 1) as usize;
                        if !met {
                            assert!(s[at] == tile[at] || j >= cols && s[at].to_f64().is_nan(), "{}: {r}, {j}", on.isa());
                            continue;
                        }
                        assert_eq!(taken[from], tile[at]);
                        let exact = tile[at].to_f64() + 0.3f64.mul_add(sums[from].to_f64(), 0.0);
                        // A product and a sum, each rounded, of a factor that is rounded too.
                        let bound = 1.5 * R::EPSILON.to_f64() * (exact.abs() + sums[from].to_f64().abs());
                        assert!((s[at].to_f64() - exact).abs() <= bound, "{}: {r}, {j}", on.isa());
                    }
                }
                let kept = taken.iter().filter(|x| **x != R::ZERO).count();
                let inside: usize = (0..rows).map(|r| part.inside(r).len()).sum();
                assert_eq!(kept, inside, "zeros elsewhere");
                // One number is computed like a vector of them.
                let mut same = tile.clone();
                for r in 0..rows {
                    for x in part.inside(r) {
                        let at = part.at(r, x) as usize;
                        R::add_same(on, sums[r * PANEL + x], alpha, &mut same[at..at + 1]);
                        assert_eq!(same[at], s[at], "{}: {r}, {x}", on.isa());
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_panels_lie_along_the_diagonals_of_a_tile() {
        parts_are_the_numbers_that_a_panel_meets::<f32>();
        parts_are_the_numbers_that_a_panel_meets::<f64>();
    }

    fn turned_twice_is_as_before<R: Real>() {
        let mut rng = Rng::new(2);
        for [rows, cols] in [[1, 1], [16, 16], [17, 40], [96, 33], [5, 96]] {
            let steps = [cols + 1, rows + 2];
            let from: Vec<R> = (0..rows * steps[0]).map(|_| R::of(rng.normal())).collect();
            for on in Present::all() {
                let mut to = vec![R::of(f64::NAN); cols * steps[1]];
                R::transpose(on, &from, &mut to, [rows, cols], steps, false);
                let mut back = from.clone();
                R::transpose(on, &to, &mut back, [cols, rows], [steps[1], steps[0]], true);
                for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                    let x = from[i * steps[0] + j];
                    assert_eq!(to[j * steps[1] + i], x, "{}: {i}, {j}", on.isa());
                    assert_eq!(back[i * steps[0] + j], x + x, "{}: {i}, {j}", on.isa());
                }
                assert_eq!(to.iter().filter(|x| x.to_f64().is_nan()).count(), cols * 2, "nothing between rows");
            }
        }
    }

    #[test]
    fn a_turned_tile_is_its_columns() {
        turned_twice_is_as_before::<f32>();
        turned_twice_is_as_before::<f64>();
    }

    fn rows_are_summed<R: Real>() {
        let mut rng = Rng::new(3);
        for n in [0, 1, 15, 64, 100, 257] {
            let row: Vec<R> = (0..n).map(|_| R::of(rng.normal())).collect();
            let (exact, size) = row.iter().fold((0.0, 0.0), |(s, t), x| (s + x.to_f64(), t + x.to_f64().abs()));
            for on in Present::all() {
                let error = (R::sum_row(on, &row).to_f64() - exact).abs();
                // No more than n sums, each rounded once.
                assert!(error <= n as f64 * R::EPSILON.to_f64() / 2.0 * size, "{}: {n}", on.isa());
            }
        }
    }

    #[test]
    fn rows_are_summed_in_any_length() {
        rows_are_summed::<f32>();
        rows_are_summed::<f64>();
    }
}
