//! # Log-spaced continuous position bias
//!
//! **Idea.** A small network turns the offset of two patches into a bias per head. Offsets are taken on a logarithmic scale, so that a model trained with small windows can be given larger ones: the
//! network is asked for values between and a little past those it knows.
//!
//! **Paper.** Liu, Hu, Lin, Yao, Xie, Wei, Ning, Cao, Zhang, Dong, Wei, Guo: *Swin Transformer V2: Scaling Up Capacity and Resolution*, 2021, arXiv 2111.09883.
//!
//! **Maths.** For head h, a query and a key Δy rows and Δx columns apart (query − key), in a model trained with windows of M_h × M_w:
//! ```text
//! ℓ(Δ, M) = sign(Δ)·log₂(1 + |x|) / log₂ 8,   x = 8·Δ / (M − 1)
//! s(i, j) = q·k·τ + 16·sigmoid(W₂[h]·relu(W₁·(ℓ(Δy, M_h), ℓ(Δx, M_w)) + b₁))
//! ```
//!
//! **Shapes.** `continuous_position_bias_mlp.0.weight` `[hidden, 2]`, `continuous_position_bias_mlp.0.bias` `[hidden]`, `continuous_position_bias_mlp.2.weight` `[heads, hidden]`; bias
//! `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ. Positions have two axes, rows and columns, or one: columns.
//!
//! **Conventions that differ between codebases.**
//! - `window` is the window that offsets are divided by: the one that the model was *pretrained* with, where its file names it (`pretrained_window_sizes`), else its own. Offsets may be of any size.
//! - The second layer has no bias; the first has one. A side of 1 divides by 1: there the offset is 0 unless a call goes past the window.
//! - Swin v2 divides queries and keys by their norms and multiplies by a trained τ per head, which is not this method's.
//! - Names and initial values are those of transformers (N(0, 0.02), zeros).
//!
//! **Cost.** hidden·(heads + 3) numbers. The network for each offset of a call, for each layer, 2²² of them at most; then as many values per head, and one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, LogCpb, Positions, ViewMut};
//! let plan = Encoding::from(LogCpb::new([8, 8])).plan(Dims::new(6, 3)?)?;
//! let (params, at) = (plan.init::<f32>(0)?, Positions::grid(16, 16)); // a larger window than it was trained with
//! let mut bias = vec![f32::NAN; 3 * 256 * 256];
//! plan.call(&params, &at, &at)?.materialise_bias(ViewMut::new(&mut bias, [1, 3, 256, 256])?)?;
//! assert_eq!(bias[0], 8.0); // at offset 0 a new network gives 16·sigmoid(0)
//! assert!(bias.iter().all(|b| *b > 0.0 && *b < 16.0));
//! # Ok::<(), posenc::Error>(())
//! ```

use super::by_distance::{TableAt, TableBias};
use super::grid::{Cells, Offsets, Read};
use super::swin::check_window;
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{dot, owner};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Bound, BoundMut, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{BlockMut, Needs, ScoreTerm, TermGrads, Tile};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The most offsets that the network is asked for in a call.
const MOST: usize = 1 << 22;
/// What the sigmoid is multiplied by.
const HIGHEST: f64 = 16.0;
/// Sizes beyond which a product of weight and unit might leave f64.
const LARGEST: f64 = 1e150;

/// A small network of the offset of two cells, on a logarithmic scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "continuous_position_bias_mlp")]
#[doc(alias = "pretrained_window_size")]
#[doc(alias = "cpb_mlp")]
pub struct LogCpb {
    /// Rows and columns of the window that offsets are divided by: the pretrained one.
    pub window: [usize; 2],
    /// Units of the hidden layer.
    #[serde(default = "crate::encoding::written::cpb_hidden")]
    pub hidden: usize,
    /// One network per layer or for the model.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl LogCpb {
    /// 512 hidden units, a network per layer, for a model trained with windows of so many rows and columns.
    pub fn new(window: [usize; 2]) -> LogCpb {
        LogCpb {
            window,
            hidden: 512,
            scope: Scope::Layer,
        }
    }

    /// The same with another hidden layer.
    pub fn with_hidden(self, hidden: usize) -> LogCpb {
        LogCpb { hidden, ..self }
    }

