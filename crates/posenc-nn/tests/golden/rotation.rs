//! Rotary positions as reference code computes them in f32, on [`Bounded`] numbers.

use super::bounded::{Bounded, U};
use posenc::Turn;

/// Turns the first `r` coordinates of one head's row, neighbours paired, to this position.
///
/// The frequency is 1 / base^(2i/r) in f32: the base is rounded, the exponent too (times the logarithm's slope), the power is at most 1 ulp (two units)
/// off, the inverse and the product with the position are rounded. So the angle is off by its size times this many units, and so are its sine and its
/// cosine, which are themselves at most 1 ulp off; then come two products and a sum. An angle that is taken in f64 is nearer.
pub fn turned(row: &mut [Bounded], r: usize, base: f64, position: f64, turn: Turn) {
    for i in 0..r / 2 {
        let log = 2.0 * i as f64 / r as f64 * base.ln();
        let angle = position * (-log).exp();
        let angle_error = angle.abs() * U * (log.abs() + 5.0);
        let number = |value: f64| Bounded::new(value, angle_error + 2.0 * U * value.abs());
        let sine = if turn == Turn::Adjoint { -angle.sin() } else { angle.sin() };
        let (cos, sin) = (number(angle.cos()), number(sine));
        let (x, y) = (row[2 * i], row[2 * i + 1]);
        row[2 * i] = x * cos - y * sin;
        row[2 * i + 1] = x * sin + y * cos;
    }
}
