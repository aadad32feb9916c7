//! KERPLE's two kernels from its paper (arXiv 2205.09921) and its authors' code.

/// `−p·ln(1 + a·|Δ|)`, or with `power` `−a·|Δ|^p`.
pub fn bias_at(power: bool, p: f64, a: f64, distance: f64) -> f64 {
    let a = a.max(0.01);
    match power {
        false => -p.max(0.01) * (1.0 + a * distance).ln(),
        true => -a * distance.powf(p.clamp(0.01, 2.0)),
    }
}

/// Its derivatives by p and a; 0 by a number beyond its range.
pub fn slopes_at(power: bool, p: f64, a: f64, distance: f64) -> [f64; 2] {
    let (free_p, free_a) = (p >= 0.01 && (!power || p <= 2.0), a >= 0.01);
    let (p, a) = (if power { p.clamp(0.01, 2.0) } else { p.max(0.01) }, a.max(0.01));
    let [by_p, by_a] = match power {
        false => [-(1.0 + a * distance).ln(), -p * distance / (1.0 + a * distance)],
        true if distance == 0.0 => [0.0, 0.0],
        true => [-a * distance.powf(p) * distance.ln(), -distance.powf(p)],
    };
    [if free_p { by_p } else { 0.0 }, if free_a { by_a } else { 0.0 }]
}

/// The bias of `p` and `a`, `[heads]` each: `[heads, q_len, k_len]`.
pub fn bias(power: bool, p: &[f64], a: &[f64], q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for (p, a) in p.iter().zip(a) {
        for i in q_at {
            for j in k_at {
                out.push(match (i, j) {
                    (Some(i), Some(j)) => bias_at(power, *p, *a, i.abs_diff(*j) as f64),
                    _ => 0.0,
                });
            }
        }
    }
    out
}

/// From the gradient of the bias, `[heads, q_len, k_len]`, to those of p and a.
pub fn adjoint(power: bool, p: &[f64], a: &[f64], q_at: &[Option<i64>], k_at: &[Option<i64>], d_bias: &[f64]) -> [Vec<f64>; 2] {
    let (mut dp, mut da) = (vec![0.0; p.len()], vec![0.0; a.len()]);
    for (index, d) in d_bias.iter().enumerate() {
        let (head, pair) = (index / (q_at.len() * k_at.len()), index % (q_at.len() * k_at.len()));
        if let (Some(i), Some(j)) = (q_at[pair / k_at.len()], k_at[pair % k_at.len()]) {
            let slopes = slopes_at(power, p[head], a[head], i.abs_diff(j) as f64);
            dp[head] += d * slopes[0];
            da[head] += d * slopes[1];
        }
    }
    [dp, da]
}
