//! posenc's hooks against those of candle and burn: the same work on the same numbers, in turn in one process.
//!
//! What both compute is compared first, within what their roundings explain; then each runs alternately with the other, and what is printed is the median of the paired ratios with their range.
//!
//! ```sh
//! cargo run --release --manifest-path adapters/Cargo.toml -p peers
//! ```

mod addition;
mod bias;
mod compare;
mod rotation;
mod tables;

use clap::Parser;
use compare::{Bench, Result};
use posenc_lab::bench::Machine;

/// posenc's hooks against those of candle and burn, pair by pair in this process
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Only rows whose work or peer contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Numbers of threads, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,

    /// Pairs of measurements of each row
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Machine { processor, cores, isa, .. } = Machine::this();
    println!(
        "{}: {cores} cores; posenc runs {isa}",
        processor.as_deref().unwrap_or("unknown processor")
    );
    for &threads in &arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        println!("\nOn {threads} thread{}\n{}", if threads == 1 { "" } else { "s" }, Bench::heading());
        let bench = Bench {
            only: arguments.only.clone(),
            rounds: arguments.rounds,
        };
        // Both libraries run in the pool that calls them.
        pool.install(|| -> Result<()> {
            rotation::run(&bench)?;
            addition::run(&bench)?;
            bias::run(&bench)?;
            tables::run(&bench)
        })?;
    }
    println!(
        "\nRatio: the peer's time over ours, the median of {} pairs (smallest–largest).",
        arguments.rounds
    );
    Ok(())
}
