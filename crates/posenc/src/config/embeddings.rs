//! What acts on the embeddings of a model without rotary positions, from its file and its class.

use super::filled::Filled;
use super::registry::{Count, Embeds, Grid, Leading, Wave};
use super::{ConfigError, Numbering, Source, Trace};
use crate::dims::Dims;
use crate::embed::{Learned, Overflow, Sinusoidal};
use crate::encoding::Encoding;
use crate::rotate::Precision;

/// Rows that are read: far past any model, and a table of them is refused by nothing else.
const MOST_ROWS: usize = 1 << 24;

/// What acts on the embeddings, and how tokens are numbered for it.
pub(super) struct Embedded {
    pub encoding: Encoding,
    pub numbering: Numbering,
    /// The longest input.
    pub max_len: Option<usize>,
}

impl Filled {
    /// Reads what acts on embeddings of this width.
    pub fn embedded(&self, embeds: &Embeds, width: usize, count: Count, trace: &mut Trace) -> Result<Embedded, ConfigError> {
        let embedded = match embeds {
            Embeds::None => Embedded {
                encoding: Encoding::none(),
                numbering: match count {
                    Count::Mask => Numbering::Mask,
                    Count::Pixels => Numbering::Pixels,
                    _ => Numbering::Order,
                },
                max_len: None,
            },
            Embeds::Table(rows, more, offset, count) => self.table(rows, *more, *offset, *count, trace)?,
            Embeds::Sine(wave, len, count) => self.sine(*wave, len, *count, trace)?,
            Embeds::Picture(grid, leading) => self.picture(*grid, *leading, trace)?,
            Embeds::Cells(grid, leading, axes) => {
                let [height, width] = self.cells(*grid, trace)?;
                Embedded {
                    encoding: Sinusoidal::mae().with_axes(axes).into(),
                    numbering: Numbering::Cells { leading: *leading },
                    max_len: height.checked_mul(width).and_then(|cells| cells.checked_add(*leading)),
                }
            }
            Embeds::If(key, setting, default, [yes, no]) => {
                let on = match self.node().find(key) {
                    Some(value) => setting.is(value),
                    None => *default,
                };
                return self.embedded(if on { yes } else { no }, width, count, trace);
            }
        };
        // Nothing is handed out that a plan would refuse.
        let dims = Dims::new(width, 1).map_err(|error| self.setting(error))?;
        embedded.encoding.plan(dims).map_err(|error| self.setting(error))?;
        Ok(embedded)
    }

    pub fn setting(&self, error: crate::Error) -> ConfigError {
        ConfigError::Setting {
            path: self.node().path,
            error,
        }
    }

    /// The padding token's id.
    fn padding(&self) -> Result<usize, ConfigError> {
        match self.node().find("pad_token_id") {
            None => Err(self.missing("pad_token_id", "the row of the first token")),
            Some(_) => self.needed("pad_token_id", "the row of the first token"),
        }
    }

    fn table(&self, key: &'static str, more: usize, offset: usize, count: Count, trace: &mut Trace) -> Result<Embedded, ConfigError> {
        let given = self.needed(key, "the rows of the table")?;
        if given == 0 || given > MOST_ROWS {
            return Err(self.wrong(key, given.to_string(), "from one row to 2^24"));
        }
        let rows = given.saturating_add(more);
        let source = match more {
            0 => self.source(key),
            more => Source::Derived(format!("{} + {more}", self.named(key))),
        };
        trace.note("rows", rows.to_string(), source);
        let mut table = Learned::new(rows).with_offset(offset);
        let mut numbering = match count {
            Count::Mask => Numbering::Mask,
            _ => Numbering::Order,
        };
        if let Count::Padding | Count::PaddingAt(_) | Count::Behind = count {
            let (id, source) = match count {
                Count::PaddingAt(id) if self.node().find("pad_token_id").is_none() => (id, Source::Model),
                _ => (self.padding()?, self.source("pad_token_id")),
            };
            if id.saturating_add(1) >= rows {
                return Err(self.wrong(
                    "pad_token_id",
                    id.to_string(),
                    "a row of the table before its last: the first token has the row behind it",
                ));
            }
            trace.note("padding_row", id.to_string(), source);
            table = Learned::roberta(rows, id);
            if let Count::Padding | Count::PaddingAt(_) = count {
                numbering = Numbering::NotPadding { id };
            } else {
                table = table.with_overflow(Overflow::Clamp);
            }
        }
        if table.offset > 0 {
            let source = match count {
                Count::Padding | Count::PaddingAt(_) | Count::Behind => Source::Derived("the row behind the padding's".into()),
                _ => Source::Model,
            };
            trace.note("offset", table.offset.to_string(), source);
        }
        trace.note("numbering", shown(numbering).into(), Source::Model);
        Ok(Embedded {
            max_len: rows.checked_sub(table.offset),
            encoding: table.into(),
            numbering,
        })
    }

