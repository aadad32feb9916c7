//! Attention modules of transformers with their own state dicts: loaded by their names, described by their configurations (`tests/checkpoints/make.py`).

use super::numbers;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use posenc::{Attention, Dims, LayerSpec, Mode, Positions, T5Bias};
use posenc_candle::Mask;
use posenc_candle::nn::{MultiheadAttention, Projections};
use std::collections::HashMap;

const WEIGHTS: &[u8] = include_bytes!("../checkpoints/attention.safetensors");
#[cfg(feature = "config")]
const CONFIGS: &str = include_str!("../checkpoints/attention.json");

/// The relative change by which sensitivity is measured.
const CHANGE: f64 = 1.0 / 1_048_576.0;

/// What a module gives in f64 and what transformers gave in f32 are as far apart as its roundings explain.
///
/// A pass has eight stages (three projections, a norm, a rotation, scores, softmax, values and output, two of them beside others), of sums of at most 24 products and 16 roundings more: 40 of f32 each,
/// relative to what a stage reads. What a relative change of all that is read does to the result is measured: by ±2⁻²⁰ on all weights and inputs, over its size; the largest number is added for the last
/// stage. Roundings add up as variances do, and eight spreads are allowed.
fn compare(name: &str, load: impl Fn(VarBuilder<'static>) -> posenc_candle::Result<MultiheadAttention>) {
    let all = candle_core::safetensors::load_buffer(WEIGHTS, &Device::Cpu).unwrap();
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let (x, theirs) = (wide(&all[&format!("{name}/x")]), wide(&all[&format!("{name}/out")]));
    let weights: HashMap<String, Tensor> = all.iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect();
    let run = |x: &Tensor, weights: HashMap<String, Tensor>| {
        let module = load(VarBuilder::from_tensors(weights, DType::F64, &Device::Cpu).pp(name)).unwrap();
        let at = Positions::range(0..x.dims()[1] as i64);
        module.self_attention(x, &at, &Mask::none().causal(0), Mode::Evaluate).unwrap()
    };
    let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    let ours = run(&x, weights.clone());
    assert_eq!(ours.dims(), theirs.dims(), "{name}");
    let mut sensitivity = 0f64;
    for seed in 0..4 {
        let changed = |x: &Tensor, seed: usize| {
            let signs = numbers(seed, x.dims()).sign().unwrap();
            (x + (x * (signs * CHANGE).unwrap()).unwrap()).unwrap()
        };
        let moved = weights
            .iter()
            .enumerate()
            .map(|(i, (name, tensor))| (name.clone(), changed(tensor, 7 * i + seed)));
        let far = (run(&changed(&x, seed), moved.collect()) - &ours).unwrap();
        sensitivity = sensitivity.max(largest(&far) / CHANGE);
    }
    let allowed = 8.0 * (8.0f64 * 40.0).sqrt() * 2f64.powi(-24) * (sensitivity + largest(&theirs));
    let far = largest(&(&ours - &theirs).unwrap());
    assert!(far <= allowed, "{name}: {far:e} apart, {allowed:e} allowed");
    // The bound tells the module from another: numbers are far larger.
    assert!(allowed < 1e-2 * largest(&theirs), "{name}: {allowed:e} of {}", largest(&theirs));
}

#[cfg(feature = "config")]
fn of_config(name: &'static str, projections: Projections, biases: [bool; 4]) {
    let configs: serde_json::Value = serde_json::from_str(CONFIGS).unwrap();
    let file = configs[name].to_string();
    compare(name, |vb| {
        let module = MultiheadAttention::from_config(file.as_bytes(), 0, projections, biases, vb.clone())?;
        match configs[name]["model_type"] == "qwen3" {
            true => module.with_qk_norm(configs[name]["rms_norm_eps"].as_f64().unwrap(), vb),
            false => Ok(module),
        }
    });
}

#[cfg(feature = "config")]
#[test]
fn bloom() {
    of_config("bloom", Projections::BLOOM, [true; 4]);
}

#[cfg(feature = "config")]
#[test]
fn mpt() {
    of_config("mpt", Projections::MPT, [false; 4]);
}

#[cfg(feature = "config")]
#[test]
fn gpt_neox() {
    of_config("neox", Projections::BLOOM, [true; 4]);
}

#[cfg(feature = "config")]
#[test]
fn opt() {
    of_config("opt", Projections::OPT, [true; 4]);
}

#[cfg(feature = "config")]
#[test]
fn qwen2() {
    of_config("qwen2", Projections::LLAMA, [true, true, true, false]);
}

#[cfg(feature = "config")]
#[test]
fn qwen3() {
    of_config("qwen3", Projections::LLAMA, [false; 4]);
}

#[test]
fn t5() {
    let layer = LayerSpec {
        encoding: T5Bias::decoder().into(),
        attention: Attention::unscaled(),
    };
    compare("t5", |vb| {
        MultiheadAttention::load(&layer, Dims::new(24, 4)?, Projections::T5, false, vb)
    });
}
