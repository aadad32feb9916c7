//! Rotations as data: both ways, in every layout, from tables of others.

use super::*;
use crate::rng::Rng;

const LEN: usize = 5;

/// Three pairs of rows of eight, with a table factor as YaRN has one.
fn rotation(pairing: Pairing, factor: f64) -> Rotation<f64> {
    Rotation::from_angles([1, LEN, 3], pairing, factor, Default::default(), |_, t, angles| {
        for (i, angle) in angles.iter_mut().enumerate() {
            *angle = 0.7 * t as f64 / (i + 1) as f64;
        }
        Ok(true)
    })
    .unwrap()
}

fn random(n: usize) -> Vec<f64> {
    let mut rng = Rng::new(3);
    (0..n).map(|_| rng.normal()).collect()
}

/// Bounds of this module: a turned coordinate is two products and a sum of numbers below 4, each rounded to 2⁻⁵³; a dozen of them stay below 1e-14.
const BOUND: f64 = 1e-14;

#[test]
fn the_inverse_undoes_and_the_adjoint_transposes_also_with_a_table_factor() {
    for (pairing, slice) in [
        (Pairing::Halves, Slice::Leading),
        (Pairing::Interleaved, Slice::Leading),
        (Pairing::InterleavedToHalves, Slice::Leading),
        (Pairing::Halves, Slice::Trailing),
    ] {
        // Columns that turn, and those that do not.
        let (turned_columns, others) = match slice {
            Slice::Leading => (0..6, 6..8),
            Slice::Trailing => (2..8, 0..2),
        };
        for factor in [1.0, 1.3] {
            let rotation = rotation(pairing, factor).of(slice);
            for t in 0..LEN {
                let (x, y) = (random(8), random(16)[8..].to_vec());
                let turned = |turn, row: &[f64]| {
                    let mut row = row.to_vec();
                    rotation.turn_row(turn, 0, t, &mut row);
                    row
                };
                let there = turned(Turn::Forward, &x);
                for (back, x) in turned(Turn::Inverse, &there).iter().zip(&x) {
                    assert!((back - x).abs() <= BOUND);
                }
                let dot = |a: &[f64], b: &[f64]| turned_columns.clone().map(|i| a[i] * b[i]).sum::<f64>();
                assert!((dot(&there, &y) - dot(&x, &turned(Turn::Adjoint, &y))).abs() <= 4.0 * BOUND);
                assert!(
                    (dot(&there, &there) - factor * factor * dot(&x, &x)).abs() <= 16.0 * BOUND,
                    "norms grow by the factor alone"
                );
                assert_eq!(there[others.clone()], x[others.clone()], "columns past the rotation pass through");
            }
        }
    }
}

#[test]
fn in_place_and_out_of_place_agree_in_every_layout_and_precision() {
    let rotation: Rotation<f32> = Rotation::from_angles([1, LEN, 3], Pairing::Halves, 1.0, Default::default(), |_, t, angles| {
        for (i, angle) in angles.iter_mut().enumerate() {
            *angle = 0.3 * (t * (i + 1)) as f64;
        }
        Ok(true)
    })
    .unwrap();
    let shape = [2, LEN, 3, 8]; // [batch, seq, heads, head_dim], heads moved to the front below
    let x: Vec<half::bf16> = random(2 * LEN * 3 * 8).iter().map(|x| half::bf16::from_f64(*x)).collect();
    let mut out = vec![half::bf16::NAN; x.len()];
    let view = View::new(&x, shape).unwrap().swap(1, 2).unwrap();
    rotation
        .apply_into(Turn::Forward, view, ViewMut::new(&mut out, shape).unwrap().swap(1, 2).unwrap())
        .unwrap();
    let mut place = x.clone();
    rotation
        .apply(Turn::Forward, ViewMut::new(&mut place, shape).unwrap().swap(1, 2).unwrap())
        .unwrap();
    assert_eq!(out, place);
    // One rounding: the exact turn of the stored numbers, narrowed.
    let (row, turned) = (&x[8 * 3 * 2..][..8], &out[8 * 3 * 2..][..8]);
    let mut exact: Vec<f32> = row.iter().map(|x| x.to_f32()).collect();
    rotation.turn_row(Turn::Forward, 0, 2, &mut exact);
    assert_eq!(turned, exact.iter().map(|x| half::bf16::from_f32(*x)).collect::<Vec<_>>());
}

#[test]
fn given_tables_turn_as_those_that_were_computed_and_are_undone_pair_by_pair() {
    for pairing in [Pairing::Halves, Pairing::Interleaved] {
        let computed = rotation(pairing, 1.3);
        let (cos, sin) = (
            View::new(&computed.cos, [1, LEN, 3]).unwrap(),
            View::new(&computed.sin, [1, LEN, 3]).unwrap(),
        );
        let given: Rotation<f64> = Rotation::from_tables(cos, sin, pairing).unwrap();
        assert_eq!((given.batch(), given.len(), given.rotary_dim()), (1, LEN, 6));
        for t in 0..LEN {
            for turn in [Turn::Forward, Turn::Adjoint, Turn::Inverse] {
                let (mut a, mut b) = (random(8), random(8));
                computed.turn_row(turn, 0, t, &mut a);
                given.turn_row(turn, 0, t, &mut b);
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= BOUND), "{turn:?}");
            }
        }
    }
    // Numbers that are no rotation: undone all the same, except where nothing is left to undo.
    let tables = ([3.0, 0.0, 1e-30], [4.0, 0.0, 0.0f32]);
    let view = |table| View::new(table, [1, 1, 3]).unwrap();
    let stretch: Rotation<f32> = Rotation::from_tables(view(&tables.0), view(&tables.1), Pairing::Interleaved).unwrap();
    let mut row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    stretch.turn_row(Turn::Forward, 0, 0, &mut row);
    assert_eq!(row[..4], [-5.0, 10.0, 0.0, 0.0]);
    stretch.turn_row(Turn::Inverse, 0, 0, &mut row);
    assert_eq!(row, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 7.0]);
}

