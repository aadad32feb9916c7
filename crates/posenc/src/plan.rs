//! How an encoding acts in a model of given widths: checked once, immutable, free of positions.

use crate::call::{Call, Located, Parts};
use crate::dims::Dims;
use crate::encoding::{Encoding, Method, each_method};
use crate::error::{Error, Result};
use crate::params::{Bound, ParamSpec, Params, total_size};
use crate::positions::Positions;
use crate::project::{Projection, Projector};
use crate::real::Real;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// An encoding checked against a model's widths. Cheap to clone, `Send + Sync`; holds nothing that depends on a length.
#[derive(Clone, Debug)]
#[doc(alias = "extra_repr")]
pub struct Plan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    encoding: Encoding,
    dims: Dims,
    parameters: Vec<ParamSpec>,
    projections: Vec<Projection>,
    concat_width: usize,
}

/// What the file of each method gives to plan and call. A new method implements this and is named once in `encoding.rs`.
pub(crate) trait Prepare: fmt::Display {
    /// The method can work in a model of these widths.
    fn check(&self, dims: &Dims) -> Result<()>;

    /// The parameters it needs.
    fn parameters(&self, _dims: &Dims) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// The tables that a layer projects for it.
    fn projections(&self) -> Vec<Projection> {
        Vec::new()
    }

    /// Columns that it appends to the embeddings.
    fn concat_width(&self, _dims: &Dims) -> usize {
        0
    }

    /// It turns queries and keys: there can be only one.
    fn rotates(&self) -> bool {
        false
    }

    /// What it does to a token depends on how many there are: such a sequence cannot be decoded token by token.
    fn depends_on_length(&self) -> bool {
        false
    }

    /// Resolves the positions of a call: all that the layers of a model share. O(T) or O(T·d).
    fn prepare<R: Real>(&self, dims: &Dims, q_at: &Positions, k_at: &Positions) -> Result<Arc<dyn Prepared<R>>>;

    /// Takes what was resolved for the positions `before`, of queries and keys, over to `at`: it is then what `prepare` gives, bit for bit. `false` where that is no less work than to prepare
    /// it, where somebody else has it still, or where `prepare` would refuse; what was resolved may be spoilt then.
    fn advance<R: Real>(&self, _dims: &Dims, _before: [&Positions; 2], _at: [&Positions; 2], _prepared: &mut Arc<dyn Prepared<R>>) -> bool {
        false
    }
}

/// A method with its positions resolved.
pub(crate) trait Prepared<R>: Any + Send + Sync {
    /// Adds what the method does, with this layer's parameters, to the parts of a call.
    fn bind<'p>(&self, params: &Bound<'p, R>, parts: &mut Parts<'p, R>) -> Result<()>
    where
        R: Real;
}

impl Plan {
    pub(crate) fn new(encoding: Encoding, dims: Dims) -> Result<Plan> {
        let dims = dims.checked()?;
        let mut parameters: Vec<ParamSpec> = Vec::new();
        let mut rotation: Option<&Method> = None;
        let mut projections: Vec<Projection> = Vec::new();
        let mut concat_width = 0;
        for method in &encoding.methods {
            each_method!(method, m => m.check(&dims))?;
            if each_method!(method, m => m.rotates()) {
                if let Some(first) = rotation {
                    return Err(Error::TwoRotations {
                        first: first.to_string(),
                        second: method.to_string(),
                    });
                }
                rotation = Some(method);
            }
            concat_width += each_method!(method, m => m.concat_width(&dims));
            for spec in each_method!(method, m => m.parameters(&dims)) {
                // Whatever the scope: one store holds all of them by name.
                if parameters.iter().any(|p| p.name == spec.name) {
                    return Err(Error::Repeated { name: spec.name });
                }
                parameters.push(spec);
            }
            for projection in each_method!(method, m => m.projections()) {
                if projections.iter().any(|p| p.table == projection.table) {
                    return Err(Error::Repeated { name: projection.table });
                }
                projections.push(projection);
            }
        }
        let mut all = parameters.clone();
        for spec in projections.iter().flat_map(|p| p.parameters(&dims)) {
            if all.iter().any(|p| p.name == spec.name) {
                return Err(Error::Repeated { name: spec.name });
            }
            all.push(spec);
        }
        total_size(&all)?;
        if concat_width > 0 && projections.iter().any(|p| matches!(p.by, Projector::Queries | Projector::Keys)) {
            return Err(Error::Unsupported {
                method: "Encoding::plan",
                what: "rows as wide as the model cannot share the projection of wider, concatenated embeddings; give the method projections of its own",
            });
        }
        Ok(Plan {
            inner: Arc::new(Inner {
                encoding,
                dims,
                parameters,
                projections,
                concat_width,
            }),
        })
    }

