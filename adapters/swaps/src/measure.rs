//! The logits of both models, compared.

use crate::models::{Code, LONGEST_SUM, Model, VOCAB, load};
use crate::weights::Moved;
use candle_core::{DType, Device, Result, Tensor};
use posenc::Rng;

/// Where a short prompt ends.
pub const NEAR: usize = 63;
/// Where the longest run ends.
pub const FAR: usize = 4096;
/// Tokens before the far one, unless all are.
const BEFORE: usize = 64;
/// Tokens that are tried at a position, each after the same prompt.
const TRIED: usize = 16;
const SEEDS: u64 = 4;

/// What a model is run on before the tokens that are compared.
#[derive(Clone, Copy)]
pub enum Prompt {
    /// Positions 0 to 62, in one pass.
    Near,
    /// Positions 4032 to 4095, token by token: a cache that begins there. (The models' masks count from 0, so a longer pass cannot begin elsewhere.)
    Far,
    /// Positions 0 to 4095, in one pass.
    Whole,
}

impl Prompt {
    /// The position of the tokens that are compared.
    pub fn end(self) -> usize {
        match self {
            Prompt::Near => NEAR,
            Prompt::Far | Prompt::Whole => FAR,
        }
    }

    fn seeds(self) -> u64 {
        match self {
            Prompt::Near | Prompt::Far => SEEDS,
            Prompt::Whole => 1,
        }
    }
}

/// The greatest distance between numbers in the same places; NaN if one is.
pub fn apart(a: &[f64], b: &[f64]) -> f64 {
    let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, |worst, next| if next > worst || next.is_nan() { next } else { worst })
}

/// The logits of every token that is tried after a prompt, in all seeds.
fn logits(model: Model, code: Code, dtype: DType, prompt: Prompt, moved: Moved) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for seed in 0..prompt.seeds() {
        let mut decoder = load(model, code, dtype, seed, moved)?;
        let mut rng = Rng::named(seed, "tokens");
        let mut draw = |count: usize| -> Vec<u32> { (0..count).map(|_| (rng.uniform() * VOCAB as f64) as u32).collect() };
        let end = prompt.end();
        let one_pass = |tokens: Vec<u32>| Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0);
        match prompt {
            Prompt::Near | Prompt::Whole => {
                decoder.forward(&one_pass(draw(end))?, 0)?;
            }
            Prompt::Far => {
                for (step, token) in draw(BEFORE).into_iter().enumerate() {
                    decoder.forward(&one_pass(vec![token])?, end - BEFORE + step)?;
                }
            }
        }
        for token in draw(TRIED) {
            all.extend(decoder.fork().forward(&one_pass(vec![token])?, end)?);
        }
    }
    Ok(all)
}

/// How far the logits of both are from each other in f32, and how far they may be.
pub fn in_f32(model: Model, prompt: Prompt) -> Result<[f64; 2]> {
    let [original, swapped] = both(model, DType::F32, prompt)?;
    // What f32 does to an angle p·ω ≤ p of the original: three roundings of 2⁻²⁴ each (1/x, the frequency, the product), which turn a pair, that is, move queries and keys by that share of their
    // length. (The swapped model's are f64.) What f32 does elsewhere, in both: a share of 2⁻²⁴ per term of a sum of products. In f64, where no other error is, weights that are moved by as much
    // show what that does to the logits.
    let rounding = 2f64.powi(-24);
    let moved = Moved {
        turned: (3 * prompt.end()) as f64 * rounding,
        all: (2 * LONGEST_SUM) as f64 * rounding,
    };
    let exact = exact(model, prompt)?;
    let moved = logits(model, Code::Swapped, DType::F64, prompt, moved)?;
    Ok([apart(&original, &swapped), apart(&exact, &moved)])
}

/// How far the logits of the original and of the swapped model in bf16 are from those in f64.
pub fn in_bf16(model: Model, prompt: Prompt) -> Result<[f64; 2]> {
    let exact = exact(model, prompt)?;
    let [original, swapped] = both(model, DType::BF16, prompt)?;
    Ok([apart(&original, &exact), apart(&swapped, &exact)])
}

/// In f64, where the swapped model's angles, cosines and sines are f64, too. (The originals' frequencies are f32 even then.)
fn exact(model: Model, prompt: Prompt) -> Result<Vec<f64>> {
    logits(model, Code::Swapped, DType::F64, prompt, Moved::default())
}

fn both(model: Model, dtype: DType, prompt: Prompt) -> Result<[Vec<f64>; 2]> {
    let of = |code| logits(model, code, dtype, prompt, Moved::default());
    Ok([of(Code::Original)?, of(Code::Swapped)?])
}
