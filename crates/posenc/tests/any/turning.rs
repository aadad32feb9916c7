//! Rotations: of any shape and strides, in every direction and rounding, against the definition one pair at a time.

use super::bytes::{Bytes, count, place};
use super::{Number, poison, same, untouched};
use posenc::reference::rotary::{pair, written};
use posenc::rotate::{
    Axes, LengthPolicy, LongRope, Magnitude, Rounding, Scaling, Slice, XPos, Yarn, convert_rows, coordinates, rotary::rotate as rotate_once,
};
use posenc::{Pairing, Precision, Real, Rotary, Rotation, Side, Turn, View, ViewMut};

const PAIRINGS: [Pairing; 4] = [
    Pairing::Halves,
    Pairing::Interleaved,
    Pairing::InterleavedToHalves,
    Pairing::HalvesTwice,
];

/// Numbers that a setting may be: mostly sensible.
fn setting(bytes: &mut Bytes<'_>) -> f64 {
    if bytes.rarely() {
        bytes.number()
    } else {
        1.0 + f64::from(bytes.byte()) / 8.0
    }
}

fn scaling(bytes: &mut Bytes<'_>, pairs: usize) -> Scaling {
    let (factor, original_len) = (setting(bytes), if bytes.rarely() { bytes.length() } else { 8 });
    let list = |bytes: &mut Bytes<'_>| (0..bytes.near(pairs).min(64)).map(|_| setting(bytes)).collect::<Vec<_>>();
    match bytes.below(12) {
        0..4 => Scaling::Unscaled,
        4 => Scaling::Linear { factor },
        5 => Scaling::Ntk { factor },
        6 => Scaling::Dynamic { factor, original_len },
        7 => Scaling::Yarn(Yarn::new(factor, original_len)),
        8 => Scaling::Longrope(LongRope {
            short_factor: list(bytes),
            long_factor: list(bytes),
            original_len,
            factor,
            magnitude: bytes.pick(&[
                Magnitude::Own,
                Magnitude::Given(1.5),
                Magnitude::Given(0.0),
                Magnitude::OwnTimes(2.0),
            ]),
        }),
        9 => Scaling::Divided {
            divisors: list(bytes),
            magnitude: setting(bytes),
        },
        10 => Scaling::Proportional {
            partial: bytes.plain().abs() / 10.0,
            factor,
        },
        _ => Scaling::Llama3 {
            factor,
            original_len,
            low_freq_factor: setting(bytes),
            high_freq_factor: setting(bytes),
        },
    }
}

fn rotary(bytes: &mut Bytes<'_>, width: usize) -> Rotary {
    let mut rotary = Rotary::new(bytes.pick(&PAIRINGS));
    let part = bytes.even_about(width.clamp(1, 40));
    rotary.rotary_dim = bytes.flag().then_some(part);
    rotary.scaling = scaling(bytes, rotary.rotary_dim.unwrap_or(width) / 2);
    if bytes.rarely() {
        rotary.base = bytes.number();
    }
    rotary.slice = bytes.pick(&[Slice::Leading, Slice::Leading, Slice::Trailing]);
    rotary.precision = bytes.pick(&[Precision::Exact, Precision::Exact, Precision::Reference]);
    rotary.rounding = bytes.pick(&[Rounding::Once, Rounding::Once, Rounding::Tables, Rounding::EachStep]);
    rotary.reversed = bytes.rarely();
    if bytes.rarely() {
        rotary.decay = Some(XPos {
            scale_base: setting(bytes),
            center: bytes.number(),
        });
    }
    if bytes.rarely() {
        rotary.exponent_dim = Some(bytes.length());
    }
    if bytes.rarely() {
        rotary.length = LengthPolicy::Fixed(bytes.length());
    }
    rotary.axes = match bytes.below(14) {
        0..8 => Axes::One,
        8 => Axes::Chunked {
            sections: vec![bytes.length(), bytes.length()],
        },
        9 => Axes::Spread {
            sections: vec![bytes.length(); bytes.below(3)],
        },
        10 => Axes::GridFirst { grid: bytes.length() },
        11 => Axes::Grid {
            axes: vec![0, bytes.near(1)],
        },
        12 => Axes::InTurn {
            axes: vec![bytes.near(1), 0],
        },
        _ => Axes::Dealt { axes: bytes.near(2) },
    };
    rotary
}

