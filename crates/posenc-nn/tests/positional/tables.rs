//! Encodings whose tables the module projects.

use crate::{BATCH, HEADS, WIDTH, forward, random, with_params};
use posenc::{
    Alibi, Deberta, DebertaProjections, Encoding, Error, Mask, Mode, MusicTransformer, Overflow, Params, Positions, TransformerXl, XlNet,
};
use posenc_nn::{AttentionTrace, DecodeArgs, MultiheadAttention, PositionalArgs, PositionalMultiheadAttention, Projections, Streams};

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
