//! # Resizing learned tables
//!
//! **Idea.** A trained table of positions is read at other places than its rows, so that a model takes longer texts or larger pictures than it was trained on. Done once, when
//! weights are loaded; a table that is stretched in each call is [`Overflow`](super::Overflow).
//!
//! **Where from.** ViT's table of patches, resized bicubically with its class row kept: Dosovitskiy and others, 2020, arXiv 2010.11929, and every port of it since. Numbers are
//! those of PyTorch's `interpolate`.
//!
//! **Maths.** An output row j reads the input at
//! ```text
//! corners    x = j · (old − 1) / (new − 1)          the first and the last row stay what they are
//! centres    x = (j + ½) · old / new − ½            rows are cells of equal width
//! linear     the two rows around x, by distance
//! bicubic    the four rows around x on each axis, edges repeated, by the cubic kernel with a = −0.75
//! antialias  the rows within 2·max(old/new, 1) of x, by the kernel widened so, with a = −0.5 and weights that sum to 1
//! ```
//!
//! **Conventions that differ between codebases.** PyTorch's kernel has a = −0.75 without antialiasing and −0.5 (Pillow's) with it, so that the two differ also when a table grows. JAX,
//! in which ViT, DINOv3 and SigLIP were written, antialiases when a table shrinks; most PyTorch ports do not, and features change (facebookresearch/dinov2#378,
//! openvinotoolkit/openvino.genai#4444). DINO and DINOv2 ask for a scale of (new + 0.1) / old in place of a size, which moves every sampled place
//! ([`Bicubic::scale`]; facebookresearch/dino#8). Half-precision tables are read in f64 here and rounded once; PyTorch's own half-precision kernel rounds more.
//! An antialiased grid that becomes one column wide comes out wrong in PyTorch 2.15 on CPU (the height is not resized as its own formula says); that is not reproduced.

use crate::error::{Error, Result};
use crate::positions::Positions;
use crate::real::{Element, Real};
use crate::view::{View, ViewMut};

/// Which places of the old table the new rows lie at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "align_corners")]
pub enum Sampling {
    /// The first and the last row stay first and last: `align_corners=True`.
    Corners,
    /// Rows are cells, and whole tables cover each other: `align_corners=False`.
    Centres,
}

/// How [`resize_grid`] reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bicubic {
    /// Widen the kernel where the grid shrinks, so that no row goes unread. It also changes the kernel's constant, and with it a grid that grows.
    pub antialias: bool,
    /// Where new rows lie.
    pub sampling: Sampling,
    /// New size over old size, along height and width, in place of what the sizes say; only for [`Sampling::Centres`]. PyTorch's `scale_factor`, where the sampled
    /// places follow the number that was given and the size is `⌊old · scale⌋`.
    pub scale: Option<[f64; 2]>,
}

impl Bicubic {
    /// What transformers and timm's early ports do: no antialiasing, cells.
    pub fn new() -> Bicubic {
        Bicubic {
            antialias: false,
            sampling: Sampling::Centres,
            scale: None,
        }
    }

    /// What timm does since 0.8, and JAX where a grid shrinks.
    pub fn antialiased() -> Bicubic {
        Bicubic {
            antialias: true,
            ..Bicubic::new()
        }
    }

    /// DINO's and DINOv2's code: the scale of each axis is (new + 0.1) / old.
    pub fn dino(old: [usize; 2], new: [usize; 2]) -> Bicubic {
        let scale = |axis: usize| (new[axis] as f64 + 0.1) / old[axis] as f64;
        Bicubic {
            scale: Some([scale(0), scale(1)]),
            ..Bicubic::new()
        }
    }
}

impl Default for Bicubic {
    fn default() -> Bicubic {
        Bicubic::new()
    }
}

