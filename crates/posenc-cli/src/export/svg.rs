//! A line chart as inline SVG, drawn for a wide page and for a narrow one.
//!
//! Text in an SVG shrinks with its picture, so one picture cannot be read on a desk and on a phone: each chart is drawn twice, and the page shows the one that fits.
//! A line is known by colour, dash and marker together, so the chart survives a grey printer; colours come from the page's style sheet, which has a light and a dark set.

use std::fmt::Write;

use super::axis::{Axis, Scale, Tick, spread, ticks};
use super::words::{escape, extent};

const COLOURS: usize = 8;
/// Dash patterns; five of them against eight colours and seven markers, so that neighbours differ in all three.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "10 3 2 3", "4 2"];
const MARKERS: usize = 7;

/// A chart: everything but its size.
pub struct Chart {
    /// Unique on the page.
    pub id: &'static str,
    /// What the picture shows, for someone who does not see it.
    pub description: String,
    pub scale: Scale,
    pub x_title: String,
    /// What y is, with its unit.
    pub y_title: String,
    pub y_scale: Scale,
    /// Range of x; none: that of the data.
    pub x_range: Option<(f64, f64)>,
    /// Marked values of x; empty: round numbers.
    pub x_ticks: Vec<Tick>,
    /// Range of y; lines that leave it are cut off.
    pub y_range: (f64, f64),
    /// Marked values of y; empty: round numbers.
    pub y_ticks: Vec<Tick>,
    /// The trained length.
    pub marker: Option<(f64, String)>,
    /// Horizontal lines to compare with.
    pub references: Vec<(f64, String)>,
    pub series: Vec<Series>,
}

/// One encoding's line.
pub struct Series {
    pub name: String,
    /// Chooses colour, dash and marker: the same encoding has the same index in every chart.
    pub index: usize,
    /// The line ends early because the encoding refuses to go on: what the label adds to the name.
    pub ends: Option<String>,
    /// Mean over the seeds with the smallest and largest value, by ascending x.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

impl Series {
    /// The mean over seeds at every x that all seeds have; a value that is not finite leaves no point.
    pub fn over_seeds(index: usize, name: &str, seeds: &[Vec<(f64, f64)>]) -> Self {
        let points = seeds.first().into_iter().flatten().filter_map(|&(x, _)| {
            let ys: Option<Vec<f64>> = seeds
                .iter()
                .map(|seed| seed.iter().find(|p| p.0 == x).map(|p| p.1).filter(|y| y.is_finite()))
                .collect();
            let ys = ys.filter(|_| x.is_finite())?;
            let (low, high) = extent(ys.iter().copied())?;
            Some(Point {
                x,
                y: ys.iter().sum::<f64>() / ys.len() as f64,
                low,
                high,
            })
        });
        Self {
            name: name.into(),
            index,
            ends: None,
            points: points.collect(),
        }
    }
}

/// The two pictures and, for the narrow one, the legend.
pub fn figure(chart: &Chart) -> String {
    format!("{}{}{}", draw(chart, true), draw(chart, false), legend(chart))
}

/// Pixels of one picture.
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// Pixels between the labels at the ends of the lines.
const LABEL_GAP: f64 = 17.0;

impl Frame {
    /// With room for the names of the lines beside their ends.
    pub fn wide(chart: &Chart, width: f64) -> Frame {
        let labels = chart.series.iter().map(label_width).fold(0.0, f64::max);
        let height = (96.0 + LABEL_GAP * chart.series.len() as f64).max(430.0);
        Frame {
            width,
            height,
            left: 46.0,
            right: width - 44.0 - labels.min(260.0),
            top: 44.0,
            bottom: height - 56.0,
        }
    }

    fn narrow() -> Frame {
        Frame {
            width: 360.0,
            height: 330.0,
            left: 34.0,
            right: 346.0,
            top: 44.0,
            bottom: 274.0,
        }
    }
}

fn draw(chart: &Chart, wide: bool) -> String {
    let (kind, frame) = if wide {
        ("wide", Frame::wide(chart, 880.0))
    } else {
        ("narrow", Frame::narrow())
    };
    format!(
        "<svg class=\"chart {kind}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>\n",
        frame.width,
        frame.height,
        escape(&chart.description),
        body(chart, &frame, wide)
    )
}

/// What stands inside a picture of this frame: axes, lines and, if `wide`, the names of the lines at their ends.
pub fn body(chart: &Chart, frame: &Frame, wide: bool) -> String {
    let data = || extent(chart.series.iter().flat_map(|series| &series.points).map(|p| p.x));
    let xs = chart.x_range.or_else(data).unwrap_or((1.0, 1.0));
    let xs = chart.marker.as_ref().map_or(xs, |&(at, _)| (xs.0.min(at), xs.1.max(at)));
    // Room beside the first and the last point, for the trained-length mark and the markers.
    let x = Axis::new(chart.scale, xs, frame.left + 10.0, frame.right - 10.0);
    let y = Axis::new(chart.y_scale, chart.y_range, frame.bottom, frame.top);
    let clip = format!("clip-{}-{}", chart.id, if wide { "wide" } else { "narrow" });
    let mut out = format!(
        "<clipPath id=\"{clip}\"><rect x=\"{}\" y=\"{}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>",
        frame.left,
        frame.top - 5.0,
        frame.right - frame.left,
        frame.bottom - frame.top + 10.0,
    );
    axes(&mut out, chart, &x, &y, frame, wide);

    let _ = write!(out, "<g clip-path=\"url(#{clip})\">");
    for series in &chart.series {
        line(&mut out, series, &x, &y);
    }
    out.push_str("</g>");
    references(&mut out, chart, &x, &y, frame);
    if wide {
        labels_at_ends(&mut out, chart, &x, &y, frame);
    }
    out
}

fn axes(out: &mut String, chart: &Chart, x: &Axis, y: &Axis, frame: &Frame, wide: bool) {
    let Frame {
        left, right, top, bottom, ..
    } = *frame;
    let round = if chart.y_ticks.is_empty() {
        ticks(y.low, y.high, if wide { 7 } else { 5 })
    } else {
        Vec::new()
    };
    for tick in chart.y_ticks.iter().chain(&round) {
        let at = y.place(tick.at);
        let _ = write!(out, "<path class=\"grid\" d=\"M{left} {at:.1}H{right:.1}\"/>");
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            tick.label
        );
    }
    let _ = write!(out, "<path class=\"axis\" d=\"M{left} {bottom}H{right:.1}\"/>");

