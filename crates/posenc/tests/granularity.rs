//! The driver serves terms of every granularity: one that runs along the keys and reads the scores, as CoPE does, and one that mixes heads, as DAPE does. Both are
//! written outside the crate and obey the same laws as a bias.

use posenc::laws::Subject;
use posenc::{
    Attention, BlockMut, BoundMut, Call, Dims, Encoding, Granularity, Init, Needs, ParamSpec, Params, Plan, Positions, Real, Result,
    ScoreTerm, TermGrads, Tile, laws,
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
