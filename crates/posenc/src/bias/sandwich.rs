//! # Sandwich: sinusoidal positions without their cross terms
//!
//! **Idea.** What the sinusoidal vectors of two positions have in common depends on their distance alone and mostly falls with it. Added to the scores, it is a penalty like ALiBi's,
//! logarithmic in shape, with nothing to learn.
//!
//! **Paper.** Chi, Fan, Rudnicky, Ramadge: *Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis*, 2022, arXiv 2212.10356.
//!
//! **Maths.** For head h = 1 … H, query i and key j, with d̄ = 128 and b = 10000:
//! ```text
//! c(Δ)    = Σ_k cos(Δ · b^(−2k/d̄)),   k = 0 … d̄/2 − 1
//! s(i, j) = q·k / √d + (c(i − j) − d̄/2) · H / (8h)
//! ```
//!
//! **Shapes.** A bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ.
//!
//! **Conventions that differ between codebases.**
//! - The factor of a head, H / (8h), and the constant d̄/2, which makes the bias of a token and itself 0 and which softmax ignores, are those of NeMo's `SandwichRelativePositionEmbedding`, which is
//!   reproduced. No code of the paper's authors was at hand: they are *not* checked against theirs.
//! - NeMo counts k from 1 to d̄/2 and takes the width of a head for d̄: [`Sandwich::nemo`]. From 0 the frequencies are those of the sinusoidal vectors, the fastest 1.
//! - Keys after the query have a bias of their own distance here and in NeMo's bidirectional form; its other form has 0 there, under a causal mask.
//! - The bias has a lower end, near −d̄/2 · H / (8h), and swings a little: it is no monotone function of the distance.
//!
//! **Cost.** No parameters. d̄/2 cosines per distance of a call, shared by layers and heads and kept from step to step; one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, Sandwich, ViewMut};
//! let plan = Encoding::from(Sandwich::new()).plan(Dims::new(8, 2)?)?;
//! let (params, mut row) = (plan.init::<f32>(0)?, [0.0f32; 2 * 3]);
//! plan.call(&params, &Positions::range(2..3), &Positions::range(0..3))?.materialise_bias(ViewMut::new(&mut row, [1, 2, 1, 3])?)?;
//! assert!(row[2] == 0.0 && row[0] < row[1] && row[1] < 0.0);
//! assert_eq!(row[0], 2.0 * row[3]); // the first of two heads is twice as strict
//! # Ok::<(), posenc::Error>(())
//! ```

use super::curve::{Curve, CurveTerm, span};
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{Span, check_one_axis};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::steps::owned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A penalty by distance from products of sinusoids, at a rate per head; nothing is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[doc(alias = "sandwich_pos_bias")]
pub struct Sandwich {
    /// d̄: coordinates of the sinusoidal vectors, two for each frequency.
    pub width: usize,
    /// b: the slowest frequency is nearly 1/b.
    pub base: f64,
    /// k of the fastest frequency: 0 in sinusoidal vectors, 1 in NeMo.
    pub first: usize,
}

impl Default for Sandwich {
    fn default() -> Sandwich {
        Sandwich {
            width: 128,
            base: 10_000.0,
            first: 0,
        }
    }
}

impl Sandwich {
    /// The paper's: 64 frequencies, base 10 000.
    pub fn new() -> Sandwich {
        Sandwich::default()
    }

    /// NeMo's, for heads of this width: as many frequencies, but none of 1.
    pub fn nemo(head_dim: usize) -> Sandwich {
        Sandwich {
            width: head_dim,
            first: 1,
            ..Sandwich::default()
        }
    }

    /// The same with vectors of another width.
    pub fn with_width(self, width: usize) -> Sandwich {
        Sandwich { width, ..self }
    }

    /// The same with another base.
    pub fn with_base(self, base: f64) -> Sandwich {
        Sandwich { base, ..self }
    }

    fn frequencies(&self) -> Arc<[f64]> {
        let exponent = |k: usize| -2.0 * (k + self.first) as f64 / self.width as f64;
        (0..self.width / 2).map(|k| self.base.powf(exponent(k))).collect()
    }
}

impl fmt::Display for Sandwich {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandwich({} frequencies, base {}", self.width / 2, self.base)?;
        match self.first {
            0 => write!(f, ")"),
            first => write!(f, ", from k = {first})"),
        }
    }
}

impl Prepare for Sandwich {
    fn check(&self, _dims: &Dims) -> Result<()> {
        if self.width == 0 {
            return Err(Error::Zero { what: "width of sandwich" });
        }
        if !self.width.is_multiple_of(2) || self.width > 1 << 16 {
            return Err(Error::Invalid {
                what: "width of sandwich",
                given: self.width.to_string(),
                expected: "an even number, at most 2^16",
            });
        }
        if self.first > 1 << 16 {
            return Err(Error::Invalid {
                what: "first frequency of sandwich",
                given: self.first.to_string(),
                expected: "at most 2^16",
            });
        }
        // Below 1 the frequencies would grow without bound.
        if !(self.base.is_finite() && self.base >= 1.0) {
            return Err(Error::Invalid {
                what: "base of sandwich",
                given: self.base.to_string(),
                expected: "a finite number, at least 1",
            });
        }
        Ok(())
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let span = span::<R>("sandwich", dims.heads, q_at, k_at)?;
        let mut waves = Waves {
            heads: dims.heads,
            frequencies: self.frequencies(),
            near: Arc::new([]),
        };
        waves.reach(span)?;
        Ok(Arc::new(SandwichAt { waves, span }))
    }

