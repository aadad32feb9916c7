//! The methods that this library knows: where each acts, what it costs, where it ends, who uses it, and what is said and measured about longer sequences.
//!
//! ```
//! use posenc::catalogue::{PresetOptions, catalogue, preset};
//! use posenc::{Dims, Language};
//! for entry in catalogue() {
//!     let encoding = preset(entry.name, &PresetOptions::new(2048))?;
//!     println!("{:12} {:20} {}", entry.name, entry.acts.get(Language::English), encoding);
//! }
//! # Ok::<(), posenc::Error>(())
//! ```

mod entries;
mod list;
mod measured;
mod preset;

pub(crate) use entries::CATALOGUE;
pub use list::list;
pub use measured::{Measured, MeasuredAt, Reach};
pub use preset::{PresetOptions, preset};

use crate::dims::Dims;
use crate::encoding::Method;
use crate::error::{Error, Result};
use crate::words::Words;
use serde::Serialize;

/// What is known of a method without a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The name by which [`preset()`] and the command line know it.
    pub name: &'static str,
    /// Other names that people use for it.
    pub aliases: &'static [&'static str],
    /// What it is called in text.
    pub title: Words<&'static str>,
    /// Where in a transformer it acts.
    pub acts: Words<&'static str>,
    /// Trained numbers, as a formula.
    pub parameters: Words<&'static str>,
    /// The largest position that it answers for.
    pub limit: Words<&'static str>,
    /// Models that use it.
    pub models: &'static [&'static str],
    /// Where it comes from.
    pub paper: Paper,
    /// What the documents this project began with say about sequences longer than the trained ones, in their words.
    pub claims: &'static [Claim],
    /// The formulas in plain text.
    #[serde(skip)]
    pub formula: Words<&'static str>,
}

/// A citation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Paper {
    /// First authors.
    pub authors: &'static str,
    /// Year of publication, if it is a publication.
    pub year: Option<u16>,
    /// Title of the paper, or of the software where there is none.
    pub title: &'static str,
    /// Its number at arXiv, if it is there.
    pub arxiv: Option<&'static str>,
}

/// What one of the documents says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The document's number.
    pub document: &'static str,
    /// Its words.
    pub quote: &'static str,
}

/// All methods, in the order of the data flow; `none` first.
///
/// ```
/// let names: Vec<&str> = posenc::catalogue::catalogue().iter().map(|entry| entry.name).collect();
/// assert_eq!(names[..3], ["none", "learned", "sinusoidal"]);
/// ```
pub fn catalogue() -> &'static [Entry] {
    CATALOGUE
}

impl Entry {
    /// The entry of a name or an alias; capitals and underscores do not matter.
    ///
    /// # Errors
    /// A name that is not known; the error carries the nearest one.
    ///
    /// ```
    /// use posenc::{Error, catalogue::Entry};
    /// assert_eq!(Entry::named("RoPE")?.name, "rotary");
    /// assert!(matches!(Entry::named("rotery"), Err(Error::UnknownName { nearest: Some(name), .. }) if name == "rotary"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn named(name: &str) -> Result<&'static Entry> {
        let given = name.trim().to_lowercase().replace('_', "-");
        let known = |entry: &&Entry| entry.name == given || entry.aliases.contains(&given.as_str());
        CATALOGUE.iter().find(known).ok_or_else(|| {
            // The nearest may be an alias; it is told by the name that the entry goes by, unless it is the alias that was nearly hit.
            let all: Vec<&str> = CATALOGUE
                .iter()
                .flat_map(|entry| [entry.name].into_iter().chain(entry.aliases.iter().copied()))
                .collect();
            match Error::unknown_name("encoding", &given, &all) {
                Error::UnknownName { kind, nearest, .. } => Error::UnknownName {
                    kind,
                    given: name.to_string(),
                    nearest,
                    known: CATALOGUE.iter().map(|entry| entry.name.to_string()).collect(),
                },
                other => other,
            }
        })
    }

    /// The entry of a method.
    ///
    /// ```
    /// use posenc::{Alibi, catalogue::Entry};
    /// assert_eq!(Entry::of(&Alibi::new().into()).name, "alibi");
    /// ```
    pub fn of(method: &Method) -> &'static Entry {
        match method {
            Method::Learned(_) => &entries::LEARNED,
            Method::Sinusoidal(_) => &entries::SINUSOIDAL,
            Method::InputTable(_) => &entries::INPUT_TABLE,
            Method::Rotary(_) => &entries::ROTARY,
            Method::Shaw(_) => &entries::SHAW,
            Method::MusicTransformer(_) => &entries::MUSIC_TRANSFORMER,
            Method::TransformerXl(_) => &entries::TRANSFORMER_XL,
            Method::XlNet(_) => &entries::XLNET,
            Method::Deberta(_) => &entries::DEBERTA,
            Method::Alibi(_) => &entries::ALIBI,
            Method::ClippedBias(_) => &entries::CLIPPED,
            Method::SharedBias(_) => &entries::SHARED,
            Method::T5Bias(_) => &entries::T5,
            Method::Kerple(_) => &entries::KERPLE,
            Method::Sandwich(_) => &entries::SANDWICH,
            Method::Fire(_) => &entries::FIRE,
            Method::SwinBias(_) => &entries::SWIN,
            Method::LogCpb(_) => &entries::LOG_CPB,
        }
    }

    /// Trained numbers that the preset for a trained length has in a model of these widths: those that the layers share, and those that each layer has for itself, its own
    /// projections of tables included.
    ///
    /// # Errors
    /// Widths that the method cannot work with.
    ///
    /// ```
    /// use posenc::{Dims, catalogue::Entry};
    /// assert_eq!(Entry::named("learned")?.parameter_count(Dims::new(768, 12)?, 1024)?, (786_432, 0)); // GPT-2
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn parameter_count(&self, dims: Dims, trained: usize) -> Result<(usize, usize)> {
        let plan = preset(self.name, &PresetOptions::new(trained))?.plan(dims)?;
        let projected = plan.projections().iter().flat_map(|p| p.parameters(&dims));
        let all: Vec<_> = plan.parameters().iter().cloned().chain(projected).collect();
        let of = |scope| all.iter().filter(|p| p.scope == scope).map(|p| p.size()).sum();
        Ok((of(crate::params::Scope::Model), of(crate::params::Scope::Layer)))
    }

    /// What a committed comparison measured past the trained length, if one has.
    ///
    /// ```
    /// use posenc::{catalogue::Entry, Language};
    /// if let Some(measured) = Entry::named("rotary")?.measured() {
    ///     println!("{}", measured.line(Language::English));
    /// }
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn measured(&self) -> Option<&'static Measured> {
        measured::of(self.name)
    }
}

impl std::fmt::Display for Paper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.authors, self.title)?;
        if let Some(year) = self.year {
            write!(f, ", {year}")?;
        }
        match self.arxiv {
            Some(id) => write!(f, ", arXiv {id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
