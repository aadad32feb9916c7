//! # Scaling of rotary frequencies
//!
//! **Idea.** A model that was trained on L tokens has seen each pair turn as far as L positions take it. To read more, the slow pairs, which never completed
//! a turn, are slowed further, so that a longer text turns them no farther than the trained one did.
//!
//! **Papers.** Linear: Chen, Wong, Chen, Tian, *Extending Context Window of Large Language Models via Positional Interpolation*, 2023, arXiv 2306.15595.
//! NTK-aware and dynamic NTK: posts of bloc97 and emozilla, 2023, written down in the next. NTK-by-parts and YaRN: Peng, Quesnelle, Fan, Shippole, *YaRN: Efficient
//! Context Window Extension of Large Language Models*, 2023, arXiv 2309.00071. LongRoPE: Ding and others, 2024, arXiv 2402.13753. Llama 3: Dubey and
//! others, *The Llama 3 Herd of Models*, 2024, arXiv 2407.21783, whose rule is in Meta's code.
//!
//! **Maths.** With f(i) = base^(−2i / r), r = `rotary_dim`, and a wavelength of 2π / f(i) positions:
//! ```text
//! linear       f(i) / s
//! NTK-aware    (base · s^(r / (r − 2)))^(−2i / r)
//! dynamic      (base · (s·n/L − (s − 1))^(r / (r − 2)))^(−2i / r) in a call of n > L tokens, f(i) otherwise
//! by parts     f(i)/s · ramp(i) + f(i) · (1 − ramp(i)),   ramp(i) = clamp((i − low) / (high − low), 0, 1)
//!              low, high = the indices i of pairs that turn β_fast and β_slow times within L: r·ln(L / (2π·β)) / (2 ln base)
//! YaRN         by parts, and cosines and sines times 0.1·ln s + 1
//! LongRoPE     f(i) / short(i) in a call of at most L tokens, f(i) / long(i) in a longer one, and cosines and sines times √(1 + ln s / ln L)
//! proportional f(i) / s in the first share of the pairs, 0 in the rest
//! Llama 3      f(i) where the wavelength is below L/high, f(i)/s where it is above L/low, a blend linear in L / wavelength between
//! ```
//!
//! **Conventions that differ between codebases.** transformers divides frequencies where others divide positions: the last bit differs. Its dynamic rule looks at the
//! longest row of the batch, in each call; vLLM decides once. YaRN's magnitude has three names: what tables are multiplied by ([`Magnitude`]), what the
//! softmax scale is multiplied by (DeepSeek's mscale², see [`yarn_magnitude`]), and what `attn_factor` multiplies.
//!
//! **Cost.** None beside plain rotary.

use crate::dims::check_width;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::fmt;

/// How the frequencies of rotary positions are changed to read more tokens than a model was trained on. Default: not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
#[doc(alias = "rope_scaling")]
#[doc(alias = "rope_parameters")]
pub enum Scaling {
    /// As trained.
    #[default]
    #[serde(rename = "default")]
    Unscaled,
    /// Position interpolation: every pair `factor` times slower.
    Linear {
        /// s ≥ 1.
        factor: f64,
    },
    /// A larger base: the slowest pair `factor` times slower, the fastest as it was.
    Ntk {
        /// s ≥ 1.
        factor: f64,
    },
    /// The base grows with the call, past the trained length.
    Dynamic {
        /// s ≥ 1.
        factor: f64,
        /// L: tokens trained on.
        original_len: usize,
    },
    /// A base that is larger by α^(r/(r−2)), whatever the length (HunYuan's `alpha`).
    Alpha {
        /// α > 0.
        alpha: f64,
    },
    /// By parts, with a magnitude.
    Yarn(Yarn),
    /// A divisor for each pair, found by search.
    Longrope(LongRope),
    /// A divisor for each pair, the same in calls of every length: ggml's `freq_factors`, which a GGUF file holds as a tensor of its own instead of the rule that made them.
    #[doc(alias = "freq_factors")]
    #[doc(alias = "rope_freqs")]
    Divided {
        /// What each frequency is divided by, `[r / 2]`.
        divisors: Vec<f64>,
        /// What cosines and sines are multiplied by.
        magnitude: f64,
    },
    /// The first share of the pairs turns as in a head that turns whole, the rest not at all: Gemma 4. (Where the rotary width itself is less, [`Rotary`](crate::Rotary) has `rotary_dim`.)
    Proportional {
        /// The share of the head that turns, in (0, 1].
        partial: f64,
        /// s ≥ 1: what frequencies are divided by.
        factor: f64,
    },
    /// Llama 3's bands.
    Llama3 {
        /// s ≥ 1.
        factor: f64,
        /// L: tokens trained on.
        original_len: usize,
        /// Wavelengths above L / this are divided by the factor.
        low_freq_factor: f64,
        /// Wavelengths below L / this stay. The same number, in Llama 4 Scout, leaves nothing between.
        high_freq_factor: f64,
    },
}

