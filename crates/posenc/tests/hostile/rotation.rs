//! Rotations of shapes that do not fit, of nothing, and of strides of every kind.

use crate::{ANY_LENGTH, UNTOUCHED, refused};
use half::bf16;
use posenc::rotate::{Rounding, Scaling, Yarn, rotary::rotate};
use posenc::{Element, Error, Pairing, Positions, Rotary, Rotation, Turn, View, ViewMut};

const PAIRINGS: [Pairing; 4] = [
    Pairing::Halves,
    Pairing::Interleaved,
    Pairing::InterleavedToHalves,
    Pairing::HalvesTwice,
];
const TURNS: [Turn; 3] = [Turn::Forward, Turn::Adjoint, Turn::Inverse];

/// Of each way in which rows are turned: by kernels, rounded on the way, divided by determinants.
fn rotations(pairing: Pairing, at: &Positions) -> [Rotation<f32>; 3] {
    let rotary = Rotary::new(pairing);
    let scaled = rotary.clone().with_scaling(Scaling::Yarn(Yarn::new(4.0, 64)));
    [
        rotary.rotation(8, at).unwrap(),
        rotary.rotation(8, at).unwrap().rounded(Rounding::EachStep),
        scaled.rotation(8, at).unwrap(),
    ]
}

#[test]
fn shapes_that_do_not_fit_are_refused_and_nothing_is_written() {
    let at = Positions::whole_rows(&[3, 1, 4, 1, 5, 9], 2).unwrap();
    for pairing in PAIRINGS {
        for rotation in rotations(pairing, &at) {
            for turn in TURNS {
                for shape in [
                    [2, 1, 4, 8],
                    [3, 1, 3, 8],
                    [1, 1, 3, 8],
                    [2, 1, 3, 6],
                    [2, 1, 3, 0],
                    [0, 1, 3, 8],
                    [2, 1, 0, 8],
                ] {
                    let size = shape.iter().product();
                    let error = refused("a rotation", size, |x| rotation.apply(turn, ViewMut::new(x, shape)?));
                    assert!(matches!(error, Error::Shape { .. }), "{error}");
                    let source = vec![1.0f32; size];
                    refused("a rotation into", size, |x| {
                        rotation.apply_into(turn, View::new(&source, shape)?, ViewMut::new(x, shape)?)
                    });
                }
                let source = vec![1.0f32; 48];
                let error = refused("another shape", 48, |x| {
                    rotation.apply_into(turn, View::new(&source, [2, 1, 3, 8])?, ViewMut::new(x, [1, 2, 3, 8])?)
                });
                assert!(
                    matches!(
                        error,
                        Error::Shape {
                            what: "out [batch, heads, seq, head_dim]",
                            ..
                        }
                    ),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_turned_whatever_the_other_axes() {
    let at = Positions::range(0..0);
    for pairing in PAIRINGS {
        for rotation in rotations(pairing, &at) {
            for (turn, any) in TURNS.into_iter().flat_map(|turn| ANY_LENGTH.map(|any| (turn, any))) {
                for heads in ANY_LENGTH {
                    let shape = [any, heads, 0, 8];
                    rotation.apply(turn, ViewMut::<f32, 4>::new(&mut [], shape).unwrap()).unwrap();
                    rotation.apply(turn, ViewMut::<bf16, 4>::new(&mut [], shape).unwrap()).unwrap();
                    let (x, out) = (View::<bf16, 4>::new(&[], shape).unwrap(), ViewMut::new(&mut [], shape).unwrap());
                    rotation.apply_into(turn, x, out).unwrap();
                    let (x, out) = (View::<f32, 4>::new(&[], shape).unwrap(), ViewMut::new(&mut [], shape).unwrap());
                    rotation.apply_into(turn, x, out).unwrap();
                }
            }
        }
        for any in ANY_LENGTH {
            let shape = [any, any, 0, 8];
            let (x, out) = (View::<f32, 4>::new(&[], shape).unwrap(), ViewMut::new(&mut [], shape).unwrap());
            rotate(x, out, &at, pairing, 1e4).unwrap();
            // No rows of a batch, and no heads, of as many tokens as there are positions.
            let (three, shape) = (Positions::range(0..3), [0, any, 3, 8]);
            let (x, out) = (View::<f32, 4>::new(&[], shape).unwrap(), ViewMut::new(&mut [], shape).unwrap());
            rotate(x, out, &three, pairing, 1e4).unwrap();
            let (x, out) = (
                View::<f32, 4>::new(&[], [any, 0, 3, 8]).unwrap(),
                ViewMut::new(&mut [], [any, 0, 3, 8]).unwrap(),
            );
            rotate(x, out, &three, pairing, 1e4).unwrap();
        }
    }
}

/// A step that fails leaves the rotation whose memory it was given as it was, or empty: it turns no row of a wrong length.
#[test]
fn a_failed_step_leaves_no_half_made_table() {
    let rotary = Rotary::new(Pairing::Halves);
    let mut rotation: Rotation<f32> = rotary.rotation(8, &Positions::range(0..3)).unwrap();
    for refused in [
        rotary.rotation_into(7, &Positions::range(3..4), &mut rotation),
        rotary.rotation_into(
            8,
            &Positions::real(&[1.0, 1e308]).unwrap().with_axis(&Positions::range(0..2)).unwrap(),
            &mut rotation,
        ),
        rotary
            .clone()
            .with_base(1e-300)
            .rotation_into(8, &Positions::real(&[1e300]).unwrap(), &mut rotation),
    ] {
        assert!(refused.is_err());
        let mut x = [UNTOUCHED; 8];
        assert!(rotation.apply(Turn::Forward, ViewMut::new(&mut x, [1, 1, 1, 8]).unwrap()).is_err());
        assert_eq!(x, [UNTOUCHED; 8]);
        rotation
            .apply(Turn::Forward, ViewMut::<f32, 4>::new(&mut [], [1, 1, 0, 8]).unwrap())
            .ok();
    }
    rotary.rotation_into(8, &Positions::range(0..1), &mut rotation).unwrap();
    rotation
        .apply(Turn::Forward, ViewMut::new(&mut [0.5f32; 8], [1, 1, 1, 8]).unwrap())
        .unwrap();
}

/// Strides of every order of axes, gaps between rows and heads, and a source that repeats: what lies between is not touched, and what is turned is what contiguous rows are.
#[test]
fn strides_of_every_kind_turn_the_rows_and_nothing_between() {
    fn check<T: Element + PartialEq + std::fmt::Debug>() {
        let at = Positions::range(5..8);
        let [batch, heads, len, width] = [2, 3, 3, 10];
        let number = |i: usize| T::narrow(<T::Real as posenc::Real>::of((i % 23) as f64 - 11.5));
        let poison = T::narrow(<T::Real as posenc::Real>::of(-77.0));
        for pairing in PAIRINGS {
            let rotation: Rotation<T::Real> = Rotary::new(pairing).with_rotary_dim(8).rotation(width, &at).unwrap();
            let shape = [batch, heads, len, width];
            let plain: Vec<T> = (0..batch * heads * len * width).map(number).collect();
            for turn in TURNS {
                let mut expected = plain.clone();
                rotation.apply(turn, ViewMut::new(&mut expected, shape).unwrap()).unwrap();
                let (row, head) = (width + 3, 64);
                for strides in [
                    [heads * head, head, row, 1],
                    [len * heads * row, row, heads * row, 1],
                    [row, batch * row, batch * heads * row, 1],
                    [heads * len * width, width, heads * width, 1],
                ] {
                    let place = |b: usize, h: usize, t: usize| 2 + b * strides[0] + h * strides[1] + t * strides[2];
                    let size = place(batch - 1, heads - 1, len - 1) + width + 5;
                    let mut data = vec![poison; size];
                    let rows = || (0..batch * heads * len).map(|i| (i * width, place(i / (heads * len), i / len % heads, i % len)));
                    rows().for_each(|(from, to)| data[to..to + width].copy_from_slice(&plain[from..from + width]));
                    let mut gaps = vec![true; size];
                    rows().for_each(|(_, to)| gaps[to..to + width].fill(false));
                    let source = data.clone();
                    rotation
                        .apply(turn, ViewMut::strided(&mut data[2..], shape, strides).unwrap())
                        .unwrap();
                    let mut out = vec![poison; size];
                    let from = View::strided(&source[2..], shape, strides).unwrap();
                    rotation
                        .apply_into(turn, from, ViewMut::strided(&mut out[2..], shape, strides).unwrap())
                        .unwrap();
                    for data in [data, out] {
                        rows().for_each(|(from, to)| assert_eq!(data[to..to + width], expected[from..from + width], "{strides:?}"));
                        assert!(
                            gaps.iter().zip(&data).all(|(gap, x)| !gap || *x == poison),
                            "{strides:?}: written between rows"
                        );
                    }
                }
                // One row serves all tokens, heads and batch rows.
                let one: Vec<T> = plain[..width].to_vec();
                let mut out = vec![poison; plain.len()];
                let from = View::strided(&one, shape, [0, 0, 0, 1]).unwrap();
                rotation.apply_into(turn, from, ViewMut::new(&mut out, shape).unwrap()).unwrap();
                let mut repeated: Vec<T> = one.repeat(batch * heads * len);
                rotation.apply(turn, ViewMut::new(&mut repeated, shape).unwrap()).unwrap();
                assert_eq!(out, repeated);
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<half::f16>();
    check::<bf16>();
}

#[test]
fn widths_and_bases_that_cannot_turn_are_refused() {
    let at = Positions::range(0..2);
    let make = |rotary: Rotary, head_dim: usize| rotary.rotation::<f32>(head_dim, &at);
    for pairing in PAIRINGS {
        let plain = || Rotary::new(pairing);
        for head_dim in [0, 1, 7, usize::MAX, usize::MAX - 1, usize::MAX - 3, 1 << 40] {
            assert!(make(plain(), head_dim).is_err(), "{pairing:?} of {head_dim}");
        }
        for base in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(make(plain().with_base(base), 8), Err(Error::Invalid { what: "base", .. })));
        }
        for rotary_dim in [0, 3, 10, usize::MAX, usize::MAX - 1] {
            assert!(make(plain().with_rotary_dim(rotary_dim), 8).is_err(), "{rotary_dim}");
        }
        for exponent_dim in [usize::MAX, 1 << 25, 0] {
            let rotary = Rotary {
                exponent_dim: Some(exponent_dim),
                ..plain()
            };
            assert!(make(rotary, 8).is_err(), "exponents over {exponent_dim}");
        }
    }
}

#[test]
fn tables_that_do_not_fit_each_other_are_refused() {
    let (cos, sin) = ([0.5f32; 12], [0.5f32; 12]);
    let make = |cos, sin| Rotation::<f32>::from_tables(cos, sin, Pairing::Halves);
    let view = |data, shape| View::new(data, shape).unwrap();
    assert!(make(view(&cos, [1, 3, 4]), view(&sin, [1, 4, 3])).is_err());
    assert!(make(view(&cos[..0], [1, 3, 0]), view(&sin[..0], [1, 3, 0])).is_err());
    // Rows that are repeated more often than memory holds them.
    let often = |data| View::strided(data, [1 << 40, 1 << 10, 4], [0, 0, 1]).unwrap();
    assert!(matches!(make(often(&cos), often(&sin)), Err(Error::Invalid { .. })));
    let empty = |data| View::strided(data, [usize::MAX, 0, 4], [0, 0, 1]).unwrap();
    make(empty(&cos), empty(&sin)).unwrap();
}
