//! New memory for results, and all `unsafe` of the crate.
//!
//! What is written as a whole needs no zeros first. Below 32 MiB, glibc gives back memory that was freed before, which zeros cost a pass over: as much as a third of a rotation in 16 bits.
#![allow(unsafe_code, reason = "memory that is written before it is read")]

use crate::error::{Error, Result};
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

/// Numbers for a tensor of this shape, whatever they are: for results of which every number is written before anybody reads one. With debug assertions they are NaN, so that a test sees one that is not
/// written; in a release it would show what memory held before.
///
/// # Errors
/// A shape that memory does not hold.
pub(crate) fn unwritten<T: AnyBits>(what: &'static str, shape: &[usize]) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let numbers = match shape.contains(&0) {
        true => Some(0),
        false => shape.iter().try_fold(1usize, |numbers, axis| numbers.checked_mul(*axis)),
    };
    let Some(numbers) = numbers.filter(|numbers| all.try_reserve_exact(*numbers).is_ok()) else {
        return Err(Error::Core(posenc::Error::Invalid {
            what,
            given: format!("shape {shape:?} of {} bytes each", size_of::<T>()),
            expected: "what memory can hold",
        }));
    };
    if cfg!(any(debug_assertions, miri)) || cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        all.resize(numbers, T::NAN);
        return Ok(all);
    }
    #[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let start: *mut T = all.as_mut_ptr();
        // SAFETY: to the compiler, the assembly writes what it likes to the memory that it is given the address of, here the vector's own, and to nothing else; so each number holds some bits, and
        // any bits are a number. On the processor it is no instruction. No number is read before it is written, so it does not matter which bits they are, nor whether the system changes them until then.
        // The vector has room for all of them.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
            all.set_len(numbers);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::unwritten;
    use half::bf16;

    #[test]
    fn new_memory_has_its_length_and_is_its_owners() {
        for numbers in [0, 1, 4097] {
            let (mut a, mut b) = (
                unwritten::<f64>("a", &[numbers]).unwrap(),
                unwritten::<bf16>("b", &[1, numbers]).unwrap(),
            );
            assert_eq!((a.len(), b.len()), (numbers, numbers));
            a.fill(1.0);
            b.fill(bf16::ONE);
            assert!(a.iter().all(|x| *x == 1.0) && b.iter().all(|x| *x == bf16::ONE));
        }
        if cfg!(debug_assertions) {
            assert!(unwritten::<f32>("x", &[3]).unwrap().iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn shapes_that_memory_does_not_hold_are_errors() {
        for shape in [vec![usize::MAX, 2], vec![1 << 40, 1 << 20], vec![1 << 59]] {
            let error = unwritten::<f64>("x", &shape).unwrap_err().to_string();
            assert!(error.contains(&format!("{shape:?}")) && error.contains("memory"), "{error}");
        }
        assert!(unwritten::<f64>("x", &[usize::MAX, 0, 2]).unwrap().is_empty());
    }
}
