use super::*;
use crate::dropout::Mode;
use crate::embed::{Normalize, pixel_positions, timestep};
use crate::encoding::Encoding;
use crate::params::Params;
use crate::reference::sinusoidal as reference;
use crate::rng::Rng;
use crate::view::View;

/// The table of some positions, in poisoned storage.
fn table<T: Element>(config: &Sinusoidal, at: &Positions, width: usize) -> Result<Vec<T>> {
    let mut out = vec![T::narrow(T::Real::of(f64::NAN)); at.batch() * at.len() * width];
    sinusoid(config, at, ViewMut::new(&mut out, [at.batch(), at.len(), width])?)?;
    Ok(out)
}

/// How far two tables at position p may lie apart, with u = ε/2 of f64: half a unit of the storage (values are at most 1), 2u for two sines, and two frequencies that
/// were computed differently: a power is within 2u of base^e, an exponential of −e·ln(base) within (2 + 2·ln(base))u because its argument is rounded; products add 3u.
fn bound<T: Element>(p: f64, base: f64) -> f64 {
    let u = f64::EPSILON / 2.0;
    T::Real::EPSILON.to_f64() / 4.0 + 2.0 * u + p.abs() * (7.0 + 2.0 * base.ln().abs()) * u
}

fn positions() -> [f64; 12] {
    [0.0, 1.0, 2.0, 31.0, 511.0, 5000.0, 131_071.0, 1e7, -1.0, -300.0, 0.25, -7.5]
}

