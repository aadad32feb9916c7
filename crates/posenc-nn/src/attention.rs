//! Multi-head attention with its projections, for any encoding.

use crate::error::Result;
use crate::linear::Linear;
use crate::matrix::{Matrix, MatrixMut, matmul};
use crate::number::Number;
use crate::shape::{gradient, rows, size, tensor};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::{Attention, Call, Dims, Init, Mask, Mode, ParamSpec, Params, Site, View, ViewMut};
use std::ops::Range;

/// Multi-head attention: input projections, attention through a [`Call`], output projection.
///
/// Parameters in PyTorch's layout (`nn.MultiheadAttention`): `{name}.in_proj_weight` `[(heads + 2·kv_heads)·head_dim, width]` holds queries', keys' and values'
/// rows in this order, `{name}.in_proj_bias`, `{name}.out_proj.weight` `[width, heads·head_dim]`, `{name}.out_proj.bias`. The encoding's own parameters are not here: they belong
/// to its plan.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiheadAttention {
    /// Its name in the store.
    pub name: String,
    /// Width of the streams: the model's width, and what an encoding concatenates.
    pub width: usize,
    /// Heads.
    pub dims: Dims,
    /// Whether the projections add biases.
    pub bias: bool,
    /// Scale, soft cap, window, dropout.
    pub attention: Attention,
    /// How the input projections begin.
    pub in_init: Init,
    /// How the output projection begins.
    pub out_init: Init,
}

/// The streams that attention reads, each `[batch, seq, width]`.
#[derive(Clone, Copy, Debug)]
pub enum Streams<'a, R> {
    /// Queries, keys and values of one stream.
    Same(&'a [R]),
    /// A stream each; keys and values have the same length.
    Apart {
        /// What asks.
        query: &'a [R],
        /// What is compared.
        key: &'a [R],
        /// What is summed.
        value: &'a [R],
    },
}

/// Where the gradients of the streams are written.
#[derive(Debug)]
pub enum StreamGrads<'a, R> {
    /// The sum over all three uses of one stream.
    Same(&'a mut [R]),
    /// One each.
    Apart {
        /// Of the query stream.
        query: &'a mut [R],
        /// Of the key stream.
        key: &'a mut [R],
        /// Of the value stream.
        value: &'a mut [R],
    },
}

/// What a forward pass keeps for its adjoint, and scratch memory of both; reused from step to step.
#[derive(Debug)]
pub struct AttentionTrace<R> {
    /// Inputs of the query and key projections, where an encoding adds to them; else empty.
    inputs: [Vec<R>; 2],
    /// Projected queries, keys and values, `[batch, seq, heads, head_dim]`.
    projected: [Vec<R>; 3],
    /// Their gradients.
    d_projected: [Vec<R>; 3],
    /// What attention gave, `[batch, q_len, heads, head_dim]`, and its gradient.
    context: Vec<R>,
    d_context: Vec<R>,
    /// Gradient of one stream.
    d_stream: Vec<R>,
    saved: Saved<R>,
    slots: Slots<R>,
    work: Workspace<R>,
}

impl<R: Number> Default for AttentionTrace<R> {
    fn default() -> Self {
        AttentionTrace {
            inputs: Default::default(),
            projected: Default::default(),
            d_projected: Default::default(),
            context: Vec::new(),
            d_context: Vec::new(),
            d_stream: Vec::new(),
            saved: Saved::default(),
            slots: Slots::default(),
            work: Workspace::default(),
        }
    }
}

/// The role of a stream, and the index of its part of the input projection.
#[derive(Clone, Copy)]
enum Role {
    Query,
    Key,
    Value,
}

const ROLES: [Role; 3] = [Role::Query, Role::Key, Role::Value];

impl Role {
    fn input_site(self) -> Option<Site> {
        [Some(Site::QueryInput), Some(Site::KeyInput), None][self as usize]
    }

    fn projected_site(self) -> Option<Site> {
        [Some(Site::Query), Some(Site::Key), None][self as usize]
    }
}

impl MultiheadAttention {
    /// As `nn.MultiheadAttention(embed_dim, num_heads)`: biases, input projections Xavier uniform, output projection U(±1/√width).
    pub fn new(name: impl Into<String>, width: usize, dims: Dims) -> MultiheadAttention {
        MultiheadAttention {
            name: name.into(),
            width,
            dims,
            bias: true,
            attention: Attention::default(),
            in_init: Init::XavierUniform,
            out_init: Init::Uniform(1.0 / ((dims.heads * dims.head_dim) as f64).sqrt()),
        }
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = vec![self.in_weight()];
        specs.extend(self.bias.then(|| self.in_bias()));
        specs.extend(self.out_proj().specs());
        specs
    }

