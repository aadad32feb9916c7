//! Rows that are added to rows: tables to embeddings, gradients to tables.
//!
//! Memory decides: each number of the tensor is read and written once, and a table that batch rows share stays in the second-level cache while they pass by. Threads have rows, or columns, of
//! their own, and what is summed is summed in the order of tokens: results are the same bits for any number of threads.

use super::prefetch::{AHEAD, LINE, prefetch};
use super::{Present, Vectors, vectors};
use crate::real::{Element, Real};
use crate::view::{View, ViewMut};
use fearless_simd::Simd;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of a table that stay in the second-level cache.
const BLOCK: usize = 128 << 10;
/// Bytes that a thread takes at a time.
const ITEM: usize = 256 << 10;
/// From this size on, threads share the work: below it, waking them costs more than they save.
const PARALLEL_FROM: usize = 1 << 20;
/// Bytes of a gradient that stay in the first-level cache while the batch rows that share them pass by.
const NEAREST: usize = 16 << 10;
/// Bytes of a row that a thread has at least, where threads share its columns: two lines, which processors fetch together.
const COLUMNS: usize = 128;

/// Rows of a tensor `[batch, heads, len, width]` that one thread has to itself.
pub(crate) struct RowsMut<'a, T> {
    data: *mut T,
    strides: [usize; 3],
    width: usize,
    batch: Range<usize>,
    heads: Range<usize>,
    tokens: Range<usize>,
    /// Rows that are visited before one that is asked for now is; 0 where the tensor stays in the caches.
    later: usize,
    storage: PhantomData<&'a mut [T]>,
}

/// Where a row begins that is visited a little later.
pub(crate) type Later<T> = Option<*const T>;

impl<T> RowsMut<'_, T> {
    /// Visits each row with its batch row, head and token, those of a head one after the other.
    #[inline(always)]
    pub fn each(&mut self, mut visit: impl FnMut([usize; 3], &mut [T])) {
        self.each_ahead(
            #[inline(always)]
            |at, row, _| visit(at, row),
        );
    }

    /// As [`RowsMut::each`], with the row that is visited some [`AHEAD`] bytes later, for asking for it.
    #[inline(always)]
    pub fn each_ahead(&mut self, mut visit: impl FnMut([usize; 3], &mut [T], Later<T>)) {
        for b in self.batch.clone() {
            for h in self.heads.clone() {
                for t in self.tokens.clone() {
                    let at = self.offset([b, h, t]);
                    // SAFETY: the row lies inside the tensor that was cut (see `share_rows`), no other part has it, and `&mut self` makes it unique here.
                    let row = unsafe { std::slice::from_raw_parts_mut(self.data.add(at), self.width) };
                    visit([b, h, t], row, self.later([b, h, t]));
                }
            }
        }
    }

    /// Visits each head's rows.
    pub fn each_head(&mut self, mut visit: impl FnMut([usize; 2], &mut RowsMut<'_, T>)) {
        for b in self.batch.clone() {
            for h in self.heads.clone() {
                let mut head = self.columns(0..self.width);
                (head.batch, head.heads) = (b..b + 1, h..h + 1);
                visit([b, h], &mut head);
            }
        }
    }

    /// The tokens of each head that are its own.
    pub fn tokens(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The tensor does not stay in the caches.
    pub fn far(&self) -> bool {
        self.later > 0
    }

    #[inline(always)]
    fn offset(&self, [b, h, t]: [usize; 3]) -> usize {
        b * self.strides[0] + h * self.strides[1] + t * self.strides[2]
    }

    /// None at the part's end, and where nothing need be asked for.
    #[inline(always)]
    fn later(&self, [b, h, t]: [usize; 3]) -> Later<T> {
        let later = t + self.later;
        let at = if later < self.tokens.end {
            [b, h, later]
        } else {
            let first = (later - self.tokens.len()).min(self.tokens.end - 1);
            if h + 1 < self.heads.end {
                [b, h + 1, first]
            } else if b + 1 < self.batch.end {
                [b + 1, self.heads.start, first]
            } else {
                return None;
            }
        };
        (self.later > 0).then(|| self.data.wrapping_add(self.offset(at)).cast_const())
    }

    /// Some columns of the same rows.
    pub fn columns(&mut self, columns: Range<usize>) -> RowsMut<'_, T> {
        assert!(columns.start <= columns.end && columns.end <= self.width);
        RowsMut {
            // SAFETY: no further than the end of the first row, and there is one.
            data: unsafe { self.data.add(columns.start) },
            width: columns.len(),
            strides: self.strides,
            batch: self.batch.clone(),
            heads: self.heads.clone(),
            tokens: self.tokens.clone(),
            later: self.later,
            storage: PhantomData,
        }
    }
}

