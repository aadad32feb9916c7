//! Documents packed into one row: where each begins, what belongs to which, who may see whom.

use super::{Patches, Positions, too_many_tokens};
use crate::error::{Error, Result};
use crate::memory;
use std::ops::Range;

/// Documents packed into one row without padding, by the bounds that variable-length kernels take as `cu_seqlens`: 0, then where each document ends.
///
/// ```
/// use posenc::positions::Documents;
/// use posenc::{Attends, Mask, Positions, View};
/// let documents = Documents::from_cu_seqlens(&[0, 2, 2, 5])?;
/// assert_eq!((documents.count(), documents.tokens()), (3, 5));
/// assert_eq!(documents.positions(), Positions::whole(&[0, 1, 0, 1, 2]));
/// assert_eq!(documents.ids().collect::<Vec<_>>(), [0, 0, 2, 2, 2]);
///
/// // Each document by itself: causal inside, blind outside.
/// let mut attends = [false; 25];
/// documents.attends(0..5, true, &mut attends)?;
/// let mask: Mask<f32> = Mask::none().attends(Attends(View::new(&attends, [1, 1, 5, 5])?));
/// assert_eq!(attends[10..15], [false, false, true, false, false]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "cu_seqlens")]
#[doc(alias = "varlen")]
#[doc(alias = "document_mask")]
pub struct Documents {
    /// 0, then where each document ends; ascending.
    bounds: Vec<usize>,
}

impl Documents {
    /// Documents of these lengths, one after the other; a length may be 0.
    ///
    /// # Errors
    /// More than [`Positions::LONGEST`] tokens.
    pub fn from_lengths(lengths: &[usize]) -> Result<Documents> {
        let total = lengths.iter().fold(0usize, |sum, len| sum.saturating_add(*len));
        if total > Positions::LONGEST {
            return Err(too_many_tokens(total));
        }
        let mut bounds = vec![0];
        bounds.extend(lengths.iter().scan(0, |end, len| {
            *end += len;
            Some(*end)
        }));
        Ok(Documents { bounds })
    }

    /// Documents by their exclusive prefix sums, `[documents + 1]`, in any integer type that fits an `i64`: `[0, 2, 5]` is one of two tokens and one of three.
    ///
    /// # Errors
    /// Nothing at all, a first number that is not 0, numbers that descend, or more than [`Positions::LONGEST`] tokens.
    pub fn from_cu_seqlens<N: Copy + Into<i64>>(cu_seqlens: &[N]) -> Result<Documents> {
        let refused = |given: String| Error::Invalid {
            what: "cu_seqlens",
            given,
            expected: "0, then where each document ends, ascending (lengths go to Documents::from_lengths)",
        };
        let first: i64 = cu_seqlens.first().copied().ok_or_else(|| refused("nothing".into()))?.into();
        if first != 0 {
            return Err(refused(format!("{first} at index 0")));
        }
        let mut bounds = Vec::with_capacity(cu_seqlens.len());
        let mut before = 0i64;
        for (index, end) in cu_seqlens.iter().enumerate() {
            let end: i64 = (*end).into();
            if end < before {
                return Err(refused(format!("{end} after {before} at index {index}")));
            }
            // Ascending from 0, so not negative; past usize is past the longest row too.
            bounds.push(usize::try_from(end).unwrap_or(usize::MAX));
            before = end;
        }
        match bounds.last() {
            Some(&total) if total > Positions::LONGEST => Err(too_many_tokens(total)),
            _ => Ok(Documents { bounds }),
        }
    }

    /// The frames of images and videos, one after the other, each a document of its own: what the vision towers of Qwen-VL and GLM-V attend within (transformers:
    /// `get_vision_cu_seqlens`). `patches` are counted before the merge.
    ///
    /// # Errors
    /// More than [`Positions::LONGEST`] patches.
    pub fn frames(patches: &[Patches]) -> Result<Documents> {
        let tokens = patches.iter().try_fold(0usize, |sum, p| sum.checked_add(p.count()?));
        match tokens {
            Some(tokens) if tokens <= Positions::LONGEST => {}
            _ => return Err(too_many_tokens(tokens.unwrap_or(usize::MAX))),
        }
        // A frame of no patches has no document: there may be any number of them.
        memory::check::<usize>("frames", &[tokens.unwrap_or(0)])?;
        let filled = patches.iter().filter(|p| p.frames > 0 && p.height * p.width > 0);
        let frames = filled.flat_map(|p| std::iter::repeat_n(p.height * p.width, p.frames));
        Documents::from_lengths(&frames.collect::<Vec<_>>())
    }

    /// Documents, empty ones too.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Tokens of all of them.
    pub fn tokens(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// 0, then where each document ends, `[documents + 1]`.
    pub fn cu_seqlens(&self) -> &[usize] {
        &self.bounds
    }

    /// The tokens of each document.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.bounds.windows(2).map(|ends| ends[0]..ends[1])
    }

    /// The longest document's tokens (`max_seqlen`).
    pub fn longest(&self) -> usize {
        self.ranges().map(|tokens| tokens.len()).max().unwrap_or(0)
    }

    /// The document that a token belongs to; `None` past the end.
    pub fn of(&self, token: usize) -> Option<usize> {
        // The last document that begins at or before it: empty ones before it are passed over.
        (token < self.tokens()).then(|| self.bounds.partition_point(|bound| *bound <= token) - 1)
    }

    /// The tokens of the document that a token belongs to; past the end, all that lies there.
    pub(crate) fn around(&self, token: usize) -> Range<usize> {
        match self.of(token) {
            Some(document) => self.bounds[document]..self.bounds[document + 1],
            None => self.tokens()..usize::MAX,
        }
    }

