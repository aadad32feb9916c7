//! Methods that add to the scores and read positions only.

pub mod alibi;

pub use alibi::Alibi;
