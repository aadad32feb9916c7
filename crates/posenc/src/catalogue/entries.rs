//! The entries, one per method, in the order of the data flow.

use super::{Claim, Entry, Paper};
use crate::explain::formulas;
use crate::words::{Words, said};

/// All of them.
pub(crate) static CATALOGUE: &[Entry] = &[
    NONE,
    LEARNED,
    SINUSOIDAL,
    INPUT_TABLE,
    ROTARY,
    SHAW,
    MUSIC_TRANSFORMER,
    TRANSFORMER_XL,
    XLNET,
    DEBERTA,
    ALIBI,
    CLIPPED,
    SHARED,
    T5,
    KERPLE,
    SANDWICH,
    FIRE,
    SWIN,
    LOG_CPB,
];

const fn claim(document: &'static str, quote: &'static str) -> Claim {
    Claim { document, quote }
}

const NO_PARAMETERS: Words<&str> = said("none", "无");
const NO_LIMIT: Words<&str> = said("none", "无");
const TABLE_LIMIT: Words<&str> = said(
    "the table's rows; past them an error, or a named policy",
    "表的行数；超出则报错，或采用指定的策略",
);
const SATURATES: Words<&str> = said("none: distances past ±k share a row", "无：超过 ±k 的距离共用一行");
const ON_SCORES: Words<&str> = said("scores of every layer, added before softmax", "每层的注意力分数，softmax 之前相加");

pub(crate) const NONE: Entry = Entry {
    name: "none",
    aliases: &["nope", "no-encoding"],
    title: said("no encoding (NoPE)", "无位置编码（NoPE）"),
    acts: said(
        "nowhere: only the causal mask orders tokens",
        "不作用于任何地方：只有因果掩码区分顺序",
    ),
    parameters: NO_PARAMETERS,
    limit: NO_LIMIT,
    models: &["Llama 4 and SmolLM3 (every fourth layer)", "Command A (layers with full attention)"],
    paper: Paper {
        authors: "Haviv, Ram, Press, Izsak, Levy",
        year: Some(2022),
        title: "Transformer Language Models without Positional Encodings Still Learn Positional Information",
        arxiv: Some("2203.16634"),
    },
    claims: &[],
    formula: formulas::NONE,
};

pub(crate) const LEARNED: Entry = Entry {
    name: "learned",
    aliases: &["absolute", "learned-absolute", "ape", "wpe"],
    title: said("learned absolute positions", "可学习的绝对位置编码"),
    acts: said("token embeddings, once", "词元嵌入，一次"),
    parameters: said("max_len · model_dim, once", "max_len · model_dim，全模型一份"),
    limit: TABLE_LIMIT,
    models: &["GPT-2", "BERT", "RoBERTa", "OPT", "BART", "ViT"],
    paper: Paper {
        authors: "Gehring, Auli, Grangier, Yarats, Dauphin",
        year: Some(2017),
        title: "Convolutional Sequence to Sequence Learning",
        arxiv: Some("1705.03122"),
    },
    claims: &[
        claim("000", "Simple, effective, but limited to max_seq_len"),
        claim("003", "Generalizes to longer seq? ✗ Limited to max length"),
        claim("004", "Limited to max_length positions"),
    ],
    formula: formulas::LEARNED,
};

pub(crate) const SINUSOIDAL: Entry = Entry {
    name: "sinusoidal",
    aliases: &["sinusoid", "sincos", "fixed"],
    title: said("sinusoidal positions", "正弦位置编码"),
    acts: said("token embeddings, once", "词元嵌入，一次"),
    parameters: NO_PARAMETERS,
    limit: NO_LIMIT,
    models: &["Transformer (2017)", "Marian", "M2M-100 and NLLB", "Whisper (encoder)"],
    paper: Paper {
        authors: "Vaswani and others",
        year: Some(2017),
        title: "Attention Is All You Need",
        arxiv: Some("1706.03762"),
    },
    claims: &[
        claim("000", "Deterministic, can extrapolate to longer sequences"),
        claim("001", "generalises to unseen lengths at inference time"),
        claim("003", "Generalizes to longer seq? ✓ Yes"),
        claim("004", "Can generalize to longer sequences"),
    ],
    formula: formulas::SINUSOIDAL,
};

