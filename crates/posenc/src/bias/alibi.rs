//! # ALiBi: attention with linear biases
//!
//! **Idea.** A score loses in proportion to the distance of query and key, each head at its own rate: some heads see far, some near, and the same line continues past
//! the trained length.
//!
//! **Paper.** Press, Smith, Lewis: *Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation*, 2021, arXiv 2108.12409.
//!
//! **Maths.** For head h = 1 … H, query i and key j:
//! ```text
//! causal     s(i, j) = q·k / √d − m(h) · (i − j)
//! symmetric  s(i, j) = q·k / √d − m(h) · |i − j|
//! slopes     m(h) = 2^(−8h / H)                                  H a power of two
//!            m of n heads, then every second of 2n heads          n the power of two below H
//! ```
//!
//! **Shapes.** A bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ; slopes `[heads]`. It is not divided by √d.
//!
//! **Conventions that differ between codebases.**
//! - Slopes where H is no power of two: the authors' code (and BLOOM, Falcon, Baichuan) appends every second slope of twice as many heads; MPT makes slopes for the
//!   next power of two and takes the odd ones first. With the usual `alibi_bias_max` of 8 both give the same numbers. `2^(−8h/H)` for any H is neither.
//! - What is stored: BLOOM adds `+m·j` (j the key's index among its tokens, padding 0), MPT `m·(j − (T − 1))`: equal to `−m(i − j)` up to a constant per row, which softmax
//!   ignores. [`alibi_bloom`], [`alibi_bloom_padded`] and [`alibi_mpt`] write those tensors; [`Alibi`] adds `−m(i − j)`, whose entry for a token and itself is 0 at every
//!   length, so nothing changes when a cache grows.
//! - Pairs with j > i: the causal form is *positive* there (+m(j − i)): it is made for a causal mask, which the caller gives. Without one use [`Form::Symmetric`]
//!   (openlanguagemodel, MosaicBERT, JinaBERT).
//! - Decoding: positions are those of the tokens, so a decoded token is `Positions::range(past..past + 1)` against keys `0..past + 1`. A library that counts queries from 0 reverses the
//!   penalty there.
//! - Rounding: slopes are computed in f64 and narrowed once. The usual code raises an f32 base to the h-th power, which costs up to 11 half-ulps. Falcon multiplies in
//!   bf16 and divides the sum by √d: its slopes are [`Slopes::Given`]; its rounding of the products is not reproduced.
//!
//! **Cost.** No parameters. O(q_len + k_len) numbers per call, shared by heads and layers; a multiply and an add per pair. Distances are exact in f32 up to 2²⁴.
//!
//! ```
//! use posenc::{Alibi, Dims, Encoding, Positions, ViewMut};
//! let plan = Encoding::from(Alibi::new()).plan(Dims::new(16, 2)?)?;
//! let (params, mut row) = (plan.init::<f32>(0)?, [0.0; 2 * 4]);
//! let call = plan.call(&params, &Positions::range(3..4), &Positions::range(0..4))?; // the fourth token is decoded
//! call.materialise_bias(ViewMut::new(&mut row, [1, 2, 1, 4])?)?;
//! assert_eq!(row[..4], [-3.0 / 16.0, -2.0 / 16.0, -1.0 / 16.0, 0.0]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::bias::by_distance::{Span, add_scaled, check_one_axis, write_matrix};
use crate::call::Parts;
use crate::dims::Dims;
use crate::error::{Error, Result};
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads};
use crate::view::{View, ViewMut};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A penalty proportional to the distance, with a slope per head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[doc(alias = "ALiBiPositionalBias")]
#[doc(alias = "AlibiPositionalBias")]
#[doc(alias = "alibi_bias_max")]
pub struct Alibi {
    /// The rate of each head.
    pub slopes: Slopes,
    /// What lies after the query.
    pub form: Form,
}

