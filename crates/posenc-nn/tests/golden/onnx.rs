//! The set `onnx`: the standard's own cases for its operators `RotaryEmbedding` and `Attention`, each adapted to the core as the operator's text says.

mod attention;
mod rotary;

use super::bounded::Bounded;
use super::compare::Worst;
use super::format::{self, Format};
use super::set::{Data, Outcome, Record, Tensor, fail, skip};
use crate::through::Number;
use half::{bf16, f16};
use posenc::Real;

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    let node = Node(*record);
    let Some(first) = node.operand("inputs", 0)? else {
        return fail("the record's first input is absent");
    };
    match (record.json["op"].as_str(), &first.data) {
        (Some("RotaryEmbedding"), Data::F32(_)) => rotary::check::<f32>(node),
        (Some("RotaryEmbedding"), Data::F16(_)) => rotary::check::<f16>(node),
        (Some("RotaryEmbedding"), Data::Bf16(_)) => rotary::check::<bf16>(node),
        (Some("Attention"), Data::F32(_)) => attention::check::<f32>(node),
        (Some("Attention"), Data::F16(_)) => attention::check::<f16>(node),
        (Some("Attention"), Data::Bf16(_)) => attention::check::<bf16>(node),
        (Some("RotaryEmbedding" | "Attention"), _) => skip("an operator on other numbers than f32, f16 and bf16 is not known here"),
        (Some(operator), _) => skip(format!("operator `{operator}` is not known here")),
        (None, _) => skip("the record names no operator"),
    }
}

/// What the operators are defined on, of those the core has.
trait Sample: Number<Real = f32> {
    const FORMAT: Format;
    fn of(data: &Data) -> Option<&[Self]>;
}

impl Sample for f32 {
    const FORMAT: Format = format::F32;
    fn of(data: &Data) -> Option<&[f32]> {
        if let Data::F32(data) = data { Some(data) } else { None }
    }
}

impl Sample for f16 {
    const FORMAT: Format = format::F16;
    fn of(data: &Data) -> Option<&[f16]> {
        if let Data::F16(data) = data { Some(data) } else { None }
    }
}

impl Sample for bf16 {
    const FORMAT: Format = format::BF16;
    fn of(data: &Data) -> Option<&[bf16]> {
        if let Data::Bf16(data) = data { Some(data) } else { None }
    }
}

fn widened<T: Sample>(data: &[T]) -> Vec<f32> {
    data.iter().map(|x| x.widen()).collect()
}

fn exact<T: Sample>(x: T) -> Bounded {
    Bounded::exact(x.widen().to_f64())
}

/// A record of one node: operands by their order in the operator, whatever the graph calls them.
#[derive(Clone, Copy)]
struct Node<'a>(Record<'a>);

impl<'a> Node<'a> {
    /// The operand at this place of `inputs` or `outputs`, if it is not absent.
    fn operand(&self, side: &str, place: usize) -> Outcome<Option<&'a Tensor>> {
        let Some(list) = self.0.json[side].as_array() else {
            return fail(format!("`{side}` is not a list"));
        };
        let Some(operand) = list.get(place).filter(|operand| !operand.is_null()) else {
            return Ok(None);
        };
        let Some(name) = operand["name"].as_str() else {
            return fail(format!("`{side}[{place}]` has no name"));
        };
        self.0.tensor(&format!("{}/{name}", side.trim_end_matches("puts"))).map(Some)
    }

    fn required(&self, side: &str, place: usize) -> Outcome<&'a Tensor> {
        match self.operand(side, place)? {
            Some(tensor) => Ok(tensor),
            None => fail(format!("`{side}[{place}]` is absent")),
        }
    }

    /// `Skip` where a node has more operands or attributes than are known here.
    fn only(&self, inputs: usize, outputs: usize, attributes: &[&str]) -> Outcome<()> {
        for (side, known) in [("inputs", inputs), ("outputs", outputs)] {
            let count = self.0.json[side].as_array().map_or(0, Vec::len);
            if count > known {
                return skip(format!("an operator with {count} {side} is not known here"));
            }
        }
        self.0.only("attrs", attributes)
    }

    /// A whole number among the attributes.
    fn attribute(&self, name: &str, default: i64) -> Outcome<i64> {
        let value = &self.0.json["attrs"][name];
        match value.as_i64() {
            Some(value) => Ok(value),
            None if value.is_null() => Ok(default),
            None => fail(format!("`attrs.{name}` is not a whole number")),
        }
    }

    /// A number of heads among the attributes, for an operand of rank 3.
    fn heads(&self, name: &str) -> Outcome<usize> {
        match usize::try_from(self.attribute(name, 0)?) {
            Ok(heads) if heads > 0 => Ok(heads),
            _ => fail(format!("an input of rank 3 needs `attrs.{name}`")),
        }
    }
}

impl Tensor {
    fn numbers<T: Sample>(&self, what: &str) -> Outcome<&[T]> {
        match T::of(&self.data) {
            Some(data) => Ok(data),
            None => fail(format!("{what} holds another type of number than the first input")),
        }
    }

    fn rank<const N: usize>(&self, what: &str) -> Outcome<[usize; N]> {
        match <[usize; N]>::try_from(self.shape.as_slice()) {
            Ok(shape) => Ok(shape),
            Err(_) => fail(format!("{what} has shape {:?}, rank {N} is expected", self.shape)),
        }
    }
}
