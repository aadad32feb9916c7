//! A comparison that is killed, disturbed or damaged loses nothing that was finished.

use std::fs;
use std::time::{Duration, Instant};

use crate::compare::{TINY, timeless, tiny_folder};
use crate::ran::Folder;

/// Six runs, long enough to be killed between two of them.
const LONGER: &str = "--encodings rotary,learned,alibi --seeds 1,2 --steps 400";

fn finished_runs(folder: &Folder) -> usize {
    let Ok(entries) = fs::read_dir(folder.path("results/runs")) else {
        return 0;
    };
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            let name = name.to_string_lossy();
            name.ends_with(".json") && !name.starts_with('.')
        })
        .count()
}

#[test]
fn a_killed_comparison_resumes_and_ends_as_if_it_had_not_been() {
    let folder = tiny_folder();
    let words = format!("{TINY} {LONGER}");
    let mut child = folder.spawn(&words);
    let begun = Instant::now();
    while finished_runs(&folder) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(begun.elapsed() < Duration::from_secs(120), "no run was finished");
        std::thread::sleep(Duration::from_millis(2));
    }
    // While it works, the folder is its own.
    let disturbed = folder.run(&words);
    if child.try_wait().unwrap().is_none() {
        disturbed.refused(&words, &["another process is working in results"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = finished_runs(&folder);
    assert!(
        (1..6).contains(&kept) && !folder.path("results/results.json").exists(),
        "killed with {kept} of 6 runs finished"
    );
    let survivors = folder.all("results/runs");

    let resumed = folder.finish(&words);
    assert!(
        resumed
            .stderr
            .contains(&format!("6 runs of 400 steps (given), {kept} of them finished before")),
        "{}",
        resumed.stderr
    );
    for (path, contents) in survivors
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "json"))
    {
        assert_eq!(fs::read(&path).unwrap(), contents, "{} was made again", path.display());
    }
    let whole = folder.finish(&format!("{words} --out whole"));
    assert_eq!(
        timeless(&folder.read("results/results.json")),
        timeless(&folder.read("whole/results.json"))
    );
    assert_eq!(resumed.stdout.replace("results/report", "whole/report"), whole.stdout);
    let left: Vec<_> = folder.all("results").into_iter().map(|(path, _)| path).collect();
    assert!(left.iter().all(|path| path.extension().is_none_or(|e| e != "tmp")), "{left:?}");
}

#[test]
fn another_comparison_is_refused_and_nothing_is_touched() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let before = folder.all("results");
    for (words, field) in [
        ("--batch 5", "training.batch is 4 there and 5 now"),
        ("--steps 13", "training.steps"),
        ("--encodings none", "encodings"),
        ("--lengths 16,24", "lengths"),
        ("--learning-rate 0.002", "training.learning_rate is 0.003 there and 0.002 now"),
        ("--tokens characters", "text"),
    ] {
        folder.refuse(
            &format!("{TINY} {words}"),
            &["results", "another comparison", field, "choose another"],
        );
        assert!(before == folder.all("results"), "{words}");
    }
    let text = folder.read("text.txt");
    folder.write("text.txt", text.replace("letter", "Letter"));
    folder.refuse(TINY, &["text.hash"]);
    folder.write("text.txt", text);
    folder.finish(TINY);
    assert!(before == folder.all("results"));
}

#[test]
fn a_damaged_run_is_named_and_only_it_is_repeated() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let (whole, other) = (folder.read("results/results.json"), folder.read("results/runs/none-1.json"));
    let run = folder.read("results/runs/learned-1.json");
    for damage in [
        &run[..run.len() / 2],
        "",
        "{}",
        "[1, 2]",
        "\u{0}\u{1}\u{2}",
        &run.replace("\"seed\": 1", "\"seed\": 7"),
    ] {
        folder.write("results/runs/learned-1.json", damage);
        folder.refuse(TINY, &["runs/learned-1.json is damaged", "delete this file and repeat the command"]);
        assert_eq!(folder.read("results/runs/none-1.json"), other);
        assert_eq!(folder.read("results/results.json"), whole);
    }
    // What the line says to do works.
    fs::remove_file(folder.path("results/runs/learned-1.json")).unwrap();
    let ran = folder.finish(TINY);
    assert!(
        ran.stderr.contains("2 runs of 12 steps (given), 1 of them finished before"),
        "{}",
        ran.stderr
    );
    assert_eq!(folder.read("results/runs/none-1.json"), other);
    assert_eq!(timeless(&folder.read("results/results.json")), timeless(&whole));
}

#[test]
fn a_damaged_configuration_is_restored_from_the_runs() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let config = folder.read("results/config.json");
    folder.write("results/config.json", &config[..40]);
    folder.refuse(TINY, &["config.json is damaged", "delete this file"]);
    fs::remove_file(folder.path("results/config.json")).unwrap();
    folder.finish(TINY);
    assert_eq!(folder.read("results/config.json"), config);
}

#[test]
fn damaged_results_are_said_and_written_again() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let results = folder.read("results/results.json");
    folder.write("results/results.json", "{\"schema\": 1, ");
    let ran = folder.finish(TINY);
    assert!(ran.stderr.contains("results.json is damaged"), "{}", ran.stderr);
    assert_eq!(folder.read("results/results.json"), results);
}

#[test]
fn another_version_or_schema_is_not_mixed_in() {
    let folder = tiny_folder();
    folder.finish(TINY);
    let config = folder.read("results/config.json");
    folder.write("results/config.json", config.replacen("\"schema\": 1", "\"schema\": 99", 1));
    folder.refuse(TINY, &["version 99 of the schema"]);
    let version = format!("\"posenc\": \"{}\"", env!("CARGO_PKG_VERSION"));
    folder.write("results/config.json", config.replacen(&version, "\"posenc\": \"0.0.1\"", 1));
    folder.refuse(TINY, &["posenc is 0.0.1 there"]);
}
