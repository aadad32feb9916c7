//! Positions from lengths, ids, masks and grids.

use super::{Ids, Positions, check_axes, rows_of};
use crate::error::{Error, Result};
use crate::memory;
use crate::real::{Element, Real};
use std::ops::Range;

impl Positions {
    /// Consecutive positions, the same for each row of the batch: `0..n` for a whole sequence, `past..past + 1` for one decoded token.
    ///
    /// ```
    /// use posenc::Positions;
    /// assert_eq!(Positions::range(7..9).get(0, 0, 1), Some(8.0));
    /// ```
    pub fn range(ids: Range<i64>) -> Positions {
        let len = ids.end.saturating_sub(ids.start).max(0) as usize;
        Positions {
            ids: Ids::Range(ids.start),
            batch: 1,
            len,
            axes: 1,
            present: None,
        }
    }

    /// What a model does when it is given no positions: `0..len`.
    #[doc(alias = "arange")]
    pub fn absent(len: usize) -> Positions {
        Positions::range(0..i64::try_from(len).unwrap_or(i64::MAX))
    }

    /// Whole-number positions `(T,)`, the same for each row of the batch; any order, repeats and negative ones allowed.
    pub fn whole(ids: &[i64]) -> Positions {
        Positions {
            ids: Ids::Whole(ids.into()),
            batch: 1,
            len: ids.len(),
            axes: 1,
            present: None,
        }
    }

    /// Whole-number positions `(B, T)`, row-major.
    ///
    /// # Errors
    /// `ids` does not split into `batch` rows.
    pub fn whole_rows(ids: &[i64], batch: usize) -> Result<Positions> {
        let [batch, len] = rows_of("positions [batch, seq]", ids.len(), batch)?;
        Ok(Positions {
            ids: Ids::Whole(ids.into()),
            batch,
            len,
            axes: 1,
            present: None,
        })
    }

    /// Whole-number positions `(axes, B, T)`, row-major: M-RoPE's ids as transformers lays them out, or a grid's.
    ///
    /// # Errors
    /// No axis, or `ids` does not split into axes and rows.
    pub fn whole_axes(ids: &[i64], axes: usize, batch: usize) -> Result<Positions> {
        let [batch, len] = axis_rows(ids.len(), axes, batch)?;
        Ok(Positions {
            ids: Ids::Whole(ids.into()),
            batch,
            len,
            axes,
            present: None,
        })
    }

    /// Positions `(T,)` that may be fractional, for methods whose maths allows it (sinusoidal, rotary, ALiBi).
    ///
    /// # Errors
    /// NaN or infinity.
    pub fn real(ids: &[f64]) -> Result<Positions> {
        Positions::real_rows(ids, 1)
    }

    /// Positions `(B, T)` that may be fractional, row-major.
    ///
    /// # Errors
    /// NaN or infinity, or `ids` does not split into `batch` rows.
    pub fn real_rows(ids: &[f64], batch: usize) -> Result<Positions> {
        Positions::real_axes(ids, 1, batch)
    }

