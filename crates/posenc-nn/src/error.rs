//! What can go wrong, with what was expected and what was given.

use crate::weights::Dtype;
use std::fmt;
use std::path::PathBuf;

/// Names that a message lists; an error holds all.
const SHOWN: usize = 12;

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
    /// Bytes are not a safetensors file, or a damaged one; or what was to be saved does not fit the format.
    Format {
        /// The tensor at fault, if it is one.
        tensor: Option<String>,
        /// What the format asks for.
        expected: String,
        /// What is there.
        given: String,
    },
    /// A file lacks tensors that the store is to be filled from.
    MissingTensors {
        /// All of their names.
        names: Vec<String>,
        /// Tensors of the file that nothing in the store asked for, sorted: another prefix shows here.
        others: Vec<String>,
    },
    /// A tensor of a file holds something other than f32, f64, f16 or bf16.
    Dtype {
        /// The tensor's name.
        name: String,
        /// What it holds.
        given: String,
    },
    /// A finite number would be infinite in the type that it is loaded or saved as.
    Overflow {
        /// The tensor's name.
        name: String,
        /// Flat index in the tensor.
        index: usize,
        /// The number.
        value: f64,
        /// The type.
        into: Dtype,
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
            Error::Format { tensor, expected, given } => {
                write!(f, "not a whole safetensors file: ")?;
                if let Some(name) = tensor {
                    write!(f, "tensor `{name}`: ")?;
                }
                write!(f, "expected {expected}, given {given}; fetch or save it again")
            }
            Error::MissingTensors { names, others } => {
                write!(f, "the file lacks {} of the model's tensors: {}", names.len(), names.join(", "))?;
                match &others[..] {
                    [] => write!(f, "; load a file that was saved from this model"),
                    [..] => write!(
                        f,
                        "; it has {} others: {}{}; say which is which, or load a file that was saved from this model",
                        others.len(),
                        others[..others.len().min(SHOWN)].join(", "),
                        if others.len() > SHOWN { ", …" } else { "" }
                    ),
                }
            }
            Error::Dtype { name, given } => write!(f, "tensor `{name}` holds {given}; convert it to F32, F64, F16 or BF16"),
            Error::Overflow { name, index, value, into } => {
                write!(
                    f,
                    "tensor `{name}` holds {value} at index {index}, too large for {into}; use a wider type"
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
            _ => None,
        }
    }
}

impl From<posenc::Error> for Error {
    fn from(error: posenc::Error) -> Error {
        Error::Core(error)
    }
}
