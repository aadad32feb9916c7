//! Faults that others shipped on candle's tensors, by name: each shows the right result here.

use super::{apart, assert_differences, half_ulp, numbers, plan, weighed};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{Alibi, Attention, Dims, Encoding, Learned, Mode, Pairing, Positions, Rotary, Side};
use posenc_candle::{Call, Mask};

fn rotary(heads: usize, width: usize, at: &Positions) -> Call {
    let plan = plan(Rotary::new(Pairing::Halves), Dims::new(heads * width, heads).unwrap());
    Call::of(&plan, &posenc_candle::Parameters::NONE, at, at).unwrap()
}

/// Positions built in bf16 collide above 256: 257 turns like 256. (candle#3698, and 25 of candle's models.)
#[test]
fn position_257_in_bf16() {
    let x = Tensor::ones((1, 1, 2, 8), DType::BF16, &Device::Cpu).unwrap();
    let turned = rotary(1, 8, &Positions::whole(&[256, 257])).rotate(Side::Query, &x).unwrap();
    let [first, second] = [0, 1].map(|t| turned.narrow(2, t, 1).unwrap());
    assert!(apart(&first, &second) > 0.5, "the fastest pair turns by one radian");
    // Against the rotation in f64: the tables and the turn in f32, then one rounding of coordinates of at most √2, in [1, 2) at worst.
    let wide = rotary(1, 8, &Positions::whole(&[256, 257]))
        .rotate(Side::Query, &x.to_dtype(DType::F64).unwrap())
        .unwrap();
    assert!(apart(&turned, &wide) <= 2.0 * half_ulp(DType::BF16) / 2.0 + 8.0 * half_ulp(DType::F32));
}

/// Slopes for 12 heads are those of 8 and every second of 16, not 2^(−8(h+1)/16). (candle's CPU flash attention.)
#[test]
fn alibi_of_twelve_heads() {
    let call = Call::new(&plan(Alibi::new(), Dims::new(24, 12).unwrap()), &Positions::range(0..2)).unwrap();
    let bias = call.bias(DType::F64, &Device::Cpu).unwrap();
    let slopes: Vec<f64> = (0..12).map(|h| -bias.to_vec4_at(h)).collect();
    let expected: Vec<f64> = (1..=8)
        .map(|i| 2f64.powi(-i))
        .chain([0.5f64, 1.5, 2.5, 3.5].map(|e| 2f64.powf(-e)))
        .collect();
    for (slope, expected) in slopes.iter().zip(&expected) {
        assert!((slope - expected).abs() <= 4.0 * f64::EPSILON * expected, "{slopes:?}");
    }
    // In attention, too: what the same numbers give as a mask that is added.
    let x = numbers(2, &[1, 12, 2, 2]);
    let plain = Call::new(&plan(Encoding::none(), Dims::new(24, 12).unwrap()), &Positions::range(0..2)).unwrap();
    let added: Vec<f64> = expected.iter().flat_map(|slope| [0.0, -slope, -slope, 0.0]).collect();
    let added = Mask::none().additive(&Tensor::from_vec(added, (1, 12, 2, 2), &Device::Cpu).unwrap());
    let run = |call: &Call, mask| call.attend(&Attention::default(), &x, &x, &x, &mask, Mode::Evaluate).unwrap();
    let causal = Mask::none().causal(0);
    let (ours, written) = (run(&call, causal.clone()), run(&plain, added.unwrap().causal(0)));
    // Scores below 2, some ten roundings each way.
    assert!(apart(&ours, &written) <= 50.0 * f64::EPSILON);
    assert!(apart(&ours, &run(&plain, causal)) > 1e-3);
}

trait At {
    /// The bias of the second query and the first key, of a head.
    fn to_vec4_at(&self, head: usize) -> f64;
}

impl At for Tensor {
    fn to_vec4_at(&self, head: usize) -> f64 {
        let one = self.narrow(1, head, 1).unwrap().narrow(2, 1, 1).unwrap().narrow(3, 0, 1).unwrap();
        one.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0]
    }
}

