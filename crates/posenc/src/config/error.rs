//! Why a configuration was refused, or what was wrong with one that was read all the same.

use super::Mode;
use std::fmt;

/// Why a model's configuration was refused; in [`Mode::Lenient`](super::Mode::Lenient) some of these are warnings instead. Keys are named by their path in the file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or not the JSON of a configuration: a key twice in one object, nested too deep, a number past any number type.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 where only the line is known.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// Not what the format puts there: a GGUF file's bytes.
    Bytes {
        /// Offset of the first byte of what is wrong.
        at: usize,
        /// What stands there.
        given: String,
        /// What the format allows.
        expected: &'static str,
    },
    /// The file ends before what is needed does.
    Cut {
        /// What is not whole.
        what: String,
        /// Bytes of the file that were given.
        given: usize,
        /// Bytes from its start that are needed, at least.
        needed: u64,
    },
    /// Frequencies or tables that this file does not say, and that change what layers do: they stand in a tensor, or in another file.
    Unread {
        /// The tensor, or what holds it.
        tensor: String,
        /// What is known, and what to do.
        reason: String,
    },
    /// More of something than any model has.
    TooMany {
        /// What.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many are read.
        limit: usize,
    },
    /// A key that is needed is not there.
    Missing {
        /// Its path, or several that would do.
        key: String,
        /// What cannot be known without it.
        needed_for: &'static str,
    },
    /// A value of another kind or outside its range.
    Wrong {
        /// Path of the key.
        key: String,
        /// What was given.
        given: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Two keys say different things.
    Conflict {
        /// One key and its value.
        first: (String, String),
        /// The other.
        second: (String, String),
        /// Which of them counts in lenient mode.
        taken: String,
    },
    /// A key in a dictionary of rotary settings that its kind does not have.
    UnknownKey {
        /// Path of the key.
        key: String,
        /// The kind of rotary scaling.
        kind: String,
    },
    /// A model type that the registry does not have.
    UnknownModel {
        /// What was given.
        model_type: String,
        /// Known types with a similar name.
        nearest: Vec<&'static str>,
    },
    /// A known model type whose positions cannot be written as a list of layers here.
    NotExpressed {
        /// The model type.
        model_type: String,
        /// Why.
        reason: &'static str,
    },
    /// The settings were read, and the library refuses them.
    Setting {
        /// Where they stand.
        path: String,
        /// Why.
        error: crate::Error,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Json { line, column, message } => write!(f, "JSON, line {line}, column {column}: {message}"),
            ConfigError::Bytes { at, given, expected } => write!(f, "byte {at}: {given}, expected {expected}"),
            ConfigError::Cut { what, given, needed } => {
                write!(
                    f,
                    "{what} does not end within the {given} bytes given: at least the first {needed} are needed"
                )
            }
            ConfigError::Unread { tensor, reason } => write!(f, "`{tensor}`: {reason}"),
            ConfigError::TooMany { what, given, limit } => write!(f, "{given} {what}; at most {limit} are read"),
            ConfigError::Missing { key, needed_for } => write!(f, "`{key}` is missing: {needed_for} cannot be known without it"),
            ConfigError::Wrong { key, given, expected } if key == "the file" => write!(f, "the file is {given}, expected {expected}"),
            ConfigError::Wrong { key, given, expected } => write!(f, "`{key}` is {given}, expected {expected}"),
            ConfigError::Conflict { first, second, taken } => write!(
                f,
                "`{}` is {} but `{}` is {}: remove the wrong one (lenient mode takes `{taken}`)",
                first.0, first.1, second.0, second.1
            ),
            ConfigError::UnknownKey { key, kind } => {
                write!(
                    f,
                    "`{key}` means nothing to rotary positions of type `{kind}`: remove it or correct its name (lenient mode passes over it)"
                )
            }
            ConfigError::UnknownModel { model_type, nearest } => {
                write!(
                    f,
                    "model type `{model_type}` is not known: its class defaults (theta, rotated share, pairing, which layers turn) need a line in crates/posenc/src/config/registry (an architecture of GGUF: in config/gguf/architectures.rs beside it); docs/models.md lists those that are read"
                )?;
                if !nearest.is_empty() {
                    write!(f, "; similar names: {}", nearest.join(", "))?;
                }
                Ok(())
            }
            ConfigError::NotExpressed { model_type, reason } => write!(f, "the positions of `{model_type}` are not expressed: {reason}"),
            ConfigError::Setting { path, error } if path.is_empty() => write!(f, "{error}"),
            ConfigError::Setting { path, error } => write!(f, "{path}: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Setting { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What is an error in one mode and a warning in the other.
pub(super) struct Doubts {
    mode: Mode,
    pub warnings: Vec<ConfigError>,
}

impl Doubts {
    pub fn new(mode: Mode) -> Doubts {
        Doubts {
            mode,
            warnings: Vec::new(),
        }
    }

    /// An error in strict mode, else a warning.
    pub fn complain(&mut self, wrong: ConfigError) -> Result<(), ConfigError> {
        if self.mode == Mode::Strict {
            return Err(wrong);
        }
        self.warn(wrong);
        Ok(())
    }

    /// A warning in either mode.
    pub fn warn(&mut self, wrong: ConfigError) {
        if !self.warnings.contains(&wrong) {
            self.warnings.push(wrong);
        }
    }
}
