//! The linear layers that make queries, keys and values, as checkpoints keep them.

use super::encoded::begun;
use crate::error::{Error, Result};
use candle_core::Tensor;
use candle_nn::{Linear, Module, VarBuilder};
use posenc::{Dims, Init};

/// How the weights that make queries, keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// One `in_proj_weight` with queries', keys' and values' rows in this order, one `in_proj_bias`, and `out_proj`: `nn.MultiheadAttention`'s.
    Fused,
    /// A linear layer each, under these names: queries, keys, values, output.
    Separate([&'static str; 4]),
    /// One linear layer for all three, and one for the output.
    Joined {
        /// The name of the layer for all three.
        name: &'static str,
        /// Rows lie key head by key head, each the queries that share it, its key and its value; otherwise all queries, all keys, all values.
        by_head: bool,
        /// The name of the layer of the output.
        out: &'static str,
    },
}

impl Projections {
    /// `q_proj`, `k_proj`, `v_proj`, `o_proj`: Llama's, and most of Hugging Face's.
    pub const LLAMA: Projections = Projections::Separate(["q_proj", "k_proj", "v_proj", "o_proj"]);
    /// `q_proj`, `k_proj`, `v_proj`, `out_proj`: OPT's, BART's, CLIP's.
    pub const OPT: Projections = Projections::Separate(["q_proj", "k_proj", "v_proj", "out_proj"]);
    /// `self.query`, `self.key`, `self.value`, `output.dense`: BERT's, under `attention`.
    pub const BERT: Projections = Projections::Separate(["self.query", "self.key", "self.value", "output.dense"]);
    /// `q`, `k`, `v`, `o`: T5's.
    pub const T5: Projections = Projections::Separate(["q", "k", "v", "o"]);
    /// `query_key_value` by head, `dense`: BLOOM's, Falcon's, GPT-NeoX's.
    pub const BLOOM: Projections = Projections::Joined {
        name: "query_key_value",
        by_head: true,
        out: "dense",
    };
    /// `Wqkv`, `out_proj`: MPT's.
    pub const MPT: Projections = Projections::Joined {
        name: "Wqkv",
        by_head: false,
        out: "out_proj",
    };

    pub(super) fn out(self) -> &'static str {
        match self {
            Projections::Fused => "out_proj",
            Projections::Separate([.., out]) | Projections::Joined { out, .. } => out,
        }
    }
}

/// Which of the four projections add biases: all or none (`true`, `false`), or `[queries, keys, values, output]`, which is `[true, true, true, false]` in Qwen 2 and `[true, false, true, true]` in Whisper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases(pub [bool; 4]);

impl From<bool> for Biases {
    fn from(all: bool) -> Biases {
        Biases([all; 4])
    }
}

impl From<[bool; 4]> for Biases {
    fn from(each: [bool; 4]) -> Biases {
        Biases(each)
    }
}

/// The input projections.
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    /// Of queries, keys and values.
    Apart([Linear; 3]),
    /// Rows lie key head by key head.
    ByHead(Linear),
}

impl Inputs {
    pub fn load(dims: &Dims, projections: Projections, Biases([q, k, v, _]): Biases, vb: &VarBuilder) -> Result<Inputs> {
        let [q_width, kv_width] = [dims.heads, dims.kv_heads].map(|heads| heads * dims.head_dim);
        let widths = [q_width, kv_width, kv_width];
        let one_for_all = |vb: &VarBuilder, names| -> Result<Linear> {
            if [q, k, v] != [q; 3] {
                return Err(Error::Core(posenc::Error::Invalid {
                    what: "biases of queries, keys and values",
                    given: format!("{:?}", [q, k, v]),
                    expected: "all three or none, where one layer makes them",
                }));
            }
            linear(dims.model_dim, widths.iter().sum(), q, Init::XavierUniform, vb, names)
        };
        let all = match projections {
            Projections::Separate([q_name, k_name, v_name, _]) => {
                let part = |name, width, bias| linear(dims.model_dim, width, bias, Init::XavierUniform, &vb.pp(name), ["weight", "bias"]);
                let parts = [part(q_name, q_width, q)?, part(k_name, kv_width, k)?, part(v_name, kv_width, v)?];
                return Ok(Inputs::Apart(parts));
            }
            Projections::Fused => one_for_all(vb, ["in_proj_weight", "in_proj_bias"])?,
            Projections::Joined { name, by_head, .. } => {
                let all = one_for_all(&vb.pp(name), ["weight", "bias"])?;
                if by_head {
                    return Ok(Inputs::ByHead(all));
                }
                all
            }
        };
        // Views of one weight: what an optimiser writes there is seen in each.
        let part = |first: usize, width: usize| -> Result<Linear> {
            let rows = |x: &Tensor| x.narrow(0, first, width);
            Ok(Linear::new(rows(all.weight())?, all.bias().map(rows).transpose()?))
        };
        Ok(Inputs::Apart([
            part(0, q_width)?,
            part(q_width, kv_width)?,
            part(q_width + kv_width, kv_width)?,
        ]))
    }

