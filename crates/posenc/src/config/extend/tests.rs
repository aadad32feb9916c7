//! Every layout comes back as what was meant, keeps every other byte, and is what transformers reads; and what cannot be extended says why.

use super::{By, ExtendError, Extended, Extension, extend, spans};
use crate::config::{ConfigError, Mode, read};
use crate::rotate::{LongRope, Magnitude, Rotary, Scaling, Yarn};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
    let files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures().into_iter().find(|(own, _)| own == name).unwrap().1
}

/// A Llama with these keys changed, as its writer would lay it out.
fn llama(changes: Value) -> String {
    let mut file = json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "max_position_embeddings": 4096
    });
    file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::to_string_pretty(&file).unwrap()
}

fn all_methods(pairs: usize) -> [By; 6] {
    [
        By::yarn(),
        By::Linear,
        By::Dynamic,
        By::Ntk,
        By::llama3(),
        By::Longrope {
            short_factor: Some((0..pairs).map(|i| 1.0 + 0.1 * i as f64).collect()),
            long_factor: Some((0..pairs).map(|i| 1.0 + 0.3 * i as f64).collect()),
        },
    ]
}

/// What a method is, by the constructor of its scaling.
fn direct(by: &By, factor: f64, original: usize) -> Scaling {
    match by {
        By::Linear => Scaling::Linear { factor },
        By::Ntk => Scaling::Ntk { factor },
        By::Dynamic => Scaling::Dynamic {
            factor,
            original_len: original,
        },
        By::Yarn => Scaling::Yarn(Yarn::new(factor, original)),
        By::Llama3 { .. } => Scaling::Llama3 {
            factor,
            original_len: original,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
        },
        By::Longrope { short_factor, long_factor } => Scaling::Longrope(LongRope {
            short_factor: short_factor.clone().unwrap(),
            long_factor: long_factor.clone().unwrap(),
            original_len: original,
            factor,
            magnitude: Magnitude::Own,
        }),
    }
}

fn replacing(to: usize, by: By) -> Extension {
    Extension {
        replace: true,
        ..Extension::new(to, by)
    }
}

/// Read again, each layer turns by what the constructor gives: the same numbers, not nearly.
#[test]
fn every_layout_comes_back_as_the_scaling_itself() {
    let layouts = [
        llama(json!({})),
        llama(json!({"rope_theta": 5e5})),
        llama(json!({"rope_theta": 500000, "rope_scaling": null})),
        llama(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})),
        llama(json!({"rope_parameters": {}, "rope_theta": 5e5})),
        llama(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}})),
        llama(
            json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8, "original_max_position_embeddings": 4096, "attention_factor": 1.5}}),
        ),
        serde_json::to_string(&serde_json::from_str::<Value>(&llama(json!({"rope_theta": 5e5}))).unwrap()).unwrap(),
        llama(json!({"rope_theta": 5e5})).replace("  ", "\t"),
    ];
    for file in &layouts {
        for by in all_methods(8) {
            let extension = Extension {
                original: Some(4096),
                ..replacing(12_000, by.clone())
            };
            let extended = extend(file.as_bytes(), &extension).unwrap_or_else(|error| panic!("{file}\n{by:?}: {error}"));
            let after = read(extended.text.as_bytes(), Mode::Strict).unwrap();
            let before = read(file.as_bytes(), Mode::Strict).unwrap();
            let plan = &after.parts[0].plans[0];
            let plain = Rotary {
                scaling: Scaling::Unscaled,
                ..before.parts[0].plans[0].described.clone().unwrap()
            };
            let scaling = direct(&by, 12_000.0 / 4096.0, 4096);
            let wanted = plain.with_scaling(scaling);
            let given = plan.described.as_ref().unwrap();
            for length in [1, 4096, 4097, 12_000, 100_000] {
                assert_eq!(
                    given.frequencies(16, length).unwrap(),
                    wanted.frequencies(16, length).unwrap(),
                    "{file}\n{by:?} at {length}"
                );
            }
            assert_eq!(after.parts[0].layers.len(), 4);
        }
    }
}

