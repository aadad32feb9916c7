//! Tables that are added at sites, looked up, made and resized.

use super::bytes::Bytes;
use super::{Number, all_finite, poison, same, untouched};
use posenc::embed::{
    Bicubic, Normalize, Sampling, lookup, lookup_adjoint, pixel_positions, resize_grid, resize_linear, sinusoid, timestep,
};
use posenc::{
    Call, Dims, Encoding, InputTable, Learned, Mode, OddWidth, Overflow, Params, Positions, Real, Result, SinusoidExponent, SinusoidLayout,
    Sinusoidal, Site, View, ViewMut, relative_sinusoids,
};

const SITES: [Site; 5] = [Site::Embedding, Site::QueryInput, Site::KeyInput, Site::Query, Site::Key];

fn sinusoidal(bytes: &mut Bytes<'_>) -> Sinusoidal {
    let mut table = bytes.pick(&[
        Sinusoidal::paper(),
        Sinusoidal::marian(),
        Sinusoidal::whisper(),
        Sinusoidal::musicgen(),
        Sinusoidal::mae(),
        Sinusoidal::detr(),
        Sinusoidal::fairseq(1),
        Sinusoidal::timestep(true, 1.0),
    ]);
    if bytes.rarely() {
        table = table.with_base(bytes.number());
    }
    if bytes.rarely() {
        table = table.with_offset(bytes.id()).with_position_scale(bytes.number());
    }
    if bytes.rarely() {
        table = table.with_exponent(SinusoidExponent::Half { shift: bytes.number() });
    }
    if bytes.rarely() {
        table = table.with_axes(&[0, 1, bytes.near(2)]).with_odd_width(OddWidth::ZeroPad);
    }
    table
}

fn encoding(bytes: &mut Bytes<'_>) -> Encoding {
    let overflow = [
        Overflow::Error,
        Overflow::Clamp,
        Overflow::Wrap,
        Overflow::Interpolate,
        Overflow::InterpolateTo(bytes.near(33)),
    ];
    let rows = if bytes.rarely() { bytes.length() } else { 1 + bytes.below(30) };
    let mut learned = Learned::new(rows).with_overflow(bytes.pick(&overflow));
    if bytes.rarely() {
        learned = learned.with_offset(bytes.length()).with_padding_row(bytes.length());
    }
    if bytes.flag() {
        learned = learned.with_dropout(bytes.pick(&[0.0, 0.5, 0.999, 1.0, f64::NAN]));
    }
    match bytes.below(6) {
        0 | 1 => learned.into(),
        2 => learned.concatenated(bytes.near(3)).into(),
        3 => Encoding::from(InputTable::new(rows).with_overflow(bytes.pick(&overflow))),
        4 => InputTable::new(rows).projected().into(),
        _ => Encoding::from(sinusoidal(bytes)).with(learned),
    }
}

/// A tensor in any strides, and how many numbers lie under it.
fn strided<'a, T: Number>(bytes: &mut Bytes<'_>, storage: &'a mut Vec<T>, shape: [usize; 3]) -> Result<ViewMut<'a, T, 3>> {
    let [b, t, d] = shape;
    let ([sb, st, _, sd], size) = bytes.strides([b, t, 1, d], 2);
    *storage = bytes.storage(size, [b, t, 1, d], [sb, st, 0, sd], false);
    ViewMut::strided(storage, shape, [sb, st, sd])
}

