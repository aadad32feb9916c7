//! Training and evaluation of one model.
//!
//! A batch is cut into micro-batches, and these are dealt to workers, by shape alone. A worker adds the gradients of its micro-batches in order, and the workers' sums are added in order: a
//! run's losses are the same bits for any number of threads, and its memory does not grow with the batch. (That is also how the long sums of the weights' gradients, over all tokens of a batch, are
//! cut: each worker's products are short, and have an accumulator of their own.)

use crate::batches::Batches;
use crate::error::LabError;
use crate::losses::LossSums;
use crate::model::{Gpt, Tape};
use crate::results::{CurvePoint, Losses, TrainingConfig};
use crate::windows::{EvaluationWindows, Window};
use posenc::Params;
use posenc_nn::{AdamW, AdamWSettings, Number, Schedule, clip_norm};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Tokens of a micro-batch, if a sequence is not longer: its activations stay in a core's own cache.
const MICRO_BATCH_TOKENS: usize = 512;

/// The most workers, each of which keeps a gradient of every parameter. Enough for as many threads.
const MOST_WORKERS: usize = 16;

/// Numbers of the gradient that a thread sums at once.
const SUMMED: usize = 1 << 14;

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
    tapes: Tapes<R>,
    /// Tokens of one worker in a step, and of one micro-batch: whole sequences.
    share: usize,
    micro: usize,
    step: usize,
}

/// Sums the gradients of a run of neighbouring micro-batches.
struct Worker<R> {
    grads: Params<R>,
}

/// Memory for activations, kept from step to step and from reading to reading: new memory would cost as much as some of the work that is done in it. Tapes that nobody writes at the moment: as many as
/// there were threads at once, and the one given back last is the first to be taken, while a core's cache still has it.
#[derive(Debug)]
pub struct Tapes<R>(Mutex<Vec<Tape<R>>>);

impl<R> Default for Tapes<R> {
    fn default() -> Self {
        Tapes(Mutex::default())
    }
}