/// ALiBi is added whether or not there is a mask. (candle's CPU flash attention ignores it without one.)
#[test]
fn alibi_without_a_mask() {
    let dims = Dims::new(16, 4).unwrap();
    let at = Positions::range(0..6);
    let [with, without] = [Encoding::from(Alibi::new()), Encoding::none()].map(|e| Call::new(&plan(e, dims), &at).unwrap());
    for batch in [1, 2] {
        let x = numbers(1, &[batch, 4, 6, 4]);
        let run = |call: &Call, mask: &Mask| call.attend(&Attention::default(), &x, &x, &x, mask, Mode::Evaluate).unwrap();
        let biased = run(&with, &Mask::none());
        assert!(apart(&biased, &run(&without, &Mask::none())) > 1e-2);
        // The bias as an additive mask, written out.
        let bias = with.bias(DType::F64, &Device::Cpu).unwrap();
        let added = run(&without, &Mask::none().additive(&bias).unwrap());
        // Scores below 4: a few roundings of 2⁻⁵³ each, and the weights are functions of them.
        assert!(apart(&biased, &added) < 1e-14);
    }
}

/// Tables with a row of their own for each batch row, and longer than the sequence: every batch row is turned by its own positions. (candle's `rope` from the second row on.)
#[test]
fn tables_of_three_axes_longer_than_the_sequence() {
    let ids = [0i64, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let (batch, len) = (2, 5);
    let per_row = Positions::whole_rows(&ids, batch).unwrap();
    assert_eq!((per_row.batch(), per_row.len()), (batch, len));
    let x = numbers(2, &[batch, 3, len, 8]);
    let turned = rotary(3, 8, &per_row).rotate(Side::Key, &x).unwrap();
    for b in 0..batch {
        let own = Positions::range(5 * b as i64..5 * b as i64 + 5);
        let alone = rotary(3, 8, &own).rotate(Side::Key, &x.narrow(0, b, 1).unwrap()).unwrap();
        assert_eq!(apart(&turned.narrow(0, b, 1).unwrap(), &alone), 0.0);
    }
    // A table of more tokens than the sequence has is an error, not another stride.
    assert!(rotary(3, 8, &Positions::range(0..9)).rotate(Side::Key, &x).is_err());
    let longer: Vec<i64> = (0..18).collect();
    assert!(
        rotary(3, 8, &Positions::whole_rows(&longer, 2).unwrap())
            .rotate(Side::Key, &x)
            .is_err()
    );
}

/// The gradient flows through a rotation. (candle's `rope`, `rope_i` and `rope_thd` drop it: candle#3568.)
#[test]
fn gradient_through_rotation() {
    let dims = Dims::new(8, 2).unwrap();
    for pairing in [Pairing::Halves, Pairing::Interleaved] {
        let call = Call::new(&plan(Rotary::new(pairing), dims), &Positions::range(0..3)).unwrap();
        let x = Var::from_tensor(&numbers(3, &[1, 2, 3, 4])).unwrap();
        assert_differences("rotation", &[&x], || weighed(&call.rotate(Side::Query, &x).unwrap()));
        // As `rope_thd` takes them.
        let x = Var::from_tensor(&numbers(3, &[1, 3, 2, 4])).unwrap();
        assert_differences("rotation of [batch, seq, heads, head_dim]", &[&x], || {
            weighed(&call.rotate(Side::Query, &x.transpose(1, 2).unwrap()).unwrap())
        });
    }
}

/// One token in each of several rows, each at its own position.
#[test]
fn one_token_with_a_batch() {
    let at = Positions::whole_rows(&[7, 0, 100], 3).unwrap();
    let x = numbers(4, &[3, 2, 1, 8]);
    let turned = rotary(2, 8, &at).rotate(Side::Query, &x).unwrap();
    for (b, id) in [7, 0, 100].into_iter().enumerate() {
        let alone = rotary(2, 8, &Positions::range(id..id + 1))
            .rotate(Side::Query, &x.narrow(0, b, 1).unwrap())
            .unwrap();
        assert_eq!(apart(&turned.narrow(0, b, 1).unwrap(), &alone), 0.0);
    }
    let key = Positions::range(0..4);
    let plan = plan(Alibi::new(), Dims::new(16, 2).unwrap());
    let call = Call::of(&plan, &posenc_candle::Parameters::NONE, &Positions::range(3..4), &key).unwrap();
    let kv = numbers(5, &[3, 2, 4, 8]);
    let out = call
        .attend(&Attention::default(), &x, &kv, &kv, &Mask::none().causal(3), Mode::Evaluate)
        .unwrap();
    for b in 0..3 {
        let [x, kv] = [&x, &kv].map(|t| t.narrow(0, b, 1).unwrap());
        let alone = call
            .attend(&Attention::default(), &x, &kv, &kv, &Mask::none().causal(3), Mode::Evaluate)
            .unwrap();
        assert_eq!(apart(&out.narrow(0, b, 1).unwrap(), &alone), 0.0);
    }
}

/// A view that is not contiguous gives what its copy gives. (candle's `rope` refuses it.)
#[test]
fn views_that_are_not_contiguous() {
    let call = rotary(3, 8, &Positions::range(0..5));
    let view = numbers(6, &[2, 5, 3, 8]).transpose(1, 2).unwrap();
    let copy = view.contiguous().unwrap();
    assert_eq!(
        apart(&call.rotate(Side::Query, &view).unwrap(), &call.rotate(Side::Query, &copy).unwrap()),
        0.0
    );
    let run = |x: &Tensor| call.attend(&Attention::default(), x, x, x, &Mask::none(), Mode::Evaluate).unwrap();
    assert_eq!(apart(&run(&view), &run(&copy)), 0.0);
}

/// Nothing is a batch too: an empty tensor comes back, forward and backward.
#[test]
fn zero_sized_batches() {
    let at = Positions::range(0..3);
    let call = rotary(2, 4, &at);
    let x = Var::from_tensor(&Tensor::zeros((0, 2, 3, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
    for call in [call.clone(), call.portable()] {
        assert_eq!(call.rotate(Side::Query, &x).unwrap().dims(), [0, 2, 3, 4]);
        let out = call
            .attend(&Attention::default(), &x, &x, &x, &Mask::none(), Mode::Evaluate)
            .unwrap();
        assert_eq!(out.dims(), [0, 2, 3, 4]);
    }
    call.rotate_in_place(Side::Query, &x.detach()).unwrap();
    let out = call
        .attend(
            &Attention::default(),
            &call.rotate(Side::Query, &x).unwrap(),
            &x,
            &x,
            &Mask::none(),
            Mode::Evaluate,
        )
        .unwrap();
    let grads = out.sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get(&x).unwrap().dims(), [0, 2, 3, 4]);
    let plan = plan(Learned::new(4), Dims::new(8, 2).unwrap());
    let vars = posenc_candle::init(&plan, 0, DType::F32, &Device::Cpu).unwrap();
    let embeddings = super::call(&plan, &vars, &at, &at).unwrap();
    let none = Tensor::zeros((0, 3, 8), DType::F32, &Device::Cpu).unwrap();
    let sum = embeddings.embed(&none, Mode::Evaluate).unwrap();
    assert_eq!(sum.dims(), [0, 3, 8]);
    let grads = sum.sum_all().unwrap().backward().unwrap();
    assert_eq!(
        apart(
            grads.get(&vars["pos_embedding.weight"]).unwrap(),
            &Tensor::zeros((4, 8), DType::F32, &Device::Cpu).unwrap()
        ),
        0.0
    );
    // No tokens at all.
    let none = rotary(2, 4, &Positions::range(0..0));
    let x = Tensor::zeros((2, 2, 0, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(none.rotate(Side::Query, &x).unwrap().dims(), [2, 2, 0, 4]);
}
