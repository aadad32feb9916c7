//! Attention with a bias, against the fastest of the ways in which it can be written with candle's operations.

use super::{Goal, Row, pair};
use crate::compare::{Bench, Result, agree, candle, from_candle, numbers, time};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{softmax, softmax_last_dim};
use posenc::{Alibi, Attention, Dims, Encoding, Mode, Positions, T5Bias, t5_bucket};
use posenc_candle::{Call, Mask, Parameters, init};
use std::hint::black_box;
use std::time::Instant;

const SHAPE: [usize; 4] = [1, 16, 2048, 64];
/// One new token of eight sequences, behind so many keys.
const STEP: [usize; 4] = [8, 16, 1, 64];
const CACHE: usize = 8192;
/// Both take means of values up to 1 with weights from sums of 64 products up to 1, an eighth of which is the score: f32 roundings of those, generously.
const BOUND: f32 = 1e-5;

pub fn run(bench: &Bench) -> Result<()> {
    for (name, encoding) in [("ALiBi", Encoding::from(Alibi::symmetric())), ("T5 bias", T5Bias::encoder().into())] {
        let [forward, both] = ["forward only", "forward + backward"].map(|way| format!("on candle, attention, {name}, {way}"));
        if ![&forward, &both].iter().any(|work| bench.wants(work, "")) {
            continue;
        }
        let job = Job::new(&encoding)?;
        if bench.wants(&forward, "") {
            job.forward(bench, &forward)?;
        }
        if bench.wants(&both, "") {
            job.both(bench, &both)?;
        }
    }
    step(bench)
}

/// Decoding with a bias whose table nobody trains: keys and values are read where they lie.
fn step(bench: &Bench) -> Result<()> {
    let work = "on candle, attention, T5 bias, one new token";
    if !bench.wants(work, "") {
        return Ok(());
    }
    let [batch, heads, _, width] = STEP;
    let plan = Encoding::from(T5Bias::decoder()).plan(Dims::new(heads * width, heads)?)?;
    let vars = init(&plan, 0, DType::F32, &Device::Cpu)?;
    let table = vars.into_values().next().ok_or("T5's bias has a table")?.as_detached_tensor();
    let parameters = Parameters::new(&plan, |_| Ok(table.clone()))?;
    let (last, keys) = (Positions::range(CACHE as i64 - 1..CACHE as i64), Positions::range(0..CACHE as i64));
    let call = Call::of(&plan, &parameters, &last, &keys)?;
    let q = candle(&numbers::<f32>(STEP.iter().product()), &STEP)?;
    let cache: Vec<f32> = numbers(batch * heads * CACHE * width);
    let k = candle(&cache, &[batch, heads, CACHE, width])?;
    let v = (&k * 0.5)?;
    let bias = call.bias(DType::F32, &Device::Cpu)?;
    let mask = Mask::none().causal(CACHE - 1);
    let ours = || -> Result<Tensor> { Ok(call.attend(&Attention::default(), &q, &k, &v, &mask, Mode::Evaluate)?) };
    let theirs = || -> Result<Tensor> {
        let scores = (&q * (1.0 / (width as f64).sqrt()))?.matmul(&k.t()?)?.broadcast_add(&bias)?;
        Ok(softmax_last_dim(&scores)?.matmul(&v)?)
    };
    agree(work, &from_candle(&ours()?)?, &from_candle(&theirs()?)?, BOUND)?;
    let row = Row {
        shape: &[batch, heads, CACHE, width],
        goal: None,
        ..row(work, "softmax_last_dim, q scaled")
    };
    pair(
        bench,
        &row,
        || theirs().map(|out| drop(black_box(out))),
        || ours().map(|out| drop(black_box(out))),
    )
}

/// The softmax over keys.
#[derive(Clone, Copy)]
enum Softmax {
    /// `candle_nn::ops::softmax_last_dim`, which has no gradient.
    LastDim,
    /// `candle_nn::ops::softmax`.
    Differentiable,
    /// The same, where the maximum is taken as a constant, which it is to the gradient.
    MaximumDetached,
}

