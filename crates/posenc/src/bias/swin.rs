//! # Swin's relative position bias
//!
//! **Idea.** In a window of M × M patches there are (2M − 1)² offsets of two patches. One trained number per head for each.
//!
//! **Paper.** Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: *Swin Transformer: Hierarchical Vision Transformer using Shifted Windows*, 2021, arXiv 2103.14030.
//!
//! **Maths.** For head h, a query at row y and column x and a key at y′, x′, in a window of M_h rows and M_w columns:
//! ```text
//! r(i, j) = (y − y′ + M_h − 1)·(2M_w − 1) + (x − x′ + M_w − 1)
//! s(i, j) = q·k / √d + w[r(i, j), h]
//! ```
//!
//! **Shapes.** Table `relative_position_bias_table` `[(2M_h − 1)·(2M_w − 1), heads]`; bias `[heads, q_len, k_len]`, the same for each row of the batch unless positions differ. Positions have two axes, rows
//! and columns ([`Positions::grid`](crate::Positions::grid)); a window of one row also takes positions with one.
//!
//! **Conventions that differ between codebases.**
//! - Offsets are query − key, rows before columns (Swin, Swin2SR's and MaskFormer's copies, BEiT). One row of a window, M_h = 1, is a table of distances, read as
//!   [`ClippedBias`](crate::ClippedBias) reads it with [`Direction::QueryMinusKey`](crate::Direction::QueryMinusKey) but never clipped.
//! - A window is a row of the batch: attention is computed in each by itself. Two cells farther apart than the window is wide have no row in the table, which is a typed error, also where a mask
//!   keeps them apart. The shifted windows' mask is the caller's.
//! - BEiT's three rows for its class token are not here: a token without a position has the bias 0.
//!
//! **Cost.** (2M_h − 1)·(2M_w − 1)·heads numbers. As many values per head and layer; one add per pair.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, SwinBias, ViewMut};
//! let plan = Encoding::from(SwinBias::new([2, 2])).plan(Dims::new(2, 1)?)?;
//! let mut params = plan.init::<f32>(0)?;
//! params.set("relative_position_bias_table", &[9, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])?;
//! let (at, mut bias) = (Positions::grid(2, 2), [f32::NAN; 16]);
//! plan.call(&params, &at, &at)?.materialise_bias(ViewMut::new(&mut bias, [1, 1, 4, 4])?)?;
//! assert_eq!(bias, [4.0, 3.0, 1.0, 0.0, 5.0, 4.0, 2.0, 1.0, 7.0, 6.0, 4.0, 3.0, 8.0, 7.0, 5.0, 4.0]);
//! # Ok::<(), posenc::Error>(())
//! ```

use super::by_distance::TableBias;
use super::grid::{Cells, Offsets, Read};
use crate::call::Parts;
use crate::dims::Dims;
use crate::distances::{FARTHEST, owner};
use crate::error::{Error, Result};
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A trained number per head and offset of two cells in a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "relative_position_bias_table")]
#[doc(alias = "WindowAttention")]
#[doc(alias = "window_size")]
pub struct SwinBias {
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// How the table begins.
    #[serde(default = "crate::encoding::written::narrow_normal")]
    pub init: Init,
    /// One table per layer or for the model.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl SwinBias {
    /// One table per layer that begins with N(0, 0.02), for windows of so many rows and columns.
    pub fn new(window: [usize; 2]) -> SwinBias {
        SwinBias {
            window,
            init: Init::Normal(0.02),
            scope: Scope::Layer,
        }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> SwinBias {
        SwinBias { init, ..self }
    }

    /// The same with one table for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> SwinBias {
        SwinBias { scope, ..self }
    }

    /// The table; the window has been checked.
    fn table(&self, heads: usize) -> TableBias {
        let [high, wide] = self.window.map(|side| 2 * side - 1);
        TableBias {
            spec: ParamSpec::new("relative_position_bias_table", [high * wide, heads], self.init).scoped(self.scope),
            heads,
            subtracted: false,
            reach: 0,
        }
    }
}

/// A window has cells, and their offsets can be counted.
pub(super) fn check_window(what: &'static str, window: [usize; 2]) -> Result<()> {
    if window.contains(&0) {
        return Err(Error::Zero { what });
    }
    let offsets = window.map(|side| side.saturating_mul(2).saturating_sub(1));
    if offsets[0].saturating_mul(offsets[1]) > FARTHEST {
        return Err(Error::Invalid {
            what,
            given: format!("{} × {}", window[0], window[1]),
            expected: "at most 2^30 offsets of two cells",
        });
    }
    Ok(())
}

