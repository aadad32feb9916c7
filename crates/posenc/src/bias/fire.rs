//! # FIRE: functional interpolation for relative positions
//!
//! **Idea.** A small network turns a distance into a bias per head. The distance is squeezed by a logarithm and divided by that of the query's own position, so that it lies between 0 and 1 at every
//! length: a longer text brings no input that training has not seen.
//!
//! **Paper.** Li, You, Guruganesh, Ainslie, Ontanon, Zaheer, Sanghai, Yang, Kumar, Bhojanapalli: *Functional Interpolation for Relative Positions Improves Long Context Transformers*, 2023,
//! arXiv 2310.04418.
//!
//! **Maths.** For head h, query i and key j, with trained c and w, L₀ = 512 and a network of one hidden layer of 32:
//! ```text
//! ψ(x)    = ln(|c|·x + 1)
//! u(i, j) = ψ(|i − j|) / (ψ(max(i, |w·L₀|)) + 10⁻⁶)
//! s(i, j) = q·k / √d + W₂[h]·relu(W₁·u + b₁) + b₂[h]
//! ```
//!
//! **Shapes.** `fire.mlp.0.weight` `[hidden, 1]`, `fire.mlp.0.bias` `[hidden]`, `fire.mlp.2.weight` `[heads, hidden]`, `fire.mlp.2.bias` `[heads]`, `fire.c` and `fire.L_multiplier` `[]`; bias
//! `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ. It depends on the query's position and not on the distance alone.
//!
//! **Conventions that differ between codebases.**
//! - Names, initial values and the 10⁻⁶ are those of the code that DAPE's authors compare with (chuanyang-Zheng/DAPE, `FIRE`), which follows the paper's listing. There L₀ is a tensor that is not trained (`init_L`);
//!   here it is a setting.
//! - A table for each layer is the paper's FIRE, one for all its FIRE-S: [`Fire::with_scope`].
//! - Keys after the query: that code has u = 0 there, under a causal mask; this is |i − j| on both sides.
//! - The normalising length is the query's own position i, from 0. Documents packed into a row begin at 0 again, so each is as it is alone.
//!
//! **How it is computed.** A network of rectified units of one number is a line with at most as many bends as units. The bends, sorted, and slope and intercept of each piece per head are computed
//! once per layer; along consecutive keys the pieces follow each other, so a row of scores is a few multiples of one shared line of ψ. Gradients are sums per piece, taken home to the weights at the
//! end. A unit that is exactly 0 has the gradient 0, as in PyTorch, and where i = |w·L₀| half of the gradient goes to w, as in `torch.max`.
//!
//! **Cost.** 2·hidden + heads·(hidden + 1) + 2 numbers per layer. Two numbers per distance of a call and `hidden` per query for each layer; a multiply and two adds per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Fire, Positions, ViewMut};
//! let plan = Encoding::from(Fire::new().with_hidden(1).with_length(4.0)).plan(Dims::new(4, 1)?)?;
//! let mut params = plan.init::<f64>(0)?;
//! params.set("fire.mlp.0.weight", &[1, 1], &[1.0])?;
//! params.set("fire.mlp.0.bias", &[1], &[0.0])?;
//! params.set("fire.mlp.2.weight", &[1, 1], &[-3.0])?;
//! params.set("fire.mlp.2.bias", &[1], &[0.0])?;
//! let mut row = [f64::NAN; 9];
//! plan.call(&params, &Positions::range(8..9), &Positions::range(0..9))?.materialise_bias(ViewMut::new(&mut row, [1, 1, 1, 9])?)?;
//! assert!((row[0] + 3.0).abs() < 1e-5 && row[8] == 0.0); // the farthest key is at u = 1, whatever the length
//! # Ok::<(), posenc::Error>(())
//! ```

use super::curve::listed;
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{Span, add_scaled, check_one_axis, dot, key_runs, owner, sum};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Bound, BoundMut, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Keys on one piece that are too few for vectors.
const SHORT: usize = 16;

/// What is added to the denominator.
const EPSILON: f64 = 1e-6;

/// A small network of the distance over the query's position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fire {
    /// Units of the hidden layer.
    pub hidden: usize,
    /// What c begins with: how early the logarithm flattens.
    pub init_c: f64,
    /// L₀: queries before |w·L₀| are normalised as if they were there; w begins with 1.
    #[doc(alias = "init_L")]
    pub length: f64,
    /// One network for each layer or for the model.
    pub scope: Scope,
}

