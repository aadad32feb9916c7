//! Laws that every encoding obeys, as tests for any implementation: ours, or one written outside the crate.
//!
//! [`laws!`](crate::laws!) turns a [`Subject`] into tests. A law runs the subject inside one whole attention layer (embeddings, sites, projections, attention), so that it sees
//! what a model sees. All bounds are derived beside the law that uses them.
//!
//! ```
//! # use posenc::{Alibi, Dims, Encoding};
//! let plan = Encoding::from(Alibi::new()).plan(Dims::new(8, 2)?)?;
//! posenc::laws::prefill_equals_decoding(&plan);
//! # Ok::<(), posenc::Error>(())
//! ```

mod layer;
mod naive;

use crate::attention::{Attends, Attention, Blocked, Mask};
use crate::call::Call;
use crate::dims::Dims;
use crate::dropout::Mode;
use crate::error::Result;
use crate::params::{ParamSpec, Params};
use crate::plan::Plan;
use crate::positions::{Documents, Positions};
use crate::real::Real;
use crate::rotate::Turn;
use crate::view::View;
use layer::{Layer, random};

/// Something whose laws can be tested: a plan, or a plan with terms of one's own pushed into its calls.
pub trait Subject: Sync {
    /// The widths it works in.
    fn dims(&self) -> Dims;
    /// Its parameters.
    fn parameters(&self) -> Vec<ParamSpec>;
    /// Itself, with positions and parameters resolved.
    ///
    /// # Errors
    /// Positions that it has no answer for.
    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>>;
    /// The attention around it.
    fn attention(&self) -> Attention {
        Attention::default()
    }
}

impl Subject for Plan {
    fn dims(&self) -> Dims {
        Plan::dims(self)
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        Plan::parameters(self).to_vec()
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        Plan::call(self, params, q_at, k_at)
    }
}

/// A plan in an attention of other than default settings.
impl Subject for (Plan, Attention) {
    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        self.0.parameters().to_vec()
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        self.0.call(params, q_at, k_at)
    }

    fn attention(&self) -> Attention {
        self.1.clone()
    }
}

/// Makes a module of tests: one per named law, for one subject.
///
/// ```
/// # use posenc::{Alibi, Dims, Encoding, Plan};
/// # fn alibi() -> Plan { Encoding::from(Alibi::new()).plan(Dims::new(8, 2).unwrap()).unwrap() }
/// posenc::laws! { alibi_laws: alibi() => [adjoint_matches_differences, scores_depend_on_distance_only] }
/// ```
#[macro_export]
macro_rules! laws {
    ($module:ident: $subject:expr => [$($law:ident),+ $(,)?]) => {
        #[cfg(test)]
        mod $module {
            #[allow(unused_imports, reason = "the subject may be made of what the parent imports")]
            use super::*;
            $(#[test]
            fn $law() {
                $crate::laws::$law(&$subject);
            })+
        }
    };
    ($module:ident: $subject:expr) => {
        $crate::laws! { $module: $subject => [
            adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding, packed_equals_alone,
            left_padded_equals_unpadded, batch_order_is_irrelevant, threads_do_not_matter
        ] }
    };
}

fn close<R: Real>(what: &str, got: &[R], expected: &[R], bound: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let (g, e) = (g.to_f64(), e.to_f64());
        // Written so that NaN fails.
        assert!((g - e).abs() <= bound, "{what}[{i}]: {g} against {e}, bound {bound:e}");
    }
}

