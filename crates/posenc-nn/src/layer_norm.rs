//! Layer normalisation (Ba, Kiros, Hinton 2016).

use crate::error::Result;
use crate::kernels;
use crate::number::Number;
use crate::shape::{epsilon, gradient, rows, size, tensor};
use posenc::{Init, ParamSpec, Params};
use std::borrow::Cow;

/// y = (x − mean)/√(variance + ε)·gain + bias over the last axis; `{name}.weight` `[dim]` begins at 1, `{name}.bias` `[dim]`, if it has one, at 0.
///
/// The variance is the biased one, as in PyTorch. Nothing is saved for the adjoint: mean and variance of a row that is in cache cost less than the
/// memory to keep them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Its name in the store.
    pub name: String,
    /// Width of a row.
    pub dim: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether it has a bias.
    pub bias: bool,
}

impl LayerNorm {
    /// With ε = 1e-5, as in PyTorch.
    pub fn new(name: impl Into<String>, dim: usize) -> LayerNorm {
        LayerNorm {
            name: name.into(),
            dim,
            eps: 1e-5,
            bias: true,
        }
    }

    /// The same layer without a bias.
    pub fn without_bias(self) -> LayerNorm {
        LayerNorm { bias: false, ..self }
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        std::iter::once(self.gain()).chain(self.bias_spec()).collect()
    }

    fn gain(&self) -> ParamSpec {
        ParamSpec::new(format!("{}.weight", self.name), [self.dim], Init::Ones)
    }

    fn bias_spec(&self) -> Option<ParamSpec> {
        self.bias
            .then(|| ParamSpec::new(format!("{}.bias", self.name), [self.dim], Init::Zeros))
    }

    /// x is `[n, dim]`; y `[n, dim]` is overwritten.
    ///
    /// # Errors
    /// x is not whole rows, y has another size, ε is not positive, or a parameter is missing or of another shape.
    pub fn forward<R: Number>(&self, params: &Params<R>, x: &[R], y: &mut [R]) -> Result<()> {
        let n = rows("x [n, dim]", x.len(), "dim", self.dim)?;
        size("y [n, dim]", y.len(), &[n, self.dim])?;
        let eps = epsilon(self.eps)?;
        let gain = tensor(params, &self.gain())?;
        let bias = match self.bias_spec() {
            Some(spec) => Cow::Borrowed(tensor(params, &spec)?),
            None => Cow::Owned(vec![R::ZERO; self.dim]),
        };
        kernels::layer_norm(x, gain, &bias, eps, y);
        Ok(())
    }

    /// d `[n, dim]` comes as the gradient of y and leaves as that of x; gradients of gain and bias are added to `grads`. `x` is the input of the
    /// forward pass.
    ///
    /// # Errors
    /// As [`LayerNorm::forward`], of either store.
    pub fn adjoint<R: Number>(&self, params: &Params<R>, x: &[R], d: &mut [R], grads: &mut Params<R>) -> Result<()> {
        self.any_adjoint(params, x, d, None, grads)
    }

    /// The same, with the gradient of x added to `dx` `[n, dim]`, which a residual connection past the norm has: in one pass. What is left in `d` is nothing that a caller could use.
    ///
    /// # Errors
    /// As [`LayerNorm::adjoint`], or `dx` of another size.
    pub fn adjoint_onto<R: Number>(&self, params: &Params<R>, x: &[R], d: &mut [R], dx: &mut [R], grads: &mut Params<R>) -> Result<()> {
        size("dx, of the size of x", dx.len(), &[x.len()])?;
        self.any_adjoint(params, x, d, Some(dx), grads)
    }

