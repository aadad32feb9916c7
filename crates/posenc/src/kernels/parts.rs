//! Work that threads share: each part of it has its own part of every tensor and list that is written. Nothing is allocated, and which thread runs a part changes nothing in it.

use crate::view::ViewMut;
use std::marker::PhantomData;

/// What is cut into parts, each of which is a unique borrow of its own elements.
///
/// # Safety
/// Parts of different numbers below [`Parts::count`] share no element.
pub(crate) unsafe trait Parts: Sync {
    type Part;
    /// How many there are at least.
    fn count(&self) -> usize;
    /// # Safety
    /// `i` is below the count, and no part is taken twice.
    unsafe fn part(&self, i: usize) -> Self::Part;
}

/// `[heads, rows, width]` of one batch row: the heads that one part of the work writes.
pub(crate) struct HeadsMut<'a, T> {
    start: *mut T,
    heads: usize,
    rows: usize,
    width: usize,
    strides: [usize; 2],
    storage: PhantomData<&'a mut [T]>,
}

impl<T> HeadsMut<'_, T> {
    /// Row `i` of a head.
    #[inline]
    pub fn row_mut(&mut self, head: usize, i: usize) -> &mut [T] {
        assert!(head < self.heads && i < self.rows);
        // SAFETY: the row lies inside the tensor that was cut (see `heads`), and `&mut self` makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(head * self.strides[0] + i * self.strides[1]), self.width) }
    }
}

/// A tensor `[batch, heads, rows, width]` cut into parts of some heads each, batch rows first.
pub(crate) struct ByHeads<'a, T> {
    base: *mut T,
    batch: usize,
    /// Parts of a batch row.
    groups: usize,
    /// Heads of a part.
    heads: usize,
    rows: usize,
    width: usize,
    strides: [usize; 3],
    storage: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a unique borrow of the whole tensor, and hands out each part of it once.
unsafe impl<T: Send> Sync for ByHeads<'_, T> {}

impl<'a, T> ByHeads<'a, T> {
    /// `heads` to a part, which divides the tensor's.
    pub fn new(view: ViewMut<'a, T, 4>, heads: usize) -> Self {
        let empty = view.is_empty();
        let (data, [batch, all, rows, width], strides) = view.into_parts();
        assert!(heads > 0 && all.is_multiple_of(heads));
        let strides = if empty { [0; 3] } else { [strides[0], strides[1], strides[2]] };
        let last = |n: usize, stride: usize| n.saturating_sub(1) * stride;
        let reach = last(batch, strides[0]) + last(all, strides[1]) + last(rows, strides[2]) + width;
        assert!(empty || reach <= data.len());
        ByHeads {
            base: data.as_mut_ptr(),
            batch,
            groups: all / heads,
            heads,
            rows,
            width,
            strides,
            storage: PhantomData,
        }
    }
}

// SAFETY: parts are different heads or batch rows of a `ViewMut`, whose elements share no memory.
unsafe impl<'a, T: Send> Parts for ByHeads<'a, T> {
    type Part = HeadsMut<'a, T>;

    fn count(&self) -> usize {
        self.batch.saturating_mul(self.groups)
    }

    unsafe fn part(&self, i: usize) -> HeadsMut<'a, T> {
        let (b, group) = (i / self.groups, i % self.groups);
        HeadsMut {
            start: self.base.wrapping_add(b * self.strides[0] + group * self.heads * self.strides[1]),
            heads: self.heads,
            rows: self.rows,
            width: self.width,
            strides: [self.strides[1], self.strides[2]],
            storage: PhantomData,
        }
    }
}

/// A list cut into pieces of one length.
pub(crate) struct ByLength<'a, T> {
    base: *mut T,
    len: usize,
    size: usize,
    storage: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a unique borrow of the whole list, and hands out each piece of it once.
unsafe impl<T: Send> Sync for ByLength<'_, T> {}

impl<'a, T> ByLength<'a, T> {
    pub fn new(list: &'a mut [T], size: usize) -> Self {
        ByLength {
            base: list.as_mut_ptr(),
            len: list.len(),
            size,
            storage: PhantomData,
        }
    }
}

// SAFETY: pieces follow each other.
unsafe impl<'a, T: Send> Parts for ByLength<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.len.checked_div(self.size).unwrap_or(usize::MAX)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        // SAFETY: piece i ends at (i + 1) · size, which is at most the length while i is below the count; no other piece has these elements.
        unsafe { std::slice::from_raw_parts_mut(self.base.wrapping_add(i * self.size), self.size) }
    }
}

