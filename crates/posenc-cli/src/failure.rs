//! Why a command stopped, as the one line that a person reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use posenc::catalogue::catalogue;
use posenc::config::ConfigError;
use posenc::config::extend::ExtendError;
use posenc_lab::LabError;

/// Everything that ends a command early.
#[derive(Debug)]
pub enum Failure {
    /// No failure: help or the version was asked for, or nothing at all.
    Help(clap::Error),
    /// The command line cannot be read: what is wrong with it, and what was perhaps meant.
    Usage(String),
    /// An encoding refuses.
    Encoding(posenc::Error),
    /// The lab refuses.
    Lab(LabError),
    /// The file of weights cannot be read, or a tensor of it.
    Weights { path: PathBuf, error: posenc_nn::Error },
    /// The file holds no such tensor, or several and none was named.
    Tensor {
        path: PathBuf,
        wanted: Option<String>,
        present: Vec<String>,
    },
    /// A model's file cannot be read.
    Unreadable { path: PathBuf, source: io::Error },
    /// A model's file is refused.
    Config {
        path: PathBuf,
        error: Box<ConfigError>,
        lenient: bool,
    },
    /// A model's file cannot be extended.
    Extend {
        path: PathBuf,
        error: Box<ExtendError>,
        lenient: bool,
    },
    /// A file that would be replaced.
    Exists { path: PathBuf },
    /// A file cannot be written where this option says.
    Unwritable {
        path: PathBuf,
        source: io::Error,
        option: &'static str,
    },
    /// A picture's file has the name of something else.
    Foreign { path: PathBuf, option: &'static str },
    /// A demonstration ran, and these claims of its were not seen.
    NotShown(Vec<String>),
    /// The output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// The failure in one line, whatever a path or a foreign error's text holds.
    pub fn line(&self) -> String {
        let lines = self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        lines.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Help(help) => write!(f, "{help}"),
            Failure::Usage(line) => f.write_str(line),
            Failure::Encoding(error) => write!(f, "{error}"),
            // The lab names the field of a configuration; here a person typed an option.
            Failure::Lab(LabError::Configuration { field, expected, given }) => {
                write!(f, "{} must be {expected}, and {given} was given; change it", option(field))
            }
            Failure::Lab(error) => write!(f, "{error}"),
            Failure::Weights {
                path,
                error: posenc_nn::Error::Io { source, .. },
            } => write!(f, "cannot read the weights {}: {source}; name a safetensors file", path.display()),
            Failure::Weights { path, error } => write!(f, "{}: {error}", path.display()),
            Failure::Tensor { path, wanted, present } => tensor(f, path, wanted.as_deref(), present),
            Failure::Unreadable { path, source } => unreadable(f, path, source),
            Failure::Config { path, error, lenient } => config(f, path, error, *lenient),
            Failure::Extend { path, error, lenient } => match &**error {
                ExtendError::Config(error) => config(f, path, error, *lenient),
                error => {
                    write!(f, "{}: {error}", path.display())?;
                    f.write_str(match error {
                        ExtendError::Scaled { .. } => "; --replace replaces it",
                        ExtendError::NoLength { .. } => "; --original says it",
                        ExtendError::NoLists => "; --short-factors and --long-factors name files with them",
                        ExtendError::NotRotary { .. } | ExtendError::Windowed { .. } => "; `posenc explain` says what its layers do",
                        _ => "",
                    })
                }
            },
            Failure::Exists { path } => write!(
                f,
                "{} exists: nothing was written; --force replaces it, or choose another --out",
                path.display()
            ),
            Failure::Unwritable { path, source, option } => write!(
                f,
                "cannot write {}: {source}; choose another {option}, or make this one writable",
                path.display()
            ),
            Failure::Foreign { path, option } => write!(
                f,
                "{} exists and is not a picture of `posenc {}`: nothing was written; move it, or choose another {option}",
                path.display(),
                if *option == "--plot" { "explain" } else { "show" },
            ),
            Failure::NotShown(claims) => write!(
                f,
                "the demonstration does not show what it claims: {}; that is a fault of this program, please report it with the command that was run",
                claims.join("; ")
            ),
            Failure::Output(error) => write!(f, "cannot write the output: {error}; free some space or write it elsewhere"),
        }
    }
}

