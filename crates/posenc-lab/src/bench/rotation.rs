//! Rotations: against a product in place, and against a copy.

use super::paired::{Timer, Work, copy, sweep};
use crate::error::LabError;
use posenc::{Element, Pairing, Positions, Rotary, Rotation, Turn, View, ViewMut};

/// What is turned, `[batch, heads, seq, head_dim]`.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A prompt of 2 048 tokens.
    Prompt,
    /// Four prompts that are packed into each row.
    Packed,
    /// The next part of sixteen prompts, each at a position of its own.
    Batch,
    /// One token of each of eight sequences.
    Step,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Prompt => "prompt",
            Kind::Packed => "packed",
            Kind::Batch => "batch",
            Kind::Step => "step",
        }
    }

    fn shape(self) -> [usize; 4] {
        match self {
            Kind::Prompt => [1, 32, 2048, 128],
            Kind::Packed => [8, 8, 1024, 64],
            Kind::Batch => [16, 8, 512, 128],
            Kind::Step => [8, 32, 1, 128],
        }
    }

    fn positions(self) -> Result<Positions, posenc::Error> {
        let [batch, _, len, _] = self.shape();
        match self {
            Kind::Prompt => Ok(Positions::range(0..len as i64)),
            Kind::Packed => Ok(Positions::packed(&[len / 4; 4])),
            Kind::Batch => Positions::whole_rows(
                &(0..batch * len).map(|i| (1000 * (i / len) + i % len) as i64).collect::<Vec<_>>(),
                batch,
            ),
            Kind::Step => Positions::whole_rows(&(0..batch as i64).map(|b| 1000 * b + 77).collect::<Vec<_>>(), batch),
        }
    }

    /// What was set for f32 and for 16 bits, in place and out of place. Packed prompts and batches of them are prompts.
    fn goal(self, wide: bool, in_place: bool) -> f64 {
        match (self, wide, in_place) {
            (Kind::Step, true, _) => 1.5,
            (Kind::Step, false, _) => 2.0,
            (_, true, true) => 1.10,
            (_, false, true) | (_, true, false) => 1.15,
            (_, false, false) => 1.25,
        }
    }
}

/// Into which memory.
const WAYS: [&str; 3] = ["in place", "out of place", "and back"];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    for pairing in [Pairing::Halves, Pairing::Interleaved, Pairing::InterleavedToHalves] {
        stored::<f32>(timer, "f32", pairing)?;
        stored::<half::bf16>(timer, "bf16", pairing)?;
        stored::<half::f16>(timer, "f16", pairing)?;
    }
    Ok(())
}

fn stored<T: Element<Real = f32>>(timer: &mut Timer<'_>, stored: &'static str, pairing: Pairing) -> Result<(), LabError> {
    let (name, kinds) = match pairing {
        // The pairings are told apart by a prompt and a step; how tokens lie in rows matters to none of them more than to another.
        Pairing::Interleaved => ("interleaved", &[Kind::Prompt, Kind::Step][..]),
        Pairing::InterleavedToHalves => ("interleaved→halves", &[Kind::Prompt, Kind::Step][..]),
        _ => ("halves", &[Kind::Prompt, Kind::Packed, Kind::Batch, Kind::Step][..]),
    };
    for &kind in kinds {
        let work = |way: &str| format!("rotary {name}, {}, {way}", kind.name());
        let ways = WAYS.map(|way| timer.wants(&work(way)) && (way != "and back" || kind == Kind::Prompt));
        if ways == [false; 3] {
            continue;
        }
        let shape = kind.shape();
        let numbers: usize = shape.iter().product();
        let bytes = numbers * size_of::<T>();
        let wide = size_of::<T>() == 4;
        let rotation: Rotation<f32> = Rotary::new(pairing).rotation(shape[3], &kind.positions()?)?;
        let mut x = vec![T::narrow(0.5); numbers];
        let (mut plain, mut other) = (vec![1.0f32; bytes / 4], vec![0.0f32; bytes / 4]);
        let described = |way: &str, limit, goal| Work {
            name: work(way),
            stored,
            shape: shape.as_slice().into(),
            bytes: 2 * bytes,
            operations: 0,
            limit,
            goal: Some(goal),
        };
        let turn = |x: &mut [T], way| rotation.apply(way, ViewMut::new(x, shape)?);
        turn(&mut x, Turn::Forward)?;
        let [in_place, out_of_place, and_back] = ways;
        if in_place {
            let done = || turn(&mut x, Turn::Forward).expect("checked before");
            let goal = kind.goal(wide, true);
            match kind {
                Kind::Step => timer.pair(described("in place", "copy", goal), done, || copy(&plain, &mut other)),
                _ => timer.pair(described("in place", "x *= c", goal), done, || sweep(&mut plain)),
            }
        }
        if out_of_place {
            // One number past the start: what an allocator gives is aligned to no more than 16 bytes.
            let mut out = vec![T::narrow(0.25); numbers + 1];
            timer.pair(
                described("out of place", "copy", kind.goal(wide, false)),
                || {
                    let from = View::new(&x, shape).expect("its size");
                    let to = ViewMut::new(&mut out[1..], shape).expect("its size");
                    rotation.apply_into(Turn::Forward, from, to).expect("checked before");
                },
                || copy(&plain, &mut other),
            );
        }
        if and_back {
            timer.pair(
                described("and back", "x *= c", 2.2),
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
