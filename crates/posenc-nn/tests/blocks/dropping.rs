//! Each place that drops has a stream of its own.

use super::*;

const SEED: Mode = Mode::Train { seed: 3, call: 4 };

/// Zeros but for these tensors, which are filled.
fn filled(specs: &[ParamSpec], values: &[(&str, f64)]) -> Params<f64> {
    let mut params = Params::zeros(specs).unwrap();
    for (name, value) in values {
        params.get_mut(name).unwrap().fill(*value);
    }
    params
}

/// Whether two sequences of coins with probability p of `true` are fair and do not know of each other: five standard deviations of a share of n.
fn independent(a: &[bool], b: &[bool], p: f64) {
    let share = |n: usize| n as f64 / a.len() as f64;
    let near = |share: f64, p: f64| (share - p).abs() < 5.0 * (p * (1.0 - p) / a.len() as f64).sqrt();
    assert!(near(share(a.iter().filter(|a| **a).count()), p));
    assert!(near(share(b.iter().filter(|b| **b).count()), p));
    assert!(near(share(a.iter().zip(b).filter(|(a, b)| **a && **b).count()), p * p));
}

/// A layer of zeros to whose stream each sublayer adds its bias: 1, 10, 100, times 4/3 where it is kept.
#[test]
fn sublayers_drop_independently_of_one_another() {
    let layer = decoder(attentions()[0].clone()).with_norm_first().with_dropout(0.25);
    let biases = [
        ("self_attn.out_proj.bias", 0.75),
        ("multihead_attn.attn.out_proj.bias", 7.5),
        ("linear2.bias", 75.0),
    ];
    let params = filled(&layer.specs(), &biases);
    let (tgt, args) = (vec![0.0; BATCH * 64 * WIDTH], PositionalArgs::default());
    let run = |mode| {
        let trace = &mut TransformerTrace::default();
        layer.forward(&params, &tgt, &tgt, BATCH, [&args, &args], mode, trace).unwrap().out
    };
    let out = run(SEED);
    let kept = |digit: f64| -> Vec<bool> { out.iter().map(|x| (x.round() / digit) as u64 % 10 == 1).collect() };
    let [first, second, third] = [1.0, 10.0, 100.0].map(kept);
    for (a, b) in [(&first, &second), (&first, &third), (&second, &third)] {
        independent(a, b, 0.75);
    }
    // Rows of the batch, tokens and channels too.
    let half = first.len() / 2;
    independent(&first[..half], &first[half..], 0.75);
    independent(&first[..first.len() - WIDTH], &first[WIDTH..], 0.75);
    assert_eq!(out, run(SEED), "a function of seed and call");
    assert_ne!(out, run(Mode::Train { seed: 3, call: 5 }));
    assert!(run(Mode::Evaluate).iter().all(|x| *x == 0.75 + 7.5 + 75.0));
}

#[test]
fn hidden_numbers_are_dropped_independently_of_what_follows() {
    let layer = TransformerEncoderLayer::new(attentions()[0].clone(), WIDTH).unwrap();
    let layer = layer.with_norm_first().with_dropout(0.25);
    let mut params = filled(&layer.specs(), &[("linear1.bias", 1.0)]);
    let identity = params.get_mut("linear2.weight").unwrap();
    (0..WIDTH).for_each(|i| identity[i * WIDTH + i] = 1.0);
    let src = vec![0.0; BATCH * 64 * WIDTH];
    let mut trace = TransformerTrace::default();
    let output = layer.forward(&params, &src, BATCH, &PositionalArgs::default(), SEED, &mut trace);
    // Kept twice or not at all. Were both the same coin, 3/4 would be kept.
    let both: Vec<bool> = output.unwrap().out.iter().map(|x| *x > 0.0).collect();
    let share = both.iter().filter(|both| **both).count() as f64 / both.len() as f64;
    let p: f64 = 0.75 * 0.75;
    assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / both.len() as f64).sqrt(), "{share}");
}

#[test]
fn the_two_attentions_drop_different_weights() {
    let mut layer = decoder(attentions()[0].clone());
    layer.multihead_attn = attentions()[0].clone().named("multihead_attn");
    for attention in [&mut layer.self_attn, &mut layer.multihead_attn] {
        attention.attn.attention.dropout = 0.25;
    }
    let params = filled(&layer.specs(), &[]);
    let tgt = vec![0.0; BATCH * 32 * WIDTH];
    let args = PositionalArgs {
        need_weights: true,
        average_attn_weights: false,
        ..Default::default()
    };
    let trace = &mut TransformerTrace::default();
    let output = layer.forward(&params, &tgt, &tgt, BATCH, [&args, &args], SEED, trace).unwrap();
    let kept = |weights: Option<Vec<f64>>| -> Vec<bool> { weights.unwrap().iter().map(|w| *w > 0.0).collect() };
    independent(&kept(output.self_weights.clone()), &kept(output.memory_weights.clone()), 0.75);
    // Self-attention drops what the module alone drops.
    let streams = posenc_nn::Streams::Same(&tgt[..]);
    let alone = layer
        .self_attn
        .forward(&params, streams, BATCH, &args, SEED, &mut Default::default());
    assert_eq!(alone.unwrap().weights, output.self_weights);
}
