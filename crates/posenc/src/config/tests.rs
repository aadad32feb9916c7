//! What files say and what is refused. That the frequencies are right is checked against transformers in `posenc-nn`'s reference vectors.

use super::{ConfigError, LayerPlan, Mode, ModelConfig, read};
use crate::attention::Window;
use crate::rotate::{Axes, Magnitude, Rotary, Scaling, Slice};
use crate::{Pairing, Precision};
use serde_json::{Value, json};

fn strict(file: Value) -> Result<ModelConfig, ConfigError> {
    read(file.to_string().as_bytes(), Mode::Strict)
}

fn lenient(file: Value) -> ModelConfig {
    read(file.to_string().as_bytes(), Mode::Lenient).unwrap()
}

fn rotary(plan: &LayerPlan) -> &Rotary {
    plan.described.as_ref().unwrap()
}

/// A Llama of four layers, with these keys changed.
fn llama(changes: Value) -> Value {
    let mut file = json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "max_position_embeddings": 4096
    });
    let object = file.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        object.insert(key.clone(), value.clone());
    }
    file
}

/// The whole model in one plan.
fn one(file: Value) -> LayerPlan {
    let model = strict(file).unwrap();
    assert_eq!(model.parts[0].plans.len(), 1, "{model:#?}");
    model.parts[0].plans[0].clone()
}

