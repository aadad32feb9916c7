//! Parameters by name: one flat store that a plan, a module, an optimiser and a file all see the same way.

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// All zeros: relative biases, and the table of seed document 002.
    Zeros,
    /// All ones: the gain of a layer norm.
    Ones,
    /// Normal with mean 0 and this standard deviation: 1 for PyTorch's `nn.Embedding`, 0.02 for GPT-2 and BERT.
    Normal(f64),
    /// Xavier (Glorot) uniform: U(±√(6 / (fan in + fan out))), the fans being the last two axes.
    XavierUniform,
    /// Uniform between ± this bound.
    Uniform(f64),
    /// Uniform from the first number up to the second.
    Between(f64, f64),
    /// This number everywhere.
    Constant(f64),
}

impl Init {
    /// Names that [`Init::from_str`] knows.
    pub const NAMES: [&'static str; 5] = ["normal", "normal-0.02", "zeros", "ones", "xavier"];

    /// Writes initial values for a tensor of this shape.
    pub fn fill<T: Element>(self, shape: &[usize], rng: &mut Rng, out: &mut [T]) {
        let number = |x: f64| T::narrow(T::Real::of(x));
        let uniform = |rng: &mut Rng, bound: f64| number((2.0 * rng.uniform() - 1.0) * bound);
        match self {
            Init::Zeros => out.fill(number(0.0)),
            Init::Ones => out.fill(number(1.0)),
            Init::Normal(std) => out.iter_mut().for_each(|x| *x = number(rng.normal() * std)),
            Init::Uniform(bound) => out.iter_mut().for_each(|x| *x = uniform(rng, bound)),
            Init::Between(low, high) => out.iter_mut().for_each(|x| *x = number(low + (high - low) * rng.uniform())),
            Init::Constant(value) => out.fill(number(value)),
            Init::XavierUniform => {
                let fan_in = shape.last().copied().unwrap_or(1);
                let fan_out = shape.len().checked_sub(2).map_or(1, |axis| shape[axis]);
                let bound = (6.0 / fan_in.saturating_add(fan_out).max(1) as f64).sqrt();
                out.iter_mut().for_each(|x| *x = uniform(rng, bound));
            }
        }
    }
}

impl FromStr for Init {
    type Err = Error;

    /// `normal` (standard deviation 1), `normal-0.02`, `zeros`, `ones` or `xavier`.
    fn from_str(name: &str) -> Result<Init> {
        Ok(match name {
            "normal" => Init::Normal(1.0),
            "normal-0.02" => Init::Normal(0.02),
            "zeros" => Init::Zeros,
            "ones" => Init::Ones,
            "xavier" => Init::XavierUniform,
            _ => return Err(Error::unknown_name("initialisation", name, &Init::NAMES)),
        })
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init::Zeros => write!(f, "zeros"),
            Init::Ones => write!(f, "ones"),
            Init::Normal(std) => write!(f, "N(0, {std})"),
            Init::XavierUniform => write!(f, "xavier"),
            Init::Uniform(bound) => write!(f, "U(±{bound})"),
            Init::Between(low, high) => write!(f, "U({low}, {high})"),
            Init::Constant(value) => write!(f, "{value}"),
        }
    }
}

/// Whether one tensor serves all layers of a model, or each layer has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One for the whole model.
    Model,
    /// One per layer.
    Layer,
}

/// A parameter that a plan or a module needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamSpec {
    /// Its name, unique in its store.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// How it begins.
    pub init: Init,
    /// Shared by the model or per layer.
    pub scope: Scope,
    /// The smallest and the largest value that its method reads as it is; a value beyond is read as the end that it passed ([`Params::keep_in_range`]).
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

