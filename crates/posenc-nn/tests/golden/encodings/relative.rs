//! The relative family: DeBERTa's buckets and attention, Transformer-XL's attention in a conformer, XLNet's table.

use crate::golden::bounded::{Bounded, U, dot, sum};
use crate::golden::compare::{Worst, equal, within};
use crate::golden::oracle::{linear, softmax};
use crate::golden::set::{Data, Outcome, Record, Tensor, fail, skip};
use crate::through;
use posenc::{
    Deberta, DebertaProjections, Encoding, Params, Positions, SinusoidLayout, TransformerXl, ViewMut, deberta_bucket, relative_sinusoids,
};
use posenc_nn::{AttnMask, PositionalArgs, PositionalMultiheadAttention, PositionalOutput, Projections, Streams};

/// DeBERTa's log buckets: integers, so nothing may differ.
pub fn buckets(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["bucket_size", "max_position", "reference", "relative_position"])?;
    record.only_tensors(&["bucket", "relative_position"])?;
    if record.text("params", "relative_position") != Some("query - key") {
        return skip(format!(
            "relative_position {} is not known here",
            record.json["params"]["relative_position"]
        ));
    }
    let (count, distance) = (record.size("params", "bucket_size")?, record.size("params", "max_position")?);
    let (shape, relative) = record.i64s("relative_position")?;
    let ours: Result<Vec<i64>, posenc::Error> = relative.iter().map(|r| deberta_bucket(*r, count, distance)).collect();
    Ok(equal("bucket", shape, &ours?, record.i64s("bucket")?.1)?)
}

