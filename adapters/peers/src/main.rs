//! posenc's hooks against those of candle and burn: the same work on the same numbers, in turn in one process.
//!
//! What both compute is compared first, within what their roundings explain; then each runs alternately with the other, and what is printed is the median of the paired ratios with their range.
//!
//! ```sh
//! cargo run --release --manifest-path adapters/Cargo.toml -p peers
//! cargo run --release --manifest-path adapters/Cargo.toml -p peers -- --only "on candle"   # posenc-candle's operations on candle's tensors
//! ```

mod addition;
mod attention;
mod bias;
mod compare;
mod on_candle;
mod rotation;
mod tables;

use clap::Parser;
use compare::{Bench, Result};
use posenc_lab::bench::Machine;
use std::process::Command;

/// posenc's hooks against those of candle and burn, pair by pair in this process
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Only rows whose work or peer contains this; "on candle" and what begins so are the operations of posenc-candle, which are measured when asked for
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Numbers of threads, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,

    /// Pairs of measurements of each row
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,

    /// Print tables of Markdown
    #[arg(long)]
    markdown: bool,

    /// Measure in this process, whose environment says how many threads there are
    #[arg(long, hide = true)]
    here: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.here {
        return measure(arguments);
    }
    let Machine { processor, cores, isa, .. } = Machine::this();
    println!(
        "{}: {cores} cores; posenc runs {isa}",
        processor.as_deref().unwrap_or("unknown processor")
    );
    for &threads in &arguments.threads {
        // candle has pools of its own, as large as the environment says when they are first used: so a process for each number of threads.
        let mut process = Command::new(std::env::current_exe()?);
        process.args(["--here", "--rounds"]).arg(arguments.rounds.to_string());
        if let Some(only) = &arguments.only {
            process.args(["--only", only]);
        }
        for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
            process.env(variable, threads.to_string());
        }
        if arguments.markdown {
            process.arg("--markdown");
        }
        let plural = if threads == 1 { "" } else { "s" };
        let heading = if on_candle::asked(arguments.only.as_deref()) {
            on_candle::heading
        } else {
            Bench::heading
        };
        println!("\nOn {threads} thread{plural}\n\n{}", heading(arguments.markdown));
        if !process.status()?.success() {
            return Err(format!("the measurements on {threads} threads stopped").into());
        }
    }
    println!(
        "\nRatio: the peer's time over ours (ours over its where the goal is a ≤), the median of {} pairs (smallest–largest).",
        arguments.rounds
    );
    Ok(())
}

fn measure(
    Arguments {
        only, rounds, markdown, ..
    }: Arguments,
) -> Result<()> {
    let bench = Bench { only, rounds, markdown };
    if on_candle::asked(bench.only.as_deref()) {
        return on_candle::run(&bench);
    }
    rotation::run(&bench)?;
    addition::run(&bench)?;
    bias::run(&bench)?;
    attention::run(&bench)?;
    tables::run(&bench)
}
