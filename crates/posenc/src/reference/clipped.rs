//! The clipped table of seed document 003.

use crate::bias::Direction;

/// `w[clip(distance, ±k) + k, head]` with `table` `[2k + 1, heads]`: `[heads, q_len, k_len]`.
pub fn bias(table: &[f64], heads: usize, direction: Direction, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let k = (table.len() / heads) as i64 / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for i in q_at {
            for j in k_at {
                out.push(match (i, j) {
                    (Some(i), Some(j)) => {
                        let distance = match direction {
                            Direction::KeyMinusQuery => j - i,
                            Direction::QueryMinusKey => i - j,
                        };
                        let row = distance.clamp(-k, k) + k;
                        table[row as usize * heads + head]
                    }
                    _ => 0.0,
                });
            }
        }
    }
    out
}
