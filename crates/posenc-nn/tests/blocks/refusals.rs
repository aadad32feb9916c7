//! What a layer refuses, before it writes anything.

use super::*;
use posenc_nn::DecodeArgs;

#[test]
fn widths_and_settings_are_checked() {
    let attention = attentions().remove(3);
    assert!(TransformerEncoderLayer::new(attention.clone(), 0).is_err());
    let wider = PositionalMultiheadAttention::alibi(2 * WIDTH, HEADS).unwrap();
    assert!(TransformerDecoderLayer::new(attention.clone(), wider, HIDDEN).is_err());
    let (args, mode) = (PositionalArgs::default(), Mode::Evaluate);
    let src: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let refused = |layer: &TransformerEncoderLayer, batch: usize, src: &[f32]| {
        let params = with_params::<f32>(&layer.specs());
        layer
            .forward(&params, src, batch, &args, mode, &mut TransformerTrace::default())
            .unwrap_err()
            .to_string()
    };
    let layer = encoder(attention);
    for dropout in [1.0, -0.5, f64::NAN] {
        assert!(refused(&layer.clone().with_dropout(dropout), BATCH, &src).contains("dropout"));
    }
    assert!(refused(&layer, 0, &src).contains("batch"));
    assert!(refused(&layer, BATCH, &src[1..]).contains("src"));
    let mut uneven = layer.clone();
    uneven.linear2.out_dim += 1;
    assert!(refused(&uneven, BATCH, &src).contains("widths"));
    let params = with_params::<f32>(&layer.clone().without_bias().specs());
    let missing = layer.forward(&params, &src, BATCH, &args, mode, &mut TransformerTrace::default());
    assert!(missing.unwrap_err().to_string().contains("self_attn.attn.in_proj_bias"));
}

#[test]
fn a_refused_adjoint_writes_nothing() {
    let layer = decoder(attentions().remove(1));
    let params = with_params::<f32>(&layer.specs());
    let (tgt, memory): (Vec<f32>, Vec<f32>) = (random(BATCH * 3 * WIDTH, 1), random(BATCH * 5 * WIDTH, 2));
    let (plain, mode) = (PositionalArgs::default(), Mode::Evaluate);
    let past = PositionalArgs {
        k_positions: Some(Positions::range(10..13)),
        ..Default::default()
    };
    let wrong_mask = PositionalArgs {
        attn_mask: Some(AttnMask::Blocked(&[false; 9], &[3, 3])),
        ..Default::default()
    };
    let lacking = Params::<f32>::zeros(&layer.clone().without_bias().specs()).unwrap();
    let mut ready = TransformerTrace::default();
    layer
        .forward(&params, &tgt, &memory, BATCH, [&plain, &plain], mode, &mut ready)
        .unwrap();
    let mut try_adjoint = |args: [&PositionalArgs<'_, f32>; 2], d_memory_len: usize, grads: &Params<f32>, fresh: bool| {
        let (mut d_tgt, mut d_memory, mut grads) = (vec![7.0f32; tgt.len()], vec![7.0f32; d_memory_len], grads.clone());
        let mut unused = TransformerTrace::default();
        let trace = if fresh { &mut unused } else { &mut ready };
        let result = layer.adjoint(
            &params,
            &tgt,
            &memory,
            BATCH,
            args,
            mode,
            &tgt,
            &mut d_tgt,
            &mut d_memory,
            &mut grads,
            trace,
        );
        let untouched = d_tgt.iter().chain(&d_memory).all(|d| *d == 7.0) && grads.flat().iter().all(|g| *g == 0.0);
        (result.is_err(), untouched)
    };
    let zeros = params.zeros_like();
    // A position past the table, a mask of other lengths, a gradient without its place, gradients that are missing, no forward pass.
    assert_eq!(try_adjoint([&past, &plain], memory.len(), &zeros, false), (true, true));
    assert_eq!(try_adjoint([&plain, &wrong_mask], memory.len(), &zeros, false), (true, true));
    assert_eq!(try_adjoint([&plain, &plain], memory.len() - 1, &zeros, false), (true, true));
    assert_eq!(try_adjoint([&plain, &plain], memory.len(), &lacking, false), (true, true));
    assert_eq!(try_adjoint([&plain, &plain], memory.len(), &zeros, true), (true, true));
    assert_eq!(try_adjoint([&plain, &plain], memory.len(), &zeros, false), (false, false));
}

#[test]
fn an_adjoint_wants_the_trace_of_its_own_forward_pass() {
    let (args, mode) = (PositionalArgs::default(), Mode::Evaluate);
    let layer = decoder(attentions().remove(2));
    let params = with_params::<f32>(&layer.specs());
    let (tgt, memory): (Vec<f32>, Vec<f32>) = (random(BATCH * 3 * WIDTH, 1), random(BATCH * 5 * WIDTH, 2));
    let mut trace = TransformerTrace::default();
    let mut grads = params.zeros_like();
    let (mut d_tgt, mut d_memory) = (tgt.clone(), memory.clone());
    // A memory of another length.
    layer.forward(&params, &tgt, &tgt, BATCH, [&args, &args], mode, &mut trace).unwrap();
    let refused = layer.adjoint(
        &params,
        &tgt,
        &memory,
        BATCH,
        [&args, &args],
        mode,
        &tgt,
        &mut d_tgt,
        &mut d_memory,
        &mut grads,
        &mut trace,
    );
    assert!(refused.is_err() && d_tgt == tgt && d_memory == memory && grads.flat().iter().all(|g| *g == 0.0));
    // A decoded step.
    let layer = encoder(attentions().remove(2));
    let (params, mut cache) = (with_params::<f32>(&layer.specs()), layer.cache(BATCH).unwrap());
    layer
        .decode(&params, &tgt, &mut cache, &DecodeArgs::default(), mode, &mut trace)
        .unwrap();
    let mut grads = params.zeros_like();
    let refused = layer.adjoint(&params, &tgt, BATCH, &args, mode, &tgt, &mut d_tgt, &mut grads, &mut trace);
    assert!(refused.is_err() && grads.flat().iter().all(|g| *g == 0.0));
}

#[test]
fn lengths_of_zero_are_lengths() {
    let layer = encoder(attentions().remove(2));
    let params = with_params::<f32>(&layer.specs());
    let (args, mode) = (PositionalArgs::default(), Mode::Train { seed: 1, call: 1 });
    let (mut trace, mut grads) = (TransformerTrace::default(), params.zeros_like());
    let layer = layer.with_dropout(0.5);
    assert!(layer.forward(&params, &[], BATCH, &args, mode, &mut trace).unwrap().out.is_empty());
    layer
        .adjoint(&params, &[], BATCH, &args, mode, &[], &mut [], &mut grads, &mut trace)
        .unwrap();
    assert!(grads.flat().iter().all(|g| *g == 0.0));
}
