//! `nn.TransformerEncoderLayer` around any positional attention.

use super::sublayer::Residual;
use super::{Layer, Place, TransformerTrace, clear_padding, feed_forward_layers, parameters, renamed, settings};
use crate::activation::Activation;
use crate::attention::{KvCache, StreamGrads, Streams};
use crate::error::Result;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::number::Number;
use crate::positional::{DecodeArgs, PositionalArgs, PositionalMultiheadAttention, PositionalOutput};
use crate::shape::{join, size};
use crate::storage::{Storage, stored_gradient};
use posenc::{Mode, ParamSpec, Params};

/// Self-attention and a feed-forward network, each with a residual connection and a layer norm, after Vaswani et al. 2017 (arXiv 1706.03762):
/// ```text
/// x₁ = norm1(x + dropout1(self_attn(x)))       x₁ = x + dropout1(self_attn(norm1(x)))       (norm_first)
/// y  = norm2(x₁ + dropout2(ff(x₁)))            y  = x₁ + dropout2(ff(norm2(x₁)))
/// ff(z) = linear2(dropout(activation(linear1(z))))
/// ```
/// The attention is any [`PositionalMultiheadAttention`], with its encoding, its key heads, its window and its dropout of the weights. With `causal` among
/// its arguments this is the layer of a decoder-only model.
///
/// Parameters, as PyTorch's and symm-learning's modules have them: `self_attn.*`, `linear1.{weight,bias}`, `linear2.{weight,bias}`, `norm1.{weight,bias}`,
/// `norm2.{weight,bias}`, under `name` if it is not empty. For the checkpoint of a plain `nn.TransformerEncoderLayer` the attention is built
/// [`with_pytorch_names`](PositionalMultiheadAttention::with_pytorch_names).
///
/// Parameters and streams may be stored in any [`Storage`]; the arithmetic of the whole layer is in its `Real`, rounded once at the end.
///
/// ```
/// use posenc::{Mode, Params};
/// use posenc_nn::{PositionalArgs, PositionalMultiheadAttention, TransformerEncoderLayer, TransformerTrace};
/// let attention = PositionalMultiheadAttention::rope(8, 2, 10_000.0)?;
/// let layer = TransformerEncoderLayer::new(attention, 32)?.with_norm_first().named("layers.0");
/// let params: Params<f32> = Params::init(&layer.specs(), 1)?;
/// assert!(params.get("layers.0.self_attn.q_proj.weight").is_ok() && params.get("layers.0.norm2.bias").is_ok());
///
/// let src = [0.5; 2 * 3 * 8]; // [batch, len, embed_dim]
/// let args = PositionalArgs { causal: Some(0), ..Default::default() };
/// let output = layer.forward(&params, &src, 2, &args, Mode::Evaluate, &mut TransformerTrace::default())?;
/// assert_eq!(output.out.len(), src.len());
/// # Ok::<(), posenc_nn::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "nn.TransformerEncoderLayer")]
pub struct TransformerEncoderLayer {
    /// Its name in the store; may be empty.
    pub name: String,
    /// Attention of the stream over itself.
    pub self_attn: PositionalMultiheadAttention,
    /// The feed-forward network's first layer, `[dim_feedforward, embed_dim]`.
    pub linear1: Linear,
    /// And its second.
    pub linear2: Linear,
    /// The norms of the two sublayers.
    pub norms: [LayerNorm; 2],
    /// Between the two linear layers; ReLU unless said otherwise.
    pub activation: Activation,
    /// Whether norms stand before the sublayers, or, as in the paper, after their sums.
    pub norm_first: bool,
    /// Dropout, when training, of the sublayers' outputs and of the feed-forward network's hidden numbers. The weights of attention have the attention's own
    /// ([`PositionalMultiheadAttention::with_dropout`]); PyTorch's argument sets all of them, and is 0.1 there, 0 here.
    pub dropout: f64,
}

