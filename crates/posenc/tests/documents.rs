//! What the documents that the project began with say, held to: the shapes they print, the numbers where they are right, and a counter-example where they are not.

#[path = "../examples/document_001.rs"]
mod document_001;
#[path = "../examples/document_003.rs"]
mod document_003;

use document_003::rotary_embedding_as_printed;
use posenc::attention::{Inputs, Outputs, Workspace};
use posenc::reference::rotary::by_pairs;
use posenc::{
    Alibi, Attention, ClippedBias, Dims, Direction, Encoding, Error, InputTable, Learned, Mask, Mode, Pairing, Positions, Rng, Rotary,
    SharedBias, Shaw, Sinusoidal, Site, T5Bias, View, ViewMut,
};

fn randn(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal()).collect()
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn document_001_is_a_gather_of_rows() {
    let table: Vec<f32> = (0..8).map(|x| x as f32).collect();
    let run = |ids: &[f32], shape| document_001::learned_position_embedding(ids, shape, &table, [4, 2]);
    assert_eq!(
        run(&[3.0, 0.0, 3.0, 1.0], [2, 2]).unwrap(),
        [6.0, 7.0, 0.0, 1.0, 6.0, 7.0, 2.0, 3.0]
    );
    assert!(matches!(run(&[4.0], [1, 1]), Err(Error::PastTable { position: 4, rows: 4, .. })));
    assert!(matches!(run(&[-1.0], [1, 1]), Err(Error::Negative { position: -1, .. })));
    assert!(matches!(run(&[1.5], [1, 1]), Err(Error::Fractional { .. })));
    assert!(matches!(run(&[f32::NAN], [1, 1]), Err(Error::NonFinite { .. })));
    document_001::main().unwrap();
}

#[test]
fn document_003_prints_its_four_shapes() {
    assert_eq!(
        document_003::printed().unwrap(),
        ["[2, 5, 16]", "[10, 16]", "[4, 6, 6]", "[2, 5, 8]"]
    );
    document_003::main().unwrap();
}

