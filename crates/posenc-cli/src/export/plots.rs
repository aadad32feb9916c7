//! Which charts a comparison is shown in, and what to see in each.

use posenc_lab::results::{AtLength, CurvePoint, Losses, Outcome, Results, Run};
use posenc_lab::scalings::ScalingMethod;
use posenc_lab::verdict::HOLDS_BELOW;

use super::answer::{Row, measured};
use super::axis::{Scale, Tick};
use super::scaled::{self, Group};
use super::svg::{Chart, Point, Series};
use super::words::{self, extent};

/// What every y axis here shows.
const LOSS: &str = "nats per token";

/// A chart with its heading and what to see in it.
pub struct Plot {
    pub heading: &'static str,
    pub see: Vec<String>,
    pub chart: Chart,
}

/// All charts for which there is data; those over the lengths need at least two of them.
pub fn plots(results: &Results, rows: &[Row]) -> Vec<Plot> {
    // The colours follow the configuration; so does the order of drawing, so that two reports on the same encodings look alike.
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| row.index);
    let mut plots = vec![by_position(results, &rows), training(results, &rows)];
    if results.config.lengths.len() > 1 {
        plots.insert(1, means(results, &rows));
        plots.insert(0, aligned(results, &rows));
    }
    plots.retain(|plot| plot.chart.series.iter().any(|series| !series.points.is_empty()));
    plots
}

fn aligned(results: &Results, rows: &[&Row]) -> Plot {
    let mut see = vec!["The same target tokens at every length; only the context before them grows. A flat line holds, a rising line is misled by what it reads.".into()];
    if let Some((longest, low, high)) = rises(results, rows) {
        let at = words::length(longest, results.config.training.length);
        see.push(if low.1 == high.1 {
            format!(
                "At {at}, {} stands {} nat from where it was at the trained length.",
                low.1,
                words::rise(low.0)
            )
        } else {
            format!(
                "At {at}, the change since the trained length goes from {} nat ({}) to {} ({}).",
                words::rise(low.0),
                low.1,
                words::rise(high.0),
                high.1
            )
        });
    }
    Plot {
        heading: "Aligned loss against context length",
        see,
        chart: by_length(
            results,
            rows,
            "aligned",
            "Loss on the same targets against context length, one line per encoding",
            |losses| losses.aligned,
        ),
    }
}

fn means(results: &Results, rows: &[&Row]) -> Plot {
    let mut see = vec![
        "The number that papers usually print: the mean over every position of a window. On the same axis as the aligned loss above, so that what the mean hides can be seen: \
         the first tokens of each window are always within the trained length, and pull it down."
            .into(),
    ];
    see.extend(hidden(results, rows));
    Plot {
        heading: "Mean loss over windows against context length",
        see,
        chart: by_length(
            results,
            rows,
            "means",
            "Mean loss over windows against context length, one line per encoding",
            |losses| losses.mean,
        ),
    }
}

