//! The tile driver beyond one tile and one length: queries and keys of different lengths, offsets, windows, masks that are finite, values that are empty.

use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::{
    Alibi, Attends, Attention, Blocked, Call, Dims, Encoding, Mask, Mode, Params, Plan, Positions, Real, Rng, Temperature, View, ViewMut,
    Window,
};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 5;

fn plan() -> Plan {
    let dims = Dims {
        model_dim: 20,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: DIM,
    };
    Encoding::from(Alibi::symmetric()).plan(dims).unwrap()
}

fn random<R: Real>(n: usize, seed: u64) -> Vec<R> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| R::of(rng.normal())).collect()
}

/// Lengths, the order of the first query, how far it sees, and whether there are sinks.
#[derive(Clone, Copy, Debug)]
struct Case {
    q_len: usize,
    k_len: usize,
    first: usize,
    causal: bool,
    window: Window,
    chunk: Option<usize>,
    temperature: Option<Temperature>,
    sinks: bool,
}

const NO_WINDOW: Window = Window { left: None, right: None };

const fn case([q_len, k_len]: [usize; 2], first: usize) -> Case {
    Case {
        q_len,
        k_len,
        first,
        causal: false,
        window: NO_WINDOW,
        chunk: None,
        temperature: None,
        sinks: false,
    }
}

const fn causal(lengths: [usize; 2], first: usize) -> Case {
    Case {
        causal: true,
        ..case(lengths, first)
    }
}

/// Row blocks hold 64 queries and tiles 128 keys: every case but the first crosses both.
const CASES: [Case; 17] = [
    causal([3, 7], 4),
    causal([150, 300], 150),
    causal([150, 300], 150).seeing(Some(69), Some(69)),
    case([130, 257], 0).seeing(Some(39), Some(39)),
    causal([200, 129], 0),
    causal([200, 129], 0).seeing(Some(0), Some(0)),
    case([65, 400], 0),
    causal([70, 140], 300).seeing(Some(199), Some(199)),
    case([70, 300], 200).seeing(Some(20), Some(3)),
    case([70, 300], 100).seeing(None, Some(5)),
    case([65, 200], 100).seeing(Some(30), None).with_sinks(),
    causal([130, 140], 0).with_sinks(),
    causal([150, 300], 150).in_chunks(70),
    case([70, 300], 100).in_chunks(150).seeing(Some(40), Some(90)),
    causal([130, 140], 0).in_chunks(1),
    causal([150, 300], 150).in_chunks(200).tempered(Temperature::Steps {
        scale: 0.5,
        length: 20.0,
        first: 1.0,
    }),
    case([65, 200], 0)
        .tempered(Temperature::Smooth { scale: 0.5, length: 20.0 })
        .with_sinks(),
];

impl Case {
    const fn seeing(self, left: Option<usize>, right: Option<usize>) -> Case {
        Case {
            window: Window { left, right },
            ..self
        }
    }

    const fn in_chunks(self, size: usize) -> Case {
        Case { chunk: Some(size), ..self }
    }

    const fn tempered(self, temperature: Temperature) -> Case {
        Case {
            temperature: Some(temperature),
            ..self
        }
    }

    const fn with_sinks(self) -> Case {
        Case { sinks: true, ..self }
    }

    /// The rule of causality, windows and chunks in words: order of the query and of the key, nothing else.
    fn visible(&self, i: usize, j: usize) -> bool {
        let order = i + self.first;
        (!self.causal || j <= order)
            && self.window.left.is_none_or(|left| j + left >= order)
            && self.window.right.is_none_or(|right| j <= order + right)
            && self.chunk.is_none_or(|chunk| j / chunk == order / chunk)
    }

    fn mask<R: Real>(&self) -> Mask<'static, R> {
        match self.causal {
            true => Mask::none().causal(self.first),
            false => Mask::none().after(self.first),
        }
    }

    fn attention(&self) -> Attention {
        Attention {
            window: Some(self.window),
            chunk: self.chunk,
            temperature: self.temperature,
            sinks: self.sinks,
            ..Attention::default()
        }
    }
}

struct Pass<R> {
    out: Vec<R>,
    weights: Vec<R>,
    /// Of queries, keys, values and sinks.
    grads: [Vec<R>; 4],
}

