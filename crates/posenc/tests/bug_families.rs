//! Mistakes that many codebases made with rotary tables, and that cannot be made here: docs/bug-families.md has all of them.

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use posenc::rotate::{Rounding, Scaling};
use posenc::{
    Alibi, Attention, Call, Dims, Element, Encoding, Error, Inputs, Learned, Mask, Mode, Outputs, Overflow, Pairing, Params, Plan,
    Positions, Precision, Real, Rotary, Rotation, Site, T5Bias, Turn, View, ViewMut, Workspace, embed::lookup,
};

/// Tables built from positions in half precision turn tokens 256 and 257 alike in bf16, and those past 65504 by infinity in f16 (huggingface/transformers#29285, EleutherAI/gpt-neox#1003,
/// huggingface/candle#3520). Here half precision is what data is stored in; positions are whole numbers or f64.
///
/// Bound, for rows of ones: let h be half a unit of the type at numbers from 1 to 2, 2⁻⁸ in bf16 and 2⁻¹¹ in f16. Rounded once, a coordinate below 2 is off by h. Two rounded tables, numbers up to
/// 1, add h/2 each; two rounded products, likewise, as much again. And f32's own 8·2⁻²⁴. A wrong position would turn the fastest pair by a radian.
#[test]
fn bug_family_01_tables_in_half_precision() {
    fn check<T: Element<Real = f32>>(half_unit: f64) {
        let ids = [0i64, 255, 256, 257, 258, 2048, 2049, 4097, 65_504, 65_505, 70_001, 1_000_003];
        let at = Positions::whole(&ids);
        let (rotary, shape) = (Rotary::new(Pairing::Halves), [1, 1, ids.len(), 8]);
        let exact: Rotation<f64> = rotary.rotation(8, &at).unwrap();
        let rotation: Rotation<f32> = rotary.rotation(8, &at).unwrap();
        // Whatever is rounded on the way, it is never a position.
        for (rounding, steps) in [(Rounding::Once, 1.0), (Rounding::Tables, 2.0), (Rounding::EachStep, 3.0)] {
            let x = vec![T::narrow(1.0); 8 * ids.len()];
            let mut turned = x.clone();
            let rotation = rotation.clone().rounded(rounding);
            let out = ViewMut::new(&mut turned, shape).unwrap();
            rotation.apply_into(Turn::Forward, View::new(&x, shape).unwrap(), out).unwrap();
            for (t, row) in turned.chunks_exact(8).enumerate() {
                let mut expected = [1.0f64; 8];
                exact.turn_row(Turn::Forward, 0, t, &mut expected);
                for (x, e) in row.iter().zip(expected) {
                    let bound = steps * half_unit + 8.0 / f64::from(1 << 24);
                    assert!((f64::from(x.widen()) - e).abs() <= bound, "{rounding:?}, position {}", ids[t]);
                }
            }
        }
        // Ids that arrive in half precision are believed as far as the type counts by one.
        let far = [T::narrow(T::EXACT_INTEGERS as f32), T::narrow(T::EXACT_INTEGERS as f32 + 2.0)];
        assert!(matches!(Positions::strict(&far, 1), Err(Error::Imprecise { index: 1, .. })));
    }
    check::<bf16>(1.0 / f64::from(1 << 8));
    check::<f16>(1.0 / f64::from(1 << 11));
}

