//! Token embeddings, and the output head that shares their table.

use crate::error::{Error, Result};
use crate::matrix::{Matrix, MatrixMut, matmul};
use crate::number::Number;
use crate::shape::{gradient, rows, size, tensor};
use posenc::{Init, ParamSpec, Params};

/// An integer that names a token.
pub trait Token: Copy {
    /// Its row in the embedding table.
    fn index(self) -> usize;
}

macro_rules! token {
    ($($t:ty),*) => {$(
        impl Token for $t {
            #[inline(always)]
            fn index(self) -> usize {
                // An id that does not fit is past every table.
                usize::try_from(self).unwrap_or(usize::MAX)
            }
        }
    )*};
}
token!(u8, u16, u32, u64, usize);

/// A table of token vectors, `{name}.weight` `[vocab, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Its name in the store.
    pub name: String,
    /// Tokens.
    pub vocab: usize,
    /// Width of a token's vector.
    pub dim: usize,
    /// How it begins.
    pub init: Init,
}

impl Embedding {
    /// With values from N(0, 0.02) as in GPT-2. PyTorch's own default is `Init::Normal(1.0)`.
    pub fn new(name: impl Into<String>, vocab: usize, dim: usize) -> Embedding {
        Embedding {
            name: name.into(),
            vocab,
            dim,
            init: Init::Normal(0.02),
        }
    }

    /// The same table with other initial values.
    pub fn with_init(self, init: Init) -> Embedding {
        Embedding { init, ..self }
    }

    /// Its parameter.
    pub fn specs(&self) -> Vec<ParamSpec> {
        vec![self.table()]
    }

    fn table(&self) -> ParamSpec {
        ParamSpec::new(format!("{}.weight", self.name), [self.vocab, self.dim], self.init)
    }

    /// `y[i] = E[ids[i]]`: y is `[n, dim]` and overwritten.
    ///
    /// # Errors
    /// An id past the vocabulary, y of another size, or the parameter missing or of another shape.
    pub fn forward<R: Number, T: Token>(&self, params: &Params<R>, ids: &[T], y: &mut [R]) -> Result<()> {
        self.check_ids(ids)?;
        size("y [n, dim]", y.len(), &[ids.len(), self.dim])?;
        let table = tensor(params, &self.table())?;
        for (id, y) in ids.iter().zip(y.chunks_exact_mut(self.dim)) {
            y.copy_from_slice(&table[id.index() * self.dim..][..self.dim]);
        }
        Ok(())
    }

    /// Adds dy `[n, dim]` to the rows of the table's gradient, tokens in order.
    ///
    /// # Errors
    /// As [`Embedding::forward`].
    pub fn adjoint<R: Number, T: Token>(&self, ids: &[T], dy: &[R], grads: &mut Params<R>) -> Result<()> {
        self.check_ids(ids)?;
        size("dy [n, dim]", dy.len(), &[ids.len(), self.dim])?;
        let table = gradient(grads, &self.table())?;
        for (id, dy) in ids.iter().zip(dy.chunks_exact(self.dim)) {
            for (g, d) in table[id.index() * self.dim..][..self.dim].iter_mut().zip(dy) {
                *g += *d;
            }
        }
        Ok(())
    }

    /// The tied head: logits = x·Eᵀ, x `[n, dim]`, logits `[n, vocab]` and overwritten.
    ///
    /// # Errors
    /// x is not whole rows, logits have another size, or the parameter is missing or of another shape.
    pub fn logits<R: Number>(&self, params: &Params<R>, x: &[R], logits: &mut [R]) -> Result<()> {
        let n = rows("x [n, dim]", x.len(), "dim", self.dim)?;
        size("logits [n, vocab]", logits.len(), &[n, self.vocab])?;
        let table = Matrix::new(tensor(params, &self.table())?, self.vocab, self.dim)?;
        matmul(
            R::ONE,
            Matrix::new(x, n, self.dim)?,
            table.t(),
            R::ZERO,
            MatrixMut::new(logits, n, self.vocab)?,
        )
    }

