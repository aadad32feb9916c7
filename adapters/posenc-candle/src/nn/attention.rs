//! Multi-head attention with its projections, for any encoding that acts inside attention.

use super::encoded::{Encoded, begun};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::mask::Mask;
use candle_core::{DType, Tensor};
use candle_nn::ops::rms_norm_slow;
use candle_nn::{Linear, Module, VarBuilder};
use posenc::{Attention, Dims, Init, LayerSpec, Mode, Positions, Projector, Site};

/// How the weights that make queries, keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// One `in_proj_weight` with queries', keys' and values' rows in this order, one `in_proj_bias`, and `out_proj`: `nn.MultiheadAttention`'s.
    Fused,
    /// A linear layer each, under these names: queries, keys, values, output.
    Separate([&'static str; 4]),
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
}

/// Multi-head attention as a [`LayerSpec`] says: any encoding that acts inside attention, its scale, soft cap, window, sinks and dropout.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use posenc::{Alibi, Attention, Dims, LayerSpec, Mode, Positions};
/// use posenc_candle::Mask;
/// use posenc_candle::nn::{MultiheadAttention, Projections};
/// let weights = VarMap::new();
/// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
/// let layer = LayerSpec { encoding: Alibi::new().into(), attention: Attention::default() };
/// let attention = MultiheadAttention::load(&layer, Dims::new(16, 4)?, Projections::LLAMA, true, vb.pp("layers.0.self_attn"))?;
///
/// let x = Tensor::randn(0f32, 1f32, (2, 5, 16), &Device::Cpu)?;
/// let call = attention.encoded().at(&Positions::range(0..5))?;
/// let y = attention.forward(&x, &x, &x, &call, &Mask::none().causal(0), Mode::Evaluate)?;
/// assert_eq!(y.dims(), [2, 5, 16]);
/// let grads = y.sqr()?.sum_all()?.backward()?;
/// assert!(weights.all_vars().iter().all(|var| grads.get(var).is_some()));
/// # Ok::<(), posenc_candle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiheadAttention {
    encoded: Encoded,
    attention: Attention,
    dims: Dims,
    inputs: [Linear; 3],
    out: Linear,
    sinks: Option<Tensor>,
    norms: Option<Norms>,
    /// The layers that make the encoding's tables, where they are not the projections of queries or keys.
    tables: Vec<Option<Linear>>,
}

/// Of queries and keys, head by head.
#[derive(Clone, Debug)]
struct Norms {
    weights: [Tensor; 2],
    eps: f64,
}

impl MultiheadAttention {
    /// The weights under `vb`: those of the projections, with or without biases, `sinks` where the layer has them, and the encoding's own under the names of its plan.
    ///
    /// # Errors
    /// Widths that the encoding cannot work with; a tensor that is missing or has another shape.
    pub fn load(layer: &LayerSpec, dims: Dims, projections: Projections, bias: bool, vb: VarBuilder) -> Result<MultiheadAttention> {
        let encoded = Encoded::load(&layer.encoding.plan(dims)?, vb.clone())?;
        MultiheadAttention::with_encoded(encoded, &layer.attention, projections, bias, vb)
    }

