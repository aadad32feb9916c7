//! Attention as one operation: scores exist a tile at a time, forward and backward.

use crate::add::theta;
use crate::error::{Error, Result};
use crate::kernels::unwritten;
use crate::mask::Mask;
use crate::shared::{Resolved, Shared};
use crate::storage::{Refusal, Stored, by_rows, by_type, check_rows, dims, storage_type, view};
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Shape, Storage, Tensor, WithDType};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots};
use posenc::{Attention, Bound, Call, Element, Mode, Params, View, ViewMut};
use std::any::Any;
use std::sync::{Arc, OnceLock};

pub(crate) const Q: &str = "q [batch, heads, q_len, head_dim]";
pub(crate) const K: &str = "k [batch, kv_heads, k_len, head_dim]";
pub(crate) const V: &str = "v [batch, kv_heads, k_len, value_dim]";
const OUT: &str = "out [batch, heads, q_len, value_dim]";

/// Attention of q over k and v. An operation of candle's has three arguments: they are q, k and v, which lie where they lie; only where gradients go to the encoding's parameters are they q, keys and
/// values end to end, and the parameters end to end.
pub(crate) struct Attend {
    pub shared: Arc<Shared>,
    pub attention: Attention,
    pub mask: Mask,
    pub mode: Mode,
    /// The arguments are q, keys with values, parameters.
    pub packed: bool,
    /// The parameters end to end where they are no argument.
    pub constants: Option<Tensor>,
    pub k_shape: [usize; 4],
    pub v_shape: [usize; 4],
    /// Numbers after the encoding's parameters: the tables that the layer projected, then the sinks.
    pub tables: Option<usize>,
    /// Gradients will be asked for.
    pub training: bool,
    /// What the forward pass kept.
    pub saved: OnceLock<Box<dyn Any + Send + Sync>>,
    pub refusal: Arc<Refusal>,
}

type Stretch<'s> = (&'s CpuStorage, &'s Layout);

/// The parameters of one attention, out of their stretch.
struct Theta<'s, R> {
    plan: &'s [R],
    tables: &'s [R],
    sinks: &'s [R],
}

