//! Model types with a learned row per position of a text.

use super::Setting;
use super::plain::{Count, Embeds, Plain, Reach, Scale, Stack, bare, one, pair, roberta, table, twice};

const MAX: &str = "max_position_embeddings";

const fn text(name: &'static str) -> Plain {
    one(name, table(MAX))
}

const fn padded(name: &'static str) -> Plain {
    one(name, roberta())
}

/// GPT-2's.
const fn gpt(name: &'static str) -> Plain {
    one(name, table("n_positions").scale(Scale::Gpt2))
}

const BART: Stack = table(MAX).two();

pub(super) static MODELS: &[Plain] = &[
    one("albert", table(MAX).narrow("embedding_size")),
    text("align_text_model"),
    padded("altclip_text_model"),
    text("aimv2_text_model"),
    twice("bart", BART),
    one("semantic", table("block_size")),
    one("coarse_acoustics", table("block_size")),
    one("fine_acoustics", table("block_size")),
    text("bert"),
    text("bert-generation"),
    text("big_bird").note("the blocks of `attention_type: block_sparse`"),
    twice("bigbird_pegasus", table(MAX)).note("the encoder's blocks of `attention_type: block_sparse`"),
    one("biogpt", BART),
    twice("blenderbot", table(MAX)),
    twice("blenderbot-small", table(MAX)),
    text("blip_text_model"),
    padded("bridgetower_text_model"),
    text("bros").note("the vectors of box distances that are added to scores"),
    padded("camembert"),
    text("canine").note("local blocks of the first layer, and every fourth character in the others"),
    text("chinese_clip_text_model"),
    padded("clap_text_model"),
    text("clip_text_model"),
    text("clipseg_text_model"),
    text("clvp_decoder").note("speech has this table, the text before it one of its own"),
    text("cohere_asr").around(&[("encoder_config", "parakeet_encoder")]),
    one("convbert", table(MAX).narrow("embedding_size")).note("half of the heads are convolutions"),
    padded("data2vec-text"),
    one("decision_transformer", table("max_ep_len").scale(Scale::Gpt2))
        .note("the return, state and action of a time step share its row; of GPT-2's own table all read row 0"),
    text("dpr"),
    one("electra", table(MAX).narrow("embedding_size")),
    text("ernie"),
    one("esm", bare().embeds(Embeds::Table(MAX, 0, 0, Count::PaddingAt(1)))).when(
        "position_embedding_type",
        Setting::Text("absolute"),
        true,
    ),
    text("flava_text_model"),
    text("fnet").note("layers are Fourier transforms"),
    one(
        "flaubert",
        bare().embeds(Embeds::If("sinusoidal_embeddings", Setting::Flag(true), false, &[XLM, PLAIN])),
    ),
    text("git")
        .around(&[("vision_config", "git_vision_model")])
        .note("the picture's tokens before the text have none of these"),
    gpt("gpt-sw3"),
    gpt("gpt2"),
    gpt("gpt_bigcode"),
    one("gpt_neo", table(MAX).scale(Scale::One).reach(Reach::GptNeo)),
    text("groupvit_text_model"),
    padded("ibert"),
    gpt("imagegpt"),
    text("instructblip_qformer").note("the queries before the text have none"),
    text("instructblipvideo_qformer").note("the queries before the text have none"),
    text("layoutlm").note("four tables of box coordinates"),
    pair(
        "led",
        table("max_encoder_position_embeddings").reach(Reach::Longformer),
        table("max_decoder_position_embeddings"),
    )
    .note("tokens of global attention see all and are seen by all"),
    padded("lilt").note("the boxes' own stream, whose scores are added"),
    one("longformer", roberta().reach(Reach::Longformer)).note("tokens of global attention see all and are seen by all"),
    padded("luke").note("entities, each at the mean of its words' rows"),
    one("lxmert", table(MAX).sizes("hidden_size", "num_attention_heads", "l_layers"))
        .note("the layers of pictures and of both, whose boxes are projected"),
    padded("markuplm").note("tables of a node's path"),
    twice("mbart", BART),
    text("megatron-bert"),
    text("metaclip_2_text_model"),
    one(
        "mobilebert",
        table(MAX)
            .sizes("intra_bottleneck_size", "num_attention_heads", "num_hidden_layers")
            .narrow("hidden_size"),
    ),
    one("mra", BART).note("scores of blocks are approximated"),
    twice("mvp", BART),
    one("nystromformer", BART).note("attention is approximated over landmarks"),
    one("openai-gpt", table("n_positions")),
    one("opt", BART.masked()),
    text("owlv2_text_model"),
    text("owlvit_text_model"),
    twice("plbart", BART),
    one(
        "pp_formulanet_text",
        BART.sizes("d_model", "decoder_attention_heads", "decoder_layers"),
    ),
    one("reformer", table(MAX))
        .when("axial_pos_embds", Setting::Flag(false), false)
        .note("local and hashed attention"),
    one("rembert", table(MAX).narrow("input_embedding_size")),
    padded("roberta"),
    padded("roberta-prelayernorm"),
    text("roc_bert"),
    one("sam3_lite_text_text_model", table(MAX)).note("the first and last layers are convolutions"),
    text("siglip2_text_model"),
    text("siglip_text_model"),
    text("splinter"),
    one("squeezebert", table(MAX).narrow("embedding_size")),
    text("tapas").note("positions begin again in each cell of the table; tables of rows, columns and ranks"),
    text("tvp").note("tables of the film's frames, rows and columns"),
    text("vilt").note("patches have a table of their own, resized to the picture"),
    text("videoprism_text_model"),
    text("visual_bert").note("regions of the picture have a table of their own"),
    padded("xlm-roberta"),
    padded("xlm-roberta-xl"),
    one(
        "xlm",
        bare().embeds(Embeds::If("sinusoidal_embeddings", Setting::Flag(true), false, &[XLM, PLAIN])),
    ),
    padded("xmod"),
    text("xclip_text_model"),
    one("yoso", BART).note("attention is sampled by hashing"),
];

const PLAIN: Embeds = Embeds::Table(MAX, 0, 0, Count::Order);
const XLM: Embeds = Embeds::Sine(super::plain::Wave::Paper, MAX, Count::Order);
