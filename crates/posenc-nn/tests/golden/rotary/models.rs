//! The set `hf_rotary`: one record per rotary module of transformers, from the model's own configuration alone; and `hf_axes`: those with several axes, at unequal positions.

use super::super::compare::Worst;
use super::super::set::{Data, Outcome, Record, fail, skip};
use super::{U, factor_equal, frequencies_near, near, table_bound};
use crate::golden::asked::Layout;
use crate::through;
use posenc::config::{ConfigError, LayerPlan, Mode, ModelConfig, read};
use posenc::reference::rotary::{pair as read_from, written};
use posenc::rotate::{Axes, Frequencies, Slice};
use posenc::{Error, Pairing, Positions, Rotary, Turn};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    let model = match read(record.json["config"].to_string().as_bytes(), Mode::Strict) {
        Ok(model) => model,
        Err(error @ ConfigError::NotExpressed { .. }) => return skip(error.to_string()),
        Err(ConfigError::Setting {
            error: Error::OddWidth { width, .. },
            ..
        }) if record.find("inv_freq").is_some_and(|f| 2 * f.shape[0] == width + 1) => one_wider(record, width)?,
        Err(ConfigError::Missing { key, .. }) if key == "pad_token_id" => turning(record)?,
        // An object inside a model's file, which says by its place what it is.
        Err(ConfigError::Missing { key, .. }) if key == "model_type" => return skip("the configuration names no model type"),
        Err(error) => return fail(error.to_string()),
    };
    let plans: Vec<&LayerPlan> = model.parts.iter().flat_map(|part| &part.plans).collect();
    let Some(names) = record.json["inv_freq"].as_array() else {
        return fail("the record names no inv_freq");
    };
    let mut worst = Worst::default();
    for name in names.iter().filter_map(|name| name.as_str()) {
        let label = name.strip_suffix("_inv_freq");
        let (plan, rotary) = find(&plans, label)?;
        let frequencies = rotary.frequencies(width(plan, rotary), 1)?;
        let ours = as_listed(rotary, &frequencies);
        let theirs = record.f32s::<1>(name)?.1;
        // A grid's frequencies are listed once for all its axes.
        let listed: Vec<f64> = match &rotary.axes {
            Axes::Grid { axes } if ours.len() == axes.len() * theirs.len() => ours[..theirs.len()].to_vec(),
            Axes::InTurn { axes } => ours.iter().copied().step_by(axes.len()).collect(),
            _ => ours,
        };
        worst = worst.or(frequencies_near(&listed, theirs)?);
        let factor = label.map_or("attention_scaling".to_string(), |label| format!("{label}_attention_scaling"));
        // Some modules have no such attribute: they multiply by nothing.
        factor_equal(
            frequencies.table_factor,
            record.json["attention_scaling"][&factor].as_f64().unwrap_or(1.0),
        )?;
    }
    for entry in record.json["cos_sin"].as_array().into_iter().flatten() {
        let (plan, rotary) = find(&plans, entry["layer_type"].as_str())?;
        let name = entry["name"].as_str().unwrap_or_default();
        let name = name.strip_prefix(&format!("{}/", record.id)).unwrap_or(name);
        worst = worst.or(turned(record, name, plan, rotary)?);
    }
    Ok(worst)
}

/// A model whose heads are of an odd width, as its module makes tables for it.
///
/// The defaults of `Qwen3OmniMoeTextConfig` are 2048 over 28 heads: 73. Its module makes tables of 37 pairs with exponents over 73, which are 74 columns wide, and
/// transformers fails at the first product of a query with them ("The size of tensor a (73) must match the size of tensor b (74)"). So reading refuses such a file. The numbers in the record are
/// those of the tables, and of queries that were made as wide as they are: a head of 74, with exponents over 73.
fn one_wider(record: &Record<'_>, width: usize) -> Outcome<ModelConfig> {
    let mut config = record.json["config"].clone();
    config["head_dim"] = (width + 1).into();
    let mut model = read(config.to_string().as_bytes(), Mode::Strict).map_err(|error| error.to_string())?;
    let plans = model.parts.iter_mut().flat_map(|part| &mut part.plans);
    for rotary in plans.filter_map(|plan| plan.described.as_mut()) {
        rotary.exponent_dim = Some(width);
    }
    Ok(model)
}