impl Default for Fire {
    fn default() -> Fire {
        Fire {
            hidden: 32,
            init_c: 0.1,
            length: 512.0,
            scope: Scope::Layer,
        }
    }
}

impl Fire {
    /// The paper's: 32 hidden units, c from 0.1, lengths from 512, a network per layer.
    pub fn new() -> Fire {
        Fire::default()
    }

    /// The same with another hidden layer.
    pub fn with_hidden(self, hidden: usize) -> Fire {
        Fire { hidden, ..self }
    }

    /// The same with another L₀.
    pub fn with_length(self, length: f64) -> Fire {
        Fire { length, ..self }
    }

    /// The same with another beginning of c.
    pub fn with_c(self, init_c: f64) -> Fire {
        Fire { init_c, ..self }
    }

    /// The same with a network for each layer, or one for the model (FIRE-S).
    pub fn with_scope(self, scope: Scope) -> Fire {
        Fire { scope, ..self }
    }

    /// In the order of [`Weights`]. The network's initial values are those of PyTorch's `nn.Linear`: U(±1/√inputs).
    fn specs(&self, heads: usize) -> [ParamSpec; 6] {
        let inner = Init::Uniform(1.0 / (self.hidden as f64).sqrt());
        [
            ParamSpec::new("fire.mlp.0.weight", [self.hidden, 1], Init::Uniform(1.0)),
            ParamSpec::new("fire.mlp.0.bias", [self.hidden], Init::Uniform(1.0)),
            ParamSpec::new("fire.mlp.2.weight", [heads, self.hidden], inner),
            ParamSpec::new("fire.mlp.2.bias", [heads], inner),
            ParamSpec::new("fire.c", [], Init::Constant(self.init_c)),
            ParamSpec::new("fire.L_multiplier", [], Init::Ones),
        ]
        .map(|spec| spec.scoped(self.scope))
    }
}

impl fmt::Display for Fire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hidden, c, length) = (self.hidden, self.init_c, self.length);
        write!(
            f,
            "fire({hidden} hidden units, c from {c}, length from {length}, one network per {})",
            owner(self.scope)
        )
    }
}

impl Prepare for Fire {
    fn check(&self, _dims: &Dims) -> Result<()> {
        if self.hidden == 0 {
            return Err(Error::Zero {
                what: "hidden units of fire",
            });
        }
        if self.hidden > 1 << 12 {
            return Err(Error::Invalid {
                what: "hidden units of fire",
                given: self.hidden.to_string(),
                expected: "at most 2^12",
            });
        }
        for (what, value, fine) in [
            ("length of fire", self.length, (0.0..=1e30).contains(&self.length)),
            ("c of fire", self.init_c, self.init_c.abs() <= 1e30),
        ] {
            if !fine {
                return Err(Error::Invalid {
                    what,
                    given: value.to_string(),
                    expected: "a number of size at most 1e30; the length is not negative",
                });
            }
        }
        Ok(())
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        self.specs(dims.heads).to_vec()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        check_one_axis("fire", q_at, k_at)?;
        q_at.check_len()?;
        k_at.check_len()?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        let span = listed(q_at, k_at);
        memory::check::<[u64; 4]>("distances of a call", &[span.map_or(0, |span| span.count)])?;
        memory::check::<u32>("bends of each query [batch, seq, hidden]", &[q_at.batch(), q_at.len(), self.hidden])?;
        Ok(Arc::new(FireAt {
            specs: self.specs(dims.heads),
            length: self.length,
            q_at: q_at.clone(),
            span,
        }))
    }
}

/// Positions resolved.
struct FireAt {
    specs: [ParamSpec; 6],
    length: f64,
    q_at: Positions,
    span: Option<Span>,
}

impl<R: Real> Prepared<R> for FireAt {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let mut weights = Vec::with_capacity(self.specs.len());
        for spec in &self.specs {
            let values: Vec<f64> = params.get(spec)?.iter().map(|x| x.to_f64()).collect();
            weights.push(values);
        }
        let [first, first_bias, second, second_bias, c, w] = weights.try_into().unwrap_or_default();
        let weights = Weights {
            first,
            first_bias,
            second,
            second_bias,
            c: c[0],
            w: w[0],
        };
        parts.bias.push(Arc::new(FireTerm::<R>::new(self, weights)));
        Ok(())
    }
}

