//! Numbers that are none: NaN and infinities stay in the pair, the element or the row that they came in, and nothing else changes by a bit.

use half::{bf16, f16};
use posenc::rotate::{Rounding, Scaling, Yarn};
use posenc::{
    Attention, Element, Encoding, InputTable, Inputs, Learned, Mask, Mode, Outputs, Pairing, Params, Positions, Real, Rotary, Rotation,
    Site, Turn, View, ViewMut, Workspace,
};

const BAD: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn narrow<T: Element>(x: f64) -> T {
    T::narrow(T::Real::of(x))
}

fn finite<T: Element>(x: T) -> bool {
    x.widen().to_f64().is_finite()
}

/// The two columns of each pair, where they are read and where they are written.
fn pair_of(pairing: Pairing, column: usize, dim: usize, written: bool) -> usize {
    let n = dim / 2;
    match pairing {
        Pairing::Interleaved => column / 2,
        Pairing::InterleavedToHalves if !written => column / 2,
        Pairing::Halves | Pairing::InterleavedToHalves => column % n,
        Pairing::HalvesTwice => column / n * (n / 2) + column % n % (n / 2),
    }
}

#[test]
fn a_number_that_is_none_stays_in_its_pair() {
    fn check<T: Element + PartialEq + std::fmt::Debug>() {
        let at = Positions::range(1..4);
        // Ragged ends behind whole vectors, and columns that do not turn.
        let (width, dim, shape) = (83, 80, [1, 2, 3, 83]);
        let plain: Vec<T> = (0..2 * 3 * width).map(|i| narrow((i % 19) as f64 - 9.25)).collect();
        for pairing in [
            Pairing::Halves,
            Pairing::Interleaved,
            Pairing::InterleavedToHalves,
            Pairing::HalvesTwice,
        ] {
            let rotary = Rotary::new(pairing).with_rotary_dim(dim);
            let scaled = rotary.clone().with_scaling(Scaling::Yarn(Yarn::new(4.0, 64)));
            let once: Rotation<T::Real> = rotary.rotation(width, &at).unwrap();
            for rotation in [once.clone(), once.rounded(Rounding::EachStep), scaled.rotation(width, &at).unwrap()] {
                for turn in [Turn::Forward, Turn::Adjoint, Turn::Inverse] {
                    let mut expected = plain.clone();
                    rotation.apply(turn, ViewMut::new(&mut expected, shape).unwrap()).unwrap();
                    for (bad, column) in BAD
                        .into_iter()
                        .flat_map(|bad| [0, 7, 39, 40, 63, 79, 82].map(|column| (bad, column)))
                    {
                        let row = 4;
                        let mut x = plain.clone();
                        x[row * width + column] = narrow(bad);
                        let mut out = vec![narrow(-77.0); x.len()];
                        rotation
                            .apply_into(turn, View::new(&x, shape).unwrap(), ViewMut::new(&mut out, shape).unwrap())
                            .unwrap();
                        rotation.apply(turn, ViewMut::new(&mut x, shape).unwrap()).unwrap();
                        let (reads_written, writes_written) = (turn != Turn::Forward, turn == Turn::Forward);
                        for (i, expected) in expected.iter().enumerate() {
                            let own = i / width == row
                                && match (column < dim, i % width < dim) {
                                    (true, true) => {
                                        pair_of(pairing, column, dim, reads_written) == pair_of(pairing, i % width, dim, writes_written)
                                    }
                                    (false, false) => column == i % width,
                                    _ => false,
                                };
                            for got in [x[i], out[i]] {
                                if own {
                                    assert!(
                                        !finite(got),
                                        "{pairing:?} {turn:?}: {bad} of column {column} is {got:?} in {}",
                                        i % width
                                    );
                                    assert!(!bad.is_nan() || got.widen().to_f64().is_nan(), "NaN became {got:?}");
                                } else {
                                    assert_eq!(got, *expected, "{pairing:?} {turn:?}: {bad} of column {column} reached {i}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<f16>();
    check::<bf16>();
}

#[test]
fn a_number_that_is_none_stays_in_its_element_of_a_sum() {
    fn check<T: Element + PartialEq + std::fmt::Debug>() {
        let at = Positions::whole_rows(&[0, 3, 1, 3, 3, 2], 2).unwrap();
        for (encoding, site) in [
            (Encoding::from(Learned::new(4)), Site::Embedding),
            (InputTable::new(4).into(), Site::QueryInput),
        ] {
            let (plan, params) = crate::planned::<T::Real>(encoding);
            let call = plan.call(&params, &at, &at).unwrap();
            let plain: Vec<T> = (0..48).map(|i| narrow(f64::from(i) * 0.25 - 5.0)).collect();
            let added = |x: &[T], params: &Params<T::Real>| {
                let mut x = x.to_vec();
                let call = plan.call(params, &at, &at).unwrap();
                call.add(site, ViewMut::new(&mut x, [2, 3, 8]).unwrap(), Mode::Evaluate).unwrap();
                x
            };
            let gradients = |dx: &[T]| {
                let (mut dx, mut grads) = (dx.to_vec(), params.zeros_like());
                call.add_adjoint(site, ViewMut::new(&mut dx, [2, 3, 8]).unwrap(), Mode::Evaluate, &mut grads)
                    .unwrap();
                grads.flat().to_vec()
            };
            let (expected, expected_grads) = (added(&plain, &params), gradients(&plain));
            for bad in BAD {
                for i in [0, 9, 30, 47] {
                    let mut x = plain.clone();
                    x[i] = narrow(bad);
                    let (token, column) = (i / 8, i % 8);
                    for (j, got) in added(&x, &params).into_iter().enumerate() {
                        assert!(if j == i { !finite(got) } else { got == expected[j] }, "{bad} at {i} reached {j}");
                    }
                    // In the table's gradient: the row of its token's id, the same column.
                    let row = [0, 3, 1, 3, 3, 2][token];
                    for (j, got) in gradients(&x).into_iter().enumerate() {
                        let own = j == row * 8 + column;
                        assert!(
                            if own { !got.is_finite() } else { got == expected_grads[j] },
                            "{bad} at {i} reached {j}"
                        );
                    }
                    // In the table: every token of its row, the same column.
                    let mut table = params.clone();
                    table.flat_mut()[row * 8 + column] = T::Real::of(bad);
                    for (j, got) in added(&plain, &table).into_iter().enumerate() {
                        let own = [0, 3, 1, 3, 3, 2][j / 8] == row && j % 8 == column;
                        assert!(
                            if own { !finite(got) } else { got == expected[j] },
                            "{bad} of the table reached {j}"
                        );
                    }
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<f16>();
    check::<bf16>();
}

/// A query that is no number spoils its own row; a key or a value those of its batch row and key head.
#[test]
fn a_number_that_is_none_stays_in_its_row_of_attention() {
    let (at, width) = (Positions::range(0..70), 70 * 4);
    let (plan, params) = crate::planned::<f32>(Rotary::new(Pairing::Halves));
    let call = plan.call(&params, &at, &at).unwrap();
    let shape = [2, 2, 70, 4];
    let plain: Vec<f32> = (0..4 * width).map(|i| (i % 31) as f32 / 15.0 - 1.0).collect();
    let run = |q: &[f32], k: &[f32], v: &[f32]| {
        let mut out = vec![-77.0f32; 4 * width];
        let inputs = Inputs::new(
            View::new(q, shape).unwrap(),
            View::new(k, shape).unwrap(),
            View::new(v, shape).unwrap(),
        );
        let outputs = Outputs {
            out: ViewMut::new(&mut out, shape).unwrap(),
            saved: None,
            weights: None,
        };
        Attention::default()
            .forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
            .unwrap();
        out
    };
    let expected = run(&plain, &plain, &plain);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = plain.clone();
        let (plane, row) = (2, 66);
        x[plane * width + row * 4 + 1] = bad;
        let (of_query, of_key, of_value) = (run(&x, &plain, &plain), run(&plain, &x, &plain), run(&plain, &plain, &x));
        for i in 0..4 * width {
            let own = i / width == plane;
            let of_row = own && i % width / 4 == row;
            assert!(
                if of_row { of_query[i].is_nan() } else { of_query[i] == expected[i] },
                "a query's {bad} reached {i}"
            );
            assert!(own || of_key[i] == expected[i], "a key's {bad} reached {i}");
            let of_column = own && i % 4 == 1;
            assert!(
                if of_column {
                    !of_value[i].is_finite()
                } else {
                    of_value[i] == expected[i]
                },
                "a value's {bad} reached {i}"
            );
        }
        assert!(of_key[plane * width..(plane + 1) * width].iter().any(|x| x.is_nan()));
    }
}
