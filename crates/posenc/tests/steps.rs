//! Calls that take over what the step before resolved: bit for bit what fresh calls are, for every method of the catalogue and streams that grow, are cut back, or begin anew.

use posenc::attention::{Inputs, Outputs, Workspace};
use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::rotate::{Axes, Scaling, XPos};
use posenc::{
    AddTo, Alibi, Attention, Call, ClippedBias, Dims, Direction, Encoding, InputTable, Learned, Mask, Mode, MusicTransformer, Overflow,
    Pairing, Params, Plan, Positions, Rng, Rotary, SharedBias, Side, Sinusoidal, Site, Steps, T5Bias, View, ViewMut,
};

const HEADS: usize = 2;
const HEAD_DIM: usize = 6;
const WIDTH: usize = HEADS * HEAD_DIM;
/// Tokens of a prompt, and those that follow it one by one.
const PROMPT: usize = 33;
const STEPS: usize = 200;

/// Every method of the catalogue, and what of each goes another way.
fn encodings() -> Vec<(String, Encoding)> {
    let options = PresetOptions::new(512);
    let named = catalogue()
        .iter()
        .map(|entry| (entry.name.to_string(), preset(entry.name, &options).unwrap()));
    let halves = || Rotary::new(Pairing::Halves);
    let more: Vec<(&str, Encoding)> = vec![
        ("learned, stretched", Learned::new(40).with_overflow(Overflow::Interpolate).into()),
        (
            "learned, stretched to",
            Learned::new(40).with_overflow(Overflow::InterpolateTo(300)).into(),
        ),
        ("learned, behind padding", Learned::roberta(400, 1).into()),
        ("learned, too short", Learned::new(100).into()),
        ("input table, wrapped", InputTable::new(50).with_overflow(Overflow::Wrap).into()),
        (
            "input table, stretched",
            InputTable::new(50).with_overflow(Overflow::Interpolate).into(),
        ),
        ("input table, projected", InputTable::new(400).projected().into()),
        ("sinusoidal, inputs", Sinusoidal::whisper().added_to(AddTo::AttentionInputs).into()),
        ("sinusoidal, projected", Sinusoidal::paper().added_to(AddTo::Projected).into()),
        (
            "dynamic",
            halves()
                .with_scaling(Scaling::Dynamic {
                    factor: 2.0,
                    original_len: 100,
                })
                .into(),
        ),
        ("xpos", halves().with_decay(XPos::new()).into()),
        ("interleaved", Rotary::new(Pairing::InterleavedToHalves).into()),
        (
            "axes",
            Rotary {
                axes: Axes::Chunked { sections: vec![1, 2] },
                ..halves()
            }
            .into(),
        ),
        (
            "across heads",
            Rotary {
                across_heads: true,
                ..Rotary::new(Pairing::Interleaved)
            }
            .into(),
        ),
        ("alibi, symmetric", Alibi::symmetric().into()),
        ("t5, both directions", T5Bias::encoder().into()),
        ("clipped, far", ClippedBias::new(1000, Direction::QueryMinusKey).into()),
        ("shared, near", SharedBias::new(3).into()),
        ("music, clamped", MusicTransformer::new(50).with_overflow(Overflow::Clamp).into()),
        (
            "rotary and more",
            Encoding::from(halves())
                .with(Alibi::new())
                .with(Learned::new(400))
                .with(InputTable::new(300)),
        ),
    ];
    named
        .chain(more.into_iter().map(|(name, encoding)| (name.to_string(), encoding)))
        .collect()
}

/// Positions of queries and keys, step by step.
type Stream = Vec<[Positions; 2]>;

