//! A trained rotary model, read with its frequencies scaled: the same weights on the same windows, without training.
//!
//! A scaling is *set for* a length. For N tokens, after training on L, its factor is N / L, as a model's configuration file would say it. Each is read at the length
//! that it is set for, where the factor shows what it reaches, and at L, where it shows what reaching so far costs. Set for L the factor is 1, and nothing may change. The dynamic rule
//! looks at the length of the call, so it is set once, for the longest length, and read at every one.

use std::str::FromStr;

use posenc::rotate::{Scaling, Yarn};
use posenc::{Attention, Encoding, Error, Method};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::model::Gpt;
use crate::preset::preset;
use crate::results::{AtLength, Config, ModelConfig, Outcome, Reach, Run};
use crate::verdict::{agreed, class, measured};

/// How a trained model's frequencies are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingMethod {
    /// Position interpolation: [`Scaling::Linear`].
    Linear,
    /// A larger base: [`Scaling::Ntk`].
    Ntk,
    /// By parts, with the magnitude in the tables: [`Yarn::new`].
    Yarn,
    /// A base that grows with the call: [`Scaling::Dynamic`].
    Dynamic,
}

impl ScalingMethod {
    /// All of them, in the order in which they are shown.
    pub const ALL: [ScalingMethod; 4] = [
        ScalingMethod::Linear,
        ScalingMethod::Ntk,
        ScalingMethod::Yarn,
        ScalingMethod::Dynamic,
    ];

    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            ScalingMethod::Linear => "linear",
            ScalingMethod::Ntk => "ntk",
            ScalingMethod::Yarn => "yarn",
            ScalingMethod::Dynamic => "dynamic",
        }
    }

    /// What it makes of frequencies that were trained on `trained` tokens.
    pub fn with_factor(self, factor: f64, trained: usize) -> Scaling {
        match self {
            ScalingMethod::Linear => Scaling::Linear { factor },
            ScalingMethod::Ntk => Scaling::Ntk { factor },
            ScalingMethod::Yarn => Scaling::Yarn(Yarn::new(factor, trained)),
            ScalingMethod::Dynamic => Scaling::Dynamic {
                factor,
                original_len: trained,
            },
        }
    }
}

impl FromStr for ScalingMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::unknown_name("scaling", name, &Self::ALL.map(Self::name)))
    }
}

/// One reading: which scaling, the factor it is set to, and the length that is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The scaling.
    pub scaling: ScalingMethod,
    /// Its factor: the length that it is set for over the trained one.
    pub factor: f64,
    /// Tokens of context.
    pub length: usize,
}

/// The readings of one scaling at these lengths, of which the first is the trained one: each length at its own factor, then the trained one at every other.
pub fn readings(scaling: ScalingMethod, lengths: &[usize]) -> Vec<Reading> {
    let Some((&trained, past)) = lengths.split_first() else {
        return Vec::new();
    };
    let factor = |length: usize| length as f64 / trained as f64;
    let reading = |factor, length| Reading { scaling, factor, length };
    if scaling == ScalingMethod::Dynamic {
        let longest = factor(lengths[lengths.len() - 1]);
        return lengths.iter().map(|&length| reading(longest, length)).collect();
    }
    let fitted = lengths.iter().map(|&length| reading(factor(length), length));
    fitted.chain(past.iter().map(|&length| reading(factor(length), trained))).collect()
}

/// The readings of a run of this encoding: those of every configured scaling, without the lengths that the encoding refuses unscaled; none where nothing rotates.
pub fn readings_of(config: &Config, encoding: &str, lengths: &[AtLength]) -> Vec<Reading> {
    if config.scalings.is_empty() || !is_rotary(config, encoding) {
        return Vec::new();
    }
    let refused = |length| {
        lengths
            .iter()
            .any(|at| at.length == length && matches!(at.outcome, Outcome::Refused(_)))
    };
    let all = config.scalings.iter().flat_map(|&scaling| readings(scaling, &config.lengths));
    all.filter(|reading| !refused(reading.length)).collect()
}

