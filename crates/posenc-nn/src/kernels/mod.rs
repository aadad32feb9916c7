//! The hot loops, and all `unsafe` of this crate: calls into instruction sets that were detected, and the raw matrix product.
//!
//! A loop is written once, as safe code over slices that the compiler turns into vector instructions, and compiled for AVX-512, for AVX2 and for the
//! baseline (NEON is part of aarch64's), as the core's are: [`posenc::Isa`]. Loops use no fused multiply-add and sum in 16 lanes whatever the register's width, so every instruction set
//! gives the same bits. Matrix products do not promise that: `gemm` picks its blocking by instruction set and cache.

#![expect(unsafe_code, reason = "instruction sets chosen at run time, and gemm's raw pointers")]

use std::cell::Cell;
use std::thread::LocalKey;

mod activation;
mod gemm;
mod norm;
mod softmax;
mod vector;

pub(crate) use activation::*;
pub(crate) use gemm::*;
pub(crate) use norm::*;
pub(crate) use softmax::*;
pub(crate) use vector::*;

/// What f32 and f64 do differently. Public in a private module: it seals [`crate::Number`].
pub trait Native: Sized + 'static {
    /// Memory of a thread that is kept from product to product; who takes it puts it back.
    fn spare() -> &'static LocalKey<Cell<Vec<Self>>>;
    /// The matrix product of this type for this machine.
    fn gemm_function() -> GemmFunction<Self>;
    /// Φ(−a) for a ≥ 0, and φ(a): the upper tail and the density of the standard normal distribution.
    fn normal_tail(a: Self) -> (Self, Self);
}

/// Instruction sets that loops are compiled for: the core's choice, `POSENC_ISA` included.
pub(crate) use posenc::Isa;

/// The one that this process uses. Only here and in [`testing`] does a value come from, so what is called for it is there.
#[inline]
fn detected() -> Isa {
    Isa::current()
}

#[cfg(not(test))]
#[inline]
pub(crate) fn level() -> Isa {
    detected()
}

#[cfg(test)]
pub(crate) use testing::level;

/// Compiles a generic loop for each instruction set and picks one per call.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident<$R:ident: $bound:path>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name<$R: $bound>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$R: $bound>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<$R: $bound>($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<$R: $bound>($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            match $crate::kernels::level() {
                // SAFETY: `level` returns a set of instructions only where the machine has it.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::Isa::Avx512 => unsafe { avx512($($arg),*) },
                _ => body($($arg),*),
            }
        }
    )*};
}
pub(crate) use multiversion;

#[cfg(test)]
pub(crate) mod testing {
    use super::{Cell, Isa, detected};

    thread_local! {
        static WIDEST: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    pub(crate) fn level() -> Isa {
        WIDEST.get().map_or(detected(), |widest| widest.min(detected()))
    }

    /// Runs a test on the baseline and on every wider instruction set of this machine; prints what this machine lacks.
    pub(crate) fn on_every_level<T>(mut test: impl FnMut() -> T) -> Vec<T> {
        let mut results = Vec::new();
        for level in Isa::ALL {
            if level > detected() {
                println!("skipped {level:?}: this machine does not have it");
                continue;
            }
            WIDEST.set(Some(level));
            results.push(test());
            WIDEST.set(None);
        }
        results
    }

    /// The bits of a vector, to compare instruction sets with.
    pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }
}
