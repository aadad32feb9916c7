//! Document 003's rotary sample against the formula that stands above it.
//!
//! The formula turns neighbours: x′₂ᵢ = x₂ᵢ cos θᵢ − x₂ᵢ₊₁ sin θᵢ, x′₂ᵢ₊₁ = x₂ᵢ sin θᵢ + x₂ᵢ₊₁ cos θᵢ. The sample repeats its cosines and sines for neighbours, as that needs,
//! but puts the vector that goes with the sines together as `cat([-x[1::2], x[::2]])`: all negated odd coordinates first, then all even ones. Coordinate c is then added to one of another pair, at
//! another pair's angle. Only where there is one pair (d = 2) or no angle (position 0) is that the formula. What rotary is for is lost: lengths change with the position, and q·k
//! is not a function of the distance.
//!
//! Two changes of one line repair it, each for one of the pairings in use: [`Code::Stacked`] and [`Code::Halves`].
//!
//! **The bounds.** ε = 2⁻⁵², P the largest position, d the width, |x| the length of a vector. An angle p·base^(−2i/d) is at most P, and off by at most 16·ε·P (powers by way of logarithms up to ln 10⁴ ≈ 9.2).
//! Cosines, sines and one turn add 4ε. So
//! * two computations of a coordinate are at most `difference` = 2·|x|·(16P + 4)·ε apart;
//! * a length is kept, whatever the angle, up to the share `length` = (d + 8)·ε: d + 1 roundings of a sum of squares and 4ε of the turn;
//! * scores at one distance are at most `spread` = 2·|q|·|k|·(32P + d + 8)·ε apart: both angles, d products and their sum, and the two ends of the range.

use super::{EPSILON, apart, larger};
use crate::error::LabError;
use posenc::rotate::rotary::rotate;
use posenc::{Pairing, Positions, Rng, View, ViewMut};
use serde::Serialize;

/// The sample's base.
const BASE: f64 = 10_000.0;
/// One pair, the document's `d_model`, and more.
const WIDTHS: [usize; 4] = [2, 4, 8, 64];
/// The document's five positions, and farther ones.
const POSITIONS: [usize; 9] = [0, 1, 2, 3, 4, 16, 64, 256, 511];
/// Queries stand this far after their keys.
const DISTANCE: usize = 3;
/// Positions from 0 up to here.
const LENGTH: usize = 512;
/// Positions of the key whose scores are kept.
const KEYS: [usize; 6] = [0, 1, 4, 16, 64, 508];

/// What the demonstration found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotaryBug {
    /// Everything that is drawn comes from it.
    pub seed: u64,
    /// θ(p, i) = p · base^(−2i / d).
    pub base: f64,
    /// Where [`Turned::from_interleaved`], [`Turned::from_halves`] and [`Turned::length`] are taken.
    pub positions: Vec<usize>,
    /// Query position − key position of every score.
    pub distance: usize,
    /// Scores are taken at all key positions that leave the query below it.
    pub sequence: usize,
    /// Key positions of [`Turned::scores`].
    pub keys: Vec<usize>,
    /// A vector of each width.
    pub widths: Vec<Width>,
    /// What should be seen, and whether it is.
    pub claims: Vec<Checked>,
}

/// A random query and key of one width, N(0, 1), turned by each code.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Width {
    /// d, the width of a head.
    pub head_dim: usize,
    /// What rounding explains.
    pub bounds: Bounds,
    /// The library, the sample, and its two repairs.
    pub codes: Vec<Turned>,
}

/// What rounding explains; see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Of a coordinate.
    pub difference: f64,
    /// Of a length, as a share of it.
    pub length: f64,
    /// Of scores at one distance.
    pub spread: f64,
}

/// What one code makes of the query and the key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turned {
    /// Which.
    pub code: Code,
    /// At each position the largest difference of a coordinate of the query from the formula, whose pairs are neighbours.
    pub from_interleaved: Vec<f64>,
    /// The same from the formula with pairs (i, i + d/2).
    pub from_halves: Vec<f64>,
    /// At each position the query's length, divided by what it was.
    pub length: Vec<f64>,
    /// q·k at one distance, for a few positions of the key.
    pub scores: Vec<f64>,
    /// The least and the greatest score over all positions.
    pub score_range: [f64; 2],
    /// Their difference.
    pub spread: f64,
}

/// How a vector is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The formula, as this library computes it: [`rotate`] with neighbours paired.
    Formula,
    /// The sample: `cat([-x[1::2], x[::2]])` beside cosines and sines repeated for neighbours.
    AsPrinted,
    /// `stack([-x[1::2], x[::2]], -1).flatten(-2)` instead, which is the formula.
    Stacked,
    /// Pairs (i, i + d/2) instead: `cat([-x[d/2:], x[:d/2]])` beside `cat([cos, cos])` and `cat([sin, sin])`, as LLaMA and GPT-NeoX in transformers.
    Halves,
}

