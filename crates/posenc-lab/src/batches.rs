//! Which pieces of the training text a step reads: a function of the seed and the step, and of nothing else.
//!
//! There is no generator whose state travels from step to step. A model with another encoding, a resumed comparison and another thread count all read the same
//! batches, because none of them is an argument.

use crate::error::LabError;
use posenc::rng::split_mix;

/// The batches of one seed over one training text.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a> {
    tokens: &'a [u16],
    seed: u64,
    length: usize,
    batch: usize,
}

impl<'a> Batches<'a> {
    /// `batch` pieces of `length` tokens a step. The text must have one token more than a piece, for the last target.
    pub fn new(tokens: &'a [u16], seed: u64, length: usize, batch: usize) -> Result<Self, LabError> {
        for (field, count) in [("training.length", length), ("training.batch", batch)] {
            if count == 0 {
                return Err(LabError::Configuration {
                    field,
                    expected: "at least 1".into(),
                    given: "0".into(),
                });
            }
        }
        if tokens.len() <= length {
            return Err(LabError::Configuration {
                field: "training.length",
                expected: format!("shorter than the training part of {} tokens", tokens.len()),
                given: length.to_string(),
            });
        }
        Ok(Self {
            tokens,
            seed,
            length,
            batch,
        })
    }

    /// Numbers in the inputs (and in the targets) of one step: `batch` · `length`.
    pub fn tokens_per_step(&self) -> usize {
        self.batch * self.length
    }

    /// Where the pieces of a step start.
    pub fn starts(&self, step: usize) -> impl Iterator<Item = usize> + use<'a> {
        let (seed, choices) = (self.seed, self.tokens.len() - self.length);
        (0..self.batch).map(move |index| start(seed, step, index, choices))
    }

    /// Writes a step's inputs and targets, piece after piece; a target is the token after its input.
    ///
    /// # Panics
    /// If a buffer is not [`tokens_per_step`](Self::tokens_per_step) long.
    pub fn fill(&self, step: usize, inputs: &mut [u16], targets: &mut [u16]) {
        assert_eq!(
            (inputs.len(), targets.len()),
            (self.tokens_per_step(), self.tokens_per_step()),
            "buffers hold batch x length tokens"
        );
        let rows = inputs.chunks_exact_mut(self.length).zip(targets.chunks_exact_mut(self.length));
        for (start, (input, target)) in self.starts(step).zip(rows) {
            input.copy_from_slice(&self.tokens[start..start + self.length]);
            target.copy_from_slice(&self.tokens[start + 1..start + 1 + self.length]);
        }
    }
}

/// Start of one piece, evenly distributed over `0..choices`: a pure function of its arguments.
pub fn start(seed: u64, step: usize, index: usize, choices: usize) -> usize {
    // Each argument is mixed before the next is added: neighbouring seeds, steps and indices have nothing in common.
    let bits = split_mix(split_mix(split_mix(seed).wrapping_add(step as u64)).wrapping_add(index as u64));
    // The upper half of the product is the number scaled to 0..choices; the unevenness is choices / 2^64.
    ((u128::from(bits) * choices as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Vec<u16> {
        (0..n).map(|i| i as u16).collect()
    }

    #[test]
    fn the_starts_never_change() {
        // Pinned: a change of these makes earlier results impossible to repeat.
        let text = text(10_000);
        let starts: Vec<usize> = Batches::new(&text, 7, 64, 4).unwrap().starts(3).collect();
        assert_eq!(starts, [8099, 9277, 5145, 6349]);
    }

    #[test]
    fn targets_follow_inputs() {
        let text = text(100);
        let batches = Batches::new(&text, 1, 8, 5).unwrap();
        let (mut inputs, mut targets) = (vec![u16::MAX; 40], vec![u16::MAX; 40]);
        batches.fill(12, &mut inputs, &mut targets);
        for (row, start) in batches.starts(12).enumerate() {
            for i in 0..8 {
                assert_eq!(inputs[row * 8 + i] as usize, start + i);
                assert_eq!(targets[row * 8 + i] as usize, start + i + 1);
            }
        }
    }

    #[test]
    fn a_step_needs_no_step_before_it() {
        let text = text(1000);
        let all: Vec<Vec<usize>> = (0..20)
            .map(|step| Batches::new(&text, 5, 16, 3).unwrap().starts(step).collect())
            .collect();
        let fresh: Vec<usize> = Batches::new(&text, 5, 16, 3).unwrap().starts(13).collect();
        assert_eq!(all[13], fresh);
    }

    #[test]
    fn seeds_steps_and_indices_are_independent_and_even() {
        let choices = 16;
        for vary in 0..3 {
            let mut counts = [0_usize; 16];
            for i in 0..16_000 {
                let (seed, step, index) = match vary {
                    0 => (i as u64, 0, 0),
                    1 => (0, i, 0),
                    _ => (0, 0, i),
                };
                counts[start(seed, step, index, choices)] += 1;
            }
            // 1000 expected in each, standard deviation 31: five of them either way.
            assert!(counts.iter().all(|&n| (845..=1155).contains(&n)), "{counts:?}");
        }
        assert_ne!(
            start(1, 0, 0, 1 << 40),
            start(0, 1, 0, 1 << 40),
            "the arguments do not stand in for each other"
        );
        assert_ne!(start(0, 1, 0, 1 << 40), start(0, 0, 1, 1 << 40));
    }

    #[test]
    fn the_shortest_text_has_one_place() {
        let text = text(9);
        assert_eq!(Batches::new(&text, 0, 8, 3).unwrap().starts(4).collect::<Vec<_>>(), [0, 0, 0]);
        assert!(matches!(
            Batches::new(&text, 0, 9, 3),
            Err(LabError::Configuration {
                field: "training.length",
                ..
            })
        ));
        assert!(matches!(
            Batches::new(&text, 0, 8, 0),
            Err(LabError::Configuration {
                field: "training.batch",
                ..
            })
        ));
    }
}
