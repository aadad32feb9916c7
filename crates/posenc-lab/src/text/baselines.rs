//! What counting reaches without a model: the marks that a run has to beat.

use std::collections::HashMap;

use crate::results::Baselines;

/// Mean loss, over every token of `held_out` but the first, of two models that count in `train`: the frequency of a token, and its frequency after the token before
/// it. Both counts start at one for each token of the vocabulary, so that nothing is impossible. NaN if `held_out` has fewer than two tokens.
pub fn baselines(train: &[u16], held_out: &[u16], vocabulary: usize) -> Baselines {
    let mut alone = vec![0_u32; vocabulary];
    let mut before = vec![0_u32; vocabulary];
    // A table of all pairs would be 16 GiB for the largest vocabulary; the pairs that occur are few.
    let mut pairs: HashMap<(u16, u16), u32> = HashMap::new();
    for &token in train {
        alone[usize::from(token)] += 1;
    }
    for pair in train.windows(2) {
        before[usize::from(pair[0])] += 1;
        *pairs.entry((pair[0], pair[1])).or_default() += 1;
    }

    let loss = |count: u32, of: usize| -((f64::from(count) + 1.0) / (of as f64 + vocabulary as f64)).ln();
    let (mut unigram, mut bigram) = (0.0, 0.0);
    for pair in held_out.windows(2) {
        unigram += loss(alone[usize::from(pair[1])], train.len());
        bigram += loss(
            pairs.get(&(pair[0], pair[1])).copied().unwrap_or(0),
            before[usize::from(pair[0])] as usize,
        );
    }
    let targets = held_out.len().saturating_sub(1) as f64;
    Baselines {
        unigram: unigram / targets,
        bigram: bigram / targets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Text, Tokens};

    #[test]
    fn counted_by_hand() {
        // Training: 0 1 0 1 2. Alone: 2, 2, 1 of 5. After 0: 1 twice of 2. After 1: 0 and 2 of 2. Vocabulary 3.
        let measured = baselines(&[0, 1, 0, 1, 2], &[0, 1, 1], 3);
        let unigram = -((3.0_f64 / 8.0).ln() + (3.0_f64 / 8.0).ln()) / 2.0;
        let bigram = -((3.0_f64 / 5.0).ln() + (1.0_f64 / 5.0).ln()) / 2.0;
        assert!((measured.unigram - unigram).abs() < 1e-15 && (measured.bigram - bigram).abs() < 1e-15);
    }

    #[test]
    fn a_uniform_guess_is_the_logarithm_of_the_vocabulary() {
        let measured = baselines(&[], &[3, 4, 5], 78);
        assert!((measured.unigram - 78.0_f64.ln()).abs() < 1e-12 && (measured.bigram - 78.0_f64.ln()).abs() < 1e-12);
        assert!(baselines(&[0], &[0], 1).bigram.is_nan());
    }

    #[test]
    fn the_novels_are_where_english_is() {
        let text = Text::bundled(Tokens::Characters, 1000).unwrap();
        let measured = text.baselines(24_576);
        // English by characters, capitals and punctuation included: close to 3 nat alone, below 2.5 after the character before.
        assert!((2.8..3.1).contains(&measured.unigram), "{measured:?}");
        assert!((2.3..2.5).contains(&measured.bigram), "{measured:?}");
    }
}
