//! What a model's own file does with positions.

use serde_json::{Value, json};

use crate::ran::{Folder, Ran};

/// A small Gemma 3: five layers with a window, one without.
pub fn gemma() -> String {
    json!({
        "model_type": "gemma3_text", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "num_hidden_layers": 6,
        "max_position_embeddings": 4096, "sliding_window": 512, "query_pre_attn_scalar": 16, "rope_theta": 1e6, "rope_local_base_freq": 1e4
    })
    .to_string()
}

/// A Llama that is scaled, or not.
pub fn llama(rope_scaling: Value) -> String {
    let file = json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 2048,
        "rope_theta": 10000.0, "rope_scaling": rope_scaling
    });
    format!("{}\n", serde_json::to_string_pretty(&file).unwrap())
}

#[test]
fn a_file_is_explained_layer_by_layer() {
    let folder = Folder::new();
    folder.write("config.json", gemma());
    let text = folder.finish("explain config.json --length 16384").stdout;
    assert_eq!(
        text,
        folder
            .finish("explain ./config.json --length 16384")
            .stdout
            .replace("./config.json", "config.json")
    );
    assert_eq!(
        text,
        folder
            .finish("explain . --length 16384")
            .stdout
            .replace("./config.json", "config.json")
    );
    for part in [
        "6 layers, 4 heads (1 of keys) × 16, reads 4096 tokens (max_position_embeddings)",
        "Layers 0–4 (5): sliding_attention",
        "Layer 5: full_attention",
        "rope_local_base_freq",
        "the window keeps every distance below 512",
        "posenc extend config.json --to 16384 --method yarn",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    // The command that it advises is one that works.
    let advice = text.lines().find_map(|line| line.trim().strip_prefix("posenc ")).unwrap();
    assert!(folder.finish(advice).stdout.contains("\"yarn\""));
    let chinese = folder.finish("explain config.json --length 16384 --lang zh").stdout;
    assert!(chinese.contains("窗口使所有距离小于 512"), "{chinese}");
}

#[test]
fn an_explained_file_is_data_too() {
    let folder = Folder::new();
    folder.write("config.json", gemma());
    let data: Value = serde_json::from_str(&folder.finish("explain config.json --length 16384 --json").stdout).unwrap();
    let part = &data["parts"][0];
    assert_eq!((part["standing"].as_str(), part["length"].as_u64()), (Some("beyond"), Some(16_384)));
    let [sliding, full] = [&part["plans"][0], &part["plans"][1]];
    assert_eq!(sliding["layers"], json!([0, 1, 2, 3, 4]));
    assert_eq!(
        (sliding["at"]["distances_below"].as_u64(), sliding["at"]["standing"].as_str()),
        (Some(512), Some("within"))
    );
    assert_eq!(full["rotary"]["wavelengths"].as_array().unwrap().len(), 8);
    assert!(
        full["values"]
            .as_array()
            .unwrap()
            .iter()
            .any(|v| v["value"] == "base" && v["source"] == json!({"key": "rope_theta"}))
    );
    assert!(part["verdict"]["zh"].is_string());
}

#[test]
fn a_picture_is_drawn_on_request() {
    let folder = Folder::new();
    folder.write("config.json", gemma());
    let said = folder.finish("explain config.json --length 16384 --plot waves.svg").stdout;
    assert!(said.contains("wrote waves.svg"));
    let svg = folder.read("waves.svg");
    for part in ["<svg", "full attention", "sliding attention", "16,384 tokens", "4,096 tokens"] {
        assert!(svg.contains(part), "{part}");
    }
    folder.finish("explain config.json --plot waves.png --json");
    assert!(std::fs::read(folder.path("waves.png")).unwrap().starts_with(b"\x89PNG"));
    // Pictures of this program are replaced, nothing else is.
    folder.finish("explain config.json --plot waves.svg");
    folder.write("mine.svg", "<svg/>");
    folder.refuse(
        "explain config.json --plot mine.svg",
        &["mine.svg", "nothing was written", "--plot"],
    );
    folder.refuse("explain config.json --plot waves.jpg", &[".svg or .png"]);
}

/// Plans that turn alike share a line, whose label fits beside it.
#[test]
fn lines_that_are_the_same_are_drawn_once_under_a_label_that_fits() {
    let folder = Folder::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../posenc/src/config/fixtures/gpt-oss-20b.json");
    folder.write("config.json", std::fs::read(file).unwrap());
    folder.finish("explain config.json --plot waves.svg");
    let svg = folder.read("waves.svg");
    for part in [
        ">sliding and full attention<",
        ">sliding and full attention, before scaling<",
        "128 tokens, sliding attention",
    ] {
        assert!(svg.contains(part), "{part} is not in\n{svg}");
    }
}

#[test]
fn contradictions_are_refused_and_read_on_request() {
    let folder = Folder::new();
    let twice = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 2048,
        "rope_theta": 10000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}"#;
    folder.write("twice.json", twice);
    folder.refuse("explain twice.json", &["rope_theta", "10000", "500000", "--lenient"]);
    folder.refuse("extend twice.json --to 8192 --method yarn", &["rope_theta", "--lenient"]);
    let text = folder.finish("explain twice.json --lenient").stdout;
    assert!(
        text.contains("Warnings") && text.contains("base          500000") || text.contains("500000"),
        "{text}"
    );
    assert!(
        folder
            .finish("extend twice.json --to 8192 --method yarn --lenient --report")
            .stderr
            .contains("Warnings")
    );
}

