//! Rotations: against a product in place, and against a copy.

use super::paired::{Timer, Work, copy, sweep};
use crate::error::LabError;
use posenc::{Element, Pairing, Positions, Rotary, Rotation, Turn, View, ViewMut};

/// A prompt of 2 048 tokens, and one token of each of eight sequences.
const PROMPT: [usize; 4] = [1, 32, 2048, 128];
const STEP: [usize; 4] = [8, 32, 1, 128];
/// Four prompts that are packed into one row.
const PACKED: [usize; 4] = [8, 8, 1024, 64];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    for pairing in [Pairing::Halves, Pairing::Interleaved, Pairing::InterleavedToHalves] {
        stored::<f32>(timer, "f32", pairing)?;
        stored::<half::bf16>(timer, "bf16", pairing)?;
        stored::<half::f16>(timer, "f16", pairing)?;
    }
    Ok(())
}

/// The goals are those of f32 and of 16 bits, in place and out of place.
fn stored<T: Element<Real = f32>>(timer: &mut Timer<'_>, stored: &'static str, pairing: Pairing) -> Result<(), LabError> {
    let name = match pairing {
        Pairing::Interleaved => "interleaved",
        Pairing::InterleavedToHalves => "interleaved→halves",
        _ => "halves",
    };
    let wide = size_of::<T>() == 4;
    for (what, shape) in [("prompt", PROMPT), ("packed", PACKED), ("step", STEP)] {
        let work = |how: &str| format!("rotary {name}, {what}, {how}");
        if !["in place", "out of place", "and back"].iter().any(|how| timer.wants(&work(how))) {
            continue;
        }
        let numbers: usize = shape.iter().product();
        let bytes = numbers * size_of::<T>();
        let at = match what {
            "prompt" => Positions::range(0..shape[2] as i64),
            "packed" => Positions::packed(&[shape[2] / 4; 4]),
            _ => Positions::whole_rows(&(0..shape[0] as i64).map(|b| 1000 * b + 77).collect::<Vec<_>>(), shape[0])?,
        };
        let rotation: Rotation<f32> = Rotary::new(pairing).rotation(shape[3], &at)?;
        let mut x = vec![T::narrow(0.5); numbers];
        let (mut plain, mut other) = (vec![1.0f32; bytes / 4], vec![0.0f32; bytes / 4]);
        let step = what == "step";
        let goal = |in_place: bool| match (step, wide, in_place) {
            (true, true, _) => Some(1.5),
            (true, false, _) => Some(2.0),
            (false, true, true) => Some(1.10),
            (false, false, true) | (false, true, false) => Some(1.15),
            (false, false, false) => Some(1.25),
        };
        let described = |how: &str, limit, goal| Work {
            name: work(how),
            stored,
            shape: &shape,
            bytes: 2 * bytes,
            limit,
            goal,
        };
        let turn = |x: &mut [T], way| rotation.apply(way, ViewMut::new(x, shape)?);
        turn(&mut x, Turn::Forward)?;
        if timer.wants(&work("in place")) {
            let done = || turn(&mut x, Turn::Forward).expect("checked before");
            match step {
                true => timer.pair(described("in place", "copy", goal(true)), done, || copy(&plain, &mut other)),
                false => timer.pair(described("in place", "x *= c", goal(true)), done, || sweep(&mut plain)),
            }
        }
        if timer.wants(&work("out of place")) {
            // One number past the start: what an allocator gives is aligned to no more than 16 bytes.
            let mut out = vec![T::narrow(0.25); numbers + 1];
            timer.pair(
                described("out of place", "copy", goal(false)),
                || {
                    let (from, to) = (
                        View::new(&x, shape).expect("its size"),
                        ViewMut::new(&mut out[1..], shape).expect("its size"),
                    );
                    rotation.apply_into(Turn::Forward, from, to).expect("checked before");
                },
                || copy(&plain, &mut other),
            );
        }
        if timer.wants(&work("and back")) && !step {
            timer.pair(
                described("and back", "x *= c", Some(2.2)),
                || {
                    turn(&mut x, Turn::Forward).expect("checked before");
                    turn(&mut x, Turn::Adjoint).expect("checked before");
                },
                || sweep(&mut plain),
            );
        }
    }
    Ok(())
}
