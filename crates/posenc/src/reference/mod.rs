//! The same methods once more: naive, in f64, written from the formulas and short enough to check by eye against the papers. The oracle of every faster version;
//! nothing here is tuned.
//!
//! A position is `Option<i64>` (or `Option<f64>`): `None` where a token has none. Matrices are row-major, biases `[heads, q_len, k_len]`.

pub mod alibi;
pub mod clipped;
pub mod deberta;
pub mod fire;
pub mod input;
pub mod kerple;
pub mod learned;
pub mod music_transformer;
pub mod relative;
pub mod rotary;
pub mod sandwich;
pub mod shared;
pub mod shaw;
pub mod sinusoidal;
pub mod swin;
pub mod t5;
pub mod transformer_xl;
pub mod xlnet;
