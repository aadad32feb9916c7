//! Cosines and sines of 131 072 positions and 64 frequencies.

use crate::compare::{Bench, Result, Work, agree, candle, from_candle};
use burn::nn::RotaryEncodingConfig;
use burn::tensor::Device;
use candle_core::Tensor;
use posenc::{Pairing, Positions, Rotary, Rotation};
use std::hint::black_box;

const LEN: usize = 131_072;
const HEAD: usize = 128;
const SHAPE: [usize; 2] = [LEN, HEAD / 2];

pub fn run(bench: &Bench) -> Result<()> {
    let (rotary, at) = (Rotary::new(Pairing::Halves), Positions::range(0..LEN as i64));
    let name = "cosines and sines";
    let mut rotation: Rotation<f32> = rotary.rotation(HEAD, &at)?;
    let work = |peer| Work {
        name,
        stored: "f32",
        shape: &SHAPE,
        peer,
    };
    let peer = "candle tensor ops";
    if bench.wants(name, peer) {
        let frequencies: Vec<f32> = (0..HEAD / 2).map(|i| 1.0 / 10_000f32.powf(2.0 * i as f32 / HEAD as f32)).collect();
        let frequencies = candle(&frequencies, &[1, HEAD / 2])?;
        let made = || -> candle_core::Result<[Tensor; 2]> {
            let at = Tensor::arange(0f32, LEN as f32, &candle_core::Device::Cpu)?.reshape((LEN, 1))?;
            let angles = at.matmul(&frequencies)?;
            Ok([angles.cos()?, angles.sin()?])
        };
        // Its angles are products in f32: up to 2¹⁷ with a frequency near one, a half ulp of which is 2⁻⁸, and the frequency's own half ulp as much again.
        let bound = 2.0 * 2f32.powi(-8);
        let [cos, sin] = made()?;
        let ours: Vec<f32> = (0..LEN).flat_map(|t| rotation.cos(0, t)).copied().collect();
        agree("cosines, candle", &ours, &from_candle(&cos)?, bound)?;
        let ours: Vec<f32> = (0..LEN).flat_map(|t| rotation.sin(0, t)).copied().collect();
        agree("sines, candle", &ours, &from_candle(&sin)?, bound)?;
        let mut buffer = || rotary.rotation_into(HEAD, &at, &mut rotation).expect("checked before");
        let mut new = || drop(black_box(rotary.rotation::<f32>(HEAD, &at)));
        bench.run(
            &work(peer),
            || drop(black_box(made())),
            &mut [("a buffer", &mut buffer), ("new memory", &mut new)],
        );
    }
    let peer = "burn RotaryEncoding";
    if bench.wants(name, peer) {
        // Its table holds each cosine and each sine twice.
        let mut buffer = || rotary.rotation_into(HEAD, &at, &mut rotation).expect("checked before");
        let mut new = || drop(black_box(rotary.rotation::<f32>(HEAD, &at)));
        bench.run(
            &work(peer),
            || drop(black_box(RotaryEncodingConfig::new(LEN, HEAD).init(&Device::flex()))),
            &mut [("a buffer", &mut buffer), ("new memory", &mut new)],
        );
    }
    Ok(())
}
