//! Tables that are added, looked up, made and resized: shapes that do not fit, ids without a row, and nothing.

use crate::{ANY_LENGTH, planned, refused};
use posenc::embed::{
    Bicubic, Normalize, Sampling, lookup, lookup_adjoint, pixel_positions, resize_grid, resize_linear, sinusoid, timestep,
};
use posenc::{Encoding, Error, InputTable, Learned, Mode, Overflow, Positions, Sinusoidal, Site, View, ViewMut, relative_sinusoids};

const MODES: [Mode; 2] = [Mode::Evaluate, Mode::Train { seed: 1, call: 2 }];

fn encodings() -> [Encoding; 5] {
    [
        Learned::new(16).with_dropout(0.5).into(),
        Sinusoidal::paper().with_dropout(0.5).into(),
        Learned::new(16).concatenated(4).into(),
        InputTable::new(16).into(),
        Encoding::from(Learned::new(16)).with(Sinusoidal::paper().concatenated(2)),
    ]
}

#[test]
fn nothing_is_added_whatever_the_other_axes() {
    for encoding in encodings() {
        let (plan, params) = planned::<f32>(encoding);
        let (at, mut grads) = (Positions::range(0..0), params.zeros_like());
        let call = plan.call(&params, &at, &at).unwrap();
        let wide = 8 + plan.concat_width();
        for (any, mode) in ANY_LENGTH.into_iter().flat_map(|any| MODES.map(|mode| (any, mode))) {
            for site in [Site::Embedding, Site::QueryInput, Site::KeyInput] {
                if plan.concat_width() == 0 {
                    call.add(site, ViewMut::<f32, 3>::new(&mut [], [any, 0, 8]).unwrap(), mode).unwrap();
                    let dx = ViewMut::<f32, 3>::new(&mut [], [any, 0, 8]).unwrap();
                    call.add_adjoint(site, dx, mode, &mut grads).unwrap();
                }
            }
            let (x, out) = (
                View::<f32, 3>::new(&[], [any, 0, 8]).unwrap(),
                ViewMut::new(&mut [], [any, 0, wide]).unwrap(),
            );
            call.embed(x, out, mode).unwrap();
            let (d_out, dx) = (
                ViewMut::<f32, 3>::new(&mut [], [any, 0, wide]).unwrap(),
                ViewMut::new(&mut [], [any, 0, 8]).unwrap(),
            );
            call.embed_adjoint(d_out, dx, mode, &mut grads).unwrap();
            for heads in ANY_LENGTH {
                let shape = [any, heads, 0, 4];
                for site in [Site::Query, Site::Key] {
                    call.add_heads(site, ViewMut::<f32, 4>::new(&mut [], shape).unwrap()).unwrap();
                    call.add_heads_adjoint(site, View::<f32, 4>::new(&[], shape).unwrap(), &mut grads)
                        .unwrap();
                }
            }
        }
        assert!(grads.flat().iter().all(|x| *x == 0.0));
    }
}

#[test]
fn heads_of_another_width_are_refused_even_where_their_product_overflows() {
    let (plan, params) = planned::<f32>(InputTable::new(16).projected());
    let at = Positions::range(0..0);
    let call = plan.call(&params, &at, &at).unwrap();
    let shape = [1, usize::MAX, 0, usize::MAX];
    assert!(
        call.add_heads(Site::Query, ViewMut::<f32, 4>::new(&mut [], shape).unwrap())
            .is_err()
    );
    let mut grads = params.zeros_like();
    assert!(
        call.add_heads_adjoint(Site::Key, View::<f32, 4>::new(&[], shape).unwrap(), &mut grads)
            .is_err()
    );
}

