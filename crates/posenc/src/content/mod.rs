//! Methods that read queries and keys.

pub mod shaw;

pub use shaw::Shaw;
