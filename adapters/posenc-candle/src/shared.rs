//! What all operations and layers of one pass share: a plan with its positions resolved, once for each arithmetic.

use crate::error::Result;
use candle_core::{Device, Tensor, WithDType};
use posenc::attention::Workspace;
use posenc::{Located, Params, Plan, Positions, Real, RotationPair, Side, Site};
use std::sync::{Arc, Mutex, OnceLock};

/// What is computed in.
pub(crate) trait Arithmetic: Real + WithDType + crate::kernels::AnyBits {
    /// Its part of what is resolved.
    fn part(shared: &Shared) -> &OnceLock<Resolved<Self>>;
}

impl Arithmetic for f32 {
    fn part(shared: &Shared) -> &OnceLock<Resolved<f32>> {
        &shared.single
    }
}

impl Arithmetic for f64 {
    fn part(shared: &Shared) -> &OnceLock<Resolved<f64>> {
        &shared.double
    }
}

/// A plan at the positions of a pass.
pub(crate) struct Shared {
    pub plan: Plan,
    pub q_at: Positions,
    pub k_at: Positions,
    single: OnceLock<Resolved<f32>>,
    double: OnceLock<Resolved<f64>>,
}

/// The same in one arithmetic.
pub(crate) struct Resolved<R: Real> {
    pub located: Located<R>,
    pub rotation: Option<Arc<RotationPair<R>>>,
    /// The sites where something is added.
    adds: Vec<Site>,
    /// Scratch memory of attention, from layer to layer.
    work: Mutex<Vec<Workspace<R>>>,
    /// Cosines and sines of a side as tensors on a device, for tensor operations: sent once for all layers.
    sent: Mutex<Vec<(Side, Device, [Tensor; 2])>>,
}

impl<R: Real> Resolved<R> {
    fn new(plan: &Plan, q_at: &Positions, k_at: &Positions) -> Result<Resolved<R>> {
        let located = plan.locate::<R>(q_at, k_at)?;
        // How rows turn and where something is added depends on no parameter, but a call has them all: zeros do.
        let zeros = Params::zeros(plan.parameters())?;
        let call = located.call(&zeros)?;
        let rotation = call.rotations().first().cloned();
        let sites = [Site::Embedding, Site::QueryInput, Site::KeyInput, Site::Query, Site::Key];
        let adds = sites.into_iter().filter(|site| call.adds_at(*site)).collect();
        Ok(Resolved {
            located,
            rotation,
            adds,
            work: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// Something is added at this site.
    pub fn adds_at(&self, site: Site) -> bool {
        self.adds.contains(&site)
    }

    /// Runs attention with scratch memory that the next one finds again.
    pub fn with_workspace<O>(&self, run: impl FnOnce(&mut Workspace<R>) -> O) -> O {
        let kept = self.work.lock().ok().and_then(|mut kept| kept.pop());
        let mut work = kept.unwrap_or_default();
        let result = run(&mut work);
        if let Ok(mut kept) = self.work.lock() {
            kept.push(work);
        }
        result
    }
}

impl<R: Real> Resolved<R> {
    /// A side's cosines and sines on a device: those that were sent before, or what `send` makes of them.
    pub fn tables_on(&self, device: &Device, side: Side, send: impl FnOnce() -> Result<[Tensor; 2]>) -> Result<[Tensor; 2]> {
        let kept = || self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let sent = |(of, on, _): &&(Side, Device, [Tensor; 2])| *of == side && on.same_device(device);
        if let Some((.., tables)) = kept().iter().find(sent) {
            return Ok(tables.clone());
        }
        let tables = send()?;
        kept().push((side, device.clone(), tables.clone()));
        Ok(tables)
    }
}

impl Shared {
    pub fn new(plan: &Plan, q_at: &Positions, k_at: &Positions) -> Result<Shared> {
        let single = OnceLock::new();
        // What positions are refused for is said at once. Nearly all tensors are computed in f32.
        let _ = single.set(Resolved::new(plan, q_at, k_at)?);
        Ok(Shared {
            plan: plan.clone(),
            q_at: q_at.clone(),
            k_at: k_at.clone(),
            single,
            double: OnceLock::new(),
        })
    }

    pub fn resolved<R: Arithmetic>(&self) -> Result<&Resolved<R>> {
        let part = R::part(self);
        if let Some(resolved) = part.get() {
            return Ok(resolved);
        }
        let resolved = Resolved::new(&self.plan, &self.q_at, &self.k_at)?;
        Ok(part.get_or_init(|| resolved))
    }
}