/// What is learned.
struct Weights {
    first: Vec<f64>,
    first_bias: Vec<f64>,
    /// `[heads, hidden]`.
    second: Vec<f64>,
    second_bias: Vec<f64>,
    c: f64,
    w: f64,
}

impl Weights {
    /// |c|·x, finite.
    fn inner(&self, x: f64) -> f64 {
        (self.c.abs() * x).min(f64::MAX)
    }

    fn psi(&self, x: f64) -> f64 {
        self.inner(x).ln_1p()
    }

    /// dψ(x)/d|c|.
    fn chi(&self, x: f64) -> f64 {
        x / (self.inner(x) + 1.0)
    }
}

/// Where a unit of the hidden layer begins or ends, along u.
#[derive(Clone, Copy)]
struct Bend {
    at: f64,
    /// The unit ends here (its weight is negative): at the bend itself it is 0 already. A unit that begins is 0 still.
    ends: bool,
    unit: usize,
}

impl Bend {
    /// The bend lies behind a value u, scaled as `at` is.
    fn behind(self, u: f64, scale: f64) -> bool {
        let at = self.at * scale;
        if self.ends { u >= at } else { u > at }
    }
}

/// The bends of the network, lowest first.
fn bends(weights: &Weights) -> Vec<Bend> {
    let mut bends: Vec<Bend> = (weights.first.iter().zip(&weights.first_bias).enumerate())
        .filter(|(_, (a, _))| **a != 0.0)
        .map(|(unit, (a, b))| Bend {
            at: -b / a,
            ends: *a < 0.0,
            unit,
        })
        .collect();
    bends.sort_by(|x, y| x.at.total_cmp(&y.at).then(y.ends.cmp(&x.ends)));
    // −0 lies before 0 for `total_cmp` and is the same place.
    bends.sort_by(|x, y| {
        x.at.partial_cmp(&y.at)
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(y.ends.cmp(&x.ends))
    });
    bends
}

/// What the position of a query decides.
#[derive(Clone, Copy)]
struct Row {
    /// The denominator of u.
    norm: f64,
    /// Its derivatives by |c| and by w.
    by_c: f64,
    by_w: f64,
}

struct FireTerm<R> {
    weights: Weights,
    specs: [ParamSpec; 6],
    bends: Vec<Bend>,
    /// Slope and intercept of each piece, `[heads, pieces]`.
    slopes: Vec<f64>,
    intercepts: Vec<f64>,
    /// Rows of positions that differ, and queries in each.
    batch: usize,
    q_len: usize,
    rows: Vec<Row>,
    /// `[batch, q_len, bends]`: the first distance behind each bend, counted from `nearest`; empty without a span.
    firsts: Vec<u32>,
    span: Option<Span>,
    nearest: u64,
    /// ψ and χ of the size of each distance of the span.
    psi: Vec<R>,
    chi: Vec<R>,
    /// As many ones: what intercepts multiply.
    ones: Vec<R>,
}

