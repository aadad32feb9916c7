//! Cross-entropy of the next token.

use crate::embedding::Token;
use crate::error::{Error, Result};
use crate::kernels;
use crate::number::Number;
use crate::shape::{rows, size};

/// What a row of logits should predict: a [`Token`], or `Option<Token>` where some rows do not count.
pub trait Target: Copy {
    /// The token's index; `None` for a row that does not count.
    fn target(self) -> Option<usize>;
}

impl<T: Token> Target for T {
    fn target(self) -> Option<usize> {
        Some(self.index())
    }
}

impl<T: Token> Target for Option<T> {
    fn target(self) -> Option<usize> {
        self.map(Token::index)
    }
}

/// −ln softmax(logits) at the target per row, in nats, and their mean over the rows that count, summed in f64 in order.
///
/// `logits` are `[n, vocab]`, `targets` and `losses` `[n]`; losses are overwritten, with 0 where a target is `None`. −∞ is a legal logit; NaN and +∞
/// give NaN.
///
/// # Errors
/// Sizes do not fit, a target is past the vocabulary, or no target counts.
pub fn cross_entropy<R: Number, T: Target>(logits: &[R], vocab: usize, targets: &[T], losses: &mut [R]) -> Result<f64> {
    check(logits.len(), vocab, targets, losses.len())?;
    for ((row, target), loss) in logits.chunks_exact(vocab).zip(targets).zip(&mut *losses) {
        *loss = match target.target() {
            Some(target) => kernels::log_sum_exp(row) - row[target],
            None => R::ZERO,
        };
    }
    Ok(mean(targets, losses))
}

/// [`cross_entropy`] and its adjoint in one pass: `logits` become scale·(softmax(logits) − onehot(target)), and 0 in rows that do not count.
///
/// `scale` is the weight of one row in what is minimised: 1 / (rows that count) for the mean, over all micro-batches if there are several.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_adjoint<R: Number, T: Target>(
    logits: &mut [R],
    vocab: usize,
    targets: &[T],
    scale: R,
    losses: &mut [R],
) -> Result<f64> {
    check(logits.len(), vocab, targets, losses.len())?;
    for ((row, target), loss) in logits.chunks_exact_mut(vocab).zip(targets).zip(&mut *losses) {
        match target.target() {
            Some(target) => {
                let chosen = row[target];
                *loss = kernels::softmax_scaled(row, scale) - chosen;
                row[target] -= scale;
            }
            None => {
                *loss = R::ZERO;
                row.fill(R::ZERO);
            }
        }
    }
    Ok(mean(targets, losses))
}

fn check<T: Target>(logits: usize, vocab: usize, targets: &[T], losses: usize) -> Result<()> {
    let n = rows("logits [n, vocab]", logits, "vocab", vocab)?;
    size("targets [n]", targets.len(), &[n])?;
    size("losses [n]", losses, &[n])?;
    let mut counted = 0;
    for (index, target) in targets.iter().enumerate() {
        let Some(token) = target.target() else { continue };
        if token >= vocab {
            return Err(Error::Token {
                what: "targets",
                token,
                index,
                vocab,
            });
        }
        counted += 1;
    }
    if counted == 0 { Err(Error::NoTargets) } else { Ok(()) }
}

