//! Tables of cosines and sines, filled: by threads where they are large.

use crate::error::Result;
use crate::kernels::{self, Present};
use crate::real::Real;
use crate::rotate::rotary::infinite_angle;

/// From this many angles on, threads share the work.
#[cfg(feature = "rayon")]
const PARALLEL_FROM: usize = 1 << 16;
/// Tokens that a thread takes at a time.
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
        Turned::of(on, &angles)
    });
    let one_axis = axes.iter().all(|axis| *axis == axes[0]);
    in_parts(pairs, tables, |first, cos, sin| {
        let (mut angles, mut anchors, mut past) = (vec![0.0; pairs], vec![f64::NAN; pairs], vec![0.0; pairs]);
        let (mut high, mut low) = (Turned::new(pairs), Turned::new(pairs));
        for (i, (cos, sin)) in cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs)).enumerate() {
            if position(first + i, axes[0]).is_none() {
                cos.fill(R::ONE);
                sin.fill(R::ZERO);
                continue;
            }
            let (mut moved, mut whole) = (false, true);
            let place = |pair: usize| {
                // A token has a position on all axes or on none.
                let p = position(first + i, axes[pair]).unwrap_or(0.0);
                let anchor = (p / APART).floor() * APART;
                if (p * fastest).is_finite() {
                    Ok([anchor, p - anchor])
                } else {
                    Err(infinite_angle(p))
                }
            };
            let mut at = place(0)?;
            for pair in 0..pairs {
                if !one_axis {
                    at = place(pair)?;
                }
                moved |= anchors[pair] != at[0];
                whole &= at[1].fract() == 0.0;
                (anchors[pair], past[pair]) = (at[0], at[1]);
            }
            if moved {
                angles
                    .iter_mut()
                    .zip(&anchors)
                    .zip(frequencies)
                    .for_each(|((angle, p), f)| *angle = p * f);
                high.turn(on, &angles);
            }
            match &tabled {
                Some(tabled) if whole && one_axis => {
                    let row = past[0] as usize * pairs;
                    kernels::angle_sums(on, high.as_slices(), tabled.row(row, pairs), factor, cos, sin);
                    continue;
                }
                Some(tabled) if whole => {
                    for pair in 0..pairs {
                        let at = past[pair] as usize * pairs + pair;
                        (low.cos[pair], low.sin[pair]) = (tabled.cos[at], tabled.sin[at]);
                    }
                }
                _ => {
                    angles
                        .iter_mut()
                        .zip(&past)
                        .zip(frequencies)
                        .for_each(|((angle, p), f)| *angle = p * f);
                    low.turn(on, &angles);
                }
            }
            kernels::angle_sums(on, high.as_slices(), low.as_slices(), factor, cos, sin);
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

    fn of(on: Present, angles: &[f64]) -> Turned {
        let mut turned = Turned::new(angles.len());
        turned.turn(on, angles);
        turned
    }

    fn turn(&mut self, on: Present, angles: &[f64]) {
        kernels::cos_sin(on, angles, 1.0, &mut self.cos, &mut self.sin);
    }

    fn as_slices(&self) -> [&[f64]; 2] {
        [&self.cos, &self.sin]
    }

    fn row(&self, start: usize, n: usize) -> [&[f64]; 2] {
        [&self.cos[start..start + n], &self.sin[start..start + n]]
    }
}

/// `part(first token, its cosines, its sines)` for parts of the tables, in any order, by the caller's pool where there are many.
///
/// # Errors
/// The first in the order of tokens.
fn in_parts<R: Real>(pairs: usize, [cos, sin]: [&mut [R]; 2], part: impl Fn(usize, &mut [R], &mut [R]) -> Result<()> + Sync) -> Result<()> {
    let at_once = (TOKENS * pairs).max(1);
    #[cfg(feature = "rayon")]
    if cos.len() >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        let parts = cos.par_chunks_mut(at_once).zip(sin.par_chunks_mut(at_once)).enumerate();
        return parts
            .map(|(i, (cos, sin))| part(i * TOKENS, cos, sin).err())
            .find_map_first(|refused| refused)
            .map_or(Ok(()), Err);
    }
    let mut parts = cos.chunks_mut(at_once).zip(sin.chunks_mut(at_once)).enumerate();
    parts.try_for_each(|(i, (cos, sin))| part(i * TOKENS, cos, sin))
}
