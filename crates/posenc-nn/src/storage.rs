//! What modules are stored in: any element, with arithmetic in its [`Number`].

use crate::attention::StreamGrads;
use crate::error::Result;
use crate::shape::tensor;
use crate::weights::Stored;
use half::{bf16, f16};
use posenc::{Element, ParamSpec, Params};
use std::borrow::Cow;

/// What a module's parameters and streams may be stored in: `f32`, `f64`, `f16` or `bf16`. Arithmetic is in its [`Number`](crate::Number), [`Element::Real`]: half precision is
/// widened on the way in, exactly, and rounded once on the way out. No other type can implement it.
#[doc(alias = "dtype")]
pub trait Storage: Element + Stored {
    /// A stream in the precision of the arithmetic.
    #[doc(hidden)]
    fn widened(x: &[Self]) -> Cow<'_, [Self::Real]>;

    /// These parameters in the precision of the arithmetic: the store itself where they are.
    #[doc(hidden)]
    fn parameters<'p>(params: &'p Params<Self>, specs: &[ParamSpec]) -> Result<Cow<'p, Params<Self::Real>>>;

    /// A result as it is stored.
    #[doc(hidden)]
    fn narrowed(x: Vec<Self::Real>) -> Vec<Self>;

    /// Lets `run` write gradients in the precision of the arithmetic, and stores them.
    #[doc(hidden)]
    fn gradients(into: StreamGrads<'_, Self>, run: impl FnOnce(StreamGrads<'_, Self::Real>) -> Result<()>) -> Result<()>;
}

macro_rules! arithmetic {
    ($($number:ty),+) => {$(
        impl Storage for $number {
            fn widened(x: &[Self]) -> Cow<'_, [Self]> {
                Cow::Borrowed(x)
            }

            fn parameters<'p>(params: &'p Params<Self>, specs: &[ParamSpec]) -> Result<Cow<'p, Params<Self>>> {
                for spec in specs {
                    tensor(params, spec)?;
                }
                Ok(Cow::Borrowed(params))
            }

            fn narrowed(x: Vec<Self>) -> Vec<Self> {
                x
            }

            fn gradients(into: StreamGrads<'_, Self>, run: impl FnOnce(StreamGrads<'_, Self>) -> Result<()>) -> Result<()> {
                run(into)
            }
        }
    )+};
}

macro_rules! half_precision {
    ($($element:ty),+) => {$(
        impl Storage for $element {
            fn widened(x: &[Self]) -> Cow<'_, [f32]> {
                x.iter().map(|x| x.widen()).collect()
            }

            fn parameters<'p>(params: &'p Params<Self>, specs: &[ParamSpec]) -> Result<Cow<'p, Params<f32>>> {
                Ok(Cow::Owned(params.part(specs)?))
            }

            fn narrowed(x: Vec<f32>) -> Vec<Self> {
                x.into_iter().map(Self::narrow).collect()
            }

            fn gradients(into: StreamGrads<'_, Self>, run: impl FnOnce(StreamGrads<'_, f32>) -> Result<()>) -> Result<()> {
                let wide = |narrow: &[Self]| vec![0.0f32; narrow.len()];
                let store = |wide: &[f32], narrow: &mut [Self]| narrow.iter_mut().zip(wide).for_each(|(to, from)| *to = Self::narrow(*from));
                match into {
                    StreamGrads::Same(dx) => {
                        let mut all = wide(dx);
                        run(StreamGrads::Same(&mut all))?;
                        store(&all, dx);
                    }
                    StreamGrads::Apart { query, key, value } => {
                        let [mut q, mut k, mut v] = [wide(query), wide(key), wide(value)];
                        run(StreamGrads::Apart { query: &mut q, key: &mut k, value: &mut v })?;
                        store(&q, query);
                        store(&k, key);
                        store(&v, value);
                    }
                }
                Ok(())
            }
        }
    )+};
}

arithmetic!(f32, f64);
half_precision!(f16, bf16);

/// Lets `run` write the gradient of one stream in the precision of the arithmetic, and stores it.
pub(crate) fn stored_gradient<T: Storage>(into: &mut [T], run: impl FnOnce(&mut [T::Real]) -> Result<()>) -> Result<()> {
    T::gradients(StreamGrads::Same(into), |d| {
        let (StreamGrads::Same(d) | StreamGrads::Apart { query: d, .. }) = d;
        run(d)
    })
}
