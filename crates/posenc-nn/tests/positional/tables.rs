//! Encodings whose tables the module projects.

use crate::{BATCH, HEADS, WIDTH, forward, gradients, random, with_params};
use posenc::{
    Alibi, ClippedBias, Deberta, DebertaProjections, Direction, Encoding, Error, Mask, Mode, MusicTransformer, Overflow, Params, Positions,
    Scope, TransformerXl, XlNet,
};
use posenc_nn::{
    AttentionTrace, DecodeArgs, MultiheadAttention, PositionalArgs, PositionalMultiheadAttention, Projections, StreamGrads, Streams,
};

/// A module for each way to make tables: weights of its own with and without a bias, shared ones, fused and separate; two methods at once.
pub fn modules() -> Vec<PositionalMultiheadAttention> {
    let any = |encoding: Encoding| PositionalMultiheadAttention::new(&encoding, WIDTH, HEADS).unwrap();
    let shared = Deberta::new(20, DebertaProjections::Shared).with_buckets(6);
    let attention = shared.attention(WIDTH / HEADS);
    vec![
        any(TransformerXl::paper().into()),
        any(TransformerXl::conformer().with_clamp_len(3).into())
            .with_projections(Projections::SEPARATE)
            .named("layers.1"),
        any(XlNet::new().into()).without_bias(),
        any(Deberta::new(4, DebertaProjections::V2).into()).named("layers.0"),
        any(Deberta::new(4, DebertaProjections::V1).with_terms(true, false).into()),
        any(shared.clone().into()).with_attention(attention),
        any(shared.with_terms(false, true).into())
            .with_projections(Projections::SEPARATE)
            .without_bias(),
        any(MusicTransformer::new(4).with_overflow(Overflow::Clamp).into()),
        any(Encoding::from(XlNet::new())
            .with(Deberta::new(3, DebertaProjections::V2))
            .with(Alibi::new())),
    ]
}

#[test]
fn weights_of_projections_stand_beside_the_others() {
    let names = |module: &PositionalMultiheadAttention| module.specs().into_iter().map(|spec| spec.name).collect::<Vec<_>>();
    let conformer = PositionalMultiheadAttention::new(&TransformerXl::conformer().into(), WIDTH, HEADS)
        .unwrap()
        .with_projections(Projections::Separate(["linear_q", "linear_k", "linear_v", "linear_out"]))
        .without_bias();
    assert_eq!(
        names(&conformer),
        [
            "pos_bias_u",
            "pos_bias_v",
            "linear_q.weight",
            "linear_k.weight",
            "linear_v.weight",
            "linear_out.weight",
            "linear_pos.weight"
        ]
    );
    let deberta = PositionalMultiheadAttention::new(&Deberta::new(4, DebertaProjections::V2).into(), WIDTH, HEADS).unwrap();
    assert_eq!(
        names(&deberta)[5..],
        [
            "attn.pos_key_proj.weight",
            "attn.pos_key_proj.bias",
            "attn.pos_query_proj.weight",
            "attn.pos_query_proj.bias"
        ]
    );
}

