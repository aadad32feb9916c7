//! One training step of the small GPT of `posenc compare`: the peer of `bench/gpt_step.py`, at its two sizes. The products of its linear layers and of its head run in turn with
//! it, by themselves and cut as the trainer cuts them: the ratio says how far a step is from what they alone would take.
//!
//! ```text
//! cargo run --release -p posenc-lab --example step [pilot|small [none|learned|rotary|alibi [STEPS]]]
//! RAYON_NUM_THREADS=1 cargo run --release -p posenc-lab --example step small rotary 40
//! ```

use posenc::{Alibi, Attention, Encoding, Learned, Pairing, Rotary};
use posenc_lab::model::Gpt;
use posenc_lab::results::{ModelConfig, TrainingConfig};
use posenc_lab::trainer::Trainer;
use posenc_nn::{Error, Matrix, MatrixMut, matmul};
use rayon::prelude::*;
use std::time::Instant;

/// Tokens of a micro-batch, as the trainer's.
const MICRO_BATCH: usize = 512;

/// The products of a step: of each linear layer x·Wᵀ, dy·W and dyᵀ·x, for each micro-batch with a gradient of its own.
struct Products {
    /// `[out, in]` of each layer.
    shapes: Vec<[usize; 2]>,
    workers: Vec<[Vec<f32>; 5]>,
}

impl Products {
    fn new(model: &ModelConfig, vocabulary: usize, tokens: usize) -> Products {
        let (d, hidden) = (model.model_dim, model.mlp_dim);
        let layer = [[d, d], [d, d], [d, d], [d, d], [hidden, d], [d, hidden]];
        let shapes: Vec<[usize; 2]> = (0..model.layers).flat_map(|_| layer).chain([[vocabulary, d]]).collect();
        let widest = hidden.max(vocabulary) * MICRO_BATCH;
        let weights = shapes.iter().map(|[out, of]| out * of).sum();
        let buffers = || {
            [
                vec![0.5; widest],
                vec![0.5; widest],
                vec![0.5; widest],
                vec![0.5; weights],
                vec![0.0; weights],
            ]
        };
        Products {
            shapes,
            workers: (0..tokens.div_ceil(MICRO_BATCH)).map(|_| buffers()).collect(),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        let shapes = &self.shapes;
        self.workers.par_iter_mut().try_for_each(|[x, y, dx, weights, grads]| {
            let mut start = 0;
            for &[out, of] in shapes {
                let (n, here) = (MICRO_BATCH, start..start + out * of);
                start = here.end;
                let (w, dw) = (
                    Matrix::new(&weights[here.clone()], out, of)?,
                    MatrixMut::new(&mut grads[here], out, of)?,
                );
                matmul(
                    1.0,
                    Matrix::new(&x[..n * of], n, of)?,
                    w.t(),
                    0.0,
                    MatrixMut::new(&mut y[..n * out], n, out)?,
                )?;
                let dy = Matrix::new(&y[..n * out], n, out)?;
                matmul(1.0, dy, w, 0.0, MatrixMut::new(&mut dx[..n * of], n, of)?)?;
                matmul(1.0, dy.t(), Matrix::new(&x[..n * of], n, of)?, 0.0, dw)?;
            }
            Ok(())
        })
    }
}

fn main() -> Result<(), posenc_lab::LabError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let small = arg(0) == Some("small");
    let (size, vocabulary, length, batch) = if small { ("small", 256, 256, 16) } else { ("pilot", 80, 64, 32) };
    let steps: usize = arg(2).map_or(if small { 40 } else { 200 }, |given| given.parse().expect("a number of steps"));
    let model_dim = if small { 128 } else { 64 };
    let sizes = ModelConfig {
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
        let model = Gpt::new(&sizes, vocabulary as usize, &encoding, Attention::default(), 1.0)?;
        let mut trainer: Trainer<'_> = Trainer::new(&model, &training, &text, 1)?;
        let mut products = Products::new(&sizes, vocabulary as usize, length * batch);
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..steps + warm_up {
            let begin = Instant::now();
            trainer.step()?;
            let step = begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            products.run()?;
            times.push(1e3 * step);
            ratios.push(step / begin.elapsed().as_secs_f64());
        }
        let (mut times, mut ratios) = (times.split_off(warm_up), ratios.split_off(warm_up));
        times.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        println!(
            "posenc-lab, {size}, {name}, {} threads: median {:.1} ms a step ({:.1} to {:.1}, tenth to ninetieth percentile of {steps}), {:.2} ({:.2} to {:.2}) × its products",
            rayon::current_num_threads(),
            times[steps / 2],
            times[steps / 10],
            times[steps * 9 / 10],
            ratios[steps / 2],
            ratios[steps / 10],
            ratios[steps * 9 / 10],
        );
    }
    Ok(())
}