    /// With an encoding whose parameters are found elsewhere: T5's table stands in its first block, and all blocks read it.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use posenc::{Attention, Dims, LayerSpec, T5Bias};
    /// use posenc_candle::nn::{MultiheadAttention, Projections};
    /// let weights = VarMap::new();
    /// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu).pp("encoder.block");
    /// let layer = LayerSpec { encoding: T5Bias::encoder().into(), attention: Attention::unscaled() };
    /// let first = MultiheadAttention::load(&layer, Dims::new(16, 4)?, Projections::T5, false, vb.pp("0.layer.0.SelfAttention"))?;
    /// let shared = first.encoded().clone();
    /// let second = MultiheadAttention::with_encoded(shared, &layer.attention, Projections::T5, false, vb.pp("1.layer.0.SelfAttention"))?;
    /// let tables = weights.data().lock().unwrap().keys().filter(|name| name.ends_with("relative_attention_bias.weight")).count();
    /// assert_eq!(tables, 1);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`MultiheadAttention::load`].
    pub fn with_encoded(
        encoded: Encoded,
        attention: &Attention,
        projections: Projections,
        bias: bool,
        vb: VarBuilder,
    ) -> Result<MultiheadAttention> {
        attention.check()?;
        let plan = encoded.plan().clone();
        let dims = plan.dims();
        let [q_width, kv_width] = [dims.heads, dims.kv_heads].map(|heads| heads * dims.head_dim);
        let widths = [q_width, kv_width, kv_width];
        let out_bound = 1.0 / (q_width as f64).sqrt();
        let (inputs, out) = match projections {
            Projections::Fused => {
                let all = linear(
                    dims.model_dim,
                    widths.iter().sum(),
                    bias,
                    Init::XavierUniform,
                    &vb,
                    ["in_proj_weight", "in_proj_bias"],
                )?;
                let mut first = 0;
                let parts = widths.map(|width| -> Result<Linear> {
                    first += width;
                    let rows = |x: &Tensor| x.narrow(0, first - width, width);
                    Ok(Linear::new(rows(all.weight())?, all.bias().map(rows).transpose()?))
                });
                (parts, "out_proj")
            }
            Projections::Separate([q, k, v, out]) => {
                let names = [q, k, v];
                let part = |i: usize| {
                    linear(
                        dims.model_dim,
                        widths[i],
                        bias,
                        Init::XavierUniform,
                        &vb.pp(names[i]),
                        ["weight", "bias"],
                    )
                };
                ([0, 1, 2].map(part), out)
            }
        };
        let [q, k, v] = inputs;
        let inputs = [q?, k?, v?];
        let out = linear(
            q_width,
            dims.model_dim,
            bias,
            Init::Uniform(out_bound),
            &vb.pp(out),
            ["weight", "bias"],
        )?;
        let tables = plan.projections().iter().map(|projection| match &projection.by {
            Projector::Own { name, bias } => {
                let names = ["weight", "bias"];
                linear(dims.model_dim, q_width, *bias, Init::XavierUniform, &vb.pp(name), names).map(Some)
            }
            _ => Ok(None),
        });
        let sinks = attention
            .sinks
            .then(|| vb.get_with_hints(dims.heads, "sinks", begun(Init::Zeros, &[])));
        Ok(MultiheadAttention {
            attention: attention.clone(),
            dims,
            inputs,
            out,
            sinks: sinks.transpose()?,
            tables: tables.collect::<Result<_>>()?,
            norms: None,
            encoded,
        })
    }

    /// As a layer of a model's configuration file says: its encoding, scale, soft cap, window, sinks, and numbers of heads. Whether the projections have biases, and how they are called, no file says.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use posenc_candle::nn::{MultiheadAttention, Projections};
    /// let file = br#"{"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}"#;
    /// let weights = VarMap::new();
    /// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    /// let attention = MultiheadAttention::from_config(file, 1, Projections::LLAMA, false, vb.pp("model.layers.1.self_attn"))?;
    /// assert_eq!(weights.data().lock().unwrap()["model.layers.1.self_attn.k_proj.weight"].dims(), [32, 64]);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file that the core refuses, or that has no such layer; else as [`MultiheadAttention::load`].
    #[cfg(feature = "config")]
    pub fn from_config(file: &[u8], layer: usize, projections: Projections, bias: bool, vb: VarBuilder) -> Result<MultiheadAttention> {
        let plan = crate::rotary::layer_of(file, layer)?;
        MultiheadAttention::load(&plan.spec, plan.dims, projections, bias, vb)
    }

    /// With an RMS norm over each head's projected queries and keys, before the encoding acts on them: `q_norm.weight` and `k_norm.weight` `[head_dim]` under `vb`, as Qwen 3 has them. (Gemma 3 keeps
    /// its weights less 1.)
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    #[doc(alias = "use_qk_norm")]
    pub fn with_qk_norm(self, eps: f64, vb: VarBuilder) -> Result<MultiheadAttention> {
        let weight = |name| vb.get_with_hints(self.dims.head_dim, name, begun(Init::Ones, &[]));
        let weights = [weight("q_norm.weight")?, weight("k_norm.weight")?];
        Ok(MultiheadAttention {
            norms: Some(Norms { weights, eps }),
            ..self
        })
    }

