//! FIRE against its twin, at bends, far positions and extreme weights.

use super::*;
use crate::encoding::Encoding;
use crate::params::Params;
use crate::view::ViewMut;
use crate::{reference, tiles};

const HEADS: usize = 3;

fn twin(params: &Params<f64>, length: f64) -> reference::fire::Weights {
    let get = |name: &str| params.get(name).unwrap().to_vec();
    reference::fire::Weights {
        first: get("fire.mlp.0.weight"),
        first_bias: get("fire.mlp.0.bias"),
        second: get("fire.mlp.2.weight"),
        second_bias: get("fire.mlp.2.bias"),
        c: get("fire.c")[0],
        w: get("fire.L_multiplier")[0],
        length,
    }
}

/// The bias and every gradient on all positions and tiles, against the network pair by pair. `what` names the weights.
///
/// Bound: a value is a sum of 2·hidden + 2 products, each off by a few ε of its size, of the line ψ·slope/norm + intercept and of the network alike; with weights below 4 and u below 100 (the
/// largest ratio of logarithms here: ln(1 + 0.1·5000) / ln 1.1) sizes are below `scale` = hidden·4·(4·100 + 4). Gradients are sums of `size` such products of gradients below 8.
fn check(what: &str, method: &Fire, params: &Params<f64>) {
    let plan = Encoding::from(method.clone()).plan(Dims::new(12, HEADS).unwrap()).unwrap();
    let twin = twin(params, method.length);
    let scale = (method.hidden * 4 * (4 * 100 + 4)) as f64;
    for (name, q_at, k_at, batch) in tiles::cases() {
        let call = plan.call(params, &q_at, &k_at).unwrap();
        let pairs = q_at.len() * k_at.len();
        let size = batch * HEADS * pairs;
        let (scores, d_scores): (Vec<f64>, Vec<f64>) = (tiles::normal(3, size), tiles::normal(4, size));
        let (mut bias, mut grads) = (Vec::new(), params.zeros_like());
        for b in 0..batch {
            let (q, k) = (tiles::whole(&q_at, b), tiles::whole(&k_at, b));
            bias.extend(twin.bias(&q, &k));
            let d = twin.adjoint(&q, &k, &d_scores[b * HEADS * pairs..][..HEADS * pairs]);
            let flat = [d.first, d.first_bias, d.second, d.second_bias, vec![d.c], vec![d.w]].concat();
            grads.flat_mut().iter_mut().zip(flat).for_each(|(grad, d)| *grad += d);
        }
        let close = |got: &[f64], expected: &[f64], bound: f64| {
            assert_eq!(got.len(), expected.len());
            for (i, (g, e)) in got.iter().zip(expected).enumerate() {
                assert!((g - e).abs() <= bound, "{what}, {name}, {i}: {g} against {e}, bound {bound:e}");
            }
        };
        let mut matrix = vec![f64::NAN; size];
        call.materialise_bias(ViewMut::new(&mut matrix, [batch, HEADS, q_at.len(), k_at.len()]).unwrap())
            .unwrap();
        close(&matrix, &bias, 8.0 * f64::EPSILON * scale);
        for tile in tiles::SPLITS {
            let of = tiles::Tiles::of_bias(&call, batch, tile);
            let sum: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + b).collect();
            close(&of.add(&scores), &sum, 8.0 * f64::EPSILON * scale);
            let (_, slots) = of.adjoint(&d_scores);
            let mut found = params.zeros_like();
            of.term().collect(&slots, &mut (&mut found).into()).unwrap();
            // By c and w a value changes faster: by distances up to 5000 and by the length.
            let bound = 64.0 * f64::EPSILON * scale * (size as f64 + 8.0) * 100.0;
            close(found.flat(), grads.flat(), bound);
        }
    }
}

fn drawn(method: &Fire, seed: u64) -> Params<f64> {
    let plan = Encoding::from(method.clone()).plan(Dims::new(12, HEADS).unwrap()).unwrap();
    plan.init(seed).unwrap()
}

#[test]
fn term_and_gradients_are_those_of_the_reference() {
    for (hidden, length) in [(1, 3.0), (5, 8.0), (32, 12.0), (32, 512.0), (4, 1.0)] {
        let method = Fire::new().with_hidden(hidden).with_length(length);
        for seed in 0..3 {
            check("initial values", &method, &drawn(&method, seed));
        }
        let mut negative = drawn(&method, 7);
        negative.set("fire.c", &[], &[-0.7]).unwrap();
        negative.set("fire.L_multiplier", &[], &[-1.3]).unwrap();
        check("negative c and w", &method, &negative);
    }
}

