//! Frequencies as the f32 code that trained the models computes them.
//!
//! The formulas are those of [`Scaling::frequencies`]; each operation is rounded to f32, in the order in which transformers writes them. An exponent that is rounded to f32 moves the frequency by up
//! to ln(base) / 2 ulp, which no later rounding undoes: f64 to the end is nearer to the formula, and further from what the checkpoint knows.

use crate::error::Result;
use crate::rotate::{Frequencies, Scaling};

/// The power to the nearest f32. Libraries are an ulp away from it, each in its own places.
fn power(base: f32, exponent: f32) -> f32 {
    f64::from(base).powf(f64::from(exponent)) as f32
}

/// As [`Scaling::frequencies`], rounded to f32 throughout.
pub(super) fn frequencies(scaling: &Scaling, base: f64, rotary_dim: usize, length: usize) -> Result<Frequencies> {
    // What is refused, and the table's factor, which is f64 there too.
    let exact = scaling.frequencies(base, rotary_dim, length)?;
    let r = rotary_dim as f32;
    // base^(2i / r).
    let powers = |base: f32| (0..exact.pairs.len()).map(move |i| power(base, 2.0 * i as f32 / r));
    let of_base = |base: f32| powers(base).map(|p| 1.0 / p);
    let larger = |stretch: f64| (base * stretch.powf(rotary_dim as f64 / (rotary_dim as f64 - 2.0))) as f32;
    let plain = base as f32;
    let pairs: Vec<f32> = match scaling {
        Scaling::Unscaled => of_base(plain).collect(),
        Scaling::Linear { factor } => of_base(plain).map(|f| f / *factor as f32).collect(),
        Scaling::Ntk { factor } => of_base(larger(*factor)).collect(),
        Scaling::Alpha { alpha } => of_base(larger(*alpha)).collect(),
        Scaling::Dynamic { factor, original_len } => {
            if length <= *original_len {
                of_base(plain).collect()
            } else {
                // The length is a tensor there, so the base is computed in f32 too.
                let stretch = *factor as f32 * length as f32 / *original_len as f32 - (*factor - 1.0) as f32;
                let exponent = rotary_dim as f64 / (rotary_dim as f64 - 2.0);
                of_base(plain * f64::from(stretch).powf(exponent) as f32).collect()
            }
        }
        Scaling::Yarn(yarn) => {
            let (low, high) = yarn.ramp(base, rotary_dim);
            let width = if low == high { 0.001 } else { high - low };
            let blend = |(i, p): (usize, f32)| {
                let ramp = ((i as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
                let kept = 1.0 - ramp;
                1.0 / (yarn.factor as f32 * p) * (1.0 - kept) + 1.0 / p * kept
            };
            powers(plain).enumerate().map(blend).collect()
        }
        Scaling::Longrope(long_rope) => {
            let divisors = if length > long_rope.original_len {
                &long_rope.long_factor
            } else {
                &long_rope.short_factor
            };
            powers(plain)
                .zip(divisors)
                .map(|(p, divisor)| 1.0 / (*divisor as f32 * p))
                .collect()
        }
        // The divisors come as f32; which rounding made them is not in them.
        Scaling::Divided { divisors, .. } => of_base(plain).zip(divisors).map(|(f, divisor)| f / *divisor as f32).collect(),
        Scaling::Proportional { partial, factor } => {
            let turning = (partial * rotary_dim as f64 / 2.0).floor() as usize;
            let one = |(i, f): (usize, f32)| if i < turning { f / *factor as f32 } else { 0.0 };
            of_base(plain).enumerate().map(one).collect()
        }
        Scaling::Llama3 {
            factor,
            original_len,
            low_freq_factor: low,
            high_freq_factor: high,
        } => {
            let len = *original_len as f64;
            let one = |f: f32| {
                // A number over a tensor is the number times the tensor's reciprocal there: two roundings.
                let wavelength = 1.0 / f * std::f64::consts::TAU as f32;
                if wavelength < (len / high) as f32 {
                    f
                } else if wavelength > (len / low) as f32 {
                    f / *factor as f32
                } else if high == low {
                    // There the code divides 0 by 0.
                    f
                } else {
                    let keep = (1.0 / wavelength * len as f32 - *low as f32) / (high - low) as f32;
                    (1.0 - keep) * f / *factor as f32 + keep * f
                }
            };
            of_base(plain).map(one).collect()
        }
    };
    Ok(Frequencies {
        pairs: pairs.into_iter().map(f64::from).collect(),
        ..exact
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotate::Yarn;

    /// Rounding the exponent (half an ulp of a number below 1: 2⁻²⁵) moves a power by ln(base) · 2⁻²⁵ of itself; every other operation rounds by 2⁻²⁴, and there are at most nine.
    #[test]
    fn rounding_moves_a_frequency_by_what_its_exponent_is_rounded_by() {
        let (base, r) = (5e5, 128);
        for scaling in [
            Scaling::Unscaled,
            Scaling::Linear { factor: 3.0 },
            Scaling::Ntk { factor: 4.0 },
            Scaling::Yarn(Yarn::new(8.0, 4096)),
            Scaling::Dynamic {
                factor: 2.0,
                original_len: 4096,
            },
            Scaling::Proportional {
                partial: 0.25,
                factor: 1.0,
            },
            Scaling::Divided {
                divisors: vec![3.0; 64],
                magnitude: 1.5,
            },
            Scaling::Llama3 {
                factor: 16.0,
                original_len: 8192,
                low_freq_factor: 1.0,
                high_freq_factor: 1.0,
            },
            Scaling::Llama3 {
                factor: 8.0,
                original_len: 8192,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
            },
        ] {
            let exact = scaling.frequencies(base, r, 9000).unwrap();
            let rounded = frequencies(&scaling, base, r, 9000).unwrap();
            assert_eq!(exact.table_factor, rounded.table_factor);
            let bound = (base.ln() / 2.0 + 9.0) / f64::from(1 << 24);
            for (i, (exact, rounded)) in exact.pairs.iter().zip(&rounded.pairs).enumerate() {
                // Where two terms are blended, the share is a difference: its rounding counts against the larger term.
                let size = if matches!(scaling, Scaling::Llama3 { .. } | Scaling::Yarn(_)) {
                    8.0
                } else {
                    1.0
                };
                assert!(
                    (exact - rounded).abs() <= size * bound * exact,
                    "{scaling}, pair {i}: {exact} and {rounded}"
                );
            }
        }
    }
}
