//! Which pairs may attend. Masks compare the order of tokens, never their position ids.

use super::{Attention, Window};
use crate::error::{Error, Result};
use crate::kernels::{Present, fetch_ahead};
use crate::positions::{Documents, Positions};
use crate::real::Real;
use crate::view::{View, ViewMut};

/// A boolean mask whose `true` blocks a pair (PyTorch's convention). `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
#[derive(Clone, Copy, Debug)]
pub struct Blocked<'a>(pub View<'a, bool, 4>);

/// A boolean mask whose `true` lets a pair attend (ONNX's convention, and most others'). `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
#[derive(Clone, Copy, Debug)]
pub struct Attends<'a>(pub View<'a, bool, 4>);

/// Which pairs may attend: any number of conditions, all of which must hold.
///
/// A blocked pair has weight 0, and 0 times a number that is not finite is NaN: what is masked (padding, an unused part of a cache) must hold finite numbers.
///
/// ```
/// use posenc::{Blocked, Mask, View};
/// let padding = [false, false, true]; // the last key is padding
/// let mask: Mask<f32> = Mask::none().causal(0).blocked(Blocked(View::new(&padding, [1, 1, 1, 3])?));
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "attn_mask")]
#[doc(alias = "key_padding_mask")]
pub struct Mask<'a, R = f32> {
    causal: bool,
    first: First<'a>,
    documents: Option<&'a Documents>,
    parts: Vec<Part<'a, R>>,
}

/// The order of the first query among the keys.
#[derive(Clone, Copy, Debug)]
enum First<'a> {
    /// The same in every batch row.
    Same(usize),
    /// One per batch row.
    Rows(&'a [usize]),
}

