//! The function between the two linear layers of a feed-forward network.

use crate::error::Result;
use crate::gelu::Gelu;
use crate::number::Number;
use crate::shape::size;

/// What a feed-forward network applies to its hidden numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), with the derivative 0 at 0: the default of PyTorch's transformer layers.
    #[default]
    Relu,
    /// x·Φ(x).
    Gelu(Gelu),
}

impl From<Gelu> for Activation {
    fn from(gelu: Gelu) -> Activation {
        Activation::Gelu(gelu)
    }
}

impl Activation {
    /// y is overwritten with the function of x.
    ///
    /// # Errors
    /// Lengths differ.
    pub fn forward<R: Number>(self, x: &[R], y: &mut [R]) -> Result<()> {
        size("y, of the size of x", y.len(), &[x.len()])?;
        match self {
            Activation::Relu => y.iter_mut().zip(x).for_each(|(y, x)| *y = if *x < R::ZERO { R::ZERO } else { *x }),
            Activation::Gelu(gelu) => gelu.forward(x, y)?,
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
            Activation::Relu => d.iter_mut().zip(x).filter(|(_, x)| **x <= R::ZERO).for_each(|(d, _)| *d = R::ZERO),
            Activation::Gelu(gelu) => gelu.adjoint(x, d)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relu_keeps_what_is_positive_and_gelu_is_gelu() {
        let x = [-2.0f64, 0.0, 3.0];
        let (mut y, mut d) = ([f64::NAN; 3], [5.0; 3]);
        Activation::Relu.forward(&x, &mut y).unwrap();
        Activation::Relu.adjoint(&x, &mut d).unwrap();
        assert_eq!((y, d), ([0.0, 0.0, 3.0], [0.0, 0.0, 5.0]));
        let mut exact = [f64::NAN; 3];
        Gelu::Exact.forward(&x, &mut exact).unwrap();
        Activation::from(Gelu::Exact).forward(&x, &mut y).unwrap();
        assert_eq!(y, exact);
        for activation in [Activation::Relu, Activation::from(Gelu::Exact)] {
            assert!(activation.forward(&x, &mut [0.0; 2]).is_err() && activation.adjoint(&x, &mut [0.0; 2]).is_err());
        }
    }
}
