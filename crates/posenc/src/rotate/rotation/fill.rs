//! Tables of cosines and sines, filled: by threads where they are large.

use crate::error::Result;
use crate::kernels::{self, Present};
use crate::real::Real;
use crate::rotate::rotary::infinite_angle;
use std::ops::Range;

/// From this many angles on, threads share the work.
#[cfg(feature = "rayon")]
const PARALLEL_FROM: usize = 1 << 16;
/// Tokens that a thread takes at a time.
#[cfg(feature = "rayon")]
const TOKENS: usize = 64;

/// Cosines and sines of the angles that `angles(token, into)` writes, times the factor; 1 and 0 for tokens for which it gives `false`.
pub(super) fn by_angles<R: Real>(
    pairs: usize,
    factor: f64,
    tables: [&mut [R]; 2],
    angles: impl Fn(usize, &mut [f64]) -> Result<bool> + Sync,
) -> Result<()> {
    let on = Present::current();
    in_parts(pairs, tables, |first, cos, sin| {
        let mut buffer = vec![0.0; pairs];
        for (i, (cos, sin)) in cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs)).enumerate() {
            if angles(first + i, &mut buffer)? {
                kernels::cos_sin(on, &buffer, factor, cos, sin);
            } else {
                cos.fill(R::ONE);
                sin.fill(R::ZERO);
            }
        }
        Ok(())
    })
}

/// Distance from one anchor to the next.
const APART: f64 = 64.0;
/// From this many tokens on, what lies between two anchors is tabled.
const TABLED_FROM: usize = 128;

/// Cosines and sines of each token's position on the pair's axis, `position(token, axes[i])`, times `frequencies[i]`; times the factor. 1 and 0 for tokens without a position.
///
/// An angle is that of the last multiple of 64, the anchor, and of what lies past it: cos(a + b) = cos a · cos b − sin a · sin b, in f64, and so on. Consecutive tokens share their anchor, and all
/// tokens what lies past theirs, so that an angle costs four products instead of two polynomials. Within 8·2⁻⁵³ of the cosine and sine of the exact sum; the two angles are rounded as one would be.
pub(super) fn by_positions<R: Real>(
    frequencies: &[f64],
    axes: &[usize],
    factor: f64,
    tables: [&mut [R]; 2],
    position: impl Fn(usize, usize) -> Option<f64> + Sync,
) -> Result<()> {
    let pairs = frequencies.len();
    if pairs == 0 {
        return Ok(());
    }
    let on = Present::current();
    let fastest = frequencies.iter().fold(0.0f64, |a, f| a.max(f.abs()));
    // What lies past an anchor, for whole positions: [64, pairs].
    let tabled = (tables[0].len() / pairs >= TABLED_FROM).then(|| {
        let angles: Vec<f64> = (0..APART as usize)
            .flat_map(|low| frequencies.iter().map(move |f| low as f64 * f))
            .collect();
        let mut tabled = Turned::new(angles.len());
        tabled.turn(on, 0..angles.len(), &angles);
        tabled
    });
    // Pairs that follow each other on one axis.
    let runs: Vec<Range<usize>> = (0..pairs)
        .collect::<Vec<_>>()
        .chunk_by(|a, b| axes[*a] == axes[*b])
        .map(|run| run[0]..run[run.len() - 1] + 1)
        .collect();
    in_parts(pairs, tables, |first, cos, sin| {
        let (mut angles, mut anchors) = (vec![0.0; pairs], vec![f64::NAN; runs.len()]);
        let (mut high, mut low) = (Turned::new(pairs), Turned::new(pairs));
        for (i, (cos, sin)) in cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs)).enumerate() {
            for (run, anchor) in runs.iter().zip(&mut anchors) {
                let (cos, sin) = (&mut cos[run.clone()], &mut sin[run.clone()]);
                let Some(p) = position(first + i, axes[run.start]) else {
                    cos.fill(R::ONE);
                    sin.fill(R::ZERO);
                    continue;
                };
                if !(p * fastest).is_finite() {
                    return Err(infinite_angle(p));
                }
                let (frequencies, angles) = (&frequencies[run.clone()], &mut angles[run.clone()]);
                let below = (p / APART).floor() * APART;
                if *anchor != below {
                    *anchor = below;
                    angles.iter_mut().zip(frequencies).for_each(|(angle, f)| *angle = below * f);
                    high.turn(on, run.clone(), angles);
                }
                let past = p - below;
                let low = match &tabled {
                    Some(tabled) if past.fract() == 0.0 => {
                        let row = past as usize * pairs;
                        tabled.of(row + run.start..row + run.end)
                    }
                    _ => {
                        angles.iter_mut().zip(frequencies).for_each(|(angle, f)| *angle = past * f);
                        low.turn(on, run.clone(), angles);
                        low.of(run.clone())
                    }
                };
                kernels::angle_sums(on, high.of(run.clone()), low, factor, cos, sin);
            }
        }
        Ok(())
    })
}

/// Cosines and sines in f64.
struct Turned {
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Turned {
    fn new(n: usize) -> Turned {
        Turned {
            cos: vec![0.0; n],
            sin: vec![0.0; n],
        }
    }

    /// Those of angles at these places.
    fn turn(&mut self, on: Present, places: Range<usize>, angles: &[f64]) {
        kernels::cos_sin(on, angles, 1.0, &mut self.cos[places.clone()], &mut self.sin[places]);
    }

    fn of(&self, places: Range<usize>) -> [&[f64]; 2] {
        [&self.cos[places.clone()], &self.sin[places]]
    }
}

/// `part(first token, its cosines, its sines)` for parts of the tables, in any order, by the caller's pool where there are many.
///
/// # Errors
/// The first in the order of tokens.
fn in_parts<R: Real>(pairs: usize, [cos, sin]: [&mut [R]; 2], part: impl Fn(usize, &mut [R], &mut [R]) -> Result<()> + Sync) -> Result<()> {
    #[cfg(feature = "rayon")]
    if cos.len() >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        let at_once = TOKENS * pairs;
        let parts = cos.par_chunks_mut(at_once).zip(sin.par_chunks_mut(at_once)).enumerate();
        return parts
            .map(|(i, (cos, sin))| part(i * TOKENS, cos, sin).err())
            .find_map_first(|refused| refused)
            .map_or(Ok(()), Err);
    }
    #[cfg(not(feature = "rayon"))]
    let _ = pairs;
    part(0, cos, sin)
}
