//! Decoding with a cache of keys and values.

use super::args::{AttnMask, join_masks, positions};
use super::{PositionalMultiheadAttention, PositionalOutput};
use crate::attention::{AttentionTrace, KvCache};
use crate::error::Result;
use crate::number::Number;
use crate::shape::{rows, size};
use crate::storage::Storage;
use posenc::{Error, Mask, Method, Mode, Params, Positions, Real};

/// The optional arguments of [`PositionalMultiheadAttention::decode`] and of its two halves; none by default.
#[derive(Clone, Debug)]
pub struct DecodeArgs<'a, R> {
    /// Positions of the new tokens, `(n,)` or `(batch, n)`. Absent, each row goes on where it stands: the first new token of row b is at `cache.lens()[b]`.
    pub positions: Option<Positions>,
    /// True where a new token has a position, `(n,)` or `(batch, n)`.
    pub position_mask: Option<&'a [bool]>,
    /// How many of the n new tokens each row has, `[batch]`; the rest, at the end, is padding: it is not kept, has no
    /// position, and its output and weights are zeros.
    pub lengths: Option<&'a [usize]>,
    /// As [`PositionalArgs::attn_mask`](super::PositionalArgs::attn_mask), over all keys that the cache then has.
    pub attn_mask: Option<AttnMask<'a, R>>,
    /// As [`PositionalArgs::key_padding_mask`](super::PositionalArgs::key_padding_mask), over all keys that the cache then has.
    pub key_padding_mask: Option<AttnMask<'a, R>>,
    /// Whether the weights are wanted.
    pub need_weights: bool,
    /// Whether those weights are averaged over the heads; true by default.
    pub average_attn_weights: bool,
    /// A token attends to itself and what came before it in its row. Left open, it does in [`PositionalMultiheadAttention::decode`], where keys and queries are of one
    /// sequence, and does not in [`PositionalMultiheadAttention::recall`], whose cache may hold another.
    pub causal: Option<bool>,
}

impl<R> Default for DecodeArgs<'_, R> {
    fn default() -> Self {
        DecodeArgs {
            positions: None,
            position_mask: None,
            lengths: None,
            attn_mask: None,
            key_padding_mask: None,
            need_weights: false,
            average_attn_weights: true,
            causal: None,
        }
    }
}

impl PositionalMultiheadAttention {
    /// An empty cache for `batch` sequences.
    ///
    /// # Errors
    /// An encoding whose vectors depend on how many tokens a call has: no sequence of single steps gives what the whole gives. A rotary scaling whose length is
    /// [`Fixed`](posenc::rotate::LengthPolicy::Fixed) is not one; for one that looks at each call there is [`PositionalMultiheadAttention::cache_per_call`].
    pub fn cache<R: Number>(&self, batch: usize) -> Result<KvCache<R>> {
        if self.plan.depends_on_length().is_some() {
            return Err(Error::Unsupported {
                method: "decoding",
                what: "what this encoding does to a token depends on how many a call has (Overflow::Interpolate, dynamic NTK, LongRoPE), so single steps do not \
                       give what the whole gives; use Overflow::InterpolateTo, a scaling whose length is fixed (Rotary::at_length), or ask for cache_per_call",
            }
            .into());
        }
        Ok(KvCache::new(self.attn.dims, batch))
    }

    /// An empty cache also for rotary scalings that look at the length of each call ([`PerCall`](posenc::rotate::LengthPolicy::PerCall): dynamic NTK, LongRoPE), where steps are not the
    /// whole, asked for by name.
    ///
    /// What a step then is: keys are cached before their rotation, so each step turns all of them by the frequencies of the length reached, of the longest row. Its output is the last row
    /// of a whole pass over what has been read so far. The rows of one pass over everything, which all turn by the final length, are others; and so are transformers' steps, whose
    /// cached keys keep the rotation of the call that read them. In a stack of layers, what deeper layers have cached was computed by the frequencies of its own step:
    /// [`Rotary::crossing`](posenc::Rotary::crossing) says when a cache should be computed anew.
    ///
    /// # Errors
    /// A table that is stretched over a call ([`Overflow::Interpolate`](posenc::Overflow)): its vectors are inside the cached keys, where no later step can change them.
    pub fn cache_per_call<R: Number>(&self, batch: usize) -> Result<KvCache<R>> {
        let mut unrotated = self.plan.encoding().clone();
        unrotated.methods.retain(|method| !matches!(method, Method::Rotary(_)));
        if unrotated.plan(self.plan.dims())?.depends_on_length().is_some() {
            return Err(Error::Unsupported {
                method: "decoding",
                what: "a table that is stretched over a call is part of the keys that a cache holds, and cannot be stretched again; use Overflow::InterpolateTo",
            }
            .into());
        }
        Ok(KvCache::new(self.attn.dims, batch))
    }

