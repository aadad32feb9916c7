//! The term of each method against its reference, on all positions and tiles.

use super::*;
use crate::call::Call;
use crate::content::{Deberta, DebertaProjections, MusicTransformer, TransformerXl, XlNet};
use crate::dims::Dims;
use crate::embed::{Overflow, SinusoidLayout};
use crate::encoding::{Encoding, Method};
use crate::params::Params;
use crate::plan::Plan;
use crate::reference;
use crate::reference::relative::Head;
use crate::tiles::{self, Tiles, normal, whole};

/// Grouped heads; a head has one full set of partial sums and a rest.
const DIMS: Dims = Dims {
    model_dim: 12,
    heads: 4,
    kv_heads: 2,
    head_dim: 21,
};
const SCALE: f64 = 0.25;

fn plan(method: impl Into<Method>) -> Plan {
    Encoding::none().with(method).plan(DIMS).unwrap()
}

/// Sums of `n` products of a few normal numbers below 2³ each, in any order.
fn bound(n: usize) -> f64 {
    64.0 * (n + 1) as f64 * f64::EPSILON
}

fn assert_close(given: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(given.len(), expected.len(), "{what}");
    for (i, (g, e)) in given.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((g - e).abs() <= bound, "{what}, entry {i}: {g} against {e}");
    }
}

/// The names of K, Q, u and v: of projected tables or of parameters.
type Names = [Option<&'static str>; 4];

/// A head's part of a tensor `[n, heads, dim]` (a table), `[heads, n, dim]` or `[heads, dim]`: where its rows begin.
fn rows_of(spec: &ParamSpec, table: bool, head: usize) -> Vec<usize> {
    let dim = DIMS.head_dim;
    if table {
        let own = spec.shape[1];
        let head = head / (DIMS.heads / own);
        return (0..spec.shape[0]).map(|r| (r * own + head) * dim).collect();
    }
    let n = spec.size() / DIMS.heads / dim;
    (0..n).map(|r| (head * n + r) * dim).collect()
}

/// A store by name, and whether it is that of the tables.
struct Stores<'a> {
    params: &'a Params<f64>,
    tables: &'a Params<f64>,
}

impl Stores<'_> {
    fn find(&self, name: &str) -> (&ParamSpec, bool, &[f64]) {
        for (store, table) in [(self.tables, true), (self.params, false)] {
            if let Some(spec) = store.specs().iter().find(|spec| spec.name == name) {
                return (spec, table, store.get(name).unwrap());
            }
        }
        panic!("{name}")
    }

    fn head(&self, name: Option<&str>, head: usize) -> Option<Vec<f64>> {
        let (spec, table, values) = self.find(name?);
        let of = |at: usize| values[at..at + DIMS.head_dim].to_vec();
        Some(rows_of(spec, table, head).into_iter().flat_map(of).collect())
    }

    /// Adds a head's gradient to the entry of a store of sums.
    fn add(&self, name: Option<&str>, head: usize, grad: &[f64], sums: &mut [Params<f64>; 2]) {
        let Some(name) = name else { return };
        let (spec, table, _) = self.find(name);
        let into = sums[usize::from(table)].get_mut(name).unwrap();
        for (at, row) in rows_of(spec, table, head).into_iter().zip(grad.chunks_exact(DIMS.head_dim)) {
            into[at..at + DIMS.head_dim].iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
    }
}

