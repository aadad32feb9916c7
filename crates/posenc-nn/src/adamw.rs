//! AdamW (Loshchilov and Hutter 2019), gradient clipping and the learning rate's schedule.

use crate::error::Result;
use crate::kernels::{self, AdamWRates};
use crate::number::Number;
use crate::parallel;
use crate::shape::same_layout;
use posenc::{Error, ParamSpec, Params};

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// A step multiplies decaying parameters by 1 − rate · this.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    /// β = (0.9, 0.95), ε = 1e-8, decay 0.1: what GPT-3 and most models since were trained with. PyTorch's defaults are β₂ = 0.999 and decay 0.01.
    fn default() -> AdamWSettings {
        AdamWSettings {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        }
    }
}

/// The optimiser: Adam with bias correction and decay decoupled from the gradient, over one store.
///
/// A running mean that falls below 1e-30, or a mean square below 1e-36, becomes 0: f32 would otherwise end at subnormal numbers, which cost a
/// hundred times as much, in every row that is no longer trained.
#[derive(Clone, Debug)]
pub struct AdamW<R> {
    /// How it steps.
    pub settings: AdamWSettings,
    /// Steps taken.
    pub steps: u64,
    /// Running mean of gradients.
    pub mean: Params<R>,
    /// Running mean of squared gradients.
    pub square: Params<R>,
    /// Whether each tensor decays, in the order of the store.
    decays: Vec<bool>,
}

impl<R: Number> AdamW<R> {
    /// Before the first step. Tensors of two or more axes decay; gains and biases do not.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(params: &Params<R>, settings: AdamWSettings) -> Result<AdamW<R>> {
        AdamW::with_decay(params, settings, |spec| spec.shape.len() >= 2)
    }

    /// Before the first step, with a rule for which tensors decay.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn with_decay(params: &Params<R>, settings: AdamWSettings, decays: impl FnMut(&ParamSpec) -> bool) -> Result<AdamW<R>> {
        let check = |what, value: f64, ok: bool, expected| match ok {
            true => Ok(()),
            false => Err(Error::Invalid {
                what,
                given: value.to_string(),
                expected,
            }),
        };
        let AdamWSettings {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = settings;
        check("beta1", beta1, (0.0..1.0).contains(&beta1), "a number in [0, 1)")?;
        check("beta2", beta2, (0.0..1.0).contains(&beta2), "a number in [0, 1)")?;
        check("eps", eps, eps > 0.0 && eps.is_finite(), "a positive number")?;
        check(
            "weight_decay",
            weight_decay,
            weight_decay >= 0.0 && weight_decay.is_finite(),
            "0 or a positive number",
        )?;
        Ok(AdamW {
            settings,
            steps: 0,
            mean: params.zeros_like(),
            square: params.zeros_like(),
            decays: params.specs().iter().map(decays).collect(),
        })
    }

    /// One step at this learning rate. A gradient that is not finite makes its parameter so: look at [`clip_norm`]'s result first.
    ///
    /// # Errors
    /// `params` or `grads` hold other tensors than the optimiser was made for.
    pub fn step(&mut self, params: &mut Params<R>, grads: &Params<R>, rate: f64) -> Result<()> {
        same_layout(params, &self.mean)?;
        same_layout(grads, &self.mean)?;
        self.steps += 1;
        let AdamWSettings {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.settings;
        // Powers in f64: 1 − 0.999ᵗ in f32 has three digits at t = 1.
        let corrected = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let rates = |decay: f64| AdamWRates {
            keep: R::of(1.0 - rate * decay),
            beta1: R::of(beta1),
            beta2: R::of(beta2),
            one_minus_beta1: R::of(1.0 - beta1),
            one_minus_beta2: R::of(1.0 - beta2),
            step: R::of(rate / corrected(beta1)),
            square_scale: R::of(1.0 / corrected(beta2).sqrt()),
            eps: R::of(eps),
        };
        let (decaying, plain) = (rates(weight_decay), rates(0.0));
        let (specs, all_decay) = (grads.specs(), &self.decays);
        let lists = [params.flat_mut(), self.mean.flat_mut(), self.square.flat_mut()];
        parallel::parts_of_three(lists, PART, |i, [x, mean, square]| {
            let (part, mut start) = (i * PART..i * PART + x.len(), 0);
            for (spec, decays) in specs.iter().zip(all_decay) {
                // What of the tensor lies in this part.
                let all = start..start + spec.size();
                start = all.end;
                let (first, last) = (all.start.max(part.start), all.end.min(part.end));
                if first < last {
                    let here = first - part.start..last - part.start;
                    kernels::adamw_step(
                        if *decays { &decaying } else { &plain },
                        &mut x[here.clone()],
                        &grads.flat()[first..last],
                        &mut mean[here.clone()],
                        &mut square[here],
                    );
                }
            }
        });
        Ok(())
    }
}

