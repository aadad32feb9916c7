//! How sharply a query attends, by where it stands.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A factor of each query that grows with its position, so that attention over many keys stays as sharp as over few: 1 up to a length, and then as a logarithm.
///
/// It multiplies the query after its rotation, so the product with the keys and every content term see it; biases do not.
///
/// ```
/// use posenc::Temperature;
/// let llama4 = Temperature::llama4(0.1, 8192.0);
/// assert_eq!((llama4.factor(8190.0), llama4.factor(8191.0)), (1.0, 1.0 + 0.1 * 2f64.ln()));
/// assert_eq!(Temperature::mistral(0.1, 8192.0).factor(8191.0), 1.0); // it counts tokens from 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "growth", rename_all = "snake_case", deny_unknown_fields)]
#[doc(alias = "attn_temperature_tuning")]
#[doc(alias = "llama_4_scaling")]
#[doc(alias = "log_scaling")]
#[doc(alias = "use_logn_attn")]
pub enum Temperature {
    /// `1 + scale · ln(1 + ⌊(p + first) / length⌋)`: a step at each multiple of the length.
    Steps {
        /// How fast it grows.
        scale: f64,
        /// Tokens from step to step.
        length: f64,
        /// What position 0 counts as: 1 in Llama 4, 0 in Ministral 3 and Mistral 4.
        first: f64,
    },
    /// `1 + scale · ln(max(1, (p + 1) / length))`: without steps.
    Smooth {
        /// How fast it grows.
        scale: f64,
        /// Tokens up to which the factor is 1.
        length: f64,
    },
}

impl Temperature {
    /// Llama 4's, in its layers that do not turn: `attn_scale` (0.1) and `floor_scale` (8192).
    pub fn llama4(attn_scale: f64, floor_scale: f64) -> Temperature {
        Temperature::Steps {
            scale: attn_scale,
            length: floor_scale,
            first: 1.0,
        }
    }

    /// Ministral 3's and Mistral 4's, in all layers: `llama_4_scaling_beta` and `original_max_position_embeddings`.
    pub fn mistral(beta: f64, original_len: f64) -> Temperature {
        Temperature::Steps {
            scale: beta,
            length: original_len,
            first: 0.0,
        }
    }

    /// Inkling's, in its layers without a window: `log_scaling_alpha` and `log_scaling_n_floor`.
    pub fn inkling(alpha: f64, n_floor: f64) -> Temperature {
        Temperature::Smooth {
            scale: alpha,
            length: n_floor,
        }
    }

    /// Qwen's first models' (`use_logn_attn`): the logarithm of p + 1 to the base of the trained length `seq_length`, where that is above 1.
    ///
    /// It is [`Temperature::Smooth`]: log_L(p + 1) = 1 + ln((p + 1) / L) / ln L. A length of 1 has no such logarithm, and [`Temperature::check`] refuses it. Qwen's code counts tokens from 1
    /// (`math.log(i, seq_length) if i > seq_length else 1`), has factors for 32 767 of them, and leaves them out while training. Su's log-n scaling, which it follows, has the factor below the trained
    /// length too, where it is less than 1.
    pub fn log_n(seq_length: f64) -> Temperature {
        Temperature::Smooth {
            scale: 1.0 / seq_length.ln(),
            length: seq_length,
        }
    }

    /// What a query at this position is multiplied by: 1 or more. Positions before the first token count as the first.
    pub fn factor(&self, position: f64) -> f64 {
        match *self {
            // ln_1p(n) is ln(1 + n) without rounding 1 + n, which is a whole number here.
            Temperature::Steps { scale, length, first } => 1.0 + scale * ((position + first) / length).floor().max(0.0).ln_1p(),
            Temperature::Smooth { scale, length } => 1.0 + scale * ((position + 1.0) / length).max(1.0).ln(),
        }
    }

