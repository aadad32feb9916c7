//! The laws of `posenc::laws` for every encoding, through the modules: embeddings, sites, projections, projected tables and attention are candle's graph, and so are the gradients.

use super::{apart, assert_differences, numbers, weighed};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use posenc::positions::Documents;
use posenc::rotate::{Axes, Scaling, Slice, XPos, Yarn};
use posenc::{
    Alibi, Attention, ClippedBias, Deberta, DebertaProjections, Dims, Direction, Encoding, Fire, InputTable, Kerple, LayerSpec, Learned,
    LogCpb, Mode, MusicTransformer, Overflow, Pairing, Positions, Rotary, Sandwich, SharedBias, Shaw, SinusoidLayout, Sinusoidal, SwinBias,
    T5Bias, Temperature, TransformerXl, Window, XlNet,
};
use posenc_candle::nn::{MultiheadAttention, Projections};
use posenc_candle::{Call, Mask};

/// Four query heads of 4 coordinates over two key heads.
fn dims() -> Dims {
    Dims {
        model_dim: 6,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
    }
}

fn layer(encoding: impl Into<Encoding>) -> LayerSpec {
    LayerSpec {
        encoding: encoding.into(),
        attention: Attention::default(),
    }
}

/// A layer with weights that nothing about it is zero in.
struct Layer {
    module: MultiheadAttention,
    weights: VarMap,
    dtype: DType,
}

impl Layer {
    fn new(spec: &LayerSpec, dtype: DType) -> Layer {
        let weights = VarMap::new();
        let vb = VarBuilder::from_varmap(&weights, dtype, &Device::Cpu);
        let module = MultiheadAttention::load(spec, dims(), Projections::LLAMA, true, vb).unwrap();
        let specs = module.encoded().plan().parameters();
        for (i, (name, var)) in sorted(&weights).into_iter().enumerate() {
            let moved = ((numbers(i, var.dims()) * 0.6).unwrap() + 0.0131).unwrap();
            let moved = match specs.iter().find(|spec| spec.name == name).and_then(|spec| spec.range) {
                Some([low, high]) => moved.clamp(low + 0.01, high - 0.01).unwrap(),
                None => moved,
            };
            var.set(&moved.to_dtype(dtype).unwrap()).unwrap();
        }
        Layer { module, weights, dtype }
    }

    fn x(&self, seed: usize, batch: usize, len: usize) -> Tensor {
        numbers(seed, &[batch, len, dims().model_dim]).to_dtype(self.dtype).unwrap()
    }

    /// Queries of the tokens of one stream over those of another, each embedded where it stands.
    fn pass(&self, [q, k]: [&Tensor; 2], [q_at, k_at]: [&Positions; 2], mask: &Mask, mode: Mode) -> Tensor {
        let encoded = self.module.encoded();
        let embedded = |x: &Tensor, at| encoded.at(at).unwrap().embed(x, mode).unwrap();
        let call = encoded.call(q_at, k_at).unwrap();
        let (q, k) = (embedded(q, q_at), embedded(k, k_at));
        self.module.forward(&q, &k, &k, &call, mask, mode).unwrap()
    }

    fn forward(&self, x: &Tensor, at: &Positions, mask: &Mask) -> Tensor {
        self.pass([x, x], [at, at], mask, Mode::Evaluate)
    }

    /// Output and all gradients.
    fn both(&self, x: &Tensor, at: &Positions, mask: &Mask) -> Vec<Tensor> {
        let x = Var::from_tensor(x).unwrap();
        let out = self.forward(&x, at, mask);
        let grads = weighed(&out).backward().unwrap();
        let vars = sorted(&self.weights).into_iter().map(|(_, var)| var).chain([x]);
        let grads = vars.map(|var| grads.get(&var).unwrap().clone());
        [out].into_iter().chain(grads).collect()
    }
}

fn sorted(weights: &VarMap) -> Vec<(String, Var)> {
    let mut vars: Vec<(String, Var)> = weights
        .data()
        .lock()
        .unwrap()
        .iter()
        .map(|(name, var)| (name.clone(), var.clone()))
        .collect();
    vars.sort_by(|a, b| a.0.cmp(&b.0));
    vars
}

/// Numbers of size 1 in f64 after some hundred roundings each, softmax and two products: 2⁻⁵³ · 10⁴ covers them ten times over.
const CLOSE: f64 = 1e-11;

