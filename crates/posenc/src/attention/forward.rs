//! One item's forward pass: the online softmax over the tiles of each block of rows.

use super::Inputs;
use super::driver::ForwardJob;
use super::tile::{Scratch, Tiles, grow, store, zeros};
use crate::kernels::{Left, Present, RowSum, padded, product, softmax_step};
use crate::real::{Element, Real};
use crate::term::{Block, BlockMut};

impl<R: Real> Tiles<'_, '_, '_, R> {
    pub fn forward<T: Element<Real = R>>(&self, inputs: &Inputs<'_, T>, job: &mut ForwardJob<'_, T>, scratch: &mut Scratch<R>) {
        let (item, shape, ld) = (job.item, self.shape, self.strides());
        let plane = ld.rows * ld.cols;
        self.pack_keys(item, inputs, false, scratch);
        for (q0, rows) in self.row_blocks() {
            self.pack_queries(item, inputs.q, q0, rows, scratch);
            zeros(&mut scratch.o, item.heads * ld.rows * ld.dv);
            zeros(&mut scratch.sum, item.heads * ld.rows);
            scratch.max.clear();
            scratch.max.resize(item.heads * ld.rows, R::NEG_INFINITY);
            if let Some(sinks) = inputs.sinks {
                // As if each row had already met a key with this score.
                for (h, sink) in sinks[item.head0..][..item.heads].iter().enumerate() {
                    scratch.max[h * ld.rows..][..rows].fill(sink.widen());
                    scratch.sum[h * ld.rows..][..rows].fill(R::ONE);
                }
            }
            grow(&mut scratch.correction, ld.rows);
            let mut seen = None;
            for span in self.tiles_of(item.batch, q0, rows) {
                if self.unreachable(item, span) {
                    continue;
                }
                self.scores(item, span, false, scratch);
                seen = Some(span);
                for h in 0..item.heads {
                    let g = h / shape.group();
                    let p = &mut scratch.s[h * plane..(h + 1) * plane];
                    let (max, sum) = (&mut scratch.max[h * ld.rows..], &mut scratch.sum[h * ld.rows..]);
                    softmax_step(
                        Present::current(),
                        p,
                        rows,
                        padded(span.cols),
                        ld.cols,
                        max,
                        sum,
                        &mut scratch.correction,
                    );
                    let o = &mut scratch.o[h * ld.rows * ld.dv..][..ld.rows * ld.dv];
                    for (row, correction) in o.chunks_exact_mut(ld.dv).zip(&scratch.correction[..rows]) {
                        row.iter_mut().for_each(|x| *x *= *correction);
                    }
                    self.drop_out(item, h, span, p);
                    let v = &scratch.v[(g * ld.k_len + span.k0) * ld.dv..];
                    product(
                        Present::current(),
                        [rows, ld.dv, span.cols],
                        R::ONE,
                        Left {
                            data: p,
                            row: ld.cols,
                            col: 1,
                        },
                        v,
                        ld.dv,
                        o,
                        ld.dv,
                        true,
                    );
                    for (_, term) in self.content().chain(self.bias()).filter(|(_, t)| t.needs().values) {
                        let p = Block::new(&*p, rows, span.cols, ld.cols);
                        term.add_value(&self.place(item, h, span), &p, &mut BlockMut::new(o, rows, shape.value_dim, ld.dv));
                    }
                }
            }
            for h in 0..item.heads {
                for i in 0..rows {
                    let sum = scratch.sum[h * ld.rows + i];
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
