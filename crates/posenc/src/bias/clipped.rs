//! # Clipped relative bias
//!
//! **Idea.** One trained number per head for each distance up to k; all larger distances share the last one.
//!
//! **Paper.** The clipping is that of Shaw, Uszkoreit, Vaswani: *Self-Attention with Relative Position Representations*, 2018, arXiv 1803.02155, with a number in place of a
//! vector; as a bias, Raffel et al.: *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer*, 2019, arXiv 1910.10683, whose logarithmic buckets are
//! [`T5Bias`](crate::T5Bias).
//!
//! **Maths.** For head h, query i and key j, with a table w of 2k + 1 rows:
//! ```text
//! s(i, j) = q·k / √d + w[clip(j − i, −k, k) + k, h]      Direction::KeyMinusQuery
//! s(i, j) = q·k / √d + w[clip(i − j, −k, k) + k, h]      Direction::QueryMinusKey
//! ```
//!
//! **Shapes.** Table `relative_bias.weight` `[2k + 1, heads]`; bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ.
//!
//! **Conventions that differ between codebases.** The direction: document 003 writes b(i − j) and computes `pos[None, :] − pos[:, None]`, which is j − i; the two read a
//! trained table in opposite order, so it is a required argument. The module that this table is often called after, T5's, buckets distances logarithmically. Keys far past
//! the trained length all fall into the last row: what was learned for "k or more".
//!
//! **Cost.** (2k + 1) · heads numbers per layer. At most 2k + 1 row numbers per call, shared by layers; as many values per head and layer; one add per pair.
//!
//! ```
//! use posenc::{Direction, Positions, View, ViewMut, clipped_bias};
//! let table = [10.0f32, 20.0, 30.0]; // one head: the key lies before, at, after the query
//! let (at, mut bias) = (Positions::range(0..2), [f32::NAN; 4]);
//! clipped_bias(View::new(&table, [3, 1])?, Direction::KeyMinusQuery, &at, &at, ViewMut::new(&mut bias, [1, 2, 2])?)?;
//! assert_eq!(bias, [20.0, 30.0, 10.0, 20.0]);
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

/// Which way a distance is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// j − i: row 0 of a table is for keys far *before* the query. The code of document 003, T5, Shaw.
    KeyMinusQuery,
    /// i − j: row 0 of a table is for keys far *after* the query. The formula of document 003, symm-learning.
    QueryMinusKey,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::KeyMinusQuery => "key − query",
            Direction::QueryMinusKey => "query − key",
        })
    }
}

/// A trained number per head and clipped distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "RelativePositionalBias")]
#[doc(alias = "RelativePositionBias")]
#[doc(alias = "relative_bias")]
pub struct ClippedBias {
    /// k: distances beyond ±k are read as ±k. 0 leaves one number per head.
    pub max_distance: usize,
    /// Which way a distance is counted.
    pub direction: Direction,
    /// How the table begins.
    #[serde(default = "crate::encoding::written::normal")]
    pub init: Init,
    /// One table for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl ClippedBias {
    /// One table per layer that begins as N(0, 1), as `nn.Embedding` does in document 003.
    pub fn new(max_distance: usize, direction: Direction) -> ClippedBias {
        ClippedBias {
            max_distance,
            direction,
            init: Init::Normal(1.0),
            scope: Scope::Layer,
        }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> ClippedBias {
        ClippedBias { init, ..self }
    }

    /// The same with one table for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> ClippedBias {
        ClippedBias { scope, ..self }
    }

    fn table(&self, heads: usize) -> TableBias {
        TableBias {
            spec: ParamSpec::new("relative_bias.weight", [2 * self.max_distance + 1, heads], self.init).scoped(self.scope),
            heads,
            subtracted: false,
            reach: self.max_distance,
        }
    }

    /// The table row of a distance `key − query` that is already clipped.
    fn row(&self) -> impl Fn(i64) -> usize {
        let (k, direction) = (self.max_distance as i64, self.direction);
        move |distance| match direction {
            Direction::KeyMinusQuery => (distance + k) as usize,
            Direction::QueryMinusKey => (k - distance) as usize,
        }
    }
}

