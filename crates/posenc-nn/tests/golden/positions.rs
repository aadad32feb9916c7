//! The set `hf_positions`: models that do not turn queries and keys, from their configurations alone.
//!
//! A record holds what a small model of transformers adds to the embeddings of a padded batch (with the learned table that it read), the biases or relative rows of its layers, what it multiplies
//! scores with and how far local layers see. All of it is computed here by the plan that `config::read` makes of the record's `config`.

use super::compare::Worst;
use super::rotary::{near, table_bound};
use super::set::{Data, Outcome, Record, fail};
use crate::through;
use posenc::config::{LayerPlan, Mode, Numbering, Part, read};
use posenc::embed::{Normalize, pixel_positions};
use posenc::{Dims, Inputs, Mask, Method, Mode as Pass, Outputs, Positions, Site, View, ViewMut, Workspace, deberta_bucket};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    let model = match read(record.json["config"].to_string().as_bytes(), Mode::Strict) {
        Ok(model) => model,
        Err(error) => return fail(error.to_string()),
    };
    let Some(stacks) = record.json["stacks"].as_object() else {
        return fail("no stacks");
    };
    let mut worst = Worst::default();
    for (stack, entry) in stacks {
        let name = Some(stack.as_str()).filter(|name| *name != "all");
        // A stack that is refused says so.
        if model.left.iter().any(|(path, _)| Some(path.as_str()) == name) {
            continue;
        }
        let Some(part) = model.parts.iter().find(|part| name.is_none() || part.stack == name) else {
            return fail(format!("no part for the stack `{stack}`"));
        };
        if let Some(rows) = entry["rows"].as_u64().filter(|_| entry["width"].is_u64()) {
            cells(part, rows, &entry["width"])?;
        }
        if record.find(&format!("{stack}/added")).is_some() {
            let learned = entry["learned"].as_bool().unwrap_or(false);
            let by_order = entry["by_order"].as_bool().unwrap_or(false);
            worst = worst.or(added(record, part, stack, learned, by_order)?);
        }
        if let Some(scales) = entry["scales"].as_array() {
            scaled(part, scales)?;
        }
        let Some(layer) = part.layer(0) else { continue };
        worst = worst.or(match entry["bias"].as_str() {
            Some("t5") => t5(record, layer, stack, &entry["tables"])?,
            Some("alibi") => alibi(record, layer, stack)?,
            Some("deberta") => deberta(record, layer, stack, entry)?,
            Some("xlnet" | "conformer") => relative(record, layer, stack, entry)?,
            Some("pixels") => pixels(record, layer, stack)?,
            Some("queries") => {
                let [Method::InputTable(table)] = &layer.spec.encoding.methods[..] else {
                    return fail("no table of queries was read");
                };
                equal("rows", Some(table.max_len as u64), entry["rows"].as_u64())?;
                Worst::default()
            }
            Some("keys") => keys(record, layer, stack, entry)?,
            Some(other) => return fail(format!("bias `{other}` is not known here")),
            None => Worst::default(),
        });
        windows(record, part, stack, entry)?;
    }
    Ok(worst)
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Outcome<()> {
    if ours == theirs {
        return Ok(());
    }
    fail(format!("{what}: ours {ours:?}, the record {theirs:?}"))
}

/// The table of a picture has a row for each cell and each token before them, as wide as the model.
fn cells(part: &Part, rows: u64, width: &serde_json::Value) -> Outcome<()> {
    let layer = part.layer(0).map(|layer| layer.dims.model_dim as u64);
    equal("width", layer, width.as_u64())?;
    let ours = match (part.numbering, &part.embeddings.methods[..]) {
        (Numbering::Grid { height, width, leading }, [Method::Learned(table)]) => {
            equal("rows of the grid", height * width + leading, table.max_len)?;
            table.max_len
        }
        _ => part.max_len.unwrap_or(0),
    };
    equal("rows", ours as u64, rows)
}

