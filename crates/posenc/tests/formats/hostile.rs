//! Bytes that nobody meant: a typed error or a model that can be planned and called, never a panic.

use super::gguf::{llama31, small};
use super::write::{Gguf, Value};
use super::{json, strict};
use posenc::config::{ConfigError, Mode, ModelConfig, read};
use posenc::{Encoding, Method, Positions, Rng, ViewMut};
use serde_json::json;

/// Every layer can be planned and its rotation's tables are finite at a few positions, in both kinds of axes.
fn check(model: &ModelConfig) {
    for plan in model.parts.iter().flat_map(|part| &part.plans) {
        let encodings = [Some(plan.spec.encoding.clone()), plan.described.clone().map(Encoding::from)];
        for encoding in encodings.into_iter().flatten() {
            let planned = encoding.plan(plan.dims).unwrap_or_else(|error| panic!("{encoding}: {error}"));
            // Biases are written out, where a table is not larger than the test's patience.
            let biased = |method: &Method| match method {
                Method::Alibi(_) => plan.dims.heads <= 1024,
                Method::T5Bias(t5) => t5.buckets.saturating_mul(plan.dims.heads) <= 1 << 16,
                _ => false,
            };
            if encoding.methods.iter().all(biased) && !encoding.methods.is_empty() {
                let params = planned.init::<f32>(0).unwrap();
                let call = planned.call(&params, &Positions::range(40..42), &Positions::range(0..42)).unwrap();
                let mut bias = vec![f32::NAN; plan.dims.heads * 2 * 42];
                call.materialise_bias(ViewMut::new(&mut bias, [1, plan.dims.heads, 2, 42]).unwrap())
                    .unwrap();
                assert!(bias.iter().all(|x| x.is_finite()), "{encoding}");
            }
            for method in &encoding.methods {
                let Method::Rotary(rotary) = method else { continue };
                // Wide heads only cost time here.
                if plan.dims.head_dim > 4096 {
                    continue;
                }
                for at in [0i64, 1, 4097, 16_777_215] {
                    let axes = rotary.axes.count();
                    let at = if axes == 1 || rotary.axes.takes_one() {
                        Positions::whole(&[at])
                    } else {
                        Positions::whole_axes(&vec![at; axes], axes, 1).unwrap()
                    };
                    let rotation = rotary
                        .rotation::<f32>(plan.dims.head_dim, &at)
                        .unwrap_or_else(|error| panic!("{rotary}: {error}"));
                    assert!(
                        rotation.cos(0, 0).iter().chain(rotation.sin(0, 0)).all(|x| x.is_finite()),
                        "{rotary}"
                    );
                }
            }
        }
        plan.spec.attention.check().unwrap();
    }
}

/// Reads in both modes; whether strict mode reads it.
fn survives(bytes: &[u8]) -> bool {
    let results = [Mode::Strict, Mode::Lenient].map(|mode| read(bytes, mode));
    for result in &results {
        match result {
            Ok(model) => {
                check(model);
                assert!(
                    model
                        .warnings
                        .iter()
                        .chain(model.left.iter().map(|(_, e)| e))
                        .all(|e| !e.to_string().is_empty())
                );
            }
            Err(error) => assert!(!error.to_string().is_empty(), "{error:?}"),
        }
    }
    results[0].is_ok()
}

