//! Biases, written out and one by one, and attention with its adjoint.

use super::bytes::Bytes;
use super::{Number, all_finite, poison, same, untouched};
use half::bf16;
use posenc::reference;
use posenc::{
    Alibi, Attends, Attention, Blocked, ClippedBias, Deberta, DebertaProjections, Dims, Direction, Encoding, Fire, Form, Grads, Inputs,
    Kerple, LogCpb, Mask, Mode, MusicTransformer, Outputs, Overflow, Pairing, Params, Positions, Real, Rotary, Sandwich, Saved, SharedBias,
    Shaw, Slopes, Slots, SwinBias, T5Bias, Temperature, TransformerXl, View, ViewMut, Window, Workspace, XlNet, alibi_bias, alibi_bloom,
    alibi_bloom_padded, alibi_mpt, clipped_bias, deberta_bucket, t5_bias, t5_bucket,
};

/// The positions of a row of the batch, as the references take them.
fn as_read(at: &Positions) -> Vec<Option<f64>> {
    (0..at.len()).map(|t| at.get(0, 0, t)).collect()
}

/// Positions below 2⁵², so that f64 tells the distances of any two apart. Past them a row of ALiBi in f64 can differ from its matrix by the last bit, which is open (docs/safety.md).
fn told_apart(at: &Positions) -> bool {
    let most = 2f64.powi(52);
    let ids = (0..at.batch()).flat_map(|b| (0..at.len()).filter_map(move |t| at.get(0, b, t)));
    ids.map(f64::abs).all(|p| p < most)
}

fn biased(bytes: &mut Bytes<'_>) -> Encoding {
    let (reach, direction) = (bytes.near(3), bytes.pick(&[Direction::KeyMinusQuery, Direction::QueryMinusKey]));
    match bytes.below(13) {
        0 => Alibi::new().into(),
        1 => Alibi::symmetric().with_slopes(Slopes::Mpt { bias_max: bytes.number() }).into(),
        2 => ClippedBias::new(reach, direction).into(),
        3 => SharedBias::new(reach).into(),
        4 => T5Bias::decoder().with_buckets(bytes.near(6), bytes.near(20)).into(),
        5 => Encoding::from(Alibi::new()).with(T5Bias::encoder().with_buckets(8, 20)),
        6 => Kerple::log().into(),
        7 => Kerple::power().into(),
        8 => Sandwich::new().into(),
        9 => Fire::new().with_length(bytes.number()).with_c(bytes.number()).into(),
        10 => SwinBias::new([bytes.near(3), bytes.near(3)]).into(),
        11 => LogCpb::new([bytes.near(3), bytes.near(3)]).with_hidden(bytes.near(5)).into(),
        _ => Encoding::from(Kerple::log()).with(Sandwich::new().with_width(bytes.near(8)).with_base(bytes.number())),
    }
}