/// Frequencies and tables differ between devices, because f32 powers and sines do (huggingface/transformers#28685, #28837; ml-explore/mlx#2791). Here each is computed in f64 and rounded to
/// f32 once, so they are the nearest f32 to the mathematical number: these bits come from 300-bit arithmetic (mpmath). An f64 that another platform has one unit away is a billion times nearer to it
/// than f32 can see.
#[test]
fn bug_family_02_tables_do_not_depend_on_the_machine() {
    // Base, width, position, pair; bits of the frequency, of the cosine and of the sine.
    const GOLDEN: [(f64, usize, i64, usize, [u32; 3]); 27] = [
        (10000.0, 128, 1, 1, [0x3f5dafd7, 0x3f25dd29, 0x3f43001c]),
        (10000.0, 128, 7, 3, [0x3f263de0, 0xbe29edd5, 0xbf7c7354]),
        (10000.0, 128, 256, 2, [0x3f3ff911, 0xbf71b45c, 0xbea8b335]),
        (10000.0, 128, 257, 2, [0x3f3ff911, 0xbeeec2ad, 0xbf6275e4]),
        (10000.0, 128, 4095, 9, [0x3e8c3504, 0xbf7c7df6, 0x3e28f05a]),
        (10000.0, 128, 131071, 5, [0x3ef953cf, 0xbf6a0418, 0x3ecf94db]),
        (10000.0, 128, 1048575, 17, [0x3db15978, 0xbe2c763b, 0xbf7c57d8]),
        (10000.0, 128, 16777215, 30, [0x3c5a7bf1, 0xbf39038e, 0x3f30ef43]),
        (10000.0, 128, 999999, 11, [0x3e5247ed, 0x3eff9962, 0xbf5dd16f]),
        (500000.0, 128, 1, 1, [0x3f508ac1, 0x3f2fa753, 0x3f3a3b04]),
        (500000.0, 128, 7, 3, [0x3f0a6384, 0xbf4cf525, 0xbf1963c0]),
        (500000.0, 128, 256, 2, [0x3f29e1c5, 0x3f78e8bc, 0x3e6f5744]),
        (500000.0, 128, 257, 2, [0x3f29e1c5, 0x3f1f3abc, 0x3f487457]),
        (500000.0, 128, 4095, 9, [0x3e21c3a0, 0x3f76c3a4, 0xbe884905]),
        (500000.0, 128, 131071, 5, [0x3eb7ab7d, 0xbeeda8db, 0x3f62bff4]),
        (500000.0, 128, 1048575, 17, [0x3cfaf53f, 0xbf7b4a07, 0x3e438a52]),
        (500000.0, 128, 16777215, 30, [0x3b0baa41, 0xbf7a1685, 0x3e5acc03]),
        (500000.0, 128, 999999, 11, [0x3dd6b19c, 0xbf13424c, 0x3f5167e4]),
        (1000000.0, 64, 1, 1, [0x3f263de0, 0x3f4be4aa, 0x3f1acd3a]),
        (1000000.0, 64, 7, 3, [0x3e8c3504, 0xbeadaf74, 0x3f70d1f6]),
        (1000000.0, 64, 256, 2, [0x3ed7e89b, 0x3ed5bc87, 0x3f68a070]),
        (1000000.0, 64, 257, 2, [0x3ed7e89b, 0x3c128e41, 0x3f7ffd61]),
        (1000000.0, 64, 4095, 9, [0x3ca8398b, 0xbf3e9161, 0x3f2af030]),
        (1000000.0, 64, 131071, 5, [0x3dec7fd5, 0x3f707089, 0xbeafc821]),
        (1000000.0, 64, 1048575, 17, [0x3a2a3b43, 0xbf324f13, 0x3f37b096]),
        (1000000.0, 64, 16777215, 30, [0x361f23e4, 0xbefc3d4f, 0x3f5ec70a]),
        (1000000.0, 64, 999999, 11, [0x3c0de12d, 0x3e28c69d, 0x3f7c7fb5]),
    ];
    for (base, width, position, pair, bits) in GOLDEN {
        let rotary = Rotary::new(Pairing::Halves).with_base(base);
        let frequency = rotary.frequencies(width, 1).unwrap().pairs[pair] as f32;
        let rotation: Rotation<f32> = rotary.rotation(width, &Positions::whole(&[position])).unwrap();
        let given = [frequency, rotation.cos(0, 0)[pair], rotation.sin(0, 0)[pair]].map(f32::to_bits);
        assert_eq!(given, bits, "base {base}, width {width}, position {position}, pair {pair}");
    }
}