impl Softmax {
    fn of(self, scores: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Softmax::LastDim => softmax_last_dim(scores)?,
            Softmax::Differentiable => softmax(scores, D::Minus1)?,
            Softmax::MaximumDetached => {
                let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
                powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?
            }
        })
    }
}

/// One way to write it.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    softmax: Softmax,
    /// Queries are scaled instead of scores.
    scaled_first: bool,
    /// One head's scores at a time: they stay nearer, and their memory is found again.
    by_head: bool,
}

const fn way(name: &'static str, softmax: Softmax, scaled_first: bool, by_head: bool) -> Way {
    Way {
        name,
        softmax,
        scaled_first,
        by_head,
    }
}

const FORWARD: [Way; 4] = [
    way("softmax_last_dim", Softmax::LastDim, false, false),
    way("softmax_last_dim, q scaled", Softmax::LastDim, true, false),
    way("softmax_last_dim, q scaled, by head", Softmax::LastDim, true, true),
    way("softmax, q scaled", Softmax::Differentiable, true, false),
];

const BOTH: [Way; 4] = [
    way("softmax", Softmax::Differentiable, false, false),
    way("softmax, q scaled", Softmax::Differentiable, true, false),
    way("maximum detached, q scaled", Softmax::MaximumDetached, true, false),
    way("maximum detached, q scaled, by head", Softmax::MaximumDetached, true, true),
];

impl Way {
    fn attend(self, [q, k, v]: [&Tensor; 3], bias: &Tensor) -> Result<Tensor> {
        if self.by_head {
            let heads = (0..SHAPE[1]).map(|head| {
                let [q, k, v, bias] = [q, k, v, bias].map(|x| x.narrow(1, head, 1));
                Way { by_head: false, ..self }.attend([&q?, &k?, &v?], &bias?)
            });
            return Ok(Tensor::cat(&heads.collect::<Result<Vec<_>>>()?, 1)?);
        }
        let scale = 1.0 / (SHAPE[3] as f64).sqrt();
        let scores = if self.scaled_first {
            (q * scale)?.matmul(&k.t()?)?
        } else {
            (q.matmul(&k.t()?)? * scale)?
        };
        Ok(self.softmax.of(&(scores + bias)?)?.matmul(v)?)
    }
}

struct Job {
    qkv: [Tensor; 3],
    call: Call,
    /// T5's table, which is trained.
    table: Option<Var>,
    bias: Tensor,
}

impl Job {
    fn new(encoding: &Encoding) -> Result<Job> {
        let [_, heads, len, width] = SHAPE;
        let plan = encoding.clone().plan(Dims::new(heads * width, heads)?)?;
        let vars = init(&plan, 0, DType::F32, &Device::Cpu)?;
        let at = Positions::range(0..len as i64);
        let call = Call::of(&plan, &Parameters::by_name(&plan, &vars)?, &at, &at)?;
        let count = SHAPE.iter().product();
        let all: Vec<f32> = numbers(3 * count);
        let part = |i: usize| candle(&all[i * count..][..count], &SHAPE);
        Ok(Job {
            bias: call.bias(DType::F32, &Device::Cpu)?.detach(),
            table: vars.into_values().next(),
            qkv: [part(0)?, part(1)?, part(2)?],
            call,
        })
    }

    /// The bias in candle's operations, from the table that is trained, as its models write it; the buckets are made once.
    fn written(&self, buckets: &Tensor) -> Result<Tensor> {
        let [_, heads, len, _] = SHAPE;
        let Some(table) = &self.table else { return Ok(self.bias.clone()) };
        Ok(table.index_select(buckets, 0)?.t()?.contiguous()?.reshape((1, heads, len, len))?)
    }