/// The adjoint equals central differences of the loss `Σ g·out` in f64, for the inputs and every parameter: causal, with a boolean and an additive mask, with a fully
/// masked row, and in training mode.
///
/// Bound: with steps of 1e-5 a difference is off by the loss's rounding over the step (2⁻⁵³ · 10² / 1e-5 ≈ 1e-9) and the third derivative times the step squared (1e-10 · 10²): 1e-7 covers
/// both ten times over, relative to the largest gradient.
pub fn adjoint_matches_differences<S: Subject>(subject: &S) {
    const STEP: f64 = 1e-5;
    const BOUND: f64 = 1e-7;
    let (batch, len) = (2, 7);
    let dims = subject.dims();
    let at = Positions::range(0..len as i64);
    let x: Vec<f64> = random(batch * len * dims.model_dim, 1);
    let g: Vec<f64> = random(batch * len * dims.heads * dims.head_dim, 2);
    // Row 3 of batch row 1 attends to nothing.
    let allowed: Vec<bool> = (0..batch * len * len).map(|i| i / len != len + 3 && i * 7 % 5 != 1).collect();
    let additive: Vec<f64> = random(dims.heads * len * len, 3);
    let boolean = Mask::none().attends(Attends(View::new(&allowed, [batch, 1, len, len]).expect("mask")));
    let with_bias = Mask::none()
        .causal(0)
        .additive(View::new(&additive, [1, dims.heads, len, len]).expect("mask"));
    let train = Mode::Train { seed: 5, call: 6 };
    for (name, mask, mode) in [
        ("causal", Mask::none().causal(0), Mode::Evaluate),
        ("boolean", boolean, Mode::Evaluate),
        ("additive, training", with_bias, train),
    ] {
        let mut layer: Layer<'_, f64, S> = Layer::new(subject, 4);
        let trace = layer.forward(&x, batch, &at, &mask, mode);
        let (dx, dparams) = layer.adjoint(&trace, &g, &at, &mask, mode);
        let loss = |layer: &Layer<'_, f64, S>, x: &[f64]| -> f64 {
            layer
                .forward(x, batch, &at, &mask, mode)
                .out
                .iter()
                .zip(&g)
                .map(|(o, g)| o * g)
                .sum()
        };
        let check = |what: &str, grad: &[f64], differences: &[f64]| {
            let size = grad.iter().fold(1.0f64, |m, g| m.max(g.abs()));
            close(&format!("{name}: gradient of {what}"), grad, differences, BOUND * size);
        };
        let mut differences = Vec::new();
        let mut moved = x.clone();
        for i in 0..x.len() {
            moved[i] = x[i] + STEP;
            let up = loss(&layer, &moved);
            moved[i] = x[i] - STEP;
            differences.push((up - loss(&layer, &moved)) / (2.0 * STEP));
            moved[i] = x[i];
        }
        check("x", &dx, &differences);
        let mut differences = Vec::new();
        for i in 0..layer.params.size() {
            let value = layer.params.flat()[i];
            layer.params.flat_mut()[i] = value + STEP;
            let up = loss(&layer, &x);
            layer.params.flat_mut()[i] = value - STEP;
            differences.push((up - loss(&layer, &x)) / (2.0 * STEP));
            layer.params.flat_mut()[i] = value;
        }
        check("parameters", dparams.flat(), &differences);
    }
}

/// The tile driver in f32 and f64 equals plain attention in f64, at lengths around the tiles' edges.
///
/// Bound, with ε the precision, s the largest Σ|q·k|·scale + |terms| of a pair, n keys and v the largest value: a score is off by (head_dim + 8)·ε·s, which changes a weight by that relative
/// amount twice (itself and the sum), and the weighted sum adds (n + 8)·ε: v·ε·(2·(head_dim + 8)·s + n + 8).
pub fn fused_equals_naive<S: Subject>(subject: &S) {
    for len in [1usize, 2, 17, 64, 65, 129, 200] {
        if let Err(error) = accepts(subject, len) {
            eprintln!("fused_equals_naive: length {len} is skipped, the subject refuses it: {error}");
            continue;
        }
        fused_at::<f64, S>(subject, len);
        fused_at::<f32, S>(subject, len);
    }
}

