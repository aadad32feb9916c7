//! Model types that are several stacks of layers: the key of each and its model type, where the file need not say it. The language model stands first.

pub(in super::super) static PARTS: &[(&str, &[(&str, &str)])] = &[
    ("aria", &[("text_config", "aria_text"), ("vision_config", "")]),
    ("audioflamingo3", &[("text_config", ""), ("audio_config", "")]),
    ("aya_vision", &[("text_config", ""), ("vision_config", "")]),
    (
        "blip-2",
        &[
            ("text_config", ""),
            ("vision_config", "blip_2_vision_model"),
            ("qformer_config", "blip_2_qformer"),
        ],
    ),
    (
        "blt",
        &[
            ("decoder_config", "blt_local_decoder"),
            ("global_config", "blt_global_transformer"),
            ("encoder_config", "blt_local_encoder"),
            ("patcher_config", "blt_patcher"),
        ],
    ),
    (
        "clvp",
        &[
            ("text_config", "clvp_encoder"),
            ("decoder_config", "clvp_decoder"),
            ("speech_config", "clvp_encoder"),
        ],
    ),
    ("cohere2_vision", &[("text_config", ""), ("vision_config", "")]),
    (
        "cohere_compass",
        &[("text_config", "cohere_compass_text"), ("vision_config", "cohere_compass_vision")],
    ),
    (
        "cosmos3_edge",
        &[("text_config", "cosmos3_edge_text"), ("vision_config", "cosmos3_edge_vision")],
    ),
    ("cosmos3_omni", &[("text_config", ""), ("vision_config", "")]),
    (
        "deepseek_ocr2",
        &[("text_config", "deepseek_ocr2_text"), ("vision_config", "deepseek_ocr2_vision")],
    ),
    (
        "deepseek_ocr2_vision",
        &[
            ("encoder_config", "deepseek_ocr2_encoder"),
            ("sam_config", "deepseek_ocr2_sam_vision_model"),
        ],
    ),
    ("deepseek_vl", &[("text_config", ""), ("vision_config", "")]),
    (
        "deepseek_vl_hybrid",
        &[("text_config", ""), ("vision_config", ""), ("high_res_vision_config", "")],
    ),
    ("dia", &[("decoder_config", "dia_decoder"), ("encoder_config", "dia_encoder")]),
    ("diffusion_gemma", &[("text_config", "diffusion_gemma_text"), ("vision_config", "")]),
    (
        "dots3_note",
        &[
            ("text_config", "dots3_note_text"),
            ("vision_config", "dots3_note_vision_encoder"),
            ("audio_config", "dots3_note_audio_encoder"),
        ],
    ),
    (
        "embedding_gemma2",
        &[
            ("text_config", "embedding_gemma2_text"),
            ("vision_config", ""),
            ("audio_config", ""),
        ],
    ),
    ("emu3", &[("text_config", "emu3_text_model"), ("vq_config", "emu3_vqgan")]),
    (
        "ernie4_5_vl_moe",
        &[("text_config", "ernie4_5_vl_moe_text"), ("vision_config", "ernie4_5_vl_moe_vision")],
    ),
    ("exaone4_5", &[("text_config", ""), ("vision_config", "exaone4_5_vision")]),
    ("fast_vlm", &[("text_config", ""), ("vision_config", "")]),
    ("florence2", &[("text_config", ""), ("vision_config", "florence_vision")]),
    ("fun_asr_nano", &[("text_config", ""), ("audio_config", "")]),
    ("fuyu", &[("text_config", "")]),
    ("gemma3", &[("text_config", "gemma3_text"), ("vision_config", "")]),
    (
        "gemma3n",
        &[
            ("text_config", "gemma3n_text"),
            ("vision_config", "gemma3n_vision"),
            ("audio_config", "gemma3n_audio"),
        ],
    ),
    (
        "gemma4",
        &[
            ("text_config", "gemma4_text"),
            ("vision_config", "gemma4_vision"),
            ("audio_config", "gemma4_audio"),
        ],
    ),
    ("gemma4_assistant", &[("text_config", "")]),
    (
        "gemma4_unified",
        &[
            ("text_config", "gemma4_unified_text"),
            ("vision_config", "gemma4_unified_vision"),
            ("audio_config", "gemma4_unified_audio"),
        ],
    ),
    ("gemma4_unified_assistant", &[("text_config", "")]),
    ("glm46v", &[("text_config", ""), ("vision_config", "")]),
    ("glm4v", &[("text_config", "glm4v_text"), ("vision_config", "glm4v_vision")]),
    (
        "glm4v_moe",
        &[("text_config", "glm4v_moe_text"), ("vision_config", "glm4v_moe_vision")],
    ),
    (
        "glm5_next",
        &[("text_config", "glm5_next_text"), ("vision_config", "glm5_next_vision")],
    ),
    (
        "glm_image",
        &[
            ("text_config", "glm_image_text"),
            ("vision_config", "glm_image_vision"),
            ("vq_config", "glm_image_vqmodel"),
        ],
    ),
    ("glm_ocr", &[("text_config", "glm_ocr_text"), ("vision_config", "glm_ocr_vision")]),
    ("glmasr", &[("text_config", ""), ("audio_config", "")]),
    ("glmga", &[("text_config", ""), ("vision_config", "")]),
    ("got_ocr2", &[("text_config", ""), ("vision_config", "got_ocr2_vision")]),
    (
        "granite4_vision",
        &[
            ("text_config", "granite4_vision_text"),
            ("vision_config", ""),
            ("qformer_config", ""),
        ],
    ),
    (
        "granite_docling",
        &[("text_config", "granite_docling_text"), ("vision_config", "granite_docling_vision")],
    ),
    (
        "granite_speech",
        &[
            ("text_config", ""),
            ("encoder_config", "granite_speech_encoder"),
            ("projector_config", ""),
        ],
    ),
    (
        "granite_speech_plus",
        &[
            ("text_config", ""),
            ("encoder_config", "granite_speech_plus_encoder"),
            ("projector_config", ""),
        ],
    ),
    ("grounding-dino", &[("text_config", ""), ("backbone_config", "")]),
    (
        "hunyuan_vl",
        &[("text_config", "hunyuan_vl_text"), ("vision_config", "hunyuan_vl_vision")],
    ),
    ("hyperclovax_vision_v2", &[("text_config", ""), ("vision_config", "")]),
    (
        "idefics2",
        &[
            ("text_config", ""),
            ("vision_config", "idefics2_vision"),
            ("perceiver_config", "idefics2_perceiver"),
        ],
    ),
    ("idefics3", &[("text_config", ""), ("vision_config", "idefics3_vision")]),
    (
        "inkling2",
        &[("text_config", "inkling2_text"), ("vision_config", "inkling2_vision")],
    ),
    (
        "instructblip",
        &[
            ("text_config", ""),
            ("vision_config", "instructblip_vision_model"),
            ("qformer_config", "instructblip_qformer"),
        ],
    ),
    (
        "instructblipvideo",
        &[
            ("text_config", ""),
            ("vision_config", "instructblipvideo_vision_model"),
            ("qformer_config", "instructblipvideo_qformer"),
        ],
    ),
    ("internvl", &[("text_config", ""), ("vision_config", "internvl_vision")]),
    (
        "janus",
        &[
            ("text_config", ""),
            ("vision_config", "janus_vision_model"),
            ("vq_config", "janus_vqgan"),
        ],
    ),
    ("jev", &[("text_config", "")]),
    ("kimi_k25", &[("text_config", ""), ("vision_config", "kimi_k25_vision")]),
    ("lasr_ctc", &[("encoder_config", "lasr_encoder")]),
    ("lfm2_vl", &[("text_config", ""), ("vision_config", "")]),
    ("lfm3_vl", &[("text_config", ""), ("vision_config", "lfm3_vl_vision")]),
    ("lighton_ocr", &[("text_config", ""), ("vision_config", "")]),
    (
        "llama4",
        &[("text_config", "llama4_text"), ("vision_config", "llama4_vision_model")],
    ),
    ("llava", &[("text_config", ""), ("vision_config", "")]),
    ("llava_next", &[("text_config", ""), ("vision_config", "")]),
    ("llava_next_video", &[("text_config", ""), ("vision_config", "")]),
    ("llava_onevision", &[("text_config", ""), ("vision_config", "")]),
    ("minicpm_ocr", &[("text_config", ""), ("vision_config", "minicpm_ocr_vision")]),
    ("minicpmv4_6", &[("text_config", ""), ("vision_config", "minicpmv4_6_vision")]),
    ("minicpmv4_7", &[("text_config", ""), ("vision_config", "minicpmv4_7_vision")]),
    (
        "minimax_m3_vl",
        &[("text_config", "minimax_m3_vl_text"), ("vision_config", "minimax_m3_vl_vision")],
    ),
    ("mistral3", &[("text_config", ""), ("vision_config", "")]),
    ("mistral_large4", &[("text_config", "mistral_large4_text"), ("vision_config", "")]),
    (
        "mllama",
        &[("text_config", "mllama_text_model"), ("vision_config", "mllama_vision_model")],
    ),
    ("mm-grounding-dino", &[("text_config", ""), ("backbone_config", "")]),
    ("modernvbert", &[("text_config", ""), ("vision_config", "")]),
    (
        "molmo2",
        &[
            ("text_config", "molmo2_text"),
            ("vision_config", "molmo2_vision"),
            ("adapter_config", "molmo2_adapter"),
        ],
    ),
    (
        "moss_transcribe_diarize",
        &[("text_config", ""), ("audio_config", "moss_transcribe_diarize_audio")],
    ),
    (
        "muse_glimmer",
        &[("text_config", "muse_glimmer_text"), ("vision_config", "muse_glimmer_vision")],
    ),
    (
        "muse_spark",
        &[
            ("text_config", "muse_spark_text"),
            ("vision_config", "muse_spark_vision"),
            ("audio_config", "muse_spark_audio"),
        ],
    ),
    (
        "nemo_speechlm",
        &[
            ("text_config", ""),
            ("audio_config", "nemotron3_5_transcribe_audio"),
            ("word_timestamp_config", "nemotron3_5_transcribe_word_timestamp"),
        ],
    ),
    (
        "nemotron3_5_transcribe_audio",
        &[("asr_config", "nemotron3_5_transcribe_asr_audio"), ("diarization_config", "")],
    ),
    ("nemotron3_diarization", &[("audio_config", "nemotron3_diarization_audio")]),
    (
        "nemotron_h_omni",
        &[("text_config", ""), ("vision_config", ""), ("audio_config", "")],
    ),
    ("omdet-turbo", &[("text_config", ""), ("backbone_config", "")]),
    ("ovis2", &[("text_config", ""), ("vision_config", "ovis2_vision")]),
    (
        "paddleocr_vl",
        &[("text_config", "paddleocr_vl_text"), ("vision_config", "paddleocr_vl_vision")],
    ),
    ("paligemma", &[("text_config", ""), ("vision_config", "")]),
    ("pe_audio", &[("text_config", ""), ("audio_config", "pe_audio_encoder")]),
    (
        "pe_audio_video",
        &[("text_config", ""), ("audio_video_config", "pe_audio_video_encoder")],
    ),
    ("pe_video", &[("text_config", ""), ("video_config", "pe_video_encoder")]),
    ("perception_lm", &[("text_config", ""), ("vision_config", "")]),
    ("pp_chart2table", &[("text_config", ""), ("vision_config", "pp_chart2table_vision")]),
    ("qianfan_ocr", &[("text_config", ""), ("vision_config", "qianfan_ocr_vision")]),
    (
        "qwen2_5_omni",
        &[
            ("thinker_config", "qwen2_5_omni_thinker"),
            ("talker_config", "qwen2_5_omni_talker"),
            ("token2wav_config", "qwen2_5_omni_token2wav"),
        ],
    ),
    (
        "qwen2_5_omni_thinker",
        &[
            ("text_config", "qwen2_5_omni_text"),
            ("vision_config", "qwen2_5_omni_vision_encoder"),
            ("audio_config", "qwen2_5_omni_audio_encoder"),
        ],
    ),
    (
        "qwen2_5_omni_token2wav",
        &[("dit_config", "qwen2_5_omni_dit"), ("bigvgan_config", "qwen2_5_omni_bigvgan")],
    ),
    (
        "qwen2_5_vl",
        &[("text_config", "qwen2_5_vl_text"), ("vision_config", "qwen2_5_vl_vision")],
    ),
    ("qwen2_audio", &[("text_config", ""), ("audio_config", "")]),
    (
        "qwen2_vl",
        &[("text_config", "qwen2_vl_text"), ("vision_config", "qwen2_vl_vision")],
    ),
    ("qwen3_5", &[("text_config", "qwen3_5_text"), ("vision_config", "qwen3_5_vision")]),
    (
        "qwen3_5_moe",
        &[("text_config", "qwen3_5_moe_text"), ("vision_config", "qwen3_5_moe_vision")],
    ),
    ("qwen3_asr", &[("text_config", ""), ("audio_config", "")]),
    ("qwen3_omni_moe", &[("thinker_config", "qwen3_omni_moe_thinker")]),
    (
        "qwen3_omni_moe_thinker",
        &[
            ("text_config", "qwen3_omni_moe_text"),
            ("vision_config", "qwen3_omni_moe_vision_encoder"),
            ("audio_config", "qwen3_omni_moe_audio_encoder"),
        ],
    ),
    (
        "qwen3_vl",
        &[("text_config", "qwen3_vl_text"), ("vision_config", "qwen3_vl_vision")],
    ),
    (
        "qwen3_vl_moe",
        &[("text_config", "qwen3_vl_moe_text"), ("vision_config", "qwen3_vl_moe_vision")],
    ),
    (
        "qwen4_exp",
        &[("text_config", "qwen4_exp_text"), ("vision_config", "qwen4_exp_vision")],
    ),
    (
        "sam3",
        &[
            ("text_config", ""),
            ("geometry_encoder_config", "sam3_geometry_encoder"),
            ("detr_encoder_config", "sam3_detr_encoder"),
            ("detr_decoder_config", "sam3_detr_decoder"),
            ("mask_decoder_config", "sam3_mask_decoder"),
            ("vision_config", "sam3_vision_model"),
        ],
    ),
    ("shieldgemma2", &[("text_config", ""), ("vision_config", "")]),
    ("smolvlm", &[("text_config", ""), ("vision_config", "smolvlm_vision")]),
    ("step3p7", &[("text_config", "step3p5"), ("vision_config", "step3p5_vision")]),
    ("t5gemma", &[("decoder", "t5_gemma_module"), ("encoder", "t5_gemma_module")]),
    ("t5gemma2", &[("decoder", "t5gemma2_decoder"), ("encoder", "t5gemma2_encoder")]),
    ("t5gemma2_encoder", &[("text_config", "t5gemma2_text"), ("vision_config", "")]),
    ("ultravbert", &[("text_config", ""), ("vision_config", "")]),
    (
        "unlimited_ocr",
        &[("text_config", "unlimited_ocr_text"), ("vision_config", "unlimited_ocr_vision")],
    ),
    (
        "vibevoice",
        &[
            ("text_config", ""),
            ("diffusion_head_config", "vibevoice_diffusion"),
            ("semantic_model_config", ""),
            ("audio_config", ""),
        ],
    ),
    (
        "vibevoice_asr",
        &[
            ("text_config", ""),
            ("semantic_tokenizer_encoder_config", ""),
            ("acoustic_tokenizer_encoder_config", ""),
        ],
    ),
    ("video_llama_3", &[("text_config", ""), ("vision_config", "video_llama_3_vision")]),
    ("video_llava", &[("text_config", ""), ("vision_config", "")]),
    ("vipllava", &[("text_config", ""), ("vision_config", "")]),
    ("vision-text-dual-encoder", &[("text_config", ""), ("vision_config", "")]),
    ("voxtral", &[("text_config", ""), ("audio_config", "")]),
    ("voxtral_realtime", &[("text_config", ""), ("audio_config", "")]),
];