    /// Inference: the peer reads a bias that was written before, ours is computed from positions.
    fn forward(&self, bench: &Bench, work: &str) -> Result<()> {
        let qkv = self.qkv.each_ref();
        let [q, k, v] = qkv;
        let call = match &self.table {
            // As weights are when nobody trains.
            Some(table) => {
                let table = table.as_detached_tensor();
                self.call.for_layer(&Parameters::new(self.call.plan(), |_| Ok(table.clone()))?)?
            }
            None => self.call.clone(),
        };
        let ours = || -> Result<Tensor> { Ok(call.attend(&Attention::default(), q, k, v, &Mask::none(), Mode::Evaluate)?) };
        let expected = from_candle(&ours()?)?;
        let ways = fastest(bench, &FORWARD, |way| {
            let begin = Instant::now();
            let out = way.attend(qkv, &self.bias)?;
            let seconds = begin.elapsed().as_secs_f64();
            agree(work, &expected, &from_candle(&out)?, BOUND)?;
            Ok(seconds)
        })?;
        for way in ways {
            pair(
                bench,
                &row(work, way.name),
                || way.attend(qkv, &self.bias).map(|out| drop(black_box(out))),
                || ours().map(|out| drop(black_box(out))),
            )?;
        }
        Ok(())
    }

    /// Training: gradients to q, k and v, and to T5's table.
    fn both(&self, bench: &Bench, work: &str) -> Result<()> {
        let [_, _, len, _] = SHAPE;
        let [q, k, v] = self.qkv.each_ref().map(Var::from_tensor);
        let (q, k, v) = (q?, k?, v?);
        let last = len as i64 - 1;
        let of_distance: Vec<u32> = (-last..=last)
            .map(|distance| Ok(t5_bucket(distance, true, 32, 128)? as u32))
            .collect::<posenc::Result<_>>()?;
        let buckets: Vec<u32> = (0..len).flat_map(|q| &of_distance[len - 1 - q..2 * len - 1 - q]).copied().collect();
        let buckets = Tensor::from_vec(buckets, len * len, &Device::Cpu)?;
        let gradients = |out: Tensor| -> Result<Vec<Tensor>> {
            let grads = out.sum_all()?.backward()?;
            let vars = [Some(&q), Some(&k), Some(&v), self.table.as_ref()];
            let found = vars.into_iter().flatten().map(|var| grads.get(var).cloned());
            Ok(found.collect::<Option<_>>().ok_or("a gradient is missing")?)
        };
        let ours = || {
            let out = self.call.attend(&Attention::default(), &q, &k, &v, &Mask::none(), Mode::Evaluate)?;
            gradients(out)
        };
        let expected = ours()?;
        let theirs = |way: Way| gradients(way.attend([&q, &k, &v], &self.written(&buckets)?)?);
        let ways = fastest(bench, &BOTH, |way| {
            let begin = Instant::now();
            let theirs = theirs(way)?;
            let seconds = begin.elapsed().as_secs_f64();
            for (ours, theirs) in expected.iter().zip(&theirs) {
                let (ours, theirs) = (from_candle(ours)?, from_candle(theirs)?);
                // Gradients of v are sums of weights over the queries, those of the table sums over all pairs: a part of the largest.
                let largest = theirs.iter().fold(1f32, |largest, x| largest.max(x.abs()));
                agree(work, &ours, &theirs, 10.0 * BOUND * largest)?;
            }
            Ok(seconds)
        })?;
        for way in ways {
            pair(
                bench,
                &row(work, way.name),
                || theirs(way).map(|grads| drop(black_box(grads))),
                || ours().map(|grads| drop(black_box(grads))),
            )?;
        }
        Ok(())
    }
}

fn row<'r>(work: &'r str, against: &'r str) -> Row<'r> {
    let goal = if candle_core::utils::get_num_threads() > 1 { 6.0 } else { 5.0 };
    Row {
        work,
        stored: "f32",
        shape: &SHAPE,
        against,
        goal: Some(Goal::Faster(goal)),
    }
}

/// The fastest way over all heads at once, and the one that goes head by head where it is faster still: of one run each, which is checked and printed.
fn fastest(bench: &Bench, ways: &[Way], run: impl Fn(Way) -> Result<f64>) -> Result<Vec<Way>> {
    let mut times = Vec::new();
    for way in ways {
        times.push((run(*way)?, *way));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    if !bench.markdown {
        for (seconds, way) in &times {
            println!("    once: {:<40} {}", way.name, time(*seconds));
        }
    }
    let whole = times.iter().position(|(_, way)| !way.by_head).ok_or("a way over all heads")?;
    Ok(times[..=whole].iter().map(|(_, way)| *way).collect())
}
