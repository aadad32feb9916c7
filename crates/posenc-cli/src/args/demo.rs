//! The options of `posenc demo`.

use clap::{Args, ValueEnum};
use posenc::Language;

/// Run a demonstration: something that is said about positions, measured on the spot
///
/// Without a name it lists the demonstrations. Each takes a moment, draws everything from one seed, says what was
/// seen, and ends with exit status 1 if that is not what it claims.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc demo
  posenc demo order
  posenc demo rotary-bug --seed 7
  posenc demo rotary-bug --lang zh
  posenc demo order --json | jq -r '.rows[] | [.name, .variant, .outcome.measured.pairs[0].difference] | @tsv'"
)]
pub struct DemoArguments {
    /// Which one
    #[arg(value_name = "DEMO")]
    pub demo: Option<Demo>,

    /// What is random is drawn from this
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Language of the text: en or zh
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English, value_parser = super::language)]
    pub lang: Language,

    /// Print JSON, with every number
    #[arg(long)]
    pub json: bool,
}

/// The demonstrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Demo {
    /// The same words in another order: invisible without an encoding, visible with each
    Order,
    /// Document 003's rotary sample against its own formula, and two ways to repair it
    RotaryBug,
}
