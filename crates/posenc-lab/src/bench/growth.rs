//! Works at growing lengths and batches: the cost of a token stays what it is.

use super::paired::{Timer, Work, copy, fill, sum, sweep};
use super::{Axis, Growth};
use crate::error::LabError;
use posenc::{Alibi, Dims, Encoding, Learned, Mode, Pairing, Positions, Rotary, Rotation, Site, Steps, Turn, ViewMut};
use std::hint::black_box;

/// Lengths, of one sequence: 128 to 131 072.
const LENGTHS: std::ops::RangeInclusive<u32> = 7..=17;
/// Sequences: 1 to 64, each of this length.
const BATCHES: std::ops::RangeInclusive<u32> = 0..=6;
const LENGTH: usize = 2048;
/// Heads and width of a head, and what they make together.
const HEADS: [usize; 2] = [8, 64];
const WIDTH: usize = 512;
/// Sequences that decode while their position grows, their heads and the width of a head.
const DECODING: [usize; 3] = [8, 32, 128];
/// Heads of a bias.
const BIASED: usize = 16;

/// A point of a line.
#[derive(Clone, Copy)]
struct At {
    axis: Axis,
    batch: usize,
    len: usize,
}

impl At {
    /// All of them: lengths of one sequence, then batches.
    fn all() -> Vec<At> {
        let by_length = LENGTHS.map(|power| (Axis::Length, 1, 1 << power));
        let by_batch = BATCHES.map(|power| (Axis::Batch, 1 << power, LENGTH));
        by_length
            .chain(by_batch)
            .map(|(axis, batch, len)| At { axis, batch, len })
            .collect()
    }

    /// With what the cost is divided by.
    fn growth(self, tokens: usize) -> Growth {
        let at = match self.axis {
            Axis::Length => self.len,
            Axis::Batch => self.batch,
        };
        Growth {
            axis: self.axis,
            at,
            tokens,
        }
    }
}

type Measure = fn(&mut Timer<'_>, &str, At) -> Result<(), LabError>;

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let kinds: [(&str, Measure); 5] = [
        ("rotation in place", rotation),
        ("learned table added", addition),
        ("new token's rotation", step),
        ("new token's bias row", row),
        ("steps of decoding", steps),
    ];
    for (name, measure) in kinds {
        if timer.wants(name) {
            At::all().into_iter().try_for_each(|at| measure(timer, name, at))?;
        }
    }
    Ok(())
}

/// All tokens of a prompt are turned.
fn rotation(timer: &mut Timer<'_>, name: &str, at: At) -> Result<(), LabError> {
    let At { batch, len, .. } = at;
    let shape = [batch, HEADS[0], len, HEADS[1]];
    let numbers: usize = shape.iter().product();
    let rotation: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(HEADS[1], &Positions::range(0..len as i64))?;
    let (mut x, mut plain) = (vec![0.5f32; numbers], vec![1.0f32; numbers]);
    timer.point(
        work(name, &shape, 8 * numbers, "x *= c"),
        at.growth(batch * len),
        || {
            let x = ViewMut::new(&mut x, shape).expect("its size");
            rotation.apply(Turn::Forward, x).expect("its shape")
        },
        || sweep(&mut plain),
    );
    Ok(())
}

/// All tokens of a prompt take their row of a table.
fn addition(timer: &mut Timer<'_>, name: &str, at: At) -> Result<(), LabError> {
    let At { batch, len, .. } = at;
    let shape = [batch, len, WIDTH];
    let numbers: usize = shape.iter().product();
    // Each sequence reads rows of its own, so that the table is read as the plain sum reads its second factor.
    let ids: Vec<i64> = (0..(batch * len) as i64).collect();
    let positions = Positions::whole_rows(&ids, batch)?;
    let plan = Encoding::from(Learned::new(batch * len)).plan(Dims::new(WIDTH, HEADS[0])?)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, &positions, &positions)?;
    let (mut x, mut plain, other) = (vec![0.5f32; numbers], vec![0.5f32; numbers], vec![1e-9f32; numbers]);
    call.add(Site::Embedding, ViewMut::new(&mut x, shape)?, Mode::Evaluate)?;
    timer.point(
        work(name, &shape, 12 * numbers, "x += y"),
        at.growth(batch * len),
        || {
            let x = ViewMut::new(&mut x, shape).expect("its size");
            call.add(Site::Embedding, x, Mode::Evaluate).expect("checked before");
        },
        || sum(&mut plain, &other),
    );
    Ok(())
}

