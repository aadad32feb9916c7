//! # T5's bucketed relative bias
//!
//! **Idea.** A trained number per head for each *bucket* of distances: small distances have a bucket each, larger ones share buckets that widen logarithmically, and
//! everything from `max_distance` on shares the last.
//!
//! **Paper.** Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer*, 2019,
//! arXiv 1910.10683, section 2.1; the formula is in its code.
//!
//! **Maths.** For r = key − query and B buckets:
//! ```text
//! bidirectional   n = |r|          b = B / 2,  first = b if r > 0 else 0
//! unidirectional  n = max(−r, 0)   b = B,      first = 0
//! e = ⌊b / 2⌋
//! bucket = first + n                                                       n < e
//!          first + min(b − 1, e + ⌊ln(n / e) / ln(max_distance / e) · (b − e)⌋)   else
//! s(i, j) = q·k + w[bucket(j − i), h]
//! ```
//!
//! **Shapes.** Table `relative_attention_bias.weight` `[buckets, heads]`; bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ.
//!
//! **Conventions that differ between codebases.**
//! - T5's scores are *not* divided by √d: [`Attention::unscaled`](crate::Attention::unscaled). The models that borrowed the bias (MPNet, LayoutLM, WavLM) divide.
//! - T5, mT5 and LongT5 share the first layer's table with all layers ([`Scope::Model`], the default here); UMT5 has one per layer. Cross-attention has none.
//! - ProphetNet counts query − key. x-transformers multiplies the table by a scale. WavLM adds e before truncating: the same integers.
//! - The formula runs in f32, division by division, in the code that trained the models; [`t5_bucket`] rounds where it does. On the parameters of all published
//!   models f32 and f64 give the same buckets.
//! - Bidirectional: bucket B/2 means "after the query, distance 0" and is never reached; its row keeps its initial value. Unidirectional: every key after the query is in
//!   bucket 0, with the query itself.
//! - Ports that drop the `min` or the logarithm (candle had both bugs) agree up to small distances and then read the wrong row, or past the table.
//!
//! **Cost.** buckets · heads numbers. At most 2 · `max_distance` + 1 buckets per call, shared by layers; as many values per head and layer; one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, T5Bias, ViewMut};
//! let plan = Encoding::from(T5Bias::decoder()).plan(Dims::new(16, 2)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! let table: Vec<f32> = (0..64).map(|x| (x / 2) as f32).collect(); // each bucket's bias is its number
//! params.set("relative_attention_bias.weight", &[32, 2], &table)?;
//! let mut row = [f32::NAN; 2 * 200];
//! plan.call(&params, &Positions::range(199..200), &Positions::range(0..200))?.materialise_bias(ViewMut::new(&mut row, [1, 2, 1, 200])?)?;
//! assert_eq!((row[199], row[198], row[199 - 19], row[0]), (0.0, 1.0, 17.0, 31.0));
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::bias::by_distance::TableBias;
use crate::bias::matrix::write_matrix;
use crate::dims::Dims;
use crate::distances::{check_distance, owner};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::view::{View, ViewMut};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A trained number per head and bucket of distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "relative_attention_bias")]
#[doc(alias = "relative_attention_num_buckets")]
#[doc(alias = "RelativePositionBias")]
pub struct T5Bias {
    /// B: rows of the table. Half of them are for keys after the query, if bidirectional.
    #[serde(default = "crate::encoding::written::t5_buckets")]
    pub buckets: usize,
    /// The distance from which all share a bucket.
    #[serde(default = "crate::encoding::written::t5_distance")]
    pub max_distance: usize,
    /// Keys after the query have buckets of their own: encoders. Else they share bucket 0: decoders.
    pub bidirectional: bool,
    /// How the table begins; N(0, 1/√model_dim), as in T5, if `None`.
    #[serde(default)]
    pub init: Option<Init>,
    /// One table for the model (T5) or one per layer (UMT5).
    #[serde(default = "crate::encoding::written::per_model")]
    pub scope: Scope,
}