/// A claim, and whether it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What is claimed.
    pub claim: Claim,
    /// It was seen at every width that it is about.
    pub holds: bool,
    /// The widths where it was not.
    pub except: Vec<usize>,
}

/// What the demonstration is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The formula keeps lengths, and its scores are the same wherever query and key stand.
    FormulaIsRelative,
    /// The sample is the formula at position 0, and everywhere for a single pair.
    SampleIsRightForOnePair,
    /// With more pairs the sample is neither pairing at any other position.
    SampleIsNeitherPairing,
    /// It changes lengths.
    SampleChangesLengths,
    /// Its scores at one distance drift.
    SampleScoresDrift,
    /// Each repair is one of the pairings, and relative.
    RepairsAreThePairings,
}

/// What a code makes of a head `x` at one position.
///
/// The sample and its repairs are `x * cos + turned * sin`, as written in the document; they differ in which angle a coordinate has and in what stands beside it in `turned`. An odd last
/// coordinate has no partner and is left as it is.
///
/// ```
/// use posenc_lab::demo::rotary_bug::{Code, turn};
/// let x = [1.0, 2.0, 3.0, 4.0];
/// assert_eq!(turn(Code::AsPrinted, &x, 0.0, 1e4), x);
/// assert_ne!(turn(Code::AsPrinted, &x, 1.0, 1e4), turn(Code::Stacked, &x, 1.0, 1e4));
/// ```
pub fn turn(code: Code, x: &[f64], position: f64, base: f64) -> Vec<f64> {
    let half = x.len() / 2;
    let d = 2 * half;
    let mut out = x.to_vec();
    for c in 0..d {
        // The pair whose angle it is, and the coordinate beside the sine with its sign.
        let (pair, beside) = match code {
            Code::AsPrinted => (c / 2, if c < half { -x[2 * c + 1] } else { x[2 * (c - half)] }),
            Code::Formula | Code::Stacked => (c / 2, if c % 2 == 0 { -x[c + 1] } else { x[c - 1] }),
            Code::Halves => (c % half, if c < half { -x[c + half] } else { x[c - half] }),
        };
        let theta = position / base.powf((2 * pair) as f64 / d as f64);
        out[c] = x[c] * theta.cos() + beside * theta.sin();
    }
    out
}

