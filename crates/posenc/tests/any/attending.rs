//! Attention against its definition in f64: shapes that cross tiles, caches, masks, documents, ids, groups of heads.

use super::bytes::Bytes;
use super::{Number, poison};
use posenc::positions::Documents;
use posenc::{
    Alibi, Attention, Blocked, Dims, Encoding, Form, Grads, Inputs, Mask, Mode, Outputs, Pairing, Positions, Real, Rng, Rotary, Saved,
    Slots, T5Bias, View, ViewMut, Window, Workspace, reference,
};

/// What one call is made of, in f64.
struct Case {
    heads: usize,
    kv_heads: usize,
    q_len: usize,
    k_len: usize,
    d: usize,
    dv: usize,
    scale: f64,
    softcap: Option<f64>,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// `[heads, q_len, k_len]`.
    bias: Vec<f64>,
    /// `[q_len, k_len]`: what a mask adds, −∞ where it blocks.
    added: Vec<f64>,
    /// A rotation rounds what it turns.
    turned: bool,
}

/// A row of weights, and how far off a score that counts in it may be.
struct Weights {
    p: Vec<f64>,
    off: f64,
}

impl Case {
    fn rows<'a>(&self, x: &'a [f64], [heads, len, width]: [usize; 3], [b, h, t]: [usize; 3]) -> &'a [f64] {
        &x[((b * heads + h) * len + t) * width..][..width]
    }

    fn query(&self, b: usize, h: usize, i: usize) -> &[f64] {
        self.rows(&self.q, [self.heads, self.q_len, self.d], [b, h, i])
    }

    fn key(&self, b: usize, h: usize, j: usize) -> &[f64] {
        self.rows(&self.k, [self.kv_heads, self.k_len, self.d], [b, h * self.kv_heads / self.heads, j])
    }

    fn value(&self, b: usize, h: usize, j: usize) -> &[f64] {
        self.rows(
            &self.v,
            [self.kv_heads, self.k_len, self.dv],
            [b, h * self.kv_heads / self.heads, j],
        )
    }

    fn weights(&self, [b, h, i]: [usize; 3], epsilon: f64) -> Weights {
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let q = self.query(b, h, i);
        let (scores, sizes): (Vec<f64>, Vec<f64>) = (0..self.k_len)
            .map(|j| {
                let k = self.key(b, h, j);
                let (mut s, mut size) = q
                    .iter()
                    .zip(k)
                    .fold((0.0, 0.0), |(s, size), (q, k)| (s + q * k, size + (q * k).abs()));
                s *= self.scale;
                size = self.scale * if self.turned { size + norm(q) * norm(k) } else { size };
                if let Some(cap) = self.softcap {
                    s = cap * (s / cap).tanh();
                    size += cap;
                }
                let (bias, added) = (self.bias[(h * self.q_len + i) * self.k_len + j], self.added[i * self.k_len + j]);
                (
                    s + bias + added,
                    size + bias.abs() + if added.is_finite() { added.abs() } else { 0.0 },
                )
            })
            .unzip();
        let most = scores.iter().fold(f64::NEG_INFINITY, |most, s| most.max(*s));
        if most == f64::NEG_INFINITY {
            return Weights {
                p: vec![0.0; self.k_len],
                off: 0.0,
            };
        }
        // A sum of d products, a bias and a mask, each rounded; tables of biases and rotations, and what they turn, a few times more. Scores far below the largest do not count.
        let counts = |(s, _): &(&f64, &f64)| **s > most - 60.0;
        let off =
            scores.iter().zip(&sizes).filter(counts).map(|(_, size)| *size).fold(0.0, f64::max) * (self.d + 16) as f64 * epsilon / 2.0;
        let exps: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = exps.iter().sum();
        Weights {
            p: exps.iter().map(|e| e / sum).collect(),
            off,
        }
    }
}

