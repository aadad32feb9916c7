//! # KERPLE: kernelised relative positions
//!
//! **Idea.** A score loses by a function of the distance whose shape each head learns: a logarithm, which flattens, or a power. Both are conditionally positive definite kernels, up to a
//! constant that softmax ignores.
//!
//! **Paper.** Chi, Fan, Ramadge, Rudnicky: *KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation*, 2022, arXiv 2205.09921.
//!
//! **Maths.** For head h, query i and key j, with two trained numbers p and a per head:
//! ```text
//! log    s(i, j) = q·k / √d − p[h] · ln(1 + a[h]·|i − j|)       p, a ≥ 0.01
//! power  s(i, j) = q·k / √d − a[h] · |i − j|^p[h]               a ≥ 0.01,  0.01 ≤ p ≤ 2
//! ```
//!
//! **Shapes.** `bias_p` and `bias_a`, `[heads]` each; bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ.
//!
//! **Conventions that differ between codebases.**
//! - The paper numbers its constants (r₁, r₂); names, bounds and initial values here are those of its authors' code (chijames/KERPLE): p from U(0, 2), a from U(0, 1), one pair per head for all layers
//!   ([`Scope::Model`]). Later code that has one per layer: [`Kerple::with_scope`]. That code stores `[heads, 1, 1]`.
//! - That code writes the bounds into the parameters before each pass. Here a number beyond its range is read as the end of the range and has the gradient 0:
//!   [`Params::keep_in_range`](crate::Params::keep_in_range) after each step of an optimiser makes the two the same.
//! - Keys after the query: that code has a table for a causal mask and 0 there; this is the paper's |i − j| on both sides.
//! - At distance 0 the bias and its gradients are 0, also of the power, whose derivative by p is 0·ln 0.
//! - The paper's kernels with three numbers per head, and those that multiply the scores, are not here.
//!
//! **Cost.** 2 · heads numbers. As many logarithms or powers per head and layer as a call has distances; one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Kerple, Positions, ViewMut};
//! let plan = Encoding::from(Kerple::log()).plan(Dims::new(4, 1)?)?;
//! let mut params = plan.init::<f64>(0)?;
//! params.set("bias_p", &[1], &[2.0])?;
//! params.set("bias_a", &[1], &[0.5])?;
//! let mut row = [f64::NAN; 3];
//! plan.call(&params, &Positions::range(2..3), &Positions::range(0..3))?.materialise_bias(ViewMut::new(&mut row, [1, 1, 1, 3])?)?;
//! assert_eq!(row, [-2.0 * 2f64.ln(), -2.0 * 1.5f64.ln(), 0.0]);
//! # Ok::<(), posenc::Error>(())
//! ```

use super::curve::{Curve, CurveTerm, span};
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{Span, owner};
use crate::error::Result;
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A penalty that grows with the logarithm or with a power of the distance, at rates that each head learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "ParallelKerpleLog")]
#[doc(alias = "ParallelKerplePower")]
pub struct Kerple {
    /// How the penalty grows.
    pub kernel: Kernel,
    /// One pair of numbers per head for the model (the authors') or for each layer.
    #[serde(default = "crate::encoding::written::per_model")]
    pub scope: Scope,
}

/// How KERPLE's penalty grows with the distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// `p·ln(1 + a·|Δ|)`.
    Log,
    /// `a·|Δ|^p`.
    Power,
}

/// The least that a trained number is read as.
const LEAST: f64 = 0.01;

impl Kerple {
    /// The logarithmic kernel, one pair of numbers per head for the model.
    pub fn log() -> Kerple {
        Kerple {
            kernel: Kernel::Log,
            scope: Scope::Model,
        }
    }

    /// The power kernel, one pair of numbers per head for the model.
    pub fn power() -> Kerple {
        Kerple {
            kernel: Kernel::Power,
            ..Kerple::log()
        }
    }

    /// The same with numbers for the model, or for each layer.
    pub fn with_scope(self, scope: Scope) -> Kerple {
        Kerple { scope, ..self }
    }

    /// `bias_p` and `bias_a`.
    fn specs(&self, heads: usize) -> [ParamSpec; 2] {
        let most = match self.kernel {
            Kernel::Log => f64::MAX,
            Kernel::Power => 2.0,
        };
        [
            ParamSpec::new("bias_p", [heads], Init::Between(0.0, 2.0)).in_range(LEAST, most),
            ParamSpec::new("bias_a", [heads], Init::Between(0.0, 1.0)).in_range(LEAST, f64::MAX),
        ]
        .map(|spec| spec.scoped(self.scope))
    }
}

impl fmt::Display for Kerple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = match self.kernel {
            Kernel::Log => "log",
            Kernel::Power => "power",
        };
        write!(f, "kerple({kernel}, two numbers per head and {})", owner(self.scope))
    }
}

