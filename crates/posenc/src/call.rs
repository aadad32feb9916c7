//! What happens now: an encoding with its positions and parameters resolved, for one forward pass and its adjoint.

mod adding;

use crate::bias::write_terms;
use crate::dims::Dims;
use crate::embed::Addend;
use crate::error::{Error, Result};
use crate::params::{Bound, Params};
use crate::plan::{Plan, Prepared};
use crate::positions::Positions;
use crate::project::Projected;
use crate::real::{Element, Real};
use crate::rotate::RotationPair;
use crate::term::{Granularity, ScoreTerm};
use crate::view::ViewMut;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a table is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The token embeddings `[batch, seq, model_dim]`, once, before the first layer.
    Embedding,
    /// The query stream before its projection `[batch, seq, model_dim]`, in each layer.
    QueryInput,
    /// The key stream before its projection `[batch, seq, model_dim]`, in each layer.
    KeyInput,
    /// The projected queries `[batch, heads, seq, head_dim]`.
    Query,
    /// The projected keys `[batch, kv_heads, seq, head_dim]`.
    Key,
}

/// What the methods of a plan put into a call. A clone shares tables and terms.
#[derive(Clone)]
pub(crate) struct Parts<'p, R: Real> {
    pub addends: Vec<Addend<'p, R>>,
    pub rotations: Vec<Arc<RotationPair<R>>>,
    pub content: Vec<Arc<dyn ScoreTerm<R> + 'p>>,
    pub bias: Vec<Arc<dyn ScoreTerm<R> + 'p>>,
    /// Content terms that wait for their tables.
    pub projected: Vec<Projected<'p, R>>,
}

/// An encoding with positions and parameters resolved. Holds O(T) or O(T·d) numbers, never O(T²).
pub struct Call<'p, R: Real = f32> {
    plan: Plan,
    q_at: Positions,
    k_at: Positions,
    prepared: Arc<[Arc<dyn Prepared<R>>]>,
    /// Where the model's and the layer's parameters stand in their store: gradients go to the same names.
    pub(crate) prefixes: [String; 2],
    pub(crate) parts: Parts<'p, R>,
    /// The terms that waited have their tables.
    pub(crate) tabled: bool,
    /// The caller has added terms of its own.
    pushed: bool,
}

impl<'p, R: Real> Call<'p, R> {
    pub(crate) fn bind(
        plan: Plan,
        q_at: Positions,
        k_at: Positions,
        prepared: Arc<[Arc<dyn Prepared<R>>]>,
        params: &Bound<'p, R>,
    ) -> Result<Self> {
        let mut parts = Parts {
            addends: Vec::new(),
            rotations: Vec::new(),
            content: Vec::new(),
            bias: Vec::new(),
            projected: Vec::new(),
        };
        for method in prepared.iter() {
            method.bind(params, &mut parts)?;
        }
        Ok(Call {
            plan,
            q_at,
            k_at,
            prepared,
            prefixes: params.prefixes(),
            parts,
            tabled: false,
            pushed: false,
        })
    }

