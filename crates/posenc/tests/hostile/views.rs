//! Shapes and strides against a slice, element by element.

use posenc::{Error, View, ViewMut};

/// The places of every element, or `None` if one lies outside of `len` places.
fn places(len: usize, shape: [usize; 3], strides: [usize; 3]) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    for a in 0..shape[0] {
        for b in 0..shape[1] {
            for c in 0..shape[2] {
                let place = a * strides[0] + b * strides[1] + c * strides[2];
                if place >= len {
                    return None;
                }
                places.push(place);
            }
        }
    }
    Some(places)
}

/// Every small shape with every small stride on every small slice: a view is made of what lies inside, a mutable one of what shares nothing besides. Only interleaved lattices, as 0, 2 | 3, 5, are refused
/// though they share nothing.
#[test]
fn a_view_is_what_lies_inside_and_a_mutable_one_what_shares_nothing() {
    let (mut taken, mut refused, mut interleaved) = (0, 0, 0);
    let axes = |lens: usize| (0..lens.pow(3)).map(move |i| [i / (lens * lens), i / lens % lens, i % lens]);
    for len in [0, 1, 5, 9, 14] {
        let mut data = vec![0i32; len];
        for shape in axes(4) {
            for strides in axes(7) {
                let last_contiguous = shape[2] <= 1 || strides[2] == 1;
                let inside = places(len, shape, strides);
                let view = View::strided(&data, shape, strides);
                assert_eq!(
                    view.is_ok(),
                    last_contiguous && inside.is_some(),
                    "{shape:?}, strides {strides:?} on {len}"
                );
                let view = ViewMut::strided(&mut data, shape, strides);
                let Some(mut places) = inside.filter(|_| last_contiguous) else {
                    assert!(view.is_err(), "{shape:?}, strides {strides:?} on {len}");
                    refused += 1;
                    continue;
                };
                let count = places.len();
                places.sort_unstable();
                places.dedup();
                match view {
                    Ok(mut view) => {
                        assert_eq!(places.len(), count, "{shape:?}, strides {strides:?} share an element");
                        // Each row is where its elements are.
                        for (a, b) in (0..shape[0]).flat_map(|a| (0..shape[1]).map(move |b| (a, b))) {
                            view.row_mut([a, b, 0]).iter_mut().for_each(|x| *x += 1);
                        }
                        assert_eq!(data.iter().sum::<i32>() as usize, count);
                        assert!(places.iter().all(|place| data[*place] == 1));
                        data.fill(0);
                        taken += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Overlap { .. }), "{error}");
                        interleaved += usize::from(places.len() == count);
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(taken > 10_000 && refused > 10_000, "{taken} taken, {refused} refused");
    assert!(interleaved * 50 < taken, "{interleaved} that share nothing were refused");
}

#[test]
fn lengths_at_the_ends_of_usize_are_refused_or_empty() {
    const ENDS: [usize; 7] = [0, 1, 2, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX - 1, usize::MAX];
    let data = [0u8; 4];
    for a in ENDS {
        for b in ENDS {
            for c in ENDS {
                let shape = [a, b, c];
                let product = [a, b, c].iter().try_fold(1usize, |product, n| product.checked_mul(*n));
                assert_eq!(View::new(&data, shape).is_ok(), product == Some(4), "{shape:?}");
                assert_eq!(View::new(&data[..0], shape).is_ok(), shape.contains(&0), "{shape:?}");
                for strides in [[a, b, 1], [c, a, 1], [0, usize::MAX, 1], [usize::MAX, 0, 1], [0, 0, c]] {
                    let (view, mutable) = (View::strided(&data, shape, strides), &mut data.clone());
                    let mutable = ViewMut::strided(mutable, shape, strides);
                    if let Ok(view) = view {
                        // What was taken can be read at its last row.
                        let last = shape.map(|n| n.saturating_sub(1));
                        if !view.is_empty() {
                            assert_eq!(view.row(last).len(), c);
                        }
                    }
                    if let Ok(mut view) = mutable {
                        let last = shape.map(|n| n.saturating_sub(1));
                        if !shape.contains(&0) {
                            assert_eq!(view.row_mut(last).len(), c);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_slice_that_is_too_short_is_refused_before_it_is_read() {
    let mut data = [0.0f32; 7];
    for (shape, strides) in [([2, 2, 2], [4, 2, 1]), ([8, 1, 1], [1, 1, 1]), ([2, 1, 4], [4, 0, 1])] {
        assert_eq!(
            View::strided(&data, shape, strides).unwrap_err(),
            Error::Storage { needed: 8, given: 7 }
        );
        assert_eq!(
            ViewMut::strided(&mut data, shape, strides).unwrap_err(),
            Error::Storage { needed: 8, given: 7 }
        );
    }
}
