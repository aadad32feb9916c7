//! Rotary positions in their three equal forms, as written in [`rotate::rotary`](crate::rotate::rotary).

use crate::rotate::{Axes, Pairing, Side, XPos};

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
        Pairing::Interleaved | Pairing::InterleavedToHalves => (2 * i, 2 * i + 1),
        Pairing::Halves => (i, i + r / 2),
        Pairing::HalvesTwice => {
            let first = i / (r / 4) * (r / 2) + i % (r / 4);
            (first, first + r / 4)
        }
    }
}

/// The two coordinates that pair `i` is written to: those that it is read from, but in [`Pairing::InterleavedToHalves`].
pub fn written(i: usize, r: usize, pairing: Pairing) -> (usize, usize) {
    match pairing {
        Pairing::InterleavedToHalves => (i, i + r / 2),
        _ => pair(i, r, pairing),
    }
}

/// The axis of the positions that turns pair `i` of `pairs`.
///
/// ```
/// use posenc::{reference::rotary::axis_of, rotate::Axes};
/// let qwen3 = Axes::Spread { sections: vec![24, 20, 20] };
/// assert_eq!([0, 1, 2, 59, 60, 63].map(|i| axis_of(i, 64, &qwen3)), [0, 1, 2, 2, 0, 0]);
/// ```
pub fn axis_of(i: usize, pairs: usize, axes: &Axes) -> usize {
    match axes {
        Axes::One => 0,
        Axes::Chunked { sections } => (0..sections.len())
            .find(|axis| i < sections[..=*axis].iter().sum())
            .expect("the sections cover all pairs"),
        Axes::Spread { sections } => (1..sections.len())
            .find(|axis| i % sections.len() == *axis && i < sections.len() * sections[*axis])
            .unwrap_or(0),
        Axes::GridFirst { grid } if i >= *grid => 0,
        Axes::GridFirst { .. } if i.is_multiple_of(2) => 1,
        Axes::GridFirst { .. } => 2,
        Axes::Grid { axes } => axes[i * axes.len() / pairs],
        Axes::Dealt { axes } => i * axes / pairs,
        Axes::InTurn { axes } => axes[i % axes.len()],
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
        let (to_a, to_b) = written(i, r, pairing);
        out[to_a] = x[a] * theta.cos() - x[b] * theta.sin();
        out[to_b] = x[a] * theta.sin() + x[b] * theta.cos();
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
    (r / 2 * 2..d).for_each(|j| matrix[j][j] = 1.0);
    for i in 0..r / 2 {
        let (a, b) = pair(i, r, pairing);
        let theta = angle(p, i, r, base);
        let (to_a, to_b) = written(i, r, pairing);
        (matrix[to_a][a], matrix[to_a][b]) = (theta.cos(), -theta.sin());
        (matrix[to_b][a], matrix[to_b][b]) = (theta.sin(), theta.cos());
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
        let (to_a, to_b) = written(i, r, pairing);
        (out[to_a], out[to_b]) = times((x[a], x[b]), (theta.cos(), theta.sin()));
    }
    out
}

/// xPos: as [`by_pairs`], each pair of a query times ζᵢ^((p − c)/B), of a key divided by it.
///
/// ```
/// use posenc::{Pairing, Side, reference::rotary::by_xpos, rotate::XPos};
/// let x = by_xpos(&[1.0, 0.0], 512.0, Side::Query, 2, Pairing::Halves, 1e4, &XPos::new());
/// assert_eq!(x, [512f64.cos() * (0.4 * 2.0 / (1.4 * 2.0)), 512f64.sin() * (0.4 * 2.0 / (1.4 * 2.0))]);
/// ```
pub fn by_xpos(x: &[f64], p: f64, side: Side, r: usize, pairing: Pairing, base: f64, xpos: &XPos) -> Vec<f64> {
    let mut out = by_pairs(x, p, r, pairing, base);
    for i in 0..r / 2 {
        let zeta: f64 = (2.0 * i as f64 + 0.4 * r as f64) / (1.4 * r as f64);
        let factor = zeta.powf((p - xpos.center) / xpos.scale_base);
        let (a, b) = written(i, r, pairing);
        for c in [a, b] {
            out[c] = match side {
                Side::Query => out[c] * factor,
                Side::Key => out[c] / factor,
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::Positions;
    use crate::real::Real;
    use crate::rng::Rng;
    use crate::rotate::{Rotary, Turn};
    use crate::view::{View, ViewMut};

    const POSITIONS: [f64; 11] = [0.0, 1.0, 2.0, 511.0, 131_071.0, 1e6, 1e7, -1.0, -1e7, 0.5, -33.25];

    #[test]
    fn the_three_forms_are_one() {
        let mut rng = Rng::new(1);
        for pairing in [
            Pairing::Interleaved,
            Pairing::Halves,
            Pairing::InterleavedToHalves,
            Pairing::HalvesTwice,
        ] {
            for (d, r) in [(8, 8), (10, 4), (2, 2), (7, 6)] {
                if pairing == Pairing::HalvesTwice && r % 4 != 0 {
                    continue;
                }
                let x: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
                for p in POSITIONS {
                    let pairs = by_pairs(&x, p, r, pairing, 1e4);
                    // The same products and sums: no bit differs.
                    assert_eq!(pairs, by_matrix(&x, p, r, pairing, 1e4));
                    assert_eq!(pairs, by_complex(&x, p, r, pairing, 1e4));
                    assert_eq!(pairs[r..], x[r..]);
                }
            }
        }
    }

    /// A rotated coordinate is two products of a rounded cosine and their sum: below 2ε of its pair's norm (3u for each product, u for the sum, √2). The two angles
    /// differ because one power is divided by and the other, of the negative exponent, multiplied with: powers within 2u each, quotient and product within u.
    fn bound<R: Real>(p: f64, norm: f64) -> f64 {
        norm * (2.0 * R::EPSILON.to_f64() + p.abs() * 3.0 * f64::EPSILON)
    }

    fn check<R: Real>(pairing: Pairing, d: usize, r: usize, base: f64) {
        let mut rng = Rng::new(2);
        let (heads, len) = (2, POSITIONS.len());
        let x: Vec<R> = (0..heads * len * d).map(|_| R::of(rng.normal())).collect();
        let mut out = vec![R::of(f64::NAN); x.len()];
        let shape = [1, heads, len, d];
        let rotary = Rotary::new(pairing).with_base(base).with_rotary_dim(r);
        let rotation = rotary.rotation::<R>(d, &Positions::real(&POSITIONS).unwrap()).unwrap();
        rotation
            .apply_into(Turn::Forward, View::new(&x, shape).unwrap(), ViewMut::new(&mut out, shape).unwrap())
            .unwrap();
        for (row, (x, out)) in x.chunks(d).zip(out.chunks(d)).enumerate() {
            let p = POSITIONS[row % len];
            let x: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
            let expected = by_pairs(&x, p, r, pairing, base);
            for i in 0..r / 2 {
                let (a, b) = pair(i, r, pairing);
                let bound = bound::<R>(p, x[a].hypot(x[b]));
                let (a, b) = written(i, r, pairing);
                for c in [a, b] {
                    let error = (out[c].to_f64() - expected[c]).abs();
                    assert!(error <= bound, "{pairing:?} d {d} r {r} p {p} column {c}: {error} > {bound}");
                }
            }
            for c in r..d {
                assert_eq!(out[c].to_f64(), x[c]);
            }
        }
    }

    #[test]
    fn the_fast_rotation_is_the_reference() {
        for pairing in [
            Pairing::Interleaved,
            Pairing::Halves,
            Pairing::InterleavedToHalves,
            Pairing::HalvesTwice,
        ] {
            for (d, r) in [(64, 64), (64, 16), (6, 2), (9, 8), (128, 128)] {
                if pairing == Pairing::HalvesTwice && r == 2 {
                    continue;
                }
                for base in [1e4, 5e5, 100.0] {
                    check::<f32>(pairing, d, r, base);
                    check::<f64>(pairing, d, r, base);
                }
            }
        }
    }
}
