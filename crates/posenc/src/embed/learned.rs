//! # Learned absolute positions
//!
//! **Idea.** One trained vector per position: a row of a table, added to (or put beside) the token's embedding once, before the first layer. The model
//! may learn any function of the position, and knows nothing of positions that it was not trained on.
//!
//! **Paper.** Gehring, Auli, Grangier, Yarats, Dauphin: *Convolutional Sequence to Sequence Learning*, 2017, arXiv 1705.03122. Then GPT, BERT, RoBERTa,
//! BART, OPT, ViT. (The original Transformer shipped sinusoids and reported that a learned table does as well.)
//!
//! **Maths.** With a table E of R rows, and token t of batch row n at position p(n, t):
//! ```text
//! added          y(n, t) = x(n, t) + E[p(n, t) + offset]
//! concatenated   y(n, t) = [x(n, t) ‖ E[p(n, t) + offset]]
//! adjoint        dE[r]   = Σ over all (n, t) with p(n, t) + offset = r of dy(n, t)
//! ```
//! With dropout, y is the sum (or the whole concatenated row) after dropout. A row that no token asks for has a gradient of exactly 0.
//!
//! **Shapes.** Parameter `pos_embedding.weight` `[max_len, model_dim]` (`[max_len, width]` if concatenated), one for the model. Embeddings
//! `[batch, seq, model_dim]`; ids absent, `(T,)` or `(B, T)`, as integers or as floats ([`Positions::strict`], [`Positions::truncated`]).
//!
//! **Conventions that differ between codebases.**
//! - *Rows and lengths.* `max_len` counts rows. OPT and BART add 2 to each id ([`Learned::opt`]), RoBERTa and its kin start behind the row of the padding
//!   token ([`Learned::roberta`]), so a table of 514 rows serves 512 tokens, and 510 if the padding token is number 3.
//! - *Past the end.* A typed error that names id, batch row, token and rows, unless an [`Overflow`] policy is named. NumPy and JAX answer negative or
//!   large ids with another row, in silence; PyTorch truncates ids that arrive as floats. What counts is the ids, not the length: a long sequence whose ids fit is fine.
//! - *Initial values.* PyTorch's `nn.Embedding` draws N(0, 1), GPT-2 and BERT N(0, 0.02); an added N(0, 1) drowns embeddings of 0.02. The default here is
//!   N(0, 0.02); [`Learned::with_init`] takes any [`Init`], by name where a person types it.
//! - *Dropout* acts on the sum, as GPT-2, BERT and openlanguagemodel do (some documentation says: on the table's row).
//!
//! **Cost.** max_len · model_dim parameters; one read of T rows per call.
//!
//! ```
//! use posenc::{Dims, Encoding, Learned, Mode, Positions, View, ViewMut};
//! let plan = Encoding::from(Learned::new(16)).plan(Dims::new(4, 2)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! params.get_mut("pos_embedding.weight")?.fill(0.5);
//!
//! let at = Positions::range(0..3);
//! let (x, mut y) = ([1.0; 12], [f32::NAN; 12]);
//! plan.call(&params, &at, &at)?.embed(View::new(&x, [1, 3, 4])?, ViewMut::new(&mut y, [1, 3, 4])?, Mode::Evaluate)?;
//! assert_eq!(y, [1.5; 12]);
//! # Ok::<(), posenc::Error>(())
//! ```
//!
//! The bare lookup is one call, [`lookup`]; its gradient is [`lookup_adjoint`].

use crate::call::{Parts, Site};
use crate::dims::Dims;
use crate::dropout::check_dropout;
use crate::embed::gather::{check_ids, no_row};
use crate::embed::{Addend, Gather, Overflow, Source, TableRows};
use crate::error::{Error, Result};
use crate::params::{Bound, Init, ParamSpec};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::view::{View, ViewMut};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How a position's vector meets the token's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Added; the table is as wide as the model.
    #[default]
    Add,
    /// Put beside it as this many new columns: the model is that much wider than its token embeddings.
    Concatenate(usize),
}

impl Combine {
    /// Columns of a position's vector.
    pub(crate) fn width(self, dims: &Dims) -> usize {
        match self {
            Combine::Add => dims.model_dim,
            Combine::Concatenate(width) => width,
        }
    }

    pub(crate) fn check(self) -> Result<()> {
        if self == Combine::Concatenate(0) {
            return Err(Error::Zero {
                what: "concatenated width",
            });
        }
        Ok(())
    }

    /// Columns that the embeddings gain.
    pub(crate) fn concat_width(self) -> usize {
        match self {
            Combine::Add => 0,
            Combine::Concatenate(width) => width,
        }
    }
}

