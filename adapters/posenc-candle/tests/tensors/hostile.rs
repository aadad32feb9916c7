//! Tensors that no model has: any shape, type and strides, through every operation, forward and back. Each gives a result or an error that names what was given; nothing panics, and what is given back is
//! what tensor operations give.

use super::{half_ulp, numbers};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{
    Alibi, Attention, Dims, Encoding, InputTable, Learned, Mode, Overflow, Pairing, Positions, Rng, Rotary, Shaw, Side, Sinusoidal, Site,
    T5Bias, Window,
};
use posenc_candle::{Call, Error, Mask, Parameters, RotaryEmbedding, init};

const TYPES: [DType; 6] = [DType::F32, DType::F64, DType::F16, DType::BF16, DType::U8, DType::I64];

struct Any(Rng);

impl Any {
    fn below(&mut self, n: usize) -> usize {
        (self.0.bits() % n as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Mostly the shape that fits, in any storage order; sometimes another.
    fn tensor(&mut self, fits: &[usize]) -> Tensor {
        let mut shape = fits.to_vec();
        if self.below(4) == 0 {
            let axis = self.below(shape.len());
            shape[axis] = self.one(&[0, 1, 2, 3, 7]);
        }
        match self.below(20) {
            0 => shape.push(2),
            1 => drop(shape.pop()),
            _ => {}
        }
        let dtype = if self.below(4) == 0 { self.one(&TYPES) } else { DType::F32 };
        let seed = self.below(100);
        let made = |shape: &[usize]| numbers(seed, shape).to_dtype(dtype).unwrap();
        let rank = shape.len();
        match self.below(6) {
            // Axes in another order.
            0 if rank >= 2 => {
                let (a, b) = (self.below(rank), self.below(rank));
                let mut stored = shape.clone();
                stored.swap(a, b);
                made(&stored).transpose(a, b).unwrap()
            }
            // A part of something longer.
            1 if rank >= 1 => {
                let axis = self.below(rank);
                let mut stored = shape.clone();
                stored[axis] += 3;
                made(&stored).narrow(axis, 2, shape[axis]).unwrap()
            }
            // The same memory again and again.
            2 if rank >= 1 => {
                let axis = self.below(rank);
                let mut stored = shape.clone();
                stored[axis] = 1;
                made(&stored).broadcast_as(shape).unwrap()
            }
            _ => made(&shape),
        }
    }

    fn positions(&mut self, batch: usize, len: usize) -> Positions {
        match self.below(4) {
            0 => Positions::absent(len),
            1 => {
                let ids: Vec<i64> = (0..batch * len).map(|_| self.one(&[0, 1, 5, 100, 1 << 40])).collect();
                Positions::whole_rows(&ids, batch).unwrap_or(Positions::absent(len))
            }
            2 => {
                let present: Vec<bool> = (0..batch * len).map(|_| self.flag()).collect();
                Positions::from_padding(&present, batch).unwrap_or(Positions::absent(len))
            }
            _ => Positions::range(3..3 + len as i64),
        }
    }

    fn mask(&mut self, [batch, heads, q_len, k_len]: [usize; 4]) -> Option<Mask> {
        let mut mask = Mask::none();
        if self.flag() {
            mask = mask.causal(self.one(&[0, 2, usize::MAX]));
        }
        if self.below(3) == 0 {
            let shape = [self.one(&[1, batch]), self.one(&[1, heads]), self.one(&[1, q_len]), k_len];
            let x = self.tensor(&shape);
            mask = if self.flag() { mask.additive(&x) } else { mask.attends(&x) }.ok()?;
        }
        Some(mask)
    }
}

fn values(x: &Tensor) -> Vec<f64> {
    if x.elem_count() == 0 {
        return Vec::new();
    }
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Has a text, which is about what was given.
fn said(error: &Error) {
    assert!(error.to_string().len() > 10, "{error:?}");
}

#[test]
fn nothing_panics_and_what_is_answered_is_right() {
    let encodings: Vec<Encoding> = vec![
        Encoding::none(),
        Rotary::new(Pairing::Halves).into(),
        Rotary::new(Pairing::Interleaved).with_rotary_dim(2).into(),
        Alibi::new().into(),
        T5Bias::decoder().into(),
        Shaw::new(2).into(),
        InputTable::new(8).into(),
        Learned::new(8).into(),
        Learned::new(8).with_overflow(Overflow::Clamp).with_dropout(0.5).into(),
        Sinusoidal::paper().into(),
        Encoding::from(Rotary::new(Pairing::Halves)).with(Alibi::new()),
    ];
    let (mut answered, mut refused) = (0, 0);
    for seed in 0..20000 {
        let mut any = Any(Rng::new(seed));
        let dims = Dims {
            model_dim: 8,
            heads: 4,
            kv_heads: any.one(&[1, 2, 4]),
            head_dim: 4,
        };
        let plan = any.one(&encodings).plan(dims).unwrap();
        let (batch, q_len, k_len) = (any.one(&[0, 1, 2]), any.one(&[0, 1, 3, 5]), any.one(&[0, 1, 5]));
        let vars = init(&plan, 3, any.one(&TYPES[..4]), &Device::Cpu).unwrap();
        let (q_at, k_at) = (any.positions(batch, q_len), any.positions(batch, k_len));
        let parameters = if any.below(8) == 0 {
            Parameters::NONE
        } else {
            Parameters::by_name(&plan, &vars).unwrap()
        };
        let call = match Call::of(&plan, &parameters, &q_at, &k_at) {
            Ok(call) => call,
            Err(error) => {
                said(&error);
                refused += 1;
                continue;
            }
        };
        let mode = if any.flag() {
            Mode::Evaluate
        } else {
            Mode::Train { seed, call: 1 }
        };
        let attention = Attention {
            softcap: any.one(&[None, Some(2.0), Some(-1.0)]),
            window: any.one(&[None, Window::last(2).ok()]),
            sinks: any.below(6) == 0,
            dropout: any.one(&[0.0, 0.0, 0.4, 7.0]),
            ..Attention::default()
        };
        let wide = any.tensor(&[batch, q_len, 8]);
        let heads = any.tensor(&[batch, 4, q_len, 4]);
        let [k, v] = [4, 3].map(|width| any.tensor(&[batch, dims.kv_heads, k_len, width]));
        let mask = any.mask([batch, 4, q_len, k_len]).unwrap_or_default();
        let dtype = any.one(&TYPES);
        let sinks = any.tensor(&[4]);
        type Operation<'o> = Box<dyn Fn(&Call) -> posenc_candle::Result<Tensor> + 'o>;
        let operations: [(&str, &Tensor, Operation<'_>); 7] = [
            ("rotate", &heads, Box::new(|call| call.rotate(Side::Query, &heads))),
            ("embed", &wide, Box::new(|call| call.embed(&wide, mode))),
            ("add", &wide, Box::new(|call| call.add(Site::QueryInput, &wide, mode))),
            ("add to heads", &heads, Box::new(|call| call.add(Site::Query, &heads, mode))),
            ("bias", &heads, Box::new(|call| call.bias(dtype, &Device::Cpu))),
            (
                "attend",
                &heads,
                Box::new(|call| call.attend(&attention, &heads, &k, &v, &mask, mode)),
            ),
            (
                "attend with sinks",
                &heads,
                Box::new(|call| call.with_sinks(&sinks).attend(&attention, &heads, &k, &v, &mask, mode)),
            ),
        ];
        for (name, given, operation) in &operations {
            let what = || {
                format!(
                    "seed {seed}: {name} of {:?} {:?}, {call:?}, {attention:?}, {mask:?}",
                    given.shape(),
                    given.dtype()
                )
            };
            match (operation(&call), operation(&call.portable())) {
                (Ok(ours), Ok(theirs)) => {
                    answered += 1;
                    // A hundred roundings each in the arithmetic, of numbers ten times as large, then one in the type of the tensor. What nothing is done to may be of any type.
                    let (wide, stored) = match ours.dtype() {
                        dtype @ (DType::F32 | DType::F64) => (half_ulp(dtype), 0.0),
                        dtype if dtype.is_float() => (half_ulp(DType::F32), half_ulp(dtype)),
                        _ => (0.0, 0.0),
                    };
                    assert_eq!(ours.dims(), theirs.dims(), "{}", what());
                    for (a, b) in values(&ours).into_iter().zip(values(&theirs)) {
                        // A bias far below what half precision holds is −∞ either way.
                        let bound = 1000.0 * wide * a.abs().max(1.0) + 2.0 * stored * a.abs().max(2f64.powi(-14));
                        assert!(a == b || (a - b).abs() <= bound, "{}: {a} by kernels, {b} by operations", what());
                    }
                }
                (Err(error), Err(_)) => {
                    refused += 1;
                    said(&error);
                }
                // Kernels read where tensors lie, and a last axis with gaps they refuse; operations on other devices copy.
                (Err(Error::Strided { .. }), Ok(_)) => refused += 1,
                // Of nothing, either may have more to say.
                (Ok(empty), Err(_)) | (Err(_), Ok(empty)) if empty.elem_count() == 0 => refused += 1,
                (ours, theirs) => panic!("{}: {ours:?} by kernels, {theirs:?} by operations", what()),
            }
        }
        drop(operations);
        // In place, and back through the graph.
        match (call.rotate_in_place(Side::Key, &k), any.flag()) {
            (Err(error), _) => said(&error),
            (Ok(()), false) => {}
            (Ok(()), true) => {
                let k = Var::from_tensor(&k.detach()).unwrap();
                if let Ok(out) = call.rotate(Side::Key, &k) {
                    let d = any.tensor(out.dims());
                    match (&out * &d).and_then(|x| x.sum_all()).and_then(|x| x.backward()) {
                        Ok(grads) if k.dtype().is_float() => {
                            let grad = grads.get(&k).unwrap_or_else(|| panic!("seed {seed}: no gradient of {k:?}"));
                            assert_eq!(grad.dims(), k.dims());
                        }
                        Ok(_) => {}
                        Err(error) => assert!(error.to_string().len() > 10),
                    }
                }
            }
        }
    }
    assert!(answered > 15000 && refused > 15000, "{answered} answered, {refused} refused");
}

#[test]
fn biases_that_memory_does_not_hold_are_errors() {
    let plan = Encoding::from(Alibi::new()).plan(Dims::new(8, 2).unwrap()).unwrap();
    let call = Call::new(&plan, &Positions::range(0..1 << 24)).unwrap();
    let error = call.bias(DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("[1, 2, 16777216, 16777216]") && error.contains("memory"), "{error}");
}

/// What is shared between threads, and copied with a model.
#[test]
fn all_of_it_is_send_and_sync() {
    fn is<T: Send + Sync + Clone>() {}
    is::<Call>();
    is::<Mask>();
    is::<Parameters>();
    is::<RotaryEmbedding>();
    #[cfg(feature = "nn")]
    is::<posenc_candle::nn::MultiheadAttention>();
    #[cfg(feature = "nn")]
    is::<posenc_candle::nn::Encoded>();
}

/// Jobs of one pool that ask for different positions, whose tables are filled by the same pool.
#[test]
fn one_rotation_serves_the_jobs_of_a_pool() {
    use rayon::prelude::*;
    let rotary = RotaryEmbedding::new(&Rotary::new(Pairing::Halves), 64).unwrap();
    let x = Tensor::ones((1, 1, 2048, 64), DType::F32, &Device::Cpu).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let turned: Vec<f32> = pool.install(|| {
        let each = (0..16usize).into_par_iter().map(|i| {
            let (q, _) = rotary.apply(&x, &x, i * 2048).unwrap();
            q.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
        });
        each.collect()
    });
    for (i, turned) in turned.into_iter().enumerate() {
        // cos − sin of the first token's angle, rounded to f32.
        let angle = (i * 2048) as f64;
        assert!((f64::from(turned) - (angle.cos() - angle.sin())).abs() < 3e-7, "{i}");
    }
}

#[test]
fn offsets_past_all_numbers_are_refused() {
    let rotary = RotaryEmbedding::new(&Rotary::new(Pairing::Halves), 4).unwrap();
    let x = Tensor::zeros((1, 2, 3, 4), DType::F32, &Device::Cpu).unwrap();
    for offset in [usize::MAX, i64::MAX as usize, i64::MAX as usize - 1] {
        let error = rotary.apply(&x, &x, offset).unwrap_err();
        said(&error);
    }
    assert!(rotary.apply(&x, &x.narrow(2, 0, 2).unwrap(), 0).is_err());
    assert!(rotary.apply(&x.narrow(3, 0, 2).unwrap(), &x, 0).is_err());
    assert!(rotary.apply(&x.squeeze(0).unwrap(), &x, 0).is_err());
}
