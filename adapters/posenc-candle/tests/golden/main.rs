//! Other people's numbers: the records of the core's golden sets, through candle's tensors and with gradients out of candle's graph, under the same bounds. A record that asks for nothing that is
//! computed here (frequencies alone, buckets alone, whole transformer layers) is skipped and says so.
//!
//! `POSENC_GOLDEN=DIR cargo test -p posenc-candle --test golden` reads the same sets from another folder.

#[path = "../../../../crates/posenc-nn/tests/golden/mod.rs"]
mod golden;
pub mod through;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    golden::main(&here.join("../../golden"), &here.join("tests/golden/expected.txt"))
}
