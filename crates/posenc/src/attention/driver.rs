//! What attention is given and gives back, checked once, and how its work is split.

use super::tile::{Scratch, Tiles, zeros};
use super::{Attention, Mask};
use crate::call::Call;
use crate::dropout::Mode;
use crate::error::{Error, Result};
use crate::kernels::{Chunks, Planes, PlanesMut, RowSum, each_part};
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

/// Scratch memory, kept by the caller from call to call: packed rows and one tile of scores, O(T·d) per thread, and in an adjoint the slots of the terms for each batch row. With one that has
/// served a call of the same lengths attention allocates nothing but a list of the mask's parts, if it has any.
#[derive(Debug)]
pub struct Workspace<R> {
    scratch: Vec<Scratch<R>>,
    /// Slots of the terms and of the sinks, item by item.
    slots: Vec<R>,
    sinks: Vec<R>,
}

impl<R> Default for Workspace<R> {
    fn default() -> Self {
        Workspace {
            scratch: Vec::new(),
            slots: Vec::new(),
            sinks: Vec::new(),
        }
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
        let tiles = Tiles::new(self, call, shape, mask, mode, weights.is_some())?;
        let mut sums = outputs.saved.map(|saved| {
            saved.rows.clear();
            saved.rows.resize(shape.batch * shape.heads * shape.q_len, RowSum::default());
            saved.rows.as_mut_slice()
        });
        let heads = tiles.heads_of_item();
        let sums = sums.take().map(|rows| Chunks::new(rows, heads * shape.q_len));
        let cut = (Planes::new(out, heads), sums, weights.map(|w| Planes::new(w, heads)));
        each_part(tiles.items(), cut, &mut work.scratch, |i, (out, sums, weights), scratch| {
            let job = ForwardJob {
                item: tiles.item(i),
                out,
                sums,
                weights,
            };
            tiles.forward(&inputs, job, scratch);
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
        if saved.rows.len() != shape.batch * shape.heads * shape.q_len {
            return Err(Error::Shape {
                what: "saved [batch, heads, q_len]",
                expected: vec![shape.batch, shape.heads, shape.q_len],
                given: vec![saved.rows.len()],
            });
        }
        let dq = grads.dq.shaped("dq [batch, heads, q_len, head_dim]", inputs.q.shape())?;
        let dk = grads.dk.shaped("dk [batch, kv_heads, k_len, head_dim]", inputs.k.shape())?;
        let dv = grads.dv.shaped("dv [batch, kv_heads, k_len, value_dim]", inputs.v.shape())?;
        let tiles = Tiles::new(self, call, shape, mask, mode, false)?;
        // Each item sums its own slots: [heads of the item, slots] per term, term after term.
        let (items, heads, kv_heads) = (tiles.items(), tiles.heads_of_item(), tiles.kv_heads_of_item());
        let per_head: usize = call.terms().map(|term| term.needs().slots).sum();
        let with_sinks = usize::from(self.sinks);
        zeros(&mut work.slots, items * heads * per_head);
        zeros(&mut work.sinks, items * heads * with_sinks);
        let cut = (
            (Planes::new(dq, heads), Planes::new(dk, kv_heads), Planes::new(dv, kv_heads)),
            (
                Chunks::new(&mut work.slots, heads * per_head),
                Chunks::new(&mut work.sinks, heads * with_sinks),
            ),
        );
        each_part(items, cut, &mut work.scratch, |i, ((dq, dk, dv), (slots, sinks)), scratch| {
            let job = AdjointJob {
                item: tiles.item(i),
                dq,
                dk,
                dv,
                slots,
                sinks,
            };
            tiles.adjoint(&inputs, out, d_out, &saved.rows, job, scratch);
        });

        slots.terms.resize_with(call.terms().count(), Vec::new);
        for (sums, term) in slots.terms.iter_mut().zip(call.terms()) {
            zeros(sums, shape.heads * term.needs().slots);
        }
        zeros(&mut slots.sinks, shape.heads * with_sinks);
        for i in 0..items {
            let (item, mut from) = (tiles.item(i), i * heads * per_head);
            for (sums, term) in slots.terms.iter_mut().zip(call.terms()) {
                let size = term.needs().slots;
                add_to(&mut sums[item.head0 * size..][..heads * size], &work.slots[from..]);
                from += heads * size;
            }
            if self.sinks {
                add_to(&mut slots.sinks[item.head0..][..heads], &work.sinks[i * heads..]);
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
    pub out: PlanesMut<'a, T>,
    pub sums: Option<&'a mut [RowSum<T::Real>]>,
    pub weights: Option<PlanesMut<'a, T>>,
}

/// One item's part of an adjoint.
pub(super) struct AdjointJob<'a, T: Element> {
    pub item: Item,
    pub dq: PlanesMut<'a, T>,
    pub dk: PlanesMut<'a, T>,
    pub dv: PlanesMut<'a, T>,
    pub slots: &'a mut [T::Real],
    /// `[heads of the item]`, or empty.
    pub sinks: &'a mut [T::Real],
}

/// Adds each number of `part` to its sum.
fn add_to<R: Real>(sums: &mut [R], part: &[R]) {
    sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
}
