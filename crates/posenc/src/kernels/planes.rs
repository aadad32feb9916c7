//! Tensors cut for items of work, so that threads can write their own parts.

use crate::view::ViewMut;
use std::marker::PhantomData;

/// What can be cut into a part for each item of work.
///
/// # Safety
/// Parts of different items share no memory.
pub(crate) unsafe trait Cut: Sync {
    /// What an item has.
    type Part;

    /// The part of an item.
    ///
    /// # Safety
    /// While a part is in use, the part of the same item is not taken again.
    unsafe fn part(&self, item: usize) -> Self::Part;
}

/// Runs `work` for each item with its part and the scratch of its thread. Which thread runs an item changes nothing in its result.
pub(crate) fn each_part<C: Cut, S: Default + Send>(
    items: usize,
    cut: C,
    scratch: &mut Vec<S>,
    work: impl Fn(usize, C::Part, &mut S) + Sync,
) {
    #[cfg(feature = "rayon")]
    let threads = rayon::current_num_threads().min(items).max(1);
    #[cfg(not(feature = "rayon"))]
    let threads = 1;
    if scratch.len() < threads {
        scratch.resize_with(threads, S::default);
    }
    let hand = |thread: usize, scratch: &mut S| {
        for item in (thread..items).step_by(threads) {
            // SAFETY: each item belongs to one thread, which takes it once.
            work(item, unsafe { cut.part(item) }, scratch);
        }
    };
    #[cfg(feature = "rayon")]
    if threads > 1 {
        use rayon::prelude::*;
        return scratch[..threads]
            .par_iter_mut()
            .enumerate()
            .for_each(|(thread, scratch)| hand(thread, scratch));
    }
    hand(0, &mut scratch[0]);
}

/// A tensor `[batch, heads, rows, width]`, of which each item has some planes: those of the first item are the first, batch rows outermost.
pub(crate) struct Planes<'a, T> {
    base: *mut T,
    shape: [usize; 4],
    strides: [usize; 3],
    each: usize,
    storage: PhantomData<&'a mut [T]>,
}

// SAFETY: only parts read or write the storage, and those of different items are different planes of a view that shares no memory with itself.
unsafe impl<T: Send> Sync for Planes<'_, T> {}

impl<'a, T> Planes<'a, T> {
    /// With this many planes for each item.
    pub fn new(view: ViewMut<'a, T, 4>, each: usize) -> Planes<'a, T> {
        let (data, shape, [b, h, i, _]) = view.into_parts();
        Planes {
            base: data.as_mut_ptr(),
            shape,
            strides: [b, h, i],
            each,
            storage: PhantomData,
        }
    }
}

// SAFETY: items have different planes, and elements of a `ViewMut` share no memory.
unsafe impl<'a, T: Send> Cut for Planes<'a, T> {
    type Part = PlanesMut<'a, T>;

    unsafe fn part(&self, item: usize) -> PlanesMut<'a, T> {
        let [batch, heads, rows, width] = self.shape;
        assert!((item + 1) * self.each <= batch * heads);
        PlanesMut {
            base: self.base,
            heads,
            rows,
            width,
            strides: self.strides,
            first: item * self.each,
            count: self.each,
            storage: PhantomData,
        }
    }
}

/// Some planes of a tensor.
pub(crate) struct PlanesMut<'a, T> {
    base: *mut T,
    heads: usize,
    rows: usize,
    width: usize,
    strides: [usize; 3],
    first: usize,
    count: usize,
    storage: PhantomData<&'a mut [T]>,
}

impl<T> PlanesMut<'_, T> {
    /// A row of a plane, counted from the first of these.
    #[inline]
    pub fn row_mut(&mut self, plane: usize, row: usize) -> &mut [T] {
        assert!(plane < self.count && row < self.rows);
        let (b, h) = ((self.first + plane) / self.heads, (self.first + plane) % self.heads);
        let at = b * self.strides[0] + h * self.strides[1] + row * self.strides[2];
        // SAFETY: the row lies inside the tensor that was cut, and `&mut self` makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.base.wrapping_add(at), self.width) }
    }
}

/// A slice, of which each item has as many numbers.
pub(crate) struct Chunks<'a, T> {
    base: *mut T,
    len: usize,
    each: usize,
    storage: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `Planes`.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// With this many numbers for each item.
    pub fn new(data: &'a mut [T], each: usize) -> Chunks<'a, T> {
        Chunks {
            base: data.as_mut_ptr(),
            len: data.len(),
            each,
            storage: PhantomData,
        }
    }
}

// SAFETY: items have different ranges of the slice.
unsafe impl<'a, T: Send> Cut for Chunks<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, item: usize) -> &'a mut [T] {
        assert!((item + 1) * self.each <= self.len);
        // SAFETY: inside the slice, and this item's own.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(item * self.each), self.each) }
    }
}

// SAFETY: as of what is in it.
unsafe impl<C: Cut> Cut for Option<C> {
    type Part = Option<C::Part>;

    unsafe fn part(&self, item: usize) -> Option<C::Part> {
        // SAFETY: the caller's.
        self.as_ref().map(|cut| unsafe { cut.part(item) })
    }
}

// SAFETY: as of each of them.
unsafe impl<A: Cut, B: Cut> Cut for (A, B) {
    type Part = (A::Part, B::Part);

    unsafe fn part(&self, item: usize) -> Self::Part {
        // SAFETY: the caller's.
        unsafe { (self.0.part(item), self.1.part(item)) }
    }
}

// SAFETY: as of each of them.
unsafe impl<A: Cut, B: Cut, C: Cut> Cut for (A, B, C) {
    type Part = (A::Part, B::Part, C::Part);

    unsafe fn part(&self, item: usize) -> Self::Part {
        // SAFETY: the caller's.
        unsafe { (self.0.part(item), self.1.part(item), self.2.part(item)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_of_interleaved_heads_are_their_own_rows() {
        let (mut data, mut sums) = ((0..16).collect::<Vec<i32>>(), [0; 4]);
        // Storage [batch 2, seq 2, heads 2, dim 2].
        let view = ViewMut::new(&mut data, [2, 2, 2, 2]).unwrap().swap(1, 2).unwrap();
        let cut = (Planes::new(view, 1), Chunks::new(&mut sums, 1), None::<Chunks<'_, i32>>);
        each_part(4, cut, &mut Vec::<()>::new(), |i, (mut planes, sum, none), ()| {
            assert!(none.is_none());
            sum[0] = planes.row_mut(0, 0).iter().sum();
            planes.row_mut(0, 1)[0] = -(i as i32);
        });
        assert_eq!(sums, [1, 2 + 3, 8 + 9, 10 + 11]);
        assert_eq!((data[4], data[6], data[12], data[14]), (0, -1, -2, -3));
        assert_eq!((data[5], data[7], data[13], data[15]), (5, 7, 13, 15));
    }
}
