//! # Transformer-XL's relative attention
//!
//! **Idea.** The score of a pair is what it would be with positions added to the inputs, multiplied out, with the distance in place of the key's position and trained vectors in place of the query's:
//! a sinusoid of the distance is projected like a key, and two vectors per head stand for how much any query cares for a content and for a distance.
//!
//! **Paper.** Dai, Yang, Yang, Carbonell, Le, Salakhutdinov: *Transformer-XL: Attentive Language Models beyond a Fixed-Length Context*, 2019, arXiv 1901.02860.
//!
//! **Maths.** For query i and key j, with the sinusoid R of a distance, the layer's projection W_R, and u, v per head:
//! ```text
//! s(i, j) = [ (qᵢ + u) · kⱼ + (qᵢ + v) · W_R R(i − j) ] / √d
//! R(n)    = (sin n·ωᵢ, cos n·ωᵢ),   ωᵢ = 10000^(−2i/D)
//! ```
//!
//! **Shapes.** u and v `[heads, head_dim]`. Rows to be projected `[n, model_dim]`, one per distance that occurs, farthest first; the table `relative_keys` `[n, heads, head_dim]`; the projection
//! `[heads · head_dim, model_dim]` belongs to the layer ([`Plan::projections`](crate::Plan::projections)).
//!
//! **Conventions that differ between codebases.** The columns of R: sines first (Transformer-XL, XLNet) or interleaved (the conformers of wav2vec2 and NeMo): a required argument, because W_R's columns
//! go with them. Which distances have a row: Transformer-XL is causal and has none for keys after the query (its shift leaves the scores of other pairs there, for the mask to hide; here they get nothing);
//! conformers have both signs: a required argument too. Names: `r_w_bias`, `r_r_bias`, `r_net` or `pos_bias_u`, `pos_bias_v`, `linear_pos`. u and v are shared by the layers unless
//! `untie_r` is set. `clamp_len` reads farther distances as that one; upstream sets it for evaluation past the trained length. transformers rounds angles to f32; rows here are computed in f64.
//! u is added for all pairs, also where a token has no position: it reads none.
//!
//! **Cost.** heads · head_dim · 2 numbers, and the layer's heads · head_dim · model_dim. A call computes q_len + k_len − 1 rows at most, shared by the layers, and each layer projects them: one decoded
//! token costs a projection of k_len rows. Without `clamp_len`, positions scattered so widely that there are many more distances than tokens are a typed error.
//!
//! ```
//! use posenc::{Dims, Encoding, Positions, TransformerXl};
//! let plan = Encoding::from(TransformerXl::paper().with_clamp_len(400)).plan(Dims::new(64, 4)?)?;
//! assert_eq!(plan.projections()[0].parameters(&plan.dims())[0].name, "r_net.weight");
//! let (params, memory) = (plan.init::<f32>(0)?, Positions::range(0..1000));
//! let call = plan.call(&params, &Positions::range(900..1000), &memory)?;
//! assert_eq!(call.rows("relative_keys")?.shape(), [401, 64]); // distances 400 to 0
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::call::Parts;
use crate::content::relative::{HeadRows, RelativeTerm, RowsAt, span};
use crate::dims::Dims;
use crate::distances::{check_distance, check_one_axis, owner};
use crate::embed::{SinusoidLayout, Sinusoidal};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Bound, Init, ParamSpec, Scope};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::project::{Projected, Projection, Projector, Rows};
use crate::real::{Element, Real};
use crate::view::ViewMut;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The table that the layer projects.
pub(crate) const TABLE: &str = "relative_keys";

/// Projected sinusoids of distances, and two trained vectors per head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "RelPartialLearnableMultiHeadAttn")]
#[doc(alias = "RelPositionMultiHeadAttention")]
pub struct TransformerXl {
    /// The columns of the sinusoids.
    pub layout: SinusoidLayout,
    /// Keys after the query have rows too; else they get nothing but u.
    pub two_sided: bool,
    /// Distances beyond ± this are read as this.
    #[serde(default)]
    pub clamp_len: Option<usize>,
    /// What u is called.
    #[serde(default = "crate::encoding::written::r_w_bias")]
    pub content_bias: String,
    /// What v is called.
    #[serde(default = "crate::encoding::written::r_r_bias")]
    pub position_bias: String,
    /// What the layer's projection is called.
    #[serde(default = "crate::encoding::written::r_net")]
    pub projection: String,
    /// How u and v begin.
    #[serde(default = "crate::encoding::written::narrow_normal")]
    pub init: Init,
    /// One u and v for the model or one per layer.
    #[serde(default = "crate::encoding::written::per_layer")]
    pub scope: Scope,
}

