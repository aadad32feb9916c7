//! Any bytes as calls of the library: the body is that of `crates/posenc/tests/corpus.rs`, which replays what is kept here.
#![no_main]

#[path = "../../crates/posenc/tests/any/mod.rs"]
mod any;

libfuzzer_sys::fuzz_target!(|data: &[u8]| any::run(data));
