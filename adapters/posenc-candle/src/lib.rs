//! Position encodings on candle tensors: every hook of [`posenc`] as an operation that candle records, with a real gradient.
//!
//! | what | how |
//! |---|---|
//! | queries and keys turned | [`Call::rotate`], [`Call::rotate_in_place`]; for a model of candle-transformers, [`RotaryEmbedding`] |
//! | tables added to embeddings, to inputs of attention, to queries and keys | [`Call::embed`], [`Call::add`] |
//! | biases written out | [`Call::bias`] |
//! | attention with all of it, without a score matrix | [`Call::attend`] |
//! | modules that load weights by name | `nn` (feature `nn`, on by default) |
//! | layers from a model's `config.json` | `RotaryEmbedding::from_config`, `nn::MultiheadAttention::from_config` (feature `config`) |
//!
//! # Gradients
//!
//! Every operation has one, to its tensors and to the encoding's parameters. What cannot have one says so: [`Call::rotate_in_place`] refuses a tensor that gradients flow through ([`Error::Tracked`]), and so does a mask
//! ([`Mask::additive`]). There are no second derivatives: a gradient is made of numbers, not of a graph.
//!
//! # Numbers
//!
//! Tensors are f32, f64, f16 or bf16. Half precision is computed in f32 and rounded once. Angles are f64, positions are whole numbers or f64: there is no position in half precision.
//!
//! # Memory
//!
//! Tensors are read where they lie, whatever their strides, as long as their last axis is contiguous; one that has gaps there is refused ([`Error::Strided`]), not copied. Results are new and contiguous.
//! Where gradients go to an encoding's parameters, [`Call::attend`] joins keys and values, which copies them once: an operation of candle's has three arguments.
//!
//! # Devices
//!
//! The kernels run on the CPU. On CUDA and Metal the same results come from candle's own differentiable operations: the core makes tables, biases and masks on the CPU, and rows are turned and attended to on the device.
//! What has no such form (relative vectors, dropout) goes by way of the CPU. That path is tested on the CPU ([`Call::portable`]); it has not been run on a device.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod add;
mod attend;
mod bias;
mod call;
mod error;
mod kernels;
mod mask;
mod parameters;
mod portable;
mod rotary;
mod rotate;
mod rows;
mod shared;
mod storage;

pub use call::Call;
pub use error::{Error, Result};
pub use mask::Mask;
pub use parameters::{Parameters, init};
pub use rotary::RotaryEmbedding;

#[cfg(feature = "nn")]
pub mod nn;

/// The README's code runs as a doctest.
#[cfg(all(doctest, feature = "nn"))]
#[doc = include_str!("../README.md")]
struct Readme;