    /// Reads the next n tokens of each row, `x` `[batch, n, embed_dim]`: appends their keys and values to the cache and attends over all of it. A whole
    /// prompt at once (prefill) gives the same as its tokens one by one. On an error the cache is as it was.
    ///
    /// ```
    /// use posenc::{Mode, Params};
    /// use posenc_nn::{AttentionTrace, DecodeArgs, PositionalMultiheadAttention};
    /// let module = PositionalMultiheadAttention::rope(8, 2, 10_000.0)?;
    /// let params: Params<f32> = Params::init(&module.specs(), 1)?;
    /// let mut cache = module.cache(2)?;
    /// let (args, mut trace) = (DecodeArgs::default(), AttentionTrace::default());
    /// // Two prompts, of three tokens and of one.
    /// let prompt = DecodeArgs { lengths: Some(&[3, 1]), ..args.clone() };
    /// module.decode(&params, &[0.5; 2 * 3 * 8], &mut cache, &prompt, Mode::Evaluate, &mut trace)?;
    /// // Then a token each, at positions 3 and 1.
    /// let step = module.decode(&params, &[0.25; 2 * 8], &mut cache, &args, Mode::Evaluate, &mut trace)?;
    /// assert_eq!((step.out.len(), cache.lens()), (2 * 8, &[4, 2][..]));
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, a position that the encoding has no answer for, a parameter that is missing.
    pub fn decode<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        x: &[T],
        cache: &mut KvCache<T::Real>,
        args: &DecodeArgs<'_, T::Real>,
        mode: Mode,
        trace: &mut AttentionTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        self.tokens("x [batch, n, embed_dim]", x.len(), cache)?;
        let causal = DecodeArgs {
            causal: args.causal.or(Some(true)),
            ..args.clone()
        };
        let (before, positions) = (cache.lens().to_vec(), cache.positions().clone());
        let attended = self
            .remember(params, x, x, cache, args, trace)
            .and_then(|()| self.recall(params, x, cache, &causal, &before, mode, trace));
        if attended.is_err() {
            cache.rewind(before, positions);
        }
        attended
    }

    /// Appends keys and values, each `[batch, n, embed_dim]`, and attends to nothing: for cross-attention, whose memory is read once.
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::decode`].
    pub fn remember<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        key: &[T],
        value: &[T],
        cache: &mut KvCache<T::Real>,
        args: &DecodeArgs<'_, T::Real>,
        trace: &mut AttentionTrace<T::Real>,
    ) -> Result<()> {
        let (batch, n) = (cache.batch(), self.tokens("key [batch, n, embed_dim]", key.len(), cache)?);
        let taken = self.taken(args, batch, n)?;
        let at = new_positions(args, cache.lens(), &taken, n)?;
        let grown = cache.with(&at, &taken)?;
        let params = T::parameters(params, &self.specs())?;
        let call = self.call(&params, &at, &at)?;
        let (key, value) = (T::widened(key), T::widened(value));
        self.attn.remember(&params, &call, [&key, &value], &taken, grown, cache, trace)
    }

    /// Attention of `query` `[batch, n, embed_dim]` over a cache. `first` is the order of each row's first query among its keys, `[batch]`: the number of
    /// keys before it where queries are of the same sequence, anything where they are not: without [`DecodeArgs::causal`] it says only where windows lie. Positions that are absent begin there.
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::decode`]; an order so large that the queries after it cannot be counted.
    pub fn recall<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        query: &[T],
        cache: &KvCache<T::Real>,
        args: &DecodeArgs<'_, T::Real>,
        first: &[usize],
        mode: Mode,
        trace: &mut AttentionTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        let (batch, n) = (cache.batch(), self.tokens("query [batch, n, embed_dim]", query.len(), cache)?);
        size("orders of the first queries [batch]", first.len(), &[batch])?;
        let taken = self.taken(args, batch, n)?;
        let at = new_positions(args, first, &taken, n)?;
        let params = T::parameters(params, &self.specs())?;
        let call = self.step(&params, &at, cache.positions(), &mut trace.steps)?;
        let mask = Mask::none().after_rows(first);
        let mask = if args.causal == Some(true) { mask.causal_rows(first) } else { mask };
        let shape @ [_, _, _, k_len] = [batch, self.num_heads(), n, cache.k_len()];
        let mask = join_masks(mask, args.attn_mask, args.key_padding_mask, shape)?;
        let query = T::widened(query);
        self.weighed(
            [batch, n, k_len],
            args.need_weights,
            args.average_attn_weights,
            |out, mut weights| {
                let into = weights.as_deref_mut();
                self.attn.recall(&params, &call, &query, cache, &mask, mode, out, into, trace)?;
                // Padding at the end of a row, and of each of its heads.
                let clear = |x: &mut [T::Real], width: usize, of_batch: usize| {
                    for (row, x) in x.chunks_exact_mut((n * width).max(1)).enumerate() {
                        x[taken[row / of_batch] * width..].fill(T::Real::ZERO);
                    }
                };
                clear(out, self.embed_dim(), 1);
                if let Some(weights) = weights {
                    clear(weights, k_len, self.num_heads());
                }
                Ok(())
            },
        )
    }

    /// New tokens per row.
    fn tokens<R: Number>(&self, what: &'static str, len: usize, cache: &KvCache<R>) -> Result<usize> {
        if cache.batch() == 0 {
            return Err(Error::Zero { what: "batch" }.into());
        }
        if cache.dims() != self.attn.dims {
            return Err(Error::Unsupported {
                method: "decoding",
                what: "this cache was made for a module of other widths",
            }
            .into());
        }
        rows(what, len, "batch·embed_dim", cache.batch().saturating_mul(self.embed_dim()))
    }

    /// How many of its n new tokens each row has.
    fn taken<R>(&self, args: &DecodeArgs<'_, R>, batch: usize, n: usize) -> Result<Vec<usize>> {
        let Some(lengths) = args.lengths else { return Ok(vec![n; batch]) };
        size("lengths [batch]", lengths.len(), &[batch])?;
        if let Some(length) = lengths.iter().find(|length| **length > n) {
            return Err(Error::Invalid {
                what: "lengths [batch]",
                given: length.to_string(),
                expected: "at most as many tokens as were given",
            }
            .into());
        }
        Ok(lengths.to_vec())
    }
}