#[test]
fn bug_family_4_config_drift_new_and_old_layouts_say_the_same_and_theta_has_a_source() {
    let old = one(llama(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}})));
    let new = one(llama(
        json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}}),
    ));
    assert_eq!(old.spec, new.spec);
    assert_eq!(old.source("base").unwrap().to_string(), "rope_theta");
    assert_eq!(new.source("base").unwrap().to_string(), "rope_parameters.rope_theta");
    let silent = one(llama(json!({})));
    assert_eq!(
        (rotary(&silent).base, silent.source("base").unwrap().to_string().as_str()),
        (1e4, "class default")
    );
    let mixtral = one(llama(json!({"model_type": "mixtral"})));
    assert_eq!(rotary(&mixtral).base, 1e6, "the class's own default");
    // A base that is said twice, differently.
    let twice = llama(json!({"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}));
    assert!(matches!(strict(twice.clone()), Err(ConfigError::Conflict { .. })));
    let model = lenient(twice);
    assert_eq!((rotary(&model.parts[0].plans[0]).base, model.warnings.len()), (5e5, 1));
}

#[test]
fn bug_family_4_an_unknown_model_type_is_an_error_that_says_what_to_add() {
    for mode in [Mode::Strict, Mode::Lenient] {
        let error = read(llama(json!({"model_type": "lama9"})).to_string().as_bytes(), mode).unwrap_err();
        assert!(matches!(&error, ConfigError::UnknownModel { model_type, .. } if model_type == "lama9"));
        assert!(error.to_string().contains("config/registry"));
    }
    let mut file = llama(json!({}));
    file.as_object_mut().unwrap().remove("model_type");
    assert!(matches!(strict(file), Err(ConfigError::Missing { key, .. }) if key == "model_type"));
    // Around a language model that is known it may still change what positions are.
    let whole = json!({"model_type": "lama9_vl", "text_config": llama(json!({}))});
    assert!(matches!(strict(whole.clone()), Err(ConfigError::UnknownModel { model_type, .. }) if model_type == "lama9_vl"));
    let model = lenient(whole);
    assert_eq!((model.parts[0].path.as_str(), model.warnings.len()), ("text_config", 1));
}

#[test]
fn what_published_files_hold_beside_the_keys_of_their_class_is_no_contradiction() {
    // HunYuan's.
    let scaling =
        json!({"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "type": "dynamic"});
    let plan = one(llama(json!({"model_type": "hunyuan_v1_dense", "rope_scaling": scaling})));
    assert_eq!(rotary(&plan).scaling, Scaling::Alpha { alpha: 1000.0 });
    // The same without what makes it HunYuan's.
    let scaling = json!({"beta_fast": 32, "factor": 2.0, "type": "dynamic"});
    let error = strict(llama(json!({"rope_scaling": scaling}))).unwrap_err();
    assert!(matches!(&error, ConfigError::UnknownKey { key, .. } if key == "rope_scaling.beta_fast"));
    // EXAONE 4's first ones.
    let file = |letters: &str| {
        llama(json!({"model_type": "exaone4", "num_hidden_layers": 8, "sliding_window": 16, "sliding_window_pattern": letters}))
    };
    let model = strict(file("LLLG")).unwrap();
    let slides = |layer| model.parts[0].layer(layer).unwrap().spec.attention.window.is_some();
    assert_eq!(
        (0..8).map(slides).collect::<Vec<_>>(),
        [true, true, true, false, true, true, true, false]
    );
    for letters in ["", "LLX"] {
        assert!(matches!(strict(file(letters)), Err(ConfigError::Wrong { .. })));
    }
}

#[test]
fn bug_family_5_type_and_rope_type_are_one_key_and_unknown_keys_are_named() {
    let scaled = |scaling: Value| llama(json!({"rope_scaling": scaling}));
    let both = json!({"type": "su", "rope_type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8], "original_max_position_embeddings": 1024});
    assert!(
        matches!(rotary(&one(scaled(both))).scaling, Scaling::Longrope(_)),
        "two names of one kind"
    );
    let different = scaled(json!({"type": "linear", "rope_type": "dynamic", "factor": 2.0}));
    assert!(matches!(strict(different.clone()), Err(ConfigError::Conflict { .. })));
    assert!(matches!(
        rotary(&lenient(different).parts[0].plans[0]).scaling,
        Scaling::Dynamic { original_len: 4096, .. }
    ));
    let unknown = scaled(json!({"rope_type": "linear", "factor": 2.0, "beta_fast": 32}));
    assert!(matches!(strict(unknown.clone()), Err(ConfigError::UnknownKey { key, .. }) if key == "rope_scaling.beta_fast"));
    assert_eq!(lenient(unknown).warnings.len(), 1);
    assert!(matches!(
        strict(scaled(json!({"rope_type": "liner", "factor": 2.0}))),
        Err(ConfigError::Wrong { key, .. }) if key == "rope_scaling.rope_type"
    ));
}

#[test]
fn bug_family_6_yarn_has_three_magnitudes_under_three_names() {
    let magnitude = |more: Value| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024});
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let Scaling::Yarn(yarn) = rotary(&one(llama(json!({"rope_scaling": scaling})))).scaling.clone() else {
            panic!()
        };
        yarn.magnitude
    };
    assert_eq!(magnitude(json!({})), Magnitude::Own);
    assert_eq!(magnitude(json!({"attention_factor": 1.2})), Magnitude::Given(1.2));
    assert_eq!(magnitude(json!({"attn_factor": 0.5})), Magnitude::OwnTimes(0.5));
    assert_eq!(magnitude(json!({"mscale": 1.0, "mscale_all_dim": 0.0})), Magnitude::Own);
    let ratio = Magnitude::Ratio {
        mscale: 1.0,
        mscale_all_dim: 0.5,
    };
    assert_eq!(magnitude(json!({"mscale": 1.0, "mscale_all_dim": 0.5})), ratio);
    // attn_factor of DeepSeek-R1-0528-Qwen3-8B is one over YaRN's own at 4: tables as they are.
    let Scaling::Yarn(yarn) = &rotary(&one(llama(json!({"rope_scaling":
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "attn_factor": 0.8782488562869419}}))))
    .scaling
    .clone() else {
        panic!()
    };
    let tables = Scaling::Yarn(yarn.clone()).frequencies(1e4, 16, 1).unwrap().table_factor;
    assert!((tables - 1.0).abs() <= 2.0 * f64::EPSILON);
}

/// DeepSeek-V3's published settings: neighbours read and halves written at the end of heads of 192, and the softmax scale times mscale².
#[test]
fn bug_family_6_deepseek_multiplies_its_softmax_scale() {
    let file = json!({
        "model_type": "deepseek_v3", "hidden_size": 7168, "num_attention_heads": 128, "num_key_value_heads": 128, "num_hidden_layers": 61,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "max_position_embeddings": 163840, "rope_theta": 10000,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096, "type": "yarn"}
    });
    let plan = one(file.clone());
    let rotary = rotary(&plan);
    assert_eq!(
        (rotary.pairing, rotary.slice, rotary.rotary_dim),
        (Pairing::InterleavedToHalves, Slice::Trailing, Some(64))
    );
    assert_eq!((plan.dims.head_dim, rotary.precision), (192, Precision::Reference));
    assert_eq!(rotary.frequencies(192, 1).unwrap().table_factor, 1.0);
    let mscale = 0.1 * 40f64.ln() + 1.0;
    let scale = plan.spec.attention.scale.unwrap();
    assert!((scale - mscale * mscale / 192f64.sqrt()).abs() <= 4.0 * f64::EPSILON * scale);
    let mut halves = file;
    halves["rope_interleave"] = json!(false);
    assert_eq!(one(halves).described.unwrap().pairing, Pairing::Halves);
}

#[test]
fn bug_family_7_truncate_is_read_where_it_stands_and_the_trained_length_has_an_order() {
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "truncate": false});
    let file = llama(json!({
        "model_type": "olmo3", "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 8,
        "rope_parameters": {"full_attention": scaling.clone(), "sliding_attention": {"rope_type": "default"}}
    }));
    let model = strict(file).unwrap();
    let Scaling::Yarn(yarn) = &rotary(model.parts[0].layer(0).unwrap()).scaling else {
        panic!()
    };
    assert!(!yarn.truncate);
    assert_eq!(rotary(model.parts[0].layer(1).unwrap()).scaling, Scaling::Unscaled);
    // Phi-3's stands beside the dictionary and counts.
    let trained = |file: Value| match &rotary(&lenient(file).parts[0].plans[0]).scaling {
        Scaling::Yarn(yarn) => yarn.original_len,
        _ => panic!(),
    };
    let both = llama(json!({"rope_scaling": scaling, "original_max_position_embeddings": 512}));
    assert!(matches!(strict(both.clone()), Err(ConfigError::Conflict { .. })));
    assert_eq!(trained(both), 512);
    let without = json!({"rope_type": "yarn", "factor": 4.0});
    assert_eq!(trained(llama(json!({"rope_scaling": without}))), 4096);
}

