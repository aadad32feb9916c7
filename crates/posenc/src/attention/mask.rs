//! Which pairs may attend. Masks compare the order of tokens, never their position ids.

use crate::error::{Error, Result};
use crate::real::Real;
use crate::view::View;

/// A boolean mask whose `true` blocks a pair (PyTorch's convention). `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
#[derive(Clone, Copy, Debug)]
pub struct Blocked<'a>(pub View<'a, bool, 4>);

/// A boolean mask whose `true` lets a pair attend (ONNX's convention, and most others'). `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
#[derive(Clone, Copy, Debug)]
pub struct Attends<'a>(pub View<'a, bool, 4>);

/// Which pairs may attend: any number of conditions, all of which must hold.
///
/// A blocked pair has weight 0, and 0 times a number that is not finite is NaN: what is masked (padding, an unused part of a cache) must hold finite numbers.
///
/// ```
/// use posenc::{Blocked, Mask, View};
/// let padding = [false, false, true]; // the last key is padding
/// let mask: Mask<f32> = Mask::none().causal(0).blocked(Blocked(View::new(&padding, [1, 1, 1, 3])?));
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "attn_mask")]
#[doc(alias = "key_padding_mask")]
pub struct Mask<'a, R = f32> {
    causal: Option<usize>,
    parts: Vec<Part<'a, R>>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a, R> {
    /// `true` blocks.
    Blocked(View<'a, bool, 4>),
    /// `true` attends.
    Attends(View<'a, bool, 4>),
    /// Added to the scores, after the biases.
    Additive(View<'a, R, 4>),
}

impl<R> Default for Mask<'_, R> {
    fn default() -> Self {
        Mask {
            causal: None,
            parts: Vec::new(),
        }
    }
}

impl<'a, R: Real> Mask<'a, R> {
    /// Every pair attends.
    pub fn none() -> Self {
        Mask::default()
    }

    /// A query attends to itself and what came before. `first_query` is the order of the first query among the keys: 0 for a whole sequence, the
    /// number of cached keys when decoding.
    #[doc(alias = "is_causal")]
    pub fn causal(self, first_query: usize) -> Self {
        Mask {
            causal: Some(first_query),
            ..self
        }
    }

    /// Pairs where the mask is true are blocked.
    pub fn blocked(mut self, mask: Blocked<'a>) -> Self {
        self.parts.push(Part::Blocked(mask.0));
        self
    }

    /// Pairs where the mask is false are blocked.
    pub fn attends(mut self, mask: Attends<'a>) -> Self {
        self.parts.push(Part::Attends(mask.0));
        self
    }

    /// Added to the scores; −∞ blocks a pair. `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
    pub fn additive(mut self, mask: View<'a, R, 4>) -> Self {
        self.parts.push(Part::Additive(mask));
        self
    }

    /// The order of the first query among the keys, if the mask is causal.
    pub fn first_query(&self) -> Option<usize> {
        self.causal
    }

    /// The mask with every part repeated to the shape of the scores.
    pub(crate) fn resolve(&self, shape: [usize; 4], window: Option<usize>) -> Result<ResolvedMask<'a, R>> {
        let [_, _, q_len, k_len] = shape;
        if let Some(first) = self.causal
            && first.checked_add(q_len).is_none()
        {
            return Err(Error::Invalid {
                what: "first query of a causal mask",
                given: first.to_string(),
                expected: "the number of keys before it",
            });
        }
        let mut parts = Vec::new();
        for part in &self.parts {
            const WHAT: &str = "mask [batch, heads, q_len, k_len]";
            parts.push(match *part {
                Part::Blocked(view) => Part::Blocked(view.broadcast(WHAT, shape)?),
                Part::Attends(view) => Part::Attends(view.broadcast(WHAT, shape)?),
                Part::Additive(view) => Part::Additive(view.broadcast(WHAT, shape)?),
            });
        }
        Ok(ResolvedMask {
            causal: self.causal,
            window,
            parts,
            k_len,
        })
    }
}

/// A mask that fits the scores.
#[derive(Debug)]
pub(crate) struct ResolvedMask<'a, R> {
    causal: Option<usize>,
    window: Option<usize>,
    parts: Vec<Part<'a, R>>,
    k_len: usize,
}

impl<R: Real> ResolvedMask<'_, R> {
    /// The keys that query `i` can see by order alone.
    #[inline]
    pub fn visible(&self, i: usize) -> std::ops::Range<usize> {
        let order = i + self.causal.unwrap_or(0);
        let start = self.window.map_or(0, |w| (order + 1).saturating_sub(w));
        let end = match (self.causal, self.window) {
            (Some(_), _) => order.saturating_add(1),
            (None, Some(w)) => order.saturating_add(w),
            (None, None) => self.k_len,
        };
        start.min(self.k_len)..end.min(self.k_len)
    }

    /// Writes −∞ where one row of scores is blocked: query `i`, keys from `k0`.
    #[inline]
    pub fn block(&self, batch: usize, head: usize, i: usize, k0: usize, s: &mut [R]) {
        let visible = self.visible(i);
        let n = s.len();
        let start = visible.start.clamp(k0, k0 + n) - k0;
        let end = visible.end.clamp(k0 + start, k0 + n) - k0;
        s[..start].fill(R::NEG_INFINITY);
        s[end..].fill(R::NEG_INFINITY);
        for part in &self.parts {
            match part {
                Part::Blocked(view) => block(s, &view.row([batch, head, i, 0])[k0..k0 + n], true),
                Part::Attends(view) => block(s, &view.row([batch, head, i, 0])[k0..k0 + n], false),
                Part::Additive(_) => {}
            }
        }
    }

    /// Adds the additive masks to one row of scores: query `i`, keys from `k0`.
    #[inline]
    pub fn add(&self, batch: usize, head: usize, i: usize, k0: usize, s: &mut [R]) {
        for part in &self.parts {
            if let Part::Additive(view) = part {
                let mask = &view.row([batch, head, i, 0])[k0..k0 + s.len()];
                s.iter_mut().zip(mask).for_each(|(s, m)| *s += *m);
            }
        }
    }
}

fn block<R: Real>(s: &mut [R], mask: &[bool], blocks: bool) {
    for (s, m) in s.iter_mut().zip(mask) {
        if *m == blocks {
            *s = R::NEG_INFINITY;
        }
    }
}
