//! Multi-head latent attention: its adjoint, what carries position in it, and what it refuses. Its numbers are held to transformers' in `golden/layers`.

use posenc::{Attention, Mode, Pairing, Params, Positions, Rng, Rotary, Window};
use posenc_nn::check::{finite_differences, tolerance, worst};
use posenc_nn::{AttnMask, LatentDims, LatentTrace, MultiheadLatentAttention, PositionalArgs};

const BATCH: usize = 2;
const LEN: usize = 4;
const WIDTH: usize = 10;

/// Every width is its own, so that none can stand for another.
const DIMS: LatentDims = LatentDims {
    hidden_size: WIDTH,
    num_attention_heads: 2,
    q_lora_rank: Some(7),
    kv_lora_rank: 6,
    qk_nope_head_dim: 3,
    qk_rope_head_dim: 4,
    v_head_dim: 5,
};

const DIRECT: LatentDims = LatentDims { q_lora_rank: None, ..DIMS };

fn module(dims: LatentDims, pairing: Pairing) -> MultiheadLatentAttention {
    MultiheadLatentAttention::new(dims, Rotary::new(pairing).with_base(50.0)).unwrap()
}

fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal()).collect()
}

/// Parameters of order 1 / √width, of which none is zero.
fn with_params(module: &MultiheadLatentAttention) -> Params<f64> {
    let mut params: Params<f64> = Params::init(&module.specs(), 5).unwrap();
    let mut rng = Rng::new(6);
    params.flat_mut().iter_mut().for_each(|p| *p += 0.4 * rng.normal());
    params
}

fn forward(module: &MultiheadLatentAttention, params: &Params<f64>, x: &[f64], args: &PositionalArgs<'_, f64>, mode: Mode) -> Vec<f64> {
    module
        .forward(params, x, BATCH, args, mode, &mut LatentTrace::default())
        .unwrap()
        .out
}

/// The loss is a sum of 80 products of order 1; the norm of 6 numbers, the products of two projections and the softmax have third derivatives of some tens: tolerance of
/// that size.
#[test]
fn adjoint_matches_finite_differences() {
    let pairs: Vec<bool> = (0..BATCH * LEN * LEN).map(|i| i % 5 == 1).collect();
    let soft = random(BATCH * LEN, 9);
    let masked = PositionalArgs {
        q_positions: Some(Positions::whole_rows(&[4, 0, 4, 11, 2, 3, -7, 1], BATCH).unwrap()),
        q_position_mask: Some(&[true, true, false, true]),
        attn_mask: Some(AttnMask::Blocked(&pairs, &[BATCH, 1, LEN, LEN])),
        key_padding_mask: Some(AttnMask::Additive(&soft, &[BATCH, LEN])),
        ..Default::default()
    };
    let causal = PositionalArgs {
        causal: Some(0),
        need_weights: true,
        ..Default::default()
    };
    let other = Attention {
        scale: Some(0.3),
        softcap: Some(4.0),
        window: Some(Window::last(3).unwrap()),
        dropout: 0.25,
        ..Attention::default()
    };
    let training = Mode::Train { seed: 1, call: 2 };
    for (module, args, mode) in [
        (module(DIMS, Pairing::Interleaved), &masked, Mode::Evaluate),
        (
            module(DIMS, Pairing::Halves).with_bias().named("layers.0.self_attn"),
            &causal,
            Mode::Evaluate,
        ),
        (module(DIRECT, Pairing::Interleaved), &causal, Mode::Evaluate),
        (module(DIRECT, Pairing::Halves).with_attention(other), &masked, training),
    ] {
        let params = with_params(&module);
        let (x, d_out) = (random(BATCH * LEN * WIDTH, 1), random(BATCH * LEN * WIDTH, 2));
        let (mut trace, mut grads, mut dx) = (LatentTrace::default(), params.zeros_like(), vec![f64::NAN; x.len()]);
        // Gradients are added to what is there.
        grads.flat_mut().fill(2.0);
        module.forward(&params, &x, BATCH, args, mode, &mut trace).unwrap();
        module
            .adjoint(&params, &x, BATCH, args, mode, &d_out, &mut dx, &mut grads, &mut trace)
            .unwrap();
        grads.flat_mut().iter_mut().for_each(|g| *g -= 2.0);
        let loss = |params: &Params<f64>, x: &[f64]| -> f64 {
            let out = forward(&module, params, x, args, mode);
            out.iter().zip(&d_out).map(|(o, d)| o * d).sum()
        };
        let by_x = finite_differences(&x, 0..x.len(), |x| loss(&params, x));
        let far = worst(&dx, &by_x).unwrap();
        assert!(far.error < tolerance(200.0), "{:?}, stream: {far:?}", module.dims());
        let by_params = finite_differences(params.flat(), 0..params.size(), |flat| {
            let mut moved = params.clone();
            moved.flat_mut().copy_from_slice(flat);
            loss(&moved, &x)
        });
        let far = worst(grads.flat(), &by_params).unwrap();
        assert!(far.error < tolerance(200.0), "{:?}, parameters: {far:?}", module.dims());
    }
}

