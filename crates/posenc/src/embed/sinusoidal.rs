//! # Sinusoidal positions
//!
//! **Idea.** A position is written as the hands of many clocks: sines and cosines of frequencies from one radian per token down to one per `base` tokens. Nothing
//! is learned, any position has a vector, and a shift by k is a rotation of each pair, so the product of two vectors depends on their distance alone.
//!
//! **Paper.** Vaswani and others: *Attention Is All You Need*, 2017, arXiv 1706.03762, section 3.5.
//!
//! **Maths.** For a vector of d columns, frequencies ω(i) with i = 0 … ⌈d/2⌉ − 1, at position p:
//! ```text
//! ω(i) = base^(−2i / d)                  SinusoidExponent::Paper
//! ω(i) = base^(−i / (⌊d/2⌋ − shift))     SinusoidExponent::Half: tensor2tensor, fairseq, Whisper (shift 1), diffusion steps (shift 0 or 1)
//! PE(p)[sine column i] = sin(p · ω(i)),   PE(p)[cosine column i] = cos(p · ω(i))
//! PE(p) · PE(p + k) = Σᵢ cos(k · ω(i)),   ‖PE(p)‖² = d / 2            (d even)
//! y(n, t) = x(n, t) + PE(p(n, t));   adjoint: dx = dy, and nothing is learned
//! ```
//! The paper also multiplies token embeddings by √d before the sum; that is the caller's, because it acts on x.
//!
//! **Shapes.** No parameters. Embeddings `[batch, seq, model_dim]`; positions `(T,)`, `(B, T)` or, for an image, two axes; whole or fractional, negative, of any size.
//!
//! **Conventions that differ between codebases.** The same words mean a dozen tables; a checkpoint read with another one computes nonsense without an error.
//!
//! | constructor | columns | exponent | odd d | who |
//! |---|---|---|---|---|
//! | [`Sinusoidal::paper`] | sin, cos, sin, cos, … | 2i/d | no last cosine | the paper, XLM, SpeechT5, VideoMAE, Conformer, openlanguagemodel |
//! | [`Sinusoidal::marian`] | \[sin ‖ cos\] | 2i/d | one more sine | Marian, Pegasus, RoFormer, Informer; CTRL; Transformer-XL, XLNet |
//! | [`Sinusoidal::whisper`] | \[sin ‖ cos\] | i/(d/2 − 1) | zero in the last column | tensor2tensor, Whisper, Qwen audio, TimesFM, Gemma 3n audio |
//! | [`Sinusoidal::fairseq`] | \[sin ‖ cos\] | i/(d/2 − 1) | zero in the last column | M2M-100, NLLB, FSMT, Speech2Text, XGLM: first token at `padding_idx + 1`, row `padding_idx` is zero |
//! | [`Sinusoidal::musicgen`] | \[cos ‖ sin\] | i/(d/2 − 1) | zero in the last column | MusicGen |
//! | [`Sinusoidal::timestep`] | either half first | i/(d/2 − shift) | zero in the last column | diffusion steps: DDPM, diffusers, diffusion policies |
//! | [`Sinusoidal::mae`] | \[sin h ‖ cos h ‖ sin w ‖ cos w\] | 2i/(d/2) | refused | ViT-MAE, AIMv2, RT-DETR (w first: [`Sinusoidal::with_axes`]) |
//! | [`Sinusoidal::detr`] | h: sin, cos, …; then w | 2i/(d/2) | refused | DETR and its line, on [`pixel_positions`](crate::embed::pixel_positions) |
//!
//! Transformer-XL's descending order is not another table: it is positions T − 1 … 0 (XLNet: klen … 1 − qlen). A class token in front of an image is a token without a position
//! ([`Positions::after_unplaced`]) and adds zeros. CTRL writes 2⌊j/2⌋/d for column j and then sorts even columns to the front, which is Marian's table.
//! The exponent i/(d/2 − 1) divides by zero for d = 2; here that is a typed error (tensor2tensor and TimesFM take ω = 1, others compute NaN).
//!
//! Angles are f64 and rounded last ([`Precision::Exact`]), which is also what Marian's, MAE's and AIMv2's own code does. The others make tables in f32:
//! [`Precision::Reference`] rounds frequency and angle as they do (at position 1500 the two differ by up to 1e-4, and in proportion to the position).
//!
//! **Cost.** T · ⌈d/2⌉ sines and cosines per call, shared by all layers; one read-modify-write sweep over x.
//!
//! ```
//! use posenc::{Positions, Sinusoidal, ViewMut, embed::sinusoid};
//! let mut table = [f32::NAN; 8];
//! sinusoid(&Sinusoidal::paper(), &Positions::range(0..2), ViewMut::new(&mut table, [1, 2, 4])?)?;
//! assert_eq!(table[..4], [0.0, 1.0, 0.0, 1.0]);
//! assert_eq!(table[4..], [1f64.sin() as f32, 1f64.cos() as f32, 0.01f64.sin() as f32, 0.01f64.cos() as f32]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::{Parts, Site};
use crate::dims::Dims;
use crate::dropout::check_dropout;
use crate::embed::{Addend, Combine, Source};
use crate::error::{Error, Result};
use crate::input::AddTo;
use crate::kernels::{Present, cos_sin, share_rows};
use crate::memory;
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::rotate::Precision;
use crate::rotate::rotary::infinite_angle;
use crate::steps::{ByToken, owned};
use crate::view::ViewMut;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// In which columns the sines and cosines of a vector stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinusoidLayout {
    /// sin ω₀, cos ω₀, sin ω₁, cos ω₁, …: the paper, DETR.
    Interleaved,
    /// All sines, then all cosines: tensor2tensor, fairseq, Marian, Whisper, MAE.
    SinFirst,
    /// All cosines, then all sines: MusicGen, diffusion steps with `flip_sin_to_cos`.
    CosFirst,
}

