//! An encoding with its parameters out of a `VarBuilder`.

use crate::call::Call;
use crate::error::Result;
use crate::parameters::Parameters;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use posenc::{Init, Learned, Plan, Positions};
use std::fmt;

/// An encoding with its parameters: any, from a learned table to T5's buckets. It holds the tensors themselves, so what an optimiser does to a variable is seen by the next pass.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap};
/// use posenc::{Dims, Encoding, Learned, Mode, Positions, Sinusoidal, T5Bias};
/// use posenc_candle::nn::Encoded;
/// let weights = VarMap::new(); // or `VarBuilder::from_mmaped_safetensors`
/// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
///
/// // GPT-2's `wpe.weight`.
/// let wpe = Encoded::learned(Learned::new(32), 8, vb.pp("wpe"))?;
/// let x = candle_core::Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?;
/// let x = wpe.at(&Positions::range(0..5))?.embed(&x, Mode::Evaluate)?;
///
/// // Sinusoids have no weights: nothing is read.
/// let sinusoidal = Encoded::load(&Encoding::from(Sinusoidal::paper()).plan(Dims::new(8, 2)?)?, vb.pp("embed_positions"))?;
/// let x = sinusoidal.at(&Positions::range(0..5))?.embed(&x, Mode::Evaluate)?;
///
/// // T5's `encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight`, the name of the plan's own parameter.
/// let plan = Encoding::from(T5Bias::encoder()).plan(Dims::new(8, 2)?)?;
/// let t5 = Encoded::load(&plan, vb.pp("encoder.block.0.layer.0.SelfAttention"))?;
/// assert_eq!(weights.all_vars().len(), 2);
/// # Ok::<(), posenc_candle::Error>(())
/// ```
#[derive(Clone)]
pub struct Encoded {
    plan: Plan,
    tensors: Vec<Tensor>,
    /// Made once where nothing is trained.
    fixed: Option<Parameters>,
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({})", self.plan)
    }
}

impl Encoded {
    /// Under the names that the plan gives its parameters.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(plan: &Plan, vb: VarBuilder) -> Result<Encoded> {
        Encoded::load_as(plan, vb, str::to_string)
    }

    /// Under other names: `name` gives that of each of the plan's.
    ///
    /// # Errors
    /// As [`Encoded::load`].
    pub fn load_as(plan: &Plan, vb: VarBuilder, name: impl Fn(&str) -> String) -> Result<Encoded> {
        let tensor = |spec: &posenc::ParamSpec| {
            let begin = begun(spec.init, &spec.shape);
            vb.get_with_hints(spec.shape.as_slice(), &name(&spec.name), begin)
        };
        let tensors = plan.parameters().iter().map(tensor).collect::<candle_core::Result<Vec<_>>>()?;
        let mut encoded = Encoded {
            plan: plan.clone(),
            tensors,
            fixed: None,
        };
        if !encoded.tensors.iter().any(Tensor::track_op) {
            encoded.fixed = Some(encoded.parameters()?);
        }
        Ok(encoded)
    }

    /// A learned table whose weight is called `weight`: `wpe` of GPT-2, `embeddings.position_embeddings` of BERT, `embed_positions` of OPT with its offset of 2.
    ///
    /// # Errors
    /// As [`Encoded::load`].
    pub fn learned(learned: Learned, model_dim: usize, vb: VarBuilder) -> Result<Encoded> {
        // A table is as wide as the model, whatever its heads are.
        let plan = posenc::Encoding::from(learned).plan(posenc::Dims::new(model_dim, 1)?)?;
        Encoded::load_as(&plan, vb, |_| "weight".to_string())
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The parameters as they are now.
    ///
    /// # Errors
    /// What candle refuses.
    pub fn parameters(&self) -> Result<Parameters> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let mut tensors = self.tensors.iter().cloned();
        Parameters::new(&self.plan, |spec| {
            let missing = || posenc::Error::MissingParameter { name: spec.name.clone() }.into();
            tensors.next().ok_or_else(missing)
        })
    }

    /// At the positions of a pass, the same for queries and keys.
    ///
    /// # Errors
    /// As [`Call::of`].
    pub fn at(&self, at: &Positions) -> Result<Call> {
        self.call(at, at)
    }

    /// At the positions of a pass.
    ///
    /// # Errors
    /// As [`Call::of`].
    pub fn call(&self, q_at: &Positions, k_at: &Positions) -> Result<Call> {
        Call::of(&self.plan, &self.parameters()?, q_at, k_at)
    }
}

/// How candle-nn begins a variable that a plan begins like this.
pub(super) fn begun(init: Init, shape: &[usize]) -> candle_nn::Init {
    use candle_nn::Init::{Const, Randn, Uniform};
    match init {
        Init::Zeros => Const(0.0),
        Init::Ones => Const(1.0),
        Init::Constant(value) => Const(value),
        Init::Normal(stdev) => Randn { mean: 0.0, stdev },
        Init::Uniform(bound) => Uniform { lo: -bound, up: bound },
        Init::Between(lo, up) => Uniform { lo, up },
        Init::XavierUniform => {
            let fan = |from_end: usize| shape.len().checked_sub(from_end).map_or(1, |axis| shape[axis]);
            let bound = (6.0 / (fan(1) + fan(2)).max(1) as f64).sqrt();
            Uniform { lo: -bound, up: bound }
        }
    }
}
