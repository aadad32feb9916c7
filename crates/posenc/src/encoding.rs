//! What an encoding is: a list of methods, as plain data.

use crate::bias::{Alibi, ClippedBias, Fire, Kerple, LogCpb, Sandwich, SharedBias, SwinBias, T5Bias};
use crate::content::{Deberta, MusicTransformer, Shaw, TransformerXl, XlNet};
use crate::dims::Dims;
use crate::embed::{Learned, Sinusoidal};
use crate::error::Result;
use crate::input::InputTable;
use crate::plan::Plan;
use crate::rotate::Rotary;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A way to tell a model where its tokens are: any number of methods side by side. The empty list is NoPE: no encoding at all.
///
/// Written as data it is a list of methods, each a table with its name under `method`. What a method's constructor asks for must be written; every other
/// setting may be left out and is then what the constructor gives. A setting that the method does not have is an error.
///
/// ```
/// use posenc::{Alibi, Encoding, Pairing, Rotary};
/// assert_eq!(Encoding::none().to_string(), "none");
/// let both = Encoding::from(Rotary::new(Pairing::Halves)).with(Alibi::new());
/// assert_eq!(both.methods.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "PositionalEmbeddingBase")]
#[doc(alias = "extra_repr")]
#[doc(alias = "PositionalAttentionBase")]
pub struct Encoding {
    /// The methods, in the order in which they act at the same place.
    pub methods: Vec<Method>,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One method, as plain data.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "method", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Method {
            $($(#[$doc])* $name($name),)+
        }

        $(impl From<$name> for Method {
            fn from(method: $name) -> Method {
                Method::$name(method)
            }
        }

        impl From<$name> for Encoding {
            fn from(method: $name) -> Encoding {
                Encoding { methods: vec![method.into()] }
            }
        })+

        impl fmt::Display for Method {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Method::$name(method) => method.fmt(f),)+
                }
            }
        }

        /// Calls `$body` with `$method` bound to the one method inside, whatever its type.
        macro_rules! each_method {
            ($value:expr, $method:ident => $body:expr) => {
                match $value {
                    $($crate::encoding::Method::$name($method) => $body,)+
                }
            };
        }
        pub(crate) use each_method;
    };
}

methods! {
    /// A table row per position, added to the embeddings.
    Learned,
    /// Sines and cosines of the position, added to the embeddings or inside attention.
    Sinusoidal,
    /// A table row per position, added to the inputs of queries and keys in each layer.
    InputTable,
    /// Queries and keys are rotated.
    Rotary,
    /// A vector per clipped distance is added to keys and values.
    Shaw,
    /// A vector per head and distance back is read by queries.
    MusicTransformer,
    /// Projected sinusoids of distances are read by queries, beside two trained vectors per head.
    TransformerXl,
    /// The same in both directions, with relative segments.
    #[serde(rename = "xlnet")]
    XlNet,
    /// Projected vectors of distances are read by queries and by keys.
    Deberta,
    /// A penalty proportional to the distance.
    Alibi,
    /// A number per head and clipped distance is added to the scores.
    ClippedBias,
    /// A number per clipped distance, the same for all heads, is subtracted from the scores.
    SharedBias,
    /// A number per head and bucket of distances is added to the scores.
    T5Bias,
    /// A penalty that grows with the logarithm or a power of the distance, at trained rates.
    Kerple,
    /// A penalty by distance from products of sinusoids.
    Sandwich,
    /// A small network of the distance over the query's position is added to the scores.
    Fire,
    /// A number per head and offset in a window is added to the scores.
    SwinBias,
    /// A small network of the offset is added to the scores.
    LogCpb,
}

impl Encoding {
    /// NoPE: no position information but what the mask gives.
    #[doc(alias = "NoPE")]
    pub fn none() -> Encoding {
        Encoding::default()
    }

    /// The same encoding with one more method.
    pub fn with(mut self, method: impl Into<Method>) -> Encoding {
        self.methods.push(method.into());
        self
    }

    /// Checks the encoding against a model's widths, once; free of positions.
    ///
    /// # Errors
    /// A width that a method cannot work with, two rotations, or the same method twice.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Learned};
    /// let plan = Encoding::from(Learned::new(512)).plan(Dims::new(64, 4)?)?;
    /// assert_eq!(plan.parameters()[0].shape, [512, 64]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn plan(&self, dims: Dims) -> Result<Plan> {
        Plan::new(self.clone(), dims)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.methods.is_empty() {
            return write!(f, "none");
        }
        for (i, method) in self.methods.iter().enumerate() {
            if i > 0 {
                write!(f, " + ")?;
            }
            method.fmt(f)?;
        }
        Ok(())
    }
}

/// What is left out of a written method: the values that its constructor gives.
pub(crate) mod written {
    use crate::input::AddTo;
    use crate::params::{Init, Scope};

    macro_rules! values {
        ($($name:ident: $type:ty = $value:expr;)+) => {
            $(pub fn $name() -> $type {
                $value
            })+
        };
    }

    macro_rules! names {
        ($($name:ident)+) => {
            $(pub fn $name() -> String {
                stringify!($name).into()
            })+
        };
    }

