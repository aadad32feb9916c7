//! Biases of shapes that do not fit, of nothing, and of positions as far apart as i64 allows.

use crate::{ANY_LENGTH, planned, refused};
use posenc::{
    Alibi, ClippedBias, Deberta, DebertaProjections, Direction, Encoding, Error, Fire, Kerple, MusicTransformer, Overflow, Positions,
    Sandwich, SharedBias, Shaw, T5Bias, TransformerXl, View, ViewMut, XlNet, alibi_bias, alibi_bloom, alibi_bloom_padded, alibi_mpt,
    alibi_slopes, alibi_slopes_mpt, clipped_bias, deberta_bucket, t5_bias, t5_bucket,
};

fn biases() -> [Encoding; 10] {
    [
        Alibi::new().into(),
        Alibi::symmetric().into(),
        ClippedBias::new(4, Direction::KeyMinusQuery).into(),
        SharedBias::new(4).into(),
        T5Bias::encoder().into(),
        T5Bias::decoder().into(),
        Kerple::log().into(),
        Kerple::power().into(),
        Sandwich::new().into(),
        Fire::new().into(),
    ]
}

#[test]
fn nothing_is_written_out_whatever_the_other_axes() {
    let (none, three) = (Positions::range(0..0), Positions::range(0..3));
    for encoding in biases() {
        let (plan, params) = planned::<f32>(encoding);
        for any in ANY_LENGTH {
            for (q_at, k_at) in [(&none, &three), (&three, &none), (&none, &none)] {
                let call = plan.call(&params, q_at, k_at).unwrap();
                let shape = [any, 2, q_at.len(), k_at.len()];
                call.materialise_bias(ViewMut::<f32, 4>::new(&mut [], shape).unwrap()).unwrap();
            }
        }
    }
    let mut no = [0.0f32; 0];
    for any in ANY_LENGTH.into_iter().filter(|any| *any > 0) {
        alibi_bloom(ViewMut::new(&mut no, [2, 1, 0]).unwrap()).unwrap();
        alibi_mpt(8.0, ViewMut::new(&mut no, [2, 1, 0]).unwrap()).unwrap();
        assert!(alibi_bloom(ViewMut::new(&mut no, [any, 2, 0]).unwrap()).is_err());
        assert!(alibi_bloom(ViewMut::new(&mut no, [0, 1, any]).unwrap()).is_err());
        let is_token = View::new(&[], [any, 0]).unwrap();
        alibi_bloom_padded(is_token, ViewMut::new(&mut no, [any, 1, 0]).unwrap()).unwrap();
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_and_nothing_is_written() {
    let at = Positions::whole_rows(&[0, 1, 2, 3, 4, 5], 2).unwrap();
    let row = Positions::range(0..3);
    for encoding in biases() {
        let (plan, params) = planned::<f32>(encoding);
        let call = plan.call(&params, &at, &at).unwrap();
        for shape in [[2, 3, 3, 3], [3, 2, 3, 3], [2, 2, 3, 4], [2, 2, 0, 3], [0, 2, 3, 3]] {
            let error = refused("materialise_bias", shape.iter().product(), |out| {
                call.materialise_bias(ViewMut::new(out, shape)?)
            });
            assert!(matches!(error, Error::Shape { .. }), "{error}");
        }
    }
    let table = [0.5f32; 18];
    for shape in [[2, 3, 4], [3, 3, 3], [2, 0, 3], [0, 3, 3]] {
        let size = shape.iter().product();
        if shape[0] > 0 {
            refused("alibi_bias", size, |out| {
                let slopes = Alibi::new().with_slopes(posenc::Slopes::Given(vec![0.5; 2]));
                alibi_bias(&slopes, &row, &row, ViewMut::new(out, shape)?)
            });
        }
        refused("clipped_bias", size, |out| {
            clipped_bias(
                View::new(&table, [9, 2])?,
                Direction::KeyMinusQuery,
                &row,
                &row,
                ViewMut::new(out, shape)?,
            )
        });
        refused("t5_bias", size, |out| {
            t5_bias(
                &T5Bias::decoder().with_buckets(9, 20),
                View::new(&table, [9, 2])?,
                &row,
                &row,
                ViewMut::new(out, shape)?,
            )
        });
    }
    // Batch rows that differ have no one matrix.
    refused("rows that differ", 18, |out| {
        alibi_bias(&Alibi::new(), &at, &at, ViewMut::new(out, [2, 3, 3])?)
    });
    refused("a table of an even number of rows", 9, |out| {
        clipped_bias(
            View::new(&table, [18, 1])?,
            Direction::KeyMinusQuery,
            &row,
            &row,
            ViewMut::new(out, [1, 3, 3])?,
        )
    });
    // Repeated more often than memory holds it: a table is read once.
    refused("a table of 2^31 − 1 rows", 9, |out| {
        let table = View::strided(&table, [(1 << 31) - 1, 1], [0, 1])?;
        t5_bias(&T5Bias::decoder(), table, &row, &row, ViewMut::new(out, [1, 3, 3])?)
    });
    for heads in [0, (1 << 20) + 1, usize::MAX] {
        assert!(alibi_slopes(heads).is_err() && alibi_slopes_mpt(heads, 8.0).is_err());
    }
    for bias_max in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(alibi_slopes_mpt(4, bias_max).is_err());
    }
}

/// Distances past i64: each is clipped or saturated, in one direction only, and no bias is NaN.
#[test]
fn positions_at_the_ends_of_i64_have_finite_biases() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let real = [-f64::MAX, -1e300, -0.5, 0.0, 0.5, 1e300, f64::MAX];
    let whole = Positions::whole(&ends);
    let far = [
        Positions::range(i64::MAX - 7..i64::MAX),
        Positions::range(i64::MIN..i64::MIN + 7),
        whole,
        Positions::range(0..7),
        Positions::whole(&ends)
            .with_presence(&[true, false, true, true, true, true, false])
            .unwrap(),
    ];
    for encoding in biases() {
        let (plan, params) = planned::<f32>(encoding);
        for q_at in &far {
            for k_at in &far {
                let call = plan.call(&params, q_at, k_at).unwrap();
                let mut bias = vec![f32::NAN; 2 * 49];
                call.materialise_bias(ViewMut::new(&mut bias, [1, 2, 7, 7]).unwrap()).unwrap();
                assert!(bias.iter().all(|x| x.is_finite()), "{plan}");
            }
        }
    }
    for symmetric in [Alibi::new(), Alibi::symmetric()] {
        let (plan, params) = planned::<f32>(symmetric);
        let at = Positions::real(&real).unwrap();
        let call = plan.call(&params, &at, &at).unwrap();
        let mut bias = vec![f32::NAN; 2 * 49];
        call.materialise_bias(ViewMut::new(&mut bias, [1, 2, 7, 7]).unwrap()).unwrap();
        assert!(bias.iter().all(|x| x.is_finite()), "{plan}");
    }
    for distance in ends {
        for (buckets, max_distance) in [(32, 128), (2, 4), (1 << 30, 1 << 30), (4, 1 << 30)] {
            for bidirectional in [false, true] {
                if let Ok(bucket) = t5_bucket(distance, bidirectional, buckets, max_distance) {
                    assert!(bucket < buckets);
                }
            }
        }
        for (buckets, max_distance) in [(256, 512), (4, 1 << 30), (1 << 20, 1 << 30)] {
            deberta_bucket(distance, buckets, max_distance).unwrap();
        }
    }
    for (buckets, max_distance) in [(0, 0), (usize::MAX, usize::MAX), (4, usize::MAX), (usize::MAX, 4), (1, 1)] {
        assert!(t5_bucket(1, true, buckets, max_distance).is_err() && deberta_bucket(1, buckets, max_distance).is_err());
    }
}

