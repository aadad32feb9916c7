//! Multi-head latent attention with its decoupled rotary part (DeepSeek-AI 2024, *DeepSeek-V2*, arXiv 2405.04434, section 2.1).

use crate::error::Result;
use crate::linear::Linear;
use crate::number::Number;
use crate::positional::{PositionalArgs, PositionalOutput, mean_over_heads, positions};
use crate::rms_norm::RmsNorm;
use crate::shape::{join, rows, size};
use crate::storage::{Storage, stored_gradient};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::{Attention, Call, Dims, Encoding, Error, Mask, Mode, ParamSpec, Params, Plan, Rotary, View, ViewMut};

/// The widths of latent attention, by their names in configuration files. DeepSeek-V3 has 7168, 128 heads, 1536, 512, 128, 64 and 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentDims {
    /// Width of the stream.
    pub hidden_size: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the queries' latent; `None`: queries come from the stream directly (DeepSeek-V2-Lite).
    pub q_lora_rank: Option<usize>,
    /// Width of the latent that keys and values share.
    pub kv_lora_rank: usize,
    /// Coordinates of a head that carry no position.
    pub qk_nope_head_dim: usize,
    /// Coordinates of a head that turn.
    pub qk_rope_head_dim: usize,
    /// Width of a head's values.
    pub v_head_dim: usize,
}

/// Attention whose keys and values of all heads come from one narrow latent per token, and whose positions act on coordinates of their own:
/// ```text
/// q           = q_proj(x)   or   q_b_proj(norm(q_a_proj(x)))              per head [nope | rope]
/// [c | r]     = kv_a_proj_with_mqa(x)                                     the latent, and one rotary key for all heads
/// [k_nope | v] = kv_b_proj(norm(c))                                       per head
/// score(i, j) = (q_nope_i·k_nope_j + R(p_i) q_rope_i · R(p_j) r_j) · (nope + rope)^(−1/2)
/// ```
/// then the softmax, the sum of values and `o_proj`. The rotation turns only what is called rope: the latent may be expanded into keys before or after it, which is what
/// makes it decoupled.
///
/// Shapes: the stream is `[batch, len, hidden_size]`, queries and keys `[batch, heads, len, rope + nope]`, values `[batch, heads, len, v_head_dim]`. Inside a head the
/// rotary part lies first here and last in the checkpoints; as long as queries and keys agree, no product sees the difference, and what the core is given is an
/// ordinary [`Rotary`] over the first coordinates.
///
/// Parameters, as in Hugging Face's `modeling_deepseek_v3.py`, under `name` if it is not empty: `q_proj.weight` `[heads·(nope + rope), hidden_size]`, or `q_a_proj.weight`
/// `[q_lora_rank, hidden_size]`, `q_a_layernorm.weight`, `q_b_proj.weight`; `kv_a_proj_with_mqa.weight` `[kv_lora_rank + rope, hidden_size]`, `kv_a_layernorm.weight`,
/// `kv_b_proj.weight` `[heads·(nope + v_head_dim), kv_lora_rank]`, `o_proj.weight` `[hidden_size, heads·v_head_dim]`; with [`MultiheadLatentAttention::with_bias`] (`attention_bias`)
/// biases of `q_a_proj`, `kv_a_proj_with_mqa` and `o_proj`.
///
/// Conventions: the pairing is an argument ([`posenc::Pairing`]). DeepSeek's checkpoints pair neighbours: `rope_interleave` in the configuration of V3, complex numbers in V2.
/// It has no cache: a decoded token is read with the whole text before it.
/// The norms' ε is 1e-6 whatever the configuration's `rms_norm_eps` says, as upstream. With YaRN upstream multiplies the scale by the square of
/// [`yarn_magnitude`](posenc::rotate::yarn_magnitude) at `mscale_all_dim`: set [`Attention::scale`].
///
/// ```
/// use posenc::{Mode, Pairing, Params, Positions, Rotary};
/// use posenc_nn::{LatentDims, LatentTrace, MultiheadLatentAttention, PositionalArgs};
/// let dims = LatentDims {
///     hidden_size: 16,
///     num_attention_heads: 2,
///     q_lora_rank: Some(6),
///     kv_lora_rank: 8,
///     qk_nope_head_dim: 4,
///     qk_rope_head_dim: 2,
///     v_head_dim: 5,
/// };
/// let module = MultiheadLatentAttention::new(dims, Rotary::new(Pairing::Interleaved))?.named("layers.0.self_attn");
/// let params: Params<f32> = Params::init(&module.specs(), 1)?;
/// let x = [0.5; 3 * 16]; // [batch, len, hidden_size]
/// let args = PositionalArgs { q_positions: Some(Positions::range(7..10)), causal: Some(0), ..Default::default() };
/// let output = module.forward(&params, &x, 1, &args, Mode::Evaluate, &mut LatentTrace::default())?;
/// assert_eq!(output.out.len(), x.len());
/// # Ok::<(), posenc_nn::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "MLA")]
#[doc(alias = "DeepseekV3Attention")]
#[doc(alias = "DeepseekV2Attention")]
pub struct MultiheadLatentAttention {
    /// Its name in the store; may be empty.
    pub name: String,
    /// Whether `q_a_proj`, `kv_a_proj_with_mqa` and `o_proj` add biases.
    #[doc(alias = "attention_bias")]
    pub bias: bool,
    /// ε of the latents' norms.
    pub eps: f64,
    /// Scale, window, dropout of the weights; no sinks.
    pub attention: Attention,
    dims: LatentDims,
    /// The rotation of heads of `rope + nope`.
    plan: Plan,
}