impl TransformerEncoderLayer {
    /// Around this attention, whose parameters go to `self_attn`. As PyTorch's otherwise: ReLU, norms after the sums, ε = 1e-5, biases; but no dropout.
    ///
    /// # Errors
    /// A feed-forward width of zero.
    pub fn new(self_attn: PositionalMultiheadAttention, dim_feedforward: usize) -> Result<TransformerEncoderLayer> {
        let width = self_attn.embed_dim();
        let [linear1, linear2] = feed_forward_layers(width, dim_feedforward)?;
        let layer = TransformerEncoderLayer {
            name: String::new(),
            self_attn,
            linear1,
            linear2,
            norms: ["norm1", "norm2"].map(|name| LayerNorm::new(name, width)),
            activation: Activation::default(),
            norm_first: false,
            dropout: 0.0,
        };
        Ok(layer.named(""))
    }

    /// The same with its parameters under `name`, as `layers.0`.
    pub fn named(mut self, name: impl Into<String>) -> TransformerEncoderLayer {
        self.name = name.into();
        self.self_attn = renamed(&self.self_attn, &self.name, "self_attn");
        self.linear1.name = join(&self.name, "linear1");
        self.linear2.name = join(&self.name, "linear2");
        for (norm, name) in self.norms.iter_mut().zip(["norm1", "norm2"]) {
            norm.name = join(&self.name, name);
        }
        self
    }

    /// The same without biases, in attention, linear layers and norms alike.
    pub fn without_bias(mut self) -> TransformerEncoderLayer {
        self.self_attn = self.self_attn.without_bias();
        (self.linear1, self.linear2) = (self.linear1.without_bias(), self.linear2.without_bias());
        self.norms = self.norms.map(LayerNorm::without_bias);
        self
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = self.self_attn.specs();
        specs.extend([&self.linear1, &self.linear2].into_iter().flat_map(Linear::specs));
        specs.extend(self.norms.iter().flat_map(LayerNorm::specs));
        specs
    }

