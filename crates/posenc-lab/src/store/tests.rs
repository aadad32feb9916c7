//! The folder under everything that happens to one: kills, edits, other comparisons, other processes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::tests::small;
use crate::scalings::{ScalingMethod, tests::with_readings};
use crate::verdict::tests::run;

const BASELINES: Baselines = Baselines { unigram: 2.9, bigram: 2.4 };

/// A folder of its own for each test, removed at the end of it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("posenc-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn open(&self) -> Result<Store, LabError> {
        Store::open(&self.0, small(), Some(20), || panic!("the steps were given"))
    }

    /// All files with their contents but the lock, to see that nothing was touched.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for folder in [self.0.clone(), self.path(RUNS)] {
            for entry in fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|e| e.path().is_file() && e.file_name() != ".lock")
            {
                all.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
        all.sort();
        all
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A run with numbers that need all their digits.
fn finished(encoding: &str, seed: u64) -> Run {
    let mut run = run(encoding, seed, [Some(1.0 / 3.0), Some(0.1 + 0.2), None]);
    run.training[0].loss = std::f64::consts::E / 3.0;
    run
}

fn save_all(store: &mut Store) {
    for (encoding, seed) in store.missing() {
        store.save_run(finished(&encoding, seed)).unwrap();
    }
}

#[test]
fn a_killed_comparison_ends_as_an_uninterrupted_one() {
    let (whole, killed) = (Scratch::new(), Scratch::new());
    let mut store = whole.open().unwrap();
    assert_eq!(store.missing().len(), 4);
    save_all(&mut store);
    let expected = store.finish(BASELINES).unwrap();

    // Killed after two runs, in the middle of writing the third.
    let mut store = killed.open().unwrap();
    store.save_run(finished("rotary", 1)).unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    drop(store);
    let half = files::temporary_path(&killed.path("runs/alibi-1.json"));
    fs::write(&half, "{\"schema\":1,\"run\":{\"enco").unwrap();
    fs::write(files::temporary_path(&killed.path("config.json")), "{").unwrap();

    let mut store = killed.open().unwrap();
    assert!(
        !half.exists() && !files::temporary_path(&killed.path("config.json")).exists(),
        "what was half-written is cleaned up"
    );
    assert_eq!(store.missing(), [("alibi".to_string(), 1), ("rotary".to_string(), 0)]);
    assert_eq!(
        store.runs().iter().map(|run| run.encoding.as_str()).collect::<Vec<_>>(),
        ["alibi", "rotary"]
    );
    save_all(&mut store);
    assert_eq!(store.finish(BASELINES).unwrap(), expected);
    for name in ["results.json", "results.csv", "config.json"] {
        assert_eq!(fs::read(killed.path(name)).unwrap(), fs::read(whole.path(name)).unwrap(), "{name}");
    }
    assert_eq!(read_results(&killed.path(RESULTS)).unwrap(), expected);
    assert_eq!(
        expected.runs.iter().map(|r| (r.encoding.as_str(), r.seed)).collect::<Vec<_>>(),
        [("alibi", 0), ("alibi", 1), ("rotary", 0), ("rotary", 1)]
    );
}

#[test]
fn scaled_readings_resume_and_belong_to_the_configuration() {
    let config = Config {
        scalings: vec![ScalingMethod::Linear, ScalingMethod::Dynamic],
        ..small()
    };
    let scratch = Scratch::new();
    let open = |config: &Config| Store::open(&scratch.0, config.clone(), Some(20), || unreachable!());
    let read = |encoding: &str, seed| {
        let run = run(encoding, seed, [Some(1.0 / 3.0), Some(0.1 + 0.2), Some(2.0)]);
        with_readings(run, &config, |reading| reading.factor / 3.0 + reading.length as f64)
    };
    let mut store = open(&config).unwrap();
    for seed in [0, 1] {
        store.save_run(read("alibi", seed)).unwrap();
    }
    store.save_run(read("rotary", 0)).unwrap();
    let bare = run("rotary", 1, [Some(1.0); 3]);
    let refused = store.save_run(bare).unwrap_err().to_string();
    assert!(refused.contains("scaled readings"), "{refused}");
    drop(store);

    // Another choice of scalings is another comparison.
    let error = open(&small()).unwrap_err();
    assert!(
        matches!(&error, LabError::OtherConfiguration { field, .. } if field == "scalings"),
        "{error}"
    );
    let path = scratch.path("runs/rotary-0.json");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("\"scaling\": \"dynamic\"", "\"scaling\": \"ntk\"")).unwrap();
    assert!(matches!(open(&config), Err(LabError::Damaged { reason, .. }) if reason.contains("scaled readings")));
    fs::write(&path, &whole).unwrap();

    let mut store = open(&config).unwrap();
    assert_eq!(store.missing(), [("rotary".to_string(), 1)]);
    store.save_run(read("rotary", 1)).unwrap();
    let results = store.finish(BASELINES).unwrap();
    assert_eq!(results.runs[2], read("rotary", 0), "every digit came back");
    assert_eq!((results.scaled_verdicts.len(), results.scaling_checks.len()), (2, 2));
    assert_eq!(read_results(&scratch.path(RESULTS)).unwrap(), results);
    assert_eq!(
        fs::read_to_string(scratch.path(CSV)).unwrap().lines().count(),
        1 + 4 * 3 + 2 * (5 + 3)
    );
}

