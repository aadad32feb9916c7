//! What an encoding is: a list of methods, as plain data.

use crate::bias::{Alibi, ClippedBias, SharedBias, T5Bias};
use crate::content::Shaw;
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
    /// A penalty proportional to the distance.
    Alibi,
    /// A number per head and clipped distance is added to the scores.
    ClippedBias,
    /// A number per clipped distance, the same for all heads, is subtracted from the scores.
    SharedBias,
    /// A number per head and bucket of distances is added to the scores.
    T5Bias,
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
