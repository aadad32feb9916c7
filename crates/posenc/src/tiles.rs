//! For tests: runs a score term over the tiles of its scores, as attention does, without attention.

use crate::call::Call;
use crate::dims::Dims;
use crate::encoding::Encoding;
use crate::params::Params;
use crate::positions::Positions;
use crate::real::Real;
use crate::rng::Rng;
use crate::term::{Block, BlockMut, Place, ScoreTerm, TermGrads, Tile};

/// `n` normal numbers.
pub(crate) fn normal<R: Real>(seed: u64, n: usize) -> Vec<R> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| R::of(rng.normal())).collect()
}

/// The positions of a row of the batch, as the references take them.
pub(crate) fn whole(at: &Positions, batch: usize) -> Vec<Option<i64>> {
    (0..at.len()).map(|t| at.at(0, batch, t, 1).whole(0)).collect()
}

/// The one term of a call over tiles of `rows` × `cols`.
pub(crate) struct Tiles<'a, 'p, R: Real> {
    pub call: &'a Call<'p, R>,
    pub batch: usize,
    pub tile: (usize, usize),
    /// `[batch, heads, q_len, head_dim]`.
    pub q: &'a [R],
    /// `[batch, kv_heads, k_len, head_dim]`, or nothing for a term that does not read keys.
    pub k: &'a [R],
    pub scale: f64,
}

/// Rows of a tile lie this much further apart than they are wide; what lies between is NaN and must stay so.
const GAP: usize = 3;

impl<'a, 'p, R: Real> Tiles<'a, 'p, R> {
    /// Of a term that reads positions only.
    pub fn of_bias(call: &'a Call<'p, R>, batch: usize, tile: (usize, usize)) -> Self {
        Tiles {
            call,
            batch,
            tile,
            q: &[],
            k: &[],
            scale: 1.0,
        }
    }

    pub fn term(&self) -> &dyn ScoreTerm<R> {
        let mut terms = self.call.terms();
        let term = terms.next().expect("a term");
        assert!(terms.next().is_none(), "one term");
        &**term
    }

    fn lengths(&self) -> (usize, usize) {
        (self.call.q_at().len(), self.call.k_at().len())
    }

