//! The adjoints, against central differences.

use super::*;
use posenc_nn::check::{finite_differences, tolerance, worst};
use posenc_nn::{Activation, Gelu};

/// The loss is a sum of some 50 products of order 1. Its third derivatives pass two or three norms, one after another, of eight numbers, and each norm's reach some tens
/// (`layer_norm.rs`): a thousand in all.
const SIZE: f64 = 1000.0;

/// Asserts that gradients of everything are those of finite differences. `loss` is Σ out·d_out of parameters and streams.
fn check(
    what: &str,
    params: &Params<f64>,
    grads: &Params<f64>,
    streams: &[Vec<f64>],
    d: &[Vec<f64>],
    loss: impl Fn(&Params<f64>, &[Vec<f64>]) -> f64,
) {
    for (i, stream) in streams.iter().enumerate() {
        let differences = finite_differences(stream, 0..stream.len(), |moved| {
            let mut streams = streams.to_vec();
            streams[i] = moved.to_vec();
            loss(params, &streams)
        });
        let worst = worst(&d[i], &differences).unwrap();
        assert!(worst.error < tolerance(SIZE), "{what}, stream {i}: {worst:?}");
    }
    let differences = finite_differences(params.flat(), 0..params.size(), |flat| {
        let mut moved = params.clone();
        moved.flat_mut().copy_from_slice(flat);
        loss(&moved, streams)
    });
    let worst = worst(grads.flat(), &differences).unwrap();
    assert!(worst.error < tolerance(SIZE), "{what}, parameters: {worst:?}");
}