/// Sums of some 100 terms of order 1, of which an angle of up to 1011 radians is off by 1011·ε.
const APART: f64 = (100.0 + 4.0 * 1011.0) * f64::EPSILON;

fn at(first: i64) -> PositionalArgs<'static, f64> {
    PositionalArgs {
        q_positions: Some(Positions::range(first..first + LEN as i64)),
        causal: Some(0),
        ..Default::default()
    }
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn only_differences_of_positions_matter() {
    for pairing in [Pairing::Interleaved, Pairing::Halves] {
        let module = module(DIMS, pairing);
        let (params, x) = (with_params(&module), random(BATCH * LEN * WIDTH, 1));
        let here = forward(&module, &params, &x, &at(0), Mode::Evaluate);
        for shift in [3, 1000, -1000] {
            assert!(far(&here, &forward(&module, &params, &x, &at(shift), Mode::Evaluate)) < APART);
        }
        let stretched = PositionalArgs {
            q_positions: Some(Positions::whole(&[0, 2, 4, 6])),
            ..at(0)
        };
        assert!(far(&here, &forward(&module, &params, &x, &stretched, Mode::Evaluate)) > 1e-3);
    }
}

#[test]
fn the_rotary_part_alone_carries_position() {
    let module = module(DIMS, Pairing::Interleaved);
    let (mut params, x) = (with_params(&module), random(BATCH * LEN * WIDTH, 1));
    // Without the shared rotary key the scores are those of the parts that do not turn: no position changes a bit.
    let rows = DIMS.kv_lora_rank * WIDTH..;
    params.get_mut("kv_a_proj_with_mqa.weight").unwrap()[rows].fill(0.0);
    let anywhere = |ids: &[i64]| PositionalArgs {
        q_positions: Some(Positions::whole(ids)),
        ..at(0)
    };
    let here = forward(&module, &params, &x, &at(0), Mode::Evaluate);
    assert_eq!(here, forward(&module, &params, &x, &anywhere(&[9, -3, 40, 2]), Mode::Evaluate));
    // What is left does attend: the last token's output depends on the first token.
    let mut moved = x.clone();
    moved[..WIDTH].iter_mut().for_each(|x| *x += 1.0);
    let last = (LEN - 1) * WIDTH..LEN * WIDTH;
    assert!(
        far(
            &here[last.clone()],
            &forward(&module, &params, &moved, &at(0), Mode::Evaluate)[last]
        ) > 1e-3
    );
    // Tokens without positions are tokens at 0.
    let params = with_params(&module);
    let nowhere = PositionalArgs {
        q_position_mask: Some(&[false; LEN]),
        ..at(5)
    };
    let zeros = forward(&module, &params, &x, &anywhere(&[0; LEN]), Mode::Evaluate);
    assert!(far(&zeros, &forward(&module, &params, &x, &nowhere, Mode::Evaluate)) < APART);
}

#[test]
fn weights_are_a_softmax_and_change_no_bit_of_the_output() {
    let module = module(DIRECT, Pairing::Halves);
    let (params, x) = (with_params(&module), random(BATCH * LEN * WIDTH, 1));
    let asked = PositionalArgs {
        need_weights: true,
        ..at(0)
    };
    let output = module
        .forward(&params, &x, BATCH, &asked, Mode::Evaluate, &mut LatentTrace::default())
        .unwrap();
    assert_eq!(output.out, forward(&module, &params, &x, &at(0), Mode::Evaluate));
    let weights = output.weights.unwrap();
    assert_eq!(weights.len(), BATCH * LEN * LEN);
    for (i, row) in weights.chunks(LEN).enumerate() {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 8.0 * f64::EPSILON && row[i % LEN + 1..].iter().all(|w| *w == 0.0));
    }
}

#[test]
fn names_and_shapes_are_those_of_the_checkpoints() {
    let named =
        |module: MultiheadLatentAttention| -> Vec<(String, Vec<usize>)> { module.specs().into_iter().map(|s| (s.name, s.shape)).collect() };
    let expected =
        |list: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> { list.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect() };
    assert_eq!(
        named(module(DIMS, Pairing::Interleaved).with_bias().named("a")),
        expected(&[
            ("a.q_a_proj.weight", &[7, 10]),
            ("a.q_a_proj.bias", &[7]),
            ("a.q_a_layernorm.weight", &[7]),
            ("a.q_b_proj.weight", &[14, 7]),
            ("a.kv_a_proj_with_mqa.weight", &[10, 10]),
            ("a.kv_a_proj_with_mqa.bias", &[10]),
            ("a.kv_a_layernorm.weight", &[6]),
            ("a.kv_b_proj.weight", &[16, 6]),
            ("a.o_proj.weight", &[10, 10]),
            ("a.o_proj.bias", &[10]),
        ])
    );
    assert_eq!(
        named(module(DIRECT, Pairing::Interleaved)),
        expected(&[
            ("q_proj.weight", &[14, 10]),
            ("kv_a_proj_with_mqa.weight", &[10, 10]),
            ("kv_a_layernorm.weight", &[6]),
            ("kv_b_proj.weight", &[16, 6]),
            ("o_proj.weight", &[10, 10]),
        ])
    );
}

