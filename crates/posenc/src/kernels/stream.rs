//! Stores that go past the caches, and lines that are asked for ahead of time.

use super::{Isa, Present};

/// A line of the caches.
const LINE: usize = 64;

/// From this size on, a destination is written past the caches: it would not stay in them.
pub(super) const FROM: usize = 8 << 20;

/// Copies `src` to `dst` with stores that go past the caches, for destinations that are larger than they are and not read again soon: each line is written without being read first.
/// What lies before the first whole line of `dst` and after its last is stored as usual. After the last copy, [`fence`].
pub(super) fn copy<T: Copy>(on: Present, src: &[T], dst: &mut [T]) {
    assert_eq!(src.len(), dst.len());
    let bytes = size_of_val(src);
    let (from, to) = (src.as_ptr().cast::<u8>(), dst.as_mut_ptr().cast::<u8>());
    let head = to.align_offset(LINE).min(bytes);
    let lines = (bytes - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: the three parts lie inside both slices, which do not overlap (one of them is borrowed mutably), and `to + head` is a multiple of a line.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        whole_lines(on, from.add(head), to.add(head), lines);
        std::ptr::copy_nonoverlapping(from.add(tail), to.add(tail), bytes - tail);
    }
}

/// # Safety
/// `lines` lines can be read at `from` and written at `to`, which is a multiple of a line.
#[inline]
unsafe fn whole_lines(on: Present, from: *const u8, to: *mut u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64 as x86;
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512(from: *const u8, to: *mut u8, lines: usize) {
            for i in 0..lines {
                // SAFETY: the caller's.
                unsafe { x86::_mm512_stream_si512(to.add(i * LINE).cast(), x86::_mm512_loadu_si512(from.add(i * LINE).cast())) };
            }
        }
        #[target_feature(enable = "avx2")]
        unsafe fn avx2(from: *const u8, to: *mut u8, lines: usize) {
            for i in 0..lines * 2 {
                // SAFETY: the caller's.
                unsafe { x86::_mm256_stream_si256(to.add(i * 32).cast(), x86::_mm256_loadu_si256(from.add(i * 32).cast())) };
            }
        }
        match on.isa() {
            // SAFETY: the caller's, and the processor has the instructions.
            Isa::Avx512 => unsafe { avx512(from, to, lines) },
            // SAFETY: the caller's, and the processor has the instructions.
            Isa::Avx2 => unsafe { avx2(from, to, lines) },
            Isa::Portable => {
                for i in 0..lines * 4 {
                    // SAFETY: the caller's; SSE2 is part of x86-64.
                    unsafe { x86::_mm_stream_si128(to.add(i * 16).cast(), x86::_mm_loadu_si128(from.add(i * 16).cast())) };
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = on;
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from, to, lines * LINE) };
    }
}

/// Asks for the line at `at`, to write it or only to read it. No address is wrong: one where nothing is brings nothing.
#[inline(always)]
pub(super) fn prefetch<const WRITE: bool>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of any address has no effect that a program sees.
    unsafe {
        use std::arch::x86_64 as x86;
        if WRITE {
            x86::_mm_prefetch::<{ x86::_MM_HINT_ET0 }>(at.cast());
        } else {
            x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(at.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Makes what [`copy`] stored visible to other threads in order.
#[inline]
pub(super) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_whatever_the_alignment_and_touches_nothing_else() {
        let src: Vec<u16> = (0..1000).collect();
        for on in Present::all() {
            for (start, len) in [(0, 0), (1, 1), (3, 31), (0, 32), (5, 33), (7, 900), (2, 64), (31, 500)] {
                let mut dst = vec![u16::MAX; 1000];
                copy(on, &src[..len], &mut dst[start..start + len]);
                fence();
                assert_eq!(dst[start..start + len], src[..len], "{}", on.isa());
                assert!(dst[..start].iter().chain(&dst[start + len..]).all(|x| *x == u16::MAX));
            }
        }
    }
}
