//! What the module means: ordinary attention under a table of zeros, weights, empty rows, decoding, masks.

use crate::{BATCH, HEADS, WIDTH, additive_pos, forward, gradients, random, with_params};
use posenc::{Dims, Encoding, Mask, Mode, Params, Positions};
use posenc_nn::{AttentionTrace, AttnMask, MultiheadAttention, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

#[test]
fn a_table_of_zeros_is_ordinary_attention_bit_for_bit() {
    let module = additive_pos();
    let mut params: Params<f32> = Params::init(&module.specs(), 7).unwrap();
    assert!(
        module.pos_emb(&params).unwrap().iter().all(|e| *e == 0.0),
        "the table begins with zeros"
    );
    // Biases that are not zero, so that nothing is hidden.
    params
        .get_mut("attn.in_proj_bias")
        .unwrap()
        .copy_from_slice(&random::<f32>(3 * WIDTH, 8));
    let [q, k, v] = [1, 2, 3].map(|seed| random::<f32>(BATCH * 6 * WIDTH, seed));
    let d_out: Vec<f32> = random(BATCH * 6 * WIDTH, 4);
    let args = PositionalArgs {
        q_positions: Some(Positions::whole(&[3, 1, 4, 1, 5, 9])),
        causal: Some(0),
        ..Default::default()
    };
    let (out, d, grads) = gradients(&module, &params, [&q, &k, &v], &args, &d_out);

    let attn = &module.attn;
    let (plan, at) = (Encoding::none().plan(attn.dims).unwrap(), Positions::range(0..6));
    let none = plan.init::<f32>(0).unwrap();
    let (call, mask, mode) = (plan.call(&none, &at, &at).unwrap(), Mask::none().causal(0), Mode::Evaluate);
    let streams = Streams::Apart {
        query: &q[..],
        key: &k,
        value: &v,
    };
    let (mut trace, mut plain_grads) = (AttentionTrace::default(), params.zeros_like());
    let mut plain = vec![f32::NAN; out.len()];
    attn.forward(&params, &call, streams, &mask, mode, &mut plain, None, &mut trace)
        .unwrap();
    let [mut dq, mut dk, mut dv] = [0; 3].map(|_| vec![f32::NAN; q.len()]);
    let into = StreamGrads::Apart {
        query: &mut dq,
        key: &mut dk,
        value: &mut dv,
    };
    attn.adjoint(&params, &call, streams, &mask, mode, &d_out, into, &mut plain_grads, &mut trace)
        .unwrap();
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&out), bits(&plain));
    for (ours, plain) in d.iter().zip([dq, dk, dv]) {
        assert_eq!(bits(ours), bits(&plain));
    }
    for name in [
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        "attn.out_proj.weight",
        "attn.out_proj.bias",
    ] {
        assert_eq!(bits(grads.get(name).unwrap()), bits(plain_grads.get(name).unwrap()), "{name}");
    }
    assert!(
        grads.get("pos_emb").unwrap().iter().any(|g| *g != 0.0),
        "zeros are no dead end: the table learns"
    );
}

#[test]
fn asking_for_weights_changes_no_bit_of_the_output_or_of_gradients() {
    // More keys than a tile has, and dropout.
    let (q_len, k_len) = (70, 300);
    let module = PositionalMultiheadAttention::additive_pos(WIDTH, HEADS, 300)
        .unwrap()
        .with_dropout(0.25);
    let params = with_params::<f32>(&module);
    let (q, k) = (random::<f32>(BATCH * q_len * WIDTH, 1), random::<f32>(BATCH * k_len * WIDTH, 2));
    let streams = Streams::Apart {
        query: &q[..],
        key: &k,
        value: &k,
    };
    let mode = Mode::Train { seed: 1, call: 2 };
    let run = |need_weights: bool| {
        let args = PositionalArgs {
            need_weights,
            causal: Some(230),
            ..Default::default()
        };
        let (mut trace, mut grads) = (AttentionTrace::default(), params.zeros_like());
        let output = module.forward(&params, streams, BATCH, &args, mode, &mut trace).unwrap();
        let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), k.clone());
        let into = StreamGrads::Apart {
            query: &mut dq,
            key: &mut dk,
            value: &mut dv,
        };
        module
            .adjoint(&params, streams, BATCH, &args, mode, &q, into, &mut grads, &mut trace)
            .unwrap();
        (output.out, grads.flat().to_vec(), dk, output.weights)
    };
    let (with, without) = (run(true), run(false));
    assert!(without.3.is_none());
    assert_eq!((with.0, with.1, with.2), (without.0, without.1, without.2));
    let weights = with.3.unwrap();
    assert_eq!(weights.len(), BATCH * q_len * k_len);
    assert!(
        weights.iter().any(|w| *w > 0.0) && weights[k_len - 1] == 0.0,
        "after dropout, and causal"
    );
}