#[test]
fn tables_that_do_not_fit_each_other_are_refused() {
    let x = [0.0f32; 12];
    let view = |shape| View::new(&x, shape).unwrap();
    for sin in [[1, 4, 3], [3, 2, 2], [2, 3, 2]] {
        let tables = Rotation::<f32>::from_tables(view([2, 2, 3]), view(sin), Pairing::Halves);
        assert!(matches!(tables, Err(Error::Shape { .. })));
    }
    let none = View::new(&x[..0], [2, 3, 0]).unwrap();
    assert!(matches!(
        Rotation::<f32>::from_tables(none, none, Pairing::Halves),
        Err(Error::Zero { .. })
    ));
}

/// ONNX exporters and runtimes have read `[batch, seq, heads·head_dim]` as if the heads came first (pytorch/pytorch#162865), and `[batch, heads, seq, head_dim]` with its
/// axes the other way round (onnx/onnx#6767). Here the order is in the view, and both layouts turn by the same code: the same numbers, bit for bit.
#[test]
fn bug_family_28_a_flat_layout_turns_as_one_with_a_head_axis() {
    // All lengths differ, so that no axis can be taken for another.
    let [batch, heads, len, head_dim, pairs] = [2, 3, LEN, 8, 2];
    let mut rng = Rng::new(28);
    let mut tables = || -> Vec<f32> { (0..batch * len * pairs).map(|_| rng.normal() as f32).collect() };
    let (cos, sin) = (tables(), tables());
    let view = |table| View::new(table, [batch, len, pairs]).unwrap();
    let each = || (0..batch * heads * len).map(|i| (i / (heads * len), i / len % heads, i % len));
    for pairing in [Pairing::Halves, Pairing::Interleaved] {
        let rotation: Rotation<f32> = Rotation::from_tables(view(&cos), view(&sin), pairing).unwrap();
        let flat: Vec<f32> = random(batch * len * heads * head_dim).iter().map(|x| *x as f32).collect();
        let at_flat = |b: usize, h: usize, t: usize| ((b * len + t) * heads + h) * head_dim;
        let at_split = |b: usize, h: usize, t: usize| ((b * heads + h) * len + t) * head_dim;
        let mut split = vec![0.0; flat.len()];
        for (b, h, t) in each() {
            split[at_split(b, h, t)..][..head_dim].copy_from_slice(&flat[at_flat(b, h, t)..][..head_dim]);
        }
        let (mut turned, mut turned_flat) = (vec![f32::NAN; flat.len()], vec![f32::NAN; flat.len()]);
        let (split_shape, flat_shape) = ([batch, heads, len, head_dim], [batch, len, heads, head_dim]);
        rotation
            .apply_into(
                Turn::Forward,
                View::new(&split, split_shape).unwrap(),
                ViewMut::new(&mut turned, split_shape).unwrap(),
            )
            .unwrap();
        let (x, out) = (
            View::new(&flat, flat_shape).unwrap(),
            ViewMut::new(&mut turned_flat, flat_shape).unwrap(),
        );
        rotation
            .apply_into(Turn::Forward, x.swap(1, 2).unwrap(), out.swap(1, 2).unwrap())
            .unwrap();
        for (b, h, t) in each() {
            let a = &turned[at_split(b, h, t)..][..head_dim];
            assert_eq!(
                a,
                &turned_flat[at_flat(b, h, t)..][..head_dim],
                "batch row {b}, head {h}, token {t}"
            );
            // Against the definition too, because a mistake that both layouts share would not show between them.
            let (x, c, s) = (&split[at_split(b, h, t)..], rotation.cos(b, t)[1], rotation.sin(b, t)[1]);
            let (low, high) = if pairing == Pairing::Halves { (1, 3) } else { (2, 3) };
            assert_eq!((a[low], a[high]), (x[low] * c - x[high] * s, x[low] * s + x[high] * c));
            assert_eq!(a[4..], x[4..head_dim]);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let rotation = rotation(Pairing::Halves, 1.0);
    let mut x = vec![0.0; 2 * LEN * 4];
    let narrow = ViewMut::new(&mut x, [1, 2, LEN, 4]).unwrap();
    assert!(matches!(rotation.apply(Turn::Forward, narrow), Err(Error::Shape { .. })));
    let mut x = vec![0.0; 8];
    let short = ViewMut::new(&mut x, [1, 1, 1, 8]).unwrap();
    assert!(matches!(rotation.apply(Turn::Forward, short), Err(Error::Shape { .. })));
}
