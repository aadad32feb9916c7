//! The answer first: the verdicts of a comparison in sentences, and the order in which its encodings are shown.

use posenc_lab::results::{AtLength, Losses, Outcome, Reach, Results, Run, Verdict, VerdictAt};

use super::words;

/// One encoding of a comparison: what followed, and what it follows from.
pub struct Row<'a> {
    /// The encoding's place in `Config::encodings`, which fixes its colour, dash and marker in every plot.
    pub index: usize,
    /// Its verdicts.
    pub verdict: &'a Verdict,
    /// Its runs, one per seed.
    pub runs: Vec<&'a Run>,
}

impl Row<'_> {
    /// How many of the lengths past the trained one hold, counted until the first that does not; `None` if even the trained one does not run.
    pub fn holds(&self) -> Option<usize> {
        let held = self.verdict.lengths.iter().take_while(|at| at.verdict == Reach::Holds).count();
        held.checked_sub(1)
    }

    /// The losses of every seed that ran at this length.
    pub fn losses(&self, length: usize) -> impl Iterator<Item = &Losses> {
        self.runs.iter().filter_map(move |run| measured(run, length))
    }

    /// The mean over windows at this length, averaged over the seeds.
    pub fn mean(&self, length: usize) -> Option<f64> {
        words::mean(self.losses(length).map(|losses| losses.mean))
    }

    /// Where the encoding refuses: the first length of each distinct text, with the text.
    pub fn refusals(&self) -> Vec<(usize, &str)> {
        let mut found: Vec<(usize, &str)> = Vec::new();
        for AtLength { length, outcome } in self.runs.iter().flat_map(|run| &run.lengths) {
            if let Outcome::Refused(text) = outcome
                && !found.iter().any(|(_, known)| known == text)
            {
                found.push((*length, text));
            }
        }
        found
    }
}

/// What a run measured at a length, if it ran there.
pub fn measured(run: &Run, length: usize) -> Option<&Losses> {
    run.lengths.iter().find(|at| at.length == length).and_then(|at| match &at.outcome {
        Outcome::Measured(losses) => Some(losses),
        Outcome::Refused(_) => None,
    })
}

/// The encodings, furthest reach first, then by the loss at the trained length.
pub fn rows(results: &Results) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = results
        .verdicts
        .iter()
        .enumerate()
        .map(|(index, verdict)| Row {
            index,
            verdict,
            runs: results.runs.iter().filter(|run| run.encoding == verdict.encoding).collect(),
        })
        .collect();
    // A model that never ran has no loss; NaN would sort by its sign bit, so it is moved to the end by hand.
    let trained = |row: &Row| {
        if row.verdict.trained_loss.is_finite() {
            row.verdict.trained_loss
        } else {
            f64::INFINITY
        }
    };
    rows.sort_by(|a, b| b.holds().cmp(&a.holds()).then(trained(a).total_cmp(&trained(b))));
    rows
}

/// The answer in sentences: first what reaches furthest, then the others, then what cannot be judged. `name` marks up an encoding's name.
pub fn answer(results: &Results, name: &dyn Fn(&str) -> String) -> Vec<String> {
    let trained = results.config.training.length;
    let rows = rows(results);
    let names = |rows: &[&Row]| words::list(&rows.iter().map(|row| name(&row.verdict.encoding)).collect::<Vec<_>>());
    // An encoding that refuses the trained length has no model, so there is nothing that could have converged.
    let (ran, refused): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .partition(|row| row.verdict.lengths.first().is_some_and(|at| at.verdict != Reach::Refuses));
    let (judged, unfinished): (Vec<&Row>, Vec<&Row>) = ran.into_iter().partition(|row| row.verdict.converged);

    let past = results.config.lengths.iter().copied().filter(|&length| length > trained).max();
    let mut sentences = Vec::new();
    match past {
        _ if judged.is_empty() && unfinished.is_empty() => {}
        _ if judged.is_empty() => {
            let steps = words::plural(results.config.training.steps, "step");
            sentences.push(format!(
                "No encoding had converged after {steps}: the numbers below describe unfinished models, not their encodings."
            ));
        }
        None => sentences.push(format!(
            "Trained on {trained} tokens; nothing past the trained length was measured."
        )),
        Some(longest) => sentences.extend(stories(&judged, trained, longest, &names)),
    }
    if !judged.is_empty() && !unfinished.is_empty() {
        let verb = if unfinished.len() == 1 { "has" } else { "have" };
        sentences.push(format!("Not judged here: {} {verb} not converged.", names(&unfinished)));
    }
    if !refused.is_empty() {
        let verb = if refused.len() == 1 { "refuses" } else { "refuse" };
        sentences.push(format!("{} {verb} even the trained length of {trained} tokens.", names(&refused)));
    }
    sentences
}