    /// Calls `visit` for each tile with its place, rows, columns, the indices of its queries in `q` and keys in `k`, and that of its first score in `[batch, heads, q_len, k_len]`.
    fn each(&self, mut visit: impl FnMut(&Place<'_>, usize, usize, [usize; 2], usize)) {
        let (q_len, k_len) = self.lengths();
        let Dims {
            heads, kv_heads, head_dim, ..
        } = self.call.dims();
        for batch in 0..self.batch {
            for head in 0..heads {
                for q0 in (0..q_len).step_by(self.tile.0) {
                    for k0 in (0..k_len).step_by(self.tile.1) {
                        let (rows, cols) = (self.tile.0.min(q_len - q0), self.tile.1.min(k_len - k0));
                        let at = Place {
                            batch,
                            head,
                            kv_head: head / (heads / kv_heads),
                            q0,
                            k0,
                            q_at: self.call.q_at().at(0, batch, q0, rows),
                            k_at: self.call.k_at().at(0, batch, k0, cols),
                            scale: self.scale,
                        };
                        let row = (batch * heads + head) * q_len + q0;
                        let key = (batch * kv_heads + at.kv_head) * k_len + k0;
                        visit(&at, rows, cols, [row * head_dim, key * head_dim], row * k_len + k0);
                    }
                }
            }
        }
    }

    /// Copies a tile out of a matrix with rows `from_ld` apart.
    fn cut(from: &[R], from_ld: usize, rows: usize, cols: usize) -> (Vec<R>, usize) {
        let ld = cols + GAP;
        let mut tile = vec![R::of(f64::NAN); rows * ld];
        for i in 0..rows {
            tile[i * ld..i * ld + cols].copy_from_slice(&from[i * from_ld..i * from_ld + cols]);
        }
        (tile, ld)
    }

    /// Writes a tile back and checks that nothing was written between its rows.
    fn paste(tile: &[R], ld: usize, into: &mut [R], into_ld: usize, rows: usize, cols: usize) {
        for i in 0..rows {
            into[i * into_ld..i * into_ld + cols].copy_from_slice(&tile[i * ld..i * ld + cols]);
            assert!(
                tile[i * ld + cols..(i + 1) * ld].iter().all(|x| !x.is_finite()),
                "written past a row"
            );
        }
    }

    /// Rows of `q` or `k`.
    fn block<'x>(&self, of: &'x [R], from: usize, rows: usize) -> Block<'x, R> {
        let dim = self.call.dims().head_dim;
        if of.is_empty() {
            return Block::new(&[], 0, 0, 0);
        }
        Block::new(&of[from..], rows, dim, dim)
    }

    /// `scores + term`, `[batch, heads, q_len, k_len]`.
    pub fn add(&self, scores: &[R]) -> Vec<R> {
        let (term, (_, k_len), mut out) = (self.term(), self.lengths(), scores.to_vec());
        self.each(|at, rows, cols, [q, k], s| {
            let (mut tile, ld) = Self::cut(&out[s..], k_len, rows, cols);
            term.add(
                &Tile::new(*at, self.block(self.q, q, rows), self.block(self.k, k, cols)),
                &mut BlockMut::new(&mut tile, rows, cols, ld),
            );
            Self::paste(&tile, ld, &mut out[s..], k_len, rows, cols);
        });
        out
    }

    /// From the gradient of the scores: those of the queries and the keys, and the slots, `[heads, slots]`.
    pub fn adjoint(&self, d_scores: &[R]) -> ([Vec<R>; 2], Vec<R>) {
        let (term, (_, k_len), dim) = (self.term(), self.lengths(), self.call.dims().head_dim);
        let slots = term.needs().slots;
        let (mut dq, mut dk) = (vec![R::ZERO; self.q.len()], vec![R::ZERO; self.k.len()]);
        let mut sums = vec![R::ZERO; slots * self.call.dims().heads];
        self.each(|at, rows, cols, [q, k], s| {
            let (mut tile, ld) = Self::cut(&d_scores[s..], k_len, rows, cols);
            let before = tile.clone();
            let dq = if self.q.is_empty() { &mut [] } else { &mut dq[q..] };
            let (dk, keys) = if self.k.is_empty() {
                (&mut [][..], 0)
            } else {
                (&mut dk[k..], cols)
            };
            let seen = Tile {
                before: Block::new(&before, rows, cols, ld),
                ..Tile::new(*at, self.block(self.q, q, rows), self.block(self.k, k, cols))
            };
            term.adjoint(
                &seen,
                &mut BlockMut::new(&mut tile, rows, cols, ld),
                &mut TermGrads {
                    dq: BlockMut::new(dq, rows, dim, dim),
                    dk: BlockMut::new(dk, keys, dim, dim),
                    slots: &mut sums[at.head * slots..][..slots],
                },
            );
        });
        ([dq, dk], sums)
    }

    /// The term's part of the values, `[batch, heads, q_len, head_dim]`, of weights `[batch, heads, q_len, k_len]`.
    pub fn values(&self, p: &[R]) -> Vec<R> {
        let (term, (q_len, k_len), Dims { heads, head_dim, .. }) = (self.term(), self.lengths(), self.call.dims());
        let mut out = vec![R::ZERO; self.batch * heads * q_len * head_dim];
        self.each(|at, rows, cols, [o, _], s| {
            let (tile, ld) = Self::cut(&p[s..], k_len, rows, cols);
            let (mut wide, wide_ld) = Self::cut(&out[o..], head_dim, rows, head_dim);
            term.add_value(
                at,
                &Block::new(&tile, rows, cols, ld),
                &mut BlockMut::new(&mut wide, rows, head_dim, wide_ld),
            );
            Self::paste(&wide, wide_ld, &mut out[o..], head_dim, rows, head_dim);
        });
        out
    }

    /// From the gradient of the values: that of the weights and the slots, `[heads, slots]`.
    pub fn value_adjoint(&self, p: &[R], d_out: &[R]) -> (Vec<R>, Vec<R>) {
        let (term, (_, k_len), Dims { heads, head_dim, .. }) = (self.term(), self.lengths(), self.call.dims());
        let slots = term.needs().slots;
        let (mut dp, mut sums) = (vec![R::ZERO; p.len()], vec![R::ZERO; slots * heads]);
        self.each(|at, rows, cols, [o, _], s| {
            let (tile, ld) = Self::cut(&p[s..], k_len, rows, cols);
            let (mut d_tile, d_ld) = Self::cut(&dp[s..], k_len, rows, cols);
            term.value_adjoint(
                at,
                &Block::new(&tile, rows, cols, ld),
                &Block::new(&d_out[o..], rows, head_dim, head_dim),
                &mut BlockMut::new(&mut d_tile, rows, cols, d_ld),
                &mut sums[at.head * slots..][..slots],
            );
            Self::paste(&d_tile, d_ld, &mut dp[s..], k_len, rows, cols);
        });
        (dp, sums)
    }
}

