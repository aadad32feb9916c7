//! placeholder, becomes the README
#![deny(missing_docs)]
#![deny(unsafe_code)]

// What everything speaks.
mod dims;
mod error;
mod params;
mod real;
mod rng;
mod view;
mod words;

// What: plain data. How: checked once. Now: positions and parameters resolved.
mod encoding;
mod plan;
mod positions;

mod call;
mod dropout;
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
pub mod explain;

mod kernels;

pub mod laws;

// Each method once more, naive and in f64.
pub mod reference;

#[cfg(test)]
mod tiles;

pub use attention::{Attends, Attention, Blocked, LayerSpec, Mask};
pub use bias::{
    Alibi, ClippedBias, Direction, Form, SharedBias, Slopes, T5Bias, alibi_bias, alibi_bloom, alibi_bloom_padded, alibi_mpt, alibi_slopes,
    alibi_slopes_mpt, clipped_bias, t5_bias, t5_bucket,
};
pub use call::{Call, Site};
pub use content::Shaw;
pub use dims::Dims;
pub use dropout::{Dropout, Mode};
pub use embed::{Combine, Learned, OddWidth, Overflow, SinusoidExponent, SinusoidLayout, Sinusoidal};
pub use encoding::{Encoding, Method};
pub use error::{Error, Result};
pub use input::{AddTo, InputTable};
pub use params::{Bound, BoundMut, Init, ParamSpec, Params, Scope};
pub use plan::Plan;
pub use positions::{At, AtIds, Positions};
pub use real::{Element, Real};
pub use rng::Rng;
pub use rotate::{Pairing, Precision, Rotary, Rotation, RotationPair, Side, Turn};
pub use term::{Block, BlockMut, Granularity, Needs, Place, Reach, ScoreTerm, TermGrads};
pub use view::{View, ViewMut};
pub use words::{Language, Words};
