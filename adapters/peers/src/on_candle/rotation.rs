//! Rotary positions of a prompt and of one new token in each of eight sequences, in place, into new tensors, and with gradients.

use super::{Goal, Row, net, pair};
use crate::compare::{Bench, Result, Stored, agree, candle, from_candle, numbers};
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};
use candle_nn::rotary_emb::{rope, rope_slow};
use half::bf16;
use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Rotation, Side, Turn, ViewMut};
use posenc_candle::Call;
use std::hint::black_box;

const HEAD: usize = 128;
const HEADS: usize = 32;
const PROMPT: [usize; 4] = [1, HEADS, 2048, HEAD];
const STEP: [usize; 4] = [8, HEADS, 1, HEAD];
/// Where the new tokens stand.
const STEP_AT: i64 = 77;
/// glibc gives back what was freed for anything up to this size, and maps larger memory anew each time (`M_MMAP_THRESHOLD`, whose largest value this is).
const MAPPED_FROM: usize = 32 << 20;

pub fn run(bench: &Bench) -> Result<()> {
    of::<f32>(bench, 8.0)?;
    of::<bf16>(bench, 20.0)?;
    back(bench)
}

/// A call for the tokens of a shape, the core's rotation, and candle's tables, which are the core's rounded to what is stored.
struct Turned {
    call: Call,
    core: Rotation<f32>,
    tables: [Tensor; 2],
}

impl Turned {
    fn new<T: Stored>([_, heads, len, width]: [usize; 4], start: i64) -> Result<Turned> {
        let at = Positions::range(start..start + len as i64);
        let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(heads * width, heads)?)?;
        let core: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(width, &at)?;
        let table = |row: fn(&Rotation<f32>, usize) -> &[f32]| {
            let all = (0..len).flat_map(|t| row(&core, t)).map(|&x| posenc::Element::narrow(x));
            candle(&all.collect::<Vec<T>>(), &[len, width / 2])
        };
        Ok(Turned {
            call: Call::new(&plan, &at)?,
            tables: [table(|r, t| r.cos(0, t))?, table(|r, t| r.sin(0, t))?],
            core,
        })
    }
}

/// The core's rotation on a tensor's numbers and nothing else.
struct Alone<'r> {
    core: &'r Rotation<f32>,
    shape: [usize; 4],
}

impl InplaceOp1 for Alone<'_> {
    fn name(&self) -> &'static str {
        "the core in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let turned = match storage {
            CpuStorage::F32(x) => ViewMut::new(x, self.shape).and_then(|x| self.core.apply(Turn::Forward, x)),
            CpuStorage::BF16(x) => ViewMut::new(x, self.shape).and_then(|x| self.core.apply(Turn::Forward, x)),
            _ => candle_core::bail!("f32 and bf16 are measured"),
        };
        turned.map_err(candle_core::Error::wrap)
    }
}

