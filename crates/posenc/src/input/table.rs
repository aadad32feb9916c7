//! # A table added to the inputs of queries and keys
//!
//! **Idea.** The position belongs to the question who attends to whom, not to what is passed on. So the position's vector is added where queries and keys
//! are made, in every layer, and values carry no position at all.
//!
//! **Papers.** Carion and others: *End-to-End Object Detection with Transformers* (DETR), 2020, arXiv 2005.12872, adds sinusoids there; Press, Smith,
//! Lewis: *Shortformer*, 2020, arXiv 2012.15832, calls it position-infused attention. With a learned table it is `AdditivePosMultiheadAttention` of symm-learning.
//! The sinusoidal form is [`Sinusoidal`](crate::Sinusoidal) with [`AddTo::AttentionInputs`].
//!
//! **Maths.** With one table E for queries and keys, `q` and `k` at positions P_q and P_k:
//! ```text
//! q′ = q + E[P_q],   k′ = k + E[P_k],   v′ = v          then projections, heads, softmax as ever
//! adjoint:  dE[r] = Σ of dq′ over the queries at r + Σ of dk′ over the keys at r
//! ```
//! A table of zeros is ordinary attention, exactly.
//!
//! **Shapes.** Parameter `pos_emb` `[max_len, model_dim]`, one per layer unless [`InputTable::scope`] says otherwise. Query input
//! `[batch, q_len, model_dim]`, key input `[batch, k_len, model_dim]`. With [`AddTo::Projected`] the table has `heads · head_dim` columns and each head adds its own.
//!
//! **Conventions that differ between codebases.** The table begins with zeros (symm-learning; its `CondTransformer` draws N(0, 0.02) afterwards). A token
//! without a position adds nothing, and its id is not read. Upstream, a negative id wraps to the table's end and a float id is truncated; here both are
//! typed errors. Upstream calls `max_len` the "maximum sequence length"; it is the largest id plus one.
//!
//! **Cost.** max_len · model_dim parameters per layer; one read-modify-write sweep over q and k per layer. In self-attention the value stream must stay
//! what it was, so queries and keys are copies of it.
//!
//! ```
//! use posenc::{Dims, Encoding, InputTable, Mode, Positions, Site, ViewMut};
//! let plan = Encoding::from(InputTable::new(8)).plan(Dims::new(2, 1)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! params.get_mut("pos_emb")?[6..8].copy_from_slice(&[0.5, 0.25]); // row 3
//!
//! let (mut q, mut k) = ([1.0f32, 1.0], [2.0f32; 6]);
//! let call = plan.call(&params, &Positions::range(3..4), &Positions::range(2..5))?; // a decoded token and its keys
//! call.add(Site::QueryInput, ViewMut::new(&mut q, [1, 1, 2])?, Mode::Evaluate)?;
//! call.add(Site::KeyInput, ViewMut::new(&mut k, [1, 3, 2])?, Mode::Evaluate)?;
//! assert_eq!((q, k), ([1.5, 1.25], [2.0, 2.0, 2.5, 2.25, 2.0, 2.0]));
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::{Parts, Site};
use crate::dims::Dims;
use crate::embed::{Addend, Gather, Overflow, Source, TableRows};
use crate::error::{Error, Result};
use crate::input::AddTo;
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::steps::owned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A learned table added to the inputs of queries and keys in each layer; values untouched. See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "AdditivePosMultiheadAttention")]
#[doc(alias = "pos_emb")]
pub struct InputTable {
    /// Rows in the table: the largest id plus one.
    pub max_len: usize,
    /// Before the projections or after them; never the embeddings, that is [`Learned`](crate::Learned).
    #[serde(default = "crate::encoding::written::attention_inputs")]
    pub add_to: AddTo,
    /// One table per layer, or one for the model.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
    /// Past the last row.
    #[serde(default)]
    pub overflow: Overflow,
    /// How the table begins.
    #[serde(default = "crate::encoding::written::zeros")]
    pub init: Init,
}

impl InputTable {
    /// A table of `max_len` rows of zeros per layer, added before the projections; a position past it is an error.
    pub fn new(max_len: usize) -> InputTable {
        InputTable {
            max_len,
            add_to: AddTo::AttentionInputs,
            scope: Scope::Layer,
            overflow: Overflow::Error,
            init: Init::Zeros,
        }
    }

    /// The same, added to the projected queries and keys.
    pub fn projected(self) -> InputTable {
        InputTable {
            add_to: AddTo::Projected,
            ..self
        }
    }

    /// The same with one table for all layers, or one for each.
    pub fn with_scope(self, scope: Scope) -> InputTable {
        InputTable { scope, ..self }
    }

