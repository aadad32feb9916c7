//! Three models of candle-transformers as they are published and with posenc-candle's rotation, side by side on random weights. `--help` says what is printed.
#![deny(unsafe_code)]

mod measure;
mod models;
mod turned;
mod weights;

use candle_core::Result;
use measure::{FAR, Prompt};
use models::Model;
use std::process::ExitCode;

const HELP: &str = "\
Llama, Qwen2 and Gemma 3 of candle-transformers beside the same with posenc-candle's rotation, on random weights.

  adapters/swaps/run [--whole] [llama] [qwen2] [gemma3]

  --whole   the cache before position 4096 is that of all 4096 tokens, not of the last 64 (some minutes)
  names     these models alone

Ends with 0 if all that is asked for holds, with 1 if something does not, with 2 if nothing could be run.
";

/// A swapped model's error may be this share of the original's.
const GOAL: f64 = 0.25;

fn main() -> ExitCode {
    let mut chosen = Vec::new();
    let mut far = Prompt::Far;
    for argument in std::env::args().skip(1) {
        match (argument.as_str(), Model::ALL.into_iter().find(|model| model.name() == argument)) {
            (_, Some(model)) => chosen.push(model),
            ("--whole", _) => far = Prompt::Whole,
            ("--help" | "-h", _) => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("swaps: given '{argument}'; expected llama, qwen2, gemma3, --whole or --help");
                return ExitCode::from(2);
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(Model::ALL);
    }
    match run(&chosen, far) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("swaps: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all that is asked for holds.
fn run(chosen: &[Model], far: Prompt) -> Result<bool> {
    let mut all = true;
    let mut verdict = |holds: bool| {
        all &= holds;
        if holds { "holds" } else { "DOES NOT HOLD" }
    };

    println!("Logits in f32, original beside swapped: the greatest difference");
    println!("{:<8} {:>8} {:>10} {:>10}", "model", "position", "apart", "allowed");
    for &model in chosen {
        for prompt in [Prompt::Near, far] {
            let [apart, allowed] = measure::in_f32(model, prompt)?;
            let verdict = verdict(apart <= allowed);
            println!("{:<8} {:>8} {apart:>10.1e} {allowed:>10.1e}  {verdict}", model.name(), prompt.end());
        }
    }

    println!("\nIn bf16 at position {FAR}: the greatest error against f64");
    println!("{:<8} {:<15} {:>10} {:>10} {:>9}", "model", "of", "original", "swapped", "share");
    for &model in chosen {
        for (of, [original, swapped], asked) in [
            ("turned q and k", turned::errors(model, FAR)?, true),
            // Llama's angles are f32 already: its error is that of the rest of the model in bf16, the same in both. No rotation takes three quarters of it away.
            ("logits", measure::in_bf16(model, far)?, model != Model::Llama),
        ] {
            let share = swapped / original;
            let verdict = match asked {
                true => verdict(share <= GOAL),
                false if share <= GOAL => "holds",
                false => "not reached (not counted: README.md)",
            };
            let name = model.name();
            println!("{name:<8} {of:<15} {original:>10.1e} {swapped:>10.1e} {share:>9.1e}  {verdict}");
        }
    }
    Ok(all)
}
