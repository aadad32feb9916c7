//! What happens now: an encoding with its positions and parameters resolved, for one forward pass and its adjoint.

mod adding;

use crate::bias::{gather_terms, write_terms};
use crate::dims::Dims;
use crate::embed::Addend;
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Bound, Params};
use crate::plan::{Plan, Prepared};
use crate::positions::Positions;
use crate::project::Projected;
use crate::real::{Element, Real};
use crate::rotate::RotationPair;
use crate::term::{Granularity, ScoreTerm};
use crate::view::{View, ViewMut};
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

/// A plan with positions resolved and no parameters yet: what the layers of a model share, for who keeps it longer than any layer's parameters. A clone shares its tables.
#[derive(Clone)]
pub struct Located<R: Real = f32> {
    plan: Plan,
    q_at: Positions,
    k_at: Positions,
    prepared: Arc<[Arc<dyn Prepared<R>>]>,
}

impl<R: Real> Located<R> {
    pub(crate) fn new(plan: Plan, q_at: Positions, k_at: Positions, prepared: Arc<[Arc<dyn Prepared<R>>]>) -> Self {
        Located {
            plan,
            q_at,
            k_at,
            prepared,
        }
    }

    /// The call of a layer with these parameters: what [`Plan::call`] gives.
    ///
    /// ```
    /// use posenc::{Alibi, Dims, Encoding, Positions};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims::new(8, 2)?)?;
    /// let at = Positions::range(0..3);
    /// let located = plan.locate::<f32>(&at, &at)?;
    /// let layers = [plan.init(0)?, plan.init(1)?];
    /// for params in &layers {
    ///     let call = located.call(params)?;
    ///     assert_eq!(call.bias().len(), 1);
    /// }
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// A parameter that is missing.
    pub fn call<'p>(&self, params: impl Into<Bound<'p, R>>) -> Result<Call<'p, R>> {
        let params = params.into();
        let mut parts = Parts {
            addends: Vec::new(),
            rotations: Vec::new(),
            content: Vec::new(),
            bias: Vec::new(),
            projected: Vec::new(),
        };
        for method in self.prepared.iter() {
            method.bind(&params, &mut parts)?;
        }
        Ok(Call {
            located: self.clone(),
            prefixes: params.prefixes(),
            parts,
            tabled: false,
            pushed: false,
        })
    }

    /// The plan that was located.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Positions of the queries.
    pub fn q_at(&self) -> &Positions {
        &self.q_at
    }

    /// Positions of the keys.
    pub fn k_at(&self) -> &Positions {
        &self.k_at
    }
}

/// An encoding with positions and parameters resolved. Holds O(T) or O(T·d) numbers, never O(T²).
pub struct Call<'p, R: Real = f32> {
    located: Located<R>,
    /// Where the model's and the layer's parameters stand in their store: gradients go to the same names.
    pub(crate) prefixes: [String; 2],
    pub(crate) parts: Parts<'p, R>,
    /// The terms that waited have their tables.
    pub(crate) tabled: bool,
    /// The caller has added terms of its own.
    pushed: bool,
}

impl<'p, R: Real> Call<'p, R> {
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
        self.located.call(params)
    }

    /// The plan that was called.
    pub fn plan(&self) -> &Plan {
        &self.located.plan
    }

    /// The widths of the plan.
    pub fn dims(&self) -> Dims {
        self.located.plan.dims()
    }

    /// Positions of the queries.
    pub fn q_at(&self) -> &Positions {
        &self.located.q_at
    }

    /// Positions of the keys.
    pub fn k_at(&self) -> &Positions {
        &self.located.k_at
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
            located: self.located.clone(),
            prefixes: self.prefixes.clone(),
            tabled: !parts.projected.is_empty(),
            parts,
            pushed: self.pushed,
        }
    }

    fn positions_of(&self, site: Site) -> &Positions {
        match site {
            Site::Embedding | Site::QueryInput | Site::Query => &self.located.q_at,
            Site::KeyInput | Site::Key => &self.located.k_at,
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
        self.check_bias("bias [batch, heads, q_len, k_len]", out.shape())?;
        let (dims, terms) = (self.dims(), self.parts.bias.iter().map(|term| &**term));
        write_terms(terms, dims.heads / dims.kv_heads, [self.q_at(), self.k_at()], out);
        Ok(())
    }

    /// The adjoint of [`Call::materialise_bias`]: adds what the gradient of the matrix, `[batch, heads, q_len, k_len]`, gives the biases' parameters to `grads`.
    ///
    /// # Errors
    /// As [`Call::materialise_bias`], or a parameter that is missing from `grads`.
    ///
    /// ```
    /// use posenc::{ClippedBias, Dims, Direction, Encoding, Positions, View};
    /// let plan = Encoding::from(ClippedBias::new(1, Direction::KeyMinusQuery)).plan(Dims::new(4, 1)?)?;
    /// let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
    /// let mut grads = params.zeros_like();
    /// plan.call(&params, &at, &at)?.materialise_bias_adjoint(View::new(&[1.0f32; 9], [1, 1, 3, 3])?, &mut grads)?;
    /// assert_eq!(grads.flat(), [3.0, 3.0, 3.0]); // three pairs look back, three at themselves, three ahead
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn materialise_bias_adjoint<T: Element<Real = R>>(&self, d_out: View<'_, T, 4>, grads: &mut Params<R>) -> Result<()> {
        self.check_bias("gradient of a bias [batch, heads, q_len, k_len]", d_out.shape())?;
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        let (dims, terms) = (self.dims(), self.parts.bias.iter().map(|term| &**term));
        let mut slots = Vec::new();
        for term in terms.clone() {
            let size = memory::check::<R>("slots of a bias [heads, slots]", &[dims.heads, term.needs().slots])?;
            slots.push(vec![R::ZERO; size]);
        }
        if !d_out.is_empty() {
            gather_terms(
                terms.clone(),
                dims.heads / dims.kv_heads,
                [self.q_at(), self.k_at()],
                d_out,
                &mut slots,
            );
        }
        terms.zip(&slots).try_for_each(|(term, slots)| term.collect(slots, &mut grads))
    }

    /// A matrix of this shape can be written out.
    fn check_bias(&self, what: &'static str, given: [usize; 4]) -> Result<()> {
        let [batch, _, q_len, k_len] = given;
        let expected = [batch, self.dims().heads, self.q_at().len(), self.k_at().len()];
        if given != expected {
            return Err(Error::Shape {
                what,
                expected: expected.to_vec(),
                given: given.to_vec(),
            });
        }
        self.q_at().check_fit("query positions [batch, seq]", batch, q_len)?;
        self.k_at().check_fit("key positions [batch, seq]", batch, k_len)?;
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
        Ok(())
    }
}
