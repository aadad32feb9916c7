//! Model types without positions: the order comes from a state, a convolution or a mask, or there is none.

use super::plain::{Plain, Reach, Scale, bare, one};

const fn none(name: &'static str, note: &'static str) -> Plain {
    one(name, bare()).note(note)
}

const STATE: &str = "the order is the state's, which is updated token by token";
const BESIDE: &str = "attention without positions; the order is the state's of the layers beside it";
const CONVOLUTIONS: &str = "convolutions: cells know their neighbours";

pub(super) static MODELS: &[Plain] = &[
    none("blip_2_qformer", "queries have no order, and text no table here"),
    none("bit", CONVOLUTIONS),
    none("convnext", CONVOLUTIONS),
    none("convnextv2", CONVOLUTIONS),
    none("dinov3_convnext", CONVOLUTIONS),
    none("efficientnet", CONVOLUTIONS),
    none("align_vision_model", CONVOLUTIONS),
    none("falcon_mamba", STATE),
    none("resnet", CONVOLUTIONS),
    none("regnet", CONVOLUTIONS),
    none("rt_detr_resnet", CONVOLUTIONS),
    none("hgnet_v2", CONVOLUTIONS),
    none("mobilenet_v1", CONVOLUTIONS),
    none("mobilenet_v2", CONVOLUTIONS),
    none("textnet", CONVOLUTIONS),
    none("pp_lcnet", CONVOLUTIONS),
    none("pp_lcnet_v3", CONVOLUTIONS),
    none("pp_lcnet_v4", CONVOLUTIONS),
    none("pp_ocrv5_mobile_det", CONVOLUTIONS),
    none("pp_ocrv5_server_det", CONVOLUTIONS),
    none("pp_ocrv6_medium_det", CONVOLUTIONS),
    none("pp_ocrv6_small_det", CONVOLUTIONS),
    none("pp_ocrv6_tiny_rec", CONVOLUTIONS),
    none("flava_multimodal_model", "what comes in has positions already"),
    none("glm5_next_text", BESIDE),
    none("jamba", BESIDE),
    none("kimi_linear", BESIDE),
    none("mamba", STATE),
    none("mamba2", STATE),
    one("moonshine_streaming_encoder", bare().reach(Reach::Sides("sliding_windows"))).note("the order is that of convolutions and windows"),
    none("moshi_depth", "codebooks have weights of their own in each step instead"),
    none("nemotron_h", BESIDE),
    none("rwkv", STATE),
    none("xlstm", STATE),
    one("zamba", bare().scale(Scale::HalfHead)).note(BESIDE),
];
