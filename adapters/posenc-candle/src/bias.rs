//! Biases written out as tensors, with gradients to their parameters.

use crate::add::{PARAMETERS, theta};
use crate::error::Result;
use crate::kernels::unwritten;
use crate::shared::Shared;
use crate::storage::{Refusal, Stored, by_rows, by_type, on_cpu, slice, view};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, WithDType};
use posenc::{Bound, Params, ViewMut};
use std::sync::Arc;

const WHAT: &str = "bias [batch, heads, q_len, k_len]";

/// Writes the sum of all biases as `[batch, heads, q_len, k_len]`.
#[derive(Clone)]
pub(crate) struct WriteBias {
    pub shared: Arc<Shared>,
    pub dtype: DType,
    pub refusal: Arc<Refusal>,
}

impl WriteBias {
    /// Rows of the batch that differ, and the other axes.
    fn shape(&self) -> [usize; 4] {
        let Shared { plan, q_at, k_at, .. } = &*self.shared;
        [q_at.batch().max(k_at.batch()), plan.dims().heads, q_at.len(), k_at.len()]
    }

    /// The numbers, without a graph.
    pub fn run<T: Stored>(&self, parameters: Option<(&CpuStorage, &Layout)>) -> Result<(Vec<T>, [usize; 4])> {
        let bound = Bound::over(self.shared.plan.parameters(), theta::<T::Real>(parameters)?)?;
        let call = self.shared.resolved::<T::Real>()?.located.call(bound)?;
        let shape = self.shape();
        let mut out = unwritten(WHAT, &shape)?;
        call.materialise_bias(ViewMut::new(&mut out, shape)?)?;
        Ok((out, shape))
    }

    fn adjoint<T: Stored>(&self, parameters: &Tensor, d_out: &Tensor) -> Result<Tensor> {
        let specs = self.shared.plan.parameters();
        let mut grads = Params::<T::Real>::zeros(specs)?;
        on_cpu("posenc-bias", parameters, |storage, layout| {
            let bound = Bound::over(specs, slice::<T::Real>(PARAMETERS, storage, layout)?)?;
            let call = self.shared.resolved::<T::Real>()?.located.call(bound)?;
            on_cpu("posenc-bias", d_out, |storage, layout| {
                Ok(call.materialise_bias_adjoint(view::<T, 4>(WHAT, storage, layout)?, &mut grads)?)
            })
        })?;
        let grads = grads.into_flat();
        let size = grads.len();
        Ok(Tensor::from_vec(grads, size, d_out.device())?)
    }
}

impl CustomOp1 for WriteBias {
    fn name(&self) -> &'static str {
        "posenc-bias"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let written = by_type!(WHAT, self.dtype, T => self.run::<T>(Some((storage, layout))).map(|(out, shape)| {
            (T::to_cpu_storage_owned(out), Shape::from(shape.as_slice()))
        }));
        self.refusal.keep(written)
    }

    fn bwd(&self, parameters: &Tensor, _out: &Tensor, d_out: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d_out = by_rows(d_out)?;
        let grads = by_type!(WHAT, self.dtype, T => self.adjoint::<T>(parameters, &d_out));
        Ok(Some(grads?))
    }
}