/// What acts on embeddings of zeros, at each token that is not padding.
fn added(record: &Record<'_>, part: &Part, stack: &str, learned: bool, by_order: bool) -> Outcome<Worst> {
    let ([batch, len, width], theirs) = record.f32s::<3>(&format!("{stack}/added"))?;
    let (at, is_token) = match part.numbering {
        _ if by_order => (Positions::absent(len), vec![true; batch * len]),
        Numbering::Cells { leading } => {
            let side = ((len - leading) as f64).sqrt() as usize;
            (Positions::grid(side, side).after_unplaced(leading), vec![true; batch * len])
        }
        numbering if record.find("input_ids").is_some() => {
            let (ids, mask) = (record.i64s("input_ids")?.1, record.i64s("attention_mask")?.1);
            (numbering.of_text(ids, mask, batch)?, mask.iter().map(|m| *m == 1).collect())
        }
        _ => (Positions::absent(len), vec![true; batch * len]),
    };
    let plan = part.embeddings.plan(Dims::new(width, 1)?)?;
    let mut params = plan.init::<f32>(0)?;
    if learned {
        let (shape, table) = record.f32s::<2>(&format!("{stack}/table"))?;
        params.set("pos_embedding.weight", &shape, table)?;
    }
    let zeros = vec![0f32; batch * len * width];
    let ours = through::embedded(&plan, &params, &at, &zeros, [batch, len, width], None)?.out;
    let mut worst = Worst::default();
    for token in (0..batch * len).filter(|token| is_token[*token]) {
        let row = |all: &[f32]| all[token * width..][..width].to_vec();
        let (ours, theirs) = (row(&ours), row(theirs));
        let name = format!("{stack}/added, token {token}");
        if learned {
            // 0 + a row is the row, bit for bit.
            equal(&name, ours, theirs)?;
            continue;
        }
        let [Method::Sinusoidal(table)] = &part.embeddings.methods[..] else {
            return fail("the record is not learned, and what was read is not sinusoidal");
        };
        // Two sums of angles in f32 (or one in f64, whose error is nothing beside it), at the largest frequency 1; the paper's formula and its rounded exponential, or power, are within 4 ulp.
        let position = (0..at.axes()).filter_map(|axis| at.get(axis, if at.batch() == 1 { 0 } else { token / len }, token % len));
        let position = position.fold(0.0, |far: f64, x| far.max(x.abs())) + table.offset as f64;
        let bound = 2.0 * table_bound(position, 1.0, 1.0);
        let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
        worst = worst.or(near(&name, &ours, &theirs, |_| bound)?);
    }
    Ok(worst)
}

/// Attention's own factor, layer by layer where the record has one per layer. Both are quotients of small numbers: an ulp of f32 is far more than their rounding in f64.
fn scaled(part: &Part, theirs: &[serde_json::Value]) -> Outcome<()> {
    let ours: Vec<f64> = part
        .layers
        .iter()
        .map(|plan| part.plans[*plan].spec.attention.scale_for(part.plans[*plan].dims.head_dim))
        .collect();
    for (i, theirs) in theirs.iter().enumerate() {
        let Some(ours) = ours.get(i).or(ours.last()) else { continue };
        equal("scale", *ours as f32, theirs.as_f64().unwrap_or(f64::NAN) as f32)?;
    }
    Ok(())
}

fn t5(record: &Record<'_>, layer: &LayerPlan, stack: &str, tables: &serde_json::Value) -> Outcome<Worst> {
    let ([heads, len, _], theirs) = record.f32s::<3>(&format!("{stack}/t5_bias"))?;
    let (shape, table) = record.f32s::<2>(&format!("{stack}/t5_table"))?;
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let mut params = plan.init::<f32>(0)?;
    params.set("relative_attention_bias.weight", &shape, table)?;
    let [Method::T5Bias(method)] = &layer.spec.encoding.methods[..] else {
        return fail("no buckets were read");
    };
    equal(
        "a table per layer",
        method.scope == posenc::Scope::Layer,
        tables.as_u64() != Some(1),
    )?;
    let at = Positions::absent(len);
    equal("heads", plan.dims().heads, heads)?;
    let ours = through::bias(&plan, &params, &at, &at)?;
    // The same rows of the same table.
    equal("t5_bias", &ours[..], theirs)?;
    Ok(Worst::default())
}

/// The record's biases grow with the key; they are the penalty of the last query up to a number per head, which softmax does not see.
fn alibi(record: &Record<'_>, layer: &LayerPlan, stack: &str) -> Outcome<Worst> {
    let ([heads, len], theirs) = record.f32s::<2>(&format!("{stack}/alibi"))?;
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let params = plan.init::<f32>(0)?;
    let last = len as i64 - 1;
    equal("heads", plan.dims().heads, heads)?;
    let ours = through::bias(&plan, &params, &Positions::range(last..last + 1), &Positions::absent(len))?;
    let from_last = |all: &[f32]| -> Vec<f64> {
        let rows = all.chunks_exact(len);
        rows.flat_map(|row| row.iter().map(|x| f64::from(*x) - f64::from(row[len - 1])))
            .collect()
    };
    let (ours, theirs) = (from_last(&ours), from_last(theirs));
    let theirs: Vec<f32> = theirs.into_iter().map(|x| x as f32).collect();
    // A slope is a power of an f32 base with at most 24 roundings on each side, the product one, in Falcon's case of bf16 (2⁻⁹ of the largest bias) on theirs.
    let falcon = record.id.starts_with("falcon");
    near("alibi", &ours, &theirs, |i| {
        let largest = theirs[i - i % len].abs();
        let product = if falcon { 2f64.powi(-9) * 2.0 } else { 0.0 };
        f64::from(largest) * (48.0 * 2f64.powi(-24) + product) + f64::from(f32::MIN_POSITIVE)
    })
}