    names! { r_w_bias r_r_bias r_net }

    values! {
        base: f64 = 10_000.0;
        one: f64 = 1.0;
        one_axis: Vec<usize> = vec![0];
        yes: bool = true;
        attention_inputs: AddTo = AddTo::AttentionInputs;
        per_layer: Scope = Scope::Layer;
        per_model: Scope = Scope::Model;
        zeros: Init = Init::Zeros;
        xavier: Init = Init::XavierUniform;
        normal: Init = Init::Normal(1.0);
        narrow_normal: Init = Init::Normal(0.02);
        t5_buckets: usize = 32;
        t5_distance: usize = 128;
        cpb_hidden: usize = 512;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bias::Direction;
    use crate::catalogue::{PresetOptions, catalogue, preset};
    use crate::content::DebertaProjections;
    use crate::rotate::Pairing;
    use serde_json::{Value, from_value, json, to_value};

    /// Each method with nothing written but what its constructor asks for.
    fn shortest() -> Vec<(Value, Method)> {
        vec![
            (json!({"method": "learned", "max_len": 7}), Learned::new(7).into()),
            (
                json!({"method": "sinusoidal", "layout": "interleaved", "exponent": "paper", "odd_width": "drop_cosine"}),
                Sinusoidal::paper().into(),
            ),
            (json!({"method": "input_table", "max_len": 7}), InputTable::new(7).into()),
            (
                json!({"method": "rotary", "pairing": "halves"}),
                Rotary::new(Pairing::Halves).into(),
            ),
            (json!({"method": "shaw", "max_distance": 7}), Shaw::new(7).into()),
            (
                json!({"method": "music_transformer", "max_len": 7}),
                MusicTransformer::new(7).into(),
            ),
            (
                json!({"method": "transformer_xl", "layout": "sin_first", "two_sided": false}),
                TransformerXl::paper().into(),
            ),
            (json!({"method": "xlnet"}), XlNet::new().into()),
            (
                json!({"method": "deberta", "max_distance": 7, "projections": "shared"}),
                Deberta::new(7, DebertaProjections::Shared).into(),
            ),
            (json!({"method": "alibi"}), Alibi::new().into()),
            (
                json!({"method": "clipped_bias", "max_distance": 7, "direction": "query_minus_key"}),
                ClippedBias::new(7, Direction::QueryMinusKey).into(),
            ),
            (json!({"method": "shared_bias", "max_distance": 7}), SharedBias::new(7).into()),
            (json!({"method": "t5_bias", "bidirectional": true}), T5Bias::encoder().into()),
            (json!({"method": "t5_bias", "bidirectional": false}), T5Bias::decoder().into()),
            (json!({"method": "kerple", "kernel": "log"}), Kerple::log().into()),
            (json!({"method": "kerple", "kernel": "power"}), Kerple::power().into()),
            (json!({"method": "sandwich"}), Sandwich::new().into()),
            (json!({"method": "fire"}), Fire::new().into()),
            (json!({"method": "swin_bias", "window": [7, 8]}), SwinBias::new([7, 8]).into()),
            (json!({"method": "log_cpb", "window": [7, 8]}), LogCpb::new([7, 8]).into()),
        ]
    }

    #[test]
    fn what_may_be_left_out_is_what_the_constructor_gives() {
        for (text, method) in shortest() {
            assert_eq!(from_value::<Method>(text.clone()).unwrap(), method, "{text}");
        }
    }

    #[test]
    fn what_a_constructor_asks_for_must_be_written() {
        for (text, _) in shortest() {
            for name in text.as_object().unwrap().keys() {
                let mut less = text.clone();
                less.as_object_mut().unwrap().remove(name);
                let error = from_value::<Method>(less).unwrap_err().to_string();
                assert!(error.contains(&format!("missing field `{name}`")), "{text}: {error}");
            }
        }
    }

    #[test]
    fn settings_that_a_method_does_not_have_are_refused_by_name() {
        for (text, method) in shortest() {
            for text in [text, to_value(&method).unwrap()] {
                let mut more = text.clone();
                more["theta"] = json!(500_000.0);
                let error = from_value::<Encoding>(json!([more])).unwrap_err().to_string();
                assert!(error.contains("unknown field `theta`"), "{text}: {error}");
            }
        }
        let slopes = json!([{"method": "alibi", "slopes": {"mpt": {"bias_max": 8.0, "max": 8.0}}}]);
        assert!(from_value::<Encoding>(slopes).is_err());
        let dims = json!({"model_dim": 8, "heads": 2, "kv_heads": 2, "head_dim": 4});
        assert_eq!(from_value::<Dims>(dims.clone()).unwrap(), Dims::new(8, 2).unwrap());
        let mut more = dims;
        more["n_heads"] = json!(2);
        assert!(from_value::<Dims>(more).is_err());
    }

    #[test]
    fn every_preset_comes_back_from_its_text() {
        for entry in catalogue() {
            let encoding = preset(entry.name, &PresetOptions::new(64)).unwrap();
            let text = serde_json::to_string(&encoding).unwrap();
            assert_eq!(serde_json::from_str::<Encoding>(&text).unwrap(), encoding, "{text}");
        }
    }
}
