use super::*;

#[test]
fn floats_that_are_not_ids_are_refused_with_their_index() {
    assert!(matches!(
        Positions::strict(&[0.0, f32::NAN], 1),
        Err(Error::NonFinite { index: 1, .. })
    ));
    assert!(matches!(
        Positions::strict(&[2.999_999_8f32], 1),
        Err(Error::Fractional { index: 0, .. })
    ));
    assert!(matches!(Positions::strict(&[16_777_218.0f32], 1), Err(Error::Imprecise { .. })));
    assert!(Positions::strict(&[16_777_216.0f32, -0.0], 1).is_ok());
    assert!(Positions::strict(&[16_777_218.0f64], 1).is_ok());
    assert!(matches!(
        Positions::strict(&[half::bf16::from_f32(258.0)], 1),
        Err(Error::Imprecise { .. })
    ));
}

#[test]
fn truncation_is_toward_zero() {
    assert_eq!(
        Positions::truncated(&[2.999_999_8f32, -0.5, 0.999, -1.5], 1).unwrap(),
        Positions::whole(&[2, 0, 0, -1])
    );
    assert!(Positions::truncated(&[1e20f32], 1).is_err());
    assert!(Positions::truncated(&[f64::INFINITY], 1).is_err());
}

#[test]
fn padding_counts_tokens_only() {
    let at = Positions::from_padding(&[false, false, true, true, true, true, true, false], 2).unwrap();
    assert_eq!(
        (0..4).map(|t| at.get(0, 0, t)).collect::<Vec<_>>(),
        [None, None, Some(0.0), Some(1.0)]
    );
    assert_eq!(
        (0..4).map(|t| at.get(0, 1, t)).collect::<Vec<_>>(),
        [Some(0.0), Some(1.0), Some(2.0), None]
    );
}

#[test]
fn presence_may_have_another_rank_than_ids() {
    let shared = Positions::range(0..3)
        .with_presence_rows(&[true, true, false, true, true, true], 2)
        .unwrap();
    assert_eq!((shared.batch(), shared.get(0, 0, 2), shared.get(0, 1, 2)), (2, None, Some(2.0)));
    assert!(Positions::range(0..3).with_presence(&[true]).is_err());
}

#[test]
fn a_grid_has_two_axes_in_row_major_order() {
    let at = Positions::grid(2, 3);
    assert_eq!((at.len(), at.axes()), (6, 2));
    assert_eq!((at.get(0, 0, 4), at.get(1, 0, 4)), (Some(1.0), Some(1.0)));
    assert_eq!(Positions::grid(0, 0).len(), 0);
}

#[test]
fn more_tokens_than_any_call_takes_are_refused_and_not_stored() {
    for at in [
        Positions::range(0..i64::MAX),
        Positions::range(i64::MIN..i64::MAX),
        Positions::absent(usize::MAX),
        Positions::absent(Positions::LONGEST + 1),
        Positions::packed(&[3, usize::MAX]),
        Positions::grid(usize::MAX, 2),
        Positions::grid(1 << 20, 1 << 20),
        Positions::range(0..3).after_unplaced(usize::MAX),
        Positions::absent(usize::MAX).after_unplaced(1),
    ] {
        assert!(at.len() > Positions::LONGEST && at.start() == Some(at.at(0, 0, 0, 1).whole(0).unwrap()));
        assert!(matches!(at.check_len(), Err(Error::Invalid { .. })));
        assert!(matches!(at.check_fit("ids", 1, at.len()), Err(Error::Invalid { .. })));
    }
    assert!(Positions::absent(Positions::LONGEST).check_len().is_ok());
}

#[test]
fn a_class_token_has_no_position_and_moves_no_other() {
    let plain = Positions::real_axes(&[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5], 2, 2).unwrap();
    let masked = plain.with_presence_rows(&[true, false, true, true], 2).unwrap();
    let at = masked.clone().after_unplaced(2);
    assert_eq!((at.len(), at.batch(), at.axes()), (4, 2, 2));
    for (axis, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert_eq!((at.get(axis, b, 0), at.get(axis, b, 1)), (None, None));
        for t in 0..2 {
            assert_eq!(at.get(axis, b, t + 2), masked.get(axis, b, t));
        }
    }
    let range = Positions::range(5..7).after_unplaced(1);
    assert_eq!((range.get(0, 0, 0), range.get(0, 0, 2)), (None, Some(6.0)));
}

