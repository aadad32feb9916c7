//! The set `rounding`: queries in half precision, turned by transformers' own functions, bit for bit.

use super::super::compare::Worst;
use super::super::set::{Data, Outcome, Record, fail};
use half::{bf16, f16};
use posenc::rotate::Rounding;
use posenc::{Element, Pairing, Rotation, Turn, View, ViewMut};

/// Runs a record: no bit may differ, and in each other mode of rounding some must.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    match &record.tensor("q")?.data {
        Data::Bf16(_) => check_as(record, |data| if let Data::Bf16(x) = data { Some(x) } else { None }, bf16::to_bits),
        Data::F16(_) => check_as(record, |data| if let Data::F16(x) = data { Some(x) } else { None }, f16::to_bits),
        _ => fail("its queries are not in half precision"),
    }
}

fn check_as<'a, T: Element<Real = f32>>(record: &Record<'a>, of: fn(&Data) -> Option<&Vec<T>>, bits: fn(T) -> u16) -> Outcome<Worst> {
    let rounding: Rounding = serde_json::from_value(record.json["rounding"].clone()).map_err(|error| format!("rounding: {error}"))?;
    let pairing: Pairing = serde_json::from_value(record.json["pairing"].clone()).map_err(|error| format!("pairing: {error}"))?;
    let ((tables, cos), (_, sin)) = (record.f32s::<3>("cos32")?, record.f32s::<3>("sin32")?);
    let rotation: Rotation<f32> = Rotation::from_tables(View::new(cos, tables)?, View::new(sin, tables)?, pairing)?;
    let tensor = |name: &str| -> Outcome<(&'a [usize], &'a [T])> {
        let tensor = record.tensor(name)?;
        match of(&tensor.data) {
            Some(data) => Ok((&tensor.shape, data)),
            None => fail(format!("tensor `{name}` is of another type than q")),
        }
    };
    let differing = |rounding: Rounding, turn: Turn, from: &str, to: &str| -> Outcome<Vec<usize>> {
        let ((shape, x), (_, expected)) = (tensor(from)?, tensor(to)?);
        let Ok(shape) = <[usize; 4]>::try_from(shape) else {
            return fail(format!("tensor `{from}` is not of rank 4"));
        };
        let mut out = x.to_vec();
        rotation
            .clone()
            .rounded(rounding)
            .apply_into(turn, View::new(x, shape)?, ViewMut::new(&mut out, shape)?)?;
        let differs = |i: &usize| bits(out[*i]) != bits(expected[*i]);
        Ok((0..expected.len()).filter(differs).collect())
    };
    let mut passes = vec![(Turn::Forward, "q", "q_out")];
    // Where turning is rounded once, autograd still casts the two parts of a gradient apart: there are more roundings in it than in what it is the gradient of.
    if rounding != Rounding::Once {
        passes.push((Turn::Adjoint, "g", "grad"));
    }
    for (turn, from, to) in passes {
        if let Some(first) = differing(rounding, turn, from, to)?.first() {
            return fail(format!("{to}[{first}] is not the record's to the bit"));
        }
        for other in [Rounding::Once, Rounding::Tables, Rounding::EachStep] {
            if other != rounding && differing(other, turn, from, to)?.is_empty() {
                return fail(format!("{other:?} gives the same bits in {to}: the record tells nothing apart"));
            }
        }
    }
    Ok(Worst::default())
}
