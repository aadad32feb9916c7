//! A learned table from a file.

use posenc::Error;
use posenc::curves::{cosines, norms};

use super::heat::{CELLS, Colours, Heat, bar};
use super::{Csv, Picture, Tensor, at_most, chart, padded};
use crate::args::show::PictureOptions;
use crate::export::axis::Scale;
use crate::export::svg::{Chart, Series};
use crate::export::words::extent;

/// Cosines of all rows with each other, and the rows' lengths.
pub fn similarity(options: &PictureOptions, tensor: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let Some(tensor) = tensor else {
        return Err(Error::Invalid {
            what: "--weights",
            given: "nothing".into(),
            expected: "a safetensors file that holds a table of positions",
        });
    };
    // A table may have a leading axis of one: vision models store `[1, rows, width]`.
    let (all, width) = match *tensor.shape {
        [rows, width] | [1, rows, width] if rows > 0 && width > 0 => (rows, width),
        _ => {
            return Err(Error::Invalid {
                what: "a table of positions",
                given: format!("a tensor of shape {:?}", tensor.shape),
                expected: "[rows, width]; choose another with --tensor",
            });
        }
    };
    let rows = at_most(
        "--length",
        options.length.unwrap_or(all).min(all),
        2048,
        "at most 2048 rows of a table: say how many with --length",
    )?;
    let table = &tensor.values[..rows * width];
    let (cosines, norms) = (cosines(table, width), norms(table, width));
    let (mut csv, mut lengths) = (Csv::new("position,other,cosine"), Csv::new("position,norm"));
    for (i, cosine) in cosines.iter().enumerate() {
        csv.row(&[&(i / rows), &(i % rows), cosine]);
    }
    for (position, norm) in norms.iter().enumerate() {
        lengths.row(&[&position, norm]);
    }
    let heat = Heat {
        heading: "Cosine of each position with each".into(),
        caption: String::new(),
        x_title: "position (row of the table)".into(),
        y_title: "position (row of the table)".into(),
        values: &cosines,
        rows,
        columns: rows,
        first: (0.0, 0.0),
        causal: false,
        cells: CELLS,
    };
    let colours = Colours::of(cosines.iter().copied());
    let points: Vec<(f64, f64)> = norms.iter().enumerate().map(|(position, norm)| (position as f64, *norm)).collect();
    let (_, high) = extent(norms.iter().copied()).unwrap_or((0.0, 1.0));
    let line = Chart {
        id: "norms",
        description: String::new(),
        scale: Scale::Linear,
        x_title: "position (row of the table)".into(),
        y_title: "length of the row".into(),
        y_scale: Scale::Linear,
        x_range: None,
        x_ticks: Vec::new(),
        y_range: padded(0.0, if high > 0.0 { high } else { 1.0 }),
        y_ticks: Vec::new(),
        marker: None,
        references: Vec::new(),
        series: vec![Series::over_seeds(0, "row length", &[points])],
    };
    let mut notes = vec![format!("The table is {}: {all} rows of width {width}.", tensor.source)];
    if rows < all {
        notes.push(format!("The first {rows} rows are shown."));
    }
    notes.push(
        "After training near positions are usually alike: a band along the diagonal. Rows that training never reached keep the length that they began with."
            .into(),
    );
    notes.extend(heat.merged());
    Ok(vec![Picture {
        name: "table-similarity".into(),
        title: "Similarity of a learned table's positions".into(),
        notes,
        rows: vec![
            vec![heat.panel(&colours, 560.0, 540.0), bar(&colours, "cosine", 540.0)],
            vec![chart("Row lengths", &line, 280.0)],
        ],
        tables: vec![csv.table(""), lengths.table("-norms")],
    }])
}
