//! xPos: a rotation whose scores also fade with distance.
//!
//! **Paper.** Sun, Dong, Patra, Ma, Huang, Benhaim, Chaudhary, Song, Wei: *A Length-Extrapolatable Transformer*, 2022, arXiv 2212.10554.
//!
//! **Maths.** Pair i of r/2 has a number ζᵢ below 1. A query at position m is turned and multiplied by ζᵢ^((m − c)/B), a key at n by ζᵢ^−((n − c)/B):
//! ```text
//! ζᵢ = (2i + 0.4·r) / (1.4·r)
//! score = Σᵢ ζᵢ^((m − n)/B) · (qᵢ turned by m) · (kᵢ turned by n)
//! ```
//! The centre c is in no score. It says where factors are 1, and so how far positions may go before a factor leaves the number type.

use crate::error::{Error, Result};
use crate::real::Real;
use crate::rotate::Side;
use serde::{Deserialize, Serialize};

/// How xPos lets scores fade: the factors of queries and keys beside their rotation.
///
/// **Under a cache.** The centre is a number of the encoding, not of a call: a key that was turned and cached once stays right however long the sequence becomes. (Implementations that
/// count from the middle of the sequence give a cached key another factor than a fresh one has, and scores that are off by ζ to the difference.)
///
/// **Range.** Factors are powers: with B = 512 the fastest pair's is e^(1.25·(m − c)/512). Each lies between 1/√MAX and √MAX of the arithmetic's type, so that as much room is left for
/// the numbers it multiplies: in f32 up to about 18 000 positions on either side of the centre, in f64 145 000 ([`XPos::reach`]). Further ones are a typed error. A larger `scale_base` reaches
/// further and fades more slowly, in proportion.
///
/// **Direction.** A key before its query fades: ζ to a positive power. A key after its query grows in the same way, without limit, so xPos is for causal attention.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[doc(alias = "xpos_scale_base")]
#[doc(alias = "LeX")]
pub struct XPos {
    /// B: positions after which pair i has faded by ζᵢ. 512 in the paper, torchscale and lucidrains' packages.
    pub scale_base: f64,
    /// c: the position at which factors are 1.
    pub center: f64,
}

impl Default for XPos {
    fn default() -> Self {
        XPos {
            scale_base: 512.0,
            center: 0.0,
        }
    }
}

impl XPos {
    /// B = 512, c = 0.
    pub fn new() -> XPos {
        XPos::default()
    }

    /// ln ζᵢ for pair `i` of `pairs`: negative, nearest to 0 in the slowest pair.
    pub fn log_zeta(i: usize, pairs: usize) -> f64 {
        let r = 2.0 * pairs as f64;
        ((2.0 * i as f64 + 0.4 * r) / (1.4 * r)).ln()
    }

    /// What pair `i` of `pairs` of a query or key at this position is multiplied by.
    ///
    /// ```
    /// use posenc::rotate::{Side, XPos};
    /// let xpos = XPos::new();
    /// let (q, k) = (xpos.factor(Side::Query, 600.0, 0, 32), xpos.factor(Side::Key, 88.0, 0, 32));
    /// // 512 positions apart: the fastest pair has faded by 0.4/1.4.
    /// assert!((q * k - 0.4 / 1.4).abs() < 1e-15);
    /// ```
    pub fn factor(&self, side: Side, position: f64, i: usize, pairs: usize) -> f64 {
        let power = (position - self.center) / self.scale_base * XPos::log_zeta(i, pairs);
        match side {
            Side::Query => power.exp(),
            Side::Key => (-power).exp(),
        }
    }

    /// How far from the centre a position may lie, in this arithmetic.
    ///
    /// ```
    /// use posenc::rotate::XPos;
    /// assert_eq!((XPos::new().reach::<f32>(), XPos::new().reach::<f64>()), (18130.0, 145042.0));
    /// ```
    pub fn reach<R: Real>(&self) -> f64 {
        // The fastest pair's ζ is the smallest: 0.4/1.4, whatever the width.
        (0.5 * R::MAX.to_f64().ln() * self.scale_base / -XPos::log_zeta(0, 1)).floor()
    }

