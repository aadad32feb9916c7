//! Multi-head attention with its projections, for any encoding that acts inside attention.

use super::encoded::{Encoded, begun};
use super::projections::{Biases, Inputs, Projections, linear};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::mask::Mask;
use candle_core::{DType, Tensor};
use candle_nn::ops::rms_norm_slow;
use candle_nn::{Linear, Module, VarBuilder};
use posenc::{Attention, Dims, Init, LayerSpec, Mode, Positions, Projector, Site};

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
    inputs: Inputs,
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
    pub fn load(
        layer: &LayerSpec,
        dims: Dims,
        projections: Projections,
        biases: impl Into<Biases>,
        vb: VarBuilder,
    ) -> Result<MultiheadAttention> {
        let encoded = Encoded::load(&layer.encoding.plan(dims)?, vb.clone())?;
        MultiheadAttention::with_encoded(encoded, &layer.attention, projections, biases, vb)
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
        biases: impl Into<Biases>,
        vb: VarBuilder,
    ) -> Result<MultiheadAttention> {
        attention.check()?;
        let plan = encoded.plan().clone();
        let dims = plan.dims();
        let biases = biases.into();
        let inputs = Inputs::load(&dims, projections, biases, &vb)?;
        let q_width = dims.heads * dims.head_dim;
        let out_bound = Init::Uniform(1.0 / (q_width as f64).sqrt());
        let out = vb.pp(projections.out());
        let out = linear(q_width, dims.model_dim, biases.0[3], out_bound, &out, ["weight", "bias"])?;
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

    /// As a layer of a model's configuration file says: its encoding, scale, soft cap, window, sinks, and numbers of heads. How the projections are called, and which have
    /// biases, is the caller's to say.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use posenc_candle::nn::{MultiheadAttention, Projections};
    /// let file = br#"{"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}"#;
    /// let weights = VarMap::new();
    /// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    /// let attention = MultiheadAttention::from_config(file, 1, Projections::LLAMA, [true, true, true, false], vb.pp("model.layers.1.self_attn"))?;
    /// assert_eq!(weights.data().lock().unwrap()["model.layers.1.self_attn.k_proj.weight"].dims(), [32, 64]);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file that the core refuses, or that has no such layer; else as [`MultiheadAttention::load`].
    #[cfg(feature = "config")]
    pub fn from_config(
        file: &[u8],
        layer: usize,
        projections: Projections,
        biases: impl Into<Biases>,
        vb: VarBuilder,
    ) -> Result<MultiheadAttention> {
        let plan = crate::rotary::layer_of(file, layer)?;
        MultiheadAttention::load(&plan.spec, plan.dims, projections, biases, vb)
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

    /// Its encoding: `encoded().at(positions)` is what [`MultiheadAttention::forward`] takes. One call serves all layers of the same encoding, each with its own parameters.
    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// Attention of `query` `[batch, q_len, model_dim]` over `key` and `value` `[batch, k_len, model_dim]`. The parameters are this layer's, whichever layer of the same encoding the call was made by. What the
    /// encoding adds to embeddings was added before, by `encoded().at(positions)?.embed(x, mode)`.
    ///
    /// # Errors
    /// Shapes that do not fit one another or the call, or a call of another encoding.
    pub fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor, call: &Call, mask: &Mask, mode: Mode) -> Result<Tensor> {
        let [q, k, v] = self.project([query, key, value], call, mode)?;
        self.attend([&q, &k, &v], call, mask, mode)
    }

    /// The first half of [`MultiheadAttention::forward`]: queries `[batch, heads, q_len, head_dim]`, keys and values `[batch, kv_heads, k_len, head_dim]`. Keys are not turned yet, so a cache may keep them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::{VarBuilder, VarMap};
    /// use posenc::{Attention, Dims, LayerSpec, Mode, Pairing, Positions, Rotary};
    /// use posenc_candle::Mask;
    /// use posenc_candle::nn::{MultiheadAttention, Projections};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let layer = LayerSpec { encoding: Rotary::new(Pairing::Halves).into(), attention: Attention::default() };
    /// let attention = MultiheadAttention::load(&layer, Dims::new(16, 4)?, Projections::LLAMA, false, vb)?;
    /// let x = Tensor::randn(0f32, 1f32, (1, 6, 16), &Device::Cpu)?;
    /// let whole = attention.self_attention(&x, &Positions::range(0..6), &Mask::none().causal(0), Mode::Evaluate)?;
    ///
    /// let mut cache: Option<[Tensor; 2]> = None;
    /// for t in 0..6 {
    ///     let x = x.narrow(1, t, 1)?;
    ///     let (at, all) = (Positions::range(t as i64..t as i64 + 1), Positions::range(0..t as i64 + 1));
    ///     let [q, k, v] = attention.project([&x, &x, &x], &attention.encoded().at(&at)?, Mode::Evaluate)?;
    ///     let [k, v] = match &cache {
    ///         Some([keys, values]) => [Tensor::cat(&[keys, &k], 2)?, Tensor::cat(&[values, &v], 2)?],
    ///         None => [k, v],
    ///     };
    ///     let call = attention.encoded().call(&at, &all)?;
    ///     let y = attention.attend([&q, &k, &v], &call, &Mask::none().causal(t), Mode::Evaluate)?;
    ///     let far = (y - whole.narrow(1, t, 1)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    ///     assert!(far < 1e-5);
    ///     cache = Some([k, v]);
    /// }
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`MultiheadAttention::forward`].
    pub fn project(&self, [query, key, value]: [&Tensor; 3], call: &Call, mode: Mode) -> Result<[Tensor; 3]> {
        let call = self.own(call)?;
        let query = call.add(Site::QueryInput, query, mode)?;
        let key = call.add(Site::KeyInput, key, mode)?;
        let [mut q, mut k, v] = self.inputs.project_streams([&query, &key, value], &self.dims)?;
        if let Some(Norms { weights, eps }) = &self.norms {
            // candle-nn's `rms_norm` has no gradient; this one has.
            q = rms_norm_slow(&q, &weights[0], *eps as f32)?;
            k = rms_norm_slow(&k, &weights[1], *eps as f32)?;
        }
        let [q, k, v] = [q, k, v].map(|x| x.transpose(1, 2));
        Ok([call.add(Site::Query, &q?, mode)?, call.add(Site::Key, &k?, mode)?, v?])
    }

    /// The second half: attention of queries over keys and values, and the output's projection, `[batch, q_len, model_dim]`.
    ///
    /// # Errors
    /// As [`MultiheadAttention::forward`].
    pub fn attend(&self, [q, k, v]: [&Tensor; 3], call: &Call, mask: &Mask, mode: Mode) -> Result<Tensor> {
        let mut call = self.with_tables(&self.own(call)?, q.dtype())?;
        if let Some(sinks) = &self.sinks {
            call = call.with_sinks(sinks);
        }
        let context = call.attend(&self.attention, q, k, v, mask, mode)?;
        let [batch, heads, len, width] = crate::storage::dims("out [batch, heads, q_len, head_dim]", context.shape())?;
        let rows = context.transpose(1, 2)?.contiguous()?.reshape((batch * len, heads * width))?;
        Ok(self.out.forward(&rows)?.reshape((batch, len, self.dims.model_dim))?)
    }

    /// A call with this layer's parameters.
    fn own(&self, call: &Call) -> Result<Call> {
        if call.plan().encoding() != self.encoded.plan().encoding() || call.dims() != self.dims {
            return Err(Error::Core(posenc::Error::Unsupported {
                method: "MultiheadAttention",
                what: "this call is of another encoding; make it by `encoded().call`",
            }));
        }
        call.for_layer(&self.encoded.parameters()?)
    }

    /// The call with the tables that this layer projects.
    fn with_tables(&self, call: &Call, dtype: DType) -> Result<Call> {
        let projections = call.plan().projections();
        let mut tables = Vec::with_capacity(projections.len());
        for (projection, own) in projections.iter().zip(&self.tables) {
            let rows = call
                .rows(&projection.table, dtype)?
                .to_dtype(dtype)?
                .to_device(self.inputs.device())?;
            let heads = projection.heads(&self.dims);
            tables.push(match (&projection.by, own) {
                (_, Some(own)) => own.forward(&rows)?.reshape((rows.dim(0)?, heads, self.dims.head_dim))?,
                (Projector::Keys, _) => self.inputs.project(1, &rows, &self.dims)?,
                _ => self.inputs.project(0, &rows, &self.dims)?,
            });
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
