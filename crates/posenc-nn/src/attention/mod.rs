//! Multi-head attention with its projections, for any encoding.

mod cache;
mod projections;
mod streams;
mod tables;

pub use cache::KvCache;
pub use projections::Projections;
pub use streams::{StreamGrads, Streams};

use crate::error::Result;
use crate::number::Number;
use crate::shape::{gradient, join, rows, size, tensor};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::{Attention, Call, Dims, Init, Mask, Mode, ParamSpec, Params, Projection, Steps, View, ViewMut};
use projections::{ROLES, Role};
use std::ops::Range;

/// Multi-head attention: input projections, attention through a [`Call`], output projection.
///
/// Parameters in PyTorch's layout (`nn.MultiheadAttention`): `{name}.in_proj_weight` `[(heads + 2·kv_heads)·head_dim, width]` holds queries', keys' and values'
/// rows in this order, `{name}.in_proj_bias`, `{name}.out_proj.weight` `[width, heads·head_dim]`, `{name}.out_proj.bias`; or a layer for each projection
/// ([`Projections`]). With [`MultiheadAttention::qk_norm`] `{name}.q_norm.weight` and `{name}.k_norm.weight` `[head_dim]`, with [`Attention::sinks`]
/// `{name}.sinks` `[heads]`. An encoding whose tables the layer projects ([`MultiheadAttention::for_plan`]) adds the weights it asks for, as `{name}.r_net.weight`
/// `[heads·head_dim, model_dim]`, begun as the input projections are. The encoding's own parameters are not here: they belong to its plan.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiheadAttention {
    /// Its name in the store.
    pub name: String,
    /// Width of the streams: the model's width, and what an encoding concatenates.
    pub width: usize,
    /// Heads.
    pub dims: Dims,
    /// How the weights of the projections are kept.
    pub projections: Projections,
    /// Whether the projections add biases.
    pub bias: bool,
    /// ε of an RMS norm of each head's projected queries and keys, before the encoding acts on them (Qwen 3, Gemma 3); `None`: no norm.
    #[doc(alias = "use_qk_norm")]
    pub qk_norm: Option<f64>,
    /// The tables that its calls' encoding wants projected: those of [`Plan::projections`](posenc::Plan::projections).
    pub tables: Vec<Projection>,
    /// Scale, soft cap, window, sinks, dropout.
    pub attention: Attention,
    /// How the input projections begin.
    pub in_init: Init,
    /// How the output projection begins.
    pub out_init: Init,
}

/// What a forward pass keeps for its adjoint, and scratch memory of both; reused from step to step.
#[derive(Debug)]
pub struct AttentionTrace<R> {
    /// Inputs of the query and key projections, where an encoding adds to them; else empty.
    inputs: [Vec<R>; 2],
    /// Projected queries and keys before their norm, where there is one; else empty.
    unnormed: [Vec<R>; 2],
    /// Projected queries, keys and values, `[batch, seq, heads, head_dim]`.
    projected: [Vec<R>; 3],
    /// Their gradients.
    d_projected: [Vec<R>; 3],
    /// What attention gave, `[batch, q_len, heads, head_dim]`, and its gradient.
    context: Vec<R>,
    d_context: Vec<R>,
    /// Gradient of one stream.
    d_stream: Vec<R>,
    /// The tables that the layer projected, where its encoding has any.
    tables: Option<Params<R>>,
    saved: Saved<R>,
    slots: Slots<R>,
    work: Workspace<R>,
    /// What the last decoding step resolved of its positions.
    pub(crate) steps: Steps<R>,
}

impl<R: Number> Default for AttentionTrace<R> {
    fn default() -> Self {
        AttentionTrace {
            inputs: Default::default(),
            unnormed: Default::default(),
            projected: Default::default(),
            d_projected: Default::default(),
            context: Vec::new(),
            d_context: Vec::new(),
            d_stream: Vec::new(),
            tables: None,
            saved: Saved::default(),
            slots: Slots::default(),
            work: Workspace::default(),
            steps: Steps::default(),
        }
    }
}