impl Prepare for Kerple {
    fn check(&self, _dims: &Dims) -> Result<()> {
        Ok(())
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        self.specs(dims.heads).to_vec()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        Ok(Arc::new(KerpleAt {
            kernel: self.kernel,
            specs: self.specs(dims.heads),
            span: span::<R>("kerple", dims.heads, q_at, k_at)?,
        }))
    }
}

/// Positions resolved.
struct KerpleAt {
    kernel: Kernel,
    specs: [ParamSpec; 2],
    span: Option<Span>,
}

impl<R: Real> Prepared<R> for KerpleAt {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let [p, a] = [params.get(&self.specs[0])?, params.get(&self.specs[1])?];
        let rates: Vec<[Rate; 2]> = p
            .iter()
            .zip(a)
            .map(|(p, a)| [Rate::of(&self.specs[0], *p), Rate::of(&self.specs[1], *a)])
            .collect();
        let (heads, curve) = (
            rates.len(),
            Rates {
                kernel: self.kernel,
                rates: rates.into(),
            },
        );
        parts
            .bias
            .push(Arc::new(CurveTerm::new(curve, self.specs.to_vec(), heads, self.span)));
        Ok(())
    }
}

/// A trained number as it is read.
#[derive(Clone, Copy)]
struct Rate {
    value: f64,
    /// It lies in its range, so that it has a gradient.
    free: bool,
}

impl Rate {
    fn of<R: Real>(spec: &ParamSpec, stored: R) -> Rate {
        let ([low, high], stored) = (spec.range.unwrap_or([f64::MIN, f64::MAX]), stored.to_f64());
        Rate {
            value: stored.clamp(low, high),
            free: (low..=high).contains(&stored) || stored == R::of(low).to_f64(),
        }
    }

    fn gated(self, slope: f64) -> f64 {
        if self.free { slope.clamp(-f64::MAX, f64::MAX) } else { 0.0 }
    }
}

/// p and a of each head.
#[derive(Clone)]
struct Rates {
    kernel: Kernel,
    rates: Arc<[[Rate; 2]]>,
}

impl Curve for Rates {
    fn value(&self, head: usize, distance: f64) -> f64 {
        let [p, a] = self.rates[head].map(|rate| rate.value);
        let penalty = match self.kernel {
            Kernel::Log => p * (a * distance).min(f64::MAX).ln_1p(),
            Kernel::Power => a * distance.powf(p),
        };
        -penalty.min(f64::MAX)
    }

    fn slopes(&self, head: usize, distance: f64) -> [f64; 2] {
        if distance == 0.0 {
            return [0.0; 2];
        }
        let [p, a] = self.rates[head];
        let [by_p, by_a] = match self.kernel {
            Kernel::Log => [(a.value * distance).min(f64::MAX).ln_1p(), p.value / (1.0 / distance + a.value)],
            Kernel::Power => {
                let power = distance.powf(p.value);
                [a.value * power * distance.ln(), power]
            }
        };
        [-p.gated(by_p), -a.gated(by_a)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::params::Params;
    use crate::view::ViewMut;
    use crate::{reference, tiles};

    fn set(plan: &crate::Plan, p: &[f64], a: &[f64]) -> Params<f64> {
        let mut params = plan.init(0).unwrap();
        params.set("bias_p", &[p.len()], p).unwrap();
        params.set("bias_a", &[a.len()], a).unwrap();
        params
    }

    /// Bound: values and slopes come from the same few f64 operations in another order (a logarithm of 1 + x against ln_1p: half an ulp of 1 + x, which moves it by ε; a
    /// power: 1 ulp): 8 ε of the value, whose size is at most that of the sums here; gradients are sums of `size` products of them.
    #[test]
    fn term_and_gradient_are_those_of_the_reference() {
        let dims = Dims::new(12, 3).unwrap();
        for method in [Kerple::log(), Kerple::power()] {
            let power = method.kernel == Kernel::Power;
            let plan = Encoding::from(method).plan(dims).unwrap();
            // The first head is beyond both ranges, the second within, the third beyond one.
            let (p, a) = ([-0.3, 0.7, if power { 2.5 } else { 0.009 }], [0.0, 1.3, 0.25]);
            let params = set(&plan, &p, &a);
            for (name, q_at, k_at, batch) in tiles::cases() {
                let call = plan.call(&params, &q_at, &k_at).unwrap();
                let pairs = q_at.len() * k_at.len();
                let size = batch * 3 * pairs;
                let (scores, d_scores): (Vec<f64>, Vec<f64>) = (tiles::normal(3, size), tiles::normal(4, size));
                let (mut bias, mut grads) = (Vec::new(), [vec![0.0; 3], vec![0.0; 3]]);
                for b in 0..batch {
                    let (q, k) = (tiles::whole(&q_at, b), tiles::whole(&k_at, b));
                    bias.extend(reference::kerple::bias(power, &p, &a, &q, &k));
                    let d = reference::kerple::adjoint(power, &p, &a, &q, &k, &d_scores[b * 3 * pairs..][..3 * pairs]);
                    for (grad, d) in grads.iter_mut().zip(d) {
                        grad.iter_mut().zip(d).for_each(|(grad, d)| *grad += d);
                    }
                }
                let largest = bias.iter().fold(1.0f64, |m, b| m.max(b.abs()));
                let close = |got: &[f64], expected: &[f64], bound: f64| {
                    assert_eq!(got.len(), expected.len());
                    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
                        assert!((g - e).abs() <= bound, "{plan}, {name}, {i}: {g} against {e}, bound {bound}");
                    }
                };
                let mut matrix = vec![f64::NAN; size];
                call.materialise_bias(ViewMut::new(&mut matrix, [batch, 3, q_at.len(), k_at.len()]).unwrap())
                    .unwrap();
                close(&matrix, &bias, 8.0 * f64::EPSILON * largest);
                for tile in tiles::SPLITS {
                    let of = tiles::Tiles::of_bias(&call, batch, tile);
                    let sum: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + b).collect();
                    close(&of.add(&scores), &sum, 8.0 * f64::EPSILON * (largest + 8.0));
                    let (_, slots) = of.adjoint(&d_scores);
                    let mut found = params.zeros_like();
                    of.term().collect(&slots, &mut (&mut found).into()).unwrap();
                    // Slopes reach |bias|·ln of the largest distance, below 10, and gradients of scores 8.
                    let bound = 80.0 * f64::EPSILON * largest * 10.0 * (size as f64 + 8.0);
                    close(found.get("bias_p").unwrap(), &grads[0], bound);
                    close(found.get("bias_a").unwrap(), &grads[1], bound);
                }
            }
        }
    }