    /// Where the weights are.
    pub fn device(&self) -> &candle_core::Device {
        let (Inputs::Apart([one, ..]) | Inputs::ByHead(one)) = self;
        one.weight().device()
    }

    /// Rows `[n, model_dim]` as queries, keys or values (0, 1, 2), `[n, heads, head_dim]`.
    pub fn project(&self, input: usize, rows: &Tensor, dims: &Dims) -> Result<Tensor> {
        match self {
            Inputs::Apart(each) => {
                let heads = if input == 0 { dims.heads } else { dims.kv_heads };
                Ok(each[input].forward(rows)?.reshape((rows.dim(0)?, heads, dims.head_dim))?)
            }
            Inputs::ByHead(all) => part(&all.forward(rows)?, input, dims),
        }
    }

    /// Three streams `[batch, seq, model_dim]` as queries, keys and values, `[batch, seq, heads, head_dim]`.
    pub fn project_streams(&self, streams: [&Tensor; 3], dims: &Dims) -> Result<[Tensor; 3]> {
        let mut last: Option<(&Tensor, Tensor)> = None;
        let mut made = Vec::with_capacity(3);
        for (input, x) in streams.into_iter().enumerate() {
            let [batch, len, width] = crate::storage::dims("stream [batch, seq, model_dim]", x.shape())?;
            let rows = x.reshape((batch * len, width))?;
            let rows = match self {
                Inputs::Apart(_) => self.project(input, &rows, dims)?,
                // One product serves all that is made of one stream.
                Inputs::ByHead(all) => {
                    let product = match last.take().filter(|(of, _)| of.id() == x.id()) {
                        Some((_, product)) => product,
                        None => all.forward(&rows)?,
                    };
                    let rows = part(&product, input, dims)?;
                    last = Some((x, product));
                    rows
                }
            };
            let [_, heads, head_dim] = crate::storage::dims("rows [tokens, heads, head_dim]", rows.shape())?;
            made.push(rows.reshape((batch, len, heads, head_dim))?);
        }
        let [q, k, v] = made.try_into().map_err(|_| candle_core::Error::msg("three streams make three"))?;
        Ok([q, k, v])
    }
}

/// Queries, keys or values out of a product whose columns lie key head by key head.
fn part(product: &Tensor, input: usize, dims: &Dims) -> Result<Tensor> {
    let Dims {
        heads, kv_heads, head_dim, ..
    } = *dims;
    let (n, group) = (product.dim(0)?, heads / kv_heads);
    let apart = product.reshape((n, kv_heads, group + 2, head_dim))?;
    Ok(match input {
        0 => apart.narrow(2, 0, group)?.contiguous()?.reshape((n, heads, head_dim))?,
        _ => apart.narrow(2, group + input - 1, 1)?.squeeze(2)?,
    })
}

/// A linear layer of these widths, weight and bias under these names.
pub(super) fn linear(from: usize, to: usize, bias: bool, init: Init, vb: &VarBuilder, [weight, bias_name]: [&str; 2]) -> Result<Linear> {
    let weight = vb.get_with_hints((to, from), weight, begun(init, &[to, from]))?;
    let bias = match bias {
        true => Some(vb.get_with_hints(to, bias_name, begun(Init::Zeros, &[to]))?),
        false => None,
    };
    Ok(Linear::new(weight, bias))
}
