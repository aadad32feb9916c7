//! Model types with relative positions in their layers.

use super::Setting;
use super::plain::{Count, Distance, Embeds, Plain, Reach, Scale, Scores, Span, Stack, Wave, bare, one, pair, roberta, sine, three, twice};

/// Buckets under T5's keys, one table; scores are not scaled.
const T5: Stack = t5(false);

const fn t5(own: bool) -> Stack {
    bare()
        .scores(Scores::T5 {
            buckets: "relative_attention_num_buckets",
            distance: Distance::Key("relative_attention_max_distance"),
            own,
        })
        .scale(Scale::One)
}

/// NeMo's conformers.
const NEMO: Stack = bare().scores(Scores::Conformer("bias_u", "bias_v", "relative_k_proj"));

const DEBERTA: Stack = bare().narrow("embedding_size").embeds(Embeds::If(
    "position_biased_input",
    Setting::Flag(true),
    true,
    &[Embeds::Table("max_position_embeddings", 0, 0, Count::Order), Embeds::None],
));

/// DETR's encoder.
const PIXELS: Stack = bare().scores(Scores::Pixels).pixels();
const DETR: &str = "where queries meet the picture, they add the decoder's table and its cells the encoder's sines";

const BOXES: &str = "biases by the buckets of box coordinates, beside those of order";

pub(super) static MODELS: &[Plain] = &[
    one("bloom", bare().scores(Scores::Alibi).masked()),
    one("deberta", DEBERTA.scores(Scores::Deberta(1))),
    one("deberta-v2", DEBERTA.scores(Scores::Deberta(2)))
        .note("`norm_rel_ebd` normalises the rows of distances, `conv_kernel_size` adds a convolution"),
    pair("detr", PIXELS, bare().scores(Scores::Queries("num_queries"))).note(DETR),
    pair("table-transformer", PIXELS, bare().scores(Scores::Queries("num_queries"))).note(DETR),
    one("falcon", bare().scores(Scores::Falcon).masked()).when("alibi", Setting::Flag(true), false),
    twice(
        "fastspeech2_conformer",
        bare().scores(Scores::Conformer("pos_bias_u", "pos_bias_v", "linear_pos")),
    ),
    pair("longt5", T5.reach(Reach::Radius), T5).note("the encoder's summaries of blocks, with `transient-global`"),
    one(
        "mpnet",
        roberta().scores(Scores::T5 {
            buckets: "relative_attention_num_buckets",
            distance: Distance::Fixed(128),
            own: false,
        }),
    ),
    one("mpt", bare().scores(Scores::Mpt).scale(Scale::Mpt)),
    twice("mt5", T5),
    one("nemotron_asr_streaming_encoder", NEMO.reach(Reach::Sliding)),
    one("parakeet_encoder", NEMO),
    one("pix2struct_text_model", T5.named("decoder")),
    twice("pop2piano", T5),
    pair(
        "prophetnet",
        bare().embeds(Embeds::Table("max_position_embeddings", 0, 0, Count::Behind)),
        bare().left("the hidden state is projected to a number per head and bucket, which the core has no term for"),
    )
    .note("the decoder's n streams"),
    three(
        "seamless_m4t",
        SPEECH.scores(WAV2VEC2),
        sine(Wave::Fairseq, "max_position_embeddings", Count::Padding),
    )
    .when("position_embeddings_type", Setting::Not("rotary"), true)
    .note("the model of units, as that of text"),
    three(
        "seamless_m4t_v2",
        SPEECH.scores(Scores::If(
            "position_embeddings_type",
            Setting::Text("relative_key"),
            true,
            &[SIDES, Scores::None],
        )),
        sine(Wave::Fairseq, "max_position_embeddings", Count::Padding),
    )
    .note("the speech encoder's chunks, and the decoder of units, whose characters and units have weighted sines"),
    twice("switch_transformers", T5),
    twice("t5", T5),
    pair("udop", bare().left(BOXES), T5),
    twice("umt5", t5(true)),
    one("xlnet", bare().scores(Scores::XlNet)),
    one(
        "wav2vec2-bert",
        bare().scores(Scores::If(
            "position_embeddings_type",
            Setting::Text("relative_key"),
            true,
            &[SIDES, WAV2VEC2],
        )),
    )
    .when("position_embeddings_type", Setting::Not("rotary"), true),
    one("wav2vec2-conformer", bare().scores(WAV2VEC2)).when("position_embeddings_type", Setting::Not("rotary"), true),
];

const SIDES: Scores = Scores::Keys(Span::Sides("left_max_position_embeddings", "right_max_position_embeddings"));
const SPEECH: Stack = bare().sizes("hidden_size", "speech_encoder_attention_heads", "speech_encoder_layers");

const WAV2VEC2: Scores = Scores::If(
    "position_embeddings_type",
    Setting::Text("relative"),
    true,
    &[Scores::Conformer("pos_bias_u", "pos_bias_v", "linear_pos"), Scores::None],
);
