//! A whole comparison: train the same model with each encoding, evaluate it far past its trained length, keep every finished run.

use crate::error::LabError;
use crate::model::Gpt;
use crate::preset::{Preset, preset};
use crate::results::{AtLength, Config, ModelConfig, Outcome, Results, Run, TrainingConfig};
use crate::scalings::{self, Reading, Scaled, ScalingMethod, readings_of};
use crate::store::Store;
use crate::text::{Text, Tokens};
use crate::trainer::{Tapes, Trainer, aligned_loss, evaluate, mean_loss, train};
use crate::verdict::held_out_steps;
use crate::windows::{EvaluationWindows, Window, held_out_needed, window_tokens};
use posenc::{Attention, Params};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is compared unless the user names something else: every encoding of the catalogue but [`LEFT_OUT`].
pub const DEFAULT_ENCODINGS: [&str; 10] = [
    "none",
    "learned",
    "sinusoidal",
    "input-table",
    "rotary",
    "shaw",
    "alibi",
    "clipped",
    "shared",
    "t5",
];

/// What the default comparison leaves out, by name, so that its budget trains three seeds of the others for long enough: `posenc compare --encodings transformer-xl,deberta` compares them.
pub const LEFT_OUT: [&str; 9] = [
    "music-transformer",
    "transformer-xl",
    "xlnet",
    "deberta",
    "kerple",
    "sandwich",
    "fire",
    "swin",
    "log-cpb",
];

/// Evaluated lengths unless the user names others, as multiples of the trained length.
pub const DEFAULT_FACTORS: [f64; 5] = [1.0, 1.5, 2.0, 4.0, 8.0];

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
    /// Evaluated lengths in tokens, ascending from the trained one; [`DEFAULT_FACTORS`] times the trained length if `None`.
    pub lengths: Option<Vec<usize>>,
    /// The most held-out tokens read for each mean.
    pub window_tokens: usize,
    /// Places of the aligned reading.
    pub aligned_places: usize,
    /// Targets scored at each.
    pub aligned_targets: usize,
    /// How trained rotary models are scaled to be read again.
    pub scalings: Vec<ScalingMethod>,
}

/// What a comparison reports while it runs.
#[derive(Clone, Debug)]
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

impl Default for Request {
    /// The default comparison: five novels read in pieces of 64 characters, one held out, three seeds, under five minutes on two cores.
    fn default() -> Request {
        Request {
            out: PathBuf::from("results"),
            text: None,
            tokens: Tokens::Characters,
            encodings: DEFAULT_ENCODINGS.map(String::from).to_vec(),
            seeds: vec![1, 2, 3],
            steps: None,
            budget_seconds: 240.0,
            model: ModelConfig {
                layers: 2,
                model_dim: 64,
                heads: 4,
                mlp_dim: 256,
            },
            training: TrainingConfig {
                length: 64,
                batch: 32,
                steps: 0,
                steps_from: String::new(),
                learning_rate: 3e-3,
                weight_decay: 0.01,
                betas: [0.9, 0.95],
                warmup: 0.05,
                clip: 1.0,
            },
            lengths: None,
            window_tokens: 25_000,
            aligned_places: 256,
            aligned_targets: 8,
            scalings: ScalingMethod::ALL.to_vec(),
        }
    }
}

/// Held-out points of a run's training curve.
const HELD_OUT_POINTS: usize = 20;
/// Windows that are read for each of them.
const HELD_OUT_WINDOWS: usize = 64;
/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Calibration never asks for fewer steps than this (the slow encodings would have learnt nothing that could break) or more (nothing new would be seen).
pub const CALIBRATED_STEPS: std::ops::RangeInclusive<usize> = 400..=1200;

/// What every run of a comparison reads.
struct Bench<'a> {
    text: &'a Text,
    config: Config,
    windows: EvaluationWindows,
    tapes: Tapes<f32>,
}

