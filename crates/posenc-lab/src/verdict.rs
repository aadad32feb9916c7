//! The rule: from the runs of one encoding to what may be said of it. Fixed before any run, in words in `docs/method.md`.

use crate::results::{Baselines, Config, Outcome, Reach, Run, Verdict, VerdictAt};

/// *Holds*: the aligned loss rises by less than this over the trained length's, in nats.
pub const HOLDS_BELOW: f64 = 0.15;

/// *Broken*: the aligned loss rises by more than this, in nats.
pub const BROKEN_ABOVE: f64 = 0.5;

/// *Not converged*: the held-out loss still falls by more than this over the last tenth of the steps, in nats.
pub const STILL_FALLING_ABOVE: f64 = 0.05;

/// The verdicts on every encoding, in the order of the configuration. Runs that are missing are not judged: an encoding without any is *inconclusive* everywhere.
pub fn verdicts(config: &Config, baselines: &Baselines, runs: &[Run]) -> Vec<Verdict> {
    let of = |encoding: &String| -> Vec<&Run> { runs.iter().filter(|run| run.encoding == *encoding).collect() };
    config
        .encodings
        .iter()
        .map(|encoding| verdict(encoding, config, baselines, &of(encoding)))
        .collect()
}

/// The verdict on one encoding from its runs, one per seed.
pub fn verdict(encoding: &str, config: &Config, baselines: &Baselines, runs: &[&Run]) -> Verdict {
    let trained: Vec<f64> = runs
        .iter()
        .map(|run| measured(run, config.training.length).map_or(f64::NAN, |losses| losses.mean))
        .collect();
    Verdict {
        encoding: encoding.into(),
        lengths: config
            .lengths
            .iter()
            .map(|&length| verdict_at(length, config.training.length, runs))
            .collect(),
        trained_loss: trained.iter().sum::<f64>() / trained.len() as f64,
        converged: !runs.is_empty() && runs.iter().all(|run| converged(run, config, baselines)),
    }
}

fn verdict_at(length: usize, trained_length: usize, runs: &[&Run]) -> VerdictAt {
    let rises: Vec<Option<f64>> = runs
        .iter()
        .map(|run| Some(measured(run, length)?.aligned - measured(run, trained_length)?.aligned))
        .collect();
    // Each seed is put into a class by its own rise; averaging first would hide that they disagree.
    let classes = rises.iter().map(|rise| rise.map_or(Reach::Refuses, class));
    VerdictAt {
        length,
        verdict: agreed(classes).unwrap_or(Reach::Inconclusive),
        rise: rises.into_iter().flatten().collect(),
    }
}

/// What all seeds say; `None` where they disagree, or where there is none.
pub(crate) fn agreed<T: PartialEq>(mut seeds: impl Iterator<Item = T>) -> Option<T> {
    let first = seeds.next()?;
    seeds.all(|other| other == first).then_some(first)
}

/// The class of one rise of the aligned loss. A rise that is not a number is *broken*: the model's losses are not.
pub fn class(rise: f64) -> Reach {
    if rise < HOLDS_BELOW {
        Reach::Holds
    } else if rise <= BROKEN_ABOVE {
        Reach::Degrades
    } else {
        Reach::Broken
    }
}

/// Whether one run converged: its loss on fixed held-out windows fell by at most [`STILL_FALLING_ABOVE`] over the last tenth of the steps, and its loss at the trained
/// length beats the bigram's on the same targets. A run without the points to tell, or with a loss that is not a number, did not.
pub fn converged(run: &Run, config: &Config, baselines: &Baselines) -> bool {
    let steps = config.training.steps;
    let Some(end) = run.held_out.last().filter(|point| point.step >= steps) else {
        return false;
    };
    // Without a point exactly there, the last one before: it is further back, so the fall is taken over more than a tenth.
    let Some(before) = run
        .held_out
        .iter()
        .rfind(|point| point.step <= last_tenth(steps) && point.step < end.step)
    else {
        return false;
    };
    let beats_bigram = measured(run, config.training.length).is_some_and(|losses| losses.mean < baselines.bigram);
    before.loss - end.loss <= STILL_FALLING_ABOVE && beats_bigram
}

/// The number of steps done when the last tenth begins.
pub fn last_tenth(steps: usize) -> usize {
    steps - steps.div_ceil(10)
}

