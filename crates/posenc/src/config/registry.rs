//! What a model's file does not say: a line for each model type.
//!
//! The defaults stand in the classes of Hugging Face transformers 5.23.0; that they are right is checked against its modules (`golden/hf_rotary.json`, `golden/hf_axes.json`). To add a model type, add a line to `text.rs` or `vision.rs` where layers turn, to `learned.rs`, `sinusoidal.rs`, `relative.rs`, `pictures.rs` or `placeless.rs` where they do not, to `parts.rs` or `composites.rs` where it is several models, or, with the reason, to `refused.rs`.

mod composites;
mod defaults;
mod learned;
mod parts;
mod pictures;
mod placeless;
mod plain;
mod refused;
mod relative;
mod sinusoidal;
mod summary;
mod text;
mod vision;

pub(super) use defaults::{Defaults, defaults};
pub(super) use plain::{Among, Count, Distance, Embeds, Grid, Leading, Plain, Reach, Scale, Scores, Span, Stack, Wave};
pub(super) use refused::UNEXPRESSED;

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
    /// The last layer has full attention, whatever the list says.
    pub ends_full: bool,
    /// Keys of other values for layers of some types.
    pub own: &'static [Own],
    pub scale: ScoreScale,
    /// The key of the soft cap.
    pub softcap: Option<&'static str>,
    pub sliding: Sliding,
    pub cooling: Cooling,
    /// Heads with a learned sink.
    pub sinks: Sinks,
    /// The object that the settings of attention stand in.
    pub inner: Option<&'static str>,
    /// Names of the base and of the share that the class reads before any other.
    pub reads: &'static [&'static str],
    /// The class makes its table in f64.
    pub exact: bool,
    /// Without this key a file is for another architecture of the same name.
    pub needs: Option<&'static str>,
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
    /// Twice the model's width over its heads: inputs are two streams side by side.
    Twice,
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
    /// Those whose base in `layer_rope_theta` is not 0; without the list those of these layer types, or all where none is named.
    Bases(&'static [&'static str]),
    /// All if this key has this value, else none; the last is the class's default.
    If(&'static str, Setting, bool),
}

