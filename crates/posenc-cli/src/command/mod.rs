//! One file per subcommand: from its arguments to a call of the library to text.

pub mod bench;
pub mod compare;
pub mod demo;
pub mod explain;
pub mod extend;
pub mod list;
mod model;
pub mod show;

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints a text, with a newline at its end. Not `println!`, which panics where the output is closed or full.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end())?;
    Ok(stdout.flush()?)
}

/// Prints data as JSON.
fn print_json(data: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(data).expect("plain data with string keys always becomes JSON"))
}