pub fn bias<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    if bytes.rarely() {
        return one_by_one::<T>(bytes);
    }
    let heads = bytes.near(2);
    let encoding = biased(bytes);
    let (q_len, k_len) = (bytes.below(10), bytes.below(20));
    let q_at = bytes.positions(q_len);
    let k_at = if bytes.flag() { q_at.clone() } else { bytes.positions(k_len) };
    let Ok(plan) = Dims::new(heads.saturating_mul(4), heads).and_then(|dims| encoding.plan(dims)) else {
        return;
    };
    if plan.parameters().iter().any(|spec| spec.size() > 1 << 16) || heads > 64 {
        return;
    }
    let params: Params<T::Real> = plan.init(2).expect("few parameters");
    let Ok(call) = plan.call(&params, &q_at, &k_at) else { return };
    let batch = bytes.near(q_at.batch().max(k_at.batch()));
    let shape = [batch, bytes.near(heads), bytes.near(q_at.len()), bytes.near(k_at.len())];
    let (strides, size) = bytes.strides(shape, 2);
    let mut out = vec![T::Real::of(-77.0); size];
    let Ok(view) = ViewMut::strided(&mut out, shape, strides) else {
        return;
    };
    if call.materialise_bias(view).is_err() {
        assert!(out.iter().all(|x| x.to_f64() == -77.0), "a refused bias was written");
        return;
    }
    let Some(count) = super::bytes::count(shape).filter(|count| (1..=1 << 13).contains(count)) else {
        return;
    };
    let read = |i: usize| out[super::bytes::place(i, shape, strides).expect("inside")];
    assert!((0..count).all(|i| read(i).is_finite()), "{plan}");
    // One query alone has the same row, to the bit: a step of decoding.
    let query = bytes.below(shape[2]);
    if !told_apart(&q_at) || !told_apart(&k_at) {
        return;
    }
    let Ok(alone) = q_at.select(&[query]) else { return };
    let call = plan.call(&params, &alone, &k_at).expect("a part of what has an answer");
    let mut row = vec![T::Real::of(-77.0); batch * heads * shape[3]];
    call.materialise_bias(ViewMut::new(&mut row, [batch, heads, 1, shape[3]]).expect("its size"))
        .expect("as before");
    for (i, x) in row.iter().enumerate() {
        let (b, h, k) = (i / (heads * shape[3]), i / shape[3] % heads, i % shape[3]);
        let whole = read(((b * heads + h) * shape[2] + query) * shape[3] + k);
        assert!(x.to_f64() == whole.to_f64(), "{plan}: row {query} alone is {x:?}, not {whole:?}");
    }
}

