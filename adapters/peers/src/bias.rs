//! Biases written out, `[heads, q_len, k_len]`. Neither peer has them as functions: what is timed is what their users write in tensor operations.

use crate::compare::{Bench, Result, Stored, Work, agree, burn, candle, from_burn, from_candle};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use candle_core::Module;
use posenc::{Alibi, Call, Dims, Encoding, Positions, T5Bias, ViewMut, alibi_slopes, t5_bucket};
use std::hint::black_box;

const HEADS: usize = 16;
const LEN: usize = 2048;
const SHAPE: [usize; 3] = [HEADS, LEN, LEN];

pub fn run(bench: &Bench) -> Result<()> {
    let at = Positions::range(0..LEN as i64);
    let dims = Dims::new(1024, HEADS)?;

    let plan = Encoding::from(Alibi::new()).plan(dims)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, &at, &at)?;
    let slopes: Vec<f32> = alibi_slopes(HEADS)?.into_iter().map(|slope| slope as f32).collect();
    // Distances and slopes are exact: powers of two.
    {
        let cpu = &candle_core::Device::Cpu;
        let slopes = candle(&slopes, &[HEADS, 1, 1])?;
        let made = || -> candle_core::Result<candle_core::Tensor> {
            let at = candle_core::Tensor::arange(0f32, LEN as f32, cpu)?;
            let distances = at.reshape((1, LEN))?.broadcast_sub(&at.reshape((LEN, 1))?)?;
            distances.unsqueeze(0)?.broadcast_mul(&slopes)
        };
        pair(bench, "ALiBi", &call, "candle tensor ops", made, |y| from_candle(&y?))?;
    }
    let slopes: Tensor<3> = burn(&slopes, [HEADS, 1, 1]);
    let made = || {
        let at = Tensor::<1, Int>::arange(0..LEN as i64, &Device::flex()).float();
        let distances: Tensor<2> = at.clone().reshape([1, LEN]) - at.reshape([LEN, 1]);
        distances.unsqueeze::<3>() * slopes.clone()
    };
    pair(bench, "ALiBi", &call, "burn tensor ops", made, |y| Ok(from_burn(y)))?;

    let plan = Encoding::from(T5Bias::encoder()).plan(dims)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, &at, &at)?;
    // The bucket of each pair, from one of each distance: models compute it pair by pair, which takes longer.
    let buckets = || -> posenc::Result<Vec<u32>> {
        let last = LEN as i64 - 1;
        let by_distance: Vec<u32> = (-last..=last)
            .map(|distance| Ok(t5_bucket(distance, true, 32, 128)? as u32))
            .collect::<posenc::Result<_>>()?;
        Ok((0..LEN).flat_map(|q| &by_distance[LEN - 1 - q..2 * LEN - 1 - q]).copied().collect())
    };
    let table = params.flat();
    {
        let module = candle_nn::Embedding::new(candle(table, &[32, HEADS])?, HEADS);
        let made = || -> Result<candle_core::Tensor> {
            let buckets = candle_core::Tensor::from_vec(buckets()?, (LEN, LEN), &candle_core::Device::Cpu)?;
            Ok(module.forward(&buckets)?.permute((2, 0, 1))?)
        };
        pair(bench, "T5's bias", &call, "candle Embedding", made, |y| {
            from_candle(&y?.contiguous()?)
        })?;
    }
    let table: Tensor<2> = burn(table, [32, HEADS]);
    let made = || -> Result<Tensor<3>> {
        let buckets: Vec<i32> = buckets()?.into_iter().map(|bucket| bucket as i32).collect();
        let buckets = Tensor::<2, Int>::from_data(TensorData::new(buckets, [LEN, LEN]), &Device::flex());
        Ok(embedding(table.clone(), buckets).permute([2, 0, 1]))
    };
    pair(bench, "T5's bias", &call, "burn embedding", made, |y| Ok(from_burn(y?)))
}

/// Ours into a buffer and into new memory, against the peer's.
fn pair<R>(
    bench: &Bench,
    name: &str,
    call: &Call<'_, f32>,
    peer: &str,
    theirs: impl Fn() -> R,
    read: impl Fn(R) -> Result<Vec<f32>>,
) -> Result<()> {
    if !bench.wants(name, peer) {
        return Ok(());
    }
    let [heads, rows, columns] = SHAPE;
    let numbers = heads * rows * columns;
    let into = |out: &mut [f32]| call.materialise_bias(ViewMut::new(out, [1, heads, rows, columns])?);
    let mut out = f32::zeros(numbers);
    into(&mut out)?;
    agree(&format!("{name}, {peer}"), &out, &read(theirs())?, 0.0)?;
    let work = Work {
        name,
        stored: "f32",
        shape: &SHAPE,
        peer,
    };
    let mut buffer = || into(&mut out).expect("checked before");
    let mut new = || into(&mut black_box(f32::zeros(numbers))).expect("checked before");
    bench.run(
        &work,
        || drop(black_box(theirs())),
        &mut [("a buffer", &mut buffer), ("new memory", &mut new)],
    );
    Ok(())
}