/// The rate at which each head forgets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slopes {
    /// The authors' rule, which BLOOM, Falcon and Baichuan follow: [`alibi_slopes`].
    #[default]
    Bloom,
    /// MPT's rule with its `alibi_bias_max`: [`alibi_slopes_mpt`].
    Mpt {
        /// The exponent of the flattest slope, 2^−`bias_max`: 8 in every published model.
        bias_max: f64,
    },
    /// One slope per query head, as given: any rounding or scale that a checkpoint was trained with.
    Given(Vec<f64>),
}

/// Whether the bias falls on both sides of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `−m(i − j)`, the paper's: for a causal mask, which the caller gives. Keys after the query would be *favoured*.
    #[default]
    Causal,
    /// `−m|i − j|`, for encoders.
    Symmetric,
}

impl Alibi {
    /// The paper's: BLOOM's slopes, causal.
    pub fn new() -> Alibi {
        Alibi::default()
    }

    /// For encoders: BLOOM's slopes, `−m|i − j|`.
    pub fn symmetric() -> Alibi {
        Alibi {
            form: Form::Symmetric,
            ..Alibi::default()
        }
    }

    /// The same with other slopes.
    pub fn with_slopes(self, slopes: Slopes) -> Alibi {
        Alibi { slopes, ..self }
    }

    fn term<R: Real>(&self, heads: usize, q_at: &Positions, k_at: &Positions) -> Result<AlibiTerm<R>> {
        check_one_axis("alibi", q_at, k_at)?;
        let slopes = self.slopes.for_heads(heads)?;
        let symmetric = self.form == Form::Symmetric;
        let falls = |distance: f64| if symmetric { -distance.abs() } else { distance };
        let whole = q_at.check_whole().is_ok() && k_at.check_whole().is_ok();
        let span = if whole { Span::whole(q_at, k_at) } else { None };
        let ramp = span.map(|span| (span, span.distances().map(|d| R::of(falls(d as f64))).collect()));
        Ok(AlibiTerm {
            slopes: slopes.into_iter().map(R::of).collect(),
            symmetric,
            ramp,
        })
    }
}

impl Slopes {
    /// The slopes of a model with this many query heads, `[heads]`.
    ///
    /// # Errors
    /// No heads, more than 2²⁰, a `bias_max` that is not a positive number, or given slopes that are not one finite number per head.
    ///
    /// ```
    /// use posenc::Slopes;
    /// assert_eq!(Slopes::Mpt { bias_max: 4.0 }.for_heads(2)?, [0.25, 0.0625]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn for_heads(&self, heads: usize) -> Result<Vec<f64>> {
        match self {
            Slopes::Bloom => alibi_slopes(heads),
            Slopes::Mpt { bias_max } => alibi_slopes_mpt(heads, *bias_max),
            Slopes::Given(slopes) => {
                if slopes.len() != heads {
                    return Err(Error::Shape {
                        what: "alibi slopes [heads]",
                        expected: vec![heads],
                        given: vec![slopes.len()],
                    });
                }
                if let Some(slope) = slopes.iter().find(|m| !m.is_finite()) {
                    return Err(Error::Invalid {
                        what: "alibi slope",
                        given: slope.to_string(),
                        expected: "a finite number",
                    });
                }
                Ok(slopes.clone())
            }
        }
    }
}

/// The slopes of `heads` heads by the authors' rule, `[heads]`, in f64: 2^(−8h/n) for the largest power of two n ≤ heads, then every second slope of 2n heads.
///
/// # Errors
/// No heads, or more than 2²⁰.
///
/// ```
/// use posenc::alibi_slopes;
/// assert_eq!(alibi_slopes(4)?, [0.25, 0.0625, 0.015625, 0.00390625]);
/// assert_eq!(alibi_slopes(6)?[4..], [0.5, 0.125]); // the first and third slope of eight heads
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "get_slopes")]
pub fn alibi_slopes(heads: usize) -> Result<Vec<f64>> {
    check_heads(heads)?;
    let n = if heads.is_power_of_two() {
        heads
    } else {
        heads.next_power_of_two() / 2
    };
    let slopes = geometric(n, 8.0);
    let between = geometric(2 * n, 8.0).step_by(2);
    Ok(slopes.chain(between).take(heads).collect())
}

