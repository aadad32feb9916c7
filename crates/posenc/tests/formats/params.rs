//! `params.json` of Meta and of Mistral.

use super::{json, layer, lenient, rotary, source, strict, turning};
use posenc::config::{ConfigError, Format, ModelConfig};
use posenc::rotate::{Axes, Magnitude, Scaling, Slice, yarn_magnitude};
use posenc::{Pairing, Precision, Temperature, Window};
use serde_json::{Value, json};

fn read(file: Value) -> ModelConfig {
    strict(&json(&file)).unwrap_or_else(|error| panic!("{error}"))
}

fn changed(mut file: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        file[key] = value.clone();
    }
    file
}

/// Llama 3.1 8B's file.
fn llama31() -> Value {
    json!({"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.3, "multiple_of": 1024,
        "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true})
}

/// Mistral 7B v0.1's.
fn mistral7b() -> Value {
    json!({"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8, "norm_eps": 1e-05,
        "vocab_size": 32000, "sliding_window": 4096})
}

/// Mistral Large 3's, without its tower for pictures.
fn large3() -> Value {
    json!({"dim": 7168, "n_layers": 61, "head_dim": 192, "hidden_dim": 16384, "n_heads": 128, "n_kv_heads": 128, "vocab_size": 131072,
        "rope_theta": 10000.0, "max_position_embeddings": 294912, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "moe": {"num_experts": 128, "num_shared_experts": 1},
        "llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 8192},
        "yarn": {"alpha": 1, "apply_scale": false, "beta": 32, "factor": 36, "original_max_position_embeddings": 8192}})
}

#[test]
fn metas_files() {
    let model = read(llama31());
    assert_eq!((model.format, model.model_type.as_str()), (Format::Meta, "llama3"));
    let plan = layer(&model, 0);
    assert_eq!((plan.dims.heads, plan.dims.kv_heads, plan.dims.head_dim), (32, 8, 128));
    let turned = rotary(plan);
    assert_eq!(
        (turned.base, turned.pairing, turned.precision),
        (5e5, Pairing::Interleaved, Precision::Reference)
    );
    assert_eq!(turned.scaling, super::gguf::llama3());
    assert_eq!(
        (source(plan, "base").as_str(), source(plan, "scaling").as_str()),
        ("rope_theta", "use_scaled_rope")
    );
    // Llama 2 has no base in its file: 10 000 stands in its code. Llama 3's code has another default.
    let llama2 = json!({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1});
    let model = read(llama2.clone());
    assert_eq!(
        (rotary(layer(&model, 0)).base, source(layer(&model, 0), "base").as_str()),
        (1e4, "class default")
    );
    assert_eq!(layer(&model, 0).dims.kv_heads, 32);
    let llama3 = read(changed(llama2.clone(), json!({"vocab_size": 128256})));
    assert_eq!(rotary(layer(&llama3, 0)).base, 5e5);
    assert!(source(layer(&llama3, 0), "class").contains("vocab_size"));
    let code_llama = read(changed(llama2, json!({"rope_theta": 1e6, "vocab_size": 32016})));
    assert_eq!(rotary(layer(&code_llama, 0)).base, 1e6);
    // Constants of the scaling may stand in newer files, and mean nothing without it.
    let given = read(changed(llama31(), json!({"rope_scaling_factor": 32, "rope_high_freq_factor": 4})));
    assert!(matches!(
        rotary(layer(&given, 0)).scaling,
        Scaling::Llama3 {
            factor: 32.0,
            high_freq_factor: 4.0,
            ..
        }
    ));
    let unused = json(&changed(llama31(), json!({"rope_scaling_factor": 32, "use_scaled_rope": false})));
    assert!(matches!(strict(&unused), Err(ConfigError::UnknownKey { .. })));
    assert_eq!(rotary(layer(&lenient(&unused), 0)).scaling, Scaling::Unscaled);
}

/// Llama 4 Scout: chunks where it turns, every fourth layer not, and bands with nothing between.
#[test]
fn llama_4s_file() {
    let scout = json!({"dim": 5120, "n_layers": 48, "n_heads": 40, "n_kv_heads": 8, "vocab_size": 202048, "multiple_of": 2048, "ffn_exp": 4.0,
        "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true, "nope_layer_interval": 4, "attention_chunk_size": 8192,
        "use_qk_norm": true, "moe_args": {"num_experts": 16}, "vision_args": {"dim": 1408}, "attn_temperature_tuning": true});
    let model = read(scout.clone());
    assert_eq!((model.model_type.as_str(), model.left.len()), ("llama4", 1));
    assert_eq!(turning(&model)[..8], [true, true, true, false, true, true, true, false]);
    let (turned, not) = (layer(&model, 0), layer(&model, 3));
    let bands = Scaling::Llama3 {
        factor: 16.0,
        original_len: 8192,
        low_freq_factor: 1.0,
        high_freq_factor: 1.0,
    };
    assert_eq!(rotary(turned).scaling, bands);
    assert_eq!((turned.spec.attention.chunk, turned.spec.attention.temperature), (Some(8192), None));
    assert_eq!(
        (not.spec.attention.chunk, not.spec.attention.temperature),
        (None, Some(Temperature::llama4(0.1, 8192.0)))
    );
    let plain = Scaling::Unscaled.frequencies(5e5, 128, 0).unwrap().pairs;
    for (scaled, plain) in bands.frequencies(5e5, 128, 0).unwrap().pairs.into_iter().zip(plain) {
        let turns = 8192.0 * plain / std::f64::consts::TAU;
        assert_eq!(scaled, if turns >= 1.0 { plain } else { plain / 16.0 });
    }
    assert!(matches!(
        strict(&json(&changed(scout, json!({"nope_layer_interval": 0})))),
        Err(ConfigError::Wrong { .. })
    ));
}

#[test]
fn mistrals_files() {
    // The first has a window and no base.
    let model = read(mistral7b());
    assert_eq!((model.format, model.model_type.as_str()), (Format::Mistral, "mistral"));
    let plan = layer(&model, 0);
    assert_eq!((rotary(plan).base, source(plan, "base").as_str()), (1e4, "class default"));
    assert_eq!(plan.spec.attention.window, Some(Window::last(4096).unwrap()));
    assert_eq!((rotary(plan).pairing, plan.dims.head_dim), (Pairing::Interleaved, 128));
    let later = read(changed(mistral7b(), json!({"sliding_window": null})));
    assert_eq!((rotary(layer(&later, 0)).base, layer(&later, 0).spec.attention.window), (1e6, None));
    // Nemo's heads are not its width over its number of heads.
    let nemo = read(changed(
        mistral7b(),
        json!({"dim": 5120, "sliding_window": null, "rope_theta": 1e6}),
    ));
    assert_eq!(layer(&nemo, 0).dims.head_dim, 128);
    // Ministral's windows are a list that repeats.
    let list = read(changed(
        mistral7b(),
        json!({"sliding_window": [null, 32768, 32768, 32768], "rope_theta": 1e8}),
    ));
    assert_eq!(list.parts[0].layers[..6], [0, 1, 1, 1, 0, 1]);
    assert_eq!(layer(&list, 1).kind.as_deref(), Some("sliding_attention"));
    // Codestral Mamba is no transformer: its type is of transformers' registry, and no layer attends.
    let mamba = read(json!({"dim": 4096, "n_layers": 64, "n_heads": 1, "model_type": "mamba"}));
    assert_eq!(mamba.format, Format::HuggingFace);
    assert!(mamba.parts[0].plans.iter().all(|plan| !plan.attends));
}

#[test]
fn mistrals_yarn_latent_heads_and_temperature() {
    let model = read(large3());
    let plan = layer(&model, 0);
    let turned = rotary(plan);
    assert_eq!(
        (plan.dims.head_dim, turned.slice, turned.rotary_dim),
        (192, Slice::Trailing, Some(64))
    );
    let Scaling::Yarn(yarn) = &turned.scaling else { panic!() };
    assert_eq!(
        (yarn.factor, yarn.original_len, yarn.beta_fast, yarn.beta_slow),
        (36.0, 8192, 32.0, 1.0)
    );
    assert_eq!((yarn.magnitude, plan.spec.attention.scale), (Magnitude::Given(1.0), None));
    assert_eq!(plan.spec.attention.temperature, Some(Temperature::mistral(0.1, 8192.0)));
    assert_eq!(model.parts[0].max_len, Some(294_912));
    // Without the key the scale is applied: in the tables, or with latent heads in the softmax scale.
    let mut applied = large3();
    applied["yarn"].as_object_mut().unwrap().remove("apply_scale");
    let plan_of = |file: &Value| layer(&read(file.clone()), 0).clone();
    let latent = plan_of(&applied);
    let expected = yarn_magnitude(36.0, 1.0).powi(2) / 192f64.sqrt();
    assert!((latent.spec.attention.scale.unwrap() - expected).abs() <= 4.0 * f64::EPSILON * expected);
    for key in ["qk_nope_head_dim", "qk_rope_head_dim"] {
        applied.as_object_mut().unwrap().remove(key);
    }
    let whole = plan_of(&applied);
    assert_eq!(whole.spec.attention.scale, None);
    assert_eq!(rotary(&whole).frequencies(192, 0).unwrap().table_factor, yarn_magnitude(36.0, 1.0));
    // Keys that nobody reads.
    let mut other = large3();
    other["yarn"]["beta_fast"] = json!(32);
    assert!(matches!(strict(&json(&other)), Err(ConfigError::UnknownKey { key, .. }) if key == "yarn.beta_fast"));
    let mut short = large3();
    short["llama_4_scaling"].as_object_mut().unwrap().remove("beta");
    assert!(matches!(strict(&json(&short)), Err(ConfigError::Missing { key, .. }) if key == "llama_4_scaling.beta"));
}

#[test]
fn pixtrals_tower() {
    let tower = json!({"hidden_size": 1024, "num_channels": 3, "image_size": 1024, "patch_size": 16, "rope_theta": 10000.0,
        "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16});
    for file in [
        changed(mistral7b(), json!({"vision_encoder": tower.clone()})),
        changed(mistral7b(), json!({"multimodal": {"vision_encoder_args": tower.clone()}})),
    ] {
        let model = read(file);
        assert_eq!(model.parts.len(), 2);
        let part = &model.parts[1];
        assert_eq!(
            (part.layers.len(), part.max_len, part.model_type.as_str()),
            (24, Some(64), "pixtral")
        );
        let ours = rotary(part.layer(0).unwrap());
        assert_eq!((&ours.axes, ours.pairing), (&Axes::Dealt { axes: 2 }, Pairing::Interleaved));
        // The same frequencies as the tower in transformers' file; the pairs are neighbours here and halves there.
        let theirs = read(changed(tower.clone(), json!({"model_type": "pixtral", "head_dim": 64})));
        assert_eq!(
            ours.frequencies(64, 0).unwrap(),
            rotary(layer(&theirs, 0)).frequencies(64, 0).unwrap()
        );
        assert_eq!(rotary(layer(&theirs, 0)).pairing, Pairing::Halves);
    }
    let sound = changed(
        mistral7b(),
        json!({"multimodal": {"whisper_model_args": {"encoder_args": {"dim": 1280}}}}),
    );
    assert_eq!(read(sound).left[0].0, "multimodal.whisper_model_args");
}

#[test]
fn whose_file_it_is_changes_nothing_but_the_default_base() {
    let bare = json!({"dim": 512, "n_layers": 2, "n_heads": 8, "n_kv_heads": 2, "vocab_size": 32000, "norm_eps": 1e-05});
    // With neither's keys and no base nobody knows.
    assert!(matches!(strict(&json(&bare)), Err(ConfigError::Missing { key, .. }) if key == "rope_theta"));
    let based = changed(bare.clone(), json!({"rope_theta": 30000.0}));
    let meta = read(changed(based.clone(), json!({"multiple_of": 256})));
    let mistral = read(changed(based.clone(), json!({"hidden_dim": 1024})));
    assert_eq!((meta.format, mistral.format), (Format::Meta, Format::Mistral));
    for model in [&meta, &mistral, &read(based)] {
        assert_eq!(
            (&layer(model, 0).spec, layer(model, 0).dims),
            (&layer(&meta, 0).spec, layer(&meta, 0).dims)
        );
    }
    let both = json(&changed(bare.clone(), json!({"hidden_dim": 1024, "multiple_of": 256})));
    assert!(matches!(strict(&both), Err(ConfigError::Conflict { .. })));
    assert_eq!((lenient(&both).format, lenient(&both).warnings.len()), (Format::Mistral, 1));
    // DistilBERT has the same three keys, and a model type.
    let distil = json!({"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12});
    assert!(!matches!(
        strict(&json(&distil)),
        Ok(ModelConfig {
            format: Format::Meta | Format::Mistral,
            ..
        })
    ));
    for (key, value) in [
        ("dim", json!("x")),
        ("n_heads", json!(0)),
        ("n_heads", json!(1.5)),
        ("n_layers", json!(1e30)),
        ("n_kv_heads", json!(3)),
        ("rope_theta", json!(0)),
        ("rope_theta", json!("1e6")),
        ("n_layers", json!(5000)),
        ("n_layers", json!([1])),
    ] {
        let file = changed(
            json!({"dim": 512, "n_layers": 2, "n_heads": 8, "hidden_dim": 1024}),
            json!({key: value}),
        );
        assert!(strict(&json(&file)).is_err(), "{file}");
    }
}
