//! # Rotary positions (RoPE)
//!
//! **Idea.** Turn each pair of a query's and a key's coordinates by an angle proportional to its position; the product of the two then depends on the
//! difference of the positions alone.
//!
//! **Paper.** Su, Lu, Pan, Murtadha, Wen, Liu: *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021, arXiv 2104.09864.
//!
//! **Maths.** For pair i = 0 … r/2 − 1 of the first r = `rotary_dim` coordinates, at position p:
//! ```text
//! θ(p, i) = p · base^(−2i / r)
//! pair    x′ = x cos θ − y sin θ,   y′ = x sin θ + y cos θ
//! matrix  (x′, y′)ᵀ = [[cos θ, −sin θ], [sin θ, cos θ]] (x, y)ᵀ
//! complex z′ = z · e^{iθ},   z = x + iy
//! ```
//!
//! **Shapes.** Queries `[batch, heads, seq, head_dim]` and keys `[batch, kv_heads, seq, head_dim]`, after the projection; values are not touched.
//!
//! **Conventions that differ between codebases.** Which coordinates make a pair is [`Pairing`], and never a default: checkpoints of one convention loaded with the other
//! compute nonsense without an error. Where less than the whole head turns (GPT-NeoX, Phi), the exponents run over the rotated part. Models were trained with angles
//! rounded to f32; [`Precision::Reference`] reproduces them.
//!
//! **Cost.** No parameters. O(T · r/2) cosines and sines per call, shared by all layers and heads; a multiply-add pass over q and k.
//!
//! ```
//! use posenc::{Pairing, Positions, View, ViewMut, rotate::rotary::rotate};
//! let x = [1.0f32, 0.0, 1.0, 0.0];
//! let mut out = [0.0; 4];
//! rotate(View::new(&x, [1, 1, 1, 4])?, ViewMut::new(&mut out, [1, 1, 1, 4])?, &Positions::whole(&[1]), Pairing::Interleaved, 10_000.0)?;
//! assert!((out[0] - 1.0f32.cos()).abs() < 1e-6 && (out[1] - 1.0f32.sin()).abs() < 1e-6);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::Parts;
use crate::dims::Dims;
use crate::error::{Error, Result};
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::rotate::{Axes, Frequencies, LengthPolicy, Rotation, RotationPair, Scaling, Side, Turn, XPos, trained};
use crate::steps::owned;
use crate::view::{View, ViewMut};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Which coordinates turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// (0, 1), (2, 3), …: RoFormer, GPT-J, Meta's Llama, GLM, Cohere.
    Interleaved,
    /// (0, r/2), (1, r/2 + 1), …: GPT-NeoX and Llama in transformers ("rotate half").
    Halves,
    /// Pairs are read as neighbours and written as halves: DeepSeek-V3 in transformers. Scores are those of [`Pairing::Interleaved`]; the turned rows are in another order.
    #[doc(alias = "rope_interleave")]
    InterleavedToHalves,
    /// The turning part is two halves, and each is paired by halves: Gemma 4's pictures, where one half is for rows and the other for columns.
    HalvesTwice,
}

/// Which coordinates of a head turn, where not all do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// The first: nearly all models.
    #[default]
    Leading,
    /// The last: the rotary part of DeepSeek's heads stands behind the part without positions.
    Trailing,
}

/// How angles are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// The angle in f64, rounded once at the end: the mathematical rotation.
    #[default]
    Exact,
    /// Every operation from the base to the angle rounded to f32, as in the code that trained the models: the rotation that a checkpoint knows.
    Reference,
}

/// How a rotation of numbers in half precision (f16, bf16) is rounded. Numbers in f32 and f64 are rounded by each step of their own arithmetic, whatever is said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Tables and arithmetic in f32, each turned number rounded once when it is stored: FlashAttention's, vLLM's and Liger's kernels, and those models in transformers that turn in f32 by f32
    /// tables (ERNIE 4.5, Llama 4, DeepSeek-V2, the pictures of Qwen2-VL). In attention it is not rounded at all: scores are of the f32 numbers.
    #[default]
    Once,
    /// Tables rounded to the data's type, arithmetic in f32: Cohere in transformers.
    Tables,
    /// Tables, both products and their sum each rounded to the data's type: eager PyTorch, as Llama and most models in transformers do it.
    EachStep,
}