    fn in_weight(&self) -> ParamSpec {
        ParamSpec::new(
            format!("{}.in_proj_weight", self.name),
            [self.part(Role::Value).1, self.width],
            self.in_init,
        )
    }

    fn in_bias(&self) -> ParamSpec {
        ParamSpec::new(format!("{}.in_proj_bias", self.name), [self.part(Role::Value).1], Init::Zeros)
    }

    fn out_proj(&self) -> Linear {
        let linear =
            Linear::new(format!("{}.out_proj", self.name), self.dims.heads * self.dims.head_dim, self.width).with_init(self.out_init);
        if self.bias { linear } else { linear.without_bias() }
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
        ROLES.map(|role| {
            let (from, to) = self.part(role);
            from..to
        })
    }

    /// Rows of the input projection for a role: from, to.
    fn part(&self, role: Role) -> (usize, usize) {
        let (q, kv) = (self.dims.heads * self.dims.head_dim, self.dims.kv_heads * self.dims.head_dim);
        match role {
            Role::Query => (0, q),
            Role::Key => (q, q + kv),
            Role::Value => (q + kv, q + 2 * kv),
        }
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
        let [batch, q_len, k_len] = self.lengths(call, &streams)?;
        size("out [batch, q_len, width]", out.len(), &[batch, q_len, self.width])?;
        for spec in self.specs() {
            tensor(params, &spec)?;
        }
        for role in ROLES {
            let len = if matches!(role, Role::Query) { q_len } else { k_len };
            self.project(params, call, role, streams.of(role), [batch, len], trace)?;
        }
        trace.context.resize(batch * q_len * self.dims.heads * self.dims.head_dim, R::ZERO);
        let [q, k, v] = &trace.projected;
        let inputs = self.inputs([q, k, v], [batch, q_len, k_len])?;
        let AttentionTrace { context, saved, work, .. } = trace;
        if let Some(weights) = weights {
            let outputs = Outputs {
                out: self.heads_mut(context, self.dims.heads, batch, q_len)?,
                saved: None,
                weights: Some(ViewMut::new(weights, [batch, self.dims.heads, q_len, k_len])?),
            };
            self.attention.forward(call, inputs, mask, mode, outputs, work)?;
        }
        let outputs = Outputs {
            out: self.heads_mut(context, self.dims.heads, batch, q_len)?,
            saved: Some(saved),
            weights: None,
        };
        self.attention.forward(call, inputs, mask, mode, outputs, work)?;
        self.out_proj().forward(params, context, out)
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
        for spec in self.specs() {
            tensor(params, &spec)?;
            gradient(grads, &spec)?;
        }
        let AttentionTrace { context, d_context, .. } = trace;
        d_context.resize(context.len(), R::ZERO);
        self.out_proj().adjoint(params, context, d_out, Some(d_context), grads)?;
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
            let inputs = self.inputs([q, k, v], [batch, q_len, k_len])?;
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
        call.adjoint(&trace.slots, grads)?;
        match d_streams {
            StreamGrads::Apart { query, key, value } => {
                for (role, dx) in ROLES.into_iter().zip([query, key, value]) {
                    self.project_adjoint(params, call, role, streams.of(role), batch, dx, grads, trace)?;
                }
            }
            StreamGrads::Same(dx) => {
                let mut d_stream = std::mem::take(&mut trace.d_stream);
                d_stream.resize(dx.len(), R::ZERO);
                for role in ROLES {
                    let first = matches!(role, Role::Query);
                    let into = if first { &mut *dx } else { &mut d_stream };
                    self.project_adjoint(params, call, role, streams.of(role), batch, into, grads, trace)?;
                    if !first {
                        dx.iter_mut().zip(&d_stream).for_each(|(sum, part)| *sum += *part);
                    }
                }
                trace.d_stream = d_stream;
            }
        }
        Ok(())
    }

