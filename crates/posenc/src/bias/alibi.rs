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
//! **Cost.** No parameters, no table. A multiply and an add per pair. Distances are exact in f32 up to 2²⁴.
//!
//! ```
//! use posenc::{Alibi, Dims, Encoding, Positions, ViewMut};
//! let plan = Encoding::from(Alibi::new()).plan(Dims::new(16, 2)?)?;
//! let (params, mut row) = (plan.init::<f32>(0)?, [0.0f32; 2 * 4]);
//! let call = plan.call(&params, &Positions::range(3..4), &Positions::range(0..4))?; // the fourth token is decoded
//! call.materialise_bias(ViewMut::new(&mut row, [1, 2, 1, 4])?)?;
//! assert_eq!(row[..4], [-3.0 / 16.0, -2.0 / 16.0, -1.0 / 16.0, 0.0]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::bias::matrix::write_matrix;
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{KeyRun, Met, check_one_axis};
use crate::error::{Error, Result};
use crate::kernels::{self, Present};
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::steps::owned;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, Tile};
use crate::view::{View, ViewMut};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A penalty proportional to the distance, with a slope per head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
        q_at.check_len()?;
        k_at.check_len()?;
        let slopes = self.slopes.for_heads(heads)?;
        Ok(AlibiTerm {
            slopes: slopes.into_iter().map(R::of).collect(),
            symmetric: self.form == Form::Symmetric,
            whole: q_at.check_whole().is_ok() && k_at.check_whole().is_ok(),
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
    if out.is_empty() {
        // Of no keys there may be any number of rows.
        check_heads(rows / batch)?;
        return write_rows(&[], out, |_, _| 0.0);
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

    fn advance<R: Real>(&self, _dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let [q_at, k_at] = at;
        let term = owned(prepared).and_then(|PreparedAlibi::<R>(term)| Arc::get_mut(term));
        match (term, check_one_axis("alibi", q_at, k_at)) {
            (Some(term), Ok(())) => {
                term.whole = q_at.check_whole().is_ok() && k_at.check_whole().is_ok();
                true
            }
            _ => false,
        }
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
    /// All positions are whole numbers.
    whole: bool,
}

impl<R: Real> AlibiTerm<R> {
    fn put<const WRITE: bool>(&self, at: &Place<'_>, s: &mut BlockMut<'_, R>) {
        let (on, slope, symmetric) = (Present::current(), self.slopes[at.head], self.symmetric);
        if !self.whole {
            if WRITE {
                s.clear();
            }
            return self.add_fractional(at, s);
        }
        match Met::of(&at.k_at, s.cols) {
            Met::Runs(runs) => {
                if WRITE && runs.clone().next().is_none_or(|run| run.cols.len() < s.cols) {
                    s.clear();
                }
                for KeyRun { cols, first } in runs {
                    let first = |i: usize| Some(first.saturating_sub(at.q_at.whole(i)?));
                    match WRITE {
                        true => kernels::write_ramp(on, s, &cols, &first, slope, symmetric),
                        false => kernels::add_ramp(on, s, &cols, &first, slope, symmetric),
                    }
                }
            }
            Met::Scattered => {
                let query = |i: usize| at.q_at.whole(i);
                match WRITE {
                    true => kernels::write_ramp_at(on, s, &at.k_at, &query, slope, symmetric),
                    false => kernels::add_ramp_at(on, s, &at.k_at, &query, slope, symmetric),
                }
            }
        }
    }

    fn add_fractional(&self, at: &Place<'_>, s: &mut BlockMut<'_, R>) {
        let slope = self.slopes[at.head];
        for i in 0..s.rows {
            let row = s.row(i);
            let Some(q) = at.q_at.get(i) else { continue };
            for (j, s) in row.iter_mut().enumerate() {
                let Some(k) = at.k_at.get(j) else { continue };
                let distance = if self.symmetric { -(k - q).abs() } else { k - q };
                *s += slope * saturated(distance);
            }
        }
    }
}

impl<R: Real> ScoreTerm<R> for AlibiTerm<R> {
    fn needs(&self) -> Needs {
        Needs::bias(0).by_distance()
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<false>(&tile.at, s);
    }

    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<true>(&tile.at, s);
    }
}

/// A distance past what R holds is the farthest that it holds: a slope of 0 times ∞ would be NaN.
pub(super) fn saturated<R: Real>(distance: f64) -> R {
    let near = R::of(distance);
    match near.is_finite() {
        true => near,
        false if distance > 0.0 => R::MAX,
        false => -R::MAX,
    }
}

#[cfg(test)]
mod tests;
