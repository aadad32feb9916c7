//! Rotary positions in their three equal forms, as written in [`rotate::rotary`](crate::rotate::rotary).

use crate::rotate::Pairing;

/// θ(p, i) = p · base^(−2i / r).
///
/// ```
/// assert_eq!(posenc::reference::rotary::angle(3.0, 1, 4, 100.0), 3.0 / 10.0);
/// ```
pub fn angle(p: f64, i: usize, r: usize, base: f64) -> f64 {
    p / base.powf(2.0 * i as f64 / r as f64)
}

/// The two coordinates of pair `i`.
///
/// ```
/// use posenc::{Pairing, reference::rotary::pair};
/// assert_eq!((pair(1, 6, Pairing::Interleaved), pair(1, 6, Pairing::Halves)), ((2, 3), (1, 4)));
/// ```
pub fn pair(i: usize, r: usize, pairing: Pairing) -> (usize, usize) {
    match pairing {
        Pairing::Interleaved => (2 * i, 2 * i + 1),
        Pairing::Halves => (i, i + r / 2),
    }
}

/// x′ = x cos θ − y sin θ, y′ = x sin θ + y cos θ for each pair of the first `r` coordinates of a head at position `p`.
///
/// ```
/// use posenc::{Pairing, reference::rotary::by_pairs};
/// assert_eq!(by_pairs(&[1.0, 0.0], 0.5, 2, Pairing::Halves, 1e4), [0.5f64.cos(), 0.5f64.sin()]);
/// ```
pub fn by_pairs(x: &[f64], p: f64, r: usize, pairing: Pairing, base: f64) -> Vec<f64> {
    let mut out = x.to_vec();
    for i in 0..r / 2 {
        let (a, b) = pair(i, r, pairing);
        let theta = angle(p, i, r, base);
        out[a] = x[a] * theta.cos() - x[b] * theta.sin();
        out[b] = x[a] * theta.sin() + x[b] * theta.cos();
    }
    out
}

/// R(p) x with the whole rotation matrix written out: the identity but for a 2 × 2 rotation per pair.
///
/// ```
/// use posenc::{Pairing, reference::rotary::by_matrix};
/// assert_eq!(by_matrix(&[1.0, 0.0, 7.0], 0.5, 2, Pairing::Halves, 1e4), [0.5f64.cos(), 0.5f64.sin(), 7.0]);
/// ```
pub fn by_matrix(x: &[f64], p: f64, r: usize, pairing: Pairing, base: f64) -> Vec<f64> {
    let d = x.len();
    let mut matrix = vec![vec![0.0; d]; d];
    (0..d).for_each(|j| matrix[j][j] = 1.0);
    for i in 0..r / 2 {
        let (a, b) = pair(i, r, pairing);
        let theta = angle(p, i, r, base);
        (matrix[a][a], matrix[a][b]) = (theta.cos(), -theta.sin());
        (matrix[b][a], matrix[b][b]) = (theta.sin(), theta.cos());
    }
    matrix.iter().map(|row| row.iter().zip(x).map(|(m, x)| m * x).sum()).collect()
}

/// z′ = z · e^{iθ} with z = x + iy for each pair.
///
/// ```
/// use posenc::{Pairing, reference::rotary::by_complex};
/// assert_eq!(by_complex(&[1.0, 0.0], 0.5, 2, Pairing::Interleaved, 1e4), [0.5f64.cos(), 0.5f64.sin()]);
/// ```
pub fn by_complex(x: &[f64], p: f64, r: usize, pairing: Pairing, base: f64) -> Vec<f64> {
    let times = |z: (f64, f64), w: (f64, f64)| (z.0 * w.0 - z.1 * w.1, z.0 * w.1 + z.1 * w.0);
    let mut out = x.to_vec();
    for i in 0..r / 2 {
        let (a, b) = pair(i, r, pairing);
        let theta = angle(p, i, r, base);
        (out[a], out[b]) = times((x[a], x[b]), (theta.cos(), theta.sin()));
    }
    out
}