/// What a forward pass keeps for its adjoint, and scratch memory of both; reused from step to step.
#[derive(Debug)]
pub struct LatentTrace<R> {
    /// The queries' latent and its norm; empty where there is none.
    q_latent: [Vec<R>; 2],
    /// Latent of keys and values with the rotary key, `[batch, len, kv_lora_rank + rope]`; the latent alone; its norm.
    kv_a: Vec<R>,
    kv_latent: [Vec<R>; 2],
    /// `[batch, len, heads, rope + nope]`.
    q: Vec<R>,
    k: Vec<R>,
    /// `[batch, len, heads, nope + v_head_dim]`.
    kv: Vec<R>,
    /// `[batch, len, heads, v_head_dim]`.
    context: Vec<R>,
    saved: Saved<R>,
    work: Workspace<R>,
}

impl<R: Number> Default for LatentTrace<R> {
    fn default() -> Self {
        LatentTrace {
            q_latent: Default::default(),
            kv_a: Vec::new(),
            kv_latent: Default::default(),
            q: Vec::new(),
            k: Vec::new(),
            kv: Vec::new(),
            context: Vec::new(),
            saved: Saved::default(),
            work: Workspace::default(),
        }
    }
}

impl MultiheadLatentAttention {
    /// Without biases; weights begin from N(0, 0.02), as DeepSeek's.
    ///
    /// # Errors
    /// A width of zero, an odd rotary part, or a `rotary_dim` other than the rotary part.
    pub fn new(dims: LatentDims, rotary: Rotary) -> Result<MultiheadLatentAttention> {
        for (what, width) in [
            ("q_lora_rank", dims.q_lora_rank.unwrap_or(1)),
            ("kv_lora_rank", dims.kv_lora_rank),
            ("qk_nope_head_dim", dims.qk_nope_head_dim),
            ("qk_rope_head_dim", dims.qk_rope_head_dim),
            ("v_head_dim", dims.v_head_dim),
        ] {
            if width == 0 {
                return Err(Error::Zero { what }.into());
            }
        }
        if rotary.rotary_dim.is_some_and(|r| r != dims.qk_rope_head_dim) {
            return Err(Error::Invalid {
                what: "rotary_dim",
                given: format!("{:?}", rotary.rotary_dim),
                expected: "qk_rope_head_dim, or none",
            }
            .into());
        }
        let widths = Dims {
            model_dim: dims.hidden_size,
            heads: dims.num_attention_heads,
            kv_heads: dims.num_attention_heads,
            head_dim: dims.qk_nope_head_dim.saturating_add(dims.qk_rope_head_dim),
        };
        // Every width that is a sum or a product of these is one.
        let product = |a: usize, b: usize| a.checked_add(b)?.checked_mul(dims.num_attention_heads);
        let nope = dims.qk_nope_head_dim;
        let widest = [product(nope, dims.qk_rope_head_dim), product(nope, dims.v_head_dim)];
        if widest.contains(&None) || dims.kv_lora_rank.checked_add(dims.qk_rope_head_dim).is_none() {
            return Err(Error::Invalid {
                what: "widths of latent attention",
                given: format!("{dims:?}"),
                expected: "widths whose products memory can hold",
            }
            .into());
        }
        let rotary = rotary.with_rotary_dim(dims.qk_rope_head_dim);
        Ok(MultiheadLatentAttention {
            name: String::new(),
            bias: false,
            eps: 1e-6,
            attention: Attention::default(),
            dims,
            plan: Encoding::from(rotary).plan(widths.checked()?)?,
        })
    }

