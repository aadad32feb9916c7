//! Attention on f16 and bf16: rows are widened when they are loaded and rounded when they are stored, once, and all between is f32.

use half::{bf16, f16};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::rotate::Rounding;
use posenc::{Alibi, Attention, Dims, Element, Encoding, Mask, Mode, Pairing, Positions, Rng, Rotary, Shaw, Turn, View, ViewMut};

const SHAPE: [usize; 4] = [2, 2, 70, 8]; // [batch, heads, seq, head_dim]; more rows than a tile has
const SIZE: usize = 2 * 2 * 70 * 8;

fn randn<T: Element<Real = f32>>(seed: u64) -> Vec<T> {
    let mut rng = Rng::new(seed);
    (0..SIZE).map(|_| T::narrow(rng.normal() as f32)).collect()
}

/// Output and the gradients of queries, keys and values.
fn run<T: Element<Real = f32>>([q, k, v, d_out]: [&[T]; 4]) -> [Vec<T>; 4] {
    let encoding = Encoding::from(Rotary::new(Pairing::Halves)).with(Shaw::new(4)).with(Alibi::new());
    let plan = encoding.plan(Dims::new(16, 2).unwrap()).unwrap();
    let (params, at) = (plan.init::<f32>(1).unwrap(), Positions::range(0..70));
    let call = plan.call(&params, &at, &at).unwrap();
    let view = |x| View::new(x, SHAPE).unwrap();
    let (inputs, mask) = (Inputs::new(view(q), view(k), view(v)), Mask::none().causal(0));
    let poisoned = || vec![T::narrow(f32::NAN); SIZE];
    let [mut out, mut dq, mut dk, mut dv] = [poisoned(), poisoned(), poisoned(), poisoned()];
    let (mut saved, mut slots, mut work) = (Saved::default(), Slots::default(), Workspace::default());
    let outputs = Outputs {
        out: ViewMut::new(&mut out, SHAPE).unwrap(),
        saved: Some(&mut saved),
        weights: None,
    };
    let attention = Attention::default();
    attention.forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut work).unwrap();
    let grads = Grads {
        dq: ViewMut::new(&mut dq, SHAPE).unwrap(),
        dk: ViewMut::new(&mut dk, SHAPE).unwrap(),
        dv: ViewMut::new(&mut dv, SHAPE).unwrap(),
    };
    attention
        .adjoint(
            &call,
            inputs,
            &mask,
            Mode::Evaluate,
            view(&out),
            view(d_out),
            &saved,
            grads,
            &mut slots,
            &mut work,
        )
        .unwrap();
    [out, dq, dk, dv]
}

fn widened<T: Element<Real = f32>>(x: &[T]) -> Vec<f32> {
    x.iter().map(|x| x.widen()).collect()
}

/// The output is that of f32 on the same numbers, rounded once: the same bits. The adjoint reads the rounded output, so its gradients are those of f32 up to that
/// rounding: relative to the largest gradient, a few units of the type's precision (the output enters a row's gradient once, as a product with `d_out` summed over 8 columns).
fn check<T: Element<Real = f32> + std::fmt::Debug + PartialEq>(epsilon: f32) {
    let given: [Vec<T>; 4] = [randn(1), randn(2), randn(3), randn(4)];
    let half = run::<T>([&given[0], &given[1], &given[2], &given[3]]);
    let wide = given.each_ref().map(|x| widened(x));
    let full = run::<f32>([&wide[0], &wide[1], &wide[2], &wide[3]]);
    assert_eq!(
        half[0],
        full[0].iter().map(|x| T::narrow(*x)).collect::<Vec<T>>(),
        "the output, rounded once"
    );
    for (name, half, full) in [("dq", &half[1], &full[1]), ("dk", &half[2], &full[2]), ("dv", &half[3], &full[3])] {
        let largest = full.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (h, f) in widened(half).iter().zip(full) {
            assert!((h - f).abs() <= 8.0 * epsilon * largest, "{name}: {h} against {f}");
        }
    }
}

#[test]
fn attention_in_f16_and_bf16_is_f32_rounded_once() {
    check::<f16>(f16::EPSILON.to_f32());
    check::<bf16>(bf16::EPSILON.to_f32());
}

/// Where each step of a rotation is rounded, attention reads the queries and keys that eager PyTorch would have stored: the same bits as attention without rotation on rows that were turned and
/// stored before.
#[test]
fn attention_reads_rows_that_were_rounded_step_by_step() {
    fn check<T: Element<Real = f32> + std::fmt::Debug + PartialEq>() {
        let given: [Vec<T>; 3] = [randn(1), randn(2), randn(3)];
        let forward = |encoding: Encoding, q: &[T], k: &[T]| {
            let plan = encoding.plan(Dims::new(16, 2).unwrap()).unwrap();
            let (params, at) = (plan.init::<f32>(1).unwrap(), Positions::range(300..370));
            let call = plan.call(&params, &at, &at).unwrap();
            let view = |x| View::new(x, SHAPE).unwrap();
            let mut out = vec![T::narrow(f32::NAN); SIZE];
            let outputs = Outputs {
                out: ViewMut::new(&mut out, SHAPE).unwrap(),
                saved: None,
                weights: None,
            };
            let (inputs, mask) = (Inputs::new(view(q), view(k), view(&given[2])), Mask::none().causal(0));
            let mut work = Workspace::default();
            Attention::default()
                .forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut work)
                .unwrap();
            out
        };
        let of = |rounding| Rotary {
            rounding,
            ..Rotary::new(Pairing::Halves)
        };
        let stored = |x: &[T]| {
            let mut x = x.to_vec();
            let rotation = of(Rounding::EachStep).rotation::<f32>(8, &Positions::range(300..370)).unwrap();
            rotation.apply(Turn::Forward, ViewMut::new(&mut x, SHAPE).unwrap()).unwrap();
            x
        };
        let stepwise = forward(of(Rounding::EachStep).into(), &given[0], &given[1]);
        assert_eq!(stepwise, forward(Encoding::none(), &stored(&given[0]), &stored(&given[1])));
        assert_ne!(stepwise, forward(of(Rounding::Once).into(), &given[0], &given[1]));
    }
    check::<f16>();
    check::<bf16>();
}