/// A model whose file asks for a learned table beside a module that turns.
///
/// The defaults of `EsmConfig` are absolute positions and no padding id: that model counts its tokens from the padding id, so transformers fails where it compares tokens with `None`, and
/// reading refuses it. The record is of the module that the same class makes under `position_embedding_type: "rotary"`.
fn turning(record: &Record<'_>) -> Outcome<ModelConfig> {
    let mut config = record.json["config"].clone();
    config["position_embedding_type"] = "rotary".into();
    Ok(read(config.to_string().as_bytes(), Mode::Strict).map_err(|error| error.to_string())?)
}

/// The width that turns as one: a head's, but where all heads turn together.
fn width(plan: &LayerPlan, rotary: &Rotary) -> usize {
    if rotary.across_heads {
        plan.dims.heads * plan.dims.head_dim
    } else {
        plan.dims.head_dim
    }
}

/// The rotary positions of a layer type, also where its layers do not turn by default.
fn find<'a>(plans: &[&'a LayerPlan], label: Option<&str>) -> Outcome<(&'a LayerPlan, &'a Rotary)> {
    let fits = |plan: &&&LayerPlan| label.is_none() || plan.dictionary.as_deref() == label || plan.kind.as_deref() == label;
    let found = plans.iter().filter(fits).find_map(|plan| Some((*plan, plan.described.as_ref()?)));
    match found {
        Some(found) => Ok(found),
        None => fail(format!("no layer has the rotary positions of {label:?}")),
    }
}

/// Frequencies in the order in which transformers lists them: ERNIE's puts those of rows before those of columns.
fn as_listed(rotary: &Rotary, frequencies: &Frequencies) -> Vec<f64> {
    let f: Vec<f64> = frequencies.pairs.iter().map(|f| f64::from(*f as f32)).collect();
    match rotary.axes {
        Axes::GridFirst { grid } => {
            let (turns, rest) = f.split_at(grid);
            let every = |from: usize| turns.iter().skip(from).step_by(2).copied();
            every(0).chain(every(1)).chain(rest.iter().copied()).collect()
        }
        _ => f,
    }
}

/// Numbers nested in lists, in order, and as positions: those of all tokens but the ones that the record says have none.
fn positions(record: &Record<'_>) -> Outcome<(Vec<f64>, Positions)> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut axes = 1;
    let whole = |row: &serde_json::Value| -> Option<Vec<f64>> { row.as_array()?.iter().map(|p| p.as_f64()).collect() };
    let Some(outer) = record.json["position_ids"].as_array() else {
        return fail("no position_ids");
    };
    for row in outer {
        match whole(row) {
            Some(row) => rows.push(row),
            None => {
                axes = outer.len();
                rows.extend(row.as_array().into_iter().flatten().filter_map(whole));
            }
        }
    }
    // A row per axis, where the module was called with axes.
    if record.json["cos_sin"][0]["pos_rank"] == 3 {
        axes = rows.len();
    }
    let (batch, flat) = (rows.len() / axes, rows.concat());
    if batch != 1 {
        return fail("several rows of positions");
    }
    let at = Positions::real_axes(&flat, axes, batch)?;
    let present: Option<Vec<bool>> = record.json["present"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| p.as_bool())
        .collect();
    match present {
        Some(present) if !present.is_empty() => Ok((flat, at.with_presence(&present)?)),
        _ => Ok((flat, at)),
    }
}

