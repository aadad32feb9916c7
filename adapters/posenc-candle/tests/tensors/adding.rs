//! Tables added at every site: against the core, and gradients to tensor and table.

use super::{apart, assert_differences, call, numbers, plan, variables, weighed};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{Dims, Encoding, InputTable, Learned, Mode, Params, Positions, Sinusoidal, Site, View, ViewMut};
use posenc_candle::{Call, Error, Parameters};

#[test]
fn embeddings_are_what_the_core_makes_of_them() {
    let dims = Dims::new(8, 2).unwrap();
    for encoding in [
        Encoding::from(Learned::new(16)),
        Encoding::from(Sinusoidal::paper()),
        Encoding::from(Learned::new(16).concatenated(3)),
        Encoding::from(Learned::new(16)).with(Sinusoidal::paper()),
    ] {
        let plan = plan(encoding, dims);
        let vars = variables(&plan);
        let (x, at) = (numbers(1, &[2, 5, 8]), Positions::range(2..7));
        let mut params: Params<f64> = plan.init(0).unwrap();
        for spec in plan.parameters() {
            let values: Vec<f64> = vars[&spec.name].flatten_all().unwrap().to_vec1().unwrap();
            params.set(&spec.name, &spec.shape, &values).unwrap();
        }
        let width = 8 + plan.concat_width();
        let mut expected = vec![f64::NAN; 2 * 5 * width];
        let flat: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
        let core = plan.call(&params, &at, &at).unwrap();
        core.embed(
            View::new(&flat, [2, 5, 8]).unwrap(),
            ViewMut::new(&mut expected, [2, 5, width]).unwrap(),
            Mode::Evaluate,
        )
        .unwrap();
        let expected = Tensor::from_vec(expected, (2, 5, width), &Device::Cpu).unwrap();
        let call = call(&plan, &vars, &at, &at).unwrap();
        let embedded = call.embed(&x, Mode::Evaluate).unwrap();
        assert_eq!(apart(&embedded, &expected), 0.0, "{plan}");
        // Of a view that is not contiguous the same.
        let strided = x.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
        assert!(!strided.is_contiguous());
        assert_eq!(apart(&call.embed(&strided, Mode::Evaluate).unwrap(), &expected), 0.0, "{plan}");
    }
}

#[test]
fn gradients_reach_tensor_and_table_with_and_without_dropout() {
    let dims = Dims::new(8, 2).unwrap();
    let sites: [(Encoding, Site); 4] = [
        (Learned::new(16).into(), Site::Embedding),
        (InputTable::new(16).into(), Site::QueryInput),
        (InputTable::new(16).into(), Site::KeyInput),
        (InputTable::new(16).projected().into(), Site::Key),
    ];
    for (encoding, site) in sites {
        let plan = plan(encoding, dims);
        let vars = variables(&plan);
        let shape: &[usize] = if site == Site::Key { &[2, 2, 5, 4] } else { &[2, 5, 8] };
        let x = Var::from_tensor(&numbers(2, shape)).unwrap();
        let at = Positions::whole(&[3, 1, 4, 1, 5]);
        let all: Vec<&Var> = vars.values().chain([&x]).collect();
        for mode in [Mode::Evaluate, Mode::Train { seed: 1, call: 2 }] {
            assert_differences(&format!("{plan} at {site:?}"), &all, || {
                weighed(&call(&plan, &vars, &at, &at).unwrap().add(site, &x, mode).unwrap().sqr().unwrap())
            });
        }
    }
    let plan = plan(Learned::new(16).concatenated(3).with_dropout(0.3), dims);
    let (vars, x) = (variables(&plan), Var::from_tensor(&numbers(3, &[2, 5, 8])).unwrap());
    let at = Positions::range(0..5);
    let all: Vec<&Var> = vars.values().chain([&x]).collect();
    assert_differences("dropped embeddings", &all, || {
        let mode = Mode::Train { seed: 3, call: 1 };
        weighed(&call(&plan, &vars, &at, &at).unwrap().embed(&x, mode).unwrap().sqr().unwrap())
    });
}

#[test]
fn tables_of_half_precision_are_summed_in_single_precision() {
    let plan = plan(Learned::new(16), Dims::new(8, 2).unwrap());
    let vars = variables(&plan);
    let (x, at) = (numbers(4, &[2, 5, 8]).to_dtype(DType::BF16).unwrap(), Positions::range(0..5));
    let table = vars["pos_embedding.weight"].to_dtype(DType::BF16).unwrap();
    let parameters = Parameters::new(&plan, |_| Ok(table.clone())).unwrap();
    let sum = Call::of(&plan, &parameters, &at, &at).unwrap().embed(&x, Mode::Evaluate).unwrap();
    assert_eq!(sum.dtype(), DType::BF16);
    let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
    // The sum of two bf16 numbers below 4 fits f32 to 2⁻²², so that it is rounded once.
    let once = wide(&x).broadcast_add(&wide(&table).narrow(0, 0, 5).unwrap()).unwrap();
    assert_eq!(apart(&sum, &once.to_dtype(DType::BF16).unwrap()), 0.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let plan = plan(Learned::new(4), Dims::new(8, 2).unwrap());
    let (vars, at) = (variables(&plan), Positions::range(0..3));
    let past = call(&plan, &vars, &Positions::range(2..5), &at).unwrap_err();
    assert!(matches!(past, Error::Core(posenc::Error::PastTable { position: 4, rows: 4, .. })));
    let fits = call(&plan, &vars, &at, &at).unwrap();
    let wide = fits.embed(&numbers(1, &[1, 3, 9]), Mode::Evaluate).unwrap_err();
    assert!(matches!(wide, Error::Core(posenc::Error::Shape { .. })), "{wide}");
    let none = Call::new(&plan, &at).unwrap_err().to_string();
    assert!(none.contains("expected shape [32], given [0]"), "{none}");
    let table = Parameters::new(&plan, |_| Ok(numbers(1, &[4, 7])));
    assert!(matches!(table, Err(Error::Core(posenc::Error::ParameterShape { given, .. })) if given == [4, 7]));
}
