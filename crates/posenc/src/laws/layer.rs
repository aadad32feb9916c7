//! One attention layer around a subject: embeddings, sites, projections, projected tables, attention; written plainly, to be checked by eye.

use super::Subject;
use crate::attention::{Grads, Inputs, Mask, Outputs, Saved, Slots, Workspace};
use crate::call::{Call, Site};
use crate::dims::Dims;
use crate::dropout::Mode;
use crate::params::{ParamSpec, Params};
use crate::positions::Positions;
use crate::project::{Projection, Projector};
use crate::real::Real;
use crate::rng::Rng;
use crate::view::{View, ViewMut};

/// A layer with fixed random projections.
pub(super) struct Layer<'s, R: Real, S: Subject> {
    pub subject: &'s S,
    /// The subject's, then the weights that project its tables.
    pub params: Params<R>,
    /// `[heads·head_dim, width]`, `[kv_heads·head_dim, width]` twice.
    weights: [Vec<R>; 3],
}

/// What a pass computed.
pub(super) struct Trace<R> {
    pub batch: usize,
    pub len: usize,
    /// Inputs of the three projections, `[batch, len, width]`.
    inputs: [Vec<R>; 3],
    /// `[batch, len, heads, head_dim]`.
    pub q: Vec<R>,
    pub k: Vec<R>,
    pub v: Vec<R>,
    pub out: Vec<R>,
    pub saved: Saved<R>,
}

fn shape(dims: &Dims, batch: usize, len: usize, keys: bool) -> [usize; 4] {
    [batch, len, if keys { dims.kv_heads } else { dims.heads }, dims.head_dim]
}

impl<'s, R: Real, S: Subject> Layer<'s, R, S> {
    pub fn new(subject: &'s S, seed: u64) -> Self {
        let dims = subject.dims();
        let mut specs = subject.parameters();
        let bare: Params<R> = Params::init(&specs, seed).expect("parameters of a law's subject have unique names");
        specs.extend(Self::own_projections(subject, &bare));
        let mut params: Params<R> = Params::init(&specs, seed).expect("projections of a law's subject have names of their own");
        // Zero tables would hide errors: every parameter is drawn from N(0, 0.5²).
        let mut rng = Rng::named(seed, "laws");
        params.flat_mut().iter_mut().for_each(|x| *x = R::of(0.5 * rng.normal()));
        let width = dims.model_dim + Self::concat_width(subject, &params);
        let matrix = |rows: usize, rng: &mut Rng| {
            let scale = 1.0 / (width as f64).sqrt();
            (0..rows * width).map(|_| R::of(scale * rng.normal())).collect()
        };
        let weights = [
            matrix(dims.heads * dims.head_dim, &mut rng),
            matrix(dims.kv_heads * dims.head_dim, &mut rng),
            matrix(dims.kv_heads * dims.head_dim, &mut rng),
        ];
        Layer { subject, params, weights }
    }

    fn concat_width(subject: &S, params: &Params<R>) -> usize {
        let at = Positions::range(0..1);
        subject.call(params, &at, &at).map_or(0, |call| call.plan().concat_width())
    }