/// The exponent e(i) in ω(i) = base^(−e(i)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SinusoidExponent {
    /// 2i / d: the slowest pair does not quite reach 1 / base.
    Paper,
    /// i / (⌊d/2⌋ − shift). With shift 1 the slowest pair turns at exactly 1 / base (tensor2tensor, fairseq, Whisper); with shift 0 and d even it is
    /// the paper's. `downscale_freq_shift` in diffusers.
    Half {
        /// What is taken from half the width.
        shift: f64,
    },
}

/// What an odd width does; an even one is split in halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddWidth {
    /// ⌈d/2⌉ sines and one cosine less: the paper's formula read literally, Marian (whose "sentinel" is where the cosines begin).
    DropCosine,
    /// ⌊d/2⌋ sines and cosines, and zero in the last column: tensor2tensor, fairseq, diffusers.
    ZeroPad,
}

/// Sinusoidal positions: fixed vectors of sines and cosines. See the [module](self) for which constructor is whose table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "SinusoidalPositionalEmbedding")]
#[doc(alias = "SinusoidalPositionEmbedding")]
#[doc(alias = "PositionalEncoding")]
#[doc(alias = "sincos")]
pub struct Sinusoidal {
    /// Base of the frequencies: 10 000 in the paper; `temperature`, `max_timescale` or `max_period` elsewhere.
    #[serde(default = "crate::encoding::written::base")]
    pub base: f64,
    /// Where sines and cosines stand.
    pub layout: SinusoidLayout,
    /// How frequencies are spaced.
    pub exponent: SinusoidExponent,
    /// What an odd width does.
    pub odd_width: OddWidth,
    /// The axes of the positions in the order of their blocks of columns: `[0]` for text, `[0, 1]` for an image with its rows first. The blocks are equally wide.
    #[serde(default = "crate::encoding::written::one_axis")]
    pub axes: Vec<usize>,
    /// Added to each position (to its coordinate on each axis).
    #[serde(default)]
    pub offset: i64,
    /// What positions are multiplied by after the offset: 1 unless a model counts in other units (`scale` in diffusers, `min_timescale` in tensor2tensor).
    #[serde(default = "crate::encoding::written::one")]
    pub position_scale: f64,
    /// A position (after the offset) whose vector is all zeros.
    #[serde(default)]
    pub padding_row: Option<i64>,
    /// How angles are rounded.
    #[serde(default)]
    pub precision: Precision,
    /// Added to the embeddings or put beside them.
    #[serde(default)]
    pub combine: Combine,
    /// To the embeddings, or inside attention (DETR, Shortformer).
    #[serde(default)]
    pub add_to: AddTo,
    /// Dropout of the sum, when training; embeddings only.
    #[serde(default)]
    pub dropout: f64,
}