#[test]
fn bug_family_12_the_part_that_turns_under_all_its_names() {
    let width = |file: Value| {
        let plan = one(file);
        (rotary(&plan).rotary_dim, rotary(&plan).exponent_dim)
    };
    assert_eq!(width(llama(json!({"partial_rotary_factor": 0.5}))), (Some(8), None));
    assert_eq!(
        width(llama(json!({"model_type": "gpt_neox"}))),
        (Some(4), None),
        "the class's quarter"
    );
    assert_eq!(width(llama(json!({"model_type": "gpt_neox", "rotary_pct": 0.5}))), (Some(8), None));
    assert_eq!(width(llama(json!({"model_type": "minimax_m2", "rotary_dim": 8}))), (Some(8), None));
    assert_eq!(width(llama(json!({"model_type": "gpt_neox", "rotary_pct": 1.0}))), (None, None));
    // 0.45 of 16 is cut to 7: eight coordinates turn, with exponents over seven.
    assert_eq!(width(llama(json!({"partial_rotary_factor": 0.45}))), (Some(8), Some(7)));
    for share in [0.0, -0.5, 1.5] {
        assert!(matches!(
            strict(llama(json!({"partial_rotary_factor": share}))),
            Err(ConfigError::Wrong { .. })
        ));
    }
    assert!(strict(llama(json!({"head_dim": 15}))).is_err(), "a whole head of an odd width");
    assert_eq!(one(llama(json!({"head_dim": null}))).dims.head_dim, 16);
}

#[test]
fn bug_family_11_the_order_of_axes_is_not_the_pairing() {
    let of = |model: &str| {
        let sections = json!({"rope_type": "default", "mrope_section": [4, 2, 2]});
        one(llama(json!({"model_type": model, "rope_parameters": sections})))
            .described
            .unwrap()
    };
    let (chunked, spread) = (of("qwen2_vl_text"), of("qwen3_vl_text"));
    assert_eq!((chunked.pairing, spread.pairing), (Pairing::Halves, Pairing::Halves));
    assert_eq!(chunked.axes, Axes::Chunked { sections: vec![4, 2, 2] });
    assert_eq!(spread.axes, Axes::Spread { sections: vec![4, 2, 2] });
    assert_eq!(of("glm4v_text").pairing, Pairing::Interleaved);
    // Sections mean nothing to a model of one axis.
    let sections = json!({"rope_type": "default", "mrope_section": [4, 2, 2]});
    assert!(matches!(
        strict(llama(json!({"rope_parameters": sections}))),
        Err(ConfigError::UnknownKey { .. })
    ));
    for wrong in [json!([4, 2]), json!([8]), json!([4, 2, 1e18]), json!(["a"]), json!([9, 9, 9])] {
        let file = llama(json!({"model_type": "qwen2_vl_text", "rope_parameters": {"mrope_section": wrong}}));
        assert!(strict(file).is_err());
    }
}

