//! The small GPT that every encoding is put into: a pre-layer-norm decoder with GELU and a tied head, composed from `posenc-nn`.
//!
//! ```text
//! ids ─► embedding (· scale) ─► + encoding ─► [ norm ─► attention ─► + ─► norm ─► up ─► GELU ─► down ─► + ] × layers ─► norm ─► tied head ─► logits
//! ```

use crate::error::LabError;
use crate::results::ModelConfig;
use posenc::{Attention, Call, Dims, Encoding, Init, Mask, Mode, ParamSpec, Params, Plan, Positions, Scope, View, ViewMut};
use posenc_nn::{
    Activation, AttentionTrace, Embedding, Gelu, LayerNorm, Linear, MultiheadAttention, Number, StreamGrads, Streams, cross_entropy,
    cross_entropy_adjoint,
};

/// Where the encoding's parameters stand in the model's store.
const MODEL_PREFIX: &str = "pos";

/// How attention's projections begin: GPT-2's N(0, 0.02). Scores are then near zero at first, and what the positions of far tokens mean is learnt rather than drawn: with PyTorch's
/// U(±1/√width), whose scores are random at first, rotary's loss at 1.5 × the trained length rose by 0.09 to 0.41 nat over four seeds; with this, by 0.02 to 0.07.
const PROJECTION_INIT: Init = Init::Normal(0.02);

/// A decoder with an encoding; plain data: its parameters live in a store.
#[derive(Clone, Debug)]
pub struct Gpt {
    plan: Plan,
    tokens: Embedding,
    /// Token embeddings are multiplied by this.
    embedding_scale: f64,
    layers: Vec<Layer>,
    norm: LayerNorm,
    width: usize,
}

#[derive(Clone, Debug)]
struct Layer {
    /// Where this layer's own parameters of the encoding stand.
    prefix: String,
    norm1: LayerNorm,
    attention: MultiheadAttention,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Activations and scratch of one micro-batch, reused from step to step.
#[derive(Debug)]
pub struct Tape<R> {
    layers: Vec<LayerTape<R>>,
    /// Output of the last layer, and normed.
    x: Vec<R>,
    normed: Vec<R>,
    logits: Vec<R>,
    /// Gradients of the residual stream and of what branches off it.
    dx: Vec<R>,
    d_branch: Vec<R>,
    d_hidden: Vec<R>,
    losses: Vec<R>,
    /// Where only the ends of sequences are scored: their rows of the residual stream and of its norm.
    end: [Vec<R>; 2],
}

#[derive(Debug)]
struct LayerTape<R> {
    /// The residual stream as it enters the layer, and after attention.
    x: Vec<R>,
    mid: Vec<R>,
    normed1: Vec<R>,
    normed2: Vec<R>,
    /// The MLP's hidden numbers, and the slope of its activation there.
    active: Vec<R>,
    slope: Vec<R>,
    attention: AttentionTrace<R>,
}

impl<R: Number> Default for Tape<R> {
    fn default() -> Self {
        Tape {
            layers: Vec::new(),
            x: Vec::new(),
            normed: Vec::new(),
            logits: Vec::new(),
            dx: Vec::new(),
            d_branch: Vec::new(),
            d_hidden: Vec::new(),
            losses: Vec::new(),
            end: Default::default(),
        }
    }
}

impl<R: Number> Default for LayerTape<R> {
    fn default() -> Self {
        LayerTape {
            x: Vec::new(),
            mid: Vec::new(),
            normed1: Vec::new(),
            normed2: Vec::new(),
            active: Vec::new(),
            slope: Vec::new(),
            attention: AttentionTrace::default(),
        }
    }
}

/// An encoding with positions and parameters resolved for every layer: shared by all micro-batches of a step.
pub struct Calls<'p, R: Number> {
    layers: Vec<Call<'p, R>>,
    length: usize,
}

/// The same for sequences of which only the last tokens are scored: in the last layer they alone ask, and of the others nothing but keys and values is computed.
pub struct EndCalls<'p, R: Number> {
    calls: Calls<'p, R>,
    /// The last layer's, for the queries that are scored.
    last: Call<'p, R>,
    scored: usize,
}

/// n numbers, whatever they are.
fn resized<R: Number>(buffer: &mut Vec<R>, n: usize) -> &mut [R] {
    buffer.resize(n, R::ZERO);
    buffer
}

