//! Tables of cosines and sines: against the same number by number in f32, as tensor libraries compute them.

use super::paired::{Timer, Work};
use crate::error::LabError;
use posenc::{Pairing, Positions, Rotary, Rotation};
use std::hint::black_box;

const LEN: usize = 131_072;
const HEAD: usize = 128;
const PAIRS: usize = HEAD / 2;

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let (at, rotary) = (Positions::range(0..LEN as i64), Rotary::new(Pairing::Halves));
    let frequencies: Vec<f32> = (0..PAIRS).map(|i| 1.0 / 10_000f32.powf(2.0 * i as f32 / HEAD as f32)).collect();
    // The goal is candle's speed times ten, which the bench of the adapters' workspace measures; this loop is what any machine can compare with.
    let work = |name: &str| Work {
        name: name.into(),
        stored: "f32",
        shape: vec![LEN, PAIRS].into(),
        bytes: 8 * LEN * PAIRS,
        operations: 0,
        limit: "by f32, number by number: a product, its cosine, its sine, one thread",
        goal: None,
    };
    let touched = "cosines and sines from f64 angles";
    if timer.wants(touched) {
        let mut rotation: Rotation<f32> = rotary.rotation(HEAD, &at)?;
        let mut memory = [(); 3].map(|()| vec![0.0f32; LEN * PAIRS]);
        timer.pair(
            work(touched),
            || rotary.rotation_into(HEAD, &at, &mut rotation).expect("checked before"),
            || by_number(&frequencies, &mut memory),
        );
    }
    let fresh = "cosines and sines, into new memory";
    if timer.wants(fresh) {
        // What a first call pays: the system hands out each page as it is touched.
        timer.pair(
            work(fresh),
            || drop(black_box(rotary.rotation::<f32>(HEAD, &at).expect("checked before"))),
            || by_number(&frequencies, &mut black_box([(); 3].map(|()| vec![0.0f32; LEN * PAIRS]))),
        );
    }
    Ok(())
}

/// Angles, their cosines and their sines.
fn by_number(frequencies: &[f32], [angles, cos, sin]: &mut [Vec<f32>; 3]) {
    for (t, row) in angles.chunks_exact_mut(PAIRS).enumerate() {
        row.iter_mut().zip(frequencies).for_each(|(angle, f)| *angle = t as f32 * f);
    }
    cos.iter_mut().zip(&*angles).for_each(|(c, angle)| *c = angle.cos());
    sin.iter_mut().zip(&*angles).for_each(|(s, angle)| *s = angle.sin());
}