fn rows(x: &Tensor, from: usize, count: usize) -> Tensor {
    x.narrow(1, from, count).unwrap()
}

/// candle's gradients of a loss are its differences: causal, with a row that attends to nothing, and with an additive mask in training.
fn gradients_match_differences(spec: &LayerSpec) {
    let (batch, len) = (2, 5);
    let layer = Layer::new(spec, DType::F64);
    let x = Var::from_tensor(&layer.x(1, batch, len)).unwrap();
    let vars: Vec<Var> = sorted(&layer.weights).into_iter().map(|(_, var)| var).chain([x.clone()]).collect();
    // Row 3 of batch row 1 attends to nothing.
    let allowed = (0..batch * len * len)
        .map(|i| u8::from(i / len != len + 3 && i * 7 % 5 != 1))
        .collect();
    let allowed = Tensor::from_vec(allowed, (batch, 1, len, len), &Device::Cpu).unwrap();
    let additive = numbers(3, &[1, dims().heads, len, len]);
    let at = Positions::range(0..len as i64);
    for (mask, mode) in [
        (Mask::none().causal(0), Mode::Evaluate),
        (Mask::none().attends(&allowed).unwrap(), Mode::Evaluate),
        (
            Mask::none().causal(0).additive(&additive).unwrap(),
            Mode::Train { seed: 5, call: 6 },
        ),
    ] {
        let what = format!("{:?}, {mask:?}", layer.module.encoded());
        assert_differences(&what, &vars.iter().collect::<Vec<_>>(), || {
            weighed(&layer.pass([&x, &x], [&at, &at], &mask, mode))
        });
    }
}

/// What the kernels compute, candle's own operations compute, in f64 and f32, at lengths around the tiles' edges.
fn fused_equals_written_out(spec: &LayerSpec) {
    for (dtype, unit) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let layer = Layer::new(spec, dtype);
        for len in [1, 2, 17, 65, 130] {
            let at = Positions::range(0..len as i64);
            let Ok(call) = layer.module.encoded().at(&at) else {
                continue; // A table that is shorter.
            };
            let x = layer.x(4, 2, len);
            let run = |call: &Call| {
                let x = call.embed(&x, Mode::Evaluate).unwrap();
                layer
                    .module
                    .forward(&x, &x, &x, call, &Mask::none().causal(0), Mode::Evaluate)
                    .unwrap()
            };
            let (ours, by_operations) = (run(&call), run(&call.portable()));
            // Scores are sums of 4 products of numbers below 8, of as many again for a term, and a bias below 50: 150 in size, each rounded ten times; a weight doubles that, and sums of `len` of them and
            // 16 outputs are rounded as often.
            let bound = unit / 2.0 * (2.0 * 150.0 * 10.0 + len as f64 + 32.0) * 8.0;
            assert!(
                apart(&ours, &by_operations) <= bound,
                "{call:?}, {dtype:?}: {}",
                apart(&ours, &by_operations)
            );
        }
    }
}

/// A token at a time over the tokens before it gives the rows of the whole pass.
fn prefill_equals_decoding(spec: &LayerSpec) {
    let len = 9;
    let layer = Layer::new(spec, DType::F64);
    let x = layer.x(2, 2, len);
    let whole = layer.forward(&x, &Positions::range(0..len as i64), &Mask::none().causal(0));
    for t in 0..len {
        let (at, past) = (Positions::range(t as i64..t as i64 + 1), Positions::range(0..t as i64 + 1));
        let streams = [&rows(&x, t, 1), &rows(&x, 0, t + 1)];
        let step = layer.pass(streams, [&at, &past], &Mask::none().causal(t), Mode::Evaluate);
        assert!(
            apart(&step, &rows(&whole, t, 1)) <= CLOSE,
            "{:?}, token {t}",
            layer.module.encoded()
        );
    }
}

/// Documents in one row are what each is alone.
fn packed_equals_alone(spec: &LayerSpec) {
    let lengths = [5usize, 1, 6];
    let layer = Layer::new(spec, DType::F64);
    let x = layer.x(2, 1, lengths.iter().sum());
    let documents = Documents::from_lengths(&lengths).unwrap();
    let at = documents.positions();
    let packed = layer.forward(&x, &at, &Mask::none().causal(0).documents(documents));
    let mut start = 0;
    for n in lengths {
        let alone = layer.forward(&rows(&x, start, n), &Positions::range(0..n as i64), &Mask::none().causal(0));
        assert!(apart(&rows(&packed, start, n), &alone) <= CLOSE, "{:?}", layer.module.encoded());
        start += n;
    }
}

