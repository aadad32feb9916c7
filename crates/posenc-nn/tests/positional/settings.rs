//! Grouped heads, windows, sinks, the soft cap and the norm of queries and keys: each against the same written out by hand.

use crate::gradients::check_gradients;
use crate::{BATCH, WIDTH, gradients, random, rounding, with_params};
use posenc::{Alibi, Attention, Dims, Encoding, LayerSpec, Mode, Pairing, Params, Positions, Rotary, Shaw, T5Bias, Temperature, Window};
use posenc_nn::{AttentionTrace, AttnMask, PositionalArgs, PositionalMultiheadAttention, Streams};

const LEN: usize = 6;
const HEADS: usize = 2;
const DIM: usize = WIDTH / HEADS;

fn module(encoding: impl Into<Encoding>, attention: Attention) -> PositionalMultiheadAttention {
    let layer = LayerSpec {
        encoding: encoding.into(),
        attention,
    };
    PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS).expect("widths")).expect("a layer")
}

fn args<'a>() -> PositionalArgs<'a, f64> {
    PositionalArgs {
        need_weights: true,
        average_attn_weights: false,
        ..Default::default()
    }
}

/// Output and weights per head.
fn run(module: &PositionalMultiheadAttention, params: &Params<f64>, x: &[f64], args: &PositionalArgs<'_, f64>) -> [Vec<f64>; 2] {
    let mode = Mode::Evaluate;
    let output = module
        .forward(params, Streams::Same(x), BATCH, args, mode, &mut AttentionTrace::default())
        .expect("a forward pass");
    [output.out, output.weights.expect("asked for")]
}

/// What happens between the projections of one stream, as plain code.
struct ByHand<'a> {
    /// What becomes of a head's projected query or key, and of which token it is.
    prepare: &'a dyn Fn(Role, &mut [f64], usize),
    /// From q·k/√d to what is exponentiated: head, query, key.
    score: &'a dyn Fn(usize, usize, usize, f64) -> f64,
    sinks: Option<&'a [f64]>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Query,
    Key,
}

impl ByHand<'_> {
    /// Output and weights of self-attention over `x` `[BATCH, LEN, WIDTH]`.
    fn run(&self, params: &Params<f64>, x: &[f64]) -> [Vec<f64>; 2] {
        let get = |name: &str| params.get(name).expect("a parameter");
        let (w, b) = (get("attn.in_proj_weight"), get("attn.in_proj_bias"));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let project = |row: usize, token: &[f64]| dot(&w[row * WIDTH..][..WIDTH], token) + b[row];
        // A head's part of the queries (0), keys (1) or values (2) of a token.
        let part =
            |which: usize, h: usize, token: &[f64]| -> Vec<f64> { (0..DIM).map(|c| project(which * WIDTH + h * DIM + c, token)).collect() };
        let (mut context, mut weights) = (vec![0.0; x.len()], Vec::new());
        for (row, x) in x.chunks(LEN * WIDTH).enumerate() {
            let tokens: Vec<&[f64]> = x.chunks(WIDTH).collect();
            for h in 0..HEADS {
                let side = |which: usize, role: Role| -> Vec<Vec<f64>> {
                    let prepared = tokens.iter().enumerate().map(|(t, x)| {
                        let mut head = part(which, h, x);
                        (self.prepare)(role, &mut head, t);
                        head
                    });
                    prepared.collect()
                };
                let (q, k) = (side(0, Role::Query), side(1, Role::Key));
                for i in 0..LEN {
                    let scale = 1.0 / (DIM as f64).sqrt();
                    let powers: Vec<f64> = (0..LEN).map(|j| (self.score)(h, i, j, dot(&q[i], &k[j]) * scale).exp()).collect();
                    let sink = self.sinks.map_or(0.0, |sinks| sinks[h].exp());
                    let sum = powers.iter().sum::<f64>() + sink;
                    for (power, token) in powers.iter().zip(&tokens) {
                        weights.push(power / sum);
                        for (c, v) in part(2, h, token).into_iter().enumerate() {
                            context[(row * LEN + i) * WIDTH + h * DIM + c] += power / sum * v;
                        }
                    }
                }
            }
        }
        let (w, b) = (get("attn.out_proj.weight"), get("attn.out_proj.bias"));
        let out = context
            .chunks(WIDTH)
            .flat_map(|token| (0..WIDTH).map(|c| dot(&w[c * WIDTH..][..WIDTH], token) + b[c]).collect::<Vec<_>>());
        [out.collect(), weights]
    }
}

