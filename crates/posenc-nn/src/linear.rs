//! y = x·Wᵀ + b.

use crate::activation::Activation;
use crate::error::Result;
use crate::kernels;
use crate::matrix::{Matrix, MatrixMut, Onto, matmul, product};
use crate::number::Number;
use crate::shape::{gradient, rows, size, tensor};
use posenc::{Init, ParamSpec, Params};

/// A linear layer, in PyTorch's layout: `{name}.weight` is `[out, in]`, `{name}.bias` `[out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Its name in the store, for example `layers.0.mlp.up`.
    pub name: String,
    /// Width of its input.
    pub in_dim: usize,
    /// Width of its output.
    pub out_dim: usize,
    /// Whether it adds a bias.
    pub bias: bool,
    /// How its weight begins; its bias begins at 0.
    pub init: Init,
}

impl Linear {
    /// With a bias, and a weight from N(0, 0.02) as in GPT-2. PyTorch's own default is `Init::Uniform(1 / √in)`.
    pub fn new(name: impl Into<String>, in_dim: usize, out_dim: usize) -> Linear {
        Linear {
            name: name.into(),
            in_dim,
            out_dim,
            bias: true,
            init: Init::Normal(0.02),
        }
    }

    /// The same layer without a bias.
    pub fn without_bias(self) -> Linear {
        Linear { bias: false, ..self }
    }

    /// The same layer with another initial weight.
    pub fn with_init(self, init: Init) -> Linear {
        Linear { init, ..self }
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = vec![self.weight()];
        specs.extend(self.bias_spec());
        specs
    }

    fn weight(&self) -> ParamSpec {
        ParamSpec::new(format!("{}.weight", self.name), [self.out_dim, self.in_dim], self.init)
    }

    fn bias_spec(&self) -> Option<ParamSpec> {
        self.bias
            .then(|| ParamSpec::new(format!("{}.bias", self.name), [self.out_dim], Init::Zeros))
    }

    /// y = x·Wᵀ + b: x is `[n, in]`, y `[n, out]` and overwritten.
    ///
    /// # Errors
    /// x is not whole rows, y has another size, or a parameter is missing or of another shape.
    pub fn forward<R: Number>(&self, params: &Params<R>, x: &[R], y: &mut [R]) -> Result<()> {
        let (weight, bias) = self.tensors(params, x.len(), y.len())?;
        self.product(weight, x, bias.map_or(Onto::Scaled(R::ZERO), Onto::Row), y)
    }

    /// y = residual + x·Wᵀ + b, as [`Linear::forward`] otherwise: the sum of a residual connection costs no pass of its own.
    ///
    /// # Errors
    /// As [`Linear::forward`], or a residual of another size than y.
    pub fn forward_onto<R: Number>(&self, params: &Params<R>, x: &[R], residual: &[R], y: &mut [R]) -> Result<()> {
        size("residual, of the size of y", residual.len(), &[y.len()])?;
        let (weight, bias) = self.tensors(params, x.len(), y.len())?;
        self.product(weight, x, Onto::Rows(residual, bias), y)
    }

    /// y = activation(x·Wᵀ + b), and `slope` `[n, out]` the activation's slope there, both overwritten; bias and activation in one pass. The gradient of y times the slope
    /// ([`Activation::adjoint_by_slope`]) is what [`Linear::adjoint`] takes.
    ///
    /// # Errors
    /// As [`Linear::forward`], or a slope of another size than y.
    pub fn forward_activated<R: Number>(
        &self,
        params: &Params<R>,
        activation: Activation,
        x: &[R],
        slope: &mut [R],
        y: &mut [R],
    ) -> Result<()> {
        size("slope, of the size of y", slope.len(), &[y.len()])?;
        let (weight, bias) = self.tensors(params, x.len(), y.len())?;
        self.product(weight, x, Onto::Scaled(R::ZERO), slope)?;
        activation.forward_with_slope(bias, slope, y)
    }

