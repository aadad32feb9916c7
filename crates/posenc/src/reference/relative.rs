//! What Transformer-XL, XLNet, DeBERTa and Music Transformer have in common, for one head: rows of tables by distance, read by queries and by keys.

/// The inputs of one head. Matrices are row-major with rows of `dim`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Width of a row.
    pub dim: usize,
    /// What q·k is multiplied by.
    pub scale: f64,
    /// Queries.
    pub q: &'a [f64],
    /// Keys.
    pub k: &'a [f64],
    /// K: what queries read.
    pub keys: Option<&'a [f64]>,
    /// Q: what keys read.
    pub queries: Option<&'a [f64]>,
    /// u.
    pub u: Option<&'a [f64]>,
    /// v.
    pub v: Option<&'a [f64]>,
}

/// Gradients, of the shapes of [`Head`]'s fields; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadGrads {
    /// Of the queries.
    pub dq: Vec<f64>,
    /// Of the keys.
    pub dk: Vec<f64>,
    /// Of K.
    pub keys: Vec<f64>,
    /// Of Q.
    pub queries: Vec<f64>,
    /// Of u.
    pub u: Vec<f64>,
    /// Of v.
    pub v: Vec<f64>,
}

fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

impl<'a> Head<'a> {
    fn row(&self, of: &'a [f64], i: usize) -> &'a [f64] {
        &of[i * self.dim..][..self.dim]
    }

    fn query(&self, i: usize) -> Vec<f64> {
        let q = self.row(self.q, i);
        self.v.map_or(q.to_vec(), |v| q.iter().zip(v).map(|(q, v)| q + v).collect())
    }

    /// `scale · [(qᵢ + v)·K[r] + u·kⱼ + kⱼ·Q[r]]` with `r = row(i, j)`, `[q_len, k_len]`. Where there is no row, u·kⱼ remains.
    pub fn scores(&self, row: impl Fn(usize, usize) -> Option<usize>) -> Vec<f64> {
        let (q_len, k_len) = (self.q.len() / self.dim, self.k.len() / self.dim);
        let mut out = Vec::new();
        for i in 0..q_len {
            for j in 0..k_len {
                let k = self.row(self.k, j);
                let mut s = self.u.map_or(0.0, |u| inner(u, k));
                if let Some(r) = row(i, j) {
                    s += self.keys.map_or(0.0, |keys| inner(&self.query(i), self.row(keys, r)));
                    s += self.queries.map_or(0.0, |queries| inner(k, self.row(queries, r)));
                }
                out.push(self.scale * s);
            }
        }
        out
    }

    /// The gradients of `Σ ds·scores`.
    pub fn adjoint(&self, ds: &[f64], row: impl Fn(usize, usize) -> Option<usize>) -> HeadGrads {
        let (q_len, k_len, dim) = (self.q.len() / self.dim, self.k.len() / self.dim, self.dim);
        let zeros = |x: Option<&[f64]>| vec![0.0; x.map_or(0, <[f64]>::len)];
        let mut grads = HeadGrads {
            dq: vec![0.0; self.q.len()],
            dk: vec![0.0; self.k.len()],
            keys: zeros(self.keys),
            queries: zeros(self.queries),
            u: zeros(self.u),
            v: zeros(self.v),
        };
        for i in 0..q_len {
            for j in 0..k_len {
                let d = self.scale * ds[i * k_len + j];
                for c in 0..dim {
                    let k = self.k[j * dim + c];
                    if let Some(u) = self.u {
                        grads.dk[j * dim + c] += d * u[c];
                        grads.u[c] += d * k;
                    }
                    let Some(r) = row(i, j) else { continue };
                    if let Some(keys) = self.keys {
                        grads.dq[i * dim + c] += d * keys[r * dim + c];
                        grads.keys[r * dim + c] += d * self.query(i)[c];
                        if self.v.is_some() {
                            grads.v[c] += d * keys[r * dim + c];
                        }
                    }
                    if let Some(queries) = self.queries {
                        grads.dk[j * dim + c] += d * queries[r * dim + c];
                        grads.queries[r * dim + c] += d * k;
                    }
                }
            }
        }
        grads
    }
}
