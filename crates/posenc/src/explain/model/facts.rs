//! How fast the pairs of a plan turn, whatever the sequence.

use super::{Lengths, frequencies, is_grid, stretched};
use crate::config::LayerPlan;
use crate::error::Result;
use crate::rotate::{Rotary, Scaling};
use serde::Serialize;
use std::f64::consts::TAU;

/// How queries and keys of a plan turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RotaryFacts {
    /// Pairs of coordinates of a head that have a frequency.
    pub pairs: usize,
    /// Those whose frequency is not 0.
    pub turning: usize,
    /// Tokens for a turn of each pair, as scaled at the longest that the file provides for; `None` where a pair does not turn. `[pairs]`
    pub wavelengths: Vec<Option<f64>>,
    /// Each axis of the positions with its pairs; one entry where a token has one position.
    pub axes: Vec<AxisFacts>,
    /// The positions are rows and columns of a picture.
    pub grid: bool,
    /// What cosines and sines are multiplied by.
    pub table_factor: f64,
    /// What the softmax scale is multiplied by beside that.
    pub softmax_factor: f64,
    /// What the scaling does to the frequencies, where there is one.
    pub scaled: Option<Scaled>,
    /// Pairs that never complete a turn, at the original length before scaling and at the longest as scaled.
    pub incomplete: Vec<Incomplete>,
}

/// The pairs that turn with one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisFacts {
    /// The axis, from 0.
    pub axis: usize,
    /// How many pairs turn with it.
    pub pairs: usize,
    /// The one that turns fastest.
    pub fastest: Wave,
    /// The one that turns slowest and does turn.
    pub slowest: Wave,
}

/// A pair and how many tokens one turn takes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wave {
    /// The pair, from 0.
    pub pair: usize,
    /// Tokens for a turn.
    pub tokens: f64,
}

/// What a scaling does to the frequencies that the base alone would give.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaled {
    /// It, as it prints itself.
    pub by: String,
    /// Tokens in the call that it was looked at for.
    pub length: usize,
    /// Pairs that turn as they would without it.
    pub kept: usize,
    /// Pairs that turn slower by less than the whole factor, or by their own divisor.
    pub between: usize,
    /// Pairs that turn slower by the whole factor.
    pub slowed: usize,
    /// The least and the most that a pair is slowed by.
    pub divisors: (f64, f64),
    /// Tokens for a turn of each pair without it; `None` where a pair does not turn. `[pairs]`
    pub wavelengths_before: Vec<Option<f64>>,
}

/// The pairs that do not complete a turn within a length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incomplete {
    /// Tokens; of a layer with a window, at most its keys.
    pub length: usize,
    /// Of the frequencies as scaled, or as they would be unscaled.
    pub scaled: bool,
    /// How many pairs.
    pub pairs: usize,
    /// The first and the last of them.
    pub range: Option<(usize, usize)>,
}

impl Incomplete {
    fn of(frequencies: &[f64], length: usize, scaled: bool) -> Incomplete {
        let slow = |f: &f64| *f != 0.0 && length as f64 * f.abs() < TAU;
        let first = frequencies.iter().position(slow);
        let last = frequencies.iter().rposition(slow);
        Incomplete {
            length,
            scaled,
            pairs: frequencies.iter().filter(|f| slow(f)).count(),
            range: first.zip(last),
        }
    }
}

/// What the attention of a plan lets a query meet in `length` tokens: distances below this. A window and a chunk bound them.
pub(super) fn within(plan: &LayerPlan, length: usize) -> usize {
    let attention = &plan.spec.attention;
    let window = attention
        .window
        .and_then(|window| Some(window.left?.max(window.right?).saturating_add(1)));
    [window, attention.chunk].into_iter().flatten().fold(length, usize::min)
}

