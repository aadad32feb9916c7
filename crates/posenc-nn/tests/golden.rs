//! Other people's numbers: every record of `golden/` that the crates can run, and the reason of each that is not run.
//!
//! `POSENC_GOLDEN=DIR cargo test -p posenc-nn --test golden` reads the same sets from another folder.

#[path = "golden/mod.rs"]
mod golden;
#[path = "golden/through.rs"]
pub mod through;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    golden::main(&own, &own.join("expected.txt"))
}
