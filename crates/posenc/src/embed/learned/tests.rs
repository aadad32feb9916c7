use super::*;
use crate::dropout::Mode;
use crate::encoding::Encoding;
use crate::params::Params;
use crate::reference;
use crate::rng::Rng;
use half::{bf16, f16};

fn numbers(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal()).collect()
}

/// Embeds zeros `[batch, len, dim]` with the table 0, 1, 2, … of one column: what comes out is the row that was read.
fn rows_read(learned: &Learned, at: &Positions, batch: usize) -> Result<Vec<f64>> {
    let plan = Encoding::from(learned.clone()).plan(Dims::new(1, 1)?)?;
    let mut params: Params<f64> = plan.init(0)?;
    (0..learned.max_len).for_each(|r| params.flat_mut()[r] = r as f64);
    let (x, mut y) = (vec![0.0; batch * at.len()], vec![f64::NAN; batch * at.len()]);
    let shape = [batch, at.len(), 1];
    plan.call(&params, at, at)?
        .embed(View::new(&x, shape)?, ViewMut::new(&mut y, shape)?, Mode::Evaluate)?;
    Ok(y)
}

/// The adjoint of a linear map equals its finite differences with any step: what differs is rounding of sums of n terms.
fn check_gradients(learned: Learned, at: &Positions, batch: usize, mode: Mode) {
    let dims = Dims::new(3, 1).unwrap();
    let plan = Encoding::from(learned).plan(dims).unwrap();
    let mut params: Params<f64> = plan.init(3).unwrap();
    let wide = 3 + plan.concat_width();
    let (len, n) = (at.len(), batch * at.len());
    let (mut x, w) = (numbers(1, n * 3), numbers(2, n * wide));
    let loss = |params: &Params<f64>, x: &[f64]| -> f64 {
        let mut y = vec![f64::NAN; n * wide];
        let out = ViewMut::new(&mut y, [batch, len, wide]).unwrap();
        let call = plan.call(params, at, at).unwrap();
        call.embed(View::new(x, [batch, len, 3]).unwrap(), out, mode).unwrap();
        y.iter().zip(&w).map(|(y, w)| y * w).sum()
    };
    let (mut d_out, mut dx, mut grads) = (w.clone(), vec![f64::NAN; n * 3], params.zeros_like());
    let call = plan.call(&params, at, at).unwrap();
    let d_out = ViewMut::new(&mut d_out, [batch, len, wide]).unwrap();
    call.embed_adjoint(d_out, ViewMut::new(&mut dx, [batch, len, 3]).unwrap(), mode, &mut grads)
        .unwrap();
    drop(call);
    // Each loss is a sum of n·wide products of normal numbers and their dropout scale: its rounding is below 4 (n·wide)² ε.
    let bound = 8.0 * (n * wide) as f64 * (n * wide) as f64 * f64::EPSILON;
    for i in 0..x.len() {
        let mut at_step = |step: f64| {
            let kept = x[i];
            x[i] += step;
            let value = loss(&params, &x);
            x[i] = kept;
            value
        };
        let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
        assert!((dx[i] - difference).abs() <= bound, "x[{i}]: {} against {difference}", dx[i]);
    }
    for i in 0..params.size() {
        let mut at_step = |step: f64| {
            let kept = params.flat()[i];
            params.flat_mut()[i] += step;
            let value = loss(&params, &x);
            params.flat_mut()[i] = kept;
            value
        };
        let difference = (at_step(1.0) - at_step(-1.0)) / 2.0;
        let given = grads.flat()[i];
        assert!((given - difference).abs() <= bound, "table[{i}]: {given} against {difference}");
    }
}

#[test]
fn adjoint_matches_finite_differences() {
    let train = Mode::Train { seed: 5, call: 7 };
    let repeated = Positions::whole_rows(&[4, 0, 4, 4, 1, 0, 2, 4], 2).unwrap();
    let holes = repeated
        .clone()
        .with_presence_rows(&[true, false, true, true, true, true, false, true], 2)
        .unwrap();
    let far = Positions::whole(&[0, 3, 11, 7]);
    for mode in [Mode::Evaluate, train] {
        check_gradients(Learned::new(5).with_dropout(0.4), &repeated, 2, mode);
        check_gradients(Learned::new(5).with_dropout(0.4).concatenated(2), &repeated, 2, mode);
        check_gradients(Learned::new(8).with_offset(2).with_padding_row(3), &holes, 2, mode);
        for overflow in [Overflow::Clamp, Overflow::Wrap, Overflow::Interpolate, Overflow::InterpolateTo(12)] {
            check_gradients(Learned::new(5).with_offset(1).with_overflow(overflow), &far, 3, mode);
        }
    }
}

