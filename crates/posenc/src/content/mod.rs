//! Methods that read queries and keys.

pub mod deberta;
mod diagonals;
pub mod music_transformer;
pub(crate) mod relative;
pub mod shaw;
pub mod transformer_xl;
pub mod xlnet;

pub use deberta::{Deberta, DebertaProjections, deberta_bucket};
pub use music_transformer::MusicTransformer;
pub use shaw::Shaw;
pub use transformer_xl::{TransformerXl, relative_sinusoids};
pub use xlnet::XlNet;