/// The rows of the table, the bucket of each distance, the projections and the terms.
fn deberta(record: &Record<'_>, layer: &LayerPlan, stack: &str, entry: &serde_json::Value) -> Outcome<Worst> {
    let [Method::Deberta(method)] = &layer.spec.encoding.methods[..] else {
        return fail("no disentangled attention was read");
    };
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let rows: Vec<u64> = entry["rows"].as_array().into_iter().flatten().filter_map(|x| x.as_u64()).collect();
    equal("rows", plan.parameters()[0].shape.iter().map(|x| *x as u64).collect(), rows)?;
    let named: Vec<String> = plan
        .projections()
        .iter()
        .flat_map(|p| p.parameters(&layer.dims))
        .map(|p| p.name)
        .collect();
    let owns = entry["projections"].as_array().into_iter().flatten().filter_map(|x| x.as_str());
    let owns: Vec<&str> = owns.collect();
    for name in &owns {
        equal("a projection of its own", named.iter().any(|own| own.starts_with(*name)), true)?;
    }
    equal("projections of its own", owns.is_empty(), named.is_empty())?;
    let terms = u64::from(method.c2p) + u64::from(method.p2c);
    equal("terms", Some(terms), entry["terms"].as_u64())?;
    let scale = 1.0 / ((layer.dims.head_dim as u64 * (1 + terms)) as f64).sqrt();
    equal("scale", layer.spec.attention.scale, Some(scale))?;
    let (shape, theirs) = record.i64s(&format!("{stack}/buckets"))?;
    for (i, theirs) in theirs.iter().enumerate() {
        let distance = (i / shape[1]) as i64 - (i % shape[1]) as i64;
        let ours = match method.buckets {
            Some(buckets) => deberta_bucket(distance, buckets, method.max_distance)?,
            None => distance,
        };
        equal("bucket", ours, *theirs)?;
    }
    Ok(Worst::default())
}

/// The rows that a layer projects, farthest before the query first.
fn relative(record: &Record<'_>, layer: &LayerPlan, stack: &str, entry: &serde_json::Value) -> Outcome<Worst> {
    let ([_, width], theirs) = record.f32s::<2>(&format!("{stack}/relative"))?;
    let (Some(first), Some(last)) = (entry["first"].as_i64(), entry["last"].as_i64()) else {
        return fail("no first and last distance");
    };
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let params = plan.init::<f64>(0)?;
    // Every distance from `first` to `last` occurs: queries 0 to `first`, keys 0 to −`last`.
    let (q_at, k_at) = (Positions::range(0..first + 1), Positions::range(0..1 - last));
    let rows = through::rows(&plan, &params, &q_at, &k_at, "relative_keys")?;
    let clamp = match &layer.spec.encoding.methods[..] {
        [Method::XlNet(method)] => method.clamp_len,
        [Method::TransformerXl(method)] => method.clamp_len,
        _ => return fail("no relative attention was read"),
    };
    let clamp = clamp.map_or(i64::MAX, |clamp| clamp as i64);
    // Distances that are read as one have one row here and as many as they are in the record.
    let mut worst = Worst::default();
    let most = first.min(clamp);
    for (i, theirs) in theirs.chunks_exact(width).enumerate() {
        let distance = (first - i as i64).clamp(-clamp, clamp);
        if distance < last {
            break;
        }
        let Some(row) = rows.get((most - distance) as usize).filter(|row| row.len() == width) else {
            return fail(format!("no row of distance {distance}"));
        };
        let bound = 2.0 * table_bound(distance as f64, 1.0, 1.0);
        worst = worst.or(near("relative", row, theirs, |_| bound)?);
    }
    Ok(worst)
}

/// What is added to the inputs of queries and keys at each pixel of padded pictures.
fn pixels(record: &Record<'_>, layer: &LayerPlan, stack: &str) -> Outcome<Worst> {
    let ([batch, len, width], theirs) = record.f32s::<3>(&format!("{stack}/inputs"))?;
    let mask = record.tensor(&format!("{stack}/is_pixel"))?;
    let (Data::Bool(is_pixel), &[_, height, columns]) = (&mask.data, &mask.shape[..]) else {
        return fail("`is_pixel` is not a mask of pictures");
    };
    let at = pixel_positions(is_pixel, [batch, height, columns], Some(Normalize::DETR))?;
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let params = plan.init::<f32>(0)?;
    let zeros = vec![0f32; batch * len * width];
    let ours = through::added(&plan, &params, &at, Site::QueryInput, &zeros, [batch, len, width])?;
    let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
    // Counts over sizes, times 2π: three more roundings of an angle that is 2π at most (they are f64 here).
    let turn = std::f64::consts::TAU;
    let bound = 2.0 * table_bound(turn, 1.0, 1.0) + 3.0 * turn * 2f64.powi(-24);
    near("inputs", &ours, theirs, |_| bound)
}

