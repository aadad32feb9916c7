//! The function between the two linear layers of a feed-forward network.

use crate::error::Result;
use crate::gelu::Gelu;
use crate::kernels;
use crate::number::Number;
use crate::shape::{rows, size};

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

    /// y is overwritten with the function of x + bias, where x has rows of the bias's length, and x with its slope there: with [`Activation::adjoint_by_slope`] a layer of a network in
    /// training, in about half the time of [`Activation::forward`] and [`Activation::adjoint`]. [`Linear::forward_activated`](crate::Linear::forward_activated) is a linear layer with it.
    ///
    /// # Errors
    /// Lengths differ, or x is not whole rows.
    ///
    /// ```
    /// use posenc_nn::Activation;
    ///
    /// let (mut x, mut y) = ([1.0f32, -3.0, 1.0, 5.0], [f32::NAN; 4]);
    /// Activation::Relu.forward_with_slope(Some(&[1.0, -1.0]), &mut x, &mut y)?;
    /// assert_eq!((x, y), ([1.0, 0.0, 1.0, 1.0], [2.0, 0.0, 2.0, 4.0]));
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    pub fn forward_with_slope<R: Number>(self, bias: Option<&[R]>, x: &mut [R], y: &mut [R]) -> Result<()> {
        size("y, of the size of x", y.len(), &[x.len()])?;
        if let Some(bias) = bias {
            rows("x [n, bias]", x.len(), "the bias's length", bias.len())?;
        }
        let bias = bias.unwrap_or_default();
        match self {
            Activation::Relu => kernels::relu_with_slope(x, bias, y),
            Activation::Gelu(Gelu::Exact) => kernels::gelu_exact_with_slope(x, bias, y),
            Activation::Gelu(Gelu::Tanh) => kernels::gelu_tanh_with_slope(x, bias, y),
        }
        Ok(())
    }

    /// d comes as the gradient of y and leaves as that of what the function was applied to, whose slope [`Activation::forward_with_slope`] left.
    ///
    /// # Errors
    /// Lengths differ.
    pub fn adjoint_by_slope<R: Number>(slope: &[R], d: &mut [R]) -> Result<()> {
        size("d, of the size of the slope", d.len(), &[slope.len()])?;
        kernels::multiply(slope, d);
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
            let (mut slope, mut y, mut d) = (x, [f64::NAN; 3], [5.0; 3]);
            assert!(activation.forward_with_slope(None, &mut slope, &mut [0.0; 2]).is_err());
            assert!(activation.forward_with_slope(Some(&[0.0; 2]), &mut slope, &mut y).is_err());
            assert!(activation.forward_with_slope(Some(&[]), &mut slope, &mut y).is_err());
            assert!(Activation::adjoint_by_slope(&slope, &mut d[..2]).is_err());
            assert_eq!((slope, d), (x, [5.0; 3]));
            activation.forward_with_slope(None, &mut slope, &mut y).unwrap();
            Activation::adjoint_by_slope(&slope, &mut d).unwrap();
            let (mut expected, mut d_expected) = ([f64::NAN; 3], [5.0; 3]);
            activation.forward(&x, &mut expected).unwrap();
            activation.adjoint(&x, &mut d_expected).unwrap();
            assert_eq!((y, d), (expected, d_expected));
        }
    }
}
