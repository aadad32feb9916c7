//! The driver serves terms of every granularity: one that runs along the keys and reads the scores, as CoPE does, and one that mixes heads, as DAPE does. Both are
//! written outside the crate and obey the same laws as a bias.

use posenc::laws::Subject;
use posenc::{
    Attention, BlockMut, BoundMut, Call, Dims, Encoding, Granularity, Init, Inputs, Mask, Mode, Needs, Outputs, ParamSpec, Params, Plan,
    Positions, Real, Result, ScoreTerm, TermGrads, Tile, View, ViewMut, Workspace, laws,
};
use std::sync::Arc;

/// Each pair gets w times the mean score of the visible pairs up to its own: sequential over keys, reads the scores, skips what the mask blocks.
struct RunningMean<'p, R> {
    weight: &'p [R],
}

fn running_mean_weight() -> ParamSpec {
    ParamSpec::new("running_mean.weight", [1], Init::Ones)
}

impl<R: Real> ScoreTerm<R> for RunningMean<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(1).with_granularity(Granularity::WholeRows).reading_scores()
    }

    fn add(&self, _tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        for i in 0..s.rows {
            let (mut sum, mut seen) = (R::ZERO, R::ZERO);
            for s in s.row(i).iter_mut().filter(|s| **s > R::NEG_INFINITY) {
                sum += *s;
                seen += R::ONE;
                *s += self.weight[0] * sum / seen;
            }
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let Tile { at, before, .. } = tile;
        assert_eq!(at.k0, 0, "whole rows begin at the first key");
        for i in 0..ds.rows {
            let row = ds.row(i);
            let (mut sum, mut seen) = (R::ZERO, R::ZERO);
            let mut shares = vec![R::ZERO; row.len()];
            for (j, s) in before.row(i).iter().enumerate().filter(|(_, s)| **s > R::NEG_INFINITY) {
                sum += *s;
                seen += R::ONE;
                shares[j] = R::ONE / seen;
                into.slots[0] += row[j] * sum * shares[j];
            }
            let mut later = R::ZERO;
            for (ds, share) in row.iter_mut().zip(&shares).rev() {
                later += *ds * *share;
                *ds += self.weight[0] * later;
            }
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        grads.get_mut(&running_mean_weight())?[0] += slots.iter().copied().sum::<R>();
        Ok(())
    }
}

/// Adds to each head's score a learned mix of tanh of all heads' scores.
struct HeadMix<'p, R> {
    /// `[heads, heads]`.
    weight: &'p [R],
    heads: usize,
}

fn head_mix_weight(heads: usize) -> ParamSpec {
    ParamSpec::new("head_mix.weight", [heads, heads], Init::Normal(0.5))
}

impl<R: Real> ScoreTerm<R> for HeadMix<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(self.heads).with_granularity(Granularity::AllHeads).reading_scores()
    }

    fn add(&self, _tile: &Tile<'_, R>, s: &mut BlockMut<'_, R>) {
        assert_eq!(s.planes, self.heads);
        for i in 0..s.rows {
            for j in 0..s.cols {
                let mixed: Vec<R> = (0..self.heads).map(|h| s.data[h * s.plane + i * s.ld + j].tanh()).collect();
                for h in 0..self.heads {
                    let row = &self.weight[h * self.heads..][..self.heads];
                    s.data[h * s.plane + i * s.ld + j] += row.iter().zip(&mixed).map(|(w, t)| *w * *t).sum::<R>();
                }
            }
        }
    }

    fn adjoint(&self, tile: &Tile<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        let Tile { before, .. } = tile;
        let n = self.heads;
        for i in 0..ds.rows {
            for j in 0..ds.cols {
                let mixed: Vec<R> = (0..n).map(|h| before.head(h).row(i)[j].tanh()).collect();
                let after: Vec<R> = (0..n).map(|h| ds.head(h).row(i)[j]).collect();
                for h in 0..n {
                    for g in 0..n {
                        into.slots[h * n + g] += after[h] * mixed[g];
                        ds.data[g * ds.plane + i * ds.ld + j] += after[h] * self.weight[h * n + g] * (R::ONE - mixed[g] * mixed[g]);
                    }
                }
            }
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        grads
            .get_mut(&head_mix_weight(self.heads))?
            .iter_mut()
            .zip(slots)
            .for_each(|(g, s)| *g += *s);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    ContentAlongKeys,
    BiasAlongKeys,
    ContentAcrossHeads,
    Both,
}

struct Probe(Plan, Kind);

fn probe(kind: Kind) -> Probe {
    Probe(
        Encoding::none()
            .plan(Dims {
                model_dim: 6,
                heads: 4,
                kv_heads: 2,
                head_dim: 4,
            })
            .unwrap(),
        kind,
    )
}

impl Subject for Probe {
    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        vec![running_mean_weight(), head_mix_weight(self.0.dims().heads)]
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        let mut call = self.0.call(params, q_at, k_at)?;
        let along = Arc::new(RunningMean {
            weight: params.get("running_mean.weight")?,
        });
        let across = Arc::new(HeadMix {
            weight: params.get("head_mix.weight")?,
            heads: self.0.dims().heads,
        });
        match self.1 {
            Kind::ContentAlongKeys => call.push_content(along),
            Kind::BiasAlongKeys => call.push_bias(along),
            Kind::ContentAcrossHeads => call.push_content(across),
            Kind::Both => {
                call.push_content(along);
                call.push_bias(across);
            }
        }
        Ok(call)
    }
}

