//! Every encoding under every mask and setting: adjoints, empty rows, finite numbers, f32 beside f64; what is not supported is a typed error. The outcome
//! is the table of `docs/attention.md`.
//!
//! A new encoding is a line in [`crate::cases::encodings`], a new mask or setting one in [`crate::cases::groups`].

use crate::cases::{Case, K_LEN, Q_LEN, encodings, groups};
use crate::{BATCH, HEADS, WIDTH, decoding, gradients, random, rounding, with_params};
use posenc::{Encoding, Mode, Params};
use posenc_nn::check::{finite_differences, tolerance};
use posenc_nn::{AttentionTrace, Error, Number, PositionalMultiheadAttention, Streams};

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
        let decoded = decoding::check(&encoding);
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