/// The last `scored` of each `length` rows.
fn ends<'e, R: Number>(x: &[R], width: usize, [length, scored]: [usize; 2], end: &'e mut Vec<R>) -> &'e [R] {
    end.clear();
    for sequence in x.chunks_exact((length * width).max(1)) {
        end.extend_from_slice(&sequence[(length - scored) * width..]);
    }
    end
}

/// The MLP's activation.
const ACTIVATION: Activation = Activation::Gelu(Gelu::Exact);

impl Gpt {
    /// A model of these sizes with this encoding. The MLP begins as PyTorch's linear layers do, U(±1/√in); attention's projections and token embeddings as N(0, 0.02).
    ///
    /// # Errors
    /// Widths that do not fit each other or the encoding, or an encoding that makes the model wider than its tokens.
    pub fn new(
        config: &ModelConfig,
        vocabulary: usize,
        encoding: &Encoding,
        attention: Attention,
        embedding_scale: f64,
    ) -> Result<Gpt, LabError> {
        let width = config.model_dim;
        let dims = Dims::new(width, config.heads)?;
        let plan = encoding.plan(dims)?;
        if plan.concat_width() > 0 {
            return Err(posenc::Error::Unsupported {
                method: "the lab's model",
                what: "the head is tied to the token embeddings, so nothing can be concatenated to them; add the table instead",
            }
            .into());
        }
        attention.check()?;
        let linear =
            |name: String, from: usize, to: usize| Linear::new(name, from, to).with_init(Init::Uniform(1.0 / (from as f64).sqrt()));
        let layers = (0..config.layers)
            .map(|i| {
                let name = |part: &str| format!("layers.{i}.{part}");
                Layer {
                    prefix: name(MODEL_PREFIX),
                    norm1: LayerNorm::new(name("norm1"), width),
                    attention: MultiheadAttention {
                        attention: attention.clone(),
                        in_init: PROJECTION_INIT,
                        out_init: PROJECTION_INIT,
                        ..MultiheadAttention::new(name("attention"), width, dims).for_plan(&plan)
                    },
                    norm2: LayerNorm::new(name("norm2"), width),
                    up: linear(name("mlp.up"), width, config.mlp_dim),
                    down: linear(name("mlp.down"), config.mlp_dim, width),
                }
            })
            .collect();
        Ok(Gpt {
            plan,
            tokens: Embedding::new("tokens", vocabulary, width).with_init(Init::Normal(0.02)),
            embedding_scale,
            layers,
            norm: LayerNorm::new("norm", width),
            width,
        })
    }

