//! Rotation kernels against the definition.

use super::*;
use crate::rng::Rng;

const PAIRINGS: [Pairing; 4] = [
    Pairing::Halves,
    Pairing::Interleaved,
    Pairing::InterleavedToHalves,
    Pairing::HalvesTwice,
];

/// Where pair i of n is read and written, forward.
fn places(pairing: Pairing, n: usize, i: usize) -> [(usize, usize); 2] {
    let (neighbours, halves) = ((2 * i, 2 * i + 1), (i, n + i));
    match pairing {
        Pairing::Halves => [halves, halves],
        Pairing::Interleaved => [neighbours, neighbours],
        Pairing::InterleavedToHalves => [neighbours, halves],
        Pairing::HalvesTwice => {
            let low = i / (n / 2) * n + i % (n / 2);
            [(low, low + n / 2); 2]
        }
    }
}

fn numbers<T: Element>(rng: &mut Rng, n: usize) -> Vec<T> {
    (0..n).map(|_| T::narrow(T::Real::of(rng.normal()))).collect()
}

/// Every instruction set, pairing, direction, slice and width gives what the definition gives one pair at a time, bit for bit, in place and out of place.
fn is_the_definition<T: Element + PartialEq + std::fmt::Debug>() {
    let mut rng = Rng::new(11);
    // Ragged ends of every kind, widths of real heads, and one whose tables do not fit the stage.
    for n in [1, 2, 7, 8, 12, 16, 18, 32, 36, 64, 80, 2100] {
        let cases = PAIRINGS.into_iter().flat_map(|p| [(p, false, 1), (p, true, 3)]);
        let roundings = [Rounding::Once, Rounding::Tables, Rounding::EachStep];
        for ((pairing, back, heads), rounding) in cases.flat_map(|case| roundings.map(|rounding| (case, rounding))) {
            if pairing == Pairing::HalvesTwice && n % 2 == 1 {
                continue;
            }
            let stored = |x: T::Real| if rounding == Rounding::Once { x } else { T::narrow(x).widen() };
            let step = |x: T::Real| if rounding == Rounding::EachStep { T::narrow(x).widen() } else { x };
            let [batch, len, width] = [2, 3, 2 * n + 5];
            let first = if back { 5 } else { 0 };
            let (cos, sin) = (
                numbers::<T::Real>(&mut rng, batch * len * heads * n),
                numbers::<T::Real>(&mut rng, batch * len * heads * n),
            );
            let tables = Tables {
                cos: &cos,
                sin: &sin,
                batch,
                len,
                heads,
                pairs: n,
                pairing,
                back,
                first,
                rounding,
            };
            let shape = [batch, 3, len, width];
            let x: Vec<T> = numbers(&mut rng, shape.iter().product());
            let mut expected = x.clone();
            for row in 0..batch * 3 * len {
                let (b, h, t) = (row / (3 * len), row / len % 3, row % len);
                let at = ((b * len + t) * heads + if heads == 1 { 0 } else { h }) * n;
                let row = row * width + first;
                for i in 0..n {
                    let [mut from, mut to] = places(pairing, n, i);
                    let mut s = sin[at + i];
                    if back {
                        (from, to, s) = (to, from, -s);
                    }
                    let (c, s) = (stored(cos[at + i]), stored(s));
                    let (x, y) = (x[row + from.0].widen(), x[row + from.1].widen());
                    expected[row + to.0] = T::narrow(step(x * c) - step(y * s));
                    expected[row + to.1] = T::narrow(step(x * s) + step(y * c));
                }
            }
            for on in Present::all() {
                let what = format!("{}: {n} pairs, {pairing:?}, back {back}, {rounding:?}", on.isa());
                let mut place = x.clone();
                turn(on, &tables, ViewMut::new(&mut place, shape).unwrap());
                assert!(place == expected, "in place, {what}");
                if let Some(own) = own(on, &tables, &x, shape) {
                    assert!(own == expected, "rows of their own, {what}");
                }
                // Outputs are poisoned, and heads stand beside each other in memory: [batch, len, heads, width].
                let mut out = vec![T::narrow(T::Real::of(f64::NAN)); x.len()];
                let stored = [batch, len, 3, width];
                turn_into(
                    on,
                    &tables,
                    View::new(&x, shape).unwrap(),
                    ViewMut::new(&mut out, stored).unwrap().swap(1, 2).unwrap(),
                );
                let swapped = View::new(&out, stored).unwrap().swap(1, 2).unwrap();
                for row in 0..batch * 3 * len {
                    let (b, h, t) = (row / (3 * len), row / len % 3, row % len);
                    assert!(
                        swapped.row([b, h, t, 0]) == &expected[row * width..][..width],
                        "out of place, {what}"
                    );
                }
            }
        }
    }
}

