//! The reference vectors' questions, answered on candle's tensors: gradients are those of candle's graph.

use crate::golden::asked::{Attended, Attending, Embedded, Layered, Layout, Pairs};
use crate::golden::set::{Outcome, Stop, fail};
use candle_core::{DType, Device, Tensor, Var, WithDType};
use candle_nn::VarBuilder;
use posenc::{Element, LayerSpec, Mode, ParamSpec, Params, Plan, Positions, Real, Rotary, Side, Site, Turn};
use posenc_candle::nn::{MultiheadAttention, Projections};
use posenc_candle::{Call, Mask, Parameters};
use posenc_nn::{AttnMask, PositionalArgs, PositionalMultiheadAttention, PositionalOutput, Streams};
use std::cell::Cell;
use std::collections::HashMap;

/// Scores are never kept.
pub const GIVES_WEIGHTS: bool = false;

/// Why a record is skipped that asked for nothing below.
pub const OUT_OF_REACH: &str = "it asks for nothing that is computed on tensors here";

/// What is computed with.
pub trait Number: Element<Real: WithDType> + WithDType {}
impl<T: Element<Real: WithDType> + WithDType> Number for T {}

thread_local! {
    static REACHED: Cell<bool> = const { Cell::new(false) };
}

/// One of the functions below was called since this was last asked.
pub fn reached() -> bool {
    REACHED.replace(false)
}

impl From<posenc_candle::Error> for Stop {
    fn from(error: posenc_candle::Error) -> Stop {
        Stop::Fail(format!("refused: {error}"))
    }
}

impl From<candle_core::Error> for Stop {
    fn from(error: candle_core::Error) -> Stop {
        Stop::Fail(format!("candle: {error}"))
    }
}

fn tensor<T: WithDType>(x: &[T], shape: &[usize]) -> Outcome<Tensor> {
    REACHED.set(true);
    Ok(Tensor::from_slice(x, shape, &Device::Cpu)?)
}

fn var<T: WithDType>(x: &[T], shape: &[usize]) -> Outcome<Var> {
    Ok(Var::from_tensor(&tensor(x, shape)?)?)
}

fn vector<T: WithDType>(x: &Tensor) -> Outcome<Vec<T>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

/// The parameters of these names as variables.
fn variables<R: Real + WithDType>(specs: &[ParamSpec], params: &Params<R>) -> Outcome<HashMap<String, Var>> {
    let each = specs
        .iter()
        .map(|spec| Ok((spec.name.clone(), var(params.get(&spec.name)?, &spec.shape)?)));
    each.collect()
}

/// Gradients of Σ out·d_out.
struct Gradients(candle_core::backprop::GradStore);

impl Gradients {
    fn of<T: WithDType>(out: &Tensor, d_out: &[T]) -> Outcome<Gradients> {
        let d_out = tensor(d_out, out.dims())?;
        Ok(Gradients((out * d_out)?.sum_all()?.backward()?))
    }

    /// Of one variable; zeros where nothing depends on it.
    fn get<T: WithDType>(&self, var: &Var) -> Outcome<Vec<T>> {
        match self.0.get(var) {
            Some(grad) => vector(grad),
            None => vector(&var.zeros_like()?),
        }
    }

    fn all<R: Real + WithDType>(&self, vars: &HashMap<String, Var>, params: &Params<R>) -> Outcome<Params<R>> {
        let mut grads = params.zeros_like();
        for (name, var) in vars {
            grads.set(name, var.dims(), &self.get::<R>(var)?)?;
        }
        Ok(grads)
    }
}

/// Rows turned, in the layout in which they were given.
pub fn turned<T: Number>(rotary: &Rotary, at: &Positions, turn: Turn, x: &[T], shape: [usize; 4], layout: Layout) -> Outcome<Vec<T>> {
    let by_head = |x: &Tensor| {
        if layout == Layout::ByHead {
            Ok(x.clone())
        } else {
            x.transpose(1, 2)
        }
    };
    let heads = if layout == Layout::ByHead { shape[1] } else { shape[2] };
    let dims = posenc::Dims {
        model_dim: heads * shape[3],
        heads,
        kv_heads: heads,
        head_dim: shape[3],
    };
    let call = Call::new(&posenc::Encoding::from(rotary.clone()).plan(dims)?, at)?;
    match turn {
        Turn::Forward => {
            let out = call.rotate(Side::Query, &by_head(&tensor(x, &shape)?)?)?;
            vector(&by_head(&out)?)
        }
        Turn::Adjoint => {
            // A rotation is linear: its gradient is the same wherever it is taken.
            let zeros = Var::from_tensor(&tensor(x, &shape)?.zeros_like()?)?;
            let out = by_head(&call.rotate(Side::Query, &by_head(&zeros)?)?)?;
            Gradients::of(&out, x)?.get(&zeros)
        }
        Turn::Inverse => fail("no operation on tensors turns back without being a gradient"),
    }
}

