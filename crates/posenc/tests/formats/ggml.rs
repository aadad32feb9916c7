//! What a file's layers turn by, beside what ggml's own code makes of the same keys (`fixtures/ggml_tables.py`).

use super::write::{Gguf, Value};
use super::{layer, rotary, strict};
use posenc::Positions;
use serde_json::Value as Json;

/// The file whose keys a case's settings are.
fn file(case: &Json) -> (Gguf, usize) {
    let number = |key: &str| case[key].as_f64();
    let dim = case["dim"].as_u64().unwrap() as usize;
    let (sections, spread) = (case["sections"].as_array(), case["spread"] == true);
    // Of architectures with these methods: one that may have divisors, and whose multiplier is stored as it is.
    let architecture = match (sections, spread) {
        (None, _) => "mistral3",
        (Some(_), false) => "qwen2vl",
        (Some(_), true) => "qwen3vl",
    };
    let mut file = Gguf::new(architecture)
        .with("block_count", 1)
        .with("context_length", 65_536)
        .with("embedding_length", 512)
        .with("attention.head_count", 4)
        .with("rope.dimension_count", dim as i32)
        .with("rope.freq_base", number("base").unwrap())
        .with(
            "rope.scaling.original_context_length",
            case["original"].as_u64().unwrap_or(4096) as i32,
        );
    if let Some(kind) = case["type"].as_str() {
        file = file.with("rope.scaling.type", kind);
    }
    for (setting, key) in [
        ("factor", "rope.scaling.factor"),
        ("attn_factor", "rope.scaling.attn_factor"),
        ("log_multiplier", "rope.scaling.yarn_log_multiplier"),
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ] {
        if let Some(x) = number(setting) {
            file = file.with(key, x);
        }
    }
    if let Some(sections) = sections {
        let sections = sections.iter().map(|x| x.as_u64().unwrap() as u32).collect();
        file = file.with("rope.dimension_sections", Value::Numbers(sections));
    }
    if let Some(divisors) = case["factors"].as_array() {
        let divisors: Vec<f64> = divisors.iter().map(|x| x.as_f64().unwrap()).collect();
        file = file.tensor("rope_freqs.weight", &divisors);
    }
    (file, dim)
}

#[test]
fn bug_family_6_and_18_tables_are_ggmls() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/fixtures/ggml_tables.json")).unwrap();
    let cases: Vec<Json> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 11);
    const ULP: f64 = 1.0 / (1 << 24) as f64;
    for case in &cases {
        let name = case["case"]["name"].as_str().unwrap();
        let (file, dim) = file(&case["case"]);
        let model = strict(&file.whole()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rotary = rotary(layer(&model, 0));
        let frequencies = rotary.frequencies(128, 0).unwrap();
        let (base, magnitude) = (rotary.base, frequencies.table_factor);
        for row in case["rows"].as_array().unwrap() {
            let at: Vec<i64> = row["at"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect();
            let positions = match rotary.axes.count() {
                1 => Positions::whole(&at[..1]),
                axes => Positions::whole_axes(&at, axes, 1).unwrap(),
            };
            let ours = rotary.rotation::<f64>(128, &positions).unwrap();
            for i in 0..dim / 2 {
                // The angle is f32 on both sides. ggml multiplies i times by a power that is rounded itself (an ulp, and half an ulp for each product: 3 · 2⁻²⁴), then scales, blends and divides (6); here an
                // exponent is rounded (ln(base) / 2) and nine operations follow, whose rounding counts eight times where a blend's share is a difference (rotate::trained).
                let angle = at[frequencies.axes[i]] as f64 * frequencies.pairs[i];
                let moved = angle * (3.0 * i as f64 + 6.0 + 8.0 * (base.ln() / 2.0 + 9.0)) * ULP;
                // The magnitude is at most ten operations of f32 there, and a cosine one ulp of its own.
                let bound = magnitude * (moved + 12.0 * ULP);
                for (table, ours) in [("cos", ours.cos(0, 0)[i]), ("sin", ours.sin(0, 0)[i])] {
                    let theirs = row[table][i].as_f64().unwrap();
                    assert!(
                        (ours - theirs).abs() <= bound,
                        "{name}, {at:?}, {table} {i}: {ours} and {theirs}, within {bound}"
                    );
                }
            }
        }
    }
}
