//! What a model's file does not say: a line for each model type.
//!
//! The defaults stand in the classes of Hugging Face transformers 5.23.0; that they are right is checked against its modules (`golden/hf_rotary.json`, `golden/hf_axes.json`). To add a model type, add a line to `text.rs`, `vision.rs`, `parts.rs` or `other.rs`.

mod other;
mod parts;
mod text;
mod vision;

pub(super) use other::UNEXPRESSED;
pub(super) use parts::PARTS;

use crate::rotate::Pairing;

/// A model type whose layers turn queries and keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub name: &'static str,
    /// The class's default base.
    pub theta: f64,
    /// The class's default dictionary of rotary settings, as JSON: all of it where the file has none; its bases and shares where a file's dictionary lacks them.
    pub dictionary: &'static str,
    /// The class's default of `partial_rotary_factor`.
    pub partial: Option<f64>,
    pub pairing: Pairing,
    pub reversed: bool,
    pub head: Head,
    pub axes: AxesRule,
    pub turning: Turning,
    /// Which dictionary a layer type reads, where it is not the one of its own name.
    pub label: fn(&str) -> Option<&'static str>,
    /// Keys of older files for the base of a layer type: (layer type, key).
    pub old_theta: &'static [(&'static str, &'static str)],
    /// Layer types that a dictionary without layer types scales; the others are as trained. Empty: all.
    pub flat_scales: &'static [&'static str],
    /// Layer types of a file that lists none.
    pub pattern: Pattern,
    /// `rotary_dim` in the file is not what turns: the class has the key and does not read it.
    pub deaf_to_rotary_dim: bool,
    /// Heads have a learned sink.
    pub sinks: bool,
    /// Files with this value of this key describe something else: the reason.
    pub refuses: Option<(&'static str, Setting, &'static str)>,
    /// A part of its positions that a list of layers does not say.
    pub note: &'static str,
}

