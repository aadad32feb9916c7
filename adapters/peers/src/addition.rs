//! Tables added to embeddings.

use crate::compare::{Bench, Result, Stored, Work, agree, burn, candle, from_burn, from_candle, numbers};
use burn::module::Param;
use burn::nn::{EmbeddingConfig, PositionalEncodingConfig};
use burn::tensor::{Device, Int, Tensor};
use candle_core::Module;
use posenc::{Call, Dims, Encoding, Learned, Mode, Positions, Sinusoidal, Site, View, ViewMut};
use std::hint::black_box;

const SHAPE: [usize; 3] = [8, 1024, 768];

pub fn run(bench: &Bench) -> Result<()> {
    let [_, len, width] = SHAPE;
    let x: Vec<f32> = numbers(SHAPE.iter().product());
    let at = Positions::range(0..len as i64);
    let dims = Dims::new(width, 12)?;

    let plan = Encoding::from(Learned::new(len)).plan(dims)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, &at, &at)?;
    // One sum, rounded the same everywhere.
    let table = params.flat();
    let module = candle_nn::Embedding::new(candle(table, &[len, width])?, width);
    let ids = candle_core::Tensor::arange(0u32, len as u32, &candle_core::Device::Cpu)?.reshape((1, len))?;
    let q = candle(&x, &SHAPE)?;
    let added = || q.broadcast_add(&module.forward(&ids)?);
    pair(bench, "learned table", &call, &x, "candle Embedding, add", 0.0, added, |y| {
        from_candle(&y?)
    })?;

    let mut module = EmbeddingConfig::new(len, width).init(&Device::flex());
    module.weight = Param::from_tensor(burn(table, [len, width]));
    let ids = Tensor::<1, Int>::arange(0..len as i64, &Device::flex()).reshape([1, len]);
    let q: Tensor<3> = burn(&x, SHAPE);
    let added = || q.clone() + module.forward(ids.clone());
    pair(bench, "learned table", &call, &x, "burn Embedding, add", 0.0, added, |y| {
        Ok(from_burn(y))
    })?;

    let plan = Encoding::from(Sinusoidal::paper()).plan(dims)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, &at, &at)?;
    let module = PositionalEncodingConfig::new(width)
        .with_max_sequence_size(len)
        .init(&Device::flex());
    // Its angles are products in f32, of up to 1023 and a frequency: 2⁻¹⁴, and as much again for the frequency at most four times.
    let bound = 5.0 * 2f32.powi(-14);
    pair(
        bench,
        "sinusoidal table",
        &call,
        &x,
        "burn PositionalEncoding",
        bound,
        || module.forward(q.clone()),
        |y| Ok(from_burn(y)),
    )
}

/// Ours in place and into new memory, against the peer's.
fn pair<R>(
    bench: &Bench,
    name: &str,
    call: &Call<'_, f32>,
    x: &[f32],
    peer: &str,
    bound: f32,
    theirs: impl Fn() -> R,
    read: impl Fn(R) -> Result<Vec<f32>>,
) -> Result<()> {
    if !bench.wants(name, peer) {
        return Ok(());
    }
    let into = |out: &mut [f32]| call.embed(View::new(x, SHAPE)?, ViewMut::new(out, SHAPE)?, Mode::Evaluate);
    let mut out = f32::zeros(x.len());
    into(&mut out)?;
    agree(&format!("{name}, {peer}"), &out, &read(theirs())?, bound)?;
    let work = Work {
        name,
        stored: "f32",
        shape: &SHAPE,
        peer,
    };
    let mut own = x.to_vec();
    let mut in_place = || {
        let own = ViewMut::new(&mut own, SHAPE).expect("its size");
        call.add(Site::Embedding, own, Mode::Evaluate).expect("checked before");
    };
    let mut buffer = || into(&mut out).expect("checked before");
    let mut new = || into(&mut black_box(f32::zeros(x.len()))).expect("checked before");
    bench.run(
        &work,
        || drop(black_box(theirs())),
        &mut [("in place", &mut in_place), ("a buffer", &mut buffer), ("new memory", &mut new)],
    );
    Ok(())
}