impl T5Bias {
    /// Bidirectional, 32 buckets, distance 128, one table for the model.
    pub fn encoder() -> T5Bias {
        T5Bias {
            buckets: 32,
            max_distance: 128,
            bidirectional: true,
            init: None,
            scope: Scope::Model,
        }
    }

    /// Unidirectional, 32 buckets, distance 128, one table for the model.
    pub fn decoder() -> T5Bias {
        T5Bias {
            bidirectional: false,
            ..T5Bias::encoder()
        }
    }

    /// The same with other buckets.
    pub fn with_buckets(self, buckets: usize, max_distance: usize) -> T5Bias {
        T5Bias {
            buckets,
            max_distance,
            ..self
        }
    }

    /// The same with a named beginning.
    pub fn with_init(self, init: Init) -> T5Bias {
        T5Bias { init: Some(init), ..self }
    }

    /// The same with one table for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> T5Bias {
        T5Bias { scope, ..self }
    }

    fn table(&self, heads: usize, init: Init) -> TableBias {
        TableBias {
            spec: ParamSpec::new("relative_attention_bias.weight", [self.buckets, heads], init).scoped(self.scope),
            heads,
            subtracted: false,
            reach: self.max_distance,
        }
    }

    fn table_for(&self, dims: &Dims) -> TableBias {
        let init = self.init.unwrap_or(Init::Normal(1.0 / (dims.model_dim as f64).sqrt()));
        self.table(dims.heads, init)
    }

    fn check_buckets(&self) -> Result<()> {
        check_distance(self.max_distance)?;
        check_distance(self.buckets)?;
        if self.bidirectional && !self.buckets.is_multiple_of(2) {
            return Err(Error::NotDivisible {
                what: "buckets of a bidirectional T5 bias",
                value: self.buckets,
                by: "directions",
                divisor: 2,
            });
        }
        let exact = self.one_sided() / 2;
        if exact == 0 {
            return Err(Error::Invalid {
                what: "buckets",
                given: self.buckets.to_string(),
                expected: "at least 2 for each direction",
            });
        }
        if self.max_distance <= exact {
            return Err(Error::Invalid {
                what: "max_distance",
                given: self.max_distance.to_string(),
                expected: "more than the distances that have a bucket each: a half (bidirectional: a quarter) of the buckets",
            });
        }
        Ok(())
    }

    /// Buckets for one direction.
    fn one_sided(&self) -> usize {
        if self.bidirectional { self.buckets / 2 } else { self.buckets }
    }

    /// The bucket of `key − query`; the settings have been checked.
    fn bucket(&self, relative_position: i64) -> usize {
        let buckets = self.one_sided();
        let first = if self.bidirectional && relative_position > 0 { buckets } else { 0 };
        let n = if self.bidirectional {
            relative_position.unsigned_abs()
        } else {
            relative_position.min(0).unsigned_abs()
        };
        let exact = buckets / 2;
        if n < exact as u64 {
            return first + n as usize;
        }
        // transformers: (log(n.float() / exact) / math.log(max_distance / exact) * (buckets - exact)).to(long); the Python float is rounded to the tensor's f32.
        // The logarithm is taken in f64 and rounded once, so that it does not depend on the machine's libm.
        let log = f64::from(n as f32 / exact as f32).ln() as f32;
        let whole = (self.max_distance as f64 / exact as f64).ln() as f32;
        let wide = (log / whole * (buckets - exact) as f32) as usize;
        first + exact.saturating_add(wide).min(buckets - 1)
    }
}

/// T5's bucket of a relative position `key − query`, rounded as transformers rounds: `_relative_position_bucket`.
///
/// # Errors
/// Buckets that are odd when bidirectional or fewer than two for a direction, or a `max_distance` within the distances that have a bucket each.
///
/// ```
/// use posenc::t5_bucket;
/// assert_eq!(t5_bucket(-19, false, 32, 128)?, 17); // 19 tokens back
/// assert_eq!(t5_bucket(5, false, 32, 128)?, 0); // a decoder does not see what follows
/// assert_eq!(t5_bucket(5, true, 32, 128)?, 21);
/// assert_eq!(t5_bucket(-100_000, true, 32, 128)?, 15);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "_relative_position_bucket")]
#[doc(alias = "relative_position_bucket")]
pub fn t5_bucket(relative_position: i64, bidirectional: bool, buckets: usize, max_distance: usize) -> Result<usize> {
    let bias = T5Bias {
        bidirectional,
        ..T5Bias::encoder().with_buckets(buckets, max_distance)
    };
    bias.check_buckets()?;
    Ok(bias.bucket(relative_position))
}

