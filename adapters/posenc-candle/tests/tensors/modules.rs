//! Modules on `VarBuilder`: names, gradients, and what they compute.

use super::{apart, assert_differences, numbers, weighed};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use posenc::{
    Alibi, Attention, Deberta, DebertaProjections, Dims, Encoding, InputTable, LayerSpec, Learned, Mode, Pairing, Positions, Rotary, Shaw,
    T5Bias, TransformerXl, XlNet,
};
use posenc_candle::Mask;
use posenc_candle::nn::{Encoded, MultiheadAttention, Projections};
use std::collections::HashMap;

fn names(weights: &VarMap) -> Vec<String> {
    let mut names: Vec<String> = weights.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    names
}

fn layer(encoding: impl Into<Encoding>) -> LayerSpec {
    LayerSpec {
        encoding: encoding.into(),
        attention: Attention::default(),
    }
}

#[test]
fn names_are_those_of_the_checkpoints() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let dims = Dims::new(16, 4).unwrap();
    MultiheadAttention::load(&layer(Alibi::new()), dims, Projections::Fused, true, vb.pp("self_attn")).unwrap();
    MultiheadAttention::load(
        &layer(T5Bias::encoder()),
        dims,
        Projections::T5,
        false,
        vb.pp("encoder.block.0.layer.0.SelfAttention"),
    )
    .unwrap();
    Encoded::learned(Learned::new(8), 16, vb.pp("wpe")).unwrap();
    assert_eq!(
        names(&weights),
        [
            "encoder.block.0.layer.0.SelfAttention.k.weight",
            "encoder.block.0.layer.0.SelfAttention.o.weight",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "encoder.block.0.layer.0.SelfAttention.v.weight",
            "self_attn.in_proj_bias",
            "self_attn.in_proj_weight",
            "self_attn.out_proj.bias",
            "self_attn.out_proj.weight",
            "wpe.weight",
        ]
    );
    // What a file lacks is named.
    let none = VarBuilder::from_tensors(HashMap::new(), DType::F32, &Device::Cpu);
    let missing = MultiheadAttention::load(&layer(Alibi::new()), dims, Projections::LLAMA, false, none.pp("layers.0")).unwrap_err();
    assert!(missing.to_string().contains("layers.0.q_proj.weight"), "{missing}");
}

#[test]
fn every_encoding_trains_all_of_its_weights() {
    let encodings: Vec<Encoding> = vec![
        Encoding::none(),
        InputTable::new(8).into(),
        Rotary::new(Pairing::Halves).into(),
        Shaw::new(3).into(),
        TransformerXl::paper().into(),
        XlNet::new().into(),
        Deberta::new(4, DebertaProjections::Shared).into(),
        T5Bias::decoder().into(),
    ];
    for encoding in encodings {
        let weights = VarMap::new();
        let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
        let module = MultiheadAttention::load(&layer(encoding.clone()), Dims::new(16, 4).unwrap(), Projections::LLAMA, true, vb).unwrap();
        for (i, var) in weights.all_vars().iter().enumerate() {
            var.set(&(numbers(i, var.dims()) * 0.5).unwrap().to_dtype(DType::F32).unwrap())
                .unwrap();
        }
        let x = numbers(3, &[2, 5, 16]).to_dtype(DType::F32).unwrap();
        let at = match encoding.to_string().starts_with("xlnet") {
            // A second coordinate tells segments apart.
            true => Positions::whole_axes(&[0, 1, 2, 3, 4, 0, 0, 0, 1, 1], 2, 1).unwrap(),
            false => Positions::range(0..5),
        };
        let y = module.self_attention(&x, &at, &Mask::none().causal(0), Mode::Evaluate).unwrap();
        assert_eq!(y.dims(), [2, 5, 16]);
        let weighed = (&y * numbers(9, &[2, 5, 16]).to_dtype(DType::F32).unwrap()).unwrap();
        let grads = weighed.sum_all().unwrap().backward().unwrap();
        for (name, var) in weights.data().lock().unwrap().iter() {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{encoding}: {name} has no gradient"));
            // A key's bias moves all scores of a row alike where nothing else reads keys: its gradient is 0 but for rounding.
            if name != "k_proj.bias" {
                assert!(apart(grad, &grad.zeros_like().unwrap()) > 0.0, "{encoding}: {name}");
            }
        }
        // What an optimiser writes is seen by the next pass.
        for var in weights.all_vars() {
            var.set(&(var.as_tensor() * 1.5).unwrap()).unwrap();
        }
        let after = module.self_attention(&x, &at, &Mask::none().causal(0), Mode::Evaluate).unwrap();
        assert!(apart(&y, &after) > 1e-3, "{encoding}");
    }
}