/// Which row of the table a pair reads: tables of `Shaw` hold a row per distance from the farthest before the query.
fn keys(record: &Record<'_>, layer: &LayerPlan, stack: &str, entry: &serde_json::Value) -> Outcome<Worst> {
    let [Method::Shaw(method)] = &layer.spec.encoding.methods[..] else {
        return fail("no vectors of distances were read");
    };
    equal("values", method.values, false)?;
    let plan = layer.spec.encoding.plan(layer.dims)?;
    equal("rows", Some(plan.parameters()[0].shape[0] as u64), entry["rows"].as_u64())?;
    let (shape, theirs) = record.i64s(&format!("{stack}/rows_read"))?;
    let [q_len, k_len] = [shape[0], shape[1]];
    let ours = rows_read(layer, q_len, k_len)?;
    equal("rows_read", &ours[..], theirs)?;
    Ok(Worst::default())
}

/// The row of each pair: queries of one coordinate read a table whose rows are their numbers, beside a key without a position, whose score is 0; so the weights' ratio is the row's exponential.
fn rows_read(layer: &LayerPlan, q_len: usize, k_len: usize) -> Outcome<Vec<i64>> {
    let plan = layer.spec.encoding.plan(layer.dims)?;
    let Dims { heads, head_dim, .. } = layer.dims;
    let mut params = plan.init::<f64>(0)?;
    let shape = plan.parameters()[0].shape.clone();
    let table: Vec<f64> = (0..shape[0] * shape[1])
        .map(|i| if i % shape[1] == 0 { (i / shape[1]) as f64 } else { 0.0 })
        .collect();
    params.set("relative_keys", &shape, &table)?;
    let q: Vec<f64> = (0..q_len * heads * head_dim)
        .map(|i| f64::from(u8::from(i % head_dim == 0)))
        .collect();
    let zeros = vec![0.0; 2 * heads * head_dim];
    let scale = layer.spec.attention.scale_for(head_dim);
    let mut rows = vec![0; q_len * k_len];
    for key in 0..k_len {
        let k_at = Positions::range(key as i64..key as i64 + 1).after_unplaced(1);
        let call = plan.call(&params, &Positions::absent(q_len), &k_at)?;
        let (mut out, mut weights) = (vec![0.0; q.len()], vec![0.0; heads * q_len * 2]);
        let keys = View::new(&zeros, [1, heads, 2, head_dim])?;
        layer.spec.attention.forward(
            &call,
            Inputs::new(View::new(&q, [1, heads, q_len, head_dim])?, keys, keys),
            &Mask::none(),
            Pass::Evaluate,
            Outputs {
                out: ViewMut::new(&mut out, [1, heads, q_len, head_dim])?,
                saved: None,
                weights: Some(ViewMut::new(&mut weights, [1, heads, q_len, 2])?),
            },
            &mut Workspace::default(),
        )?;
        for query in 0..q_len {
            let [apart, at]: [f64; 2] = [weights[2 * query], weights[2 * query + 1]];
            rows[query * k_len + key] = ((at / apart).ln() / scale).round() as i64;
        }
    }
    Ok(rows)
}

/// How far layers see.
fn windows(record: &Record<'_>, part: &Part, stack: &str, entry: &serde_json::Value) -> Outcome<()> {
    let specs = part.specs();
    for (i, side) in entry["one_sided_windows"].as_array().into_iter().flatten().enumerate() {
        let ours = specs[i].attention.window.map(|window| (window.left, window.right));
        let side = side.as_u64().map(|side| side as usize);
        equal("window", ours, Some((side, side)))?;
    }
    let local = entry["local_layers"].as_array().into_iter().flatten();
    for (i, local) in local.enumerate() {
        let window = specs[i].attention.window;
        equal("a local layer", Some(window.is_some()), local.as_bool())?;
        let (Some(window), Ok(sees)) = (window, record.tensor(&format!("{stack}/sees"))) else {
            continue;
        };
        let Data::I64(sees) = &sees.data else {
            return fail("`sees` is not i64");
        };
        let len = sees.len().isqrt();
        for (pair, sees) in sees.iter().enumerate() {
            let (q, k) = (pair / len, pair % len);
            let ours = k <= q && window.left.is_none_or(|left| q - k <= left);
            equal("a pair that is seen", ours, *sees == 1)?;
        }
    }
    Ok(())
}
