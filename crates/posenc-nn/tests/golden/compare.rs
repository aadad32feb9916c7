//! Ours, theirs and the bound.

use super::bounded::Bounded;

/// How near a tensor came to its bound: 1 is at the bound.
#[derive(Clone, Debug, Default)]
pub struct Worst {
    pub tensor: String,
    pub ratio: f64,
}

impl Worst {
    pub fn or(self, other: Worst) -> Worst {
        if other.ratio > self.ratio { other } else { self }
    }
}

/// Both computations lie within the bound of the exact value; else which of them does not, where, and by how much.
pub fn within(tensor: &str, shape: &[usize], ours: &[f32], theirs: &[f32], exact: &[Bounded]) -> Result<Worst, String> {
    within_each(tensor, shape, [(ours, exact), (theirs, exact)])
}

/// As [`within`], where the two computations round differently: ours and the record's, each with its own bounds of the same exact values.
pub fn within_each(tensor: &str, shape: &[usize], sides: [(&[f32], &[Bounded]); 2]) -> Result<Worst, String> {
    let [(ours, by_us), (theirs, by_them)] = sides;
    if ours.len() != theirs.len() || by_us.len() != theirs.len() || by_them.len() != theirs.len() {
        return Err(format!(
            "{tensor}: {} numbers are expected for the record's {}, {} were computed",
            by_us.len(),
            theirs.len(),
            ours.len()
        ));
    }
    let mut worst = Worst {
        tensor: tensor.to_string(),
        ratio: 0.0,
    };
    let mut failure: Option<(f64, String)> = None;
    for flat in 0..theirs.len() {
        let (ours, theirs) = (ours[flat], theirs[flat]);
        for (side, number, exact) in [("ours", ours, by_us[flat]), ("the record", theirs, by_them[flat])] {
            let error = (f64::from(number) - exact.value).abs();
            if error <= exact.allowed() {
                worst.ratio = worst.ratio.max(if error > 0.0 { error / exact.allowed() } else { 0.0 });
            } else if failure.as_ref().is_none_or(|(largest, _)| error > *largest || error.is_nan()) {
                let message = format!(
                    "{tensor}{:?}: {side} is wrong by {error:.3e}, allowed {:.3e} (exact {:.9e}, ours {ours:.9e}, the record {theirs:.9e})",
                    index(shape, flat),
                    exact.allowed(),
                    exact.value,
                );
                failure = Some((error, message));
            }
        }
    }
    match failure {
        Some((_, message)) => Err(message),
        None => Ok(worst),
    }
}

/// Whole numbers, or copies: nothing may differ.
pub fn equal<T: PartialEq + std::fmt::Debug>(tensor: &str, shape: &[usize], ours: &[T], theirs: &[T]) -> Result<Worst, String> {
    if ours.len() != theirs.len() {
        return Err(format!("{tensor}: {} numbers, the record has {}", ours.len(), theirs.len()));
    }
    match ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs) {
        Some(flat) => Err(format!(
            "{tensor}{:?}: ours {:?}, the record {:?}; no difference is allowed",
            index(shape, flat),
            ours[flat],
            theirs[flat]
        )),
        None => Ok(Worst {
            tensor: tensor.to_string(),
            ratio: 0.0,
        }),
    }
}

fn index(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, axis) in index.iter_mut().zip(shape).rev() {
        *i = flat % axis.max(&1);
        flat /= axis.max(&1);
    }
    index
}
