//! Model types with sines and cosines on the embeddings.

use super::Setting;
use super::plain::{Count, Embeds, Plain, Stack, Wave, bare, one, pair, sine, table, twice};

const MAX: &str = "max_position_embeddings";

/// fairseq's: the padding's row is zero, the first token has the row behind it.
const FAIRSEQ: Stack = sine(Wave::Fairseq, MAX, Count::Padding);
const MARIAN: Stack = sine(Wave::Marian, MAX, Count::Order);
/// Of sound, from the start of a recording.
const SOUND: Stack = sine(Wave::Whisper, "max_source_positions", Count::Order);
/// Series have no length that a table is made for but their own.
const SERIES: Stack = sine(Wave::Marian, "context_length", Count::Order);

pub(super) static MODELS: &[Plain] = &[
    one("audioflamingo3_encoder", SOUND),
    one("canary_decoder", sine(Wave::Ctrl, MAX, Count::Order)).note("the rows are divided by √hidden_size"),
    one("ctrl", sine(Wave::Ctrl, "n_positions", Count::Order)),
    one(
        "distilbert",
        bare().embeds(Embeds::If(
            "sinusoidal_pos_embds",
            Setting::Flag(true),
            false,
            &[Embeds::Sine(Wave::Paper, MAX, Count::Order), Embeds::Table(MAX, 0, 0, Count::Order)],
        )),
    ),
    twice("fsmt", FAIRSEQ),
    pair("informer", SERIES, sine(Wave::Marian, "prediction_length", Count::Order))
        .note("the decoder counts on from `context_length`; the encoder's `prob` attention keeps few queries"),
    one("kosmos_2_5_text_model", FAIRSEQ.sizes("embed_dim", "attention_heads", "layers")),
    one("kosmos_2_text_model", FAIRSEQ.sizes("embed_dim", "attention_heads", "layers")).note("the picture's tokens have positions too"),
    twice("m2m_100", FAIRSEQ),
    twice("marian", MARIAN),
    one("moss_transcribe_diarize_audio", SOUND),
    one("musicgen_decoder", sine(Wave::Musicgen, MAX, Count::Order)),
    one("musicgen_melody_decoder", sine(Wave::Musicgen, MAX, Count::Order)),
    twice("nllb-moe", FAIRSEQ),
    twice("pegasus", MARIAN),
    twice("pegasus_x", MARIAN).note("blocks of the encoder, every second layer's moved by half a block, and global tokens"),
    one("qwen2_5_omni_audio_encoder", SOUND).note("each window of frames counts from 0"),
    one("qwen2_audio_encoder", SOUND),
    one("qwen3_asr_encoder", sine(Wave::Whisper, MAX, Count::Order)).note("each window of frames counts from 0"),
    one("qwen3_omni_moe_audio_encoder", SOUND).note("each window of frames counts from 0"),
    pair(
        "speech_to_text",
        sine(Wave::Fairseq, "max_source_positions", Count::Padding),
        sine(Wave::Fairseq, "max_target_positions", Count::Padding),
    ),
    one(
        "timesfm",
        bare().embeds(Embeds::If(
            "use_positional_embedding",
            Setting::Flag(true),
            false,
            &[Embeds::Sine(Wave::Whisper, "", Count::Order), Embeds::None],
        )),
    )
    .note("padding in front is not counted"),
    pair(
        "time_series_transformer",
        SERIES,
        sine(Wave::Marian, "prediction_length", Count::Order),
    )
    .note("the decoder counts on from `context_length`"),
    one("tipsv2_text_model", sine(Wave::Whisper, MAX, Count::Order)),
    one(
        "trocr",
        bare()
            .embeds(Embeds::If(
                "use_learned_position_embeddings",
                Setting::Flag(true),
                true,
                &[
                    Embeds::Table(MAX, 2, 2, Count::Order),
                    Embeds::Sine(Wave::Fairseq, MAX, Count::Padding),
                ],
            ))
            .sizes("d_model", "decoder_attention_heads", "decoder_layers"),
    ),
    one("voxtral_encoder", SOUND),
    pair("whisper", SOUND, table("max_target_positions")),
    one("xglm", sine(Wave::Fairseq, MAX, Count::Order)),
];
