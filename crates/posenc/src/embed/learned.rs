//! # Learned absolute positions
//!
//! A row of a trained table for each position, added to (or put beside) the token embedding.

use crate::call::{Parts, Site};
use crate::dims::Dims;
use crate::dropout::check_dropout;
use crate::embed::{Addend, Gather, Overflow, Source, TableRows};
use crate::error::{Error, Result};
use crate::params::{Bound, Init, ParamSpec};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
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

/// Learned absolute positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Rows in the table, the offset's included: the largest id plus one.
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

    fn width(&self, dims: &Dims) -> usize {
        match self.combine {
            Combine::Add => dims.model_dim,
            Combine::Concatenate(width) => width,
        }
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        ParamSpec::new("pos_embedding.weight", [self.max_len, self.width(dims)], self.init)
    }
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "learned(max_len {})", self.max_len)
    }
}

impl Prepare for Learned {
    fn check(&self, dims: &Dims) -> Result<()> {
        check_dropout(self.dropout)?;
        if self.max_len == 0 {
            return Err(Error::Zero { what: "max_len" });
        }
        if self.width(dims) == 0 {
            return Err(Error::Zero {
                what: "concatenated width",
            });
        }
        if self.offset >= self.max_len {
            return Err(Error::Invalid {
                what: "offset",
                given: self.offset.to_string(),
                expected: "less than max_len",
            });
        }
        Ok(())
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn concat_width(&self, dims: &Dims) -> usize {
        if self.combine == Combine::Add { 0 } else { self.width(dims) }
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, _k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let table = TableRows {
            rows: self.max_len,
            offset: self.offset,
            padding_row: self.padding_row,
            overflow: self.overflow,
        };
        Ok(Arc::new(PreparedLearned {
            spec: self.spec(dims),
            gather: Arc::new(Gather::new(&table, q_at)?),
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