#[test]
fn every_table_equals_its_own_codebase() {
    type Twin = fn(f64, usize, f64) -> Vec<f64>;
    let cases: [(Sinusoidal, Twin, &[usize]); 6] = [
        (Sinusoidal::paper(), reference::paper, &[1, 2, 3, 16, 31, 64]),
        (Sinusoidal::marian(), reference::marian, &[1, 2, 3, 16, 31, 64]),
        (Sinusoidal::ctrl(), reference::marian, &[5, 64]),
        (Sinusoidal::whisper(), reference::fairseq, &[4, 5, 16, 31, 64]),
        (Sinusoidal::musicgen(), reference::musicgen, &[4, 5, 16, 31, 64]),
        (
            Sinusoidal::timestep(true, 0.0),
            |p, d, base| reference::timestep(p, d, base, 0.0, true),
            &[2, 3, 32, 33],
        ),
    ];
    for (config, twin, widths) in cases {
        for base in [1e4, 500.0, 2.5, 1e6] {
            for &width in widths {
                let config = config.clone().with_base(base);
                let at = Positions::real(&positions()).unwrap();
                let (f32s, f64s) = (
                    table::<f32>(&config, &at, width).unwrap(),
                    table::<f64>(&config, &at, width).unwrap(),
                );
                for (t, p) in positions().into_iter().enumerate() {
                    for (c, expected) in twin(p, width, base).into_iter().enumerate() {
                        let i = t * width + c;
                        assert!((f64s[i] - expected).abs() <= bound::<f64>(p, base), "{config} {width} {p} {c}");
                        assert!(
                            (f64::from(f32s[i]) - expected).abs() <= bound::<f32>(p, base),
                            "{config} {width} {p} {c}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn images_equal_their_own_codebases() {
    let (height, width, d) = (3, 5, 24);
    let mae = table::<f64>(&Sinusoidal::mae(), &Positions::grid(height, width), d).unwrap();
    let swapped = table::<f64>(&Sinusoidal::mae().with_axes(&[1, 0]), &Positions::grid(height, width), d).unwrap();
    let pixels = |normalize| pixel_positions(&[true; 15], [1, height, width], normalize).unwrap();
    let detr = table::<f64>(&Sinusoidal::detr().with_base(20.0), &pixels(Some(Normalize::DETR)), d).unwrap();
    let middle = table::<f64>(&Sinusoidal::detr(), &pixels(Some(Normalize::DEFORMABLE)), d).unwrap();
    let counted = table::<f64>(&Sinusoidal::detr(), &pixels(None), d).unwrap();
    let close = |given: &[f64], expected: Vec<f64>, base| {
        let same = |(g, e): (&f64, f64)| (g - e).abs() <= bound::<f64>(10.0, base);
        assert!(given.len() == expected.len() && given.iter().zip(expected).all(same));
    };
    let tau = std::f64::consts::TAU;
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let row = (y * width + x) * d..(y * width + x + 1) * d;
        let (h, w) = (y as f64, x as f64);
        close(&mae[row.clone()], reference::mae(h, w, d, 1e4), 1e4);
        close(&swapped[row.clone()], reference::mae(w, h, d, 1e4), 1e4);
        close(&counted[row.clone()], reference::detr(h + 1.0, w + 1.0, d, 1e4), 1e4);
        let part = |count: f64, size: usize| count / (size as f64 + 1e-6) * tau;
        let expected = reference::detr(part(h + 1.0, height), part(w + 1.0, width), d, 20.0);
        close(&detr[row.clone()], expected, 20.0);
        let expected = reference::detr(part(h + 0.5, height), part(w + 0.5, width), d, 1e4);
        close(&middle[row], expected, 1e4);
    }
    // A class token in front is a row of zeros and moves nothing.
    let with_class = table::<f64>(&Sinusoidal::mae(), &Positions::grid(height, width).after_unplaced(1), d).unwrap();
    assert_eq!(with_class[..d], vec![0.0; d]);
    assert_eq!(with_class[d..], mae);
}

#[test]
fn products_depend_on_the_distance_alone() {
    for config in [
        Sinusoidal::paper(),
        Sinusoidal::marian(),
        Sinusoidal::musicgen(),
        Sinusoidal::whisper().with_base(300.0),
    ] {
        let (d, distance) = (48, 37.0);
        let places = [0.0, 1.0, 100.5, -3000.0, 1e6];
        let at = Positions::real(&places).unwrap();
        let moved = Positions::real(&places.map(|p| p + distance)).unwrap();
        let (a, b) = (table::<f64>(&config, &at, d).unwrap(), table::<f64>(&config, &moved, d).unwrap());
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let expected: f64 = config.frequencies(d).unwrap().iter().map(|w| (distance * w).cos()).sum();
        for (t, p) in places.into_iter().enumerate() {
            let (a, b) = (&a[t * d..(t + 1) * d], &b[t * d..(t + 1) * d]);
            // d products of numbers up to 1 whose angles are rounded twice, and their sum.
            let bound = d as f64 * (2.0 * (p.abs() + distance) + d as f64) * f64::EPSILON;
            assert!((dot(a, b) - expected).abs() <= bound);
            assert!((dot(a, a) - d as f64 / 2.0).abs() <= bound);
        }
    }
}

/// fairseq 4648, denoising-diffusion-pytorch 76 and 357, transformer-xl 119, Open-Sora-Plan 315: "the same" table in other columns, or with other
/// frequencies. The layout is in the configuration and in what it prints, and no two of these give the same numbers.
#[test]
fn bug_family_25_sin_cos_layout() {
    let at = Positions::range(0..50);
    let all = [
        Sinusoidal::paper(),
        Sinusoidal::marian(),
        Sinusoidal::whisper(),
        Sinusoidal::musicgen(),
        Sinusoidal::fairseq(1),
    ];
    let tables: Vec<Vec<f64>> = all.iter().map(|config| table(config, &at, 8).unwrap()).collect();
    for i in 0..all.len() {
        for j in 0..i {
            assert_ne!(tables[i], tables[j], "{} and {}", all[i], all[j]);
            assert_ne!(all[i].to_string(), all[j].to_string());
        }
    }
    let columns = |table: &[f64], order: [usize; 8]| -> Vec<f64> { table.chunks(8).flat_map(|row| order.map(|c| row[c])).collect() };
    // The paper's and Marian's are one table in another order of columns; so are Whisper's and MusicGen's.
    assert_eq!(columns(&tables[0], [0, 2, 4, 6, 1, 3, 5, 7]), tables[1]);
    assert_eq!(columns(&tables[2], [4, 5, 6, 7, 0, 1, 2, 3]), tables[3]);
    // Whisper's is not the paper's in any order: its frequencies end at 1e-4, the paper's above it.
    assert_eq!(all[2].frequencies(8).unwrap()[3], 1e-4);
    assert!(all[0].frequencies(8).unwrap()[3] > 9e-4);
    // fairseq's first token stands behind the padding row.
    assert_eq!(tables[4][..8], tables[2][16..24]);
    // Transformer-XL: the same vectors for positions in descending order.
    let descending = Positions::whole(&(0..50).rev().collect::<Vec<_>>());
    let turned = table::<f64>(&Sinusoidal::marian(), &descending, 8).unwrap();
    assert!(turned.chunks(8).rev().eq(tables[1].chunks(8)));
}

#[test]
fn odd_widths() {
    let at = Positions::whole(&[3]);
    let row = |config: &Sinusoidal| table::<f64>(config, &at, 5).unwrap();
    let [a, b, c] = [0, 1, 2].map(|i| 3.0 * 1e4f64.powf(-(2.0 * f64::from(i)) / 5.0));
    assert_eq!(row(&Sinusoidal::paper()), [a.sin(), a.cos(), b.sin(), b.cos(), c.sin()]);
    assert_eq!(row(&Sinusoidal::marian()), [a.sin(), b.sin(), c.sin(), a.cos(), b.cos()]);
    let cos_first = Sinusoidal::marian().with_layout(SinusoidLayout::CosFirst);
    assert_eq!(row(&cos_first), [a.cos(), b.cos(), a.sin(), b.sin(), c.sin()]);
    let padded = Sinusoidal::paper().with_odd_width(OddWidth::ZeroPad);
    assert_eq!(row(&padded), [a.sin(), a.cos(), b.sin(), b.cos(), 0.0]);
    assert_eq!(row(&Sinusoidal::whisper())[4], 0.0);
    assert_eq!(table::<f64>(&Sinusoidal::paper(), &at, 1).unwrap(), [3f64.sin()]);
    assert_eq!(table::<f64>(&Sinusoidal::whisper(), &at, 1).unwrap(), [0.0]);
    assert!(table::<f64>(&Sinusoidal::paper(), &at, 0).unwrap().is_empty());
}

#[test]
fn refusals_are_typed_and_write_nothing() {
    let refuse = |config: Sinusoidal, at: Positions, width: usize| {
        let mut out = vec![-7.0f32; at.len() * width];
        let error = sinusoid(&config, &at, ViewMut::new(&mut out, [1, at.len(), width]).unwrap()).unwrap_err();
        assert!(out.iter().all(|x| *x == -7.0));
        error
    };
    let line = || Positions::range(0..2);
    // The exponent i/(d/2 − 1) has no value for two columns (and for three, whose half is one).
    for width in [2, 3] {
        assert!(matches!(
            refuse(Sinusoidal::whisper(), line(), width),
            Error::Invalid { what: "width", .. }
        ));
    }
    for base in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            refuse(Sinusoidal::paper().with_base(base), line(), 4),
            Error::Invalid { what: "base", .. }
        ));
    }
    let axes = |axes: &[usize]| Sinusoidal::paper().with_axes(axes);
    for wrong in [&[][..], &[1], &[0, 0], &[0, 2]] {
        assert!(matches!(refuse(axes(wrong), line(), 4), Error::Invalid { what: "axes", .. }));
    }
    assert!(matches!(refuse(Sinusoidal::mae(), line(), 8), Error::Unsupported { .. }));
    assert!(matches!(
        refuse(Sinusoidal::paper(), Positions::grid(1, 2), 8),
        Error::Unsupported { .. }
    ));
    assert!(matches!(
        refuse(Sinusoidal::mae(), Positions::grid(1, 2), 7),
        Error::NotDivisible { .. }
    ));
    assert!(matches!(
        refuse(Sinusoidal::mae(), Positions::grid(1, 2), 6),
        Error::OddWidth { width: 3, .. }
    ));
    assert!(matches!(
        refuse(Sinusoidal::mae().with_padding_row(0), Positions::grid(1, 2), 8),
        Error::Unsupported { .. }
    ));
    let rows = Positions::whole_rows(&[0, 1], 2).unwrap();
    let mut out = [0.0f32; 12];
    let error = sinusoid(&Sinusoidal::paper(), &rows, ViewMut::new(&mut out, [3, 1, 4]).unwrap());
    assert!(matches!(error, Err(Error::Shape { .. })));
    let plan = |config: Sinusoidal| Encoding::from(config).plan(Dims::new(2, 1).unwrap());
    assert!(plan(Sinusoidal::paper()).is_ok());
    assert!(matches!(plan(Sinusoidal::whisper()), Err(Error::Invalid { what: "width", .. })));
    let inside = Sinusoidal::paper().added_to(AddTo::AttentionInputs);
    assert!(matches!(plan(inside.clone().with_dropout(0.1)), Err(Error::Unsupported { .. })));
    assert!(matches!(plan(inside.concatenated(2)), Err(Error::Unsupported { .. })));
}

#[test]
fn angles_that_are_no_numbers_are_refused() {
    let at = |p| Positions::real(&[0.0, p]).unwrap();
    for (config, p) in [
        (
            Sinusoidal::paper().with_precision(Precision::Reference).with_position_scale(1e35),
            1e5,
        ),
        (Sinusoidal::paper().with_position_scale(1e300), 1e10),
        (Sinusoidal::paper().with_position_scale(1e300), -1e10),
    ] {
        let mut out = [-7.0f32; 8];
        let given = sinusoid(&config, &at(p), ViewMut::new(&mut out, [1, 2, 4]).unwrap());
        assert!(matches!(given, Err(Error::Invalid { what: "position", .. })), "{config}");
        assert_eq!(out, [-7.0; 8]);
        let plan = Encoding::from(config.clone()).plan(Dims::new(4, 1).unwrap()).unwrap();
        let params: Params<f32> = plan.init(0).unwrap();
        assert!(matches!(
            plan.call(&params, &at(p), &at(p)),
            Err(Error::Invalid { what: "position", .. })
        ));
        assert!(table::<f64>(&config, &at(1.0), 4).is_ok());
    }
}

/// An f32 counts by one up to 2²⁴: a position past it is its neighbour's in the code that this precision reproduces.
#[test]
fn reference_precision_refuses_positions_that_f32_does_not_count() {
    let reference = Sinusoidal::paper().with_precision(Precision::Reference);
    assert!(table::<f64>(&reference, &Positions::whole(&[16_777_216]), 4).is_ok());
    assert!(matches!(
        table::<f64>(&reference, &Positions::whole(&[0, 16_777_217]), 4),
        Err(Error::Imprecise { index: 1, .. })
    ));
    assert!(table::<f64>(&Sinusoidal::paper(), &Positions::whole(&[16_777_217]), 4).is_ok());
}

#[test]
fn padding_offset_and_scale() {
    let plain = table::<f64>(&Sinusoidal::whisper(), &Positions::range(0..6), 6).unwrap();
    let padded = table::<f64>(&Sinusoidal::whisper().with_padding_row(1), &Positions::range(0..6), 6).unwrap();
    assert_eq!(padded[6..12], [0.0; 6]);
    assert_eq!((&padded[..6], &padded[12..]), (&plain[..6], &plain[12..]));
    // M2M-100: tokens count from padding_idx + 1, padding tokens have no position.
    let is_token = [true, true, false, false, true, true];
    let at = Positions::from_padding(&is_token, 2).unwrap();
    let given = table::<f64>(&Sinusoidal::fairseq(1), &at, 6).unwrap();
    let (zeros, second, third) = (&[0.0; 6][..], &plain[12..18], &plain[18..24]);
    assert_eq!(given, [second, third, zeros, zeros, second, third].concat());
    // CTRL, MusicGen and others decode by handing over the past: one row equals the row of the whole.
    let one = table::<f64>(&Sinusoidal::whisper(), &Positions::range(4..5), 6).unwrap();
    assert_eq!(one, plain[24..30]);
    let scaled = table::<f64>(&Sinusoidal::whisper().with_position_scale(0.5), &Positions::range(4..5), 6).unwrap();
    assert_eq!(scaled, plain[12..18]);
}

/// What code in f32 computes: a frequency, a product, a sine, each rounded.
#[test]
fn reference_precision_is_a_product_in_f32() {
    let (d, p) = (64, 1_499.0f32);
    let at = Positions::whole(&[1_499]);
    let given = table::<f32>(&Sinusoidal::whisper().with_precision(Precision::Reference), &at, d).unwrap();
    let exact = table::<f32>(&Sinusoidal::whisper(), &at, d).unwrap();
    let step = -(1e4f64.ln() / 31.0) as f32;
    let mut worst = 0.0f32;
    for i in 0..32 {
        let angle = p * (i as f32 * step).exp();
        assert!((given[i] - angle.sin()).abs() <= 2.0 * f32::EPSILON);
        assert!((given[32 + i] - angle.cos()).abs() <= 2.0 * f32::EPSILON);
        worst = worst.max((given[i] - exact[i]).abs());
    }
    assert!((1e-5..1e-3).contains(&worst), "{worst}");
}

#[test]
fn embeddings_take_it_up_and_gradients_pass_through() {
    let config = Sinusoidal::paper().with_dropout(0.3);
    let rows = Positions::whole_rows(&[5, 0, 9, 9], 2).unwrap();
    let rows = rows.with_presence_rows(&[true, true, true, false], 2).unwrap();
    let plan = Encoding::from(config.clone()).plan(Dims::new(6, 2).unwrap()).unwrap();
    assert!(plan.parameters().is_empty());
    let params: Params<f64> = plan.init(0).unwrap();
    let call = plan.call(&params, &rows, &rows).unwrap();
    let expected = table::<f64>(&config, &rows, 6).unwrap();
    let mut rng = Rng::new(1);
    let x: Vec<f64> = (0..24).map(|_| rng.normal()).collect();
    let embed = |x: &[f64], mode| {
        let mut y = vec![f64::NAN; 24];
        call.embed(View::new(x, [2, 2, 6]).unwrap(), ViewMut::new(&mut y, [2, 2, 6]).unwrap(), mode)
            .unwrap();
        y
    };
    let sum: Vec<f64> = x.iter().zip(&expected).map(|(x, e)| x + e).collect();
    assert_eq!(embed(&x, Mode::Evaluate), sum);
    let train = Mode::Train { seed: 3, call: 4 };
    let dropped = embed(&x, train);
    assert!(dropped.contains(&0.0) && dropped.iter().zip(&sum).all(|(d, s)| *d == 0.0 || (d - s / 0.7).abs() < 1e-12));
    // The adjoint: dx is what each x[i] moves, in the same dropout.
    let (mut d_out, mut dx) = (vec![1.0; 24], vec![f64::NAN; 24]);
    let views = (
        ViewMut::new(&mut d_out, [2, 2, 6]).unwrap(),
        ViewMut::new(&mut dx, [2, 2, 6]).unwrap(),
    );
    call.embed_adjoint(views.0, views.1, train, &mut params.zeros_like()).unwrap();
    for i in 0..24 {
        let at_step = |step: f64| {
            let mut x = x.clone();
            x[i] += step;
            embed(&x, train).iter().sum::<f64>()
        };
        // Linear, so a step of 1 is exact but for the rounding of a sum of 24 terms.
        let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
        assert!((dx[i] - difference).abs() <= 8.0 * 24.0 * 24.0 * f64::EPSILON);
    }
}

#[test]
fn beside_the_embeddings_or_inside_attention() {
    let at = Positions::range(3..5);
    let dims = Dims::new(4, 2).unwrap();
    let beside = Encoding::from(Sinusoidal::paper().concatenated(6)).plan(dims).unwrap();
    assert_eq!(beside.concat_width(), 6);
    let params: Params<f32> = beside.init(0).unwrap();
    let mut y = [f32::NAN; 20];
    let call = beside.call(&params, &at, &at).unwrap();
    call.embed(
        View::new(&[9.0; 8], [1, 2, 4]).unwrap(),
        ViewMut::new(&mut y, [1, 2, 10]).unwrap(),
        Mode::Evaluate,
    )
    .unwrap();
    let expected = table::<f32>(&Sinusoidal::paper(), &at, 6).unwrap();
    assert_eq!((&y[..4], &y[4..10], &y[14..]), (&[9.0; 4][..], &expected[..6], &expected[6..]));

    // DETR and Shortformer: queries and keys at their own positions; embeddings as they were.
    let config = Sinusoidal::paper().added_to(AddTo::AttentionInputs);
    let inside = Encoding::from(config.clone()).plan(dims).unwrap();
    let keys = Positions::range(0..5);
    let call = inside.call(&params, &at, &keys).unwrap();
    assert!(!call.adds_at(Site::Embedding) && !call.adds_at(Site::Query));
    let (mut q, mut k) = ([0.0f32; 8], [0.0f32; 20]);
    call.add(Site::QueryInput, ViewMut::new(&mut q, [1, 2, 4]).unwrap(), Mode::Evaluate)
        .unwrap();
    call.add(Site::KeyInput, ViewMut::new(&mut k, [1, 5, 4]).unwrap(), Mode::Evaluate)
        .unwrap();
    assert_eq!(q.to_vec(), table::<f32>(&config, &at, 4).unwrap());
    assert_eq!(k.to_vec(), table::<f32>(&config, &keys, 4).unwrap());
    assert_eq!(q, k[12..]);
}

#[test]
fn steps_of_a_diffusion_process() {
    let steps = [0.0, 0.5, 999.0, -3.25];
    for (flip, shift, width) in [(false, 1.0, 8), (true, 0.0, 8), (true, 1.0, 9), (false, 0.0, 2)] {
        let mut out = vec![f64::NAN; 4 * width];
        timestep(&steps, flip, shift, ViewMut::new(&mut out, [4, width]).unwrap()).unwrap();
        for (t, step) in steps.into_iter().enumerate() {
            let expected = reference::timestep(step, width, 1e4, shift, flip);
            let same = |(g, e): (&f64, f64)| (g - e).abs() <= bound::<f64>(step, 1e4);
            assert!(out[t * width..][..width].iter().zip(expected).all(same));
        }
    }
    let mut out = [-7.0f32; 8];
    let refused = timestep(&[f64::NAN], false, 1.0, ViewMut::new(&mut out, [1, 8]).unwrap());
    assert!(matches!(refused, Err(Error::NonFinite { .. })));
    let refused = timestep(&[1.0], false, 1.0, ViewMut::new(&mut out, [4, 2]).unwrap());
    assert!(matches!(refused, Err(Error::Shape { .. })));
    let refused = timestep(&[1.0; 4], false, 1.0, ViewMut::new(&mut out, [4, 2]).unwrap());
    assert!(matches!(refused, Err(Error::Invalid { what: "width", .. })) && out == [-7.0; 8]);
}

#[test]
fn half_precision_is_a_last_rounding() {
    // Positions that bf16 cannot tell apart have rows of their own.
    let at = Positions::range(256..258);
    let exact = table::<f64>(&Sinusoidal::paper(), &at, 8).unwrap();
    let given = table::<half::bf16>(&Sinusoidal::paper(), &at, 8).unwrap();
    let near = |(g, e): (&half::bf16, &f64)| (f64::from(g.to_f32()) - e).abs() <= e.abs() / 256.0;
    assert!(given.iter().zip(&exact).all(near));
    assert_ne!(given[..8], given[8..]);
}

#[test]
fn is_plain_data() {
    let encoding = Encoding::from(crate::embed::Learned::roberta(514, 1).with_overflow(crate::embed::Overflow::InterpolateTo(600)))
        .with(Sinusoidal::timestep(true, 0.5).added_to(AddTo::AttentionInputs))
        .with(crate::input::InputTable::new(7).projected());
    let text = serde_json::to_string(&encoding).unwrap();
    assert_eq!(serde_json::from_str::<Encoding>(&text).unwrap(), encoding);
    assert!(text.contains(r#""layout":"cos_first","exponent":{"half":{"shift":0.5}}"#), "{text}");
}

#[test]
fn says_what_it_is_in_one_line() {
    assert_eq!(Sinusoidal::paper().to_string(), "sinusoidal(interleaved, base 10000)");
    assert_eq!(
        Sinusoidal::fairseq(1).to_string(),
        "sinusoidal(sin first, base 10000, exponent i/(d/2 - 1), offset 2, padding row 1)"
    );
    assert_eq!(
        Sinusoidal::detr().with_base(20.0).added_to(AddTo::AttentionInputs).to_string(),
        "sinusoidal(interleaved, base 20, axes [0, 1], on query and key inputs)"
    );
}
