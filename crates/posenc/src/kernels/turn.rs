//! The rotation of rows by tables of cosines and sines.
//!
//! Memory decides: each element is read and written once, the tables stay in the second-level cache while every head passes by. Arithmetic is the same on each instruction set, two products and
//! a sum without a fused one, so results are the same bits.

use super::stream;
use super::{Present, Vectors, vectors};
use crate::real::{Element, Real};
use crate::rotate::Pairing;
use crate::view::{View, ViewMut};
use fearless_simd::Simd;
use std::ops::{Add, Mul, Sub};

/// Cosines and sines, `[batch, len, heads, pairs]`, and how to turn by them.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a, R> {
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
}

/// Numbers of a table block that stays in the second-level cache: 128 KiB of f32 cosines and sines.
const TABLE_BLOCK: usize = 1 << 15;
/// Bytes that are turned in the first-level cache before they are stored.
const STAGE: usize = 4096;
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
    let stream = bytes >= stream::FROM && shape[3] * size_of::<T>() <= STAGE && (to.strides[2] == shape[3] || shape[2] == 1);
    each_item(shape, bytes, tables.heads * tables.pairs, |item| match stream {
        true => past_caches(on, tables, from, to, item),
        false => vectors!(on, simd => turn_item(simd, tables, from, to, item)),
    });
}

/// Turns the rows of an item; `from` and `to` are one tensor, or share no memory.
#[inline(always)]
fn turn_item<S: Simd, T: Element>(simd: S, tables: &Tables<'_, T::Real>, from: Rows<*const T>, to: Rows<*mut T>, item: Item) {
    // Chosen once, not per row: a decoding step has rows of one token, and little to do in each.
    match (tables.pairing, tables.back) {
        (Pairing::Halves | Pairing::HalvesTwice, false) => turn_rows::<_, _, false, false, false>(simd, tables, from, to, item),
        (Pairing::Halves | Pairing::HalvesTwice, true) => turn_rows::<_, _, false, false, true>(simd, tables, from, to, item),
        (Pairing::Interleaved, false) => turn_rows::<_, _, true, true, false>(simd, tables, from, to, item),
        (Pairing::Interleaved, true) => turn_rows::<_, _, true, true, true>(simd, tables, from, to, item),
        (Pairing::InterleavedToHalves, false) => turn_rows::<_, _, true, false, false>(simd, tables, from, to, item),
        (Pairing::InterleavedToHalves, true) => turn_rows::<_, _, false, true, true>(simd, tables, from, to, item),
    }
}

#[inline(always)]
fn turn_rows<S: Simd, T: Element, const READ: bool, const WRITE: bool, const BACK: bool>(
    simd: S,
    tables: &Tables<'_, T::Real>,
    from: Rows<*const T>,
    to: Rows<*mut T>,
    item: Item,
) {
    /// Wider than any model's heads.
    const ON_STACK: usize = 512;
    let zero = T::narrow(T::Real::ZERO);
    let (mut on_stack, mut on_heap) = ([zero; ON_STACK], Vec::new());
    // A copy of a row, for pairings that need one.
    let before = match 2 * tables.pairs {
        _ if READ == WRITE => &mut on_heap[..],
        n if n <= ON_STACK => &mut on_stack[..n],
        n => {
            on_heap.resize(n, zero);
            &mut on_heap[..]
        }
    };
    let b = if tables.batch == 1 { 0 } else { item.b };
    for h in item.heads[0]..item.heads[1] {
        for t in item.tokens[0]..item.tokens[1] {
            let at = ((b * tables.len + t) * tables.heads + if tables.heads == 1 { 0 } else { h }) * tables.pairs;
            let (cos, sin) = (&tables.cos[at..at + tables.pairs], &tables.sin[at..at + tables.pairs]);
            // Opaque, or the optimiser carries a dozen addresses of each row along from row to row, in memory: that cost as much as turning it.
            let (x, y) = std::hint::black_box((from.offset(item.b, h, t), to.offset(item.b, h, t)));
            // SAFETY: the rows lie in their tensors, and no other item has them.
            unsafe {
                turn_row::<_, _, READ, WRITE, BACK>(
                    simd,
                    tables,
                    cos,
                    sin,
                    to.width,
                    from.data.wrapping_add(x),
                    to.data.wrapping_add(y),
                    before,
                )
            };
        }
    }
}