fn fused_at<R: Real, S: Subject>(subject: &S, len: usize) {
    let dims = subject.dims();
    let layer: Layer<'_, R, S> = Layer::new(subject, 1);
    let exact: Layer<'_, f64, S> = Layer::new(subject, 1);
    let at = Positions::range(0..len as i64);
    let x: Vec<f64> = random(len * dims.model_dim, 2);
    let x: Vec<R> = x.into_iter().map(R::of).collect();
    let trace = layer.forward(&x, 1, &at, &Mask::none().causal(0), Mode::Evaluate);
    let wide = |x: &[R]| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let (q, k, v) = (wide(&trace.q), wide(&trace.k), wide(&trace.v));
    // The tables as the layer rounded them: what attention does with them is compared, not how they were projected.
    let tables = layer.tables(&at, &at).cast();
    let (out, size) = naive::attention(&exact.call(&tables, &at, &at), &subject.attention(), &q, &k, &v);
    let value = v.iter().fold(0.0f64, |m, v| m.max(v.abs())) + added_to_values(&exact, &at);
    let bound = value * R::EPSILON.to_f64() * (2.0 * (dims.head_dim as f64 + 8.0) * size + len as f64 + 8.0);
    close(&format!("out at length {len}"), &wide(&trace.out), &out, bound);
}

/// What terms can add to a value: their largest parameter.
fn added_to_values<S: Subject>(layer: &Layer<'_, f64, S>, at: &Positions) -> f64 {
    let tables = layer.tables(at, at);
    if layer.call(&tables, at, at).terms().any(|t| t.needs().values) {
        layer.params.flat().iter().fold(0.0f64, |m, x| m.max(x.abs()))
    } else {
        0.0
    }
}

/// The subject's answer for this many tokens.
fn accepts<S: Subject>(subject: &S, len: usize) -> Result<()> {
    let params: Params<f64> = Params::zeros(&subject.parameters())?;
    let at = Positions::range(0..len as i64);
    subject.call(&params, &at, &at).map(|_| ())
}

/// n tokens at once equal n steps of one query over all keys so far.
///
/// Bound: that of [`fused_equals_naive`] in f64, for a dozen tokens: values and parameters below 5, scores below 50, heads below 16 wide: 5·2⁻⁵²·(2·24·50 + 20) = 3e-12; and as much for the
/// projections and sums before it: 1e-11.
pub fn prefill_equals_decoding<S: Subject>(subject: &S) {
    let (batch, len) = (2, 9);
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let x: Vec<f64> = random(batch * len * dims.model_dim, 2);
    let at = Positions::range(0..len as i64);
    let whole = layer.forward(&x, batch, &at, &Mask::none().causal(0), Mode::Evaluate);
    let row = dims.heads * dims.head_dim;
    let mut cache: Vec<Vec<f64>> = vec![Vec::new(); batch];
    for t in 0..len {
        let (q_at, k_at) = (Positions::range(t as i64..t as i64 + 1), Positions::range(0..t as i64 + 1));
        let tables = layer.tables(&q_at, &k_at);
        let call = layer.call(&tables, &q_at, &k_at);
        let now: Vec<f64> = (0..batch)
            .flat_map(|b| x[(b * len + t) * dims.model_dim..][..dims.model_dim].to_vec())
            .collect();
        let embedded = layer.embed(&call, &now, batch, Mode::Evaluate);
        let width = embedded.len() / batch;
        cache
            .iter_mut()
            .zip(embedded.chunks_exact(width))
            .for_each(|(cache, row)| cache.extend_from_slice(row));
        let keys = cache.concat();
        let (_, [q, k, v]) = layer.project(&call, &embedded, &keys, batch);
        let (out, _) = layer.attend(&call, &q, &k, &v, batch, &Mask::none().causal(t), Mode::Evaluate);
        for b in 0..batch {
            close(
                &format!("row {t} of batch row {b}"),
                &out[b * row..(b + 1) * row],
                &whole.out[(b * len + t) * row..][..row],
                1e-11,
            );
        }
    }
}

