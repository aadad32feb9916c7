//! Counting: what a sequence of one length holds that sequences of another did not.

use serde::{Deserialize, Serialize};

/// Trained length and given length, both at least 1. All pairs are causal: a query and a key at most as far on as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub trained: u64,
    pub length: u64,
}

/// n(n + 1)/2: causal pairs among n tokens.
fn triangle(n: u64) -> u64 {
    n * (n + 1) / 2
}

impl Lengths {
    /// Given length over trained length.
    pub fn factor(&self) -> f64 {
        self.length as f64 / self.trained as f64
    }

    /// Tokens whose id is `id` or larger.
    pub fn ids_from(&self, id: u64) -> u64 {
        self.length.saturating_sub(id)
    }

    /// Causal pairs.
    pub fn pairs(&self) -> u64 {
        triangle(self.length)
    }

    /// Causal pairs whose query is `distance` or more after its key.
    pub fn pairs_apart(&self, distance: u64) -> u64 {
        triangle(self.length.saturating_sub(distance))
    }

    /// Causal pairs whose query has the id `id` or a larger one.
    pub fn pairs_querying_from(&self, id: u64) -> u64 {
        triangle(self.length) - triangle(self.length.min(id))
    }
}

/// What any encoding meets when a model trained on one length is given another. All pairs are causal.
///
/// ```
/// use posenc::explain::Common;
/// let common = Common::new(2048, 3000);
/// assert_eq!((common.new_ids, common.pairs), (952, 4_501_500));
/// assert_eq!((common.new_distance_pairs, common.new_query_pairs), (453_628, 2_403_324));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// Given length over trained length.
    pub factor: f64,
    /// Ids that training never reached, of as many ids as the length.
    pub new_ids: u64,
    /// Pairs of a query and a key at or before it.
    pub pairs: u64,
    /// Pairs at a distance that training never reached: what a relative encoding meets.
    pub new_distance_pairs: u64,
    /// Pairs whose query has an id that training never reached: what an absolute encoding meets.
    pub new_query_pairs: u64,
    /// Entropy that the last query's softmax can gain over training because it has more keys, in nats: ln of `factor`, or 0.
    pub extra_entropy: f64,
}

impl Common {
    /// Counts for a model trained on `trained` tokens and given `length`.
    pub fn new(trained: u32, length: u32) -> Common {
        let lengths = Lengths {
            trained: u64::from(trained),
            length: u64::from(length),
        };
        Common {
            factor: lengths.factor(),
            new_ids: lengths.ids_from(lengths.trained),
            pairs: lengths.pairs(),
            new_distance_pairs: lengths.pairs_apart(lengths.trained),
            new_query_pairs: lengths.pairs_querying_from(lengths.trained),
            extra_entropy: lengths.factor().ln().max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exercise_of_document_004() {
        let common = Common::new(2048, 3000);
        assert_eq!(common.factor, 1.464_843_75);
        assert_eq!(common.new_ids, 952);
        assert_eq!(common.pairs, 4_501_500);
        assert_eq!(common.new_distance_pairs, 453_628);
        assert_eq!(common.new_query_pairs, 2_403_324);
        assert!((common.extra_entropy - 0.382).abs() < 5e-4);
        let percent = |n: u64, of: u64| (1e4 * n as f64 / of as f64).round() / 1e2;
        assert_eq!(percent(952, 3000), 31.73);
        assert_eq!(percent(453_628, 4_501_500), 10.08);
        assert_eq!(percent(2_403_324, 4_501_500), 53.39);
    }

    #[test]
    fn formulas_count_what_counting_counts() {
        for length in 1..12u64 {
            let pairs: Vec<(u64, u64)> = (0..length).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
            for trained in 1..14 {
                let lengths = Lengths { trained, length };
                assert_eq!(lengths.pairs(), pairs.len() as u64);
                assert_eq!(lengths.ids_from(trained), (0..length).filter(|&id| id >= trained).count() as u64);
                assert_eq!(
                    lengths.pairs_apart(trained),
                    pairs.iter().filter(|(i, j)| i - j >= trained).count() as u64
                );
                assert_eq!(
                    lengths.pairs_querying_from(trained),
                    pairs.iter().filter(|(i, _)| *i >= trained).count() as u64
                );
            }
        }
    }

    #[test]
    fn nothing_is_new_within_the_trained_length() {
        let common = Common::new(2048, 2048);
        assert_eq!((common.new_ids, common.new_distance_pairs, common.new_query_pairs), (0, 0, 0));
        assert_eq!(Common::new(2048, 1000).extra_entropy, 0.0);
    }

    #[test]
    fn the_longest_length_does_not_overflow() {
        let common = Common::new(1, u32::MAX);
        assert_eq!(common.pairs, (1u64 << 63) - (1u64 << 31));
    }
}
