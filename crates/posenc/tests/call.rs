//! What a call refuses, and what it keeps apart.

use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::{
    Alibi, Attention, BlockMut, Bound, Call, Deberta, DebertaProjections, Dims, Encoding, Error, InputTable, Inputs, Learned, Mask, Mode,
    Needs, Outputs, ParamSpec, Params, Plan, Positions, ScoreTerm, Site, Slots, T5Bias, Tile, TransformerXl, View, ViewMut, Workspace,
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

/// Rows of queries and of keys that are not as many: some methods look at each of them when they are called, and refuse then; the others have no answer for any score.
#[test]
fn batches_that_do_not_fit_each_other_are_refused() {
    for entry in catalogue() {
        let plan = plan(preset(entry.name, &PresetOptions::new(16)).unwrap());
        let params: Params<f32> = plan.init(0).unwrap();
        let [two, three] = [2, 3].map(|batch| {
            let ids: Vec<i64> = (0..batch as i64 * 5).map(|i| (i * 7) % 15).collect();
            Positions::whole_rows(&ids, batch).unwrap()
        });
        for (q_at, k_at) in [(&two, &three), (&three, &two)] {
            let (mut out, shape) = (vec![7.0f32; 3 * 2 * 5 * 5], [q_at.batch(), 2, 5, 5]);
            let refused = plan.call(&params, q_at, k_at).and_then(|call| {
                let size = shape.iter().product();
                call.materialise_bias(ViewMut::new(&mut out[..size], shape)?)
            });
            assert!(matches!(refused, Err(Error::Shape { .. })), "{}: {refused:?}", entry.name);
            assert!(out.iter().all(|x| *x == 7.0), "{}", entry.name);
        }
    }
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

fn projected() -> (Plan, Params<f64>, Positions) {
    let plan = plan(Deberta::new(3, DebertaProjections::V2));
    let params = plan.init(0).unwrap();
    (plan, params, Positions::range(0..4))
}

#[test]
fn attention_without_the_tables_it_waits_for_says_what_to_do() {
    let (plan, params, at) = projected();
    let call = plan.call(&params, &at, &at).unwrap();
    let x = vec![0.5f64; 2 * 4 * 4];
    let view = View::new(&x, [1, 2, 4, 4]).unwrap();
    let mut out = vec![9.0; x.len()];
    let outputs = Outputs {
        out: ViewMut::new(&mut out, [1, 2, 4, 4]).unwrap(),
        saved: None,
        weights: None,
    };
    let inputs = Inputs::new(view, view, view);
    let refused = Attention::default().forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default());
    let Err(error) = refused else { panic!() };
    assert_eq!(
        error,
        Error::MissingTables {
            tables: vec!["position_keys".into(), "position_queries".into()]
        }
    );
    assert!(error.to_string().contains("position_keys, position_queries") && error.to_string().contains("with_tables"));
    assert_eq!(out, vec![9.0; x.len()], "nothing was written");
}

#[test]
fn tables_are_taken_by_name_and_shape_once() {
    let (plan, params, at) = projected();
    let call = || plan.call(&params, &at, &at).unwrap();
    let specs = call().table_specs();
    assert_eq!(
        specs.iter().map(|s| (s.name.as_str(), s.shape.clone())).collect::<Vec<_>>(),
        [("position_keys", vec![6, 2, 4]), ("position_queries", vec![6, 2, 4])]
    );
    let tables: Params<f64> = Params::zeros(&specs).unwrap();
    let one: Params<f64> = Params::zeros(&specs[..1]).unwrap();
    assert!(matches!(call().with_tables(&one), Err(Error::MissingParameter { name }) if name == "position_queries"));
    let other: Params<f64> = Params::zeros(
        &specs
            .iter()
            .map(|s| ParamSpec {
                shape: vec![6, 8],
                ..s.clone()
            })
            .collect::<Vec<_>>(),
    )
    .unwrap();
    assert!(matches!(call().with_tables(&other), Err(Error::ParameterShape { .. })));
    let with = call().with_tables(&tables).unwrap();
    assert_eq!(with.content().len(), 1);
    let layer = with.for_layer(&params).unwrap();
    assert!(layer.content().is_empty(), "another layer waits for its own");
    assert!(layer.with_tables(&tables).is_ok());
    assert!(matches!(with.with_tables(&tables), Err(Error::Unsupported { .. })));
    // A call without projections takes an empty store and stays as it is.
    let empty: Params<f32> = Params::zeros(&[]).unwrap();
    let alibi = self::plan(Alibi::new());
    let none = alibi.init(0).unwrap();
    assert_eq!(alibi.call(&none, &at, &at).unwrap().with_tables(&empty).unwrap().bias().len(), 1);
}

#[test]
fn rows_and_their_gradients_go_by_name() {
    let (plan, params, at) = projected();
    let call = plan.call(&params, &at, &at).unwrap();
    let rows = call.rows("position_keys").unwrap();
    assert_eq!(rows.shape(), [6, 8]);
    assert_eq!(rows.row([2, 0]), &params.flat()[16..24], "the parameter's own rows");
    assert!(matches!(call.rows("position_key"), Err(Error::UnknownName { nearest: Some(name), .. }) if name == "position_keys"));
    let mut grads = params.zeros_like();
    let ones = vec![1.0; 48];
    for table in ["position_keys", "position_queries"] {
        call.rows_adjoint(table, View::new(&ones, [6, 8]).unwrap(), &mut grads).unwrap();
    }
    assert!(grads.flat().iter().all(|g| *g == 2.0), "both tables project the same rows");
    let short = View::new(&ones[..40], [5, 8]).unwrap();
    assert!(matches!(
        call.rows_adjoint("position_keys", short, &mut grads),
        Err(Error::Shape { .. })
    ));

    let sinusoids = self::plan(TransformerXl::paper());
    let params: Params<f64> = sinusoids.init(0).unwrap();
    let call = sinusoids.call(&params, &at, &at).unwrap();
    let mut grads = params.zeros_like();
    call.rows_adjoint("relative_keys", View::new(&ones[..32], [4, 8]).unwrap(), &mut grads)
        .unwrap();
    assert!(grads.flat().iter().all(|g| *g == 0.0), "nothing learns from a sinusoid");
}

#[test]
fn gradients_of_tables_are_not_forgotten() {
    let (plan, params, at) = projected();
    let call = plan.call(&params, &at, &at).unwrap();
    let mut tables: Params<f64> = Params::zeros(&call.table_specs()).unwrap();
    let mut grads = params.zeros_like();
    let slots = Slots::default();
    assert!(matches!(
        call.adjoint(&slots, &mut grads),
        Err(Error::Unsupported {
            method: "Call::adjoint",
            ..
        })
    ));
    assert!(matches!(
        call.adjoint_with_tables(&slots, &mut grads, &mut tables),
        Err(Error::MissingTables { .. })
    ));
    let given = tables.clone();
    let call = call.with_tables(&given).unwrap();
    let mut none: Params<f64> = Params::zeros(&[]).unwrap();
    assert!(matches!(
        call.adjoint_with_tables(&slots, &mut grads, &mut none),
        Err(Error::MissingParameter { .. })
    ));
    assert!(matches!(
        call.adjoint_with_tables(&slots, &mut grads, &mut tables),
        Err(Error::Shape { .. })
    ));
}

/// Adding, its adjoint and a bias written out give the same bits for any number of threads: tables that mix rows, that tokens share and that they do not, concatenated ones, and dropout.
#[cfg(feature = "rayon")]
#[test]
fn threads_change_no_bit_of_what_is_added() {
    use posenc::{Overflow, Rng, Sinusoidal};
    const SHAPE: [usize; 3] = [3, 900, 128];
    let encodings: [Encoding; 4] = [
        Encoding::from(Learned::new(900).with_dropout(0.3)).with(Sinusoidal::paper().with_dropout(0.1)),
        Learned::new(100).with_overflow(Overflow::Interpolate).into(),
        Encoding::from(Learned::new(100).with_overflow(Overflow::Wrap).concatenated(24)).with(Sinusoidal::marian()),
        Encoding::from(T5Bias::encoder()).with(Alibi::new()),
    ];
    for encoding in encodings {
        let plan = encoding.plan(Dims::new(SHAPE[2], 4).unwrap()).unwrap();
        let params: Params<f32> = plan.init(1).unwrap();
        let mut rng = Rng::new(2);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let wide = [SHAPE[0], SHAPE[1], SHAPE[2] + plan.concat_width()];
        let (x, d_out) = (numbers(SHAPE.iter().product()), numbers(wide.iter().product()));
        assert!(x.len() * 4 >= 1 << 20, "large enough to be shared");
        let at = Positions::range(0..SHAPE[1] as i64);
        let call = plan.call(&params, &at, &at).unwrap();
        let mode = Mode::Train { seed: 3, call: 4 };
        let done = || {
            let mut out = vec![f32::NAN; d_out.len()];
            call.embed(View::new(&x, SHAPE).unwrap(), ViewMut::new(&mut out, wide).unwrap(), mode)
                .unwrap();
            let (mut d_out, mut dx, mut grads) = (d_out.clone(), vec![f32::NAN; x.len()], params.zeros_like());
            let (d_out, into) = (ViewMut::new(&mut d_out, wide).unwrap(), ViewMut::new(&mut dx, SHAPE).unwrap());
            call.embed_adjoint(d_out, into, mode, &mut grads).unwrap();
            let mut bias = vec![f32::NAN; 4 * SHAPE[1] * SHAPE[1]];
            call.materialise_bias(ViewMut::new(&mut bias, [1, 4, SHAPE[1], SHAPE[1]]).unwrap())
                .unwrap();
            let all = [&out, &dx, grads.flat(), &bias].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            assert!(all.iter().flatten().all(|x| !f32::from_bits(*x).is_nan()));
            all
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(done);
        for threads in [2, 3, 7] {
            assert!(pool(threads).install(done) == one, "{plan}, {threads} threads");
        }
    }
}

#[test]
fn a_located_plan_gives_the_calls_of_its_layers() {
    let plan = plan(T5Bias::encoder());
    let at = Positions::range(0..5);
    let located = plan.locate::<f32>(&at, &at).unwrap();
    assert_eq!((located.q_at(), located.k_at()), (&at, &at));
    let written = |call: Call<'_, f32>| {
        let mut bias = vec![f32::NAN; 2 * 5 * 5];
        call.materialise_bias(ViewMut::new(&mut bias, [1, 2, 5, 5]).unwrap()).unwrap();
        bias
    };
    for seed in 0..2 {
        // T5's tables begin at zeros.
        let mut params: Params<f32> = plan.init(seed).unwrap();
        for (i, x) in params.flat_mut().iter_mut().enumerate() {
            *x = (seed + 1) as f32 * ((i * 37 % 11) as f32 - 5.0);
        }
        let direct = written(plan.call(&params, &at, &at).unwrap());
        assert!(direct.iter().any(|x| *x != 0.0));
        assert_eq!(written(located.call(&params).unwrap()), direct);
        // Numbers that lie elsewhere are read where they lie.
        let over = Bound::over(plan.parameters(), params.flat()).unwrap();
        assert_eq!(written(located.call(over).unwrap()), direct);
    }
    assert!(matches!(
        Bound::<f32>::over(plan.parameters(), &[0.0; 3]),
        Err(Error::Shape { given, .. }) if given == [3]
    ));
}

#[test]
fn a_bias_written_out_has_the_adjoint_of_its_matrix() {
    use posenc::catalogue::{PresetOptions, catalogue, preset};
    let options = PresetOptions::new(16);
    let mut checked = Vec::new();
    for entry in catalogue() {
        let encoding = preset(entry.name, &options).unwrap();
        let plan = encoding.plan(Dims::new(16, 4).unwrap()).unwrap();
        let windows = encoding.to_string().contains("window");
        let [q_at, k_at] = match windows {
            false => [Positions::range(2..7), Positions::range(0..7)],
            true => [Positions::grid(1, 7), Positions::grid(1, 7)],
        };
        let (q_len, k_len) = (q_at.len(), k_at.len());
        let mut params: Params<f64> = plan.init(3).unwrap();
        // Away from zeros, where networks have their bends, and from the ends of a range.
        for (i, x) in params.flat_mut().iter_mut().enumerate() {
            *x += 0.05 * ((i * 37 % 11) as f64 - 5.0) + 0.013;
        }
        params.keep_in_range();
        let size = 2 * 4 * q_len * k_len;
        let written = |params: &Params<f64>| {
            let mut bias = vec![f64::NAN; size];
            let call = plan.call(params, &q_at, &k_at).unwrap();
            call.materialise_bias(ViewMut::new(&mut bias, [2, 4, q_len, k_len]).unwrap())
                .unwrap();
            bias
        };
        let d_out: Vec<f64> = (0..size).map(|i| ((i * 29 % 17) as f64 - 8.0) / 8.0).collect();
        let call = plan.call(&params, &q_at, &k_at).unwrap();
        if call.bias().is_empty() || params.size() == 0 {
            continue;
        }
        let mut grads = params.zeros_like();
        call.materialise_bias_adjoint(View::new(&d_out, [2, 4, q_len, k_len]).unwrap(), &mut grads)
            .unwrap();
        // Along one direction. Central differences with a step of ε^(1/3) are off by ε^(2/3) ≈ 4e-11 of the derivatives' size, here below 1e4: a bound of 1e-6.
        let direction: Vec<f64> = (0..params.size()).map(|i| ((i * 13 % 7) as f64 - 3.0) / 4.0).collect();
        let step = f64::EPSILON.cbrt();
        let moved = |sign: f64| {
            let mut params = params.clone();
            let along = params.flat_mut().iter_mut().zip(&direction);
            along.for_each(|(x, d)| *x += sign * step * d);
            written(&params).iter().zip(&d_out).map(|(b, d)| b * d).sum::<f64>()
        };
        let differences = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        let adjoint: f64 = grads.flat().iter().zip(&direction).map(|(g, d)| g * d).sum();
        assert!(
            (differences - adjoint).abs() < 1e-6,
            "{plan}: {differences} by differences, {adjoint}"
        );
        checked.push(entry.name);
    }
    assert!(checked.len() >= 6, "{checked:?}");
}