/// Scores, gradients of queries and keys, of parameters and tables, on all cases and splits. `row` says which row of the call's tables a pair reads. Returns the cases that were refused.
fn check(plan: &Plan, names: Names, row: impl Fn(&Call<'_, f64>, Option<i64>, Option<i64>) -> Option<usize>) -> Vec<(&'static str, Error)> {
    let mut params: Params<f64> = plan.init(1).unwrap();
    params
        .flat_mut()
        .iter_mut()
        .zip(normal::<f64>(2, 100_000))
        .for_each(|(x, n)| *x = n);
    let mut refused = Vec::new();
    for (name, q_at, k_at, batch) in tiles::cases() {
        let call = match plan.call(&params, &q_at, &k_at) {
            Ok(call) => call,
            Err(error) => {
                refused.push((name, error));
                continue;
            }
        };
        let mut tables: Params<f64> = Params::zeros(&call.table_specs()).unwrap();
        tables
            .flat_mut()
            .iter_mut()
            .zip(normal::<f64>(3, 100_000))
            .for_each(|(x, n)| *x = n);
        let call = call.with_tables(&tables).unwrap();
        let Dims {
            heads,
            kv_heads,
            head_dim: dim,
            ..
        } = DIMS;
        let (q_len, k_len) = (q_at.len(), k_at.len());
        let q: Vec<f64> = normal(4, batch * heads * q_len * dim);
        let k: Vec<f64> = normal(5, batch * kv_heads * k_len * dim);
        let (before, ds): (Vec<f64>, Vec<f64>) = (normal(6, batch * heads * q_len * k_len), normal(7, batch * heads * q_len * k_len));

        let stores = Stores {
            params: &params,
            tables: &tables,
        };
        let (mut scores, mut dq, mut dk) = (before.clone(), Vec::new(), vec![0.0; k.len()]);
        let mut sums = [params.zeros_like(), tables.zeros_like()];
        for b in 0..batch {
            let (i, j) = (whole(&q_at, b), whole(&k_at, b));
            for h in 0..heads {
                let [keys, queries, u, v] = names.map(|name| stores.head(name, h));
                let plane = b * heads + h;
                let key = (b * kv_heads + h / (heads / kv_heads)) * k_len * dim;
                let head = Head {
                    dim,
                    scale: SCALE,
                    q: &q[plane * q_len * dim..][..q_len * dim],
                    k: &k[key..][..k_len * dim],
                    keys: keys.as_deref(),
                    queries: queries.as_deref(),
                    u: u.as_deref(),
                    v: v.as_deref(),
                };
                let of = |t: usize, s: usize| row(&call, i[t], j[s]);
                let at = plane * q_len * k_len..(plane + 1) * q_len * k_len;
                let expected = head.scores(of);
                scores[at.clone()].iter_mut().zip(expected).for_each(|(s, e)| *s += e);
                let grads = head.adjoint(&ds[at], of);
                dq.extend(grads.dq);
                dk[key..][..k_len * dim].iter_mut().zip(&grads.dk).for_each(|(sum, d)| *sum += d);
                for (name, grad) in names.into_iter().zip([&grads.keys, &grads.queries, &grads.u, &grads.v]) {
                    stores.add(name, h, grad, &mut sums);
                }
            }
        }

        let mut first = None;
        for tile in tiles::SPLITS {
            let tiles = Tiles {
                call: &call,
                batch,
                tile,
                q: &q,
                k: &k,
                scale: SCALE,
            };
            let what = format!("{plan}, {name}, tiles {tile:?}");
            let given = tiles.add(&before);
            assert_close(&given, &scores, bound(4 * dim), &what);
            assert_eq!(&given, first.get_or_insert(given.clone()), "{what}: the split shows");

            let ([given_dq, given_dk], slots) = tiles.adjoint(&ds);
            // A query's gradient sums over its keys, a key's over queries and the heads of its group, the others over all pairs.
            assert_close(&given_dq, &dq, bound(2 * k_len), &format!("{what}: dq"));
            assert_close(&given_dk, &dk, bound(4 * q_len), &format!("{what}: dk"));
            let mut grads = [params.zeros_like(), tables.zeros_like()];
            let [grad, d_tables] = &mut grads;
            let into = BoundMut::from(grad).with_tables(Some(d_tables));
            tiles.term().collect(&slots, &mut { into }).unwrap();
            for (given, expected) in grads.iter().zip(&sums) {
                assert_close(
                    given.flat(),
                    expected.flat(),
                    bound(2 * batch * q_len * k_len),
                    &format!("{what}: parameters"),
                );
            }
        }
    }
    refused
}

/// The row of a call that holds the sinusoid of a distance.
fn sinusoid_row(call: &Call<'_, f64>, distance: i64, interleaved: bool) -> Option<usize> {
    let rows = call.rows("relative_keys").unwrap();
    let [n, width] = rows.shape();
    let expected = reference::transformer_xl::sinusoid(distance, width, interleaved);
    // The angle of distance d is off by d·ε at most.
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-11;
    (0..n).find(|&r| rows.row([r, 0]).iter().zip(&expected).all(near))
}

#[test]
fn transformer_xl_and_xlnet_are_those_of_the_reference_on_any_tiles() {
    let txl = ["relative_keys", "r_w_bias", "r_r_bias"];
    let names = |[keys, u, v]: [&'static str; 3]| [Some(keys), None, Some(u), Some(v)];
    let conformer = names(["relative_keys", "pos_bias_u", "pos_bias_v"]);
    let one_sided = |call: &Call<'_, f64>, i: Option<i64>, j: Option<i64>| {
        let distance = i? - j?;
        (distance >= 0).then(|| sinusoid_row(call, distance, false).expect("a row"))
    };
    let two_sided = |clamp: i64, interleaved| {
        move |call: &Call<'_, f64>, i: Option<i64>, j: Option<i64>| {
            Some(sinusoid_row(call, (i? - j?).clamp(-clamp, clamp), interleaved).expect("a row"))
        }
    };
    let far = |refused: Vec<(&'static str, Error)>| {
        assert_eq!(refused.iter().map(|r| r.0).collect::<Vec<_>>(), ["ids far apart"]);
        assert!(matches!(refused[0].1, Error::Unsupported { .. }));
    };
    far(check(&plan(TransformerXl::paper()), names(txl), one_sided));
    far(check(&plan(TransformerXl::conformer()), conformer, two_sided(i64::MAX, true)));
    far(check(&plan(XlNet::new()), names(txl), two_sided(i64::MAX, false)));
    let clamped = check(
        &plan(TransformerXl::paper().with_clamp_len(4)),
        names(txl),
        |call: &Call<'_, f64>, i: Option<i64>, j: Option<i64>| one_sided(call, Some((i? - j?).min(4)), Some(0)),
    );
    let xlnet = check(&plan(XlNet::new().with_clamp_len(30)), names(txl), two_sided(30, false));
    assert!(clamped.is_empty() && xlnet.is_empty(), "a clamp makes room for any ids");
}

