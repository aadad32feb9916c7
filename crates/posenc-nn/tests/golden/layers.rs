//! The set `layers`: PyTorch's encoder and decoder layers, and DeepSeek-V3's attention, with outputs and all gradients. The set `biases`: attention with the biases that others' code adds, likewise.
//!
//! **Tolerance.** Ours is computed in f64. A record has numbers of unit roundoff u: 2⁻⁵³, or 2⁻²⁴ where it was made in f32. One stage of a layer (a product, a norm, a
//! softmax, an activation) computes what it would compute exactly from operands that are off by at most [`STAGE`] roundings of each, relatively: the sums have at most 16
//! terms, and a norm, a softmax or an exponential adds a few. A pass has at most [`STAGES`] stages, the adjoint's included. What a relative change of all operands does to a
//! tensor is measured: inputs and parameters are changed by ±2⁻²⁰ of themselves, each with a sign of its own, and the largest change of the tensor over four such draws,
//! divided by 2⁻²⁰, is its *sensitivity*. The largest entry of a tensor is added, for the roundings of the last stage. Roundings are independent and add up as variances do,
//! and 8 spreads are allowed, as in [`bounded`](super::bounded). So
//! ```text
//! |ours − theirs| ≤ 8 · √(STAGES · STAGE) · u · (sensitivity + largest entry)
//! ```
//! Biases pass fewer stages with longer sums (12 of up to 512 products and 8 more, in Swin v2's network); they are held to the same bound.
//!
//! It is some 3e-13 for a torch layer and 3e-4 for an f32 record, where sensitivities are of order 10. The harness spoils records and must see them fail.

mod biases;
mod mla;
mod torch;

use super::compare::Worst;
use super::set::{Data, Outcome, Record, fail, skip};
use posenc::{ParamSpec, Params, Rng};
use posenc_nn::AttnMask;
use std::collections::BTreeMap;

/// Roundings of one stage: a sum of up to 16 products, and 8 more.
const STAGE: f64 = 24.0;

/// Stages of the longest way from an input to a gradient: a decoder layer has 3 norms, 2 softmaxes, 10 products, an activation and 3 sums, each once forward and twice in
/// the adjoint.
const STAGES: f64 = 57.0;

/// The relative change by which sensitivity is measured: its square is far below what is measured, its quotient with rounding far above.
const CHANGE: f64 = 1.0 / 1_048_576.0;

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    match record.json["module"].as_str() {
        Some("TransformerEncoderLayer") => compared(record, "out", &torch::Encoder::new(record)?),
        Some("TransformerDecoderLayer") => compared(record, "out", &torch::Decoder::new(record)?),
        Some("DeepseekV3Attention") => compared(record, "out", &mla::Mla::new(record)?),
        Some(
            "ParallelKerpleLog"
            | "ParallelKerplePower"
            | "FIRE"
            | "SandwichRelativePositionEmbedding"
            | "SwinRelativePositionBias"
            | "Swinv2SelfAttention",
        ) => compared(record, "out", &biases::Biased::new(record)?),
        Some(module) => skip(format!("module `{module}` is not known here")),
        None => skip("the record names no module"),
    }
}

/// Tensors by their names in a record.
type Tensors = BTreeMap<String, Vec<f64>>;

/// A module of ours that a record describes.
trait Subject {
    /// The streams that it reads, by name.
    fn streams(&self) -> &'static [&'static str];
    fn specs(&self) -> Vec<ParamSpec>;
    /// Outputs, the streams' gradients as `grad_NAME` and the parameters', of Σ out·grad_out.
    fn run(&self, record: &Record<'_>, params: &Params<f64>, streams: &Tensors) -> Outcome<(Tensors, Params<f64>)>;
}