/// Frequencies that live in a module are cast with its weights, or never filled after loading (huggingface/transformers#45902, #34234; pytorch/torchtitan#4783). Here they are a function of the
/// settings: whatever data is stored in, and wherever the settings have been, the same bits.
#[test]
fn bug_family_03_frequencies_are_no_buffer() {
    let rotary = Rotary {
        precision: Precision::Reference,
        ..Rotary::new(Pairing::Halves).with_base(500_000.0)
    };
    let plan = Encoding::from(rotary.clone()).plan(Dims::new(32, 2).unwrap()).unwrap();
    assert!(plan.parameters().is_empty(), "nothing to load, cast or leave out of a checkpoint");
    let at = Positions::range(0..300);
    let bits = |rotary: &Rotary| -> Vec<u32> {
        let rotation: Rotation<f32> = rotary.rotation(16, &at).unwrap();
        let tables = (0..300).flat_map(|t| [rotation.cos(0, t), rotation.sin(0, t)].concat());
        tables.map(f32::to_bits).collect()
    };
    let before = bits(&rotary);
    // A round trip through text, a plan, and calls on other data in half precision change nothing.
    let text = serde_json::to_string(&rotary).unwrap();
    assert_eq!(bits(&serde_json::from_str(&text).unwrap()), before);
    let params = plan.init::<f32>(0).unwrap();
    let call = plan.call(&params, &at, &at).unwrap();
    let rotation = &call.rotations()[0].query;
    let mut x = vec![bf16::from_f32(0.5); 300 * 16];
    rotation
        .apply(Turn::Forward, ViewMut::new(&mut x, [1, 1, 300, 16]).unwrap())
        .unwrap();
    let tables = (0..300).flat_map(|t| [rotation.cos(0, t), rotation.sin(0, t)].concat());
    assert_eq!(tables.map(f32::to_bits).collect::<Vec<u32>>(), before);
    assert_eq!(bits(&rotary), before);
    // The number type of the arithmetic rounds the same f64 numbers.
    let wide: Rotation<f64> = rotary.rotation(16, &at).unwrap();
    let narrow: Rotation<f32> = rotary.rotation(16, &at).unwrap();
    for t in 0..300 {
        assert!(wide.cos(0, t).iter().zip(narrow.cos(0, t)).all(|(w, n)| *w as f32 == *n));
    }
}

/// Tables of a fixed length are read past their end, or wrap (vllm-project/vllm#9965, karpathy/nanochat#520, microsoft/onnxruntime#28205). Here a rotation is made for the positions it is asked
/// for, however far, and what really is a table says which row it lacks before anything is written.
///
/// Bound: two products and a sum in f64, and the angle's own rounding: p · 3·2⁻⁵³.
#[test]
fn bug_family_15_no_table_is_too_short() {
    let rotary = Rotary::new(Pairing::Interleaved);
    for p in [4096i64, 131_072, 1 << 24, 1 << 40] {
        let rotation: Rotation<f64> = rotary.rotation(4, &Positions::whole(&[p])).unwrap();
        let mut row = [0.3, -0.7, 1.1, 0.2];
        let expected = posenc::reference::rotary::by_pairs(&row, p as f64, 4, Pairing::Interleaved, 1e4);
        rotation.turn_row(Turn::Forward, 0, 0, &mut row);
        for (x, e) in row.iter().zip(expected) {
            assert!((x - e).abs() <= (2.0 + 3.0 * p as f64) * f64::EPSILON, "position {p}");
        }
    }
    // A cache of cosines that somebody else made, with 3 rows: the fourth is refused, and nothing is written.
    let cache = [1.0f32, 0.5, -1.0];
    let mut cos = [7.0f32; 2];
    let past = lookup(
        &Positions::whole(&[2, 3]),
        View::new(&cache, [3, 1]).unwrap(),
        ViewMut::new(&mut cos, [1, 2, 1]).unwrap(),
    );
    let expected = Error::PastTable {
        position: 3,
        batch: 0,
        token: 1,
        rows: 3,
    };
    assert_eq!((past, cos), (Err(expected.clone()), [7.0; 2]));
    // Rows of a rotation that are not there are a shape error, never another token's.
    let rotation: Rotation<f32> = rotary.rotation(4, &Positions::range(0..3)).unwrap();
    let mut x = [7.0f32; 16];
    let refused = rotation.apply(Turn::Forward, ViewMut::new(&mut x, [1, 1, 4, 4]).unwrap());
    assert!(matches!(refused, Err(Error::Shape { .. })) && x == [7.0; 16]);
    // A learned table refuses the same way when a call is made.
    let plan = Encoding::from(Learned::new(3)).plan(Dims::new(4, 1).unwrap()).unwrap();
    let params = plan.init::<f32>(0).unwrap();
    let at = Positions::whole(&[2, 3]);
    assert_eq!(plan.call(&params, &at, &at).err(), Some(expected));
}

