//! Model types without positions: the order comes from a state, a convolution or a mask, or there is none.

use super::plain::{Among, Plain, Reach, Scale, bare, one};

const fn none(name: &'static str, note: &'static str) -> Plain {
    one(name, bare()).note(note)
}

/// Nothing in it attends.
const fn blind(name: &'static str, note: &'static str) -> Plain {
    one(name, bare().reach(Reach::Among(Among::None))).note(note)
}

const fn beside(name: &'static str, among: Among) -> Plain {
    one(name, bare().reach(Reach::Among(among))).note(BESIDE)
}

const fn period(leading: &'static [&'static str], period: usize, offset: usize, kind: &'static str) -> Among {
    Among::Period {
        leading,
        period,
        offset,
        kind,
    }
}

const STATE: &str = "the order is the state's, which is updated token by token";
const BESIDE: &str = "attention without positions; the order is the state's of the layers beside it";
const CONVOLUTIONS: &str = "convolutions: cells know their neighbours";

pub(super) static MODELS: &[Plain] = &[
    none("blip_2_qformer", "queries have no order, and text no table here"),
    blind("bit", CONVOLUTIONS),
    blind("convnext", CONVOLUTIONS),
    blind("convnextv2", CONVOLUTIONS),
    blind("dinov3_convnext", CONVOLUTIONS),
    blind("efficientnet", CONVOLUTIONS),
    blind("align_vision_model", CONVOLUTIONS),
    blind("falcon_mamba", STATE),
    blind("resnet", CONVOLUTIONS),
    blind("regnet", CONVOLUTIONS),
    blind("rt_detr_resnet", CONVOLUTIONS),
    blind("hgnet_v2", CONVOLUTIONS),
    blind("mobilenet_v1", CONVOLUTIONS),
    blind("mobilenet_v2", CONVOLUTIONS),
    blind("textnet", CONVOLUTIONS),
    blind("pp_lcnet", CONVOLUTIONS),
    blind("pp_lcnet_v3", CONVOLUTIONS),
    blind("pp_lcnet_v4", CONVOLUTIONS),
    blind("pp_ocrv5_mobile_det", CONVOLUTIONS),
    blind("pp_ocrv5_server_det", CONVOLUTIONS),
    blind("pp_ocrv6_medium_det", CONVOLUTIONS),
    blind("pp_ocrv6_small_det", CONVOLUTIONS),
    blind("pp_ocrv6_tiny_rec", CONVOLUTIONS),
    none("flava_multimodal_model", "what comes in has positions already"),
    beside("glm5_next_text", period(&[], 4, 3, "indexed_attention")),
    beside("jamba", period(&[], 8, 4, "full_attention")),
    beside("kimi_linear", Among::Numbered),
    blind("mamba", STATE),
    blind("mamba2", STATE),
    one("moonshine_streaming_encoder", bare().reach(Reach::Sides("sliding_windows"))).note("the order is that of convolutions and windows"),
    none("moshi_depth", "codebooks have weights of their own in each step instead"),
    beside("nemotron_h", Among::Letters),
    blind("rwkv", STATE),
    blind("xlstm", STATE),
    one(
        "zamba",
        bare().scale(Scale::HalfHead).reach(Reach::Among(period(
            &["linear_attention", "linear_attention", "hybrid"],
            6,
            4,
            "hybrid",
        ))),
    )
    .note(BESIDE),
];
