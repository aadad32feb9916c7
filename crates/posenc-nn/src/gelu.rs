//! The Gaussian error linear unit (Hendrycks and Gimpel 2016).

use crate::error::Result;
use crate::kernels;
use crate::number::Number;
use crate::shape::size;

/// x·Φ(x), exactly or by the paper's approximation.
///
/// In f32, values are within 2·10⁻⁷·max(1, |y|) of the exact function and derivatives within 3·10⁻⁷, the same bits on every instruction set. Where
/// the result would be below 2⁻⁹⁶ it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gelu {
    /// x·Φ(x): PyTorch's default, and BERT's.
    #[default]
    Exact,
    /// x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2: GPT-2's (`gelu_new`, `gelu_pytorch_tanh`).
    Tanh,
}

impl Gelu {
    /// y = gelu(x), y overwritten.
    ///
    /// # Errors
    /// Lengths differ.
    pub fn forward<R: Number>(self, x: &[R], y: &mut [R]) -> Result<()> {
        size("y, of the size of x", y.len(), &[x.len()])?;
        match self {
            Gelu::Exact => kernels::gelu_exact(x, y),
            Gelu::Tanh => kernels::gelu_tanh(x, y),
        }
        Ok(())
    }

    /// d comes as the gradient of y and leaves as that of x, the input of the forward pass.
    ///
    /// # Errors
    /// Lengths differ.
    pub fn adjoint<R: Number>(self, x: &[R], d: &mut [R]) -> Result<()> {
        size("d, of the size of x", d.len(), &[x.len()])?;
        match self {
            Gelu::Exact => kernels::gelu_exact_adjoint(x, d),
            Gelu::Tanh => kernels::gelu_tanh_adjoint(x, d),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};

    /// |y| ≤ 5 and |y‴| ≤ 2 on the range, one element at a time.
    #[test]
    fn adjoint_matches_finite_differences() {
        let x: Vec<f64> = (-50..=50).map(|i| f64::from(i) * 0.1).collect();
        for gelu in [Gelu::Exact, Gelu::Tanh] {
            let mut d = vec![1.0; x.len()];
            gelu.adjoint(&x, &mut d).unwrap();
            let differences: Vec<f64> = x
                .iter()
                .flat_map(|x| {
                    finite_differences(&[*x], 0..1, |x| {
                        let mut y = [f64::NAN];
                        gelu.forward(x, &mut y).unwrap();
                        y[0]
                    })
                })
                .collect();
            assert!(worst(&d, &differences).unwrap().error < tolerance(5.0), "{gelu:?}");
        }
    }

    /// From PyTorch's documentation of its formulas: gelu(1) = 0.8413447…, and 0.8411919… by tanh.
    #[test]
    fn known_values() {
        let mut y = [f64::NAN; 2];
        Gelu::Exact.forward(&[1.0, -1.0], &mut y).unwrap();
        assert!((y[0] - 0.841_344_746_068_542_9).abs() < 1e-15 && (y[1] + 0.158_655_253_931_457_05).abs() < 1e-15);
        Gelu::Tanh.forward(&[1.0, -1.0], &mut y).unwrap();
        assert!((y[0] - 0.841_191_990_608_276_8).abs() < 1e-15);
        assert!(Gelu::Exact.forward(&[1.0], &mut y).is_err());
        assert!(Gelu::Tanh.adjoint(&[1.0], &mut y).is_err());
    }
}