impl ParamSpec {
    /// A parameter of the whole model.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, init: Init) -> ParamSpec {
        ParamSpec {
            name: name.into(),
            shape: shape.into(),
            init,
            scope: Scope::Model,
            range: None,
        }
    }

    /// The same parameter with a range of values.
    pub fn in_range(self, low: f64, high: f64) -> ParamSpec {
        ParamSpec {
            range: Some([low, high]),
            ..self
        }
    }

    /// The same parameter in another scope.
    pub fn scoped(self, scope: Scope) -> ParamSpec {
        ParamSpec { scope, ..self }
    }

    /// The same parameter under a prefix: `prefix.name`; an empty prefix changes nothing.
    pub fn prefixed(self, prefix: &str) -> ParamSpec {
        ParamSpec {
            name: join(prefix, &self.name),
            ..self
        }
    }

    /// Numbers in the tensor, as far as a `usize` counts.
    pub fn size(&self) -> usize {
        self.shape.iter().fold(1, |size, &n| size.saturating_mul(n))
    }
}

/// The most numbers that a plan's parameters or a store may have: far past any model, and counted in bytes still an `isize`.
const MOST: usize = 1 << 48;

/// Numbers in all tensors.
pub(crate) fn total_size(specs: &[ParamSpec]) -> Result<usize> {
    let mut total = 0usize;
    for spec in specs {
        // An axis of zero hides the others' overflow in `size`, but not in what reads the shape.
        let size = spec.shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n));
        total = match size.and_then(|size| total.checked_add(size)) {
            Some(total) if total <= MOST => total,
            _ => {
                return Err(Error::Invalid {
                    what: "size of the parameters",
                    given: format!("`{}` {:?}", spec.name, spec.shape),
                    expected: "at most 2^48 numbers in all",
                });
            }
        };
    }
    Ok(total)
}

/// Where each tensor of a store lies; shared between parameters, their gradients and an optimiser's moments.
#[derive(Debug)]
struct Layout {
    specs: Vec<ParamSpec>,
    ranges: Vec<Range<usize>>,
    index: HashMap<String, usize>,
}

impl Layout {
    /// Where the tensors of these specs lie, end to end; and how many numbers they are.
    fn new(specs: &[ParamSpec]) -> Result<(Layout, usize)> {
        let size = total_size(specs)?;
        let (mut ranges, mut index, mut end) = (Vec::new(), HashMap::new(), 0);
        for (i, spec) in specs.iter().enumerate() {
            ranges.push(end..end + spec.size());
            end += spec.size();
            if index.insert(spec.name.clone(), i).is_some() {
                return Err(Error::Repeated { name: spec.name.clone() });
            }
        }
        let specs = specs.to_vec();
        Ok((Layout { specs, ranges, index }, size))
    }

    fn position(&self, name: &str) -> Result<usize> {
        let known = self.index.get(name).copied();
        known.ok_or_else(|| Error::MissingParameter { name: name.to_string() })
    }

    /// The tensor of a spec under a prefix, without a string of its own: gradients are looked up in every step.
    fn of_spec(&self, prefix: &str, spec: &ParamSpec) -> Result<usize> {
        let named = |name: &str| {
            let i = self.position(name)?;
            let given = &self.specs[i].shape;
            if given != &spec.shape {
                return Err(Error::ParameterShape {
                    name: name.to_string(),
                    expected: spec.shape.clone(),
                    given: given.clone(),
                });
            }
            Ok(i)
        };
        let mut buffer = [0; 256];
        let end = prefix.len() + 1 + spec.name.len();
        if prefix.is_empty() {
            return named(&spec.name);
        }
        if end > buffer.len() {
            return named(&join(prefix, &spec.name));
        }
        buffer[..prefix.len()].copy_from_slice(prefix.as_bytes());
        buffer[prefix.len()] = b'.';
        buffer[prefix.len() + 1..end].copy_from_slice(spec.name.as_bytes());
        match std::str::from_utf8(&buffer[..end]) {
            Ok(name) => named(name),
            Err(_) => named(&join(prefix, &spec.name)),
        }
    }
}

/// Tensors by name in one flat vector. Storage is any [`Element`]; plans and layers read [`Real`] ones, modules of half precision widen theirs
/// ([`Params::part`]).
#[derive(Clone, Debug)]
pub struct Params<T> {
    layout: Arc<Layout>,
    data: Vec<T>,
}

