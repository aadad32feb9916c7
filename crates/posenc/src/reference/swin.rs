//! Swin's table of offsets (arXiv 2103.14030) and Swin v2's network of them (arXiv 2111.09883).

/// A cell: row and column.
pub type Cell = Option<(i64, i64)>;

/// `table[(Δy + M_h − 1)·(2M_w − 1) + Δx + M_w − 1, head]` with Δ the query's cell minus the key's and `table` `[(2M_h − 1)·(2M_w − 1), heads]`: `[heads, q_len, k_len]`.
pub fn table_bias(table: &[f64], window: [usize; 2], q_at: &[Cell], k_at: &[Cell]) -> Vec<f64> {
    let [high, wide] = window.map(|side| side as i64);
    let heads = table.len() / ((2 * high - 1) * (2 * wide - 1)) as usize;
    let mut out = Vec::new();
    for head in 0..heads {
        for q in q_at {
            for k in k_at {
                out.push(match (q, k) {
                    (Some(q), Some(k)) => {
                        let row = (q.0 - k.0 + high - 1) * (2 * wide - 1) + q.1 - k.1 + wide - 1;
                        table[row as usize * heads + head]
                    }
                    _ => 0.0,
                });
            }
        }
    }
    out
}

/// An offset as the network sees it: `sign(x)·log₂(1 + |x|) / 3` of `x = 8·Δ / (M − 1)`.
pub fn log_offset(offset: i64, side: usize) -> f64 {
    let x = 8.0 * offset as f64 / (side.max(2) - 1) as f64;
    x.signum() * (1.0 + x.abs()).log2() / 3.0
}

/// `16·sigmoid(W₂·relu(W₁·(y, x) + b₁))`, with `first` `[hidden, 2]` and `second` `[heads, hidden]`: `[heads, q_len, k_len]`.
pub fn cpb(first: &[f64], first_bias: &[f64], second: &[f64], window: [usize; 2], q_at: &[Cell], k_at: &[Cell]) -> Vec<f64> {
    let mut out = Vec::new();
    for weights in second.chunks_exact(first_bias.len()) {
        for q in q_at {
            for k in k_at {
                out.push(match (q, k) {
                    (Some(q), Some(k)) => {
                        let (y, x) = (log_offset(q.0 - k.0, window[0]), log_offset(q.1 - k.1, window[1]));
                        let units = first
                            .chunks_exact(2)
                            .zip(first_bias)
                            .map(|(w, b)| (w[0] * y + w[1] * x + b).max(0.0));
                        let logit: f64 = units.zip(weights).map(|(unit, weight)| unit * weight).sum();
                        16.0 / (1.0 + (-logit).exp())
                    }
                    _ => 0.0,
                });
            }
        }
    }
    out
}
