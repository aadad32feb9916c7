//! Every encoding under every mask and setting: adjoints, empty rows, finite numbers, f32 beside f64; what is not supported is a typed error. The outcome
//! is the table of `docs/attention.md`.
//!
//! A new encoding is a line in [`encodings`], a new mask or setting one in [`groups`].

use crate::{BATCH, HEADS, WIDTH, gradients, random, rounding, with_params};
use posenc::{
    AddTo, Alibi, Attention, ClippedBias, Dims, Direction, Encoding, InputTable, LayerSpec, Learned, Mode, Overflow, Pairing, Params,
    Positions, Rotary, SharedBias, Shaw, Sinusoidal, T5Bias, Window,
};
use posenc_nn::check::{finite_differences, tolerance};
use posenc_nn::{AttentionTrace, AttnMask, Error, Number, PositionalArgs, PositionalMultiheadAttention, Streams};

const Q_LEN: usize = 4;
const K_LEN: usize = 6;
/// Rows of every table: larger than any position here.
const ROWS: usize = 24;

/// What acts inside attention, and what is refused there. Distances go past every clip, buckets past every limit.
pub fn encodings() -> Vec<(&'static str, Encoding)> {
    vec![
        ("none", Encoding::none()),
        ("input table", InputTable::new(ROWS).into()),
        ("input table, projected", InputTable::new(ROWS).projected().into()),
        (
            "input table, stretched",
            InputTable::new(5).with_overflow(Overflow::Interpolate).into(),
        ),
        (
            "input table, stretched to a length",
            InputTable::new(5).with_overflow(Overflow::InterpolateTo(ROWS)).into(),
        ),
        ("sinusoidal, inputs", Sinusoidal::paper().added_to(AddTo::AttentionInputs).into()),
        ("sinusoidal, projected", Sinusoidal::paper().added_to(AddTo::Projected).into()),
        ("rotary, interleaved", Rotary::new(Pairing::Interleaved).into()),
        ("rotary, halves", Rotary::new(Pairing::Halves).into()),
        ("rotary, partial", Rotary::new(Pairing::Halves).with_rotary_dim(2).into()),
        ("Shaw", Shaw::new(3).into()),
        ("Shaw, keys only", Shaw::keys_only(3).into()),
        ("ALiBi, causal", Alibi::new().into()),
        ("ALiBi, symmetric", Alibi::symmetric().into()),
        ("clipped", ClippedBias::new(3, Direction::KeyMinusQuery).into()),
        ("shared", SharedBias::new(3).into()),
        ("T5, encoder", T5Bias::encoder().with_buckets(8, 12).into()),
        ("T5, decoder", T5Bias::decoder().with_buckets(8, 12).into()),
        (
            "rotary and T5",
            Encoding::from(Rotary::new(Pairing::Halves)).with(T5Bias::encoder().with_buckets(8, 12)),
        ),
        (
            "input table, Shaw and ALiBi",
            Encoding::from(InputTable::new(ROWS)).with(Shaw::new(3)).with(Alibi::symmetric()),
        ),
        ("learned, at embeddings", Learned::new(ROWS).into()),
        ("sinusoidal, at embeddings", Sinusoidal::paper().into()),
    ]
}

/// One way to call attention.
#[derive(Clone)]
struct Case<R> {
    name: &'static str,
    attention: Attention,
    kv_heads: usize,
    at: [Option<Positions>; 2],
    placed: [Option<Vec<bool>>; 2],
    attn_mask: Option<Pairs<R>>,
    padding: Option<Pairs<R>>,
    causal: Option<usize>,
}

/// A mask that owns its numbers.
#[derive(Clone)]
enum Pairs<R> {
    Blocked(Vec<bool>, Vec<usize>),
    Added(Vec<R>, Vec<usize>),
}

impl<R: Number> Pairs<R> {
    fn blocked(shape: &[usize], blocks: impl Fn(usize) -> bool) -> Option<Pairs<R>> {
        Some(Pairs::Blocked((0..shape.iter().product()).map(blocks).collect(), shape.to_vec()))
    }