/// What is not a rotary setting, the length or the head's width stands in the new file byte for byte and in its place.
#[test]
fn every_other_byte_stays() {
    let mut read_files = 0;
    for (name, bytes) in fixtures() {
        let text = String::from_utf8(bytes.clone()).unwrap();
        for by in [By::yarn(), By::Linear, By::Ntk] {
            let extension = Extension {
                original: Some(4096),
                ..replacing(1 << 21, by)
            };
            let Ok(extended) = extend(&bytes, &extension) else { continue };
            read_files += 1;
            let of = |line: &str| {
                let key = line
                    .trim()
                    .trim_start_matches('"')
                    .split('"')
                    .next()
                    .unwrap_or_default()
                    .to_string();
                let touched = key.contains("rope")
                    || key.contains("rotary")
                    || key.contains("position")
                    || key.contains("head_dim")
                    || key.contains("n_ctx");
                (!touched).then(|| line.trim_end().trim_end_matches(',').to_string())
            };
            let old: Vec<String> = text.lines().filter_map(of).collect();
            let new: Vec<String> = extended.text.lines().filter_map(of).collect();
            // The old lines outside dictionaries stand in the new file in their order.
            let mut rest = new.iter();
            let inside = |line: &String| {
                !extended
                    .changes
                    .iter()
                    .any(|change| change.before.as_ref().is_some_and(|b| b.contains(line.trim())))
            };
            for line in old.iter().filter(|line| inside(line)) {
                assert!(
                    rest.any(|other| other == line),
                    "{name}: `{line}` is not in its place in\n{}",
                    extended.text
                );
            }
            assert_eq!(text.ends_with('\n'), extended.text.ends_with('\n'), "{name}");
            assert!(serde_json::from_str::<Value>(&extended.text).is_ok());
        }
    }
    assert!(read_files >= 60, "{read_files}");
}