pub(crate) const INPUT_TABLE: Entry = Entry {
    name: "input-table",
    aliases: &["additive", "additive-absolute", "additive-pos", "input"],
    title: said("a learned table at queries and keys", "加在查询与键上的可学习表"),
    acts: said(
        "inputs of queries and keys in every layer, before their projections; never values",
        "每层查询与键的输入，投影之前；从不作用于值",
    ),
    parameters: said("max_len · model_dim per layer", "每层 max_len · model_dim"),
    limit: TABLE_LIMIT,
    models: &[
        "symm-learning (AdditivePosMultiheadAttention)",
        "DETR and Shortformer (sinusoids at the same place)",
    ],
    paper: Paper {
        authors: "Press, Smith, Lewis",
        year: Some(2020),
        title: "Shortformer: Better Language Modeling Using Shorter Inputs",
        arxiv: Some("2012.15832"),
    },
    claims: &[claim("002", "Maximum supported sequence length.")],
    formula: formulas::INPUT_TABLE,
};

pub(crate) const ROTARY: Entry = Entry {
    name: "rotary",
    aliases: &[
        "rope",
        "rotary-halves",
        "rotary-interleaved",
        "rope-halves",
        "rope-interleaved",
        "xpos",
    ],
    title: said("rotary positions (RoPE)", "旋转位置编码（RoPE）"),
    acts: said(
        "queries and keys of every layer, after their projections",
        "每层的查询与键，投影之后",
    ),
    parameters: NO_PARAMETERS,
    limit: NO_LIMIT,
    models: &["Llama", "Mistral", "Qwen", "Gemma", "DeepSeek", "GPT-NeoX", "ChatGLM"],
    paper: Paper {
        authors: "Su, Lu, Pan, Murtadha, Wen, Liu",
        year: Some(2021),
        title: "RoFormer: Enhanced Transformer with Rotary Position Embedding",
        arxiv: Some("2104.09864"),
    },
    claims: &[
        claim("003", "Generalizes to longer seq? ✓ Yes (good extrapolation)"),
        claim("004", "Better length generalization"),
    ],
    formula: formulas::ROTARY,
};

pub(crate) const SHAW: Entry = Entry {
    name: "shaw",
    aliases: &["relative-key", "relative-keys"],
    title: said("Shaw's relative keys and values", "Shaw 的相对键与相对值"),
    acts: said("keys and values of every pair, in every layer", "每层中每一对的键与值"),
    parameters: said("2 · (2k + 1) · head_dim per layer", "每层 2 · (2k + 1) · head_dim"),
    limit: SATURATES,
    models: &[
        "tensor2tensor's relative Transformer",
        "wav2vec2-BERT and SeamlessM4T v2 (keys only)",
    ],
    paper: Paper {
        authors: "Shaw, Uszkoreit, Vaswani",
        year: Some(2018),
        title: "Self-Attention with Relative Position Representations",
        arxiv: Some("1803.02155"),
    },
    claims: &[claim("003", "Better for generalizing to longer sequences.")],
    formula: formulas::SHAW,
};

pub(crate) const MUSIC_TRANSFORMER: Entry = Entry {
    name: "music-transformer",
    aliases: &["music", "skew"],
    title: said("Music Transformer's relative keys", "Music Transformer 的相对键"),
    acts: said("keys of every causal pair, in every layer and head", "每层每个头中，每个因果对的键"),
    parameters: said("heads · max_len · head_dim per layer", "每层 heads · max_len · head_dim"),
    limit: said(
        "the table's distances; past them an error, or the farthest row",
        "表中的距离；超出则报错，或采用最远的一行",
    ),
    models: &["Music Transformer", "tensor2tensor (dot_product_relative_v2)"],
    paper: Paper {
        authors: "Huang and others",
        year: Some(2018),
        title: "Music Transformer: Generating Music with Long-Term Structure",
        arxiv: Some("1809.04281"),
    },
    claims: &[],
    formula: formulas::MUSIC_TRANSFORMER,
};

const PROJECTED: Words<&str> = said("scores of every layer, beside q · k", "每层的注意力分数，与 q · k 相加");

pub(crate) const TRANSFORMER_XL: Entry = Entry {
    name: "transformer-xl",
    aliases: &["txl", "transfo-xl"],
    title: said("Transformer-XL's relative positions", "Transformer-XL 的相对位置"),
    acts: PROJECTED,
    parameters: said(
        "2 · heads · head_dim + heads · head_dim · model_dim per layer",
        "每层 2 · heads · head_dim + heads · head_dim · model_dim",
    ),
    limit: NO_LIMIT,
    models: &["Transformer-XL", "wav2vec2-conformer, NeMo's conformers (both directions)"],
    paper: Paper {
        authors: "Dai, Yang, Yang, Carbonell, Le, Salakhutdinov",
        year: Some(2019),
        title: "Transformer-XL: Attentive Language Models beyond a Fixed-Length Context",
        arxiv: Some("1901.02860"),
    },
    claims: &[],
    formula: formulas::TRANSFORMER_XL,
};

