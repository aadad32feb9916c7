//! Training and evaluation of one model.
//!
//! A batch is cut into micro-batches by shape alone; each sums its own gradient, and the gradients are summed in order: a run's losses are the same bits for any number of
//! threads.

use crate::batches::Batches;
use crate::error::LabError;
use crate::losses::LossSums;
use crate::model::{Calls, Gpt, Tape};
use crate::results::{CurvePoint, Losses, TrainingConfig};
use crate::windows::{EvaluationWindows, Window};
use posenc::Params;
use posenc_nn::{AdamW, AdamWSettings, Number, Schedule, clip_norm};
use rayon::prelude::*;

/// Tokens of a micro-batch, if a sequence is not longer: its activations stay in a core's own cache.
const MICRO_BATCH_TOKENS: usize = 512;

/// Steps between two points of the training curve.
const CURVE_POINTS: usize = 60;

/// One model in training.
pub struct Trainer<'a, R: Number = f32> {
    model: &'a Gpt,
    params: Params<R>,
    optimiser: AdamW<R>,
    schedule: Schedule,
    clip: f64,
    batches: Batches<'a>,
    length: usize,
    inputs: Vec<u16>,
    targets: Vec<u16>,
    workers: Vec<Worker<R>>,
    step: usize,
}

/// The state of one micro-batch.
struct Worker<R> {
    grads: Params<R>,
    tape: Tape<R>,
}

impl<'a, R: Number> Trainer<'a, R> {
    /// A model at its initial weights for this seed, which also fixes the batches.
    ///
    /// # Errors
    /// A text shorter than a sequence, or a setting out of range.
    pub fn new(model: &'a Gpt, training: &TrainingConfig, tokens: &'a [u16], seed: u64) -> Result<Self, LabError> {
        let params: Params<R> = Params::init(&model.specs(), seed)?;
        let settings = AdamWSettings {
            beta1: training.betas[0],
            beta2: training.betas[1],
            weight_decay: training.weight_decay,
            ..AdamWSettings::default()
        };
        let batches = Batches::new(tokens, seed, training.length, training.batch)?;
        let n = batches.tokens_per_step();
        let micro = micro_batch(training.length) * training.length;
        let workers = (0..n.div_ceil(micro))
            .map(|_| Worker {
                grads: params.zeros_like(),
                tape: Tape::default(),
            })
            .collect();
        Ok(Trainer {
            model,
            optimiser: AdamW::new(&params, settings)?,
            params,
            schedule: Schedule {
                peak: training.learning_rate,
                warmup: (training.warmup * training.steps as f64).round() as u64,
                total: training.steps as u64,
                floor: 0.1,
            },
            clip: training.clip,
            batches,
            length: training.length,
            inputs: vec![0; n],
            targets: vec![0; n],
            workers,
            step: 0,
        })
    }

    /// The parameters as they are now.
    pub fn params(&self) -> &Params<R> {
        &self.params
    }

    /// One step; returns the batch's mean loss before it.
    ///
    /// # Errors
    /// The encoding has no answer for the trained length.
    pub fn step(&mut self) -> Result<f64, LabError> {
        self.batches.fill(self.step, &mut self.inputs, &mut self.targets);
        let n = self.inputs.len();
        let micro = micro_batch(self.length) * self.length;
        let calls = self.model.calls(&self.params, self.length)?;
        let (model, params, scale) = (self.model, &self.params, R::of(1.0 / n as f64));
        let losses: Result<Vec<f64>, LabError> = self
            .workers
            .par_iter_mut()
            .zip(self.inputs.par_chunks(micro))
            .zip(self.targets.par_chunks(micro))
            .map(|((worker, inputs), targets)| {
                worker.grads.flat_mut().fill(R::ZERO);
                let loss = model.gradient(params, &calls, inputs, targets, scale, &mut worker.grads, &mut worker.tape)?;
                Ok(loss * inputs.len() as f64)
            })
            .collect();
        drop(calls);
        let loss = losses?.iter().sum::<f64>() / n as f64;
        if let Some((first, rest)) = self.workers.split_first_mut() {
            let sum = first.grads.flat_mut();
            for worker in rest {
                sum.iter_mut().zip(worker.grads.flat()).for_each(|(sum, part)| *sum += *part);
            }
            clip_norm(&mut first.grads, self.clip);
            let rate = self.schedule.rate(self.step as u64);
            self.optimiser.step(&mut self.params, &first.grads, rate)?;
        }
        self.step += 1;
        Ok(loss)
    }
}

