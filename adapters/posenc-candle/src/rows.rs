//! The rows of tables that a layer projects, as tensors.

use crate::add::{PARAMETERS, theta};
use crate::error::Result;
use crate::shared::{Arithmetic, Shared};
use crate::storage::{Refusal, by_rows, by_type, on_cpu, slice, storage_type, view};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use posenc::{Bound, Element, Params};
use std::sync::Arc;

/// Reads the rows of a table, `[n, model_dim]`, out of the parameters or as positions give them.
#[derive(Clone)]
pub(crate) struct Rows {
    pub shared: Arc<Shared>,
    pub table: String,
    pub refusal: Arc<Refusal>,
}

impl Rows {
    /// The numbers, without a graph.
    pub fn run<R: Arithmetic>(&self, parameters: Option<(&CpuStorage, &Layout)>) -> Result<(Vec<R>, [usize; 2])> {
        let bound = Bound::over(self.shared.plan.parameters(), theta::<R>(parameters)?)?;
        let call = self.shared.resolved::<R>()?.located.call(bound)?;
        let rows = call.rows(&self.table)?;
        Ok((crate::storage::copied(rows), rows.shape()))
    }

    fn adjoint<R: Arithmetic>(&self, parameters: &Tensor, d_rows: &Tensor) -> Result<Tensor> {
        let specs = self.shared.plan.parameters();
        let mut grads = Params::<R>::zeros(specs)?;
        on_cpu("posenc-rows", parameters, |storage, layout| {
            let bound = Bound::over(specs, slice::<R>(PARAMETERS, storage, layout)?)?;
            let call = self.shared.resolved::<R>()?.located.call(bound)?;
            on_cpu("posenc-rows", d_rows, |storage, layout| {
                let d_rows = view::<R, 2>("rows [n, model_dim]", storage, layout)?;
                Ok(call.rows_adjoint(&self.table, d_rows, &mut grads)?)
            })
        })?;
        let grads = grads.into_flat();
        let size = grads.len();
        Ok(Tensor::from_vec(grads, size, d_rows.device())?)
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "posenc-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        // Parameters are of the arithmetic's type.
        let rows = by_type!(PARAMETERS, storage_type(storage), T => {
            self.run::<<T as Element>::Real>(Some((storage, layout))).map(|(rows, shape)| {
                (<<T as Element>::Real as candle_core::WithDType>::to_cpu_storage_owned(rows), Shape::from(shape.as_slice()))
            })
        });
        self.refusal.keep(rows)
    }

    fn bwd(&self, parameters: &Tensor, _rows: &Tensor, d_rows: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d_rows = by_rows(d_rows)?;
        let grads = by_type!(PARAMETERS, parameters.dtype(), T => self.adjoint::<<T as Element>::Real>(parameters, &d_rows));
        Ok(Some(grads?))
    }
}
