//! Published losses past the trained length, and the one nearest to a question.

use crate::words::{Words, decimal, words};

/// Perplexities of one model, trained at `trained`, read at other lengths.
struct Series {
    trained: u64,
    at: &'static [(u64, f64)],
}

/// The measurement nearest to a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    pub trained: u64,
    pub length: u64,
    /// Perplexity at the trained length.
    pub before: f64,
    /// Perplexity at `length`.
    pub after: f64,
}

/// Encodings with a published curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    Sinusoidal,
    Rotary,
    T5,
    Alibi,
    /// No encoding, causal.
    None,
}

// Press, Smith, Lewis, arXiv 2108.12409, WikiText-103, 247M parameters, non-overlapping windows.
const SINUSOIDAL: [Series; 3] = [
    Series {
        trained: 512,
        at: &[
            (512, 20.05),
            (532, 19.91),
            (612, 20.59),
            (712, 24.86),
            (812, 30.82),
            (1012, 43.54),
            (1512, 76.23),
            (2512, 132.41),
            (3512, 178.97),
            (5512, 240.44),
            (10512, 341.53),
            (15512, 406.01),
        ],
    },
    Series {
        trained: 1024,
        at: &[
            (1024, 19.34),
            (1224, 20.54),
            (1524, 29.82),
            (2024, 51.09),
            (3024, 96.46),
            (5024, 182.31),
            (10024, 337.48),
            (16024, 453.32),
        ],
    },
    Series {
        trained: 3072,
        at: &[(3072, 18.67), (3572, 21.84), (5072, 45.53), (8072, 102.74), (14072, 203.86)],
    },
];
const ROTARY: [Series; 3] = [
    Series {
        trained: 512,
        at: &[
            (512, 20.07),
            (532, 19.98),
            (612, 19.81),
            (712, 19.79),
            (812, 20.17),
            (1012, 21.37),
            (1512, 25.99),
            (2512, 31.58),
            (3512, 35.54),
            (5512, 43.14),
            (10512, 60.77),
            (15512, 79.25),
        ],
    },
    Series {
        trained: 1024,
        at: &[
            (1024, 19.33),
            (1224, 19.38),
            (1524, 22.59),
            (2024, 31.17),
            (3024, 35.67),
            (5024, 48.31),
            (10024, 77.70),
            (16024, 106.99),
        ],
    },
    Series {
        trained: 3072,
        at: &[(3072, 18.57), (3572, 18.50), (5072, 18.80), (8072, 21.60), (14072, 32.21)],
    },
];
const T5: [Series; 3] = [
    Series {
        trained: 512,
        at: &[
            (512, 19.65),
            (532, 19.53),
            (612, 19.27),
            (712, 19.10),
            (812, 18.94),
            (1012, 18.79),
            (1512, 18.91),
            (2512, 20.41),
            (3512, 22.91),
            (5512, 29.54),
            (10512, 52.95),
        ],
    },
    Series {
        trained: 1024,
        at: &[
            (1024, 18.80),
            (1224, 18.58),
            (1524, 18.42),
            (2024, 18.34),
            (3024, 18.62),
            (5024, 20.47),
            (10024, 29.54),
        ],
    },
    Series {
        trained: 3072,
        at: &[(3072, 18.01), (3572, 17.86), (5072, 17.76), (8072, 18.06)],
    },
];
const ALIBI: [Series; 3] = [
    Series {
        trained: 512,
        at: &[
            (512, 19.73),
            (532, 19.61),
            (612, 19.38),
            (712, 19.14),
            (812, 18.99),
            (1012, 18.73),
            (1512, 18.52),
            (2512, 18.41),
            (3512, 18.40),
            (5512, 18.36),
            (10512, 18.32),
            (15512, 18.31),
        ],
    },
    Series {
        trained: 1024,
        at: &[
            (1024, 18.66),
            (1224, 18.40),
            (1524, 18.22),
            (2024, 18.05),
            (3024, 17.92),
            (5024, 17.92),
            (10024, 17.97),
            (16024, 17.98),
        ],
    },
    Series {
        trained: 3072,
        at: &[(3072, 17.60), (3572, 17.50), (5072, 17.33), (8072, 17.30), (14072, 17.22)],
    },
];
// Kazemnejad et al., arXiv 2305.19466, 1.3B parameters, code: the last tokens of documents, with more context before them.
const NONE: [Series; 1] = [Series {
    trained: 1024,
    at: &[(1024, 3.751), (1200, 3.348), (1400, 3.338), (1600, 6.325), (1800, 39.413)],
}];

