//! A comparison with the pilot's numbers, so that page, table and plots are tested and looked at with data of the real shape.
//!
//! Losses at the lengths, and their second seed where the pilot had one, are measured; curves and losses per position are drawn to fit them.

use posenc_lab::results::*;
use posenc_lab::scalings::{Reading, Scaled, ScalingMethod, readings, scaled_verdicts, scaling_checks};
use posenc_lab::text::BUNDLED_NAME;
use posenc_lab::verdict::verdicts;

const LENGTHS: [usize; 5] = [64, 96, 128, 256, 512];

/// Per encoding: name, plan, own parameters, where it refuses, and per seed (mean over windows, aligned) at each length.
type Row = (&'static str, &'static str, usize, Option<usize>, [[(f64, f64); 5]; 2]);

const ROWS: [Row; 8] = [
    (
        "none",
        "no position encoding: a causal decoder that counts by what it masks",
        0,
        None,
        [
            [(2.09, 2.17), (2.14, 2.35), (2.21, 2.46), (2.37, 2.62), (2.53, 2.66)],
            [(2.13, 2.29), (2.16, 2.41), (2.22, 2.48), (2.35, 2.55), (2.45, 2.57)],
        ],
    ),
    (
        "learned",
        "learned table of 64 positions × 64, added to the embedding",
        4096,
        Some(64),
        [
            [(1.65, 1.72), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)],
            [(1.66, 1.71), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)],
        ],
    ),
    (
        "sinusoidal",
        "sinusoidal table, base 10000, added to the embedding × √64",
        0,
        None,
        [
            [(1.70, 1.73), (2.28, 3.70), (2.58, 3.51), (3.10, 3.70), (3.57, 3.68)],
            [(1.71, 1.75), (2.33, 3.61), (2.61, 3.58), (3.16, 3.81), (3.49, 3.60)],
        ],
    ),
    (
        "rotary",
        "rotary, 8 pairs of halves, base 10000",
        0,
        None,
        [
            [(1.57, 1.61), (1.54, 1.69), (1.61, 2.44), (2.56, 4.10), (3.42, 4.37)],
            [(1.58, 1.64), (1.55, 1.71), (1.66, 2.74), (2.70, 4.10), (3.54, 4.58)],
        ],
    ),
    (
        "alibi",
        "ALiBi, 4 heads with slopes 1/4, 1/16, 1/64, 1/256",
        0,
        None,
        [
            [(1.64, 1.71), (1.62, 1.71), (1.60, 1.72), (1.62, 1.72), (1.65, 1.72)],
            [(1.66, 1.71), (1.63, 1.71), (1.62, 1.72), (1.63, 1.72), (1.66, 1.72)],
        ],
    ),
    (
        "t5-128",
        "T5 buckets: 32, causal, max distance 128 (11 buckets unseen in training)",
        128,
        None,
        [
            [(1.59, 1.67), (1.65, 2.06), (1.79, 2.41), (2.31, 3.06), (2.80, 3.33)],
            [(1.60, 1.68), (1.64, 2.01), (1.76, 2.33), (2.22, 2.91), (2.71, 3.20)],
        ],
    ),
    (
        "t5",
        "T5 buckets: 32, causal, max distance 32",
        128,
        None,
        [
            [(1.60, 1.66), (1.57, 1.68), (1.57, 1.70), (1.66, 1.87), (1.86, 2.26)],
            [(1.61, 1.67), (1.58, 1.69), (1.57, 1.71), (1.65, 1.85), (1.84, 2.23)],
        ],
    ),
    (
        "clipped",
        "learned bias per head, distance clipped at 16",
        68,
        None,
        [
            [(1.58, 1.65), (1.56, 1.67), (1.55, 1.70), (1.65, 1.90), (1.88, 2.32)],
            [(1.59, 1.66), (1.56, 1.68), (1.56, 1.71), (1.66, 1.92), (1.90, 2.29)],
        ],
    ),
];

/// Per scaling: for each seed its rises at the lengths it is set for, and at the trained length set for the others. Measured in another pilot.
type ScaledRow = (ScalingMethod, [[f64; 9]; 2]);

const SCALED: [ScaledRow; 4] = [
    (
        ScalingMethod::Linear,
        [
            [0.0, 0.615, 1.274, 1.988, 2.247, 0.607, 1.268, 1.978, 2.236],
            [0.0, 0.615, 1.148, 1.774, 1.941, 0.611, 1.140, 1.759, 1.930],
        ],
    ),
    (
        ScalingMethod::Ntk,
        [
            [0.0, 0.021, 0.048, 0.481, 2.290, 0.001, 0.007, 0.059, 0.175],
            [0.0, 0.023, 0.046, 0.388, 1.919, 0.000, 0.004, 0.029, 0.088],
        ],
    ),
    (
        ScalingMethod::Yarn,
        [
            [0.0, 0.026, 0.082, 0.469, 1.110, 0.015, 0.060, 0.247, 0.428],
            [0.0, 0.018, 0.054, 0.313, 1.022, 0.010, 0.033, 0.135, 0.279],
        ],
    ),
    (
        ScalingMethod::Dynamic,
        [
            [0.0, 0.107, 0.233, 0.550, 0.836, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.057, 0.132, 0.392, 0.657, 0.0, 0.0, 0.0, 0.0],
        ],
    ),
];