impl<T: Element> Params<T> {
    /// All zeros.
    ///
    /// # Errors
    /// Two parameters share a name, or memory cannot hold them.
    pub fn zeros(specs: &[ParamSpec]) -> Result<Params<T>> {
        let (layout, size) = Layout::new(specs)?;
        // Asked first and given back: `vec!` of zeros takes fresh pages as they are, but ends the process where there is no memory.
        if Vec::<T>::new().try_reserve_exact(size).is_err() {
            return Err(Error::Invalid {
                what: "size of the parameters",
                given: size.to_string(),
                expected: "what memory can hold",
            });
        }
        Ok(Params {
            layout: Arc::new(layout),
            data: vec![T::narrow(T::Real::ZERO); size],
        })
    }

    /// Initial values: each is a function of the seed, its name and its shape alone.
    ///
    /// # Errors
    /// As [`Params::zeros`].
    pub fn init(specs: &[ParamSpec], seed: u64) -> Result<Params<T>> {
        let mut params = Params::zeros(specs)?;
        params.reset(seed);
        Ok(params)
    }

    /// Every parameter back to its initial value for this seed.
    pub fn reset(&mut self, seed: u64) {
        let layout = self.layout.clone();
        for (spec, range) in layout.specs.iter().zip(&layout.ranges) {
            spec.init
                .fill(&spec.shape, &mut Rng::named(seed, &spec.name), &mut self.data[range.clone()]);
        }
    }

    /// Brings every parameter that has a range ([`ParamSpec::range`]) back into it: for after a step of an optimiser. Beyond its range a parameter changes nothing and has the
    /// gradient 0; the code that trained such models writes the end of the range into the parameter before each pass, so that it can come back.
    ///
    /// ```
    /// use posenc::{Init, ParamSpec, Params};
    /// let mut params: Params<f32> = Params::zeros(&[ParamSpec::new("rate", [2], Init::Zeros).in_range(0.5, 2.0)])?;
    /// params.keep_in_range();
    /// assert_eq!(params.flat(), [0.5; 2]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn keep_in_range(&mut self) {
        let layout = self.layout.clone();
        for (spec, range) in layout.specs.iter().zip(&layout.ranges) {
            let Some([low, high]) = spec.range else { continue };
            for x in &mut self.data[range.clone()] {
                let value = x.widen().to_f64();
                if value < low || value > high {
                    *x = T::narrow(T::Real::of(value.clamp(low, high)));
                }
            }
        }
    }

    /// Zeros of the same layout: where gradients are summed.
    pub fn zeros_like(&self) -> Params<T> {
        Params {
            layout: self.layout.clone(),
            data: vec![T::narrow(T::Real::ZERO); self.data.len()],
        }
    }

    /// What the store holds, in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.layout.specs
    }

    /// Numbers in all tensors.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// All tensors end to end, in the order of [`Params::specs`].
    pub fn flat(&self) -> &[T] {
        &self.data
    }

    /// All tensors end to end, to be written.
    pub fn flat_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// All tensors end to end, and nothing else of the store.
    pub fn into_flat(self) -> Vec<T> {
        self.data
    }

    /// A tensor by its full name.
    ///
    /// # Errors
    /// No such name.
    pub fn get(&self, name: &str) -> Result<&[T]> {
        let i = self.position(name)?;
        Ok(&self.data[self.layout.ranges[i].clone()])
    }

    /// A tensor by its full name, to be written.
    ///
    /// # Errors
    /// No such name.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [T]> {
        let i = self.position(name)?;
        Ok(&mut self.data[self.layout.ranges[i].clone()])
    }

    /// Replaces a tensor.
    ///
    /// # Errors
    /// No such name, or another shape.
    pub fn set(&mut self, name: &str, shape: &[usize], values: &[T]) -> Result<()> {
        let i = self.position(name)?;
        let expected = &self.layout.specs[i].shape;
        if expected != shape || self.layout.ranges[i].len() != values.len() {
            return Err(Error::ParameterShape {
                name: name.to_string(),
                expected: expected.clone(),
                given: shape.to_vec(),
            });
        }
        self.data[self.layout.ranges[i].clone()].copy_from_slice(values);
        Ok(())
    }

    /// The same numbers in another precision, rounded to the nearest (by way of f32 where it is f16 or bf16).
    pub fn cast<S: Element>(&self) -> Params<S> {
        Params {
            layout: self.layout.clone(),
            data: self.data.iter().map(|x| S::narrow(S::Real::of(x.widen().to_f64()))).collect(),
        }
    }

    /// A store of some of the tensors, in the arithmetic of this one's: what a module of half precision computes with.
    ///
    /// # Errors
    /// A tensor is missing, or has another shape.
    pub fn part(&self, specs: &[ParamSpec]) -> Result<Params<T::Real>> {
        let mut part = Params::zeros(specs)?;
        for (spec, range) in specs.iter().zip(part.layout.clone().ranges.iter()) {
            let values = self.bound("", "").get(spec)?;
            part.data[range.clone()]
                .iter_mut()
                .zip(values)
                .for_each(|(to, from)| *to = from.widen());
        }
        Ok(part)
    }

    /// The tensors of a plan inside this store: those of the model under one prefix, those of a layer under another.
    pub fn bound<'p>(&'p self, model_prefix: &str, layer_prefix: &str) -> Bound<'p, T> {
        Bound {
            layout: self.layout.clone(),
            data: &self.data,
            model_prefix: model_prefix.to_string(),
            layer_prefix: layer_prefix.to_string(),
        }
    }

    /// Where a plan's gradients go in this store, under the prefixes of [`Params::bound`].
    pub fn bound_mut<'p>(&'p mut self, model_prefix: &'p str, layer_prefix: &'p str) -> BoundMut<'p, T> {
        BoundMut {
            store: self,
            model_prefix,
            layer_prefix,
            tables: None,
        }
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.layout.position(name)
    }
}

