//! # DeBERTa's disentangled attention
//!
//! **Idea.** Content asks for a distance (c2p) and a distance asks for content (p2c): trained vectors of distances are projected to keys and to queries, and each meets the other side's content.
//!
//! **Paper.** He, Liu, Gao, Chen: *DeBERTa: Decoding-enhanced BERT with Disentangled Attention*, 2020, arXiv 2006.03654; the log buckets: *DeBERTaV3*, 2021, arXiv 2111.09543 (code from v2 on).
//!
//! **Maths.** For query i and key j, with a table E of 2k rows that the layer projects to keys Kᵣ and queries Qᵣ, and t of the two terms in use:
//! ```text
//! δ(i, j) = clip(b(i − j) + k, 0, 2k − 1)
//! s(i, j) = [ qᵢ·kⱼ + qᵢ·Kᵣ[δ(i, j)] + kⱼ·Qᵣ[δ(i, j)] ] / √(d · (1 + t))
//! b(n)    = n                                                            without buckets, or |n| ≤ m = ⌊buckets/2⌋
//!           sign(n) · ( ⌈ (m − 1) · ln(|n|/m) / ln((M − 1)/m) ⌉ + m )    else, to a largest distance M
//! ```
//! Without buckets k is M; with buckets k is their number.
//!
//! **Shapes.** `rel_embeddings.weight` `[2k, model_dim]`, shared by the layers. Tables `position_keys` `[2k, heads, head_dim]` (as many heads as the keys have, where they share the keys' projection) and
//! `position_queries` `[2k, heads, head_dim]`.
//!
//! **Conventions that differ between codebases.** The paper's p2c reads δ(j, i), the code that trained the models δ(i, j), and so does this. The scale: attention's own is 1/√d; DeBERTa's is
//! [`Deberta::attention`]. Projections: DeBERTa 1 has its own `pos_proj` (without a bias) and `pos_q_proj`, version 2 its own `pos_key_proj` and `pos_query_proj`, and the published v2 and v3 models share the
//! layer's projections of keys and queries (`share_att_key`): a required argument. They also normalise the table (`norm_rel_ebd`) before every layer: keep the normalised rows as the parameter to
//! run such a model. Log buckets are computed as upstream does, in f32, because a rounded-up quotient decides a bucket; upstream's own bucket past M − 1 goes on growing and is then clipped to the table.
//! With fewer queries than keys transformers' p2c counts distances from the first key; here positions count.
//!
//! **Cost.** 2k · model_dim numbers for the model, and per layer twice heads · head_dim · model_dim where projections are its own. Each layer projects 2k rows per table and call. c2p and
//! p2c are products of queries and keys with the rows of a tile's diagonals: together about as many operations as q·k and the values take. Where positions do not follow each other, p2c is a product of
//! `head_dim` per pair, c2p one per run of keys in the same row.
//!
//! ```
//! use posenc::{Deberta, DebertaProjections, Dims, Encoding};
//! let method = Deberta::new(512, DebertaProjections::Shared).with_buckets(256); // v3
//! assert_eq!(method.attention(64).scale, Some(1.0 / (64.0f64 * 3.0).sqrt()));
//! let plan = Encoding::from(method).plan(Dims::new(768, 12)?)?;
//! assert_eq!(plan.parameters()[0].shape, [512, 768]);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::attention::Attention;
use crate::call::Parts;
use crate::content::relative::{RelativeTerm, RowsAt};
use crate::dims::Dims;
use crate::distances::{check_distance, check_one_axis};
use crate::error::{Error, Result};
use crate::params::{Bound, Init, ParamSpec};
use crate::plan::{Prepare, Prepared};
use crate::positions::Positions;
use crate::project::{Projected, Projection, Projector, Rows};
use crate::real::Real;
use crate::steps::owned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The table of distances.
const ROWS: &str = "rel_embeddings.weight";

/// Content against distance and distance against content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "DisentangledSelfAttention")]
pub struct Deberta {
    /// M: distances beyond ± this are read as this. `max_relative_positions`.
    pub max_distance: usize,
    /// Far distances share buckets, this many in each direction. `position_buckets`.
    #[serde(default)]
    pub buckets: Option<usize>,
    /// The query's content reads the distance's key.
    #[serde(default = "crate::encoding::written::yes")]
    pub c2p: bool,
    /// The key's content reads the distance's query.
    #[serde(default = "crate::encoding::written::yes")]
    pub p2c: bool,
    /// Whose weights project the table.
    pub projections: DebertaProjections,
    /// How the table begins.
    #[serde(default = "crate::encoding::written::narrow_normal")]
    pub init: Init,
}