/// One batch row: out, weights, and the gradients of `Σ g·out`.
fn pass<R: Real>(attention: &Attention, mask: &Mask<'_, R>, [q_len, k_len]: [usize; 2], [q, k, v, g, sinks]: [&[R]; 5]) -> Pass<R> {
    let params: Params<R> = plan().init(0).unwrap();
    let call = plan().call(&params, &Positions::absent(q_len), &Positions::absent(k_len)).unwrap();
    let (q_shape, k_shape) = ([1, HEADS, q_len, DIM], [1, KV_HEADS, k_len, DIM]);
    let mut inputs = Inputs::new(
        View::new(q, q_shape).unwrap(),
        View::new(k, k_shape).unwrap(),
        View::new(v, k_shape).unwrap(),
    );
    if attention.sinks {
        inputs = inputs.with_sinks(sinks);
    }
    let nan = |n: usize| vec![R::of(f64::NAN); n];
    let (mut out, mut weights) = (nan(q.len()), nan(HEADS * q_len * k_len));
    let mut saved = Saved::default();
    let mut work = Workspace::default();
    let outputs = Outputs {
        out: ViewMut::new(&mut out, q_shape).unwrap(),
        saved: Some(&mut saved),
        weights: None,
    };
    attention.forward(&call, inputs, mask, Mode::Evaluate, outputs, &mut work).unwrap();
    let mut again = nan(q.len());
    let outputs = Outputs {
        out: ViewMut::new(&mut again, q_shape).unwrap(),
        saved: None,
        weights: Some(ViewMut::new(&mut weights, [1, HEADS, q_len, k_len]).unwrap()),
    };
    attention.forward(&call, inputs, mask, Mode::Evaluate, outputs, &mut work).unwrap();
    let mut grads = [nan(q.len()), nan(k.len()), nan(v.len()), Vec::new()];
    let [dq, dk, dv, d_sinks] = &mut grads;
    let mut slots = Slots::default();
    let into = Grads {
        dq: ViewMut::new(dq, q_shape).unwrap(),
        dk: ViewMut::new(dk, k_shape).unwrap(),
        dv: ViewMut::new(dv, k_shape).unwrap(),
    };
    let (o, d_o) = (View::new(&out, q_shape).unwrap(), View::new(g, q_shape).unwrap());
    attention
        .adjoint(&call, inputs, mask, Mode::Evaluate, o, d_o, &saved, into, &mut slots, &mut work)
        .unwrap();
    d_sinks.extend_from_slice(slots.sinks());
    Pass { out, weights, grads }
}

/// Queries, keys, values, the gradient of the outputs, sinks.
fn inputs<R: Real>(case: &Case) -> [Vec<R>; 5] {
    let (q, k) = (HEADS * case.q_len * DIM, KV_HEADS * case.k_len * DIM);
    [random(q, 1), random(k, 2), random(k, 3), random(q, 4), random(HEADS, 5)]
}

/// Why a pass is refused; it has touched nothing.
fn refusal<R: Real>(attention: &Attention, call: &Call<'_, R>, inputs: Inputs<'_, R>, mask: &Mask<'_, R>) -> posenc::Error {
    let seven = R::of(7.0);
    let mut out = vec![seven; inputs.q.shape().iter().product()];
    let outputs = Outputs {
        out: ViewMut::new(&mut out, inputs.q.shape()).unwrap(),
        saved: None,
        weights: None,
    };
    let refused = attention.forward(call, inputs, mask, Mode::Evaluate, outputs, &mut Workspace::default());
    assert!(out.iter().all(|x| *x == seven), "nothing was touched");
    refused.unwrap_err()
}