#[test]
fn shapes_and_ids_that_do_not_fit_are_refused_and_nothing_is_written() {
    for encoding in encodings() {
        let (plan, params) = planned::<f32>(encoding);
        let (at, mut grads) = (Positions::whole_rows(&[0, 1, 2, 3, 4, 5], 2).unwrap(), params.zeros_like());
        let call = plan.call(&params, &at, &at).unwrap();
        for shape in [[2, 4, 8], [3, 3, 8], [1, 3, 8], [0, 3, 8], [2, 0, 8], [2, 3, 0], [2, 3, 7]] {
            let size = shape.iter().product();
            let adds = call.adds_at(Site::Embedding) || shape[..2] != [2, 3];
            if adds {
                refused("Call::add", size, |x| call.add(Site::Embedding, ViewMut::new(x, shape)?, MODES[1]));
                refused("Call::add_adjoint", size, |x| {
                    call.add_adjoint(Site::Embedding, ViewMut::new(x, shape)?, MODES[1], &mut grads)
                });
            }
            let x = vec![1.0f32; size];
            refused("Call::embed", size, |out| {
                call.embed(View::new(&x, shape)?, ViewMut::new(out, shape)?, MODES[1])
            });
            refused("Call::embed_adjoint", size, |dx| {
                call.embed_adjoint(ViewMut::new(&mut x.clone(), shape)?, ViewMut::new(dx, shape)?, MODES[1], &mut grads)
            });
        }
        assert!(grads.flat().iter().all(|x| *x == 0.0), "{plan}");
    }
}

#[test]
fn an_adjoint_without_a_place_for_its_gradient_changes_nothing() {
    let (plan, params) = planned::<f32>(Learned::new(16).with_dropout(0.5));
    let (other, _) = planned::<f32>(Learned::new(17));
    let at = Positions::range(0..3);
    let call = plan.call(&params, &at, &at).unwrap();
    let mut grads = other.init::<f32>(0).unwrap();
    let error = refused("another store", 24, |dx| {
        call.add_adjoint(Site::Embedding, ViewMut::new(dx, [1, 3, 8])?, MODES[1], &mut grads)
    });
    assert!(matches!(error, Error::ParameterShape { .. }), "{error}");
}

/// Every id of a batch at the ends of `i64`, behind ones that have a row.
#[test]
fn ids_without_a_row_are_refused_by_name_whatever_the_policy() {
    const ENDS: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 16, 17, i64::MAX - 1, i64::MAX];
    let table = [0.25f32; 16 * 8];
    for id in ENDS {
        let at = Positions::whole_rows(&[0, 1, 2, id], 2).unwrap();
        let error = refused("a lookup", 32, |out| {
            lookup(&at, View::new(&table, [16, 8])?, ViewMut::new(out, [2, 2, 8])?)
        });
        match id {
            ..0 => assert_eq!(
                error,
                Error::Negative {
                    position: id,
                    batch: 1,
                    token: 1
                }
            ),
            _ => assert_eq!(
                error,
                Error::PastTable {
                    position: id,
                    batch: 1,
                    token: 1,
                    rows: 16
                }
            ),
        }
        let d_out = [1.0f32; 32];
        refused("a lookup's adjoint", 16 * 8, |d_table| {
            lookup_adjoint(&at, View::new(&d_out, [2, 2, 8])?, ViewMut::new(d_table, [16, 8])?)
        });
        for (overflow, offset) in [
            (Overflow::Error, 0),
            (Overflow::Error, 2),
            (Overflow::Clamp, 2),
            (Overflow::Wrap, 2),
            (Overflow::Interpolate, 2),
            (Overflow::InterpolateTo(20), 0),
            (Overflow::InterpolateTo(usize::MAX), 0),
        ] {
            let (plan, params) = planned::<f32>(Learned::new(16).with_offset(offset).with_overflow(overflow));
            let mut x = [0.0f32; 32];
            // A policy answers what it answers with a row of the table, and nothing else.
            match plan.call(&params, &at, &at) {
                Ok(call) => {
                    assert!(id >= 0, "{overflow:?} answered {id}");
                    call.add(Site::Embedding, ViewMut::new(&mut x, [2, 2, 8]).unwrap(), Mode::Evaluate)
                        .unwrap();
                    assert!(x.iter().all(|x| x.is_finite()));
                }
                Err(error) => assert!(matches!(error, Error::Negative { .. } | Error::PastTable { .. }), "{error}"),
            }
        }
    }
    // Ranges that end at the end of i64.
    for range in [i64::MAX - 2..i64::MAX, i64::MIN..i64::MIN + 2, -2..0] {
        let at = Positions::range(range);
        let (plan, params) = planned::<f32>(Learned::new(16));
        assert!(plan.call(&params, &at, &at).is_err());
        let mut out = [0.0f32; 16];
        assert!(lookup(&at, View::new(&table, [16, 8]).unwrap(), ViewMut::new(&mut out, [1, 2, 8]).unwrap()).is_err());
    }
}

