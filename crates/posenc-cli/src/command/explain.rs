//! `posenc explain`: what an encoding does past the trained length, and its formulas.

use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::explain::{Explanation, explain, explain_all, formula, overview};
use posenc::{Dims, Encoding};
use serde::Serialize;

use super::{print, print_json};
use crate::args::explain::ExplainArguments;
use crate::failure::Failure;

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
    if arguments.formula {
        formulas(arguments)
    } else {
        explanations(arguments)
    }
}

fn explanations(arguments: &ExplainArguments) -> Result<(), Failure> {
    let ExplainArguments {
        trained,
        length,
        lang,
        json,
        ..
    } = *arguments;
    let dims = Dims::new(arguments.model_dim, arguments.heads)?;
    match &arguments.encoding {
        Some(name) => {
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
    let names: Vec<&str> = match &arguments.encoding {
        Some(name) => vec![name],
        None => catalogue().iter().map(|entry| entry.name).collect(),
    };
    let of = |name| {
        Ok(Formula {
            name,
            formula: formula(&encoding(name, arguments.trained)?, arguments.lang),
        })
    };
    let mut formulas = names.into_iter().map(of).collect::<Result<Vec<_>, Failure>>()?;
    if !arguments.json {
        return print(&formulas.iter().map(|f| f.formula.trim_end()).collect::<Vec<_>>().join("\n\n"));
    }
    match (&arguments.encoding, formulas.pop()) {
        (Some(_), Some(only)) => print_json(&only),
        (_, last) => {
            formulas.extend(last);
            print_json(&formulas)
        }
    }
}

fn encoding(name: &str, trained: usize) -> Result<Encoding, Failure> {
    Ok(preset(name, &PresetOptions::new(trained))?)
}