fn as_it_is(_: Role, _: &mut [f64], _: usize) {}

fn far(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Two right f64 computations lie this far apart at most.
fn bound(module: &PositionalMultiheadAttention, params: &Params<f64>, x: &[f64]) -> f64 {
    2.0 * rounding::bound(module, params, [x; 3], LEN, 0.5 * f64::EPSILON)
}

fn check(module: &PositionalMultiheadAttention, params: &Params<f64>, by_hand: &ByHand<'_>) {
    let x: Vec<f64> = random(BATCH * LEN * WIDTH, 1);
    let ([out, weights], [expected, expected_weights]) = (run(module, params, &x, &args()), by_hand.run(params, &x));
    let bound = bound(module, params, &x);
    assert!(bound < 1e-10, "{module}: {bound:e} bounds nothing");
    let (of_out, of_weights) = (far(&out, &expected), far(&weights, &expected_weights));
    assert!(
        of_out <= bound && of_weights <= bound,
        "{module}: {of_out:e} and {of_weights:e}, {bound:e} is allowed"
    );
}

/// Fewer key heads are the same as each of them repeated for its queries, and its gradient is the sum over those.
#[test]
fn grouped_heads_are_heads_repeated() {
    let (heads, kv_heads, dim) = (4, 2, 2);
    let encodings: [Encoding; 5] = [
        Encoding::none(),
        Rotary::new(Pairing::Halves).into(),
        Shaw::new(2).into(),
        Alibi::symmetric().into(),
        T5Bias::encoder().into(),
    ];
    for encoding in encodings {
        let layer = LayerSpec {
            encoding,
            attention: Attention::default(),
        };
        let full = PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, heads).unwrap()).unwrap();
        let dims = Dims::new(WIDTH, heads).unwrap().with_kv_heads(kv_heads).unwrap();
        let grouped = PositionalMultiheadAttention::of_layer(&layer, dims).unwrap();
        let params = with_params::<f64>(&grouped);
        // The row of the grouped projection that a row of the full one is: queries', then each key (value) head for its group.
        let row = |r: usize| match r / WIDTH {
            0 => r,
            kv => {
                let (head, c) = (r % WIDTH / dim, r % dim);
                WIDTH + (kv - 1) * kv_heads * dim + head / (heads / kv_heads) * dim + c
            }
        };
        let mut repeated: Params<f64> = Params::zeros(&full.specs()).unwrap();
        for spec in full.specs() {
            let from = params.get(&spec.name).unwrap();
            let to = repeated.get_mut(&spec.name).unwrap();
            let per_row = if spec.name == "attn.in_proj_weight" { WIDTH } else { 1 };
            if spec.name.starts_with("attn.in_proj") {
                for (r, to) in to.chunks_mut(per_row).enumerate() {
                    to.copy_from_slice(&from[row(r) * per_row..][..per_row]);
                }
            } else {
                to.copy_from_slice(from);
            }
        }
        let [q, k, v] = [1, 2, 3].map(|seed| random::<f64>(BATCH * LEN * WIDTH, seed));
        let d_out: Vec<f64> = random(q.len(), 4);
        let args = PositionalArgs {
            causal: Some(0),
            ..Default::default()
        };
        let (out, d, grads) = gradients(&grouped, &params, [&q, &k, &v], &args, &d_out);
        let (expected, expected_d, expected_grads) = gradients(&full, &repeated, [&q, &k, &v], &args, &d_out);
        // Gradients are sums over BATCH · LEN tokens and WIDTH numbers of the same terms, times numbers of order 10: 10³ roundings.
        let bound = 1e3 * f64::EPSILON;
        assert!(far(&out, &expected) < bound, "{grouped}");
        for (d, expected) in d.iter().zip(&expected_d) {
            assert!(far(d, expected) < bound, "{grouped}: streams");
        }
        for spec in grouped.specs() {
            let (ours, theirs) = (grads.get(&spec.name).unwrap(), expected_grads.get(&spec.name).unwrap());
            let mut summed = vec![0.0; ours.len()];
            let per_row = if spec.name == "attn.in_proj_weight" { WIDTH } else { 1 };
            for (i, g) in theirs.iter().enumerate() {
                let to = if spec.name.starts_with("attn.in_proj") {
                    row(i / per_row) * per_row + i % per_row
                } else {
                    i
                };
                summed[to] += g;
            }
            assert!(far(ours, &summed) < bound, "{grouped}: {}", spec.name);
        }
    }
}

