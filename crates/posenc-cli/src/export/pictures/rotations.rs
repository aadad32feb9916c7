//! What rotary positions do: arrows, speeds, wavelengths, decay.

use std::f64::consts::TAU;

use posenc::curves::{Arrow, decay_bound, equal_vectors, turned, wavelengths as wavelengths_of};
use posenc::{Error, Pairing, Rotary};

use super::{Csv, Panel, Picture, Tensor, arrows, at_most, chart, number, padded, short};
use crate::args::show::PictureOptions;
use crate::export::axis::{Scale, Tick, decades};
use crate::export::svg::{Chart, Series};
use crate::export::words::{count, extent, list};

/// The base vector: along the first coordinate, so that an arrow's angle is how far it has turned.
const BASE_VECTOR: [f64; 2] = [1.0, 0.0];
/// Tokens in a call: frequencies that are not scaled are the same at any length.
const UNSCALED: usize = 1;
const COORDINATES: [&str; 2] = ["first coordinate", "second coordinate"];

/// One vector at several positions: black at 0, then red, blue, green.
pub fn rotation(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let positions = positions(options, &[0.0, 1.0, 2.0, 3.0])?;
    // The first pair of any head turns by one radian per position, whatever the base.
    let found = turned(&Rotary::new(Pairing::Halves), 2, BASE_VECTOR, &[0], &positions)?;
    let arrows = arrows::panel(String::new(), &[], &found, COORDINATES, 460.0);
    Ok(vec![Picture {
        name: "rotation".into(),
        title: "One vector at several positions".into(),
        notes: vec![
            "Rotary positions turn a pair of coordinates by an angle that grows with the position; its length stays. This is the fastest pair: \
             one radian (57.3°) per position. Numbers at the circle are positions."
                .into(),
        ],
        rows: vec![vec![arrows, arrows::legend(&found, 400.0)]],
        tables: vec![arrows_csv(&found).table("")],
    }])
}

/// The same vector in pairs that turn at different speeds.
pub fn frequencies(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let positions = positions(options, &[0.0, 2.0, 10.0, 50.0])?;
    let (head_dim, base) = (head_dims(options, &[64])?[0], bases(options)?[0]);
    let rotary = rotary(base);
    let theta = rotary.frequencies(head_dim, UNSCALED)?.pairs;
    let (waves, last) = (wavelengths_of(&theta), theta.len() - 1);
    // The fastest, the slowest and two between, as far apart as the head allows.
    let mut pairs = vec![0, head_dim / 8, head_dim / 4, last];
    pairs.iter_mut().for_each(|pair| *pair = (*pair).min(last));
    pairs.dedup();
    let found = turned(&rotary, head_dim, BASE_VECTOR, &pairs, &positions)?;
    let panels = pairs.iter().zip(found.chunks(positions.len())).map(|(&pair, arrows)| {
        let furthest = arrows.iter().map(|arrow| arrow.angle.abs()).fold(0.0, f64::max);
        let captions = [
            format!("one turn: {} positions", short(waves[pair])),
            format!("furthest here: {} turns", short(furthest / TAU)),
        ];
        arrows::panel(format!("pair {pair}"), &captions, arrows, COORDINATES, 213.0)
    });
    // As far as the fastest pair can be followed by eye.
    let until = positions.iter().copied().fold(1.0, f64::max).min(12.0 * waves[0]);
    let dense: Vec<f64> = (0..=400).map(|i| until * f64::from(i) / 400.0).collect();
    let curve = turned(&rotary, head_dim, BASE_VECTOR, &pairs, &dense)?;
    let series = pairs.iter().zip(curve.chunks(dense.len())).enumerate().map(|(i, (pair, arrows))| {
        let points = arrows.iter().map(|arrow| (arrow.position, arrow.x)).collect();
        Series::over_seeds(i, &format!("pair {pair}"), &[points])
    });
    let waves = Chart {
        id: "waves",
        description: String::new(),
        scale: Scale::Linear,
        x_title: "position (tokens)".into(),
        y_title: "first coordinate of the turned vector".into(),
        y_scale: Scale::Linear,
        x_range: None,
        x_ticks: Vec::new(),
        y_range: padded(-1.0, 1.0),
        y_ticks: Vec::new(),
        marker: None,
        references: Vec::new(),
        series: series.collect(),
    };
    Ok(vec![Picture {
        name: "frequencies".into(),
        title: "The same vector at several frequencies".into(),
        notes: vec![
            format!(
                "Each pair of coordinates turns at its own speed: pair i by base^(−2i/d) radians per position (head_dim d = {head_dim}, base {}). Fast pairs tell \
                 neighbours apart and come round again soon; slow pairs tell far from near. Together they give a position at every scale.",
                number(base)
            ),
            format!(
                "Numbers at the circles are positions: {}.",
                list(&positions.iter().map(|p| number(*p)).collect::<Vec<_>>())
            ),
        ],
        rows: vec![
            panels.collect::<Vec<Panel>>(),
            vec![chart("What a coordinate does from position to position", &waves, 330.0)],
        ],
        tables: vec![arrows_csv(&found).table(""), arrows_csv(&curve).table("-curve")],
    }])
}

