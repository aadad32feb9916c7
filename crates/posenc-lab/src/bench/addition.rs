//! Tables that are added to embeddings: against a plain sum of the same traffic.

use super::paired::{Timer, Work, sum};
use crate::error::LabError;
use posenc::{Dims, Encoding, Learned, Mode, Positions, Sinusoidal, Site, ViewMut};

const SHAPE: [usize; 3] = [8, 2048, 1024];

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let [batch, len, width] = SHAPE;
    let numbers = batch * len * width;
    // Each row of the batch reads rows of its own, so that the table is read as the plain sum reads its second factor.
    let ids: Vec<i64> = (0..(batch * len) as i64).collect();
    let kinds: [(&str, Encoding, Positions); 2] = [
        (
            "learned, gathered and added",
            Learned::new(batch * len).into(),
            Positions::whole_rows(&ids, batch)?,
        ),
        ("sinusoidal, added", Sinusoidal::paper().into(), Positions::whole_rows(&ids, batch)?),
    ];
    for (name, encoding, at) in kinds {
        if !timer.wants(name) {
            continue;
        }
        let plan = encoding.plan(Dims::new(width, 16)?)?;
        let params = plan.init::<f32>(0)?;
        let call = plan.call(&params, &at, &at)?;
        let mut x = vec![0.5f32; numbers];
        let (mut plain, other) = (vec![0.5f32; numbers], vec![1e-9f32; numbers]);
        let work = Work {
            name: name.into(),
            stored: "f32",
            shape: &SHAPE,
            bytes: 12 * numbers,
            limit: "x += y",
            goal: Some(1.05),
        };
        call.add(Site::Embedding, ViewMut::new(&mut x, SHAPE)?, Mode::Evaluate)?;
        timer.pair(
            work,
            || {
                let x = ViewMut::new(&mut x, SHAPE).expect("its size");
                call.add(Site::Embedding, x, Mode::Evaluate).expect("checked before");
            },
            || sum(&mut plain, &other),
        );
    }
    Ok(())
}