    /// Weight and bias, where x and y have the sizes of as many rows.
    fn tensors<'p, R: Number>(&self, params: &'p Params<R>, x: usize, y: usize) -> Result<(&'p [R], Option<&'p [R]>)> {
        let n = self.rows(x)?;
        size("y [n, out_dim]", y, &[n, self.out_dim])?;
        let weight = tensor(params, &self.weight())?;
        Ok((weight, self.bias_spec().map(|spec| tensor(params, &spec)).transpose()?))
    }

    /// y = x·Wᵀ onto something.
    fn product<R: Number>(&self, weight: &[R], x: &[R], onto: Onto<'_, R>, y: &mut [R]) -> Result<()> {
        let n = self.rows(x.len())?;
        product(
            R::ONE,
            Matrix::new(x, n, self.in_dim)?,
            Matrix::new(weight, self.out_dim, self.in_dim)?.t(),
            onto,
            MatrixMut::new(y, n, self.out_dim)?,
        )
    }

    /// Given dy `[n, out]`, the gradient of y: adds dyᵀ·x to the weight's gradient and Σ dy to the bias's, and overwrites dx `[n, in]`, where it is
    /// asked for, with dy·W. `x` is the input of the forward pass; `grads` has the layout of `params`.
    ///
    /// # Errors
    /// As [`Linear::forward`], of either store.
    pub fn adjoint<R: Number>(&self, params: &Params<R>, x: &[R], dy: &[R], dx: Option<&mut [R]>, grads: &mut Params<R>) -> Result<()> {
        let n = self.rows(x.len())?;
        size("dy [n, out_dim]", dy.len(), &[n, self.out_dim])?;
        if let Some(dx) = &dx {
            size("dx [n, in_dim]", dx.len(), &[n, self.in_dim])?;
        }
        tensor(params, &self.weight())?;
        for spec in self.specs() {
            gradient(grads, &spec)?;
        }
        if let Some(spec) = self.bias_spec() {
            kernels::add_column_sums(dy, gradient(grads, &spec)?);
        }
        matmul(
            R::ONE,
            Matrix::new(dy, n, self.out_dim)?.t(),
            Matrix::new(x, n, self.in_dim)?,
            R::ONE,
            MatrixMut::new(gradient(grads, &self.weight())?, self.out_dim, self.in_dim)?,
        )?;
        match dx {
            Some(dx) => self.input_adjoint(params, dy, dx),
            None => Ok(()),
        }
    }

    /// The part of [`Linear::adjoint`] that writes no gradient of a parameter: overwrites `dx` `[n, in_dim]`.
    pub(crate) fn input_adjoint<R: Number>(&self, params: &Params<R>, dy: &[R], dx: &mut [R]) -> Result<()> {
        let n = self.rows(dx.len())?;
        size("dy [n, out_dim]", dy.len(), &[n, self.out_dim])?;
        let weight = Matrix::new(tensor(params, &self.weight())?, self.out_dim, self.in_dim)?;
        matmul(
            R::ONE,
            Matrix::new(dy, n, self.out_dim)?,
            weight,
            R::ZERO,
            MatrixMut::new(dx, n, self.in_dim)?,
        )
    }

    fn rows(&self, len: usize) -> Result<usize> {
        if self.out_dim == 0 {
            return Err(posenc::Error::Zero { what: "out_dim" }.into());
        }
        rows("x [n, in_dim]", len, "in_dim", self.in_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};
    use posenc::Rng;

    fn random(n: usize, rng: &mut Rng) -> Vec<f64> {
        (0..n).map(|_| rng.normal()).collect()
    }

    /// Loss = Σ wᵢ·yᵢ with |y| and Σ|w| of order 10: tolerance of that size.
    #[test]
    fn adjoint_matches_finite_differences() {
        let mut rng = Rng::new(5);
        for layer in [Linear::new("up", 5, 7), Linear::new("down", 3, 1).without_bias()] {
            let layer = layer.with_init(Init::Normal(0.5));
            let n = 4;
            let mut params: Params<f64> = Params::init(&layer.specs(), 1).unwrap();
            params.flat_mut().iter_mut().for_each(|p| *p += 0.1 * rng.normal());
            let (x, w) = (random(n * layer.in_dim, &mut rng), random(n * layer.out_dim, &mut rng));
            let loss = |params: &Params<f64>, x: &[f64]| {
                let mut y = vec![f64::NAN; w.len()];
                layer.forward(params, x, &mut y).unwrap();
                y.iter().zip(&w).map(|(y, w)| y * w).sum::<f64>()
            };
            // Gradients are added to what is there; dx is overwritten.
            let mut grads = params.zeros_like();
            grads.flat_mut().fill(3.0);
            let mut dx = vec![f64::NAN; x.len()];
            layer.adjoint(&params, &x, &w, Some(&mut dx), &mut grads).unwrap();
            grads.flat_mut().iter_mut().for_each(|g| *g -= 3.0);

            let by_x = finite_differences(&x, 0..x.len(), |x| loss(&params, x));
            assert!(worst(&dx, &by_x).unwrap().error < tolerance(20.0));
            let by_params = finite_differences(params.flat(), 0..params.size(), |flat| {
                let mut moved = params.clone();
                moved.flat_mut().copy_from_slice(flat);
                loss(&moved, &x)
            });
            assert!(worst(grads.flat(), &by_params).unwrap().error < tolerance(20.0));
        }
    }

    /// Onto a residual and through an activation: what the layer and the sum or the function give one after the other. Bound: a sum of six terms of order 1, in another order.
    #[test]
    fn what_is_done_on_the_way_is_what_is_done_afterwards() {
        let mut rng = Rng::new(6);
        for layer in [Linear::new("up", 5, 7), Linear::new("up", 5, 7).without_bias()] {
            let mut params: Params<f64> = Params::init(&layer.specs(), 1).unwrap();
            params.flat_mut().iter_mut().for_each(|p| *p += rng.normal());
            let (x, residual) = (random(15, &mut rng), random(21, &mut rng));
            let mut plain = vec![f64::NAN; 21];
            layer.forward(&params, &x, &mut plain).unwrap();
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 100.0 * f64::EPSILON);
            let mut onto = vec![f64::NAN; 21];
            layer.forward_onto(&params, &x, &residual, &mut onto).unwrap();
            let sum: Vec<f64> = plain.iter().zip(&residual).map(|(y, r)| y + r).collect();
            assert!(close(&onto, &sum));
            let activation = Activation::from(crate::Gelu::Exact);
            let (mut slope, mut y) = (vec![f64::NAN; 21], vec![f64::NAN; 21]);
            layer.forward_activated(&params, activation, &x, &mut slope, &mut y).unwrap();
            let (mut expected, mut d) = (vec![f64::NAN; 21], vec![1.0; 21]);
            activation.forward(&plain, &mut expected).unwrap();
            activation.adjoint(&plain, &mut d).unwrap();
            assert!(close(&y, &expected) && close(&slope, &d));
            let mut other = [7.0; 21];
            assert!(layer.forward_onto(&params, &x, &residual[..20], &mut other).is_err());
            assert!(
                layer
                    .forward_activated(&params, activation, &x, &mut slope[..20], &mut other)
                    .is_err()
            );
            assert_eq!(other, [7.0; 21]);
        }
    }

    #[test]
    fn nothing_is_written_on_error() {
        let layer = Linear::new("up", 2, 3);
        let params: Params<f32> = Params::init(&layer.specs(), 1).unwrap();
        let mut y = [7.0; 3];
        assert!(layer.forward(&params, &[1.0; 3], &mut y).is_err());
        assert!(layer.forward(&params, &[1.0; 4], &mut y).is_err());
        let wider = Linear {
            in_dim: 1,
            ..layer.clone()
        };
        assert!(wider.forward(&params, &[1.0], &mut y).is_err());
        assert_eq!(y, [7.0; 3]);
        let mut grads: Params<f32> = Params::zeros(&layer.clone().without_bias().specs()).unwrap();
        let refused = layer.adjoint(&params, &[1.0; 2], &[1.0; 3], None, &mut grads);
        assert!(refused.is_err() && grads.flat().iter().all(|g| *g == 0.0));
        assert!(Linear::new("none", 0, 3).forward(&params, &[], &mut y).is_err());
    }

    #[test]
    fn no_rows_give_no_gradient() {
        let layer = Linear::new("up", 2, 3);
        let params: Params<f32> = Params::init(&layer.specs(), 1).unwrap();
        let mut grads = params.zeros_like();
        layer.forward(&params, &[], &mut []).unwrap();
        layer.adjoint(&params, &[], &[], Some(&mut []), &mut grads).unwrap();
        assert!(grads.flat().iter().all(|g| *g == 0.0));
    }
}