/// YaRN, and NTK-by-parts, which is YaRN with a magnitude of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yarn {
    /// s ≥ 1.
    pub factor: f64,
    /// L: tokens trained on.
    pub original_len: usize,
    /// Pairs that turn more often than this within L stay as they are; 32 in the paper.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are divided by the factor; 1 in the paper.
    pub beta_slow: f64,
    /// The ramp begins and ends at whole indices: true in the paper's code, false in gpt-oss.
    pub truncate: bool,
    /// What cosines and sines are multiplied by.
    pub magnitude: Magnitude,
}

/// What cosines and sines are multiplied by: transformers' `attention_scaling`. A score is then multiplied by its square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Magnitude {
    /// The method's own: 0.1·ln s + 1 in YaRN, √(1 + ln s / ln L) in LongRoPE; 1 where s ≤ 1.
    Own,
    /// This number (`attention_factor`).
    Given(f64),
    /// The method's own times this number (`attn_factor` of vLLM and llama.cpp).
    OwnTimes(f64),
    /// YaRN's own with each of these in place of 0.1's factor 1, one divided by the other (DeepSeek's `mscale` and `mscale_all_dim`).
    Ratio {
        /// Of the numerator.
        mscale: f64,
        /// Of the denominator.
        mscale_all_dim: f64,
    },
}

/// LongRoPE's divisors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongRope {
    /// A divisor for each pair in calls of at most L tokens, `[r / 2]`.
    pub short_factor: Vec<f64>,
    /// The same in longer ones.
    pub long_factor: Vec<f64>,
    /// L: tokens trained on.
    pub original_len: usize,
    /// s: how much longer the model reads than it was trained on; for the magnitude alone.
    pub factor: f64,
    /// What cosines and sines are multiplied by, in calls of any length.
    pub magnitude: Magnitude,
}

/// What one call turns by.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// Radians per position of each pair.
    pub pairs: Vec<f64>,
    /// The axis of the positions that turns each pair; 0 where there is one.
    pub axes: Vec<usize>,
    /// What cosines and sines are multiplied by.
    pub table_factor: f64,
}

/// YaRN's magnitude `0.1·mscale·ln s + 1`; 1 where s ≤ 1. DeepSeek multiplies its softmax scale by the square of this at `mscale_all_dim`.
///
/// ```
/// use posenc::rotate::yarn_magnitude;
/// assert_eq!(yarn_magnitude(1.0, 1.0), 1.0);
/// assert!((yarn_magnitude(40.0, 1.0).powi(2) - 1.873_854).abs() < 1e-6); // DeepSeek-V3
/// ```
#[doc(alias = "yarn_get_mscale")]
pub fn yarn_magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

impl Yarn {
    /// The paper's: ramp between 32 turns and 1, whole indices, its own magnitude.
    pub fn new(factor: f64, original_len: usize) -> Yarn {
        Yarn {
            factor,
            original_len,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            magnitude: Magnitude::Own,
        }
    }

    /// The same frequencies with tables as they are: NTK-by-parts.
    pub fn by_parts(factor: f64, original_len: usize) -> Yarn {
        Yarn {
            magnitude: Magnitude::Given(1.0),
            ..Yarn::new(factor, original_len)
        }
    }