/// What acts on embeddings.
pub fn embedded(
    plan: &Plan,
    params: &Params<f32>,
    at: &Positions,
    x: &[f32],
    shape: [usize; 3],
    d_out: Option<&[f32]>,
) -> Outcome<Embedded> {
    let (x, vars) = (var(x, &shape)?, variables(plan.parameters(), params)?);
    let call = Call::of(plan, &Parameters::by_name(plan, &vars)?, at, at)?;
    let out = call.embed(&x, Mode::Evaluate)?;
    let grads = match d_out {
        None => None,
        Some(d_out) => {
            let grads = Gradients::of(&out, d_out)?;
            Some((grads.get(&x)?, grads.all(&vars, params)?))
        }
    };
    Ok(Embedded { out: vector(&out)?, grads })
}

/// A stream `[batch, seq, width]` with what is added to it at a site.
pub fn added(plan: &Plan, params: &Params<f32>, at: &Positions, site: Site, x: &[f32], shape: [usize; 3]) -> Outcome<Vec<f32>> {
    let vars = variables(plan.parameters(), params)?;
    let call = Call::of(plan, &Parameters::by_name(plan, &vars)?, at, at)?;
    vector(&call.add(site, &tensor(x, &shape)?, Mode::Evaluate)?)
}

/// The biases written out, `[heads, q_len, k_len]`.
pub fn bias<R: Number<Real = R> + Real>(plan: &Plan, params: &Params<R>, q_at: &Positions, k_at: &Positions) -> Outcome<Vec<R>> {
    REACHED.set(true);
    let vars = variables(plan.parameters(), params)?;
    let call = Call::of(plan, &Parameters::by_name(plan, &vars)?, q_at, k_at)?;
    vector(&call.bias(R::DTYPE, &Device::Cpu)?)
}

/// The rows that a layer projects, `[rows, model_dim]`.
pub fn rows(plan: &Plan, params: &Params<f64>, q_at: &Positions, k_at: &Positions, table: &str) -> Outcome<Vec<Vec<f64>>> {
    REACHED.set(true);
    let vars = variables(plan.parameters(), params)?;
    let call = Call::of(plan, &Parameters::by_name(plan, &vars)?, q_at, k_at)?;
    Ok(call.rows(table, DType::F64)?.to_vec2()?)
}

/// One attention.
pub fn attended<T: Number>(params: &Params<T::Real>, of: &Attending<'_, T>, d_out: Option<&[T]>) -> Outcome<Attended<T>> {
    let vars = variables(of.plan.parameters(), params)?;
    let mut call = Call::of(of.plan, &Parameters::by_name(of.plan, &vars)?, of.at[0], of.at[1])?;
    if !of.sinks.is_empty() {
        call = call.with_sinks(&tensor(of.sinks, &[of.sinks.len()])?);
    }
    let Pairs {
        causal,
        before,
        attends,
        added,
    } = &of.pairs;
    let mut mask = Mask::none();
    if !before.is_empty() {
        mask = if *causal {
            mask.causal_rows(before)
        } else {
            mask.after_rows(before)
        };
    }
    for (attends, shape) in attends {
        mask = mask.attends(&flags(attends, shape)?)?;
    }
    if let Some((added, shape)) = added {
        mask = mask.additive(&tensor(added, shape)?)?;
    }
    let (q, k, v) = (var(of.q.0, &of.q.1)?, var(of.k.0, &of.k.1)?, var(of.v.0, &of.v.1)?);
    let out = call.attend(of.attention, &q, &k, &v, &mask, Mode::Evaluate)?;
    let grads = match d_out {
        None => None,
        Some(d_out) => {
            let grads = Gradients::of(&out, d_out)?;
            Some((grads.get(&v)?, grads.all(&vars, params)?))
        }
    };
    Ok(Attended {
        out: vector(&out)?,
        weights: None,
        grads,
    })
}