fn by_position(results: &Results, rows: &[&Row]) -> Plot {
    let trained = results.config.training.length;
    let series: Vec<Series> = rows
        .iter()
        .map(|row| {
            let seeds: Vec<_> = row
                .runs
                .iter()
                .filter_map(|run| longest(run))
                .map(|(length, losses)| positions(losses, length, trained))
                .collect();
            Series {
                ends: ends(results, row),
                ..Series::over_seeds(row.index, &row.verdict.encoding, &seeds)
            }
        })
        .collect();
    let longest = rows
        .iter()
        .flat_map(|row| &row.runs)
        .filter_map(|run| longest(run))
        .map(|(length, _)| length)
        .max()
        .unwrap_or(trained);
    let lowest = extent(series.iter().flat_map(|s| &s.points).map(|p| p.x)).map_or(1.0, |(low, _)| low);
    // The first positions have nothing to go by: beyond the unigram's loss they would squeeze everything else, so the range is that of the rest.
    let early = |p: &&Point| p.x < trained as f64 / 4.0;
    let cap = if results.baselines.unigram.is_finite() {
        results.baselines.unigram
    } else {
        f64::INFINITY
    };
    let points = || series.iter().flat_map(|s| &s.points);
    let settled = points().filter(|p| !early(p)).flat_map(|p| [p.low, p.high]);
    let unsettled = points().filter(early).map(|p| p.high.min(cap));
    let y_range = range(settled.chain(unsettled), ceiling(results));
    let mut see = vec![format!(
        "One window of {longest} tokens, read from its first token to its last. Up to the mark the models are where they were trained, and loss falls as context builds up."
    )];
    if longest > trained {
        see.push("Past the mark no position was ever seen in training.".into());
    }
    if series.iter().any(|s| s.ends.is_some()) {
        see.push("A line that ends in a bar belongs to an encoding that refuses to go on.".into());
    }
    if series.iter().flat_map(|s| &s.points).any(|p| p.y > y_range.1) {
        see.push(format!("Values above {} are cut off.", words::loss(y_range.1)));
    }
    let powers = std::iter::successors(Some(1usize), |p| p.checked_mul(2)).take_while(|&p| p <= longest);
    Plot {
        heading: "Loss against position",
        see,
        chart: Chart {
            id: "position",
            description: format!(
                "Loss against position in windows of {longest} tokens, the trained length of {trained} marked, one line per encoding"
            ),
            scale: Scale::Log2,
            x_range: Some((lowest, longest as f64)),
            x_title: "position in the window (tokens, log scale)".into(),
            y_title: LOSS.into(),
            y_scale: Scale::Linear,
            x_ticks: powers
                .filter(|&p| p as f64 >= lowest)
                .map(|p| Tick {
                    at: p as f64,
                    label: p.to_string(),
                    below: String::new(),
                })
                .collect(),
            y_range,
            y_ticks: Vec::new(),
            marker: Some((trained as f64, format!("trained length {trained}"))),
            references: Vec::new(),
            series,
        },
    }
}

fn training(results: &Results, rows: &[&Row]) -> Plot {
    let curve = |points: &[CurvePoint]| points.iter().map(|p| (p.step as f64, p.loss)).collect::<Vec<_>>();
    let series: Vec<Series> = rows
        .iter()
        .map(|row| {
            Series::over_seeds(
                row.index,
                &row.verdict.encoding,
                &row.runs.iter().map(|run| curve(&run.held_out)).collect::<Vec<_>>(),
            )
        })
        .collect();
    let base = &results.baselines;
    // The first losses are those of a model that knows nothing: the unigram's mark with some air is as high as anyone needs to see.
    let top = if base.unigram.is_finite() {
        base.unigram + 0.25
    } else {
        f64::INFINITY
    };
    let references = [(base.unigram, "unigram"), (base.bigram, "bigram")];
    let references: Vec<(f64, String)> = references
        .into_iter()
        .filter(|(at, _)| at.is_finite())
        .map(|(at, name)| (at, format!("{name} {at:.2}")))
        .collect();
    let values = series
        .iter()
        .flat_map(|s| &s.points)
        .flat_map(|p| [p.low, p.high])
        .chain(references.iter().map(|(at, _)| at + 0.1));
    let slow: Vec<String> = rows
        .iter()
        .filter(|row| !row.verdict.converged && !row.runs.is_empty())
        .map(|row| row.verdict.encoding.clone())
        .collect();
    let mut see = vec![
        "Loss on fixed held-out windows of the trained length while the models learn. A line that still falls at the right edge is an unfinished model; a line above the bigram's has not learned to use more than one token of context."
            .into(),
    ];
    if !slow.is_empty() {
        see.push(format!("Not converged: {}.", words::list(&slow)));
    }
    Plot {
        heading: "Training curves",
        see,
        chart: Chart {
            id: "training",
            description: "Held-out loss against training step, one line per encoding, with the losses of a unigram and a bigram model as horizontal lines".into(),
            scale: Scale::Linear,
            x_range: None,
            x_title: "training step".into(),
            y_title: LOSS.into(),
            y_scale: Scale::Linear,
            x_ticks: Vec::new(),
            y_range: range(values, top),
            y_ticks: Vec::new(),
            marker: None,
            references,
            series,
        },
    }
}

/// Names of the charts of scaled models on a page. Who compares more rotary encodings than this finds the others in the table above.
const SCALED: [&str; 4] = ["scaled", "scaled-2", "scaled-3", "scaled-4"];