/// A plan's parameters inside a larger store.
#[derive(Clone, Debug)]
pub struct Bound<'p, R> {
    layout: Arc<Layout>,
    data: &'p [R],
    model_prefix: String,
    layer_prefix: String,
}

impl<'p, R: Element> From<&'p Params<R>> for Bound<'p, R> {
    /// A store that holds one plan's parameters and nothing else.
    fn from(store: &'p Params<R>) -> Self {
        store.bound("", "")
    }
}

impl<'p, R: Element> Bound<'p, R> {
    /// Numbers that lie elsewhere, read where they lie: the tensors of `specs` end to end, as [`Params::flat`] has them. What a framework keeps in a tensor of its own is called by this.
    ///
    /// ```
    /// use posenc::{Bound, Dims, Encoding, Learned, Positions};
    /// let plan = Encoding::from(Learned::new(2)).plan(Dims::new(4, 1)?)?;
    /// let (table, at) = ([0.5f32; 2 * 4], Positions::range(0..2));
    /// let call = plan.call(Bound::over(plan.parameters(), &table)?, &at, &at)?;
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Two specs share a name, or there are more or fewer numbers.
    pub fn over(specs: &[ParamSpec], data: &'p [R]) -> Result<Bound<'p, R>> {
        let (layout, size) = Layout::new(specs)?;
        if size != data.len() {
            return Err(Error::Shape {
                what: "parameters end to end [numbers]",
                expected: vec![size],
                given: vec![data.len()],
            });
        }
        Ok(Bound {
            layout: Arc::new(layout),
            data,
            model_prefix: String::new(),
            layer_prefix: String::new(),
        })
    }

    /// The prefixes of the model's and the layer's tensors.
    pub(crate) fn prefixes(&self) -> [String; 2] {
        [self.model_prefix.clone(), self.layer_prefix.clone()]
    }

    /// The tensor of a spec.
    ///
    /// # Errors
    /// Missing, or of another shape.
    pub fn get(&self, spec: &ParamSpec) -> Result<&'p [R]> {
        let prefix = match spec.scope {
            Scope::Model => &self.model_prefix,
            Scope::Layer => &self.layer_prefix,
        };
        let i = self.layout.of_spec(prefix, spec)?;
        Ok(&self.data[self.layout.ranges[i].clone()])
    }
}

/// Where a plan's gradients go.
#[derive(Debug)]
pub struct BoundMut<'p, R> {
    store: &'p mut Params<R>,
    model_prefix: &'p str,
    layer_prefix: &'p str,
    /// Where the gradients of projected tables go.
    tables: Option<&'p mut Params<R>>,
}

