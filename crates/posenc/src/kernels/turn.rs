//! The rotation of rows by tables of cosines and sines.
//!
//! Memory decides: each element is read and written once, the tables stay in the second-level cache while every head passes by. Arithmetic is the same on each instruction set, two products and
//! a sum without a fused one, so results are the same bits.

use super::stream;
use super::{Present, Vectors, vectors};
use crate::real::{Element, Real};
use crate::rotate::Pairing;
use crate::view::{View, ViewMut};
use fearless_simd::{Simd, prelude::*};
use std::ops::{Add, Mul, Sub};

/// Cosines and sines, `[batch, len, pairs]`, and how to turn by them.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a, R> {
    pub cos: &'a [R],
    pub sin: &'a [R],
    /// 1 serves all rows of a batch.
    pub batch: usize,
    pub len: usize,
    pub pairs: usize,
    pub pairing: Pairing,
    /// The transpose: sines change their sign, and what was written as halves is read as such.
    pub back: bool,
    /// The first column that turns.
    pub first: usize,
}

/// Numbers of a table block that stays in the second-level cache: 128 KiB of f32 cosines and sines.
const TABLE_BLOCK: usize = 1 << 15;
/// Bytes that are turned in the first-level cache before they are stored.
const STAGE: usize = 4096;
/// From this size on, a destination is written past the caches: it would not stay in them.
const STREAM_FROM: usize = 8 << 20;
/// From this size on, threads share the work: below it, waking them costs more than they save.
#[cfg(feature = "rayon")]
const PARALLEL_FROM: usize = 1 << 20;
/// Bytes that a thread takes at a time.
const ITEM: usize = 256 << 10;

/// A tensor that threads read or write disjoint rows of.
#[derive(Clone, Copy)]
struct Rows<P> {
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
struct Item {
    b: usize,
    heads: [usize; 2],
    tokens: [usize; 2],
}

/// Cuts `[batch, heads, len]` into items: blocks of tokens outermost, so that their tables are read from memory once, then batch rows, then heads.
fn each_item(shape: [usize; 4], bytes: usize, pairs: usize, work: impl Fn(Item) + Sync) {
    let [batch, heads, len, width] = shape;
    let size = bytes / (batch * heads * len * width);
    let tokens = (TABLE_BLOCK / (2 * pairs)).clamp(1, len);
    let per_item = (ITEM / (tokens * width * size)).clamp(1, heads);
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
    if bytes >= PARALLEL_FROM && items > 1 && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        return (0..items).into_par_iter().for_each(one);
    }
    (0..items).for_each(one);
}

/// Turns the rows of `x` `[batch, heads, len, width]` in place. Shapes fit the tables.
pub(crate) fn turn<T: Element>(on: Present, tables: &Tables<'_, T::Real>, x: ViewMut<'_, T, 4>) {
    let shape = x.shape();
    if shape.contains(&0) {
        return;
    }
    let bytes = shape.iter().product::<usize>() * size_of::<T>();
    let rows = Rows::new(x);
    let from = rows.as_source();
    each_item(
        shape,
        bytes,
        tables.pairs,
        |item| vectors!(on, simd => turn_item(simd, tables, from, rows, item)),
    );
}

/// Turns the rows of `x` into `out`, of the same shape. Shapes fit the tables.
pub(crate) fn turn_into<T: Element>(on: Present, tables: &Tables<'_, T::Real>, x: View<'_, T, 4>, out: ViewMut<'_, T, 4>) {
    let shape = x.shape();
    if shape.contains(&0) {
        return;
    }
    let bytes = shape.iter().product::<usize>() * size_of::<T>();
    let (from, to) = (Rows::of(x), Rows::new(out));
    let stream = bytes >= STREAM_FROM && shape[3] * size_of::<T>() <= STAGE && (to.strides[2] == shape[3] || shape[2] == 1);
    each_item(shape, bytes, tables.pairs, |item| match stream {
        true => past_caches(on, tables, from, to, item),
        false => vectors!(on, simd => turn_item(simd, tables, from, to, item)),
    });
}

/// Turns the rows of an item; `from` and `to` are one tensor, or share no memory.
#[inline(always)]
fn turn_item<S: Simd, T: Element>(simd: S, tables: &Tables<'_, T::Real>, from: Rows<*const T>, to: Rows<*mut T>, item: Item) {
    for h in item.heads[0]..item.heads[1] {
        for t in item.tokens[0]..item.tokens[1] {
            let (x, y) = (from.offset(item.b, h, t), to.offset(item.b, h, t));
            // SAFETY: the rows lie in their tensors, and no other item has them.
            unsafe { turn_row(simd, tables.at(item.b, t), tables.first, to.width, from.data.add(x), to.data.add(y)) };
        }
    }
}