#[test]
fn results_from_before_scaling_was_measured_are_read() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../records/2026-11-22-default");
    // The committed record as it is, and without what this version would add to it.
    let whole = fs::read_to_string(records.join(RESULTS)).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&whole).unwrap();
    value.as_object_mut().unwrap().retain(|field, _| !field.starts_with("scal"));
    value["config"].as_object_mut().unwrap().remove("scalings");
    for run in value["runs"].as_array_mut().unwrap() {
        run.as_object_mut().unwrap().remove("scaled");
    }
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.path(RESULTS), value.to_string()).unwrap();
    read_results(&records.join(RESULTS)).unwrap();
    let old = read_results(&scratch.path(RESULTS)).unwrap();
    assert!(old.config.scalings.is_empty() && old.scaled_verdicts.is_empty() && old.scaling_checks.is_empty());
    assert_eq!((old.runs.len(), old.config.check().is_ok()), (20, true));
}

#[test]
fn steps_are_calibrated_once_and_kept() {
    let scratch = Scratch::new();
    let mut calls = 0;
    let mut calibrate = || {
        calls += 1;
        Ok(712)
    };
    let store = Store::open(&scratch.0, small(), None, &mut calibrate).unwrap();
    assert_eq!(
        (store.config().training.steps, store.config().training.steps_from.as_str()),
        (712, "calibrated")
    );
    drop(store);
    let store = Store::open(&scratch.0, small(), None, &mut calibrate).unwrap();
    assert_eq!(store.config().training.steps, 712);
    drop(store);
    assert_eq!(calls, 1);
    // The same number given by hand is the same comparison; another is not.
    assert!(Store::open(&scratch.0, small(), Some(712), || unreachable!()).is_ok());
    let error = Store::open(&scratch.0, small(), Some(713), || unreachable!()).unwrap_err();
    assert!(
        matches!(&error, LabError::OtherConfiguration { field, stored, wanted, .. } if field == "training.steps" && stored == "712" && wanted == "713")
    );
}

#[test]
fn a_calibration_that_fails_leaves_no_comparison() {
    let scratch = Scratch::new();
    let fail = || Err(LabError::Unfinished { missing: vec![] });
    assert!(matches!(
        Store::open(&scratch.0, small(), None, fail),
        Err(LabError::Unfinished { .. })
    ));
    assert!(matches!(
        Store::open(&scratch.0, small(), None, || Ok(0)),
        Err(LabError::Configuration {
            field: "training.steps",
            ..
        })
    ));
    assert_eq!(scratch.contents(), []);
}

#[test]
fn another_configuration_is_refused_by_its_first_difference() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    drop(store);
    let before = scratch.contents();
    let mut other = small();
    other.model.heads = 2;
    other.training.clip = 2.0;
    let error = Store::open(&scratch.0, other, Some(20), || unreachable!()).unwrap_err();
    assert!(
        matches!(&error, LabError::OtherConfiguration { field, stored, wanted, .. } if field == "model.heads" && stored == "4" && wanted == "2"),
        "{error}"
    );
    assert!(error.to_string().contains("another results folder"));
    assert_eq!(scratch.contents(), before, "nothing was touched");
}