/// A file of each format, with as many keys as one can have.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let hf = json!({"model_type": "qwen2_vl_text", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "max_position_embeddings": 4096, "head_dim": 16, "rope_theta": 10000.0, "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1,
        "partial_rotary_factor": 0.5, "query_pre_attn_scalar": 4, "attn_logit_softcapping": 2.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 1024, "beta_fast": 32, "mscale": 1.0, "mrope_section": [2, 1, 1]}});
    let meta = json!({"dim": 64, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 128256, "multiple_of": 256, "rope_theta": 5e5,
        "use_scaled_rope": true, "rope_scaling_factor": 8, "rope_high_freq_factor": 4, "nope_layer_interval": 4, "attention_chunk_size": 16,
        "attn_temperature_tuning": true, "attn_scale": 0.1, "floor_scale": 8, "head_dim": 16, "vision_chunk_size": 448});
    let mistral = json!({"dim": 64, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "hidden_dim": 128, "rope_theta": 1e6,
        "sliding_window": [null, 4], "max_position_embeddings": 4096, "llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 16},
        "yarn": {"factor": 4, "alpha": 1, "beta": 32, "original_max_position_embeddings": 1024, "apply_scale": true},
        "vision_encoder": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "image_size": 32, "patch_size": 4, "rope_theta": 1e4}});
    let latent = json!({"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "rope_theta": 1e4,
        "yarn": {"factor": 4, "original_max_position_embeddings": 1024}});
    let phi = small("phi3")
        .with("rope.scaling.original_context_length", 1024)
        .with("rope.scaling.attn_factor", 1.19)
        .with("rope.dimension_count", 8)
        .tensor("rope_factors_long.weight", &[4.0, 5.0, 6.0, 7.0])
        .tensor("rope_factors_short.weight", &[1.0; 4]);
    let gemma = small("gemma3")
        .with("attention.sliding_window", 8)
        .with("attention.sliding_window_pattern", Value::Flags(vec![true, false, true, false]))
        .with("rope.freq_base_swa", 10_000.0)
        .with("rope.scaling.type", "linear")
        .with("rope.scaling.factor", 8.0)
        .with("attention.key_length", 16);
    let pictures = small("qwen2vl").with("rope.dimension_sections", Value::Numbers(vec![8, 12, 12, 0]));
    let mut tokens = small("llama").tensor("rope_freqs.weight", &[1.5; 32]);
    tokens.pairs.push((
        "tokenizer.ggml.tokens".into(),
        Value::Texts(vec!["a".into(), "bc".into(), String::new()]),
    ));
    tokens.pairs.push(("general.alignment".into(), 64.into()));
    let gemma_hf = json!({"model_type": "gemma3_text", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "num_hidden_layers": 4, "sliding_window": 8, "max_position_embeddings": 4096, "layer_types": ["sliding_attention", "full_attention",
        "sliding_attention", "full_attention"], "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}});
    let latent_hf = json!({"model_type": "deepseek_v3", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "max_position_embeddings": 4096, "rope_interleave": true, "rope_theta": 10000, "rope_scaling": {"type": "yarn",
        "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}});
    let long_hf = json!({"model_type": "phi3", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 4096,
        "original_max_position_embeddings": 1024, "sliding_window": 9, "rope_scaling": {"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [1, 2, 3, 4, 5, 6, 7, 8]}});
    vec![
        ("hugging face", json(&hf)),
        ("hugging face, by layer type", json(&gemma_hf)),
        ("hugging face, latent", json(&latent_hf)),
        ("hugging face, lists", json(&long_hf)),
        ("meta", json(&meta)),
        ("mistral", json(&mistral)),
        ("mistral, latent", json(&latent)),
        ("gguf phi3", phi.whole()),
        ("gguf phi3, big endian", Gguf { big_endian: true, ..phi }.whole()),
        ("gguf gemma3", gemma.whole()),
        ("gguf qwen2vl", pictures.whole()),
        ("gguf tokens", tokens.whole()),
    ]
}

#[test]
fn the_files_that_are_mutated_are_read() {
    for (name, bytes) in files() {
        assert!(survives(&bytes), "{name}: {:?}", strict(&bytes).err());
    }
}

#[test]
fn every_truncation_is_an_error_or_a_model() {
    for (_, bytes) in files() {
        for end in 0..bytes.len() {
            survives(&bytes[..end]);
        }
    }
}

/// Bytes changed, swapped, repeated and removed at random.
#[test]
fn mutated_bytes_are_an_error_or_a_model() {
    let mut rng = Rng::new(2026);
    let mut below = move |n: usize| (rng.bits() % n.max(1) as u64) as usize;
    let mut read = 0;
    for (_, bytes) in files() {
        for _ in 0..2500 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + below(3) {
                let at = below(bytes.len());
                match below(6) {
                    0 => bytes[at] ^= 1 << below(8),
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'-', b'e', b'"', b'[', b'{'][below(12)],
                    2 => {
                        let end = (at + 8).min(bytes.len());
                        bytes[at..end].fill([0, 0xff, 0x7f][below(3)]);
                    }
                    3 => {
                        let other = below(bytes.len());
                        bytes.swap(at, other);
                    }
                    4 => {
                        let end = (at + 1 + below(16)).min(bytes.len());
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                    _ => {
                        let end = (at + 1 + below(16)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            read += usize::from(survives(&bytes));
        }
    }
    // Many mutations hit what is not read: else this would test nothing but refusals.
    assert!(read > 2000, "{read}");
}

/// Values of other kinds, and past any model, at every key of every format that has keys.
#[test]
fn hostile_values_at_every_key() {
    let hostile = [
        json!(null),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(2),
        json!(1e308),
        json!(1e30),
        json!(u64::MAX),
        json!("x"),
        json!("1e400"),
        json!("NaN"),
        json!([]),
        json!(vec![1; 10_000]),
        json!({}),
        json!({"a": [{}]}),
        json!(true),
    ];
    for (_, bytes) in files() {
        let Ok(file) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
            continue;
        };
        for key in file.as_object().unwrap().keys() {
            for value in &hostile {
                let mut changed = file.clone();
                changed[key] = value.clone();
                survives(&json(&changed));
                for inner in file[key].as_object().iter().flat_map(|inner| inner.keys()) {
                    let mut changed = file.clone();
                    changed[key][inner] = value.clone();
                    survives(&json(&changed));
                }
            }
            let mut without = file.clone();
            without.as_object_mut().unwrap().remove(key);
            survives(&json(&without));
        }
    }
    let values = [
        Value::U32(0),
        Value::U32(1),
        Value::U32(u32::MAX),
        Value::I32(-1),
        Value::U64(u64::MAX),
        Value::F32(0.5),
        Value::F32(f32::NAN),
        Value::F32(f32::INFINITY),
        Value::F64(-1e300),
        Value::Bool(true),
        "x".into(),
        Value::Numbers(vec![]),
        Value::Numbers(vec![u32::MAX; 4]),
        Value::Numbers(vec![1; 20_000]),
        Value::Flags(vec![true]),
        Value::Texts(vec!["8".into()]),
    ];
    let keys = [
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.key_length_mla",
        "attention.key_length_swa",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.scale",
        "attention.output_scale",
        "attention.temperature_scale",
        "attention.temperature_length",
        "attention.max_alibi_bias",
        "attention.relative_buckets_count",
        "attention.rope_pattern",
        "attention.recurrent_layers",
        "attn_logit_softcapping",
        "full_attention_interval",
        "nextn_predict_layers",
        "decoder_block_count",
        "rope.dimension_count",
        "rope.dimension_count_swa",
        "rope.dimension_sections",
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.scale_linear",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.alpha",
        "rope.scaling.attn_factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scaling.yarn_log_multiplier",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
    ];
    let architectures = [
        "llama",
        "llama4",
        "gemma3",
        "gemma4",
        "qwen2vl",
        "qwen3vl",
        "qwen3next",
        "deepseek2",
        "mistral3",
        "phi3",
        "grok",
        "mpt",
        "t5",
        "bert",
        "granite_swa",
        "step35",
        "hunyuan_vl",
        "lfm2",
        "baichuan",
    ];
    let mut read = 0;
    for architecture in architectures {
        for key in keys {
            for value in &values {
                for scaled in [false, true] {
                    let mut file = small(architecture);
                    if scaled {
                        file = file
                            .with("rope.scaling.type", "yarn")
                            .with("rope.scaling.factor", 4.0)
                            .with("attention.sliding_window", 8);
                    }
                    read += usize::from(survives(&file.with(key, value.clone()).whole()));
                }
            }
        }
    }
    assert!(read > 5000, "{read}");
}

/// A number takes many times as much memory as its byte in a file: no more than a million of them are kept.
#[test]
fn lists_without_number_are_not_kept() {
    let heads = Value::Numbers(vec![4; 2]);
    let full: Vec<(String, Value)> = (0..128).map(|i| (format!("list.{i}"), Value::Flags(vec![true; 8192]))).collect();
    let base = small("qwen2").with("block_count", 2).without("attention.head_count");
    let before = base.clone().with("attention.head_count", heads.clone());
    let after = |lists: usize| {
        let mut file = base.clone();
        file.pairs.extend(full[..lists].iter().cloned());
        file.with("attention.head_count", heads.clone())
    };
    let mut first = before.clone();
    first.pairs.extend(full.iter().cloned());
    for read in [before, after(127), first] {
        assert_eq!(strict(&read.whole()).unwrap().parts[0].layers.len(), 2);
    }
    assert!(matches!(strict(&after(128).whole()), Err(ConfigError::Wrong { key, .. }) if key == "qwen2.attention.head_count"));
}

/// Counts, lengths and types that no file has, and that nothing may be allocated for.
#[test]
fn absurd_counts_in_a_header() {
    let (bytes, [metadata, ..]) = llama31().bytes();
    let with = |at: usize, number: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for number in [1 << 17, 1 << 40, u64::MAX] {
        assert!(matches!(
            strict(&with(16, number)),
            Err(ConfigError::TooMany {
                what: "pairs of metadata",
                ..
            })
        ));
    }
    for number in [(1 << 20) + 1, 1 << 40, u64::MAX] {
        assert!(matches!(
            strict(&with(8, number)),
            Err(ConfigError::TooMany { what: "tensors", .. })
        ));
    }
    // The first key's length.
    for number in [65_536, 1 << 40, u64::MAX] {
        assert!(matches!(strict(&with(24, number)), Err(ConfigError::Bytes { at: 24, .. })));
    }
    // More pairs or tensors than there are: the bytes end, or other bytes are taken for them.
    for number in [0, 1, 5, 1 << 16] {
        survives(&with(16, number));
        survives(&with(8, number));
    }
    // The type and the length of the last value, and of a tensor's dimensions.
    for kind in [7u32, 8, 9, 12, 13, 0xffff] {
        let mut bytes = bytes.clone();
        bytes[metadata - 8..metadata - 4].copy_from_slice(&kind.to_le_bytes());
        survives(&bytes);
    }
    let twice = small("qwen2");
    let twice = Gguf {
        pairs: twice.pairs.iter().chain(&twice.pairs[1..2]).cloned().collect(),
        ..twice
    };
    let error = strict(&twice.whole()).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Bytes { given, .. } if given.contains("qwen2.block_count")),
        "{error}"
    );
    let twice = llama31().tensor("rope_freqs.weight", &[1.0; 64]);
    assert!(matches!(strict(&twice.whole()), Err(ConfigError::Bytes { .. })));

    // Lists: of lists of lists …, of more than there are bytes, of unknown types, of a million tokens.
    let list = |values: &dyn Fn(&mut Vec<u8>)| {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        out.extend(3u64.to_le_bytes());
        out.extend(b"key");
        out.extend(9u32.to_le_bytes());
        values(&mut out);
        strict(&out)
    };
    let head = |out: &mut Vec<u8>, kind: u32, length: u64| {
        out.extend(kind.to_le_bytes());
        out.extend(length.to_le_bytes());
    };
    let deep = list(&|out| (0..1000).for_each(|_| head(out, 9, 1)));
    assert!(matches!(deep, Err(ConfigError::Bytes { .. })), "{deep:?}");
    for (kind, length) in [(4, u64::MAX), (0, 1 << 62), (8, u64::MAX), (9, 1 << 50), (10, 1 << 61)] {
        let result = list(&|out| head(out, kind, length));
        assert!(
            matches!(result, Err(ConfigError::Cut { .. } | ConfigError::Bytes { .. })),
            "{result:?}"
        );
    }
    assert!(matches!(list(&|out| head(out, 13, 1)), Err(ConfigError::Bytes { .. })));
    let mut million = small("qwen2");
    million
        .pairs
        .push(("tokenizer.ggml.tokens".into(), Value::Texts(vec!["token".into(); 1 << 20])));
    million
        .pairs
        .push(("tokenizer.ggml.scores".into(), Value::Numbers(vec![1; 1 << 20])));
    assert!(strict(&million.whole()).is_ok());
    let mut named = small("qwen2").whole();
    named[32] = 0xff;
    assert!(matches!(
        strict(&named),
        Err(ConfigError::Bytes {
            expected: "a key in UTF-8",
            ..
        })
    ));
}

#[test]
fn json_that_is_none_names_line_and_column() {
    for (text, at) in [
        ("{\n \"dim\": 4096,\n \"n_layers\": 32,,\n}", (3, 17)),
        ("{\"dim\": 1e400, \"n_layers\": 1, \"n_heads\": 1}", (1, 13)),
        ("{\"dim\": NaN}", (1, 9)),
        ("{\"dim\": 01}", (1, 10)),
        ("{\"dim\": 1", (1, 9)),
    ] {
        let Err(ConfigError::Json { line, column, message }) = strict(text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!((line, column), at, "{text}: {message}");
    }
    assert!(matches!(strict(b"{\"dim\": 1, \"dim\": 2}"), Err(ConfigError::Json { .. })));
    assert!(matches!(strict("[".repeat(1 << 20).as_bytes()), Err(ConfigError::Json { .. })));
    assert!(matches!(strict(b"GGU"), Err(ConfigError::Json { .. })));
    // Lists that every layer would read.
    let ones = format!("[{}1]", "1,".repeat(1_000_000));
    let scaling = format!("{{\"rope_type\": \"longrope\", \"factor\": 2, \"short_factor\": {ones}, \"long_factor\": {ones}}}");
    let heads = "\"hidden_size\": 2000002, \"num_attention_heads\": 1, \"num_hidden_layers\": 4096, \"max_position_embeddings\": 9";
    let long = format!("{{\"model_type\": \"llama\", {heads}, \"rope_scaling\": {scaling}}}");
    assert!(matches!(
        strict(long.as_bytes()),
        Err(ConfigError::TooMany { given: 1_000_001, .. })
    ));
    // A list of a million numbers where a number belongs.
    let long = format!(
        "{{\"dim\": [{}0], \"n_layers\": 1, \"n_heads\": 1, \"hidden_dim\": 1}}",
        "0,".repeat(1_000_000)
    );
    assert!(matches!(strict(long.as_bytes()), Err(ConfigError::Wrong { key, .. }) if key == "dim"));
}

/// f32 code cannot tell a position past 2²⁴ from its neighbour: in the precision that files are read in, that is an error, not a wrong angle.
#[test]
fn positions_past_what_f32_counts_are_an_error() {
    let model = strict(&small("qwen2").whole()).unwrap();
    let rotary = super::rotary(super::layer(&model, 0));
    assert!(rotary.rotation::<f32>(64, &Positions::whole(&[1 << 24])).is_ok());
    assert!(rotary.rotation::<f32>(64, &Positions::whole(&[(1 << 24) + 1])).is_err());
    assert!(rotary.rotation::<f32>(64, &Positions::whole(&[-(1 << 24) - 1])).is_err());
}

/// A width of two is refused where a rule divides by the width less two.
#[test]
fn bug_family_29_a_width_of_two() {
    let two = small("hunyuan_vl").with("rope.dimension_count", 2).with("rope.scaling.alpha", 2.0);
    assert!(matches!(strict(&two.whole()), Err(ConfigError::Setting { .. })));
    let plain = small("qwen2").with("rope.dimension_count", 2);
    assert!(strict(&plain.whole()).is_ok());
}
