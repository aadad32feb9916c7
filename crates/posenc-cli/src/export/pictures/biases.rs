//! What is added to scores: matrices, curves by distance, T5's staircase.

use posenc::Error;
use posenc::catalogue::Entry;
use posenc::curves::{Biased, biases, t5_staircase};

use super::heat::{CELLS, CELLS_OF_SMALL, Colours, Heat, bar};
use super::rotations::marks;
use super::{Csv, Picture, Tensor, at_most, chart, length, padded};
use crate::args::show::PictureOptions;
use crate::export::axis::Scale;
use crate::export::svg::{Chart, Series};
use crate::export::words::extent;

/// Most heads that are drawn as matrices, and as lines.
const MATRICES: usize = 16;
const LINES: usize = 8;
/// Heads, if their number is not given: of a bias that follows a rule, and of one that is drawn from a seed.
const RULED: usize = 8;
const DRAWN: usize = 4;

/// A picture per bias, a panel per head.
pub fn matrix(options: &PictureOptions, tensor: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let side = length(options, 64)?;
    asked(options, tensor)?
        .into_iter()
        .map(|biased| {
            at_most(
                "--heads times --length squared",
                biased.heads() * side * side,
                1 << 24,
                "at most 16777216 numbers: fewer heads or a smaller length",
            )?;
            let values = biased.matrix(side)?;
            let mut csv = Csv::new("head,query,key,bias");
            for (i, value) in values.iter().enumerate() {
                csv.row(&[&(i / (side * side)), &(i / side % side), &(i % side), value]);
            }
            let read = |i: usize| !biased.causal || i % side <= i / side % side;
            let colours = Colours::of(values.iter().enumerate().filter(|(i, _)| read(*i)).map(|(_, value)| *value)).rooted();
            let heads = same_heads(&biased, &values);
            let shown = heads.min(MATRICES);
            let (size, across) = if shown == 1 { (520.0, 1) } else { (200.0, 4) };
            let mut merged = None;
            let panels = values.chunks(side * side).take(shown).enumerate().map(|(head, values)| {
                let range = extent(values.iter().enumerate().filter(|(i, _)| read(*i)).map(|(_, value)| *value));
                let heat = Heat {
                    heading: String::new(),
                    caption: caption(&biased, heads, head, range),
                    x_title: "key position".into(),
                    y_title: "query position".into(),
                    values,
                    rows: side,
                    columns: side,
                    first: (0.0, 0.0),
                    causal: biased.causal,
                    cells: if shown == 1 { CELLS } else { CELLS_OF_SMALL },
                };
                merged = heat.merged();
                heat.panel(&colours, size, size + 20.0)
            });
            let mut panels: Vec<_> = panels.collect();
            let mut rows = Vec::new();
            while !panels.is_empty() {
                let rest = panels.split_off(panels.len().min(across));
                rows.push(std::mem::replace(&mut panels, rest));
            }
            rows[0].push(bar(&colours, "bias", size + 20.0));
            let mut notes = notes(&biased, options, tensor);
            if biased.causal {
                notes.push("Hatched: keys after the query, which the causal mask hides.".into());
            }
            notes.extend(colours.note());
            notes.extend(few(heads, shown));
            notes.extend(merged);
            Ok(Picture {
                name: format!("bias-matrix-{}", biased.name),
                title: format!("Bias of each query and key: {}", biased.name),
                notes,
                rows,
                tables: vec![csv.table("")],
            })
        })
        .collect()
}

