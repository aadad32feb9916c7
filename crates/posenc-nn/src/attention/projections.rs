//! The projections of multi-head attention: how their weights are kept, and one stream's way from the model's width to its heads and back.

use super::{AttentionTrace, MultiheadAttention};
use crate::error::Result;
use crate::kernels;
use crate::linear::Linear;
use crate::matrix::{Matrix, MatrixMut, Onto, matmul, product};
use crate::number::Number;
use crate::rms_norm::RmsNorm;
use crate::shape::{gradient, join, tensor};
use posenc::{Call, Init, Mode, ParamSpec, Params, Site, ViewMut};
use std::ops::Range;

/// How the weights that make queries, keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// One `in_proj_weight` with queries', keys' and values' rows in this order, one `in_proj_bias`, and `out_proj`: `nn.MultiheadAttention`'s.
    Fused,
    /// A linear layer each, under these names: queries, keys, values, output.
    Separate([&'static str; 4]),
}

impl Projections {
    /// `q_proj`, `k_proj`, `v_proj`, `out_proj`: symm-learning's `RoPEMultiheadAttention`, and most of Hugging Face's models (whose output is often `o_proj`).
    pub const SEPARATE: Projections = Projections::Separate(["q_proj", "k_proj", "v_proj", "out_proj"]);

    /// `q`, `k`, `v`, `o`: T5's.
    pub const T5: Projections = Projections::Separate(["q", "k", "v", "o"]);

    /// What the output projection is called.
    pub(super) fn out(self) -> &'static str {
        match self {
            Projections::Fused => "out_proj",
            Projections::Separate([.., out]) => out,
        }
    }
}

/// The role of a stream, and the index of its part of the input projection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    Query,
    Key,
    Value,
}

pub(super) const ROLES: [Role; 3] = [Role::Query, Role::Key, Role::Value];

impl Role {
    pub(super) fn input_site(self) -> Option<Site> {
        [Some(Site::QueryInput), Some(Site::KeyInput), None][self as usize]
    }

    fn projected_site(self) -> Option<Site> {
        [Some(Site::Query), Some(Site::Key), None][self as usize]
    }
}

impl MultiheadAttention {
    /// The parameters of the input projections, in order.
    pub(super) fn in_specs(&self) -> Vec<ParamSpec> {
        let of = |role| {
            let (weight, bias, _) = self.projection(role);
            std::iter::once(weight).chain(bias)
        };
        match self.projections {
            Projections::Fused => of(Role::Query).collect(),
            Projections::Separate(_) => ROLES.into_iter().flat_map(of).collect(),
        }
    }

    /// Where a role's projection is kept: its weight, its bias, and its rows of both.
    fn projection(&self, role: Role) -> (ParamSpec, Option<ParamSpec>, Range<usize>) {
        let rows = self.rows(role);
        let (weight, bias, all, rows) = match self.projections {
            Projections::Fused => {
                let all = self.rows(Role::Value).end;
                ("in_proj_weight".to_string(), "in_proj_bias".to_string(), all, rows)
            }
            Projections::Separate(names) => {
                let name = names[role as usize];
                (format!("{name}.weight"), format!("{name}.bias"), rows.len(), 0..rows.len())
            }
        };
        let weight = ParamSpec::new(join(&self.name, &weight), [all, self.width], self.in_init);
        let bias = self.bias.then(|| ParamSpec::new(join(&self.name, &bias), [all], Init::Zeros));
        (weight, bias, rows)
    }

    /// A role's rows where all three projections lie one after the other.
    pub(super) fn rows(&self, role: Role) -> Range<usize> {
        let (q, kv) = (self.dims.heads * self.dims.head_dim, self.dims.kv_heads * self.dims.head_dim);
        match role {
            Role::Query => 0..q,
            Role::Key => q..q + kv,
            Role::Value => q + kv..q + 2 * kv,
        }
    }

    pub(super) fn heads_of(&self, role: Role) -> usize {
        match role {
            Role::Query => self.dims.heads,
            Role::Key | Role::Value => self.dims.kv_heads,
        }
    }

    pub(super) fn out_proj(&self) -> Linear {
        let name = join(&self.name, self.projections.out());
        let linear = Linear::new(name, self.dims.heads * self.dims.head_dim, self.width).with_init(self.out_init);
        if self.bias { linear } else { linear.without_bias() }
    }

    /// The norm of projected queries or keys, one row per token and head.
    pub(super) fn norm(&self, role: Role) -> Option<RmsNorm> {
        let name = match role {
            Role::Query => "q_norm",
            Role::Key => "k_norm",
            Role::Value => return None,
        };
        self.qk_norm.map(|eps| RmsNorm {
            name: join(&self.name, name),
            dim: self.dims.head_dim,
            eps,
        })
    }

