//! Experiments with position encodings as a library: model, data, training, evaluation; plain data out.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod results;
