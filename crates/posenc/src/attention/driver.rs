//! What attention is given and gives back, checked once, and how its work is split.

use super::tile::{Pass, Scratch, Tiles, ask, zeros};
use super::{Attention, Mask};
use crate::call::Call;
use crate::dropout::Mode;
use crate::error::{Error, Result};
use crate::kernels::{ByHeads, ByLength, HeadsMut, RowSum, share, threads};
use crate::real::{Element, Real};
use crate::term::Granularity;
use crate::view::{View, ViewMut};

/// Queries, keys and values after their projections, before any rotation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Inputs<'a, T> {
    /// `[batch, heads, q_len, head_dim]`.
    pub q: View<'a, T, 4>,
    /// `[batch, kv_heads, k_len, head_dim]`.
    pub k: View<'a, T, 4>,
    /// `[batch, kv_heads, k_len, value_dim]`.
    pub v: View<'a, T, 4>,
    /// `[heads]`, if [`Attention::sinks`].
    pub sinks: Option<&'a [T]>,
}

impl<'a, T> Inputs<'a, T> {
    /// Queries `[batch, heads, q_len, head_dim]`, keys `[batch, kv_heads, k_len, head_dim]`, values `[batch, kv_heads, k_len, value_dim]`.
    pub fn new(q: View<'a, T, 4>, k: View<'a, T, 4>, v: View<'a, T, 4>) -> Inputs<'a, T> {
        Inputs { q, k, v, sinks: None }
    }

    /// The same with a logit per query head that takes part in the softmax and has no value: `pⱼ = exp(sⱼ) / (exp(sink) + Σ exp(sₗ))`. It is neither
    /// scaled nor soft-capped, and no mask blocks it. Its gradient is [`Slots::sinks`].
    pub fn with_sinks(self, sinks: &'a [T]) -> Inputs<'a, T> {
        Inputs {
            sinks: Some(sinks),
            ..self
        }
    }
}

/// What a forward pass writes.
#[derive(Debug)]
pub struct Outputs<'a, T: Element> {
    /// `[batch, heads, q_len, value_dim]`; a row that attends to nothing is zeros.
    pub out: ViewMut<'a, T, 4>,
    /// What the adjoint needs besides the inputs and `out`; `None` for inference.
    pub saved: Option<&'a mut Saved<T::Real>>,
    /// The weights themselves after dropout, `[batch, heads, q_len, k_len]`, for those who need them.
    #[doc(alias = "need_weights")]
    pub weights: Option<ViewMut<'a, T, 4>>,
}

/// What a forward pass keeps for its adjoint: each row's largest score and the inverse of its softmax sum.
///
/// Not the logarithm of the sum: beside a score of −1e9, which finite masks produce, ln n is lost in f32, and every weight with it.
#[derive(Clone, Debug, Default)]
pub struct Saved<R> {
    /// `[batch, heads, q_len]`.
    pub(super) rows: Vec<RowSum<R>>,
}

impl<R: Real> Saved<R> {
    /// Logarithm of each row's Σ exp(score), `[batch, heads, q_len]`: −∞ where a row attends to nothing.
    pub fn log_sum_exp(&self) -> impl Iterator<Item = R> + '_ {
        self.rows.iter().map(|row| {
            if row.inverse > R::ZERO {
                row.max - row.inverse.ln()
            } else {
                R::NEG_INFINITY
            }
        })
    }
}

/// Where the gradients of queries, keys and values are written.
#[derive(Debug)]
pub struct Grads<'a, T> {
    /// `[batch, heads, q_len, head_dim]`.
    pub dq: ViewMut<'a, T, 4>,
    /// `[batch, kv_heads, k_len, head_dim]`.
    pub dk: ViewMut<'a, T, 4>,
    /// `[batch, kv_heads, k_len, value_dim]`.
    pub dv: ViewMut<'a, T, 4>,
}

/// The gradients of the terms' parameters, per term and head, as the terms lay them out. [`Call::adjoint`] brings them home.
#[derive(Clone, Debug, Default)]
pub struct Slots<R> {
    pub(super) terms: Vec<Vec<R>>,
    pub(super) sinks: Vec<R>,
}

impl<R> Slots<R> {
    /// `[heads, slots]` of a term: content terms come first, then biases, in the order of the call.
    ///
    /// # Panics
    /// If there is no such term, or no adjoint has run.
    pub fn term(&self, index: usize) -> &[R] {
        &self.terms[index]
    }

    /// The gradients of the sinks, `[heads]`; empty where attention has none.
    pub fn sinks(&self) -> &[R] {
        &self.sinks
    }

