//! Biases written out: against the core, and gradients to their parameters.

use super::{apart, assert_differences, call, numbers, plan, variables, weighed};
use candle_core::{DType, Device, Var};
use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::{Alibi, Dims, Encoding, Positions, Rotary, T5Bias};
use posenc_candle::{Call, Error};

/// Encodings with a bias: its name, and positions that it has an answer for.
fn biases() -> Vec<(&'static str, Encoding, Positions)> {
    let mut biases = Vec::new();
    for entry in catalogue() {
        let encoding = preset(entry.name, &PresetOptions::new(16)).unwrap();
        let at = match encoding.to_string().contains("window") {
            true => Positions::grid(1, 6),
            false => Positions::range(0..6),
        };
        let plan = encoding.plan(Dims::new(16, 4).unwrap()).unwrap();
        let zeros = plan.init::<f64>(0).unwrap();
        if plan.call(&zeros, &at, &at).is_ok_and(|call| !call.bias().is_empty()) {
            biases.push((entry.name, encoding, at));
        }
    }
    biases
}

#[test]
fn gradients_reach_the_parameters_of_every_bias() {
    let all = biases();
    assert!(all.len() >= 6, "{all:?}");
    for (name, encoding, at) in all {
        let plan = plan(encoding, Dims::new(16, 4).unwrap());
        if plan.parameters().is_empty() {
            continue;
        }
        let vars = variables(&plan);
        let every: Vec<&Var> = vars.values().collect();
        assert_differences(name, &every, || {
            let bias = call(&plan, &vars, &at, &at).unwrap().bias(DType::F64, &Device::Cpu).unwrap();
            weighed(&bias.sqr().unwrap())
        });
    }
}

#[test]
fn a_bias_in_half_precision_is_the_wide_one_rounded_once() {
    let plan = plan(Alibi::new(), Dims::new(24, 12).unwrap());
    let call = Call::new(&plan, &Positions::range(0..9)).unwrap();
    let wide = call.bias(DType::F32, &Device::Cpu).unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let narrow = call.bias(dtype, &Device::Cpu).unwrap();
        assert_eq!(apart(&narrow, &wide.to_dtype(dtype).unwrap()), 0.0);
    }
    assert!(matches!(
        call.bias(DType::U8, &Device::Cpu),
        Err(Error::Type { given: DType::U8, .. })
    ));
    let none = Call::new(
        &super::plan(Rotary::new(posenc::Pairing::Halves), Dims::new(8, 2).unwrap()),
        &Positions::range(0..3),
    )
    .unwrap();
    assert_eq!(
        apart(
            &none.bias(DType::F32, &Device::Cpu).unwrap(),
            &(numbers(1, &[1, 2, 3, 3]) * 0.0).unwrap()
        ),
        0.0
    );
}

#[test]
fn one_query_is_a_row_of_the_matrix() {
    let plan = plan(T5Bias::decoder(), Dims::new(16, 4).unwrap());
    let vars = variables(&plan);
    let keys = Positions::range(0..7);
    let whole = call(&plan, &vars, &keys, &keys).unwrap().bias(DType::F64, &Device::Cpu).unwrap();
    let row = call(&plan, &vars, &Positions::range(6..7), &keys)
        .unwrap()
        .bias(DType::F64, &Device::Cpu)
        .unwrap();
    assert_eq!(apart(&row, &whole.narrow(2, 6, 1).unwrap()), 0.0);
}