/// What a call of one layer computes from given bytes: embeddings with its tables, turned queries, biases and attention, as bits.
fn everything(plan: &Plan, params: &Params<f32>, len: usize) -> Vec<u32> {
    let (at, dims) = (Positions::range(0..len as i64), plan.dims());
    let call = plan.call(params, &at, &at).unwrap();
    call_bits(&call, len, dims)
}

fn call_bits(call: &Call<'_, f32>, len: usize, dims: Dims) -> Vec<u32> {
    let shape = [1, dims.heads, len, dims.head_dim];
    let x: Vec<f32> = (0..len * dims.model_dim).map(|i| (i * 7 % 23) as f32 / 11.0 - 1.0).collect();
    let mut embedded = x.clone();
    call.add(
        Site::Embedding,
        ViewMut::new(&mut embedded, [1, len, dims.model_dim]).unwrap(),
        Mode::Evaluate,
    )
    .unwrap();
    let mut turned = x.clone();
    call.rotations()[0]
        .query
        .apply(Turn::Forward, ViewMut::new(&mut turned, shape).unwrap())
        .unwrap();
    let mut bias = vec![0.0; dims.heads * len * len];
    call.materialise_bias(ViewMut::new(&mut bias, [1, dims.heads, len, len]).unwrap())
        .unwrap();
    let view = View::new(&embedded, shape).unwrap();
    let mut out = vec![f32::NAN; x.len()];
    let outputs = Outputs {
        out: ViewMut::new(&mut out, shape).unwrap(),
        saved: None,
        weights: None,
    };
    Attention::default()
        .forward(
            call,
            Inputs::new(view, view, view),
            &Mask::none().causal(0),
            Mode::Evaluate,
            outputs,
            &mut Workspace::default(),
        )
        .unwrap();
    [embedded, turned, bias, out].concat().iter().map(|x| x.to_bits()).collect()
}

