//! Where the vectors of a method are added.

use crate::call::Site;
use crate::dims::Dims;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the vectors of a method are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddTo {
    /// To the token embeddings, once, before the first layer ([`Site::Embedding`]).
    #[default]
    Embeddings,
    /// To the inputs of attention's query and key projections, in each layer; the values' input stays as it is ([`Site::QueryInput`], [`Site::KeyInput`]).
    AttentionInputs,
    /// To the projected queries and keys, in each layer; each head has its own columns ([`Site::Query`], [`Site::Key`]).
    Projected,
}

impl AddTo {
    /// The sites of the query (or embedding) stream and of the key stream.
    pub(crate) fn sites(self) -> (Site, Option<Site>) {
        match self {
            AddTo::Embeddings => (Site::Embedding, None),
            AddTo::AttentionInputs => (Site::QueryInput, Some(Site::KeyInput)),
            AddTo::Projected => (Site::Query, Some(Site::Key)),
        }
    }

    /// Columns of a vector that is added there.
    pub(crate) fn width(self, dims: &Dims) -> usize {
        match self {
            AddTo::Embeddings | AddTo::AttentionInputs => dims.model_dim,
            AddTo::Projected => dims.heads * dims.head_dim,
        }
    }

    /// One vector must serve queries and keys.
    pub(crate) fn check(self, dims: &Dims, method: &'static str) -> Result<()> {
        if self == AddTo::Projected && dims.heads != dims.kv_heads {
            return Err(Error::Unsupported {
                method,
                what: "fewer key heads than query heads: one vector cannot be added to both projections; add it to the inputs",
            });
        }
        Ok(())
    }
}

impl fmt::Display for AddTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddTo::Embeddings => "embeddings",
            AddTo::AttentionInputs => "query and key inputs",
            AddTo::Projected => "projected queries and keys",
        })
    }
}
