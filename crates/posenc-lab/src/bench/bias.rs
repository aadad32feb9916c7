//! Biases that depend on the distance alone, written out: against a fill.

use super::paired::{Timer, Work, fill};
use crate::error::LabError;
use posenc::{Alibi, Call, ClippedBias, Dims, Direction, Element, Encoding, Positions, T5Bias, ViewMut};

/// The matrices of a prompt's heads, and the row of one new token behind as many.
const MATRIX: [usize; 4] = [1, 16, 2048, 2048];
const ROW: [usize; 4] = [1, 16, 1, 2048];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let kinds: [(&str, Encoding); 3] = [
        ("T5 bias", T5Bias::encoder().into()),
        ("ALiBi", Alibi::new().into()),
        ("clipped bias", ClippedBias::new(128, Direction::KeyMinusQuery).into()),
    ];
    for (name, encoding) in kinds {
        let plan = encoding.plan(Dims::new(1024, MATRIX[1])?)?;
        let params = plan.init::<f32>(0)?;
        let keys = Positions::range(0..MATRIX[3] as i64);
        let last = Positions::range(MATRIX[3] as i64 - 1..MATRIX[3] as i64);
        for (how, q_at, shape) in [("written out", &keys, &MATRIX), ("row of a step", &last, &ROW)] {
            let name = format!("{name}, {how}");
            if !timer.wants(&name) {
                continue;
            }
            let call = plan.call(&params, q_at, &keys)?;
            written::<f32>(timer, &name, "f32", &call, shape)?;
            written::<half::bf16>(timer, &name, "bf16", &call, shape)?;
            written::<half::f16>(timer, &name, "f16", &call, shape)?;
        }
    }
    // Ids in no order: each pair is looked up.
    let name = "T5 bias, of scattered ids";
    if timer.wants(name) {
        let plan = Encoding::from(T5Bias::encoder()).plan(Dims::new(1024, MATRIX[1])?)?;
        let params = plan.init::<f32>(0)?;
        let ids: Vec<i64> = (0..MATRIX[3] as i64).map(|t| t * 1009 % 2048).collect();
        let at = Positions::whole(&ids);
        written::<f32>(timer, name, "f32", &plan.call(&params, &at, &at)?, &MATRIX)?;
    }
    Ok(())
}

fn written<T: Element<Real = f32>>(
    timer: &mut Timer<'_>,
    name: &str,
    stored: &'static str,
    call: &Call<'_, f32>,
    shape: &[usize; 4],
) -> Result<(), LabError> {
    let numbers: usize = shape.iter().product();
    let bytes = numbers * size_of::<T>();
    let (mut out, mut plain) = (vec![T::narrow(1.0); numbers], vec![1u8; bytes]);
    let work = Work {
        name: name.into(),
        stored,
        shape: shape.as_slice().into(),
        bytes,
        operations: 0,
        limit: "memset",
        goal: Some(1.10),
    };
    call.materialise_bias(ViewMut::new(&mut out, *shape)?)?;
    timer.pair(
        work,
        || {
            call.materialise_bias(ViewMut::new(&mut out, *shape).expect("its size"))
                .expect("checked before")
        },
        || fill(&mut plain),
    );
    Ok(())
}