impl TransformerXl {
    /// Under Transformer-XL's names, every distance with a row of its own, u and v per layer that begin as N(0, 0.02).
    pub fn new(layout: SinusoidLayout, two_sided: bool) -> TransformerXl {
        TransformerXl {
            layout,
            two_sided,
            clamp_len: None,
            content_bias: "r_w_bias".into(),
            position_bias: "r_r_bias".into(),
            projection: "r_net".into(),
            init: Init::Normal(0.02),
            scope: Scope::Layer,
        }
    }

    /// Transformer-XL: sines first, keys up to the query.
    pub fn paper() -> TransformerXl {
        TransformerXl::new(SinusoidLayout::SinFirst, false)
    }

    /// wav2vec2-conformer, NeMo: interleaved, both directions, under their names.
    pub fn conformer() -> TransformerXl {
        TransformerXl::new(SinusoidLayout::Interleaved, true)
            .with_names("pos_bias_u", "pos_bias_v", "linear_pos")
            .with_init(Init::XavierUniform)
    }

    /// The same under other names: of u, of v, of the layer's projection.
    pub fn with_names(self, content_bias: &str, position_bias: &str, projection: &str) -> TransformerXl {
        TransformerXl {
            content_bias: content_bias.into(),
            position_bias: position_bias.into(),
            projection: projection.into(),
            ..self
        }
    }

    /// The same with farther distances read as this one.
    pub fn with_clamp_len(self, clamp_len: usize) -> TransformerXl {
        TransformerXl {
            clamp_len: Some(clamp_len),
            ..self
        }
    }

    /// The same with another beginning of u and v.
    pub fn with_init(self, init: Init) -> TransformerXl {
        TransformerXl { init, ..self }
    }

    /// The same with one u and v for the model, or one per layer.
    pub fn with_scope(self, scope: Scope) -> TransformerXl {
        TransformerXl { scope, ..self }
    }

    fn distances(&self) -> DistanceRows {
        DistanceRows {
            layout: self.layout,
            clamp_len: self.clamp_len,
            two_sided: self.two_sided,
        }
    }
}

impl fmt::Display for TransformerXl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transformer-xl({}", self.distances())?;
        let (u, v, owner) = (&self.content_bias, &self.position_bias, owner(self.scope));
        write!(f, ", {u} and {v} per {owner}, {}, projected by {})", self.init, self.projection)
    }
}

impl Prepare for TransformerXl {
    fn check(&self, dims: &Dims) -> Result<()> {
        self.distances().check(dims)
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        [&self.content_bias, &self.position_bias]
            .map(|name| ParamSpec::new(name, [dims.heads, dims.head_dim], self.init).scoped(self.scope))
            .into()
    }

    fn projections(&self) -> Vec<Projection> {
        vec![projection(&self.projection)]
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        check_one_axis("transformer-xl", q_at, k_at)?;
        let (at, rows) = self.distances().resolve("transformer-xl", dims.model_dim, q_at, k_at)?;
        Ok(Arc::new(PreparedTransformerXl {
            at,
            rows,
            specs: self.parameters(dims),
            projection: projection(&self.projection),
        }))
    }
}

/// The projection of sinusoids into [`TABLE`].
pub(crate) fn projection(name: &str) -> Projection {
    Projection {
        table: TABLE.into(),
        by: Projector::Own {
            name: name.into(),
            bias: false,
        },
        rows_of: None,
    }
}

/// What Transformer-XL and XLNet share: the distances of a call have rows, and two vectors go with them.
pub(crate) struct PreparedTransformerXl<R> {
    pub at: RowsAt,
    pub rows: Arc<[R]>,
    /// Of u and v.
    pub specs: Vec<ParamSpec>,
    pub projection: Projection,
}