/// Steps after which the held-out loss is to be measured: about `points` of them, evenly spread, with the two that the rule compares among them.
pub fn held_out_steps(steps: usize, points: usize) -> Vec<usize> {
    let points = points.max(1);
    let mut at: Vec<usize> = (0..=points)
        .map(|i| (i as u128 * steps as u128 / points as u128) as usize)
        .collect();
    at.push(last_tenth(steps));
    at.sort_unstable();
    at.dedup();
    at
}

/// What a run measured unscaled at a length, if it ran there.
pub(crate) fn measured(run: &Run, length: usize) -> Option<&crate::results::Losses> {
    run.lengths.iter().find(|at| at.length == length).and_then(|at| match &at.outcome {
        Outcome::Measured(losses) => Some(losses),
        Outcome::Refused(_) => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::results::{AtLength, CurvePoint, Losses};

    const BASELINES: Baselines = Baselines { unigram: 2.9, bigram: 2.4 };

    /// A run of [`small`] with these aligned losses at its three lengths; `None` refuses.
    pub(crate) fn run(encoding: &str, seed: u64, aligned: [Option<f64>; 3]) -> Run {
        let outcome = |aligned: Option<f64>| match aligned {
            Some(aligned) => Outcome::Measured(Losses {
                mean: 1.5,
                aligned,
                per_position: vec![1.5; 8],
                per_position_width: 1,
                windows: 6,
            }),
            None => Outcome::Refused("the table has 8 rows".into()),
        };
        let lengths = small()
            .lengths
            .into_iter()
            .zip(aligned)
            .map(|(length, a)| AtLength {
                length,
                outcome: outcome(a),
            })
            .collect();
        Run {
            encoding: encoding.into(),
            plan: format!("{encoding}, 4 heads"),
            seed,
            parameters: 1000,
            encoding_parameters: 0,
            training: vec![CurvePoint { step: 20, loss: 1.6 }],
            held_out: vec![CurvePoint { step: 18, loss: 1.625 }, CurvePoint { step: 20, loss: 1.6 }],
            lengths,
            scaled: Vec::new(),
            training_seconds: 0.25,
            evaluation_seconds: 0.125,
        }
    }

    /// The classes at the three lengths for the aligned losses of some seeds.
    fn classes(seeds: &[[Option<f64>; 3]]) -> Vec<Reach> {
        let runs: Vec<Run> = seeds
            .iter()
            .enumerate()
            .map(|(seed, &aligned)| run("alibi", seed as u64, aligned))
            .collect();
        let verdict = verdict("alibi", &small(), &BASELINES, &runs.iter().collect::<Vec<_>>());
        verdict.lengths.iter().map(|at| at.verdict).collect()
    }

    #[test]
    fn the_three_classes_and_their_boundaries() {
        use Reach::*;
        for (rise, expected) in [
            (-1.0, Holds),
            (0.149, Holds),
            (0.15, Degrades),
            (0.3, Degrades),
            (0.5, Degrades),
            (0.501, Broken),
            (9.0, Broken),
        ] {
            assert_eq!(class(rise), expected, "{rise}");
        }
        assert_eq!((class(f64::NAN), class(f64::INFINITY)), (Broken, Broken));
        assert_eq!(
            classes(&[[Some(2.0), Some(2.25), Some(3.0)], [Some(1.0), Some(1.25), Some(2.0)]]),
            [Holds, Degrades, Broken]
        );
    }

    #[test]
    fn each_seed_is_compared_with_its_own_trained_length() {
        use Reach::*;
        // The second seed is 0.4 better everywhere; a common base would call the first one degraded.
        assert_eq!(
            classes(&[[Some(2.0), Some(2.0), Some(2.1)], [Some(1.6), Some(1.6), Some(1.7)]]),
            [Holds, Holds, Holds]
        );
    }

    #[test]
    fn seeds_that_disagree_are_inconclusive() {
        use Reach::*;
        // On average 0.125 and 0.5: the mean would hide the disagreement.
        assert_eq!(
            classes(&[[Some(1.0), Some(1.0), Some(1.25)], [Some(1.0), Some(1.25), Some(1.75)]]),
            [Holds, Inconclusive, Inconclusive]
        );
        assert_eq!(
            classes(&[[Some(1.0), Some(1.0), None], [Some(1.0), Some(1.0), Some(1.0)]]),
            [Holds, Holds, Inconclusive]
        );
        assert_eq!(classes(&[]), [Inconclusive; 3], "nothing was run");
    }

    #[test]
    fn refusals_are_said_and_have_no_rise() {
        use Reach::*;
        assert_eq!(classes(&[[Some(1.0), None, None]; 2]), [Holds, Refuses, Refuses]);
        let runs = [
            run("alibi", 0, [Some(1.0), None, Some(1.25)]),
            run("alibi", 1, [Some(1.0), None, Some(1.5)]),
        ];
        let verdict = verdict("alibi", &small(), &BASELINES, &runs.iter().collect::<Vec<_>>());
        assert!(verdict.lengths[1].rise.is_empty());
        assert_eq!(verdict.lengths[2].rise, [0.25, 0.5]);
        assert_eq!((verdict.trained_loss, verdict.converged), (1.5, true));
    }

    #[test]
    fn a_model_that_broke_down_is_broken_everywhere() {
        assert_eq!(classes(&[[Some(f64::NAN); 3]; 2]), [Reach::Broken; 3]);
    }

    #[test]
    fn convergence_has_two_conditions() {
        let config = small();
        let check = |change: &dyn Fn(&mut Run)| {
            let mut run = run("alibi", 0, [Some(1.0); 3]);
            change(&mut run);
            converged(&run, &config, &BASELINES)
        };
        let curve = |points: &[(usize, f64)]| points.iter().map(|&(step, loss)| CurvePoint { step, loss }).collect::<Vec<_>>();
        assert!(check(&|_| ()));
        assert!(
            check(&|run| run.held_out = curve(&[(18, 0.05), (20, 0.0)])),
            "falls by exactly the limit"
        );
        assert!(!check(&|run| run.held_out = curve(&[(18, 1.0625), (20, 1.0)])));
        assert!(
            check(&|run| run.held_out = curve(&[(9, 5.0), (18, 1.0), (20, 2.0)])),
            "rising is not falling; that is for the bigram to judge"
        );
        assert!(
            !check(&|run| run.held_out = curve(&[(15, 1.0625), (19, 1.0), (20, 1.0)])),
            "taken over at least a tenth"
        );
        assert!(
            !check(&|run| run.held_out = curve(&[(18, 1.0), (19, 1.0)])),
            "the end was not measured"
        );
        assert!(
            !check(&|run| run.held_out = curve(&[(20, 1.0)])),
            "the start of the last tenth was not measured"
        );
        assert!(!check(&|run| run.held_out = curve(&[(18, f64::NAN), (20, f64::NAN)])));
        assert!(!check(&|run| run.held_out.clear()));
        let mean = |mean: f64| {
            check(&|run| {
                let Outcome::Measured(losses) = &mut run.lengths[0].outcome else {
                    unreachable!()
                };
                losses.mean = mean;
            })
        };
        assert!(mean(2.39) && !mean(2.4) && !mean(2.5) && !mean(f64::NAN));
    }

    #[test]
    fn one_seed_that_did_not_converge_suffices() {
        let mut runs = [run("alibi", 0, [Some(1.0); 3]), run("alibi", 1, [Some(1.0); 3])];
        runs[1].held_out[0].loss = 2.0;
        assert!(!verdict("alibi", &small(), &BASELINES, &[&runs[0], &runs[1]]).converged);
        assert!(verdict("alibi", &small(), &BASELINES, &[&runs[0]]).converged);
        assert!(!verdict("alibi", &small(), &BASELINES, &[]).converged);
    }

    #[test]
    fn verdicts_are_in_the_order_of_the_configuration() {
        let runs = [run("rotary", 0, [Some(1.0), Some(2.0), Some(2.0)]), run("alibi", 0, [Some(1.0); 3])];
        let verdicts = verdicts(&small(), &BASELINES, &runs);
        assert_eq!(
            verdicts.iter().map(|v| v.encoding.as_str()).collect::<Vec<_>>(),
            ["alibi", "rotary"]
        );
        assert_eq!(verdicts[1].lengths[1].verdict, Reach::Broken);
    }

    #[test]
    fn the_points_of_the_rule_are_measured() {
        assert_eq!(held_out_steps(1000, 4), [0, 250, 500, 750, 900, 1000]);
        assert_eq!(held_out_steps(1000, 10).len(), 11);
        assert_eq!(held_out_steps(1, 10), [0, 1]);
        assert_eq!((last_tenth(1000), last_tenth(995), last_tenth(1)), (900, 895, 0));
    }
}
