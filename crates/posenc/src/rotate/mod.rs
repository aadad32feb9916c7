//! Methods that turn queries and keys after their projection.

mod axes;
mod cached;
mod convert;
pub mod rotary;
mod rotation;
pub mod scaling;
mod trained;
mod xpos;

pub use axes::Axes;
pub use cached::{Crossing, LengthPolicy};
pub use convert::{convert_rows, coordinates};
pub use rotary::{Pairing, Precision, Rotary, Rounding, Slice};
pub use rotation::{Rotation, RotationPair, Side, Turn};
pub use scaling::{Frequencies, LongRope, Magnitude, Scaling, Yarn, yarn_magnitude};
pub use xpos::XPos;
