//! The rotation alone: what queries and keys of bf16 become at a position, by the originals' code and by the swapped.

use crate::measure::apart;
use crate::models::Model;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Activation;
use candle_nn::rotary_emb::rope;
use original::models::phi3;
use posenc::{Rng, Rotary};
use posenc_candle::RotaryEmbedding;

/// Heads of random numbers that are turned.
const HEADS: usize = 256;

/// The maximal errors of the original and of the swapped rotation of a model at a position, against f64; of the worse one where its layers have two.
pub fn errors(model: Model, position: usize) -> Result<[f64; 2]> {
    let mut worst = [0f64; 2];
    for rotary in model.rotations() {
        for (worst, error) in worst.iter_mut().zip(of_rotation(model, &rotary, position)?) {
            *worst = worst.max(error);
        }
    }
    Ok(worst)
}

fn of_rotation(model: Model, rotary: &Rotary, position: usize) -> Result<[f64; 2]> {
    let mut rng = Rng::named(0, "turned");
    let width = model.head_dim();
    let numbers: Vec<f64> = (0..HEADS * width).map(|_| rng.normal()).collect();
    let x = Tensor::from_vec(numbers, (1, HEADS, 1, width), &Device::Cpu)?.to_dtype(DType::BF16)?;

    let ours = RotaryEmbedding::new(rotary, width)?;
    let turn = |x: &Tensor| -> Result<Tensor> { Ok(ours.apply(x, x, position)?.0) };
    let exact = turn(&x.to_dtype(DType::F64)?)?;
    let (original, swapped) = match model {
        // As its diff does: queries and keys are turned in the type of the attention behind it, f32.
        Model::Llama => (llama(rotary, &x, position)?, turn(&x.to_dtype(DType::F32)?)?),
        Model::Qwen2 | Model::Gemma3 => (all_in_its_type(rotary, &x, position)?, turn(&x)?),
    };
    let exact = numbers_of(&exact)?;
    Ok([apart(&numbers_of(&original)?, &exact), apart(&numbers_of(&swapped)?, &exact)])
}

fn numbers_of(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The tables of Llama are private; these are made as it makes them: angles and their cosines in f32, rounded to the model's type.
fn llama(rotary: &Rotary, x: &Tensor, position: usize) -> Result<Tensor> {
    let frequencies = rotary.frequencies(x.dim(3)?, position + 1).map_err(posenc_candle::Error::from)?;
    let angles: Vec<f32> = frequencies
        .pairs
        .iter()
        .map(|&frequency| position as f32 * frequency as f32)
        .collect();
    let angles = Tensor::new(angles, x.device())?.unsqueeze(0)?;
    rope(x, &angles.cos()?.to_dtype(x.dtype())?, &angles.sin()?.to_dtype(x.dtype())?)
}

/// The tables of Qwen2 and Gemma 3 are private; Phi 3's are public, and made in the same way: positions, frequencies, angles and cosines in the model's type.
fn all_in_its_type(rotary: &Rotary, x: &Tensor, position: usize) -> Result<Tensor> {
    let width = x.dim(3)?;
    let config = phi3::Config {
        vocab_size: 1,
        hidden_act: Activation::Silu,
        hidden_size: width,
        intermediate_size: width,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        rms_norm_eps: 1e-6,
        rope_theta: rotary.base,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: position + 1,
        original_max_position_embeddings: None,
        partial_rotary_factor: None,
        tie_word_embeddings: false,
    };
    let tables = phi3::RotaryEmbedding::new(x.dtype(), &config, x.device())?;
    tables.apply_rotary_emb_qkv(x, x, position).map(|(q, _)| q)
}
