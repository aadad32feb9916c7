//! Attention on shapes that do not fit, on nothing, on views that repeat, and behind every strided layout.

use crate::{ANY_LENGTH, UNTOUCHED, planned};
use posenc::{
    Alibi, Attends, Attention, Blocked, Encoding, Error, Grads, Inputs, Learned, Mask, Mode, Outputs, Pairing, Positions, Rotary, Saved,
    Shaw, Slots, T5Bias, View, ViewMut, Window, Workspace,
};

fn encodings() -> [Encoding; 4] {
    [
        Encoding::none(),
        Encoding::from(Rotary::new(Pairing::Halves)).with(Alibi::new()),
        T5Bias::decoder().into(),
        Shaw::new(2).into(),
    ]
}

fn view<const N: usize>(data: &[f32], shape: [usize; N]) -> View<'_, f32, N> {
    View::new(data, shape).unwrap()
}

#[test]
fn nothing_attends_to_nothing_whatever_the_other_axes() {
    let (none, three) = (Positions::range(0..0), Positions::range(0..3));
    let x = vec![0.5f32; 2 * 3 * 4];
    for encoding in encodings() {
        let (plan, params) = planned::<f32>(encoding);
        for any in ANY_LENGTH {
            // No queries of any number of batch rows, whose keys may be repeated.
            let call = plan.call(&params, &none, &three).unwrap();
            let keys = View::strided(&x, [any, 2, 3, 4], [0, 12, 4, 1]).unwrap();
            let inputs = Inputs::new(View::new(&[], [any, 2, 0, 4]).unwrap(), keys, keys);
            let (mut saved, mut work) = (Saved::default(), Workspace::default());
            let attention = Attention {
                window: Some(Window::last(2).unwrap()),
                chunk: Some(2),
                softcap: Some(3.0),
                ..Attention::default()
            };
            for first in [0, 5, usize::MAX] {
                let outputs = Outputs {
                    out: ViewMut::new(&mut [], [any, 2, 0, 4]).unwrap(),
                    saved: Some(&mut saved),
                    weights: Some(ViewMut::new(&mut [], [any, 2, 0, 3]).unwrap()),
                };
                attention
                    .forward(&call, inputs, &Mask::none().causal(first), Mode::Evaluate, outputs, &mut work)
                    .unwrap();
            }
            // Nothing at all, in both directions.
            let call = plan.call(&params, &none, &none).unwrap();
            let empty = || View::<f32, 4>::new(&[], [any, 2, 0, 4]).unwrap();
            let mut slots = Slots::default();
            let grads = Grads {
                dq: ViewMut::new(&mut [], [any, 2, 0, 4]).unwrap(),
                dk: ViewMut::new(&mut [], [any, 2, 0, 4]).unwrap(),
                dv: ViewMut::new(&mut [], [any, 2, 0, 4]).unwrap(),
            };
            let inputs = Inputs::new(empty(), empty(), empty());
            attention
                .adjoint(
                    &call,
                    inputs,
                    &Mask::none(),
                    Mode::Evaluate,
                    empty(),
                    empty(),
                    &saved,
                    grads,
                    &mut slots,
                    &mut work,
                )
                .unwrap();
            call.adjoint(&slots, &mut params.zeros_like()).unwrap();
        }
        // No queries: the gradients of keys and values are zeros, and written.
        let call = plan.call(&params, &none, &three).unwrap();
        let (mut dk, mut dv, mut slots) = ([f32::NAN; 24], [f32::NAN; 24], Slots::default());
        let none_of = || View::<f32, 4>::new(&[], [1, 2, 0, 4]).unwrap();
        let grads = Grads {
            dq: ViewMut::new(&mut [], [1, 2, 0, 4]).unwrap(),
            dk: ViewMut::new(&mut dk, [1, 2, 3, 4]).unwrap(),
            dv: ViewMut::new(&mut dv, [1, 2, 3, 4]).unwrap(),
        };
        let inputs = Inputs::new(none_of(), view(&x, [1, 2, 3, 4]), view(&x, [1, 2, 3, 4]));
        Attention::default()
            .adjoint(
                &call,
                inputs,
                &Mask::none(),
                Mode::Evaluate,
                none_of(),
                none_of(),
                &Saved::default(),
                grads,
                &mut slots,
                &mut Workspace::default(),
            )
            .unwrap();
        assert_eq!((dk, dv), ([0.0; 24], [0.0; 24]), "{plan}");
        // No keys: a row that attends to nothing is zeros.
        let call = plan.call(&params, &three, &none).unwrap();
        let mut out = [f32::NAN; 24];
        let outputs = Outputs {
            out: ViewMut::new(&mut out, [1, 2, 3, 4]).unwrap(),
            saved: None,
            weights: None,
        };
        let inputs = Inputs::new(view(&x, [1, 2, 3, 4]), none_of(), none_of());
        Attention::default()
            .forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
            .unwrap();
        assert_eq!(out, [0.0; 24], "{plan}");
    }
}

