//! ALiBi's tensors, as three codebases store them.
//!
//! Our numbers are off by two roundings, of the slope and of its product with the distance. Theirs have those of their own slopes besides; each is
//! counted here.

use crate::golden::bounded::Bounded;
use crate::golden::compare::{Worst, equal, within};
use crate::golden::oracle::computed;
use crate::golden::set::{Data, Outcome, Record, fail};
use crate::through;
use posenc::{Alibi, Dims, Encoding, Positions, View, ViewMut, alibi_bias, alibi_bloom, alibi_bloom_padded, alibi_mpt};

/// A head's slope, and the roundings in it where it is made as BLOOM makes it.
pub struct Slope {
    pub value: f64,
    pub roundings: f64,
}

/// The authors' rule, from its definition: a geometric sequence for the power of two below, then every second of twice as many heads. BLOOM rounds
/// the base to f32 and raises it to the k-th power: k roundings of the base, and a power that is at most 1 ulp (two units) off.
pub fn bloom_slopes(heads: usize) -> Vec<Slope> {
    let n = (0..).map(|e| 1usize << e).take_while(|n| *n <= heads).last().unwrap_or(1);
    let slope = |k: usize, of: usize| Slope {
        value: 2f64.powf(-8.0 * k as f64 / of as f64),
        roundings: k as f64 + 2.0,
    };
    (0..heads)
        .map(|h| if h < n { slope(h + 1, n) } else { slope(2 * (h - n) + 1, 2 * n) })
        .collect()
}

/// `[heads, 1, seq]`: m·j.
pub fn bloom(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["num_heads", "reference", "rule"])?;
    record.only_tensors(&["bias"])?;
    let (shape, theirs) = record.f32s::<3>("bias")?;
    let [heads, _, len] = shape;
    check_heads(record, heads)?;
    let mut ours = vec![f32::NAN; theirs.len()];
    alibi_bloom(ViewMut::new(&mut ours, shape)?)?;
    let exact: Vec<Bounded> = bloom_slopes(heads)
        .iter()
        .flat_map(|slope| (0..len).map(|j| computed(slope.value * j as f64, slope.roundings + 1.0)))
        .collect();
    Ok(within("bias", &shape, &ours, theirs, &exact)?)
}

/// `[batch·heads, 1, seq]`: m·(tokens before this one), 0 at padding.
pub fn bloom_padded(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["attention_mask", "num_heads", "reference"])?;
    record.only_tensors(&["bias", "mask"])?;
    let (shape, theirs) = record.f32s::<3>("bias")?;
    let mask = record.tensor("mask")?;
    let is_token: Vec<bool> = match &mask.data {
        Data::I64(mask) => mask.iter().map(|m| *m != 0).collect(),
        Data::Bool(mask) => mask.clone(),
        _ => return fail("`mask` is neither i64 nor boolean"),
    };
    let [batch, len] = match mask.shape[..] {
        [batch, len] => [batch, len],
        _ => return fail(format!("`mask` has shape {:?}", mask.shape)),
    };
    let heads = record.size("params", "num_heads")?;
    if shape != [batch * heads, 1, len] {
        return fail(format!("`bias` has shape {shape:?}"));
    }
    let mut ours = vec![f32::NAN; theirs.len()];
    alibi_bloom_padded(View::new(&is_token, [batch, len])?, ViewMut::new(&mut ours, shape)?)?;
    let slopes = bloom_slopes(heads);
    let exact: Vec<Bounded> = (0..theirs.len())
        .map(|at| {
            let (row, j) = (at / len, at % len);
            let tokens = &is_token[row / heads * len..][..len];
            let before = tokens[..j].iter().filter(|token| **token).count();
            let slope = &slopes[row % heads];
            computed(if tokens[j] { slope.value * before as f64 } else { 0.0 }, slope.roundings + 1.0)
        })
        .collect();
    Ok(within("bias", &shape, &ours, theirs, &exact)?)
}

/// `[heads, 1, seq]`: m·(j − (seq − 1)). MPT's slope is 1 / 2^(bias_max·k/n): the exponent is rounded, the power at most 1 ulp (two units) off, the
/// inverse rounded.
pub fn mpt(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["alibi_bias_max", "num_heads", "reference"])?;
    record.only_tensors(&["bias"])?;
    let (shape, theirs) = record.f32s::<3>("bias")?;
    let [heads, _, len] = shape;
    check_heads(record, heads)?;
    let bias_max = record.number_or("params", "alibi_bias_max", 8.0)?;
    let mut ours = vec![f32::NAN; theirs.len()];
    alibi_mpt(bias_max, ViewMut::new(&mut ours, shape)?)?;
    let n = (0..).map(|e| 1usize << e).find(|n| *n >= heads).unwrap_or(1);
    // All of n in order; else those of even k first, then those of odd k.
    let order: Vec<usize> = if n == heads {
        (1..=n).collect()
    } else {
        (1..=n).filter(|k| k % 2 == 0).chain((1..=n).filter(|k| k % 2 == 1)).collect()
    };
    let exact: Vec<Bounded> = order[..heads]
        .iter()
        .flat_map(|k| {
            let exponent = bias_max * *k as f64 / n as f64;
            let slope = 2f64.powf(-exponent);
            // The exponent's factor bias_max/n and its product with k are rounded: two units of it, times ln 2.
            let roundings = 2.0 * exponent * std::f64::consts::LN_2 + 3.0;
            (0..len).map(move |j| computed(slope * (j as f64 - (len as f64 - 1.0)), roundings + 1.0))
        })
        .collect();
    Ok(within("bias", &shape, &ours, theirs, &exact)?)
}

/// `[1, heads, q_len, k_len]`: −m·|i − j|, the slope made in f64 and rounded once.
pub fn symmetric(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["num_heads", "reference"])?;
    record.only_tensors(&["bias"])?;
    let (shape, theirs) = record.f32s::<4>("bias")?;
    let [_, heads, q_len, k_len] = shape;
    check_heads(record, heads)?;
    let mut ours = vec![f32::NAN; theirs.len()];
    let (q_at, k_at) = (Positions::absent(q_len), Positions::absent(k_len));
    let out = ViewMut::new(&mut ours, [heads, q_len, k_len])?;
    alibi_bias(&Alibi::symmetric(), &q_at, &k_at, out)?;
    let plan = Encoding::from(Alibi::symmetric()).plan(Dims::new(heads, heads)?)?;
    equal(
        "bias of a plan",
        &shape,
        &through::bias(&plan, &plan.init(0)?, &q_at, &k_at)?,
        &ours,
    )?;
    let mut exact = Vec::with_capacity(theirs.len());
    for slope in bloom_slopes(heads) {
        for i in 0..q_len {
            exact.extend((0..k_len).map(|j| computed(-slope.value * i.abs_diff(j) as f64, 2.0)));
        }
    }
    Ok(within("bias", &shape, &ours, theirs, &exact)?)
}

fn check_heads(record: &Record<'_>, heads: usize) -> Outcome<()> {
    match record.size("params", "num_heads")? {
        given if given == heads => Ok(()),
        given => fail(format!("`bias` has {heads} heads, `params` say {given}")),
    }
}
