//! Root-mean-square normalisation (Zhang, Sennrich 2019, arXiv 1910.07467).

use crate::error::Result;
use crate::number::Number;
use crate::shape::{epsilon, gradient, rows, size, tensor};
use posenc::{Init, ParamSpec, Params};

/// y = x/√(mean of x² + ε)·gain over the last axis; `{name}.weight` `[dim]` begins at 1. As in Llama's and Qwen's model files, whose gain multiplies after
/// the rounding of half precision; here a row is rounded once, at the end of attention.
#[derive(Clone, Debug, PartialEq)]
#[doc(alias = "LlamaRMSNorm")]
pub struct RmsNorm {
    /// Its name in the store.
    pub name: String,
    /// Width of a row.
    pub dim: usize,
    /// Added to the mean of the squares.
    pub eps: f64,
}

impl RmsNorm {
    /// With ε = 1e-6, as in Qwen and OLMo 2 (Llama's is 1e-5).
    pub fn new(name: impl Into<String>, dim: usize) -> RmsNorm {
        RmsNorm {
            name: name.into(),
            dim,
            eps: 1e-6,
        }
    }

    /// Its parameters, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        vec![self.gain()]
    }

    fn gain(&self) -> ParamSpec {
        ParamSpec::new(format!("{}.weight", self.name), [self.dim], Init::Ones)
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
        for (x, y) in x.chunks_exact(self.dim).zip(y.chunks_exact_mut(self.dim)) {
            let inverse = self.inverse(x, eps);
            y.iter_mut().zip(x).zip(gain).for_each(|((y, x), g)| *y = *x * inverse * *g);
        }
        Ok(())
    }

    /// d `[n, dim]` comes as the gradient of y and leaves as that of x; the gain's gradient is added to `grads`. `x` is the input of the forward pass.
    ///
    /// With r = 1/√(mean x² + ε) and g = d·gain: dx = r·(g − x·r²·mean(g·x)).
    ///
    /// # Errors
    /// As [`RmsNorm::forward`], of either store.
    pub fn adjoint<R: Number>(&self, params: &Params<R>, x: &[R], d: &mut [R], grads: &mut Params<R>) -> Result<()> {
        let n = rows("x [n, dim]", x.len(), "dim", self.dim)?;
        size("d [n, dim]", d.len(), &[n, self.dim])?;
        let eps = epsilon(self.eps)?;
        let gain = tensor(params, &self.gain())?;
        let d_gain = gradient(grads, &self.gain())?;
        for (x, d) in x.chunks_exact(self.dim).zip(d.chunks_exact_mut(self.dim)) {
            let inverse = self.inverse(x, eps);
            for ((d_gain, x), d) in d_gain.iter_mut().zip(x).zip(&*d) {
                *d_gain += *d * *x * inverse;
            }
            let along: R = x.iter().zip(&*d).zip(gain).map(|((x, d), g)| *x * *d * *g).sum();
            let along = along / R::of(self.dim as f64) * inverse * inverse;
            for ((d, x), g) in d.iter_mut().zip(x).zip(gain) {
                *d = inverse * (*d * *g - *x * along);
            }
        }
        Ok(())
    }

    fn inverse<R: Number>(&self, x: &[R], eps: R) -> R {
        let squares: R = x.iter().map(|x| *x * *x).sum();
        R::ONE / (squares / R::of(self.dim as f64) + eps).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};
    use posenc::Rng;

    /// Loss = Σ wᵢ·yᵢ, of order 10.
    #[test]
    fn adjoint_matches_finite_differences() {
        let mut rng = Rng::new(5);
        let layer = RmsNorm::new("q_norm", 6);
        let mut params: Params<f64> = Params::init(&layer.specs(), 1).unwrap();
        params.flat_mut().iter_mut().for_each(|p| *p += 0.3 * rng.normal());
        let random = |rng: &mut Rng| -> Vec<f64> { (0..18).map(|_| rng.normal()).collect() };
        let (x, w) = (random(&mut rng), random(&mut rng));
        let loss = |params: &Params<f64>, x: &[f64]| {
            let mut y = vec![f64::NAN; w.len()];
            layer.forward(params, x, &mut y).unwrap();
            y.iter().zip(&w).map(|(y, w)| y * w).sum::<f64>()
        };
        let (mut grads, mut d) = (params.zeros_like(), w.clone());
        layer.adjoint(&params, &x, &mut d, &mut grads).unwrap();
        let by_x = finite_differences(&x, 0..x.len(), |x| loss(&params, x));
        assert!(worst(&d, &by_x).unwrap().error < tolerance(20.0));
        let by_gain = finite_differences(params.flat(), 0..params.size(), |flat| {
            let mut moved = params.clone();
            moved.flat_mut().copy_from_slice(flat);
            loss(&moved, &x)
        });
        assert!(worst(grads.flat(), &by_gain).unwrap().error < tolerance(20.0));
    }

    #[test]
    fn rows_have_a_root_mean_square_of_one_and_zeros_stay_zeros() {
        let layer = RmsNorm::new("norm", 4);
        let params: Params<f64> = Params::init(&layer.specs(), 1).unwrap();
        let mut y = [f64::NAN; 8];
        layer.forward(&params, &[3.0, -3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0], &mut y).unwrap();
        // 3/√(9 + 1e-6) is 1 − 1e-6/18.
        assert!(y[..4].iter().all(|y| (y.abs() - 1.0).abs() < 1e-7) && y[4..] == [0.0; 4]);
        assert!(layer.forward(&params, &[1.0; 3], &mut y).is_err());
        // Of zeros and ε = 0 would come 0/0.
        for eps in [0.0, -1e-6, f64::NAN, f64::INFINITY] {
            let layer = RmsNorm { eps, ..layer.clone() };
            let (mut d, mut grads) = ([1.0; 4], params.zeros_like());
            assert!(layer.forward(&params, &[0.0; 8], &mut y).is_err() && layer.adjoint(&params, &[0.0; 4], &mut d, &mut grads).is_err());
        }
    }
}