impl<R: Real> FireTerm<R> {
    fn new(at: &FireAt, weights: Weights) -> Self {
        let bends = bends(&weights);
        let (heads, hidden, pieces) = (weights.second_bias.len(), weights.first.len(), bends.len() + 1);
        let mut order = vec![usize::MAX; hidden];
        bends.iter().enumerate().for_each(|(k, bend)| order[bend.unit] = k);
        // A unit without a bend is always on, or always off.
        let on = |unit: usize, piece: usize| match (weights.first[unit], order[unit]) {
            (a, k) if a > 0.0 => piece > k,
            (a, k) if a < 0.0 => piece <= k,
            _ => weights.first_bias[unit] > 0.0,
        };
        let most = Self::most();
        let (mut slopes, mut intercepts) = (Vec::with_capacity(heads * pieces), Vec::with_capacity(heads * pieces));
        for head in 0..heads {
            for piece in 0..pieces {
                let units = || {
                    (0..hidden)
                        .filter(|&m| on(m, piece))
                        .map(|m| (m, weights.second[head * hidden + m]))
                };
                let slope: f64 = units().map(|(m, weight)| weight * weights.first[m]).sum();
                let intercept: f64 = units().map(|(m, weight)| weight * weights.first_bias[m]).sum();
                slopes.push(slope.clamp(-most, most));
                intercepts.push((intercept + weights.second_bias[head]).clamp(-most, most));
            }
        }
        let threshold = (weights.w * at.length).abs().min(f64::MAX);
        let (batch, q_len) = (at.q_at.batch(), at.q_at.len());
        let positions = (0..batch).flat_map(|b| (0..q_len).map(move |t| (b, t)));
        let rows: Vec<Row> = positions
            .map(|(b, t)| {
                let i = at.q_at.at(0, b, t, 1).whole(0).unwrap_or(0) as f64;
                let farthest = i.max(threshold);
                let share = match i.partial_cmp(&threshold) {
                    Some(std::cmp::Ordering::Less) => 1.0,
                    Some(std::cmp::Ordering::Equal) => 0.5,
                    _ => 0.0,
                };
                let growth = weights.c.abs() / (weights.inner(farthest) + 1.0);
                Row {
                    norm: weights.psi(farthest) + EPSILON,
                    by_c: weights.chi(farthest),
                    by_w: share * growth * (weights.w * at.length).signum() * at.length,
                }
            })
            .collect();
        let mut term = FireTerm {
            specs: at.specs.clone(),
            bends,
            slopes,
            intercepts,
            batch,
            q_len,
            rows,
            firsts: Vec::new(),
            span: at.span,
            nearest: 0,
            psi: Vec::new(),
            chi: Vec::new(),
            ones: Vec::new(),
            weights,
        };
        if let Some(span) = at.span {
            term.line(span);
        }
        term
    }

    /// A slope or an intercept so far from the largest number that their line stays finite: ψ is at most 710.
    fn most() -> f64 {
        R::MAX.to_f64() / 2048.0
    }

    /// What ψ is multiplied by in a row.
    fn rise(&self, head: usize, piece: usize, row: usize) -> f64 {
        let most = Self::most();
        (self.slopes[head * self.pieces() + piece] / self.rows[row].norm).clamp(-most, most)
    }

    /// ψ and χ by distance, and where each query's bends lie among the distances.
    fn line(&mut self, span: Span) {
        let highest = span.lowest + span.count as i64 - 1;
        let farthest = span.lowest.unsigned_abs().max(highest.unsigned_abs());
        self.nearest = match (span.lowest..=highest).contains(&0) {
            true => 0,
            false => span.lowest.unsigned_abs().min(highest.unsigned_abs()),
        };
        let sizes = self.nearest..=farthest;
        let exact: Vec<f64> = sizes.clone().map(|x| self.weights.psi(x as f64)).collect();
        let slopes: Vec<f64> = sizes.map(|x| self.weights.chi(x as f64)).collect();
        let at = |d: i64| (d.unsigned_abs() - self.nearest) as usize;
        self.psi = span.distances().map(|d| R::of(exact[at(d)])).collect();
        self.chi = span.distances().map(|d| R::of(slopes[at(d)])).collect();
        self.ones = vec![R::ONE; span.count];
        let n = self.bends.len();
        self.firsts = Vec::with_capacity(self.rows.len() * n);
        for (r, row) in self.rows.iter().enumerate() {
            let before = r.checked_sub(1).map(|before| (before * n, self.rows[before].norm));
            if let Some((from, norm)) = before
                && norm == row.norm
            {
                self.firsts.extend_from_within(from..from + n);
                continue;
            }
            for (k, bend) in self.bends.iter().enumerate() {
                let behind = |x: usize| bend.behind(exact[x], row.norm);
                // From one query to the next a bend moves by about one distance.
                let guess = before.map_or(0, |(from, _)| self.firsts[from + k] as usize);
                let near = (guess.saturating_sub(2)..(guess + 3).min(exact.len())).find(|&x| behind(x));
                let first = match near {
                    Some(x) if x == 0 || !behind(x - 1) => x,
                    _ => exact.partition_point(|psi| !bend.behind(*psi, row.norm)),
                };
                self.firsts.push(first as u32);
            }
        }
    }

    fn pieces(&self) -> usize {
        self.bends.len() + 1
    }

    /// The index of a query's row.
    fn row(&self, at: &Place<'_>, i: usize) -> usize {
        (if self.batch == 1 { 0 } else { at.batch }) * self.q_len + at.q0 + i
    }

