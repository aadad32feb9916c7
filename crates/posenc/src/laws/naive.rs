//! Plain attention in f64, without tiles: every score, then every weight, then every sum.

use crate::attention::Attention;
use crate::call::Call;
use crate::rotate::{Side, Turn};
use crate::term::{Block, BlockMut, Granularity, Place, Tile};

/// Causal self-attention of one batch row: q `[len, heads, head_dim]`, k and v `[len, kv_heads, head_dim]` → (out, largest Σ|q·k|·scale + |terms|).
pub(super) fn attention(call: &Call<'_, f64>, attention: &Attention, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, f64) {
    let dims = call.dims();
    let (len, d, group) = (call.q_at().len(), dims.head_dim, dims.heads / dims.kv_heads);
    let scale = attention.scale_for(d);
    let head = |x: &[f64], heads: usize, h: usize, side| {
        let mut rows: Vec<f64> = (0..len).flat_map(|t| x[(t * heads + h) * d..][..d].to_vec()).collect();
        if let Some(pair) = call.rotations().first() {
            pair.side(side).turn_rows::<f64>(Turn::Forward, [0, h, 0], d, d, &mut rows);
        }
        if let (Side::Query, Some(temperature)) = (side, attention.temperature) {
            for (t, row) in rows.chunks_exact_mut(d).enumerate() {
                let factor = call.q_at().get(0, 0, t).map_or(1.0, |p| temperature.factor(p));
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
        rows
    };
    let q: Vec<Vec<f64>> = (0..dims.heads).map(|h| head(q, dims.heads, h, Side::Query)).collect();
    let k: Vec<Vec<f64>> = (0..dims.kv_heads).map(|h| head(k, dims.kv_heads, h, Side::Key)).collect();
    // What causality blocks stays −∞.
    let mut s = vec![f64::NEG_INFINITY; dims.heads * len * len];
    let mut size = 0.0f64;
    for h in 0..dims.heads {
        for i in 0..len {
            for j in 0..=i {
                let products = (0..d).map(|p| scale * q[h][i * d + p] * k[h / group][j * d + p]);
                s[(h * len + i) * len + j] = products.clone().sum();
                size = size.max(products.map(f64::abs).sum());
            }
        }
    }
    let (q_all, k_all) = (q.concat(), k.concat());
    let mut terms_size = 0.0f64;
    let mut add = |s: &mut Vec<f64>, content: bool| {
        for term in if content { call.content() } else { call.bias() } {
            let before = s.clone();
            for h in 0..dims.heads {
                let place = |i: usize, j: usize, rows: usize, cols: usize| Place {
                    batch: 0,
                    head: h,
                    kv_head: h / group,
                    q0: i,
                    k0: j,
                    q_at: call.q_at().at(0, 0, i, rows),
                    k_at: call.k_at().at(0, 0, j, cols),
                    scale,
                };
                match term.needs().granularity {
                    Granularity::Tile => {
                        for i in 0..len {
                            for j in 0..=i {
                                let (q, k) = (Block::new(&q[h][i * d..], 1, d, d), Block::new(&k[h / group][j * d..], 1, d, d));
                                let one = &mut s[(h * len + i) * len + j..][..1];
                                term.add(&Tile::new(place(i, j, 1, 1), q, k), &mut BlockMut::new(one, 1, 1, 1));
                            }
                        }
                    }
                    Granularity::WholeRows => {
                        let (q, k) = (Block::new(&q[h], len, d, d), Block::new(&k[h / group], len, d, d));
                        term.add(
                            &Tile::new(place(0, 0, len, len), q, k),
                            &mut BlockMut::new(&mut s[h * len * len..], len, len, len),
                        );
                    }
                    Granularity::AllHeads if h == 0 => {
                        let block = |planes, data| Block {
                            planes,
                            rows: len,
                            cols: d,
                            ld: d,
                            plane: len * d,
                            data,
                        };
                        let (q, k) = (block(dims.heads, &q_all[..]), block(dims.kv_heads, &k_all[..]));
                        let mut tile = BlockMut {
                            planes: dims.heads,
                            rows: len,
                            cols: len,
                            ld: len,
                            plane: len * len,
                            data: &mut s[..],
                        };
                        term.add(&Tile::new(place(0, 0, len, len), q, k), &mut tile);
                    }
                    Granularity::AllHeads => {}
                }
            }
            // −∞ − −∞ is NaN, which `max` passes over.
            terms_size += s.iter().zip(&before).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        }
    };
    add(&mut s, true);
    if let Some(cap) = attention.softcap {
        s.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
    }
    add(&mut s, false);
    let mut out = vec![0.0; len * dims.heads * d];
    for h in 0..dims.heads {
        for i in 0..len {
            let first = attention.window.and_then(|w| w.left).map_or(0, |left| i.saturating_sub(left));
            // The row begins at a token that has a position.
            let first = first.max(attention.chunk.map_or(0, |chunk| i / chunk * chunk));
            let row = &s[(h * len + i) * len..][..=i];
            let max = row[first..].iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
            let mut p: Vec<f64> = row
                .iter()
                .enumerate()
                .map(|(j, x)| if j < first { 0.0 } else { (x - max).exp() })
                .collect();
            let sum: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= sum);
            let o = &mut out[(i * dims.heads + h) * d..][..d];
            for (j, p) in p.iter().enumerate() {
                o.iter_mut()
                    .zip(&v[(j * dims.kv_heads + h / group) * d..])
                    .for_each(|(o, v)| *o += p * v);
            }
            for term in call.content().iter().chain(call.bias()).filter(|t| t.needs().values) {
                let at = Place {
                    batch: 0,
                    head: h,
                    kv_head: h / group,
                    q0: i,
                    k0: 0,
                    q_at: call.q_at().at(0, 0, i, 1),
                    k_at: call.k_at().at(0, 0, 0, i + 1),
                    scale,
                };
                term.add_value(&at, &Block::new(&p, 1, i + 1, i + 1), &mut BlockMut::new(o, 1, d, d));
            }
        }
    }
    (out, size + terms_size)
}