/// A pointer that threads use for elements of their own.
struct Shared<T>(*mut T);

// SAFETY: each item of work has elements of its own, as with `&mut [T]` that was split; see where it is used.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Taken by a method, so that closures hold the whole and not the pointer in it.
    #[inline(always)]
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Runs `work` for each of `items`, by the caller's pool where they touch this many bytes in all.
fn each_item(items: usize, bytes: usize, work: impl Fn(usize) + Sync + Send) {
    #[cfg(feature = "rayon")]
    if bytes >= PARALLEL_FROM && items > 1 && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        return (0..items).into_par_iter().for_each(work);
    }
    #[cfg(not(feature = "rayon"))]
    let _ = (bytes, PARALLEL_FROM);
    (0..items).for_each(work);
}

/// Rows of these bytes to look ahead in a tensor of so many.
fn later(row: usize, tensor: usize) -> usize {
    if tensor < PARALLEL_FROM { 0 } else { AHEAD.div_ceil(row) }
}

/// Cuts `x` `[batch, heads, len, width]` into parts of some 256 KiB, which threads take in any order: blocks of tokens outermost, so that what the batch rows of a token share, `beside` bytes,
/// is read from memory once.
pub(crate) fn share_rows<T: Send>(x: ViewMut<'_, T, 4>, beside: usize, work: impl Fn(RowsMut<'_, T>) + Sync + Send) {
    let (data, [batch, heads, len, width], strides) = x.into_parts();
    if [batch, heads, len, width].contains(&0) {
        return;
    }
    let token = heads * width * size_of::<T>();
    let tokens = (BLOCK / beside.max(token)).clamp(1, len);
    let rows = (ITEM / (tokens * token)).clamp(1, batch);
    let (blocks, groups) = (len.div_ceil(tokens), batch.div_ceil(rows));
    let data = Shared(data.as_mut_ptr());
    let later = later(width * size_of::<T>(), batch * len * token);
    each_item(blocks * groups, batch * len * token, |i| {
        let (block, group) = (i / groups, i % groups);
        // The rows of a view lie inside its storage and share no memory, and each is in one part.
        work(RowsMut {
            data: data.get(),
            strides: [strides[0], strides[1], strides[2]],
            width,
            batch: group * rows..((group + 1) * rows).min(batch),
            heads: 0..heads,
            tokens: block * tokens..((block + 1) * tokens).min(len),
            later,
            storage: PhantomData,
        });
    });
}

/// Cuts `x` `[batch, heads, rows, width]` into rows that follow each other, some 256 KiB of them: of one head, or of several where a head has less.
pub(crate) fn share_planes<T: Send>(x: ViewMut<'_, T, 4>, work: impl Fn(RowsMut<'_, T>) + Sync + Send) {
    let (data, [batch, heads, len, width], strides) = x.into_parts();
    if [batch, heads, len, width].contains(&0) {
        return;
    }
    let bytes = width * size_of::<T>();
    let rows = (ITEM / bytes).clamp(1, len);
    let together = (ITEM / (rows * bytes)).clamp(1, heads);
    let (blocks, groups) = (len.div_ceil(rows), heads.div_ceil(together));
    let data = Shared(data.as_mut_ptr());
    let later = later(bytes, batch * heads * len * bytes);
    each_item(batch * groups * blocks, batch * heads * len * bytes, |i| {
        let (b, group, block) = (i / (groups * blocks), i / blocks % groups, i % blocks);
        // As in `share_rows`.
        work(RowsMut {
            data: data.get(),
            strides: [strides[0], strides[1], strides[2]],
            width,
            batch: b..b + 1,
            heads: group * together..((group + 1) * together).min(heads),
            tokens: block * rows..((block + 1) * rows).min(len),
            later,
            storage: PhantomData,
        });
    });
}

