//! What layers compute in.

use crate::kernels::Native;
use crate::storage::Storage;
use posenc::Real;

/// What layers compute in: `f32`, or `f64`, which is the oracle of gradients. It is [`Real`] with a matrix product and a file format; no other type
/// can implement it.
pub trait Number: Real + Native + Storage {}

impl Number for f32 {}
impl Number for f64 {}
