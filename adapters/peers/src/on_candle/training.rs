//! A step of training the small GPT: candle's own, and the same with `posenc-candle`'s attention; and where candle's own goes.

use super::gpt::{BATCH, Gpt, HEAD, HEADS, LAYERS, LEN, Norm, TOKENS, WIDTH, copy_of, heads, together};
use super::{Goal, Row, in_turn, pair, spread};
use crate::compare::{Bench, Result, agree, candle, from_candle, time};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::softmax;
use candle_nn::rotary_emb::rope_slow;
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, linear_no_bias};
use posenc::{Alibi, Attention, Dims, Encoding, Mode, Pairing, Positions, Rotary, Rotation};
use posenc_candle::{Call, Mask};
use std::hint::black_box;
use std::time::Instant;

const LEARNING_RATE: f64 = 1e-3;
/// Steps whose losses are compared before anything is timed.
const COMPARED: usize = 3;

pub fn run(bench: &Bench) -> Result<()> {
    for (name, encoding) in [
        ("rotary", Encoding::from(Rotary::new(Pairing::Halves))),
        ("ALiBi", Alibi::new().into()),
    ] {
        let work = format!("on candle, small GPT, {name}, a step");
        if bench.wants(&work, "") {
            step(bench, &work, &encoding)?;
        }
    }
    let work = "on candle, small GPT, profile";
    if bench.wants(work, "") {
        profile(bench)?;
    }
    Ok(())
}

/// Attention by candle's operations. Scores are `[batch, heads, seq, seq]`.
struct Naive {
    tables: Option<[Tensor; 2]>,
    /// What is added to the scores: −∞ above the diagonal, the bias below.
    mask: Tensor,
    /// The maximum of a row is a constant to the gradient, which `candle_nn::ops::softmax` does not know.
    detached: bool,
}