/// Positions of a query and a key stream with what makes each case its own: name, queries, keys, batch.
pub(crate) fn cases() -> Vec<(&'static str, Positions, Positions, usize)> {
    let flags = |n: usize, absent: usize| (0..n).map(|t| t % 5 != absent).collect::<Vec<_>>();
    let long_after = |n: usize, absent: usize| (0..n).map(|t| t >= absent).collect::<Vec<_>>();
    let scattered: Vec<i64> = (0..34).map(|t| (t * 7919) % 61 - 20).collect();
    vec![
        ("ranges", Positions::range(0..17), Positions::range(0..17), 2),
        ("decode", Positions::range(22..23), Positions::range(0..23), 1),
        ("cross, negative", Positions::range(-4..7), Positions::range(3..22), 1),
        ("packed", Positions::packed(&[6, 1, 10]), Positions::packed(&[6, 1, 10]), 1),
        // Runs so long that tables are read along the diagonals of a tile.
        ("packed, long", Positions::packed(&[40, 57]), Positions::packed(&[33, 70]), 1),
        (
            "padded, long",
            Positions::range(-3..67).with_presence(&long_after(70, 3)).unwrap(),
            Positions::range(-7..83).with_presence(&long_after(90, 7)).unwrap(),
            1,
        ),
        (
            "ids by row",
            Positions::whole_rows(&scattered[..26], 2).unwrap(),
            Positions::whole_rows(&scattered, 2).unwrap(),
            2,
        ),
        (
            "queries a range, keys ids",
            Positions::range(5..14),
            Positions::whole(&scattered[..19]),
            2,
        ),
        (
            "ids far apart",
            Positions::whole(&[-900, 5, 6, 7, 8, 9, 10, 11, 4000]),
            Positions::whole(&(0..19).map(|t| t * t * 11 - 30).collect::<Vec<_>>()),
            1,
        ),
        (
            "some without a position",
            Positions::range(0..13).with_presence(&flags(13, 2)).unwrap(),
            Positions::range(0..19).with_presence(&flags(19, 0)).unwrap(),
            1,
        ),
        (
            "left padding",
            Positions::from_padding(&[false, false, true, true, true, true, true, true], 2).unwrap(),
            Positions::from_padding(&[false, false, true, true, true, true, true, true], 2).unwrap(),
            2,
        ),
        (
            "padding between tokens",
            Positions::range(0..4),
            Positions::from_padding(&[true, false, true, true, false, false, true], 1).unwrap(),
            1,
        ),
        (
            "whole numbers as floats",
            Positions::real(&[0.0, 3.0, 8.0]).unwrap(),
            Positions::real(&[1.0, 2.0, 40.0]).unwrap(),
            1,
        ),
        ("no query", Positions::range(0..0), Positions::range(0..3), 1),
    ]
}

/// Tiles at odd offsets, and one tile.
pub(crate) const SPLITS: [(usize, usize); 4] = [(64, 64), (5, 7), (1, 3), (4, 16)];

/// The laws of a bias with a table, on all [`cases`] and [`SPLITS`]: the term is the reference bit for bit, `expected(table, q, k)` giving `[heads, q_len, k_len]`;
/// it does not depend on the tiles, and the gradient is that of finite differences.
pub(crate) fn check_table_bias(encoding: &Encoding, expected: impl Fn(&[f64], &[Option<i64>], &[Option<i64>]) -> Vec<f64>) {
    let plan = encoding.plan(Dims::new(12, 3).unwrap()).unwrap();
    let mut params: Params<f64> = plan.init(1).unwrap();
    params.flat_mut().copy_from_slice(&normal(2, plan.parameters()[0].size()));
    for (name, q_at, k_at, batch) in cases() {
        let size = batch * 3 * q_at.len() * k_at.len();
        let (scores, d_scores): (Vec<f64>, Vec<f64>) = (normal(3, size), normal(4, size));
        let call = plan.call(&params, &q_at, &k_at).unwrap();
        let mut bias = Vec::new();
        for b in 0..batch {
            bias.extend(expected(params.flat(), &whole(&q_at, b), &whole(&k_at, b)));
        }
        let mut matrix = vec![f64::NAN; size];
        call.materialise_bias(crate::ViewMut::new(&mut matrix, [batch, 3, q_at.len(), k_at.len()]).unwrap())
            .unwrap();
        assert_eq!(matrix, bias, "{encoding}, {name}: materialised");

        for tile in SPLITS {
            let tiles = Tiles::of_bias(&call, batch, tile);
            let sum: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + b).collect();
            assert_eq!(tiles.add(&scores), sum, "{encoding}, {name}, tiles {tile:?}");

            let mut grads = params.zeros_like();
            let (_, slots) = tiles.adjoint(&d_scores);
            tiles.term().collect(&slots, &mut (&mut grads).into()).unwrap();
            // The loss Σ d·(s + bias) is linear in the table: a difference over ±1 is exact but for the rounding of `size` sums of terms below 2⁴.
            let loss = |params: &Params<f64>| -> f64 {
                let call = plan.call(params, &q_at, &k_at).unwrap();
                let sum = Tiles::of_bias(&call, batch, tile).add(&scores);
                sum.iter().zip(&d_scores).map(|(s, d)| s * d).sum()
            };
            let bound = 16.0 * (size as f64 + 1.0) * f64::EPSILON;
            for i in 0..params.size() {
                let mut moved = params.clone();
                moved.flat_mut()[i] += 1.0;
                let above = loss(&moved);
                moved.flat_mut()[i] -= 2.0;
                let slope = (above - loss(&moved)) / 2.0;
                let given = grads.flat()[i];
                assert!(
                    (given - slope).abs() <= bound,
                    "{encoding}, {name}, tiles {tile:?}, entry {i}: {given} against {slope}"
                );
            }
        }
    }
}
