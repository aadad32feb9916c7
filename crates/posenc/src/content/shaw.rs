//! # Shaw's relative keys and values
//!
//! **Idea.** A trained vector for each distance up to k is added to the key, and another to the value, of every pair at that distance: how much a distance matters
//! depends on what the query asks for.
//!
//! **Paper.** Shaw, Uszkoreit, Vaswani: *Self-Attention with Relative Position Representations*, 2018, arXiv 1803.02155.
//!
//! **Maths.** For query i and key j, with tables aᴷ and aⱽ of 2k + 1 rows:
//! ```text
//! r(i, j) = clip(j − i, −k, k) + k
//! s(i, j) = qᵢ · (kⱼ + aᴷ[r(i, j)]) / √d
//! o(i)    = Σⱼ p(i, j) (vⱼ + aⱽ[r(i, j)])
//! ```
//!
//! **Shapes.** Tables `relative_keys` `[2k + 1, head_dim]` and `relative_values` `[2k + 1, head_dim]`, shared by the heads of a layer; values are as wide as queries.
//!
//! **Conventions that differ between codebases.** The tables can be clipped at another distance after the query than before it ([`Shaw::with_max_after`]). The order of the rows: the paper, tensor2tensor and wav2vec2-bert count key − query; the `relative_key` of BERT in
//! transformers (until version 4) counts query − key, so its rows are read in reverse. Many models have the keys only (Music Transformer, SpeechT5, BERT):
//! [`Shaw::keys_only`]. The term is scaled with the scores. Where queries are rotated too, it reads them rotated.
//!
//! **Cost.** 2 · (2k + 1) · head_dim numbers per layer. A query meets each of its distances once: at most 2k + 1 products of `head_dim` per row of a tile, not one per pair, and as many
//! for the values, whose weights are first summed by distance. Ranges, and packed documents of some length, take them as products of matrices: tiles far from the diagonal read one row, and cost a
//! pass over their scores. Scattered positions make one product per run of keys at the same clipped distance.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, Shaw};
//! let plan = Encoding::from(Shaw::new(16)).plan(Dims::new(64, 4)?)?;
//! assert_eq!(plan.parameters()[0].shape, [33, 16]);
//! let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..100));
//! assert!(plan.call(&params, &at, &at)?.content()[0].needs().values);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::Parts;
use crate::content::diagonals::{Diagonals, Operand, TableRows, Totals};
use crate::dims::Dims;
use crate::distances::{KeyRun, KeyRuns, Run, add_scaled, check_distance, check_one_axis, dot, in_long_runs, key_runs, owner, runs, sum};
use crate::error::Result;
use crate::params::{Bound, BoundMut, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use crate::term::{Block, BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Trained vectors per clipped distance, added to keys and values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "RelativePosition")]
#[doc(alias = "relative_key")]
pub struct Shaw {
    /// k: distances beyond ±k are read as ±k. 16 in the paper's large model.
    pub max_distance: usize,
    /// Distances of keys after the query are clipped here instead (wav2vec2-bert: 64 before, 8 after).
    #[serde(default)]
    pub max_after: Option<usize>,
    /// Vectors are added to the values too.
    #[serde(default = "crate::encoding::written::yes")]
    pub values: bool,
    /// How the tables begin.
    #[serde(default = "crate::encoding::written::xavier")]
    pub init: Init,
    /// One pair of tables for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl Shaw {
    /// Keys and values, tables per layer that begin by Xavier's rule.
    pub fn new(max_distance: usize) -> Shaw {
        Shaw {
            max_distance,
            max_after: None,
            values: true,
            init: Init::XavierUniform,
            scope: Scope::Layer,
        }
    }

    /// Keys only: half the parameters, and attention's values stay as they are.
    pub fn keys_only(max_distance: usize) -> Shaw {
        Shaw {
            values: false,
            ..Shaw::new(max_distance)
        }
    }

