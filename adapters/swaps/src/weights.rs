//! Random weights by name: the same for every model that asks for the same name, in any type.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use posenc::Rng;

/// Weights of a seed, a stream per name. They are numbers of bf16, so that models in f64, f32 and bf16 have the same ones.
///
/// Inputs of unit size stay of unit size: a matrix has deviation 1/√columns. What is not a matrix is a norm's factor, near 1, or a bias, of deviation 1/2.
pub struct Random {
    pub seed: u64,
    /// The deviation of the scores that queries and keys of unit size get: both projections (or, where queries and keys are normed, both norms) take its square root.
    pub spread: f64,
    /// Norms store their factor less one, embeddings are multiplied by √width and are the head too, queries and keys are normed.
    pub gemma: bool,
}

impl Random {
    fn number(&self, name: &str, dims: &[usize]) -> impl Fn(f64) -> f64 + use<> {
        let columns = *dims.last().unwrap_or(&1) as f64;
        let to_scores = ["q_proj.", "k_proj.", "q_norm.", "k_norm."].iter().any(|part| name.contains(part));
        let normed = self.gemma && name.contains("_proj.");
        let gain = if to_scores && !normed { self.spread.sqrt() } else { 1.0 };
        let (mean, deviation) = if name.contains("norm") {
            (if self.gemma { gain - 1.0 } else { gain }, 0.1)
        } else if dims.len() == 1 {
            (0.0, 0.5)
        } else if name.contains("embed_tokens") && !self.gemma {
            (0.0, 1.0)
        } else {
            (0.0, gain / columns.sqrt())
        };
        move |normal| mean + deviation * normal
    }
}

impl SimpleBackend for Random {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let number = self.number(name, shape.dims());
        let mut rng = Rng::named(self.seed, name);
        let numbers: Vec<f32> = (0..shape.elem_count()).map(|_| number(rng.normal()) as f32).collect();
        Tensor::from_vec(numbers, shape, device)?.to_dtype(DType::BF16)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: expected a shape with the name; the weights are random and have none of their own")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