/// Documents packed into one row, kept apart by a boolean mask, equal each document alone.
///
/// Bound: as in [`prefill_equals_decoding`].
pub fn packed_equals_alone<S: Subject>(subject: &S) {
    let lengths = [5usize, 1, 6];
    let len: usize = lengths.iter().sum();
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let x: Vec<f64> = random(len * dims.model_dim, 2);
    let documents = Documents::from_lengths(&lengths).expect("a short row");
    let mut allowed = vec![false; len * len];
    documents.attends(0..len, true, &mut allowed).expect("a square mask");
    let mask = Mask::none().attends(Attends(View::new(&allowed, [1, 1, len, len]).expect("mask")));
    let packed = layer.forward(&x, 1, &documents.positions(), &mask, Mode::Evaluate);
    let row = dims.heads * dims.head_dim;
    let mut start = 0;
    for n in lengths {
        let mine = &x[start * dims.model_dim..][..n * dims.model_dim];
        let alone = layer.forward(mine, 1, &Positions::range(0..n as i64), &Mask::none().causal(0), Mode::Evaluate);
        close(
            &format!("document at {start}"),
            &packed.out[start * row..][..n * row],
            &alone.out,
            1e-11,
        );
        start += n;
    }
}

/// A left-padded row, its padding blocked and without positions, equals the row without padding.
///
/// Bound: as in [`prefill_equals_decoding`].
pub fn left_padded_equals_unpadded<S: Subject>(subject: &S) {
    let (pad, n) = (3usize, 6usize);
    let len = pad + n;
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let x: Vec<f64> = random(len * dims.model_dim, 2);
    let is_token: Vec<bool> = (0..len).map(|t| t >= pad).collect();
    let is_padding: Vec<bool> = is_token.iter().map(|t| !t).collect();
    let at = Positions::from_padding(&is_token, 1).expect("one row");
    let mask = Mask::none()
        .causal(0)
        .blocked(Blocked(View::new(&is_padding, [1, 1, 1, len]).expect("mask")));
    let padded = layer.forward(&x, 1, &at, &mask, Mode::Evaluate);
    let alone = layer.forward(
        &x[pad * dims.model_dim..],
        1,
        &Positions::range(0..n as i64),
        &Mask::none().causal(0),
        Mode::Evaluate,
    );
    let row = dims.heads * dims.head_dim;
    close("tokens", &padded.out[pad * row..], &alone.out, 1e-11);
    assert!(
        padded.out[..pad * row].iter().all(|x| *x == 0.0),
        "a row that attends to nothing is zeros"
    );
}

/// Rows of the batch do not see each other: swapping them swaps the outputs, bit for bit.
pub fn batch_order_is_irrelevant<S: Subject>(subject: &S) {
    let len = 7;
    let dims = subject.dims();
    let layer: Layer<'_, f32, S> = Layer::new(subject, 1);
    let (a, b): (Vec<f32>, Vec<f32>) = (random(len * dims.model_dim, 2), random(len * dims.model_dim, 3));
    let at = Positions::range(0..len as i64);
    let run = |x: Vec<f32>| layer.forward(&x, 2, &at, &Mask::none().causal(0), Mode::Evaluate).out;
    let (ab, ba) = (run([a.clone(), b.clone()].concat()), run([b, a].concat()));
    let half = ab.len() / 2;
    assert_eq!((&ab[..half], &ab[half..]), (&ba[half..], &ba[..half]));
}

