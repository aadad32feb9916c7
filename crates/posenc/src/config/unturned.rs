//! What files of models without rotary positions say and what is refused. That the tables and biases are right is checked against transformers in `posenc-nn`'s reference vectors.

use super::registry::{self, Plain, Stack};
use super::{ConfigError, Mode, ModelConfig, Numbering, Part, filled, known, read};
use crate::attention::Window;
use crate::bias::{Alibi, Slopes, T5Bias};
use crate::content::{Deberta, DebertaProjections};
use crate::embed::{Learned, Overflow};
use crate::encoding::Encoding;
use crate::params::Scope;
use serde_json::{Value, json};

fn strict(file: Value) -> Result<ModelConfig, ConfigError> {
    read(file.to_string().as_bytes(), Mode::Strict)
}

fn lenient(file: Value) -> ModelConfig {
    read(file.to_string().as_bytes(), Mode::Lenient).unwrap()
}

/// The only part.
fn one(file: Value) -> Part {
    let model = strict(file).unwrap();
    assert_eq!(model.parts.len(), 1, "{model:#?}");
    model.parts[0].clone()
}

fn two(file: Value) -> [Part; 2] {
    let model = strict(file).unwrap();
    assert_eq!((model.parts[0].stack, model.parts[1].stack), (Some("encoder"), Some("decoder")));
    [model.parts[0].clone(), model.parts[1].clone()]
}

#[test]
fn every_model_type_of_transformers_is_read_or_has_a_reason() {
    let names: Vec<&str> = include_str!("model_types.txt").lines().collect();
    assert_eq!(names.len(), 804, "transformers 5.23.0");
    let known = known();
    let unknown: Vec<&&str> = names.iter().filter(|name| !known.iter().any(|(known, _)| known == *name)).collect();
    assert!(unknown.is_empty(), "{} are not known: {unknown:?}", unknown.len());
    for name in names {
        match strict(json!({"model_type": name})) {
            Err(ConfigError::UnknownModel { .. }) => panic!("{name}"),
            Err(ConfigError::NotExpressed { reason, .. }) => assert!(!reason.is_empty(), "{name}"),
            _ => {}
        }
    }
}

#[test]
fn a_model_type_stands_in_one_list_only() {
    let mut names: Vec<&str> = known().into_iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    // Those that turn in some files and not in others say when.
    for model in registry::plains() {
        let also = registry::find(model.name).is_some() || registry::UNEXPRESSED.iter().any(|(name, _)| *name == model.name);
        assert_eq!(model.when.is_some(), also, "{}", model.name);
    }
}

