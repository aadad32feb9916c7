//! Which pairs may attend, from tensors and from the order of tokens.

use crate::error::{Error, Result};
use crate::shared::Arithmetic;
use crate::storage::{FLOATS, dims, on_cpu, view};
use candle_core::{DType, Device, Tensor};
use posenc::positions::Documents;
use posenc::{Attends, Blocked, View};
use std::sync::Arc;

/// Which pairs may attend: any number of conditions, all of which must hold. It is the core's [`posenc::Mask`], for all layers of a pass. (What is added is brought to the arithmetic's
/// type by each, where it is of another.)
///
/// Causality and windows need no tensor: they compare the order of tokens and cost nothing. Booleans are candle's `u8`; `[q_len, k_len]`, or `[batch, heads, q_len, k_len]` of which each axis
/// but the last may be 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use posenc_candle::Mask;
/// let padding = Tensor::new(&[[[[1u8, 1, 0]]]], &Device::Cpu)?; // the last key is padding
/// let mask = Mask::none().causal(0).attends(&padding)?;
/// # Ok::<(), posenc_candle::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mask {
    causal: bool,
    first: First,
    documents: Option<Arc<Documents>>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum First {
    Same(usize),
    Rows(Arc<[usize]>),
}

impl Default for First {
    fn default() -> First {
        First::Same(0)
    }
}

#[derive(Clone, Debug)]
enum Part {
    Blocked(Booleans),
    Attends(Booleans),
    Additive(Tensor),
}

#[derive(Clone, Debug)]
struct Booleans {
    values: Arc<[bool]>,
    shape: [usize; 4],
}

impl Booleans {
    fn view(&self) -> Result<View<'_, bool, 4>> {
        Ok(View::new(&self.values, self.shape)?)
    }
}

const WHAT: &str = "mask [batch, heads, q_len, k_len]";

impl Mask {
    /// Every pair attends.
    pub fn none() -> Mask {
        Mask::default()
    }

    /// A query attends to itself and what came before; `first_query` keys come before the first query: 0 for a whole sequence, the length of the cache when decoding.
    pub fn causal(self, first_query: usize) -> Mask {
        Mask {
            causal: true,
            first: First::Same(first_query),
            ..self
        }
    }

    /// The same where batch rows have caches of different lengths.
    pub fn causal_rows(self, first_queries: &[usize]) -> Mask {
        Mask {
            causal: true,
            first: First::Rows(first_queries.into()),
            ..self
        }
    }

    /// The first query stands after this many keys: where windows lie without causality.
    pub fn after(self, keys: usize) -> Mask {
        Mask {
            first: First::Same(keys),
            ..self
        }
    }

    /// The same where batch rows have caches of different lengths.
    pub fn after_rows(self, keys: &[usize]) -> Mask {
        Mask {
            first: First::Rows(keys.into()),
            ..self
        }
    }

    /// Each token sees its own document's keys alone: packed sequences.
    pub fn documents(self, documents: Documents) -> Mask {
        Mask {
            documents: Some(Arc::new(documents)),
            ..self
        }
    }

    /// Pairs where the tensor is not 0 are blocked: PyTorch's convention.
    ///
    /// # Errors
    /// A tensor that is not `u8`, or has neither two nor four axes.
    pub fn blocked(self, mask: &Tensor) -> Result<Mask> {
        Ok(self.with(Part::Blocked(booleans(mask)?)))
    }

    /// Pairs where the tensor is 0 are blocked: candle's own convention, and most others'.
    ///
    /// # Errors
    /// As [`Mask::blocked`].
    pub fn attends(self, mask: &Tensor) -> Result<Mask> {
        Ok(self.with(Part::Attends(booleans(mask)?)))
    }

    /// A constant added to the scores; −∞ blocks a pair.
    ///
    /// # Errors
    /// A tensor that is not of a floating-point type, has neither two nor four axes, or that gradients flow through: a bias that is trained is an encoding's.
    pub fn additive(self, mask: &Tensor) -> Result<Mask> {
        if mask.track_op() {
            return Err(Error::Tracked {
                op: "Mask::additive",
                shape: mask.shape().clone(),
                instead: "a mask is a constant: detach it, or train a bias as an encoding",
            });
        }
        if !mask.dtype().is_float() {
            return Err(Error::Type {
                what: WHAT,
                given: mask.dtype(),
                expected: FLOATS,
                shape: Some(mask.shape().clone()),
            });
        }
        Ok(self.with(Part::Additive(with_four_axes(mask)?)))
    }

    fn with(mut self, part: Part) -> Mask {
        self.parts.push(part);
        self
    }

    /// Lets a closure see the core's mask, in the arithmetic of a call.
    pub(crate) fn with_core<R: Arithmetic, O>(&self, run: impl FnOnce(&posenc::Mask<'_, R>) -> Result<O>) -> Result<O> {
        let mut mask = posenc::Mask::none();
        mask = match (&self.first, self.causal) {
            (First::Same(first), true) => mask.causal(*first),
            (First::Same(first), false) => mask.after(*first),
            (First::Rows(firsts), true) => mask.causal_rows(firsts),
            (First::Rows(firsts), false) => mask.after_rows(firsts),
        };
        if let Some(documents) = &self.documents {
            mask = mask.documents(documents);
        }
        let mut additive = Vec::new();
        for part in &self.parts {
            mask = match part {
                Part::Blocked(booleans) => mask.blocked(Blocked(booleans.view()?)),
                Part::Attends(booleans) => mask.attends(Attends(booleans.view()?)),
                Part::Additive(tensor) => {
                    additive.push(tensor.to_device(&Device::Cpu)?.to_dtype(R::DTYPE)?.contiguous()?);
                    mask
                }
            };
        }
        with_additive(mask, &additive, run)
    }
}

/// Additive parts lie in tensors, each of which is held while it is read.
fn with_additive<R: Arithmetic, O>(
    mask: posenc::Mask<'_, R>,
    parts: &[Tensor],
    run: impl FnOnce(&posenc::Mask<'_, R>) -> Result<O>,
) -> Result<O> {
    match parts.split_first() {
        None => run(&mask),
        Some((first, rest)) => on_cpu("mask", first, |storage, layout| {
            let view = view::<R, 4>(WHAT, storage, layout)?;
            with_additive(mask.additive(view), rest, run)
        }),
    }
}

fn booleans(mask: &Tensor) -> Result<Booleans> {
    if mask.dtype() != DType::U8 {
        return Err(Error::Type {
            what: WHAT,
            given: mask.dtype(),
            expected: "U8, 0 or 1; a mask that is added is `additive`",
            shape: Some(mask.shape().clone()),
        });
    }
    let mask = with_four_axes(mask)?;
    // candle looks for an empty view where it begins, which may be past the end of its memory.
    let values: Vec<u8> = if mask.elem_count() == 0 {
        Vec::new()
    } else {
        mask.flatten_all()?.to_vec1()?
    };
    Ok(Booleans {
        values: values.into_iter().map(|x| x != 0).collect(),
        shape: dims(WHAT, mask.shape())?,
    })
}

/// `[q_len, k_len]` serves all rows and heads.
fn with_four_axes(mask: &Tensor) -> Result<Tensor> {
    match mask.rank() {
        2 => Ok(mask.unsqueeze(0)?.unsqueeze(0)?),
        4 => Ok(mask.clone()),
        _ => Err(Error::Rank {
            what: "mask [batch, heads, q_len, k_len] or [q_len, k_len]",
            expected: 4,
            given: mask.shape().clone(),
        }),
    }
}
