//! What is refused, by which error, and that nothing is written then.

use crate::{BATCH, HEADS, WIDTH, additive_pos, forward, random, with_params};
use posenc::{Error, Init, Learned, Mode, Pairing, Params, Positions, Rotary};
use posenc_nn::{AttentionTrace, AttnMask, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

/// Upstream, -1 reads the last row, 1.9 row 1, and a position past the table is a bare IndexError.
#[test]
fn positions_without_a_row_are_typed_errors_unless_masked() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let with = |at: Positions, mask: Option<&'static [bool]>| PositionalArgs {
        k_positions: Some(at),
        k_position_mask: mask,
        ..Default::default()
    };
    let run = |args: &PositionalArgs<'_, f32>| forward(&module, &params, Streams::Same(&x), args);
    let refused = |at| match run(&with(at, None)) {
        Err(posenc_nn::Error::Core(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        refused(Positions::whole(&[0, 12, 1])),
        Error::PastTable {
            position: 12,
            token: 1,
            rows: 12,
            ..
        }
    ));
    assert!(matches!(
        refused(Positions::whole(&[0, 1, -1])),
        Error::Negative {
            position: -1,
            token: 2,
            ..
        }
    ));
    assert!(matches!(
        refused(Positions::real(&[0.0, 1.9, 2.0]).unwrap()),
        Error::Fractional { .. }
    ));
    // Not read where the token has no position; it adds nothing, as row 0 would only if it were zero.
    let masked = run(&with(Positions::whole(&[0, 12, 1]), Some(&[true, false, true]))).unwrap();
    let other = run(&with(Positions::whole(&[0, -7, 1]), Some(&[true, false, true]))).unwrap();
    assert_eq!(masked, other);
    assert_ne!(masked, run(&with(Positions::whole(&[0, 0, 1]), None)).unwrap());
    // A mask takes positions away and gives none back.
    let left = Positions::whole(&[0, 12, 1]).with_presence(&[true, false, true]).unwrap();
    assert_eq!(masked, run(&with(left.clone(), Some(&[true; 3]))).unwrap());
    assert_eq!(masked, run(&with(left, Some(&[true; BATCH * 3]))).unwrap());
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let masks = [false; 81];
    let refuse = |args: PositionalArgs<'_, f32>| {
        let error = forward(&module, &params, Streams::Same(&x), &args).unwrap_err();
        assert!(matches!(error, posenc_nn::Error::Core(Error::Shape { .. })), "{error}");
    };
    for at in [Positions::range(0..4), Positions::whole_rows(&[0; 9], 3).unwrap()] {
        refuse(PositionalArgs {
            q_positions: Some(at),
            ..Default::default()
        });
    }
    refuse(PositionalArgs {
        q_position_mask: Some(&masks[..4]),
        ..Default::default()
    });
    // [batch, q, k] is not [batch·heads, q, k]: a mask per batch row is [batch, 1, q, k].
    for shape in [&[BATCH, 3, 3][..], &[3, 4], &[3, 3, 3, 3], &[3]] {
        refuse(PositionalArgs {
            attn_mask: Some(AttnMask::Blocked(&masks[..shape.iter().product()], shape)),
            ..Default::default()
        });
    }
    refuse(PositionalArgs {
        key_padding_mask: Some(AttnMask::Blocked(&masks[..3], &[1, 3])),
        ..Default::default()
    });
    // A shape that its numbers do not fill.
    let args = PositionalArgs {
        attn_mask: Some(AttnMask::Blocked(&masks[..4], &[3, 3])),
        ..Default::default()
    };
    assert!(forward(&module, &params, Streams::Same(&x), &args).is_err());
    let mode = Mode::Evaluate;
    let none = PositionalArgs::default();
    let run = |batch| module.forward(&params, Streams::Same(&x), batch, &none, mode, &mut AttentionTrace::default());
    assert!(run(0).is_err() && run(5).is_err() && run(usize::MAX).is_err());
    let uneven = Streams::Apart {
        query: &x[..],
        key: &x,
        value: &x[..BATCH * 2 * WIDTH],
    };
    assert!(forward(&module, &params, uneven, &none).is_err());
}