fn one_by_one<T: Number>(bytes: &mut Bytes<'_>) {
    let (q_len, k_len) = (bytes.below(8), bytes.below(8));
    let (q_at, k_at) = (bytes.positions(q_len), bytes.positions(k_len));
    let heads = bytes.near(2);
    let shape = [bytes.near(heads), bytes.near(q_at.len()), bytes.near(k_at.len())];
    let Some(size) = super::bytes::count([shape[0], shape[1], shape[2], 1]).filter(|size| *size <= 1 << 14) else {
        return;
    };
    let poisoned = T::Real::of(-77.0);
    let mut out = vec![poisoned; size];
    let check = |what: &str, result: posenc::Result<()>, out: &[T::Real]| match result {
        Ok(()) => assert!(out.iter().all(|x| x.is_finite()), "{what} is not finite"),
        Err(_) => assert!(out.iter().all(|x| x.to_f64() == -77.0), "{what} wrote before it refused"),
    };
    let (rows, max_distance) = (bytes.near(7), bytes.near(20));
    let table: Vec<T::Real> = (0..rows.saturating_mul(heads).min(1 << 12))
        .map(|i| T::Real::of(i as f64 / 8.0))
        .collect();
    match bytes.below(6) {
        0 => {
            let alibi = Alibi {
                form: bytes.pick(&[Form::Causal, Form::Symmetric]),
                ..Alibi::new()
            };
            let result = alibi_bias(&alibi, &q_at, &k_at, ViewMut::new(&mut out, shape).expect("its size"));
            // The definition takes positions as f64; ours takes distances of any.
            if result.is_ok() && size > 0 && told_apart(&q_at) && told_apart(&k_at) {
                let slopes = reference::alibi::slopes(shape[0]);
                let expected = reference::alibi::bias(&slopes, alibi.form == Form::Symmetric, &as_read(&q_at), &as_read(&k_at));
                for (got, expected) in out.iter().zip(expected) {
                    // The slope, the distance and their product are rounded once each; below the normal numbers of f32 the last two by up to half of the smallest, 2⁻¹⁴⁹, and
                    // slopes are at most 1. What is past the type is its largest number.
                    let bound = 2.0 * expected.abs() * f64::from(f32::EPSILON) + f64::from(f32::from_bits(1));
                    let far = expected.abs() >= T::Real::MAX.to_f64() * 1e-3;
                    assert!((got.to_f64() - expected).abs() <= bound || far, "{got:?} is not {expected}");
                }
            }
            check("alibi", result, &out);
        }
        1 => {
            let Ok(table) = View::new(&table, [rows, heads]) else { return };
            let direction = bytes.pick(&[Direction::KeyMinusQuery, Direction::QueryMinusKey]);
            let result = clipped_bias(table, direction, &q_at, &k_at, ViewMut::new(&mut out, shape).expect("its size"));
            check("a clipped bias", result, &out);
        }
        2 => {
            let Ok(table) = View::new(&table, [rows, heads]) else { return };
            let t5 = if bytes.flag() { T5Bias::decoder() } else { T5Bias::encoder() }.with_buckets(bytes.near(rows), max_distance);
            let result = t5_bias(&t5, table, &q_at, &k_at, ViewMut::new(&mut out, shape).expect("its size"));
            check("t5's bias", result, &out);
        }
        3 => {
            let (id, buckets, bidirectional) = (bytes.id(), bytes.length(), bytes.flag());
            if let Ok(bucket) = t5_bucket(id, bidirectional, buckets, max_distance) {
                assert!(bucket < buckets);
            }
            if let Ok(bucket) = deberta_bucket(id, buckets, max_distance) {
                assert_eq!(bucket.signum(), id.signum());
            }
        }
        4 => {
            let flags: Vec<bool> = (0..q_len * k_len).map(|_| bytes.flag()).collect();
            let (rows, keys) = (bytes.near(2 * q_len), bytes.near(k_len));
            let mut out = vec![poison::<bf16>(); rows.saturating_mul(keys).min(1 << 13)];
            let (Ok(is_token), Ok(view)) = (
                View::new(&flags, [q_len, k_len]),
                ViewMut::new(&mut out, [rows, bytes.near(1), keys]),
            ) else {
                return;
            };
            match alibi_bloom_padded(is_token, view) {
                Ok(()) => assert!(all_finite(&out)),
                Err(_) => untouched("a refused tensor", &out),
            }
        }
        _ => {
            let mut out = vec![poison::<T>(); size];
            let view = ViewMut::new(&mut out, shape).expect("its size");
            let result = if bytes.flag() {
                alibi_bloom(view)
            } else {
                alibi_mpt(bytes.number(), view)
            };
            if result.is_err() {
                untouched("a refused tensor", &out);
            }
        }
    }
}

fn attending(bytes: &mut Bytes<'_>) -> Encoding {
    let overflow = bytes.pick(&[Overflow::Error, Overflow::Clamp]);
    match bytes.below(12) {
        0 | 1 => Encoding::none(),
        2 => Rotary::new(Pairing::Halves).into(),
        3 => Rotary::new(Pairing::InterleavedToHalves).with_rotary_dim(2).into(),
        4 => Shaw::new(bytes.near(2)).into(),
        5 => MusicTransformer::new(bytes.near(9)).with_overflow(overflow).into(),
        6 => TransformerXl::paper().into(),
        7 => XlNet::new().into(),
        8 => Deberta::new(bytes.near(3), DebertaProjections::V2).into(),
        _ => Encoding::from(Rotary::new(Pairing::Interleaved)).with_all(biased(bytes)),
    }
}

trait WithAll {
    fn with_all(self, other: Encoding) -> Encoding;
}

impl WithAll for Encoding {
    fn with_all(self, other: Encoding) -> Encoding {
        other.methods.into_iter().fold(self, Encoding::with)
    }
}

