//! Layers as transformers' own modules run them: `golden/config/hf_layers.json`, which `golden/config/hf_layers.py` made.

use super::{LayerPlan, Mode, Part, read};
use crate::attention::Window;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Record {
    name: String,
    file: Value,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    types: Option<Vec<String>>,
    #[serde(default)]
    plans: Vec<Option<Seen>>,
    #[serde(default)]
    layers: Vec<usize>,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    built: Option<Built>,
}

/// Attributes of attention modules of a model that did not run.
#[derive(Deserialize)]
struct Built {
    layers: usize,
    plans: Vec<Widths>,
}

#[derive(Deserialize)]
struct Widths {
    heads: usize,
    #[serde(default)]
    kv_heads: Option<usize>,
    head_dim: usize,
    scale: Option<f64>,
}

/// What reached the softmax of one layer.
#[derive(Deserialize, Clone, Debug)]
struct Seen {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: Option<f64>,
    softcap: Option<f64>,
    sinks: bool,
    /// Keys seen before and after the query's own; a text where the rule of the mask needs values.
    window: Value,
    turns: bool,
}

fn differences(plan: &LayerPlan, seen: Option<&Seen>, kind: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what} {ours}, transformers {theirs}"));
        }
    };
    if let (Some(ours), Some(theirs)) = (&plan.kind, kind) {
        say("type", ours.clone(), theirs.to_string());
    }
    say("attends", plan.attends.to_string(), seen.is_some().to_string());
    let (Some(seen), true) = (seen, plan.attends) else { return found };
    say("heads", plan.dims.heads.to_string(), seen.heads.to_string());
    say("kv_heads", plan.dims.kv_heads.to_string(), seen.kv_heads.to_string());
    say("head_dim", plan.dims.head_dim.to_string(), seen.head_dim.to_string());
    say(
        "turns",
        (!plan.spec.encoding.methods.is_empty()).to_string(),
        seen.turns.to_string(),
    );
    say("sinks", plan.spec.attention.sinks.to_string(), seen.sinks.to_string());
    let softcap = |x: Option<f64>| format!("{:?}", x.filter(|x| *x != 0.0));
    say("softcap", softcap(plan.spec.attention.softcap), softcap(seen.softcap));
    if let Some(scale) = seen.scale {
        let ours = plan.spec.attention.scale_for(plan.dims.head_dim);
        // Both are a few operations in f64.
        if (ours - scale).abs() > 4.0 * f64::EPSILON * scale {
            say("scale", ours.to_string(), scale.to_string());
        }
    }
    // The first query has only itself after it where a mask is causal, so the right side is what causality leaves.
    let left = |w: Option<Window>| w.and_then(|w| w.left).map_or("all".into(), |keys| keys.to_string());
    match &seen.window {
        Value::String(_) => {}
        Value::Null => say("window", left(plan.spec.attention.window), "all".into()),
        sides => {
            let theirs = |i: usize| sides[i].as_u64().map_or("all".into(), |keys: u64| keys.to_string());
            say("window", left(plan.spec.attention.window), theirs(0));
            if sides[1].as_u64() != Some(0) {
                let right = plan
                    .spec
                    .attention
                    .window
                    .and_then(|w| w.right)
                    .map_or("all".into(), |keys| keys.to_string());
                say("window after", right, theirs(1));
            }
        }
    }
    found
}

/// Records that say something else than the model's layers do: the reason.
const APART: [(&str, &str); 6] = [
    ("hrm_text", "its two stacks run several times, and each run is seen"),
    ("longcat_flash", "each layer attends twice"),
    ("mllama_text_model", "layers that read a picture do not run without one"),
    (
        "openai_privacy_filter",
        "queries and keys are each multiplied by head_dim^(-1/4) before the softmax",
    ),
    ("esm", "queries are multiplied by the scale before they turn"),
    ("esm, run", "queries are multiplied by the scale before they turn"),
];