/// Outputs and gradients are bitwise equal for any number of threads. Without the feature `rayon` there is one thread, and the law says that two passes agree.
pub fn threads_do_not_matter<S: Subject>(subject: &S) {
    // Three blocks of rows and two tiles of keys.
    let (batch, len) = (2, 150);
    let dims = subject.dims();
    let layer: Layer<'_, f32, S> = Layer::new(subject, 1);
    let at = Positions::range(0..len as i64);
    if let Err(error) = accepts(subject, len as usize) {
        eprintln!("threads_do_not_matter: skipped, the subject refuses {len} tokens: {error}");
        return;
    }
    let x: Vec<f32> = random(batch * len as usize * dims.model_dim, 2);
    let g: Vec<f32> = random(batch * len as usize * dims.heads * dims.head_dim, 3);
    let pass = || {
        let mask = Mask::none().causal(0);
        let trace = layer.forward(&x, batch, &at, &mask, Mode::Evaluate);
        let (dx, grads) = layer.adjoint(&trace, &g, &at, &mask, Mode::Evaluate);
        (trace.out, dx, grads.flat().to_vec())
    };
    let first = pass();
    #[cfg(feature = "rayon")]
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        assert!(pool.install(pass) == first, "{threads} threads give other bits");
    }
    assert!(pass() == first, "a second pass gives other bits");
}

/// Adding the same number to every position changes nothing: the encoding is relative.
///
/// Bound: as in [`prefill_equals_decoding`]; angles of positions around 10⁵ are off by 10⁵·2⁻⁵³ = 1e-11 each, which scores below 50 turn into 5e-10 of a weight at most: 1e-9.
pub fn scores_depend_on_distance_only<S: Subject>(subject: &S) {
    let len = 9;
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let x: Vec<f64> = random(len * dims.model_dim, 2);
    let run = |start: i64| {
        layer
            .forward(
                &x,
                1,
                &Positions::range(start..start + len as i64),
                &Mask::none().causal(0),
                Mode::Evaluate,
            )
            .out
    };
    let here = run(0);
    for start in [1, -20, 100_000] {
        close(&format!("shifted by {start}"), &run(start), &here, 1e-9);
    }
}

/// Explicit ids that count 0, 1, 2, … give what a range gives: the two paths of a term agree.
///
/// Bound: as in [`prefill_equals_decoding`]; gradients are sums over up to 2·9·9 pairs of such numbers, of size 1: ten times that.
pub fn ids_equal_ranges<S: Subject>(subject: &S) {
    let (batch, len) = (2, 9);
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let x: Vec<f64> = random(batch * len * dims.model_dim, 2);
    let g: Vec<f64> = random(batch * len * dims.heads * dims.head_dim, 3);
    let mask = Mask::none().causal(0);
    let ids: Vec<i64> = (0..len as i64).collect();
    let run = |at: Positions| {
        let trace = layer.forward(&x, batch, &at, &mask, Mode::Evaluate);
        let (dx, grads) = layer.adjoint(&trace, &g, &at, &mask, Mode::Evaluate);
        (trace.out, dx, grads.flat().to_vec())
    };
    let (range, whole) = (run(Positions::range(0..len as i64)), run(Positions::whole(&ids)));
    close("out", &whole.0, &range.0, 1e-11);
    close("gradient of x", &whole.1, &range.1, 1e-10);
    close("gradient of the parameters", &whole.2, &range.2, 1e-10);
}

/// A turned query or key is as long as before, at any position: a rotation without a factor.
///
/// Bound: each of its coordinates is two products and a sum, rounded to ε: 4·ε of the norm.
pub fn rotation_preserves_norms<S: Subject>(subject: &S) {
    let dims = subject.dims();
    let layer: Layer<'_, f64, S> = Layer::new(subject, 1);
    let at = Positions::whole(&[0, 1, -3, 64, 100_000]);
    let tables = layer.tables(&at, &at);
    let call = layer.call(&tables, &at, &at);
    assert!(!call.rotations().is_empty(), "the subject does not rotate");
    for pair in call.rotations() {
        for rotation in [&pair.query, &pair.key] {
            for t in 0..at.len() {
                let x: Vec<f64> = random(dims.head_dim, t as u64);
                let mut turned = x.clone();
                rotation.turn_row(Turn::Forward, 0, t, &mut turned);
                let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
                assert!((norm(&turned) - norm(&x)).abs() <= 4.0 * f64::EPSILON * norm(&x), "token {t}");
            }
        }
    }
}