    /// Numbers of order 1, and some −∞; the same in every precision.
    fn added(shape: &[usize], blocks: impl Fn(usize) -> bool) -> Option<Pairs<R>> {
        let numbers: Vec<f32> = random(shape.iter().product(), 77);
        let number = |(i, x): (usize, &f32)| if blocks(i) { R::NEG_INFINITY } else { R::of(f64::from(*x)) };
        Some(Pairs::Added(numbers.iter().enumerate().map(number).collect(), shape.to_vec()))
    }

    fn given(&self) -> AttnMask<'_, R> {
        match self {
            Pairs::Blocked(mask, shape) => AttnMask::Blocked(mask, shape),
            Pairs::Added(mask, shape) => AttnMask::Additive(mask, shape),
        }
    }

    /// Whether it blocks a pair, read from its definition.
    fn blocks(&self, [b, h, i, j]: [usize; 4], padding: bool) -> bool {
        let (Pairs::Blocked(_, shape) | Pairs::Added(_, shape)) = self;
        let at = match shape[..] {
            _ if padding => b * K_LEN + j,
            [_, _] => i * K_LEN + j,
            [_, _, _] => ((b * HEADS + h) * Q_LEN + i) * K_LEN + j,
            [rows, heads, ..] => (((b % rows) * heads + h % heads) * Q_LEN + i) * K_LEN + j,
            _ => unreachable!("masks here have 2 to 4 axes"),
        };
        match self {
            Pairs::Blocked(mask, _) => mask[at],
            Pairs::Added(mask, _) => mask[at] == R::NEG_INFINITY,
        }
    }
}

impl<R: Number> Case<R> {
    fn new(name: &'static str) -> Case<R> {
        Case {
            name,
            attention: Attention::default(),
            kv_heads: HEADS,
            at: [None, None],
            placed: [None, None],
            attn_mask: None,
            padding: None,
            causal: None,
        }
    }

    fn args(&self) -> PositionalArgs<'_, R> {
        let ([q_at, k_at], [q_placed, k_placed]) = (&self.at, &self.placed);
        PositionalArgs {
            q_positions: q_at.clone(),
            k_positions: k_at.clone(),
            q_position_mask: q_placed.as_deref(),
            k_position_mask: k_placed.as_deref(),
            attn_mask: self.attn_mask.as_ref().map(Pairs::given),
            key_padding_mask: self.padding.as_ref().map(Pairs::given),
            need_weights: true,
            average_attn_weights: false,
            causal: self.causal,
        }
    }

    fn module(&self, encoding: &Encoding) -> posenc_nn::Result<PositionalMultiheadAttention> {
        let layer = LayerSpec {
            encoding: encoding.clone(),
            attention: self.attention.clone(),
        };
        PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS)?.with_kv_heads(self.kv_heads)?)
    }

    /// Whether a pair may attend.
    fn sees(&self, pair @ [_, _, i, j]: [usize; 4]) -> bool {
        let order = i + self.causal.unwrap_or(0);
        let Window { left, right } = self.attention.window.unwrap_or_default();
        let masks = [(&self.attn_mask, false), (&self.padding, true)];
        !(self.causal.is_some() && j > order
            || left.is_some_and(|left| j + left < order)
            || right.is_some_and(|right| j > order + right)
            || masks
                .into_iter()
                .any(|(mask, padding)| mask.as_ref().is_some_and(|mask| mask.blocks(pair, padding))))
    }
}

