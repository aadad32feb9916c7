//! Attention with a bias, forward. The peers read a bias that was written out before, ours computes it from positions.

use crate::compare::{Bench, Result, Work, agree, burn, candle, from_burn, from_candle, numbers};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use posenc::{Alibi, Attention, Dims, Encoding, Inputs, Mask, Mode, Outputs, Positions, View, ViewMut, Workspace};
use std::hint::black_box;

const SHAPE: [usize; 4] = [1, 16, 2048, 64];
/// Both take means of values up to 1 with weights from sums of 64 products up to 1, an eighth of which is the score: f32 roundings of those, generously.
const BOUND: f32 = 1e-5;

pub fn run(bench: &Bench) -> Result<()> {
    for biased in [false, true] {
        with(bench, biased)?;
    }
    Ok(())
}

fn with(bench: &Bench, biased: bool) -> Result<()> {
    let name = if biased { "attention, ALiBi" } else { "attention" };
    let peers = ["candle tensor ops", "burn attention"];
    if !peers.iter().any(|peer| bench.wants(name, peer)) {
        return Ok(());
    }
    let [_, heads, len, d] = SHAPE;
    let encoding = if biased { Alibi::symmetric().into() } else { Encoding::none() };
    let plan = encoding.plan(Dims::new(heads * d, heads)?)?;
    let params = plan.init::<f32>(0)?;
    let at = Positions::range(0..len as i64);
    let mut bias = vec![0.0f32; if biased { heads * len * len } else { 0 }];
    if biased {
        plan.call(&params, &at, &at)?
            .materialise_bias(ViewMut::new(&mut bias, [1, heads, len, len])?)?;
    }
    let all: Vec<f32> = numbers(3 * heads * len * d);
    let (q, rest) = all.split_at(heads * len * d);
    let (k, v) = rest.split_at(heads * len * d);
    let mut work = Workspace::default();
    let mut ours = |out: &mut [f32]| -> posenc::Result<()> {
        let call = plan.call(&params, &at, &at)?;
        let inputs = Inputs::new(View::new(q, SHAPE)?, View::new(k, SHAPE)?, View::new(v, SHAPE)?);
        let outputs = Outputs {
            out: ViewMut::new(out, SHAPE)?,
            saved: None,
            weights: None,
        };
        Attention::default().forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut work)
    };
    let mut out = vec![0.0f32; q.len()];
    ours(&mut out)?;
    let described = |peer| Work {
        name,
        stored: "f32",
        shape: &SHAPE,
        peer,
    };
    let scale = 1.0 / (d as f64).sqrt();

    if bench.wants(name, peers[0]) {
        let [q, k, v] = [q, k, v].map(|x| candle(x, &SHAPE));
        let (q, k, v) = (q?, k?, v?);
        let bias = if biased {
            Some(candle(&bias, &[1, heads, len, len])?)
        } else {
            None
        };
        // What candle's models do; its fused attention for processors is two to six times slower at this shape.
        let theirs = || -> candle_core::Result<candle_core::Tensor> {
            let mut scores = (q.matmul(&k.t()?)? * scale)?;
            if let Some(bias) = &bias {
                scores = (scores + bias)?;
            }
            candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
        };
        agree(&format!("{name}, {}", peers[0]), &out, &from_candle(&theirs()?)?, BOUND)?;
        let mut run = || ours(&mut out).expect("ran before");
        bench.run(&described(peers[0]), || drop(black_box(theirs())), &mut [("a buffer", &mut run)]);
    }
    if bench.wants(name, peers[1]) {
        let [q, k, v] = [q, k, v].map(|x| burn(x, SHAPE));
        let bias = biased.then(|| burn(&bias, [1, heads, len, len]));
        let theirs = || {
            attention(
                q.clone(),
                k.clone(),
                v.clone(),
                None,
                bias.clone(),
                AttentionModuleOptions::default(),
            )
        };
        agree(&format!("{name}, {}", peers[1]), &out, &from_burn(theirs()), BOUND)?;
        let mut run = || ours(&mut out).expect("ran before");
        bench.run(&described(peers[1]), || drop(black_box(theirs())), &mut [("a buffer", &mut run)]);
    }
    Ok(())
}
