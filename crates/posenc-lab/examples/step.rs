//! One training step of the small GPT of `posenc compare`: the peer of `bench/gpt_step.py`, at its two sizes.
//!
//! ```text
//! cargo run --release -p posenc-lab --example step [pilot|small [none|learned|rotary|alibi [STEPS]]]
//! RAYON_NUM_THREADS=1 cargo run --release -p posenc-lab --example step small rotary 40
//! ```

use posenc::{Alibi, Attention, Encoding, Learned, Pairing, Rotary};
use posenc_lab::model::Gpt;
use posenc_lab::results::{ModelConfig, TrainingConfig};
use posenc_lab::trainer::Trainer;
use std::time::Instant;

fn main() -> Result<(), posenc_lab::LabError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let small = arg(0) == Some("small");
    let (size, vocabulary, length, batch) = if small { ("small", 256, 256, 16) } else { ("pilot", 80, 64, 32) };
    let steps: usize = arg(2).map_or(if small { 40 } else { 200 }, |given| given.parse().expect("a number of steps"));
    let model_dim = if small { 128 } else { 64 };
    let model = ModelConfig {
        layers: if small { 4 } else { 2 },
        model_dim,
        heads: 4,
        mlp_dim: 4 * model_dim,
    };
    let warm_up = (steps / 10).max(5);
    let training = TrainingConfig {
        length,
        batch,
        steps: steps + warm_up,
        steps_from: "given".into(),
        learning_rate: 3e-3,
        weight_decay: 0.01,
        betas: [0.9, 0.95],
        warmup: 0.05,
        clip: 1.0,
    };
    let text: Vec<u16> = (0..1_000_000u64).map(|i| (posenc::rng::split_mix(i) % vocabulary) as u16).collect();
    let encodings: [(&str, Encoding); 4] = [
        ("none", Encoding::none()),
        ("learned", Learned::new(length).into()),
        ("rotary", Rotary::new(Pairing::Halves).into()),
        ("alibi", Alibi::new().into()),
    ];
    for (name, encoding) in encodings.into_iter().filter(|(name, _)| arg(1).is_none_or(|only| only == *name)) {
        let model = Gpt::new(&model, vocabulary as usize, &encoding, Attention::default(), 1.0)?;
        let mut trainer: Trainer<'_> = Trainer::new(&model, &training, &text, 1)?;
        let mut times = Vec::new();
        for _ in 0..steps + warm_up {
            let begin = Instant::now();
            trainer.step()?;
            times.push(1e3 * begin.elapsed().as_secs_f64());
        }
        let mut times = times.split_off(warm_up);
        times.sort_by(f64::total_cmp);
        println!(
            "posenc-lab, {size}, {name}, {} threads: median {:.1} ms a step ({:.1} to {:.1}, tenth to ninetieth percentile of {steps})",
            rayon::current_num_threads(),
            times[steps / 2],
            times[steps / 10],
            times[steps * 9 / 10],
        );
    }
    Ok(())
}
