//! What model types without rotary positions do with them, as data: a line per type in `learned.rs`, `sinusoidal.rs`, `relative.rs`, `pictures.rs` and `placeless.rs`.
//!
//! What a file leaves out, its class has: `plain.json`, written by `golden/hf_positions.py` from transformers 5.23.0.

use super::Setting;

/// A model type whose positions are not rotary.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    pub name: &'static str,
    /// Only files in which this key has this value; the last is the class's default. Others turn queries and keys.
    pub when: Option<(&'static str, Setting, bool)>,
    /// The stacks of layers in the order in which they read.
    pub stacks: [Option<Stack>; 3],
    /// Models inside: the key of each and its model type, as in `parts.rs`.
    pub inner: &'static [(&'static str, &'static str)],
    /// A part of its positions that a list of layers does not say.
    pub note: &'static str,
}

/// One stack of layers.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// `encoder`, `decoder` or `speech_encoder`, where one object of the file has several.
    pub name: Option<&'static str>,
    pub embeds: Embeds,
    /// How tokens are numbered where no table says it.
    pub count: Count,
    /// The key of the embeddings' width, where it is not the layers'.
    pub narrow: Option<&'static str>,
    pub scores: Scores,
    pub scale: Scale,
    pub reach: Reach,
    /// Keys of its width, heads and layers where they have names of their own.
    pub sizes: [Option<&'static str>; 3],
    /// Why it is listed as not read.
    pub left: &'static str,
}

/// What acts on the embeddings.
#[derive(Clone, Copy, Debug)]
pub enum Embeds {
    None,
    /// A learned table: this key's rows and so many more; positions are moved by an offset.
    Table(&'static str, usize, usize, Count),
    /// Sines and cosines; the key of how many positions the class makes a table for.
    Sine(Wave, &'static str, Count),
    /// A learned table over the cells of a picture behind leading rows.
    Picture(Grid, Leading),
    /// Sines and cosines of the row and of the column of a cell (in the order of these axes), behind tokens without a position.
    Cells(Grid, usize, [usize; 2]),
    /// The first if this key has this value (the flag is the class's default), else the second.
    If(&'static str, Setting, bool, &'static [Embeds; 2]),
}

/// How tokens are numbered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// By order.
    Order,
    /// Those that the attention mask names.
    Mask,
    /// Those that are not `pad_token_id`; the row behind the padding's is the first. What else the offset adds stays.
    Padding,
    /// The same; where neither the file nor the class has the padding token, every model of the type has this one.
    PaddingAt(usize),
    /// By order, padding included; the first has the row behind the padding's, and those past the last row share it.
    Behind,
    /// Rows and columns of the pixels of a feature map.
    Pixels,
}

/// Tables of sines and cosines, by who made them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wave {
    /// The paper's columns, made in f64 (XLM).
    Paper,
    /// All sines first, made in f64.
    Marian,
    /// The same frequencies, made in f32.
    Ctrl,
    /// Sines first, exponents over d/2 − 1.
    Whisper,
    /// The same with the padding's row zero.
    Fairseq,
    /// Cosines first.
    Musicgen,
}