/// A window is the mask of its pairs, also where it leaves out whole tiles of keys, and in both directions.
#[test]
fn a_sliding_window_is_the_mask_of_its_pairs() {
    let len = 300;
    let x: Vec<f64> = random(BATCH * len * WIDTH, 1);
    for (left, right, causal) in [
        (Some(3), Some(0), None),
        (Some(140), None, Some(0)),
        (None, Some(5), None),
        (Some(0), Some(0), None),
    ] {
        let window = Window { left, right };
        let windowed = module(
            Alibi::symmetric(),
            Attention {
                window: Some(window),
                ..Attention::default()
            },
        );
        let plain = module(Alibi::symmetric(), Attention::default());
        let params = with_params::<f64>(&plain);
        let blocked: Vec<bool> = (0..len * len)
            .map(|pair| {
                let (i, j) = (pair / len, pair % len);
                left.is_some_and(|left| j + left < i) || right.is_some_and(|right| j > i + right)
            })
            .collect();
        let args = PositionalArgs { causal, ..args() };
        let masked = PositionalArgs {
            attn_mask: Some(AttnMask::Blocked(&blocked, &[len, len])),
            ..args.clone()
        };
        let ([out, weights], [expected, expected_weights]) = (run(&windowed, &params, &x, &args), run(&plain, &params, &x, &masked));
        let bound = 2.0 * rounding::bound(&plain, &params, [&x; 3], len, 0.5 * f64::EPSILON);
        assert!(
            far(&out, &expected) <= bound && far(&weights, &expected_weights) <= bound,
            "{window:?}"
        );
        let (_, d, grads) = gradients(&windowed, &params, [&x; 3], &args, &x);
        let (_, expected_d, expected_grads) = gradients(&plain, &params, [&x; 3], &masked, &x);
        // A weight's gradient is a sum over 600 tokens of numbers up to 10².
        let bound = 600.0 * 100.0 * f64::EPSILON;
        assert!(far(grads.flat(), expected_grads.flat()) < bound, "{window:?}");
        assert!(d.iter().zip(&expected_d).all(|(d, e)| far(d, e) < bound), "{window:?}");
    }
    assert!(Window::last(0).is_err());
}

/// A sink is one more score per head in the softmax, without a value: what it takes, the keys lack.
#[test]
fn sinks_take_their_share_of_the_weights() {
    let sunk = module(
        Alibi::new(),
        Attention {
            sinks: true,
            ..Attention::default()
        },
    );
    assert!(sunk.specs().iter().any(|spec| spec.name == "attn.sinks" && spec.shape == [HEADS]));
    let mut params = with_params::<f64>(&sunk);
    let slopes = posenc::alibi_slopes(HEADS).unwrap();
    for sinks in [[0.0, 1.5], [-2.0, 8.0], [700.0, -700.0]] {
        params.set("attn.sinks", &[HEADS], &sinks).unwrap();
        check(
            &sunk,
            &params,
            &ByHand {
                prepare: &as_it_is,
                score: &|h, i, j, s| s + slopes[h] * (j as f64 - i as f64),
                sinks: Some(&sinks),
            },
        );
    }
    params.set("attn.sinks", &[HEADS], &[0.5, 1.5]).unwrap();
    let x: Vec<f64> = random(BATCH * LEN * WIDTH, 1);
    let [_, weights] = run(&sunk, &params, &x, &args());
    assert!(weights.chunks(LEN).all(|row| row.iter().sum::<f64>() < 0.99));
    let (_, _, grads) = gradients(&sunk, &params, [&x; 3], &args(), &x);
    assert!(grads.get("attn.sinks").unwrap().iter().all(|g| g.abs() > 1e-3), "sinks learn");
    // A sink that nobody looks at is no sink.
    params.set("attn.sinks", &[HEADS], &[-1e4; 2]).unwrap();
    let plain = module(Alibi::new(), Attention::default());
    let [out, _] = run(&sunk, &params, &x, &args());
    let plain_params = params.part(&plain.specs()).unwrap();
    assert_eq!(out, run(&plain, &plain_params, &x, &args())[0]);
}