/// Whether the encoding of this name turns queries and keys by frequencies that can be scaled. A name that is not known does not.
pub fn is_rotary(config: &Config, encoding: &str) -> bool {
    preset(encoding, config.training.length, config.model.model_dim)
        .is_ok_and(|preset| scaled(&preset.encoding, &Scaling::Unscaled).is_some())
}

/// The encoding with its rotation scaled; `None` where nothing rotates, or is scaled already.
pub fn scaled(encoding: &Encoding, scaling: &Scaling) -> Option<Encoding> {
    let mut scaled = encoding.clone();
    let rotary = scaled.methods.iter_mut().find_map(|method| match method {
        Method::Rotary(rotary) if rotary.scaling == Scaling::Unscaled => Some(rotary),
        _ => None,
    })?;
    rotary.scaling = scaling.clone();
    Some(scaled)
}

/// That every scaling can work on heads of this width, before anything is trained.
///
/// # Errors
/// [`LabError::Configuration`] that names the scaling and says why it cannot.
pub fn check(scalings: &[ScalingMethod], encoding: &Encoding, model: &ModelConfig, longest: f64, trained: usize) -> Result<(), LabError> {
    for &method in scalings {
        let Some(scaled) = scaled(encoding, &method.with_factor(longest, trained)) else {
            continue;
        };
        if let Err(error) = Gpt::new(model, 2, &scaled, Attention::default(), 1.0) {
            return Err(LabError::Configuration {
                field: "scalings",
                expected: format!("what these heads can be turned by ({error})"),
                given: method.name().into(),
            });
        }
    }
    Ok(())
}

/// What one trained model's scaled reading was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// The scaling, one of [`Config::scalings`].
    pub scaling: ScalingMethod,
    /// Its factor.
    pub factor: f64,
    /// Tokens of context.
    pub length: usize,
    /// Mean loss over the aligned targets, as [`Losses::aligned`](crate::results::Losses::aligned).
    #[serde(deserialize_with = "crate::results::null_is_nan")]
    pub aligned: f64,
}

impl Scaled {
    /// What was read.
    pub fn reading(&self) -> Reading {
        Reading {
            scaling: self.scaling,
            factor: self.factor,
            length: self.length,
        }
    }
}

/// The verdicts on one encoding under one scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaledVerdict {
    /// Name from [`Config::encodings`].
    pub encoding: String,
    /// The scaling.
    pub scaling: ScalingMethod,
    /// One entry per reading.
    pub readings: Vec<ScaledVerdictAt>,
}

/// The verdict on one reading, by the rule that judges the unscaled model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaledVerdictAt {
    /// The scaling's factor.
    pub factor: f64,
    /// Tokens of context.
    pub length: usize,
    /// By the rule.
    pub verdict: Reach,
    /// Aligned loss minus the unscaled model's at the trained length, one per seed.
    #[serde(deserialize_with = "crate::results::nulls_are_nan")]
    pub rise: Vec<f64>,
}

/// The verdicts on every rotary encoding under every scaling, in the order of the configuration.
pub fn scaled_verdicts(config: &Config, runs: &[Run]) -> Vec<ScaledVerdict> {
    let mut verdicts = Vec::new();
    for encoding in &config.encodings {
        let runs = runs_of(encoding, runs);
        for &scaling in &config.scalings {
            let first = runs.first().into_iter().flat_map(|run| &run.scaled);
            let readings: Vec<ScaledVerdictAt> = first
                .filter(|reading| reading.scaling == scaling)
                .map(|reading| {
                    let rise = differences(&runs, reading.reading(), config.training.length);
                    ScaledVerdictAt {
                        factor: reading.factor,
                        length: reading.length,
                        verdict: agreed(rise.iter().map(|&rise| class(rise))).unwrap_or(Reach::Inconclusive),
                        rise,
                    }
                })
                .collect();
            if !readings.is_empty() {
                verdicts.push(ScaledVerdict {
                    encoding: encoding.clone(),
                    scaling,
                    readings,
                });
            }
        }
    }
    verdicts
}

