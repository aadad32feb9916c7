//! What computes our side of a record: here the core and its layers. Another implementation answers the same questions in a module of this name, and is held to the same bounds.

use crate::golden::asked::{Attended, Attending, Embedded, Layered, Layout};
use crate::golden::set::Outcome;
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::{Attends, Element, Mask, Mode, Params, Plan, Positions, Real, Rotary, Site, Turn, View, ViewMut};
use posenc_nn::{AttentionTrace, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

/// Why a record is skipped that asked for nothing below.
pub const OUT_OF_REACH: &str = "it asks for nothing that is computed here";

/// Weights are given where they are asked for.
pub const GIVES_WEIGHTS: bool = true;

/// What is computed with.
pub trait Number: Element {}
impl<T: Element> Number for T {}

/// One of the functions below was called since this was last asked.
pub fn reached() -> bool {
    true
}

/// Rows turned, in the layout in which they were given.
pub fn turned<T: Number>(rotary: &Rotary, at: &Positions, turn: Turn, x: &[T], shape: [usize; 4], layout: Layout) -> Outcome<Vec<T>> {
    let rotation = rotary.rotation::<T::Real>(shape[3], at)?;
    let mut ours = x.to_vec();
    let (x, out) = (View::new(x, shape)?, ViewMut::new(&mut ours, shape)?);
    match layout {
        Layout::ByHead => rotation.apply_into(turn, x, out)?,
        Layout::ByToken => rotation.apply_into(turn, x.swap(1, 2)?, out.swap(1, 2)?)?,
    }
    Ok(ours)
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
    let call = plan.call(params, at, at)?;
    let mut out = vec![f32::NAN; x.len()];
    call.embed(View::new(x, shape)?, ViewMut::new(&mut out, shape)?, Mode::Evaluate)?;
    let Some(d_out) = d_out else {
        return Ok(Embedded { out, grads: None });
    };
    let (mut scratch, mut dx, mut grads) = (d_out.to_vec(), vec![f32::NAN; x.len()], params.zeros_like());
    let (scratch, into) = (ViewMut::new(&mut scratch, shape)?, ViewMut::new(&mut dx, shape)?);
    call.embed_adjoint(scratch, into, Mode::Evaluate, &mut grads)?;
    Ok(Embedded {
        out,
        grads: Some((dx, grads)),
    })
}

/// A stream `[batch, seq, width]` with what is added to it at a site.
pub fn added(plan: &Plan, params: &Params<f32>, at: &Positions, site: Site, x: &[f32], shape: [usize; 3]) -> Outcome<Vec<f32>> {
    let mut out = x.to_vec();
    plan.call(params, at, at)?
        .add(site, ViewMut::new(&mut out, shape)?, Mode::Evaluate)?;
    Ok(out)
}

/// The biases written out, `[heads, q_len, k_len]`.
pub fn bias<R: Number<Real = R> + Real>(plan: &Plan, params: &Params<R>, q_at: &Positions, k_at: &Positions) -> Outcome<Vec<R>> {
    let shape = [1, plan.dims().heads, q_at.len(), k_at.len()];
    let mut out = vec![R::of(f64::NAN); shape.iter().product()];
    plan.call(params, q_at, k_at)?.materialise_bias(ViewMut::new(&mut out, shape)?)?;
    Ok(out)
}

/// The rows that a layer projects, `[rows, model_dim]`.
pub fn rows(plan: &Plan, params: &Params<f64>, q_at: &Positions, k_at: &Positions, table: &str) -> Outcome<Vec<Vec<f64>>> {
    let call = plan.call(params, q_at, k_at)?;
    let rows = call.rows(table)?;
    Ok((0..rows.shape()[0]).map(|row| rows.row([row, 0]).to_vec()).collect())
}

/// One attention.
pub fn attended<T: Number>(params: &Params<T::Real>, of: &Attending<'_, T>, d_out: Option<&[T]>) -> Outcome<Attended<T>> {
    let call = of.plan.call(params, of.at[0], of.at[1])?;
    let mut mask = Mask::none();
    if !of.pairs.before.is_empty() {
        mask = match of.pairs.causal {
            true => mask.causal_rows(&of.pairs.before),
            false => mask.after_rows(&of.pairs.before),
        };
    }
    for (attends, shape) in &of.pairs.attends {
        mask = mask.attends(Attends(View::new(attends, *shape)?));
    }
    if let Some((added, shape)) = &of.pairs.added {
        mask = mask.additive(View::new(added, *shape)?);
    }
    let inputs = Inputs::new(View::new(of.q.0, of.q.1)?, View::new(of.k.0, of.k.1)?, View::new(of.v.0, of.v.1)?);
    let inputs = if of.sinks.is_empty() { inputs } else { inputs.with_sinks(of.sinks) };
    let [batch, heads, q_len, _] = of.q.1;
    let shape = [batch, heads, q_len, of.v.1[3]];
    let (mut saved, mut work) = (Saved::default(), Workspace::default());
    let nan = |numbers: usize| vec![T::narrow(T::Real::of(f64::NAN)); numbers];
    let mut out = nan(shape.iter().product());
    let w_shape = [batch, heads, q_len, of.k.1[2]];
    let mut weights = of.weights.then(|| nan(w_shape.iter().product()));
    let outputs = Outputs {
        out: ViewMut::new(&mut out, shape)?,
        saved: d_out.map(|_| &mut saved),
        weights: weights.as_mut().map(|weights| ViewMut::new(weights, w_shape)).transpose()?,
    };
    of.attention.forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut work)?;
    let Some(d_out) = d_out else {
        return Ok(Attended { out, weights, grads: None });
    };
    let [mut dq, mut dk, mut dv] = [of.q.0.to_vec(), of.k.0.to_vec(), of.v.0.to_vec()];
    let into = Grads {
        dq: ViewMut::new(&mut dq, of.q.1)?,
        dk: ViewMut::new(&mut dk, of.k.1)?,
        dv: ViewMut::new(&mut dv, of.v.1)?,
    };
    let (results, mut slots) = ((View::new(&out, shape)?, View::new(d_out, shape)?), Slots::default());
    of.attention.adjoint(
        &call,
        inputs,
        &mask,
        Mode::Evaluate,
        results.0,
        results.1,
        &saved,
        into,
        &mut slots,
        &mut work,
    )?;
    let mut grads = params.zeros_like();
    call.adjoint(&slots, &mut grads)?;
    Ok(Attended {
        out,
        weights,
        grads: Some((dv, grads)),
    })
}

/// A whole attention module.
pub fn layer(
    module: &PositionalMultiheadAttention,
    params: &Params<f32>,
    streams: Streams<'_, f32>,
    batch: usize,
    args: &PositionalArgs<'_, f32>,
    d_out: Option<&[f32]>,
) -> Outcome<Layered> {
    let (mut trace, mode) = (AttentionTrace::default(), Mode::Evaluate);
    let output = module.forward(params, streams, batch, args, mode, &mut trace)?;
    let mut grads = params.zeros_like();
    let lengths = match streams {
        Streams::Same(x) => [x.len(), 0, 0],
        Streams::Apart { query, key, value } => [query.len(), key.len(), value.len()],
    };
    let mut d_streams = lengths.map(|length| vec![f32::NAN; length]);
    if let Some(d_out) = d_out {
        let [query, key, value] = &mut d_streams;
        let into = match streams {
            Streams::Same(_) => StreamGrads::Same(query),
            Streams::Apart { .. } => StreamGrads::Apart { query, key, value },
        };
        module.adjoint(params, streams, batch, args, mode, d_out, into, &mut grads, &mut trace)?;
    }
    Ok(Layered { output, d_streams, grads })
}
