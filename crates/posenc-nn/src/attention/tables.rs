//! The tables of encodings that a layer projects: rows of the model's width, by weights of their own or by the layer's projections of queries and keys.

use super::MultiheadAttention;
use super::projections::Role;
use crate::error::Result;
use crate::linear::Linear;
use crate::number::Number;
use crate::shape::join;
use posenc::{Call, Error, ParamSpec, Params, Plan, Projection, Projector, View};

impl MultiheadAttention {
    /// The same layer for calls of this plan: with the weights that [`Plan::projections`] asks for, as `{name}.r_net.weight`. A layer whose encodings project nothing needs
    /// no such thing.
    pub fn for_plan(self, plan: &Plan) -> MultiheadAttention {
        MultiheadAttention {
            tables: plan.projections().to_vec(),
            ..self
        }
    }

    /// The weights for tables alone, in order.
    pub(super) fn table_specs(&self) -> Vec<ParamSpec> {
        self.tables
            .iter()
            .filter_map(|table| self.own(table))
            .flat_map(|linear| linear.specs())
            .collect()
    }

    fn own(&self, table: &Projection) -> Option<Linear> {
        let Projector::Own { name, bias } = &table.by else { return None };
        let dims = self.dims;
        let linear = Linear::new(join(&self.name, name), dims.model_dim, dims.heads * dims.head_dim).with_init(self.in_init);
        Some(if *bias { linear } else { linear.without_bias() })
    }

    /// The layer's tables for a call; `None` if its encoding has none. A norm of queries and keys is not applied to them.
    pub(super) fn tables<R: Number>(&self, params: &Params<R>, call: &Call<'_, R>) -> Result<Option<Params<R>>> {
        if call.plan().projections() != self.tables {
            return Err(Error::Unsupported {
                method: "MultiheadAttention",
                what: "this call's encoding has tables that the layer was not made to project; make the layer with for_plan",
            }
            .into());
        }
        if self.tables.is_empty() {
            return Ok(None);
        }
        let mut tables = Params::zeros(&call.table_specs())?;
        for table in &self.tables {
            let (rows, [n, _]) = contiguous(call.rows(&table.table)?);
            let into = tables.get_mut(&table.table)?;
            match self.own(table) {
                Some(linear) => linear.forward(params, rows, into)?,
                None => self.linear(params, shared(table), rows, n, into)?,
            }
        }
        Ok(Some(tables))
    }

    /// From the gradients of the tables to those of the weights, and of the parameters whose rows they project.
    pub(super) fn tables_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        d_tables: &Params<R>,
        grads: &mut Params<R>,
    ) -> Result<()> {
        for table in &self.tables {
            let (rows, shape) = contiguous(call.rows(&table.table)?);
            let d_table = d_tables.get(&table.table)?;
            let mut d_rows = table.rows_of.as_ref().map(|_| vec![R::ZERO; rows.len()]);
            match self.own(table) {
                Some(linear) => linear.adjoint(params, rows, d_table, d_rows.as_deref_mut(), grads)?,
                None => self.linear_adjoint(params, shared(table), rows, d_table, d_rows.as_deref_mut(), false, grads)?,
            }
            if let Some(d_rows) = d_rows {
                call.rows_adjoint(&table.table, View::new(&d_rows, shape)?, grads)?;
            }
        }
        Ok(())
    }
}

/// Whose projection a table without weights of its own shares.
fn shared(table: &Projection) -> Role {
    if table.by == Projector::Queries { Role::Query } else { Role::Key }
}

/// Rows as one slice, which a call's always are, and their shape.
fn contiguous<R>(rows: View<'_, R, 2>) -> (&[R], [usize; 2]) {
    (rows.as_slice().unwrap_or_default(), rows.shape())
}