pub(crate) const XLNET: Entry = Entry {
    name: "xlnet",
    aliases: &["xl-net"],
    title: said("XLNet's relative positions and segments", "XLNet 的相对位置与相对分段"),
    acts: PROJECTED,
    parameters: said(
        "5 · heads · head_dim + heads · head_dim · model_dim per layer",
        "每层 5 · heads · head_dim + heads · head_dim · model_dim",
    ),
    limit: NO_LIMIT,
    models: &["XLNet"],
    paper: Paper {
        authors: "Yang, Dai, Yang, Carbonell, Salakhutdinov, Le",
        year: Some(2019),
        title: "XLNet: Generalized Autoregressive Pretraining for Language Understanding",
        arxiv: Some("1906.08237"),
    },
    claims: &[],
    formula: formulas::XLNET,
};

pub(crate) const DEBERTA: Entry = Entry {
    name: "deberta",
    aliases: &["disentangled", "deberta-v2", "deberta-v3"],
    title: said("DeBERTa's disentangled attention", "DeBERTa 的解耦注意力"),
    acts: PROJECTED,
    parameters: said(
        "2k · model_dim, once; twice heads · head_dim · model_dim per layer if not shared",
        "2k · model_dim，全模型一份；投影不共用时每层另有两个 heads · head_dim · model_dim",
    ),
    limit: said("none: far distances share a row", "无：远处的距离共用一行"),
    models: &["DeBERTa", "DeBERTa v2 and v3", "mDeBERTa"],
    paper: Paper {
        authors: "He, Liu, Gao, Chen",
        year: Some(2020),
        title: "DeBERTa: Decoding-enhanced BERT with Disentangled Attention",
        arxiv: Some("2006.03654"),
    },
    claims: &[],
    formula: formulas::DEBERTA,
};

pub(crate) const ALIBI: Entry = Entry {
    name: "alibi",
    aliases: &["linear-bias", "linear-biases"],
    title: said("attention with linear biases (ALiBi)", "线性偏置注意力（ALiBi）"),
    acts: ON_SCORES,
    parameters: NO_PARAMETERS,
    limit: NO_LIMIT,
    models: &["BLOOM", "MPT", "Falcon-RW", "Baichuan-13B", "JinaBERT v2"],
    paper: Paper {
        authors: "Press, Smith, Lewis",
        year: Some(2021),
        title: "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
        arxiv: Some("2108.12409"),
    },
    claims: &[
        claim("000", "Adds bias to attention scores, excellent extrapolation"),
        claim("004", "Extrapolates to longer contexts well"),
    ],
    formula: formulas::ALIBI,
};

pub(crate) const CLIPPED: Entry = Entry {
    name: "clipped",
    aliases: &["clipped-bias", "relative-bias"],
    title: said("clipped relative bias", "截断的相对偏置"),
    acts: ON_SCORES,
    parameters: said("(2k + 1) · heads per layer", "每层 (2k + 1) · heads"),
    limit: SATURATES,
    models: &["document 003's \"T5 style\" sample", "Swin (in two dimensions)"],
    paper: Paper {
        authors: "Shaw, Uszkoreit, Vaswani (the clipping; as a bias: Raffel and others, arXiv 1910.10683)",
        year: Some(2018),
        title: "Self-Attention with Relative Position Representations",
        arxiv: Some("1803.02155"),
    },
    claims: &[claim("003", "Generalizes to longer seq? ✓ Yes")],
    formula: formulas::CLIPPED,
};

pub(crate) const SHARED: Entry = Entry {
    name: "shared",
    aliases: &["shared-bias", "additive-relative"],
    title: said("shared relative bias", "各头共用的相对偏置"),
    acts: said(
        "scores of every layer, subtracted before softmax",
        "每层的注意力分数，softmax 之前相减",
    ),
    parameters: said("2k + 1 per layer, the same for all heads", "每层 2k + 1，各头共用"),
    limit: SATURATES,
    models: &["symm-learning (AdditiveRelMultiheadAttention)"],
    paper: Paper {
        authors: "symm-learning 0.8.1",
        year: None,
        title: "AdditiveRelMultiheadAttention",
        arxiv: None,
    },
    claims: &[],
    formula: formulas::SHARED,
};