/// A module whose caches of cosines grow, or whose frequencies are rewritten for a longer call, is not the module that a compiled or captured graph was made of, nor that of another thread
/// (huggingface/transformers#35716, vllm-project/vllm#33800, #22463, Dao-AILab/flash-attention#1680). Here a plan is immutable and a call is a value: what is computed depends on nothing that was computed
/// before, or is being computed beside it. What a graph holds, a call or a rotation that was kept, stays what it was.
#[test]
fn bug_family_19_nothing_is_changed_by_what_was_computed_before_or_beside_it() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    let dims = Dims::new(16, 2).unwrap();
    // Methods that look at a call's length or positions, each with tables: the ones that others keep as state.
    let dynamic = Rotary::new(Pairing::Halves).with_scaling(Scaling::Dynamic {
        factor: 2.0,
        original_len: 8,
    });
    let encoding = Encoding::from(Learned::new(8).with_overflow(Overflow::Interpolate))
        .with(dynamic.clone())
        .with(T5Bias::decoder());
    let plan = encoding.plan(dims).unwrap();
    let params = plan.init::<f32>(5).unwrap();
    shared(&plan);
    shared(&params);
    let lengths = [3, 40, 1, 9, 8, 130, 3, 40];
    let alone: Vec<_> = lengths
        .iter()
        .map(|len| everything(&encoding.plan(dims).unwrap(), &params, *len))
        .collect();

    // A call and a rotation that a graph has captured, before longer and shorter ones come.
    let at = Positions::range(0..9);
    let captured = plan.call(&params, &at, &at).unwrap();
    let rotation: Rotation<f32> = dynamic.rotation(8, &at).unwrap();
    let tables = |rotation: &Rotation<f32>| {
        (0..9)
            .flat_map(|t| [rotation.cos(0, t), rotation.sin(0, t)].concat())
            .collect::<Vec<_>>()
    };
    let kept = tables(&rotation);
    let (bits, mut layer) = (call_bits(&captured, 9, dims), None);
    for (len, alone) in lengths.iter().zip(&alone) {
        assert_eq!(&everything(&plan, &params, *len), alone, "{len} after others");
        layer = Some(captured.for_layer(&params).unwrap());
    }
    assert_eq!(call_bits(&captured, 9, dims), bits);
    assert_eq!(call_bits(&layer.unwrap(), 9, dims), bits);
    assert_eq!(tables(&rotation), kept);
    // Into the memory of another: that one changes, and no other.
    let mut step = rotation.clone();
    dynamic.rotation_into(8, &Positions::range(100..101), &mut step).unwrap();
    assert_eq!(tables(&rotation), kept);

    // Threads that share the plan, the captured call and the parameters, in different orders.
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (plan, params, captured, alone, bits) = (&plan, &params, &captured, &alone, &bits);
            scope.spawn(move || {
                for i in (0..lengths.len()).map(|i| (i * 3 + first) % lengths.len()) {
                    assert_eq!(everything(plan, params, lengths[i]), alone[i]);
                    assert_eq!(&call_bits(captured, 9, dims), bits);
                }
            });
        }
    });
}

