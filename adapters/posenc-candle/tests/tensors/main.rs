//! The hooks on candle's tensors: against the core, against finite differences through candle's own graph, and against the faults that others shipped.

mod adding;
mod attention;
mod bias;
#[cfg(feature = "nn")]
mod checkpoints;
mod faults;
mod hostile;
#[cfg(feature = "nn")]
mod laws;
#[cfg(feature = "nn")]
mod modules;
mod portable;
mod rotation;

use candle_core::{DType, Device, Tensor, Var};
use posenc::{Dims, Encoding, Plan, Positions};
use posenc_candle::{Call, Parameters, Result, init};
use std::collections::HashMap;

/// Numbers between −1 and 1 that differ from their neighbours.
fn numbers(seed: usize, shape: &[usize]) -> Tensor {
    let size = shape.iter().product();
    let numbers: Vec<f64> = (0..size)
        .map(|i| ((i * 37 + seed * 101 + i * i % 91) % 255) as f64 / 127.0 - 1.0)
        .collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// Four query heads over two key heads.
fn dims() -> Dims {
    Dims {
        model_dim: 16,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
    }
}

fn plan(encoding: impl Into<Encoding>, dims: Dims) -> Plan {
    encoding.into().plan(dims).unwrap()
}

/// Variables of a plan in f64, moved away from zeros and from the bends of small networks.
fn variables(plan: &Plan) -> HashMap<String, Var> {
    let vars = init(plan, 5, DType::F64, &Device::Cpu).unwrap();
    for (i, spec) in plan.parameters().iter().enumerate() {
        let var = &vars[&spec.name];
        let moved = (var.as_tensor() + (numbers(i, &spec.shape) * 0.2).unwrap()).unwrap();
        let moved = (moved + 0.0131).unwrap();
        let moved = match spec.range {
            Some([low, high]) => moved.clamp(low + 0.01, high - 0.01).unwrap(),
            None => moved,
        };
        var.set(&moved).unwrap();
    }
    vars
}

fn call(plan: &Plan, vars: &HashMap<String, Var>, q_at: &Positions, k_at: &Positions) -> Result<Call> {
    Call::of(plan, &Parameters::by_name(plan, vars)?, q_at, k_at)
}

/// A number out of a tensor that tells its entries apart.
fn weighed(x: &Tensor) -> Tensor {
    (x.to_dtype(DType::F64).unwrap() * numbers(77, x.dims()))
        .unwrap()
        .sum_all()
        .unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    x.to_scalar::<f64>().unwrap()
}

/// Candle's gradient of `loss` with respect to each variable agrees with central differences along a direction.
///
/// A step of ε^(1/3) makes central differences in f64 err by some ε^(2/3) ≈ 4e-11 of the third derivatives, and rounding by ε/step of the loss: both stay below 1e-7 for losses and derivatives below 1e3.
fn assert_differences(what: &str, vars: &[&Var], loss: impl Fn() -> Tensor) {
    let grads = loss().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let direction = numbers(i + 31, var.dims());
        let grad = grads.get(var).unwrap_or_else(|| panic!("{what}: variable {i} has no gradient"));
        assert_eq!(grad.dims(), var.dims(), "{what}");
        let along = scalar(&(grad * &direction).unwrap().sum_all().unwrap());
        let (at, step) = (var.as_tensor().copy().unwrap(), f64::EPSILON.cbrt());
        let moved = |sign: f64| {
            var.set(&(&at + (&direction * (sign * step)).unwrap()).unwrap()).unwrap();
            scalar(&loss())
        };
        let differences = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        var.set(&at).unwrap();
        assert!(
            (along - differences).abs() <= 1e-7 * along.abs().max(1.0),
            "{what}, variable {i}: {along} by the graph, {differences} by differences"
        );
    }
}

/// The largest difference of two tensors.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    if a.elem_count() == 0 {
        return 0.0;
    }
    let (a, b) = (a.to_dtype(DType::F64).unwrap(), b.to_dtype(DType::F64).unwrap());
    scalar(&(a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap())
}

/// Half a unit in the last place of 1.
fn half_ulp(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => unreachable!("a floating-point type"),
    }
}
