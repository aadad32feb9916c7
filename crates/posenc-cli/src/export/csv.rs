//! `results.csv`: one line per encoding, seed and length, for a spreadsheet or a data frame. Curves and losses per position are in `results.json` only.

use std::fmt::Write;

use posenc_lab::results::{Outcome, Results};

use super::answer::measured;

/// The lengths of all runs as RFC 4180 CSV with a header. Numbers are written in full; a refused length has its reason and empty losses.
pub fn csv(results: &Results) -> String {
    let mut out = String::from("encoding,seed,length,times_trained,mean,aligned,rise,verdict,converged,refused\r\n");
    let number = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
    for run in &results.runs {
        let verdict = results.verdicts.iter().find(|verdict| verdict.encoding == run.encoding);
        let trained = measured(run, results.config.training.length).map(|losses| losses.aligned);
        for at in &run.lengths {
            let judged = verdict.and_then(|verdict| verdict.lengths.iter().find(|judged| judged.length == at.length));
            let none = String::new;
            let (mean, aligned, rise, refused) = match &at.outcome {
                Outcome::Measured(losses) => {
                    let rise = trained.map_or_else(none, |trained| number(losses.aligned - trained));
                    (number(losses.mean), number(losses.aligned), rise, none())
                }
                Outcome::Refused(text) => (none(), none(), none(), field(text)),
            };
            let _ = write!(
                out,
                "{},{},{},{},{mean},{aligned},{rise},{},{},{refused}\r\n",
                field(&run.encoding),
                run.seed,
                at.length,
                at.length as f64 / results.config.training.length.max(1) as f64,
                judged.map_or("", |judged| super::words::reach(judged.verdict)),
                verdict.map_or("", |verdict| if verdict.converged { "yes" } else { "no" }),
            );
        }
    }
    out
}

/// A field, quoted where it must be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}