/// Gemma 3 as it was first published: one base for full attention, another for sliding, and a factor for the former alone.
#[test]
fn bug_family_17_layer_types_have_their_own_bases_and_windows() {
    let file = json!({
        "model_type": "gemma3_text", "hidden_size": 640, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "num_hidden_layers": 7,
        "max_position_embeddings": 131072, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window": 512, "sliding_window_pattern": 6,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "query_pre_attn_scalar": 256
    });
    let model = strict(file).unwrap();
    let part = &model.parts[0];
    assert_eq!(part.layers, [0, 0, 0, 0, 0, 1, 0]);
    let (sliding, full) = (part.layer(0).unwrap(), part.layer(5).unwrap());
    assert_eq!((rotary(sliding).base, &rotary(sliding).scaling), (1e4, &Scaling::Unscaled));
    assert_eq!((rotary(full).base, &rotary(full).scaling), (1e6, &Scaling::Linear { factor: 8.0 }));
    assert_eq!(sliding.spec.attention.window, Some(Window::last(512).unwrap()));
    assert_eq!((full.spec.attention.window, full.spec.attention.scale), (None, Some(1.0 / 16.0)));
    assert_eq!(sliding.source("base").unwrap().to_string(), "rope_local_base_freq");
    assert_eq!(part.specs().len(), 7);
}

#[test]
fn bug_family_18_llama3_keeps_all_its_factors() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let plan = one(llama(json!({"rope_theta": 5e5, "rope_scaling": scaling.clone()})));
    let expected = Scaling::Llama3 {
        factor: 8.0,
        original_len: 8192,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
    };
    assert_eq!(rotary(&plan).scaling, expected);
    for key in ["factor", "low_freq_factor", "high_freq_factor"] {
        let mut without = scaling.clone();
        without.as_object_mut().unwrap().remove(key);
        let error = strict(llama(json!({"rope_scaling": without}))).unwrap_err();
        assert!(matches!(error, ConfigError::Missing { key: missing, .. } if missing == format!("rope_scaling.{key}")));
    }
}