impl<'p, R: Element> From<&'p mut Params<R>> for BoundMut<'p, R> {
    fn from(store: &'p mut Params<R>) -> Self {
        store.bound_mut("", "")
    }
}

impl<'p, R: Element> BoundMut<'p, R> {
    /// The same, with a store for the gradients of projected tables.
    pub(crate) fn with_tables(self, tables: Option<&'p mut Params<R>>) -> BoundMut<'p, R> {
        BoundMut { tables, ..self }
    }

    /// The gradient of a projected table.
    ///
    /// # Errors
    /// Missing, or of another shape.
    pub(crate) fn table_mut(&mut self, spec: &ParamSpec) -> Result<&mut [R]> {
        let missing = || Error::MissingParameter { name: spec.name.clone() };
        let tables = self.tables.as_deref_mut().ok_or_else(missing)?;
        let i = tables.layout.of_spec("", spec)?;
        Ok(&mut tables.data[tables.layout.ranges[i].clone()])
    }

    /// The gradient of a spec's tensor.
    ///
    /// # Errors
    /// Missing, or of another shape.
    pub fn get_mut(&mut self, spec: &ParamSpec) -> Result<&mut [R]> {
        let prefix = match spec.scope {
            Scope::Model => self.model_prefix,
            Scope::Layer => self.layer_prefix,
        };
        let i = self.store.layout.of_spec(prefix, spec)?;
        Ok(&mut self.store.data[self.store.layout.ranges[i].clone()])
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<ParamSpec> {
        vec![ParamSpec::new("a", [2, 3], Init::Normal(1.0)), ParamSpec::new("b", [4], Init::Ones)]
    }

    #[test]
    fn a_shared_name_begins_the_same_in_any_model() {
        let one: Params<f32> = Params::init(&specs(), 3).unwrap();
        let mut more = specs();
        more.insert(0, ParamSpec::new("c", [5], Init::Normal(0.02)));
        let two: Params<f32> = Params::init(&more, 3).unwrap();
        assert_eq!(one.get("a").unwrap(), two.get("a").unwrap());
        assert_ne!(one.get("a").unwrap(), Params::<f32>::init(&specs(), 4).unwrap().get("a").unwrap());
    }

    #[test]
    fn reset_restores_initial_values() {
        let mut params: Params<f64> = Params::init(&specs(), 3).unwrap();
        let before = params.flat().to_vec();
        params.flat_mut().fill(9.0);
        params.reset(3);
        assert_eq!(params.flat(), before);
    }

    #[test]
    fn wrong_names_and_shapes_are_refused() {
        let mut params: Params<f32> = Params::zeros(&specs()).unwrap();
        assert!(matches!(params.get("x"), Err(Error::MissingParameter { .. })));
        assert!(matches!(params.set("a", &[3, 2], &[0.0; 6]), Err(Error::ParameterShape { .. })));
        let twice = [specs(), specs()].concat();
        assert!(matches!(Params::<f32>::zeros(&twice), Err(Error::Repeated { .. })));
        assert!(matches!("xavir".parse::<Init>(), Err(Error::UnknownName { nearest: Some(_), .. })));
    }

    #[test]
    fn xavier_stays_within_its_bound() {
        let params: Params<f64> = Params::init(&[ParamSpec::new("w", [30, 20], Init::XavierUniform)], 1).unwrap();
        let bound = (6.0f64 / 50.0).sqrt();
        let largest = params.flat().iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(largest <= bound && largest > 0.9 * bound);
    }

    #[test]
    fn prefixes_find_a_plan_inside_a_model() {
        let spec = ParamSpec::new("bias", [2], Init::Ones).scoped(Scope::Layer);
        let store: Params<f32> = Params::init(&[spec.clone().prefixed("layers.0.pos")], 1).unwrap();
        assert_eq!(store.bound("pos", "layers.0.pos").get(&spec).unwrap(), &[1.0, 1.0]);
        assert!(store.bound("pos", "layers.1.pos").get(&spec).is_err());
    }
}