pub fn add<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let dims = Dims {
        model_dim: bytes.near(8),
        heads: bytes.near(2),
        kv_heads: bytes.pick(&[2, 2, 1]),
        head_dim: bytes.near(4),
    };
    let Ok(plan) = encoding(bytes).plan(dims) else { return };
    if plan.parameters().iter().any(|spec| spec.size() > 1 << 16) {
        return;
    }
    let params: Params<T::Real> = plan.init(1).expect("few parameters");
    let (q_len, k_len) = (bytes.below(10), bytes.below(10));
    let q_at = bytes.positions(q_len);
    let k_at = if bytes.flag() { q_at.clone() } else { bytes.positions(k_len) };
    let Ok(call) = plan.call(&params, &q_at, &k_at) else { return };
    let mode = bytes.pick(&[Mode::Evaluate, Mode::Train { seed: 3, call: 4 }]);
    let site = bytes.pick(&SITES);
    let at = if matches!(site, Site::KeyInput | Site::Key) { &k_at } else { &q_at };
    let batch = if at.batch() == 1 { bytes.about(3) } else { bytes.near(at.batch()) };
    let (len, width) = (bytes.near(at.len()), bytes.near(dims.model_dim));
    let mut grads = params.zeros_like();
    let mut storage = Vec::new();
    match bytes.below(3) {
        0 => {
            let Ok(x) = strided::<T>(bytes, &mut storage, [batch, len, width]) else {
                return;
            };
            let before = rows(&x);
            let x = keep(&call, site, x, mode);
            if let (Some(before), Some((x, true))) = (before, x) {
                // What is added does not depend on where x lies.
                let mut plain = before.clone();
                call.add(site, ViewMut::new(&mut plain, [batch, len, width]).expect("its size"), mode)
                    .expect("as before");
                same("a strided sum", &x, &plain);
            }
            let Ok(dx) = strided::<T>(bytes, &mut storage, [batch, len, width]) else {
                return;
            };
            let source = rows(&dx);
            let result = call.add_adjoint(site, dx, mode, &mut grads);
            if result.is_err() {
                assert!(grads.flat().iter().all(|x| x.to_f64() == 0.0));
            } else if let Some(dx) = source.filter(|dx| all_finite(dx) && mode == Mode::Evaluate) {
                balanced(&call, site, [batch, len, width], &dx, &grads);
            }
        }
        1 => {
            let heads = [batch, bytes.near(dims.heads), len, bytes.near(dims.head_dim)];
            let (strides, size) = bytes.strides(heads, 1);
            let mut x: Vec<T> = bytes.storage(size, heads, strides, false);
            let before = x.clone();
            let result = ViewMut::strided(&mut x, heads, strides).and_then(|x| call.add_heads(site, x));
            if result.is_err() {
                same("a refused sum", &x, &before);
            }
            if let Ok(dx) = View::strided(&x, heads, strides)
                && call.add_heads_adjoint(site, dx, &mut grads).is_err()
            {
                assert!(grads.flat().iter().all(|x| x.to_f64() == 0.0));
            }
        }
        _ => {
            let wide = bytes.near(width.saturating_add(plan.concat_width()));
            let (x_shape, out_shape) = ([batch, len, width], [batch, len, wide]);
            let count = |shape: [usize; 3]| super::bytes::count([shape[0], shape[1], shape[2], 1]).filter(|count| *count <= 1 << 14);
            let (Some(x_count), Some(out_count)) = (count(x_shape), count(out_shape)) else {
                return;
            };
            let x: Vec<T> = bytes.numbers(x_count, false);
            let mut out = vec![poison::<T>(); out_count];
            let embedded = call.embed(
                View::new(&x, x_shape).expect("its size"),
                ViewMut::new(&mut out, out_shape).expect("its size"),
                mode,
            );
            if embedded.is_err() {
                untouched("refused embeddings", &out);
            }
            let mut dx = vec![poison::<T>(); x_count];
            let adjoint = call.embed_adjoint(
                ViewMut::new(&mut out, out_shape).expect("its size"),
                ViewMut::new(&mut dx, x_shape).expect("its size"),
                mode,
                &mut grads,
            );
            assert_eq!(embedded.is_ok(), adjoint.is_ok());
            if adjoint.is_err() {
                untouched("a refused gradient", &dx);
                assert!(grads.flat().iter().all(|x| x.to_f64() == 0.0));
            }
        }
    }
}