/// The published reading past the trained length whose ratio is nearest to `length / trained`; among equals, the one whose trained length is nearest.
pub(crate) fn nearest(curve: Curve, trained: u64, length: u64) -> Reading {
    let series: &[Series] = match curve {
        Curve::Sinusoidal => &SINUSOIDAL,
        Curve::Rotary => &ROTARY,
        Curve::T5 => &T5,
        Curve::Alibi => &ALIBI,
        Curve::None => &NONE,
    };
    let apart = |a: u64, b: u64, c: u64, d: u64| ((a as f64 * d as f64) / (b as f64 * c as f64)).ln().abs();
    series
        .iter()
        .flat_map(|s| {
            s.at[1..].iter().map(|&(read, after)| Reading {
                trained: s.trained,
                length: read,
                before: s.at[0].1,
                after,
            })
        })
        .min_by(|a, b| {
            apart(a.length, a.trained, length, trained)
                .total_cmp(&apart(b.length, b.trained, length, trained))
                .then(apart(a.trained, trained, 1, 1).total_cmp(&apart(b.trained, trained, 1, 1)))
        })
        .expect("every curve has a reading past its trained length")
}

impl Reading {
    /// Perplexity of the tokens past the trained length alone, if those before it are read as well as in training.
    pub fn past_trained(&self) -> f64 {
        let (trained, length) = (self.trained as f64, self.length as f64);
        ((length * self.after.ln() - trained * self.before.ln()) / (length - trained)).exp()
    }

    /// The measurement as a sentence with its source.
    pub fn sentence(&self, curve: Curve) -> Words {
        let Reading {
            trained,
            length,
            before,
            after,
        } = self;
        let ratio = decimal(*length as f64 / *trained as f64, 2);
        let change = format!("{:+.2}", (after / before).ln());
        if curve == Curve::None {
            return words!(
                "Nearest published measurement: trained on {trained}, read at {length} (×\u{a0}{ratio}): perplexity of the same last tokens {before} → {after} ({change} nat; \
                 1.3B parameters, code; Kazemnejad et al. 2023, arXiv 2305.19466).",
                "最接近的已发表测量：训练长度 {trained}，读取长度 {length}（×\u{a0}{ratio}）：同一批末尾词元的困惑度 {before} → {after}（{change} nat；13 亿参数，代码；Kazemnejad et al. 2023, arXiv 2305.19466）。"
            );
        }
        let alone = decimal(self.past_trained(), if self.past_trained() < 20.0 { 1 } else { 0 });
        words!(
            "Nearest published measurement: trained on {trained}, read at {length} (×\u{a0}{ratio}): perplexity {before:.2} → {after:.2} ({change} nat), mean over whole windows; \
             the tokens past {trained} alone come to about {alone} (247M parameters, WikiText-103; Press et al. 2021, arXiv 2108.12409).",
            "最接近的已发表测量：训练长度 {trained}，读取长度 {length}（×\u{a0}{ratio}）：整窗平均困惑度 {before:.2} → {after:.2}（{change} nat）；仅看第 {trained} 个之后的词元，约为 {alone}\
             （2.47 亿参数，WikiText-103；Press et al. 2021, arXiv 2108.12409）。"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_analogue_of_3000_over_2048_is_1524_over_1024() {
        let cases = [
            (Curve::Sinusoidal, 19.34, 29.82, 72.0),
            (Curve::Rotary, 19.33, 22.59, 31.0),
            (Curve::T5, 18.80, 18.42, 17.7),
            (Curve::Alibi, 18.66, 18.22, 17.4),
        ];
        for (curve, before, after, alone) in cases {
            let reading = nearest(curve, 2048, 3000);
            assert_eq!((reading.trained, reading.length), (1024, 1524));
            assert_eq!((reading.before, reading.after), (before, after));
            // The figures were noted with two or three digits.
            assert!(
                (reading.past_trained() / alone - 1.0).abs() < 0.02,
                "{curve:?} {}",
                reading.past_trained()
            );
        }
    }

    #[test]
    fn a_ratio_past_every_table_takes_its_end() {
        assert_eq!(nearest(Curve::Rotary, 100, 100_000).length, 15512);
        assert_eq!(nearest(Curve::T5, 100, 100_000).length, 10512);
        assert_eq!(nearest(Curve::None, 64, 65).length, 1200);
    }
}
