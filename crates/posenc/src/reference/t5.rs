//! T5's buckets from its code (arXiv 1910.10683), in f64.

/// The bucket of `key − query`.
pub fn bucket(relative: i64, bidirectional: bool, buckets: usize, max_distance: usize) -> usize {
    let (mut first, mut buckets, mut n) = (0, buckets, (-relative).max(0) as usize);
    if bidirectional {
        buckets /= 2;
        n = relative.unsigned_abs() as usize;
        if relative > 0 {
            first = buckets;
        }
    }
    let exact = buckets / 2;
    if n < exact {
        return first + n;
    }
    let share = (n as f64 / exact as f64).ln() / (max_distance as f64 / exact as f64).ln();
    let wide = exact + (share * (buckets - exact) as f64) as usize;
    first + wide.min(buckets - 1)
}

/// `w[bucket(j − i), head]` with `table` `[buckets, heads]`: `[heads, q_len, k_len]`.
pub fn bias(table: &[f64], heads: usize, bidirectional: bool, max_distance: usize, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for head in 0..heads {
        for i in q_at {
            for j in k_at {
                out.push(match (i, j) {
                    (Some(i), Some(j)) => table[bucket(j - i, bidirectional, table.len() / heads, max_distance) * heads + head],
                    _ => 0.0,
                });
            }
        }
    }
    out
}