/// As [`turn_item`], the turned rows stored past the caches.
fn past_caches<T: Element>(on: Present, tables: &Tables<'_, T::Real>, from: Rows<*const T>, to: Rows<*mut T>, item: Item) {
    let mut stage = [T::narrow(T::Real::ZERO); STAGE / 2];
    let at_once = STAGE / (to.width * size_of::<T>());
    for h in item.heads[0]..item.heads[1] {
        for first in (item.tokens[0]..item.tokens[1]).step_by(at_once) {
            let rows = at_once.min(item.tokens[1] - first);
            let stage = &mut stage[..rows * to.width];
            let in_stage = Rows {
                data: stage.as_mut_ptr(),
                strides: [0, 0, to.width],
                width: to.width,
            };
            vectors!(on, simd => turn_into_stage(simd, tables, from, in_stage, [item.b, h, first], rows));
            // SAFETY: rows of consecutive tokens follow each other (checked by the caller) inside the tensor, and no other item has them.
            let out = unsafe { std::slice::from_raw_parts_mut(to.data.add(to.offset(item.b, h, first)), stage.len()) };
            stream::copy(on, stage, out);
        }
    }
    stream::fence();
}

#[inline(always)]
fn turn_into_stage<S: Simd, T: Element>(
    simd: S,
    tables: &Tables<'_, T::Real>,
    from: Rows<*const T>,
    stage: Rows<*mut T>,
    [b, h, first]: [usize; 3],
    rows: usize,
) {
    for i in 0..rows {
        let x = from.offset(b, h, first + i);
        // SAFETY: the rows lie in their tensors, and no other item has them.
        unsafe {
            turn_row(
                simd,
                tables.at(b, first + i),
                tables.first,
                stage.width,
                from.data.add(x),
                stage.data.add(stage.offset(0, 0, i)),
            )
        };
    }
}

impl<'a, R: Real> Tables<'a, R> {
    /// What turns the rows of a token.
    #[inline(always)]
    fn at(&self, b: usize, t: usize) -> Turner<'a, R> {
        let start = ((if self.batch == 1 { 0 } else { b }) * self.len + t) * self.pairs;
        Turner {
            cos: &self.cos[start..start + self.pairs],
            sin: &self.sin[start..start + self.pairs],
            pairing: self.pairing,
            back: self.back,
        }
    }
}

/// What turns the rows of one token.
#[derive(Clone, Copy)]
pub(crate) struct Turner<'a, R> {
    pub cos: &'a [R],
    pub sin: &'a [R],
    pub pairing: Pairing,
    /// The transpose: see [`Tables::back`].
    pub back: bool,
}

impl<R: Real> Turner<'_, R> {
    /// Turns the columns that turn, in place.
    pub fn row(self, on: Present, row: &mut [R]) {
        assert_eq!(row.len(), 2 * self.cos.len());
        let (width, row) = (row.len(), row.as_mut_ptr());
        // SAFETY: one row, of the asserted width.
        vectors!(on, simd => unsafe { turn_row(simd, self, 0, width, row, row) });
    }
}

/// Turns the columns of a row from `first` on and copies the others.
///
/// # Safety
/// `width` numbers can be read at `from` and written at `to`, which are the same or share no memory.
#[inline(always)]
unsafe fn turn_row<S: Simd, T: Element>(simd: S, turner: Turner<'_, T::Real>, first: usize, width: usize, from: *const T, to: *mut T) {
    let Turner { cos, sin, pairing, back } = turner;
    let n = cos.len();
    let end = first + 2 * n;
    let in_place = std::ptr::eq(from, to);
    // SAFETY: columns below `width`, as the caller promises; each is in one of these ranges.
    unsafe {
        if !in_place {
            std::ptr::copy_nonoverlapping(from, to, first);
            std::ptr::copy_nonoverlapping(from.add(end), to.add(end), width - end);
        }
        let (from, to) = (from.add(first), to.add(first));
        match pairing {
            Pairing::Halves => pairs::<_, _, false, false>(simd, cos, sin, back, from, to),
            Pairing::Interleaved => pairs::<_, _, true, true>(simd, cos, sin, back, from, to),
            Pairing::HalvesTwice => {
                let half = n / 2;
                pairs::<_, _, false, false>(simd, &cos[..half], &sin[..half], back, from, to);
                pairs::<_, _, false, false>(simd, &cos[half..], &sin[half..], back, from.add(n), to.add(n));
            }
            Pairing::InterleavedToHalves if in_place => {
                /// Wider than any model's heads.
                const ON_STACK: usize = 512;
                let mut on_stack = [T::narrow(T::Real::ZERO); ON_STACK];
                let on_heap: Vec<T>;
                // Read and written in different orders: no pair can be turned where it lies.
                let before = match on_stack.get_mut(..2 * n) {
                    Some(part) => {
                        part.copy_from_slice(std::slice::from_raw_parts(from, 2 * n));
                        part.as_ptr()
                    }
                    None => {
                        on_heap = std::slice::from_raw_parts(from, 2 * n).to_vec();
                        on_heap.as_ptr()
                    }
                };
                between_orders(simd, cos, sin, back, before, to);
            }
            Pairing::InterleavedToHalves => between_orders(simd, cos, sin, back, from, to),
        }
    }
}