/// One head, one key head, and the queries, keys and values of a fused projection, `[batch, seq, (heads + 2·kv_heads) · head_dim]`: kernels that take a layout for granted read another
/// head's numbers, or fail on one (linkedin/Liger-Kernel#342, #1282; vllm-project/vllm#17091; Dao-AILab/flash-attention#1195). Rotated in place where they lie, attention gives what it gives of copies, to the bit.
#[test]
fn bug_family_21_one_head_and_fused_projections() {
    fn check<T: Element + std::fmt::Debug + PartialEq>() {
        let [batch, len, head_dim] = [2, 5, 8];
        for (heads, kv_heads) in [(1, 1), (2, 1), (4, 1), (4, 2), (3, 3)] {
            let all = heads + 2 * kv_heads;
            let fused: Vec<T> = (0..batch * len * all * head_dim)
                .map(|i| T::narrow(T::Real::of((i * 13 % 47) as f64 / 23.0 - 1.0)))
                .collect();
            // Where heads begin in a token, and how many.
            let parts = [(0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads)];
            let strides = [len * all * head_dim, head_dim, all * head_dim, 1];
            let copies = parts.map(|(first, count)| -> Vec<T> {
                let token = |b: usize, h: usize, t: usize| ((b * len + t) * all + first + h) * head_dim;
                let rows = (0..batch).flat_map(|b| (0..count).flat_map(move |h| (0..len).map(move |t| token(b, h, t))));
                rows.flat_map(|at| fused[at..at + head_dim].to_vec()).collect()
            });
            let rotary = Rotary::new(Pairing::Halves);
            let dims = Dims::new(heads * head_dim, heads).unwrap().with_kv_heads(kv_heads).unwrap();
            let plan = Encoding::from(rotary.clone()).with(Alibi::new()).plan(dims).unwrap();
            let (params, at) = (plan.init::<T::Real>(0).unwrap(), Positions::range(3..8));
            let call = plan.call(&params, &at, &at).unwrap();
            let attend = |[q, k, v]: [View<'_, T, 4>; 3]| {
                let mut out = vec![T::narrow(T::Real::of(f64::NAN)); batch * heads * len * head_dim];
                let outputs = Outputs {
                    out: ViewMut::new(&mut out, [batch, heads, len, head_dim]).unwrap(),
                    saved: None,
                    weights: None,
                };
                Attention::default()
                    .forward(
                        &call,
                        Inputs::new(q, k, v),
                        &Mask::none().causal(0),
                        Mode::Evaluate,
                        outputs,
                        &mut Workspace::default(),
                    )
                    .unwrap();
                out
            };
            let view = |i: usize| View::strided(&fused[parts[i].0 * head_dim..], [batch, parts[i].1, len, head_dim], strides).unwrap();
            let copy = |i: usize| View::new(&copies[i], [batch, parts[i].1, len, head_dim]).unwrap();
            assert_eq!(
                attend([0, 1, 2].map(view)),
                attend([0, 1, 2].map(copy)),
                "{heads} heads, {kv_heads} for keys"
            );

            // In place, where they lie: the queries and keys turn, the values and nothing else do not.
            let rotation = rotary.rotation::<T::Real>(head_dim, &at).unwrap();
            let mut turned = fused.clone();
            for (first, count) in &parts[..2] {
                let part = ViewMut::strided(&mut turned[first * head_dim..], [batch, *count, len, head_dim], strides).unwrap();
                rotation.apply(Turn::Forward, part).unwrap();
            }
            for (i, (first, count)) in parts.into_iter().enumerate() {
                let mut expected = copies[i].clone();
                if i < 2 {
                    let whole = ViewMut::new(&mut expected, [batch, count, len, head_dim]).unwrap();
                    rotation.apply(Turn::Forward, whole).unwrap();
                }
                let got = View::strided(&turned[first * head_dim..], [batch, count, len, head_dim], strides).unwrap();
                for (b, h, t) in (0..batch).flat_map(|b| (0..count).flat_map(move |h| (0..len).map(move |t| (b, h, t)))) {
                    let expected = &expected[((b * count + h) * len + t) * head_dim..][..head_dim];
                    assert_eq!(got.row([b, h, t, 0]), expected, "part {i}");
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<f16>();
    check::<bf16>();
}

/// Rows more than 2³¹ elements, and 2³² bytes, apart: an index of 32 bits would wrap to another row (fla-org/flash-linear-attention#769, Knowledgator/FlashDeBERTa#11). The storage is mapped and all
/// but a few pages of it are never touched.
#[test]
fn bug_family_21_offsets_past_2_to_the_31st() {
    const FAR: usize = (1 << 31) + 64;
    // Where two tensors of these addresses cannot be had, there is nothing to show.
    if Vec::<u16>::new().try_reserve_exact(4 * FAR).is_err() {
        println!("skipped: {} GiB of addresses cannot be had here", (4 * FAR * 2) >> 30);
        return;
    }
    let (mut x, mut out) = (vec![0u16; FAR + 512], vec![0u16; FAR + 512]);
    let (x, out) = (x.reinterpret_cast_mut::<f16>(), out.reinterpret_cast_mut::<f16>());
    // Batch rows, heads or tokens are the axis whose steps are far; the other rows lie beside each other.
    let at = Positions::range(5..7);
    let rotation: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(64, &at).unwrap();
    let plan = Encoding::from(Learned::new(16))
        .with(Rotary::new(Pairing::Halves))
        .plan(Dims::new(64, 1).unwrap())
        .unwrap();
    let params = plan.init::<f32>(1).unwrap();
    for strides in [[FAR, 128, 64, 1], [128, FAR, 64, 1], [128, 256, FAR, 1]] {
        let shape = if strides[1] == FAR { [1, 2, 2, 64] } else { [2, 1, 2, 64] };
        let place = |b: usize, h: usize, t: usize| b * strides[0] + h * strides[1] + t * strides[2];
        let rows = || (0..shape[0]).flat_map(|b| (0..shape[1]).flat_map(move |h| (0..2).map(move |t| (b, h, t))));
        let number = |i: usize| f16::from_f32(i as f32 / 64.0 - 1.5);
        for (i, (b, h, t)) in rows().enumerate() {
            let place = place(b, h, t);
            x[place..place + 64]
                .iter_mut()
                .enumerate()
                .for_each(|(c, x)| *x = number(i * 64 + c));
        }
        let mut expected: Vec<f16> = (0..4 * 64).map(number).collect();
        rotation.apply(Turn::Forward, ViewMut::new(&mut expected, shape).unwrap()).unwrap();
        let from = View::strided(x, shape, strides).unwrap();
        rotation
            .apply_into(Turn::Forward, from, ViewMut::strided(out, shape, strides).unwrap())
            .unwrap();
        rotation.apply(Turn::Forward, ViewMut::strided(x, shape, strides).unwrap()).unwrap();
        for (i, (b, h, t)) in rows().enumerate() {
            let place = place(b, h, t);
            assert_eq!(x[place..place + 64], expected[i * 64..][..64], "in place, strides {strides:?}");
            assert_eq!(out[place..place + 64], expected[i * 64..][..64], "strides {strides:?}");
        }

        // A table added to rows that far apart, and its gradient.
        if shape[1] == 1 {
            let (wide, strides) = ([shape[0], 2, 64], [strides[0], strides[2], 1]);
            let (call, mut grads) = (plan.call(&params, &at, &at).unwrap(), params.zeros_like());
            let mut plain: Vec<f16> = expected.clone();
            call.add(Site::Embedding, ViewMut::new(&mut plain, wide).unwrap(), Mode::Evaluate)
                .unwrap();
            call.add(Site::Embedding, ViewMut::strided(x, wide, strides).unwrap(), Mode::Evaluate)
                .unwrap();
            for (i, (b, h, t)) in rows().enumerate() {
                assert_eq!(x[place(b, h, t)..][..64], plain[i * 64..][..64]);
            }
            call.add_adjoint(
                Site::Embedding,
                ViewMut::strided(x, wide, strides).unwrap(),
                Mode::Evaluate,
                &mut grads,
            )
            .unwrap();
            for (t, row) in [(0, 5), (1, 6)] {
                for c in 0..64 {
                    let sum: f32 = (0..shape[0]).map(|b| plain[(b * 2 + t) * 64 + c].to_f32()).sum();
                    assert_eq!(grads.get("pos_embedding.weight").unwrap()[row * 64 + c], sum);
                }
            }
        }

        // Attention reads queries, keys and values where they lie.
        if shape[1] == 1 {
            let (call, packed) = (plan.call(&params, &at, &at).unwrap(), View::strided(x, shape, strides).unwrap());
            let copy: Vec<f16> = rows().flat_map(|(b, h, t)| packed.row([b, h, t, 0]).to_vec()).collect();
            let copy = View::new(&copy, shape).unwrap();
            let [apart, beside] = [packed, copy].map(|view| {
                let mut written = vec![f16::NAN; 4 * 64];
                let outputs = Outputs {
                    out: ViewMut::new(&mut written, shape).unwrap(),
                    saved: None,
                    weights: None,
                };
                Attention::default()
                    .forward(
                        &call,
                        Inputs::new(view, view, view),
                        &Mask::none(),
                        Mode::Evaluate,
                        outputs,
                        &mut Workspace::default(),
                    )
                    .unwrap();
                written
            });
            assert_eq!(apart, beside);
        }
    }
}
