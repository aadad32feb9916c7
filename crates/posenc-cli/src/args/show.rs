//! The options of `posenc show`.

use std::path::PathBuf;

use clap::Args;

use super::units::List;

/// Write pictures of encodings as SVG and PNG, and their numbers as CSV
///
/// Without a name, lists the pictures. Each is a file of its own that needs nothing else: the SVG follows the
/// viewer's light or dark setting, the PNG is light unless --dark is given, and both are readable in grey.
/// Pictures of an earlier run are replaced; a file that is something else is left alone, and refused.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc show                                           the pictures there are
  posenc show all --out pictures                        every picture that needs no file
  posenc show rotation --csv                            one vector at several positions, and its numbers
  posenc show wavelengths --base 10000,500000 --trained 4096
  posenc show bias-matrix --encoding alibi --heads 4
  posenc show table-similarity --weights model.safetensors --tensor wpe.weight"
)]
pub struct ShowArguments {
    /// Its name, or `all`
    #[arg(value_name = "PICTURE")]
    pub picture: Option<String>,

    /// List the pictures, with the options that each reads
    #[arg(long, conflicts_with = "picture")]
    pub list: bool,

    /// The folder that the files go to; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,

    /// Write the numbers as CSV too
    #[arg(long)]
    pub csv: bool,

    /// Draw the PNG on a dark sheet
    #[arg(long)]
    pub dark: bool,

    #[command(flatten)]
    pub options: PictureOptions,
}

/// What is drawn. Each picture reads some of these, has its own defaults, and refuses the others.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is drawn (`posenc show` says which picture reads what)")]
pub struct PictureOptions {
    /// Positions of the arrows, the first in black, then red, blue, green
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub positions: Option<List<f64>>,

    /// Width of a head; `decay` draws several
    #[arg(long, value_name = "LIST")]
    pub head_dim: Option<List<usize>>,

    /// Width of the sinusoidal table
    #[arg(long, value_name = "N")]
    pub model_dim: Option<usize>,

    /// Base of the frequencies; `wavelengths` draws several
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub base: Option<List<f64>>,

    /// Tokens, or distances, that the axes show
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,

    /// Tokens in a training sequence
    #[arg(long, value_name = "N")]
    pub trained: Option<usize>,

    /// Which bias; all of them if none is named
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,

    /// Attention heads
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,

    /// From which a bias is drawn that would be trained
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// A safetensors file with a learned table
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,

    /// The table's name in it, if it holds several tensors
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub tensor: Option<String>,
}

impl PictureOptions {
    /// The names of those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let all = [
            ("positions", self.positions.is_some()),
            ("head-dim", self.head_dim.is_some()),
            ("model-dim", self.model_dim.is_some()),
            ("base", self.base.is_some()),
            ("length", self.length.is_some()),
            ("trained", self.trained.is_some()),
            ("encoding", self.encoding.is_some()),
            ("heads", self.heads.is_some()),
            ("seed", self.seed.is_some()),
            ("weights", self.weights.is_some()),
            ("tensor", self.tensor.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}