impl Naive {
    /// `written`: the mask is as large as the scores, which saves its broadcast and costs its memory.
    fn new(call: &Call, written: bool, detached: bool) -> Result<Naive> {
        let rotary = call
            .plan()
            .encoding()
            .methods
            .iter()
            .any(|method| matches!(method, posenc::Method::Rotary(_)));
        let causal: Vec<f32> = (0..LEN * LEN)
            .map(|pair| if pair % LEN > pair / LEN { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let causal = candle(&causal, &[1, 1, LEN, LEN])?;
        let mask = if rotary {
            causal
        } else {
            call.bias(DType::F32, &Device::Cpu)?.broadcast_add(&causal)?
        };
        let tables = || -> Result<[Tensor; 2]> {
            let rotation: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(HEAD, &Positions::range(0..LEN as i64))?;
            let table = |row: fn(&Rotation<f32>, usize) -> &[f32]| {
                let all: Vec<f32> = (0..LEN).flat_map(|t| row(&rotation, t)).copied().collect();
                candle(&all, &[LEN, HEAD / 2])
            };
            Ok([table(|r, t| r.cos(0, t))?, table(|r, t| r.sin(0, t))?])
        };
        Ok(Naive {
            tables: if rotary { Some(tables()?) } else { None },
            mask: if written {
                mask.broadcast_as((BATCH, HEADS, LEN, LEN))?.contiguous()?
            } else {
                mask
            },
            detached,
        })
    }

    fn attend(&self, qkv: [&Tensor; 3]) -> Result<Tensor> {
        let [q, k, v] = qkv.map(Tensor::contiguous);
        let (mut q, mut k) = (q?, k?);
        if let Some([cos, sin]) = &self.tables {
            (q, k) = (rope_slow(&q, cos, sin)?, rope_slow(&k, cos, sin)?);
        }
        let scores = (q * (1.0 / (HEAD as f64).sqrt()))?.matmul(&k.t()?)?.broadcast_add(&self.mask)?;
        let weights = if self.detached {
            let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
            powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?
        } else {
            softmax(&scores, D::Minus1)?
        };
        Ok(weights.matmul(&v?)?)
    }
}

/// Attention of this library.
fn fused(call: &Call, [q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
    Ok(call.attend(&Attention::default(), q, k, v, &Mask::none().causal(0), Mode::Evaluate)?)
}

/// A model with its optimiser.
struct Trained {
    model: Gpt,
    optimiser: AdamW,
}

impl Trained {
    fn new(vars: &VarMap) -> Result<Trained> {
        let model = Gpt::new(vars)?;
        let params = ParamsAdamW {
            lr: LEARNING_RATE,
            ..ParamsAdamW::default()
        };
        // By name, so that two models update theirs in the same order.
        let mut named: Vec<_> = vars
            .data()
            .lock()
            .map_err(|_| "the variables are in use by another thread")?
            .iter()
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let optimiser = AdamW::new(named.into_iter().map(|(_, var)| var).collect(), params)?;
        Ok(Trained { model, optimiser })
    }

    fn step(&mut self, [tokens, targets]: &[Tensor; 2], attend: super::gpt::Attend<'_>) -> Result<f32> {
        let loss = self.model.loss(tokens, targets, attend)?;
        self.optimiser.backward_step(&loss)?;
        Ok(loss.to_scalar()?)
    }
}

/// Text of a kind: the next token depends on the last, and on chance.
fn data() -> Result<[Tensor; 2]> {
    let (mut token, mut chance) = (1u32, 1u32);
    let walk: Vec<u32> = (0..BATCH * LEN + 1)
        .map(|_| {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            token = (token * 5 + (chance >> 28)) % TOKENS as u32;
            token
        })
        .collect();
    let tokens = Tensor::from_slice(&walk[..BATCH * LEN], (BATCH, LEN), &Device::Cpu)?;
    Ok([tokens, Tensor::from_slice(&walk[1..], BATCH * LEN, &Device::Cpu)?])
}

fn call_of(encoding: &Encoding) -> Result<Call> {
    let plan = encoding.clone().plan(Dims::new(WIDTH, HEADS)?)?;
    Ok(Call::new(&plan, &Positions::range(0..LEN as i64))?)
}

fn step(bench: &Bench, work: &str, encoding: &Encoding) -> Result<()> {
    let call = call_of(encoding)?;
    let data = data()?;
    let vars = VarMap::new();
    Gpt::new(&vars)?;
    let ours = |qkv: [&Tensor; 3]| fused(&call, qkv);

    // Both begin with the same numbers. The longest chain of roundings of a forward pass has some 1 500 a layer (products over 128, 32, 256, 128, 128 and 512 numbers, two norms over 128) and as many
    // again in the norm, the head and the softmax over 256; each is 2⁻²⁴ of numbers about 1, so two logits differ by at most 2 · 7 500 · 2⁻²⁴ and two losses by twice that: 2⁻⁹. A step adds as
    // much: where a gradient is lost in roundings, its weight may go the other way by twice the rate, which changes the loss by a product with what was lost.
    let bound = |step: usize| (step + 1) as f32 * 2f32.powi(-9);
    agree_on_gradients(work, &vars, &data, &ours, &|qkv| Naive::new(&call, false, false)?.attend(qkv))?;
    let mut way = None;
    let mut expected = Vec::new();
    let mut trained = Trained::new(&copy_of(&vars)?)?;
    for _ in 0..COMPARED {
        expected.push(trained.step(&data, &ours)?);
    }
    for (name, written, detached) in [
        ("softmax", false, false),
        ("softmax, mask as scores", true, false),
        ("maximum detached", false, true),
        ("maximum detached, mask as scores", true, true),
    ] {
        let naive = Naive::new(&call, written, detached)?;
        let mut trained = Trained::new(&copy_of(&vars)?)?;
        let mut shortest = f64::INFINITY;
        let mut apart = 0f32;
        for (step, expected) in expected.iter().enumerate() {
            let begin = Instant::now();
            let loss = trained.step(&data, &|qkv| naive.attend(qkv))?;
            shortest = shortest.min(begin.elapsed().as_secs_f64());
            apart = apart.max((loss - expected).abs());
            if !loss.is_finite() || (loss - expected).abs() > bound(step) {
                return Err(format!("{work}, {name}: the loss of step {step} is {expected} here and {loss} there").into());
            }
        }
        if !bench.markdown {
            let (first, last) = (expected[0], expected[COMPARED - 1]);
            println!(
                "    {name:<40} {}; losses {first:.3} to {last:.3} differ by at most {apart:.1e}",
                time(shortest)
            );
        }
        if way.as_ref().is_none_or(|(least, _, _)| shortest < *least) {
            way = Some((shortest, name, naive));
        }
    }
    let Some((_, name, naive)) = way else { return Ok(()) };
    let (mut own, mut with) = (Trained::new(&copy_of(&vars)?)?, Trained::new(&copy_of(&vars)?)?);
    let row = Row {
        work,
        stored: "f32",
        shape: &[BATCH, LEN, WIDTH],
        against: &format!("candle's own, {name}"),
        goal: Some(Goal::Faster(1.5)),
    };
    pair(
        bench,
        &row,
        || own.step(&data, &|qkv| naive.attend(qkv)).map(|loss| _ = black_box(loss)),
        || with.step(&data, &ours).map(|loss| _ = black_box(loss)),
    )
}

/// Both give every weight the same gradient, at the numbers that they begin with: within the roundings of a forward pass twice over for the way back, as a part of the largest gradient of the
/// same linear, norm or table.
fn agree_on_gradients(
    work: &str,
    vars: &VarMap,
    [tokens, targets]: &[Tensor; 2],
    ours: super::gpt::Attend<'_>,
    theirs: super::gpt::Attend<'_>,
) -> Result<()> {
    let model = Gpt::new(vars)?;
    let of = |attend: super::gpt::Attend<'_>| -> Result<_> { Ok(model.loss(tokens, targets, attend)?.backward()?) };
    let (ours, theirs) = (of(ours)?, of(theirs)?);
    let vars = vars.data().lock().map_err(|_| "the variables are in use by another thread")?;
    let part = |name: &str| name.rsplit_once('.').map_or(String::new(), |(part, _)| part.to_string());
    let mut largest = std::collections::HashMap::<String, f32>::new();
    let mut both = Vec::new();
    for (name, var) in vars.iter() {
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(var).ok_or(format!("{work}: {name} has no gradient")));
        let (ours, theirs) = (from_candle(ours?)?, from_candle(theirs?)?);
        let most = largest.entry(part(name)).or_default();
        *most = theirs.iter().fold(*most, |most, x| most.max(x.abs()));
        both.push((name, ours, theirs));
    }
    for (name, ours, theirs) in both {
        let largest = largest[&part(name)];
        if largest == 0.0 {
            return Err(format!("{work}: the gradient of {name} is 0").into());
        }
        agree(
            &format!("{work}, gradient of {name}"),
            &ours,
            &theirs,
            3.0 * 2f32.powi(-10) * largest,
        )?;
    }
    Ok(())
}

/// Each kind of operation of a rotary step by itself, forward and backward, net of a graph around it, and how often a step has it.
fn profile(bench: &Bench) -> Result<()> {
    let call = call_of(&Rotary::new(Pairing::Halves).into())?;
    let naive = Naive::new(&call, false, true)?;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let norm = Norm::new(&vb.pp("norm"))?;
    let [square, up, down] = [
        linear(WIDTH, WIDTH, vb.pp("square"))?,
        linear(WIDTH, 4 * WIDTH, vb.pp("up"))?,
        linear(4 * WIDTH, WIDTH, vb.pp("down"))?,
    ];
    let head = linear_no_bias(WIDTH, TOKENS, vb.pp("head"))?;
    let data = data()?;
    let embedding = candle_nn::embedding(TOKENS, WIDTH, vb.pp("tokens"))?;

    let narrow = [BATCH, LEN, WIDTH].as_slice();
    let wide = [BATCH, LEN, 4 * WIDTH].as_slice();
    let logits = [BATCH * LEN, TOKENS].as_slice();
    type Part<'p> = (&'p str, usize, &'p [usize], Box<dyn Fn(&Tensor) -> Result<Tensor> + 'p>);
    let parts: [Part<'_>; 10] = [
        ("linear, 128 to 128", 4 * LAYERS, narrow, Box::new(|x| Ok(square.forward(x)?))),
        ("linear, 128 to 512", LAYERS, narrow, Box::new(|x| Ok(up.forward(x)?))),
        ("linear, 512 to 128", LAYERS, wide, Box::new(|x| Ok(down.forward(x)?))),
        ("linear, to the logits", 1, narrow, Box::new(|x| Ok(head.forward(x)?))),
        ("layer norm", 2 * LAYERS + 1, narrow, Box::new(|x| norm.forward(x))),
        ("GELU", LAYERS, wide, Box::new(|x| Ok(x.gelu()?))),
        ("residual sum", 2 * LAYERS, narrow, Box::new(|x| Ok((x + &x.detach())?))),
        (
            "cross-entropy",
            1,
            logits,
            Box::new(|x| Ok(candle_nn::loss::cross_entropy(x, &data[1])?)),
        ),
        (
            "attention, candle's",
            LAYERS,
            narrow,
            Box::new(|x| {
                let x = heads(x)?;
                together(&naive.attend([&x, &x, &x])?)
            }),
        ),
        (
            "attention, ours",
            LAYERS,
            narrow,
            Box::new(|x| {
                let x = heads(x)?;
                together(&fused(&call, [&x, &x, &x])?)
            }),
        ),
    ];
    for (name, times, shape, part) in &parts {
        let count: usize = shape.iter().product();
        let x = Var::from_tensor(&candle(&crate::compare::numbers::<f32>(count), shape)?)?;
        let out = part(&x)?;
        let weight = (out.ones_like()? * 0.5)?;
        let through = |y: Tensor, weight: &Tensor| -> Result<()> {
            black_box((y * weight)?.sum_all()?.backward()?);
            Ok(())
        };
        let flat = weight.flatten_all()?;
        // What is around it has as many numbers as the part gives: a view of a variable of that size.
        let stand_in = Var::from_tensor(&out.detach())?;
        let all = in_turn(
            bench.rounds,
            [&mut || through(part(&x)?, &weight), &mut || through(stand_in.flatten_all()?, &flat)],
        )?;
        print(name, *times, spread(all.iter().map(|[with, around]| with - around).collect()));
    }
    let all = in_turn(
        bench.rounds,
        [&mut || {
            black_box(embedding.forward(&data[0])?.sum_all()?.backward()?);
            Ok(())
        }],
    )?;
    print("embedding", 1, spread(all.iter().map(|[seconds]| *seconds).collect()));

    let vars = VarMap::new();
    let mut trained = Trained::new(&vars)?;
    let attend = |qkv: [&Tensor; 3]| fused(&call, qkv);
    let grads = trained.model.loss(&data[0], &data[1], &attend)?.backward()?;
    let mut optimiser = || Ok(trained.optimiser.step(&grads)?);
    let all = in_turn(bench.rounds, [&mut optimiser])?;
    print("AdamW", 1, spread(all.iter().map(|[seconds]| *seconds).collect()));
    Ok(())
}

fn print(part: &str, times: usize, seconds: [f64; 3]) {
    let [median, low, high] = seconds.map(|seconds| time(seconds.max(0.0)));
    println!(
        "    {part:<24} {times:>3} × {median} ({low}–{high}) = {}",
        time(times as f64 * seconds[0].max(0.0))
    );
}