/// Why a model's file is refused, and whether reading it leniently would help.
fn config(f: &mut fmt::Formatter<'_>, path: &Path, error: &ConfigError, lenient: bool) -> fmt::Result {
    write!(f, "{}: {error}", path.display())?;
    match error {
        _ if lenient => Ok(()),
        ConfigError::Conflict { .. } | ConfigError::UnknownKey { .. } => f.write_str("; --lenient reads it all the same, with a warning"),
        ConfigError::UnknownModel { .. } => f.write_str("; --lenient reads the language model inside it, where there is one that is known"),
        _ => Ok(()),
    }
}

/// A file that is not there may be an encoding's name with a slip.
fn unreadable(f: &mut fmt::Formatter<'_>, path: &Path, source: &io::Error) -> fmt::Result {
    write!(
        f,
        "cannot read {}: {source}; name a model's config.json, or a folder with one",
        path.display()
    )?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let names: Vec<&str> = catalogue().iter().map(|entry| entry.name).collect();
    let near = match posenc::Error::unknown_name("encoding", stem, &names) {
        posenc::Error::UnknownName { nearest, .. } => nearest,
        _ => None,
    };
    // An ending says that a file was meant, unless the rest is a name but for a slip.
    let slip = |near: &String| path.extension().is_none() || near.get(..3).is_some_and(|head| stem.starts_with(head));
    match near.filter(slip).or(names.contains(&stem).then(|| stem.to_string())) {
        Some(near) if source.kind() == io::ErrorKind::NotFound => write!(
            f,
            "; if an encoding was meant: `posenc explain {near}` (there are {})",
            names.join(", ")
        ),
        _ => Ok(()),
    }
}

/// Which tensors there are, and which was perhaps meant.
fn tensor(f: &mut fmt::Formatter<'_>, path: &Path, wanted: Option<&str>, present: &[String]) -> fmt::Result {
    /// Names that fit a message; a model has hundreds of tensors.
    const SHOWN: usize = 12;
    let path = path.display();
    match wanted {
        Some(wanted) => {
            write!(f, "{path} holds no tensor `{wanted}`")?;
            if let posenc::Error::UnknownName {
                nearest: Some(nearest), ..
            } = posenc::Error::unknown_name("tensor", wanted, present)
            {
                write!(f, "; did you mean `{nearest}`?")?;
            }
        }
        None => write!(f, "{path} holds {} tensors: name one with --tensor", present.len())?,
    }
    write!(f, "; it holds: {}", present[..present.len().min(SHOWN)].join(", "))?;
    if present.len() > SHOWN {
        write!(f, " and {} more", present.len() - SHOWN)?;
    }
    Ok(())
}

/// The option that sets a field of the configuration: `training.learning_rate` is `--learning-rate`.
fn option(field: &str) -> String {
    let name = field.rsplit('.').next().unwrap_or(field);
    format!("--{}", name.replace('_', "-"))
}

impl From<posenc::Error> for Failure {
    fn from(error: posenc::Error) -> Self {
        Failure::Encoding(error)
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        match error {
            LabError::Encoding(error) => Failure::Encoding(error),
            error => Failure::Lab(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_its_option() {
        let failure = Failure::from(LabError::Configuration {
            field: "training.learning_rate",
            expected: "positive".into(),
            given: "0".into(),
        });
        assert_eq!(failure.line(), "--learning-rate must be positive, and 0 was given; change it");
    }

    #[test]
    fn what_an_error_quotes_cannot_break_the_line() {
        let failure = Failure::Usage("a\nb\u{1b}[2Jc\r\n".into());
        assert_eq!(failure.line(), "a b\u{fffd}[2Jc");
    }
}