/// Whose weights project DeBERTa's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DebertaProjections {
    /// The layer's own projections of keys and queries: `share_att_key`, the published v2 and v3 models.
    Shared,
    /// `pos_key_proj` and `pos_query_proj`, both with a bias: version 2's code without `share_att_key`.
    V2,
    /// `pos_proj` without a bias and `pos_q_proj` with one: version 1.
    V1,
}

impl Deberta {
    /// c2p and p2c, a row per distance, a table that begins as N(0, 0.02).
    pub fn new(max_distance: usize, projections: DebertaProjections) -> Deberta {
        Deberta {
            max_distance,
            buckets: None,
            c2p: true,
            p2c: true,
            projections,
            init: Init::Normal(0.02),
        }
    }

    /// The same with far distances in buckets, `buckets` in each direction.
    pub fn with_buckets(self, buckets: usize) -> Deberta {
        Deberta {
            buckets: Some(buckets),
            ..self
        }
    }

    /// The same with these terms: `pos_att_type`.
    #[doc(alias = "pos_att_type")]
    pub fn with_terms(self, c2p: bool, p2c: bool) -> Deberta {
        Deberta { c2p, p2c, ..self }
    }

    /// The same with another beginning.
    pub fn with_init(self, init: Init) -> Deberta {
        Deberta { init, ..self }
    }

    /// The attention that the models have beside it, for heads of this width: scaled by 1/√(head_dim · (1 + terms)).
    pub fn attention(&self, head_dim: usize) -> Attention {
        let terms = 1 + usize::from(self.c2p) + usize::from(self.p2c);
        Attention {
            scale: Some(1.0 / ((head_dim * terms) as f64).sqrt()),
            ..Attention::default()
        }
    }

    /// k: rows in each direction.
    fn span(&self) -> usize {
        self.buckets.unwrap_or(self.max_distance)
    }

    /// The table row of a distance, query − key.
    pub(crate) fn row(&self, distance: i64) -> usize {
        let span = self.span() as i64;
        let bucket = match self.buckets {
            Some(buckets) => bucket(distance, buckets, self.max_distance),
            None => distance,
        };
        bucket.saturating_add(span).clamp(0, 2 * span - 1) as usize
    }

