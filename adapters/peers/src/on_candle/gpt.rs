//! A small GPT as candle's users write one: 4 layers, width 128, 4 heads, 256 tokens, length 256. Attention is a parameter; everything else is candle's own.

use crate::compare::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ops::layer_norm_slow;
use candle_nn::{Embedding, Init, Linear, Module, VarBuilder, VarMap, embedding, linear, linear_no_bias};

pub const LAYERS: usize = 4;
pub const WIDTH: usize = 128;
pub const HEADS: usize = 4;
pub const HEAD: usize = WIDTH / HEADS;
pub const LEN: usize = 256;
pub const BATCH: usize = 16;
pub const TOKENS: usize = 256;
pub const EPSILON: f32 = 1e-5;

/// From q, k and v `[batch, heads, seq, head_dim]`, views of `[batch, seq, width]`, to the same of the output.
pub type Attend<'a> = &'a dyn Fn([&Tensor; 3]) -> Result<Tensor>;

pub struct Gpt {
    tokens: Embedding,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

struct Block {
    norms: [Norm; 2],
    qkv: [Linear; 3],
    out: Linear,
    up: Linear,
    down: Linear,
}

/// Layer norm in the form that has a gradient; `candle_nn::LayerNorm` drops it.
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub fn new(vb: &VarBuilder<'_>) -> Result<Norm> {
        Ok(Norm {
            weight: vb.get_with_hints(WIDTH, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(WIDTH, "bias", Init::Const(0.0))?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(layer_norm_slow(x, &self.weight, &self.bias, EPSILON)?)
    }
}

/// `[batch, seq, width]` as `[batch, heads, seq, head_dim]`, a view.
pub fn heads(x: &Tensor) -> Result<Tensor> {
    Ok(x.reshape((BATCH, LEN, HEADS, HEAD))?.transpose(1, 2)?)
}

/// Back again, which copies.
pub fn together(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?.reshape((BATCH, LEN, WIDTH))?)
}

impl Gpt {
    /// With new variables, or those that are in the map.
    pub fn new(vars: &VarMap) -> Result<Gpt> {
        let vb = VarBuilder::from_varmap(vars, DType::F32, &Device::Cpu);
        let square = |vb: VarBuilder<'_>| linear(WIDTH, WIDTH, vb);
        let blocks = (0..LAYERS).map(|layer| {
            let vb = vb.pp(format!("layer.{layer}"));
            Ok(Block {
                norms: [Norm::new(&vb.pp("norm_attention"))?, Norm::new(&vb.pp("norm_mlp"))?],
                qkv: [square(vb.pp("q"))?, square(vb.pp("k"))?, square(vb.pp("v"))?],
                out: square(vb.pp("out"))?,
                up: linear(WIDTH, 4 * WIDTH, vb.pp("up"))?,
                down: linear(4 * WIDTH, WIDTH, vb.pp("down"))?,
            })
        });
        Ok(Gpt {
            tokens: embedding(TOKENS, WIDTH, vb.pp("tokens"))?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: Norm::new(&vb.pp("norm"))?,
            head: linear_no_bias(WIDTH, TOKENS, vb.pp("head"))?,
        })
    }

    /// The mean loss of predicting `targets` `[batch · seq]` from `tokens` `[batch, seq]`.
    pub fn loss(&self, tokens: &Tensor, targets: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let mut x = self.tokens.forward(tokens)?;
        for block in &self.blocks {
            let y = block.norms[0].forward(&x)?;
            let [q, k, v] = block.qkv.each_ref().map(|linear| heads(&linear.forward(&y)?));
            x = (x + block.out.forward(&together(&attend([&q?, &k?, &v?])?)?)?)?;
            let y = block.norms[1].forward(&x)?;
            x = (x + block.down.forward(&block.up.forward(&y)?.gelu()?)?)?;
        }
        let logits = self.head.forward(&self.norm.forward(&x)?)?;
        Ok(candle_nn::loss::cross_entropy(&logits.reshape((BATCH * LEN, TOKENS))?, targets)?)
    }
}

/// The same numbers in variables of their own.
pub fn copy_of(vars: &VarMap) -> Result<VarMap> {
    let copy = VarMap::new();
    let of = |_| "the variables are in use by another thread";
    let (from, mut to) = (vars.data().lock().map_err(of)?, copy.data().lock().map_err(of)?);
    for (name, var) in from.iter() {
        to.insert(name.clone(), Var::from_tensor(&var.copy()?)?);
    }
    drop(to);
    Ok(copy.clone())
}
