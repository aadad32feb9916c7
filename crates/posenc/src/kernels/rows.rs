//! Sums of rows.

use super::{Present, Vectors, vectors};
use crate::real::Element;
use fearless_simd::Simd;

/// `y += x`, each sum rounded once to what is stored. As many numbers as the shorter row has.
#[inline]
pub(crate) fn add_row<T: Element>(on: Present, y: &mut [T], x: &[T::Real]) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, y: &mut [T], x: &[T::Real]) {
        each(
            simd,
            y,
            x,
            #[inline(always)]
            |y, x| y + x,
            #[inline(always)]
            |y, x| y + x,
        );
    }
    vectors!(on, simd => body(simd, y, x));
}

/// `y += a·x`, likewise.
#[inline]
pub(crate) fn add_scaled<T: Element>(on: Present, y: &mut [T], a: T::Real, x: &[T::Real]) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, y: &mut [T], a: T::Real, x: &[T::Real]) {
        let wide = T::Real::splat(simd, a);
        each(
            simd,
            y,
            x,
            #[inline(always)]
            |y, x| y + wide * x,
            #[inline(always)]
            |y, x| y + a * x,
        );
    }
    vectors!(on, simd => body(simd, y, a, x));
}

/// `y += a·x` where x is what is stored: a table's row and the gradient of a row that it was added to.
#[inline]
pub(crate) fn gather_scaled<T: Element>(on: Present, y: &mut [T::Real], a: T::Real, x: &[T]) {
    #[inline(always)]
    fn body<S: Simd, T: Element>(simd: S, y: &mut [T::Real], a: T::Real, x: &[T]) {
        let lanes = <T::Real as Vectors>::LANES;
        let n = y.len().min(x.len());
        let (y, x) = (&mut y[..n], &x[..n]);
        let wide = T::Real::splat(simd, a);
        let whole = n - n % lanes;
        for i in (0..whole).step_by(lanes) {
            let sum = <T::Real as Element>::load(simd, &y[i..i + lanes]) + wide * T::load(simd, &x[i..i + lanes]);
            <T::Real as Element>::store(simd, sum, &mut y[i..i + lanes]);
        }
        for i in whole..n {
            y[i] += a * x[i].widen();
        }
    }
    vectors!(on, simd => body(simd, y, a, x));
}

#[inline(always)]
fn each<S: Simd, T: Element>(
    simd: S,
    y: &mut [T],
    x: &[T::Real],
    wide: impl Fn(<T::Real as Vectors>::Vector<S>, <T::Real as Vectors>::Vector<S>) -> <T::Real as Vectors>::Vector<S>,
    one: impl Fn(T::Real, T::Real) -> T::Real,
) {
    let lanes = <T::Real as Vectors>::LANES;
    let n = y.len().min(x.len());
    let (y, x) = (&mut y[..n], &x[..n]);
    let whole = n - n % lanes;
    for i in (0..whole).step_by(lanes) {
        let sum = wide(T::load(simd, &y[i..i + lanes]), <T::Real as Element>::load(simd, &x[i..i + lanes]));
        T::store(simd, sum, &mut y[i..i + lanes]);
    }
    for i in whole..n {
        y[i] = T::narrow(one(y[i].widen(), x[i]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Real;
    use crate::rng::Rng;

    fn sums<T: Element + PartialEq + std::fmt::Debug>() {
        let mut rng = Rng::new(4);
        for n in [0, 1, 7, 8, 15, 16, 17, 33, 100] {
            let mut numbers = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal()).collect() };
            let y: Vec<T> = numbers(n).iter().map(|x| T::narrow(T::Real::of(*x))).collect();
            let x: Vec<T::Real> = numbers(n + 3).iter().map(|x| T::Real::of(*x)).collect();
            let a = T::Real::of(0.3);
            for on in Present::all() {
                let (mut added, mut scaled, mut gathered) = (y.clone(), y.clone(), x.clone());
                add_row(on, &mut added, &x);
                add_scaled(on, &mut scaled, a, &x);
                gather_scaled(on, &mut gathered, a, &y);
                for i in 0..n {
                    assert_eq!(added[i], T::narrow(y[i].widen() + x[i]), "{}", on.isa());
                    assert_eq!(scaled[i], T::narrow(y[i].widen() + a * x[i]), "{}", on.isa());
                    assert_eq!(gathered[i], x[i] + a * y[i].widen(), "{}", on.isa());
                }
                assert_eq!(gathered[n..], x[n..], "{}", on.isa());
            }
        }
    }

    /// Bit for bit one number at a time: no fused product, one rounding.
    #[test]
    fn rows_are_summed_as_single_numbers_are() {
        sums::<f32>();
        sums::<f64>();
        sums::<half::f16>();
        sums::<half::bf16>();
    }
}