    /// The same with one network for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> LogCpb {
        LogCpb { scope, ..self }
    }

    fn specs(&self, heads: usize) -> [ParamSpec; 3] {
        let name = |part: &str| format!("continuous_position_bias_mlp.{part}");
        [
            ParamSpec::new(name("0.weight"), [self.hidden, 2], Init::Normal(0.02)),
            ParamSpec::new(name("0.bias"), [self.hidden], Init::Zeros),
            ParamSpec::new(name("2.weight"), [heads, self.hidden], Init::Normal(0.02)),
        ]
        .map(|spec| spec.scoped(self.scope))
    }

    /// ℓ of an offset on an axis.
    fn log_offset(&self, axis: usize, offset: i64) -> f64 {
        let x = 8.0 * offset as f64 / (self.window[axis] - 1).max(1) as f64;
        (x.abs() + 1.0).log2() / 3.0 * x.signum()
    }
}

impl fmt::Display for LogCpb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([high, wide], hidden) = (self.window, self.hidden);
        write!(
            f,
            "log cpb(window {high} × {wide}, {hidden} hidden units, one network per {})",
            owner(self.scope)
        )
    }
}

impl Prepare for LogCpb {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_window("window of log cpb", self.window)?;
        match self.hidden {
            0 => Err(Error::Zero {
                what: "hidden units of log cpb",
            }),
            1..=0x10_0000 => Ok(()),
            _ => Err(Error::Invalid {
                what: "hidden units of log cpb",
                given: self.hidden.to_string(),
                expected: "at most 2^20",
            }),
        }
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        self.specs(dims.heads).to_vec()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let cells = Cells::new("log cpb", q_at, k_at)?;
        let sides = [0, 1]
            .map(|axis| usize::try_from(cells.highest[axis].abs_diff(cells.lowest[axis])).map_or(usize::MAX, |n| n.saturating_add(1)));
        let rows = sides[0].saturating_mul(sides[1]);
        if rows > MOST {
            return Err(Error::Invalid {
                what: "offsets of two cells of a call",
                given: format!("{} × {}", sides[0], sides[1]),
                expected: "at most 2^22: give windows or documents rows of the batch, with positions counted within each",
            });
        }
        memory::check::<[R; 2]>("biases of offsets [offsets, heads]", &[rows, dims.heads])?;
        let table = TableBias {
            spec: ParamSpec::new("offsets", [rows, dims.heads], Init::Zeros),
            heads: dims.heads,
            subtracted: false,
            reach: 0,
        };
        let offsets = Offsets {
            lowest: cells.lowest,
            sides,
        };
        let along = |axis: usize| -> Vec<f64> {
            (cells.lowest[axis]..=cells.highest[axis])
                .map(|offset| self.log_offset(axis, offset))
                .collect()
        };
        Ok(Arc::new(CpbAt {
            specs: self.specs(dims.heads),
            along: Arc::new([along(0), along(1)]),
            read: cells.read("log cpb", table, offsets)?,
        }))
    }
}

/// Cells resolved.
struct CpbAt {
    specs: [ParamSpec; 3],
    /// ℓ of each offset of the call, by axis.
    along: Arc<[Vec<f64>; 2]>,
    read: Read,
}

impl<R: Real> Prepared<R> for CpbAt {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let read =
            |spec: &ParamSpec| -> Result<Vec<f64>> { Ok(params.get(spec)?.iter().map(|x| x.to_f64().clamp(-LARGEST, LARGEST)).collect()) };
        let net = Net {
            first: read(&self.specs[0])?,
            first_bias: read(&self.specs[1])?,
            second: read(&self.specs[2])?,
            along: self.along.clone(),
        };
        let table: Vec<R> = net.table().into_iter().map(R::of).collect();
        parts.bias.push(self.read.bind(CpbTerm {
            term: self.read.table().term(&table),
            at: self.read.table().clone(),
            specs: self.specs.clone(),
            net,
        }));
        Ok(())
    }
}

/// The network, and where it is asked.
struct Net {
    /// `[hidden, 2]`.
    first: Vec<f64>,
    first_bias: Vec<f64>,
    /// `[heads, hidden]`.
    second: Vec<f64>,
    along: Arc<[Vec<f64>; 2]>,
}

