//! Weights from one pairing to the other.
//!
//! Rotary positions on neighbouring coordinates and on halves are the same encoding with the coordinates of each head in another order. A checkpoint of one convention serves code
//! of the other when the rows of its query and key projections, their biases, and the gains of norms between projection and rotation, are put in that order:
//! every score is the same (Meta's checkpoints and Hugging Face's differ by just this).

use crate::error::{Error, Result};
use crate::memory;
use crate::rotate::Pairing;

/// Where each coordinate of a head comes from: entry `i` is the coordinate of a `from` head that stands at `i` of a `to` head. Coordinates past `rotary_dim` stay.
///
/// ```
/// use posenc::{Pairing, rotate::coordinates};
/// assert_eq!(coordinates(Pairing::Interleaved, Pairing::Halves, 6, 4)?, [0, 2, 1, 3, 4, 5]);
/// # Ok::<(), posenc::Error>(())
/// ```
///
/// # Errors
/// An odd `rotary_dim`, or one past the head, or one that [`Pairing::HalvesTwice`] cannot split.
#[doc(alias = "permute_rope_rows")]
pub fn coordinates(from: Pairing, to: Pairing, head_dim: usize, rotary_dim: usize) -> Result<Vec<usize>> {
    if !rotary_dim.is_multiple_of(2) {
        return Err(Error::OddWidth {
            what: "rotary_dim",
            width: rotary_dim,
        });
    }
    if rotary_dim > head_dim {
        return Err(Error::Invalid {
            what: "rotary_dim",
            given: rotary_dim.to_string(),
            expected: "at most head_dim",
        });
    }
    if (from == Pairing::HalvesTwice || to == Pairing::HalvesTwice) && !rotary_dim.is_multiple_of(4) {
        return Err(Error::NotDivisible {
            what: "rotary_dim",
            value: rotary_dim,
            by: "two halves of whole pairs",
            divisor: 4,
        });
    }
    memory::check::<usize>("coordinates [head_dim]", &[head_dim])?;
    let pairs = rotary_dim / 2;
    // The pair that a coordinate belongs to, and which of its two it is; and back.
    let split = |pairing, i: usize| match pairing {
        // What a projection's rows are is what is read.
        Pairing::Interleaved | Pairing::InterleavedToHalves => (i / 2, i % 2),
        Pairing::Halves => (i % pairs, i / pairs),
        Pairing::HalvesTwice => {
            let (block, i) = (i / pairs, i % pairs);
            (block * (pairs / 2) + i % (pairs / 2), i / (pairs / 2))
        }
    };
    let join = |pairing, (pair, which): (usize, usize)| match pairing {
        Pairing::Interleaved | Pairing::InterleavedToHalves => 2 * pair + which,
        Pairing::Halves => which * pairs + pair,
        Pairing::HalvesTwice => {
            let (block, pair) = (pair / (pairs / 2), pair % (pairs / 2));
            block * pairs + which * (pairs / 2) + pair
        }
    };
    let turned = (0..rotary_dim).map(|i| join(from, split(to, i)));
    Ok(turned.chain(rotary_dim..head_dim).collect())
}

