//! A layer that reads token by token, and storage in half precision.

use super::*;
use half::bf16;
use posenc::Element;
use posenc_nn::{Activation, DecodeArgs, Gelu};

/// Sums over the same keys and channels in another order: some 200 roundings of numbers of order 1, whose effect two norms may multiply by their gains of order 1/√variance.
const APART: f64 = 1024.0 * f64::EPSILON;

fn near(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len());
    let far = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < APART, "{what}: {far:e}");
}

/// One row's tokens of `[batch, len, width]`.
fn tokens(x: &[f64], len: usize, row: usize, from: usize, to: usize) -> &[f64] {
    &x[(row * len + from) * WIDTH..(row * len + to) * WIDTH]
}

#[test]
fn an_encoder_layer_decodes_what_it_reads_whole() {
    let causal = PositionalArgs {
        causal: Some(0),
        ..Default::default()
    };
    let (args, mode) = (DecodeArgs::default(), Mode::Evaluate);
    for attention in attentions() {
        for layer in [encoder(attention.clone()), encoder(attention.clone()).with_norm_first()] {
            let params = with_params::<f64>(&layer.specs());
            let (len, prompts) = (6, [3, 2]);
            let x: Vec<f64> = random(BATCH * len * WIDTH, 1);
            let mut trace = TransformerTrace::default();
            let whole = layer.forward(&params, &x, BATCH, &causal, mode, &mut trace).unwrap().out;
            // Prompts of three and of two tokens, then three and four single tokens, of which the first row does not have the last.
            let mut cache = layer.cache(BATCH).unwrap();
            let prompt: Vec<f64> = (0..BATCH).flat_map(|b| tokens(&x, len, b, 0, 3).to_vec()).collect();
            let lengths = DecodeArgs {
                lengths: Some(&prompts),
                ..args.clone()
            };
            let out = layer.decode(&params, &prompt, &mut cache, &lengths, mode, &mut trace).unwrap().out;
            near(tokens(&out, 3, 0, 0, 3), tokens(&whole, len, 0, 0, 3), "prompt");
            near(tokens(&out, 3, 1, 0, 2), tokens(&whole, len, 1, 0, 2), "prompt");
            assert!(tokens(&out, 3, 1, 2, 3).iter().all(|x| *x == 0.0), "padding");
            for step in 0..3 {
                let next: Vec<f64> = (0..BATCH)
                    .flat_map(|b| tokens(&x, len, b, prompts[b] + step, prompts[b] + step + 1).to_vec())
                    .collect();
                let out = layer.decode(&params, &next, &mut cache, &args, mode, &mut trace).unwrap().out;
                for b in 0..BATCH {
                    let at = prompts[b] + step;
                    near(tokens(&out, 1, b, 0, 1), tokens(&whole, len, b, at, at + 1), "step");
                }
            }
            assert_eq!(cache.lens(), [6, 5]);
        }
    }
}

#[test]
fn a_decoder_layer_decodes_what_it_reads_whole() {
    let mode = Mode::Evaluate;
    let (len, memory_len) = (5, 4);
    let padding = [false, false, true, false, false, false, false, true];
    let own = PositionalArgs {
        causal: Some(0),
        ..Default::default()
    };
    let over = PositionalArgs {
        key_padding_mask: Some(AttnMask::Blocked(&padding, &[BATCH, memory_len])),
        ..Default::default()
    };
    let step = DecodeArgs::default();
    let all = DecodeArgs {
        causal: false,
        key_padding_mask: over.key_padding_mask,
        ..Default::default()
    };
    for attention in attentions() {
        let layer = decoder(attention).with_norm_first();
        let params = with_params::<f64>(&layer.specs());
        let (x, read) = (random(BATCH * len * WIDTH, 1), random(BATCH * memory_len * WIDTH, 2));
        let mut trace = TransformerTrace::default();
        let whole = layer
            .forward(&params, &x, &read, BATCH, [&own, &over], mode, &mut trace)
            .unwrap()
            .out;
        let (mut cache, mut memory) = (layer.self_attn.cache(BATCH).unwrap(), layer.multihead_attn.cache(BATCH).unwrap());
        let plain = DecodeArgs::default();
        layer
            .multihead_attn
            .remember(&params, &read, &read, &mut memory, &plain, &mut Default::default())
            .unwrap();
        let mut at = 0;
        for n in [2, 1, 1, 1] {
            let next: Vec<f64> = (0..BATCH).flat_map(|b| tokens(&x, len, b, at, at + n).to_vec()).collect();
            let out = layer
                .decode(&params, &next, &mut cache, &memory, [&step, &all], mode, &mut trace)
                .unwrap()
                .out;
            for b in 0..BATCH {
                near(tokens(&out, n, b, 0, n), tokens(&whole, len, b, at, at + n), "step");
            }
            at += n;
        }
    }
}

