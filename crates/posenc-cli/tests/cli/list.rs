//! The table of methods.

use posenc_lab::compare::DEFAULT_ENCODINGS;
use serde_json::Value;

use crate::ran::Folder;

/// Columns that a line takes in a terminal: a Chinese character takes two.
pub fn columns(line: &str) -> usize {
    line.chars()
        .map(|c| if ('\u{2e80}'..'\u{ffff}').contains(&c) { 2 } else { 1 })
        .sum()
}

#[test]
fn every_method_is_listed_and_the_table_fits() {
    let folder = Folder::new();
    for lang in ["en", "zh"] {
        let text = folder.finish(&format!("list --lang {lang}")).stdout;
        for name in DEFAULT_ENCODINGS {
            assert!(
                text.lines().any(|line| line.split_whitespace().next() == Some(name)),
                "{name} is not in\n{text}"
            );
        }
        let widest = text.lines().map(columns).max().unwrap();
        assert!(widest <= 120, "{widest} columns\n{text}");
        assert!(text.contains("arXiv") && !text.contains('\x1b') && !text.ends_with("\n\n"));
    }
}

#[test]
fn the_list_is_data_too() {
    let folder = Folder::new();
    let list: Value = serde_json::from_str(&folder.finish("list --json").stdout).unwrap();
    let list = list.as_array().unwrap();
    for name in DEFAULT_ENCODINGS {
        let entry = list.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}"));
        for field in ["acts", "parameters", "limit", "models", "paper", "claims"] {
            assert!(!entry[field].is_null(), "{name}: {field}");
        }
        assert!(entry.get("measured").is_some(), "{name}: measured, or null");
        assert!(entry["acts"]["en"].is_string() && entry["acts"]["zh"].is_string());
    }
}

#[test]
fn one_method_is_shown_in_full() {
    let folder = Folder::new();
    let text = folder.finish("list RoPE").stdout;
    assert!(
        text.starts_with("rotary ") && text.contains("2104.09864") && !text.contains("alibi"),
        "{text}"
    );
    folder.refuse("list rotary rotery", &["`rotery`", "did you mean `rotary`?"]);
}

#[test]
fn what_is_listed_can_be_compared_and_explained() {
    let folder = crate::compare::tiny_folder();
    let list: Value = serde_json::from_str(&folder.finish("list --json").stdout).unwrap();
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    let all = names.join(",");
    folder.finish(&format!("{} --encodings {all} --steps 2", crate::compare::TINY));
    for name in names {
        folder.finish(&format!("explain {name}"));
    }
}
