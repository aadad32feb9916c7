//! Whether an adjoint is right: central finite differences in f64.
//!
//! ```
//! use posenc_nn::check::{finite_differences, tolerance, worst};
//!
//! let x = [0.3, -1.2];
//! let differences = finite_differences(&x, 0..2, |x| x[0] * x[1] * x[1]);
//! let adjoint = [x[1] * x[1], 2.0 * x[0] * x[1]];
//! assert!(worst(&adjoint, &differences).unwrap().error < tolerance(1.0));
//! ```

/// Central differences (f(x + h) − f(x − h)) / 2h along the axes in `indices`, at h = ε^⅓ · max(1, |xᵢ|): where truncation (h²·f‴/6) and rounding
/// (ε·f/h) are of one size. `f` is called twice per index.
///
/// # Panics
/// If an index is past the end of `at`.
pub fn finite_differences(at: &[f64], indices: impl IntoIterator<Item = usize>, mut f: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut x = at.to_vec();
    indices
        .into_iter()
        .map(|i| {
            // The step that is really taken, after rounding: x + h is a number, h need not be.
            let h = f64::EPSILON.cbrt() * at[i].abs().max(1.0);
            let (up, down) = (at[i] + h, at[i] - h);
            x[i] = up;
            let above = f(&x);
            x[i] = down;
            let below = f(&x);
            x[i] = at[i];
            (above - below) / (up - down)
        })
        .collect()
}

/// How far a right adjoint may lie from [`finite_differences`]: 8·ε^⅔·`size`, where `size` bounds |f| and |f‴|. Each of the two errors is at most
/// ε^⅔·size; the 8 leaves room for the rounding that f itself accumulates. About 3e-10 for a size of 1.
pub fn tolerance(size: f64) -> f64 {
    8.0 * f64::EPSILON.powf(2.0 / 3.0) * size
}

/// Where an adjoint and the finite differences lie furthest apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disagreement {
    /// Index in both slices.
    pub index: usize,
    /// What the adjoint says.
    pub adjoint: f64,
    /// What the finite differences say.
    pub difference: f64,
    /// Their distance; NaN if either is NaN, which is the furthest of all.
    pub error: f64,
}

/// Where two gradients lie furthest apart; `None` if they are empty.
///
/// # Panics
/// If their lengths differ.
pub fn worst(adjoint: &[f64], differences: &[f64]) -> Option<Disagreement> {
    assert_eq!(adjoint.len(), differences.len(), "gradients of different lengths");
    let all = adjoint.iter().zip(differences).enumerate().map(|(index, (&a, &d))| Disagreement {
        index,
        adjoint: a,
        difference: d,
        error: (a - d).abs(),
    });
    // `total_cmp` places NaN above every number.
    all.max_by(|a, b| a.error.total_cmp(&b.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_adjoint_and_a_nan_are_found() {
        let differences = finite_differences(&[0.5, 2.0], 0..2, |x| x[0].sin() * x[1]);
        let right = [2.0 * 0.5f64.cos(), 0.5f64.sin()];
        assert!(worst(&right, &differences).unwrap().error < tolerance(2.0));
        assert_eq!(worst(&[right[0], right[1] + 1e-6], &differences).unwrap().index, 1);
        assert!(worst(&[f64::NAN, 9.0], &differences).unwrap().error.is_nan());
        assert_eq!(worst(&[], &[]), None);
    }
}