impl Attend {
    fn theta<'s, R: WithDType>(&self, parameters: Option<Stretch<'s>>) -> Result<Theta<'s, R>> {
        let all = theta::<R>(parameters)?;
        let plan: usize = self.shared.plan.parameters().iter().map(posenc::ParamSpec::size).sum();
        let tables = self.tables.unwrap_or(0);
        let given = all.len();
        let split = all.split_at_checked(plan).and_then(|(plan, rest)| {
            let (tables, sinks) = rest.split_at_checked(tables)?;
            Some(Theta { plan, tables, sinks })
        });
        split.ok_or_else(|| {
            Error::Core(posenc::Error::Shape {
                what: "parameters end to end [numbers]",
                expected: vec![plan + tables],
                given: vec![given],
            })
        })
    }

    /// Runs `run` with the call of these parameters, with the layer's tables in their place.
    fn with_call<R: crate::shared::Arithmetic, O>(
        &self,
        resolved: &Resolved<R>,
        theta: &Theta<'_, R>,
        run: impl FnOnce(&Call<'_, R>) -> Result<O>,
    ) -> Result<O> {
        let call = resolved.located.call(Bound::over(self.shared.plan.parameters(), theta.plan)?)?;
        if self.tables.is_none() {
            return run(&call);
        }
        let mut tables = Params::zeros(&call.table_specs())?;
        check_size("projected tables end to end [numbers]", tables.size(), theta.tables.len())?;
        tables.flat_mut().copy_from_slice(theta.tables);
        run(&call.with_tables(&tables)?)
    }

    /// Keys and values out of their stretch.
    fn keys_and_values<'s, T: Stored>(&self, s2: Stretch<'s>, s3: Stretch<'s>) -> Result<[View<'s, T, 4>; 2]> {
        if !self.packed {
            return Ok([view(K, s2.0, s2.1)?, view(V, s3.0, s3.1)?]);
        }
        let numbers = contiguous::<T>(s2)?;
        let (k, v) = numbers.split_at(self.k_shape.iter().product());
        Ok([View::new(k, self.k_shape)?, View::new(v, self.v_shape)?])
    }

    fn run<T: Stored>(&self, q: Stretch<'_>, s2: Stretch<'_>, s3: Stretch<'_>) -> Result<(CpuStorage, Shape)> {
        let [k, v] = self.keys_and_values::<T>(s2, s3)?;
        let q = view::<T, 4>(Q, q.0, q.1)?;
        let constants = self.constants.as_ref().map(Tensor::storage_and_layout);
        let constants = constants.as_ref().map(|(storage, layout)| cpu(storage, layout)).transpose()?;
        let theta = self.theta::<T::Real>(if self.packed { Some(s3) } else { constants })?;
        let resolved = self.shared.resolved::<T::Real>()?;
        let [batch, heads, q_len, _] = q.shape();
        let shape = [batch, heads, q_len, v.shape()[3]];
        let mut out = unwritten(OUT, &shape)?;
        let mut saved = self.training.then(Saved::default);
        let sinks = narrowed::<T>(theta.sinks);
        self.with_call(resolved, &theta, |call| {
            self.mask.with_core(|mask| {
                let outputs = Outputs {
                    out: ViewMut::new(&mut out, shape)?,
                    saved: saved.as_mut(),
                    weights: None,
                };
                let inputs = inputs([q, k, v], &sinks);
                let run = |work: &mut _| self.attention.forward(call, inputs, mask, self.mode, outputs, work);
                Ok(resolved.with_workspace(run)?)
            })
        })?;
        if let Some(saved) = saved {
            // candle runs an operation once.
            let _ = self.saved.set(Box::new(saved));
        }
        Ok((T::to_cpu_storage_owned(out), shape.as_slice().into()))
    }

    /// The gradients of the three arguments.
    fn adjoint<T: Stored>(&self, arguments: [&Tensor; 3], out: &Tensor, d_out: &Tensor) -> Result<[Tensor; 3]> {
        let held = arguments.map(Tensor::storage_and_layout);
        let [q, second, third] = [0, 1, 2].map(|i| cpu(&held[i].0, held[i].1));
        let (q, second, third) = (q?, second?, third?);
        let (out, d_out) = (out.storage_and_layout(), d_out.storage_and_layout());
        let (out, d_out) = (cpu(&out.0, out.1)?, cpu(&d_out.0, d_out.1)?);
        let results = (view::<T, 4>(OUT, out.0, out.1)?, view::<T, 4>(OUT, d_out.0, d_out.1)?);

        let [k, v] = self.keys_and_values::<T>(second, third)?;
        let inputs = [view::<T, 4>(Q, q.0, q.1)?, k, v];
        let constants = self.constants.as_ref().map(Tensor::storage_and_layout);
        let constants = constants.as_ref().map(|(storage, layout)| cpu(storage, layout)).transpose()?;
        let theta = self.theta::<T::Real>(if self.packed { Some(third) } else { constants })?;
        let (mut dq, mut d_kv) = (
            unwritten(Q, &inputs[0].shape())?,
            unwritten("gradients of k and v", &[size(&k) + size(&v)])?,
        );
        let (dk, dv) = d_kv.split_at_mut(size(&k));
        let grads = Grads {
            dq: ViewMut::new(&mut dq, inputs[0].shape())?,
            dk: ViewMut::new(dk, k.shape())?,
            dv: ViewMut::new(dv, v.shape())?,
        };
        let d_theta = self.run_adjoint(inputs, &theta, results, grads)?;

        let [of_second, of_third] = if self.packed {
            let numbers = d_theta.len();
            [
                Tensor::from_vec(d_kv, second.1.shape(), &Device::Cpu),
                Tensor::from_vec(d_theta, numbers, &Device::Cpu),
            ]
        } else {
            let dv = d_kv.split_off(size(&k));
            [
                Tensor::from_vec(d_kv, second.1.shape(), &Device::Cpu),
                Tensor::from_vec(dv, third.1.shape(), &Device::Cpu),
            ]
        };
        Ok([Tensor::from_vec(dq, q.1.shape(), &Device::Cpu)?, of_second?, of_third?])
    }

    /// Writes the gradients of q, k and v; gives those of the parameters, tables and sinks end to end, where they are an argument.
    fn run_adjoint<T: Stored>(
        &self,
        qkv: [View<'_, T, 4>; 3],
        theta: &Theta<'_, T::Real>,
        (out, d_out): (View<'_, T, 4>, View<'_, T, 4>),
        grads: Grads<'_, T>,
    ) -> Result<Vec<T::Real>> {
        let resolved = self.shared.resolved::<T::Real>()?;
        let saved = self.saved.get().and_then(|saved| saved.downcast_ref::<Saved<T::Real>>());
        let saved = saved.ok_or(Error::Core(posenc::Error::Unsupported {
            method: "posenc-attend",
            what: "its forward pass kept nothing for a backward pass",
        }))?;
        let sinks = narrowed::<T>(theta.sinks);
        self.with_call(resolved, theta, |call| {
            self.mask.with_core(|mask| {
                let mut slots = Slots::default();
                resolved.with_workspace(|work| {
                    let inputs = inputs(qkv, &sinks);
                    self.attention
                        .adjoint(call, inputs, mask, self.mode, out, d_out, saved, grads, &mut slots, work)
                })?;
                if !self.packed {
                    return Ok(Vec::new());
                }
                let mut d_theta = Params::zeros(self.shared.plan.parameters())?;
                let mut d_tables = Params::zeros(&call.table_specs())?;
                match self.tables {
                    Some(_) => call.adjoint_with_tables(&slots, &mut d_theta, &mut d_tables)?,
                    None => call.adjoint(&slots, &mut d_theta)?,
                }
                Ok([d_theta.flat(), d_tables.flat(), slots.sinks()].concat())
            })
        })
    }
}

