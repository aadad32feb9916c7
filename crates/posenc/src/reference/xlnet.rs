//! XLNet's relative segments (arXiv 1906.08237), for one head. Its other scores are those of Transformer-XL in both directions.

/// `scale · (qᵢ + w)·g[0 in the same segment, else 1]`, with `q` `[q_len, dim]` and `g` `[2, dim]`: `[q_len, k_len]`; 0 where a token has no segment.
pub fn segment_scores(q: &[f64], w: &[f64], g: &[f64], scale: f64, q_in: &[Option<i64>], k_in: &[Option<i64>]) -> Vec<f64> {
    let dim = w.len();
    let mut out = Vec::new();
    for (i, own) in q_in.iter().enumerate() {
        for other in k_in {
            out.push(match (own, other) {
                (Some(own), Some(other)) => {
                    let g = &g[usize::from(own != other) * dim..][..dim];
                    scale * (0..dim).map(|c| (q[i * dim + c] + w[c]) * g[c]).sum::<f64>()
                }
                _ => 0.0,
            });
        }
    }
    out
}

/// The gradients of `Σ ds·segment_scores`: of q, w and g.
pub fn segment_adjoint(
    q: &[f64],
    w: &[f64],
    g: &[f64],
    scale: f64,
    q_in: &[Option<i64>],
    k_in: &[Option<i64>],
    ds: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let dim = w.len();
    let (mut dq, mut dw, mut dg) = (vec![0.0; q.len()], vec![0.0; dim], vec![0.0; g.len()]);
    for (i, own) in q_in.iter().enumerate() {
        for (j, other) in k_in.iter().enumerate() {
            let (Some(own), Some(other)) = (own, other) else { continue };
            let (row, d) = (usize::from(own != other) * dim, scale * ds[i * k_in.len() + j]);
            for c in 0..dim {
                dq[i * dim + c] += d * g[row + c];
                dw[c] += d * g[row + c];
                dg[row + c] += d * (q[i * dim + c] + w[c]);
            }
        }
    }
    (dq, dw, dg)
}