/// The cells of a picture.
#[derive(Clone, Copy, Debug)]
pub enum Grid {
    /// `image_size` over `patch_size`, under these keys; each is a number or a pair.
    Patches(&'static str, &'static str),
    /// A square of this many cells.
    Square(&'static str),
    /// Frames of patches: image, tubelet (or patch) and frames.
    Tubes,
    /// A spectrogram cut into overlapping patches.
    Spectrogram,
}

/// Rows before the cells.
#[derive(Clone, Copy, Debug)]
pub enum Leading {
    Fixed(usize),
    /// This key's number.
    Key(&'static str),
    /// So many that no token reads.
    Unread(usize),
}

/// What acts on scores.
#[derive(Clone, Copy, Debug)]
pub enum Scores {
    None,
    /// T5's buckets under these keys of buckets and largest distance.
    T5 {
        buckets: &'static str,
        distance: Distance,
        /// A table per layer.
        own: bool,
    },
    /// Disentangled attention of this version of the code.
    Deberta(u8),
    XlNet,
    /// Transformer-XL's attention in both directions, by these names of u, v and the projection.
    Conformer(&'static str, &'static str, &'static str),
    /// BLOOM's slopes.
    Alibi,
    /// MPT's slopes under `attn_config`.
    Mpt,
    /// BLOOM's slopes in bf16; scores and biases are divided by √d.
    Falcon,
    /// A vector per distance from −`left` to `right`, read by queries.
    Keys(Span),
    /// The same, if this key has this value.
    If(&'static str, Setting, bool, &'static [Scores; 2]),
    /// DETR's sines of a pixel's row and column, in the inputs of queries and keys.
    Pixels,
    /// A table of as many rows as this key says, in the inputs of queries and keys; the layers share it.
    Queries(&'static str),
}

/// A largest distance.
#[derive(Clone, Copy, Debug)]
pub enum Distance {
    Key(&'static str),
    Fixed(usize),
}

/// Distances that have rows.
#[derive(Clone, Copy, Debug)]
pub enum Span {
    /// Keys before the query, keys after it.
    Sides(&'static str, &'static str),
}

/// What q·k is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// 1/√head_dim.
    Head,
    /// Nothing.
    One,
    /// 1/√head_dim unless `scale_attn_weights` is false; over the number of the layer if `scale_attn_by_inverse_layer_idx`.
    Gpt2,
    /// 1/√(head_dim / 2).
    HalfHead,
    /// `softmax_scale` in `attn_config`.
    Mpt,
}

/// Which keys a query sees beside those that a mask leaves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    All,
    /// Local layers see the last `window_size` keys: `attention_layers`, or `attention_types` repeated.
    GptNeo,
    /// Half of `attention_window` on each side, one number or one per layer.
    Longformer,
    /// `local_radius` on each side.
    Radius,
    /// A pair of keys before and after per layer in this list.
    Sides(&'static str),
    /// `sliding_window` keys, where the file has it.
    Sliding,
    /// All of them, in those layers that attend.
    Among(Among),
}

/// Which layers attend among those of a state or a convolution, in files that list no types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Among {
    /// None.
    None,
    /// Behind `leading`, counted anew: where i mod `attn_layer_period` = `attn_layer_offset`, these by default; they are of this type.
    Period {
        leading: &'static [&'static str],
        period: usize,
        offset: usize,
        kind: &'static str,
    },
    /// `full_attn_layers` in `linear_attn_config`, counted from 1; without it each fourth behind the first.
    Numbered,
    /// A letter for each layer in `hybrid_override_pattern`: `*` attends.
    Letters,
}

/// What a list of layers says where nothing acts.
const NO_POSITIONS: &str = "no positions";

const BARE: Stack = Stack {
    name: None,
    embeds: Embeds::None,
    count: Count::Order,
    narrow: None,
    scores: Scores::None,
    scale: Scale::Head,
    reach: Reach::All,
    sizes: [None; 3],
    left: "",
};

/// A table whose rows this key counts; tokens are numbered by order.
pub(super) const fn table(rows: &'static str) -> Stack {
    BARE.embeds(Embeds::Table(rows, 0, 0, Count::Order))
}

/// RoBERTa's: the first token has the row behind the padding's.
pub(super) const fn roberta() -> Stack {
    BARE.embeds(Embeds::Table("max_position_embeddings", 0, 0, Count::Padding))
}

/// A table of sines and cosines for as many positions as this key says.
pub(super) const fn sine(wave: Wave, len: &'static str, count: Count) -> Stack {
    BARE.embeds(Embeds::Sine(wave, len, count))
}

/// A learned table over patches of `image_size` by `patch_size`, behind so many rows.
pub(super) const fn picture(leading: usize) -> Stack {
    BARE.embeds(Embeds::Picture(Grid::Patches("image_size", "patch_size"), Leading::Fixed(leading)))
}

/// Nothing on the embeddings.
pub(super) const fn bare() -> Stack {
    BARE
}

impl Stack {
    pub(super) const fn embeds(self, embeds: Embeds) -> Stack {
        Stack { embeds, ..self }
    }

    /// As BART: two rows more than the key says, and positions moved by two.
    pub(super) const fn two(self) -> Stack {
        match self.embeds {
            Embeds::Table(rows, _, _, count) => self.embeds(Embeds::Table(rows, 2, 2, count)),
            _ => self,
        }
    }

    /// Only tokens that the attention mask names are counted.
    pub(super) const fn masked(self) -> Stack {
        match self.embeds {
            Embeds::Table(rows, more, offset, _) => self.embeds(Embeds::Table(rows, more, offset, Count::Mask)),
            _ => Stack {
                count: Count::Mask,
                ..self
            },
        }
    }

    /// Positions are rows and columns of pixels.
    pub(super) const fn pixels(self) -> Stack {
        Stack {
            count: Count::Pixels,
            ..self
        }
    }

    pub(super) const fn narrow(self, key: &'static str) -> Stack {
        Stack { narrow: Some(key), ..self }
    }

    pub(super) const fn scores(self, scores: Scores) -> Stack {
        Stack { scores, ..self }
    }

    pub(super) const fn scale(self, scale: Scale) -> Stack {
        Stack { scale, ..self }
    }

