//! What has weights around [`posenc`]: layers with a forward and an adjoint on plain slices, the optimiser that moves their parameters, and the
//! files those are kept in.
//!
//! A layer is plain data: its name and its sizes. Its tensors live in [`posenc::Params`] under `{name}.weight` and the like, in PyTorch's layouts, so
//! a store, its gradients, an optimiser's moments and a safetensors file all have the same names.
//!
//! Conventions, the same everywhere:
//! - Tensors are row-major slices; `n` is the number of tokens, whatever axes they come from.
//! - `forward` overwrites its output. `adjoint` **adds** to the gradients of parameters and **overwrites** gradients of inputs. Layers that keep a
//!   tensor's shape ([`LayerNorm`], [`Gelu`]) turn the gradient of their output into that of their input in place.
//! - Work is split by shape alone: a caller that splits its own so gets the same bits for any number of threads. With the feature `rayon` large products, the optimiser and attention
//!   use the threads of the caller's pool, and give the same bits as without it.
//! - Every function that returns an [`Error`] checks before it writes; on error no output was touched.
//!
//! ```
//! use posenc::Params;
//! use posenc_nn::{Gelu, Linear};
//!
//! let (up, down) = (Linear::new("up", 4, 16), Linear::new("down", 16, 4));
//! let params: Params<f32> = Params::init(&[up.specs(), down.specs()].concat(), 1)?;
//! let x = [0.5; 8]; // two tokens
//! let (mut hidden, mut active, mut y) = ([0.0; 32], [0.0; 32], [0.0; 8]);
//! up.forward(&params, &x, &mut hidden)?;
//! Gelu::Exact.forward(&hidden, &mut active)?;
//! down.forward(&params, &active, &mut y)?;
//! # Ok::<(), posenc_nn::Error>(())
//! ```

#![deny(missing_docs)]
#![deny(unsafe_code)]

/// The code on the page that finds the documents' classes again runs as doctests: this crate sees the core and the modules.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/from-the-documents.md")]
struct FromTheDocuments;

mod activation;
mod adamw;
mod attention;
pub mod check;
mod embedding;
mod error;
mod gelu;
mod kernels;
mod latent;
mod layer_norm;
mod linear;
mod loss;
mod matrix;
mod number;
mod parallel;
mod positional;
mod rms_norm;
mod shape;
mod storage;
mod transformer;
pub mod weights;

pub use activation::*;
pub use adamw::*;
pub use attention::*;
pub use embedding::*;
pub use error::*;
pub use gelu::*;
pub use latent::*;
pub use layer_norm::*;
pub use linear::*;
pub use loss::*;
pub use matrix::*;
pub use number::*;
pub use positional::*;
pub use rms_norm::*;
pub use storage::*;
pub use transformer::*;
