//! Rotation: against the core, of any strides, and its gradient.

use super::{apart, assert_differences, half_ulp, numbers, plan, scalar, weighed};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{Dims, Pairing, Positions, Rotary, Side, Turn, View, ViewMut};
use posenc_candle::{Call, Error, RotaryEmbedding};

const PAIRINGS: [Pairing; 4] = [
    Pairing::Halves,
    Pairing::Interleaved,
    Pairing::InterleavedToHalves,
    Pairing::HalvesTwice,
];

fn rotary(pairing: Pairing, at: &Positions) -> Call {
    Call::new(&plan(Rotary::new(pairing), Dims::new(24, 3).unwrap()), at).unwrap()
}

#[test]
fn every_type_is_turned_as_the_core_turns_it() {
    let at = Positions::range(3..8);
    for pairing in PAIRINGS {
        let (call, rotation) = (rotary(pairing, &at), Rotary::new(pairing).rotation::<f64>(8, &at).unwrap());
        let x = numbers(1, &[2, 3, 5, 8]);
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let x = x.to_dtype(dtype).unwrap();
            let wide: Vec<f64> = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let mut expected = vec![f64::NAN; wide.len()];
            let view = View::new(&wide, [2, 3, 5, 8]).unwrap();
            rotation
                .apply_into(Turn::Forward, view, ViewMut::new(&mut expected, [2, 3, 5, 8]).unwrap())
                .unwrap();
            let expected = Tensor::from_vec(expected, (2, 3, 5, 8), &Device::Cpu).unwrap();
            let turned = call.rotate(Side::Query, &x).unwrap();
            assert_eq!((turned.dtype(), turned.is_contiguous()), (dtype, true));
            // Of a pair of length at most √2: the tables, two products and their sum in the arithmetic (at most 4 half ulps of f32 or f64), then one rounding to what is stored.
            let arithmetic = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
            let bound = 2f64.sqrt() * (4.0 * half_ulp(arithmetic) + half_ulp(dtype));
            assert!(
                apart(&turned, &expected) <= bound,
                "{pairing:?} {dtype:?}: {}",
                apart(&turned, &expected)
            );
            // In place is the same to the bit.
            let own = x.copy().unwrap();
            call.rotate_in_place(Side::Query, &own).unwrap();
            assert_eq!(apart(&own, &turned), 0.0);
        }
    }
}

#[test]
fn views_are_turned_where_they_lie() {
    let call = rotary(Pairing::Halves, &Positions::range(0..5));
    // Heads of a fused projection [batch, seq, 3, heads, head_dim]: queries, seen as [batch, heads, seq, head_dim].
    let qkv = numbers(2, &[2, 5, 3, 3, 8]);
    let q = qkv.narrow(2, 0, 1).unwrap().squeeze(2).unwrap().transpose(1, 2).unwrap();
    assert!(!q.is_contiguous());
    let expected = call.rotate(Side::Query, &q.contiguous().unwrap()).unwrap();
    assert_eq!(apart(&call.rotate(Side::Query, &q).unwrap(), &expected), 0.0);
    // In place: the queries alone change.
    let rest = qkv.narrow(2, 1, 2).unwrap().copy().unwrap();
    call.rotate_in_place(Side::Query, &q).unwrap();
    assert_eq!(apart(&q, &expected), 0.0);
    assert_eq!(apart(&qkv.narrow(2, 1, 2).unwrap(), &rest), 0.0);
    // A last axis with gaps is refused by name, not copied.
    let gaps = numbers(3, &[2, 3, 8, 5]).transpose(2, 3).unwrap();
    for refused in [call.rotate(Side::Query, &gaps).map(drop), call.rotate_in_place(Side::Query, &gaps)] {
        assert!(matches!(refused, Err(Error::Strided { stride: 5, .. })), "{refused:?}");
    }
}

#[test]
fn gradients_flow_through_rotations_of_views() {
    for pairing in PAIRINGS {
        let call = rotary(pairing, &Positions::whole(&[4, 0, 9, 2, 2]));
        let x = Var::from_tensor(&numbers(4, &[2, 5, 3, 8])).unwrap();
        assert_differences("rotate", &[&x], || {
            let q = call.rotate(Side::Query, &x.transpose(1, 2).unwrap()).unwrap();
            // A gradient that arrives with its axes in another order.
            weighed(&q.sqr().unwrap().transpose(2, 3).unwrap())
        });
    }
}

