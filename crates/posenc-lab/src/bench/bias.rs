//! Biases that depend on the distance alone, written out: against a fill.

use super::paired::{Timer, Work, fill};
use crate::error::LabError;
use posenc::{Alibi, ClippedBias, Dims, Direction, Encoding, Positions, T5Bias, ViewMut};

const SHAPE: [usize; 4] = [1, 16, 2048, 2048];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let kinds: [(&str, Encoding); 3] = [
        ("T5 bias, written out", T5Bias::encoder().into()),
        ("ALiBi, written out", Alibi::new().into()),
        ("clipped bias, written out", ClippedBias::new(128, Direction::KeyMinusQuery).into()),
    ];
    for (name, encoding) in kinds {
        if !timer.wants(name) {
            continue;
        }
        let plan = encoding.plan(Dims::new(1024, SHAPE[1])?)?;
        let params = plan.init::<f32>(0)?;
        let at = Positions::range(0..SHAPE[2] as i64);
        let call = plan.call(&params, &at, &at)?;
        let numbers: usize = SHAPE.iter().product();
        let (mut out, mut plain) = (vec![1.0f32; numbers], vec![1u8; 4 * numbers]);
        let work = Work {
            name: name.into(),
            stored: "f32",
            shape: &SHAPE,
            bytes: 4 * numbers,
            limit: "memset",
            goal: Some(1.10),
        };
        call.materialise_bias(ViewMut::new(&mut out, SHAPE)?)?;
        timer.pair(
            work,
            || {
                call.materialise_bias(ViewMut::new(&mut out, SHAPE).expect("its size"))
                    .expect("checked before")
            },
            || fill(&mut plain),
        );
    }
    Ok(())
}
