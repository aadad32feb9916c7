//! Context parallelism: one sequence, or one row of packed documents, cut over several devices.

use super::{Documents, Positions};
use crate::error::{Error, Result};
use crate::memory;

/// Which part of a sequence a rank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// n chunks; rank r holds chunk r. Under a causal mask the last rank has most of the work.
    Contiguous,
    /// 2n chunks; rank r holds chunks r and 2n − 1 − r, in this order: an early one and a late one, so that all ranks have the same work under a causal mask (Megatron,
    /// TransformerEngine, ring attention).
    Zigzag,
}

/// A row cut into equal shards. Each document is cut by itself, so a rank holds its part of every one, as variable-length kernels expect.
///
/// ```
/// use posenc::Positions;
/// use posenc::positions::{Cut, Shards};
/// let shards = Shards::new(8, 2, Cut::Zigzag)?;
/// assert_eq!(shards.tokens(0)?, [0, 1, 6, 7]);
/// assert_eq!(shards.positions(&Positions::range(100..108), 1)?, Positions::range(102..106));
/// // Shards that were gathered one after the other, back in the row's order.
/// assert_eq!(shards.order()?, [0, 1, 4, 5, 6, 7, 2, 3]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "context_parallel")]
#[doc(alias = "ring_attention")]
pub struct Shards {
    documents: Documents,
    ranks: usize,
    cut: Cut,
}

impl Shards {
    /// One sequence of `tokens` tokens over `ranks` devices.
    ///
    /// # Errors
    /// As [`Shards::of_documents`].
    pub fn new(tokens: usize, ranks: usize, cut: Cut) -> Result<Shards> {
        Shards::of_documents(Documents::from_lengths(&[tokens])?, ranks, cut)
    }

    /// Packed documents over `ranks` devices.
    ///
    /// # Errors
    /// No ranks, or a document whose length is no multiple of the number of chunks (`ranks`, twice that for [`Cut::Zigzag`]): pad it first.
    pub fn of_documents(documents: Documents, ranks: usize, cut: Cut) -> Result<Shards> {
        if ranks == 0 {
            return Err(Error::Zero { what: "ranks" });
        }
        let (by, chunks) = match cut {
            Cut::Contiguous => ("ranks", ranks),
            // More chunks than usize counts divide nothing but 0 tokens.
            Cut::Zigzag => ("2·ranks", ranks.saturating_mul(2)),
        };
        if let Some(tokens) = documents.ranges().find(|tokens| !tokens.len().is_multiple_of(chunks)) {
            return Err(Error::NotDivisible {
                what: "tokens of a document",
                value: tokens.len(),
                by,
                divisor: chunks,
            });
        }
        Ok(Shards { documents, ranks, cut })
    }

    /// Devices.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The row that was cut.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Tokens of each rank.
    pub fn shard_len(&self) -> usize {
        self.documents.tokens() / self.ranks
    }

    /// The documents as each rank holds them: the same bounds on all.
    pub fn shard_documents(&self) -> Documents {
        let lengths: Vec<usize> = self.documents.ranges().map(|tokens| tokens.len() / self.ranks).collect();
        Documents::from_lengths(&lengths).expect("a share of a row is no longer than the row")
    }

    /// The tokens of a rank by their index in the row, in the order in which the rank holds them, `[shard_len]`.
    ///
    /// # Errors
    /// A rank past the last.
    pub fn tokens(&self, rank: usize) -> Result<Vec<usize>> {
        if rank >= self.ranks {
            return Err(Error::Invalid {
                what: "rank",
                given: rank.to_string(),
                expected: "less than the number of ranks",
            });
        }
        memory::check::<usize>("tokens of a shard", &[self.shard_len()])?;
        Ok(self.indices(rank).collect())
    }