impl First<'_> {
    #[inline]
    fn of(&self, batch: usize) -> usize {
        match self {
            First::Same(first) => *first,
            First::Rows(firsts) => firsts[batch],
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Part<'a, R> {
    /// `true` blocks.
    Blocked(View<'a, bool, 4>),
    /// `true` attends.
    Attends(View<'a, bool, 4>),
    /// Added to the scores, after the biases.
    Additive(View<'a, R, 4>),
}

impl<'a, R: Copy> Part<'a, R> {
    /// Repeated to the shape of the scores.
    #[inline]
    fn repeated(&self, shape: [usize; 4]) -> Result<Part<'a, R>> {
        const WHAT: &str = "mask [batch, heads, q_len, k_len]";
        Ok(match self {
            Part::Blocked(view) => Part::Blocked(view.broadcast(WHAT, shape)?),
            Part::Attends(view) => Part::Attends(view.broadcast(WHAT, shape)?),
            Part::Additive(view) => Part::Additive(view.broadcast(WHAT, shape)?),
        })
    }
}

impl<R> Default for Mask<'_, R> {
    fn default() -> Self {
        Mask {
            causal: false,
            first: First::Same(0),
            documents: None,
            parts: Vec::new(),
        }
    }
}

impl<'a, R: Real> Mask<'a, R> {
    /// Every pair attends.
    pub fn none() -> Self {
        Mask::default()
    }

    /// A query attends to itself and what came before. `first_query` is the order of the first query among the keys: 0 for a whole sequence, the
    /// number of cached keys when decoding.
    #[doc(alias = "is_causal")]
    pub fn causal(self, first_query: usize) -> Self {
        Mask {
            causal: true,
            ..self.after(first_query)
        }
    }

    /// The same where batch rows have caches of different lengths: the order of each row's first query. What lies past a row's own tokens is after its
    /// queries, so causality keeps it out.
    pub fn causal_rows(self, first_queries: &'a [usize]) -> Self {
        Mask {
            causal: true,
            ..self.after_rows(first_queries)
        }
    }

    /// The first query stands after this many keys. It says where windows lie, and nothing else unless the mask is causal.
    pub fn after(self, keys: usize) -> Self {
        Mask {
            first: First::Same(keys),
            ..self
        }
    }

    /// The same for each batch row.
    pub fn after_rows(self, keys: &'a [usize]) -> Self {
        Mask {
            first: First::Rows(keys),
            ..self
        }
    }

    /// Each token sees its own document's keys alone, in every batch row: packed sequences. Unlike a boolean mask, this costs nothing where a tile lies within one document, and leaves out tiles between documents.
    /// A query behind a cache ([`Mask::after`]) belongs to the document of its order among the keys. Tokens past the last document see each other.
    ///
    /// ```
    /// use posenc::{Mask, positions::Documents};
    /// let documents = Documents::from_lengths(&[3, 5])?;
    /// let mask: Mask<f32> = Mask::none().causal(0).documents(&documents);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "document_mask")]
    #[doc(alias = "cu_seqlens")]
    pub fn documents(self, documents: &'a Documents) -> Self {
        Mask {
            documents: Some(documents),
            ..self
        }
    }

    /// Pairs where the mask is true are blocked.
    pub fn blocked(mut self, mask: Blocked<'a>) -> Self {
        self.parts.push(Part::Blocked(mask.0));
        self
    }

    /// Pairs where the mask is false are blocked.
    pub fn attends(mut self, mask: Attends<'a>) -> Self {
        self.parts.push(Part::Attends(mask.0));
        self
    }

    /// Added to the scores; −∞ blocks a pair. `[batch, heads, q_len, k_len]`, each axis but the last may be 1.
    pub fn additive(mut self, mask: View<'a, R, 4>) -> Self {
        self.parts.push(Part::Additive(mask));
        self
    }

    /// The whole mask written out over `out` `[batch, heads, q_len, k_len]`, for keys at these positions: what is added to each score, and −∞ where a pair may not attend, be it for the mask or for
    /// the window or chunk of `attention`. For those whose own attention takes a matrix.
    ///
    /// ```
    /// use posenc::{Attention, Mask, Positions, ViewMut, Window};
    /// let near = Attention { window: Some(Window::last(2)?), ..Attention::default() };
    /// let mut matrix = [f32::NAN; 9];
    /// let out = ViewMut::new(&mut matrix, [1, 1, 3, 3])?;
    /// Mask::none().causal(0).materialise(&near, &Positions::range(0..3), out)?;
    /// let no = f32::NEG_INFINITY;
    /// assert_eq!(matrix, [0.0, no, no, 0.0, 0.0, no, no, 0.0, 0.0]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    ///
    /// # Errors
    /// A part of another shape, positions that do not fit the matrix, or a setting out of range.
    pub fn materialise(&self, attention: &Attention, k_at: &Positions, mut out: ViewMut<'_, R, 4>) -> Result<()> {
        let shape @ [batch, heads, q_len, k_len] = out.shape();
        attention.check()?;
        k_at.check_fit("key positions [batch, seq]", batch, k_len)?;
        let mut chunks = Vec::new();
        let mask = self.resolve(shape, attention, k_at, &mut chunks)?;
        if out.is_empty() {
            return Ok(());
        }
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            for i in 0..q_len {
                let row = out.row_mut([b, h, i, 0]);
                row.fill(R::ZERO);
                mask.apply([b, h, i], 0, row);
            }
        }
        Ok(())
    }

    /// The mask with every part repeated to the shape of the scores, and what the attention's settings hide from a query of keys at these positions.
    /// `chunks` is memory for a number per batch row.
    pub(crate) fn resolve<'m>(
        &'m self,
        shape: [usize; 4],
        attention: &Attention,
        k_at: &Positions,
        chunks: &'m mut Vec<usize>,
    ) -> Result<ResolvedMask<'m, R>> {
        let [_, _, q_len, _] = shape;
        let firsts = match &self.first {
            First::Same(first) => std::slice::from_ref(first),
            First::Rows(firsts) if firsts.len() != shape[0] => {
                return Err(Error::Shape {
                    what: "orders of the first queries [batch]",
                    expected: vec![shape[0]],
                    given: vec![firsts.len()],
                });
            }
            First::Rows(firsts) => firsts,
        };
        if let Some(first) = firsts.iter().find(|first| first.checked_add(q_len).is_none()) {
            return Err(Error::Invalid {
                what: "order of the first query",
                given: first.to_string(),
                expected: "the number of keys before it",
            });
        }
        for part in &self.parts {
            part.repeated(shape)?;
        }
        Ok(ResolvedMask {
            causal: self.causal,
            first: self.first,
            documents: self.documents,
            window: attention.window.unwrap_or_default(),
            chunks: attention.chunk.map(|size| Chunks::new(size, k_at, chunks)),
            parts: &self.parts,
            shape,
        })
    }
}

/// A mask that fits the scores.
#[derive(Debug)]
pub(crate) struct ResolvedMask<'a, R> {
    causal: bool,
    first: First<'a>,
    documents: Option<&'a Documents>,
    window: Window,
    chunks: Option<Chunks<'a>>,
    parts: &'a [Part<'a, R>],
    /// Of the scores, `[batch, heads, q_len, k_len]`.
    shape: [usize; 4],
}

