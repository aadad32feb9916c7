//! The inner loops, and all `unsafe` of the crate.
//!
//! Each kernel is written once, in portable Rust over fixed-size arrays, and compiled for several instruction sets by [`multiversion`]; the one that runs is chosen
//! by what the processor has. Pointers are read after the bounds of the whole call have been checked.
#![expect(
    unsafe_code,
    reason = "calls into functions compiled for an instruction set that was detected, and bounds checked once per call"
)]

mod planes;
mod product;
mod softmax;

pub(crate) use planes::{PlaneMut, planes};
pub(crate) use product::{Left, product};
pub(crate) use softmax::{RowSum, dot, probabilities, score_gradient, softmax_step};

/// Rows of packed buffers are padded to a multiple of this, so that no kernel has a ragged edge in the vector direction.
pub(crate) const LANES: usize = 16;

/// The next multiple of [`LANES`].
pub(crate) const fn padded(n: usize) -> usize {
    n.div_ceil(LANES) * LANES
}

/// Compiles an `#[inline(always)]` body, generic over `const FMA: bool` and a tile of `MR` × `NR`, for AVX-512, AVX2 with FMA, and whatever the target has.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$r:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        #[inline]
        $vis fn $name<$r: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512<$r: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? {
                    $body::<$r, true, 4, 32>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$r: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? {
                    $body::<$r, true, 4, 16>($($arg),*)
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the features were detected on this processor.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the features were detected on this processor.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body::<$r, false, 2, 16>($($arg),*)
        }
    };
}
pub(crate) use multiversion;
