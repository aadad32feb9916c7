//! # What biases that are functions of the distance share
//!
//! A bias that is a formula of |key − query| is a line of as many values per head as a call has distances: computed once when parameters are bound, in f64, and read as a table is
//! (`by_distance.rs`). Where positions lie so far apart that the distances between them are too many to list, each pair is computed.

use super::alibi::saturated;
use super::by_distance::{put_values, sum_by_distance};
use crate::distances::{Span, check_one_axis};
use crate::error::Result;
use crate::memory;
use crate::params::{BoundMut, ParamSpec};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};

/// A formula of the distance, with what it has learned.
pub(super) trait Curve: Clone + Send + Sync + 'static {
    /// The bias of a head at a distance, which is not negative: a finite number.
    fn value(&self, head: usize, distance: f64) -> f64;

    /// Its derivatives by what the head has learned, one for each parameter: finite numbers.
    fn slopes(&self, _head: usize, _distance: f64) -> [f64; 2] {
        [0.0; 2]
    }
}

/// Distances whose sums with one another i64 holds.
const NEAR: u64 = 1 << 61;

/// Every distance of a call, if they are few and no farther than positions of a text.
pub(super) fn listed(q_at: &Positions, k_at: &Positions) -> Option<Span> {
    Span::few(q_at, k_at).filter(|span| span.lowest.unsigned_abs() < NEAR)
}

/// Every distance of a call, if they can be listed, for a function of the distance.
pub(super) fn span<R: Real>(method: &'static str, heads: usize, q_at: &Positions, k_at: &Positions) -> Result<Option<Span>> {
    check_one_axis(method, q_at, k_at)?;
    q_at.check_len()?;
    k_at.check_len()?;
    q_at.check_whole()?;
    k_at.check_whole()?;
    let span = listed(q_at, k_at);
    // Values and gradients.
    memory::check::<[R; 2]>(
        "distances of a call [heads, distances]",
        &[heads, span.map_or(0, |span| span.count)],
    )?;
    Ok(span)
}

/// The term of one layer.
pub(super) struct CurveTerm<R, C> {
    curve: C,
    /// What it learns: a number per head each.
    specs: Vec<ParamSpec>,
    heads: usize,
    span: Option<Span>,
    /// `[heads, distances]`; empty without a span.
    values: Vec<R>,
}

impl<R: Real, C: Curve> CurveTerm<R, C> {
    pub fn new(curve: C, specs: Vec<ParamSpec>, heads: usize, span: Option<Span>) -> Self {
        let mut values = Vec::new();
        if let Some(span) = span {
            values.reserve_exact(heads * span.count);
            for head in 0..heads {
                let first = values.len() as i64;
                for d in span.distances() {
                    // A distance after the query has the value of the same distance before it.
                    let mirrored = if d > 0 { -d - span.lowest } else { -1 };
                    values.push(match mirrored {
                        0.. => values[(first + mirrored) as usize],
                        _ => saturated(curve.value(head, d.unsigned_abs() as f64)),
                    });
                }
            }
        }
        CurveTerm {
            curve,
            specs,
            heads,
            span,
            values,
        }
    }

    /// Visits the pairs of a tile that have positions, with their distances.
    fn each(at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, usize, f64)) {
        for i in 0..rows {
            let Some(q) = at.q_at.whole(i) else { continue };
            for j in 0..cols {
                let Some(k) = at.k_at.whole(j) else { continue };
                visit(i, j, k.abs_diff(q) as f64);
            }
        }
    }

    fn put<const WRITE: bool>(&self, at: &Place<'_>, s: &mut BlockMut<'_, R>) {
        match self.span {
            Some(Span { lowest, count }) => put_values::<R, WRITE>(at, s, &self.values[at.head * count..][..count], lowest),
            None => {
                if WRITE {
                    s.clear();
                }
                let (rows, cols) = (s.rows, s.cols);
                Self::each(at, rows, cols, |i, j, distance| {
                    s.row(i)[j] += saturated::<R>(self.curve.value(at.head, distance))
                });
            }
        }
    }
}

impl<R: Real, C: Curve> ScoreTerm<R> for CurveTerm<R, C> {
    fn needs(&self) -> Needs {
        let slots = match self.span {
            _ if self.specs.is_empty() => 0,
            Some(span) => span.count,
            None => self.specs.len(),
        };
        Needs::bias(slots).by_distance()
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<false>(&tile.at, s);
    }

    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.put::<true>(&tile.at, s);
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let ds = ds.as_block();
        match self.span {
            _ if self.specs.is_empty() => {}
            Some(span) => sum_by_distance(span, &tile.at, &ds, into.slots),
            None => {
                let mut sums = [0.0; 2];
                Self::each(&tile.at, ds.rows, ds.cols, |i, j, distance| {
                    let slopes = self.curve.slopes(tile.at.head, distance);
                    sums.iter_mut()
                        .zip(slopes)
                        .for_each(|(sum, slope)| *sum += ds.row(i)[j].to_f64() * slope);
                });
                into.slots.iter_mut().zip(sums).for_each(|(slot, sum)| *slot += R::of(sum));
            }
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        if self.specs.is_empty() {
            return Ok(());
        }
        let per_head = slots.len() / self.heads.max(1);
        for (which, spec) in self.specs.iter().enumerate() {
            let grad = grads.get_mut(spec)?;
            for (head, slots) in slots.chunks_exact(per_head.max(1)).enumerate() {
                let sum: f64 = match self.span {
                    Some(span) => {
                        let slope = |d: i64| self.curve.slopes(head, d.unsigned_abs() as f64)[which];
                        slots.iter().zip(span.distances()).map(|(slot, d)| slot.to_f64() * slope(d)).sum()
                    }
                    None => slots[which].to_f64(),
                };
                grad[head] += R::of(sum);
            }
        }
        Ok(())
    }
}