/// The slopes of `heads` heads by MPT's rule, `[heads]`, in f64: 2^(−`bias_max`·h/n) for the smallest power of two n ≥ heads, those of even h first.
///
/// # Errors
/// No heads, more than 2²⁰, or a `bias_max` that is not a positive number.
///
/// ```
/// use posenc::{alibi_slopes, alibi_slopes_mpt};
/// assert_eq!(alibi_slopes_mpt(6, 8.0)?, alibi_slopes(6)?);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "gen_slopes")]
pub fn alibi_slopes_mpt(heads: usize, bias_max: f64) -> Result<Vec<f64>> {
    check_heads(heads)?;
    if !(bias_max.is_finite() && bias_max > 0.0) {
        return Err(Error::Invalid {
            what: "alibi_bias_max",
            given: bias_max.to_string(),
            expected: "a positive number",
        });
    }
    let n = heads.next_power_of_two();
    if n == heads {
        return Ok(geometric(n, bias_max).collect());
    }
    let even = geometric(n, bias_max).skip(1).step_by(2);
    Ok(even.chain(geometric(n, bias_max).step_by(2)).take(heads).collect())
}

/// 2^(−max·h/n) for h = 1 … n.
fn geometric(n: usize, max: f64) -> impl Iterator<Item = f64> {
    (1..=n).map(move |h| (-max * h as f64 / n as f64).exp2())
}

fn check_heads(heads: usize) -> Result<()> {
    match heads {
        0 => Err(Error::Zero { what: "heads" }),
        1..=0x10_0000 => Ok(()),
        _ => Err(Error::Invalid {
            what: "heads",
            given: heads.to_string(),
            expected: "at most 2^20",
        }),
    }
}

/// BLOOM's tensor without padding, `[heads, 1, seq]`: slope · key index, added to each row of the scores.
///
/// # Errors
/// A middle axis that is not 1, or a number of heads that [`alibi_slopes`] refuses.
///
/// ```
/// use posenc::{ViewMut, alibi_bloom};
/// let mut bias = [f32::NAN; 3];
/// alibi_bloom(ViewMut::new(&mut bias, [1, 1, 3])?)?;
/// assert_eq!(bias, [0.0, 0.00390625, 0.0078125]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "build_alibi_tensor")]
pub fn alibi_bloom<T: Element>(out: ViewMut<'_, T, 3>) -> Result<()> {
    let slopes = alibi_slopes(out.shape()[0])?;
    write_rows(&slopes, out, |_, k| k as f64)
}

/// BLOOM's tensor from a padding mask that is true where there is a token, `[batch, seq]`: slope · (tokens before this one), 0 at padding; written as
/// `[batch · heads, 1, seq]`, batch-major.
///
/// # Errors
/// A first axis that the batch does not divide, a middle axis that is not 1, another length, or a number of heads that [`alibi_slopes`] refuses.
///
/// ```
/// use posenc::{View, ViewMut, alibi_bloom_padded};
/// let mut bias = [f32::NAN; 4];
/// alibi_bloom_padded(View::new(&[false, true, true, true], [1, 4])?, ViewMut::new(&mut bias, [1, 1, 4])?)?;
/// assert_eq!(bias, [0.0, 0.0, 0.00390625, 0.0078125]);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn alibi_bloom_padded<T: Element>(is_token: View<'_, bool, 2>, out: ViewMut<'_, T, 3>) -> Result<()> {
    let ([batch, len], [rows, _, k_len]) = (is_token.shape(), out.shape());
    if batch == 0 || !rows.is_multiple_of(batch) {
        return Err(Error::NotDivisible {
            what: "bias rows [batch · heads]",
            value: rows,
            by: "batch",
            divisor: batch,
        });
    }
    if len != k_len {
        return Err(Error::Shape {
            what: "is_token [batch, seq]",
            expected: vec![batch, k_len],
            given: vec![batch, len],
        });
    }
    let heads = rows / batch;
    let slopes = alibi_slopes(heads)?.repeat(batch);
    let mut before = Vec::with_capacity(batch * len);
    for b in 0..batch {
        let mut tokens = 0;
        for &token in is_token.row([b, 0]) {
            before.push(if token { tokens } else { 0 });
            tokens += usize::from(token);
        }
    }
    write_rows(&slopes, out, |row, k| before[row / heads * len + k] as f64)
}

