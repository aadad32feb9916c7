//! Attention: against matrix products of as many operations, its biases and masks against attention without them, a step of decoding against reading its cache.

use super::paired::{Timer, Work, read_numbers};
use crate::error::LabError;
use half::{bf16, f16};
use posenc::attention::{Grads, Inputs, Outputs, Saved, Slots, Workspace};
use posenc::positions::Documents;
use posenc::{
    Alibi, Attention, Dims, Element, Encoding, Fire, Kerple, LogCpb, Mask, Mode, MusicTransformer, Pairing, Params, Plan, Positions, Rng,
    Rotary, Sandwich, Shaw, Slopes, SwinBias, T5Bias, View, ViewMut, Window,
};
use posenc_nn::{Matrix, MatrixMut, matmul_here};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::Arc;

const HEADS: usize = 16;
/// Tokens of a prompt.
const LEN: usize = 2048;
/// Keys of a cache.
const CACHE: usize = 8192;
/// Rows and columns of the products that attention is set against: 2 · 1024³ operations each.
const PRODUCT: usize = 1024;

/// What is asked of attention, and everything that it reads and writes.
struct Job<'m, T: Element<Real = f32>> {
    plan: Plan,
    params: Params<f32>,
    at: [Positions; 2],
    attention: Attention,
    mask: Mask<'m, f32>,
    /// Of the queries and outputs, and of keys and values.
    shapes: [[usize; 4]; 2],
    q: Vec<T>,
    k: Arc<Vec<T>>,
    v: Arc<Vec<T>>,
    out: Vec<T>,
    saved: Saved<f32>,
    slots: Slots<f32>,
    grads: [Vec<T>; 3],
    work: Workspace<f32>,
}

impl<'m, T: Element<Real = f32>> Job<'m, T> {
    /// Queries `[batch, heads, q_len, d]` behind `k_len − q_len` cached keys `[batch, kv_heads, k_len, d]`.
    fn new(encoding: impl Into<Encoding>, [batch, heads, q_len, d]: [usize; 4], kv_heads: usize, k_len: usize) -> Result<Self, LabError> {
        let shapes = [[batch, heads, q_len, d], [batch, kv_heads, k_len, d]];
        let plan = encoding.into().plan(Dims::new(heads * d, heads)?.with_kv_heads(kv_heads)?)?;
        let mut rng = Rng::new(7);
        let mut numbers = |shape: [usize; 4]| -> Vec<T> { (0..shape.iter().product()).map(|_| T::narrow(rng.normal() as f32)).collect() };
        let [q, k, v] = [shapes[0], shapes[1], shapes[1]].map(&mut numbers);
        Ok(Job {
            params: plan.init(0)?,
            plan,
            at: [
                Positions::range((k_len - q_len) as i64..k_len as i64),
                Positions::range(0..k_len as i64),
            ],
            attention: Attention::default(),
            mask: Mask::none(),
            shapes,
            out: vec![T::narrow(0.0); q.len()],
            q,
            k: k.into(),
            v: v.into(),
            saved: Saved::default(),
            slots: Slots::default(),
            grads: Default::default(),
            work: Workspace::default(),
        })
    }

    /// A prompt of [`LEN`] tokens.
    fn prompt(encoding: impl Into<Encoding>, d: usize) -> Result<Self, LabError> {
        Job::new(encoding, [1, HEADS, LEN, d], HEADS, LEN)
    }

    fn masked(self, mask: Mask<'m, f32>) -> Self {
        Job { mask, ..self }
    }

    /// The call is part of the work: its biases are prepared in it.
    fn forward(&mut self, save: bool) -> Result<(), LabError> {
        let [q_shape, k_shape] = self.shapes;
        let call = self.plan.call(&self.params, &self.at[0], &self.at[1])?;
        let inputs = Inputs::new(
            View::new(&self.q, q_shape)?,
            View::new(&self.k, k_shape)?,
            View::new(&self.v, k_shape)?,
        );
        let outputs = Outputs {
            out: ViewMut::new(&mut self.out, q_shape)?,
            saved: save.then_some(&mut self.saved),
            weights: None,
        };
        self.attention
            .forward(&call, inputs, &self.mask, Mode::Evaluate, outputs, &mut self.work)?;
        Ok(())
    }

