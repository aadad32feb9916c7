//! What a call refuses, and what it keeps apart.

use posenc::{
    Alibi, BlockMut, Dims, Encoding, Error, InputTable, Learned, Mode, Needs, Params, Plan, Positions, ScoreTerm, Site, Slots, T5Bias,
    Tile, View, ViewMut,
};
use std::sync::Arc;

fn plan(encoding: impl Into<Encoding>) -> Plan {
    encoding.into().plan(Dims::new(8, 2).unwrap()).unwrap()
}

struct Nothing;

impl ScoreTerm<f32> for Nothing {
    fn needs(&self) -> Needs {
        Needs::bias(0)
    }

    fn add(&self, _tile: &Tile<'_, f32>, _s: &mut BlockMut<'_, f32>) {}
}

#[test]
fn terms_of_ones_own_are_not_lost_between_layers() {
    let plan = plan(Alibi::new());
    let params: Params<f32> = plan.init(0).unwrap();
    let at = Positions::range(0..3);
    let mut call = plan.call(&params, &at, &at).unwrap();
    assert_eq!(call.for_layer(&params).unwrap().bias().len(), 1);
    call.push_bias(Arc::new(Nothing));
    assert!(matches!(
        call.for_layer(&params),
        Err(Error::Unsupported {
            method: "Call::for_layer",
            ..
        })
    ));
}

#[test]
fn sites_of_another_rank_and_embeddings_of_another_width_are_refused() {
    let plan = plan(Encoding::from(Learned::new(4)).with(InputTable::new(4)));
    let params: Params<f32> = plan.init(0).unwrap();
    let at = Positions::range(0..3);
    let call = plan.call(&params, &at, &at).unwrap();
    let (mut wide, mut heads) = (vec![1.0f32; 24], vec![1.0f32; 24]);
    let wide_view = |x| ViewMut::new(x, [1, 3, 8]).unwrap();
    assert!(call.add(Site::Query, wide_view(&mut wide), Mode::Evaluate).is_err());
    assert!(
        call.add_heads(Site::Embedding, ViewMut::new(&mut heads, [1, 2, 3, 4]).unwrap())
            .is_err()
    );
    assert_eq!((wide, heads), (vec![1.0; 24], vec![1.0; 24]), "nothing was touched");
    let (x, mut out) = (vec![0.0f32; 9], vec![0.0f32; 9]);
    let refused = call.embed(
        View::new(&x, [1, 3, 3]).unwrap(),
        ViewMut::new(&mut out, [1, 3, 3]).unwrap(),
        Mode::Evaluate,
    );
    assert!(matches!(refused, Err(Error::Shape { .. })));
    let mut long = vec![0.0f32; 5 * 8];
    assert!(
        call.add(Site::Embedding, ViewMut::new(&mut long, [1, 5, 8]).unwrap(), Mode::Evaluate)
            .is_err()
    );
}

#[test]
fn slots_of_no_adjoint_are_refused() {
    let plan = plan(T5Bias::decoder());
    let params: Params<f32> = plan.init(0).unwrap();
    let at = Positions::range(0..3);
    let call = plan.call(&params, &at, &at).unwrap();
    let refused = call.adjoint(&Slots::default(), &mut params.zeros_like());
    assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
}

/// What is dropped of an embedding says nothing about what is dropped of a weight.
#[test]
fn embeddings_and_weights_drop_different_places() {
    let mode = Mode::Train { seed: 3, call: 4 };
    let plan = plan(Learned::new(64).with_dropout(0.5));
    let params: Params<f64> = Params::zeros(plan.parameters()).unwrap();
    let at = Positions::range(0..64);
    let call = plan.call(&params, &at, &at).unwrap();
    let mut x = vec![1.0; 64 * 8];
    call.add(Site::Embedding, ViewMut::new(&mut x, [1, 64, 8]).unwrap(), mode).unwrap();
    let dropout = mode.dropout(0.5).unwrap();
    let same = (0..64 * 8)
        .filter(|&i| (x[i] == 0.0) == (dropout.factor(dropout.row(0, 0, i / 8), i % 8) == 0.0))
        .count();
    // Two independent fair coins agree half the time; five standard deviations of 512 tosses are 57.
    assert!(same.abs_diff(256) < 57, "{same} of 512 agree");
}

#[test]
fn only_tables_stretched_over_a_call_depend_on_its_length() {
    use posenc::{Alibi, Encoding, InputTable, Learned, Overflow};
    let dims = Dims::new(8, 2).unwrap();
    let depends = |encoding: Encoding| encoding.plan(dims).unwrap().depends_on_length().map(|m| m.to_string());
    for overflow in [Overflow::Error, Overflow::Clamp, Overflow::Wrap, Overflow::InterpolateTo(9)] {
        assert_eq!(depends(InputTable::new(4).with_overflow(overflow).into()), None);
    }
    let stretched = InputTable::new(4).with_overflow(Overflow::Interpolate);
    assert_eq!(
        depends(Encoding::from(Alibi::new()).with(stretched.clone())),
        Some(stretched.to_string())
    );
    assert!(depends(Learned::new(4).with_overflow(Overflow::Interpolate).into()).is_some());
}
