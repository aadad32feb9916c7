//! Tables of sines and cosines, row r for position r.

use crate::golden::bounded::{Bounded, U};
use crate::golden::compare::{Worst, equal, within};
use crate::golden::set::{Outcome, Record, fail, skip};
use crate::through;
use posenc::embed::sinusoid;
use posenc::{Dims, Encoding, OddWidth, Positions, SinusoidExponent, SinusoidLayout, Sinusoidal, ViewMut};

/// How a table's own code rounds.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// Angles in f64, narrowed last.
    InF64,
    /// All in f32: frequency exp(−k·step), angle, sine.
    InF32,
}

/// One axis.
pub fn table(record: &Record<'_>) -> Outcome<Worst> {
    let known = [
        "dim",
        "layout",
        "num_positions",
        "reference",
        "timescale",
        "base",
        "odd_dim",
        "padding_idx",
    ];
    record.only("params", &known)?;
    record.only_tensors(&["table"])?;
    let (dim, rows) = (record.size("params", "dim")?, record.size("params", "num_positions")?);
    let base = record.number_or("params", "base", 10_000.0)?;
    let layout = match record.text("params", "layout") {
        Some("concat") => SinusoidLayout::SinFirst,
        Some("interleaved") => SinusoidLayout::Interleaved,
        other => return skip(format!("layout {other:?} of a sinusoidal table is not known here")),
    };
    let (exponent, default) = match record.text("params", "timescale") {
        Some("2i/d") => (SinusoidExponent::Paper, OddWidth::DropCosine),
        Some("i/(d/2-1)") => (SinusoidExponent::Half { shift: 1.0 }, OddWidth::ZeroPad),
        other => return skip(format!("timescale {other:?} of a sinusoidal table is not known here")),
    };
    let odd_width = match record.text("params", "odd_dim") {
        None => default,
        Some("zero_pad_last") => OddWidth::ZeroPad,
        Some("drop_last_cos") => OddWidth::DropCosine,
        Some(other) => return skip(format!("odd_dim {other:?} of a sinusoidal table is not known here")),
    };
    let padding = match &record.json["params"]["padding_idx"] {
        value if value.is_null() => None,
        _ => Some(record.size("params", "padding_idx")?),
    };
    let mut method = Sinusoidal::paper()
        .with_base(base)
        .with_layout(layout)
        .with_exponent(exponent)
        .with_odd_width(odd_width);
    if let Some(row) = padding {
        method = method.with_padding_row(row as i64);
    }
    let (shape, theirs) = record.f32s::<2>("table")?;
    if shape != [rows, dim] {
        return fail(format!("`table` has shape {shape:?}, `params` say [{rows}, {dim}]"));
    }
    let mut ours = vec![f32::NAN; rows * dim];
    let at = Positions::range(0..rows as i64);
    sinusoid(&method, &at, ViewMut::new(&mut ours, [1, rows, dim])?)?;
    of_a_plan(method, &at, &ours)?;

    // From the definition: which column is a sine or a cosine of which frequency.
    let half = match odd_width {
        OddWidth::DropCosine => dim.div_ceil(2),
        OddWidth::ZeroPad => dim / 2,
    };
    let made = made_by(record);
    let entry = |row: usize, column: usize| {
        let (i, is_sine) = match layout {
            SinusoidLayout::Interleaved => (column / 2, column.is_multiple_of(2)),
            _ => (column % half.max(1), column < half),
        };
        if padding == Some(row) || (odd_width == OddWidth::ZeroPad && column >= 2 * half) {
            return Bounded::exact(0.0);
        }
        let share = match exponent {
            SinusoidExponent::Paper => 2.0 * i as f64 / dim as f64,
            SinusoidExponent::Half { shift } => i as f64 / ((dim / 2) as f64 - shift),
        };
        wave(row as f64, share * base.ln(), is_sine, made)
    };
    let exact: Vec<Bounded> = (0..rows * dim).map(|at| entry(at / dim, at % dim)).collect();
    Ok(within("table", &shape, &ours, theirs, &exact)?)
}