    /// Forward, and back with the queries as the gradient of the outputs.
    fn both(&mut self) -> Result<(), LabError> {
        self.forward(true)?;
        let [q_shape, k_shape] = self.shapes;
        let call = self.plan.call(&self.params, &self.at[0], &self.at[1])?;
        let inputs = Inputs::new(
            View::new(&self.q, q_shape)?,
            View::new(&self.k, k_shape)?,
            View::new(&self.v, k_shape)?,
        );
        for (grad, shape) in self.grads.iter_mut().zip([q_shape, k_shape, k_shape]) {
            grad.resize(shape.iter().product(), T::narrow(0.0));
        }
        let [dq, dk, dv] = &mut self.grads;
        let grads = Grads {
            dq: ViewMut::new(dq, q_shape)?,
            dk: ViewMut::new(dk, k_shape)?,
            dv: ViewMut::new(dv, k_shape)?,
        };
        let (out, d_out) = (View::new(&self.out, q_shape)?, View::new(&self.q, q_shape)?);
        let (mask, mode) = (&self.mask, Mode::Evaluate);
        self.attention.adjoint(
            &call,
            inputs,
            mask,
            mode,
            out,
            d_out,
            &self.saved,
            grads,
            &mut self.slots,
            &mut self.work,
        )?;
        Ok(())
    }

    /// Of the two products of a forward pass over all pairs; a backward pass has five.
    fn operations(&self) -> usize {
        let [[batch, heads, q_len, d], [_, _, k_len, _]] = self.shapes;
        4 * batch * heads * q_len * k_len * d
    }

    fn work(&self, name: &str, stored: &'static str, limit: &'static str, goal: Option<f64>) -> Work<'static> {
        Work {
            name: name.into(),
            stored,
            shape: self.shapes[0].to_vec().into(),
            bytes: 0,
            operations: self.operations(),
            limit,
            goal,
        }
    }
}

pub(super) fn measure(timer: &mut Timer<'_>) -> Result<(), LabError> {
    against_products(timer)?;
    against_none(timer)?;
    against_flat(timer)?;
    masked(timer)?;
    back(timer)?;
    steps(timer)
}

/// What attention needs besides its inputs and outputs: forward and back, a head for each thread, at four lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Threads, and heads.
    pub threads: usize,
    /// Queries and keys.
    pub tokens: usize,
    /// Bytes of queries, keys, values, outputs and the gradients of these, of heads of 64.
    pub tensors: usize,
    /// Bytes of the workspace.
    pub workspace: usize,
    /// Bytes that the scores of all pairs would take.
    pub scores: usize,
}

pub(super) fn memory() -> Result<Vec<Memory>, LabError> {
    const D: usize = 64;
    let threads = rayon::current_num_threads();
    let at = |tokens: usize| {
        let mut job = Job::<f32>::new(T5Bias::encoder(), [1, threads, tokens, D], threads, tokens)?;
        job.both()?;
        Ok(Memory {
            threads,
            tokens,
            tensors: 8 * threads * tokens * D * size_of::<f32>(),
            workspace: job.work.bytes(),
            scores: threads * tokens * tokens * size_of::<f32>(),
        })
    };
    [LEN, 2 * LEN, 4 * LEN, 8 * LEN].into_iter().map(at).collect()
}

/// Square products of as many operations, shared by the threads one by one.
struct Products {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<Vec<f32>>,
}

impl Products {
    fn of(operations: usize) -> Products {
        let (n, mut rng) = (PRODUCT * PRODUCT, Rng::new(9));
        let mut numbers = || (0..n).map(|_| rng.normal() as f32).collect();
        Products {
            a: numbers(),
            b: numbers(),
            c: vec![vec![0.0; n]; operations.div_ceil(2 * n * PRODUCT)],
        }
    }

    fn run(&mut self) {
        let Products { a, b, c } = self;
        c.par_iter_mut().for_each(|c| {
            let square = |x| Matrix::new(x, PRODUCT, PRODUCT).expect("its size");
            matmul_here(
                1.0,
                square(a),
                square(b),
                0.0,
                MatrixMut::new(c, PRODUCT, PRODUCT).expect("its size"),
            )
            .expect("squares fit");
        });
    }
}

fn against_products(timer: &mut Timer<'_>) -> Result<(), LabError> {
    for d in [64, 128, 32] {
        // 0.85 of the products' rate.
        prompt::<f32>(timer, "f32", d, (d != 32).then_some(1.0 / 0.85))?;
    }
    prompt::<bf16>(timer, "bf16", 64, None)?;
    prompt::<f16>(timer, "f16", 64, None)
}

fn prompt<T: Element<Real = f32>>(timer: &mut Timer<'_>, stored: &'static str, d: usize, goal: Option<f64>) -> Result<(), LabError> {
    let name = "attention, prompt";
    if !timer.wants(name) {
        return Ok(());
    }
    let mut job = Job::<T>::prompt(Encoding::none(), d)?;
    let mut products = Products::of(job.operations());
    let work = job.work(name, stored, "product", goal);
    job.forward(false)?;
    timer.pair(work, || job.forward(false).expect("ran before"), || products.run());
    Ok(())
}