/// The numbers of a small tensor.
fn rows<T: Number>(x: &ViewMut<'_, T, 3>) -> Option<Vec<T>> {
    let [batch, len, width] = x.shape();
    super::bytes::count([batch, len, width, 1]).filter(|count| *count <= 1 << 14)?;
    let x = x.as_view();
    Some(
        (0..if x.is_empty() { 0 } else { batch * len })
            .flat_map(|i| x.row([i / len, i % len, 0]).to_vec())
            .collect(),
    )
}

/// Adds, and reads the sum back, with whether it was one.
fn keep<T: Number>(call: &Call<'_, T::Real>, site: Site, mut x: ViewMut<'_, T, 3>, mode: Mode) -> Option<(Vec<T>, bool)> {
    let before = rows(&x);
    let added = call.add(site, x.reborrow(), mode).is_ok();
    let after = rows(&x)?;
    if !added {
        same("a refused sum", &after, &before?);
    }
    Some((after, added))
}

/// The adjoint's mass: each column of the gradient sums to that column of `dx` over the tokens that have a row; none has more.
fn balanced<T: Number>(call: &Call<'_, T::Real>, site: Site, [batch, len, width]: [usize; 3], dx: &[T], grads: &Params<T::Real>) {
    if !call.adds_at(site) || grads.size() == 0 || width == 0 {
        return;
    }
    for column in 0..width {
        let given: f64 = dx.iter().skip(column).step_by(width).map(|x| x.widen().to_f64().abs()).sum();
        let got: f64 = grads.flat().iter().skip(column).step_by(width).map(|x| x.to_f64().abs()).sum();
        // Rounded once per token and row that it is mixed of, and once more in the sums here.
        let rounded = 1.0 + 4.0 * (batch * len + 1) as f64 * f64::from(f32::EPSILON);
        assert!(
            got <= given * rounded + f64::MIN_POSITIVE,
            "column {column} has a gradient of {got} of {given}"
        );
    }
}