/// Bound in f64: a score is off by some (DIM + 8)·2⁻⁵³ of its size, below 200 with ALiBi's steepest slope over 400 keys; a weight by twice that: 1e-12.
#[test]
fn every_length_offset_and_window_equals_plain_attention() {
    for case in CASES {
        let [q, k, v, g, sinks] = inputs::<f64>(&case);
        let got = pass(&case.attention(), &case.mask(), [case.q_len, case.k_len], [&q, &k, &v, &g, &sinks]);
        let slopes = posenc::alibi_slopes(HEADS).unwrap();
        for h in 0..HEADS {
            for i in 0..case.q_len {
                let score = |j: usize| -> f64 {
                    let (q, k) = (&q[(h * case.q_len + i) * DIM..][..DIM], &k[(h / 2 * case.k_len + j) * DIM..][..DIM]);
                    let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    // The queries' positions are 0, 1, 2, …: the bias is not multiplied.
                    let tempered = product * case.temperature.map_or(1.0, |t| t.factor(i as f64));
                    tempered / (DIM as f64).sqrt() - slopes[h] * i.abs_diff(j) as f64
                };
                let visible: Vec<usize> = (0..case.k_len).filter(|&j| case.visible(i, j)).collect();
                let max = visible.iter().map(|&j| score(j)).fold(f64::NEG_INFINITY, f64::max);
                let sink = if case.sinks { (sinks[h] - max).exp() } else { 0.0 };
                let sum = sink + visible.iter().map(|&j| (score(j) - max).exp()).sum::<f64>();
                let mut out = [0.0; DIM];
                let weights = &got.weights[(h * case.q_len + i) * case.k_len..][..case.k_len];
                for j in 0..case.k_len {
                    let p = if visible.contains(&j) { (score(j) - max).exp() / sum } else { 0.0 };
                    assert!(
                        (weights[j] - p).abs() <= 1e-12,
                        "{case:?}: weight of head {h}, query {i}, key {j}: {} against {p}",
                        weights[j]
                    );
                    out.iter_mut()
                        .zip(&v[(h / 2 * case.k_len + j) * DIM..])
                        .for_each(|(o, v)| *o += p * v);
                }
                for (o, e) in got.out[(h * case.q_len + i) * DIM..].iter().zip(out) {
                    assert!((o - e).abs() <= 1e-12, "{case:?}: head {h}, query {i}: {o} against {e}");
                }
            }
        }
    }
}

/// The gradient's component along random directions of unit length equals central differences of the loss.
///
/// Bound: the loss, a sum of up to 4000 terms of size 1, is about 60 and rounded by 1e-13 of it; over a step of 1e-5: 1e-6; the third derivative along a unit direction, below 10, times the step squared
/// is nothing beside it.
#[test]
fn the_adjoint_is_right_across_tiles() {
    const STEP: f64 = 1e-5;
    for case in CASES {
        let inputs = inputs::<f64>(&case);
        let loss = |inputs: &[Vec<f64>; 5]| -> f64 {
            let [q, k, v, g, sinks] = inputs;
            let out = pass(&case.attention(), &case.mask(), [case.q_len, case.k_len], [q, k, v, g, sinks]).out;
            out.iter().zip(g).map(|(o, g)| o * g).sum()
        };
        let [q, k, v, g, sinks] = &inputs;
        let grads = pass(&case.attention(), &case.mask(), [case.q_len, case.k_len], [q, k, v, g, sinks]).grads;
        // Queries, keys, values; sinks.
        for (which, input) in [0, 1, 2, 4].into_iter().take(if case.sinks { 4 } else { 3 }).enumerate() {
            let direction: Vec<f64> = random(inputs[input].len(), 10 + which as u64);
            let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let moved = |step: f64| {
                let mut inputs = inputs.clone();
                inputs[input].iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d / norm);
                loss(&inputs)
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let along: f64 = grads[which].iter().zip(&direction).map(|(g, d)| g * d / norm).sum();
            assert!(
                (along - difference).abs() <= 1e-6,
                "{case:?}: gradient {which} along a direction: {along} against {difference}"
            );
        }
    }
}

/// A row whose every key is masked by a large finite number attends to all of them: weights sum to 1 in the adjoint as in the forward pass. Σⱼ dvⱼ is then Σ g over the heads of a group.
///
/// Bound: n products of weights, each off by 4 ulp, and their sums: (n + 8)·ε of Σ|g|.
#[test]
fn large_finite_masks_keep_the_weights_scale_in_the_adjoint() {
    fn check<R: Real>(masked: f64) {
        let (q_len, k_len) = (3, 8);
        let case = case([q_len, k_len], 0);
        let [q, k, v, g, sinks] = inputs::<R>(&case);
        let additive = vec![R::of(masked); k_len];
        let mask = Mask::none().additive(View::new(&additive, [1, 1, 1, k_len]).unwrap());
        let got = pass(&Attention::default(), &mask, [q_len, k_len], [&q, &k, &v, &g, &sinks]);
        let sum = |x: &[R], rows: usize| -> Vec<f64> { (0..DIM).map(|d| (0..rows).map(|r| x[r * DIM + d].to_f64()).sum()).collect() };
        for group in 0..KV_HEADS {
            let of_values = sum(&got.grads[2][group * k_len * DIM..], k_len);
            let of_outputs = sum(&g[group * 2 * q_len * DIM..], 2 * q_len);
            for (a, b) in of_values.iter().zip(&of_outputs) {
                assert!(
                    (a - b).abs() <= 16.0 * R::EPSILON.to_f64() * 20.0,
                    "mask {masked}: Σ dv = {a}, Σ g = {b}"
                );
            }
        }
        assert!(got.grads.iter().flatten().all(|x| x.is_finite()));
    }
    for masked in [-1e4, -1e9, f64::from(f32::MIN) / 2.0] {
        check::<f32>(masked);
        check::<f64>(masked);
    }
}