    /// A distance from which on all are in the first row or the last. Buckets grow with the distance, so it is found by halving.
    fn reach(&self) -> i64 {
        let ends = |d: i64| self.row(d) == 2 * self.span() - 1 && self.row(-d) == 0;
        let (mut low, mut high) = (0, self.span().max(self.max_distance) as i64);
        while !ends(high) && high < i64::MAX / 2 {
            (low, high) = (high, 2 * high);
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if ends(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// The projections of keys and of queries, as far as they are in use.
    fn tables(&self) -> [Option<Projection>; 2] {
        let own = |name: &str, bias| Projector::Own { name: name.into(), bias };
        let (keys, queries) = match self.projections {
            DebertaProjections::Shared => (Projector::Keys, Projector::Queries),
            DebertaProjections::V2 => (own("pos_key_proj", true), own("pos_query_proj", true)),
            DebertaProjections::V1 => (own("pos_proj", false), own("pos_q_proj", true)),
        };
        let table = |table: &str, by| Projection {
            table: table.into(),
            by,
            rows_of: Some(ROWS.into()),
        };
        [
            self.c2p.then(|| table("position_keys", keys)),
            self.p2c.then(|| table("position_queries", queries)),
        ]
    }

    fn spec(&self, dims: &Dims) -> ParamSpec {
        ParamSpec::new(ROWS, [2 * self.span(), dims.model_dim], self.init)
    }
}

fn check_buckets(buckets: usize, max_distance: usize) -> Result<()> {
    let refused = |what, given: usize, expected| {
        Err(Error::Invalid {
            what,
            given: given.to_string(),
            expected,
        })
    };
    check_distance(max_distance)?;
    if buckets < 4 {
        return refused(
            "buckets",
            buckets,
            "at least 4: two for near distances and one more than that for far ones",
        );
    }
    if max_distance.saturating_sub(1) <= buckets / 2 {
        return refused(
            "max_distance",
            max_distance,
            "more than half the buckets and one: that many distances have a bucket each",
        );
    }
    Ok(())
}

/// Checked settings. In f32, each step as upstream rounds it: the logarithms, their quotient, the product.
fn bucket(distance: i64, buckets: usize, max_distance: usize) -> i64 {
    let near = (buckets / 2) as i64;
    if distance.unsigned_abs() <= near as u64 {
        return distance;
    }
    let log = |x: f32| f64::from(x).ln() as f32;
    let quotient = distance.unsigned_abs() as f32 / near as f32;
    let widest = ((max_distance - 1) as f64 / near as f64) as f32;
    let far = (log(quotient) / log(widest) * (near - 1) as f32).ceil() + near as f32;
    far as i64 * distance.signum()
}

/// DeBERTa's log bucket of a distance query − key: the distance itself up to half the buckets, then ever wider ones, so that `max_distance` − 1 is in bucket `buckets` − 1 (for an even number of buckets).
/// Not clipped: farther distances have larger buckets, which the table clips.
///
/// # Errors
/// Fewer than 4 buckets, or a `max_distance` within the distances that have a bucket each.
///
/// ```
/// use posenc::deberta_bucket;
/// assert_eq!(deberta_bucket(-128, 256, 512)?, -128);
/// assert_eq!(deberta_bucket(129, 256, 512)?, 129);
/// assert_eq!(deberta_bucket(511, 256, 512)?, 255);
/// # Ok::<(), posenc::Error>(())
/// ```
#[doc(alias = "make_log_bucket_position")]
pub fn deberta_bucket(relative_position: i64, buckets: usize, max_distance: usize) -> Result<i64> {
    check_buckets(buckets, max_distance)?;
    Ok(bucket(relative_position, buckets, max_distance))
}

impl fmt::Display for Deberta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match (self.c2p, self.p2c) {
            (true, true) => "c2p and p2c",
            (true, false) => "c2p",
            (false, true) => "p2c",
            (false, false) => "no term",
        };
        write!(f, "deberta({terms}, ±{}", self.max_distance)?;
        if let Some(buckets) = self.buckets {
            write!(f, " in {buckets} buckets each way")?;
        }
        let projections = match self.projections {
            DebertaProjections::Shared => "sharing the projections of keys and queries",
            DebertaProjections::V2 => "projected by pos_key_proj and pos_query_proj",
            DebertaProjections::V1 => "projected by pos_proj and pos_q_proj",
        };
        write!(f, ", one table per model, {}, {projections})", self.init)
    }
}

impl Prepare for Deberta {
    fn check(&self, _dims: &Dims) -> Result<()> {
        if !self.c2p && !self.p2c {
            return Err(Error::Invalid {
                what: "c2p and p2c",
                given: "neither".into(),
                expected: "at least one of them; without both there is no method",
            });
        }
        match self.buckets {
            Some(buckets) => check_buckets(buckets, self.max_distance),
            None if self.max_distance == 0 => Err(Error::Zero { what: "max_distance" }),
            None => check_distance(self.max_distance),
        }
    }

    fn parameters(&self, dims: &Dims) -> Vec<ParamSpec> {
        vec![self.spec(dims)]
    }

    fn projections(&self) -> Vec<Projection> {
        self.tables().into_iter().flatten().collect()
    }

    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>> {
        check_one_axis("deberta", q_at, k_at)?;
        Ok(Arc::new(PreparedDeberta {
            at: RowsAt::new("deberta", q_at, k_at, Some(self.reach()), |d| Some(self.row(d)))?,
            spec: self.spec(dims),
            tables: self.tables(),
        }))
    }