/// MPT's tensor, `[heads, 1, seq]`: slope · (key index − (seq − 1)), 0 at the last key.
///
/// # Errors
/// A middle axis that is not 1, or what [`alibi_slopes_mpt`] refuses.
///
/// ```
/// use posenc::{ViewMut, alibi_mpt};
/// let mut bias = [f32::NAN; 3];
/// alibi_mpt(8.0, ViewMut::new(&mut bias, [1, 1, 3])?)?;
/// assert_eq!(bias, [-0.0078125, -0.00390625, 0.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "build_mpt_alibi_tensor")]
pub fn alibi_mpt<T: Element>(bias_max: f64, out: ViewMut<'_, T, 3>) -> Result<()> {
    let slopes = alibi_slopes_mpt(out.shape()[0], bias_max)?;
    let len = out.shape()[2];
    write_rows(&slopes, out, |_, k| k as f64 - (len as f64 - 1.0))
}

/// The bias of any [`Alibi`] at any positions, `[heads, q_len, k_len]`; 0 where the query or the key has no position.
///
/// # Errors
/// Another shape, positions that differ between batch rows or have several axes, or slopes that do not fit the heads.
///
/// ```
/// use posenc::{Alibi, Positions, ViewMut, alibi_bias};
/// let (at, mut bias) = (Positions::range(0..2), [f32::NAN; 4]);
/// alibi_bias(&Alibi::symmetric(), &at, &at, ViewMut::new(&mut bias, [1, 2, 2])?)?;
/// assert_eq!(bias, [0.0, -0.00390625, -0.00390625, 0.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "ALiBiPositionalBias")]
pub fn alibi_bias<R: Real>(alibi: &Alibi, q_at: &Positions, k_at: &Positions, out: ViewMut<'_, R, 3>) -> Result<()> {
    let heads = out.shape()[0];
    write_matrix(&alibi.term(heads, q_at, k_at)?, heads, q_at, k_at, out)
}

/// `out[row, 0, k] = slope[row] · index(row, k)`, in the arithmetic type.
fn write_rows<T: Element>(slopes: &[f64], mut out: ViewMut<'_, T, 3>, index: impl Fn(usize, usize) -> f64) -> Result<()> {
    let [rows, one, len] = out.shape();
    if one != 1 {
        return Err(Error::Shape {
            what: "bias [rows, 1, seq]",
            expected: vec![rows, 1, len],
            given: vec![rows, one, len],
        });
    }
    for (row, &slope) in slopes.iter().enumerate() {
        for (k, x) in out.row_mut([row, 0, 0]).iter_mut().enumerate() {
            *x = T::narrow(T::Real::of(slope) * T::Real::of(index(row, k)));
        }
    }
    Ok(())
}

impl fmt::Display for Alibi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Causal => "causal",
            Form::Symmetric => "symmetric",
        };
        match &self.slopes {
            Slopes::Bloom => write!(f, "alibi({form}, slopes by BLOOM's rule)"),
            Slopes::Mpt { bias_max } => write!(f, "alibi({form}, slopes by MPT's rule, bias max {bias_max})"),
            Slopes::Given(slopes) => write!(f, "alibi({form}, {} given slopes)", slopes.len()),
        }
    }
}

impl Prepare for Alibi {
    fn check(&self, dims: &Dims) -> Result<()> {
        self.slopes.for_heads(dims.heads).map(|_| ())
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(PreparedAlibi(Arc::new(self.term::<R>(dims.heads, q_at, k_at)?))))
    }
}

struct PreparedAlibi<R>(Arc<AlibiTerm<R>>);

impl<R: Real> Prepared<R> for PreparedAlibi<R> {
    fn bind<'p>(&self, _params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.bias.push(self.0.clone());
        Ok(())
    }
}

