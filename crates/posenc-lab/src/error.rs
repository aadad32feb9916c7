//! What can go wrong, as data: what was expected, what was given, what to do about it.
//!
//! Every error prints as one line. No error is returned after something that was finished before has been touched.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything that the lab refuses.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// What an encoding or a layer refuses: its own text says why.
    Encoding(posenc::Error),
    /// What a module of the model refuses.
    Module(posenc_nn::Error),
    /// The text cannot be read: missing, a folder, not permitted.
    TextUnreadable {
        /// As the user gave it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The text has no bytes.
    TextEmpty {
        /// As the user gave it.
        path: PathBuf,
    },
    /// The file is not a text in UTF-8.
    TextBinary {
        /// As the user gave it.
        path: PathBuf,
        /// What was found.
        found: NotText,
        /// Where, in bytes from the start.
        offset: usize,
    },
    /// The text does not suffice for what shall be read from it.
    TextTooShort {
        /// What a person calls the text.
        name: String,
        /// Which part of it is too short: `text` or `held-out part`.
        part: &'static str,
        /// Tokens that are there.
        given: usize,
        /// Tokens that are needed.
        needed: usize,
    },
    /// The training part has fewer than two different tokens, or more than a token can number.
    TextVocabulary {
        /// What a person calls the text.
        name: String,
        /// Different tokens that occur in the training part.
        given: usize,
        /// The most that are possible.
        limit: usize,
    },
    /// A number or list of the configuration that no comparison can have.
    Configuration {
        /// Name of the field in [`Config`](crate::results::Config).
        field: &'static str,
        /// What the field must be.
        expected: String,
        /// What it is.
        given: String,
    },
    /// The results folder cannot be made or written to.
    FolderUnwritable {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process holds the results folder.
    FolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds files with the names of ours, but no comparison that they could belong to.
    FolderForeign {
        /// The folder.
        path: PathBuf,
        /// A file that would be overwritten.
        file: String,
    },
    /// The folder, or one run in it, belongs to another configuration.
    OtherConfiguration {
        /// The file that was compared.
        path: PathBuf,
        /// The first field that differs, as a path: `training.batch`.
        field: String,
        /// Its value in the file.
        stored: String,
        /// Its value now.
        wanted: String,
    },
    /// A file of the results folder was cut off or edited.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file was written in another version of the schema.
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        given: u64,
        /// The version that this program reads.
        expected: u32,
    },
    /// Results were asked for before every run was there.
    Unfinished {
        /// Names of the missing runs.
        missing: Vec<String>,
    },
}

/// Why a file is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotText {
    /// A byte 0, which no text in UTF-8 has.
    Nul,
    /// A sequence of bytes that is not UTF-8.
    NotUtf8,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(error) => write!(f, "{error}"),
            Self::Module(error) => write!(f, "{error}"),
            Self::TextUnreadable { path, source } => {
                write!(
                    f,
                    "cannot read the text {}: {source}; give a text file in UTF-8 that exists and may be read",
                    path.display()
                )
            }
            Self::TextEmpty { path } => {
                write!(
                    f,
                    "the text {} is empty; give a text file in UTF-8, a novel's length or more",
                    path.display()
                )
            }
            Self::TextBinary { path, found, offset } => {
                let what = match found {
                    NotText::Nul => "binary (or UTF-16): byte 0",
                    NotText::NotUtf8 => "not UTF-8: an invalid sequence",
                };
                write!(
                    f,
                    "the text {} is {what} at offset {offset}; characters and bytes both need UTF-8, so convert it first",
                    path.display()
                )
            }
            Self::TextTooShort { name, part, given, needed } => write!(
                f,
                "the {part} of {name} has {given} tokens and {needed} are needed; give a longer text, or shorten the evaluated lengths or their number of places"
            ),
            Self::TextVocabulary { name, given, limit } => write!(
                f,
                "the training part of {name} has {given} different tokens and a model needs 2 to {limit}; give ordinary prose, or use bytes as tokens"
            ),
            Self::Configuration { field, expected, given } => {
                write!(f, "{field} must be {expected}, and {given} was given; change it")
            }
            Self::FolderUnwritable { path, source } => {
                write!(
                    f,
                    "cannot write {}: {source}; choose another results folder, or make this one writable",
                    path.display()
                )
            }
            Self::FolderInUse { path } => {
                write!(
                    f,
                    "another process is working in {}; wait until it ends, or choose another results folder",
                    path.display()
                )
            }
            Self::FolderForeign { path, file } => {
                write!(
                    f,
                    "{} holds {file} but no comparison that could be resumed; choose another results folder, or move that file away",
                    path.display()
                )
            }
            Self::OtherConfiguration {
                path,
                field,
                stored,
                wanted,
            } => write!(
                f,
                "{} belongs to another comparison: {field} is {stored} there and {wanted} now; choose another results folder, delete this one, or ask for what it holds",
                path.display()
            ),
            Self::Damaged { path, reason, remedy } => write!(f, "{} is damaged: {reason}; {remedy}", path.display()),
            Self::OtherSchema { path, given, expected } => write!(
                f,
                "{} was written in version {given} of the schema and version {expected} is expected; use the posenc that wrote it, or another results folder",
                path.display()
            ),
            Self::Unfinished { missing } => {
                write!(
                    f,
                    "{} runs are missing ({}); finish the comparison first",
                    missing.len(),
                    missing.join(", ")
                )
            }
        }
    }
}