    /// The same with its parameters under `name`, as `model.layers.0.self_attn`.
    pub fn named(self, name: impl Into<String>) -> MultiheadLatentAttention {
        MultiheadLatentAttention { name: name.into(), ..self }
    }

    /// The same with biases of `q_a_proj`, `kv_a_proj_with_mqa` and `o_proj`.
    pub fn with_bias(self) -> MultiheadLatentAttention {
        MultiheadLatentAttention { bias: true, ..self }
    }

    /// The same with another way from scores to weights; checked in the forward pass.
    pub fn with_attention(self, attention: Attention) -> MultiheadLatentAttention {
        MultiheadLatentAttention { attention, ..self }
    }

    /// Its widths.
    pub fn dims(&self) -> LatentDims {
        self.dims
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = match self.q_latent() {
            None => self.q_proj().specs(),
            Some((down, norm)) => [down.specs(), norm.specs(), self.q_proj().specs()].concat(),
        };
        let (down, norm) = self.kv_latent();
        specs.extend([down.specs(), norm.specs(), self.kv_b_proj().specs(), self.o_proj().specs()].concat());
        specs
    }

    fn linear(&self, name: &str, from: usize, to: usize, bias: bool) -> Linear {
        let linear = Linear::new(join(&self.name, name), from, to);
        if bias { linear } else { linear.without_bias() }
    }

    fn norm(&self, name: &str, dim: usize) -> RmsNorm {
        RmsNorm {
            name: join(&self.name, name),
            dim,
            eps: self.eps,
        }
    }

    /// Down to the queries' latent, if there is one, and its norm.
    fn q_latent(&self) -> Option<(Linear, RmsNorm)> {
        let LatentDims {
            hidden_size, q_lora_rank, ..
        } = self.dims;
        let of = |rank| {
            let down = self.linear("q_a_proj", hidden_size, rank, self.bias);
            (down, self.norm("q_a_layernorm", rank))
        };
        q_lora_rank.map(of)
    }

    /// From the stream or its latent to the queries.
    fn q_proj(&self) -> Linear {
        let to = self.dims.num_attention_heads * self.dims.qk_head_dim();
        match self.dims.q_lora_rank {
            None => self.linear("q_proj", self.dims.hidden_size, to, false),
            Some(rank) => self.linear("q_b_proj", rank, to, false),
        }
    }

    /// Down to the latent of keys and values, beside it the rotary key; and the latent's norm.
    fn kv_latent(&self) -> (Linear, RmsNorm) {
        let LatentDims {
            hidden_size,
            kv_lora_rank,
            qk_rope_head_dim,
            ..
        } = self.dims;
        let down = self.linear("kv_a_proj_with_mqa", hidden_size, kv_lora_rank + qk_rope_head_dim, self.bias);
        (down, self.norm("kv_a_layernorm", kv_lora_rank))
    }

    fn kv_b_proj(&self) -> Linear {
        let to = self.dims.num_attention_heads * self.dims.expanded();
        self.linear("kv_b_proj", self.dims.kv_lora_rank, to, false)
    }

    fn o_proj(&self) -> Linear {
        let from = self.dims.num_attention_heads * self.dims.v_head_dim;
        self.linear("o_proj", from, self.dims.hidden_size, self.bias)
    }