fn flags(flags: &[bool], shape: &[usize]) -> Outcome<Tensor> {
    tensor(&flags.iter().map(|flag| u8::from(*flag)).collect::<Vec<_>>(), shape)
}

/// The same layer, as a module whose weights are found by name.
pub fn layer(
    module: &PositionalMultiheadAttention,
    params: &Params<f32>,
    streams: Streams<'_, f32>,
    batch: usize,
    args: &PositionalArgs<'_, f32>,
    d_out: Option<&[f32]>,
) -> Outcome<Layered> {
    let vars = variables(&module.specs(), params)?;
    // Where weights are fused, the record keeps them one module deeper.
    let inner = |name: &str| name.strip_prefix("attn.").unwrap_or(name).to_string();
    let weights = vars.iter().map(|(name, var)| (inner(name), var.as_tensor().clone())).collect();
    let layer = MultiheadAttention::load(
        &LayerSpec {
            encoding: module.plan.encoding().clone(),
            attention: module.attn.attention.clone(),
        },
        module.plan.dims(),
        match module.attn.projections {
            posenc_nn::Projections::Fused => Projections::Fused,
            posenc_nn::Projections::Separate(names) => Projections::Separate(names),
        },
        module.attn.bias,
        VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu),
    )?;
    let width = module.embed_dim();
    let stream = |x: &[f32]| var(x, &[batch, x.len() / (batch * width), width]);
    let [q, k, v] = match streams {
        Streams::Same(x) => {
            let x = stream(x)?;
            [x.clone(), x.clone(), x]
        }
        Streams::Apart { query, key, value } => [stream(query)?, stream(key)?, stream(value)?],
    };
    let (q_len, k_len) = (q.dims()[1], k.dims()[1]);
    let q_at = positions(args.q_positions.as_ref(), args.q_position_mask, batch, q_len)?;
    let k_at = positions(args.k_positions.as_ref(), args.k_position_mask, batch, k_len)?;
    let call = layer.encoded().call(&q_at, &k_at)?;
    let mut mask = match args.causal {
        Some(first) => Mask::none().causal(first),
        None => Mask::none(),
    };
    if let Some(given) = args.attn_mask {
        let heads = module.num_heads();
        mask = masked(mask, given, |shape| match *shape {
            [q, k] => [1, 1, q, k],
            [_, q, k] => [batch, heads, q, k],
            [b, h, q, k] => [b, h, q, k],
            _ => [0; 4],
        })?;
    }
    if let Some(given) = args.key_padding_mask {
        mask = masked(mask, given, |_| [batch, 1, 1, k_len])?;
    }
    let out = layer.forward(&q, &k, &v, &call, &mask, Mode::Evaluate)?;
    let (mut d_streams, mut grads) = ([Vec::new(), Vec::new(), Vec::new()], params.zeros_like());
    if let Some(d_out) = d_out {
        let by = Gradients::of(&out, d_out)?;
        d_streams[0] = by.get(&q)?;
        if let Streams::Apart { .. } = streams {
            (d_streams[1], d_streams[2]) = (by.get(&k)?, by.get(&v)?);
        }
        grads = by.all(&vars, params)?;
    }
    Ok(Layered {
        output: PositionalOutput {
            out: vector(&out)?,
            weights: None,
        },
        d_streams,
        grads,
    })
}

fn masked(mask: Mask, given: AttnMask<'_, f32>, shape: impl Fn(&[usize]) -> [usize; 4]) -> Outcome<Mask> {
    Ok(match given {
        AttnMask::Blocked(blocked, given) => mask.blocked(&flags(blocked, &shape(given))?)?,
        AttnMask::Additive(added, given) => mask.additive(&tensor(added, &shape(given))?)?,
    })
}

/// Positions, counted from 0 where none are given, without those that the mask takes away.
fn positions(at: Option<&Positions>, mask: Option<&[bool]>, batch: usize, len: usize) -> Outcome<Positions> {
    let at = at.cloned().unwrap_or_else(|| Positions::absent(len));
    let Some(mask) = mask else { return Ok(at) };
    let rows = if mask.len() == len { at.batch() } else { batch };
    let tokens = (0..rows).flat_map(|b| (0..len).map(move |t| (b, t)));
    let present: Vec<bool> = tokens
        .map(|(b, t)| mask[(b * len + t) % mask.len()] && at.get(0, b, t).is_some())
        .collect();
    Ok(at.with_presence_rows(&present, rows)?)
}
