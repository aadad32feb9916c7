//! Products of a few rows with keys and values where they lie: a step of decoding reads its cache once, and packing it would read and write it once more.

use super::prefetch::{LINE, prefetch};
use super::{Present, Vectors, vectors};
use crate::real::{Element, Real};
use fearless_simd::{Simd, prelude::*};

/// Stored rows: row j begins at `j * row`.
#[derive(Clone, Copy)]
pub struct Lying<'a, T> {
    pub data: &'a [T],
    pub row: usize,
}

impl<T> Lying<'_, T> {
    fn check(self, rows: usize, width: usize) {
        assert!(rows == 0 || (rows - 1) * self.row + width <= self.data.len());
    }

    /// Row j, or the last of `rows` where there are no more.
    #[inline(always)]
    fn at(self, j: usize, rows: usize) -> *const T {
        self.data.as_ptr().wrapping_add(j.min(rows - 1) * self.row)
    }
}

/// Scores of a few queries: `s = alpha·q·kᵀ` for `planes` × `rows` queries and `keys` keys of `width` numbers, a multiple of [`Vectors::LANES`](super::Vectors::LANES). Query (h, i) lies at `h * q_steps[0] + i * q_steps[1]`,
/// its scores likewise. Scores are written up to the next multiple of the lanes; what lies past the keys has no meaning.
pub struct FewScores<'a, T: Element> {
    pub shape: [usize; 4],
    pub alpha: T::Real,
    pub q: &'a [T::Real],
    pub q_steps: [usize; 2],
    pub k: Lying<'a, T>,
    pub s: &'a mut [T::Real],
    pub s_steps: [usize; 2],
}

/// What a few rows of weights make of values: `o += p·v` for `rows` rows of `keys` weights and values of `width` numbers, a multiple of [`Vectors::LANES`](super::Vectors::LANES).
pub struct FewSums<'a, T: Element> {
    pub shape: [usize; 3],
    pub p: &'a [T::Real],
    pub p_row: usize,
    pub v: Lying<'a, T>,
    pub o: &'a mut [T::Real],
    pub o_row: usize,
}

/// Numbers in a line of the cache.
const fn of_line<T>() -> usize {
    LINE / size_of::<T>()
}

/// See [`FewScores`].
pub(crate) fn few_scores<T: Element>(on: Present, job: FewScores<'_, T>) {
    let FewScores {
        shape: [planes, rows, keys, width],
        alpha,
        q,
        q_steps,
        k,
        s,
        s_steps,
    } = job;
    let lanes = <T::Real as Vectors>::LANES;
    if planes == 0 || rows == 0 || keys == 0 {
        return;
    }
    assert!(width % lanes == 0);
    k.check(keys, width);
    let last = |[plane, row]: [usize; 2]| (planes - 1) * plane + (rows - 1) * row;
    assert!(last(q_steps) + width <= q.len() && last(s_steps) + keys.next_multiple_of(lanes) <= s.len());
    #[inline(always)]
    fn body<S: Simd, T: Element>(
        simd: S,
        [planes, rows, keys, width]: [usize; 4],
        alpha: T::Real,
        q: &[T::Real],
        q_steps: [usize; 2],
        k: Lying<'_, T>,
        s: &mut [T::Real],
        s_steps: [usize; 2],
    ) {
        let lanes = <T::Real as Vectors>::LANES;
        let zero = <T::Real as Vectors>::splat(simd, T::Real::ZERO);
        let alpha = <T::Real as Vectors>::splat(simd, alpha);
        for j in (0..keys).step_by(lanes) {
            let mut row = [std::ptr::null(); MOST];
            for i in 0..lanes {
                row[i] = k.at(j + i, keys);
                let next = k.at(j + lanes + i, keys);
                for line in (0..width).step_by(of_line::<T>()) {
                    prefetch::<false>(next.wrapping_add(line).cast());
                }
            }
            for h in 0..planes {
                for i in 0..rows {
                    let query = &q[h * q_steps[0] + i * q_steps[1]..][..width];
                    let mut sum = [zero; MOST];
                    for p in (0..width).step_by(lanes) {
                        let x = <T::Real as Element>::load(simd, &query[p..p + lanes]);
                        for l in 0..lanes {
                            // SAFETY: every row has `width` numbers in the slice, which was checked for the last one.
                            let y = unsafe { std::slice::from_raw_parts(row[l].add(p), lanes) };
                            sum[l] = x.mul_add(T::load(simd, y), sum[l]);
                        }
                    }
                    // Interleaved halves, added: as many rounds as a lane's number has bits bring the sum of row l to lane l.
                    let mut half = lanes / 2;
                    while half > 0 {
                        for l in 0..half {
                            let (low, high) = sum[l].interleave(sum[l + half]);
                            sum[l] = low + high;
                        }
                        half /= 2;
                    }
                    let to = h * s_steps[0] + i * s_steps[1] + j;
                    <T::Real as Element>::store(simd, sum[0] * alpha, &mut s[to..to + lanes]);
                }
            }
        }
    }
    vectors!(on, simd => body(simd, [planes, rows, keys, width], alpha, q, q_steps, k, s, s_steps));
}