/// c·tanh(s/c) comes before the biases, as in Gemma 2, and is no clipping.
#[test]
fn the_soft_cap_comes_before_the_bias() {
    let slopes = posenc::alibi_slopes(HEADS).unwrap();
    for cap in [0.3, 2.0, 50.0] {
        let capped = module(
            Alibi::symmetric(),
            Attention {
                softcap: Some(cap),
                ..Attention::default()
            },
        );
        let params = with_params::<f64>(&capped);
        let bias = |h: usize, i: usize, j: usize| -slopes[h] * i.abs_diff(j) as f64;
        check(
            &capped,
            &params,
            &ByHand {
                prepare: &as_it_is,
                score: &|h, i, j, s| cap * (s / cap).tanh() + bias(h, i, j),
                sinks: None,
            },
        );
        let x: Vec<f64> = random(BATCH * LEN * WIDTH, 1);
        let after = ByHand {
            prepare: &as_it_is,
            score: &|h, i, j, s| cap * ((s + bias(h, i, j)) / cap).tanh(),
            sinks: None,
        };
        assert!(
            far(&run(&capped, &params, &x, &args())[0], &after.run(&params, &x)[0]) > 1e-6,
            "the order matters"
        );
    }
}

/// Queries and keys are normed per head, multiplied by a gain per coordinate, and then turned: a gain that differs within a pair does not commute with that.
#[test]
fn queries_and_keys_are_normed_before_they_are_turned() {
    let eps = 1e-3;
    let normed = module(Rotary::new(Pairing::Halves).with_base(50.0), Attention::default()).with_qk_norm(eps);
    let mut params = with_params::<f64>(&normed);
    let gains = [[1.5, -0.5, 0.25, 2.0], [0.75, 1.25, 2.5, 0.5]];
    params.set("attn.q_norm.weight", &[DIM], &gains[0]).unwrap();
    params.set("attn.k_norm.weight", &[DIM], &gains[1]).unwrap();
    let norm = |role: Role, head: &mut [f64]| {
        let squares = head.iter().map(|x| x * x).sum::<f64>() / DIM as f64;
        let gain = gains[usize::from(role == Role::Key)];
        head.iter_mut().zip(gain).for_each(|(x, gain)| *x *= gain / (squares + eps).sqrt());
    };
    let turn = |head: &mut [f64], position: usize| {
        for c in 0..2 {
            let angle = position as f64 * 50f64.powf(-(c as f64) / 2.0);
            let (x, y) = (head[c], head[c + 2]);
            head[c] = x * angle.cos() - y * angle.sin();
            head[c + 2] = x * angle.sin() + y * angle.cos();
        }
    };
    let score = |_: usize, _: usize, _: usize, s: f64| s;
    let by_hand = ByHand {
        prepare: &|role, head, t| {
            norm(role, head);
            turn(head, t);
        },
        score: &score,
        sinks: None,
    };
    check(&normed, &params, &by_hand);
    let turned_first = ByHand {
        prepare: &|role, head, t| {
            turn(head, t);
            norm(role, head);
        },
        score: &score,
        sinks: None,
    };
    let x: Vec<f64> = random(BATCH * LEN * WIDTH, 1);
    let [out, _] = run(&normed, &params, &x, &args());
    assert!(far(&out, &turned_first.run(&params, &x)[0]) > 1e-3, "the order matters");
    // Decoding norms what it keeps.
    let (mut cache, mut trace) = (normed.cache(BATCH).unwrap(), AttentionTrace::default());
    let whole = PositionalArgs { causal: Some(0), ..args() };
    let [whole, _] = run(&normed, &params, &x, &whole);
    for t in 0..LEN {
        let of = |x: &[f64]| -> Vec<f64> { x.chunks(LEN * WIDTH).flat_map(|row| row[t * WIDTH..][..WIDTH].to_vec()).collect() };
        let step = normed
            .decode(&params, &of(&x), &mut cache, &Default::default(), Mode::Evaluate, &mut trace)
            .unwrap();
        assert!(far(&step.out, &of(&whole)) <= bound(&normed, &params, &x));
    }
}