impl<R: Real> Prepared<R> for PreparedTransformerXl<R> {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let bias = |i: usize| Ok(HeadRows::by_head(self.specs[i].clone(), params.get(&self.specs[i])?));
        parts.projected.push(Projected {
            rows: Rows::Computed(self.rows.clone()),
            keys: Some(self.projection.clone()),
            queries: None,
            term: RelativeTerm {
                content_bias: Some(bias(0)?),
                position_bias: Some(bias(1)?),
                ..RelativeTerm::new(self.at.clone())
            },
        });
        Ok(())
    }
}

/// A sinusoid for each distance of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DistanceRows {
    pub layout: SinusoidLayout,
    pub clamp_len: Option<usize>,
    pub two_sided: bool,
}

impl DistanceRows {
    pub fn check(&self, dims: &Dims) -> Result<()> {
        if !dims.model_dim.is_multiple_of(2) {
            return Err(Error::OddWidth {
                what: "model_dim of projected sinusoids",
                width: dims.model_dim,
            });
        }
        match self.clamp_len {
            Some(0) => Err(Error::Zero { what: "clamp_len" }),
            Some(clamp_len) => check_distance(clamp_len),
            None => Ok(()),
        }
    }

    /// Which row each distance reads, and the rows `[n, model_dim]`, farthest key before the query first.
    pub fn resolve<R: Real>(
        &self,
        method: &'static str,
        model_dim: usize,
        q_at: &Positions,
        k_at: &Positions,
    ) -> Result<(RowsAt, Arc<[R]>)> {
        let reach = self.clamp_len.map(|clamp_len| clamp_len as i64);
        let clamp = |distance: i64| reach.map_or(distance, |reach| distance.clamp(-reach, reach));
        let span = span(method, q_at, k_at, reach)?;
        let farthest = clamp(span.lowest.saturating_neg());
        let nearest = clamp(span.lowest.saturating_add(span.count as i64 - 1).saturating_neg());
        let last = if self.two_sided { nearest } else { nearest.max(0) };
        memory::check::<R>("sinusoids of the distances [distances, width]", &[span.count, 2 * model_dim])?;
        let distances: Vec<i64> = (last..=farthest).rev().collect();
        let row = |distance: i64| (self.two_sided || distance >= 0).then(|| (farthest - clamp(distance)) as usize);
        let at = RowsAt::new(method, q_at, k_at, reach, row)?;
        Ok((at, sinusoids(self.layout, model_dim, &distances)?.into()))
    }
}

impl fmt::Display for DistanceRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.layout {
            SinusoidLayout::Interleaved => "interleaved",
            SinusoidLayout::SinFirst => "sines first",
            SinusoidLayout::CosFirst => "cosines first",
        })?;
        f.write_str(if self.two_sided {
            ", both directions"
        } else {
            ", keys up to the query"
        })?;
        match self.clamp_len {
            Some(clamp_len) => write!(f, ", clamped to ±{clamp_len}"),
            None => Ok(()),
        }
    }
}

fn sinusoids<R: Real>(layout: SinusoidLayout, width: usize, distances: &[i64]) -> Result<Vec<R>> {
    Sinusoidal::paper().with_layout(layout).rows(width, &Positions::whole(distances))
}

