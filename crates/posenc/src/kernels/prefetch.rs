//! Lines of the caches that are asked for ahead of time.
//!
//! A destination that is fetched for writing before it is written takes plain stores as fast as stores past the caches go, and unlike them leaves what was written where the next reader finds it.
//! In pages that were never touched it is a third faster: there the system has just cleared the lines, and stores past the caches push them out first.

/// Bytes of a line.
pub(super) const LINE: usize = 64;
/// Bytes that are worked through before a line that is asked for is used.
pub(super) const AHEAD: usize = 8 << 10;

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

/// Asks for `bytes` bytes from `at` on, to write them or only to read them.
#[inline(always)]
pub(super) fn prefetch_bytes<const WRITE: bool>(at: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(LINE) {
        prefetch::<WRITE>(at.wrapping_add(line));
    }
}

/// Asks for a row that is read soon.
#[inline]
pub(crate) fn fetch_ahead<T>(row: &[T]) {
    prefetch_bytes::<false>(row.as_ptr().cast(), size_of_val(row));
}
