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
    let of =
        |encoding: Encoding, name: &str| MultiheadAttention::load(&layer(encoding), dims, Projections::T5, false, vb.pp(name)).unwrap();
    let x = Tensor::zeros((1, 3, 16), DType::F32, &Device::Cpu).unwrap();
    // The last two have parameters of the same names and shapes.
    for (here, there) in [
        (Encoding::from(T5Bias::encoder()), Encoding::none()),
        (Rotary::new(Pairing::Halves).into(), Alibi::new().into()),
        (T5Bias::encoder().into(), T5Bias::decoder().into()),
    ] {
        let (here, there) = (of(here, "a"), of(there, "b"));
        let call = there.encoded().at(&Positions::range(0..3)).unwrap();
        let refused = here.forward(&x, &x, &x, &call, &Mask::none(), Mode::Evaluate).unwrap_err();
        assert!(refused.to_string().contains("another encoding"), "{refused}");
    }
}

/// One call for two layers: each reads and trains its own table.
#[test]
fn a_call_serves_layers_with_tables_of_their_own() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F64, &Device::Cpu);
    let dims = Dims::new(16, 4).unwrap();
    let load = |name: &str| MultiheadAttention::load(&layer(Shaw::new(2)), dims, Projections::T5, false, vb.pp(name)).unwrap();
    let (first, second) = (load("0"), load("1"));
    let x = numbers(3, &[2, 5, 16]);
    let (at, mask) = (Positions::range(0..5), Mask::none());
    let call = first.encoded().at(&at).unwrap();
    let out = second.forward(&x, &x, &x, &call, &mask, Mode::Evaluate).unwrap();
    assert_eq!(apart(&out, &second.self_attention(&x, &at, &mask, Mode::Evaluate).unwrap()), 0.0);
    let grads = weighed(&out).backward().unwrap();
    for (name, var) in weights.data().lock().unwrap().iter() {
        assert_eq!(grads.get(var).is_some(), name.starts_with('1'), "{name}");
    }
}

/// BLOOM's rows, head by head, are those of separate layers in another order; with shared key heads Falcon's.
#[test]
fn rows_that_lie_head_by_head_are_the_same_layers() {
    for kv_heads in [1, 2, 4] {
        let dims = Dims {
            kv_heads,
            ..Dims::new(16, 4).unwrap()
        };
        let mut tensors = HashMap::new();
        let widths = [4, kv_heads, kv_heads];
        let [q, k, v] = [0, 1, 2].map(|i| numbers(i, &[widths[i], 4, 16]));
        let [q_bias, k_bias, v_bias] = [0, 1, 2].map(|i| numbers(i + 5, &[widths[i], 4, 1]));
        for (name, weight, bias) in [("q_proj", &q, &q_bias), ("k_proj", &k, &k_bias), ("v_proj", &v, &v_bias)] {
            tensors.insert(format!("{name}.weight"), weight.flatten(0, 1).unwrap());
            tensors.insert(format!("{name}.bias"), bias.flatten_all().unwrap());
        }
        let group = 4 / kv_heads;
        let by_head = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let rows = (0..kv_heads).flat_map(|h| [q.narrow(0, h * group, group), k.narrow(0, h, 1), v.narrow(0, h, 1)]);
            Tensor::cat(&rows.map(Result::unwrap).collect::<Vec<_>>(), 0)
                .unwrap()
                .flatten(0, 1)
                .unwrap()
        };
        tensors.insert("query_key_value.weight".into(), by_head(&q, &k, &v));
        tensors.insert(
            "query_key_value.bias".into(),
            by_head(&q_bias, &k_bias, &v_bias).flatten_all().unwrap(),
        );
        tensors.insert("Wqkv.weight".into(), Tensor::cat(&[&q, &k, &v], 0).unwrap().flatten(0, 1).unwrap());
        tensors.insert(
            "Wqkv.bias".into(),
            Tensor::cat(&[&q_bias, &k_bias, &v_bias], 0).unwrap().flatten_all().unwrap(),
        );
        for out in ["o_proj", "dense", "out_proj"] {
            tensors.insert(format!("{out}.weight"), numbers(8, &[16, 16]));
            tensors.insert(format!("{out}.bias"), numbers(9, &[16]));
        }
        let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
        let load = |projections| MultiheadAttention::load(&layer(Alibi::new()), dims, projections, true, vb.clone()).unwrap();
        let modules = [Projections::LLAMA, Projections::BLOOM, Projections::MPT].map(load);
        let (x, y) = (numbers(3, &[2, 5, 16]), numbers(4, &[2, 5, 16]));
        let call = modules[0].encoded().at(&Positions::range(0..5)).unwrap();
        for memory in [&x, &y] {
            let outs = modules
                .each_ref()
                .map(|module| module.forward(&x, memory, memory, &call, &Mask::none(), Mode::Evaluate).unwrap());
            // Products of other shapes add in another order: sums of 16 numbers below 16, twice over, and a softmax between them.
            assert!(apart(&outs[0], &outs[1]) < 1e-12 && apart(&outs[0], &outs[2]) < 1e-12, "{kv_heads}");
        }
    }
}

