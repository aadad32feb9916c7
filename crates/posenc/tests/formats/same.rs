//! One model, written for four programs, means one thing.

use super::gguf::llama31;
use super::{json, layer, rotary, strict};
use posenc::config::ModelConfig;
use posenc::rotate::convert_rows;
use posenc::{Pairing, Positions, View, ViewMut};
use serde_json::json;

/// Llama 3.1 8B for transformers.
fn hugging_face() -> ModelConfig {
    let file = json!({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
    strict(&json(&file)).unwrap()
}

fn meta() -> ModelConfig {
    let file = json!({"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024, "rope_theta": 500000.0,
        "use_scaled_rope": true});
    strict(&json(&file)).unwrap()
}

/// The bands' rule is f32 code in transformers; a file of divisors is that rule's f32 result applied to f32 frequencies: two more roundings, of 2⁻²⁴ each, and half an ulp of each operation of the blend, whose share is a
/// difference (a factor of 8 for the larger term).
const BOUND: f64 = 64.0 / (1 << 24) as f64;

#[test]
fn bug_family_18_llama_3_1_in_three_formats() {
    let (hf, meta, gguf) = (hugging_face(), meta(), strict(&llama31().whole()).unwrap());
    for model in [&meta, &gguf] {
        let (ours, theirs) = (layer(model, 0), layer(&hf, 0));
        assert_eq!((ours.dims, &ours.spec.attention), (theirs.dims, &theirs.spec.attention));
        assert_eq!(model.parts[0].layers.len(), 32);
        let (a, b) = (
            rotary(ours).frequencies(128, 0).unwrap(),
            rotary(theirs).frequencies(128, 0).unwrap(),
        );
        assert_eq!((a.pairs.len(), a.table_factor), (64, b.table_factor));
        for (i, (a, b)) in a.pairs.iter().zip(&b.pairs).enumerate() {
            assert!((a - b).abs() <= BOUND * b, "pair {i}: {a} and {b}");
        }
        assert_eq!(
            (rotary(ours).pairing, rotary(theirs).pairing),
            (Pairing::Interleaved, Pairing::Halves)
        );
    }
    // Meta's constants are transformers' keys: the same bits.
    assert_eq!(
        rotary(layer(&meta, 0)).frequencies(128, 0).unwrap(),
        rotary(layer(&hf, 0)).frequencies(128, 0).unwrap()
    );
}

#[test]
fn yarn_in_three_formats() {
    let hf = json!({"model_type": "mistral", "hidden_size": 512, "head_dim": 64, "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "max_position_embeddings": 65536, "rope_theta": 1e6, "sliding_window": null,
        "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.0}});
    let mistral = json!({"dim": 512, "head_dim": 64, "n_heads": 8, "n_kv_heads": 2, "n_layers": 2, "hidden_dim": 1024, "rope_theta": 1e6,
        "max_position_embeddings": 65536, "yarn": {"factor": 16, "original_max_position_embeddings": 4096, "alpha": 1, "beta": 32, "apply_scale": false}});
    let gguf = super::write::Gguf::new("mistral3")
        .with("block_count", 2)
        .with("context_length", 65_536)
        .with("embedding_length", 512)
        .with("attention.head_count", 8)
        .with("attention.head_count_kv", 2)
        .with("attention.key_length", 64)
        .with("rope.dimension_count", 64)
        .with("rope.freq_base", 1e6)
        .with("rope.scaling.type", "yarn")
        .with("rope.scaling.factor", 16.0)
        .with("rope.scaling.original_context_length", 4096)
        .with("rope.scaling.yarn_beta_fast", 32.0)
        .with("rope.scaling.yarn_beta_slow", 1.0)
        .with("rope.scaling.yarn_log_multiplier", 1.0);
    let (hf, mistral, gguf) = (
        strict(&json(&hf)).unwrap(),
        strict(&json(&mistral)).unwrap(),
        strict(&gguf.whole()).unwrap(),
    );
    let expected = rotary(layer(&hf, 0)).frequencies(64, 0).unwrap();
    for model in [&mistral, &gguf] {
        assert_eq!(rotary(layer(model, 0)).frequencies(64, 0).unwrap(), expected);
        assert_eq!(layer(model, 0).dims, layer(&hf, 0).dims);
        assert_eq!(rotary(layer(model, 0)).pairing, Pairing::Interleaved);
    }
    assert_eq!(rotary(layer(&hf, 0)).pairing, Pairing::Halves);
}

/// What the pairings differ by is what the converters did to the projections: rows permuted head by head, and then every score is the same.
#[test]
fn bug_family_10_pairings_differ_as_the_weights_do() {
    const HEADS: usize = 2;
    const WIDTH: usize = 128;
    let (hf, gguf) = (hugging_face(), strict(&llama31().whole()).unwrap());
    let (theirs, ours) = (rotary(layer(&hf, 0)), rotary(layer(&gguf, 0)));
    // One column each of a projection of queries and of keys, as transformers has them.
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    };
    let weights: [Vec<f32>; 2] = std::array::from_fn(|_| (0..HEADS * WIDTH).map(|_| next()).collect());
    let permuted: [Vec<f32>; 2] = std::array::from_fn(|i| {
        let mut rows = weights[i].clone();
        convert_rows(&mut rows, theirs.pairing, ours.pairing, WIDTH, WIDTH, 1).unwrap();
        rows
    });
    let scores = |rotary: &posenc::Rotary, [q, k]: &[Vec<f32>; 2]| -> Vec<f32> {
        let turned = |x: &[f32], at: i64| {
            let mut out = vec![0.0f32; x.len()];
            let rotation = rotary.rotation::<f32>(WIDTH, &Positions::range(at..at + 1)).unwrap();
            let (x, shape) = (View::new(x, [1, HEADS, 1, WIDTH]).unwrap(), [1, HEADS, 1, WIDTH]);
            rotation
                .apply_into(posenc::rotate::Turn::Forward, x, ViewMut::new(&mut out, shape).unwrap())
                .unwrap();
            out
        };
        let mut all = Vec::new();
        for (at_q, at_k) in [(0, 0), (5, 3), (100, 7), (4000, 1)] {
            let (q, k) = (turned(q, at_q), turned(k, at_k));
            all.extend((0..HEADS).map(|h| (0..WIDTH).map(|i| q[h * WIDTH + i] * k[h * WIDTH + i]).sum::<f32>()));
        }
        all
    };
    // The same frequencies for both, so that only the order of a sum of 128 products differs, each of at most 4 (two coordinates of at most √2 after turning): 128 · 4 · 128 · 2⁻²⁴.
    let theirs_with_our_scaling = posenc::Rotary {
        scaling: ours.scaling.clone(),
        ..theirs.clone()
    };
    let (a, b) = (scores(&theirs_with_our_scaling, &weights), scores(ours, &permuted));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 128.0 * 4.0 * 128.0 / (1 << 24) as f32, "{a} and {b}");
    }
    // Unpermuted weights read with the file's pairing are another model.
    let wrong = scores(ours, &weights);
    assert!(a.iter().zip(&wrong).any(|(a, b)| (a - b).abs() > 1.0));
}
