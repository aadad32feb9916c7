//! Layer normalisation, row by row.

use super::{multiversion, sum, sum2};
use crate::number::Number;

/// Mean and 1/√(variance + ε) of a row; the variance as the mean square distance from the mean, which does not cancel.
#[inline(always)]
fn moments<R: Number>(x: &[R], eps: R) -> (R, R) {
    let inverse = R::ONE / R::of(x.len() as f64);
    let mean = sum(x, |x| x) * inverse;
    let variance = sum(x, |x| (x - mean) * (x - mean)) * inverse;
    (mean, R::ONE / (variance + eps).sqrt())
}

multiversion! {
    /// y = (x − mean)/√(variance + ε)·gain + bias, rows of the gain's length (at least 1).
    pub(crate) fn layer_norm<R: Number>(x: &[R], gain: &[R], bias: &[R], eps: R, y: &mut [R]) {
        let dim = gain.len();
        let bias = &bias[..dim];
        for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
            let (mean, scale) = moments(x, eps);
            for j in 0..dim {
                y[j] = (x[j] - mean) * scale * gain[j] + bias[j];
            }
        }
    }

    /// d, the gradient of y, becomes that of x; gradients of gain and bias are added up, rows in order.
    pub(crate) fn layer_norm_adjoint<R: Number>(x: &[R], gain: &[R], eps: R, d: &mut [R], d_gain: &mut [R], d_bias: &mut [R]) {
        let dim = gain.len();
        let (d_gain, d_bias) = (&mut d_gain[..dim], &mut d_bias[..dim]);
        for (x, d) in x.chunks_exact(dim).zip(d.chunks_exact_mut(dim)) {
            let of_x = row_adjoint(x, gain, eps, d, d_gain, d_bias);
            for j in 0..dim {
                d[j] = of_x(d[j], x[j]);
            }
        }
    }

    /// The same, added to `dx`; d is overwritten with what nobody needs.
    pub(crate) fn layer_norm_adjoint_onto<R: Number>(x: &[R], gain: &[R], eps: R, d: &mut [R], dx: &mut [R], d_gain: &mut [R], d_bias: &mut [R]) {
        let dim = gain.len();
        let (d_gain, d_bias) = (&mut d_gain[..dim], &mut d_bias[..dim]);
        for ((x, d), dx) in x.chunks_exact(dim).zip(d.chunks_exact_mut(dim)).zip(dx.chunks_exact_mut(dim)) {
            let of_x = row_adjoint(x, gain, eps, d, d_gain, d_bias);
            for j in 0..dim {
                dx[j] += of_x(d[j], x[j]);
            }
        }
    }
}

/// The adjoint of a row: d becomes e = d·gain, and the gradient of x is what is returned, of e and x:
/// (e − mean(e) − x̂·mean(e·x̂))/√(variance + ε).
#[inline(always)]
fn row_adjoint<R: Number>(x: &[R], gain: &[R], eps: R, d: &mut [R], d_gain: &mut [R], d_bias: &mut [R]) -> impl Fn(R, R) -> R + use<R> {
    let dim = gain.len();
    let inverse = R::ONE / R::of(dim as f64);
    let (mean, scale) = moments(x, eps);
    for j in 0..dim {
        let normal = (x[j] - mean) * scale;
        d_gain[j] += d[j] * normal;
        d_bias[j] += d[j];
        d[j] *= gain[j];
    }
    let e_mean = sum(d, |e| e) * inverse;
    let e_along = sum2(d, x, |e, x| e * ((x - mean) * scale)) * inverse;
    move |e, x| scale * (e - e_mean - (x - mean) * scale * e_along)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{bits, on_every_level};
    use posenc::Rng;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut rng = Rng::new(1);
        for dim in [1, 5, 16, 67] {
            let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
            let (x, gain, bias, d) = (random(3 * dim), random(dim), random(dim), random(3 * dim));
            let results = on_every_level(|| {
                let (mut y, mut d) = (vec![f32::NAN; 3 * dim], d.clone());
                let (mut d_gain, mut d_bias) = (vec![0.0; dim], vec![0.0; dim]);
                layer_norm(&x, &gain, &bias, 1e-5, &mut y);
                let (mut e, mut dx, mut again) = (d.clone(), x.clone(), [d_gain.clone(), d_bias.clone()]);
                layer_norm_adjoint(&x, &gain, 1e-5, &mut d, &mut d_gain, &mut d_bias);
                let [gain_again, bias_again] = &mut again;
                layer_norm_adjoint_onto(&x, &gain, 1e-5, &mut e, &mut dx, gain_again, bias_again);
                assert!(dx.iter().zip(&x).zip(&d).all(|((sum, x), d)| *sum == x + d));
                assert!(again[0] == d_gain && again[1] == d_bias);
                [bits(&y), bits(&d), bits(&d_gain), bits(&d_bias)]
            });
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "dim {dim}");
        }
    }
}