/// Writes a table of text positions, `[old, width]`, into one of another number of rows, `[new, width]`, linearly: PyTorch's `interpolate(mode="linear")`.
///
/// ```
/// use posenc::embed::{Sampling, resize_linear};
/// use posenc::{View, ViewMut};
/// let (table, mut longer) = ([0.0f32, 10.0, 20.0], [0.0; 5]);
/// resize_linear(View::new(&table, [3, 1])?, Sampling::Corners, ViewMut::new(&mut longer, [5, 1])?)?;
/// assert_eq!(longer, [0.0, 5.0, 10.0, 15.0, 20.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
///
/// # Errors
/// A table without rows, or widths that differ.
pub fn resize_linear<T: Element>(table: View<'_, T, 2>, sampling: Sampling, out: ViewMut<'_, T, 2>) -> Result<()> {
    let ([old, width], [new, _]) = (table.shape(), out.shape());
    let out = out.shaped("out [new, width]", [new, width])?;
    let axis = Axis::new("rows of the table", old, new, sampling, None)?;
    if out.is_empty() {
        return Ok(());
    }
    write(
        table,
        out,
        0,
        1,
        &(0..new).map(|j| axis.linear(j)).collect::<Vec<_>>(),
        &[vec![(0, 1.0)]],
    );
    Ok(())
}

/// Writes a table of picture positions, `[prefix + old height · old width, width]` with the patches in row-major order, into one for another grid,
/// `[prefix + new height · new width, width]`, bicubically: PyTorch's `interpolate(mode="bicubic")`. The first `prefix` rows (class token, registers) are copied bit for bit.
///
/// ```
/// use posenc::embed::{Bicubic, resize_grid};
/// use posenc::{View, ViewMut};
/// let table = [9.0f32, /* 2 × 2 patches: */ 0.0, 1.0, 0.0, 1.0];
/// let mut larger = [0.0f32; 1 + 4 * 4];
/// resize_grid(View::new(&table, [5, 1])?, 1, [2, 2], Bicubic::new(), [4, 4], ViewMut::new(&mut larger, [17, 1])?)?;
/// assert_eq!(larger[0], 9.0);
/// assert!(larger[1] < 0.1 && larger[4] > 0.9 && larger[1..5] == larger[13..]);
/// # Ok::<(), posenc::Error>(())
/// ```
///
/// # Errors
/// A grid without cells, tables whose rows are not the prefix and the grid, widths that differ, or a scale that does not give the new size.
#[doc(alias = "interpolate_pos_encoding")]
#[doc(alias = "resample_abs_pos_embed")]
pub fn resize_grid<T: Element>(
    table: View<'_, T, 2>,
    prefix: usize,
    old: [usize; 2],
    how: Bicubic,
    new: [usize; 2],
    out: ViewMut<'_, T, 2>,
) -> Result<()> {
    let width = table.shape()[1];
    let rows = |[height, width]: [usize; 2]| height.checked_mul(width).and_then(|cells| cells.checked_add(prefix));
    // A grid past usize has more rows than any table.
    let table = table.shaped(
        "table [prefix + old height · old width, width]",
        [rows(old).unwrap_or(usize::MAX), width],
    )?;
    let mut out = out.shaped(
        "out [prefix + new height · new width, width]",
        [rows(new).unwrap_or(usize::MAX), width],
    )?;
    let scale = |axis: usize| how.scale.map(|scale| scale[axis]);
    let axes = [
        Axis::new("height of the grid", old[0], new[0], how.sampling, scale(0))?,
        Axis::new("width of the grid", old[1], new[1], how.sampling, scale(1))?,
    ];
    if out.is_empty() {
        return Ok(());
    }
    for row in 0..prefix {
        out.row_mut([row, 0]).copy_from_slice(table.row([row, 0]));
    }
    let [down, across] = axes.map(|axis| -> Vec<Taps> {
        let taps = |j| if how.antialias { axis.antialiased(j) } else { axis.cubic(j) };
        (0..axis.new).map(taps).collect()
    });
    write(table, out, prefix, old[1], &down, &across);
    Ok(())
}

/// Rows that make one, each with its weight.
type Taps = Vec<(usize, f64)>;

/// Old and new cells along one axis.
struct Axis {
    old: usize,
    new: usize,
    sampling: Sampling,
    /// Old cells from one new cell to the next.
    step: f64,
}