/// Numbers of a part of a store that threads share.
const PART: usize = 1 << 15;

/// Parts whose squares are summed in one round.
const ROUND: usize = 64;

/// Scales gradients so that their norm is at most `max`, and returns the norm they had, summed in f64. Gradients whose norm is not finite are left as
/// they are: the caller sees it in the result and can skip the step.
pub fn clip_norm<R: Number>(grads: &mut Params<R>, max: f64) -> f64 {
    let mut squares = 0.0;
    for round in grads.flat().chunks(ROUND * PART) {
        let mut sums = [0.0; ROUND];
        parallel::parts(&mut sums[..round.len().div_ceil(PART)], 1, |i, sum| {
            sum[0] = kernels::sum_of_squares(&round[i * PART..((i + 1) * PART).min(round.len())]);
        });
        squares += sums.iter().sum::<f64>();
    }
    let norm = squares.sqrt();
    if norm.is_finite() && norm > max {
        parallel::parts(grads.flat_mut(), PART, |_, part| kernels::scale(part, R::of(max / norm)));
    }
    norm
}

/// A learning rate that rises linearly over the warm-up and falls along half a cosine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of the warm-up; the last of them has the highest rate.
    pub warmup: u64,
    /// Steps of the training; from here on the rate is the lowest.
    pub total: u64,
    /// The lowest rate as a fraction of the highest.
    pub floor: f64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        if step >= self.total {
            return self.peak * self.floor;
        }
        let done = (step - self.warmup) as f64 / (self.total - self.warmup) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{bits, on_every_level};
    use posenc::{Init, Rng};

    fn specs() -> Vec<ParamSpec> {
        vec![
            ParamSpec::new("weight", [3, 7], Init::Normal(1.0)),
            ParamSpec::new("bias", [5], Init::Normal(1.0)),
        ]
    }

    /// The paper's algorithm 2, one number at a time in f64.
    fn naive(x: f64, gradients: &[f64], settings: AdamWSettings, rate: f64, decays: bool) -> f64 {
        let (mut x, mut m, mut v) = (x, 0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            m = settings.beta1 * m + (1.0 - settings.beta1) * g;
            v = settings.beta2 * v + (1.0 - settings.beta2) * g * g;
            let m_hat = m / (1.0 - settings.beta1.powi(t));
            let v_hat = v / (1.0 - settings.beta2.powi(t));
            x -= rate * (m_hat / (v_hat.sqrt() + settings.eps) + if decays { settings.weight_decay * x } else { 0.0 });
        }
        x
    }

    /// Ten steps of about a dozen roundings each, of numbers of order 1.
    #[test]
    fn ten_steps_match_the_paper() {
        let before: Params<f64> = Params::init(&specs(), 1).unwrap();
        let settings = AdamWSettings::default();
        let mut rng = Rng::new(8);
        let gradients: Vec<Vec<f64>> = (0..10).map(|_| (0..before.size()).map(|_| rng.normal()).collect()).collect();
        let mut params = before.clone();
        let mut optimiser = AdamW::new(&params, settings).unwrap();
        let mut grads = params.zeros_like();
        for gradient in &gradients {
            grads.flat_mut().copy_from_slice(gradient);
            optimiser.step(&mut params, &grads, 0.01).unwrap();
        }
        for i in 0..params.size() {
            let history: Vec<f64> = gradients.iter().map(|g| g[i]).collect();
            let expected = naive(before.flat()[i], &history, settings, 0.01, i < 21);
            assert!((params.flat()[i] - expected).abs() < 120.0 * f64::EPSILON * expected.abs().max(1.0));
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let results = on_every_level(|| {
            let mut params: Params<f32> = Params::init(&specs(), 1).unwrap();
            let grads = Params::init(&specs(), 2).unwrap();
            let mut optimiser = AdamW::new(&params, AdamWSettings::default()).unwrap();
            optimiser.step(&mut params, &grads, 0.1).unwrap();
            bits(params.flat())
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn moments_of_untrained_numbers_end_at_zero_not_at_subnormals() {
        let mut params: Params<f32> = Params::init(&specs(), 1).unwrap();
        let mut optimiser = AdamW::new(&params, AdamWSettings::default()).unwrap();
        let mut grads = params.zeros_like();
        grads.flat_mut().fill(1.0);
        optimiser.step(&mut params, &grads, 0.01).unwrap();
        grads.flat_mut().fill(0.0);
        for _ in 0..2000 {
            optimiser.step(&mut params, &grads, 0.01).unwrap();
        }
        assert!(optimiser.mean.flat().iter().chain(optimiser.square.flat()).all(|x| *x == 0.0));
        assert!(params.flat().iter().all(|x| x.is_finite()));
    }

    #[test]
    fn clipping_keeps_the_direction_and_leaves_what_is_not_finite() {
        let mut grads: Params<f32> = Params::zeros(&specs()).unwrap();
        grads.flat_mut()[..2].copy_from_slice(&[3.0, 4.0]);
        assert_eq!(clip_norm(&mut grads, 10.0), 5.0);
        assert_eq!(&grads.flat()[..2], &[3.0, 4.0]);
        assert_eq!(clip_norm(&mut grads, 1.0), 5.0);
        assert_eq!(&grads.flat()[..2], &[0.2 * 3.0, 0.2 * 4.0]);
        grads.flat_mut()[5] = f32::INFINITY;
        assert!(!clip_norm(&mut grads, 1.0).is_finite());
        assert_eq!(grads.flat()[5], f32::INFINITY);
    }

    #[test]
    fn the_schedule_rises_and_falls() {
        let schedule = Schedule {
            peak: 1.0,
            warmup: 10,
            total: 110,
            floor: 0.1,
        };
        assert_eq!((schedule.rate(0), schedule.rate(9), schedule.rate(10)), (0.1, 1.0, 1.0));
        assert!((schedule.rate(60) - 0.55).abs() < 1e-12);
        assert_eq!((schedule.rate(110), schedule.rate(10_000)), (0.1, 0.1));
        assert!((10..200).all(|step| schedule.rate(step + 1) <= schedule.rate(step)));
        let none = Schedule {
            warmup: 0,
            total: 0,
            ..schedule
        };
        assert_eq!(none.rate(0), 0.1);
    }

    #[test]
    fn settings_and_stores_that_do_not_fit_are_refused() {
        let mut params: Params<f32> = Params::init(&specs(), 1).unwrap();
        for settings in [
            AdamWSettings {
                beta1: 1.0,
                ..Default::default()
            },
            AdamWSettings {
                eps: 0.0,
                ..Default::default()
            },
            AdamWSettings {
                weight_decay: f64::NAN,
                ..Default::default()
            },
        ] {
            assert!(AdamW::new(&params, settings).is_err());
        }
        let mut optimiser = AdamW::new(&params, AdamWSettings::default()).unwrap();
        let other: Params<f32> = Params::zeros(&specs()[..1]).unwrap();
        let error = optimiser.step(&mut params, &other, 0.1).unwrap_err();
        assert!(matches!(error, crate::Error::Layout { ref name } if name == "bias"));
        assert_eq!(optimiser.steps, 0);
    }
}
