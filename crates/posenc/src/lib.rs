//! The position layer of the transformer: the ways in which models are told where their tokens are, each with its adjoint, exact against the code that trained those
//! models, and all through one attention driver.
//!
//! # Two doors
//!
//! Models go from *what* to *how* to *now*:
//!
//! - an [`Encoding`] is a list of methods as plain data; the empty list is NoPE;
//! - a [`Plan`] is an encoding checked against a model's widths ([`Dims`]), once; it lists its parameters and holds nothing that depends on a length;
//! - a [`Call`] is a plan with [`Positions`] and parameters resolved, for one forward pass and its adjoint: what is added at which [`Site`], the [`Rotation`]s, the
//!   [`ScoreTerm`]s. [`Attention`] runs it.
//!
//! Who needs one step of one method has functions on slices: [`embed::lookup`], [`embed::sinusoid`], [`embed::timestep()`], [`rotate::rotary::rotate`], [`alibi_slopes`],
//! [`alibi_bias`], [`clipped_bias`], [`t5_bucket`], [`t5_bias`], [`deberta_bucket`], [`relative_sinusoids`]. Learned tables grow by
//! [`embed::resize_linear`] and [`embed::resize_grid`]. What batches look like (packed documents, shards, pictures and videos) is in [`positions`].
//!
//! ```
//! use posenc::{Dims, Encoding, Learned, Mode, Pairing, Positions, Rotary, Site, ViewMut};
//! let encoding = Encoding::from(Learned::new(16)).with(Rotary::new(Pairing::Halves));
//! let plan = encoding.plan(Dims::new(8, 2)?)?;
//! assert_eq!(plan.to_string(), "learned(max_len 16) + rotary(halves, base 10000) for model_dim 8, 2 heads of 4, 128 parameters");
//!
//! let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
//! let call = plan.call(&params, &at, &at)?;
//! let mut x = [0.0; 3 * 8]; // [batch 1, seq 3, model_dim 8]
//! call.add(Site::Embedding, ViewMut::new(&mut x, [1, 3, 8])?, Mode::Evaluate)?;
//! assert_eq!(x, params.flat()[..24]);
//! # Ok::<(), posenc::Error>(())
//! ```
//!
//! # The data flow
//!
//! ```text
//! positions ─► add to embeddings ─► [ add to attention inputs ─► project ─► add to / rotate q, k ─► scale·qkᵀ ─► content ─► softcap ─► bias ─► mask ─► softmax ─► dropout ─► ·v (+ value terms) ]
//! ```
//!
//! | step | methods |
//! |---|---|
//! | embeddings | [`Learned`], [`Sinusoidal`] |
//! | attention inputs | [`InputTable`], [`Sinusoidal`] with [`AddTo::AttentionInputs`] |
//! | rotation | [`Rotary`] |
//! | content, value terms | [`Shaw`], [`MusicTransformer`] |
//! | content with projected tables | [`TransformerXl`], [`XlNet`], [`Deberta`]: their layer makes the tables ([`Plan::projections`]) |
//! | bias | [`Alibi`], [`ClippedBias`], [`SharedBias`], [`T5Bias`], [`Kerple`], [`Sandwich`], [`Fire`], [`SwinBias`], [`LogCpb`] |
//!
//! Projections and weights are not here but in `posenc-nn`. Each method is one file in the order paper, maths, shapes, conventions that differ between codebases, cost, example; [`reference`](mod@reference)
//! has it once more, naive and in f64; [`laws`](mod@laws) are the tests that any implementation can be held to, also one from outside the crate.
//!
//! # Features
//!
//! `rayon`: attention spreads its work over the caller's thread pool. Results do not depend on the number of threads.
//!
//! `config`: reads a model's configuration file as its layers' positions (module `config`).
#![deny(missing_docs)]
#![deny(unsafe_code)]

/// The README's code runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

// What everything speaks.
mod dims;
mod error;
mod memory;
mod params;
mod real;
pub mod rng;
mod view;
mod words;

// What: plain data. How: checked once. Now: positions and parameters resolved.
mod encoding;
mod plan;
pub mod positions;

mod call;
mod distances;
mod dropout;
mod project;
mod steps;
mod term;

// Where a method acts, in the order of the data flow.
pub mod bias;
pub mod content;
pub mod embed;
pub mod input;
pub mod rotate;

pub mod attention;

// What is known of the methods, and what each does past the trained length.
pub mod catalogue;
pub mod curves;
pub mod explain;

// What a model's own file says.
#[cfg(feature = "config")]
pub mod config;

mod kernels;

pub mod laws;

// Each method once more, naive and in f64.
pub mod reference;

#[cfg(test)]
mod tiles;

pub use attention::{Attends, Attention, Blocked, Grads, Inputs, LayerSpec, Mask, Outputs, Saved, Slots, Temperature, Window, Workspace};
pub use bias::{
    Alibi, ClippedBias, Direction, Fire, Form, Kernel, Kerple, LogCpb, Sandwich, SharedBias, Slopes, SwinBias, T5Bias, alibi_bias,
    alibi_bloom, alibi_bloom_padded, alibi_mpt, alibi_slopes, alibi_slopes_mpt, clipped_bias, t5_bias, t5_bucket,
};
pub use call::{Call, Located, Site};
pub use content::{Deberta, DebertaProjections, MusicTransformer, Shaw, TransformerXl, XlNet, deberta_bucket, relative_sinusoids};
pub use dims::Dims;
pub use dropout::{Dropout, Mode};
pub use embed::{Combine, Learned, OddWidth, Overflow, SinusoidExponent, SinusoidLayout, Sinusoidal};
pub use encoding::{Encoding, Method};
pub use error::{Error, Result};
pub use input::{AddTo, InputTable};
pub use kernels::Isa;
pub use params::{Bound, BoundMut, Init, ParamSpec, Params, Scope};
pub use plan::Plan;
pub use positions::{At, AtIds, Positions};
pub use project::{Projection, Projector};
pub use real::{Element, Real};
pub use rng::Rng;
pub use rotate::{Pairing, Precision, Rotary, Rotation, RotationPair, Side, Turn};
pub use steps::Steps;
pub use term::{Block, BlockMut, Granularity, Needs, Place, Reach, ScoreTerm, TermGrads, Tile};
pub use view::{View, ViewMut};
pub use words::{Language, Words};