fn size<T>(view: &View<'_, T, 4>) -> usize {
    view.shape().iter().product()
}

/// A storage that is the CPU's.
fn cpu<'s>(storage: &'s Storage, layout: &'s Layout) -> Result<Stretch<'s>> {
    match storage {
        Storage::Cpu(storage) => Ok((storage, layout)),
        _ => Err(Error::Device {
            op: "posenc-attend",
            shape: layout.shape().clone(),
        }),
    }
}

fn inputs<'a, T: Element>([q, k, v]: [View<'a, T, 4>; 3], sinks: &'a [T]) -> Inputs<'a, T> {
    let inputs = Inputs::new(q, k, v);
    if sinks.is_empty() { inputs } else { inputs.with_sinks(sinks) }
}

/// Sinks are given in the type of the streams.
fn narrowed<T: Element>(from: &[T::Real]) -> Vec<T> {
    from.iter().map(|x| T::narrow(*x)).collect()
}

fn check_size(what: &'static str, expected: usize, given: usize) -> Result<()> {
    if expected == given {
        return Ok(());
    }
    Err(Error::Core(posenc::Error::Shape {
        what,
        expected: vec![expected],
        given: vec![given],
    }))
}

/// The numbers of a tensor without gaps.
fn contiguous<'s, T: Stored>((storage, layout): Stretch<'s>) -> Result<&'s [T]> {
    let numbers = T::cpu_storage_as_slice(storage)?;
    let all = layout.contiguous_offsets().and_then(|(start, end)| numbers.get(start..end));
    all.ok_or(Error::Core(posenc::Error::Unsupported {
        method: "posenc-attend",
        what: "keys and values were joined without gaps, and are not any more",
    }))
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "posenc-attend"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.refusal
            .keep(by_type!(Q, storage_type(s1), T => self.run::<T>((s1, l1), (s2, l2), (s3, l3))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        second: &Tensor,
        third: &Tensor,
        out: &Tensor,
        d_out: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d_out = by_rows(d_out)?;
        let all = by_type!(Q, q.dtype(), T => self.adjoint::<T>([q, second, third], out, &d_out));
        let [dq, d_second, d_third] = all?;
        Ok((
            q.track_op().then_some(dq),
            second.track_op().then_some(d_second),
            third.track_op().then_some(d_third),
        ))
    }
}

