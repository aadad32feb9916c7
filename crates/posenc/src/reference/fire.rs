//! FIRE (arXiv 2310.04418): a small network of a normalised distance, pair by pair.

/// What FIRE learns, and the length it begins with.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[hidden]`: weights of the first layer, which has one input.
    pub first: Vec<f64>,
    /// `[hidden]`.
    pub first_bias: Vec<f64>,
    /// `[heads, hidden]`.
    pub second: Vec<f64>,
    /// `[heads]`.
    pub second_bias: Vec<f64>,
    /// c.
    pub c: f64,
    /// w, which multiplies the length.
    pub w: f64,
    /// L₀, which is not learned.
    pub length: f64,
}

/// ψ(x) = ln(|c|·x + 1).
fn psi(c: f64, x: f64) -> f64 {
    (c.abs() * x).ln_1p()
}

impl Weights {
    /// The denominator of a query at position i: ψ(max(i, |w·L₀|)) + 1e-6.
    pub fn norm(&self, i: f64) -> f64 {
        psi(self.c, i.max((self.w * self.length).abs())) + 1e-6
    }

    /// The network's value for a head at u.
    pub fn mlp(&self, head: usize, u: f64) -> f64 {
        let hidden = self.first.len();
        let units = (0..hidden).map(|m| self.second[head * hidden + m] * (self.first[m] * u + self.first_bias[m]).max(0.0));
        self.second_bias[head] + units.sum::<f64>()
    }

    /// `[heads, q_len, k_len]`.
    pub fn bias(&self, q_at: &[Option<i64>], k_at: &[Option<i64>]) -> Vec<f64> {
        let mut out = Vec::new();
        for head in 0..self.second_bias.len() {
            for i in q_at {
                for j in k_at {
                    out.push(match (i, j) {
                        (Some(i), Some(j)) => self.mlp(head, psi(self.c, i.abs_diff(*j) as f64) / self.norm(*i as f64)),
                        _ => 0.0,
                    });
                }
            }
        }
        out
    }

    /// From the gradient of the bias to those of everything that is learned, in the order of the fields. Where a unit is exactly 0 it has the gradient 0, and where i is |w·L₀| half of the
    /// gradient goes to w: as PyTorch has it.
    pub fn adjoint(&self, q_at: &[Option<i64>], k_at: &[Option<i64>], d_bias: &[f64]) -> Weights {
        let hidden = self.first.len();
        let mut grads = Weights {
            first: vec![0.0; hidden],
            first_bias: vec![0.0; hidden],
            second: vec![0.0; self.second.len()],
            second_bias: vec![0.0; self.second_bias.len()],
            c: 0.0,
            w: 0.0,
            length: 0.0,
        };
        for (index, d) in d_bias.iter().enumerate() {
            let (head, pair) = (index / (q_at.len() * k_at.len()), index % (q_at.len() * k_at.len()));
            let (Some(i), Some(j)) = (q_at[pair / k_at.len()], k_at[pair % k_at.len()]) else {
                continue;
            };
            let (i, distance, norm) = (i as f64, i.abs_diff(j) as f64, self.norm(i as f64));
            let u = psi(self.c, distance) / norm;
            grads.second_bias[head] += d;
            let mut du = 0.0;
            for m in 0..hidden {
                let unit = self.first[m] * u + self.first_bias[m];
                if unit <= 0.0 {
                    continue;
                }
                let weight = self.second[head * hidden + m];
                grads.second[head * hidden + m] += d * unit;
                grads.first[m] += d * weight * u;
                grads.first_bias[m] += d * weight;
                du += d * weight * self.first[m];
            }
            let sign = if self.c == 0.0 { 0.0 } else { self.c.signum() };
            let threshold = (self.w * self.length).abs();
            let farthest = i.max(threshold);
            let by_c = |x: f64| sign * x / (self.c.abs() * x + 1.0);
            grads.c += du * (by_c(distance) - u * by_c(farthest)) / norm;
            let share = if i < threshold {
                1.0
            } else if i == threshold {
                0.5
            } else {
                0.0
            };
            let by_w = self.c.abs() / (self.c.abs() * farthest + 1.0) * (self.w * self.length).signum() * self.length;
            grads.w -= share * du * u / norm * by_w;
        }
        grads
    }
}