    let round = if chart.x_ticks.is_empty() {
        ticks(x.low, x.high, if wide { 8 } else { 4 })
    } else {
        Vec::new()
    };
    let mut free = f64::NEG_INFINITY;
    for tick in chart
        .x_ticks
        .iter()
        .chain(&round)
        .filter(|tick| tick.at >= x.low && tick.at <= x.high)
    {
        let at = x.place(tick.at);
        let _ = write!(out, "<path class=\"axis\" d=\"M{at:.1} {bottom}v5\"/>");
        // Where marks stand closer than their texts are wide, the later text is left out.
        let half = 3.8 * tick.label.chars().count().max(tick.below.chars().count()) as f64 + 2.0;
        if at - half < free {
            continue;
        }
        free = at + half;
        for (text, drop) in [(&tick.label, 19.0), (&tick.below, 33.0)] {
            if !text.is_empty() {
                let _ = write!(
                    out,
                    "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    bottom + drop,
                    escape(text)
                );
            }
        }
    }
    let below = if chart.x_ticks.iter().any(|tick| !tick.below.is_empty()) {
        49.0
    } else {
        37.0
    };
    let _ = write!(
        out,
        "<text class=\"title\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text class=\"title\" x=\"4\" y=\"14\">{}</text>",
        right,
        bottom + below,
        escape(&chart.x_title),
        escape(&chart.y_title)
    );
    if let Some((at, text)) = &chart.marker {
        let at = x.place(*at);
        // The text stands on the side with more room.
        let (anchor, shift) = if at > (left + right) / 2.0 { ("end", 3.0) } else { ("start", -3.0) };
        let _ = write!(
            out,
            "<path class=\"mark\" d=\"M{at:.1} {}V{bottom}\"/><text class=\"title\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            top - 8.0,
            at + shift,
            top - 13.0,
            escape(text)
        );
    }
}

fn references(out: &mut String, chart: &Chart, x: &Axis, y: &Axis, frame: &Frame) {
    for (value, text) in chart.references.iter().filter(|(value, _)| *value >= y.low && *value <= y.high) {
        let at = y.place(*value);
        // The text stands at the right end, or at the left one if a line passes there.
        let from = frame.right - 8.0 - 7.0 * text.chars().count() as f64;
        let passes = |point: &Point| x.place(point.x) > from && (at - 26.0..at + 8.0).contains(&y.place(point.y));
        let (end, anchor) = if chart.series.iter().flat_map(|series| &series.points).any(passes) {
            (frame.left + 4.0, "start")
        } else {
            (frame.right - 4.0, "end")
        };
        // It stands above its line, or below where the next line is too near.
        let crowded = |(other, _): &(f64, String)| (0.1..18.0).contains(&(at - y.place(*other)));
        let text_at = if chart.references.iter().any(crowded) {
            at + 13.0
        } else {
            at - 5.0
        };
        let _ = write!(
            out,
            "<path class=\"reference\" d=\"M{} {at:.1}H{:.1}\"/><text class=\"tick halo\" x=\"{end:.1}\" y=\"{text_at:.1}\" text-anchor=\"{anchor}\">{}</text>",
            frame.left,
            frame.right,
            escape(text)
        );
    }
}

