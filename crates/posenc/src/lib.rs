//! placeholder
#![deny(missing_docs)]
#![deny(unsafe_code)]
mod dims;
mod error;
mod params;
mod positions;
mod real;
mod rng;
mod view;
pub use dims::*;
pub use error::*;
pub use params::*;
pub use positions::*;
pub use real::*;
pub use rng::*;
pub use view::*;
