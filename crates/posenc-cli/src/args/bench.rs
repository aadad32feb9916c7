//! The options of `posenc bench`.

use std::path::PathBuf;

use clap::Args;

/// Measure how fast the hooks are on this machine, each against what it can do at best
///
/// A hook moves memory, so its limit is a plain movement of the same bytes: a product by a constant in place, a
/// copy, a fill. Attention computes: its limit is matrix products of as many operations, that of its biases and
/// masks is attention without them. Both run in turn in this process; the ratio is the median of the pairs, with
/// their range. Other work on the machine widens the range. Above them stands how fast the machine moves memory.
/// POSENC_ISA=portable|avx2|avx512 forces an instruction set.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc bench
  posenc bench --only 'rotary halves' --threads 1
  posenc bench --only attention
  posenc bench --growth --plot growth.svg
  POSENC_ISA=avx2 posenc bench --json"
)]
pub struct BenchArguments {
    /// Only works whose name contains this; how fast memory moves is named 'bandwidth', what attention needs of it 'memory'
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,

    /// Numbers of threads to measure with, separated by commas [default: 1, and all cores]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub threads: Vec<usize>,

    /// Pairs of measurements of each work
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub rounds: usize,

    /// Measure some works at lengths from 128 to 131072 and batches from 1 to 64 instead
    #[arg(long)]
    pub growth: bool,

    /// With --growth: draw time per token and ratios into this file (.svg or .png)
    #[arg(long, value_name = "FILE", requires = "growth")]
    pub plot: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