/// Turns the columns of a row that turn and copies the others.
///
/// # Safety
/// `width` numbers can be read at `from` and written at `to`, which are the same or share no memory.
#[inline(always)]
unsafe fn turn_row<S: Simd, T: Element, const READ: bool, const WRITE: bool, const BACK: bool>(
    simd: S,
    tables: &Tables<'_, T::Real>,
    cos: &[T::Real],
    sin: &[T::Real],
    width: usize,
    from: *const T,
    to: *mut T,
    before: &mut [T],
) {
    let (n, first) = (cos.len(), tables.first);
    let end = first + 2 * n;
    // SAFETY: columns below `width`, as the caller promises; each is in one of these ranges.
    unsafe {
        let in_place = std::ptr::eq(from, to);
        if !in_place && 2 * n != width {
            std::ptr::copy_nonoverlapping(from, to, first);
            std::ptr::copy_nonoverlapping(from.add(end), to.add(end), width - end);
        }
        let (from, to) = (from.add(first), to.add(first));
        if READ != WRITE && in_place {
            // Read and written in different orders: no pair can be turned where it lies.
            before[..2 * n].copy_from_slice(std::slice::from_raw_parts(from, 2 * n));
            pairs::<_, _, READ, WRITE, BACK>(simd, cos, sin, before.as_ptr(), to);
        } else if tables.pairing == Pairing::HalvesTwice {
            let half = n / 2;
            pairs::<_, _, READ, WRITE, BACK>(simd, &cos[..half], &sin[..half], from, to);
            pairs::<_, _, READ, WRITE, BACK>(simd, &cos[half..], &sin[half..], from.add(n), to.add(n));
        } else {
            pairs::<_, _, READ, WRITE, BACK>(simd, cos, sin, from, to);
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
            // Rows of the stage under the numbers of the tokens that they are for: `first` is its row 0.
            let in_stage = Rows {
                data: stage.as_mut_ptr().wrapping_sub(first * to.width),
                strides: [0, 0, to.width],
                width: to.width,
            };
            let part = Item {
                b: item.b,
                heads: [h, h + 1],
                tokens: [first, first + rows],
            };
            vectors!(on, simd => turn_item(simd, tables, from, in_stage, part));
            // SAFETY: rows of consecutive tokens follow each other (checked by the caller) inside the tensor, and no other item has them.
            let out = unsafe { std::slice::from_raw_parts_mut(to.data.add(to.offset(item.b, h, first)), stage.len()) };
            stream::copy(on, stage, out);
        }
    }
    stream::fence();
}

/// Turns one row by its cosines and sines, in place; nothing but columns that turn.
pub(crate) fn turn_one<R: Real>(on: Present, cos: &[R], sin: &[R], pairing: Pairing, back: bool, row: &mut [R]) {
    assert!(cos.len() == sin.len() && row.len() == 2 * cos.len());
    let tables = Tables {
        cos,
        sin,
        batch: 1,
        len: 1,
        heads: 1,
        pairs: cos.len(),
        pairing,
        back,
        first: 0,
    };
    let to = Rows {
        data: row.as_mut_ptr(),
        strides: [0; 3],
        width: row.len(),
    };
    let item = Item {
        b: 0,
        heads: [0, 1],
        tokens: [0, 1],
    };
    vectors!(on, simd => turn_item(simd, &tables, to.as_source(), to, item));
}

/// Turns pairs, which lie as neighbours (`true`) or as two halves where they are read and where they are written.
///
/// # Safety
/// Twice as many numbers as there are cosines can be read at `from` and written at `to`. These are the same and the two orders too, or they share no memory.
#[inline(always)]
unsafe fn pairs<S: Simd, T: Element, const READ: bool, const WRITE: bool, const BACK: bool>(
    simd: S,
    cos: &[T::Real],
    sin: &[T::Real],
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
    while i + lanes <= n {
        let [x, y] = if READ {
            T::load_split(simd, read(2 * i, 2 * lanes))
        } else {
            [T::load(simd, read(i, lanes)), T::load(simd, read(n + i, lanes))]
        };
        let (c, s) = (
            <T::Real as Element>::load(simd, &cos[i..i + lanes]),
            <T::Real as Element>::load(simd, &sin[i..i + lanes]),
        );
        let (x, y) = turned::<_, BACK>(c, s, x, y);
        if WRITE {
            T::store_merged(simd, [x, y], write(2 * i, 2 * lanes));
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
            let (x, y) = turned::<_, BACK>(cos[i], sin[i], (*from.add(from_x)).widen(), (*from.add(from_y)).widen());
            *to.add(to_x) = T::narrow(x);
            *to.add(to_y) = T::narrow(y);
        }
    }
}