fn setting(bytes: &mut Bytes<'_>) -> Attention {
    let mut attention = Attention::default();
    if bytes.rarely() {
        attention.scale = Some(bytes.number());
    }
    if bytes.rarely() {
        attention.softcap = Some(bytes.number());
    }
    if bytes.below(4) == 0 {
        attention.window = Some(Window {
            left: bytes.flag().then(|| bytes.near(2)),
            right: bytes.flag().then(|| bytes.near(1)),
        });
    }
    if bytes.rarely() {
        attention.chunk = Some(bytes.near(3));
    }
    if bytes.rarely() {
        attention.dropout = bytes.pick(&[0.5, 0.999_999, 1.0]);
    }
    if bytes.rarely() {
        attention.temperature = Some(Temperature::llama4(bytes.number(), bytes.number()));
    }
    attention.sinks = bytes.rarely();
    attention
}

pub fn attend<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let dims = Dims {
        model_dim: 8,
        heads: 2,
        kv_heads: bytes.pick(&[1, 2]),
        head_dim: 4,
    };
    let (encoding, attention) = (attending(bytes), setting(bytes));
    let (q_len, k_len) = (bytes.below(8), bytes.below(20));
    let q_at = bytes.positions(q_len);
    let k_at = bytes.positions(k_len);
    let Ok(plan) = encoding.plan(dims) else { return };
    if plan.parameters().iter().any(|spec| spec.size() > 1 << 16) {
        return;
    }
    let params: Params<T::Real> = plan.init(3).expect("few parameters");
    let Ok(bare) = plan.call(&params, &q_at, &k_at) else { return };
    let tables: Params<T::Real> = Params::init(&bare.table_specs(), 4).expect("few rows");
    let Ok(call) = bare.with_tables(&tables) else { return };
    let batch = {
        let rows = if bytes.flag() { q_at.batch().max(k_at.batch()) } else { 1 };
        bytes.near(rows)
    };
    let value_dim = {
        let width = bytes.pick(&[4, 4, 3]);
        bytes.near(width)
    };
    let finite = !bytes.rarely();
    let tensor = |bytes: &mut Bytes<'_>, shape: [usize; 4]| {
        let (strides, size) = bytes.strides(shape, 1);
        (bytes.storage::<T>(size, shape, strides, finite), shape, strides)
    };
    let (heads, kv_heads) = (bytes.near(2), bytes.near(dims.kv_heads));
    let (q_rows, k_rows) = (bytes.near(q_at.len()), bytes.near(k_at.len()));
    // Many keys cost time and show nothing, unless they are too many.
    if (1 << 10..=Positions::LONGEST).contains(&k_rows) || (1 << 10..=Positions::LONGEST).contains(&q_rows) {
        return;
    }
    let [q_dim, k_dim] = [bytes.near(4), bytes.near(4)];
    let (q, k, v) = (
        tensor(bytes, [batch, heads, q_rows, q_dim]),
        tensor(bytes, [batch, kv_heads, k_rows, k_dim]),
        tensor(bytes, [batch, kv_heads, k_rows, value_dim]),
    );
    let (Ok(q), Ok(k), Ok(v)) = (
        View::strided(&q.0, q.1, q.2),
        View::strided(&k.0, k.1, k.2),
        View::strided(&v.0, v.1, v.2),
    ) else {
        return;
    };
    let sinks: Vec<T> = bytes.numbers(2, true);
    let mut inputs = Inputs::new(q, k, v);
    if attention.sinks != bytes.rarely() {
        inputs = inputs.with_sinks(&sinks);
    }
    let flags: Vec<bool> = (0..k_rows.min(1 << 10)).map(|_| bytes.flag()).collect();
    let added: Vec<T::Real> = (0..k_rows.min(1 << 10)).map(|_| T::Real::of(bytes.plain())).collect();
    let firsts: Vec<usize> = (0..bytes.near(batch).min(9)).map(|_| bytes.about(20)).collect();
    let mut mask: Mask<'_, T::Real> = Mask::none();
    if bytes.flag() {
        mask = mask.causal(bytes.about(20));
    }
    if bytes.rarely() {
        mask = mask.causal_rows(&firsts);
    }
    if bytes.below(3) == 0
        && let Ok(flags) = View::new(&flags, [1, 1, 1, k_rows])
    {
        mask = if bytes.flag() {
            mask.attends(Attends(flags))
        } else {
            mask.blocked(Blocked(flags))
        };
    }
    if bytes.below(3) == 0
        && let Ok(added) = View::new(&added, [1, 1, 1, k_rows])
    {
        mask = mask.additive(added);
    }
    let mode = bytes.pick(&[Mode::Evaluate, Mode::Train { seed: 1, call: 2 }]);
    let out_shape = [batch, bytes.near(2), bytes.near(q_rows), bytes.near(value_dim)];
    let Some(size) = super::bytes::count(out_shape).filter(|size| *size <= 1 << 14) else {
        return;
    };
    let weights_size = size.min(1 << 10) / value_dim.clamp(1, 8) * k_rows.min(64);
    let mut out = vec![poison::<T>(); size];
    let mut weights = vec![poison::<T>(); weights_size];
    let wants_weights = bytes.flag();
    let (mut saved, mut work) = (Saved::default(), Workspace::default());
    let weights_view = ViewMut::new(&mut weights, [out_shape[0], out_shape[1], out_shape[2], k_rows]).ok();
    let outputs = Outputs {
        out: ViewMut::new(&mut out, out_shape).expect("its size"),
        saved: Some(&mut saved),
        weights: weights_view.filter(|_| wants_weights),
    };
    if attention.forward(&call, inputs, &mask, mode, outputs, &mut work).is_err() {
        untouched("refused attention", &out);
        untouched("refused attention's weights", &weights);
        return;
    }
    assert!(!finite || all_finite(&out), "{plan}: {out:?}");
    // The same without the weights, and with the same memory.
    let mut again = vec![poison::<T>(); size];
    let outputs = Outputs {
        out: ViewMut::new(&mut again, out_shape).expect("its size"),
        saved: Some(&mut saved),
        weights: None,
    };
    attention
        .forward(&call, inputs, &mask, mode, outputs, &mut work)
        .expect("as before");
    if !wants_weights {
        same("attention again", &again, &out);
    }
    let (Some(k_size), Some(v_size), Some(q_size)) = (
        super::bytes::count(k.shape()).filter(|size| *size <= 1 << 14),
        super::bytes::count(v.shape()).filter(|size| *size <= 1 << 14),
        super::bytes::count(q.shape()).filter(|size| *size <= 1 << 14),
    ) else {
        return;
    };
    let (mut dq, mut dk, mut dv) = (
        vec![poison::<T>(); q_size],
        vec![poison::<T>(); k_size],
        vec![poison::<T>(); v_size],
    );
    let d_out: Vec<T> = bytes.numbers(size, true);
    let grads = Grads {
        dq: ViewMut::new(&mut dq, q.shape()).expect("its size"),
        dk: ViewMut::new(&mut dk, k.shape()).expect("its size"),
        dv: ViewMut::new(&mut dv, v.shape()).expect("its size"),
    };
    let mut slots = Slots::default();
    let (o, d_o) = (
        View::new(&again, out_shape).expect("its size"),
        View::new(&d_out, out_shape).expect("its size"),
    );
    attention
        .adjoint(&call, inputs, &mask, mode, o, d_o, &saved, grads, &mut slots, &mut work)
        .expect("what the forward pass took");
    // A scale is a factor of the gradients: one that is huge takes them past what their type holds.
    let moderate = attention.scale.is_none_or(|scale| scale <= 1e3);
    assert!(
        !finite || !moderate || all_finite(&dq) && all_finite(&dk) && all_finite(&dv),
        "{plan}: a gradient of finite numbers is not finite"
    );
    let (mut grads, mut d_tables) = (params.zeros_like(), tables.zeros_like());
    call.adjoint_with_tables(&slots, &mut grads, &mut d_tables).expect("its own slots");
}