/// The bias of a table `[2k + 1, heads]`, written as `[heads, q_len, k_len]`; 0 where the query or the key has no position.
///
/// # Errors
/// A table with an even number of rows, another output shape, fractional positions, or positions that differ between batch rows or have several axes.
///
/// ```
/// use posenc::{Direction, Positions, View, ViewMut, clipped_bias};
/// let table: Vec<f64> = (0..10).map(f64::from).collect();
/// let (q_at, k_at, mut bias) = (Positions::range(3..4), Positions::range(0..4), [f64::NAN; 2 * 4]);
/// clipped_bias(View::new(&table, [5, 2])?, Direction::QueryMinusKey, &q_at, &k_at, ViewMut::new(&mut bias, [2, 1, 4])?)?;
/// assert_eq!(bias[..4], [8.0, 8.0, 6.0, 4.0]); // distances 3, 2, 1, 0 of head 0; 3 is clipped to 2
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn clipped_bias<R: Real>(
    table: View<'_, R, 2>,
    direction: Direction,
    q_at: &Positions,
    k_at: &Positions,
    out: ViewMut<'_, R, 3>,
) -> Result<()> {
    let [rows, heads] = table.shape();
    if rows % 2 != 1 {
        return Err(Error::Invalid {
            what: "rows of a clipped table",
            given: rows.to_string(),
            expected: "2k + 1, an odd number",
        });
    }
    check_distance(rows / 2)?;
    let method = ClippedBias::new(rows / 2, direction);
    let at = method.table(heads).at("clipped bias", q_at, k_at, method.row())?;
    memory::check::<R>("table [rows, heads]", &[rows, heads])?;
    let table: Vec<R> = (0..rows).flat_map(|row| table.row([row, 0]).iter().copied()).collect();
    write_matrix(&at.term(&table), heads, q_at, k_at, out)
}

impl fmt::Display for ClippedBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clipped bias({}, ±{}, one table per {}, {})",
            self.direction,
            self.max_distance,
            owner(self.scope),
            self.init
        )
    }
}

impl Prepare for ClippedBias {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_distance(self.max_distance)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.table(dims.heads).spec]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(self.table(dims.heads).at("clipped bias", q_at, k_at, self.row())?))
    }

    fn advance<R: Real>(&self, dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        self.table(dims.heads).advance("clipped bias", at, prepared, self.row())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::{reference, tiles};

    #[test]
    fn term_and_gradient_are_those_of_the_reference_in_both_directions() {
        for direction in [Direction::KeyMinusQuery, Direction::QueryMinusKey] {
            for max_distance in [0, 1, 4, 30] {
                let encoding = ClippedBias::new(max_distance, direction).into();
                tiles::check_table_bias(&encoding, |table, q, k| reference::clipped::bias(table, 3, direction, q, k));
            }
        }
    }

    /// Document 003 writes b(i − j) and computes j − i: its code reads row 11 for query 0 and key 1 with max_distance 10, its formula row 9.
    #[test]
    fn code_and_formula_of_document_003_read_opposite_rows() {
        let table: Vec<f32> = (0..21).map(|x| x as f32).collect();
        let (at, mut bias) = (Positions::range(0..2), [f32::NAN; 4]);
        for (direction, row) in [(Direction::KeyMinusQuery, 11.0), (Direction::QueryMinusKey, 9.0)] {
            let out = ViewMut::new(&mut bias, [1, 2, 2]).unwrap();
            clipped_bias(View::new(&table, [21, 1]).unwrap(), direction, &at, &at, out).unwrap();
            assert_eq!(bias[1], row);
        }
    }

    #[test]
    fn what_has_no_row_is_refused() {
        let plan = |method: ClippedBias| Encoding::from(method).plan(Dims::new(8, 2).unwrap());
        assert!(matches!(
            plan(ClippedBias::new(usize::MAX, Direction::KeyMinusQuery)),
            Err(Error::Invalid { .. })
        ));
        let plan = plan(ClippedBias::new(4, Direction::KeyMinusQuery)).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let (at, half) = (Positions::range(0..2), Positions::real(&[0.0, 0.5]).unwrap());
        assert!(matches!(plan.call(&params, &half, &at), Err(Error::Fractional { index: 1, .. })));
        assert!(matches!(plan.call(&params, &at, &half), Err(Error::Fractional { .. })));
        assert!(matches!(
            plan.call(&params, &at, &Positions::grid(1, 2)),
            Err(Error::Unsupported { .. })
        ));
        let table = [0.0f32; 4];
        let out = &mut [0.0; 4];
        let even = clipped_bias(
            View::new(&table, [4, 1]).unwrap(),
            Direction::KeyMinusQuery,
            &at,
            &at,
            ViewMut::new(out, [1, 2, 2]).unwrap(),
        );
        assert!(matches!(even, Err(Error::Invalid { .. })));
    }

    #[test]
    fn display_is_one_line_and_init_goes_by_name() {
        let method = ClippedBias::new(8, Direction::KeyMinusQuery);
        assert_eq!(method.to_string(), "clipped bias(key − query, ±8, one table per layer, N(0, 1))");
        let plan = Encoding::from(method.with_init("zeros".parse().unwrap()))
            .plan(Dims::new(8, 2).unwrap())
            .unwrap();
        let mut params = plan.init::<f32>(0).unwrap();
        params.flat_mut().fill(3.0);
        params.reset(0);
        assert!(params.get("relative_bias.weight").unwrap().iter().all(|x| *x == 0.0));
    }
}