/// Where each row's chunks of keys lie, by order.
#[derive(Debug)]
struct Chunks<'a> {
    size: usize,
    /// Keys before the first chunk: one number per batch row, or one for all.
    before: &'a [usize],
}

impl<'a> Chunks<'a> {
    /// Chunks are counted from a row's first key that has a position; from its first key where none has.
    fn new(size: usize, k_at: &Positions, before: &'a mut Vec<usize>) -> Chunks<'a> {
        let first = |b| (0..k_at.len()).find(|&j| k_at.get(0, b, j).is_some()).unwrap_or(0);
        before.clear();
        before.extend((0..k_at.batch()).map(first));
        Chunks { size, before }
    }

    /// The chunk of a query of this order; before the first chunk, what lies there.
    #[inline]
    fn of(&self, batch: usize, order: usize) -> std::ops::Range<usize> {
        let before = self.before[if self.before.len() == 1 { 0 } else { batch }];
        match order.checked_sub(before) {
            Some(order) => {
                let start = before + order / self.size * self.size;
                start..start.saturating_add(self.size)
            }
            None => 0..before,
        }
    }
}

impl<R: Real> ResolvedMask<'_, R> {
    /// The keys that query `i` of a batch row can see by order alone.
    #[inline]
    pub fn visible(&self, batch: usize, i: usize) -> std::ops::Range<usize> {
        let order = i + self.first.of(batch);
        let start = self.window.left.map_or(0, |left| order.saturating_sub(left));
        let right = if self.causal { Some(0) } else { self.window.right };
        let end = right.map_or(self.shape[3], |right| order.saturating_add(right).saturating_add(1));
        let chunk = self.chunks.as_ref().map_or(0..self.shape[3], |chunks| chunks.of(batch, order));
        let document = self.documents.map_or(0..usize::MAX, |documents| documents.around(order));
        let (first, last) = (chunk.start.max(document.start), chunk.end.min(document.end));
        start.max(first).min(self.shape[3])..end.min(last).min(self.shape[3])
    }

    /// All these queries of a batch row see all these keys, and nothing is added to their scores.
    pub fn is_open(&self, batch: usize, queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> bool {
        // What a query sees begins and ends no later than what the next one sees.
        let (first, last) = (self.visible(batch, queries.start), self.visible(batch, queries.end - 1));
        self.parts.is_empty() && last.start <= keys.start && keys.end <= first.end
    }

    /// Adds the additive masks to one row of scores, of the query [batch row, head, order] and keys from `k0`, and writes −∞ where it is blocked.
    pub fn apply(&self, query: [usize; 3], k0: usize, s: &mut [R]) {
        for part in self.parts {
            if let Part::Additive(view) = part {
                let mask = self.row(view, query, k0, s.len());
                R::add_mask(Present::current(), s, mask);
            }
        }
        self.block(query, k0, s);
    }

    /// Writes −∞ where one row of scores is blocked.
    pub fn block(&self, query: [usize; 3], k0: usize, s: &mut [R]) {
        let visible = self.visible(query[0], query[2]);
        let n = s.len();
        let start = visible.start.clamp(k0, k0 + n) - k0;
        let end = visible.end.clamp(k0 + start, k0 + n) - k0;
        s[..start].fill(R::NEG_INFINITY);
        s[end..].fill(R::NEG_INFINITY);
        for part in self.parts {
            let (view, blocks) = match part {
                Part::Blocked(view) => (view, true),
                Part::Attends(view) => (view, false),
                Part::Additive(_) => continue,
            };
            R::block_where(Present::current(), s, self.row(view, query, k0, n), blocks);
        }
    }

    /// Some of a query's row of a mask, in which an axis of 1 is repeated; the row of a query further down is asked for. That the mask fits was seen when it was resolved.
    #[inline]
    fn row<'v, T>(&self, mask: &View<'v, T, 4>, [batch, head, query]: [usize; 3], k0: usize, keys: usize) -> &'v [T] {
        const AHEAD: usize = 4;
        let [batches, heads, queries, _] = mask.shape();
        let at = |query: usize| &mask.row([batch.min(batches - 1), head.min(heads - 1), query.min(queries - 1), 0])[k0..k0 + keys];
        if queries > query + AHEAD {
            fetch_ahead(at(query + AHEAD));
        }
        at(query)
    }
}
