//! Borrowed tensors: a slice, a shape and strides. The last axis is contiguous.
//!
//! `[batch, heads, seq, head_dim]` is the order in which the library names axes. Storage may order them otherwise: a `[batch, seq, heads, head_dim]` tensor is
//! [`View::new`] followed by [`View::swap`]`(1, 2)`, and a part of a fused projection is [`View::strided`]. The same kernels serve all of them.

use crate::error::{Error, Result};
use std::ops::Range;

/// A read-only tensor. A stride of 0 repeats an axis (broadcast).
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T, const N: usize> {
    data: &'a [T],
    shape: [usize; N],
    strides: [usize; N],
}

/// A tensor to be written. No two of its elements share memory; this is checked when it is made.
#[derive(Debug)]
pub struct ViewMut<'a, T, const N: usize> {
    data: &'a mut [T],
    shape: [usize; N],
    strides: [usize; N],
}

/// Row-major strides of a shape; `None` if its size overflows. An empty tensor has size 0, however long its other axes are.
fn contiguous<const N: usize>(shape: [usize; N]) -> Option<([usize; N], usize)> {
    let mut strides = [0; N];
    let mut size = 1usize;
    let empty = shape.contains(&0);
    for axis in (0..N).rev() {
        strides[axis] = size;
        size = match size.checked_mul(shape[axis]) {
            // No element is that far.
            None if empty => 0,
            size => size?,
        };
    }
    Some((strides, if empty { 0 } else { size }))
}

/// One past the largest index that a shape with strides reaches; `None` if it overflows. An empty tensor reaches nothing.
fn reach<const N: usize>(shape: [usize; N], strides: [usize; N]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = 0usize;
    for axis in 0..N {
        last = last.checked_add((shape[axis] - 1).checked_mul(strides[axis])?)?;
    }
    last.checked_add(1)
}

/// The strides, if the storage holds all that they reach. An empty tensor reaches nothing, whatever its strides: it gets those of a tensor without gaps, so that each of its
/// (empty) rows begins inside the storage.
fn check<const N: usize>(len: usize, shape: [usize; N], strides: [usize; N]) -> Result<[usize; N]> {
    if shape[N - 1] > 1 && strides[N - 1] != 1 {
        return Err(Error::LastAxisStrided { stride: strides[N - 1] });
    }
    match reach(shape, strides) {
        Some(_) if shape.contains(&0) => Ok(contiguous(shape).map_or([0; N], |(strides, _)| strides)),
        Some(needed) if needed <= len => Ok(strides),
        needed => Err(Error::Storage {
            needed: needed.unwrap_or(usize::MAX),
            given: len,
        }),
    }
}

/// Two axes can be swapped.
fn check_swap<const N: usize>(a: usize, b: usize, strides: &[usize; N]) -> Result<()> {
    if let Some(axis) = [a, b].into_iter().find(|axis| *axis >= N) {
        return Err(Error::Invalid {
            what: "axis",
            given: axis.to_string(),
            expected: "one of the tensor's axes, numbered from 0",
        });
    }
    if a != b && a.max(b) == N - 1 {
        return Err(Error::LastAxisStrided { stride: strides[a.min(b)] });
    }
    Ok(())
}

impl<'a, T, const N: usize> View<'a, T, N> {
    /// A row-major tensor of the whole slice, which must have exactly its size.
    pub fn new(data: &'a [T], shape: [usize; N]) -> Result<Self> {
        match contiguous(shape) {
            Some((strides, size)) if size == data.len() => Ok(View { data, shape, strides }),
            size => Err(Error::Storage {
                needed: size.map_or(usize::MAX, |(_, s)| s),
                given: data.len(),
            }),
        }
    }

    /// A tensor with strides in elements. The last axis has stride 1 (or at most one element); a stride of 0 broadcasts.
    pub fn strided(data: &'a [T], shape: [usize; N], strides: [usize; N]) -> Result<Self> {
        let strides = check(data.len(), shape, strides)?;
        Ok(View { data, shape, strides })
    }

