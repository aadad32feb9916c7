//! A whole comparison: train the same model with each encoding, evaluate it far past its trained length, keep every finished run.

use crate::error::LabError;
use crate::results::{ModelConfig, Results, Run, TrainingConfig};
use crate::text::Tokens;
use std::path::PathBuf;

/// What is to be compared. Everything that changes a result ends up in the folder's configuration.
#[derive(Clone, Debug)]
pub struct Request {
    /// The results folder; one that holds the same comparison is resumed.
    pub out: PathBuf,
    /// A text to read; the bundled novels if `None`.
    pub text: Option<PathBuf>,
    /// What a token is.
    pub tokens: Tokens,
    /// Names of encodings, as in the catalogue.
    pub encodings: Vec<String>,
    /// One run per encoding and seed.
    pub seeds: Vec<u64>,
    /// Training steps; calibrated to [`Request::budget_seconds`] if `None`.
    pub steps: Option<usize>,
    /// About how long a new comparison may take, if its steps are to be calibrated.
    pub budget_seconds: f64,
    /// The model.
    pub model: ModelConfig,
    /// Training; `steps` and `steps_from` are not read.
    pub training: TrainingConfig,
    /// Evaluated lengths, as multiples of the trained length, ascending from 1.
    pub factors: Vec<f64>,
    /// The most held-out tokens read for each mean.
    pub window_tokens: usize,
    /// Places of the aligned reading.
    pub aligned_places: usize,
    /// Targets scored at each.
    pub aligned_targets: usize,
}

/// What a comparison reports while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Something a person should know, one line.
    Note(&'a str),
    /// The comparison begins, or goes on with `finished` of `total` runs on disk.
    Begun {
        /// Runs that were found in the folder.
        finished: usize,
        /// Runs in all.
        total: usize,
        /// Steps of each run.
        steps: usize,
        /// How the steps came about: `calibrated` or `given`.
        steps_from: &'a str,
    },
    /// A run begins.
    RunBegun {
        /// Its number from 1.
        number: usize,
        /// Runs in all.
        total: usize,
        /// The encoding's name.
        encoding: &'a str,
        /// Its seed.
        seed: u64,
        /// The plan's description.
        plan: &'a str,
    },
    /// Some steps are done (several times a second).
    Step {
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Recent training loss.
        loss: f64,
        /// Estimated seconds until the whole comparison is finished, once there is an estimate.
        seconds_left: Option<f64>,
    },
    /// Training is done, evaluation begins.
    Evaluating,
    /// A run is finished and on disk.
    RunFinished(&'a Run),
}

/// Files that are made from the results and written beside them: name and contents.
pub type Export = (&'static str, fn(&Results) -> String);