    fn advance<R: Real>(&self, dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let Some(SandwichAt { waves, span: before }) = owned(prepared) else {
            return false;
        };
        let [q_at, k_at] = at;
        match (
            check_one_axis("sandwich", q_at, k_at),
            span::<R>("sandwich", dims.heads, q_at, k_at),
        ) {
            (Ok(()), Ok(span)) if waves.reach(span).is_ok() => {
                *before = span;
                true
            }
            _ => false,
        }
    }
}

/// Positions resolved.
struct SandwichAt {
    waves: Waves,
    span: Option<Span>,
}

impl<R: Real> Prepared<R> for SandwichAt {
    fn bind<'p>(&self, _params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let heads = self.waves.heads;
        parts
            .bias
            .push(Arc::new(CurveTerm::new(self.waves.clone(), Vec::new(), heads, self.span)));
        Ok(())
    }
}

/// The sum of cosines, and its values at distances from 0 on.
#[derive(Clone)]
struct Waves {
    heads: usize,
    frequencies: Arc<[f64]>,
    near: Arc<[f64]>,
}

impl Waves {
    /// Σ (cos − 1): each term by itself, so that nothing cancels.
    fn sum(frequencies: &[f64], distance: f64) -> f64 {
        frequencies.iter().map(|w| (distance * w).cos() - 1.0).sum()
    }

    /// Makes room for the distances of a call: twice as many where it grows, so that it grows rarely.
    fn reach(&mut self, span: Option<Span>) -> Result<()> {
        let Some(Span { lowest, count }) = span else { return Ok(()) };
        let highest = lowest + count as i64 - 1;
        // Distances far from 0 that are few are computed as they are.
        let farthest = lowest.unsigned_abs().max(highest.unsigned_abs()) as usize;
        if farthest < self.near.len() || farthest > 4 * count.max(1 << 12) {
            return Ok(());
        }
        let room = (farthest + 1).max(if self.near.is_empty() { 0 } else { 2 * self.near.len() });
        memory::check::<f64>("distances of a call", &[room])?;
        let more = (self.near.len()..room).map(|d| Waves::sum(&self.frequencies, d as f64));
        self.near = self.near.iter().copied().chain(more).collect();
        Ok(())
    }
}

impl Curve for Waves {
    fn value(&self, head: usize, distance: f64) -> f64 {
        let sum = match self.near.get(distance as usize) {
            Some(sum) => *sum,
            None => Waves::sum(&self.frequencies, distance),
        };
        sum * self.heads as f64 / (8.0 * (head + 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::view::ViewMut;
    use crate::{reference, tiles};

    /// Bound: a distance below 2¹² times a frequency is off by ε/2 of it in either, its cosine by 2¹²·ε; of 64 of them, times the factor 3/8: 2¹⁷·ε; and as much for the sums.
    #[test]
    fn term_is_that_of_the_reference_on_any_tiles() {
        let bound = 2f64.powi(18) * f64::EPSILON;
        for method in [Sandwich::new(), Sandwich::new().with_width(6).with_base(50.0), Sandwich::nemo(10)] {
            let plan = Encoding::from(method.clone()).plan(Dims::new(12, 3).unwrap()).unwrap();
            let params = plan.init::<f64>(0).unwrap();
            for (name, q_at, k_at, batch) in tiles::cases() {
                let call = plan.call(&params, &q_at, &k_at).unwrap();
                let size = batch * 3 * q_at.len() * k_at.len();
                let mut bias = Vec::new();
                for b in 0..batch {
                    let (q, k) = (tiles::whole(&q_at, b), tiles::whole(&k_at, b));
                    bias.extend(reference::sandwich::bias(3, [method.width, method.first], method.base, &q, &k));
                }
                let mut matrix = vec![f64::NAN; size];
                call.materialise_bias(ViewMut::new(&mut matrix, [batch, 3, q_at.len(), k_at.len()]).unwrap())
                    .unwrap();
                for tile in tiles::SPLITS {
                    assert_eq!(
                        tiles::Tiles::of_bias(&call, batch, tile).add(&vec![0.0; size]),
                        matrix,
                        "{name}, {tile:?}"
                    );
                }
                for (i, (x, e)) in matrix.iter().zip(&bias).enumerate() {
                    assert!((x - e).abs() <= bound, "{plan}, {name}, {i}: {x} against {e}");
                }
            }
        }
    }

    #[test]
    fn far_positions_are_finite_and_settings_are_checked() {
        let dims = Dims::new(4, 2).unwrap();
        let plan = Encoding::from(Sandwich::new()).plan(dims).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let (q, k) = (Positions::whole(&[i64::MAX, 0]), Positions::whole(&[i64::MIN, 0]));
        let call = plan.call(&params, &q, &k).unwrap();
        assert!(tiles::Tiles::of_bias(&call, 1, (2, 2)).add(&[0.0; 8]).iter().all(|x| x.is_finite()));
        assert!(matches!(
            Encoding::from(Sandwich::new().with_width(0)).plan(dims),
            Err(Error::Zero { .. })
        ));
        for refused in [
            Sandwich::new().with_width(7),
            Sandwich::new().with_width(usize::MAX - 1),
            Sandwich {
                first: usize::MAX,
                ..Sandwich::new()
            },
            Sandwich::new().with_base(0.5),
            Sandwich::new().with_base(f64::NAN),
            Sandwich::new().with_base(f64::INFINITY),
        ] {
            assert!(matches!(Encoding::from(refused).plan(dims), Err(Error::Invalid { .. })));
        }
    }
}
