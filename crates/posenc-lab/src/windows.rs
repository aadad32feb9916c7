//! Which pieces of the held-out text are read at each length.
//!
//! Two readings, because each alone misleads:
//! - *Mean*: the same stretch of text is tiled with non-overlapping windows of each length. Every length scores the same targets, each once, but a longer window
//!   gives most of them more context: what is gained near the end of a window hides what breaks there.
//! - *Aligned*: windows of every length end at the same places, and only the targets at their end are scored. The targets are the same, and each has the whole
//!   length behind it: what changes is the context alone.

use crate::error::LabError;
use crate::results::Config;

/// A piece of the text: `length` inputs from `start`, and for each the token after it as its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First input.
    pub start: usize,
    /// Number of inputs.
    pub length: usize,
}

impl Window {
    /// The inputs.
    ///
    /// # Panics
    /// If `tokens` is not the text for which the window was made.
    pub fn inputs<'a>(&self, tokens: &'a [u16]) -> &'a [u16] {
        &tokens[self.start..self.start + self.length]
    }

    /// The targets: the inputs, one token later.
    ///
    /// # Panics
    /// If `tokens` is not the text for which the window was made.
    pub fn targets<'a>(&self, tokens: &'a [u16]) -> &'a [u16] {
        &tokens[self.start + 1..self.start + 1 + self.length]
    }
}

/// The windows of a comparison's evaluation; a pure function of the configuration and the number of held-out tokens.
#[derive(Clone, Debug)]
pub struct EvaluationWindows {
    tokens: usize,
    window_tokens: usize,
    longest: usize,
    places: usize,
}

impl EvaluationWindows {
    /// The windows of `config` over a held-out text of `tokens` tokens; an error if that is too short for the longest of them, or if the shortest has fewer
    /// targets than the aligned reading scores.
    pub fn new(config: &Config, tokens: usize) -> Result<Self, LabError> {
        config.check()?;
        let (shortest, longest) = (config.lengths[0], config.lengths[config.lengths.len() - 1]);
        if config.aligned_targets > shortest {
            return Err(LabError::Configuration {
                field: "aligned_targets",
                expected: format!("at most the shortest length {shortest}"),
                given: config.aligned_targets.to_string(),
            });
        }
        if config.window_tokens < longest {
            return Err(LabError::Configuration {
                field: "window_tokens",
                expected: format!("at least the longest length {longest}"),
                given: config.window_tokens.to_string(),
            });
        }
        // One token more than inputs: the last target.
        let needed = held_out_needed(longest, config.aligned_places, config.aligned_targets).max(config.window_tokens.saturating_add(1));
        if tokens < needed {
            return Err(LabError::TextTooShort {
                name: config.text.name.clone(),
                part: "held-out part",
                given: tokens,
                needed,
            });
        }
        Ok(Self {
            tokens,
            window_tokens: config.window_tokens,
            longest,
            places: config.aligned_places,
        })
    }

    /// Non-overlapping windows of one length, from the start of the text. Where the length does not divide `window_tokens`, the rest (less than a window) stays unread.
    ///
    /// # Panics
    /// If the length is 0, which no configuration has.
    pub fn mean(&self, length: usize) -> impl Iterator<Item = Window> + use<> {
        (0..self.window_tokens / length).map(move |i| Window { start: i * length, length })
    }

    /// Windows of one length that end where those of every other length end.
    ///
    /// # Panics
    /// If the length is longer than every length of the configuration.
    pub fn aligned(&self, length: usize) -> impl Iterator<Item = Window> + use<> {
        assert!(length <= self.longest, "{length} is longer than every length of the configuration");
        let (longest, places, span) = (self.longest, self.places, self.tokens - self.longest);
        (0..places).map(move |i| {
            // The middle of the i-th of `places` equal parts, behind at least the longest length of history.
            let end = longest + ((2 * i as u128 + 1) * span as u128 / (2 * places as u128)) as usize;
            Window {
                start: end - length,
                length,
            }
        })
    }

    /// At most `count` windows of one length, evenly spread and free of overlap: what is read during training to see whether the loss still falls.
    ///
    /// # Panics
    /// If the length is 0, which no configuration has.
    pub fn fixed(&self, length: usize, count: usize) -> impl Iterator<Item = Window> + use<> {
        let (span, count) = (self.tokens - 1, count.min((self.tokens - 1) / length));
        (0..count).map(move |i| Window {
            start: (i as u128 * span as u128 / count as u128) as usize,
            length,
        })
    }
}

/// Held-out tokens below which nothing can be evaluated at `longest`: its history, and places whose scored targets do not overlap.
pub fn held_out_needed(longest: usize, aligned_places: usize, aligned_targets: usize) -> usize {
    longest
        .saturating_add(aligned_places.saturating_mul(aligned_targets))
        .max(longest.saturating_add(1))
}