/// A file that says nothing but its model type is read as the class's own default model.
#[test]
fn every_line_is_read_from_class_defaults_alone() {
    let mut failed = Vec::new();
    for model in registry::plains() {
        if model.stacks.iter().flatten().all(|stack: &Stack| !stack.left.is_empty()) {
            continue;
        }
        let mut file = json!({"model_type": model.name});
        if let Some((key, setting, false)) = model.when {
            file[key] = match setting {
                registry::Setting::Flag(on) => json!(on),
                registry::Setting::Text(text) => json!(text),
                registry::Setting::Not(_) => json!(""),
            };
        }
        // Series name their lengths in every file, and have no default.
        if filled::class(model.name).is_some_and(|class| class.contains_key("encoder_layers") && !class.contains_key("prediction_length")) {
            file["context_length"] = json!(12);
            file["prediction_length"] = json!(4);
        }
        let parts = match strict(file) {
            Ok(model) => model.parts,
            Err(error) => {
                failed.push(format!("{}: {error}", model.name));
                continue;
            }
        };
        for part in parts {
            if part.path.is_empty() {
                check(model, &part);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What any part promises.
fn check(model: &Plain, part: &Part) {
    assert_eq!(part.model_type, model.name);
    for plan in &part.plans {
        assert!(plan.spec.encoding.plan(plan.dims).is_ok(), "{}", model.name);
        let scaled = plan.source("scale").is_some();
        assert!(plan.source("heads").is_some() && scaled == plan.attends, "{}", model.name);
    }
    if !part.embeddings.methods.is_empty() {
        let source = ["rows", "layout", "grid"].iter().find_map(|value| part.source(value));
        assert!(source.is_some(), "{}", model.name);
    }
}

#[test]
fn learned_tables_have_their_class_offsets_and_say_where_rows_come_from() {
    let bert = one(
        json!({"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": 40}),
    );
    assert_eq!(bert.embeddings, Learned::new(40).into());
    assert_eq!((bert.layers.len(), bert.plans.len(), bert.max_len), (3, 1, Some(40)));
    assert_eq!(bert.source("rows").unwrap().to_string(), "max_position_embeddings");
    assert_eq!(bert.layer(0).unwrap().dims.head_dim, 16);

    let gpt2 = one(json!({"model_type": "gpt2"}));
    assert_eq!(gpt2.embeddings, Learned::new(1024).into());
    assert_eq!(gpt2.source("rows").unwrap().to_string(), "class default");
    // The names that other classes use are names of this one's keys too.
    let other = one(json!({"model_type": "gpt2", "max_position_embeddings": 99, "hidden_size": 48, "num_attention_heads": 3}));
    assert_eq!(other.embeddings, Learned::new(99).into());
    assert_eq!(other.source("rows").unwrap().to_string(), "max_position_embeddings");
    assert_eq!(other.layer(0).unwrap().dims.head_dim, 16);

    let opt = one(json!({"model_type": "opt", "max_position_embeddings": 2048}));
    assert_eq!(
        (opt.embeddings, opt.numbering, opt.max_len),
        (Learned::opt(2048).into(), Numbering::Mask, Some(2048))
    );
    let roberta = one(json!({"model_type": "roberta", "max_position_embeddings": 514}));
    assert_eq!(roberta.embeddings, Learned::roberta(514, 1).into());
    assert_eq!((roberta.numbering, roberta.max_len), (Numbering::NotPadding { id: 1 }, Some(512)));
    let [encoder, decoder] = two(json!({"model_type": "bart"}));
    assert_eq!(
        (encoder.embeddings, decoder.embeddings),
        (Learned::opt(1024).into(), Learned::opt(1024).into())
    );
    let albert = one(json!({"model_type": "albert"}));
    assert_eq!((albert.embedding_dim, albert.layer(0).unwrap().dims.model_dim), (Some(128), 4096));
    let prophetnet = strict(json!({"model_type": "prophetnet"})).unwrap();
    assert_eq!(
        prophetnet.parts[0].embeddings,
        Learned::new(512)
            .with_offset(1)
            .with_padding_row(0)
            .with_overflow(Overflow::Clamp)
            .into()
    );
    assert!(matches!(&prophetnet.left[..], [(stack, ConfigError::NotExpressed { .. })] if stack == "decoder"));
}

#[test]
fn t5_has_buckets_per_stack_and_no_scale() {
    let [encoder, decoder] =
        two(json!({"model_type": "t5", "num_layers": 3, "relative_attention_num_buckets": 16, "relative_attention_max_distance": 50}));
    let layer = encoder.layer(2).unwrap();
    assert_eq!(layer.spec.encoding, T5Bias::encoder().with_buckets(16, 50).into());
    assert_eq!(layer.spec.attention.scale, Some(1.0));
    assert_eq!(
        decoder.layer(0).unwrap().spec.encoding,
        T5Bias::decoder().with_buckets(16, 50).into()
    );
    assert_eq!(decoder.layers.len(), 3, "as many as the encoder has, where the file does not say");
    let [encoder, _] = two(json!({"model_type": "umt5"}));
    assert_eq!(
        encoder.layer(0).unwrap().spec.encoding,
        T5Bias::encoder().with_scope(Scope::Layer).into()
    );
    let mpnet = one(json!({"model_type": "mpnet"}));
    assert_eq!(mpnet.layer(0).unwrap().spec.encoding, T5Bias::encoder().into());
    assert_eq!(mpnet.layer(0).unwrap().spec.attention.scale, None);
    let [encoder, _] = two(json!({"model_type": "longt5"}));
    let window = Window {
        left: Some(127),
        right: Some(127),
    };
    assert_eq!(encoder.layer(0).unwrap().spec.attention.window, Some(window));
}

#[test]
fn slopes_terms_and_scales_are_the_class_rules() {
    let bloom = one(json!({"model_type": "bloom", "n_head": 16, "hidden_size": 1024}));
    assert_eq!(
        (bloom.layer(0).unwrap().spec.encoding.clone(), bloom.numbering),
        (Alibi::new().into(), Numbering::Mask)
    );
    let mpt = one(json!({"model_type": "mpt", "attn_config": {"alibi": true, "alibi_bias_max": 4, "softmax_scale": 0.25}}));
    let layer = mpt.layer(0).unwrap();
    assert_eq!(layer.spec.encoding, Alibi::new().with_slopes(Slopes::Mpt { bias_max: 4.0 }).into());
    assert_eq!(layer.spec.attention.scale, Some(0.25));
    assert_eq!(layer.source("bias_max").unwrap().to_string(), "attn_config.alibi_bias_max");
    let falcon = one(json!({"model_type": "falcon", "alibi": true, "multi_query": false, "hidden_size": 64, "num_attention_heads": 4}));
    let slopes = Slopes::Given([0.25, 0.0625, 0.015625, 0.00390625].map(|m| m / 4.0).to_vec());
    assert_eq!(falcon.layer(0).unwrap().spec.encoding, Alibi::new().with_slopes(slopes).into());

    let v3 = one(json!({
        "model_type": "deberta-v2", "relative_attention": true, "position_buckets": 256, "max_relative_positions": -1, "share_att_key": true,
        "pos_att_type": "p2c|c2p", "position_biased_input": false, "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 2
    }));
    let expected = Deberta::new(512, DebertaProjections::Shared).with_buckets(256);
    let layer = v3.layer(0).unwrap();
    assert_eq!(
        (v3.embeddings.clone(), layer.spec.encoding.clone()),
        (Encoding::none(), expected.clone().into())
    );
    assert_eq!(layer.spec.attention.scale, expected.attention(64).scale);
    assert_eq!(layer.source("max_distance").unwrap().to_string(), "class default");

    let gpt2 = one(json!({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": true, "n_layer": 2, "n_embd": 64, "n_head": 4}));
    let scales: Vec<_> = gpt2.specs().iter().map(|spec| spec.attention.scale.unwrap()).collect();
    assert_eq!(scales, [0.25, 0.125]);
    let neo = one(
        json!({"model_type": "gpt_neo", "attention_types": [[["global", "local"], 1], [["local"], 2]], "num_layers": 4, "window_size": 8}),
    );
    let windows: Vec<_> = neo.specs().iter().map(|spec| spec.attention.window.is_some()).collect();
    assert_eq!(windows, [false, true, true, true]);
    assert!(neo.specs().iter().all(|spec| spec.attention.scale == Some(1.0)));
    let longformer = one(json!({"model_type": "longformer", "attention_window": [4, 8], "num_hidden_layers": 2}));
    assert_eq!(
        longformer.specs()[1].attention.window,
        Some(Window {
            left: Some(4),
            right: Some(4)
        })
    );
}

#[test]
fn bad_files_are_refused_by_the_name_of_the_key() {
    let wrong = |file: Value, name: &str| match strict(file.clone()) {
        Err(ConfigError::Wrong { key, .. } | ConfigError::Missing { key, .. }) => assert_eq!(key, name, "{file}"),
        other => panic!("{file}: {other:?}"),
    };
    wrong(
        json!({"model_type": "bert", "max_position_embeddings": 0}),
        "max_position_embeddings",
    );
    wrong(
        json!({"model_type": "bert", "max_position_embeddings": -1}),
        "max_position_embeddings",
    );
    wrong(
        json!({"model_type": "bert", "max_position_embeddings": 1e12}),
        "max_position_embeddings",
    );
    wrong(json!({"model_type": "bert", "num_attention_heads": 0}), "num_attention_heads");
    wrong(json!({"model_type": "bert", "num_attention_heads": 7}), "num_attention_heads");
    wrong(
        json!({"model_type": "roberta", "pad_token_id": 511, "max_position_embeddings": 512}),
        "pad_token_id",
    );
    wrong(json!({"model_type": "roberta", "pad_token_id": -1}), "pad_token_id");
    wrong(json!({"model_type": "vit", "patch_size": 0}), "patch_size");
    wrong(json!({"model_type": "vit", "image_size": 8}), "image_size");
    wrong(json!({"model_type": "vit", "image_size": [8, 8, 8]}), "image_size");
    wrong(json!({"model_type": "siglip2_vision_model", "num_patches": 255}), "num_patches");
    wrong(json!({"model_type": "longformer", "attention_window": 7}), "attention_window");
    wrong(json!({"model_type": "longformer", "attention_window": [512]}), "attention_window");
    wrong(json!({"model_type": "gpt_neo", "attention_layers": ["global"]}), "attention_layers");
    wrong(
        json!({"model_type": "deberta", "relative_attention": true, "pos_att_type": ["c2q"]}),
        "pos_att_type",
    );
    wrong(json!({"model_type": "whisper", "max_source_positions": 0}), "max_source_positions");
    wrong(
        json!({"model_type": "clip", "text_config": {"max_position_embeddings": 0}}),
        "text_config.max_position_embeddings",
    );
    for (file, what) in [
        (
            json!({"model_type": "t5", "relative_attention_num_buckets": 33}),
            "an odd number for two directions",
        ),
        (json!({"model_type": "mpt", "attn_config": {"alibi_bias_max": 0}}), "a flat slope"),
        (json!({"model_type": "bert", "num_hidden_layers": 100_000}), "layers"),
        (
            json!({"model_type": "whisper", "d_model": 2, "encoder_attention_heads": 1, "decoder_attention_heads": 1}),
            "exponents over 0",
        ),
    ] {
        assert!(
            matches!(strict(file), Err(ConfigError::Setting { .. } | ConfigError::TooMany { .. })),
            "{what}"
        );
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused_or_listed() {
    let twice = json!({"model_type": "gpt2", "n_positions": 64, "max_position_embeddings": 65});
    assert!(matches!(strict(twice.clone()), Err(ConfigError::Conflict { first, .. }) if first.0 == "n_positions"));
    let model = lenient(twice);
    assert_eq!(
        (model.warnings.len(), model.parts[0].embeddings.clone()),
        (1, Learned::new(64).into())
    );
    let same = json!({"model_type": "gpt2", "n_positions": 64, "max_position_embeddings": 64});
    assert!(strict(same).is_ok());
    // The class lost relative positions; a checkpoint that has them would be read as one that has none.
    let dropped = json!({"model_type": "bert", "position_embedding_type": "relative_key"});
    assert!(matches!(strict(dropped.clone()), Err(ConfigError::Wrong { key, .. }) if key == "position_embedding_type"));
    assert_eq!(lenient(dropped).warnings.len(), 1);
    assert!(strict(json!({"model_type": "bert", "position_embedding_type": "absolute"})).is_ok());
    let table = json!({"model_type": "mpt", "attn_config": {"alibi": false}});
    assert!(matches!(strict(table.clone()), Err(ConfigError::Wrong { key, .. }) if key == "attn_config.alibi"));
    assert_eq!(lenient(table).warnings.len(), 1);
}

/// Files as they are published, from public knowledge; what they do not say is their class's.
#[test]
fn published_files_are_read_as_their_models_are() {
    let [encoder, decoder] = two(json!({
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_ff": 3072, "d_kv": 64, "d_model": 768, "decoder_start_token_id": 0,
        "is_encoder_decoder": true, "n_positions": 512, "num_heads": 12, "num_layers": 12, "relative_attention_num_buckets": 32, "vocab_size": 32128
    }));
    assert_eq!((encoder.layers.len(), decoder.layers.len()), (12, 12));
    assert_eq!(encoder.layer(11).unwrap().spec.encoding, T5Bias::encoder().into());

    let opt = one(json!({
        "model_type": "opt", "do_layer_norm_before": false, "hidden_size": 1024, "max_position_embeddings": 2048, "num_attention_heads": 16,
        "num_hidden_layers": 24, "pad_token_id": 1, "word_embed_proj_dim": 512
    }));
    assert_eq!(
        (opt.embedding_dim, opt.layer(0).unwrap().dims.head_dim),
        (None, 64),
        "positions join after the projection"
    );

    let [encoder, decoder] = two(json!({
        "model_type": "bart", "d_model": 1024, "decoder_attention_heads": 16, "decoder_layers": 6, "encoder_attention_heads": 16, "encoder_layers": 12,
        "max_position_embeddings": 1024, "num_hidden_layers": 12, "pad_token_id": 1, "extra_pos_embeddings": 2, "static_position_embeddings": false
    }));
    assert_eq!((encoder.layers.len(), decoder.layers.len()), (12, 6));

    let v3 = one(json!({
        "model_type": "deberta-v2", "hidden_size": 768, "max_position_embeddings": 512, "relative_attention": true, "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "share_att_key": true, "pos_att_type": "p2c|c2p", "max_relative_positions": -1, "position_biased_input": false,
        "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0
    }));
    assert_eq!(
        v3.layer(0).unwrap().spec.encoding,
        Deberta::new(512, DebertaProjections::Shared).with_buckets(256).into()
    );

    let bloom = one(
        json!({"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "offset_alibi": 100, "seq_length": 2048}),
    );
    assert_eq!(
        (bloom.layers.len(), bloom.layer(0).unwrap().dims.head_dim, bloom.max_len),
        (24, 64, Some(2048))
    );

    let mpt = one(json!({
        "model_type": "mpt", "attn_config": {"alibi": true, "alibi_bias_max": 8, "attn_impl": "torch", "clip_qkv": null, "qk_ln": false, "softmax_scale": null},
        "d_model": 4096, "expansion_ratio": 4, "learned_pos_emb": true, "max_seq_len": 2048, "n_heads": 32, "n_layers": 32
    }));
    assert_eq!((mpt.embeddings.clone(), mpt.specs()[0].attention.scale), (Encoding::none(), None));
    assert_eq!(mpt.layer(0).unwrap().source("scale").unwrap().to_string(), "1 / √head_dim");

    let falcon = one(json!({
        "model_type": "falcon", "alibi": true, "bias": true, "hidden_size": 2048, "multi_query": false, "new_decoder_architecture": false,
        "num_attention_heads": 32, "num_hidden_layers": 24, "parallel_attn": false
    }));
    assert_eq!(falcon.layer(0).unwrap().dims.kv_heads, 32);

    let [encoder, decoder] = two(json!({
        "model_type": "whisper", "d_model": 384, "decoder_attention_heads": 6, "decoder_layers": 4, "encoder_attention_heads": 6, "encoder_layers": 4,
        "max_length": 448, "max_source_positions": 1500, "max_target_positions": 448, "num_hidden_layers": 4, "pad_token_id": 50257
    }));
    assert_eq!((encoder.max_len, decoder.embeddings), (Some(1500), Learned::new(448).into()));

    let siglip = strict(json!({
        "model_type": "siglip", "initializer_factor": 1.0, "text_config": {"model_type": "siglip_text_model", "vocab_size": 32000},
        "vision_config": {"model_type": "siglip_vision_model"}
    }))
    .unwrap();
    let [text, vision] = &siglip.parts[..] else { panic!("{siglip:#?}") };
    assert_eq!(
        (text.embeddings.clone(), vision.embeddings.clone()),
        (Learned::new(64).into(), Learned::new(196).into())
    );
    assert_eq!(
        (text.path.as_str(), vision.numbering),
        (
            "text_config",
            Numbering::Grid {
                height: 14,
                width: 14,
                leading: 0
            }
        )
    );
}

#[test]
fn parts_that_a_file_says_twice_or_not_at_all() {
    let clip = |second: Value| json!({"model_type": "clip", "text_config": {"hidden_size": 768, "num_attention_heads": 16}, "text_config_dict": second});
    assert!(strict(clip(json!({"hidden_size": 768, "num_hidden_layers": 12}))).is_ok());
    assert!(strict(clip(json!(null))).is_ok());
    let twice = clip(json!({"hidden_size": 1024}));
    assert!(matches!(strict(twice.clone()), Err(ConfigError::Conflict { second, .. }) if second.0 == "text_config_dict.hidden_size"));
    assert_eq!(lenient(twice).parts[0].layer(0).unwrap().dims.model_dim, 1024);
    // Absent: the class's default.
    let clip = strict(json!({"model_type": "clip"})).unwrap();
    assert_eq!((clip.parts.len(), clip.parts[1].embeddings.clone()), (2, Learned::new(50).into()));
    let git = strict(json!({"model_type": "git"})).unwrap();
    assert_eq!((git.parts.len(), git.parts[1].path.as_str()), (2, "vision_config"));
    let seamless = strict(json!({"model_type": "seamless_m4t_v2"})).unwrap();
    let stacks: Vec<_> = seamless.parts.iter().map(|part| part.stack.unwrap()).collect();
    assert_eq!(stacks, ["encoder", "decoder", "speech_encoder"]);
}

/// A class that can also turn keeps what the file says of turning, beside what its layers do.
#[test]
fn rotary_settings_of_layers_that_do_not_turn_are_kept() {
    let esm = one(json!({"model_type": "esm", "hidden_size": 64, "num_attention_heads": 4, "position_embedding_type": "absolute"}));
    let layer = esm.layer(0).unwrap();
    assert_eq!((layer.spec.encoding.clone(), layer.described.is_some()), (Encoding::none(), true));
    assert_eq!(esm.source("padding_row").unwrap().to_string(), "the model type");
    let rotary = one(
        json!({"model_type": "esm", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1, "position_embedding_type": "rotary"}),
    );
    assert_eq!(
        (rotary.embeddings.clone(), rotary.layer(0).unwrap().spec.encoding.methods.len()),
        (Encoding::none(), 1)
    );
}

#[test]
fn layers_of_states_and_convolutions_do_not_attend() {
    let attending = |file: Value| -> Vec<usize> {
        let model = read(file.to_string().as_bytes(), Mode::Strict).unwrap();
        let part = &model.parts[0];
        (0..part.layers.len())
            .filter(|layer| part.plans[part.layers[*layer]].attends)
            .collect()
    };
    // What each class of transformers 5.23.0 has as `layer_types`.
    for (file, layers) in [
        (json!({"model_type": "mamba2"}), vec![]),
        (json!({"model_type": "xlstm"}), vec![]),
        (json!({"model_type": "jamba"}), vec![4, 12, 20, 28]),
        (
            json!({"model_type": "jamba", "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1}),
            vec![1, 3],
        ),
        (json!({"model_type": "zamba", "num_hidden_layers": 16}), vec![2, 7, 13]),
        (
            json!({"model_type": "zamba", "num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "mamba"]}),
            vec![1],
        ),
        (json!({"model_type": "kimi_linear", "num_hidden_layers": 10}), vec![4, 8]),
        (
            json!({"model_type": "kimi_linear", "num_hidden_layers": 8, "linear_attn_config": {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7]}}),
            vec![3, 7],
        ),
        (json!({"model_type": "glm5_next_text", "num_hidden_layers": 8}), vec![3, 7]),
        (
            json!({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-E*"}),
            vec![3, 6],
        ),
        (
            json!({"model_type": "nemotron_h", "layers_block_type": ["mamba", "attention", "moe"]}),
            vec![1],
        ),
    ] {
        assert_eq!(attending(file.clone()), layers, "{file}");
    }
    let short = json!({"model_type": "nemotron_h", "num_hidden_layers": 9, "hybrid_override_pattern": "M*"});
    let error = read(short.to_string().as_bytes(), Mode::Strict).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Wrong { key, .. } if key == "hybrid_override_pattern"),
        "{error}"
    );
}
