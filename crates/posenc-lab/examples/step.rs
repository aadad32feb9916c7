//! One training step of the small GPT of `posenc compare`: the peer of `bench/gpt_step.py`.
//!
//! ```text
//! cargo run --release -p posenc-lab --example step
//! RAYON_NUM_THREADS=1 cargo run --release -p posenc-lab --example step
//! ```

use posenc::{Alibi, Attention, Encoding, Learned, Pairing, Rotary};
use posenc_lab::model::Gpt;
use posenc_lab::results::{ModelConfig, TrainingConfig};
use posenc_lab::trainer::Trainer;
use std::time::Instant;

const STEPS: usize = 200;

fn main() -> Result<(), posenc_lab::LabError> {
    let model = ModelConfig {
        layers: 2,
        model_dim: 64,
        heads: 4,
        mlp_dim: 256,
    };
    let training = TrainingConfig {
        length: 64,
        batch: 32,
        steps: STEPS + 20,
        steps_from: "given".into(),
        learning_rate: 3e-3,
        weight_decay: 0.01,
        betas: [0.9, 0.95],
        warmup: 0.05,
        clip: 1.0,
    };
    let text: Vec<u16> = (0..1_000_000u64).map(|i| (posenc::rng::split_mix(i) % 80) as u16).collect();
    let encodings: [(&str, Encoding); 4] = [
        ("none", Encoding::none()),
        ("learned", Learned::new(64).into()),
        ("rotary", Rotary::new(Pairing::Halves).into()),
        ("alibi", Alibi::new().into()),
    ];
    for (name, encoding) in encodings {
        let model = Gpt::new(&model, 80, &encoding, Attention::default(), 1.0)?;
        let mut trainer: Trainer<'_> = Trainer::new(&model, &training, &text, 1)?;
        let mut times = Vec::new();
        for _ in 0..STEPS + 20 {
            let begin = Instant::now();
            trainer.step()?;
            times.push(1e3 * begin.elapsed().as_secs_f64());
        }
        let mut times = times.split_off(20);
        times.sort_by(f64::total_cmp);
        println!(
            "posenc-lab, {name}, {} threads: median {:.1} ms a step ({:.1} to {:.1}, tenth to ninetieth percentile of {STEPS})",
            rayon::current_num_threads(),
            times[STEPS / 2],
            times[STEPS / 10],
            times[STEPS * 9 / 10],
        );
    }
    Ok(())
}