/// A value that a key is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    Flag(bool),
    Text(&'static str),
    /// Anything but this text.
    Not(&'static str),
}

impl Setting {
    /// That a key has this value, in words; and whether a file that does not say it means it.
    pub fn words(self, key: &str, default: bool) -> String {
        let default = if default { " (default)" } else { "" };
        match self {
            Setting::Flag(on) => format!("`{key}` is {on}{default}"),
            Setting::Text(text) => format!("`{key}` is \"{text}\"{default}"),
            Setting::Not(text) => format!("`{key}` is not \"{text}\"{default}"),
        }
    }

    pub fn is(self, value: &serde_json::Value) -> bool {
        match self {
            Setting::Flag(on) => value.as_bool() == Some(on),
            Setting::Text(text) => value.as_str() == Some(text),
            Setting::Not(text) => value.as_str() != Some(text),
        }
    }
}

/// Layer types of a file that lists none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pattern {
    /// All layers are alike.
    None,
    /// Full attention where (i + 1) mod n = 0, sliding in the others; n stands under this key, or is this.
    EveryLast(&'static str, usize),
    /// Full attention where i mod n = 0.
    EveryFirst(&'static str, usize),
    /// The type of the last name where (i + 1) mod n = 0, linear attention in the others.
    Linear(&'static str, usize, &'static str),
    /// The same type in all.
    All(&'static str),
    /// This type in all where the file has a window, else full attention.
    Slides(&'static str),
    /// Sliding from `max_window_layers` on, where there is a window and this key, if any, is true.
    Above(Option<&'static str>),
    /// Sliding in every other layer below `max_window_layers`, where `use_sliding_window` is true.
    Below,
    /// Sliding in all, where `use_sliding_window` is true.
    Used,
    /// The first layers, then these in turn by the layer's index, and the last layer, if it is another.
    Written(&'static [&'static str], &'static [&'static str], Option<&'static str>),
    /// Full attention where (layers − 1 − i) mod n = 0, sliding in the others.
    FromEnd(usize),
    /// A list of indices under this key names the layers of the first type; the others are of the second. No list: as the third.
    Chosen(&'static str, &'static str, &'static str, &'static str),
    /// A list with a number for each layer under this path: not 0 is the first type, 0 the second. No list: as the third.
    Flags(&'static str, &'static str, &'static str, &'static str),
    /// A list with each layer's window under this key, 0 for none. No list: these in turn.
    Windows(&'static str, &'static [&'static str]),
    /// Layers that turn see chunks.
    Chunks,
    /// Layers that do not turn slide, where `use_sliding_window` is true.
    StillSlides,
    /// As [`Pattern::EveryLast`] under `prefix_dense_sliding_window_pattern` in the first `first_k_dense_replace` layers, and from there counted anew under `sliding_window_pattern`.
    Prefixed,
    /// `compress_ratios`: 0, 4 and 128 name types.
    Ratios,
    /// These types in turn, as the file's list of them goes round.
    Round(&'static str),
}

/// A key of other values for layers of some types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// The types; none: all.
    pub kinds: &'static [&'static str],
    /// What is another.
    pub key: &'static str,
    /// Where it stands: a value, or a list of one per layer.
    pub from: &'static str,
    /// The class's default.
    pub default: Option<usize>,
    /// Only if this flag, with its default, is true.
    pub only_if: Option<(&'static str, bool)>,
    /// Not if this flag is true.
    pub unless: Option<&'static str>,
    /// Only in every second layer of its type.
    pub every_second: bool,
    /// So many times what stands there.
    pub times: u64,
}

/// Layers of this type have this key's value from another key, or by default.
pub(super) const fn own(kinds: &'static [&'static str], key: &'static str, from: &'static str, default: Option<usize>) -> Own {
    Own {
        kinds,
        key,
        from,
        default,
        only_if: None,
        unless: None,
        every_second: false,
        times: 1,
    }
}

impl Own {
    const fn only_if(self, flag: &'static str, default: bool) -> Own {
        Own {
            only_if: Some((flag, default)),
            ..self
        }
    }

    const fn unless(self, flag: &'static str) -> Own {
        Own {
            unless: Some(flag),
            ..self
        }
    }

    const fn every_second(self) -> Own {
        Own {
            every_second: true,
            ..self
        }
    }

    const fn times(self, times: u64) -> Own {
        Own { times, ..self }
    }
}

/// What scores are multiplied by.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScoreScale {
    /// 1/√head_dim.
    HeadDim,
    One,
    /// 1/√ this key.
    Of(&'static str),
    /// This key.
    Is(&'static str),
    /// 1/√(head_dim / 2).
    HalfHead,
}

/// How far layers see whose type slides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sliding {
    /// As many keys as this key says, the query's own among them.
    Last(&'static str),
    /// The same in every layer, whatever its type.
    Always(&'static str),
    /// So many on each side.
    Sides(&'static str),
    /// Half as many on each side.
    HalfSides(&'static str),
    /// Half as many, the query's own among them.
    LastHalf(&'static str),
}

/// Which layers multiply their queries by a factor of the position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cooling {
    None,
    /// Those that do not turn, where `attn_temperature_tuning` is on: `attn_scale`, `floor_scale`.
    Still,
    /// All: `llama_4_scaling_beta` in the dictionary of rotary settings.
    Beta,
}

/// Which heads have a learned sink.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sinks {
    None,
    All,
    /// By layer type: `add_swa_attention_sink_bias` (default: yes), `add_full_attention_sink_bias` (no).
    Flags,
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
        ends_full: false,
        own: &[],
        scale: ScoreScale::HeadDim,
        softcap: None,
        sliding: Sliding::Last("sliding_window"),
        cooling: Cooling::None,
        sinks: Sinks::None,
        inner: None,
        reads: &[],
        exact: false,
        needs: None,
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

    const fn ends_full(self) -> Model {
        Model { ends_full: true, ..self }
    }

    const fn own(self, own: &'static [Own]) -> Model {
        Model { own, ..self }
    }

    const fn scale(self, scale: ScoreScale) -> Model {
        Model { scale, ..self }
    }

    const fn softcap(self, key: &'static str) -> Model {
        Model {
            softcap: Some(key),
            ..self
        }
    }

    const fn sliding(self, sliding: Sliding) -> Model {
        Model { sliding, ..self }
    }

    const fn cooling(self, cooling: Cooling) -> Model {
        Model { cooling, ..self }
    }

    const fn sinks(self, sinks: Sinks) -> Model {
        Model { sinks, ..self }
    }

    const fn inner(self, key: &'static str) -> Model {
        Model { inner: Some(key), ..self }
    }

    const fn reads(self, reads: &'static [&'static str]) -> Model {
        Model { reads, ..self }
    }

    const fn exact(self) -> Model {
        Model { exact: true, ..self }
    }

    const fn needs(self, key: &'static str) -> Model {
        Model { needs: Some(key), ..self }
    }

    const fn note(self, note: &'static str) -> Model {
        Model { note, ..self }
    }
}

/// Every model type whose layers turn.
pub(super) fn models() -> impl Iterator<Item = &'static Model> {
    text::MODELS.iter().chain(vision::MODELS)
}

pub(super) fn find(name: &str) -> Option<&'static Model> {
    models().find(|model| model.name == name)
}

/// Every model type that is several models.
pub(super) fn composites() -> impl Iterator<Item = &'static (&'static str, &'static [(&'static str, &'static str)])> {
    parts::PARTS.iter().chain(composites::COMPOSITES)
}

/// Every model type whose positions are not rotary, or not in every file.
pub(super) fn plains() -> impl Iterator<Item = &'static Plain> {
    [
        learned::MODELS,
        sinusoidal::MODELS,
        relative::MODELS,
        pictures::MODELS,
        placeless::MODELS,
    ]
    .into_iter()
    .flatten()
}

pub(super) fn plain(name: &str) -> Option<&'static Plain> {
    plains().find(|model| model.name == name)
}

/// Known names near this one.
pub(super) fn nearest(name: &str) -> Vec<&'static str> {
    let stem: String = name.chars().take_while(|c| c.is_ascii_alphabetic()).take(4).collect();
    let known = models()
        .map(|model| model.name)
        .chain(composites().map(|(name, _)| *name))
        .chain(plains().map(|model| model.name));
    let mut near: Vec<&str> = known.filter(|known| stem.len() > 1 && known.starts_with(stem.as_str())).collect();
    near.sort_by_key(|known| known.len().abs_diff(name.len()));
    near.truncate(5);
    near
}

/// `2nd`, `3rd`, `4th`: which layer of a pattern.
pub(super) fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}
