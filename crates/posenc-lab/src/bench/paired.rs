//! Two works in turn, and the movements of memory that are their limits.

use super::{Growth, Row, Seen, Spread};
use rayon::prelude::*;
use std::borrow::Cow;
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
    pub seen: &'t mut (dyn FnMut(Seen<'_>) + Send),
    pub rows: &'t mut Vec<Row>,
}

/// What is measured.
pub(super) struct Work<'w> {
    pub name: String,
    pub stored: &'static str,
    pub shape: Cow<'w, [usize]>,
    /// Read and written.
    pub bytes: usize,
    /// Of products.
    pub operations: usize,
    pub limit: &'static str,
    pub goal: Option<f64>,
}

/// Two works that ran in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Paired {
    /// Seconds of the one.
    pub seconds: Spread,
    /// Seconds of the other.
    pub other: Spread,
    /// The one over the other, pair by pair.
    pub ratio: Spread,
}

/// Runs both in turn, `rounds` times (at least once), each as often in a row as a clock needs to tell its time.
pub fn paired(rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) -> Paired {
    let times = [repeats(&mut one), repeats(&mut other)];
    let measured: Vec<[f64; 2]> = (0..rounds.max(1))
        .map(|_| [seconds(times[0], &mut one), seconds(times[1], &mut other)])
        .collect();
    Paired {
        seconds: spread(measured.iter().map(|pair| pair[0])),
        other: spread(measured.iter().map(|pair| pair[1])),
        ratio: spread(measured.iter().map(|pair| pair[0] / pair[1])),
    }
}

impl Timer<'_> {
    /// Whether works of this name are asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| name.contains(only))
    }

    /// Runs both in turn.
    pub fn pair(&mut self, work: Work<'_>, done: impl FnMut(), limit: impl FnMut()) {
        self.keep(work, None, paired(self.rounds, done, limit));
    }

    /// Runs both in turn, as a point of a line.
    pub fn point(&mut self, work: Work<'_>, growth: Growth, done: impl FnMut(), limit: impl FnMut()) {
        self.keep(work, Some(growth), paired(self.rounds, done, limit));
    }

    fn keep(&mut self, work: Work<'_>, growth: Option<Growth>, measured: Paired) {
        let row = Row {
            work: work.name,
            stored: work.stored,
            shape: work.shape.into_owned(),
            threads: self.threads,
            bytes: work.bytes,
            operations: work.operations,
            seconds: measured.seconds,
            limit: work.limit,
            limit_seconds: measured.other,
            ratio: measured.ratio,
            goal: work.goal,
            growth,
        };
        (self.seen)(Seen::Row(&row));
        self.rows.push(row);
    }
}

/// How often a work must run to take the shortest time that is measured.
pub(super) fn repeats(work: &mut impl FnMut()) -> usize {
    work();
    let once = seconds(1, work).max(1e-9);
    (SHORTEST / once).ceil().max(1.0) as usize
}

/// Of one run, out of several in a row.
pub(super) fn seconds(times: usize, work: &mut impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..times).for_each(|_| work());
    begin.elapsed().as_secs_f64() / times as f64
}

pub(super) fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    Spread {
        // Of an even number, the mean of the middle two.
        median: (values[(n - 1) / 2] + values[n / 2]) / 2.0,
        low: values[0],
        high: values[n - 1],
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

/// A sum of words: every byte is read once.
pub(super) fn read(from: &[u8]) {
    let sum = |from: &[u8]| {
        let words = from
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        words.fold(0, u64::wrapping_add)
    };
    if rayon::current_num_threads() > 1 && from.len() >= PARALLEL_FROM {
        black_box(from.par_chunks(CHUNK).map(sum).reduce(|| 0, u64::wrapping_add));
    } else {
        black_box(sum(black_box(from)));
    }
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
        let of = |values: &[f64]| {
            let Spread { median, low, high } = spread(values.iter().copied());
            [median, low, high]
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]), [2.0, 1.0, 3.0]);
        assert_eq!(of(&[9.0, 1.0, 4.0, 2.0]), [3.0, 1.0, 9.0]);
        assert_eq!(of(&[7.0]), [7.0; 3]);
    }

    #[test]
    fn works_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let wait = || std::thread::sleep(std::time::Duration::from_millis(3));
        let work = |name: char| {
            let order = &order;
            move || {
                wait();
                order.borrow_mut().push(name)
            }
        };
        let measured = paired(3, work('a'), work('b'));
        // Each runs twice to find out how long it takes: longer than the shortest time, so once in each round.
        assert_eq!(order.borrow().iter().collect::<String>(), "aabbababab");
        assert!(
            measured.seconds.low >= 3e-3 && measured.ratio.low <= measured.ratio.median,
            "{measured:?}"
        );
    }

    #[test]
    fn movements_reach_every_number_whatever_the_threads() {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let numbers = PARALLEL_FROM / 4 + 3;
                let mut x: Vec<f32> = (0..numbers).map(|i| i as f32).collect();
                let (mut other, plain) = (vec![0.0; numbers], x.clone());
                copy(&plain, &mut other);
                sweep(&mut x);
                assert!(x == plain && other == plain);
                sum(&mut x, &plain);
                assert!(x.iter().zip(&plain).all(|(x, y)| *x == 2.0 * y));
                let mut bytes = vec![1u8; PARALLEL_FROM + 3];
                fill(&mut bytes);
                assert!(bytes.iter().all(|byte| *byte == 0));
            });
        }
    }
}
