//! What a token costs as sequences and batches grow: measurements of `posenc bench --growth` as lines.

use std::fmt::Write;

use posenc_lab::bench::{Axis as Grown, Growth, Report, Row, Spread};

use super::{Csv, Panel, Picture};
use crate::export::axis::{Axis, Scale, Tick, decades};
use crate::export::bench::{machine, threads};
use crate::export::svg::{Chart, Frame, Point, Series, body};
use crate::export::words::{escape, extent};

/// A panel's height, and the widths of the two that stand side by side: the second has the names of the lines at their ends.
const HEIGHT: f64 = 330.0;
const WIDTHS: [f64; 2] = [356.0, 528.0];
/// Of that, the names.
const NAMES: f64 = 190.0;

/// Nanoseconds a token and ratios to the limits, by length and by batch, for each number of threads.
pub fn lines(report: &Report) -> Picture {
    let mut csv = Csv::new("threads,work,axis,at,tokens,seconds,seconds_low,seconds_high,ratio,ratio_low,ratio_high");
    for row in &report.rows {
        let Some(growth) = row.growth else { continue };
        let axis = match growth.axis {
            Grown::Length => "length",
            Grown::Batch => "batch",
        };
        let ([time, fast, slow], [ratio, low, high]) = (all(row.seconds), all(row.ratio));
        csv.row(&[
            &row.threads,
            &format!("\"{}\"", row.work),
            &axis,
            &growth.at,
            &growth.tokens,
            &time,
            &fast,
            &slow,
            &ratio,
            &low,
            &high,
        ]);
    }
    let mut counts: Vec<usize> = report.rows.iter().map(|row| row.threads).collect();
    counts.dedup();
    // A work has one colour in every panel.
    let mut names: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !names.contains(&row.work.as_str()) {
            names.push(&row.work);
        }
    }
    let rows = counts.iter().flat_map(|&count| {
        let of = |quantity| {
            Lines {
                report,
                names: &names,
                count,
                quantity,
            }
            .panels()
        };
        [of(Quantity::Time), of(Quantity::Ratio)]
    });
    Picture {
        name: "growth".into(),
        title: "What a token costs as sequences and batches grow".into(),
        notes: vec![
            machine(&report.machine) + ".",
            format!(
                "Medians of {} pairs, with their range. Lengths are those of one sequence, or the position of the token that is decoded; batches are of sequences of 2048 tokens. \
                 The cost of a bias is that of a key.",
                report.rounds
            ),
            "Limits: x *= c for the rotation, x += y for the table, a copy for angles and rotation of a new token, memset for the row of a bias, one call over the whole length for the steps that resolve its second half token by token. The dotted line is the limit. Where a line climbs and its ratio does not, memory is slower than the caches were."
                .into(),
        ],
        rows: rows.collect(),
        tables: vec![csv.table("")],
    }
}

fn all(spread: Spread) -> [f64; 3] {
    [spread.median, spread.low, spread.high]
}

/// What y is; both on a scale of ratios.
#[derive(Clone, Copy, PartialEq)]
enum Quantity {
    /// Nanoseconds a token.
    Time,
    /// Over the limit's time.
    Ratio,
}

impl Quantity {
    fn title(self) -> &'static str {
        match self {
            Quantity::Time => "nanoseconds a token (log scale)",
            Quantity::Ratio => "time over the limit's (log scale)",
        }
    }

    fn of(self, row: &Row, growth: Growth) -> Spread {
        match self {
            Quantity::Time => row.seconds.scaled(1e9 / growth.tokens as f64),
            Quantity::Ratio => row.ratio,
        }
    }

    /// A range that ends at marks and holds these values, with its marks: powers of ten, or of two.
    fn axis(self, (low, high): (f64, f64)) -> ((f64, f64), Vec<Tick>) {
        match self {
            Quantity::Time => {
                let range = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
                (range, decades(range.0, range.1))
            }
            Quantity::Ratio => {
                let ends = [low.min(0.5).log2().floor(), high.max(2.0).log2().ceil()].map(|power| power as i32);
                let tick = |power: i32| tick(2f64.powi(power));
                ((2f64.powi(ends[0]), 2f64.powi(ends[1])), (ends[0]..=ends[1]).map(tick).collect())
            }
        }
    }
}

