//! Sinusoidal vectors of one position, each as its own codebase writes it; see [`embed::sinusoidal`](crate::embed::sinusoidal).

/// The paper: column j is the sine (j even) or cosine (j odd) of p / base^(2⌊j/2⌋/d).
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::paper(2.0, 3, 1e4)[..2], [2f64.sin(), 2f64.cos()]);
/// ```
pub fn paper(p: f64, d: usize, base: f64) -> Vec<f64> {
    let angle = |j: usize| p / base.powf((2 * (j / 2)) as f64 / d as f64);
    (0..d).map(|j| if j % 2 == 0 { angle(j).sin() } else { angle(j).cos() }).collect()
}

/// Marian, CTRL: the sines of the paper's even columns, then the cosines of its odd columns. Transformer-XL: the same, for d even.
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::marian(2.0, 4, 1e4), [2f64.sin(), 0.02f64.sin(), 2f64.cos(), 0.02f64.cos()]);
/// ```
pub fn marian(p: f64, d: usize, base: f64) -> Vec<f64> {
    let paper = paper(p, d, base);
    [0, 1]
        .into_iter()
        .flat_map(|from| paper.iter().skip(from).step_by(2))
        .copied()
        .collect()
}

/// tensor2tensor, fairseq, Whisper: [sin ‖ cos] of p · exp(−i · ln(base) / (d/2 − 1)), zero in the last column if d is odd.
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::fairseq(2.0, 5, 1.0), [2f64.sin(), 2f64.sin(), 2f64.cos(), 2f64.cos(), 0.0]);
/// ```
pub fn fairseq(p: f64, d: usize, base: f64) -> Vec<f64> {
    timestep(p, d, base, 1.0, false)
}

/// MusicGen: fairseq's with the halves exchanged.
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::musicgen(2.0, 4, 1.0), [2f64.cos(), 2f64.cos(), 2f64.sin(), 2f64.sin()]);
/// ```
pub fn musicgen(p: f64, d: usize, base: f64) -> Vec<f64> {
    timestep(p, d, base, 1.0, true)
}

/// diffusers: halves of sines and cosines of p · exp(−i · ln(base) / (⌊d/2⌋ − shift)), cosines first if flipped, zero in the last column if d is odd.
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::timestep(2.0, 3, 1e4, 0.0, true), [2f64.cos(), 2f64.sin(), 0.0]);
/// ```
pub fn timestep(p: f64, d: usize, base: f64, shift: f64, flip_sin_to_cos: bool) -> Vec<f64> {
    let half = d / 2;
    let angle = |i: usize| p * (-(i as f64) * base.ln() / (half as f64 - shift)).exp();
    let sines = (0..half).map(|i| angle(i).sin());
    let cosines = (0..half).map(|i| angle(i).cos());
    let mut out: Vec<f64> = if flip_sin_to_cos {
        cosines.chain(sines).collect()
    } else {
        sines.chain(cosines).collect()
    };
    out.resize(d, 0.0);
    out
}

/// ViT-MAE, AIMv2: [sin h ‖ cos h ‖ sin w ‖ cos w] with a quarter of the columns each and ω(j) = 1 / base^(j / (d/4)).
///
/// ```
/// let quarter = posenc::reference::sinusoidal::mae(2.0, 3.0, 4, 1e4);
/// assert_eq!(quarter, [2f64.sin(), 2f64.cos(), 3f64.sin(), 3f64.cos()]);
/// ```
pub fn mae(h: f64, w: f64, d: usize, base: f64) -> Vec<f64> {
    let quarter = |p: f64, wave: fn(f64) -> f64| (0..d / 4).map(move |j| wave(p / base.powf(j as f64 / (d / 4) as f64)));
    quarter(h, f64::sin)
        .chain(quarter(h, f64::cos))
        .chain(quarter(w, f64::sin))
        .chain(quarter(w, f64::cos))
        .collect()
}

/// DETR: the paper's vector of the row in the first half, of the column in the second.
///
/// ```
/// assert_eq!(posenc::reference::sinusoidal::detr(2.0, 3.0, 4, 1e4), [2f64.sin(), 2f64.cos(), 3f64.sin(), 3f64.cos()]);
/// ```
pub fn detr(y: f64, x: f64, d: usize, base: f64) -> Vec<f64> {
    [paper(y, d / 2, base), paper(x, d / 2, base)].concat()
}