/// A row of a table, or a mix of two.
#[derive(Clone, Copy)]
pub(crate) struct Mix<R> {
    /// Its index.
    pub row: usize,
    /// Another row, and the shares of both, where there is one.
    pub other: Option<(usize, [R; 2])>,
}

/// Adds to each row what its token means in a table whose rows are as wide as all heads together, each head its own columns: `x + a`, or `x + a + share of b · (b − a)`, rounded once to what is stored.
pub(crate) fn add_table<T: Element>(
    on: Present,
    x: &mut RowsMut<'_, T>,
    table: &[T::Real],
    mix: impl Fn(usize, usize) -> Option<Mix<T::Real>>,
) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, x: &mut RowsMut<'_, T>, table: &[T::Real], mix: &impl Fn(usize, usize) -> Option<Mix<T::Real>>) {
        let (width, of_row) = (x.width, x.heads.len() * x.width);
        x.each_ahead(
            #[inline(always)]
            |[b, h, t], x, later| {
                let Some(Mix { row, other }) = mix(b, t) else { return };
                let part = |row: usize, h: usize| &table[row * of_row + h * width..][..width];
                let own = part(row, h);
                match other {
                    None => {
                        // Where nothing is to be asked for, what is in the first-level cache already.
                        let ahead = later.unwrap_or(x.as_ptr());
                        added(simd, x, own, ahead);
                    }
                    Some((other, [_, share])) => mixed(simd, x, own, part(other, h), share),
                }
            },
        );
    }
    vectors!(on, simd => body(simd, x, table, &mix));
}

/// `x += a`, while as many numbers from `ahead` on are asked for.
#[inline(always)]
fn added<S: Simd, T: Element>(simd: S, x: &mut [T], a: &[T::Real], ahead: *const T) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = x.len();
    let (a, whole) = (&a[..n], n - n % lanes);
    for i in (0..whole).step_by(lanes) {
        prefetch::<true>(ahead.wrapping_add(i).cast());
        let sum = T::load(simd, &x[i..i + lanes]) + <T::Real as Element>::load(simd, &a[i..i + lanes]);
        T::store(simd, sum, &mut x[i..i + lanes]);
    }
    for i in whole..n {
        x[i] = T::narrow(x[i].widen() + a[i]);
    }
}

#[inline(always)]
fn mixed<S: Simd, T: Element>(simd: S, x: &mut [T], a: &[T::Real], b: &[T::Real], share: T::Real) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = x.len();
    let (a, b) = (&a[..n], &b[..n]);
    let (whole, wide) = (n - n % lanes, T::Real::splat(simd, share));
    for i in (0..whole).step_by(lanes) {
        let (first, second) = (
            <T::Real as Element>::load(simd, &a[i..i + lanes]),
            <T::Real as Element>::load(simd, &b[i..i + lanes]),
        );
        let sum = T::load(simd, &x[i..i + lanes]) + first + wide * (second - first);
        T::store(simd, sum, &mut x[i..i + lanes]);
    }
    for i in whole..n {
        x[i] = T::narrow(x[i].widen() + a[i] + share * (b[i] - a[i]));
    }
}