impl Sinusoidal {
    fn of(layout: SinusoidLayout, exponent: SinusoidExponent, odd_width: OddWidth) -> Sinusoidal {
        Sinusoidal {
            base: 10_000.0,
            layout,
            exponent,
            odd_width,
            axes: vec![0],
            offset: 0,
            position_scale: 1.0,
            padding_row: None,
            precision: Precision::Exact,
            combine: Combine::Add,
            add_to: AddTo::Embeddings,
            dropout: 0.0,
        }
    }

    /// The paper's table: sines in even columns, cosines in odd ones, exponents 2i/d.
    pub fn paper() -> Sinusoidal {
        Sinusoidal::of(SinusoidLayout::Interleaved, SinusoidExponent::Paper, OddWidth::DropCosine)
    }

    /// Marian, Pegasus, RoFormer, Transformer-XL: the paper's columns with all sines first.
    #[doc(alias = "transformer_xl")]
    pub fn marian() -> Sinusoidal {
        Sinusoidal::of(SinusoidLayout::SinFirst, SinusoidExponent::Paper, OddWidth::DropCosine)
    }

    /// CTRL: the same table as [`Sinusoidal::marian`], which its own code makes in f32.
    pub fn ctrl() -> Sinusoidal {
        Sinusoidal::marian()
    }

    /// tensor2tensor, Whisper's encoder, TimesFM: sines first, exponents i/(d/2 − 1).
    #[doc(alias = "tensor2tensor")]
    pub fn whisper() -> Sinusoidal {
        let exponent = SinusoidExponent::Half { shift: 1.0 };
        Sinusoidal::of(SinusoidLayout::SinFirst, exponent, OddWidth::ZeroPad)
    }

    /// fairseq, M2M-100, NLLB, XGLM: [`Sinusoidal::whisper`]'s table; position 0 reads row `padding_idx + 1`, and row `padding_idx` is zero. A padding
    /// token is a token without a position, or position −1.
    pub fn fairseq(padding_idx: u32) -> Sinusoidal {
        Sinusoidal::whisper()
            .with_offset(i64::from(padding_idx) + 1)
            .with_padding_row(i64::from(padding_idx))
    }

    /// MusicGen: [`Sinusoidal::whisper`]'s columns with all cosines first.
    pub fn musicgen() -> Sinusoidal {
        Sinusoidal::whisper().with_layout(SinusoidLayout::CosFirst)
    }

    /// Diffusion steps, in the words of diffusers: cosines first if `flip_sin_to_cos`, exponents i/(d/2 − `downscale_freq_shift`).
    pub fn timestep(flip_sin_to_cos: bool, downscale_freq_shift: f64) -> Sinusoidal {
        let layout = if flip_sin_to_cos {
            SinusoidLayout::CosFirst
        } else {
            SinusoidLayout::SinFirst
        };
        let exponent = SinusoidExponent::Half {
            shift: downscale_freq_shift,
        };
        Sinusoidal::of(layout, exponent, OddWidth::ZeroPad)
    }

