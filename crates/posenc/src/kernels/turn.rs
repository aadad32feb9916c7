//! The rotation of rows by tables of cosines and sines.
//!
//! Memory decides: each number is read and written once, while a block of the tables stays in the first-level cache and every head passes by, and the rows that come next are asked for ahead of
//! time. Arithmetic is the same on each instruction set, two products and a sum without a fused one, so results are the same bits.

use super::prefetch::prefetch_bytes;
use super::{Present, Vectors, vectors};
use crate::real::{Element, Real};
use crate::rotate::{Pairing, Rounding};
use crate::view::{View, ViewMut};
use fearless_simd::Simd;
use pairs::pairs;
use std::mem::MaybeUninit;

pub use own::Own;
pub(crate) use own::turn_own;

/// Cosines and sines, `[batch, len, heads, pairs]`, and how to turn by them.
#[derive(Clone, Copy)]
pub struct Tables<'a, R> {
    pub cos: &'a [R],
    pub sin: &'a [R],
    /// 1 serves all rows of a batch.
    pub batch: usize,
    pub len: usize,
    /// Heads that differ: 1 serves all.
    pub heads: usize,
    pub pairs: usize,
    pub pairing: Pairing,
    /// The transpose: sines change their sign, and what was written as halves is read as such.
    pub back: bool,
    /// The first column that turns.
    pub first: usize,
    /// Of rows in half precision.
    pub rounding: Rounding,
}

/// Numbers of a block of tables: 16 KiB of f32, which leave room for rows in the first-level cache.
const STAGED: usize = 4096;
/// Rows that are asked for ahead of time.
const AHEAD: usize = 8;
/// From this size on, threads share the work: below it, waking them costs more than they save.
#[cfg(feature = "rayon")]
const PARALLEL_FROM: usize = 1 << 20;
/// Bytes that a thread takes at a time, about.
const ITEM: usize = 256 << 10;

/// A tensor that threads read or write disjoint rows of.
#[derive(Clone, Copy)]
pub struct Rows<P> {
    data: P,
    strides: [usize; 3],
    width: usize,
}

// SAFETY: each item of work has rows of its own (see `each_item`), as with `&mut [T]` that was split.
unsafe impl<P> Send for Rows<P> {}
// SAFETY: as above.
unsafe impl<P> Sync for Rows<P> {}

impl<P> Rows<P> {
    #[inline(always)]
    fn offset(&self, b: usize, h: usize, t: usize) -> usize {
        b * self.strides[0] + h * self.strides[1] + t * self.strides[2]
    }
}

impl<T> Rows<*mut T> {
    fn new(x: ViewMut<'_, T, 4>) -> Rows<*mut T> {
        let (data, [_, _, _, width], [b, h, t, _]) = x.into_parts();
        Rows {
            data: data.as_mut_ptr(),
            strides: [b, h, t],
            width,
        }
    }

    fn as_source(&self) -> Rows<*const T> {
        Rows {
            data: self.data,
            strides: self.strides,
            width: self.width,
        }
    }
}

impl<T> Rows<*const T> {
    fn of(x: View<'_, T, 4>) -> Rows<*const T> {
        let (data, [_, _, _, width], [b, h, t, _]) = x.into_parts();
        Rows {
            data: data.as_ptr(),
            strides: [b, h, t],
            width,
        }
    }
}

/// Rows that one thread turns: heads and tokens of one batch row.
#[derive(Clone, Copy)]
pub struct Item {
    b: usize,
    heads: [usize; 2],
    tokens: [usize; 2],
}

/// Tokens whose tables are staged at a time.
#[inline(always)]
fn block(pairs: usize) -> usize {
    (STAGED / (2 * pairs)).max(1)
}