#[test]
fn what_a_token_without_position_carries_is_not_read() {
    let at = Positions::real(&[0.0, 0.5, 2.0]).unwrap();
    assert!(matches!(at.check_whole(), Err(Error::Fractional { index: 1, .. })));
    assert!(at.with_presence(&[true, false, true]).unwrap().check_whole().is_ok());
    let huge = Positions::real(&[1e300]).unwrap();
    assert!(matches!(huge.check_whole(), Err(Error::Imprecise { index: 0, .. })));
}

#[test]
fn no_rows_are_positions_too() {
    let none = Positions::strict::<f32>(&[], 0).unwrap();
    assert!(none.is_empty() && none.check_fit("ids", 0, 7).is_ok() && none.check_fit("ids", 1, 7).is_err());
    assert!(Positions::strict(&[1.0f32], 0).is_err());
}

#[test]
fn a_further_axis_keeps_ids_presence_and_batch() {
    let rows = Positions::whole_rows(&[5, 6, 7, 8], 2).unwrap();
    let at = Positions::range(3..5).with_axis(&rows).unwrap();
    assert_eq!((at.batch(), at.axes()), (2, 2));
    assert_eq!(
        (at.get(0, 1, 1), at.get(1, 1, 1), at.get(1, 0, 0)),
        (Some(4.0), Some(8.0), Some(5.0))
    );
    let masked = rows.with_presence(&[true, false]).unwrap();
    let real = Positions::real(&[0.5, 1.5])
        .unwrap()
        .with_presence_rows(&[true, true, false, true], 2)
        .unwrap();
    let both = masked.with_axis(&real).unwrap();
    assert_eq!((both.get(0, 0, 0), both.get(1, 0, 0)), (Some(5.0), Some(0.5)));
    assert_eq!((both.get(0, 1, 0), both.get(1, 0, 1)), (None, None));
    let three = Positions::range(0..3);
    assert!(matches!(both.clone().with_axis(&three), Err(Error::Shape { .. })));
    let batch = Positions::whole_rows(&[0; 6], 3).unwrap();
    assert!(matches!(both.with_axis(&batch), Err(Error::Shape { .. })));
}

#[test]
fn packed_documents_begin_again() {
    assert_eq!(Positions::packed(&[2, 3]), Positions::whole(&[0, 1, 0, 1, 2]));
}

#[test]
fn a_grown_cache_keeps_ids_presence_axes_and_ranges() {
    let old = Positions::range(3..6);
    assert_eq!(
        old.followed_by(&Positions::range(6..8), &[3], &[2]).unwrap(),
        Positions::range(3..8)
    );
    assert_eq!(
        old.followed_by(&Positions::range(9..10), &[3], &[1]).unwrap(),
        Positions::whole(&[3, 4, 5, 9])
    );
    // One of the two alone; and no rows.
    assert_eq!(old.followed_by(&old, &[2, 2], &[0, 0]).unwrap(), Positions::range(3..5));
    assert_eq!(
        old.followed_by(&Positions::range(9..11), &[0], &[1]).unwrap(),
        Positions::range(9..10)
    );
    assert!(old.followed_by(&old, &[], &[]).unwrap().is_empty());
    let real = old.followed_by(&Positions::real(&[6.5]).unwrap(), &[3], &[1]).unwrap();
    assert_eq!((real.get(0, 0, 2), real.get(0, 0, 3)), (Some(5.0), Some(6.5)));

    let masked = Positions::whole_rows(&[5, 6, 7, 8], 2)
        .unwrap()
        .with_presence_rows(&[true, false, true, true], 2)
        .unwrap();
    let grown = old.followed_by(&masked, &[1, 3], &[2, 1]).unwrap();
    let row = |b| (0..4).map(|t| grown.get(0, b, t)).collect::<Vec<_>>();
    assert_eq!((grown.batch(), grown.len()), (2, 4));
    assert_eq!(row(0), [Some(3.0), Some(5.0), None, None]);
    assert_eq!(row(1), [Some(3.0), Some(4.0), Some(5.0), Some(7.0)]);

    let grid = Positions::grid(2, 2);
    let twice = grid.followed_by(&grid, &[4], &[1]).unwrap();
    assert_eq!(
        (twice.axes(), twice.get(0, 0, 3), twice.get(1, 0, 3), twice.get(1, 0, 4)),
        (2, Some(1.0), Some(1.0), Some(0.0))
    );

    assert!(matches!(old.followed_by(&grid, &[3], &[1]), Err(Error::Shape { .. })));
    assert!(matches!(old.followed_by(&old, &[4], &[1]), Err(Error::Invalid { .. })));
    assert!(matches!(masked.followed_by(&old, &[1], &[1]), Err(Error::Shape { .. })));
    assert!(matches!(old.followed_by(&old, &[1], &[]), Err(Error::Shape { .. })));
}