/// The most lanes of a vector.
const MOST: usize = 16;
/// Vectors of a row of values that are summed together.
const WIDE: usize = 4;
/// Rows of weights that share the values they load.
const SHARING: usize = 4;

/// See [`FewSums`].
pub(crate) fn few_sums<T: Element>(on: Present, job: FewSums<'_, T>) {
    let FewSums {
        shape: [rows, keys, width],
        p,
        p_row,
        v,
        o,
        o_row,
    } = job;
    let lanes = <T::Real as Vectors>::LANES;
    if rows == 0 || keys == 0 {
        return;
    }
    assert!(width % lanes == 0);
    v.check(keys, width);
    assert!((rows - 1) * p_row + keys <= p.len() && (rows - 1) * o_row + width <= o.len());
    let wide = width - width % (WIDE * lanes);
    let mut i = 0;
    while i < rows {
        let sharing = if i + SHARING <= rows { SHARING } else { 1 };
        let (p, o) = (&p[i * p_row..], &mut o[i * o_row..]);
        for c in (0..wide).step_by(WIDE * lanes) {
            match sharing {
                SHARING => vectors!(on, simd => block::<_, T, SHARING, WIDE>(simd, keys, p, p_row, v, o, o_row, c)),
                _ => vectors!(on, simd => block::<_, T, 1, WIDE>(simd, keys, p, p_row, v, o, o_row, c)),
            }
        }
        for c in (wide..width).step_by(lanes) {
            match sharing {
                SHARING => vectors!(on, simd => block::<_, T, SHARING, 1>(simd, keys, p, p_row, v, o, o_row, c)),
                _ => vectors!(on, simd => block::<_, T, 1, 1>(simd, keys, p, p_row, v, o, o_row, c)),
            }
        }
        i += sharing;
    }
}

