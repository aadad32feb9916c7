//! What a committed comparison measured past the trained length.

use crate::words::{Language, Words, decimal, said};
use serde::{Deserialize, Serialize};

/// The outcome of one encoding in a comparison whose results are committed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The folder of the results.
    pub run: &'static str,
    /// Tokens in a training sequence.
    pub trained: usize,
    /// One entry per evaluated length past the trained one, ascending.
    pub at: &'static [MeasuredAt],
}

/// The outcome at one length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeasuredAt {
    /// Tokens of context.
    pub length: usize,
    /// The verdict by the comparison's rule.
    pub reach: Reach,
    /// Rise of the loss of the same targets over the trained length, mean over the seeds, in nats per token; `None` if it refuses.
    pub rise: Option<f64>,
}

/// The verdicts of a comparison on one length, by the rule of `docs/method.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The loss rises by less than 0.15 nat.
    Holds,
    /// Between the two: 0.15 to 0.5 nat, both included.
    Degrades,
    /// The loss rises by more than 0.5 nat, or is not a number.
    Broken,
    /// The seeds fall into different classes, or some refuse.
    Inconclusive,
    /// It does not run at this length.
    Refuses,
}

impl Reach {
    /// The verdict in a word.
    ///
    /// ```
    /// use posenc::{catalogue::Reach, Language};
    /// assert_eq!(Reach::Holds.words().get(Language::English), "holds");
    /// ```
    pub fn words(self) -> Words<&'static str> {
        match self {
            Reach::Holds => said("holds", "保持"),
            Reach::Degrades => said("degrades", "变差"),
            Reach::Broken => said("broken", "失效"),
            Reach::Inconclusive => said("inconclusive", "不确定"),
            Reach::Refuses => said("refuses", "拒绝"),
        }
    }
}

impl Measured {
    /// The outcome in a line: neighbouring lengths with the same verdict are joined, the rise is that of the last.
    ///
    /// ```
    /// use posenc::Language;
    /// use posenc::catalogue::{Measured, MeasuredAt, Reach};
    /// let measured = Measured {
    ///     run: "an example",
    ///     trained: 64,
    ///     at: &[
    ///         MeasuredAt { length: 96, reach: Reach::Holds, rise: Some(0.08) },
    ///         MeasuredAt { length: 128, reach: Reach::Broken, rise: Some(0.83) },
    ///         MeasuredAt { length: 256, reach: Reach::Broken, rise: Some(2.49) },
    ///     ],
    /// };
    /// assert_eq!(measured.line(Language::English), "1.5 L holds (+0.08 nat), 2–4 L broken (+2.49 nat)");
    /// ```
    pub fn line(&self, language: Language) -> String {
        let times = |length: usize| decimal(length as f64 / self.trained as f64, 2);
        let mut parts = Vec::new();
        for same in self.at.chunk_by(|a, b| a.reach == b.reach) {
            let (first, last) = (same[0], same[same.len() - 1]);
            let span = if same.len() == 1 {
                times(first.length)
            } else {
                format!("{}–{}", times(first.length), times(last.length))
            };
            let verdict = first.reach.words();
            let rise = last.rise.map(|rise| format!("{rise:+.2} nat"));
            parts.push(match (language, rise) {
                (Language::English, Some(rise)) => format!("{span} L {} ({rise})", verdict.en),
                (Language::English, None) => format!("{span} L {}", verdict.en),
                (Language::Chinese, Some(rise)) => format!("{span} L {}（{rise}）", verdict.zh),
                (Language::Chinese, None) => format!("{span} L {}", verdict.zh),
            });
        }
        parts.join(said(", ", "，").get(language))
    }
}

/// By catalogue name. Every number here is copied from the committed run that its `run` names, and from nowhere else.
static MEASURED: &[(&str, Measured)] = &[];

pub(crate) fn of(name: &str) -> Option<&'static Measured> {
    MEASURED.iter().find(|(entry, _)| *entry == name).map(|(_, measured)| measured)
}
