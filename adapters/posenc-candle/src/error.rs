//! What can go wrong on tensors, with the shapes that were given.

use candle_core::{DType, Shape};
use std::fmt;

/// The result of everything here that can refuse its input.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input was refused. On error nothing was written.
///
/// In a function that returns candle's `Result`, `?` turns it into candle's error, with the same text.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Side};
/// use posenc_candle::{Call, Error};
/// let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(8, 2)?)?;
/// let call = Call::new(&plan, &Positions::range(0..3))?;
/// let x = Tensor::zeros((1, 2, 5, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let refused = call.rotate(Side::Query, &x).unwrap_err();
/// assert!(matches!(refused, Error::Core(posenc::Error::Shape { .. })));
/// assert_eq!(refused.to_string(), "x [batch, heads, seq, head_dim]: expected shape [1, 2, 3, 4], given [1, 2, 5, 4]");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What the core refuses: shapes, positions, settings.
    Core(posenc::Error),
    /// A model's configuration file that the core refuses.
    #[cfg(feature = "config")]
    Config(Box<posenc::config::ConfigError>),
    /// What candle refuses.
    Candle(candle_core::Error),
    /// A tensor has another number of axes than its role asks for.
    Rank {
        /// The argument's name and axes.
        what: &'static str,
        /// How many axes it has.
        expected: usize,
        /// The shape that was given.
        given: Shape,
    },
    /// A tensor of numbers that nothing here computes with.
    Type {
        /// The argument's name.
        what: &'static str,
        /// What it holds.
        given: DType,
        /// What it may hold.
        expected: &'static str,
        /// Its shape; none where a type alone was given.
        shape: Option<Shape>,
    },
    /// Tensors that belong together hold different types.
    Types {
        /// The argument's name.
        what: &'static str,
        /// The type of those that it belongs to.
        expected: DType,
        /// What it holds.
        given: DType,
        /// Its shape.
        shape: Shape,
    },
    /// A tensor has gaps in its last axis: rows are read as they lie.
    Strided {
        /// The argument's name and axes.
        what: &'static str,
        /// Its shape.
        shape: Shape,
        /// Numbers from one of the last axis to the next.
        stride: usize,
    },
    /// A tensor that gradients flow through would be written over, or taken for a constant: its gradient would be lost without a word.
    Tracked {
        /// Who refuses.
        op: &'static str,
        /// The tensor's shape.
        shape: Shape,
        /// What to do instead.
        instead: &'static str,
    },
    /// A tensor lies on another device than the operation works on.
    Device {
        /// Who refuses, and what to do instead.
        op: &'static str,
        /// The tensor's shape.
        shape: Shape,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Core(error) => error.fmt(f),
            #[cfg(feature = "config")]
            Error::Config(error) => error.fmt(f),
            Error::Candle(error) => error.fmt(f),
            Error::Rank { what, expected, given } => write!(f, "{what}: expected {expected} axes, given shape {:?}", given.dims()),
            Error::Type {
                what,
                given,
                expected,
                shape,
            } => match shape {
                Some(shape) => write!(f, "{what}: shape {:?} holds {given:?}; expected {expected}", shape.dims()),
                None => write!(f, "{what}: given {given:?}; expected {expected}"),
            },
            Error::Types {
                what,
                expected,
                given,
                shape,
            } => {
                let shape = shape.dims();
                write!(
                    f,
                    "{what}: shape {shape:?} holds {given:?} beside {expected:?}; convert one of them"
                )
            }
            Error::Strided { what, shape, stride } => {
                let shape = shape.dims();
                write!(
                    f,
                    "{what}: shape {shape:?} has a stride of {stride} in its last axis, 1 is expected; make it contiguous first"
                )
            }
            Error::Tracked { op, shape, instead } => {
                write!(f, "{op}: gradients flow through the tensor of shape {:?}; {instead}", shape.dims())
            }
            Error::Device { op, shape } => write!(f, "{op}: the tensor of shape {:?} is not on the CPU", shape.dims()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Core(error) => Some(error),
            #[cfg(feature = "config")]
            Error::Config(error) => Some(&**error),
            Error::Candle(error) => Some(error),
            _ => None,
        }
    }
}

impl From<posenc::Error> for Error {
    fn from(error: posenc::Error) -> Error {
        Error::Core(error)
    }
}

#[cfg(feature = "config")]
impl From<posenc::config::ConfigError> for Error {
    fn from(error: posenc::config::ConfigError) -> Error {
        Error::Config(Box::new(error))
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        Error::Candle(error)
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> candle_core::Error {
        match error {
            Error::Candle(error) => error,
            error => candle_core::Error::wrap(error),
        }
    }
}