fn product(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn check_encoder(layer: &TransformerEncoderLayer, args: &PositionalArgs<'_, f64>, mode: Mode) {
    let params = with_params::<f64>(&layer.specs());
    let src = random(BATCH * 4 * WIDTH, 1);
    let d_out: Vec<f64> = random(src.len(), 2);
    let (mut trace, mut grads, mut d_src) = (TransformerTrace::default(), params.zeros_like(), vec![f64::NAN; src.len()]);
    // Gradients are added to what is there.
    grads.flat_mut().fill(3.0);
    layer.forward(&params, &src, BATCH, args, mode, &mut trace).unwrap();
    layer
        .adjoint(&params, &src, BATCH, args, mode, &d_out, &mut d_src, &mut grads, &mut trace)
        .unwrap();
    grads.flat_mut().iter_mut().for_each(|g| *g -= 3.0);
    let what = format!("{} norm_first {} {:?}", layer.self_attn, layer.norm_first, layer.activation);
    check(&what, &params, &grads, &[src], &[d_src], |params, streams| {
        let output = layer.forward(params, &streams[0], BATCH, args, mode, &mut TransformerTrace::default());
        product(&output.unwrap().out, &d_out)
    });
}

fn check_decoder(layer: &TransformerDecoderLayer, args: [&PositionalArgs<'_, f64>; 2], mode: Mode) {
    let params = with_params::<f64>(&layer.specs());
    let (tgt, memory) = (random(BATCH * 3 * WIDTH, 1), random(BATCH * 5 * WIDTH, 2));
    let d_out: Vec<f64> = random(tgt.len(), 3);
    let (mut trace, mut grads) = (TransformerTrace::default(), params.zeros_like());
    let (mut d_tgt, mut d_memory) = (vec![f64::NAN; tgt.len()], vec![f64::NAN; memory.len()]);
    layer.forward(&params, &tgt, &memory, BATCH, args, mode, &mut trace).unwrap();
    layer
        .adjoint(
            &params,
            &tgt,
            &memory,
            BATCH,
            args,
            mode,
            &d_out,
            &mut d_tgt,
            &mut d_memory,
            &mut grads,
            &mut trace,
        )
        .unwrap();
    let what = format!("{} norm_first {} {:?}", layer.self_attn, layer.norm_first, layer.activation);
    check(&what, &params, &grads, &[tgt, memory], &[d_tgt, d_memory], |params, streams| {
        let output = layer.forward(
            params,
            &streams[0],
            &streams[1],
            BATCH,
            args,
            mode,
            &mut TransformerTrace::default(),
        );
        product(&output.unwrap().out, &d_out)
    });
}

fn activations() -> [Activation; 3] {
    [Activation::Relu, Gelu::Exact.into(), Gelu::Tanh.into()]
}

#[test]
fn encoder_adjoint_matches_finite_differences() {
    let pairs: Vec<bool> = (0..BATCH * HEADS * 16).map(|i| i % 4 == 1).collect();
    let soft: Vec<f64> = random(BATCH * 4, 10);
    let rows = Positions::whole_rows(&[4, 0, 4, 11, 2, 3, 1, 1], BATCH).unwrap();
    let masked = PositionalArgs {
        q_positions: Some(rows.clone()),
        k_positions: Some(rows),
        q_position_mask: Some(&[true, true, false, true]),
        k_position_mask: Some(&[true, true, false, true]),
        attn_mask: Some(AttnMask::Blocked(&pairs, &[BATCH * HEADS, 4, 4])),
        key_padding_mask: Some(AttnMask::Additive(&soft, &[BATCH, 4])),
        ..Default::default()
    };
    let causal = PositionalArgs {
        causal: Some(0),
        need_weights: true,
        ..Default::default()
    };
    for (i, attention) in attentions().into_iter().enumerate() {
        for (j, activation) in activations().into_iter().enumerate() {
            let layer = encoder(attention.clone()).with_activation(activation).named("layers.3");
            let args = if (i + j) % 2 == 0 { &masked } else { &causal };
            check_encoder(&layer, args, Mode::Evaluate);
            check_encoder(&layer.with_norm_first(), args, Mode::Evaluate);
        }
    }
    check_encoder(&encoder(attentions().remove(3)).without_bias(), &masked, Mode::Evaluate);
}

#[test]
fn decoder_adjoint_matches_finite_differences() {
    let blocked: Vec<bool> = (0..15).map(|i| i % 4 == 1).collect();
    let padding: Vec<bool> = (0..BATCH * 5).map(|i| i == 2 || i == 9).collect();
    let own = PositionalArgs {
        q_positions: Some(Positions::range(3..6)),
        k_positions: Some(Positions::range(3..6)),
        causal: Some(0),
        ..Default::default()
    };
    let over = PositionalArgs {
        q_positions: Some(Positions::range(3..6)),
        k_positions: Some(Positions::range(-4..1)),
        k_position_mask: Some(&[false, true, true, true, true]),
        attn_mask: Some(AttnMask::Blocked(&blocked, &[3, 5])),
        key_padding_mask: Some(AttnMask::Blocked(&padding, &[BATCH, 5])),
        ..Default::default()
    };
    for (i, attention) in attentions().into_iter().enumerate() {
        let layer = decoder(attention).with_activation(activations()[i % 3]);
        check_decoder(&layer, [&own, &over], Mode::Evaluate);
        check_decoder(&layer.with_norm_first(), [&own, &PositionalArgs::default()], Mode::Evaluate);
    }
    check_decoder(&decoder(attentions().remove(2)).without_bias(), [&own, &over], Mode::Evaluate);
}

#[test]
fn adjoints_drop_what_the_forward_pass_dropped() {
    let (args, mode) = (PositionalArgs::default(), Mode::Train { seed: 1, call: 7 });
    for attention in attentions() {
        let attention = attention.with_dropout(0.3);
        let mut layer = decoder(attention.clone()).with_dropout(0.4).with_activation(Gelu::Exact);
        layer.multihead_attn.attn.attention.dropout = 0.3;
        let single = encoder(attention).with_dropout(0.4).with_activation(Gelu::Exact);
        check_encoder(&single, &args, mode);
        check_encoder(&single.with_norm_first(), &args, mode);
        check_decoder(&layer, [&args, &args], mode);
        check_decoder(&layer.with_norm_first(), [&args, &args], mode);
    }
}