/// Cuts `[batch, heads, len]` into items: blocks of tokens outermost, so that their tables are read from memory once, then batch rows, then heads.
fn each_item(shape: [usize; 4], size: usize, pairs: usize, work: impl Fn(Item) + Sync) {
    let [batch, heads, len, width] = shape;
    let (row, block) = (width * size, block(pairs).min(len));
    let tokens = (ITEM / (row * heads)).next_multiple_of(block).clamp(block, len);
    let per_item = (ITEM / (row * tokens)).clamp(1, heads);
    let (blocks, groups) = (len.div_ceil(tokens), heads.div_ceil(per_item));
    let one = |i: usize| {
        let (block, b, group) = (i / (batch * groups), i / groups % batch, i % groups);
        work(Item {
            b,
            heads: [group * per_item, ((group + 1) * per_item).min(heads)],
            tokens: [block * tokens, ((block + 1) * tokens).min(len)],
        });
    };
    let items = blocks * batch * groups;
    #[cfg(feature = "rayon")]
    if items > 1 && row * heads * len * batch >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        return (0..items).into_par_iter().for_each(one);
    }
    (0..items).for_each(one);
}

/// Turns the rows of `x` `[batch, heads, len, width]` in place. Shapes fit the tables.
pub(crate) fn turn<T: Element>(on: Present, tables: &Tables<'_, T::Real>, x: ViewMut<'_, T, 4>) {
    let rows = x.shape();
    let to = Rows::new(x);
    turn_all(on, tables, rows, to.as_source(), to);
}

/// Turns the rows of `x` into `out`, of the same shape. Shapes fit the tables.
pub(crate) fn turn_into<T: Element>(on: Present, tables: &Tables<'_, T::Real>, x: View<'_, T, 4>, out: ViewMut<'_, T, 4>) {
    let rows = x.shape();
    turn_all(on, tables, rows, Rows::of(x), Rows::new(out));
}

fn turn_all<T: Element>(on: Present, tables: &Tables<'_, T::Real>, shape: [usize; 4], from: Rows<*const T>, to: Rows<*mut T>) {
    if shape.contains(&0) {
        return;
    }
    // Where nothing turns there are still columns to copy: tables of no pairs, any number of which fit the stage.
    each_item(shape, size_of::<T>(), tables.pairs.max(1), |item| {
        turn_item(on, tables, from, to, item)
    });
}