    /// The encoding that was planned.
    pub fn encoding(&self) -> &Encoding {
        &self.inner.encoding
    }

    /// The widths it was checked against.
    pub fn dims(&self) -> Dims {
        self.inner.dims
    }

    /// The parameters it needs, by name, with shape, initial value, and whether the layers share them.
    pub fn parameters(&self) -> &[ParamSpec] {
        &self.inner.parameters
    }

    /// The tables in head space that each layer makes with weights of its own, in the order in which its calls list them ([`Call::table_specs`]). Empty for most methods.
    pub fn projections(&self) -> &[Projection] {
        &self.inner.projections
    }

    /// Columns that [`Call::embed`] appends to each embedding.
    pub fn concat_width(&self) -> usize {
        self.inner.concat_width
    }

    /// A method whose vectors depend on how many tokens a call has, and not on their positions alone ([`Overflow::Interpolate`](crate::Overflow)): with it a
    /// sequence that is decoded token by token is not the same as the whole.
    pub fn depends_on_length(&self) -> Option<&Method> {
        let depends = |method: &&Method| each_method!(method, m => m.depends_on_length());
        self.inner.encoding.methods.iter().find(depends)
    }

    /// Initial parameters for one layer: a store that [`Plan::call`] takes as it is.
    ///
    /// # Errors
    /// More numbers than memory can hold.
    pub fn init<R: Real>(&self, seed: u64) -> Result<Params<R>> {
        Params::init(&self.inner.parameters, seed)
    }