struct AlibiTerm<R> {
    slopes: Vec<R>,
    symmetric: bool,
    /// Minus the distance of each pair, by `key − query`, where all of them are whole numbers and O(q_len + k_len).
    ramp: Option<(Span, Vec<R>)>,
}

impl<R: Real> ScoreTerm<R> for AlibiTerm<R> {
    fn needs(&self) -> Needs {
        Needs::bias(0)
    }

    fn add(&self, at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
        let slope = self.slopes[at.head];
        if let Some((span, ramp)) = &self.ramp {
            span.each(at, s.rows, s.cols, |i, cols, d| match &mut s.row(i)[cols] {
                [s] => *s += slope * ramp[d],
                row => add_scaled(row, slope, &ramp[d..d + row.len()]),
            });
            return;
        }
        for i in 0..s.rows {
            let row = s.row(i);
            let Some(q) = at.q_at.get(i) else { continue };
            for (j, s) in row.iter_mut().enumerate() {
                let Some(k) = at.k_at.get(j) else { continue };
                let distance = if self.symmetric { -(k - q).abs() } else { k - q };
                *s += slope * R::of(distance);
            }
        }
    }

    fn adjoint(
        &self,
        _at: &Place<'_>,
        _q: &Block<'_, R>,
        _k: &Block<'_, R>,
        _before: &Block<'_, R>,
        _ds: &mut BlockMut<'_, R>,
        _into: &mut TermGrads<'_, R>,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::reference;
    use crate::tiles::{self, Tiles};

    /// Positions as the reference takes them.
    fn floats(at: &Positions, batch: usize) -> Vec<Option<f64>> {
        (0..at.len()).map(|t| at.at(0, batch, t, 1).get(0)).collect()
    }

    #[test]
    fn term_is_that_of_the_reference_on_any_tiles() {
        let mut cases = tiles::cases();
        let fractions: Vec<f64> = (0..11).map(|t| f64::from(t) * 0.75 - 2.5).collect();
        cases.push(("fractions", Positions::real(&fractions).unwrap(), Positions::range(0..9), 1));
        for alibi in [
            Alibi::new(),
            Alibi::symmetric(),
            Alibi::new().with_slopes(Slopes::Given(vec![0.3, -0.1, 0.0])),
        ] {
            let plan = Encoding::from(alibi.clone()).plan(Dims::new(12, 3).unwrap()).unwrap();
            let (params, slopes) = (plan.init::<f64>(0).unwrap(), alibi.slopes.for_heads(3).unwrap());
            for (name, q_at, k_at, batch) in &cases {
                let call = plan.call(&params, q_at, k_at).unwrap();
                let mut bias = Vec::new();
                for b in 0..*batch {
                    let symmetric = alibi.form == Form::Symmetric;
                    bias.extend(reference::alibi::bias(&slopes, symmetric, &floats(q_at, b), &floats(k_at, b)));
                }
                let scores: Vec<f64> = tiles::normal(5, bias.len());
                for tile in tiles::SPLITS {
                    let tiles = Tiles::of_bias(&call, *batch, tile);
                    // The product and the sum are rounded as the reference rounds them.
                    let sum: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + b).collect();
                    assert_eq!(tiles.add(&scores), sum, "{alibi}, {name}, tiles {tile:?}");
                    assert!(tiles.adjoint(&scores).1.is_empty());
                }
                let mut matrix = vec![f64::NAN; bias.len()];
                call.materialise_bias(ViewMut::new(&mut matrix, [*batch, 3, q_at.len(), k_at.len()]).unwrap())
                    .unwrap();
                assert_eq!(matrix, bias, "{alibi}, {name}");
            }
        }
    }

