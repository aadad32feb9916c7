//! Matrices as colours: maps whose lightness only rises, so that they say the same in grey.

use std::fmt::Write;

use super::Panel;
use crate::export::axis::{Axis, Scale, ticks};
use crate::export::words::{escape, extent};

/// Most cells that are drawn along a side; larger matrices are drawn as means of blocks.
pub const CELLS: usize = 128;
/// The same for a panel of 200 units beside others: two of its 144 for each cell.
pub const CELLS_OF_SMALL: usize = 72;
/// Steps of a colour map.
const LEVELS: usize = 48;

/// Dark blue, teal, green, yellow.
const SEQUENTIAL: [[f64; 3]; 5] = [
    [14.0, 18.0, 56.0],
    [36.0, 68.0, 130.0],
    [38.0, 128.0, 142.0],
    [122.0, 192.0, 118.0],
    [250.0, 244.0, 186.0],
];
/// Below zero blue and dark, zero grey, above zero orange and light: the hue says the sign, the lightness the value.
const DIVERGING: [[f64; 3]; 5] = [
    [6.0, 22.0, 84.0],
    [44.0, 92.0, 170.0],
    [146.0, 146.0, 146.0],
    [238.0, 164.0, 92.0],
    [255.0, 240.0, 205.0],
];

/// From values to colours, the same for all panels of a picture.
#[derive(Clone, Copy)]
pub struct Colours {
    low: f64,
    high: f64,
    map: &'static [[f64; 3]; 5],
    rooted: bool,
}

impl Colours {
    /// For values of these: symmetric about zero if they have both signs.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Colours {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        if low < 0.0 && high > 0.0 {
            let most = high.max(-low);
            return Colours {
                low: -most,
                high: most,
                map: &DIVERGING,
                rooted: false,
            };
        }
        // A single value has a range too, so that its colour is defined.
        let high = if high > low { high } else { low + 1.0 };
        Colours {
            low,
            high,
            map: &SEQUENTIAL,
            rooted: false,
        }
    }

    /// The same for values that fall from zero at very different rates: the colour follows the square root, so that the flattest can be seen beside the steepest.
    pub fn rooted(self) -> Colours {
        Colours {
            rooted: self.high == 0.0,
            ..self
        }
    }

    /// What a reader must know of how colours are spread.
    pub fn note(&self) -> Option<String> {
        self.rooted.then(|| {
            "Colours follow the square root of the bias, the same in all heads, so that the flattest can be seen beside the steepest."
                .into()
        })
    }

    /// What the numbers at the colour bar are, and how they are spread.
    pub fn title(&self, what: &str) -> String {
        format!("{what}{}", if self.rooted { " (√)" } else { "" })
    }

    /// Where a value lies between the first colour and the last.
    fn share(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        if self.rooted { 1.0 - (1.0 - share).max(0.0).sqrt() } else { share }
    }

    fn level(&self, value: f64) -> Option<usize> {
        let share = self.share(value);
        share.is_finite().then(|| ((share * LEVELS as f64) as usize).min(LEVELS - 1))
    }

    fn colour(&self, level: usize) -> [u8; 3] {
        let at = level as f64 / (LEVELS - 1) as f64 * (self.map.len() - 1) as f64;
        let from = (at as usize).min(self.map.len() - 2);
        let part = at - from as f64;
        [0, 1, 2].map(|c| (self.map[from][c] * (1.0 - part) + self.map[from + 1][c] * part).round() as u8)
    }

    fn hex(&self, level: usize) -> String {
        let [r, g, b] = self.colour(level);
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

/// A matrix to be drawn.
pub struct Heat<'a> {
    pub heading: String,
    /// What the panel's numbers are like, above it.
    pub caption: String,
    pub x_title: String,
    pub y_title: String,
    /// `[rows, columns]`; row 0 is at the top.
    pub values: &'a [f64],
    pub rows: usize,
    pub columns: usize,
    /// Column 0 of row 0 stands for these numbers on the axes.
    pub first: (f64, f64),
    /// Columns after the row's own are not read: they are hatched.
    pub causal: bool,
    /// Cells that are drawn along a side at most: [`CELLS`], or fewer where the panel is small.
    pub cells: usize,
}