impl Error for LabError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encoding(error) => Some(error),
            Self::Module(error) => Some(error),
            Self::TextUnreadable { source, .. } | Self::FolderUnwritable { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<posenc::Error> for LabError {
    fn from(error: posenc::Error) -> Self {
        Self::Encoding(error)
    }
}

impl From<posenc_nn::Error> for LabError {
    fn from(error: posenc_nn::Error) -> Self {
        match error {
            posenc_nn::Error::Core(error) => Self::Encoding(error),
            error => Self::Module(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_that_says_what_to_do() {
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = || PathBuf::from("somewhere/file");
        let errors = [
            (
                LabError::TextUnreadable {
                    path: path(),
                    source: io(),
                },
                "give",
            ),
            (LabError::TextEmpty { path: path() }, "give"),
            (
                LabError::TextBinary {
                    path: path(),
                    found: NotText::Nul,
                    offset: 7,
                },
                "convert",
            ),
            (
                LabError::TextBinary {
                    path: path(),
                    found: NotText::NotUtf8,
                    offset: 7,
                },
                "convert",
            ),
            (
                LabError::TextTooShort {
                    name: "x".into(),
                    part: "text",
                    given: 12,
                    needed: 513,
                },
                "longer",
            ),
            (
                LabError::TextVocabulary {
                    name: "x".into(),
                    given: 1,
                    limit: 65536,
                },
                "give",
            ),
            (
                LabError::Configuration {
                    field: "seeds",
                    expected: "a list".into(),
                    given: "[]".into(),
                },
                "change",
            ),
            (
                LabError::FolderUnwritable {
                    path: path(),
                    source: io(),
                },
                "choose",
            ),
            (LabError::FolderInUse { path: path() }, "wait"),
            (
                LabError::FolderForeign {
                    path: path(),
                    file: "results.json".into(),
                },
                "choose",
            ),
            (
                LabError::OtherConfiguration {
                    path: path(),
                    field: "a.b".into(),
                    stored: "1".into(),
                    wanted: "2".into(),
                },
                "choose",
            ),
            (
                LabError::Damaged {
                    path: path(),
                    reason: "cut off".into(),
                    remedy: "delete it",
                },
                "delete",
            ),
            (
                LabError::OtherSchema {
                    path: path(),
                    given: 9,
                    expected: 1,
                },
                "use",
            ),
            (
                LabError::Unfinished {
                    missing: vec!["alibi, seed 1".into()],
                },
                "finish",
            ),
        ];
        for (error, remedy) in errors {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.contains(remedy), "{line}");
        }
    }
}
