//! # ALiBi
//!
//! A penalty proportional to the distance, with a slope per head.

use crate::call::Parts;
use crate::dims::Dims;
use crate::error::Result;
use crate::params::Bound;
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A penalty proportional to the distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alibi {
    /// `−m·|i − j|` instead of `−m·(i − j)`.
    pub symmetric: bool,
}

impl Alibi {
    /// The paper's causal form.
    pub fn new() -> Alibi {
        Alibi { symmetric: false }
    }
}

impl Default for Alibi {
    fn default() -> Alibi {
        Alibi::new()
    }
}

impl fmt::Display for Alibi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alibi")
    }
}

impl Prepare for Alibi {
    fn check(&self, _dims: &Dims) -> Result<()> {
        Ok(())
    }

    fn prepare<R: Real>(&self, dims: &Dims, _q_at: &Positions, _k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let slopes = (1..=dims.heads).map(|h| 2f64.powf(-8.0 * h as f64 / dims.heads as f64)).collect();
        Ok(Arc::new(AlibiTerm {
            slopes,
            symmetric: self.symmetric,
        }))
    }
}

#[derive(Clone)]
struct AlibiTerm {
    slopes: Arc<[f64]>,
    symmetric: bool,
}

impl<R: Real> Prepared<R> for AlibiTerm {
    fn bind<'p>(&self, _params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.bias.push(Arc::new(self.clone()));
        Ok(())
    }
}

impl<R: Real> ScoreTerm<R> for AlibiTerm {
    fn needs(&self) -> Needs {
        Needs::bias(0)
    }

    fn add(&self, at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
        let slope = self.slopes[at.head];
        for i in 0..s.rows {
            let Some(q) = at.q_at.get(i) else { continue };
            for (j, s) in s.row(i).iter_mut().enumerate() {
                let Some(k) = at.k_at.get(j) else { continue };
                let distance = if self.symmetric { -(q - k).abs() } else { k - q };
                *s += R::of(slope * distance);
            }
        }
    }

    fn adjoint(
        &self,
        _at: &Place<'_>,
        _q: &Block<'_, R>,
        _k: &Block<'_, R>,
        _before: &Block<'_, R>,
        _ds: &mut BlockMut<'_, R>,
        _into: &mut TermGrads<'_, R>,
    ) {
    }
}
