//! What can be typed, as types: clap makes the parser, its messages and the help from them. One file per subcommand that takes more than a few words.

pub mod bench;
pub mod compare;
pub mod demo;
pub mod explain;
pub mod extend;
pub mod list;
pub mod show;
pub mod units;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use bench::BenchArguments;
use compare::CompareArguments;
use demo::DemoArguments;
use explain::ExplainArguments;
use extend::ExtendArguments;
use list::ListArguments;
use posenc::Language;
use show::ShowArguments;

/// Position encodings for transformers: which there are, what they do past the trained length, and what that costs.
#[derive(Debug, Parser)]
#[command(name = "posenc", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  posenc compare                                      train and judge the default encodings
  posenc list                                         every method, with its limits and its users
  posenc explain rotary --trained 2048 --length 3000  what it does past its trained length, and why
  posenc explain config.json                          what a model's own file does with positions
  posenc extend config.json --to 9000 --method yarn   a model's file for longer texts
  posenc demo order                                   what word order is without an encoding, and with each
  posenc show rotation                                a picture, as SVG and PNG
  posenc bench                                        how fast the hooks are on this machine

`posenc COMMAND --help` explains every option.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    // Boxed: they have many times the options of the others.
    Compare(Box<CompareArguments>),
    List(ListArguments),
    Explain(Box<ExplainArguments>),
    Extend(Box<ExtendArguments>),
    Demo(DemoArguments),
    Show(Box<ShowArguments>),
    Bench(BenchArguments),
}

/// Reads a command line, the program's name first.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, Failure> {
    let words: Vec<OsString> = words.into_iter().collect();
    Arguments::try_parse_from(&words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Failure::Help(error),
        _ => {
            let known = Arguments::command();
            let subcommand = words.get(1).and_then(|word| known.find_subcommand(word));
            let help = subcommand.map_or_else(String::new, |subcommand| format!("{} ", subcommand.get_name()));
            Failure::Usage(format!(
                "{}; `posenc {help}--help` says what can be asked",
                complaint(&error.render().to_string())
            ))
        }
    })
}

/// How many tokens; what people write for it is refused with what is read.
fn token_count(word: &str) -> Result<usize, String> {
    word.parse()
        .map_err(|_| "a number of tokens is written in digits, such as 131072".to_string())
}

fn language(name: &str) -> Result<Language, posenc::Error> {
    name.parse()
}

/// Of clap's paragraphs those that say what is wrong and what was perhaps meant, in one line.
fn complaint(rendered: &str) -> String {
    let paragraphs: Vec<String> = rendered
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information"))
        .map(|paragraph| paragraph.trim_start_matches("error: ").trim_start_matches("tip: ").to_string())
        .collect();
    paragraphs.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> String {
        match read(words.split(' ').map(OsString::from)) {
            Err(failure @ Failure::Usage(_)) => failure.line(),
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_one_line_with_what_was_meant() {
        assert_eq!(
            refused("posenc compare --step 3"),
            "unexpected argument '--step' found; a similar argument exists: '--steps'; `posenc compare --help` says what can be asked"
        );
        assert_eq!(
            refused("posenc compare --steps x"),
            "invalid value 'x' for '--steps <N>': invalid digit found in string; `posenc compare --help` says what can be asked"
        );
        let line = refused("posenc compair");
        assert!(
            line.contains("'compair'") && line.contains("'compare'") && line.contains("`posenc --help`"),
            "{line}"
        );
    }

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal_and_explains_every_option() {
        let mut all = Arguments::command();
        all.build();
        for command in all.get_subcommands_mut() {
            let name = command.get_name().to_string();
            for (kind, help) in [("-h", command.render_help()), ("--help", command.render_long_help())] {
                for line in help.to_string().lines() {
                    assert!(
                        line.chars().count() <= 120,
                        "{name} {kind}: {} columns: {line}",
                        line.chars().count()
                    );
                }
            }
            for argument in command.get_arguments() {
                let help = argument
                    .get_help()
                    .unwrap_or_else(|| panic!("{name}: no help for {}", argument.get_id()));
                assert!(
                    !help.to_string().ends_with('.'),
                    "{name}: {help}: the first line of a help has no full stop"
                );
            }
        }
    }
}