#[test]
fn what_is_refused_has_its_shape_in_the_error_and_is_not_touched() {
    let call = rotary(Pairing::Halves, &Positions::range(0..5));
    let x = |shape: &[usize]| numbers(5, shape);
    assert!(matches!(
        call.rotate(Side::Key, &x(&[3, 5, 8])),
        Err(Error::Rank { expected: 4, .. })
    ));
    let refused = call.rotate(Side::Key, &x(&[2, 3, 4, 8])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "x [batch, heads, seq, head_dim]: expected shape [2, 3, 5, 8], given [2, 3, 4, 8]"
    );
    let ids = x(&[2, 3, 5, 8]).to_dtype(DType::U32).unwrap();
    let refused = call.rotate(Side::Key, &ids).unwrap_err();
    assert!(matches!(refused, Error::Type { given: DType::U32, .. }));
    assert!(refused.to_string().contains("[2, 3, 5, 8]"), "{refused}");
    let var = Var::from_tensor(&x(&[2, 3, 5, 8])).unwrap();
    let made = var.sqr().unwrap();
    let before = scalar(&weighed(&made));
    for tracked in [var.as_tensor(), &made] {
        let refused = call.rotate_in_place(Side::Key, tracked).unwrap_err();
        assert!(matches!(refused, Error::Tracked { .. }));
        assert!(refused.to_string().contains("[2, 3, 5, 8]"), "{refused}");
    }
    assert_eq!(scalar(&weighed(&made)), before);
    // Repeated memory would be turned twice.
    let repeated = x(&[2, 1, 5, 8]).broadcast_as((2, 3, 5, 8)).unwrap();
    assert!(call.rotate_in_place(Side::Key, &repeated).is_err());
    assert!(call.rotate(Side::Key, &repeated).is_ok());
}

#[test]
fn queries_and_keys_are_turned_in_place_or_neither_is() {
    let rotary = RotaryEmbedding::new(&Rotary::new(Pairing::Halves), 8).unwrap();
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        // Views of [batch, seq, heads, head_dim], from the second token on.
        let [q, k] = [(1, 4), (2, 2)].map(|(seed, heads)| {
            let x = numbers(seed, &[2, 6, heads, 8]).to_dtype(dtype).unwrap();
            x.narrow(1, 1, 5).unwrap().transpose(1, 2).unwrap()
        });
        let (turned_q, turned_k) = rotary.apply(&q, &k, 7).unwrap();
        let before = q.copy().unwrap();
        let var = Var::from_tensor(&k.contiguous().unwrap()).unwrap();
        for refused in [
            var.as_tensor(),
            &k.narrow(2, 0, 3).unwrap(),
            &k.narrow(3, 0, 4).unwrap(),
            &k.to_dtype(DType::U8).unwrap(),
            &k.contiguous().unwrap().transpose(2, 3).unwrap(),
            &k.narrow(1, 0, 1).unwrap().contiguous().unwrap().broadcast_as(k.shape()).unwrap(),
        ] {
            assert!(rotary.apply_in_place(&q, refused, 7).is_err(), "{refused:?}");
            assert_eq!(apart(&q, &before), 0.0, "{refused:?}");
        }
        rotary.apply_in_place(&q, &k, 7).unwrap();
        assert_eq!((apart(&q, &turned_q), apart(&k, &turned_k)), (0.0, 0.0));
    }
}

/// A model's file says base, scaling, partial rotation and rounding; queries and keys turn by it from any offset.
#[cfg(feature = "config")]
#[test]
fn a_file_turns_as_the_core_reads_it() {
    let file = br#"{
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    }"#;
    let read = posenc::config::read(file, posenc::config::Mode::Strict).unwrap();
    let layer = read.parts[0].layer(1).unwrap();
    let posenc::Method::Rotary(rotary) = &layer.spec.encoding.methods[0] else {
        panic!("{}", layer.spec.encoding)
    };
    let turned = RotaryEmbedding::from_config(file, 1).unwrap();
    let (q, k) = (numbers(1, &[1, 4, 3, 16]), numbers(2, &[1, 2, 3, 16]));
    for offset in [0usize, 1000, 0] {
        let at = Positions::range(offset as i64..offset as i64 + 3);
        let rotation = rotary.rotation::<f64>(16, &at).unwrap();
        let (turned_q, turned_k) = turned.apply(&q, &k, offset).unwrap();
        for (x, given, heads) in [(&q, turned_q, 4), (&k, turned_k, 2)] {
            let mut rows: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
            rotation
                .apply(Turn::Forward, ViewMut::new(&mut rows, [1, heads, 3, 16]).unwrap())
                .unwrap();
            let rows = Tensor::from_vec(rows, (1, heads, 3, 16), &Device::Cpu).unwrap();
            assert_eq!(apart(&given, &rows), 0.0);
        }
    }
    assert!(RotaryEmbedding::from_config(file, 2).is_err());
    assert!(matches!(RotaryEmbedding::from_config(b"{", 0), Err(Error::Config(_))));
}
