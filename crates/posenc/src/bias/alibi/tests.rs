use super::*;
use crate::encoding::Encoding;
use crate::reference;
use crate::tiles::{self, Tiles};

/// Positions as the reference takes them.
fn floats(at: &Positions, batch: usize) -> Vec<Option<f64>> {
    (0..at.len()).map(|t| at.at(0, batch, t, 1).get(0)).collect()
}

#[test]
fn term_is_that_of_the_reference_on_any_tiles() {
    let mut cases = tiles::cases();
    let fractions: Vec<f64> = (0..11).map(|t| f64::from(t) * 0.75 - 2.5).collect();
    cases.push(("fractions", Positions::real(&fractions).unwrap(), Positions::range(0..9), 1));
    for alibi in [
        Alibi::new(),
        Alibi::symmetric(),
        Alibi::new().with_slopes(Slopes::Given(vec![0.3, -0.1, 0.0])),
    ] {
        let plan = Encoding::from(alibi.clone()).plan(Dims::new(12, 3).unwrap()).unwrap();
        let (params, slopes) = (plan.init::<f64>(0).unwrap(), alibi.slopes.for_heads(3).unwrap());
        for (name, q_at, k_at, batch) in &cases {
            let call = plan.call(&params, q_at, k_at).unwrap();
            let mut bias = Vec::new();
            for b in 0..*batch {
                let symmetric = alibi.form == Form::Symmetric;
                bias.extend(reference::alibi::bias(&slopes, symmetric, &floats(q_at, b), &floats(k_at, b)));
            }
            let scores: Vec<f64> = tiles::normal(5, bias.len());
            for tile in tiles::SPLITS {
                let tiles = Tiles::of_bias(&call, *batch, tile);
                // The product and the sum are rounded as the reference rounds them.
                let sum: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + b).collect();
                assert_eq!(tiles.add(&scores), sum, "{alibi}, {name}, tiles {tile:?}");
                assert!(tiles.adjoint(&scores).1.is_empty());
            }
            let mut matrix = vec![f64::NAN; bias.len()];
            call.materialise_bias(ViewMut::new(&mut matrix, [*batch, 3, q_at.len(), k_at.len()]).unwrap())
                .unwrap();
            assert_eq!(matrix, bias, "{alibi}, {name}");
        }
    }
}

/// A range, the same ids as a list and the same as floats are the same bits, also in f32.
#[test]
fn ids_and_ranges_give_the_same_bits() {
    let ids: Vec<i64> = (100..140).collect();
    let floats: Vec<f64> = ids.iter().map(|id| *id as f64).collect();
    let alibi = Alibi::new().with_slopes(Slopes::Given(vec![0.3]));
    let bias = |at: &Positions| {
        let mut out = vec![f32::NAN; 40 * 40];
        alibi_bias(&alibi, at, at, ViewMut::new(&mut out, [1, 40, 40]).unwrap()).unwrap();
        out
    };
    let range = bias(&Positions::range(100..140));
    assert_eq!(range, bias(&Positions::whole(&ids)));
    assert_eq!(range, bias(&Positions::real(&floats).unwrap()));
    assert_eq!(range[39 * 40], -(0.3f32 * 39.0));
}