/// The transpose changes the sines' sign: x·c − y·(−s) is x·c + y·s, to the bit.
#[inline(always)]
fn turned<V: Copy + Add<Output = V> + Sub<Output = V> + Mul<Output = V>, const BACK: bool>(c: V, s: V, x: V, y: V) -> (V, V) {
    if BACK {
        (x * c + y * s, y * c - x * s)
    } else {
        (x * c - y * s, x * s + y * c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const PAIRINGS: [Pairing; 4] = [
        Pairing::Halves,
        Pairing::Interleaved,
        Pairing::InterleavedToHalves,
        Pairing::HalvesTwice,
    ];

    /// Where pair i of n is read and written, forward.
    fn places(pairing: Pairing, n: usize, i: usize) -> [(usize, usize); 2] {
        let (neighbours, halves) = ((2 * i, 2 * i + 1), (i, n + i));
        match pairing {
            Pairing::Halves => [halves, halves],
            Pairing::Interleaved => [neighbours, neighbours],
            Pairing::InterleavedToHalves => [neighbours, halves],
            Pairing::HalvesTwice => {
                let low = i / (n / 2) * n + i % (n / 2);
                [(low, low + n / 2); 2]
            }
        }
    }

    fn numbers<T: Element>(rng: &mut Rng, n: usize) -> Vec<T> {
        (0..n).map(|_| T::narrow(T::Real::of(rng.normal()))).collect()
    }

    /// Every instruction set, pairing, direction, slice and width gives what the definition gives one pair at a time, bit for bit, in place and out of place.
    fn is_the_definition<T: Element + PartialEq + std::fmt::Debug>() {
        let mut rng = Rng::new(11);
        // Ragged ends of every kind, widths of real heads, and one past the row that fits on the stack.
        for n in [1, 2, 7, 8, 12, 16, 18, 32, 36, 64, 80, 270] {
            for (pairing, back, heads) in PAIRINGS.into_iter().flat_map(|p| [(p, false, 1), (p, true, 3)]) {
                if pairing == Pairing::HalvesTwice && n % 2 == 1 {
                    continue;
                }
                let [batch, len, width] = [2, 3, 2 * n + 5];
                let first = if back { 5 } else { 0 };
                let (cos, sin) = (
                    numbers::<T::Real>(&mut rng, batch * len * heads * n),
                    numbers::<T::Real>(&mut rng, batch * len * heads * n),
                );
                let tables = Tables {
                    cos: &cos,
                    sin: &sin,
                    batch,
                    len,
                    heads,
                    pairs: n,
                    pairing,
                    back,
                    first,
                };
                let shape = [batch, 3, len, width];
                let x: Vec<T> = numbers(&mut rng, shape.iter().product());
                let mut expected = x.clone();
                for row in 0..batch * 3 * len {
                    let (b, h, t) = (row / (3 * len), row / len % 3, row % len);
                    let at = ((b * len + t) * heads + if heads == 1 { 0 } else { h }) * n;
                    let row = row * width + first;
                    for i in 0..n {
                        let [mut from, mut to] = places(pairing, n, i);
                        let mut s = sin[at + i];
                        if back {
                            (from, to, s) = (to, from, -s);
                        }
                        let (c, x, y) = (cos[at + i], x[row + from.0].widen(), x[row + from.1].widen());
                        expected[row + to.0] = T::narrow(x * c - y * s);
                        expected[row + to.1] = T::narrow(x * s + y * c);
                    }
                }
                for on in Present::all() {
                    let what = format!("{}: {n} pairs, {pairing:?}, back {back}", on.isa());
                    let mut place = x.clone();
                    turn(on, &tables, ViewMut::new(&mut place, shape).unwrap());
                    assert!(place == expected, "in place, {what}");
                    // Outputs are poisoned, and heads stand beside each other in memory: [batch, len, heads, width].
                    let mut out = vec![T::narrow(T::Real::of(f64::NAN)); x.len()];
                    let stored = [batch, len, 3, width];
                    turn_into(
                        on,
                        &tables,
                        View::new(&x, shape).unwrap(),
                        ViewMut::new(&mut out, stored).unwrap().swap(1, 2).unwrap(),
                    );
                    let swapped = View::new(&out, stored).unwrap().swap(1, 2).unwrap();
                    for row in 0..batch * 3 * len {
                        let (b, h, t) = (row / (3 * len), row / len % 3, row % len);
                        assert!(
                            swapped.row([b, h, t, 0]) == &expected[row * width..][..width],
                            "out of place, {what}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_turn_as_the_definition_says() {
        is_the_definition::<f32>();
        is_the_definition::<f64>();
        is_the_definition::<half::f16>();
        is_the_definition::<half::bf16>();
    }

    /// Large enough to be stored past the caches, and for threads to share.
    #[test]
    fn large_tensors_turn_as_small_ones() {
        let shape = [1, 5, 4099, 128];
        let numbers = shape.iter().product::<usize>();
        assert!(numbers * 4 >= stream::FROM);
        let mut rng = Rng::new(12);
        let table: Vec<f32> = (0..2 * 4099 * 64).map(|_| rng.normal() as f32).collect();
        let (cos, sin) = table.split_at(4099 * 64);
        let tables = Tables {
            cos,
            sin,
            batch: 1,
            len: 4099,
            heads: 1,
            pairs: 64,
            pairing: Pairing::Halves,
            back: false,
            first: 0,
        };
        let x: Vec<f32> = (0..numbers).map(|i| (i % 1013) as f32 - 500.0).collect();
        for on in Present::all() {
            // Off every alignment but that of the numbers.
            let mut out = vec![f32::NAN; numbers + 3];
            turn_into(
                on,
                &tables,
                View::new(&x, shape).unwrap(),
                ViewMut::new(&mut out[3..], shape).unwrap(),
            );
            let mut place = x.clone();
            turn(on, &tables, ViewMut::new(&mut place, shape).unwrap());
            assert!(out[3..] == place, "{}", on.isa());
            for row in [0, 1, 4098, 4099, 5 * 4099 - 1] {
                let mut one = x[row * 128..][..128].to_vec();
                let at = row % 4099 * 64;
                turn_one(on, &cos[at..at + 64], &sin[at..at + 64], Pairing::Halves, false, &mut one);
                assert!(place[row * 128..][..128] == one, "{}: row {row}", on.isa());
            }
        }
    }

    /// A number that is none spoils its own pair and nothing else, and stays none in 16 bits.
    #[test]
    fn nan_and_infinity_stay_in_their_pair() {
        fn check<T: Element>() {
            let n = 40;
            let (cos, sin) = (vec![T::Real::of(0.6); n], vec![T::Real::of(0.8); n]);
            for on in Present::all() {
                for bad in [f64::NAN, f64::INFINITY] {
                    for pairing in PAIRINGS {
                        let tables = Tables {
                            cos: &cos,
                            sin: &sin,
                            batch: 1,
                            len: 1,
                            heads: 1,
                            pairs: n,
                            pairing,
                            back: false,
                            first: 0,
                        };
                        for i in [0, 5, 33] {
                            let [from, to] = places(pairing, n, i);
                            let mut x = vec![T::narrow(T::Real::ONE); 2 * n];
                            x[from.1] = T::narrow(T::Real::of(bad));
                            turn(on, &tables, ViewMut::new(&mut x, [1, 1, 1, 2 * n]).unwrap());
                            for (j, x) in x.iter().enumerate() {
                                let finite = x.widen().is_finite();
                                assert_eq!(!finite, j == to.0 || j == to.1, "{}: {pairing:?}, pair {i}, column {j}", on.isa());
                                assert!(finite || bad.is_infinite() || x.widen().to_f64().is_nan());
                            }
                        }
                    }
                }
            }
        }
        check::<f32>();
        check::<f64>();
        check::<half::f16>();
        check::<half::bf16>();
    }
}
