//! Counts that can be made another way, and texts for every fixture.

use super::{ModelExplanation, PlanExplanation, Standing, explain_extension, explain_model};
use crate::config::extend::{By, Extension, extend};
use crate::config::{Mode, read};
use crate::words::Language;
use serde_json::{Value, json};
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

fn explained(file: &Value, length: Option<usize>) -> ModelExplanation {
    explain_model(&read(file.to_string().as_bytes(), Mode::Strict).unwrap(), "config.json", length).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
    fs::read(folder.join(format!("{name}.json"))).unwrap()
}

fn of_fixture(name: &str, length: Option<usize>) -> ModelExplanation {
    explain_model(&read(&fixture(name), Mode::Strict).unwrap(), "config.json", length).unwrap()
}

fn llama(changes: Value) -> Value {
    let mut file = json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4,
        "max_position_embeddings": 2048
    });
    file.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    file
}

fn only(model: &ModelExplanation) -> &PlanExplanation {
    &model.parts[0].plans[0]
}

/// Wavelengths of a base over d coordinates that are longer than a length, by the formula alone.
fn longer(base: f64, d: i32, length: f64) -> usize {
    (0..d / 2)
        .filter(|i| TAU * base.powf(f64::from(2 * i) / f64::from(d)) > length)
        .count()
}

#[test]
fn pairs_that_never_complete_a_turn_in_the_lengths_of_a_file() {
    // Llama 3.1: at 8192 tokens as pre-trained, at 131072 as scaled. The slow 29 are slowed 8 times, the wavelengths of Meta's bands: above 8192, below 2048.
    let model = of_fixture("llama-3.1-8b", None);
    let facts = only(&model).rotary.as_ref().unwrap();
    let counted: Vec<_> = facts.incomplete.iter().map(|i| (i.length, i.scaled, i.pairs)).collect();
    assert_eq!(counted[0], (8192, false, longer(5e5, 128, 8192.0)));
    // Those whose scaled wavelength is above 131072: 8 times the plain one.
    assert_eq!(counted[1], (131_072, true, longer(5e5, 128, 131_072.0 / 8.0)));
    let scaled = facts.scaled.as_ref().unwrap();
    assert_eq!(
        (scaled.kept, scaled.slowed),
        (64 - longer(5e5, 128, 2048.0), longer(5e5, 128, 8192.0))
    );
    assert_eq!(scaled.kept + scaled.slowed + scaled.between, 64);
    assert_eq!((facts.axes[0].slowest.pair, facts.axes[0].fastest.tokens), (63, TAU));
    let slowest = 8.0 * TAU * 5e5f64.powf(126.0 / 128.0);
    assert!((facts.axes[0].slowest.tokens - slowest).abs() <= 1e-12 * slowest);
}

#[test]
fn at_a_length_pairs_are_known_stay_or_leave() {
    let at = |file: &Value, length| {
        let model = explained(file, Some(length));
        let at = only(&model).at.clone().unwrap();
        let counts = at
            .rotary
            .unwrap()
            .arcs
            .iter()
            .map(|a| (a.trained, a.whole, a.within, a.beyond))
            .collect::<Vec<_>>();
        (at.standing.unwrap(), counts)
    };
    let slow = longer(1e4, 16, 2048.0);
    assert_eq!(at(&llama(json!({})), 2048), (Standing::Within, vec![(2048, 8 - slow, slow, 0)]));
    assert_eq!(at(&llama(json!({})), 2049), (Standing::Beyond, vec![(2048, 8 - slow, 0, slow)]));
    // YaRN at its own length: the slow ones stand where training left them, whether they were blended or slowed.
    let yarn = llama(
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, "max_position_embeddings": 8192}),
    );
    assert_eq!(at(&yarn, 2048).0, Standing::Within);
    let (standing, arcs) = at(&yarn, 8192);
    assert_eq!((standing, arcs[0]), (Standing::Provided, (2048, 8 - slow, slow, 0)));
    assert_eq!(at(&yarn, 8193).0, Standing::Beyond);
    // Qwen's way: the length stays, and the factor says how far it reads.
    let qwen = llama(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}}));
    let model = explained(&qwen, None);
    assert_eq!((model.parts[0].lengths.reach, model.parts[0].length), (Some(8192), Some(8192)));
}

