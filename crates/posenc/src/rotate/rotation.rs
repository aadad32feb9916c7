//! A rotation is data: cosines and sines per token and pair, and how pairs lie in a row.
//!
//! One concrete type serves in place, out of place and on load: rows in, rows out.

use crate::error::{Error, Result};
use crate::kernels::{self, Own, Present, Tables};
use crate::memory;
use crate::real::{Element, Real};
use crate::rotate::{Pairing, Rounding, Slice};
use crate::steps::Layout;
use crate::view::{View, ViewMut};

/// What memory is asked for.
const TABLES: &str = "cosines and sines [batch, seq, pairs]";

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

/// The rotation of one stream: `cos` and `sin` are `[batch, seq, heads, pairs]` (a batch of 1 serves all, and so does one head).
#[derive(Clone, Debug)]
pub struct Rotation<R> {
    cos: Vec<R>,
    sin: Vec<R>,
    batch: usize,
    len: usize,
    /// Tokens that each row of the tables has room for.
    room: usize,
    /// Heads that differ: 1, but where a model turns before it splits its width into heads.
    heads: usize,
    /// Of a head.
    pairs: usize,
    pairing: Pairing,
    slice: Slice,
    rounding: Rounding,
    /// What `cos` and `sin` were multiplied by (YaRN's table factor; 1 in plain RoPE); not known of tables that were given.
    factor: Option<f64>,
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
    /// A rotation by the angles that `angles(batch, token, into)` writes, in radians, one for each pair; tokens for which it gives `false` stay as they are. Tokens are worked on in any order, by
    /// the caller's pool where there are many.
    ///
    /// # Errors
    /// The first that `angles` gives, in the order of tokens.
    pub(crate) fn from_angles(
        [batch, len, pairs]: [usize; 3],
        pairing: Pairing,
        factor: f64,
        [mut cos, mut sin]: [Vec<R>; 2],
        angles: impl Fn(usize, usize, &mut [f64]) -> Result<bool> + Sync,
    ) -> Result<Rotation<R>> {
        for table in [&mut cos, &mut sin] {
            // What is there is written over.
            let size = memory::reserve(TABLES, table, &[batch, len, pairs])?;
            table.resize(size, R::ZERO);
        }
        fill::by_angles(pairs, factor, [&mut cos, &mut sin], |token, into| {
            angles(token / len, token % len, into)
        })?;
        Ok(Rotation::filled([batch, len, pairs], pairing, factor, [cos, sin]))
    }

    /// A rotation by positions times frequencies: of pair i `frequencies[i]` times the position that `position(batch, token, axes[i])` gives, `None` for tokens that stay as they are. What a
    /// position gives depends on nothing else, however many there are.
    ///
    /// # Errors
    /// A position whose angle is not finite.
    pub(crate) fn from_positions(
        [batch, len, pairs]: [usize; 3],
        pairing: Pairing,
        factor: f64,
        [mut cos, mut sin]: [Vec<R>; 2],
        frequencies: &[f64],
        axes: &[usize],
        position: impl Fn(usize, usize, usize) -> Option<f64> + Sync,
    ) -> Result<Rotation<R>> {
        for table in [&mut cos, &mut sin] {
            let size = memory::reserve(TABLES, table, &[batch, len, pairs])?;
            table.resize(size, R::ZERO);
        }
        fill::by_positions(frequencies, axes, factor, [&mut cos, &mut sin], |token, axis| {
            position(token / len, token % len, axis)
        })?;
        Ok(Rotation::filled([batch, len, pairs], pairing, factor, [cos, sin]))
    }

    fn filled([batch, len, pairs]: [usize; 3], pairing: Pairing, factor: f64, [cos, sin]: [Vec<R>; 2]) -> Rotation<R> {
        Rotation {
            cos,
            sin,
            batch,
            len,
            room: len,
            heads: 1,
            pairs,
            pairing,
            slice: Slice::Leading,
            rounding: Rounding::Once,
            factor: Some(factor),
        }
    }

