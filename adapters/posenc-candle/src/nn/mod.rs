//! Modules whose weights come from a `VarBuilder`: of a file, under the names that Hugging Face's checkpoints have, or of a `VarMap` that is trained.
//!
//! They read a [`LayerSpec`](posenc::LayerSpec) and contain no formula: which parameters there are, what they are called and how they begin is the plan's to say.
//!
//! candle-nn's `LayerNorm`, `RmsNorm` and `softmax_last_dim` drop gradients on their fast paths; nothing here uses them.

mod attention;
mod encoded;
mod projections;

pub use attention::MultiheadAttention;
pub use encoded::Encoded;
pub use projections::{Biases, Projections};
