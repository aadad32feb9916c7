//! Rotation as an operation on tensors.

use crate::error::{Error, Result};
use crate::kernels::unwritten;
use crate::shared::Shared;
use crate::storage::{Refusal, Stored, by_rows, by_type, storage_type, view, view_mut};
use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Shape, Tensor};
use posenc::{Real, Rotation, Side, Turn, ViewMut};
use std::sync::Arc;

pub(crate) const WHAT: &str = "x [batch, heads, seq, head_dim]";

/// Turns rows into new memory; its gradient is turned by the adjoint.
#[derive(Clone)]
pub(crate) struct Rotate {
    pub shared: Arc<Shared>,
    pub side: Side,
    pub turn: Turn,
    /// In place, says what would be refused and turns nothing.
    pub only_checks: bool,
    pub refusal: Arc<Refusal>,
}

impl Rotate {
    fn run<T: Stored>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = view::<T, 4>(WHAT, storage, layout)?;
        let Some(pair) = &self.shared.resolved::<T::Real>()?.rotation else {
            return Ok((T::to_cpu_storage_owned(crate::storage::copied(x)), layout.shape().clone()));
        };
        let mut out = unwritten(WHAT, layout.dims())?;
        pair.side(self.side).apply_into(self.turn, x, ViewMut::new(&mut out, x.shape())?)?;
        Ok((T::to_cpu_storage_owned(out), layout.shape().clone()))
    }

    fn run_in_place<T: Stored>(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let x = view_mut::<T, 4>(WHAT, storage, layout)?;
        if let Some(pair) = &self.shared.resolved::<T::Real>()?.rotation {
            let rotation = pair.side(self.side);
            check(rotation, x.shape())?;
            if !self.only_checks {
                rotation.apply(self.turn, x)?;
            }
        }
        Ok(())
    }
}

/// A tensor of this shape is one that the rotation turns.
pub(crate) fn check<R: Real>(rotation: &Rotation<R>, given @ [batch, heads, _, width]: [usize; 4]) -> Result<()> {
    let or = |own: usize, given: usize| if own == 1 { given } else { own };
    let expected = [
        or(rotation.batch(), batch),
        or(rotation.heads(), heads),
        rotation.len(),
        width.max(rotation.rotary_dim()),
    ];
    check_shape(WHAT, expected, given)
}

/// A shape is the one that is expected.
pub(crate) fn check_shape(what: &'static str, expected: [usize; 4], given: [usize; 4]) -> Result<()> {
    if expected == given {
        return Ok(());
    }
    Err(Error::Core(posenc::Error::Shape {
        what,
        expected: expected.to_vec(),
        given: given.to_vec(),
    }))
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "posenc-rotate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.refusal
            .keep(by_type!(WHAT, storage_type(storage), T => self.run::<T>(storage, layout)))
    }

    fn bwd(&self, _x: &Tensor, _out: &Tensor, d_out: &Tensor) -> candle_core::Result<Option<Tensor>> {
        // Only forward rotations are recorded.
        let back = Rotate {
            turn: Turn::Adjoint,
            ..self.clone()
        };
        Ok(Some(by_rows(d_out)?.apply_op1_no_bwd(&back)?))
    }
}

impl InplaceOp1 for Rotate {
    fn name(&self) -> &'static str {
        "posenc-rotate-in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        self.refusal
            .keep(by_type!(WHAT, storage_type(storage), T => self.run_in_place::<T>(storage, layout)))
    }
}