impl Axis {
    fn new(what: &'static str, old: usize, new: usize, sampling: Sampling, scale: Option<f64>) -> Result<Axis> {
        if old == 0 || new == 0 {
            return Err(Error::Zero { what });
        }
        if let Some(longest) = [old, new].into_iter().find(|cells| *cells > Positions::LONGEST) {
            return Err(Error::Invalid {
                what,
                given: longest.to_string(),
                expected: "at most 2^31",
            });
        }
        let step = match (sampling, scale) {
            (Sampling::Corners, None) => (old - 1) as f64 / (new - 1).max(1) as f64,
            (Sampling::Centres, None) => old as f64 / new as f64,
            (Sampling::Centres, Some(scale)) if (old as f64 * scale).floor() == new as f64 => 1.0 / scale,
            (_, Some(scale)) => {
                return Err(Error::Invalid {
                    what: "scale",
                    given: format!("{scale} from {old} to {new}, {sampling:?}"),
                    expected: "one whose product with the old size, cut to a whole number, is the new size, and Sampling::Centres",
                });
            }
        };
        Ok(Axis {
            old,
            new,
            sampling,
            step: if sampling == Sampling::Corners && new == 1 { 0.0 } else { step },
        })
    }

    /// The place that a new cell lies at.
    fn place(&self, j: usize) -> f64 {
        match self.sampling {
            Sampling::Corners => j as f64 * self.step,
            Sampling::Centres => (j as f64 + 0.5) * self.step - 0.5,
        }
    }

    fn linear(&self, j: usize) -> Taps {
        let x = self.place(j).max(0.0);
        let low = (x.floor() as usize).min(self.old - 1);
        let weight = (x - low as f64).clamp(0.0, 1.0);
        vec![(low, 1.0 - weight), ((low + 1).min(self.old - 1), weight)]
    }

    fn cubic(&self, j: usize) -> Taps {
        let (x, last) = (self.place(j), self.old as f64 - 1.0);
        let low = x.floor().min(last);
        let past = (x - low).clamp(0.0, 1.0);
        let tap = |k: i32| {
            let row = (low + f64::from(k)).clamp(0.0, last) as usize;
            (row, cubic(f64::from(k) - past, -0.75))
        };
        (-1..=2).map(tap).collect()
    }