    /// The same with another answer past the last row.
    pub fn with_overflow(self, overflow: Overflow) -> InputTable {
        InputTable { overflow, ..self }
    }

    /// The same with other initial values.
    pub fn with_init(self, init: Init) -> InputTable {
        InputTable { init, ..self }
    }

    fn rows(&self) -> TableRows {
        TableRows {
            rows: self.max_len,
            offset: 0,
            padding_row: None,
            overflow: self.overflow,
        }
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        ParamSpec::new("pos_emb", [self.max_len, self.add_to.width(dims)], self.init).scoped(self.scope)
    }
}

impl fmt::Display for InputTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input_table(max_len {}, on {}", self.max_len, self.add_to)?;
        if self.scope == Scope::Model {
            write!(f, ", one for all layers")?;
        }
        self.overflow.describe(f)?;
        write!(f, ")")
    }
}

impl Prepare for InputTable {
    fn check(&self, dims: &Dims) -> Result<()> {
        if self.add_to == AddTo::Embeddings {
            return Err(Error::Unsupported {
                method: "input_table",
                what: "it is added inside attention; a table added to the embeddings is `learned`",
            });
        }
        self.add_to.check(dims, "input_table")?;
        self.rows().check()
    }

    fn depends_on_length(&self) -> bool {
        self.overflow == Overflow::Interpolate
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let (query, key) = self.add_to.sites();
        let gather = |at| Gather::new(&self.rows(), at, &[q_at, k_at]).map(Arc::new);
        let q_rows = gather(q_at)?;
        let mut at = vec![(query, q_rows.clone())];
        if let Some(key) = key {
            at.push((key, if q_at == k_at { q_rows } else { gather(k_at)? }));
        }
        Ok(Arc::new(PreparedInputTable { spec: self.spec(dims), at }))
    }

    fn advance<R: Real>(&self, _dims: &Dims, before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let Some(PreparedInputTable { at: sites, .. }) = owned(prepared) else {
            return false;
        };
        let shared = sites.windows(2).any(|pair| Arc::ptr_eq(&pair[0].1, &pair[1].1));
        // Of queries, then of keys.
        !shared
            && sites.iter_mut().enumerate().all(|(i, (_, gather))| {
                let gather = Arc::get_mut(gather);
                gather.is_some_and(|gather| gather.go_on(&self.rows(), before[i], at[i], &at))
            })
    }
}

struct PreparedInputTable {
    spec: ParamSpec,
    at: Vec<(Site, Arc<Gather>)>,
}