    /// Visits the pairs of a row from distance `first` on (`key − query`), piece by piece: the piece, and which of the `n` keys lie on it.
    ///
    /// `hints` are pieces to begin the search at, on either side: those of the row before.
    fn each_piece(&self, row: usize, first: i64, n: usize, hints: &mut [usize; 2], mut visit: impl FnMut(usize, Range<usize>)) {
        let bends = self.bends.len();
        let firsts = &self.firsts[row * bends..][..bends];
        // Where piece `p` begins, and the piece of a distance, by size.
        let begins = |p: usize| self.nearest as i64 + i64::from(firsts[p - 1]);
        let piece = |size: i64, hint: &mut usize| {
            let behind = |k: usize| i64::from(firsts[k]) <= size - self.nearest as i64;
            while *hint > 0 && !behind(*hint - 1) {
                *hint -= 1;
            }
            while *hint < bends && behind(*hint) {
                *hint += 1;
            }
            *hint
        };
        let mut j = 0;
        // Keys before the query: sizes fall, and with them the pieces.
        let before = first.saturating_neg().clamp(0, n as i64) as usize;
        if before > 0 {
            let mut p = piece(-first, &mut hints[0]);
            while j < before {
                // The last key of the piece is as far away as the piece begins.
                let end = if p == 0 {
                    before
                } else {
                    ((-first - begins(p) + 1).max(0) as usize).min(before)
                };
                if end > j {
                    visit(p, j..end);
                    j = end;
                }
                p = p.saturating_sub(1);
            }
        }
        if j < n {
            let mut p = piece(first + j as i64, &mut hints[1]);
            while j < n {
                let end = if p == bends {
                    n
                } else {
                    ((begins(p + 1) - first).max(0) as usize).min(n)
                };
                if end > j {
                    visit(p, j..end);
                    j = end;
                }
                p += 1;
            }
        }
    }

    /// Visits what lies in a tile, row by row and piece by piece, where distances are listed: row, columns, piece, index of the first distance.
    fn each(&self, span: Span, at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, Range<usize>, usize, usize)) {
        for run in key_runs(&at.k_at, cols) {
            let mut hints = [0, 0];
            for i in 0..rows {
                let Some(q) = at.q_at.whole(i) else { continue };
                let first = run.first - q;
                self.each_piece(self.row(at, i), first, run.cols.len(), &mut hints, |piece, keys| {
                    let index = (first - span.lowest) as usize + keys.start;
                    visit(i, run.cols.start + keys.start..run.cols.start + keys.end, piece, index);
                });
            }
        }
    }

    /// Visits the pairs of a tile one by one: row, column, piece, ψ and χ of the distance.
    fn each_pair(&self, at: &Place<'_>, rows: usize, cols: usize, mut visit: impl FnMut(usize, usize, usize, [f64; 2])) {
        for i in 0..rows {
            let Some(q) = at.q_at.whole(i) else { continue };
            let norm = self.rows[self.row(at, i)].norm;
            for j in 0..cols {
                let Some(k) = at.k_at.whole(j) else { continue };
                let distance = k.abs_diff(q) as f64;
                let psi = self.weights.psi(distance);
                let piece = self.bends.partition_point(|bend| bend.behind(psi, norm));
                visit(i, j, piece, [psi, self.weights.chi(distance)]);
            }
        }
    }

    /// Adds to a head's slots what some pairs of one row on one piece bring: the sums of ds, of ds·ψ and of ds·χ.
    fn gather(&self, slots: &mut [R], head: usize, row: usize, piece: usize, [ds, psi, chi]: [f64; 3]) {
        let du = self.rise(head, piece, row);
        let (row, pieces) = (self.rows[row], self.pieces());
        let u = psi / row.norm;
        for (slot, value) in [
            (piece, ds),
            (pieces + piece, u),
            (2 * pieces, du * (chi - u * row.by_c)),
            (2 * pieces + 1, -du * u * row.by_w),
        ] {
            let [sum, rest] = &mut slots[2 * slot..2 * slot + 2] else {
                continue;
            };
            // The rounding of each sum is kept beside it: millions of pairs lie on one piece.
            let (value, before) = (R::of(value), *sum);
            *sum = before + value;
            if !sum.is_finite() {
                continue;
            }
            *rest += match before.to_f64().abs() >= value.to_f64().abs() {
                true => (before - *sum) + value,
                false => (value - *sum) + before,
            };
        }
    }
}