fn mean<R: Number, T: Target>(targets: &[T], losses: &[R]) -> f64 {
    let counted = targets.iter().filter(|target| target.target().is_some()).count();
    losses.iter().map(|loss| loss.to_f64()).sum::<f64>() / counted as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};
    use posenc::Rng;

    fn naive(row: &[f32], target: usize) -> (f64, Vec<f64>) {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|x| (x - top).exp()).sum();
        (
            total.ln() + top - row[target],
            row.iter().map(|x| (x - top).exp() / total).collect(),
        )
    }

    /// Loss: ln and the difference lose ε·max(|logits|, ln vocab); the sum of v terms in 16 lanes v/16·ε, the exponential 2 ulp.
    /// Softmax, relative: those of the sum and the exponential, and ε·|x − max| for rounding its argument.
    #[test]
    fn f32_matches_the_naive_sum_in_f64() {
        let mut rng = Rng::new(3);
        for (n, vocab, spread) in [(3, 1, 1.0), (4, 7, 3.0), (2, 256, 10.0), (2, 1003, 30.0)] {
            let logits: Vec<f32> = (0..n * vocab).map(|_| (spread * rng.normal()) as f32).collect();
            let targets: Vec<usize> = (0..n).map(|i| (i * 5) % vocab).collect();
            let (mut losses, mut again, mut gradient) = (vec![f32::NAN; n], vec![f32::NAN; n], logits.clone());
            let mean = cross_entropy(&logits, vocab, &targets, &mut losses).unwrap();
            let same = cross_entropy_adjoint(&mut gradient, vocab, &targets, 0.5, &mut again).unwrap();
            assert_eq!((mean, &losses), (same, &again));
            let eps = f64::from(f32::EPSILON);
            for i in 0..n {
                let row = &logits[i * vocab..][..vocab];
                let (loss, softmax) = naive(row, targets[i]);
                let largest = row.iter().fold(0.0f32, |m, x| m.max(x.abs())) as f64;
                let sum_error = (vocab as f64 / 16.0 + 8.0) * eps;
                assert!((f64::from(losses[i]) - loss).abs() <= sum_error + 2.0 * eps * largest.max((vocab as f64).ln()));
                for j in 0..vocab {
                    let exact = 0.5 * (softmax[j] - if j == targets[i] { 1.0 } else { 0.0 });
                    let allowed = 0.5 * softmax[j] * (sum_error + 2.0 * largest * eps) + eps * exact.abs() + 1e-28;
                    assert!((f64::from(gradient[i * vocab + j]) - exact).abs() <= allowed + 0.5 * eps);
                }
            }
        }
    }

    /// A mean loss near 2 whose third derivatives are below 1.
    #[test]
    fn adjoint_matches_finite_differences() {
        let mut rng = Rng::new(4);
        let logits: Vec<f64> = (0..3 * 5).map(|_| rng.normal()).collect();
        let targets = [Some(4u16), None, Some(0)];
        let mut gradient = logits.clone();
        let mut losses = [f64::NAN; 3];
        cross_entropy_adjoint(&mut gradient, 5, &targets, 0.5, &mut losses).unwrap();
        assert_eq!(losses[1], 0.0);
        let differences = finite_differences(&logits, 0..15, |x| cross_entropy(x, 5, &targets, &mut losses).unwrap());
        assert!(worst(&gradient, &differences).unwrap().error < tolerance(2.0));
    }

    #[test]
    fn extreme_logits_are_stable_and_bad_input_is_refused() {
        let mut losses = [f32::NAN; 2];
        cross_entropy(&[1e30f32, -1e30, 500.0, 500.0], 2, &[0u8, 1], &mut losses).unwrap();
        assert_eq!(losses[0], 0.0);
        assert!((losses[1] - std::f32::consts::LN_2).abs() < 4e-5, "an ulp at 500 is 3e-5");
        assert!(cross_entropy(&[f32::NAN, 0.0], 2, &[1u8], &mut losses[..1]).unwrap().is_nan());

        let mut logits = [1.0f32; 4];
        let mut losses = [9.0f32; 2];
        assert!(matches!(
            cross_entropy_adjoint(&mut logits, 2, &[0u16, 2], 1.0, &mut losses),
            Err(Error::Token { token: 2, index: 1, .. })
        ));
        assert!(matches!(
            cross_entropy_adjoint(&mut logits, 2, &[None::<u16>; 2], 1.0, &mut losses),
            Err(Error::NoTargets)
        ));
        assert!(cross_entropy_adjoint(&mut logits, 0, &[0u16; 2], 1.0, &mut losses).is_err());
        assert!(cross_entropy_adjoint(&mut logits, 3, &[0u16; 2], 1.0, &mut losses).is_err());
        assert!(cross_entropy(&logits, 2, &[0u16], &mut losses).is_err());
        assert_eq!((logits, losses), ([1.0; 4], [9.0; 2]));
    }
}