/// Rotary positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "RotaryPositionalEmbedding")]
#[doc(alias = "PartialRotaryPositionalEmbedding")]
#[doc(alias = "RotaryEmbedding")]
#[doc(alias = "RoPE")]
pub struct Rotary {
    /// Which coordinates turn together.
    pub pairing: Pairing,
    /// Base of the frequencies, θ in configuration files: 10 000 in the paper.
    #[serde(default = "crate::encoding::written::base")]
    pub base: f64,
    /// Leading coordinates of a head that turn; all if `None`.
    #[serde(default)]
    pub rotary_dim: Option<usize>,
    /// How angles are rounded.
    #[serde(default)]
    pub precision: Precision,
    /// How frequencies are changed to read more tokens than were trained on.
    #[serde(default)]
    pub scaling: Scaling,
    /// Which length a scaling looks at, where it looks at one.
    #[serde(default, skip_serializing_if = "LengthPolicy::is_per_call")]
    pub length: LengthPolicy,
    /// Which end of the head turns, where not all of it does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slice: Slice,
    /// Which axis of the positions turns which pair.
    #[serde(default, skip_serializing_if = "is_default")]
    pub axes: Axes,
    /// The width r in the exponents, where it is not `rotary_dim` (or one axis' share of it). transformers cuts a share of a head to a whole number, which may be odd: then it turns one
    /// coordinate more, with exponents over the odd number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exponent_dim: Option<usize>,
    /// Turn the other way, by −θ (nanochat). Scores are the same where queries and keys both do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reversed: bool,
    /// Scores fade with distance besides: xPos.
    #[serde(default, skip_serializing_if = "is_default")]
    #[doc(alias = "xpos")]
    pub decay: Option<XPos>,
    /// The width of all heads together turns as one, before it is split into heads, so that each head has frequencies of its own: EfficientLoFTR in transformers. Needs
    /// [`Pairing::Interleaved`] and as many key heads as query heads. Functions of a `head_dim` then take the whole width.
    #[serde(default, skip_serializing_if = "is_default")]
    pub across_heads: bool,
    /// How numbers in half precision are rounded on the way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rounding: Rounding,
}

