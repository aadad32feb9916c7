//! Layers, one after the other, as a part of a model: what the readers of other formats than Hugging Face's have in common.

use super::{ConfigError, LayerPlan, Numbering, Part, Source, Trace};
use crate::attention::{Attention, LayerSpec};
use crate::dims::Dims;
use crate::encoding::Encoding;
use crate::error::Error;
use crate::rotate::{Magnitude, Rotary, Scaling};

/// Layers that are read: several times the deepest model's.
pub(super) const DEEPEST: usize = 4096;

/// One layer.
pub(super) struct Layer {
    pub kind: Option<&'static str>,
    pub attends: bool,
    pub dims: Dims,
    /// The rotary positions that the file describes, whether this layer turns or not.
    pub rotary: Option<Rotary>,
    pub turns: bool,
    /// What else it does with positions.
    pub others: Encoding,
    pub attention: Attention,
    pub trace: Trace,
}

/// A part that grows.
pub(super) struct Stack(Part);

impl Stack {
    pub fn new(path: &str, model_type: &str, max_len: Option<usize>, note: &'static str) -> Stack {
        Stack(Part {
            path: path.into(),
            model_type: model_type.into(),
            stack: None,
            embeddings: Encoding::none(),
            embedding_dim: None,
            numbering: Numbering::Order,
            provenance: Vec::new(),
            max_len,
            max_len_source: None,
            plans: Vec::new(),
            layers: Vec::new(),
            note,
        })
    }

    /// The key of its length.
    pub fn long_by(mut self, key: Option<String>) -> Stack {
        self.0.max_len_source = self.0.max_len.and(key).map(Source::Key);
        self
    }

    /// One of two stacks of the same object.
    pub fn of_two(mut self, stack: &'static str) -> Stack {
        self.0.stack = Some(stack);
        self
    }

    /// Tokens are not numbered by their order.
    pub fn numbered(mut self, numbering: Numbering) -> Stack {
        self.0.numbering = numbering;
        self
    }

    /// What acts on the embeddings.
    pub fn embeddings(&mut self, encoding: Encoding, dims: Dims, trace: Trace) -> Result<(), ConfigError> {
        self.planned(&encoding, dims)?;
        self.0.embeddings = encoding;
        self.0.provenance = trace.0;
        Ok(())
    }

    /// The next layer.
    pub fn push(&mut self, layer: Layer) -> Result<(), ConfigError> {
        let refused = |error| ConfigError::Setting {
            path: self.0.path.clone(),
            error,
        };
        let dims = layer.dims.checked().map_err(refused)?;
        layer.attention.check().map_err(refused)?;
        // Nothing is handed out that a plan would refuse, turning or not.
        if let Some(rotary) = &layer.rotary {
            self.planned(&rotary.clone().into(), dims)?;
            usable(rotary).map_err(refused)?;
        }
        let mut encoding = layer.others;
        if let (Some(rotary), true) = (&layer.rotary, layer.turns) {
            encoding = encoding.with(rotary.clone());
        }
        self.planned(&encoding, dims)?;
        let plan = LayerPlan {
            kind: layer.kind.map(String::from),
            attends: layer.attends,
            dictionary: None,
            dims,
            spec: LayerSpec {
                encoding,
                attention: layer.attention,
            },
            described: layer.rotary,
            provenance: layer.trace.0,
        };
        let known = self.0.plans.iter().position(|known| *known == plan);
        self.0.layers.push(known.unwrap_or(self.0.plans.len()));
        if known.is_none() {
            self.0.plans.push(plan);
        }
        Ok(())
    }

    fn planned(&self, encoding: &Encoding, dims: Dims) -> Result<(), ConfigError> {
        encoding.plan(dims).map(|_| ()).map_err(|error| ConfigError::Setting {
            path: self.0.path.clone(),
            error,
        })
    }

    pub fn part(self) -> Part {
        self.0
    }
}

/// What a plan takes and f32 does not: with these settings no position up to 2²⁴ has an infinite angle, and no table an infinite entry.
pub(super) fn usable(rotary: &Rotary) -> Result<(), Error> {
    const SMALL: f64 = 1e-30;
    let least = |list: &[f64]| list.iter().fold(1.0, |a: f64, b| a.min(*b));
    let (divisor, magnitude) = match &rotary.scaling {
        Scaling::Divided { divisors, magnitude } => (least(divisors), Magnitude::Given(*magnitude)),
        Scaling::Longrope(long) => (least(&long.short_factor).min(least(&long.long_factor)), long.magnitude),
        Scaling::Yarn(yarn) => (1.0, yarn.magnitude),
        _ => (1.0, Magnitude::Own),
    };
    // A base below 1 makes frequencies above 1, up to its reciprocal.
    if rotary.base.min(1.0) * divisor < SMALL {
        return Err(Error::Invalid {
            what: "base",
            given: rotary.base.to_string(),
            expected: "at least 1e-30, divided by the least divisor: f32 holds no angle of a larger frequency",
        });
    }
    let numbers = match magnitude {
        Magnitude::Own => [1.0; 2],
        Magnitude::Given(x) | Magnitude::OwnTimes(x) => [x; 2],
        Magnitude::Ratio { mscale, mscale_all_dim } => [mscale, mscale_all_dim],
    };
    match numbers.into_iter().find(|x| !(SMALL..=1.0 / SMALL).contains(x)) {
        None => Ok(()),
        Some(x) => Err(Error::Invalid {
            what: "magnitude of the tables",
            given: x.to_string(),
            expected: "a number from 1e-30 to 1e30",
        }),
    }
}

/// A number of layers that is read.
pub(super) fn layers(given: usize) -> Result<usize, ConfigError> {
    if given > DEEPEST {
        return Err(ConfigError::TooMany {
            what: "layers",
            given,
            limit: DEEPEST,
        });
    }
    Ok(given)
}