    /// Lengths of the axes.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// An axis has no length, so there is no element; the others may then be of any length.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The same tensor with two axes, neither of them the last, in each other's place.
    ///
    /// # Errors
    /// The last axis, or one that the tensor does not have.
    pub fn swap(mut self, a: usize, b: usize) -> Result<Self> {
        check_swap(a, b, &self.strides)?;
        self.shape.swap(a, b);
        self.strides.swap(a, b);
        Ok(self)
    }

    /// The row at the leading indices `at` (the last entry is not used and should be 0).
    ///
    /// # Panics
    /// If an index is past its axis.
    #[inline]
    pub fn row(&self, at: [usize; N]) -> &'a [T] {
        let start = offset(at, self.shape, self.strides);
        &self.data[start..start + self.shape[N - 1]]
    }

    /// Storage, shape and strides.
    pub(crate) fn into_parts(self) -> (&'a [T], [usize; N], [usize; N]) {
        (self.data, self.shape, self.strides)
    }

    /// All elements as one slice, if nothing lies between them.
    pub fn as_slice(&self) -> Option<&'a [T]> {
        match contiguous(self.shape) {
            Some((strides, size)) if strides == self.strides => Some(&self.data[..size]),
            _ => None,
        }
    }

    /// The view itself if it has the expected shape; `what` names it in the error.
    pub fn shaped(self, what: &'static str, expected: [usize; N]) -> Result<Self> {
        if self.shape == expected {
            Ok(self)
        } else {
            Err(Error::Shape {
                what,
                expected: expected.to_vec(),
                given: self.shape.to_vec(),
            })
        }
    }

    /// Axes of length 1 repeated to `shape`.
    pub fn broadcast(mut self, what: &'static str, shape: [usize; N]) -> Result<Self> {
        // The last axis must stay contiguous, so only the others can repeat.
        for axis in 0..N {
            if self.shape[axis] == shape[axis] {
                continue;
            }
            if self.shape[axis] != 1 || axis + 1 == N {
                return Err(Error::Shape {
                    what,
                    expected: shape.to_vec(),
                    given: self.shape.to_vec(),
                });
            }
            self.shape[axis] = shape[axis];
            self.strides[axis] = 0;
        }
        Ok(self)
    }
}

#[inline(always)]
fn offset<const N: usize>(at: [usize; N], shape: [usize; N], strides: [usize; N]) -> usize {
    let mut start = 0;
    for axis in 0..N - 1 {
        assert!(at[axis] < shape[axis], "index {at:?} is outside shape {shape:?}");
        start += at[axis] * strides[axis];
    }
    start
}

impl<'a, T, const N: usize> ViewMut<'a, T, N> {
    /// A row-major tensor of the whole slice, which must have exactly its size.
    pub fn new(data: &'a mut [T], shape: [usize; N]) -> Result<Self> {
        match contiguous(shape) {
            Some((strides, size)) if size == data.len() => Ok(ViewMut { data, shape, strides }),
            size => Err(Error::Storage {
                needed: size.map_or(usize::MAX, |(_, s)| s),
                given: data.len(),
            }),
        }
    }

    /// A tensor with strides in elements; an error if two elements would share memory.
    pub fn strided(data: &'a mut [T], shape: [usize; N], strides: [usize; N]) -> Result<Self> {
        let strides = check(data.len(), shape, strides)?;
        if shape.contains(&0) {
            return Ok(ViewMut { data, shape, strides });
        }
        // Sorted by stride, each axis must step over all that the smaller ones reach.
        let mut order: [usize; N] = std::array::from_fn(|axis| axis);
        order.sort_by_key(|&axis| strides[axis]);
        let mut reached = 1usize;
        for axis in order {
            if shape[axis] > 1 {
                if strides[axis] < reached {
                    return Err(Error::Overlap {
                        shape: shape.to_vec(),
                        strides: strides.to_vec(),
                    });
                }
                reached += (shape[axis] - 1) * strides[axis];
            }
        }
        Ok(ViewMut { data, shape, strides })
    }

