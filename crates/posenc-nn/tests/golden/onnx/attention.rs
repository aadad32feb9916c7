//! `Attention` (opsets 23 to 25).

mod adapter;
mod bounds;

use super::{Node, Sample, widened};
use crate::golden::bounded::Bounded;
use crate::golden::compare::{Worst, equal, within_each};
use crate::golden::format::{self, F32};
use crate::golden::set::{Data, Outcome, fail, skip};
use crate::through;
use adapter::Case;
use bounds::Arithmetic;

const ATTRIBUTES: [&str; 9] = [
    "is_causal",
    "kv_num_heads",
    "left_window_size",
    "q_num_heads",
    "qk_matmul_output_mode",
    "right_window_size",
    "scale",
    "softcap",
    "softmax_precision",
];

/// Inputs Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen; outputs Y, present_key, present_value, qk_matmul_output.
pub fn check<T: Sample + Default>(node: Node<'_>) -> Outcome<Worst> {
    node.only(7, 4, &ATTRIBUTES)?;
    let case = Case::<T>::read(node)?;
    let ours = case.run(false)?.out;

    // The standard computes every step in the operator's type, the softmax in a type of its own if it is asked to.
    let softmax = match node.attribute("softmax_precision", 0)? {
        0 => T::FORMAT,
        1 => F32,
        10 => format::F16,
        11 => format::F64,
        16 => format::BF16,
        other => return skip(format!("softmax_precision {other} is not known here")),
    };
    let stored = |numbers: Vec<Bounded>| -> Vec<Bounded> { numbers.into_iter().map(|x| T::FORMAT.narrowed(x, F32)).collect() };
    let [by_us, weights_by_us] = case.solve(Arithmetic::ours()).map(stored);
    let [by_them, weights_by_them] = case.solve(Arithmetic::standard(T::FORMAT, softmax));
    let y = node.required("outputs", 0)?;
    let theirs = widened(y.numbers::<T>("Y")?);
    let ours = widened(&case.in_layout(&ours));
    let (by_us, by_them) = (case.in_layout(&by_us), case.in_layout(&by_them));
    if y.shape != case.out_shape() {
        return fail(format!("Y has shape {:?}, the inputs ask for {:?}", y.shape, case.out_shape()));
    }
    let worst = within_each("Y", &y.shape, [(&ours, &by_us), (&theirs, &by_them)])?;

    for (place, name, data, width) in [
        (1, "present_key", &case.k, case.head_dim),
        (2, "present_value", &case.v, case.value_dim),
    ] {
        if let Some(present) = node.operand("outputs", place)? {
            let shape = [case.batch, case.kv_heads, case.k_len, width];
            if present.shape != shape {
                return fail(format!("{name} has shape {:?}, the inputs ask for {shape:?}", present.shape));
            }
            equal(name, &shape, &widened(data), &widened(present.numbers::<T>(name)?))?;
        }
    }

    let Some(scores) = node.operand("outputs", 3)? else {
        return Ok(worst);
    };
    let name = "qk_matmul_output";
    let shape = [case.batch, case.heads, case.q_len, case.k_len];
    if scores.shape != shape {
        return fail(format!("{name} has shape {:?}, the inputs ask for {shape:?}", scores.shape));
    }
    let theirs_of_scores = widened(scores.numbers::<T>(name)?);
    match node.attribute("qk_matmul_output_mode", 0)? {
        0 => {
            let (by_us, by_them) = (case.products(F32), case.products(T::FORMAT));
            let sides = [(&case.run_products()?[..], &by_us[..]), (&theirs_of_scores, &by_them)];
            Ok(worst.or(within_each(name, &shape, sides)?))
        }
        3 => {
            let again = case.run(true)?;
            let Some(weights) = again.weights else {
                return if through::GIVES_WEIGHTS {
                    fail("no weights were given")
                } else {
                    Ok(worst)
                };
            };
            // Without them a few queries read keys where they lie, and their sums come about in another order.
            let beside = widened(&case.in_layout(&again.out));
            let beside = within_each("Y beside the weights", &y.shape, [(&beside, &by_us), (&theirs, &by_them)])?;
            let sides = [(&widened(&weights)[..], &weights_by_us[..]), (&theirs_of_scores, &weights_by_them)];
            Ok(worst.or(beside).or(within_each(name, &shape, sides)?))
        }
        mode => {
            let apart = ours.iter().zip(&theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            skip(format!(
                "qk_matmul_output_mode {mode}: the standard exchanged its modes 1 and 2 (onnx/onnx#7913), and runtimes disagree; Y is within its bound, {apart:.1e} from the record's"
            ))
        }
    }
}

/// A mask as the operator takes it, its last axis as long as the keys.
#[derive(Clone, Debug)]
enum Given {
    /// True attends.
    Attends(Vec<bool>),
    /// Added to the scores.
    Added(Vec<f32>),
}

impl Given {
    /// Numbers of a mask, if it is of a type that is known here; all of them are exact in f32.
    fn of(data: &Data) -> Outcome<Given> {
        Ok(match data {
            Data::Bool(mask) => Given::Attends(mask.clone()),
            Data::F32(mask) => Given::Added(mask.clone()),
            Data::F16(mask) => Given::Added(widened(mask)),
            Data::Bf16(mask) => Given::Added(widened(mask)),
            Data::F64(_) | Data::I64(_) | Data::Other => {
                return skip("a mask of other numbers than booleans, f32, f16 and bf16 is not known here");
            }
        })
    }
}