impl Heat<'_> {
    /// Cells that one drawn cell is the mean of, along each side.
    fn block(&self) -> (usize, usize) {
        (self.rows.div_ceil(self.cells).max(1), self.columns.div_ceil(self.cells).max(1))
    }

    /// What a reader must know if cells were merged.
    pub fn merged(&self) -> Option<String> {
        match self.block() {
            (1, 1) => None,
            (rows, columns) => Some(format!("Each drawn cell is the mean of {rows} × {columns} numbers.")),
        }
    }

    /// A panel of this width and height, the axes' texts included.
    pub fn panel(&self, colours: &Colours, width: f64, height: f64) -> Panel {
        let (left, top, bottom) = (52.0, 24.0, height - 44.0);
        let right = width - 4.0;
        let mut body = String::new();
        if !self.caption.is_empty() {
            let _ = write!(body, "<text class=\"tick\" x=\"{left}\" y=\"14\">{}</text>", escape(&self.caption));
        }
        let (row_block, column_block) = self.block();
        let (rows, columns) = (self.rows.div_ceil(row_block), self.columns.div_ceil(column_block));
        let scale = ((right - left) / columns.max(1) as f64, (bottom - top) / rows.max(1) as f64);
        if self.causal {
            hatch(&mut body, left, right, top, bottom);
        }
        let _ = write!(
            body,
            "<g transform=\"translate({left} {:.3}) scale({:.5} {:.5})\" fill=\"none\" stroke-width=\"1.02\" shape-rendering=\"crispEdges\">",
            top + scale.1 / 2.0,
            scale.0,
            scale.1
        );
        for (level, path) in self
            .runs(colours, rows, columns)
            .iter()
            .enumerate()
            .filter(|(_, path)| !path.is_empty())
        {
            let _ = write!(body, "<path stroke=\"{}\" d=\"{path}\"/>", colours.hex(level));
        }
        body.push_str("</g>");
        let _ = write!(body, "<path class=\"axis\" d=\"M{left} {top}H{right}V{bottom}H{left}Z\"/>");
        self.axes(&mut body, (left, right), (top, bottom));
        Panel {
            heading: self.heading.clone(),
            width,
            height,
            body,
        }
    }

    /// For each level the runs of cells that have it, as strokes of height one.
    fn runs(&self, colours: &Colours, rows: usize, columns: usize) -> Vec<String> {
        let mut paths = vec![String::new(); LEVELS];
        for row in 0..rows {
            let mut from = 0;
            let levels: Vec<Option<usize>> = (0..columns).map(|column| colours.level(self.mean(row, column)?)).collect();
            while from < columns {
                let run = levels[from..].iter().take_while(|level| **level == levels[from]).count();
                if let Some(level) = levels[from] {
                    let _ = write!(paths[level], "M{from} {row}h{run}");
                }
                from += run;
            }
        }
        paths
    }

    /// The mean of what a drawn cell stands for, without what no query reads.
    fn mean(&self, row: usize, column: usize) -> Option<f64> {
        let (row_block, column_block) = self.block();
        let (mut sum, mut count) = (0.0, 0usize);
        for r in row * row_block..((row + 1) * row_block).min(self.rows) {
            for c in column * column_block..((column + 1) * column_block).min(self.columns) {
                if !self.causal || c <= r {
                    sum += self.values[r * self.columns + c];
                    count += 1;
                }
            }
        }
        (count > 0).then(|| sum / count as f64)
    }

    fn axes(&self, body: &mut String, (left, right): (f64, f64), (top, bottom): (f64, f64)) {
        let cells = |first: f64, count: usize| (first - 0.5, first + count as f64 - 0.5);
        let x = Axis::new(Scale::Linear, cells(self.first.1, self.columns), left, right);
        let y = Axis::new(Scale::Linear, cells(self.first.0, self.rows), top, bottom);
        for tick in whole(ticks(x.low, x.high, if right - left > 300.0 { 8 } else { 3 })) {
            let at = x.place(tick.0);
            let _ = write!(
                body,
                "<path class=\"axis\" d=\"M{at:.1} {bottom}v5\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                tick.1
            );
        }
        for tick in whole(ticks(y.low, y.high, if bottom - top > 300.0 { 8 } else { 3 })) {
            let at = y.place(tick.0);
            let _ = write!(
                body,
                "<path class=\"axis\" d=\"M{left} {at:.1}h-5\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                at + 4.0,
                tick.1
            );
        }
        let middle = (top + bottom) / 2.0;
        let _ = write!(
            body,
            "<text class=\"title\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"title\" transform=\"translate(13 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            bottom + 36.0,
            escape(&self.x_title),
            escape(&self.y_title)
        );
    }
}

/// Cells have whole numbers: marks between them are left out.
fn whole(ticks: Vec<crate::export::axis::Tick>) -> impl Iterator<Item = (f64, String)> {
    ticks
        .into_iter()
        .filter(|tick| tick.at.fract() == 0.0)
        .map(|tick| (tick.at, format!("{:.0}", tick.at)))
}