fn line(out: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let colour = series.index % COLOURS;
    let pixels: Vec<(f64, f64)> = series.points.iter().map(|p| (x.place(p.x), y.place(p.y))).collect();
    let _ = write!(out, "<g class=\"s{colour}\"><title>{}</title>", escape(&told(series)));
    if series.points.len() > 1 && series.points.iter().any(|p| p.high > p.low) {
        let upper = series.points.iter().map(|p| (x.place(p.x), y.place(p.high)));
        let lower = series.points.iter().rev().map(|p| (x.place(p.x), y.place(p.low)));
        let _ = write!(out, "<path class=\"band\" d=\"{}Z\"/>", path(upper.chain(lower)));
    }
    if pixels.len() > 1 {
        let _ = write!(
            out,
            "<path class=\"line\" stroke-dasharray=\"{}\" d=\"{}\"/>",
            dash(series),
            path(pixels.iter().copied())
        );
    }
    // On a long curve a marker at every point would hide the line: six are spread, each series beginning elsewhere.
    let stride = if pixels.len() <= 12 { 1 } else { pixels.len() / 6 };
    let last = pixels.len().saturating_sub(1);
    for (i, &(px, py)) in pixels.iter().enumerate() {
        if stride == 1 || i % stride == (series.index * 3 + 1) % stride || (i == last && series.ends.is_some()) {
            marker(out, series.index, px, py);
        }
    }
    if let (Some(_), Some(&(px, py))) = (&series.ends, pixels.last()) {
        let _ = write!(
            out,
            "<path class=\"stop\" d=\"M{:.1} {:.1}v14M{:.1} {:.1}h5\"/>",
            px + 9.0,
            py - 7.0,
            px + 4.0,
            py
        );
    }
    out.push_str("</g>");
}

/// The line in words, shown when the pointer rests on it.
fn told(series: &Series) -> String {
    match (series.points.first(), series.points.last()) {
        (Some(a), Some(b)) if a.x < b.x => format!("{}: {:.2} at {:.0}, {:.2} at {:.0}", series.name, a.y, a.x, b.y, b.x),
        (Some(a), _) => format!("{}: {:.2} at {:.0}", series.name, a.y, a.x),
        _ => series.name.clone(),
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (i, (x, y)) in points.enumerate() {
        let _ = write!(out, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    }
    out
}

fn dash(series: &Series) -> &'static str {
    DASHES[series.index % DASHES.len()]
}

fn marker(out: &mut String, index: usize, x: f64, y: f64) {
    let (shape, open) = match index % MARKERS {
        0 => ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", false),
        1 => ("m-3.6-3.6h7.2v7.2h-7.2z", false),
        2 => ("m0-4.8l4.6 8h-9.2z", false),
        3 => ("m0-5l5 5l-5 5l-5-5z", false),
        4 => ("m0 4.8l4.6-8h-9.2z", false),
        5 => ("m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z", true),
        _ => ("m-3.3-3.3h6.6v6.6h-6.6z", true),
    };
    let _ = write!(
        out,
        "<path class=\"{}\" d=\"M{x:.1} {y:.1}{shape}\"/>",
        if open { "dot open" } else { "dot" }
    );
}

fn label_width(series: &Series) -> f64 {
    // 7 px per character of a 13 px sans-serif is on the safe side of every common font.
    7.0 * (series.name.chars().count() + series.ends.as_ref().map_or(0, |ends| ends.chars().count() + 1)) as f64
}

fn labels_at_ends(out: &mut String, chart: &Chart, x: &Axis, y: &Axis, frame: &Frame) {
    let ends: Vec<(&Series, f64, f64)> = chart
        .series
        .iter()
        .filter_map(|series| {
            series
                .points
                .last()
                .map(|p| (series, x.place(p.x), y.place(p.y).clamp(frame.top, frame.bottom)))
        })
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
    let placed = spread(&wanted, LABEL_GAP, frame.top, frame.bottom);
    let last = ends.iter().map(|end| end.1).fold(f64::NEG_INFINITY, f64::max);
    for ((series, end_x, end_y), at) in ends.into_iter().zip(placed) {
        let _ = write!(out, "<g class=\"s{}\">", series.index % COLOURS);
        // A line that ends early has no leader: it would cross all the others.
        if end_x > last - 1.0 {
            let _ = write!(
                out,
                "<path class=\"leader\" d=\"M{:.1} {end_y:.1}L{:.1} {at:.1}\"/>",
                end_x + 8.0,
                frame.right + 20.0
            );
        }
        marker(out, series.index, frame.right + 26.0, at);
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}",
            frame.right + 35.0,
            at + 4.5,
            escape(&series.name)
        );
        if let Some(ends) = &series.ends {
            let _ = write!(out, "<tspan class=\"muted\"> {}</tspan>", escape(ends));
        }
        out.push_str("</text></g>");
    }
}

fn legend(chart: &Chart) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for series in &chart.series {
        let _ = write!(out, "<li>{}{}", key(series.index), escape(&series.name));
        if let Some(ends) = &series.ends {
            let _ = write!(out, " <span class=\"muted\">{}</span>", escape(ends));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>\n");
    out
}

/// A bit of line with its marker, for a legend or a table.
pub fn key(index: usize) -> String {
    let mut out = format!(
        "<svg class=\"key s{}\" viewBox=\"0 0 34 12\" aria-hidden=\"true\"><path class=\"line\" stroke-dasharray=\"{}\" d=\"M1 6H33\"/>",
        index % COLOURS,
        DASHES[index % DASHES.len()]
    );
    marker(&mut out, index, 17.0, 6.0);
    out.push_str("</svg>");
    out
}
