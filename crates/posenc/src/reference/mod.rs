//! The same methods once more: naive, in f64, written from the formulas and short enough to check by eye. Every faster version is tested against these.
//!
//! A position is `Option<i64>` (or `Option<f64>`): `None` where a token has none. Matrices are row-major, `[heads, q_len, k_len]`.

pub mod alibi;
pub mod clipped;
pub mod shared;
pub mod shaw;
pub mod t5;