#[test]
fn windows_and_chunks_keep_distances_where_training_was() {
    let model = of_fixture("gemma-3-1b", Some(1_000_000));
    let standings: Vec<_> = model.parts[0]
        .plans
        .iter()
        .map(|plan| plan.at.as_ref().unwrap())
        .map(|at| (at.distances_below, at.standing))
        .collect();
    assert_eq!(standings, [(512, Some(Standing::Within)), (1_000_000, Some(Standing::Beyond))]);
    assert_eq!(model.parts[0].standing, Some(Standing::Beyond));
    // Every layer of Mistral 7B looks 4096 keys back.
    let model = of_fixture("mistral-7b-v0.1", Some(1_000_000));
    assert_eq!(model.parts[0].standing, Some(Standing::Within));
    let text = model.text(Language::English);
    assert!(
        text.contains("the window keeps every distance below 4096") && !text.contains("posenc extend"),
        "{text}"
    );
    // A window longer than training does not help.
    let model = of_fixture("phi-3-mini-128k", Some(200_000));
    assert_eq!(model.parts[0].standing, Some(Standing::Beyond));
}

#[test]
fn what_looks_at_the_length_says_where_it_switches() {
    let dynamic = llama(json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}));
    let model = explained(&dynamic, Some(4096));
    let rotary = only(&model).at.as_ref().unwrap().rotary.as_ref().unwrap();
    assert_eq!((rotary.changes_past, rotary.changes_each), (Some(2048), true));
    assert!(model.text(Language::English).contains("Past 2048 tokens each new token"));
    let model = of_fixture("phi-3-mini-128k", None);
    let rotary = only(&model).at.as_ref().unwrap().rotary.as_ref().unwrap();
    assert_eq!((rotary.changes_past, rotary.changes_each), (Some(4096), false));
    let yarn = of_fixture("qwen2.5-7b-yarn", None);
    assert_eq!(only(&yarn).at.as_ref().unwrap().rotary.as_ref().unwrap().changes_past, None);
}

/// Half an ulp of the angle from the product, and as much again from the frequency, which is a few roundings of f32 away itself: at most nine, and ln(base) / 2 from the exponent
/// (`rotate::trained`), each 2⁻²⁴ of the angle.
#[test]
fn the_rounding_of_angles_is_what_f32_makes() {
    for length in [4096usize, 131_072, 1_000_000] {
        let model = explained(&llama(json!({"rope_theta": 5e5})), Some(length));
        let rounding = only(&model).at.as_ref().unwrap().rotary.as_ref().unwrap().rounding.unwrap();
        let bound = |pair: i32| length as f64 * 5e5f64.powf(f64::from(-2 * pair) / 16.0) * (10.0 + 5e5f64.ln() / 2.0) / f64::from(1 << 24);
        // Pair 0 turns by 1 and is exact.
        assert!(rounding.pair >= 1 && rounding.radians > 0.0, "{rounding:?}");
        assert!(rounding.radians <= bound(rounding.pair as i32), "{rounding:?} at {length}");
    }
    // Positions that f32 does not tell apart are refused by the rotation; nothing is said of their rounding.
    let model = explained(&llama(json!({})), Some(1 << 25));
    assert_eq!(only(&model).at.as_ref().unwrap().rotary.as_ref().unwrap().rounding, None);
}

#[test]
fn axes_and_factors_are_told_apart() {
    let model = of_fixture("qwen2-vl-7b", None);
    let axes: Vec<_> = only(&model)
        .rotary
        .as_ref()
        .unwrap()
        .axes
        .iter()
        .map(|axis| (axis.axis, axis.pairs))
        .collect();
    assert_eq!(axes, [(0, 16), (1, 24), (2, 24)]);
    let vision = model.parts[1].plans[0].rotary.as_ref().unwrap();
    assert!(vision.grid && vision.incomplete.is_empty());
    // DeepSeek-V3: 0.1 · ln 40 + 1, squared, on the softmax; tables as they are.
    let model = of_fixture("deepseek-v3", None);
    let facts = only(&model).rotary.as_ref().unwrap();
    let mscale = 0.1 * 40f64.ln() + 1.0;
    assert_eq!(facts.table_factor, 1.0);
    assert!((facts.softmax_factor - mscale * mscale).abs() <= 8.0 * f64::EPSILON * facts.softmax_factor);
    let model = of_fixture("gpt-oss-20b", None);
    let facts = only(&model).rotary.as_ref().unwrap();
    assert_eq!((facts.table_factor, facts.softmax_factor), (0.1 * 32f64.ln() + 1.0, 1.0));
}