    /// How the encoding acts.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All parameters: those that models share come with the same names, so one seed gives them the same values whatever the encoding.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let of_scope = |scope: Scope, prefix: &str| -> Vec<ParamSpec> {
            let mine = self.plan.parameters().iter().filter(|spec| spec.scope == scope);
            mine.map(|spec| spec.clone().prefixed(prefix)).collect()
        };
        let mut specs = self.tokens.specs();
        specs.extend(of_scope(Scope::Model, MODEL_PREFIX));
        for layer in &self.layers {
            specs.extend(layer.norm1.specs());
            specs.extend(of_scope(Scope::Layer, &layer.prefix));
            specs.extend(layer.attention.specs());
            specs.extend(layer.norm2.specs());
            specs.extend(layer.up.specs());
            specs.extend(layer.down.specs());
        }
        specs.extend(self.norm.specs());
        specs
    }

    /// Numbers that the encoding adds to the model, its layers' own projections of tables included.
    pub fn encoding_parameters(&self) -> usize {
        let sizes = self
            .plan
            .parameters()
            .iter()
            .map(|spec| spec.size() * if spec.scope == Scope::Layer { self.layers.len() } else { 1 });
        let projected = self.plan.projections().iter().flat_map(|p| p.parameters(&self.plan.dims()));
        sizes.sum::<usize>() + self.layers.len() * projected.map(|spec| spec.size()).sum::<usize>()
    }

    /// Resolves the encoding for sequences of `length` tokens.
    ///
    /// # Errors
    /// The encoding has no answer for this length.
    pub fn calls<'p, R: Number>(&self, params: &'p Params<R>, length: usize) -> Result<Calls<'p, R>, LabError> {
        let at = Positions::range(0..length as i64);
        let mut layers: Vec<Call<'p, R>> = Vec::new();
        for layer in &self.layers {
            let bound = params.bound(MODEL_PREFIX, &layer.prefix);
            layers.push(match layers.first() {
                Some(first) => first.for_layer(bound)?,
                None => self.plan.call(bound, &at, &at)?,
            });
        }
        Ok(Calls { layers, length })
    }

    /// Resolves the encoding for sequences of `length` tokens of which the last `scored` are scored.
    ///
    /// # Errors
    /// As [`Gpt::calls`], or more are scored than there are.
    pub fn end_calls<'p, R: Number>(&self, params: &'p Params<R>, length: usize, scored: usize) -> Result<EndCalls<'p, R>, LabError> {
        let before = length.checked_sub(scored).ok_or_else(|| LabError::Configuration {
            field: "aligned_targets",
            expected: format!("at most the length of the window, {length}"),
            given: scored.to_string(),
        })?;
        let (q_at, k_at) = (Positions::range(before as i64..length as i64), Positions::range(0..length as i64));
        let prefix = self.layers.last().map_or("", |layer| &layer.prefix);
        let last = self.plan.call(params.bound(MODEL_PREFIX, prefix), &q_at, &k_at)?;
        let calls = self.calls(params, length)?;
        Ok(EndCalls { calls, last, scored })
    }

    /// Loss of each token, `[batch, length]`, in the tape's own buffer.
    ///
    /// # Errors
    /// A token outside the vocabulary, or ids that are not whole sequences of the calls' length.
    pub fn losses<'t, R: Number>(
        &self,
        params: &Params<R>,
        calls: &Calls<'_, R>,
        inputs: &[u16],
        targets: &[u16],
        tape: &'t mut Tape<R>,
    ) -> Result<&'t [R], LabError> {
        self.forward(params, calls, None, inputs, tape)?;
        let n = inputs.len();
        cross_entropy(&tape.logits, self.tokens.vocab, targets, resized(&mut tape.losses, n))?;
        Ok(&tape.losses)
    }

    /// Losses of the last tokens of each sequence alone, `[batch, scored]`, as `targets` are: what [`Gpt::losses`] gives for them, but for the rounding of sums in another order.
    ///
    /// # Errors
    /// As [`Gpt::losses`].
    pub fn end_losses<'t, R: Number>(
        &self,
        params: &Params<R>,
        calls: &EndCalls<'_, R>,
        inputs: &[u16],
        targets: &[u16],
        tape: &'t mut Tape<R>,
    ) -> Result<&'t [R], LabError> {
        self.forward(params, &calls.calls, Some(calls), inputs, tape)?;
        let n = targets.len();
        cross_entropy(&tape.logits, self.tokens.vocab, targets, resized(&mut tape.losses, n))?;
        Ok(&tape.losses)
    }

    /// Adds the gradient of `scale · Σ losses` to `grads` and returns the mean loss of these tokens.
    ///
    /// # Errors
    /// As [`Gpt::losses`].
    pub fn gradient<R: Number>(
        &self,
        params: &Params<R>,
        calls: &Calls<'_, R>,
        inputs: &[u16],
        targets: &[u16],
        scale: R,
        grads: &mut Params<R>,
        tape: &mut Tape<R>,
    ) -> Result<f64, LabError> {
        self.forward(params, calls, None, inputs, tape)?;
        let (n, width) = (inputs.len(), self.width);
        let batch = n / calls.length;
        resized(&mut tape.losses, n);
        let loss = cross_entropy_adjoint(&mut tape.logits, self.tokens.vocab, targets, scale, &mut tape.losses)?;

        resized(&mut tape.dx, n * width);
        resized(&mut tape.d_branch, n * width);
        self.tokens
            .logits_adjoint(params, &tape.normed, &tape.logits, Some(&mut tape.dx), grads)?;
        self.norm.adjoint(params, &tape.x, &mut tape.dx, grads)?;
        for (layer, (t, call)) in self.layers.iter().zip(tape.layers.iter_mut().zip(&calls.layers)).rev() {
            let (dx, branch) = (&mut tape.dx, &mut tape.d_branch);
            layer
                .down
                .adjoint(params, &t.active, dx, Some(resized(&mut tape.d_hidden, t.active.len())), grads)?;
            Activation::adjoint_by_slope(&t.slope, &mut tape.d_hidden)?;
            layer.up.adjoint(params, &t.normed2, &tape.d_hidden, Some(branch), grads)?;
            layer.norm2.adjoint_onto(params, &t.mid, branch, dx, grads)?;
            let mask = Mask::none().causal(0);
            let streams = Streams::Same(&t.normed1);
            layer.attention.adjoint(
                params,
                call,
                streams,
                &mask,
                Mode::Evaluate,
                dx,
                StreamGrads::Same(branch),
                grads,
                &mut t.attention,
            )?;
            layer.norm1.adjoint_onto(params, &t.x, branch, dx, grads)?;
        }
        if let Some(call) = calls.layers.first() {
            let dx = ViewMut::new(&mut tape.dx, [batch, calls.length, width])?;
            call.add_adjoint(posenc::Site::Embedding, dx, Mode::Evaluate, grads)?;
        }
        self.scale_embeddings(&mut tape.dx);
        self.tokens.adjoint(inputs, &tape.dx, grads)?;
        Ok(loss)
    }

    fn scale_embeddings<R: Number>(&self, x: &mut [R]) {
        let scale = R::of(self.embedding_scale);
        if scale != R::ONE {
            x.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Logits of `[batch, length]` ids, in the tape; of the last tokens of each sequence alone where `end` asks for no more.
    fn forward<R: Number>(
        &self,
        params: &Params<R>,
        calls: &Calls<'_, R>,
        end: Option<&EndCalls<'_, R>>,
        ids: &[u16],
        tape: &mut Tape<R>,
    ) -> Result<(), LabError> {
        let (n, width) = (ids.len(), self.width);
        let batch = n / calls.length.max(1);
        View::new(ids, [batch, calls.length])?;
        tape.layers.resize_with(self.layers.len(), LayerTape::default);
        // Each layer writes the stream that the next one reads.
        let Tape {
            layers,
            x: last,
            end: [end_x, end_normed],
            ..
        } = &mut *tape;
        let first = layers.first_mut().map_or(&mut *last, |t| &mut t.x);
        self.tokens.forward(params, ids, resized(first, n * width))?;
        self.scale_embeddings(first);
        if let Some(call) = calls.layers.first() {
            let x = ViewMut::new(first, [batch, calls.length, width])?;
            call.add(posenc::Site::Embedding, x, Mode::Evaluate)?;
        }
        let mut rows = n;
        for (i, (layer, call)) in self.layers.iter().zip(&calls.layers).enumerate() {
            let (before, after) = layers.split_at_mut(i + 1);
            let end = end.filter(|_| after.is_empty());
            let (t, next) = (&mut before[i], after.first_mut().map_or(&mut *last, |t| &mut t.x));
            layer.norm1.forward(params, &t.x, resized(&mut t.normed1, n * width))?;
            let all = &t.normed1[..];
            let (call, x, streams, first_query) = match end {
                None => (call, &t.x[..], Streams::Same(all), 0),
                Some(EndCalls { last, scored, .. }) => {
                    let lengths = [calls.length, *scored];
                    let query = ends(all, width, lengths, end_normed);
                    rows = batch * scored;
                    (
                        last,
                        ends(&t.x, width, lengths, end_x),
                        Streams::Apart {
                            query,
                            key: all,
                            value: all,
                        },
                        calls.length - scored,
                    )
                }
            };
            let mask = Mask::none().causal(first_query);
            let mid = resized(&mut t.mid, rows * width);
            layer
                .attention
                .forward_onto(params, call, streams, &mask, Mode::Evaluate, x, mid, &mut t.attention)?;
            layer.norm2.forward(params, &t.mid, resized(&mut t.normed2, rows * width))?;
            let hidden = rows * layer.up.out_dim;
            let (slope, active) = (resized(&mut t.slope, hidden), resized(&mut t.active, hidden));
            layer.up.forward_activated(params, ACTIVATION, &t.normed2, slope, active)?;
            layer.down.forward_onto(params, &t.active, &t.mid, resized(next, rows * width))?;
        }
        self.norm.forward(params, &tape.x, resized(&mut tape.normed, rows * width))?;
        self.tokens
            .logits(params, &tape.normed, resized(&mut tape.logits, rows * self.tokens.vocab))?;
        Ok(())
    }
}
