//! Fused attention: against attention written out, and gradients to everything that is given.

use super::{apart, assert_differences, call, dims, half_ulp, numbers, plan, variables, weighed};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{
    Alibi, Attention, ClippedBias, Dims, Direction, Encoding, Fire, Kerple, Mode, MusicTransformer, Pairing, Positions, Rotary, Shaw,
    T5Bias, Window,
};
use posenc_candle::{Call, Error, Mask};
use std::collections::HashMap;

/// Encodings of every kind that acts inside attention without tables of the layer's.
fn encodings() -> Vec<Encoding> {
    vec![
        Encoding::none(),
        Rotary::new(Pairing::Halves).into(),
        Alibi::new().into(),
        T5Bias::encoder().into(),
        ClippedBias::new(3, Direction::KeyMinusQuery).into(),
        Kerple::log().into(),
        Fire::new().into(),
        Shaw::new(3).into(),
        MusicTransformer::new(8).into(),
        Encoding::from(Rotary::new(Pairing::Interleaved)).with(T5Bias::decoder()),
    ]
}

/// q [2, 4, 5, 4], k and v [2, 2, 5, 4] as views of [batch, seq, heads, head_dim].
fn streams() -> [Var; 3] {
    [(1, 4), (2, 2), (3, 2)].map(|(seed, heads)| Var::from_tensor(&numbers(seed, &[2, 5, heads, 4])).unwrap())
}

fn by_heads(x: &Var) -> Tensor {
    x.transpose(1, 2).unwrap()
}

#[test]
fn gradients_reach_queries_keys_values_and_parameters() {
    let at = Positions::range(0..5);
    for encoding in encodings() {
        let plan = plan(encoding, dims());
        let vars = variables(&plan);
        let x = streams();
        let all: Vec<&Var> = vars.values().chain(&x).collect();
        for (attention, mode) in [
            (Attention::default(), Mode::Evaluate),
            (
                Attention {
                    softcap: Some(2.0),
                    window: Some(Window::last(3).unwrap()),
                    dropout: 0.2,
                    ..Attention::default()
                },
                Mode::Train { seed: 4, call: 2 },
            ),
        ] {
            assert_differences(&plan.to_string(), &all, || {
                let [q, k, v] = x.each_ref().map(by_heads);
                let call = call(&plan, &vars, &at, &at).unwrap();
                weighed(&call.attend(&attention, &q, &k, &v, &Mask::none().causal(0), mode).unwrap())
            });
        }
    }
}

/// One tensor as queries, keys and values, a result with two consumers, and two backward passes over one graph.
#[test]
fn a_result_may_be_read_and_differentiated_twice() {
    let at = Positions::range(0..5);
    for encoding in [Encoding::from(Alibi::new()), T5Bias::encoder().into()] {
        let plan = plan(encoding, Dims::new(16, 4).unwrap());
        let (vars, x) = (variables(&plan), Var::from_tensor(&numbers(1, &[2, 4, 5, 4])).unwrap());
        let all: Vec<&Var> = vars.values().chain([&x]).collect();
        let out = || {
            let call = call(&plan, &vars, &at, &at).unwrap();
            call.attend(&Attention::default(), &x, &x, &x, &Mask::none().causal(0), Mode::Evaluate)
                .unwrap()
        };
        let loss = |out: &Tensor| (weighed(out) + weighed(&out.sqr().unwrap())).unwrap();
        assert_differences("one tensor for all", &all, || loss(&out()));
        let made = loss(&out());
        let (once, twice) = (made.backward().unwrap(), made.backward().unwrap());
        for var in all {
            assert_eq!(apart(once.get(var).unwrap(), twice.get(var).unwrap()), 0.0);
        }
    }
}

