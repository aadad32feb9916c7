//! Dropout as a pure function of where a number stands: any tiling, any number of threads, forward and adjoint agree.

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use crate::rng::{mix, split_mix};

/// Whether a forward pass trains or evaluates: an argument, never a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is dropped.
    #[default]
    Evaluate,
    /// Numbers are dropped where a method or attention names a probability. The same `seed` and `call` drop the same numbers, so the adjoint is given those of its forward pass; each layer and step has a `call` of its own.
    Train {
        /// Fixes a training run.
        seed: u64,
        /// Fixes one layer of one step.
        call: u64,
    },
}

impl Mode {
    /// The dropout of this pass with probability `p`; `None` if nothing is dropped.
    pub fn dropout(self, p: f64) -> Option<Dropout> {
        match self {
            Mode::Train { seed, call } if p > 0.0 => Some(Dropout::new(p, seed, call)),
            _ => None,
        }
    }

    /// The mode of one part of a layer that drops in several places: the same run and the same call, a stream of its own for each `part`.
    ///
    /// ```
    /// use posenc::Mode;
    /// let layer = Mode::Train { seed: 1, call: 2 };
    /// assert_eq!(layer.part(1), layer.part(1));
    /// assert_ne!(layer.part(1), layer.part(2));
    /// assert_eq!(Mode::Evaluate.part(1), Mode::Evaluate);
    /// ```
    pub fn part(self, part: u64) -> Mode {
        match self {
            Mode::Evaluate => Mode::Evaluate,
            // A hash of both: sums would meet the calls of other layers.
            Mode::Train { seed, call } => Mode::Train {
                seed,
                call: split_mix(split_mix(call) ^ part),
            },
        }
    }
}

/// Which numbers are dropped, and what the others are multiplied by.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    key: u64,
    threshold: u32,
    keep_scale: f64,
}

impl Dropout {
    fn new(p: f64, seed: u64, call: u64) -> Dropout {
        Dropout {
            key: mix(seed ^ mix(call.wrapping_add(0x9E37_79B9_7F4A_7C15))),
            // p is rounded to a multiple of 2⁻³².
            threshold: (p * 4_294_967_296.0).min(4_294_967_295.0) as u32,
            keep_scale: 1.0 / (1.0 - p),
        }
    }

    /// What the numbers of a row are hashed with: one per (batch row, head, query index).
    #[inline]
    pub fn row(&self, batch: usize, head: usize, query: usize) -> u64 {
        mix(mix(mix(self.key ^ batch as u64) ^ head as u64) ^ query as u64)
    }

    /// 0 if entry `key` of a row is dropped, else 1 / (1 − p).
    #[inline]
    pub fn factor(&self, row: u64, key: usize) -> f64 {
        if (mix(row ^ (key as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93)) >> 32) as u32 >= self.threshold {
            self.keep_scale
        } else {
            0.0
        }
    }

    /// Drops entries of a row and scales the others.
    pub fn apply_row<T: Element>(&self, batch: usize, head: usize, query: usize, x: &mut [T]) {
        let row = self.row(batch, head, query);
        for (j, x) in x.iter_mut().enumerate() {
            *x = T::narrow(x.widen() * T::Real::of(self.factor(row, j)));
        }
    }
}

/// A dropout probability lies in [0, 1).
pub(crate) fn check_dropout(p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        Ok(())
    } else {
        Err(Error::Invalid {
            what: "dropout",
            given: p.to_string(),
            expected: "a probability in [0, 1)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_expected_share_in_rows_and_columns() {
        let dropout = Mode::Train { seed: 1, call: 2 }.dropout(0.25).unwrap();
        let n = 400;
        let kept = |row: usize, column: usize| dropout.factor(dropout.row(0, 0, row), column) > 0.0;
        // Five standard deviations of a binomial share over n draws.
        let bound = 5.0 * (0.25f64 * 0.75 / n as f64).sqrt();
        for fixed in 0..20 {
            let by_row = (0..n).filter(|&j| kept(fixed, j)).count() as f64 / n as f64;
            let by_column = (0..n).filter(|&i| kept(i, fixed)).count() as f64 / n as f64;
            assert!((by_row - 0.75).abs() < bound && (by_column - 0.75).abs() < bound);
        }
        assert_eq!(
            dropout.factor(dropout.row(0, 0, 0), (0..).find(|&j| kept(0, j)).unwrap()),
            1.0 / 0.75
        );
    }

    #[test]
    fn evaluation_and_probability_zero_drop_nothing() {
        assert!(Mode::Evaluate.dropout(0.5).is_none());
        assert!(Mode::Train { seed: 1, call: 1 }.dropout(0.0).is_none());
        assert!(check_dropout(1.0).is_err() && check_dropout(-0.1).is_err() && check_dropout(f64::NAN).is_err());
    }
}