#[test]
fn only_what_changes_is_written() {
    let text = String::from_utf8(fixture("deepseek-v3")).unwrap();
    let extended = extend(text.as_bytes(), &replacing(327_680, By::yarn())).unwrap();
    let changed: Vec<(&str, &str)> = text.lines().zip(extended.text.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(
        changed,
        [
            ("  \"max_position_embeddings\": 163840,", "  \"max_position_embeddings\": 327680,"),
            ("    \"factor\": 40,", "    \"factor\": 80.0,")
        ]
    );
}

/// Layers with a window stay where the class can tell them apart: in its older layout, in its newer one, and in a file that has neither.
#[test]
fn bug_family_17_only_layers_that_see_every_key_are_extended() {
    let nested = json!({
        "model_type": "gemma3_text", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_hidden_layers": 6,
        "max_position_embeddings": 4096, "sliding_window": 512, "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    });
    for (name, file) in [
        ("nested", nested.to_string().into_bytes()),
        ("gemma-3-1b", fixture("gemma-3-1b")),
        ("olmo-3-7b", fixture("olmo-3-7b")),
        ("modernbert-base", fixture("modernbert-base")),
    ] {
        for by in [By::yarn(), By::Linear, By::Dynamic, By::Ntk, By::llama3()] {
            let extended = extend(&file, &replacing(1 << 19, by.clone())).unwrap_or_else(|error| panic!("{name} {by:?}: {error}"));
            let (open, windowed): (Vec<_>, Vec<_>) = extended.plans.iter().partition(|plan| plan.window.is_none());
            assert!(!open.is_empty() && !windowed.is_empty(), "{name}");
            assert!(open.iter().all(|plan| plan.before != plan.after), "{name} {by:?}");
            assert!(windowed.iter().all(|plan| plan.before == plan.after), "{name} {by:?}");
            let after = &extended.after.parts[0];
            for plan in &extended.plans {
                assert!(
                    plan.layers
                        .iter()
                        .all(|layer| after.layer(*layer).unwrap().described.as_ref() == Some(&plan.after))
                );
            }
        }
    }
    // gpt-oss has one dictionary for both, so both are scaled.
    let extended = extend(&fixture("gpt-oss-20b"), &replacing(1 << 19, By::yarn())).unwrap();
    assert!(extended.plans.len() == 2 && extended.plans.iter().all(|plan| plan.before != plan.after));
}

#[test]
fn settings_of_the_family_stay() {
    let changed = |extended: &Extended| extended.plans.iter().position(|plan| plan.before != plan.after).unwrap();
    let yarn = |extended: &Extended| match &extended.plans[changed(extended)].after.scaling {
        Scaling::Yarn(yarn) => yarn.clone(),
        other => panic!("{other}"),
    };
    let deepseek = yarn(&extend(&fixture("deepseek-v3"), &replacing(327_680, By::yarn())).unwrap());
    let ratio = Magnitude::Ratio {
        mscale: 1.0,
        mscale_all_dim: 1.0,
    };
    assert_eq!((deepseek.magnitude, deepseek.factor, deepseek.original_len), (ratio, 80.0, 4096));
    assert!(!yarn(&extend(&fixture("gpt-oss-20b"), &replacing(262_144, By::yarn())).unwrap()).truncate);
    // A number for the old factor goes: Olmo 3 writes YaRN's own at 8.
    assert_eq!(
        yarn(&extend(&fixture("olmo-3-7b"), &replacing(131_072, By::yarn())).unwrap()).magnitude,
        Magnitude::Own
    );
    // Sections of a model for pictures stay, under the name that its dictionary has.
    let qwen = extend(&fixture("qwen2-vl-7b"), &Extension::new(131_072, By::yarn())).unwrap();
    let file: Value = serde_json::from_str(&qwen.text).unwrap();
    assert_eq!(
        file["rope_scaling"],
        json!({"type": "yarn", "mrope_section": [16, 24, 24], "factor": 4.0, "original_max_position_embeddings": 32768})
    );
    // Phi-3's own lists, and the name that they have today.
    let phi = extend(
        &fixture("phi-3-mini-128k"),
        &replacing(
            262_144,
            By::Longrope {
                short_factor: None,
                long_factor: None,
            },
        ),
    )
    .unwrap();
    assert!(matches!(&phi.plans[0].after.scaling, Scaling::Longrope(long) if long.factor == 64.0 && long.original_len == 4096));
    assert_eq!(
        serde_json::from_str::<Value>(&phi.text).unwrap()["rope_scaling"]["type"],
        "longrope"
    );
}

#[test]
fn the_length_is_where_the_method_counts_from() {
    let length = |by: By| {
        let text = extend(llama(json!({})).as_bytes(), &Extension::new(16_384, by)).unwrap().text;
        serde_json::from_str::<Value>(&text).unwrap()["max_position_embeddings"]
            .as_u64()
            .unwrap()
    };
    for by in all_methods(8) {
        let expected = if matches!(by, By::Linear | By::Dynamic) { 4096 } else { 16_384 };
        assert_eq!(length(by.clone()), expected, "{by:?}");
    }
    // Phi-3's length beside its dictionary counts more than the one inside.
    let file = llama(json!({"original_max_position_embeddings": 2048, "rope_scaling": {"type": "yarn", "factor": 2.0}}));
    let extension = Extension {
        original: Some(1024),
        ..replacing(8192, By::yarn())
    };
    let extended = extend(file.as_bytes(), &extension).unwrap();
    assert!(matches!(&extended.plans[0].after.scaling, Scaling::Yarn(yarn) if yarn.original_len == 1024 && yarn.factor == 8.0));
}

/// transformers 5.23.0 multiplies a null by the share of a head that turns.
#[test]
fn a_width_that_is_null_is_written_where_transformers_needs_it() {
    let width = |file: &str, by| {
        let text = extend(file.as_bytes(), &Extension::new(16_384, by)).unwrap().text;
        serde_json::from_str::<Value>(&text).unwrap()["head_dim"].clone()
    };
    let null = llama(json!({"head_dim": null}));
    assert_eq!((width(&null, By::yarn()), width(&null, By::Linear)), (json!(16), Value::Null));
    assert_eq!(width(&llama(json!({"model_type": "mixtral"})), By::Dynamic), json!(16));
    assert_eq!(width(&llama(json!({})), By::yarn()), Value::Null, "no key");
}

#[test]
fn refusals_say_what_to_do() {
    let asked = |file: &str, extension: &Extension| extend(file.as_bytes(), extension).unwrap_err();
    let plain = llama(json!({}));
    let yarn = |to| Extension::new(to, By::yarn());
    assert_eq!(asked(&plain, &yarn(4096)), ExtendError::NotLonger { to: 4096, trained: 4096 });
    assert_eq!(asked(&plain, &yarn(0)), ExtendError::NotLonger { to: 0, trained: 4096 });
    let scaled = llama(json!({"rope_scaling": {"type": "linear", "factor": 2.0}}));
    let error = asked(&scaled, &yarn(65_536));
    assert!(
        matches!(&error, ExtendError::Scaled { scaling, path } if scaling == "linear ×2" && path == "rope_scaling"),
        "{error}"
    );
    // Linear scaling does not say what was before it.
    let error = asked(&scaled, &replacing(65_536, By::yarn()));
    assert!(matches!(&error, ExtendError::NoLength { scaling: Some(_) }), "{error}");
    // A type whose class is outside transformers has no default length.
    let mut unnamed: Value = serde_json::from_str(&llama(json!({"model_type": "internlm2"}))).unwrap();
    unnamed.as_object_mut().unwrap().remove("max_position_embeddings");
    assert_eq!(asked(&unnamed.to_string(), &yarn(65_536)), ExtendError::NoLength { scaling: None });
    let lists = By::Longrope {
        short_factor: Some(vec![1.0; 8]),
        long_factor: None,
    };
    assert_eq!(asked(&plain, &Extension::new(8192, lists)), ExtendError::NoLists);
    let short = By::Longrope {
        short_factor: Some(vec![1.0; 7]),
        long_factor: Some(vec![1.0; 8]),
    };
    assert!(matches!(
        asked(&plain, &Extension::new(8192, short)),
        ExtendError::Setting(crate::Error::Shape { .. })
    ));
    for factor in [0.5, 0.0, -2.0, f64::NAN, f64::INFINITY] {
        for by in all_methods(8) {
            let extension = Extension {
                factor: Some(factor),
                ..Extension::new(8192, by.clone())
            };
            let error = asked(&plain, &extension);
            assert!(matches!(error, ExtendError::Setting(_)), "{by:?} ×{factor}: {error}");
        }
    }
    let bands = By::Llama3 {
        low_freq_factor: Some(4.0),
        high_freq_factor: Some(1.0),
    };
    assert!(matches!(asked(&plain, &Extension::new(8192, bands)), ExtendError::Setting(_)));
    let original = Extension {
        original: Some(0),
        ..yarn(8192)
    };
    assert!(matches!(asked(&plain, &original), ExtendError::Setting(_)));
    // Classes that read none, or one alone.
    let gptj = extend(&fixture("gpt-j-6b"), &yarn(65_536)).unwrap_err();
    assert!(matches!(&gptj, ExtendError::NotTaken { method: "yarn", .. }), "{gptj}");
    let phi = extend(&fixture("phi-3-mini-128k"), &replacing(262_144, By::yarn())).unwrap_err();
    assert!(
        matches!(&phi, ExtendError::NotTaken { takes, .. } if takes.contains("longrope")),
        "{phi}"
    );
    // A window that is no longer than training leaves nothing to extend.
    let mistral = extend(&fixture("mistral-7b-v0.1"), &yarn(65_536)).unwrap_err();
    assert_eq!(mistral, ExtendError::Windowed { window: 4096 });
    // What the reader refuses.
    assert!(matches!(asked("{", &yarn(8192)), ExtendError::Config(ConfigError::Json { .. })));
    assert!(matches!(asked("[]", &yarn(8192)), ExtendError::Config(_)));
    let twice = llama(json!({"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}));
    assert!(matches!(
        asked(&twice, &yarn(8192)),
        ExtendError::Config(ConfigError::Conflict { .. })
    ));
    for error in [&gptj, &phi, &mistral] {
        assert!(error.to_string().len() > 40 && !error.to_string().ends_with('.'), "{error}");
    }
}

#[test]
fn an_object_without_members_is_filled() {
    let yarn = Extension::new(8192, By::yarn());
    let longer = extend(br#"{"model_type": "llava", "text_config": {}}"#, &yarn).unwrap();
    let new: Value = serde_json::from_str(&longer.text).unwrap();
    assert_eq!(new["text_config"]["rope_scaling"]["factor"], 4.0);
    assert_eq!(new["text_config"]["max_position_embeddings"], 8192);
    // One that is not there has no place.
    let error = extend(br#"{"model_type": "llava"}"#, &yarn).unwrap_err();
    assert!(
        matches!(&error, ExtendError::NoPlace { reason, .. } if reason.contains("`\"text_config\": {}`")),
        "{error}"
    );
}

#[test]
fn a_temperature_that_reads_the_scaling_is_not_lost() {
    // Ministral 3's counts from `original_max_position_embeddings`, which stays where the scaling itself has no use for it.
    let temperature = |model: &crate::config::ModelConfig| model.parts[0].plans[0].spec.attention.temperature;
    for by in [By::Linear, By::Dynamic, By::Ntk, By::yarn(), By::llama3()] {
        let longer = extend(&fixture("ministral-3-8b"), &replacing(524_288, by)).unwrap();
        assert_eq!(temperature(&longer.after), temperature(&longer.before));
        assert!(temperature(&longer.after).is_some());
    }
    // Where only the class says it, a dictionary of the file's own would lose it.
    let bare = llama(json!({"model_type": "ministral3"}));
    let error = extend(bare.as_bytes(), &replacing(524_288, By::Linear)).unwrap_err();
    assert!(
        matches!(&error, ExtendError::NoPlace { reason, .. } if reason.contains("temperature")),
        "{error}"
    );
}

#[test]
fn lines_end_as_they_did() {
    let file = llama(json!({"rope_scaling": null})).replace('\n', "\r\n");
    for by in all_methods(8) {
        let text = extend(file.as_bytes(), &Extension::new(16_384, by)).unwrap().text;
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{text}");
    }
}

#[test]
fn spans_find_every_value() {
    let text = " {\"a\\u0062\" : [1, {\"x\": \"}\\\"\"}], \"c\":{ \"d\": -1.5e3 ,\"e\":null}, \"f\": {} , \"g\":[]}\n";
    let root = spans::scan(text).unwrap();
    let shown = |path: &str| root.object(path).map(|value| &text[value.at.clone()]);
    assert_eq!(shown("ab"), Some("[1, {\"x\": \"}\\\"\"}]"));
    assert_eq!(
        (shown("c.d"), shown("c.e"), shown("f"), shown("g")),
        (Some("-1.5e3"), Some("null"), Some("{}"), Some("[]"))
    );
    assert_eq!(shown("c.x"), None);
}

/// What transformers 5.23.0 makes of the files: `golden/config/extended.py`.
#[test]
fn transformers_reads_extended_files_as_this_library_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/config/extended.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let records = golden["records"].as_array().unwrap();
    assert!(records.len() >= 60);
    for record in records {
        let name = format!("{} {}", record["file"], record["method"]);
        let by = match record["method"].as_str().unwrap() {
            "yarn" => By::yarn(),
            "linear" => By::Linear,
            "dynamic" => By::Dynamic,
            "ntk" => By::Ntk,
            "llama3" => By::llama3(),
            _ => By::Longrope {
                short_factor: None,
                long_factor: None,
            },
        };
        let to = record["to"].as_u64().unwrap() as usize;
        let extension = Extension {
            original: record["original"].as_u64().map(|n| n as usize),
            ..replacing(to, by)
        };
        let extended = extend(&fixture(record["file"].as_str().unwrap()), &extension).unwrap_or_else(|error| panic!("{name}: {error}"));
        // The keys are those that transformers was given, and it had nothing to say of them.
        let file: Value = serde_json::from_str(&extended.text).unwrap();
        let path = extended.path.split('.').filter(|key| !key.is_empty());
        let part = path.fold(&file, |part, key| &part[key]);
        for (key, value) in record["written"].as_object().unwrap() {
            assert_eq!(&part[key], value, "{name}: {key}");
        }
        // Of a key that its classes read for their temperature it says that no scaling knows it.
        let of_temperature = file
            .pointer(&format!(
                "/{}/rope_parameters/llama_4_scaling_beta",
                extended.path.replace('.', "/")
            ))
            .is_some();
        let known = |warning: &Value| of_temperature && warning.as_str().unwrap().ends_with("{'original_max_position_embeddings'}");
        assert!(record["warnings"].as_array().unwrap().iter().all(known), "{name}");
        for plan in &extended.plans {
            let layers = record["layers"].as_object().unwrap();
            let found = layers.get("").or_else(|| layers.get(plan.kind.as_deref()?)).unwrap();
            let own = plan.after.frequencies(plan.dims.head_dim, to).unwrap();
            assert_eq!(
                own.table_factor as f32,
                found["attention_scaling"].as_f64().unwrap() as f32,
                "{name}"
            );
            let theirs = found["inv_freq"].as_array().unwrap();
            assert_eq!(own.pairs.len(), theirs.len(), "{name}");
            for (pair, (own, theirs)) in own.pairs.iter().zip(theirs).enumerate() {
                let (own, theirs) = (*own as f32, theirs.as_f64().unwrap() as f32);
                // The bound of the reference vectors: transformers' own powers differ by an ulp between machines, and a blend by another.
                let ulps = own.to_bits().abs_diff(theirs.to_bits());
                assert!(ulps <= 2, "{name}: pair {pair} is {own} and {theirs}, {ulps} ulp");
            }
        }
    }
}
