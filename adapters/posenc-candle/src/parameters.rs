//! A plan's parameters as tensors.

use crate::error::{Error, Result};
use crate::storage::{by_type, real_of, real_of_tensor};
use candle_core::{DType, Device, Tensor, Var};
use posenc::{ParamSpec, Params, Plan};
use std::collections::HashMap;

/// A plan's parameters end to end, in the order of [`Plan::parameters`], in the arithmetic's own type: f32, or f64 where one of them is f64. Gradients flow through it to the tensors that it
/// was made of, so make it anew in each training step; one tensor of that type is read where it lies.
#[derive(Clone, Debug)]
pub struct Parameters {
    flat: Option<Tensor>,
}

impl Parameters {
    /// Of a plan that has none.
    pub const NONE: Parameters = Parameters { flat: None };

    /// From the tensor that `find` gives for each parameter, of any floating-point type.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use posenc::{Dims, Encoding, T5Bias};
    /// use posenc_candle::Parameters;
    /// let plan = Encoding::from(T5Bias::encoder()).plan(Dims::new(64, 4)?)?;
    /// let table = Tensor::randn(0f32, 1f32, (32, 4), &Device::Cpu)?; // relative_attention_bias.weight
    /// let parameters = Parameters::new(&plan, |_| Ok(table.clone()))?;
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of another shape or type, or what `find` gives.
    pub fn new(plan: &Plan, mut find: impl FnMut(&ParamSpec) -> Result<Tensor>) -> Result<Parameters> {
        let mut tensors = Vec::new();
        for spec in plan.parameters() {
            let tensor = find(spec)?;
            if tensor.dims() != spec.shape {
                return Err(Error::Core(posenc::Error::ParameterShape {
                    name: spec.name.clone(),
                    expected: spec.shape.clone(),
                    given: tensor.dims().to_vec(),
                }));
            }
            real_of_tensor("a parameter", &tensor)?;
            tensors.push(tensor);
        }
        Parameters::of_tensors(tensors)
    }

    fn of_tensors(tensors: Vec<Tensor>) -> Result<Parameters> {
        let double = tensors.iter().any(|tensor| tensor.dtype() == DType::F64);
        let real = if double { DType::F64 } else { DType::F32 };
        // candle looks for an empty view where it begins, which may be past the end of its memory.
        let some = tensors.iter().filter(|tensor| tensor.elem_count() > 0);
        let flat = some.map(|tensor| tensor.to_dtype(real)?.flatten_all());
        let flat = flat.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Parameters {
            flat: match flat.len() {
                0 => None,
                1 => flat.into_iter().next(),
                _ => Some(Tensor::cat(&flat, 0)?),
            },
        })
    }

    /// From variables by name, as [`init`] gives them.
    ///
    /// # Errors
    /// A variable that is missing, of another shape or type.
    pub fn by_name(plan: &Plan, vars: &HashMap<String, Var>) -> Result<Parameters> {
        Parameters::new(plan, |spec| {
            let tensor = vars.get(&spec.name).map(|var| var.as_tensor().clone());
            tensor.ok_or_else(|| posenc::Error::MissingParameter { name: spec.name.clone() }.into())
        })
    }

    /// As many as the plan has.
    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        let expected: usize = plan.parameters().iter().map(ParamSpec::size).sum();
        let given = self.flat.as_ref().map_or(0, Tensor::elem_count);
        if expected == given {
            return Ok(());
        }
        Err(Error::Core(posenc::Error::Shape {
            what: "parameters end to end [numbers]",
            expected: vec![expected],
            given: vec![given],
        }))
    }

    /// With more numbers after them.
    pub(crate) fn followed_by<'t>(&'t self, more: impl IntoIterator<Item = &'t Tensor>) -> Result<Parameters> {
        let tensors = self.flat.iter().chain(more).map(|tensor| tensor.to_device(&Device::Cpu));
        let tensors = tensors.collect::<candle_core::Result<Vec<_>>>()?;
        match tensors.len() {
            1 if self.flat.is_some() => Ok(self.clone()),
            _ => Parameters::of_tensors(tensors),
        }
    }

    /// As the kernels read them: on the CPU, in the arithmetic of what is stored as `dtype`; `None` if there are none.
    pub(crate) fn for_type(&self, what: &'static str, dtype: DType) -> Result<Option<Tensor>> {
        let real = real_of(what, dtype)?;
        let Some(flat) = &self.flat else { return Ok(None) };
        Ok(Some(flat.to_device(&Device::Cpu)?.to_dtype(real)?.contiguous()?))
    }
}

/// Variables for a plan's parameters by name, each begun as its method says: for whoever trains without a `VarMap`.
///
/// ```
/// use candle_core::{DType, Device};
/// use posenc::{Dims, Encoding, Learned};
/// use posenc_candle::{Parameters, init};
/// let plan = Encoding::from(Learned::new(16)).plan(Dims::new(8, 2)?)?;
/// let vars = init(&plan, 1, DType::F32, &Device::Cpu)?;
/// assert_eq!(vars["pos_embedding.weight"].dims(), [16, 8]);
/// let parameters = Parameters::by_name(&plan, &vars)?;
/// # Ok::<(), posenc_candle::Error>(())
/// ```
///
/// # Errors
/// A type that is not a floating-point one, or more numbers than memory holds.
pub fn init(plan: &Plan, seed: u64, dtype: DType, device: &Device) -> Result<HashMap<String, Var>> {
    let mut vars = HashMap::new();
    by_type!("a parameter", dtype, T => {
        let params = Params::<T>::init(plan.parameters(), seed)?;
        for spec in plan.parameters() {
            let values = params.get(&spec.name)?;
            vars.insert(spec.name.clone(), Var::from_slice(values, spec.shape.as_slice(), device)?);
        }
        Ok(vars)
    })
}