    /// AIMv2: half the columns for the row of the patch, half for its column, each \[sin ‖ cos\]. For [`Positions::grid`]. The published ViT-MAE models have the column's half first: axes `[1, 0]`.
    ///
    /// ```
    /// use posenc::{Positions, Sinusoidal, ViewMut, embed::sinusoid};
    /// let mut table = vec![f32::NAN; 5 * 8];
    /// let at = Positions::grid(2, 2).after_unplaced(1); // a class token in front
    /// sinusoid(&Sinusoidal::mae(), &at, ViewMut::new(&mut table, [1, 5, 8])?)?;
    /// assert_eq!(table[..8], [0.0; 8]);
    /// assert_eq!(table[8..16], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn mae() -> Sinusoidal {
        Sinusoidal::marian().with_axes(&[0, 1])
    }

    /// DETR and its line: half the columns for the row of the pixel, half for its column, each interleaved; pixels are counted by
    /// [`pixel_positions`](crate::embed::pixel_positions). DAB-DETR has base 20. Inside attention: [`Sinusoidal::added_to`].
    pub fn detr() -> Sinusoidal {
        Sinusoidal::paper().with_axes(&[0, 1])
    }

    /// The same with another base.
    pub fn with_base(self, base: f64) -> Sinusoidal {
        Sinusoidal { base, ..self }
    }

    /// The same with sines and cosines in other columns.
    pub fn with_layout(self, layout: SinusoidLayout) -> Sinusoidal {
        Sinusoidal { layout, ..self }
    }

    /// The same with frequencies spaced otherwise.
    pub fn with_exponent(self, exponent: SinusoidExponent) -> Sinusoidal {
        Sinusoidal { exponent, ..self }
    }

    /// The same with another rule for odd widths.
    pub fn with_odd_width(self, odd_width: OddWidth) -> Sinusoidal {
        Sinusoidal { odd_width, ..self }
    }

    /// The same for positions with these axes, in the order of their blocks.
    pub fn with_axes(self, axes: &[usize]) -> Sinusoidal {
        Sinusoidal {
            axes: axes.to_vec(),
            ..self
        }
    }

    /// The same with `offset` added to each position.
    pub fn with_offset(self, offset: i64) -> Sinusoidal {
        Sinusoidal { offset, ..self }
    }

    /// The same with positions multiplied by `scale`.
    pub fn with_position_scale(self, scale: f64) -> Sinusoidal {
        Sinusoidal {
            position_scale: scale,
            ..self
        }
    }

    /// The same with zeros for one position (after the offset).
    pub fn with_padding_row(self, row: i64) -> Sinusoidal {
        Sinusoidal {
            padding_row: Some(row),
            ..self
        }
    }

    /// The same with angles rounded otherwise.
    pub fn with_precision(self, precision: Precision) -> Sinusoidal {
        Sinusoidal { precision, ..self }
    }

    /// The same with vectors of `width` columns put beside the embeddings instead of added to them.
    pub fn concatenated(self, width: usize) -> Sinusoidal {
        Sinusoidal {
            combine: Combine::Concatenate(width),
            ..self
        }
    }

    /// The same, added elsewhere.
    pub fn added_to(self, add_to: AddTo) -> Sinusoidal {
        Sinusoidal { add_to, ..self }
    }

    /// The same with dropout of the sum, when training.
    pub fn with_dropout(self, dropout: f64) -> Sinusoidal {
        Sinusoidal { dropout, ..self }
    }

    /// Radians per position of each frequency, in f64, for vectors of `width` columns (of which each axis has its equal share).
    ///
    /// # Errors
    /// As [`sinusoid`], of the width and the settings.
    ///
    /// ```
    /// use posenc::{Error, Sinusoidal};
    /// assert_eq!(Sinusoidal::whisper().frequencies(4)?, [1.0, 1e-4]);
    /// assert!(matches!(Sinusoidal::whisper().frequencies(2), Err(Error::Invalid { what: "width", .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn frequencies(&self, width: usize) -> Result<Vec<f64>> {
        self.check_width(width)?;
        let block = width / self.axes.len();
        memory::check::<f64>("frequencies of a width", &[self.sines(block)])?;
        Ok((0..self.sines(block)).map(|i| self.base.powf(-self.exponent(i, block))).collect())
    }

    /// Sines in a block of columns.
    fn sines(&self, block: usize) -> usize {
        match self.odd_width {
            OddWidth::DropCosine => block.div_ceil(2),
            OddWidth::ZeroPad => block / 2,
        }
    }

    fn exponent(&self, i: usize, block: usize) -> f64 {
        match self.exponent {
            SinusoidExponent::Paper => (2 * i) as f64 / block as f64,
            SinusoidExponent::Half { shift } => i as f64 / ((block / 2) as f64 - shift),
        }
    }

    /// The frequencies as code in f32 rounds them: exp(i · s) with s = −ln(base) / (…) and the product rounded before the exponential.
    fn rounded_frequencies(&self, block: usize) -> Vec<f32> {
        let (factor, divisor) = match self.exponent {
            SinusoidExponent::Paper => (2, block as f64),
            SinusoidExponent::Half { shift } => (1, (block / 2) as f64 - shift),
        };
        let step = (-self.base.ln() / divisor) as f32;
        (0..self.sines(block)).map(|i| ((factor * i) as f32 * step).exp()).collect()
    }

    fn check_width(&self, width: usize) -> Result<()> {
        let invalid = |what, given: String, expected| Err(Error::Invalid { what, given, expected });
        if !(self.base.is_finite() && self.base > 0.0) {
            return invalid("base", self.base.to_string(), "a positive number");
        }
        if !self.position_scale.is_finite() {
            return invalid("position_scale", self.position_scale.to_string(), "a finite number");
        }
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if sorted.is_empty() || sorted.iter().enumerate().any(|(i, axis)| i != *axis) {
            return invalid(
                "axes",
                format!("{:?}", self.axes),
                "each axis of the positions once, numbered from 0",
            );
        }
        if self.axes.len() > 1 {
            if self.padding_row.is_some() {
                return Err(Error::Unsupported {
                    method: "sinusoidal",
                    what: "a padding row needs positions on one axis; give padding no position instead",
                });
            }
            if !width.is_multiple_of(self.axes.len()) {
                return Err(Error::NotDivisible {
                    what: "width",
                    value: width,
                    by: "axes",
                    divisor: self.axes.len(),
                });
            }
            if !(width / self.axes.len()).is_multiple_of(2) {
                return Err(Error::OddWidth {
                    what: "width of one axis",
                    width: width / self.axes.len(),
                });
            }
        }
        if let SinusoidExponent::Half { shift } = self.exponent {
            let block = width / self.axes.len();
            if !shift.is_finite() {
                return invalid("shift", shift.to_string(), "a finite number");
            }
            if self.sines(block) > 0 && (block / 2) as f64 - shift <= 0.0 {
                return invalid("width", width.to_string(), "half of it (per axis) more than the exponent's shift");
            }
        }
        Ok(())
    }

    /// Vectors of this width can be made for these positions.
    fn check_rows(&self, width: usize, at: &Positions) -> Result<()> {
        self.check_width(width)?;
        at.check_len()?;
        if self.precision == Precision::Reference {
            at.check_counted(f32::EXACT_INTEGERS)?;
        }
        if at.axes() != self.axes.len() {
            return Err(Error::Unsupported {
                method: "sinusoidal",
                what: "positions have another number of axes than the table (`axes`)",
            });
        }
        Ok(())
    }

    /// The vectors of all tokens, `[at.batch(), at.len(), width]`.
    pub(crate) fn rows<R: Real>(&self, width: usize, at: &Positions) -> Result<Vec<R>> {
        self.rows_by(&self.waves(width)?, width, at)
    }

    /// What a position is multiplied by for each angle of a block of columns.
    fn waves(&self, width: usize) -> Result<Waves> {
        let frequencies = self.frequencies(width)?;
        Ok(match self.precision {
            Precision::Exact => Waves::Exact(frequencies),
            Precision::Reference => Waves::Rounded(self.rounded_frequencies(width / self.axes.len())),
        })
    }

    /// As [`Sinusoidal::rows`], by frequencies that are known.
    fn rows_by<R: Real>(&self, waves: &Waves, width: usize, at: &Positions) -> Result<Vec<R>> {
        at.check_len()?;
        if self.precision == Precision::Reference {
            at.check_counted(f32::EXACT_INTEGERS)?;
        }
        if at.axes() != self.axes.len() {
            return Err(Error::Unsupported {
                method: "sinusoidal",
                what: "positions have another number of axes than the table (`axes`)",
            });
        }
        let (batch, len, block) = (at.batch(), at.len(), width / self.axes.len());
        // What a token's vector is made of on an axis; `None` for zeros.
        let position = |axis: usize, b: usize, t: usize| {
            let position = at.get(axis, b, t)? + self.offset as f64;
            (self.padding_row.is_none_or(|padding| position != padding as f64)).then_some(position)
        };
        let mut rows = vec![R::ZERO; memory::check::<R>("sinusoids [batch, seq, width]", &[batch, len, width])?];
        // Without frequencies there are zeros, and no angle to refuse; the largest frequency has the largest angle.
        let Some(fastest) = waves.fastest() else { return Ok(rows) };
        for (b, t) in (0..batch).flat_map(|b| (0..len).map(move |t| (b, t))) {
            for position in self.axes.iter().filter_map(|axis| position(*axis, b, t)) {
                if !waves.angle(position, self.position_scale, fastest).is_finite() {
                    return Err(infinite_angle(position));
                }
            }
        }
        let on = Present::current();
        let shape = [batch, 1, len, width];
        share_rows(ViewMut::new(&mut rows, shape)?, 0, |mut rows| {
            rows.each(|[b, _, t], row| {
                for (&axis, row) in self.axes.iter().zip(row.chunks_exact_mut(block.max(1))) {
                    if let Some(position) = position(axis, b, t) {
                        self.write(on, waves, position, row);
                    }
                }
            });
        });
        Ok(rows)
    }

    /// The sines and cosines of one position, over a block of columns.
    fn write<R: Real>(&self, on: Present, waves: &Waves, position: f64, row: &mut [R]) {
        /// Angles that are worked on together.
        const AT_ONCE: usize = 64;
        let (sines, cosines) = (self.sines(row.len()), row.len() / 2);
        // First column of the sines and of the cosines, and the distance of two of a kind.
        let (sine, cosine, step) = match self.layout {
            SinusoidLayout::Interleaved => (0, 1, 2),
            SinusoidLayout::SinFirst => (0, sines, 1),
            SinusoidLayout::CosFirst => (cosines, 0, 1),
        };
        let (mut angles, mut cos, mut sin) = ([0.0; AT_ONCE], [R::ZERO; AT_ONCE], [R::ZERO; AT_ONCE]);
        for from in (0..sines).step_by(AT_ONCE) {
            let n = AT_ONCE.min(sines - from);
            for (i, angle) in angles[..n].iter_mut().enumerate() {
                *angle = waves.angle(position, self.position_scale, from + i);
            }
            cos_sin(on, &angles[..n], 1.0, &mut cos[..n], &mut sin[..n]);
            for i in 0..n {
                row[sine + step * (from + i)] = sin[i];
            }
            for i in 0..n.min(cosines.saturating_sub(from)) {
                row[cosine + step * (from + i)] = cos[i];
            }
        }
    }
}

