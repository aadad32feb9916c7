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

multiversion! {
    /// ln Σ eˣ, stable. NaN where the row holds NaN or +∞, or nothing but −∞.
    pub(crate) fn log_sum_exp<R: Number>(x: &[R]) -> R {
        let top = largest(x);
        // NaN passes through the exponential, and so into the sum.
        sum(x, |x| (x - top).softmax_exp()).ln() + top
    }

    /// x becomes factor·softmax(x); ln Σ eˣ is returned. NaN as in [`log_sum_exp`], then x is NaN throughout.
    pub(crate) fn softmax_scaled<R: Number>(x: &mut [R], factor: R) -> R {
        let top = largest(x);
        let mut totals = [R::ZERO; LANES];
        let mut chunks = x.chunks_exact_mut(LANES);
        for x in &mut chunks {
            for l in 0..LANES {
                let e = (x[l] - top).softmax_exp();
                totals[l] += e;
                x[l] = e;
            }
        }
        for (l, x) in chunks.into_remainder().iter_mut().enumerate() {
            let e = (*x - top).softmax_exp();
            totals[l] += e;
            *x = e;
        }
        // NaN passes through the exponential into the total, and from there into every element.
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
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            // Among whole lanes, in the remainder, and beside a masked logit whose exponential is 0.
            for (at, other) in [(0, 0.5), (20, 0.5), (7, f32::NEG_INFINITY), (20, f32::NEG_INFINITY)] {
                on_every_level(|| {
                    let mut x = vec![other; 21];
                    x[at] = bad;
                    assert!(log_sum_exp(&x).is_nan());
                    assert!(softmax_scaled(&mut x, 1.0).is_nan() && x.iter().all(|x| x.is_nan()));
                });
            }
        }
        for n in [3, 21] {
            assert!(log_sum_exp(&vec![f32::NEG_INFINITY; n]).is_nan());
            assert!(log_sum_exp(&vec![f64::NEG_INFINITY; n]).is_nan());
        }
        let mut x = [f32::NEG_INFINITY, 0.0, 0.0];
        softmax_scaled(&mut x, 1.0);
        assert_eq!(x, [0.0, 0.5, 0.5]);
    }
}
