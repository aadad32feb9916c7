//! # Music Transformer's relative attention
//!
//! **Idea.** A trained vector per head for each distance back, read by the query: Shaw's relative keys without sharing between heads, far enough for music, computed by the paper's *skew* without a vector per pair.
//!
//! **Paper.** Huang and others: *Music Transformer: Generating Music with Long-Term Structure*, 2018, arXiv 1809.04281.
//!
//! **Maths.** For query i, key j ≤ i and head h, with a table E of L rows per head:
//! ```text
//! s(i, j) = qᵢ · ( kⱼ + E[h, L − 1 − (i − j)] ) / √d
//! ```
//! The skew is how the paper reads qᵢ·E at i − j: it pads a column, reshapes, and drops a row. Here each pair's row is looked up by distance, which needs no padding and holds for any positions; the
//! [reference](crate::reference::music_transformer) has the skew itself, and the two are compared.
//!
//! **Shapes.** `relative_embeddings` `[heads, max_len, head_dim]`: the last row is the query's own position, row 0 the farthest back.
//!
//! **Conventions that differ between codebases.** The order of the rows is tensor2tensor's and the paper's. It is a causal method: keys after the query get nothing. Past the table tensor2tensor gives far keys
//! zeros; here that is a typed error, or, with [`Overflow::Clamp`], the farthest row. tensor2tensor can also share the table between heads: that is [`Shaw::keys_only`](crate::Shaw::keys_only), clipped.
//!
//! **Cost.** heads · max_len · head_dim numbers per layer. Products of the queries with the rows of a tile's diagonals, half as many operations as q·k and the values take; one product of
//! `head_dim` per pair where positions do not follow each other.
//!
//! ```
//! use posenc::{Dims, Encoding, Error, MusicTransformer, Positions};
//! let plan = Encoding::from(MusicTransformer::new(16)).plan(Dims::new(64, 4)?)?;
//! assert_eq!(plan.parameters()[0].shape, [4, 16, 16]);
//! let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..17));
//! assert!(matches!(plan.call(&params, &at, &at), Err(Error::FarDistance { distance: 16, token: 16, .. })));
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::Parts;
use crate::content::relative::{HeadRows, RelativeTerm, RowsAt};
use crate::dims::Dims;
use crate::distances::{check_distance, check_one_axis, extent, owner};
use crate::embed::Overflow;
use crate::error::{Error, Result};
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::steps::owned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A trained vector per head and distance back, read by queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "dot_product_self_attention_relative_v2")]
pub struct MusicTransformer {
    /// L: distances with a row, from 0.
    pub max_len: usize,
    /// A key farther back than that: an error, or the farthest row.
    #[serde(default)]
    pub overflow: Overflow,
    /// How the table begins; N(0, 1/√head_dim), as in tensor2tensor, if `None`.
    #[serde(default)]
    pub init: Option<Init>,
    /// One table for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl MusicTransformer {
    /// A table per layer; a distance past it is an error.
    pub fn new(max_len: usize) -> MusicTransformer {
        MusicTransformer {
            max_len,
            overflow: Overflow::Error,
            init: None,
            scope: Scope::Layer,
        }
    }

    /// The same with another answer past the table: [`Overflow::Error`] or [`Overflow::Clamp`].
    pub fn with_overflow(self, overflow: Overflow) -> MusicTransformer {
        MusicTransformer { overflow, ..self }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> MusicTransformer {
        MusicTransformer { init: Some(init), ..self }
    }

    /// The same with one table for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> MusicTransformer {
        MusicTransformer { scope, ..self }
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        let init = self.init.unwrap_or(Init::Normal(1.0 / (dims.head_dim as f64).sqrt()));
        ParamSpec::new("relative_embeddings", [dims.heads, self.max_len, dims.head_dim], init).scoped(self.scope)
    }

    /// The table row of a distance, query − key.
    fn row(&self) -> impl Fn(i64) -> Option<usize> {
        let last = self.max_len - 1;
        move |distance| (distance >= 0).then(|| last - (distance as usize).min(last))
    }

    /// Distances beyond it read what it reads.
    fn reach(&self) -> Option<i64> {
        Some((self.max_len - 1).max(1) as i64)
    }