    /// The same with another largest distance for keys after the query: the tables have `max_distance` + 1 + `max_after` rows.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Shaw};
    /// let plan = Encoding::from(Shaw::keys_only(64).with_max_after(8)).plan(Dims::new(64, 4)?)?;
    /// assert_eq!(plan.parameters()[0].shape, [73, 16]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn with_max_after(self, max_after: usize) -> Shaw {
        Shaw {
            max_after: Some(max_after),
            ..self
        }
    }

    /// The largest distance of keys after the query.
    fn after(&self) -> usize {
        self.max_after.unwrap_or(self.max_distance)
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> Shaw {
        Shaw { init, ..self }
    }

    /// The same with one pair of tables for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> Shaw {
        Shaw { scope, ..self }
    }

    fn spec(&self, name: &str, dims: &Dims) -> ParamSpec {
        ParamSpec::new(name, [self.max_distance + self.after() + 1, dims.head_dim], self.init).scoped(self.scope)
    }
}

impl fmt::Display for Shaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.values { "keys and values" } else { "keys" };
        let owner = owner(self.scope);
        write!(f, "shaw({what}, key − query, ")?;
        match self.max_after {
            Some(after) => write!(f, "−{} to {after}", self.max_distance)?,
            None => write!(f, "±{}", self.max_distance)?,
        }
        write!(f, ", one table per {owner}, {})", self.init)
    }
}

impl Prepare for Shaw {
    fn check(&self, _dims: &Dims) -> Result<()> {
        check_distance(self.max_distance)?;
        check_distance(self.after())
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        let mut specs = vec![self.spec("relative_keys", dims)];
        if self.values {
            specs.push(self.spec("relative_values", dims));
        }
        specs
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        check_one_axis("shaw", q_at, k_at)?;
        q_at.check_whole()?;
        k_at.check_whole()?;
        Ok(Arc::new(PreparedShaw {
            reach: [self.max_distance as i64, self.after() as i64],
            specs: self.parameters(dims),
            in_runs: in_long_runs(q_at, k_at),
        }))
    }
}

struct PreparedShaw {
    /// Before and after the query.
    reach: [i64; 2],
    /// Of the keys and, if there are any, of the values.
    specs: Vec<ParamSpec>,
    in_runs: bool,
}

impl<R: Real> Prepared<R> for PreparedShaw {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let table = |spec: &ParamSpec| {
            Ok(Table {
                reach: self.reach,
                dim: spec.shape[1],
                rows: params.get(spec)?,
            })
        };
        parts.content.push(Arc::new(ShawTerm {
            keys: table(&self.specs[0])?,
            values: self.specs.get(1).map(table).transpose()?,
            specs: self.specs.clone(),
            in_runs: self.in_runs,
        }));
        Ok(())
    }
}

/// A vector per clipped distance, `[before + 1 + after, dim]`.
#[derive(Clone, Copy)]
struct Table<'p, R> {
    /// Before and after the query.
    reach: [i64; 2],
    dim: usize,
    rows: &'p [R],
}

impl<'p, R: Real> Table<'p, R> {
    fn row(&self, r: usize) -> &'p [R] {
        &self.rows[r * self.dim..][..self.dim]
    }

    /// A part of a tile as products see it.
    fn along(&self, run: Run) -> Diagonals<'p, R, impl Fn(usize) -> Option<usize>> {
        let [before, after] = self.reach;
        Diagonals {
            rows: run.rows[1],
            cols: run.cols[1],
            row: move |t: usize| Some((run.lowest.saturating_add(t as i64).clamp(-before, after) + before) as usize),
            table: TableRows {
                data: self.rows,
                step: self.dim,
                dim: self.dim,
            },
        }
    }

    /// `scores[j] += scale · x·a[r(j)]` for a query at `q`: one product per run of columns at the same clipped distance.
    fn spread(&self, q: Option<i64>, keys: &KeyRuns<'_>, scale: R, x: &[R], scores: &mut [R]) {
        self.runs(q, keys, |r, cols| {
            let score = scale * dot(x, self.row(r));
            scores[cols].iter_mut().for_each(|s| *s += score);
        });
    }

    /// `visit(r, Σ weights[j] over a run of columns j at table row r)` for a query at `q`.
    fn masses(&self, q: Option<i64>, keys: &KeyRuns<'_>, weights: &[R], mut visit: impl FnMut(usize, R)) {
        self.runs(q, keys, |r, cols| {
            let mass = sum(&weights[cols]);
            // Blocked pairs weigh nothing: half of a causal tile.
            if mass != R::ZERO {
                visit(r, mass);
            }
        });
    }

    /// Visits the keys as runs of columns at the same clipped distance from a query at `q`: table row, columns. Pairs without a position are left out.
    #[inline]
    fn runs(&self, q: Option<i64>, keys: &KeyRuns<'_>, mut visit: impl FnMut(usize, Range<usize>)) {
        let (Some(q), [before, after]) = (q, self.reach) else { return };
        // Runs of keys far from the query meet in the first row or the last.
        let (mut row, mut pending) = (0, 0..0);
        let mut join = |r: usize, cols: Range<usize>| {
            if r == row && cols.start == pending.end {
                pending.end = cols.end;
            } else if !cols.is_empty() {
                if !pending.is_empty() {
                    visit(row, pending.clone());
                }
                (row, pending) = (r, cols);
            }
        };
        for KeyRun { cols, first } in keys.clone() {
            // Keys up to q − before share the first row, keys from q + after the last; between them each has its own.
            // Counted in distances: no position is moved, so those next to the ends of i64 are read like any other.
            let from = first.saturating_sub(q);
            let column = |distance: i64| cols.start + distance.saturating_sub(from).clamp(0, cols.len() as i64) as usize;
            let near = column(1 - before);
            let far = column(after).max(near);
            join(0, cols.start..near);
            for j in near..far {
                join((from + (j - cols.start) as i64 + before) as usize, j..j + 1);
            }
            join((before + after) as usize, far..cols.end);
        }
        if !pending.is_empty() {
            visit(row, pending);
        }
    }
}

