//! Methods that add to the scores and read positions only.

pub mod alibi;
mod by_distance;
pub mod clipped;
mod matrix;
pub mod shared;
pub mod t5;

pub use alibi::{Alibi, Form, Slopes, alibi_bias, alibi_bloom, alibi_bloom_padded, alibi_mpt, alibi_slopes, alibi_slopes_mpt};
pub use clipped::{ClippedBias, Direction, clipped_bias};
pub(crate) use matrix::write_terms;
pub use shared::SharedBias;
pub use t5::{T5Bias, t5_bias, t5_bucket};
