//! The hooks by type and shape: median times and bytes a second. What limits them, and how far they are from it, is measured by `posenc bench`.
//!
//! ```sh
//! cargo bench -p posenc                                  # all, on one thread, in a quarter of a minute
//! cargo bench -p posenc --features rayon -- rotation     # those with this in their name, on all cores
//! ```

use ::half::{bf16, f16};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use posenc::rotate::{Axes, Rounding};
use posenc::{
    Alibi, Call, ClippedBias, Dims, Direction, Element, Encoding, Learned, Mode, Pairing, Params, Positions, Real, Rotary, Rotation,
    SharedBias, Sinusoidal, Site, T5Bias, Turn, View, ViewMut,
};
use std::fmt;

fn main() {
    divan::main();
}

/// How tokens come.
#[derive(Clone, Copy)]
enum Tokens {
    /// One long prompt.
    Prefill,
    /// One new token of each of eight sequences.
    Decode,
    /// Four prompts in each row.
    Packed,
    /// Sixteen prompts, each at a position of its own.
    Batch,
}
use Tokens::{Batch, Decode, Packed, Prefill};

impl Tokens {
    /// Rows and tokens of each.
    fn shape(self) -> [usize; 2] {
        match self {
            Prefill => [1, 2048],
            Decode => [8, 1],
            Packed => [8, 1024],
            Batch => [16, 512],
        }
    }

    fn positions(self) -> Positions {
        let [batch, len] = self.shape();
        let own: Vec<i64> = (0..batch * len).map(|i| (77 + 100 * (i / len) + i % len) as i64).collect();
        match self {
            Prefill => Positions::range(0..len as i64),
            Packed => Positions::packed(&[len / 4; 4]),
            Decode | Batch => Positions::whole_rows(&own, batch).expect("whole rows"),
        }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [batch, len] = self.shape();
        let name = match self {
            Prefill => "prefill",
            Decode => "decode",
            Packed => "packed",
            Batch => "batch",
        };
        write!(f, "{name} {batch}×{len}")
    }
}

fn half<T: Element>() -> T {
    T::narrow(T::Real::of(0.5))
}

/// Rotations of `[batch, 32 heads, seq, 128]`, and of `[batch, 8, seq, 128]` where there are many tokens.
#[divan::bench_group(max_time = 0.15, skip_ext_time)]
mod rotation {
    use super::*;

    const HEAD: usize = 128;

    fn shape(tokens: Tokens) -> [usize; 4] {
        let [batch, len] = tokens.shape();
        let heads = match tokens {
            Prefill | Decode => 32,
            Packed | Batch => 8,
        };
        [batch, heads, len, HEAD]
    }

