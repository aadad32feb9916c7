//! The contract between attention and a method that acts on scores: [`ScoreTerm`].

use crate::error::Result;
use crate::params::BoundMut;
use crate::positions::At;
use crate::real::Real;

/// How much of the scores a term must see at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granularity {
    /// Any tile of one head: biases, relative keys.
    Tile,
    /// All keys of some rows of one head at once: methods that run along the keys (CoPE, stick-breaking).
    WholeRows,
    /// A tile of all heads at once, one plane per head: methods that mix heads (DAPE).
    AllHeads,
}

/// What a term asks of the driver: [`Needs::bias`], and what else it needs.
///
/// ```
/// use posenc::{Granularity, Needs};
/// let along_keys = Needs::bias(3).with_granularity(Granularity::WholeRows).reading_scores();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// How much of the scores it must see at once.
    pub granularity: Granularity,
    /// It reads the scores as they were before it was added, in [`ScoreTerm::add`] and in its adjoint. Pairs that the mask blocks are then −∞ in them.
    pub reads_scores: bool,
    /// It also adds to the values (Shaw).
    pub values: bool,
    /// What it adds to a pair follows from the head and from the distance `key − query` alone, of positions that are all there: it may be asked for a line of distances instead of a tile.
    pub by_distance: bool,
    /// Numbers per head in which its parameters' gradients are summed. They are the term's own: [`ScoreTerm::collect`] says what they mean.
    pub slots: usize,
}

impl Needs {
    /// A term that reads positions only and has `slots` gradient slots per head.
    pub const fn bias(slots: usize) -> Needs {
        Needs {
            granularity: Granularity::Tile,
            reads_scores: false,
            values: false,
            by_distance: false,
            slots,
        }
    }

    /// The same, but it must see this much of the scores at once.
    pub const fn with_granularity(self, granularity: Granularity) -> Needs {
        Needs { granularity, ..self }
    }

    /// The same, and distances alone decide what it adds.
    pub const fn by_distance(self) -> Needs {
        Needs { by_distance: true, ..self }
    }

    /// The same, and it reads the scores before it.
    pub const fn reading_scores(self) -> Needs {
        Needs {
            reads_scores: true,
            ..self
        }
    }

    /// The same, and it adds to the values.
    pub const fn with_values(self) -> Needs {
        Needs { values: true, ..self }
    }
}

/// Which part of a tile can attend at all, as far as a term is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No pair. The tile may be skipped, but need not be: the term writes −∞ all the same.
    None,
    /// Some pairs: the term writes −∞ where not; later terms and the soft cap leave it.
    Some,
    /// All pairs.
    All,
}

/// Where a tile lies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Place<'a> {
    /// Row of the batch.
    pub batch: usize,
    /// Query head (the first one, where the tile holds all heads).
    pub head: usize,
    /// The key head it attends to.
    pub kv_head: usize,
    /// Order of the tile's first query among the queries.
    pub q0: usize,
    /// Order of the tile's first key among the keys.
    pub k0: usize,
    /// Positions of the tile's queries.
    pub q_at: At<'a>,
    /// Positions of the tile's keys.
    pub k_at: At<'a>,
    /// What q·k is multiplied by.
    pub scale: f64,
}

/// A packed block: `planes` × `rows` × `cols`, rows `ld` apart, planes `plane` apart. One plane unless a term asks for all heads.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, R> {
    /// Heads in the block.
    pub planes: usize,
    /// Rows per plane.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Distance of two rows in `data`.
    pub ld: usize,
    /// Distance of two planes in `data`.
    pub plane: usize,
    /// The numbers.
    pub data: &'a [R],
}

/// A packed block to be written; see [`Block`].
#[derive(Debug)]
pub struct BlockMut<'a, R> {
    /// Heads in the block.
    pub planes: usize,
    /// Rows per plane.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Distance of two rows in `data`.
    pub ld: usize,
    /// Distance of two planes in `data`.
    pub plane: usize,
    /// The numbers.
    pub data: &'a mut [R],
}

impl<'a, R> Block<'a, R> {
    /// One plane.
    pub fn new(data: &'a [R], rows: usize, cols: usize, ld: usize) -> Self {
        Block {
            planes: 1,
            rows,
            cols,
            ld,
            plane: 0,
            data,
        }
    }

    /// Row `i` of the first plane.
    #[inline]
    pub fn row(&self, i: usize) -> &'a [R] {
        &self.data[i * self.ld..i * self.ld + self.cols]
    }

    /// Some rows of the first plane: from one on, so many.
    pub(crate) fn some_rows(&self, [i0, rows]: [usize; 2]) -> Block<'a, R> {
        self.part([i0, rows], [0, self.cols])
    }

    /// Some rows and columns of the first plane, likewise.
    pub(crate) fn part(&self, [i0, rows]: [usize; 2], [j0, cols]: [usize; 2]) -> Block<'a, R> {
        Block::new(&self.data[i0 * self.ld + j0..], rows, cols, self.ld)
    }

    /// Plane `h` as a block of one plane.
    pub fn head(&self, h: usize) -> Block<'a, R> {
        Block::new(&self.data[h * self.plane..], self.rows, self.cols, self.ld)
    }
}

impl<'a, R> BlockMut<'a, R> {
    /// One plane.
    pub fn new(data: &'a mut [R], rows: usize, cols: usize, ld: usize) -> Self {
        BlockMut {
            planes: 1,
            rows,
            cols,
            ld,
            plane: 0,
            data,
        }
    }

    /// Row `i` of the first plane.
    #[inline]
    pub fn row(&mut self, i: usize) -> &mut [R] {
        &mut self.data[i * self.ld..i * self.ld + self.cols]
    }