/// One new token of each sequence, at position `len`: its cosines and sines are computed, and its queries turned by them.
fn step(timer: &mut Timer<'_>, name: &str, at: At) -> Result<(), LabError> {
    let [sequences, heads, width] = DECODING;
    let batch = match at.axis {
        Axis::Length => sequences,
        Axis::Batch => at.batch,
    };
    let shape = [batch, heads, 1, width];
    let numbers: usize = shape.iter().product();
    let positions = Positions::whole_rows(&vec![at.len as i64; batch], batch)?;
    let rotary = Rotary::new(Pairing::Halves);
    let mut rotation: Rotation<f32> = rotary.rotation(width, &positions)?;
    let (mut x, plain, mut other) = (vec![0.5f32; numbers], vec![1.0f32; numbers], vec![1.0f32; numbers]);
    timer.point(
        work(name, &shape, 8 * numbers, "copy"),
        at.growth(batch),
        || {
            rotary.rotation_into(width, &positions, &mut rotation).expect("checked before");
            let x = ViewMut::new(&mut x, shape).expect("its size");
            rotation.apply(Turn::Forward, x).expect("its shape")
        },
        || copy(&plain, &mut other),
    );
    Ok(())
}

/// A prompt of half the length, then a token at a time up to the whole: what all steps resolve, against one call that resolves it at once. Steps whose cost grew with the length would show here.
fn steps(timer: &mut Timer<'_>, name: &str, at: At) -> Result<(), LabError> {
    // Of a batch, all sequences are resolved together.
    let Axis::Length = at.axis else { return Ok(()) };
    let (prompt, len) = (at.len as i64 / 2, at.len as i64);
    let [_, heads, width] = DECODING;
    let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(heads * width, heads)?)?;
    let params = plan.init::<f32>(0)?;
    let all = Positions::range(0..len);
    let whole = || drop(black_box(plan.call(&params, &all, &all).expect("positions in range")));
    timer.point(
        work(name, &[at.len, width / 2], 4 * at.len * width, "a call"),
        at.growth(at.len),
        || {
            let mut steps = Steps::default();
            let mut step = |queries, keys| {
                drop(
                    plan.step(&mut steps, &params, &Positions::range(queries), &Positions::range(0..keys))
                        .expect("positions in range"),
                )
            };
            step(0..prompt, prompt);
            (prompt..len).for_each(|token| step(token..token + 1, token + 1));
        },
        whole,
    );
    Ok(())
}

/// What one new token of each sequence adds to its scores against `len` keys.
fn row(timer: &mut Timer<'_>, name: &str, at: At) -> Result<(), LabError> {
    let At { batch, len, .. } = at;
    let shape = [batch, BIASED, 1, len];
    let numbers: usize = shape.iter().product();
    let plan = Encoding::from(Alibi::new()).plan(Dims::new(BIASED * HEADS[1], BIASED)?)?;
    let params = plan.init::<f32>(0)?;
    let last = Positions::whole_rows(&vec![len as i64 - 1; batch], batch)?;
    let call = plan.call(&params, &last, &Positions::range(0..len as i64))?;
    let (mut out, mut plain) = (vec![1.0f32; numbers], vec![1u8; 4 * numbers]);
    call.materialise_bias(ViewMut::new(&mut out, shape)?)?;
    timer.point(
        work(name, &shape, 4 * numbers, "memset"),
        at.growth(batch * len),
        || {
            let out = ViewMut::new(&mut out, shape).expect("its size");
            call.materialise_bias(out).expect("checked before")
        },
        || fill(&mut plain),
    );
    Ok(())
}

fn work<'w>(name: &str, shape: &'w [usize], bytes: usize, limit: &'static str) -> Work<'w> {
    Work {
        name: name.into(),
        stored: "f32",
        shape: shape.into(),
        bytes,
        operations: 0,
        limit,
        goal: None,
    }
}