    fn any_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        d: &mut [R],
        onto: Option<&mut [R]>,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let n = rows("x [n, dim]", x.len(), "dim", self.dim)?;
        size("d [n, dim]", d.len(), &[n, self.dim])?;
        let eps = epsilon(self.eps)?;
        let gain = tensor(params, &self.gain())?;
        for spec in self.specs() {
            gradient(grads, &spec)?;
        }
        // The store lends one tensor at a time; the bias's gradient is summed beside it.
        let bias = self.bias_spec();
        let mut d_bias = match &bias {
            Some(spec) => gradient(grads, spec)?.to_vec(),
            None => vec![R::ZERO; self.dim],
        };
        let d_gain = gradient(grads, &self.gain())?;
        match onto {
            Some(dx) => kernels::layer_norm_adjoint_onto(x, gain, eps, d, dx, d_gain, &mut d_bias),
            None => kernels::layer_norm_adjoint(x, gain, eps, d, d_gain, &mut d_bias),
        }
        if let Some(spec) = &bias {
            gradient(grads, spec)?.copy_from_slice(&d_bias);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};
    use posenc::Rng;

    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let norm = LayerNorm::new("ln", 37);
        let params: Params<f32> = Params::init(&norm.specs(), 1).unwrap();
        let mut rng = Rng::new(1);
        // A mean a thousand times the spread: a variance from E x² − (E x)² would be noise.
        let x: Vec<f32> = (0..2 * 37).map(|_| 1000.0 + rng.normal() as f32).collect();
        let mut y = vec![f32::NAN; x.len()];
        norm.forward(&params, &x, &mut y).unwrap();
        for (x, y) in x.chunks(37).zip(y.chunks(37)) {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / 37.0;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 37.0;
            for (x, y) in x.iter().zip(y) {
                // The mean of 37 numbers near 1000 in f32: an ulp there is 6e-5, and the tree sum loses at most a few.
                let exact = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
                assert!((f64::from(*y) - exact).abs() < 4.0 * 6.1e-5, "{y} {exact}");
            }
        }
    }

    /// Loss = Σ w·y with y of order 1 and 18 terms; third derivatives of the normalisation of 6 numbers reach some tens.
    #[test]
    fn adjoint_matches_finite_differences() {
        let mut rng = Rng::new(9);
        for norm in [LayerNorm::new("ln", 6), LayerNorm::new("ln", 6).without_bias()] {
            check_adjoint(&norm, &mut rng);
        }
    }

    fn check_adjoint(norm: &LayerNorm, rng: &mut Rng) {
        let mut params: Params<f64> = Params::init(&norm.specs(), 1).unwrap();
        params.flat_mut().iter_mut().for_each(|p| *p += 0.3 * rng.normal());
        let x: Vec<f64> = (0..18).map(|_| 2.0 * rng.normal() + 1.0).collect();
        let w: Vec<f64> = (0..18).map(|_| rng.normal()).collect();
        let loss = |params: &Params<f64>, x: &[f64]| {
            let mut y = vec![f64::NAN; x.len()];
            norm.forward(params, x, &mut y).unwrap();
            y.iter().zip(&w).map(|(y, w)| y * w).sum::<f64>()
        };
        let (mut d, mut grads) = (w.clone(), params.zeros_like());
        grads.flat_mut().fill(-2.0);
        norm.adjoint(&params, &x, &mut d, &mut grads).unwrap();
        grads.flat_mut().iter_mut().for_each(|g| *g += 2.0);

        let by_x = finite_differences(&x, 0..x.len(), |x| loss(&params, x));
        assert!(worst(&d, &by_x).unwrap().error < tolerance(50.0));
        let by_params = finite_differences(params.flat(), 0..params.size(), |flat| {
            let mut moved = params.clone();
            moved.flat_mut().copy_from_slice(flat);
            loss(&moved, &x)
        });
        assert!(worst(grads.flat(), &by_params).unwrap().error < tolerance(50.0));
    }

    #[test]
    fn a_constant_row_is_the_bias_and_wrong_sizes_are_refused() {
        let norm = LayerNorm::new("ln", 4);
        let params: Params<f32> = Params::init(&norm.specs(), 1).unwrap();
        let mut y = [f32::NAN; 4];
        norm.forward(&params, &[3.0; 4], &mut y).unwrap();
        assert_eq!(y, [0.0; 4]);
        assert!(norm.forward(&params, &[3.0; 5], &mut y).is_err());
        assert!(norm.forward(&params, &[3.0; 8], &mut y).is_err());
        assert!(LayerNorm::new("ln", 0).forward(&params, &[], &mut []).is_err());
        // Of a constant row and ε = 0 would come 0/0.
        let (mut d, mut grads, zero) = ([1.0; 4], params.zeros_like(), LayerNorm { eps: 0.0, ..norm });
        assert!(zero.forward(&params, &[3.0; 4], &mut y).is_err() && zero.adjoint(&params, &[3.0; 4], &mut d, &mut grads).is_err());
        assert!(d == [1.0; 4] && grads.flat().iter().all(|g| *g == 0.0));
    }
}