fn runs_of<'a>(encoding: &str, runs: &'a [Run]) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.encoding == encoding).collect()
}

/// Per seed: the reading's aligned loss minus the unscaled one at `base`.
fn differences(runs: &[&Run], reading: Reading, base: usize) -> Vec<f64> {
    let difference = |run: &&Run| {
        let scaled = run.scaled.iter().find(|scaled| scaled.reading() == reading)?;
        Some(scaled.aligned - measured(run, base)?.aligned)
    };
    runs.iter().filter_map(difference).collect()
}

/// What is known of scalings, to be found again here or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Set for and read at 4 L, the scaling's loss is below the unscaled model's.
    BeatsUnscaled,
    /// Set for more than L and read at L, linear scaling's loss is above the unscaled model's.
    LinearCosts,
    /// With a factor of 1, and in the dynamic rule at any, the loss at L is the unscaled model's, bit for bit.
    SameAtTrained,
}

/// Where *beats* is checked, as a multiple of the trained length.
pub const BEATS_AT: usize = 4;

/// Whether a claim was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// With every seed.
    Held,
    /// With no seed.
    NotHeld,
    /// With some.
    Inconclusive,
}

/// A claim about one encoding's scalings, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingCheck {
    /// Name from [`Config::encodings`].
    pub encoding: String,
    /// The claim.
    pub claim: Claim,
    /// Held if it holds in every case, not held if in some case it holds with no seed.
    pub found: Found,
    /// The readings that it is about.
    pub cases: Vec<ScalingCase>,
}

/// A claim about one reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingCase {
    /// The scaling.
    pub scaling: ScalingMethod,
    /// Its factor.
    pub factor: f64,
    /// Tokens of context.
    pub length: usize,
    /// Whether the claim was found here.
    pub found: Found,
    /// Aligned loss minus the unscaled model's at this length, one per seed.
    #[serde(deserialize_with = "crate::results::nulls_are_nan")]
    pub differences: Vec<f64>,
}

/// The claims that the configured scalings and lengths can show, for every rotary encoding.
pub fn scaling_checks(config: &Config, runs: &[Run]) -> Vec<ScalingCheck> {
    let trained = config.training.length;
    let mut checks = Vec::new();
    for encoding in &config.encodings {
        let runs = runs_of(encoding, runs);
        let readings = || runs.first().into_iter().flat_map(|run| run.scaled.iter().map(Scaled::reading));
        for claim in [Claim::BeatsUnscaled, Claim::LinearCosts, Claim::SameAtTrained] {
            let is_case = |reading: &Reading| {
                let dynamic = reading.scaling == ScalingMethod::Dynamic;
                match claim {
                    // Read at 4 L, a scaling is set for 4 L, or is dynamic.
                    Claim::BeatsUnscaled => Some(reading.length) == trained.checked_mul(BEATS_AT),
                    Claim::LinearCosts => reading.scaling == ScalingMethod::Linear && reading.length == trained && reading.factor > 1.0,
                    Claim::SameAtTrained => reading.length == trained && (dynamic || reading.factor == 1.0),
                }
            };
            let cases: Vec<ScalingCase> = readings()
                .filter(is_case)
                .map(|reading| {
                    let differences = differences(&runs, reading, reading.length);
                    ScalingCase {
                        scaling: reading.scaling,
                        factor: reading.factor,
                        length: reading.length,
                        found: found(claim, &differences),
                        differences,
                    }
                })
                .collect();
            if cases.is_empty() {
                continue;
            }
            let all = |wanted| cases.iter().all(|case| case.found == wanted);
            checks.push(ScalingCheck {
                encoding: encoding.clone(),
                claim,
                found: if all(Found::Held) {
                    Found::Held
                } else if cases.iter().any(|case| case.found == Found::NotHeld) {
                    Found::NotHeld
                } else {
                    Found::Inconclusive
                },
                cases,
            });
        }
    }
    checks
}