    /// The same tokens up to the first `kept`, then those of `more`: a rotation of the same kind. `false` where there is no memory for them; it is half made then.
    #[must_use]
    pub(crate) fn go_on(&mut self, kept: usize, more: &Rotation<R>) -> bool {
        let layout = Layout {
            batch: self.batch,
            len: self.len,
            room: self.room,
            width: self.heads * self.pairs,
        };
        let cos = layout.go_on(&mut self.cos, kept, &more.cos, more.len);
        let (Some(_), Some(Layout { len, room, .. })) = (cos, layout.go_on(&mut self.sin, kept, &more.sin, more.len)) else {
            return false;
        };
        (self.len, self.room) = (len, room);
        true
    }

    /// Its memory, for another.
    pub(crate) fn take_tables(&mut self) -> [Vec<R>; 2] {
        self.len = 0;
        [std::mem::take(&mut self.cos), std::mem::take(&mut self.sin)]
    }

    /// The same where rows of half precision are rounded in this way.
    ///
    /// ```
    /// use posenc::rotate::Rounding;
    /// use posenc::{Pairing, Positions, Rotary, Rotation};
    /// let eager: Rotation<f32> = Rotary::new(Pairing::Halves).rotation(4, &Positions::range(0..3))?.rounded(Rounding::EachStep);
    /// # let _ = eager;
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn rounded(self, rounding: Rounding) -> Rotation<R> {
        Rotation { rounding, ..self }
    }

    /// The same with each pair of each token stretched by `by(batch, token, pair)`.
    pub(crate) fn stretched(mut self, by: impl Fn(usize, usize, usize) -> f64) -> Rotation<R> {
        let (len, pairs) = (self.len, self.pairs);
        for table in [&mut self.cos, &mut self.sin] {
            for (at, x) in table.iter_mut().enumerate() {
                let (token, pair) = (at / pairs, at % pairs);
                *x = R::of(x.to_f64() * by(token / len, token % len, pair));
            }
        }
        Rotation { factor: None, ..self }
    }

    /// A rotation of a whole width as one of `heads` heads side by side, each with its own part of the pairs.
    pub(crate) fn split(self, heads: usize) -> Rotation<R> {
        Rotation {
            heads,
            pairs: self.pairs / heads,
            ..self
        }
    }

    /// The same of this end of each row.
    pub(crate) fn of(self, slice: Slice) -> Rotation<R> {
        Rotation { slice, ..self }
    }

    /// How the columns of a row are paired.
    pub fn pairing(&self) -> Pairing {
        self.pairing
    }

    /// The columns that turn in a row of this width, at least [`Rotation::rotary_dim`].
    ///
    /// # Panics
    /// If the row is narrower.
    #[inline(always)]
    pub fn columns(&self, width: usize) -> std::ops::Range<usize> {
        match self.slice {
            Slice::Leading => 0..2 * self.pairs,
            Slice::Trailing => width - 2 * self.pairs..width,
        }
    }

