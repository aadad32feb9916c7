//! Softmax of one row of logits.

use super::vector::{LANES, tree};
use super::{multiversion, sum};
use crate::number::Number;

/// The largest element of a row that is not NaN; −∞ if there is none.
#[inline(always)]
fn largest<R: Number>(x: &[R]) -> R {
    let mut lanes = [R::NEG_INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for x in &mut chunks {
        for l in 0..LANES {
            lanes[l] = x[l].max(lanes[l]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = x.max(*lane);
    }
    tree(lanes, |a, b| a.max(b))
}

#[inline(always)]
#[expect(clippy::eq_op, reason = "NaN is what differs from itself")]
fn is_nan<R: Number>(x: R) -> bool {
    x != x
}

multiversion! {
    /// ln Σ eˣ, stable. NaN where the row holds NaN or +∞, or nothing but −∞.
    pub(crate) fn log_sum_exp<R: Number>(x: &[R]) -> R {
        let top = largest(x);
        let total = sum(x, |x| (x - top).softmax_exp());
        // The exponential maps NaN to 0; a sum of distances does not, and costs one addition.
        let distance = sum(x, |x| x - top);
        if is_nan(distance) { distance } else { total.ln() + top }
    }

    /// x becomes factor·softmax(x); ln Σ eˣ is returned. NaN as in [`log_sum_exp`], then x is NaN throughout.
    pub(crate) fn softmax_scaled<R: Number>(x: &mut [R], factor: R) -> R {
        let top = largest(x);
        let mut totals = [R::ZERO; LANES];
        let mut distances = [R::ZERO; LANES];
        let mut chunks = x.chunks_exact_mut(LANES);
        for x in &mut chunks {
            for l in 0..LANES {
                let distance = x[l] - top;
                let e = distance.softmax_exp();
                distances[l] += distance;
                totals[l] += e;
                x[l] = e;
            }
        }
        for (l, x) in chunks.into_remainder().iter_mut().enumerate() {
            let distance = *x - top;
            let e = distance.softmax_exp();
            distances[l] += distance;
            totals[l] += e;
            *x = e;
        }
        let distance = tree(distances, |a, b| a + b);
        if is_nan(distance) {
            x.fill(distance);
            return distance;
        }
        let total = tree(totals, |a, b| a + b);
        let factor = factor / total;
        for x in x {
            *x *= factor;
        }
        total.ln() + top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{bits, on_every_level};
    use posenc::Rng;

    #[test]
    fn every_instruction_set_gives_the_same_bits_and_both_forms_agree() {
        let mut rng = Rng::new(1);
        for n in [1, 15, 16, 17, 300] {
            let x: Vec<f32> = (0..n).map(|_| 5.0 * rng.normal() as f32).collect();
            let results = on_every_level(|| {
                let mut p = x.clone();
                let total = softmax_scaled(&mut p, 1.0);
                assert_eq!(total.to_bits(), log_sum_exp(&x).to_bits());
                (total.to_bits(), bits(&p))
            });
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn nan_is_not_hidden_and_masked_logits_are_zero() {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 20] {
                let mut x = vec![0.5f32; 21];
                x[at] = bad;
                assert!(log_sum_exp(&x).is_nan());
                assert!(softmax_scaled(&mut x, 1.0).is_nan() && x.iter().all(|x| x.is_nan()));
            }
        }
        assert!(log_sum_exp(&[f32::NEG_INFINITY; 3]).is_nan());
        let mut x = [f32::NEG_INFINITY, 0.0, 0.0];
        softmax_scaled(&mut x, 1.0);
        assert_eq!(x, [0.0, 0.5, 0.5]);
    }
}