#[test]
fn construction_is_checked_and_printed() {
    let module = additive_pos().named("layers.0").with_dropout(0.5).without_bias();
    let names: Vec<String> = module.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(
        names,
        ["layers.0.pos_emb", "layers.0.attn.in_proj_weight", "layers.0.attn.out_proj.weight"]
    );
    let params: Params<f32> = Params::init(&module.specs(), 1).unwrap();
    assert_eq!(module.pos_emb(&params).unwrap().len(), 12 * WIDTH);
    assert_eq!((module.embed_dim(), module.num_heads()), (WIDTH, HEADS));
    let text = module.to_string();
    for part in ["embed_dim 8", "num_heads 2", "max_len 12", "dropout 0.5", "no bias"] {
        assert!(text.contains(part), "{text}");
    }
    for (width, heads, max_len) in [(8, 3, 4), (0, 2, 4), (8, 0, 4), (8, 2, 0)] {
        assert!(PositionalMultiheadAttention::additive_pos(width, heads, max_len).is_err());
    }
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let out_of_range = forward(&module.with_dropout(1.0), &params, Streams::Same(&x), &PositionalArgs::default());
    assert!(matches!(out_of_range, Err(posenc_nn::Error::Core(Error::Invalid { .. }))));

    let rotary = PositionalMultiheadAttention::new(&Rotary::new(Pairing::Halves).into(), WIDTH, HEADS).unwrap();
    let params: Params<f32> = Params::init(&rotary.specs(), 1).unwrap();
    assert!(matches!(
        rotary.pos_emb(&params),
        Err(posenc_nn::Error::Core(Error::MissingParameter { name })) if name == "pos_emb"
    ));
    let embedded = PositionalMultiheadAttention::new(&Learned::new(12).with_init(Init::Ones).into(), WIDTH, HEADS).unwrap();
    let params: Params<f32> = Params::init(&embedded.specs(), 1).unwrap();
    assert!(matches!(
        forward(&embedded, &params, Streams::Same(&x), &PositionalArgs::default()),
        Err(posenc_nn::Error::Core(Error::Unsupported { .. }))
    ));
}

#[test]
fn a_missing_parameter_leaves_outputs_and_gradients_alone() {
    let module = additive_pos();
    let params = with_params::<f32>(&module);
    let lacking: Params<f32> = Params::init(&module.specs()[..4], 1).unwrap();
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let args = PositionalArgs::default();
    assert!(forward(&module, &lacking, Streams::Same(&x), &args).is_err());
    for cut in 1..5 {
        let mut trace = AttentionTrace::default();
        module
            .forward(&params, Streams::Same(&x), BATCH, &args, Mode::Evaluate, &mut trace)
            .unwrap();
        let specs: Vec<_> = module
            .specs()
            .into_iter()
            .enumerate()
            .filter(|(i, _)| *i != cut)
            .map(|(_, spec)| spec)
            .collect();
        let (mut grads, mut dx) = (Params::<f32>::zeros(&specs).unwrap(), vec![7.0; x.len()]);
        let into = StreamGrads::Same(&mut dx);
        let refused = module.adjoint(
            &params,
            Streams::Same(&x),
            BATCH,
            &args,
            Mode::Evaluate,
            &x,
            into,
            &mut grads,
            &mut trace,
        );
        assert!(refused.is_err());
        assert!(dx.iter().all(|d| *d == 7.0) && grads.flat().iter().all(|g| *g == 0.0));
    }
}