#[test]
fn shapes_and_masks_that_do_not_fit_are_refused_and_nothing_is_written() {
    let at = Positions::range(0..3);
    let x = vec![0.5f32; 96];
    let of = |shape: [usize; 4]| view(&x[..shape.iter().product()], shape);
    let fits = [1, 2, 3, 4];
    let allowed = [true; 32];
    for encoding in encodings() {
        let (plan, params) = planned::<f32>(encoding);
        let call = plan.call(&params, &at, &at).unwrap();
        let run = |attention: &Attention, shapes: [[usize; 4]; 4], mask: &Mask<'_, f32>, weights: Option<[usize; 4]>| {
            let [q, k, v, o] = shapes;
            let mut out = vec![UNTOUCHED; o.iter().product()];
            let mut all = vec![UNTOUCHED; weights.map_or(0, |shape| shape.iter().product())];
            let mut saved = Saved::default();
            let outputs = Outputs {
                out: ViewMut::new(&mut out, o).unwrap(),
                saved: Some(&mut saved),
                weights: weights.map(|shape| ViewMut::new(&mut all, shape).unwrap()),
            };
            let inputs = Inputs::new(of(q), of(k), of(v));
            let result = attention.forward(&call, inputs, mask, Mode::Evaluate, outputs, &mut Workspace::default());
            assert!(
                result.is_ok() || out.iter().chain(&all).all(|x| *x == UNTOUCHED),
                "{plan}: {result:?}"
            );
            assert!(result.is_ok() || saved.log_sum_exp().next().is_none());
            result
        };
        let plain = Attention::default();
        run(&plain, [fits; 4], &Mask::none(), Some([1, 2, 3, 3])).unwrap();
        for wrong in [[2, 2, 3, 4], [1, 3, 3, 4], [1, 2, 4, 4], [1, 2, 3, 3], [0, 2, 3, 4], [1, 2, 0, 4]] {
            for i in [0, 1, 3] {
                let mut shapes = [fits; 4];
                shapes[i] = wrong;
                assert!(run(&plain, shapes, &Mask::none(), None).is_err(), "{plan}: tensor {i} is {wrong:?}");
            }
            if wrong[3] == 4 {
                assert!(run(&plain, [fits, fits, wrong, fits], &Mask::none(), None).is_err());
            }
            // The weights' own shape is one of them.
            assert_eq!(run(&plain, [fits; 4], &Mask::none(), Some(wrong)).is_ok(), wrong == [1, 2, 3, 3]);
        }
        assert!(matches!(
            run(&plain, [fits, fits, [1, 2, 3, 0], [1, 2, 3, 0]], &Mask::none(), None),
            Err(Error::Zero { .. })
        ));
        for shape in [
            [2, 1, 3, 3],
            [1, 3, 3, 3],
            [1, 1, 2, 3],
            [1, 1, 3, 1],
            [1, 1, 3, 4],
            [0, 1, 3, 3],
            [1, 1, 0, 3],
        ] {
            let mask = View::new(&allowed[..shape.iter().product()], shape).unwrap();
            assert!(run(&plain, [fits; 4], &Mask::none().attends(Attends(mask)), None).is_err());
            assert!(run(&plain, [fits; 4], &Mask::none().causal(0).blocked(Blocked(mask)), None).is_err());
            assert!(run(&plain, [fits; 4], &Mask::none().additive(of(shape)), None).is_err());
        }
        assert!(run(&plain, [fits; 4], &Mask::none().causal(usize::MAX), None).is_err());
        assert!(run(&plain, [fits; 4], &Mask::none().causal_rows(&[0, 0]), None).is_err());
        assert!(run(&plain, [fits; 4], &Mask::none().after_rows(&[usize::MAX - 1]), None).is_err());
        run(&plain, [fits; 4], &Mask::none().causal(usize::MAX - 3), None).unwrap();
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            let scaled = Attention {
                scale: Some(scale),
                ..Attention::default()
            };
            let capped = Attention {
                softcap: Some(scale),
                ..Attention::default()
            };
            assert!(run(&scaled, [fits; 4], &Mask::none(), None).is_err(), "scale {scale}");
            assert!(run(&capped, [fits; 4], &Mask::none(), None).is_err(), "cap {scale}");
        }
        for attention in [
            Attention {
                chunk: Some(0),
                ..Attention::default()
            },
            Attention {
                dropout: 1.0,
                ..Attention::default()
            },
            Attention {
                dropout: f64::NAN,
                ..Attention::default()
            },
            Attention {
                sinks: true,
                ..Attention::default()
            },
        ] {
            assert!(run(&attention, [fits; 4], &Mask::none(), None).is_err());
        }
        // Windows and chunks as wide as can be are no windows.
        let mut outs = Vec::new();
        for (window, chunk) in [
            (None, None),
            (Some(usize::MAX), None),
            (None, Some(usize::MAX)),
            (Some(usize::MAX), Some(usize::MAX)),
        ] {
            let attention = Attention {
                window: window.map(|keys| Window {
                    left: Some(keys),
                    right: Some(keys),
                }),
                chunk,
                ..Attention::default()
            };
            let mut out = [0.0f32; 24];
            let outputs = Outputs {
                out: ViewMut::new(&mut out, fits).unwrap(),
                saved: None,
                weights: None,
            };
            let inputs = Inputs::new(of(fits), of(fits), of(fits));
            attention
                .forward(
                    &call,
                    inputs,
                    &Mask::none().after(7),
                    Mode::Evaluate,
                    outputs,
                    &mut Workspace::default(),
                )
                .unwrap();
            outs.push(out);
        }
        assert!(outs.iter().all(|out| *out == outs[0]), "{plan}");
    }
}

