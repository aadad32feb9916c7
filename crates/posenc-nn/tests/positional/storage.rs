//! Modules stored in half precision: f32 inside, one rounding at the end.

use crate::cases::encodings;
use crate::{BATCH, HEADS, WIDTH, random, with_params};
use half::{bf16, f16};
use posenc::{Attention, Dims, LayerSpec, Mode, Params, Positions};
use posenc_nn::{
    AttentionTrace, AttnMask, DecodeArgs, Error, PositionalArgs, PositionalMultiheadAttention, PositionalOutput, Storage, StreamGrads,
    Streams,
};

const Q_LEN: usize = 3;
const K_LEN: usize = 5;

struct Pass<T> {
    output: PositionalOutput<T>,
    d: [Vec<T>; 3],
    grads: Params<f32>,
}

fn pass<T: Storage<Real = f32>>(
    module: &PositionalMultiheadAttention,
    params: &Params<T>,
    [query, key, value]: [&[T]; 3],
    d_out: &[T],
) -> posenc_nn::Result<Pass<T>> {
    let mask: Vec<f32> = random(Q_LEN * K_LEN, 8);
    let args = PositionalArgs {
        q_positions: Some(Positions::whole(&[2, 3, 1])),
        attn_mask: Some(AttnMask::Additive(&mask, &[Q_LEN, K_LEN])),
        causal: Some(2),
        need_weights: true,
        ..Default::default()
    };
    let (streams, mode, mut trace) = (Streams::Apart { query, key, value }, Mode::Evaluate, AttentionTrace::default());
    let output = module.forward(params, streams, BATCH, &args, mode, &mut trace)?;
    let mut d = [query, key, value].map(|x| vec![T::narrow(f32::NAN); x.len()]);
    let mut grads = Params::zeros(&module.specs())?;
    let [dq, dk, dv] = &mut d;
    let into = StreamGrads::Apart {
        query: dq,
        key: dk,
        value: dv,
    };
    module.adjoint(params, streams, BATCH, &args, mode, d_out, into, &mut grads, &mut trace)?;
    Ok(Pass { output, d, grads })
}

fn bits<T: Storage<Real = f32>>(x: &[T]) -> Vec<u32> {
    x.iter().map(|x| x.widen().to_bits()).collect()
}

/// The f32 pass on the same numbers, each result rounded once.
fn equals_f32_rounded_once<T: Storage<Real = f32>>(type_name: &str) -> usize {
    let stored = |n: usize, seed: u64| -> Vec<T> { random::<f32>(n, seed).into_iter().map(T::narrow).collect() };
    let wide = |x: &[T]| -> Vec<f32> { x.iter().map(|x| x.widen()).collect() };
    let rounded = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| T::narrow(*x).widen().to_bits()).collect() };
    let [q, k, v] = [(Q_LEN, 1), (K_LEN, 2), (K_LEN, 3)].map(|(len, seed)| stored(BATCH * len * WIDTH, seed));
    let d_out = stored(BATCH * Q_LEN * WIDTH, 4);
    let mut ran = 0;
    for (name, encoding) in encodings() {
        let layer = LayerSpec {
            encoding,
            attention: Attention {
                sinks: true,
                ..Attention::default()
            },
        };
        let module = PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS).unwrap())
            .unwrap()
            .with_qk_norm(1e-6);
        let params: Params<T> = with_params::<f32>(&module).cast();
        let half = match pass(&module, &params, [&q, &k, &v], &d_out) {
            Err(Error::Core(posenc::Error::Unsupported { .. })) => continue,
            half => half.unwrap(),
        };
        let single = pass(&module, &params.cast::<f32>(), [&wide(&q), &wide(&k), &wide(&v)], &wide(&d_out)).unwrap();
        let what = format!("{name} in {type_name}");
        assert_eq!(bits(&half.output.out), rounded(&single.output.out), "{what}: out");
        let [half_weights, weights] = [half.output.weights.map(|w| bits(&w)), single.output.weights.map(|w| rounded(&w))];
        assert_eq!(half_weights, weights, "{what}: weights");
        for side in 0..3 {
            assert_eq!(bits(&half.d[side]), rounded(&single.d[side]), "{what}: stream {side}");
        }
        // Gradients of parameters are sums over tokens: they stay in f32.
        assert_eq!(bits(half.grads.flat()), bits(single.grads.flat()), "{what}: parameters");

        let args = DecodeArgs::default();
        let (mut cache, mut trace) = match module.cache::<f32>(BATCH) {
            Ok(cache) => (cache, AttentionTrace::default()),
            Err(_) => continue,
        };
        let mut of_f32 = cache.clone();
        let step = module.decode(&params, &k, &mut cache, &args, Mode::Evaluate, &mut trace).unwrap();
        let wide_step = module
            .decode(&params.cast::<f32>(), &wide(&k), &mut of_f32, &args, Mode::Evaluate, &mut trace)
            .unwrap();
        assert_eq!(bits(&step.out), rounded(&wide_step.out), "{what}: decoded");
        ran += 1;
    }
    ran
}

#[test]
fn half_precision_is_f32_rounded_once_for_every_encoding() {
    assert!(equals_f32_rounded_once::<bf16>("bf16") >= 18);
    assert!(equals_f32_rounded_once::<f16>("f16") >= 18);
}

/// Upstream's tables are cast to bf16, where position 1001 is 1000 and a frequency has 8 bits: the cosine at 1001 is then 0.5625 instead of −0.3919.
#[test]
fn rotary_in_bf16_knows_position_1001() {
    let module = PositionalMultiheadAttention::rope(2, 1, 10_000.0).unwrap();
    let mut params: Params<bf16> = Params::zeros(&module.specs()).unwrap();
    let one = bf16::from_f32(1.0);
    for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        let identity = [one, bf16::ZERO, bf16::ZERO, one];
        params.set(&format!("{name}.weight"), &[2, 2], &identity).unwrap();
    }
    // A query (√2, 0) at 1001 sees a key (1, 0) at 0, with the score cos 1001, and a key of zeros.
    let root = bf16::from_f32(std::f32::consts::SQRT_2);
    let (query, key, zero) = ([root, bf16::ZERO], [one, bf16::ZERO], bf16::ZERO);
    for position in [1001, 1000, 257, 100_003] {
        let args = PositionalArgs {
            q_positions: Some(Positions::whole(&[position])),
            k_positions: Some(Positions::whole(&[0, 0])),
            need_weights: true,
            ..Default::default()
        };
        let streams = Streams::Apart {
            query: &query[..],
            key: &[key[0], key[1], zero, zero],
            value: &[zero; 4],
        };
        let output = module
            .forward(&params, streams, 1, &args, Mode::Evaluate, &mut AttentionTrace::default())
            .unwrap();
        let weight = f64::from(output.weights.unwrap()[0].to_f32());
        let score = f64::from(root.to_f32()) / std::f64::consts::SQRT_2 * f64::from(position as i32).cos();
        let expected = 1.0 / (1.0 + (-score).exp());
        // Half an ulp of bf16 below 1 is 2⁻⁹; f32's roundings are 2⁻¹⁵ of that each.
        let bound = 2f64.powi(-9) * (1.0 + 2f64.powi(-10));
        assert!(
            (weight - expected).abs() <= bound,
            "position {position}: {weight}, {expected} was expected"
        );
    }
    assert!((1001f64.cos() - -0.3919).abs() < 1e-4);
}
