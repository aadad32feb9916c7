//! Speed of the layers on one core: `cargo run --release -p posenc-nn --example speed`. Each line is the median of 15 rounds with its range.

use posenc::{Params, Rng};
use posenc_nn::*;
use std::hint::black_box;
use std::time::Instant;

/// Seconds of one call: (smallest, median, largest) of 15 rounds of about 10 ms.
fn time(mut call: impl FnMut()) -> (f64, f64, f64) {
    let start = Instant::now();
    call();
    let calls = (0.01 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1e6) as usize;
    let mut rounds: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_secs_f64() / calls as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[0], rounds[7], rounds[14])
}

fn product(m: usize, k: usize, n: usize, at: bool, bt: bool) {
    let (a, b, mut c) = (random(m * k), random(k * n), vec![0.0f32; m * n]);
    let matrix = |x, rows, cols, t| {
        if t {
            Matrix::new(x, cols, rows).unwrap().t()
        } else {
            Matrix::new(x, rows, cols).unwrap()
        }
    };
    let (low, mid, high) = time(|| {
        let c = MatrixMut::new(&mut c, m, n).unwrap();
        matmul(1.0, black_box(matrix(&a, m, k, at)), matrix(&b, k, n, bt), 0.0, c).unwrap();
    });
    let rate = |t: f64| 2.0 * (m * k * n) as f64 / t / 1e9;
    println!(
        "matmul {m}×{k}×{n} {at:5} {bt:5}   {:6.1} GFLOP/s ({:.1}–{:.1})",
        rate(mid),
        rate(high),
        rate(low)
    );
}

fn random(n: usize) -> Vec<f32> {
    let mut rng = Rng::new(n as u64);
    (0..n).map(|_| rng.normal() as f32).collect()
}

fn line(name: &str, elements: usize, (low, mid, high): (f64, f64, f64)) {
    let ns = |t: f64| t * 1e9 / elements as f64;
    println!("{name:34} {:6.3} ns per element ({:.3}–{:.3})", ns(mid), ns(low), ns(high));
}

fn main() {
    for (m, k, n) in [
        (512, 64, 256),
        (512, 256, 64),
        (512, 128, 512),
        (4096, 128, 384),
        (1024, 1024, 1024),
    ] {
        product(m, k, n, false, false);
        product(m, k, n, false, true);
    }
    for (m, k, n) in [(256, 512, 64), (384, 4096, 128), (128, 256, 384)] {
        product(m, k, n, true, false);
    }

    let (n, dim) = (512, 256);
    let x = random(n * dim);
    let (mut y, mut d) = (vec![0.0f32; n * dim], random(n * dim));
    // Applied again and again an adjoint in place shrinks its gradient to subnormal numbers: it is refreshed, and that copy is timed too.
    let fresh = d.clone();
    for gelu in [Gelu::Exact, Gelu::Tanh] {
        let forward = time(|| gelu.forward(black_box(&x), &mut y).unwrap());
        line(&format!("gelu {gelu:?} forward"), n * dim, forward);
        let adjoint = time(|| {
            d.copy_from_slice(&fresh);
            gelu.adjoint(black_box(&x), &mut d).unwrap();
        });
        line(&format!("gelu {gelu:?} adjoint (+ copy)"), n * dim, adjoint);
    }
    for dim in [64, 256] {
        let norm = LayerNorm::new("ln", dim);
        let params: Params<f32> = Params::init(&norm.specs(), 1).unwrap();
        let mut grads = params.zeros_like();
        line(
            &format!("layer norm {dim} forward"),
            x.len(),
            time(|| norm.forward(&params, black_box(&x), &mut y).unwrap()),
        );
        line(
            &format!("layer norm {dim} adjoint (+ copy)"),
            x.len(),
            time(|| {
                d.copy_from_slice(&fresh);
                norm.adjoint(&params, black_box(&x), &mut d, &mut grads).unwrap();
            }),
        );
    }
    for vocab in [256, 8192] {
        let n = x.len() / vocab;
        let targets: Vec<u16> = (0..n).map(|i| (i * 7 % vocab) as u16).collect();
        let mut losses = vec![0.0f32; n];
        line(
            &format!("cross-entropy {vocab} value"),
            x.len(),
            time(|| {
                black_box(cross_entropy(black_box(&x), vocab, &targets, &mut losses).unwrap());
            }),
        );
        line(
            &format!("cross-entropy {vocab} adjoint (+ copy)"),
            x.len(),
            time(|| {
                y.copy_from_slice(&x);
                cross_entropy_adjoint(black_box(&mut y), vocab, &targets, 0.01, &mut losses).unwrap();
            }),
        );
    }
    let table = Embedding::new("w", 1000, 1000);
    let mut params: Params<f32> = Params::init(&table.specs(), 1).unwrap();
    let mut grads: Params<f32> = Params::init(&table.specs(), 2).unwrap();
    let mut optimiser = AdamW::new(&params, AdamWSettings::default()).unwrap();
    line("AdamW", 1_000_000, time(|| optimiser.step(&mut params, &grads, 1e-4).unwrap()));
    let clipping = time(|| {
        black_box(clip_norm(&mut grads, 1e9));
    });
    line("clip_norm", 1_000_000, clipping);
}
