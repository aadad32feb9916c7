//! symm-learning's `AdditivePosMultiheadAttention`: [`PositionalMultiheadAttention::additive_pos`].

use crate::golden::bounded::Bounded;
use crate::golden::compare::{Worst, equal, within};
use crate::golden::oracle::{Added, Problem, total};
use crate::golden::set::{Data, Outcome, Record, Tensor, fail};
use posenc::{Mode, Params, Positions};
use posenc_nn::{AttentionTrace, AttnMask, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

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

pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    record.only("args", &["embed_dim", "num_heads", "max_len", "bias", "dropout"])?;
    record.only_tensors(TENSORS)?;
    let (width, heads) = (record.size("args", "embed_dim")?, record.size("args", "num_heads")?);
    let mut module = PositionalMultiheadAttention::additive_pos(width, heads, record.size("args", "max_len")?)?;
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
    let args = PositionalArgs {
        q_positions: positions(record, "q_positions", q_len)?,
        k_positions: positions(record, "k_positions", k_len)?,
        q_position_mask: flags(record, "q_position_mask")?,
        k_position_mask: flags(record, "k_position_mask")?,
        attn_mask: mask(record, "attn_mask")?,
        key_padding_mask: mask(record, "key_padding_mask")?,
        need_weights: true,
        average_attn_weights: true,
        causal: record.json["is_causal"].as_bool().unwrap_or(false).then_some(0),
    };
    let (grad_shape, d_out) = record.f32s::<3>("grad_out")?;
    let (mut trace, mut grads) = (AttentionTrace::default(), params.zeros_like());
    let output = module.forward(&params, streams, batch, &args, Mode::Evaluate, &mut trace)?;
    let mut d_streams = [query.1, key.1, value.1].map(|x| vec![f32::NAN; x.len()]);
    let [d_query, d_key, d_value] = &mut d_streams;
    let into = if same {
        StreamGrads::Same(d_query)
    } else {
        StreamGrads::Apart {
            query: d_query,
            key: d_key,
            value: d_value,
        }
    };
    module.adjoint(&params, streams, batch, &args, Mode::Evaluate, d_out, into, &mut grads, &mut trace)?;

    let solution = {
        let get = |name: &str| params.get(name);
        let in_weight = get("attn.in_proj_weight")?.chunks_exact(width * width).collect::<Vec<_>>();
        let problem = Problem {
            batch,
            q_len,
            k_len,
            width,
            heads,
            streams: [query.1, key.1, value.1],
            added: Some(Added {
                table: get("pos_emb")?,
                rows: [table_rows(record, "q", [batch, q_len])?, table_rows(record, "k", [batch, k_len])?],
            }),
            weights: [in_weight[0], in_weight[1], in_weight[2], get("attn.out_proj.weight")?],
            biases: if module.attn.bias {
                let b = get("attn.in_proj_bias")?.chunks_exact(width).collect::<Vec<_>>();
                Some([b[0], b[1], b[2], get("attn.out_proj.bias")?])
            } else {
                None
            },
        };
        let masks = [record.find("attn_mask"), record.find("key_padding_mask")];
        problem.solve(|b, h, i, j| added_to_score(masks, [heads, q_len, k_len], [b, h, i, j]), d_out)
    };

    let (shape, out) = record.f32s::<3>("out")?;
    let mut worst = within("out", &shape, &output.out, out, &solution.out)?;
    let (shape, weights) = record.f32s::<3>("weights")?;
    let Some(ours) = output.weights else {
        return fail("no weights were given");
    };
    worst = worst.or(within("weights", &shape, &ours, weights, &solution.weights)?);
    let exact = if same {
        [total(&solution.d_streams), Vec::new(), Vec::new()]
    } else {
        solution.d_streams
    };
    let mut compared = 0;
    for ((name, ours), exact) in ["grad_query", "grad_key", "grad_value"].into_iter().zip(&d_streams).zip(&exact) {
        if record.find(name).is_some() {
            let (shape, theirs) = record.f32s::<3>(name)?;
            worst = worst.or(within(name, &shape, ours, theirs, exact)?);
            compared += 1;
        }
    }
    let [wq, wk, wv, wo] = solution.d_weights;
    let [bq, bk, bv, bo] = solution.d_biases;
    for (name, exact) in [
        ("pos_emb", solution.d_table),
        ("attn.in_proj_weight", [wq, wk, wv].concat()),
        ("attn.in_proj_bias", [bq, bk, bv].concat()),
        ("attn.out_proj.weight", wo),
        ("attn.out_proj.bias", bo),
    ] {
        let tensor = format!("grad.{name}");
        if let Some(Tensor {
            shape,
            data: Data::F32(theirs),
        }) = record.find(&tensor)
        {
            worst = worst.or(within(&tensor, shape, grads.get(name)?, theirs, &exact)?);
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
    let plain = module.forward(&params, streams, batch, &args, Mode::Evaluate, &mut trace)?;
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

/// Ids `(P,)` or `(B, P)`; floats are truncated, as `.long()` does upstream.
fn positions(record: &Record<'_>, name: &str, len: usize) -> Outcome<Option<Positions>> {
    let Some(tensor) = record.find(name) else { return Ok(None) };
    let rows = match tensor.shape[..] {
        [p] if p == len => 1,
        [b, p] if p == len => b,
        _ => return fail(format!("`{name}` has shape {:?}, the stream {len} tokens", tensor.shape)),
    };
    Ok(Some(match &tensor.data {
        Data::I64(ids) => Positions::whole_rows(ids, rows)?,
        Data::F32(ids) => Positions::truncated(ids, rows)?,
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

fn mask<'a>(record: &Record<'a>, name: &str) -> Outcome<Option<AttnMask<'a, f32>>> {
    match record.find(name) {
        None => Ok(None),
        Some(Tensor {
            data: Data::Bool(mask),
            shape,
        }) => Ok(Some(AttnMask::Blocked(mask, shape))),
        Some(Tensor {
            data: Data::F32(mask),
            shape,
        }) => Ok(Some(AttnMask::Additive(mask, shape))),
        Some(_) => fail(format!("`{name}` is neither boolean nor f32")),
    }
}

/// The row of the table that each token of a side gets, for the oracle: read from the record, not from ours.
fn table_rows(record: &Record<'_>, side: &str, [batch, len]: [usize; 2]) -> Outcome<Vec<Option<usize>>> {
    let ids: Vec<i64> = match record.find(&format!("{side}_positions")).map(|tensor| &tensor.data) {
        None => (0..len as i64).collect(),
        Some(Data::I64(ids)) => ids.clone(),
        Some(Data::F32(ids)) => ids.iter().map(|id| *id as i64).collect(),
        Some(_) => return fail(format!("`{side}_positions` are neither i64 nor f32")),
    };
    let present = flags(record, &format!("{side}_position_mask"))?.unwrap_or(&[true]);
    // One row serves the whole batch.
    let row = |i: usize| present[i % present.len()].then(|| ids[i % ids.len()] as usize);
    Ok((0..batch * len).map(row).collect())
}

/// What the masks add to a score; `None` where one blocks the pair.
fn added_to_score(masks: [Option<&Tensor>; 2], [heads, q_len, k_len]: [usize; 3], [b, h, i, j]: [usize; 4]) -> Option<Vec<Bounded>> {
    let mut terms = Vec::new();
    let [attn_mask, padding] = masks;
    let pair = i * k_len + j;
    let pairs = q_len * k_len;
    let in_mask = |mask: &Tensor| match mask.shape.len() {
        2 => pair,
        3 => (b * heads + h) * pairs + pair,
        _ => ((b % mask.shape[0]) * mask.shape[1] + h % mask.shape[1]) * pairs + pair,
    };
    for (mask, at) in [(attn_mask, attn_mask.map(in_mask)), (padding, Some(b * k_len + j))] {
        match mask.map(|mask| &mask.data) {
            Some(Data::Bool(blocked)) if blocked[at?] => return None,
            Some(Data::F32(added)) if added[at?] == f32::NEG_INFINITY => return None,
            Some(Data::F32(added)) => terms.push(Bounded::exact(added[at?])),
            _ => {}
        }
    }
    Some(terms)
}
