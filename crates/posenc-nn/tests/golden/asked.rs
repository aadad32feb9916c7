//! What the records ask of what computes our side, and what it answers.

use posenc::{Attention, Element, Params, Plan, Positions};
use posenc_nn::PositionalOutput;

/// How rows of heads lie.
#[derive(Clone, Copy, PartialEq)]
pub enum Layout {
    /// `[batch, heads, seq, head_dim]`.
    ByHead,
    /// `[batch, seq, heads, head_dim]`.
    ByToken,
}

/// Embeddings `[batch, seq, width]` with what acts on them, and the gradients of the embeddings and the parameters where one is asked for.
pub struct Embedded {
    pub out: Vec<f32>,
    pub grads: Option<(Vec<f32>, Params<f32>)>,
}

/// Which pairs attend.
#[derive(Clone, Debug, Default)]
pub struct Pairs<'a, R> {
    /// A query sees what came before it.
    pub causal: bool,
    /// Keys before the first query, in each row of the batch; needed where queries are in order.
    pub before: Vec<usize>,
    /// True attends.
    pub attends: Vec<(&'a [bool], [usize; 4])>,
    pub added: Option<(&'a [R], [usize; 4])>,
}

/// One attention, its tensors `[batch, heads, seq, width]`.
pub struct Attending<'a, T: Element> {
    pub plan: &'a Plan,
    pub at: [&'a Positions; 2],
    pub attention: &'a Attention,
    pub q: (&'a [T], [usize; 4]),
    pub k: (&'a [T], [usize; 4]),
    pub v: (&'a [T], [usize; 4]),
    pub sinks: &'a [T],
    /// Weights are asked for.
    pub weights: bool,
    pub pairs: Pairs<'a, T::Real>,
}

/// What attention gives, and the gradients of the values and the parameters where one is asked for.
pub struct Attended<T: Element> {
    pub out: Vec<T>,
    /// `[batch, heads, q_len, k_len]`.
    pub weights: Option<Vec<T>>,
    pub grads: Option<(Vec<T>, Params<T::Real>)>,
}

/// What a layer gives, and for a gradient of its output those of the streams (of one stream, its total first) and of the parameters.
pub struct Layered {
    pub output: PositionalOutput<f32>,
    pub d_streams: [Vec<f32>; 3],
    pub grads: Params<f32>,
}