    /// A role's projection alone: y `[n, heads·head_dim]` is overwritten with x·Wᵀ + b, x being `[n, width]`.
    pub(super) fn linear<R: Number>(&self, params: &Params<R>, role: Role, x: &[R], n: usize, y: &mut [R]) -> Result<()> {
        let (weight, bias, rows) = self.projection(role);
        let out_dim = rows.len();
        let onto = match bias {
            Some(bias) => Onto::Row(&tensor(params, &bias)?[rows.clone()]),
            None => Onto::Scaled(R::ZERO),
        };
        let weight = &tensor(params, &weight)?[rows.start * self.width..rows.end * self.width];
        let (x, weight) = (Matrix::new(x, n, self.width)?, Matrix::new(weight, out_dim, self.width)?);
        product(R::ONE, x, weight.t(), onto, MatrixMut::new(y, n, out_dim)?)
    }

    /// The adjoint of [`MultiheadAttention::linear`]; overwrites `dx` where it is asked for, or adds to it.
    pub(super) fn linear_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        role: Role,
        x: &[R],
        dy: &[R],
        dx: Option<&mut [R]>,
        add: bool,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let (weight, bias, rows) = self.projection(role);
        let (n, out_dim) = (x.len() / self.width, rows.len());
        if let Some(bias) = bias {
            kernels::add_column_sums(dy, &mut gradient(grads, &bias)?[rows.clone()]);
        }
        let range = rows.start * self.width..rows.end * self.width;
        let (dy, x) = (Matrix::new(dy, n, out_dim)?, Matrix::new(x, n, self.width)?);
        let d_weight = &mut gradient(grads, &weight)?[range.clone()];
        matmul(R::ONE, dy.t(), x, R::ONE, MatrixMut::new(d_weight, out_dim, self.width)?)?;
        let Some(dx) = dx else { return Ok(()) };
        let weight = Matrix::new(&tensor(params, &weight)?[range], out_dim, self.width)?;
        let keep = if add { R::ONE } else { R::ZERO };
        matmul(R::ONE, dy, weight, keep, MatrixMut::new(dx, n, self.width)?)
    }

    /// One input projection, with what the encoding adds before it, the norm, and what the encoding adds after that.
    pub(super) fn project<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        role: Role,
        x: &[R],
        [batch, len]: [usize; 2],
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let n = batch * len;
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
        y.resize(n * self.rows(role).len(), R::ZERO);
        self.linear(params, role, x, n, y)?;
        if let Some(norm) = self.norm(role) {
            let before = &mut trace.unnormed[role as usize];
            before.clear();
            before.extend_from_slice(y);
            norm.forward(params, before, y)?;
        }
        if let Some(site) = role.projected_site().filter(|site| call.adds_at(*site)) {
            call.add_heads(site, self.heads_mut(y, self.heads_of(role), batch, len)?)?;
        }
        Ok(())
    }

    /// The adjoint of [`MultiheadAttention::project`]; overwrites `dx`, or adds to it.
    pub(super) fn project_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        role: Role,
        x: &[R],
        batch: usize,
        dx: &mut [R],
        add: bool,
        grads: &mut Params<R>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let len = x.len() / self.width / batch.max(1);
        let AttentionTrace {
            inputs,
            unnormed,
            d_projected,
            d_stream,
            ..
        } = trace;
        let dy = &mut d_projected[role as usize];
        if let Some(site) = role.projected_site().filter(|site| call.adds_at(*site)) {
            call.add_heads_adjoint(site, self.heads(dy, self.heads_of(role), batch, len)?, grads)?;
        }
        if let Some(norm) = self.norm(role) {
            norm.adjoint(params, &unnormed[role as usize], dy, grads)?;
        }
        let Some(site) = role.input_site().filter(|site| call.adds_at(*site)) else {
            return self.linear_adjoint(params, role, x, dy, Some(dx), add, grads);
        };
        // What was added there wants this role's gradient alone.
        let alone = if add {
            d_stream.resize(dx.len(), R::ZERO);
            &mut d_stream[..]
        } else {
            &mut *dx
        };
        self.linear_adjoint(params, role, &inputs[role as usize], dy, Some(&mut *alone), false, grads)?;
        call.add_adjoint(site, ViewMut::new(alone, [batch, len, self.width])?, Mode::Evaluate, grads)?;
        if add {
            dx.iter_mut().zip(&*d_stream).for_each(|(sum, part)| *sum += *part);
        }
        Ok(())
    }
}
