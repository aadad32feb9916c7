//! The same results through candle's own differentiable operations, for devices that the core's kernels do not run on. Tables, biases and masks are computed by the core on the CPU and sent to
//! the device, with gradients coming back the same way; rows are turned and attended to where they are.

use crate::add::Place;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::mask::Mask;
use crate::rotate::{WHAT, check, check_shape};
use crate::shared::Arithmetic;
use crate::storage::{dims, real_of_tensor};
use candle_core::{D, DType, Device, Tensor};
use posenc::{Attention, Mode, Pairing, Rotation, Side, Site, ViewMut};

/// Cosines and sines as tensors that broadcast over `[batch, heads, seq, pairs]`.
fn tables<R: Arithmetic>(rotation: &Rotation<R>, device: &Device) -> Result<[Tensor; 2]> {
    let [batch, heads, len, pairs] = [rotation.batch(), rotation.heads(), rotation.len(), rotation.rotary_dim() / 2];
    let all = |row: fn(&Rotation<R>, usize, usize) -> &[R]| -> Result<Tensor> {
        let tokens = (0..batch).flat_map(|b| (0..len).map(move |t| (b, t)));
        let numbers: Vec<R> = tokens.flat_map(|(b, t)| row(rotation, b, t)).copied().collect();
        // A token's heads lie one after the other.
        let table = Tensor::from_vec(numbers, (batch, len, heads, pairs), &Device::Cpu)?;
        Ok(table.transpose(1, 2)?.contiguous()?.to_device(device)?)
    };
    Ok([all(Rotation::cos)?, all(Rotation::sin)?])
}

