//! Rotations of a prompt and of one new token in each of eight sequences.

use crate::compare::{Bench, Result, Stored, Work, agree, burn, candle, from_burn, from_candle, numbers};
use burn::nn::RotaryEncodingConfig;
use burn::tensor::{Device, Tensor};
use candle_nn::rotary_emb::{rope, rope_i};
use half::bf16;
use posenc::{Pairing, Positions, Rotary, Rotation, Turn, View, ViewMut};
use std::hint::black_box;

const HEAD: usize = 128;
/// Where the new tokens stand.
const STEP: usize = 77;

pub fn run(bench: &Bench) -> Result<()> {
    of::<f32>(bench)?;
    of::<bf16>(bench)
}

/// What is turned, and by which angles; all libraries are given the same.
struct Input<T> {
    name: &'static str,
    shape: [usize; 4],
    /// The first position.
    start: usize,
    x: Vec<T>,
}

fn of<T: Stored>(bench: &Bench) -> Result<()> {
    let input = |name, shape: [usize; 4], start| Input::<T> {
        name,
        shape,
        start,
        x: numbers(shape.iter().product()),
    };
    for input in [
        input("rotation, prompt", [1, 32, 2048, HEAD], 0),
        input("rotation, one new token", [8, 32, 1, HEAD], STEP),
    ] {
        let len = input.shape[2];
        let at = Positions::range(input.start as i64..(input.start + len) as i64);
        let halves: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(HEAD, &at)?;
        let neighbours: Rotation<f32> = Rotary::new(Pairing::Interleaved).rotation(HEAD, &at)?;
        // The tables are ours, rounded to what the peer stores them in, so that the rotation alone is compared.
        let table = |row: fn(&Rotation<f32>, usize) -> &[f32]| -> Vec<T> {
            (0..len)
                .flat_map(|t| row(&halves, t))
                .map(|&x| posenc::Element::narrow(x))
                .collect()
        };
        let (cos, sin) = (table(|r, t| r.cos(0, t)), table(|r, t| r.sin(0, t)));
        // A factor, two products and a sum are rounded, each to a half ulp of at most √2, by the peer; once by us.
        let rounded = 8.0 * T::HALF_ULP;

        let x = candle(&input.x, &input.shape)?;
        let tables = [candle(&cos, &[len, HEAD / 2])?, candle(&sin, &[len, HEAD / 2])?];
        pair(
            bench,
            &input,
            &halves,
            "candle rope",
            rounded,
            || rope(&x, &tables[0], &tables[1]),
            |y| from_candle(&y?),
        )?;
        pair(
            bench,
            &input,
            &neighbours,
            "candle rope_i",
            rounded,
            || rope_i(&x, &tables[0], &tables[1]),
            |y| from_candle(&y?),
        )?;

        let x: Tensor<4> = burn(&input.x, input.shape);
        let tables = [cos, sin].map(|table| burn(&table, [1, 1, len, HEAD / 2]));
        pair(
            bench,
            &input,
            &halves,
            "burn tensor ops",
            rounded,
            || by_halves(&x, &tables),
            |y| Ok(from_burn(y)),
        )?;
        // burn's own module refuses bf16 on a device whose numbers are f32.
        if size_of::<T>() == 4 {
            let module = RotaryEncodingConfig::new(2048, HEAD).init(&Device::flex());
            // Its angles are products in f32: an angle of up to 2047 is off by 2⁻¹³, and its frequency, an exponential of at most 9.3, by as much again at most four times.
            let angles = rounded + 5.0 * 2f32.powi(-13);
            pair(
                bench,
                &input,
                &neighbours,
                "burn RotaryEncoding",
                angles,
                || module.apply(x.clone(), input.start),
                |y| Ok(from_burn(y)),
            )?;
        }
    }
    Ok(())
}

/// The first half of the coordinates with the second, in burn's tensor operations.
fn by_halves(x: &Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
    let (a, b) = (x.clone().narrow(3, 0, HEAD / 2), x.clone().narrow(3, HEAD / 2, HEAD / 2));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos.clone() + a * sin.clone();
    Tensor::cat(vec![first, second], 3)
}

/// Ours in place, into a buffer, and into new memory as the peer's, against the peer's.
fn pair<T: Stored, R>(
    bench: &Bench,
    input: &Input<T>,
    rotation: &Rotation<f32>,
    peer: &str,
    bound: f32,
    theirs: impl Fn() -> R,
    read: impl Fn(R) -> Result<Vec<f32>>,
) -> Result<()> {
    if !bench.wants(input.name, peer) {
        return Ok(());
    }
    let Input { name, shape, x, .. } = input;
    let into = |out: &mut [T]| rotation.apply_into(Turn::Forward, View::new(x, *shape)?, ViewMut::new(out, *shape)?);
    let mut out = T::zeros(x.len());
    into(&mut out)?;
    agree(&format!("{name}, {peer}"), &T::wide(&out), &read(theirs())?, bound)?;
    let work = Work {
        name,
        stored: T::NAME,
        shape,
        peer,
    };
    let mut own = x.clone();
    let mut in_place = || {
        let own = ViewMut::new(&mut own, *shape).expect("its size");
        rotation.apply(Turn::Forward, own).expect("its shape");
    };
    let mut buffer = || into(&mut out).expect("checked before");
    let mut new = || into(&mut black_box(T::zeros(x.len()))).expect("checked before");
    bench.run(
        &work,
        || drop(black_box(theirs())),
        &mut [("in place", &mut in_place), ("a buffer", &mut buffer), ("new memory", &mut new)],
    );
    Ok(())
}
