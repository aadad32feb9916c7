//! Random weights by name: the same for every model that asks for the same name, in any type.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use posenc::Rng;

/// Weights of a seed, a stream per name. They are numbers of bf16, so that models in f64, f32 and bf16 have the same ones.
///
/// A matrix has deviation 1/√columns, so inputs of unit size stay of unit size, and scores have deviation 1. What is not a matrix is a norm's factor, near 1, or a bias.
#[derive(Clone, Copy)]
pub struct Weights {
    pub seed: u64,
    /// As Gemma stores them: norms less one; embeddings are multiplied by √width and are the head too.
    pub gemma: bool,
    /// After they were rounded, weights are moved in random directions.
    pub moved: Moved,
}

/// How far weights are moved, as shares of their deviation.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    /// All of them.
    pub all: f64,
    /// Those that make queries and keys, besides.
    pub turned: f64,
}

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let dims = shape.dims();
        let (mean, deviation) = match dims {
            [_] if name.contains("norm") => (if self.gemma { 0.0 } else { 1.0 }, 0.1),
            [_] => (0.0, 0.5),
            _ if name.contains("embed_tokens") && !self.gemma => (0.0, 1.0),
            _ => (0.0, 1.0 / dims.last().map_or(1.0, |&columns| columns as f64).sqrt()),
        };
        let len = shape.elem_count();
        let normals = |rng: &mut Rng| -> Vec<f64> { (0..len).map(|_| deviation * rng.normal()).collect() };
        let rounded = (Tensor::from_vec(normals(&mut Rng::named(self.seed, name)), len, device)? + mean)?.to_dtype(DType::BF16)?;
        let turned = name.contains("q_proj.") || name.contains("k_proj.");
        let share = self.moved.all + if turned { self.moved.turned } else { 0.0 };
        let moves = Tensor::from_vec(normals(&mut Rng::named(!self.seed, name)), len, device)?;
        (rounded.to_dtype(DType::F64)? + (moves * share)?)?.to_dtype(dtype)?.reshape(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: expected a shape with the name; the weights are random and have none of their own")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
