//! The operations against candle's own on the same tensors, in turn in one process: medians of the paired ratios, with their range. Threads are those of `RAYON_NUM_THREADS` and
//! `CANDLE_NUM_THREADS`, which candle reads once: run it anew for each.
//!
//! ```sh
//! RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1 cargo run --release --manifest-path adapters/Cargo.toml -p posenc-candle --example speed
//! ```

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ops::{softmax, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_slow};
use half::bf16;
use posenc::{Alibi, Attention, Dims, Mode, Pairing, Positions, Rotary, Rotation, Side, Turn, ViewMut};
use posenc_candle::{Call, Mask};
use std::hint::black_box;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Seconds of each run, in turn.
fn paired(rounds: usize, mut theirs: impl FnMut() -> Result<()>, mut ours: impl FnMut() -> Result<()>) -> Result<[Vec<f64>; 2]> {
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..rounds + 1 {
        let start = Instant::now();
        theirs()?;
        let middle = Instant::now();
        ours()?;
        // The first warms up.
        if round > 0 {
            seconds[0].push((middle - start).as_secs_f64());
            seconds[1].push(middle.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}

fn median(numbers: &[f64]) -> [f64; 3] {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1]]
}

/// A line: `baseline` seconds of both are taken off.
fn print(what: &str, seconds: &[Vec<f64>; 2], baseline: f64) {
    let net = seconds
        .each_ref()
        .map(|all| all.iter().map(|s| (s - baseline).max(1e-9)).collect::<Vec<_>>());
    let ratios: Vec<f64> = net[0].iter().zip(&net[1]).map(|(theirs, ours)| theirs / ours).collect();
    let ([theirs, ..], [ours, ..], [ratio, low, high]) = (median(&net[0]), median(&net[1]), median(&ratios));
    println!(
        "{what:<56} {:>9.2} ms {:>9.2} ms   {ratio:.2} ({low:.2}–{high:.2})",
        theirs * 1e3,
        ours * 1e3
    );
}

fn numbers(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 37 % 255) as f32 / 127.0 - 1.0).collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

fn rotation(rounds: usize) -> Result<()> {
    let shape @ [_, heads, len, width] = [1, 32, 2048, 128];
    let at = Positions::range(0..len as i64);
    let plan = posenc::Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(heads * width, heads)?)?;
    let call = Call::new(&plan, &at)?;
    let core: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(width, &at)?;
    for dtype in [DType::F32, DType::BF16] {
        let x = numbers(&shape, dtype)?;
        let table = |row: fn(&Rotation<f32>, usize, usize) -> &[f32]| -> Result<Tensor> {
            let all: Vec<f32> = (0..len).flat_map(|t| row(&core, 0, t)).copied().collect();
            Ok(Tensor::from_vec(all, (len, width / 2), &Device::Cpu)?.to_dtype(dtype)?)
        };
        let (cos, sin) = (table(Rotation::cos)?, table(Rotation::sin)?);
        let own = x.copy()?;
        let theirs = || -> Result<()> {
            black_box(rope(&x, &cos, &sin)?);
            Ok(())
        };
        let in_place = || Ok(call.rotate_in_place(Side::Query, &own)?);
        print(
            &format!("rope / rotate_in_place, {dtype:?}"),
            &paired(rounds, theirs, in_place)?,
            0.0,
        );
        let new = || -> Result<()> {
            black_box(call.rotate(Side::Query, &x)?);
            Ok(())
        };
        print(&format!("rope / rotate, {dtype:?}"), &paired(rounds, theirs, new)?, 0.0);
        let copy = || -> Result<()> {
            black_box(x.copy()?);
            Ok(())
        };
        print(
            &format!("memcpy into new memory / rotate, {dtype:?}"),
            &paired(rounds, copy, new)?,
            0.0,
        );
        let mut singles = vec![1f32; x.elem_count()];
        let mut halves = vec![bf16::ONE; x.elem_count()];
        let core_in_place = || -> Result<()> {
            match dtype {
                DType::F32 => core.apply(Turn::Forward, ViewMut::new(&mut singles, shape)?)?,
                _ => core.apply(Turn::Forward, ViewMut::new(&mut halves, shape)?)?,
            }
            Ok(())
        };
        print(
            &format!("the core in place / rotate_in_place, {dtype:?}"),
            &paired(rounds, core_in_place, in_place)?,
            0.0,
        );
    }
    let (x, weight) = (Var::from_tensor(&numbers(&shape, DType::F32)?)?, numbers(&shape, DType::F32)?);
    let cos = Tensor::ones((len, width / 2), DType::F32, &Device::Cpu)?;
    let through = |turned: Tensor| -> Result<()> {
        black_box((turned * &weight)?.sum_all()?.backward()?);
        Ok(())
    };
    let around = paired(rounds, || through(x.as_tensor().clone()), || Ok(()))?;
    let [baseline, ..] = median(&around[0]);
    let both = paired(
        rounds,
        || through(rope_slow(&x, &cos, &cos)?),
        || through(call.rotate(Side::Query, &x)?),
    )?;
    print("rope_slow / rotate, forward and backward, net, F32", &both, baseline);
    print("the same with the graph around them, F32", &both, 0.0);
    Ok(())
}

fn attention(rounds: usize) -> Result<()> {
    let shape @ [_, heads, len, width] = [1, 16, 2048, 64];
    let at = Positions::range(0..len as i64);
    let plan = posenc::Encoding::from(Alibi::new()).plan(Dims::new(heads * width, heads)?)?;
    let call = Call::new(&plan, &at)?;
    let bias = call.bias(DType::F32, &Device::Cpu)?;
    let x = numbers(&shape, DType::F32)?;
    let naive = |q: &Tensor, trains: bool| -> Result<Tensor> {
        let scores = (q.matmul(&q.t()?)? * (1.0 / (width as f64).sqrt()))?.broadcast_add(&bias)?;
        // The fast softmax has no gradient.
        let weights = if trains { softmax(&scores, 3)? } else { softmax_last_dim(&scores)? };
        Ok(weights.matmul(q)?)
    };
    let fused = |q: &Tensor| call.attend(&Attention::default(), q, q, q, &Mask::none(), Mode::Evaluate);
    let forward = paired(
        rounds,
        || {
            black_box(naive(&x, false)?);
            Ok(())
        },
        || {
            black_box(fused(&x)?);
            Ok(())
        },
    )?;
    print("naive attention with a bias / attend, forward, F32", &forward, 0.0);
    let q = Var::from_tensor(&x)?;
    let both = paired(
        rounds.min(5),
        || {
            black_box(naive(&q, true)?.sum_all()?.backward()?);
            Ok(())
        },
        || {
            black_box(fused(&q)?.sum_all()?.backward()?);
            Ok(())
        },
    )?;
    print("the same, forward and backward, F32", &both, 0.0);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let wants = |what: &str| arguments.len() < 2 || arguments[1..].iter().any(|argument| argument == what);
    println!("{:<56} {:>12} {:>12}   ratio (range)", "first / second", "first", "second");
    if wants("rotation") {
        rotation(9)?;
    }
    if wants("attention") {
        attention(5)?;
    }
    Ok(())
}