/// Token by token through the cache, the rows of a call differ from step to step; the result does not.
#[test]
fn decoding_with_projected_tables_equals_the_whole() {
    let n = 6;
    for module in modules() {
        let params = with_params::<f64>(&module);
        let x: Vec<f64> = random(BATCH * n * WIDTH, 1);
        let args = PositionalArgs {
            causal: Some(0),
            ..Default::default()
        };
        let whole = forward(&module, &params, Streams::Same(&x), &args).unwrap().out;
        let (mut cache, mut trace) = (module.cache::<f64>(BATCH).unwrap(), AttentionTrace::default());
        for t in 0..n {
            let token: Vec<f64> = (0..BATCH).flat_map(|b| x[(b * n + t) * WIDTH..][..WIDTH].to_vec()).collect();
            let step = module
                .decode(&params, &token, &mut cache, &DecodeArgs::default(), Mode::Evaluate, &mut trace)
                .unwrap()
                .out;
            for b in 0..BATCH {
                for c in 0..WIDTH {
                    // Sums over the same keys, in the same order but for tiles, of numbers of order 1.
                    let (step, whole) = (step[b * WIDTH + c], whole[(b * n + t) * WIDTH + c]);
                    assert!(
                        (step - whole).abs() < 1024.0 * f64::EPSILON,
                        "{module}, token {t}: {step} against {whole}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_layer_that_was_not_made_for_the_tables_says_so() {
    let plan = Encoding::from(TransformerXl::paper())
        .plan(posenc::Dims::new(WIDTH, HEADS).unwrap())
        .unwrap();
    let bare = MultiheadAttention::new("attn", WIDTH, plan.dims());
    let (params, encoding): (Params<f32>, Params<f32>) = (Params::init(&bare.specs(), 1).unwrap(), plan.init(1).unwrap());
    let at = Positions::range(0..3);
    let call = plan.call(&encoding, &at, &at).unwrap();
    let (x, mut out) = (vec![0.5f32; 3 * WIDTH], vec![7.0; 3 * WIDTH]);
    let mut trace = AttentionTrace::default();
    let refused = bare.forward(
        &params,
        &call,
        Streams::Same(&x),
        &Mask::none(),
        Mode::Evaluate,
        &mut out,
        None,
        &mut trace,
    );
    assert!(matches!(
        refused,
        Err(posenc_nn::Error::Core(Error::Unsupported {
            method: "MultiheadAttention",
            ..
        }))
    ));
    assert!(out.iter().all(|o| *o == 7.0));
}

/// A trace is reused from step to step: tables of an earlier pass, of other parameters, are not those of a prompt read into an empty cache.
#[test]
fn a_prompt_leaves_its_own_tables() {
    let args = PositionalArgs {
        causal: Some(0),
        ..Default::default()
    };
    let (x, d_out) = (random::<f64>(BATCH * 3 * WIDTH, 1), random::<f64>(BATCH * 3 * WIDTH, 2));
    for module in modules() {
        let params = with_params::<f64>(&module);
        let adjoint = |trace: &mut AttentionTrace<f64>| {
            let (mut dx, mut grads) = (vec![f64::NAN; x.len()], params.zeros_like());
            let (streams, into) = (Streams::Same(&x[..]), StreamGrads::Same(&mut dx));
            module
                .adjoint(&params, streams, BATCH, &args, Mode::Evaluate, &d_out, into, &mut grads, trace)
                .unwrap();
            (dx, grads)
        };
        let forward = |params: &Params<f64>| {
            let mut trace = AttentionTrace::default();
            module
                .forward(params, Streams::Same(&x), BATCH, &args, Mode::Evaluate, &mut trace)
                .unwrap();
            trace
        };
        let mut others = params.clone();
        others.flat_mut().iter_mut().for_each(|p| *p += 0.5);
        let (mut trace, mut cache) = (forward(&others), module.cache(BATCH).unwrap());
        module
            .decode(&params, &x, &mut cache, &DecodeArgs::default(), Mode::Evaluate, &mut trace)
            .unwrap();
        let ((dx, grads), (expected, of_params)) = (adjoint(&mut trace), adjoint(&mut forward(&params)));
        assert_eq!(dx, expected, "{module}");
        assert_eq!(grads.flat(), of_params.flat(), "{module}");
    }
}

/// The module owns tables of the model's scope, too: they lie under its name with the rest, and so do their gradients.
#[test]
fn tables_of_the_model_belong_to_the_module() {
    let (x, d_out) = (random::<f64>(BATCH * 3 * WIDTH, 1), random::<f64>(BATCH * 3 * WIDTH, 2));
    let of_scope = |scope: Scope| -> [Encoding; 3] {
        [
            TransformerXl::conformer().with_scope(scope).into(),
            MusicTransformer::new(4).with_scope(scope).into(),
            ClippedBias::new(2, Direction::KeyMinusQuery).with_scope(scope).into(),
        ]
    };
    for (of_model, of_layer) in of_scope(Scope::Model).into_iter().zip(of_scope(Scope::Layer)) {
        let run = |module: PositionalMultiheadAttention| {
            // Initial values go by name, which differs here.
            let mut params: Params<f64> = Params::zeros(&module.specs()).unwrap();
            let numbers: Vec<f64> = random(params.size(), 3);
            params.flat_mut().copy_from_slice(&numbers);
            let (out, d, grads) = gradients(&module, &params, [&x; 3], &PositionalArgs::default(), &d_out);
            assert!(
                module.plan.parameters().iter().all(|spec| {
                    let name = if module.name.is_empty() {
                        spec.name.clone()
                    } else {
                        format!("{}.{}", module.name, spec.name)
                    };
                    grads.get(&name).unwrap().iter().any(|g| *g != 0.0)
                }),
                "{module}"
            );
            (out, d, grads.flat().to_vec())
        };
        let module = |encoding: &Encoding| PositionalMultiheadAttention::new(encoding, WIDTH, HEADS).unwrap();
        assert_eq!(run(module(&of_model).named("layers.1")), run(module(&of_layer)));
    }
}
