//! # Shared relative bias
//!
//! **Idea.** One trained number for each distance up to k, the same for all heads, *subtracted* from the scores.
//!
//! **Paper.** None of its own: `AdditiveRelMultiheadAttention` of the package symm-learning 0.8.1 (document 002's), after Shaw, Uszkoreit, Vaswani, 2018, arXiv 1803.02155.
//!
//! **Maths.** For query i and key j, with a table φ of 2k + 1 numbers:
//! ```text
//! s(i, j) = q·k / √d − φ[clip(i − j, −k, k) + k]
//! ```
//!
//! **Shapes.** Table `rel_bias` `[2k + 1]`; bias `[q_len, k_len]` for every head and, unless positions differ, every row of the batch.
//!
//! **Conventions that differ between codebases.** The sign (most add), the direction (query − key), and one table for all heads (T5 and document 003 have a column per
//! head). A table of zeros is attention without positions, where it begins. symm-learning drops this bias without a word when a call is causal and asks for no weights;
//! it truncates the *difference* of fractional positions, where this is a typed error: truncate the ids with [`Positions::truncated`](crate::Positions::truncated) if that is meant.
//!
//! **Cost.** 2k + 1 numbers per layer. At most 2k + 1 row numbers per call, shared by layers, and as many values per layer; one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, SharedBias, ViewMut};
//! let plan = Encoding::from(SharedBias::new(1)).plan(Dims::new(8, 2)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! params.set("rel_bias", &[3], &[10.0, 20.0, 30.0])?; // the key lies after, at, before the query
//! let (at, mut bias) = (Positions::range(0..2), [f32::NAN; 8]);
//! plan.call(&params, &at, &at)?.materialise_bias(ViewMut::new(&mut bias, [1, 2, 2, 2])?)?;
//! assert_eq!(bias, [-20.0, -10.0, -30.0, -20.0, -20.0, -10.0, -30.0, -20.0]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::bias::by_distance::TableBias;
use crate::dims::Dims;
use crate::distances::{check_distance, owner};
use crate::error::Result;
use crate::params::{Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A trained number per clipped distance, shared by all heads and subtracted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "AdditiveRelMultiheadAttention")]
pub struct SharedBias {
    /// k: distances beyond ±k are read as ±k. 0 leaves one number, which softmax ignores.
    pub max_distance: usize,
    /// How the table begins.
    #[serde(default = "crate::encoding::written::zeros")]
    pub init: Init,
    /// One table for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl SharedBias {
    /// One table per layer that begins at zero.
    pub fn new(max_distance: usize) -> SharedBias {
        SharedBias {
            max_distance,
            init: Init::Zeros,
            scope: Scope::Layer,
        }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> SharedBias {
        SharedBias { init, ..self }
    }

    /// The same with one table for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> SharedBias {
        SharedBias { scope, ..self }
    }

    fn table(&self, heads: usize) -> TableBias {
        TableBias {
            spec: ParamSpec::new("rel_bias", [2 * self.max_distance + 1], self.init).scoped(self.scope),
            heads,
            subtracted: true,
            reach: self.max_distance,
        }
    }

    /// The table row of a distance `key − query` that is already clipped.
    fn row(&self) -> impl Fn(i64) -> usize {
        let k = self.max_distance as i64;
        move |distance| (k - distance) as usize
    }
}

impl fmt::Display for SharedBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shared bias(query − key, ±{}, subtracted, all heads, one table per {}, {})",
            self.max_distance,
            owner(self.scope),
            self.init
        )
    }
}

impl Prepare for SharedBias {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_distance(self.max_distance)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.table(dims.heads).spec]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(self.table(dims.heads).at("shared bias", q_at, k_at, self.row())?))
    }

    fn advance<R: Real>(&self, dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        self.table(dims.heads).advance("shared bias", at, prepared, self.row())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::{reference, tiles};

    #[test]
    fn term_and_gradient_are_those_of_the_reference() {
        for max_distance in [0, 3, 30] {
            let encoding = SharedBias::new(max_distance).into();
            tiles::check_table_bias(&encoding, |table, q, k| reference::shared::bias(table, q, k).repeat(3));
        }
    }

    #[test]
    fn a_new_table_changes_nothing() {
        let method = SharedBias::new(4);
        assert_eq!(
            method.to_string(),
            "shared bias(query − key, ±4, subtracted, all heads, one table per layer, zeros)"
        );
        let plan = Encoding::from(method).plan(Dims::new(8, 2).unwrap()).unwrap();
        assert!(plan.init::<f32>(7).unwrap().flat().iter().all(|x| *x == 0.0));
    }
}
