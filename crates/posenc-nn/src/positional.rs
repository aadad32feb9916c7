//! Multi-head attention that owns its encoding: streams and positions in, output and weights out.

use crate::attention::{AttentionTrace, MultiheadAttention, StreamGrads, Streams};
use crate::error::Result;
use crate::number::Number;
use crate::shape::{rows, size};
use posenc::{Blocked, Call, Dims, Encoding, Error, InputTable, Mask, Mode, ParamSpec, Params, Plan, Positions, Site, View};
use std::fmt;

/// Multi-head attention with any encoding that acts inside attention: on the inputs of queries and keys, on the projected queries and keys, or on the
/// scores. Values are never position-modulated unless the encoding says so (Shaw).
///
/// [`PositionalMultiheadAttention::additive_pos`] is symm-learning's `AdditivePosMultiheadAttention`: a table E of learned rows is added before the
/// projections,
/// ```text
/// q' = q + E[P_q],   k' = k + E[P_k],   v' = v
/// ```
/// and as long as E is zero, as it begins, this is ordinary multi-head attention, bit for bit.
///
/// Parameters, under `name` if it is not empty: those of the plan (`pos_emb`), then `attn.in_proj_weight`, `attn.in_proj_bias`,
/// `attn.out_proj.weight`, `attn.out_proj.bias`, as PyTorch lays them out. The module owns the plan's parameters of either scope; a model whose
/// layers share a table uses [`MultiheadAttention`] with a [`Call`] of its own.
///
/// What differs from the Python module: a position that the table does not have is an error (there, a negative one reads from the end and a
/// fractional one is truncated); causality works without a mask and with one; the weights of a row that attends to nothing are zeros, not NaN; asking
/// for weights changes no bit of the output.
///
/// ```
/// use posenc::{Mode, Params, Positions};
/// use posenc_nn::{AttentionTrace, PositionalArgs, PositionalMultiheadAttention, Streams};
///
/// let module = PositionalMultiheadAttention::additive_pos(8, 2, 32)?;
/// let names: Vec<String> = module.specs().into_iter().map(|spec| spec.name).collect();
/// assert_eq!(names, ["pos_emb", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias"]);
///
/// let params: Params<f32> = Params::init(&module.specs(), 1)?;
/// let (query, memory) = ([0.5; 8], [0.25; 3 * 8]); // one query, three keys
/// let args = PositionalArgs { q_positions: Some(Positions::whole(&[7])), need_weights: true, ..Default::default() };
/// let streams = Streams::Apart { query: &query, key: &memory, value: &memory };
/// let output = module.forward(&params, streams, 1, &args, Mode::Evaluate, &mut AttentionTrace::default())?;
/// assert_eq!(output.out.len(), 8);
/// assert!((output.weights.unwrap().iter().sum::<f32>() - 1.0).abs() < 1e-6); // [batch, q_len, k_len]
/// # Ok::<(), posenc_nn::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "AdditivePosMultiheadAttention")]
#[doc(alias = "PositionalAttentionBase")]
pub struct PositionalMultiheadAttention {
    /// Its name in the store; may be empty.
    pub name: String,
    /// The encoding, planned for these widths.
    pub plan: Plan,
    /// The projections, and how scores become weights.
    pub attn: MultiheadAttention,
}

/// Which pairs may attend, or what is added to their scores, with the shape that the numbers have.
#[derive(Clone, Copy, Debug)]
pub enum AttnMask<'a, R> {
    /// `true` blocks a pair (PyTorch's convention).
    Blocked(&'a [bool], &'a [usize]),
    /// Added to the scores; −∞ blocks a pair.
    Additive(&'a [R], &'a [usize]),
}

