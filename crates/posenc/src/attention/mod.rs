//! Attention with any encoding: one driver over tiles, forward and adjoint, and what it is told.

mod driver;
mod mask;
mod spec;

pub use driver::{Grads, Inputs, Saved, Slots, Workspace};
pub use mask::{Attends, Blocked, Mask};
pub use spec::{Attention, LayerSpec};