/// One encoding's model, unscaled and under each scaling, each length read with the scaling set for it; the `number`-th such chart of the page.
pub fn scaled(results: &Results, group: &Group, number: usize) -> Option<Plot> {
    let id = *SCALED.get(number)?;
    let Group { row, verdicts } = group;
    let lengths = &results.config.lengths;
    let unscaled = |run: &Run| -> Vec<(f64, f64)> {
        let losses = lengths.iter().filter_map(|&length| Some((length, measured(run, length)?.aligned)));
        losses.map(|(length, loss)| (length as f64, loss)).collect()
    };
    let under = |run: &Run, scaling: ScalingMethod| -> Vec<(f64, f64)> {
        let first = |&length: &usize| {
            let found = run.scaled.iter().find(|at| at.scaling == scaling && at.length == length)?;
            Some((length as f64, found.aligned))
        };
        lengths.iter().filter_map(first).collect()
    };
    // The unscaled line is that of the other charts; the scalings take the colours after it.
    let line = |i: usize, name: &str, points: &dyn Fn(&Run) -> Vec<(f64, f64)>| {
        Series::over_seeds(row.index + i, name, &row.runs.iter().map(|run| points(run)).collect::<Vec<_>>())
    };
    let mut series = vec![line(0, scaled::UNSCALED, &unscaled)];
    series.extend(verdicts.iter().enumerate().map(|(i, verdict)| {
        let scaling = verdict.scaling;
        line(i + 1, scaled::name(scaling), &|run| under(run, scaling))
    }));
    if lengths.len() < 2 || series.iter().all(|series| series.points.is_empty()) {
        return None;
    }
    let values: Vec<f64> = series.iter().flat_map(|s| &s.points).flat_map(|p| [p.low, p.high]).collect();
    let encoding = &row.verdict.encoding;
    let chart = over_lengths(
        results,
        id,
        format!("Loss of the trained {encoding} model on the same targets against context length, unscaled and under each scaling"),
        range(values.into_iter(), ceiling(results)),
        series,
    );
    Some(Plot {
        heading: "Aligned loss against context length, scaled",
        see: vec![
            "The same targets as in the first chart. Each length is read with the scaling set for it, so all lines begin at the trained length in one point.".into(),
        ],
        chart,
    })
}

/// A chart over the evaluated lengths. Both charts made here have the same range, so that they can be compared by eye.
fn by_length(results: &Results, rows: &[&Row], id: &'static str, description: &str, value: fn(&Losses) -> f64) -> Chart {
    let points = |run: &Run| {
        let losses = run
            .lengths
            .iter()
            .filter_map(|at| measured(run, at.length).map(|losses| (at.length as f64, value(losses))));
        losses.collect::<Vec<_>>()
    };
    let series = rows
        .iter()
        .map(|row| Series {
            ends: ends(results, row),
            ..Series::over_seeds(
                row.index,
                &row.verdict.encoding,
                &row.runs.iter().map(|run| points(run)).collect::<Vec<_>>(),
            )
        })
        .collect();
    let every = rows
        .iter()
        .flat_map(|row| &row.runs)
        .flat_map(|run| run.lengths.iter().filter_map(|at| measured(run, at.length)));
    let y_range = range(every.flat_map(|losses| [losses.mean, losses.aligned]), ceiling(results));
    over_lengths(results, id, description.into(), y_range, series)
}

/// A chart over the evaluated lengths with these lines.
fn over_lengths(results: &Results, id: &'static str, description: String, y_range: (f64, f64), series: Vec<Series>) -> Chart {
    let trained = results.config.training.length;
    Chart {
        id,
        description,
        scale: Scale::Log2,
        x_range: None,
        x_title: "tokens of context (log scale)".into(),
        y_title: LOSS.into(),
        y_scale: Scale::Linear,
        x_ticks: (results.config.lengths.iter())
            .map(|&length| Tick {
                at: length as f64,
                label: length.to_string(),
                below: words::ratio(length, trained),
            })
            .collect(),
        y_range,
        y_ticks: Vec::new(),
        marker: Some((trained as f64, format!("trained length {trained}"))),
        references: Vec::new(),
        series,
    }
}