/// The optional arguments of [`PositionalMultiheadAttention::forward`]; none by default.
#[derive(Clone, Debug)]
pub struct PositionalArgs<'a, R> {
    /// Positions of the queries, `(q_len,)` or `(batch, q_len)`; `0..q_len` if absent. A decoded token needs its own: absent, it stands at 0.
    pub q_positions: Option<Positions>,
    /// Positions of the keys, `(k_len,)` or `(batch, k_len)`; `0..k_len` if absent.
    pub k_positions: Option<Positions>,
    /// True where a query has a position, `(q_len,)` or `(batch, q_len)`. A token without one takes part in attention, but the encoding leaves it
    /// alone and its id is not read.
    pub q_position_mask: Option<&'a [bool]>,
    /// True where a key has a position, `(k_len,)` or `(batch, k_len)`.
    pub k_position_mask: Option<&'a [bool]>,
    /// `[q_len, k_len]`, `[batch·heads, q_len, k_len]` with the batch's rows first, or `[batch, heads, q_len, k_len]` where batch and heads may be 1.
    pub attn_mask: Option<AttnMask<'a, R>>,
    /// Padding among the keys, `[batch, k_len]`.
    pub key_padding_mask: Option<AttnMask<'a, R>>,
    /// Whether the weights are wanted; they cost a second pass.
    pub need_weights: bool,
    /// A query attends to itself and what came before it, by order. The number is the order of the first query among the keys: 0 for a whole sequence
    /// (also where `q_len` and `k_len` differ), the number of cached keys when decoding.
    #[doc(alias = "is_causal")]
    pub causal: Option<usize>,
}

impl<R> Default for PositionalArgs<'_, R> {
    fn default() -> Self {
        PositionalArgs {
            q_positions: None,
            k_positions: None,
            q_position_mask: None,
            k_position_mask: None,
            attn_mask: None,
            key_padding_mask: None,
            need_weights: false,
            causal: None,
        }
    }
}

/// What attention gives.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionalOutput<R> {
    /// `[batch, q_len, embed_dim]`.
    pub out: Vec<R>,
    /// `[batch, q_len, k_len]`, the mean over the heads after dropout, where they were asked for; zeros in a row that attends to nothing.
    pub weights: Option<Vec<R>>,
}

impl PositionalMultiheadAttention {
    /// Any encoding that acts inside attention. Projections are as in `nn.MultiheadAttention`: with biases, begun by Xavier uniform.
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or that the encoding cannot work with.
    pub fn new(encoding: &Encoding, embed_dim: usize, num_heads: usize) -> Result<PositionalMultiheadAttention> {
        let dims = Dims::new(embed_dim, num_heads)?;
        Ok(PositionalMultiheadAttention {
            name: String::new(),
            plan: encoding.plan(dims)?,
            attn: MultiheadAttention::new("attn", embed_dim, dims),
        })
    }

    /// A learned table of `max_len` rows (the largest position plus one), begun with zeros, added to the inputs of queries and keys: [`InputTable`].
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or no rows.
    #[doc(alias = "AdditivePosMultiheadAttention")]
    pub fn additive_pos(embed_dim: usize, num_heads: usize, max_len: usize) -> Result<PositionalMultiheadAttention> {
        PositionalMultiheadAttention::new(&InputTable::new(max_len).into(), embed_dim, num_heads)
    }

    /// The same with its parameters under `name`, as `layers.0.self_attn.pos_emb`.
    pub fn named(mut self, name: impl Into<String>) -> PositionalMultiheadAttention {
        self.name = name.into();
        self.attn.name = if self.name.is_empty() {
            "attn".to_string()
        } else {
            format!("{}.attn", self.name)
        };
        self
    }

    /// The same with dropout of the weights, when training; checked in the forward pass.
    pub fn with_dropout(mut self, dropout: f64) -> PositionalMultiheadAttention {
        self.attn.attention.dropout = dropout;
        self
    }

    /// The same without biases of the projections.
    pub fn without_bias(mut self) -> PositionalMultiheadAttention {
        self.attn.bias = false;
        self
    }

    /// Width of the streams.
    pub fn embed_dim(&self) -> usize {
        self.attn.width
    }

    /// Heads.
    pub fn num_heads(&self) -> usize {
        self.attn.dims.heads
    }

