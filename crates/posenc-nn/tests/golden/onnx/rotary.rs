//! `RotaryEmbedding` (opset 23).

use super::{Node, Sample, exact, widened};
use crate::golden::bounded::Bounded;
use crate::golden::compare::{Worst, within_each};
use crate::golden::format::F32;
use crate::golden::set::{Data, Outcome, fail};
use posenc::embed::lookup;
use posenc::{Pairing, Positions, Rotation, Turn, View, ViewMut};

/// X `[batch, heads, seq, head_dim]`, or `[batch, seq, heads·head_dim]` with `num_heads`; caches `[positions, r/2]` with position ids `[batch, seq]`, or `[batch, seq, r/2]` without; r is
/// `rotary_embedding_dim`, or the whole head where that is 0.
pub fn check<T: Sample + Default>(node: Node<'_>) -> Outcome<Worst> {
    node.only(4, 1, &["interleaved", "num_heads", "rotary_embedding_dim"])?;
    let (x, y) = (node.required("inputs", 0)?, node.required("outputs", 0)?);
    let data = x.numbers::<T>("X")?;
    let flat = x.shape.len() == 3;
    let [batch, heads, len, head_dim] = if flat {
        let [batch, len, hidden] = x.rank("X")?;
        let heads = node.heads("num_heads")?;
        if hidden % heads != 0 {
            return fail(format!("{heads} heads do not divide a width of {hidden}"));
        }
        [batch, heads, len, hidden / heads]
    } else {
        x.rank("X")?
    };
    let rotary_dim = match node.attribute("rotary_embedding_dim", 0)? {
        0 => head_dim,
        r => match usize::try_from(r) {
            Ok(r) if r <= head_dim => r,
            _ => return fail(format!("`attrs.rotary_embedding_dim` is {r} in heads of {head_dim}")),
        },
    };
    let pairing = match node.attribute("interleaved", 0)? {
        0 => Pairing::Halves,
        1 => Pairing::Interleaved,
        other => return fail(format!("`attrs.interleaved` is {other}")),
    };
    let pairs = rotary_dim / 2;
    if rotary_dim % 2 != 0 {
        return fail(format!("{rotary_dim} coordinates do not make pairs"));
    }

    let ids = node.operand("inputs", 3)?;
    let mut tables = Vec::new();
    for (place, what) in [(1, "cos_cache"), (2, "sin_cache")] {
        let cache = node.required("inputs", place)?;
        let numbers = cache.numbers::<T>(what)?;
        let rows = match ids {
            Some(ids) => {
                let Data::I64(numbers_of_ids) = &ids.data else {
                    return fail("position_ids are not i64");
                };
                if ids.shape != [batch, len] {
                    return fail(format!("position_ids have shape {:?}", ids.shape));
                }
                let mut rows = vec![T::default(); batch * len * pairs];
                let at = Positions::whole_rows(numbers_of_ids, batch)?;
                let table = View::new(numbers, cache.rank(what)?)?;
                lookup(&at, table, ViewMut::new(&mut rows, [batch, len, pairs])?)?;
                rows
            }
            None => {
                View::new(numbers, cache.rank(what)?)?.shaped("cache [batch, seq, pairs]", [batch, len, pairs])?;
                numbers.to_vec()
            }
        };
        tables.push(rows);
    }
    let table = |i: usize| View::new(&tables[i], [batch, len, pairs]);
    let rotation: Rotation<f32> = Rotation::from_tables(table(0)?, table(1)?, pairing)?;
    let mut ours = vec![T::narrow(f32::NAN); data.len()];
    if flat {
        let shape = [batch, len, heads, head_dim];
        let (x, out) = (View::new(data, shape)?.swap(1, 2)?, ViewMut::new(&mut ours, shape)?.swap(1, 2)?);
        rotation.apply_into(Turn::Forward, x, out)?;
    } else {
        let shape = [batch, heads, len, head_dim];
        rotation.apply_into(Turn::Forward, View::new(data, shape)?, ViewMut::new(&mut ours, shape)?)?;
    }
    if y.shape != x.shape {
        return fail(format!("the output has shape {:?}", y.shape));
    }

    // Two products and their sum: in f32 and rounded once at the end here, each step in the operator's type there.
    let (mut by_us, mut by_them) = (Vec::new(), Vec::new());
    for (at, number) in data.iter().enumerate() {
        let (row, c) = (at - at % head_dim, at % head_dim);
        let (b, t) = if flat {
            (at / (len * heads * head_dim), at / (heads * head_dim) % len)
        } else {
            (at / (heads * len * head_dim), at / head_dim % len)
        };
        if c >= rotary_dim {
            by_us.push(exact(*number));
            by_them.push(exact(*number));
            continue;
        }
        let (pair, partner) = match pairing {
            Pairing::Halves => (c % pairs, (c + pairs) % rotary_dim),
            // The operator knows no third.
            _ => (c / 2, c ^ 1),
        };
        let is_first = if pairing == Pairing::Halves { c < pairs } else { c % 2 == 0 };
        let of_token = (b * len + t) * pairs + pair;
        let sine = exact(tables[1][of_token]).scaled(if is_first { -1.0 } else { 1.0 });
        let terms: [(Bounded, Bounded); 2] = [(exact(tables[0][of_token]), exact(*number)), (sine, exact(data[row + partner]))];
        by_us.push(T::FORMAT.narrowed(F32.dot(terms, 0.0), F32));
        by_them.push(T::FORMAT.dot(terms, 0.0));
    }
    let theirs = y.numbers::<T>("the output")?;
    Ok(within_each(
        "Y",
        &x.shape,
        [(&widened(&ours), &by_us), (&widened(theirs), &by_them)],
    )?)
}