    /// The same call for another layer: its own parameters, the same position tables. Where the plan has projections, it waits for that layer's tables ([`Call::with_tables`]).
    ///
    /// # Errors
    /// A parameter that is missing, or a call that terms were pushed to: they are one layer's, so each layer's call gets its own, afterwards.
    pub fn for_layer<'l>(&self, params: impl Into<Bound<'l, R>>) -> Result<Call<'l, R>> {
        if self.pushed {
            return Err(Error::Unsupported {
                method: "Call::for_layer",
                what: "this call has terms of its caller's; make the layers' calls first, then push each layer its own terms",
            });
        }
        Call::bind(
            self.plan.clone(),
            self.q_at.clone(),
            self.k_at.clone(),
            self.prepared.clone(),
            &params.into(),
        )
    }

    /// The plan that was called.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The widths of the plan.
    pub fn dims(&self) -> Dims {
        self.plan.dims()
    }

    /// Positions of the queries.
    pub fn q_at(&self) -> &Positions {
        &self.q_at
    }

    /// Positions of the keys.
    pub fn k_at(&self) -> &Positions {
        &self.k_at
    }

    /// How queries and keys are turned; attention does it while it packs them.
    pub fn rotations(&self) -> &[Arc<RotationPair<R>>] {
        &self.parts.rotations
    }

    /// Terms added before soft-capping; they may read queries and keys.
    pub fn content(&self) -> &[Arc<dyn ScoreTerm<R> + 'p>] {
        &self.parts.content
    }

    /// Terms added after soft-capping.
    pub fn bias(&self) -> &[Arc<dyn ScoreTerm<R> + 'p>] {
        &self.parts.bias
    }

    /// Adds a term of the caller's own before soft-capping. Its slots come after those of the plan's content terms.
    pub fn push_content(&mut self, term: Arc<dyn ScoreTerm<R> + 'p>) {
        self.pushed = true;
        self.parts.content.push(term);
    }

    /// Adds a term of the caller's own after soft-capping: one that reads positions, or the scores; what reads queries or keys is content. Its slots come after those of the plan's bias terms.
    pub fn push_bias(&mut self, term: Arc<dyn ScoreTerm<R> + 'p>) {
        self.pushed = true;
        self.parts.bias.push(term);
    }

    /// All terms: content, then bias.
    pub(crate) fn terms(&self) -> impl Iterator<Item = &Arc<dyn ScoreTerm<R> + 'p>> {
        self.parts.content.iter().chain(&self.parts.bias)
    }

    /// Something is added at this site.
    pub fn adds_at(&self, site: Site) -> bool {
        self.parts.addends.iter().any(|a| a.site == site)
    }

    /// The same call with its waiting terms in place.
    pub(crate) fn with_terms<'t>(&self, terms: Vec<Arc<dyn ScoreTerm<R> + 't>>) -> Call<'t, R>
    where
        'p: 't,
    {
        let mut parts: Parts<'t, R> = self.parts.clone();
        parts.content.extend(terms);
        Call {
            plan: self.plan.clone(),
            q_at: self.q_at.clone(),
            k_at: self.k_at.clone(),
            prepared: self.prepared.clone(),
            prefixes: self.prefixes.clone(),
            tabled: !parts.projected.is_empty(),
            parts,
            pushed: self.pushed,
        }
    }

    fn positions_of(&self, site: Site) -> &Positions {
        match site {
            Site::Embedding | Site::QueryInput | Site::Query => &self.q_at,
            Site::KeyInput | Site::Key => &self.k_at,
        }
    }

    /// Adds the gradients that attention summed in its slots to the parameters they belong to. `slots` are those of
    /// [`Attention::adjoint`](crate::Attention::adjoint), of this call or of another layer of the same plan.
    ///
    /// # Errors
    /// Slots of another call's adjoint, or of none; a parameter that is missing from `grads`; a call with projected tables, whose gradients need a store of their own
    /// ([`Call::adjoint_with_tables`]).
    pub fn adjoint(&self, slots: &crate::attention::Slots<R>, grads: &mut Params<R>) -> Result<()> {
        if !self.parts.projected.is_empty() {
            return Err(Error::Unsupported {
                method: "Call::adjoint",
                what: "this call has projected tables, whose gradients need a store; use adjoint_with_tables",
            });
        }
        self.collect(slots, grads, None)
    }

    pub(crate) fn collect(
        &self,
        slots: &crate::attention::Slots<R>,
        grads: &mut Params<R>,
        d_tables: Option<&mut Params<R>>,
    ) -> Result<()> {
        let expected: Vec<usize> = self.terms().map(|term| term.needs().slots * self.dims().heads).collect();
        let given = slots.lengths();
        if given != expected {
            return Err(Error::Shape {
                what: "slots of the call's terms [heads · slots each]",
                expected,
                given,
            });
        }
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]).with_tables(d_tables);
        for (i, term) in self.terms().enumerate() {
            term.collect(slots.term(i), &mut grads)?;
        }
        Ok(())
    }

    /// The sum of all bias terms, written to the caller's buffer `[batch, heads, q_len, k_len]`, rounded once where it is of half precision: for those who need the matrix itself. Of one
    /// query it is the row of a decoding step.
    ///
    /// # Errors
    /// A shape that does not fit the call, or a bias that needs the scores.
    ///
    /// ```
    /// use posenc::{Alibi, Dims, Encoding, Params, Positions, ViewMut};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims::new(16, 2)?)?;
    /// let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
    /// let mut bias = vec![0.0f32; 2 * 3 * 3];
    /// plan.call(&params, &at, &at)?.materialise_bias(ViewMut::new(&mut bias, [1, 2, 3, 3])?)?;
    /// assert_eq!(bias[2 * 3], -2.0 / 16.0); // head 0 has slope 2⁻⁴; key 0 lies two before query 2
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn materialise_bias<T: Element<Real = R>>(&self, out: ViewMut<'_, T, 4>) -> Result<()> {
        let [batch, _, q_len, k_len] = out.shape();
        let dims = self.dims();
        let expected = [batch, dims.heads, self.q_at.len(), self.k_at.len()];
        if out.shape() != expected {
            return Err(Error::Shape {
                what: "bias [batch, heads, q_len, k_len]",
                expected: expected.to_vec(),
                given: out.shape().to_vec(),
            });
        }
        self.q_at.check_fit("query positions [batch, seq]", batch, q_len)?;
        self.k_at.check_fit("key positions [batch, seq]", batch, k_len)?;
        if self
            .parts
            .bias
            .iter()
            .any(|t| t.needs().granularity == Granularity::AllHeads || t.needs().reads_scores)
        {
            return Err(Error::Unsupported {
                method: "materialise_bias",
                what: "this bias depends on the scores; run attention instead",
            });
        }
        let terms = self.parts.bias.iter().map(|term| &**term);
        write_terms(terms, dims.heads / dims.kv_heads, [&self.q_at, &self.k_at], out);
        Ok(())
    }
}