/// Methods that have a row for each distance refuse distances that outnumber the tokens; those that clip answer.
#[test]
fn relative_tables_of_positions_at_the_ends_of_i64_answer_or_refuse() {
    let far = Positions::whole(&[i64::MIN, 0, i64::MAX]);
    for encoding in [
        Encoding::from(Shaw::new(3)),
        MusicTransformer::new(4).into(),
        MusicTransformer::new(4).with_overflow(Overflow::Clamp).into(),
        TransformerXl::paper().into(),
        TransformerXl::paper().with_clamp_len(5).into(),
        XlNet::new().into(),
        Deberta::new(3, DebertaProjections::V2).into(),
        Deberta::new(1 << 20, DebertaProjections::V2).with_buckets(256).into(),
    ] {
        let (plan, params) = planned::<f32>(encoding);
        for (q_at, k_at) in [
            (far.clone(), far.clone()),
            (Positions::range(i64::MAX - 3..i64::MAX), Positions::range(i64::MIN..i64::MIN + 3)),
            (Positions::range(i64::MIN..i64::MIN + 3), Positions::range(i64::MAX - 3..i64::MAX)),
            (Positions::range(0..0), Positions::range(i64::MAX - 3..i64::MAX)),
        ] {
            if let Err(error) = plan.call(&params, &q_at, &k_at) {
                assert!(
                    matches!(error, Error::Unsupported { .. } | Error::FarDistance { .. } | Error::Invalid { .. }),
                    "{plan}: {error}"
                );
            }
        }
    }
}
