//! ALiBi from its paper and its authors' code (arXiv 2108.12409).

/// The slopes of `heads` heads: a geometric sequence from 2^(−8/n) for a power of two, else those of the power of two below and every second one of twice as many.
/// Empty for no heads.
pub fn slopes(heads: usize) -> Vec<f64> {
    if heads == 0 {
        return Vec::new();
    }
    if heads.is_power_of_two() {
        let start = 2f64.powf(-8.0 / heads as f64);
        return (1..=heads as i32).map(|h| start.powi(h)).collect();
    }
    let below = heads.next_power_of_two() / 2;
    let mut all = slopes(below);
    all.extend(slopes(2 * below).iter().step_by(2).take(heads - below));
    all
}

/// MPT's rule: slopes of the power of two at or above `heads`, every second one first.
pub fn slopes_mpt(heads: usize, bias_max: f64) -> Vec<f64> {
    let above = heads.next_power_of_two();
    let all: Vec<f64> = (1..=above).map(|h| 1.0 / 2f64.powf(h as f64 * (bias_max / above as f64))).collect();
    if above == heads {
        return all;
    }
    let odd = all.iter().skip(1).step_by(2);
    odd.chain(all.iter().step_by(2)).copied().take(heads).collect()
}

/// `−m(i − j)`, or `−m|i − j|`: `[heads, q_len, k_len]`.
pub fn bias(slopes: &[f64], symmetric: bool, q_at: &[Option<f64>], k_at: &[Option<f64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for m in slopes {
        for i in q_at {
            for j in k_at {
                out.push(match (i, j) {
                    (Some(i), Some(j)) if symmetric => -m * (i - j).abs(),
                    (Some(i), Some(j)) => -m * (i - j),
                    _ => 0.0,
                });
            }
        }
    }
    out
}