pub(super) fn facts(plan: &LayerPlan, rotary: &Rotary, lengths: &Lengths) -> Result<RotaryFacts> {
    let head_dim = plan.dims.head_dim;
    let reach = lengths.reach.unwrap_or(1);
    let scaled = frequencies(rotary, head_dim, reach, true)?;
    let plain = frequencies(rotary, head_dim, reach, false)?;
    let at_reach = rotary.frequencies(head_dim, reach)?;
    let axes = (0..rotary.axes.count()).filter_map(|axis| {
        let own = || (0..scaled.len()).filter(|pair| at_reach.axes[*pair] == axis && scaled[*pair] != 0.0);
        let wave = |pair: usize| Wave {
            pair,
            tokens: TAU / scaled[pair].abs(),
        };
        let fastest = own().max_by(|a, b| scaled[*a].abs().total_cmp(&scaled[*b].abs()))?;
        let slowest = own().min_by(|a, b| scaled[*a].abs().total_cmp(&scaled[*b].abs()))?;
        Some(AxisFacts {
            axis,
            pairs: own().count(),
            fastest: wave(fastest),
            slowest: wave(slowest),
        })
    });
    let grid = is_grid(rotary);
    let (original, factor) = stretched(&rotary.scaling);
    let mut incomplete = Vec::new();
    if !grid {
        incomplete.extend(original.map(|original| Incomplete::of(&plain, within(plan, original), false)));
        incomplete.extend(lengths.reach.map(|reach| Incomplete::of(&scaled, within(plan, reach), true)));
    }
    let own_scale = 1.0 / (head_dim as f64).sqrt();
    let softmax_factor = match plan.source("softmax factor") {
        Some(_) => plan.spec.attention.scale_for(head_dim) / own_scale,
        None => 1.0,
    };
    Ok(RotaryFacts {
        pairs: scaled.len(),
        turning: scaled.iter().filter(|f| **f != 0.0).count(),
        wavelengths: wavelengths(&scaled),
        axes: axes.collect(),
        grid,
        table_factor: at_reach.table_factor,
        softmax_factor,
        scaled: self::scaled(&rotary.scaling, &plain, &scaled, factor, reach),
        incomplete,
    })
}

/// Tokens for a turn of each pair that turns.
pub(super) fn wavelengths(frequencies: &[f64]) -> Vec<Option<f64>> {
    frequencies.iter().map(|f| (*f != 0.0).then(|| TAU / f.abs())).collect()
}

fn scaled(scaling: &Scaling, plain: &[f64], scaled: &[f64], factor: f64, length: usize) -> Option<Scaled> {
    match scaling {
        Scaling::Unscaled | Scaling::Proportional { factor: 1.0, .. } => None,
        // Each pair has its own divisor: none is "the whole factor".
        Scaling::Longrope(_) | Scaling::Dynamic { .. } | Scaling::Alpha { .. } | Scaling::Divided { .. } => {
            Some(compared(scaling.to_string(), plain, scaled, 1.0, length))
        }
        _ => Some(compared(scaling.to_string(), plain, scaled, factor, length)),
    }
}

/// How frequencies differ from others.
pub(super) fn compared(by: String, plain: &[f64], scaled: &[f64], factor: f64, length: usize) -> Scaled {
    let divisors: Vec<f64> = plain.iter().zip(scaled).filter(|(_, s)| **s != 0.0).map(|(p, s)| p / s).collect();
    // Powers and blends round: a share of 1e-9 is far above that and far below any setting's difference.
    let near = |x: f64, to: f64| (x - to).abs() <= 1e-9 * to;
    let kept = divisors.iter().filter(|d| near(**d, 1.0)).count();
    let slowed = divisors.iter().filter(|d| factor > 1.0 && near(**d, factor)).count();
    Scaled {
        by,
        length,
        kept,
        between: divisors.len() - kept - slowed,
        slowed,
        divisors: (
            divisors.iter().copied().fold(f64::INFINITY, f64::min),
            divisors.iter().copied().fold(0.0, f64::max),
        ),
        wavelengths_before: wavelengths(plain),
    }
}
