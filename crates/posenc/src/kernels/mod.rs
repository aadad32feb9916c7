//! The inner loops, and all `unsafe` of the crate.
//!
//! Each kernel is written once, in portable Rust over fixed-size arrays or over vectors, and compiled for several instruction sets by [`multiversion`] or [`vectors`]; the one that runs is chosen
//! by what the processor has ([`Isa`]). Pointers are read after the bounds of the whole call have been checked.
#![expect(
    unsafe_code,
    reason = "calls into functions compiled for an instruction set that was detected, and bounds checked once per call"
)]

mod angles;
mod bias;
mod compiled;
mod isa;
mod lanes;
mod panels;
mod parts;
mod prefetch;
mod product;
mod rows;
mod skewed;
mod softmax;
mod turn;
mod unpacked;

pub(crate) use angles::{angle_sums, cos_sin};
pub(crate) use bias::{
    Written, add_gathered, add_ramp, add_ramp_at, add_runs, write_gathered, write_ramp, write_ramp_at, write_rows, write_runs,
};
pub(crate) use compiled::{Compiled, CompiledStored};
pub use isa::Isa;
pub(crate) use isa::{Present, multiversion, vectors};
pub(crate) use lanes::{Vectors, load_bf16, load_f16, load_split_bf16, rounded_bf16, store_bf16, store_f16, store_merged_bf16};
pub(crate) use panels::Lines;
pub(crate) use parts::{ByHeads, ByLength, HeadsMut, share, threads};
pub(crate) use prefetch::fetch_ahead;
pub(crate) use product::{Left, PANEL, Product, Right, Store};
pub(crate) use rows::{Mix, RowsMut, add_row, add_scaled, add_table, scatter_table, share_rows};
pub(crate) use skewed::{CompiledSkewed, Part, fetch};
pub(crate) use softmax::{Of, RowSum, Running, dot, total};
pub(crate) use turn::{Own, Tables, turn, turn_into, with_copy};
pub(crate) use unpacked::{FewScores, FewSums, Lying};

/// Rows of packed buffers are padded to a multiple of this, so that no kernel has a ragged edge in the vector direction.
pub(crate) const LANES: usize = 16;

/// The next multiple of [`LANES`].
pub(crate) const fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}
