//! Methods that are added to the token embeddings, once, before the first layer.

mod addend;
mod gather;
pub mod learned;
pub mod pixels;
pub mod resize;
pub mod sinusoidal;
pub mod timestep;

pub(crate) use addend::{Addend, Source};
pub use gather::Overflow;
pub(crate) use gather::{Gather, TableRows};
pub use learned::{Combine, Learned, lookup, lookup_adjoint};
pub use pixels::{Normalize, pixel_positions};
pub use resize::{Bicubic, Sampling, resize_grid, resize_linear};
pub use sinusoidal::{OddWidth, SinusoidExponent, SinusoidLayout, Sinusoidal, sinusoid};
pub use timestep::timestep;