pub fn rotate<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let len = bytes.below(12);
    let at = bytes.positions(len);
    let width = if bytes.rarely() { bytes.length() } else { bytes.below(48) };
    let rotary = rotary(bytes, width);
    let side = bytes.pick(&[Side::Query, Side::Key]);
    if bytes.rarely() {
        conversions(bytes, width);
    }
    let Ok(mut rotation) = rotary.rotation_of::<T::Real>(side, width, &at) else {
        return;
    };
    for (b, t) in (0..at.batch().min(3)).flat_map(|b| (0..at.len().min(40)).map(move |t| (b, t))) {
        assert!(
            rotation.cos(b, t).iter().chain(rotation.sin(b, t)).all(|x| x.is_finite()),
            "{rotary} at {:?}",
            at.get(0, b, t)
        );
    }
    if bytes.rarely() {
        let moved = bytes.positions(at.len().min(40));
        if let Ok(other) = rotary.rerotation::<T::Real>(width, &at, &rotary, &moved) {
            rotation = other;
        } else {
            // In the memory of what was refused.
            rotary.rotation_into(width, &moved, &mut rotation).ok();
        }
    }
    let rotation = rotation;
    let turn = bytes.pick(&[Turn::Forward, Turn::Forward, Turn::Adjoint, Turn::Inverse]);
    let batch = if at.batch() == 1 { bytes.about(3) } else { bytes.near(at.batch()) };
    let heads = bytes.about(4);
    let shape = [batch, heads, bytes.near(at.len()), bytes.near(width)];
    let (strides, size) = bytes.strides(shape, 3);
    let source: Vec<T> = bytes.storage(size, shape, strides, false);
    let (to_strides, to_size) = bytes.strides(shape, 1);

    // In place.
    let mut data = source.clone();
    let in_place = ViewMut::strided(&mut data, shape, strides).and_then(|x| rotation.apply(turn, x));
    if in_place.is_err() {
        same("a refused rotation", &data, &source);
    }
    // Into another.
    let mut out = vec![poison::<T>(); to_size];
    let into = View::strided(&source, shape, strides)
        .and_then(|x| ViewMut::strided(&mut out, shape, to_strides).and_then(|out| rotation.apply_into(turn, x, out)));
    if into.is_err() {
        untouched("a refused rotation", &out);
    }
    let Some(count) = count(shape).filter(|count| *count <= 1 << 14) else {
        return;
    };
    let gather = |data: &[T], strides| -> Vec<T> { (0..count).map(|i| data[place(i, shape, strides).expect("inside")]).collect() };
    let expected = (in_place.is_ok() || into.is_ok())
        .then(|| gather(&source, strides))
        .map(|mut rows| turn_by_definition(&rotation, &rotary, turn, shape, &mut rows).then_some(rows));
    if let Some(Some(expected)) = &expected {
        if in_place.is_ok() {
            same("in place", &gather(&data, strides), expected);
        }
        if into.is_ok() {
            same("into a buffer", &gather(&out, to_strides), expected);
        }
    }
    if in_place.is_ok() && into.is_ok() {
        same("in place and into a buffer", &gather(&data, strides), &gather(&out, to_strides));
    }
    // Between rows nothing changes.
    if in_place.is_ok() {
        let mut rows = data.clone();
        let places = (0..count).map(|i| place(i, shape, strides).expect("inside"));
        places.for_each(|place| rows[place] = source[place]);
        same("between rows", &rows, &source);
    }
    if into.is_ok() {
        let places = (0..count).map(|i| place(i, shape, to_strides).expect("inside"));
        places.for_each(|place| out[place] = poison());
        untouched("what was turned", &out);
    }
    if bytes.rarely() && count > 0 && in_place.is_ok() {
        let mut out = vec![poison::<T>(); count];
        let x = gather(&source, strides);
        rotate_once(
            View::new(&x, shape).expect("its size"),
            ViewMut::new(&mut out, shape).expect("its size"),
            &at,
            rotary.pairing,
            rotary.base,
        )
        .is_err()
        .then(|| untouched("a refused rotation", &out));
    }
}

/// One pair at a time, where that is the definition: numbers rounded once, turned forward or by the transpose.
fn turn_by_definition<T: Number>(rotation: &Rotation<T::Real>, rotary: &Rotary, turn: Turn, shape: [usize; 4], rows: &mut [T]) -> bool {
    if turn == Turn::Inverse || rotary.rounding != Rounding::Once {
        return false;
    }
    let (r, width) = (rotation.rotary_dim(), shape[3]);
    // Of keys that were turned before, the columns lie as they were written.
    let pairing = match rotary.pairing {
        Pairing::InterleavedToHalves => return false,
        pairing => pairing,
    };
    let first = if rotary.slice == Slice::Trailing { width - r } else { 0 };
    for (i, row) in rows.chunks_exact_mut(width.max(1)).enumerate() {
        let (b, t) = (i / (shape[1] * shape[2]), i % shape[2]);
        let before = row.to_vec();
        for p in 0..r / 2 {
            let ((x, y), (to_x, to_y)) = (pair(p, r, pairing), written(p, r, pairing));
            let (c, s) = (rotation.cos(b, t)[p], rotation.sin(b, t)[p]);
            let (x, y) = (before[first + x].widen(), before[first + y].widen());
            let (turned_x, turned_y) = match turn {
                Turn::Forward => (x * c - y * s, x * s + y * c),
                _ => (x * c + y * s, y * c - x * s),
            };
            row[first + to_x] = T::narrow(turned_x);
            row[first + to_y] = T::narrow(turned_y);
        }
    }
    true
}

/// Weights between pairings, there and back.
fn conversions(bytes: &mut Bytes<'_>, head_dim: usize) {
    let (from, to) = (bytes.pick(&PAIRINGS), bytes.pick(&PAIRINGS));
    let rotary_dim = bytes.near(head_dim);
    if head_dim <= 1 << 20 {
        if let Ok(order) = coordinates(from, to, head_dim, rotary_dim) {
            let mut sorted = order;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..head_dim));
        }
    } else {
        coordinates(from, to, head_dim, rotary_dim).ok();
    }
    let width = bytes.near(2);
    let mut rows: Vec<i32> = (0..head_dim.saturating_mul(width).min(1 << 12) as i32).collect();
    let before = rows.clone();
    if head_dim <= 1 << 20 && convert_rows(&mut rows, from, to, head_dim, rotary_dim, width).is_ok() {
        convert_rows(&mut rows, to, from, head_dim, rotary_dim, width).expect("the way back");
    }
    assert_eq!(rows, before);
}