struct ShawTerm<'p, R> {
    keys: Table<'p, R>,
    values: Option<Table<'p, R>>,
    specs: Vec<ParamSpec>,
    /// Tiles are computed by products, run by run.
    in_runs: bool,
}

impl<R: Real> ScoreTerm<R> for ShawTerm<'_, R> {
    fn needs(&self) -> Needs {
        let needs = Needs::bias(self.keys.rows.len() + self.values.map_or(0, |t| t.rows.len()));
        if self.values.is_some() { needs.with_values() } else { needs }
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let Tile { at, q, .. } = tile;
        if self.in_runs {
            for run in runs(at, s.rows, s.cols) {
                let (q, mut s) = (q.some_rows(run.rows), s.part(run.rows, run.cols));
                self.keys.along(run).add(Operand::of(q), R::of(at.scale), &mut s);
            }
            return;
        }
        let (keys, scale) = (key_runs(&at.k_at, s.cols), R::of(at.scale));
        for i in 0..s.rows {
            self.keys.spread(at.q_at.whole(i), &keys, scale, q.row(i), s.row(i));
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let Tile { at, q, .. } = tile;
        if self.in_runs {
            for run in runs(at, ds.rows, ds.cols) {
                let (q, ds) = (q.some_rows(run.rows), ds.as_block().part(run.rows, run.cols));
                let totals = Totals {
                    rows: Some(&mut into.dq.some_rows(run.rows)),
                    shift: None,
                    table: Some(into.slots),
                };
                self.keys.along(run).sums(&ds, R::of(at.scale), Operand::of(q), totals);
            }
            return;
        }
        let (keys, dim, scale) = (key_runs(&at.k_at, ds.cols), self.keys.dim, R::of(at.scale));
        for i in 0..ds.rows {
            let (q, dq, slots) = (q.row(i), into.dq.row(i), &mut *into.slots);
            self.keys.masses(at.q_at.whole(i), &keys, ds.row(i), |r, mass| {
                add_scaled(dq, scale * mass, self.keys.row(r));
                add_scaled(&mut slots[r * dim..][..dim], scale * mass, q);
            });
        }
    }

    fn add_value(&self, at: &Place<'_>, p: &Block<'_, R>, o: &mut BlockMut<'_, R>) {
        let Some(values) = self.values else { return };
        if self.in_runs {
            for run in runs(at, p.rows, p.cols) {
                let totals = Totals {
                    rows: Some(&mut o.some_rows(run.rows)),
                    shift: None,
                    table: None,
                };
                let nobody = Operand::of(Block::new(&[], 0, 0, 0));
                values.along(run).sums(&p.part(run.rows, run.cols), R::ONE, nobody, totals);
            }
            return;
        }
        let keys = key_runs(&at.k_at, p.cols);
        for i in 0..p.rows {
            let o = o.row(i);
            values.masses(at.q_at.whole(i), &keys, p.row(i), |r, mass| add_scaled(o, mass, values.row(r)));
        }
    }

    fn value_adjoint(&self, at: &Place<'_>, p: &Block<'_, R>, d_o: &Block<'_, R>, dp: &mut BlockMut<'_, R>, slots: &mut [R]) {
        let Some(values) = self.values else { return };
        let (keys, dim) = (key_runs(&at.k_at, p.cols), values.dim);
        let slots = &mut slots[self.keys.rows.len()..];
        if self.in_runs {
            for run in runs(at, p.rows, p.cols) {
                let (along, d_o) = (values.along(run), Operand::of(d_o.some_rows(run.rows)));
                let totals = Totals {
                    rows: None,
                    shift: None,
                    table: Some(&mut *slots),
                };
                along.add(d_o, R::ONE, &mut dp.part(run.rows, run.cols));
                along.sums(&p.part(run.rows, run.cols), R::ONE, d_o, totals);
            }
            return;
        }
        for i in 0..p.rows {
            let (q, d_o) = (at.q_at.whole(i), d_o.row(i));
            values.spread(q, &keys, R::ONE, d_o, dp.row(i));
            values.masses(q, &keys, p.row(i), |r, mass| add_scaled(&mut slots[r * dim..][..dim], mass, d_o));
        }
    }

    /// The heads share the tables: their slots, keys then values, are summed in f64.
    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let per_head = ScoreTerm::<R>::needs(self).slots;
        let mut from = 0;
        for spec in &self.specs {
            for (i, grad) in grads.get_mut(spec)?.iter_mut().enumerate() {
                let heads = slots.iter().skip(from + i).step_by(per_head);
                *grad += R::of(heads.map(|slot| slot.to_f64()).sum());
            }
            from += spec.size();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::error::Error;
    use crate::params::Params;
    use crate::tiles::{self, Tiles, normal, whole};
    use crate::{Plan, reference};

    const HEADS: usize = 2;
    const DIM: usize = 21; // one full set of partial sums and a rest

    fn plan(shaw: Shaw) -> Plan {
        Encoding::from(shaw).plan(Dims::new(HEADS * DIM, HEADS).unwrap()).unwrap()
    }

    /// Products of `n` normal numbers below 2³ each, summed in any order.
    fn bound(n: usize) -> f64 {
        64.0 * n as f64 * f64::EPSILON
    }

    fn assert_close(given: &[f64], expected: &[f64], bound: f64, what: &str) {
        assert_eq!(given.len(), expected.len(), "{what}");
        for (i, (g, e)) in given.iter().zip(expected).enumerate() {
            assert!((g - e).abs() <= bound, "{what}, entry {i}: {g} against {e}");
        }
    }

    #[test]
    fn scores_and_values_are_those_of_the_reference_on_any_tiles() {
        for max_distance in [0, 1, 4, 30] {
            let plan = plan(Shaw::new(max_distance));
            let params: Params<f64> = plan.init(1).unwrap();
            let (keys, values) = (params.get("relative_keys").unwrap(), params.get("relative_values").unwrap());
            for (name, q_at, k_at, batch) in tiles::cases() {
                let call = plan.call(&params, &q_at, &k_at).unwrap();
                let (q_len, k_len) = (q_at.len(), k_at.len());
                let q: Vec<f64> = normal(2, batch * HEADS * q_len * DIM);
                let p: Vec<f64> = normal(3, batch * HEADS * q_len * k_len);
                let (mut scores, mut out) = (p.clone(), Vec::new());
                for b in 0..batch {
                    let (i, j) = (whole(&q_at, b), whole(&k_at, b));
                    for h in b * HEADS..(b + 1) * HEADS {
                        let terms = reference::shaw::key_scores(&q[h * q_len * DIM..][..q_len * DIM], keys, DIM, 0.25, &i, &j);
                        let s = &mut scores[h * q_len * k_len..][..q_len * k_len];
                        s.iter_mut().zip(terms).for_each(|(s, t)| *s += t);
                        out.extend(reference::shaw::values(
                            &p[h * q_len * k_len..][..q_len * k_len],
                            values,
                            DIM,
                            &i,
                            &j,
                        ));
                    }
                }
                let mut first = None;
                for tile in tiles::SPLITS {
                    let tiles = Tiles {
                        call: &call,
                        batch,
                        tile,
                        q: &q,
                        k: &[],
                        scale: 0.25,
                    };
                    let what = format!("±{max_distance}, {name}, tiles {tile:?}");
                    let given = tiles.add(&p);
                    assert_close(&given, &scores, bound(DIM), &what);
                    assert_eq!(&given, first.get_or_insert(given.clone()), "{what}: the split shows");
                    assert_close(&tiles.values(&p), &out, bound(k_len), &what);
                }
            }
        }
    }

    /// Both losses, Σ g·(s + term) and Σ g·values, are linear in each of tables, queries and weights: differences over ±1 are exact but for rounding.
    #[test]
    fn adjoints_are_those_of_finite_differences() {
        let plan = plan(Shaw::new(3));
        let params: Params<f64> = plan.init(1).unwrap();
        let n_keys = params.get("relative_keys").unwrap().len();
        for (name, q_at, k_at, batch) in tiles::cases().into_iter().skip(1) {
            let rows = batch * HEADS * q_at.len();
            let (q, p): (Vec<f64>, Vec<f64>) = (normal(2, rows * DIM), normal(3, rows * k_at.len()));
            let (d_s, d_o): (Vec<f64>, Vec<f64>) = (normal(4, p.len()), normal(5, q.len()));
            let run = |params: &Params<f64>, q: &[f64], p: &[f64]| {
                let call = plan.call(params, &q_at, &k_at).unwrap();
                let tiles = Tiles {
                    call: &call,
                    batch,
                    tile: (4, 7),
                    q,
                    k: &[],
                    scale: 0.5,
                };
                let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                (inner(&tiles.add(&vec![0.0; p.len()]), &d_s), inner(&tiles.values(p), &d_o))
            };
            let call = plan.call(&params, &q_at, &k_at).unwrap();
            let tiles = Tiles {
                call: &call,
                batch,
                tile: (4, 7),
                q: &q,
                k: &[],
                scale: 0.5,
            };
            let ([dq, _], mut slots) = tiles.adjoint(&d_s);
            let (dp, value_slots) = tiles.value_adjoint(&p, &d_o);
            slots.iter_mut().zip(value_slots).for_each(|(s, v)| *s += v);
            let mut grads = params.zeros_like();
            tiles.term().collect(&slots, &mut (&mut grads).into()).unwrap();

            let bound = bound(p.len() * DIM + 1);
            let difference = |x: &[f64], i: usize, loss: &dyn Fn(&[f64]) -> f64| {
                let (mut above, mut below) = (x.to_vec(), x.to_vec());
                above[i] += 1.0;
                below[i] -= 1.0;
                (loss(&above) - loss(&below)) / 2.0
            };
            for i in (0..params.size()).step_by(11) {
                let slope = difference(params.flat(), i, &|x| {
                    let mut moved = params.clone();
                    moved.flat_mut().copy_from_slice(x);
                    let (scores, values) = run(&moved, &q, &p);
                    if i < n_keys { scores } else { values }
                });
                assert!((grads.flat()[i] - slope).abs() <= bound, "{name}, table entry {i}");
            }
            for i in (0..q.len()).step_by(29) {
                let slope = difference(&q, i, &|x| run(&params, x, &p).0);
                assert!((dq[i] - slope).abs() <= bound, "{name}, query entry {i}");
            }
            for i in (0..p.len()).step_by(23) {
                let slope = difference(&p, i, &|x| run(&params, &q, x).1);
                assert!((dp[i] - slope).abs() <= bound, "{name}, weight entry {i}");
            }
        }
    }

    /// Clipping nearer after the query is the same as rows that repeat from there on: the same products in the same order, bit for bit, forward; the gradient of the repeated rows is their sum.
    #[test]
    fn another_distance_after_the_query_is_rows_that_repeat() {
        for (before, after) in [(3, 1), (4, 0), (2, 5)] {
            let far = before.max(after);
            let (own, wide) = (plan(Shaw::new(before).with_max_after(after)), plan(Shaw::new(far)));
            let params: Params<f64> = own.init(1).unwrap();
            let mut repeated: Params<f64> = wide.init(1).unwrap();
            let source = |row: usize| (row.max(far - before) - (far - before)).min(before + after);
            for name in ["relative_keys", "relative_values"] {
                let table = params.get(name).unwrap();
                let rows: Vec<f64> = (0..2 * far + 1)
                    .flat_map(|row| table[source(row) * DIM..][..DIM].to_vec())
                    .collect();
                repeated.set(name, &[2 * far + 1, DIM], &rows).unwrap();
            }
            for (name, q_at, k_at, batch) in tiles::cases() {
                let rows = batch * HEADS * q_at.len();
                let (q, p): (Vec<f64>, Vec<f64>) = (normal(2, rows * DIM), normal(3, rows * k_at.len()));
                let run = |plan: &Plan, params: &Params<f64>| {
                    let call = plan.call(params, &q_at, &k_at).unwrap();
                    let tiles = Tiles {
                        call: &call,
                        batch,
                        tile: (4, 7),
                        q: &q,
                        k: &[],
                        scale: 0.5,
                    };
                    let mut grads = params.zeros_like();
                    let (dx, slots) = tiles.adjoint(&p);
                    tiles.term().collect(&slots, &mut (&mut grads).into()).unwrap();
                    (tiles.add(&p), tiles.values(&p), dx, grads)
                };
                let (a, b) = (run(&own, &params), run(&wide, &repeated));
                let what = format!("−{before} to {after}, {name}");
                assert_eq!(a.0, b.0, "{what}");
                assert_close(&a.1, &b.1, bound(k_at.len()), &what);
                assert_close(&a.2[0], &b.2[0], bound(k_at.len() * DIM), &what);
                let mut summed = vec![0.0; (before + after + 1) * DIM];
                for (i, grad) in b.3.get("relative_keys").unwrap().iter().enumerate() {
                    summed[source(i / DIM) * DIM + i % DIM] += grad;
                }
                assert_close(a.3.get("relative_keys").unwrap(), &summed, bound(p.len() * DIM), &what);
            }
        }
    }

    #[test]
    fn positions_next_to_the_ends_of_i64_are_read_like_any_other() {
        let plan = plan(Shaw::new(3));
        let params: Params<f64> = plan.init(1).unwrap();
        let (q, p): (Vec<f64>, Vec<f64>) = (normal(2, HEADS * 2 * DIM), normal(3, HEADS * 4));
        let run = |ids: [i64; 2]| {
            let at = Positions::whole(&ids);
            let call = plan.call(&params, &at, &at).unwrap();
            let tiles = Tiles {
                call: &call,
                batch: 1,
                tile: (4, 7),
                q: &q,
                k: &[],
                scale: 0.5,
            };
            (tiles.add(&p), tiles.values(&p))
        };
        for shift in [0, 1, 2, 3, 4] {
            let expected = run([4, 4 + shift]);
            assert_eq!(run([i64::MAX - shift, i64::MAX]), expected, "+{shift}");
            assert_eq!(run([i64::MIN, i64::MIN + shift]), expected, "-{shift}");
        }
        assert_eq!(run([i64::MIN, i64::MAX]), run([0, 100]));
        assert_eq!(run([i64::MAX, i64::MIN]), run([100, 0]));
    }

    #[test]
    fn keys_only_leaves_the_values() {
        let plan = plan(Shaw::keys_only(2).with_init(Init::Normal(0.02)).with_scope(Scope::Model));
        assert_eq!(plan.parameters().len(), 1);
        let params = plan.init::<f32>(0).unwrap();
        let at = Positions::range(0..3);
        let call = plan.call(&params, &at, &at).unwrap();
        let needs = call.content()[0].needs();
        assert_eq!((needs.values, needs.slots), (false, 5 * DIM));
        assert_eq!(
            plan.encoding().to_string(),
            "shaw(keys, key − query, ±2, one table per model, N(0, 0.02))"
        );
        let half = Positions::real(&[0.0, 0.5, 1.0]).unwrap();
        assert!(matches!(plan.call(&params, &half, &at), Err(Error::Fractional { .. })));
    }
}
