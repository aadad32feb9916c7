//! Where DETR's pixels are: counted from 1 along each axis, padding left out, and stretched to a circle.

use crate::error::{Error, Result};
use crate::positions::Positions;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// How DETR and its line divide a pixel's count by the size of its image: `(count + shift) / (size + 10⁻⁶) · scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// 0 in DETR; −½ (the pixel's middle) in Deformable DETR.
    pub shift: f64,
    /// 2π, unless a configuration says otherwise.
    pub scale: f64,
}

impl Normalize {
    /// DETR, DAB-DETR, MaskFormer.
    pub const DETR: Normalize = Normalize { shift: 0.0, scale: TAU };
    /// Deformable DETR, Grounding DINO.
    pub const DEFORMABLE: Normalize = Normalize { shift: -0.5, scale: TAU };
}

/// Positions of the pixels of padded images `[batch, height, width]`, row-major, on two axes (row, column), for [`Sinusoidal::detr`](crate::Sinusoidal::detr):
/// each pixel's count along its column and along its row, from 1; `is_pixel` is false where an image is padded, and padding keeps the count of the
/// last pixel before it, as upstream.
///
/// # Errors
/// `is_pixel` is not of that shape.
///
/// ```
/// use posenc::embed::{Normalize, pixel_positions};
/// let image = [true, true, false, true, true, false]; // 2 × 2 pixels, one column of padding
/// let at = pixel_positions(&image, [1, 2, 3], None)?;
/// assert_eq!((at.get(0, 0, 4), at.get(1, 0, 4), at.get(1, 0, 5)), (Some(2.0), Some(2.0), Some(2.0)));
/// let at = pixel_positions(&image, [1, 2, 3], Some(Normalize::DETR))?;
/// assert!((at.get(1, 0, 0).unwrap() - std::f64::consts::PI).abs() < 1e-5);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn pixel_positions(is_pixel: &[bool], [batch, height, width]: [usize; 3], normalize: Option<Normalize>) -> Result<Positions> {
    if batch.checked_mul(height).and_then(|n| n.checked_mul(width)) != Some(is_pixel.len()) {
        return Err(Error::Shape {
            what: "is_pixel [batch, height, width]",
            expected: vec![batch, height, width],
            given: vec![is_pixel.len()],
        });
    }
    let size = is_pixel.len();
    if size == 0 {
        return Positions::real_axes(&[], 2, batch);
    }
    let mut ids = vec![0.0; 2 * size];
    let (rows, columns) = ids.split_at_mut(size);
    for b in 0..batch {
        let cell = |y: usize, x: usize| (b * height + y) * width + x;
        for x in 0..width {
            count(&(0..height).map(|y| cell(y, x)).collect::<Vec<_>>(), is_pixel, normalize, rows);
        }
        for y in 0..height {
            count(&(0..width).map(|x| cell(y, x)).collect::<Vec<_>>(), is_pixel, normalize, columns);
        }
    }
    Positions::real_axes(&ids, 2, batch)
}

/// Counts the pixels along one line of cells.
fn count(line: &[usize], is_pixel: &[bool], normalize: Option<Normalize>, ids: &mut [f64]) {
    let mut seen = 0.0;
    for &cell in line {
        seen += f64::from(u8::from(is_pixel[cell]));
        ids[cell] = seen;
    }
    if let Some(Normalize { shift, scale }) = normalize {
        line.iter()
            .for_each(|&cell| ids[cell] = (ids[cell] + shift) / (seen + 1e-6) * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_keeps_the_last_count_and_sizes_are_those_of_the_image() {
        // Two images in one batch: 2 × 3, and 1 × 2 padded to it.
        let is_pixel = [true, true, true, true, true, true, true, true, false, false, false, false];
        let at = pixel_positions(&is_pixel, [2, 2, 3], None).unwrap();
        let axis = |axis: usize, b: usize| (0..6).map(|t| at.get(axis, b, t).unwrap()).collect::<Vec<_>>();
        assert_eq!(axis(0, 0), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(axis(1, 0), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(axis(0, 1), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(axis(1, 1), [1.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
        let at = pixel_positions(&is_pixel, [2, 2, 3], Some(Normalize::DEFORMABLE)).unwrap();
        assert_eq!(at.get(1, 1, 1), Some(1.5 / 2.000_001 * TAU));
        assert_eq!(at.get(0, 0, 3), Some(1.5 / 2.000_001 * TAU));
    }

    #[test]
    fn other_sizes_are_refused() {
        assert!(matches!(pixel_positions(&[true; 5], [1, 2, 3], None), Err(Error::Shape { .. })));
        assert!(pixel_positions(&[], [usize::MAX, 2, 3], None).is_err());
        assert!(pixel_positions(&[], [0, 2, 3], None).unwrap().is_empty());
    }
}