fn streams() -> Vec<(&'static str, usize, Stream)> {
    let last = |k: &Positions| k.select(&[k.len() - 1]).unwrap();
    let of_keys = |keys: Vec<Positions>| -> Stream {
        let one = |(i, k): (usize, Positions)| if i == 0 { [k.clone(), k] } else { [last(&k), k] };
        keys.into_iter().enumerate().map(one).collect()
    };
    let lens = || PROMPT..PROMPT + STEPS;
    let ids = |f: fn(usize) -> i64, n: usize| Positions::whole(&(0..n).map(f).collect::<Vec<_>>());
    // Two rows of which one is shorter, as a cache has them.
    let mut ragged = vec![
        Positions::range(0..33)
            .followed_by(&Positions::range(0..1), &[33, 20], &[0, 0])
            .unwrap(),
    ];
    for step in 0..STEPS {
        let next = Positions::whole_rows(&[(33 + step) as i64, (20 + step) as i64], 2).unwrap();
        let kept = [33 + step, 20 + step];
        ragged.push(ragged[step].followed_by(&next, &kept, &[1, 1]).unwrap());
    }
    // Guessed tokens are taken back, and others follow; then a text that has nothing in common begins.
    let taken_back = (0..STEPS).map(|step| {
        let len = PROMPT + step - if step % 7 == 6 { 5 } else { 0 };
        match step {
            150.. => Positions::whole(&(0..len as i64).map(|t| t / 2 + 3).collect::<Vec<_>>()),
            _ => Positions::whole(
                &(0..len as i64)
                    .map(|t| if t > 60 && step % 14 > 6 { t + 1 } else { t })
                    .collect::<Vec<_>>(),
            ),
        }
    });
    vec![
        ("ranges", 1, of_keys(lens().map(|n| Positions::range(0..n as i64)).collect())),
        (
            "ranges, several at once",
            1,
            lens()
                .step_by(5)
                .map(|n| [Positions::range(n as i64 - 5..n as i64), Positions::range(0..n as i64)])
                .collect(),
        ),
        ("documents", 1, of_keys(lens().map(|n| ids(|t| t as i64 % 50, n)).collect())),
        ("gaps", 1, of_keys(lens().map(|n| ids(|t| (t + t / 10) as i64, n)).collect())),
        (
            "rows of two lengths",
            2,
            ragged.iter().map(|k| [k.select(&[k.len() - 1]).unwrap(), k.clone()]).collect(),
        ),
        (
            "rows that differ",
            2,
            of_keys(
                lens()
                    .map(|n| {
                        let rows: Vec<i64> = (0..2 * n as i64).map(|i| i % n as i64 + i / n as i64 * 7).collect();
                        Positions::whole_rows(&rows, 2).unwrap()
                    })
                    .collect(),
            ),
        ),
        (
            "halves",
            1,
            of_keys(
                lens()
                    .map(|n| Positions::real(&(0..n).map(|t| t as f64 / 2.0 - 3.0).collect::<Vec<_>>()).unwrap())
                    .collect(),
            ),
        ),
        (
            "two axes",
            1,
            of_keys(
                lens()
                    .map(|n| {
                        let ids: Vec<i64> = (0..2 * n).map(|i| (i % n / (1 + i / n * 6)) as i64).collect();
                        Positions::whole_axes(&ids, 2, 1).unwrap()
                    })
                    .collect(),
            ),
        ),
        ("taken back", 1, of_keys(taken_back.collect())),
    ]
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal() as f32).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Everything that a call does, as bits.
fn done(plan: &Plan, call: &Call<'_, f32>, batch: usize) -> Vec<u32> {
    let (q_len, k_len) = (call.q_at().len(), call.k_at().len());
    let mut all = Vec::new();
    for pair in call.rotations() {
        for (side, len) in [(Side::Query, q_len), (Side::Key, k_len)] {
            let rotation = pair.side(side);
            assert_eq!(rotation.len(), len);
            for (b, t) in (0..rotation.batch()).flat_map(|b| (0..len).map(move |t| (b, t))) {
                all.extend(bits(rotation.cos(b, t)));
                all.extend(bits(rotation.sin(b, t)));
            }
        }
    }
    for (site, len) in [(Site::Embedding, q_len), (Site::QueryInput, q_len), (Site::KeyInput, k_len)] {
        let mut x = numbers(1, batch * len * WIDTH);
        call.add(site, ViewMut::new(&mut x, [batch, len, WIDTH]).unwrap(), Mode::Evaluate)
            .unwrap();
        all.extend(bits(&x));
    }
    for (site, len) in [(Site::Query, q_len), (Site::Key, k_len)] {
        let mut x = numbers(2, batch * len * WIDTH);
        call.add_heads(site, ViewMut::new(&mut x, [batch, HEADS, len, HEAD_DIM]).unwrap())
            .unwrap();
        all.extend(bits(&x));
    }
    let mut tables = None;
    if !plan.projections().is_empty() {
        for projection in plan.projections() {
            let rows = call.rows(&projection.table).unwrap();
            (0..rows.shape()[0]).for_each(|r| all.extend(bits(rows.row([r, 0]))));
        }
        let mut made: Params<f32> = Params::zeros(&call.table_specs()).unwrap();
        let size = made.size();
        made.flat_mut().copy_from_slice(&numbers(3, size));
        tables = Some(made);
    }
    let tabled = tables.as_ref().map(|tables| call.with_tables(tables).unwrap());
    let call = tabled.as_ref().unwrap_or(call);
    let (q, kv) = (numbers(4, batch * q_len * WIDTH), numbers(5, batch * k_len * WIDTH));
    let (q_shape, k_shape) = ([batch, HEADS, q_len, HEAD_DIM], [batch, HEADS, k_len, HEAD_DIM]);
    let kv = View::new(&kv, k_shape).unwrap();
    let mut out = vec![f32::NAN; q.len()];
    let outputs = Outputs {
        out: ViewMut::new(&mut out, q_shape).unwrap(),
        saved: None,
        weights: None,
    };
    let inputs = Inputs::new(View::new(&q, q_shape).unwrap(), kv, kv);
    Attention::default()
        .forward(call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
        .unwrap();
    all.extend(bits(&out));
    let mut bias = vec![f32::NAN; batch * HEADS * q_len * k_len];
    call.materialise_bias(ViewMut::new(&mut bias, [batch, HEADS, q_len, k_len]).unwrap())
        .unwrap();
    all.extend(bits(&bias));
    all
}

#[test]
fn steps_are_bit_for_bit_fresh_calls_for_every_method_and_stream() {
    for (name, encoding) in encodings() {
        let plan = encoding.plan(Dims::new(WIDTH, HEADS).unwrap()).unwrap();
        let mut params: Params<f32> = plan.init(1).unwrap();
        let size = params.size();
        params.flat_mut().copy_from_slice(&numbers(6, size));
        for (stream, batch, at) in streams() {
            let mut steps = Steps::default();
            for (i, [q_at, k_at]) in at.iter().enumerate() {
                let (fresh, stepped) = (plan.call(&params, q_at, k_at), plan.step(&mut steps, &params, q_at, k_at));
                match (fresh, stepped) {
                    (Ok(fresh), Ok(stepped)) => {
                        // Comparing costs more than stepping: near the prompt, where memory has just grown, and at the end.
                        if i < 20 || i % 13 == 0 || i + 3 > at.len() {
                            assert!(
                                done(&plan, &fresh, batch) == done(&plan, &stepped, batch),
                                "{name}, {stream}, step {i}"
                            );
                        }
                    }
                    (fresh, stepped) => assert_eq!(fresh.err(), stepped.err(), "{name}, {stream}, step {i}"),
                }
            }
        }
    }
}

/// Calls that are kept, of the step itself or of other layers, go on saying what they said.
#[test]
fn a_step_leaves_the_calls_before_it_alone() {
    let plan = Encoding::from(Rotary::new(Pairing::Halves))
        .with(Alibi::new())
        .plan(Dims::new(WIDTH, HEADS).unwrap())
        .unwrap();
    let params: Params<f32> = plan.init(1).unwrap();
    let mut steps = Steps::default();
    let at = |n: i64| [Positions::range(n - 1..n), Positions::range(0..n)];
    let mut kept = Vec::new();
    for n in 10..30 {
        let [q_at, k_at] = at(n);
        let call = plan.step(&mut steps, &params, &q_at, &k_at).unwrap();
        let said = done(&plan, &call, 1);
        kept.push((call.for_layer(&params).unwrap(), said));
    }
    for (call, said) in kept {
        assert_eq!(done(&plan, &call, 1), said);
    }
    // Steps of one plan are none of another.
    let other = Encoding::from(Rotary::new(Pairing::Halves).with_base(77.0))
        .plan(Dims::new(WIDTH, HEADS).unwrap())
        .unwrap();
    let [q_at, k_at] = at(31);
    let (stepped, fresh) = (
        other.step(&mut steps, &params, &q_at, &k_at).unwrap(),
        other.call(&params, &q_at, &k_at).unwrap(),
    );
    assert_eq!(done(&other, &stepped, 1), done(&other, &fresh, 1));
}
