//! An encoding of one's own, outside the crate: a learned logarithmic penalty per head, −aₕ·ln(1 + |i − j|), under the library's laws.
use posenc::{
    Block, BlockMut, BoundMut, Call, Dims, Encoding, Init, Needs, ParamSpec, Params, Place, Plan, Positions, Real, Result, ScoreTerm,
    TermGrads,
};
use posenc::{laws, laws::Subject};
use std::sync::Arc;

struct LogPenalty<'p, R> {
    a: &'p [R], // [heads]
}

fn spec(heads: usize) -> ParamSpec {
    ParamSpec::new("log_penalty.a", [heads], Init::Normal(1.0))
}

fn log_distance<R: Real>(at: &Place<'_>, i: usize, j: usize) -> R {
    R::of(at.q_at.get(i).zip(at.k_at.get(j)).map_or(0.0, |(q, k)| -(q - k).abs().ln_1p()))
}

impl<R: Real> ScoreTerm<R> for LogPenalty<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(1) // one gradient slot per head: a's
    }

    fn add(&self, at: &Place<'_>, _q: &Block<'_, R>, _k: &Block<'_, R>, s: &mut BlockMut<'_, R>) {
        for i in 0..s.rows {
            s.row(i)
                .iter_mut()
                .enumerate()
                .for_each(|(j, s)| *s += self.a[at.head] * log_distance(at, i, j));
        }
    }

    #[rustfmt::skip]
    fn adjoint(&self, at: &Place<'_>, _: &Block<'_, R>, _: &Block<'_, R>, _: &Block<'_, R>, ds: &mut BlockMut<'_, R>, into: &mut TermGrads<'_, R>) {
        for i in 0..ds.rows {
            into.slots[0] += ds.row(i).iter().enumerate().map(|(j, ds)| *ds * log_distance(at, i, j)).sum::<R>();
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<'_, R>) -> Result<()> {
        grads.get_mut(&spec(slots.len()))?.iter_mut().zip(slots).for_each(|(g, s)| *g += *s);
        Ok(())
    }
}

struct Own(Plan);
#[rustfmt::skip]
impl Subject for Own {
    fn dims(&self) -> Dims { self.0.dims() }
    fn parameters(&self) -> Vec<ParamSpec> { vec![spec(self.0.dims().heads)] }
    fn call<'p, R: Real>(&self, params: &'p Params<R>, q: &Positions, k: &Positions) -> Result<Call<'p, R>> {
        let mut call = self.0.call(params, q, k)?;
        call.push_bias(Arc::new(LogPenalty { a: params.get("log_penalty.a")? }));
        Ok(call)
    }
}

fn own() -> Own {
    Own(Encoding::none().plan(Dims::new(8, 2).unwrap()).unwrap())
}
laws! { own_encoding: own() }
fn main() {
    laws::adjoint_matches_differences(&own());
    println!("−a·ln(1 + |i − j|): the adjoint equals finite differences")
}
