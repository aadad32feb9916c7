//! Checks that every layer makes before it writes.

use crate::error::{Error, Result};
use posenc::{ParamSpec, Params, Real};

/// Rows of a row-major slice of this width.
pub(crate) fn rows(what: &'static str, len: usize, width_name: &'static str, width: usize) -> Result<usize> {
    if width == 0 {
        return Err(posenc::Error::Zero { what: width_name }.into());
    }
    if !len.is_multiple_of(width) {
        return Err(posenc::Error::NotDivisible {
            what,
            value: len,
            by: width_name,
            divisor: width,
        }
        .into());
    }
    Ok(len / width)
}

/// A slice holds exactly this shape.
pub(crate) fn size(what: &'static str, len: usize, expected: &[usize]) -> Result<()> {
    if expected.iter().try_fold(1usize, |size, axis| size.checked_mul(*axis)) == Some(len) {
        return Ok(());
    }
    Err(posenc::Error::Shape {
        what,
        expected: expected.to_vec(),
        given: vec![len],
    }
    .into())
}

/// A norm's ε in the precision of the arithmetic. Of 0 and a row without spread a norm would make 0/0.
pub(crate) fn epsilon<R: Real>(eps: f64) -> Result<R> {
    let narrow = R::of(eps);
    if narrow > R::ZERO && narrow.is_finite() {
        return Ok(narrow);
    }
    Err(posenc::Error::Invalid {
        what: "ε of a norm",
        given: eps.to_string(),
        expected: "a positive number in the precision of the arithmetic",
    }
    .into())
}

/// A tensor of a store, with its shape checked.
pub(crate) fn tensor<'p, R: Real>(params: &'p Params<R>, spec: &ParamSpec) -> Result<&'p [R]> {
    Ok(params.bound("", "").get(spec)?)
}

/// The gradient of a tensor, with its shape checked.
pub(crate) fn gradient<'p, R: Real>(grads: &'p mut Params<R>, spec: &ParamSpec) -> Result<&'p mut [R]> {
    let known = grads.bound("", "").get(spec).map(|_| ());
    known?;
    Ok(grads.get_mut(&spec.name)?)
}

/// Two stores hold the same tensors in the same order.
pub(crate) fn same_layout<R: Real>(a: &Params<R>, b: &Params<R>) -> Result<()> {
    let (a, b) = (a.specs(), b.specs());
    for i in 0..a.len().max(b.len()) {
        let (Some(x), Some(y)) = (a.get(i), b.get(i)) else {
            let name = a.get(i).or(b.get(i)).map_or_else(String::new, |spec| spec.name.clone());
            return Err(Error::Layout { name });
        };
        if x.name != y.name || x.shape != y.shape {
            return Err(Error::Layout { name: x.name.clone() });
        }
    }
    Ok(())
}

/// A name under a prefix; an empty prefix changes nothing.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    }
}