/// Written only where it says something, so that what earlier versions wrote is what is written still.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Rotary {
    /// The whole head turns, base 10 000, exact angles.
    pub fn new(pairing: Pairing) -> Rotary {
        Rotary {
            pairing,
            base: 10_000.0,
            rotary_dim: None,
            precision: Precision::Exact,
            scaling: Scaling::Unscaled,
            length: LengthPolicy::PerCall,
            slice: Slice::Leading,
            axes: Axes::One,
            exponent_dim: None,
            reversed: false,
            decay: None,
            across_heads: false,
            rounding: Rounding::Once,
        }
    }

    /// The same with another base.
    pub fn with_base(self, base: f64) -> Rotary {
        Rotary { base, ..self }
    }

    /// The same with only the first `rotary_dim` coordinates turning.
    pub fn with_rotary_dim(self, rotary_dim: usize) -> Rotary {
        Rotary {
            rotary_dim: Some(rotary_dim),
            ..self
        }
    }

    /// The same with scaled frequencies.
    ///
    /// ```
    /// use posenc::rotate::{Scaling, Yarn};
    /// use posenc::{Pairing, Rotary};
    /// let qwen = Rotary::new(Pairing::Halves).with_base(1e6).with_scaling(Scaling::Yarn(Yarn::new(4.0, 32_768)));
    /// assert_eq!(qwen.to_string(), "rotary(halves, base 1000000, YaRN ×4 of 32768)");
    /// ```
    pub fn with_scaling(self, scaling: Scaling) -> Rotary {
        Rotary { scaling, ..self }
    }

    /// The same with scores that fade with distance.
    ///
    /// ```
    /// use posenc::rotate::XPos;
    /// use posenc::{Pairing, Rotary};
    /// assert_eq!(Rotary::new(Pairing::Interleaved).with_decay(XPos::new()).to_string(), "rotary(interleaved, base 10000, xPos over 512 positions)");
    /// ```
    pub fn with_decay(self, decay: XPos) -> Rotary {
        Rotary {
            decay: Some(decay),
            ..self
        }
    }

    /// Coordinates of a head that turn.
    pub(crate) fn width(&self, head_dim: usize) -> usize {
        self.rotary_dim.unwrap_or(head_dim)
    }

    /// What a call of `length` tokens turns by, for a head of `head_dim` coordinates: in f64, or in [`Precision::Reference`] the numbers that f32 code computes; of a length that is fixed,
    /// whatever the call's.
    ///
    /// # Errors
    /// As planning: an odd or zero width, a width past the head, a base that is not a positive number, or a scaling that is out of range.
    pub fn frequencies(&self, head_dim: usize, length: usize) -> Result<Frequencies> {
        let length = self.length.resolve(length);
        self.check_width(head_dim)?;
        let width = self.width(head_dim);
        let exponent_dim = self.exponent_dim.unwrap_or_else(|| self.axes.exponent_dim(width));
        if exponent_dim > Dims::WIDEST {
            return Err(Error::Invalid {
                what: "exponent_dim",
                given: exponent_dim.to_string(),
                expected: "at most 2^24",
            });
        }
        let one_axis = match self.precision {
            Precision::Exact => self.scaling.frequencies(self.base, exponent_dim, length)?,
            Precision::Reference => trained::frequencies(&self.scaling, self.base, exponent_dim, length)?,
        };
        self.axes.arrange(one_axis, width / 2)
    }

    /// The rotation of a stream of tokens at these positions, for heads of `head_dim`. Where the scaling looks at the length of a call, it is that of these
    /// positions: the largest, and one.
    ///
    /// # Errors
    /// As [`Rotary::rotation_of`], and where queries and keys do not turn alike: with a [`Rotary::decay`].
    pub fn rotation<R: Real>(&self, head_dim: usize, at: &Positions) -> Result<Rotation<R>> {
        self.check_sides()?;
        self.rotation_of(Side::Query, head_dim, at)
    }

    /// The rotation of queries, or of keys, at these positions, as [`Rotary::rotation`].
    ///
    /// # Errors
    /// As [`Rotary::frequencies`], a position out of [`XPos::reach`], positions with several axes or more than [`Positions::LONGEST`] tokens, a position whose angle is not finite, or one past
    /// 2²⁴ in [`Precision::Reference`]: f32, which that is made of, does not tell it from its neighbour.
    pub fn rotation_of<R: Real>(&self, side: Side, head_dim: usize, at: &Positions) -> Result<Rotation<R>> {
        self.rotation_in(side, head_dim, at, self.length_of(&[at]), Default::default())
    }

    /// As [`Rotary::rotation`], in the memory of `into`, which it replaces: a decoding loop makes a table per step, in memory that grows to the largest.
    ///
    /// # Errors
    /// As [`Rotary::rotation`]; `into` is then as it was, or empty.
    ///
    /// ```
    /// use posenc::{Pairing, Positions, Rotary, Rotation};
    /// let rotary = Rotary::new(Pairing::Halves);
    /// let mut rotation: Rotation<f32> = rotary.rotation(64, &Positions::range(0..1))?;
    /// for step in 1..4 {
    ///     rotary.rotation_into(64, &Positions::range(step..step + 1), &mut rotation)?;
    /// }
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn rotation_into<R: Real>(&self, head_dim: usize, at: &Positions, into: &mut Rotation<R>) -> Result<()> {
        self.check_sides()?;
        let memory = into.take_tables();
        *into = self.rotation_in(Side::Query, head_dim, at, self.length_of(&[at]), memory)?;
        Ok(())
    }

    /// Queries and keys turn alike.
    fn check_sides(&self) -> Result<()> {
        match self.decay {
            None => Ok(()),
            Some(_) => Err(Error::Unsupported {
                method: "rotary",
                what: "xPos multiplies queries and divides keys; say which with Rotary::rotation_of",
            }),
        }
    }

    /// Tokens of a call, where the scaling asks for them: the largest position of any row, and one, as transformers counts.
    pub(crate) fn length_of(&self, streams: &[&Positions]) -> usize {
        if !self.looks_at_calls() {
            return 0;
        }
        let largest = streams.iter().filter_map(|at| at.largest()).fold(-1.0, f64::max);
        // Saturating: a position past usize is as far as any.
        (largest.floor() + 1.0) as usize
    }

    /// The rotation in a call of `length` tokens, in memory that was another's.
    fn rotation_in<R: Real>(&self, side: Side, head_dim: usize, at: &Positions, length: usize, memory: [Vec<R>; 2]) -> Result<Rotation<R>> {
        let Frequencies { pairs, axes, table_factor } = self.frequencies(head_dim, length)?;
        at.check_len()?;
        if self.precision == Precision::Reference {
            at.check_counted(f32::EXACT_INTEGERS)?;
        }
        // Of a pair's axis, the one to read: all read the same where only one is given.
        let read = match (at.axes(), self.axes.count()) {
            (given, expected) if given == expected => usize::MAX,
            (1, _) if self.axes.takes_one() => 0,
            (1, _) => {
                return Err(Error::Invalid {
                    what: "axes of the positions",
                    given: "1".into(),
                    expected: "as many as this rotation has: Positions::grid or Positions::real_axes",
                });
            }
            _ if self.axes == Axes::One => {
                return Err(Error::Unsupported {
                    method: "rotary",
                    what: "positions have several axes; this rotation has one",
                });
            }
            (given, _) => {
                return Err(Error::Invalid {
                    what: "axes of the positions",
                    given: given.to_string(),
                    expected: "one for all, or as many as this rotation has",
                });
            }
        };
        let axes: Vec<usize> = axes.iter().map(|axis| *axis.min(&read)).collect();
        let rotation = self.rotation_at(at, &pairs, &axes, table_factor, memory)?;
        let rotation = rotation.of(self.slice).rounded(self.rounding);
        let Some(decay) = self.decay else { return Ok(rotation) };
        let position = |b: usize, t: usize, i: usize| at.at(axes[i], b, t, 1).get(0);
        for (b, t) in (0..at.batch()).flat_map(|b| (0..at.len()).map(move |t| (b, t))) {
            for i in 0..pairs.len() {
                position(b, t, i).map_or(Ok(()), |p| decay.check_position::<R>(p))?;
            }
        }
        Ok(rotation.stretched(|b, t, i| position(b, t, i).map_or(1.0, |p| decay.factor(side, p, i, pairs.len()))))
    }

    /// The rotation of pairs by their frequencies times positions on their axes.
    fn rotation_at<R: Real>(
        &self,
        at: &Positions,
        frequencies: &[f64],
        axes: &[usize],
        table_factor: f64,
        memory: [Vec<R>; 2],
    ) -> Result<Rotation<R>> {
        let shape = [at.batch(), at.len(), frequencies.len()];
        let sign = if self.reversed { -1.0 } else { 1.0 };
        let on_axis = |b: usize, t: usize, axis: usize| at.at(axis, b, t, 1).get(0);
        if self.precision == Precision::Exact && R::EXACT_INTEGERS < f64::EXACT_INTEGERS {
            let frequencies: Vec<f64> = frequencies.iter().map(|f| sign * f).collect();
            return Rotation::from_positions(shape, self.pairing, table_factor, memory, &frequencies, axes, on_axis);
        }
        // Tables in f64 are what others are held to: each angle by itself. And so is one that is rounded to f32. In reference precision frequencies are f32 numbers already.
        let rounded: Vec<f32> = frequencies.iter().map(|f| *f as f32).collect();
        let several = self.axes != Axes::One;
        Rotation::from_angles(shape, self.pairing, table_factor, memory, |b, t, angles| {
            let Some(first) = on_axis(b, t, 0) else { return Ok(false) };
            let mut p = first;
            for i in 0..angles.len() {
                if several {
                    // A token has a position on all axes or on none.
                    p = on_axis(b, t, axes[i]).unwrap_or(first);
                }
                angles[i] = match self.precision {
                    Precision::Exact => sign * (p * frequencies[i]),
                    Precision::Reference => sign * f64::from(p as f32 * rounded[i]),
                };
                if !angles[i].is_finite() {
                    return Err(infinite_angle(p));
                }
            }
            Ok(true)
        })
    }

    /// The width that turns as one, of heads of these widths.
    fn turning_width(&self, dims: &Dims) -> Result<usize> {
        if !self.across_heads {
            return Ok(dims.head_dim);
        }
        if self.pairing != Pairing::Interleaved
            || self.rotary_dim.is_some()
            || !dims.head_dim.is_multiple_of(2)
            || dims.heads != dims.kv_heads
        {
            return Err(Error::Unsupported {
                method: "rotary",
                what: "a width that turns before it is split into heads must be paired by neighbours, turn whole, have even heads and as many key heads as query heads",
            });
        }
        dims.heads.checked_mul(dims.head_dim).ok_or(Error::Invalid {
            what: "heads · head_dim",
            given: format!("{} · {}", dims.heads, dims.head_dim),
            expected: "at most 2^24",
        })
    }

    fn check_width(&self, head_dim: usize) -> Result<()> {
        let r = self.width(head_dim);
        if r == 0 {
            return Err(Error::Zero { what: "rotary_dim" });
        }
        if !r.is_multiple_of(2) {
            return Err(Error::OddWidth {
                what: if self.rotary_dim.is_some() { "rotary_dim" } else { "head_dim" },
                width: r,
            });
        }
        if self.pairing == Pairing::HalvesTwice && !r.is_multiple_of(4) {
            return Err(Error::NotDivisible {
                what: "rotary_dim",
                value: r,
                by: "two halves of whole pairs",
                divisor: 4,
            });
        }
        if r > head_dim {
            return Err(Error::Invalid {
                what: "rotary_dim",
                given: r.to_string(),
                expected: "at most head_dim",
            });
        }
        if !(self.base.is_finite() && self.base > 0.0) {
            return Err(Error::Invalid {
                what: "base",
                given: self.base.to_string(),
                expected: "a positive number",
            });
        }
        self.decay.map_or(Ok(()), |decay| decay.check())
    }
}

