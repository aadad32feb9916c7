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

/// The committed run.
const RUN: &str = "records/2026-11-22-default";

const fn at(length: usize, reach: Reach, rise: f64) -> MeasuredAt {
    MeasuredAt {
        length,
        reach,
        rise: Some(rise),
    }
}

const fn refuses(length: usize) -> MeasuredAt {
    MeasuredAt {
        length,
        reach: Reach::Refuses,
        rise: None,
    }
}

const fn measured(at: &'static [MeasuredAt]) -> Measured {
    Measured { run: RUN, trained: 64, at }
}

/// By catalogue name. Every number here is copied from the committed run, and a test holds them to its `results.json`.
static MEASURED: &[(&str, Measured)] = &[
    (
        "none",
        measured(&[
            at(96, Reach::Holds, 0.08),
            at(128, Reach::Inconclusive, 0.13),
            at(256, Reach::Inconclusive, 0.18),
            at(512, Reach::Degrades, 0.21),
        ]),
    ),
    ("learned", measured(&[refuses(96), refuses(128), refuses(256), refuses(512)])),
    (
        "sinusoidal",
        measured(&[
            at(96, Reach::Broken, 1.15),
            at(128, Reach::Broken, 1.13),
            at(256, Reach::Broken, 1.11),
            at(512, Reach::Broken, 1.22),
        ]),
    ),
    ("input-table", measured(&[refuses(96), refuses(128), refuses(256), refuses(512)])),
    (
        "rotary",
        measured(&[
            at(96, Reach::Holds, 0.03),
            at(128, Reach::Broken, 0.54),
            at(256, Reach::Broken, 1.92),
            at(512, Reach::Broken, 2.08),
        ]),
    ),
    (
        "shaw",
        measured(&[
            at(96, Reach::Holds, 0.00),
            at(128, Reach::Holds, 0.01),
            at(256, Reach::Holds, 0.02),
            at(512, Reach::Holds, 0.04),
        ]),
    ),
    (
        "alibi",
        measured(&[
            at(96, Reach::Holds, 0.00),
            at(128, Reach::Holds, 0.00),
            at(256, Reach::Holds, 0.01),
            at(512, Reach::Holds, 0.01),
        ]),
    ),
    (
        "clipped",
        measured(&[
            at(96, Reach::Holds, 0.05),
            at(128, Reach::Holds, 0.12),
            at(256, Reach::Degrades, 0.38),
            at(512, Reach::Broken, 0.65),
        ]),
    ),
    (
        "shared",
        measured(&[
            at(96, Reach::Holds, 0.05),
            at(128, Reach::Holds, 0.12),
            at(256, Reach::Degrades, 0.37),
            at(512, Reach::Broken, 0.64),
        ]),
    ),
    (
        "t5",
        measured(&[
            at(96, Reach::Holds, 0.05),
            at(128, Reach::Holds, 0.12),
            at(256, Reach::Degrades, 0.36),
            at(512, Reach::Broken, 0.62),
        ]),
    ),
];

pub(crate) fn of(name: &str) -> Option<&'static Measured> {
    MEASURED.iter().find(|(entry, _)| *entry == name).map(|(_, measured)| measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Every entry says what the committed `results.json` says, to the last printed digit, and nothing is left out.
    #[test]
    fn the_table_is_the_committed_run() {
        let results: Value = serde_json::from_str(include_str!("../../../../records/2026-11-22-default/results.json")).unwrap();
        let verdicts = results["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), MEASURED.len());
        assert_eq!(results["config"]["training"]["length"], 64);
        for verdict in verdicts {
            let name = verdict["encoding"].as_str().unwrap();
            let measured = of(name).unwrap();
            let lengths = &verdict["lengths"].as_array().unwrap()[1..];
            assert_eq!(lengths.len(), measured.at.len(), "{name}");
            for (there, here) in lengths.iter().zip(measured.at) {
                assert_eq!(there["length"], here.length, "{name}");
                assert_eq!(
                    there["verdict"],
                    serde_json::to_value(here.reach).unwrap(),
                    "{name} at {}",
                    here.length
                );
                let rises: Vec<f64> = there["rise"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
                let mean = (!rises.is_empty()).then(|| rises.iter().sum::<f64>() / rises.len() as f64);
                assert_eq!(mean.is_some(), here.rise.is_some(), "{name}");
                // Two digits are printed.
                assert!(
                    mean.zip(here.rise).is_none_or(|(a, b)| (a - b).abs() <= 0.005 + 1e-12),
                    "{name} at {}: {mean:?}",
                    here.length
                );
            }
        }
    }
}