/// Nothing to attend to: no keys, or all of them blocked. Outputs, weights and gradients are zeros, never NaN.
#[test]
fn rows_that_attend_to_nothing_are_zeros() {
    let blocked = [true; 4];
    for k_len in [0, 4] {
        let case = case([3, k_len], 0);
        let [q, k, v, g, sinks] = inputs::<f32>(&case);
        let mask = Mask::none().blocked(Blocked(View::new(&blocked[..k_len], [1, 1, 1, k_len]).unwrap()));
        let got = pass(&Attention::default(), &mask, [3, k_len], [&q, &k, &v, &g, &sinks]);
        assert!(
            got.out
                .iter()
                .chain(&got.weights)
                .chain(got.grads.iter().flatten())
                .all(|x| *x == 0.0)
        );
    }
    // An empty tensor's strides reach nothing, however large they are.
    let params: Params<f32> = plan().init(0).unwrap();
    let call = plan().call(&params, &Positions::absent(4), &Positions::absent(0)).unwrap();
    let q: Vec<f32> = random(HEADS * 4 * DIM, 1);
    let (mut out, mut none) = (vec![f32::NAN; q.len()], []);
    let empty = View::new(&[], [1, KV_HEADS, 0, DIM]).unwrap();
    let outputs = Outputs {
        out: ViewMut::new(&mut out, [1, HEADS, 4, DIM]).unwrap(),
        saved: None,
        weights: Some(ViewMut::strided(&mut none, [1, HEADS, 4, 0], [1, 1, 1 << 40, 1]).unwrap()),
    };
    let inputs = Inputs::new(View::new(&q, [1, HEADS, 4, DIM]).unwrap(), empty, empty);
    Attention::default()
        .forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
        .unwrap();
    assert!(out.iter().all(|x| *x == 0.0));
}

/// Dropped weights are a function of where they stand: whole rows (as when the weights are asked for) and tiles drop the same ones, and the output is their product with the values.
#[test]
fn dropout_does_not_depend_on_the_tiling() {
    let case = CASES[1];
    let [q, k, v, ..] = inputs::<f64>(&case);
    let params: Params<f64> = plan().init(0).unwrap();
    let call = plan()
        .call(&params, &Positions::absent(case.q_len), &Positions::absent(case.k_len))
        .unwrap();
    let (q_shape, k_shape) = ([1, HEADS, case.q_len, DIM], [1, KV_HEADS, case.k_len, DIM]);
    let inputs = Inputs::new(
        View::new(&q, q_shape).unwrap(),
        View::new(&k, k_shape).unwrap(),
        View::new(&v, k_shape).unwrap(),
    );
    let attention = Attention {
        dropout: 0.4,
        ..Attention::default()
    };
    let mode = Mode::Train { seed: 1, call: 2 };
    let run = |weights: Option<&mut Vec<f64>>| {
        let mut out = vec![f64::NAN; q.len()];
        let weights = weights.map(|w| ViewMut::new(w, [1, HEADS, case.q_len, case.k_len]).unwrap());
        let outputs = Outputs {
            out: ViewMut::new(&mut out, q_shape).unwrap(),
            saved: None,
            weights,
        };
        attention
            .forward(&call, inputs, &Mask::none(), mode, outputs, &mut Workspace::default())
            .unwrap();
        out
    };
    let mut weights = vec![f64::NAN; HEADS * case.q_len * case.k_len];
    let (tiled, whole) = (run(None), run(Some(&mut weights)));
    let dropped = weights.iter().filter(|w| **w == 0.0).count() as f64 / weights.len() as f64;
    // Five standard deviations of a share of 0.4 among 180 000.
    assert!((dropped - 0.4).abs() < 5.0 * (0.24f64 / weights.len() as f64).sqrt(), "{dropped}");
    for (a, b) in tiled.iter().zip(&whole) {
        assert!((a - b).abs() <= 1e-12);
    }
}