    /// The tied head's adjoint: adds d_logitsᵀ·x to the table's gradient, and overwrites dx, where it is asked for, with d_logits·E.
    ///
    /// # Errors
    /// As [`Embedding::logits`], of either store.
    pub fn logits_adjoint<R: Number>(
        &self,
        params: &Params<R>,
        x: &[R],
        d_logits: &[R],
        dx: Option<&mut [R]>,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let n = rows("x [n, dim]", x.len(), "dim", self.dim)?;
        size("d_logits [n, vocab]", d_logits.len(), &[n, self.vocab])?;
        if let Some(dx) = &dx {
            size("dx [n, dim]", dx.len(), &[n, self.dim])?;
        }
        let table = Matrix::new(tensor(params, &self.table())?, self.vocab, self.dim)?;
        let d_logits = Matrix::new(d_logits, n, self.vocab)?;
        matmul(
            R::ONE,
            d_logits.t(),
            Matrix::new(x, n, self.dim)?,
            R::ONE,
            MatrixMut::new(gradient(grads, &self.table())?, self.vocab, self.dim)?,
        )?;
        if let Some(dx) = dx {
            matmul(R::ONE, d_logits, table, R::ZERO, MatrixMut::new(dx, n, self.dim)?)?;
        }
        Ok(())
    }

    fn check_ids<T: Token>(&self, ids: &[T]) -> Result<()> {
        if self.dim == 0 {
            return Err(posenc::Error::Zero { what: "dim" }.into());
        }
        match ids.iter().position(|id| id.index() >= self.vocab) {
            None => Ok(()),
            Some(index) => Err(Error::Token {
                what: "ids",
                token: ids[index].index(),
                index,
                vocab: self.vocab,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{finite_differences, tolerance, worst};
    use posenc::Rng;

    /// Lookup and head in one loss, so that both adjoints add into one gradient: f = Σ w·(E[ids]·Eᵀ), of order 10.
    #[test]
    fn both_adjoints_match_finite_differences() {
        let mut rng = Rng::new(2);
        let table = Embedding::new("tok", 6, 3).with_init(Init::Normal(1.0));
        let params: Params<f64> = Params::init(&table.specs(), 4).unwrap();
        let ids = [5u16, 0, 5, 2];
        let w: Vec<f64> = (0..4 * 6).map(|_| rng.normal()).collect();
        let forward = |params: &Params<f64>| {
            let (mut x, mut logits) = (vec![f64::NAN; 12], vec![f64::NAN; 24]);
            table.forward(params, &ids, &mut x).unwrap();
            table.logits(params, &x, &mut logits).unwrap();
            (x, logits.iter().zip(&w).map(|(y, w)| y * w).sum::<f64>())
        };
        let (x, _) = forward(&params);
        let (mut dx, mut grads) = (vec![f64::NAN; 12], params.zeros_like());
        table.logits_adjoint(&params, &x, &w, Some(&mut dx), &mut grads).unwrap();
        table.adjoint(&ids, &dx, &mut grads).unwrap();
        let differences = finite_differences(params.flat(), 0..params.size(), |flat| {
            let mut moved = params.clone();
            moved.flat_mut().copy_from_slice(flat);
            forward(&moved).1
        });
        assert!(worst(grads.flat(), &differences).unwrap().error < tolerance(50.0));
    }

    #[test]
    fn an_id_past_the_vocabulary_is_refused_before_anything_is_written() {
        let table = Embedding::new("tok", 4, 2);
        let params: Params<f32> = Params::init(&table.specs(), 1).unwrap();
        let mut y = [7.0; 4];
        let error = table.forward(&params, &[1u32, 4], &mut y).unwrap_err();
        assert!(matches!(
            error,
            Error::Token {
                token: 4,
                index: 1,
                vocab: 4,
                ..
            }
        ));
        assert_eq!(error.to_string(), "ids[1] = 4 is not in the vocabulary of 4; ids run from 0 to 3");
        assert!(table.forward(&params, &[u64::MAX, 0], &mut y).is_err());
        assert!(table.forward(&params, &[1usize], &mut y).is_err());
        assert_eq!(y, [7.0; 4]);
        let mut grads = params.zeros_like();
        assert!(table.adjoint(&[0u8, 9], &[1.0; 4], &mut grads).is_err());
        assert!(grads.flat().iter().all(|g| *g == 0.0));
    }
}