/// A finding: at unequal positions, HunYuan-VL's module in transformers 5.23.0 does not rotate.
///
/// It deals columns, not pairs, to the axes: of the 2n columns `[f₀ … fₙ₋₁, f₀ … fₙ₋₁]`, the first 2·sections[0] are turned by axis 0, the next 2·sections[1] by axis 1, and so on. Halves are paired,
/// so columns i and i + n of one pair stand in different chunks and turn by the angles of two axes: (x·cos a − y·sin a, x·sin b + y·cos b), whose length is not that of (x, y). HunYuan's own code,
/// vLLM and mlx-vlm repeat the list of sections instead, which deals pairs; that is `Axes::Chunked`, and what is read here from the file. The record is checked to be what is said here: its columns
/// are those of the rule above, and some pair's length changes by a tenth or more.
fn no_rotation(record: &Record<'_>, name: &str, rotary: &Rotary, frequencies: &Frequencies, ids: &[f64]) -> Outcome<Worst> {
    let Axes::Chunked { sections } = &rotary.axes else {
        return fail("its sections are not chunks");
    };
    let (pairs, len) = (frequencies.pairs.len(), ids.len() / sections.len());
    // The axis of each column, as the module has it.
    let axis: Vec<usize> = sections
        .iter()
        .enumerate()
        .flat_map(|(axis, n)| std::iter::repeat_n(axis, 2 * n))
        .collect();
    let mut worst = Worst::default();
    for (table, of) in [("cos", f64::cos as fn(f64) -> f64), ("sin", f64::sin)] {
        let theirs = record.f32s::<3>(&format!("{name}/{table}"))?.1;
        let place = |i: usize| (ids[axis[i % (2 * pairs)] * len + i / (2 * pairs)], frequencies.pairs[i % pairs]);
        let ours: Vec<f64> = (0..theirs.len())
            .map(|i| {
                let (p, f) = place(i);
                of(f64::from(p as f32 * f as f32))
            })
            .collect();
        worst = worst.or(near(&format!("{name}/{table}"), &ours, theirs, |i| {
            table_bound(place(i).0, place(i).1, 1.0)
        })?);
    }
    let (shape, q) = record.f32s::<4>(&format!("{name}/q"))?;
    let turned = record.f32s::<4>(&format!("{name}/q_out"))?.1;
    let changed = (0..q.len()).filter(|i| i % shape[3] < pairs).any(|i| {
        let length = |x: &[f32]| f64::from(x[i]).hypot(f64::from(x[i + pairs]));
        (length(turned) / length(q) - 1.0).abs() > 0.1
    });
    if !changed {
        return fail("it rotates: what is said of this module is not so");
    }
    Ok(worst)
}