impl Net {
    /// Visits each offset: its row, its coordinates, and the hidden units there.
    fn each(&self, mut visit: impl FnMut(usize, [f64; 2], &[f64])) {
        let (mut units, mut row) = (vec![0.0; self.first_bias.len()], 0);
        for y in &self.along[0] {
            for x in &self.along[1] {
                for ((unit, w), b) in units.iter_mut().zip(self.first.as_chunks::<2>().0).zip(&self.first_bias) {
                    *unit = (w[0] * y + w[1] * x + b).clamp(0.0, LARGEST);
                }
                visit(row, [*y, *x], &units);
                row += 1;
            }
        }
    }

    /// The bias of each offset, `[offsets, heads]`.
    fn table(&self) -> Vec<f64> {
        let mut table = Vec::new();
        self.each(|_, _, units| {
            let logits = self.second.chunks_exact(units.len()).map(|weights| dot(weights, units));
            table.extend(logits.map(|logit| HIGHEST / (1.0 + (-logit).exp())));
        });
        table
    }

    /// From the gradient of the table to those of the network's weights, in the order of the specs. A unit that is exactly 0 has the gradient 0, as in PyTorch.
    fn adjoint(&self, d_table: &[f64]) -> [Vec<f64>; 3] {
        let hidden = self.first_bias.len();
        let heads = self.second.len() / hidden;
        let mut grads = [vec![0.0; 2 * hidden], vec![0.0; hidden], vec![0.0; heads * hidden]];
        let mut d_units = vec![0.0; hidden];
        self.each(|row, offset, units| {
            let d_row = &d_table[row * heads..][..heads];
            if d_row.iter().all(|d| *d == 0.0) {
                return;
            }
            d_units.fill(0.0);
            for (head, d) in d_row.iter().enumerate() {
                let weights = &self.second[head * hidden..][..hidden];
                // σ(1 − σ), from the side that does not cancel.
                let small = (-dot(weights, units).abs()).exp();
                let d_logit = d * HIGHEST * small / ((1.0 + small) * (1.0 + small));
                let d_weights = &mut grads[2][head * hidden..][..hidden];
                for m in 0..hidden {
                    d_weights[m] += d_logit * units[m];
                    d_units[m] += d_logit * weights[m];
                }
            }
            for m in (0..hidden).filter(|&m| units[m] > 0.0) {
                grads[0][2 * m] += d_units[m] * offset[0];
                grads[0][2 * m + 1] += d_units[m] * offset[1];
                grads[1][m] += d_units[m];
            }
        });
        grads
    }
}

struct CpbTerm<T> {
    /// The table's.
    term: T,
    at: TableAt,
    specs: [ParamSpec; 3],
    net: Net,
}

