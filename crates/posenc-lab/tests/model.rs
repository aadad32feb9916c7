//! The whole model against itself: in f64, the gradient of every parameter equals finite differences of the loss, with every encoding of the catalogue.

use posenc::catalogue::catalogue;
use posenc::rng::split_mix;
use posenc::{Attention, Encoding, Params, Rng};
use posenc_lab::model::{Gpt, Tape};
use posenc_lab::preset::preset;
use posenc_lab::results::{ModelConfig, TrainingConfig};
use posenc_lab::scalings::ScalingMethod;
use posenc_lab::trainer::Trainer;

const LENGTH: usize = 6;
const VOCABULARY: usize = 7;
const BOUND: f64 = 2e-8;
const SIZES: ModelConfig = ModelConfig {
    layers: 2,
    model_dim: 8,
    heads: 2,
    mlp_dim: 12,
};

fn model(encoding: &str) -> Gpt {
    let preset = preset(encoding, LENGTH, SIZES.model_dim).unwrap();
    model_of(&preset.encoding, preset.embedding_scale)
}

fn model_of(encoding: &Encoding, embedding_scale: f64) -> Gpt {
    Gpt::new(&SIZES, VOCABULARY, encoding, Attention::default(), embedding_scale).unwrap()
}

fn tokens(n: usize, seed: u64) -> Vec<u16> {
    (0..n as u64)
        .map(|i| (split_mix(seed ^ split_mix(i)) % VOCABULARY as u64) as u16)
        .collect()
}

/// Bound, relative to the largest gradient: the loss, about 2, is rounded by some hundred operations of 2⁻⁵³, over a step of 6e-6: 4e-9; its third derivative through two layers and their softmaxes
/// reaches 10³, times the step squared over 6: 6e-9. Together 1e-8, and twice that.
#[test]
fn gradients_equal_finite_differences() {
    for entry in catalogue() {
        let model = model(entry.name);
        let mut params: Params<f64> = Params::init(&model.specs(), 3).unwrap();
        // Tables that begin at zero and small projections would hide errors.
        let mut rng = Rng::new(9);
        params.flat_mut().iter_mut().for_each(|x| *x += 0.3 * rng.normal());
        let (inputs, targets) = (tokens(2 * LENGTH, 1), tokens(2 * LENGTH, 2));
        let scale = 1.0 / inputs.len() as f64;
        let mut grads = params.zeros_like();
        let calls = model.calls(&params, LENGTH).unwrap();
        let mut tape = Tape::default();
        let loss = model
            .gradient(&params, &calls, &inputs, &targets, scale, &mut grads, &mut tape)
            .unwrap();
        let again = model.losses(&params, &calls, &inputs, &targets, &mut tape).unwrap();
        assert!(
            (loss - again.iter().sum::<f64>() * scale).abs() < 1e-13,
            "{}: both passes have the same loss",
            entry.name
        );
        let at = params.flat().to_vec();
        let mut moved = params.clone();
        let differences = posenc_nn::check::finite_differences(&at, 0..at.len(), |x| {
            moved.flat_mut().copy_from_slice(x);
            let calls = model.calls(&moved, LENGTH).unwrap();
            model
                .losses(&moved, &calls, &inputs, &targets, &mut tape)
                .unwrap()
                .iter()
                .sum::<f64>()
                * scale
        });
        let size = grads.flat().iter().fold(1.0f64, |m, g| m.max(g.abs()));
        for (i, (g, d)) in grads.flat().iter().zip(&differences).enumerate() {
            assert!(
                (g - d).abs() <= BOUND * size,
                "{}: parameter {i}: gradient {g}, difference {d}",
                entry.name
            );
        }
    }
}