    /// `src` `[batch, len, embed_dim]` through the layer. `args` are those of self-attention: positions and position masks of `src` as queries and as keys, attention
    /// masks, causality; the weights are its weights.
    ///
    /// # Errors
    /// Shapes that do not fit, a position that the encoding has no answer for, a parameter that is missing, a setting out of range.
    pub fn forward<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        src: &[T],
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        let len = self.tokens("src [batch, len, embed_dim]", src.len(), batch)?;
        let params = parameters(self, params)?;
        let mut weights = None;
        let out = self.run(&params, &T::widened(src), mode, len, trace, |x, trace| {
            let output = self
                .self_attn
                .forward(&params, Streams::Same(x), batch, args, mode, &mut trace.self_attn)?;
            weights = output.weights;
            Ok(output.out)
        })?;
        Ok(PositionalOutput {
            out: T::narrowed(out),
            weights: weights.map(T::narrowed),
        })
    }

    /// The adjoint of [`TransformerEncoderLayer::forward`] with the same arguments and the trace it left: `d_out` `[batch, len, embed_dim]` is the gradient of
    /// the output. Overwrites `d_src`, adds the gradients of all parameters to `grads`, which is in the precision of the arithmetic.
    ///
    /// # Errors
    /// As [`TransformerEncoderLayer::forward`], of either store, or a trace of another call.
    pub fn adjoint<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        src: &[T],
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        d_out: &[T],
        d_src: &mut [T],
        grads: &mut Params<T::Real>,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<()> {
        let len = self.tokens("src [batch, len, embed_dim]", src.len(), batch)?;
        let stream = [batch, len, self.self_attn.embed_dim()];
        size("d_out [batch, len, embed_dim]", d_out.len(), &stream)?;
        size("d_src [batch, len, embed_dim]", d_src.len(), &stream)?;
        self.check_adjoint(grads, trace, &stream)?;
        let params = parameters(self, params)?;
        let call = self.self_attn.call_for(&params, batch, [len, len], args)?;
        let mask = args.mask([batch, self.self_attn.num_heads(), len, len])?;
        let src = T::widened(src);
        let TransformerTrace {
            self_attn,
            inner,
            streams,
            hidden,
            ..
        } = trace;
        stored_gradient(d_src, |d| {
            d.copy_from_slice(&T::widened(d_out));
            let [first, second] = self.residuals(mode, len);
            second.adjoint(&params, &streams[0], &inner[1], d, grads, |x, dy, dx, grads| {
                self.feed_forward(mode, len).adjoint(&params, x, dy, dx, grads, hidden)
            })?;
            first.adjoint(&params, &src, &inner[0], d, grads, |x, dy, dx, grads| {
                let (x, dx) = (Streams::Same(x), StreamGrads::Same(dx));
                self.self_attn
                    .attn
                    .adjoint(&params, &call, x, &mask, mode, dy, dx, grads, self_attn)
            })
        })
    }

    /// An empty cache for `batch` sequences.
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::cache`].
    pub fn cache<R: Number>(&self, batch: usize) -> Result<KvCache<R>> {
        self.self_attn.cache(batch)
    }

    /// The next n tokens of each row, `[batch, n, embed_dim]`, after those in the cache: [`PositionalMultiheadAttention::decode`] within the layer. A whole
    /// prompt at once gives the same as its tokens one by one. On an error the cache is as it was.
    ///
    /// ```
    /// use posenc::{Mode, Params};
    /// use posenc_nn::{DecodeArgs, PositionalMultiheadAttention, TransformerEncoderLayer, TransformerTrace};
    /// let layer = TransformerEncoderLayer::new(PositionalMultiheadAttention::alibi(8, 2)?, 32)?;
    /// let params: Params<f32> = Params::init(&layer.specs(), 1)?;
    /// let (mut cache, mut trace) = (layer.cache(1)?, TransformerTrace::default());
    /// let args = DecodeArgs::default();
    /// layer.decode(&params, &[0.5; 3 * 8], &mut cache, &args, Mode::Evaluate, &mut trace)?; // a prompt of three tokens
    /// let next = layer.decode(&params, &[0.25; 8], &mut cache, &args, Mode::Evaluate, &mut trace)?; // and a fourth
    /// assert_eq!((next.out.len(), cache.lens()), (8, &[4][..]));
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::decode`].
    pub fn decode<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        x: &[T],
        cache: &mut KvCache<T::Real>,
        args: &DecodeArgs<'_, T::Real>,
        mode: Mode,
        trace: &mut TransformerTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        let n = self.tokens("x [batch, n, embed_dim]", x.len(), cache.batch())?;
        let params = parameters(self, params)?;
        let before = cache.lens().to_vec();
        let mut weights = None;
        let out = self.run(&params, &T::widened(x), mode, n, trace, |x, trace| {
            let output = self.self_attn.decode(&params, x, cache, args, mode, &mut trace.self_attn)?;
            weights = output.weights;
            Ok(output.out)
        });
        trace.forget();
        if out.is_err() {
            cache.truncate(&before)?;
        }
        let mut out = out?;
        clear_padding(&mut out, args.lengths, n, self.self_attn.embed_dim());
        Ok(PositionalOutput {
            out: T::narrowed(out),
            weights: weights.map(T::narrowed),
        })
    }

    /// The two sublayers, the first of them given.
    fn run<R: Number>(
        &self,
        params: &Params<R>,
        src: &[R],
        mode: Mode,
        len: usize,
        trace: &mut TransformerTrace<R>,
        attend: impl FnOnce(&[R], &mut TransformerTrace<R>) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        let [first, second] = self.residuals(mode, len);
        let mut inner = std::mem::take(&mut trace.inner[0]);
        trace.streams[0] = first.forward(params, src, &mut inner, |x| attend(x, trace))?;
        trace.inner[0] = inner;
        let TransformerTrace {
            inner, streams, hidden, ..
        } = trace;
        second.forward(params, &streams[0], &mut inner[1], |x| {
            self.feed_forward(mode, len).forward(params, x, hidden)
        })
    }

    fn residuals(&self, mode: Mode, len: usize) -> [Residual<'_>; 2] {
        self.residuals_at([Place::First, Place::Second], mode, len)
    }
}

settings!(TransformerEncoderLayer);
