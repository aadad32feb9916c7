//! A table added to the inputs of queries and keys, as written in [`input::table`](crate::input::table).

/// `x[t] += table[ids[t]]`; a token whose id is `None` stays as it is. Once for the queries, once for the keys; values are not passed here at all.
///
/// ```
/// assert_eq!(posenc::reference::input::add(&[1.0, 2.0], &[Some(1), None], &[0.0, 10.0], 1), [11.0, 2.0]);
/// ```
pub fn add(x: &[f64], ids: &[Option<usize>], table: &[f64], width: usize) -> Vec<f64> {
    let mut out = x.to_vec();
    for (t, id) in ids.iter().enumerate() {
        for c in 0..width {
            if let Some(id) = id {
                out[t * width + c] += table[id * width + c];
            }
        }
    }
    out
}

/// The gradient of the table from both streams: `(ids, gradient)` of the queries and of the keys.
///
/// ```
/// let (q, k) = ((&[Some(1)][..], &[1.0][..]), (&[Some(1), None][..], &[2.0, 4.0][..]));
/// assert_eq!(posenc::reference::input::add_adjoint([q, k], 2, 1), [0.0, 3.0]);
/// ```
pub fn add_adjoint(streams: [(&[Option<usize>], &[f64]); 2], rows: usize, width: usize) -> Vec<f64> {
    let mut d_table = vec![0.0; rows * width];
    for (ids, dx) in streams {
        for (t, id) in ids.iter().enumerate() {
            for c in 0..width {
                if let Some(id) = id {
                    d_table[id * width + c] += dx[t * width + c];
                }
            }
        }
    }
    d_table
}