    /// Attention of `x` `[batch, len, hidden_size]` over itself. Positions and their mask are those of the queries among `args`; the keys are the same tokens, so there are
    /// none of theirs to give. A token without a position takes part and is not turned.
    ///
    /// # Errors
    /// Shapes that do not fit, positions or a position mask of keys, a parameter that is missing, a setting out of range.
    pub fn forward<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        x: &[T],
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        trace: &mut LatentTrace<T::Real>,
    ) -> Result<PositionalOutput<T>> {
        let len = self.len(x.len(), batch)?;
        let params = T::parameters(params, &self.specs())?;
        let (call, mask) = self.call(&params, [batch, len], args)?;
        self.project(&params, &T::widened(x), trace)?;
        let (heads, v_dim) = (self.dims.num_attention_heads, self.dims.v_head_dim);
        let LatentTrace {
            q,
            k,
            kv,
            context,
            saved,
            work,
            ..
        } = trace;
        context.resize(batch * len * heads * v_dim, T::Real::default());
        let mut weights = args.need_weights.then(|| vec![T::Real::default(); batch * heads * len * len]);
        let inputs = self.inputs([q, k, kv], [batch, len])?;
        // The weights are made in a pass of their own, so that the output has the same bits with and without them.
        if let Some(weights) = &mut weights {
            let outputs = Outputs {
                out: ViewMut::new(context, [batch, len, heads, v_dim])?.swap(1, 2)?,
                saved: None,
                weights: Some(ViewMut::new(weights, [batch, heads, len, len])?),
            };
            self.attention.forward(&call, inputs, &mask, mode, outputs, work)?;
        }
        let outputs = Outputs {
            out: ViewMut::new(context, [batch, len, heads, v_dim])?.swap(1, 2)?,
            saved: Some(saved),
            weights: None,
        };
        self.attention.forward(&call, inputs, &mask, mode, outputs, work)?;
        let mut out = vec![T::Real::default(); x.len()];
        self.o_proj().forward(&params, context, &mut out)?;
        if args.average_attn_weights {
            weights = weights.map(|weights| mean_over_heads(&weights, heads, len * len));
        }
        Ok(PositionalOutput {
            out: T::narrowed(out),
            weights: weights.map(T::narrowed),
        })
    }

    /// The adjoint of [`MultiheadLatentAttention::forward`] with the same arguments and the trace it left: `d_out` `[batch, len, hidden_size]` is the gradient of the
    /// output. Overwrites `dx`, adds the gradients of all parameters to `grads`, which is in the precision of the arithmetic.
    ///
    /// # Errors
    /// As [`MultiheadLatentAttention::forward`], of either store, or a trace of another call.
    pub fn adjoint<T: Storage<Real: Number>>(
        &self,
        params: &Params<T>,
        x: &[T],
        batch: usize,
        args: &PositionalArgs<'_, T::Real>,
        mode: Mode,
        d_out: &[T],
        dx: &mut [T],
        grads: &mut Params<T::Real>,
        trace: &mut LatentTrace<T::Real>,
    ) -> Result<()> {
        let len = self.len(x.len(), batch)?;
        size("d_out [batch, len, hidden_size]", d_out.len(), &[x.len()])?;
        size("dx [batch, len, hidden_size]", dx.len(), &[x.len()])?;
        for spec in self.specs() {
            grads.bound("", "").get(&spec)?;
        }
        let (heads, v_dim) = (self.dims.num_attention_heads, self.dims.v_head_dim);
        let kept = "trace of a forward pass over as many tokens [batch, len, heads, v_head_dim]";
        size(kept, trace.context.len(), &[batch, len, heads, v_dim])?;
        let params = T::parameters(params, &self.specs())?;
        let (call, mask) = self.call(&params, [batch, len], args)?;
        let x = T::widened(x);
        stored_gradient(dx, |dx| {
            self.attention_adjoint(&params, &x, [batch, len], &call, &mask, mode, &T::widened(d_out), dx, grads, trace)
        })
    }

    fn attention_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        [batch, len]: [usize; 2],
        call: &Call<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        d_out: &[R],
        dx: &mut [R],
        grads: &mut Params<R>,
        trace: &mut LatentTrace<R>,
    ) -> Result<()> {
        let LatentTrace {
            q,
            k,
            kv,
            context,
            saved,
            work,
            ..
        } = trace;
        let (heads, nope, v_dim) = (self.dims.num_attention_heads, self.dims.qk_nope_head_dim, self.dims.v_head_dim);
        let head_dim = self.dims.qk_head_dim();
        let [mut dq, mut dk, mut d_kv] = [&*q, &*k, &*kv].map(|x| vec![R::ZERO; x.len()]);
        let mut d_context = vec![R::ZERO; context.len()];
        self.o_proj().adjoint(params, context, d_out, Some(&mut d_context), grads)?;
        // Values and the keys' halves without positions share rows of `d_kv`: the values' gradients go there at once.
        let [_, values] = self.value_strides(batch, len);
        let shape = [batch, heads, len, v_dim];
        let into = Grads {
            dq: ViewMut::new(&mut dq, [batch, len, heads, head_dim])?.swap(1, 2)?,
            dk: ViewMut::new(&mut dk, [batch, len, heads, head_dim])?.swap(1, 2)?,
            dv: ViewMut::strided(d_kv.get_mut(nope..).unwrap_or_default(), shape, values)?,
        };
        let contexts = |x| View::new(x, [batch, len, heads, v_dim])?.swap(1, 2);
        self.attention.adjoint(
            call,
            self.inputs([q, k, kv], [batch, len])?,
            mask,
            mode,
            contexts(&*context)?,
            contexts(&d_context)?,
            saved,
            into,
            // A rotation has nothing to learn.
            &mut Slots::default(),
            work,
        )?;
        self.project_adjoint(params, x, [dq, dk, d_kv], dx, grads, trace)
    }

    /// Queries, keys with their rotary part first, and values, into the trace.
    fn project<R: Number>(&self, params: &Params<R>, x: &[R], trace: &mut LatentTrace<R>) -> Result<()> {
        let LatentTrace {
            q_latent: [q_a, q_normed],
            kv_a,
            kv_latent: [latent, normed],
            q,
            k,
            kv,
            ..
        } = trace;
        let LatentDims {
            num_attention_heads: heads,
            kv_lora_rank,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            ..
        } = self.dims;
        let (n, head_dim) = (x.len() / self.dims.hidden_size, self.dims.qk_head_dim());
        let q_input = match self.q_latent() {
            None => x,
            Some((down, norm)) => {
                q_a.resize(n * norm.dim, R::ZERO);
                q_normed.resize(n * norm.dim, R::ZERO);
                down.forward(params, x, q_a)?;
                norm.forward(params, q_a, q_normed)?;
                q_normed
            }
        };
        q.resize(n * heads * head_dim, R::ZERO);
        self.q_proj().forward(params, q_input, q)?;
        q.chunks_exact_mut(head_dim).for_each(|head| head.rotate_left(nope));

        let (down, norm) = self.kv_latent();
        kv_a.resize(n * down.out_dim, R::ZERO);
        down.forward(params, x, kv_a)?;
        latent.clear();
        latent.extend(kv_a.chunks_exact(down.out_dim).flat_map(|token| &token[..kv_lora_rank]));
        normed.resize(latent.len(), R::ZERO);
        norm.forward(params, latent, normed)?;
        kv.resize(n * heads * self.dims.expanded(), R::ZERO);
        self.kv_b_proj().forward(params, normed, kv)?;
        k.resize(n * heads * head_dim, R::ZERO);
        for (i, (key, expanded)) in k.chunks_exact_mut(head_dim).zip(kv.chunks_exact(self.dims.expanded())).enumerate() {
            let rotary = &kv_a[i / heads * down.out_dim + kv_lora_rank..][..rope];
            key[..rope].copy_from_slice(rotary);
            key[rope..].copy_from_slice(&expanded[..nope]);
        }
        Ok(())
    }

    /// The adjoint of [`MultiheadLatentAttention::project`]; the gradients of the values are already in `d_kv`. Overwrites `dx`.
    fn project_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        [mut dq, dk, mut d_kv]: [Vec<R>; 3],
        dx: &mut [R],
        grads: &mut Params<R>,
        trace: &LatentTrace<R>,
    ) -> Result<()> {
        let LatentDims {
            num_attention_heads: heads,
            kv_lora_rank,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            ..
        } = self.dims;
        let head_dim = self.dims.qk_head_dim();
        let (down, norm) = self.kv_latent();
        let [latent, normed] = &trace.kv_latent;
        let mut d_kv_a = vec![R::ZERO; trace.kv_a.len()];
        for (i, (key, expanded)) in dk
            .chunks_exact(head_dim)
            .zip(d_kv.chunks_exact_mut(self.dims.expanded()))
            .enumerate()
        {
            expanded[..nope].copy_from_slice(&key[rope..]);
            let rotary = &mut d_kv_a[i / heads * down.out_dim + kv_lora_rank..][..rope];
            rotary.iter_mut().zip(key).for_each(|(sum, d)| *sum += *d);
        }
        let mut d_latent = vec![R::ZERO; normed.len()];
        self.kv_b_proj().adjoint(params, normed, &d_kv, Some(&mut d_latent), grads)?;
        norm.adjoint(params, latent, &mut d_latent, grads)?;
        let tokens = d_kv_a.chunks_exact_mut(down.out_dim);
        for (token, d) in tokens.zip(d_latent.chunks_exact(kv_lora_rank)) {
            token[..kv_lora_rank].copy_from_slice(d);
        }
        down.adjoint(params, x, &d_kv_a, Some(dx), grads)?;

        dq.chunks_exact_mut(head_dim).for_each(|head| head.rotate_right(nope));
        let mut d_by_q = vec![R::ZERO; x.len()];
        match self.q_latent() {
            None => self.q_proj().adjoint(params, x, &dq, Some(&mut d_by_q), grads)?,
            Some((down, norm)) => {
                let [q_a, q_normed] = &trace.q_latent;
                let mut d = vec![R::ZERO; q_normed.len()];
                self.q_proj().adjoint(params, q_normed, &dq, Some(&mut d), grads)?;
                norm.adjoint(params, q_a, &mut d, grads)?;
                down.adjoint(params, x, &d, Some(&mut d_by_q), grads)?;
            }
        }
        dx.iter_mut().zip(&d_by_q).for_each(|(sum, d)| *sum += *d);
        Ok(())
    }

    /// Queries, keys and values as attention reads them.
    fn inputs<'a, R: Number>(&self, [q, k, kv]: [&'a [R]; 3], [batch, len]: [usize; 2]) -> Result<Inputs<'a, R>> {
        let (heads, head_dim) = (self.dims.num_attention_heads, self.dims.qk_head_dim());
        let of = |x| View::new(x, [batch, len, heads, head_dim])?.swap(1, 2);
        let [shape, strides] = self.value_strides(batch, len);
        let values = kv.get(self.dims.qk_nope_head_dim..).unwrap_or_default();
        Ok(Inputs::new(of(q)?, of(k)?, View::strided(values, shape, strides)?))
    }

    /// Shape and strides of the values, from the first of them in `[batch, len, heads, nope + v_head_dim]`.
    fn value_strides(&self, batch: usize, len: usize) -> [[usize; 4]; 2] {
        let (heads, expanded) = (self.dims.num_attention_heads, self.dims.expanded());
        let token = heads * expanded;
        [[batch, heads, len, self.dims.v_head_dim], [len * token, expanded, token, 1]]
    }

    fn call<'p, 'a, R: Number>(
        &self,
        params: &'p Params<R>,
        [batch, len]: [usize; 2],
        args: &'a PositionalArgs<'a, R>,
    ) -> Result<(Call<'p, R>, Mask<'a, R>)> {
        if args.k_positions.is_some() || args.k_position_mask.is_some() {
            return Err(Error::Unsupported {
                method: "MultiheadLatentAttention",
                what: "its keys are the tokens of its queries: give q_positions and q_position_mask alone",
            }
            .into());
        }
        self.attention.check()?;
        if self.attention.sinks {
            return Err(Error::Unsupported {
                method: "MultiheadLatentAttention",
                what: "sinks: no model has them here",
            }
            .into());
        }
        let names = ["q_positions [batch, len]", "q_position_mask [batch, len]"];
        let at = positions(names, args.q_positions.as_ref(), args.q_position_mask, [batch, len])?;
        let mask = args.mask([batch, self.dims.num_attention_heads, len, len])?;
        Ok((self.plan.call(params, &at, &at)?, mask))
    }

    fn len(&self, len: usize, batch: usize) -> Result<usize> {
        if batch == 0 {
            return Err(Error::Zero { what: "batch" }.into());
        }
        let row = batch.saturating_mul(self.dims.hidden_size);
        rows("x [batch, len, hidden_size]", len, "batch·hidden_size", row)
    }
}

impl LatentDims {
    /// Width of a head's queries and keys.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// What the latent becomes per head.
    fn expanded(&self) -> usize {
        self.qk_nope_head_dim + self.v_head_dim
    }
}