/// Runs a comparison, or what is left of it, and writes its folder; `exports` are written beside the results. `watch` sees the progress.
///
/// # Errors
/// A request that cannot be run, a text or folder that cannot be used; what was finished before stays on disk.
pub fn compare(request: &Request, exports: &[Export], watch: &mut dyn FnMut(Event<'_>)) -> Result<Results, LabError> {
    let lengths = match &request.lengths {
        Some(lengths) => lengths.clone(),
        None => DEFAULT_FACTORS
            .iter()
            .map(|f| (f * request.training.length as f64).round() as usize)
            .collect(),
    };
    request.model.check()?;
    request.training.check()?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    // Whatever the model or an encoding refuses is said before the text is read.
    for name in &request.encodings {
        let preset = preset(name, request.training.length, request.model.model_dim)?;
        Gpt::new(&request.model, 2, &preset.encoding, Attention::default(), preset.embedding_scale)?;
        let (trained, factor) = (request.training.length, longest as f64 / request.training.length as f64);
        scalings::check(&request.scalings, &preset.encoding, &request.model, factor.max(1.0), trained)?;
    }
    let needed = held_out_needed(longest, request.aligned_places, request.aligned_targets);
    let text = match &request.text {
        Some(path) => Text::from_file(path, request.tokens, needed)?,
        None => Text::bundled(request.tokens, needed)?,
    };
    let mut wanted = Config {
        encodings: request.encodings.clone(),
        seeds: request.seeds.clone(),
        text: text.config().clone(),
        model: request.model.clone(),
        training: TrainingConfig {
            steps: request.steps.unwrap_or(1),
            ..request.training.clone()
        },
        window_tokens: window_tokens(text.held_out.len(), &lengths, request.window_tokens),
        lengths,
        aligned_places: request.aligned_places,
        aligned_targets: request.aligned_targets,
        scalings: request.scalings.clone(),
    };
    // Asked for or not, nothing is scaled where nothing rotates: that is the same comparison.
    if !wanted.encodings.iter().any(|encoding| scalings::is_rotary(&wanted, encoding)) {
        wanted.scalings.clear();
    }
    let windows = EvaluationWindows::new(&wanted, text.held_out.len())?;
    let mut bench = Bench {
        text: &text,
        config: wanted.clone(),
        windows,
        tapes: Tapes::default(),
    };
    let mut store = Store::open(&request.out, wanted, request.steps, || {
        watch(Event::Note("measuring how long a step of each encoding takes here"));
        let calibration = bench.calibrate(request.budget_seconds)?;
        if let Some(note) = calibration.note() {
            watch(Event::Note(&note));
        }
        Ok(calibration.steps())
    })?;
    bench.config = store.config().clone();
    for note in store.notes() {
        watch(Event::Note(note));
    }
    let (config, missing) = (&bench.config, store.missing());
    let total = config.encodings.len() * config.seeds.len();
    let finished = total - missing.len();
    watch(Event::Begun {
        finished,
        total,
        steps: config.training.steps,
        steps_from: &config.training.steps_from,
    });
    let mut clock = Clock {
        begun: Instant::now(),
        done: 0.0,
        left: missing.len() as f64,
    };
    for (i, (encoding, seed)) in missing.iter().enumerate() {
        let run = bench.run(encoding, *seed, [finished + i + 1, total], &mut clock, watch)?;
        store.save_run(run.clone())?;
        watch(Event::RunFinished(&run));
    }
    let results = store.finish(text.baselines(bench.config.window_tokens))?;
    for (name, export) in exports {
        store.write(name, &export(&results))?;
    }
    Ok(results)
}

/// How far a comparison has come, in runs.
struct Clock {
    begun: Instant,
    done: f64,
    left: f64,
}

impl Clock {
    /// Seconds until the end, once enough has been seen to tell.
    fn seconds_left(&self, share_of_run: f64) -> Option<f64> {
        let done = self.done + share_of_run;
        (done > 0.1).then(|| self.begun.elapsed().as_secs_f64() / done * (self.left - share_of_run))
    }
}

impl Bench<'_> {
    fn model(&self, encoding: &str) -> Result<Gpt, LabError> {
        let preset = preset(encoding, self.config.training.length, self.config.model.model_dim)?;
        self.model_of(&preset)
    }

    fn model_of(&self, preset: &Preset) -> Result<Gpt, LabError> {
        Gpt::new(
            &self.config.model,
            self.config.text.vocabulary,
            &preset.encoding,
            Attention::default(),
            preset.embedding_scale,
        )
    }

    /// What a trained model does with its frequencies scaled. Scaling has no parameters, so the weights fit as they are.
    fn scaled(&self, encoding: &str, params: &Params<f32>, lengths: &[AtLength]) -> Result<Vec<Scaled>, LabError> {
        let (config, text) = (&self.config, &self.text.held_out);
        let trained = config.training.length;
        let preset = preset(encoding, trained, config.model.model_dim)?;
        let mut readings = Vec::new();
        for Reading { scaling, factor, length } in readings_of(config, encoding, lengths) {
            let Some(scaled) = scalings::scaled(&preset.encoding, &scaling.with_factor(factor, trained)) else {
                continue;
            };
            let model = self.model_of(&Preset {
                encoding: scaled,
                embedding_scale: preset.embedding_scale,
            })?;
            readings.push(Scaled {
                scaling,
                factor,
                length,
                aligned: aligned_loss(&model, params, text, &self.windows, length, config.aligned_targets, &self.tapes)?,
            });
        }
        Ok(readings)
    }

    /// Trains and evaluates one model.
    fn run(
        &self,
        encoding: &str,
        seed: u64,
        [number, total]: [usize; 2],
        clock: &mut Clock,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Run, LabError> {
        /// Share of a run's time that training takes, for the estimate of what is left.
        const TRAINING_SHARE: f64 = 0.85;
        let config = &self.config;
        let model = self.model(encoding)?;
        let plan = model.plan().to_string();
        watch(Event::RunBegun {
            number,
            total,
            encoding,
            seed,
            plan: &plan,
        });
        let begun = Instant::now();
        let steps = config.training.steps;
        let mut trainer: Trainer<'_> = Trainer::new(&model, &config.training, &self.text.train, seed)?;
        let fixed: Vec<Window> = self.windows.fixed(config.training.length, HELD_OUT_WINDOWS).collect();
        let mut reported = Instant::now();
        let curves = train(
            &mut trainer,
            steps,
            &held_out_steps(steps, HELD_OUT_POINTS),
            |params| mean_loss(&model, params, &self.text.held_out, &fixed, &self.tapes),
            |step, loss| {
                if reported.elapsed() >= REPORT_EVERY || step == steps {
                    reported = Instant::now();
                    let seconds_left = clock.seconds_left(TRAINING_SHARE * step as f64 / steps as f64);
                    watch(Event::Step {
                        step,
                        steps,
                        loss,
                        seconds_left,
                    });
                }
            },
        )?;
        let training_seconds = begun.elapsed().as_secs_f64();
        watch(Event::Evaluating);
        let begun = Instant::now();
        let mut lengths = Vec::new();
        for &length in &config.lengths {
            lengths.push(AtLength {
                length,
                outcome: outcome(
                    &model,
                    trainer.params(),
                    &self.text.held_out,
                    &self.windows,
                    length,
                    config.aligned_targets,
                    &self.tapes,
                )?,
            });
        }
        let scaled = self.scaled(encoding, trainer.params(), &lengths)?;
        clock.done += 1.0;
        clock.left -= 1.0;
        Ok(Run {
            encoding: encoding.to_string(),
            plan,
            seed,
            parameters: trainer.params().size(),
            encoding_parameters: model.encoding_parameters(),
            training: curves.training,
            held_out: curves.held_out,
            lengths,
            scaled,
            training_seconds,
            evaluation_seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// How long the runs take on this machine, and so how many steps fit into `budget` seconds.
    fn calibrate(&self, budget: f64) -> Result<Calibration, LabError> {
        const WARM: usize = 5;
        const TIMED: usize = 15;
        let (mut per_step, mut fixed) = (0.0, 0.0);
        for encoding in &self.config.encodings {
            let model = self.model(encoding)?;
            let training = TrainingConfig {
                steps: WARM + TIMED,
                ..self.config.training.clone()
            };
            let mut trainer: Trainer<'_> = Trainer::new(&model, &training, &self.text.train, 0)?;
            for _ in 0..WARM {
                trainer.step()?;
            }
            let begun = Instant::now();
            for _ in 0..TIMED {
                trainer.step()?;
            }
            per_step += begun.elapsed().as_secs_f64() / TIMED as f64;
            // Evaluation is timed on one length and charged by tokens.
            let length = self.config.training.length;
            let windows: Vec<Window> = self.windows.fixed(length, HELD_OUT_WINDOWS).collect();
            let begun = Instant::now();
            mean_loss(&model, trainer.params(), &self.text.held_out, &windows, &self.tapes)?;
            let per_token = begun.elapsed().as_secs_f64() / (windows.len() * length).max(1) as f64;
            let tokens = evaluation_tokens(&self.config, encoding) + HELD_OUT_POINTS * HELD_OUT_WINDOWS * length;
            fixed += per_token * tokens as f64;
        }
        let seeds = self.config.seeds.len() as f64;
        Ok(Calibration {
            per_step: seeds * per_step,
            fixed: seeds * fixed,
            budget,
        })
    }
}

/// Tokens that the evaluation of one trained model reads: both readings at every length, and the aligned one again under every scaling.
fn evaluation_tokens(config: &Config, encoding: &str) -> usize {
    let scaled = readings_of(config, encoding, &[]);
    let lengths = config.lengths.iter().copied().chain(scaled.iter().map(|reading| reading.length));
    config.window_tokens * config.lengths.len() + lengths.map(|length| length * config.aligned_places).sum::<usize>()
}

/// What was measured of all runs together, in seconds, and what they may take.
struct Calibration {
    /// One step of every run.
    per_step: f64,
    /// Evaluation of every run.
    fixed: f64,
    budget: f64,
}

impl Calibration {
    /// Steps that the budget allows, in round numbers, which are easier to talk about.
    fn allowed(&self) -> usize {
        (((self.budget - self.fixed) / self.per_step).max(0.0) as usize) / 20 * 20
    }

    fn steps(&self) -> usize {
        self.allowed().clamp(*CALIBRATED_STEPS.start(), *CALIBRATED_STEPS.end())
    }

    /// What to say where the budget does not decide.
    fn note(&self) -> Option<String> {
        let (allowed, steps) = (self.allowed(), self.steps());
        let seconds = self.fixed + self.per_step * steps as f64;
        if allowed > steps {
            Some(format!(
                "the budget would allow {allowed} steps; {steps} are the most that calibration asks for: --steps N takes more"
            ))
        } else if allowed < steps {
            Some(format!(
                "the budget of {:.0} s would allow {allowed} steps; {steps} are the fewest that calibration asks for and take about {seconds:.0} s: --steps N takes fewer",
                self.budget
            ))
        } else {
            None
        }
    }
}

/// Losses at one length, or the encoding's own words for why it has no answer to the positions of so many tokens. Whatever else goes wrong is an error and no verdict.
fn outcome(
    model: &Gpt,
    params: &Params<f32>,
    tokens: &[u16],
    windows: &EvaluationWindows,
    length: usize,
    aligned_targets: usize,
    tapes: &Tapes<f32>,
) -> Result<Outcome, LabError> {
    use posenc::Error::{FarDistance, Fractional, Imprecise, Negative, NonFinite, OutsideWindow, PastTable};
    match model.calls(params, length) {
        Err(LabError::Encoding(
            error @ (PastTable { .. }
            | FarDistance { .. }
            | OutsideWindow { .. }
            | Negative { .. }
            | NonFinite { .. }
            | Fractional { .. }
            | Imprecise { .. }),
        )) => Ok(Outcome::Refused(error.to_string())),
        Err(error) => Err(error),
        Ok(_) => evaluate(model, params, tokens, windows, length, aligned_targets, tapes).map(Outcome::Measured),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;

    /// A model with a table of as many rows as the trained length, its parameters, and the windows of [`small`] over a text.
    fn bench(encoding: &str) -> (Config, Gpt, Params<f32>, Vec<u16>, EvaluationWindows) {
        let config = small();
        let preset = preset(encoding, config.training.length, config.model.model_dim).unwrap();
        let model = Gpt::new(&config.model, 5, &preset.encoding, Attention::default(), 1.0).unwrap();
        let params = Params::init(&model.specs(), 1).unwrap();
        let tokens: Vec<u16> = (0..4_000).map(|i| i % 5).collect();
        let windows = EvaluationWindows::new(&config, tokens.len()).unwrap();
        (config, model, params, tokens, windows)
    }

    #[test]
    fn a_budget_that_does_not_decide_is_said() {
        let calibrated = |budget| Calibration {
            per_step: 0.25,
            fixed: 10.0,
            budget,
        };
        for (budget, steps, note) in [
            (3.0, 400, Some("the budget of 3 s would allow 0 steps; 400 are the fewest")),
            (
                109.0,
                400,
                Some("would allow 380 steps; 400 are the fewest that calibration asks for and take about 110 s: --steps N"),
            ),
            (110.0, 400, None),
            (219.0, 820, None),
            (314.0, 1200, None),
            (
                315.0,
                1200,
                Some("the budget would allow 1220 steps; 1200 are the most that calibration asks for: --steps N"),
            ),
        ] {
            let calibration = calibrated(budget);
            assert_eq!(calibration.steps(), steps, "{budget}");
            match (calibration.note(), note) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part) && !said.contains('\n'), "{said}"),
                (said, _) => panic!("{budget}: {said:?}"),
            }
        }
    }

    #[test]
    fn a_budget_pays_for_scaled_readings_too() {
        let mut config = small();
        let unscaled = 48 * 3 + 5 * (8 + 12 + 16);
        assert_eq!(evaluation_tokens(&config, "rotary"), unscaled);
        config.scalings = vec![ScalingMethod::Linear, ScalingMethod::Dynamic];
        assert_eq!(evaluation_tokens(&config, "alibi"), unscaled);
        let scaled = 5 * (8 + 12 + 16 + 8 + 8) + 5 * (8 + 12 + 16);
        assert_eq!(evaluation_tokens(&config, "rotary"), unscaled + scaled);
    }

    #[test]
    fn a_table_that_ends_refuses_and_its_own_length_is_measured() {
        for (encoding, past) in [("learned", "past the learned table"), ("music-transformer", "past the table")] {
            let (config, model, params, tokens, windows) = bench(encoding);
            let at = |length| {
                outcome(
                    &model,
                    &params,
                    &tokens,
                    &windows,
                    length,
                    config.aligned_targets,
                    &Tapes::default(),
                )
                .unwrap()
            };
            assert!(matches!(at(config.lengths[0]), Outcome::Measured(_)));
            assert!(matches!(at(config.lengths[1]), Outcome::Refused(why) if why.contains(past)));
        }
    }

    #[test]
    fn what_is_not_about_positions_is_an_error_and_no_verdict() {
        let (config, model, params, tokens, windows) = bench("learned");
        for missing in ["pos", "layers.0.attention"] {
            let specs: Vec<_> = model.specs().into_iter().filter(|spec| !spec.name.starts_with(missing)).collect();
            assert!(specs.len() < params.specs().len(), "{missing}");
            let without = Params::init(&specs, 1).unwrap();
            let error = outcome(
                &model,
                &without,
                &tokens,
                &windows,
                config.lengths[0],
                config.aligned_targets,
                &Tapes::default(),
            )
            .unwrap_err();
            assert!(
                matches!(error, LabError::Encoding(posenc::Error::MissingParameter { .. })),
                "{error}"
            );
        }
    }
}
