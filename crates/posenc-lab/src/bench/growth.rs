//! The rotation at growing lengths and batches: the cost of a token stays what it is.

use super::paired::{Timer, Work, sweep};
use crate::error::LabError;
use posenc::{Pairing, Positions, Rotary, Rotation, Turn, ViewMut};

/// Heads and width of a head.
const HEADS: [usize; 2] = [8, 64];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let name = "growth: rotary halves in place";
    if !timer.wants(name) {
        return Ok(());
    }
    let lengths = (7..=17).map(|power| [1, 1usize << power]);
    let batches = (0..=6).map(|power| [1usize << power, 2048]);
    for [batch, len] in lengths.chain(batches) {
        let shape = [batch, HEADS[0], len, HEADS[1]];
        let numbers: usize = shape.iter().product();
        let rotation: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(HEADS[1], &Positions::range(0..len as i64))?;
        let (mut x, mut plain) = (vec![0.5f32; numbers], vec![1.0f32; numbers]);
        let work = Work {
            name: name.into(),
            stored: "f32",
            shape: &shape,
            bytes: 8 * numbers,
            limit: "x *= c",
            goal: None,
        };
        timer.pair(
            work,
            || {
                rotation
                    .apply(Turn::Forward, ViewMut::new(&mut x, shape).expect("its size"))
                    .expect("its shape")
            },
            || sweep(&mut plain),
        );
    }
    Ok(())
}
