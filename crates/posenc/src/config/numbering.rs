//! How a model numbers its tokens.

use crate::error::{Error, Result};
use crate::positions::Positions;
use serde::Serialize;

/// How a model numbers its tokens. Numbers count from 0 here; what a class adds to them is the offset of its table.
///
/// Where a class gives padding a number too, and so a row of its table, padding has no position here: it adds nothing. Attention masks it out in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Numbering {
    /// By order, padding included: [`Positions::range`]. A token behind padding on the left has another number than without it, unless the caller gives ids.
    #[default]
    Order,
    /// Tokens that the attention mask names: [`Positions::from_attention_mask`] (OPT, BLOOM).
    Mask,
    /// Tokens whose id is not this one: [`Positions::from_padding`] (RoBERTa and fairseq's line).
    NotPadding {
        /// The padding token's id.
        id: usize,
    },
    /// Leading tokens, then the cells of a picture, row by row, all by order: [`Positions::range`]. A table for another grid is [`resize_grid`](crate::embed::resize_grid)'s.
    Grid {
        /// Cells along the height (of all frames together).
        height: usize,
        /// Cells along the width.
        width: usize,
        /// Tokens before the cells that have rows of their own.
        leading: usize,
    },
    /// Pixels on two axes: [`pixel_positions`](crate::embed::pixel_positions), normalised to a turn as DETR's are.
    Pixels,
    /// Cells on two axes, behind leading tokens without a position: [`Positions::grid`] and [`Positions::after_unplaced`].
    Cells {
        /// Tokens before the cells.
        leading: usize,
    },
}

impl Numbering {
    /// The positions of a batch of text, `[batch, seq]`, from what a class is given.
    ///
    /// # Errors
    /// Ids or a mask that do not split into `batch` rows of the same length, a mask that is neither 0 nor 1, or a numbering of pictures.
    ///
    /// ```
    /// use posenc::{Positions, config::Numbering};
    /// let ids = [0, 57, 2, 1, 1]; // two tokens of padding, whose id is 1
    /// let at = Numbering::NotPadding { id: 1 }.of_text(&ids, &[1, 1, 1, 0, 0], 1)?;
    /// assert_eq!((at.get(0, 0, 2), at.get(0, 0, 3)), (Some(2.0), None));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn of_text(self, input_ids: &[i64], attention_mask: &[i64], batch: usize) -> Result<Positions> {
        if input_ids.len() != attention_mask.len() {
            return Err(Error::Shape {
                what: "attention_mask [batch, seq]",
                expected: vec![input_ids.len()],
                given: vec![attention_mask.len()],
            });
        }
        match self {
            Numbering::Order => {
                let shaped = Positions::from_attention_mask(attention_mask, batch)?;
                Ok(Positions::absent(shaped.len()))
            }
            Numbering::Mask => Positions::from_attention_mask(attention_mask, batch),
            Numbering::NotPadding { id } => {
                let is_token: Vec<bool> = input_ids.iter().map(|token| i64::try_from(id).ok() != Some(*token)).collect();
                Positions::from_padding(&is_token, batch)
            }
            Numbering::Grid { .. } | Numbering::Pixels | Numbering::Cells { .. } => Err(Error::Unsupported {
                method: "numbering",
                what: "pictures are numbered by their cells, not by token ids",
            }),
        }
    }
}