    /// Its encoding: `encoded().at(positions)` is what [`MultiheadAttention::forward`] takes. Layers of the same encoding share one call's position tables:
    /// `call.for_layer(&other.encoded().parameters()?)`.
    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// Attention of `query` `[batch, q_len, model_dim]` over `key` and `value` `[batch, k_len, model_dim]`.
    ///
    /// # Errors
    /// Shapes that do not fit one another or the call, or a call of another encoding's plan.
    pub fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor, call: &Call, mask: &Mask, mode: Mode) -> Result<Tensor> {
        let context = self.attend(query, key, value, call, mask, mode)?;
        let [batch, heads, len, width] = crate::storage::dims("out [batch, heads, q_len, head_dim]", context.shape())?;
        let joined = context.transpose(1, 2)?.reshape((batch, len, heads * width))?;
        Ok(self.out.forward(&joined)?)
    }

    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, call: &Call, mask: &Mask, mode: Mode) -> Result<Tensor> {
        if call.plan().parameters() != self.encoded.plan().parameters() || call.dims() != self.dims {
            return Err(Error::Core(posenc::Error::Unsupported {
                method: "MultiheadAttention",
                what: "this call is of another encoding; make it by `encoded().call`",
            }));
        }
        let query = call.add(Site::QueryInput, query, mode)?;
        let key = call.add(Site::KeyInput, key, mode)?;
        let Dims { heads, kv_heads, .. } = self.dims;
        let q = call.add(Site::Query, &self.by_heads(0, &query, heads)?, mode)?;
        let k = call.add(Site::Key, &self.by_heads(1, &key, kv_heads)?, mode)?;
        let v = self.by_heads(2, value, kv_heads)?;
        let mut call = self.with_tables(call, q.dtype())?;
        if let Some(sinks) = &self.sinks {
            call = call.with_sinks(sinks);
        }
        call.attend(&self.attention, &q, &k, &v, mask, mode)
    }

    /// A stream's projection, `[batch, heads, seq, head_dim]`.
    fn by_heads(&self, input: usize, x: &Tensor, heads: usize) -> Result<Tensor> {
        let [batch, len, _] = crate::storage::dims("stream [batch, seq, model_dim]", x.shape())?;
        let mut rows = self.inputs[input].forward(x)?.reshape((batch, len, heads, self.dims.head_dim))?;
        if let Some((norms, weight)) = self.norms.as_ref().and_then(|norms| Some((norms, norms.weights.get(input)?))) {
            // candle-nn's `rms_norm` has no gradient; this one has.
            rows = rms_norm_slow(&rows, weight, norms.eps as f32)?;
        }
        Ok(rows.transpose(1, 2)?)
    }

    /// The call with the tables that this layer projects.
    fn with_tables(&self, call: &Call, dtype: DType) -> Result<Call> {
        let projections = call.plan().projections();
        let mut tables = Vec::with_capacity(projections.len());
        for (projection, own) in projections.iter().zip(&self.tables) {
            let by = match (&projection.by, own) {
                (_, Some(own)) => own,
                (Projector::Keys, _) => &self.inputs[1],
                _ => &self.inputs[0],
            };
            let rows = call
                .rows(&projection.table, dtype)?
                .to_dtype(dtype)?
                .to_device(by.weight().device())?;
            let heads = projection.heads(&self.dims);
            tables.push(by.forward(&rows)?.reshape(((), heads, self.dims.head_dim))?);
        }
        call.with_tables(&tables)
    }

    /// At positions of its own, the same for queries and keys: self-attention in one call.
    ///
    /// # Errors
    /// As [`MultiheadAttention::forward`].
    pub fn self_attention(&self, x: &Tensor, at: &Positions, mask: &Mask, mode: Mode) -> Result<Tensor> {
        self.forward(x, x, x, &self.encoded.at(at)?, mask, mode)
    }
}

/// A linear layer of these widths, weight and bias under these names.
fn linear(from: usize, to: usize, bias: bool, init: Init, vb: &VarBuilder, [weight, bias_name]: [&str; 2]) -> Result<Linear> {
    let weight = vb.get_with_hints((to, from), weight, begun(init, &[to, from]))?;
    let bias = match bias {
        true => Some(vb.get_with_hints(to, bias_name, begun(Init::Zeros, &[to]))?),
        false => None,
    };
    Ok(Linear::new(weight, bias))
}