impl<R: Number> Tapes<R> {
    fn with<T>(&self, work: impl FnOnce(&mut Tape<R>) -> T) -> T {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tape = all().pop().unwrap_or_default();
        let done = work(&mut tape);
        all().push(tape);
        done
    }
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
        let share = n.div_ceil(micro).div_ceil(MOST_WORKERS) * micro;
        let workers = (0..n.div_ceil(share))
            .map(|_| Worker {
                grads: params.zeros_like(),
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
            tapes: Tapes::default(),
            share,
            micro,
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
        let loss = self.gradient()?;
        if let Some(first) = self.workers.first_mut() {
            clip_norm(&mut first.grads, self.clip);
            let rate = self.schedule.rate(self.step as u64);
            self.optimiser.step(&mut self.params, &first.grads, rate)?;
            self.params.keep_in_range();
        }
        self.step += 1;
        Ok(loss)
    }

    /// Leaves the gradient of the batch's mean loss with the first worker, and returns that loss.
    fn gradient(&mut self) -> Result<f64, LabError> {
        self.batches.fill(self.step, &mut self.inputs, &mut self.targets);
        let (n, micro) = (self.inputs.len(), self.micro);
        let calls = self.model.calls(&self.params, self.length)?;
        let (model, params, scale, tapes) = (self.model, &self.params, R::of(1.0 / n as f64), &self.tapes);
        let losses: Result<Vec<f64>, LabError> = self
            .workers
            .par_iter_mut()
            .zip(self.inputs.par_chunks(self.share))
            .zip(self.targets.par_chunks(self.share))
            .map(|((worker, inputs), targets)| {
                worker.grads.flat_mut().fill(R::ZERO);
                let mut sum = 0.0;
                tapes.with(|tape| {
                    for (inputs, targets) in inputs.chunks(micro).zip(targets.chunks(micro)) {
                        let loss = model.gradient(params, &calls, inputs, targets, scale, &mut worker.grads, tape)?;
                        sum += loss * inputs.len() as f64;
                    }
                    Ok(sum)
                })
            })
            .collect();
        let loss = losses?.iter().sum::<f64>() / n as f64;
        if let Some((first, rest)) = self.workers.split_first_mut() {
            let parts = first.grads.flat_mut().par_chunks_mut(SUMMED).enumerate();
            parts.for_each(|(i, sum)| {
                for worker in rest.iter() {
                    let part = &worker.grads.flat()[i * SUMMED..];
                    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
                }
            });
        }
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
    tapes: &Tapes<R>,
) -> Result<Losses, LabError> {
    let calls = model.calls(params, length)?;
    let mut sums = LossSums::new(length, aligned_targets);
    let mean: Vec<Window> = windows.mean(length).collect();
    let losses = |inputs: &[u16], targets: &[u16], tape: &mut Tape<R>| to_f64(model.losses(params, &calls, inputs, targets, tape)?);
    for_each_window(tokens, &mean, length, tapes, losses, |losses| sums.add_mean(losses))?;
    for_each_aligned(model, params, tokens, windows, length, aligned_targets, tapes, |losses| {
        sums.add_aligned(losses);
    })?;
    Ok(sums.finish())
}

/// The aligned reading alone: the same number as [`evaluate`]'s.
///
/// # Errors
/// The encoding has no answer for this length.
pub fn aligned_loss<R: Number>(
    model: &Gpt,
    params: &Params<R>,
    tokens: &[u16],
    windows: &EvaluationWindows,
    length: usize,
    aligned_targets: usize,
    tapes: &Tapes<R>,
) -> Result<f64, LabError> {
    let mut sums = LossSums::new(length, aligned_targets);
    for_each_aligned(model, params, tokens, windows, length, aligned_targets, tapes, |losses| {
        sums.add_aligned(losses);
    })?;
    Ok(sums.finish().aligned)
}

/// Mean loss over some windows of one length.
///
/// # Errors
/// The encoding has no answer for this length.
pub fn mean_loss<R: Number>(
    model: &Gpt,
    params: &Params<R>,
    tokens: &[u16],
    windows: &[Window],
    tapes: &Tapes<R>,
) -> Result<f64, LabError> {
    let Some(first) = windows.first() else { return Ok(f64::NAN) };
    let calls = model.calls(params, first.length)?;
    let (mut sum, mut count) = (0.0, 0usize);
    let losses = |inputs: &[u16], targets: &[u16], tape: &mut Tape<R>| to_f64(model.losses(params, &calls, inputs, targets, tape)?);
    for_each_window(tokens, windows, first.length, tapes, losses, |losses| {
        sum += losses.iter().sum::<f64>();
        count += losses.len();
    })?;
    Ok(sum / count as f64)
}

fn to_f64<R: Number>(losses: &[R]) -> Result<Vec<f64>, LabError> {
    Ok(losses.iter().map(|loss| loss.to_f64()).collect())
}

/// Losses of the targets that are scored in each aligned window, in order.
fn for_each_aligned<R: Number>(
    model: &Gpt,
    params: &Params<R>,
    tokens: &[u16],
    windows: &EvaluationWindows,
    length: usize,
    scored: usize,
    tapes: &Tapes<R>,
    each: impl FnMut(&[f64]),
) -> Result<(), LabError> {
    let calls = model.end_calls(params, length, scored)?;
    let aligned: Vec<Window> = windows.aligned(length).collect();
    let losses = |inputs: &[u16], targets: &[u16], tape: &mut Tape<R>| to_f64(model.end_losses(params, &calls, inputs, targets, tape)?);
    for_each_window(tokens, &aligned, scored, tapes, losses, each)
}

/// Losses of the last `scored` targets of each window, in order: what `losses` gives for the inputs and these targets of several windows at once. Windows have one length, and are computed in parallel.
fn for_each_window<R: Number>(
    tokens: &[u16],
    windows: &[Window],
    scored: usize,
    tapes: &Tapes<R>,
    losses: impl Fn(&[u16], &[u16], &mut Tape<R>) -> Result<Vec<f64>, LabError> + Sync,
    mut each: impl FnMut(&[f64]),
) -> Result<(), LabError> {
    // Chunks by shape; a block of them at a time, so that memory does not grow with the number of windows.
    let per_chunk = micro_batch(windows.first().map_or(1, |w| w.length));
    for block in windows.chunks(per_chunk * 16) {
        let losses: Result<Vec<Vec<f64>>, LabError> = block
            .par_chunks(per_chunk)
            .map(|chunk| {
                let inputs: Vec<u16> = chunk.iter().flat_map(|w| w.inputs(tokens)).copied().collect();
                let scored = chunk.iter().flat_map(|w| &w.targets(tokens)[w.length - scored..]);
                let targets: Vec<u16> = scored.copied().collect();
                tapes.with(|tape| losses(&inputs, &targets, tape))
            })
            .collect();
        for chunk in losses? {
            chunk.chunks_exact(scored.max(1)).for_each(&mut each);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::results::ModelConfig;
    use posenc::{Attention, Encoding, Pairing, Rotary};

    /// Nothing of a reading is left for the next one in the memory that they share, whatever its length; and the aligned reading alone is that of the whole evaluation.
    #[test]
    fn readings_in_one_memory_are_readings_in_memory_of_their_own() {
        let config = small();
        let model = Gpt::new(&config.model, 5, &Rotary::new(Pairing::Halves).into(), Attention::default(), 1.0).unwrap();
        let params: Params<f32> = Params::init(&model.specs(), 1).unwrap();
        let text: Vec<u16> = (0..1_000u64).map(|i| (i * i % 11 % 5) as u16).collect();
        let windows = EvaluationWindows::new(&config, text.len()).unwrap();
        let shared = Tapes::default();
        for length in config.lengths.iter().chain(config.lengths.iter().rev()) {
            let read = |tapes: &Tapes<f32>| evaluate(&model, &params, &text, &windows, *length, config.aligned_targets, tapes).unwrap();
            let losses = read(&shared);
            assert_eq!(losses, read(&Tapes::default()));
            let alone = aligned_loss(&model, &params, &text, &windows, *length, config.aligned_targets, &shared).unwrap();
            assert_eq!(losses.aligned, alone);
            let fixed: Vec<Window> = windows.fixed(*length, 7).collect();
            let mean = |tapes: &Tapes<f32>| mean_loss(&model, &params, &text, &fixed, tapes).unwrap();
            assert_eq!(mean(&shared), mean(&Tapes::default()));
        }
    }

    /// Many micro-batches are few workers, and together they have the gradient of the whole batch at once. Bound: two orders of summation of some 10⁴ terms in f64, gradients at most of
    /// order 1: 10⁴ · 2⁻⁵³ = 1.1e-12.
    #[test]
    fn workers_are_few_and_sum_to_the_gradient_of_the_batch() {
        let config = small();
        let sizes = ModelConfig {
            layers: 1,
            model_dim: 8,
            heads: 2,
            mlp_dim: 8,
        };
        let model = Gpt::new(&sizes, 5, &Encoding::none(), Attention::default(), 1.0).unwrap();
        let text: Vec<u16> = (0..3_000u64).map(|i| (i * i % 11 % 5) as u16).collect();
        let length = config.training.length;
        let per_micro = micro_batch(length);
        for (micro_batches, workers) in [(1, 1), (4, 4), (16, 16), (17, 9), (35, 12)] {
            // The last micro-batch is not full.
            let training = TrainingConfig {
                batch: micro_batches * per_micro - 1,
                ..config.training.clone()
            };
            let mut trainer: Trainer<'_, f64> = Trainer::new(&model, &training, &text, 1).unwrap();
            assert_eq!(trainer.workers.len(), workers);
            // Once more: nothing of the gradient before is left.
            trainer.gradient().unwrap();
            let loss = trainer.gradient().unwrap();
            let mut whole = trainer.params.zeros_like();
            let calls = model.calls(&trainer.params, length).unwrap();
            let (inputs, targets) = (&trainer.inputs, &trainer.targets);
            let scale = 1.0 / inputs.len() as f64;
            let mut tape = Tape::default();
            let expected = model
                .gradient(&trainer.params, &calls, inputs, targets, scale, &mut whole, &mut tape)
                .unwrap();
            assert!((loss - expected).abs() < 1.1e-12, "{loss} {expected}");
            for (given, expected) in trainer.workers[0].grads.flat().iter().zip(whole.flat()) {
                assert!((given - expected).abs() < 1.1e-12, "{given} {expected}");
            }
        }
    }
}