pub fn tables<T: Number>(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let len = bytes.below(12);
    match bytes.below(6) {
        0 => {
            let at = bytes.positions(len);
            let (rows, width) = (bytes.near(30), bytes.near(5));
            let out_shape = [bytes.near(at.batch()), bytes.near(at.len()), bytes.near(width)];
            let (Some(table_size), Some(size)) = (
                super::bytes::count([rows, width, 1, 1]),
                super::bytes::count([out_shape[0], out_shape[1], out_shape[2], 1]),
            ) else {
                return;
            };
            if table_size.max(size) > 1 << 14 {
                return;
            }
            let table: Vec<T> = bytes.numbers(table_size, false);
            let mut out = vec![poison::<T>(); size];
            let view = View::new(&table, [rows, width]).expect("its size");
            let found = lookup(&at, view, ViewMut::new(&mut out, out_shape).expect("its size"));
            let mut d_table = vec![T::Real::ZERO; table_size];
            let d_out = View::new(&out, out_shape).expect("its size");
            let scattered = lookup_adjoint(&at, d_out, ViewMut::new(&mut d_table, [rows, width]).expect("its size"));
            assert_eq!(found.is_ok(), scattered.is_ok());
            if found.is_err() {
                untouched("a refused lookup", &out);
                assert!(d_table.iter().all(|x| x.to_f64() == 0.0));
                return;
            }
            for (i, row) in out.chunks_exact(width.max(1)).enumerate().filter(|_| size > 0) {
                let (b, t) = (i / out_shape[1], i % out_shape[1]);
                match at.get(0, if at.batch() == 1 { 0 } else { b }, t) {
                    Some(id) => same("a row", row, &table[id as usize * width..][..width]),
                    None => assert!(row.iter().all(|x| x.bits() == 0)),
                }
            }
        }
        1 => {
            let at = bytes.positions(len);
            let width = if bytes.rarely() { bytes.length() } else { bytes.below(20) };
            let shape = [bytes.near(at.batch()), bytes.near(at.len()), width];
            let Some(size) = super::bytes::count([shape[0], shape[1], shape[2], 1]).filter(|size| *size <= 1 << 14) else {
                return;
            };
            let table = sinusoidal(bytes);
            let mut out = vec![poison::<T>(); size];
            match sinusoid(&table, &at, ViewMut::new(&mut out, shape).expect("its size")) {
                Ok(()) => assert!(out.iter().all(|x| x.widen().to_f64().abs() <= 1.0), "{table}"),
                Err(_) => untouched("a refused sinusoid", &out),
            }
        }
        2 => {
            let steps: Vec<f64> = (0..len).map(|_| bytes.number()).collect();
            let width = bytes.below(20);
            let mut out = vec![poison::<T>(); len * width];
            let written = timestep(
                &steps,
                bytes.flag(),
                bytes.number(),
                ViewMut::new(&mut out, [len, width]).expect("its size"),
            );
            if written.is_err() {
                untouched("a refused step", &out);
            } else {
                assert!(all_finite(&out));
            }
        }
        3 => {
            let distances: Vec<i64> = (0..len).map(|_| bytes.id()).collect();
            let (width, clamp) = (2 * bytes.below(8), bytes.flag().then(|| bytes.length()));
            let mut out = vec![poison::<T>(); len * width];
            let layout = bytes.pick(&[SinusoidLayout::SinFirst, SinusoidLayout::Interleaved, SinusoidLayout::CosFirst]);
            let shape = [bytes.near(len), width];
            let Ok(view) = ViewMut::new(&mut out, shape) else { return };
            match relative_sinusoids(layout, &distances, clamp, view) {
                Ok(()) => assert!(all_finite(&out)),
                Err(_) => untouched("refused distances", &out),
            }
        }
        4 => resizing::<T>(bytes),
        _ => {
            let shape = [bytes.about(3), bytes.about(5), bytes.about(5)];
            let size = super::bytes::count([shape[0], shape[1], shape[2], 1]).unwrap_or(0).min(1 << 12);
            let pixels: Vec<bool> = (0..size).map(|_| bytes.flag()).collect();
            let normalize = Normalize {
                shift: bytes.number(),
                scale: bytes.number(),
            };
            let normalize = bytes.flag().then_some(normalize);
            if let Ok(at) = pixel_positions(&pixels, shape, normalize) {
                assert!((0..at.len()).all(|t| at.get(0, 0, t).is_some_and(f64::is_finite)));
            }
            let _ = Positions::from_padding(&pixels, shape[0]);
        }
    }
}

fn resizing<T: Number>(bytes: &mut Bytes<'_>) {
    let width = bytes.near(3);
    let (old, new) = ([bytes.near(4), bytes.near(3)], [bytes.near(5), bytes.near(2)]);
    let prefix = bytes.near(1);
    let rows = |[a, b]: [usize; 2]| a.saturating_mul(b).saturating_add(prefix);
    let size = |rows: usize| super::bytes::count([rows, width, 1, 1]).filter(|size| *size <= 1 << 14);
    let (Some(old_size), Some(new_size)) = (size(rows(old)), size(rows(new))) else {
        return;
    };
    if rows(old).max(rows(new)) > 1 << 14 && width > 0 {
        return;
    }
    let table: Vec<T> = bytes.numbers(old_size, true);
    let mut out = vec![poison::<T>(); new_size];
    let (Ok(from), Ok(to)) = (View::new(&table, [rows(old), width]), ViewMut::new(&mut out, [rows(new), width])) else {
        return;
    };
    let resized = if bytes.flag() {
        resize_linear(from, bytes.pick(&[Sampling::Centres, Sampling::Corners]), to)
    } else {
        let mut how = bytes.pick(&[Bicubic::new(), Bicubic::antialiased(), Bicubic::dino(old, new)]);
        if bytes.rarely() {
            how.scale = Some([bytes.number(), bytes.number()]);
        }
        resize_grid(from, prefix, old, how, new, to)
    };
    match resized {
        Ok(()) => assert!(all_finite(&out)),
        Err(_) => untouched("a refused resize", &out),
    }
}