impl MultiheadAttention {
    /// As `nn.MultiheadAttention(embed_dim, num_heads)`: biases, input projections Xavier uniform, output projection U(±1/√width).
    pub fn new(name: impl Into<String>, width: usize, dims: Dims) -> MultiheadAttention {
        MultiheadAttention {
            name: name.into(),
            width,
            dims,
            projections: Projections::Fused,
            bias: true,
            qk_norm: None,
            tables: Vec::new(),
            attention: Attention::default(),
            in_init: Init::XavierUniform,
            out_init: Init::Uniform(1.0 / ((dims.heads * dims.head_dim) as f64).sqrt()),
        }
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = self.in_specs();
        specs.extend(self.out_proj().specs());
        specs.extend(ROLES.into_iter().filter_map(|role| self.norm(role)).flat_map(|norm| norm.specs()));
        specs.extend(self.sinks());
        specs.extend(self.table_specs());
        specs
    }

    fn sinks(&self) -> Option<ParamSpec> {
        let spec = || ParamSpec::new(join(&self.name, "sinks"), [self.dims.heads], Init::Zeros);
        self.attention.sinks.then(spec)
    }

    /// The rows of `in_proj_weight` (and entries of `in_proj_bias`) that make queries, keys and values: where the tensors of a checkpoint with separate
    /// `q_proj`, `k_proj` and `v_proj` go.
    ///
    /// ```
    /// use posenc::{Dims, Params};
    /// use posenc_nn::MultiheadAttention;
    /// let attn = MultiheadAttention::new("attn", 8, Dims::new(8, 2)?);
    /// let mut params: Params<f32> = Params::init(&attn.specs(), 1)?;
    /// let k_proj = [0.5; 8 * 8]; // [out, in]
    /// let [_, k, _] = attn.in_proj_rows();
    /// params.get_mut("attn.in_proj_weight")?[k.start * 8..k.end * 8].copy_from_slice(&k_proj);
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    #[doc(alias = "q_proj")]
    #[doc(alias = "k_proj")]
    #[doc(alias = "v_proj")]
    pub fn in_proj_rows(&self) -> [Range<usize>; 3] {
        ROLES.map(|role| self.rows(role))
    }

    /// The widths are none of them zero, and every parameter is there.
    fn check_params<R: Number>(&self, params: &Params<R>) -> Result<()> {
        self.dims.checked()?;
        for spec in self.specs() {
            tensor(params, &spec)?;
        }
        Ok(())
    }

    /// Lengths: batch, q_len, k_len.
    fn lengths<R>(&self, call: &Call<'_, R>, streams: &Streams<'_, R>) -> Result<[usize; 3]>
    where
        R: Number,
    {
        let (q_len, k_len) = (call.q_at().len(), call.k_at().len());
        let all = streams.all();
        // A stream without tokens does not say how many rows the batch has.
        let (what, len, of) = if q_len > 0 {
            ("query [batch, seq, width]", q_len, all[0])
        } else {
            ("key [batch, seq, width]", k_len, all[1])
        };
        let batch = rows(what, of.len(), "seq·width", (len * self.width).max(1))?;
        size("query [batch, seq, width]", all[0].len(), &[batch, q_len, self.width])?;
        size("key [batch, seq, width]", all[1].len(), &[batch, k_len, self.width])?;
        size("value [batch, seq, width]", all[2].len(), &[batch, k_len, self.width])?;
        Ok([batch, q_len, k_len])
    }