/// `DisentangledSelfAttention` of DeBERTa-v2, which ends before the output projection.
pub fn deberta(record: &Record<'_>) -> Outcome<Worst> {
    let known = [
        "heads",
        "hidden",
        "max_position_embeddings",
        "max_relative_positions",
        "pos_att_type",
        "position_buckets",
        "reference",
        "relative_attention",
        "share_att_key",
    ];
    record.only("params", &known)?;
    record.only_tensors(&["hidden", "mask", "out", "rel_embeddings", "relative_pos", "weights"])?;
    if !record.flag_or("params", "relative_attention", true)? {
        return skip("attention without positions is no record of DeBERTa's");
    }
    let (heads, width) = (record.size("params", "heads")?, record.size("params", "hidden")?);
    let ([batch, len, _], hidden) = record.f32s::<3>("hidden")?;
    let terms = &record.json["params"]["pos_att_type"];
    let has = |term: &str| match terms {
        serde_json::Value::Array(terms) => terms.iter().any(|t| t == term),
        serde_json::Value::String(terms) => terms.split('|').any(|t| t == term),
        _ => false,
    };
    let (c2p, p2c) = (has("c2p"), has("p2c"));
    let number = |name: &str| record.json["params"][name].as_i64().filter(|n| *n > 0);
    let Some(max_distance) = number("max_relative_positions").or(number("max_position_embeddings")) else {
        return fail("`params` name no largest distance");
    };
    let shared = record.flag_or("params", "share_att_key", false)?;
    let projections = if shared {
        DebertaProjections::Shared
    } else {
        DebertaProjections::V2
    };
    let mut method = Deberta::new(max_distance as usize, projections).with_terms(c2p, p2c);
    method.buckets = number("position_buckets").map(|buckets| buckets as usize);
    let span = method.buckets.unwrap_or(method.max_distance);

    // What upstream was given as distances is what positions give.
    let bucket = |distance: i64| match method.buckets {
        Some(buckets) => deberta_bucket(distance, buckets, method.max_distance),
        None => Ok(distance),
    };
    if record.find("relative_pos").is_some() {
        let (shape, theirs) = record.i64s("relative_pos")?;
        let pairs = (0..len * len).map(|at| bucket((at / len) as i64 - (at % len) as i64));
        let ours: Result<Vec<i64>, posenc::Error> = pairs.collect();
        equal("relative_pos", shape, &ours?, theirs)?;
    }

    let encoding = if c2p || p2c {
        Encoding::from(method.clone())
    } else {
        Encoding::none()
    };
    let module = PositionalMultiheadAttention::new(&encoding, width, heads)?
        .with_attention(method.attention(width / heads))
        .with_projections(Projections::Separate(["query_proj", "key_proj", "value_proj", "out"]));
    let mut params: Params<f32> = Params::zeros(&module.specs())?;
    identity(params.get_mut("out.weight")?, width);
    let (table_shape, table) = record.f32s::<2>("rel_embeddings")?;
    let rows = table.get(..2 * span * width);
    let Some(rows) = rows.filter(|_| table_shape[1] == width) else {
        return fail(format!("`rel_embeddings` has shape {table_shape:?}, {} rows are read", 2 * span));
    };
    if c2p || p2c {
        params.set("rel_embeddings.weight", &[2 * span, width], rows)?;
    }
    let unread = match (c2p, p2c, shared) {
        (_, _, true) | (true, true, _) => None,
        (c2p, ..) => Some(if c2p { "pos_query_proj" } else { "pos_key_proj" }),
    };
    load(record, &mut params, unread)?;
    let mask = Masked::of(record.find("mask"), [batch, heads, len])?;
    let output = run(&module, &params, hidden, batch, &mask)?;

    let exact = |x: &[f32]| x.iter().map(|x| Bounded::exact(*x)).collect::<Vec<_>>();
    let project = |x: &[Bounded], name: &str| -> Outcome<Vec<Bounded>> {
        let weight = params.get(&format!("{name}.weight"))?;
        Ok(linear(x, width, weight, Some(params.get(&format!("{name}.bias"))?)))
    };
    let (x, rows) = (exact(hidden), exact(rows));
    let [q, k, v] = [project(&x, "query_proj")?, project(&x, "key_proj")?, project(&x, "value_proj")?];
    let table = |used: bool, own: &str, shares: &str| -> Outcome<Vec<Bounded>> {
        if !used {
            return Ok(Vec::new());
        }
        project(&rows, if shared { shares } else { own })
    };
    let (keys, queries) = (table(c2p, "pos_key_proj", "key_proj")?, table(p2c, "pos_query_proj", "query_proj")?);
    let dim = width / heads;
    let scale = 1.0 / ((dim * (1 + usize::from(c2p) + usize::from(p2c))) as f64).sqrt();
    let row = |i: usize, j: usize| bucket(i as i64 - j as i64).map(|b| (b + span as i64).clamp(0, 2 * span as i64 - 1) as usize);
    // √, division and product, or a division of each factor: three roundings beside the sum's own.
    let inner = |x: &[Bounded], y: &[Bounded]| dot(x.iter().copied().zip(y.iter().copied()), 3.0).scaled(scale);
    let head = |x: &[Bounded], t: usize, h: usize| x[t * width + h * dim..][..dim].to_vec();
    let score = |b: usize, h: usize, i: usize, j: usize| -> Outcome<Bounded> {
        let (q, k) = (head(&q, b * len + i, h), head(&k, b * len + j, h));
        let mut parts = vec![inner(&q, &k)];
        if c2p {
            parts.push(inner(&q, &head(&keys, row(i, j)?, h)));
        }
        if p2c {
            parts.push(inner(&k, &head(&queries, row(i, j)?, h)));
        }
        Ok(sum(parts))
    };
    let solution = solve([batch, heads, len], dim, &mask, &v, score)?;
    let (shape, out) = record.f32s::<3>("out")?;
    let worst = within("out", &shape, &output.out, out, &solution.context)?;
    let (shape, weights) = record.f32s::<4>("weights")?;
    match &output.weights {
        Some(ours) => Ok(worst.or(within("weights", &shape, ours, weights, &solution.weights)?)),
        None if through::GIVES_WEIGHTS => fail("no weights were given"),
        None => Ok(worst),
    }
}

