//! A rotation is data: cosines and sines per token and pair, and how pairs lie in a row.
//!
//! One concrete type serves in place, out of place and on load: rows in, rows out.

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use crate::rotate::{Pairing, Slice};
use crate::view::{View, ViewMut};

/// Which way to turn. `Adjoint` and `Inverse` differ as soon as a table carries a factor, so they have two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The method's own rotation (times the table's factor).
    Forward,
    /// The transpose of [`Turn::Forward`]: what gradients go through.
    Adjoint,
    /// Undoes [`Turn::Forward`].
    Inverse,
}

/// Which stream a rotation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Queries.
    Query,
    /// Keys.
    Key,
}

/// The rotation of one stream: `cos` and `sin` are `[batch, seq, pairs]` (a batch of 1 serves all).
#[derive(Clone, Debug)]
pub struct Rotation<R> {
    cos: Vec<R>,
    sin: Vec<R>,
    batch: usize,
    len: usize,
    pairs: usize,
    pairing: Pairing,
    slice: Slice,
    /// What `cos` and `sin` were multiplied by (YaRN's table factor; 1 in plain RoPE).
    factor: f64,
}

/// The rotations of queries and of keys in one call.
#[derive(Clone, Debug)]
pub struct RotationPair<R> {
    /// Of the queries.
    pub query: Rotation<R>,
    /// Of the keys.
    pub key: Rotation<R>,
}

impl<R> RotationPair<R> {
    /// The rotation of one side.
    pub fn side(&self, side: Side) -> &Rotation<R> {
        match side {
            Side::Query => &self.query,
            Side::Key => &self.key,
        }
    }
}

impl<R: Real> Rotation<R> {
    /// A rotation by `angle(batch, token, pair)` in radians; `None` leaves a token as it is.
    pub(crate) fn from_angles(
        [batch, len, pairs]: [usize; 3],
        pairing: Pairing,
        factor: f64,
        mut angle: impl FnMut(usize, usize, usize) -> Option<(f64, f64)>,
    ) -> Rotation<R> {
        let size = batch * len * pairs;
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for b in 0..batch {
            for t in 0..len {
                for i in 0..pairs {
                    let (c, s) = angle(b, t, i).map_or((1.0, 0.0), |(c, s)| (c * factor, s * factor));
                    cos.push(R::of(c));
                    sin.push(R::of(s));
                }
            }
        }
        Rotation {
            cos,
            sin,
            batch,
            len,
            pairs,
            pairing,
            slice: Slice::Leading,
            factor,
        }
    }

    /// The same of this end of each row.
    pub(crate) fn of(self, slice: Slice) -> Rotation<R> {
        Rotation { slice, ..self }
    }

    /// The columns that turn in a row of this width.
    #[inline(always)]
    fn columns(&self, width: usize) -> std::ops::Range<usize> {
        match self.slice {
            Slice::Leading => 0..2 * self.pairs,
            Slice::Trailing => width - 2 * self.pairs..width,
        }
    }

    /// Tokens in a row of the batch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows of the batch that differ; 1 if all share their positions.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Columns that are turned; the rest of a row passes through.
    pub fn rotary_dim(&self) -> usize {
        2 * self.pairs
    }

    /// Cosines of a token's pairs, times the table's factor.
    pub fn cos(&self, batch: usize, token: usize) -> &[R] {
        &self.cos[self.start(batch, token)..][..self.pairs]
    }

    /// Sines of a token's pairs, times the table's factor.
    pub fn sin(&self, batch: usize, token: usize) -> &[R] {
        &self.sin[self.start(batch, token)..][..self.pairs]
    }

    #[inline(always)]
    fn start(&self, batch: usize, token: usize) -> usize {
        ((if self.batch == 1 { 0 } else { batch }) * self.len + token) * self.pairs
    }

    /// Turns one row in place, of the width of a head.
    #[inline]
    pub fn turn_row(&self, turn: Turn, batch: usize, token: usize, row: &mut [R]) {
        let columns = self.columns(row.len());
        self.turn_columns(turn, batch, token, &mut row[columns]);
    }