    pub(super) const fn reach(self, reach: Reach) -> Stack {
        Stack { reach, ..self }
    }

    pub(super) const fn sizes(self, width: &'static str, heads: &'static str, layers: &'static str) -> Stack {
        Stack {
            sizes: [Some(width), Some(heads), Some(layers)],
            ..self
        }
    }

    pub(super) const fn named(self, name: &'static str) -> Stack {
        Stack { name: Some(name), ..self }
    }

    /// Known, and not said by what this library has.
    pub(super) const fn left(self, reason: &'static str) -> Stack {
        Stack { left: reason, ..self }
    }
}

/// A model type of one stack.
pub(super) const fn one(name: &'static str, stack: Stack) -> Plain {
    Plain {
        name,
        when: None,
        stacks: [Some(stack), None, None],
        inner: &[],
        note: "",
    }
}

/// An encoder and a decoder.
pub(super) const fn pair(name: &'static str, encoder: Stack, decoder: Stack) -> Plain {
    Plain {
        stacks: [Some(encoder.named("encoder")), Some(decoder.named("decoder")), None],
        ..one(name, encoder)
    }
}

/// An encoder and a decoder with the same positions.
pub(super) const fn twice(name: &'static str, stack: Stack) -> Plain {
    pair(name, stack, stack)
}

/// An encoder of sound before an encoder and a decoder of text.
pub(super) const fn three(name: &'static str, speech: Stack, text: Stack) -> Plain {
    Plain {
        stacks: [
            Some(text.named("encoder")),
            Some(text.named("decoder")),
            Some(speech.named("speech_encoder")),
        ],
        ..one(name, text)
    }
}

impl Plain {
    pub(super) const fn note(self, note: &'static str) -> Plain {
        Plain { note, ..self }
    }

    /// The same around other models.
    pub(super) const fn around(self, inner: &'static [(&'static str, &'static str)]) -> Plain {
        Plain { inner, ..self }
    }

    pub(super) const fn when(self, key: &'static str, setting: Setting, default: bool) -> Plain {
        Plain {
            when: Some((key, setting, default)),
            ..self
        }
    }

    /// Whether it is this file that the line is about.
    pub fn describes(&self, node: &super::super::json::Node<'_>) -> bool {
        self.when
            .is_none_or(|(key, setting, default)| node.find(key).map_or(default, |value| setting.is(value)))
    }

    /// What its layers do, in a few words.
    pub fn summary(&self) -> String {
        let mut text = match self.stacks {
            [Some(a), Some(b), None] => match (a.summary(), b.summary()) {
                (a, b) if a == b => format!("encoder and decoder: {a}"),
                (a, b) => format!("encoder: {a}; decoder: {b}"),
            },
            [Some(a), None, None] => a.summary(),
            several => {
                let each = several.iter().flatten();
                each.map(|stack| format!("{}: {}", stack.name.unwrap_or_default(), stack.summary()))
                    .collect::<Vec<_>>()
                    .join("; ")
            }
        };
        for (key, of) in self.inner {
            text += &format!("; `{key}` ({of})");
        }
        if let Some((key, setting, default)) = self.when {
            text += &format!("; if {}", setting.words(key, default));
        }
        match self.note {
            "" => text,
            reason if text == NO_POSITIONS => format!("{text}: {reason}"),
            note => format!("{text}. Not said: {note}"),
        }
    }
}

impl Stack {
    fn summary(&self) -> String {
        if !self.left.is_empty() {
            return format!("*not read*: {}", self.left);
        }
        let mut parts = Vec::new();
        parts.extend(self.embeds.summary().map(|text| match self.narrow {
            Some(key) => format!("{text}, `{key}` wide"),
            None => text,
        }));
        parts.extend(self.scores.summary());
        if parts.is_empty() {
            parts.push(NO_POSITIONS.into());
        }
        match self.scale {
            Scale::Head | Scale::Mpt => {}
            Scale::One => parts.push("scores are not scaled".into()),
            Scale::Gpt2 => parts.push("scaled as `scale_attn_weights` and `scale_attn_by_inverse_layer_idx` say".into()),
            Scale::HalfHead => parts.push("scaled by 1/√(head_dim / 2)".into()),
        }
        match self.reach {
            Reach::All => {}
            Reach::GptNeo => parts.push("local layers see `window_size` keys".into()),
            Reach::Longformer => parts.push("half of `attention_window` on each side".into()),
            Reach::Radius => parts.push("`local_radius` keys on each side".into()),
            Reach::Sides(key) => parts.push(format!("as many keys on each side as `{key}` says")),
            Reach::Sliding => parts.push("`sliding_window` keys".into()),
            // Its note says what tells the order instead.
            Reach::Among(Among::None) => {}
            Reach::Among(Among::Period { period, offset, kind, .. }) => {
                parts.push(format!(
                    "layers {kind} by `attn_layer_period` ({period}) and `attn_layer_offset` ({offset})"
                ));
            }
            Reach::Among(Among::Numbered) => parts.push("full_attention in layers of `full_attn_layers`".into()),
            Reach::Among(Among::Letters) => parts.push("full_attention where `hybrid_override_pattern` has a `*`".into()),
        }
        parts.join("; ")
    }
}

impl Embeds {
    /// Whether this key decides what it is.
    pub fn reads(&self, key: &str) -> bool {
        matches!(self, Embeds::If(of, ..) if *of == key)
    }

