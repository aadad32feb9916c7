//! Keys that were turned, cached, and then met by a change: of their positions, or of the frequencies, because the scaling looks at how long the sequence has become.
//!
//! Dynamic NTK and LongRoPE turn by other frequencies once a sequence is longer than the model was trained on. What that means for keys cached before is where
//! implementations differ (huggingface/transformers#25104, #33129; vllm-project/vllm#3488), so it is said here: [`LengthPolicy`] is part of the encoding,
//! [`Rotary::crossing`] reports the change, and [`Rotary::rerotation`] undoes the old rotation and applies the new one.

use crate::error::Result;
use crate::positions::Positions;
use crate::real::Real;
use crate::rotate::{Rotary, Rotation, Scaling, Side};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which length a scaling looks at: dynamic NTK and LongRoPE. All others look at none, and nothing changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthPolicy {
    /// That of the call: its largest position in any row of the batch, and one, as in transformers. One long row changes the others, and frequencies change as a
    /// sequence grows: a cache of turned keys must be turned anew or recomputed at each [`Crossing`]. transformers does not do so under dynamic NTK (its old keys keep their old
    /// rotation), and its frequencies remember the longest call until one is within the trained length; here each call stands alone.
    #[default]
    PerCall,
    /// This one, decided once, whatever a call's: no frequency ever changes, so decoding step by step is the whole pass. vLLM's way: the longest sequence that it serves for
    /// LongRoPE (`max_model_len`), trained length times factor for dynamic NTK. Short sequences then turn by the long frequencies too, and differ from transformers'.
    Fixed(usize),
}

impl LengthPolicy {
    /// The length to look at in a call of `length` tokens.
    pub fn resolve(self, length: usize) -> usize {
        match self {
            LengthPolicy::PerCall => length,
            LengthPolicy::Fixed(fixed) => fixed,
        }
    }

    pub(crate) fn is_per_call(&self) -> bool {
        *self == LengthPolicy::PerCall
    }
}

/// A sequence has grown, or shrunk, to where its scaling turns by other frequencies than before.
///
/// Keys that were cached after their rotation no longer fit the queries that come. Either recompute the cache, which is what a whole pass gives; or turn the keys anew
/// ([`Rotary::rerotation`]), which is exact in the first layer and leaves what deeper layers saw through the old frequencies as it was; or avoid it, by [`LengthPolicy::Fixed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Tokens that the model was trained on.
    pub original_len: usize,
    /// Tokens before.
    pub old_len: usize,
    /// Tokens now.
    pub new_len: usize,
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Crossing {
            original_len,
            old_len,
            new_len,
        } = self;
        write!(
            f,
            "from {old_len} to {new_len} tokens, trained on {original_len}: frequencies change, and keys turned before must be recomputed or turned anew"
        )
    }
}

impl Rotary {
    /// The same where a scaling looks at this length in every call, as [`LengthPolicy::Fixed`]: what a call of `length` tokens turned by.
    ///
    /// ```
    /// use posenc::rotate::{LengthPolicy, Scaling};
    /// use posenc::{Pairing, Rotary};
    /// let per_call = Rotary::new(Pairing::Halves).with_scaling(Scaling::Dynamic { factor: 2.0, original_len: 4096 });
    /// let vllm = per_call.clone().at_length(2 * 4096);
    /// assert_eq!(vllm.length, LengthPolicy::Fixed(8192));
    /// assert_eq!(vllm.frequencies(64, 100)?, per_call.frequencies(64, 8192)?);
    /// assert_eq!(vllm.to_string(), "rotary(halves, base 10000, dynamic NTK ×2 past 4096, as for 8192 tokens)");
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn at_length(self, length: usize) -> Rotary {
        Rotary {
            length: LengthPolicy::Fixed(length),
            ..self
        }
    }

    /// Its frequencies are not those of every call.
    pub(crate) fn looks_at_calls(&self) -> bool {
        self.length.is_per_call() && self.scaling.depends_on_length()
    }

    /// Whether a sequence of `old_len` tokens turns by other frequencies once it has `new_len`; never where the length is fixed or not looked at.
    ///
    /// ```
    /// use posenc::rotate::Scaling;
    /// use posenc::{Pairing, Rotary};
    /// let dynamic = Rotary::new(Pairing::Halves).with_scaling(Scaling::Dynamic { factor: 2.0, original_len: 4096 });
    /// assert!(dynamic.crossing(100, 4096).is_none());
    /// assert!(dynamic.crossing(4096, 4097).is_some() && dynamic.crossing(4097, 4098).is_some()); // at every token from here on
    /// assert!(dynamic.at_length(8192).crossing(4096, 4097).is_none());
    /// ```
    #[doc(alias = "dynamic_rope_update")]
    pub fn crossing(&self, old_len: usize, new_len: usize) -> Option<Crossing> {
        if !self.length.is_per_call() {
            return None;
        }
        let (original_len, crossed) = match &self.scaling {
            Scaling::Dynamic { original_len, .. } => (*original_len, old_len.max(*original_len) != new_len.max(*original_len)),
            Scaling::Longrope(long_rope) => {
                let original_len = long_rope.original_len;
                (original_len, (old_len > original_len) != (new_len > original_len))
            }
            _ => return None,
        };
        crossed.then_some(Crossing {
            original_len,
            old_len,
            new_len,
        })
    }

    /// What turns keys that this rotary has turned at `from` into keys as `new` would have turned them at `to`: for shifting a cache (a window with sinks, a cut in the middle) with `new` the
    /// same, and after a [`Crossing`] with `self` and `new` at the old and the new length ([`Rotary::at_length`]). Its error is that of
    /// [`Rotation::moving`].
    ///
    /// A rotation by the difference of positions is not the same: its table factor would count twice, and in [`Precision::Reference`](crate::Precision) the angles that were rounded are not those
    /// of the difference.
    ///
    /// # Errors
    /// As [`Rotary::rotation`] of either, and as [`Rotation::moving`].
    ///
    /// ```
    /// use posenc::{Pairing, Positions, Rotary, Turn, ViewMut};
    /// let rotary = Rotary::new(Pairing::Halves);
    /// // A cache of tokens 0 (the sink) and 5..8 loses token 5: 6 and 7 move up.
    /// let (from, to) = (Positions::whole(&[0, 6, 7]), Positions::whole(&[0, 1, 2]));
    /// let mut keys = [0.5f32; 3 * 8]; // [batch 1, heads 1, seq 3, head_dim 8], turned at `from`
    /// rotary.rotation(8, &from)?.apply(Turn::Forward, ViewMut::new(&mut keys, [1, 1, 3, 8])?)?;
    /// rotary.rerotation(8, &from, &rotary, &to)?.apply(Turn::Forward, ViewMut::new(&mut keys, [1, 1, 3, 8])?)?;
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "rotate_by")]
    #[doc(alias = "kv_shift")]
    pub fn rerotation<R: Real>(&self, head_dim: usize, from: &Positions, new: &Rotary, to: &Positions) -> Result<Rotation<R>> {
        Rotation::moving(
            &self.rotation_of::<f64>(Side::Key, head_dim, from)?,
            &new.rotation_of::<f64>(Side::Key, head_dim, to)?,
        )
    }
}

#[cfg(test)]
mod tests;