/// One sentence per group of encodings that did the same.
fn stories(judged: &[&Row], trained: usize, longest: usize, names: &dyn Fn(&[&Row]) -> String) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in judged {
        let story = story(&row.verdict.lengths, trained, true);
        match groups.iter_mut().find(|(known, _)| *known == story) {
            Some((_, members)) => members.push(row),
            None => groups.push((story, vec![row])),
        }
    }
    let best = judged.first().and_then(|row| row.holds()).unwrap_or(0);
    let mut sentences = Vec::new();
    for (i, (singular, members)) in groups.into_iter().enumerate() {
        let story = if members.len() == 1 {
            singular
        } else {
            story(&members[0].verdict.lengths, trained, false)
        };
        sentences.push(match (i, best) {
            (0, 0) => format!(
                "Trained on {trained} tokens, no encoding holds past the trained length: {} {story}.",
                names(&members)
            ),
            (0, _) => {
                let all = members[0].verdict.lengths.iter().all(|at| at.verdict == Reach::Holds);
                let longest = if all {
                    format!(" ({longest} tokens), the longest length measured")
                } else {
                    String::new()
                };
                format!("Trained on {trained} tokens, {} {story}{longest}.", names(&members))
            }
            _ => format!("{} {story}.", names(&members)),
        });
    }
    sentences
}

/// What one encoding does as the context grows: `holds up to 1.5× and is broken from 2× on`.
fn story(lengths: &[VerdictAt], trained: usize, singular: bool) -> String {
    let at = |i: usize| words::ratio(lengths[i].length, trained);
    let verb = |reach: Reach| match (reach, singular) {
        (Reach::Holds, true) => "holds",
        (Reach::Holds, false) => "hold",
        (Reach::Degrades, true) => "degrades",
        (Reach::Degrades, false) => "degrade",
        (Reach::Broken, true) => "is broken",
        (Reach::Broken, false) => "are broken",
        (Reach::Inconclusive, true) => "is inconclusive",
        (Reach::Inconclusive, false) => "are inconclusive",
        (Reach::Refuses, true) => "refuses",
        (Reach::Refuses, false) => "refuse",
    };
    // From where on one verdict stays to the end; a single last length is just "at".
    let from = |i: usize| {
        let stays = lengths[i..].iter().all(|later| later.verdict == lengths[i].verdict);
        if stays && i + 1 < lengths.len() {
            format!("from {} on", at(i))
        } else {
            format!("at {}", at(i))
        }
    };
    let held = lengths.iter().take_while(|at| at.verdict == Reach::Holds).count();
    let mut parts = Vec::new();
    if held > 1 {
        parts.push(format!("{} up to {}", verb(Reach::Holds), at(held - 1)));
    }
    if held < lengths.len() {
        let first = lengths[held].verdict;
        let why = if first == Reach::Inconclusive {
            " (the seeds disagree)"
        } else {
            ""
        };
        parts.push(format!("{} {}{why}", verb(first), from(held)));
        let worse = |at: &VerdictAt| matches!(at.verdict, Reach::Broken | Reach::Refuses);
        if !worse(&lengths[held])
            && let Some(i) = (held..lengths.len()).find(|&i| worse(&lengths[i]))
        {
            parts.push(format!("{} {}", verb(lengths[i].verdict), from(i)));
        }
    }
    words::list(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(verdicts: &[Reach]) -> Vec<VerdictAt> {
        verdicts
            .iter()
            .zip([64, 96, 128, 256, 512])
            .map(|(&verdict, length)| VerdictAt {
                length,
                verdict,
                rise: vec![],
            })
            .collect()
    }

    #[test]
    fn stories_say_where_a_verdict_begins() {
        use Reach::*;
        let say = |verdicts: &[Reach]| story(&lengths(verdicts), 64, true);
        assert_eq!(say(&[Holds, Holds, Holds, Holds, Holds]), "holds up to 8×");
        assert_eq!(
            say(&[Holds, Holds, Broken, Broken, Broken]),
            "holds up to 1.5× and is broken from 2× on"
        );
        assert_eq!(
            say(&[Holds, Holds, Holds, Degrades, Broken]),
            "holds up to 2×, degrades at 4× and is broken at 8×"
        );
        assert_eq!(
            say(&[Holds, Inconclusive, Degrades, Degrades, Degrades]),
            "is inconclusive at 1.5× (the seeds disagree)"
        );
        assert_eq!(say(&[Holds, Refuses, Refuses, Refuses, Refuses]), "refuses from 1.5× on");
        assert_eq!(say(&[Holds, Broken, Degrades, Broken, Broken]), "is broken at 1.5×");
        assert_eq!(story(&lengths(&[Holds, Broken, Broken]), 64, false), "are broken from 1.5× on");
    }
}