#[test]
fn gradients_reach_sinks() {
    let at = Positions::range(0..5);
    for encoding in [Encoding::none(), T5Bias::decoder().into()] {
        let plan = plan(encoding, dims());
        let (vars, x) = (variables(&plan), streams());
        let sinks = Var::from_tensor(&numbers(9, &[4])).unwrap();
        let all: Vec<&Var> = vars.values().chain(&x).chain([&sinks]).collect();
        let attention = Attention {
            sinks: true,
            ..Attention::default()
        };
        assert_differences("sinks", &all, || {
            let [q, k, v] = x.each_ref().map(by_heads);
            let call = call(&plan, &vars, &at, &at).unwrap().with_sinks(&sinks);
            weighed(&call.attend(&attention, &q, &k, &v, &Mask::none(), Mode::Evaluate).unwrap())
        });
    }
}

/// Values narrower than heads, whose gradient is split out of one stretch.
#[test]
fn values_may_have_a_width_of_their_own() {
    let plan = plan(T5Bias::encoder(), dims());
    let (vars, at) = (variables(&plan), Positions::range(0..5));
    let [q, k, _] = streams();
    let v = Var::from_tensor(&numbers(6, &[2, 2, 5, 3])).unwrap();
    let all: Vec<&Var> = vars.values().chain([&q, &k, &v]).collect();
    assert_differences("narrow values", &all, || {
        let call = call(&plan, &vars, &at, &at).unwrap();
        let out = call
            .attend(
                &Attention::default(),
                &by_heads(&q),
                &by_heads(&k),
                &v,
                &Mask::none(),
                Mode::Evaluate,
            )
            .unwrap();
        assert_eq!(out.dims(), [2, 4, 5, 3]);
        weighed(&out)
    });
}

