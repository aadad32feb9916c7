//! Random numbers for initial weights, dropout and experiments: pure functions of their seeds, the same on every machine; and the hash that makes a seed of a name.

/// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixer; passes BigCrush, and its n-th number needs none before it.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    spare: Option<f64>,
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
#[inline(always)]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output of SplitMix64 for one state: a number that has nothing in common with its neighbours'.
#[inline(always)]
pub const fn split_mix(state: u64) -> u64 {
    mix(state.wrapping_add(GOLDEN))
}

/// The FNV-1a hash (64 bits) of no bytes: where [`fnv1a`] starts.
pub const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a (64 bits) of further bytes, after those that gave `hash`. It tells texts apart; it does not protect against someone who wants two to look alike.
pub fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

impl Rng {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Rng {
        Rng {
            state: split_mix(seed),
            spare: None,
        }
    }

    /// A stream of its own for each seed and name: a parameter's initial value depends on both and on nothing else, so models that share a
    /// parameter's name and shape share its initial value.
    pub fn named(seed: u64, name: &str) -> Rng {
        // The mixer of `new` spreads the hash.
        Rng::new(split_mix(seed) ^ fnv1a(FNV_START, name.as_bytes()))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Normal with mean 0 and standard deviation 1 (polar method of Marsaglia).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let scale = (-2.0 * s.ln() / s).sqrt();
                self.spare = Some(v * scale);
                return u * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut rng = Rng::new(7);
        let n = 100_000;
        let xs: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = xs.iter().sum::<f64>() / n as f64;
        let variance = xs.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        // Four standard errors: 4/√n and 4·√(2/n).
        assert!(mean.abs() < 4.0 / (n as f64).sqrt() && (variance - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt());
    }

    #[test]
    fn split_mix_gives_its_published_sequence() {
        // The reference generator seeded with 0 steps its state by the golden gamma.
        let first: Vec<u64> = (0..3).map(|i| split_mix(GOLDEN.wrapping_mul(i))).collect();
        assert_eq!(first, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(FNV_START, b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(FNV_START, b"foobar"), 0x8594_4171_F739_67E8);
        assert_eq!(fnv1a(fnv1a(FNV_START, b"foo"), b"bar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn a_named_stream_never_changes() {
        // Pinned: a change of this makes earlier results impossible to repeat.
        assert_eq!(Rng::named(7, "tokens.weight").bits(), 0xDF17_53D5_E541_1C2F);
    }

    #[test]
    fn streams_differ_by_seed_and_by_name() {
        let first = |mut r: Rng| r.bits();
        assert_ne!(first(Rng::named(1, "a")), first(Rng::named(2, "a")));
        assert_ne!(first(Rng::named(1, "a")), first(Rng::named(1, "b")));
        assert_eq!(first(Rng::named(1, "a")), first(Rng::named(1, "a")));
    }
}
