//! symm-learning's three modules: [`PositionalMultiheadAttention::additive_pos`], [`PositionalMultiheadAttention::additive_rel`] and
//! [`PositionalMultiheadAttention::rope`], through one runner.

use crate::golden::asked::Layered;
use crate::golden::bounded::Bounded;
use crate::golden::compare::{Worst, equal, within};
use crate::golden::oracle::{Places, Problem, Solution, total};
use crate::golden::set::{Data, Outcome, Record, Tensor, fail, skip};
use crate::through;
use posenc::{Params, Positions};
use posenc_nn::{AttnMask, PositionalArgs, PositionalMultiheadAttention, Projections, Streams};

const TENSORS: &[&str] = &[
    "query",
    "key",
    "value",
    "q_positions",
    "k_positions",
    "q_position_mask",
    "k_position_mask",
    "attn_mask",
    "key_padding_mask",
    "out",
    "weights",
    "grad_out",
    "grad_query",
    "grad_key",
    "grad_value",
];

/// `AdditivePosMultiheadAttention`: a row per position, added to the inputs of queries and keys. Upstream casts ids that are floats, toward zero.
pub fn additive_pos(record: &Record<'_>) -> Outcome<Worst> {
    let max_len = record.size("args", "max_len")?;
    let module = |width, heads| PositionalMultiheadAttention::additive_pos(width, heads, max_len);
    check(record, "max_len", module, Fractions::Truncated, |params, sizes| {
        let row = |at: Option<f32>| at.map(|at| at as usize);
        let rows = |side, len| Outcome::Ok(places(record, side, [sizes.batch, len])?.into_iter().map(row).collect());
        Ok(Places::Added {
            table: params.get("pos_emb")?,
            rows: [rows("q", sizes.q_len)?, rows("k", sizes.k_len)?],
        })
    })
}

/// `AdditiveRelMultiheadAttention`: a number per distance query − key, clipped, then cast toward zero, is subtracted; nothing where one has no position.
pub fn additive_rel(record: &Record<'_>) -> Outcome<Worst> {
    let reach = record.size("args", "max_distance")?;
    let module = |width, heads| PositionalMultiheadAttention::additive_rel(width, heads, reach);
    check(record, "max_distance", module, Fractions::Refused, |params, sizes| {
        let Sizes { batch, q_len, k_len } = sizes;
        let (q, k) = (places(record, "q", [batch, q_len])?, places(record, "k", [batch, k_len])?);
        let row = |pair: usize| {
            let (b, i, j) = (pair / (q_len * k_len), pair / k_len % q_len, pair % k_len);
            let distance = (q[b * q_len + i]? - k[b * k_len + j]?).clamp(-(reach as f32), reach as f32);
            Some((distance as i64 + reach as i64) as usize)
        };
        Ok(Places::Subtracted {
            table: params.get("rel_bias")?,
            rows: (0..batch * q_len * k_len).map(row).collect(),
        })
    })
}

/// `RoPEMultiheadAttention`: the whole head turns, neighbours paired; a token without a position is left as it is.
pub fn rope(record: &Record<'_>) -> Outcome<Worst> {
    let base = record.number_or("args", "rope_base", 10_000.0)?;
    let module = |width, heads| PositionalMultiheadAttention::rope(width, heads, base);
    check(record, "rope_base", module, Fractions::Kept, |_, sizes| {
        let angle = |at: Option<f32>| f64::from(at.unwrap_or(0.0));
        let of = |side, len| Outcome::Ok(places(record, side, [sizes.batch, len])?.into_iter().map(angle).collect());
        Ok(Places::Turned {
            base,
            at: [of("q", sizes.q_len)?, of("k", sizes.k_len)?],
        })
    })
}

/// What a module makes of positions that are no whole numbers.
#[derive(Clone, Copy, PartialEq)]
enum Fractions {
    Truncated,
    Refused,
    Kept,
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    q_len: usize,
    k_len: usize,
}