/// A forward pass against one without a bias.
fn against_none(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let contiguous: [(&str, Encoding, Option<f64>); 11] = [
        ("T5 bias", T5Bias::encoder().into(), Some(1.05)),
        ("ALiBi", Alibi::symmetric().into(), Some(1.05)),
        ("KERPLE", Kerple::log().into(), Some(1.05)),
        ("Sandwich", Sandwich::new().into(), Some(1.05)),
        ("FIRE", Fire::new().into(), Some(1.25)),
        ("Swin's table", SwinBias::new([1, LEN]).into(), Some(1.25)),
        ("log-CPB", LogCpb::new([1, LEN]).into(), Some(1.25)),
        ("rotary", Rotary::new(Pairing::Halves).into(), None),
        ("Shaw, 16 each way", Shaw::new(16).into(), None),
        ("Music Transformer", MusicTransformer::new(LEN).into(), None),
        ("no positions", Encoding::none(), None),
    ];
    for (name, encoding, goal) in contiguous {
        let name = format!("attention, {name}");
        if timer.wants(&name) {
            pair(
                timer,
                &name,
                "none",
                goal,
                Job::prompt(encoding, 64)?,
                Job::prompt(Encoding::none(), 64)?,
            )?;
        }
    }
    for (name, encoding) in [("T5 bias", Encoding::from(T5Bias::encoder())), ("ALiBi", Alibi::symmetric().into())] {
        let name = format!("attention, {name}, scattered ids");
        if timer.wants(&name) {
            let ids: Vec<i64> = (0..LEN as i64).map(|t| t * 1009 % LEN as i64).collect();
            let mut job = Job::<f32>::prompt(encoding, 64)?;
            job.at = [Positions::whole(&ids), Positions::whole(&ids)];
            pair(timer, &name, "none", Some(1.12), job, Job::prompt(Encoding::none(), 64)?)?;
        }
    }
    Ok(())
}

/// Biases and masks that make most weights nothing, against those that do not: the same work, but for numbers below the normal ones.
fn against_flat(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let name = "attention, steep ALiBi";
    if timer.wants(name) {
        let with = |slope: f64| -> Encoding { Alibi::symmetric().with_slopes(Slopes::Given(vec![slope; HEADS])).into() };
        pair(
            timer,
            name,
            "flat",
            Some(1.03),
            Job::<f32>::prompt(with(1.0), 64)?,
            Job::prompt(with(1e-4), 64)?,
        )?;
    }
    let of = |value: f32| -> Vec<f32> {
        (0..LEN * LEN)
            .map(|pair| if (pair % LEN).is_multiple_of(3) { value } else { 0.0 })
            .collect()
    };
    let [deep, flat] = [-1e9, -0.5].map(of);
    let mask = |of| -> Result<Mask<'_, f32>, LabError> { Ok(Mask::none().additive(View::new(of, [1, 1, LEN, LEN])?)) };
    for (name, limit, goal, other) in [
        ("attention, mask of −1e9", "flat", Some(1.03), mask(&flat)?),
        ("attention, additive mask", "none", None, Mask::none()),
    ] {
        if timer.wants(name) {
            let [one, two] = [mask(if limit == "flat" { &deep } else { &flat })?, other];
            let job = |mask| Ok::<_, LabError>(Job::<f32>::prompt(Encoding::none(), 64)?.masked(mask));
            pair(timer, name, limit, goal, job(one)?, job(two)?)?;
        }
    }
    Ok(())
}

/// Where a query sees a part of the keys, against one that sees all.
fn masked(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let blocked: Vec<bool> = (0..LEN).map(|key| key % 7 == 0).collect();
    let documents = Documents::from_lengths(&[LEN / 8; 8])?;
    let plain = || Job::<f32>::prompt(Encoding::none(), 64);
    let mut window = plain()?.masked(Mask::none().causal(0));
    window.attention.window = Some(Window::last(256)?);
    let kinds = [
        ("causal", plain()?.masked(Mask::none().causal(0)), Some(0.6)),
        ("causal, window of 256", window, None),
        ("8 documents", plain()?.masked(Mask::none().documents(&documents)), None),
        (
            "padding among the keys",
            plain()?.masked(Mask::none().blocked(posenc::Blocked(View::new(&blocked, [1, 1, 1, LEN])?))),
            None,
        ),
    ];
    for (name, job, goal) in kinds {
        let name = format!("attention, {name}");
        if timer.wants(&name) {
            pair(timer, &name, "full", goal, job, plain()?)?;
        }
    }
    Ok(())
}