impl<R: Real, T: ScoreTerm<R>> ScoreTerm<R> for CpbTerm<T> {
    fn needs(&self) -> Needs {
        self.term.needs()
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.term.add(tile, s);
    }

    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        self.term.write(tile, s);
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        self.term.adjoint(tile, ds, into);
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        for (spec, found) in self.specs.iter().zip(self.net.adjoint(&self.at.table_gradient(slots))) {
            for (grad, found) in grads.get_mut(spec)?.iter_mut().zip(found) {
                *grad += R::of(found);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bias::swin::tests::{cases, cells};
    use crate::encoding::Encoding;
    use crate::params::Params;
    use crate::view::ViewMut;
    use crate::{reference, tiles};

    fn drawn(plan: &crate::Plan) -> Params<f64> {
        let mut params: Params<f64> = plan.init(1).unwrap();
        let n = params.size();
        params.flat_mut().copy_from_slice(&tiles::normal(2, n));
        params
    }

    /// Bounds: a logit is a sum of 7 products of numbers below 40 (weights below 4, offsets below 1.3 and units below 12), each off by a few ε; the sigmoid's slope times 16 is at most 4:
    /// 4·7·40·8·ε. A difference over steps of 1e-5 is off by the loss's rounding over the step, 10³·ε/1e-5, and by the third derivative (below 10⁴) times the step squared.
    #[test]
    fn term_is_that_of_the_reference_and_its_gradient_that_of_differences() {
        let plan = Encoding::from(LogCpb::new([3, 4]).with_hidden(7))
            .plan(Dims::new(12, 3).unwrap())
            .unwrap();
        let mut params = drawn(&plan);
        for (name, q_at, k_at, batch) in cases() {
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let mut bias = Vec::new();
            for b in 0..batch {
                let (q, k) = (cells(&q_at, b), cells(&k_at, b));
                let [first, first_bias, second] = [0, 1, 2].map(|i| params.get(&plan.parameters()[i].name).unwrap());
                bias.extend(reference::swin::cpb(first, first_bias, second, [3, 4], &q, &k));
            }
            let mut matrix = vec![f64::NAN; bias.len()];
            call.materialise_bias(ViewMut::new(&mut matrix, [batch, 3, q_at.len(), k_at.len()]).unwrap())
                .unwrap();
            for (i, (x, e)) in matrix.iter().zip(&bias).enumerate() {
                assert!(
                    (x - e).abs() <= 4.0 * 7.0 * 40.0 * 8.0 * f64::EPSILON,
                    "{name}, {i}: {x} against {e}"
                );
            }
            let d_scores: Vec<f64> = tiles::normal(4, bias.len());
            let mut grads = params.zeros_like();
            for tile in tiles::SPLITS {
                let of = tiles::Tiles::of_bias(&call, batch, tile);
                assert_eq!(of.add(&vec![0.0; bias.len()]), matrix, "{name}, {tile:?}");
                let (_, slots) = of.adjoint(&d_scores);
                grads.flat_mut().fill(0.0);
                of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
            }
            drop(call);
            for i in 0..params.size() {
                let loss = |params: &Params<f64>| -> f64 {
                    let call = plan.call(params, &q_at, &k_at).unwrap();
                    let bias = tiles::Tiles::of_bias(&call, batch, (64, 64)).add(&vec![0.0; d_scores.len()]);
                    bias.iter().zip(&d_scores).map(|(b, d)| b * d).sum()
                };
                let value = params.flat()[i];
                params.flat_mut()[i] = value + 1e-5;
                let above = loss(&params);
                params.flat_mut()[i] = value - 1e-5;
                let slope = (above - loss(&params)) / 2e-5;
                params.flat_mut()[i] = value;
                let grad = grads.flat()[i];
                assert!((grad - slope).abs() <= 1e-5, "{name}, parameter {i}: {grad} against {slope}");
            }
        }
    }

    #[test]
    fn a_row_of_cells_is_a_grid_of_one_row() {
        let plan = Encoding::from(LogCpb::new([1, 5]).with_hidden(9))
            .plan(Dims::new(12, 3).unwrap())
            .unwrap();
        let params = drawn(&plan);
        let (line, grid) = (Positions::range(0..12), Positions::grid(1, 12));
        let write = |at: &Positions| {
            let mut bias = vec![f64::NAN; 3 * 144];
            let call = plan.call(&params, at, at).unwrap();
            call.materialise_bias(ViewMut::new(&mut bias, [1, 3, 12, 12]).unwrap()).unwrap();
            bias
        };
        assert_eq!(write(&line), write(&grid));
    }

    #[test]
    fn extreme_weights_stay_finite_and_too_many_offsets_are_refused() {
        let dims = Dims::new(4, 2).unwrap();
        let plan = Encoding::from(LogCpb::new([2, 2]).with_hidden(4)).plan(dims).unwrap();
        let grid = Positions::grid(3, 3);
        for value in [f64::MAX, -f64::MAX, 1e-320, 0.0] {
            for one in 0..3 {
                let mut params: Params<f64> = drawn(&plan);
                params.get_mut(&plan.parameters()[one].name.clone()).unwrap().fill(value);
                let call = plan.call(&params, &grid, &grid).unwrap();
                let of = tiles::Tiles::of_bias(&call, 1, (4, 4));
                assert!(of.add(&vec![0.0; 162]).iter().all(|b| (0.0..=16.0).contains(b)));
                let (_, slots) = of.adjoint(&vec![0.5; 162]);
                let mut grads = params.zeros_like();
                of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
                assert!(grads.flat().iter().all(|g| !g.is_nan()), "{value} {one}");
            }
        }
        let params = plan.init::<f32>(0).unwrap();
        let far = Positions::whole_axes(&[0, 1 << 20, 0, 1 << 20], 2, 1).unwrap();
        assert!(matches!(plan.call(&params, &far, &far), Err(Error::Invalid { .. })));
        assert!(matches!(Encoding::from(LogCpb::new([0, 2])).plan(dims), Err(Error::Zero { .. })));
        assert!(matches!(
            Encoding::from(LogCpb::new([2, 2]).with_hidden(0)).plan(dims),
            Err(Error::Zero { .. })
        ));
        assert_eq!(
            LogCpb::new([8, 8]).to_string(),
            "log cpb(window 8 × 8, 512 hidden units, one network per layer)"
        );
    }
}