    /// Numbers of each term.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.terms.iter().map(Vec::len).collect()
    }
}

/// Scratch memory, kept by the caller from call to call: packed rows and one tile of scores, O(T·d) per thread. It grows, before anything is written, to what a call needs, and a call that needs no more than
/// the ones before it allocates nothing.
#[derive(Debug)]
pub struct Workspace<R> {
    scratch: Vec<Scratch<R>>,
    /// Each item's own sums of slots and sinks, of an adjoint.
    partial: Vec<R>,
    /// Keys before the first chunk of each batch row.
    chunks: Vec<usize>,
}

impl<R> Default for Workspace<R> {
    fn default() -> Self {
        Workspace {
            scratch: Vec::new(),
            partial: Vec::new(),
            chunks: Vec::new(),
        }
    }
}

impl<R: Real> Workspace<R> {
    /// Memory for a call, one scratch for each thread that shares its items.
    fn reserve<'s>(scratch: &'s mut Vec<Scratch<R>>, tiles: &Tiles<'_, '_, '_, R>, adjoint: bool) -> Result<&'s mut [Scratch<R>]> {
        let threads = threads(tiles.items());
        if scratch.len() < threads {
            scratch.resize_with(threads, Scratch::default);
        }
        let scratch = &mut scratch[..threads];
        scratch.iter_mut().try_for_each(|scratch| tiles.reserve(scratch, adjoint))?;
        Ok(scratch)
    }
}

/// The lengths of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub q_len: usize,
    pub k_len: usize,
    pub head_dim: usize,
    pub value_dim: usize,
}

impl Shape {
    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// One item of work: some key heads of one batch row, with their query heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub batch: usize,
    pub kv0: usize,
    pub kv_heads: usize,
    pub head0: usize,
    pub heads: usize,
}

impl Attention {
    /// `out = softmax(scale·qkᵀ + terms, masked) · v`, with what the call's encoding does to it on the way. Queries and keys are rotated while they are
    /// packed; the inputs are not changed.
    ///
    /// # Errors
    /// A shape that does not fit the call or the others, or a setting out of range.
    ///
    /// ```
    /// use posenc::attention::{Inputs, Outputs, Workspace};
    /// use posenc::{Alibi, Attention, Dims, Encoding, Mask, Mode, Positions, View, ViewMut};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims::new(8, 2)?)?;
    /// let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
    /// let call = plan.call(&params, &at, &at)?;
    /// let x = vec![0.5f32; 2 * 3 * 4]; // [batch 1, heads 2, seq 3, head_dim 4]
    /// let view = View::new(&x, [1, 2, 3, 4])?;
    /// let mut out = vec![f32::NAN; x.len()];
    /// Attention::default().forward(
    ///     &call,
    ///     Inputs::new(view, view, view),
    ///     &Mask::none().causal(0),
    ///     Mode::Evaluate,
    ///     Outputs { out: ViewMut::new(&mut out, [1, 2, 3, 4])?, saved: None, weights: None },
    ///     &mut Workspace::default(),
    /// )?;
    /// assert!(out.iter().all(|o| (o - 0.5).abs() < 1e-6)); // equal values, whatever the weights
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn forward<T: Element>(
        &self,
        call: &Call<'_, T::Real>,
        inputs: Inputs<'_, T>,
        mask: &Mask<'_, T::Real>,
        mode: Mode,
        outputs: Outputs<'_, T>,
        work: &mut Workspace<T::Real>,
    ) -> Result<()> {
        let shape = self.check_shapes(call, &inputs)?;
        let out = outputs.out.shaped(
            "out [batch, heads, q_len, value_dim]",
            [shape.batch, shape.heads, shape.q_len, shape.value_dim],
        )?;
        let weights = match outputs.weights {
            Some(w) => Some(w.shaped(
                "weights [batch, heads, q_len, k_len]",
                [shape.batch, shape.heads, shape.q_len, shape.k_len],
            )?),
            None => None,
        };
        let Workspace { scratch, chunks, .. } = work;
        let pass = match (&weights, &outputs.saved) {
            (Some(_), _) => Pass::WithWeights,
            (None, Some(_)) => Pass::Training,
            (None, None) => Pass::Inference,
        };
        let tiles = Tiles::new(self, call, shape, mask, mode, pass, chunks)?;
        if out.is_empty() {
            // There is no row to be written, and beside an axis of no length the others may be of any.
            if let Some(saved) = outputs.saved {
                saved.rows.clear();
            }
            return Ok(());
        }
        let scratch = Workspace::reserve(scratch, &tiles, false)?;
        let [_, heads] = tiles.item_heads();
        let sums = match outputs.saved {
            Some(saved) => {
                ask(&mut saved.rows, [shape.batch, shape.heads, shape.q_len])?;
                saved.rows.clear();
                saved.rows.resize(shape.batch * shape.heads * shape.q_len, RowSum::default());
                Some(ByLength::new(&mut saved.rows, heads * shape.q_len))
            }
            None => None,
        };
        let parts = (ByHeads::new(out, heads), sums, weights.map(|weights| ByHeads::new(weights, heads)));
        share(tiles.items(), parts, scratch, |i, (out, sums, weights), scratch| {
            let item = tiles.item(i);
            tiles.forward(&inputs, &mut ForwardJob { item, out, sums, weights }, scratch);
        });
        Ok(())
    }