/// Learned absolute positions: a table row per position, added to or put beside the embeddings. See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[doc(alias = "AbsolutePositionalEmbedding")]
#[doc(alias = "LearnedPositionalEncoding")]
#[doc(alias = "LearnedPositionalEmbedding")]
#[doc(alias = "position_embeddings")]
#[doc(alias = "embedding_table")]
#[doc(alias = "pos_embedding")]
pub struct Learned {
    /// Rows in the table, the offset's included: the largest id plus one.
    #[doc(alias = "max_seq_len")]
    pub max_len: usize,
    /// Added to each id: 2 for OPT and BART.
    pub offset: usize,
    /// A row that adds nothing and learns nothing.
    pub padding_row: Option<usize>,
    /// Past the last row.
    pub overflow: Overflow,
    /// Added to the embeddings or put beside them.
    pub combine: Combine,
    /// Dropout of the sum, when training.
    pub dropout: f64,
    /// How the table begins.
    pub init: Init,
}

impl Learned {
    /// A table of `max_len` rows, N(0, 0.02), added; a position past it is an error.
    pub fn new(max_len: usize) -> Learned {
        Learned {
            max_len,
            offset: 0,
            padding_row: None,
            overflow: Overflow::Error,
            combine: Combine::Add,
            dropout: 0.0,
            init: Init::Normal(0.02),
        }
    }

    /// OPT and BART: ids are moved by 2, so `max_positions` (`max_position_embeddings` in their config files) tokens need two rows more.
    ///
    /// ```
    /// use posenc::Learned;
    /// assert_eq!(Learned::opt(2048).max_len, 2050);
    /// ```
    pub fn opt(max_positions: usize) -> Learned {
        Learned::new(max_positions.saturating_add(2)).with_offset(2)
    }

    /// RoBERTa, XLM-R, CamemBERT and others of fairseq's line: `rows` (`max_position_embeddings` in their config files) counts all rows; the first
    /// token has the row behind `padding_idx`, whose own row adds nothing.
    ///
    /// ```
    /// use posenc::Learned;
    /// let roberta = Learned::roberta(514, 1);
    /// assert_eq!(roberta.max_len - roberta.offset, 512); // tokens
    /// ```
    pub fn roberta(rows: usize, padding_idx: usize) -> Learned {
        Learned::new(rows)
            .with_offset(padding_idx.saturating_add(1))
            .with_padding_row(padding_idx)
    }

    /// The same with `offset` added to each id.
    pub fn with_offset(self, offset: usize) -> Learned {
        Learned { offset, ..self }
    }

    /// The same with a row that adds nothing and learns nothing (a row of the table: the offset is already added).
    pub fn with_padding_row(self, row: usize) -> Learned {
        Learned {
            padding_row: Some(row),
            ..self
        }
    }

    /// The same with another answer past the last row.
    pub fn with_overflow(self, overflow: Overflow) -> Learned {
        Learned { overflow, ..self }
    }

    /// The same with rows of `width` columns put beside the embeddings instead of added to them.
    pub fn concatenated(self, width: usize) -> Learned {
        Learned {
            combine: Combine::Concatenate(width),
            ..self
        }
    }

    /// The same with dropout of the sum, when training.
    pub fn with_dropout(self, dropout: f64) -> Learned {
        Learned { dropout, ..self }
    }

    /// The same with other initial values.
    ///
    /// ```
    /// use posenc::{Init, Learned};
    /// let as_torch = Learned::new(512).with_init("normal".parse()?);
    /// assert_eq!(as_torch.init, Init::Normal(1.0));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn with_init(self, init: Init) -> Learned {
        Learned { init, ..self }
    }

    fn rows(&self) -> TableRows {
        TableRows {
            rows: self.max_len,
            offset: self.offset,
            padding_row: self.padding_row,
            overflow: self.overflow,
        }
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        ParamSpec::new("pos_embedding.weight", [self.max_len, self.combine.width(dims)], self.init)
    }
}

/// Copies `table[id]` for each token: `(N, T)` ids of a `[rows, width]` table into `out` `[N, T, width]`, bit for bit, whatever the element type.
/// Ids `(T,)` serve all rows of `out`; a token without a position gets `T::default()` (zeros). Ids that arrive as floats become positions by
/// [`Positions::strict`], or by [`Positions::truncated`] as PyTorch reads them.
///
/// # Errors
/// An id that is negative, fractional, or not below `rows` (the error names it, its batch row and its token), positions with several axes, or shapes
/// that do not fit. Nothing is written then.
///
/// ```
/// use posenc::{Error, Positions, View, ViewMut, embed::lookup};
/// let table = [0.5f32, 0.25, 10.0, 20.0, 7.0, 8.0]; // 3 rows of 2
/// let ids = [2.0f32, 0.0, 2.0, 1.0]; // (N, T) = (2, 2), as floats
/// let mut out = [0.0; 8];
/// lookup(&Positions::strict(&ids, 2)?, View::new(&table, [3, 2])?, ViewMut::new(&mut out, [2, 2, 2])?)?;
/// assert_eq!(out, [7.0, 8.0, 0.5, 0.25, 7.0, 8.0, 10.0, 20.0]);
///
/// let past = lookup(&Positions::whole(&[0, 3]), View::new(&table, [3, 2])?, ViewMut::new(&mut out[..4], [1, 2, 2])?);
/// assert_eq!(past, Err(Error::PastTable { position: 3, batch: 0, token: 1, rows: 3 }));
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "embedding")]
#[doc(alias = "gather")]
#[doc(alias = "embedding_table")]
#[doc(alias = "AbsolutePositionalEmbedding")]
pub fn lookup<T: Copy + Default>(ids: &Positions, table: View<'_, T, 2>, mut out: ViewMut<'_, T, 3>) -> Result<()> {
    let ([rows, width], [batch, len, columns]) = (table.shape(), out.shape());
    check_lookup(ids, [rows, width], [batch, len, columns], "out [batch, seq, width]")?;
    if let (Some(start), Some(table), Some(out)) = (ids.start(), table.as_slice(), out.as_mut_slice())
        && len * width > 0
    {
        // Consecutive ids of a table without gaps: one copy per batch row.
        let rows = &table[start as usize * width..][..len * width];
        out.chunks_exact_mut(len * width).for_each(|out| out.copy_from_slice(rows));
        return Ok(());
    }
    for b in 0..batch {
        let ids = ids.at(0, b, 0, len);
        for t in 0..len {
            let out = out.row_mut([b, t, 0]);
            match ids.whole(t) {
                Some(id) => out.copy_from_slice(table.row([id as usize, 0])),
                None => out.fill(T::default()),
            }
        }
    }
    Ok(())
}