    /// Resolves positions and parameters for one forward pass. `q_at` are the positions of the queries (and of the embeddings), `k_at` those of the keys.
    ///
    /// # Errors
    /// A position that the encoding has no answer for (past a table, fractional where whole numbers are needed), more than [`Positions::LONGEST`] tokens in
    /// a row, or a parameter that is missing.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Pairing, Positions, Rotary};
    /// let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(64, 4)?)?;
    /// let params = plan.init::<f32>(0)?;
    /// let at = Positions::range(0..128);
    /// let call = plan.call(&params, &at, &at)?;
    /// let decode = plan.call(&params, &Positions::range(128..129), &Positions::range(0..129))?;
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "forward")]
    pub fn call<'p, R: Real>(&self, params: impl Into<Bound<'p, R>>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>> {
        self.locate(q_at, k_at)?.call(params)
    }

    /// Resolves positions alone, for a pass whose parameters come later or from several places: [`Located::call`] binds them.
    ///
    /// # Errors
    /// As [`Plan::call`], of positions.
    pub fn locate<R: Real>(&self, q_at: &Positions, k_at: &Positions) -> Result<Located<R>> {
        q_at.check_len()?;
        k_at.check_len()?;
        let prepared = self.prepare([q_at, k_at])?;
        Ok(Located::new(self.clone(), q_at.clone(), k_at.clone(), prepared))
    }

    /// Resolves the positions of queries and keys for each method.
    pub(crate) fn prepare<R: Real>(&self, [q_at, k_at]: [&Positions; 2]) -> Result<Arc<[Arc<dyn Prepared<R>>]>> {
        let prepare = |method: &Method| each_method!(method, m => m.prepare::<R>(&self.inner.dims, q_at, k_at));
        self.inner.encoding.methods.iter().map(prepare).collect()
    }

    /// Takes what each method resolved for the positions `before` over to `at`; `false` where it is to be thrown away.
    pub(crate) fn advance<R: Real>(&self, before: [&Positions; 2], at: [&Positions; 2], prepared: &mut [Arc<dyn Prepared<R>>]) -> bool {
        let dims = &self.inner.dims;
        self.inner.encoding.methods.iter().zip(prepared).all(|(method, prepared)| {
            each_method!(method, m => m.advance::<R>(dims, before, at, prepared) || match m.prepare::<R>(dims, at[0], at[1]) {
                Ok(fresh) => {
                    *prepared = fresh;
                    true
                }
                Err(_) => false,
            })
        })
    }

    /// The very same plan.
    pub(crate) fn is(&self, other: &Plan) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dims {
            model_dim,
            heads,
            kv_heads,
            head_dim,
        } = self.inner.dims;
        write!(f, "{} for model_dim {model_dim}, {heads} heads", self.inner.encoding)?;
        if kv_heads != heads {
            write!(f, " ({kv_heads} for keys)")?;
        }
        write!(f, " of {head_dim}")?;
        match self.inner.parameters.iter().map(ParamSpec::size).sum::<usize>() {
            0 => write!(f, ", no parameters")?,
            size => write!(f, ", {size} parameters")?,
        }
        let projected = self.inner.projections.iter().flat_map(|p| p.parameters(&self.inner.dims));
        match projected.map(|spec| spec.size()).sum::<usize>() {
            0 => Ok(()),
            size => write!(f, " and {size} in each layer's projections"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bias::{ClippedBias, Direction};
    use crate::embed::{Learned, Sinusoidal, lookup, sinusoid};
    use crate::params::Scope;
    use crate::rotate::{Pairing, Rotary};
    use crate::view::{View, ViewMut};

    fn plan(encoding: impl Into<Encoding>) -> Result<Plan> {
        encoding.into().plan(Dims::new(8, 2).unwrap())
    }

    #[test]
    fn a_name_is_taken_whatever_its_scope() {
        let clipped = || ClippedBias::new(4, Direction::KeyMinusQuery);
        let both = Encoding::from(clipped()).with(clipped().with_scope(Scope::Model));
        assert!(matches!(plan(both), Err(Error::Repeated { name }) if name == "relative_bias.weight"));
    }

    #[test]
    fn more_tokens_than_any_call_takes_are_refused() {
        let (one, long) = (Positions::range(0..1), Positions::range(0..i64::MAX));
        for encoding in [
            Encoding::none(),
            Learned::new(4).into(),
            Sinusoidal::paper().into(),
            Rotary::new(Pairing::Halves).into(),
        ] {
            let plan = plan(encoding).unwrap();
            let params = plan.init::<f32>(0).unwrap();
            for (q_at, k_at) in [(&long, &one), (&one, &long)] {
                assert!(matches!(plan.call(&params, q_at, k_at), Err(Error::Invalid { .. })), "{plan}");
            }
        }
        assert!(matches!(
            Rotary::new(Pairing::Halves).rotation::<f32>(4, &long),
            Err(Error::Invalid { .. })
        ));
        let mut none = ViewMut::<f32, 3>::new(&mut [], [1, i64::MAX as usize, 0]).unwrap();
        let refused = |result| assert!(matches!(result, Err(Error::Invalid { .. })));
        refused(sinusoid(&Sinusoidal::paper(), &long, none.reborrow()));
        refused(lookup(&long, View::new(&[], [i64::MAX as usize, 0]).unwrap(), none));
    }

    #[test]
    fn a_range_past_a_table_is_refused_before_its_rows_are_read() {
        let plan = plan(Learned::new(4).with_offset(1)).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let at = Positions::range(2..Positions::LONGEST as i64);
        let past = |token| {
            Err(Error::PastTable {
                position: 4,
                batch: 0,
                token,
                rows: 4,
            })
        };
        assert_eq!(plan.call(&params, &at, &at).map(|_| ()), past(1));
    }

    #[test]
    fn sizes_that_overflow_are_refused_by_name() {
        for rows in [usize::MAX, 1 << 60, 1 << 46] {
            let Err(Error::Invalid { what, given, .. }) = plan(Learned::new(rows)) else {
                panic!("{rows} rows")
            };
            assert_eq!(
                (what, given),
                ("size of the parameters", format!("`pos_embedding.weight` [{rows}, 8]"))
            );
        }
        assert!(matches!(
            plan(Learned::new(2).concatenated(usize::MAX)),
            Err(Error::Invalid {
                what: "concatenated width",
                ..
            })
        ));
        // Just below the bound a plan says its size; memory is asked only when a store is made.
        let large = plan(Learned::new(1 << 45)).unwrap();
        assert!(large.to_string().ends_with(", 281474976710656 parameters"), "{large}");
        assert!(matches!(large.init::<f64>(0), Err(Error::Invalid { .. })));
    }
}