/// The y range of some values: a little air, and an end at `ceiling`, so that one diverged line does not flatten all the others.
fn range(values: impl Iterator<Item = f64>, ceiling: f64) -> (f64, f64) {
    let (low, high) = extent(values).unwrap_or((0.0, 1.0));
    let high = if ceiling > low { high.min(ceiling) } else { high };
    let air = ((high - low) * 0.05).max(0.02);
    (low - air, high + air)
}

/// Twice the unigram's loss: a model beyond it is wrong about everything, and how much more so is of no interest.
fn ceiling(results: &Results) -> f64 {
    if results.baselines.unigram.is_finite() {
        2.0 * results.baselines.unigram
    } else {
        f64::INFINITY
    }
}

/// `to 64`, if the encoding ran, but not at every length.
fn ends(results: &Results, row: &Row) -> Option<String> {
    let last = *results.config.lengths.last()?;
    let reached = row.runs.iter().filter_map(|run| longest(run)).map(|(length, _)| length).max()?;
    (reached < last).then(|| format!("to {reached}"))
}

/// The greatest length at which the run could be measured.
fn longest(run: &Run) -> Option<(usize, &Losses)> {
    let measured = |at| match at {
        &AtLength {
            length,
            outcome: Outcome::Measured(ref losses),
        } => Some((length, losses)),
        AtLength {
            outcome: Outcome::Refused(_),
            ..
        } => None,
    };
    run.lengths.iter().filter_map(measured).max_by_key(|(length, _)| *length)
}

/// Loss per position in bins of an eighth of an octave, with an edge at the trained length: on a log axis the far positions would be one blur of noise.
fn positions(losses: &Losses, length: usize, trained: usize) -> Vec<(f64, f64)> {
    let width = losses.per_position_width.max(1);
    // Per bin: its number, how many positions it holds, the sum of their logarithms, the sum of their losses.
    let mut bins: Vec<(i64, f64, f64, f64)> = Vec::new();
    for (i, &loss) in losses.per_position.iter().enumerate() {
        let first = i * width;
        let count = width.min(length.saturating_sub(first)).max(1) as f64;
        let centre = first as f64 + (count + 1.0) / 2.0;
        let bin = ((centre / trained.max(1) as f64).log2() * 8.0).ceil() as i64;
        match bins.last_mut() {
            Some((last, n, logs, sum)) if *last == bin => {
                *n += count;
                *logs += count * centre.log2();
                *sum += count * loss;
            }
            _ => bins.push((bin, count, count * centre.log2(), count * loss)),
        }
    }
    bins.into_iter().map(|(_, n, logs, sum)| ((logs / n).exp2(), sum / n)).collect()
}

/// A number and the encoding it belongs to.
type Named<'a> = (f64, &'a str);

/// At the longest length that anything ran: the smallest and the largest mean rise, with the encodings' names.
fn rises<'a>(results: &Results, rows: &[&'a Row]) -> Option<(usize, Named<'a>, Named<'a>)> {
    let trained = results.config.training.length;
    for &length in results.config.lengths.iter().rev().filter(|&&length| length > trained) {
        let mut found: Vec<(f64, &str)> = rows
            .iter()
            .filter_map(|row| Some((aligned_rise(row, length)?, row.verdict.encoding.as_str())))
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some(&low), Some(&high)) = (found.first(), found.last()) {
            return Some((length, low, high));
        }
    }
    None
}

fn aligned_rise(row: &Row, length: usize) -> Option<f64> {
    let at = row.verdict.lengths.iter().find(|at| at.length == length)?;
    words::mean(at.rise.iter().copied())
}

/// Where the mean over windows says least about the aligned loss.
fn hidden(results: &Results, rows: &[&Row]) -> Option<String> {
    let trained = results.config.training.length;
    let gaps = rows.iter().flat_map(|row| {
        results.config.lengths.iter().filter_map(move |&length| {
            let (aligned, mean) = (aligned_rise(row, length)?, row.mean(length)? - row.mean(trained)?);
            Some((aligned - mean, aligned, mean, length, row.verdict.encoding.as_str()))
        })
    });
    let (gap, aligned, mean, length, name) = gaps.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (gap >= HOLDS_BELOW).then(|| {
        format!(
            "The largest gap: at {}, the mean of {name} changes by {} nat, the same targets by {}.",
            words::length(length, trained),
            words::rise(mean),
            words::rise(aligned)
        )
    })
}