    /// The adjoint of [`Attention::forward`] with the same call, inputs, mask and mode: writes the gradients of queries, keys and values, and the slots of
    /// the terms' parameters. `out` is what the forward pass wrote, `d_out` its gradient, both `[batch, heads, q_len, value_dim]`.
    ///
    /// # Errors
    /// As [`Attention::forward`], or `saved` of another shape.
    pub fn adjoint<T: Element>(
        &self,
        call: &Call<'_, T::Real>,
        inputs: Inputs<'_, T>,
        mask: &Mask<'_, T::Real>,
        mode: Mode,
        out: View<'_, T, 4>,
        d_out: View<'_, T, 4>,
        saved: &Saved<T::Real>,
        grads: Grads<'_, T>,
        slots: &mut Slots<T::Real>,
        work: &mut Workspace<T::Real>,
    ) -> Result<()> {
        let shape = self.check_shapes(call, &inputs)?;
        let out_shape = [shape.batch, shape.heads, shape.q_len, shape.value_dim];
        let out = out.shaped("out [batch, heads, q_len, value_dim]", out_shape)?;
        let d_out = d_out.shaped("d_out [batch, heads, q_len, value_dim]", out_shape)?;
        let rows = shape.heads.checked_mul(shape.q_len).and_then(|rows| rows.checked_mul(shape.batch));
        if rows != Some(saved.rows.len()) && !(out.is_empty() && saved.rows.is_empty()) {
            return Err(Error::Shape {
                what: "saved [batch, heads, q_len]",
                expected: vec![shape.batch, shape.heads, shape.q_len],
                given: vec![saved.rows.len()],
            });
        }
        let dq = grads.dq.shaped("dq [batch, heads, q_len, head_dim]", inputs.q.shape())?;
        let dk = grads.dk.shaped("dk [batch, kv_heads, k_len, head_dim]", inputs.k.shape())?;
        let dv = grads.dv.shaped("dv [batch, kv_heads, k_len, value_dim]", inputs.v.shape())?;
        let Workspace { scratch, partial, chunks } = work;
        let tiles = Tiles::new(self, call, shape, mask, mode, Pass::Training, chunks)?;
        // Each item sums its own slots: [heads of the item, slots] per term, term after term, then its sinks.
        let sizes = || call.terms().map(|term| term.needs().slots);
        let sinks = usize::from(self.sinks);
        let per_head = sizes().fold(sinks, usize::saturating_add);
        let mut all = 0;
        if !(dq.is_empty() && dk.is_empty()) {
            all = tiles.items();
            ask(partial, [shape.batch, shape.heads, per_head])?;
        }
        let scratch = if all > 0 {
            Workspace::reserve(scratch, &tiles, true)?
        } else {
            &mut []
        };
        slots.terms.resize_with(sizes().count(), Vec::new);
        for (term, size) in slots.terms.iter_mut().zip(sizes()) {
            ask(term, [shape.heads, size, 1])?;
        }
        for (term, size) in slots.terms.iter_mut().zip(sizes()) {
            zeros(term, shape.heads * size);
        }
        zeros(&mut slots.sinks, shape.heads * sinks);
        if all == 0 {
            return Ok(());
        }

        let [kv_heads, heads] = tiles.item_heads();
        let of_item = heads * per_head;
        zeros(partial, all * of_item);
        let parts = (
            ByHeads::new(dq, heads),
            ByHeads::new(dk, kv_heads),
            ByHeads::new(dv, kv_heads),
            ByLength::new(partial, of_item),
        );
        share(all, parts, scratch, |i, (dq, dk, dv, sums), scratch| {
            let (item, (slots, sinks)) = (tiles.item(i), sums.split_at_mut(heads * (per_head - sinks)));
            let mut job = AdjointJob {
                item,
                dq,
                dk,
                dv,
                slots,
                sinks,
            };
            tiles.adjoint(&inputs, out, d_out, &saved.rows, &mut job, scratch);
        });

        for i in 0..all {
            let (item, mut from) = (tiles.item(i), i * of_item);
            let terms = slots.terms.iter_mut().zip(sizes());
            for (sums, size) in terms.chain([(&mut slots.sinks, sinks)]) {
                let into = &mut sums[item.head0 * size..][..item.heads * size];
                into.iter_mut().zip(&partial[from..]).for_each(|(sum, part)| *sum += *part);
                from += item.heads * size;
            }
        }
        Ok(())
    }

