//! The driver serves terms of every granularity: one that runs along the keys and reads the scores, as CoPE does, and one that mixes heads, as DAPE does. Both are
//! written outside the crate and obey the same laws as a bias.

use posenc::laws::Subject;
use posenc::{
    Block, BlockMut, BoundMut, Call, Dims, Encoding, Granularity, Init, Needs, ParamSpec, Params, Place, Plan, Positions, Real, Result,
    ScoreTerm, TermGrads, laws,
};
use std::sync::Arc;

/// Each pair gets w times the mean score of the pairs from the first key to its own: sequential over keys, reads the scores.
struct RunningMean<'p, R> {
    weight: &'p [R],
}

fn running_mean_weight() -> ParamSpec {
    ParamSpec::new("running_mean.weight", [1], Init::Ones)
}

impl<R: Real> ScoreTerm<R> for RunningMean<'_, R> {
    fn needs(&self) -> Needs {
        Needs {
            granularity: Granularity::WholeRows,
            reads_scores: true,
            values: false,
            slots: 1,
        }
    }

    fn add(&self, _at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
        for i in 0..s.rows {
            let mut sum = R::ZERO;
            for (j, s) in s.row(i).iter_mut().enumerate() {
                sum += *s;
                *s += self.weight[0] * sum / R::of((j + 1) as f64);
            }
        }
    }

    fn adjoint(
        &self,
        at: &Place<'_>,
        _q: &Block<'_, R>,
        _k: &Block<'_, R>,
        before: &Block<'_, R>,
        ds: &mut BlockMut<'_, R>,
        into: &mut TermGrads<'_, R>,
    ) {
        assert_eq!(at.k0, 0, "whole rows begin at the first key");
        for i in 0..ds.rows {
            let row = ds.row(i);
            let mut sum = R::ZERO;
            for (j, s) in before.row(i).iter().enumerate() {
                sum += *s;
                into.slots[0] += row[j] * sum / R::of((j + 1) as f64);
            }
            let mut later = R::ZERO;
            for (j, ds) in row.iter_mut().enumerate().rev() {
                later += *ds / R::of((j + 1) as f64);
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
        Needs {
            granularity: Granularity::AllHeads,
            reads_scores: true,
            values: false,
            slots: self.heads,
        }
    }

    fn add(&self, _at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
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

    fn adjoint(
        &self,
        _at: &Place<'_>,
        _q: &Block<'_, R>,
        _k: &Block<'_, R>,
        before: &Block<'_, R>,
        ds: &mut BlockMut<'_, R>,
        into: &mut TermGrads<'_, R>,
    ) {
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

// A mean over all keys of a row is not the mean over one document's keys, so packing and padding are not laws of this probe.
laws! { along_keys: probe(Kind::ContentAlongKeys) => [
    adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding, batch_order_is_irrelevant, threads_do_not_matter
] }
laws! { along_keys_as_bias: probe(Kind::BiasAlongKeys) => [adjoint_matches_differences] }
laws! { across_heads: probe(Kind::ContentAcrossHeads) }
laws! { both: probe(Kind::Both) => [adjoint_matches_differences, prefill_equals_decoding, batch_order_is_irrelevant, threads_do_not_matter] }