    /// Turns the columns that turn.
    #[inline]
    fn turn_columns(&self, turn: Turn, batch: usize, token: usize, row: &mut [R]) {
        let (cos, sin) = (self.cos(batch, token), self.sin(batch, token));
        // Forward: (c, s). Transposed: (c, −s). Inverse: the transpose divided by the determinant, which is factor².
        let (sign, scale) = match turn {
            Turn::Forward => (R::ONE, R::ONE),
            Turn::Adjoint => (-R::ONE, R::ONE),
            Turn::Inverse => (-R::ONE, R::of(1.0 / (self.factor * self.factor))),
        };
        match self.pairing {
            Pairing::Halves | Pairing::HalvesTwice => {
                // Pairs of one block: all, or half of them.
                let pairs = if self.pairing == Pairing::Halves {
                    self.pairs
                } else {
                    self.pairs / 2
                };
                for (block, row) in row.chunks_exact_mut((2 * pairs).max(1)).enumerate() {
                    let (cos, sin) = (&cos[block * pairs..], &sin[block * pairs..]);
                    let (low, high) = row.split_at_mut(pairs);
                    for i in 0..pairs {
                        let (c, s) = (cos[i] * scale, sin[i] * sign * scale);
                        let (x, y) = (low[i], high[i]);
                        low[i] = x * c - y * s;
                        high[i] = x * s + y * c;
                    }
                }
            }
            Pairing::Interleaved => {
                for (i, pair) in row.chunks_exact_mut(2).enumerate() {
                    let (c, s) = (cos[i] * scale, sin[i] * sign * scale);
                    let (x, y) = (pair[0], pair[1]);
                    pair[0] = x * c - y * s;
                    pair[1] = x * s + y * c;
                }
            }
            Pairing::InterleavedToHalves => {
                // Read and written in different orders: no pair can be turned where it lies. The way back reads halves.
                let before = row.to_vec();
                let (neighbours, halves) = (|i: usize| (2 * i, 2 * i + 1), |i: usize| (i, i + self.pairs));
                for i in 0..self.pairs {
                    let (c, s) = (cos[i] * scale, sin[i] * sign * scale);
                    let ((a, b), (to_a, to_b)) = match turn {
                        Turn::Forward => (neighbours(i), halves(i)),
                        Turn::Adjoint | Turn::Inverse => (halves(i), neighbours(i)),
                    };
                    row[to_a] = before[a] * c - before[b] * s;
                    row[to_b] = before[a] * s + before[b] * c;
                }
            }
        }
    }

    /// Turns `x` `[batch, heads, seq, head_dim]` in place.
    ///
    /// # Errors
    /// Another length, a batch that does not fit the positions, or rows narrower than the rotation.
    pub fn apply<T: Element<Real = R>>(&self, turn: Turn, mut x: ViewMut<'_, T, 4>) -> Result<()> {
        let shape = x.shape();
        self.check("x [batch, heads, seq, head_dim]", shape)?;
        let mut row = vec![R::ZERO; 2 * self.pairs];
        for b in 0..shape[0] {
            for h in 0..shape[1] {
                for t in 0..shape[2] {
                    let x = &mut x.row_mut([b, h, t, 0])[self.columns(shape[3])];
                    row.iter_mut().zip(&*x).for_each(|(r, x)| *r = x.widen());
                    self.turn_columns(turn, b, t, &mut row);
                    x.iter_mut().zip(&row).for_each(|(x, r)| *x = T::narrow(*r));
                }
            }
        }
        Ok(())
    }

    /// Turns `x` into `out`, both `[batch, heads, seq, head_dim]`.
    ///
    /// # Errors
    /// As [`Rotation::apply`], or `out` of another shape.
    pub fn apply_into<T: Element<Real = R>>(&self, turn: Turn, x: View<'_, T, 4>, out: ViewMut<'_, T, 4>) -> Result<()> {
        let shape = x.shape();
        self.check("x [batch, heads, seq, head_dim]", shape)?;
        let mut out = out.shaped("out [batch, heads, seq, head_dim]", shape)?;
        let mut row = vec![R::ZERO; shape[3]];
        for b in 0..shape[0] {
            for h in 0..shape[1] {
                for t in 0..shape[2] {
                    row.iter_mut().zip(x.row([b, h, t, 0])).for_each(|(r, x)| *r = x.widen());
                    self.turn_row(turn, b, t, &mut row);
                    out.row_mut([b, h, t, 0]).iter_mut().zip(&row).for_each(|(x, r)| *x = T::narrow(*r));
                }
            }
        }
        Ok(())
    }

