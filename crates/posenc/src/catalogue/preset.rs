//! From a name to the encoding that a person means by it.

use super::Entry;
use crate::bias::{Alibi, ClippedBias, Direction, Fire, Kerple, LogCpb, Sandwich, SharedBias, SwinBias, T5Bias};
use crate::content::{Deberta, DebertaProjections, MusicTransformer, Shaw, TransformerXl, XlNet};
use crate::embed::{Learned, Overflow, Sinusoidal};
use crate::encoding::{Encoding, Method};
use crate::error::{Error, Result};
use crate::input::InputTable;
use crate::params::Init;
use crate::rotate::{Pairing, Rotary, XPos};

/// What a preset must know besides a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PresetOptions {
    /// Tokens in a training sequence: tables get as many rows, distances saturate well inside it.
    pub trained: usize,
    /// Which coordinates of a head turn together, where the name does not say it.
    pub pairing: Pairing,
    /// What tables of positions do past their last row.
    pub overflow: Overflow,
}

impl PresetOptions {
    /// For a trained length; halves turn together, and a position past a table is an error.
    pub fn new(trained: usize) -> PresetOptions {
        PresetOptions {
            trained,
            pairing: Pairing::Halves,
            overflow: Overflow::Error,
        }
    }

    /// The same with another pairing.
    pub fn with_pairing(self, pairing: Pairing) -> PresetOptions {
        PresetOptions { pairing, ..self }
    }

    /// The same with another answer past the end of a table.
    pub fn with_overflow(self, overflow: Overflow) -> PresetOptions {
        PresetOptions { overflow, ..self }
    }
}

/// The encoding of a name, configured for a trained length. Names joined by `+` are methods side by side: `rotary+alibi`.
///
/// | name | preset for a trained length L |
/// |---|---|
/// | `none` | no method |
/// | `learned` | L rows, N(0, 0.02) |
/// | `sinusoidal` | the paper's |
/// | `input-table` | L rows of zeros per layer |
/// | `rotary`, `rotary-halves`, `rotary-interleaved` | base 10 000, the whole head |
/// | `xpos` | the same with scores that fade over 512 positions; f32 reaches some 18 000 positions |
/// | `shaw` | ±16 (at most L/2), keys and values |
/// | `music-transformer` | L distances; `clamp` reads the farthest row past them; with any other policy it refuses |
/// | `transformer-xl` | the paper's: sines first, keys up to the query, not clamped |
/// | `xlnet` | not clamped |
/// | `deberta` | c2p and p2c, projections shared, ±L in L/2 buckets each way (a row per distance below 12 tokens) |
/// | `alibi` | causal |
/// | `clipped` | ±L/4, key − query, zeros |
/// | `shared` | ±L/4, zeros |
/// | `t5` | a decoder's 32 buckets to distance 128, but to L/2 at most, so that training reaches the last one; zeros |
/// | `kerple`, `kerple-log`, `kerple-power` | the logarithmic kernel, or the power; numbers of the model |
/// | `sandwich` | the paper's 64 frequencies |
/// | `fire` | 32 hidden units, lengths from L/4 (at most 512) |
/// | `swin` | a window of one row and L columns, zeros: a row per distance, an error past it |
/// | `log-cpb` | a window of one row and L columns |
///
/// # Errors
/// A name that is not known (with the nearest one), or a trained length of zero.
///
/// ```
/// use posenc::catalogue::{PresetOptions, preset};
/// let options = PresetOptions::new(64);
/// assert_eq!(preset("rotary-interleaved", &options)?.to_string(), "rotary(interleaved, base 10000)");
/// assert_eq!(preset("learned + alibi", &options)?.methods.len(), 2);
/// assert!(preset("nope", &options)?.methods.is_empty());
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn preset(name: &str, options: &PresetOptions) -> Result<Encoding> {
    if options.trained == 0 {
        return Err(Error::Zero { what: "trained length" });
    }
    let mut encoding = Encoding::none();
    for part in name.split('+') {
        encoding.methods.extend(method(part.trim(), options)?);
    }
    Ok(encoding)
}

fn method(name: &str, options: &PresetOptions) -> Result<Option<Method>> {
    let trained = options.trained;
    let quarter = (trained / 4).max(1);
    let half = (trained / 2).max(1);
    let lower = name.to_lowercase();
    let pairing = if lower.ends_with("interleaved") {
        Pairing::Interleaved
    } else if lower.ends_with("halves") {
        Pairing::Halves
    } else {
        options.pairing
    };
    Ok(Some(match Entry::named(name)?.name {
        "none" => return Ok(None),
        "learned" => Learned::new(trained).with_overflow(options.overflow).into(),
        "sinusoidal" => Sinusoidal::paper().into(),
        "input-table" => InputTable::new(trained).with_overflow(options.overflow).into(),
        "rotary" if lower == "xpos" => Rotary::new(pairing).with_decay(XPos::new()).into(),
        "rotary" => Rotary::new(pairing).into(),
        "shaw" => Shaw::new(half.min(16)).into(),
        "music-transformer" => match options.overflow {
            Overflow::Clamp => MusicTransformer::new(trained).with_overflow(Overflow::Clamp).into(),
            _ => MusicTransformer::new(trained).into(),
        },
        "transformer-xl" => TransformerXl::paper().into(),
        "xlnet" => XlNet::new().into(),
        "deberta" => {
            let method = Deberta::new(trained, DebertaProjections::Shared);
            if trained < 12 { method } else { method.with_buckets(half / 2 * 2) }.into()
        }
        "alibi" => Alibi::new().into(),
        "clipped" => ClippedBias::new(quarter, Direction::KeyMinusQuery).with_init(Init::Zeros).into(),
        "shared" => SharedBias::new(quarter).into(),
        "t5" => {
            let max_distance = half.clamp(2, 128);
            T5Bias::decoder()
                .with_buckets(max_distance.min(32), max_distance)
                .with_init(Init::Zeros)
                .into()
        }
        "kerple" if lower.ends_with("power") => Kerple::power().into(),
        "kerple" => Kerple::log().into(),
        "sandwich" => Sandwich::new().into(),
        "fire" => Fire::new().with_length(quarter.min(512) as f64).into(),
        "swin" => SwinBias::new([1, trained]).with_init(Init::Zeros).into(),
        "log-cpb" => LogCpb::new([1, trained]).into(),
        other => unreachable!("the catalogue names `{other}`, which has no preset"),
    }))
}