fn compared(record: &Record<'_>, out: &str, subject: &dyn Subject) -> Outcome<Worst> {
    let specs = subject.specs();
    let mut params = Params::<f64>::zeros(&specs)?;
    for spec in &specs {
        let (shape, values) = numbers(record, &format!("param.{}", spec.name))?;
        params.set(&spec.name, shape, &values)?;
    }
    let mut streams = Tensors::new();
    for name in subject.streams() {
        streams.insert((*name).to_string(), numbers(record, name)?.1);
    }
    let run = |params: &Params<f64>, streams: &Tensors| -> Outcome<Tensors> {
        let (mut tensors, grads) = subject.run(record, params, streams)?;
        for spec in &specs {
            tensors.insert(format!("grad.{}", spec.name), grads.get(&spec.name)?.to_vec());
        }
        Ok(tensors)
    };
    let ours = run(&params, &streams)?;
    let mut sensitivity: BTreeMap<&String, f64> = BTreeMap::new();
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        let mut change = |x: &mut f64| *x *= 1.0 + if rng.bits() & 1 == 0 { CHANGE } else { -CHANGE };
        let (mut params, mut streams) = (params.clone(), streams.clone());
        params
            .flat_mut()
            .iter_mut()
            .chain(streams.values_mut().flatten())
            .for_each(&mut change);
        let changed = run(&params, &streams)?;
        for (name, ours) in &ours {
            let far = changed[name]
                .iter()
                .zip(ours)
                .map(|(a, b)| (a - b).abs() / CHANGE)
                .fold(0.0, f64::max);
            let worst = sensitivity.entry(name).or_default();
            *worst = worst.max(far);
        }
    }
    // Every tensor of the record is a parameter, an argument or compared.
    let known = |name: &str| {
        let parameter = name
            .strip_prefix("param.")
            .is_some_and(|name| specs.iter().any(|spec| spec.name == name));
        parameter || ours.contains_key(name) || streams.contains_key(name) || ARGUMENTS.contains(&name)
    };
    if let Some(name) = record.names().find(|name| !known(name)) {
        return fail(format!("tensor `{name}` is not compared"));
    }
    let roundoff = if matches!(record.tensor(out)?.data, Data::F64(_)) {
        f64::EPSILON / 2.0
    } else {
        super::bounded::U
    };
    let mut worst = Worst::default();
    for (name, ours) in &ours {
        let (shape, theirs) = numbers(record, name)?;
        if theirs.len() != ours.len() {
            return fail(format!("{name}: {} numbers, the record has {shape:?}", ours.len()));
        }
        let largest = theirs.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        let allowed = 8.0 * (STAGES * STAGE).sqrt() * roundoff * (sensitivity[name] + largest);
        for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let error = (ours - theirs).abs();
            if error.is_nan() || error > allowed {
                return fail(format!(
                    "{name}[{i}]: ours {ours:.12e}, the record {theirs:.12e}, allowed {allowed:.3e} apart"
                ));
            }
            if error > 0.0 {
                worst = worst.or(Worst {
                    tensor: name.clone(),
                    ratio: error / allowed,
                });
            }
        }
    }
    Ok(worst)
}

/// Tensors of a record that are neither compared nor have gradients.
const ARGUMENTS: [&str; 9] = [
    "src_mask",
    "src_key_padding_mask",
    "tgt_mask",
    "tgt_key_padding_mask",
    "memory_mask",
    "memory_key_padding_mask",
    "grad_out",
    "positions",
    "sinks",
];

/// A tensor of numbers in f64.
fn numbers<'a>(record: &Record<'a>, name: &str) -> Outcome<(&'a [usize], Vec<f64>)> {
    let tensor = record.tensor(name)?;
    match &tensor.data {
        Data::F64(x) => Ok((&tensor.shape, x.clone())),
        Data::F32(x) => Ok((&tensor.shape, x.iter().map(|x| f64::from(*x)).collect())),
        _ => fail(format!("tensor `{name}` is neither f64 nor f32")),
    }
}

fn mask<'a>(record: &Record<'a>, name: &str) -> Outcome<Option<AttnMask<'a, f64>>> {
    let Some(tensor) = record.find(name) else { return Ok(None) };
    match &tensor.data {
        Data::Bool(mask) => Ok(Some(AttnMask::Blocked(mask, &tensor.shape))),
        Data::F64(mask) => Ok(Some(AttnMask::Additive(mask, &tensor.shape))),
        _ => fail(format!("`{name}` is neither boolean nor f64")),
    }
}