    /// Lengths of the axes.
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// An axis has no length, so there is no element; the others may then be of any length.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The same tensor with two axes, neither of them the last, in each other's place.
    ///
    /// # Errors
    /// The last axis, or one that the tensor does not have.
    pub fn swap(mut self, a: usize, b: usize) -> Result<Self> {
        check_swap(a, b, &self.strides)?;
        self.shape.swap(a, b);
        self.strides.swap(a, b);
        Ok(self)
    }

    /// The row at the leading indices `at` (the last entry is not used and should be 0).
    ///
    /// # Panics
    /// If an index is past its axis.
    #[inline]
    pub fn row_mut(&mut self, at: [usize; N]) -> &mut [T] {
        let start = offset(at, self.shape, self.strides);
        &mut self.data[start..start + self.shape[N - 1]]
    }

    /// The same tensor, to be read.
    pub fn as_view(&self) -> View<'_, T, N> {
        View {
            data: self.data,
            shape: self.shape,
            strides: self.strides,
        }
    }

    /// The same tensor, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, T, N> {
        ViewMut {
            data: self.data,
            shape: self.shape,
            strides: self.strides,
        }
    }

    /// The view itself if it has the expected shape.
    pub fn shaped(self, what: &'static str, expected: [usize; N]) -> Result<Self> {
        if self.shape == expected {
            Ok(self)
        } else {
            Err(Error::Shape {
                what,
                expected: expected.to_vec(),
                given: self.shape.to_vec(),
            })
        }
    }

    /// All elements as one slice, if nothing lies between them.
    pub(crate) fn as_mut_slice(&mut self) -> Option<&mut [T]> {
        match contiguous(self.shape) {
            Some((strides, size)) if strides == self.strides => Some(&mut self.data[..size]),
            _ => None,
        }
    }

    /// Storage, shape and strides: what the kernels share between threads.
    pub(crate) fn into_parts(self) -> (&'a mut [T], [usize; N], [usize; N]) {
        (self.data, self.shape, self.strides)
    }
}

impl<'a, T> View<'a, T, 3> {
    /// `[batch, seq, width]` as `[batch, 1, seq, width]`: rows of one head.
    pub(crate) fn with_one_head(self) -> View<'a, T, 4> {
        let ([a, b, c], [x, y, z]) = (self.shape, self.strides);
        View {
            data: self.data,
            shape: [a, 1, b, c],
            strides: [x, 0, y, z],
        }
    }

    /// Some of the columns of every row.
    ///
    /// # Panics
    /// If they are not all there.
    pub(crate) fn columns(self, columns: Range<usize>) -> View<'a, T, 3> {
        let [a, b, width] = self.shape;
        assert!(columns.start <= columns.end && columns.end <= width);
        View {
            // Of an empty tensor there may be no storage to skip.
            data: if self.shape.contains(&0) {
                self.data
            } else {
                &self.data[columns.start..]
            },
            shape: [a, b, columns.len()],
            ..self
        }
    }
}

