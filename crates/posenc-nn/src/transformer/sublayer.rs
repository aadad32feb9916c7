//! What encoder and decoder layers are put together from: a residual connection around a sublayer, and the feed-forward network.

use crate::activation::Activation;
use crate::error::Result;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::number::Number;
use posenc::{Mode, Params};

/// Dropout of a stream `[batch, len, width]`: a number is dropped by its row of the batch, its token and its channel.
#[derive(Clone, Copy)]
pub(super) struct Drop {
    pub probability: f64,
    /// With a stream of its own for each place ([`Mode::part`]).
    pub mode: Mode,
    /// Tokens of a row.
    pub len: usize,
}

impl Drop {
    /// Forward and adjoint alike.
    fn apply<R: Number>(self, width: usize, x: &mut [R]) {
        let Some(dropout) = self.mode.dropout(self.probability) else {
            return;
        };
        for (token, x) in x.chunks_exact_mut(width).enumerate() {
            dropout.apply_row(token / self.len, 0, token % self.len, x);
        }
    }
}

/// `x + drop(sublayer(norm(x)))`, or `norm(x + drop(sublayer(x)))`.
pub(super) struct Residual<'l> {
    pub norm: &'l LayerNorm,
    pub norm_first: bool,
    pub drop: Drop,
}

impl Residual<'_> {
    /// `inner` keeps for the adjoint what the norm gave, or what it was given.
    pub fn forward<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        inner: &mut Vec<R>,
        sublayer: impl FnOnce(&[R]) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        inner.resize(x.len(), R::ZERO);
        let mut y = if self.norm_first {
            self.norm.forward(params, x, inner)?;
            sublayer(inner)?
        } else {
            sublayer(x)?
        };
        self.drop.apply(self.norm.dim, &mut y);
        add(&mut y, x);
        if !self.norm_first {
            std::mem::swap(inner, &mut y);
            self.norm.forward(params, inner, &mut y)?;
        }
        Ok(y)
    }

    /// `d` comes as the gradient of what [`Residual::forward`] gave and leaves as that of x. The sublayer's adjoint is given its input and the gradient
    /// of its output and overwrites the gradient of its input.
    pub fn adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        inner: &[R],
        d: &mut [R],
        grads: &mut Params<R>,
        sublayer: impl FnOnce(&[R], &[R], &mut [R], &mut Params<R>) -> Result<()>,
    ) -> Result<()> {
        if !self.norm_first {
            self.norm.adjoint(params, inner, d, grads)?;
        }
        let mut dy = d.to_vec();
        self.drop.apply(self.norm.dim, &mut dy);
        let mut d_input = vec![R::ZERO; x.len()];
        sublayer(if self.norm_first { inner } else { x }, &dy, &mut d_input, grads)?;
        if self.norm_first {
            return self.norm.adjoint_onto(params, x, &mut d_input, d, grads);
        }
        add(d, &d_input);
        Ok(())
    }
}

/// `linear2(drop(activation(linear1(x))))`.
pub(super) struct FeedForward<'l> {
    pub linear1: &'l Linear,
    pub linear2: &'l Linear,
    pub activation: Activation,
    pub drop: Drop,
}

/// What the feed-forward network keeps for its adjoint, `[batch, len, dim_feedforward]`.
#[derive(Debug, Default)]
pub(super) struct Hidden<R> {
    /// The activation's slope.
    slope: Vec<R>,
    after: Vec<R>,
}

impl FeedForward<'_> {
    pub fn forward<R: Number>(&self, params: &Params<R>, x: &[R], hidden: &mut Hidden<R>) -> Result<Vec<R>> {
        let n = x.len() / self.linear1.in_dim;
        for hidden in [&mut hidden.slope, &mut hidden.after] {
            hidden.resize(n * self.linear1.out_dim, R::ZERO);
        }
        self.linear1
            .forward_activated(params, self.activation, x, &mut hidden.slope, &mut hidden.after)?;
        self.drop.apply(self.linear1.out_dim, &mut hidden.after);
        let mut y = vec![R::ZERO; n * self.linear2.out_dim];
        self.linear2.forward(params, &hidden.after, &mut y)?;
        Ok(y)
    }

    pub fn adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        dy: &[R],
        dx: &mut [R],
        grads: &mut Params<R>,
        hidden: &Hidden<R>,
    ) -> Result<()> {
        let mut d = vec![R::ZERO; hidden.after.len()];
        self.linear2.adjoint(params, &hidden.after, dy, Some(&mut d), grads)?;
        self.drop.apply(self.linear1.out_dim, &mut d);
        Activation::adjoint_by_slope(&hidden.slope, &mut d)?;
        self.linear1.adjoint(params, x, &d, Some(dx), grads)
    }
}

/// x += y.
pub(super) fn add<R: Number>(x: &mut [R], y: &[R]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += *y);
}
