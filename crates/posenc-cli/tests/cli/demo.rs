//! The demonstrations.

use posenc::catalogue::catalogue;
use serde_json::Value;

use crate::list::columns;
use crate::ran::Folder;

fn json(folder: &Folder, words: &str) -> Value {
    serde_json::from_str(&folder.finish(words).stdout).unwrap()
}

#[test]
fn the_demonstrations_are_listed() {
    let folder = Folder::new();
    let text = folder.finish("demo").stdout;
    let names: Vec<String> = json(&folder, "demo --json")
        .as_array()
        .unwrap()
        .iter()
        .map(|demo| demo["name"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(names, ["order", "rotary-bug"]);
    for name in names {
        assert!(text.lines().any(|line| line.starts_with(&name)), "{text}");
    }
}

#[test]
fn word_order_is_told_for_every_encoding() {
    let folder = Folder::new();
    let text = folder.finish("demo order").stdout;
    for entry in catalogue() {
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(entry.name));
        let row = row.unwrap_or_else(|| panic!("{} is not in\n{text}", entry.name));
        assert_eq!(row.contains("same"), entry.name == "none", "{row}");
    }
    for said in [
        "the fish ate the cat",
        "man bites dog",
        "read backwards",
        "alibi, both sides",
        "N(0, 1)",
        "seed 1",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    assert!(text.matches('✓').count() == 5 && !text.contains("NOT SHOWN"), "{text}");
}

#[test]
fn word_order_is_data_too() {
    let folder = Folder::new();
    let order = json(&folder, "demo order --json");
    assert_eq!(order["seed"], 1);
    let rows = order["rows"].as_array().unwrap();
    let row = |name: &str, variant: &str| {
        let row = rows.iter().find(|row| row["name"] == name && row["variant"] == variant);
        row.unwrap_or_else(|| panic!("{name} {variant}"))["outcome"]["measured"].clone()
    };
    let same = |measured: &Value| -> Vec<bool> {
        let pairs = measured["pairs"].as_array().unwrap();
        pairs.iter().map(|pair| pair["same"].as_bool().unwrap()).collect()
    };
    assert_eq!(same(&row("none", "preset")), [true, true, true]);
    assert_eq!(same(&row("none", "causal_mask")), [false, false, false]);
    assert_eq!(same(&row("alibi", "both_sides")), [false, true, true]);
    for entry in catalogue().iter().filter(|entry| entry.name != "none") {
        let measured = row(entry.name, "preset");
        assert_eq!(same(&measured), [false, false, false], "{}", entry.name);
        assert!(
            measured["places"]["difference"].as_f64() > measured["bound"].as_f64(),
            "{}",
            entry.name
        );
    }
    assert_eq!(row("none", "preset")["places"]["at"], serde_json::json!([1, 4]));
    assert!(order["claims"].as_array().unwrap().iter().all(|claim| claim["holds"] == true));
}

#[test]
fn the_wrong_rotary_sample_is_told_with_its_repairs() {
    let folder = Folder::new();
    let text = folder.finish("demo rotary-bug").stdout;
    for said in [
        "torch.cat([-x[..., 1::2], x[..., ::2]], dim=-1)",
        "torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)",
        "torch.cat([-x2, x1], dim=-1)",
        "d = 2",
        "seed 1",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    assert!(text.matches('✓').count() == 6 && !text.contains("NOT SHOWN"), "{text}");
}

#[test]
fn the_wrong_rotary_sample_is_data_too() {
    let folder = Folder::new();
    let bug = json(&folder, "demo rotary-bug --json");
    let widths = bug["widths"].as_array().unwrap();
    let code = |width: &Value, name: &str| -> Value {
        let codes = width["codes"].as_array().unwrap();
        codes.iter().find(|turned| turned["code"] == name).unwrap().clone()
    };
    for width in widths {
        let bound = width["bounds"]["spread"].as_f64().unwrap();
        for (name, relative) in [
            ("formula", true),
            ("as_printed", width["head_dim"] == 2),
            ("stacked", true),
            ("halves", true),
        ] {
            let spread = code(width, name)["spread"].as_f64().unwrap();
            assert_eq!(spread <= bound, relative, "{name}, d = {}", width["head_dim"]);
        }
        assert_eq!(code(width, "as_printed")["from_interleaved"][0], 0.0);
    }
    let dims: Vec<u64> = widths.iter().map(|width| width["head_dim"].as_u64().unwrap()).collect();
    assert_eq!(dims, [2, 4, 8, 64]);
}

#[test]
fn the_text_fits_a_terminal() {
    let folder = Folder::new();
    for words in [
        "demo",
        "demo order",
        "demo rotary-bug",
        "demo order --seed 18446744073709551615",
        "demo rotary-bug --seed 0",
        "demo order --lang zh",
        "demo rotary-bug --lang zh",
    ] {
        let text = folder.finish(words).stdout;
        assert!(text.lines().all(|line| columns(line) <= 80 && line.trim_end() == line), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains('\x1b'), "{text}");
    }
}

#[test]
fn it_is_told_in_two_languages() {
    let folder = Folder::new();
    let is_chinese = |text: &str| text.chars().any(|c| ('一'..='鿿').contains(&c));
    for name in ["order", "rotary-bug"] {
        let english = folder.finish(&format!("demo {name}")).stdout;
        let chinese = folder.finish(&format!("demo {name} --lang zh")).stdout;
        assert!(is_chinese(&chinese) && !is_chinese(&english), "{english}\n{chinese}");
        assert_eq!(english.matches('✓').count(), chinese.matches('✓').count());
    }
    folder.refuse("demo order --lang fr", &["'fr'", "zh"]);
}

#[test]
fn a_seed_is_an_answer() {
    let folder = Folder::new();
    for name in ["order", "rotary-bug"] {
        let run = |seed: &str| folder.finish(&format!("demo {name} {seed} --json")).stdout;
        assert_eq!(run(""), run("--seed 1"));
        assert_ne!(run("--seed 1"), run("--seed 2"));
        assert_eq!(json(&folder, &format!("demo {name} --seed 2 --json"))["seed"], 2);
    }
}

#[test]
fn what_is_not_a_demonstration_is_refused() {
    let folder = Folder::new();
    folder.refuse("demo ordr", &["'ordr'", "'order'", "rotary-bug", "`posenc demo --help`"]);
    folder.refuse("demo rotary_bug", &["'rotary_bug'", "'rotary-bug'"]);
    folder.refuse("demo xyzzy", &["'xyzzy'", "order, rotary-bug"]);
    folder.refuse("demo order rotary-bug", &["'rotary-bug'"]);
    folder.refuse("demo order --seed", &["--seed", "value is required"]);
    folder.refuse("demo order --seed -1", &["'-1'"]);
    folder.refuse("demo order --seed 1.5", &["'1.5'", "--seed"]);
    folder.refuse("demo order --seed 18446744073709551616", &["--seed"]);
    folder.refuse("demo order --sed 3", &["'--sed'", "'--seed'"]);
    folder.refuse("demo order --jsn", &["'--jsn'", "'--json'"]);
    folder.refuse("demo --frobnicate", &["'--frobnicate'"]);
}
