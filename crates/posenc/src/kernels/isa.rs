//! Which instruction set the kernels run on.

use fearless_simd::Level;
use std::fmt;
use std::sync::LazyLock;

/// Instruction sets that kernels are compiled for, the widest last.
///
/// A kernel is written once, in portable Rust, and compiled for each of these; the widest that the processor has runs. The environment variable `POSENC_ISA` (`portable`, `avx2`,
/// `avx512`), read once, chooses a narrower one, to compare them or to reproduce what another machine computes; a name that is unknown, or a set that the processor lacks,
/// changes nothing: [`Isa::current`] says what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor of the target has (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// x86-64-v3: AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 as Ice Lake has it; Skylake-X and Cascade Lake, which slow down under it, use AVX2.
    Avx512,
}

static CHOSEN: LazyLock<Present> = LazyLock::new(|| {
    let asked = std::env::var("POSENC_ISA").ok();
    let present = || Isa::ALL.into_iter().filter_map(|isa| isa.level().map(Present));
    let named = present().find(|present| asked.as_deref() == Some(present.isa().name()));
    named.or(present().next_back()).unwrap_or(Present(Level::baseline()))
});

impl Isa {
    /// All of them, the narrowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// Its name, as `POSENC_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor has it.
    pub fn is_present(self) -> bool {
        self.level().is_some()
    }

    /// The proof that this processor has it.
    fn level(self) -> Option<Level> {
        match self {
            Isa::Portable => Some(Level::baseline()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Level::new().as_avx2().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Level::new().as_avx512().map(Level::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }

    /// Those that this processor has, the narrowest first.
    pub fn present() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_present())
    }

    /// What the kernels of this process run on.
    pub fn current() -> Isa {
        Present::current().isa()
    }
}

/// An instruction set that this processor has: only asking it makes one, so that what is compiled for it may be called.
#[derive(Clone, Copy, Debug)]
pub struct Present(pub(super) Level);

impl Present {
    /// What the kernels of this process run on.
    #[inline]
    pub fn current() -> Present {
        *CHOSEN
    }

    /// For tests: all that the processor has, the narrowest first. Each test says what it runs on (`-- --show-output`), and the first of a run what none of them does, whatever is captured.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Present> {
        use std::io::Write;
        static FIRST: std::sync::Once = std::sync::Once::new();
        let said = |isa: Isa| match isa.is_present() {
            true => format!("{isa}: runs"),
            false => format!("{isa}: skipped, this processor lacks it"),
        };
        FIRST.call_once(|| {
            writeln!(std::io::stderr(), "kernel tests: {}", Isa::ALL.map(said).join("; ")).ok();
        });
        let names: Vec<_> = Isa::present().map(Isa::name).collect();
        println!("on {}", names.join(", "));
        Isa::present().filter_map(|isa| isa.level().map(Present))
    }

    #[inline]
    pub fn isa(self) -> Isa {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => Isa::Avx2,
            _ => Isa::Portable,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

/// Compiles an `#[inline(always)]` body for every instruction set and makes a function that calls the one for its first argument, a [`Present`].
///
/// Constants of the body that differ between the sets stand behind its name: `body[AVX-512's; AVX2's; portable]`.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$($g:ident: $bound:path),*>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident $([$($wide:expr),*; $($middle:expr),*; $($narrow:expr),*])?) => {
        $(#[$doc])*
        #[inline]
        $vis fn $name<$($g: $bound),*>(on: $crate::kernels::Present, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    $body::<$($g),* $($(, $wide)*)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    $body::<$($g),* $($(, $middle)*)?>($($arg),*)
                }
                match on.isa() {
                    // SAFETY: the processor has it, or there would be no such `Present`.
                    $crate::kernels::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::Isa::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = on;
            $body::<$($g),* $($(, $narrow)*)?>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// Calls an `#[inline(always)]` function with the vectors of the instruction set that is present: `vectors!(on, simd => body(simd, …))`. It is compiled once for each set of [`Isa`], and for no
/// set between them.
macro_rules! vectors {
    ($on:expr, $simd:ident => $op:expr) => {{
        #[cfg(target_arch = "x86_64")]
        match $on.0 {
            fearless_simd::Level::Avx512($simd) => fearless_simd::Simd::vectorize(
                $simd,
                #[inline(always)]
                || $op,
            ),
            fearless_simd::Level::Avx2($simd) => fearless_simd::Simd::vectorize(
                $simd,
                #[inline(always)]
                || $op,
            ),
            level => match level.as_sse2() {
                Some($simd) => fearless_simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $op,
                ),
                None => unreachable!("SSE2 is part of x86-64"),
            },
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            fearless_simd::dispatch!($on.0, $simd => $op)
        }
    }};
}
pub(crate) use vectors;