fn hatch(body: &mut String, left: f64, right: f64, top: f64, bottom: f64) {
    let _ = write!(
        body,
        "<rect class=\"blank\" x=\"{left}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\"/><path class=\"hatch\" d=\"",
        right - left,
        bottom - top
    );
    let (width, height) = (right - left, bottom - top);
    let mut at = 9.0;
    while at < width + height {
        // From the left or lower edge to the upper or right one, within the frame.
        let (x0, y0) = if at <= height { (0.0, at) } else { (at - height, height) };
        let (x1, y1) = if at <= width { (at, 0.0) } else { (width, at - width) };
        let _ = write!(body, "M{:.1} {:.1}L{:.1} {:.1}", left + x0, top + y0, left + x1, top + y1);
        at += 9.0;
    }
    body.push_str("\"/>");
}

/// The colours with their values, as tall as the panels beside it.
pub fn bar(colours: &Colours, title: &str, height: f64) -> Panel {
    let (top, bottom, left, wide) = (24.0, height - 44.0, 4.0, 16.0);
    let mut body = format!(
        "<text class=\"title\" x=\"{left}\" y=\"14\">{}</text><g shape-rendering=\"crispEdges\">",
        escape(&colours.title(title))
    );
    let step = (bottom - top) / LEVELS as f64;
    for level in 0..LEVELS {
        let y = bottom - step * (level + 1) as f64;
        let _ = write!(
            body,
            "<rect x=\"{left}\" y=\"{y:.2}\" width=\"{wide}\" height=\"{:.2}\" fill=\"{}\"/>",
            step + 0.4,
            colours.hex(level)
        );
    }
    let _ = write!(
        body,
        "</g><path class=\"axis\" d=\"M{left} {top}H{}V{bottom}H{left}Z\"/>",
        left + wide
    );
    for tick in ticks(colours.low, colours.high, 6) {
        let at = bottom - colours.share(tick.at) * (bottom - top);
        let _ = write!(
            body,
            "<path class=\"axis\" d=\"M{} {at:.1}h4\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\">{}</text>",
            left + wide,
            left + wide + 8.0,
            at + 4.0,
            tick.label
        );
    }
    Panel {
        heading: String::new(),
        width: 70.0,
        height,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Light in the eye's measure: Rec. 709 on linear light.
    fn luminance([r, g, b]: [u8; 3]) -> f64 {
        let linear = |c: u8| (f64::from(c) / 255.0).powf(2.2);
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    #[test]
    fn lightness_only_rises_so_that_grey_says_the_same() {
        for colours in [Colours::of([0.0, 1.0]), Colours::of([-1.0, 1.0])] {
            let light: Vec<f64> = (0..LEVELS).map(|level| luminance(colours.colour(level))).collect();
            assert!(light.windows(2).all(|pair| pair[1] > pair[0]), "{light:?}");
            assert!(light[0] < 0.02 && light[LEVELS - 1] > 0.8);
        }
    }

    #[test]
    fn values_of_both_signs_are_symmetric_about_grey() {
        let colours = Colours::of([-0.5, 2.0]);
        assert_eq!((colours.low, colours.high), (-2.0, 2.0));
        let [r, g, b] = colours.colour(colours.level(0.0).unwrap());
        assert!(r.abs_diff(g) < 8 && g.abs_diff(b) < 8);
        assert_eq!(Colours::of([3.0]).level(3.0), Some(0));
        assert_eq!(Colours::of([]).level(f64::NAN), None);
        let falling = Colours::of([-32.0, 0.0]).rooted();
        assert_eq!([-32.0, -8.0, 0.0].map(|x| falling.share(x)), [0.0, 0.5, 1.0]);
        assert!(!Colours::of([0.0, 3.0]).rooted().rooted && !Colours::of([-1.0, 1.0]).rooted().rooted);
    }

    #[test]
    fn large_matrices_are_drawn_as_means_and_stay_small() {
        let side = 1000;
        let values: Vec<f64> = (0..side * side).map(|i| ((i * 7919) % 1000) as f64).collect();
        let heat = Heat {
            heading: String::new(),
            caption: String::new(),
            x_title: "x".into(),
            y_title: "y".into(),
            values: &values,
            rows: side,
            columns: side,
            first: (0.0, 0.0),
            causal: false,
            cells: CELLS,
        };
        assert_eq!(heat.block(), (8, 8));
        assert!(heat.merged().unwrap().contains("8 × 8"));
        let known: f64 = (0..8)
            .flat_map(|r| (0..8).map(move |c| (r, c)))
            .map(|(r, c)| values[r * side + c])
            .sum();
        assert_eq!(heat.mean(0, 0), Some(known / 64.0));
        assert!(heat.panel(&Colours::of(values.iter().copied()), 400.0, 400.0).body.len() < 200_000);
    }
}