/// Turns the rows of an item; `from` and `to` are one tensor, or share no memory.
pub(crate) fn turn_item<T: Element>(on: Present, tables: &Tables<'_, T::Real>, from: Rows<*const T>, to: Rows<*mut T>, item: Item) {
    // Neighbours (`true`) or halves, where pairs are read and where they are written.
    let (read, write) = match (tables.pairing, tables.back) {
        (Pairing::Halves | Pairing::HalvesTwice, _) => (false, false),
        (Pairing::Interleaved, _) => (true, true),
        (Pairing::InterleavedToHalves, false) => (true, false),
        (Pairing::InterleavedToHalves, true) => (false, true),
    };
    // Numbers of the arithmetic's own type are rounded by each step as they are.
    let steps = tables.rounding == Rounding::EachStep && is_half::<T>();
    let turn = match (read, write, steps) {
        (false, false, false) => turn_block::<T, false, false, false>,
        (true, true, false) => turn_block::<T, true, true, false>,
        (true, false, false) => turn_block::<T, true, false, false>,
        (false, true, false) => turn_block::<T, false, true, false>,
        (false, false, true) => turn_block::<T, false, false, true>,
        (true, true, true) => turn_block::<T, true, true, true>,
        (true, false, true) => turn_block::<T, true, false, true>,
        (false, true, true) => turn_block::<T, false, true, true>,
    };
    let mut stage = Stage::new();
    let n = tables.pairs;
    let parts = if tables.pairing == Pairing::HalvesTwice { 2 } else { 1 };
    let even_odd = even_odd::<T>(read, write);
    let in_place = std::ptr::eq(from.data, to.data);
    // One row.
    let row = |h: usize, t: usize| Block {
        x: from.data.wrapping_add(from.offset(item.b, h, t) + tables.first),
        y: to.data.wrapping_add(to.offset(item.b, h, t) + tables.first),
        x_strides: [from.strides[1], from.strides[2]],
        y_strides: [to.strides[1], to.strides[2]],
        heads: 1,
        len: 1,
        pairs: n / parts,
        apart: n / parts,
        parts,
        rest: if in_place {
            [0; 2]
        } else {
            [tables.first, to.width - tables.first - 2 * n]
        },
        // Read and written in different orders, no pair can be turned where it lies.
        through: in_place && read != write,
    };
    let [first, last] = item.tokens;
    let heads = item.heads[0]..item.heads[1];
    if 2 * n <= STAGED {
        let at_once = block(n.max(1));
        // Heads that share their tables.
        let together = if tables.heads == 1 { heads.len() } else { 1 };
        for start in (first..last).step_by(at_once) {
            let len = at_once.min(last - start);
            for h in heads.clone().step_by(together) {
                for t in 0..len {
                    stage.row::<T>(tables, parts, even_odd, tables.row(item.b, h, start + t), t);
                }
                // SAFETY: rows of the item lie in their tensors, and no other item has them; their tables are staged.
                unsafe {
                    let block = Block {
                        heads: together,
                        len,
                        ..row(h, start)
                    };
                    turn(on, &block, &stage);
                }
            }
        }
        return;
    }
    // Rows whose tables do not fit the stage, one at a time, in pieces. The one allocation is for what no model has: rows so wide, in place, written in another order than they are read.
    let mut before = Vec::new();
    for (h, t) in heads.flat_map(|h| (first..last).map(move |t| (h, t))) {
        let (cos, sin) = tables.row(item.b, h, t);
        let row = row(h, t);
        let mut x = row.x;
        // SAFETY: the row lies in its tensor, and no other item has it.
        unsafe {
            copy_rest(row.rest, 2 * n, row.x, row.y);
            if row.through {
                before.clear();
                before.extend_from_slice(std::slice::from_raw_parts(x, 2 * n));
                x = before.as_ptr();
            }
        }
        for (part, i) in (0..parts).flat_map(|part| (0..row.pairs).step_by(STAGED / 2).map(move |i| (part, i))) {
            let count = (row.pairs - i).min(STAGED / 2);
            let of = part * row.pairs + i..part * row.pairs + i + count;
            stage.row::<T>(tables, 1, even_odd, (&cos[of.clone()], &sin[of]), 0);
            let at = |neighbours: bool| 2 * part * row.pairs + if neighbours { 2 * i } else { i };
            let piece = Block {
                x: x.wrapping_add(at(read)),
                y: row.y.wrapping_add(at(write)),
                pairs: count,
                parts: 1,
                rest: [0; 2],
                through: false,
                ..row
            };
            // SAFETY: as above; what is overwritten before it is read was kept.
            unsafe { turn(on, &piece, &stage) };
        }
    }
}

const fn is_half<T: Element>() -> bool {
    size_of::<T>() < size_of::<T::Real>()
}

/// Whether pairs of two vectors are taken as those at even and at odd places: where that is how a stored row is best read.
const fn even_odd<T: Element>(read: bool, write: bool) -> bool {
    T::SPLITS_WELL && !read && !write
}

/// Tables of the rows that are turned next, on the stack, at the start of a line.
#[repr(C, align(64))]
struct Stage<R>([MaybeUninit<R>; STAGED]);

impl<R: Real> Stage<R> {
    #[inline(always)]
    fn new() -> Self {
        Stage([const { MaybeUninit::uninit() }; STAGED])
    }