/// `Wav2Vec2ConformerSelfAttention` with relative positions.
pub fn conformer(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["heads", "hidden", "reference"])?;
    record.only_tensors(&["attention_mask", "hidden", "mask", "out", "rel_pos_emb", "weights"])?;
    let (heads, width) = (record.size("params", "heads")?, record.size("params", "hidden")?);
    let ([batch, len, _], hidden) = record.f32s::<3>("hidden")?;
    let dim = width / heads;
    let module = PositionalMultiheadAttention::new(&TransformerXl::conformer().into(), width, heads)?
        .with_projections(Projections::Separate(["linear_q", "linear_k", "linear_v", "linear_out"]));
    let mut params: Params<f32> = Params::zeros(&module.specs())?;
    load(record, &mut params, None)?;
    let mask = Masked::of(record.find("mask").or(record.find("attention_mask")), [batch, heads, len])?;
    let output = run(&module, &params, hidden, batch, &mask)?;

    // Distances len − 1 … 1 − len, interleaved; exponents, exponentials and angles rounded to f32 upstream.
    let distances: Vec<i64> = (1 - len as i64..len as i64).rev().collect();
    let waves: Vec<Bounded> = distances
        .iter()
        .flat_map(|n| (0..width).map(move |c| wave(*n, 2.0 * (c / 2) as f64 / width as f64, c % 2 == 0, 2.0, 3.0)))
        .collect();
    let (shape, theirs) = record.f32s::<3>("rel_pos_emb")?;
    let mut ours = vec![f32::NAN; waves.len()];
    let out = ViewMut::new(&mut ours, [distances.len(), width])?;
    relative_sinusoids(SinusoidLayout::Interleaved, &distances, None, out)?;
    let mut worst = within("rel_pos_emb", &shape, &ours, theirs, &waves)?;

    let exact = |x: &[f32]| x.iter().map(|x| Bounded::exact(*x)).collect::<Vec<_>>();
    let get = |name: &str| params.get(name);
    let project = |x: &[Bounded], name: &str, bias: bool| -> Outcome<Vec<Bounded>> {
        let weight = params.get(&format!("{name}.weight"))?;
        let bias = if bias { Some(params.get(&format!("{name}.bias"))?) } else { None };
        Ok(linear(x, width, weight, bias))
    };
    let x = exact(hidden);
    let [q, k, v] = [
        project(&x, "linear_q", true)?,
        project(&x, "linear_k", true)?,
        project(&x, "linear_v", true)?,
    ];
    let r = project(&waves, "linear_pos", false)?;
    let (bias_u, bias_v) = (exact(get("pos_bias_u")?), exact(get("pos_bias_v")?));
    let scale = 1.0 / (dim as f64).sqrt();
    let head = |x: &[Bounded], t: usize, h: usize| x[t * width + h * dim..][..dim].to_vec();
    // A bias added to each factor first, the scale and its product: three roundings beside the sum's own.
    let inner = |x: &[Bounded], y: &[Bounded]| dot(x.iter().copied().zip(y.iter().copied()), 3.0).scaled(scale);
    let score = |b: usize, h: usize, i: usize, j: usize| -> Outcome<Bounded> {
        let (q, k) = (head(&q, b * len + i, h), head(&k, b * len + j, h));
        let r = head(&r, len - 1 + j - i, h);
        let (u, v) = (head(&bias_u, 0, h), head(&bias_v, 0, h));
        Ok(sum([inner(&q, &k), inner(&u, &k), inner(&q, &r), inner(&v, &r)]))
    };
    let solution = solve([batch, heads, len], dim, &mask, &v, score)?;
    let out = project(&solution.context, "linear_out", true)?;
    let (shape, theirs) = record.f32s::<3>("out")?;
    worst = worst.or(within("out", &shape, &output.out, theirs, &out)?);
    if through::GIVES_WEIGHTS && record.find("weights").is_some() {
        let (shape, weights) = record.f32s::<4>("weights")?;
        worst = worst.or(within(
            "weights",
            &shape,
            output.weights.as_deref().unwrap_or_default(),
            weights,
            &solution.weights,
        )?);
    }
    Ok(worst)
}

