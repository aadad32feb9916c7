//! How far a pass may lie from exact numbers for no other reason than rounding.

use crate::WIDTH;
use posenc::{Method, Params};
use posenc_nn::PositionalMultiheadAttention;

/// Largest distance, mask or scale of a score that a check has besides its parameters.
const LARGEST_PENALTY: f64 = 24.0;

/// The worst case for unit roundoff `u` (Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3): an operation is off by u of its result, a sum of
/// n by n times u of the sum of magnitudes; a score that is off by δ makes each weight wrong by the share 2δ. Magnitudes are the largest of the streams
/// `all` `[.., WIDTH]` (queries, keys, values); a head's error travels through q·k by its length, which a rotation keeps.
///
/// For two passes in the same precision it is twice this. The error of f64 beside that of f32 is 2⁻²⁹ of it, and lies within what magnitudes leave over.
pub fn bound(module: &PositionalMultiheadAttention, params: &Params<f64>, all: [&[f64]; 3], keys: usize, u: f64) -> f64 {
    let tensor = |name: &str| params.get(name).expect("its own parameter");
    let largest = |x: &[f64]| x.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let dims = module.plan.dims();
    let (dim, width, keys) = (dims.head_dim as f64, WIDTH as f64, keys as f64);
    let has = |is: fn(&Method) -> bool| module.plan.encoding().methods.iter().any(is);
    // The encoding's numbers: a table's, or sines; what of them is added to vectors, and what to scores.
    let own = module
        .plan
        .parameters()
        .iter()
        .map(|spec| largest(tensor(&spec.name)))
        .fold(0.0, f64::max);
    let sines = if has(|m| matches!(m, Method::Sinusoidal(_))) { 1.0 } else { 0.0 };
    let added = if has(|m| matches!(m, Method::InputTable(_))) { own } else { sines };
    let sinks = if module.attn.attention.sinks {
        largest(tensor("attn.sinks"))
    } else {
        0.0
    };
    let penalty = LARGEST_PENALTY + sinks;

    // A projected head: its length, and the length of its error. Each number is a sum of width + 1 products of rounded sums; then come a rotation (4) and an
    // addition (1). What is added to a stream, or to the projection, is at most `added` per number.
    let (w, b) = (tensor("attn.in_proj_weight"), tensor("attn.in_proj_bias"));
    let mut roles = module.attn.in_proj_rows().into_iter().zip(all).map(|(rows, x)| {
        let (mut length, mut error, mut shortest) = (0.0, 0.0, f64::INFINITY);
        for token in x.chunks(WIDTH) {
            for head in rows.clone().step_by(dims.head_dim) {
                let (mut squares, mut errors, mut own_squares) = (0.0, 0.0, 0.0);
                for r in head..head + dims.head_dim {
                    let row = &w[r * WIDTH..][..WIDTH];
                    let value = row.iter().zip(token).map(|(w, x)| w * x).sum::<f64>() + b[r];
                    let more = added * (row.iter().map(|w| w.abs()).sum::<f64>() + 1.0);
                    let magnitude = row.iter().zip(token).map(|(w, x)| (w * x).abs()).sum::<f64>() + b[r].abs() + more;
                    squares += (value.abs() + more).powi(2);
                    own_squares += value * value;
                    errors += ((width + 8.0) * u * magnitude).powi(2);
                }
                length = f64::max(length, squares.sqrt());
                error = f64::max(error, errors.sqrt());
                shortest = f64::min(shortest, own_squares);
            }
        }
        (length, error, shortest)
    });
    let mut side = |norm: &str| {
        let (length, error, shortest) = roles.next().expect("three roles");
        match module.attn.qk_norm {
            // x/√(mean x² + ε): the error relative to the root twice, once through each; then a gain.
            Some(eps) if !norm.is_empty() => {
                let gain = largest(tensor(&format!("attn.{norm}.weight")));
                let root = (shortest / dim + eps).sqrt();
                let length = gain * dim.sqrt();
                (length, 2.0 * error / root * gain + (dim + 8.0) * u * length)
            }
            _ => (length, error),
        }
    };
    let ((q, d_q), (k, d_k), (v, d_v)) = (side("q_norm"), side("k_norm"), side(""));

    // A score: q·k and, with Shaw's vectors, q·a; scaled; what is added to it; the exponential (4) of a difference.
    let scale = module.attn.attention.scale_for(dims.head_dim);
    let vector = own * dim.sqrt();
    let size = scale * q * (k + vector) + own + penalty;
    let d_score = scale * (d_q * (k + vector) + q * d_k) + (dim + 8.0) * u * size;
    // A mean of values, and of vectors per distance.
    let value = v + vector;
    let d_context = value * (2.0 * d_score + (2.0 * keys + 8.0) * u) + d_v;
    let out = tensor("attn.out_proj.weight")
        .chunks(WIDTH)
        .map(|row| row.iter().map(|x| x.abs()).sum::<f64>())
        .fold(0.0, f64::max);
    out * d_context + (width + 2.0) * u * (out * value + largest(tensor("attn.out_proj.bias")))
}
