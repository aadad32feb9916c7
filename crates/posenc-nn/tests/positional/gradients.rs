//! The adjoint, against finite differences and against itself.

use crate::{BATCH, HEADS, WIDTH, additive_pos, forward, gradients, random, tables, with_params};
use posenc::{Alibi, Encoding, InputTable, Mode, Pairing, Params, Positions, Rotary, T5Bias};
use posenc_nn::check::{finite_differences, tolerance, worst};
use posenc_nn::{AttentionTrace, AttnMask, PositionalArgs, PositionalMultiheadAttention, StreamGrads, Streams};

/// The adjoint against central differences in f64, for cross-attention of 3 queries over 5 keys, for every input and every parameter. The loss is a
/// sum of 48 products of order 1, and so are its derivatives: tolerance of that size.
pub fn check_gradients(module: &PositionalMultiheadAttention, args: &PositionalArgs<'_, f64>) {
    let params = with_params::<f64>(module);
    let x = [
        random(BATCH * 3 * WIDTH, 1),
        random(BATCH * 5 * WIDTH, 2),
        random(BATCH * 5 * WIDTH, 3),
    ];
    let d_out: Vec<f64> = random(BATCH * 3 * WIDTH, 4);
    let loss = |params: &Params<f64>, x: [&[f64]; 3]| -> f64 {
        let [query, key, value] = x;
        let output = forward(module, params, Streams::Apart { query, key, value }, args).unwrap();
        output.out.iter().zip(&d_out).map(|(o, d)| o * d).sum()
    };
    let all = [&x[0][..], &x[1], &x[2]];
    let (_, d, grads) = gradients(module, &params, all, args, &d_out);
    for side in 0..3 {
        let differences = finite_differences(all[side], 0..all[side].len(), |moved| {
            let mut all = all;
            all[side] = moved;
            loss(&params, all)
        });
        let worst = worst(&d[side], &differences).unwrap();
        assert!(worst.error < tolerance(50.0), "{module}, stream {side}: {worst:?}");
    }
    let differences = finite_differences(params.flat(), 0..params.size(), |flat| {
        let mut moved = params.clone();
        moved.flat_mut().copy_from_slice(flat);
        loss(&moved, all)
    });
    let worst = worst(grads.flat(), &differences).unwrap();
    assert!(worst.error < tolerance(50.0), "{module}, parameters: {worst:?}");
}

#[test]
fn adjoint_matches_finite_differences_with_positions_and_masks() {
    let per_head: Vec<bool> = (0..BATCH * HEADS * 15).map(|i| i % 4 == 1 || i / 5 == 2).collect();
    let added: Vec<f64> = random(15, 9);
    let padding = [false, false, true, false, false, true, false, false, false, false];
    let soft: Vec<f64> = random(BATCH * 5, 10);
    let q_rows = Positions::whole_rows(&[4, 0, 4, 11, 2, 3], BATCH).unwrap();
    let args = [
        PositionalArgs::default(),
        PositionalArgs {
            q_positions: Some(q_rows.clone()),
            k_positions: Some(Positions::whole(&[0, 1, 1, 7, 4])),
            k_position_mask: Some(&[true, true, false, true, true]),
            attn_mask: Some(AttnMask::Blocked(&per_head, &[BATCH * HEADS, 3, 5])),
            need_weights: true,
            ..Default::default()
        },
        PositionalArgs {
            q_positions: Some(q_rows),
            q_position_mask: Some(&[true, false, true, true, true, false]),
            attn_mask: Some(AttnMask::Additive(&added, &[3, 5])),
            key_padding_mask: Some(AttnMask::Blocked(&padding, &[BATCH, 5])),
            causal: Some(2),
            ..Default::default()
        },
        PositionalArgs {
            k_positions: Some(Positions::range(3..8)),
            key_padding_mask: Some(AttnMask::Additive(&soft, &[BATCH, 5])),
            causal: Some(0),
            ..Default::default()
        },
    ];
    let any = |encoding: Encoding| PositionalMultiheadAttention::new(&encoding, WIDTH, HEADS).unwrap();
    for args in &args {
        check_gradients(&additive_pos(), args);
        check_gradients(&additive_pos().named("layers.3.attn").without_bias(), args);
        check_gradients(&any(Encoding::from(InputTable::new(12).projected()).with(Alibi::symmetric())), args);
        check_gradients(
            &any(Encoding::from(Rotary::new(Pairing::Interleaved)).with(T5Bias::encoder())),
            args,
        );
    }
}

/// Of the weights that project tables, and of the rows that they project.
#[test]
fn adjoint_of_projected_tables_matches_finite_differences() {
    let ids = Positions::whole_rows(&[4, 0, 2, 9, 9, 1], BATCH).unwrap();
    let args = [
        PositionalArgs {
            q_positions: Some(ids),
            k_position_mask: Some(&[true, true, false, true, true]),
            need_weights: true,
            ..Default::default()
        },
        PositionalArgs {
            q_positions: Some(Positions::range(2..5)),
            causal: Some(2),
            ..Default::default()
        },
    ];
    for args in &args {
        for module in tables::modules() {
            check_gradients(&module, args);
        }
    }
}

#[test]
fn a_stream_passed_three_times_gets_the_sum_of_its_gradients() {
    let (module, args) = (
        additive_pos(),
        PositionalArgs {
            causal: Some(0),
            ..Default::default()
        },
    );
    let params = with_params::<f64>(&module);
    let (x, d_out): (Vec<f64>, Vec<f64>) = (random(BATCH * 5 * WIDTH, 1), random(BATCH * 5 * WIDTH, 2));
    let (out, apart, grads) = gradients(&module, &params, [&x; 3], &args, &d_out);
    let (mut trace, mut same_grads, mut dx) = (AttentionTrace::default(), params.zeros_like(), vec![f64::NAN; x.len()]);
    let (streams, mode) = (Streams::Same(&x[..]), Mode::Evaluate);
    let output = module.forward(&params, streams, BATCH, &args, mode, &mut trace).unwrap();
    let into = StreamGrads::Same(&mut dx);
    module
        .adjoint(&params, streams, BATCH, &args, mode, &d_out, into, &mut same_grads, &mut trace)
        .unwrap();
    assert_eq!(output.out, out);
    assert_eq!(same_grads.flat(), grads.flat());
    for i in 0..dx.len() {
        assert_eq!(dx[i], apart[0][i] + apart[1][i] + apart[2][i]);
    }
}