/// Positions per turn, against a trained length.
pub fn wavelengths(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let head_dim = head_dims(options, &[128])?[0];
    let trained = at_most("--trained", options.trained.unwrap_or(2048), 1 << 32, "at most 4294967296")?;
    let bases = bases(options)?;
    let mut csv = Csv::new("base,pair,radians_per_position,wavelength,turns_in_trained_length");
    let (mut series, mut incomplete) = (Vec::new(), Vec::new());
    for (i, &base) in bases.iter().enumerate() {
        let theta = rotary(base).frequencies(head_dim, UNSCALED)?.pairs;
        let waves = wavelengths_of(&theta);
        for (pair, (theta, wave)) in theta.iter().zip(&waves).enumerate() {
            csv.row(&[&base, &pair, theta, wave, &(trained as f64 / wave)]);
        }
        let longer = waves.iter().filter(|wave| **wave > trained as f64).count();
        incomplete.push(format!("{longer} of {} for base {}", waves.len(), number(base)));
        let points = waves.iter().enumerate().map(|(pair, wave)| (pair as f64, *wave)).collect();
        series.push(Series::over_seeds(i, &format!("base {}", number(base)), &[points]));
    }
    let (low, high) = extent(series.iter().flat_map(|series| &series.points).map(|p| p.y)).unwrap_or((1.0, 10.0));
    let (low, high) = (low.min(trained as f64 / 32.0) / 1.5, high.max(trained as f64) * 1.5);
    let lines = Chart {
        id: "wavelengths",
        description: String::new(),
        scale: Scale::Linear,
        x_title: "pair of coordinates".into(),
        y_title: "wavelength: positions per turn (log scale)".into(),
        y_scale: Scale::Log2,
        x_range: None,
        x_ticks: Vec::new(),
        y_range: (low, high),
        y_ticks: decades(low, high),
        marker: None,
        references: vec![
            (trained as f64, format!("trained length {}: one turn in training", count(trained))),
            (
                trained as f64 / 32.0,
                format!("{}: 32 turns in training", number(trained as f64 / 32.0)),
            ),
        ],
        series,
    };
    Ok(vec![Picture {
        name: "wavelengths".into(),
        title: "Wavelengths against the trained length".into(),
        notes: vec![format!(
            "Pairs above the upper line have shown training only an arc of their circle, and leave it on longer sequences: {} (head_dim {head_dim}).",
            list(&incomplete)
        )],
        rows: vec![vec![chart("", &lines, 460.0)]],
        tables: vec![csv.table("")],
    }])
}