    #[test]
    fn far_distances_and_extreme_rates_stay_finite() {
        for method in [Kerple::log(), Kerple::power()] {
            let plan = Encoding::from(method).plan(Dims::new(4, 2).unwrap()).unwrap();
            for rates in [[f32::MAX; 2], [f32::MAX, 0.0], [0.0, f32::MAX], [-f32::MAX; 2], [2.0, 1e30]] {
                let mut params = plan.init::<f32>(0).unwrap();
                params.set("bias_p", &[2], &[rates[0]; 2]).unwrap();
                params.set("bias_a", &[2], &[rates[1]; 2]).unwrap();
                let q = Positions::whole(&[i64::MAX, 0, 1]);
                let k = Positions::whole(&[i64::MIN, 0, 2]);
                for (q, k) in [(&q, &k), (&Positions::range(0..3), &Positions::range(0..3))] {
                    let call = plan.call(&params, q, k).unwrap();
                    let of = tiles::Tiles::of_bias(&call, 1, (2, 2));
                    assert!(of.add(&[0.0; 18]).iter().all(|x| x.is_finite() && *x <= 0.0), "{plan} {rates:?}");
                    let mut grads = params.zeros_like();
                    let (_, slots) = of.adjoint(&[1.0; 18]);
                    of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
                    assert!(grads.flat().iter().all(|g| !g.is_nan()), "{plan} {rates:?}");
                }
            }
        }
    }

    #[test]
    fn parameters_are_two_per_head_and_are_kept_in_range() {
        let dims = Dims::new(64, 4).unwrap();
        assert_eq!(Kerple::log().to_string(), "kerple(log, two numbers per head and model)");
        for method in [Kerple::log(), Kerple::power().with_scope(Scope::Layer)] {
            let scope = method.scope;
            let plan = Encoding::from(method).plan(dims).unwrap();
            assert!(plan.parameters().iter().all(|spec| spec.scope == scope));
            let mut params = plan.init::<f32>(3).unwrap();
            assert_eq!(params.size(), 8);
            assert!(params.flat()[..4].iter().all(|p| (0.0..2.0).contains(p)) && params.flat()[4..].iter().all(|a| (0.0..1.0).contains(a)));
            params.flat_mut().copy_from_slice(&[-1.0, 0.5, 3.0, 0.0, 0.0, 0.5, 3.0, -2.0]);
            params.keep_in_range();
            let most = if plan.to_string().contains("power") { 2.0 } else { 3.0 };
            assert_eq!(params.flat(), [0.01, 0.5, most, 0.01, 0.01, 0.5, 3.0, 0.01]);
            // What was brought back has a gradient again.
            let at = Positions::range(0..3);
            let call = plan.call(&params, &at, &at).unwrap();
            let of = tiles::Tiles::of_bias(&call, 1, (4, 4));
            let mut grads = params.zeros_like();
            let (_, slots) = of.adjoint(&[1.0; 36]);
            of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
            assert!(grads.flat().iter().all(|g| *g < 0.0), "{:?}", grads.flat());
        }
    }

    #[test]
    fn several_axes_are_refused() {
        let plan = Encoding::from(Kerple::log()).plan(Dims::new(4, 2).unwrap()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let grid = Positions::grid(2, 2);
        assert!(plan.call(&params, &grid, &grid).is_err());
    }
}
