//! What an encoding does past its trained length.

use serde_json::Value;

use crate::ran::Folder;

#[test]
fn the_answer_comes_with_its_counts() {
    let folder = Folder::new();
    let learned = folder.finish("explain learned --trained 2048 --length 3000").stdout;
    // 3000 − 2048 positions have no row.
    assert!(learned.contains("952") && learned.contains("2048"), "{learned}");
    let rotary = folder.finish("explain rotary --trained 2048 --length 3000").stdout;
    assert!(rotary.contains("952") && !rotary.contains("NaN"), "{rotary}");
    for text in [learned, rotary] {
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn all_of_them_are_a_table() {
    let folder = Folder::new();
    let text = folder.finish("explain --all --trained 2048 --length 3000").stdout;
    for name in ["none", "learned", "sinusoidal", "rotary", "alibi", "t5"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }
    let all: Value = serde_json::from_str(&folder.finish("explain --all --json").stdout).unwrap();
    let learned = all.as_array().unwrap().iter().find(|entry| entry["name"] == "learned").unwrap();
    assert_eq!(
        (learned["class"].as_str(), learned["runs"].as_bool()),
        (Some("cannot"), Some(false))
    );
    assert!(learned["refusal"].as_str().unwrap().contains("2048"));
}

#[test]
fn an_explanation_is_data_too() {
    let folder = Folder::new();
    let one: Value = serde_json::from_str(&folder.finish("explain alibi --trained 64 --length 512 --json").stdout).unwrap();
    assert_eq!(one["name"], "alibi");
    assert_eq!((one["trained"].as_u64(), one["length"].as_u64()), (Some(64), Some(512)));
    assert_eq!(one["runs"], true);
    assert!(one["methods"][0]["answer"]["zh"].is_string());
}

#[test]
fn methods_side_by_side_are_explained_together() {
    let folder = Folder::new();
    let both: Value = serde_json::from_str(&folder.finish("explain learned+alibi --json").stdout).unwrap();
    assert_eq!(both["methods"].as_array().unwrap().len(), 2);
    assert_eq!(both["class"], "cannot");
}

#[test]
fn formulas_are_plain_text_in_two_languages() {
    let folder = Folder::new();
    let english = folder.finish("explain rotary --formula").stdout;
    let chinese = folder.finish("explain rotary --formula --lang zh").stdout;
    assert!(english.contains("cos"), "{english}");
    let is_chinese = |text: &str| text.chars().any(|c| ('一'..='鿿').contains(&c));
    assert!(is_chinese(&chinese) && !is_chinese(&english), "{english}\n{chinese}");
    let all = folder.finish("explain --all --formula").stdout;
    assert!(all.contains(english.trim_end()) && all.len() > 4 * english.len());
    let json: Value = serde_json::from_str(&folder.finish("explain rotary --formula --json").stdout).unwrap();
    assert_eq!(json["formula"].as_str().unwrap().trim_end(), english.trim_end());
    assert!(is_chinese(&folder.finish("explain rotary --lang zh").stdout));
}

#[test]
fn bad_input_is_one_line() {
    let folder = Folder::new();
    folder.refuse("explain", &["ENCODING", "`posenc explain --help`"]);
    folder.refuse("explain rotery", &["`rotery`", "did you mean `rotary`?"]);
    folder.refuse("explain rotary --all", &["cannot be used with"]);
    folder.refuse("explain rotary+rotary", &["rotary"]);
    folder.refuse("explain rotary+", &["unknown encoding"]);
    folder.refuse("explain rotary --trained 0", &["trained length", "at least 1"]);
    folder.refuse("explain rotary --length 0", &["length", "at least 1"]);
    folder.refuse("explain rotary --length 18446744073709551615", &["length", "at most"]);
    folder.refuse("explain rotary --trained 18446744073709551615", &["at most"]);
    folder.refuse("explain rotary --trained 1.5", &["'1.5'", "--trained"]);
    folder.refuse("explain rotary --length NaN", &["'NaN'", "--length"]);
    folder.refuse("explain rotary --length=-1", &["'-1'", "--length"]);
    folder.refuse("explain rotary --heads 0", &["heads", "at least 1"]);
    folder.refuse("explain rotary --model-dim 0", &["model_dim", "at least 1"]);
    folder.refuse("explain rotary --heads 3", &["model_dim", "1024", "3"]);
    folder.refuse("explain rotary --model-dim 6 --heads 2", &["head_dim is 3", "even"]);
    folder.refuse("explain rotary --lang fr", &["'fr'", "zh"]);
}

#[test]
fn short_sequences_are_explained_too() {
    let folder = Folder::new();
    for (trained, length) in [(1, 1), (1, 2), (2, 1), (2, 3), (3000, 2048)] {
        let text = folder
            .finish(&format!("explain --all --trained {trained} --length {length}"))
            .stdout;
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}

#[test]
fn long_sequences_take_no_memory() {
    let folder = Folder::new();
    for name in ["none", "learned", "sinusoidal", "rotary", "alibi", "t5", "shaw"] {
        folder.finish(&format!("explain {name} --trained 1000000 --length 4000000000"));
    }
}