#[test]
fn slopes_of_both_rules_are_those_of_the_reference() {
    for heads in 1..=256 {
        let (bloom, mpt) = (alibi_slopes(heads).unwrap(), alibi_slopes_mpt(heads, 8.0).unwrap());
        assert_eq!(bloom, mpt, "{heads} heads");
        // The reference raises a rounded base to the power h, whose relative error is at most h + 1 half-ulps (powi: two roundings per factor).
        for (h, (given, expected)) in bloom.iter().zip(reference::alibi::slopes(heads)).enumerate() {
            assert!(
                (given / expected - 1.0).abs() <= (3 * h + 4) as f64 * f64::EPSILON,
                "{heads} heads, head {h}"
            );
        }
        for max in [4.0, 8.0, 11.5] {
            let (given, expected) = (alibi_slopes_mpt(heads, max).unwrap(), reference::alibi::slopes_mpt(heads, max));
            // Two functions of the mathematical library (1 ulp each), a division, and an exponent below 2⁴ rounded twice before it is raised.
            assert_eq!(given.len(), heads);
            for (given, expected) in given.iter().zip(expected) {
                assert!((given / expected - 1.0).abs() <= 24.0 * f64::EPSILON, "{heads} heads, max {max}");
            }
        }
    }
    assert_eq!(alibi_slopes(3).unwrap(), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
    // 12 heads: the last four are every second slope of 16 heads.
    assert_eq!(alibi_slopes(12).unwrap()[8..], [-0.5f64, -1.5, -2.5, -3.5].map(f64::exp2));
}

#[test]
fn slopes_that_do_not_fit_are_refused() {
    assert_eq!(alibi_slopes(0), Err(Error::Zero { what: "heads" }));
    assert!(alibi_slopes(usize::MAX).is_err());
    assert!(alibi_slopes_mpt(4, 0.0).is_err() && alibi_slopes_mpt(4, f64::NAN).is_err());
    let plan = |slopes: Vec<f64>| Encoding::from(Alibi::new().with_slopes(Slopes::Given(slopes))).plan(Dims::new(8, 2).unwrap());
    assert!(matches!(plan(vec![0.5]), Err(Error::Shape { .. })));
    assert!(matches!(plan(vec![0.5, f64::INFINITY]), Err(Error::Invalid { .. })));
}

/// Threads of rope_and_peers E20. Off by one (paiml/aprender#2143): a token and itself have bias 0, its neighbour −m. Sign: the past is penalised. Decoding
/// (ml-explore/mlx#343, keras-hub#2862): a decoded row is the last row of the whole matrix. Slopes for head counts that are no power of two: not 2^(−8h/H).
/// BLOOM's and MPT's tensors (mosaicml/llm-foundry#186) differ from ours by a constant per row and head. Left padding shifts nothing.
#[test]
fn bug_family_20_alibi_sign_offset_slopes_and_padding() {
    const HEADS: usize = 6;
    const T: usize = 9;
    let slopes = alibi_slopes(HEADS).unwrap();
    assert_ne!(slopes[0], (-8.0f64 / HEADS as f64).exp2());
    let (at, mut full) = (Positions::range(0..T as i64), vec![f64::NAN; HEADS * T * T]);
    let alibi = Alibi::new();
    alibi_bias(&alibi, &at, &at, ViewMut::new(&mut full, [HEADS, T, T]).unwrap()).unwrap();
    let entry = |h: usize, i: usize, j: usize| full[(h * T + i) * T + j];
    for h in 0..HEADS {
        assert_eq!(
            (entry(h, 4, 4), entry(h, 4, 3), entry(h, 4, 0)),
            (0.0, -slopes[h], -4.0 * slopes[h])
        );
    }

    let mut row = vec![f64::NAN; HEADS * T];
    let last = Positions::range(T as i64 - 1..T as i64);
    alibi_bias(&alibi, &last, &at, ViewMut::new(&mut row, [HEADS, 1, T]).unwrap()).unwrap();
    for h in 0..HEADS {
        assert_eq!(row[h * T..(h + 1) * T], full[(h * T + T - 1) * T..][..T]);
    }

    let (mut bloom, mut mpt) = (vec![f64::NAN; HEADS * T], vec![f64::NAN; HEADS * T]);
    alibi_bloom(ViewMut::new(&mut bloom, [HEADS, 1, T]).unwrap()).unwrap();
    alibi_mpt(8.0, ViewMut::new(&mut mpt, [HEADS, 1, T]).unwrap()).unwrap();
    for h in 0..HEADS {
        for i in 0..T {
            for j in 0..T {
                // Each product is rounded: the largest is 8 · 0.5.
                let close = |x: f64| (x - entry(h, i, j)).abs() <= 4.0 * f64::EPSILON;
                assert!(close(bloom[h * T + j] - slopes[h] * i as f64));
                assert!(close(mpt[h * T + j] + slopes[h] * (T - 1 - i) as f64));
            }
        }
    }

    let mask: Vec<bool> = (0..T + 3).map(|t| t >= 3).collect();
    let (padded_at, n) = (Positions::from_padding(&mask, 1).unwrap(), T + 3);
    let mut padded = vec![f64::NAN; HEADS * n * n];
    alibi_bias(&alibi, &padded_at, &padded_at, ViewMut::new(&mut padded, [HEADS, n, n]).unwrap()).unwrap();
    let mut padded_bloom = vec![f64::NAN; HEADS * n];
    alibi_bloom_padded(
        View::new(&mask, [1, n]).unwrap(),
        ViewMut::new(&mut padded_bloom, [HEADS, 1, n]).unwrap(),
    )
    .unwrap();
    for h in 0..HEADS {
        assert_eq!(padded_bloom[h * n..h * n + 3], [0.0; 3]);
        assert_eq!(padded_bloom[h * n + 3..(h + 1) * n], bloom[h * T..(h + 1) * T]);
        for i in 0..T {
            assert_eq!(padded[(h * n + i + 3) * n + 3..][..T], full[(h * T + i) * T..][..T]);
            assert_eq!(padded[(h * n + i + 3) * n..][..3], [0.0; 3]);
        }
    }
}

#[test]
fn literal_tensors_refuse_other_shapes() {
    let mut out = [0.0f32; 8];
    assert!(matches!(
        alibi_bloom(ViewMut::new(&mut out, [2, 2, 2]).unwrap()),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        alibi_bloom(ViewMut::new(&mut out[..0], [0, 1, 4]).unwrap()),
        Err(Error::Zero { .. })
    ));
    let mask = [true; 6];
    let mask = View::new(&mask, [2, 3]).unwrap();
    assert!(matches!(
        alibi_bloom_padded(mask, ViewMut::new(&mut out, [2, 1, 4]).unwrap()),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        alibi_bloom_padded(mask, ViewMut::new(&mut out[..3], [1, 1, 3]).unwrap()),
        Err(Error::NotDivisible { .. })
    ));
}

#[test]
fn plain_data_is_short() {
    let text = r#"{"method":"alibi","slopes":{"mpt":{"bias_max":8.0}}}"#;
    let method: crate::Method = serde_json::from_str(text).unwrap();
    assert_eq!(method, Alibi::new().with_slopes(Slopes::Mpt { bias_max: 8.0 }).into());
    assert_eq!(method.to_string(), "alibi(causal, slopes by MPT's rule, bias max 8)");
}
