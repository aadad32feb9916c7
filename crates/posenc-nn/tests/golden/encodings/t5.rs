//! T5's buckets and its bias: integers and copies, so nothing may differ.

use crate::golden::compare::{Worst, equal};
use crate::golden::set::{Outcome, Record, fail, skip};
use crate::through;
use posenc::{Dims, Encoding, Positions, T5Bias, View, ViewMut, t5_bias, t5_bucket};

/// Buckets of relative positions.
pub fn buckets(record: &Record<'_>) -> Outcome<Worst> {
    record.only(
        "params",
        &["bidirectional", "max_distance", "num_buckets", "reference", "relative_position"],
    )?;
    record.only_tensors(&["bucket", "relative_position"])?;
    if record.text("params", "relative_position") != Some("memory(key) - query") {
        return skip(format!(
            "relative_position {} is not known here",
            record.json["params"]["relative_position"]
        ));
    }
    let bidirectional = record.flag_or("params", "bidirectional", true)?;
    let (count, distance) = (record.size("params", "num_buckets")?, record.size("params", "max_distance")?);
    let (shape, relative) = record.i64s("relative_position")?;
    let mut ours = Vec::with_capacity(relative.len());
    for relative in relative {
        ours.push(t5_bucket(*relative, bidirectional, count, distance)? as i64);
    }
    Ok(equal("bucket", shape, &ours, record.i64s("bucket")?.1)?)
}

/// The bias of a table, by one call and through a plan.
pub fn bias(record: &Record<'_>) -> Outcome<Worst> {
    let known = [
        "bidirectional",
        "key_len",
        "max_distance",
        "num_buckets",
        "num_heads",
        "query_len",
        "reference",
    ];
    record.only("params", &known)?;
    record.only_tensors(&["bias", "weight"])?;
    let size = |name| record.size("params", name);
    let (heads, q_len, k_len) = (size("num_heads")?, size("query_len")?, size("key_len")?);
    let method = T5Bias {
        bidirectional: record.flag_or("params", "bidirectional", true)?,
        ..T5Bias::encoder().with_buckets(size("num_buckets")?, size("max_distance")?)
    };
    let (table_shape, table) = record.f32s::<2>("weight")?;
    let (shape, theirs) = record.f32s::<4>("bias")?;
    if shape != [1, heads, q_len, k_len] {
        return fail(format!("`bias` has shape {shape:?}"));
    }
    let (q_at, k_at) = (Positions::absent(q_len), Positions::absent(k_len));
    let mut ours = vec![f32::NAN; theirs.len()];
    t5_bias(
        &method,
        View::new(table, table_shape)?,
        &q_at,
        &k_at,
        ViewMut::new(&mut ours, [heads, q_len, k_len])?,
    )?;
    equal("bias", &shape, &ours, theirs)?;

    let plan = Encoding::from(method).plan(Dims::new(heads, heads)?)?;
    let mut params = plan.init::<f32>(0)?;
    params.set(&plan.parameters()[0].name, &table_shape, table)?;
    let ours = through::bias(&plan, &params, &q_at, &k_at)?;
    Ok(equal("bias of a plan", &shape, &ours, theirs)?)
}
