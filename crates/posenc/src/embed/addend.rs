//! A table row per token, waiting to be added at its site.

use crate::call::Site;
use crate::embed::Gather;
use crate::error::{Error, Result};
use crate::kernels::{Present, add_row, gather_scaled};
use crate::params::{BoundMut, ParamSpec};
use crate::real::{Element, Real};
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
    /// Computed rows `[batch, seq, width]`; a batch of 1 serves all.
    Rows { rows: Arc<[R]>, batch: usize, len: usize },
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

    /// `x += row[from .. from + x.len()]`.
    #[inline]
    pub fn add_row<T: Element<Real = R>>(&self, batch: usize, token: usize, from: usize, x: &mut [T]) {
        let n = x.len();
        let mut add = |row: &[R]| add_row(Present::current(), x, row);
        match &self.source {
            Source::Table { table, gather, .. } => {
                let Some(mix) = gather.get(batch, token) else { return };
                let row = |r: usize| &table[r * self.width + from..][..n];
                if mix.weight == 0.0 {
                    add(row(mix.low));
                } else {
                    let w = R::of(mix.weight);
                    for ((x, a), b) in x.iter_mut().zip(row(mix.low)).zip(row(mix.high)) {
                        *x = T::narrow(x.widen() + *a + w * (*b - *a));
                    }
                }
            }
            Source::Rows { rows, batch: stored, len } => {
                let b = if *stored == 1 { 0 } else { batch };
                add(&rows[(b * len + token) * self.width + from..][..n]);
            }
        }
    }

    /// The gradient of the table; `None` if nothing is learned.
    pub fn gradient<'g>(&self, grads: &'g mut BoundMut<'_, R>) -> Result<Option<&'g mut [R]>> {
        match &self.source {
            Source::Table { spec, .. } => grads.get_mut(spec).map(Some),
            Source::Rows { .. } => Ok(None),
        }
    }

    /// The adjoint of [`Addend::add_row`]: repeated ids accumulate, untouched rows stay as they are.
    #[inline]
    pub fn scatter_row<T: Element<Real = R>>(&self, batch: usize, token: usize, from: usize, dx: &[T], into: &mut [R]) {
        let Source::Table { gather, .. } = &self.source else { return };
        let Some(mix) = gather.get(batch, token) else { return };
        let mut add = |row: usize, share: R| {
            let row = &mut into[row * self.width + from..][..dx.len()];
            gather_scaled(Present::current(), row, share, dx);
        };
        if mix.weight == 0.0 {
            add(mix.low, R::ONE);
        } else {
            add(mix.low, R::of(1.0 - mix.weight));
            add(mix.high, R::of(mix.weight));
        }
    }
}