/// The scaled readings of a run whose aligned loss at the trained length is `trained`.
fn scaled(seed: u64, trained: f64) -> Vec<Scaled> {
    let of = |(scaling, rises): &ScaledRow| {
        let rises = rises[seed as usize];
        let with = move |(reading, rise): (Reading, f64)| Scaled {
            scaling: reading.scaling,
            factor: reading.factor,
            length: reading.length,
            aligned: trained + rise,
        };
        readings(*scaling, &LENGTHS).into_iter().zip(rises).map(with).collect::<Vec<_>>()
    };
    SCALED.iter().flat_map(of).collect()
}

/// The pilot's eight encodings: two seeds, a refusal (`learned`) and an inconclusive case (`none` at 1.5×).
pub fn pilot() -> Results {
    let seeds = [0, 1];
    let mut runs = Vec::new();
    for (name, plan, own, limit, losses) in ROWS {
        for seed in seeds {
            runs.push(run(name, plan, own, limit, seed, &losses[seed as usize]));
        }
    }
    let config = Config {
        encodings: ROWS.iter().map(|row| row.0.into()).collect(),
        seeds: seeds.to_vec(),
        text: TextConfig {
            name: BUNDLED_NAME.into(),
            trained_on: [
                "Emma",
                "Mansfield Park",
                "Northanger Abbey",
                "Pride and Prejudice",
                "Sense and Sensibility",
            ]
            .map(String::from)
            .to_vec(),
            held_out: vec!["Persuasion".into()],
            hash: "cbf29ce484222325".into(),
            tokens: "characters".into(),
            vocabulary: 81,
            train_tokens: 3_412_774,
            held_out_tokens: 466_310,
        },
        model: ModelConfig {
            layers: 2,
            model_dim: 64,
            heads: 4,
            mlp_dim: 256,
        },
        training: TrainingConfig {
            length: 64,
            batch: 32,
            steps: 1500,
            steps_from: "calibrated".into(),
            learning_rate: 3e-3,
            weight_decay: 0.01,
            betas: [0.9, 0.95],
            warmup: 0.05,
            clip: 1.0,
        },
        lengths: LENGTHS.to_vec(),
        window_tokens: 65_536,
        aligned_places: 256,
        aligned_targets: 8,
        scalings: ScalingMethod::ALL.to_vec(),
    };
    let baselines = Baselines {
        unigram: 2.87,
        bigram: 2.43,
    };
    Results {
        schema: SCHEMA,
        posenc: "0.1.0".into(),
        verdicts: verdicts(&config, &baselines, &runs),
        scaled_verdicts: scaled_verdicts(&config, &runs),
        scaling_checks: scaling_checks(&config, &runs),
        config,
        baselines,
        runs,
    }
}

/// A repeatable wobble in −1..1.
fn noise(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 29;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x >> 40) as f64 / (1u64 << 23) as f64) - 1.0
}

fn run(name: &str, plan: &str, own: usize, limit: Option<usize>, seed: u64, losses: &[(f64, f64); 5]) -> Run {
    let trained = losses[0].0;
    let curve = |offset: f64, salt: u64| -> Vec<CurvePoint> {
        let at = |step: usize| 2.3 * (-(step as f64) / 60.0).exp() + (trained - 0.02) + 0.75 * (-(step as f64) / 420.0).exp();
        (0..=30)
            .map(|i| CurvePoint {
                step: i * 50,
                loss: at(i * 50) + offset + 0.015 * noise(salt + i as u64 * 7 + seed * 1000),
            })
            .collect()
    };
    let lengths = LENGTHS.iter().zip(losses).map(|(&length, &(mean, aligned))| AtLength {
        length,
        outcome: match limit {
            Some(limit) if length > limit => Outcome::Refused(format!("position {limit} is past the learned table of {limit} positions")),
            _ => Outcome::Measured(Losses {
                mean,
                aligned,
                per_position: per_position(length, losses, seed),
                per_position_width: 4,
                windows: 65_536 / length,
            }),
        },
    });
    Run {
        encoding: name.into(),
        plan: plan.into(),
        seed,
        parameters: 104_768 + own,
        encoding_parameters: own,
        training: curve(-0.05, 3),
        held_out: curve(0.0, 11),
        lengths: lengths.collect(),
        scaled: if name == "rotary" { scaled(seed, losses[0].1) } else { Vec::new() },
        training_seconds: 47.0 + trained,
        evaluation_seconds: 6.0,
    }
}

/// Falls to the trained loss inside the trained length, then follows the aligned losses.
fn per_position(length: usize, losses: &[(f64, f64); 5], seed: u64) -> Vec<f64> {
    (0..length / 4)
        .map(|i| {
            let x = i as f64 * 4.0 + 2.5;
            let known: Vec<(f64, f64)> = LENGTHS.iter().zip(losses).map(|(&l, loss)| ((l as f64).log2(), loss.1)).collect();
            let at = x.log2();
            let settled = known
                .windows(2)
                .find(|w| at >= w[0].0 && at <= w[1].0)
                .map_or(known[if at < 6.0 { 0 } else { 4 }].1, |w| {
                    w[0].1 + (w[1].1 - w[0].1) * (at - w[0].0) / (w[1].0 - w[0].0)
                });
            settled + 1.6 * (-x / 7.0).exp() + 0.05 * noise(i as u64 * 31 + seed * 977 + length as u64)
        })
        .collect()
}
