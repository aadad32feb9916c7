//! Rotary positions as models of candle-transformers keep them: one object for all layers, which turns queries and keys from a position on.

use crate::call::Call;
use crate::error::Result;
use candle_core::Tensor;
use posenc::{Dims, Encoding, Plan, Positions, Rotary, Side};
use std::sync::{Arc, Mutex};

/// Turns queries and keys: what candle-transformers' models each copy as `RotaryEmbedding`. Its tables are computed in f64 and kept in f32, whatever the model is stored in, for the positions that
/// a pass needs; there is no longest one.
///
/// What a pass resolved is kept for the next layer, which asks for the same positions; results depend on the arguments alone.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use posenc::{Pairing, Rotary};
/// use posenc_candle::RotaryEmbedding;
/// let rotary = RotaryEmbedding::new(&Rotary::new(Pairing::Halves).with_base(500_000.0), 64)?;
/// let q = Tensor::ones((1, 4, 10, 64), DType::BF16, &Device::Cpu)?; // [batch, heads, seq, head_dim]
/// let k = Tensor::ones((1, 2, 10, 64), DType::BF16, &Device::Cpu)?;
/// let (q, k) = rotary.apply(&q, &k, 0)?;
/// let (next_q, next_k) = rotary.apply(&q.narrow(2, 0, 1)?, &k.narrow(2, 0, 1)?, 10)?; // the token after them
/// # Ok::<(), posenc_candle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RotaryEmbedding {
    plan: Plan,
    last: Arc<Mutex<Option<Call>>>,
}

impl RotaryEmbedding {
    /// For heads of this width.
    ///
    /// # Errors
    /// A width that does not turn, or a setting out of range.
    pub fn new(rotary: &Rotary, head_dim: usize) -> Result<RotaryEmbedding> {
        RotaryEmbedding::of_encoding(&rotary.clone().into(), head_dim)
    }

    fn of_encoding(encoding: &Encoding, head_dim: usize) -> Result<RotaryEmbedding> {
        // The same for any number of heads.
        Ok(RotaryEmbedding {
            plan: encoding.plan(Dims::new(head_dim, 1)?)?,
            last: Arc::default(),
        })
    }

    /// As a layer of a model's configuration file turns: `config.json`, GGUF or `params.json`, with its scaling, its partial rotation and the rounding that the checkpoint knows. A layer that
    /// does not turn leaves queries and keys as they are.
    ///
    /// ```
    /// use posenc_candle::RotaryEmbedding;
    /// let file = br#"{"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}"#;
    /// let rotary = RotaryEmbedding::from_config(file, 0)?;
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file that the core refuses, or that has no such layer, or whose rotation differs between heads.
    #[cfg(feature = "config")]
    pub fn from_config(file: &[u8], layer: usize) -> Result<RotaryEmbedding> {
        let plan = layer_of(file, layer)?;
        let turns = plan
            .spec
            .encoding
            .methods
            .iter()
            .filter(|method| matches!(method, posenc::Method::Rotary(_)));
        let encoding = Encoding {
            methods: turns.cloned().collect(),
        };
        RotaryEmbedding::of_encoding(&encoding, plan.dims.head_dim)
    }

    /// Queries `[batch, heads, seq, head_dim]` and keys `[batch, kv_heads, seq, head_dim]`, turned; the first token stands at `offset`. Gradients flow through.
    ///
    /// # Errors
    /// As [`Call::rotate`].
    #[doc(alias = "apply_rotary_emb_qkv")]
    pub fn apply(&self, q: &Tensor, k: &Tensor, offset: usize) -> Result<(Tensor, Tensor)> {
        let call = self.at(offset, q.dim(2)?)?;
        Ok((call.rotate(Side::Query, q)?, call.rotate(Side::Key, k)?))
    }

    /// The same over the tensors themselves, for inference. Queries and keys must not be the same memory: it would be turned twice.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use posenc::{Pairing, Rotary};
    /// use posenc_candle::RotaryEmbedding;
    /// let rotary = RotaryEmbedding::new(&Rotary::new(Pairing::Halves), 64)?;
    /// let q = Tensor::ones((1, 4, 10, 64), DType::BF16, &Device::Cpu)?;
    /// let k = Tensor::ones((1, 2, 10, 64), DType::BF16, &Device::Cpu)?;
    /// rotary.apply_in_place(&q, &k, 0)?;
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Call::rotate_in_place`]; neither is turned then.
    pub fn apply_in_place(&self, q: &Tensor, k: &Tensor, offset: usize) -> Result<()> {
        let call = self.at(offset, q.dim(2)?)?;
        call.check_in_place(Side::Query, q)?;
        call.check_in_place(Side::Key, k)?;
        call.rotate_in_place(Side::Query, q)?;
        call.rotate_in_place(Side::Key, k)
    }

    /// At any positions, also ones that differ between batch rows.
    ///
    /// # Errors
    /// A position that has no finite angle.
    pub fn call(&self, at: &Positions) -> Result<Call> {
        Call::new(&self.plan, at)
    }

    fn at(&self, offset: usize, len: usize) -> Result<Call> {
        let first = i64::try_from(offset).unwrap_or(i64::MAX);
        let at = Positions::range(first..first.saturating_add(len as i64));
        let kept = || self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(call) = kept().as_ref().filter(|call| call.q_at() == &at) {
            return Ok(call.clone());
        }
        // Not under the lock: tables are filled in parallel, and a thread that waits for its share may be given another call of this.
        let call = self.call(&at)?;
        *kept() = Some(call.clone());
        Ok(call)
    }
}

/// A layer of the first part of a model's configuration file.
#[cfg(feature = "config")]
pub(crate) fn layer_of(file: &[u8], layer: usize) -> Result<posenc::config::LayerPlan> {
    let model = posenc::config::read(file, posenc::config::Mode::Strict)?;
    let plan = model.parts.first().and_then(|part| part.layer(layer)).cloned();
    plan.ok_or_else(|| {
        crate::Error::Core(posenc::Error::Invalid {
            what: "layer",
            given: layer.to_string(),
            expected: "a layer of the file's first part",
        })
    })
}