#[test]
fn damaged_files_are_named_and_left_alone() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    save_all(&mut store);
    drop(store);
    for name in ["runs/alibi-1.json", "config.json"] {
        let whole = fs::read(scratch.path(name)).unwrap();
        for damage in [&whole[..whole.len() / 2], b"", b"{}", b"\x00\xff", b"{\"schema\":1}"] {
            fs::write(scratch.path(name), damage).unwrap();
            let before = scratch.contents();
            let error = scratch.open().unwrap_err();
            assert!(matches!(&error, LabError::Damaged { path, .. } if path.ends_with(name)), "{error}");
            assert!(
                error.to_string().contains("delete this file") && !error.to_string().contains('\n'),
                "{error}"
            );
            assert_eq!(scratch.contents(), before, "nothing was touched");
        }
        fs::write(scratch.path(name), whole).unwrap();
    }
    // Doing what the line says repeats one run.
    fs::remove_file(scratch.path("runs/alibi-1.json")).unwrap();
    assert_eq!(scratch.open().unwrap().missing(), [("alibi".to_string(), 1)]);
}

#[test]
fn a_lost_configuration_is_restored_from_the_runs() {
    let scratch = Scratch::new();
    let mut store = Store::open(&scratch.0, small(), None, || Ok(333)).unwrap();
    store.save_run(finished("rotary", 0)).unwrap();
    drop(store);
    let before = fs::read(scratch.path(CONFIG)).unwrap();
    fs::remove_file(scratch.path(CONFIG)).unwrap();
    let store = Store::open(&scratch.0, small(), None, || panic!("a finished run says how many")).unwrap();
    assert_eq!((store.config().training.steps, store.runs().len()), (333, 1));
    assert_eq!(fs::read(scratch.path(CONFIG)).unwrap(), before);
}

#[test]
fn a_run_of_another_comparison_is_refused() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let mut other = small();
    other.training.batch = 8;
    let mut store = Store::open(&one.0, other, Some(20), || unreachable!()).unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    drop(two.open().unwrap());
    fs::copy(one.path("runs/alibi-0.json"), two.path("runs/alibi-0.json")).unwrap();
    let error = two.open().unwrap_err();
    assert!(
        matches!(&error, LabError::OtherConfiguration { path, field, .. } if path.ends_with("runs/alibi-0.json") && field == "training.batch")
    );
}

#[test]
fn a_run_under_a_wrong_name_or_with_wrong_lengths_is_damaged() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    let mut short = finished("alibi", 1);
    short.lengths.pop();
    assert!(matches!(store.save_run(short), Err(LabError::Configuration { field: "run", .. })));
    assert!(matches!(
        store.save_run(finished("none", 0)),
        Err(LabError::Configuration { field: "run", .. })
    ));
    drop(store);
    fs::copy(scratch.path("runs/alibi-0.json"), scratch.path("runs/copy of alibi-0.json")).unwrap();
    let error = scratch.open().unwrap_err();
    assert!(
        matches!(&error, LabError::Damaged { reason, .. } if reason.contains("alibi-0.json")),
        "{error}"
    );
}

#[test]
fn later_versions_are_not_called_damaged() {
    let scratch = Scratch::new();
    drop(scratch.open().unwrap());
    let config = fs::read_to_string(scratch.path(CONFIG)).unwrap();
    fs::write(scratch.path(CONFIG), config.replace("\"schema\": 1", "\"schema\": 99")).unwrap();
    assert!(matches!(
        scratch.open(),
        Err(LabError::OtherSchema {
            given: 99,
            expected: SCHEMA,
            ..
        })
    ));
    fs::write(scratch.path(CONFIG), config.replace(POSENC, "99.0.0")).unwrap();
    assert!(matches!(scratch.open(), Err(LabError::OtherConfiguration { field, .. }) if field == "posenc"));
}