/// The document's formula keeps norms and makes scores relative; the code that it prints does neither, except where it cannot fail.
#[test]
fn document_003_rotary_code_is_not_its_formula() {
    let base = 10_000.0;
    let formula = |x: &[f64], pos: f64| by_pairs(x, pos, x.len(), Pairing::Interleaved, base);
    let score = |turn: &dyn Fn(&[f64], f64) -> Vec<f64>, q: &[f64], k: &[f64], m: f64, n: f64| -> f64 {
        turn(q, m).iter().zip(turn(k, n)).map(|(a, b)| a * b).sum()
    };
    let printed = |x: &[f64], pos: f64| rotary_embedding_as_printed(x, pos, base);

    // Position 0, and a single pair, are right.
    let two = randn(1, 2);
    assert_eq!(printed(&two, 3.0), formula(&two, 3.0));
    for d in [4, 8, 64] {
        let (q, k) = (randn(4, d), randn(5, d));
        assert_eq!(printed(&q, 0.0), q);
        // Rounding: d products of numbers near 1, angles of up to 512 radians.
        let tolerance = 1e-12 * norm(&q) * norm(&k);
        for m in [0.0, 1.0, 17.0, 512.0] {
            assert!((norm(&formula(&q, m)) - norm(&q)).abs() < tolerance);
            assert!((score(&formula, &q, &k, m + 3.0, m) - score(&formula, &q, &k, 3.0, 0.0)).abs() < tolerance);
        }
        let halves = |x: &[f64], pos: f64| by_pairs(x, pos, d, Pairing::Halves, base);
        // The largest difference of two maps over the document's five positions.
        let apart = |a: &dyn Fn(&[f64], f64) -> Vec<f64>, b: &dyn Fn(&[f64], f64) -> Vec<f64>| {
            let at = |pos: f64| a(&q, pos).iter().zip(b(&q, pos)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            (0..5).map(|pos| at(pos as f64)).fold(0.0, f64::max)
        };
        let (from_formula, from_halves) = (apart(&printed, &formula), apart(&printed, &halves));
        assert!(
            from_formula > 0.1 && from_halves > 0.1,
            "it is neither pairing: {from_formula}, {from_halves} at d = {d}"
        );
        let stretch = |pos: i32| (norm(&printed(&q, pos as f64)) / norm(&q) - 1.0).abs();
        assert!((0..5).map(stretch).fold(0.0, f64::max) > 0.02, "norms change");
        let scores: Vec<f64> = (0..32).map(|m| score(&printed, &q, &k, m as f64 + 3.0, m as f64)).collect();
        let spread = scores.iter().fold(f64::MIN, |a, b| a.max(*b)) - scores.iter().fold(f64::MAX, |a, b| a.min(*b));
        assert!(spread > 0.1, "one distance, different scores: spread {spread} at d = {d}");
    }
}

/// Self-attention of rows `x` `[seq, 8]`, two heads, with queries, keys and values equal to the (embedded) rows. No mask.
fn attend(encoding: &Encoding, x: &[f64]) -> Vec<f64> {
    let len = x.len() / 8;
    let plan = encoding.plan(Dims::new(8, 2).unwrap()).unwrap();
    let mut params = plan.init::<f64>(1).unwrap();
    // Tables that begin with zeros say nothing yet.
    let drawn = randn(9, params.size());
    params.flat_mut().copy_from_slice(&drawn);
    let at = Positions::range(0..len as i64);
    let call = plan.call(&params, &at, &at).unwrap();
    let mut embedded = x.to_vec();
    call.add(Site::Embedding, ViewMut::new(&mut embedded, [1, len, 8]).unwrap(), Mode::Evaluate)
        .unwrap();
    let added = |site: Site| {
        let mut x = embedded.clone();
        call.add(site, ViewMut::new(&mut x, [1, len, 8]).unwrap(), Mode::Evaluate).unwrap();
        x
    };
    let (q, k, mut out) = (added(Site::QueryInput), added(Site::KeyInput), vec![f64::NAN; x.len()]);
    let heads = |x| View::new(x, [1, len, 2, 4]).unwrap().swap(1, 2).unwrap();
    let inputs = Inputs::new(heads(&q), heads(&k), heads(&embedded));
    let outputs = Outputs {
        out: ViewMut::new(&mut out, [1, len, 2, 4]).unwrap().swap(1, 2).unwrap(),
        saved: None,
        weights: None,
    };
    Attention::default()
        .forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
        .unwrap();
    out
}

/// Document 004: "The cat ate the fish" and "The fish ate the cat" are one set of tokens. Without positions each token's output is the same in both sentences (attention is
/// permutation-*equivariant*; only what is pooled over tokens is invariant). Every encoding tells them apart.
#[test]
fn document_004_word_order_is_invisible_without_an_encoding() {
    let words: Vec<Vec<f64>> = (0..4).map(|word| randn(100 + word, 8)).collect(); // the, cat, ate, fish
    let sentence = |order: [usize; 5]| order.iter().flat_map(|&word| words[word].clone()).collect::<Vec<f64>>();
    let (cat_first, fish_first) = (sentence([0, 1, 2, 0, 3]), sentence([0, 3, 2, 0, 1]));
    let apart = |encoding: &Encoding| {
        let (a, b) = (attend(encoding, &cat_first), attend(encoding, &fish_first));
        // "cat" stands at 1 in the first sentence and at 4 in the second; "fish" the other way round.
        let difference = |i: usize, j: usize| (0..8).map(|c| (a[i * 8 + c] - b[j * 8 + c]).abs()).fold(0.0, f64::max);
        difference(1, 4).max(difference(4, 1))
    };
    // Two orders of one sum of five products below 10.
    assert!(apart(&Encoding::none()) < 1e-13);
    for encoding in [
        Encoding::from(Learned::new(5)),
        Sinusoidal::paper().into(),
        InputTable::new(5).into(),
        Rotary::new(Pairing::Halves).into(),
        Shaw::new(2).into(),
        Alibi::symmetric().into(),
        ClippedBias::new(2, Direction::KeyMinusQuery).into(),
        SharedBias::new(2).into(),
        T5Bias::encoder().into(),
    ] {
        let apart = apart(&encoding);
        assert!(apart > 1e-3, "{encoding}: {apart}");
    }
}
