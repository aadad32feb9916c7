//! A model's file for longer texts.

use serde_json::{Value, json};

use crate::model::{gemma, llama};
use crate::ran::Folder;

#[test]
fn the_new_file_goes_to_stdout_and_keeps_every_other_byte() {
    let folder = Folder::new();
    folder.write("config.json", llama(Value::Null));
    let ran = folder.finish("extend config.json --to 8192 --method yarn");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    let old = folder.read("config.json");
    let expected = old
        .replace("\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 8192")
        .replace(
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\n    \"rope_type\": \"yarn\",\n    \"factor\": 4.0,\n    \"original_max_position_embeddings\": 2048\n  }",
        );
    assert_eq!(ran.stdout, expected);
    // What was written is what `explain` reads.
    folder.write("longer.json", &ran.stdout);
    let text = folder.finish("explain longer.json").stdout;
    assert!(
        text.contains("YaRN ×4 of 2048") && text.contains("2048 before its scaling"),
        "{text}"
    );
}

#[test]
fn before_and_after_are_reported() {
    let folder = Folder::new();
    folder.write("config.json", gemma());
    let ran = folder.finish("extend config.json --to 16384 --method yarn --report");
    for part in [
        "from 4096 tokens to 16384 by yarn, factor 4",
        "max_position_embeddings: 4096 → 16384",
        "As they were: they see at most 512 keys",
        "Short texts change",
        "400 steps",
    ] {
        assert!(ran.stderr.contains(part), "{part} is not in\n{}", ran.stderr);
    }
    assert!(serde_json::from_str::<Value>(&ran.stdout).is_ok());
    let chinese = folder
        .finish("extend config.json --to 16384 --method dynamic --report --lang zh")
        .stderr;
    assert!(chinese.contains("无需训练"), "{chinese}");
}

#[test]
fn a_file_is_written_once() {
    let folder = Folder::new();
    folder.write("config.json", llama(Value::Null));
    let ran = folder.finish("extend config.json --to 8192 --method linear --out longer/config.json");
    assert!(ran.stdout.contains("wrote longer/config.json") && ran.stderr.contains("fine-tuning"));
    let written = folder.read("longer/config.json");
    assert!(written.contains("\"linear\""));
    folder.refuse(
        "extend config.json --to 4096 --method yarn --out longer/config.json",
        &["exists", "--force"],
    );
    assert_eq!(folder.read("longer/config.json"), written);
    folder.finish("extend config.json --to 4096 --method yarn --out longer/config.json --force");
    assert!(folder.read("longer/config.json").contains("\"yarn\""));
    folder.refuse("extend config.json --to 8192 --method yarn --force", &["--out"]);
    folder.refuse("extend config.json --to 8192 --method yarn --out config.json", &["exists"]);
}

#[test]
fn an_extension_is_data_too() {
    let folder = Folder::new();
    folder.write("config.json", llama(json!({"type": "linear", "factor": 2.0})));
    let ran = folder.finish("extend config.json --to 8192 --method llama3 --replace --original 2048 --json");
    let data: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (data["method"].as_str(), data["factor"].as_f64(), data["original"].as_u64()),
        (Some("llama3"), Some(4.0), Some(2048))
    );
    assert_eq!(
        data["config"]["rope_scaling"],
        json!({"type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 2048})
    );
    // Numbers are as the file writes them.
    assert!(ran.stdout.contains("\"rope_theta\": 10000.0"));
    let plan = &data["plans"][0];
    assert_eq!(
        plan["wavelengths"].as_array().unwrap().len(),
        plan["wavelengths_before"].as_array().unwrap().len()
    );
    assert!(data["needs"][0]["zh"].is_string());
}

#[test]
fn lists_come_from_files() {
    let folder = Folder::new();
    folder.write("config.json", llama(Value::Null));
    folder.write("short.json", "[1, 1.05, 1.1,\n 1.2, 1.3, 1.4, 1.5, 1.6]");
    folder.write("long.txt", "1 1.5 2 3 4 6 8 8\n");
    let lists = "--short-factors short.json --long-factors long.txt";
    let ran = folder.finish(&format!("extend config.json --to 16384 --method longrope {lists}"));
    let file: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(file["rope_scaling"]["long_factor"], json!([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0]));
    assert_eq!(file["rope_scaling"]["factor"], json!(8.0));
    folder.refuse(
        "extend config.json --to 16384 --method longrope",
        &["--short-factors", "--long-factors"],
    );
    folder.refuse(
        &format!("extend config.json --to 16384 --method yarn {lists}"),
        &["--short-factors", "another method"],
    );
    folder.write("long.txt", "1 2 three");
    folder.refuse(
        &format!("extend config.json --to 16384 --method longrope {lists}"),
        &["long.txt", "`three`"],
    );
    folder.write("long.txt", "1 2");
    folder.refuse(
        &format!("extend config.json --to 16384 --method longrope {lists}"),
        &["long_factor", "[8]"],
    );
    folder.write("long.txt", "1 2 3 4 5 6 7 -1");
    folder.refuse(
        &format!("extend config.json --to 16384 --method longrope {lists}"),
        &["long_factor", "positive"],
    );
}

#[test]
fn refusals_are_one_line() {
    let folder = Folder::new();
    folder.write("config.json", llama(Value::Null));
    folder.refuse("extend config.json", &["--to", "--method"]);
    folder.refuse("extend config.json --to 8192 --method yern", &["'yern'", "yarn"]);
    folder.refuse("extend config.json --to 2048 --method yarn", &["2048", "nothing to extend"]);
    folder.refuse("extend config.json --to 8192 --method yarn --factor 0.5", &["factor", "at least 1"]);
    folder.refuse("extend config.json --to 8192 --method yarn --factor NaN", &["factor", "at least 1"]);
    folder.refuse(
        "extend config.json --to 8192 --method yarn --low-freq-factor 2",
        &["--low-freq-factor", "another method"],
    );
    folder.refuse(
        "extend config.json --to 8192 --method llama3 --low-freq-factor 4 --high-freq-factor 1",
        &["high_freq_factor", "least low_freq_factor"],
    );
    folder.refuse(
        "extend config.json --to 8192 --method yarn --original 0",
        &["original", "at least 1"],
    );
    folder.refuse("extend nowhere.json --to 8192 --method yarn", &["cannot read nowhere.json"]);
    folder.write("scaled.json", llama(json!({"rope_type": "dynamic", "factor": 2.0})));
    folder.refuse("extend scaled.json --to 8192 --method yarn", &["dynamic NTK", "--replace"]);
    folder.finish("extend scaled.json --to 8192 --method yarn --replace");
    folder.write("linear.json", llama(json!({"type": "linear", "factor": 2.0})));
    folder.refuse("extend linear.json --to 8192 --method yarn --replace", &["--original"]);
    let gptj = r#"{"model_type": "gptj", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 2048, "rotary_dim": 16}"#;
    folder.write("gptj.json", gptj);
    folder.refuse("extend gptj.json --to 8192 --method yarn", &["`gptj`", "does not read yarn"]);
}
