//! Experiments with position encodings as a library: model, data, training, evaluation; plain data out.
//!
//! A comparison reads a [text](text::Text), draws the same [batches](batches::Batches) for every encoding, evaluates on the same
//! [windows](windows::EvaluationWindows), sums [losses](losses::LossSums) in a fixed order, keeps every finished run in a [folder](store::Store), and ends in
//! [verdicts](verdict) by a rule that was fixed before. `docs/method.md` says the same in words, with its limits.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod batches;
pub mod bench;
pub mod compare;
pub mod config;
pub mod csv;
pub mod demo;
pub mod error;
pub mod losses;
pub mod model;
pub mod preset;
pub mod results;
pub mod scalings;
pub mod store;
pub mod text;
pub mod trainer;
pub mod verdict;
pub mod windows;

pub use error::LabError;