#[test]
fn an_adjoint_of_other_shapes_is_refused_and_nothing_is_written() {
    let at = Positions::range(0..3);
    let x = vec![0.5f32; 96];
    let of = |shape: [usize; 4]| view(&x[..shape.iter().product()], shape);
    let fits = [1, 2, 3, 4];
    let (plan, params) = planned::<f32>(T5Bias::decoder());
    let call = plan.call(&params, &at, &at).unwrap();
    let (mut saved, mut written) = (Saved::default(), [0.0; 24]);
    let outputs = Outputs {
        out: ViewMut::new(&mut written, fits).unwrap(),
        saved: Some(&mut saved),
        weights: None,
    };
    let inputs = Inputs::new(of(fits), of(fits), of(fits));
    let plain = Attention::default();
    plain
        .forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())
        .unwrap();
    for wrong in [[1, 2, 3, 3], [2, 2, 3, 4], [1, 2, 4, 4], [0, 2, 3, 4], [1, 2, 0, 4]] {
        for i in 0..6 {
            let mut shapes = [fits; 5];
            if i < 5 {
                shapes[i] = wrong;
            }
            let saved = if i == 5 { &Saved::default() } else { &saved };
            let sizes = shapes.map(|shape| shape.iter().product());
            let (mut dq, mut dk, mut dv) = (vec![UNTOUCHED; sizes[2]], vec![UNTOUCHED; sizes[3]], vec![UNTOUCHED; sizes[4]]);
            let grads = Grads {
                dq: ViewMut::new(&mut dq, shapes[2]).unwrap(),
                dk: ViewMut::new(&mut dk, shapes[3]).unwrap(),
                dv: ViewMut::new(&mut dv, shapes[4]).unwrap(),
            };
            let mut slots = Slots::default();
            let refused = plain.adjoint(
                &call,
                inputs,
                &Mask::none(),
                Mode::Evaluate,
                of(shapes[0]),
                of(shapes[1]),
                saved,
                grads,
                &mut slots,
                &mut Workspace::default(),
            );
            assert!(refused.is_err(), "tensor {i} is {wrong:?}");
            assert!(dq.iter().chain(&dk).chain(&dv).all(|x| *x == UNTOUCHED));
        }
    }
}