/// Whether transformers reads the class's defaults and our reader a file without them: each model type alone, with changed keys, and published files.
#[test]
fn layers_are_those_of_transformers() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/config/hf_layers.json");
    let records: Vec<Record> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut ran, mut widths, mut layers, mut wrong) = (0, 0, 0, Vec::new());
    let mut left: Vec<String> = Vec::new();
    for record in &records {
        let bytes = match &record.file {
            Value::String(name) => {
                let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
                std::fs::read(fixtures.join(name)).unwrap()
            }
            file => file.to_string().into_bytes(),
        };
        let note = record.note.clone().unwrap_or_default();
        if let Some((_, reason)) = APART.iter().find(|(name, _)| *name == record.name) {
            left.push(format!("{}: {reason}", record.name));
            continue;
        }
        if record.plans.is_empty() && record.built.is_none() {
            left.push(format!("{}: {note}", record.name));
            continue;
        }
        let model = match read(&bytes, Mode::Lenient) {
            Ok(model) => model,
            Err(error) if record.note.is_some() => {
                left.push(format!(
                    "{}: neither runs there ({note}) nor is it read here ({error})",
                    record.name
                ));
                continue;
            }
            Err(error) => {
                wrong.push(format!("{}: {error}", record.name));
                continue;
            }
        };
        let part = &model.parts[0];
        if let Some(built) = &record.built {
            widths += 1;
            wrong.extend(differing_widths(record, part, built));
            continue;
        }
        ran += 1;
        if record.note.is_none() && part.layers.len() != record.count {
            wrong.push(format!(
                "{}: {} layers, transformers {}",
                record.name,
                part.layers.len(),
                record.count
            ));
            continue;
        }
        for (layer, plan) in record.layers.iter().enumerate() {
            let Some(ours) = part.layer(layer) else { continue };
            layers += 1;
            let kind = record.types.as_ref().and_then(|types| types.get(layer)).map(String::as_str);
            let found = differences(ours, record.plans[*plan].as_ref(), kind);
            if !found.is_empty() {
                wrong.push(format!("{} layer {layer}: {}", record.name, found.join("; ")));
                break;
            }
        }
    }
    println!(
        "{} records: {ran} models run with {layers} layers, {widths} built with widths alone, {} left:\n{}",
        records.len(),
        left.len(),
        left.join("\n")
    );
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    // What is compared may only grow.
    assert_eq!((ran, widths, left.len()), COMPARED);
}

const COMPARED: (usize, usize, usize) = (276, 62, 48);

/// Widths and scales of a model that was built and did not run.
fn differing_widths(record: &Record, part: &Part, built: &Built) -> Option<String> {
    let mut found = Vec::new();
    for plan in part.plans.iter().filter(|plan| plan.attends) {
        let same = |theirs: &&Widths| theirs.heads == plan.dims.heads && theirs.head_dim == plan.dims.head_dim;
        match built.plans.iter().find(same) {
            None => found.push(format!(
                "{} heads of {}, transformers {:?}",
                plan.dims.heads,
                plan.dims.head_dim,
                built.plans.iter().map(|w| (w.heads, w.head_dim)).collect::<Vec<_>>()
            )),
            Some(theirs) => {
                if let Some(kv_heads) = theirs.kv_heads.filter(|kv_heads| *kv_heads != plan.dims.kv_heads) {
                    found.push(format!("{} key heads, transformers {kv_heads}", plan.dims.kv_heads));
                }
                let ours = plan.spec.attention.scale_for(plan.dims.head_dim);
                // Some modules divide by what they hold.
                if let Some(scale) = theirs.scale
                    && (ours - scale).abs() > 4.0 * f64::EPSILON * scale
                    && (ours - 1.0 / scale).abs() > 4.0 * f64::EPSILON / scale
                {
                    found.push(format!("scale {ours}, transformers {scale}"));
                }
            }
        }
    }
    if part.layers.is_empty() {
        found.push(format!("no layers, transformers {}", built.layers));
    }
    (!found.is_empty()).then(|| format!("{}: {}", record.name, found.join("; ")))
}