/// Why a position that is a number has no angle: times its frequency, and rounded as the precision says, it is not one.
pub(crate) fn infinite_angle(position: f64) -> Error {
    Error::Invalid {
        what: "position",
        given: format!("{position:e}"),
        expected: "one whose angle is a finite number in the arithmetic that its precision names",
    }
}

/// Turns `x` `[batch, heads, seq, head_dim]` into `out` at these positions: rotary in one call, in exact precision.
///
/// # Errors
/// An odd or zero width, shapes that differ, positions that do not fit the shape, or one whose angle is not finite.
#[doc(alias = "rotary_embedding")]
#[doc(alias = "apply_rotary_pos_emb")]
pub fn rotate<T: Element>(x: View<'_, T, 4>, out: ViewMut<'_, T, 4>, at: &Positions, pairing: Pairing, base: f64) -> Result<()> {
    Rotary::new(pairing)
        .with_base(base)
        .rotation::<T::Real>(x.shape()[3], at)?
        .apply_into(Turn::Forward, x, out)
}

impl fmt::Display for Rotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairing = match self.pairing {
            Pairing::Interleaved => "interleaved",
            Pairing::Halves => "halves",
            Pairing::InterleavedToHalves => "interleaved, written as halves",
            Pairing::HalvesTwice => "halves, twice",
        };
        write!(f, "rotary({pairing}, base {}", self.base)?;
        if let Some(r) = self.rotary_dim {
            let end = match self.slice {
                Slice::Leading => "first",
                Slice::Trailing => "last",
            };
            write!(f, ", {end} {r} of each head")?;
        }
        if let Some(r) = self.exponent_dim {
            write!(f, ", exponents over {r}")?;
        }
        if self.axes != Axes::One {
            write!(f, ", {}", self.axes)?;
        }
        if self.reversed {
            write!(f, ", turning back")?;
        }
        if self.scaling != Scaling::Unscaled {
            write!(f, ", {}", self.scaling)?;
        }
        if let LengthPolicy::Fixed(length) = self.length {
            write!(f, ", as for {length} tokens")?;
        }
        if let Some(XPos { scale_base, center }) = self.decay {
            write!(f, ", xPos over {scale_base} positions")?;
            if center != 0.0 {
                write!(f, " around {center}")?;
            }
        }
        if self.across_heads {
            write!(f, ", across all heads")?;
        }
        if self.precision == Precision::Reference {
            write!(f, ", f32 angles")?;
        }
        match self.rounding {
            Rounding::Once => {}
            Rounding::Tables => write!(f, ", rounded tables")?,
            Rounding::EachStep => write!(f, ", each step rounded")?,
        }
        write!(f, ")")
    }
}