    fn indices(&self, rank: usize) -> impl Iterator<Item = usize> + '_ {
        self.documents.ranges().flat_map(move |tokens| {
            let (chunks, mine) = match self.cut {
                Cut::Contiguous => (self.ranks, [Some(rank), None]),
                Cut::Zigzag => (
                    self.ranks.saturating_mul(2),
                    [Some(rank), Some(self.ranks.saturating_mul(2) - 1 - rank)],
                ),
            };
            let size = tokens.len() / chunks;
            let chunk = move |i: usize| {
                let start = tokens.start + i.saturating_mul(size);
                start..start.saturating_add(size)
            };
            // Of nothing, every chunk is nothing, wherever it would begin.
            mine.into_iter().flatten().filter(move |_| size > 0).flat_map(chunk)
        })
    }

    /// The positions of a rank's tokens, of those of the whole row.
    ///
    /// # Errors
    /// A rank past the last, or positions of another number of tokens.
    pub fn positions(&self, whole: &Positions, rank: usize) -> Result<Positions> {
        let tokens = self.tokens(rank)?;
        whole.check_fit("positions of the whole row [batch, seq]", whole.batch(), self.documents.tokens())?;
        whole.select(&tokens)
    }

    /// Where each token of the row stands among the ranks' shards laid one after the other, `[tokens]`: what puts gathered outputs back in order.
    ///
    /// # Errors
    /// A row that memory cannot hold.
    #[doc(alias = "unshard")]
    pub fn order(&self) -> Result<Vec<usize>> {
        let mut order = vec![0; memory::check::<usize>("tokens of the row", &[self.documents.tokens()])?];
        if order.is_empty() {
            return Ok(order);
        }
        for (at, token) in (0..self.ranks).flat_map(|rank| self.indices(rank)).enumerate() {
            order[token] = at;
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut, and put back: positions are those of the whole, for one sequence and for packed documents, for each batch row and axis.
    #[test]
    fn bug_family_14_shards_keep_the_positions_of_the_whole_row() {
        let documents = Documents::from_lengths(&[8, 0, 16]).unwrap();
        for cut in [Cut::Contiguous, Cut::Zigzag] {
            for ranks in [1, 2, 4] {
                for shards in [Shards::new(24, ranks, cut), Shards::of_documents(documents.clone(), ranks, cut)] {
                    let shards = shards.unwrap();
                    let whole = shards.documents().positions();
                    let mut gathered = Vec::new();
                    for rank in 0..ranks {
                        let (at, tokens) = (shards.positions(&whole, rank).unwrap(), shards.tokens(rank).unwrap());
                        assert_eq!((at.len(), tokens.len()), (shards.shard_len(), shards.shard_len()));
                        assert_eq!(shards.shard_documents().tokens(), shards.shard_len());
                        for (t, token) in tokens.iter().enumerate() {
                            assert_eq!(at.get(0, 0, t), whole.get(0, 0, *token));
                            // A token lies in its own document on its rank too.
                            assert_eq!(shards.shard_documents().of(t), shards.documents().of(*token));
                        }
                        gathered.extend(tokens);
                    }
                    let back: Vec<usize> = shards.order().unwrap().iter().map(|at| gathered[*at]).collect();
                    assert!(back.into_iter().eq(0..24), "{cut:?} over {ranks}");
                }
            }
        }
        let zigzag = Shards::of_documents(documents, 2, Cut::Zigzag).unwrap();
        assert_eq!(zigzag.tokens(1).unwrap(), [2, 3, 4, 5, 12, 13, 14, 15, 16, 17, 18, 19]);
        let two_rows = Positions::whole_rows(&(0..48).collect::<Vec<_>>(), 2).unwrap();
        let at = zigzag.positions(&two_rows, 0).unwrap();
        assert_eq!((at.batch(), at.get(0, 1, 2)), (2, Some(30.0)));
    }

    /// A query of the first half attends to fewer keys than its mirror in the second by just as many as make all ranks equal.
    #[test]
    fn zigzag_shards_have_the_same_work_under_a_causal_mask() {
        let shards = Shards::new(24, 3, Cut::Zigzag).unwrap();
        let work = |rank| -> usize {
            let (tokens, mut attends) = (shards.tokens(rank).unwrap(), vec![false; 8 * 24]);
            shards.documents().attends(tokens, true, &mut attends).unwrap();
            attends.iter().filter(|attends| **attends).count()
        };
        assert_eq!([work(0), work(1), work(2)], [100; 3]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert!(matches!(Shards::new(8, 0, Cut::Zigzag), Err(Error::Zero { .. })));
        assert!(matches!(Shards::new(6, 2, Cut::Zigzag), Err(Error::NotDivisible { .. })));
        assert!(Shards::new(6, 2, Cut::Contiguous).is_ok());
        let uneven = Documents::from_lengths(&[5, 3]).unwrap();
        assert!(matches!(
            Shards::of_documents(uneven, 2, Cut::Contiguous),
            Err(Error::NotDivisible { value: 5, .. })
        ));
        assert!(matches!(Shards::new(8, usize::MAX, Cut::Zigzag), Err(Error::NotDivisible { .. })));
        let shards = Shards::new(8, 2, Cut::Zigzag).unwrap();
        assert!(matches!(shards.tokens(2), Err(Error::Invalid { .. })));
        assert!(matches!(shards.positions(&Positions::range(0..7), 0), Err(Error::Shape { .. })));
        let nothing = Shards::new(0, usize::MAX, Cut::Zigzag).unwrap();
        assert_eq!((nothing.order().unwrap(), nothing.tokens(3).unwrap()), (vec![], vec![]));
    }
}
