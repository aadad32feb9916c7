//! A trained table: `relative_attention_bias` of all-mpnet-base-v2, 32 buckets × 12 heads, bidirectional.

use super::compare::{Worst, equal};
use super::set::{Outcome, fail, skip};
use crate::through;
use posenc::{Dims, Encoding, Positions, T5Bias, View, ViewMut, t5_bias, t5_bucket};
use std::path::Path;

/// The name of the set, and of its file without `.bin`.
pub const NAME: &str = "mpnet_relative_attention_bias_32x12_f32le";

const BUCKETS: usize = 32;
const HEADS: usize = 12;
/// MPNet's positions end at 512.
const LEN: i64 = 512;

/// A bucket that no distance reaches gets no gradient: it keeps its initial N(0, 0.02), less weight decay. Within 4 standard deviations lie 384 draws
/// of it with a probability of 0.98, and 12 with one of 0.9992; no trained row does.
const UNTRAINED: f32 = 4.0 * 0.02;

/// Exactly one row was never trained, and it is the row that no distance reaches.
pub fn check(folder: &Path) -> Outcome<Worst> {
    let path = folder.join(format!("{NAME}.bin"));
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return skip(format!("{} is not there", path.display())),
        Err(error) => return fail(format!("{}: {error}", path.display())),
    };
    if bytes.len() != BUCKETS * HEADS * 4 {
        return fail(format!("{} bytes, {} are expected", bytes.len(), BUCKETS * HEADS * 4));
    }
    let table: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let mut reached = [false; BUCKETS];
    for relative in 1 - LEN..LEN {
        reached[t5_bucket(relative, true, BUCKETS, 128)?] = true;
    }
    for (row, (values, reached)) in table.chunks_exact(HEADS).zip(reached).enumerate() {
        let largest = values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        if reached != (largest > UNTRAINED) {
            let is = if reached { "is reached" } else { "cannot be reached" };
            return fail(format!("bucket {row} {is}, but its largest bias is {largest}"));
        }
    }
    if reached[BUCKETS / 2] {
        return fail(format!("bucket {} is reached", BUCKETS / 2));
    }

    // The bias of 512 tokens holds the table's numbers, each where its bucket says.
    let at = Positions::range(0..LEN);
    let n = LEN as usize;
    let mut ours = vec![f32::NAN; HEADS * n * n];
    let out = ViewMut::new(&mut ours, [HEADS, n, n])?;
    t5_bias(&T5Bias::encoder(), View::new(&table, [BUCKETS, HEADS])?, &at, &at, out)?;
    let mut expected = Vec::with_capacity(ours.len());
    for head in 0..HEADS {
        for i in 0..LEN {
            for j in 0..LEN {
                expected.push(table[t5_bucket(j - i, true, BUCKETS, 128)? * HEADS + head]);
            }
        }
    }
    equal("bias", &[HEADS, n, n], &ours, &expected)?;
    let plan = Encoding::from(T5Bias::encoder()).plan(Dims::new(HEADS, HEADS)?)?;
    let mut params = plan.init::<f32>(0)?;
    params.set(&plan.parameters()[0].name, &[BUCKETS, HEADS], &table)?;
    let of_a_plan = through::bias(&plan, &params, &at, &at)?;
    Ok(equal("bias of a plan", &[HEADS, n, n], &of_a_plan, &expected)?)
}