    /// Turns one way and nothing else.
    fn in_place<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens, rotary: Rotary, turn: Turn) {
        turned::<T>(bencher, &tokens.positions(), shape(tokens), rotary, turn);
    }

    fn turned<T: Element>(bencher: Bencher<'_, '_>, at: &Positions, shape: [usize; 4], rotary: Rotary, turn: Turn) {
        let mut x = vec![half::<T>(); shape.iter().product()];
        let rotation: Rotation<T::Real> = rotary.rotation(HEAD, at).expect("a width of pairs");
        bencher
            .counter(BytesCount::new(2 * size_of_val(x.as_slice())))
            .bench_local(move || {
                rotation
                    .apply(turn, ViewMut::new(black_box(&mut x), shape).expect("its size"))
                    .expect("its shape")
            });
    }

    #[divan::bench(types = [f32, f16, bf16, f64], args = [Prefill, Decode, Packed, Batch])]
    fn halves<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        in_place::<T>(bencher, tokens, Rotary::new(Pairing::Halves), Turn::Forward);
    }

    #[divan::bench(types = [f32, f16, bf16, f64], args = [Prefill, Decode])]
    fn interleaved<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        in_place::<T>(bencher, tokens, Rotary::new(Pairing::Interleaved), Turn::Forward);
    }

    #[divan::bench(types = [f32, f16, bf16, f64], args = [Prefill, Decode])]
    fn interleaved_to_halves<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        in_place::<T>(bencher, tokens, Rotary::new(Pairing::InterleavedToHalves), Turn::Forward);
    }

    /// A quarter of each head is turned.
    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode])]
    fn partial<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        in_place::<T>(
            bencher,
            tokens,
            Rotary::new(Pairing::Halves).with_rotary_dim(HEAD / 4),
            Turn::Forward,
        );
    }

    /// Half precision as eager code computes it: tables, products and sums rounded each.
    #[divan::bench(types = [f16, bf16], args = [Prefill, Decode])]
    fn halves_rounded_at_each_step<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        let rotary = Rotary {
            rounding: Rounding::EachStep,
            ..Rotary::new(Pairing::Halves)
        };
        in_place::<T>(bencher, tokens, rotary, Turn::Forward);
    }

    /// The cells of a picture, half of each head by row and half by column.
    #[divan::bench(types = [f32, f16, bf16])]
    fn grid<T: Element>(bencher: Bencher<'_, '_>) {
        let rotary = Rotary {
            axes: Axes::Grid { axes: vec![0, 1] },
            ..Rotary::new(Pairing::Halves)
        };
        let (at, shape) = (Positions::grid(32, 64), [1, 32, 2048, HEAD]);
        turned::<T>(bencher, &at, shape, rotary, Turn::Forward);
    }

    /// What the gradient costs.
    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode])]
    fn halves_adjoint<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        in_place::<T>(bencher, tokens, Rotary::new(Pairing::Halves), Turn::Adjoint);
    }

    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode, Packed, Batch])]
    fn halves_into_a_buffer<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        let shape = shape(tokens);
        let x = vec![half::<T>(); shape.iter().product()];
        let mut out = x.clone();
        let rotation: Rotation<T::Real> = Rotary::new(Pairing::Halves)
            .rotation(HEAD, &tokens.positions())
            .expect("a width of pairs");
        bencher
            .counter(BytesCount::new(2 * size_of_val(x.as_slice())))
            .bench_local(move || {
                let from = View::new(&x, shape).expect("its size");
                let to = ViewMut::new(black_box(&mut out), shape).expect("its size");
                rotation.apply_into(Turn::Forward, from, to).expect("its shape");
            });
    }
}

/// Cosines and sines, into memory that is there.
#[divan::bench_group(max_time = 0.15, skip_ext_time)]
mod tables {
    use super::*;

    #[divan::bench(types = [f32, f64], args = [1, 2048, 131_072])]
    fn cosines_and_sines<R: Real>(bencher: Bencher<'_, '_>, len: i64) {
        let (rotary, at) = (Rotary::new(Pairing::Halves), Positions::range(77..77 + len));
        let mut rotation: Rotation<R> = rotary.rotation(128, &at).expect("a width of pairs");
        bencher
            .counter(BytesCount::new(128 * len as usize * size_of::<R>()))
            .bench_local(move || rotary.rotation_into(128, &at, black_box(&mut rotation)).expect("checked before"));
    }

    /// What a forward pass resolves before its first layer: here the rows of a bias.
    #[divan::bench(args = [1, 2048, 131_072])]
    fn call_of_t5(bencher: Bencher<'_, '_>, len: i64) {
        let plan = Encoding::from(T5Bias::encoder())
            .plan(Dims::new(1024, 16).expect("sixteen heads"))
            .expect("fits");
        let params = plan.init::<f32>(0).expect("finite");
        let at = Positions::range(0..len);
        bencher.bench_local(move || drop(black_box(plan.call(&params, &at, &at).expect("positions in range"))));
    }
}

/// Tables of a model 1024 wide, added to `[batch, seq, 1024]`, and the gradients on their way back.
#[divan::bench_group(max_time = 0.15, skip_ext_time)]
mod addition {
    use super::*;