impl<'a, T> ViewMut<'a, T, 3> {
    /// As [`View::with_one_head`].
    pub(crate) fn with_one_head(self) -> ViewMut<'a, T, 4> {
        let ([a, b, c], [x, y, z]) = (self.shape, self.strides);
        ViewMut {
            data: self.data,
            shape: [a, 1, b, c],
            strides: [x, 0, y, z],
        }
    }

    /// The same tensor as the only row of a batch.
    pub(crate) fn with_batch(self) -> ViewMut<'a, T, 4> {
        let ([a, b, c], [x, y, z]) = (self.shape, self.strides);
        ViewMut {
            data: self.data,
            shape: [1, a, b, c],
            strides: [a.saturating_mul(x), x, y, z],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_a_fused_projection_are_a_view() {
        // [batch 1, seq 2, 3 · (heads 2 · head_dim 2)]: the keys begin at 4.
        let qkv: Vec<i32> = (0..24).collect();
        let keys = View::strided(&qkv[4..], [1, 2, 2, 2], [24, 2, 12, 1]).unwrap();
        assert_eq!(keys.row([0, 1, 1, 0]), &[18, 19]);
    }

    #[test]
    fn swapping_reads_the_other_layout() {
        let data: Vec<i32> = (0..12).collect();
        let bshd = View::new(&data, [1, 3, 2, 2]).unwrap();
        assert_eq!(bshd.swap(1, 2).unwrap().row([0, 1, 2, 0]), &[10, 11]);
        assert!(matches!(bshd.swap(2, 3), Err(Error::LastAxisStrided { .. })));
    }

    #[test]
    fn overlap_strided_last_axis_and_short_storage_are_refused() {
        let mut data = vec![0; 12];
        assert!(matches!(ViewMut::strided(&mut data, [3, 4], [2, 1]), Err(Error::Overlap { .. })));
        assert!(matches!(ViewMut::strided(&mut data, [2, 4], [0, 1]), Err(Error::Overlap { .. })));
        assert!(matches!(
            View::strided(&data, [3, 4], [4, 2]),
            Err(Error::LastAxisStrided { stride: 2 })
        ));
        assert!(matches!(
            View::strided(&data, [4, 4], [4, 1]),
            Err(Error::Storage { needed: 16, given: 12 })
        ));
        assert!(matches!(
            View::strided(&data, [usize::MAX, 4], [usize::MAX, 1]),
            Err(Error::Storage { .. })
        ));
        assert!(View::strided(&data, [7, 4], [0, 1]).is_ok(), "a read-only view may repeat");
        assert!(View::<i32, 2>::new(&[], [0, 4]).is_ok());
    }

    #[test]
    fn empty_tensors_have_empty_rows_whatever_their_strides() {
        assert!(ViewMut::<i32, 3>::strided(&mut [], [0, 5, 1], [1, usize::MAX, 1]).is_ok());
        let empty = View::<i32, 3>::strided(&[], [2, 3, 0], [100, 10, 1]).unwrap();
        assert_eq!(empty.row([1, 2, 0]), &[0; 0]);
        let mut data = [7; 4];
        let mut empty = ViewMut::strided(&mut data, [2, 3, 0], [usize::MAX, 10, 1]).unwrap();
        assert!(empty.row_mut([1, 2, 0]).is_empty());
        assert_eq!(empty.as_mut_slice(), Some(&mut [][..]));
    }

    #[test]
    fn axes_that_are_not_there_cannot_be_swapped() {
        let mut data = [1, 2];
        for (a, b) in [(7, 8), (7, 7), (0, 3), (usize::MAX, 0)] {
            let view = View::new(&data, [1, 1, 2]).unwrap();
            assert!(matches!(view.swap(a, b), Err(Error::Invalid { what: "axis", .. })));
            let view = ViewMut::new(&mut data, [1, 1, 2]).unwrap();
            assert!(matches!(view.swap(a, b), Err(Error::Invalid { what: "axis", .. })));
        }
        assert!(View::new(&data, [1, 1, 2]).unwrap().swap(2, 2).is_ok());
    }

    #[test]
    fn broadcast_repeats_axes_of_length_one() {
        let data = [1, 2, 3];
        let view = View::new(&data, [1, 1, 1, 3]).unwrap().broadcast("mask", [2, 4, 5, 3]).unwrap();
        assert_eq!(view.row([1, 3, 4, 0]), &[1, 2, 3]);
        assert!(View::new(&data, [3, 1, 1, 1]).unwrap().broadcast("mask", [2, 1, 1, 1]).is_err());
    }
}
