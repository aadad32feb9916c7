//! Memory that is asked for before anything is written: where there is none, an error instead of an end of the process.

use crate::error::{Error, Result};
use std::hint::black_box;

/// Memory for a tensor of `T` of this shape can be had: it is asked for and given back. The numbers of the tensor.
///
/// What is made afterwards asks again, and is refused only if another thread has taken the memory in between.
///
/// # Errors
/// More numbers than a `usize` counts, or more than memory holds now.
pub(crate) fn check<T>(what: &'static str, shape: &[usize]) -> Result<usize> {
    let mut asked = Vec::<T>::new();
    let numbers = product(shape).filter(|numbers| asked.try_reserve_exact(*numbers).is_ok());
    // Or the optimiser leaves out what is only asked for and given back, and takes it for granted.
    black_box(&mut asked);
    numbers.ok_or_else(|| refused(what, shape))
}

/// Room in a buffer for a tensor of this shape, whatever is in it: grown by amortised steps, and not at all where it is large enough. The numbers of the tensor.
///
/// # Errors
/// As [`check`].
pub(crate) fn reserve<T>(what: &'static str, buffer: &mut Vec<T>, shape: &[usize]) -> Result<usize> {
    let numbers = product(shape).filter(|numbers| {
        let more = numbers.saturating_sub(buffer.len());
        buffer.try_reserve(more).or_else(|_| buffer.try_reserve_exact(more)).is_ok()
    });
    numbers.ok_or_else(|| refused(what, shape))
}

/// A tensor of this shape is one that memory could hold, whatever it holds now: a view that repeats a few rows may be longer, and a sum over it would not end.
///
/// # Errors
/// More bytes than an `isize` counts.
pub(crate) fn countable<T>(what: &'static str, shape: &[usize]) -> Result<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    let bytes = product(shape).and_then(|numbers| numbers.checked_mul(size_of::<T>().max(1)));
    match bytes {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(refused(what, shape)),
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))
}

fn refused(what: &'static str, shape: &[usize]) -> Error {
    Error::Invalid {
        what,
        given: shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" · "),
        expected: "what memory can hold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_holds_is_refused_and_the_rest_is_counted() {
        assert_eq!(check::<f32>("rows", &[2, 3, 4]), Ok(24));
        assert_eq!(check::<f32>("rows", &[usize::MAX, 0]), Ok(0));
        let mut buffer = vec![1u8; 3];
        assert_eq!(reserve("rows", &mut buffer, &[2, 50]), Ok(100));
        assert!(buffer.capacity() >= 100 && buffer == [1; 3]);
        assert!(reserve("rows", &mut buffer, &[usize::MAX, 1]).is_err());
        for shape in [&[usize::MAX, 2][..], &[1 << 61], &[1 << 31, 1 << 29]] {
            let error = check::<f64>("rows", shape).unwrap_err();
            assert!(matches!(error, Error::Invalid { what: "rows", .. }), "{error}");
        }
        assert_eq!(
            check::<f64>("rows", &[1 << 31, 1 << 31]).unwrap_err().to_string(),
            "rows = 2147483648 · 2147483648; expected what memory can hold"
        );
    }
}