/// The adjoint of [`lookup`]: adds `d_out[n, t]` `[N, T, width]` to row `ids[n, t]` of `d_table` `[rows, width]`. Repeated ids accumulate in the order of the
/// tokens; rows that no id names are not touched. Sums are kept in the arithmetic type (f32 for half-precision gradients).
///
/// # Errors
/// As [`lookup`]; nothing is added then.
///
/// ```
/// use posenc::{Positions, View, ViewMut, embed::lookup_adjoint};
/// let mut d_table = [0.0f32; 3];
/// lookup_adjoint(&Positions::whole(&[2, 0, 2]), View::new(&[1.0f32, 10.0, 100.0], [1, 3, 1])?, ViewMut::new(&mut d_table, [3, 1])?)?;
/// assert_eq!(d_table, [10.0, 0.0, 101.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn lookup_adjoint<T: Element>(ids: &Positions, d_out: View<'_, T, 3>, mut d_table: ViewMut<'_, T::Real, 2>) -> Result<()> {
    let [batch, len, columns] = d_out.shape();
    check_lookup(ids, d_table.shape(), [batch, len, columns], "d_out [batch, seq, width]")?;
    for b in 0..batch {
        let ids = ids.at(0, b, 0, len);
        for t in 0..len {
            let Some(id) = ids.whole(t) else { continue };
            let row = d_table.row_mut([id as usize, 0]);
            row.iter_mut().zip(d_out.row([b, t, 0])).for_each(|(r, d)| *r += d.widen());
        }
    }
    Ok(())
}

/// All that can be refused, before anything is written.
fn check_lookup(ids: &Positions, [rows, width]: [usize; 2], [batch, len, columns]: [usize; 3], what: &'static str) -> Result<()> {
    check_ids(ids)?;
    ids.check_fit("ids [batch, seq]", batch, len)?;
    if columns != width {
        return Err(Error::Shape {
            what,
            expected: vec![batch, len, width],
            given: vec![batch, len, columns],
        });
    }
    if let Some(start) = ids.start()
        && start >= 0
        && start.checked_add(ids.len() as i64).is_some_and(|end| end as u64 <= rows as u64)
    {
        return Ok(());
    }
    for b in 0..ids.batch() {
        let row = ids.at(0, b, 0, ids.len());
        for t in 0..ids.len() {
            if let Some(id) = row.whole(t)
                && (id < 0 || id as u64 >= rows as u64)
            {
                return Err(no_row(id, 0, b, t, rows));
            }
        }
    }
    Ok(())
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "learned(max_len {}", self.max_len)?;
        if self.offset > 0 {
            write!(f, ", offset {}", self.offset)?;
        }
        if let Some(row) = self.padding_row {
            write!(f, ", padding row {row}")?;
        }
        self.overflow.describe(f)?;
        if let Combine::Concatenate(width) = self.combine {
            write!(f, ", {width} columns concatenated")?;
        }
        if self.dropout > 0.0 {
            write!(f, ", dropout {}", self.dropout)?;
        }
        write!(f, ")")
    }
}

impl Prepare for Learned {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_dropout(self.dropout)?;
        self.combine.check()?;
        self.rows().check()
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn concat_width(&self, _dims: &Dims) -> usize {
        self.combine.concat_width()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, _k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(PreparedLearned {
            spec: self.spec(dims),
            gather: Arc::new(Gather::new(&self.rows(), q_at, &[q_at])?),
            concatenated: self.combine != Combine::Add,
            dropout: self.dropout,
        }))
    }
}

struct PreparedLearned {
    spec: ParamSpec,
    gather: Arc<Gather>,
    concatenated: bool,
    dropout: f64,
}

