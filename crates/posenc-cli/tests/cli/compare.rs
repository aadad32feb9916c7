//! A whole comparison, tiny: what it prints and writes.

use serde_json::Value;

use crate::ran::Folder;

/// Two encodings, one seed, a dozen steps: a second at most.
pub const TINY: &str = "compare --encodings none,learned --seeds 1 --text text.txt --tokens bytes --length 16 --batch 4 --steps 12 \
     --layers 1 --model-dim 16 --heads 2 --mlp-dim 32 --lengths 16,32 --window-tokens 64 --aligned-places 4 --aligned-targets 4";

/// A folder with a text in it. clap takes the last of an option that is given twice, so a test may append its own.
pub fn tiny_folder() -> Folder {
    let folder = Folder::new();
    // Words in an order that repeats late: a text of one repeated sentence would be learnt by heart.
    let words = [
        "the", "house", "was", "so", "quiet", "that", "nobody", "heard", "her", "letter", "fall;", "and",
    ];
    let mut state = 7_u32;
    let mut text = String::new();
    for _ in 0..900 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(words[(state >> 16) as usize % words.len()]);
        text.push(' ');
    }
    folder.write("text.txt", text);
    folder
}

/// Results without what may differ between two runs of the same comparison.
pub fn timeless(json: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.ends_with("_seconds"));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(json).unwrap();
    strip(&mut value);
    value
}