#[test]
fn a_layer_without_positions_says_so() {
    let model = of_fixture("smollm3-3b", Some(200_000));
    let part = &model.parts[0];
    assert_eq!(part.plans.len(), 2);
    let nope = part.plans.iter().find(|plan| plan.rotary.is_none()).unwrap();
    assert_eq!((nope.encoding.as_str(), nope.layers.len()), ("none", 9));
    assert_eq!(nope.at.as_ref().unwrap().findings.len(), 1);
    let text = model.text(Language::English);
    assert!(text.contains("no positions (NoPE)"), "{text}");
}

#[test]
fn positions_that_are_not_rotary_are_explained_by_what_they_are() {
    let at = |file: Value, length| explained(&file, Some(length)).parts.remove(0);
    let gpt2 = json!({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 1024});
    let part = at(gpt2.clone(), 1025);
    assert_eq!(
        (part.standing, part.lengths.key.as_deref()),
        (Some(Standing::Cannot), Some("n_positions"))
    );
    assert!(
        part.plans[0].at.as_ref().unwrap().findings.is_empty(),
        "its layers have positions from below"
    );
    assert_eq!(at(gpt2, 1024).standing, Some(Standing::Within));
    let bloom = json!({"model_type": "bloom", "hidden_size": 64, "n_head": 4, "n_layer": 2, "seq_length": 2048});
    assert_eq!(at(bloom.clone(), 4096).standing, Some(Standing::Provided));
    assert_eq!(at(bloom, 2048).standing, Some(Standing::Within));
    let t5 = json!({"model_type": "t5", "d_model": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 3, "n_positions": 512});
    let model = explained(&t5, Some(4096));
    assert_eq!(
        model.parts.iter().map(|part| (part.stack, part.layers)).collect::<Vec<_>>(),
        [(Some("encoder"), 2), (Some("decoder"), 3)]
    );
    // The cells of a picture are no tokens of a sequence.
    let vit = json!({"model_type": "vit", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "image_size": 224, "patch_size": 16});
    let part = at(vit, 4096);
    assert_eq!((part.length, part.standing), (None, None));
}

/// Every fixture that is read, in both languages, at lengths from one to the longest: no line too wide, no number that is none.
#[test]
fn every_fixture_has_a_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        let Ok(model) = read(&bytes, Mode::Lenient) else { continue };
        seen += 1;
        for length in [None, Some(1), Some(2), Some(131_072), Some(u32::MAX as usize)] {
            let explained = explain_model(&model, "config.json", length).unwrap();
            let data = serde_json::to_string(&explained).unwrap();
            for language in [Language::English, Language::Chinese] {
                let text = explained.text(language);
                for line in text.lines().filter(|line| !line.contains("posenc extend")) {
                    assert!(crate::words::width(line) <= 100, "{line}");
                }
                assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
            }
            assert!(!data.contains("NaN"));
        }
    }
    assert!(seen >= 35, "{seen}");
    let model = read(&fixture("llama-2-7b"), Mode::Strict).unwrap();
    assert!(explain_model(&model, "config.json", Some(0)).is_err());
    assert!(explain_model(&model, "config.json", Some(u32::MAX as usize + 1)).is_err());
}

#[test]
fn an_extension_says_what_becomes_of_pairs_and_of_short_texts() {
    let report = |by: By| {
        let extended = extend(&fixture("llama-2-7b"), &Extension::new(16_384, by)).unwrap();
        explain_extension(&extended).unwrap()
    };
    let slow = longer(1e4, 128, 4096.0);
    let linear = report(By::Linear);
    let plan = &linear.plans[0];
    assert_eq!((plan.arcs.0.beyond, plan.arcs.1.beyond, plan.short_changed), (slow, 0, true));
    let scaled = plan.scaled.as_ref().unwrap();
    assert_eq!((scaled.kept, scaled.slowed, scaled.between), (0, 64, 0));
    let dynamic = report(By::Dynamic);
    assert!(!dynamic.plans[0].short_changed && dynamic.plans[0].changed);
    let yarn = report(By::yarn());
    assert_eq!(
        (yarn.plans[0].arcs.1.beyond, yarn.plans[0].table_factor),
        (0, (1.0, 0.1 * 4f64.ln() + 1.0))
    );
    // A larger base slows only its last pair by the whole factor: the other slow ones go on.
    let ntk = report(By::Ntk);
    assert_eq!(ntk.plans[0].arcs.1.beyond, slow - 1);
    for report in [linear, dynamic, yarn, ntk] {
        for language in [Language::English, Language::Chinese] {
            let text = report.text(language);
            assert!(text.lines().all(|line| crate::words::width(line) <= 100), "{text}");
        }
    }
}