/// The adjoint of [`add_table`]: `into[row] += dx`, to each of two rows its share where two were mixed. Each number of the table is a sum in the order of batch rows
/// and tokens, whatever has been cut: rows of the table where no two tokens mean the same one, columns where they may.
pub(crate) fn scatter_table<T: Element>(
    on: Present,
    dx: View<'_, T, 4>,
    into: &mut [T::Real],
    mix: impl Fn(usize, usize) -> Option<Mix<T::Real>> + Sync + Send,
) {
    let [batch, heads, len, width] = dx.shape();
    if dx.shape().contains(&0) {
        return;
    }
    let of_row = heads * width;
    let bytes = batch.saturating_mul(len).saturating_mul(of_row * size_of::<T>());
    let table = Table {
        rows: into.len() / of_row,
        of_row,
        data: Shared(into.as_mut_ptr()),
    };
    let part = |batch: Range<usize>, tokens: Range<usize>, columns: Range<usize>| {
        // SAFETY: no two parts that run at once have the same rows of the table, or they have other columns of it; see where each is made.
        vectors!(on, simd => unsafe { scatter_part(simd, dx, &table, batch, tokens, columns, &mix) });
    };
    let block_of = |bytes: usize| (bytes / (of_row * size_of::<T::Real>())).clamp(1, len);
    let tokens_of = |block: usize, i: usize| i * block..((i + 1) * block).min(len);
    if bytes < PARALLEL_FROM {
        return part(0..batch, 0..len, 0..of_row);
    }
    if increases((0..batch * len).map(|i| mix(i / len, i % len))) {
        // Each token has a row of its own, in each row of the batch another.
        let block = block_of(BLOCK);
        let blocks = len.div_ceil(block);
        return each_item(batch * blocks, bytes, |i| {
            part(i / blocks..i / blocks + 1, tokens_of(block, i % blocks), 0..of_row)
        });
    }
    // A mix reads a second row, which another token may have.
    let alone = |b: usize, t: usize| mix(b, t).map(|mix| (mix.row, mix.other.is_some()));
    let alike = |t: usize| (1..batch).all(|b| alone(b, t) == alone(0, t));
    if increases((0..len).map(|t| mix(0, t))) && (0..len).all(alike) {
        // Each token has a row of its own, which the batch shares.
        let block = block_of(NEAREST);
        return each_item(len.div_ceil(block), bytes, |i| part(0..batch, tokens_of(block, i), 0..of_row));
    }
    // Columns: whole lines of the table, and no more parts than there are threads.
    #[cfg(feature = "rayon")]
    let threads = rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    let threads = 1;
    let at_least = COLUMNS / size_of::<T::Real>();
    let columns = of_row.div_ceil(threads).next_multiple_of(at_least);
    each_item(of_row.div_ceil(columns), bytes, |i| {
        part(0..batch, 0..len, i * columns..((i + 1) * columns).min(of_row))
    });
}

/// Tokens mean rows one after the other: no row twice, and no mixes.
fn increases<R>(mut rows: impl Iterator<Item = Option<Mix<R>>>) -> bool {
    let mut next = 0;
    rows.all(|mix| match mix {
        None => true,
        Some(Mix { row, other: None }) if row >= next => {
            next = row + 1;
            true
        }
        Some(_) => false,
    })
}

/// A table that threads add to, rows as wide as all heads together.
struct Table<R> {
    rows: usize,
    of_row: usize,
    data: Shared<R>,
}

impl<R: Real> Table<R> {
    /// `row[first ..] += a·x`.
    ///
    /// # Safety
    /// Nobody else uses these columns of the row.
    #[inline(always)]
    unsafe fn add<S: Simd, T: Element<Real = R>>(&self, simd: S, row: usize, first: usize, a: R, x: &[T]) {
        assert!(row < self.rows && first + x.len() <= self.of_row);
        // SAFETY: inside the table, and nobody else's, as the caller promises.
        let row = unsafe { std::slice::from_raw_parts_mut(self.data.get().add(row * self.of_row + first), x.len()) };
        gathered(simd, row, a, x);
    }
}

