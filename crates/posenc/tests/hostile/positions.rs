//! Positions of any length, and every way to make and join them.

use crate::ANY_LENGTH;
use posenc::positions::{Cut, Documents, Mrope, Padding, Patches, Segment, Shards};
use posenc::{AtIds, Error, Positions};

#[test]
fn rows_of_no_tokens_are_one_row_however_many_there_are() {
    for any in ANY_LENGTH {
        for at in [
            Positions::whole_rows(&[], any),
            Positions::real_rows(&[], any),
            Positions::strict::<f32>(&[], any),
            Positions::truncated::<f64>(&[], any),
            Positions::from_padding(&[], any),
            Positions::from_attention_mask(&[], any),
            Positions::whole_axes(&[], 3, any),
            Positions::range(0..0).with_presence_rows(&[], any),
        ] {
            let at = at.unwrap();
            assert_eq!((at.len(), at.batch()), (0, 1), "{any} rows");
            // What walks over rows ends.
            let rotary = posenc::Rotary::new(posenc::Pairing::Halves);
            rotary.rotation::<f32>(4, &at).ok();
            at.clone().with_axis(&at).unwrap();
            at.clone().after_unplaced(2);
            at.select(&[]).unwrap();
            at.followed_by(&at, &[0; 3], &[0; 3]).unwrap();
        }
    }
}

#[test]
fn axes_past_any_grid_are_refused() {
    for axes in [1 << 17, usize::MAX] {
        for batch in ANY_LENGTH {
            assert!(matches!(Positions::whole_axes(&[], axes, batch), Err(Error::Invalid { .. })));
            assert!(matches!(Positions::real_axes(&[], axes, batch), Err(Error::Invalid { .. })));
        }
    }
    let mut at = Positions::whole_axes(&[], 3, 1).unwrap();
    let error = loop {
        match at.clone().with_axis(&at) {
            Ok(more) => at = more,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            Error::Invalid {
                what: "axes of the positions",
                ..
            }
        ),
        "{error}"
    );
    for (axes, batch) in [(0, 1), (1, 0), (2, 2), (3, 1), (1, usize::MAX), (7, usize::MAX)] {
        assert!(
            Positions::whole_axes(&[1, 2, 3, 4, 5], axes, batch).is_err(),
            "{axes} axes, {batch} rows"
        );
    }
}

#[test]
fn lengths_past_the_longest_row_are_refused_by_every_call() {
    let (plan, params) = crate::planned::<f32>(posenc::Rotary::new(posenc::Pairing::Halves));
    let one = Positions::range(0..1);
    for at in [
        Positions::range(i64::MIN..i64::MAX),
        Positions::range(0..(1 << 31) + 1),
        Positions::absent(usize::MAX),
        Positions::packed(&[usize::MAX, usize::MAX, 3]),
        Positions::packed(&[1 << 31, 1]),
        Positions::grid(usize::MAX, usize::MAX),
        Positions::grid(1 << 16, 1 << 16),
        Positions::range(0..3).after_unplaced(usize::MAX),
        Positions::absent(usize::MAX).after_unplaced(usize::MAX),
    ] {
        assert!(at.len() > Positions::LONGEST);
        for (q_at, k_at) in [(&at, &one), (&one, &at)] {
            let refused = plan.call(&params, q_at, k_at).map(|_| ()).unwrap_err();
            assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
        }
        assert!(one.followed_by(&at, &[1], &[1]).is_err());
        assert!(at.clone().with_axis(&at).is_err());
    }
    assert!(Documents::from_lengths(&[usize::MAX, usize::MAX]).is_err());
    assert!(Documents::from_cu_seqlens(&[0, i64::MAX]).is_err());
    assert!(Shards::new(1 << 31, usize::MAX, Cut::Zigzag).is_err());
}

#[test]
fn ranges_at_the_ends_of_i64_are_read_without_wrapping() {
    for (range, last) in [(i64::MAX - 3..i64::MAX, i64::MAX - 1), (i64::MIN..i64::MIN + 3, i64::MIN + 2)] {
        let at = Positions::range(range);
        assert_eq!(at.get(0, 0, 2), Some(last as f64));
        assert_eq!(at.at(0, 0, 2, 1).whole(0), Some(last));
        assert_eq!(at.select(&[1, 2]).unwrap().at(0, 0, 1, 1).whole(0), Some(last));
        assert!(matches!(at.clone().after_unplaced(1).at(0, 0, 3, 1).ids, AtIds::Whole([id]) if *id == last));
        // A range that would go on past i64 does not.
        assert!(at.followed_by(&Positions::range(0..2), &[3], &[2]).is_ok());
    }
    // An entry past the end of a range counts no further.
    let past = posenc::At {
        ids: AtIds::Range(i64::MAX),
        present: None,
    };
    assert_eq!((past.whole(3), past.get(3)), (Some(i64::MAX), Some(i64::MAX as f64)));
}

