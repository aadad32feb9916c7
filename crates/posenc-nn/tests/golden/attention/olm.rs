//! openlanguagemodel's modules: ALiBi attention, the learned table, rotary and partial rotary.

use crate::golden::asked::{Embedded, Layout};
use crate::golden::bounded::{Bounded, sum};
use crate::golden::compare::{Worst, equal, within};
use crate::golden::encodings::alibi;
use crate::golden::oracle::{Places, Problem, computed, total};
use crate::golden::rotation::turned;
use crate::golden::set::{Outcome, Record, fail};
use crate::through;
use posenc::embed::{lookup, lookup_adjoint};
use posenc::{Alibi, Dims, Encoding, Learned, Pairing, Params, Positions, Rotary, Turn, View, ViewMut};
use posenc_nn::{MultiheadAttention, PositionalArgs, PositionalMultiheadAttention, Streams};
use std::ops::Range;

const PROJECTIONS: [&str; 4] = ["q_proj", "k_proj", "v_proj", "out_proj"];

/// `MultiHeadAttentionwithALiBi`: projections under names of their own, scores minus m·|i − j|.
pub fn alibi_attention(record: &Record<'_>) -> Outcome<Worst> {
    record.only("args", &["embed_dim", "num_heads", "causal", "max_seq_len", "dropout", "bias"])?;
    record.only_tensors(&["x", "out", "grad_out", "grad_x"])?;
    let (width, heads) = (record.size("args", "embed_dim")?, record.size("args", "num_heads")?);
    let causal = record.flag_or("args", "causal", true)?;
    let mut module = PositionalMultiheadAttention::new(&Alibi::symmetric().into(), width, heads)?;
    if !record.flag_or("args", "bias", false)? {
        module = module.without_bias();
    }
    let attn = &module.attn;

    let mut params: Params<f32> = Params::zeros(&module.specs())?;
    let weights = each_projection(attn, |name, into, rows| {
        let ([out, input], data) = record.f32s::<2>(&format!("param.{name}.weight"))?;
        if [out, input] != [width, width] {
            return fail(format!("`param.{name}.weight` has shape [{out}, {input}]"));
        }
        params.get_mut(&format!("{into}weight"))?[rows.start * width..rows.end * width].copy_from_slice(data);
        Ok(data)
    })?;
    let biases = if attn.bias {
        Some(each_projection(attn, |name, into, rows| {
            let ([len], data) = record.f32s::<1>(&format!("param.{name}.bias"))?;
            if len != width {
                return fail(format!("`param.{name}.bias` has shape [{len}]"));
            }
            params.get_mut(&format!("{into}bias"))?[rows].copy_from_slice(data);
            Ok(data)
        })?)
    } else {
        None
    };
    let held = record.names().filter(|name| name.starts_with("param.")).count();
    if held != if attn.bias { 8 } else { 4 } {
        return fail(format!("{held} parameters, `args` ask for another number"));
    }

    let ([batch, len, _], x) = record.f32s::<3>("x")?;
    let (_, d_out) = record.f32s::<3>("grad_out")?;
    let args = PositionalArgs {
        causal: causal.then_some(0),
        ..Default::default()
    };
    let ours = through::layer(&module, &params, Streams::Same(x), batch, &args, Some(d_out))?;
    let (out, [dx, ..], grads) = (ours.output.out, ours.d_streams, ours.grads);

    let slopes = alibi::bloom_slopes(heads);
    let problem = Problem {
        batch,
        q_len: len,
        k_len: len,
        width,
        heads,
        streams: [x; 3],
        places: Places::None,
        weights,
        biases,
    };
    let solution = problem.solve(
        // The slope is rounded, and its product with the distance.
        |_, h, i, j| (!causal || j <= i).then(|| vec![computed(-slopes[h].value * i.abs_diff(j) as f64, 2.0)]),
        d_out,
    );
    let (shape, theirs) = record.f32s::<3>("out")?;
    let mut worst = within("out", &shape, &out, theirs, &solution.out)?;
    let (shape, theirs) = record.f32s::<3>("grad_x")?;
    worst = worst.or(within("grad_x", &shape, &dx, theirs, &total(&solution.d_streams))?);
    let (mut d_weights, mut d_biases) = (solution.d_weights.iter(), solution.d_biases.iter());
    each_projection(attn, |name, from, rows| {
        let exact = d_weights.next().into_iter().flatten().copied().collect::<Vec<_>>();
        let tensor = format!("grad.{name}.weight");
        let (shape, theirs) = record.f32s::<2>(&tensor)?;
        let ours = &grads.get(&format!("{from}weight"))?[rows.start * width..rows.end * width];
        worst = std::mem::take(&mut worst).or(within(&tensor, &shape, ours, theirs, &exact)?);
        let exact = d_biases.next().into_iter().flatten().copied().collect::<Vec<_>>();
        if attn.bias {
            let tensor = format!("grad.{name}.bias");
            let (shape, theirs) = record.f32s::<1>(&tensor)?;
            let ours = &grads.get(&format!("{from}bias"))?[rows];
            worst = std::mem::take(&mut worst).or(within(&tensor, &shape, ours, theirs, &exact)?);
        }
        Ok(())
    })?;
    Ok(worst)
}