/// Adds some columns of some tokens' rows, in the order of batch rows, heads and tokens.
///
/// # Safety
/// Nobody else uses these columns of the rows of the table that these tokens mean.
#[inline(always)]
unsafe fn scatter_part<S: Simd, T: Element>(
    simd: S,
    dx: View<'_, T, 4>,
    table: &Table<T::Real>,
    batch: Range<usize>,
    tokens: Range<usize>,
    columns: Range<usize>,
    mix: &impl Fn(usize, usize) -> Option<Mix<T::Real>>,
) {
    let width = dx.shape()[3];
    for b in batch {
        for h in columns.start / width..columns.end.div_ceil(width) {
            // Of this head, counted from its first column.
            let own = columns.start.max(h * width) - h * width..columns.end.min((h + 1) * width) - h * width;
            for t in tokens.clone() {
                let Some(Mix { row, other }) = mix(b, t) else { continue };
                let from = &dx.row([b, h, t, 0])[own.clone()];
                let first = h * width + own.start;
                // SAFETY: nobody else's, as the caller promises.
                unsafe {
                    match other {
                        None => table.add(simd, row, first, T::Real::ONE, from),
                        Some((other, shares)) => {
                            table.add(simd, row, first, shares[0], from);
                            table.add(simd, other, first, shares[1], from);
                        }
                    }
                }
            }
        }
    }
}

/// `y += x`, each sum rounded once to what is stored. As many numbers as the shorter row has.
#[inline]
pub(crate) fn add_row<T: Element>(on: Present, y: &mut [T], x: &[T::Real]) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, y: &mut [T], x: &[T::Real]) {
        each(
            simd,
            y,
            x,
            #[inline(always)]
            |y, x| y + x,
            #[inline(always)]
            |y, x| y + x,
        );
    }
    vectors!(on, simd => body(simd, y, x));
}

/// `y += a·x`, likewise.
#[inline]
pub(crate) fn add_scaled<T: Element>(on: Present, y: &mut [T], a: T::Real, x: &[T::Real]) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, y: &mut [T], a: T::Real, x: &[T::Real]) {
        let wide = T::Real::splat(simd, a);
        each(
            simd,
            y,
            x,
            #[inline(always)]
            |y, x| y + wide * x,
            #[inline(always)]
            |y, x| y + a * x,
        );
    }
    vectors!(on, simd => body(simd, y, a, x));
}

/// `y += a·x` where x is what is stored: a table's row and the gradient of a row that it was added to.
#[inline(always)]
fn gathered<S: Simd, T: Element>(simd: S, y: &mut [T::Real], a: T::Real, x: &[T]) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = y.len().min(x.len());
    let (y, x) = (&mut y[..n], &x[..n]);
    let wide = T::Real::splat(simd, a);
    let whole = n - n % lanes;
    for i in (0..whole).step_by(lanes) {
        let sum = <T::Real as Element>::load(simd, &y[i..i + lanes]) + wide * T::load(simd, &x[i..i + lanes]);
        <T::Real as Element>::store(simd, sum, &mut y[i..i + lanes]);
    }
    for i in whole..n {
        y[i] += a * x[i].widen();
    }
}

/// Rounds each number to what is stored, both of one length, while as many from `ahead` on are asked for.
#[inline]
pub(super) fn narrow_row<T: Element>(on: Present, x: &[T::Real], to: &mut [T], ahead: *const T) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, x: &[T::Real], to: &mut [T], ahead: *const T) {
        let lanes = <T::Real as Vectors>::LANES;
        let n = to.len();
        let (x, whole) = (&x[..n], n - n % lanes);
        for i in (0..whole).step_by(lanes) {
            prefetch::<true>(ahead.wrapping_add(i).cast());
            T::store(simd, <T::Real as Element>::load(simd, &x[i..i + lanes]), &mut to[i..i + lanes]);
        }
        for i in whole..n {
            to[i] = T::narrow(x[i]);
        }
    }
    vectors!(on, simd => body(simd, x, to, ahead));
}