/// The `window_tokens` to configure: at most `at_most` and at most what a held-out text of `tokens` tokens has.
///
/// Where it can be, it is a multiple of every length, so that every length scores exactly the same targets; else the lengths' rests differ by less than a window.
pub fn window_tokens(tokens: usize, lengths: &[usize], at_most: usize) -> usize {
    let limit = at_most.min(tokens.saturating_sub(1));
    let common = lengths.iter().try_fold(1_usize, |all, &length| {
        (all / greatest_common_divisor(all, length)).checked_mul(length)
    });
    match common {
        Some(common) if (1..=limit).contains(&common) => limit / common * common,
        _ => limit,
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;

    fn windows(tokens: usize) -> EvaluationWindows {
        EvaluationWindows::new(&small(), tokens).unwrap()
    }

    #[test]
    fn the_mean_scores_every_target_of_the_same_stretch_once() {
        let text: Vec<u16> = (0..100).collect();
        let windows = windows(text.len());
        for length in small().lengths {
            let targets: Vec<u16> = windows.mean(length).flat_map(|w| w.targets(&text).to_vec()).collect();
            assert_eq!(targets, (1..=48).collect::<Vec<u16>>(), "length {length}");
        }
    }

    #[test]
    fn aligned_windows_score_the_same_targets_at_every_length() {
        let text: Vec<u16> = (0..100).collect();
        let windows = windows(text.len());
        let scored = |length| -> Vec<u16> {
            windows
                .aligned(length)
                .flat_map(|w| w.targets(&text)[length - 4..].to_vec())
                .collect()
        };
        assert_eq!(scored(8), scored(16));
        assert_eq!(scored(12), scored(16));
        let mut once = scored(16);
        once.dedup();
        assert_eq!(once.len(), 5 * 4, "no target is scored twice");
        assert!(once.is_sorted());
        let gaps: Vec<usize> = windows
            .aligned(8)
            .zip(windows.aligned(8).skip(1))
            .map(|(a, b)| b.start - a.start)
            .collect();
        assert!(gaps.iter().all(|&gap| gap == 16 || gap == 17), "{gaps:?}");
    }

    #[test]
    fn the_shortest_text_suffices_and_one_token_less_does_not() {
        let mut config = small();
        config.window_tokens = 16;
        let needed = held_out_needed(16, 5, 4);
        assert_eq!(needed, 36);
        let text: Vec<u16> = (0..36).collect();
        let windows = EvaluationWindows::new(&config, needed).unwrap();
        for length in [8, 12, 16] {
            let all: Vec<Window> = windows
                .aligned(length)
                .chain(windows.mean(length))
                .chain(windows.fixed(length, 9))
                .collect();
            assert!(all.iter().all(|w| w.inputs(&text).len() == w.targets(&text).len()));
        }
        let error = EvaluationWindows::new(&config, needed - 1).unwrap_err();
        assert!(matches!(error, LabError::TextTooShort { given: 35, needed: 36, .. }), "{error}");
    }

    #[test]
    fn fixed_windows_do_not_overlap() {
        for (tokens, count) in [(100, 3), (100, 1000), (49, 5)] {
            let all: Vec<Window> = windows(tokens).fixed(8, count).collect();
            assert_eq!(all.len(), count.min((tokens - 1) / 8));
            assert!(all.windows(2).all(|pair| pair[0].start + 8 <= pair[1].start));
            assert!(all.last().unwrap().start + 8 < tokens);
        }
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        let mut config = small();
        config.aligned_targets = 9;
        assert!(matches!(
            EvaluationWindows::new(&config, 1000),
            Err(LabError::Configuration {
                field: "aligned_targets",
                ..
            })
        ));
        let mut config = small();
        config.window_tokens = 15;
        assert!(matches!(
            EvaluationWindows::new(&config, 1000),
            Err(LabError::Configuration {
                field: "window_tokens",
                ..
            })
        ));
        config.window_tokens = usize::MAX;
        assert!(matches!(EvaluationWindows::new(&config, 1000), Err(LabError::TextTooShort { .. })));
        assert_eq!(held_out_needed(usize::MAX, 2, usize::MAX), usize::MAX);
    }

    #[test]
    fn window_tokens_are_a_multiple_of_every_length_where_they_can_be() {
        let lengths = [64, 96, 128, 256, 512];
        assert_eq!(window_tokens(466_854, &lengths, 25_000), 24_576);
        assert_eq!(window_tokens(2000, &lengths, 25_000), 1536);
        assert_eq!(window_tokens(1000, &lengths, 25_000), 999);
        assert_eq!(window_tokens(0, &lengths, 25_000), 0);
        assert_eq!(window_tokens(1000, &[usize::MAX, usize::MAX - 1], 500), 500);
    }
}
