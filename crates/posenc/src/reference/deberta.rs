//! DeBERTa's rows of distances (arXiv 2006.03654). Its scores are [`relative::Head`](super::relative::Head) with K and Q.

/// The log bucket of a distance query − key, in exact arithmetic as far as f64 has it: upstream rounds each step to f32, which moves a bucket where the quotient of the logarithms is a whole number.
pub fn bucket(distance: i64, buckets: usize, max_distance: usize) -> i64 {
    let near = buckets as f64 / 2.0;
    let near = near.floor();
    let n = distance.abs() as f64;
    if n <= near {
        return distance;
    }
    let far = (n / near).ln() / ((max_distance as f64 - 1.0) / near).ln() * (near - 1.0);
    ((far.ceil() + near) * distance.signum() as f64) as i64
}

/// The row of `2·span` that a pair reads.
pub fn row(span: usize, bucket: impl Fn(i64) -> i64, i: Option<i64>, j: Option<i64>) -> Option<usize> {
    Some((bucket(i? - j?) + span as i64).clamp(0, 2 * span as i64 - 1) as usize)
}
