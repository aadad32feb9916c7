//! What a name of the catalogue means in the lab's model.

use crate::error::LabError;
use posenc::catalogue::{self, PresetOptions};
use posenc::{Encoding, Method};

/// An encoding, and what its paper does to the embeddings beside it.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The encoding.
    pub encoding: Encoding,
    /// Token embeddings are multiplied by this: √width for sinusoidal positions, as in the original Transformer, else they would drown in sines of size 1.
    pub embedding_scale: f64,
}

/// The catalogue's preset of a name, or of names joined by `+`, for a model of this width trained on this many tokens.
///
/// Attention is the same for all, scaled by 1/√head_dim: models of a comparison differ in nothing but their encoding, so T5's unscaled products and DeBERTa's 1/√(3 · head_dim) are left to them.
///
/// # Errors
/// An unknown name; the error has the nearest known one.
///
/// ```
/// use posenc_lab::preset::preset;
/// assert_eq!(preset("sinusoidal", 64, 256)?.embedding_scale, 16.0);
/// assert_eq!(preset("learned+alibi", 64, 256)?.encoding.methods.len(), 2);
/// # Ok::<(), posenc_lab::LabError>(())
/// ```
pub fn preset(name: &str, trained: usize, width: usize) -> Result<Preset, LabError> {
    let encoding = catalogue::preset(name, &PresetOptions::new(trained))?;
    let sinusoidal = encoding.methods.iter().any(|method| matches!(method, Method::Sinusoidal(_)));
    Ok(Preset {
        encoding,
        embedding_scale: if sinusoidal { (width as f64).sqrt() } else { 1.0 },
    })
}
