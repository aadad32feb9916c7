//! Replays what the fuzzer kept (`fuzz/corpus`), and inputs made at random, through the body that it drives.

mod any;

use posenc::Rng;
use std::path::Path;

/// The numbers of inputs that a replay must find at least, so that an empty folder does not pass.
const AT_LEAST: usize = 50;

#[test]
fn kept_inputs_are_answered_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/entry_points");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= AT_LEAST, "{} files in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        any::run(&std::fs::read(&file).unwrap());
    }
}

/// The first seeds of a generator: what a fuzzer tries first.
#[test]
fn bytes_at_random_are_answered_or_refused() {
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let data: Vec<u8> = (0..64 + seed as usize % 200).map(|_| (rng.bits() >> 32) as u8).collect();
        if let Err(panic) = std::panic::catch_unwind(|| any::run(&data)) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
