//! The command `posenc`: what was typed becomes a call of the library, and what the library returns becomes text.

mod args;
mod columns;
mod command;
mod export;
mod failure;
mod progress;

use std::io::Write;
use std::process::ExitCode;

use args::Command;
use failure::Failure;

/// What a script reads when something was wrong with what it asked for; the same code that clap and most Unix tools use.
const REFUSED: u8 = 2;
/// What a script reads when a demonstration ran and did not show what it claims.
const NOT_SHOWN: u8 = 1;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // `posenc list | head -3`: the reader has what it wanted, and nothing went wrong.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Help(help)) => {
            let _ = help.print();
            ExitCode::from(if help.use_stderr() { REFUSED } else { 0 })
        }
        Err(failure) => {
            // Not `eprintln!`, which would panic where even stderr is closed.
            let _ = writeln!(std::io::stderr(), "posenc: {}", failure.line());
            ExitCode::from(if matches!(failure, Failure::NotShown(_)) {
                NOT_SHOWN
            } else {
                REFUSED
            })
        }
    }
}

fn run() -> Result<(), Failure> {
    match args::read(std::env::args_os())?.command {
        Command::Compare(arguments) => command::compare::run(&arguments),
        Command::List(arguments) => command::list::run(&arguments),
        Command::Explain(arguments) => command::explain::run(&arguments),
        Command::Extend(arguments) => command::extend::run(&arguments),
        Command::Demo(arguments) => command::demo::run(&arguments),
        Command::Show(arguments) => command::show::run(&arguments),
        Command::Bench(arguments) => command::bench::run(&arguments),
    }
}