/// The bias of a table `[buckets, heads]`, written as `[heads, q_len, k_len]`; 0 where the query or the key has no position. Only the buckets, the distance and the
/// direction of `bias` are read.
///
/// # Errors
/// Buckets that [`t5_bucket`] refuses, a table with another number of rows, another output shape, fractional positions, or positions that differ between batch rows or
/// have several axes.
///
/// ```
/// use posenc::{Positions, T5Bias, View, ViewMut, t5_bias};
/// let (table, at, mut bias) = ([0.0f32, 1.0, 2.0, 3.0], Positions::range(0..3), [f32::NAN; 9]);
/// t5_bias(&T5Bias::decoder().with_buckets(4, 8), View::new(&table, [4, 1])?, &at, &at, ViewMut::new(&mut bias, [1, 3, 3])?)?;
/// assert_eq!(bias, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 1.0, 0.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn t5_bias<R: Real>(bias: &T5Bias, table: View<'_, R, 2>, q_at: &Positions, k_at: &Positions, out: ViewMut<'_, R, 3>) -> Result<()> {
    bias.check_buckets()?;
    let [rows, heads] = table.shape();
    if rows != bias.buckets {
        return Err(Error::Shape {
            what: "table [buckets, heads]",
            expected: vec![bias.buckets, heads],
            given: vec![rows, heads],
        });
    }
    let at = bias.table(heads, Init::Zeros).at("t5 bias", q_at, k_at, |d| bias.bucket(d))?;
    memory::check::<R>("table [rows, heads]", &[rows, heads])?;
    let table: Vec<R> = (0..rows).flat_map(|row| table.row([row, 0]).iter().copied()).collect();
    write_matrix(&at.term(&table), heads, q_at, k_at, out)
}

impl fmt::Display for T5Bias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.bidirectional { "bidirectional" } else { "unidirectional" };
        write!(f, "t5 bias({direction}, {} buckets to {}", self.buckets, self.max_distance)?;
        write!(f, ", one table per {}", owner(self.scope))?;
        if let Some(init) = self.init {
            write!(f, ", {init}")?;
        }
        write!(f, ")")
    }
}