/// What attention is given, checked as far as the operation's own arguments go.
pub(crate) fn check(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<[[usize; 4]; 3]> {
    for (what, tensor) in [(K, k), (V, v)] {
        if tensor.dtype() != q.dtype() {
            return Err(Error::Types {
                what,
                expected: q.dtype(),
                given: tensor.dtype(),
                shape: tensor.shape().clone(),
            });
        }
    }
    Ok([dims(Q, q.shape())?, dims(K, k.shape())?, dims(V, v.shape())?])
}

/// Keys and values as one tensor in which each lies without gaps, and which candle's own operations split again in the backward pass.
pub(crate) fn together(k: &Tensor, v: &Tensor) -> Result<Tensor> {
    // candle looks for an empty view where it begins, which may be past the end of its memory.
    for (what, x) in [(K, k), (V, v)] {
        check_rows(what, x.layout())?;
    }
    match (k.elem_count(), v.elem_count()) {
        (0, 0) => Ok(Tensor::zeros(0, k.dtype(), k.device())?),
        (0, _) => Ok(v.flatten_all()?.contiguous()?),
        (_, 0) => Ok(k.flatten_all()?.contiguous()?),
        _ if k.dims() == v.dims() => Ok(Tensor::cat(&[k, v], 0)?.contiguous()?),
        _ => Ok(Tensor::cat(&[k.flatten_all()?, v.flatten_all()?], 0)?),
    }
}

/// The numbers of a tensor of this type, to be joined to the parameters.
pub(crate) fn flat(tensor: &Tensor, real: DType) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(real)?.flatten_all()?)
}

#[cfg(test)]
mod tests {
    use crate::{Call, Mask, Parameters, init};
    use candle_core::{DType, Device, Tensor, Var};
    use posenc::{Attention, Dims, Encoding, Mode, Positions, T5Bias};

    /// What is trained decides what the operation's arguments are; the numbers are the same bits whatever they are.
    #[test]
    fn parameters_that_nobody_trains_are_no_argument() {
        let plan = Encoding::from(T5Bias::encoder()).plan(Dims::new(16, 2).unwrap()).unwrap();
        let table = init(&plan, 3, DType::F32, &Device::Cpu).unwrap().into_values().next().unwrap();
        // A view of [batch, seq, heads, head_dim].
        let of = |seed: f64| {
            let x = (Tensor::arange(0f32, 2.0 * 12.0 * 16.0, &Device::Cpu).unwrap() * seed)
                .unwrap()
                .sin()
                .unwrap();
            Var::from_tensor(&x.reshape((2, 12, 2, 8)).unwrap()).unwrap()
        };
        let qkv = [0.7, 1.3, 2.1].map(of);
        // More than the few queries that read keys where they lie, which rounds otherwise.
        let at = Positions::range(0..12);
        let run = |table: &Tensor, trained: bool| {
            let call = Call::of(&plan, &Parameters::new(&plan, |_| Ok(table.clone())).unwrap(), &at, &at).unwrap();
            let [q, k, v] = qkv.each_ref().map(|x| {
                let x = if trained { x.as_tensor().clone() } else { x.as_detached_tensor() };
                x.transpose(1, 2).unwrap()
            });
            call.attend(&Attention::default(), &q, &k, &v, &Mask::none().causal(0), Mode::Evaluate)
                .unwrap()
        };
        let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let frozen = table.as_detached_tensor();
        let outs = [run(&table, true), run(&frozen, true), run(&table, false), run(&frozen, false)];
        for out in &outs[1..] {
            assert_eq!(numbers(out), numbers(&outs[0]));
        }
        assert!(!outs[3].track_op());
        let [all, of_streams, of_table] = [0, 1, 2].map(|i| outs[i].sqr().unwrap().sum_all().unwrap().backward().unwrap());
        for x in &qkv {
            assert_eq!(numbers(all.get(x).unwrap()), numbers(of_streams.get(x).unwrap()));
            assert!(of_table.get(x).is_none());
        }
        assert_eq!(numbers(all.get(&table).unwrap()), numbers(of_table.get(&table).unwrap()));
        assert!(of_streams.get(&table).is_none());
    }
}