/// Every argument that has a shape says its name, what was expected and what was given.
#[test]
fn each_shape_mismatch_names_the_argument() {
    let (module, params) = (additive_pos(), with_params::<f32>(&additive_pos()));
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    let (flags, numbers) = ([false; 64], [0.0f32; 64]);
    let none = PositionalArgs::<f32>::default;
    let say = |error: posenc_nn::Error, name: &str, expected: &str, given: &str| {
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains(expected) && text.contains(given),
            "`{text}` lacks {name}, {expected} or {given}"
        );
    };
    let of = |args: PositionalArgs<'_, f32>| forward(&module, &params, Streams::Same(&x), &args).unwrap_err();

    let ids = |len: i64| Some(Positions::range(0..len));
    say(
        of(PositionalArgs {
            q_positions: ids(4),
            ..none()
        }),
        "q_positions",
        "[2, 3]",
        "[1, 4]",
    );
    say(
        of(PositionalArgs {
            k_positions: ids(2),
            ..none()
        }),
        "k_positions",
        "[2, 3]",
        "[1, 2]",
    );
    say(
        of(PositionalArgs {
            q_position_mask: Some(&flags[..5]),
            ..none()
        }),
        "q_position_mask",
        "[2, 3]",
        "[5]",
    );
    say(
        of(PositionalArgs {
            k_position_mask: Some(&flags[..7]),
            ..none()
        }),
        "k_position_mask",
        "[2, 3]",
        "[7]",
    );
    for shape in [
        &[3][..],
        &[3, 4],
        &[2, 3, 3],
        &[5, 3, 3],
        &[2, 2, 3, 4],
        &[3, 2, 3, 3],
        &[1, 1, 1, 3, 3],
        &[],
    ] {
        let size: usize = shape.iter().product();
        for mask in [
            AttnMask::Blocked(&flags[..size], shape),
            AttnMask::Additive(&numbers[..size], shape),
        ] {
            let args = PositionalArgs {
                attn_mask: Some(mask),
                ..none()
            };
            say(of(args), "attn_mask", "[2, 2, 3, 3]", &format!("{shape:?}"));
            let args = PositionalArgs {
                key_padding_mask: Some(mask),
                ..none()
            };
            say(of(args), "key_padding_mask", "[2, 3]", &format!("{shape:?}"));
        }
    }

    let apart = |q: usize, k: usize, v: usize| {
        let streams = Streams::Apart {
            query: &x[..q],
            key: &x[..k],
            value: &x[..v],
        };
        forward(&module, &params, streams, &none()).unwrap_err()
    };
    say(apart(17, 16, 16), "query", "16", "17");
    say(apart(16, 33, 33), "key", "16", "33");
    say(apart(16, 32, 48), "value", "[2, 2, 8]", "[48]");

    // The adjoint's own arguments; nothing is written when one is refused.
    let mut trace = AttentionTrace::default();
    module
        .forward(&params, Streams::Same(&x), BATCH, &none(), Mode::Evaluate, &mut trace)
        .unwrap();
    let mut refused = |d_out: usize, dx: usize, x: &[f32], args: &PositionalArgs<'_, f32>, name: &str, expected: &str, given: &str| {
        let (mut grads, mut d) = (params.zeros_like(), vec![7.0; dx]);
        let (d_out, into) = (vec![1.0; d_out], StreamGrads::Same(&mut d));
        let error = module
            .adjoint(
                &params,
                Streams::Same(x),
                BATCH,
                args,
                Mode::Evaluate,
                &d_out,
                into,
                &mut grads,
                &mut trace,
            )
            .unwrap_err();
        say(error, name, expected, given);
        assert!(
            d.iter().all(|d| *d == 7.0) && grads.flat().iter().all(|g| *g == 0.0),
            "{name}: something was written"
        );
    };
    let all = BATCH * 3 * WIDTH;
    refused(all - 8, all, &x, &none(), "d_out", "[2, 3, 8]", "[40]");
    refused(all, all - 1, &x, &none(), "d_query", "[48]", "[47]");
    refused(
        all,
        all,
        &x,
        &PositionalArgs {
            q_position_mask: Some(&flags[..5]),
            ..none()
        },
        "q_position_mask",
        "[2, 3]",
        "[5]",
    );
    // A trace that another call left.
    refused(
        BATCH * 2 * WIDTH,
        BATCH * 2 * WIDTH,
        &x[..BATCH * 2 * WIDTH],
        &none(),
        "trace",
        "[2, 2, 2, 4]",
        "[48]",
    );
}
