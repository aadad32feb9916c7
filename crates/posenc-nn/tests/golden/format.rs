//! The number types that a record was computed in, and what rounding to them does to a [`Bounded`] number: the counterpart of [`super::bounded`] for types that
//! are not f32, where a single rounding is no longer small and n of them are more than n times one.

use super::bounded::{Bounded, U};

/// A number type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    /// Unit roundoff: half the distance of 1 to the next number.
    unit: f64,
    /// Half the distance of 0 to the next number.
    tiny: f64,
}

pub const F64: Format = Format {
    unit: f64::EPSILON / 2.0,
    tiny: 0.0,
};
/// 24 bits of significand; 2⁻¹⁵⁰.
pub const F32: Format = Format { unit: U, tiny: 7.1e-46 };
/// 11 bits; 2⁻²⁵.
pub const F16: Format = Format {
    unit: 1.0 / 2048.0,
    tiny: 1.0 / 33_554_432.0,
};
/// 8 bits; 2⁻¹³⁴.
pub const BF16: Format = Format {
    unit: 1.0 / 256.0,
    tiny: 4.6e-41,
};

impl Format {
    /// What n roundings do at most, relative to their operand: γₙ = n·u / (1 − n·u) (Higham, lemma 3.1), which from n·u = 1 on says nothing.
    fn gamma(self, n: f64) -> f64 {
        let nu = n * self.unit;
        if nu < 1.0 { nu / (1.0 - nu) } else { f64::INFINITY }
    }

    /// After n roundings to this type.
    pub fn round(self, x: Bounded, n: f64) -> Bounded {
        Bounded {
            error: x.error + self.gamma(n) * (x.value.abs() + x.error) + n * self.tiny,
            spread: x.spread.hypot(n * (self.unit * x.value.abs() + self.tiny)),
            ..x
        }
    }

    /// Σ aᵢ·bᵢ in any order, with `extra` more roundings of every product, all to this type: as [`super::bounded::dot`].
    pub fn dot(self, pairs: impl IntoIterator<Item = (Bounded, Bounded)>, extra: f64) -> Bounded {
        let (mut value, mut error, mut size, mut variance, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (a, b) in pairs {
            value += a.value * b.value;
            error += a.error * (b.value.abs() + b.error) + a.value.abs() * b.error;
            variance += (a.spread * b.value).powi(2) + (a.value * b.spread).powi(2);
            size += (a.value.abs() + a.error) * (b.value.abs() + b.error);
            n += 1.0;
        }
        let roundings = f64::max(n + extra, 0.0);
        Bounded {
            value,
            error: error + self.gamma(roundings) * size + roundings * self.tiny,
            spread: (variance + roundings * (self.unit * size + self.tiny).powi(2)).sqrt(),
        }
    }

    /// A function that grows or falls throughout, computed in f32 (in f64 where this type is wider) to `units` of its unit roundoff, and rounded to this type.
    pub fn monotone(self, x: Bounded, units: f64, f: impl Fn(f64) -> f64, slope: f64) -> Bounded {
        let value = f(x.value);
        let ends = [f(x.value - x.error), f(x.value + x.error)];
        let exact = Bounded {
            value,
            error: ends.iter().fold(0.0, |m, end| f64::max(m, (end - value).abs())),
            spread: slope.abs() * x.spread,
        };
        if self.unit < U {
            self.round(exact, units)
        } else {
            self.narrowed(F32.round(exact, units), F32)
        }
    }

    /// A number of another type converted to this one: rounded where this one is coarser.
    pub fn narrowed(self, x: Bounded, from: Format) -> Bounded {
        if self.unit > from.unit { self.round(x, 1.0) } else { x }
    }
}