fn check<'a>(
    record: &Record<'a>,
    own_argument: &str,
    module: impl FnOnce(usize, usize) -> posenc_nn::Result<PositionalMultiheadAttention>,
    fractions: Fractions,
    places: impl for<'p> FnOnce(&'p Params<f32>, Sizes) -> Outcome<Places<'p>>,
) -> Outcome<Worst> {
    record.only("args", &["embed_dim", "num_heads", "bias", "dropout", own_argument])?;
    record.only_tensors(TENSORS)?;
    let (width, heads) = (record.size("args", "embed_dim")?, record.size("args", "num_heads")?);
    let mut module = module(width, heads)?;
    if !record.flag_or("args", "bias", true)? {
        module = module.without_bias();
    }
    let params = parameters(record, &module)?;

    let [query, key, value] = [record.f32s::<3>("query")?, record.f32s::<3>("key")?, record.f32s::<3>("value")?];
    let ([batch, q_len, _], [_, k_len, _]) = (query.0, key.0);
    let same = record.json["self_attention"].as_bool().unwrap_or(false);
    let streams = if same {
        Streams::Same(query.1)
    } else {
        Streams::Apart {
            query: query.1,
            key: key.1,
            value: value.1,
        }
    };
    let scores = [batch, heads, q_len, k_len];
    let masks = [
        PairMask::read(record, "attn_mask", scores)?,
        PairMask::read(record, "key_padding_mask", scores)?,
    ];
    let [attn_mask, key_padding_mask] = &masks;
    let causal = record.json["is_causal"].as_bool().unwrap_or(false);
    let args = PositionalArgs {
        q_positions: positions(record, "q_positions", q_len, fractions)?,
        k_positions: positions(record, "k_positions", k_len, fractions)?,
        q_position_mask: flags(record, "q_position_mask")?,
        k_position_mask: flags(record, "k_position_mask")?,
        attn_mask: attn_mask.as_ref().map(PairMask::given),
        key_padding_mask: key_padding_mask.as_ref().map(PairMask::given),
        need_weights: true,
        average_attn_weights: true,
        causal: causal.then_some(0),
    };
    let (grad_shape, d_out) = record.f32s::<3>("grad_out")?;
    let Layered { output, d_streams, grads } = through::layer(&module, &params, streams, batch, &args, Some(d_out))?;

    let solution = {
        let [weights, biases] = projections(&module, &params)?;
        let problem = Problem {
            batch,
            q_len,
            k_len,
            width,
            heads,
            streams: [query.1, key.1, value.1],
            places: places(&params, Sizes { batch, q_len, k_len })?,
            weights,
            biases: module.attn.bias.then_some(biases),
        };
        let added = |b, h, i, j| {
            let parts = masks.iter().flatten().map(|mask| mask.at([b, h, i, j]));
            if causal && j > i { None } else { parts.collect::<Option<Vec<_>>>() }
        };
        problem.solve(|b, h, i, j| Some(added(b, h, i, j)?.into_iter().flatten().collect()), d_out)
    };

    let (shape, out) = record.f32s::<3>("out")?;
    let mut worst = within("out", &shape, &output.out, out, &solution.out)?;
    let (shape, weights) = record.f32s::<3>("weights")?;
    match &output.weights {
        Some(ours) => worst = worst.or(within("weights", &shape, ours, weights, &solution.weights)?),
        None if through::GIVES_WEIGHTS => return fail("no weights were given"),
        None => {}
    }
    let exact = if same {
        [total(&solution.d_streams), Vec::new(), Vec::new()]
    } else {
        solution.d_streams.clone()
    };
    let mut compared = 0;
    for ((name, ours), exact) in ["grad_query", "grad_key", "grad_value"].into_iter().zip(&d_streams).zip(&exact) {
        if record.find(name).is_some() {
            let (shape, theirs) = record.f32s::<3>(name)?;
            worst = worst.or(within(name, &shape, ours, theirs, exact)?);
            compared += 1;
        }
    }
    for (name, exact) in gradients(&module, solution) {
        let tensor = format!("grad.{name}");
        if let Some(Tensor {
            shape,
            data: Data::F32(theirs),
        }) = record.find(&tensor)
        {
            worst = worst.or(within(&tensor, shape, grads.get(&name)?, theirs, &exact)?);
            compared += 1;
        }
    }
    let gradients = record
        .names()
        .filter(|name| name.starts_with("grad") && *name != "grad_out")
        .count();
    if compared != gradients {
        return fail(format!("{gradients} gradients are in the record, {compared} were compared"));
    }

    // Without weights: the same bits.
    let args = PositionalArgs {
        need_weights: false,
        ..args
    };
    let plain = through::layer(&module, &params, streams, batch, &args, None)?.output;
    equal("out without weights", &grad_shape, &plain.out, &output.out)?;
    Ok(worst)
}

