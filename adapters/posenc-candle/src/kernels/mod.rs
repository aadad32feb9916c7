//! New memory for results, and all `unsafe` of the crate.
//!
//! What is written as a whole needs no zeros first. Below 32 MiB, glibc gives back memory that was freed before, which zeros cost a pass over: as much as a third of a rotation in 16 bits.
#![allow(unsafe_code, reason = "memory that is written before it is read")]

use half::{bf16, f16};

/// Numbers that any bits stand for.
///
/// # Safety
/// Every pattern of bits must be a number of the type, which must have no padding.
pub(crate) unsafe trait AnyBits: Copy {
    /// Stands in tests for what was not written.
    const NAN: Self;
}

macro_rules! any_bits {
    ($($t:ident)+) => {
        $(
            // SAFETY: an IEEE 754 number or bfloat16, of one field: all its patterns are numbers, infinities or NaNs.
            unsafe impl AnyBits for $t {
                const NAN: $t = $t::NAN;
            }
        )+
    };
}
any_bits! { f32 f64 f16 bf16 }

/// So many numbers, whatever they are: for results of which every number is written before anybody reads them. With debug assertions they are NaN, so that a test sees one that is not.
pub(crate) fn unwritten<T: AnyBits>(numbers: usize) -> Vec<T> {
    if cfg!(any(debug_assertions, miri)) {
        return vec![T::NAN; numbers];
    }
    let mut all = Vec::with_capacity(numbers);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let start: *mut T = all.as_mut_ptr();
        // SAFETY: to the compiler, the assembly writes what it likes to the memory that it is given the address of, here the vector's own, and to nothing else; so each number holds some bits, and
        // any bits are a number. On the processor it is no instruction: the memory keeps the bits that it has. The vector has room for all of them.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
            all.set_len(numbers);
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    all.resize(numbers, T::NAN);
    all
}

#[cfg(test)]
mod tests {
    use super::unwritten;
    use half::bf16;

    #[test]
    fn new_memory_has_its_length_and_is_its_owners() {
        for numbers in [0, 1, 4097] {
            let (mut a, mut b) = (unwritten::<f64>(numbers), unwritten::<bf16>(numbers));
            assert_eq!((a.len(), b.len()), (numbers, numbers));
            a.fill(1.0);
            b.fill(bf16::ONE);
            assert!(a.iter().all(|x| *x == 1.0) && b.iter().all(|x| *x == bf16::ONE));
        }
        if cfg!(debug_assertions) {
            assert!(unwritten::<f32>(3).iter().all(|x| x.is_nan()));
        }
    }
}
