//! Methods that turn queries and keys after their projection.

pub mod rotary;
mod rotation;

pub use rotary::{Pairing, Precision, Rotary};
pub use rotation::{Rotation, RotationPair, Side, Turn};
