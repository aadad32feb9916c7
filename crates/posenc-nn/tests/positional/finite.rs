//! Finite numbers in, finite numbers out: masks, positions and streams at the ends of their ranges.

use crate::cases::encodings;
use crate::{BATCH, HEADS, WIDTH, random, with_params};
use half::{bf16, f16};
use posenc::{Attention, Dims, LayerSpec, Mode, Params, Positions};
use posenc_nn::{AttentionTrace, AttnMask, PositionalArgs, PositionalMultiheadAttention, Storage, StreamGrads, Streams};

const LEN: usize = 4;

/// Output and all gradients are finite. An error is no number: positions past a table are refused.
fn finite<T: Storage<Real = f32>>(what: &str, module: &PositionalMultiheadAttention, x: &[T], args: &PositionalArgs<'_, f32>) -> bool {
    let params: Params<T> = with_params::<f32>(module).cast();
    let (mut trace, mode, streams) = (AttentionTrace::default(), Mode::Evaluate, Streams::Same(x));
    let Ok(output) = module.forward(&params, streams, BATCH, args, mode, &mut trace) else {
        return false;
    };
    let mut dx = vec![T::narrow(f32::NAN); x.len()];
    let mut grads: Params<f32> = Params::zeros(&module.specs()).expect("a store");
    let d_out: Vec<T> = random::<f32>(x.len(), 4).into_iter().map(T::narrow).collect();
    let into = StreamGrads::Same(&mut dx);
    module
        .adjoint(&params, streams, BATCH, args, mode, &d_out, into, &mut grads, &mut trace)
        .expect("the forward pass ran");
    let stored = [&output.out, output.weights.as_ref().expect("asked for"), &dx];
    assert!(
        stored.into_iter().flatten().all(|x| x.widen().is_finite()),
        "{module}, {what}: output, weights or the stream's gradient"
    );
    assert!(grads.flat().iter().all(|g| g.is_finite()), "{module}, {what}: gradients");
    true
}

fn modules() -> impl Iterator<Item = PositionalMultiheadAttention> {
    let plain = Attention::default();
    let rich = Attention {
        softcap: Some(30.0),
        sinks: true,
        ..Attention::default()
    };
    encodings().into_iter().flat_map(move |(_, encoding)| {
        [plain.clone(), rich.clone()].map(|attention| {
            let layer = LayerSpec {
                encoding: encoding.clone(),
                attention,
            };
            PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS).expect("widths")).expect("a module")
        })
    })
}

fn args<'a>() -> PositionalArgs<'a, f32> {
    PositionalArgs {
        need_weights: true,
        ..Default::default()
    }
}

/// Additive masks are often written with the smallest finite number. Two of them, on all of a row or a part of it, and the largest.
#[test]
fn additive_masks_at_the_ends_of_their_range_give_no_nan() {
    let x: Vec<f32> = random(BATCH * LEN * WIDTH, 1);
    let mut ran = 0;
    for module in modules() {
        for (extreme, causal) in [f32::MIN, f32::MAX, f32::NEG_INFINITY]
            .into_iter()
            .flat_map(|x| [(x, None), (x, Some(0))])
        {
            let masks: [Vec<f32>; 2] = [(LEN * LEN), BATCH * LEN].map(|n| (0..n).map(|i| if i < 6 { extreme } else { 0.0 }).collect());
            for both in [false, true] {
                let args = PositionalArgs {
                    attn_mask: Some(AttnMask::Additive(&masks[0], &[LEN, LEN])),
                    key_padding_mask: both.then_some(AttnMask::Additive(&masks[1], &[BATCH, LEN])),
                    causal,
                    ..args()
                };
                ran += usize::from(finite(&format!("masks of {extreme}, two {both}"), &module, &x, &args));
            }
        }
    }
    assert!(ran > 400, "{ran} ran");
}

/// Positions as far apart as whole numbers are, and as f64 goes: an answer or a typed error.
#[test]
fn positions_at_the_ends_of_their_range_give_no_nan() {
    let x: Vec<f32> = random(BATCH * LEN * WIDTH, 1);
    let mut ran = 0;
    for module in modules() {
        for at in [
            Positions::whole(&[i64::MAX, i64::MIN, 0, -1]),
            Positions::whole(&[1 << 53, -(1 << 53), 1 << 40, 7]),
            Positions::real(&[f64::MAX, f64::MIN, 1e300, 0.0]).expect("finite"),
            Positions::real(&[1e-300, 1e15, -1e15, 0.5]).expect("finite"),
        ] {
            let what = format!("{at:?}");
            let args = PositionalArgs {
                q_positions: Some(at.clone()),
                k_positions: Some(at),
                ..args()
            };
            ran += usize::from(finite(&what, &module, &x, &args));
        }
    }
    assert!(ran > 60, "{ran} ran");
}

/// Streams of which f32 still holds the third power, which a weight's gradient has: x·ds·k. And large ones of half precision.
#[test]
fn large_streams_give_no_nan() {
    let x: Vec<f32> = random(BATCH * LEN * WIDTH, 1);
    for module in modules() {
        let large: Vec<f32> = x.iter().map(|x| 1e12 * x).collect();
        finite("streams of 1e12", &module, &large, &args());
        finite("streams of 0", &module, &vec![0.0f32; x.len()], &args());
        // A stream's gradient is stored in its type, whose largest number is 65504.
        let half: Vec<f16> = x.iter().map(|x| f16::from_f32(200.0 * x)).collect();
        finite("f16 streams of 200", &module, &half, &args());
        let brain: Vec<bf16> = x.iter().map(|x| bf16::from_f32(1e12 * x)).collect();
        finite("bf16 streams of 1e12", &module, &brain, &args());
    }
}