/// One file of `golden/config/hf_edges.json`.
#[derive(Deserialize)]
struct Edge {
    name: String,
    file: Value,
    #[serde(default)]
    frequencies: std::collections::BTreeMap<String, Vec<f64>>,
    #[serde(default)]
    factors: std::collections::BTreeMap<String, f64>,
    #[serde(default)]
    error: Option<String>,
}

/// Files that are read otherwise than transformers reads them, each with the reason.
const OTHERWISE: [(&str, &str); 9] = [
    (
        "class dictionary, Ministral 3 with a base",
        "transformers drops the file's base for that of the class's dictionary",
    ),
    (
        "truncate, nested",
        "transformers looks for `truncate` beside the dictionaries, where it is not",
    ),
    (
        "share at the top",
        "Llama's own class reads the share for every kind but the unscaled one; vLLM reads it for all",
    ),
    ("share in the dictionary", "as above"),
    ("share in both", "as above"),
    ("share 0.45 of 32", "as above"),
    (
        "OLMo 3's old names",
        "transformers uses up the file's base for full layers and gives sliding ones its own",
    ),
    (
        "class dictionary, Mistral 4 with a dictionary of its own",
        "without the class's share, transformers' table is twice as wide as what turns",
    ),
    ("attn_factor", "transformers ignores it; vLLM multiplies"),
];

/// Rotary settings in odd spellings: what transformers' modules make of them is what is read, but for the files above.
#[test]
fn odd_spellings_are_read_as_transformers_reads_them() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/config/hf_edges.json");
    let edges: Vec<Edge> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for edge in &edges {
        let model = match read(edge.file.to_string().as_bytes(), Mode::Lenient) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{}: {error}", edge.name));
                continue;
            }
        };
        let mut found = Vec::new();
        for (label, theirs) in &edge.frequencies {
            compared += 1;
            let plan = model.parts[0]
                .plans
                .iter()
                .find(|plan| label.is_empty() || plan.dictionary.as_ref() == Some(label));
            let Some((plan, rotary)) = plan.and_then(|plan| Some((plan, plan.described.as_ref()?))) else {
                found.push(format!("{label}: no such dictionary"));
                continue;
            };
            let ours = rotary.frequencies(plan.dims.head_dim, 1).unwrap();
            let theirs: Vec<f64> = theirs.iter().copied().filter(|f| *f != 0.0).collect();
            let turning: Vec<f64> = ours.pairs.iter().copied().filter(|f| *f != 0.0).collect();
            // Two f32 roundings apart at most, as in the reference vectors.
            let near = |a: &f64, b: &f64| (a - b).abs() <= f64::from(f32::EPSILON) * b.abs() * 2.0;
            if turning.len() != theirs.len() || !turning.iter().zip(&theirs).all(|(a, b)| near(a, b)) {
                found.push(format!(
                    "{label}: {} pairs {:?}…, transformers {} {:?}…",
                    turning.len(),
                    &turning[..2],
                    theirs.len(),
                    &theirs[..2]
                ));
            }
            if let Some(factor) = edge.factors.get(label)
                && !near(&ours.table_factor, factor)
            {
                found.push(format!("{label}: factor {}, transformers {factor}", ours.table_factor));
            }
        }
        let known = OTHERWISE.iter().find(|(name, _)| *name == edge.name);
        match (known, found.is_empty()) {
            (None, false) => wrong.push(format!("{}: {}", edge.name, found.join("; "))),
            (Some((name, _)), true) => wrong.push(format!("{name}: no longer read otherwise")),
            _ => {}
        }
        assert!(edge.error.is_none(), "{}: {:?}", edge.name, edge.error);
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(compared, 64);
}