#[test]
fn fused_and_separate_weights_are_one_module() {
    let dims = Dims::new(16, 4).unwrap();
    let spec = layer(T5Bias::encoder());
    let mut tensors = HashMap::new();
    let mut put = |name: &str, tensor: Tensor| tensors.insert(name.to_string(), tensor);
    let parts = [0, 1, 2, 3].map(|i| numbers(i, &[16, 16]));
    for (name, part) in ["q_proj", "k_proj", "v_proj", "o_proj"].iter().zip(&parts) {
        put(&format!("{name}.weight"), part.clone());
    }
    put("in_proj_weight", Tensor::cat(&parts[..3], 0).unwrap());
    put("out_proj.weight", parts[3].clone());
    put("relative_attention_bias.weight", numbers(7, &[32, 4]));
    let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
    let x = numbers(5, &[2, 6, 16]);
    let run = |projections| {
        let module = MultiheadAttention::load(&spec, dims, projections, false, vb.clone()).unwrap();
        module
            .self_attention(&x, &Positions::range(0..6), &Mask::none(), Mode::Evaluate)
            .unwrap()
    };
    assert_eq!(apart(&run(Projections::Fused), &run(Projections::LLAMA)), 0.0);
}

#[test]
fn a_call_of_another_encoding_is_refused() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let dims = Dims::new(16, 4).unwrap();
    let t5 = MultiheadAttention::load(&layer(T5Bias::encoder()), dims, Projections::T5, false, vb.pp("a")).unwrap();
    let plain = MultiheadAttention::load(&layer(Encoding::none()), dims, Projections::T5, false, vb.pp("b")).unwrap();
    let call = plain.encoded().at(&Positions::range(0..3)).unwrap();
    let x = Tensor::zeros((1, 3, 16), DType::F32, &Device::Cpu).unwrap();
    assert!(t5.forward(&x, &x, &x, &call, &Mask::none(), Mode::Evaluate).is_err());
}

#[test]
fn norms_of_queries_and_keys_act_before_the_encoding() {
    let at = Positions::range(0..5);
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F64, &Device::Cpu);
    let spec = layer(Rotary::new(Pairing::Halves));
    let load = || MultiheadAttention::load(&spec, Dims::new(16, 4).unwrap(), Projections::LLAMA, false, vb.clone()).unwrap();
    let (plain, normed) = (load(), load().with_qk_norm(1e-6, vb.clone()).unwrap());
    assert!(names(&weights).contains(&"k_norm.weight".to_string()));
    for (i, var) in weights.all_vars().iter().enumerate() {
        var.set(&(numbers(i, var.dims()) + 1.1).unwrap()).unwrap();
    }
    let x = Var::from_tensor(&numbers(3, &[2, 5, 16])).unwrap();
    let run = |module: &MultiheadAttention, x: &Tensor| module.self_attention(x, &at, &Mask::none().causal(0), Mode::Evaluate).unwrap();
    assert!(apart(&run(&plain, &x), &run(&normed, &x)) > 1e-3);
    // A norm does not see the size of what it norms, and values keep theirs: ε is 1e-6 of squares of some 100, so 1e-8 of a norm, and of a result of some 100.
    let twice = (run(&normed, &(x.as_tensor() * 2.0).unwrap()) * 0.5).unwrap();
    assert!(apart(&twice, &run(&normed, &x)) < 1e-5);
    let vars = weights.all_vars();
    let all: Vec<&Var> = vars.iter().chain([&x]).collect();
    assert_differences("norms of queries and keys", &all, || weighed(&run(&normed, &x)));
}

#[test]
fn blocks_share_the_table_of_the_first() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F64, &Device::Cpu);
    let spec = layer(T5Bias::encoder());
    let first = MultiheadAttention::load(&spec, Dims::new(16, 4).unwrap(), Projections::T5, false, vb.pp("0")).unwrap();
    let shared = first.encoded().clone();
    let second = MultiheadAttention::with_encoded(shared, &spec.attention, Projections::T5, false, vb.pp("1")).unwrap();
    let x = numbers(3, &[2, 5, 16]);
    let call = first.encoded().at(&Positions::range(0..5)).unwrap();
    let y = first.forward(&x, &x, &x, &call, &Mask::none(), Mode::Evaluate).unwrap();
    let z = second.forward(&y, &y, &y, &call, &Mask::none(), Mode::Evaluate).unwrap();
    let grads = weighed(&z).backward().unwrap();
    let vars = weights.data().lock().unwrap();
    assert_eq!(vars.len(), 9);
    assert!(vars.values().all(|var| grads.get(var).is_some()));
}

#[cfg(feature = "config")]
#[test]
fn a_layer_is_read_from_a_configuration() {
    let file = br#"{"model_type": "bloom", "hidden_size": 64, "n_head": 4, "n_layer": 2}"#;
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let module = MultiheadAttention::from_config(file, 0, Projections::Fused, true, vb.clone()).unwrap();
    assert!(module.encoded().plan().to_string().contains("alibi"), "{:?}", module.encoded());
    let none = MultiheadAttention::from_config(file, 2, Projections::Fused, true, vb.clone()).unwrap_err();
    assert!(none.to_string().contains("layer"), "{none}");
    assert!(MultiheadAttention::from_config(b"{", 0, Projections::Fused, true, vb).is_err());
}
