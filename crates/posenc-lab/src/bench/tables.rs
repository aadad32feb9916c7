//! Tables of cosines and sines: against the same number by number in f32, as tensor libraries compute them.

use super::paired::{Timer, Work};
use crate::error::LabError;
use posenc::{Pairing, Positions, Rotary, Rotation};

const LEN: usize = 131_072;
const HEAD: usize = 128;

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let name = "cosines and sines from f64 angles";
    if !timer.wants(name) {
        return Ok(());
    }
    let (at, rotary) = (Positions::range(0..LEN as i64), Rotary::new(Pairing::Halves));
    let mut rotation: Rotation<f32> = rotary.rotation(HEAD, &at)?;
    let pairs = HEAD / 2;
    let frequencies: Vec<f32> = (0..pairs).map(|i| 1.0 / 10_000f32.powf(2.0 * i as f32 / HEAD as f32)).collect();
    let (mut angles, mut cos, mut sin) = (vec![0.0f32; LEN * pairs], vec![0.0f32; LEN * pairs], vec![0.0f32; LEN * pairs]);
    let work = Work {
        name: name.into(),
        stored: "f32",
        shape: &[LEN, pairs],
        bytes: 8 * LEN * pairs,
        limit: "by f32, number by number: a product, its cosine, its sine, one thread",
        goal: Some(0.1),
    };
    timer.pair(
        work,
        || rotary.rotation_into(HEAD, &at, &mut rotation).expect("checked before"),
        || {
            for (t, row) in angles.chunks_exact_mut(pairs).enumerate() {
                row.iter_mut().zip(&frequencies).for_each(|(angle, f)| *angle = t as f32 * f);
            }
            cos.iter_mut().zip(&angles).for_each(|(c, angle)| *c = angle.cos());
            sin.iter_mut().zip(&angles).for_each(|(s, angle)| *s = angle.sin());
        },
    );
    Ok(())
}