    /// Every number lies in its range.
    ///
    /// # Errors
    /// A length that is not a positive number, a scale or a first count that is negative or not finite, or a scale beyond 1e30: factors would leave f32.
    pub fn check(&self) -> Result<()> {
        let (scale, length, first) = match *self {
            Temperature::Steps { scale, length, first } => (scale, length, first),
            Temperature::Smooth { scale, length } => (scale, length, 1.0),
        };
        let check = |what, value: f64, fine, expected| match fine {
            true => Ok(()),
            false => Err(Error::Invalid {
                what,
                given: value.to_string(),
                expected,
            }),
        };
        let fine = (0.0..=1e30).contains(&scale);
        check("scale of the temperature", scale, fine, "a number from 0 to 1e30")?;
        // Below the smallest normal number a position divided by it can be infinite.
        let fine = length.is_finite() && length >= 1.0;
        check("length of the temperature", length, fine, "a number of tokens, at least 1")?;
        let fine = (0.0..=f64::from(u32::MAX)).contains(&first);
        check("first count of the temperature", first, fine, "a number from 0 to 2^32 − 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What transformers 5.23.0's own lines give in f32 at these positions (`modeling_ministral3.py`, `get_llama_4_attn_scale`; `modeling_llama4.py` and
    /// `modeling_inkling.py`, copied from their `forward`), and what `modeling_qwen.py` of Qwen-7B gives in f64 (`math.log(i, seq_length)` for token number i from 1).
    ///
    /// Bound: f32 rounds the quotient (ε/2 of it, which moves the logarithm by ε/2), the logarithm (1 ulp), the product and the sum (half an ulp each of a number below 2): 2⁻²³ · 3 at most. f64: the same with 2⁻⁵².
    #[test]
    fn temperatures_are_those_of_transformers() {
        const AT: [f64; 11] = [0.0, 1.0, 8190.0, 8191.0, 8192.0, 16382.0, 16383.0, 16384.0, 1e5, 1e6, 10485759.0];
        let check = |temperature: Temperature, expected: [f64; 11], epsilon: f64| {
            temperature.check().unwrap();
            for (p, e) in AT.into_iter().zip(expected) {
                let f = temperature.factor(p);
                assert!((f - e).abs() <= 3.0 * epsilon, "{temperature:?} at {p}: {f} against {e}");
            }
        };
        let single = f64::from(f32::EPSILON);
        check(
            Temperature::mistral(0.1, 16384.0),
            [
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
                1.06931471824646,
                1.1945910453796387,
                1.4127134084701538,
                1.6461467742919922,
            ],
            single,
        );
        check(
            Temperature::llama4(0.1, 8192.0),
            [
                1.0,
                1.0,
                1.0,
                1.06931471824646,
                1.06931471824646,
                1.06931471824646,
                1.1098612546920776,
                1.1098612546920776,
                1.2564949989318848,
                1.4812184572219849,
                1.7155396938323975,
            ],
            single,
        );
        check(
            Temperature::inkling(0.1, 128000.0),
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.2055726051330566, 1.440574288368225],
            single,
        );
        check(
            Temperature::log_n(8192.0),
            [
                1.0,
                1.0,
                1.0,
                1.0,
                1.0000135461143418,
                1.0769163032458018,
                1.0769230769230769,
                1.0769298501869327,
                1.277665761639622,
                1.5331976932321918,
                1.7939944688374894,
            ],
            f64::EPSILON,
        );
    }

    #[test]
    fn settings_out_of_range_are_refused_and_positions_before_the_first_count_as_it() {
        for refused in [
            Temperature::llama4(-0.1, 8192.0),
            Temperature::llama4(f64::NAN, 8192.0),
            Temperature::llama4(0.1, 0.0),
            Temperature::inkling(0.1, f64::INFINITY),
            Temperature::inkling(1e31, 2.0),
            Temperature::log_n(1.0),
            Temperature::log_n(0.5),
            Temperature::Steps {
                scale: 0.1,
                length: 8.0,
                first: -1.0,
            },
        ] {
            assert!(matches!(refused.check(), Err(Error::Invalid { .. })), "{refused:?}");
        }
        for temperature in [
            Temperature::llama4(0.1, 4.0),
            Temperature::mistral(0.1, 4.0),
            Temperature::log_n(4.0),
        ] {
            for p in [-1e300, -5.0, -1.0] {
                assert_eq!(temperature.factor(p), 1.0);
            }
            assert!(temperature.factor(f64::MAX).is_finite());
        }
        let written = serde_json::to_string(&Temperature::llama4(0.1, 8192.0)).unwrap();
        assert_eq!(
            serde_json::from_str::<Temperature>(&written).unwrap(),
            Temperature::llama4(0.1, 8192.0)
        );
        assert!(serde_json::from_str::<Temperature>(r#"{"growth": "smooth", "scale": 0.1, "length": 8.0, "lenght": 8.0}"#).is_err());
    }
}