/// RoFormer's figure 2, and what it bounds.
pub fn decay(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let until = at_most("--length", options.length.unwrap_or(257), 65_536, "at most 65536 distances")?;
    let (head_dims, base) = (head_dims(options, &[128, 64])?, bases(options)?[0]);
    let distances: Vec<f64> = (0..until).map(|distance| distance as f64).collect();
    let mut csv = Csv::new("head_dim,distance,bound,equal_vectors");
    let (mut bounds, mut equals) = (Vec::new(), Vec::new());
    for (i, &head_dim) in head_dims.iter().enumerate() {
        let theta = rotary(base).frequencies(head_dim, UNSCALED)?.pairs;
        let (bound, equal) = (decay_bound(&theta, &distances), equal_vectors(&theta, &distances));
        for ((distance, bound), equal) in distances.iter().zip(&bound).zip(&equal) {
            csv.row(&[&head_dim, distance, bound, equal]);
        }
        let line = |values: &[f64]| {
            let points = distances.iter().copied().zip(values.iter().copied()).collect();
            Series::over_seeds(i, &format!("head_dim {head_dim}"), &[points])
        };
        bounds.push(line(&bound));
        equals.push(line(&equal));
    }
    let lines = |id, y_title: &str, floor: f64, series: Vec<Series>| {
        let (low, high) = extent(series.iter().flat_map(|series| &series.points).map(|p| p.y)).unwrap_or((0.0, 1.0));
        Chart {
            id,
            description: String::new(),
            scale: Scale::Linear,
            x_title: "distance between query and key (tokens)".into(),
            y_title: y_title.into(),
            y_scale: Scale::Linear,
            x_range: None,
            x_ticks: Vec::new(),
            y_range: padded(low.min(floor), high),
            y_ticks: Vec::new(),
            marker: None,
            references: Vec::new(),
            series,
        }
    };
    Ok(vec![Picture {
        name: "decay".into(),
        title: "How rotary scores fade with distance".into(),
        notes: vec![format!(
            "Above, RoFormer's bound (section 3.4.3): the mean of |S_j| over j = 1 … d/2, where S_j sums the first j turning numbers (base {}). It bounds a score from above and \
             does not say that one fades. Below, the score of two equal vectors as a share of that at distance 0: the mean of cos Δθ over the pairs.",
            number(base)
        )],
        rows: vec![
            vec![chart("The bound", &lines("bound", "mean of |S_j|", 0.0, bounds), 350.0)],
            vec![chart(
                "Equal vectors",
                &lines("equal", "score, as a share of that at distance 0", 0.0, equals),
                350.0,
            )],
        ],
        tables: vec![csv.table("")],
    }])
}

fn rotary(base: f64) -> Rotary {
    Rotary::new(Pairing::Halves).with_base(base)
}

fn arrows_csv(arrows: &[Arrow]) -> Csv {
    let mut csv = Csv::new("pair,position,angle_radians,first,second");
    for arrow in arrows {
        csv.row(&[&arrow.pair, &arrow.position, &arrow.angle, &arrow.x, &arrow.y]);
    }
    csv
}

fn positions(options: &PictureOptions, default: &[f64]) -> Result<Vec<f64>, Error> {
    let positions = options.positions.as_ref().map_or(default, |list| &list.0);
    at_most(
        "--positions",
        positions.len(),
        8,
        "at most 8 positions: more arrows cannot be told apart",
    )?;
    match positions.iter().find(|p| !(0.0..=1e9).contains(*p)) {
        Some(wrong) => Err(Error::Invalid {
            what: "--positions",
            given: wrong.to_string(),
            expected: "positions from 0 to 1000000000",
        }),
        None => Ok(positions.to_vec()),
    }
}

fn head_dims(options: &PictureOptions, default: &[usize]) -> Result<Vec<usize>, Error> {
    let widths = options.head_dim.as_ref().map_or(default, |list| &list.0);
    at_most("--head-dim", widths.len(), 8, "at most 8 widths")?;
    for width in widths {
        at_most("--head-dim", *width, 65_536, "at most 65536")?;
    }
    Ok(widths.to_vec())
}

fn bases(options: &PictureOptions) -> Result<Vec<f64>, Error> {
    let bases = options.base.as_ref().map_or(&[10_000.0][..], |list| &list.0);
    at_most("--base", bases.len(), 8, "at most 8 bases")?;
    match bases.iter().find(|base| !(1.0..=1e15).contains(*base)) {
        Some(wrong) => Err(Error::Invalid {
            what: "--base",
            given: wrong.to_string(),
            expected: "from 1 to 1e15",
        }),
        None => Ok(bases.to_vec()),
    }
}

/// Marks at the whole numbers of a list.
pub(super) fn marks(values: &[usize]) -> Vec<Tick> {
    let tick = |value: &usize| Tick {
        at: *value as f64,
        label: value.to_string(),
        below: String::new(),
    };
    values.iter().map(tick).collect()
}