    /// No key lies farther back than the table reaches, in its own row of the batch.
    fn check_reach(&self, q_at: &Positions, k_at: &Positions) -> Result<()> {
        if q_at.batch() > 1 {
            k_at.check_fit("key positions [batch, seq]", q_at.batch(), k_at.len())?;
        }
        for batch in 0..q_at.batch().max(k_at.batch()) {
            let (Some((_, last)), Some((first, _))) = (extent(q_at, Some(batch)), extent(k_at, Some(batch))) else {
                continue;
            };
            let rows = self.max_len;
            if last.saturating_sub(first) < rows as i64 {
                continue;
            }
            let queries = q_at.at(0, batch, 0, q_at.len());
            let distance = |token: usize| queries.whole(token).map(|q| q.saturating_sub(first));
            let far = (0..q_at.len()).find_map(|token| Some((token, distance(token).filter(|d| *d >= rows as i64)?)));
            if let Some((token, distance)) = far {
                return Err(Error::FarDistance {
                    distance,
                    batch,
                    token,
                    rows,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for MusicTransformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "music transformer(keys up to the query, {} distances", self.max_len)?;
        self.overflow.describe(f)?;
        write!(f, ", one table per head and {}", owner(self.scope))?;
        if let Some(init) = self.init {
            write!(f, ", {init}")?;
        }
        write!(f, ")")
    }
}

impl Prepare for MusicTransformer {
    fn check(&self, _dims: &Dims) -> Result<()> {
        if self.max_len == 0 {
            return Err(Error::Zero { what: "max_len" });
        }
        if !matches!(self.overflow, Overflow::Error | Overflow::Clamp) {
            return Err(Error::Unsupported {
                method: "music-transformer",
                what: "a table of distances is neither wrapped nor interpolated; use Overflow::Error or Overflow::Clamp",
            });
        }
        check_distance(self.max_len)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        check_one_axis("music-transformer", q_at, k_at)?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        if self.overflow == Overflow::Error {
            self.check_reach(q_at, k_at)?;
        }
        Ok(Arc::new(PreparedMusicTransformer {
            at: RowsAt::new("music-transformer", q_at, k_at, self.reach(), self.row())?,
            spec: self.spec(dims),
        }))
    }

    fn advance<R: Real>(&self, _dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let [q_at, k_at] = at;
        let fits = || {
            check_one_axis("music-transformer", q_at, k_at)?;
            match self.overflow {
                Overflow::Error => self.check_reach(q_at, k_at),
                _ => Ok(()),
            }
        };
        let rows = owned(prepared).map(|prepared: &mut PreparedMusicTransformer| &mut prepared.at);
        rows.is_some_and(|rows| fits().is_ok() && rows.advance("music-transformer", at, self.reach(), self.row()))
    }
}

struct PreparedMusicTransformer {
    at: RowsAt,
    spec: ParamSpec,
}

impl<R: Real> Prepared<R> for PreparedMusicTransformer {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.content.push(Arc::new(RelativeTerm {
            keys: Some(HeadRows::by_head(self.spec.clone(), params.get(&self.spec)?)),
            ..RelativeTerm::new(self.at.clone())
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;

    #[test]
    fn distances_past_the_table_are_refused_in_their_own_row_of_the_batch() {
        let plan = Encoding::from(MusicTransformer::new(10)).plan(Dims::new(8, 2).unwrap()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let rows = |ids: &[i64]| Positions::whole_rows(ids, 2).unwrap();
        // Far from each other, but near in their own row.
        let apart = rows(&[0, 5, 9, 1000, 1004, 1009]);
        assert!(plan.call(&params, &apart, &apart).is_ok());
        let far = rows(&[0, 5, 9, 1000, 1004, 1010]);
        let refused = plan.call(&params, &far, &far).map(|_| ());
        let expected = Error::FarDistance {
            distance: 10,
            batch: 1,
            token: 2,
            rows: 10,
        };
        assert_eq!(refused, Err(expected));
        // Keys after the query are never too far.
        assert!(plan.call(&params, &Positions::range(0..1), &Positions::range(0..500)).is_ok());
    }

    #[test]
    fn policies_that_are_no_policy_of_distances_are_refused() {
        let plan = |method: MusicTransformer| Encoding::from(method).plan(Dims::new(8, 2).unwrap());
        assert!(matches!(plan(MusicTransformer::new(0)), Err(Error::Zero { .. })));
        for overflow in [Overflow::Wrap, Overflow::Interpolate, Overflow::InterpolateTo(9)] {
            let refused = plan(MusicTransformer::new(4).with_overflow(overflow));
            assert!(matches!(refused, Err(Error::Unsupported { .. })));
        }
        let clamped = MusicTransformer::new(4)
            .with_overflow(Overflow::Clamp)
            .with_init(Init::Zeros)
            .with_scope(Scope::Model);
        assert_eq!(
            clamped.to_string(),
            "music transformer(keys up to the query, 4 distances, clamped past the end, one table per head and model, zeros)"
        );
        assert!(plan(clamped).unwrap().init::<f32>(0).unwrap().flat().iter().all(|x| *x == 0.0));
    }
}