/// A cap that is positive in f64 but 0 in f32 would divide by zero: it is refused.
#[test]
fn settings_that_vanish_in_the_arithmetic_are_refused() {
    let params: Params<f32> = plan().init(0).unwrap();
    let at = Positions::absent(1);
    let call = plan().call(&params, &at, &at).unwrap();
    let (q, k) = (vec![1.0f32; HEADS * DIM], vec![1.0f32; KV_HEADS * DIM]);
    let k = View::new(&k, [1, KV_HEADS, 1, DIM]).unwrap();
    let inputs = Inputs::new(View::new(&q, [1, HEADS, 1, DIM]).unwrap(), k, k);
    for attention in [
        Attention {
            softcap: Some(1e-50),
            ..Attention::default()
        },
        Attention {
            scale: Some(1e300),
            ..Attention::default()
        },
    ] {
        let refused = refusal(&attention, &call, inputs, &Mask::none());
        assert!(matches!(refused, posenc::Error::Invalid { .. }));
    }
}

/// Batch rows whose caches differ in length are as each row alone; what is left of a row's buffer past its own tokens is never seen.
#[test]
fn each_row_has_its_own_first_query() {
    let (q_len, capacity, firsts) = (2, 9, [3, 0, 7]);
    let (q, k): (Vec<f64>, Vec<f64>) = (random(3 * HEADS * q_len * DIM, 1), random(3 * KV_HEADS * capacity * DIM, 2));
    let params: Params<f64> = plan().init(0).unwrap();
    let keys: Vec<i64> = (0..capacity as i64).collect();
    let run = |rows: std::ops::Range<usize>, k_len: usize, mask: &Mask<'_, f64>| {
        let batch = rows.len();
        let queries: Vec<i64> = rows.clone().flat_map(|b| (firsts[b] as i64..).take(q_len)).collect();
        let call = plan()
            .call(
                &params,
                &Positions::whole_rows(&queries, batch).unwrap(),
                &Positions::whole(&keys[..k_len]),
            )
            .unwrap();
        let q = View::new(
            &q[rows.start * HEADS * q_len * DIM..][..batch * HEADS * q_len * DIM],
            [batch, HEADS, q_len, DIM],
        )
        .unwrap();
        let part = &k[rows.start * KV_HEADS * capacity * DIM..];
        let k = View::strided(
            part,
            [batch, KV_HEADS, k_len, DIM],
            [KV_HEADS * capacity * DIM, capacity * DIM, DIM, 1],
        )
        .unwrap();
        let mut out = vec![f64::NAN; batch * HEADS * q_len * DIM];
        let outputs = Outputs {
            out: ViewMut::new(&mut out, [batch, HEADS, q_len, DIM]).unwrap(),
            saved: None,
            weights: None,
        };
        Attention::default()
            .forward(
                &call,
                Inputs::new(q, k, k),
                mask,
                Mode::Evaluate,
                outputs,
                &mut Workspace::default(),
            )
            .unwrap();
        out
    };
    let together = run(0..3, capacity, &Mask::none().causal_rows(&firsts));
    for (b, first) in firsts.into_iter().enumerate() {
        let alone = run(b..b + 1, first + q_len, &Mask::none().causal(first));
        // The same weights; only the packed width differs, and with it nothing that is summed.
        for (a, t) in alone.iter().zip(&together[b * alone.len()..]) {
            assert!((a - t).abs() <= 1e-14, "row {b}: {a} against {t}");
        }
    }
    let mask: Mask<'_, f64> = Mask::none().causal_rows(&firsts[..2]);
    let at = Positions::absent(1);
    let call = plan().call(&params, &at, &at).unwrap();
    let (q, k) = (vec![1.0; 3 * HEADS * DIM], vec![1.0; 3 * KV_HEADS * DIM]);
    let k = View::new(&k, [3, KV_HEADS, 1, DIM]).unwrap();
    let inputs = Inputs::new(View::new(&q, [3, HEADS, 1, DIM]).unwrap(), k, k);
    let refused = refusal(&Attention::default(), &call, inputs, &mask);
    assert!(matches!(refused, posenc::Error::Shape { .. }));
}

