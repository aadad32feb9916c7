//! Random numbers for initial weights and dropout: pure functions of their seeds, the same on every machine.

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

impl Rng {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Rng {
        Rng {
            state: mix(seed.wrapping_add(GOLDEN)),
            spare: None,
        }
    }

    /// A stream of its own for each seed and name: a parameter's initial value depends on both and on nothing else, so models that share a
    /// parameter's name and shape share its initial value.
    pub fn named(seed: u64, name: &str) -> Rng {
        // FNV-1a; the mixer of `new` spreads it.
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        Rng::new(mix(seed.wrapping_add(GOLDEN)) ^ hash)
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
    fn streams_differ_by_seed_and_by_name() {
        let first = |mut r: Rng| r.bits();
        assert_ne!(first(Rng::named(1, "a")), first(Rng::named(2, "a")));
        assert_ne!(first(Rng::named(1, "a")), first(Rng::named(1, "b")));
        assert_eq!(first(Rng::named(1, "a")), first(Rng::named(1, "a")));
    }
}