#[test]
fn a_row_that_attends_to_nothing_gives_zeros_before_the_output_projection() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 4 * WIDTH, 1);
    // The second batch row is all padding.
    let padding: Vec<bool> = (0..BATCH * 4).map(|i| i >= 4).collect();
    let infinite: Vec<f32> = padding.iter().map(|p| if *p { f32::NEG_INFINITY } else { 0.0 }).collect();
    for mask in [AttnMask::Blocked(&padding, &[BATCH, 4]), AttnMask::Additive(&infinite, &[BATCH, 4])] {
        let args = PositionalArgs {
            key_padding_mask: Some(mask),
            need_weights: true,
            ..Default::default()
        };
        let output = forward(&module, &params, Streams::Same(&x), &args).unwrap();
        let bias = params.get("attn.out_proj.bias").unwrap();
        assert!(output.out[4 * WIDTH..].chunks(WIDTH).all(|row| row == bias));
        assert!(output.weights.unwrap()[16..].iter().all(|w| *w == 0.0));
        let (_, d, grads) = gradients(&module, &params, [&x; 3], &args, &x);
        assert!(d.iter().flatten().chain(grads.flat()).all(|g| g.is_finite()));
        assert!(d.iter().all(|d| d[4 * WIDTH..].iter().all(|g| *g == 0.0)));
    }
}

#[test]
fn lengths_of_zero_are_lengths() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 4 * WIDTH, 1);
    let args = PositionalArgs {
        need_weights: true,
        ..Default::default()
    };
    let apart = |query, key| Streams::Apart { query, key, value: key };
    let output = forward(&module, &params, apart(&x, &[]), &args).unwrap();
    let bias = params.get("attn.out_proj.bias").unwrap();
    assert!(output.out.chunks(WIDTH).all(|row| row == bias) && output.weights.unwrap().is_empty());
    let output = forward(&module, &params, apart(&[], &x), &args).unwrap();
    assert!(output.out.is_empty() && output.weights.unwrap().is_empty());
    let (_, d, _) = gradients(&module, &params, [&[], &x, &x], &args, &[]);
    assert!(d[1].iter().chain(&d[2]).all(|g| *g == 0.0));
    let (_, d, _) = gradients(&module, &params, [&x, &[], &[]], &args, &x);
    assert!(d[0].iter().all(|g| *g == 0.0));
    assert!(forward(&module, &params, Streams::Same(&[]), &args).unwrap().out.is_empty());
}

#[test]
fn a_decoded_token_at_its_own_position_is_the_last_row_of_the_whole() {
    let (module, params) = (additive_pos(), with_params::<f64>(&additive_pos()));
    let x: Vec<f64> = random(BATCH * 5 * WIDTH, 1);
    let last: Vec<f64> = x.chunks(5 * WIDTH).flat_map(|row| row[4 * WIDTH..].to_vec()).collect();
    let whole = PositionalArgs {
        causal: Some(0),
        ..Default::default()
    };
    let step = PositionalArgs {
        q_positions: Some(Positions::range(4..5)),
        causal: Some(4),
        ..Default::default()
    };
    let whole = forward(&module, &params, Streams::Same(&x), &whole).unwrap().out;
    let streams = Streams::Apart {
        query: &last[..],
        key: &x,
        value: &x,
    };
    let step = forward(&module, &params, streams, &step).unwrap().out;
    for b in 0..BATCH {
        for c in 0..WIDTH {
            // Two sums over the same five keys, of numbers of order 1.
            assert!((whole[(b * 5 + 4) * WIDTH + c] - step[b * WIDTH + c]).abs() < 64.0 * f64::EPSILON);
        }
    }
}

#[test]
fn masks_of_rank_four_say_the_same_as_those_of_rank_two_and_three() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let pairs: Vec<bool> = (0..9).map(|i| i % 3 == 1).collect();
    let run = |mask: &[bool], shape: &[usize]| {
        let args = PositionalArgs {
            attn_mask: Some(AttnMask::Blocked(mask, shape)),
            need_weights: true,
            ..Default::default()
        };
        forward(&module, &params, Streams::Same(&x), &args).unwrap()
    };
    let expected = run(&pairs, &[3, 3]);
    assert_eq!(expected, run(&pairs.repeat(BATCH * HEADS), &[BATCH * HEADS, 3, 3]));
    assert_eq!(expected, run(&pairs.repeat(BATCH), &[BATCH, 1, 3, 3]));
    assert_eq!(expected, run(&pairs.repeat(HEADS), &[1, HEADS, 3, 3]));
}

/// The rows that `in_proj_rows` names, for grouped heads too.
#[test]
fn projections_of_their_own_go_to_the_rows_of_their_role() {
    let dims = Dims::new(8, 4).unwrap().with_kv_heads(2).unwrap();
    assert_eq!(MultiheadAttention::new("attn", 8, dims).in_proj_rows(), [0..8, 8..12, 12..16]);
}