    /// Puts the tables of a row where [`pairs`] reads them: for each part, cosines and sines of each two vectors of pairs, of the vector that is left, and of the pairs that are left, with the
    /// sines' sign, and rounded as they are used.
    fn row<T: Element<Real = R>>(&mut self, tables: &Tables<'_, R>, parts: usize, even_odd: bool, (cos, sin): (&[R], &[R]), row: usize) {
        let lanes = <R as Vectors>::LANES;
        let out = &mut self.0[2 * cos.len() * row..][..2 * cos.len()];
        let of_part = cos.len() / parts;
        let (mut at, mut i) = (0, 0);
        while i < cos.len() {
            let count = match of_part - i % of_part {
                left if left >= 2 * lanes => 2 * lanes,
                left if left >= lanes => lanes,
                left => left,
            };
            for (table, negated) in [(&cos[i..i + count], false), (&sin[i..i + count], tables.back)] {
                let to = &mut out[at..at + count];
                let used = |x: R| {
                    let x = if tables.rounding != Rounding::Once && is_half::<T>() {
                        T::narrow(x).widen()
                    } else {
                        x
                    };
                    if negated { -x } else { x }
                };
                if even_odd && count == 2 * lanes {
                    let (even, odd) = to.split_at_mut(lanes);
                    for ((even, odd), pair) in even.iter_mut().zip(odd).zip(table.chunks_exact(2)) {
                        even.write(used(pair[0]));
                        odd.write(used(pair[1]));
                    }
                } else {
                    to.iter_mut().zip(table).for_each(|(to, x)| _ = to.write(used(*x)));
                }
                at += count;
            }
            i += count;
        }
    }
}

/// Rows of some tokens of some heads.
struct Block<T> {
    /// The first column that turns, of the first row.
    x: *const T,
    y: *mut T,
    /// From head to head and from token to token.
    x_strides: [usize; 2],
    y_strides: [usize; 2],
    heads: usize,
    len: usize,
    /// Of a part.
    pairs: usize,
    /// From the first half of a part to the second.
    apart: usize,
    parts: usize,
    /// Columns before and after those that turn, which are to be copied.
    rest: [usize; 2],
    /// Rows go through a copy.
    through: bool,
}

/// Turns the rows of a block by the staged tables of its tokens.
///
/// # Safety
/// The rows lie in their tensors, which are one (and the two orders too, or rows go through a copy) or share no memory, and nobody else has them.
unsafe fn turn_block<T: Element, const READ: bool, const WRITE: bool, const STEPS: bool>(
    on: Present,
    block: &Block<T>,
    stage: &Stage<T::Real>,
) {
    let n = block.pairs;
    let plain = block.parts == 1 && block.apart == n && block.rest == [0; 2] && !block.through;
    // Heads of 128 and of 64, which most models have, are compiled as such: their rows are a dozen instructions, and what a loop costs beside them would show.
    // SAFETY: the caller's.
    unsafe {
        match n {
            64 if plain && !STEPS => vectors!(on, simd => turn_rows::<_, T, READ, WRITE, STEPS>(simd, block, stage, 64, true)),
            32 if plain && !STEPS => vectors!(on, simd => turn_rows::<_, T, READ, WRITE, STEPS>(simd, block, stage, 32, true)),
            n if plain => vectors!(on, simd => turn_rows::<_, T, READ, WRITE, STEPS>(simd, block, stage, n, true)),
            n => vectors!(on, simd => turn_rows::<_, T, READ, WRITE, STEPS>(simd, block, stage, n, false)),
        }
    }
}