    fn sine(&self, wave: Wave, len: &'static str, count: Count, trace: &mut Trace) -> Result<Embedded, ConfigError> {
        let mut table = match wave {
            Wave::Paper => Sinusoidal::paper(),
            Wave::Marian | Wave::Ctrl => Sinusoidal::marian(),
            Wave::Whisper | Wave::Fairseq => Sinusoidal::whisper(),
            Wave::Musicgen => Sinusoidal::musicgen(),
        };
        if let Some(base) = self.node().number("max_timescale")? {
            if self.node().number("min_timescale")?.is_some_and(|x| x != 1.0) {
                return Err(self.wrong(
                    "min_timescale",
                    shown_value(self, "min_timescale"),
                    "1: the fastest wave turns by the position itself",
                ));
            }
            table = table.with_base(base);
            trace.note("base", base.to_string(), self.source("max_timescale"));
        }
        let exact = matches!(wave, Wave::Paper | Wave::Marian);
        table.precision = if exact { Precision::Exact } else { Precision::Reference };
        trace.note("layout", table.to_string(), Source::Model);
        let precision = if exact { "f64, rounded once" } else { "f32 angles" };
        trace.note("precision", precision.into(), Source::Model);
        let mut numbering = Numbering::Order;
        if let Wave::Fairseq = wave {
            let id = self.padding()?;
            let offset = if let Count::Padding = count { id.saturating_add(1) } else { 2 };
            let as_i64 = |x: usize| i64::try_from(x).map_err(|_| self.wrong("pad_token_id", id.to_string(), "a token id"));
            table = table.with_offset(as_i64(offset)?).with_padding_row(as_i64(id)?);
            trace.note("padding_row", id.to_string(), self.source("pad_token_id"));
            let source = match count {
                Count::Padding => Source::Derived("the row behind the padding's".into()),
                _ => Source::Model,
            };
            trace.note("offset", offset.to_string(), source);
            if let Count::Padding = count {
                numbering = Numbering::NotPadding { id };
            }
        }
        trace.note("numbering", shown(numbering).into(), Source::Model);
        let max_len = self.node().size(len)?;
        if max_len == Some(0) {
            return Err(self.wrong(len, "0".into(), "at least one position"));
        }
        if let Some(len_) = max_len {
            trace.note("max_len", len_.to_string(), self.source(len));
        }
        Ok(Embedded {
            encoding: table.into(),
            numbering,
            max_len,
        })
    }

    fn picture(&self, grid: Grid, leading: Leading, trace: &mut Trace) -> Result<Embedded, ConfigError> {
        let [height, width] = self.cells(grid, trace)?;
        let (leading, offset, source) = match leading {
            Leading::Fixed(n) => (n, 0, Source::Model),
            Leading::Key(key) => (self.needed(key, "the rows before the picture's")?, 0, self.source(key)),
            Leading::Unread(n) => (0, n, Source::Model),
        };
        trace.note("leading", leading.to_string(), source);
        if offset > 0 {
            trace.note("offset", offset.to_string(), Source::Model);
        }
        let before = leading.saturating_add(offset);
        let rows = height.checked_mul(width).and_then(|cells| cells.checked_add(before));
        let Some(rows) = rows.filter(|rows| *rows <= MOST_ROWS) else {
            return Err(ConfigError::TooMany {
                what: "rows of a picture's table",
                given: height.saturating_mul(width),
                limit: MOST_ROWS,
            });
        };
        trace.note("rows", rows.to_string(), Source::Derived(format!("{height} · {width} + {before}")));
        Ok(Embedded {
            encoding: Learned::new(rows).with_offset(offset).into(),
            numbering: Numbering::Grid { height, width, leading },
            max_len: Some(rows - offset),
        })
    }

