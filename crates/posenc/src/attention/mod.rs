//! Attention with any encoding: one driver over tiles, forward and adjoint.
//!
//! Queries, keys and values are `[batch, heads, seq, dim]` views in any storage order. Scores exist one tile at a time: nothing of size q_len × k_len is made
//! unless the caller asks for the weights. Work is split into items by shape alone (batch row × key head, or a whole batch row where a term wants all heads), each item owns its part of every output and of the parameters'
//! gradients, and parts are summed in a fixed order: results are bitwise equal for any number of threads.

mod adjoint;
mod driver;
mod forward;
mod mask;
mod pack;
mod spec;
mod temperature;
mod tile;
mod unpacked;

pub use driver::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
pub use mask::{Attends, Blocked, Mask};
pub use spec::{Attention, LayerSpec, Window};
pub use temperature::Temperature;