/// Finite differences reach the norms' gains and the sinks with everything on at once, and positions of their own.
#[test]
fn everything_at_once_has_its_adjoint() {
    let attention = Attention {
        scale: Some(0.4),
        softcap: Some(3.0),
        window: Some(Window {
            left: Some(3),
            right: Some(2),
        }),
        chunk: Some(4),
        temperature: Some(Temperature::llama4(0.5, 2.0)),
        sinks: true,
        dropout: 0.0,
    };
    let module = module(Encoding::from(Rotary::new(Pairing::Interleaved)).with(Shaw::new(2)), attention).with_qk_norm(1e-6);
    let args = PositionalArgs {
        q_positions: Some(Positions::whole(&[4, 0, 2])),
        ..Default::default()
    };
    check_gradients(&module, &args);
    check_gradients(&module.without_bias(), &args);
}

/// T5's scores are not scaled, its projections have no biases, and a head adds the number of the bucket that key − query falls into.
#[test]
fn t5_is_what_its_paper_says() {
    let t5 = PositionalMultiheadAttention::t5(WIDTH, HEADS, T5Bias::decoder().with_buckets(4, 6)).unwrap();
    let params = with_params::<f64>(&t5);
    let get = |name: &str| params.get(name).unwrap();
    // The same weights where the code by hand looks for them.
    let mut fused: Params<f64> = Params::zeros(&module(Encoding::none(), Attention::default()).specs()).unwrap();
    let in_proj = ["q.weight", "k.weight", "v.weight"].map(get).concat();
    fused.set("attn.in_proj_weight", &[3 * WIDTH, WIDTH], &in_proj).unwrap();
    fused.set("attn.out_proj.weight", &[WIDTH, WIDTH], get("o.weight")).unwrap();
    let table = get("relative_attention_bias.weight");
    // Four buckets up to 6: distances 0 and 1 of their own, 2 and 3 share one (2 + ⌊log(d/2) / log(6/2) · 2⌋), as do all others; what comes after is 0.
    let bucket = |i: usize, j: usize| [0, 1, 2, 2, 3, 3][i.saturating_sub(j)];
    let by_hand = ByHand {
        prepare: &as_it_is,
        score: &|h, i, j, s| s * (DIM as f64).sqrt() + table[bucket(i, j) * HEADS + h],
        sinks: None,
    };
    let x: Vec<f64> = random(BATCH * LEN * WIDTH, 1);
    let ([out, weights], [expected, expected_weights]) = (run(&t5, &params, &x, &args()), by_hand.run(&fused, &x));
    // The bias is a number of order 1, which the bound of the unscaled module leaves room for.
    let plain = module(Encoding::none(), Attention::unscaled());
    let bound = bound(&plain, &fused, &x);
    let (of_out, of_weights) = (far(&out, &expected), far(&weights, &expected_weights));
    assert!(
        of_out <= bound && of_weights <= bound,
        "{of_out:e} and {of_weights:e}, {bound:e} is allowed"
    );
}

/// The paper's ALiBi: m·(j − i), which a causal mask goes with.
#[test]
fn alibi_is_what_its_paper_says() {
    let alibi = PositionalMultiheadAttention::alibi(WIDTH, HEADS).unwrap();
    let slopes = [1.0 / 16.0, 1.0 / 256.0];
    let by_hand = ByHand {
        prepare: &as_it_is,
        score: &|h, i, j, s| s + slopes[h] * (j as f64 - i as f64),
        sinks: None,
    };
    check(&alibi, &with_params(&alibi), &by_hand);
}