impl Prepare for Rotary {
    fn check(&self, dims: &Dims) -> Result<()> {
        self.frequencies(self.turning_width(dims)?, 0).map(|_| ())
    }

    fn rotates(&self) -> bool {
        true
    }

    fn depends_on_length(&self) -> bool {
        self.looks_at_calls()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let length = self.length_of(&[q_at, k_at]);
        let width = self.turning_width(dims)?;
        let heads = if self.across_heads { dims.heads } else { 1 };
        Ok(Arc::new(PreparedRotary(Arc::new(RotationPair {
            query: self.rotation_in(Side::Query, width, q_at, length, Default::default())?.split(heads),
            key: self.rotation_in(Side::Key, width, k_at, length, Default::default())?.split(heads),
        }))))
    }

    fn advance<R: Real>(&self, dims: &Dims, before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let Some(pair) = owned(prepared).and_then(|PreparedRotary::<R>(pair)| Arc::get_mut(pair)) else {
            return false;
        };
        self.go_on(dims, before, at, pair).is_ok_and(|gone_on| gone_on)
    }
}

impl Rotary {
    /// Takes the rotations of queries and keys from the positions `before` over to `at`; `false` where tokens that both have turn by other frequencies now.
    fn go_on<R: Real>(&self, dims: &Dims, before: [&Positions; 2], at: [&Positions; 2], pair: &mut RotationPair<R>) -> Result<bool> {
        let [length, old] = [at, before].map(|at| self.length_of(&at));
        let width = self.turning_width(dims)?;
        let heads = if self.across_heads { dims.heads } else { 1 };
        let same = length == old || self.frequencies(width, length)? == self.frequencies(width, old)?;
        let Some(kept) = at[1].in_common(before[1]).filter(|_| same) else {
            return Ok(false);
        };
        let rest = at[1].rest(kept);
        let memory = pair.query.take_tables();
        pair.query = self.rotation_in(Side::Query, width, at[0], length, memory)?.split(heads);
        // A decoding step has its queries at its last keys.
        let alike = self.decay.is_none() && rest == *at[0];
        if alike {
            Ok(pair.key.go_on(kept, &pair.query))
        } else {
            let rest = self.rotation_in(Side::Key, width, &rest, length, Default::default())?.split(heads);
            Ok(pair.key.go_on(kept, &rest))
        }
    }
}