#[test]
fn a_refused_step_leaves_the_cache_as_it_was() {
    let layer = decoder(attentions().remove(2));
    let params = with_params::<f64>(&layer.specs());
    let (mut cache, mut memory) = (layer.self_attn.cache(BATCH).unwrap(), layer.multihead_attn.cache(BATCH).unwrap());
    let (step, mut trace) = (DecodeArgs::default(), TransformerTrace::default());
    let x: Vec<f64> = random(BATCH * WIDTH, 1);
    layer
        .multihead_attn
        .remember(&params, &x, &x, &mut memory, &step, &mut Default::default())
        .unwrap();
    let mode = Mode::Evaluate;
    layer
        .decode(&params, &x, &mut cache, &memory, [&step, &step], mode, &mut trace)
        .unwrap();
    // A mask of two keys over a memory of one: refused after self-attention has run.
    let wrong = DecodeArgs {
        key_padding_mask: Some(AttnMask::Blocked(&[false; 2 * BATCH], &[BATCH, 2])),
        ..Default::default()
    };
    assert!(
        layer
            .decode(&params, &x, &mut cache, &memory, [&step, &wrong], mode, &mut trace)
            .is_err()
    );
    assert_eq!(cache.lens(), [1, 1]);
    let one = layer.multihead_attn.cache(1).unwrap();
    assert!(
        layer
            .decode(&params, &x, &mut cache, &one, [&step, &step], mode, &mut trace)
            .is_err()
    );
    assert_eq!(cache.lens(), [1, 1]);
    let single = encoder(attentions().remove(2)).with_dropout(1.5);
    let mut cache = single.cache(BATCH).unwrap();
    assert!(single.decode(&params, &x, &mut cache, &step, mode, &mut trace).is_err() && cache.lens() == [0, 0]);
}

/// bf16 in and out is the f32 layer on the same numbers, rounded once.
#[test]
fn half_precision_is_a_last_rounding() {
    let layer = encoder(attentions().remove(2)).with_activation(Activation::from(Gelu::Exact));
    let narrow: Params<bf16> = with_params::<f32>(&layer.specs()).cast();
    let wide: Params<f32> = narrow.cast();
    let src: Vec<bf16> = random::<f32>(BATCH * 3 * WIDTH, 1).into_iter().map(bf16::narrow).collect();
    let wide_src: Vec<f32> = src.iter().map(|x| x.widen()).collect();
    let (args, mode) = (PositionalArgs::default(), Mode::Evaluate);
    let (mut trace, mut grads) = (TransformerTrace::default(), wide.zeros_like());
    let out = layer.forward(&narrow, &src, BATCH, &args, mode, &mut trace).unwrap().out;
    let mut d_src = vec![bf16::narrow(f32::NAN); src.len()];
    layer
        .adjoint(&narrow, &src, BATCH, &args, mode, &src, &mut d_src, &mut grads, &mut trace)
        .unwrap();
    let (mut wide_grads, mut wide_d) = (wide.zeros_like(), vec![f32::NAN; src.len()]);
    let wide_out = layer.forward(&wide, &wide_src, BATCH, &args, mode, &mut trace).unwrap().out;
    layer
        .adjoint(
            &wide,
            &wide_src,
            BATCH,
            &args,
            mode,
            &wide_src,
            &mut wide_d,
            &mut wide_grads,
            &mut trace,
        )
        .unwrap();
    let rounded = |x: &[f32]| x.iter().map(|x| bf16::narrow(*x)).collect::<Vec<_>>();
    assert_eq!(out, rounded(&wide_out));
    assert_eq!(d_src, rounded(&wide_d));
    assert_eq!(grads.flat(), wide_grads.flat());
}