/// A picture per bias, a line per head.
pub fn by_distance(options: &PictureOptions, tensor: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let most = at_most("--length", options.length.unwrap_or(129), 65_536, "at most 65536 distances")? as i64 - 1;
    asked(options, tensor)?
        .into_iter()
        .map(|biased| {
            let distances: Vec<i64> = (if biased.causal { 0 } else { -most }..=most).collect();
            at_most(
                "--heads times --length",
                biased.heads() * distances.len(),
                1 << 24,
                "at most 16777216 numbers",
            )?;
            let values = biased.by_distance(&distances)?;
            let mut csv = Csv::new("head,distance,bias");
            for (i, value) in values.iter().enumerate() {
                csv.row(&[&(i / distances.len()), &distances[i % distances.len()], value]);
            }
            let heads = same_heads(&biased, &values);
            let shown = heads.min(LINES);
            let series: Vec<Series> = values
                .chunks(distances.len())
                .take(shown)
                .enumerate()
                .map(|(head, values)| {
                    let points = distances.iter().map(|d| *d as f64).zip(values.iter().copied()).collect();
                    let name = if heads == 1 && biased.heads() > 1 {
                        "all heads".into()
                    } else {
                        format!("head {head}")
                    };
                    Series::over_seeds(head, &name, &[points])
                })
                .collect();
            let (low, high) = extent(series.iter().flat_map(|series| &series.points).map(|p| p.y)).unwrap_or((0.0, 1.0));
            let lines = Chart {
                id: "bias",
                description: String::new(),
                scale: Scale::Linear,
                x_title: if biased.causal {
                    "distance: query − key (tokens)".into()
                } else {
                    "distance: query − key (tokens); below 0 the key comes after the query".into()
                },
                y_title: "bias added to the score".into(),
                y_scale: Scale::Linear,
                x_range: None,
                x_ticks: Vec::new(),
                y_range: padded(low.min(0.0), high.max(0.0)),
                y_ticks: Vec::new(),
                marker: None,
                references: Vec::new(),
                series,
            };
            let mut notes = notes(&biased, options, tensor);
            notes.extend(few(heads, shown));
            Ok(Picture {
                name: format!("bias-by-distance-{}", biased.name),
                title: format!("Bias by distance: {}", biased.name),
                notes,
                rows: vec![vec![chart("", &lines, 440.0)]],
                tables: vec![csv.table("")],
            })
        })
        .collect()
}

/// From distances to buckets.
pub fn staircase(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    const BUCKETS: usize = 32;
    const FURTHEST: usize = 128;
    let until = at_most("--length", options.length.unwrap_or(257), 65_536, "at most 65536 distances")?.max(2) as i64;
    let forward: Vec<i64> = (0..until).collect();
    let backward: Vec<i64> = forward.iter().map(|distance| -distance).collect();
    let stairs = [
        ("decoder: key before the query", false, &forward),
        ("encoder: key before the query", true, &forward),
        ("encoder: key after the query", true, &backward),
    ];
    let mut csv = Csv::new("bidirectional,distance,bucket");
    let mut series = Vec::new();
    for (i, (name, bidirectional, distances)) in stairs.into_iter().enumerate() {
        let buckets = t5_staircase(bidirectional, BUCKETS, FURTHEST, distances)?;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (distance, bucket) in distances.iter().zip(&buckets) {
            // Distance 0 is in the file once for each direction's table, and has no place on a logarithmic axis.
            if i < 2 || *distance != 0 {
                csv.row(&[&bidirectional, distance, bucket]);
            }
            if *distance != 0 {
                let (x, y) = (distance.unsigned_abs() as f64, *bucket as f64);
                match points.last() {
                    // A step: level up to the next distance, then upright.
                    Some(&(_, level)) if level != y => points.extend([(x, level), (x, y)]),
                    _ => points.push((x, y)),
                }
            }
        }
        let mut line = Series::over_seeds(i, name, &[Vec::new()]);
        line.points = points
            .into_iter()
            .map(|(x, y)| crate::export::svg::Point { x, y, low: y, high: y })
            .collect();
        series.push(line);
    }
    let powers: Vec<usize> = (0..17).map(|i| 1 << i).filter(|x| (*x as i64) < until).collect();
    let stairs = Chart {
        id: "stairs",
        description: String::new(),
        scale: Scale::Log2,
        x_title: "distance between query and key (tokens, log scale)".into(),
        y_title: "bucket: row of the table".into(),
        y_scale: Scale::Linear,
        x_range: None,
        x_ticks: marks(&powers),
        y_range: (0.0, BUCKETS as f64),
        y_ticks: marks(&[0, 4, 8, 12, 16, 20, 24, 28, 32]),
        marker: (until > FURTHEST as i64).then(|| (FURTHEST as f64, "distance 128".to_string())),
        references: Vec::new(),
        series,
    };
    Ok(vec![Picture {
        name: "t5-buckets".into(),
        title: "T5's staircase from distances to buckets".into(),
        notes: vec![format!(
            "{BUCKETS} buckets, distance {FURTHEST}. Small distances have a bucket each, larger ones share buckets that widen logarithmically, and the last is shared by all that is \
             further. A decoder has all buckets for the past; an encoder has half of them for each side. Distance 0 is in bucket 0."
        )],
        rows: vec![vec![chart("", &stairs, 460.0)]],
        tables: vec![csv.table("")],
    }])
}