/// Fairseq-style and left-padded batches of many libraries have given padding, or shifted tokens, the positions of other tokens.
#[test]
fn bug_family_13_padding_of_either_side_moves_no_token() {
    let left = Positions::from_attention_mask(&[0, 0, 1, 1, 1, 1, 1, 1], 2).unwrap();
    let right = Positions::from_attention_mask(&[1, 1, 0, 0, 1, 1, 1, 1], 2).unwrap();
    for t in 0..2 {
        assert_eq!(left.get(0, 0, t + 2), Some(t as f64));
        assert_eq!((left.get(0, 0, t), right.get(0, 0, t + 2)), (None, None));
        assert_eq!(right.get(0, 0, t), left.get(0, 0, t + 2));
    }
    // A hole in the middle is padding too.
    let hole = Positions::from_padding(&[true, false, true], 1).unwrap();
    assert_eq!(
        (hole.get(0, 0, 0), hole.get(0, 0, 1), hole.get(0, 0, 2)),
        (Some(0.0), None, Some(1.0))
    );
    // One step further, with the mask that has grown: the new token only.
    let step = Positions::from_attention_mask(&[0, 0, 1, 1, 1, 1, 1, 1, 1, 1], 2)
        .unwrap()
        .select(&[4])
        .unwrap();
    assert_eq!((step.len(), step.get(0, 0, 0), step.get(0, 1, 0)), (1, Some(2.0), Some(4.0)));
    for refused in [[0, 2], [1, -1]] {
        assert!(matches!(Positions::from_attention_mask(&refused, 1), Err(Error::Invalid { .. })));
    }
    assert!(Positions::from_attention_mask(&[1; 3], 2).is_err());
}

#[test]
fn selected_tokens_keep_ids_presence_and_axes() {
    let range = Positions::range(5..9);
    assert_eq!(range.select(&[1, 2]).unwrap(), Positions::range(6..8));
    assert_eq!(range.select(&[]).unwrap().len(), 0);
    assert_eq!(
        Positions::real(&[0.5, 1.5]).unwrap().select(&[1, 1]).unwrap(),
        Positions::real(&[1.5, 1.5]).unwrap()
    );
    let grid = Positions::grid(2, 3).with_presence_rows(&[true, true, true, true, false, true, false, true, true, true, true, true], 2);
    let some = grid.unwrap().select(&[4, 0]).unwrap();
    assert_eq!((some.axes(), some.batch(), some.len()), (2, 2, 2));
    assert_eq!(
        (some.get(0, 0, 0), some.get(0, 1, 0), some.get(1, 1, 0)),
        (None, Some(1.0), Some(1.0))
    );
    assert_eq!((some.get(0, 0, 1), some.get(0, 1, 1)), (Some(0.0), None));
    assert!(matches!(range.select(&[4]), Err(Error::Invalid { .. })));
}

#[test]
fn positions_that_a_type_does_not_count_are_found() {
    let limit = f32::EXACT_INTEGERS;
    let far = 1 << 24;
    assert!(Positions::range(-far..far + 1).check_counted(limit).is_ok());
    assert!(Positions::range(far..far).check_counted(limit).is_ok());
    for (at, found) in [
        (Positions::range(far - 1..far + 3), (16_777_217.0, 2)),
        (Positions::range(-far - 1..0), (-16_777_217.0, 0)),
        (Positions::whole_rows(&[0, 1, 2, far + 1], 2).unwrap(), (16_777_217.0, 3)),
        (Positions::whole_axes(&[0, 1, 2, far + 1], 2, 1).unwrap(), (16_777_217.0, 3)),
        (Positions::real(&[0.5, 1e30]).unwrap(), (1e30, 1)),
    ] {
        let error = at.check_counted(limit).unwrap_err();
        let (value, index) = found;
        assert_eq!(error, Error::Imprecise { value, index, limit });
    }
    let unplaced = Positions::real(&[0.5, 1e30]).unwrap().with_presence(&[true, false]).unwrap();
    assert!(unplaced.check_counted(limit).is_ok());
    assert!(Positions::whole_axes(&[0; 3], 0, 1).is_err() && Positions::whole_axes(&[0; 3], 2, 1).is_err());
}
