//! Which axis of a token's position turns which pair.
//!
//! **Idea.** A patch of a picture has a row and a column, a frame of a film a time too. Each pair of a head turns with one of them. Which one is a matter of its own, apart from
//! [`Pairing`](crate::Pairing), which says what coordinates a pair has: engines that took one for the other lost accuracy without an error.
//!
//! **Papers.** Qwen2-VL (Wang and others, 2024, arXiv 2409.12191) for sections; Qwen3-VL and ERNIE 4.5 for the orders that spread each axis over all frequencies; the rest as in the code
//! of the models named below, in transformers.

use crate::error::{Error, Result};
use crate::rotate::Frequencies;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which axis of the positions turns which pair. Axes count in the order of [`Positions::real_axes`](crate::Positions::real_axes).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
#[doc(alias = "mrope_section")]
pub enum Axes {
    /// A token has one position.
    #[default]
    One,
    /// The first `sections[0]` pairs turn with axis 0, the next `sections[1]` with axis 1, and so on: Qwen2-VL's M-RoPE, GLM-4V.
    Chunked {
        /// Pairs of each axis.
        sections: Vec<usize>,
    },
    /// Pair i turns with axis i mod n (n axes) while that axis has pairs left, else with axis 0: Qwen3-VL's interleaved M-RoPE.
    Spread {
        /// At most this many pairs of each axis; axis 0 has what no other has, whatever its own number.
        sections: Vec<usize>,
    },
    /// Axes 1 and 2 take turns in the first `grid` pairs, axis 0 has the rest: ERNIE 4.5 VL.
    GridFirst {
        /// Pairs that turn with row and column, together.
        grid: usize,
    },
    /// Each axis has the same frequencies over its share of the head, one after the other in this order: the vision towers of Qwen-VL, GLM-4V and many more.
    Grid {
        /// Axes in the order of their pairs; `[0, 1]` is row, then column.
        axes: Vec<usize>,
    },
    /// As [`Axes::Grid`], but the axes take turns: all of them at the highest frequency, then all at the next: Kimi K2.5's pictures.
    InTurn {
        /// Axes in the order of their turns.
        axes: Vec<usize>,
    },
    /// The frequencies of the whole head dealt out to the axes in turn, then one axis after the other: Pixtral.
    Dealt {
        /// How many axes.
        axes: usize,
    },
}

impl Axes {
    /// Axes that a token's position needs.
    pub fn count(&self) -> usize {
        match self {
            Axes::One => 1,
            Axes::Chunked { sections } | Axes::Spread { sections } => sections.len(),
            Axes::GridFirst { .. } => 3,
            Axes::Grid { axes } | Axes::InTurn { axes } => axes.iter().max().map_or(0, |largest| largest.saturating_add(1)),
            Axes::Dealt { axes } => *axes,
        }
    }

    /// Positions of one axis serve all: a text token of a model for text and pictures has the same number on each.
    pub fn takes_one(&self) -> bool {
        !matches!(self, Axes::Grid { .. } | Axes::InTurn { .. } | Axes::Dealt { .. })
    }

    /// The width that exponents run over, where `rotary_dim` coordinates turn.
    pub(crate) fn exponent_dim(&self, rotary_dim: usize) -> usize {
        match self {
            Axes::Grid { axes } | Axes::InTurn { axes } => rotary_dim / axes.len().max(1),
            _ => rotary_dim,
        }
    }