    fn summary(&self) -> Option<String> {
        let counted = |count: Count| match count {
            Count::Order | Count::Pixels => "",
            Count::Mask => ", counted by the attention mask",
            Count::Padding | Count::PaddingAt(_) => ", counted from behind the padding's row",
            Count::Behind => ", by order from behind the padding's row",
        };
        Some(match *self {
            Embeds::None => return None,
            Embeds::Table(rows, more, offset, count) => {
                let more = if more > 0 { format!(" + {more}") } else { String::new() };
                let offset = if offset > 0 {
                    format!(", from row {offset}")
                } else {
                    String::new()
                };
                format!("learned, `{rows}`{more} rows{offset}{}", counted(count))
            }
            Embeds::Sine(wave, _, count) => {
                let kind = match wave {
                    Wave::Paper => "sinusoidal, interleaved",
                    Wave::Marian | Wave::Ctrl => "sinusoidal, sines first",
                    Wave::Whisper | Wave::Fairseq => "sinusoidal, sines first, exponents i/(d/2 - 1)",
                    Wave::Musicgen => "sinusoidal, cosines first, exponents i/(d/2 - 1)",
                };
                format!("{kind}{}", counted(count))
            }
            Embeds::Picture(grid, leading) => {
                let cells = match grid {
                    Grid::Patches(..) => "a row per patch",
                    Grid::Square(_) => "a row per patch of a square",
                    Grid::Tubes => "a row per patch of each frame",
                    Grid::Spectrogram => "a row per patch of the spectrogram",
                };
                match leading {
                    Leading::Fixed(0) => format!("learned, {cells}"),
                    Leading::Fixed(n) => format!("learned, {cells}, behind {n}"),
                    Leading::Key(key) => format!("learned, {cells}, behind `{key}`"),
                    Leading::Unread(n) => format!("learned, {cells}, from row {n}"),
                }
            }
            Embeds::Cells(_, leading, axes) => {
                let order = if axes == [0, 1] { "row then column" } else { "column then row" };
                format!("sinusoidal, {order} of a patch, behind {leading} without a position")
            }
            Embeds::If(key, setting, default, [yes, no]) => {
                let text = |embeds: &Embeds| embeds.summary().unwrap_or_else(|| NO_POSITIONS.into());
                format!("{} if {}, else {}", text(yes), setting.words(key, default), text(no))
            }
        })
    }
}

impl Scores {
    /// Whether this key decides what it is.
    pub fn reads(&self, key: &str) -> bool {
        matches!(self, Scores::If(of, ..) if *of == key)
    }

    fn summary(&self) -> Option<String> {
        Some(match *self {
            Scores::None => return None,
            Scores::T5 { own: true, .. } => "T5's buckets, a table per layer".into(),
            Scores::T5 { own: false, .. } => "T5's buckets, one table".into(),
            Scores::Deberta(_) => "DeBERTa's disentangled attention if `relative_attention`".into(),
            Scores::XlNet => "XLNet's relative attention".into(),
            Scores::Conformer(..) => "Transformer-XL's relative attention in both directions".into(),
            Scores::Alibi => "ALiBi".into(),
            Scores::Mpt => "ALiBi, MPT's slopes".into(),
            Scores::Falcon => "ALiBi, slopes in bf16 over √head_dim".into(),
            Scores::Pixels => "sinusoidal, row then column of a pixel, in the inputs of queries and keys".into(),
            Scores::Queries(key) => format!("learned, `{key}` rows in the inputs of queries and keys"),
            Scores::Keys(_) => "a vector per clipped distance, read by queries".into(),
            Scores::If(key, setting, default, [yes, no]) => {
                let text = |scores: &Scores| scores.summary().unwrap_or_else(|| "nothing in layers".into());
                format!("{} if {}, else {}", text(yes), setting.words(key, default), text(no))
            }
        })
    }
}
