//! Sinusoidal vectors of a scalar: the step of a diffusion process, a noise level, a time in seconds.

use crate::embed::Sinusoidal;
use crate::error::Result;
use crate::positions::Positions;
use crate::real::Element;
use crate::view::ViewMut;

/// Writes the sinusoidal vector of each step into `out` `[steps, width]`, base 10 000: \[sin ‖ cos\] of `step · 10000^(−i / (width/2 − downscale_freq_shift))`, cosines
/// first if `flip_sin_to_cos`; an odd width ends with a column of zeros. diffusers' `get_timestep_embedding` has `false` and `1.0` by default,
/// Stable Diffusion `true` and `0.0`, diffusion policies (`SinusoidalPosEmb`) `false` and `1.0`. Steps may be fractional. Any other base or scale:
/// [`sinusoid`](crate::embed::sinusoid) with [`Sinusoidal::timestep`].
///
/// # Errors
/// A step that is not finite, another number of rows than steps, or a width whose half is not more than the shift. Nothing is written then.
///
/// ```
/// use posenc::{ViewMut, embed::timestep};
/// let mut out = [f64::NAN; 5];
/// timestep(&[0.5], false, 1.0, ViewMut::new(&mut out, [1, 5])?)?;
/// assert_eq!(out, [0.5f64.sin(), 0.5e-4f64.sin(), 0.5f64.cos(), 0.5e-4f64.cos(), 0.0]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "get_timestep_embedding")]
#[doc(alias = "SinusoidalPosEmb")]
pub fn timestep<T: Element>(steps: &[f64], flip_sin_to_cos: bool, downscale_freq_shift: f64, out: ViewMut<'_, T, 2>) -> Result<()> {
    let mut out = out;
    let [len, width] = out.shape();
    let at = Positions::real(steps)?;
    at.check_fit("steps [seq]", 1, len)?;
    let rows = Sinusoidal::timestep(flip_sin_to_cos, downscale_freq_shift).rows::<T::Real>(width, &at)?;
    for t in 0..len {
        let row = &rows[t * width..][..width];
        out.row_mut([t, 0]).iter_mut().zip(row).for_each(|(out, x)| *out = T::narrow(*x));
    }
    Ok(())
}