/// Scored alone, the ends of sequences have the losses that they have among all the others, whatever of the encoding asks, is asked or looks at the length of the call; and more than there are is refused.
/// Bound: losses of order 1, of some hundred operations of 2⁻⁵³ in another order, through two layers that enlarge differences tenfold each.
#[test]
fn ends_scored_alone_have_the_losses_of_the_whole() {
    let rotary = preset("rotary", LENGTH, SIZES.model_dim).unwrap().encoding;
    let scaled = ScalingMethod::ALL.map(|method| posenc_lab::scalings::scaled(&rotary, &method.with_factor(2.0, LENGTH / 2)).unwrap());
    let scaled = scaled.iter().map(|encoding| model_of(encoding, 1.0));
    for model in catalogue().iter().map(|entry| model(entry.name)).chain(scaled) {
        let mut params: Params<f64> = Params::init(&model.specs(), 3).unwrap();
        let mut rng = Rng::new(9);
        params.flat_mut().iter_mut().for_each(|x| *x += 0.3 * rng.normal());
        let (inputs, targets) = (tokens(3 * LENGTH, 1), tokens(3 * LENGTH, 2));
        let calls = model.calls(&params, LENGTH).unwrap();
        let mut tape = Tape::default();
        let whole = model.losses(&params, &calls, &inputs, &targets, &mut tape).unwrap().to_vec();
        for scored in [1, 2, LENGTH] {
            let end = |x: &[u16]| -> Vec<u16> { x.chunks(LENGTH).flat_map(|x| &x[LENGTH - scored..]).copied().collect() };
            let calls = model.end_calls(&params, LENGTH, scored).unwrap();
            let losses = model.end_losses(&params, &calls, &inputs, &end(&targets), &mut tape).unwrap();
            assert_eq!(losses.len(), 3 * scored);
            let expected = whole.chunks(LENGTH).flat_map(|losses| &losses[LENGTH - scored..]);
            for (loss, expected) in losses.iter().zip(expected) {
                assert!(
                    (loss - expected).abs() < 1e4 * f64::EPSILON,
                    "{}, {scored}: {loss} {expected}",
                    model.plan()
                );
            }
        }
        assert!(model.end_calls(&params, LENGTH, LENGTH + 1).is_err());
        let calls = model.end_calls(&params, LENGTH, 2).unwrap();
        assert!(model.end_losses(&params, &calls, &inputs, &targets, &mut tape).is_err());
    }
}

fn training(steps: usize) -> TrainingConfig {
    TrainingConfig {
        length: LENGTH,
        batch: 200,
        steps,
        steps_from: "given".into(),
        learning_rate: 1e-2,
        weight_decay: 0.01,
        betas: [0.9, 0.95],
        warmup: 0.05,
        clip: 1.0,
    }
}

/// The whole training state is a function of the seed: threads change no bit of it, also where a worker has several micro-batches.
#[test]
fn training_is_the_same_for_any_number_of_threads() {
    let text = tokens(5_000, 5);
    let run = |threads: usize, batch: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = model("shaw");
            let training = TrainingConfig { batch, ..training(5) };
            let mut trainer: Trainer<'_, f32> = Trainer::new(&model, &training, &text, 1).unwrap();
            for _ in 0..5 {
                trainer.step().unwrap();
            }
            trainer.params().flat().to_vec()
        })
    };
    for batch in [200, 3_000] {
        assert_eq!(run(1, batch), run(3, batch));
    }
}

/// A text in which each token follows from the one before is learnt by every encoding: 200 steps bring the loss far below the unigram's ln 7.
#[test]
fn every_encoding_learns() {
    let text: Vec<u16> = (0..5_000u64).map(|i| ((i * i + 3 * i) % VOCABULARY as u64) as u16).collect();
    for entry in catalogue() {
        let model = model(entry.name);
        let mut trainer: Trainer<'_, f32> = Trainer::new(&model, &training(200), &text, 1).unwrap();
        let losses: Vec<f64> = (0..200).map(|_| trainer.step().unwrap()).collect();
        assert!(
            losses[199] < 0.5 && losses[0] > 1.8,
            "{}: {} → {}",
            entry.name,
            losses[0],
            losses[199]
        );
    }
}

/// Weights that two models share begin the same, whatever their encodings.
#[test]
fn shared_weights_begin_the_same() {
    let init = |encoding: &str| -> Params<f32> { Params::init(&model(encoding).specs(), 7).unwrap() };
    let none = init("none");
    for entry in catalogue() {
        let other = init(entry.name);
        for spec in none.specs() {
            assert_eq!(
                none.get(&spec.name).unwrap(),
                other.get(&spec.name).unwrap(),
                "{}: {}",
                entry.name,
                spec.name
            );
        }
    }
}

/// The default comparison leaves nothing out but what it says.
#[test]
fn the_default_is_the_catalogue_but_for_what_is_left_out() {
    use posenc_lab::compare::{DEFAULT_ENCODINGS, LEFT_OUT};
    let (left_out, compared): (Vec<&str>, Vec<&str>) = catalogue().iter().map(|entry| entry.name).partition(|name| LEFT_OUT.contains(name));
    assert_eq!((&compared[..], &left_out[..]), (&DEFAULT_ENCODINGS[..], &LEFT_OUT[..]));
}