/// A workspace that served one call serves any other after it: smaller and larger shapes, other encodings, adjoints, and calls that failed.
#[test]
fn a_kept_workspace_changes_no_bit() {
    let mut work = Workspace::default();
    let (mut slots, mut saved) = (Slots::default(), Saved::default());
    for round in 0..2 {
        for encoding in encodings().into_iter().chain([Encoding::from(Learned::new(99))]) {
            let (plan, params) = planned::<f32>(encoding);
            for (batch, q_len, k_len) in [(2, 70, 140), (1, 1, 3), (3, 5, 5), (1, 65, 129)] {
                let (q_at, k_at) = (Positions::range(0..q_len as i64), Positions::range(0..k_len as i64));
                let call = plan.call(&params, &q_at, &k_at).unwrap();
                let number = |i: usize| ((i * 37 + round) % 101) as f32 / 50.0 - 1.0;
                let (nq, nk) = (batch * 2 * q_len * 4, batch * 2 * k_len * 4);
                let (q, k): (Vec<f32>, Vec<f32>) = ((0..nq).map(number).collect(), (0..nk).map(number).collect());
                let (q_shape, k_shape) = ([batch, 2, q_len, 4], [batch, 2, k_len, 4]);
                let inputs = Inputs::new(view(&q, q_shape), view(&k, k_shape), view(&k, k_shape));
                let attention = Attention {
                    softcap: Some(20.0),
                    chunk: (round == 1).then_some(40),
                    ..Attention::default()
                };
                let run = |work: &mut Workspace<f32>, slots: &mut Slots<f32>, saved: &mut Saved<f32>| {
                    let (mut out, mut weights) = (vec![f32::NAN; nq], vec![f32::NAN; batch * 2 * q_len * k_len]);
                    let mask = Mask::none().causal(k_len - q_len);
                    let outputs = Outputs {
                        out: ViewMut::new(&mut out, q_shape).unwrap(),
                        saved: Some(saved),
                        weights: (round == 1).then(|| ViewMut::new(&mut weights, [batch, 2, q_len, k_len]).unwrap()),
                    };
                    attention.forward(&call, inputs, &mask, Mode::Evaluate, outputs, work).unwrap();
                    let (mut dq, mut dk, mut dv) = (vec![f32::NAN; nq], vec![f32::NAN; nk], vec![f32::NAN; nk]);
                    let grads = Grads {
                        dq: ViewMut::new(&mut dq, q_shape).unwrap(),
                        dk: ViewMut::new(&mut dk, k_shape).unwrap(),
                        dv: ViewMut::new(&mut dv, k_shape).unwrap(),
                    };
                    let o = view(&out, q_shape);
                    attention
                        .adjoint(
                            &call,
                            inputs,
                            &mask,
                            Mode::Evaluate,
                            o,
                            view(&q, q_shape),
                            saved,
                            grads,
                            slots,
                            work,
                        )
                        .unwrap();
                    let mut grads = params.zeros_like();
                    call.adjoint(slots, &mut grads).unwrap();
                    if round == 0 {
                        weights.clear();
                    }
                    [out, weights, dq, dk, dv, grads.flat().to_vec()]
                };
                let kept = run(&mut work, &mut slots, &mut saved);
                let fresh = run(&mut Workspace::default(), &mut Slots::default(), &mut Saved::default());
                assert!(
                    kept == fresh && kept.iter().flatten().all(|x| x.is_finite()),
                    "{plan}, {q_len} × {k_len}"
                );
            }
        }
    }
}
