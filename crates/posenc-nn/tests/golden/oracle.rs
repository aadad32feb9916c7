//! Multi-head attention from its formulas, forward and adjoint, on [`Bounded`] numbers: exact values, and what f32 may make of them.

use super::bounded::{Bounded, U, dot, product, sum};
use super::rotation::turned;
use posenc::Turn;

/// Keys that one tile of an online softmax holds; each further tile corrects what came before.
const TILE: usize = 128;

/// What is asked.
pub struct Problem<'a> {
    pub batch: usize,
    pub q_len: usize,
    pub k_len: usize,
    pub width: usize,
    pub heads: usize,
    /// Query, key and value streams `[batch, seq, width]`.
    pub streams: [&'a [f32]; 3],
    pub places: Places<'a>,
    /// Projections of queries, keys, values and the output `[width, width]`.
    pub weights: [&'a [f32]; 4],
    /// And their biases.
    pub biases: Option<[&'a [f32]; 4]>,
}

/// What attention knows of where its tokens are.
pub enum Places<'a> {
    /// Nothing, or what `extra` of [`Problem::solve`] says.
    None,
    /// A row of `table` `[rows, width]` is added to the inputs of queries and keys: the row that each query and each key gets, `[batch, seq]`.
    Added { table: &'a [f32], rows: [Vec<Option<usize>>; 2] },
    /// A number of `table` is subtracted from a score, the same for all heads: the one that each pair gets, `[batch, q_len, k_len]`.
    Subtracted { table: &'a [f32], rows: Vec<Option<usize>> },
    /// Projected queries and keys are turned: the position of each query and each key, `[batch, seq]`; 0 turns nothing.
    Turned { base: f64, at: [Vec<f64>; 2] },
}

/// What comes out, with bounds; gradients are those of Σ out · d_out.
pub struct Solution {
    pub out: Vec<Bounded>,
    /// Mean over the heads.
    pub weights: Vec<Bounded>,
    pub d_streams: [Vec<Bounded>; 3],
    /// Of what [`Places`] calls its table.
    pub d_table: Vec<Bounded>,
    pub d_weights: [Vec<Bounded>; 4],
    pub d_biases: [Vec<Bounded>; 4],
}

/// One row of scores turned to weights.
pub struct Softmax {
    /// As the forward pass has them.
    pub forward: Vec<Bounded>,
    /// As an adjoint has them that computes them again from the logarithm of the sum.
    adjoint: Vec<Bounded>,
}

pub fn softmax(scores: &[Option<Bounded>]) -> Softmax {
    let zero = vec![Bounded::exact(0.0); scores.len()];
    let Some(max) = scores.iter().flatten().map(|s| s.value).reduce(f64::max) else {
        return Softmax {
            forward: zero.clone(),
            adjoint: zero,
        };
    };
    // The subtraction rounds; which score is subtracted is no error, because a common shift changes nothing.
    let shifted = |s: &Bounded| s.shifted(max).rounded(1.0);
    let tiles = scores.len().div_ceil(TILE) as f64;
    // A correction is an exponential (4) and a product (1).
    let powers: Vec<Option<Bounded>> = scores
        .iter()
        .map(|s| s.as_ref().map(|s| shifted(s).exp().rounded(5.0 * (tiles - 1.0))))
        .collect();
    let total = sum(powers.iter().flatten().copied());
    let (log, largest) = (total.value.ln(), max.abs() + total.value.ln().abs());
    let weight = |i: usize, again: bool| match (scores[i], powers[i]) {
        (Some(s), Some(power)) => {
            // Divided, or multiplied by a rounded inverse.
            let p = (power / total).rounded(1.0);
            // exp(s − lse): the logarithm (2), the sum that lse is (1), the subtraction (1) are absolute errors of the exponent.
            let exponent = 2.0 * log.abs() + largest + (s.value - max - log).abs();
            if again { p.rounded(exponent) } else { p }
        }
        _ => Bounded::exact(0.0),
    };
    Softmax {
        forward: (0..scores.len()).map(|i| weight(i, false)).collect(),
        adjoint: (0..scores.len()).map(|i| weight(i, true)).collect(),
    }
}

/// y = x·Wᵀ + b, all `width` wide: the bias is one more product, with 1, because it may be added first or last.
pub fn linear(x: &[Bounded], width: usize, w: &[f32], bias: Option<&[f32]>) -> Vec<Bounded> {
    product(
        [x.len() / width, width + usize::from(bias.is_some()), width],
        |i, l| if l < width { x[i * width + l] } else { Bounded::exact(1.0) },
        |l, j| match bias {
            Some(bias) if l == width => Bounded::exact(bias[j]),
            _ => Bounded::exact(w[j * width + l]),
        },
    )
}

impl Problem<'_> {
    fn len(&self, role: usize) -> usize {
        if role == 0 { self.q_len } else { self.k_len }
    }

    /// What a projection reads: the stream, with its row of the table.
    fn input(&self, role: usize) -> Vec<Bounded> {
        let mut x: Vec<Bounded> = self.streams[role].iter().map(|x| Bounded::exact(*x)).collect();
        if let (Places::Added { table, rows }, 0 | 1) = (&self.places, role) {
            for (x, row) in x.chunks_exact_mut(self.width).zip(&rows[role]) {
                let Some(row) = row else { continue };
                for (x, e) in x.iter_mut().zip(&table[row * self.width..]) {
                    *x = *x + Bounded::exact(*e);
                }
            }
        }
        x
    }

    fn project(&self, x: &[Bounded], role: usize) -> Vec<Bounded> {
        linear(x, self.width, self.weights[role], self.biases.map(|biases| biases[role]))
    }

    /// Turns projected queries or keys to their places, or gradients back.
    fn turn(&self, x: &mut [Bounded], role: usize, turn: Turn) {
        if let (Places::Turned { base, at }, 0 | 1) = (&self.places, role) {
            for (token, position) in x.chunks_exact_mut(self.width).zip(&at[role]) {
                for head in token.chunks_exact_mut(self.width / self.heads) {
                    turned(head, head.len(), *base, *position, turn);
                }
            }
        }
    }

    /// What is taken from the score of a pair, in every head.
    fn subtracted(&self, b: usize, i: usize, j: usize) -> Option<Bounded> {
        let Places::Subtracted { table, rows } = &self.places else {
            return None;
        };
        rows[(b * self.q_len + i) * self.k_len + j].map(|row| Bounded::exact(-table[row]))
    }

    /// Gradients of a projection's input, weight and bias.
    fn project_adjoint(&self, x: &[Bounded], dy: &[Bounded], role: usize) -> [Vec<Bounded>; 3] {
        let (w, width, n) = (self.weights[role], self.width, x.len() / self.width);
        let dx = product([n, width, width], |i, l| dy[i * width + l], |l, j| Bounded::exact(w[l * width + j]));
        let dw = product([width, n, width], |i, l| dy[l * width + i], |l, j| x[l * width + j]);
        let db = (0..width).map(|j| sum((0..n).map(|i| dy[i * width + j]))).collect();
        [dx, dw, db]
    }

    /// `extra(batch, head, query, key)` is what is added to a score besides q·k/√d; `None` blocks the pair.
    pub fn solve(&self, extra: impl Fn(usize, usize, usize, usize) -> Option<Vec<Bounded>>, d_out: &[f32]) -> Solution {
        let Problem {
            batch,
            q_len,
            k_len,
            width,
            heads,
            ..
        } = *self;
        let dim = width / heads;
        let scale = 1.0 / (dim as f64).sqrt();
        let inputs = [0, 1, 2].map(|role| self.input(role));
        let [q, k, v] = [0, 1, 2].map(|role| {
            let mut x = self.project(&inputs[role], role);
            self.turn(&mut x, role, Turn::Forward);
            x
        });
        let zero = Bounded::exact(0.0);
        let mut context = vec![zero; q.len()];
        let mut by_head = vec![Vec::new(); batch * q_len * k_len];
        let mut rows = Vec::new();
        // A head's vector of one token, as a range of the stream.
        let at = |role: usize, b: usize, h: usize, t: usize| ((b * self.len(role) + t) * heads + h) * dim;
        for (b, h, i) in each([batch, heads, q_len]) {
            let scores: Vec<Option<Bounded>> = (0..k_len)
                .map(|j| {
                    let more = extra(b, h, i, j)?;
                    let (qi, kj) = (at(0, b, h, i), at(1, b, h, j));
                    // The scale is rounded, and multiplies one side or the product.
                    let s = dot((0..dim).map(|c| (q[qi + c], k[kj + c])), 2.0);
                    Some(sum(more.into_iter().chain(self.subtracted(b, i, j)).chain([s.scaled(scale)])))
                })
                .collect();
            let p = softmax(&scores);
            for c in 0..dim {
                let o = dot((0..k_len).map(|j| (p.forward[j], v[at(2, b, h, j) + c])), 0.0);
                context[at(0, b, h, i) + c] = o;
            }
            for j in 0..k_len {
                by_head[(b * q_len + i) * k_len + j].push(p.forward[j]);
            }
            rows.push(p);
        }
        let out = self.project(&context, 3);

        let d_out: Vec<Bounded> = d_out.iter().map(|d| Bounded::exact(*d)).collect();
        let [d_context, dw_out, db_out] = self.project_adjoint(&context, &d_out, 3);
        let mut ds = vec![zero; batch * heads * q_len * k_len];
        for (row, (b, h, i)) in each([batch, heads, q_len]).enumerate() {
            let p = &rows[row].adjoint;
            let d_o = &d_context[at(0, b, h, i)..][..dim];
            let dp: Vec<Bounded> = (0..k_len)
                .map(|j| dot((0..dim).map(|c| (d_o[c], v[at(2, b, h, j) + c])), 0.0))
                .collect();
            // Σ p·dp and Σ do·o are the same number; either may be what is computed.
            let by_keys = dot((0..k_len).map(|j| (p[j], dp[j])), 0.0);
            let by_values = dot((0..dim).map(|c| (d_o[c], context[at(0, b, h, i) + c])), 0.0);
            let delta = Bounded {
                value: by_keys.value,
                error: by_keys.error.max(by_values.error),
                spread: by_keys.spread.max(by_values.spread),
            };
            for j in 0..k_len {
                ds[row * k_len + j] = p[j] * (dp[j] - delta);
            }
        }
        let ds = |b: usize, h: usize, i: usize, j: usize| ds[((b * heads + h) * q_len + i) * k_len + j];
        let p = |b: usize, h: usize, i: usize, j: usize| rows[(b * heads + h) * q_len + i].adjoint[j];
        let mut d_projected = [vec![zero; q.len()], vec![zero; k.len()], vec![zero; v.len()]];
        for (b, h, i) in each([batch, heads, q_len]) {
            for c in 0..dim {
                let terms = (0..k_len).map(|j| (ds(b, h, i, j), k[at(1, b, h, j) + c]));
                d_projected[0][at(0, b, h, i) + c] = dot(terms, 2.0).scaled(scale);
            }
        }
        for (b, h, j) in each([batch, heads, k_len]) {
            for c in 0..dim {
                let terms = (0..q_len).map(|i| (ds(b, h, i, j), q[at(0, b, h, i) + c]));
                d_projected[1][at(1, b, h, j) + c] = dot(terms, 2.0).scaled(scale);
                let terms = (0..q_len).map(|i| (p(b, h, i, j), d_context[at(0, b, h, i) + c]));
                d_projected[2][at(2, b, h, j) + c] = dot(terms, 0.0);
            }
        }
        let [query, key, value] = [0, 1, 2].map(|role| {
            self.turn(&mut d_projected[role], role, Turn::Adjoint);
            self.project_adjoint(&inputs[role], &d_projected[role], role)
        });
        let d_table = match &self.places {
            Places::None | Places::Turned { .. } => Vec::new(),
            Places::Added { table, rows } => self.added_adjoint(table, rows, [&query[0], &key[0]]),
            Places::Subtracted { table, rows } => {
                let mut parts = vec![Vec::new(); table.len()];
                for (pair, row) in rows.iter().enumerate() {
                    let (b, i, j) = (pair / (q_len * k_len), pair / k_len % q_len, pair % k_len);
                    if let Some(row) = row {
                        parts[*row].extend((0..heads).map(|h| ds(b, h, i, j).scaled(-1.0)));
                    }
                }
                parts.into_iter().map(sum).collect()
            }
        };
        Solution {
            d_table,
            out,
            // A sum over the heads, and a division.
            weights: by_head
                .into_iter()
                .map(|p| sum(p).scaled(1.0 / heads as f64).rounded(1.0))
                .collect(),
            d_streams: [query[0].clone(), key[0].clone(), value[0].clone()],
            d_weights: [query[1].clone(), key[1].clone(), value[1].clone(), dw_out],
            d_biases: [query[2].clone(), key[2].clone(), value[2].clone(), db_out],
        }
    }

    /// Each row of the table gets the sum over the tokens that read it.
    fn added_adjoint(&self, table: &[f32], rows: &[Vec<Option<usize>>; 2], d_inputs: [&Vec<Bounded>; 2]) -> Vec<Bounded> {
        let mut readers: Vec<Vec<(usize, usize)>> = vec![Vec::new(); table.len() / self.width];
        for (side, rows) in rows.iter().enumerate() {
            for (token, row) in rows.iter().enumerate() {
                if let Some(row) = row {
                    readers[*row].push((side, token));
                }
            }
        }
        let entry = |row: usize, c: usize| sum(readers[row].iter().map(|(side, token)| d_inputs[*side][token * self.width + c]));
        (0..table.len()).map(|i| entry(i / self.width, i % self.width)).collect()
    }
}

/// All index triples, the last the fastest.
fn each([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

/// The sum of gradients of one stream that was passed three times.
pub fn total(parts: &[Vec<Bounded>; 3]) -> Vec<Bounded> {
    (0..parts[0].len()).map(|i| sum(parts.iter().map(|part| part[i]))).collect()
}

/// A bias that f32 computes by this many roundings.
pub fn computed(value: f64, roundings: f64) -> Bounded {
    Bounded::new(value, roundings * U * value.abs())
}