impl<R: Real> Prepared<R> for PreparedInputTable {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let table = params.get(&self.spec)?;
        for (site, gather) in &self.at {
            parts.addends.push(Addend {
                site: *site,
                width: self.spec.shape[1],
                concatenated: false,
                dropout: 0.0,
                source: Source::Table {
                    table,
                    spec: self.spec.clone(),
                    gather: gather.clone(),
                },
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::Mode;
    use crate::encoding::Encoding;
    use crate::params::Params;
    use crate::plan::Plan;
    use crate::reference;
    use crate::rng::Rng;
    use crate::view::{View, ViewMut};

    fn numbers(seed: u64, n: usize) -> Vec<f64> {
        let mut rng = Rng::new(seed);
        (0..n).map(|_| rng.normal()).collect()
    }

    fn plan(table: InputTable) -> Plan {
        Encoding::from(table).plan(Dims::new(6, 2).unwrap()).unwrap()
    }

    /// Streams of a cross-attention with repeats, tokens without a position, and rows that differ.
    fn streams() -> (Positions, Positions, Vec<Option<usize>>, Vec<Option<usize>>) {
        let q = Positions::whole_rows(&[4, 0, 4, 2], 2).unwrap();
        let q = q.with_presence_rows(&[true, true, false, true], 2).unwrap();
        let k = Positions::whole(&[1, 4, 4]);
        let keys = [Some(1), Some(4), Some(4)];
        (q, k, vec![Some(4), Some(0), None, Some(2)], keys.repeat(2))
    }

    #[test]
    fn queries_and_keys_read_one_table_as_the_reference_does() {
        let (q_at, k_at, q_ids, k_ids) = streams();
        let plan = plan(InputTable::new(5).with_init(Init::Normal(1.0)));
        let params: Params<f64> = plan.init(1).unwrap();
        let call = plan.call(&params, &q_at, &k_at).unwrap();
        assert!(!call.adds_at(Site::Embedding) && call.adds_at(Site::QueryInput) && call.adds_at(Site::KeyInput));
        let (q, k) = (numbers(1, 24), numbers(2, 36));
        let (mut q2, mut k2) = (q.clone(), k.clone());
        call.add(Site::QueryInput, ViewMut::new(&mut q2, [2, 2, 6]).unwrap(), Mode::Evaluate)
            .unwrap();
        call.add(Site::KeyInput, ViewMut::new(&mut k2, [2, 3, 6]).unwrap(), Mode::Evaluate)
            .unwrap();
        assert_eq!(q2, reference::input::add(&q, &q_ids, params.flat(), 6));
        assert_eq!(k2, reference::input::add(&k, &k_ids, params.flat(), 6));

        let (mut dq, mut dk, mut grads) = (numbers(3, 24), numbers(4, 36), params.zeros_like());
        let expected = reference::input::add_adjoint([(&q_ids, &dq), (&k_ids, &dk)], 5, 6);
        let (dq_before, dk_before) = (dq.clone(), dk.clone());
        call.add_adjoint(
            Site::QueryInput,
            ViewMut::new(&mut dq, [2, 2, 6]).unwrap(),
            Mode::Evaluate,
            &mut grads,
        )
        .unwrap();
        call.add_adjoint(
            Site::KeyInput,
            ViewMut::new(&mut dk, [2, 3, 6]).unwrap(),
            Mode::Evaluate,
            &mut grads,
        )
        .unwrap();
        assert_eq!(grads.flat(), expected);
        assert_eq!((dq, dk), (dq_before, dk_before));
    }

    #[test]
    fn adjoint_matches_finite_differences() {
        let (q_at, k_at, ..) = streams();
        for overflow in [
            Overflow::Error,
            Overflow::Clamp,
            Overflow::Wrap,
            Overflow::Interpolate,
            Overflow::InterpolateTo(7),
        ] {
            let rows = if overflow == Overflow::Error { 5 } else { 3 };
            let plan = plan(InputTable::new(rows).with_overflow(overflow).with_init(Init::Normal(1.0)));
            let mut params: Params<f64> = plan.init(1).unwrap();
            let (w_q, w_k) = (numbers(1, 24), numbers(2, 36));
            let loss = |params: &Params<f64>| -> f64 {
                let call = plan.call(params, &q_at, &k_at).unwrap();
                let (mut q, mut k) = (numbers(3, 24), numbers(4, 36));
                call.add(Site::QueryInput, ViewMut::new(&mut q, [2, 2, 6]).unwrap(), Mode::Evaluate)
                    .unwrap();
                call.add(Site::KeyInput, ViewMut::new(&mut k, [2, 3, 6]).unwrap(), Mode::Evaluate)
                    .unwrap();
                q.iter().zip(&w_q).chain(k.iter().zip(&w_k)).map(|(y, w)| y * w).sum()
            };
            let mut grads = params.zeros_like();
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let (mut dq, mut dk) = (w_q.clone(), w_k.clone());
            call.add_adjoint(
                Site::QueryInput,
                ViewMut::new(&mut dq, [2, 2, 6]).unwrap(),
                Mode::Evaluate,
                &mut grads,
            )
            .unwrap();
            call.add_adjoint(
                Site::KeyInput,
                ViewMut::new(&mut dk, [2, 3, 6]).unwrap(),
                Mode::Evaluate,
                &mut grads,
            )
            .unwrap();
            drop(call);
            // The loss is linear, so a step of 1 has no error but the rounding of a sum of 60 products of normal numbers.
            let bound = 8.0 * 60.0 * 60.0 * f64::EPSILON;
            for i in 0..params.size() {
                let mut at_step = |step: f64| {
                    let kept = params.flat()[i];
                    params.flat_mut()[i] += step;
                    let value = loss(&params);
                    params.flat_mut()[i] = kept;
                    value
                };
                let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
                assert!((grads.flat()[i] - difference).abs() <= bound, "{overflow:?} {i}");
            }
        }
    }

    #[test]
    fn a_table_of_zeros_changes_no_bit() {
        let plan = plan(InputTable::new(4));
        let params: Params<f32> = plan.init(9).unwrap();
        assert_eq!(
            (plan.parameters()[0].name.as_str(), plan.parameters()[0].scope),
            ("pos_emb", Scope::Layer)
        );
        let at = Positions::range(0..4);
        let before: Vec<f32> = numbers(1, 24).iter().map(|x| *x as f32).collect();
        let mut x = before.clone();
        let call = plan.call(&params, &at, &at).unwrap();
        for site in [Site::QueryInput, Site::KeyInput] {
            call.add(site, ViewMut::new(&mut x, [1, 4, 6]).unwrap(), Mode::Train { seed: 1, call: 1 })
                .unwrap();
        }
        assert_eq!(x, before);
    }

    #[test]
    fn each_layer_has_its_table_and_all_share_the_positions() {
        let plan = plan(InputTable::new(4));
        let prefixed = |layer: usize| plan.parameters()[0].clone().prefixed(&format!("layers.{layer}.attn"));
        let mut store: Params<f32> = Params::init(&[prefixed(0), prefixed(1)], 0).unwrap();
        store.get_mut("layers.1.attn.pos_emb").unwrap().fill(1.0);
        let at = Positions::range(0..4);
        let first = plan.call(store.bound("", "layers.0.attn"), &at, &at).unwrap();
        let second = first.for_layer(store.bound("", "layers.1.attn")).unwrap();
        for (call, expected) in [(first, 0.0), (second, 1.0)] {
            let mut q = [0.0f32; 24];
            call.add(Site::QueryInput, ViewMut::new(&mut q, [1, 4, 6]).unwrap(), Mode::Evaluate)
                .unwrap();
            assert_eq!(q, [expected; 24]);
        }
        let shared = InputTable::new(4).with_scope(Scope::Model);
        assert_eq!(
            Encoding::from(shared).plan(Dims::new(6, 2).unwrap()).unwrap().parameters()[0].scope,
            Scope::Model
        );
    }

    #[test]
    fn projected_queries_get_each_head_its_columns() {
        let plan = plan(InputTable::new(3).projected().with_init(Init::Normal(1.0)));
        let params: Params<f64> = plan.init(2).unwrap();
        let at = Positions::whole(&[2, 0]);
        let call = plan.call(&params, &at, &at).unwrap();
        assert!(!call.adds_at(Site::QueryInput) && call.adds_at(Site::Query) && call.adds_at(Site::Key));
        let mut q = vec![0.0; 12];
        call.add_heads(Site::Query, ViewMut::new(&mut q, [1, 2, 2, 3]).unwrap()).unwrap();
        let row = |id: usize, h: usize| &params.flat()[id * 6 + h * 3..][..3];
        assert_eq!(q, [row(2, 0), row(0, 0), row(2, 1), row(0, 1)].concat());
        let (dq, mut grads) = (numbers(5, 12), params.zeros_like());
        call.add_heads_adjoint(Site::Query, View::new(&dq, [1, 2, 2, 3]).unwrap(), &mut grads)
            .unwrap();
        assert_eq!(grads.flat()[12..15], dq[0..3]);
        assert_eq!(grads.flat()[15..18], dq[6..9]);
        assert_eq!(grads.flat()[6..12], [0.0; 6]);
    }

    #[test]
    fn plans_and_calls_refuse_what_cannot_work() {
        let dims = Dims::new(6, 2).unwrap();
        let refuse = |table: InputTable, dims| Encoding::from(table).plan(dims).unwrap_err();
        assert!(matches!(refuse(InputTable::new(0), dims), Error::Zero { what: "max_len" }));
        let grouped = dims.with_kv_heads(1).unwrap();
        assert!(matches!(refuse(InputTable::new(4).projected(), grouped), Error::Unsupported { .. }));
        let embeddings = InputTable {
            add_to: AddTo::Embeddings,
            ..InputTable::new(4)
        };
        assert!(matches!(refuse(embeddings, dims), Error::Unsupported { .. }));
        let plan = plan(InputTable::new(4));
        let params: Params<f32> = plan.init(0).unwrap();
        let call = |ids: &[i64]| plan.call(&params, &Positions::range(0..4), &Positions::whole(ids)).err();
        assert!(matches!(call(&[0, 4]), Some(Error::PastTable { position: 4, token: 1, .. })));
        assert!(matches!(call(&[-1]), Some(Error::Negative { .. })), "a negative id does not wrap");
    }

    #[test]
    fn half_precision_streams() {
        let plan = plan(InputTable::new(4).with_init(Init::Normal(1.0)));
        let params: Params<f32> = plan.init(3).unwrap();
        let at = Positions::range(3..4);
        let call = plan.call(&params, &at, &at).unwrap();
        let mut q = [half::bf16::from_f32(0.0); 6];
        call.add(Site::QueryInput, ViewMut::new(&mut q, [1, 1, 6]).unwrap(), Mode::Evaluate)
            .unwrap();
        assert_eq!(
            q.to_vec(),
            params.flat()[18..].iter().map(|x| half::bf16::from_f32(*x)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn says_what_it_is_in_one_line() {
        assert_eq!(InputTable::new(32).to_string(), "input_table(max_len 32, on query and key inputs)");
        assert_eq!(
            InputTable::new(32)
                .projected()
                .with_scope(Scope::Model)
                .with_overflow(Overflow::Wrap)
                .to_string(),
            "input_table(max_len 32, on projected queries and keys, one for all layers, wrapped past the end)"
        );
    }
}
