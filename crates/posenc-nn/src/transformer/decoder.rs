//! `nn.TransformerDecoderLayer` around any two positional attentions.

use super::sublayer::Residual;
use super::{Layer, Place, TransformerTrace, clear_padding, feed_forward_layers, parameters, renamed, settings};
use crate::activation::Activation;
use crate::attention::{KvCache, StreamGrads, Streams};
use crate::error::Result;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::number::Number;
use crate::positional::{DecodeArgs, PositionalArgs, PositionalMultiheadAttention};
use crate::shape::{join, size};
use crate::storage::{Storage, stored_gradient};
use posenc::{Error, Mode, ParamSpec, Params};

/// Self-attention, attention over a memory (an encoder's output), and a feed-forward network, each with a residual connection and a layer norm:
/// ```text
/// x₁ = norm1(x  + dropout1(self_attn(x)))                  x₁ = x  + dropout1(self_attn(norm1(x)))                  (norm_first)
/// x₂ = norm2(x₁ + dropout2(multihead_attn(x₁, memory)))    x₂ = x₁ + dropout2(multihead_attn(norm2(x₁), memory))
/// y  = norm3(x₂ + dropout3(ff(x₂)))                        y  = x₂ + dropout3(ff(norm3(x₂)))
/// ```
/// with the feed-forward network of [`TransformerEncoderLayer`](super::TransformerEncoderLayer). The two attentions may have different encodings; nothing is causal
/// unless the arguments say so.
///
/// Parameters, as PyTorch's and symm-learning's modules have them: `self_attn.*`, `multihead_attn.*`, `linear1`, `linear2`, `norm1`, `norm2`, `norm3`, under
/// `name` if it is not empty. What is said there of storage and of PyTorch's checkpoints holds here.
///
/// ```
/// use posenc::{Encoding, Mode, Params, Positions};
/// use posenc_nn::{PositionalArgs, PositionalMultiheadAttention, TransformerDecoderLayer, TransformerTrace};
/// let attention = PositionalMultiheadAttention::additive_pos(8, 2, 16)?;
/// let layer = TransformerDecoderLayer::new(attention.clone(), attention, 32)?;
/// let params: Params<f32> = Params::init(&layer.specs(), 1)?;
///
/// let (tgt, memory) = ([0.5; 2 * 8], [0.25; 5 * 8]); // [batch, tgt_len, embed_dim], [batch, memory_len, embed_dim]
/// let args = PositionalArgs { causal: Some(0), ..Default::default() };
/// // What the memory's tokens stand at, and that the first of them has no position.
/// let memory_args = PositionalArgs {
///     k_positions: Some(Positions::range(4..9)),
///     k_position_mask: Some(&[false, true, true, true, true]),
///     ..Default::default()
/// };
/// let trace = &mut TransformerTrace::default();
/// let output = layer.forward(&params, &tgt, &memory, 1, [&args, &memory_args], Mode::Evaluate, trace)?;
/// assert_eq!(output.out.len(), tgt.len());
/// # Ok::<(), posenc_nn::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "nn.TransformerDecoderLayer")]
pub struct TransformerDecoderLayer {
    /// Its name in the store; may be empty.
    pub name: String,
    /// Attention of the target over itself.
    pub self_attn: PositionalMultiheadAttention,
    /// Attention of the target over the memory.
    #[doc(alias = "cross_attn")]
    pub multihead_attn: PositionalMultiheadAttention,
    /// The feed-forward network's first layer, `[dim_feedforward, embed_dim]`.
    pub linear1: Linear,
    /// And its second.
    pub linear2: Linear,
    /// The norms of the three sublayers.
    pub norms: [LayerNorm; 3],
    /// Between the two linear layers; ReLU unless said otherwise.
    pub activation: Activation,
    /// Whether norms stand before the sublayers, or, as in the paper, after their sums.
    pub norm_first: bool,
    /// Dropout, when training, of the sublayers' outputs and of the feed-forward network's hidden numbers. The weights of each attention have the
    /// attention's own.
    pub dropout: f64,
}

/// What a decoder layer gives.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderLayerOutput<T> {
    /// `[batch, tgt_len, embed_dim]`.
    pub out: Vec<T>,
    /// The weights of self-attention, where its arguments ask for them, as [`PositionalOutput::weights`](crate::PositionalOutput::weights).
    pub self_weights: Option<Vec<T>>,
    /// Those of the attention over the memory.
    pub memory_weights: Option<Vec<T>>,
}