impl fmt::Display for SwinBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, wide] = self.window;
        write!(
            f,
            "swin bias(window {high} × {wide}, one table per {}, {})",
            owner(self.scope),
            self.init
        )
    }
}

impl Prepare for SwinBias {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_window("window of swin bias", self.window)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.table(dims.heads).spec]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        let cells = Cells::new("swin bias", q_at, k_at)?;
        cells.check_within(self.window.map(|side| side - 1))?;
        let table = self.table(dims.heads);
        let offsets = Offsets {
            lowest: self.window.map(|side| 1 - side as i64),
            sides: self.window.map(|side| 2 * side - 1),
        };
        Ok(Arc::new(SwinAt {
            spec: table.spec.clone(),
            read: cells.read("swin bias", table, offsets)?,
        }))
    }
}

/// Cells resolved.
struct SwinAt {
    spec: ParamSpec,
    read: Read,
}

impl<R: Real> Prepared<R> for SwinAt {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        parts.bias.push(self.read.bind(self.read.table().term(params.get(&self.spec)?)));
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::reference::swin::{Cell, table_bias};
    use crate::tiles;
    use crate::view::ViewMut;

    /// Queries and keys on a grid, by row of the batch; the farthest apart is 3 rows and 4 columns.
    pub(in crate::bias) fn cases() -> Vec<(&'static str, Positions, Positions, usize)> {
        let cells = |cells: &[(i64, i64)], batch: usize| {
            let rows = cells.iter().map(|cell| cell.0);
            let ids: Vec<i64> = rows.chain(cells.iter().map(|cell| cell.1)).collect();
            Positions::whole_axes(&ids, 2, batch).unwrap()
        };
        let flags: Vec<bool> = (0..20).map(|t| t % 6 != 1).collect();
        vec![
            ("a window", Positions::grid(4, 5), Positions::grid(4, 5), 2),
            (
                "some without a position",
                Positions::grid(4, 5).with_presence(&flags).unwrap(),
                Positions::grid(4, 5),
                1,
            ),
            (
                "cells in any order, far from the corner",
                cells(&[(-9, 1 << 40), (-8, (1 << 40) + 4)], 1),
                cells(
                    &[(-8, (1 << 40) + 1), (-11, (1 << 40) + 4), (-8, (1 << 40) + 2), (-9, (1 << 40) + 1)],
                    1,
                ),
                1,
            ),
            (
                "windows of their own in each row of the batch",
                Positions::grid(1, 5),
                cells(&[(0, 0), (2, 4), (3, 1), (3, 2), (1, 1), (1, 3)], 2),
                2,
            ),
            (
                "windows far from each other",
                cells(&[(0, 0), (3, 4), (1000, 70), (1001, 71)], 2),
                cells(&[(2, 4), (3, 0), (1003, 68), (1002, 69)], 2),
                2,
            ),
            ("no query", cells(&[], 1), Positions::grid(2, 2), 1),
        ]
    }

    /// The cells of a row of the batch.
    pub(in crate::bias) fn cells(at: &Positions, batch: usize) -> Vec<Cell> {
        let whole = |axis, t| at.at(axis, batch, t, 1).whole(0);
        (0..at.len())
            .map(|t| match at.axes() {
                1 => Some((0, whole(0, t)?)),
                _ => Some((whole(0, t)?, whole(1, t)?)),
            })
            .collect()
    }