    fn check(&self, what: &'static str, [batch, heads, len, head_dim]: [usize; 4]) -> Result<()> {
        if len != self.len || (self.batch != 1 && self.batch != batch) || head_dim < 2 * self.pairs {
            return Err(Error::Shape {
                what,
                expected: vec![
                    if self.batch == 1 { batch } else { self.batch },
                    heads,
                    self.len,
                    head_dim.max(2 * self.pairs),
                ],
                given: vec![batch, heads, len, head_dim],
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const LEN: usize = 5;

    /// Three pairs of rows of eight, with a table factor as YaRN has one.
    fn rotation(pairing: Pairing, factor: f64) -> Rotation<f64> {
        Rotation::from_angles([1, LEN, 3], pairing, factor, |_, t, i| {
            Some((0.7 * t as f64 / (i + 1) as f64).sin_cos()).map(|(s, c)| (c, s))
        })
    }

    fn random(n: usize) -> Vec<f64> {
        let mut rng = Rng::new(3);
        (0..n).map(|_| rng.normal()).collect()
    }

    /// Bounds of this module: a turned coordinate is two products and a sum of numbers below 4, each rounded to 2⁻⁵³; a dozen of them stay below 1e-14.
    const BOUND: f64 = 1e-14;

    #[test]
    fn the_inverse_undoes_and_the_adjoint_transposes_also_with_a_table_factor() {
        for (pairing, slice) in [
            (Pairing::Halves, Slice::Leading),
            (Pairing::Interleaved, Slice::Leading),
            (Pairing::InterleavedToHalves, Slice::Leading),
            (Pairing::Halves, Slice::Trailing),
        ] {
            // Columns that turn, and those that do not.
            let (turned_columns, others) = match slice {
                Slice::Leading => (0..6, 6..8),
                Slice::Trailing => (2..8, 0..2),
            };
            for factor in [1.0, 1.3] {
                let rotation = rotation(pairing, factor).of(slice);
                for t in 0..LEN {
                    let (x, y) = (random(8), random(16)[8..].to_vec());
                    let turned = |turn, row: &[f64]| {
                        let mut row = row.to_vec();
                        rotation.turn_row(turn, 0, t, &mut row);
                        row
                    };
                    let there = turned(Turn::Forward, &x);
                    for (back, x) in turned(Turn::Inverse, &there).iter().zip(&x) {
                        assert!((back - x).abs() <= BOUND);
                    }
                    let dot = |a: &[f64], b: &[f64]| turned_columns.clone().map(|i| a[i] * b[i]).sum::<f64>();
                    assert!((dot(&there, &y) - dot(&x, &turned(Turn::Adjoint, &y))).abs() <= 4.0 * BOUND);
                    assert!(
                        (dot(&there, &there) - factor * factor * dot(&x, &x)).abs() <= 16.0 * BOUND,
                        "norms grow by the factor alone"
                    );
                    assert_eq!(there[others.clone()], x[others.clone()], "columns past the rotation pass through");
                }
            }
        }
    }

    #[test]
    fn in_place_and_out_of_place_agree_in_every_layout_and_precision() {
        let rotation: Rotation<f32> = Rotation::from_angles([1, LEN, 3], Pairing::Halves, 1.0, |_, t, i| {
            let (s, c) = (0.3 * (t * (i + 1)) as f64).sin_cos();
            Some((c, s))
        });
        let shape = [2, LEN, 3, 8]; // [batch, seq, heads, head_dim], heads moved to the front below
        let x: Vec<half::bf16> = random(2 * LEN * 3 * 8).iter().map(|x| half::bf16::from_f64(*x)).collect();
        let mut out = vec![half::bf16::NAN; x.len()];
        let view = View::new(&x, shape).unwrap().swap(1, 2).unwrap();
        rotation
            .apply_into(Turn::Forward, view, ViewMut::new(&mut out, shape).unwrap().swap(1, 2).unwrap())
            .unwrap();
        let mut place = x.clone();
        rotation
            .apply(Turn::Forward, ViewMut::new(&mut place, shape).unwrap().swap(1, 2).unwrap())
            .unwrap();
        assert_eq!(out, place);
        // One rounding: the exact turn of the stored numbers, narrowed.
        let (row, turned) = (&x[8 * 3 * 2..][..8], &out[8 * 3 * 2..][..8]);
        let mut exact: Vec<f32> = row.iter().map(|x| x.to_f32()).collect();
        rotation.turn_row(Turn::Forward, 0, 2, &mut exact);
        assert_eq!(turned, exact.iter().map(|x| half::bf16::from_f32(*x)).collect::<Vec<_>>());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let rotation = rotation(Pairing::Halves, 1.0);
        let mut x = vec![0.0; 2 * LEN * 4];
        let narrow = ViewMut::new(&mut x, [1, 2, LEN, 4]).unwrap();
        assert!(matches!(rotation.apply(Turn::Forward, narrow), Err(Error::Shape { .. })));
        let mut x = vec![0.0; 8];
        let short = ViewMut::new(&mut x, [1, 1, 1, 8]).unwrap();
        assert!(matches!(rotation.apply(Turn::Forward, short), Err(Error::Shape { .. })));
    }
}