/// Every mask and setting, in the groups that are the columns of the table.
fn groups<R: Number>() -> Vec<(&'static str, Vec<Case<R>>)> {
    let new = Case::<R>::new;
    let (two, three, four) = ([Q_LEN, K_LEN], [BATCH * HEADS, Q_LEN, K_LEN], [BATCH, HEADS, Q_LEN, K_LEN]);
    let padding = [BATCH, K_LEN];
    // No row of these is empty but where it says so.
    let some = |i: usize| i % 3 == 1;
    let tail = |i: usize| i % K_LEN > 3 + i / K_LEN;
    let with_window = |window: Window| Attention {
        window: Some(window),
        ..Attention::default()
    };
    let narrow = Window {
        left: Some(1),
        right: Some(1),
    };
    let ids = [
        Some(Positions::whole_rows(&[4, 0, 4, 23, 2, 3, 9, 9], BATCH).expect("two rows")),
        Some(Positions::whole(&[0, 1, 1, 17, 4, 5])),
    ];
    let placed = [
        Some(vec![true, false, true, true, true, true, false, false]),
        Some(vec![true, true, false, true, true, false]),
    ];
    vec![
        (
            "masks",
            vec![
                new("none"),
                Case {
                    causal: Some(0),
                    ..new("causal")
                },
                Case {
                    causal: Some(2),
                    ..new("causal, after 2 keys")
                },
                Case {
                    attn_mask: Pairs::blocked(&two, some),
                    ..new("boolean [q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&three, some),
                    ..new("boolean [batch·heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&four, some),
                    ..new("boolean [batch, heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&[BATCH, 1, Q_LEN, K_LEN], some),
                    ..new("boolean [batch, 1, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&two, some),
                    ..new("additive [q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&three, some),
                    ..new("additive [batch·heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&four, some),
                    ..new("additive [batch, heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&[1, HEADS, Q_LEN, K_LEN], |_| false),
                    ..new("additive [1, heads, q_len, k_len], nothing blocked")
                },
                Case {
                    padding: Pairs::blocked(&padding, tail),
                    ..new("boolean key padding")
                },
                Case {
                    padding: Pairs::added(&padding, tail),
                    ..new("additive key padding")
                },
                Case {
                    causal: Some(2),
                    attn_mask: Pairs::blocked(&three, some),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("causal, boolean and key padding")
                },
                Case {
                    causal: Some(0),
                    attn_mask: Pairs::added(&two, |_| false),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("causal, additive and key padding")
                },
                Case {
                    attn_mask: Pairs::blocked(&two, |i| i / K_LEN == 2),
                    ..new("a query that may attend to nothing")
                },
                Case {
                    padding: Pairs::added(&padding, |i| i >= K_LEN),
                    ..new("a batch row that is all padding")
                },
            ],
        ),
        (
            "positions",
            vec![
                Case {
                    at: ids.clone(),
                    ..new("positions of queries and keys")
                },
                Case {
                    placed: placed.clone(),
                    ..new("position masks")
                },
                Case {
                    at: ids.clone(),
                    placed,
                    causal: Some(2),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("both, causal and key padding")
                },
                Case {
                    placed: [Some(vec![false; Q_LEN]), Some(vec![false; K_LEN])],
                    ..new("no position at all")
                },
            ],
        ),
        (
            "window, sinks, cap",
            vec![
                Case {
                    attention: with_window(narrow),
                    ..new("window")
                },
                Case {
                    attention: with_window(Window {
                        left: Some(2),
                        right: None,
                    }),
                    causal: Some(2),
                    ..new("window, causal")
                },
                Case {
                    attention: Attention {
                        sinks: true,
                        ..Attention::default()
                    },
                    ..new("sinks")
                },
                Case {
                    attention: Attention {
                        sinks: true,
                        ..Attention::default()
                    },
                    attn_mask: Pairs::blocked(&two, |i| i / K_LEN == 2),
                    ..new("sinks, and a query that may attend to no key")
                },
                Case {
                    attention: Attention {
                        softcap: Some(1.5),
                        ..Attention::default()
                    },
                    ..new("soft cap")
                },
                Case {
                    attention: Attention {
                        scale: Some(0.7),
                        softcap: Some(1.5),
                        window: Some(narrow),
                        sinks: true,
                        dropout: 0.0,
                    },
                    at: ids,
                    causal: Some(1),
                    ..new("all of them, another scale, positions")
                },
            ],
        ),
        (
            "grouped heads",
            vec![
                Case {
                    kv_heads: 1,
                    ..new("one key head")
                },
                Case {
                    kv_heads: 1,
                    causal: Some(2),
                    attn_mask: Pairs::blocked(&three, some),
                    ..new("one key head, causal, a mask per head")
                },
            ],
        ),
        (
            "fractions",
            vec![Case {
                at: [
                    Some(Positions::real(&[0.5, -1.25, 7.0, 3.5]).expect("finite")),
                    Some(Positions::real(&[0.0, 0.25, 1.0, -2.5, 3.0, 19.5]).expect("finite")),
                ],
                ..new("fractional and negative positions")
            }],
        ),
        (
            "two axes",
            vec![Case {
                at: [Some(Positions::grid(2, 2)), Some(Positions::grid(2, 3))],
                ..new("positions on a grid")
            }],
        ),
    ]
}

/// The streams of a check, the same numbers in every precision.
fn streams<R: Number>() -> [Vec<R>; 3] {
    [(Q_LEN, 1), (K_LEN, 2), (K_LEN, 3)].map(|(len, seed)| same_in_every_precision(BATCH * len * WIDTH, seed))
}

fn same_in_every_precision<R: Number>(n: usize, seed: u64) -> Vec<R> {
    random::<f32>(n, seed).into_iter().map(|x| R::of(f64::from(x))).collect()
}

fn run<R: Number>(
    module: &PositionalMultiheadAttention,
    params: &Params<R>,
    [query, key, value]: [&[R]; 3],
    case: &Case<R>,
) -> posenc_nn::Result<posenc_nn::PositionalOutput<R>> {
    let streams = Streams::Apart { query, key, value };
    module.forward(params, streams, BATCH, &case.args(), Mode::Evaluate, &mut AttentionTrace::default())
}

/// Checks one encoding under one case, or says why it is refused.
fn check(encoding: &Encoding, case: &Case<f64>, in_f32: &Case<f32>) -> posenc_nn::Result<()> {
    let module = case.module(encoding)?;
    let what = format!("{module}, {}", case.name);
    // Numbers that f32 holds.
    let narrow: Params<f32> = with_params::<f64>(&module).cast();
    let params: Params<f64> = narrow.cast();
    let [query, key, value] = &streams::<f64>();
    let all = [&query[..], key, value];
    let output = run(&module, &params, all, case)?;
    let weights = output.weights.expect("weights were asked for");
    check_weights(&what, &params, case, &output.out, &weights);
    check_adjoint(&what, &module, &params, all, case);

    let [query, key, value] = &streams::<f32>();
    let single = run(&module, &narrow, [query, key, value], in_f32)?.out;
    let bound = rounding::bound(&module, &params, all, K_LEN, 0.5 * f64::from(f32::EPSILON));
    for (i, (double, single)) in output.out.iter().zip(single).enumerate() {
        let error = (double - f64::from(single)).abs();
        assert!(
            error <= bound,
            "{what}: out[{i}] is {double} in f64 and {single} in f32, {bound:e} is allowed"
        );
    }
    Ok(())
}

/// Weights are positive where a pair may attend and 0 where it may not; they sum to 1, with sinks to less. A query that attends to nothing gets zeros
/// before the output projection: its bias, to the bit.
fn check_weights(what: &str, params: &Params<f64>, case: &Case<f64>, out: &[f64], weights: &[f64]) {
    assert!(out.iter().chain(weights).all(|x| x.is_finite()), "{what}");
    let bias = params.get("attn.out_proj.bias").expect("modules have biases");
    for b in 0..BATCH {
        for i in 0..Q_LEN {
            let mut sees_any = false;
            for h in 0..HEADS {
                let row = &weights[((b * HEADS + h) * Q_LEN + i) * K_LEN..][..K_LEN];
                let sees: Vec<bool> = (0..K_LEN).map(|j| case.sees([b, h, i, j])).collect();
                for (j, weight) in row.iter().enumerate() {
                    assert_eq!(*weight > 0.0, sees[j], "{what}: weight {weight} of pair {:?}", [b, h, i, j]);
                }
                let (sum, any) = (row.iter().sum::<f64>(), sees.contains(&true));
                sees_any |= any;
                let whole = f64::from(u8::from(any));
                // A quotient per weight and K_LEN additions, of numbers that are at most 1; the divisor is a sum of K_LEN numbers.
                let rounding = 2.0 * K_LEN as f64 * f64::EPSILON;
                if case.attention.sinks && any {
                    assert!(sum < 1.0 - rounding && sum > 0.0, "{what}: {sum}");
                } else {
                    assert!((sum - whole).abs() <= rounding, "{what}: {sum}");
                }
            }
            let row = &out[(b * Q_LEN + i) * WIDTH..][..WIDTH];
            assert!(sees_any || row == bias, "{what}: query {i} attends to nothing, and gives {row:?}");
        }
    }
}

/// The adjoint against central differences, along random directions of length 1 in each stream and each parameter. The loss is a sum of 64 products of
/// numbers of order 1, and so are its derivatives: a tolerance of that size.
fn check_adjoint(what: &str, module: &PositionalMultiheadAttention, params: &Params<f64>, all: [&[f64]; 3], case: &Case<f64>) {
    let d_out: Vec<f64> = random(BATCH * Q_LEN * WIDTH, 4);
    let (_, d, grads) = gradients(module, params, all, &case.args(), &d_out);
    let loss = |params: &Params<f64>, all: [&[f64]; 3]| -> f64 {
        let out = run(module, params, all, case).expect("it ran before").out;
        out.iter().zip(&d_out).map(|(o, d)| o * d).sum()
    };
    let along = |at: &[f64], direction: &[f64], t: f64| -> Vec<f64> { at.iter().zip(direction).map(|(x, u)| x + t * u).collect() };
    let agree = |name: &str, gradient: &[f64], direction: &[f64], f: &mut dyn FnMut(f64) -> f64| {
        let adjoint: f64 = gradient.iter().zip(direction).map(|(g, u)| g * u).sum();
        let difference = finite_differences(&[0.0], 0..1, |t| f(t[0]))[0];
        let error = (adjoint - difference).abs();
        assert!(
            error < tolerance(64.0),
            "{what}, {name}: adjoint {adjoint}, differences {difference}"
        );
    };
    for side in 0..3 {
        let direction = unit(all[side].len(), 11 + side as u64);
        agree(["query", "key", "value"][side], &d[side], &direction, &mut |t| {
            let moved = along(all[side], &direction, t);
            let mut all = all;
            all[side] = &moved;
            loss(params, all)
        });
    }
    for (seed, spec) in (31..).zip(module.specs()) {
        let at = params.get(&spec.name).expect("its own parameter");
        let direction = unit(at.len(), seed);
        agree(&spec.name, grads.get(&spec.name).expect("its gradient"), &direction, &mut |t| {
            let mut moved = params.clone();
            let numbers = along(at, &direction, t);
            moved.get_mut(&spec.name).expect("its own parameter").copy_from_slice(&numbers);
            loss(&moved, all)
        });
    }
}

/// A direction of length 1.
fn unit(n: usize, seed: u64) -> Vec<f64> {
    let direction: Vec<f64> = random(n, seed);
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
    direction.into_iter().map(|x| x / length).collect()
}

/// The name of a typed error, as the table has it.
fn name(error: &Error) -> String {
    let written = match error {
        Error::Core(error) => format!("{error:?}"),
        other => format!("{other:?}"),
    };
    let name = written.split([' ', '(', '{']).next().unwrap_or_default();
    format!("`{name}`")
}

/// What the page says: a row per encoding, a column per group; then what each group holds.
fn page() -> String {
    let (double, single) = (groups::<f64>(), groups::<f32>());
    let titles: Vec<&str> = double.iter().map(|(title, _)| *title).collect();
    let mut page = format!(
        "| encoding | {} | decoding |\n|{}\n",
        titles.join(" | "),
        "---|".repeat(titles.len() + 2)
    );
    for (title, encoding) in encodings() {
        let mut cells = Vec::new();
        for ((group, double), (_, single)) in double.iter().zip(&single) {
            let mut outcomes: Vec<String> = double
                .iter()
                .zip(single)
                .map(|(double, single)| check(&encoding, double, single).map_or_else(|error| name(&error), |()| "yes".to_string()))
                .collect();
            outcomes.dedup();
            assert_eq!(outcomes.len(), 1, "{title}: the cases of `{group}` come out differently");
            cells.extend(outcomes);
        }
        let decoded = crate::decoding::check(&encoding);
        cells.push(decoded.map_or_else(|error| name(&error), |()| "yes".to_string()));
        page += &format!("| {title} | {} |\n", cells.join(" | "));
    }
    page += "\n";
    for (title, cases) in &double {
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        page += &format!("- *{title}*: {}\n", names.join("; "));
    }
    page
}

#[test]
fn every_encoding_under_every_mask_is_what_the_page_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/attention.md");
    let written = std::fs::read_to_string(path).expect("docs/attention.md");
    let table = page();
    assert!(
        written.contains(&table),
        "docs/attention.md must hold this, which is what the checks found:\n\n{table}"
    );
}