/// Tables, and queries and keys where the record has them.
fn turned(record: &Record<'_>, name: &str, plan: &LayerPlan, rotary: &Rotary) -> Outcome<Worst> {
    let (ids, at) = positions(record)?;
    let len = at.len();
    let head_dim = width(plan, rotary);
    let frequencies = rotary.frequencies(head_dim, len)?;
    let pairs = frequencies.pairs.len();
    // The furthest of a token's positions, where it has several: no smaller bound is needed for one.
    let position = |t: usize| (0..at.axes()).map(|a| ids[a * len + t].abs()).fold(0.0, f64::max);
    let bound = |t: usize, i: usize| table_bound(position(t), frequencies.pairs[i], frequencies.table_factor);
    let rotation = rotary.rotation::<f32>(head_dim, &at)?;

    if record.json["dir"] == "hunyuan_vl" {
        return no_rotation(record, name, rotary, &frequencies, &ids);
    }
    let mut worst = Worst::default();
    // Tables hold each pair once, or twice: all pairs side by side, or each beside itself.
    for (table, sine) in [("cos", false), ("sin", true)] {
        let tensor = format!("{name}/{table}");
        let theirs = record.tensor(&tensor)?;
        let width = theirs.shape.last().copied().unwrap_or(0);
        let Data::F32(data) = &theirs.data else {
            return fail(format!("{tensor} is not f32"));
        };
        // A module that turns back subtracts where others add; its table is the same.
        let sign = if sine && rotary.reversed { -1.0 } else { 1.0 };
        let value = |t: usize, i: usize| sign * f64::from(if sine { rotation.sin(0, t)[i] } else { rotation.cos(0, t)[i] });
        let layout = |pair: &dyn Fn(usize) -> usize| {
            let ours: Vec<f64> = (0..len * width).map(|c| value(c / width, pair(c % width))).collect();
            near(&tensor, &ours, data, |c| bound(c / width, pair(c % width)))
        };
        let outcome = if width == pairs {
            layout(&|c| c)
        } else if width == 2 * pairs {
            let twice = |c: usize| c / pairs * (pairs / 2) + c % (pairs / 2);
            layout(&|c| c % pairs).or_else(|_| layout(&|c| c / 2)).or_else(|first| {
                if rotary.pairing == Pairing::HalvesTwice {
                    layout(&twice)
                } else {
                    Err(first)
                }
            })
        } else {
            fail(format!("{tensor}: {width} columns for {pairs} pairs"))
        };
        worst = worst.or(outcome?);
    }
    for (input, output) in [("q", "q_out"), ("k", "k_out")] {
        if record.find(&format!("{name}/{input}")).is_none() {
            continue;
        }
        let (shape, x) = record.f32s::<4>(&format!("{name}/{input}"))?;
        let theirs = record.f32s::<4>(&format!("{name}/{output}"))?.1;
        let mut applied = rotary.clone();
        // Where a model slices the part that turns out of a head, the record holds the slice.
        let latent = record.json["config"]["qk_nope_head_dim"].is_u64();
        if shape[3] != head_dim || latent {
            applied.slice = Slice::Leading;
            applied.rotary_dim = Some(2 * pairs);
            applied.exponent_dim = rotary.exponent_dim.or(rotary.rotary_dim).filter(|_| rotary.axes == Axes::One);
        }
        // Latent attention's modules have two functions; `rope_interleave` chooses, and the record names the one that it ran.
        if record.json["apply"] == "apply_rotary_pos_emb" && rotary.pairing == Pairing::InterleavedToHalves {
            applied.pairing = Pairing::Halves;
        }
        let ours = through::turned(&applied, &at, Turn::Forward, x, shape, Layout::ByHead)?;
        let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
        // A turned coordinate is x·c − y·s. Tables differ by their bound; each side rounds two products and a sum: 2U of factor · (|x| + |y|) each.
        let width = shape[3];
        let pair_sum = |i: usize| {
            let (row, c) = (i / width, i % width);
            let first = match applied.slice {
                Slice::Leading => 0,
                Slice::Trailing => width - 2 * pairs,
            };
            match c.checked_sub(first).filter(|c| *c < 2 * pairs) {
                None => (0.0, None),
                Some(c) => {
                    // The pair that is written there.
                    let pair = (0..pairs)
                        .find(|i| {
                            let (a, b) = written(*i, 2 * pairs, applied.pairing);
                            a == c || b == c
                        })
                        .unwrap_or(0);
                    let (a, b) = read_from(pair, 2 * pairs, applied.pairing);
                    let at = |c: usize| f64::from(x[row * width + first + c].abs());
                    (at(a) + at(b), Some(pair))
                }
            }
        };
        let allowed = |i: usize| {
            let (sum, pair) = pair_sum(i);
            // Columns that do not turn are copied.
            pair.map_or(0.0, |pair| {
                sum * (bound(i / width % len, pair) + 4.0 * U * frequencies.table_factor)
            })
        };
        worst = worst.or(near(&format!("{name}/{output}"), &ours, theirs, allowed)?);
    }
    Ok(worst)
}