    fn antialiased(&self, j: usize) -> Taps {
        // Where cells are counted from their edges: the middle of the new one.
        let (wide, centre) = (self.step.max(1.0), self.step * (j as f64 + 0.5));
        let first = (centre - 2.0 * wide + 0.5).max(0.0) as usize;
        let end = ((centre + 2.0 * wide + 0.5) as usize).min(self.old);
        let taps = (first..end).map(|row| (row, cubic((row as f64 - centre + 0.5) / wide, -0.5)));
        let total: f64 = taps.clone().map(|(_, weight)| weight).sum();
        taps.map(|(row, weight)| (row, weight / total)).collect()
    }
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Mixes the rows of a grid `old_width` wide, summed in f64 and rounded once.
fn write<T: Element>(table: View<'_, T, 2>, mut out: ViewMut<'_, T, 2>, prefix: usize, old_width: usize, down: &[Taps], across: &[Taps]) {
    let mut sum = vec![0.0; table.shape()[1]];
    for (i, (down, across)) in down.iter().flat_map(|d| across.iter().map(move |a| (d, a))).enumerate() {
        sum.fill(0.0);
        for ((y, wy), (x, wx)) in down.iter().flat_map(|d| across.iter().map(move |a| (d, a))) {
            let row = table.row([prefix + y * old_width + x, 0]);
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += wy * wx * x.widen().to_f64();
            }
        }
        let out = out.row_mut([prefix + i, 0]);
        out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = T::narrow(T::Real::of(*sum)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(old: [usize; 2], how: Bicubic, new: [usize; 2], table: &[f64], prefix: usize) -> Result<Vec<f64>> {
        let mut out = vec![f64::NAN; prefix + new[0].saturating_mul(new[1]).min(64)];
        let (rows, n) = (out.len(), table.len());
        resize_grid(View::new(table, [n, 1])?, prefix, old, how, new, ViewMut::new(&mut out, [rows, 1])?)?;
        Ok(out)
    }

    #[test]
    fn a_table_of_its_own_size_stays_and_a_constant_one_is_constant() {
        let table: Vec<f64> = (0..13).map(|i| f64::from(i * i % 7)).collect();
        assert_eq!(grid([3, 4], Bicubic::new(), [3, 4], &table, 1).unwrap(), table);
        assert_eq!(grid([3, 4], Bicubic::antialiased(), [3, 4], &table, 1).unwrap(), table);
        for how in [Bicubic::new(), Bicubic::antialiased(), Bicubic::dino([3, 4], [5, 2])] {
            // Weights sum to 1, up to the rounding of the sixteen or more products that they are.
            for x in grid([3, 4], how, [5, 2], &[2.5; 12], 0).unwrap() {
                assert!((x - 2.5).abs() <= 32.0 * f64::EPSILON * 2.5);
            }
        }
    }

    /// What is left out without antialiasing is seen with it (openvinotoolkit/openvino.genai#4444), and a growing grid differs too; the class row is not touched.
    #[test]
    fn bug_family_24_antialiasing_reads_every_row_of_a_grid_that_shrinks() {
        let mut table = vec![0.0; 1 + 12 * 12];
        (table[0], table[1 + 5 * 12 + 5]) = (7.0, 1.0);
        let plain = grid([12, 12], Bicubic::new(), [2, 2], &table, 1).unwrap();
        let smooth = grid([12, 12], Bicubic::antialiased(), [2, 2], &table, 1).unwrap();
        assert_eq!((plain[0], smooth[0]), (7.0, 7.0));
        assert!(
            plain[1..].iter().all(|x| *x == 0.0),
            "four rows of 144 around each place: {plain:?}"
        );
        assert!(smooth[1..].iter().all(|x| *x != 0.0), "{smooth:?}");
        let grown = |how| grid([2, 2], how, [3, 3], &[0.0, 1.0, 2.0, 5.0], 0).unwrap();
        assert_ne!(grown(Bicubic::new()), grown(Bicubic::antialiased()));
        assert_ne!(grown(Bicubic::new()), grown(Bicubic::dino([2, 2], [3, 3])));
    }

    #[test]
    fn half_precision_is_a_last_rounding() {
        let wide: Vec<f64> = (0..9).map(|i| f64::from(i).sin()).collect();
        let table: Vec<half::bf16> = wide.iter().map(|x| half::bf16::from_f64(*x)).collect();
        let exact: Vec<f64> = table.iter().map(|x| x.to_f64()).collect();
        let mut out = [half::bf16::NAN; 16];
        let (table, to) = (View::new(&table, [9, 1]).unwrap(), ViewMut::new(&mut out, [16, 1]).unwrap());
        resize_grid(table, 0, [3, 3], Bicubic::new(), [4, 4], to).unwrap();
        let expected = grid([3, 3], Bicubic::new(), [4, 4], &exact, 0).unwrap();
        // Through f32, which is what bf16 is widened to.
        assert!(out.iter().zip(expected).all(|(x, y)| *x == half::bf16::from_f32(y as f32)));
    }

    #[test]
    fn tables_and_grids_that_do_not_fit_are_refused() {
        let table = [0.0; 9];
        let refused = |old, how, new, prefix| grid(old, how, new, &table, prefix).unwrap_err();
        assert!(matches!(refused([2, 4], Bicubic::new(), [2, 2], 0), Error::Shape { .. }));
        assert!(matches!(refused([3, 3], Bicubic::new(), [2, 2], 1), Error::Shape { .. }));
        assert!(matches!(refused([usize::MAX, 3], Bicubic::new(), [2, 2], 0), Error::Shape { .. }));
        assert!(matches!(refused([3, 3], Bicubic::new(), [usize::MAX, 9], 0), Error::Shape { .. }));
        assert!(matches!(refused([3, 3], Bicubic::new(), [0, 9], 0), Error::Zero { .. }));
        for scale in [f64::NAN, 0.0, -1.0, 9.0, f64::INFINITY] {
            let how = Bicubic {
                scale: Some([scale; 2]),
                ..Bicubic::new()
            };
            assert!(matches!(refused([3, 3], how, [4, 4], 0), Error::Invalid { what: "scale", .. }));
        }
        let corners = Bicubic {
            sampling: Sampling::Corners,
            ..Bicubic::dino([3, 3], [4, 4])
        };
        assert!(matches!(refused([3, 3], corners, [4, 4], 0), Error::Invalid { .. }));
        let mut out = [0.0; 2];
        let (none, one) = (View::new(&table[..0], [0, 1]).unwrap(), View::new(&table, [9, 1]).unwrap());
        assert!(matches!(
            resize_linear(none, Sampling::Corners, ViewMut::new(&mut out, [2, 1]).unwrap()),
            Err(Error::Zero { .. })
        ));
        assert!(matches!(
            resize_linear(one, Sampling::Corners, ViewMut::new(&mut out, [1, 2]).unwrap()),
            Err(Error::Shape { .. })
        ));
    }
}