pub fn attention<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let (batch, d) = (1 + bytes.below(2), bytes.pick(&[4, 16, 20, 64]));
    let dv = bytes.pick(&[d, d, 3, 16]);
    let (heads, kv_heads) = bytes.pick(&[(1, 1), (2, 2), (4, 2), (3, 1)]);
    let q_len = 1 + bytes.below(12) + if bytes.rarely() { 100 } else { 0 };
    let cached = bytes.pick(&[0, 1, 30, 250, 520]) + bytes.below(9);
    let k_len = cached + if bytes.flag() { q_len } else { 1 };
    let mut rng = Rng::new(u64::from(bytes.byte()));
    let size = bytes.pick(&[1.0, 1.0, 6.0]);
    let mut numbers = |n: usize| -> Vec<T> { (0..n).map(|_| T::narrow(T::Real::of(size * rng.normal()))).collect() };
    let (q, k, v, d_out) = (
        numbers(batch * heads * q_len * d),
        numbers(batch * kv_heads * k_len * d),
        numbers(batch * kv_heads * k_len * dv),
        numbers(batch * heads * q_len * dv),
    );

    // Positions: a cache's, or any.
    let ids = |bytes: &mut Bytes<'_>, len: usize, start: i64| -> Vec<i64> {
        match bytes.below(3) {
            0 => (start..start + len as i64).collect(),
            1 => (0..len as i64).map(|t| (t * 37 + start) % 500).collect(),
            _ => (0..len as i64).map(|t| start + t / 3).collect(),
        }
    };
    let (q_ids, k_ids) = (ids(bytes, q_len, cached as i64), ids(bytes, k_len, 0));
    let whole = |ids: &[i64]| match ids.windows(2).all(|pair| pair[1] == pair[0] + 1) {
        true => Positions::range(ids[0]..ids[0] + ids.len() as i64),
        false => Positions::whole(ids),
    };
    let (q_at, k_at) = (whole(&q_ids), whole(&k_ids));

    let kind = bytes.below(6);
    let turned = kind == 3 || kind == 4;
    let (symmetric, bidirectional) = (bytes.flag(), bytes.flag());
    let alibi = Alibi {
        form: if symmetric { Form::Symmetric } else { Form::Causal },
        ..Alibi::new()
    };
    let t5 = if bidirectional { T5Bias::encoder() } else { T5Bias::decoder() };
    let encoding: Encoding = match kind {
        1 => alibi.clone().into(),
        2 => t5.clone().into(),
        3 => Rotary::new(Pairing::Halves).into(),
        4 => Encoding::from(Rotary::new(Pairing::Interleaved)).with(alibi.clone()),
        _ => Encoding::none(),
    };
    let mut dims = Dims::new(heads * d, heads)
        .and_then(|dims| dims.with_kv_heads(kv_heads))
        .expect("heads of d");
    dims.head_dim = d;
    let plan = encoding.plan(dims).expect("sizes that fit");
    let params = plan.init::<T::Real>(5).expect("few parameters");
    let call = plan.call(&params, &q_at, &k_at).expect("positions of any call");
    let some = |ids: &[i64]| ids.iter().map(|id| Some(*id as f64)).collect::<Vec<_>>();
    let bias = match kind {
        1 | 4 => reference::alibi::bias(&reference::alibi::slopes(heads), symmetric, &some(&q_ids), &some(&k_ids)),
        2 => {
            let table: Vec<f64> = params.flat().iter().map(|x| x.to_f64()).collect();
            let some = |ids: &[i64]| ids.iter().map(|id| Some(*id)).collect::<Vec<_>>();
            reference::t5::bias(&table, heads, bidirectional, t5.max_distance, &some(&q_ids), &some(&k_ids))
        }
        _ => vec![0.0; heads * q_len * k_len],
    };

    let mut attention = Attention {
        softcap: bytes.rarely().then_some(3.0),
        ..Attention::default()
    };
    let first = if bytes.flag() { cached } else { bytes.below(40) };
    let causal = bytes.flag();
    let (left, right) = (bytes.below(300), bytes.below(20));
    if bytes.below(4) == 0 {
        attention.window = Some(Window {
            left: Some(left),
            right: Some(right),
        });
    }
    let length = 1 + bytes.below(90);
    let documents = Documents::from_lengths(&vec![length; k_len / length]).expect("few tokens");
    let by_documents = bytes.below(4) == 0;
    let flags: Vec<bool> = (0..k_len).map(|j| (j * 7 + length).is_multiple_of(5)).collect();
    let blocks = bytes.below(3) == 0;
    let strange = bytes.pick(&[-1e9, f64::NEG_INFINITY, -2.5, 3.0]);
    let added: Vec<f64> = (0..q_len * k_len).map(|pair| if pair % 7 < 3 { strange } else { 0.0 }).collect();
    let adds = bytes.below(3) == 0;
    let stored: Vec<T::Real> = added.iter().map(|x| T::Real::of(*x)).collect();
    let mut mask = if causal {
        Mask::none().causal(first)
    } else {
        Mask::none().after(first)
    };
    if by_documents {
        mask = mask.documents(&documents);
    }
    if blocks {
        mask = mask.blocked(Blocked(View::new(&flags, [1, 1, 1, k_len]).expect("its size")));
    }
    if adds {
        mask = mask.additive(View::new(&stored, [1, 1, q_len, k_len]).expect("its size"));
    }
    let sees = |i: usize, j: usize| {
        let order = i + first;
        let window = attention.window.is_none_or(|_| j + left >= order && j <= order + right);
        let document = !by_documents || documents.of(order) == documents.of(j);
        window && document && !(causal && j > order) && !(blocks && flags[j])
    };
    let seen = (0..q_len * k_len).map(|pair| match sees(pair / k_len, pair % k_len) {
        true if adds => stored[pair].to_f64(),
        true => 0.0,
        false => f64::NEG_INFINITY,
    });
    let wide = |x: &[T]| -> Vec<f64> { x.iter().map(|x| x.widen().to_f64()).collect() };
    let turn = |x: &[T], ids: &[i64]| -> Vec<f64> {
        let rows = x.chunks_exact(d).enumerate();
        let pairing = if kind == 3 { Pairing::Halves } else { Pairing::Interleaved };
        rows.flat_map(|(i, row)| match turned {
            true => reference::rotary::by_pairs(&wide(row), ids[i % ids.len()] as f64, d, pairing, 10_000.0),
            false => wide(row),
        })
        .collect()
    };
    let case = Case {
        heads,
        kv_heads,
        q_len,
        k_len,
        d,
        dv,
        scale: 1.0 / (d as f64).sqrt(),
        softcap: attention.softcap,
        q: turn(&q, &q_ids),
        k: turn(&k, &k_ids),
        v: wide(&v),
        bias,
        added: seen.collect(),
        turned,
    };

    let views = (
        View::new(&q, [batch, heads, q_len, d]).expect("its size"),
        View::new(&k, [batch, kv_heads, k_len, d]).expect("its size"),
        View::new(&v, [batch, kv_heads, k_len, dv]).expect("its size"),
    );
    let inputs = Inputs::new(views.0, views.1, views.2);
    let shape = [batch, heads, q_len, dv];
    let (mut saved, mut work) = (Saved::default(), Workspace::default());
    let mut outs = [vec![poison::<T>(); d_out.len()], vec![poison::<T>(); d_out.len()]];
    for (out, saved) in outs.iter_mut().zip([None, Some(&mut saved)]) {
        let outputs = Outputs {
            out: ViewMut::new(out, shape).expect("its size"),
            saved,
            weights: None,
        };
        attention
            .forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut work)
            .expect("what fits");
    }
    let epsilon = T::Real::EPSILON.to_f64();
    // Half the distance between stored numbers, relative; f32 and f64 store what they compute.
    let half_ulp = 1.0 / T::EXACT_INTEGERS;
    let out = |b: usize, h: usize, i: usize, c: usize| ((b * heads + h) * q_len + i) * dv + c;
    let rows = (0..batch * heads * q_len).map(|row| [row / (heads * q_len), row / q_len % heads, row % q_len]);
    let weights: Vec<Weights> = rows.clone().map(|row| case.weights(row, epsilon)).collect();
    for ([b, h, i], row) in rows.clone().zip(&weights) {
        for c in 0..dv {
            let terms = row.p.iter().enumerate().map(|(j, p)| p * case.value(b, h, j)[c]);
            let (exact, sum) = terms.fold((0.0, 0.0), |(s, size), x| (s + x, size + x.abs()));
            let most = (0..k_len).map(|j| case.value(b, h, j)[c].abs()).fold(0.0, f64::max);
            // Scores that are off by δ make weights that are off by a factor of e^2δ; a mean is off by no more than what lies between its values.
            let off = ((2.0 * row.off).exp_m1() + (k_len + 16) as f64 * epsilon) * sum + f64::from(f32::MIN_POSITIVE);
            let bound = off.min(2.0 * most) + exact.abs() * half_ulp + 1e-7 * f64::from(u8::from(half_ulp > 1e-5));
            for got in outs.iter().map(|o| o[out(b, h, i, c)].widen().to_f64()) {
                assert!(
                    (got - exact).abs() <= bound,
                    "{plan}: {got} is not {exact} by {bound:e} at {b}, {h}, {i}, {c}"
                );
            }
        }
    }

    let mut grads = [
        vec![poison::<T>(); q.len()],
        vec![poison::<T>(); k.len()],
        vec![poison::<T>(); v.len()],
    ];
    let [dq, dk, dv_grad] = &mut grads;
    let into = Grads {
        dq: ViewMut::new(dq, [batch, heads, q_len, d]).expect("its size"),
        dk: ViewMut::new(dk, [batch, kv_heads, k_len, d]).expect("its size"),
        dv: ViewMut::new(dv_grad, [batch, kv_heads, k_len, dv]).expect("its size"),
    };
    let (o, d_o) = (
        View::new(&outs[1], shape).expect("its size"),
        View::new(&d_out, shape).expect("its size"),
    );
    let mut slots = Slots::default();
    attention
        .adjoint(&call, inputs, &mask, Mode::Evaluate, o, d_o, &saved, into, &mut slots, &mut work)
        .expect("what the forward pass took");
    // Gradients of values: Σ p·do, over the queries of a group.
    let d_out = wide(&d_out);
    for (b, g, j) in (0..batch * kv_heads * k_len).map(|row| (row / (kv_heads * k_len), row / k_len % kv_heads, row % k_len)) {
        for c in 0..dv {
            let (mut exact, mut bound) = (0.0, f64::from(f32::MIN_POSITIVE));
            for ([_, h, i], row) in rows
                .clone()
                .zip(&weights)
                .filter(|([b_, h, _], _)| *b_ == b && h * kv_heads / heads == g)
            {
                let x = row.p[j] * d_out[out(b, h, i, c)];
                exact += x;
                bound += x.abs() * ((2.0 * row.off).exp_m1() + (k_len + q_len * heads + 16) as f64 * epsilon).min(1e300);
                // A weight that is almost nothing may be anything up to 1 where scores are off by that much.
                bound += d_out[out(b, h, i, c)].abs() * if row.off > 1.0 { 1.0 } else { 1e-25 };
            }
            bound += exact.abs() * half_ulp + 1e-7 * f64::from(u8::from(half_ulp > 1e-5));
            let got = grads[2][((b * kv_heads + g) * k_len + j) * dv + c].widen().to_f64();
            assert!(
                (got - exact).abs() <= bound,
                "{plan}: dv {got} is not {exact} by {bound:e} at {b}, {g}, {j}, {c}"
            );
        }
    }
    assert!(
        grads.iter().flatten().all(|x| x.widen().to_f64().is_finite()),
        "{plan}: a gradient is not finite"
    );
}