/// What a file of another kind than a plain rotary model is told.
#[test]
fn each_kind_of_layer_and_part_is_told_what_is_true_of_it() {
    let text = |model: &ModelExplanation| model.text(Language::English);
    // Convolutions and recurrences see no keys and have no ids to meet.
    let lfm = of_fixture("lfm2-1.2b", Some(200_000));
    let attends: Vec<_> = lfm.parts[0].plans.iter().map(|plan| plan.attends).collect();
    assert_eq!(attends, [false, true]);
    let said = text(&lfm);
    assert!(
        said.contains("no softmax attention, so no positions") && !said.contains("NoPE"),
        "{said}"
    );
    assert!(!said.contains("every id"), "{said}");
    // Layers without positions have no ids either.
    let smol = text(&of_fixture("smollm3-3b", None));
    assert!(
        smol.contains("without positions, what counts is how many keys") && !smol.contains("every id"),
        "{smol}"
    );
    // M-RoPE's axes have names, a file's older name stands beside the present one.
    let qwen = text(&of_fixture("qwen2-vl-7b", None));
    for part in [
        "axis 0 (time)",
        "axis 1 (row)",
        "axis 2 (column)",
        "axis 1 (column)",
        "default (\"mrope\" in the file)",
    ] {
        assert!(qwen.contains(part), "{part} is not in\n{qwen}");
    }
    // A table of a picture's cells; sines that code keeps as a table; a length that only the class has; none at all.
    let vit = json!({"model_type": "vit", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8});
    let vit = explained(&vit, Some(5000));
    assert!(text(&vit).contains("the 4 × 4 cells of a picture") && vit.parts[0].length.is_none());
    let whisper = json!({
        "model_type": "whisper", "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "max_source_positions": 50, "max_target_positions": 50
    });
    assert!(text(&explained(&whisper, Some(51))).contains("a table of 50 rows, as transformers does for Whisper"));
    assert!(!text(&explained(&whisper, Some(50))).contains("table of 50 rows"));
    let falcon = text(&of_fixture("falcon-40b", None));
    assert!(falcon.contains("the file names no length, and by its class's default"), "{falcon}");
    let params = br#"{"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "sliding_window": 16, "vocab_size": 32000}"#;
    let params = |length| explain_model(&read(params, Mode::Strict).unwrap(), "params.json", length).unwrap();
    assert!(text(&params(None)).contains("--length N"));
    assert!(text(&params(Some(99))).contains("If it was trained on at least 16 tokens, nothing is new at any length"));
    // Values and sources in words are said in Chinese too.
    let chinese = of_fixture("mistral-7b-v0.1", None).text(Language::Chinese);
    assert!(
        chinese.contains("= 整个头") && chinese.contains("最后 4096 个键") && !chinese.contains("whole"),
        "{chinese}"
    );
    // What the softmax is multiplied by has its formula.
    let deepseek = text(&of_fixture("deepseek-v3", None));
    assert!(
        deepseek.contains("= (1 + 0.1 · rope_scaling.mscale_all_dim · ln factor)²"),
        "{deepseek}"
    );
}

/// A scaling that is replaced may have been trained with; one that reaches less than was asked for is said to.
#[test]
fn a_replaced_scaling_and_a_small_factor_are_named() {
    let report = |name: &str, changed: Extension| {
        explain_extension(&extend(&fixture(name), &changed).unwrap())
            .unwrap()
            .text(Language::English)
    };
    let mut again = Extension::new(262_144, By::Yarn);
    again.replace = true;
    let said = report("llama-3.1-8b", again.clone());
    assert!(said.contains("Llama 3 ×8 of 8192 is gone from the file"), "{said}");
    let said = report("gpt-oss-20b", again);
    assert!(said.contains("They see at most 128 keys and would need no scaling"), "{said}");
    let mut small = Extension::new(16_384, By::Linear);
    small.factor = Some(2.0);
    let said = report("llama-2-7b", small);
    assert!(
        said.contains("reaches 8192, fewer than 16384") && !said.contains("gone from the file"),
        "{said}"
    );
    assert!(!report("llama-2-7b", Extension::new(16_384, By::Linear)).contains("fewer than"));
}