/// Radians per position, or the same as code in f32 rounds it.
enum Waves {
    Exact(Vec<f64>),
    Rounded(Vec<f32>),
}

impl Waves {
    #[inline(always)]
    fn angle(&self, position: f64, scale: f64, i: usize) -> f64 {
        match self {
            Waves::Exact(frequencies) => position * scale * frequencies[i],
            Waves::Rounded(frequencies) => f64::from(position as f32 * frequencies[i] * scale as f32),
        }
    }

    /// The largest frequency, if there is any.
    fn fastest(&self) -> Option<usize> {
        let size = |i: usize| match self {
            Waves::Exact(frequencies) => frequencies[i].abs(),
            Waves::Rounded(frequencies) => f64::from(frequencies[i].abs()),
        };
        let count = match self {
            Waves::Exact(frequencies) => frequencies.len(),
            Waves::Rounded(frequencies) => frequencies.len(),
        };
        (0..count).max_by(|a, b| size(*a).total_cmp(&size(*b)))
    }
}

/// Writes the vector of each position into `out` `[batch, seq, width]`: a sinusoidal table in one call. A token without a position gets zeros.
///
/// # Errors
/// A base that is not positive, a width that the exponent or the axes do not allow (2 with i/(d/2 − 1); an odd share of an axis), positions with another number of
/// axes, positions that do not fit `out`, or one whose angle is not finite. Nothing is written then.
///
/// ```
/// use posenc::{Positions, Sinusoidal, ViewMut, embed::sinusoid};
/// let mut row = [f64::NAN; 4];
/// let at = Positions::real(&[-0.5])?;
/// sinusoid(&Sinusoidal::musicgen(), &at, ViewMut::new(&mut row, [1, 1, 4])?)?; // [cos ‖ sin] of frequencies 1 and 1e-4
/// assert_eq!(row, [0.5f64.cos(), 0.5e-4f64.cos(), -0.5f64.sin(), -0.5e-4f64.sin()]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "get_sinusoid_encoding_table")]
#[doc(alias = "sinusoidal_embedding")]
#[doc(alias = "sinusoidal_position_encoding")]
pub fn sinusoid<T: Element>(table: &Sinusoidal, at: &Positions, mut out: ViewMut<'_, T, 3>) -> Result<()> {
    let [batch, len, width] = out.shape();
    at.check_fit("positions [batch, seq]", batch, len)?;
    if out.is_empty() {
        return table.check_rows(width, at);
    }
    let rows = table.rows::<T::Real>(width, at)?;
    for b in 0..batch {
        for t in 0..len {
            let from = (if at.batch() == 1 { 0 } else { b }) * len + t;
            let row = &rows[from * width..][..width];
            out.row_mut([b, t, 0]).iter_mut().zip(row).for_each(|(out, x)| *out = T::narrow(*x));
        }
    }
    Ok(())
}