/// The rows of a tensor of the arithmetic's own type, turned head by head by their own tables.
fn own<T: Element>(on: Present, tables: &Tables<'_, T::Real>, x: &[T], [_, heads, len, width]: [usize; 4]) -> Option<Vec<T>> {
    if is_half::<T>() {
        return None;
    }
    let mut rows: Vec<T::Real> = x.iter().map(|x| x.widen()).collect();
    for (at, rows) in rows.chunks_exact_mut(len * width).enumerate() {
        let (b, h) = (if tables.batch == 1 { 0 } else { at / heads }, at % heads);
        let start = (b * tables.len * tables.heads + if tables.heads == 1 { 0 } else { h }) * tables.pairs;
        let own = Own {
            cos: &tables.cos[start..],
            sin: &tables.sin[start..],
            step: tables.heads * tables.pairs,
            pairs: tables.pairs,
            pairing: tables.pairing,
            back: tables.back,
        };
        turn_own(on, own, &mut rows[tables.first..], width, len);
    }
    Some(rows.into_iter().map(T::narrow).collect())
}

#[test]
fn rows_turn_as_the_definition_says() {
    is_the_definition::<f32>();
    is_the_definition::<f64>();
    is_the_definition::<half::f16>();
    is_the_definition::<half::bf16>();
}

/// Large enough for threads to share.
#[test]
fn large_tensors_turn_as_small_ones() {
    let shape = [1, 5, 4099, 128];
    let numbers = shape.iter().product::<usize>();
    let mut rng = Rng::new(12);
    let table: Vec<f32> = (0..2 * 4099 * 64).map(|_| rng.normal() as f32).collect();
    let (cos, sin) = table.split_at(4099 * 64);
    let tables = Tables {
        cos,
        sin,
        batch: 1,
        len: 4099,
        heads: 1,
        pairs: 64,
        pairing: Pairing::Halves,
        back: false,
        first: 0,
        rounding: Rounding::Once,
    };
    let x: Vec<f32> = (0..numbers).map(|i| (i % 1013) as f32 - 500.0).collect();
    for on in Present::all() {
        // Off every alignment but that of the numbers.
        let mut out = vec![f32::NAN; numbers + 3];
        turn_into(
            on,
            &tables,
            View::new(&x, shape).unwrap(),
            ViewMut::new(&mut out[3..], shape).unwrap(),
        );
        let mut place = x.clone();
        turn(on, &tables, ViewMut::new(&mut place, shape).unwrap());
        assert!(out[3..] == place, "{}", on.isa());
        for row in [0, 1, 4098, 4099, 5 * 4099 - 1] {
            let mut one = x[row * 128..][..128].to_vec();
            let at = row % 4099 * 64;
            let own = Own {
                cos: &cos[at..],
                sin: &sin[at..],
                step: 64,
                pairs: 64,
                pairing: Pairing::Halves,
                back: false,
            };
            turn_own(on, own, &mut one, 128, 1);
            assert!(place[row * 128..][..128] == one, "{}: row {row}", on.isa());
        }
    }
}

/// A number that is none spoils its own pair and nothing else, and stays none in 16 bits.
#[test]
fn nan_and_infinity_stay_in_their_pair() {
    fn check<T: Element>() {
        let n = 40;
        let (cos, sin) = (vec![T::Real::of(0.6); n], vec![T::Real::of(0.8); n]);
        for on in Present::all() {
            for bad in [f64::NAN, f64::INFINITY] {
                for pairing in PAIRINGS {
                    let tables = Tables {
                        cos: &cos,
                        sin: &sin,
                        batch: 1,
                        len: 1,
                        heads: 1,
                        pairs: n,
                        pairing,
                        back: false,
                        first: 0,
                        rounding: Rounding::Once,
                    };
                    for i in [0, 5, 33] {
                        let [from, to] = places(pairing, n, i);
                        let mut x = vec![T::narrow(T::Real::ONE); 2 * n];
                        x[from.1] = T::narrow(T::Real::of(bad));
                        turn(on, &tables, ViewMut::new(&mut x, [1, 1, 1, 2 * n]).unwrap());
                        for (j, x) in x.iter().enumerate() {
                            let finite = x.widen().is_finite();
                            assert_eq!(!finite, j == to.0 || j == to.1, "{}: {pairing:?}, pair {i}, column {j}", on.isa());
                            assert!(finite || bad.is_infinite() || x.widen().to_f64().is_nan());
                        }
                    }
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<half::f16>();
    check::<half::bf16>();
}
