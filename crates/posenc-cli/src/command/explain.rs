//! `posenc explain`: what an encoding does past the trained length, and its formulas; or what a model's file does with positions.

use std::path::Path;

use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::explain::{Explanation, explain, explain_all, formula, overview};
use posenc::{Dims, Encoding, Error};
use serde::Serialize;

use super::{model, print, print_json};
use crate::args::explain::ExplainArguments;
use crate::failure::Failure;

/// What is asked of an encoding where nothing else is: document 004's exercise, in a small model.
const TRAINED: usize = 2048;
const LENGTH: usize = 3000;
const MODEL_DIM: usize = 1024;
const HEADS: usize = 16;

/// An explanation under the name that was asked for.
#[derive(Serialize)]
struct Explained<'a> {
    name: &'a str,
    #[serde(flatten)]
    explanation: Explanation,
}

/// The formulas of a name.
#[derive(Serialize)]
struct Formula<'a> {
    name: &'a str,
    formula: String,
}

pub fn run(arguments: &ExplainArguments) -> Result<(), Failure> {
    if let Some(path) = arguments.subject.as_deref().filter(|subject| is_file(subject)) {
        return model::explain(path, arguments);
    }
    let of_a_file = [("plot", arguments.plot.is_some()), ("lenient", arguments.lenient)];
    if let Some((option, _)) = of_a_file.iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!(
            "--{option} is for a model's file, and none was named; `posenc explain --help` says what can be asked"
        )));
    }
    if arguments.formula {
        formulas(arguments)
    } else {
        explanations(arguments)
    }
}

/// A model's file is meant, not an encoding: no encoding's name has a separator or an ending.
fn is_file(subject: &Path) -> bool {
    let ending = subject
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default()
        .to_lowercase();
    let is_name = subject.to_str().is_some_and(|name| preset(name, &PresetOptions::new(1)).is_ok());
    subject.components().count() > 1
        || subject.to_string_lossy().contains(std::path::is_separator)
        || ["json", "gguf"].contains(&ending.as_str())
        || (subject.exists() && !is_name)
}

/// The name of an encoding.
fn name(subject: &Path) -> Result<&str, Failure> {
    subject.to_str().ok_or_else(|| {
        Failure::Encoding(Error::Invalid {
            what: "the encoding",
            given: subject.to_string_lossy().into_owned(),
            expected: "a name in UTF-8, as `posenc list` prints it",
        })
    })
}

fn explanations(arguments: &ExplainArguments) -> Result<(), Failure> {
    let ExplainArguments { lang, json, .. } = *arguments;
    let (trained, length) = (arguments.trained.unwrap_or(TRAINED), arguments.length.unwrap_or(LENGTH));
    let dims = Dims::new(arguments.model_dim.unwrap_or(MODEL_DIM), arguments.heads.unwrap_or(HEADS))?;
    match &arguments.subject {
        Some(subject) => {
            let name = name(subject)?;
            let explanation = explain(&encoding(name, trained)?, dims, trained, length)?;
            if json {
                return print_json(&Explained { name, explanation });
            }
            print(&explanation.text(lang))
        }
        None => {
            let all = explain_all(dims, trained, length)?;
            if json {
                let named = |(name, explanation)| Explained { name, explanation };
                return print_json(&all.into_iter().map(named).collect::<Vec<_>>());
            }
            print(&overview(&all, lang))
        }
    }
}

fn formulas(arguments: &ExplainArguments) -> Result<(), Failure> {
    let names: Vec<&str> = match &arguments.subject {
        Some(subject) => vec![name(subject)?],
        None => catalogue().iter().map(|entry| entry.name).collect(),
    };
    let of = |name| {
        Ok(Formula {
            name,
            formula: formula(&encoding(name, arguments.trained.unwrap_or(TRAINED))?, arguments.lang),
        })
    };
    let mut formulas = names.into_iter().map(of).collect::<Result<Vec<_>, Failure>>()?;
    if !arguments.json {
        return print(&formulas.iter().map(|f| f.formula.trim_end()).collect::<Vec<_>>().join("\n\n"));
    }
    match (&arguments.subject, formulas.pop()) {
        (Some(_), Some(only)) => print_json(&only),
        (_, last) => {
            formulas.extend(last);
            print_json(&formulas)
        }
    }
}

fn encoding(name: &str, trained: usize) -> Result<Encoding, Failure> {
    preset(name, &PresetOptions::new(trained)).map_err(|error| match error {
        Error::UnknownName { .. } => Failure::Usage(format!("{error}; and there is no file of that name")),
        error => error.into(),
    })
}