#[test]
fn lookup_copies_bits_of_any_type() {
    let ids = Positions::whole_rows(&[2, 0, 2, 1, 1, 0], 2).unwrap();
    let expected = [2, 0, 2, 1, 1, 0];
    // Quiet and signalling NaNs with payloads, −0, a subnormal: arithmetic would change some of them.
    let words = [0x7FC0_1234u32, 0x8000_0000, 0x7F80_0001, 0x0000_0001, 0xFFC0_0BAD, 0x3F80_0000];
    let table: Vec<f32> = words.iter().map(|w| f32::from_bits(*w)).collect();
    let mut out = [f32::NAN; 12];
    lookup(&ids, View::new(&table, [3, 2]).unwrap(), ViewMut::new(&mut out, [2, 3, 2]).unwrap()).unwrap();
    for (t, id) in expected.iter().enumerate() {
        assert_eq!([out[2 * t].to_bits(), out[2 * t + 1].to_bits()], words[2 * id..2 * id + 2]);
    }
    let table: Vec<f16> = [0x7D01u16, 0x8000, 0x0001].map(f16::from_bits).to_vec();
    let mut out = [f16::ONE; 6];
    lookup(&ids, View::new(&table, [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
    assert!(out.iter().zip(expected).all(|(o, id)| o.to_bits() == table[id].to_bits()));
    let table: Vec<bf16> = [0x7F81u16, 0x8000, 0x0001].map(bf16::from_bits).to_vec();
    let mut out = [bf16::ONE; 6];
    lookup(&ids, View::new(&table, [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
    assert!(out.iter().zip(expected).all(|(o, id)| o.to_bits() == table[id].to_bits()));
    let mut out = [9u8; 6];
    lookup(&ids, View::new(b"abc", [3, 1]).unwrap(), ViewMut::new(&mut out, [2, 3, 1]).unwrap()).unwrap();
    assert_eq!(&out, b"cacbba");
}

#[test]
fn a_range_a_strided_table_and_listed_ids_agree() {
    let (rows, width, len, batch) = (9, 3, 4, 3);
    let table = numbers(4, rows * width);
    let wide: Vec<f64> = table.chunks(width).flat_map(|row| [row, &[f64::NAN; 2]].concat()).collect();
    let expected = reference::learned::lookup(&[3, 4, 5, 6], &table, width).repeat(batch);
    let listed = Positions::whole(&[3, 4, 5, 6]);
    let strided = View::strided(&wide, [rows, width], [width + 2, 1]).unwrap();
    for (ids, table) in [
        (Positions::range(3..7), View::new(&table, [rows, width]).unwrap()),
        (Positions::range(3..7), strided),
        (listed.clone(), strided),
    ] {
        let mut out = vec![f64::NAN; batch * len * width];
        lookup(&ids, table, ViewMut::new(&mut out, [batch, len, width]).unwrap()).unwrap();
        assert_eq!(out, expected);
    }
    // Into every other row of a wider buffer: what lies between is not written.
    let mut out = vec![-7.0; 2 * len * 2 * width];
    let view = ViewMut::strided(&mut out, [2, len, width], [len * 2 * width, 2 * width, 1]).unwrap();
    lookup(&Positions::range(3..7), View::new(&table, [rows, width]).unwrap(), view).unwrap();
    for (t, row) in out.chunks(2 * width).enumerate() {
        assert_eq!(row[..width], expected[t * width..(t + 1) * width]);
        assert_eq!(row[width..], [-7.0; 3]);
    }
}

#[test]
fn empty_shapes_work() {
    let table = [1.0f32; 6];
    for (shape, ids, width) in [
        ([0, 3, 2], Positions::strict::<f32>(&[], 0).unwrap(), 2),
        ([3, 0, 2], Positions::strict::<f32>(&[], 3).unwrap(), 2),
        ([2, 3, 0], Positions::range(0..3), 0),
        ([0, 0, 0], Positions::absent(0), 0),
    ] {
        let table = View::new(&table[..3 * width], [3, width]).unwrap();
        lookup(&ids, table, ViewMut::new(&mut [], shape).unwrap()).unwrap();
        let mut d_table = vec![0.0f32; 3 * width];
        let d_out = View::<f32, 3>::new(&[], shape).unwrap();
        lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [3, width]).unwrap()).unwrap();
    }
    let none = View::<f32, 2>::new(&[], [0, 2]).unwrap();
    lookup(&Positions::absent(0), none, ViewMut::new(&mut [], [1, 0, 2]).unwrap()).unwrap();
    let past = lookup(&Positions::absent(1), none, ViewMut::new(&mut [0.0; 2], [1, 1, 2]).unwrap());
    assert!(matches!(past, Err(Error::PastTable { position: 0, rows: 0, .. })));
}

#[test]
fn a_refused_lookup_names_the_id_and_writes_nothing() {
    let table = [1.0f32, 2.0, 3.0];
    let refuse = |ids: Positions, batch: usize| {
        let mut out = [-7.0f32; 4];
        let view = ViewMut::new(&mut out[..batch * ids.len()], [batch, ids.len(), 1]).unwrap();
        let error = lookup(&ids, View::new(&table, [3, 1]).unwrap(), view).unwrap_err();
        let mut d_table = [-7.0f32; 3];
        let d_out = [1.0f32; 4];
        let d_out = View::new(&d_out[..batch * ids.len()], [batch, ids.len(), 1]).unwrap();
        assert_eq!(
            lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [3, 1]).unwrap()),
            Err(error.clone())
        );
        assert_eq!((out, d_table), ([-7.0; 4], [-7.0; 3]));
        error
    };
    let past = |position, batch, token| Error::PastTable {
        position,
        batch,
        token,
        rows: 3,
    };
    assert_eq!(refuse(Positions::whole_rows(&[0, 1, 2, 3], 2).unwrap(), 2), past(3, 1, 1));
    assert_eq!(refuse(Positions::range(1..5), 1), past(3, 0, 2));
    assert_eq!(refuse(Positions::whole(&[i64::MAX]), 1), past(i64::MAX, 0, 0));
    let negative = Error::Negative {
        position: -1,
        batch: 0,
        token: 1,
    };
    assert_eq!(refuse(Positions::whole(&[0, -1]), 1), negative);
    assert!(matches!(refuse(Positions::range(-1..2), 1), Error::Negative { position: -1, .. }));
    let fractional = Positions::real(&[0.0, 1.5]).unwrap();
    assert!(matches!(refuse(fractional, 1), Error::Fractional { value: 1.5, index: 1 }));
    assert!(matches!(refuse(Positions::grid(1, 2), 1), Error::Unsupported { .. }));
    assert!(matches!(
        refuse(Positions::whole_rows(&[0, 1, 2], 3).unwrap(), 2),
        Error::Shape { .. }
    ));
}

#[test]
fn ids_that_arrive_as_floats() {
    let table: Vec<f32> = (0..4).map(|i| i as f32).collect();
    let read = |ids: Positions| {
        let mut out = vec![f32::NAN; ids.len()];
        let view = ViewMut::new(&mut out, [1, ids.len(), 1]).unwrap();
        lookup(&ids, View::new(&table, [4, 1]).unwrap(), view).map(|()| out)
    };
    assert_eq!(read(Positions::strict(&[3.0f32, -0.0], 1).unwrap()).unwrap(), [3.0, 0.0]);
    assert_eq!(read(Positions::real(&[2.0, 1.0]).unwrap()).unwrap(), [2.0, 1.0]);
    let as_torch = Positions::truncated(&[2.999_999_8f32, -0.5, 0.999], 1).unwrap();
    assert_eq!(read(as_torch).unwrap(), [2.0, 0.0, 0.0]);
    assert!(matches!(read(Positions::real(&[1e300]).unwrap()), Err(Error::Imprecise { .. })));
}

#[test]
fn tokens_without_position_read_zeros_and_add_nothing() {
    let ids = Positions::whole(&[99, 1, -5]).with_presence(&[false, true, false]).unwrap();
    let mut out = [f32::NAN; 3];
    let table = [4.0f32, 5.0];
    lookup(&ids, View::new(&table, [2, 1]).unwrap(), ViewMut::new(&mut out, [1, 3, 1]).unwrap()).unwrap();
    assert_eq!(out, [0.0, 5.0, 0.0]);
    let mut d_table = [0.0f32; 2];
    let d_out = View::new(&[1.0f32, 2.0, 4.0], [1, 3, 1]).unwrap();
    lookup_adjoint(&ids, d_out, ViewMut::new(&mut d_table, [2, 1]).unwrap()).unwrap();
    assert_eq!(d_table, [0.0, 2.0]);
}

#[test]
fn adjoint_scatters_as_the_reference_does() {
    let (ids, rows, width) = ([1usize, 4, 1, 1, 0, 4], 6, 3);
    let d_out = numbers(8, ids.len() * width);
    let mut d_table = vec![0.0; rows * width];
    let at = Positions::whole_rows(&ids.map(|id| id as i64), 2).unwrap();
    let view = View::new(&d_out, [2, 3, width]).unwrap();
    lookup_adjoint(&at, view, ViewMut::new(&mut d_table, [rows, width]).unwrap()).unwrap();
    assert_eq!(d_table, reference::learned::lookup_adjoint(&ids, &d_out, rows, width));
    assert_eq!(d_table[2 * width..4 * width], [0.0; 6]);
}

#[test]
fn overflow_policies() {
    let at = Positions::whole(&[0, 3, 4, 9]);
    let read = |overflow| rows_read(&Learned::new(4).with_overflow(overflow), &at, 1);
    assert!(matches!(read(Overflow::Error), Err(Error::PastTable { position: 4, token: 2, .. })));
    assert_eq!(read(Overflow::Clamp).unwrap(), [0.0, 3.0, 3.0, 3.0]);
    assert_eq!(read(Overflow::Wrap).unwrap(), [0.0, 3.0, 0.0, 1.0]);
    let table: Vec<f64> = (0..4).map(f64::from).collect();
    let stretched = reference::learned::stretched(&table, 1, 10);
    let expected = [0, 3, 4, 9].map(|id| stretched[id]);
    for overflow in [Overflow::Interpolate, Overflow::InterpolateTo(10)] {
        for (given, expected) in read(overflow).unwrap().iter().zip(expected) {
            // A stretched coordinate below 4: its rounding is below 8 ε.
            assert!((given - expected).abs() <= 8.0 * f64::EPSILON, "{given} against {expected}");
        }
    }
    assert!(matches!(
        read(Overflow::InterpolateTo(9)),
        Err(Error::PastTable { position: 9, .. })
    ));
    // Negative ids have no row under any policy.
    for overflow in [Overflow::Clamp, Overflow::Wrap, Overflow::Interpolate] {
        let learned = Learned::new(4).with_overflow(overflow);
        assert!(matches!(
            rows_read(&learned, &Positions::whole(&[-1]), 1),
            Err(Error::Negative { .. })
        ));
        // Within the table nothing changes.
        assert_eq!(rows_read(&learned, &Positions::range(0..4), 1).unwrap(), [0.0, 1.0, 2.0, 3.0]);
    }
    // Rows below the offset are no positions: they are neither wrapped to nor stretched.
    let offset = Learned::new(4).with_offset(2);
    let wrapped = rows_read(&offset.clone().with_overflow(Overflow::Wrap), &at, 1).unwrap();
    assert_eq!(wrapped, [2.0, 3.0, 2.0, 3.0]);
    let stretched = rows_read(&offset.with_overflow(Overflow::Interpolate), &at, 1).unwrap();
    assert_eq!((stretched[0], stretched[3]), (2.0, 3.0));
}

#[test]
fn a_named_length_makes_decoding_equal_prefill() {
    let learned = Learned::new(4).with_overflow(Overflow::InterpolateTo(9));
    let all = rows_read(&learned, &Positions::range(0..9), 1).unwrap();
    for t in 0..9 {
        assert_eq!(rows_read(&learned, &Positions::range(t..t + 1), 1).unwrap(), [all[t as usize]]);
    }
}

/// transformers 1363, 1052, 9116, 11242, 14243, 15292 and rinna 3: how many tokens a table serves, and which row is the first token's.
#[test]
fn bug_family_23_learned_offsets() {
    let first_rows = |learned: &Learned, n: i64| rows_read(learned, &Positions::range(0..n), 1);
    assert_eq!(first_rows(&Learned::opt(3), 3).unwrap(), [2.0, 3.0, 4.0]);
    assert!(matches!(
        first_rows(&Learned::opt(3), 4),
        Err(Error::PastTable {
            position: 5,
            token: 3,
            rows: 5,
            ..
        })
    ));
    // RoBERTa: 514 rows serve 512 tokens; rinna's padding token is number 3, so its 514 rows serve 510.
    assert_eq!(first_rows(&Learned::roberta(514, 1), 512).unwrap()[0], 2.0);
    assert!(matches!(
        first_rows(&Learned::roberta(514, 1), 513),
        Err(Error::PastTable { position: 514, .. })
    ));
    assert_eq!(first_rows(&Learned::roberta(514, 3), 510).unwrap()[0], 4.0);
    assert!(first_rows(&Learned::roberta(514, 3), 511).is_err());
    // Left padding moves no token: rows are padding_idx + 1 + (tokens before it).
    let left = Positions::from_padding(&[false, false, true, true], 1).unwrap();
    assert_eq!(rows_read(&Learned::roberta(8, 1), &left, 1).unwrap(), [0.0, 0.0, 2.0, 3.0]);
    // The table may be called with the row of its padding token; that row adds nothing, whatever it holds.
    let by_row = Learned::new(8).with_padding_row(1);
    assert_eq!(
        rows_read(&by_row, &Positions::whole(&[1, 2, 3, 1]), 1).unwrap(),
        [0.0, 2.0, 3.0, 0.0]
    );
    // An offset that leaves no position is refused when it is planned.
    let plan = |learned: Learned| Encoding::from(learned).plan(Dims::new(4, 1).unwrap());
    assert!(matches!(
        plan(Learned::new(2).with_offset(2)),
        Err(Error::Invalid { what: "offset", .. })
    ));
}

#[test]
fn what_counts_is_the_ids_not_the_length() {
    assert_eq!(
        rows_read(&Learned::new(2), &Positions::packed(&[2, 1, 2]), 1).unwrap(),
        [0.0, 1.0, 0.0, 0.0, 1.0]
    );
    let rows = Positions::whole_rows(&[1, 0, 0, 1], 2).unwrap();
    assert_eq!(rows_read(&Learned::new(2), &rows, 2).unwrap(), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(
        rows_read(&Learned::new(2), &Positions::range(0..2), 2).unwrap(),
        [0.0, 1.0, 0.0, 1.0]
    );
    assert!(rows_read(&Learned::new(2), &rows, 3).is_err());
}

#[test]
fn half_precision_rounds_the_sum_once() {
    fn check<T: Element<Real = f32>>(unit: f64) {
        let plan = Encoding::from(Learned::new(5)).plan(Dims::new(4, 1).unwrap()).unwrap();
        let params: Params<f32> = plan.init(1).unwrap();
        let at = Positions::whole(&[4, 0, 4]);
        let x: Vec<T> = numbers(3, 12).iter().map(|x| T::narrow(*x as f32)).collect();
        let mut y = vec![T::narrow(f32::NAN); 12];
        let call = plan.call(&params, &at, &at).unwrap();
        call.embed(
            View::new(&x, [1, 3, 4]).unwrap(),
            ViewMut::new(&mut y, [1, 3, 4]).unwrap(),
            Mode::Evaluate,
        )
        .unwrap();
        for (i, id) in [4, 0, 4].into_iter().enumerate() {
            for c in 0..4 {
                let exact = f64::from(x[4 * i + c].widen()) + f64::from(params.flat()[4 * id + c]);
                // Half a unit of the storage, and one rounding in f32 before it.
                let bound = exact.abs() * (unit + f64::from(f32::EPSILON));
                assert!((f64::from(y[4 * i + c].widen()) - exact).abs() <= bound);
            }
        }
        // Gradients are summed in f32: 1 + 2⁻¹¹ would be lost in the storage.
        let mut grads = params.zeros_like();
        let mut d_out = vec![T::narrow(1.0); 12];
        d_out[..4].fill(T::narrow(1.0 / 2048.0));
        let mut dx = vec![T::narrow(f32::NAN); 12];
        let d_out = ViewMut::new(&mut d_out, [1, 3, 4]).unwrap();
        let dx = ViewMut::new(&mut dx, [1, 3, 4]).unwrap();
        call.embed_adjoint(d_out, dx, Mode::Evaluate, &mut grads).unwrap();
        assert_eq!(grads.flat()[16], 1.0 + 1.0 / 2048.0);
    }
    check::<f16>(1.0 / 2048.0);
    check::<bf16>(1.0 / 256.0);
}

#[test]
fn initial_values_go_by_name_and_come_back() {
    let dims = Dims::new(64, 1).unwrap();
    for (name, std) in [
        ("normal", 1.0),
        ("normal-0.02", 0.02),
        ("zeros", 0.0),
        ("xavier", (2.0f64 / 164.0).sqrt()),
    ] {
        let learned = Learned::new(100).with_init(name.parse().unwrap());
        let plan = Encoding::from(learned).plan(dims).unwrap();
        let mut params: Params<f64> = plan.init(11).unwrap();
        let first = params.flat().to_vec();
        let variance = first.iter().map(|x| x * x).sum::<f64>() / first.len() as f64;
        // Four standard errors of a sample variance over 6400 normal numbers (of uniform ones it is smaller).
        assert!((variance - std * std).abs() <= 4.0 * (2.0f64 / 6400.0).sqrt() * std * std, "{name}");
        params.flat_mut().fill(f64::NAN);
        params.reset(11);
        assert_eq!(params.flat(), first);
    }
}

#[test]
fn plans_refuse_what_cannot_work() {
    let refuse = |learned: Learned| Encoding::from(learned).plan(Dims::new(4, 1).unwrap()).unwrap_err();
    assert!(matches!(refuse(Learned::new(0)), Error::Zero { what: "max_len" }));
    assert!(matches!(refuse(Learned::new(4).concatenated(0)), Error::Zero { .. }));
    assert!(matches!(
        refuse(Learned::new(4).with_padding_row(4)),
        Error::Invalid { what: "padding_row", .. }
    ));
    assert!(matches!(
        refuse(Learned::new(4).with_dropout(-0.1)),
        Error::Invalid { what: "dropout", .. }
    ));
    assert!(matches!(
        refuse(Learned::new(4).with_overflow(Overflow::InterpolateTo(0))),
        Error::Zero { .. }
    ));
    let narrow = Encoding::from(Learned::new(4)).plan(Dims::new(4, 1).unwrap()).unwrap();
    let params: Params<f32> = narrow.init(0).unwrap();
    let call = narrow.call(&params, &Positions::range(0..1), &Positions::range(0..1)).unwrap();
    let (mut d_out, mut dx, mut grads) = ([1.0f32; 2], [-7.0f32; 2], params.zeros_like());
    let d_out = ViewMut::new(&mut d_out, [1, 1, 2]).unwrap();
    let error = call.embed_adjoint(d_out, ViewMut::new(&mut dx, [1, 1, 2]).unwrap(), Mode::Evaluate, &mut grads);
    assert!(matches!(error, Err(Error::Shape { .. })) && dx == [-7.0; 2]);
}

#[test]
fn a_padding_row_takes_no_part_in_a_stretch() {
    let plan = |learned: Learned| Encoding::from(learned).plan(Dims::new(4, 1).unwrap());
    for overflow in [Overflow::Interpolate, Overflow::InterpolateTo(6)] {
        let inside = Learned::new(3).with_padding_row(0).with_overflow(overflow);
        assert!(matches!(plan(inside), Err(Error::Invalid { what: "padding_row", .. })));
        let first = Learned::new(5).with_offset(2).with_padding_row(2).with_overflow(overflow);
        assert!(matches!(plan(first), Err(Error::Invalid { what: "padding_row", .. })));
        assert!(plan(Learned::roberta(5, 1).with_overflow(overflow)).is_ok(), "below the offset");
    }
}

#[test]
fn a_table_stretched_over_all_ids_is_a_table() {
    for len in [1 << 63, usize::MAX] {
        let learned = Learned::new(3).with_overflow(Overflow::InterpolateTo(len));
        let plan = Encoding::from(learned).plan(Dims::new(1, 1).unwrap()).unwrap();
        let mut params: Params<f64> = plan.init(0).unwrap();
        params.flat_mut().copy_from_slice(&[1.0, 2.0, 4.0]);
        let at = Positions::whole(&[0, i64::MAX]);
        let (x, mut y) = ([0.0; 2], [f64::NAN; 2]);
        let call = plan.call(&params, &at, &at).unwrap();
        let shape = [1, 2, 1];
        call.embed(View::new(&x, shape).unwrap(), ViewMut::new(&mut y, shape).unwrap(), Mode::Evaluate)
            .unwrap();
        assert_eq!(y, [1.0, 4.0]);
    }
}

#[test]
fn says_what_it_is_in_one_line() {
    let learned = Learned::roberta(514, 1)
        .with_overflow(Overflow::Clamp)
        .concatenated(8)
        .with_dropout(0.1);
    assert_eq!(
        learned.to_string(),
        "learned(max_len 514, offset 2, padding row 1, clamped past the end, 8 columns concatenated, dropout 0.1)"
    );
    assert_eq!(Learned::new(512).to_string(), "learned(max_len 512)");
}