/// Upstream's name of each projection, the beginning of the names of the tensors that hold it here, and its rows there.
fn each_projection<T>(attn: &MultiheadAttention, mut visit: impl FnMut(&str, &str, Range<usize>) -> Outcome<T>) -> Outcome<[T; 4]> {
    let [q, k, v] = attn.in_proj_rows();
    Ok([
        visit(PROJECTIONS[0], "attn.in_proj_", q)?,
        visit(PROJECTIONS[1], "attn.in_proj_", k)?,
        visit(PROJECTIONS[2], "attn.in_proj_", v)?,
        visit(PROJECTIONS[3], "attn.out_proj.", 0..attn.width)?,
    ])
}

/// `AbsolutePositionalEmbedding`: x + table\[position\].
pub fn absolute(record: &Record<'_>) -> Outcome<Worst> {
    record.only("args", &["max_seq_len", "embed_dim", "dropout"])?;
    record.only_tensors(&["x", "table", "positions", "out", "grad_out", "grad_x", "grad_table"])?;
    let ([batch, len, width], x) = record.f32s::<3>("x")?;
    let (table_shape, table) = record.f32s::<2>("table")?;
    let (_, d_out) = record.f32s::<3>("grad_out")?;
    let at = positions(record, len)?;

    let plan = Encoding::from(Learned::new(record.size("args", "max_seq_len")?)).plan(Dims::new(width, 1)?)?;
    let mut params = plan.init::<f32>(0)?;
    let name = plan.parameters()[0].name.clone();
    params.set(&name, &table_shape, table)?;
    let Embedded { out, grads } = through::embedded(&plan, &params, &at, x, [batch, len, width], Some(d_out))?;
    let Some((dx, grads)) = grads else {
        return fail("no gradients were given");
    };

    // One addition has one right result, and a gradient that is passed on has no arithmetic.
    let (shape, theirs) = record.f32s::<3>("out")?;
    equal("out", &shape, &out, theirs)?;
    let (shape, theirs) = record.f32s::<3>("grad_x")?;
    equal("grad_x", &shape, &dx, theirs)?;
    let id = |b: usize, t: usize| at.get(0, b, t).map(|id| id as usize);
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); table_shape[0]];
    for token in 0..batch * len {
        if let Some(row) = id(token / len, token % len) {
            readers[row].push(token);
        }
    }
    let exact = |i: usize| {
        sum(readers[i / width]
            .iter()
            .map(|token| Bounded::exact(d_out[token * width + i % width])))
    };
    let exact: Vec<Bounded> = (0..table.len()).map(exact).collect();
    let (shape, theirs) = record.f32s::<2>("grad_table")?;
    let worst = within("grad_table", &shape, grads.get(&name)?, theirs, &exact)?;

    // The other door: rows by one call.
    let mut rows = vec![f32::NAN; out.len()];
    lookup(&at, View::new(table, table_shape)?, ViewMut::new(&mut rows, [batch, len, width])?)?;
    let sums: Vec<f32> = x.iter().zip(&rows).map(|(x, row)| x + row).collect();
    equal("x + lookup", &[batch, len, width], &sums, &out)?;
    let mut scattered = vec![0.0; table.len()];
    lookup_adjoint(
        &at,
        View::new(d_out, [batch, len, width])?,
        ViewMut::new(&mut scattered, table_shape)?,
    )?;
    Ok(worst.or(within("lookup_adjoint", &shape, &scattered, theirs, &exact)?))
}

/// `RotaryPositionalEmbedding` and the partial one, x `[batch, seq, heads, head_dim]`, pairs interleaved.
pub fn rotary(record: &Record<'_>, default_share: f64) -> Outcome<Worst> {
    record.only("args", &["head_dim", "max_seq_len", "base", "rotary_percentage"])?;
    record.only_tensors(&["x", "positions", "out", "grad_out", "grad_x"])?;
    let head_dim = record.size("args", "head_dim")?;
    let base = record.number_or("args", "base", 10_000.0)?;
    // Upstream truncates, then drops an odd coordinate.
    let r = (head_dim as f64 * record.number_or("args", "rotary_percentage", default_share)?) as usize / 2 * 2;
    let ([_, len, heads, _], _) = record.f32s::<4>("x")?;
    let at = positions(record, len)?;
    let rotary = Rotary::new(Pairing::Interleaved).with_base(base).with_rotary_dim(r);
    let mut worst = Worst::default();
    for (from, to, turn) in [("x", "out", Turn::Forward), ("grad_out", "grad_x", Turn::Adjoint)] {
        let (shape, input) = record.f32s::<4>(from)?;
        let ours = through::turned(&rotary, &at, turn, input, shape, Layout::ByToken)?;
        let mut exact = Vec::with_capacity(input.len());
        for (token, row) in input.chunks_exact(heads * head_dim).enumerate() {
            let position = at.get(0, token / len, token % len).unwrap_or(0.0);
            for head in row.chunks_exact(head_dim) {
                let mut row: Vec<Bounded> = head.iter().map(|x| Bounded::exact(*x)).collect();
                turned(&mut row, r, base, position, turn);
                exact.extend(row);
            }
        }
        let (shape, theirs) = record.f32s::<4>(to)?;
        worst = worst.or(within(to, &shape, &ours, theirs, &exact)?);
    }
    Ok(worst)
}

/// The record's ids `(B, T)`, or none.
fn positions(record: &Record<'_>, len: usize) -> Outcome<Positions> {
    if record.find("positions").is_none() {
        return Ok(Positions::absent(len));
    }
    let (shape, ids) = record.i64s("positions")?;
    let rows = if shape.len() == 1 { 1 } else { shape[0] };
    Ok(Positions::whole_rows(ids, rows)?)
}