impl TransformerDecoderLayer {
    /// Around these attentions, whose parameters go to `self_attn` and `multihead_attn`. As PyTorch's otherwise: ReLU, norms after the sums, ε = 1e-5, biases;
    /// but no dropout.
    ///
    /// # Errors
    /// Attentions of different widths, or a feed-forward width of zero.
    pub fn new(
        self_attn: PositionalMultiheadAttention,
        multihead_attn: PositionalMultiheadAttention,
        dim_feedforward: usize,
    ) -> Result<TransformerDecoderLayer> {
        let width = self_attn.embed_dim();
        if multihead_attn.embed_dim() != width {
            return Err(Error::Shape {
                what: "embed_dim of multihead_attn, that of self_attn",
                expected: vec![width],
                given: vec![multihead_attn.embed_dim()],
            }
            .into());
        }
        let [linear1, linear2] = feed_forward_layers(width, dim_feedforward)?;
        let layer = TransformerDecoderLayer {
            name: String::new(),
            self_attn,
            multihead_attn,
            linear1,
            linear2,
            norms: ["norm1", "norm2", "norm3"].map(|name| LayerNorm::new(name, width)),
            activation: Activation::default(),
            norm_first: false,
            dropout: 0.0,
        };
        Ok(layer.named(""))
    }

    /// The same with its parameters under `name`, as `layers.0`.
    pub fn named(mut self, name: impl Into<String>) -> TransformerDecoderLayer {
        self.name = name.into();
        self.self_attn = renamed(&self.self_attn, &self.name, "self_attn");
        self.multihead_attn = renamed(&self.multihead_attn, &self.name, "multihead_attn");
        self.linear1.name = join(&self.name, "linear1");
        self.linear2.name = join(&self.name, "linear2");
        for (norm, name) in self.norms.iter_mut().zip(["norm1", "norm2", "norm3"]) {
            norm.name = join(&self.name, name);
        }
        self
    }

    /// The same without biases, in attention, linear layers and norms alike.
    pub fn without_bias(mut self) -> TransformerDecoderLayer {
        (self.self_attn, self.multihead_attn) = (self.self_attn.without_bias(), self.multihead_attn.without_bias());
        (self.linear1, self.linear2) = (self.linear1.without_bias(), self.linear2.without_bias());
        self.norms = self.norms.map(LayerNorm::without_bias);
        self
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = [self.self_attn.specs(), self.multihead_attn.specs()].concat();
        specs.extend([&self.linear1, &self.linear2].into_iter().flat_map(Linear::specs));
        specs.extend(self.norms.iter().flat_map(LayerNorm::specs));
        specs
    }

