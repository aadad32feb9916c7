//! Multi-head attention that owns its encoding: streams and positions in, output and weights out.

mod args;
mod constructors;
mod decode;

pub(crate) use args::positions;
pub use args::{AttnMask, PositionalArgs};
pub use decode::DecodeArgs;

use crate::attention::{AttentionTrace, MultiheadAttention, Projections, StreamGrads, Streams};
use crate::error::Result;
use crate::number::Number;
use crate::shape::{join, rows};
use crate::storage::Storage;
use posenc::{
    Attention, Call, Dims, Encoding, Error, LayerSpec, Mode, ParamSpec, Params, Plan, Positions, Real, Rng, Site, Steps, Temperature,
};
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
/// `attn.out_proj.weight`, `attn.out_proj.bias`, as PyTorch lays them out, or a layer for each projection
/// ([`PositionalMultiheadAttention::with_projections`]). The module owns the plan's parameters of either scope; a model whose
/// layers share a table uses [`MultiheadAttention`] with a [`Call`] of its own.
///
/// `dtype`: parameters and streams may be stored in f32, f64, f16 or bf16 ([`Storage`]); arithmetic, additive masks and gradients of parameters are in
/// f32, or f64 for f64. `device`: this is the CPU. On another device the same encodings run through the adapters of tensor frameworks, which read the
/// same [`LayerSpec`].
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
#[doc(alias = "PositionalAttentionBase")]
pub struct PositionalMultiheadAttention {
    /// Its name in the store; may be empty.
    pub name: String,
    /// The encoding, planned for these widths.
    pub plan: Plan,
    /// The projections, and how scores become weights.
    pub attn: MultiheadAttention,
}

/// What attention gives.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionalOutput<R> {
    /// `[batch, q_len, embed_dim]`.
    pub out: Vec<R>,
    /// After dropout, where they were asked for: `[batch, q_len, k_len]`, the mean over the heads, or `[batch, heads, q_len, k_len]`. Zeros in a row that
    /// attends to nothing.
    pub weights: Option<Vec<R>>,
}

impl PositionalMultiheadAttention {
    /// Any encoding that acts inside attention. Projections are as in `nn.MultiheadAttention`: with biases, begun by Xavier uniform.
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or that the encoding cannot work with.
    pub fn new(encoding: &Encoding, embed_dim: usize, num_heads: usize) -> Result<PositionalMultiheadAttention> {
        let layer = LayerSpec {
            encoding: encoding.clone(),
            attention: Attention::default(),
        };
        PositionalMultiheadAttention::of_layer(&layer, Dims::new(embed_dim, num_heads)?)
    }

