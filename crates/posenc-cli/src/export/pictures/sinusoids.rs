//! The sinusoidal table and its products.

use posenc::curves::{products as products_of, sinusoids};
use posenc::{Error, Sinusoidal};

use super::heat::{CELLS, Colours, Heat, bar};
use super::{Csv, Picture, Tensor, at_most, chart, length, number, padded};
use crate::args::show::PictureOptions;
use crate::export::axis::Scale;
use crate::export::svg::{Chart, Series};
use crate::export::words::extent;

/// Position by position, column by column.
pub fn table(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let (rows, width, base) = asked(options)?;
    let values = sinusoids(&Sinusoidal::paper().with_base(base), rows, width)?;
    let mut csv = Csv::new("position,column,value");
    for (i, value) in values.iter().enumerate() {
        csv.row(&[&(i / width), &(i % width), value]);
    }
    let heat = Heat {
        heading: String::new(),
        caption: String::new(),
        x_title: "column of the vector".into(),
        y_title: "position (tokens)".into(),
        values: &values,
        rows,
        columns: width,
        first: (0.0, 0.0),
        causal: false,
        cells: CELLS,
    };
    let colours = Colours::of([-1.0, 1.0]);
    let mut notes = vec![format!(
        "Each row is what is added to the token at that position: sines in even columns, cosines in odd ones, slower from left to right (model_dim {width}, base {}). \
         Dark and blue is below zero, light and orange above.",
        number(base)
    )];
    notes.extend(heat.merged());
    Ok(vec![Picture {
        name: "sinusoidal".into(),
        title: "The sinusoidal table".into(),
        rows: vec![vec![heat.panel(&colours, 800.0, 520.0), bar(&colours, "value", 520.0)]],
        notes,
        tables: vec![csv.table("")],
    }])
}

/// Every position with every other.
pub fn products(options: &PictureOptions, _: Option<&Tensor>) -> Result<Vec<Picture>, Error> {
    let (rows, width, base) = asked(options)?;
    let values = products_of(&sinusoids(&Sinusoidal::paper().with_base(base), rows, width)?, width);
    let mut csv = Csv::new("position,other,product");
    for (i, value) in values.iter().enumerate() {
        csv.row(&[&(i / rows), &(i % rows), value]);
    }
    let heat = Heat {
        heading: "All positions".into(),
        caption: String::new(),
        x_title: "position (tokens)".into(),
        y_title: "position (tokens)".into(),
        values: &values,
        rows,
        columns: rows,
        first: (0.0, 0.0),
        causal: false,
        cells: CELLS,
    };
    let colours = Colours::of(values.iter().copied());
    let middle = rows / 2;
    let line: Vec<(f64, f64)> = (0..rows).map(|other| (other as f64, values[middle * rows + other])).collect();
    let (low, high) = extent(line.iter().map(|point| point.1)).unwrap_or((0.0, 1.0));
    let row = Chart {
        id: "row",
        description: String::new(),
        scale: Scale::Linear,
        x_title: "position (tokens)".into(),
        y_title: format!("product with position {middle}"),
        y_scale: Scale::Linear,
        x_range: None,
        x_ticks: Vec::new(),
        y_range: padded(low.min(0.0), high),
        y_ticks: Vec::new(),
        marker: None,
        references: Vec::new(),
        series: vec![Series::over_seeds(0, &format!("row {middle}"), &[line])],
    };
    let mut notes = vec![format!(
        "Vectors of near positions point the same way. The product depends on the distance alone: every row is the same curve, moved (model_dim {width}, base {}).",
        number(base)
    )];
    notes.extend(heat.merged());
    Ok(vec![Picture {
        name: "sinusoidal-products".into(),
        title: "Dot products of sinusoidal vectors".into(),
        rows: vec![
            vec![heat.panel(&colours, 560.0, 540.0), bar(&colours, "product", 540.0)],
            vec![chart("One row", &row, 300.0)],
        ],
        notes,
        tables: vec![csv.table("")],
    }])
}

fn asked(options: &PictureOptions) -> Result<(usize, usize, f64), Error> {
    let width = at_most("--model-dim", options.model_dim.unwrap_or(128), 4096, "at most 4096")?;
    let bases = options.base.as_ref().map_or(&[10_000.0][..], |list| &list.0);
    match bases {
        [base] => Ok((length(options, 100)?, width, *base)),
        more => Err(Error::Invalid {
            what: "--base",
            given: format!("{} of them", more.len()),
            expected: "one base",
        }),
    }
}