/// The sinusoids of distances, `[distances, width]`, those beyond ±`clamp_len` read as that: the rows that Transformer-XL and XLNet project, in the caller's order. XLNet's
/// `relative_positional_encoding(q_len, k_len)` is that of the distances k_len, k_len − 1, …, 1 − q_len with sines first; its backward half (`bi_data`) that of their negatives.
///
/// # Errors
/// An output of another length, or a `clamp_len` of zero or past 2³⁰.
///
/// ```
/// use posenc::{SinusoidLayout, ViewMut, relative_sinusoids};
/// let mut rows = [f64::NAN; 3 * 2];
/// relative_sinusoids(SinusoidLayout::SinFirst, &[7, 1, -1], Some(2), ViewMut::new(&mut rows, [3, 2])?)?;
/// assert_eq!(rows, [2f64.sin(), 2f64.cos(), 1f64.sin(), 1f64.cos(), -1f64.sin(), 1f64.cos()]);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "relative_positional_encoding")]
#[doc(alias = "RelPositionalEncoding")]
pub fn relative_sinusoids<T: Element>(
    layout: SinusoidLayout,
    distances: &[i64],
    clamp_len: Option<usize>,
    mut out: ViewMut<'_, T, 2>,
) -> Result<()> {
    let [len, width] = out.shape();
    if len != distances.len() {
        return Err(Error::Shape {
            what: "out [distances, width]",
            expected: vec![distances.len(), width],
            given: vec![len, width],
        });
    }
    let clamped = match clamp_len {
        Some(0) => return Err(Error::Zero { what: "clamp_len" }),
        Some(clamp_len) => {
            check_distance(clamp_len)?;
            let reach = clamp_len as i64;
            distances.iter().map(|distance| (*distance).clamp(-reach, reach)).collect()
        }
        None => distances.to_vec(),
    };
    let rows = sinusoids::<T::Real>(layout, width, &clamped)?;
    for (t, row) in rows.chunks_exact(width.max(1)).enumerate() {
        out.row_mut([t, 0]).iter_mut().zip(row).for_each(|(out, x)| *out = T::narrow(*x));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::reference;

    #[test]
    fn sinusoids_are_those_of_the_reference() {
        let distances = [-900, -3, 0, 1, 2, 57, 4000];
        for (layout, interleaved) in [(SinusoidLayout::Interleaved, true), (SinusoidLayout::SinFirst, false)] {
            for clamp_len in [None, Some(50)] {
                let mut rows = vec![f64::NAN; distances.len() * 10];
                relative_sinusoids(
                    layout,
                    &distances,
                    clamp_len,
                    ViewMut::new(&mut rows, [distances.len(), 10]).unwrap(),
                )
                .unwrap();
                for (row, distance) in rows.chunks_exact(10).zip(distances) {
                    let clamped = clamp_len.map_or(distance, |c| distance.clamp(-(c as i64), c as i64));
                    let expected = reference::transformer_xl::sinusoid(clamped, 10, interleaved);
                    // Both compute the angle in a few roundings of a number below 2¹².
                    assert!(row.iter().zip(expected).all(|(r, e)| (r - e).abs() <= 8.0 * 4096.0 * f64::EPSILON));
                }
            }
        }
        let out = &mut [0.0f32; 4];
        let view = ViewMut::new(out, [1, 4]).unwrap();
        assert!(matches!(
            relative_sinusoids(SinusoidLayout::SinFirst, &[1, 2], None, view),
            Err(Error::Shape { .. })
        ));
        let view = ViewMut::new(out, [1, 4]).unwrap();
        assert!(matches!(
            relative_sinusoids(SinusoidLayout::SinFirst, &[1], Some(0), view),
            Err(Error::Zero { what: "clamp_len" })
        ));
    }

    #[test]
    fn what_it_cannot_work_with_is_refused() {
        let plan = |method: TransformerXl, width| Encoding::from(method).plan(Dims::new(width, 1).unwrap()).map(|_| ());
        assert!(matches!(plan(TransformerXl::paper(), 7), Err(Error::OddWidth { width: 7, .. })));
        assert!(matches!(plan(TransformerXl::paper().with_clamp_len(0), 8), Err(Error::Zero { .. })));
        assert!(matches!(
            plan(TransformerXl::paper().with_clamp_len(usize::MAX), 8),
            Err(Error::Invalid { .. })
        ));
        let clash = TransformerXl::paper().with_names("r_net.weight", "r_r_bias", "r_net");
        assert!(matches!(plan(clash, 8), Err(Error::Repeated { name }) if name == "r_net.weight"));
    }

    #[test]
    fn display_is_one_line_and_init_goes_by_name() {
        assert_eq!(
            TransformerXl::conformer().with_clamp_len(5).to_string(),
            "transformer-xl(interleaved, both directions, clamped to ±5, pos_bias_u and pos_bias_v per layer, xavier, projected by linear_pos)"
        );
        let plan = Encoding::from(TransformerXl::paper().with_init(Init::Ones))
            .plan(Dims::new(8, 2).unwrap())
            .unwrap();
        assert!(plan.init::<f32>(3).unwrap().flat().iter().all(|x| *x == 1.0));
        assert!(
            plan.to_string().ends_with("16 parameters and 64 in each layer's projections"),
            "{plan}"
        );
    }
}
