//! Shaw's relative keys and values (arXiv 1803.02155), for one head.

/// The table row of a pair: `clip(j − i, ±k) + k`; `None` if either has no position.
pub fn row(rows: usize, i: Option<i64>, j: Option<i64>) -> Option<usize> {
    let k = rows as i64 / 2;
    Some(((j? - i?).clamp(-k, k) + k) as usize)
}

/// `scale · qᵢ · aᴷ[r(i, j)]` with `q` `[q_len, dim]` and `table` `[2k + 1, dim]`: `[q_len, k_len]`.
pub fn key_scores(q: &[f64], table: &[f64], dim: usize, scale: f64, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for (t, i) in q_at.iter().enumerate() {
        for j in k_at {
            out.push(match row(table.len() / dim, *i, *j) {
                Some(r) => scale * (0..dim).map(|d| q[t * dim + d] * table[r * dim + d]).sum::<f64>(),
                None => 0.0,
            });
        }
    }
    out
}

/// `Σⱼ p(i, j) aⱽ[r(i, j)]` with `p` `[q_len, k_len]` and `table` `[2k + 1, dim]`: `[q_len, dim]`.
pub fn values(p: &[f64], table: &[f64], dim: usize, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let mut out = vec![0.0; q_at.len() * dim];
    for (t, i) in q_at.iter().enumerate() {
        for (u, j) in k_at.iter().enumerate() {
            if let Some(r) = row(table.len() / dim, *i, *j) {
                for d in 0..dim {
                    out[t * dim + d] += p[t * k_at.len() + u] * table[r * dim + d];
                }
            }
        }
    }
    out
}