impl Prepare for T5Bias {
    fn check(&self, _dims: &Dims) -> Result<()> {
        self.check_buckets()
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.table_for(dims).spec]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(self.table_for(dims).at("t5 bias", q_at, k_at, |d| self.bucket(d))?))
    }

    fn advance<R: Real>(&self, dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        self.table_for(dims).advance("t5 bias", at, prepared, |d| self.bucket(d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::{reference, tiles};

    #[test]
    fn term_and_gradient_are_those_of_the_reference() {
        for bias in [
            T5Bias::encoder().with_buckets(8, 12),
            T5Bias::decoder().with_buckets(6, 20),
            T5Bias::decoder().with_buckets(2, 4),
        ] {
            let (bidirectional, max_distance) = (bias.bidirectional, bias.max_distance);
            tiles::check_table_bias(&bias.into(), |table, q, k| {
                reference::t5::bias(table, 3, bidirectional, max_distance, q, k)
            });
        }
    }

    /// The first distance of each bucket of a decoder with 32 buckets up to 128, computed exactly (powers of whole numbers).
    const FIRST_DISTANCES: [i64; 32] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113,
    ];

    #[test]
    fn buckets_begin_where_they_should() {
        for (bucket, &distance) in FIRST_DISTANCES.iter().enumerate() {
            assert_eq!(t5_bucket(-distance, false, 32, 128), Ok(bucket));
            if distance > 0 {
                assert_eq!(t5_bucket(1 - distance, false, 32, 128), Ok(bucket - 1));
            }
        }
    }

    /// The parameters of published models, and of two small ones: f32 as transformers rounds, and f64.
    #[test]
    fn f32_and_f64_agree_on_published_parameters() {
        for (buckets, max_distance) in [
            (32, 128),
            (320, 800),
            (64, 256),
            (32, 512),
            (256, 512),
            (512, 2048),
            (8, 20),
            (16, 40),
        ] {
            for bidirectional in [false, true] {
                let end = max_distance as i64 + 5;
                for relative in (-end..=end).chain([-1 << 40, i64::MIN + 1, i64::MAX]) {
                    assert_eq!(
                        t5_bucket(relative, bidirectional, buckets, max_distance),
                        Ok(reference::t5::bucket(relative, bidirectional, buckets, max_distance)),
                        "{relative}, {bidirectional}, {buckets} to {max_distance}"
                    );
                }
            }
        }
        assert_eq!(t5_bucket(i64::MIN, false, 32, 128), Ok(31));
    }

    /// huggingface/candle#727 (no logarithm) and #1312 (no minimum): distances far past `max_distance` stay in the table, small ones are exact, and a
    /// bidirectional table keeps its halves apart.
    #[test]
    fn bug_family_22_t5_buckets_of_far_tokens_stay_in_the_table() {
        for distance in [128, 129, 1000, 1 << 20, 1 << 50] {
            assert_eq!(t5_bucket(-distance, false, 32, 128), Ok(31));
            assert_eq!(t5_bucket(-distance, true, 32, 128), Ok(15));
            assert_eq!(t5_bucket(distance, true, 32, 128), Ok(31));
        }
        assert_eq!(t5_bucket(-64, true, 32, 128), Ok(14));
        assert_eq!(t5_bucket(64, true, 32, 128), Ok(30));
        // Half of a bidirectional table is for keys after the query; "after, at distance 0" does not exist.
        let reached: Vec<usize> = (-200..=200).map(|r| t5_bucket(r, true, 32, 128).unwrap()).collect();
        assert_eq!((0..32).filter(|b| !reached.contains(b)).collect::<Vec<_>>(), [16]);
    }

    #[test]
    fn settings_without_buckets_are_refused() {
        assert!(matches!(t5_bucket(0, true, 7, 128), Err(Error::NotDivisible { value: 7, .. })));
        assert!(matches!(t5_bucket(0, true, 2, 128), Err(Error::Invalid { what: "buckets", .. })));
        assert!(matches!(t5_bucket(0, false, 0, 128), Err(Error::Invalid { what: "buckets", .. })));
        assert!(matches!(
            t5_bucket(0, false, 32, 16),
            Err(Error::Invalid { what: "max_distance", .. })
        ));
        assert!(t5_bucket(0, false, 32, 17).is_ok() && t5_bucket(0, true, 32, 9).is_ok());
        assert!(
            Encoding::from(T5Bias::encoder().with_buckets(31, 128))
                .plan(Dims::new(8, 2).unwrap())
                .is_err()
        );
    }

    #[test]
    fn the_model_owns_the_table_and_umt5_has_one_per_layer() {
        let dims = Dims::new(64, 4).unwrap();
        let spec = |bias: T5Bias| Encoding::from(bias).plan(dims).unwrap().parameters()[0].clone();
        let t5 = spec(T5Bias::encoder());
        assert_eq!(
            (t5.shape.as_slice(), t5.scope, t5.init),
            ([32, 4].as_slice(), Scope::Model, Init::Normal(0.125))
        );
        assert_eq!(spec(T5Bias::encoder().with_scope(Scope::Layer)).scope, Scope::Layer);
        assert_eq!(spec(T5Bias::encoder().with_init(Init::Zeros)).init, Init::Zeros);
        assert_eq!(
            T5Bias::decoder().to_string(),
            "t5 bias(unidirectional, 32 buckets to 128, one table per model)"
        );
    }
}
