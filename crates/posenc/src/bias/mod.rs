//! Methods that add to the scores and read positions only.

pub mod alibi;
mod by_distance;
pub mod clipped;
mod curve;
pub mod fire;
mod grid;
pub mod kerple;
pub mod log_cpb;
mod matrix;
pub mod sandwich;
pub mod shared;
pub mod swin;
pub mod t5;

pub use alibi::{Alibi, Form, Slopes, alibi_bias, alibi_bloom, alibi_bloom_padded, alibi_mpt, alibi_slopes, alibi_slopes_mpt};
pub use clipped::{ClippedBias, Direction, clipped_bias};
pub use fire::Fire;
pub use kerple::{Kernel, Kerple};
pub use log_cpb::LogCpb;
pub(crate) use matrix::{gather_terms, write_terms};
pub use sandwich::Sandwich;
pub use shared::SharedBias;
pub use swin::SwinBias;
pub use t5::{T5Bias, t5_bias, t5_bucket};