fn of<T: Stored>(bench: &Bench, goal: f64) -> Result<()> {
    for (name, shape, start, goals) in [("prompt", PROMPT, 0, true), ("one new token", STEP, STEP_AT, false)] {
        let [in_place, new] = ["in place", "new tensor"].map(|way| format!("on candle, rotary, {name}, {way}"));
        if ![&in_place, &new].iter().any(|work| bench.wants(work, "")) {
            continue;
        }
        let Turned { call, core, tables } = Turned::new::<T>(shape, start)?;
        let given = numbers::<T>(shape.iter().product());
        let x = candle(&given, &shape)?;
        let own = candle(&given, &shape)?;
        let theirs = || -> Result<()> {
            black_box(rope(&x, &tables[0], &tables[1])?);
            Ok(())
        };
        // A factor, two products and a sum are rounded, each to a half ulp of at most √2, by candle; once here.
        let bound = 8.0 * T::HALF_ULP;
        let rotated = from_candle(&call.rotate(Side::Query, &x)?)?;
        agree(&new, &rotated, &from_candle(&rope(&x, &tables[0], &tables[1])?)?, bound)?;
        call.rotate_in_place(Side::Query, &own)?;
        agree(&in_place, &from_candle(&own)?, &rotated, 0.0)?;

        let row = |work, against, goal: Goal| Row {
            work,
            stored: T::NAME,
            shape: &shape,
            against,
            goal: goals.then_some(goal),
        };
        if bench.wants(&in_place, "") {
            let mut ours = || Ok(call.rotate_in_place(Side::Query, &own)?);
            pair(bench, &row(&in_place, "candle rope", Goal::Faster(goal)), theirs, &mut ours)?;
            // Over the same memory: how fast a buffer is depends on the pages that it was given.
            let alone = Alone { core: &core, shape };
            let alone = || Ok(own.inplace_op1(&alone)?);
            pair(bench, &row(&in_place, "the core in place", Goal::Within(1.2)), alone, &mut ours)?;
            if goals && size_of::<T>() == 4 && candle_core::utils::get_num_threads() == 1 {
                // What the machine has for memory that lay idle while candle's ran: each number read and written once.
                let mut plain = vec![1f32; given.len()];
                let swept = || {
                    let c = black_box(1f32);
                    black_box(&mut plain).iter_mut().for_each(|x| *x *= c);
                    Ok(())
                };
                let row = Row {
                    work: "    x *= c in its place",
                    goal: None,
                    ..row(&in_place, "candle rope", Goal::Faster(goal))
                };
                pair(bench, &row, theirs, swept)?;
            }
        }
        if bench.wants(&new, "") {
            let mut ours = || -> Result<()> {
                black_box(call.rotate(Side::Query, &x)?);
                Ok(())
            };
            pair(bench, &row(&new, "candle rope", Goal::Faster(2.0)), theirs, &mut ours)?;
            let copy = || -> Result<()> {
                black_box(x.copy()?);
                Ok(())
            };
            pair(bench, &row(&new, "memcpy, new tensor", Goal::Within(1.15)), copy, &mut ours)?;
            if goals {
                let mapped = || -> Result<()> {
                    let mut to = Vec::with_capacity(given.len().max(MAPPED_FROM / size_of::<T>() + 1));
                    to.extend_from_slice(&given);
                    black_box(to);
                    Ok(())
                };
                let row = Row {
                    goal: None,
                    ..row(&new, "memcpy, pages mapped anew", Goal::Within(1.15))
                };
                pair(bench, &row, mapped, &mut ours)?;
            }
        }
    }
    Ok(())
}

/// Forward and backward, net of the same graph with a view in the operation's place: what is left is the operation and its gradient.
fn back(bench: &Bench) -> Result<()> {
    let work = "on candle, rotary, prompt, forward + backward";
    if !bench.wants(work, "") {
        return Ok(());
    }
    let Turned { call, tables, .. } = Turned::new::<f32>(PROMPT, 0)?;
    let count: usize = PROMPT.iter().product();
    let x = Var::from_tensor(&candle(&numbers::<f32>(count), &PROMPT)?)?;
    // Other numbers than x, all exact, so that the gradient is not that of a constant.
    let weight: Vec<f32> = (0..count).map(|i| (i * 29 % 127) as f32 / 64.0 - 1.0).collect();
    let weight = candle(&weight, &PROMPT)?;
    let gradient = |turned: Tensor, weight: &Tensor| -> Result<Tensor> {
        let grads = (turned * weight)?.sum_all()?.backward()?;
        Ok(grads.get(&x).ok_or("x has no gradient")?.clone())
    };
    let theirs = || gradient(rope_slow(&x, &tables[0], &tables[1])?, &weight);
    let ours = || gradient(call.rotate(Side::Query, &x)?, &weight);
    // Rounded as the forward pass; what arrives is at most 1.
    agree(work, &from_candle(&ours()?)?, &from_candle(&theirs()?)?, 8.0 * f32::HALF_ULP)?;
    let [_, heads, len, width] = PROMPT;
    let flat = weight.reshape((heads, len, width))?;
    let view = || gradient(x.reshape((heads, len, width))?, &flat);
    let row = |against, goal| Row {
        work,
        stored: "f32",
        shape: &PROMPT,
        against,
        goal,
    };
    let done = |tensor: Result<Tensor>| tensor.map(|tensor| drop(black_box(tensor)));
    let around = "candle rope_slow, net of the graph";
    net(
        bench,
        &row(around, Some(Goal::Faster(8.0))),
        &mut || done(theirs()),
        &mut || done(ours()),
        &mut || done(view()),
    )?;
    pair(
        bench,
        &row("candle rope_slow, with the graph", None),
        || done(theirs()),
        || done(ours()),
    )
}
