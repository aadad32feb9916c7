//! Numbers that know how far an f32 computation of them may lie away, by two analyses that count the same operations.
//!
//! - *Worst case* (Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3): every operation adds one rounding of its result, errors of
//!   operands travel through the derivatives and add up, a sum of n numbers may be taken in any order. It cannot be exceeded, but after six matrix
//!   products it is a thousand times what happens.
//! - *Spread* (Higham and Mary, *A New Approach to Probabilistic Rounding Error Analysis*, 2019): roundings are independent with mean 0 and at most U
//!   each, so they add up as variances do: a sum of n has √n of them instead of n. [`Bounded::allowed`] takes 8 of it.
//!
//! What is allowed is the smaller of both: it follows from the type and the operations, element by element, and from nothing else. The value itself
//! is computed in f64 and counts as exact (its own rounding is 2⁻²⁹ of f32's).

use std::ops::{Add, Div, Mul, Sub};

/// Unit roundoff of f32: an operation's result is off by at most this share of it.
pub const U: f64 = 1.0 / 16_777_216.0;

/// Spreads that are allowed: a normal variable exceeds 6 once in 5·10⁸ times, and 8 leaves room for errors that share a source (the softmax's sum).
const SPREADS: f64 = 8.0;

/// A number, exact, and how far two right f32 computations of it may each lie from it.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub value: f64,
    /// In the worst case.
    pub error: f64,
    /// As a standard deviation.
    pub spread: f64,
}

impl Bounded {
    /// Given, not computed: f32 inputs are what they are.
    pub fn exact(value: impl Into<f64>) -> Bounded {
        Bounded::new(value.into(), 0.0)
    }

    /// Off by at most `error`, for reasons that need not have mean 0.
    pub fn new(value: f64, error: f64) -> Bounded {
        Bounded {
            value,
            error,
            spread: error,
        }
    }

    /// How far a computed number may lie from the value.
    pub fn allowed(self) -> f64 {
        self.error.min(SPREADS * self.spread)
    }

    /// The largest magnitude that the computed number can have.
    fn size(self) -> f64 {
        self.value.abs() + self.error
    }

    /// The largest magnitude that it has in the second analysis.
    fn likely_size(self) -> f64 {
        self.value.abs() + SPREADS * self.spread
    }

    /// After a function or a few roundings that are together at most `units` units of roundoff off.
    pub fn rounded(self, units: f64) -> Bounded {
        Bounded {
            error: self.error + units * U * self.size(),
            spread: self.spread.hypot(units * U * self.value),
            ..self
        }
    }

    /// Times a number without an error.
    pub fn scaled(self, factor: f64) -> Bounded {
        Bounded {
            value: self.value * factor,
            error: self.error * factor.abs(),
            spread: self.spread * factor.abs(),
        }
    }

    /// Minus a number without an error, not rounded.
    pub fn shifted(self, by: f64) -> Bounded {
        Bounded {
            value: self.value - by,
            ..self
        }
    }

    /// eˣ by a function that is at most 2 ulp (4 units of roundoff) off and may give 0 below 2⁻⁹⁶.
    pub fn exp(self) -> Bounded {
        let value = self.value.exp();
        Bounded {
            value,
            error: value * self.error.exp_m1() + 2f64.powi(-96),
            spread: value * self.spread + 2f64.powi(-96),
        }
        .rounded(4.0)
    }
}

impl Add for Bounded {
    type Output = Bounded;
    fn add(self, other: Bounded) -> Bounded {
        Bounded {
            value: self.value + other.value,
            error: self.error + other.error,
            spread: self.spread.hypot(other.spread),
        }
        .rounded(1.0)
    }
}

impl Sub for Bounded {
    type Output = Bounded;
    fn sub(self, other: Bounded) -> Bounded {
        self + other.scaled(-1.0)
    }
}

impl Mul for Bounded {
    type Output = Bounded;
    fn mul(self, other: Bounded) -> Bounded {
        Bounded {
            value: self.value * other.value,
            error: self.error * other.size() + self.value.abs() * other.error,
            spread: (self.spread * other.value).hypot(self.value * other.spread),
        }
        .rounded(1.0)
    }
}

impl Div for Bounded {
    type Output = Bounded;
    /// Where `other` may be zero in the worst case, that case has no bound, and the spread is what is left.
    fn div(self, other: Bounded) -> Bounded {
        let value = self.value / other.value;
        let over = |size: f64, by: f64| {
            let smallest = other.value.abs() - by;
            if smallest > 0.0 { size / smallest } else { f64::INFINITY }
        };
        Bounded {
            value,
            error: over(self.error + value.abs() * other.error, other.error),
            spread: over(self.spread.hypot(value * other.spread), SPREADS * other.spread),
        }
        .rounded(1.0)
    }
}

/// Σ xᵢ in any order: n − 1 additions, each of whose results is at most the sum of magnitudes.
pub fn sum(terms: impl IntoIterator<Item = Bounded>) -> Bounded {
    dot(terms.into_iter().map(|x| (x, Bounded::exact(1.0))), -1.0)
}

/// Σ aᵢ·bᵢ in any order, with `extra` more roundings of every product (a scale that is applied to one side first).
pub fn dot(pairs: impl IntoIterator<Item = (Bounded, Bounded)>, extra: f64) -> Bounded {
    let (mut value, mut error, mut size, mut likely_size, mut variance, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in pairs {
        value += a.value * b.value;
        error += a.error * b.size() + a.value.abs() * b.error;
        variance += (a.spread * b.value).powi(2) + (a.value * b.spread).powi(2);
        size += a.size() * b.size();
        likely_size += a.likely_size() * b.likely_size();
        n += 1.0;
    }
    let roundings = f64::max(n + extra, 0.0);
    Bounded {
        value,
        error: error + roundings * U * size,
        spread: (variance + roundings * (U * likely_size).powi(2)).sqrt(),
    }
}

/// A·B, `[m, k]`·`[k, n]`, entries by closures.
pub fn product([m, k, n]: [usize; 3], a: impl Fn(usize, usize) -> Bounded, b: impl Fn(usize, usize) -> Bounded) -> Vec<Bounded> {
    let entry = |i: usize, j: usize| dot((0..k).map(|l| (a(i, l), b(l, j))), 0.0);
    (0..m * n).map(|at| entry(at / n, at % n)).collect()
}
