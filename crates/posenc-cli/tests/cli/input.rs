//! Bad input: one line that says what is wrong and what to do, exit code 2, and nothing written.

use crate::compare::{TINY, tiny_folder};
use crate::ran::Folder;

/// Refused with the tiny comparison's options followed by these.
#[track_caller]
fn refuse(words: &str, said: &[&str]) {
    let folder = tiny_folder();
    folder.refuse(&format!("{TINY} {words}"), said);
    assert!(!folder.path("results/results.json").exists());
}

#[test]
fn an_unknown_encoding_is_answered_with_the_nearest_name() {
    refuse("--encodings none,rotery", &["`rotery`", "did you mean `rotary`?"]);
    refuse("--encodings Alibi2", &["`Alibi2`", "`alibi`"]);
    refuse("--encodings xyzzy", &["`xyzzy`; known: none, "]);
}

#[test]
fn an_unknown_scaling_is_answered_with_the_nearest_name() {
    refuse("--scalings linear,yran", &["--scalings", "`yran`", "did you mean `yarn`?"]);
    refuse("--scalings xyzzy", &["`xyzzy`; known: linear, ntk, yarn, dynamic"]);
    refuse("--encodings rotary --scalings ntk,ntk", &["--scalings", "once"]);
    refuse(
        "--encodings rotary --heads 8",
        &["--scalings must be", "r / (r − 2)", "ntk was given"],
    );
}

#[test]
fn lists_that_no_comparison_can_have() {
    refuse("--encodings none,none", &["--encodings", "once"]);
    refuse("--seeds 3,3", &["--seeds", "once"]);
    refuse("--seeds 1,,2", &["--seeds"]);
    refuse("--seeds -1", &["-1"]);
    refuse("--lengths 16,16", &["--lengths", "ascending"]);
    refuse("--lengths 32,64", &["--lengths", "16"]);
}

#[test]
fn widths_that_no_model_can_have() {
    refuse("--heads 0", &["--heads must be at least 1"]);
    refuse("--model-dim 0", &["--model-dim must be at least 1"]);
    refuse("--heads 3", &["model_dim = 16", "heads = 3", "choose a multiple"]);
    refuse("--encodings rotary --model-dim 6 --heads 2", &["head_dim is 3", "even"]);
    refuse("--mlp-dim 0", &["--mlp-dim must be at least 1"]);
    refuse("--layers 0", &["--layers must be at least 1"]);
}

#[test]
fn counts_of_zero() {
    for option in [
        "--length",
        "--batch",
        "--steps",
        "--window-tokens",
        "--aligned-places",
        "--aligned-targets",
    ] {
        refuse(&format!("{option} 0"), &[option, "at least"]);
    }
}

#[test]
fn numbers_that_training_cannot_use() {
    for (option, values) in [
        ("--learning-rate", ["NaN", "inf", "-1", "0"].as_slice()),
        ("--weight-decay", &["NaN", "inf", "-1"]),
        ("--betas", &["0.9,1", "-0.1,0.9", "NaN,0.9"]),
        ("--warmup", &["NaN", "-0.1", "1.5"]),
        ("--clip", &["NaN", "0", "-1"]),
    ] {
        for value in values {
            refuse(&format!("{option} {value}"), &[option]);
        }
    }
    refuse("--length 1.5", &["'1.5'", "--length"]);
}

#[test]
fn numbers_beyond_any_machine() {
    const HUGE: &str = "9223372036854775807";
    for option in [
        "--length",
        "--batch",
        "--layers",
        "--model-dim",
        "--mlp-dim",
        "--aligned-places",
        "--aligned-targets",
        "--lengths 16,",
    ] {
        let space = if option.ends_with(',') { "" } else { " " };
        refuse(&format!("--heads 1 {option}{space}{HUGE}"), &[]);
    }
    refuse("--steps 99999999999999999999", &["--steps"]);
    refuse("--lengths 1x,1e300x", &[]);
}

#[test]
fn texts_that_cannot_be_read() {
    let folder = tiny_folder();
    folder.write("empty.txt", "");
    folder.write("binary.txt", b"PK\x03\x04\0\0\0");
    folder.write("latin1.txt", b"caf\xe9 ".repeat(2000));
    folder.write("short.txt", "too short");
    folder.write("same.txt", "a".repeat(4000));
    for (name, said) in [
        ("missing.txt", ["cannot read", "give"]),
        ("results-of-something", ["cannot read", "give"]),
        ("empty.txt", ["empty", "give"]),
        ("binary.txt", ["binary", "offset 4"]),
        ("latin1.txt", ["not UTF-8", "offset 3"]),
        ("short.txt", ["9 tokens", "longer"]),
        ("same.txt", ["1 different tokens", "prose"]),
    ] {
        folder.refuse(&format!("{TINY} --text {name}"), &[name, said[0], said[1]]);
    }
    // A folder is no text either.
    folder.refuse(&format!("{TINY} --text ."), &["cannot read", "give"]);
    assert!(!folder.path("results").exists(), "a text is read before a folder is made");
}

#[test]
fn evaluations_that_the_text_is_too_short_for() {
    refuse("--lengths 16,4000", &["tokens", "longer"]);
    refuse("--aligned-targets 17", &["--aligned-targets", "16"]);
    refuse("--window-tokens 31", &["--window-tokens", "32"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let folder = tiny_folder();
    folder.write("file", "no folder");
    folder.refuse(&format!("{TINY} --out file"), &["cannot write", "file", "choose another"]);
    folder.refuse(&format!("{TINY} --out file/below"), &["cannot write", "choose another"]);
    assert_eq!(folder.read("file"), "no folder");
}

#[test]
fn a_folder_of_someone_else_is_left_alone() {
    let folder = tiny_folder();
    std::fs::create_dir(folder.path("results")).unwrap();
    folder.write("results/report.html", "my own report");
    folder.refuse(TINY, &["report.html", "choose another"]);
    assert_eq!(folder.read("results/report.html"), "my own report");
}

#[test]
fn nothing_is_asked_of_the_working_folder() {
    let folder = Folder::new();
    folder.refuse("compare --encodings rotery", &["rotary"]);
    assert!(folder.all("").is_empty());
}
