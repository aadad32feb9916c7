use super::*;
use crate::positions::Positions;
use crate::rng::Rng;

/// A tile of numbers with NaN between its rows, which must stay.
fn tile<R: Real>(rows: usize, cols: usize) -> (Vec<R>, usize) {
    let (mut rng, ld) = (Rng::new(7), cols + 3);
    let numbers = (0..rows * ld).map(|i| R::of(if i % ld < cols { rng.normal() } else { f64::NAN }));
    (numbers.collect(), ld)
}

/// Every kernel against one number at a time, bit for bit: keys as a run and keys at any positions, added and written, with rows that have no position, values to both sides of the table.
fn is_one_by_one<R: Real>() {
    let mut rng = Rng::new(3);
    let values: Vec<R> = (0..61).map(|_| R::of(rng.normal())).collect();
    let lowest = -30i64;
    let of_table = |d: i64| values[(d - lowest).clamp(0, 60) as usize];
    let slope = R::of(0.37);
    for (rows, cols) in [(1, 1), (3, 5), (2, 16), (4, 129), (1, 300), (2, 0)] {
        for start in [-200i64, -33, -3, 0, 40, 1 << 40, i64::MIN / 2] {
            let ids: Vec<i64> = (0..cols as i64)
                .map(|j| start.wrapping_add(j * 7919 % 83) + if j == 200 { 1 << 35 } else { 0 })
                .collect();
            for (keys, scattered) in [
                (Positions::range(start..start + cols as i64), false),
                (Positions::whole(&ids), true),
            ] {
                let keys = keys.at(0, 0, 0, cols);
                for from in [start, 0] {
                    let query = |i: usize| (i != 2).then(|| from + 3 * i as i64 - 1);
                    let first = |i: usize| Some(start - query(i)?);
                    let index = |i: usize| Some(first(i)? - lowest);
                    for symmetric in [false, true] {
                        let of_ramp = |d: i64| slope * R::of(if symmetric { -(d as f64).abs() } else { d as f64 });
                        for on in Present::all() {
                            for (ramp, write) in [(false, false), (false, true), (true, false), (true, true)] {
                                let (mut s, ld) = tile::<R>(rows, cols);
                                let before = s.clone();
                                let mut block = BlockMut::new(&mut s, rows, cols, ld);
                                let (all, s_mut) = (0..cols, &mut block);
                                match (scattered, ramp, write) {
                                    (false, false, false) => add_runs(on, s_mut, &all, &index, &values),
                                    (false, false, true) => write_runs(on, s_mut, &all, &index, &values),
                                    (false, true, false) => add_ramp(on, s_mut, &all, &first, slope, symmetric),
                                    (false, true, true) => write_ramp(on, s_mut, &all, &first, slope, symmetric),
                                    (true, false, false) => add_gathered(on, s_mut, &keys, &query, lowest, &values),
                                    (true, false, true) => write_gathered(on, s_mut, &keys, &query, lowest, &values),
                                    (true, true, false) => add_ramp_at(on, s_mut, &keys, &query, slope, symmetric),
                                    (true, true, true) => write_ramp_at(on, s_mut, &keys, &query, slope, symmetric),
                                }
                                for (at, x) in s.iter().enumerate() {
                                    let (i, j) = (at / ld, at % ld);
                                    if j >= cols {
                                        assert!(!x.is_finite(), "written past a row");
                                        continue;
                                    }
                                    let distance = query(i).map(|q| keys.whole(j).unwrap() - q);
                                    let value = distance.map(|d| if ramp { of_ramp(d) } else { of_table(d) });
                                    let expected = match (value, write) {
                                        (Some(value), true) => R::ZERO + value,
                                        (Some(value), false) => before[at] + value,
                                        (None, true) => R::ZERO,
                                        (None, false) => before[at],
                                    };
                                    let what = "scattered, ramp, write";
                                    assert!(
                                        x.to_f64().to_bits() == expected.to_f64().to_bits(),
                                        "{}: {rows} × {cols} from {start}, {what} {scattered} {ramp} {write}, ({i}, {j}): {x} for {expected}",
                                        on.isa()
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn tiles_are_what_single_numbers_are() {
    is_one_by_one::<f32>();
    is_one_by_one::<f64>();
}

/// Rows wider than what is computed at once and than a line of distances, below and above the size from which memory is waited for, of every type, whole rows, parts and slices of lines.
#[test]
fn rows_are_written_whatever_their_size_and_type() {
    fn check<T: Element + PartialEq + std::fmt::Debug>() {
        for on in Present::all() {
            for shape in [
                [2, 3, 4, 5],
                [1, 2, 3, 5000],
                [1, 3, 700, 2049],
                [1, 2, 4, 9000],
                [2, 3, 300, 7],
                [1, 0, 2, 3],
                [2, 1, 3, 0],
            ] {
                for how in [Written::Parts, Written::WholeRows, Written::ByDistance] {
                    let n: usize = shape.iter().product();
                    let mut out = vec![T::narrow(T::Real::of(f64::NAN)); n + 1];
                    let step = if how == Written::ByDistance { -1 } else { 3 };
                    let number = |b: usize, h: usize, i: usize, j: i64| {
                        T::Real::of((b as i64 * 7 + h as i64 * 5 + i as i64 * step + j).rem_euclid(251) as f64 + 0.1)
                    };
                    write_rows(on, ViewMut::new(&mut out[1..], shape).unwrap(), how, |[b, h, i], first, row| {
                        assert!(how == Written::ByDistance || first >= 0);
                        assert!(how != Written::WholeRows || (first, row.len()) == (0, shape[3]));
                        row.iter_mut().zip(first..).for_each(|(x, j)| *x = number(b, h, i, j));
                    });
                    assert!(!out[0].widen().is_finite());
                    for (at, x) in out[1..].iter().enumerate() {
                        let [_, heads, rows, width] = shape;
                        let (row, j) = (at / width, at % width);
                        let expected = T::narrow(number(row / (heads * rows), row / rows % heads, row % rows, j as i64));
                        assert!(*x == expected, "{}: {shape:?}, {how:?}, row {row}, column {j}", on.isa());
                    }
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
    check::<half::f16>();
    check::<half::bf16>();
}