    /// Positions `(axes, B, T)` that may be fractional, row-major: the coordinates of a grid on each of its axes.
    ///
    /// # Errors
    /// NaN or infinity, no axis, or `ids` does not split into axes and rows.
    ///
    /// ```
    /// use posenc::Positions;
    /// let corners = Positions::real_axes(&[0.0, 0.0, 1.0, 1.0, /* widths: */ 0.0, 0.5, 0.0, 0.5], 2, 1)?;
    /// assert_eq!((corners.axes(), corners.len(), corners.get(1, 0, 3)), (2, 4, Some(0.5)));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn real_axes(ids: &[f64], axes: usize, batch: usize) -> Result<Positions> {
        let [batch, len] = axis_rows(ids.len(), axes, batch)?;
        if let Some((index, &value)) = ids.iter().enumerate().find(|(_, id)| !id.is_finite()) {
            return Err(Error::NonFinite { value, index });
        }
        Ok(Positions {
            ids: Ids::Real(ids.into()),
            batch,
            len,
            axes,
            present: None,
        })
    }

    /// Ids `(B, T)` that arrive as floats but mean whole numbers (document 001): each must be integral and small enough that its type still
    /// counts by one (2²⁴ in `f32`, 2⁵³ in `f64`).
    ///
    /// # Errors
    /// NaN, infinity, a fraction, or a magnitude beyond [`Element::EXACT_INTEGERS`].
    ///
    /// ```
    /// use posenc::{Error, Positions};
    /// assert_eq!(Positions::strict(&[0.0f32, 2.0], 1)?, Positions::whole(&[0, 2]));
    /// assert!(matches!(Positions::strict(&[1.5f32], 1), Err(Error::Fractional { index: 0, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn strict<T: Element>(ids: &[T], batch: usize) -> Result<Positions> {
        let mut whole = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let value = id.widen().to_f64();
            if !value.is_finite() {
                return Err(Error::NonFinite { value, index });
            }
            if value.fract() != 0.0 {
                return Err(Error::Fractional { value, index });
            }
            if value.abs() > T::EXACT_INTEGERS {
                return Err(Error::Imprecise {
                    value,
                    index,
                    limit: T::EXACT_INTEGERS,
                });
            }
            whole.push(value as i64);
        }
        Positions::whole_rows(&whole, batch)
    }

    /// Ids `(B, T)` that arrive as floats, truncated toward zero as PyTorch's `.long()` does: 2.9999998 becomes 2, −0.5 becomes 0.
    ///
    /// # Errors
    /// NaN, infinity or a magnitude past `i64`, where PyTorch's result is undefined.
    pub fn truncated<T: Element>(ids: &[T], batch: usize) -> Result<Positions> {
        let mut whole = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let value = id.widen().to_f64();
            if !value.is_finite() {
                return Err(Error::NonFinite { value, index });
            }
            if value.abs() >= 9_223_372_036_854_775_808.0 {
                return Err(Error::Imprecise {
                    value,
                    index,
                    limit: T::EXACT_INTEGERS,
                });
            }
            whole.push(value as i64);
        }
        Positions::whole_rows(&whole, batch)
    }

    /// Documents packed into one row: each begins at 0 again. The mask that keeps them apart is the caller's.
    pub fn packed(lengths: &[usize]) -> Positions {
        let len = lengths.iter().fold(0usize, |sum, &len| sum.saturating_add(len));
        if len > Positions::LONGEST || memory::check::<[i64; 2]>("tokens of packed documents", &[len]).is_err() {
            return Positions::too_long(len, 1);
        }
        Positions::whole(&lengths.iter().flat_map(|&len| 0..len as i64).collect::<Vec<_>>())
    }

    /// Positions `(B, T)` from a padding mask that is true where there is a token: each row counts its tokens from 0, and padding has no position.
    /// Left and right padding give a token the position that it has without padding.
    ///
    /// transformers computes the same `cumsum(mask) - 1` and then gives padding the position 0 (before version 5, 1), which is also a token's; there, padding is kept out by the
    /// attention mask alone. Here it is turned by nothing, adds nothing, and reads no row of a table. The attention mask is the caller's as ever.
    ///
    /// ```
    /// use posenc::Positions;
    /// let at = Positions::from_padding(&[false, true, true, /* second row: */ true, true, false], 2)?;
    /// assert_eq!((at.get(0, 0, 0), at.get(0, 0, 1), at.get(0, 1, 1)), (None, Some(0.0), Some(1.0)));
    /// // A step of generation: the mask has grown by one token, whose position is the last.
    /// let step = Positions::from_padding(&[false, true, true, true], 1)?.select(&[3])?;
    /// assert_eq!(step.get(0, 0, 0), Some(2.0));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// `is_token` does not split into `batch` rows.
    #[doc(alias = "cumsum")]
    pub fn from_padding(is_token: &[bool], batch: usize) -> Result<Positions> {
        let [rows, len] = rows_of("is_token [batch, seq]", is_token.len(), batch)?;
        let mut ids = Vec::with_capacity(is_token.len());
        for row in 0..rows {
            let mut seen = 0;
            for &token in &is_token[row * len..(row + 1) * len] {
                ids.push(if token { seen } else { 0 });
                seen += i64::from(token);
            }
        }
        Positions::whole_rows(&ids, batch)?.with_presence_rows(is_token, batch)
    }

    /// The same from a mask of numbers, 1 where there is a token and 0 where there is padding: transformers' `attention_mask`.
    ///
    /// # Errors
    /// A number that is neither (some trainers number packed documents there: [`Documents`](super::Documents) places those), or numbers that do not split into `batch` rows.
    ///
    /// ```
    /// use posenc::Positions;
    /// assert_eq!(Positions::from_attention_mask(&[0, 1, 1], 1)?, Positions::from_padding(&[false, true, true], 1)?);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "attention_mask")]
    pub fn from_attention_mask(attention_mask: &[i64], batch: usize) -> Result<Positions> {
        if let Some(index) = attention_mask.iter().position(|flag| ![0, 1].contains(flag)) {
            return Err(Error::Invalid {
                what: "attention_mask",
                given: format!("{} at index {index}", attention_mask[index]),
                expected: "1 where there is a token, 0 where there is padding",
            });
        }
        let is_token: Vec<bool> = attention_mask.iter().map(|flag| *flag == 1).collect();
        Positions::from_padding(&is_token, batch)
    }

    /// The cells of an image in row-major order: axis 0 is the row (height), axis 1 the column (width).
    pub fn grid(height: usize, width: usize) -> Positions {
        let cells = height.saturating_mul(width);
        // As many cells as memory cannot hold are too many too. (Twice: as they are collected.)
        if cells > Positions::LONGEST || memory::check::<[i64; 4]>("cells of a grid", &[cells]).is_err() {
            return Positions::too_long(cells, 2);
        }
        let rows = (0..cells).map(|cell| (cell / width.max(1)) as i64);
        let columns = (0..cells).map(|cell| (cell % width.max(1)) as i64);
        Positions {
            ids: Ids::Whole(rows.chain(columns).collect()),
            batch: 1,
            len: cells,
            axes: 2,
            present: None,
        }
    }

    /// More tokens than any call takes, or than memory holds: a length to be refused, without storage.
    pub(super) fn too_long(len: usize, axes: usize) -> Positions {
        Positions {
            axes,
            ..Positions::absent(len.max(Positions::LONGEST + 1))
        }
    }
}

/// Rows that differ and tokens of each, where `size` ids are `[axes, batch, seq]`.
fn axis_rows(size: usize, axes: usize, batch: usize) -> Result<[usize; 2]> {
    check_axes(axes)?;
    if axes == 0 {
        return Err(Error::Zero { what: "axes" });
    }
    if !size.is_multiple_of(axes) {
        return Err(Error::NotDivisible {
            what: "positions [axes, batch, seq]",
            value: size,
            by: "axes",
            divisor: axes,
        });
    }
    rows_of("positions [batch, seq]", size / axes, batch)
}