struct PreparedRotary<R>(Arc<RotationPair<R>>);

impl<R: Real> Prepared<R> for PreparedRotary<R> {
    fn bind<'p>(&self, _params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.rotations.push(self.0.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_that_are_no_numbers_are_refused() {
        let at = |p| Positions::real(&[0.0, p]).unwrap();
        let exact = Rotary::new(Pairing::Halves);
        let reference = Rotary {
            precision: Precision::Reference,
            ..exact.clone()
        };
        assert!(exact.rotation::<f32>(4, &at(1e39)).is_ok());
        // An f32 counts by one up to 2²⁴ and no further, whole numbers or not.
        for p in [16_777_216.0, -16_777_216.0, 0.5] {
            assert!(reference.rotation::<f32>(4, &at(p)).is_ok());
        }
        for p in [16_777_217.0, -16_777_218.0, 1e39] {
            let refused = reference.rotation::<f32>(4, &at(p)).unwrap_err();
            assert_eq!(
                refused,
                Error::Imprecise {
                    value: p,
                    index: 1,
                    limit: 16_777_216.0
                }
            );
        }
        assert!(reference.rotation::<f32>(4, &Positions::range(16_777_215..16_777_218)).is_err());
        assert!(matches!(
            reference.clone().with_base(1e-80).rotation::<f32>(4, &at(1e7)),
            Err(Error::Invalid { what: "position", .. })
        ));
        assert!(matches!(
            exact.with_base(1e-300).rotation::<f64>(4, &at(1e300)),
            Err(Error::Invalid { what: "position", .. })
        ));
        let unplaced = at(1e39).with_presence(&[true, false]).unwrap();
        assert!(
            reference.rotation::<f32>(4, &unplaced).is_ok(),
            "what a token without a position carries is not read"
        );
    }

    /// Each head's part of a call's rotation is its part of the whole width's, as the twin turns it; a rotation of heads refuses another number of them.
    ///
    /// Bound: two products and a sum of numbers below 4, and angles up to 40 that are rounded twice: 4 · (3 + 80) · 2⁻⁵³.
    #[test]
    fn a_width_that_turns_before_it_is_split_gives_each_head_its_own_frequencies() {
        let rotary = Rotary {
            across_heads: true,
            ..Rotary::new(Pairing::Interleaved)
        };
        let (dims, at) = (Dims::new(24, 3).unwrap(), Positions::whole(&[0, 3, 40]));
        let plan = crate::Encoding::from(rotary.clone()).plan(dims).unwrap();
        let params = plan.init::<f64>(0).unwrap();
        let call = plan.call(&params, &at, &at).unwrap();
        let mut rng = crate::Rng::new(1);
        let mut x: Vec<f64> = (0..3 * 24).map(|_| rng.normal()).collect(); // [seq, heads · head_dim]
        let expected: Vec<f64> = [0.0, 3.0, 40.0]
            .into_iter()
            .zip(x.chunks_exact(24))
            .flat_map(|(p, row)| crate::reference::rotary::by_pairs(row, p, 24, Pairing::Interleaved, 1e4))
            .collect();
        let heads = ViewMut::new(&mut x, [1, 3, 3, 8]).unwrap().swap(1, 2).unwrap();
        call.rotations()[0].key.apply(Turn::Forward, heads).unwrap();
        for (i, (x, e)) in x.iter().zip(&expected).enumerate() {
            assert!((x - e).abs() <= 4.0 * 83.0 * 0.5 * f64::EPSILON, "column {i}: {x} and {e}");
        }
        let two = ViewMut::new(&mut x[..48], [1, 2, 3, 8]).unwrap();
        assert!(matches!(
            call.rotations()[0].key.apply(Turn::Forward, two),
            Err(Error::Shape { .. })
        ));
        for refused in [
            (
                Rotary {
                    pairing: Pairing::Halves,
                    ..rotary.clone()
                },
                dims,
            ),
            (rotary.clone().with_rotary_dim(4), dims),
            (rotary.clone(), Dims::new(24, 4).unwrap().with_kv_heads(2).unwrap()),
            (rotary.clone(), Dims::new(15, 5).unwrap()),
        ] {
            let plan = crate::Encoding::from(refused.0).plan(refused.1);
            assert!(matches!(plan, Err(Error::Unsupported { method: "rotary", .. })));
        }
    }

    /// PyTorch 2's `1.0 / (1e6 ** (torch.arange(0, 96, 2).float() / 96))`, whose entries 29 and 41 are 5 ulp from the nearest numbers, at position 1.
    #[test]
    fn reference_frequencies_are_rounded_where_pytorch_rounds() {
        let reference = Rotary {
            precision: Precision::Reference,
            ..Rotary::new(Pairing::Halves).with_base(1e6)
        };
        let rotation: Rotation<f64> = reference.rotation(96, &Positions::whole(&[1])).unwrap();
        for (pair, bits) in [(29, 0x3978_a80f), (41, 0x36fb_9f67), (46, 0x35ee_ad3b), (47, 0x35b2_fb6f)] {
            assert_eq!(rotation.sin(0, 0)[pair], f64::from(f32::from_bits(bits)).sin(), "pair {pair}");
        }
    }
}
