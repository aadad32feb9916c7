//! A table row per token, waiting to be added at its site.

use crate::call::Site;
use crate::embed::Gather;
use crate::error::{Error, Result};
use crate::kernels::{Mix, Present, RowsMut, add_table, scatter_table};
use crate::params::{BoundMut, ParamSpec};
use crate::real::{Element, Real};
use crate::steps::ByToken;
use crate::view::View;
use std::sync::Arc;

/// What is added to each token at a site.
#[derive(Clone)]
pub(crate) struct Addend<'p, R> {
    pub site: Site,
    pub width: usize,
    /// Appended as new columns instead of added (embeddings only).
    pub concatenated: bool,
    /// Dropout of the sum, when training.
    pub dropout: f64,
    pub source: Source<'p, R>,
}

/// Where the rows come from.
#[derive(Clone)]
pub(crate) enum Source<'p, R> {
    /// A learned table `[rows, width]` and the rows that the tokens mean.
    Table {
        table: &'p [R],
        spec: ParamSpec,
        gather: Arc<Gather>,
    },
    /// Computed rows.
    Rows(Arc<ByToken<R>>),
}

impl<R: Real> Addend<'_, R> {
    pub fn check_width(&self, width: usize) -> Result<()> {
        if self.concatenated {
            return Err(Error::Unsupported {
                method: "Call::add",
                what: "this table is concatenated, not added; use Call::embed",
            });
        }
        if self.width != width {
            return Err(Error::Shape {
                what: "x [.., width] at the site of a table",
                expected: vec![self.width],
                given: vec![width],
            });
        }
        Ok(())
    }

    /// Bytes of the rows of one token.
    pub fn row_bytes(&self) -> usize {
        self.width * size_of::<R>()
    }

    /// Adds each token's row to the rows of a part, whose heads together are as wide as it: each takes its own columns.
    pub fn add<T: Element<Real = R>>(&self, on: Present, x: &mut RowsMut<'_, T>) {
        match &self.source {
            Source::Table { table, gather, .. } => add_table(on, x, table, |b, t| gather.mix(b, t)),
            Source::Rows(rows) => {
                let mix = |b, t| {
                    Some(Mix {
                        row: rows.index(b, t),
                        other: None,
                    })
                };
                add_table(on, x, rows.data(), mix);
            }
        }
    }

    /// The gradient of the table; `None` if nothing is learned.
    pub fn gradient<'g>(&self, grads: &'g mut BoundMut<'_, R>) -> Result<Option<&'g mut [R]>> {
        match &self.source {
            Source::Table { spec, .. } => grads.get_mut(spec).map(Some),
            Source::Rows(_) => Ok(None),
        }
    }

    /// The adjoint of [`Addend::add`] for a whole stream `[batch, heads, seq, width]`: repeated ids accumulate, rows that none names stay as they are.
    pub fn scatter<T: Element<Real = R>>(&self, dx: View<'_, T, 4>, into: &mut [R]) {
        let Source::Table { gather, .. } = &self.source else { return };
        scatter_table(Present::current(), dx, into, |b, t| gather.mix(b, t));
    }
}
