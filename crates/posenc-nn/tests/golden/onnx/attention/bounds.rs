//! The operator from its formulas on [`Bounded`] numbers: exact values, and what an arithmetic may make of them.

use super::Given;
use super::adapter::Case;
use crate::golden::bounded::Bounded;
use crate::golden::format::{F32, Format};
use crate::golden::onnx::{Sample, exact};

/// In which types a computation rounds.
#[derive(Clone, Copy)]
pub struct Arithmetic {
    /// Scores, the scale, the masks, and the product of weights and values.
    scores: Format,
    softmax: Format,
    /// Units of roundoff by which its functions are off: 2 ulp for the core's exponential; 2.52 for numpy's, its documented largest error in f32.
    exp: f64,
    /// The hyperbolic tangent: 2.5 ulp covers both libraries'.
    tanh: f64,
}

impl Arithmetic {
    /// The core's: f32 throughout; rounding to the storage type comes after.
    pub fn ours() -> Arithmetic {
        Arithmetic {
            scores: F32,
            softmax: F32,
            exp: 4.0,
            tanh: 5.0,
        }
    }

    /// The standard's reference: numpy, each step rounded to the type of the inputs, the softmax in one of its own. Where numpy itself works in f32 inside
    /// a step (matrix products of f16, functions) it rounds less than is counted here.
    pub fn standard(scores: Format, softmax: Format) -> Arithmetic {
        Arithmetic {
            scores,
            softmax,
            exp: 5.1,
            tanh: 5.0,
        }
    }
}

impl<T: Sample + Default> Case<T> {
    /// scale·qkᵀ. The operator multiplies queries and keys by the root of the scale: that is rounded twice, and each product; the core's one scale is fewer.
    pub fn products(&self, format: Format) -> Vec<Bounded> {
        let group = self.heads / self.kv_heads;
        let entry = |at: usize| {
            let (row, j) = (at / self.k_len, at % self.k_len);
            let (b, h) = (row / self.q_len / self.heads, row / self.q_len % self.heads);
            let q = &self.q[row * self.head_dim..][..self.head_dim];
            let k = &self.k[((b * self.kv_heads + h / group) * self.k_len + j) * self.head_dim..][..self.head_dim];
            format
                .dot(q.iter().zip(k).map(|(q, k)| (exact(*q), exact(*k))), 4.0)
                .scaled(self.scale)
        };
        (0..self.batch * self.heads * self.q_len * self.k_len).map(entry).collect()
    }

    /// Y `[batch, heads, q_len, value_dim]` and the weights `[batch, heads, q_len, k_len]`.
    pub fn solve(&self, how: Arithmetic) -> [Vec<Bounded>; 2] {
        let products = self.products(how.scores);
        let group = self.heads / self.kv_heads;
        let (mut out, mut all) = (Vec::new(), Vec::new());
        for (row, products) in products.chunks(self.k_len).enumerate() {
            let (b, h, i) = (row / self.q_len / self.heads, row / self.q_len % self.heads, row % self.q_len);
            let scores: Vec<Option<Bounded>> = products
                .iter()
                .enumerate()
                .map(|(j, s)| self.score(how, *s, [b, h, i, j]))
                .collect();
            let weights = softmax(how, &scores);
            for c in 0..self.value_dim {
                let value = |j: usize| exact(self.v[((b * self.kv_heads + h / group) * self.k_len + j) * self.value_dim + c]);
                // What a blocked key holds has no part in any rounding: its product is 0.
                let seen = (0..self.k_len).filter_map(|j| Some((weights[j]?, value(j))));
                out.push(how.scores.dot(seen, 0.0));
            }
            all.extend(weights.into_iter().map(|p| p.unwrap_or(Bounded::exact(0.0))));
        }
        [out, all]
    }

    /// A score after the soft cap and the masks; `None` if the pair is blocked.
    fn score(&self, how: Arithmetic, mut s: Bounded, [b, h, i, j]: [usize; 4]) -> Option<Bounded> {
        if !self.in_order(b, i, j) || !self.is_valid(b, j) {
            return None;
        }
        if let Some(cap) = self.softcap {
            // The cap itself is rounded to the type, each time it is used.
            let x = how.scores.round(s.scaled(1.0 / cap), 2.0);
            let slope = 1.0 - x.value.tanh().powi(2);
            s = how
                .scores
                .round(how.scores.monotone(x, how.tanh, f64::tanh, slope).scaled(cap), 2.0);
        }
        if let Some((shape, given)) = &self.mask {
            let at = [b, h, i, j]
                .iter()
                .zip(shape)
                .fold(0, |at, (index, len)| at * len + if *len == 1 { 0 } else { *index });
            match given {
                Given::Attends(given) if !given[at] => return None,
                Given::Added(given) if given[at] == f32::NEG_INFINITY => return None,
                Given::Attends(_) => {}
                Given::Added(given) => s = how.scores.round(s.shifted(-f64::from(given[at])), 1.0),
            }
        }
        Some(s)
    }
}

/// Weights of one row in the type of the scores; `None` where a pair is blocked. A row that sees nothing has none.
fn softmax(how: Arithmetic, scores: &[Option<Bounded>]) -> Vec<Option<Bounded>> {
    let format = how.softmax;
    let scores: Vec<Option<Bounded>> = scores.iter().map(|s| s.map(|s| format.narrowed(s, how.scores))).collect();
    let seen = || scores.iter().flatten();
    let (max, error) = seen().fold((f64::NEG_INFINITY, 0.0), |(max, error), s| (s.value.max(max), s.error.max(error)));
    let power = |s: Bounded| {
        // Which score is subtracted is no error, because a common shift changes nothing; but it may be off, and the rounding then is of a larger number.
        let shifted = format.round(s.shifted(max), 1.0);
        let shifted = Bounded {
            error: shifted.error + format.round(Bounded::new(error, 0.0), 1.0).error,
            ..shifted
        };
        let value = shifted.value.exp();
        // Below 2⁻⁹⁶ the core's exponential is 0.
        let flushed = 2f64.powi(-96);
        let power = format.monotone(shifted, how.exp, f64::exp, value);
        Bounded {
            error: power.error + flushed,
            spread: power.spread + flushed,
            ..power
        }
    };
    let powers: Vec<Option<Bounded>> = scores.iter().map(|s| s.map(power)).collect();
    let one = Bounded::exact(1.0);
    let total = format.dot(powers.iter().flatten().map(|p| (*p, one)), -1.0);
    let weight = |p: Bounded| {
        let value = p.value / total.value;
        // In a worst case that reaches 0 the quotient has no bound, and the spread alone counts.
        let smallest = total.value - total.error;
        let worst = if smallest > 0.0 {
            (p.error + value * total.error) / smallest
        } else {
            f64::INFINITY
        };
        let quotient = Bounded {
            value,
            error: worst,
            spread: p.spread.hypot(value * total.spread) / total.value,
        };
        // Divided, or multiplied by a rounded inverse; then back in the type of the scores.
        how.scores.narrowed(format.round(quotient, 2.0), format)
    };
    powers.into_iter().map(|p| p.map(weight)).collect()
}