    /// Attention over the streams: `out` `[batch, q_len, width]` is overwritten, and `weights` `[batch, heads, q_len, k_len]` where they are asked for. They are
    /// made in a pass of their own over whole rows, so that `out` has the same bits with and without them.
    ///
    /// # Errors
    /// A shape that does not fit the call, or a parameter that is missing.
    pub fn forward<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        streams: Streams<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        out: &mut [R],
        weights: Option<&mut [R]>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        self.any_forward(params, call, streams, mask, mode, None, out, weights, trace)
    }

    /// [`MultiheadAttention::forward`] with `residual` `[batch, q_len, width]` added to `out`: the sum of a residual connection costs no pass of its own. The adjoint is the same.
    ///
    /// # Errors
    /// As [`MultiheadAttention::forward`], or a residual of another size than `out`.
    pub fn forward_onto<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        streams: Streams<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        residual: &[R],
        out: &mut [R],
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        size("residual, of the size of out", residual.len(), &[out.len()])?;
        self.any_forward(params, call, streams, mask, mode, Some(residual), out, None, trace)
    }

    fn any_forward<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        streams: Streams<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        residual: Option<&[R]>,
        out: &mut [R],
        weights: Option<&mut [R]>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let [batch, q_len, k_len] = self.lengths(call, &streams)?;
        size("out [batch, q_len, width]", out.len(), &[batch, q_len, self.width])?;
        self.check_params(params)?;
        let tables = self.tables(params, call)?;
        let tabled = tables.as_ref().map(|tables| call.with_tables(tables)).transpose()?;
        let call = tabled.as_ref().unwrap_or(call);
        for role in ROLES {
            let len = if role == Role::Query { q_len } else { k_len };
            self.project(params, call, role, streams.of(role), [batch, len], trace)?;
        }
        let AttentionTrace {
            projected: [q, k, v],
            context,
            saved,
            work,
            ..
        } = trace;
        context.resize(batch * q_len * self.dims.heads * self.dims.head_dim, R::ZERO);
        let inputs = self.inputs(params, [q, k, v], [batch, q_len, k_len])?;
        self.attend(call, inputs, mask, mode, context, weights, saved, work)?;
        match residual {
            Some(residual) => self.out_proj().forward_onto(params, context, residual, out)?,
            None => self.out_proj().forward(params, context, out)?,
        }
        drop(tabled);
        trace.tables = tables;
        Ok(())
    }

    /// Attention between the projections: `context` `[batch, q_len, heads, head_dim]` is overwritten.
    fn attend<R: Number>(
        &self,
        call: &Call<'_, R>,
        inputs: Inputs<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        context: &mut [R],
        weights: Option<&mut [R]>,
        saved: &mut Saved<R>,
        work: &mut Workspace<R>,
    ) -> Result<()> {
        let [batch, heads, q_len, _] = inputs.q.shape();
        let k_len = inputs.k.shape()[2];
        if let Some(weights) = weights {
            let outputs = Outputs {
                out: self.heads_mut(context, heads, batch, q_len)?,
                saved: None,
                weights: Some(ViewMut::new(weights, [batch, heads, q_len, k_len])?),
            };
            self.attention.forward(call, inputs, mask, mode, outputs, work)?;
        }
        let outputs = Outputs {
            out: self.heads_mut(context, heads, batch, q_len)?,
            saved: Some(saved),
            weights: None,
        };
        Ok(self.attention.forward(call, inputs, mask, mode, outputs, work)?)
    }

    /// The adjoint of [`MultiheadAttention::forward`] with the same arguments: `d_out` `[batch, q_len, width]` is the gradient of `out`. Overwrites the
    /// streams' gradients; adds those of the projections and of the encoding's parameters to `grads`.
    ///
    /// # Errors
    /// As [`MultiheadAttention::forward`], of either store.
    pub fn adjoint<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        streams: Streams<'_, R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        d_out: &[R],
        d_streams: StreamGrads<'_, R>,
        grads: &mut Params<R>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let [batch, q_len, k_len] = self.lengths(call, &streams)?;
        d_streams.check(&streams)?;
        size("d_out [batch, q_len, width]", d_out.len(), &[batch, q_len, self.width])?;
        self.check_params(params)?;
        for spec in self.specs() {
            gradient(grads, &spec)?;
        }
        self.check_trace(call, trace, [batch, q_len, k_len])?;
        // Those of the forward pass; made again if the trace is not its.
        let tables = match trace.tables.take() {
            Some(tables) if !self.tables.is_empty() => Some(tables),
            _ => self.tables(params, call)?,
        };
        let tabled = tables.as_ref().map(|tables| call.with_tables(tables)).transpose()?;
        let call = tabled.as_ref().unwrap_or(call);
        let AttentionTrace { context, d_context, .. } = trace;
        d_context.resize(context.len(), R::ZERO);
        // Gradients of parameters are written last: attention may yet refuse the mask or the trace.
        self.out_proj().input_adjoint(params, d_out, d_context)?;
        {
            let AttentionTrace {
                projected,
                d_projected,
                context,
                d_context,
                saved,
                slots,
                work,
                ..
            } = trace;
            for (d, p) in d_projected.iter_mut().zip(&*projected) {
                d.resize(p.len(), R::ZERO);
            }
            let [q, k, v] = &*projected;
            let [dq, dk, dv] = d_projected;
            let inputs = self.inputs(params, [q, k, v], [batch, q_len, k_len])?;
            let Dims { heads, kv_heads, .. } = self.dims;
            let into = Grads {
                dq: self.heads_mut(dq, heads, batch, q_len)?,
                dk: self.heads_mut(dk, kv_heads, batch, k_len)?,
                dv: self.heads_mut(dv, kv_heads, batch, k_len)?,
            };
            let out = self.heads(context, heads, batch, q_len)?;
            let d_out = self.heads(d_context, heads, batch, q_len)?;
            self.attention
                .adjoint(call, inputs, mask, mode, out, d_out, saved, into, slots, work)?;
        }
        match &tables {
            Some(tables) => {
                let mut d_tables = tables.zeros_like();
                call.adjoint_with_tables(&trace.slots, grads, &mut d_tables)?;
                self.tables_adjoint(params, call, &d_tables, grads)?;
            }
            None => call.adjoint(&trace.slots, grads)?,
        }
        self.out_proj().adjoint(params, &trace.context, d_out, None, grads)?;
        if let Some(sinks) = self.sinks() {
            let sinks = gradient(grads, &sinks)?;
            sinks.iter_mut().zip(trace.slots.sinks()).for_each(|(sum, part)| *sum += *part);
        }
        match d_streams {
            StreamGrads::Apart { query, key, value } => {
                for (role, dx) in ROLES.into_iter().zip([query, key, value]) {
                    self.project_adjoint(params, call, role, streams.of(role), batch, dx, false, grads, trace)?;
                }
            }
            StreamGrads::Same(dx) => {
                for role in ROLES {
                    self.project_adjoint(params, call, role, streams.of(role), batch, dx, role != Role::Query, grads, trace)?;
                }
            }
        }
        Ok(())
    }

    /// The trace is what a forward pass with these shapes left.
    fn check_trace<R: Number>(&self, call: &Call<'_, R>, trace: &AttentionTrace<R>, [batch, q_len, k_len]: [usize; 3]) -> Result<()> {
        const WHAT: &str = "trace of a forward pass with the same arguments [batch, seq, heads, head_dim]";
        let Dims { heads, head_dim, .. } = self.dims;
        size(WHAT, trace.context.len(), &[batch, q_len, heads, head_dim])?;
        for role in ROLES {
            let (len, heads) = (if role == Role::Query { q_len } else { k_len }, self.heads_of(role));
            size(WHAT, trace.projected[role as usize].len(), &[batch, len, heads, head_dim])?;
            if role.input_site().is_some_and(|site| call.adds_at(site)) {
                let what = "trace of a forward pass with the same arguments [batch, seq, width]";
                size(what, trace.inputs[role as usize].len(), &[batch, len, self.width])?;
            }
            if self.norm(role).is_some() {
                size(WHAT, trace.unnormed[role as usize].len(), &[batch, len, heads, head_dim])?;
            }
        }
        Ok(())
    }

    /// Projected queries, keys and values as attention reads them.
    fn inputs<'a, R: Number>(
        &self,
        params: &'a Params<R>,
        [q, k, v]: [&'a [R]; 3],
        [batch, q_len, k_len]: [usize; 3],
    ) -> Result<Inputs<'a, R>> {
        let Dims { heads, kv_heads, .. } = self.dims;
        let inputs = Inputs::new(
            self.heads(q, heads, batch, q_len)?,
            self.heads(k, kv_heads, batch, k_len)?,
            self.heads(v, kv_heads, batch, k_len)?,
        );
        self.with_sinks(params, inputs)
    }

    fn with_sinks<'a, R: Number>(&self, params: &'a Params<R>, inputs: Inputs<'a, R>) -> Result<Inputs<'a, R>> {
        Ok(match self.sinks() {
            Some(sinks) => inputs.with_sinks(tensor(params, &sinks)?),
            None => inputs,
        })
    }

    /// A projected stream as `[batch, heads, seq, head_dim]`.
    fn heads<'a, R>(&self, x: &'a [R], heads: usize, batch: usize, len: usize) -> Result<View<'a, R, 4>> {
        Ok(View::new(x, [batch, len, heads, self.dims.head_dim])?.swap(1, 2)?)
    }

    fn heads_mut<'a, R>(&self, x: &'a mut [R], heads: usize, batch: usize, len: usize) -> Result<ViewMut<'a, R, 4>> {
        Ok(ViewMut::new(x, [batch, len, heads, self.dims.head_dim])?.swap(1, 2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posenc::{Encoding, InputTable, Positions, Rng};

    /// Onto a residual: the sum that a caller would make. One stream's gradient: the sum of its three uses', also where an encoding adds to the inputs of queries and keys and wants each alone. Bounds: some
    /// hundred products of numbers of order 1 in f64, summed in another order.
    #[test]
    fn residuals_and_the_uses_of_a_stream_are_sums() {
        let dims = Dims::new(8, 2).unwrap();
        let mut rng = Rng::new(1);
        for encoding in [Encoding::none(), InputTable::new(5).into()] {
            let plan = encoding.plan(dims).unwrap();
            let attention = MultiheadAttention::new("a", 8, dims).for_plan(&plan);
            let specs = [attention.specs(), plan.parameters().to_vec()].concat();
            let mut params: Params<f64> = Params::init(&specs, 1).unwrap();
            params.flat_mut().iter_mut().for_each(|p| *p += 0.3 * rng.normal());
            let at = Positions::range(0..5);
            let call = plan.call(&params, &at, &at).unwrap();
            let mut random = || -> Vec<f64> { (0..2 * 5 * 8).map(|_| rng.normal()).collect() };
            let (x, residual, d_out) = (random(), random(), random());
            let (mask, mode, mut trace) = (Mask::none().causal(0), Mode::Evaluate, AttentionTrace::default());
            let (mut out, mut onto) = (vec![f64::NAN; x.len()], vec![f64::NAN; x.len()]);
            let all = Streams::Same(&x[..]);
            attention
                .forward(&params, &call, all, &mask, mode, &mut out, None, &mut trace)
                .unwrap();
            let refused = attention.forward_onto(&params, &call, all, &mask, mode, &residual[1..], &mut onto, &mut trace);
            assert!(refused.is_err() && onto.iter().all(|x| x.is_nan()));
            attention
                .forward_onto(&params, &call, all, &mask, mode, &residual, &mut onto, &mut trace)
                .unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 1000.0 * f64::EPSILON;
            assert!(onto.iter().zip(&out).zip(&residual).all(|((sum, y), r)| close(*sum, y + r)));

            let (mut same, mut apart) = (
                vec![f64::NAN; x.len()],
                [const { Vec::new() }; 3].map(|_: Vec<f64>| vec![f64::NAN; x.len()]),
            );
            let mut grads = [params.zeros_like(), params.zeros_like()];
            attention
                .adjoint(
                    &params,
                    &call,
                    all,
                    &mask,
                    mode,
                    &d_out,
                    StreamGrads::Same(&mut same),
                    &mut grads[0],
                    &mut trace,
                )
                .unwrap();
            let [query, key, value] = &mut apart;
            let streams = Streams::Apart {
                query: &x,
                key: &x,
                value: &x,
            };
            let into = StreamGrads::Apart { query, key, value };
            attention
                .adjoint(&params, &call, streams, &mask, mode, &d_out, into, &mut grads[1], &mut trace)
                .unwrap();
            assert!((0..x.len()).all(|i| close(same[i], apart[0][i] + apart[1][i] + apart[2][i])));
            assert!(grads[0].flat().iter().zip(grads[1].flat()).all(|(a, b)| close(*a, *b)));
        }
    }
}
