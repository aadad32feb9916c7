//! Rows of the arithmetic's own type that are turned where they lie, each by tables of its own: a head's rows while attention packs them.
//!
//! Tables are read once per row here, so staging them first ([`super::turn`]) would cost what turning does.

use super::with_copy;
use crate::kernels::multiversion;
use crate::real::Real;
use crate::rotate::Pairing;

/// Cosines and sines of consecutive tokens, and how to turn by them.
#[derive(Clone, Copy)]
pub struct Own<'a, R> {
    pub cos: &'a [R],
    pub sin: &'a [R],
    /// From token to token.
    pub step: usize,
    pub pairs: usize,
    pub pairing: Pairing,
    /// The transpose, as in [`super::Tables`].
    pub back: bool,
}

multiversion! {
    /// Turns the first columns of rows that lie `ld` apart, as many as there are tokens; the last row may end with what turns.
    pub(crate) fn turn_own<R: Real>(tables: Own<'_, R>, rows: &mut [R], ld: usize, tokens: usize) = turn_rows
}

#[inline(always)]
fn turn_rows<R: Real>(tables: Own<'_, R>, rows: &mut [R], ld: usize, tokens: usize) {
    let n = tables.pairs;
    if n == 0 {
        return;
    }
    for (t, row) in rows.chunks_mut(ld).take(tokens).enumerate() {
        let (cos, sin) = (&tables.cos[t * tables.step..][..n], &tables.sin[t * tables.step..][..n]);
        let (row, back) = (&mut row[..2 * n], tables.back);
        match tables.pairing {
            Pairing::Halves => halves(cos, sin, back, row),
            Pairing::HalvesTwice => {
                let (first, second) = row.split_at_mut(n);
                halves(&cos[..n / 2], &sin[..n / 2], back, first);
                halves(&cos[n / 2..], &sin[n / 2..], back, second);
            }
            Pairing::Interleaved => neighbours(cos, sin, back, row),
            Pairing::InterleavedToHalves => with_copy(row, |before, row| moved(cos, sin, back, before, row)),
        }
    }
}

/// Pairs that are halves of the row apart.
#[inline(always)]
fn halves<R: Real>(cos: &[R], sin: &[R], back: bool, row: &mut [R]) {
    let n = cos.len();
    let (x, y) = row.split_at_mut(n);
    let mut i = 0;
    while i + 16 <= n {
        apart::<R, 16>(cos, sin, back, x, y, i);
        i += 16;
    }
    if i + 8 <= n {
        apart::<R, 8>(cos, sin, back, x, y, i);
        i += 8;
    }
    while i < n {
        apart::<R, 1>(cos, sin, back, x, y, i);
        i += 1;
    }
}

#[inline(always)]
fn apart<R: Real, const N: usize>(cos: &[R], sin: &[R], back: bool, x: &mut [R], y: &mut [R], i: usize) {
    let (to_x, to_y) = (array_mut::<R, N>(x, i), array_mut::<R, N>(y, i));
    (*to_x, *to_y) = turned(array::<R, N>(cos, i), array(sin, i), back, *to_x, *to_y);
}

/// Pairs that are neighbours.
#[inline(always)]
fn neighbours<R: Real>(cos: &[R], sin: &[R], back: bool, row: &mut [R]) {
    let n = cos.len();
    let mut i = 0;
    while i + 8 <= n {
        let of = |k: usize, j: usize| [row[2 * (i + j)], row[2 * (i + j) + 1]][k];
        let (x, y) = (std::array::from_fn(|j| of(0, j)), std::array::from_fn(|j| of(1, j)));
        let (x, y) = turned::<R, 8>(array(cos, i), array(sin, i), back, x, y);
        let to = array_mut::<R, 16>(row, 2 * i);
        *to = std::array::from_fn(|j| if j % 2 == 0 { x[j / 2] } else { y[j / 2] });
        i += 8;
    }
    while i < n {
        let ([x], [y]) = turned([cos[i]], [sin[i]], back, [row[2 * i]], [row[2 * i + 1]]);
        (row[2 * i], row[2 * i + 1]) = (x, y);
        i += 1;
    }
}

/// Pairs that are neighbours where they are read and halves apart where they are written; the other way round in the transpose.
#[inline(always)]
fn moved<R: Real>(cos: &[R], sin: &[R], back: bool, before: &[R], row: &mut [R]) {
    let n = cos.len();
    for i in 0..n {
        let (near, far) = ([2 * i, 2 * i + 1], [i, n + i]);
        let (from, to) = if back { (far, near) } else { (near, far) };
        let ([x], [y]) = turned([cos[i]], [sin[i]], back, [before[from[0]]], [before[from[1]]]);
        (row[to[0]], row[to[1]]) = (x, y);
    }
}

/// The kernels' arithmetic: two products and a sum each, rounded one by one.
#[inline(always)]
fn turned<R: Real, const N: usize>(c: [R; N], s: [R; N], back: bool, x: [R; N], y: [R; N]) -> ([R; N], [R; N]) {
    let s = s.map(|s| if back { -s } else { s });
    (
        std::array::from_fn(|i| x[i] * c[i] - y[i] * s[i]),
        std::array::from_fn(|i| x[i] * s[i] + y[i] * c[i]),
    )
}

#[inline(always)]
fn array<R: Real, const N: usize>(x: &[R], i: usize) -> [R; N] {
    std::array::from_fn(|j| x[i..i + N][j])
}

#[inline(always)]
fn array_mut<R: Real, const N: usize>(x: &mut [R], i: usize) -> &mut [R; N] {
    x[i..].first_chunk_mut().expect("as many are left")
}
