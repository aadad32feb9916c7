//! What a GGUF file does not say: a line for each architecture.
//!
//! The rules are those of llama.cpp (its `llama_model_rope_type` for the pairing, and what each architecture's loader and graph do with windows, bases and scales), whose weights these files hold: converters permute the
//! projections of some model types, so the pairing is that of the file's weights, not that of the model in transformers.

use crate::config::registry::ordinal;
use crate::rotate::Pairing;

/// What an architecture's layers do with positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture {
    pub name: &'static str,
    pub method: Method,
    pub windows: Windows,
    /// Frequencies of the layers that slide.
    pub sliding: Sliding,
    pub turning: Turning,
    /// Layers without attention, beside those without key heads.
    pub recurrent: Recurrent,
    /// The part of a head that turns stands behind the other, and key heads are as many as query heads (latent attention).
    pub latent: bool,
    /// `yarn_log_multiplier` is stored times 0.1, and its square multiplies the softmax scale.
    pub log_multiplier: Multiplier,
    pub scale: Scale,
    /// The cap of scores where the file has none; `None`: scores are not capped.
    pub softcap: Option<f64>,
    pub sinks: bool,
    /// YaRN's ramp ends at whole indices; no key says it.
    pub truncate: bool,
    /// YaRN's `beta_fast` where the file has none.
    pub beta_fast: f64,
    /// A tensor may divide the frequencies.
    pub divided: bool,
    /// What its positions also do and a list of layers does not say.
    pub note: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Rotary(Pairing),
    /// Several axes in chunks of halves; this pairing and one axis where the file has no sections.
    Chunked(Option<Pairing>),
    /// Several axes in turn, on halves.
    Spread,
    /// Slopes down to 2^−max; the file's `attention.max_alibi_bias` if `None`.
    Alibi {
        max: Option<f64>,
        symmetric: bool,
    },
    /// Rotary positions, or ALiBi in a model of 40 layers.
    Baichuan,
    /// A row per position, up to `context_length`.
    Learned,
    /// T5's buckets; with a decoder or without.
    T5 {
        decoder: bool,
    },
    /// Layers without positions.
    Nothing,
    Refused(&'static str),
}

/// Which layers slide where `attention.sliding_window_pattern` is no list, and how wide where there is no `attention.sliding_window`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub layers: Layers,
    pub absent: Absent,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layers {
    None,
    All,
    /// Layer i is full where (i + 1) mod n = 0.
    EveryLast(usize),
    /// Layer i is full where i mod n = 0.
    EveryFirst(usize),
    /// The file must have a list.
    Listed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// No layer slides.
    None,
    Keys(usize),
    /// Missing.
    Needed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// The last n keys.
    Last,
    /// n / 2 keys on each side.
    Sides,
    /// Keys of the same chunk of n.
    Chunk,
}

