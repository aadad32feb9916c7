//! The sets `rope_scaling`, `hf_rotary` and `rounding`: from a model's configuration to its frequencies, tables and turned queries and keys.

pub mod models;
pub mod rounding;
pub mod scaling;

use super::compare::Worst;
use super::set::{Outcome, fail};

/// Half an ulp of f32, relative.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// The distance from |x| to the next f32 away from zero.
fn ulp(x: f64) -> f64 {
    let x = x.abs() as f32;
    f64::from(x.next_up()) - f64::from(x)
}

/// How far two f32 codes' cosines, or sines, of one pair at position `p` may lie apart, for a frequency that the two have within 2 ulp.
///
/// Each rounds the product of position and frequency to the nearest f32: half an ulp of the angle each, and p times the 2 ulp in which the frequencies differ. Neither
/// function is steeper than 1. Each result is within an ulp of f32 below 1 (2U), and its product with the table's factor is rounded once more (U).
pub(super) fn table_bound(p: f64, frequency: f64, factor: f64) -> f64 {
    factor * (p.abs() * 2.0 * ulp(frequency) + ulp(p * frequency) + 2.0 * 3.0 * U)
}

/// Each number within its bound of the record's.
pub(super) fn near(tensor: &str, ours: &[f64], theirs: &[f32], bound: impl Fn(usize) -> f64) -> Outcome<Worst> {
    if ours.len() != theirs.len() {
        return fail(format!("{tensor}: {} numbers, the record has {}", ours.len(), theirs.len()));
    }
    let mut worst = Worst {
        tensor: tensor.into(),
        ratio: 0.0,
    };
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let (error, allowed) = ((ours - f64::from(*theirs)).abs(), bound(i));
        if error <= allowed {
            worst.ratio = worst.ratio.max(if error > 0.0 { error / allowed } else { 0.0 });
        } else {
            return fail(format!(
                "{tensor}[{i}]: ours {ours:.9e}, the record {theirs:.9e}, {error:.3e} apart, allowed {allowed:.3e}"
            ));
        }
    }
    Ok(worst)
}

/// Frequencies within 2 ulp of f32 of the record's: transformers takes powers in f32.
fn frequencies_near(ours: &[f64], theirs: &[f32]) -> Outcome<Worst> {
    near("inv_freq", ours, theirs, |i| 2.0 * ulp(f64::from(theirs[i])))
}

/// The table's factor is the record's to the last bit of f32.
fn factor_equal(ours: f64, theirs: f64) -> Outcome<()> {
    if ours as f32 == theirs as f32 {
        return Ok(());
    }
    fail(format!("attention_scaling: ours {ours}, the record {theirs}"))
}