/// Sequences in a micro-batch.
fn micro_batch(length: usize) -> usize {
    (MICRO_BATCH_TOKENS / length.max(1)).max(1)
}

/// Curves of a training run.
pub struct Curves {
    /// Mean training loss since the point before.
    pub training: Vec<CurvePoint>,
    /// Loss on fixed held-out windows.
    pub held_out: Vec<CurvePoint>,
}

/// Trains to the end. `held_out_at` are the steps after which `held_out` is called with the parameters; `watch` sees every step and its loss.
///
/// # Errors
/// As [`Trainer::step`], or what `held_out` returns.
pub fn train<R: Number>(
    trainer: &mut Trainer<'_, R>,
    steps: usize,
    held_out_at: &[usize],
    mut held_out: impl FnMut(&Params<R>) -> Result<f64, LabError>,
    mut watch: impl FnMut(usize, f64),
) -> Result<Curves, LabError> {
    let mut curves = Curves {
        training: Vec::new(),
        held_out: Vec::new(),
    };
    let every = steps.div_ceil(CURVE_POINTS).max(1);
    let (mut sum, mut count) = (0.0, 0);
    for step in 0..=steps {
        if held_out_at.contains(&step) {
            curves.held_out.push(CurvePoint {
                step,
                loss: held_out(trainer.params())?,
            });
        }
        if step == steps {
            break;
        }
        let loss = trainer.step()?;
        sum += loss;
        count += 1;
        if (step + 1) % every == 0 || step + 1 == steps {
            curves.training.push(CurvePoint {
                step: step + 1,
                loss: sum / f64::from(count),
            });
            (sum, count) = (0.0, 0);
        }
        watch(step + 1, loss);
    }
    Ok(curves)
}

/// Evaluates a model at one length: the mean over non-overlapping windows and the aligned reading.
///
/// # Errors
/// The encoding has no answer for this length.
pub fn evaluate<R: Number>(
    model: &Gpt,
    params: &Params<R>,
    tokens: &[u16],
    windows: &EvaluationWindows,
    length: usize,
    aligned_targets: usize,
) -> Result<Losses, LabError> {
    let calls = model.calls(params, length)?;
    let mut sums = LossSums::new(length, aligned_targets);
    let mean: Vec<Window> = windows.mean(length).collect();
    for_each_window(model, params, &calls, tokens, &mean, |losses| sums.add_mean(losses))?;
    let aligned: Vec<Window> = windows.aligned(length).collect();
    for_each_window(model, params, &calls, tokens, &aligned, |losses| sums.add_aligned(losses))?;
    Ok(sums.finish())
}

/// Mean loss over some windows of one length.
///
/// # Errors
/// The encoding has no answer for this length.
pub fn mean_loss<R: Number>(model: &Gpt, params: &Params<R>, tokens: &[u16], windows: &[Window]) -> Result<f64, LabError> {
    let Some(first) = windows.first() else { return Ok(f64::NAN) };
    let calls = model.calls(params, first.length)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for_each_window(model, params, &calls, tokens, windows, |losses: &[f64]| {
        sum += losses.iter().sum::<f64>();
        count += losses.len();
    })?;
    Ok(sum / count as f64)
}

/// Losses of each window, in order; windows are computed in parallel.
fn for_each_window<R: Number>(
    model: &Gpt,
    params: &Params<R>,
    calls: &Calls<'_, R>,
    tokens: &[u16],
    windows: &[Window],
    mut each: impl FnMut(&[f64]),
) -> Result<(), LabError> {
    let length = windows.first().map_or(1, |w| w.length);
    // Chunks by shape; a block of them at a time, so that memory does not grow with the number of windows.
    let per_chunk = micro_batch(length);
    for block in windows.chunks(per_chunk * 16) {
        let losses: Result<Vec<Vec<f64>>, LabError> = block
            .par_chunks(per_chunk)
            .map_init(Tape::default, |tape, chunk| {
                let inputs: Vec<u16> = chunk.iter().flat_map(|w| w.inputs(tokens)).copied().collect();
                let targets: Vec<u16> = chunk.iter().flat_map(|w| w.targets(tokens)).copied().collect();
                let losses = model.losses(params, calls, &inputs, &targets, tape)?;
                Ok(losses.iter().map(|x| x.to_f64()).collect())
            })
            .collect();
        for chunk in losses? {
            chunk.chunks_exact(length).for_each(&mut each);
        }
    }
    Ok(())
}