    fn advance<R: Real>(&self, _dims: &Dims, _before: [&Positions; 2], at: [&Positions; 2], prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        let rows = owned(prepared).map(|prepared: &mut PreparedDeberta| &mut prepared.at);
        let fits = check_one_axis("deberta", at[0], at[1]).is_ok();
        rows.is_some_and(|rows| fits && rows.advance("deberta", at, Some(self.reach()), |d| Some(self.row(d))))
    }
}

struct PreparedDeberta {
    at: RowsAt,
    spec: ParamSpec,
    tables: [Option<Projection>; 2],
}

impl<R: Real> Prepared<R> for PreparedDeberta {
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()> {
        let [keys, queries] = self.tables.clone();
        parts.projected.push(Projected {
            rows: Rows::Parameter(self.spec.clone(), params.get(&self.spec)?),
            keys,
            queries,
            term: RelativeTerm::new(self.at.clone()),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::reference;

    /// f32 and f64 part only where a quotient of logarithms is next to a whole number: within the rounding of two logarithms, their quotient and a product, each ε.
    #[test]
    fn buckets_are_those_of_exact_arithmetic_but_for_its_rounding() {
        for (buckets, max_distance) in [(4, 5), (8, 24), (7, 41), (16, 40), (32, 128), (256, 512)] {
            let near = (buckets / 2) as f64;
            for distance in -2000i64..2000 {
                let given = deberta_bucket(distance, buckets, max_distance).unwrap();
                assert_eq!(
                    given,
                    -deberta_bucket(-distance, buckets, max_distance).unwrap(),
                    "both directions alike"
                );
                let exact = reference::deberta::bucket(distance, buckets, max_distance);
                let quotient =
                    (distance.abs() as f64 / near.floor()).ln() / ((max_distance - 1) as f64 / near.floor()).ln() * (near.floor() - 1.0);
                let whole = (quotient - quotient.round()).abs() <= 8.0 * f64::from(f32::EPSILON) * quotient.abs().max(1.0);
                assert!(
                    given == exact || whole && (given - exact).abs() == 1,
                    "{buckets}, {max_distance}: {distance} in {given}, not {exact}"
                );
            }
        }
    }

    #[test]
    fn reach_is_where_the_table_ends() {
        for method in [
            Deberta::new(1, DebertaProjections::Shared),
            Deberta::new(30, DebertaProjections::V1),
            Deberta::new(24, DebertaProjections::V2).with_buckets(8),
            Deberta::new(41, DebertaProjections::V2).with_buckets(7),
            Deberta::new(512, DebertaProjections::Shared).with_buckets(256),
        ] {
            let (reach, last) = (method.reach(), 2 * method.span() - 1);
            for d in [reach, reach + 1, 10 * reach, i64::MAX - 1] {
                assert_eq!((method.row(d), method.row(-d)), (last, 0), "{method}: {d}");
            }
            let before = (method.row(reach - 1), method.row(1 - reach));
            assert!(before != (last, 0) || reach == 1, "{method}: {reach} is not the first");
        }
    }

    #[test]
    fn what_it_cannot_work_with_is_refused() {
        let plan = |method: Deberta| Encoding::from(method).plan(Dims::new(8, 2).unwrap()).map(|_| ());
        let shared = |max_distance| Deberta::new(max_distance, DebertaProjections::Shared);
        assert!(matches!(plan(shared(8).with_terms(false, false)), Err(Error::Invalid { .. })));
        assert!(matches!(plan(shared(0)), Err(Error::Zero { .. })));
        assert!(matches!(plan(shared(usize::MAX)), Err(Error::Invalid { .. })));
        assert!(matches!(
            plan(shared(64).with_buckets(3)),
            Err(Error::Invalid { what: "buckets", .. })
        ));
        assert!(matches!(
            plan(shared(5).with_buckets(8)),
            Err(Error::Invalid { what: "max_distance", .. })
        ));
        assert!(plan(shared(6).with_buckets(8)).is_ok());
        let wide = Encoding::from(crate::Learned::new(9).concatenated(4));
        assert!(matches!(
            wide.clone().with(shared(8)).plan(Dims::new(8, 2).unwrap()),
            Err(Error::Unsupported { .. })
        ));
        assert!(
            wide.with(Deberta::new(8, DebertaProjections::V2))
                .plan(Dims::new(8, 2).unwrap())
                .is_ok()
        );
    }

    #[test]
    fn display_is_one_line_and_the_scale_counts_terms() {
        let method = Deberta::new(512, DebertaProjections::V2).with_buckets(256);
        assert_eq!(
            method.to_string(),
            "deberta(c2p and p2c, ±512 in 256 buckets each way, one table per model, N(0, 0.02), projected by pos_key_proj and pos_query_proj)"
        );
        let scale = |c2p, p2c| method.clone().with_terms(c2p, p2c).attention(16).scale;
        assert_eq!(
            (scale(true, false), scale(true, true)),
            (Some(1.0 / 32f64.sqrt()), Some(1.0 / 48f64.sqrt()))
        );
        let names: Vec<String> = method
            .projections()
            .iter()
            .flat_map(|p| p.parameters(&Dims::new(8, 2).unwrap()))
            .map(|s| s.name)
            .collect();
        assert_eq!(
            names,
            [
                "pos_key_proj.weight",
                "pos_key_proj.bias",
                "pos_query_proj.weight",
                "pos_query_proj.bias"
            ]
        );
    }
}