/// Two axes: the rows of a grid in the first half of the columns.
pub fn grid(record: &Record<'_>) -> Outcome<Worst> {
    record.only("params", &["cls_token", "dim", "height", "layout", "reference", "width", "base"])?;
    record.only_tensors(&["table"])?;
    if record.text("params", "layout") != Some("[sin_h|cos_h|sin_w|cos_w], row-major") {
        return skip(format!(
            "layout {} of a 2-D table is not known here",
            record.json["params"]["layout"]
        ));
    }
    let [dim, height, width] = [
        record.size("params", "dim")?,
        record.size("params", "height")?,
        record.size("params", "width")?,
    ];
    let base = record.number_or("params", "base", 10_000.0)?;
    let class_tokens = usize::from(record.flag_or("params", "cls_token", false)?);
    let (shape, theirs) = record.f32s::<2>("table")?;
    let rows = class_tokens + height * width;
    if shape != [rows, dim] {
        return fail(format!("`table` has shape {shape:?}, `params` say [{rows}, {dim}]"));
    }
    let mut ours = vec![f32::NAN; rows * dim];
    let at = Positions::grid(height, width).after_unplaced(class_tokens);
    let method = Sinusoidal::mae().with_base(base);
    sinusoid(&method, &at, ViewMut::new(&mut ours, [1, rows, dim])?)?;
    of_a_plan(method, &at, &ours)?;
    let (made, quarter) = (made_by(record), dim / 4);
    let entry = |row: usize, column: usize| {
        let Some(cell) = row.checked_sub(class_tokens) else {
            return Bounded::exact(0.0);
        };
        let axis = if column < 2 * quarter { cell / width } else { cell % width };
        let share = (column % quarter) as f64 / quarter as f64;
        wave(axis as f64, share * base.ln(), (column / quarter).is_multiple_of(2), made)
    };
    let exact: Vec<Bounded> = (0..rows * dim).map(|at| entry(at / dim, at % dim)).collect();
    Ok(within("table", &shape, &ours, theirs, &exact)?)
}

/// The table is what a plan adds to embeddings of zeros, bit for bit.
fn of_a_plan(method: Sinusoidal, at: &Positions, table: &[f32]) -> Outcome<()> {
    let (rows, dim) = (at.len(), table.len() / at.len());
    let plan = Encoding::from(method).plan(Dims::new(dim, 1)?)?;
    let zeros = vec![0.0; table.len()];
    let added = through::embedded(&plan, &plan.init(0)?, at, &zeros, [1, rows, dim], None)?.out;
    equal("table of a plan", &[rows, dim], &added, table)?;
    Ok(())
}

/// Marian's and MAE's tables are made by numpy in f64; all others by torch in f32.
fn made_by(record: &Record<'_>) -> Made {
    match record.text("params", "reference") {
        Some(code) if code.contains("marian") || code.contains("vit_mae") => Made::InF64,
        _ => Made::InF32,
    }
}

/// sin or cos of position · e^(−log).
///
/// In f32 the step of the exponent is rounded and its product with i again (each an absolute error of the exponent), the exponential is at most 1 ulp
/// (two units) off, the angle is rounded: |p·f| · (2·log + 3) units; then the function, at most 1 ulp off. In f64 one rounding at the end is left
/// (and 2⁻²⁹ of the angle's).
fn wave(position: f64, log: f64, is_sine: bool, made: Made) -> Bounded {
    let angle = position * (-log).exp();
    let value = if is_sine { angle.sin() } else { angle.cos() };
    let angle_units = angle.abs() * (2.0 * log.abs() + 3.0);
    let error = match made {
        Made::InF64 => U * value.abs() + f64::EPSILON * (angle_units + 4.0),
        Made::InF32 => U * (angle_units + 2.0 * value.abs()),
    };
    // A narrowed number below the smallest normal one is off by half of 2⁻¹⁴⁹.
    Bounded::new(value, error + 2f64.powi(-149))
}