/// Where n new tokens of each row stand, of which row b has its first `taken[b]`. Padding has no position: it may lie past a table's end.
fn new_positions<R>(args: &DecodeArgs<'_, R>, first: &[usize], taken: &[usize], n: usize) -> Result<Positions> {
    let batch = first.len();
    let fits = |start: usize| start.checked_add(n).is_some_and(|end| i64::try_from(end).is_ok());
    if let Some(start) = first.iter().find(|start| !fits(**start)) {
        return Err(Error::Invalid {
            what: "orders of the first queries [batch]",
            given: start.to_string(),
            expected: "the number of keys before them",
        }
        .into());
    }
    let at = match &args.positions {
        Some(at) => at.clone(),
        None if first.iter().all(|start| *start == first[0]) => Positions::range(first[0] as i64..(first[0] + n) as i64),
        None => {
            let ids: Vec<i64> = first.iter().flat_map(|start| (*start as i64..).take(n)).collect();
            Positions::whole_rows(&ids, batch)?
        }
    };
    let names = ["positions [batch, n]", "position_mask [batch, n]"];
    let at = positions(names, Some(&at), args.position_mask, [batch, n])?;
    if taken.iter().all(|taken| *taken == n) {
        return Ok(at);
    }
    let read: Vec<bool> = taken.iter().flat_map(|taken| (0..n).map(move |t| t < *taken)).collect();
    positions(names, Some(&at), Some(&read), [batch, n])
}