impl fmt::Display for Sinusoidal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.layout {
            SinusoidLayout::Interleaved => "interleaved",
            SinusoidLayout::SinFirst => "sin first",
            SinusoidLayout::CosFirst => "cos first",
        };
        write!(f, "sinusoidal({layout}, base {}", self.base)?;
        if let SinusoidExponent::Half { shift } = self.exponent {
            write!(f, ", exponent i/(d/2 - {shift})")?;
        }
        if self.axes != [0] {
            write!(f, ", axes {:?}", self.axes)?;
        }
        if self.offset != 0 {
            write!(f, ", offset {}", self.offset)?;
        }
        if self.position_scale != 1.0 {
            write!(f, ", positions × {}", self.position_scale)?;
        }
        if let Some(row) = self.padding_row {
            write!(f, ", padding row {row}")?;
        }
        if self.precision == Precision::Reference {
            write!(f, ", f32 angles")?;
        }
        if let Combine::Concatenate(width) = self.combine {
            write!(f, ", {width} columns concatenated")?;
        }
        if self.add_to != AddTo::Embeddings {
            write!(f, ", on {}", self.add_to)?;
        }
        if self.dropout > 0.0 {
            write!(f, ", dropout {}", self.dropout)?;
        }
        write!(f, ")")
    }
}

