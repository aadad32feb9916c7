//! The calls of a decoding loop, which take over what the step before resolved: against calls that are made afresh.

use super::paired::{Timer, Work};
use crate::error::LabError;
use posenc::{AddTo, Dims, Encoding, InputTable, Pairing, Positions, Rotary, Sinusoidal, Steps, T5Bias};

/// Keys of the first step.
const LENGTHS: [usize; 2] = [2048, 32_768];
/// Steps that are timed together, of one token each.
const STEPS: usize = 8;
const WIDTH: usize = 1024;

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    for len in LENGTHS {
        let kinds: [(&str, Encoding); 4] = [
            ("rotary", Rotary::new(Pairing::Halves).into()),
            (
                "sinusoidal in attention",
                Sinusoidal::paper().added_to(AddTo::AttentionInputs).into(),
            ),
            ("input table", InputTable::new(len + STEPS).into()),
            ("T5 bias", T5Bias::decoder().into()),
        ];
        for (name, encoding) in kinds {
            let name = format!("call of a step, {name}");
            if !timer.wants(&name) {
                continue;
            }
            let plan = encoding.plan(Dims::new(WIDTH, 16)?)?;
            let params = plan.init::<f32>(0)?;
            let at: Vec<[Positions; 2]> = (len as i64..(len + STEPS) as i64)
                .map(|last| [Positions::range(last..last + 1), Positions::range(0..last + 1)])
                .collect();
            let mut steps = Steps::default();
            for [q_at, k_at] in &at {
                plan.step(&mut steps, &params, q_at, k_at)?;
            }
            let work = Work {
                name,
                stored: "f32",
                shape: vec![STEPS, len].into(),
                bytes: 0,
                operations: 0,
                limit: "afresh",
                goal: None,
            };
            timer.pair(
                work,
                || {
                    // The first step takes the others' tokens back.
                    for [q_at, k_at] in &at {
                        plan.step(&mut steps, &params, q_at, k_at).expect("checked before");
                    }
                },
                || {
                    for [q_at, k_at] in &at {
                        plan.call(&params, q_at, k_at).expect("checked before");
                    }
                },
            );
        }
    }
    Ok(())
}