impl<R: Real> Prepared<R> for PreparedLearned {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.addends.push(Addend {
            site: Site::Embedding,
            width: self.spec.shape[1],
            concatenated: self.concatenated,
            dropout: self.dropout,
            source: Source::Table {
                table: params.get(&self.spec)?,
                spec: self.spec.clone(),
                gather: self.gather.clone(),
            },
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::Mode;
    use crate::encoding::Encoding;
    use crate::params::Params;
    use crate::reference;
    use crate::rng::Rng;
    use half::{bf16, f16};

    fn numbers(seed: u64, n: usize) -> Vec<f64> {
        let mut rng = Rng::new(seed);
        (0..n).map(|_| rng.normal()).collect()
    }

    /// Embeds zeros `[batch, len, dim]` with the table 0, 1, 2, … of one column: what comes out is the row that was read.
    fn rows_read(learned: &Learned, at: &Positions, batch: usize) -> Result<Vec<f64>> {
        let plan = Encoding::from(learned.clone()).plan(Dims::new(1, 1)?)?;
        let mut params: Params<f64> = plan.init(0)?;
        (0..learned.max_len).for_each(|r| params.flat_mut()[r] = r as f64);
        let (x, mut y) = (vec![0.0; batch * at.len()], vec![f64::NAN; batch * at.len()]);
        let shape = [batch, at.len(), 1];
        plan.call(&params, at, at)?
            .embed(View::new(&x, shape)?, ViewMut::new(&mut y, shape)?, Mode::Evaluate)?;
        Ok(y)
    }

    /// The adjoint of a linear map equals its finite differences with any step: what differs is rounding of sums of n terms.
    fn check_gradients(learned: Learned, at: &Positions, batch: usize, mode: Mode) {
        let dims = Dims::new(3, 1).unwrap();
        let plan = Encoding::from(learned).plan(dims).unwrap();
        let mut params: Params<f64> = plan.init(3).unwrap();
        let wide = 3 + plan.concat_width();
        let (len, n) = (at.len(), batch * at.len());
        let (mut x, w) = (numbers(1, n * 3), numbers(2, n * wide));
        let loss = |params: &Params<f64>, x: &[f64]| -> f64 {
            let mut y = vec![f64::NAN; n * wide];
            let out = ViewMut::new(&mut y, [batch, len, wide]).unwrap();
            let call = plan.call(params, at, at).unwrap();
            call.embed(View::new(x, [batch, len, 3]).unwrap(), out, mode).unwrap();
            y.iter().zip(&w).map(|(y, w)| y * w).sum()
        };
        let (mut d_out, mut dx, mut grads) = (w.clone(), vec![f64::NAN; n * 3], params.zeros_like());
        let call = plan.call(&params, at, at).unwrap();
        let d_out = ViewMut::new(&mut d_out, [batch, len, wide]).unwrap();
        call.embed_adjoint(d_out, ViewMut::new(&mut dx, [batch, len, 3]).unwrap(), mode, &mut grads)
            .unwrap();
        drop(call);
        // Each loss is a sum of n·wide products of normal numbers and their dropout scale: its rounding is below 4 (n·wide)² ε.
        let bound = 8.0 * (n * wide) as f64 * (n * wide) as f64 * f64::EPSILON;
        for i in 0..x.len() {
            let mut at_step = |step: f64| {
                let kept = x[i];
                x[i] += step;
                let value = loss(&params, &x);
                x[i] = kept;
                value
            };
            let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
            assert!((dx[i] - difference).abs() <= bound, "x[{i}]: {} against {difference}", dx[i]);
        }
        for i in 0..params.size() {
            let mut at_step = |step: f64| {
                let kept = params.flat()[i];
                params.flat_mut()[i] += step;
                let value = loss(&params, &x);
                params.flat_mut()[i] = kept;
                value
            };
            let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
            let given = grads.flat()[i];
            assert!((given - difference).abs() <= bound, "table[{i}]: {given} against {difference}");
        }
    }

    #[test]
    fn adjoint_matches_finite_differences() {
        let train = Mode::Train { seed: 5, call: 7 };
        let repeated = Positions::whole_rows(&[4, 0, 4, 4, 1, 0, 2, 4], 2).unwrap();
        let holes = repeated
            .clone()
            .with_presence_rows(&[true, false, true, true, true, true, false, true], 2)
            .unwrap();
        let far = Positions::whole(&[0, 3, 11, 7]);
        for mode in [Mode::Evaluate, train] {
            check_gradients(Learned::new(5).with_dropout(0.4), &repeated, 2, mode);
            check_gradients(Learned::new(5).with_dropout(0.4).concatenated(2), &repeated, 2, mode);
            check_gradients(Learned::new(8).with_offset(2).with_padding_row(3), &holes, 2, mode);
            for overflow in [Overflow::Clamp, Overflow::Wrap, Overflow::Interpolate, Overflow::InterpolateTo(12)] {
                check_gradients(Learned::new(5).with_offset(1).with_overflow(overflow), &far, 3, mode);
            }
        }
    }

    #[test]
    fn lookup_copies_bits_of_any_type() {
        let ids = Positions::whole_rows(&[2, 0, 2, 1, 1, 0], 2).unwrap();
        let expected = [2, 0, 2, 1, 1, 0];
        // Quiet and signalling NaNs with payloads, −0, a subnormal: arithmetic would change some of them.
        let words = [0x7FC0_1234u32, 0x8000_0000, 0x7F80_0001, 0x0000_0001, 0xFFC0_0BAD, 0x3F80_0000];
        let table: Vec<f32> = words.iter().map(|w| f32::from_bits(*w)).collect();
        let mut out = [f32::NAN; 12];
        lookup(&ids, View::new(&table, [3, 2]).unwrap(), ViewMut::new(&mut out, [2, 3, 2]).unwrap()).unwrap();
        for (t, id) in expected.iter().enumerate() {
            assert_eq!([out[2 * t].to_bits(), out[2 * t + 1].to_bits()], words[2 * id..2 * id + 2]);
        }
        let table: Vec<f16> = [0x7D01u16, 0x8000, 0x0001].map(f16::from_bits).to_vec();
        let mut out = [f16::ONE; 6];
        lookup(&ids, View::new(&table, [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
        assert!(out.iter().zip(expected).all(|(o, id)| o.to_bits() == table[id].to_bits()));
        let table: Vec<bf16> = [0x7F81u16, 0x8000, 0x0001].map(bf16::from_bits).to_vec();
        let mut out = [bf16::ONE; 6];
        lookup(&ids, View::new(&table, [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
        assert!(out.iter().zip(expected).all(|(o, id)| o.to_bits() == table[id].to_bits()));
        let mut out = [9u8; 6];
        lookup(&ids, View::new(b"abc", [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
        assert_eq!(&out, b"cacbba");
    }

    #[test]
    fn a_range_a_strided_table_and_listed_ids_agree() {
        let (rows, width, len, batch) = (9, 3, 4, 3);
        let table = numbers(4, rows * width);
        let wide: Vec<f64> = table.chunks(width).flat_map(|row| [row, &[f64::NAN; 2]].concat()).collect();
        let expected = reference::learned::lookup(&[3, 4, 5, 6], &table, width).repeat(batch);
        let listed = Positions::whole(&[3, 4, 5, 6]);
        let strided = View::strided(&wide, [rows, width], [width + 2, 1]).unwrap();
        for (ids, table) in [
            (Positions::range(3..7), View::new(&table, [rows, width]).unwrap()),
            (Positions::range(3..7), strided),
            (listed.clone(), strided),
        ] {
            let mut out = vec![f64::NAN; batch * len * width];
            lookup(&ids, table, ViewMut::new(&mut out, [batch, len, width]).unwrap()).unwrap();
            assert_eq!(out, expected);
        }
        // Into every other row of a wider buffer: what lies between is not written.
        let mut out = vec![-7.0; 2 * len * 2 * width];
        let view = ViewMut::strided(&mut out, [2, len, width], [len * 2 * width, 2 * width, 1]).unwrap();
        lookup(&Positions::range(3..7), View::new(&table, [rows, width]).unwrap(), view).unwrap();
        for (t, row) in out.chunks(2 * width).enumerate() {
            assert_eq!(row[..width], expected[t * width..(t + 1) * width]);
            assert_eq!(row[width..], [-7.0; 3]);
        }
    }

    #[test]
    fn empty_shapes_work() {
        let table = [1.0f32; 6];
        for (shape, ids, width) in [
            ([0, 3, 2], Positions::strict::<f32>(&[], 0).unwrap(), 2),
            ([3, 0, 2], Positions::strict::<f32>(&[], 3).unwrap(), 2),
            ([2, 3, 0], Positions::range(0..3), 0),
            ([0, 0, 0], Positions::absent(0), 0),
        ] {
            let table = View::new(&table[..3 * width], [3, width]).unwrap();
            lookup(&ids, table, ViewMut::new(&mut [], shape).unwrap()).unwrap();
            let mut d_table = vec![0.0f32; 3 * width];
            let d_out = View::<f32, 3>::new(&[], shape).unwrap();
            lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [3, width]).unwrap()).unwrap();
        }
        let none = View::<f32, 2>::new(&[], [0, 2]).unwrap();
        lookup(&Positions::absent(0), none, ViewMut::new(&mut [], [1, 0, 2]).unwrap()).unwrap();
        let past = lookup(&Positions::absent(1), none, ViewMut::new(&mut [0.0; 2], [1, 1, 2]).unwrap());
        assert!(matches!(past, Err(Error::PastTable { position: 0, rows: 0, .. })));
    }

    #[test]
    fn a_refused_lookup_names_the_id_and_writes_nothing() {
        let table = [1.0f32, 2.0, 3.0];
        let refuse = |ids: Positions, batch: usize| {
            let mut out = [-7.0f32; 4];
            let view = ViewMut::new(&mut out[..batch * ids.len()], [batch, ids.len(), 1]).unwrap();
            let error = lookup(&ids, View::new(&table, [3, 1]).unwrap(), view).unwrap_err();
            let mut d_table = [-7.0f32; 3];
            let d_out = [1.0f32; 4];
            let d_out = View::new(&d_out[..batch * ids.len()], [batch, ids.len(), 1]).unwrap();
            assert_eq!(
                lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [3, 1]).unwrap()),
                Err(error.clone())
            );
            assert_eq!((out, d_table), ([-7.0; 4], [-7.0; 3]));
            error
        };
        let past = |position, batch, token| Error::PastTable {
            position,
            batch,
            token,
            rows: 3,
        };
        assert_eq!(refuse(Positions::whole_rows(&[0, 1, 2, 3], 2).unwrap(), 2), past(3, 1, 1));
        assert_eq!(refuse(Positions::range(1..5), 1), past(3, 0, 2));
        assert_eq!(refuse(Positions::whole(&[i64::MAX]), 1), past(i64::MAX, 0, 0));
        let negative = Error::Negative {
            position: -1,
            batch: 0,
            token: 1,
        };
        assert_eq!(refuse(Positions::whole(&[0, -1]), 1), negative);
        assert!(matches!(refuse(Positions::range(-1..2), 1), Error::Negative { position: -1, .. }));
        let fractional = Positions::real(&[0.0, 1.5]).unwrap();
        assert!(matches!(refuse(fractional, 1), Error::Fractional { value: 1.5, index: 1 }));
        assert!(matches!(refuse(Positions::grid(1, 2), 1), Error::Unsupported { .. }));
        assert!(matches!(
            refuse(Positions::whole_rows(&[0, 1, 2], 3).unwrap(), 2),
            Error::Shape { .. }
        ));
    }

    #[test]
    fn ids_that_arrive_as_floats() {
        let table: Vec<f32> = (0..4).map(|i| i as f32).collect();
        let read = |ids: Positions| {
            let mut out = vec![f32::NAN; ids.len()];
            let view = ViewMut::new(&mut out, [1, ids.len(), 1]).unwrap();
            lookup(&ids, View::new(&table, [4, 1]).unwrap(), view).map(|()| out)
        };
        assert_eq!(read(Positions::strict(&[3.0f32, -0.0], 1).unwrap()).unwrap(), [3.0, 0.0]);
        assert_eq!(read(Positions::real(&[2.0, 1.0]).unwrap()).unwrap(), [2.0, 1.0]);
        let as_torch = Positions::truncated(&[2.999_999_8f32, -0.5, 0.999], 1).unwrap();
        assert_eq!(read(as_torch).unwrap(), [2.0, 0.0, 0.0]);
        assert!(matches!(read(Positions::real(&[1e300]).unwrap()), Err(Error::Imprecise { .. })));
    }

    #[test]
    fn tokens_without_position_read_zeros_and_add_nothing() {
        let ids = Positions::whole(&[99, 1, -5]).with_presence(&[false, true, false]).unwrap();
        let mut out = [f32::NAN; 3];
        let table = [4.0f32, 5.0];
        lookup(&ids, View::new(&table, [2, 1]).unwrap(), ViewMut::new(&mut out, [1, 3, 1]).unwrap()).unwrap();
        assert_eq!(out, [0.0, 5.0, 0.0]);
        let mut d_table = [0.0f32; 2];
        let d_out = View::new(&[1.0f32, 2.0, 4.0], [1, 3, 1]).unwrap();
        lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [2, 1]).unwrap()).unwrap();
        assert_eq!(d_table, [0.0, 2.0]);
    }

    #[test]
    fn adjoint_scatters_as_the_reference_does() {
        let (ids, rows, width) = ([1usize, 4, 1, 1, 0, 4], 6, 3);
        let d_out = numbers(8, ids.len() * width);
        let mut d_table = vec![0.0; rows * width];
        let at = Positions::whole_rows(&ids.map(|id| id as i64), 2).unwrap();
        let view = View::new(&d_out, [2, 3, width]).unwrap();
        lookup_adjoint(&at, view, ViewMut::new(&mut d_table, [rows, width]).unwrap()).unwrap();
        assert_eq!(d_table, reference::learned::lookup_adjoint(&ids, &d_out, rows, width));
        assert_eq!(d_table[2 * width..4 * width], [0.0; 6]);
    }

    #[test]
    fn overflow_policies() {
        let at = Positions::whole(&[0, 3, 4, 9]);
        let read = |overflow| rows_read(&Learned::new(4).with_overflow(overflow), &at, 1);
        assert!(matches!(read(Overflow::Error), Err(Error::PastTable { position: 4, token: 2, .. })));
        assert_eq!(read(Overflow::Clamp).unwrap(), [0.0, 3.0, 3.0, 3.0]);
        assert_eq!(read(Overflow::Wrap).unwrap(), [0.0, 3.0, 0.0, 1.0]);
        let table: Vec<f64> = (0..4).map(f64::from).collect();
        let stretched = reference::learned::stretched(&table, 1, 10);
        let expected = [0, 3, 4, 9].map(|id| stretched[id]);
        for overflow in [Overflow::Interpolate, Overflow::InterpolateTo(10)] {
            for (given, expected) in read(overflow).unwrap().iter().zip(expected) {
                // A stretched coordinate below 4: its rounding is below 8 ε.
                assert!((given - expected).abs() <= 8.0 * f64::EPSILON, "{given} against {expected}");
            }
        }
        assert!(matches!(
            read(Overflow::InterpolateTo(9)),
            Err(Error::PastTable { position: 9, .. })
        ));
        // Negative ids have no row under any policy.
        for overflow in [Overflow::Clamp, Overflow::Wrap, Overflow::Interpolate] {
            let learned = Learned::new(4).with_overflow(overflow);
            assert!(matches!(
                rows_read(&learned, &Positions::whole(&[-1]), 1),
                Err(Error::Negative { .. })
            ));
            // Within the table nothing changes.
            assert_eq!(rows_read(&learned, &Positions::range(0..4), 1).unwrap(), [0.0, 1.0, 2.0, 3.0]);
        }
        // Rows below the offset are no positions: they are neither wrapped to nor stretched.
        let offset = Learned::new(4).with_offset(2);
        let wrapped = rows_read(&offset.clone().with_overflow(Overflow::Wrap), &at, 1).unwrap();
        assert_eq!(wrapped, [2.0, 3.0, 2.0, 3.0]);
        let stretched = rows_read(&offset.with_overflow(Overflow::Interpolate), &at, 1).unwrap();
        assert_eq!((stretched[0], stretched[3]), (2.0, 3.0));
    }

    #[test]
    fn a_named_length_makes_decoding_equal_prefill() {
        let learned = Learned::new(4).with_overflow(Overflow::InterpolateTo(9));
        let all = rows_read(&learned, &Positions::range(0..9), 1).unwrap();
        for t in 0..9 {
            assert_eq!(rows_read(&learned, &Positions::range(t..t + 1), 1).unwrap(), [all[t as usize]]);
        }
    }

    /// transformers 1363, 1052, 9116, 11242, 14243, 15292 and rinna 3: how many tokens a table serves, and which row is the first token's.
    #[test]
    fn bug_family_23_learned_offsets() {
        let first_rows = |learned: &Learned, n: i64| rows_read(learned, &Positions::range(0..n), 1);
        assert_eq!(first_rows(&Learned::opt(3), 3).unwrap(), [2.0, 3.0, 4.0]);
        assert!(matches!(
            first_rows(&Learned::opt(3), 4),
            Err(Error::PastTable {
                position: 5,
                token: 3,
                rows: 5,
                ..
            })
        ));
        // RoBERTa: 514 rows serve 512 tokens; rinna's padding token is number 3, so its 514 rows serve 510.
        assert_eq!(first_rows(&Learned::roberta(514, 1), 512).unwrap()[0], 2.0);
        assert!(matches!(
            first_rows(&Learned::roberta(514, 1), 513),
            Err(Error::PastTable { position: 514, .. })
        ));
        assert_eq!(first_rows(&Learned::roberta(514, 3), 510).unwrap()[0], 4.0);
        assert!(first_rows(&Learned::roberta(514, 3), 511).is_err());
        // Left padding moves no token: rows are padding_idx + 1 + (tokens before it).
        let left = Positions::from_padding(&[false, false, true, true], 1).unwrap();
        assert_eq!(rows_read(&Learned::roberta(8, 1), &left, 1).unwrap(), [0.0, 0.0, 2.0, 3.0]);
        // The table may be called with the row of its padding token; that row adds nothing, whatever it holds.
        let by_row = Learned::new(8).with_padding_row(1);
        assert_eq!(
            rows_read(&by_row, &Positions::whole(&[1, 2, 3, 1]), 1).unwrap(),
            [0.0, 2.0, 3.0, 0.0]
        );
        // An offset that leaves no position is refused when it is planned.
        let plan = |learned: Learned| Encoding::from(learned).plan(Dims::new(4, 1).unwrap());
        assert!(matches!(
            plan(Learned::new(2).with_offset(2)),
            Err(Error::Invalid { what: "offset", .. })
        ));
    }

    #[test]
    fn what_counts_is_the_ids_not_the_length() {
        assert_eq!(
            rows_read(&Learned::new(2), &Positions::packed(&[2, 1, 2]), 1).unwrap(),
            [0.0, 1.0, 0.0, 0.0, 1.0]
        );
        let rows = Positions::whole_rows(&[1, 0, 0, 1], 2).unwrap();
        assert_eq!(rows_read(&Learned::new(2), &rows, 2).unwrap(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(
            rows_read(&Learned::new(2), &Positions::range(0..2), 2).unwrap(),
            [0.0, 1.0, 0.0, 1.0]
        );
        assert!(rows_read(&Learned::new(2), &rows, 3).is_err());
    }

    #[test]
    fn half_precision_rounds_the_sum_once() {
        fn check<T: Element<Real = f32>>(unit: f64) {
            let plan = Encoding::from(Learned::new(5)).plan(Dims::new(4, 1).unwrap()).unwrap();
            let params: Params<f32> = plan.init(1).unwrap();
            let at = Positions::whole(&[4, 0, 4]);
            let x: Vec<T> = numbers(3, 12).iter().map(|x| T::narrow(*x as f32)).collect();
            let mut y = vec![T::narrow(f32::NAN); 12];
            let call = plan.call(&params, &at, &at).unwrap();
            call.embed(
                View::new(&x, [1, 3, 4]).unwrap(),
                ViewMut::new(&mut y, [1, 3, 4]).unwrap(),
                Mode::Evaluate,
            )
            .unwrap();
            for (i, id) in [4, 0, 4].into_iter().enumerate() {
                for c in 0..4 {
                    let exact = f64::from(x[4 * i + c].widen()) + f64::from(params.flat()[4 * id + c]);
                    // Half a unit of the storage, and one rounding in f32 before it.
                    let bound = exact.abs() * (unit + f64::from(f32::EPSILON));
                    assert!((f64::from(y[4 * i + c].widen()) - exact).abs() <= bound);
                }
            }
            // Gradients are summed in f32: 1 + 2⁻¹¹ would be lost in the storage.
            let mut grads = params.zeros_like();
            let mut d_out = vec![T::narrow(1.0); 12];
            d_out[..4].fill(T::narrow(1.0 / 2048.0));
            let mut dx = vec![T::narrow(f32::NAN); 12];
            let d_out = ViewMut::new(&mut d_out, [1, 3, 4]).unwrap();
            let dx = ViewMut::new(&mut dx, [1, 3, 4]).unwrap();
            call.embed_adjoint(d_out, dx, Mode::Evaluate, &mut grads).unwrap();
            assert_eq!(grads.flat()[16], 1.0 + 1.0 / 2048.0);
        }
        check::<f16>(1.0 / 2048.0);
        check::<bf16>(1.0 / 256.0);
    }

    #[test]
    fn initial_values_go_by_name_and_come_back() {
        let dims = Dims::new(64, 1).unwrap();
        for (name, std) in [
            ("normal", 1.0),
            ("normal-0.02", 0.02),
            ("zeros", 0.0),
            ("xavier", (2.0f64 / 164.0).sqrt()),
        ] {
            let learned = Learned::new(100).with_init(name.parse().unwrap());
            let plan = Encoding::from(learned).plan(dims).unwrap();
            let mut params: Params<f64> = plan.init(11).unwrap();
            let first = params.flat().to_vec();
            let variance = first.iter().map(|x| x * x).sum::<f64>() / first.len() as f64;
            // Four standard errors of a sample variance over 6400 normal numbers (of uniform ones it is smaller).
            assert!((variance - std * std).abs() <= 4.0 * (2.0f64 / 6400.0).sqrt() * std * std, "{name}");
            params.flat_mut().fill(f64::NAN);
            params.reset(11);
            assert_eq!(params.flat(), first);
        }
    }

    #[test]
    fn plans_refuse_what_cannot_work() {
        let refuse = |learned: Learned| Encoding::from(learned).plan(Dims::new(4, 1).unwrap()).unwrap_err();
        assert!(matches!(refuse(Learned::new(0)), Error::Zero { what: "max_len" }));
        assert!(matches!(refuse(Learned::new(4).concatenated(0)), Error::Zero { .. }));
        assert!(matches!(
            refuse(Learned::new(4).with_padding_row(4)),
            Error::Invalid { what: "padding_row", .. }
        ));
        assert!(matches!(
            refuse(Learned::new(4).with_dropout(-0.1)),
            Error::Invalid { what: "dropout", .. }
        ));
        assert!(matches!(
            refuse(Learned::new(4).with_overflow(Overflow::InterpolateTo(0))),
            Error::Zero { .. }
        ));
        let narrow = Encoding::from(Learned::new(4)).plan(Dims::new(4, 1).unwrap()).unwrap();
        let params: Params<f32> = narrow.init(0).unwrap();
        let call = narrow.call(&params, &Positions::range(0..1), &Positions::range(0..1)).unwrap();
        let (mut d_out, mut dx, mut grads) = ([1.0f32; 2], [-7.0f32; 2], params.zeros_like());
        let d_out = ViewMut::new(&mut d_out, [1, 1, 2]).unwrap();
        let error = call.embed_adjoint(d_out, ViewMut::new(&mut dx, [1, 1, 2]).unwrap(), Mode::Evaluate, &mut grads);
        assert!(matches!(error, Err(Error::Shape { .. })) && dx == [-7.0; 2]);
    }

    #[test]
    fn says_what_it_is_in_one_line() {
        let learned = Learned::roberta(514, 1)
            .with_overflow(Overflow::Clamp)
            .concatenated(8)
            .with_dropout(0.1);
        assert_eq!(
            learned.to_string(),
            "learned(max_len 514, offset 2, padding row 1, clamped past the end, 8 columns concatenated, dropout 0.1)"
        );
        assert_eq!(Learned::new(512).to_string(), "learned(max_len 512)");
    }
}
