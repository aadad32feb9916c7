//! The options of `posenc explain`.

use clap::Args;
use posenc::Language;

/// Say what an encoding does with sequences longer than it was trained on, and why
///
/// A model was trained with sequences of one length and is given a longer one: does it run, what does it meet
/// that training never showed it, what may one expect of its loss, what can one do? Whether it runs is found by
/// asking the encoding, what is new is counted, and what to expect names the measurements that it rests on.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc explain rotary --trained 2048 --length 3000
  posenc explain --all --trained 2048 --length 3000
  posenc explain learned+alibi --trained 512 --length 1024 --json
  posenc explain rotary --formula --lang zh"
)]
pub struct ExplainArguments {
    /// Its name, as `posenc list` prints it; names joined by + act side by side
    #[arg(value_name = "ENCODING", required_unless_present = "all")]
    pub encoding: Option<String>,

    /// Every encoding, in a table
    #[arg(long, conflicts_with = "encoding")]
    pub all: bool,

    /// Tokens in a training sequence
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub trained: usize,

    /// Tokens in the sequence that is given
    #[arg(long, value_name = "N", default_value_t = 3000)]
    pub length: usize,

    /// Width of the model
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub model_dim: usize,

    /// Attention heads; they split the width evenly
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub heads: usize,

    /// Print the formulas instead
    #[arg(long)]
    pub formula: bool,

    /// Language of the text: en or zh
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English, value_parser = super::language)]
    pub lang: Language,

    /// Print JSON; explanations are in both languages
    #[arg(long)]
    pub json: bool,
}
