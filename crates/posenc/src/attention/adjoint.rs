//! One item's adjoint: weights are computed again from the saved sums, tile by tile.

use super::Inputs;
use super::driver::AdjointJob;
use super::pack::{fetch, load, store};
use super::tile::{Scratch, Span, Tiles};
use crate::kernels::{Left, PANEL, Present, Product, Right, RowSum, Store, dot, padded};
use crate::real::{Element, Real};
use crate::rotate::{Side, Turn};
use crate::term::{Block, BlockMut, Granularity, ScoreTerm, TermGrads, Tile};
use crate::view::View;
use std::ops::Range;

impl<R: Real> Tiles<'_, '_, '_, R> {
    pub fn adjoint<T: Element<Real = R>>(
        &self,
        inputs: &Inputs<'_, T>,
        out: View<'_, T, 4>,
        d_out: View<'_, T, 4>,
        sums: &[RowSum<R>],
        job: &mut AdjointJob<'_, T>,
        scratch: &mut Scratch<R>,
    ) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        let plane = ld.rows * ld.cols;
        self.pack_keys(item, inputs, true, scratch);
        scratch.dk.zeros(item.kv_heads * ld.k_len * ld.d);
        scratch.dv.zeros(item.kv_heads * ld.k_len * ld.dv);
        for (q0, rows) in self.row_blocks() {
            self.pack_queries(item, inputs.q, q0, rows, scratch);
            self.pack_outputs(job, out, d_out, sums, q0, rows, scratch);
            if let Some(sinks) = inputs.sinks {
                self.sinks_adjoint(job, sinks, rows, scratch);
            }
            scratch.dq.zeros(item.heads * ld.rows * ld.d);
            for span in self.tiles_of(item.batch, q0, rows) {
                if self.unreachable(item, span) {
                    continue;
                }
                scratch.ds.grow(item.heads * plane);
                scratch.kept.grow(plane);
                for heads in self.together(item) {
                    self.scores(item, heads.clone(), span, true, scratch);
                    for h in heads.clone() {
                        self.weights_adjoint(job, h, span, scratch);
                    }
                    self.scores_adjoint(job, heads.clone(), span, scratch);
                    for h in heads {
                        let (g, ds) = (h / shape.group(), &scratch.ds[h * plane..]);
                        let scale = R::of(self.scale);
                        R::product(
                            Present::current(),
                            Product {
                                shape: [rows, ld.d, span.cols],
                                alpha: scale,
                                a: Left {
                                    data: ds,
                                    row: ld.cols,
                                    col: 1,
                                },
                                b: self.rows_of(&scratch.kp, ld.d, g, span.k0),
                                c: &mut scratch.dq[h * ld.rows * ld.d..],
                                ldc: ld.d,
                                store: Store::Add,
                            },
                        );
                        R::product(
                            Present::current(),
                            Product {
                                shape: [span.cols, ld.d, rows],
                                alpha: scale,
                                a: Left {
                                    data: ds,
                                    row: 1,
                                    col: ld.cols,
                                },
                                b: Right {
                                    data: &scratch.q[h * ld.rows * ld.d..],
                                    row: ld.d,
                                    panel: PANEL,
                                },
                                c: &mut scratch.dk[(g * ld.k_len + span.k0) * ld.d..],
                                ldc: ld.d,
                                store: Store::Add,
                            },
                        );
                    }
                }
            }
            for h in 0..item.heads {
                let packed = &mut scratch.dq[h * ld.rows * ld.d..][..rows * ld.d];
                self.sharpen(item.batch, q0, packed);
                self.turn::<T>(Side::Query, Turn::Adjoint, [item.batch, item.head0 + h, q0], packed);
                for (i, row) in packed.chunks_exact(ld.d).enumerate() {
                    store(&row[..shape.head_dim], job.dq.row_mut(h, q0 + i));
                }
            }
        }
        for g in 0..item.kv_heads {
            let packed = &mut scratch.dk[g * ld.k_len * ld.d..][..shape.k_len * ld.d];
            self.turn::<T>(Side::Key, Turn::Adjoint, [item.batch, item.kv0 + g, 0], packed);
            for (j, row) in packed.chunks_exact(ld.d).enumerate() {
                store(&row[..shape.head_dim], job.dk.row_mut(g, j));
                store(&scratch.dv[(g * ld.k_len + j) * ld.dv..][..shape.value_dim], job.dv.row_mut(g, j));
            }
        }
    }

    /// Gradients of a block of output rows, the rows' sums Σ do·o, and their saved logarithms.
    fn pack_outputs<T: Element<Real = R>>(
        &self,
        job: &AdjointJob<'_, T>,
        out: View<'_, T, 4>,
        d_out: View<'_, T, 4>,
        sums: &[RowSum<R>],
        q0: usize,
        rows: usize,
        scratch: &mut Scratch<R>,
    ) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        scratch.d_o.zeros(item.heads * ld.rows * ld.dv);
        scratch.delta.zeros(item.heads * ld.rows);
        scratch.sums.clear();
        scratch.sums.resize(item.heads * ld.rows, RowSum::default());
        scratch.row.zeros(ld.dv);
        for h in 0..item.heads {
            for i in 0..rows {
                let d_o = &mut scratch.d_o[(h * ld.rows + i) * ld.dv..][..ld.dv];
                let place = [item.batch, item.head0 + h, q0 + i];
                fetch(d_out, place);
                fetch(out, place);
                load(d_out.row([item.batch, item.head0 + h, q0 + i, 0]), d_o);
                load(out.row([item.batch, item.head0 + h, q0 + i, 0]), &mut scratch.row);
                scratch.delta[h * ld.rows + i] = dot(d_o, &scratch.row);
                scratch.sums[h * ld.rows + i] = sums[(item.batch * shape.heads + item.head0 + h) * shape.q_len + q0 + i];
            }
        }
    }

    /// A sink has no value, so its part of the softmax's adjoint is −p·Σ do·o.
    fn sinks_adjoint<T: Element<Real = R>>(&self, job: &mut AdjointJob<'_, T>, sinks: &[T], rows: usize, scratch: &Scratch<R>) {
        let (item, ld) = (job.item, self.strides());
        for h in 0..item.heads {
            let sink = sinks[item.head0 + h].widen();
            for (sum, delta) in scratch.sums[h * ld.rows..][..rows].iter().zip(&scratch.delta[h * ld.rows..]) {
                job.sinks[h] -= (sink - sum.max).softmax_exp() * sum.inverse * *delta;
            }
        }
    }

    /// One head of a tile: scores become weights, the values' gradients are summed, and `ds` becomes the gradient of the scores.
    fn weights_adjoint<T: Element<Real = R>>(&self, job: &mut AdjointJob<'_, T>, h: usize, span: Span, scratch: &mut Scratch<R>) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        let (plane, g, cols) = (ld.rows * ld.cols, h / shape.group(), padded(span.cols));
        let p = &mut scratch.s[h * plane..(h + 1) * plane];
        let ds = &mut scratch.ds[h * plane..(h + 1) * plane];
        let tile = self.of(span);
        R::probabilities(Present::current(), p, tile, &scratch.sums[h * ld.rows..]);
        let d_o = &scratch.d_o[h * ld.rows * ld.dv..][..ld.rows * ld.dv];
        R::product(
            Present::current(),
            Product {
                shape: [span.rows, cols, shape.value_dim],
                alpha: R::ONE,
                a: Left {
                    data: d_o,
                    row: ld.dv,
                    col: 1,
                },
                b: self.columns(&scratch.vt, ld.dv, g, span.k0),
                c: ds,
                ldc: ld.cols,
                store: Store::Over,
            },
        );
        // The values saw the weights after dropout; the softmax's own adjoint needs them before.
        let kept: &[R] = if self.dropout.is_some() {
            scratch.kept[..plane].copy_from_slice(p);
            self.drop_out(item, h, span, &mut scratch.kept);
            &scratch.kept[..plane]
        } else {
            p
        };
        R::product(
            Present::current(),
            Product {
                shape: [span.cols, ld.dv, span.rows],
                alpha: R::ONE,
                a: Left {
                    data: kept,
                    row: 1,
                    col: ld.cols,
                },
                b: Right {
                    data: d_o,
                    row: ld.dv,
                    panel: PANEL,
                },
                c: &mut scratch.dv[(g * ld.k_len + span.k0) * ld.dv..],
                ldc: ld.dv,
                store: Store::Add,
            },
        );
        for (index, term) in self.content().chain(self.bias()).filter(|(_, t)| t.needs().values) {
            let slots = job.item_slots(self, index, h);
            let kept = Block::new(kept, span.rows, span.cols, ld.cols);
            let d_o = Block::new(d_o, span.rows, shape.value_dim, ld.dv);
            let mut dp = BlockMut::new(&mut *ds, span.rows, span.cols, ld.cols);
            term.value_adjoint(&self.place(item, h, span), &kept, &d_o, &mut dp, slots);
        }
        self.drop_out(item, h, span, ds);
        R::score_gradient(Present::current(), p, ds, tile, &scratch.delta[h * ld.rows..]);
    }

    /// Some heads of a tile: from the gradient of the final scores back through biases, soft cap and content.
    fn scores_adjoint<T: Element<Real = R>>(&self, job: &mut AdjointJob<'_, T>, heads: Range<usize>, span: Span, scratch: &mut Scratch<R>) {
        let ld = self.strides();
        let plane = ld.rows * ld.cols;
        let mut kept = self.reading_terms();
        for (index, term) in self.bias().rev() {
            self.term_adjoint(job, index, term.as_ref(), heads.clone(), span, &mut kept, scratch);
        }
        if let Some(cap) = self.softcap {
            for h in heads.clone() {
                let (ds, capped) = (&mut scratch.ds[h * plane..], &scratch.capped[h * plane..]);
                R::soft_cap_gradient(Present::current(), ds, capped, self.of(span), R::of(cap));
            }
        }
        for (index, term) in self.content().rev() {
            self.term_adjoint(job, index, term.as_ref(), heads.clone(), span, &mut kept, scratch);
        }
    }

    fn term_adjoint<T: Element<Real = R>>(
        &self,
        job: &mut AdjointJob<'_, T>,
        index: usize,
        term: &dyn ScoreTerm<R>,
        heads: Range<usize>,
        span: Span,
        kept: &mut usize,
        scratch: &mut Scratch<R>,
    ) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        let plane = ld.rows * ld.cols;
        let needs = term.needs();
        let before: &[R] = if needs.reads_scores {
            *kept -= 1;
            &scratch.before[*kept * item.heads * plane..][..item.heads * plane]
        } else {
            &[]
        };
        let all = needs.granularity == Granularity::AllHeads;
        let planes = if all { item.heads } else { 1 };
        for h in heads.step_by(planes) {
            let g = h / shape.group();
            let (rows, cols) = if before.is_empty() { (0, 0) } else { (span.rows, span.cols) };
            let before = Block {
                planes,
                rows,
                cols,
                ld: ld.cols,
                plane,
                data: if before.is_empty() { before } else { &before[h * plane..] },
            };
            let q = Block {
                planes,
                ..self.q_block(&scratch.q, h, span)
            };
            let k_planes = if all { item.kv_heads } else { 1 };
            let k = Block {
                planes: k_planes,
                ..self.k_block(&scratch.k, h, span)
            };
            let width = shape.head_dim;
            let mut ds = BlockMut {
                planes,
                rows: span.rows,
                cols: span.cols,
                ld: ld.cols,
                plane,
                data: &mut scratch.ds[h * plane..],
            };
            let mut into = TermGrads {
                dq: BlockMut {
                    planes,
                    rows: span.rows,
                    cols: width,
                    ld: ld.d,
                    plane: ld.rows * ld.d,
                    data: &mut scratch.dq[h * ld.rows * ld.d..],
                },
                dk: BlockMut {
                    planes: k_planes,
                    rows: span.cols,
                    cols: width,
                    ld: ld.d,
                    plane: ld.k_len * ld.d,
                    data: &mut scratch.dk[(g * ld.k_len + span.k0) * ld.d..],
                },
                slots: if all {
                    job.term_slots(self, index)
                } else {
                    job.item_slots(self, index, h)
                },
            };
            let tile = Tile {
                before,
                ..Tile::new(self.place(item, h, span), q, k)
            };
            term.adjoint(&tile, &mut ds, &mut into);
            // A blocked pair's −∞ is nobody's function: no gradient goes through it.
            for plane in 0..before.planes {
                for i in 0..before.rows {
                    let mut ds = ds.head(plane);
                    for (ds, s) in ds.row(i).iter_mut().zip(before.head(plane).row(i)) {
                        if *s == R::NEG_INFINITY {
                            *ds = R::ZERO;
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> AdjointJob<'_, T> {
    /// The slots of a term for all heads of the item.
    fn term_slots(&mut self, tiles: &Tiles<'_, '_, '_, T::Real>, index: usize) -> &mut [T::Real] {
        let before: usize = tiles.call.terms().take(index).map(|t| t.needs().slots).sum();
        let size = tiles.call.terms().nth(index).map_or(0, |t| t.needs().slots);
        &mut self.slots[self.item.heads * before..][..self.item.heads * size]
    }

    /// The slots of a term for one head of the item.
    fn item_slots(&mut self, tiles: &Tiles<'_, '_, '_, T::Real>, index: usize, h: usize) -> &mut [T::Real] {
        let size = self.term_slots(tiles, index).len() / self.item.heads;
        &mut self.term_slots(tiles, index)[h * size..][..size]
    }
}