    /// A rotation by cosines and sines that someone else computed, both `[batch, seq, pairs]` (a batch of 1 serves all): what ONNX's `RotaryEmbedding` takes
    /// as its caches, once [`lookup`](crate::embed::lookup) has read the rows of its position ids. A table that stores each cosine twice is given by
    /// its first half, or by every second column.
    ///
    /// Whether they are cosines and sines of anything is not checked, so [`Turn::Inverse`] divides each pair by its own cos² + sin²; a pair whose cosine
    /// and sine are both 0 cannot be undone and becomes 0.
    ///
    /// # Errors
    /// Tables of different shapes, or no pairs.
    ///
    /// ```
    /// use posenc::{Pairing, Positions, Rotation, Turn, View, ViewMut, embed::lookup};
    /// let (cos_cache, sin_cache) = ([1.0f32, 0.0, -1.0], [0.0, 1.0, 0.0]); // three positions, one pair: quarter turns
    /// let (mut cos, mut sin) = ([0.0; 2], [0.0; 2]);
    /// let ids = Positions::whole(&[2, 1]);
    /// lookup(&ids, View::new(&cos_cache, [3, 1])?, ViewMut::new(&mut cos, [1, 2, 1])?)?;
    /// lookup(&ids, View::new(&sin_cache, [3, 1])?, ViewMut::new(&mut sin, [1, 2, 1])?)?;
    /// let rotation: Rotation<f32> = Rotation::from_tables(View::new(&cos, [1, 2, 1])?, View::new(&sin, [1, 2, 1])?, Pairing::Halves)?;
    /// let mut x = [1.0f32, 0.0, 1.0, 0.0]; // two tokens
    /// rotation.apply(Turn::Forward, ViewMut::new(&mut x, [1, 1, 2, 2])?)?;
    /// assert_eq!(x, [-1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "cos_cache")]
    #[doc(alias = "sin_cache")]
    #[doc(alias = "cos_cached")]
    pub fn from_tables<T: Element<Real = R>>(cos: View<'_, T, 3>, sin: View<'_, T, 3>, pairing: Pairing) -> Result<Rotation<R>> {
        let [batch, len, pairs] = cos.shape();
        let sin = sin.shaped("sin [batch, seq, pairs], as cos", [batch, len, pairs])?;
        if pairs == 0 {
            return Err(Error::Zero { what: "pairs" });
        }
        // A view may repeat a few rows any number of times.
        memory::check::<[R; 2]>(TABLES, &[batch, len, pairs])?;
        let widened = |table: View<'_, T, 3>| -> Vec<R> {
            // The other axes of an empty table may have any lengths.
            let batch = if table.is_empty() { 0 } else { batch };
            let rows = (0..batch).flat_map(|b| (0..len).map(move |t| [b, t, 0]));
            // One NaN for all: kernels that store 16 bits count on its having no digits below them.
            let tame = |x: R| if x.to_f64().is_nan() { R::of(f64::NAN) } else { x };
            rows.flat_map(|at| table.row(at)).map(|x| tame(x.widen())).collect()
        };
        Ok(Rotation {
            cos: widened(cos),
            sin: widened(sin),
            batch,
            len,
            room: len,
            heads: 1,
            pairs,
            pairing,
            slice: Slice::Leading,
            rounding: Rounding::Once,
            factor: None,
        })
    }

    /// What turns rows that `old` has turned into rows that `new` would have turned: R(new) · R(old)⁻¹, for keys that were cached after their rotation and whose positions or
    /// frequencies have changed since. Table factors and tokens without a position are seen to. [`Rotary::rerotation`](crate::Rotary::rerotation) makes both from positions.
    ///
    /// **Error.** With `old` and `new` in f64, angles add up exactly and the cosines and sines of the difference are rounded once. A coordinate of a turned pair is then off by at most
    /// 3·2⁻²⁴ of the pair's length in f32 (the tables, the products, their sum; times the ratio of the table factors), as in any rotation; and by half a unit of
    /// what is stored: 2⁻⁸ of the coordinate in bf16. Each further turn adds at most as much again, and where one table is
    /// used again and again it errs the same way each time: a thousand turns by one position are off by 4e-5 of the pair's length in f32, and by all of it in bf16, where a pair that
    /// turns by less than about 2⁻⁹ radians is rounded back to where it was and never moves. So keep keys as they were before their rotation, or keep the position that each was
    /// first turned at, and turn from there once.
    ///
    /// # Errors
    /// Rotations of other lengths, batches, widths or pairings.
    ///
    /// ```
    /// use posenc::{Pairing, Positions, Rotary, Rotation, Turn, ViewMut};
    /// let rotary = Rotary::new(Pairing::Halves);
    /// let mut key = [0.5f32, -1.0, 2.0, 0.25];
    /// let mut fresh = key;
    /// // Turned at 1000, then moved to 10.
    /// let (old, new) = (rotary.rotation::<f64>(4, &Positions::whole(&[1000]))?, rotary.rotation::<f64>(4, &Positions::whole(&[10]))?);
    /// rotary.rotation(4, &Positions::whole(&[1000]))?.apply(Turn::Forward, ViewMut::new(&mut key, [1, 1, 1, 4])?)?;
    /// Rotation::moving(&old, &new)?.apply(Turn::Forward, ViewMut::new(&mut key, [1, 1, 1, 4])?)?;
    /// rotary.rotation(4, &Positions::whole(&[10]))?.apply(Turn::Forward, ViewMut::new(&mut fresh, [1, 1, 1, 4])?)?;
    /// assert!(key.iter().zip(&fresh).all(|(a, b)| (a - b).abs() < 1e-6));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "rerotate")]
    #[doc(alias = "shift")]
    #[doc(alias = "attention_sink")]
    pub fn moving<S: Real>(old: &Rotation<S>, new: &Rotation<S>) -> Result<Rotation<R>> {
        let fits = old.len == new.len
            && old.pairs == new.pairs
            && old.heads == new.heads
            && (old.batch == new.batch || old.batch == 1 || new.batch == 1);
        if !fits {
            return Err(Error::Shape {
                what: "the new rotation [batch, seq, pairs]",
                expected: vec![old.batch, old.len, old.pairs],
                given: vec![new.batch, new.len, new.pairs],
            });
        }
        if old.pairing != new.pairing || old.slice != new.slice {
            return Err(Error::Unsupported {
                method: "rotary",
                what: "the cached rows are paired one way and the new rotation another; put them in its order first",
            });
        }
        let batch = if old.batch == 1 { new.batch } else { old.batch };
        memory::check::<[R; 2]>(TABLES, &[batch, old.len, old.heads * old.pairs])?;
        let (mut cos, mut sin) = (
            Vec::with_capacity(batch * old.len * old.heads * old.pairs),
            Vec::with_capacity(batch * old.len * old.heads * old.pairs),
        );
        for (b, t) in (0..batch).flat_map(|b| (0..old.len).map(move |t| (b, t))) {
            let tables = [old.cos(b, t), old.sin(b, t), new.cos(b, t), new.sin(b, t)];
            for i in 0..old.heads * old.pairs {
                let [c, s, to_c, to_s] = tables.map(|table| table[i].to_f64());
                let determinant = c * c + s * s;
                // What the old rotation made 0 stays 0.
                let scale = if determinant == 0.0 { 0.0 } else { 1.0 / determinant };
                cos.push(R::of((to_c * c + to_s * s) * scale));
                sin.push(R::of((to_s * c - to_c * s) * scale));
            }
        }
        Ok(Rotation {
            cos,
            sin,
            batch,
            len: old.len,
            room: old.len,
            heads: old.heads,
            pairs: old.pairs,
            // Rows that were read as neighbours lie as halves once they are turned.
            pairing: match new.pairing {
                Pairing::InterleavedToHalves => Pairing::Halves,
                pairing => pairing,
            },
            slice: new.slice,
            rounding: new.rounding,
            factor: (old.factor == Some(1.0) && new.factor == Some(1.0)).then_some(1.0),
        })
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

    /// Heads that differ in their angles; 1 if all heads share them.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Columns of a head that are turned; the rest of a row passes through.
    pub fn rotary_dim(&self) -> usize {
        2 * self.pairs
    }

    /// Cosines of a token's pairs, times the table's factor; of all heads, one after the other, where heads differ.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn cos(&self, batch: usize, token: usize) -> &[R] {
        self.check_place(batch, token);
        &self.cos[self.start(batch, token)..][..self.heads * self.pairs]
    }

    /// Sines of a token's pairs, likewise.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn sin(&self, batch: usize, token: usize) -> &[R] {
        self.check_place(batch, token);
        &self.sin[self.start(batch, token)..][..self.heads * self.pairs]
    }

    fn check_place(&self, batch: usize, token: usize) {
        let (rows, len) = (self.batch(), self.len());
        assert!(
            token < len && (rows == 1 || batch < rows),
            "token {token} of row {batch}: the tables have {rows} rows of {len} tokens"
        );
    }

    #[inline(always)]
    fn start(&self, batch: usize, token: usize) -> usize {
        ((if self.batch == 1 { 0 } else { batch }) * self.room + token) * self.heads * self.pairs
    }

    /// Where the tables of one head begin.
    #[inline(always)]
    fn of_head_at(&self, batch: usize, head: usize, token: usize) -> usize {
        self.start(batch, token) + if self.heads == 1 { 0 } else { head * self.pairs }
    }

    /// Cosines and sines of one head.
    #[inline(always)]
    fn of_head(&self, batch: usize, head: usize, token: usize) -> (&[R], &[R]) {
        let start = self.of_head_at(batch, head, token);
        (&self.cos[start..][..self.pairs], &self.sin[start..][..self.pairs])
    }

    /// Turns one row in place, of the width of a head: the first, where heads differ. The row is of the arithmetic's own type, so there is nothing to round on the way.
    ///
    /// # Panics
    /// If there is no such token, or the row is narrower than what turns.
    #[inline]
    pub fn turn_row(&self, turn: Turn, batch: usize, token: usize, row: &mut [R]) {
        self.check_place(batch, token);
        let width = row.len();
        self.turn_rows::<R>(turn, [batch, 0, token], width, width, row);
    }

    /// Turns a head's rows, of numbers that are stored as `T` and `width` wide, that lie `ld` apart: as many as `rows` holds, of tokens that follow each other: [batch, head, first token].
    #[inline]
    pub(crate) fn turn_rows<T: Element<Real = R>>(
        &self,
        turn: Turn,
        [batch, head, token]: [usize; 3],
        width: usize,
        ld: usize,
        rows: &mut [R],
    ) {
        if self.pairs == 0 || rows.is_empty() {
            return;
        }
        let (columns, tokens) = (self.columns(width), rows.len().div_ceil(ld));
        if self.rounds::<T>() || self.divides::<T>(turn) {
            for (t, row) in rows.chunks_mut(ld).enumerate() {
                let (cos, sin) = self.of_head(batch, head, token + t);
                self.turn_singly::<T, R>(turn, cos, sin, &mut row[columns.clone()]);
            }
            return;
        }
        let (start, step) = (self.of_head_at(batch, head, token), self.heads * self.pairs);
        let own = Own {
            cos: &self.cos[start..],
            sin: &self.sin[start..],
            step,
            pairs: self.pairs,
            pairing: self.pairing,
            back: turn != Turn::Forward,
        };
        R::turn_own(Present::current(), own, &mut rows[columns.start..], ld, tokens);
    }

    /// What the kernels turn rows of `T` of this width by, if they can: dividing by determinants they cannot.
    fn tables<T: Element<Real = R>>(&self, turn: Turn, width: usize) -> Option<Tables<'_, R>> {
        if self.divides::<T>(turn) {
            return None;
        }
        Some(Tables {
            cos: &self.cos,
            sin: &self.sin,
            batch: self.batch,
            // What its rows lie apart.
            len: self.room,
            heads: self.heads,
            pairs: self.pairs,
            pairing: self.pairing,
            back: turn != Turn::Forward,
            first: self.columns(width).start,
            rounding: self.rounding,
        })
    }

    /// Turns `x` `[batch, heads, seq, head_dim]` in place.
    ///
    /// # Errors
    /// Another length, a batch that does not fit the positions, or rows narrower than the rotation.
    pub fn apply<T: Element<Real = R>>(&self, turn: Turn, x: ViewMut<'_, T, 4>) -> Result<()> {
        let shape = x.shape();
        self.check("x [batch, heads, seq, head_dim]", shape)?;
        if let Some(tables) = self.tables::<T>(turn, shape[3]) {
            kernels::turn(Present::current(), &tables, x);
            return Ok(());
        }
        if x.is_empty() {
            return Ok(());
        }
        self.apply_singly(turn, x);
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
        if let Some(tables) = self.tables::<T>(turn, shape[3]) {
            kernels::turn_into(Present::current(), &tables, x, out);
            return Ok(());
        }
        if x.is_empty() {
            return Ok(());
        }
        for (b, h, t) in rows(shape) {
            out.row_mut([b, h, t, 0]).copy_from_slice(x.row([b, h, t, 0]));
        }
        self.apply_singly(turn, out);
        Ok(())
    }

    fn apply_singly<T: Element<Real = R>>(&self, turn: Turn, mut x: ViewMut<'_, T, 4>) {
        let shape = x.shape();
        for (b, h, t) in rows(shape) {
            let (cos, sin) = self.of_head(b, h, t);
            self.turn_singly::<T, T>(turn, cos, sin, &mut x.row_mut([b, h, t, 0])[self.columns(shape[3])]);
        }
    }

    fn check(&self, what: &'static str, [batch, heads, len, head_dim]: [usize; 4]) -> Result<()> {
        if len != self.len
            || (self.batch != 1 && self.batch != batch)
            || (self.heads != 1 && self.heads != heads)
            || head_dim < 2 * self.pairs
        {
            return Err(Error::Shape {
                what,
                expected: vec![
                    if self.batch == 1 { batch } else { self.batch },
                    if self.heads == 1 { heads } else { self.heads },
                    self.len,
                    head_dim.max(2 * self.pairs),
                ],
                given: vec![batch, heads, len, head_dim],
            });
        }
        Ok(())
    }
}

/// The places of rows.
fn rows([batch, heads, len, _]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..len).map(move |t| (b, h, t))))
}

mod fill;
mod single;
#[cfg(test)]
mod tests;
