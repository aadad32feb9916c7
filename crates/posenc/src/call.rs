//! What happens now: an encoding with its positions and parameters resolved, for one forward pass and its adjoint.

use crate::dims::Dims;
use crate::dropout::Mode;
use crate::embed::Addend;
use crate::error::{Error, Result};
use crate::kernels::{self, Present};
use crate::params::{Bound, Params};
use crate::plan::{Plan, Prepared};
use crate::positions::Positions;
use crate::project::Projected;
use crate::real::{Element, Real};
use crate::rotate::RotationPair;
use crate::term::{BlockMut, Granularity, Place, ScoreTerm, Tile};
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

    /// `x += table rows` at a site of the model's width, `[batch, seq, model_dim]`, then dropout of the sum where the method names one.
    ///
    /// # Errors
    /// A shape that does not fit the call, a site of another rank, or a table that is concatenated ([`Call::embed`] does that).
    #[doc(alias = "forward")]
    pub fn add<T: Element<Real = R>>(&self, site: Site, mut x: ViewMut<'_, T, 3>, mode: Mode) -> Result<()> {
        let [batch, len, width] = x.shape();
        self.check_rows(site, 3, batch, len)?;
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            addend.check_width(width)?;
        }
        if x.is_empty() {
            return Ok(());
        }
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            for b in 0..batch {
                for t in 0..len {
                    addend.add_row(b, t, 0, x.row_mut([b, t, 0]));
                }
            }
        }
        self.drop_out(site, x, mode);
        Ok(())
    }

    /// The adjoint of [`Call::add`]: turns `dx` from the gradient of the sum into that of `x`, and adds the tables' gradients to `grads`, a store of the layout
    /// of the parameters that the call was made with.
    ///
    /// # Errors
    /// As [`Call::add`], or a parameter that is missing from `grads`.
    pub fn add_adjoint<T: Element<Real = R>>(
        &self,
        site: Site,
        mut dx: ViewMut<'_, T, 3>,
        mode: Mode,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let [batch, len, width] = dx.shape();
        self.check_rows(site, 3, batch, len)?;
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            addend.check_width(width)?;
            addend.gradient(&mut grads)?;
        }
        if dx.is_empty() {
            return Ok(());
        }
        self.drop_out(site, dx.reborrow(), mode);
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            let Some(into) = addend.gradient(&mut grads)? else { continue };
            for b in 0..batch {
                for t in 0..len {
                    addend.scatter_row(b, t, 0, dx.as_view().row([b, t, 0]), into);
                }
            }
        }
        Ok(())
    }

    /// `x += table rows` at a projected site, `[batch, heads, seq, head_dim]`: each head takes its own columns of the row.
    ///
    /// # Errors
    /// A shape that does not fit the call.
    pub fn add_heads<T: Element<Real = R>>(&self, site: Site, mut x: ViewMut<'_, T, 4>) -> Result<()> {
        let [batch, heads, len, head_dim] = x.shape();
        self.check_rows(site, 4, batch, len)?;
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            addend.check_width(heads.saturating_mul(head_dim))?;
        }
        if x.is_empty() {
            return Ok(());
        }
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            for b in 0..batch {
                for h in 0..heads {
                    for t in 0..len {
                        addend.add_row(b, t, h * head_dim, x.row_mut([b, h, t, 0]));
                    }
                }
            }
        }
        Ok(())
    }

    /// The adjoint of [`Call::add_heads`]: adds the tables' gradients to `grads`; the gradient of `x` is `dx` itself.
    ///
    /// # Errors
    /// As [`Call::add_heads`], or a parameter that is missing from `grads`.
    pub fn add_heads_adjoint<T: Element<Real = R>>(&self, site: Site, dx: View<'_, T, 4>, grads: &mut Params<R>) -> Result<()> {
        let [batch, heads, len, head_dim] = dx.shape();
        self.check_rows(site, 4, batch, len)?;
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            addend.check_width(heads.saturating_mul(head_dim))?;
            addend.gradient(&mut grads)?;
        }
        if dx.is_empty() {
            return Ok(());
        }
        for addend in self.parts.addends.iter().filter(|a| a.site == site) {
            let Some(into) = addend.gradient(&mut grads)? else { continue };
            for b in 0..batch {
                for h in 0..heads {
                    for t in 0..len {
                        addend.scatter_row(b, t, h * head_dim, dx.row([b, h, t, 0]), into);
                    }
                }
            }
        }
        Ok(())
    }

    /// Embeddings with everything that acts on them: `out = [x + added tables ‖ concatenated tables]`, then dropout of the whole where a method names one.
    /// `x` is `[batch, seq, model_dim]`, `out` is wider by [`Plan::concat_width`].
    ///
    /// # Errors
    /// A shape that does not fit the call.
    pub fn embed<T: Element<Real = R>>(&self, x: View<'_, T, 3>, mut out: ViewMut<'_, T, 3>, mode: Mode) -> Result<()> {
        let [batch, len, width] = x.shape();
        self.check_embeddings(batch, len, width)?;
        let wide = width + self.plan.concat_width();
        if out.shape() != [batch, len, wide] {
            return Err(Error::Shape {
                what: "out [batch, seq, width]",
                expected: vec![batch, len, wide],
                given: out.shape().to_vec(),
            });
        }
        for addend in self.embedding_addends().filter(|a| !a.concatenated) {
            addend.check_width(width)?;
        }
        if out.is_empty() {
            return Ok(());
        }
        for b in 0..batch {
            for t in 0..len {
                let row = out.row_mut([b, t, 0]);
                row[..width].copy_from_slice(x.row([b, t, 0]));
                row[width..].fill(T::narrow(R::ZERO));
                let mut column = width;
                for addend in self.embedding_addends() {
                    if addend.concatenated {
                        addend.add_row(b, t, 0, &mut row[column..column + addend.width]);
                        column += addend.width;
                    } else {
                        addend.add_row(b, t, 0, &mut row[..width]);
                    }
                }
            }
        }
        self.drop_out(Site::Embedding, out, mode);
        Ok(())
    }

    /// The adjoint of [`Call::embed`]: `dx` is overwritten with the gradient of `x`; the tables' gradients are added to `grads`. `d_out` is used as scratch.
    ///
    /// # Errors
    /// As [`Call::embed`], or a parameter that is missing from `grads`.
    pub fn embed_adjoint<T: Element<Real = R>>(
        &self,
        mut d_out: ViewMut<'_, T, 3>,
        mut dx: ViewMut<'_, T, 3>,
        mode: Mode,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let [batch, len, width] = dx.shape();
        self.check_embeddings(batch, len, width)?;
        let wide = width + self.plan.concat_width();
        if d_out.shape() != [batch, len, wide] {
            return Err(Error::Shape {
                what: "d_out [batch, seq, width]",
                expected: vec![batch, len, wide],
                given: d_out.shape().to_vec(),
            });
        }
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for addend in self.embedding_addends() {
            if !addend.concatenated {
                addend.check_width(width)?;
            }
            addend.gradient(&mut grads)?;
        }
        if d_out.is_empty() {
            return Ok(());
        }
        self.drop_out(Site::Embedding, d_out.reborrow(), mode);
        let d_out = d_out.as_view();
        let mut column = width;
        for addend in self.embedding_addends() {
            let from = if addend.concatenated {
                column += addend.width;
                column - addend.width
            } else {
                0
            };
            let Some(into) = addend.gradient(&mut grads)? else { continue };
            for b in 0..batch {
                for t in 0..len {
                    addend.scatter_row(b, t, 0, &d_out.row([b, t, 0])[from..from + addend.width], into);
                }
            }
        }
        for b in 0..batch {
            for t in 0..len {
                dx.row_mut([b, t, 0]).copy_from_slice(&d_out.row([b, t, 0])[..width]);
            }
        }
        Ok(())
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

    /// The sum of all bias terms, written to the caller's buffer `[batch, heads, q_len, k_len]`: for those who need the matrix itself.
    ///
    /// # Errors
    /// A shape that does not fit the call, or a bias that needs the scores.
    ///
    /// ```
    /// use posenc::{Alibi, Dims, Encoding, Params, Positions, ViewMut};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims::new(16, 2)?)?;
    /// let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
    /// let mut bias = vec![0.0; 2 * 3 * 3];
    /// plan.call(&params, &at, &at)?.materialise_bias(ViewMut::new(&mut bias, [1, 2, 3, 3])?)?;
    /// assert_eq!(bias[2 * 3], -2.0 / 16.0); // head 0 has slope 2⁻⁴; key 0 lies two before query 2
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn materialise_bias(&self, out: ViewMut<'_, R, 4>) -> Result<()> {
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
        let group = dims.heads / dims.kv_heads;
        kernels::write_rows(Present::current(), out, |[b, h, i], row| {
            let at = Place {
                batch: b,
                head: h,
                kv_head: h / group,
                q0: i,
                k0: 0,
                q_at: self.q_at.at(0, b, i, 1),
                k_at: self.k_at.at(0, b, 0, k_len),
                scale: 1.0,
            };
            let mut tile = BlockMut::new(row, 1, k_len, k_len);
            for term in &self.parts.bias {
                term.add(&Tile::of_positions(at), &mut tile);
            }
        });
        Ok(())
    }

    fn embedding_addends(&self) -> impl Iterator<Item = &Addend<'p, R>> {
        self.parts.addends.iter().filter(|a| a.site == Site::Embedding)
    }

    /// The site has this rank (3: the model's width, 4: heads), and the call's positions fit the rows.
    fn check_rows(&self, site: Site, rank: usize, batch: usize, len: usize) -> Result<()> {
        match (site, rank) {
            (Site::Embedding | Site::QueryInput | Site::KeyInput, 3) | (Site::Query | Site::Key, 4) => {}
            (_, 3) => {
                return Err(Error::Unsupported {
                    method: "Call",
                    what: "this site is projected, [batch, heads, seq, head_dim]; use add_heads",
                });
            }
            _ => {
                return Err(Error::Unsupported {
                    method: "Call",
                    what: "this site has the model's width, [batch, seq, model_dim]; use add",
                });
            }
        }
        self.positions_of(site).check_fit("positions [batch, seq]", batch, len)
    }

    /// Token embeddings are as wide as the model was planned.
    fn check_embeddings(&self, batch: usize, len: usize, width: usize) -> Result<()> {
        let expected = self.dims().model_dim;
        if width != expected {
            let (expected, given) = (vec![batch, len, expected], vec![batch, len, width]);
            return Err(Error::Shape {
                what: "x [batch, seq, model_dim]",
                expected,
                given,
            });
        }
        self.check_rows(Site::Embedding, 3, batch, len)
    }

    fn drop_out<T: Element<Real = R>>(&self, site: Site, mut x: ViewMut<'_, T, 3>, mode: Mode) {
        let [batch, len, _] = x.shape();
        for (i, addend) in self.parts.addends.iter().enumerate().filter(|(_, a)| a.site == site) {
            let Some(dropout) = mode.dropout(addend.dropout) else { continue };
            for b in 0..batch {
                for t in 0..len {
                    // Where attention has a head stands the site and the method's index, past any number of heads: no two of them drop the same places.
                    dropout.apply_row(b, (site as usize + 1) << 32 | i, t, x.row_mut([b, t, 0]));
                }
            }
        }
    }
}
