//! Encoder and decoder layers around positional attention: PyTorch's, with any encoding.

mod decoder;
mod encoder;
mod sublayer;

pub use decoder::{DecoderLayerOutput, TransformerDecoderLayer};
pub use encoder::TransformerEncoderLayer;

use crate::activation::Activation;
use crate::attention::AttentionTrace;
use crate::error::Result;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::number::Number;
use crate::positional::PositionalMultiheadAttention;
use crate::shape::{join, rows, size};
use crate::storage::Storage;
use posenc::{Attention, Error, Init, Mode, ParamSpec, Params};
use sublayer::{Drop, FeedForward, Hidden, Residual};

/// What a layer's forward pass keeps for its adjoint, and scratch memory of both; reused from step to step.
#[derive(Debug)]
pub struct TransformerTrace<R> {
    self_attn: AttentionTrace<R>,
    /// The decoder's attention over the memory.
    cross: AttentionTrace<R>,
    /// What each norm gave (`norm_first`) or was given.
    inner: [Vec<R>; 3],
    /// The stream after the first sublayer, and in a decoder after the second.
    streams: [Vec<R>; 2],
    hidden: Hidden<R>,
    /// Numbers of the memory.
    memory: usize,
}

impl<R: Number> Default for TransformerTrace<R> {
    fn default() -> Self {
        TransformerTrace {
            self_attn: AttentionTrace::default(),
            cross: AttentionTrace::default(),
            inner: Default::default(),
            streams: Default::default(),
            hidden: Hidden::default(),
            memory: 0,
        }
    }
}

impl<R> TransformerTrace<R> {
    /// After decoding: there is nothing that an adjoint could use.
    fn forget(&mut self) {
        self.streams.iter_mut().for_each(Vec::clear);
    }
}

/// Where a layer drops numbers, besides the weights of its attention: a stream of random numbers for each. The weights of self-attention have the
/// layer's own.
#[derive(Clone, Copy)]
enum Place {
    /// The weights of cross-attention.
    CrossAttention = 1,
    /// PyTorch's `dropout`.
    Hidden,
    /// `dropout1`, after self-attention.
    First,
    /// `dropout2`.
    Second,
    /// `dropout3`.
    Third,
}

impl Place {
    fn mode(self, mode: Mode) -> Mode {
        mode.part(self as u64)
    }

    fn drop(self, probability: f64, mode: Mode, len: usize) -> Drop {
        Drop {
            probability,
            mode: self.mode(mode),
            len,
        }
    }
}

/// What encoder and decoder layers have in common.
trait Layer {
    fn width(&self) -> usize;
    fn linears(&self) -> [&Linear; 2];
    fn norms(&self) -> &[LayerNorm];
    fn activation(&self) -> Activation;
    fn norm_first(&self) -> bool;
    fn dropout(&self) -> f64;
    fn all_specs(&self) -> Vec<ParamSpec>;

    fn feed_forward(&self, mode: Mode, len: usize) -> FeedForward<'_> {
        let [linear1, linear2] = self.linears();
        FeedForward {
            linear1,
            linear2,
            activation: self.activation(),
            drop: Place::Hidden.drop(self.dropout(), mode, len),
        }
    }

    fn residuals_at<const N: usize>(&self, places: [Place; N], mode: Mode, len: usize) -> [Residual<'_>; N] {
        std::array::from_fn(|i| Residual {
            norm: &self.norms()[i],
            norm_first: self.norm_first(),
            drop: places[i].drop(self.dropout(), mode, len),
        })
    }

    /// What no sublayer checks: the layer's own dropout, that its parts have one width, and the tokens of each row.
    fn tokens(&self, what: &'static str, len: usize, batch: usize) -> Result<usize> {
        if batch == 0 {
            return Err(Error::Zero { what: "batch" }.into());
        }
        let dropout = self.dropout();
        // The same range as that of the weights.
        Attention {
            dropout,
            ..Attention::default()
        }
        .check()?;
        let (width, [linear1, linear2]) = (self.width(), self.linears());
        let mut given = vec![linear1.in_dim, linear2.in_dim, linear2.out_dim];
        given.extend(self.norms().iter().map(|norm| norm.dim));
        let mut expected = vec![width; given.len()];
        expected[1] = linear1.out_dim;
        if given != expected {
            return Err(Error::Shape {
                what: "widths of linear1's input, of linear2's input and output, and of the norms",
                expected,
                given,
            }
            .into());
        }
        rows(what, len, "batch·embed_dim", batch.saturating_mul(width))
    }

    /// All gradients have their place, and the trace is of a pass over as many tokens.
    fn check_adjoint<R: Number>(&self, grads: &Params<R>, trace: &TransformerTrace<R>, stream: &[usize]) -> Result<()> {
        for spec in self.all_specs() {
            grads.bound("", "").get(&spec)?;
        }
        let sublayers = self.norms().len();
        for kept in trace.inner[..sublayers].iter().chain(&trace.streams[..sublayers - 1]) {
            size(
                "trace of a forward pass over as many tokens [batch, len, embed_dim]",
                kept.len(),
                stream,
            )?;
        }
        Ok(())
    }
}