/// XLNet's `relative_positional_encoding`: a row per distance, from the farthest key before the first query on.
pub fn xlnet(record: &Record<'_>) -> Outcome<Worst> {
    let known = ["attn_type", "bi_data", "bsz", "clamp_len", "d_model", "klen", "qlen", "reference"];
    record.only("params", &known)?;
    record.only_tensors(&["table"])?;
    let size = |name| record.size("params", name);
    let (width, q_len, k_len) = (size("d_model")?, size("qlen")? as i64, size("klen")? as i64);
    let last = match record.text("params", "attn_type") {
        None | Some("bi") => 1 - q_len,
        Some("uni") => 0,
        Some(other) => return skip(format!("attn_type `{other}` is not known here")),
    };
    let clamp_len = record.json["params"]["clamp_len"].as_u64().filter(|c| *c > 0).map(|c| c as usize);
    let forward: Vec<i64> = (last..=k_len).rev().collect();
    let (shape @ [rows, columns, _], theirs) = record.f32s::<3>("table")?;
    if rows != forward.len() {
        return fail(format!("`table` has shape {shape:?}, {} distances are expected", forward.len()));
    }
    // With `bi_data` the second half of the batch counts backward.
    let backward = |column: usize| record.json["params"]["bi_data"].as_bool() == Some(true) && column >= columns / 2;
    let (mut ours, mut exact) = (vec![f32::NAN; theirs.len()], vec![Bounded::exact(0.0); theirs.len()]);
    for column in 0..columns {
        let distances: Vec<i64> = forward.iter().map(|n| if backward(column) { -n } else { *n }).collect();
        let mut table = vec![f32::NAN; rows * width];
        relative_sinusoids(
            SinusoidLayout::SinFirst,
            &distances,
            clamp_len,
            ViewMut::new(&mut table, [rows, width])?,
        )?;
        for (r, n) in distances.iter().enumerate() {
            let n = clamp_len.map_or(*n, |c| (*n).clamp(-(c as i64), c as i64));
            for c in 0..width {
                let at = (r * columns + column) * width + c;
                ours[at] = table[r * width + c];
                // The exponent is rounded, the power (1 ulp), its inverse, the angle.
                let share = 2.0 * (c % (width / 2)) as f64 / width as f64;
                exact[at] = wave(n, share, c < width / 2, 1.0, 4.0);
            }
        }
    }
    Ok(within("table", &shape, &ours, theirs, &exact)?)
}

/// sin or cos of n · 10000^(−share), where upstream's angle is off by `per_log` units of the exponent and `units` more, and the function by 1 ulp.
fn wave(n: i64, share: f64, is_sine: bool, per_log: f64, units: f64) -> Bounded {
    let log = share * 10_000f64.ln();
    let angle = n as f64 * (-log).exp();
    let value = if is_sine { angle.sin() } else { angle.cos() };
    let error = U * (angle.abs() * (per_log * log + units) + 2.0 * value.abs());
    Bounded::new(value, error + 2f64.powi(-149))
}

fn identity(weight: &mut [f32], width: usize) {
    for (at, w) in weight.iter_mut().enumerate() {
        *w = if at / width == at % width { 1.0 } else { 0.0 };
    }
}

/// Every `param.` of the record into the module's parameter of that name, but for a layer that is there and not read.
fn load(record: &Record<'_>, params: &mut Params<f32>, unread: Option<&str>) -> Outcome<()> {
    for name in record.names().filter_map(|name| name.strip_prefix("param.")) {
        if unread.is_some_and(|unread| name.starts_with(unread)) {
            continue;
        }
        let Tensor { shape, data } = record.tensor(&format!("param.{name}"))?;
        let Data::F32(data) = data else {
            return fail(format!("`param.{name}` is not f32"));
        };
        params.set(name, shape, data)?;
    }
    Ok(())
}

/// A boolean mask (true attends) or an additive one, as numbers added to the scores. A blocked pair gets f32's lowest number, as upstream fills it: a row that attends to nothing is then
/// uniform, not zeros.
struct Masked {
    added: Option<(Vec<f32>, Vec<usize>)>,
    heads: usize,
    len: usize,
}

