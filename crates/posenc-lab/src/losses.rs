//! From losses of single tokens to what is kept of them: sums in f64, in a fixed order.

use crate::results::Losses;

/// At most this many numbers are kept of the loss per position.
pub const PER_POSITION_ENTRIES: usize = 64;

/// Collects the losses of one model at one length.
///
/// Sums depend on the order in which windows are added, so add them in the order of [`EvaluationWindows`](crate::windows::EvaluationWindows).
#[derive(Clone, Debug)]
pub struct LossSums {
    per_position: Vec<f64>,
    windows: usize,
    aligned: f64,
    aligned_targets: usize,
    aligned_scored: usize,
}

impl LossSums {
    /// Nothing yet, for windows of `length` tokens of which the aligned reading scores the last `aligned_targets`.
    ///
    /// # Panics
    /// If `aligned_targets` is more than `length`; a configuration in which it is is refused by
    /// [`EvaluationWindows::new`](crate::windows::EvaluationWindows::new).
    pub fn new(length: usize, aligned_targets: usize) -> Self {
        assert!(
            aligned_targets <= length,
            "a window of {length} tokens has no {aligned_targets} targets"
        );
        Self {
            per_position: vec![0.0; length],
            windows: 0,
            aligned: 0.0,
            aligned_targets,
            aligned_scored: 0,
        }
    }

    /// Adds one window of the mean: a loss for each of its positions.
    ///
    /// # Panics
    /// If there are not as many losses as positions.
    pub fn add_mean(&mut self, losses: &[impl Copy + Into<f64>]) {
        assert_eq!(losses.len(), self.per_position.len(), "one loss for each position");
        for (sum, &loss) in self.per_position.iter_mut().zip(losses) {
            *sum += loss.into();
        }
        self.windows += 1;
    }

    /// Adds one aligned window: the losses of all its positions, or of its last ones; only those of the last `aligned_targets` are read.
    ///
    /// # Panics
    /// If there are fewer losses than scored targets.
    pub fn add_aligned(&mut self, losses: &[impl Copy + Into<f64>]) {
        assert!(losses.len() >= self.aligned_targets, "one loss for each scored target");
        for &loss in &losses[losses.len() - self.aligned_targets..] {
            self.aligned += loss.into();
        }
        self.aligned_scored += self.aligned_targets;
    }

    /// The means. What was never added is NaN, not 0.
    pub fn finish(&self) -> Losses {
        let windows = self.windows as f64;
        let length = self.per_position.len();
        let width = length.div_ceil(PER_POSITION_ENTRIES).max(1);
        let average = |sums: &[f64]| sums.iter().sum::<f64>() / (windows * sums.len() as f64);
        Losses {
            mean: average(&self.per_position),
            aligned: self.aligned / self.aligned_scored as f64,
            per_position: self.per_position.chunks(width).map(average).collect(),
            per_position_width: width,
            windows: self.windows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_over_windows_positions_and_aligned_targets() {
        let mut sums = LossSums::new(4, 2);
        sums.add_mean(&[1.0_f32, 2.0, 3.0, 4.0]);
        sums.add_mean(&[3.0_f32, 2.0, 1.0, 0.0]);
        sums.add_aligned(&[9.0_f64, 9.0, 1.0, 2.0]);
        sums.add_aligned(&[5.0_f64, 4.0]);
        let losses = sums.finish();
        assert_eq!(
            losses,
            Losses {
                mean: 2.0,
                aligned: 3.0,
                per_position: vec![2.0; 4],
                per_position_width: 1,
                windows: 2
            }
        );
    }

    #[test]
    fn neighbouring_positions_share_an_entry_in_long_windows() {
        let ramp: Vec<f32> = (0..150).map(|i| i as f32).collect();
        let mut sums = LossSums::new(150, 1);
        sums.add_mean(&ramp);
        let losses = sums.finish();
        assert_eq!((losses.per_position_width, losses.per_position.len()), (3, 50));
        assert_eq!(losses.per_position[..2], [1.0, 4.0]);
        // The last entry may hold fewer positions; its mean is over those.
        let mut sums = LossSums::new(130, 1);
        sums.add_mean(&ramp[..130]);
        assert_eq!(sums.finish().per_position.last(), Some(&129.0));
        assert_eq!(LossSums::new(512, 1).finish().per_position.len(), 64);
    }

    #[test]
    fn a_broken_model_and_an_unread_window_give_nan() {
        let mut sums = LossSums::new(2, 1);
        assert!(sums.finish().mean.is_nan() && sums.finish().aligned.is_nan());
        sums.add_mean(&[1.0_f32, f32::NAN]);
        let losses = sums.finish();
        assert!(losses.mean.is_nan() && losses.per_position[0] == 1.0);
    }

    #[test]
    #[should_panic(expected = "one loss for each position")]
    fn windows_of_another_length_are_a_mistake_of_the_caller() {
        LossSums::new(4, 2).add_mean(&[1.0_f32]);
    }
}