#[test]
fn damaged_results_are_told_and_written_again() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    assert!(matches!(store.finish(BASELINES), Err(LabError::Unfinished { missing }) if missing.len() == 4));
    save_all(&mut store);
    let results = store.finish(BASELINES).unwrap();
    drop(store);
    fs::write(scratch.path(RESULTS), "{\"schema\": 1, \"config\"").unwrap();
    let error = read_results(&scratch.path(RESULTS)).unwrap_err();
    assert!(matches!(error, LabError::Damaged { .. }), "{error}");
    let store = scratch.open().unwrap();
    assert_eq!(store.notes().len(), 1);
    assert!(store.notes()[0].contains("results.json is damaged"), "{:?}", store.notes());
    store.finish(BASELINES).unwrap();
    assert_eq!(read_results(&scratch.path(RESULTS)).unwrap(), results);
    assert!(matches!(read_results(&scratch.path("no.json")), Err(LabError::Damaged { .. })));
}

#[test]
fn folders_that_cannot_be_written_are_refused_before_the_calibration() {
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.path("file"), "").unwrap();
    for folder in ["file", "file/below"] {
        let error = Store::open(&scratch.path(folder), small(), None, || unreachable!()).unwrap_err();
        assert!(matches!(&error, LabError::FolderUnwritable { .. }), "{error}");
    }
    // A folder in which a file has the place of the runs.
    fs::write(scratch.path(RUNS), "").unwrap();
    assert!(matches!(scratch.open(), Err(LabError::FolderUnwritable { .. })));
}

#[test]
fn a_run_that_cannot_be_written_leaves_the_others() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    // A folder has the name that the run would take.
    fs::create_dir(scratch.path("runs/alibi-1.json")).unwrap();
    assert!(matches!(
        store.save_run(finished("alibi", 1)),
        Err(LabError::FolderUnwritable { .. })
    ));
    assert_eq!((store.runs().len(), store.missing().len()), (1, 3));
    fs::remove_dir(scratch.path("runs/alibi-1.json")).unwrap();
    drop(store);
    assert_eq!(scratch.contents().len(), 2, "no temporary file stays");
    assert_eq!(scratch.open().unwrap().runs().len(), 1);
}

#[test]
fn somebody_elses_files_are_not_overwritten() {
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.path("notes.txt"), "mine").unwrap();
    drop(scratch.open().unwrap());
    fs::remove_file(scratch.path(CONFIG)).unwrap();
    fs::write(scratch.path(RESULTS), "mine").unwrap();
    assert!(matches!(scratch.open(), Err(LabError::FolderForeign { file, .. }) if file == RESULTS));
    assert_eq!(fs::read_to_string(scratch.path(RESULTS)).unwrap(), "mine");
}

#[test]
fn one_process_at_a_time() {
    let scratch = Scratch::new();
    let store = scratch.open().unwrap();
    assert!(matches!(scratch.open(), Err(LabError::FolderInUse { .. })));
    drop(store);
    assert!(scratch.open().is_ok());
}

#[test]
fn any_name_makes_a_file_of_its_own() {
    assert_eq!(run_file_name("rotary-10000", 3), "rotary-10000-3.json");
    let names = ["a/b", "a\\b", "a_b", "..", ".", "a b"].map(|name| run_file_name(name, 0));
    assert!(
        names.iter().all(|name| !name.starts_with('.') && !name.contains(['/', '\\', ' '])),
        "{names:?}"
    );
    assert!((1..names.len()).all(|i| !names[..i].contains(&names[i])), "{names:?}");
    let scratch = Scratch::new();
    let mut config = small();
    config.encodings[0] = "../../up".into();
    let mut store = Store::open(&scratch.0, config.clone(), Some(20), || unreachable!()).unwrap();
    store.save_run(finished("../../up", 0)).unwrap();
    drop(store);
    assert_eq!(
        Store::open(&scratch.0, config, Some(20), || unreachable!()).unwrap().runs().len(),
        1
    );
}

#[test]
fn saving_a_run_twice_keeps_the_last() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.save_run(finished("alibi", 0)).unwrap();
    let mut again = finished("alibi", 0);
    again.parameters = 5;
    store.save_run(again).unwrap();
    assert_eq!((store.runs().len(), store.runs()[0].parameters), (1, 5));
}
