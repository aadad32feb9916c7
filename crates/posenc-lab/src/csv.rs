//! `results.csv`: the same measurements in long form, one row per encoding, seed and length, and one per scaled reading, for whatever draws a plot.

use std::fmt::Write;

use crate::results::{Outcome, Reach, Results};
use crate::scalings::ScaledVerdictAt;

/// The columns, in order. `docs/method.md` describes each.
pub const COLUMNS: [&str; 19] = [
    "encoding",
    "seed",
    "length",
    "ratio",
    "outcome",
    "mean",
    "aligned",
    "rise",
    "windows",
    "verdict",
    "converged",
    "unigram",
    "bigram",
    "parameters",
    "encoding_parameters",
    "training_seconds",
    "evaluation_seconds",
    "scaling",
    "factor",
];

/// The whole file: each run's unscaled rows, whose `scaling` and `factor` are empty, then its scaled ones. Where an encoding refuses a length the cells of what was not measured are empty; a loss that is not a number is `NaN`.
pub fn to_csv(results: &Results) -> String {
    let mut csv = COLUMNS.join(",") + "\n";
    let trained = results.config.training.length;
    for run in &results.runs {
        let verdict = results.verdicts.iter().find(|verdict| verdict.encoding == run.encoding);
        let base = run.lengths.iter().find(|at| at.length == trained).map(|at| &at.outcome);
        for at in &run.lengths {
            let reach = verdict
                .and_then(|verdict| verdict.lengths.iter().find(|v| v.length == at.length))
                .map(|v| reach_name(v.verdict));
            let rise = match (base, &at.outcome) {
                (Some(Outcome::Measured(base)), Outcome::Measured(here)) => number(here.aligned - base.aligned),
                _ => String::new(),
            };
            let (outcome, mean, aligned, windows) = match &at.outcome {
                Outcome::Measured(losses) => ("measured", number(losses.mean), number(losses.aligned), losses.windows.to_string()),
                Outcome::Refused(_) => ("refused", String::new(), String::new(), String::new()),
            };
            let cells: [String; COLUMNS.len()] = [
                text(&run.encoding),
                run.seed.to_string(),
                at.length.to_string(),
                number(at.length as f64 / trained as f64),
                outcome.into(),
                mean,
                aligned,
                rise,
                windows,
                reach.unwrap_or_default().into(),
                verdict.map(|verdict| verdict.converged.to_string()).unwrap_or_default(),
                number(results.baselines.unigram),
                number(results.baselines.bigram),
                run.parameters.to_string(),
                run.encoding_parameters.to_string(),
                number(run.training_seconds),
                number(run.evaluation_seconds),
                String::new(),
                String::new(),
            ];
            writeln!(csv, "{}", cells.join(",")).expect("writing to a string");
        }
        for scaled in &run.scaled {
            let judged = results
                .scaled_verdicts
                .iter()
                .find(|judged| judged.encoding == run.encoding && judged.scaling == scaled.scaling)
                .and_then(|judged| {
                    let same = |at: &&ScaledVerdictAt| at.factor == scaled.factor && at.length == scaled.length;
                    judged.readings.iter().find(same)
                });
            let rise = match base {
                Some(Outcome::Measured(base)) => number(scaled.aligned - base.aligned),
                _ => String::new(),
            };
            let cells: [String; COLUMNS.len()] = [
                text(&run.encoding),
                run.seed.to_string(),
                scaled.length.to_string(),
                number(scaled.length as f64 / trained as f64),
                "measured".into(),
                String::new(),
                number(scaled.aligned),
                rise,
                String::new(),
                judged.map(|at| reach_name(at.verdict)).unwrap_or_default().into(),
                verdict.map(|verdict| verdict.converged.to_string()).unwrap_or_default(),
                number(results.baselines.unigram),
                number(results.baselines.bigram),
                run.parameters.to_string(),
                run.encoding_parameters.to_string(),
                number(run.training_seconds),
                number(run.evaluation_seconds),
                scaled.scaling.name().into(),
                number(scaled.factor),
            ];
            writeln!(csv, "{}", cells.join(",")).expect("writing to a string");
        }
    }
    csv
}

/// A verdict as it stands in the files.
pub fn reach_name(reach: Reach) -> &'static str {
    reach.words().en
}

/// The shortest digits that read back as the same number. Infinity becomes NaN, as it does in `results.json`: the files of a resumed comparison are the same.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "NaN".into() }
}

/// A cell of text, quoted if it has to be (RFC 4180).
fn text(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::results::{Baselines, SCHEMA};
    use crate::scalings::{Scaled, ScalingMethod, scaled_verdicts};
    use crate::verdict::{tests::run, verdicts};

    #[test]
    fn one_row_per_encoding_seed_and_length() {
        let mut runs = vec![
            run("alibi", 0, [Some(1.0), Some(1.25), None]),
            run("rotary, \"new\"", 1, [Some(1.0), Some(f64::INFINITY), Some(1.0)]),
        ];
        let mut config = small();
        config.encodings[1] = runs[1].encoding.clone();
        config.scalings = vec![ScalingMethod::Yarn];
        runs[1].scaled = vec![Scaled {
            scaling: ScalingMethod::Yarn,
            factor: 1.5,
            length: 12,
            aligned: 1.25,
        }];
        let baselines = Baselines { unigram: 2.9, bigram: 2.4 };
        let verdicts = verdicts(&config, &baselines, &runs);
        let csv = to_csv(&Results {
            schema: SCHEMA,
            posenc: "0".into(),
            baselines,
            scaled_verdicts: scaled_verdicts(&config, &runs),
            scaling_checks: Vec::new(),
            config,
            runs,
            verdicts,
        });
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 3 + 1);
        assert_eq!(lines[0], COLUMNS.join(","));
        assert_eq!(
            lines[2],
            "alibi,0,12,1.5,measured,1.5,1.25,0.25,6,degrades,true,2.9,2.4,1000,0,0.25,0.125,,"
        );
        assert_eq!(lines[3], "alibi,0,16,2,refused,,,,,refuses,true,2.9,2.4,1000,0,0.25,0.125,,");
        assert_eq!(
            lines[5],
            "\"rotary, \"\"new\"\"\",1,12,1.5,measured,1.5,NaN,NaN,6,broken,true,2.9,2.4,1000,0,0.25,0.125,,"
        );
        assert_eq!(
            lines[7],
            "\"rotary, \"\"new\"\"\",1,12,1.5,measured,,1.25,0.25,,degrades,true,2.9,2.4,1000,0,0.25,0.125,yarn,1.5"
        );
    }

    #[test]
    fn names_are_those_of_the_json() {
        for reach in [Reach::Holds, Reach::Degrades, Reach::Broken, Reach::Inconclusive, Reach::Refuses] {
            assert_eq!(serde_json::to_string(&reach).unwrap(), format!("\"{}\"", reach_name(reach)));
        }
    }
}
