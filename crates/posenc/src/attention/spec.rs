//! A layer's attention as data, beside its encoding.

use super::Temperature;
use crate::dropout::check_dropout;
use crate::encoding::Encoding;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How scores become weights, apart from the encoding: plain data.
///
/// ```
/// use posenc::{Attention, Window};
/// let gemma = Attention { softcap: Some(50.0), window: Some(Window::last(4096)?), ..Attention::default() };
/// assert_eq!(gemma.scale_for(64), 0.125);
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attention {
    /// What q·k is multiplied by; 1/√head_dim if `None`. T5 was trained with 1.
    pub scale: Option<f64>,
    /// Scores become `c · tanh(score / c)` before biases are added (Gemma 2).
    pub softcap: Option<f64>,
    /// How far a query can see, by order.
    pub window: Option<Window>,
    /// A query sees only keys of its own chunk of this many tokens (Llama 4's `attention_chunk_size`): those for which order ÷ chunk is the same. As in transformers, order
    /// counts from the row's first key that has a position, so that left padding ([`Positions::from_padding`](crate::Positions::from_padding)) changes nothing; documents that are
    /// packed into one row share its chunks.
    #[doc(alias = "attention_chunk_size")]
    pub chunk: Option<usize>,
    /// What a query is multiplied by, by its position; 1 for a token that has none.
    pub temperature: Option<Temperature>,
    /// Each head has a learned logit that takes part in the softmax beside the keys and has no value (StreamingLLM's and gpt-oss's sink): see
    /// [`Inputs::with_sinks`](crate::attention::Inputs::with_sinks).
    #[doc(alias = "attention_sink")]
    pub sinks: bool,
    /// Dropout of the weights, when training.
    pub dropout: f64,
}

impl Attention {
    /// T5's: scores are not scaled.
    pub fn unscaled() -> Attention {
        Attention {
            scale: Some(1.0),
            ..Attention::default()
        }
    }

    /// What q·k is multiplied by for heads of this width.
    pub fn scale_for(&self, head_dim: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (head_dim as f64).sqrt())
    }

    /// Every setting lies in its range.
    ///
    /// # Errors
    /// A scale or cap that is not a positive number, a chunk of no keys, a temperature out of range, a dropout outside [0, 1).
    pub fn check(&self) -> Result<()> {
        let positive = |what, value: Option<f64>| match value {
            Some(x) if !(x.is_finite() && x > 0.0) => Err(Error::Invalid {
                what,
                given: x.to_string(),
                expected: "a positive number",
            }),
            _ => Ok(()),
        };
        positive("scale", self.scale)?;
        positive("softcap", self.softcap)?;
        if self.chunk == Some(0) {
            return Err(Error::Zero { what: "chunk" });
        }
        if let Some(temperature) = self.temperature {
            temperature.check()?;
        }
        check_dropout(self.dropout)
    }
}

/// A sliding window: how many keys a query can see beside the one of its own order; `None`: all of them.
///
/// Codebases count differently. Hugging Face's `sliding_window` and Mistral's count the query's own key: [`Window::last`]. FlashAttention's
/// `window_size = (left, right)` and ONNX's `left_window_size` do not, and write −1 for `None`.
///
/// ```
/// use posenc::Window;
/// assert_eq!(Window::last(4096)?, Window { left: Some(4095), right: Some(4095) });
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "sliding_window")]
pub struct Window {
    /// Keys before the query's own.
    pub left: Option<usize>,
    /// Keys after it; causality sees none of them.
    pub right: Option<usize>,
}

impl Window {
    /// The keys whose order differs from the query's by less than `keys`: itself and `keys − 1` before it, as many after it where there is no causality.
    ///
    /// # Errors
    /// A window of no keys.
    pub fn last(keys: usize) -> Result<Window> {
        let side = keys.checked_sub(1).ok_or(Error::Zero { what: "window" })?;
        Ok(Window {
            left: Some(side),
            right: Some(side),
        })
    }
}

/// One layer of a model: its encoding and its attention. A model is a list of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerSpec {
    /// Where tokens are.
    pub encoding: Encoding,
    /// How scores become weights.
    pub attention: Attention,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_refused_and_a_layer_comes_back() {
        assert!(serde_json::from_str::<Attention>(r#"{"softcap": 50.0, "windw": 8}"#).is_err());
        let layer = LayerSpec {
            encoding: crate::Alibi::new().into(),
            attention: Attention {
                window: Some(Window::last(8).unwrap()),
                ..Attention::unscaled()
            },
        };
        let written = serde_json::to_string(&layer).unwrap();
        assert_eq!(serde_json::from_str::<LayerSpec>(&written).unwrap(), layer);
    }
}