/// Padding before a row, blocked and without positions, changes nothing.
fn left_padded_equals_unpadded(spec: &LayerSpec) {
    let (pad, n) = (3, 6);
    let layer = Layer::new(spec, DType::F64);
    let x = layer.x(2, 1, pad + n);
    let is_token: Vec<bool> = (0..pad + n).map(|t| t >= pad).collect();
    let attends = Tensor::from_vec(is_token.iter().map(|x| u8::from(*x)).collect(), (1, 1, 1, pad + n), &Device::Cpu).unwrap();
    let mask = Mask::none().causal(0).attends(&attends).unwrap();
    let padded = layer.forward(&x, &Positions::from_padding(&is_token, 1).unwrap(), &mask);
    let alone = layer.forward(&rows(&x, pad, n), &Positions::range(0..n as i64), &Mask::none().causal(0));
    assert!(apart(&rows(&padded, pad, n), &alone) <= CLOSE, "{:?}", layer.module.encoded());
}

/// Rows of the batch do not see each other, bit for bit.
fn batch_order_is_irrelevant(spec: &LayerSpec) {
    let layer = Layer::new(spec, DType::F32);
    let (a, b) = (layer.x(2, 1, 7), layer.x(3, 1, 7));
    let run = |first: &Tensor, second: &Tensor| {
        let x = Tensor::cat(&[first, second], 0).unwrap();
        let out = layer.forward(&x, &Positions::range(0..7), &Mask::none().causal(0));
        [0, 1].map(|row| out.narrow(0, row, 1).unwrap())
    };
    let ([a1, b1], [b2, a2]) = (run(&a, &b), run(&b, &a));
    assert_eq!((apart(&a1, &a2), apart(&b1, &b2)), (0.0, 0.0));
}

/// Positions written as ids are those of a range, forward and back.
fn ids_equal_ranges(spec: &LayerSpec) {
    let layer = Layer::new(spec, DType::F64);
    let x = layer.x(2, 2, 9);
    let run = |at| layer.both(&x, &at, &Mask::none().causal(0));
    let ids: Vec<i64> = (0..9).collect();
    for (of_range, of_ids) in run(Positions::range(0..9)).iter().zip(run(Positions::whole(&ids))) {
        // Gradients are sums over up to 2·9·9 pairs.
        assert!(apart(of_range, &of_ids) <= 100.0 * CLOSE, "{:?}", layer.module.encoded());
    }
}

/// Output and gradients are those of one thread, bit for bit.
fn threads_do_not_matter(spec: &LayerSpec) {
    let layer = Layer::new(spec, DType::F32);
    let at = Positions::range(0..150);
    if layer.module.encoded().at(&at).is_err() {
        return; // A table that is shorter.
    }
    let x = layer.x(2, 2, 150);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| layer.both(&x, &at, &Mask::none().causal(0)))
    };
    let one = run(1);
    for (one, more) in one.iter().zip(run(3)) {
        assert_eq!(apart(one, &more), 0.0, "{:?}", layer.module.encoded());
    }
}

/// The same number added to all positions changes nothing.
///
/// Angles around 10⁵ are off by 10⁵·2⁻⁵³ = 1e-11 each, which scores below 50 turn into 5e-10 of a weight at most.
fn scores_depend_on_distance_only(spec: &LayerSpec) {
    let layer = Layer::new(spec, DType::F64);
    let x = layer.x(2, 1, 9);
    let run = |start: i64| layer.forward(&x, &Positions::range(start..start + 9), &Mask::none().causal(0));
    let here = run(0);
    for start in [1, -20, 100_000] {
        let far = apart(&run(start), &here);
        assert!(far <= 1e-9, "{:?}, from {start}: {far:e}", layer.module.encoded());
    }
}

macro_rules! laws {
    ($module:ident: $layer:expr => [$($law:ident),+ $(,)?]) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $law() {
                super::$law(&$layer);
            })+
        }
    };
    ($module:ident: $layer:expr) => {
        laws! { $module: $layer => [
            gradients_match_differences, fused_equals_written_out, prefill_equals_decoding, packed_equals_alone, left_padded_equals_unpadded,
            batch_order_is_irrelevant, ids_equal_ranges, threads_do_not_matter
        ] }
    };
    ($module:ident: $layer:expr, relative) => {
        laws! { $module: $layer => [
            gradients_match_differences, fused_equals_written_out, prefill_equals_decoding, packed_equals_alone, left_padded_equals_unpadded,
            batch_order_is_irrelevant, ids_equal_ranges, threads_do_not_matter, scores_depend_on_distance_only
        ] }
    };
}

