//! Learned absolute positions, as written in [`embed::learned`](crate::embed::learned).

/// `out[t] = table[ids[t]]`, rows of `width`.
///
/// ```
/// assert_eq!(posenc::reference::learned::lookup(&[1, 0], &[1.0, 2.0, 3.0, 4.0], 2), [3.0, 4.0, 1.0, 2.0]);
/// ```
pub fn lookup(ids: &[usize], table: &[f64], width: usize) -> Vec<f64> {
    ids.iter().flat_map(|id| table[id * width..(id + 1) * width].to_vec()).collect()
}

/// The gradient of the table: `d_table[ids[t]] += d_out[t]`, from zero.
///
/// ```
/// assert_eq!(posenc::reference::learned::lookup_adjoint(&[1, 1], &[1.0, 2.0], 2, 1), [0.0, 3.0]);
/// ```
pub fn lookup_adjoint(ids: &[usize], d_out: &[f64], rows: usize, width: usize) -> Vec<f64> {
    let mut d_table = vec![0.0; rows * width];
    for (t, id) in ids.iter().enumerate() {
        for c in 0..width {
            d_table[id * width + c] += d_out[t * width + c];
        }
    }
    d_table
}

/// A table stretched linearly to `len` rows; its first and last row stay first and last.
///
/// ```
/// assert_eq!(posenc::reference::learned::stretched(&[0.0, 1.0], 1, 3), [0.0, 0.5, 1.0]);
/// ```
pub fn stretched(table: &[f64], width: usize, len: usize) -> Vec<f64> {
    let rows = table.len() / width;
    let mut out = Vec::new();
    for t in 0..len {
        let x = t as f64 * (rows - 1) as f64 / (len - 1) as f64;
        let (low, high, weight) = (x.floor() as usize, x.ceil() as usize, x - x.floor());
        for c in 0..width {
            out.push((1.0 - weight) * table[low * width + c] + weight * table[high * width + c]);
        }
    }
    out
}