#[test]
fn each_projection_has_a_bias_or_none() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let load = |projections, biases: [bool; 4]| {
        MultiheadAttention::load(&layer(Alibi::new()), Dims::new(16, 4).unwrap(), projections, biases, vb.clone())
    };
    load(Projections::LLAMA, [true, true, true, false]).unwrap();
    let biases: Vec<String> = names(&weights).into_iter().filter(|name| name.ends_with("bias")).collect();
    assert_eq!(biases, ["k_proj.bias", "q_proj.bias", "v_proj.bias"]);
    let mixed = load(Projections::BLOOM, [true, false, true, true]).unwrap_err().to_string();
    assert!(mixed.contains("all three or none"), "{mixed}");
}

/// A step at a time over a cache of projected keys and values, for encodings that act on inputs, on queries and keys, on scores and values.
#[test]
fn decoding_with_a_cache_equals_the_whole() {
    let encodings: Vec<Encoding> = vec![
        InputTable::new(16).into(),
        Rotary::new(Pairing::Interleaved).into(),
        Alibi::new().into(),
        T5Bias::decoder().into(),
        Shaw::new(3).into(),
        TransformerXl::paper().into(),
        Deberta::new(4, DebertaProjections::Shared).into(),
    ];
    for encoding in encodings {
        let weights = VarMap::new();
        let vb = VarBuilder::from_varmap(&weights, DType::F64, &Device::Cpu);
        let dims = Dims {
            kv_heads: 2,
            ..Dims::new(16, 4).unwrap()
        };
        let dims = if encoding.to_string().contains("deberta") {
            Dims::new(16, 4).unwrap()
        } else {
            dims
        };
        let module = MultiheadAttention::load(&layer(encoding.clone()), dims, Projections::BLOOM, true, vb).unwrap();
        for (i, var) in weights.all_vars().iter().enumerate() {
            var.set(&(numbers(i, var.dims()) * 0.5).unwrap()).unwrap();
        }
        let x = numbers(3, &[2, 7, 16]);
        let whole = module
            .self_attention(&x, &Positions::range(0..7), &Mask::none().causal(0), Mode::Evaluate)
            .unwrap();
        let mut cache: Option<[Tensor; 2]> = None;
        for (from, count) in [(0, 3), (3, 1), (4, 1), (5, 2)] {
            let x = x.narrow(1, from, count).unwrap();
            let (first, last) = (from as i64, (from + count) as i64);
            let at = Positions::range(first..last);
            let [q, k, v] = module
                .project([&x, &x, &x], &module.encoded().at(&at).unwrap(), Mode::Evaluate)
                .unwrap();
            let [k, v] = match &cache {
                Some([keys, values]) => [Tensor::cat(&[keys, &k], 2).unwrap(), Tensor::cat(&[values, &v], 2).unwrap()],
                None => [k, v],
            };
            let call = module.encoded().call(&at, &Positions::range(0..last)).unwrap();
            let y = module
                .attend([&q, &k, &v], &call, &Mask::none().causal(from), Mode::Evaluate)
                .unwrap();
            // Numbers below 10, some hundred roundings each.
            assert!(apart(&y, &whole.narrow(1, from, count).unwrap()) < 1e-11, "{encoding}");
            cache = Some([k, v]);
        }
    }
}

/// Nothing in, nothing out, whichever axis is empty.
#[test]
fn modules_take_empty_batches() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    for (i, projections) in [Projections::Fused, Projections::BLOOM, Projections::LLAMA].into_iter().enumerate() {
        let module = MultiheadAttention::load(&layer(T5Bias::encoder()), Dims::new(16, 4).unwrap(), projections, true, vb.pp(i)).unwrap();
        for shape in [[0, 3, 16], [2, 0, 16]] {
            let x = Var::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
            let y = module
                .self_attention(&x, &Positions::range(0..shape[1] as i64), &Mask::none().causal(0), Mode::Evaluate)
                .unwrap();
            assert_eq!(y.dims(), shape);
            y.sum_all().unwrap().backward().unwrap();
        }
    }
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
