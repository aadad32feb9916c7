//! The options of `posenc explain`.

use std::path::PathBuf;

use clap::Args;
use posenc::Language;

/// Say what an encoding, or a model's own file, does with sequences of some length, and why
///
/// ENCODING: a model was trained with sequences of one length and is given a longer one: does it run, what does it
/// meet that training never showed it, what may one expect of its loss, what can one do? Whether it runs is found by
/// asking the encoding, what is new is counted, and what to expect names the measurements that it rests on.
///
/// FILE: a model's config.json (or a folder with one), a GGUF file, Meta's or Mistral's params.json: what each layer
/// does with positions, where each value comes from, how many tokens a turn takes, which pairs never complete one,
/// and what is new at --length. What exists as a file, has a / in it or ends in .json or .gguf is a file; write
/// ./rotary for a file of an encoding's name.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc explain rotary --trained 2048 --length 3000
  posenc explain --all --trained 2048 --length 3000
  posenc explain learned+alibi --trained 512 --length 1024 --json
  posenc explain rotary --formula --lang zh
  posenc explain config.json
  posenc explain config.json --length 131072 --plot wavelengths.png"
)]
pub struct ExplainArguments {
    /// A name that `posenc list` prints (joined by + they act side by side), or a model's file
    #[arg(value_name = "ENCODING|FILE", required_unless_present = "all")]
    pub subject: Option<PathBuf>,

    /// Every encoding, in a table
    #[arg(long, conflicts_with = "subject")]
    pub all: bool,

    /// Tokens in a training sequence; a file says it itself [default: 2048]
    #[arg(long, value_name = "N", value_parser = super::token_count, allow_negative_numbers = true)]
    pub trained: Option<usize>,

    /// Tokens in the sequence that is given [default: 3000; for a file, what it provides for]
    #[arg(long, value_name = "N", value_parser = super::token_count, allow_negative_numbers = true)]
    pub length: Option<usize>,

    /// Width of the model; a file says it itself [default: 1024]
    #[arg(long, value_name = "N")]
    pub model_dim: Option<usize>,

    /// Attention heads; they split the width evenly; a file says it itself [default: 16]
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,

    /// Print the formulas of an encoding instead
    #[arg(long)]
    pub formula: bool,

    /// For a file: draw its wavelengths against its lengths, as SVG or PNG by the name's ending
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// For a file: list contradictions as warnings instead of refusing them
    #[arg(long)]
    pub lenient: bool,

    /// Language of the text: en or zh
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English, value_parser = super::language)]
    pub lang: Language,

    /// Print JSON; explanations are in both languages
    #[arg(long)]
    pub json: bool,
}
