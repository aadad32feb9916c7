//! Biases written out as matrices.

use crate::error::{Error, Result};
use crate::kernels::{Present, Written, write_rows};
use crate::positions::{At, AtIds, Positions};
use crate::real::{Element, Real};
use crate::term::{BlockMut, Granularity, Place, ScoreTerm, TermGrads, Tile};
use crate::view::{View, ViewMut};

/// Positions so near 0 that the distance of any two of them is a whole number.
const NEAR: i64 = 1 << 61;

/// The matrix of a bias, `[heads, q_len, k_len]`, for the one-call functions.
pub(super) fn write_matrix<R: Real>(
    term: &dyn ScoreTerm<R>,
    heads: usize,
    q_at: &Positions,
    k_at: &Positions,
    out: ViewMut<'_, R, 3>,
) -> Result<()> {
    let expected = [heads, q_at.len(), k_at.len()];
    if out.shape() != expected {
        return Err(Error::Shape {
            what: "bias [heads, q_len, k_len]",
            expected: expected.to_vec(),
            given: out.shape().to_vec(),
        });
    }
    q_at.check_fit("query positions [1, seq]", 1, q_at.len())?;
    k_at.check_fit("key positions [1, seq]", 1, k_at.len())?;
    write_terms(std::iter::once(term), 1, [q_at, k_at], out.with_batch());
    Ok(())
}

/// The sum of terms that read positions alone, over `out` `[batch, heads, q_len, k_len]`, whose shape fits the positions; `group` query heads have one key head.
pub(crate) fn write_terms<'t, R: Real, T: Element<Real = R>>(
    terms: impl Iterator<Item = &'t dyn ScoreTerm<R>> + Clone + Send + Sync,
    group: usize,
    [q_at, k_at]: [&Positions; 2],
    out: ViewMut<'_, T, 4>,
) {
    let near = |at: &Positions| at.start().filter(|first| first.unsigned_abs() < NEAR as u64);
    let ranges = near(q_at).and(near(k_at));
    let needs = |wanted: fn(&dyn ScoreTerm<R>) -> bool| terms.clone().any(wanted);
    let how = if ranges.is_some() && !needs(|term| !term.needs().by_distance) {
        Written::ByDistance
    } else if needs(|term| term.needs().granularity == Granularity::WholeRows) {
        Written::WholeRows
    } else {
        Written::Parts
    };
    write_rows(Present::current(), out, how, |[batch, head, i], first, row| {
        let at = Place {
            batch,
            head,
            kv_head: head / group,
            q0: i,
            k0: first.max(0) as usize,
            q_at: q_at.at(0, batch, i, 1),
            k_at: match ranges {
                Some(start) => At {
                    ids: AtIds::Range(start + first),
                    present: None,
                },
                None => k_at.at(0, batch, first as usize, row.len()),
            },
            scale: 1.0,
        };
        let n = row.len();
        let tile = Tile::of_positions(at);
        let mut block = BlockMut::new(row, 1, n, n);
        let mut terms = terms.clone();
        match terms.next() {
            Some(first) => first.write(&tile, &mut block),
            None => block.clear(),
        }
        terms.for_each(|term| term.add(&tile, &mut block));
    });
}

/// The adjoint of [`write_terms`]: adds what the gradient `d_out` of the matrix gives each term to its slots, `[heads · slots]` in the terms' order. Rows are taken one after the other, so the sums
/// are the same however many threads there are.
pub(crate) fn gather_terms<'t, R: Real, T: Element<Real = R>>(
    terms: impl Iterator<Item = &'t dyn ScoreTerm<R>> + Clone,
    group: usize,
    [q_at, k_at]: [&Positions; 2],
    d_out: View<'_, T, 4>,
    slots: &mut [Vec<R>],
) {
    let [batch, heads, q_len, k_len] = d_out.shape();
    let (mut row, mut nothing) = (vec![R::ZERO; k_len], ([], []));
    for (batch, head) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        for i in 0..q_len {
            for (term, slots) in terms.clone().zip(slots.iter_mut()) {
                // A term may write over what it is given.
                row.iter_mut()
                    .zip(d_out.row([batch, head, i, 0]))
                    .for_each(|(to, from)| *to = from.widen());
                let at = Place {
                    batch,
                    head,
                    kv_head: head / group,
                    q0: i,
                    k0: 0,
                    q_at: q_at.at(0, batch, i, 1),
                    k_at: k_at.at(0, batch, 0, k_len),
                    scale: 1.0,
                };
                let size = term.needs().slots;
                let mut into = TermGrads {
                    dq: BlockMut::new(&mut nothing.0, 0, 0, 0),
                    dk: BlockMut::new(&mut nothing.1, 0, 0, 0),
                    slots: &mut slots[head * size..][..size],
                };
                term.adjoint(&Tile::of_positions(at), &mut BlockMut::new(&mut row, 1, k_len, k_len), &mut into);
            }
        }
    }
}
