//! # A table added to the inputs of queries and keys
//!
//! **Idea.** The position belongs to the question who attends to whom, not to what is passed on. So the position's vector is added where queries and keys
//! are made, in every layer, and values carry no position at all.
//!
//! **Papers.** Carion and others: *End-to-End Object Detection with Transformers* (DETR), 2020, arXiv 2005.12872, adds sinusoids there; Press, Smith,
//! Lewis: *Shortformer*, 2020, arXiv 2012.15832, calls it position-infused attention. With a learned table it is `AdditivePosMultiheadAttention` of symm-learning.
//! The sinusoidal form is [`Sinusoidal`](crate::Sinusoidal) with [`AddTo::AttentionInputs`].
//!
//! **Maths.** With one table E for queries and keys, `q` and `k` at positions P_q and P_k:
//! ```text
//! q′ = q + E[P_q],   k′ = k + E[P_k],   v′ = v          then projections, heads, softmax as ever
//! adjoint:  dE[r] = Σ of dq′ over the queries at r + Σ of dk′ over the keys at r
//! ```
//! A table of zeros is ordinary attention, exactly.
//!
//! **Shapes.** Parameter `pos_emb` `[max_len, model_dim]`, one per layer unless [`InputTable::scope`] says otherwise. Query input
//! `[batch, q_len, model_dim]`, key input `[batch, k_len, model_dim]`. With [`AddTo::Projected`] the table has `heads · head_dim` columns and each head adds its own.
//!
//! **Conventions that differ between codebases.** The table begins with zeros (symm-learning; its `CondTransformer` draws N(0, 0.02) afterwards). A token
//! without a position adds nothing, and its id is not read. Upstream, a negative id wraps to the table's end and a float id is truncated; here both are
//! typed errors. Upstream calls `max_len` the "maximum sequence length"; it is the largest id plus one.
//!
//! **Cost.** max_len · model_dim parameters per layer; one read-modify-write sweep over q and k per layer. In self-attention the value stream must stay
//! what it was, so queries and keys are copies of it.
//!
//! ```
//! use posenc::{Dims, Encoding, InputTable, Mode, Positions, Site, ViewMut};
//! let plan = Encoding::from(InputTable::new(8)).plan(Dims::new(2, 1)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! params.get_mut("pos_emb")?[6..8].copy_from_slice(&[0.5, 0.25]); // row 3
//!
//! let (mut q, mut k) = ([1.0f32, 1.0], [2.0f32; 6]);
//! let call = plan.call(&params, &Positions::range(3..4), &Positions::range(2..5))?; // a decoded token and its keys
//! call.add(Site::QueryInput, ViewMut::new(&mut q, [1, 1, 2])?, Mode::Evaluate)?;
//! call.add(Site::KeyInput, ViewMut::new(&mut k, [1, 3, 2])?, Mode::Evaluate)?;
//! assert_eq!((q, k), ([1.5, 1.25], [2.0, 2.0, 2.5, 2.25, 2.0, 2.0]));
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::{Parts, Site};
use crate::dims::Dims;
use crate::embed::{Addend, Gather, Overflow, Source, TableRows};
use crate::error::{Error, Result};
use crate::input::AddTo;
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A learned table added to the inputs of queries and keys in each layer; values untouched. See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[doc(alias = "AdditivePosMultiheadAttention")]
#[doc(alias = "pos_emb")]
pub struct InputTable {
    /// Rows in the table: the largest id plus one.
    pub max_len: usize,
    /// Before the projections or after them; never the embeddings, that is [`Learned`](crate::Learned).
    pub add_to: AddTo,
    /// One table per layer, or one for the model.
    pub scope: Scope,
    /// Past the last row.
    pub overflow: Overflow,
    /// How the table begins.
    pub init: Init,
}

impl InputTable {
    /// A table of `max_len` rows of zeros per layer, added before the projections; a position past it is an error.
    pub fn new(max_len: usize) -> InputTable {
        InputTable {
            max_len,
            add_to: AddTo::AttentionInputs,
            scope: Scope::Layer,
            overflow: Overflow::Error,
            init: Init::Zeros,
        }
    }

    /// The same, added to the projected queries and keys.
    pub fn projected(self) -> InputTable {
        InputTable {
            add_to: AddTo::Projected,
            ..self
        }
    }

    /// The same with one table for all layers, or one for each.
    pub fn with_scope(self, scope: Scope) -> InputTable {
        InputTable { scope, ..self }
    }

    /// The same with another answer past the last row.
    pub fn with_overflow(self, overflow: Overflow) -> InputTable {
        InputTable { overflow, ..self }
    }

    /// The same with other initial values.
    pub fn with_init(self, init: Init) -> InputTable {
        InputTable { init, ..self }
    }

    fn rows(&self) -> TableRows {
        TableRows {
            rows: self.max_len,
            offset: 0,
            padding_row: None,
            overflow: self.overflow,
        }
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        ParamSpec::new("pos_emb", [self.max_len, self.add_to.width(dims)], self.init).scoped(self.scope)
    }
}

impl fmt::Display for InputTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input_table(max_len {}, on {}", self.max_len, self.add_to)?;
        if self.scope == Scope::Model {
            write!(f, ", one for all layers")?;
        }
        self.overflow.describe(f)?;
        write!(f, ")")
    }
}

impl Prepare for InputTable {
    fn check(&self, dims: &Dims) -> Result<()> {
        if self.add_to == AddTo::Embeddings {
            return Err(Error::Unsupported {
                method: "input_table",
                what: "it is added inside attention; a table added to the embeddings is `learned`",
            });
        }
        self.add_to.check(dims, "input_table")?;
        self.rows().check()
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let (query, key) = self.add_to.sites();
        let gather = |at| Gather::new(&self.rows(), at, &[q_at, k_at]).map(Arc::new);
        let q_rows = gather(q_at)?;
        let mut at = vec![(query, q_rows.clone())];
        if let Some(key) = key {
            at.push((key, if q_at == k_at { q_rows } else { gather(k_at)? }));
        }
        Ok(Arc::new(PreparedInputTable { spec: self.spec(dims), at }))
    }
}

struct PreparedInputTable {
    spec: ParamSpec,
    at: Vec<(Site, Arc<Gather>)>,
}

impl<R: Real> Prepared<R> for PreparedInputTable {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let table = params.get(&self.spec)?;
        for (site, gather) in &self.at {
            parts.addends.push(Addend {
                site: *site,
                width: self.spec.shape[1],
                concatenated: false,
                dropout: 0.0,
                source: Source::Table {
                    table,
                    spec: self.spec.clone(),
                    gather: gather.clone(),
                },
            });
        }
        Ok(())
    }
}