#[test]
fn bug_family_27_layers_without_positions() {
    let turns = |file: Value| {
        let model = strict(file).unwrap();
        let part = &model.parts[0];
        part.specs()
            .iter()
            .map(|spec| !spec.encoding.methods.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(turns(llama(json!({"model_type": "smollm3"}))), [true, true, true, false]);
    assert_eq!(
        turns(llama(json!({"model_type": "smollm3", "no_rope_layers": [0, 1, 1, 1]}))),
        [false, true, true, true]
    );
    assert_eq!(
        turns(llama(json!({"model_type": "cohere2", "sliding_window": 8}))),
        [true, true, true, false]
    );
    assert_eq!(
        turns(llama(json!({"model_type": "exaone4", "sliding_window": null}))),
        [true; 4],
        "no window: all turn"
    );
    assert_eq!(
        turns(llama(json!({"model_type": "exaone4", "sliding_window": 8}))),
        [true, true, true, false]
    );
    assert_eq!(turns(llama(json!({"model_type": "zamba2", "attention_head_dim": 32}))), [false; 4]);
    let bases = json!({"model_type": "granite_swa", "layer_rope_theta": [1e4, 0, 5e5, 0]});
    assert_eq!(turns(llama(bases.clone())), [true, false, true, false]);
    assert_eq!(rotary(strict(llama(bases)).unwrap().parts[0].layer(2).unwrap()).base, 5e5);
}

#[test]
fn bug_family_29_a_width_of_two_is_refused_where_the_rule_divides_by_none() {
    let scaling = json!({"rope_type": "dynamic", "factor": 2.0});
    assert!(matches!(
        strict(llama(json!({"head_dim": 2, "rope_scaling": scaling}))),
        Err(ConfigError::Setting { .. })
    ));
}

#[test]
fn parts_are_read_from_their_objects_and_older_files_from_the_top() {
    let text = llama(json!({"model_type": "qwen2_vl_text"}));
    let picture = json!({"embed_dim": 64, "hidden_size": 128, "num_heads": 4, "depth": 2});
    let new = strict(json!({"model_type": "qwen2_vl", "text_config": text, "vision_config": picture})).unwrap();
    let mut flat = llama(json!({"model_type": "qwen2_vl", "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}));
    flat["vision_config"] = picture.clone();
    let old = strict(flat).unwrap();
    for model in [&new, &old] {
        assert_eq!(model.parts.len(), 2);
        assert_eq!(model.parts[1].path, "vision_config");
        let tower = rotary(&model.parts[1].plans[0]);
        assert_eq!((tower.base, &tower.axes), (1e4, &Axes::Grid { axes: vec![0, 1] }));
    }
    assert_eq!(rotary(&old.parts[0].plans[0]).axes, Axes::Chunked { sections: vec![2, 3, 3] });
    // A part that is not known is listed, the language model is read.
    let llava =
        strict(json!({"model_type": "llava", "text_config": llama(json!({})), "vision_config": {"model_type": "unheard_of"}})).unwrap();
    assert_eq!((llava.parts.len(), llava.left.len()), (1, 1));
}

#[test]
fn two_names_of_one_value_say_the_same() {
    let neox = |changes: Value| {
        let mut file = llama(json!({"model_type": "gpt_neox", "rotary_emb_base": 25000, "rotary_pct": 0.25}));
        file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        file
    };
    assert!(strict(neox(json!({"rope_theta": 25000.0, "partial_rotary_factor": 0.25}))).is_ok());
    for other in [json!({"rope_theta": 10000}), json!({"partial_rotary_factor": 0.5})] {
        let file = neox(other);
        assert!(matches!(strict(file.clone()), Err(ConfigError::Conflict { .. })), "{file}");
        // The class reads its own names alone.
        let model = lenient(file);
        let plan = &model.parts[0].plans[0];
        assert_eq!(
            (rotary(plan).base, rotary(plan).rotary_dim),
            (25000.0, Some(plan.dims.head_dim / 4))
        );
        assert_eq!(model.warnings.len(), 1);
    }
}

#[test]
fn a_key_and_its_other_name_say_the_same() {
    let gptj = |width: usize| json!({"model_type": "gptj", "n_embd": 64, "hidden_size": width, "n_head": 4, "n_layer": 2, "rotary_dim": 8});
    assert!(strict(gptj(64)).is_ok());
    assert!(matches!(strict(gptj(128)), Err(ConfigError::Conflict { taken, .. }) if taken == "n_embd"));
    let model = lenient(gptj(128));
    assert_eq!((model.parts[0].plans[0].dims.head_dim, model.warnings.len()), (16, 1));
}

#[test]
fn one_dictionary_for_all_layer_types_is_read_under_its_older_name_alone() {
    let scaling = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5});
    for name in ["gemma3_text", "gemma3n_text", "olmo3", "t5gemma2_text", "t5gemma2_decoder"] {
        let full = |model: &ModelConfig| {
            let plan = model.parts[0]
                .plans
                .iter()
                .find(|plan| plan.kind.as_deref() == Some("full_attention"));
            rotary(plan.unwrap()).clone()
        };
        let file = |key: &str| {
            let mut file = llama(json!({"model_type": name, "num_hidden_layers": 6, "sliding_window": 16}));
            file[key] = scaling.clone();
            file
        };
        let older = full(&strict(file("rope_scaling")).unwrap());
        assert_eq!((older.base, &older.scaling), (5e5, &Scaling::Linear { factor: 8.0 }), "{name}");
        assert!(matches!(strict(file("rope_parameters")), Err(ConfigError::Wrong { key, .. }) if key == "rope_parameters"));
        // As transformers 5.23.0 does, run on this very file.
        assert_eq!(full(&lenient(file("rope_parameters"))).scaling, Scaling::Unscaled, "{name}");
    }
}

#[test]
fn lists_of_one_value_per_layer_are_as_long_as_there_are_layers() {
    for (name, changes) in [
        ("llama4_text", json!({"no_rope_layers": [1, 1]})),
        ("smollm3", json!({"no_rope_layers": [1, 0]})),
        ("granite_swa", json!({"layer_rope_theta": [10000.0]})),
        ("laguna", json!({"num_attention_heads_per_layer": [4]})),
        (
            "minimax_m3_vl_text",
            json!({"sparse_attention_config": {"sparse_attention_freq": [0, 1]}}),
        ),
    ] {
        let mut file = llama(json!({"model_type": name, "num_hidden_layers": 4}));
        file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let key = changes.as_object().unwrap().keys().next().unwrap();
        let error = strict(file).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Wrong { key: path, .. } if path.starts_with(key.as_str())),
            "{name}: {error}"
        );
    }
}

#[test]
fn settings_that_nothing_reads_are_said() {
    let chunks = llama(json!({"model_type": "qwen2", "dual_chunk_attention_config": {"chunk_size": 262_144, "local_size": 8192}}));
    assert!(matches!(strict(chunks.clone()), Err(ConfigError::Unread { .. })));
    assert_eq!(lenient(chunks).warnings.len(), 1);
    // Beside the object that is read.
    let text = llama(json!({"rope_theta": 5e5}));
    let whole = |outer: Value| {
        let mut file = json!({"model_type": "llava", "text_config": text});
        file.as_object_mut().unwrap().extend(outer.as_object().unwrap().clone());
        file
    };
    assert!(strict(whole(json!({"rope_theta": 500_000, "rope_scaling": null, "rope_parameters": {}}))).is_ok());
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    assert!(matches!(
        strict(whole(json!({"rope_scaling": yarn}))),
        Err(ConfigError::Wrong { .. })
    ));
    assert!(matches!(
        strict(whole(json!({"rope_theta": 1e4}))),
        Err(ConfigError::Conflict { .. })
    ));
    let model = lenient(whole(json!({"rope_theta": 1e4})));
    assert_eq!((rotary(&model.parts[0].plans[0]).base, model.warnings.len()), (5e5, 1));
}

#[test]
fn what_is_no_configuration_is_refused_with_line_and_column() {
    let refused = |text: &str| read(text.as_bytes(), Mode::Lenient).unwrap_err();
    let ConfigError::Json { line, column, .. } = refused("{\n  \"model_type\": \"llama\",\n  oops\n}") else {
        panic!()
    };
    assert_eq!((line, column), (3, 3));
    assert!(matches!(refused("{\"a\": 1e999}"), ConfigError::Json { line: 1, .. }));
    assert!(matches!(refused(&"[".repeat(100_000)), ConfigError::Json { .. }), "too deep");
    assert!(
        matches!(refused("{\"rope_theta\": 1, \"rope_theta\": 2}"), ConfigError::Json { .. }),
        "a key twice"
    );
    assert!(matches!(refused("[]"), ConfigError::Wrong { .. }));
    assert!(matches!(refused(""), ConfigError::Json { .. }));
    assert!(matches!(read(&[0xff; 4], Mode::Strict), Err(ConfigError::Json { .. })));
    assert!(matches!(
        read(&vec![b' '; (16 << 20) + 1], Mode::Strict),
        Err(ConfigError::TooMany { .. })
    ));
}

/// Values past any model and of other kinds, at every key of a file that is read otherwise: a typed error or a plan, no panic.
#[test]
fn hostile_values_are_refused_at_every_key() {
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 32, "mscale": 1.0, "rope_theta": 1e4});
    let long = json!({"rope_type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8], "factor": 4.0});
    let hostile = [
        json!(null),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(u64::MAX),
        json!(1e15),
        json!("x"),
        json!([]),
        json!(vec![1; 10_000]),
        json!({}),
        json!({"a": {"b": 1}}),
        json!(true),
    ];
    let mut read_files = 0;
    for inner in [scaling, long] {
        let file = llama(json!({
            "model_type": "qwen2_vl_text", "head_dim": 16, "rope_scaling": inner, "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1,
            "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"], "attn_logit_softcapping": 2.0,
            "partial_rotary_factor": 0.5, "query_pre_attn_scalar": 4
        }));
        let outer: Vec<String> = file.as_object().unwrap().keys().cloned().collect();
        let nested: Vec<String> = file["rope_scaling"].as_object().unwrap().keys().cloned().collect();
        for value in &hostile {
            for key in &outer {
                let mut changed = file.clone();
                changed[key] = value.clone();
                read_files += usize::from(strict(changed.clone()).is_ok());
                let _ = read(changed.to_string().as_bytes(), Mode::Lenient);
            }
            for key in &nested {
                let mut changed = file.clone();
                changed["rope_scaling"][key] = value.clone();
                read_files += usize::from(strict(changed.clone()).is_ok());
                let _ = read(changed.to_string().as_bytes(), Mode::Lenient);
            }
        }
    }
    assert!(read_files > 0, "null is an absent key");
    let deep = llama(json!({"num_hidden_layers": 1_000_000_000_000u64}));
    assert!(matches!(strict(deep), Err(ConfigError::TooMany { what: "layers", .. })));
}

