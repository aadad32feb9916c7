//! A model type's line in words, for pages and lists.

use super::{AxesRule, Cooling, Head, Model, Pattern, ScoreScale, Sinks, Turning, ordinal};
use crate::rotate::Pairing;

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
            Turning::Bases(types) => {
                text += "; not in layers whose base in `layer_rope_theta` is 0";
                if !types.is_empty() {
                    text += &format!(" (default: only layers of type {})", types.join(", "));
                }
            }
            Turning::If(key, setting, default) => text += &format!("; if {}", setting.words(key, default)),
        }
        match self.pattern {
            Pattern::None | Pattern::All("full_attention") => {}
            Pattern::EveryLast(key, n) => text += &format!("; full attention in each {} layer (`{key}`), else sliding", ordinal(n)),
            Pattern::EveryFirst(key, n) => {
                text += &format!(
                    "; full attention in each {} layer from the first (`{key}`), else sliding",
                    ordinal(n)
                )
            }
            Pattern::Linear(key, n, _) => text += &format!("; attention in each {} layer (`{key}`), else linear attention", ordinal(n)),
            Pattern::All(name) => text += &format!("; all layers {name}"),
            Pattern::Slides(_) => text += "; all layers slide, where there is a window",
            Pattern::Above(_) => text += "; layers from `max_window_layers` on can slide",
            Pattern::Below => text += "; every other layer below `max_window_layers` can slide",
            Pattern::Used => text += "; all layers slide with `use_sliding_window`",
            Pattern::Written(first, cycle, last) => {
                let names = |list: &[&str]| {
                    list.iter()
                        .map(|name| name.trim_end_matches("_attention"))
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                text += "; layer types";
                if !first.is_empty() && !cycle.is_empty() {
                    text += &format!(" {} and then", names(first));
                }
                text += match cycle.is_empty() {
                    true => " written out",
                    false => " in turn ",
                };
                text += &names(cycle);
                if let Some(last) = last {
                    text += &format!(", the last {}", names(&[last]));
                }
            }
            Pattern::FromEnd(n) => text += &format!("; full attention in each {} layer from the end, else sliding", ordinal(n)),
            Pattern::Chosen(key, chosen, others, _) => text += &format!("; {chosen} in layers of `{key}`, else {others}"),
            Pattern::Flags(path, on, off, _) => text += &format!("; {on} or {off} by `{path}`"),
            Pattern::Windows(key, _) => text += &format!("; sliding or full by `{key}`"),
            Pattern::Chunks => text += "; chunks (`attention_chunk_size`) in layers that turn",
            Pattern::StillSlides => text += "; layers that do not turn can slide",
            Pattern::Prefixed => text += "; sliding and full by `sliding_window_pattern`, counted anew after `first_k_dense_replace`",
            Pattern::Ratios => text += "; layer types by `compress_ratios`",
            Pattern::Round(key) => text += &format!("; layer types in turn by `{key}`"),
        }
        match self.scale {
            ScoreScale::HeadDim => {}
            ScoreScale::One => text += "; scores are not scaled",
            ScoreScale::Of(key) => text += &format!("; scores times 1/√`{key}`"),
            ScoreScale::Is(key) => text += &format!("; scores times `{key}`"),
            ScoreScale::HalfHead => text += "; scores times 1/√(head_dim / 2)",
        }
        if let Some(key) = self.softcap {
            text += &format!("; soft cap `{key}`");
        }
        match self.cooling {
            Cooling::None => {}
            Cooling::Still => text += "; queries times a factor of their position in layers that do not turn",
            Cooling::Beta => text += "; queries times a factor of their position (`llama_4_scaling_beta`)",
        }
        match self.sinks {
            Sinks::None => {}
            Sinks::All => text += "; sinks",
            Sinks::Flags => text += "; sinks in sliding layers",
        }
        if !self.note.is_empty() {
            text += &format!(". Not said: {}", self.note);
        }
        text
    }
}