#[test]
fn deberta_is_that_of_the_reference_on_any_tiles() {
    let method = Deberta::new(9, DebertaProjections::V2);
    let variants = [
        (method.clone(), 9),
        (method.clone().with_terms(true, false), 9),
        (Deberta::new(9, DebertaProjections::Shared).with_terms(false, true), 9),
        (Deberta::new(1, DebertaProjections::Shared), 1),
        (Deberta::new(41, DebertaProjections::V1).with_buckets(8), 8),
        (Deberta::new(41, DebertaProjections::Shared).with_buckets(7), 7),
    ];
    for (method, span) in variants {
        let names = [
            method.c2p.then_some("position_keys"),
            method.p2c.then_some("position_queries"),
            None,
            None,
        ];
        let bucket = |distance| match method.buckets {
            Some(buckets) => reference::deberta::bucket(distance, buckets, method.max_distance),
            None => distance,
        };
        let refused = check(&plan(method.clone()), names, |_, i, j| reference::deberta::row(span, bucket, i, j));
        assert!(refused.is_empty(), "{method}");
    }
}

#[test]
fn music_transformer_is_that_of_the_reference_on_any_tiles() {
    let names = [Some("relative_embeddings"), None, None, None];
    for rows in [1, 5, 40] {
        let method = MusicTransformer::new(rows);
        let row = |_: &Call<'_, f64>, i, j| reference::music_transformer::row(rows, i, j);
        assert!(check(&plan(method.clone().with_overflow(Overflow::Clamp)), names, row).is_empty());
        let refused = check(&plan(method), names, row);
        let far =
            |(_, e): &(&str, Error)| matches!(e, Error::FarDistance { rows: r, distance, .. } if *r == rows && *distance >= rows as i64);
        assert!(!refused.is_empty() && refused.iter().all(far), "{refused:?}");
    }
}

/// The shift of Transformer-XL and the skew of Music Transformer, on matrices, are reading rows by distance.
#[test]
fn shift_and_skew_read_rows_by_distance() {
    let (q_len, k_len) = (4usize, 7);
    let products: Vec<f64> = normal(1, q_len * k_len);
    let shifted = reference::transformer_xl::shift(&products, q_len);
    for i in 0..q_len {
        for j in 0..=i + k_len - q_len {
            let distance = i + k_len - q_len - j;
            assert_eq!(shifted[i * k_len + j], products[i * k_len + k_len - 1 - distance]);
        }
    }
    let len = 6;
    let products: Vec<f64> = normal(2, len * len);
    let skewed = reference::music_transformer::skew(&products, len);
    for i in 0..len {
        for j in 0..len {
            let row = reference::music_transformer::row(len, Some(i as i64), Some(j as i64));
            assert_eq!(skewed[i * len + j], row.map_or(0.0, |r| products[i * len + r]));
        }
    }
}

#[test]
fn rows_are_those_of_the_distances_that_occur() {
    let rows = |method: TransformerXl, q_at: Positions, k_at: Positions| {
        let plan = plan(method);
        let params = plan.init::<f64>(0).unwrap();
        let call = plan.call(&params, &q_at, &k_at).unwrap();
        let rows = call.rows("relative_keys").unwrap();
        (0..rows.shape()[0])
            .map(|r| {
                // The slowest sine tells the distance.
                let slowest = rows.row([r, 0])[5] * 10_000f64.powf(10.0 / 12.0);
                slowest.round() as i64
            })
            .collect::<Vec<_>>()
    };
    let range = Positions::range;
    let both = TransformerXl::new(SinusoidLayout::SinFirst, true);
    assert_eq!(rows(TransformerXl::paper(), range(0..3), range(0..3)), [2, 1, 0]);
    assert_eq!(rows(both.clone(), range(0..3), range(0..3)), [2, 1, 0, -1, -2]);
    assert_eq!(rows(both.clone(), range(9..10), range(5..10)), [4, 3, 2, 1, 0]);
    assert_eq!(rows(both.clone().with_clamp_len(1), range(0..9), range(0..9)), [1, 0, -1]);
    assert_eq!(rows(both.with_clamp_len(3), range(20..21), range(0..4)), [3]);
    assert!(
        rows(TransformerXl::paper(), range(0..2), range(5..6)).is_empty(),
        "all keys lie after the query"
    );
}