/// What can be said of a layer beside its attention.
macro_rules! settings {
    ($layer:ident) => {
        impl $layer {
            /// The same with another activation.
            pub fn with_activation(mut self, activation: impl Into<Activation>) -> $layer {
                self.activation = activation.into();
                self
            }

            /// The same with norms before the sublayers.
            pub fn with_norm_first(mut self) -> $layer {
                self.norm_first = true;
                self
            }

            /// The same with dropout of the sublayers' outputs and in the feed-forward network; checked in the forward pass.
            pub fn with_dropout(mut self, dropout: f64) -> $layer {
                self.dropout = dropout;
                self
            }

            /// The same with another ε of its norms.
            pub fn with_layer_norm_eps(mut self, eps: f64) -> $layer {
                self.norms.iter_mut().for_each(|norm| norm.eps = eps);
                self
            }
        }

        impl Layer for $layer {
            fn width(&self) -> usize {
                self.self_attn.embed_dim()
            }

            fn linears(&self) -> [&Linear; 2] {
                [&self.linear1, &self.linear2]
            }

            fn norms(&self) -> &[LayerNorm] {
                &self.norms
            }

            fn activation(&self) -> Activation {
                self.activation
            }

            fn norm_first(&self) -> bool {
                self.norm_first
            }

            fn dropout(&self) -> f64 {
                self.dropout
            }

            fn all_specs(&self) -> Vec<ParamSpec> {
                self.specs()
            }
        }
    };
}
use settings;

/// The two linear layers of the feed-forward network: weights begin as PyTorch's, U(±1/√in), biases at 0.
fn feed_forward_layers(embed_dim: usize, dim_feedforward: usize) -> Result<[Linear; 2]> {
    if dim_feedforward == 0 {
        return Err(Error::Zero { what: "dim_feedforward" }.into());
    }
    let linear = |name: &str, from: usize, to: usize| Linear::new(name, from, to).with_init(Init::Uniform(1.0 / (from as f64).sqrt()));
    Ok([
        linear("linear1", embed_dim, dim_feedforward),
        linear("linear2", dim_feedforward, embed_dim),
    ])
}

/// The same attention under another name.
fn renamed(attn: &PositionalMultiheadAttention, layer: &str, name: &str) -> PositionalMultiheadAttention {
    attn.clone().named(join(layer, name))
}

/// Sets the rows of padding to zeros: `lengths[b]` of each row's `n` tokens are not.
fn clear_padding<R: Number>(out: &mut [R], lengths: Option<&[usize]>, n: usize, width: usize) {
    for (b, length) in lengths.into_iter().flatten().enumerate() {
        out[(b * n + length) * width..(b + 1) * n * width].fill(R::ZERO);
    }
}

/// The parameters of a layer, in the precision of its arithmetic.
fn parameters<'p, T: Storage<Real: Number>>(layer: &impl Layer, params: &'p Params<T>) -> Result<std::borrow::Cow<'p, Params<T::Real>>> {
    T::parameters(params, &layer.all_specs())
}
