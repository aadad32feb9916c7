//! What `posenc show` draws: each picture turns numbers of [`posenc::curves`] into panels, and the same numbers into CSV. Nothing is computed, read or written.
//!
//! `rotations`, `sinusoids`, `biases` and `tables` hold the pictures by what they show, `model` and `growth` those that other commands draw; `arrows`, `heat` and [`super::svg`] draw a panel; `page` puts panels on a sheet,
//! `png` turns the sheet into pixels.

mod arrows;
mod biases;
pub mod growth;
mod heat;
pub mod model;
pub mod page;
pub mod png;
mod rotations;
mod sinusoids;
mod tables;

use std::fmt::{Display, Write};

use posenc::Error;

use super::svg::{Chart, Frame, body};
use super::words::count;
use crate::args::show::PictureOptions;

/// A picture, and the numbers in it.
pub struct Picture {
    /// What its files are called.
    pub name: String,
    pub title: String,
    /// What to see, and from what it was made.
    pub notes: Vec<String>,
    pub rows: Vec<Vec<Panel>>,
    pub tables: Vec<Table>,
}

/// A part of a picture; its body is SVG with its origin in the upper left corner.
pub struct Panel {
    pub heading: String,
    pub width: f64,
    pub height: f64,
    pub body: String,
}

/// Numbers as CSV.
pub struct Table {
    /// What follows the picture's name in the file's; empty for the main table.
    pub suffix: &'static str,
    pub csv: String,
}

/// A tensor that a file holds.
pub struct Tensor {
    /// The file and the tensor's name in it, for the picture's note.
    pub source: String,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// A kind of picture.
pub struct Kind {
    pub name: &'static str,
    /// What it shows, in a line.
    pub line: &'static str,
    /// The options that it reads, besides those that say where it is written.
    pub reads: &'static [&'static str],
    /// It cannot be made without `--weights`.
    pub needs_file: bool,
    pub make: fn(&PictureOptions, Option<&Tensor>) -> Result<Vec<Picture>, Error>,
}

/// All kinds, in the order of the data flow.
pub const KINDS: [Kind; 10] = [
    Kind {
        name: "rotation",
        line: "rotary: one vector at several positions",
        reads: &["positions"],
        needs_file: false,
        make: rotations::rotation,
    },
    Kind {
        name: "frequencies",
        line: "rotary: the same vector at several frequencies, fast to slow",
        reads: &["positions", "head-dim", "base"],
        needs_file: false,
        make: rotations::frequencies,
    },
    Kind {
        name: "wavelengths",
        line: "rotary: positions per turn of each pair, against a trained length",
        reads: &["head-dim", "base", "trained"],
        needs_file: false,
        make: rotations::wavelengths,
    },
    Kind {
        name: "decay",
        line: "rotary: RoFormer's bound on scores against distance, and what equal vectors score",
        reads: &["head-dim", "base", "length"],
        needs_file: false,
        make: rotations::decay,
    },
    Kind {
        name: "sinusoidal",
        line: "sinusoidal: the table as a heat map",
        reads: &["length", "model-dim", "base"],
        needs_file: false,
        make: sinusoids::table,
    },
    Kind {
        name: "sinusoidal-products",
        line: "sinusoidal: the dot products of all positions",
        reads: &["length", "model-dim", "base"],
        needs_file: false,
        make: sinusoids::products,
    },
    Kind {
        name: "bias-matrix",
        line: "every bias, or one: what is added to the score of each query and key, head by head",
        reads: &["encoding", "heads", "length", "trained", "seed", "weights", "tensor"],
        needs_file: false,
        make: biases::matrix,
    },
    Kind {
        name: "bias-by-distance",
        line: "every bias, or one: what is added at each distance, a line per head",
        reads: &["encoding", "heads", "length", "trained", "seed", "weights", "tensor"],
        needs_file: false,
        make: biases::by_distance,
    },
    Kind {
        name: "t5-buckets",
        line: "T5: the staircase from distances to buckets",
        reads: &["length"],
        needs_file: false,
        make: biases::staircase,
    },
    Kind {
        name: "table-similarity",
        line: "a learned table from a safetensors file: cosines of all positions, and row lengths",
        reads: &["weights", "tensor", "length"],
        needs_file: true,
        make: tables::similarity,
    },
];

