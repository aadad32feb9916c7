//! What can go wrong, with what was expected and what was given.

use std::fmt;
use std::path::PathBuf;

/// The result of everything that can refuse its input.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input was refused. On error no output was touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A shape, a storage or a parameter that the core refuses.
    Core(posenc::Error),
    /// A token id is not in the vocabulary.
    Token {
        /// The argument's name.
        what: &'static str,
        /// The id.
        token: usize,
        /// Its index in what was given.
        index: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// No target counts towards a mean.
    NoTargets,
    /// Two stores of parameters hold different tensors.
    Layout {
        /// The first name at which they differ.
        name: String,
    },
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Bytes are not a safetensors file.
    Format(safetensors::SafeTensorError),
    /// A file lacks tensors that the store has.
    MissingTensors {
        /// All of their names.
        names: Vec<String>,
    },
    /// A tensor of a file holds something other than f32, f64, f16 or bf16.
    Dtype {
        /// The tensor's name.
        name: String,
        /// What it holds.
        given: String,
    },
    /// A finite number of a file is infinite in the type of the store.
    Overflow {
        /// The tensor's name.
        name: String,
        /// Flat index in the tensor.
        index: usize,
        /// The number.
        value: f64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Core(error) => write!(f, "{error}"),
            Error::Token { what, token, index, vocab } => write!(
                f,
                "{what}[{index}] = {token} is not in the vocabulary of {vocab}; ids run from 0 to {}",
                vocab.saturating_sub(1)
            ),
            Error::NoTargets => write!(f, "no target counts: a mean needs at least one token that is not ignored"),
            Error::Layout { name } => write!(
                f,
                "two parameter stores differ at `{name}`; make gradients and moments with `Params::zeros_like`"
            ),
            Error::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Format(error) => write!(f, "not a safetensors file, or a damaged one: {error}; fetch or save it again"),
            Error::MissingTensors { names } => write!(
                f,
                "the file lacks {} of the model's tensors: {}; load a file that was saved from this model",
                names.len(),
                names.join(", ")
            ),
            Error::Dtype { name, given } => write!(f, "tensor `{name}` holds {given}; convert it to F32, F64, F16 or BF16"),
            Error::Overflow { name, index, value } => {
                write!(
                    f,
                    "tensor `{name}` holds {value} at index {index}, too large for f32; load it as f64"
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Core(error) => Some(error),
            Error::Io { source, .. } => Some(source),
            Error::Format(error) => Some(error),
            _ => None,
        }
    }
}

impl From<posenc::Error> for Error {
    fn from(error: posenc::Error) -> Error {
        Error::Core(error)
    }
}

impl From<safetensors::SafeTensorError> for Error {
    fn from(error: safetensors::SafeTensorError) -> Error {
        Error::Format(error)
    }
}
