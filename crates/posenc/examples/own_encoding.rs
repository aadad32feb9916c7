//! An encoding of one's own, outside the crate: a learned penalty per head, −aₕ·ln(1 + |i − j|), held to the library's laws.
use posenc::{laws::Subject, *};
use std::sync::Arc;

/// The score term. Its parameter a is `[heads]`.
struct LogPenalty<'p, R>(&'p [R]);

/// −ln(1 + |i − j|); 0 where the query or the key has no position.
fn falls<R: Real>(at: &Place, i: usize, j: usize) -> R {
    R::of(at.q_at.get(i).zip(at.k_at.get(j)).map_or(0.0, |(q, k)| -(q - k).abs().ln_1p()))
}

impl<R: Real> ScoreTerm<R> for LogPenalty<'_, R> {
    fn needs(&self) -> Needs {
        Needs::bias(1) // one gradient slot per head: a's
    }

    fn add(&self, tile: &Tile<R>, s: &mut BlockMut<R>) {
        for i in 0..s.rows {
            for (j, s) in s.row(i).iter_mut().enumerate() {
                *s += self.0[tile.at.head] * falls(&tile.at, i, j);
            }
        }
    }

    fn adjoint(&self, tile: &Tile<R>, ds: &mut BlockMut<R>, into: &mut TermGrads<R>) {
        for i in 0..ds.rows {
            into.slots[0] += ds.row(i).iter().zip(0..).map(|(ds, j)| *ds * falls(&tile.at, i, j)).sum::<R>();
        }
    }

    fn collect(&self, slots: &[R], grads: &mut BoundMut<R>) -> Result<()> {
        let a = grads.get_mut(&Own.parameters()[0])?;
        a.iter_mut().zip(slots).for_each(|(a, slot)| *a += *slot);
        Ok(())
    }
}

struct Own;

impl Subject for Own {
    fn dims(&self) -> Dims {
        Dims::new(8, 2).expect("two heads of four coordinates")
    }
    fn parameters(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("log_penalty.a", [2], Init::Normal(1.0))]
    }
    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        let mut call = Encoding::none().plan(self.dims())?.call(params, q_at, k_at)?;
        call.push_bias(Arc::new(LogPenalty(params.get("log_penalty.a")?)));
        Ok(call)
    }
}
laws! { own_encoding: Own }
fn main() {
    laws::adjoint_matches_differences(&Own);
    println!("−a·ln(1 + |i − j|): the adjoint equals finite differences");
}