    #[test]
    fn term_is_that_of_the_reference_bit_for_bit_and_its_gradient_counts() {
        let plan = Encoding::from(SwinBias::new([4, 5])).plan(Dims::new(12, 3).unwrap()).unwrap();
        let mut params: crate::Params<f64> = plan.init(1).unwrap();
        let table = tiles::normal(2, 63 * 3);
        params.set("relative_position_bias_table", &[63, 3], &table).unwrap();
        for (name, q_at, k_at, batch) in cases() {
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let (pairs, mut bias) = (q_at.len() * k_at.len(), Vec::new());
            for b in 0..batch {
                bias.extend(table_bias(&table, [4, 5], &cells(&q_at, b), &cells(&k_at, b)));
            }
            let mut matrix = vec![f64::NAN; bias.len()];
            call.materialise_bias(ViewMut::new(&mut matrix, [batch, 3, q_at.len(), k_at.len()]).unwrap())
                .unwrap();
            assert_eq!(matrix, bias, "{name}");
            let d_scores: Vec<f64> = tiles::normal(4, batch * 3 * pairs);
            for tile in tiles::SPLITS {
                let of = tiles::Tiles::of_bias(&call, batch, tile);
                assert_eq!(of.add(&vec![0.0; bias.len()]), bias, "{name}, {tile:?}");
                let (_, slots) = of.adjoint(&d_scores);
                let mut grads = params.zeros_like();
                of.term().collect(&slots, &mut (&mut grads).into()).unwrap();
                // The gradient of an entry is the sum of the pairs that read it: the table of indices of entries finds them. Bound: sums of fewer than 2¹⁰ numbers below 8.
                for (row, grad) in grads.flat().chunks_exact(3).enumerate() {
                    let index: Vec<f64> = (0..63 * 3).map(|i| if i / 3 == row { 1.0 } else { 0.0 }).collect();
                    let mut sums = [0.0; 3];
                    for b in 0..batch {
                        let reads = table_bias(&index, [4, 5], &cells(&q_at, b), &cells(&k_at, b));
                        for (i, reads) in reads.iter().enumerate() {
                            sums[i / pairs] += reads * d_scores[b * 3 * pairs + i];
                        }
                    }
                    for (grad, sum) in grad.iter().zip(sums) {
                        assert!(
                            (grad - sum).abs() <= 8192.0 * f64::EPSILON,
                            "{name}, {tile:?}, row {row}: {grad} against {sum}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn one_row_is_a_table_of_distances() {
        let encoding = SwinBias::new([1, 400]).into();
        let ranges = |name: &str| ["ranges", "decode", "cross, negative", "packed", "left padding"].contains(&name);
        let plan = Encoding::plan(&encoding, Dims::new(12, 3).unwrap()).unwrap();
        let mut params: crate::Params<f64> = plan.init(1).unwrap();
        params.flat_mut().copy_from_slice(&tiles::normal(2, 799 * 3));
        for (name, q_at, k_at, batch) in tiles::cases().into_iter().filter(|case| ranges(case.0)) {
            let mut bias = Vec::new();
            for b in 0..batch {
                bias.extend(table_bias(params.flat(), [1, 400], &cells(&q_at, b), &cells(&k_at, b)));
            }
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            for tile in tiles::SPLITS {
                assert_eq!(
                    tiles::Tiles::of_bias(&call, batch, tile).add(&vec![0.0; bias.len()]),
                    bias,
                    "{name}, {tile:?}"
                );
            }
        }
    }

    #[test]
    fn cells_out_of_the_window_and_windows_without_cells_are_refused() {
        let dims = Dims::new(4, 2).unwrap();
        let plan = Encoding::from(SwinBias::new([2, 3])).plan(dims).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let call = |q: &Positions, k: &Positions| plan.call(&params, q, k).map(|_| ());
        assert_eq!(call(&Positions::grid(2, 3), &Positions::grid(2, 3)), Ok(()));
        for (grid, what) in [(Positions::grid(3, 3), "rows"), (Positions::grid(2, 4), "columns")] {
            assert!(
                matches!(call(&grid, &grid), Err(Error::OutsideWindow { axis, .. }) if axis == what),
                "{what}"
            );
        }
        let far = Positions::whole_axes(&[i64::MIN, i64::MAX], 2, 1).unwrap();
        assert!(matches!(
            call(&far, &Positions::grid(1, 1)),
            Err(Error::OutsideWindow { axis: "rows", side: 2 })
        ));
        assert_eq!(call(&far, &far), Ok(()));
        let line = Positions::range(0..3);
        assert!(matches!(call(&line, &Positions::grid(1, 3)), Err(Error::Unsupported { .. })));
        let three = Positions::whole_axes(&[0, 0, 0], 3, 1).unwrap();
        assert!(matches!(call(&three, &three), Err(Error::Unsupported { .. })));
        assert_eq!(call(&line, &line), Ok(()));
        assert!(matches!(
            call(&Positions::range(0..4), &line),
            Err(Error::OutsideWindow { axis: "columns", side: 3 })
        ));
        for window in [[0, 3], [3, 0]] {
            assert!(matches!(Encoding::from(SwinBias::new(window)).plan(dims), Err(Error::Zero { .. })));
        }
        for window in [[usize::MAX, 1], [1 << 16, 1 << 16]] {
            assert!(matches!(
                Encoding::from(SwinBias::new(window)).plan(dims),
                Err(Error::Invalid { .. })
            ));
        }
        assert_eq!(
            SwinBias::new([7, 8]).to_string(),
            "swin bias(window 7 × 8, one table per layer, N(0, 0.02))"
        );
    }
}
