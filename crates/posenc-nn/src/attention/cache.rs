//! Decoding: keys and values that were projected once and are attended to at every later step.

use super::projections::{ROLES, Role};
use super::{AttentionTrace, MultiheadAttention};
use crate::error::Result;
use crate::number::Number;
use crate::shape::{size, tensor};
use posenc::attention::Inputs;
use posenc::{Blocked, Call, Dims, Error, Mask, Mode, Params, Positions, View};

/// The projected keys and values of the tokens read so far, with their positions. Batch rows may have read different numbers of tokens.
///
/// Keys lie before their rotation, which attention applies when it packs them: so a method may still change what a position means as the sequence
/// grows, and a row can be cut back to any length ([`KvCache::truncate`]). Memory doubles when it runs out.
///
/// Made by [`PositionalMultiheadAttention::cache`](crate::PositionalMultiheadAttention::cache).
#[derive(Clone, Debug)]
#[doc(alias = "past_key_values")]
pub struct KvCache<R> {
    dims: Dims,
    /// Tokens that each row has room for.
    capacity: usize,
    /// Tokens that each row has read.
    lens: Vec<usize>,
    /// `[batch, capacity, kv_heads, head_dim]`; what no token has filled is zeros.
    keys: Vec<R>,
    values: Vec<R>,
    /// Of the longest row's tokens; those of shorter rows that do not exist have none.
    positions: Positions,
}

impl<R: Number> KvCache<R> {
    /// Nothing read yet, in `batch` rows.
    pub(crate) fn new(dims: Dims, batch: usize) -> KvCache<R> {
        KvCache {
            dims,
            capacity: 0,
            lens: vec![0; batch],
            keys: Vec::new(),
            values: Vec::new(),
            positions: Positions::absent(0),
        }
    }

    /// Rows.
    pub fn batch(&self) -> usize {
        self.lens.len()
    }

    /// The widths it was made for.
    pub(crate) fn dims(&self) -> Dims {
        self.dims
    }

    /// Tokens that each row has read, `[batch]`: the order of its next token.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Tokens of the longest row: keys that attention sees.
    pub fn k_len(&self) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    /// Positions of the tokens read.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Cuts each row back to at most this many tokens: what was read after them is forgotten.
    ///
    /// # Errors
    /// Another number of rows.
    pub fn truncate(&mut self, lens: &[usize]) -> Result<()> {
        size("lens [batch]", lens.len(), &[self.batch()])?;
        let kept: Vec<usize> = self.lens.iter().zip(lens).map(|(old, new)| *old.min(new)).collect();
        let positions = self.grown(&Positions::absent(0), &kept, &vec![0; kept.len()])?;
        self.rewind(kept, positions);
        Ok(())
    }

    /// Back to an earlier state: as many tokens of each row, at these positions.
    pub(crate) fn rewind(&mut self, lens: Vec<usize>, positions: Positions) {
        let row = self.row();
        for (b, len) in lens.iter().enumerate() {
            let unused = (b * self.capacity + len) * row..(b + 1) * self.capacity * row;
            self.keys[unused.clone()].fill(R::ZERO);
            self.values[unused].fill(R::ZERO);
        }
        (self.lens, self.positions) = (lens, positions);
    }

    /// The positions after each row's first `taken[b]` tokens of `more` have been read.
    pub(crate) fn with(&self, more: &Positions, taken: &[usize]) -> Result<Positions> {
        self.grown(more, &self.lens, taken)
    }

    fn grown(&self, more: &Positions, kept: &[usize], taken: &[usize]) -> Result<Positions> {
        // An empty cache does not know yet how many coordinates a position has.
        if self.k_len() == 0 {
            let none = vec![0; kept.len()];
            return Ok(more.followed_by(more, &none, taken)?);
        }
        if more.is_empty() {
            return Ok(self.positions.followed_by(&self.positions, kept, taken)?);
        }
        Ok(self.positions.followed_by(more, kept, taken)?)
    }

    /// Numbers per token.
    fn row(&self) -> usize {
        self.dims.kv_heads * self.dims.head_dim
    }

    /// Room for this many tokens per row.
    fn reserve(&mut self, len: usize) {
        if len <= self.capacity {
            return;
        }
        let capacity = len.max(2 * self.capacity).max(16);
        let (row, batch, old) = (self.row(), self.batch(), self.capacity);
        for data in [&mut self.keys, &mut self.values] {
            let mut larger = vec![R::ZERO; batch * capacity * row];
            for b in 0..batch {
                larger[b * capacity * row..][..old * row].copy_from_slice(&data[b * old * row..][..old * row]);
            }
            *data = larger;
        }
        self.capacity = capacity;
    }

