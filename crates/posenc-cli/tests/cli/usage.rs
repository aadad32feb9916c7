//! What is typed: help, version, slips of the finger, closed outputs.

use std::io::Read;
use std::process::Stdio;

use crate::compare::{TINY, tiny_folder};
use crate::ran::{Folder, Ran};

const COMMANDS: [&str; 6] = ["compare", "list", "explain", "extend", "demo", "show"];

#[test]
fn help_is_on_stdout_and_a_success() {
    let folder = Folder::new();
    for words in ["--help", "-h", "--version"] {
        let ran = folder.finish(words);
        assert!(ran.stderr.is_empty() && ran.stdout.starts_with(if words == "--version" { "posenc " } else { "Position" }));
    }
    for command in COMMANDS {
        let short = folder.finish(&format!("{command} -h")).stdout;
        let long = folder.finish(&format!("{command} --help")).stdout;
        assert!(long.len() > short.len() && long.contains("Examples:"), "{command}");
        assert!(folder.finish("--help").stdout.contains(command));
    }
}

#[test]
fn nothing_typed_shows_help_and_is_no_success() {
    let ran = Folder::new().run("");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stdout.is_empty() && ran.stderr.contains("Usage: posenc"), "{}", ran.stderr);
}

#[test]
fn slips_of_the_finger_are_one_line() {
    let folder = Folder::new();
    for width in ["18446744073709551614 --heads 2", "1099511627776 --heads 1"] {
        folder.refuse(&format!("explain sinusoidal --model-dim {width}"), &["model_dim", "at most 2^24"]);
    }
    folder.refuse("compair", &["'compair'", "'compare'", "`posenc --help`"]);
    folder.refuse("compare --steps=3 --frobnicate", &["'--frobnicate'", "`posenc compare --help`"]);
    folder.refuse("compare --step 3", &["'--step'", "'--steps'"]);
    folder.refuse("compare extra", &["'extra'"]);
    folder.refuse("compare --steps", &["--steps", "value is required"]);
    folder.refuse(
        "compare --steps 3 --budget 4m",
        &["'--steps <N>' cannot be used with '--budget <TIME>'"],
    );
    folder.refuse("compare --budget soon", &["'soon'", "90s, 4m or 1.5h"]);
    folder.refuse("compare --tokens words", &["'words'", "characters or bytes"]);
    folder.refuse("compare --betas 0.9", &["'0.9'", "0.9,0.95"]);
    folder.refuse("compare --lengths 64,1.5", &["1.5x"]);
    assert!(
        folder.all("").is_empty(),
        "nothing is written before the command line is understood"
    );
}

#[cfg(unix)]
#[test]
fn words_that_are_not_unicode_are_no_panic() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let odd = OsStr::from_bytes(b"caf\xe9");
    let ran = Ran::from(folder.command("compare --steps").arg(odd).output().unwrap());
    ran.refused("--steps caf\\xe9", &["UTF-8"]);
    let ran = Ran::from(folder.command("compare --text").arg(odd).output().unwrap());
    ran.refused("--text caf\\xe9", &["cannot read the text"]);
}

#[test]
fn a_reader_who_leaves_is_no_failure() {
    for words in ["compare --help", TINY] {
        let folder = tiny_folder();
        let mut child = folder.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{words}\n{said}");
        assert!(!said.contains("panicked") && !said.contains("posenc: "), "{words}\n{said}");
    }
}

#[test]
fn nobody_needs_to_listen_to_the_progress() {
    let folder = tiny_folder();
    let mut child = folder.command(TINY).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(folder.path("results/results.json").exists());
}

/// Linux's device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_said() {
    let folder = tiny_folder();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = Ran::from(folder.command(TINY).stdout(full).output().unwrap());
    assert_eq!(ran.code, Some(2));
    let last = ran.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("posenc: cannot write the output") && last.contains("elsewhere"),
        "{}",
        ran.stderr
    );
    assert!(
        folder.path("results/results.json").exists(),
        "what was measured is kept all the same"
    );
}
