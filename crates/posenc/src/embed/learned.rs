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
use crate::dims::{Dims, check_width};
use crate::dropout::check_dropout;
use crate::embed::gather::{check_ids, no_row};
use crate::embed::{Addend, Gather, Overflow, Source, TableRows};
use crate::error::{Error, Result};
use crate::kernels::{Mix, Present, scatter_table};
use crate::memory;
use crate::params::{Bound, Init, ParamSpec};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::steps::owned;
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
        check_width("concatenated width", self.concat_width())
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
#[serde(deny_unknown_fields)]
#[doc(alias = "AbsolutePositionalEmbedding")]
#[doc(alias = "LearnedPositionalEncoding")]
#[doc(alias = "LearnedPositionalEmbedding")]
#[doc(alias = "position_embeddings")]
#[doc(alias = "embedding_table")]
#[doc(alias = "pos_embedding")]
pub struct Learned {
    /// Rows in the table, the offset's included: the largest id, plus the offset, plus one.
    #[doc(alias = "max_seq_len")]
    pub max_len: usize,
    /// Added to each id: 2 for OPT and BART.
    #[serde(default)]
    pub offset: usize,
    /// A row that adds nothing and learns nothing.
    #[serde(default)]
    pub padding_row: Option<usize>,
    /// Past the last row.
    #[serde(default)]
    pub overflow: Overflow,
    /// Added to the embeddings or put beside them.
    #[serde(default)]
    pub combine: Combine,
    /// Dropout of the sum, when training.
    #[serde(default)]
    pub dropout: f64,
    /// How the table begins.
    #[serde(default = "crate::encoding::written::narrow_normal")]
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
    if out.is_empty() {
        return Ok(());
    }
    if let (Some(start), Some(table), Some(out)) = (ids.start(), table.as_slice(), out.as_mut_slice()) {
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
    if d_out.is_empty() {
        return Ok(());
    }
    memory::countable::<T>("d_out [batch, seq, width]", &d_out.shape())?;
    if let Some(table) = d_table.as_mut_slice() {
        let row = |b: usize, t: usize| ids.at(0, b, t, 1).whole(0);
        let mix = |b: usize, t: usize| {
            row(b, t).map(|id| Mix {
                row: id as usize,
                other: None,
            })
        };
        scatter_table(Present::current(), d_out.with_one_head(), table, mix);
        return Ok(());
    }
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

    fn depends_on_length(&self) -> bool {
        self.overflow == Overflow::Interpolate
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

    fn advance<R: Real>(&self, _dims: &Dims, before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let gather = owned(prepared).and_then(|prepared: &mut PreparedLearned| Arc::get_mut(&mut prepared.gather));
        gather.is_some_and(|gather| gather.go_on(&self.rows(), before[0], at[0], &[at[0]]))
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
mod tests;