/// Softmax written out in f64, for what has no encoding.
fn written_out(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Tensor {
    let group = |x: &Tensor| {
        Tensor::cat(
            &[
                &x.narrow(1, 0, 1).unwrap(),
                &x.narrow(1, 0, 1).unwrap(),
                &x.narrow(1, 1, 1).unwrap(),
                &x.narrow(1, 1, 1).unwrap(),
            ],
            1,
        )
        .unwrap()
    };
    let (k, v) = (group(k).contiguous().unwrap(), group(v).contiguous().unwrap());
    let scores = (q
        .contiguous()
        .unwrap()
        .matmul(&k.transpose(2, 3).unwrap().contiguous().unwrap())
        .unwrap()
        * 0.5)
        .unwrap();
    let weights = scores.broadcast_add(mask).unwrap().exp().unwrap();
    let sums = weights.sum_keepdim(3).unwrap();
    let empty = sums.eq(0f64).unwrap().to_dtype(DType::F64).unwrap();
    weights.broadcast_div(&(sums + empty).unwrap()).unwrap().matmul(&v).unwrap()
}

#[test]
fn masks_mean_what_their_names_say() {
    let [q, k, v] = streams().each_ref().map(by_heads);
    let call = Call::new(&plan(Encoding::none(), dims()), &Positions::range(0..5)).unwrap();
    let allowed: Vec<u8> = (0..25).map(|i| u8::from(i % 5 <= i / 5 && i % 3 != 0 && i / 5 != 2)).collect();
    let allowed = Tensor::from_vec(allowed, (5, 5), &Device::Cpu).unwrap();
    let blocked = allowed.eq(0u8).unwrap();
    let zeros = Tensor::zeros((5, 5), DType::F64, &Device::Cpu).unwrap();
    let added = allowed
        .where_cond(&zeros, &(zeros.ones_like().unwrap() * f64::NEG_INFINITY).unwrap())
        .unwrap();
    let expected = written_out(&q, &k, &v, &added);
    for mask in [
        Mask::none().attends(&allowed).unwrap(),
        Mask::none().causal(0).blocked(&blocked).unwrap(),
        Mask::none().additive(&added.to_dtype(DType::F32).unwrap()).unwrap(),
    ] {
        let out = call.attend(&Attention::default(), &q, &k, &v, &mask, Mode::Evaluate).unwrap();
        // Scores below 4 in size, sums of 5: some 50 roundings of 2⁻⁵³ of numbers below 2.
        assert!(apart(&out, &expected) < 1e-14, "{mask:?}: {}", apart(&out, &expected));
        assert_eq!(
            apart(&out.narrow(2, 2, 1).unwrap(), &(out.narrow(2, 2, 1).unwrap() * 0.0).unwrap()),
            0.0,
            "a row that attends to nothing"
        );
    }
    let trained = Var::from_tensor(&added).unwrap();
    assert!(matches!(Mask::none().additive(&trained), Err(Error::Tracked { .. })));
    assert!(matches!(Mask::none().attends(&added), Err(Error::Type { given: DType::F64, .. })));
    assert!(matches!(
        Mask::none().attends(&allowed.unsqueeze(0).unwrap()),
        Err(Error::Rank { .. })
    ));
}

#[test]
fn half_precision_is_rounded_once() {
    let at = Positions::range(0..5);
    let plan = plan(Rotary::new(Pairing::Halves), dims());
    let call = Call::new(&plan, &at).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let [q, k, v] = streams().each_ref().map(|x| by_heads(x).to_dtype(dtype).unwrap());
        let [wide_q, wide_k, wide_v] = [&q, &k, &v].map(|x| x.to_dtype(DType::F64).unwrap());
        let run = |q, k, v| call.attend(&Attention::default(), q, k, v, &Mask::none(), Mode::Evaluate).unwrap();
        let (out, expected) = (run(&q, &k, &v), run(&wide_q, &wide_k, &wide_v));
        assert_eq!(out.dtype(), dtype);
        // Scores of at most 2 in f32: head_dim products and turns, softmax and 5 products, some 40 half ulps; then one rounding of numbers below 1.
        let bound = 40.0 * 2.0 * half_ulp(DType::F32) + half_ulp(dtype);
        assert!(apart(&out, &expected) <= bound, "{dtype:?}: {}", apart(&out, &expected));
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_shape() {
    let call = Call::new(&plan(Encoding::none(), dims()), &Positions::range(0..5)).unwrap();
    let [q, k, v] = streams().each_ref().map(by_heads);
    let run = |q: &Tensor, k: &Tensor, v: &Tensor| call.attend(&Attention::default(), q, k, v, &Mask::none(), Mode::Evaluate);
    let heads = run(&q, &q, &v).unwrap_err().to_string();
    assert!(heads.contains("expected shape [2, 2, 5, 4], given [2, 4, 5, 4]"), "{heads}");
    let types = run(&q, &k.to_dtype(DType::F32).unwrap(), &v).unwrap_err();
    assert!(matches!(
        types,
        Error::Types {
            expected: DType::F64,
            given: DType::F32,
            ..
        }
    ));
    let lost = call.attend(
        &Attention {
            softcap: Some(-1.0),
            ..Attention::default()
        },
        &q,
        &k,
        &v,
        &Mask::none(),
        Mode::Evaluate,
    );
    assert!(matches!(lost, Err(Error::Core(posenc::Error::Invalid { what: "softcap", .. }))));
    let no_table = Call::new(&plan(T5Bias::encoder(), dims()), &Positions::range(0..5)).unwrap_err();
    assert!(matches!(no_table, Error::Core(posenc::Error::Shape { given, .. }) if given == [0]));
    // The operation serves each layer with its own parameters.
    let plan = plan(T5Bias::encoder(), dims());
    let at = Positions::range(0..5);
    let layers: Vec<HashMap<String, Var>> = vec![variables(&plan), posenc_candle::init(&plan, 9, DType::F64, &Device::Cpu).unwrap()];
    let first = super::call(&plan, &layers[0], &at, &at).unwrap();
    let second = first
        .for_layer(&posenc_candle::Parameters::by_name(&plan, &layers[1]).unwrap())
        .unwrap();
    let outs = [first, second].map(|call| {
        call.attend(&Attention::default(), &q, &k, &v, &Mask::none(), Mode::Evaluate)
            .unwrap()
    });
    assert!(apart(&outs[0], &outs[1]) > 1e-3);
}
