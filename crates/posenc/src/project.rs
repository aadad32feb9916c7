//! Tables that a layer makes with weights of its own: a plan says which, a call hands out the rows to be projected and takes the tables back.
//!
//! ```text
//! plan.projections()            which tables, and by which weights
//! call.rows(table)?             [n, model_dim], to be projected by the layer; the same for all layers
//! call.with_tables(&tables)?    the projected tables [n, heads, head_dim]: attention runs on the call that this gives
//! call.adjoint_with_tables(…)?  the parameters' gradients and those of the tables
//! call.rows_adjoint(table, …)?  from the gradient of the rows to the parameter whose rows they are
//! ```

use crate::call::Call;
use crate::content::relative::{HeadRows, RelativeTerm};
use crate::dims::Dims;
use crate::error::{Error, Result};
use crate::params::{Init, ParamSpec, Params, Scope};
use crate::real::Real;
use crate::term::ScoreTerm;
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A table in head space that a layer makes by projecting rows of the model's width: [`Plan::projections`](crate::Plan::projections).
///
/// ```
/// use posenc::{Dims, Encoding, Projector, TransformerXl};
/// let plan = Encoding::from(TransformerXl::paper()).plan(Dims::new(64, 4)?)?;
/// let projection = &plan.projections()[0];
/// assert_eq!(projection.by, Projector::Own { name: "r_net".into(), bias: false });
/// assert_eq!(projection.parameters(&plan.dims())[0].shape, [64, 64]); // r_net.weight, the layer's
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// Name of the table.
    pub table: String,
    /// The weights that make it.
    pub by: Projector,
    /// The parameter of the plan whose rows are projected; `None` where they are computed from positions and nothing learns from them.
    pub rows_of: Option<String>,
}

/// The weights that make a table out of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projector {
    /// Weights of the layer's for this alone: `NAME.weight` `[heads · head_dim, model_dim]` and, where there is one, `NAME.bias` `[heads · head_dim]`.
    Own {
        /// What they are called.
        name: String,
        /// They have a bias.
        bias: bool,
    },
    /// The layer's projection of queries, its bias included.
    Queries,
    /// The layer's projection of keys, its bias included.
    Keys,
}

impl Projection {
    /// Heads of the table: a shared projection of keys makes as many as there are key heads.
    pub fn heads(&self, dims: &Dims) -> usize {
        if self.by == Projector::Keys { dims.kv_heads } else { dims.heads }
    }

    /// The layer's weights for this alone, if they are not shared: `y = x·Wᵀ + b`.
    pub fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        let Projector::Own { name, bias } = &self.by else {
            return Vec::new();
        };
        let width = dims.heads * dims.head_dim;
        let weight = ParamSpec::new(format!("{name}.weight"), [width, dims.model_dim], Init::XavierUniform);
        let bias = bias.then(|| ParamSpec::new(format!("{name}.bias"), [width], Init::Zeros));
        [Some(weight), bias]
            .into_iter()
            .flatten()
            .map(|spec| spec.scoped(Scope::Layer))
            .collect()
    }
}

/// The rows that a method's tables are made of, `[n, model_dim]`.
#[derive(Clone)]
pub(crate) enum Rows<'p, R> {
    /// Computed once for all layers.
    Computed(Arc<[R]>),
    /// A parameter.
    Parameter(ParamSpec, &'p [R]),
}

impl<R> Rows<'_, R> {
    fn values(&self) -> &[R] {
        match self {
            Rows::Computed(rows) => rows,
            Rows::Parameter(_, rows) => rows,
        }
    }
}

/// A method's term that waits for its tables.
#[derive(Clone)]
pub(crate) struct Projected<'p, R: Real> {
    pub rows: Rows<'p, R>,
    /// The table that queries read, and the one that keys read.
    pub keys: Option<Projection>,
    pub queries: Option<Projection>,
    /// Everything but the tables.
    pub term: RelativeTerm<'p, R>,
}

impl<'p, R: Real> Projected<'p, R> {
    fn projections(&self) -> impl Iterator<Item = &Projection> {
        [&self.keys, &self.queries].into_iter().flatten()
    }

    /// `[n, heads, head_dim]`.
    fn spec(&self, projection: &Projection, dims: &Dims) -> ParamSpec {
        let rows = self.rows.values().len() / dims.model_dim;
        ParamSpec::new(&projection.table, [rows, projection.heads(dims), dims.head_dim], Init::Zeros)
    }

    fn term<'t>(&self, dims: &Dims, tables: &'t Params<R>) -> Result<RelativeTerm<'t, R>>
    where
        'p: 't,
    {
        let bound = tables.bound("", "");
        let table = |projection: &Option<Projection>| {
            let Some(projection) = projection else { return Ok(None) };
            let spec = self.spec(projection, dims);
            let values = bound.get(&spec)?;
            Ok(Some(HeadRows::of_table(spec, values, dims.heads)))
        };
        Ok(RelativeTerm {
            keys: table(&self.keys)?,
            queries: table(&self.queries)?,
            ..self.term.clone()
        })
    }
}