    /// Each of `pairs` pairs with its axis, from the frequencies of one axis.
    pub(crate) fn arrange(&self, given: Frequencies, pairs: usize) -> Result<Frequencies> {
        let Frequencies {
            pairs: each, table_factor, ..
        } = given;
        let fits = |expected: usize, given: usize, what| {
            if expected == given {
                return Ok(());
            }
            Err(Error::Shape {
                what,
                expected: vec![expected],
                given: vec![given],
            })
        };
        let (axes, each): (Vec<usize>, Vec<f64>) = match self {
            Axes::One => (vec![0; each.len()], each),
            Axes::Chunked { sections } => {
                let total = sections.iter().fold(0usize, |sum, s| sum.saturating_add(*s));
                fits(pairs, total, "sections of the axes [pairs]")?;
                let axes = sections.iter().enumerate().flat_map(|(axis, n)| std::iter::repeat_n(axis, *n));
                (axes.collect(), each)
            }
            Axes::Spread { sections } => {
                let n = sections.len();
                if n == 0 {
                    return Err(Error::Zero { what: "axes" });
                }
                let axis = |i: usize| if i / n < sections[i % n] { i % n } else { 0 };
                ((0..each.len()).map(axis).collect(), each)
            }
            Axes::GridFirst { grid } => {
                if *grid > pairs {
                    fits(pairs, *grid, "pairs of row and column")?;
                }
                ((0..each.len()).map(|i| if i < *grid { 1 + i % 2 } else { 0 }).collect(), each)
            }
            Axes::Grid { axes } => {
                let all = axes.iter().flat_map(|axis| each.iter().map(move |f| (*axis, *f)));
                all.unzip()
            }
            Axes::InTurn { axes } => {
                let all = each.iter().flat_map(|f| axes.iter().map(move |axis| (*axis, *f)));
                all.unzip()
            }
            Axes::Dealt { axes } => {
                if *axes > pairs {
                    fits(pairs, *axes, "axes that frequencies are dealt to [at most pairs]")?;
                }
                let all = (0..*axes).flat_map(|axis| each.iter().skip(axis).step_by(*axes).map(move |f| (axis, *f)));
                all.unzip()
            }
        };
        fits(pairs, each.len(), "frequencies [pairs]")?;
        Ok(Frequencies {
            pairs: each,
            axes,
            table_factor,
        })
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axes::One => write!(f, "one axis"),
            Axes::Chunked { sections } => write!(f, "axes in chunks of {sections:?}"),
            Axes::Spread { sections } => write!(f, "axes spread, {sections:?}"),
            Axes::GridFirst { grid } => write!(f, "row and column in turn over {grid} pairs, then time"),
            Axes::Grid { axes } => write!(f, "axes {axes:?} one after the other"),
            Axes::InTurn { axes } => write!(f, "axes {axes:?} in turn"),
            Axes::Dealt { axes } => write!(f, "frequencies dealt to {axes} axes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::rotary::axis_of;
    use crate::{Pairing, Positions, Rotary};

    fn axes(axes: Axes, head_dim: usize) -> Vec<usize> {
        let rotary = Rotary {
            axes,
            ..Rotary::new(Pairing::Halves)
        };
        rotary.frequencies(head_dim, 1).unwrap().axes
    }

    /// The same rule written the other way round: for each pair, asked alone.
    #[test]
    fn every_pair_has_the_axis_that_its_twin_says() {
        for (rule, head_dim) in [
            (Axes::One, 16),
            (Axes::Chunked { sections: vec![2, 3, 3] }, 16),
            (Axes::Spread { sections: vec![4, 2, 2] }, 16),
            (
                Axes::Spread {
                    sections: vec![24, 20, 20],
                },
                128,
            ),
            (Axes::Spread { sections: vec![8, 12, 12] }, 64),
            (Axes::GridFirst { grid: 6 }, 16),
            (Axes::Grid { axes: vec![0, 1] }, 16),
            (Axes::Grid { axes: vec![1, 0] }, 16),
            (Axes::Grid { axes: vec![0, 1, 2] }, 12),
            (Axes::InTurn { axes: vec![1, 0] }, 16),
            (Axes::Dealt { axes: 2 }, 16),
        ] {
            let twin: Vec<usize> = (0..head_dim / 2).map(|i| axis_of(i, head_dim / 2, &rule)).collect();
            assert_eq!(axes(rule.clone(), head_dim), twin, "{rule}");
        }
        assert_eq!(axes(Axes::Spread { sections: vec![2, 1, 1] }, 8), [0, 1, 2, 0]);
        assert_eq!(axes(Axes::GridFirst { grid: 2 }, 8), [1, 2, 0, 0]);
    }

    #[test]
    fn a_grid_repeats_its_frequencies_and_a_deal_splits_them() {
        let of = |axes| Rotary {
            axes,
            ..Rotary::new(Pairing::Halves)
        };
        let plain = Rotary::new(Pairing::Halves).frequencies(4, 1).unwrap().pairs;
        let grid = of(Axes::Grid { axes: vec![0, 1] }).frequencies(8, 1).unwrap().pairs;
        assert_eq!(grid, [plain.clone(), plain].concat());
        let whole = Rotary::new(Pairing::Halves).frequencies(8, 1).unwrap().pairs;
        let in_turn = of(Axes::InTurn { axes: vec![1, 0] }).frequencies(8, 1).unwrap().pairs;
        assert_eq!(in_turn, [grid[0], grid[0], grid[1], grid[1]]);
        let dealt = of(Axes::Dealt { axes: 2 }).frequencies(8, 1).unwrap().pairs;
        assert_eq!(dealt, [whole[0], whole[2], whole[1], whole[3]]);
    }

    /// Where a token's position is the same number on each axis, all that keep the frequencies in place turn as one axis does, to the bit; one axis given alone is that.
    #[test]
    fn equal_positions_on_every_axis_are_one_axis() {
        let one = Rotary::new(Pairing::Halves)
            .rotation::<f32>(16, &Positions::whole(&[0, 3, 500]))
            .unwrap();
        let three = Positions::real_axes(&[0.0, 3.0, 500.0].repeat(3), 3, 1).unwrap();
        for axes in [
            Axes::Chunked { sections: vec![2, 3, 3] },
            Axes::Spread { sections: vec![4, 2, 2] },
            Axes::GridFirst { grid: 6 },
        ] {
            let rotary = Rotary {
                axes,
                ..Rotary::new(Pairing::Halves)
            };
            for at in [&three, &Positions::whole(&[0, 3, 500])] {
                let rotation = rotary.rotation::<f32>(16, at).unwrap();
                for t in 0..3 {
                    assert_eq!((rotation.cos(0, t), rotation.sin(0, t)), (one.cos(0, t), one.sin(0, t)));
                }
            }
        }
    }

    #[test]
    fn sections_that_do_not_fill_the_head_and_missing_axes_are_refused() {
        let of = |axes| Rotary {
            axes,
            ..Rotary::new(Pairing::Halves)
        };
        for wrong in [
            Axes::Chunked { sections: vec![2, 3] },
            Axes::Chunked {
                sections: vec![usize::MAX, 9],
            },
            Axes::Spread { sections: vec![] },
            Axes::GridFirst { grid: 9 },
            Axes::Grid { axes: vec![] },
            Axes::Grid { axes: vec![0, 1, 2] },
            Axes::Dealt { axes: 0 },
            Axes::Dealt { axes: usize::MAX },
        ] {
            assert!(of(wrong.clone()).frequencies(16, 1).is_err(), "{wrong:?}");
        }
        let far = of(Axes::Grid { axes: vec![0, usize::MAX] });
        assert!(far.rotation::<f32>(16, &Positions::grid(2, 2)).is_err());
        let grid = of(Axes::Grid { axes: vec![0, 1] });
        assert!(grid.rotation::<f32>(16, &Positions::grid(2, 2)).is_ok());
        assert!(matches!(
            grid.rotation::<f32>(16, &Positions::range(0..4)),
            Err(Error::Invalid {
                what: "axes of the positions",
                ..
            })
        ));
        assert!(
            of(Axes::Chunked { sections: vec![2, 3, 3] })
                .rotation::<f32>(16, &Positions::grid(2, 2))
                .is_err()
        );
    }
}