    /// Appends each row's first `taken[b]` of `n` projected tokens, `[batch, n, kv_heads, head_dim]`.
    fn append(&mut self, [keys, values]: [&[R]; 2], n: usize, taken: &[usize], positions: Positions) {
        let row = self.row();
        self.reserve(self.lens.iter().zip(taken).map(|(len, taken)| len + taken).max().unwrap_or(0));
        for (b, &count) in taken.iter().enumerate() {
            let (from, to) = (b * n * row, (b * self.capacity + self.lens[b]) * row);
            self.keys[to..][..count * row].copy_from_slice(&keys[from..][..count * row]);
            self.values[to..][..count * row].copy_from_slice(&values[from..][..count * row]);
            self.lens[b] += count;
        }
        self.positions = positions;
    }

    /// Keys or values as attention reads them.
    fn view<'a>(&self, data: &'a [R]) -> Result<View<'a, R, 4>> {
        let Dims { kv_heads, head_dim, .. } = self.dims;
        let shape = [self.batch(), kv_heads, self.k_len(), head_dim];
        Ok(View::strided(data, shape, [self.capacity * self.row(), head_dim, self.row(), 1])?)
    }

    /// True where a row has no token, `[batch, k_len]`; `None` if all rows are equally long.
    fn unused(&self) -> Option<Vec<bool>> {
        let k_len = self.k_len();
        let ragged = self.lens.iter().any(|len| *len != k_len);
        ragged.then(|| self.lens.iter().flat_map(|len| (0..k_len).map(move |j| j >= *len)).collect())
    }
}

impl MultiheadAttention {
    /// Projects `n` tokens' keys and values, `[batch, n, width]`, and appends each row's first `taken[b]` to the cache. `call` has their positions as
    /// its keys'; `positions` are the cache's afterwards.
    pub(crate) fn remember<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        [key, value]: [&[R]; 2],
        taken: &[usize],
        positions: Positions,
        cache: &mut KvCache<R>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let (batch, n) = (cache.batch(), call.k_at().len());
        size("key [batch, seq, width]", key.len(), &[batch, n, self.width])?;
        size("value [batch, seq, width]", value.len(), &[batch, n, self.width])?;
        for spec in self.specs() {
            tensor(params, &spec)?;
        }
        for (role, x) in [(Role::Key, key), (Role::Value, value)] {
            self.project(params, call, role, x, [batch, n], trace)?;
        }
        let [_, k, v] = &trace.projected;
        cache.append([k, v], n, taken, positions);
        Ok(())
    }

    /// Attention of `query` `[batch, q_len, width]` over a cache; `call` has the cache's positions as its keys'. As [`MultiheadAttention::forward`]
    /// otherwise.
    pub(crate) fn recall<R: Number>(
        &self,
        params: &Params<R>,
        call: &Call<'_, R>,
        query: &[R],
        cache: &KvCache<R>,
        mask: &Mask<'_, R>,
        mode: Mode,
        out: &mut [R],
        weights: Option<&mut [R]>,
        trace: &mut AttentionTrace<R>,
    ) -> Result<()> {
        let (batch, q_len, k_len) = (cache.batch(), call.q_at().len(), cache.k_len());
        size("query [batch, seq, width]", query.len(), &[batch, q_len, self.width])?;
        size("out [batch, q_len, width]", out.len(), &[batch, q_len, self.width])?;
        if call.k_at().len() != k_len {
            return Err(Error::Shape {
                what: "positions of the cached keys [batch, k_len]",
                expected: vec![batch, k_len],
                given: vec![call.k_at().batch(), call.k_at().len()],
            }
            .into());
        }
        for spec in self.specs() {
            tensor(params, &spec)?;
        }
        let tables = self.tables(params, call)?;
        let tabled = tables.as_ref().map(|tables| call.with_tables(tables)).transpose()?;
        let call = tabled.as_ref().unwrap_or(call);
        self.project(params, call, ROLES[0], query, [batch, q_len], trace)?;
        let unused = cache.unused();
        let mut mask = mask.clone();
        if let Some(unused) = &unused {
            mask = mask.blocked(Blocked(View::new(unused, [batch, 1, 1, k_len])?));
        }
        let AttentionTrace {
            projected: [q, ..],
            context,
            saved,
            work,
            ..
        } = trace;
        context.resize(batch * q_len * self.dims.heads * self.dims.head_dim, R::ZERO);
        let q = self.heads(q, self.dims.heads, batch, q_len)?;
        let inputs = Inputs::new(q, cache.view(&cache.keys)?, cache.view(&cache.values)?);
        let inputs = self.with_sinks(params, inputs)?;
        self.attend(call, inputs, &mask, mode, context, weights, saved, work)?;
        self.out_proj().forward(params, context, out)
    }
}