    /// Its parameters, in order: the encoding's, then the projections'.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let plan = self.plan.parameters().iter().map(|spec| spec.clone().prefixed(&self.name));
        plan.chain(self.attn.specs()).collect()
    }

    /// The table of [`PositionalMultiheadAttention::additive_pos`], `[max_len, embed_dim]`.
    ///
    /// # Errors
    /// The encoding has no parameter `pos_emb`, or the store lacks it.
    pub fn pos_emb<'p, R: Number>(&self, params: &'p Params<R>) -> Result<&'p [R]> {
        let missing = || Error::MissingParameter { name: "pos_emb".into() };
        let spec = self
            .plan
            .parameters()
            .iter()
            .find(|spec| spec.name == "pos_emb")
            .ok_or_else(missing)?;
        Ok(params.bound(&self.name, &self.name).get(spec)?)
    }

    /// Attention of `query` `[batch, q_len, embed_dim]` over `key` and `value` `[batch, k_len, embed_dim]`. A query that may attend to nothing gets
    /// zeros before the output projection, so `attn.out_proj.bias` after it.
    ///
    /// # Errors
    /// Shapes that do not fit one another, a position that the encoding has no answer for, an encoding that acts on embeddings, or a parameter that
    /// is missing.
    pub fn forward<R: Number>(
        &self,
        params: &Params<R>,
        streams: Streams<'_, R>,
        batch: usize,
        args: &PositionalArgs<'_, R>,
        mode: Mode,
        trace: &mut AttentionTrace<R>,
    ) -> Result<PositionalOutput<R>> {
        let [q_len, k_len] = self.lengths(&streams, batch)?;
        let call = self.call(params, batch, [q_len, k_len], args)?;
        let heads = self.num_heads();
        let mask = args.mask([batch, heads, q_len, k_len])?;
        let mut out = vec![R::ZERO; batch * q_len * self.embed_dim()];
        let mut by_head = args.need_weights.then(|| vec![R::ZERO; batch * heads * q_len * k_len]);
        self.attn
            .forward(params, &call, streams, &mask, mode, &mut out, by_head.as_deref_mut(), trace)?;
        Ok(PositionalOutput {
            out,
            weights: by_head.map(|w| mean_over_heads(&w, heads, q_len * k_len)),
        })
    }

    /// The adjoint of [`PositionalMultiheadAttention::forward`] with the same arguments and the trace it left: `d_out` `[batch, q_len, embed_dim]` is
    /// the gradient of the output. Overwrites the streams' gradients, adds those of all parameters to `grads`. Nothing flows back from the weights.
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::forward`], of either store.
    pub fn adjoint<R: Number>(
        &self,
        params: &Params<R>,
        streams: Streams<'_, R>,
        batch: usize,
        args: &PositionalArgs<'_, R>,
        mode: Mode,
        d_out: &[R],
        d_streams: StreamGrads<'_, R>,
        grads: &mut Params<R>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let [q_len, k_len] = self.lengths(&streams, batch)?;
        let call = self.call(params, batch, [q_len, k_len], args)?;
        for spec in self.plan.parameters() {
            grads.bound(&self.name, &self.name).get(spec)?;
        }
        let mask = args.mask([batch, self.num_heads(), q_len, k_len])?;
        self.attn
            .adjoint(params, &call, streams, &mask, mode, d_out, d_streams, grads, trace)
    }

    fn lengths<R>(&self, streams: &Streams<'_, R>, batch: usize) -> Result<[usize; 2]> {
        if batch == 0 {
            return Err(Error::Zero { what: "batch" }.into());
        }
        let row = batch.saturating_mul(self.embed_dim());
        let (query, key) = match streams {
            Streams::Same(x) => (x.len(), x.len()),
            Streams::Apart { query, key, .. } => (query.len(), key.len()),
        };
        Ok([
            rows("query [batch, q_len, embed_dim]", query, "batch·embed_dim", row)?,
            rows("key [batch, k_len, embed_dim]", key, "batch·embed_dim", row)?,
        ])
    }

    fn call<'p, R: Number>(
        &self,
        params: &'p Params<R>,
        batch: usize,
        [q_len, k_len]: [usize; 2],
        args: &PositionalArgs<'_, R>,
    ) -> Result<Call<'p, R>> {
        let q_at = positions(
            ["q_positions [batch, q_len]", "q_position_mask [batch, q_len]"],
            args.q_positions.as_ref(),
            args.q_position_mask,
            [batch, q_len],
        )?;
        let k_at = positions(
            ["k_positions [batch, k_len]", "k_position_mask [batch, k_len]"],
            args.k_positions.as_ref(),
            args.k_position_mask,
            [batch, k_len],
        )?;
        let call = self.plan.call(params.bound(&self.name, &self.name), &q_at, &k_at)?;
        if call.adds_at(Site::Embedding) {
            return Err(Error::Unsupported {
                method: "PositionalMultiheadAttention",
                what: "this encoding acts on the token embeddings, before any layer: use Call::embed there",
            }
            .into());
        }
        Ok(call)
    }
}

/// The positions of a stream: absent ones counted from 0, those under a mask taken away.
fn positions(
    [what, what_mask]: [&'static str; 2],
    at: Option<&Positions>,
    mask: Option<&[bool]>,
    [batch, len]: [usize; 2],
) -> Result<Positions> {
    let at = at.cloned().unwrap_or_else(|| Positions::absent(len));
    if at.len() != len || ![1, batch].contains(&at.batch()) {
        return Err(Error::Shape {
            what,
            expected: vec![batch, len],
            given: vec![at.batch(), at.len()],
        }
        .into());
    }
    let Some(mask) = mask else { return Ok(at) };
    if mask.len() != len {
        size(what_mask, mask.len(), &[batch, len])?;
    }
    // A token that had no position before the mask still has none.
    let rows = at.batch().max(if mask.len() == len { 1 } else { batch });
    let flags: Vec<bool> = (0..rows)
        .flat_map(|b| (0..len).map(move |t| (b, t)))
        .map(|(b, t)| mask[(b * len + t) % mask.len()] && at.get(0, b, t).is_some())
        .collect();
    Ok(at.with_presence_rows(&flags, rows)?)
}

impl<R: Number> PositionalArgs<'_, R> {
    fn mask(&self, [batch, heads, q_len, k_len]: [usize; 4]) -> Result<Mask<'_, R>> {
        let mut mask = Mask::none();
        if let Some(first_query) = self.causal {
            mask = mask.causal(first_query);
        }
        if let Some(given) = self.attn_mask {
            let shape = match *given.shape() {
                [q, k] if [q, k] == [q_len, k_len] => [1, 1, q, k],
                [rows, q, k] if [rows, q, k] == [batch * heads, q_len, k_len] => [batch, heads, q, k],
                [b, h, q, k] if [q, k] == [q_len, k_len] && [1, batch].contains(&b) && [1, heads].contains(&h) => [b, h, q, k],
                _ => {
                    return Err(Error::Shape {
                        what: "attn_mask [q_len, k_len], [batch·heads, q_len, k_len] or [batch, heads, q_len, k_len]",
                        expected: vec![batch, heads, q_len, k_len],
                        given: given.shape().to_vec(),
                    }
                    .into());
                }
            };
            mask = given.join(mask, shape)?;
        }
        if let Some(given) = self.key_padding_mask {
            if given.shape() != [batch, k_len] {
                return Err(Error::Shape {
                    what: "key_padding_mask [batch, k_len]",
                    expected: vec![batch, k_len],
                    given: given.shape().to_vec(),
                }
                .into());
            }
            mask = given.join(mask, [batch, 1, 1, k_len])?;
        }
        Ok(mask)
    }
}

impl<'a, R: Number> AttnMask<'a, R> {
    fn shape(&self) -> &'a [usize] {
        match self {
            AttnMask::Blocked(_, shape) | AttnMask::Additive(_, shape) => shape,
        }
    }

    fn join(self, mask: Mask<'a, R>, shape: [usize; 4]) -> Result<Mask<'a, R>> {
        Ok(match self {
            AttnMask::Blocked(data, _) => mask.blocked(Blocked(View::new(data, shape)?)),
            AttnMask::Additive(data, _) => mask.additive(View::new(data, shape)?),
        })
    }
}

/// `[batch, heads, pairs]` to `[batch, pairs]`.
fn mean_over_heads<R: Number>(by_head: &[R], heads: usize, pairs: usize) -> Vec<R> {
    let mut mean = Vec::with_capacity(by_head.len() / heads);
    for row in by_head.chunks_exact((heads * pairs).max(1)) {
        let sum = |i: usize| (0..heads).map(|h| row[h * pairs + i]).sum::<R>();
        mean.extend((0..pairs).map(|i| sum(i) / R::of(heads as f64)));
    }
    mean
}

impl fmt::Display for PositionalMultiheadAttention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PositionalMultiheadAttention(embed_dim {}, num_heads {}",
            self.embed_dim(),
            self.num_heads()
        )?;
        if !self.attn.bias {
            write!(f, ", no bias")?;
        }
        if self.attn.attention.dropout > 0.0 {
            write!(f, ", dropout {}", self.attn.attention.dropout)?;
        }
        write!(f, ", {})", self.plan.encoding())
    }
}