/// Where the width of a head, and the part of it that turns, stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    /// `head_dim`, else the model's width over its heads; a share of it turns.
    Own,
    /// As [`Head::Own`] under this key.
    Key(&'static str),
    /// `qk_nope_head_dim` + `qk_rope_head_dim`, the latter turning at the end.
    Latent,
    /// `head_dim`; the last share of it turns.
    Last,
    /// As [`Head::Own`], but all heads together turn as one width; the share, above 1, is that of the exponents.
    Across,
    /// The model's width stands under the first key, its heads under the second.
    Over(&'static str, &'static str),
    /// As [`Head::Over`], but at least this many coordinates turn, and half a head at most.
    HalfAtLeast(&'static str, usize),
}

/// Which axes a model type's positions have.
#[derive(Clone, Copy, Debug)]
pub(super) enum AxesRule {
    One,
    /// `mrope_section`, and the class's default of it.
    Chunked(&'static [usize]),
    Spread(&'static [usize]),
    /// Row, column, time.
    GridFirst(&'static [usize]),
    /// Each axis has the frequencies of its own share of the head.
    Grid(&'static [usize]),
    /// The axes take turns at each frequency.
    InTurn(&'static [usize]),
    Dealt(usize),
    /// As [`AxesRule::Grid`] over three axes, each with the largest even number of coordinates that leaves room for three.
    Three,
}

/// Which layers turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turning {
    All,
    /// Those of these layer types.
    Types(&'static [&'static str]),
    /// Those that slide; all where the file has no window.
    SlidingIfAny,
    /// Those with 1 in `no_rope_layers`, else all but each `no_rope_layer_interval`-th, else all but each fourth.
    Listed,
    /// Those whose base in `layer_rope_theta` is not 0.
    Bases,
    /// All if this key has this value, else none; the last is the class's default.
    If(&'static str, Setting, bool),
}

/// A value that a key is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    Flag(bool),
    Text(&'static str),
}

impl Setting {
    pub fn is(self, value: &serde_json::Value) -> bool {
        match self {
            Setting::Flag(on) => value.as_bool() == Some(on),
            Setting::Text(text) => value.as_str() == Some(text),
        }
    }
}

/// Layer types of a file that lists none: full attention in every n-th layer, sliding in the others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pattern {
    /// All layers are alike.
    None,
    /// Counted by this key, or n: layer i is full where (i + 1) mod n = 0.
    EveryLast(&'static str, usize),
    /// Layer i is full where i mod n = 0.
    EveryFirst(&'static str, usize),
    /// Sliding in all, where the file has a window.
    Sliding,
    /// Sliding from `max_window_layers` on, where `use_sliding_window` is true.
    Above,
}

fn own_label(_: &str) -> Option<&'static str> {
    None
}

const fn rope(name: &'static str, pairing: Pairing) -> Model {
    Model {
        name,
        theta: 10_000.0,
        dictionary: "",
        partial: None,
        pairing,
        reversed: false,
        head: Head::Own,
        axes: AxesRule::One,
        turning: Turning::All,
        label: own_label,
        old_theta: &[],
        flat_scales: &[],
        pattern: Pattern::None,
        deaf_to_rotary_dim: false,
        sinks: false,
        refuses: None,
        note: "",
    }
}

/// Pairs are halves of the head, the base is 10 000, all of every head turns in every layer.
pub(super) const fn halves(name: &'static str) -> Model {
    rope(name, Pairing::Halves)
}

/// As [`halves`], on neighbouring coordinates.
pub(super) const fn interleaved(name: &'static str) -> Model {
    rope(name, Pairing::Interleaved)
}

/// DeepSeek's latent attention: neighbours are read, halves written, at the end of a head.
pub(super) const fn latent(name: &'static str) -> Model {
    Model {
        head: Head::Latent,
        ..rope(name, Pairing::InterleavedToHalves)
    }
}

/// A picture's rows and columns, each over half of the head.
pub(super) const fn grid(name: &'static str, pairing: Pairing) -> Model {
    Model {
        axes: AxesRule::Grid(&[0, 1]),
        ..rope(name, pairing)
    }
}

impl Model {
    const fn theta(self, theta: f64) -> Model {
        Model { theta, ..self }
    }

    const fn dictionary(self, dictionary: &'static str) -> Model {
        Model { dictionary, ..self }
    }

    const fn partial(self, partial: f64) -> Model {
        Model {
            partial: Some(partial),
            ..self
        }
    }

    const fn pairing(self, pairing: Pairing) -> Model {
        Model { pairing, ..self }
    }

    const fn reversed(self) -> Model {
        Model { reversed: true, ..self }
    }

    const fn head(self, head: Head) -> Model {
        Model { head, ..self }
    }

    const fn axes(self, axes: AxesRule) -> Model {
        Model { axes, ..self }
    }

    const fn turning(self, turning: Turning) -> Model {
        Model { turning, ..self }
    }

    const fn label(self, label: fn(&str) -> Option<&'static str>) -> Model {
        Model { label, ..self }
    }

    const fn old_theta(self, old_theta: &'static [(&'static str, &'static str)]) -> Model {
        Model { old_theta, ..self }
    }

    const fn flat_scales(self, flat_scales: &'static [&'static str]) -> Model {
        Model { flat_scales, ..self }
    }

    const fn pattern(self, pattern: Pattern) -> Model {
        Model { pattern, ..self }
    }

    const fn deaf_to_rotary_dim(self) -> Model {
        Model {
            deaf_to_rotary_dim: true,
            ..self
        }
    }

    const fn sinks(self) -> Model {
        Model { sinks: true, ..self }
    }

    const fn refuses(self, key: &'static str, setting: Setting, reason: &'static str) -> Model {
        Model {
            refuses: Some((key, setting, reason)),
            ..self
        }
    }

    const fn note(self, note: &'static str) -> Model {
        Model { note, ..self }
    }
}

impl Model {
    /// What its layers do, in a few words.
    pub fn summary(&self) -> String {
        let mut text = match (self.pairing, self.reversed) {
            (Pairing::Halves, false) => "rotary, halves".to_string(),
            (Pairing::Halves, true) => "rotary, halves, turning back".to_string(),
            (Pairing::Interleaved, _) => "rotary, interleaved".to_string(),
            (Pairing::HalvesTwice, _) => "rotary, halves of each half".to_string(),
            (Pairing::InterleavedToHalves, _) => "rotary, interleaved, written as halves".to_string(),
        };
        match self.head {
            Head::Latent => text += ", the last `qk_rope_head_dim`",
            Head::Last => text += ", the last share of a head",
            Head::Across => text += ", across all heads",
            _ => {}
        }
        match (self.partial, self.head) {
            (Some(share), Head::Across) => text += &format!(", exponents over {share} heads"),
            (Some(share), _) => text += &format!(", {share} of a head"),
            (None, _) => {}
        }
        match self.axes {
            AxesRule::One => {}
            AxesRule::Chunked(s) => text += &format!(", three axes in chunks {s:?}"),
            AxesRule::Spread([_, _]) => text += ", row and column in turn over all pairs",
            AxesRule::Spread(s) => text += &format!(", three axes spread {s:?}"),
            AxesRule::GridFirst(s) => text += &format!(", row and column in turn, then time {s:?}"),
            AxesRule::Grid([0, 1]) => text += ", row then column",
            AxesRule::Grid(_) => text += ", column then row",
            AxesRule::InTurn([0, 1]) => text += ", row and column in turn",
            AxesRule::InTurn(_) => text += ", column and row in turn",
            AxesRule::Dealt(_) => text += ", frequencies dealt to row and column",
            AxesRule::Three => text += ", time, row and column",
        }
        match self.dictionary {
            "" => text += &format!(", base {}", self.theta),
            written => text += &format!(", by default `{written}`"),
        }
        match self.turning {
            Turning::All => {}
            Turning::Types(types) => text += &format!("; only layers of type {}", types.join(", ")),
            Turning::SlidingIfAny => text += "; only sliding layers, where there is a window",
            Turning::Listed => text += "; not in the layers that `no_rope_layers` names (default: each fourth)",
            Turning::Bases => text += "; not in layers whose base in `layer_rope_theta` is 0",
            Turning::If(key, _, default) => text += &format!("; if `{key}` says so (default: {})", if default { "yes" } else { "no" }),
        }
        if self.sinks {
            text += "; sinks";
        }
        if let Some((key, _, reason)) = self.refuses {
            text += &format!("; not read where `{key}` asks for {reason}");
        }
        if !self.note.is_empty() {
            text += &format!(". Not said: {}", self.note);
        }
        text
    }
}

/// Every model type whose layers turn.
pub(super) fn models() -> impl Iterator<Item = &'static Model> {
    text::MODELS.iter().chain(vision::MODELS)
}

pub(super) fn find(name: &str) -> Option<&'static Model> {
    models().find(|model| model.name == name)
}

/// Known names near this one.
pub(super) fn nearest(name: &str) -> Vec<&'static str> {
    let stem: String = name.chars().take_while(|c| c.is_ascii_alphabetic()).take(4).collect();
    let known = models().map(|model| model.name).chain(PARTS.iter().map(|(name, _)| *name));
    let mut near: Vec<&str> = known.filter(|known| stem.len() > 1 && known.starts_with(stem.as_str())).collect();
    near.sort_by_key(|known| known.len().abs_diff(name.len()));
    near.truncate(5);
    near
}
