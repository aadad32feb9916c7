//! A mutable tensor cut into one part per batch row and head, so that threads can write their own.

use crate::view::ViewMut;
use std::marker::PhantomData;

/// The rows of one (batch row, head) of a tensor.
pub(crate) struct PlaneMut<'a, T> {
    start: *mut T,
    rows: usize,
    width: usize,
    stride: usize,
    storage: PhantomData<&'a mut [T]>,
}

// SAFETY: a plane is a unique borrow of its own elements (see `planes`), so it may move to another thread as `&mut [T]` may.
unsafe impl<T: Send> Send for PlaneMut<'_, T> {}

impl<T> PlaneMut<'_, T> {
    /// Row `i`.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: the row lies inside the tensor that was cut, and `&mut self` makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.stride), self.width) }
    }
}

/// The planes of `[batch, heads, rows, width]`, batch rows first. An empty tensor has planes without elements.
pub(crate) fn planes<T>(view: ViewMut<'_, T, 4>) -> Vec<PlaneMut<'_, T>> {
    let (data, [batch, heads, rows, width], strides) = view.into_parts();
    let empty = rows == 0 || width == 0;
    let len = data.len();
    // Taken once: each `as_mut_ptr` would borrow the whole slice again and end the planes before it.
    let base = data.as_mut_ptr();
    let mut planes = Vec::with_capacity(batch * heads);
    for b in 0..batch {
        for h in 0..heads {
            // Elements of a `ViewMut` share no memory, so neither do its planes; the offset is inside the slice unless nothing is.
            let offset = if empty { 0 } else { b * strides[0] + h * strides[1] };
            assert!(empty || offset + (rows - 1) * strides[2] + width <= len);
            // SAFETY: checked on the line above.
            let start = unsafe { base.add(offset) };
            planes.push(PlaneMut {
                start,
                rows,
                width,
                stride: if empty { 0 } else { strides[2] },
                storage: PhantomData,
            });
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_of_interleaved_heads_are_their_own_rows() {
        let mut data: Vec<i32> = (0..16).collect();
        // Storage [batch 2, seq 2, heads 2, dim 2].
        let view = ViewMut::new(&mut data, [2, 2, 2, 2]).unwrap().swap(1, 2).unwrap();
        let mut all = planes(view);
        assert_eq!(all[1].row_mut(1), &[6, 7]);
        assert_eq!(all[2].row_mut(0), &[8, 9]);
        all[3].row_mut(1)[0] = -1;
        drop(all);
        assert_eq!(data[14], -1);
    }
}