    /// The document of each token, `[tokens]`.
    pub fn ids(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges()
            .enumerate()
            .flat_map(|(document, tokens)| tokens.map(move |_| document))
    }

    /// Positions `(tokens,)`: each document begins at 0 again.
    pub fn positions(&self) -> Positions {
        Positions::packed(&self.ranges().map(|tokens| tokens.len()).collect::<Vec<_>>())
    }

    /// The same where each document goes on after this many tokens that a cache already holds.
    ///
    /// # Errors
    /// Another number of documents, or more than [`Positions::LONGEST`] cached tokens.
    pub fn positions_after(&self, cached: &[usize]) -> Result<Positions> {
        if cached.len() != self.count() {
            return Err(Error::Shape {
                what: "cached tokens of each document",
                expected: vec![self.count()],
                given: vec![cached.len()],
            });
        }
        if let Some(tokens) = cached.iter().find(|tokens| **tokens > Positions::LONGEST) {
            return Err(too_many_tokens(*tokens));
        }
        memory::check::<[i64; 2]>("positions of packed documents", &[self.tokens()])?;
        let ids = self
            .ranges()
            .zip(cached)
            .flat_map(|(tokens, first)| (*first as i64..).take(tokens.len()));
        Ok(Positions::whole(&ids.collect::<Vec<_>>()))
    }

    /// Writes which of all tokens each of these may attend to, `[queries, tokens]`: true within a document and, if `causal`, not after the query. All tokens
    /// are `0..tokens()`; a context-parallel rank asks for its own ([`Shards::tokens`](super::Shards::tokens)).
    ///
    /// # Errors
    /// Another size of `out`, or a query past the last token.
    pub fn attends(&self, queries: impl IntoIterator<Item = usize, IntoIter: Clone>, causal: bool, out: &mut [bool]) -> Result<()> {
        let queries = queries.into_iter();
        let (count, tokens) = (queries.clone().count(), self.tokens());
        if count.checked_mul(tokens) != Some(out.len()) {
            return Err(Error::Shape {
                what: "attends [queries, tokens]",
                expected: vec![count, tokens],
                given: vec![out.len()],
            });
        }
        if let Some(query) = queries.clone().find(|query| *query >= tokens) {
            return Err(Error::Invalid {
                what: "token of a query",
                given: query.to_string(),
                expected: "less than the number of packed tokens",
            });
        }
        out.fill(false);
        for (query, row) in queries.zip(out.chunks_exact_mut(tokens.max(1))) {
            let document = self.bounds.partition_point(|bound| *bound <= query);
            let (start, end) = (self.bounds[document - 1], self.bounds[document]);
            row[start..if causal { query + 1 } else { end }].fill(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_family_14_packed_documents_begin_again_and_see_only_themselves() {
        let documents = Documents::from_lengths(&[2, 0, 3]).unwrap();
        assert_eq!(documents, Documents::from_cu_seqlens(&[0i32, 2, 2, 5]).unwrap());
        assert_eq!(documents.cu_seqlens(), [0, 2, 2, 5]);
        assert_eq!((documents.longest(), documents.count()), (3, 3));
        let of: Vec<_> = (0..6).map(|t| documents.of(t)).collect();
        assert_eq!(of, [Some(0), Some(0), Some(2), Some(2), Some(2), None]);
        assert!(documents.ids().map(Some).eq(of[..5].iter().copied()));
        assert_eq!(documents.positions_after(&[7, 1, 4]).unwrap(), Positions::whole(&[7, 8, 4, 5, 6]));
        let mut both = [true; 25];
        documents.attends(0..5, false, &mut both).unwrap();
        let mut causal = [true; 25];
        documents.attends(0..5, true, &mut causal).unwrap();
        for (q, k) in (0..25).map(|i| (i / 5, i % 5)) {
            assert_eq!(both[q * 5 + k], of[q] == of[k]);
            assert_eq!(causal[q * 5 + k], of[q] == of[k] && k <= q);
        }
        let mut some = [false; 10];
        documents.attends([4, 0], true, &mut some).unwrap();
        assert_eq!((&some[..5], &some[5..]), (&causal[20..], &causal[..5]));
    }

    #[test]
    fn bounds_that_are_none_are_refused() {
        for refused in [&[][..], &[1, 2], &[0, 3, 2], &[-1, 3], &[0, i64::MAX], &[0, 1 << 32]] {
            let error = Documents::from_cu_seqlens(refused).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{refused:?}: {error}");
        }
        let error = Documents::from_cu_seqlens(&[0, 3, 2]).unwrap_err().to_string();
        assert!(error.contains("2 after 3 at index 2"), "{error}");
        assert!(Documents::from_lengths(&[usize::MAX, 2]).is_err());
        let documents = Documents::from_lengths(&[2]).unwrap();
        assert!(matches!(documents.attends(0..2, true, &mut [true; 3]), Err(Error::Shape { .. })));
        assert!(matches!(documents.attends([2], true, &mut [true; 2]), Err(Error::Invalid { .. })));
        assert!(matches!(documents.positions_after(&[]), Err(Error::Shape { .. })));
        assert!(matches!(documents.positions_after(&[usize::MAX]), Err(Error::Invalid { .. })));
        let none = Documents::from_lengths(&[]).unwrap();
        assert_eq!((none.count(), none.tokens(), none.of(0)), (0, 0, None));
        none.attends(0..0, true, &mut []).unwrap();
    }
}