laws! { none: layer(Encoding::none()), relative }
laws! { capped_windowed_and_dropped: LayerSpec {
    attention: Attention { softcap: Some(2.0), window: Some(Window { left: Some(3), right: None }), scale: Some(0.7), dropout: 0.3, ..Attention::default() },
    ..layer(Rotary::new(Pairing::Halves))
}, relative }
laws! { tempered_with_sinks: LayerSpec {
    attention: Attention { temperature: Some(Temperature::log_n(3.0)), sinks: true, ..Attention::default() },
    ..layer(T5Bias::decoder())
} }
laws! { learned: layer(Learned::new(256)) }
laws! { learned_dropped: layer(Learned::new(256).with_dropout(0.3)) }
laws! { sinusoidal: layer(Sinusoidal::paper()) }
laws! { input_table: layer(InputTable::new(256)) }
laws! { rotary_halves: layer(Rotary::new(Pairing::Halves)), relative }
laws! { rotary_interleaved: layer(Rotary::new(Pairing::Interleaved).with_base(100.0)), relative }
laws! { rotary_written_as_halves: layer(Rotary::new(Pairing::InterleavedToHalves)), relative }
laws! { rotary_halves_twice: layer(Rotary::new(Pairing::HalvesTwice)), relative }
laws! { rotary_partial: layer(Rotary::new(Pairing::Halves).with_rotary_dim(2)), relative }
laws! { rotary_trailing: layer(Rotary { slice: Slice::Trailing, ..Rotary::new(Pairing::Halves).with_rotary_dim(2) }), relative }
laws! { rotary_yarn: layer(Rotary::new(Pairing::Halves).with_scaling(Scaling::Yarn(Yarn::new(4.0, 8)))), relative }
laws! { rotary_of_several_axes: layer(Rotary { axes: Axes::Chunked { sections: vec![1, 1] }, ..Rotary::new(Pairing::Halves) }) }
laws! { rotary_xpos: layer(Rotary::new(Pairing::Interleaved).with_decay(XPos { scale_base: 20.0, center: 5.0 })) }
laws! { alibi: layer(Alibi::new()), relative }
laws! { alibi_symmetric: layer(Alibi::symmetric()), relative }
laws! { t5: layer(T5Bias::decoder().with_buckets(8, 20)), relative }
laws! { t5_of_an_encoder: layer(T5Bias::encoder()), relative }
laws! { clipped: layer(ClippedBias::new(3, Direction::KeyMinusQuery)), relative }
laws! { shared: layer(SharedBias::new(3)), relative }
laws! { kerple: layer(Kerple::log()), relative }
laws! { kerple_power: layer(Kerple::power()), relative }
laws! { sandwich: layer(Sandwich::new()), relative }
laws! { fire: layer(Fire::new().with_hidden(6).with_length(4.0)) }
laws! { swin: layer(SwinBias::new([1, 256])) }
laws! { log_cpb: layer(LogCpb::new([1, 64]).with_hidden(4)), relative }
laws! { shaw: layer(Shaw::new(3)), relative }
laws! { music_transformer: layer(MusicTransformer::new(256)), relative }
laws! { music_transformer_clamped: layer(MusicTransformer::new(3).with_overflow(Overflow::Clamp)), relative }
laws! { transformer_xl: layer(TransformerXl::paper()), relative }
laws! { transformer_xl_clamped: layer(TransformerXl::new(SinusoidLayout::SinFirst, true).with_clamp_len(2)), relative }
laws! { xlnet: layer(XlNet::new()), relative }
laws! { deberta: layer(Deberta::new(4, DebertaProjections::V2)), relative }
laws! { deberta_shared: LayerSpec {
    attention: Deberta::new(20, DebertaProjections::Shared).attention(4),
    ..layer(Deberta::new(20, DebertaProjections::Shared).with_buckets(6))
}, relative }
// Shaw's vectors meet queries that are turned already, so where they stand matters.
laws! { several: layer(Encoding::from(Rotary::new(Pairing::Halves)).with(Shaw::new(2)).with(Alibi::new())) }