#[test]
fn a_comparison_prints_a_table_and_writes_its_folder() {
    let folder = tiny_folder();
    let ran = folder.finish(TINY);

    let results: Value = serde_json::from_str(&folder.read("results/results.json")).unwrap();
    assert_eq!(results["config"]["training"]["steps"], 12);
    assert_eq!(results["config"]["training"]["steps_from"], "given");
    assert_eq!(results["config"]["lengths"], serde_json::json!([16, 32]));
    assert_eq!(results["runs"].as_array().unwrap().len(), 2);
    assert!(results["runs"][0]["lengths"][1]["outcome"]["measured"]["mean"].as_f64().unwrap() > 0.0);
    // A position past the learned table: said, not guessed, and no failure of the comparison.
    let refusal = results["runs"][1]["lengths"][1]["outcome"]["refused"].as_str().unwrap();
    assert!(refusal.contains("16"), "{refusal}");
    assert_eq!(results["verdicts"][1]["lengths"][1]["verdict"], "refuses");

    let csv = folder.read("results/results.csv");
    assert_eq!(csv.lines().count(), 1 + 2 * 2);
    assert!(csv.starts_with("encoding,seed,length,"));
    let report = folder.read("results/report.html");
    assert!(report.starts_with("<!DOCTYPE html>") && report.contains("--text text.txt"));
    for name in ["config.json", "runs/none-1.json", "runs/learned-1.json"] {
        serde_json::from_str::<Value>(&folder.read(&format!("results/{name}"))).unwrap();
    }

    assert!(ran.stdout.contains("learned refuses 2× (32)"), "{}", ran.stdout);
    assert!(
        ran.stdout.trim_end().lines().last().unwrap().contains("results/report.html"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stderr.contains(['\r', '\x1b']), "a pipe is no terminal: {:?}", ran.stderr);
    let said: Vec<&str> = ran.stderr.lines().collect();
    assert!(said[0].starts_with("2 runs of 12 steps (given)"), "{}", ran.stderr);
    for run in ["run 1/2 none seed 1", "run 2/2 learned seed 1"] {
        assert_eq!(
            said.iter().filter(|line| line.starts_with(run)).count(),
            2,
            "begun and finished: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_trained_rotary_model_is_read_again_under_each_scaling() {
    let folder = tiny_folder();
    let words = format!("{TINY} --encodings none,rotary --lengths 1x,2x,4x");
    let ran = folder.finish(&words);
    let results: Value = serde_json::from_str(&folder.read("results/results.json")).unwrap();
    let names = serde_json::json!(["linear", "ntk", "yarn", "dynamic"]);
    assert_eq!(results["config"]["scalings"], names);
    assert!(results["runs"][0].get("scaled").is_none(), "nothing turns in it");
    let run = &results["runs"][1];
    let scaled = run["scaled"].as_array().unwrap();
    assert_eq!(scaled.len(), 3 * (3 + 2) + 3);
    let unscaled = run["lengths"][0]["outcome"]["measured"]["aligned"].as_f64().unwrap();
    let bits = |reading: &Value| reading["aligned"].as_f64().unwrap().to_bits();
    let same: Vec<&Value> = scaled
        .iter()
        .filter(|reading| reading["length"] == 16 && (reading["factor"] == 1.0 || reading["scaling"] == "dynamic"))
        .collect();
    assert!(
        same.len() == 4 && same.iter().all(|reading| bits(reading) == unscaled.to_bits()),
        "{same:?}"
    );
    assert!(
        scaled
            .iter()
            .any(|reading| reading["length"] == 16 && bits(reading) != unscaled.to_bits())
    );
    assert_eq!(results["scaled_verdicts"].as_array().unwrap().len(), 4);
    let checks: Vec<(&str, &str)> = results["scaling_checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["claim"].as_str().unwrap(), check["found"].as_str().unwrap()))
        .collect();
    assert_eq!(
        checks.iter().map(|check| check.0).collect::<Vec<_>>(),
        ["beats_unscaled", "linear_costs", "same_at_trained"]
    );
    assert_eq!(checks[2].1, "held");

    let csv = folder.read("results/results.csv");
    assert_eq!(csv.lines().count(), 1 + 2 * 3 + 18);
    assert!(csv.lines().last().unwrap().ends_with(",dynamic,4"));
    for text in [&ran.stdout, &folder.read("results/report.html")] {
        for part in [
            "The trained rotary model, scaled",
            "NTK-aware",
            "YaRN",
            "dynamic NTK",
            "A factor of 1, and dynamic",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
    // The same comparison without it is another.
    folder.refuse(&format!("{words} --scalings none"), &["scalings is", "another comparison"]);
    let without = folder.finish(&format!("{words} --scalings none --out without"));
    assert!(!without.stdout.contains("scaled") && !folder.read("without/report.html").contains("scaled</h2>"));
    assert!(folder.finish(&format!("{words} --scalings yarn --out one")).stdout.contains("YaRN"));
}

#[test]
fn methods_side_by_side_are_one_encoding() {
    let folder = tiny_folder();
    let words = format!("{TINY} --encodings learned+alibi,RoPE-interleaved");
    folder.finish(&words);
    let results: Value = serde_json::from_str(&folder.read("results/results.json")).unwrap();
    assert!(results["runs"][0]["plan"].as_str().unwrap().contains("alibi"));
    assert!(results["runs"][1]["plan"].as_str().unwrap().contains("interleaved"));
    // A name that a file system might not take becomes one that it does.
    assert!(folder.finish(&words).stderr.contains("all of them finished before"));
}

#[test]
fn finished_runs_are_not_repeated() {
    let folder = tiny_folder();
    let first = folder.finish(TINY);
    let before = folder.all("results");
    let second = folder.finish(TINY);
    assert_eq!(second.stderr.trim_end(), "2 runs of 12 steps (given), all of them finished before");
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(before, folder.all("results"), "not even the seconds changed");
}

#[test]
fn two_comparisons_of_the_same_are_the_same() {
    let folder = tiny_folder();
    folder.finish(TINY);
    folder.finish(&format!("{TINY} --out other"));
    assert_eq!(
        timeless(&folder.read("results/results.json")),
        timeless(&folder.read("other/results.json"))
    );
}

#[test]
fn the_command_in_the_report_repeats_the_comparison() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let report = folder.read("results/report.html");
    let start = report.rfind("<pre><code>posenc ").unwrap() + "<pre><code>posenc ".len();
    let command = report[start..].split("</code>").next().unwrap().replace('\\', " ");
    let again = folder.finish(&command);
    assert!(again.stderr.contains("all of them finished before"), "{command}\n{}", again.stderr);
}

#[test]
fn steps_are_calibrated_once_printed_and_written() {
    let folder = tiny_folder();
    let words = TINY.replace("--steps 12", "--budget 2h");
    let ran = folder.finish(&words);
    assert!(ran.stderr.contains("steps (calibrated)"), "{}", ran.stderr);
    // Far more steps fit into two hours than calibration asks for.
    assert!(
        ran.stderr
            .contains("1200 are the most that calibration asks for: --steps N takes more"),
        "{}",
        ran.stderr
    );
    let config: Value = serde_json::from_str(&folder.read("results/config.json")).unwrap();
    let steps = config["config"]["training"]["steps"].as_u64().unwrap();
    assert_eq!(steps, 1200);
    // Whatever this machine would calibrate now, the folder's number holds.
    let again = folder.finish(&words.replace("--budget 2h", "--budget 1s"));
    assert!(again.stderr.contains("all of them finished before"), "{}", again.stderr);
    // And the same number given by hand is the same comparison.
    folder.finish(&TINY.replace("--steps 12", &format!("--steps {steps}")));
}