#[test]
fn nothing_is_looked_up_made_or_resized_whatever_the_other_axes() {
    let (none, three) = (Positions::range(0..0), Positions::range(0..3));
    let table = [0.5f32; 32];
    for any in ANY_LENGTH {
        let view = View::new(&table, [4, 8]).unwrap();
        lookup(&none, view, ViewMut::new(&mut [], [any, 0, 8]).unwrap()).unwrap();
        lookup(&three, view, ViewMut::new(&mut [], [0, 3, 8]).unwrap()).unwrap();
        let thin = View::new(&table[..0], [4, 0]).unwrap();
        lookup(&three, thin, ViewMut::new(&mut [], [any, 3, 0]).unwrap()).unwrap();
        let mut d_table = [0.0f32; 32];
        let d_out = View::<f32, 3>::new(&[], [any, 0, 8]).unwrap();
        lookup_adjoint(&none, d_out, ViewMut::new(&mut d_table, [4, 8]).unwrap()).unwrap();
        assert_eq!(d_table, [0.0; 32]);
        sinusoid(&Sinusoidal::paper(), &none, ViewMut::<f32, 3>::new(&mut [], [any, 0, 8]).unwrap()).unwrap();
        sinusoid(&Sinusoidal::paper(), &three, ViewMut::<f32, 3>::new(&mut [], [any, 3, 0]).unwrap()).unwrap();
        // No row of a batch, as wide as no memory.
        sinusoid(&Sinusoidal::paper(), &three, ViewMut::<f32, 3>::new(&mut [], [0, 3, any]).unwrap()).unwrap();
        assert!(
            sinusoid(
                &Sinusoidal::paper().with_base(-1.0),
                &three,
                ViewMut::<f32, 3>::new(&mut [], [any, 3, 0]).unwrap()
            )
            .is_err()
        );
        timestep(&[], false, 0.0, ViewMut::<f32, 2>::new(&mut [], [0, any]).unwrap()).ok();
        relative_sinusoids(
            posenc::SinusoidLayout::SinFirst,
            &[],
            None,
            ViewMut::<f32, 2>::new(&mut [], [0, any]).unwrap(),
        )
        .ok();
        assert!(pixel_positions(&[], [any, 0, any], Some(Normalize::DETR)).unwrap().is_empty());
        assert!(pixel_positions(&[], [0, any, any], None).unwrap().is_empty());
        if any > 1 << 31 {
            let (from, to) = (View::<f32, 2>::new(&[], [4, 0]).unwrap(), ViewMut::new(&mut [], [any, 0]).unwrap());
            assert!(resize_linear(from, Sampling::Centres, to).is_err(), "{any} rows");
        }
    }
    // As many rows of no width as an axis may have: nothing is mixed.
    let (from, to) = (
        View::<f32, 2>::new(&[], [4, 0]).unwrap(),
        ViewMut::new(&mut [], [1 << 31, 0]).unwrap(),
    );
    resize_linear(from, Sampling::Corners, to).unwrap();
    let side = 1 << 31;
    let to = ViewMut::new(&mut [], [side * side + 7, 0]).unwrap();
    let from = View::<f32, 2>::new(&[], [11, 0]).unwrap();
    resize_grid(from, 7, [2, 2], Bicubic::new(), [side, side], to).unwrap();
}

