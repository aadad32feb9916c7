//! # XLNet's relative attention
//!
//! **Idea.** Transformer-XL's scores in both directions, and one more part: whether the two tokens are of the same segment, not which segment it is.
//!
//! **Paper.** Yang, Dai, Yang, Carbonell, Salakhutdinov, Le: *XLNet: Generalized Autoregressive Pretraining for Language Understanding*, 2019, arXiv 1906.08237.
//!
//! **Maths.** For query i and key j, with the sinusoid R of a distance, the layer's projection W_r, and u, v, w per head (`r_w_bias`, `r_r_bias`, `r_s_bias`):
//! ```text
//! s(i, j) = [ (qᵢ + u) · kⱼ + (qᵢ + v) · W_r R(i − j) + (qᵢ + w) · g(i, j) ] / √d
//! g(i, j) = seg_embed[0] in the same segment, else seg_embed[1]
//! ```
//!
//! **Shapes.** `r_w_bias`, `r_r_bias`, `r_s_bias` `[heads, head_dim]`, `seg_embed` `[2, heads, head_dim]`. The table `relative_keys` `[n, heads, head_dim]` is projected by the layer's `r`.
//! Segments are the second axis of the positions ([`Positions::with_axis`](crate::Positions::with_axis)); positions with one axis have no segments, and g is left out, as upstream without `token_type_ids`.
//!
//! **Conventions that differ between codebases.** Upstream's `r` is `[model_dim, heads, head_dim]` without a bias: the layer's `r.weight` is its transpose. With `bi_data` the second half of the batch counts
//! distances backward: give these rows negated positions. A batch's memory (`mems`) is segment 0 upstream. `clamp_len` acts on both directions. `attn_type` `uni` computes no rows for keys after the query,
//! which its mask hides. XLNet's query stream (two-stream attention) is a second call of attention with other queries.
//!
//! **Cost.** As Transformer-XL's, and two products of `head_dim` per query for the segments.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, XlNet};
//! let plan = Encoding::from(XlNet::new()).plan(Dims::new(64, 4)?)?;
//! let params = plan.init::<f32>(0)?;
//! let at = Positions::range(0..5).with_axis(&Positions::whole(&[0, 0, 0, 1, 1]))?; // two segments
//! assert_eq!(plan.call(&params, &at, &at)?.rows("relative_keys")?.shape(), [9, 64]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::Parts;
use crate::content::relative::{HeadRows, Shifted};
use crate::content::transformer_xl::{DistanceRows, PreparedTransformerXl, projection};
use crate::dims::Dims;
use crate::distances::{add_scaled, dot, owner};
use crate::embed::SinusoidLayout;
use crate::error::{Error, Result};
use crate::params::{Bound, BoundMut, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::project::Projection;
use crate::real::Real;
use crate::term::{BlockMut, Needs, Place, ScoreTerm, TermGrads, Tile};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Transformer-XL's scores in both directions, with relative segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "XLNetRelativeAttention")]
pub struct XlNet {
    /// Distances beyond ± this are read as this.
    #[serde(default)]
    pub clamp_len: Option<usize>,
    /// How the vectors begin.
    #[serde(default = "crate::encoding::written::narrow_normal")]
    pub init: Init,
    /// One set of vectors for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl XlNet {
    /// Every distance with a row of its own, vectors per layer that begin as N(0, 0.02).
    pub fn new() -> XlNet {
        XlNet {
            clamp_len: None,
            init: Init::Normal(0.02),
            scope: Scope::Layer,
        }
    }

    /// The same with farther distances read as this one.
    pub fn with_clamp_len(self, clamp_len: usize) -> XlNet {
        XlNet {
            clamp_len: Some(clamp_len),
            ..self
        }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> XlNet {
        XlNet { init, ..self }
    }

    /// The same with one set of vectors for the model (upstream without `untie_r`), or one per layer.
    pub fn with_scope(self, scope: Scope) -> XlNet {
        XlNet { scope, ..self }
    }

    fn distances(&self) -> DistanceRows {
        DistanceRows {
            layout: SinusoidLayout::SinFirst,
            clamp_len: self.clamp_len,
            two_sided: true,
        }
    }
}

impl Default for XlNet {
    fn default() -> XlNet {
        XlNet::new()
    }
}

impl fmt::Display for XlNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xlnet({}", self.distances())?;
        write!(
            f,
            ", relative segments, vectors per {}, {}, projected by r)",
            owner(self.scope),
            self.init
        )
    }
}

impl Prepare for XlNet {
    fn check(&self, dims: &Dims) -> Result<()> {
        self.distances().check(dims)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        let Dims { heads, head_dim, .. } = *dims;
        let bias = |name: &str| ParamSpec::new(name, [heads, head_dim], self.init).scoped(self.scope);
        let segments = ParamSpec::new("seg_embed", [2, heads, head_dim], self.init).scoped(self.scope);
        vec![bias("r_w_bias"), bias("r_r_bias"), bias("r_s_bias"), segments]
    }

    fn projections(&self) -> Vec<Projection> {
        vec![projection("r")]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        if q_at.axes() != k_at.axes() || q_at.axes() > 2 {
            return Err(Error::Unsupported {
                method: "xlnet",
                what: "queries and keys have one axis (positions), or two (positions and segments)",
            });
        }
        let (at, rows) = self.distances().resolve("xlnet", dims.model_dim, q_at, k_at)?;
        let mut specs = self.parameters(dims);
        let segments = specs.split_off(2);
        Ok(Arc::new(PreparedXlNet {
            distances: PreparedTransformerXl {
                at,
                rows,
                specs,
                projection: projection("r"),
            },
            segments,
            axes: (q_at.axes() == 2).then(|| [q_at.clone(), k_at.clone()]),
        }))
    }
}

struct PreparedXlNet<R> {
    distances: PreparedTransformerXl<R>,
    /// Of w and g.
    segments: Vec<ParamSpec>,
    /// Positions with segments.
    axes: Option<[Positions; 2]>,
}

impl<R: Real> Prepared<R> for PreparedXlNet<R> {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        self.distances.bind(params, parts)?;
        let [bias, embed] = [&self.segments[0], &self.segments[1]];
        let (w, g) = (params.get(bias)?, params.get(embed)?);
        if let Some(axes) = &self.axes {
            parts.content.push(Arc::new(SegmentTerm {
                axes: axes.clone(),
                bias: HeadRows::by_head(bias.clone(), w),
                embed: HeadRows::by_row(embed.clone(), g),
            }));
        }
        Ok(())
    }
}