/// The base is `rope.freq_base_swa`, else …
#[derive(Clone, Copy, Debug)]
pub(super) enum Sliding {
    /// that of full layers, scaled alike.
    Same,
    /// that of full layers, not scaled.
    Plain,
    /// 10 000, not scaled.
    Local,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Turning {
    All,
    /// Not where (i + 1) mod n = 0; all, in a file with a window of 0.
    NotEveryLast(usize),
    /// Not where i mod n = 0; all, where no layer slides.
    NotEveryFirst(usize),
    /// Only layers that slide; all, where none does.
    SlidingIfAny,
    /// Only layers that slide.
    Sliding,
    /// None where `rope.scaling.finetuned` is false.
    Finetuned,
    /// `attention.rope_pattern`.
    Listed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Recurrent {
    None,
    /// All but each n-th, which `full_attention_interval` may change; or `attention.recurrent_layers`.
    Interval(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Multiplier {
    /// As written; for tables alone.
    Written,
    /// Stored times 0.1; its square multiplies the softmax scale.
    Tenth,
    /// The same, and YaRN's numerator has it too where it is not 1 (DeepSeek-V2).
    TenthOfBoth,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// 1 / √key_length.
    Head,
    One,
    /// 1 / √(embedding_length / heads) in a model of this many layers.
    WidthAt(usize),
    /// 1 / √rope.dimension_count.
    Turned,
    /// `attention.output_scale`, or this.
    Output(f64),
}

const fn of(name: &'static str, method: Method) -> Architecture {
    Architecture {
        name,
        method,
        windows: Windows {
            layers: Layers::None,
            absent: Absent::None,
            shape: Shape::Last,
        },
        sliding: Sliding::Same,
        turning: Turning::All,
        recurrent: Recurrent::None,
        latent: false,
        log_multiplier: Multiplier::Written,
        scale: Scale::Head,
        softcap: None,
        sinks: false,
        truncate: true,
        beta_fast: 32.0,
        divided: false,
        note: "",
    }
}

const fn neighbours(name: &'static str) -> Architecture {
    of(name, Method::Rotary(Pairing::Interleaved))
}

const fn halves(name: &'static str) -> Architecture {
    of(name, Method::Rotary(Pairing::Halves))
}

const fn refused(name: &'static str, reason: &'static str) -> Architecture {
    of(name, Method::Refused(reason))
}

impl Architecture {
    const fn windows(self, layers: Layers, absent: Absent) -> Architecture {
        Architecture {
            windows: Windows {
                layers,
                absent,
                shape: Shape::Last,
            },
            ..self
        }
    }

    const fn shape(self, shape: Shape) -> Architecture {
        Architecture {
            windows: Windows { shape, ..self.windows },
            ..self
        }
    }

    const fn sliding(self, sliding: Sliding) -> Architecture {
        Architecture { sliding, ..self }
    }

    const fn turning(self, turning: Turning) -> Architecture {
        Architecture { turning, ..self }
    }

    const fn interval(self, n: usize) -> Architecture {
        Architecture {
            recurrent: Recurrent::Interval(n),
            ..self
        }
    }

    const fn latent(self) -> Architecture {
        Architecture { latent: true, ..self }
    }

    const fn log_multiplier(self, log_multiplier: Multiplier) -> Architecture {
        Architecture { log_multiplier, ..self }
    }

    const fn scale(self, scale: Scale) -> Architecture {
        Architecture { scale, ..self }
    }

    const fn softcap(self, cap: f64) -> Architecture {
        Architecture {
            softcap: Some(cap),
            ..self
        }
    }

    const fn divided(self) -> Architecture {
        Architecture { divided: true, ..self }
    }

    const fn note(self, note: &'static str) -> Architecture {
        Architecture { note, ..self }
    }
}

const RECURRENT: &str = "its layers are recurrent: there is no attention to tell positions to";
const DRAFT: &str = "a drafting model: its positions are those of the model it drafts for";

pub(super) static ARCHITECTURES: &[Architecture] = &[
    halves("afmoe")
        .windows(Layers::EveryLast(4), Absent::None)
        .turning(Turning::NotEveryLast(4)),
    halves("apertus").divided(),
    neighbours("arcee").divided(),
    neighbours("arctic"),
    refused("arwkv7", RECURRENT),
    of("baichuan", Method::Baichuan),
    neighbours("bailingmoe").divided().scale(Scale::Turned),
    halves("bailingmoe2"),
    of("bailingmoe3", Method::Chunked(Some(Pairing::Interleaved))).latent(),
    of("bert", Method::Learned),
    halves("bitnet"),
    of(
        "bloom",
        Method::Alibi {
            max: Some(8.0),
            symmetric: false,
        },
    ),
    neighbours("chameleon"),
    neighbours("chatglm"),
    refused("clip", "a tower for pictures or sound, in a file beside the language model's"),
    halves("codeshell"),
    halves("cogvlm"),
    neighbours("cohere2")
        .divided()
        .windows(Layers::EveryLast(4), Absent::Needed)
        .turning(Turning::Sliding),
    neighbours("cohere2moe")
        .divided()
        .windows(Layers::EveryFirst(4), Absent::Needed)
        .turning(Turning::Sliding),
    neighbours("command-r"),
    halves("dbrx"),
    neighbours("deci").divided(),
    neighbours("deepseek").divided(),
    neighbours("deepseek2").latent().log_multiplier(Multiplier::TenthOfBoth),
    halves("deepseek2-ocr"),
    neighbours("deepseek32")
        .latent()
        .log_multiplier(Multiplier::Tenth)
        .note("the indexer turns halves"),
    refused(
        "deepseek4",
        "compressed keys turn by a base of their own, and outputs are turned back",
    ),
    refused("dflash", DRAFT),
    halves("dots1"),
    refused("dots3note", "layers that slide have latent heads of other widths"),
    halves("dream"),
    refused("eagle3", DRAFT),
    neighbours("ernie4_5"),
    neighbours("ernie4_5-moe"),
    halves("eurobert"),
    halves("exaone").divided(),
    halves("exaone-moe")
        .divided()
        .windows(Layers::EveryLast(4), Absent::Needed)
        .turning(Turning::Sliding),
    halves("exaone4")
        .divided()
        .windows(Layers::EveryLast(4), Absent::None)
        .turning(Turning::SlidingIfAny),
    halves("falcon"),
    halves("falcon-h1").divided(),
    halves("gemma"),
    halves("gemma-embedding")
        .windows(Layers::EveryLast(6), Absent::Needed)
        .shape(Shape::Sides)
        .sliding(Sliding::Local),
    halves("gemma2")
        .windows(Layers::EveryLast(2), Absent::Keys(4096))
        .softcap(50.0)
        .scale(Scale::WidthAt(46)),
    halves("gemma3")
        .windows(Layers::EveryLast(6), Absent::None)
        .sliding(Sliding::Local)
        .scale(Scale::WidthAt(62)),
    halves("gemma3n")
        .windows(Layers::EveryLast(5), Absent::Needed)
        .sliding(Sliding::Local)
        .scale(Scale::One),
    halves("gemma4")
        .divided()
        .windows(Layers::Listed, Absent::Needed)
        .sliding(Sliding::Local)
        .scale(Scale::One),
    refused("gemma4-assistant", DRAFT),
    neighbours("glm-dsa")
        .latent()
        .log_multiplier(Multiplier::Tenth)
        .note("the indexer turns too"),
    of("glm4", Method::Chunked(Some(Pairing::Interleaved))),
    of("glm4moe", Method::Chunked(Some(Pairing::Halves))),
    of("glm5-next", Method::Nothing).latent(),
    of("gpt2", Method::Learned),
    Architecture {
        sinks: true,
        truncate: false,
        ..halves("gpt-oss")
            .windows(Layers::EveryLast(2), Absent::Needed)
            .note("llama.cpp ends YaRN's ramp at whole indices; the model was trained without, and so it is read")
    },
    refused(
        "gptj",
        "llama.cpp names it and has no graph for it, so what its files hold is not settled",
    ),
    halves("gptneox"),
    neighbours("granite").divided().turning(Turning::Finetuned),
    neighbours("granite_swa")
        .divided()
        .windows(Layers::Listed, Absent::Needed)
        .turning(Turning::Listed),
    neighbours("granitehybrid").divided().turning(Turning::Finetuned),
    neighbours("granitemoe").divided().turning(Turning::Finetuned),
    neighbours("graniteswitch").divided().turning(Turning::Finetuned),
    Architecture {
        beta_fast: 8.0,
        ..halves("grok").softcap(30.0).scale(Scale::Output(0.088_388_347_648_318_45))
    },
    halves("grovemoe"),
    halves("hrm_text"),
    halves("hunyuan-dense"),
    halves("hunyuan-moe").divided(),
    of("hunyuan_vl", Method::Chunked(Some(Pairing::Halves))).divided(),
    halves("hy_v3").divided(),
    neighbours("hy_v4").latent(),
    neighbours("internlm2"),
    of(
        "jais",
        Method::Alibi {
            max: None,
            symmetric: false,
        },
    ),
    halves("jais2"),
    of("jamba", Method::Nothing),
    of(
        "jina-bert-v2",
        Method::Alibi {
            max: Some(8.0),
            symmetric: true,
        },
    ),
    halves("jina-bert-v3"),
    of("kimi-k3", Method::Nothing).latent(),
    of("kimi-linear", Method::Nothing).latent(),
    halves("laguna")
        .windows(Layers::EveryFirst(4), Absent::None)
        .sliding(Sliding::Plain),
    halves("lfm2").windows(Layers::All, Absent::None),
    halves("lfm2moe").windows(Layers::All, Absent::None),
    neighbours("llada").divided(),
    halves("llada-moe"),
    neighbours("llama").divided().windows(Layers::All, Absent::None),
    neighbours("llama-embed").divided(),
    neighbours("llama4")
        .divided()
        .windows(Layers::EveryLast(4), Absent::Keys(8192))
        .shape(Shape::Chunk)
        .turning(Turning::NotEveryLast(4)),
    neighbours("maincoder"),
    refused("mamba", RECURRENT),
    refused("mamba2", RECURRENT),
    halves("maple").windows(Layers::Listed, Absent::Needed).turning(Turning::Sliding),
    halves("mellum").windows(Layers::EveryLast(4), Absent::None).sliding(Sliding::Plain),
    halves("mimo2").windows(Layers::Listed, Absent::Needed).sliding(Sliding::Local),
    neighbours("minicpm").divided(),
    halves("minicpm3").divided().latent(),
    halves("minimax-01").interval(8),
    halves("minimax-m2"),
    halves("minimax-m3").note("the indexer turns too"),
    neighbours("mistral3").divided(),
    neighbours("mistral4").latent().log_multiplier(Multiplier::Tenth),
    halves("modern-bert")
        .windows(Layers::EveryFirst(3), Absent::None)
        .shape(Shape::Sides)
        .sliding(Sliding::Local),
    of(
        "mpt",
        Method::Alibi {
            max: None,
            symmetric: false,
        },
    ),
    neighbours("muse-glimmer")
        .windows(Layers::EveryLast(4), Absent::Needed)
        .sliding(Sliding::Plain)
        .turning(Turning::Sliding),
    neighbours("nanbeige").divided().note("the layers run several times"),
    halves("nemotron"),
    of("nemotron_h", Method::Nothing),
    of("nemotron_h_moe", Method::Nothing),
    neighbours("neo-bert"),
    halves("nomic-bert"),
    halves("nomic-bert-moe"),
    neighbours("olmo"),
    halves("olmo2").windows(Layers::EveryLast(4), Absent::None).sliding(Sliding::Plain),
    halves("olmoe"),
    halves("openelm"),
    halves("orion"),
    of("paddleocr", Method::Chunked(None)),
    halves("pangu-embedded").divided(),
    halves("phi2"),
    halves("phi3")
        .divided()
        .windows(Layers::All, Absent::None)
        .note("llama.cpp lets no layer slide; the model was trained with its window"),
    halves("phimoe").divided(),
    halves("plamo"),
    halves("plamo2"),
    halves("plamo3").windows(Layers::EveryLast(8), Absent::None).sliding(Sliding::Local),
    neighbours("plm").latent(),
    neighbours("pockettts"),
    halves("qwen").note("a longer base and a logarithmic temperature past the trained length, which GGUF does not hold"),
    halves("qwen2"),
    halves("qwen2moe"),
    of("qwen2vl", Method::Chunked(None)),
    halves("qwen3"),
    of("qwen35", Method::Spread).interval(4),
    of("qwen35moe", Method::Spread).interval(4),
    halves("qwen3moe"),
    halves("qwen3next").interval(4),
    of("qwen3tts", Method::Spread),
    of("qwen3vl", Method::Spread),
    of("qwen3vlmoe", Method::Spread),
    of(
        "refact",
        Method::Alibi {
            max: Some(8.0),
            symmetric: false,
        },
    ),
    halves("rnd1"),
    refused("rwkv6", RECURRENT),
    refused("rwkv6qwen2", RECURRENT),
    refused("rwkv7", RECURRENT),
    halves("seed_oss"),
    halves("smallthinker")
        .windows(Layers::EveryFirst(4), Absent::None)
        .turning(Turning::NotEveryFirst(4)),
    neighbours("smollm3").turning(Turning::NotEveryLast(4)),
    halves("spark2_5").windows(Layers::Listed, Absent::Needed),
    halves("stablelm"),
    of("starcoder", Method::Learned),
    halves("starcoder2"),
    halves("step35")
        .divided()
        .windows(Layers::Listed, Absent::Needed)
        .sliding(Sliding::Local),
    of("t5", Method::T5 { decoder: true }).scale(Scale::One),
    of("t5encoder", Method::T5 { decoder: false }).scale(Scale::One),
    halves("talkie"),
    refused("wavtokenizer-dec", "convolutions: there is no attention to tell positions to"),
    neighbours("xverse"),
];

impl Architecture {
    /// What its layers do, in a few words, or why it is not read.
    pub fn summary(&self) -> Result<String, &'static str> {
        let mut text = match self.method {
            Method::Rotary(Pairing::Interleaved) => "rotary, interleaved".to_string(),
            Method::Rotary(_) => "rotary, halves".into(),
            Method::Chunked(without) => {
                let text = "rotary, halves, axes in chunks by `rope.dimension_sections`";
                match without {
                    None => text.into(),
                    Some(Pairing::Interleaved) => format!("{text}; interleaved on one axis without"),
                    Some(_) => format!("{text}; one axis without"),
                }
            }
            Method::Spread => "rotary, halves, axes spread by `rope.dimension_sections`".into(),
            Method::Alibi { max: Some(max), symmetric } => {
                format!("ALiBi, {}slopes to 2^−{max}", if symmetric { "symmetric, " } else { "" })
            }
            Method::Alibi { max: None, .. } => "ALiBi by `attention.max_alibi_bias`, or none of it".into(),
            Method::Baichuan => "rotary, interleaved; ALiBi in a model of 40 layers".into(),
            Method::Learned => "a learned table of `context_length` rows".into(),
            Method::T5 { decoder: true } => "T5's buckets, an encoder and a decoder".into(),
            Method::T5 { decoder: false } => "T5's buckets, an encoder".into(),
            Method::Nothing => "no positions".into(),
            Method::Refused(reason) => return Err(reason),
        };
        if self.latent && !matches!(self.method, Method::Nothing) {
            text += ", the last `rope.dimension_count` of each head";
        }
        if self.divided {
            text += ", divided by a tensor where there is one";
        }
        let slides = match self.windows.layers {
            Layers::None => String::new(),
            Layers::All => "all layers".into(),
            Layers::EveryLast(n) => format!("all but each {} layer", ordinal(n)),
            Layers::EveryFirst(n) => format!("all but each {} layer from the first", ordinal(n)),
            Layers::Listed => "the layers that the file lists".into(),
        };
        if !slides.is_empty() {
            let sees = match self.windows.shape {
                Shape::Last => "slide",
                Shape::Sides => "slide to both sides",
                Shape::Chunk => "see their chunk",
            };
            text += &format!("; {slides} {sees}");
            match self.windows.absent {
                Absent::Keys(keys) => text += &format!(" ({keys} without a key)"),
                Absent::None => text += ", where there is a window",
                Absent::Needed => {}
            }
            match self.sliding {
                Sliding::Same => {}
                Sliding::Plain => text += ", unscaled",
                Sliding::Local => text += ", unscaled, base 10000 without a key",
            }
        }
        match self.turning {
            Turning::All => {}
            Turning::NotEveryLast(n) => text += &format!("; each {} layer does not turn", ordinal(n)),
            Turning::NotEveryFirst(n) => text += &format!("; each {} layer from the first does not turn", ordinal(n)),
            Turning::SlidingIfAny | Turning::Sliding => text += "; only layers that slide turn",
            Turning::Finetuned => text += "; none turns if `rope.scaling.finetuned` is false",
            Turning::Listed => text += "; turns by `attention.rope_pattern`",
        }
        if let Recurrent::Interval(n) = self.recurrent {
            text += &format!("; attention in each {} layer", ordinal(n));
        }
        if self.sinks {
            text += "; sinks";
        }
        if !self.note.is_empty() {
            text += &format!(". Not said: {}", self.note);
        }
        Ok(text)
    }
}

pub(super) fn find(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name)
}

/// Known names near this one.
pub(super) fn nearest(name: &str) -> Vec<&'static str> {
    let stem: String = name.chars().take_while(char::is_ascii_alphabetic).take(4).collect();
    let mut near: Vec<&str> = ARCHITECTURES
        .iter()
        .map(|a| a.name)
        .filter(|known| stem.len() > 1 && known.starts_with(&stem))
        .collect();
    near.sort_by_key(|known| known.len().abs_diff(name.len()));
    near.truncate(5);
    near
}