    /// Zeros everywhere, of all planes.
    pub fn clear(&mut self)
    where
        R: Real,
    {
        for h in 0..self.planes {
            for i in 0..self.rows {
                self.data[h * self.plane + i * self.ld..][..self.cols].fill(R::ZERO);
            }
        }
    }

    /// Some rows of the first plane: from one on, so many.
    pub(crate) fn some_rows(&mut self, [i0, rows]: [usize; 2]) -> BlockMut<'_, R> {
        self.part([i0, rows], [0, self.cols])
    }

    /// Some rows and columns of the first plane, likewise.
    pub(crate) fn part(&mut self, [i0, rows]: [usize; 2], [j0, cols]: [usize; 2]) -> BlockMut<'_, R> {
        BlockMut::new(&mut self.data[i0 * self.ld + j0..], rows, cols, self.ld)
    }

    /// Plane `h` as a block of one plane.
    pub fn head(&mut self, h: usize) -> BlockMut<'_, R> {
        BlockMut::new(&mut self.data[h * self.plane..], self.rows, self.cols, self.ld)
    }

    /// The same block, to be read.
    pub fn as_block(&self) -> Block<'_, R> {
        Block {
            planes: self.planes,
            rows: self.rows,
            cols: self.cols,
            ld: self.ld,
            plane: self.plane,
            data: self.data,
        }
    }
}

/// One tile as a term sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Tile<'a, R> {
    /// Where it lies.
    pub at: Place<'a>,
    /// Its query rows `[rows, head_dim]`, already rotated; a bias must not need them.
    pub q: Block<'a, R>,
    /// Its key rows `[cols, head_dim]`, already rotated; a bias must not need them.
    pub k: Block<'a, R>,
    /// In an adjoint, the scores before the term, if [`Needs::reads_scores`]; else empty.
    pub before: Block<'a, R>,
}

impl<'a, R> Tile<'a, R> {
    pub(crate) fn new(at: Place<'a>, q: Block<'a, R>, k: Block<'a, R>) -> Self {
        Tile {
            at,
            q,
            k,
            before: Block::new(&[], 0, 0, 0),
        }
    }

    /// A tile for terms that read positions only.
    pub(crate) fn of_positions(at: Place<'a>) -> Self {
        Tile::new(at, Block::new(&[], 0, 0, 0), Block::new(&[], 0, 0, 0))
    }
}

/// Where a term's adjoint adds what it finds.
#[derive(Debug)]
#[non_exhaustive]
pub struct TermGrads<'a, R> {
    /// Gradient of the tile's query rows, `[rows, head_dim]`.
    pub dq: BlockMut<'a, R>,
    /// Gradient of the tile's key rows, `[cols, head_dim]`.
    pub dk: BlockMut<'a, R>,
    /// The slots of this head (of all heads, one after the other, for [`Granularity::AllHeads`]).
    pub slots: &'a mut [R],
}

/// One term of the scores: the one trait that a new method implements.
///
/// The driver computes `s = scale·qkᵀ`, lets each *content* term add to it, soft-caps, lets each *bias* term add to it, masks, and takes the softmax.
/// A term is called once per tile, so dynamic dispatch costs nothing; a term of a user's own is as good as a built-in one.
///
/// Example: `examples/own_encoding.rs`, a whole encoding in under 60 lines.
pub trait ScoreTerm<R: Real>: Send + Sync {
    /// What the term asks of the driver.
    fn needs(&self) -> Needs;

    /// Which part of a tile of `rows` × `cols` can attend at all.
    fn reach(&self, _at: &Place<'_>, _rows: usize, _cols: usize) -> Reach {
        Reach::All
    }

    /// `s += term`, in natural-log units, after the scale.
    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>);

    /// `s = term`: the term alone, over whatever is there, 0 where it adds nothing. What writes a bias out calls it for the first one; the default writes zeros and adds.
    fn write(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        s.clear();
        self.add(tile, s);
    }

    /// Given `ds`, the gradient of the scores after the term: adds to `dq`, `dk` and the slots; overwrites nothing there. A term that
    /// reads the scores also turns `ds` into the gradient of `tile.before`, of which the driver drops what belongs to blocked pairs.
    ///
    /// The default does nothing, which is right only for a term without parameters that reads neither queries, keys nor scores; the law
    /// [`adjoint_matches_differences`](crate::laws::adjoint_matches_differences) finds out where it is not.
    fn adjoint(&self, _tile: &Tile<'_, R>, _ds: &mut BlockMut<'_, R>, _into: &mut TermGrads<'_, R>) {}

    /// `o += Σⱼ pᵢⱼ rᵢⱼ`: the term's part of the values, if [`Needs::values`]. `o` is `[rows, value_dim]`.
    fn add_value(&self, _at: &Place<'_>, _p: &Block<'_, R>, _o: &mut BlockMut<'_, R>) {}

    /// The adjoint of [`ScoreTerm::add_value`]: `dp += do·rᵢⱼ`, and the slots of this head `+= pᵢⱼ do`.
    fn value_adjoint(&self, _at: &Place<'_>, _p: &Block<'_, R>, _d_o: &Block<'_, R>, _dp: &mut BlockMut<'_, R>, _slots: &mut [R]) {}

    /// Adds the summed slots, `[heads, slots]`, to the gradients of the parameters they belong to.
    ///
    /// # Errors
    /// A parameter is missing from the store.
    fn collect(&self, _slots: &[R], _grads: &mut BoundMut<'_, R>) -> Result<()> {
        Ok(())
    }
}