/// The record's parameters; all of them, and no others, are the module's.
fn parameters(record: &Record<'_>, module: &PositionalMultiheadAttention) -> Outcome<Params<f32>> {
    let specs = module.specs();
    let mut params = Params::zeros(&specs)?;
    for spec in &specs {
        match record.tensor(&format!("param.{}", spec.name))? {
            Tensor {
                shape,
                data: Data::F32(data),
            } => params.set(&spec.name, shape, data)?,
            _ => return fail(format!("`param.{}` is not f32", spec.name)),
        }
    }
    let unknown = |name: &&str| {
        name.strip_prefix("param.")
            .is_some_and(|name| specs.iter().all(|spec| spec.name != name))
    };
    match record.names().find(unknown) {
        Some(name) => fail(format!("`{name}` is not a parameter of {module}")),
        None => Ok(params),
    }
}

/// Weights and biases of queries, keys, values and the output; no biases, empty slices.
fn projections<'p>(module: &PositionalMultiheadAttention, params: &'p Params<f32>) -> Outcome<[[&'p [f32]; 4]; 2]> {
    let width = module.embed_dim();
    let tensor = |name: String| Outcome::Ok(params.get(&name)?);
    let of = |what: &str, size: usize| match module.attn.projections {
        Projections::Fused => {
            let all = tensor(format!("attn.in_proj_{what}"))?;
            let part = |role: usize| &all[role * size..(role + 1) * size];
            Outcome::Ok([part(0), part(1), part(2), tensor(format!("attn.out_proj.{what}"))?])
        }
        Projections::Separate([q, k, v, out]) => {
            let one = |name| tensor(format!("{name}.{what}"));
            Ok([one(q)?, one(k)?, one(v)?, one(out)?])
        }
    };
    let biases = if module.attn.bias { of("bias", width)? } else { [&[][..]; 4] };
    Ok([of("weight", width * width)?, biases])
}

/// The parameters' gradients under the parameters' names.
fn gradients(module: &PositionalMultiheadAttention, solution: Solution) -> Vec<(String, Vec<Bounded>)> {
    let mut named = Vec::new();
    named.extend(
        module
            .plan
            .parameters()
            .iter()
            .map(|spec| (spec.name.clone(), solution.d_table.clone())),
    );
    for (what, [q, k, v, out]) in [("weight", solution.d_weights), ("bias", solution.d_biases)] {
        match module.attn.projections {
            Projections::Fused => {
                named.push((format!("attn.in_proj_{what}"), [q, k, v].concat()));
                named.push((format!("attn.out_proj.{what}"), out));
            }
            Projections::Separate(names) => {
                let parts = names.into_iter().zip([q, k, v, out]);
                named.extend(parts.map(|(name, part)| (format!("{name}.{what}"), part)));
            }
        }
    }
    named
}

/// Ids `(P,)` or `(B, P)`.
fn positions(record: &Record<'_>, name: &str, len: usize, fractions: Fractions) -> Outcome<Option<Positions>> {
    let Some(tensor) = record.find(name) else { return Ok(None) };
    let rows = match tensor.shape[..] {
        [p] if p == len => 1,
        [b, p] if p == len => b,
        _ => return fail(format!("`{name}` has shape {:?}, the stream {len} tokens", tensor.shape)),
    };
    Ok(Some(match &tensor.data {
        Data::I64(ids) => Positions::whole_rows(ids, rows)?,
        Data::F32(ids) if fractions == Fractions::Truncated => Positions::truncated(ids, rows)?,
        Data::F32(ids) if fractions == Fractions::Refused => {
            if ids.iter().any(|id| id.fract() != 0.0) {
                return skip("fractional distances under a shared bias, which upstream truncates, are a typed error here");
            }
            Positions::strict(ids, rows)?
        }
        Data::F32(ids) => {
            let ids: Vec<f64> = ids.iter().map(|id| f64::from(*id)).collect();
            Positions::real_rows(&ids, rows)?
        }
        _ => return fail(format!("`{name}` is neither i64 nor f32")),
    }))
}

fn flags<'a>(record: &Record<'a>, name: &str) -> Outcome<Option<&'a [bool]>> {
    match record.find(name) {
        None => Ok(None),
        Some(Tensor {
            data: Data::Bool(flags), ..
        }) => Ok(Some(flags)),
        Some(_) => fail(format!("`{name}` is not boolean")),
    }
}

