//! Model types that are several stacks of layers, as in `parts.rs`, around those that do not turn. A part that the file leaves out is its class's default, where its type is known.

pub(super) static COMPOSITES: &[(&str, &[(&str, &str)])] = &[
    (
        "aimv2",
        &[("text_config", "aimv2_text_model"), ("vision_config", "aimv2_vision_model")],
    ),
    (
        "align",
        &[("text_config", "align_text_model"), ("vision_config", "align_vision_model")],
    ),
    (
        "altclip",
        &[("text_config", "altclip_text_model"), ("vision_config", "altclip_vision_model")],
    ),
    (
        "bark",
        &[
            ("semantic_config", "semantic"),
            ("coarse_acoustics_config", "coarse_acoustics"),
            ("fine_acoustics_config", "fine_acoustics"),
            ("codec_config", ""),
        ],
    ),
    (
        "blip",
        &[("text_config", "blip_text_model"), ("vision_config", "blip_vision_model")],
    ),
    (
        "bridgetower",
        &[
            ("text_config", "bridgetower_text_model"),
            ("vision_config", "bridgetower_vision_model"),
        ],
    ),
    (
        "canary",
        &[("decoder_config", "canary_decoder"), ("encoder_config", "parakeet_encoder")],
    ),
    (
        "chinese_clip",
        &[
            ("text_config", "chinese_clip_text_model"),
            ("vision_config", "chinese_clip_vision_model"),
        ],
    ),
    ("chmv2", &[("backbone_config", "")]),
    ("clap", &[("text_config", "clap_text_model"), ("audio_config", "clap_audio_model")]),
    (
        "clip",
        &[("text_config", "clip_text_model"), ("vision_config", "clip_vision_model")],
    ),
    (
        "clipseg",
        &[("text_config", "clipseg_text_model"), ("vision_config", "clipseg_vision_model")],
    ),
    ("colmodernvbert", &[("vlm_config", "")]),
    ("colpali", &[("vlm_config", "")]),
    ("colqwen2", &[("vlm_config", "")]),
    ("depth_anything", &[("backbone_config", "")]),
    (
        "depth_pro",
        &[("patch_model_config", ""), ("image_model_config", ""), ("fov_model_config", "")],
    ),
    ("encoder-decoder", &[("encoder", ""), ("decoder", "")]),
    (
        "fastspeech2_conformer_with_hifigan",
        &[
            ("model_config", "fastspeech2_conformer"),
            ("vocoder_config", "fastspeech2_conformer_hifigan"),
        ],
    ),
    (
        "flava",
        &[
            ("text_config", "flava_text_model"),
            ("image_config", "flava_image_model"),
            ("multimodal_config", "flava_multimodal_model"),
            ("image_codebook_config", "flava_image_codebook"),
        ],
    ),
    ("granite_speech5_ctc", &[("encoder_config", "granite_speech5_encoder")]),
    (
        "groupvit",
        &[("text_config", "groupvit_text_model"), ("vision_config", "groupvit_vision_model")],
    ),
    (
        "higgs_audio_v2_tokenizer",
        &[("semantic_model_config", ""), ("acoustic_model_config", "")],
    ),
    (
        "inkling_mm_model",
        &[
            ("text_config", "inkling_text"),
            ("vision_config", "inkling_vision"),
            ("audio_config", "inkling_audio"),
        ],
    ),
    (
        "kosmos-2",
        &[("text_config", "kosmos_2_text_model"), ("vision_config", "kosmos_2_vision_model")],
    ),
    (
        "kosmos-2.5",
        &[
            ("text_config", "kosmos_2_5_text_model"),
            ("vision_config", "kosmos_2_5_vision_model"),
        ],
    ),
    (
        "metaclip_2",
        &[
            ("text_config", "metaclip_2_text_model"),
            ("vision_config", "metaclip_2_vision_model"),
        ],
    ),
    (
        "musicgen",
        &[("decoder", "musicgen_decoder"), ("text_encoder", ""), ("audio_encoder", "")],
    ),
    (
        "musicgen_melody",
        &[("decoder", "musicgen_melody_decoder"), ("text_encoder", ""), ("audio_encoder", "")],
    ),
    ("nemotron3_5_asr", &[("encoder_config", "nemotron_asr_streaming_encoder")]),
    ("nemotron_asr_streaming", &[("encoder_config", "nemotron_asr_streaming_encoder")]),
    ("nougat", &[("decoder", "mbart"), ("encoder", "donut-swin")]),
    (
        "owlv2",
        &[("text_config", "owlv2_text_model"), ("vision_config", "owlv2_vision_model")],
    ),
    (
        "owlvit",
        &[("text_config", "owlvit_text_model"), ("vision_config", "owlvit_vision_model")],
    ),
    ("parakeet_ctc", &[("encoder_config", "parakeet_encoder")]),
    ("parakeet_rnnt", &[("encoder_config", "parakeet_encoder")]),
    ("parakeet_tdt", &[("encoder_config", "parakeet_encoder")]),
    ("pi0", &[("vlm_config", ""), ("dit_config", "")]),
    (
        "pix2struct",
        &[
            ("text_config", "pix2struct_text_model"),
            ("vision_config", "pix2struct_vision_model"),
        ],
    ),
    (
        "pp_formulanet",
        &[("text_config", "pp_formulanet_text"), ("vision_config", "pp_formulanet_vision")],
    ),
    ("prompt_depth_anything", &[("backbone_config", "")]),
    ("rag", &[("generator", ""), ("question_encoder", "")]),
    (
        "sam",
        &[
            ("vision_config", "sam_vision_model"),
            ("prompt_encoder_config", "sam_prompt_encoder"),
            ("mask_decoder_config", "sam_mask_decoder"),
        ],
    ),
    (
        "sam2",
        &[
            ("vision_config", "sam2_vision_model"),
            ("prompt_encoder_config", "sam2_prompt_encoder"),
            ("mask_decoder_config", "sam2_mask_decoder"),
        ],
    ),
    (
        "sam3_lite_text",
        &[
            ("text_config", "sam3_lite_text_text_model"),
            ("vision_config", "sam3_vision_model"),
            ("geometry_encoder_config", "sam3_lite_text_geometry_encoder"),
            ("detr_encoder_config", "sam3_lite_text_detr_encoder"),
            ("detr_decoder_config", "sam3_lite_text_detr_decoder"),
            ("mask_decoder_config", "sam3_lite_text_mask_decoder"),
        ],
    ),
    (
        "sam3_tracker",
        &[
            ("vision_config", "sam3_vision_model"),
            ("prompt_encoder_config", "sam3_tracker_prompt_encoder"),
            ("mask_decoder_config", "sam3_tracker_mask_decoder"),
        ],
    ),
    (
        "sam3_video",
        &[("detector_config", "sam3"), ("tracker_config", "sam3_tracker_video")],
    ),
    ("sam3_vision_model", &[("backbone_config", "sam3_vit_model")]),
    (
        "sam_hq",
        &[
            ("vision_config", "sam_hq_vision_model"),
            ("prompt_encoder_config", "sam_hq_prompt_encoder"),
            ("mask_decoder_config", "sam_hq_mask_decoder"),
        ],
    ),
    (
        "siglip",
        &[("text_config", "siglip_text_model"), ("vision_config", "siglip_vision_model")],
    ),
    (
        "siglip2",
        &[("text_config", "siglip2_text_model"), ("vision_config", "siglip2_vision_model")],
    ),
    ("speech-encoder-decoder", &[("decoder", ""), ("encoder", "")]),
    (
        "tipsv2",
        &[("text_config", "tipsv2_text_model"), ("vision_config", "tipsv2_vision_model")],
    ),
    ("tipsv2_dpt", &[("backbone_config", "tipsv2_vision_model")]),
    (
        "unlimited_ocr_vision",
        &[
            ("encoder_config", "unlimited_ocr_vision_encoder"),
            ("sam_config", "unlimited_ocr_sam_vision_model"),
        ],
    ),
    ("upernet", &[("backbone_config", "")]),
    (
        "videoprism",
        &[
            ("text_config", "videoprism_text_model"),
            ("vision_config", "videoprism_vision_model"),
        ],
    ),
    ("vision-encoder-decoder", &[("decoder", ""), ("encoder", "")]),
    ("vitmatte", &[("backbone_config", "vitdet")]),
    ("vitpose", &[("backbone_config", "vitpose_backbone")]),
    (
        "xclip",
        &[("text_config", "xclip_text_model"), ("vision_config", "xclip_vision_model")],
    ),
    ("xcodec", &[("semantic_model_config", ""), ("acoustic_model_config", "")]),
    ("zoedepth", &[("backbone_config", "beit")]),
];
