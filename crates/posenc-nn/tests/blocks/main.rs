//! Encoder and decoder layers with any positional attention.

mod decoding;
mod dropping;
mod gradients;
mod refusals;

use posenc::{Alibi, Encoding, Mode, Pairing, ParamSpec, Params, Positions, Rng, Rotary, SharedBias};
use posenc_nn::{
    AttnMask, Number, PositionalArgs, PositionalMultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer, TransformerTrace,
};

const WIDTH: usize = 8;
const HEADS: usize = 2;
const BATCH: usize = 2;
const HIDDEN: usize = 12;

fn random<R: Number>(n: usize, seed: u64) -> Vec<R> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| R::of(rng.normal())).collect()
}

/// Parameters of which none is zero.
fn with_params<R: Number>(specs: &[ParamSpec]) -> Params<R> {
    let mut params: Params<R> = Params::init(specs, 5).unwrap();
    let mut rng = Rng::new(6);
    params.flat_mut().iter_mut().for_each(|p| *p += R::of(0.2 * rng.normal()));
    params
}

/// One of each place where an encoding acts: none, inputs, rotation, bias, and a mix.
fn attentions() -> Vec<PositionalMultiheadAttention> {
    let any = |encoding: Encoding| PositionalMultiheadAttention::new(&encoding, WIDTH, HEADS).unwrap();
    vec![
        any(Encoding::none()).with_pytorch_names(),
        PositionalMultiheadAttention::additive_pos(WIDTH, HEADS, 12).unwrap(),
        PositionalMultiheadAttention::rope(WIDTH, HEADS, 100.0).unwrap(),
        PositionalMultiheadAttention::alibi(WIDTH, HEADS).unwrap(),
        any(Encoding::from(Rotary::new(Pairing::Halves)).with(SharedBias::new(3))),
    ]
}

fn encoder(attention: PositionalMultiheadAttention) -> TransformerEncoderLayer {
    TransformerEncoderLayer::new(attention, HIDDEN).unwrap()
}

/// Another encoding over the memory than over the target.
fn decoder(attention: PositionalMultiheadAttention) -> TransformerDecoderLayer {
    let over = PositionalMultiheadAttention::new(&Encoding::from(Alibi::symmetric()), WIDTH, HEADS).unwrap();
    TransformerDecoderLayer::new(attention, over, HIDDEN).unwrap()
}

#[test]
fn names_are_those_of_pytorch_and_of_symm_learning() {
    let names = |specs: Vec<ParamSpec>| specs.into_iter().map(|spec| spec.name).collect::<Vec<_>>();
    let plain = names(encoder(attentions()[0].clone()).named("layers.0").specs());
    let expected = [
        "layers.0.self_attn.in_proj_weight",
        "layers.0.self_attn.in_proj_bias",
        "layers.0.self_attn.out_proj.weight",
        "layers.0.self_attn.out_proj.bias",
        "layers.0.linear1.weight",
        "layers.0.linear1.bias",
        "layers.0.linear2.weight",
        "layers.0.linear2.bias",
        "layers.0.norm1.weight",
        "layers.0.norm1.bias",
        "layers.0.norm2.weight",
        "layers.0.norm2.bias",
    ];
    assert_eq!(plain, expected);
    let additive = names(decoder(attentions()[1].clone()).without_bias().specs());
    let expected = [
        "self_attn.pos_emb",
        "self_attn.attn.in_proj_weight",
        "self_attn.attn.out_proj.weight",
        "multihead_attn.attn.in_proj_weight",
        "multihead_attn.attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
        "norm1.weight",
        "norm2.weight",
        "norm3.weight",
    ];
    assert_eq!(additive, expected);
    let rope = names(encoder(attentions()[2].clone()).specs());
    assert_eq!(rope[..2], ["self_attn.q_proj.weight", "self_attn.q_proj.bias"]);
}
