//! The same methods once more: naive, in f64, short enough to check by eye against the papers. The oracle of every faster version; nothing here is tuned.

pub mod input;
pub mod learned;
pub mod rotary;
pub mod sinusoidal;