/// `ROWS` rows × `WIDE` vectors of sums from column c on, held in registers while the keys pass by. The caller has checked that they lie in their slices.
#[inline(always)]
fn block<S: Simd, T: Element, const ROWS: usize, const WIDE: usize>(
    simd: S,
    keys: usize,
    p: &[T::Real],
    p_row: usize,
    v: Lying<'_, T>,
    o: &mut [T::Real],
    o_row: usize,
    c: usize,
) {
    const AHEAD: usize = 16;
    let lanes = <T::Real as Vectors>::LANES;
    let mut sum = [[<T::Real as Vectors>::splat(simd, T::Real::ZERO); WIDE]; ROWS];
    for r in 0..ROWS {
        for w in 0..WIDE {
            sum[r][w] = <T::Real as Element>::load(simd, &o[r * o_row + c + w * lanes..][..lanes]);
        }
    }
    for j in 0..keys {
        let (row, next) = (v.at(j, keys).wrapping_add(c), v.at(j + AHEAD, keys).wrapping_add(c));
        for line in (0..WIDE * lanes).step_by(of_line::<T>()) {
            prefetch::<false>(next.wrapping_add(line).cast());
        }
        for w in 0..WIDE {
            // SAFETY: the caller's: row j has these columns in its slice.
            let x = T::load(simd, unsafe { std::slice::from_raw_parts(row.add(w * lanes), lanes) });
            for r in 0..ROWS {
                // SAFETY: the caller's: each row of weights has `keys` numbers in its slice.
                let weight = unsafe { *p.get_unchecked(r * p_row + j) };
                sum[r][w] = <T::Real as Vectors>::splat(simd, weight).mul_add(x, sum[r][w]);
            }
        }
    }
    for r in 0..ROWS {
        for w in 0..WIDE {
            <T::Real as Element>::store(simd, sum[r][w], &mut o[r * o_row + c + w * lanes..][..lanes]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Bounds: n products and sums, each rounded once in the arithmetic type, and the factor.
    fn equal_the_naive_sums<T: Element>() {
        let lanes = <T::Real as Vectors>::LANES;
        let mut rng = Rng::new(3);
        let mut numbers = |n: usize| -> Vec<T::Real> { (0..n).map(|_| T::Real::of(rng.normal())).collect() };
        let epsilon = T::Real::EPSILON.to_f64();
        for [planes, rows, keys, vectors] in [
            [1, 1, 1, 1],
            [1, 1, 33, 4],
            [4, 1, 40, 5],
            [2, 3, 17, 2],
            [1, 8, 100, 9],
            [3, 5, 16, 8],
        ] {
            let width = vectors * lanes;
            let (row, padded) = (width + 3, keys.next_multiple_of(lanes) + 2);
            let stored: Vec<T> = numbers(keys * row).into_iter().map(T::narrow).collect();
            let lying = Lying { data: &stored, row };
            let (q, o) = (numbers(planes * rows * width), numbers(rows * row));
            let p = numbers(rows * padded);
            for on in Present::all() {
                let mut s = vec![T::Real::ZERO; planes * rows * padded];
                let steps = |n: usize| [rows * n, n];
                T::few_scores(
                    on,
                    FewScores {
                        shape: [planes, rows, keys, width],
                        alpha: T::Real::of(0.5),
                        q: &q,
                        q_steps: steps(width),
                        k: lying,
                        s: &mut s,
                        s_steps: steps(padded),
                    },
                );
                for (i, j) in (0..planes * rows).flat_map(|i| (0..keys).map(move |j| (i, j))) {
                    let terms = (0..width).map(|c| 0.5 * q[i * width + c].to_f64() * stored[j * row + c].widen().to_f64());
                    let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    let error = (s[i * padded + j].to_f64() - exact).abs();
                    assert!(
                        error <= (width + 1) as f64 * epsilon / 2.0 * size,
                        "{}: {i}, {j}: {error:e}",
                        on.isa()
                    );
                }
                let mut sums = o.clone();
                T::few_sums(
                    on,
                    FewSums {
                        shape: [rows, keys, width],
                        p: &p,
                        p_row: padded,
                        v: lying,
                        o: &mut sums,
                        o_row: row,
                    },
                );
                for (i, c) in (0..rows).flat_map(|i| (0..row).map(move |c| (i, c))) {
                    let before = o[i * row + c].to_f64();
                    if c >= width {
                        assert_eq!(sums[i * row + c], o[i * row + c], "nothing past the row");
                        continue;
                    }
                    let terms = (0..keys).map(|j| p[i * padded + j].to_f64() * stored[j * row + c].widen().to_f64());
                    let (exact, size) = terms.fold((before, before.abs()), |(sum, size), x| (sum + x, size + x.abs()));
                    let error = (sums[i * row + c].to_f64() - exact).abs();
                    assert!(
                        error <= (keys + 1) as f64 * epsilon / 2.0 * size,
                        "{}: {i}, {c}: {error:e}",
                        on.isa()
                    );
                }
            }
        }
    }

    #[test]
    fn a_few_rows_equal_the_naive_sums_in_every_type() {
        equal_the_naive_sums::<f32>();
        equal_the_naive_sums::<f64>();
        equal_the_naive_sums::<half::f16>();
        equal_the_naive_sums::<half::bf16>();
    }
}
