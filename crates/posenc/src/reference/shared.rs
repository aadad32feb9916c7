//! The subtracted table of symm-learning's `AdditiveRelMultiheadAttention`.

/// `−φ[clip(i − j, ±k) + k]` with `table` `[2k + 1]`: `[q_len, k_len]`, for every head.
pub fn bias(table: &[f64], q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let k = table.len() as i64 / 2;
    let mut out = Vec::new();
    for i in q_at {
        for j in k_at {
            out.push(match (i, j) {
                (Some(i), Some(j)) => -table[((i - j).clamp(-k, k) + k) as usize],
                _ => 0.0,
            });
        }
    }
    out
}
