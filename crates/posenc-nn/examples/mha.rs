//! `MultiheadAttention` on `[8, 256, 512]` with 8 heads: the peer of `bench/mha.py`. The same products alone run in turn with it, so that the ratio says how much of the time they are.
//!
//! ```text
//! cargo run --release -p posenc-nn --features rayon --example mha [ROUNDS]
//! RAYON_NUM_THREADS=1 cargo run --release -p posenc-nn --features rayon --example mha
//! ```

use posenc::{Dims, Encoding, Mask, Mode, Params, Positions, Rng};
use posenc_nn::{AttentionTrace, Error, Matrix, MatrixMut, MultiheadAttention, StreamGrads, Streams, matmul};
use std::time::Instant;

const BATCH: usize = 8;
const LENGTH: usize = 256;
const WIDTH: usize = 512;
const HEADS: usize = 8;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal() as f32).collect()
}

/// Products of the projections: `x·Wᵀ` of a width four times, and with `adjoint` `dy·W` and `dyᵀ·x` as often.
fn products(x: &[f32], w: &[f32], y: &mut [f32], dw: &mut [f32], adjoint: bool) -> Result<(), Error> {
    let n = BATCH * LENGTH;
    for _ in 0..4 {
        let (x, w) = (Matrix::new(x, n, WIDTH)?, Matrix::new(w, WIDTH, WIDTH)?);
        matmul(1.0, x, w.t(), 0.0, MatrixMut::new(y, n, WIDTH)?)?;
        if adjoint {
            matmul(1.0, x, w, 0.0, MatrixMut::new(y, n, WIDTH)?)?;
            matmul(1.0, x.t(), x, 1.0, MatrixMut::new(dw, WIDTH, WIDTH)?)?;
        }
    }
    Ok(())
}

fn report(name: &str, threads: &str, mut rounds: Vec<[f64; 2]>) {
    let mut ratios: Vec<f64> = rounds.iter().map(|[all, products]| all / products).collect();
    ratios.sort_by(f64::total_cmp);
    rounds.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let n = rounds.len();
    println!(
        "posenc-nn, {threads} threads, {name}: median {:.1} ms ({:.1} to {:.1}, tenth to ninetieth percentile of {n}), {:.2} ({:.2} to {:.2}) × its projections' products",
        rounds[n / 2][0],
        rounds[n / 10][0],
        rounds[n * 9 / 10][0],
        ratios[n / 2],
        ratios[n / 10],
        ratios[n * 9 / 10],
    );
}

fn main() -> Result<(), Error> {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(30, |given| given.parse().expect("a number of rounds"));
    let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| "all".into());
    let attention = MultiheadAttention::new("attention", WIDTH, Dims::new(WIDTH, HEADS)?);
    let params: Params<f32> = Params::init(&attention.specs(), 1)?;
    let plan = Encoding::none().plan(attention.dims)?;
    let (none, at) = (plan.init::<f32>(0)?, Positions::range(0..LENGTH as i64));
    let call = plan.call(&none, &at, &at)?;
    let size = BATCH * LENGTH * WIDTH;
    let (x, d_out, w) = (random(size, 1), random(size, 2), random(WIDTH * WIDTH, 3));
    let (mut out, mut dx, mut dw) = (vec![0.0f32; size], vec![0.0f32; size], vec![0.0f32; WIDTH * WIDTH]);
    let (mut grads, mut trace) = (params.zeros_like(), AttentionTrace::default());
    for adjoint in [false, true] {
        let mut times = Vec::new();
        for _ in 0..rounds + 3 {
            let begin = Instant::now();
            let (mask, mode) = (Mask::none(), Mode::Evaluate);
            attention.forward(&params, &call, Streams::Same(&x), &mask, mode, &mut out, None, &mut trace)?;
            if adjoint {
                grads.flat_mut().fill(0.0);
                let (streams, into) = (Streams::Same(&x), StreamGrads::Same(&mut dx));
                attention.adjoint(&params, &call, streams, &mask, mode, &d_out, into, &mut grads, &mut trace)?;
            }
            let all = 1e3 * begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            products(&x, &w, &mut out, &mut dw, adjoint)?;
            times.push([all, 1e3 * begin.elapsed().as_secs_f64()]);
        }
        report(if adjoint { "forward + backward" } else { "forward" }, &threads, times.split_off(3));
    }
    Ok(())
}