    const WIDTH: usize = 1024;

    /// A plan, its parameters and positions; what is timed is one use of the call.
    fn of<T: Element>(
        bencher: Bencher<'_, '_>,
        tokens: Tokens,
        encoding: Encoding,
        moves: usize,
        mut each: impl FnMut(&Call<'_, T::Real>, ViewMut<'_, T, 3>, &mut Params<T::Real>),
    ) {
        let [batch, len] = tokens.shape();
        let shape = [batch, len, WIDTH];
        let plan = encoding.plan(Dims::new(WIDTH, 16).expect("sixteen heads")).expect("fits");
        let params = plan.init::<T::Real>(0).expect("finite");
        let mut grads = params.zeros_like();
        let at = tokens.positions();
        let call = plan.call(&params, &at, &at).expect("positions in range");
        let mut x = vec![half::<T>(); shape.iter().product()];
        bencher
            .counter(BytesCount::new(moves * size_of_val(x.as_slice())))
            .bench_local(|| each(&call, ViewMut::new(black_box(&mut x), shape).expect("its size"), &mut grads));
    }

    fn add<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens, encoding: Encoding) {
        of::<T>(bencher, tokens, encoding, 3, |call, x, _| {
            call.add(Site::Embedding, x, Mode::Evaluate).expect("its shape")
        });
    }

    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode, Packed, Batch])]
    fn learned<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        add::<T>(bencher, tokens, Learned::new(8192).into());
    }

    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode, Packed, Batch])]
    fn sinusoidal<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        add::<T>(bencher, tokens, Sinusoidal::paper().into());
    }

    /// The table's gradient: rows of `dx` are added to those that were read.
    #[divan::bench(types = [f32, f16, bf16], args = [Prefill, Decode, Packed, Batch])]
    fn learned_adjoint<T: Element>(bencher: Bencher<'_, '_>, tokens: Tokens) {
        of::<T>(bencher, tokens, Learned::new(8192).into(), 3, |call, dx, grads| {
            call.add_adjoint(Site::Embedding, dx, Mode::Evaluate, grads).expect("its shape");
        });
    }
}

/// Biases of sixteen heads written out: a matrix of 1024 tokens, and the row of a new token against 4096 keys.
#[divan::bench_group(max_time = 0.15, skip_ext_time)]
mod bias {
    use super::*;

    const HEADS: usize = 16;

    fn write(bencher: Bencher<'_, '_>, encoding: Encoding, q_at: Positions, k_at: Positions) {
        let plan = encoding.plan(Dims::new(64 * HEADS, HEADS).expect("sixteen heads")).expect("fits");
        let params = plan.init::<f32>(0).expect("finite");
        let call = plan.call(&params, &q_at, &k_at).expect("positions in range");
        let shape = [1, HEADS, q_at.len(), k_at.len()];
        let mut out = vec![1.0f32; shape.iter().product()];
        bencher.counter(BytesCount::new(size_of_val(out.as_slice()))).bench_local(|| {
            call.materialise_bias(ViewMut::new(black_box(&mut out), shape).expect("its size"))
                .expect("its shape")
        });
    }

    fn encoding(name: &str) -> Encoding {
        match name {
            "alibi" => Alibi::new().into(),
            "t5" => T5Bias::decoder().into(),
            "clipped" => ClippedBias::new(128, Direction::KeyMinusQuery).into(),
            _ => SharedBias::new(128).into(),
        }
    }

    #[divan::bench(args = ["alibi", "t5", "clipped", "shared"])]
    fn matrix(bencher: Bencher<'_, '_>, name: &str) {
        let at = Positions::range(0..1024);
        write(bencher, encoding(name), at.clone(), at);
    }

    #[divan::bench(args = ["alibi", "t5", "clipped", "shared"])]
    fn row(bencher: Bencher<'_, '_>, name: &str) {
        write(bencher, encoding(name), Positions::range(4095..4096), Positions::range(0..4096));
    }
}