    /// One input projection, with what the encoding adds before and after it.
    fn project<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        role: Role,
        x: &[R],
        [batch, len]: [usize; 2],
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let (from, to) = self.part(role);
        let (n, out_dim) = (batch * len, to - from);
        let mut x = x;
        if let Some(site) = role.input_site().filter(|site| call.adds_at(*site)) {
            let input = &mut trace.inputs[role as usize];
            input.clear();
            input.extend_from_slice(x);
            // Only embeddings have dropout of a sum: plans refuse it at this site.
            call.add(site, ViewMut::new(input, [batch, len, self.width])?, Mode::Evaluate)?;
            x = input;
        }
        let y = &mut trace.projected[role as usize];
        y.resize(n * out_dim, R::ZERO);
        let weight = &tensor(params, &self.in_weight())?[from * self.width..to * self.width];
        if self.bias {
            let bias = &tensor(params, &self.in_bias())?[from..to];
            y.chunks_exact_mut(out_dim).for_each(|y| y.copy_from_slice(bias));
        }
        let keep = if self.bias { R::ONE } else { R::ZERO };
        let (x, weight) = (Matrix::new(x, n, self.width)?, Matrix::new(weight, out_dim, self.width)?);
        matmul(R::ONE, x, weight.t(), keep, MatrixMut::new(y, n, out_dim)?)?;
        if let Some(site) = role.projected_site().filter(|site| call.adds_at(*site)) {
            call.add_heads(site, self.heads_mut(y, self.heads_of(role), batch, len)?)?;
        }
        Ok(())
    }

    /// The adjoint of [`MultiheadAttention::project`]; overwrites `dx`.
    fn project_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        role: Role,
        x: &[R],
        batch: usize,
        dx: &mut [R],
        grads: &mut Params<R>,
        trace: &AttentionTrace<R>,
    ) -> Result<()> {
        let (from, to) = self.part(role);
        let (n, out_dim) = (x.len() / self.width, to - from);
        let len = n / batch.max(1);
        let dy = &trace.d_projected[role as usize];
        if let Some(site) = role.projected_site().filter(|site| call.adds_at(*site)) {
            call.add_heads_adjoint(site, self.heads(dy, self.heads_of(role), batch, len)?, grads)?;
        }
        let site = role.input_site().filter(|site| call.adds_at(*site));
        let input = if site.is_some() { &trace.inputs[role as usize] } else { x };
        if self.bias {
            let bias = &mut gradient(grads, &self.in_bias())?[from..to];
            for dy in dy.chunks_exact(out_dim) {
                bias.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += *dy);
            }
        }
        let (dy, x) = (Matrix::new(dy, n, out_dim)?, Matrix::new(input, n, self.width)?);
        let d_weight = &mut gradient(grads, &self.in_weight())?[from * self.width..to * self.width];
        matmul(R::ONE, dy.t(), x, R::ONE, MatrixMut::new(d_weight, out_dim, self.width)?)?;
        let weight = &tensor(params, &self.in_weight())?[from * self.width..to * self.width];
        matmul(
            R::ONE,
            dy,
            Matrix::new(weight, out_dim, self.width)?,
            R::ZERO,
            MatrixMut::new(dx, n, self.width)?,
        )?;
        if let Some(site) = site {
            call.add_adjoint(site, ViewMut::new(dx, [batch, len, self.width])?, Mode::Evaluate, grads)?;
        }
        Ok(())
    }

    fn heads_of(&self, role: Role) -> usize {
        match role {
            Role::Query => self.dims.heads,
            Role::Key | Role::Value => self.dims.kv_heads,
        }
    }

    /// Projected queries, keys and values as attention reads them.
    fn inputs<'a, R>(&self, [q, k, v]: [&'a [R]; 3], [batch, q_len, k_len]: [usize; 3]) -> Result<Inputs<'a, R>> {
        Ok(Inputs::new(
            self.heads(q, self.dims.heads, batch, q_len)?,
            self.heads(k, self.dims.kv_heads, batch, k_len)?,
            self.heads(v, self.dims.kv_heads, batch, k_len)?,
        ))
    }

    /// A projected stream as `[batch, heads, seq, head_dim]`.
    fn heads<'a, R>(&self, x: &'a [R], heads: usize, batch: usize, len: usize) -> Result<View<'a, R, 4>> {
        Ok(View::new(x, [batch, len, heads, self.dims.head_dim])?.swap(1, 2)?)
    }

    fn heads_mut<'a, R>(&self, x: &'a mut [R], heads: usize, batch: usize, len: usize) -> Result<ViewMut<'a, R, 4>> {
        Ok(ViewMut::new(x, [batch, len, heads, self.dims.head_dim])?.swap(1, 2)?)
    }
}

impl<'a, R> Streams<'a, R> {
    fn all(&self) -> [&'a [R]; 3] {
        match self {
            Streams::Same(x) => [x; 3],
            Streams::Apart { query, key, value } => [query, key, value],
        }
    }

    fn of(&self, role: Role) -> &'a [R] {
        self.all()[role as usize]
    }
}

impl<R: Number> StreamGrads<'_, R> {
    fn check(&self, streams: &Streams<'_, R>) -> Result<()> {
        const WHAT: [&str; 3] = [
            "d_query [batch, seq, width]",
            "d_key [batch, seq, width]",
            "d_value [batch, seq, width]",
        ];
        let given = match self {
            StreamGrads::Same(x) => [x.len(); 3],
            StreamGrads::Apart { query, key, value } => [query.len(), key.len(), value.len()],
        };
        for ((what, given), stream) in WHAT.into_iter().zip(given).zip(streams.all()) {
            size(what, given, &[stream.len()])?;
        }
        Ok(())
    }
}
