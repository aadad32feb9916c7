//! The options of `posenc extend`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use posenc::Language;

/// Write a model's config.json for longer texts: the keys of a rotary scaling, every other byte as it is
///
/// The new file goes to stdout, or to --out; what changed, before and after, to stderr with --report. Keys go where
/// the file's own rotary settings stand; layers with a window stay as they are where the model's class can tell
/// them apart. What was written is read again before it is shown. `posenc explain` says what a file does.
///
/// A file that is scaled already is refused, unless --replace: then the new scaling is laid over the length before it.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Methods:
  yarn      fast pairs stay, slow ones are slowed, scores grow a little; works without training, better with some
  linear    every pair is slowed by the factor; needs fine-tuning
  dynamic   nothing changes up to the trained length; past it frequencies change with every token
  ntk       a larger base; a small factor works without training
  llama3    Llama 3's bands (1 and 4 unless said otherwise); meant for continued training
  longrope  a divisor for each pair, from --short-factors and --long-factors, or from the file

Examples:
  posenc extend config.json --to 131072 --method yarn --report
  posenc extend config.json --to 131072 --method yarn --out longer/config.json
  posenc extend config.json --to 65536 --method linear --replace --json"
)]
pub struct ExtendArguments {
    /// A model's config.json, or a folder with one
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Tokens that it shall read
    #[arg(long, value_name = "N", value_parser = super::token_count, allow_negative_numbers = true)]
    pub to: usize,

    /// How its frequencies are scaled: yarn, linear, dynamic, ntk, llama3 or longrope
    #[arg(long, value_name = "METHOD", hide_possible_values = true)]
    pub method: MethodName,

    /// Tokens that it was trained on before any scaling [default: what the file says]
    #[arg(long, value_name = "N", value_parser = super::token_count, allow_negative_numbers = true)]
    pub original: Option<usize>,

    /// By how much frequencies are scaled [default: --to over the original length]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub factor: Option<f64>,

    /// Put the new scaling in the place of the one that the file has
    #[arg(long)]
    pub replace: bool,

    /// llama3: wavelengths above the original length over this are scaled
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub low_freq_factor: Option<f64>,

    /// llama3: wavelengths below the original length over this stay
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub high_freq_factor: Option<f64>,

    /// longrope: a file with a number for each pair, as a JSON list or apart by spaces
    #[arg(long, value_name = "FILE")]
    pub short_factors: Option<PathBuf>,

    /// longrope: the same for texts past the original length
    #[arg(long, value_name = "FILE")]
    pub long_factors: Option<PathBuf>,

    /// Write the new file here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace what stands at --out
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Say on stderr what changed
    #[arg(long)]
    pub report: bool,

    /// List contradictions in the file as warnings instead of refusing them
    #[arg(long)]
    pub lenient: bool,

    /// Language of the report: en or zh
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English, value_parser = super::language)]
    pub lang: Language,

    /// Print JSON: the new file as an object, and before and after
    #[arg(long)]
    pub json: bool,
}

/// The methods by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodName {
    Yarn,
    Linear,
    Dynamic,
    Ntk,
    Llama3,
    #[value(alias = "su")]
    Longrope,
}