pub(crate) const T5: Entry = Entry {
    name: "t5",
    aliases: &["t5-bias", "bucketed", "buckets"],
    title: said("T5's bucketed relative bias", "T5 的分桶相对偏置"),
    acts: ON_SCORES,
    parameters: said("buckets · heads, once", "buckets · heads，全模型一份"),
    limit: said(
        "none: distances past max_distance share a bucket",
        "无：超过 max_distance 的距离共用一个桶",
    ),
    models: &["T5", "mT5", "LongT5", "MPNet"],
    paper: Paper {
        authors: "Raffel and others",
        year: Some(2019),
        title: "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        arxiv: Some("1910.10683"),
    },
    claims: &[claim("003", "Generalizes to longer seq? ✓ Yes")],
    formula: formulas::T5,
};

pub(crate) const KERPLE: Entry = Entry {
    name: "kerple",
    aliases: &["kerple-log", "kerple-power"],
    title: said("KERPLE's kernels of the distance", "KERPLE 的距离核"),
    acts: ON_SCORES,
    parameters: said("2 · heads, once", "2 · heads，全模型一份"),
    limit: NO_LIMIT,
    models: &["KERPLE's GPT-NeoX (162M)"],
    paper: Paper {
        authors: "Chi, Fan, Ramadge, Rudnicky",
        year: Some(2022),
        title: "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
        arxiv: Some("2205.09921"),
    },
    claims: &[],
    formula: formulas::KERPLE,
};

pub(crate) const SANDWICH: Entry = Entry {
    name: "sandwich",
    aliases: &["sandwich-bias"],
    title: said("Sandwich: products of sinusoids by distance", "Sandwich：按距离的正弦内积"),
    acts: ON_SCORES,
    parameters: NO_PARAMETERS,
    limit: NO_LIMIT,
    models: &["NeMo (sandwich)"],
    paper: Paper {
        authors: "Chi, Fan, Rudnicky, Ramadge",
        year: Some(2022),
        title: "Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis",
        arxiv: Some("2212.10356"),
    },
    claims: &[],
    formula: formulas::SANDWICH,
};

pub(crate) const FIRE: Entry = Entry {
    name: "fire",
    aliases: &["functional-interpolation"],
    title: said("FIRE: functional interpolation of positions", "FIRE：相对位置的函数插值"),
    acts: ON_SCORES,
    parameters: said(
        "2 · hidden + heads · (hidden + 1) + 2 per layer",
        "每层 2 · hidden + heads · (hidden + 1) + 2",
    ),
    limit: NO_LIMIT,
    models: &["FIRE's and DAPE's models"],
    paper: Paper {
        authors: "Li and others",
        year: Some(2023),
        title: "Functional Interpolation for Relative Positions Improves Long Context Transformers",
        arxiv: Some("2310.04418"),
    },
    claims: &[],
    formula: formulas::FIRE,
};

pub(crate) const SWIN: Entry = Entry {
    name: "swin",
    aliases: &["swin-bias", "swin-table"],
    title: said("Swin's table of offsets in a window", "Swin 的窗口内偏移表"),
    acts: ON_SCORES,
    parameters: said(
        "(2 · rows − 1) · (2 · columns − 1) · heads per layer",
        "每层 (2 · 行数 − 1) · (2 · 列数 − 1) · heads",
    ),
    limit: said("the window; past it an error", "窗口；超出则报错"),
    models: &["Swin", "MaskFormer and Donut (their Swin encoders)", "CLAP"],
    paper: Paper {
        authors: "Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo",
        year: Some(2021),
        title: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        arxiv: Some("2103.14030"),
    },
    claims: &[],
    formula: formulas::SWIN,
};

pub(crate) const LOG_CPB: Entry = Entry {
    name: "log-cpb",
    aliases: &["cpb", "swin-v2", "swinv2"],
    title: said("Swin v2's log-spaced continuous bias", "Swin v2 的对数连续偏置"),
    acts: ON_SCORES,
    parameters: said("hidden · (heads + 3) per layer", "每层 hidden · (heads + 3)"),
    limit: NO_LIMIT,
    models: &["Swin v2", "Swin2SR"],
    paper: Paper {
        authors: "Liu, Hu, Lin and others",
        year: Some(2021),
        title: "Swin Transformer V2: Scaling Up Capacity and Resolution",
        arxiv: Some("2111.09883"),
    },
    claims: &[],
    formula: formulas::LOG_CPB,
};