/// The biases that are to be drawn: all, or the one that was named, with its table from a file or drawn from a seed.
fn asked(options: &PictureOptions, tensor: Option<&Tensor>) -> Result<Vec<Biased>, Error> {
    let trained = at_most("--trained", options.trained.unwrap_or(128), 1 << 20, "at most 1048576")?;
    if let Some(tensor) = tensor {
        let Some(name) = &options.encoding else {
            return Err(Error::Invalid {
                what: "--encoding",
                given: "nothing".into(),
                expected: "the bias that the table from --weights belongs to",
            });
        };
        return Ok(vec![Biased::with_table(name, trained, &tensor.shape, &tensor.values)?]);
    }
    let heads = options
        .heads
        .map(|heads| at_most("--heads", heads, 1024, "at most 1024"))
        .transpose()?;
    let make = |name: &str| {
        // Swin's table ends with its window: it is drawn with one as wide as the picture.
        let window = trained.max(2 * options.length.unwrap_or(129).min(65_536));
        let trained = if Entry::named(name).is_ok_and(|entry| entry.name == "swin") {
            window
        } else {
            trained
        };
        let with = |heads| Biased::new(name, heads, trained, options.seed.unwrap_or(0));
        match (heads, with(heads.unwrap_or(RULED))?) {
            // Lines of random numbers cross everywhere; a few show as much.
            (None, biased) if biased.drawn_from.is_some() => with(DRAWN),
            (_, biased) => Ok(biased),
        }
    };
    match &options.encoding {
        Some(name) => Ok(vec![make(name)?]),
        None => biases()?.into_iter().map(make).collect(),
    }
}

/// Heads that differ: one, if all are the same.
fn same_heads(biased: &Biased, values: &[f64]) -> usize {
    let of_head = values.len() / biased.heads();
    let same = values.chunks(of_head).all(|head| head == &values[..of_head]);
    if same { 1 } else { biased.heads() }
}

fn caption(biased: &Biased, heads: usize, head: usize, range: Option<(f64, f64)>) -> String {
    let who = if heads == 1 && biased.heads() > 1 {
        "all heads".into()
    } else {
        format!("head {head}")
    };
    match range {
        Some((low, high)) => format!("{who}: {} to {}", digits(low), digits(high)),
        None => who,
    }
}

/// Two digits after the point, and no −0.
fn digits(x: f64) -> String {
    format!("{:.2}", (x * 100.0).round() / 100.0 + 0.0).replace('-', "−")
}

fn notes(biased: &Biased, options: &PictureOptions, tensor: Option<&Tensor>) -> Vec<String> {
    let from = match (tensor, biased.drawn_from) {
        (Some(tensor), _) => format!("Its table is {}.", tensor.source),
        (None, Some(_)) => format!(
            "Nothing has been trained: its numbers are drawn with seed {}, to show which distances share one.",
            options.seed.unwrap_or(0)
        ),
        (None, None) => "Nothing in it is learned.".into(),
    };
    vec![format!("{}. {from}", biased.encoding())]
}

fn few(heads: usize, shown: usize) -> Option<String> {
    (shown < heads).then(|| format!("The first {shown} of {heads} heads are drawn; --csv writes all."))
}
