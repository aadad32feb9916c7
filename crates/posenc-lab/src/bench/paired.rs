//! Two works in turn, and the movements of memory that are their limits.

use super::{Row, Spread};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// The shortest time that is measured: a clock and a loop are nothing against it.
const SHORTEST: f64 = 2e-3;
/// Numbers that a thread moves at a time.
const CHUNK: usize = 1 << 16;
/// Below this, one thread moves memory faster than several.
const PARALLEL_FROM: usize = 1 << 20;

/// Measures works against their limits and keeps the rows.
pub(super) struct Timer<'t> {
    pub rounds: usize,
    pub threads: usize,
    pub only: Option<&'t str>,
    pub seen: &'t mut (dyn FnMut(&Row) + Send),
    pub rows: &'t mut Vec<Row>,
}

/// What is measured.
pub(super) struct Work<'w> {
    pub name: String,
    pub stored: &'static str,
    pub shape: &'w [usize],
    pub bytes: usize,
    pub limit: &'static str,
    pub goal: Option<f64>,
}

impl Timer<'_> {
    /// Whether works of this name are asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| name.contains(only))
    }

    /// Runs both in turn.
    pub fn pair(&mut self, work: Work<'_>, mut done: impl FnMut(), mut limit: impl FnMut()) {
        let (times, limits) = (repeats(&mut done), repeats(&mut limit));
        let measured: Vec<[f64; 2]> = (0..self.rounds)
            .map(|_| [seconds(times, &mut done), seconds(limits, &mut limit)])
            .collect();
        let row = Row {
            work: work.name,
            stored: work.stored,
            shape: work.shape.to_vec(),
            threads: self.threads,
            bytes: work.bytes,
            seconds: spread(measured.iter().map(|pair| pair[0])),
            limit: work.limit,
            limit_seconds: spread(measured.iter().map(|pair| pair[1])),
            ratio: spread(measured.iter().map(|pair| pair[0] / pair[1])),
            goal: work.goal,
        };
        (self.seen)(&row);
        self.rows.push(row);
    }
}

/// How often a work must run to take the shortest time that is measured.
fn repeats(work: &mut impl FnMut()) -> usize {
    work();
    let once = seconds(1, work).max(1e-9);
    (SHORTEST / once).ceil().max(1.0) as usize
}

/// Of one run, out of several in a row.
fn seconds(times: usize, work: &mut impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..times).for_each(|_| work());
    begin.elapsed().as_secs_f64() / times as f64
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Spread {
        median: values[values.len() / 2],
        low: values[0],
        high: values[values.len() - 1],
    }
}

/// Each chunk of `x`, by the pool where there are enough numbers.
fn each<T: Send>(x: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    if rayon::current_num_threads() > 1 && size_of_val(x) >= PARALLEL_FROM {
        x.par_chunks_mut(CHUNK).enumerate().for_each(|(i, x)| work(i * CHUNK, x));
    } else {
        work(0, x);
    }
}

/// `x *= c`: every byte is read and written once.
pub(super) fn sweep(x: &mut [f32]) {
    let c = black_box(1.0f32);
    each(x, |_, x| x.iter_mut().for_each(|x| *x *= c));
}

/// A copy.
pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    each(to, |start, to| to.copy_from_slice(&black_box(from)[start..start + to.len()]));
}

/// A fill with zeros: `memset`.
pub(super) fn fill(to: &mut [u8]) {
    each(to, |_, to| to.fill(0));
    black_box(to);
}

/// `x += y`.
pub(super) fn sum(x: &mut [f32], y: &[f32]) {
    each(x, |start, x| x.iter_mut().zip(&black_box(y)[start..]).for_each(|(x, y)| *x += *y));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_are_those_of_the_sorted_values() {
        let spread = spread([3.0, 1.0, 2.0].into_iter());
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                low: 1.0,
                high: 3.0
            }
        );
    }
}