/// Each line of the registry reads with keys that its model has, and no name stands twice.
#[test]
fn every_model_type_is_read() {
    let names: Vec<&str> = super::known().iter().map(|(name, _)| *name).collect();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
    for model in super::registry::models() {
        // Where the whole width turns, there are as many key heads as query heads.
        let key_heads = if let super::registry::Head::Across = model.head { 8 } else { 1 };
        let mut file = json!({
            "model_type": model.name, "hidden_size": 1024, "d_model": 1024, "embed_dim": 1024, "projection_dim": 1024, "num_attention_heads": 8,
            "n_heads": 8, "num_heads": 8, "decoder_num_attention_heads": 8, "speech_encoder_attention_heads": 8, "memory_attention_hidden_size": 128,
            "memory_attention_num_attention_heads": 1, "attention_head_dim": 128, "kv_channels": 128, "head_dim": 128, "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 64, "num_hidden_layers": 8, "sliding_window": 16, "max_position_embeddings": 4096, "num_key_value_heads": key_heads
        });
        // Another name of a key that is there says it twice.
        for (other, own) in super::registry::defaults(model.name).names {
            if file.get(&own).is_some() {
                file.as_object_mut().unwrap().remove(&other);
            }
        }
        let model = strict(file).unwrap_or_else(|error| panic!("{}: {error}", model.name));
        for plan in &model.parts[0].plans {
            plan.spec.encoding.plan(plan.dims).unwrap();
            assert!(plan.source("base").is_some() || plan.described.is_none());
        }
    }
}