    /// Where the ramp begins and ends, as indices of pairs, before a width of zero is widened.
    pub(super) fn ramp(&self, base: f64, r: usize) -> (f64, f64) {
        let index = |turns: f64| r as f64 * (self.original_len as f64 / (turns * TAU)).ln() / (2.0 * base.ln());
        let (low, high) = (index(self.beta_fast), index(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        // The upper end is that of coordinates, not of pairs, as in the paper's code.
        (low.max(0.0), high.min(r as f64 - 1.0))
    }
}

impl Scaling {
    /// Frequencies in a call whose largest position is `length` − 1, for this base and exponents over `rotary_dim` coordinates. An odd width has one pair more than its half.
    ///
    /// ```
    /// use posenc::rotate::Scaling;
    /// let plain = Scaling::Unscaled.frequencies(10_000.0, 128, 4096)?;
    /// let linear = Scaling::Linear { factor: 4.0 }.frequencies(10_000.0, 128, 4096)?;
    /// assert_eq!(linear.pairs[5], plain.pairs[5] / 4.0);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// A setting out of its range, or a width that the rule cannot work with: [`Scaling::check`].
    pub fn frequencies(&self, base: f64, rotary_dim: usize, length: usize) -> Result<Frequencies> {
        self.check(base, rotary_dim)?;
        let r = rotary_dim as f64;
        let pairs = rotary_dim.div_ceil(2);
        let of_base = |base: f64| (0..pairs).map(move |i| base.powf(-(2.0 * i as f64) / r));
        let axes = vec![0; pairs];
        let plain = |pairs| Frequencies {
            pairs,
            axes: axes.clone(),
            table_factor: 1.0,
        };
        // Multiplies the slowest pair's wavelength by `stretch`.
        let larger_base = |stretch: f64| of_base(base * stretch.powf(r / (r - 2.0))).collect();
        Ok(match self {
            Scaling::Unscaled => plain(of_base(base).collect()),
            Scaling::Linear { factor } => plain(of_base(base).map(|f| f / factor).collect()),
            Scaling::Ntk { factor } => plain(larger_base(*factor)),
            Scaling::Alpha { alpha } => plain(larger_base(*alpha)),
            Scaling::Dynamic { factor, original_len } => {
                if length <= *original_len {
                    return Scaling::Unscaled.frequencies(base, rotary_dim, length);
                }
                plain(larger_base(factor * length as f64 / *original_len as f64 - (factor - 1.0)))
            }
            Scaling::Yarn(yarn) => {
                let (low, high) = yarn.ramp(base, rotary_dim);
                let width = if low == high { 0.001 } else { high - low };
                let blend = |(i, f): (usize, f64)| {
                    // The two shares of a number need not add up to its last bit.
                    if yarn.factor == 1.0 {
                        return f;
                    }
                    let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    f / yarn.factor * ramp + f * (1.0 - ramp)
                };
                Frequencies {
                    pairs: of_base(base).enumerate().map(blend).collect(),
                    axes,
                    table_factor: yarn.magnitude.of(yarn_magnitude(yarn.factor, 1.0), yarn.factor),
                }
            }
            Scaling::Longrope(long_rope) => {
                let divisors = if length > long_rope.original_len {
                    &long_rope.long_factor
                } else {
                    &long_rope.short_factor
                };
                let own = if long_rope.factor <= 1.0 {
                    1.0
                } else {
                    (1.0 + long_rope.factor.ln() / (long_rope.original_len as f64).ln()).sqrt()
                };
                Frequencies {
                    pairs: of_base(base).zip(divisors).map(|(f, divisor)| f / divisor).collect(),
                    axes,
                    table_factor: long_rope.magnitude.of(own, long_rope.factor),
                }
            }
            Scaling::Divided { divisors, magnitude } => Frequencies {
                pairs: of_base(base).zip(divisors).map(|(f, divisor)| f / divisor).collect(),
                axes,
                table_factor: *magnitude,
            },
            Scaling::Proportional { partial, factor } => {
                let turning = (partial * r / 2.0).floor() as usize;
                plain(
                    of_base(base)
                        .enumerate()
                        .map(|(i, f)| if i < turning { f / factor } else { 0.0 })
                        .collect(),
                )
            }
            Scaling::Llama3 {
                factor,
                original_len,
                low_freq_factor: low,
                high_freq_factor: high,
            } => plain(
                of_base(base)
                    .map(|f| {
                        // Turns within the trained length.
                        let turns = *original_len as f64 * f / TAU;
                        // Equal factors leave nothing to blend (Llama 4).
                        let keep = if high > low {
                            ((turns - low) / (high - low)).clamp(0.0, 1.0)
                        } else {
                            f64::from(u8::from(turns >= *low))
                        };
                        (1.0 - keep) * f / factor + keep * f
                    })
                    .collect(),
            ),
        })
    }

    /// What each pair's frequency is divided by in a call of this length, `[r / 2]`: the tensor that a GGUF file holds for Llama 3 (`rope_freqs.weight`) and LongRoPE
    /// (`rope_factors_short.weight`, `rope_factors_long.weight`), which is ggml's `freq_factors`. Infinite for a pair that does not turn; ggml's files have 1e30 there.
    ///
    /// ```
    /// use posenc::rotate::Scaling;
    /// let llama = Scaling::Llama3 { factor: 8.0, original_len: 8192, low_freq_factor: 1.0, high_freq_factor: 4.0 };
    /// let divisors = llama.divisors(500_000.0, 128, 0)?;
    /// assert_eq!((divisors[0], divisors[63]), (1.0, 8.0));
    /// let read = Scaling::Divided { divisors, magnitude: 1.0 };
    /// let (a, b) = (llama.frequencies(500_000.0, 128, 0)?, read.frequencies(500_000.0, 128, 0)?);
    /// assert!(a.pairs.iter().zip(&b.pairs).all(|(a, b)| (a - b).abs() <= 2.0 * f64::EPSILON * a));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Scaling::frequencies`].
    #[doc(alias = "freq_factors")]
    pub fn divisors(&self, base: f64, rotary_dim: usize, length: usize) -> Result<Vec<f64>> {
        let scaled = self.frequencies(base, rotary_dim, length)?.pairs;
        let plain = Scaling::Unscaled.frequencies(base, rotary_dim, length)?.pairs;
        Ok(plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect())
    }

    /// Its frequencies are not the same in calls of all lengths.
    pub fn depends_on_length(&self) -> bool {
        matches!(self, Scaling::Dynamic { .. } | Scaling::Longrope(_))
    }

    /// The settings lie in their ranges and fit the width.
    ///
    /// # Errors
    /// A factor below 1 or not a number, a trained length of 0, bands or a ramp that are empty, lists that are not one number per pair, a base of at most 1
    /// where its logarithm is needed, a width of 2 where the rule divides by the width less 2.
    pub fn check(&self, base: f64, rotary_dim: usize) -> Result<()> {
        let number = |what, value: f64, fine: bool, expected| {
            if value.is_finite() && fine {
                return Ok(());
            }
            Err(Error::Invalid {
                what,
                given: value.to_string(),
                expected,
            })
        };
        let factor = |s: f64| number("scaling factor", s, s >= 1.0, "a number of at least 1");
        let positive = |what, x: f64| number(what, x, x > 0.0, "a positive number");
        let trained = |len: usize| {
            if len == 0 {
                Err(Error::Zero { what: "original_len" })
            } else {
                Ok(())
            }
        };
        let divisors = |what, list: &[f64]| {
            if list.len() != rotary_dim.div_ceil(2) {
                return Err(Error::Shape {
                    what,
                    expected: vec![rotary_dim.div_ceil(2)],
                    given: vec![list.len()],
                });
            }
            list.iter().try_for_each(|divisor| positive(what, *divisor))
        };
        check_width("rotary_dim", rotary_dim)?;
        let wide = || match rotary_dim {
            0..=2 => Err(Error::Invalid {
                what: "rotary_dim",
                given: rotary_dim.to_string(),
                expected: "more than 2: a scaled base is raised to r / (r − 2)",
            }),
            _ => Ok(()),
        };
        match self {
            Scaling::Unscaled => Ok(()),
            Scaling::Linear { factor: s } => factor(*s),
            Scaling::Ntk { factor: s } => wide().and(factor(*s)),
            Scaling::Alpha { alpha } => wide().and(positive("alpha", *alpha)),
            Scaling::Dynamic { factor: s, original_len } => wide().and(factor(*s)).and(trained(*original_len)),
            Scaling::Yarn(yarn) => {
                factor(yarn.factor)?;
                trained(yarn.original_len)?;
                positive("beta_slow", yarn.beta_slow)?;
                number(
                    "beta_fast",
                    yarn.beta_fast,
                    yarn.beta_fast >= yarn.beta_slow,
                    "a number of at least beta_slow",
                )?;
                number("base", base, base > 1.0, "more than 1: the ramp divides by its logarithm")?;
                yarn.magnitude.check()
            }
            Scaling::Divided { divisors: list, magnitude } => {
                divisors("divisors", list)?;
                Magnitude::Given(*magnitude).check()
            }
            Scaling::Proportional { partial, factor: s } => {
                factor(*s)?;
                number(
                    "partial_rotary_factor",
                    *partial,
                    *partial > 0.0 && *partial <= 1.0,
                    "above 0 and at most 1",
                )
            }
            Scaling::Longrope(long_rope) => {
                divisors("short_factor", &long_rope.short_factor)?;
                divisors("long_factor", &long_rope.long_factor)?;
                number(
                    "original_len",
                    long_rope.original_len as f64,
                    long_rope.original_len > 1,
                    "more than 1",
                )?;
                positive("scaling factor", long_rope.factor)?;
                long_rope.magnitude.check()
            }
            Scaling::Llama3 {
                factor: s,
                original_len,
                low_freq_factor: low,
                high_freq_factor: high,
            } => {
                factor(*s)?;
                trained(*original_len)?;
                positive("low_freq_factor", *low)?;
                number("high_freq_factor", *high, high >= low, "at least low_freq_factor")
            }
        }
    }
}

impl Magnitude {
    fn of(self, own: f64, factor: f64) -> f64 {
        match self {
            Magnitude::Own => own,
            Magnitude::Given(number) => number,
            Magnitude::OwnTimes(number) => own * number,
            Magnitude::Ratio { mscale, mscale_all_dim } => yarn_magnitude(factor, mscale) / yarn_magnitude(factor, mscale_all_dim),
        }
    }

    fn check(self) -> Result<()> {
        let numbers = match self {
            Magnitude::Own => return Ok(()),
            Magnitude::Given(number) | Magnitude::OwnTimes(number) => [number; 2],
            Magnitude::Ratio { mscale, mscale_all_dim } => [mscale, mscale_all_dim],
        };
        match numbers.into_iter().find(|x| !(x.is_finite() && *x > 0.0)) {
            None => Ok(()),
            Some(number) => Err(Error::Invalid {
                what: "magnitude of the tables",
                given: number.to_string(),
                expected: "a positive number",
            }),
        }
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scaling::Unscaled => write!(f, "as trained"),
            Scaling::Linear { factor } => write!(f, "linear ×{factor}"),
            Scaling::Ntk { factor } => write!(f, "NTK-aware ×{factor}"),
            Scaling::Dynamic { factor, original_len } => write!(f, "dynamic NTK ×{factor} past {original_len}"),
            Scaling::Alpha { alpha } => write!(f, "NTK α {alpha}"),
            Scaling::Yarn(yarn) => {
                let name = if yarn.magnitude == Magnitude::Given(1.0) {
                    "NTK-by-parts"
                } else {
                    "YaRN"
                };
                write!(f, "{name} ×{} of {}", yarn.factor, yarn.original_len)
            }
            Scaling::Divided { divisors, .. } => {
                let ends = |least: f64, x: &f64| if x.is_finite() { least.max(*x) } else { least };
                write!(f, "{} divisors up to {}", divisors.len(), divisors.iter().fold(0.0, ends))
            }
            Scaling::Proportional { partial, factor } if *factor == 1.0 => write!(f, "{partial} of the pairs"),
            Scaling::Proportional { partial, factor } => write!(f, "{partial} of the pairs, ×{factor}"),
            Scaling::Longrope(long_rope) => write!(f, "LongRoPE ×{} past {}", long_rope.factor, long_rope.original_len),
            Scaling::Llama3 { factor, original_len, .. } => write!(f, "Llama 3 ×{factor} of {original_len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(scaling: &Scaling, base: f64, r: usize, length: usize) -> Vec<f64> {
        scaling.frequencies(base, r, length).unwrap().pairs
    }

    /// Ends of the ramp as computed once by hand from the formula, to the digits printed.
    #[test]
    fn ramps_begin_and_end_where_known_models_have_them() {
        let ramp = |factor, original_len, truncate, base, r| {
            Yarn {
                truncate,
                ..Yarn::new(factor, original_len)
            }
            .ramp(base, r)
        };
        let (low, high) = ramp(32.0, 4096, false, 150_000.0, 64);
        assert!(
            (low - 8.092_779_115_512_402).abs() < 1e-12 && (high - 17.398_024_501_588_56).abs() < 1e-12,
            "gpt-oss"
        );
        let (low, high) = ramp(4.0, 32_768, false, 1e6, 128);
        assert!((low - 23.596).abs() < 5e-4 && (high - 39.651).abs() < 5e-4, "Qwen3");
        let (low, high) = ramp(40.0, 4096, false, 1e4, 64);
        assert!((low - 10.472).abs() < 5e-4 && (high - 22.513).abs() < 5e-4, "DeepSeek-V3");
        assert_eq!(ramp(40.0, 4096, true, 1e4, 64), (10.0, 23.0));
    }

    /// The shares that Meta's configuration (base 500 000, 8, 8192, 1, 4, heads of 128) leaves to pairs 24 to 35, to the digits printed.
    #[test]
    fn llama3_keeps_blends_and_divides_the_pairs_that_it_should() {
        let llama3 = Scaling::Llama3 {
            factor: 8.0,
            original_len: 8192,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
        };
        let (scaled, plain) = (pairs(&llama3, 5e5, 128, 0), pairs(&Scaling::Unscaled, 5e5, 128, 0));
        let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 0.8282, 0.6437, 0.4935, 0.3711, 0.2714, 0.1902, 0.125];
        for (i, expected) in (24..36).zip(expected) {
            assert!((scaled[i] / plain[i] - expected).abs() <= 5e-5, "pair {i}");
        }
    }

    #[test]
    fn magnitudes_are_those_of_known_models() {
        let factor = |scaling: Scaling, base, r| scaling.frequencies(base, r, 1).unwrap().table_factor;
        let phi3 = LongRope {
            short_factor: vec![1.0; 48],
            long_factor: vec![2.0; 48],
            original_len: 4096,
            factor: 32.0,
            magnitude: Magnitude::Own,
        };
        assert!((factor(Scaling::Longrope(phi3), 1e4, 96) - 1.190_238_07).abs() < 5e-9);
        let deepseek = Yarn {
            magnitude: Magnitude::Ratio {
                mscale: 1.0,
                mscale_all_dim: 1.0,
            },
            ..Yarn::new(40.0, 4096)
        };
        assert_eq!(factor(Scaling::Yarn(deepseek), 1e4, 64), 1.0);
        assert_eq!(factor(Scaling::Yarn(Yarn::new(4.0, 32_768)), 1e6, 128), 0.1 * 4f64.ln() + 1.0);
        assert_eq!(factor(Scaling::Yarn(Yarn::by_parts(4.0, 32_768)), 1e6, 128), 1.0);
    }

    /// A factor of 1, and dynamic rules within the trained length, leave every bit.
    #[test]
    fn scaling_by_one_is_the_identity() {
        let plain = pairs(&Scaling::Unscaled, 1e4, 64, 100);
        for same in [
            Scaling::Linear { factor: 1.0 },
            Scaling::Ntk { factor: 1.0 },
            Scaling::Alpha { alpha: 1.0 },
            Scaling::Yarn(Yarn::new(1.0, 64)),
            Scaling::Dynamic {
                factor: 4.0,
                original_len: 100,
            },
            Scaling::Dynamic {
                factor: 1.0,
                original_len: 100,
            },
        ] {
            assert_eq!(pairs(&same, 1e4, 64, 100), plain, "{same}");
        }
        let dynamic = Scaling::Dynamic {
            factor: 4.0,
            original_len: 100,
        };
        assert_ne!(pairs(&dynamic, 1e4, 64, 101), plain);
        for r in (4..=256).step_by(2) {
            for original_len in [16, 64, 100, 4096] {
                let yarn = Scaling::Yarn(Yarn::new(1.0, original_len));
                assert_eq!(pairs(&yarn, 1e4, r, 0), pairs(&Scaling::Unscaled, 1e4, r, 0), "{r}, {original_len}");
            }
        }
    }

    /// The slowest pair is slowed by the factor, the fastest not at all. (Powers of powers: a few ulp of the exponent's size.)
    #[test]
    fn a_larger_base_slows_the_slowest_pair_by_the_factor() {
        let (scaled, plain) = (
            pairs(&Scaling::Ntk { factor: 4.0 }, 1e4, 64, 1),
            pairs(&Scaling::Unscaled, 1e4, 64, 1),
        );
        assert_eq!(scaled[0], plain[0]);
        assert!((plain[31] / scaled[31] - 4.0).abs() <= 1e-12);
    }

    #[test]
    fn long_rope_switches_past_the_trained_length() {
        let long_rope = Scaling::Longrope(LongRope {
            short_factor: vec![1.0, 2.0],
            long_factor: vec![4.0, 8.0],
            original_len: 16,
            factor: 4.0,
            magnitude: Magnitude::Own,
        });
        assert_eq!(pairs(&long_rope, 1e4, 4, 16), [1.0, 0.005]);
        assert_eq!(pairs(&long_rope, 1e4, 4, 17), [0.25, 0.00125]);
    }

    #[test]
    fn divisors_undo_and_make_a_scaling() {
        let yarn = Scaling::Yarn(Yarn::new(4.0, 1024));
        let divided = Scaling::Divided {
            divisors: yarn.divisors(1e4, 64, 0).unwrap(),
            magnitude: 1.5,
        };
        let made = divided.frequencies(1e4, 64, 7).unwrap();
        assert_eq!(made.table_factor, 1.5);
        for (a, b) in made.pairs.iter().zip(pairs(&yarn, 1e4, 64, 0)) {
            // Two quotients.
            assert!((a - b).abs() <= 2.0 * f64::EPSILON * b);
        }
        let half = Scaling::Proportional { partial: 0.5, factor: 1.0 };
        assert_eq!(half.divisors(1e4, 4, 0).unwrap(), [1.0, f64::INFINITY]);
    }

    /// Llama 4 Scout's bands touch: each pair stays or is divided, and none is neither.
    #[test]
    fn llama_3s_bands_may_touch() {
        let scout = Scaling::Llama3 {
            factor: 16.0,
            original_len: 8192,
            low_freq_factor: 1.0,
            high_freq_factor: 1.0,
        };
        let plain = pairs(&Scaling::Unscaled, 5e5, 128, 0);
        let kept = pairs(&scout, 5e5, 128, 0).iter().zip(&plain).filter(|(a, b)| a == b).count();
        assert_eq!(kept, plain.iter().filter(|f| 8192.0 * **f >= TAU).count());
        assert!((1..64).contains(&kept));
        // A wavelength of exactly the length, where the blend would be 0 / 0.
        let exact = Scaling::Llama3 {
            factor: 2.0,
            original_len: 1,
            low_freq_factor: 1.0 / TAU,
            high_freq_factor: 1.0 / TAU,
        };
        assert_eq!(pairs(&exact, 5e5, 2, 0), [1.0]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let long_rope = |short: Vec<f64>, long: Vec<f64>| {
            Scaling::Longrope(LongRope {
                short_factor: short,
                long_factor: long,
                original_len: 16,
                factor: 4.0,
                magnitude: Magnitude::Own,
            })
        };
        let llama3 = |low, high| Scaling::Llama3 {
            factor: 8.0,
            original_len: 8192,
            low_freq_factor: low,
            high_freq_factor: high,
        };
        let divided = |divisors, magnitude| Scaling::Divided { divisors, magnitude };
        for refused in [
            Scaling::Linear { factor: 0.5 },
            Scaling::Linear { factor: f64::NAN },
            Scaling::Linear { factor: f64::INFINITY },
            Scaling::Ntk { factor: -1.0 },
            Scaling::Alpha { alpha: 0.0 },
            Scaling::Dynamic {
                factor: 2.0,
                original_len: 0,
            },
            Scaling::Yarn(Yarn {
                beta_fast: 0.5,
                ..Yarn::new(4.0, 16)
            }),
            Scaling::Yarn(Yarn {
                magnitude: Magnitude::Given(0.0),
                ..Yarn::new(4.0, 16)
            }),
            long_rope(vec![1.0; 2], vec![1.0; 3]),
            long_rope(vec![1.0, 0.0], vec![1.0; 2]),
            llama3(4.0, 3.0),
            divided(vec![1.0; 3], 1.0),
            divided(vec![1.0, 0.0], 1.0),
            divided(vec![1.0; 2], 0.0),
            llama3(0.0, 4.0),
        ] {
            assert!(refused.frequencies(1e4, 4, 1).is_err(), "{refused:?}");
        }
        for width_of_two in [
            Scaling::Ntk { factor: 2.0 },
            Scaling::Alpha { alpha: 2.0 },
            Scaling::Dynamic {
                factor: 2.0,
                original_len: 4,
            },
        ] {
            assert!(matches!(
                width_of_two.frequencies(1e4, 2, 9),
                Err(Error::Invalid { what: "rotary_dim", .. })
            ));
        }
        assert!(Scaling::Yarn(Yarn::new(2.0, 4)).frequencies(1.0, 4, 1).is_err());
    }
}