/// Where each token of a side stands, `[batch, len]`, for the oracle: read from the record, not from ours.
fn places(record: &Record<'_>, side: &str, [batch, len]: [usize; 2]) -> Outcome<Vec<Option<f32>>> {
    let ids: Vec<f32> = match record.find(&format!("{side}_positions")).map(|tensor| &tensor.data) {
        None => (0..len).map(|id| id as f32).collect(),
        Some(Data::I64(ids)) if ids.iter().all(|id| id.unsigned_abs() <= 1 << 24) => ids.iter().map(|id| *id as f32).collect(),
        Some(Data::F32(ids)) => ids.clone(),
        Some(_) => return fail(format!("`{side}_positions` are not numbers that f32 holds")),
    };
    let present = flags(record, &format!("{side}_position_mask"))?.unwrap_or(&[true]);
    // One row serves the whole batch.
    let place = |i: usize| present[i % present.len()].then(|| ids[i % ids.len()]);
    Ok((0..batch * len).map(place).collect())
}

/// A mask of a record: in the shape that is passed on, and as `[batch, heads, q_len, k_len]` where axes may be 1.
struct PairMask<'a> {
    data: &'a Data,
    shape: Vec<usize>,
    broadcast: [usize; 4],
}

impl<'a> PairMask<'a> {
    fn read(record: &Record<'a>, name: &str, [batch, heads, q_len, k_len]: [usize; 4]) -> Outcome<Option<PairMask<'a>>> {
        let Some(Tensor { shape, data }) = record.find(name) else {
            return Ok(None);
        };
        if !matches!(data, Data::Bool(_) | Data::F32(_)) {
            return fail(format!("`{name}` is neither boolean nor f32"));
        }
        let broadcast = match shape[..] {
            [b, k] if name == "key_padding_mask" => [b, 1, 1, k],
            [q, k] => [1, 1, q, k],
            [rows, q, k] if rows == batch * heads => [batch, heads, q, k],
            // The rotary module reads a mask per batch row, which is one for all heads.
            [b, q, k] if b == batch => [b, 1, q, k],
            [b, h, q, k] => [b, h, q, k],
            _ => {
                return fail(format!(
                    "`{name}` has shape {shape:?} for {batch} rows, {heads} heads, {q_len} by {k_len}"
                ));
            }
        };
        let shape = if broadcast[1] == 1 && shape.len() == 3 {
            broadcast.to_vec()
        } else {
            shape.clone()
        };
        Ok(Some(PairMask { data, shape, broadcast }))
    }

    fn given(&self) -> AttnMask<'_, f32> {
        match self.data {
            Data::Bool(mask) => AttnMask::Blocked(mask, &self.shape),
            Data::F32(mask) => AttnMask::Additive(mask, &self.shape),
            _ => unreachable!("read checks it"),
        }
    }

    /// What it adds to the score of a pair, if anything; `None` where it blocks it.
    fn at(&self, pair: [usize; 4]) -> Option<Option<Bounded>> {
        let at = self.broadcast.iter().zip(pair).fold(0, |at, (axis, i)| at * axis + i % axis);
        match self.data {
            Data::Bool(blocked) => (!blocked[at]).then_some(None),
            Data::F32(added) => (added[at] != f32::NEG_INFINITY).then(|| Some(Bounded::exact(added[at]))),
            _ => unreachable!("read checks it"),
        }
    }
}
