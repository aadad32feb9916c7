//! A rotation is data: cosines and sines per token and pair, and how pairs lie in a row.
//!
//! One concrete type serves in place, out of place and on load: rows in, rows out.

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use crate::rotate::Pairing;
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
            factor,
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

    /// Turns one row in place.
    #[inline]
    pub fn turn_row(&self, turn: Turn, batch: usize, token: usize, row: &mut [R]) {
        let (cos, sin) = (self.cos(batch, token), self.sin(batch, token));
        // Forward: (c, s). Transposed: (c, −s). Inverse: the transpose divided by the determinant, which is factor².
        let (sign, scale) = match turn {
            Turn::Forward => (R::ONE, R::ONE),
            Turn::Adjoint => (-R::ONE, R::ONE),
            Turn::Inverse => (-R::ONE, R::of(1.0 / (self.factor * self.factor))),
        };
        match self.pairing {
            Pairing::Halves => {
                let (low, high) = row[..2 * self.pairs].split_at_mut(self.pairs);
                for i in 0..self.pairs {
                    let (c, s) = (cos[i] * scale, sin[i] * sign * scale);
                    let (x, y) = (low[i], high[i]);
                    low[i] = x * c - y * s;
                    high[i] = x * s + y * c;
                }
            }
            Pairing::Interleaved => {
                for (i, pair) in row[..2 * self.pairs].chunks_exact_mut(2).enumerate() {
                    let (c, s) = (cos[i] * scale, sin[i] * sign * scale);
                    let (x, y) = (pair[0], pair[1]);
                    pair[0] = x * c - y * s;
                    pair[1] = x * s + y * c;
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
                    let x = &mut x.row_mut([b, h, t, 0])[..2 * self.pairs];
                    row.iter_mut().zip(&*x).for_each(|(r, x)| *r = x.widen());
                    self.turn_row(turn, b, t, &mut row);
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
        let mut out = out.expect("out [batch, heads, seq, head_dim]", shape)?;
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
