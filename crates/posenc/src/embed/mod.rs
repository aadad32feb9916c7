//! Methods that are added to the token embeddings, once, before the first layer.

mod addend;
mod gather;
pub mod learned;

pub(crate) use addend::{Addend, Source};
pub use gather::Overflow;
pub(crate) use gather::{Gather, TableRows};
pub use learned::{Combine, Learned};
