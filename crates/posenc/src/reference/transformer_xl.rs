//! Transformer-XL's sinusoids of distances (arXiv 1901.02860). Its scores are [`relative::Head`](super::relative::Head) with K, u and v.

/// `(sin n·ω₀, sin n·ω₁, …, cos n·ω₀, …)` of a distance n, ω as in the paper; or sines and cosines in turn.
pub fn sinusoid(n: i64, width: usize, interleaved: bool) -> Vec<f64> {
    let angle = |i: usize| n as f64 / 10_000f64.powf(2.0 * i as f64 / width as f64);
    (0..width)
        .map(|c| match (interleaved, c % 2, c < width / 2) {
            (true, 0, _) => angle(c / 2).sin(),
            (true, _, _) => angle(c / 2).cos(),
            (false, _, true) => angle(c).sin(),
            (false, _, false) => angle(c - width / 2).cos(),
        })
        .collect()
}

/// The paper's shift (appendix B): from the products of queries with the rows of the distances k_len − 1, …, 0, `[q_len, k_len]`, to those of the pairs. The last query is at the last key.
/// Right for keys up to the query; what lies after it is left over from other rows.
pub fn shift(products: &[f64], q_len: usize) -> Vec<f64> {
    let k_len = products.len() / q_len;
    let mut padded = Vec::new();
    for row in products.chunks_exact(k_len) {
        padded.push(0.0);
        padded.extend_from_slice(row);
    }
    padded[q_len..].to_vec()
}
