//! Work that is cut by shape alone, and spread over the caller's threads where the feature `rayon` is on: results are the same bits for any number of threads, and without them.

/// Runs `each(i, part)` for the parts of `size` numbers of a list, the last of which may be shorter.
pub(crate) fn parts<T: Send>(list: &mut [T], size: usize, each: impl Fn(usize, &mut [T]) + Sync + Send) {
    let size = size.max(1);
    #[cfg(feature = "rayon")]
    if list.len() > size {
        use rayon::prelude::*;
        return list.par_chunks_mut(size).enumerate().for_each(|(i, part)| each(i, part));
    }
    list.chunks_mut(size).enumerate().for_each(|(i, part)| each(i, part));
}

/// The same for three lists of one length.
pub(crate) fn parts_of_three<T: Send>(lists: [&mut [T]; 3], size: usize, each: impl Fn(usize, [&mut [T]; 3]) + Sync + Send) {
    let ([a, b, c], size) = (lists, size.max(1));
    #[cfg(feature = "rayon")]
    if a.len() > size {
        use rayon::prelude::*;
        let all = a.par_chunks_mut(size).zip(b.par_chunks_mut(size)).zip(c.par_chunks_mut(size));
        return all.enumerate().for_each(|(i, ((a, b), c))| each(i, [a, b, c]));
    }
    let all = a.chunks_mut(size).zip(b.chunks_mut(size)).zip(c.chunks_mut(size));
    all.enumerate().for_each(|(i, ((a, b), c))| each(i, [a, b, c]));
}