/// Rows of `n` pairs in each part; `plain` ones have one part and nothing else to be done.
///
/// # Safety
/// As [`turn_block`].
#[inline(always)]
unsafe fn turn_rows<S: Simd, T: Element, const READ: bool, const WRITE: bool, const STEPS: bool>(
    simd: S,
    block: &Block<T>,
    stage: &Stage<T::Real>,
    n: usize,
    plain: bool,
) {
    let (parts, apart) = if plain { (1, n) } else { (block.parts, block.apart) };
    let width = 2 * n * parts;
    let in_place = std::ptr::eq(block.x, block.y);
    let [x_stride, y_stride] = [block.x_strides[1], block.y_strides[1]];
    // Rows that come after those of a head: of the next, or of a later one where there are few.
    let (ahead, skip) = if block.len > AHEAD {
        (1, AHEAD)
    } else {
        (AHEAD.div_ceil(block.len), block.len)
    };
    for h in 0..block.heads {
        // Of a head past the last, which is only asked for ahead of time, the place may be beyond any address.
        let head = |h: usize| {
            (
                block.x.wrapping_add(h.wrapping_mul(block.x_strides[0])),
                block.y.wrapping_add(h.wrapping_mul(block.y_strides[0])),
            )
        };
        let (mut x, mut y) = head(h);
        let (mut x_ahead, mut y_ahead) = (
            x.wrapping_add(AHEAD.wrapping_mul(x_stride)),
            y.wrapping_add(AHEAD.wrapping_mul(y_stride)),
        );
        let mut by: *const T::Real = stage.0.as_ptr().cast();
        for left in (1..=block.len).rev() {
            if left == skip {
                (x_ahead, y_ahead) = head(h + ahead);
            }
            prefetch_bytes::<true>(y_ahead.cast(), width * size_of::<T>());
            if !in_place {
                prefetch_bytes::<false>(x_ahead.cast(), width * size_of::<T>());
            }
            // SAFETY: the caller's.
            unsafe {
                if !plain {
                    copy_rest(block.rest, width, x, y);
                }
                if !plain && block.through {
                    turn_copy::<_, T, READ, WRITE, STEPS>(simd, block, by, y);
                } else {
                    for part in 0..parts {
                        let at = part * 2 * n;
                        pairs::<_, T, READ, WRITE, STEPS>(simd, n, apart, by.add(at), x.add(at), y.add(at));
                    }
                }
            }
            x = x.wrapping_add(x_stride);
            y = y.wrapping_add(y_stride);
            x_ahead = x_ahead.wrapping_add(x_stride);
            y_ahead = y_ahead.wrapping_add(y_stride);
            by = by.wrapping_add(width);
        }
    }
}

/// Turns a row that is read in one order and written in another, in place.
///
/// # Safety
/// As [`pairs`], of one part that fits the stage.
#[inline(always)]
unsafe fn turn_copy<S: Simd, T: Element, const READ: bool, const WRITE: bool, const STEPS: bool>(
    simd: S,
    block: &Block<T>,
    by: *const T::Real,
    row: *mut T,
) {
    let mut before = [const { MaybeUninit::<T>::uninit() }; STAGED];
    // SAFETY: the caller's.
    unsafe {
        std::ptr::copy_nonoverlapping(row.cast_const(), before.as_mut_ptr().cast(), 2 * block.pairs);
        pairs::<_, T, READ, WRITE, STEPS>(simd, block.pairs, block.apart, by, before.as_ptr().cast(), row);
    }
}

/// `work(a copy of the row, the row)`: a copy on the stack, but of rows that no model has.
pub(crate) fn with_copy<T: Copy>(row: &mut [T], work: impl FnOnce(&[T], &mut [T])) {
    if row.len() > STAGED {
        let before = row.to_vec();
        return work(&before, row);
    }
    let mut before = [const { MaybeUninit::<T>::uninit() }; STAGED];
    // SAFETY: as many numbers as the row has fit, and are initialised by the copy.
    let before = unsafe {
        std::ptr::copy_nonoverlapping(row.as_ptr(), before.as_mut_ptr().cast(), row.len());
        std::slice::from_raw_parts(before.as_ptr().cast::<T>(), row.len())
    };
    work(before, row);
}

impl<'a, R> Tables<'a, R> {
    /// Cosines and sines of a row.
    #[inline(always)]
    fn row(&self, b: usize, h: usize, t: usize) -> (&'a [R], &'a [R]) {
        let (b, h) = (if self.batch == 1 { 0 } else { b }, if self.heads == 1 { 0 } else { h });
        let at = ((b * self.len + t) * self.heads + h) * self.pairs;
        (&self.cos[at..at + self.pairs], &self.sin[at..at + self.pairs])
    }
}

/// Copies the columns before and after those that turn.
///
/// # Safety
/// They can be read around the `turn` columns at `from` and written around those at `to`, which share no memory.
#[inline(never)]
unsafe fn copy_rest<T>([before, after]: [usize; 2], turn: usize, from: *const T, to: *mut T) {
    // SAFETY: the caller's.
    unsafe {
        std::ptr::copy_nonoverlapping(from.sub(before), to.sub(before), before);
        std::ptr::copy_nonoverlapping(from.add(turn), to.add(turn), after);
    }
}

mod own;
mod pairs;
#[cfg(test)]
mod tests;