/// Puts the rows of a query or key projection, `[heads · head_dim, width]`, in the order of another pairing; its bias, or the gain of a norm of each head, is the
/// same with `width` 1 (and one head, where heads share the gain).
///
/// ```
/// use posenc::{Pairing, rotate::convert_rows};
/// let mut bias = [0.0, 1.0, 2.0, 3.0, /* second head */ 4.0, 5.0, 6.0, 7.0];
/// convert_rows(&mut bias, Pairing::Interleaved, Pairing::Halves, 4, 4, 1)?;
/// assert_eq!(bias, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
///
/// # Errors
/// As [`coordinates`], or numbers that are not whole heads.
pub fn convert_rows<T: Copy>(rows: &mut [T], from: Pairing, to: Pairing, head_dim: usize, rotary_dim: usize, width: usize) -> Result<()> {
    let order = coordinates(from, to, head_dim, rotary_dim)?;
    let head = head_dim.checked_mul(width).filter(|head| *head > 0);
    let Some(head) = head.filter(|head| rows.len().is_multiple_of(*head)) else {
        return Err(Error::NotDivisible {
            what: "rows [heads · head_dim, width]",
            value: rows.len(),
            by: "head_dim · width",
            divisor: head_dim.saturating_mul(width),
        });
    };
    for rows in rows.chunks_exact_mut(head) {
        let before = rows.to_vec();
        for (row, from) in rows.chunks_exact_mut(width).zip(&order) {
            row.copy_from_slice(&before[from * width..][..width]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::Positions;
    use crate::rng::Rng;
    use crate::rotate::{Rotary, Turn};

    #[test]
    fn two_blocks_of_halves_are_neighbours_in_another_order_too() {
        assert_eq!(
            coordinates(Pairing::Interleaved, Pairing::HalvesTwice, 9, 8).unwrap(),
            [0, 2, 1, 3, 4, 6, 5, 7, 8]
        );
        let (there, back) = (
            coordinates(Pairing::Halves, Pairing::HalvesTwice, 8, 8).unwrap(),
            coordinates(Pairing::HalvesTwice, Pairing::Halves, 8, 8).unwrap(),
        );
        assert!((0..8).all(|i| there[back[i]] == i));
        assert!(coordinates(Pairing::Halves, Pairing::HalvesTwice, 8, 6).is_err());
    }

    const BOTH: [Pairing; 2] = [Pairing::Interleaved, Pairing::Halves];

    #[test]
    fn there_and_back_is_the_identity() {
        for rotary_dim in [0, 2, 4, 6, 8] {
            for (from, to) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0]), (BOTH[0], BOTH[0])] {
                let mut rows: Vec<usize> = (0..2 * 8 * 3).collect();
                convert_rows(&mut rows, from, to, 8, rotary_dim, 3).unwrap();
                assert!(from == to || rotary_dim <= 2 || rows != (0..48).collect::<Vec<_>>());
                convert_rows(&mut rows, to, from, 8, rotary_dim, 3).unwrap();
                assert_eq!(rows, (0..48).collect::<Vec<_>>());
            }
        }
    }

    /// Projected with the weights and biases of each pairing, normed with its gain and turned its way, a query and a key have the same product.
    ///
    /// Bound: the same products in another order: 8 of them, each below 100, times ε.
    #[test]
    fn bug_family_10_scores_are_equal_after_conversion() {
        let (width, head_dim) = (5, 8);
        for rotary_dim in [4, 8] {
            let mut rng = Rng::new(1);
            let mut random = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
            let (x, weights, biases, gains) = (
                [random(width), random(width)],
                [random(head_dim * width), random(head_dim * width)],
                [random(head_dim), random(head_dim)],
                [random(head_dim), random(head_dim)],
            );
            let score = |pairing: Pairing| {
                let side = |i: usize, position: i64| {
                    let (mut weight, mut bias, mut gain) = (weights[i].clone(), biases[i].clone(), gains[i].clone());
                    for (rows, width) in [(&mut weight, width), (&mut bias, 1), (&mut gain, 1)] {
                        convert_rows(rows, Pairing::Interleaved, pairing, head_dim, rotary_dim, width).unwrap();
                    }
                    let mut row: Vec<f64> = (0..head_dim)
                        .map(|r| bias[r] + (0..width).map(|c| weight[r * width + c] * x[i][c]).sum::<f64>())
                        .collect();
                    let size = (row.iter().map(|x| x * x).sum::<f64>() / head_dim as f64).sqrt();
                    row.iter_mut().zip(&gain).for_each(|(x, g)| *x = *x / size * g);
                    let rotary = Rotary::new(pairing).with_rotary_dim(rotary_dim);
                    let rotation = rotary.rotation::<f64>(head_dim, &Positions::whole(&[position])).unwrap();
                    rotation.turn_row(Turn::Forward, 0, 0, &mut row);
                    row
                };
                side(0, 11).iter().zip(side(1, 4)).map(|(q, k)| q * k).sum::<f64>()
            };
            assert!((score(Pairing::Interleaved) - score(Pairing::Halves)).abs() <= 8.0 * 100.0 * f64::EPSILON);
        }
    }

    #[test]
    fn widths_that_do_not_fit_are_refused() {
        let mut rows = [0.0; 8];
        let mut convert = |head_dim, rotary_dim, width| convert_rows(&mut rows, BOTH[0], BOTH[1], head_dim, rotary_dim, width);
        assert!(matches!(convert(4, 3, 1), Err(Error::OddWidth { .. })));
        assert!(matches!(convert(4, 6, 1), Err(Error::Invalid { .. })));
        assert!(matches!(convert(3, 2, 1), Err(Error::NotDivisible { .. })));
        assert!(matches!(convert(0, 0, 1), Err(Error::NotDivisible { .. })));
        assert!(matches!(convert(4, 4, usize::MAX), Err(Error::NotDivisible { .. })));
        assert!(convert(4, 4, 2).is_ok());
    }
}