    /// `tgt` `[batch, tgt_len, embed_dim]` through the layer, with `memory` `[batch, memory_len, embed_dim]`. `args` are those of self-attention, then those of the
    /// attention over the memory: positions and position masks of queries and keys, attention masks, causality, whether weights are wanted.
    ///
    /// # Errors
    /// Shapes that do not fit, a position that an encoding has no answer for, a parameter that is missing, a setting out of range.
    pub fn forward<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        tgt: &[T],
        memory: &[T],
        batch: usize,
        args: [&PositionalArgs<'_, T::Real>; 2],
        mode: Mode,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<DecoderLayerOutput<T>> {
        let len = self.tokens("tgt [batch, tgt_len, embed_dim]", tgt.len(), batch)?;
        let params = parameters(self, params)?;
        let memory = T::widened(memory);
        let mut weights = [None, None];
        let [self_weights, memory_weights] = &mut weights;
        let out = self.run(
            &params,
            &T::widened(tgt),
            mode,
            len,
            trace,
            |x, trace| {
                let output = self
                    .self_attn
                    .forward(&params, Streams::Same(x), batch, args[0], mode, &mut trace.self_attn)?;
                *self_weights = output.weights;
                Ok(output.out)
            },
            |x, trace| {
                let streams = apart(x, &memory);
                let mode = Place::CrossAttention.mode(mode);
                let output = self
                    .multihead_attn
                    .forward(&params, streams, batch, args[1], mode, &mut trace.cross)?;
                *memory_weights = output.weights;
                Ok(output.out)
            },
        )?;
        trace.memory = memory.len();
        Ok(stored(out, weights))
    }

    /// The adjoint of [`TransformerDecoderLayer::forward`] with the same arguments and the trace it left: `d_out` `[batch, tgt_len, embed_dim]` is the gradient
    /// of the output. Overwrites `d_tgt` and `d_memory`, adds the gradients of all parameters to `grads`, which is in the precision of the arithmetic.
    ///
    /// # Errors
    /// As [`TransformerDecoderLayer::forward`], of either store, or a trace of another call.
    pub fn adjoint<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        tgt: &[T],
        memory: &[T],
        batch: usize,
        args: [&PositionalArgs<'_, T::Real>; 2],
        mode: Mode,
        d_out: &[T],
        d_tgt: &mut [T],
        d_memory: &mut [T],
        grads: &mut Params<T::Real>,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<()> {
        let len = self.tokens("tgt [batch, tgt_len, embed_dim]", tgt.len(), batch)?;
        let memory_len = self.tokens("memory [batch, memory_len, embed_dim]", memory.len(), batch)?;
        let stream = [batch, len, self.self_attn.embed_dim()];
        size("d_out [batch, tgt_len, embed_dim]", d_out.len(), &stream)?;
        size("d_tgt [batch, tgt_len, embed_dim]", d_tgt.len(), &stream)?;
        size("d_memory [batch, memory_len, embed_dim]", d_memory.len(), &[memory.len()])?;
        self.check_adjoint(grads, trace, &stream)?;
        size("trace of a forward pass over as large a memory", trace.memory, &[memory.len()])?;
        let params = parameters(self, params)?;
        let calls = [
            self.self_attn.call_for(&params, batch, [len, len], args[0])?,
            self.multihead_attn.call_for(&params, batch, [len, memory_len], args[1])?,
        ];
        let masks = [
            args[0].mask([batch, self.self_attn.num_heads(), len, len])?,
            args[1].mask([batch, self.multihead_attn.num_heads(), len, memory_len])?,
        ];
        let (tgt, memory) = (T::widened(tgt), T::widened(memory));
        let TransformerTrace {
            self_attn,
            cross,
            inner,
            streams,
            hidden,
            ..
        } = trace;
        stored_gradient(d_tgt, |d| {
            stored_gradient(d_memory, |d_memory| {
                d.copy_from_slice(&T::widened(d_out));
                let [first, second, third] = self.residuals(mode, len);
                third.adjoint(&params, &streams[1], &inner[2], d, grads, |x, dy, dx, grads| {
                    self.feed_forward(mode, len).adjoint(&params, x, dy, dx, grads, hidden)
                })?;
                second.adjoint(&params, &streams[0], &inner[1], d, grads, |x, dy, dx, grads| {
                    let mut d_values = vec![T::Real::default(); memory.len()];
                    let into = StreamGrads::Apart {
                        query: dx,
                        key: d_memory,
                        value: &mut d_values,
                    };
                    let (x, mode) = (apart(x, &memory), Place::CrossAttention.mode(mode));
                    let attn = &self.multihead_attn.attn;
                    attn.adjoint(&params, &calls[1], x, &masks[1], mode, dy, into, grads, cross)?;
                    super::sublayer::add(d_memory, &d_values);
                    Ok(())
                })?;
                first.adjoint(&params, &tgt, &inner[0], d, grads, |x, dy, dx, grads| {
                    let (x, dx) = (Streams::Same(x), StreamGrads::Same(dx));
                    let attn = &self.self_attn.attn;
                    attn.adjoint(&params, &calls[0], x, &masks[0], mode, dy, dx, grads, self_attn)
                })
            })
        })
    }

    /// The next n tokens of each row, `[batch, n, embed_dim]`: they and those in `cache` are attended to by [`PositionalMultiheadAttention::decode`], the memory, which
    /// was projected once, by [`PositionalMultiheadAttention::recall`]. `args` are those of self-attention, then those of the attention over the memory, which is
    /// causal too unless they say that it is not. Positions of queries that are absent go on where each row stands. On an error the cache is as it was.
    ///
    /// ```
    /// use posenc::{Mode, Params};
    /// use posenc_nn::{DecodeArgs, PositionalMultiheadAttention, TransformerDecoderLayer, TransformerTrace};
    /// let attention = PositionalMultiheadAttention::rope(8, 2, 10_000.0)?;
    /// let layer = TransformerDecoderLayer::new(attention.clone(), attention, 32)?;
    /// let params: Params<f32> = Params::init(&layer.specs(), 1)?;
    /// let whole = DecodeArgs { causal: false, ..Default::default() };
    /// let (mut cache, mut memory) = (layer.self_attn.cache(1)?, layer.multihead_attn.cache(1)?);
    /// let read = [0.25; 5 * 8];
    /// layer.multihead_attn.remember(&params, &read, &read, &mut memory, &whole, &mut Default::default())?;
    /// let (args, mut trace) = (DecodeArgs::default(), TransformerTrace::default());
    /// let next = layer.decode(&params, &[0.5; 8], &mut cache, &memory, [&args, &whole], Mode::Evaluate, &mut trace)?;
    /// assert_eq!((next.out.len(), cache.lens(), memory.lens()), (8, &[1][..], &[5][..]));
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::decode`]; caches of different numbers of rows.
    pub fn decode<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        x: &[T],
        cache: &mut KvCache<T::Real>,
        memory: &KvCache<T::Real>,
        args: [&DecodeArgs<'_, T::Real>; 2],
        mode: Mode,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<DecoderLayerOutput<T>> {
        let n = self.tokens("x [batch, n, embed_dim]", x.len(), cache.batch())?;
        let params = parameters(self, params)?;
        let first = cache.lens().to_vec();
        let mut weights = [None, None];
        let [self_weights, memory_weights] = &mut weights;
        let out = self.run(
            &params,
            &T::widened(x),
            mode,
            n,
            trace,
            |x, trace| {
                let output = self.self_attn.decode(&params, x, cache, args[0], mode, &mut trace.self_attn)?;
                *self_weights = output.weights;
                Ok(output.out)
            },
            |x, trace| {
                let mode = Place::CrossAttention.mode(mode);
                let output = self
                    .multihead_attn
                    .recall(&params, x, memory, args[1], &first, mode, &mut trace.cross)?;
                *memory_weights = output.weights;
                Ok(output.out)
            },
        );
        trace.forget();
        if out.is_err() {
            cache.truncate(&first)?;
        }
        let mut out = out?;
        clear_padding(&mut out, args[0].lengths, n, self.self_attn.embed_dim());
        Ok(stored(out, weights))
    }

    /// The three sublayers, the first two of them given.
    fn run<R: Number>(
        &self,
        params: &Params<R>,
        tgt: &[R],
        mode: Mode,
        len: usize,
        trace: &mut TransformerTrace<R>,
        attend: impl FnOnce(&[R], &mut TransformerTrace<R>) -> Result<Vec<R>>,
        attend_memory: impl FnOnce(&[R], &mut TransformerTrace<R>) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        let [first, second, third] = self.residuals(mode, len);
        let mut inner = std::mem::take(&mut trace.inner);
        let after_first = first.forward(params, tgt, &mut inner[0], |x| attend(x, trace))?;
        let after_second = second.forward(params, &after_first, &mut inner[1], |x| attend_memory(x, trace))?;
        let hidden = &mut trace.hidden;
        let out = third.forward(params, &after_second, &mut inner[2], |x| {
            self.feed_forward(mode, len).forward(params, x, hidden)
        })?;
        (trace.inner, trace.streams) = (inner, [after_first, after_second]);
        Ok(out)
    }

    fn residuals(&self, mode: Mode, len: usize) -> [Residual<'_>; 3] {
        self.residuals_at([Place::First, Place::Second, Place::Third], mode, len)
    }
}

fn apart<'a, R>(query: &'a [R], memory: &'a [R]) -> Streams<'a, R> {
    Streams::Apart {
        query,
        key: memory,
        value: memory,
    }
}

fn stored<T: Storage>(out: Vec<T::Real>, [self_weights, memory_weights]: [Option<Vec<T::Real>>; 2]) -> DecoderLayerOutput<T> {
    DecoderLayerOutput {
        out: T::narrowed(out),
        self_weights: self_weights.map(T::narrowed),
        memory_weights: memory_weights.map(T::narrowed),
    }
}

settings!(TransformerDecoderLayer);
