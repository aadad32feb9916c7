//! Model types of pictures, films and sounds with a learned row per cell.

use super::Setting;
use super::plain::{Count, Embeds, Grid, Leading, Plain, Stack, Wave, bare, one, picture};

/// Patches behind a class token.
const fn vit(name: &'static str) -> Plain {
    one(name, picture(1))
}

/// Patches alone.
const fn cells(name: &'static str) -> Plain {
    one(name, picture(0))
}

/// As many cells as this key says, a square of them.
const fn square(key: &'static str) -> Stack {
    bare().embeds(Embeds::Picture(Grid::Square(key), Leading::Fixed(0)))
}

const PATCHES: Grid = Grid::Patches("image_size", "patch_size");
/// Of detectors, which were trained on larger pictures than the table.
const PRETRAINED: Embeds = Embeds::Picture(Grid::Patches("pretrain_image_size", "patch_size"), Leading::Unread(1));

pub(super) static MODELS: &[Plain] = &[
    one(
        "aimv2_vision_model",
        bare().embeds(Embeds::If(
            "is_native",
            Setting::Flag(true),
            false,
            &[Embeds::Cells(PATCHES, 0, [0, 1]), Embeds::Picture(PATCHES, Leading::Fixed(0))],
        )),
    ),
    vit("altclip_vision_model"),
    one(
        "audio-spectrogram-transformer",
        bare().embeds(Embeds::Picture(Grid::Spectrogram, Leading::Fixed(2))),
    ),
    vit("blip_2_vision_model"),
    vit("blip_vision_model"),
    one("bridgetower_vision_model", picture(1)),
    vit("chinese_clip_vision_model"),
    vit("clip_vision_model"),
    vit("clipseg_vision_model"),
    one("cosmos3_edge_vision", square("num_patches")).note("rows are resized to each picture's cells"),
    one("deit", picture(2)),
    vit("dinov2"),
    vit("dinov2_with_registers").note("registers stand behind the class token and have no row"),
    vit("dpt"),
    vit("flava_image_model"),
    vit("git_vision_model"),
    cells("glm_image_vision").note("rows are interpolated at each picture's cells"),
    cells("granite_docling_vision").note("a cell reads the row of its share of the height and width"),
    cells("groupvit_vision_model").note("group tokens join the cells at each stage"),
    one(
        "hunyuan_vl_vision",
        bare().embeds(Embeds::Table("max_vit_seq_len", 1, 1, Count::Order)),
    )
    .note("the rows are a square that is resized to each picture"),
    cells("idefics2_vision").note("a cell reads the row of its share of the height and width"),
    cells("idefics3_vision").note("a cell reads the row of its share of the height and width"),
    vit("idefics_vision"),
    cells("ijepa"),
    vit("instructblip_vision_model"),
    vit("instructblipvideo_vision_model"),
    one(
        "internvl_vision",
        bare().embeds(Embeds::If(
            "use_absolute_position_embeddings",
            Setting::Flag(true),
            true,
            &[Embeds::Picture(PATCHES, Leading::Fixed(1)), Embeds::None],
        )),
    ),
    cells("janus_vision_model"),
    vit("kosmos_2_vision_model"),
    one("lw_detr_vit", bare().embeds(PRETRAINED)).note("most layers see one window of the picture"),
    vit("metaclip_2_vision_model"),
    vit("mgp-str"),
    cells("minicpm_ocr_vision").note("a cell reads the row of its share of the height and width"),
    cells("minicpmv4_6_vision").note("a cell reads the row of its share of the height and width"),
    cells("minicpmv4_7_vision").note("a cell reads the row of its share of the height and width"),
    cells("molmo2_vision"),
    cells("ovis2_vision"),
    vit("owlv2_vision_model"),
    vit("owlvit_vision_model"),
    cells("phi4_multimodal_vision").note("a cell reads the row of its share of the height and width"),
    one("pixio", bare().embeds(Embeds::Picture(PATCHES, Leading::Key("n_cls_tokens")))),
    one(
        "qianfan_ocr_vision",
        bare().embeds(Embeds::If(
            "use_absolute_position_embeddings",
            Setting::Flag(true),
            true,
            &[Embeds::Picture(PATCHES, Leading::Fixed(1)), Embeds::None],
        )),
    ),
    one(
        "radio",
        bare().embeds(Embeds::Picture(Grid::Patches("max_img_size", "patch_size"), Leading::Fixed(0))),
    )
    .note("rows are resized to the picture's cells; class tokens and registers have none"),
    vit("rf_detr_dinov2").note("most layers see one window of the picture"),
    one("siglip2_vision_model", square("num_patches")).note("rows are resized to each picture's cells"),
    cells("siglip_vision_model"),
    cells("smolvlm_vision").note("a cell reads the row of its share of the height and width"),
    vit("timesformer").note("a table of frames; time and space are attended to in turn, with `divided_space_time`"),
    vit("tipsv2_vision_model").note("registers stand behind the class token and have no row"),
    vit("unlimited_ocr_vision_encoder"),
    one("videomae", bare().embeds(Embeds::Sine(Wave::Paper, "", Count::Order))).note("cells of all frames are one line"),
    one("vit_mae", bare().embeds(Embeds::Cells(PATCHES, 1, [1, 0]))).note("the decoder, which has the same table at its own width"),
    vit("vit"),
    vit("vit_msn"),
    one(
        "vitdet",
        bare().embeds(Embeds::If(
            "use_absolute_position_embeddings",
            Setting::Flag(true),
            true,
            &[PRETRAINED, Embeds::None],
        )),
    )
    .when("use_relative_position_embeddings", Setting::Flag(false), true)
    .note("layers in `window_block_indices` see one window of the picture"),
    vit("vitpose_backbone").note("no class token: its row is added to every cell"),
    one("vivit", bare().embeds(Embeds::Picture(Grid::Tubes, Leading::Fixed(1)))),
    vit("xclip_vision_model").note("a token per frame passes between frames in each layer"),
];