    /// A range, the same ids as a list and the same as floats are the same bits, also in f32.
    #[test]
    fn ids_and_ranges_give_the_same_bits() {
        let ids: Vec<i64> = (100..140).collect();
        let floats: Vec<f64> = ids.iter().map(|id| *id as f64).collect();
        let alibi = Alibi::new().with_slopes(Slopes::Given(vec![0.3]));
        let bias = |at: &Positions| {
            let mut out = vec![f32::NAN; 40 * 40];
            alibi_bias(&alibi, at, at, ViewMut::new(&mut out, [1, 40, 40]).unwrap()).unwrap();
            out
        };
        let range = bias(&Positions::range(100..140));
        assert_eq!(range, bias(&Positions::whole(&ids)));
        assert_eq!(range, bias(&Positions::real(&floats).unwrap()));
        assert_eq!(range[39 * 40], -(0.3f32 * 39.0));
    }

    #[test]
    fn slopes_of_both_rules_are_those_of_the_reference() {
        for heads in 1..=256 {
            let (bloom, mpt) = (alibi_slopes(heads).unwrap(), alibi_slopes_mpt(heads, 8.0).unwrap());
            assert_eq!(bloom, mpt, "{heads} heads");
            // The reference raises a rounded base to the power h, whose relative error is at most h + 1 half-ulps (powi: two roundings per factor).
            for (h, (given, expected)) in bloom.iter().zip(reference::alibi::slopes(heads)).enumerate() {
                assert!(
                    (given / expected - 1.0).abs() <= (3 * h + 4) as f64 * f64::EPSILON,
                    "{heads} heads, head {h}"
                );
            }
            for max in [4.0, 8.0, 11.5] {
                let (given, expected) = (alibi_slopes_mpt(heads, max).unwrap(), reference::alibi::slopes_mpt(heads, max));
                // Two functions of the mathematical library (1 ulp each), a division, and an exponent below 2⁴ rounded twice before it is raised.
                assert_eq!(given.len(), heads);
                for (given, expected) in given.iter().zip(expected) {
                    assert!((given / expected - 1.0).abs() <= 24.0 * f64::EPSILON, "{heads} heads, max {max}");
                }
            }
        }
        assert_eq!(alibi_slopes(3).unwrap(), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
        // 12 heads: the last four are every second slope of 16 heads.
        assert_eq!(alibi_slopes(12).unwrap()[8..], [-0.5f64, -1.5, -2.5, -3.5].map(f64::exp2));
    }

    #[test]
    fn slopes_that_do_not_fit_are_refused() {
        assert_eq!(alibi_slopes(0), Err(Error::Zero { what: "heads" }));
        assert!(alibi_slopes(usize::MAX).is_err());
        assert!(alibi_slopes_mpt(4, 0.0).is_err() && alibi_slopes_mpt(4, f64::NAN).is_err());
        let plan = |slopes: Vec<f64>| Encoding::from(Alibi::new().with_slopes(Slopes::Given(slopes))).plan(Dims::new(8, 2).unwrap());
        assert!(matches!(plan(vec![0.5]), Err(Error::Shape { .. })));
        assert!(matches!(plan(vec![0.5, f64::INFINITY]), Err(Error::Invalid { .. })));
    }

    /// Threads of rope_and_peers E20. Off by one (paiml/aprender#2143): a token and itself have bias 0, its neighbour −m. Sign: the past is penalised. Decoding
    /// (ml-explore/mlx#343, keras-hub#2862): a decoded row is the last row of the whole matrix. Slopes for head counts that are no power of two: not 2^(−8h/H).
    /// BLOOM's and MPT's tensors (mosaicml/llm-foundry#186) differ from ours by a constant per row and head. Left padding shifts nothing.
    #[test]
    fn bug_family_20_alibi_sign_offset_slopes_and_padding() {
        const HEADS: usize = 6;
        const T: usize = 9;
        let slopes = alibi_slopes(HEADS).unwrap();
        assert_ne!(slopes[0], (-8.0f64 / HEADS as f64).exp2());
        let (at, mut full) = (Positions::range(0..T as i64), vec![f64::NAN; HEADS * T * T]);
        let alibi = Alibi::new();
        alibi_bias(&alibi, &at, &at, ViewMut::new(&mut full, [HEADS, T, T]).unwrap()).unwrap();
        let entry = |h: usize, i: usize, j: usize| full[(h * T + i) * T + j];
        for h in 0..HEADS {
            assert_eq!(
                (entry(h, 4, 4), entry(h, 4, 3), entry(h, 4, 0)),
                (0.0, -slopes[h], -4.0 * slopes[h])
            );
        }

        let mut row = vec![f64::NAN; HEADS * T];
        let last = Positions::range(T as i64 - 1..T as i64);
        alibi_bias(&alibi, &last, &at, ViewMut::new(&mut row, [HEADS, 1, T]).unwrap()).unwrap();
        for h in 0..HEADS {
            assert_eq!(row[h * T..(h + 1) * T], full[(h * T + T - 1) * T..][..T]);
        }

        let (mut bloom, mut mpt) = (vec![f64::NAN; HEADS * T], vec![f64::NAN; HEADS * T]);
        alibi_bloom(ViewMut::new(&mut bloom, [HEADS, 1, T]).unwrap()).unwrap();
        alibi_mpt(8.0, ViewMut::new(&mut mpt, [HEADS, 1, T]).unwrap()).unwrap();
        for h in 0..HEADS {
            for i in 0..T {
                for j in 0..T {
                    // Each product is rounded: the largest is 8 · 0.5.
                    let close = |x: f64| (x - entry(h, i, j)).abs() <= 4.0 * f64::EPSILON;
                    assert!(close(bloom[h * T + j] - slopes[h] * i as f64));
                    assert!(close(mpt[h * T + j] + slopes[h] * (T - 1 - i) as f64));
                }
            }
        }

        let mask: Vec<bool> = (0..T + 3).map(|t| t >= 3).collect();
        let (padded_at, n) = (Positions::from_padding(&mask, 1).unwrap(), T + 3);
        let mut padded = vec![f64::NAN; HEADS * n * n];
        alibi_bias(&alibi, &padded_at, &padded_at, ViewMut::new(&mut padded, [HEADS, n, n]).unwrap()).unwrap();
        let mut padded_bloom = vec![f64::NAN; HEADS * n];
        alibi_bloom_padded(
            View::new(&mask, [1, n]).unwrap(),
            ViewMut::new(&mut padded_bloom, [HEADS, 1, n]).unwrap(),
        )
        .unwrap();
        for h in 0..HEADS {
            assert_eq!(padded_bloom[h * n..h * n + 3], [0.0; 3]);
            assert_eq!(padded_bloom[h * n + 3..(h + 1) * n], bloom[h * T..(h + 1) * T]);
            for i in 0..T {
                assert_eq!(padded[(h * n + i + 3) * n + 3..][..T], full[(h * T + i) * T..][..T]);
                assert_eq!(padded[(h * n + i + 3) * n..][..3], [0.0; 3]);
            }
        }
    }

    #[test]
    fn literal_tensors_refuse_other_shapes() {
        let mut out = [0.0f32; 8];
        assert!(matches!(
            alibi_bloom(ViewMut::new(&mut out, [2, 2, 2]).unwrap()),
            Err(Error::Shape { .. })
        ));
        assert!(matches!(
            alibi_bloom(ViewMut::new(&mut out[..0], [0, 1, 4]).unwrap()),
            Err(Error::Zero { .. })
        ));
        let mask = [true; 6];
        let mask = View::new(&mask, [2, 3]).unwrap();
        assert!(matches!(
            alibi_bloom_padded(mask, ViewMut::new(&mut out, [2, 1, 4]).unwrap()),
            Err(Error::Shape { .. })
        ));
        assert!(matches!(
            alibi_bloom_padded(mask, ViewMut::new(&mut out[..3], [1, 1, 3]).unwrap()),
            Err(Error::NotDivisible { .. })
        ));
    }

    #[test]
    fn plain_data_is_short() {
        let text = r#"{"method":"alibi","slopes":{"mpt":{"bias_max":8.0}}}"#;
        let method: crate::Method = serde_json::from_str(text).unwrap();
        assert_eq!(method, Alibi::new().with_slopes(Slopes::Mpt { bias_max: 8.0 }).into());
        assert_eq!(method.to_string(), "alibi(causal, slopes by MPT's rule, bias max 8)");
    }
}