/// The probe under a soft cap.
struct Capped(Probe);

impl Subject for Capped {
    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        self.0.parameters()
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        self.0.call(params, q_at, k_at)
    }

    fn attention(&self) -> Attention {
        Attention {
            softcap: Some(2.0),
            ..Attention::default()
        }
    }
}

laws! { along_keys: probe(Kind::ContentAlongKeys) }
laws! { along_keys_capped: Capped(probe(Kind::ContentAlongKeys)) => [adjoint_matches_differences, fused_equals_naive, packed_equals_alone] }
laws! { along_keys_as_bias: probe(Kind::BiasAlongKeys) }
laws! { across_heads: probe(Kind::ContentAcrossHeads) }
laws! { both: probe(Kind::Both) }

/// A value per distance and head, of the distances of one call and no others.
struct ByDistance {
    lowest: i64,
    values: Vec<f32>,
    /// It says that distances alone decide what it adds.
    says_so: bool,
}

impl ScoreTerm<f32> for ByDistance {
    fn needs(&self) -> Needs {
        if self.says_so {
            Needs::bias(0).by_distance()
        } else {
            Needs::bias(0)
        }
    }

    fn add(&self, tile: &Tile<'_, f32>, s: &mut BlockMut<'_, f32>) {
        for i in 0..s.rows {
            for j in 0..s.cols {
                let d = tile.at.k_at.whole(j).unwrap() - tile.at.q_at.whole(i).unwrap() - self.lowest;
                s.row(i)[j] += self.values[usize::try_from(d).unwrap()] * (1.0 + tile.at.head as f32);
            }
        }
    }
}

/// Whether attention asks for a line of distances, and no further than the call's own, or for each tile.
#[test]
fn a_line_of_distances_is_what_each_tile_would_have_been_given() {
    let (heads, d) = (2, 8);
    for ([q_len, k_len], causal) in [
        ([1, 1], false),
        ([3, 40], false),
        ([130, 301], false),
        ([300, 300], true),
        ([97, 513], true),
    ] {
        let plan = Encoding::none().plan(Dims::new(heads * d, heads).unwrap()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let (q_at, k_at) = (Positions::range(5..5 + q_len as i64), Positions::range(-7..k_len as i64 - 7));
        let numbers = |n: usize, by: usize| -> Vec<f32> { (0..n).map(|i| (i * by % 101) as f32 / 50.0 - 1.0).collect() };
        let [q, k, v] = [(q_len, 37), (k_len, 41), (k_len, 43)].map(|(len, by)| numbers(heads * len * d, by));
        let pass = |says_so: bool| {
            let mut call = plan.call(&params, &q_at, &k_at).unwrap();
            call.push_bias(Arc::new(ByDistance {
                lowest: -7 - (5 + q_len as i64 - 1),
                values: numbers(q_len + k_len - 1, 29),
                says_so,
            }));
            let mask = if causal { Mask::none().causal(k_len - q_len) } else { Mask::none() };
            let [q_shape, k_shape] = [[1, heads, q_len, d], [1, heads, k_len, d]];
            let inputs = Inputs::new(
                View::new(&q, q_shape).unwrap(),
                View::new(&k, k_shape).unwrap(),
                View::new(&v, k_shape).unwrap(),
            );
            let mut out = vec![f32::NAN; q.len()];
            let outputs = Outputs {
                out: ViewMut::new(&mut out, q_shape).unwrap(),
                saved: None,
                weights: None,
            };
            let work = &mut Workspace::default();
            Attention::default()
                .forward(&call, inputs, &mask, Mode::Evaluate, outputs, work)
                .unwrap();
            out
        };
        // Scores below 5 differ by a rounding, exponentials by 2 ulp in each pass, so weights by 9 parts in 1/EPSILON, and means of values below 1 by twice that; and both sums of a mean, of
        // k_len numbers, are rounded as often in each pass.
        let bound = (2.0 * 9.0 + 2.0 * k_len as f32) * f32::EPSILON;
        for (i, (line, tile)) in pass(true).iter().zip(pass(false)).enumerate() {
            assert!((line - tile).abs() <= bound, "{q_len} x {k_len}, number {i}: {line} and {tile}");
        }
    }
}