/// Runs the demonstration.
///
/// # Errors
/// None that these widths and positions have; the library's own rotation may refuse others.
///
/// ```
/// let bug = posenc_lab::demo::rotary_bug(1)?;
/// assert!(bug.holds());
/// # Ok::<(), posenc_lab::LabError>(())
/// ```
pub fn rotary_bug(seed: u64) -> Result<RotaryBug, LabError> {
    let widths = WIDTHS.into_iter().map(|d| width(seed, d)).collect::<Result<Vec<_>, _>>()?;
    let claims = check(&widths);
    Ok(RotaryBug {
        seed,
        base: BASE,
        positions: POSITIONS.to_vec(),
        distance: DISTANCE,
        sequence: LENGTH,
        keys: KEYS.to_vec(),
        widths,
        claims,
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// `x` at every position from 0, as this library turns it: a row per position.
fn rotated(x: &[f64], pairing: Pairing) -> Result<Vec<Vec<f64>>, LabError> {
    let shape = [1, 1, LENGTH, x.len()];
    let (tiled, mut out) = (x.repeat(LENGTH), vec![0.0; LENGTH * x.len()]);
    let at = Positions::range(0..LENGTH as i64);
    rotate(View::new(&tiled, shape)?, ViewMut::new(&mut out, shape)?, &at, pairing, BASE)?;
    Ok(out.chunks(x.len()).map(<[f64]>::to_vec).collect())
}

fn width(seed: u64, head_dim: usize) -> Result<Width, LabError> {
    let draw = |name: &str| -> Vec<f64> {
        let mut rng = Rng::named(seed, &format!("{name}.{head_dim}"));
        (0..head_dim).map(|_| rng.normal()).collect()
    };
    let (q, k) = (draw("q"), draw("k"));
    let (interleaved, halves) = (rotated(&q, Pairing::Interleaved)?, rotated(&q, Pairing::Halves)?);
    let codes = [Code::Formula, Code::AsPrinted, Code::Stacked, Code::Halves]
        .into_iter()
        .map(|code| {
            let all = |x: &[f64]| match code {
                Code::Formula => rotated(x, Pairing::Interleaved),
                _ => Ok((0..LENGTH).map(|p| turn(code, x, p as f64, BASE)).collect()),
            };
            let (turned, keys) = (all(&q)?, all(&k)?);
            let score = |key: usize| dot(&turned[key + DISTANCE], &keys[key]);
            let every: Vec<f64> = (0..LENGTH - DISTANCE).map(score).collect();
            let greatest = |sign: f64| every.iter().map(|score| sign * score).fold(f64::NEG_INFINITY, larger);
            let score_range = [-greatest(-1.0), greatest(1.0)];
            let from = |formula: &[Vec<f64>]| POSITIONS.map(|p| apart(&turned[p], &formula[p])).to_vec();
            Ok(Turned {
                code,
                from_interleaved: from(&interleaved),
                from_halves: from(&halves),
                length: POSITIONS.map(|p| norm(&turned[p]) / norm(&q)).to_vec(),
                scores: KEYS.map(score).to_vec(),
                score_range,
                spread: score_range[1] - score_range[0],
            })
        });
    let (d, last) = (head_dim as f64, (LENGTH - 1) as f64);
    Ok(Width {
        head_dim,
        bounds: Bounds {
            difference: 2.0 * norm(&q) * (16.0 * last + 4.0) * EPSILON,
            length: (d + 8.0) * EPSILON,
            spread: 2.0 * norm(&q) * norm(&k) * (32.0 * last + d + 8.0) * EPSILON,
        },
        codes: codes.collect::<Result<_, LabError>>()?,
    })
}

impl Turned {
    /// The largest change of a length, as a share.
    pub fn stretch(&self) -> f64 {
        self.length.iter().map(|length| (length - 1.0).abs()).fold(0.0, larger)
    }

    fn relative(&self, bounds: &Bounds) -> bool {
        self.stretch() <= bounds.length && self.spread <= bounds.spread
    }
}

impl Width {
    /// What one code made of the vectors.
    pub fn code(&self, code: Code) -> Option<&Turned> {
        self.codes.iter().find(|turned| turned.code == code)
    }
}

impl RotaryBug {
    /// Every claim was seen.
    pub fn holds(&self) -> bool {
        self.claims.iter().all(|claim| claim.holds)
    }
}

/// Whether what should be seen is there.
fn check(widths: &[Width]) -> Vec<Checked> {
    let claim = |claim, about: &dyn Fn(usize) -> bool, code, seen: &dyn Fn(&Turned, &Width) -> bool| {
        let about: Vec<&Width> = widths.iter().filter(|width| about(width.head_dim)).collect();
        let unseen = |width: &&&Width| !width.code(code).is_some_and(|turned| seen(turned, width));
        let except: Vec<usize> = about.iter().filter(unseen).map(|width| width.head_dim).collect();
        Checked {
            claim,
            holds: !about.is_empty() && except.is_empty(),
            except,
        }
    };
    let within = |differences: &[f64], bound: f64| differences.iter().all(|&d| d <= bound);
    let beyond = |differences: &[f64], bound: f64| differences.iter().all(|&d| d > bound);
    let (any, pairs) = (|_| true, |d| d > 2);
    vec![
        claim(Claim::FormulaIsRelative, &any, Code::Formula, &|t, w| t.relative(&w.bounds)),
        claim(Claim::SampleIsRightForOnePair, &any, Code::AsPrinted, &|t, w| {
            let right = if w.head_dim == 2 { t.from_interleaved.len() } else { 1 };
            within(&t.from_interleaved[..right], w.bounds.difference)
        }),
        claim(Claim::SampleIsNeitherPairing, &pairs, Code::AsPrinted, &|t, w| {
            beyond(&t.from_interleaved[1..], w.bounds.difference) && beyond(&t.from_halves[1..], w.bounds.difference)
        }),
        claim(Claim::SampleChangesLengths, &pairs, Code::AsPrinted, &|t, w| {
            t.stretch() > w.bounds.length
        }),
        claim(Claim::SampleScoresDrift, &pairs, Code::AsPrinted, &|t, w| {
            t.spread > w.bounds.spread
        }),
        claim(Claim::RepairsAreThePairings, &any, Code::Stacked, &|t, w| {
            let halves = |t: &Turned| within(&t.from_halves, w.bounds.difference) && t.relative(&w.bounds);
            within(&t.from_interleaved, w.bounds.difference) && t.relative(&w.bounds) && w.code(Code::Halves).is_some_and(halves)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bug: &RotaryBug, head_dim: usize, code: Code) -> &Turned {
        bug.widths
            .iter()
            .find(|width| width.head_dim == head_dim)
            .unwrap()
            .code(code)
            .unwrap()
    }

    #[test]
    fn every_claim_holds() {
        for seed in [0, 1, 2, u64::MAX] {
            let bug = rotary_bug(seed).unwrap();
            assert!(bug.holds(), "seed {seed}: {:?}", bug.claims);
            assert_eq!(bug.claims.len(), 6);
        }
    }

    #[test]
    fn the_sample_is_right_at_position_zero_and_for_one_pair() {
        let bug = rotary_bug(1).unwrap();
        for width in &bug.widths {
            assert_eq!(width.code(Code::AsPrinted).unwrap().from_interleaved[0], 0.0);
        }
        let pair = found(&bug, 2, Code::AsPrinted);
        assert!(pair.from_interleaved.iter().all(|&d| d < 1e-10) && pair.stretch() < 1e-14 && pair.spread < 1e-10);
    }

    /// An independent run of the printed code gave differences of 1 to 3, lengths off by 8 % to 61 %, and scores that drift over tens at d = 64.
    #[test]
    fn elsewhere_it_is_wrong_by_much_more_than_rounding() {
        for seed in [1, 2, 3] {
            let bug = rotary_bug(seed).unwrap();
            for d in [4, 8, 64] {
                let (sample, formula) = (found(&bug, d, Code::AsPrinted), found(&bug, d, Code::Formula));
                assert!(
                    sample.from_interleaved[1..].iter().all(|&x| x > 1e-2),
                    "d = {d}: {:?}",
                    sample.from_interleaved
                );
                assert!(
                    sample.from_halves[1..].iter().all(|&x| x > 1e-2),
                    "d = {d}: {:?}",
                    sample.from_halves
                );
                assert!(sample.stretch() > 0.02, "d = {d}: {:?}", sample.length);
                assert!(
                    sample.spread > 1e9 * formula.spread,
                    "d = {d}: {} {}",
                    sample.spread,
                    formula.spread
                );
                assert!(formula.stretch() < 1e-13);
            }
            assert!(found(&bug, 64, Code::AsPrinted).spread > 10.0);
        }
    }

    #[test]
    fn the_formula_is_the_reference() {
        let bug = rotary_bug(1).unwrap();
        for width in &bug.widths {
            let x: Vec<f64> = (0..width.head_dim).map(|c| 1.0 - c as f64 / 7.0).collect();
            for (pairing, code) in [(Pairing::Interleaved, Code::Stacked), (Pairing::Halves, Code::Halves)] {
                for p in [0.0, 1.0, 17.0, 511.0] {
                    let formula = posenc::reference::rotary::by_pairs(&x, p, x.len(), pairing, BASE);
                    let bound = 2.0 * norm(&x) * (16.0 * p + 4.0) * EPSILON;
                    assert!(apart(&turn(code, &x, p, BASE), &formula) <= bound);
                }
            }
        }
    }

    #[test]
    fn a_claim_that_is_not_seen_is_named() {
        let widths = rotary_bug(1).unwrap().widths;
        let doctored = |code: Code, change: &dyn Fn(&mut Turned)| -> Vec<Claim> {
            let mut widths = widths.clone();
            let turned = widths.last_mut().unwrap().codes.iter_mut().find(|turned| turned.code == code);
            change(turned.unwrap());
            let failed = check(&widths).into_iter().filter(|claim| !claim.holds);
            failed
                .inspect(|claim| assert_eq!(claim.except, [64]))
                .map(|claim| claim.claim)
                .collect()
        };
        assert_eq!(doctored(Code::Formula, &|t| t.spread = 1.0), [Claim::FormulaIsRelative]);
        assert_eq!(doctored(Code::Formula, &|t| t.length[3] = f64::NAN), [Claim::FormulaIsRelative]);
        assert_eq!(
            doctored(Code::AsPrinted, &|t| t.from_interleaved[0] = 1.0),
            [Claim::SampleIsRightForOnePair]
        );
        assert_eq!(
            doctored(Code::AsPrinted, &|t| t.from_halves[4] = 0.0),
            [Claim::SampleIsNeitherPairing]
        );
        assert_eq!(doctored(Code::AsPrinted, &|t| t.length.fill(1.0)), [Claim::SampleChangesLengths]);
        assert_eq!(doctored(Code::AsPrinted, &|t| t.spread = 0.0), [Claim::SampleScoresDrift]);
        assert_eq!(doctored(Code::Halves, &|t| t.from_halves[8] = 1.0), [Claim::RepairsAreThePairings]);
        assert!(check(&[]).iter().all(|claim| !claim.holds));
    }
}
