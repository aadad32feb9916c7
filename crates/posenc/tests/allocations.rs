//! Hot paths allocate nothing: whatever runs once per step or layer, on memory that was made before it. Each case runs twice to warm up, then once between two readings of a counter in the global allocator.
//!
//! `cargo test -p posenc --test allocations -- --nocapture` lists every case with its count. One thread: rayon's pool allocates by itself, now and then, whatever it is given.

use half::{bf16, f16};
use posenc::rotate::{Rounding, Scaling, Yarn};
use posenc::{
    Alibi, Attends, Attention, Blocked, ClippedBias, Direction, Element, Encoding, Fire, Grads, InputTable, Inputs, Kerple, Learned,
    LogCpb, Mask, Mode, MusicTransformer, Outputs, Overflow, Pairing, Params, Plan, Positions, Real, Rotary, Rotation, Sandwich, Saved,
    SharedBias, Shaw, Sinusoidal, Site, Slots, SwinBias, T5Bias, Turn, View, ViewMut, Window, Workspace, embed::lookup,
    embed::lookup_adjoint,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts what a thread asks it for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count_one() {
    // A thread that ends has no counter any more.
    COUNT.try_with(|count| count.set(count.get() + 1)).ok();
}

// SAFETY: each call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, from: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller's.
        unsafe { System.realloc(from, layout, size) }
    }

    unsafe fn dealloc(&self, from: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(from, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What may allocate, and how often: tables are made once for all layers of a step, out of some short lists whose number does not grow with the tokens.
const MAY: &[(&str, usize)] = &[("rotation_into", 24)];

#[derive(Default)]
struct Cases {
    failed: Vec<String>,
    ran: usize,
}

impl Cases {
    fn case(&mut self, name: &str, mut run: impl FnMut()) {
        run();
        run();
        let before = COUNT.get();
        run();
        let count = COUNT.get() - before;
        self.ran += 1;
        let may = MAY.iter().find(|(known, _)| name.starts_with(known)).map_or(0, |(_, may)| *may);
        if count > 0 {
            println!("{count:4} {name}, of {may}");
        }
        if count > may {
            self.failed.push(format!("{count} allocations in {name}"));
        }
    }

    fn done(self, at_least: usize) {
        println!("{} cases", self.ran);
        assert!(self.ran >= at_least, "{} cases", self.ran);
        assert!(self.failed.is_empty(), "{:#?}", self.failed);
    }
}

/// On the thread that calls: what the pool's threads do could not be counted here.
fn on_one_thread() {
    // SAFETY: each test sets the same before anything reads it, and nothing else is written to the environment.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    let mut numbers = std::hint::black_box(vec![1u8; 100]);
    numbers.reserve(10_000);
    assert_eq!(COUNT.get() - before, 2);
    drop(std::hint::black_box(vec![0u64; 100]));
    assert_eq!(COUNT.get() - before, 3);
}

fn numbers<T: Element>(n: usize) -> Vec<T> {
    (0..n).map(|i| T::narrow(T::Real::of((i % 97) as f64 / 50.0 - 0.9))).collect()
}

fn rotations<T: Element>(cases: &mut Cases, dtype: &str) {
    const PAIRINGS: [Pairing; 4] = [
        Pairing::Halves,
        Pairing::Interleaved,
        Pairing::InterleavedToHalves,
        Pairing::HalvesTwice,
    ];
    // Decoding, a part of a prompt, heads wider than any model's, and past the caches.
    for (size, shape) in [
        ("decode", [8, 32, 1, 128]),
        ("prefill", [2, 4, 65, 128]),
        ("wide", [1, 2, 9, 1100]),
        ("large", [1, 5, 4099, 128]),
    ] {
        let [batch, heads, len, width] = shape;
        let at = Positions::range(7..7 + len as i64);
        let (mut x, mut out) = (numbers::<T>(shape.iter().product()), numbers::<T>(shape.iter().product()));
        for pairing in PAIRINGS {
            if size == "large" && pairing != Pairing::Halves {
                continue;
            }
            let rotary = Rotary::new(pairing).with_rotary_dim(width - 4);
            let scaled = rotary.clone().with_scaling(Scaling::Yarn(Yarn::new(4.0, 64)));
            let plain: Rotation<T::Real> = rotary.rotation(width, &at).unwrap();
            let scaled: Rotation<T::Real> = scaled.rotation(width, &at).unwrap();
            let stepwise = plain.clone().rounded(Rounding::EachStep);
            for (kind, rotation, turn) in [
                ("", &plain, Turn::Forward),
                ("", &plain, Turn::Adjoint),
                ("", &plain, Turn::Inverse),
                ("stepwise, ", &stepwise, Turn::Forward),
                ("by determinants, ", &scaled, Turn::Inverse),
            ] {
                if kind == "stepwise, " && size_of::<T>() > 2 {
                    continue;
                }
                let name = |how: &str| format!("rotation, {kind}{size}, {pairing:?}, {turn:?}, {dtype}, {how}");
                cases.case(&name("in place"), || {
                    rotation.apply(turn, ViewMut::new(&mut x, shape).unwrap()).unwrap()
                });
                cases.case(&name("in place, [batch, seq, heads, head_dim]"), || {
                    let view = ViewMut::new(&mut x, [batch, len, heads, width]).unwrap().swap(1, 2).unwrap();
                    rotation.apply(turn, view).unwrap();
                });
                cases.case(&name("into a buffer"), || {
                    let (from, to) = (View::new(&x, shape).unwrap(), ViewMut::new(&mut out, shape).unwrap());
                    rotation.apply_into(turn, from, to).unwrap();
                });
                cases.case(&name("into a strided buffer"), || {
                    let from = View::new(&x, [batch, len, heads, width]).unwrap().swap(1, 2).unwrap();
                    let to = ViewMut::new(&mut out, [batch, len, heads, width]).unwrap().swap(1, 2).unwrap();
                    rotation.apply_into(turn, from, to).unwrap();
                });
            }
            let (mut step, mut kept) = (0, plain.clone());
            cases.case(&format!("rotation_into, {size}, {pairing:?}, {dtype}"), || {
                step += 1;
                rotary
                    .rotation_into(width, &Positions::range(step..step + len as i64), &mut kept)
                    .unwrap();
            });
        }
    }
}

#[test]
fn rotations_allocate_nothing() {
    on_one_thread();
    let mut cases = Cases::default();
    rotations::<f32>(&mut cases, "f32");
    rotations::<f64>(&mut cases, "f64");
    rotations::<f16>(&mut cases, "f16");
    rotations::<bf16>(&mut cases, "bf16");
    cases.done(700);
}

const DIM: usize = 256;
const HEADS: usize = 4;

fn planned<R: Real>(encoding: Encoding) -> (Plan, Params<R>) {
    let plan = encoding.plan(posenc::Dims::new(DIM, HEADS).unwrap()).unwrap();
    let params = plan.init(1).unwrap();
    (plan, params)
}

fn additions<T: Element + Default>(cases: &mut Cases, dtype: &str) {
    let ids: Vec<i64> = (0..2 * 66).map(|i| (i * 7) % 64).collect();
    let mut present = [true; 2 * 66];
    present[5] = false;
    for (kind, batch, at) in [
        ("decode", 8, Positions::range(40..41)),
        ("prefill", 2, Positions::range(0..66)),
        ("ids", 2, Positions::whole_rows(&ids, 2).unwrap()),
        (
            "ids and presence",
            2,
            Positions::whole_rows(&ids, 2).unwrap().with_presence_rows(&present, 2).unwrap(),
        ),
        // Larger than the caches, if not by much.
        ("large", 1, Positions::whole(&(0..9000).map(|i| (i * 7) % 64).collect::<Vec<_>>())),
    ] {
        let len = at.len();
        let mut x = numbers::<T>(batch * len * DIM);
        for (method, encoding) in [
            ("learned", Encoding::from(Learned::new(128))),
            ("learned, dropped", Learned::new(128).with_dropout(0.1).into()),
            (
                "learned, interpolated",
                Learned::new(32).with_overflow(Overflow::Interpolate).into(),
            ),
            ("sinusoidal", Sinusoidal::paper().into()),
            ("input table", InputTable::new(128).into()),
        ] {
            let (plan, params) = planned::<T::Real>(encoding);
            let call = plan.call(&params, &at, &at).unwrap();
            let mut grads = params.zeros_like();
            let mode = Mode::Train { seed: 1, call: 2 };
            for site in [Site::Embedding, Site::QueryInput, Site::KeyInput] {
                let name = format!("{method}, {kind}, {site:?}, {dtype}");
                let shape = [batch, len, DIM];
                cases.case(&format!("add, {name}"), || {
                    call.add(site, ViewMut::new(&mut x, shape).unwrap(), mode).unwrap();
                });
                cases.case(&format!("add_adjoint, {name}"), || {
                    call.add_adjoint(site, ViewMut::new(&mut x, shape).unwrap(), mode, &mut grads)
                        .unwrap();
                });
            }
        }
        let (plan, params) = planned::<T::Real>(InputTable::new(128).projected().into());
        let call = plan.call(&params, &at, &at).unwrap();
        let mut grads = params.zeros_like();
        for site in [Site::Query, Site::Key] {
            let shape = [batch, len, HEADS, DIM / HEADS];
            cases.case(&format!("add_heads, {kind}, {site:?}, {dtype}"), || {
                call.add_heads(site, ViewMut::new(&mut x, shape).unwrap().swap(1, 2).unwrap())
                    .unwrap();
            });
            cases.case(&format!("add_heads_adjoint, {kind}, {site:?}, {dtype}"), || {
                call.add_heads_adjoint(site, View::new(&x, shape).unwrap().swap(1, 2).unwrap(), &mut grads)
                    .unwrap();
            });
        }
        let (plan, params) = planned::<T::Real>(Encoding::from(Learned::new(128)).with(Sinusoidal::paper().concatenated(16)));
        let call = plan.call(&params, &at, &at).unwrap();
        let (mut grads, mut out) = (params.zeros_like(), numbers::<T>(batch * len * (DIM + 16)));
        cases.case(&format!("embed, {kind}, {dtype}"), || {
            let out = ViewMut::new(&mut out, [batch, len, DIM + 16]).unwrap();
            call.embed(View::new(&x, [batch, len, DIM]).unwrap(), out, Mode::Evaluate).unwrap();
        });
        cases.case(&format!("embed_adjoint, {kind}, {dtype}"), || {
            let d_out = ViewMut::new(&mut out, [batch, len, DIM + 16]).unwrap();
            let dx = ViewMut::new(&mut x, [batch, len, DIM]).unwrap();
            call.embed_adjoint(d_out, dx, Mode::Evaluate, &mut grads).unwrap();
        });
        {
            let table = numbers::<T>(128 * DIM);
            let mut d_table = numbers::<T::Real>(128 * DIM);
            cases.case(&format!("lookup, {kind}, {dtype}"), || {
                let out = ViewMut::new(&mut x, [batch, len, DIM]).unwrap();
                lookup(&at, View::new(&table, [128, DIM]).unwrap(), out).unwrap();
            });
            cases.case(&format!("lookup_adjoint, {kind}, {dtype}"), || {
                let d_out = View::new(&x, [batch, len, DIM]).unwrap();
                lookup_adjoint(&at, d_out, ViewMut::new(&mut d_table, [128, DIM]).unwrap()).unwrap();
            });
        }
    }
}

#[test]
fn additions_allocate_nothing() {
    on_one_thread();
    let mut cases = Cases::default();
    additions::<f32>(&mut cases, "f32");
    additions::<f64>(&mut cases, "f64");
    additions::<f16>(&mut cases, "f16");
    additions::<bf16>(&mut cases, "bf16");
    cases.done(700);
}

fn biases() -> [(&'static str, Encoding); 12] {
    [
        ("alibi", Alibi::new().into()),
        ("alibi, symmetric", Alibi::symmetric().into()),
        ("clipped", ClippedBias::new(8, Direction::KeyMinusQuery).into()),
        ("shared", SharedBias::new(8).into()),
        ("t5", T5Bias::decoder().into()),
        ("t5, both directions", T5Bias::encoder().into()),
        ("kerple, logarithm", Kerple::log().into()),
        ("kerple, power", Kerple::power().into()),
        ("sandwich", Sandwich::new().into()),
        ("fire", Fire::new().into()),
        // As many cells as the ids below reach.
        ("swin", SwinBias::new([1, 1024]).into()),
        ("log-cpb", LogCpb::new([1, 1024]).into()),
    ]
}

#[test]
fn biases_that_are_written_out_allocate_nothing() {
    on_one_thread();
    let mut cases = Cases::default();
    let scattered: Vec<i64> = (0..130).map(|i| (i * 37) % 1009).collect();
    for (kind, q_at, k_at) in [
        ("a row", Positions::range(129..130), Positions::range(0..130)),
        ("a matrix", Positions::range(0..130), Positions::range(0..130)),
        (
            "packed documents",
            Positions::packed(&[50, 30, 50]),
            Positions::packed(&[50, 30, 50]),
        ),
        ("scattered ids", Positions::whole(&scattered[..20]), Positions::whole(&scattered)),
        ("past the caches", Positions::range(0..800), Positions::range(0..800)),
    ] {
        for (method, encoding) in biases() {
            let (plan, params) = planned::<f32>(encoding);
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let shape = [1, HEADS, q_at.len(), k_at.len()];
            let (mut out, mut half) = (vec![0.0f32; shape.iter().product()], vec![bf16::ZERO; shape.iter().product()]);
            cases.case(&format!("materialise_bias, {method}, {kind}, f32"), || {
                call.materialise_bias(ViewMut::new(&mut out, shape).unwrap()).unwrap();
            });
            cases.case(&format!("materialise_bias, {method}, {kind}, bf16"), || {
                call.materialise_bias(ViewMut::new(&mut half, shape).unwrap()).unwrap();
            });
        }
    }
    cases.done(60);
}

#[test]
fn attention_with_a_kept_workspace_allocates_nothing() {
    on_one_thread();
    let mut cases = Cases::default();
    let encodings = [
        ("none", Encoding::none()),
        ("rotary", Rotary::new(Pairing::Halves).into()),
        ("alibi", Alibi::new().into()),
        ("t5", T5Bias::decoder().into()),
        ("kerple", Kerple::log().into()),
        ("fire", Fire::new().into()),
        ("swin", SwinBias::new([1, 130]).into()),
        ("shaw", Shaw::new(4).into()),
        ("music transformer", MusicTransformer::new(130).into()),
    ];
    for (name, encoding) in encodings {
        let (plan, params) = planned::<f32>(encoding);
        for (kind, batch, q_len, k_len) in [("decode", 4, 1, 130), ("prefill", 2, 130, 130)] {
            let (q_at, k_at) = (
                Positions::range((k_len - q_len) as i64..k_len as i64),
                Positions::range(0..k_len as i64),
            );
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let (q_shape, k_shape) = ([batch, HEADS, q_len, DIM / HEADS], [batch, HEADS, k_len, DIM / HEADS]);
            let (q, k) = (numbers::<f32>(batch * q_len * DIM), numbers::<f32>(batch * k_len * DIM));
            let (mut out, mut dq) = (q.clone(), q.clone());
            let (mut dk, mut dv) = (k.clone(), k.clone());
            let (allowed, blocked, added) = (vec![true; k_len], vec![false; k_len], vec![0.0f32; k_len]);
            let padding = || View::new(&allowed, [1, 1, 1, k_len]).unwrap();
            let (mut saved, mut slots, mut work) = (Saved::default(), Slots::default(), Workspace::default());
            for (setting, attention, mask) in [
                ("causal", Attention::default(), Mask::none().causal(k_len - q_len)),
                (
                    "masks, a window, a cap and chunks",
                    Attention {
                        window: Some(Window::last(40).unwrap()),
                        chunk: Some(50),
                        softcap: Some(30.0),
                        dropout: 0.1,
                        ..Attention::default()
                    },
                    Mask::none()
                        .causal(k_len - q_len)
                        .attends(Attends(padding()))
                        .blocked(Blocked(View::new(&blocked, [1, 1, 1, k_len]).unwrap()))
                        .additive(View::new(&added, [1, 1, 1, k_len]).unwrap()),
                ),
            ] {
                let inputs = Inputs::new(
                    View::new(&q, q_shape).unwrap(),
                    View::new(&k, k_shape).unwrap(),
                    View::new(&k, k_shape).unwrap(),
                );
                let mode = Mode::Train { seed: 1, call: 2 };
                cases.case(&format!("attention, {name}, {kind}, {setting}, forward"), || {
                    let outputs = Outputs {
                        out: ViewMut::new(&mut out, q_shape).unwrap(),
                        saved: Some(&mut saved),
                        weights: None,
                    };
                    attention.forward(&call, inputs, &mask, mode, outputs, &mut work).unwrap();
                });
                cases.case(&format!("attention, {name}, {kind}, {setting}, adjoint"), || {
                    let grads = Grads {
                        dq: ViewMut::new(&mut dq, q_shape).unwrap(),
                        dk: ViewMut::new(&mut dk, k_shape).unwrap(),
                        dv: ViewMut::new(&mut dv, k_shape).unwrap(),
                    };
                    let (o, d_out) = (View::new(&out, q_shape).unwrap(), View::new(&q, q_shape).unwrap());
                    attention
                        .adjoint(&call, inputs, &mask, mode, o, d_out, &saved, grads, &mut slots, &mut work)
                        .unwrap();
                });
            }
        }
    }
    cases.done(40);
}