    /// Cells of the picture that the table was trained on: rows and columns.
    fn cells(&self, grid: Grid, trace: &mut Trace) -> Result<[usize; 2], ConfigError> {
        let over = |image: usize, patch: usize, keys: [&'static str; 2]| {
            if patch == 0 {
                return Err(self.wrong(keys[1], "0".into(), "at least one pixel"));
            }
            if image < patch {
                return Err(self.wrong(keys[0], image.to_string(), "at least the size of a patch"));
            }
            Ok(image / patch)
        };
        let (cells, source) = match grid {
            Grid::Patches(image, patch) => {
                let ([h, w], [ph, pw]) = (self.sides(image)?, self.sides(patch)?);
                let cells = [over(h, ph, [image, patch])?, over(w, pw, [image, patch])?];
                (cells, format!("{} / {}", self.named(image), self.named(patch)))
            }
            Grid::Square(key) => {
                let cells = self.needed(key, "the cells of the picture")?;
                let side = cells.isqrt();
                if side == 0 || side * side != cells {
                    return Err(self.wrong(key, cells.to_string(), "the square of a whole number"));
                }
                ([side, side], format!("√{}", self.named(key)))
            }
            Grid::Tubes => {
                let ([h, w], frames) = (self.sides("image_size")?, self.needed("num_frames", "the frames of the film")?);
                let tube = match self.node().numbers("tubelet_size") {
                    Ok(Some(tube)) if tube.len() == 3 => [tube[0], tube[1], tube[2]].map(|x| x as usize),
                    _ => {
                        let [ph, pw] = self.sides("patch_size")?;
                        [self.needed("tubelet_size", "the frames of a cell")?, ph, pw]
                    }
                };
                let deep = over(frames, tube[0], ["num_frames", "tubelet_size"])?;
                let [rows, columns] = [
                    over(h, tube[1], ["image_size", "tubelet_size"])?,
                    over(w, tube[2], ["image_size", "tubelet_size"])?,
                ];
                ([deep.saturating_mul(rows), columns], "num_frames, image_size / tubelet_size".into())
            }
            Grid::Spectrogram => {
                let patch = self.needed("patch_size", "the cells of the spectrogram")?;
                let steps = |size: &'static str, stride: &'static str| {
                    let (n, stride_) = (
                        self.needed(size, "the cells of the spectrogram")?,
                        self.needed(stride, "the cells of the spectrogram")?,
                    );
                    if stride_ == 0 {
                        return Err(self.wrong(stride, "0".into(), "at least one"));
                    }
                    match n.checked_sub(patch) {
                        Some(rest) => Ok(rest / stride_ + 1),
                        None => Err(self.wrong(size, n.to_string(), "at least the size of a patch")),
                    }
                };
                let cells = [steps("num_mel_bins", "frequency_stride")?, steps("max_length", "time_stride")?];
                (cells, "num_mel_bins, max_length, patch_size and their strides".into())
            }
        };
        trace.note("grid", format!("{} × {}", cells[0], cells[1]), Source::Derived(source));
        Ok(cells)
    }

    /// A key's path, and that it is the class's where the file does not have it.
    fn named(&self, key: &str) -> String {
        match self.says(key) {
            true => self.path(key),
            false => format!("{key} (class default)"),
        }
    }
}

fn shown_value(filled: &Filled, key: &str) -> String {
    filled.node().find(key).map(super::json::shown).unwrap_or_default()
}

/// A numbering in a word or two.
fn shown(numbering: Numbering) -> &'static str {
    match numbering {
        Numbering::Order => "by order",
        Numbering::Mask => "by the attention mask",
        Numbering::NotPadding { .. } => "tokens that are not padding",
        _ => "cells",
    }
}