    /// A layer as its [`LayerSpec`] says: encoding, scale, soft cap, window, sinks, dropout; key heads and widths as `dims` says.
    ///
    /// ```
    /// use posenc::{Attention, Dims, LayerSpec, Pairing, Rotary, Window};
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let mistral = LayerSpec {
    ///     encoding: Rotary::new(Pairing::Halves).into(),
    ///     attention: Attention { window: Some(Window::last(4096)?), ..Attention::default() },
    /// };
    /// let dims = Dims { model_dim: 64, heads: 8, kv_heads: 2, head_dim: 8 };
    /// let layer = PositionalMultiheadAttention::of_layer(&mistral, dims)?.without_bias();
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or that the encoding cannot work with; a setting out of range.
    pub fn of_layer(layer: &LayerSpec, dims: Dims) -> Result<PositionalMultiheadAttention> {
        let dims = dims.checked()?;
        layer.attention.check()?;
        let plan = layer.encoding.plan(dims)?;
        let mut attn = MultiheadAttention::new("attn", dims.model_dim, dims).for_plan(&plan);
        attn.attention = layer.attention.clone();
        Ok(PositionalMultiheadAttention {
            name: String::new(),
            plan,
            attn,
        })
    }

    /// The same with its parameters under `name`, as `layers.0.self_attn.pos_emb`.
    pub fn named(mut self, name: impl Into<String>) -> PositionalMultiheadAttention {
        let beside = self.attn.name == self.name;
        self.name = name.into();
        self.attn.name = if beside { self.name.clone() } else { join(&self.name, "attn") };
        self
    }

    /// The same with its projections right under its name, where `nn.MultiheadAttention` has them: `self_attn.in_proj_weight` instead of symm-learning's
    /// `self_attn.attn.in_proj_weight`.
    ///
    /// ```
    /// use posenc::Encoding;
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let module = PositionalMultiheadAttention::new(&Encoding::none(), 8, 2)?.with_pytorch_names().named("layers.0.self_attn");
    /// assert_eq!(module.specs()[0].name, "layers.0.self_attn.in_proj_weight");
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    pub fn with_pytorch_names(mut self) -> PositionalMultiheadAttention {
        self.attn.name = self.name.clone();
        self
    }

    /// The same with its projections' weights kept like this. Fused ones lie under `attn`, as in symm-learning's modules; separate ones beside the
    /// encoding's own parameters.
    pub fn with_projections(mut self, projections: Projections) -> PositionalMultiheadAttention {
        self.attn.projections = projections;
        self.attn.name = match projections {
            Projections::Fused => join(&self.name, "attn"),
            Projections::Separate(_) => self.name.clone(),
        };
        self
    }

    /// The same with another way from scores to weights; checked in the forward pass.
    pub fn with_attention(mut self, attention: Attention) -> PositionalMultiheadAttention {
        self.attn.attention = attention;
        self
    }

    /// The same with dropout of the weights, when training; checked in the forward pass.
    pub fn with_dropout(mut self, dropout: f64) -> PositionalMultiheadAttention {
        self.attn.attention.dropout = dropout;
        self
    }

    /// The same with an RMS norm of each head's queries and keys, before the encoding acts on them.
    pub fn with_qk_norm(mut self, eps: f64) -> PositionalMultiheadAttention {
        self.attn.qk_norm = Some(eps);
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

    /// Every parameter of the module back to its initial value for this seed, the encoding's and the projections' alike; the store's others stay.
    ///
    /// # Errors
    /// A parameter is missing from the store, or has another shape.
    pub fn reset_parameters<T: Storage<Real: Number>>(&self, params: &mut Params<T>, seed: u64) -> Result<()> {
        let specs = self.specs();
        for spec in &specs {
            params.bound("", "").get(spec)?;
        }
        for spec in &specs {
            let values = params.get_mut(&spec.name)?;
            spec.init.fill(&spec.shape, &mut Rng::named(seed, &spec.name), values);
        }
        Ok(())
    }

    /// The table of [`PositionalMultiheadAttention::additive_pos`], `[max_len, embed_dim]`.
    ///
    /// # Errors
    /// The encoding has no parameter `pos_emb`, or the store lacks it.
    pub fn pos_emb<'p, T: Storage>(&self, params: &'p Params<T>) -> Result<&'p [T]> {
        self.encoding_parameter("pos_emb", params)
    }

    /// The table of [`PositionalMultiheadAttention::additive_rel`], `[2·max_distance + 1]`.
    ///
    /// # Errors
    /// The encoding has no parameter `rel_bias`, or the store lacks it.
    pub fn rel_bias<'p, T: Storage>(&self, params: &'p Params<T>) -> Result<&'p [T]> {
        self.encoding_parameter("rel_bias", params)
    }

    fn encoding_parameter<'p, T: Storage>(&self, name: &str, params: &'p Params<T>) -> Result<&'p [T]> {
        let own = self.plan.parameters().iter().find(|spec| spec.name == name);
        let spec = own.ok_or_else(|| Error::MissingParameter { name: name.to_string() })?;
        Ok(params.bound(&self.name, &self.name).get(spec)?)
    }

    /// Attention of `query` `[batch, q_len, embed_dim]` over `key` and `value` `[batch, k_len, embed_dim]`. A query that may attend to nothing gets
    /// zeros before the output projection, so `attn.out_proj.bias` after it.
    ///
    /// # Errors
    /// Shapes that do not fit one another, a position that the encoding has no answer for, an encoding that acts on embeddings, or a parameter that
    /// is missing.
    pub fn forward<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        streams: Streams<'_, T>,
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        trace: &mut AttentionTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        let lengths @ [q_len, k_len] = self.lengths(&streams, batch)?;
        let params = T::parameters(params, &self.specs())?;
        let call = self.call_for(&params, batch, lengths, args)?;
        let mask = args.mask([batch, self.num_heads(), q_len, k_len])?;
        let wide = streams.map(T::widened);
        self.weighed(
            [batch, q_len, k_len],
            args.need_weights,
            args.average_attn_weights,
            |out, weights| self.attn.forward(&params, &call, wide.streams(), &mask, mode, out, weights, trace),
        )
    }

    /// The adjoint of [`PositionalMultiheadAttention::forward`] with the same arguments and the trace it left: `d_out` `[batch, q_len, embed_dim]` is
    /// the gradient of the output. Overwrites the streams' gradients, adds those of all parameters to `grads`, which is in the precision of the
    /// arithmetic. Nothing flows back from the weights.
    ///
    /// # Errors
    /// As [`PositionalMultiheadAttention::forward`], of either store.
    pub fn adjoint<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        streams: Streams<'_, T>,
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        d_out: &[T],
        d_streams: StreamGrads<'_, T>,
        grads: &mut Params<T::Real>,
        trace: &mut AttentionTrace<T::Real>,
    ) -> Result<()> {
        let lengths @ [q_len, k_len] = self.lengths(&streams, batch)?;
        let params = T::parameters(params, &self.specs())?;
        let call = self.call_for(&params, batch, lengths, args)?;
        for spec in self.plan.parameters() {
            grads.bound(&self.name, &self.name).get(spec)?;
        }
        let mask = args.mask([batch, self.num_heads(), q_len, k_len])?;
        let (wide, d_out) = (streams.map(T::widened), T::widened(d_out));
        T::gradients(d_streams, |d_streams| {
            self.attn
                .adjoint(&params, &call, wide.streams(), &mask, mode, &d_out, d_streams, grads, trace)
        })
    }

    /// Makes room for outputs and weights, lets `run` write them, and stores them.
    fn weighed<T: Storage<Real: Number>>(
        &self,
        [batch, q_len, k_len]: [usize; 3],
        need_weights: bool,
        average: bool,
        run: impl FnOnce(&mut [T::Real], Option<&mut [T::Real]>) -> Result<()>,
    ) -> Result<PositionalOutput<T>> {
        let heads = self.num_heads();
        let mut out = vec![T::Real::ZERO; batch * q_len * self.embed_dim()];
        let mut weights = need_weights.then(|| vec![T::Real::ZERO; batch * heads * q_len * k_len]);
        run(&mut out, weights.as_deref_mut())?;
        let of_heads = |weights: Vec<T::Real>| {
            if average {
                mean_over_heads(&weights, heads, q_len * k_len)
            } else {
                weights
            }
        };
        Ok(PositionalOutput {
            out: T::narrowed(out),
            weights: weights.map(|weights| T::narrowed(of_heads(weights))),
        })
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

    pub(crate) fn call_for<'p, R: Number>(
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
        self.call(params, &q_at, &k_at)
    }

    fn call<'p, R: Number>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        self.inside(self.plan.call(params.bound(&self.name, &self.name), q_at, k_at)?)
    }

    /// The same, taking over what the step before resolved.
    fn step<'p, R: Number>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions, steps: &mut Steps<R>) -> Result<Call<'p, R>> {
        self.inside(self.plan.step(steps, params.bound(&self.name, &self.name), q_at, k_at)?)
    }

    /// The call, if it acts inside attention alone.
    fn inside<'p, R: Number>(&self, call: Call<'p, R>) -> Result<Call<'p, R>> {
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

