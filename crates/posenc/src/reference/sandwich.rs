//! Sandwich (arXiv 2212.10356): what two sinusoidal vectors have in common, by distance.

/// `(Σ_k cos(Δ·base^(−2k/width)) − width/2) / (8h/H)` for head h = 1 … H, with width/2 frequencies k = first, first + 1, …: `[heads, q_len, k_len]`.
pub fn bias(heads: usize, [width, first]: [usize; 2], base: f64, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for head in 1..=heads {
        for i in q_at {
            for j in k_at {
                out.push(match (i, j) {
                    (Some(i), Some(j)) => {
                        let distance = i.abs_diff(*j) as f64;
                        let cosines = (0..width / 2).map(|k| (distance * base.powf(-2.0 * (k + first) as f64 / width as f64)).cos());
                        (cosines.sum::<f64>() - (width / 2) as f64) / (8.0 * head as f64 / heads as f64)
                    }
                    _ => 0.0,
                });
            }
        }
    }
    out
}
