//! The set `rope_scaling`: Llama's configurations in the new and the old layout, each called at several lengths.

use super::super::compare::Worst;
use super::super::set::{Outcome, Record, fail};
use super::{factor_equal, frequencies_near, near, table_bound};
use crate::golden::asked::Layout;
use crate::through;
use posenc::config::{Mode, read};
use posenc::{Positions, Turn};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    let model = read(record.json["config"].to_string().as_bytes(), Mode::Strict).map_err(|error| error.to_string())?;
    let plan = &model.parts[0].plans[0];
    let Some(rotary) = &plan.described else {
        return fail("no rotary positions");
    };
    let mut worst = Worst::default();
    let Some(cases) = record.json["cases"].as_array() else {
        return fail("no cases");
    };
    for case in cases {
        let (Some(name), Some(length)) = (case["name"].as_str(), case["seq_len"].as_u64()) else {
            return fail("a case without a name or a length");
        };
        let name = name.strip_prefix(&format!("{}/", record.id)).unwrap_or(name);
        let ids: Option<Vec<i64>> = case["positions"].as_array().into_iter().flatten().map(|p| p.as_i64()).collect();
        let ids = ids.ok_or_else(|| "a position is no whole number".to_string())?;
        // The length of the call is that of its positions, but for the one of a single token, which has two.
        let frequencies = rotary.frequencies(plan.dims.head_dim, length as usize)?;
        let ours: Vec<f64> = frequencies.pairs.iter().map(|f| f64::from(*f as f32)).collect();
        worst = worst.or(frequencies_near(&ours, record.f32s::<1>(&format!("{name}/inv_freq"))?.1)?);
        let Some(factor) = case["attention_scaling"].as_f64() else {
            return fail("no attention_scaling");
        };
        factor_equal(frequencies.table_factor, factor)?;

        // (1, 0) of each pair, halves paired, becomes its cosine and its sine, exactly.
        let at = Positions::whole(&ids);
        let pairs = ours.len();
        let row: Vec<f32> = [vec![1.0; pairs], vec![0.0; pairs]].concat();
        let turned = through::turned(
            rotary,
            &at,
            Turn::Forward,
            &row.repeat(ids.len()),
            [1, 1, ids.len(), 2 * pairs],
            Layout::ByHead,
        )?;
        for (table, of) in [("cos", 0), ("sin", 1)] {
            let tensor = format!("{name}/{table}");
            let theirs = record.tensor(&tensor)?;
            let width = theirs.shape.last().copied().unwrap_or(0);
            let super::super::set::Data::F32(theirs) = &theirs.data else {
                return fail(format!("{tensor} is not f32"));
            };
            if width != 2 * pairs {
                return fail(format!("{tensor}: {width} columns for {pairs} pairs"));
            }
            // transformers writes the pairs twice, side by side.
            let both: Vec<f64> = (0..ids.len())
                .flat_map(|t| {
                    let row = &turned[(2 * t + of) * pairs..][..pairs];
                    [row, row].concat()
                })
                .map(f64::from)
                .collect();
            let bound = |i: usize| {
                table_bound(
                    ids[i / width] as f64,
                    frequencies.pairs[i % width % pairs],
                    frequencies.table_factor,
                )
            };
            worst = worst.or(near(&tensor, &both, theirs, bound)?);
        }
    }
    Ok(worst)
}
