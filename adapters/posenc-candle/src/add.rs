//! Tables added to tensors, with gradients to both.

use crate::error::Result;
use crate::kernels::unwritten;
use crate::shared::Shared;
use crate::storage::{Refusal, Stored, by_rows, by_type, copied, on_cpu, slice, storage_type, view};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor, WithDType};
use posenc::{Bound, Mode, Params, Site, ViewMut};
use std::sync::Arc;

pub(crate) const WIDE: &str = "x [batch, seq, model_dim]";
pub(crate) const HEADS: &str = "x [batch, heads, seq, head_dim]";
pub(crate) const PARAMETERS: &str = "parameters end to end";

/// Where something is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The embeddings, with what is concatenated to them.
    Embeddings,
    /// A site as wide as the model.
    Stream(Site),
    /// A projected site.
    Heads(Site),
}

/// Adds what the methods add at a place.
#[derive(Clone)]
pub(crate) struct Add {
    pub shared: Arc<Shared>,
    pub place: Place,
    pub mode: Mode,
    pub refusal: Arc<Refusal>,
}

type Stretch<'s> = (&'s CpuStorage, &'s Layout);

/// The numbers of the parameters, or none.
pub(crate) fn theta<'s, R: WithDType>(parameters: Option<Stretch<'s>>) -> Result<&'s [R]> {
    match parameters {
        Some((storage, layout)) => slice::<R>(PARAMETERS, storage, layout),
        None => Ok(&[]),
    }
}

impl Add {
    fn run<T: Stored>(&self, x: Stretch<'_>, parameters: Option<Stretch<'_>>) -> Result<(CpuStorage, Shape)> {
        let bound = Bound::over(self.shared.plan.parameters(), theta::<T::Real>(parameters)?)?;
        let call = self.shared.resolved::<T::Real>()?.located.call(bound)?;
        let shape = x.1.shape();
        let (out, shape) = match self.place {
            Place::Embeddings => {
                let x = view::<T, 3>(WIDE, x.0, x.1)?;
                let [batch, len, width] = x.shape();
                let wide = [batch, len, width + self.shared.plan.concat_width()];
                let mut out = unwritten(WIDE, &wide)?;
                call.embed(x, ViewMut::new(&mut out, wide)?, self.mode)?;
                (out, wide.as_slice().into())
            }
            Place::Stream(site) => {
                let x = view::<T, 3>(WIDE, x.0, x.1)?;
                let mut out = copied(x);
                call.add(site, ViewMut::new(&mut out, x.shape())?, self.mode)?;
                (out, shape.clone())
            }
            Place::Heads(site) => {
                let x = view::<T, 4>(HEADS, x.0, x.1)?;
                let mut out = copied(x);
                call.add_heads(site, ViewMut::new(&mut out, x.shape())?)?;
                (out, shape.clone())
            }
        };
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    /// The gradients of `x`, of this shape, and of the parameters end to end.
    fn adjoint<T: Stored>(&self, x: &Shape, d_out: &Tensor, parameters: Option<&Tensor>) -> Result<[Tensor; 2]> {
        let run = |parameters: Option<Stretch<'_>>| {
            let bound = Bound::over(self.shared.plan.parameters(), theta::<T::Real>(parameters)?)?;
            let call = self.shared.resolved::<T::Real>()?.located.call(bound)?;
            let mut grads = Params::<T::Real>::zeros(self.shared.plan.parameters())?;
            let dx = on_cpu("posenc-add", d_out, |storage, layout| match self.place {
                Place::Embeddings => {
                    let given = view::<T, 3>(WIDE, storage, layout)?;
                    let shape = crate::storage::dims::<3>(WIDE, x)?;
                    let (mut scratch, mut dx) = (copied(given), unwritten(WIDE, x.dims())?);
                    let scratch = ViewMut::new(&mut scratch, given.shape())?;
                    call.embed_adjoint(scratch, ViewMut::new(&mut dx, shape)?, self.mode, &mut grads)?;
                    Ok(Some(dx))
                }
                Place::Stream(site) => {
                    let given = view::<T, 3>(WIDE, storage, layout)?;
                    let mut dx = copied(given);
                    call.add_adjoint(site, ViewMut::new(&mut dx, given.shape())?, self.mode, &mut grads)?;
                    Ok(Some(dx))
                }
                Place::Heads(site) => {
                    call.add_heads_adjoint(site, view::<T, 4>(HEADS, storage, layout)?, &mut grads)?;
                    Ok(None)
                }
            })?;
            let dx = match dx {
                Some(dx) => Tensor::from_vec(dx, x, d_out.device())?,
                // Nothing was done to it.
                None => d_out.clone(),
            };
            let grads = grads.into_flat();
            let size = grads.len();
            Ok([dx, Tensor::from_vec(grads, size, d_out.device())?])
        };
        match parameters {
            Some(parameters) => on_cpu("posenc-add", parameters, |storage, layout| run(Some((storage, layout)))),
            None => run(None),
        }
    }

    fn back(&self, x: &Tensor, d_out: &Tensor, parameters: Option<&Tensor>) -> candle_core::Result<[Tensor; 2]> {
        let d_out = by_rows(d_out)?;
        let both = by_type!(WIDE, x.dtype(), T => self.adjoint::<T>(x.shape(), &d_out, parameters));
        Ok(both?)
    }
}

impl CustomOp1 for Add {
    fn name(&self) -> &'static str {
        "posenc-add"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.refusal
            .keep(by_type!(WIDE, storage_type(storage), T => self.run::<T>((storage, layout), None)))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, d_out: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [dx, _] = self.back(x, d_out, None)?;
        Ok(Some(dx))
    }
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "posenc-add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.refusal
            .keep(by_type!(WIDE, storage_type(s1), T => self.run::<T>((s1, l1), Some((s2, l2)))))
    }

    fn bwd(&self, x: &Tensor, parameters: &Tensor, _out: &Tensor, d_out: &Tensor) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, grads] = self.back(x, d_out, Some(parameters))?;
        Ok((x.track_op().then_some(dx), parameters.track_op().then_some(grads)))
    }
}