    /// Both numbers lie in their range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.scale_base.is_finite() && self.scale_base > 0.0) {
            return Err(Error::Invalid {
                what: "xPos's scale_base",
                given: self.scale_base.to_string(),
                expected: "a positive number",
            });
        }
        if !self.center.is_finite() {
            return Err(Error::Invalid {
                what: "xPos's center",
                given: self.center.to_string(),
                expected: "a position",
            });
        }
        Ok(())
    }

    /// The position is within reach.
    pub(crate) fn check_position<R: Real>(&self, position: f64) -> Result<()> {
        if (position - self.center).abs() <= self.reach::<R>() {
            return Ok(());
        }
        Err(Error::Invalid {
            what: "position",
            given: position.to_string(),
            expected: "one within xPos's reach of its center (XPos::reach): beyond it factors leave the number type; move the center, take a larger scale_base, or f64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::Positions;
    use crate::reference::rotary::by_xpos;
    use crate::rng::Rng;
    use crate::rotate::{Pairing, Rotary, Turn};

    fn rotary(scale_base: f64, center: f64) -> Rotary {
        Rotary::new(Pairing::Interleaved).with_decay(XPos { scale_base, center })
    }

    fn turned<R: Real>(rotary: &Rotary, side: Side, turn: Turn, position: i64, row: &[R]) -> Vec<R> {
        let mut row = row.to_vec();
        let rotation = rotary.rotation_of(side, row.len(), &Positions::whole(&[position])).unwrap();
        rotation.turn_row(turn, 0, 0, &mut row);
        row
    }

    fn score<R: Real>(rotary: &Rotary, [m, n]: [i64; 2], q: &[R], k: &[R]) -> f64 {
        let (q, k) = (
            turned(rotary, Side::Query, Turn::Forward, m, q),
            turned(rotary, Side::Key, Turn::Forward, n, k),
        );
        q.iter().zip(&k).map(|(q, k)| q.to_f64() * k.to_f64()).sum()
    }

    fn random(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed);
        (0..n).map(|_| rng.normal()).collect()
    }

    /// rotary-embedding-torch 0.9.1, `RotaryEmbedding(dim=8, use_xpos=True, xpos_scale_base=B)`, `rotate_queries_and_keys` of q[t][c] = sin(1 + 7t + 3c) and
    /// k[t][c] = cos(2 + 5t + 3c): the scores of a causal row of five tokens. It centres on the middle of the row; scores do not know.
    ///
    /// Bound: its frequencies and ζ are f32 numbers, each within 2⁻²³ of the formula's, relative. At positions up to 4 that moves an angle by 4·2⁻²³ and a power by 4/B ≤ 1 times as much; each
    /// score is a sum of eight products below 1: 8 · (4 + 4 + 1) · 2⁻²³.
    #[test]
    fn scores_are_those_of_rotary_embedding_torch() {
        let of_512: [&[f64]; 5] = [
            &[-0.46029960356919947],
            &[0.37093456753817733, 6.54804599378876],
            &[1.2710095743324752, 6.116143942095393, 3.0294557907098665],
            &[0.9622492862838008, 3.3980847041820654, 1.0982393938963326, -2.8577000492799836],
            &[
                -0.07140591282158928,
                0.5734719875089516,
                -0.03561019456789421,
                0.29490447987043866,
                1.8135439998882392,
            ],
        ];
        let of_4: [&[f64]; 5] = [
            &[-0.4602996035691996],
            &[0.46071737150653375, 6.54804599378876],
            &[1.1132879811742247, 5.376677056851854, 3.0294557907098665],
            &[0.8005734086495548, 2.7981075886402964, 0.9384451844083319, -2.8577000492799836],
            &[
                0.08534754135519851,
                0.24427987558033082,
                -0.09229124871794414,
                0.19622097802119234,
                1.8135439998882392,
            ],
        ];
        for (base, expected) in [(512.0, of_512), (4.0, of_4)] {
            for (m, row) in expected.iter().enumerate() {
                for (n, expected) in row.iter().enumerate() {
                    let q: Vec<f64> = (0..8).map(|c| f64::from(1 + 7 * m as i32 + 3 * c).sin()).collect();
                    let k: Vec<f64> = (0..8).map(|c| f64::from(2 + 5 * n as i32 + 3 * c).cos()).collect();
                    let score = score(&rotary(base, 0.0), [m as i64, n as i64], &q, &k);
                    let bound = 8.0 * 9.0 / f64::from(1 << 23);
                    assert!(
                        (score - expected).abs() <= bound,
                        "B {base}, query {m}, key {n}: {score} and {expected}"
                    );
                }
            }
        }
    }

    /// The rotation is that of the twin, at both ends of its reach.
    ///
    /// Bound: as in `reference::rotary` for the angle and the turn; the factor is a power of which the logarithm, up to ln √MAX, is off by 4 roundings of f64 (log, quotient, product, difference) and
    /// the power by one more, and which the twin takes by `powf`: 10 · ln √MAX · 2⁻⁵³ of the result, and its rounding to R.
    #[test]
    fn the_rotation_is_that_of_the_twin() {
        fn check<R: Real>(bound: f64) {
            let rotary = Rotary {
                pairing: Pairing::Halves,
                ..rotary(512.0, 100.0)
            };
            let x: Vec<R> = random(8, 1).into_iter().map(R::of).collect();
            let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
            let reach = XPos::new().reach::<R>() as i64;
            for p in [0, 1, 100, -7, 1000, 100 + reach, 100 - reach] {
                for side in [Side::Query, Side::Key] {
                    let got = turned(&rotary, side, Turn::Forward, p, &x);
                    let expected = by_xpos(&wide, p as f64, side, 8, Pairing::Halves, 1e4, rotary.decay.as_ref().unwrap());
                    for i in 0..8 {
                        let pair = i % 4;
                        let size = wide[pair].hypot(wide[pair + 4]) * rotary.decay.unwrap().factor(side, p as f64, pair, 4);
                        let error = (got[i].to_f64() - expected[i]).abs();
                        let bound = size * (bound + p.abs() as f64 * 3.0 * f64::EPSILON);
                        assert!(error <= bound, "{side:?} at {p}, column {i}: {error:e} above {bound:e}");
                        assert!(got[i].is_finite());
                    }
                }
            }
        }
        let power = |max: f64| 10.0 * 0.5 * max.ln() * 0.5 * f64::EPSILON;
        check::<f64>(3.0 * f64::EPSILON + power(f64::MAX));
        check::<f32>(3.0 * f64::from(f32::EPSILON) + power(f64::from(f32::MAX)));
    }

    /// A score is that of the plain rotation times ζ to the distance in each pair, wherever the two stand and whatever the centre: so a cached key fits every later query.
    ///
    /// Bound: of the 8 products, each factor's logarithm is below 2000/512·1.26 + 5 ≈ 10 in size and off by 5 roundings (as above): 8 products of size 16 · 2 · 50 · 2⁻⁵³, and angles up to 2000: 2000 · 3 · 2⁻⁵³ each.
    #[test]
    fn scores_depend_on_the_distance_and_never_on_the_centre() {
        let (q, k) = (random(16, 2), random(16, 3));
        let bound = 8.0 * 16.0 * (100.0 + 4.0 * 6000.0) * 0.5 * f64::EPSILON;
        for distance in [0, 1, 7, 512] {
            let expected: f64 = (0..8)
                .map(|i| {
                    // Only this pair.
                    let of = |x: &[f64]| -> Vec<f64> { (0..16).map(|c| if c / 2 == i { x[c] } else { 0.0 }).collect() };
                    let plain = Rotary::new(Pairing::Interleaved);
                    let zeta: f64 = (2.0 * i as f64 + 0.4 * 16.0) / (1.4 * 16.0);
                    score(&plain, [distance, 0], &of(&q), &of(&k)) * zeta.powf(distance as f64 / 512.0)
                })
                .sum();
            for at in [0, 3, 1000] {
                for center in [0.0, 500.0, -1000.0, 333.5] {
                    let got = score(&rotary(512.0, center), [at + distance, at], &q, &k);
                    assert!((got - expected).abs() <= bound, "distance {distance} from {at}, centre {center}");
                }
            }
        }
        // A centre that follows the sequence, as upstream's does: a key cached at length 512 meets a query at length 1024 that counts from elsewhere.
        let cached = turned(&rotary(512.0, 256.0), Side::Key, Turn::Forward, 0, &k);
        let query = turned(&rotary(512.0, 512.0), Side::Query, Turn::Forward, 600, &q);
        let moved: f64 = query.iter().zip(&cached).map(|(q, k)| q * k).sum();
        assert!(
            (moved - score(&rotary(512.0, 0.0), [600, 0], &q, &k)).abs() > 1e-3,
            "it is another score"
        );
    }

    /// Bound: a product of two factors up to 2⁶⁴ that cancel, each rounded, and a turn: 8 roundings of numbers below 4.
    #[test]
    fn a_turn_is_undone_and_transposed_with_its_factor() {
        for (side, p) in [(Side::Query, 18_000), (Side::Key, 18_000), (Side::Query, -18_000), (Side::Key, 5)] {
            let rotary = rotary(512.0, 0.0);
            let (x, y) = (random(8, 4), random(8, 5));
            let there = turned(&rotary, side, Turn::Forward, p, &x);
            for (back, x) in turned(&rotary, side, Turn::Inverse, p, &there).iter().zip(&x) {
                assert!((back - x).abs() <= 4.0 * 8.0 * f64::EPSILON);
            }
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let size = dot(&there, &there).sqrt() * dot(&y, &y).sqrt();
            let back = turned(&rotary, side, Turn::Adjoint, p, &y);
            assert!((dot(&there, &y) - dot(&x, &back)).abs() <= 16.0 * f64::EPSILON * size);
        }
        // Cached keys that move: out of the old factor, into the new.
        let key: Vec<f64> = random(8, 6);
        let at = |p: i64| Positions::whole(&[p]);
        let mut moved = turned(&rotary(512.0, 0.0), Side::Key, Turn::Forward, 9000, &key);
        let fresh = turned(&rotary(512.0, 0.0), Side::Key, Turn::Forward, 4, &key);
        let by = rotary(512.0, 0.0)
            .rerotation::<f64>(8, &at(9000), &rotary(512.0, 0.0), &at(4))
            .unwrap();
        by.turn_row(Turn::Forward, 0, 0, &mut moved);
        // The angle at 9000 is off by 9000 · 3 · 2⁻⁵³.
        assert!(
            moved
                .iter()
                .zip(&fresh)
                .all(|(a, b)| (a - b).abs() <= 4.0 * (9000.0 * 3.0 + 50.0) * f64::EPSILON)
        );
    }

    #[test]
    fn positions_out_of_reach_and_settings_out_of_range_are_refused() {
        let at = |p: i64| Positions::whole(&[p]);
        let of = |center| rotary(512.0, center);
        assert!(of(0.0).rotation_of::<f32>(Side::Key, 8, &at(18_130)).is_ok());
        for (p, center) in [(18_131, 0.0), (-18_131, 0.0), (0, 18_131.0), (1 << 40, 0.0)] {
            let refused = of(center).rotation_of::<f32>(Side::Key, 8, &at(p));
            assert!(matches!(refused, Err(Error::Invalid { what: "position", .. })), "{p} from {center}");
        }
        assert!(of(18_131.0).rotation_of::<f32>(Side::Key, 8, &at(18_131)).is_ok());
        assert!(of(0.0).rotation_of::<f64>(Side::Key, 8, &at(145_042)).is_ok());
        assert!(rotary(4096.0, 0.0).rotation_of::<f32>(Side::Key, 8, &at(100_000)).is_ok());
        assert!(matches!(of(0.0).rotation::<f32>(8, &at(0)), Err(Error::Unsupported { .. })));
        for (scale_base, center) in [(0.0, 0.0), (-512.0, 0.0), (f64::NAN, 0.0), (512.0, f64::INFINITY)] {
            assert!(rotary(scale_base, center).frequencies(8, 1).is_err());
        }
        let text = serde_json::to_string(&rotary(512.0, 3.0)).unwrap();
        assert_eq!(serde_json::from_str::<Rotary>(&text).unwrap(), rotary(512.0, 3.0));
    }
}
