//! `posenc demo`: runs a demonstration of the lab, or lists them.

use clap::ValueEnum;
use posenc_lab::demo;
use serde::Serialize;

use super::{print, print_json};
use crate::args::demo::{Demo, DemoArguments};
use crate::columns::table;
use crate::export::{order, rotary_bug};
use crate::failure::Failure;

/// A demonstration that can be run.
#[derive(Serialize)]
struct Listed {
    name: String,
    shows: String,
}

pub fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let DemoArguments { demo, seed, lang, json } = *arguments;
    let not_shown = match demo {
        None => return list(json),
        Some(Demo::Order) => {
            let found = demo::order(seed);
            show(&found, |found| order::text(found, lang), json)?;
            order::not_shown(&found)
        }
        Some(Demo::RotaryBug) => {
            let found = demo::rotary_bug(seed)?;
            show(&found, |found| rotary_bug::text(found, lang), json)?;
            rotary_bug::not_shown(&found)
        }
    };
    judged(not_shown)
}

fn show<T: Serialize>(found: &T, text: impl Fn(&T) -> String, json: bool) -> Result<(), Failure> {
    if json { print_json(found) } else { print(&text(found)) }
}

/// What was printed stands; a claim that was not seen is a failure all the same.
fn judged(not_shown: Vec<String>) -> Result<(), Failure> {
    if not_shown.is_empty() {
        Ok(())
    } else {
        Err(Failure::NotShown(not_shown))
    }
}

fn list(json: bool) -> Result<(), Failure> {
    let values = Demo::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let all: Vec<Listed> = values
        .map(|value| Listed {
            name: value.get_name().to_string(),
            shows: value.get_help().map(ToString::to_string).unwrap_or_default(),
        })
        .collect();
    if json {
        return print_json(&all);
    }
    let rows: Vec<_> = all.into_iter().map(|demo| [vec![demo.name], vec![demo.shows]]).collect();
    print(&format!(
        "{}\nRun one with `posenc demo NAME`.",
        table([("demo", 10), ("what it shows", 66)], &rows)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_was_not_seen_is_a_failure_that_names_it() {
        assert!(judged(Vec::new()).is_ok());
        let Err(failure) = judged(vec!["the sky is green".into()]) else {
            panic!()
        };
        assert!(matches!(failure, Failure::NotShown(_)));
        let line = failure.line();
        assert!(
            line.contains("does not show what it claims: the sky is green") && line.contains("report"),
            "{line}"
        );
    }
}