/// What stands in the documentation as a panic is one in every build, and says where.
#[test]
fn tokens_past_a_row_are_a_panic_that_is_documented() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panics = [
        std::panic::catch_unwind(|| Positions::range(0..3).get(0, 0, 3)).is_err(),
        std::panic::catch_unwind(|| Positions::range(0..3).at(0, 0, 2, 2).get(1)).is_err(),
        std::panic::catch_unwind(|| Positions::range(0..3).at(0, 0, usize::MAX, 2).get(1)).is_err(),
        std::panic::catch_unwind(|| Positions::range(0..3).at(1, 0, 0, 1).get(0)).is_err(),
        std::panic::catch_unwind(|| Positions::whole(&[1]).at(0, 0, usize::MAX, usize::MAX).get(0)).is_err(),
    ];
    std::panic::set_hook(quiet);
    assert_eq!(panics, [true; 5]);
}

#[test]
fn numbers_that_are_no_ids_are_refused_with_their_index() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(Positions::real(&[0.0, bad]), Err(Error::NonFinite { index: 1, .. })));
        assert!(matches!(Positions::strict(&[0.0, bad], 1), Err(Error::NonFinite { index: 1, .. })));
        assert!(matches!(
            Positions::truncated(&[0.0, bad], 1),
            Err(Error::NonFinite { index: 1, .. })
        ));
    }
    for far in [9.3e18f64, -9.3e18, 1e300] {
        assert!(matches!(Positions::strict(&[far], 1), Err(Error::Imprecise { .. })));
        assert!(matches!(Positions::truncated(&[far], 1), Err(Error::Imprecise { .. })));
    }
    assert!(matches!(Positions::strict(&[half::f16::MAX], 1), Err(Error::Imprecise { .. })));
    assert!(matches!(
        Positions::from_attention_mask(&[0, 1, i64::MIN], 1),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn pictures_and_videos_of_any_size_are_placed_or_refused() {
    const SIZES: [usize; 6] = [0, 1, 2, 1 << 12, 1 << 40, usize::MAX - 1];
    let mut placed = 0;
    for (i, frames) in SIZES.into_iter().enumerate() {
        for (height, width) in SIZES.into_iter().flat_map(|h| SIZES.map(|w| (h, w))) {
            let patches = Patches { frames, height, width };
            // Some thousand patches can be placed; what is past the longest row is refused; what lies between takes memory and time, and shows nothing more.
            let size = [frames, height, width]
                .iter()
                .try_fold(1usize, |product, n| product.checked_mul(*n));
            let small = size.is_none_or(|size| size == 0 || size <= 1 << 14 || size > 1 << 31);
            if !small {
                continue;
            }
            for merge in [0, 1, 2, usize::MAX] {
                let mrope = Mrope {
                    merge,
                    ..Mrope::qwen2_5_vl([f64::NAN, 2.0, 1e300, -1.0, 0.0, 1.0][i])
                };
                let video = Segment::Video {
                    patches,
                    seconds_per_grid: 1e30,
                };
                for segment in [Segment::Image(patches), video, Segment::Text(width)] {
                    if matches!(segment, Segment::Text(n) if n > 1 << 14 && n <= 1 << 31) {
                        continue;
                    }
                    let row = [Segment::Text(3), segment];
                    placed += usize::from(mrope.positions(&[&row, &[]], Padding::Left).is_ok());
                }
                Positions::patches(&[patches, patches], merge).ok();
                Documents::frames(&[patches]).ok();
            }
        }
    }
    assert!(placed > 100);
    let read = Mrope::qwen2_vl().positions(&[&[Segment::Text(2)]], Padding::Right).unwrap();
    for (tokens, n) in [(usize::MAX, 1), (1, usize::MAX), (i64::MAX as usize, 2), (i64::MAX as usize - 1, 1)] {
        assert!(
            read.following(&[tokens], n).is_err() || tokens + n < i64::MAX as usize + 1,
            "{tokens} read, {n} more"
        );
    }
}