fn pair<'m>(
    timer: &mut Timer<'_>,
    name: &str,
    limit: &'static str,
    goal: Option<f64>,
    mut job: Job<'m, f32>,
    mut other: Job<'m, f32>,
) -> Result<(), LabError> {
    job.forward(false)?;
    other.forward(false)?;
    let work = job.work(name, "f32", limit, goal);
    timer.pair(
        work,
        || job.forward(false).expect("ran before"),
        || other.forward(false).expect("ran before"),
    );
    Ok(())
}

/// Forward and back: seven products where a forward pass has two.
fn back(timer: &mut Timer<'_>) -> Result<(), LabError> {
    let name = "attention and back";
    if timer.wants(name) {
        let mut job = Job::<f32>::prompt(Encoding::none(), 64)?;
        let work = job.work(name, "f32", "product", None);
        let operations = job.operations() * 7 / 2;
        let mut products = Products::of(operations);
        job.both()?;
        timer.pair(Work { operations, ..work }, || job.both().expect("ran before"), || products.run());
    }
    let kinds: [(&str, Encoding, Option<f64>); 5] = [
        ("T5 bias", T5Bias::encoder().into(), Some(1.08)),
        ("ALiBi", Alibi::symmetric().into(), Some(1.08)),
        ("KERPLE", Kerple::log().into(), Some(1.08)),
        ("FIRE", Fire::new().into(), None),
        ("Shaw, 16 each way", Shaw::new(16).into(), None),
    ];
    for (kind, encoding, goal) in kinds {
        let name = format!("{name}, {kind}");
        if timer.wants(&name) {
            let (mut job, mut other) = (Job::<f32>::prompt(encoding, 64)?, Job::<f32>::prompt(Encoding::none(), 64)?);
            let work = job.work(&name, "f32", "none", goal);
            let operations = job.operations() * 7 / 2;
            job.both()?;
            other.both()?;
            timer.pair(
                Work { operations, ..work },
                || job.both().expect("ran before"),
                || other.both().expect("ran before"),
            );
        }
    }
    Ok(())
}

/// New tokens behind a cache: against reading its keys and values once.
fn steps(timer: &mut Timer<'_>) -> Result<(), LabError> {
    for batch in [1, 8] {
        for (kind, kv_heads, q_len) in [("one token", HEADS, 1), ("one token, 4 key heads", 4, 1), ("8 tokens", HEADS, 8)] {
            let goal = (q_len == 1 && kv_heads == HEADS).then_some(1.3);
            step::<f32>(timer, kind, "f32", Encoding::none(), [batch, kv_heads, q_len], goal)?;
        }
        step::<f32>(
            timer,
            "one token, T5 bias",
            "f32",
            T5Bias::decoder().into(),
            [batch, HEADS, 1],
            Some(1.3),
        )?;
        step::<bf16>(timer, "one token", "bf16", Encoding::none(), [batch, HEADS, 1], None)?;
        step::<f16>(timer, "one token", "f16", Encoding::none(), [batch, HEADS, 1], None)?;
    }
    Ok(())
}

/// A stored number as it lies in memory.
trait Bits: Element<Real = f32> {
    fn bits(self) -> u32;
}

macro_rules! bits {
    ($($t:ty),*) => { $(impl Bits for $t { fn bits(self) -> u32 { self.to_bits().into() } })* };
}
bits!(f32, bf16, f16);

fn step<T: Bits>(
    timer: &mut Timer<'_>,
    kind: &str,
    stored: &'static str,
    encoding: Encoding,
    [batch, kv_heads, q_len]: [usize; 3],
    goal: Option<f64>,
) -> Result<(), LabError> {
    let name = format!("attention behind a cache, {kind}");
    if !timer.wants(&name) {
        return Ok(());
    }
    let mut job = Job::<T>::new(encoding, [batch, HEADS, q_len, 64], kv_heads, CACHE)?;
    job.mask = Mask::none().causal(CACHE - q_len);
    job.forward(false)?;
    let bytes = 2 * job.k.len() * size_of::<T>();
    // The same memory, so that both find as much of it in the caches.
    let cache = [job.k.clone(), job.v.clone()];
    timer.pair(
        Work {
            name,
            stored,
            shape: vec![batch, kv_heads, CACHE, 64].into(),
            bytes,
            operations: 0,
            limit: "read",
            goal,
        },
        || job.forward(false).expect("ran before"),
        || cache.iter().for_each(|rows| read_numbers(rows, T::bits)),
    );
    Ok(())
}