impl<'p, R: Real> Call<'p, R> {
    fn projected(&self, table: &str) -> Result<&Projected<'p, R>> {
        let names = || {
            self.parts
                .projected
                .iter()
                .flat_map(Projected::projections)
                .map(|p| p.table.as_str())
        };
        let of = |projected: &&Projected<'p, R>| projected.projections().any(|p| p.table == table);
        self.parts
            .projected
            .iter()
            .find(of)
            .ok_or_else(|| Error::unknown_name("projected table", table, &names().collect::<Vec<_>>()))
    }

    /// The rows that a layer projects into a table, `[n, model_dim]`, with n in O(q_len + k_len) or the rows of a parameter.
    ///
    /// # Errors
    /// The plan has no projection that makes this table.
    pub fn rows(&self, table: &str) -> Result<View<'_, R, 2>> {
        let (rows, width) = (self.projected(table)?.rows.values(), self.dims().model_dim);
        View::new(rows, [rows.len() / width, width])
    }

    /// The tables that this call takes, `[n, heads, head_dim]` each, in the order of [`Plan::projections`](crate::Plan::projections): what to make their store with.
    pub fn table_specs(&self) -> Vec<ParamSpec> {
        let dims = self.dims();
        let of = |projected: &Projected<'p, R>| projected.projections().map(|p| projected.spec(p, &dims)).collect::<Vec<_>>();
        self.parts.projected.iter().flat_map(of).collect()
    }

    /// The same call with its tables, as one layer has projected them: a store of [`Call::table_specs`]. It shares everything else with this one, so it costs nothing but its few terms.
    /// The parameters of this call's layer stay; [`Call::for_layer`] binds another's. A call without projections stays as it is.
    ///
    /// # Errors
    /// A table that is missing or of another shape, or a call that has its tables already.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Params, Positions, TransformerXl};
    /// let plan = Encoding::from(TransformerXl::paper()).plan(Dims::new(8, 2)?)?;
    /// let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..3));
    /// let call = plan.call(&params, &at, &at)?;
    /// let rows = call.rows("relative_keys")?; // sinusoids of the distances 2, 1, 0
    /// assert_eq!(rows.shape(), [3, 8]);
    /// let mut tables = Params::zeros(&call.table_specs())?;
    /// let weight = [[0.5f32; 8]; 8]; // r_net, the layer's own
    /// for (row, projected) in (0..3).zip(tables.get_mut("relative_keys")?.chunks_exact_mut(8)) {
    ///     for (y, w) in projected.iter_mut().zip(&weight) {
    ///         *y = rows.row([row, 0]).iter().zip(w).map(|(x, w)| x * w).sum();
    ///     }
    /// }
    /// assert_eq!(call.with_tables(&tables)?.content().len(), 1);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn with_tables<'t>(&self, tables: &'t Params<R>) -> Result<Call<'t, R>>
    where
        'p: 't,
    {
        if self.tabled {
            return Err(Error::Unsupported {
                method: "Call::with_tables",
                what: "this call has its tables; give others to the call it was made from",
            });
        }
        let dims = self.dims();
        let mut terms: Vec<Arc<dyn ScoreTerm<R> + 't>> = Vec::new();
        for projected in &self.parts.projected {
            terms.push(Arc::new(projected.term(&dims, tables)?));
        }
        Ok(self.with_terms(terms))
    }

    /// Every table was given.
    pub(crate) fn check_tables(&self) -> Result<()> {
        if self.tabled || self.parts.projected.is_empty() {
            return Ok(());
        }
        Err(Error::MissingTables {
            tables: self.table_specs().into_iter().map(|spec| spec.name).collect(),
        })
    }

    /// [`Call::adjoint`] of a call with tables: adds the parameters' gradients to `grads` and the tables' to `d_tables`, a store of [`Call::table_specs`].
    ///
    /// # Errors
    /// As [`Call::adjoint`]; a call whose tables were not given; a table that is missing from `d_tables`. Nothing is written then.
    pub fn adjoint_with_tables(&self, slots: &crate::attention::Slots<R>, grads: &mut Params<R>, d_tables: &mut Params<R>) -> Result<()> {
        self.check_tables()?;
        let mut tables: crate::params::BoundMut<'_, R> = (&mut *d_tables).into();
        for spec in self.table_specs() {
            tables.get_mut(&spec)?;
        }
        self.collect(slots, grads, Some(d_tables))
    }

    /// Adds the gradient of a table's rows, `[n, model_dim]`, to that of the parameter whose rows they are. Where rows are computed from positions there is none, and nothing happens.
    ///
    /// # Errors
    /// The plan has no projection that makes this table; another shape; a parameter that is missing from `grads`.
    pub fn rows_adjoint(&self, table: &str, d_rows: View<'_, R, 2>, grads: &mut Params<R>) -> Result<()> {
        let shape = self.rows(table)?.shape();
        let d_rows = d_rows.shaped("gradient of the rows [n, model_dim]", shape)?;
        let Rows::Parameter(spec, _) = &self.projected(table)?.rows else {
            return Ok(());
        };
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for (i, grad) in grads.get_mut(spec)?.chunks_exact_mut(shape[1]).enumerate() {
            grad.iter_mut().zip(d_rows.row([i, 0])).for_each(|(sum, d)| *sum += *d);
        }
        Ok(())
    }
}
