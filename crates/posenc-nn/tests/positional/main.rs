//! `PositionalMultiheadAttention` as seed document 002 describes it, and where it is stricter.

mod cases;
mod constructors;
mod decoding;
mod finite;
mod gradients;
mod length_policy;
mod product;
mod refusals;
mod rounding;
mod semantics;
mod settings;
mod storage;
mod tables;

use posenc::{Mode, Params, Rng};
use posenc_nn::{AttentionTrace, Number, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

const WIDTH: usize = 8;
const HEADS: usize = 2;
const BATCH: usize = 2;

fn random<R: Number>(n: usize, seed: u64) -> Vec<R> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| R::of(rng.normal())).collect()
}

/// A module and parameters of which none is zero.
fn with_params<R: Number>(module: &PositionalMultiheadAttention) -> Params<R> {
    let mut params: Params<R> = Params::init(&module.specs(), 5).unwrap();
    let mut rng = Rng::new(6);
    params.flat_mut().iter_mut().for_each(|p| *p += R::of(0.2 * rng.normal()));
    params
}

fn additive_pos() -> PositionalMultiheadAttention {
    PositionalMultiheadAttention::additive_pos(WIDTH, HEADS, 12).unwrap()
}

fn forward<R: Number>(
    module: &PositionalMultiheadAttention,
    params: &Params<R>,
    streams: Streams<'_, R>,
    args: &PositionalArgs<'_, R>,
) -> posenc_nn::Result<posenc_nn::PositionalOutput<R>> {
    module.forward(params, streams, BATCH, args, Mode::Evaluate, &mut AttentionTrace::default())
}

/// Output and the gradients of Σ out·d_out for three streams of their own.
fn gradients<R: Number>(
    module: &PositionalMultiheadAttention,
    params: &Params<R>,
    [query, key, value]: [&[R]; 3],
    args: &PositionalArgs<'_, R>,
    d_out: &[R],
) -> (Vec<R>, [Vec<R>; 3], Params<R>) {
    let streams = Streams::Apart { query, key, value };
    let (mut trace, mut grads) = (AttentionTrace::default(), params.zeros_like());
    let output = module.forward(params, streams, BATCH, args, Mode::Evaluate, &mut trace).unwrap();
    let mut d = [query, key, value].map(|x| vec![R::of(f64::NAN); x.len()]);
    let [dq, dk, dv] = &mut d;
    let into = StreamGrads::Apart {
        query: dq,
        key: dk,
        value: dv,
    };
    let mode = Mode::Evaluate;
    module
        .adjoint(params, streams, BATCH, args, mode, d_out, into, &mut grads, &mut trace)
        .unwrap();
    (output.out, d, grads)
}