/// Copies a row, while as many numbers from `ahead` on are asked for.
#[inline]
pub(super) fn copy_row<T: Element>(on: Present, from: &[T], to: &mut [T], ahead: *const T) {
    #[inline(always)]
    fn body<T: Element>(from: &[T], to: &mut [T], ahead: *const T) {
        // Of a line each.
        let at_once = LINE / size_of::<T>();
        let from = &from[..to.len()];
        let (mut to, mut from) = (to.chunks_exact_mut(at_once), from.chunks_exact(at_once));
        for (i, (to, from)) in to.by_ref().zip(from.by_ref()).enumerate() {
            prefetch::<true>(ahead.wrapping_add(i * at_once).cast());
            to.copy_from_slice(from);
        }
        to.into_remainder().copy_from_slice(from.remainder());
    }
    vectors!(on, _simd => body(from, to, ahead));
}

#[inline(always)]
fn each<S: Simd, T: Element>(
    simd: S,
    y: &mut [T],
    x: &[T::Real],
    wide: impl Fn(<T::Real as Vectors>::Vector<S>, <T::Real as Vectors>::Vector<S>) -> <T::Real as Vectors>::Vector<S>,
    one: impl Fn(T::Real, T::Real) -> T::Real,
) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = y.len().min(x.len());
    let (y, x) = (&mut y[..n], &x[..n]);
    let whole = n - n % lanes;
    for i in (0..whole).step_by(lanes) {
        let sum = wide(T::load(simd, &y[i..i + lanes]), <T::Real as Element>::load(simd, &x[i..i + lanes]));
        T::store(simd, sum, &mut y[i..i + lanes]);
    }
    for i in whole..n {
        y[i] = T::narrow(one(y[i].widen(), x[i]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Real;
    use crate::rng::Rng;

    fn sums<T: Element + PartialEq + std::fmt::Debug>() {
        let mut rng = Rng::new(4);
        for n in [0, 1, 7, 8, 15, 16, 17, 33, 100] {
            let mut numbers = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
            let y: Vec<T> = numbers(n).iter().map(|x| T::narrow(T::Real::of(*x))).collect();
            let x: Vec<T::Real> = numbers(n + 3).iter().map(|x| T::Real::of(*x)).collect();
            let a = T::Real::of(0.3);
            for on in Present::all() {
                let (mut added, mut scaled) = (y.clone(), y.clone());
                add_row(on, &mut added, &x);
                add_scaled(on, &mut scaled, a, &x);
                for i in 0..n {
                    assert_eq!(added[i], T::narrow(y[i].widen() + x[i]), "{}", on.isa());
                    assert_eq!(scaled[i], T::narrow(y[i].widen() + a * x[i]), "{}", on.isa());
                }
            }
        }
    }

    /// Bit for bit one number at a time: no fused product, one rounding.
    #[test]
    fn rows_are_summed_as_single_numbers_are() {
        sums::<f32>();
        sums::<f64>();
        sums::<half::f16>();
        sums::<half::bf16>();
    }

    /// Of `len` tokens in a row of the batch: what a row's token means.
    type Meaning<R> = fn(usize, usize, usize) -> Option<Mix<R>>;

    /// What tokens mean in a table of 5000 rows: rows of their own, rows that the batch shares, the same rows again and again with gaps, and mixes of two.
    fn meanings<R: Real>(len: usize) -> [Meaning<R>; 4] {
        assert!(2 * len < 5000);
        [
            |len, b, t| {
                (t % 7 != 3).then_some(Mix {
                    row: b * len + t,
                    other: None,
                })
            },
            |_, _, t| Some(Mix { row: 2 * t, other: None }),
            |_, b, t| {
                (t % 5 != b).then_some(Mix {
                    row: t * 37 % 11,
                    other: None,
                })
            },
            |_, b, t| {
                let share = (t % 4) as f64 / 4.0;
                Some(Mix {
                    row: t / 4 + b,
                    other: (share > 0.0).then(|| (t / 4 + b + 1, [R::of(1.0 - share), R::of(share)])),
                })
            },
        ]
    }

    /// In pools of one thread and of more, where there are pools.
    fn in_pools(run: impl Fn() + Send + Sync) {
        #[cfg(feature = "rayon")]
        for threads in [1, 2, 3, 8] {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run);
        }
        run();
    }

    /// One number at a time, in the order of batch rows, heads and tokens.
    fn tables<T: Element + PartialEq + std::fmt::Debug>([batch, heads, len, width]: [usize; 4]) {
        let mut rng = Rng::new(5);
        let mut numbers = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
        let x: Vec<T> = numbers(batch * heads * len * width)
            .iter()
            .map(|x| T::narrow(T::Real::of(*x)))
            .collect();
        let of_row = heads * width;
        let table: Vec<T::Real> = numbers(5000 * of_row).iter().map(|x| T::Real::of(*x)).collect();
        for meaning in meanings::<T::Real>(len) {
            let (mut sum, mut into) = (x.clone(), table.clone());
            for (i, x) in x.chunks_exact(width.max(1)).enumerate() {
                let (b, h, t) = (i / (heads * len), i / len % heads, i % len);
                let Some(Mix { row, other }) = meaning(len, b, t) else { continue };
                for (c, x) in x.iter().enumerate() {
                    let (at, column) = (row * of_row + h * width + c, h * width + c);
                    let sum = &mut sum[i * width + c];
                    match other {
                        None => {
                            *sum = T::narrow(x.widen() + table[at]);
                            into[at] += x.widen();
                        }
                        Some((other, [own, share])) => {
                            let second = other * of_row + column;
                            *sum = T::narrow(x.widen() + table[at] + share * (table[second] - table[at]));
                            into[at] += own * x.widen();
                            into[second] += share * x.widen();
                        }
                    }
                }
            }
            let mix = |b: usize, t: usize| meaning(len, b, t);
            in_pools(|| {
                for on in Present::all() {
                    let (mut y, mut grad) = (x.clone(), table.clone());
                    let shape = [batch, heads, len, width];
                    let part = |mut x: RowsMut<'_, T>| add_table(on, &mut x, &table, mix);
                    share_rows(ViewMut::new(&mut y, shape).unwrap(), of_row * size_of::<T::Real>(), part);
                    assert!(y == sum, "{}: {shape:?}", on.isa());
                    scatter_table(on, View::new(&x, shape).unwrap(), &mut grad, mix);
                    assert!(grad == into, "{}: {shape:?}", on.isa());
                }
            });
        }
    }

    /// Small ones, and those that threads share: rows of a whole number of vectors and of none.
    #[test]
    fn tables_are_added_and_gradients_summed_in_the_order_of_tokens_whatever_the_threads() {
        for shape in [[2, 1, 5, 70], [3, 2, 4, 19], [2, 0, 3, 4], [0, 1, 3, 4], [1, 2, 3, 0]] {
            tables::<f32>(shape);
            tables::<f64>(shape);
            tables::<half::f16>(shape);
            tables::<half::bf16>(shape);
        }
        for shape in [[2, 1, 1300, 211], [2, 4, 2310, 36]] {
            let numbers: usize = shape.iter().product();
            assert!(numbers * 2 >= PARALLEL_FROM);
            tables::<f32>(shape);
            tables::<half::bf16>(shape);
        }
    }

    #[test]
    fn columns_of_a_part_are_those_of_its_rows_and_no_others() {
        let mut data: Vec<u32> = (0..2 * 3 * 5).collect();
        share_rows(ViewMut::new(&mut data, [2, 1, 3, 5]).unwrap(), 0, |mut x| {
            x.columns(1..3).each(|[b, _, t], row| {
                assert_eq!(row, [(b * 15 + t * 5 + 1) as u32, (b * 15 + t * 5 + 2) as u32]);
                row.fill(99);
            });
        });
        assert!(
            data.iter()
                .enumerate()
                .all(|(i, x)| *x == if matches!(i % 5, 1 | 2) { 99 } else { i as u32 })
        );
    }
}
