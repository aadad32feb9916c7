//! Tables that are added to embeddings, and their gradients: against a plain sum that moves as many bytes.

use super::paired::{Timer, Work, read, sum};
use crate::error::LabError;
use posenc::{Dims, Element, Encoding, Learned, Mode, Positions, Sinusoidal, Site, ViewMut};

/// A batch of prompts, and one token of each of eight sequences.
const PROMPT: [usize; 3] = [8, 2048, 1024];
const STEP: [usize; 3] = [8, 1, 1024];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let learned = |rows| Learned::new(rows).into();
    let [batch, len, _] = PROMPT;
    // Each row of the batch reads rows of its own, so that the table is read as the plain sum reads its second factor.
    let ids: Vec<i64> = (0..(batch * len) as i64).collect();
    let apart = Positions::whole_rows(&ids, batch)?;
    // The rows of a batch read the same rows, as in training; and tokens meet in a few rows, as segments do.
    let (shared, few) = (
        Positions::range(0..len as i64),
        Positions::whole_rows(&ids.iter().map(|id| id * 7 % 509).collect::<Vec<_>>(), batch)?,
    );
    let rows = batch * len;
    added::<f32>(timer, "learned, gathered and added", "f32", learned(rows), &apart, rows, PROMPT)?;
    added::<f32>(timer, "sinusoidal, added", "f32", Sinusoidal::paper().into(), &apart, rows, PROMPT)?;
    added::<half::bf16>(timer, "learned, gathered and added", "bf16", learned(rows), &apart, rows, PROMPT)?;
    added::<half::f16>(timer, "learned, gathered and added", "f16", learned(rows), &apart, rows, PROMPT)?;
    added::<f32>(
        timer,
        "learned, shared by the batch, added",
        "f32",
        learned(len),
        &shared,
        len,
        PROMPT,
    )?;
    let step = Positions::whole_rows(&ids.iter().step_by(len).copied().collect::<Vec<_>>(), batch)?;
    added::<f32>(timer, "learned, one step, added", "f32", learned(rows), &step, batch, STEP)?;
    gradient::<f32>(timer, "learned, gradient", "f32", rows, &apart, rows)?;
    gradient::<half::bf16>(timer, "learned, gradient", "bf16", rows, &apart, rows)?;
    gradient::<half::f16>(timer, "learned, gradient", "f16", rows, &apart, rows)?;
    gradient::<f32>(timer, "learned, shared by the batch, gradient", "f32", len, &shared, len)?;
    gradient::<f32>(timer, "learned, rows that tokens share, gradient", "f32", 509, &few, 509)
}

/// What is measured, with a plain sum of as many bytes: each number of the tensor is moved `times` times, each of the table's `rows` rows `table` times.
fn work<T>(
    name: &str,
    stored: &'static str,
    shape: &'static [usize; 3],
    rows: usize,
    times: usize,
    table: usize,
) -> (Work<'static>, Vec<f32>, Vec<f32>) {
    let [batch, len, width] = *shape;
    let bytes = times * batch * len * width * size_of::<T>() + table * rows * width * 4;
    let work = Work {
        name: name.into(),
        stored,
        shape: shape.as_slice().into(),
        bytes,
        operations: 0,
        limit: "x += y",
        goal: Some(1.05),
    };
    (work, vec![0.5; bytes / 12], vec![1e-9; bytes / 12])
}

/// Adds a table, of which `rows` rows are read.
fn added<T: Element<Real = f32>>(
    timer: &mut Timer<'_>,
    name: &str,
    stored: &'static str,
    encoding: Encoding,
    at: &Positions,
    rows: usize,
    shape: [usize; 3],
) -> Result<(), LabError> {
    if !timer.wants(name) {
        return Ok(());
    }
    let plan = encoding.plan(Dims::new(shape[2], 16)?)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, at, at)?;
    let mut x = vec![T::narrow(0.5); shape.iter().product()];
    let (work, mut plain, other) = work::<T>(name, stored, if shape == STEP { &STEP } else { &PROMPT }, rows, 2, 1);
    call.add(Site::Embedding, ViewMut::new(&mut x, shape)?, Mode::Evaluate)?;
    timer.pair(
        work,
        || {
            let x = ViewMut::new(&mut x, shape).expect("its size");
            call.add(Site::Embedding, x, Mode::Evaluate).expect("checked before");
        },
        || sum(&mut plain, &other),
    );
    Ok(())
}

/// Adds the gradient of a prompt to that of a table of `len` rows, of which `rows` are met.
fn gradient<T: Element<Real = f32>>(
    timer: &mut Timer<'_>,
    name: &str,
    stored: &'static str,
    len: usize,
    at: &Positions,
    rows: usize,
) -> Result<(), LabError> {
    if !timer.wants(name) {
        return Ok(());
    }
    let plan = Encoding::from(Learned::new(len)).plan(Dims::new(PROMPT[2], 16)?)?;
    let params = plan.init::<f32>(0)?;
    let call = plan.call(&params, at, at)?;
    let mut dx = vec![T::narrow(1e-9); PROMPT.iter().product()];
    let mut grads = params.zeros_like();
    let (work, mut plain, other) = work::<T>(name, stored, &PROMPT, rows, 1, 2);
    call.add_adjoint(Site::Embedding, ViewMut::new(&mut dx, PROMPT)?, Mode::Evaluate, &mut grads)?;
    let mut hook = || {
        let dx = ViewMut::new(&mut dx, PROMPT).expect("its size");
        call.add_adjoint(Site::Embedding, dx, Mode::Evaluate, &mut grads)
            .expect("checked before");
    };
    if rows < PROMPT[0] * PROMPT[1] {
        // Rows that are met again lie in the caches: memory is read, and hardly written.
        let bytes = PROMPT.iter().product::<usize>() * size_of::<T>();
        let gradient = vec![1u8; bytes];
        let work = Work {
            bytes,
            operations: 0,
            limit: "read",
            goal: None,
            ..work
        };
        timer.pair(work, hook, || read(&gradient));
    } else {
        timer.pair(work, &mut hook, || sum(&mut plain, &other));
    }
    Ok(())
}