/// The transpose reads what was written.
///
/// # Safety
/// As [`pairs`].
#[inline(always)]
unsafe fn between_orders<S: Simd, T: Element>(simd: S, cos: &[T::Real], sin: &[T::Real], back: bool, from: *const T, to: *mut T) {
    // SAFETY: the caller's.
    unsafe {
        match back {
            true => pairs::<_, _, false, true>(simd, cos, sin, true, from, to),
            false => pairs::<_, _, true, false>(simd, cos, sin, false, from, to),
        }
    }
}

/// Turns pairs, which lie as neighbours (`true`) or as two halves where they are read and where they are written.
///
/// # Safety
/// Twice as many numbers as there are cosines can be read at `from` and written at `to`. These are the same and the two orders too, or they share no memory.
#[inline(always)]
unsafe fn pairs<S: Simd, T: Element, const READ: bool, const WRITE: bool>(
    simd: S,
    cos: &[T::Real],
    sin: &[T::Real],
    back: bool,
    from: *const T,
    to: *mut T,
) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = cos.len();
    let sin = &sin[..n];
    // SAFETY: of each slice, the caller's: pair i has its numbers at 2i and 2i + 1, or at i and n + i.
    let (read, write) = unsafe {
        (
            #[inline(always)]
            |at: usize, count: usize| std::slice::from_raw_parts(from.add(at), count),
            #[inline(always)]
            |at: usize, count: usize| std::slice::from_raw_parts_mut(to.add(at), count),
        )
    };
    let mut i = 0;
    while i + 2 * lanes <= n {
        let ([x0, x1], [y0, y1]) = if READ {
            let ([a, b], [c, d]) = (
                T::load_two(simd, read(2 * i, 2 * lanes)),
                T::load_two(simd, read(2 * i + 2 * lanes, 2 * lanes)),
            );
            let ((x0, y0), (x1, y1)) = (a.deinterleave(b), c.deinterleave(d));
            ([x0, x1], [y0, y1])
        } else {
            (T::load_two(simd, read(i, 2 * lanes)), T::load_two(simd, read(n + i, 2 * lanes)))
        };
        let ([c0, c1], [s0, s1]) = (
            <T::Real as Element>::load_two(simd, &cos[i..i + 2 * lanes]),
            <T::Real as Element>::load_two(simd, &sin[i..i + 2 * lanes]),
        );
        let ((x0, y0), (x1, y1)) = (turned(c0, s0, back, x0, y0), turned(c1, s1, back, x1, y1));
        if WRITE {
            let ((a, b), (c, d)) = (x0.interleave(y0), x1.interleave(y1));
            T::store_two(simd, [a, b], write(2 * i, 2 * lanes));
            T::store_two(simd, [c, d], write(2 * i + 2 * lanes, 2 * lanes));
        } else {
            T::store_two(simd, [x0, x1], write(i, 2 * lanes));
            T::store_two(simd, [y0, y1], write(n + i, 2 * lanes));
        }
        i += 2 * lanes;
    }
    while i + lanes <= n {
        let (x, y) = if READ {
            let [a, b] = T::load_two(simd, read(2 * i, 2 * lanes));
            a.deinterleave(b)
        } else {
            (T::load(simd, read(i, lanes)), T::load(simd, read(n + i, lanes)))
        };
        let (c, s) = (
            <T::Real as Element>::load(simd, &cos[i..i + lanes]),
            <T::Real as Element>::load(simd, &sin[i..i + lanes]),
        );
        let (x, y) = turned(c, s, back, x, y);
        if WRITE {
            let (a, b) = x.interleave(y);
            T::store_two(simd, [a, b], write(2 * i, 2 * lanes));
        } else {
            T::store(simd, x, write(i, lanes));
            T::store(simd, y, write(n + i, lanes));
        }
        i += lanes;
    }
    for i in i..n {
        let at = |neighbours: bool| if neighbours { (2 * i, 2 * i + 1) } else { (i, n + i) };
        let ((from_x, from_y), (to_x, to_y)) = (at(READ), at(WRITE));
        // SAFETY: as above.
        unsafe {
            let (x, y) = turned(cos[i], sin[i], back, (*from.add(from_x)).widen(), (*from.add(from_y)).widen());
            *to.add(to_x) = T::narrow(x);
            *to.add(to_y) = T::narrow(y);
        }
    }
}

/// The transpose changes the sines' sign: x·c − y·(−s) is x·c + y·s, to the bit.
#[inline(always)]
fn turned<V: Copy + Add<Output = V> + Sub<Output = V> + Mul<Output = V>>(c: V, s: V, back: bool, x: V, y: V) -> (V, V) {
    if back {
        (x * c + y * s, y * c - x * s)
    } else {
        (x * c - y * s, x * s + y * c)
    }
}
