//! Model types of pictures and films: two axes or three.

use super::{AxesRule, Head, Model, Pattern, grid};
use crate::rotate::Pairing;

pub(super) static MODELS: &[Model] = &[
    grid("cohere_compass_vision", Pairing::Halves),
    grid("dinov3_vit", Pairing::Halves)
        .theta(100.0)
        .note("a position is 2π times a coordinate from -1 to 1 in the picture, and leading tokens have none"),
    grid("dots3_note_vision_encoder", Pairing::Halves),
    grid("edgetam_video", Pairing::Interleaved)
        .head(Head::Over("memory_attention_hidden_size", "memory_attention_num_attention_heads"))
        .note("the memory attention alone is described; keys of several memories share their positions")
        .axes(AxesRule::Grid(&[1, 0])),
    grid("efficientloftr", Pairing::Interleaved)
        .head(Head::Across)
        .axes(AxesRule::InTurn(&[0, 1]))
        .partial(4.0)
        .note("rows and columns count from 1, of the patches that queries are pooled to; attention across pictures does not turn"),
    grid("eomt_dinov3", Pairing::Halves)
        .theta(100.0)
        .note("a position is 2π times a coordinate from -1 to 1 in the picture, and leading tokens have none"),
    grid("ernie4_5_vl_moe_vision", Pairing::Halves),
    grid("exaone4_5_vision", Pairing::Halves)
        .pattern(Pattern::Chosen(
            "fullatt_block_indexes",
            "full_attention",
            "window_attention",
            "full_attention",
        ))
        .note("layers of windows see the cells of their own window alone"),
    grid("gemma4_vision", Pairing::HalvesTwice).theta(100.0),
    grid("glm4v_moe_vision", Pairing::Halves),
    grid("glm4v_vision", Pairing::Halves),
    grid("glm5_next_vision", Pairing::Halves),
    grid("glm_ocr_vision", Pairing::Halves),
    grid("inkling2_vision", Pairing::Interleaved)
        .axes(AxesRule::Grid(&[1, 0]))
        .note("positions count from 1; what is not a patch stands at 0"),
    grid("kimi_k25_vision", Pairing::Halves).axes(AxesRule::InTurn(&[1, 0])),
    grid("lfm3_vl_vision", Pairing::Halves).theta(1_000_000.0).pattern(Pattern::Written(
        &["conv", "conv"],
        &["full_attention", "conv"],
        None,
    )),
    grid("llama4_vision_model", Pairing::Interleaved)
        .axes(AxesRule::Grid(&[1, 0]))
        .note("rows and columns count from 1, and the class token, the last, has no position"),
    grid("minimax_m3_vl_vision", Pairing::Halves).axes(AxesRule::Three),
    grid("mlcd", Pairing::Halves),
    grid("mlcd_vision_model", Pairing::Halves),
    grid("muse_glimmer_vision", Pairing::Halves)
        .pattern(Pattern::Written(
            &[],
            &["window_attention", "window_attention", "window_attention", "full_attention"],
            Some("full_attention"),
        ))
        .note("layers of windows see the cells of their own window alone"),
    grid("muse_spark_vision", Pairing::Halves)
        .pattern(Pattern::Written(
            &[],
            &["window_attention", "window_attention", "window_attention", "full_attention"],
            Some("full_attention"),
        ))
        .note("layers of windows see the cells of their own window alone"),
    grid("paddleocr_vl_vision", Pairing::Halves),
    grid("pixtral", Pairing::Halves).axes(AxesRule::Dealt(2)),
    grid("qwen2_5_omni_vision_encoder", Pairing::Halves)
        .pattern(Pattern::Chosen(
            "fullatt_block_indexes",
            "full_attention",
            "window_attention",
            "full_attention",
        ))
        .note("layers of windows see the cells of their own window alone"),
    grid("qwen2_5_vl_vision", Pairing::Halves)
        .pattern(Pattern::Chosen(
            "fullatt_block_indexes",
            "full_attention",
            "window_attention",
            "full_attention",
        ))
        .note("layers of windows see the cells of their own window alone"),
    grid("qwen2_vl_vision", Pairing::Halves).head(Head::Over("embed_dim", "num_heads")),
    grid("qwen3_5_moe_vision", Pairing::Halves),
    grid("qwen3_5_vision", Pairing::Halves),
    grid("qwen3_omni_moe_vision_encoder", Pairing::Halves),
    grid("qwen3_vl_moe_vision", Pairing::Halves),
    grid("qwen3_vl_vision", Pairing::Halves),
    grid("qwen4_exp_vision", Pairing::Halves),
    grid("sam2_video", Pairing::Interleaved)
        .head(Head::Over("memory_attention_hidden_size", "memory_attention_num_attention_heads"))
        .note("the memory attention alone is described; keys of several memories share their positions")
        .axes(AxesRule::Grid(&[1, 0])),
    grid("sam3_tracker_video", Pairing::Interleaved)
        .head(Head::Over("memory_attention_hidden_size", "memory_attention_num_attention_heads"))
        .note("the memory attention alone is described; keys of several memories share their positions")
        .axes(AxesRule::Grid(&[1, 0])),
    grid("sam3_vit_model", Pairing::Interleaved).axes(AxesRule::Grid(&[1, 0])),
    grid("sapiens2", Pairing::Halves)
        .theta(100.0)
        .note("a position is 2π times a coordinate from -1 to 1 in the picture, and leading tokens have none"),
    grid("step3p5_vision", Pairing::Halves).axes(AxesRule::Grid(&[1, 0])),
    grid("video_llama_3_vision", Pairing::Halves),
];