/// `[batch, heads, pairs]` to `[batch, pairs]`.
pub(crate) fn mean_over_heads<R: Number>(by_head: &[R], heads: usize, pairs: usize) -> Vec<R> {
    let mut mean = Vec::with_capacity(by_head.len() / heads);
    for row in by_head.chunks_exact((heads * pairs).max(1)) {
        let sum = |i: usize| (0..heads).map(|h| row[h * pairs + i]).sum::<R>();
        mean.extend((0..pairs).map(|i| sum(i) / R::of(heads as f64)));
    }
    mean
}

/// Its settings, its encoding, and its parameters with their shapes.
impl fmt::Display for PositionalMultiheadAttention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PositionalMultiheadAttention(embed_dim {}, num_heads {}",
            self.embed_dim(),
            self.num_heads()
        )?;
        let Dims { heads, kv_heads, .. } = self.attn.dims;
        if kv_heads != heads {
            write!(f, ", {kv_heads} key heads")?;
        }
        if !self.attn.bias {
            write!(f, ", no bias")?;
        }
        if self.attn.qk_norm.is_some() {
            write!(f, ", QK norm")?;
        }
        let Attention {
            scale,
            softcap,
            window,
            chunk,
            temperature,
            sinks,
            dropout,
        } = &self.attn.attention;
        for (name, value) in [("scale", scale), ("softcap", softcap)] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(window) = window {
            let side = |keys: Option<usize>| keys.map_or_else(|| "all".to_string(), |keys| keys.to_string());
            write!(f, ", window {} back and {} ahead", side(window.left), side(window.right))?;
        }
        if let Some(chunk) = chunk {
            write!(f, ", chunks of {chunk}")?;
        }
        match temperature {
            Some(Temperature::Steps { scale, length, .. }) => write!(f, ", queries grow by {scale}·ln every {length} tokens")?,
            Some(Temperature::Smooth { scale, length }) => write!(f, ", queries grow by {scale}·ln after {length} tokens")?,
            None => {}
        }
        if *sinks {
            write!(f, ", sinks")?;
        }
        if *dropout > 0.0 {
            write!(f, ", dropout {dropout}")?;
        }
        write!(f, ", {}", self.plan.encoding())?;
        for (i, spec) in self.specs().iter().enumerate() {
            write!(f, "{} {} {:?}", if i == 0 { ";" } else { "," }, spec.name, spec.shape)?;
        }
        write!(f, ")")
    }
}