/// Lines of one number of threads and one quantity.
struct Lines<'r> {
    report: &'r Report,
    names: &'r [&'r str],
    count: usize,
    quantity: Quantity,
}

impl Lines<'_> {
    /// By length and by batch, on the same range of y.
    fn panels(&self) -> Vec<Panel> {
        let sides = [(Grown::Length, "tokens"), (Grown::Batch, "sequences")].map(|(axis, title)| (title, self.series(axis)));
        let points = sides.iter().flat_map(|(_, series)| series).flat_map(|series| &series.points);
        let range = extent(points.flat_map(|point| [point.low, point.high])).unwrap_or((1.0, 1.0));
        let (heading, references) = match self.quantity {
            Quantity::Time => (threads(self.count), Vec::new()),
            Quantity::Ratio => (format!("{}, against the limits", threads(self.count)), vec![(1.0, String::new())]),
        };
        // Names that stand at the ends of lines.
        let beside: Vec<String> = sides[1].1.iter().map(|series| series.name.clone()).collect();
        let panel = |(i, (x_title, series)): (usize, (&str, Vec<Series>))| {
            let ats = series.iter().flat_map(|series| &series.points).map(|point| point.x as usize);
            let (y_range, y_ticks) = self.quantity.axis(range);
            let chart = Chart {
                // All panels of a kind cut their lines off at the same place.
                id: "growth",
                description: String::new(),
                scale: Scale::Log2,
                x_title: x_title.into(),
                y_title: self.quantity.title().into(),
                y_scale: Scale::Log2,
                x_range: None,
                x_ticks: ticks(ats),
                y_range,
                y_ticks,
                marker: None,
                references: references.clone(),
                series,
            };
            let named = i == 1;
            let names = if named { NAMES } else { 0.0 };
            let frame = Frame {
                width: WIDTHS[i],
                height: HEIGHT,
                left: 46.0,
                right: WIDTHS[i] - 6.0 - names,
                top: 28.0,
                bottom: HEIGHT - 52.0,
            };
            let mut drawn = body(&chart, &frame, named);
            if !named {
                chart
                    .series
                    .iter()
                    .filter(|series| !beside.contains(&series.name))
                    .for_each(|series| name(&mut drawn, series, &chart, &frame));
            }
            Panel {
                heading: if i == 0 { heading.clone() } else { String::new() },
                width: frame.width,
                height: frame.height,
                body: drawn,
            }
        };
        sides.into_iter().enumerate().map(panel).collect()
    }

    fn series(&self, axis: Grown) -> Vec<Series> {
        let series = self.names.iter().enumerate().map(|(index, name)| {
            let rows = self.report.rows.iter().filter(|row| row.threads == self.count && row.work == *name);
            let points = rows.filter_map(|row| {
                let growth = row.growth.filter(|growth| growth.axis == axis)?;
                let [y, low, high] = all(self.quantity.of(row, growth));
                Some(Point {
                    x: growth.at as f64,
                    y,
                    low,
                    high,
                })
            });
            Series {
                name: name.to_string(),
                index,
                ends: None,
                points: points.collect(),
            }
        });
        series.filter(|series| !series.points.is_empty()).collect()
    }
}

/// The name of a line that only the first panel has, above its end.
fn name(out: &mut String, series: &Series, chart: &Chart, frame: &Frame) {
    let Some(last) = series.points.last() else { return };
    let y = Axis::new(chart.y_scale, chart.y_range, frame.bottom, frame.top).place(last.y);
    let _ = write!(
        out,
        "<text class=\"label halo\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        frame.right,
        y - 10.0,
        escape(&series.name)
    );
}

/// Every second of the powers of two that were measured, or each where they are few.
fn ticks(ats: impl Iterator<Item = usize>) -> Vec<Tick> {
    let mut ats: Vec<usize> = ats.collect();
    ats.sort_unstable();
    ats.dedup();
    let step = if ats.len() > 8 { 2 } else { 1 };
    ats.iter().step_by(step).map(|&at| tick(at as f64)).collect()
}

fn tick(at: f64) -> Tick {
    Tick {
        at,
        label: at.to_string(),
        below: String::new(),
    }
}