    /// Every shape fits the call and the others.
    fn check_shapes<T: Element>(&self, call: &Call<'_, T::Real>, inputs: &Inputs<'_, T>) -> Result<Shape> {
        self.check()?;
        call.check_tables()?;
        for (what, value) in [("scale", self.scale), ("softcap", self.softcap)] {
            if let Some(value) = value.filter(|x| !(T::Real::of(*x) > T::Real::ZERO && T::Real::of(*x).is_finite())) {
                let expected = "a positive number in the precision of the arithmetic";
                return Err(Error::Invalid {
                    what,
                    given: value.to_string(),
                    expected,
                });
            }
        }
        let dims = call.dims();
        let [batch, _, q_len, _] = inputs.q.shape();
        let [_, _, k_len, _] = inputs.k.shape();
        let [_, _, _, value_dim] = inputs.v.shape();
        inputs
            .q
            .shaped("q [batch, heads, q_len, head_dim]", [batch, dims.heads, q_len, dims.head_dim])?;
        inputs
            .k
            .shaped("k [batch, kv_heads, k_len, head_dim]", [batch, dims.kv_heads, k_len, dims.head_dim])?;
        inputs
            .v
            .shaped("v [batch, kv_heads, k_len, value_dim]", [batch, dims.kv_heads, k_len, value_dim])?;
        if value_dim == 0 {
            return Err(Error::Zero { what: "value_dim" });
        }
        let (expected, given) = (if self.sinks { dims.heads } else { 0 }, inputs.sinks.map_or(0, <[T]>::len));
        if expected != given {
            return Err(Error::Shape {
                what: "sinks [heads], with Attention::sinks and only then",
                expected: vec![expected],
                given: vec![given],
            });
        }
        call.q_at().check_fit("query positions [batch, seq]", batch, q_len)?;
        call.k_at().check_fit("key positions [batch, seq]", batch, k_len)?;
        if self.temperature.is_some() && call.q_at().axes() != 1 {
            return Err(Error::Unsupported {
                method: "attention",
                what: "the queries' positions have several axes; a temperature reads one",
            });
        }
        // Its own tables are in head space, so its part of a value is as wide as a head.
        if value_dim != dims.head_dim && call.terms().any(|t| t.needs().values) {
            return Err(Error::Shape {
                what: "v [batch, kv_heads, k_len, value_dim] with an encoding that adds to the values",
                expected: vec![batch, dims.kv_heads, k_len, dims.head_dim],
                given: inputs.v.shape().to_vec(),
            });
        }
        if call.rotations().len() > 1 {
            return Err(Error::Unsupported {
                method: "attention",
                what: "this call has several rotations; one is supported",
            });
        }
        if call
            .terms()
            .any(|t| t.needs().values && t.needs().granularity == Granularity::AllHeads)
        {
            return Err(Error::Unsupported {
                method: "attention",
                what: "a term that mixes all heads cannot also add to the values",
            });
        }
        Ok(Shape {
            batch,
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            q_len,
            k_len,
            head_dim: dims.head_dim,
            value_dim,
        })
    }
}

/// One item's part of a forward pass.
pub(super) struct ForwardJob<'a, T: Element> {
    pub item: Item,
    pub out: HeadsMut<'a, T>,
    pub sums: Option<&'a mut [RowSum<T::Real>]>,
    pub weights: Option<HeadsMut<'a, T>>,
}

/// One item's part of an adjoint.
pub(super) struct AdjointJob<'a, T: Element> {
    pub item: Item,
    pub dq: HeadsMut<'a, T>,
    pub dk: HeadsMut<'a, T>,
    pub dv: HeadsMut<'a, T>,
    pub slots: &'a mut [T::Real],
    /// `[heads of the item]`, or empty.
    pub sinks: &'a mut [T::Real],
}