// SAFETY: as what is in it.
unsafe impl<P: Parts> Parts for Option<P> {
    type Part = Option<P::Part>;

    fn count(&self) -> usize {
        self.as_ref().map_or(usize::MAX, P::count)
    }

    unsafe fn part(&self, i: usize) -> Option<P::Part> {
        // SAFETY: the caller's.
        self.as_ref().map(|parts| unsafe { parts.part(i) })
    }
}

macro_rules! tuples {
    ($($of:ident)+) => {
        // SAFETY: as each of them.
        unsafe impl<$($of: Parts),+> Parts for ($($of,)+) {
            type Part = ($($of::Part,)+);

            #[expect(non_snake_case, reason = "each is named after its type")]
            fn count(&self) -> usize {
                let ($($of,)+) = self;
                let mut count = usize::MAX;
                $(count = count.min($of.count());)+
                count
            }

            #[expect(non_snake_case, reason = "each is named after its type")]
            unsafe fn part(&self, i: usize) -> Self::Part {
                let ($($of,)+) = self;
                // SAFETY: the caller's.
                unsafe { ($($of.part(i),)+) }
            }
        }
    };
}
tuples! { A B }
tuples! { A B C }
tuples! { A B C D }

/// How many threads of the caller's pool share `count` parts.
pub(crate) fn threads(count: usize) -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads().min(count).max(1);
    #[cfg(not(feature = "rayon"))]
    count.min(1)
}

/// Runs `work(i, part i, scratch)` for each of `count` parts, spread over as many threads as there are scratches, each with its own.
pub(crate) fn share<P: Parts, S: Send>(count: usize, parts: P, scratch: &mut [S], work: impl Fn(usize, P::Part, &mut S) + Sync) {
    let threads = scratch.len();
    assert!(count <= parts.count() && threads > 0);
    let every = |first: usize, scratch: &mut S| {
        for i in (first..count).step_by(threads) {
            // SAFETY: below the count; the threads' numbers are all different, and the parts are given up here.
            work(i, unsafe { parts.part(i) }, scratch);
        }
    };
    #[cfg(feature = "rayon")]
    if threads > 1 {
        use rayon::prelude::*;
        return scratch
            .par_iter_mut()
            .enumerate()
            .for_each(|(first, scratch)| every(first, scratch));
    }
    scratch.iter_mut().enumerate().for_each(|(first, scratch)| every(first, scratch));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_interleaved_heads_are_their_own_rows() {
        // Storage [batch 2, seq 2, heads 4, dim 2], cut into two heads each.
        let mut data = vec![0; 32];
        let mut list = vec![0; 4];
        for threads in [1, 3] {
            let view = ViewMut::new(&mut data, [2, 2, 4, 2]).unwrap().swap(1, 2).unwrap();
            let parts = ByHeads::new(view, 2);
            assert_eq!(parts.count(), 4);
            let both = (parts, ByLength::new(&mut list, 1));
            share(4, both, &mut vec![(); threads], |i, (mut heads, list), ()| {
                for (head, row) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    heads.row_mut(head, row).fill((100 * i + 10 * head + row) as i32);
                }
                list[0] = i;
            });
            assert_eq!(list, [0, 1, 2, 3]);
            // Batch row 1, token 1: heads 0 to 3 are those of parts 2 and 3.
            assert_eq!(data[24..], [201, 201, 211, 211, 301, 301, 311, 311]);
        }
    }

    #[test]
    fn an_empty_tensor_has_parts_without_rows_and_a_piece_of_nothing_is_nothing() {
        let view = ViewMut::<f32, 4>::new(&mut [], [3, 2, 0, 5]).unwrap();
        let parts = (ByHeads::new(view, 1), ByLength::<f32>::new(&mut [], 0));
        assert_eq!((parts.0.count(), parts.1.count()), (6, usize::MAX));
        share(6, parts.0, &mut [()], |_, heads, ()| assert_eq!(heads.rows, 0));
        share(6, parts.1, &mut [()], |_, piece, ()| assert!(piece.is_empty()));
        share(6, None::<ByLength<'_, f32>>, &mut [()], |_, piece, ()| assert!(piece.is_none()));
    }
}