/// Each seed is judged by its own difference. One that is not a number shows nothing.
fn found(claim: Claim, differences: &[f64]) -> Found {
    let holds = |&difference: &f64| match claim {
        Claim::BeatsUnscaled => difference < 0.0,
        Claim::LinearCosts => difference > 0.0,
        // Of two finite numbers the difference is zero only if they are equal: a loss has no −0.
        Claim::SameAtTrained => difference == 0.0,
    };
    match agreed(differences.iter().map(holds)) {
        Some(true) => Found::Held,
        Some(false) => Found::NotHeld,
        None => Found::Inconclusive,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::model::Tape;
    use crate::verdict::tests::run;
    use posenc::Params;

    /// [`small`] with every scaling, and four times the trained length among its lengths.
    fn config() -> Config {
        Config {
            lengths: vec![8, 16, 32],
            scalings: ScalingMethod::ALL.to_vec(),
            ..small()
        }
    }

    /// The run with every reading that its configuration asks for, and the aligned losses that `aligned` gives.
    pub(crate) fn with_readings(run: Run, config: &Config, aligned: impl Fn(Reading) -> f64) -> Run {
        let scaled = readings_of(config, &run.encoding, &run.lengths).into_iter().map(|reading| Scaled {
            scaling: reading.scaling,
            factor: reading.factor,
            length: reading.length,
            aligned: aligned(reading),
        });
        Run {
            scaled: scaled.collect(),
            ..run
        }
    }

    /// A rotary run whose unscaled losses are 1, 2 and 3, and whose scaled ones are as the claims say, moved by `luck`.
    fn as_known(config: &Config, seed: u64) -> Run {
        let unscaled = Run {
            lengths: (run("rotary", seed, [Some(1.0), Some(2.0), Some(3.0)]).lengths.into_iter())
                .zip(&config.lengths)
                .map(|(at, &length)| AtLength { length, ..at })
                .collect(),
            ..run("rotary", seed, [Some(1.0); 3])
        };
        with_readings(unscaled, config, |reading| match (reading.length, reading.scaling) {
            (8, ScalingMethod::Linear) => reading.factor,
            (8, ScalingMethod::Dynamic) => 1.0,
            (8, _) => 1.0 + (reading.factor - 1.0) / 64.0,
            (length, _) => 1.0 + length as f64 / 128.0,
        })
    }

    #[test]
    fn each_length_is_read_at_its_own_factor_and_the_trained_one_at_every() {
        let of = |scaling| -> Vec<(f64, usize)> {
            let readings = readings(scaling, &[64, 96, 512]);
            assert!(readings.iter().all(|reading| reading.scaling == scaling));
            readings.iter().map(|reading| (reading.factor, reading.length)).collect()
        };
        for scaling in [ScalingMethod::Linear, ScalingMethod::Ntk, ScalingMethod::Yarn] {
            assert_eq!(of(scaling), [(1.0, 64), (1.5, 96), (8.0, 512), (1.5, 64), (8.0, 64)]);
        }
        assert_eq!(of(ScalingMethod::Dynamic), [(8.0, 64), (8.0, 96), (8.0, 512)]);
        assert_eq!(readings(ScalingMethod::Linear, &[64]).len(), 1);
    }

    #[test]
    fn only_what_rotates_and_runs_is_read() {
        let config = config();
        let lengths = as_known(&config, 0).lengths;
        assert_eq!(readings_of(&config, "rotary", &lengths).len(), 3 * 5 + 3);
        assert_eq!(readings_of(&config, "alibi+rotary", &lengths).len(), 18);
        assert!(readings_of(&config, "alibi", &lengths).is_empty());
        assert!(readings_of(&config, "no such thing", &lengths).is_empty());
        assert!(readings_of(&small(), "rotary", &lengths).is_empty(), "none were asked for");
        let mut refused = lengths;
        refused[1].outcome = Outcome::Refused("the table has 8 rows".into());
        let readings = readings_of(&config, "learned+rotary", &refused);
        assert!(readings.len() == 18 - 4 && readings.iter().all(|reading| reading.length != 16));
    }

    #[test]
    fn names_are_those_of_the_files_and_a_wrong_one_is_answered_with_the_nearest() {
        for method in ScalingMethod::ALL {
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{}\"", method.name()));
            assert_eq!(method.name().to_uppercase().parse(), Ok(method));
        }
        let error = "yran".parse::<ScalingMethod>().unwrap_err().to_string();
        assert!(error.contains("unknown scaling `yran`; did you mean `yarn`?"), "{error}");
    }

    #[test]
    fn a_head_that_a_scaling_cannot_turn_is_refused_by_name() {
        let encoding = preset("rotary", 8, 4).unwrap().encoding;
        let model = ModelConfig {
            layers: 1,
            model_dim: 4,
            heads: 2,
            mlp_dim: 4,
        };
        let refused = |scalings: &[ScalingMethod]| check(scalings, &encoding, &model, 4.0, 8);
        refused(&[ScalingMethod::Linear, ScalingMethod::Yarn]).unwrap();
        let error = refused(&ScalingMethod::ALL).unwrap_err().to_string();
        assert!(
            error.contains("scalings must be") && error.contains("r / (r − 2)") && error.contains("ntk was given"),
            "{error}"
        );
    }

    /// A factor of 1, and the dynamic rule at any factor in a call of at most L tokens, give every loss to the last bit; a larger factor does not, so the test can fail.
    #[test]
    fn a_factor_of_one_and_dynamic_within_the_trained_length_change_no_bit() {
        let model = ModelConfig {
            layers: 2,
            model_dim: 64,
            heads: 4,
            mlp_dim: 32,
        };
        let trained = 24;
        let ids: Vec<u16> = (0..97u64).map(|i| (i * i % 31 % 7) as u16).collect();
        for name in ["rotary", "rotary-interleaved", "alibi+rotary"] {
            let encoding = preset(name, trained, model.model_dim).unwrap().encoding;
            let of = |scaling: &Scaling| {
                let scaled = scaled(&encoding, scaling).unwrap();
                Gpt::new(&model, 7, &scaled, Attention::default(), 1.0).unwrap()
            };
            let plain = of(&Scaling::Unscaled);
            let mut params: Params<f32> = Params::init(&plain.specs(), 3).unwrap();
            // Larger weights: with the initial ones attention hardly looks at anything, and a wrong rotation would hardly show.
            params.flat_mut().iter_mut().for_each(|weight| *weight *= 8.0);
            let losses = |gpt: &Gpt, length: usize| -> Vec<u32> {
                let calls = gpt.calls(&params, length).unwrap();
                let mut tape = Tape::default();
                let (inputs, targets) = (&ids[..length], &ids[1..=length]);
                let losses = gpt.losses(&params, &calls, inputs, targets, &mut tape).unwrap();
                losses.iter().map(|loss| loss.to_bits()).collect()
            };
            for length in [trained / 2, trained, 4 * trained] {
                let expected = losses(&plain, length);
                for method in ScalingMethod::ALL {
                    let by_one = method.with_factor(1.0, trained);
                    // At a factor of 1 the dynamic rule is NTK's with n / L: past L it scales.
                    let same = method != ScalingMethod::Dynamic || length <= trained;
                    assert_eq!(losses(&of(&by_one), length) == expected, same, "{name}, {by_one}, {length}");
                    let by_four = method.with_factor(4.0, trained);
                    let same = method == ScalingMethod::Dynamic && length <= trained;
                    assert_eq!(losses(&of(&by_four), length) == expected, same, "{name}, {by_four}, {length}");
                }
            }
        }
    }

    fn outcomes(runs: &[Run]) -> Vec<(Claim, Found)> {
        let checks = scaling_checks(&config(), runs);
        assert!(checks.iter().all(|check| check.encoding == "rotary"));
        checks.iter().map(|check| (check.claim, check.found)).collect()
    }

    #[test]
    fn what_is_known_is_found_and_every_claim_can_fail() {
        let config = config();
        let known = || vec![as_known(&config, 0), as_known(&config, 1)];
        use Claim::*;
        let held = [
            (BeatsUnscaled, Found::Held),
            (LinearCosts, Found::Held),
            (SameAtTrained, Found::Held),
        ];
        assert_eq!(outcomes(&known()), held);

        let change = |runs: &mut [Run], is: &dyn Fn(Reading) -> bool, to: f64| {
            let mut changed = 0;
            for scaled in runs
                .iter_mut()
                .flat_map(|run| &mut run.scaled)
                .filter(|scaled| is(scaled.reading()))
            {
                scaled.aligned = to;
                changed += 1;
            }
            assert!(changed > 0);
        };
        let next_up = f64::from_bits(1f64.to_bits() + 1);
        type Case<'a> = (usize, &'a dyn Fn(Reading) -> bool, f64);
        let cases: [Case; 7] = [
            (0, &|r| r.length == 32 && r.scaling == ScalingMethod::Linear, 3.0),
            (0, &|r| r.length == 32 && r.scaling == ScalingMethod::Dynamic, f64::NAN),
            (1, &|r| r.length == 8 && r.scaling == ScalingMethod::Linear && r.factor == 2.0, 1.0),
            (
                1,
                &|r| r.length == 8 && r.scaling == ScalingMethod::Linear && r.factor == 4.0,
                f64::NAN,
            ),
            (2, &|r| r.length == 8 && r.scaling == ScalingMethod::Dynamic, next_up),
            (
                2,
                &|r| r.length == 8 && r.scaling == ScalingMethod::Yarn && r.factor == 1.0,
                next_up,
            ),
            (
                2,
                &|r| r.length == 8 && r.scaling == ScalingMethod::Linear && r.factor == 1.0,
                f64::NAN,
            ),
        ];
        for (claim, is, to) in cases {
            for (seeds, found) in [(1, Found::Inconclusive), (2, Found::NotHeld)] {
                let mut runs = known();
                change(&mut runs[..seeds], is, to);
                let mut expected = held;
                expected[claim].1 = found;
                assert_eq!(outcomes(&runs), expected, "{claim}, {to}, {seeds} seeds");
            }
        }
        // What is not among the readings is not claimed.
        let mut nowhere = known();
        nowhere.iter_mut().for_each(|run| run.scaled.retain(|scaled| scaled.length == 16));
        assert!(outcomes(&nowhere).is_empty());
    }

    #[test]
    fn scaled_readings_are_judged_by_the_rule_of_the_unscaled() {
        let config = config();
        let mut runs = vec![as_known(&config, 0), as_known(&config, 1)];
        let at = |runs: &[Run], scaling, factor, length| {
            let verdicts = scaled_verdicts(&config, runs);
            let of: Vec<_> = verdicts.iter().filter(|verdict| verdict.scaling == scaling).collect();
            assert_eq!((verdicts.len(), of.len()), (4, 1));
            let at = of[0].readings.iter().find(|at| at.factor == factor && at.length == length).unwrap();
            (at.verdict, at.rise.clone())
        };
        // Both rises are over the unscaled loss at the trained length, which is 1.
        assert_eq!(at(&runs, ScalingMethod::Ntk, 4.0, 32), (Reach::Degrades, vec![0.25; 2]));
        assert_eq!(at(&runs, ScalingMethod::Linear, 4.0, 8), (Reach::Broken, vec![3.0; 2]));
        assert_eq!(at(&runs, ScalingMethod::Dynamic, 4.0, 8), (Reach::Holds, vec![0.0; 2]));
        for scaled in &mut runs[1].scaled {
            scaled.aligned = f64::INFINITY;
        }
        assert_eq!(at(&runs, ScalingMethod::Ntk, 4.0, 32).0, Reach::Inconclusive);
    }
}
