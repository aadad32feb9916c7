//! Axes: where a value lies, and which values are written beside the axis.

use super::words;

/// How values are spread.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal differences, equal distances.
    Linear,
    /// Equal ratios, equal distances; values must be positive.
    Log2,
}

/// A marked value: its text, and a second line below it (or none).
pub struct Tick {
    pub at: f64,
    pub label: String,
    pub below: String,
}

/// An axis over `low..=high`, drawn from pixel `start` to pixel `end` (which may run backwards).
pub struct Axis {
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
    pub start: f64,
    pub end: f64,
}

impl Axis {
    /// A range without width gets one, so that a single measurement still has a place.
    pub fn new(scale: Scale, (low, high): (f64, f64), start: f64, end: f64) -> Self {
        let (low, high) = match scale {
            _ if high > low => (low, high),
            Scale::Linear => (low - 0.5, high + 0.5),
            Scale::Log2 => (low / 2.0, high * 2.0),
        };
        Self {
            scale,
            low,
            high,
            start,
            end,
        }
    }

    /// The pixel of a value.
    pub fn place(&self, value: f64) -> f64 {
        let unit = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log2 => (value / self.low).log2() / (self.high / self.low).log2(),
        };
        self.start + unit * (self.end - self.start)
    }
}

/// The powers of ten inside a range of positive numbers.
pub fn decades(low: f64, high: f64) -> Vec<Tick> {
    let exponents = (low.log10() - 1e-9).ceil() as i32..=(high.log10() + 1e-9).floor() as i32;
    let tick = |exponent: i32| Tick {
        at: 10f64.powi(exponent),
        label: if exponent < 0 {
            format!("{:.*}", exponent.unsigned_abs() as usize, 10f64.powi(exponent))
        } else {
            words::count(10usize.saturating_pow(exponent.unsigned_abs()))
        },
        below: String::new(),
    };
    exponents.map(tick).collect()
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten inside the range, about `wanted` of them, with the digits that they need.
pub fn ticks(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 || wanted == 0 {
        return Vec::new();
    }
    let rough = span / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    // The step whose number of marks comes nearest to what was wanted; rounding it up alone would leave some ranges with two.
    let distance = |step: f64| (span / step - wanted as f64).abs();
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|multiple| multiple * power);
    let step = steps
        .into_iter()
        .min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
        .unwrap_or(rough);
    let digits = (0..8)
        .find(|&d| ((step * 10f64.powi(d)).round() / 10f64.powi(d) - step).abs() < step * 1e-6)
        .unwrap_or(8) as usize;
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last)
        .map(|i| {
            let at = i as f64 * step;
            Tick {
                at,
                label: format!("{at:.digits$}").replace('-', "−"),
                below: String::new(),
            }
        })
        .collect()
}

/// Moves labels apart to at least `gap`, each as near to where it wants to be as the others allow, and into `low..=high`.
///
/// Labels that would overlap form a block centred on the mean of their wishes; blocks that meet are merged. Labels that do not fit at all are spaced evenly.
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let n = wanted.len();
    if n == 0 {
        return Vec::new();
    }
    let gap = if n > 1 { gap.min((high - low) / (n - 1) as f64) } else { gap };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // A block is its first pixel and how many labels it holds.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &i in &order {
        let mut block = (wanted[i].clamp(low, high), 1);
        while let Some(&(start, size)) = blocks.last()
            && start + gap * size as f64 > block.0
        {
            blocks.pop();
            // The mean wish of a block is its centre; merging keeps the weighted mean.
            let centre = |(start, size): (f64, usize)| start + gap * (size - 1) as f64 / 2.0;
            let total = size + block.1;
            let middle = (centre((start, size)) * size as f64 + centre(block) * block.1 as f64) / total as f64;
            let extent = gap * (total - 1) as f64;
            block = ((middle - extent / 2.0).clamp(low, (high - extent).max(low)), total);
        }
        blocks.push(block);
    }
    let mut placed = vec![0.0; n];
    let mut next = order.into_iter();
    for (start, size) in blocks {
        for (k, i) in next.by_ref().take(size).enumerate() {
            placed[i] = start + gap * k as f64;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |low, high, n| ticks(low, high, n).into_iter().map(|t| t.label).collect::<Vec<_>>();
        assert_eq!(labels(1.5, 4.6, 6), ["1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5"]);
        assert_eq!(labels(1.6, 2.9, 5), ["1.75", "2.00", "2.25", "2.50", "2.75"]);
        assert_eq!(labels(0.0, 1500.0, 8), ["0", "200", "400", "600", "800", "1000", "1200", "1400"]);
        assert!(ticks(1.0, 1.0, 5).is_empty());
    }

    #[test]
    fn labels_do_not_overlap_and_stay_inside() {
        let wanted = [10.0, 11.0, 12.0, 80.0, 99.0, 99.0];
        let placed = spread(&wanted, 10.0, 0.0, 100.0);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 10.0 - 1e-9), "{placed:?}");
        assert!(sorted[0] >= 0.0 && sorted[5] <= 100.0);
        assert_eq!(placed[3], 80.0);
        // Twelve labels of 10 in 100 pixels: even spacing.
        assert!((spread(&[50.0; 12], 10.0, 0.0, 100.0)[11] - 100.0).abs() < 1e-9);
    }
}