    fn own_projections(subject: &S, params: &Params<R>) -> Vec<ParamSpec> {
        let at = Positions::range(0..1);
        let of = |call: Call<'_, R>| {
            call.plan()
                .projections()
                .iter()
                .flat_map(|p| p.parameters(&subject.dims()))
                .collect()
        };
        subject.call(params, &at, &at).map_or(Vec::new(), of)
    }

    fn bare_call(&self, q_at: &Positions, k_at: &Positions) -> Call<'_, R> {
        self.subject
            .call(&self.params, q_at, k_at)
            .expect("a law's subject accepts these positions")
    }

    /// The weights that project a table's rows, and their bias.
    fn projector(&self, projection: &Projection) -> (&[R], Option<&[R]>) {
        match &projection.by {
            Projector::Queries => (&self.weights[0], None),
            Projector::Keys => (&self.weights[1], None),
            Projector::Own { name, bias } => {
                let tensor = |what: &str| self.params.get(&format!("{name}.{what}")).expect("a projection's weights");
                (tensor("weight"), bias.then(|| tensor("bias")))
            }
        }
    }

    /// The projected tables of a call at these positions.
    pub fn tables(&self, q_at: &Positions, k_at: &Positions) -> Params<R> {
        let call = self.bare_call(q_at, k_at);
        let mut tables = Params::zeros(&call.table_specs()).expect("tables have unique names");
        for projection in call.plan().projections() {
            let rows = call.rows(&projection.table).expect("rows");
            let (weight, bias) = self.projector(projection);
            let [n, width] = rows.shape();
            let table = tables.get_mut(&projection.table).expect("a table");
            let outputs = weight.len() / width;
            for i in 0..n {
                for (o, w) in weight.chunks_exact(width).enumerate() {
                    let product: R = rows.row([i, 0]).iter().zip(w).map(|(x, w)| *x * *w).sum();
                    table[i * outputs + o] = product + bias.map_or(R::ZERO, |bias| bias[o]);
                }
            }
        }
        tables
    }

    /// From the gradients of the tables to those of the weights and of the parameters whose rows they project.
    fn tables_adjoint(&self, call: &Call<'_, R>, d_tables: &Params<R>, grads: &mut Params<R>) {
        for projection in call.plan().projections() {
            let rows = call.rows(&projection.table).expect("rows");
            let (weight, _) = self.projector(projection);
            let [n, width] = rows.shape();
            let d_table = d_tables.get(&projection.table).expect("a table's gradient");
            let mut d_rows = vec![R::ZERO; n * width];
            let outputs = weight.len() / width;
            for (i, d_row) in d_rows.chunks_exact_mut(width).enumerate() {
                for (o, w) in weight.chunks_exact(width).enumerate() {
                    d_row.iter_mut().zip(w).for_each(|(d, w)| *d += d_table[i * outputs + o] * *w);
                }
            }
            let d_rows = View::new(&d_rows, [n, width]).expect("rows");
            call.rows_adjoint(&projection.table, d_rows, grads).expect("rows_adjoint");
            let Projector::Own { name, bias } = &projection.by else { continue };
            let d_weight = grads.get_mut(&format!("{name}.weight")).expect("weights");
            for i in 0..n {
                for (o, d) in d_weight.chunks_exact_mut(width).enumerate() {
                    d.iter_mut()
                        .zip(rows.row([i, 0]))
                        .for_each(|(d, x)| *d += d_table[i * outputs + o] * *x);
                }
            }
            if *bias {
                let d_bias = grads.get_mut(&format!("{name}.bias")).expect("a bias");
                for d_row in d_table.chunks_exact(outputs) {
                    d_bias.iter_mut().zip(d_row).for_each(|(sum, d)| *sum += *d);
                }
            }
        }
    }

    /// A call with its tables, those of [`Layer::tables`] at the same positions.
    pub fn call<'c>(&'c self, tables: &'c Params<R>, q_at: &Positions, k_at: &Positions) -> Call<'c, R> {
        self.bare_call(q_at, k_at).with_tables(tables).expect("the tables fit")
    }

    /// Embeddings with everything that acts on them, `[batch, len, width]`.
    pub fn embed(&self, call: &Call<'_, R>, x: &[R], batch: usize, mode: Mode) -> Vec<R> {
        let dims = self.subject.dims();
        let len = call.q_at().len();
        let width = dims.model_dim + call.plan().concat_width();
        let mut out = vec![R::of(f64::NAN); batch * len * width];
        let x = View::new(x, [batch, len, dims.model_dim]).expect("x has the layer's shape");
        call.embed(
            x,
            ViewMut::new(&mut out, [batch, len, width]).expect("out has the layer's shape"),
            mode,
        )
        .expect("embed");
        out
    }

    /// Queries of the call's query tokens and keys and values of its key tokens, from embedded inputs.
    pub fn project(&self, call: &Call<'_, R>, q_in: &[R], k_in: &[R], batch: usize) -> ([Vec<R>; 3], [Vec<R>; 3]) {
        let width = self.weights[0].len() / (self.subject.dims().heads * self.subject.dims().head_dim);
        let mut inputs = [q_in.to_vec(), k_in.to_vec(), k_in.to_vec()];
        for (site, x) in [Site::QueryInput, Site::KeyInput].into_iter().zip(&mut inputs) {
            let len = x.len() / (batch * width);
            call.add(
                site,
                ViewMut::new(x, [batch, len, width]).expect("an input has the layer's width"),
                Mode::Evaluate,
            )
            .expect("add");
        }
        let mut outputs: [Vec<R>; 3] = std::array::from_fn(|i| {
            let w = &self.weights[i];
            let mut y = Vec::with_capacity(inputs[i].len() / width * (w.len() / width));
            for x in inputs[i].chunks_exact(width) {
                y.extend(w.chunks_exact(width).map(|w| x.iter().zip(w).map(|(x, w)| *x * *w).sum::<R>()));
            }
            y
        });
        let dims = self.subject.dims();
        let [q, k, _] = &mut outputs;
        for (site, x, keys) in [(Site::Query, q, false), (Site::Key, k, true)] {
            let len = x.len() / (batch * dims.head_dim * if keys { dims.kv_heads } else { dims.heads });
            let view = ViewMut::new(x, shape(&dims, batch, len, keys))
                .and_then(|v| v.swap(1, 2))
                .expect("heads");
            call.add_heads(site, view).expect("add_heads");
        }
        (inputs, outputs)
    }

    /// Self-attention over `x` `[batch, len, model_dim]`.
    pub fn forward(&self, x: &[R], batch: usize, at: &Positions, mask: &Mask<'_, R>, mode: Mode) -> Trace<R> {
        let len = at.len();
        let tables = self.tables(at, at);
        let call = self.call(&tables, at, at);
        let embedded = self.embed(&call, x, batch, mode);
        let (inputs, [q, k, v]) = self.project(&call, &embedded, &embedded, batch);
        let (out, saved) = self.attend(&call, &q, &k, &v, batch, mask, mode);
        Trace {
            batch,
            len,
            inputs,
            q,
            k,
            v,
            out,
            saved,
        }
    }

    /// Attention of projected queries over projected keys and values: `[batch, q_len, heads, head_dim]`.
    pub fn attend(
        &self,
        call: &Call<'_, R>,
        q: &[R],
        k: &[R],
        v: &[R],
        batch: usize,
        mask: &Mask<'_, R>,
        mode: Mode,
    ) -> (Vec<R>, Saved<R>) {
        let dims = self.subject.dims();
        let (q_len, k_len) = (call.q_at().len(), call.k_at().len());
        let view = |x, len, keys| {
            View::new(x, shape(&dims, batch, len, keys))
                .and_then(|v| v.swap(1, 2))
                .expect("heads")
        };
        let mut out = vec![R::of(f64::NAN); q.len()];
        let mut saved = Saved::default();
        let o = ViewMut::new(&mut out, shape(&dims, batch, q_len, false))
            .and_then(|v| v.swap(1, 2))
            .expect("heads");
        let inputs = Inputs::new(view(q, q_len, false), view(k, k_len, true), view(v, k_len, true));
        let outputs = Outputs {
            out: o,
            saved: Some(&mut saved),
            weights: None,
        };
        self.subject
            .attention()
            .forward(call, inputs, mask, mode, outputs, &mut Workspace::default())
            .expect("attention");
        (out, saved)
    }

    /// Gradients of `Σ g·out` with respect to `x` and the parameters.
    pub fn adjoint(&self, trace: &Trace<R>, g: &[R], at: &Positions, mask: &Mask<'_, R>, mode: Mode) -> (Vec<R>, Params<R>) {
        let dims = self.subject.dims();
        let Trace { batch, len, .. } = *trace;
        let tables = self.tables(at, at);
        let call = self.call(&tables, at, at);
        let mut grads = self.params.zeros_like();
        let nan = |x: &Vec<R>| vec![R::of(f64::NAN); x.len()];
        let (mut dq, mut dk, mut dv) = (nan(&trace.q), nan(&trace.k), nan(&trace.v));
        let view = |x, keys| {
            View::new(x, shape(&dims, batch, len, keys))
                .and_then(|v| v.swap(1, 2))
                .expect("heads")
        };
        let mut slots = Slots::default();
        {
            let view_mut = |x, keys| {
                ViewMut::new(x, shape(&dims, batch, len, keys))
                    .and_then(|v| v.swap(1, 2))
                    .expect("heads")
            };
            let inputs = Inputs::new(view(&trace.q, false), view(&trace.k, true), view(&trace.v, true));
            let into = Grads {
                dq: view_mut(&mut dq, false),
                dk: view_mut(&mut dk, true),
                dv: view_mut(&mut dv, true),
            };
            let (out, d_out) = (view(&trace.out, false), view(g, false));
            let attention = self.subject.attention();
            let mut work = Workspace::default();
            attention
                .adjoint(&call, inputs, mask, mode, out, d_out, &trace.saved, into, &mut slots, &mut work)
                .expect("adjoint");
        }
        let mut d_tables = tables.zeros_like();
        call.adjoint_with_tables(&slots, &mut grads, &mut d_tables).expect("collect");
        self.tables_adjoint(&call, &d_tables, &mut grads);
        call.add_heads_adjoint(Site::Query, view(&dq, false), &mut grads)
            .expect("add_heads_adjoint");
        call.add_heads_adjoint(Site::Key, view(&dk, true), &mut grads)
            .expect("add_heads_adjoint");
        let width = trace.inputs[0].len() / (batch * len);
        let mut d_embedded = vec![R::ZERO; batch * len * width];
        for (i, dy) in [&dq, &dk, &dv].into_iter().enumerate() {
            let rows = self.weights[i].len() / width;
            let mut dx = vec![R::ZERO; batch * len * width];
            for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(rows)) {
                for (w, dy) in self.weights[i].chunks_exact(width).zip(dy) {
                    dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += *w * *dy);
                }
            }
            if let Some(site) = [Site::QueryInput, Site::KeyInput].get(i) {
                let view = ViewMut::new(&mut dx, [batch, len, width]).expect("an input has the layer's width");
                call.add_adjoint(*site, view, Mode::Evaluate, &mut grads).expect("add_adjoint");
            }
            d_embedded.iter_mut().zip(&dx).for_each(|(sum, dx)| *sum += *dx);
        }
        let mut dx = vec![R::of(f64::NAN); batch * len * dims.model_dim];
        call.embed_adjoint(
            ViewMut::new(&mut d_embedded, [batch, len, width]).expect("embedded"),
            ViewMut::new(&mut dx, [batch, len, dims.model_dim]).expect("x"),
            mode,
            &mut grads,
        )
        .expect("embed_adjoint");
        (dx, grads)
    }
}

/// Random inputs `[batch, len, model_dim]`.
pub(super) fn random<R: Real>(n: usize, seed: u64) -> Vec<R> {
    let mut rng = Rng::named(seed, "inputs");
    (0..n).map(|_| R::of(rng.normal())).collect()
}
