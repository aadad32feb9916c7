//! Decoding with rotary scalings that look at the length of a sequence.

use crate::{HEADS, WIDTH, random, with_params};
use posenc::rotate::{LongRope, Magnitude, Scaling};
use posenc::{Encoding, InputTable, Learned, Mode, Overflow, Pairing, Params, Positions, Rotary};
use posenc_nn::{AttentionTrace, AttnMask, DecodeArgs, KvCache, PositionalArgs, PositionalMultiheadAttention, Streams};

const LEN: usize = 12;

/// Trained on six tokens, read to twelve.
fn scalings() -> [Rotary; 2] {
    let rotary = Rotary::new(Pairing::Halves);
    let long_rope = LongRope {
        short_factor: vec![1.0, 1.0],
        long_factor: vec![2.0, 4.0],
        original_len: 6,
        factor: 2.0,
        magnitude: Magnitude::Own,
    };
    let dynamic = Scaling::Dynamic {
        factor: 2.0,
        original_len: 6,
    };
    [
        rotary.clone().with_scaling(dynamic),
        rotary.with_scaling(Scaling::Longrope(long_rope)),
    ]
}

fn module(encoding: impl Into<Encoding>) -> PositionalMultiheadAttention {
    PositionalMultiheadAttention::new(&encoding.into(), WIDTH, HEADS).unwrap()
}

/// Causal attention over the first tokens of one row, in one pass.
fn pass(module: &PositionalMultiheadAttention, params: &Params<f64>, x: &[f64]) -> Vec<f64> {
    let len = x.len() / WIDTH;
    let later: Vec<bool> = (0..len * len).map(|at| at % len > at / len).collect();
    let args = PositionalArgs {
        attn_mask: Some(AttnMask::Blocked(&later, &[len, len])),
        ..PositionalArgs::default()
    };
    let mut trace = AttentionTrace::default();
    module
        .forward(params, Streams::Same(x), 1, &args, Mode::Evaluate, &mut trace)
        .unwrap()
        .out
}

/// The outputs of single steps.
fn steps(module: &PositionalMultiheadAttention, params: &Params<f64>, x: &[f64], mut cache: KvCache<f64>) -> Vec<Vec<f64>> {
    let (args, mut trace) = (DecodeArgs::default(), AttentionTrace::default());
    x.chunks(WIDTH)
        .map(|token| {
            let step = module.decode(params, token, &mut cache, &args, Mode::Evaluate, &mut trace);
            step.unwrap().out
        })
        .collect()
}

/// Bound: the same sums in another order, of a few dozen numbers of size 10: 1e-12.
fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12)
}

/// vLLM's way: the length is decided once, and a sequence that crosses the trained length step by step is the whole pass.
#[test]
fn bug_family_08_a_fixed_length_makes_steps_the_whole_pass() {
    for rotary in scalings() {
        let module = module(rotary.at_length(LEN));
        let params = with_params::<f64>(&module);
        let x = random::<f64>(LEN * WIDTH, 1);
        let whole = pass(&module, &params, &x);
        for (t, out) in steps(&module, &params, &x, module.cache(1).unwrap()).iter().enumerate() {
            assert!(close(out, &whole[t * WIDTH..][..WIDTH]), "token {t}");
        }
    }
}

/// A length that is the call's has to be asked for by name, and a step is then the last row of a pass over what has been read, before and past the crossing.
#[test]
fn bug_family_09_a_length_per_call_is_opted_into_and_a_step_ends_the_pass_so_far() {
    for rotary in scalings() {
        let module = module(rotary);
        assert!(module.cache::<f64>(1).unwrap_err().to_string().contains("cache_per_call"));
        let params = with_params::<f64>(&module);
        let x = random::<f64>(LEN * WIDTH, 1);
        let steps = steps(&module, &params, &x, module.cache_per_call(1).unwrap());
        for (t, out) in steps.iter().enumerate() {
            let so_far = pass(&module, &params, &x[..(t + 1) * WIDTH]);
            assert!(close(out, &so_far[t * WIDTH..]), "token {t}");
        }
        let whole = pass(&module, &params, &x);
        assert!(close(&steps[LEN - 1], &whole[(LEN - 1) * WIDTH..]));
        // Token 5 was read within the trained length; a pass over all twelve turns it by other frequencies.
        assert!(!close(&steps[5], &whole[5 * WIDTH..][..WIDTH]));
    }
}

#[test]
fn a_table_stretched_over_a_call_has_no_cache_of_either_kind() {
    let [dynamic, _] = scalings();
    let stretched = InputTable::new(4).with_overflow(Overflow::Interpolate);
    let both = module(Encoding::from(stretched).with(dynamic));
    assert!(both.cache::<f32>(1).is_err());
    assert!(both.cache_per_call::<f32>(1).unwrap_err().to_string().contains("InterpolateTo"));
    let plain = module(Encoding::from(InputTable::new(4)).with(Learned::new(4)));
    assert!(plain.cache::<f32>(1).is_ok() && plain.cache_per_call::<f32>(1).is_ok());
    assert_eq!(plain.cache_per_call::<f32>(2).unwrap().positions(), &Positions::absent(0));
}