/// `scale · (qᵢ + w) · g[segments differ]`.
struct SegmentTerm<'p, R> {
    axes: [Positions; 2],
    bias: HeadRows<'p, R>,
    embed: HeadRows<'p, R>,
}

impl<R: Real> SegmentTerm<'_, R> {
    /// Which row of `seg_embed` each pair of a row of a tile reads; none where a token has no position, and so no segment.
    fn of_row(&self, at: &Place<'_>, i: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
        let [q, k] = &self.axes;
        let (own, k) = (q.at(1, at.batch, at.q0 + i, 1).whole(0), k.at(1, at.batch, at.k0, cols));
        (0..cols).filter_map(move |j| Some((j, usize::from(own? != k.whole(j)?))))
    }
}

impl<R: Real> ScoreTerm<R> for SegmentTerm<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(self.bias.slots() + self.embed.slots())
    }

    fn add(&self, tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        let Tile { at, q, .. } = tile;
        let (head, scale) = (at.head, R::of(at.scale));
        let mut x = Shifted::new(*q, Some(self.bias.of(head, 0)));
        for i in 0..s.rows {
            let scores = [0, 1].map(|r| scale * dot(x.row(i), self.embed.of(head, r)));
            let cols = s.cols;
            let row = s.row(i);
            self.of_row(at, i, cols).for_each(|(j, r)| row[j] += scores[r]);
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let Tile { at, q, .. } = tile;
        let (head, scale) = (at.head, R::of(at.scale));
        let ds = ds.as_block();
        let (d_bias, d_embed) = into.slots.split_at_mut(self.bias.slots());
        let dim = d_bias.len();
        let mut x = Shifted::new(*q, Some(self.bias.of(head, 0)));
        for i in 0..ds.rows {
            let (mut masses, row) = ([R::ZERO; 2], ds.row(i));
            self.of_row(at, i, ds.cols).for_each(|(j, r)| masses[r] += row[j]);
            for (r, mass) in masses.into_iter().enumerate() {
                add_scaled(into.dq.row(i), scale * mass, self.embed.of(head, r));
                add_scaled(d_bias, scale * mass, self.embed.of(head, r));
                add_scaled(&mut d_embed[r * dim..][..dim], scale * mass, x.row(i));
            }
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        let per_head = ScoreTerm::<R>::needs(self).slots;
        self.bias.collect(slots, per_head, 0, grads)?;
        self.embed.collect(slots, per_head, self.bias.slots(), grads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::params::Params;
    use crate::reference::xlnet::{segment_adjoint, segment_scores};
    use crate::term::Block;
    use crate::tiles::normal;

    /// Sums of `n` products of normal numbers below 2³ each.
    fn assert_close(given: &[f64], expected: &[f64], n: usize) {
        assert_eq!(given.len(), expected.len());
        for (g, e) in given.iter().zip(expected) {
            assert!((g - e).abs() <= 64.0 * (n + 1) as f64 * f64::EPSILON, "{g} against {e}");
        }
    }

    #[test]
    fn segments_are_those_of_the_reference_on_any_tile() {
        let (heads, dim, len) = (2, 5, 9);
        let plan = Encoding::from(XlNet::new()).plan(Dims::new(heads * dim, heads).unwrap()).unwrap();
        let mut params: Params<f64> = plan.init(0).unwrap();
        params.flat_mut().iter_mut().zip(normal::<f64>(1, 1000)).for_each(|(x, n)| *x = n);
        // Two rows of the batch; one token of the second has no position, and so no segment.
        let segments = [0i64, 0, 0, 1, 1, 1, 0, 7, 7, 3, 3, 3, 3, 3, 3, 3, 3, 2];
        let present: Vec<bool> = (0..2 * len).map(|t| t != len + 4).collect();
        let at = Positions::range(0..len as i64)
            .with_axis(&Positions::whole_rows(&segments, 2).unwrap())
            .unwrap()
            .with_presence_rows(&present, 2)
            .unwrap();
        let call = plan.call(&params, &at, &at).unwrap();
        let term = &call.content()[0];
        let slots = term.needs().slots;
        let (w, g) = (params.get("r_s_bias").unwrap(), params.get("seg_embed").unwrap());
        let mut sums = vec![0.0; heads * slots];
        let mut expected = params.zeros_like();
        for batch in 0..2 {
            let own: Vec<Option<i64>> = (0..len)
                .map(|t| present[batch * len + t].then_some(segments[batch * len + t]))
                .collect();
            for head in 0..heads {
                let (q, ds): (Vec<f64>, Vec<f64>) = (normal(2, len * dim), normal(3, len * len));
                let w = &w[head * dim..][..dim];
                let g: Vec<f64> = (0..2).flat_map(|r| g[(r * heads + head) * dim..][..dim].to_vec()).collect();
                let scores = segment_scores(&q, w, &g, 0.5, &own, &own);
                let (dq, dw, dg) = segment_adjoint(&q, w, &g, 0.5, &own, &own, &ds);
                for (q0, rows, k0, cols) in [(0, 4, 0, 9), (4, 5, 0, 3), (4, 5, 3, 6)] {
                    let place = Place {
                        batch,
                        head,
                        kv_head: head,
                        q0,
                        k0,
                        q_at: at.at(0, batch, q0, rows),
                        k_at: at.at(0, batch, k0, cols),
                        scale: 0.5,
                    };
                    let tile = Tile::new(place, Block::new(&q[q0 * dim..], rows, dim, dim), Block::new(&[], 0, 0, 0));
                    let mut s = vec![0.0; rows * cols];
                    term.add(&tile, &mut BlockMut::new(&mut s, rows, cols, cols));
                    let cut = |x: &[f64]| -> Vec<f64> { (0..rows).flat_map(|i| x[(q0 + i) * len + k0..][..cols].to_vec()).collect() };
                    assert_close(&s, &cut(&scores), 2 * dim);
                    let (mut d_tile, mut tile_dq) = (cut(&ds), vec![0.0; rows * dim]);
                    let mut into = TermGrads {
                        dq: BlockMut::new(&mut tile_dq, rows, dim, dim),
                        dk: BlockMut::new(&mut [], 0, 0, 0),
                        slots: &mut sums[head * slots..][..slots],
                    };
                    term.adjoint(&tile, &mut BlockMut::new(&mut d_tile, rows, cols, cols), &mut into);
                    if cols == len {
                        assert_close(&tile_dq, &dq[..rows * dim], len);
                    }
                }
                let add = |into: &mut [f64], from: &[f64]| into.iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
                add(&mut expected.get_mut("r_s_bias").unwrap()[head * dim..], &dw);
                for r in 0..2 {
                    add(
                        &mut expected.get_mut("seg_embed").unwrap()[(r * heads + head) * dim..],
                        &dg[r * dim..][..dim],
                    );
                }
            }
        }
        let mut grads = params.zeros_like();
        term.collect(&sums, &mut (&mut grads).into()).unwrap();
        assert_close(grads.flat(), expected.flat(), 4 * len * len);
    }

    #[test]
    fn one_axis_has_no_segments_and_three_are_refused() {
        let plan = Encoding::from(XlNet::new()).plan(Dims::new(8, 2).unwrap()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let one = Positions::range(0..3);
        assert!(plan.call(&params, &one, &one).unwrap().content().is_empty());
        let two = one.clone().with_axis(&one).unwrap();
        let three = two.clone().with_axis(&one).unwrap();
        for (q_at, k_at) in [(&one, &two), (&three, &three)] {
            assert!(matches!(
                plan.call(&params, q_at, k_at),
                Err(Error::Unsupported { method: "xlnet", .. })
            ));
        }
    }

    #[test]
    fn display_is_one_line() {
        assert_eq!(
            XlNet::new()
                .with_clamp_len(9)
                .with_scope(Scope::Model)
                .with_init(Init::Zeros)
                .to_string(),
            "xlnet(sines first, both directions, clamped to ±9, relative segments, vectors per model, zeros, projected by r)"
        );
    }
}