/// Model types whose class defaults describe no model that could run: the reason.
const NOT_ALONE: [(&str, &str); 7] = [
    ("chatglm", "its class is not in transformers"),
    ("deepseek", "its class is not in transformers"),
    ("internlm2", "its class is not in transformers"),
    ("kimi_k2", "its class is not in transformers"),
    ("minicpm", "its class is not in transformers"),
    ("phi-msft", "its class is not in transformers"),
    ("qwen3_omni_moe_text", "the class's heads have an odd width"),
];

/// A model type alone is the model of its class's defaults, and every value says so.
#[test]
fn a_model_type_alone_is_its_class() {
    let mut wrong = Vec::new();
    for model in super::registry::models() {
        let alone = strict(json!({ "model_type": model.name }));
        let known = NOT_ALONE.iter().find(|(name, _)| *name == model.name);
        match (alone, known) {
            (Ok(read), None) => {
                for plan in &read.parts[0].plans {
                    let invented: Vec<&str> = plan
                        .provenance
                        .iter()
                        .filter(|p| matches!(&p.source, super::Source::Key(_)))
                        .map(|p| p.value)
                        .collect();
                    // EfficientLoFTR counts pairs of layers, under a key of its own.
                    let uncounted = read.parts[0].layers.is_empty() && model.name != "efficientloftr";
                    if !invented.is_empty() || uncounted {
                        wrong.push(format!(
                            "{}: {invented:?} from no key, {} layers",
                            model.name,
                            read.parts[0].layers.len()
                        ));
                    }
                }
            }
            (Err(error), None) => wrong.push(format!("{}: {error}", model.name)),
            (Ok(_), Some(_)) => wrong.push(format!("{}: is read all the same", model.name)),
            (Err(_), Some(_)) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each key of each class's defaults with values of other kinds and sizes: an error or a plan, no panic.
#[test]
fn hostile_values_are_refused_at_every_default() {
    let hostile = [
        json!(0),
        json!(-1),
        json!(1e15),
        json!("x"),
        json!([]),
        json!([0.5, -3]),
        json!({"a": 1}),
        json!(true),
    ];
    let more = [
        "layer_types",
        "no_rope_layers",
        "layer_rope_theta",
        "sliding_window_pattern",
        "per_layer_config",
        "attn_layer_indices",
        "compress_ratios",
    ];
    for model in super::registry::models() {
        let keys: Vec<String> = super::registry::defaults(model.name).fields.keys().cloned().collect();
        for key in keys.iter().map(String::as_str).chain(more) {
            for value in &hostile {
                let _ = read(json!({"model_type": model.name, key: value}).to_string().as_bytes(), Mode::Lenient);
            }
        }
    }
}

#[test]
fn what_is_known_and_not_read_says_why() {
    let error = strict(llama(json!({"model_type": "swin"}))).unwrap_err();
    assert!(matches!(error, ConfigError::NotExpressed { reason, .. } if !reason.is_empty()));
    assert!(strict(llama(json!({"model_type": "falcon", "alibi": false}))).is_ok());
}

/// Types whose classes are in their authors' repositories, not in transformers.
#[test]
fn published_code_beside_transformers() {
    // GLM-4-9b-chat: half of a head of 128 turns, neighbours together, at ten thousand times `rope_ratio`.
    let glm = one(json!({
        "model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 40, "kv_channels": 128, "multi_query_attention": true,
        "multi_query_group_num": 2, "seq_length": 131072, "rope_ratio": 500, "original_rope": true
    }));
    assert_eq!(
        (rotary(&glm).base, rotary(&glm).rotary_dim, rotary(&glm).pairing),
        (5e6, Some(64), Pairing::Interleaved)
    );
    assert_eq!((glm.dims.kv_heads, glm.dims.head_dim), (2, 128));
    // The first ChatGLM, of two positions per token, has the same name.
    let first =
        json!({"model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28, "position_encoding_2d": true});
    assert!(matches!(strict(first), Err(ConfigError::Missing { .. })));
    let internlm = one(llama(
        json!({"model_type": "internlm2", "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    ));
    assert!(matches!(rotary(&internlm).scaling, Scaling::Dynamic { original_len: 4096, .. }));
    let phi = one(json!({"model_type": "phi-msft", "n_embd": 2560, "n_head": 32, "n_layer": 32, "n_positions": 2048, "rotary_dim": 32}));
    assert_eq!((rotary(&phi).rotary_dim, phi.dims.head_dim), (Some(32), 80));
    let kimi = one(json!({
        "model_type": "kimi_k2", "hidden_size": 7168, "num_attention_heads": 64, "num_key_value_heads": 64, "num_hidden_layers": 61, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "max_position_embeddings": 131072, "rope_theta": 50000.0, "rope_scaling": {"beta_fast": 1.0, "beta_slow": 1.0,
            "factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}
    }));
    assert_eq!(rotary(&kimi).pairing, Pairing::InterleavedToHalves);
}

/// `docs/models.md` is the registry as a page; `POSENC_WRITE_PAGES=1` writes it.
#[test]
fn the_page_of_models_is_the_registry() {
    let known = super::known();
    let read = known.iter().filter(|(_, what)| what.is_ok()).count();
    let mut page = format!(
        "# Model types\n\nWhat `posenc::config::read` makes of the model type in a `config.json`, from what the model's class leaves unsaid in transformers 5.23.0: {read} are read, {} are known and not read, \
         each with its reason. Any other is an error that names the nearest. This page is written from the registry (`crates/posenc/src/config/registry/`), and a test checks that it says the same.\n\n\
         A file's own keys stand above what is written here. *Halves* and *interleaved* are the pairing, *share* and *base* are defaults.\n\n| model type | positions |\n|---|---|\n",
        known.len() - read
    );
    for (name, what) in &known {
        match what {
            Ok(what) => page += &format!("| `{name}` | {what} |\n"),
            Err(reason) => page += &format!("| `{name}` | *not read*: {reason} |\n"),
        }
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    if std::env::var_os("POSENC_WRITE_PAGES").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/models.md is not what the registry says: POSENC_WRITE_PAGES=1 cargo test -p posenc --features config the_page_of_models"
    );
}
