//! What a name of the catalogue means in the lab's model.

use crate::error::LabError;
use posenc::{
    Alibi, Attention, ClippedBias, Direction, Encoding, Error, InputTable, Learned, Pairing, Rotary, SharedBias, Shaw, Sinusoidal, T5Bias,
};

/// An encoding and what its own paper puts around it.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The encoding.
    pub encoding: Encoding,
    /// The attention around it.
    pub attention: Attention,
    /// Token embeddings are multiplied by this: √width for sinusoidal positions, as in the original Transformer, where they would otherwise drown.
    pub embedding_scale: f64,
}

/// The preset of a name, for a model of this width trained on this many tokens.
///
/// # Errors
/// An unknown name; the error has the nearest known one.
pub fn preset(name: &str, trained: usize, width: usize) -> Result<Preset, LabError> {
    const NAMES: [&str; 10] = [
        "none",
        "learned",
        "sinusoidal",
        "input-table",
        "rotary",
        "shaw",
        "alibi",
        "clipped",
        "shared",
        "t5",
    ];
    let encoding: Encoding = match name {
        "none" => Encoding::none(),
        "learned" => Learned::new(trained).into(),
        "sinusoidal" => Sinusoidal::paper().into(),
        "input-table" => InputTable::new(trained).into(),
        "rotary" => Rotary::new(Pairing::Halves).into(),
        "shaw" => Shaw::new((trained / 4).max(1)).into(),
        "alibi" => Alibi::new().into(),
        "clipped" => ClippedBias::new((trained / 4).max(1), Direction::KeyMinusQuery)
            .with_init(posenc::Init::Zeros)
            .into(),
        "shared" => SharedBias::new((trained / 4).max(1)).into(),
        "t5" => T5Bias::decoder()
            .with_buckets(32, (trained / 2).max(17))
            .with_init(posenc::Init::Zeros)
            .into(),
        _ => return Err(Error::unknown_name("encoding", name, &NAMES).into()),
    };
    Ok(Preset {
        encoding,
        attention: Attention::default(),
        embedding_scale: if name == "sinusoidal" { (width as f64).sqrt() } else { 1.0 },
    })
}
