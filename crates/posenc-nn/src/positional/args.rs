//! What a call of positional attention may be told besides its streams: positions, masks, whether weights are wanted.

use crate::error::Result;
use crate::number::Number;
use crate::shape::size;
use posenc::{Blocked, Error, Mask, Positions, View};

/// Which pairs may attend, or what is added to their scores, with the shape that the numbers have.
#[derive(Clone, Copy, Debug)]
pub enum AttnMask<'a, R> {
    /// `true` blocks a pair (PyTorch's convention).
    Blocked(&'a [bool], &'a [usize]),
    /// Added to the scores; −∞ blocks a pair.
    Additive(&'a [R], &'a [usize]),
}

/// The optional arguments of [`PositionalMultiheadAttention::forward`](crate::PositionalMultiheadAttention::forward); none by default. Additive masks are in the precision of the arithmetic: f32 for
/// a module that is stored in f16 or bf16.
#[derive(Clone, Debug)]
pub struct PositionalArgs<'a, R> {
    /// Positions of the queries, `(q_len,)` or `(batch, q_len)`; `0..q_len` if absent. A decoded token needs its own: absent, it stands at 0.
    pub q_positions: Option<Positions>,
    /// Positions of the keys, `(k_len,)` or `(batch, k_len)`; `0..k_len` if absent.
    pub k_positions: Option<Positions>,
    /// True where a query has a position, `(q_len,)` or `(batch, q_len)`. A token without one takes part in attention, but the encoding leaves it
    /// alone and its id is not read.
    pub q_position_mask: Option<&'a [bool]>,
    /// True where a key has a position, `(k_len,)` or `(batch, k_len)`.
    pub k_position_mask: Option<&'a [bool]>,
    /// `[q_len, k_len]`, `[batch·heads, q_len, k_len]` with the heads of the first batch row first, or `[batch, heads, q_len, k_len]` where batch and heads
    /// may be 1. `[batch, q_len, k_len]` is refused, because nothing tells it from a mask per head: write `[batch, 1, q_len, k_len]`.
    pub attn_mask: Option<AttnMask<'a, R>>,
    /// Padding among the keys, `[batch, k_len]`.
    pub key_padding_mask: Option<AttnMask<'a, R>>,
    /// Whether the weights are wanted; they cost a second pass.
    pub need_weights: bool,
    /// Whether those weights are averaged over the heads; true by default.
    pub average_attn_weights: bool,
    /// A query attends to itself and what came before it, by order. The number is the order of the first query among the keys: 0 for a whole sequence
    /// (also where `q_len` and `k_len` differ), the number of cached keys when decoding.
    #[doc(alias = "is_causal")]
    pub causal: Option<usize>,
}

impl<R> Default for PositionalArgs<'_, R> {
    fn default() -> Self {
        PositionalArgs {
            q_positions: None,
            k_positions: None,
            q_position_mask: None,
            k_position_mask: None,
            attn_mask: None,
            key_padding_mask: None,
            need_weights: false,
            average_attn_weights: true,
            causal: None,
        }
    }
}

/// The positions of a stream: absent ones counted from 0, those under a mask taken away.
pub(crate) fn positions(
    [what, what_mask]: [&'static str; 2],
    at: Option<&Positions>,
    mask: Option<&[bool]>,
    [batch, len]: [usize; 2],
) -> Result<Positions> {
    let at = at.cloned().unwrap_or_else(|| Positions::absent(len));
    if at.len() != len || ![1, batch].contains(&at.batch()) {
        return Err(Error::Shape {
            what,
            expected: vec![batch, len],
            given: vec![at.batch(), at.len()],
        }
        .into());
    }
    let Some(mask) = mask else { return Ok(at) };
    if mask.len() != len {
        size(what_mask, mask.len(), &[batch, len])?;
    }
    // A token that had no position before the mask still has none.
    let rows = at.batch().max(if mask.len() == len { 1 } else { batch });
    let flags: Vec<bool> = (0..rows)
        .flat_map(|b| (0..len).map(move |t| (b, t)))
        .map(|(b, t)| mask[(b * len + t) % mask.len()] && at.get(0, b, t).is_some())
        .collect();
    Ok(at.with_presence_rows(&flags, rows)?)
}

impl<R: Number> PositionalArgs<'_, R> {
    /// Everything that blocks a pair or adds to its score.
    pub(crate) fn mask(&self, shape: [usize; 4]) -> Result<Mask<'_, R>> {
        let mut mask = Mask::none();
        if let Some(first_query) = self.causal {
            mask = mask.causal(first_query);
        }
        join_masks(mask, self.attn_mask, self.key_padding_mask, shape)
    }
}

/// A mask with an attention mask and a key padding mask for scores of `[batch, heads, q_len, k_len]`.
pub(super) fn join_masks<'a, R: Number>(
    mut mask: Mask<'a, R>,
    attn_mask: Option<AttnMask<'a, R>>,
    key_padding_mask: Option<AttnMask<'a, R>>,
    [batch, heads, q_len, k_len]: [usize; 4],
) -> Result<Mask<'a, R>> {
    if let Some(given) = attn_mask {
        let shape = match *given.shape() {
            [q, k] if [q, k] == [q_len, k_len] => [1, 1, q, k],
            [rows, q, k] if [rows, q, k] == [batch * heads, q_len, k_len] => [batch, heads, q, k],
            [b, h, q, k] if [q, k] == [q_len, k_len] && [1, batch].contains(&b) && [1, heads].contains(&h) => [b, h, q, k],
            _ => {
                return Err(Error::Shape {
                    what: "attn_mask [q_len, k_len], [batch·heads, q_len, k_len] or [batch, heads, q_len, k_len]",
                    expected: vec![batch, heads, q_len, k_len],
                    given: given.shape().to_vec(),
                }
                .into());
            }
        };
        mask = given.join(mask, shape)?;
    }
    if let Some(given) = key_padding_mask {
        if given.shape() != [batch, k_len] {
            return Err(Error::Shape {
                what: "key_padding_mask [batch, k_len]",
                expected: vec![batch, k_len],
                given: given.shape().to_vec(),
            }
            .into());
        }
        mask = given.join(mask, [batch, 1, 1, k_len])?;
    }
    Ok(mask)
}

impl<'a, R: Number> AttnMask<'a, R> {
    fn shape(&self) -> &'a [usize] {
        match self {
            AttnMask::Blocked(_, shape) | AttnMask::Additive(_, shape) => shape,
        }
    }

    fn join(self, mask: Mask<'a, R>, shape: [usize; 4]) -> Result<Mask<'a, R>> {
        Ok(match self {
            AttnMask::Blocked(data, _) => mask.blocked(Blocked(View::new(data, shape)?)),
            AttnMask::Additive(data, _) => mask.additive(View::new(data, shape)?),
        })
    }
}
