//! The way by tensor operations, on the CPU: the same numbers and gradients as the kernels'.

use super::{apart, assert_differences, call, dims, numbers, plan, variables, weighed};
use candle_core::{Tensor, Var};
use posenc::{
    Alibi, Attention, Dims, Encoding, Fire, InputTable, Learned, Mode, Pairing, Positions, Rotary, Shaw, Side, Sinusoidal, Site, T5Bias,
    Temperature, Window,
};
use posenc_candle::Mask;

#[test]
fn rotation_is_the_same_by_tensor_operations() {
    for pairing in [
        Pairing::Halves,
        Pairing::Interleaved,
        Pairing::InterleavedToHalves,
        Pairing::HalvesTwice,
    ] {
        for rotary in [Rotary::new(pairing), Rotary::new(pairing).with_rotary_dim(2)] {
            if pairing == Pairing::HalvesTwice && rotary.rotary_dim.is_some() {
                continue; // It needs a multiple of four.
            }
            let plan = plan(rotary, dims());
            for at in [
                Positions::range(2..7),
                Positions::whole_rows(&[5, 1, 0, 2, 9, 3, 3, 3, 4, 8], 2).unwrap(),
            ] {
                let fast = call(&plan, &variables(&plan), &at, &at).unwrap();
                let x = numbers(1, &[2, 4, 5, 4]);
                let [a, b] = [fast.clone(), fast.portable()].map(|call| call.rotate(Side::Query, &x).unwrap());
                // Two products and a sum of numbers of at most √2, in another order.
                assert!(apart(&a, &b) <= 4.0 * f64::EPSILON, "{plan}: {}", apart(&a, &b));
                let x = Var::from_tensor(&x).unwrap();
                assert_differences("portable rotation", &[&x], || {
                    weighed(&fast.portable().rotate(Side::Query, &x).unwrap())
                });
            }
        }
    }
}

#[test]
fn tables_are_the_same_by_tensor_operations() {
    let at = Positions::range(1..6);
    for (encoding, site) in [
        (Encoding::from(Learned::new(16)), Site::Embedding),
        (Sinusoidal::paper().into(), Site::Embedding),
        (InputTable::new(16).into(), Site::KeyInput),
    ] {
        let plan = plan(encoding, Dims::new(16, 4).unwrap());
        let vars = variables(&plan);
        let x = Var::from_tensor(&numbers(2, &[2, 5, 16])).unwrap();
        let fast = call(&plan, &vars, &at, &at).unwrap();
        let [a, b] = [fast.clone(), fast.portable()].map(|call| call.add(site, &x, Mode::Evaluate).unwrap());
        assert_eq!(apart(&a, &b), 0.0, "{plan}");
        let all: Vec<&Var> = vars.values().chain([&x]).collect();
        assert_differences("portable tables", &all, || {
            weighed(
                &call(&plan, &vars, &at, &at)
                    .unwrap()
                    .portable()
                    .add(site, &x, Mode::Evaluate)
                    .unwrap()
                    .sqr()
                    .unwrap(),
            )
        });
    }
    let plan = plan(Learned::new(16).concatenated(3), Dims::new(16, 4).unwrap());
    let fast = call(&plan, &variables(&plan), &at, &at).unwrap();
    let x = numbers(3, &[2, 5, 16]);
    let [a, b] = [fast.clone(), fast.portable()].map(|call| call.embed(&x, Mode::Evaluate).unwrap());
    assert_eq!(apart(&a, &b), 0.0);
}

#[test]
fn attention_is_the_same_by_tensor_operations() {
    let at = Positions::range(0..5);
    let hidden = Tensor::from_vec(
        (0..25).map(|i| u8::from(i % 4 == 0 || i / 5 == 3)).collect(),
        (5, 5),
        &candle_core::Device::Cpu,
    )
    .unwrap();
    let settings = [
        (Attention::default(), Mask::none()),
        (
            Attention::default(),
            Mask::none().additive(&(numbers(6, &[1, 4, 5, 5]) * 0.1).unwrap()).unwrap(),
        ),
        (
            Attention {
                softcap: Some(1.5),
                ..Attention::default()
            },
            Mask::none().causal(0),
        ),
        (
            Attention {
                window: Some(Window::last(2).unwrap()),
                sinks: true,
                ..Attention::default()
            },
            Mask::none().blocked(&hidden).unwrap(),
        ),
        (
            Attention {
                scale: Some(1.0),
                temperature: Some(Temperature::mistral(0.5, 2.0)),
                ..Attention::default()
            },
            Mask::none().causal(0),
        ),
    ];
    for encoding in [
        Encoding::none(),
        Rotary::new(Pairing::Halves).into(),
        Alibi::new().into(),
        Fire::new().into(),
        Shaw::new(3).into(),
        Encoding::from(Rotary::new(Pairing::Interleaved)).with(T5Bias::decoder()),
    ] {
        let plan = plan(encoding, dims());
        let vars = variables(&plan);
        let [q, k, v] = [(1, 4), (2, 2), (3, 2)].map(|(seed, heads)| Var::from_tensor(&numbers(seed, &[2, heads, 5, 4])).unwrap());
        let sinks = Var::from_tensor(&numbers(8, &[4])).unwrap();
        for (attention, mask) in &settings {
            let run = |portable: bool| {
                let mut call = call(&plan, &vars, &at, &at).unwrap();
                if attention.sinks {
                    call = call.with_sinks(&sinks);
                }
                let call = if portable { call.portable() } else { call };
                call.attend(attention, &q, &k, &v, mask, Mode::Evaluate).unwrap()
            };
            // Scores below 10, of some 20 roundings; weights and their sums of values below 1, of as many: 2⁻⁵³ each.
            let bound = 400.0 * f64::EPSILON / 2.0;
            assert!(
                apart(&run(false), &run(true)) <= bound,
                "{plan}: {}",
                apart(&run(false), &run(true))
            );
            let mut all: Vec<&Var> = vars.values().chain([&q, &k, &v]).collect();
            if attention.sinks {
                all.push(&sinks);
            }
            assert_differences(&format!("portable {plan}"), &all, || weighed(&run(true)));
        }
    }
}