/// symm-learning's module drops its bias from a call that is causal and asks for no weights, without a word.
#[test]
fn a_relative_bias_is_never_dropped() {
    let module = PositionalMultiheadAttention::additive_rel(WIDTH, HEADS, 3).unwrap();
    let params = with_params::<f64>(&module);
    let mut other = params.clone();
    other
        .get_mut("rel_bias")
        .unwrap()
        .iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b += (i as f64).sin());
    let x: Vec<f64> = random(BATCH * 5 * WIDTH, 1);
    let after: Vec<bool> = (0..25).map(|pair| pair % 5 > pair / 5).collect();
    let after = Some(AttnMask::Blocked(&after, &[5, 5]));
    let run = |params: &Params<f64>, causal: Option<usize>, attn_mask, need_weights| {
        let args = PositionalArgs {
            causal,
            attn_mask,
            need_weights,
            ..Default::default()
        };
        forward(&module, params, Streams::Same(&x), &args).unwrap().out
    };
    let with_mask = run(&params, None, after, true);
    assert_ne!(with_mask, run(&other, None, after, true));
    for (attn_mask, need_weights) in [(None, false), (None, true), (after, false), (after, true)] {
        assert_eq!(run(&params, Some(0), attn_mask, need_weights), with_mask);
    }
    // Of zeros, as it begins, it is ordinary attention to the bit.
    let fresh: Params<f64> = Params::init(&module.specs(), 7).unwrap();
    let plain = PositionalMultiheadAttention::new(&Encoding::none(), WIDTH, HEADS).unwrap();
    let plain_params = fresh.part(&plain.specs()).unwrap();
    let args = PositionalArgs {
        causal: Some(0),
        need_weights: true,
        ..Default::default()
    };
    let ours = forward(&module, &fresh, Streams::Same(&x), &args).unwrap();
    assert_eq!(ours, forward(&plain, &plain_params, Streams::Same(&x), &args).unwrap());
}

/// symm-learning's rotary module raises where causality meets a mask or padding, unless weights are asked for.
#[test]
fn rotary_is_causal_beside_any_mask() {
    let module = PositionalMultiheadAttention::rope(WIDTH, HEADS, 100.0).unwrap();
    let params = with_params::<f64>(&module);
    let x: Vec<f64> = random(BATCH * 4 * WIDTH, 1);
    let holes: Vec<bool> = (0..BATCH * HEADS * 16).map(|i| i % 7 == 3).collect();
    let padding: Vec<bool> = (0..BATCH * 4).map(|i| i == 7).collect();
    for need_weights in [false, true] {
        // All three conditions in one mask, and each in its own argument.
        let all: Vec<bool> = (0..BATCH * HEADS * 16)
            .map(|at| holes[at] || at % 4 > at / 4 % 4 || padding[at / (HEADS * 16) * 4 + at % 4])
            .collect();
        let one = PositionalArgs {
            attn_mask: Some(AttnMask::Blocked(&all, &[BATCH, HEADS, 4, 4])),
            need_weights,
            ..Default::default()
        };
        let apart = PositionalArgs {
            attn_mask: Some(AttnMask::Blocked(&holes, &[BATCH * HEADS, 4, 4])),
            key_padding_mask: Some(AttnMask::Blocked(&padding, &[BATCH, 4])),
            causal: Some(0),
            need_weights,
            ..Default::default()
        };
        let output = forward(&module, &params, Streams::Same(&x), &apart).unwrap();
        assert_eq!(output, forward(&module, &params, Streams::Same(&x), &one).unwrap());
        assert!(output.out.iter().all(|o| o.is_finite()));
    }
}

#[test]
fn averaged_weights_are_the_mean_of_those_per_head() {
    let module = PositionalMultiheadAttention::alibi(WIDTH, HEADS).unwrap();
    let params = with_params::<f64>(&module);
    let x: Vec<f64> = random(BATCH * 4 * WIDTH, 1);
    let weights = |average_attn_weights| {
        let args = PositionalArgs {
            need_weights: true,
            average_attn_weights,
            causal: Some(0),
            ..Default::default()
        };
        forward(&module, &params, Streams::Same(&x), &args).unwrap().weights.unwrap()
    };
    let (averaged, by_head) = (weights(true), weights(false));
    assert_eq!((averaged.len(), by_head.len()), (BATCH * 16, BATCH * HEADS * 16));
    for (at, mean) in averaged.iter().enumerate() {
        let (b, pair) = (at / 16, at % 16);
        let of = |h: usize| by_head[(b * HEADS + h) * 16 + pair];
        assert_eq!(*mean, (of(0) + of(1)) / 2.0);
    }
    assert!(by_head[..16] != by_head[16..32], "heads differ");
    let none = forward(&module, &params, Streams::Same(&x), &PositionalArgs::default()).unwrap();
    assert!(none.weights.is_none());
}
