//! Music Transformer's rows and its skew (arXiv 1809.04281), for one head.

/// The row of a table of `rows` that a pair reads: the last one for the query's own position; `None` for keys after the query and where either has no position. Distances past the table read
/// its first row.
pub fn row(rows: usize, i: Option<i64>, j: Option<i64>) -> Option<usize> {
    let distance = i? - j?;
    (distance >= 0).then(|| rows - 1 - (distance as usize).min(rows - 1))
}

/// The paper's skew (section 3.4.1): from the products of `len` queries with `len` rows, `[len, len]`, to those of the pairs, keys after the query zero.
pub fn skew(products: &[f64], len: usize) -> Vec<f64> {
    // A column of zeros before the first, then the same numbers read as [len + 1, len], without the first row.
    let mut padded = Vec::new();
    for row in products.chunks_exact(len) {
        padded.push(0.0);
        padded.extend_from_slice(row);
    }
    let mut out = padded[len..].to_vec();
    for i in 0..len {
        out[i * len + i + 1..(i + 1) * len].fill(0.0);
    }
    out
}
