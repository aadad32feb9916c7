//! The options of `posenc list`.

use clap::Args;
use posenc::Language;

/// Show every method: where it acts, what it costs, where it ends, who uses it, and how it does past its trained length
///
/// Whether a method works on longer sequences than it was trained on is answered twice: by what the documents
/// say that this project began with, and by what a comparison measured whose results are in the repository.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc list
  posenc list rotary alibi
  posenc list --lang zh
  posenc list --json | jq -r '.[] | [.name, .limit.en] | @tsv'"
)]
pub struct ListArguments {
    /// Only these, in full
    #[arg(value_name = "ENCODING")]
    pub encodings: Vec<String>,

    /// Language of the text: en or zh
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English, value_parser = super::language)]
    pub lang: Language,

    /// Print JSON, in both languages
    #[arg(long)]
    pub json: bool,
}
