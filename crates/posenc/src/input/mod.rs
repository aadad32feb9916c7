//! Methods that are added to the inputs of attention, before (or after) their projections: queries and keys, never values.

mod add_to;
pub mod table;

pub use add_to::AddTo;
pub use table::InputTable;