impl Kind {
    /// The kind of a name.
    ///
    /// # Errors
    /// A name that is not known, with the nearest one.
    pub fn named(name: &str) -> Result<&'static Kind, Error> {
        let wanted = name.trim().to_lowercase().replace('_', "-");
        KINDS.iter().find(|kind| kind.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).chain(["all"]).collect();
            Error::unknown_name("picture", name, &names)
        })
    }
}

/// A chart as wide as the sheet, its left margin as wide as its numbers.
fn chart(heading: &str, chart: &Chart, height: f64) -> Panel {
    let mut frame = Frame::wide(chart, page::WIDTH);
    let digits = if chart.y_ticks.is_empty() {
        let ticks = super::axis::ticks(chart.y_range.0, chart.y_range.1, 7);
        ticks.iter().map(|tick| tick.label.chars().count()).max()
    } else {
        chart.y_ticks.iter().map(|tick| tick.label.chars().count()).max()
    };
    frame.left = 16.0 + 7.5 * digits.unwrap_or(0) as f64;
    frame.height = height.max(96.0 + 17.0 * chart.series.len() as f64);
    frame.bottom = frame.height - 52.0;
    Panel {
        heading: heading.into(),
        width: frame.width,
        height: frame.height,
        body: body(chart, &frame, true),
    }
}

/// CSV with a header line; numbers in as many digits as they need to come back as they were.
struct Csv(String);

impl Csv {
    fn new(header: &str) -> Csv {
        Csv(format!("{header}\n"))
    }

    fn row(&mut self, cells: &[&dyn Display]) {
        for (i, cell) in cells.iter().enumerate() {
            let _ = write!(self.0, "{}{cell}", if i > 0 { "," } else { "" });
        }
        self.0.push('\n');
    }

    fn table(self, suffix: &'static str) -> Table {
        Table { suffix, csv: self.0 }
    }
}

/// A number as a reader writes it: no −0, and no row of zeros.
fn number(x: f64) -> String {
    let text = if x.abs() >= 1e6 { format!("{x:e}") } else { format!("{}", x + 0.0) };
    text.replace('-', "−")
}

/// Three significant digits; whole from a hundred on.
fn short(x: f64) -> String {
    match x {
        x if x >= 100.0 => count(x.round() as usize),
        x if x >= 10.0 => format!("{x:.1}"),
        x if x >= 1.0 => format!("{x:.2}"),
        x if x >= 0.001 || x == 0.0 => format!("{x:.3}"),
        x => format!("{x:.1e}").replace('-', "−"),
    }
}

/// A little air above and below lines; none below 0 where nothing is.
fn padded(low: f64, high: f64) -> (f64, f64) {
    let air = if high > low { (high - low) * 0.04 } else { 0.5 };
    (if low == 0.0 { 0.0 } else { low - air }, if high == 0.0 { 0.0 } else { high + air })
}

/// At most `most` of what is asked for.
fn at_most(what: &'static str, given: usize, most: usize, expected: &'static str) -> Result<usize, Error> {
    match given {
        0 => Err(Error::Zero { what }),
        _ if given > most => Err(Error::Invalid {
            what,
            given: given.to_string(),
            expected,
        }),
        _ => Ok(given),
    }
}

/// The length of a matrix, or its default.
fn length(options: &PictureOptions, default: usize) -> Result<usize, Error> {
    at_most(
        "--length",
        options.length.unwrap_or(default),
        2048,
        "at most 2048: the picture is a matrix of that side",
    )
}

#[cfg(test)]
mod tests;