impl<R: Real> ScoreTerm<R> for FireTerm<R> {
    /// Of each piece the sum of ds and that of ds·u, then what c and w receive; each with the rest of its rounding.
    fn needs(&self) -> Needs {
        Needs::bias(2 * (2 * self.pieces() + 2))
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let (at, rows, cols) = (&tile.at, s.rows, s.cols);
        let intercepts = &self.intercepts[at.head * self.pieces()..][..self.pieces()];
        match self.span {
            Some(span) => self.each(span, at, rows, cols, |i, cols, piece, index| {
                let rise = R::of(self.rise(at.head, piece, self.row(at, i)));
                let (intercept, psi) = (R::of(intercepts[piece]), &self.psi[index..index + cols.len()]);
                let row = &mut s.row(i)[cols];
                if row.len() < SHORT {
                    row.iter_mut().zip(psi).for_each(|(s, psi)| *s = *s + rise * *psi + intercept);
                    return;
                }
                // Twice over numbers in the first-level cache, but in vectors of the instruction set that is there.
                add_scaled(row, rise, psi);
                add_scaled(row, intercept, &self.ones[..row.len()]);
            }),
            // Rounded as above, so that a row has the same bits whichever calls it is part of.
            None => self.each_pair(at, rows, cols, |i, j, piece, [psi, _]| {
                let (rise, s) = (R::of(self.rise(at.head, piece, self.row(at, i))), &mut s.row(i)[j]);
                *s = *s + rise * R::of(psi) + R::of(intercepts[piece]);
            }),
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let (at, ds, slots) = (&tile.at, ds.as_block(), &mut *into.slots);
        match self.span {
            Some(span) => self.each(span, at, ds.rows, ds.cols, |i, cols, piece, index| {
                let (ds, n) = (&ds.row(i)[cols.clone()], cols.len());
                let sums = [sum(ds), dot(ds, &self.psi[index..index + n]), dot(ds, &self.chi[index..index + n])];
                self.gather(slots, at.head, self.row(at, i), piece, sums.map(|sum| sum.to_f64()));
            }),
            None => self.each_pair(at, ds.rows, ds.cols, |i, j, piece, [psi, chi]| {
                let ds = ds.row(i)[j].to_f64();
                self.gather(slots, at.head, self.row(at, i), piece, [ds, ds * psi, ds * chi]);
            }),
        }
    }

    /// From sums per piece to the weights of the units that are on in it.
    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let (pieces, weights) = (self.pieces(), &self.weights);
        let (heads, hidden) = (weights.second_bias.len(), weights.first.len());
        let mut found = self.specs.each_ref().map(|spec| vec![0.0f64; spec.size()]);
        let mut order = vec![None; hidden];
        self.bends.iter().enumerate().for_each(|(k, bend)| order[bend.unit] = Some(k));
        for head in 0..heads {
            let slots = &slots[head * 2 * (2 * pieces + 2)..][..2 * (2 * pieces + 2)];
            let slot = |i: usize| slots[2 * i].to_f64() + slots[2 * i + 1].to_f64();
            found[3][head] += (0..pieces).map(slot).sum::<f64>();
            for unit in 0..hidden {
                let (a, b) = (weights.first[unit], weights.first_bias[unit]);
                let on = match order[unit] {
                    Some(k) if a > 0.0 => k + 1..pieces,
                    Some(k) => 0..k + 1,
                    None if b > 0.0 => 0..pieces,
                    None => 0..0,
                };
                let (ds, du) = on.fold((0.0, 0.0), |(ds, du), piece| (ds + slot(piece), du + slot(pieces + piece)));
                let weight = weights.second[head * hidden + unit];
                found[0][unit] += weight * du;
                found[1][unit] += weight * ds;
                found[2][head * hidden + unit] += a * du + b * ds;
            }
            found[4][0] += slot(2 * pieces) * if weights.c == 0.0 { 0.0 } else { weights.c.signum() };
            found[5][0] += slot(2 * pieces + 1);
        }
        for (spec, found) in self.specs.iter().zip(found) {
            for (grad, found) in grads.get_mut(spec)?.iter_mut().zip(found) {
                *grad += R::of(found);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
