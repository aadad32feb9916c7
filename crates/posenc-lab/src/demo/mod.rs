//! Demonstrations: what a document says, measured. A claim that does not hold is in the data, so that whoever prints it can say so.
//!
//! - [`order`](mod@order): the same words in another order, without an encoding and with each (documents 001, 003, 004);
//! - [`rotary_bug`](mod@rotary_bug): document 003's rotary sample against its own formula.
//!
//! What they return is plain data; serialised it is the schema of `posenc demo NAME --json`, field by field.

pub mod order;
pub mod rotary_bug;

pub use order::order;
pub use rotary_bug::rotary_bug;

/// Machine epsilon of f64, 2⁻⁵²: twice the largest relative error of one rounding.
const EPSILON: f64 = f64::EPSILON;

/// The larger of two magnitudes. Not `f64::max`, which hides a NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The largest difference of two rows.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}