#[test]
fn grids_and_tables_that_do_not_fit_are_refused() {
    let table = [0.5f32; 40];
    for (prefix, old, new) in [
        (1, [3, 3], [2, 2]),
        (usize::MAX, [1, 1], [1, 1]),
        (0, [usize::MAX, 2], [2, 2]),
        (0, [2, 5], [usize::MAX, usize::MAX]),
        (0, [0, 5], [2, 2]),
        (0, [2, 5], [0, 4]),
    ] {
        refused("a grid", 16, |out| {
            resize_grid(
                View::new(&table, [10, 4])?,
                prefix,
                old,
                Bicubic::antialiased(),
                new,
                ViewMut::new(out, [4, 4])?,
            )
        });
    }
    refused("other widths", 12, |out| {
        resize_linear(View::new(&table, [10, 4])?, Sampling::Centres, ViewMut::new(out, [4, 3])?)
    });
    refused("a table of no rows", 12, |out| {
        resize_linear(View::new(&table[..0], [0, 4])?, Sampling::Centres, ViewMut::new(out, [3, 4])?)
    });
    for step in [f64::NAN, f64::INFINITY] {
        refused("a step", 8, |out| timestep(&[0.0, step], false, 0.0, ViewMut::new(out, [2, 4])?));
    }
    refused("a width", 8, |out| timestep(&[0.0], false, 4.0, ViewMut::new(out, [1, 8])?));
    refused("a shift", 8, |out| timestep(&[0.0], false, f64::NAN, ViewMut::new(out, [1, 8])?));
    for clamp_len in [Some(0), Some(usize::MAX)] {
        refused("a clamp", 8, |out| {
            relative_sinusoids(
                posenc::SinusoidLayout::SinFirst,
                &[1, i64::MIN],
                clamp_len,
                ViewMut::new(out, [2, 4])?,
            )
        });
    }
}

/// Rows of a batch whose tokens read the same row first, exactly in one and mixed with the next in the other, are no tokens with rows of their own: threads that took them for such would add to a row at once.
/// Large enough for threads to share. Bit for bit the sum in the order of batch rows and tokens.
#[test]
fn a_gradient_of_mixed_rows_is_the_sum_in_the_order_of_tokens() {
    const TOKENS: usize = 2048;
    // Stretched over twice its rows: even ids have a row, odd ones half of two.
    let stretched = Learned::new(TOKENS + 1).with_overflow(Overflow::InterpolateTo(2 * TOKENS + 1));
    let plan = Encoding::from(stretched).plan(posenc::Dims::new(64, 1).unwrap()).unwrap();
    let params = plan.init::<f32>(0).unwrap();
    let ids: Vec<i64> = (0..2 * TOKENS as i64)
        .map(|i| 2 * (i % TOKENS as i64) + i / TOKENS as i64)
        .collect();
    let at = Positions::whole_rows(&ids, 2).unwrap();
    let call = plan.call(&params, &at, &at).unwrap();
    let mut rng = posenc::Rng::new(8);
    let mut dx: Vec<f32> = (0..2 * TOKENS * 64).map(|_| (rng.normal() * rng.normal().exp()) as f32).collect();
    let mut expected = vec![0.0f32; (TOKENS + 1) * 64];
    for (dx, id) in dx.chunks_exact(64).zip(&ids) {
        let low = *id as usize / 2;
        let shares: &[(usize, f32)] = if id % 2 == 0 {
            &[(low, 1.0)]
        } else {
            &[(low, 0.5), (low + 1, 0.5)]
        };
        for (row, share) in shares {
            expected[row * 64..][..64]
                .iter_mut()
                .zip(dx)
                .for_each(|(sum, dx)| *sum += share * dx);
        }
    }
    for _ in 0..4 {
        let mut grads = params.zeros_like();
        let view = ViewMut::new(&mut dx, [2, TOKENS, 64]).unwrap();
        call.add_adjoint(Site::Embedding, view, Mode::Evaluate, &mut grads).unwrap();
        assert!(grads.flat() == expected);
    }
}

/// A gradient that is a few rows repeated more often than anything counts is refused, not summed for ever.
#[test]
fn gradients_past_counting_are_refused() {
    let (plan, params) = planned::<f32>(InputTable::new(16).projected());
    let (at, row) = (Positions::range(0..3), [1.0f32; 24]);
    let call = plan.call(&params, &at, &at).unwrap();
    let mut grads = params.zeros_like();
    let dx = View::strided(&row, [1 << 60, 2, 3, 4], [0, 4, 8, 1]).unwrap();
    assert!(matches!(
        call.add_heads_adjoint(Site::Query, dx, &mut grads),
        Err(Error::Invalid { .. })
    ));
    let mut d_table = [0.0f32; 128];
    let d_out = View::strided(&row, [1 << 60, 3, 8], [0, 8, 1]).unwrap();
    let refused = lookup_adjoint(&at, d_out, ViewMut::new(&mut d_table, [16, 8]).unwrap());
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    assert!(grads.flat().iter().chain(&d_table).all(|x| *x == 0.0));
}