impl Masked {
    fn of(mask: Option<&Tensor>, [batch, heads, len]: [usize; 3]) -> Outcome<Masked> {
        let none = Masked { added: None, heads, len };
        let Some(mask) = mask else { return Ok(none) };
        let (rank, last) = (mask.shape.len(), mask.shape.last());
        if rank != 4 || ![1, batch].contains(&mask.shape[0]) || ![1, heads].contains(&mask.shape[1]) || last != Some(&len) {
            return skip(format!("a mask of shape {:?} is not known here", mask.shape));
        }
        let numbers: Vec<f32> = match &mask.data {
            Data::Bool(attends) => attends.iter().map(|attends| if *attends { 0.0 } else { f32::MIN }).collect(),
            Data::F32(added) => added.clone(),
            _ => return skip("a mask that is neither boolean nor f32 is not known here"),
        };
        // One row for all queries is given to each.
        let repeats = if mask.shape[2] == 1 { len } else { 1 };
        let rows = numbers.chunks_exact(len).flat_map(|row| row.repeat(repeats)).collect();
        Ok(Masked {
            added: Some((rows, vec![mask.shape[0], mask.shape[1], len, len])),
            ..none
        })
    }

    fn at(&self, b: usize, h: usize, i: usize, j: usize) -> f32 {
        let Some((added, shape)) = &self.added else { return 0.0 };
        let plane = (b % shape[0]) * shape[1] + h % shape[1];
        added[(plane * self.len + i) * self.len + j]
    }
}

fn run(
    module: &PositionalMultiheadAttention,
    params: &Params<f32>,
    hidden: &[f32],
    batch: usize,
    mask: &Masked,
) -> Outcome<PositionalOutput<f32>> {
    let args = PositionalArgs {
        q_positions: Some(Positions::absent(mask.len)),
        k_positions: Some(Positions::absent(mask.len)),
        attn_mask: mask.added.as_ref().map(|(added, shape)| AttnMask::Additive(added, shape)),
        need_weights: true,
        average_attn_weights: false,
        ..Default::default()
    };
    Ok(through::layer(module, params, Streams::Same(hidden), batch, &args, None)?.output)
}

struct Solution {
    /// `[batch, len, width]`, before the output projection.
    context: Vec<Bounded>,
    /// `[batch, heads, len, len]`.
    weights: Vec<Bounded>,
}

/// Softmax and sum of values from the scores of pairs.
fn solve(
    [batch, heads, len]: [usize; 3],
    dim: usize,
    mask: &Masked,
    v: &[Bounded],
    score: impl Fn(usize, usize, usize, usize) -> Outcome<Bounded>,
) -> Outcome<Solution> {
    debug_assert_eq!(heads, mask.heads);
    let width = heads * dim;
    let mut solution = Solution {
        context: vec![Bounded::exact(0.0); batch * len * width],
        weights: Vec::new(),
    };
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..len {
                let blocked = |j: usize| mask.at(b, h, i, j) <= f32::MIN;
                let all = (0..len).all(blocked);
                let scores: Outcome<Vec<Option<Bounded>>> = (0..len)
                    .map(|j| match mask.at(b, h, i, j) {
                        // The lowest number swallows any score.
                        _ if all => Ok(Some(Bounded::exact(0.0))),
                        _ if blocked(j) => Ok(None),
                        0.0 => score(b, h, i, j).map(Some),
                        added => Ok(Some(sum([score(b, h, i, j)?, Bounded::exact(added)]))),
                    })
                    .collect();
                let p = softmax(&scores?).forward;
                for c in 0..dim {
                    let o = dot((0..len).map(|j| (p[j], v[(b * len + j) * width + h * dim + c])), 0.0);
                    solution.context[(b * len + i) * width + h * dim + c] = o;
                }
                solution.weights.extend(p);
            }
        }
    }
    Ok(solution)
}
