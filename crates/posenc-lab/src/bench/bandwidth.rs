//! How fast this machine moves memory, by how much of it: what every limit is made of.

use super::Spread;
use super::paired::{copy, fill, read, repeats, seconds, spread, sweep};
use serde::Serialize;
use std::hint::black_box;

/// Bytes of the buffers: within the first cache of most processors, within the second, the f32 prompt that is measured, and past the caches of most.
const SIZES: [usize; 4] = [32 << 10, 1 << 20, 32 << 20, 512 << 20];

/// How fast buffers of a size are moved on a number of threads, in bytes a second: median and range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bandwidth {
    /// Threads.
    pub threads: usize,
    /// Bytes of a buffer.
    pub bytes: usize,
    /// A sum of its words: each byte is read.
    pub read: Spread,
    /// `memset`: each byte is written.
    pub write: Spread,
    /// The same into memory that was just allocated: the system hands out and clears each page as it is touched, or the allocator gives back what was freed.
    pub write_new: Spread,
    /// `x *= c`: each byte is read and written, and counted twice.
    pub sweep: Spread,
    /// `memcpy` from another buffer of this size: each byte is read in one and written in the other, and counted twice.
    pub copy: Spread,
}

/// At each size, in the current pool.
pub(super) fn probe(rounds: usize) -> Vec<Bandwidth> {
    let most = SIZES[SIZES.len() - 1];
    let (mut x, mut from, mut bytes) = (vec![1.0f32; most / 4], vec![1.0f32; most / 4], vec![1u8; most]);
    let at = |size: usize| {
        let (x, from, bytes) = (&mut x[..size / 4], &mut from[..size / 4], &mut bytes[..size]);
        let of = |moved: usize, work: &mut dyn FnMut()| {
            let mut work = || work();
            let times = repeats(&mut work);
            spread((0..rounds).map(|_| moved as f64 / seconds(times, &mut work)))
        };
        Bandwidth {
            threads: rayon::current_num_threads(),
            bytes: size,
            read: of(size, &mut || read(bytes)),
            write: of(size, &mut || fill(bytes)),
            write_new: of(size, &mut || fill(&mut black_box(vec![0u8; size]))),
            sweep: of(2 * size, &mut || sweep(x)),
            copy: of(2 * size, &mut || copy(from, x)),
        }
    };
    SIZES.map(at).to_vec()
}