/// The masks of transformers 5.23.0: `chunked_overlay(3, left_padding)` with `causal_mask_function`, row by row as its documentation draws it, and the same with left padding.
/// Attended pairs have weight, and no others.
#[test]
fn chunks_are_those_of_transformers_with_left_padding() {
    // masking_utils.py, `sdpa_mask(…, mask_function=chunked_causal_mask_function(3, torch.zeros(1, dtype=int)))` at 5 tokens; then left_padding = 2 at 8 tokens, padding tokens not attended to.
    let unpadded = ["#....", "##...", "###..", "...#.", "...##"];
    let padded = [
        "........", "........", "..#.....", "..##....", "..###...", ".....#..", ".....##.", ".....###",
    ];
    for (rows, pad) in [(&unpadded[..], 0), (&padded[..], 2)] {
        let len = rows.len();
        let is_token: Vec<bool> = (0..len).map(|t| t >= pad).collect();
        let attended: Vec<bool> = is_token.clone();
        let params: Params<f64> = plan().init(0).unwrap();
        let at = Positions::from_padding(&is_token, 1).unwrap();
        let call = plan().call(&params, &at, &at).unwrap();
        let (q, k): (Vec<f64>, Vec<f64>) = (random(HEADS * len * DIM, 1), random(KV_HEADS * len * DIM, 2));
        let (q_view, k_view) = (
            View::new(&q, [1, HEADS, len, DIM]).unwrap(),
            View::new(&k, [1, KV_HEADS, len, DIM]).unwrap(),
        );
        let (mut out, mut weights) = (vec![f64::NAN; q.len()], vec![f64::NAN; HEADS * len * len]);
        let attention = Attention {
            chunk: Some(3),
            ..Attention::default()
        };
        let mask = Mask::none()
            .causal(0)
            .attends(Attends(View::new(&attended, [1, 1, 1, len]).unwrap()));
        let outputs = Outputs {
            out: ViewMut::new(&mut out, [1, HEADS, len, DIM]).unwrap(),
            saved: None,
            weights: Some(ViewMut::new(&mut weights, [1, HEADS, len, len]).unwrap()),
        };
        let inputs = Inputs::new(q_view, k_view, k_view);
        attention
            .forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut Workspace::default())
            .unwrap();
        for (i, row) in rows.iter().enumerate() {
            let drawn: String = (0..len).map(|j| if weights[i * len + j] > 0.0 { '#' } else { '.' }).collect();
            assert_eq!(&drawn, row, "row {i} with {pad} tokens of padding");
        }
    }
}

/// A chunk of no keys, a temperature out of range, and queries of several axes are refused.
#[test]
fn chunks_and_temperatures_are_checked() {
    let params: Params<f32> = plan().init(0).unwrap();
    let at = Positions::absent(1);
    let call = plan().call(&params, &at, &at).unwrap();
    let (q, k) = (vec![1.0f32; HEADS * DIM], vec![1.0f32; KV_HEADS * DIM]);
    let k = View::new(&k, [1, KV_HEADS, 1, DIM]).unwrap();
    let inputs = Inputs::new(View::new(&q, [1, HEADS, 1, DIM]).unwrap(), k, k);
    let of = |chunk, temperature| Attention {
        chunk,
        temperature,
        ..Attention::default()
    };
    let refused = refusal(&of(Some(0), None), &call, inputs, &Mask::none());
    assert_eq!(refused, posenc::Error::Zero { what: "chunk" });
    let refused = refusal(&of(None, Some(Temperature::llama4(0.1, 0.0))), &call, inputs, &Mask::none());
    assert!(matches!(refused, posenc::Error::Invalid { .. }));

    let none = Encoding::none().plan(plan().dims()).unwrap();
    let (params, grid) = (none.init::<f32>(0).unwrap(), Positions::whole_axes(&[0, 0], 2, 1).unwrap());
    let call = none.call(&params, &grid, &grid).unwrap();
    let refused = refusal(&of(None, Some(Temperature::llama4(0.1, 8.0))), &call, inputs, &Mask::none());
    assert!(matches!(refused, posenc::Error::Unsupported { .. }));
}

/// Sinks must be given where attention has them, and only there.
#[test]
fn sinks_are_asked_for_and_refused() {
    let params: Params<f32> = plan().init(0).unwrap();
    let at = Positions::absent(1);
    let call = plan().call(&params, &at, &at).unwrap();
    let (q, k) = (vec![1.0f32; HEADS * DIM], vec![1.0f32; KV_HEADS * DIM]);
    let k = View::new(&k, [1, KV_HEADS, 1, DIM]).unwrap();
    let inputs = Inputs::new(View::new(&q, [1, HEADS, 1, DIM]).unwrap(), k, k);
    let sinks = [0.0; HEADS];
    for (has, inputs) in [
        (true, inputs),
        (true, inputs.with_sinks(&sinks[1..])),
        (false, inputs.with_sinks(&sinks)),
    ] {
        let attention = Attention {
            sinks: has,
            ..Attention::default()
        };
        let refused = refusal(&attention, &call, inputs, &Mask::none());
        assert!(matches!(refused, posenc::Error::Shape { .. }));
    }
}
