//! Model types that are known and not read, each with what this library does not have.

pub(in super::super) static UNEXPRESSED: &[(&str, &str)] = &[
    ("autoformer", "attention over the shifts of a series, found by its autocorrelation"),
    (
        "beit",
        "a table of two-dimensional distances for each window of the picture, with rows for the class token",
    ),
    ("chameleon_vqgan", "convolutions alone: no attention and no positions"),
    (
        "clap_audio_model",
        "a table of two-dimensional distances for each window of the picture",
    ),
    ("conditional_detr", "queries' positions are computed from what they hold"),
    (
        "cpmant",
        "buckets of distances within a segment, and of pairs of segments across them",
    ),
    ("cvt", "the zeros around convolutions between layers tell where cells are"),
    (
        "d_fine",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    ("dab-detr", "queries' positions are sines of boxes that are predicted"),
    ("dac", "convolutions alone: no attention and no positions"),
    ("data2vec-audio", "a convolution over the embeddings tells where tokens are"),
    (
        "data2vec-vision",
        "a table of two-dimensional distances for each window of the picture, with rows for the class token",
    ),
    (
        "deepseek_ocr2_sam_vision_model",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "deformable_detr",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "deimv2",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    ("dinat", "a table of two-dimensional distances of neighbours"),
    ("donut-swin", "a table of two-dimensional distances for each window of the picture"),
    (
        "edgetam",
        "a backbone of timm, and points and boxes as sines of random projections of their coordinates",
    ),
    (
        "edgetam_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "edgetam_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "edgetam_video_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "edgetam_video_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    ("edgetam_vision_model", "a backbone of timm: its positions are that library's"),
    ("emu3_vqgan", "convolutions alone: no attention and no positions"),
    ("encodec", "convolutions alone: no attention and no positions"),
    (
        "eomt",
        "queries join the patches in the last layers; its table is that of `dinov2_with_registers`",
    ),
    ("esmfold2", "pairs of residues, with a table of their distances in the chain"),
    ("fastspeech2_conformer_hifigan", "convolutions alone: no attention and no positions"),
    ("flava_image_codebook", "convolutions alone: no attention and no positions"),
    ("florence_vision", "a table of rows and one of columns after stages of convolutions"),
    ("focalnet", "convolutions of several sizes in place of attention"),
    (
        "fun_asr_nano_encoder",
        "a memory of convolutions beside attention, and sines on frames of several widths",
    ),
    ("funnel", "queries are pooled from block to block, so that distances are in strides"),
    (
        "gemma3n_audio",
        "blocks of frames with sines of the distances in each block, projected by a layer",
    ),
    ("gemma3n_vision", "a backbone of timm: its positions are that library's"),
    (
        "gemma4_audio",
        "blocks of frames with sines of the distances in each block, projected by a layer",
    ),
    ("gemma4_unified_audio", "no layers: sounds are projected into the language model"),
    (
        "gemma4_unified_vision",
        "no layers: patches are projected into the language model, with a table of rows and one of columns",
    ),
    ("glm_image_vqmodel", "convolutions alone: no attention and no positions"),
    ("glpn", "the zeros around convolutions between layers tell where cells are"),
    (
        "got_ocr2_vision",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "granite_speech5_encoder",
        "blocks of frames, with a vector per clipped distance that queries read",
    ),
    (
        "granite_speech_encoder",
        "blocks of frames, with a vector per clipped distance that queries read",
    ),
    (
        "granite_speech_plus_encoder",
        "blocks of frames, with a vector per clipped distance that queries read",
    ),
    ("hiera", "stages of other widths, whose queries are pooled"),
    ("hubert", "a convolution over the embeddings tells where tokens are"),
    ("idefics2_perceiver", "latents without order read what has positions already"),
    ("idefics_perciever", "latents without order read what has positions already"),
    (
        "inkling2_text",
        "biases by content and distance: queries are projected to a number per distance",
    ),
    ("inkling_audio", "no layers: sounds are looked up in tables"),
    (
        "inkling_text",
        "biases by content and distance: queries are projected to a number per distance",
    ),
    ("inkling_vision", "no attention: patches are merged step by step"),
    ("janus_vqgan", "convolutions alone: no attention and no positions"),
    (
        "kosmos_2_5_vision_model",
        "a learned table of rows and one of columns are both added",
    ),
    ("layoutlmv2", "biases by the buckets of box coordinates, beside those of order"),
    ("layoutlmv3", "biases by the buckets of box coordinates, beside those of order"),
    ("layoutxlm", "biases by the buckets of box coordinates, beside those of order"),
    ("levit", "a table of two-dimensional distances without their sign"),
    ("lightglue", "the frequencies are learned from keypoints"),
    (
        "lw_detr",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "mask2former",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "maskformer",
        "sines of rows and columns at the pixels of a feature map, and a table of queries, in attention's inputs",
    ),
    (
        "maskformer-swin",
        "a table of two-dimensional distances for each window of the picture",
    ),
    ("mllama_vision_model", "a gate mixes a table of cells with one of tiles"),
    ("mobilevit", "attention between the same cell of all patches, among convolutions"),
    ("mobilevitv2", "attention between the same cell of all patches, among convolutions"),
    ("molmo2_adapter", "no layers: pooling of neighbouring cells"),
    ("muse_spark_audio", "convolutions alone: no attention and no positions"),
    (
        "musicflamingo",
        "positions are seconds of sound, and time turns a share of the whole width",
    ),
    (
        "oneformer",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "patchtsmixer",
        "sines that are centred and scaled by their own spread, without attention",
    ),
    ("patchtst", "sines that are centred and scaled by their own spread"),
    (
        "perceiver",
        "tables or sines of each kind of input, in its own preprocessor, and latents without order",
    ),
    (
        "phi4_multimodal_audio",
        "a table of distances that are clipped at one more before than after the query",
    ),
    (
        "pix2struct_vision_model",
        "a learned table of rows and one of columns are both added",
    ),
    ("poolformer", "pooling of neighbours in place of attention"),
    (
        "pp_chart2table_vision",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "pp_doclayout_v2",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "pp_doclayout_v3",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "pp_doclayout_v4",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "pp_formulanet_vision",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "pp_ocrv5_mobile_rec",
        "attention without positions on a line of convolutions (SVTR): its widths stand in the backbone",
    ),
    (
        "pp_ocrv5_server_rec",
        "attention without positions on a line of convolutions (SVTR): its widths stand in the backbone",
    ),
    (
        "pp_ocrv6_small_rec",
        "attention without positions on a line of convolutions (SVTR): its widths stand in the backbone",
    ),
    ("pvt", "a table for each stage, whose cells are of other sizes"),
    ("pvt_v2", "the zeros around convolutions between layers tell where cells are"),
    ("qwen2_5_omni_bigvgan", "convolutions alone: no attention and no positions"),
    (
        "reformer",
        "a table of rows and one of columns whose vectors stand side by side (`axial_pos_embds`)",
    ),
    (
        "rf_detr",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "rt_detr",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "rt_detr_v2",
        "deformable attention looks at points that queries compute, at sines of boxes that are predicted",
    ),
    (
        "sam2_hiera_det_model",
        "stages of other widths, and a table of windows over one of the background",
    ),
    (
        "sam2_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam2_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam2_video_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam2_video_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam2_vision_model",
        "stages of other widths, and a table of windows over one of the background",
    ),
    (
        "sam3_detr_decoder",
        "sines of boxes that are predicted, and a network that makes biases of them",
    ),
    (
        "sam3_detr_encoder",
        "sines of rows and columns at the pixels of a feature map, in attention's inputs",
    ),
    ("sam3_geometry_encoder", "sines of boxes and points"),
    (
        "sam3_lite_text_detr_decoder",
        "sines of boxes that are predicted, and a network that makes biases of them",
    ),
    (
        "sam3_lite_text_detr_encoder",
        "sines of rows and columns at the pixels of a feature map, in attention's inputs",
    ),
    ("sam3_lite_text_geometry_encoder", "sines of boxes and points"),
    ("sam3_lite_text_mask_decoder", "convolutions alone: no attention and no positions"),
    ("sam3_mask_decoder", "convolutions alone: no attention and no positions"),
    (
        "sam3_tracker_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam3_tracker_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam3_tracker_video_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam3_tracker_video_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam_hq_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam_hq_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam_hq_vision_model",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "sam_mask_decoder",
        "attention between prompts and a picture whose positions are added to both by sines of random projections",
    ),
    (
        "sam_prompt_encoder",
        "points and boxes as sines of random projections of their coordinates",
    ),
    (
        "sam_vision_model",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    ("sapiens2_head", "convolutions alone: no attention and no positions"),
    ("segformer", "the zeros around convolutions between layers tell where cells are"),
    (
        "seggpt",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    ("sew", "a convolution over the embeddings tells where tokens are"),
    (
        "sew-d",
        "a convolution over the embeddings tells where tokens are, before disentangled attention",
    ),
    (
        "slanet",
        "convolutions alone: no attention and no positions, and a recurrent decoder",
    ),
    (
        "slanext",
        "a recurrent decoder on `vision_config`, whose tables of distances queries read (decomposed relative positions)",
    ),
    (
        "slanext_vision",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    (
        "speecht5",
        "a convolution and weighted sines before each stack, and distances clipped at one more before than after the query",
    ),
    ("speecht5_hifigan", "convolutions alone: no attention and no positions"),
    ("superglue", "a network makes a vector of each keypoint's coordinates"),
    ("superpoint", "convolutions alone: no attention and no positions"),
    ("swiftformer", "the zeros around convolutions between layers tell where cells are"),
    ("swin", "a table of two-dimensional distances for each window of the picture"),
    ("swin2sr", "a small network makes the bias of a two-dimensional distance"),
    ("swinv2", "a small network makes the bias of a two-dimensional distance"),
    ("timm_backbone", "any model of timm: its positions are that library's"),
    ("timm_wrapper", "any model of timm: its positions are that library's"),
    ("unispeech", "a convolution over the embeddings tells where tokens are"),
    ("unispeech-sat", "a convolution over the embeddings tells where tokens are"),
    ("univnet", "convolutions alone: no attention and no positions"),
    (
        "unlimited_ocr_sam_vision_model",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    ("uvdoc", "convolutions alone: no attention and no positions"),
    ("uvdoc_backbone", "convolutions alone: no attention and no positions"),
    ("vibevoice_acoustic_tokenizer", "convolutions alone: no attention and no positions"),
    (
        "vibevoice_acoustic_tokenizer_decoder",
        "convolutions alone: no attention and no positions",
    ),
    (
        "vibevoice_acoustic_tokenizer_encoder",
        "convolutions alone: no attention and no positions",
    ),
    ("vibevoice_diffusion", "no attention: a step of diffusion as sines"),
    (
        "videomt",
        "queries join the patches in the last layers; its table is that of `dinov2_with_registers`",
    ),
    (
        "videoprism_vision_model",
        "a table of cells in the first layers, and one of frames in the others",
    ),
    (
        "vitdet",
        "tables of distances along the height and along the width that queries read (decomposed relative positions)",
    ),
    ("vits", "a vector for each of the nearest distances and none for the others"),
    (
        "vjepa2",
        "each coordinate of a pair is turned by another frequency's angle, which is no rotation",
    ),
    ("wav2vec2", "a convolution over the embeddings tells where tokens are"),
    (
        "wavlm",
        "a convolution over the embeddings tells where tokens are, and queries weigh the bias of each bucket",
    ),
    ("yolos", "a table that is added before each layer anew"),
];