impl Sinusoidal {
    /// Columns of a vector in a model of these widths.
    pub(crate) fn width(&self, dims: &Dims) -> usize {
        match self.combine {
            Combine::Add => self.add_to.width(dims),
            Combine::Concatenate(width) => width,
        }
    }
}

impl Prepare for Sinusoidal {
    fn check(&self, dims: &Dims) -> Result<()> {
        check_dropout(self.dropout)?;
        self.combine.check()?;
        self.add_to.check(dims, "sinusoidal")?;
        if self.add_to != AddTo::Embeddings && (self.dropout > 0.0 || self.combine != Combine::Add) {
            return Err(Error::Unsupported {
                method: "sinusoidal",
                what: "only embeddings have dropout of the sum or columns put beside them; attention has its own dropout",
            });
        }
        self.check_width(self.width(dims))
    }

    fn concat_width(&self, _dims: &Dims) -> usize {
        self.combine.concat_width()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let width = self.width(dims);
        let (query, key) = self.add_to.sites();
        let waves = self.waves(width)?;
        let rows = |at: &Positions| {
            Ok(Arc::new(ByToken::new(
                self.rows_by(&waves, width, at)?,
                at.batch(),
                at.len(),
                width,
            )))
        };
        let q_rows = rows(q_at)?;
        let mut at = vec![(query, q_rows.clone())];
        if let Some(key) = key {
            at.push((key, if q_at == k_at { q_rows } else { rows(k_at)? }));
        }
        Ok(Arc::new(PreparedSinusoidal {
            width,
            concatenated: self.combine != Combine::Add,
            dropout: self.dropout,
            at,
            waves,
        }))
    }

    fn advance<R: Real>(&self, _dims: &Dims, before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let Some(PreparedSinusoidal {
            width, at: sites, waves, ..
        }) = owned(prepared)
        else {
            return false;
        };
        // A prompt has one table for both; the step after it has two.
        if let [(_, queries), (_, keys)] = &mut sites[..]
            && Arc::ptr_eq(queries, keys)
        {
            *queries = Arc::new(ByToken::new(Vec::new(), at[0].batch(), 0, *width));
        }
        let alone = sites.len() == 1;
        sites.iter_mut().enumerate().all(|(i, (_, rows))| {
            let Some(rows) = Arc::get_mut(rows) else { return false };
            // Queries of a step share none with those before.
            let kept = if i == 1 || alone { at[i].in_common(before[i]) } else { Some(0) };
            let Some(kept) = kept.filter(|_| rows.batch() == at[i].batch()) else {
                return false;
            };
            let rest = at[i].rest(kept);
            let more = self.rows_by(waves, *width, &rest).ok();
            more.is_some_and(|more| rows.go_on(kept, &ByToken::new(more, rest.batch(), rest.len(), *width)))
        })
    }
}

struct PreparedSinusoidal<R> {
    width: usize,
    concatenated: bool,
    dropout: f64,
    /// Site and rows: of queries, then of keys.
    at: Vec<(Site, Arc<ByToken<R>>)>,
    waves: Waves,
}

impl<R: Real> Prepared<R> for PreparedSinusoidal<R> {
    fn bind<'p>(&self, _params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        for (site, rows) in &self.at {
            parts.addends.push(Addend {
                site: *site,
                width: self.width,
                concatenated: self.concatenated,
                dropout: self.dropout,
                source: Source::Rows(rows.clone()),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
