//! One item's forward pass: the online softmax over the tiles of each block of rows.

use super::Inputs;
use super::driver::ForwardJob;
use super::pack::store;
use super::tile::{Scratch, Tiles};
use crate::kernels::{Left, Of, Present, Product, RowSum, Running, Store, total};
use crate::real::{Element, Real};
use crate::term::{Block, BlockMut};

impl<R: Real> Tiles<'_, '_, '_, R> {
    pub fn forward<T: Element<Real = R>>(&self, inputs: &Inputs<'_, T>, job: &mut ForwardJob<'_, T>, scratch: &mut Scratch<R>) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        let plane = ld.rows * ld.cols;
        if !self.unpacked {
            self.pack_keys(item, inputs, false, scratch);
        }
        for (q0, rows) in self.row_blocks() {
            self.pack_queries(item, inputs.q, q0, rows, scratch);
            let lanes = R::LANES;
            scratch.o.zeros(item.heads * ld.rows * ld.dv);
            scratch.sum.zeros(item.heads * ld.rows * lanes);
            scratch.max.grow(item.heads * ld.rows);
            scratch.max[..item.heads * ld.rows].fill(R::NEG_INFINITY);
            if let Some(sinks) = inputs.sinks {
                // As if each row had already met a key with this score.
                for (h, sink) in sinks[item.head0..][..item.heads].iter().enumerate() {
                    scratch.max[h * ld.rows..][..rows].fill(sink.widen());
                    for sum in scratch.sum[h * ld.rows * lanes..][..rows * lanes].chunks_exact_mut(lanes) {
                        sum[0] = R::ONE;
                    }
                }
            }
            scratch.correction.grow(ld.rows);
            let (mut seen, mut known) = (None, false);
            for span in self.tiles_of(item.batch, q0, rows) {
                if self.unreachable(item, span) {
                    continue;
                }
                seen = Some(span);
                for (heads, h) in self.together(item).flat_map(|heads| heads.clone().map(move |h| (heads.clone(), h))) {
                    if h == heads.start {
                        known = if self.unpacked {
                            self.unpacked_scores(item, inputs.k, heads, span, scratch)
                        } else {
                            self.scores(item, heads, span, false, scratch)
                        };
                    }
                    let g = h / shape.group();
                    let p = &mut scratch.s[h * plane..(h + 1) * plane];
                    let running = Running {
                        max: &mut scratch.max[h * ld.rows..][..rows],
                        sum: &mut scratch.sum[h * ld.rows * lanes..][..rows * lanes],
                        correction: &mut scratch.correction,
                    };
                    let largest = known.then(|| &scratch.largest[h * ld.rows * lanes..]);
                    R::softmax_step(Present::current(), p, self.of(span), largest, running);
                    let o = &mut scratch.o[h * ld.rows * ld.dv..][..ld.rows * ld.dv];
                    let outputs = Of {
                        rows,
                        cols: ld.dv,
                        ld: ld.dv,
                    };
                    R::rescale(Present::current(), o, outputs, &scratch.correction);
                    self.drop_out(item, h, span, p);
                    if self.unpacked {
                        self.unpacked_sums(item, inputs.v, p, &mut scratch.staged, span, o);
                    } else {
                        R::product(
                            Present::current(),
                            Product {
                                shape: [rows, ld.dv, span.cols],
                                alpha: R::ONE,
                                a: Left {
                                    data: p,
                                    row: ld.cols,
                                    col: 1,
                                },
                                b: self.rows_of(&scratch.v, ld.dv, g, span.k0),
                                c: o,
                                ldc: ld.dv,
                                store: Store::Add,
                            },
                        );
                    }
                    for (_, term) in self.content().chain(self.bias()).filter(|(_, t)| t.needs().values) {
                        let p = Block::new(&*p, rows, span.cols, ld.cols);
                        term.add_value(&self.place(item, h, span), &p, &mut BlockMut::new(o, rows, shape.value_dim, ld.dv));
                    }
                }
            }
            for h in 0..item.heads {
                for i in 0..rows {
                    let sum = total(&scratch.sum[(h * ld.rows + i) * lanes..]);
                    // Nothing attended to: zeros, not 0/0.
                    let inverse = if sum > R::ZERO { R::ONE / sum } else { R::ZERO };
                    let o = &mut scratch.o[(h * ld.rows + i) * ld.dv..][..shape.value_dim];
                    o.iter_mut().for_each(|x| *x *= inverse);
                    store(o, job.out.row_mut(h, q0 + i));
                    if let Some(sums) = &mut job.sums {
                        sums[h * shape.q_len + q0 + i] = RowSum {
                            max: scratch.max[h * ld.rows + i],
                            inverse,
                        };
                    }
                    if let Some(weights) = &mut job.weights {
                        // Whole rows were asked for, so the one tile holds them all.
                        let row = weights.row_mut(h, q0 + i);
                        row.fill(T::narrow(R::ZERO));
                        if let Some(span) = seen {
                            let p = &mut scratch.s[h * plane + i * ld.cols..][..span.cols];
                            p.iter_mut().for_each(|x| *x *= inverse);
                            store(p, &mut row[span.k0..]);
                        }
                    }
                }
            }
        }
    }
}