#[test]
fn other_formats_are_explained_and_not_extended() {
    let folder = Folder::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../posenc/tests/formats/fixtures/llama31.gguf");
    folder.write("model.gguf", std::fs::read(file).unwrap());
    let text = folder.finish("explain model.gguf --length 262144").stdout;
    assert!(text.contains("llama.context_length") && !text.contains("posenc extend"), "{text}");
    folder.refuse("extend model.gguf --to 262144 --method yarn", &["config.json"]);
}

#[test]
fn parts_are_explained_each() {
    let folder = Folder::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../posenc/src/config/fixtures/qwen2-vl-7b.json");
    folder.write("config.json", std::fs::read(file).unwrap());
    let text = folder.finish("explain config.json").stdout;
    for part in [
        "by axis 0",
        "by axis 2",
        "vision_config",
        "32 layers",
        "rows and columns of a picture",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_is_no_file_or_no_model_is_one_line() {
    let folder = Folder::new();
    folder.refuse("explain config.json", &["cannot read config.json", "No such file"]);
    folder.refuse("explain rotery.json", &["cannot read", "posenc explain rotary"]);
    let far = folder.run("explain nofile.json");
    far.refused("explain nofile.json", &["cannot read nofile.json"]);
    assert!(!far.stderr.contains("encoding"), "{}", far.stderr);
    folder.refuse("explain models/x", &["cannot read"]);
    folder.refuse("explain nowhere", &["unknown encoding `nowhere`", "no file of that name"]);
    folder.refuse("explain .", &["config.json"]);
    for (name, contents, said) in [
        ("broken.json", "{\"model_type\": \"llama\",\n  \"x\": }", &["line 2", "column"][..]),
        ("list.json", "[]", &["object"]),
        ("empty.json", "", &["line 1", "the file is empty"]),
        ("unknown.json", "{\"model_type\": \"lamma9\"}", &["`lamma9`"]),
        ("bytes.json", "\u{0}\u{1}", &["bytes.json", "neither text nor GGUF"]),
    ] {
        folder.write(name, contents);
        folder.refuse(&format!("explain {name}"), said);
        folder.refuse(&format!("extend {name} --to 8192 --method yarn"), said);
    }
    // A folder of Mistral's or Meta's has another name for it.
    folder.write(
        "params.json",
        r#"{"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "sliding_window": 16, "vocab_size": 32000}"#,
    );
    let text = folder.finish("explain .").stdout;
    assert!(text.starts_with("mistral: 2 layers") && text.contains("names no length"), "{text}");
    folder.write("config.json", gemma());
    assert!(folder.finish("explain .").stdout.starts_with("gemma3_text"));
    for length in ["128k", "1e5", "-5", "99999999999999999999999"] {
        folder.refuse(&format!("explain config.json --length {length}"), &[length, "131072"]);
        folder.refuse(&format!("extend config.json --method yarn --to {length}"), &[length, "131072"]);
    }
    // What is read as a length is one that can be explained.
    folder.refuse(
        "extend config.json --to 5000000000 --method dynamic",
        &["5000000000", "at most 4294967295"],
    );
    for option in ["--trained 5", "--model-dim 8", "--heads 2", "--formula"] {
        folder.refuse(
            &format!("explain config.json {option}"),
            &[option.split(' ').next().unwrap(), "leave it out"],
        );
    }
    folder.refuse("explain rotary --lenient", &["--lenient", "file"]);
    folder.refuse("explain rotary --plot x.svg", &["--plot", "file"]);
    folder.refuse("explain config.json --length 0", &["length", "at least 1"]);
    folder.refuse("explain config.json --length 5000000000", &["length", "at most"]);
    // An encoding's name is an encoding, and a file of that name has a path.
    folder.write("rotary", gemma());
    assert!(!folder.finish("explain rotary").stdout.contains("gemma3_text"));
    assert!(folder.finish("explain ./rotary").stdout.contains("gemma3_text"));
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_unicode_is_no_panic() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let ran = Ran::from(folder.command("explain").arg(OsStr::from_bytes(b"caf\xe9")).output().unwrap());
    ran.refused("caf\\xe9", &["UTF-8"]);
    let ran = Ran::from(folder.command("explain").arg(OsStr::from_bytes(b"caf\xe9.json")).output().unwrap());
    ran.refused("caf\\xe9.json", &["cannot read"]);
}