#[test]
fn what_does_not_fit_is_refused_and_writes_nothing() {
    let rotary = || Rotary::new(Pairing::Interleaved);
    let dims = |change: fn(&mut LatentDims)| {
        let mut dims = DIMS;
        change(&mut dims);
        MultiheadLatentAttention::new(dims, rotary()).is_err()
    };
    assert!(dims(|d| d.hidden_size = 0) && dims(|d| d.num_attention_heads = 0) && dims(|d| d.q_lora_rank = Some(0)));
    assert!(dims(|d| d.kv_lora_rank = 0) && dims(|d| d.v_head_dim = 0) && dims(|d| d.qk_nope_head_dim = 0));
    assert!(dims(|d| d.qk_rope_head_dim = 0) && dims(|d| d.qk_rope_head_dim = 3));
    assert!(dims(|d| d.kv_lora_rank = usize::MAX) && dims(|d| d.v_head_dim = usize::MAX) && dims(|d| d.qk_nope_head_dim = usize::MAX - 3));
    assert!(MultiheadLatentAttention::new(DIMS, rotary().with_rotary_dim(2)).is_err());

    let module = module(DIMS, Pairing::Interleaved);
    let (params, x) = (with_params(&module), random(BATCH * LEN * WIDTH, 1));
    let (plain, mode) = (PositionalArgs::default(), Mode::Evaluate);
    let refused = |module: &MultiheadLatentAttention, x: &[f64], batch: usize, args: &PositionalArgs<'_, f64>| {
        module.forward(&params, x, batch, args, mode, &mut LatentTrace::default()).is_err()
    };
    let keys = PositionalArgs {
        k_positions: Some(Positions::range(0..4)),
        ..Default::default()
    };
    let long = PositionalArgs {
        q_positions: Some(Positions::range(0..5)),
        ..Default::default()
    };
    let wrong_mask = PositionalArgs {
        attn_mask: Some(AttnMask::Blocked(&[false; 9], &[3, 3])),
        ..Default::default()
    };
    assert!(refused(&module, &x[1..], BATCH, &plain) && refused(&module, &x, 0, &plain) && refused(&module, &x, 3, &plain));
    assert!(refused(&module, &x, BATCH, &keys) && refused(&module, &x, BATCH, &long) && refused(&module, &x, BATCH, &wrong_mask));
    let (mut sinks, mut scale) = (module.clone(), module.clone());
    sinks.attention.sinks = true;
    scale.attention.scale = Some(-1.0);
    assert!(refused(&sinks, &x, BATCH, &plain) && refused(&scale, &x, BATCH, &plain));
    assert!(
        refused(&module.clone().with_bias(), &x, BATCH, &plain),
        "biases that the store lacks"
    );

    let mut ready = LatentTrace::default();
    module.forward(&params, &x, BATCH, &plain, mode, &mut ready).unwrap();
    let try_adjoint = |args: &PositionalArgs<'_, f64>, dx_len: usize, trace: &mut LatentTrace<f64>| {
        let (mut dx, mut grads) = (vec![7.0; dx_len], params.zeros_like());
        let result = module.adjoint(&params, &x, BATCH, args, mode, &x, &mut dx, &mut grads, trace);
        (
            result.is_err(),
            dx.iter().all(|d| *d == 7.0) && grads.flat().iter().all(|g| *g == 0.0),
        )
    };
    assert_eq!(try_adjoint(&wrong_mask, x.len(), &mut ready), (true, true));
    assert_eq!(try_adjoint(&plain, x.len() - 1, &mut ready), (true, true));
    assert_eq!(try_adjoint(&plain, x.len(), &mut LatentTrace::default()), (true, true));
    assert_eq!(try_adjoint(&plain, x.len(), &mut ready), (false, false));
    // No tokens are a length.
    assert!(
        module
            .forward(&params, &[], BATCH, &plain, mode, &mut ready)
            .unwrap()
            .out
            .is_empty()
    );
    let mut grads = params.zeros_like();
    module
        .adjoint(&params, &[], BATCH, &plain, mode, &[], &mut [], &mut grads, &mut ready)
        .unwrap();
}