#[test]
fn units_at_their_bends_have_the_gradient_zero() {
    let method = Fire::new().with_hidden(6).with_length(8.0);
    let mut params = drawn(&method, 1);
    // Bends at u = 0, where every token and itself is, from either side; a unit that never bends, on and off; two units with one bend.
    params.set("fire.mlp.0.weight", &[6, 1], &[1.0, -1.0, 0.0, 0.0, 2.0, -2.0]).unwrap();
    params.set("fire.mlp.0.bias", &[6], &[0.0, 0.0, 1.0, -1.0, -1.0, 1.0]).unwrap();
    check("bends at zero", &method, &params);
    params.set("fire.mlp.0.bias", &[6], &[-0.0, -0.0, 0.0, 1.0, 0.0, -0.0]).unwrap();
    check("bends at minus zero", &method, &params);
    // A query at |w·L₀| itself.
    params.set("fire.L_multiplier", &[], &[1.0]).unwrap();
    check("ties of the normaliser", &method, &params);
    // No distance at all: u is 0.
    params.set("fire.c", &[], &[0.0]).unwrap();
    check("c is zero", &method, &params);
}

#[test]
fn lines_agree_with_pairs_one_by_one() {
    let method = Fire::new().with_length(100.0);
    let plan = Encoding::from(method).plan(Dims::new(12, HEADS).unwrap()).unwrap();
    let params: Params<f64> = plan.init(5).unwrap();
    let twin = twin(&params, 100.0);
    for (q, k) in [
        (Positions::range(0..300), Positions::range(0..300)),
        (Positions::range(5000..5003), Positions::range(0..700)),
        (Positions::range(0..7), Positions::range(40_000..40_600)),
    ] {
        let shape = [1, HEADS, q.len(), k.len()];
        let mut matrix = vec![f64::NAN; shape.iter().product()];
        plan.call(&params, &q, &k)
            .unwrap()
            .materialise_bias(ViewMut::new(&mut matrix, shape).unwrap())
            .unwrap();
        let expected = twin.bias(&tiles::whole(&q, 0), &tiles::whole(&k, 0));
        // As in `check`: 32 hidden units with weights below 1, u below 3.
        let bound = 8.0 * f64::EPSILON * (32 * 4) as f64;
        for (i, (x, e)) in matrix.iter().zip(&expected).enumerate() {
            assert!((x - e).abs() <= bound, "{i}: {x} against {e}");
        }
    }
}

#[test]
fn extreme_weights_and_positions_stay_finite() {
    let plan = Encoding::from(Fire::new().with_hidden(3))
        .plan(Dims::new(12, HEADS).unwrap())
        .unwrap();
    let at = Positions::range(0..5);
    let far = Positions::whole(&[i64::MIN, -1, 0, 7, i64::MAX]);
    for value in [f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 1e-40, 1e30, 0.0] {
        for one in 0..6 {
            let mut params: Params<f32> = plan.init(2).unwrap();
            let name = plan.parameters()[one].name.clone();
            params.get_mut(&name).unwrap().fill(value);
            for positions in [&at, &far] {
                let call = plan.call(&params, positions, positions).unwrap();
                let of = tiles::Tiles::of_bias(&call, 1, (2, 3));
                let bias = of.add(&[0.0; 75]);
                assert!(bias.iter().all(|x| x.is_finite()), "{name} = {value}: {bias:?}");
                let (_, slots) = of.adjoint(&[0.1; 75]);
                let mut grads = params.zeros_like();
                of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
                if value.abs() < 1e20 {
                    assert!(grads.flat().iter().all(|x| x.is_finite()), "{name} = {value}: {:?}", grads.flat());
                }
            }
        }
    }
}

#[test]
fn settings_are_checked_and_shown() {
    let dims = Dims::new(96, 12).unwrap();
    let plan = Encoding::from(Fire::new()).plan(dims).unwrap();
    // 66 + 33 H.
    assert_eq!(plan.parameters().iter().map(|spec| spec.size()).sum::<usize>(), 66 + 33 * 12);
    assert_eq!(
        Fire::new().to_string(),
        "fire(32 hidden units, c from 0.1, length from 512, one network per layer)"
    );
    let params = plan.init::<f32>(0).unwrap();
    assert_eq!(
        (params.get("fire.c").unwrap(), params.get("fire.L_multiplier").unwrap()),
        ([0.1].as_slice(), [1.0].as_slice())
    );
    assert!(matches!(
        Encoding::from(Fire::new().with_hidden(0)).plan(dims),
        Err(Error::Zero { .. })
    ));
    for refused in [
        Fire::new().with_hidden(usize::MAX),
        Fire::new().with_length(f64::NAN),
        Fire::new().with_length(-1.0),
        Fire::new().with_c(f64::INFINITY),
    ] {
        assert!(matches!(Encoding::from(refused).plan(dims), Err(Error::Invalid { .. })));
    }
    let grid = Positions::grid(2, 2);
    assert!(plan.call(&params, &grid, &grid).is_err());
}