/// Rows of the arithmetic's type, turned by tables.
fn turned<R: Arithmetic>(x: &Tensor, rotation: &Rotation<R>, [cos, sin]: &[Tensor; 2]) -> Result<Tensor> {
    let [batch, heads, len, width] = dims::<4>(WHAT, x.shape())?;
    let columns = rotation.columns(width);
    let pairs = columns.len() / 2;
    let turning = x.narrow(3, columns.start, columns.len())?;
    // Axes of the turning columns in which one tells the first of a pair from the second.
    let (of_two, axes): (usize, &[usize]) = match rotation.pairing() {
        Pairing::Halves => (3, &[batch, heads, len, 2, pairs]),
        Pairing::Interleaved | Pairing::InterleavedToHalves => (4, &[batch, heads, len, pairs, 2]),
        Pairing::HalvesTwice => (4, &[batch, heads, len, 2, 2, pairs / 2]),
    };
    let apart = turning.contiguous()?.reshape(axes)?;
    let one_of_each = |which| -> Result<Tensor> {
        let one = apart.narrow(of_two, which, 1)?.contiguous()?;
        Ok(one.reshape((batch, heads, len, pairs))?)
    };
    let (a, b) = (one_of_each(0)?, one_of_each(1)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    let turned = match rotation.pairing() {
        Pairing::Halves | Pairing::InterleavedToHalves => Tensor::cat(&[first, second], 3)?,
        Pairing::Interleaved => Tensor::stack(&[first, second], 4)?.reshape((batch, heads, len, 2 * pairs))?,
        Pairing::HalvesTwice => {
            let blocks = |x: Tensor| x.reshape((batch, heads, len, 2, pairs / 2));
            Tensor::stack(&[blocks(first)?, blocks(second)?], 4)?.reshape((batch, heads, len, 2 * pairs))?
        }
    };
    let after = width - columns.end;
    let parts = [x.narrow(3, 0, columns.start)?, turned, x.narrow(3, columns.end, after)?];
    let parts: Vec<_> = parts.into_iter().filter(|part| part.dim(3).is_ok_and(|width| width > 0)).collect();
    Ok(Tensor::cat(&parts, 3)?)
}

/// [`Call::rotate`].
pub(crate) fn rotate(call: &Call, side: Side, x: &Tensor) -> Result<Tensor> {
    match real_of_tensor(WHAT, x)? {
        DType::F64 => rotate_in::<f64>(call, side, x),
        _ => rotate_in::<f32>(call, side, x),
    }
}

fn rotate_in<R: Arithmetic>(call: &Call, side: Side, x: &Tensor) -> Result<Tensor> {
    let resolved = call.shared.resolved::<R>()?;
    let Some(pair) = &resolved.rotation else {
        return Ok(x.clone());
    };
    let rotation = pair.side(side);
    check(rotation, dims(WHAT, x.shape())?)?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let tables = resolved.tables_on(x.device(), side, || tables(rotation, x.device()))?;
    Ok(turned(&x.to_dtype(R::DTYPE)?, rotation, &tables)?.to_dtype(x.dtype())?)
}

/// [`Call::embed`] and [`Call::add`]: what is added, to zeros, and then by one addition to the tensor.
pub(crate) fn add(call: &Call, place: Place, x: &Tensor, mode: Mode) -> Result<Tensor> {
    let device = x.device();
    if mode != Mode::Evaluate {
        // What is dropped is decided number by number.
        return Ok(call.add_fused(place, &x.to_device(&Device::Cpu)?, mode)?.to_device(device)?);
    }
    let real = real_of_tensor(WHAT, x)?;
    let mut shape = x.dims().to_vec();
    let at = if matches!(place, Place::Stream(Site::KeyInput) | Place::Heads(Site::Key)) {
        call.k_at()
    } else {
        call.q_at()
    };
    if let Some(batch) = shape.first_mut()
        && *batch > 0
        && at.batch() == 1
    {
        *batch = 1;
    }
    let rows = call
        .add_fused(place, &Tensor::zeros(shape, real, &Device::Cpu)?, mode)?
        .to_device(device)?;
    let more = rows.dim(D::Minus1)? - x.dim(D::Minus1)?;
    let wide = x.to_dtype(real)?.pad_with_zeros(D::Minus1, 0, more)?;
    Ok(wide.broadcast_add(&rows)?.to_dtype(x.dtype())?)
}

/// Something is added to the scores.
struct Biased(bool);

/// What [`attend`] can do by tensor operations; the rest goes by way of the CPU.
fn by_operations(call: &Call, attention: &Attention, mode: Mode) -> Result<Option<Biased>> {
    let resolved = call.shared.resolved::<f32>()?;
    let zeros = posenc::Params::zeros(call.plan().parameters())?;
    let bound = resolved.located.call(&zeros)?;
    let plain = bound.content().is_empty() && call.plan().projections().is_empty();
    let biases = bound.bias().iter().all(|term| !term.needs().reads_scores && !term.needs().values);
    let can = plain && biases && mode.dropout(attention.dropout).is_none();
    Ok(can.then_some(Biased(!bound.bias().is_empty())))
}

/// [`Call::attend`].
pub(crate) fn attend(call: &Call, attention: &Attention, [q, k, v]: [&Tensor; 3], mask: &Mask, mode: Mode) -> Result<Tensor> {
    let device = q.device();
    let Some(Biased(biased)) = by_operations(call, attention, mode)? else {
        let [q, k, v] = [q, k, v].map(|x| x.to_device(&Device::Cpu));
        return Ok(call.attend_fused(attention, [&q?, &k?, &v?], mask, mode)?.to_device(device)?);
    };
    let [q_shape, k_shape, v_shape] = crate::attend::check(q, k, v)?;
    let (stored, real) = (q.dtype(), real_of_tensor(crate::attend::Q, q)?);
    attention.check()?;
    let posenc::Dims {
        heads, kv_heads, head_dim, ..
    } = call.dims();
    let (expected, given) = (
        if attention.sinks { heads } else { 0 },
        call.sinks.as_ref().map_or(0, Tensor::elem_count),
    );
    if expected != given {
        return Err(Error::Core(posenc::Error::Shape {
            what: "sinks [heads], with Attention::sinks and only then",
            expected: vec![expected],
            given: vec![given],
        }));
    }
    let ([batch, _, q_len, _], k_len) = (q_shape, k_shape[2]);
    check_shape(crate::attend::Q, [batch, heads, call.q_at().len(), head_dim], q_shape)?;
    check_shape(crate::attend::K, [batch, kv_heads, call.k_at().len(), head_dim], k_shape)?;
    check_shape(crate::attend::V, [batch, kv_heads, k_len, v_shape[3]], v_shape)?;
    let shape = [batch, heads, q_len, k_len];
    let written = match real {
        DType::F64 => mask_matrix::<f64>(call, attention, mask, shape)?,
        _ => mask_matrix::<f32>(call, attention, mask, shape)?,
    };
    if batch * q_len * k_len == 0 {
        return Ok(Tensor::zeros((batch, heads, q_len, v_shape[3]), q.dtype(), device)?);
    }
    let mut q = rotate(call, Side::Query, &q.to_dtype(real)?)?;
    let k = rotate(call, Side::Key, &k.to_dtype(real)?)?;
    if let Some(temperature) = attention.temperature {
        let at = call.q_at();
        let factor = |b, t| at.get(0, b, t).map_or(1.0, |position| temperature.factor(position));
        let factors: Vec<f64> = (0..at.batch()).flat_map(|b| (0..q_len).map(move |t| factor(b, t))).collect();
        let factors = Tensor::from_vec(factors, (at.batch(), 1, q_len, 1), &Device::Cpu)?;
        q = q.broadcast_mul(&factors.to_dtype(real)?.to_device(device)?)?;
    }
    let group = heads / kv_heads;
    let grouped = |x: Tensor, width: usize| -> Result<Tensor> {
        Ok(x.unsqueeze(2)?
            .broadcast_as((batch, kv_heads, group, k_len, width))?
            .contiguous()?
            .reshape((batch, heads, k_len, width))?)
    };
    let (k, v) = (grouped(k, head_dim)?, grouped(v.to_dtype(real)?, v_shape[3])?);
    let mut scores = (q.contiguous()?.matmul(&k.transpose(2, 3)?.contiguous()?)? * attention.scale_for(head_dim))?;
    if let Some(cap) = attention.softcap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if biased {
        scores = scores.broadcast_add(&call.bias(real, device)?)?;
    }
    scores = (scores + written.to_device(device)?)?;
    if let Some(sinks) = call.sinks.as_ref().filter(|_| attention.sinks) {
        let sinks = sinks.to_dtype(stored)?.to_dtype(real)?.reshape((1, heads, 1, 1))?;
        let sinks = sinks.broadcast_as((batch, heads, q_len, 1))?;
        scores = Tensor::cat(&[scores, sinks.contiguous()?], 3)?;
    }
    // A row that attends to nothing has no largest score: any finite one gives it zeros.
    let lowest = Tensor::full(f32::MIN, (), device)?.to_dtype(real)?;
    let largest = scores.max_keepdim(D::Minus1)?.detach().broadcast_maximum(&lowest)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    let sums = weights.sum_keepdim(D::Minus1)?;
    let empty = sums.detach().eq(0f64)?.to_dtype(real)?;
    let weights = weights.narrow(3, 0, k_len)?.broadcast_div(&(sums + empty)?)?;
    Ok(weights.contiguous()?.matmul(&v)?.to_dtype(stored)?)
}

/// The mask written out by the core.
fn mask_matrix<R: Arithmetic>(call: &Call, attention: &Attention, mask: &Mask, shape: [usize; 4]) -> Result<Tensor> {
    let mut matrix: Vec<R> = crate::kernels::unwritten("mask [batch, heads, q_len, k_len]", &shape)?;
    mask.with_core::<R, _>(|mask| Ok(mask.materialise(attention, call.k_at(), ViewMut::new(&mut matrix, shape)?)?))?;
    Ok(Tensor::from_vec(matrix, shape.as_slice(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use crate::Call;
    use candle_core::{DType, Device, Tensor};
    use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Side};
    use std::cell::Cell;

    /// Layers of one pass find what the first sent; another side has tables of its own.
    #[test]
    fn tables_are_sent_once() {
        let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(8, 2).unwrap()).unwrap();
        let call = Call::new(&plan, &Positions::range(0..3)).unwrap().portable();
        let resolved = call.shared.resolved::<f32>().unwrap();
        let sent = Cell::new(0);
        let one = || {
            sent.set(sent.get() + 1);
            let table = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
            Ok([table.clone(), table])
        };
        for side in [Side::Query, Side::Query, Side::Key, Side::Query] {
            resolved.tables_on(&Device::Cpu, side, one).unwrap();
        }
        assert_eq!(sent.get(), 2);
    }
}
