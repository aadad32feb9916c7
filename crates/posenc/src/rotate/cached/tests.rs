use super::*;
use crate::Error;
use crate::real::Element;
use crate::rng::Rng;
use crate::rotate::{LongRope, Magnitude, Pairing, Precision, Turn, Yarn};
use crate::view::ViewMut;

const WIDTH: usize = 32;
const PAIRINGS: [Pairing; 2] = [Pairing::Halves, Pairing::Interleaved];

/// What one rounding is off by at most, in proportion, in f32 and in bf16: half the step from 1 to the next number.
const F32: f64 = 1.0 / (1u64 << 24) as f64;
const BF16: f64 = 1.0 / 256.0;

fn keys<T: Element>(len: usize) -> Vec<T> {
    let mut rng = Rng::new(26);
    (0..len * WIDTH).map(|_| T::narrow(T::Real::of(rng.normal()))).collect()
}

fn turn<T: Element>(rotation: &Rotation<T::Real>, keys: &[T]) -> Vec<T> {
    let mut turned = keys.to_vec();
    let len = keys.len() / WIDTH;
    rotation
        .apply(Turn::Forward, ViewMut::new(&mut turned, [1, 1, len, WIDTH]).unwrap())
        .unwrap();
    turned
}

fn wide<T: Element>(x: T) -> f64 {
    x.widen().to_f64()
}

/// The largest difference of a coordinate, in proportion to the length of its pair.
fn worst<T: Element>(a: &[T], b: &[T], pairing: Pairing) -> f64 {
    let mut worst = 0.0f64;
    for (a, b) in a.chunks(WIDTH).zip(b.chunks(WIDTH)) {
        for i in 0..WIDTH / 2 {
            let pair = match pairing {
                Pairing::Halves => [i, WIDTH / 2 + i],
                _ => [2 * i, 2 * i + 1],
            };
            let length = pair.map(|j| wide(b[j]).powi(2)).iter().sum::<f64>().sqrt();
            for j in pair {
                // Written so that NaN fails.
                let off = (wide(a[j]) - wide(b[j])).abs() / length;
                worst = if off <= worst { worst } else { off };
            }
        }
    }
    worst
}

fn dynamic(pairing: Pairing) -> Rotary {
    Rotary::new(pairing).with_scaling(Scaling::Dynamic {
        factor: 2.0,
        original_len: 8,
    })
}

fn longrope(pairing: Pairing) -> Rotary {
    Rotary::new(pairing).with_scaling(Scaling::Longrope(LongRope {
        short_factor: vec![1.0; WIDTH / 2],
        long_factor: (0..WIDTH / 2).map(|i| 1.0 + i as f64).collect(),
        original_len: 8,
        factor: 4.0,
        magnitude: Magnitude::Own,
    }))
}

/// Turned, stored, and moved to other positions: what keys turned there at once are. With and without a table factor, in exact and reference precision.
///
/// Bound, of a pair's length: in f32 the stored key is off by 3 roundings, and so is what it is turned into, and so is what it is compared with: 9·2⁻²⁴. In bf16 one more rounding of each of the
/// three results: the first is a vector's, up to √2 of a coordinate's: (2 + √2)·2⁻⁸.
#[test]
fn bug_family_26_moved_keys_are_keys_that_were_turned_there() {
    for pairing in PAIRINGS {
        for scaling in [Scaling::Unscaled, Scaling::Yarn(Yarn::new(4.0, 4096))] {
            for precision in [Precision::Exact, Precision::Reference] {
                let rotary = Rotary {
                    precision,
                    ..Rotary::new(pairing).with_scaling(scaling.clone())
                };
                // Sinks stay, the window moves up, and one token far away moves across it.
                let from = Positions::whole(&[0, 1, 2, 3, 1004, 1005, 1006, 100_000, -7]);
                let to = Positions::whole(&[0, 1, 2, 3, 4, 5, 6, 7, 12]);
                let plain: Vec<f32> = keys(9);
                let at = |at: &Positions| rotary.rotation::<f32>(WIDTH, at).unwrap();
                let moving = rotary.rerotation::<f32>(WIDTH, &from, &rotary, &to).unwrap();
                let moved = turn(&moving, &turn(&at(&from), &plain));
                let off = worst(&moved, &turn(&at(&to), &plain), pairing);
                assert!(off <= 9.0 * F32, "{rotary}: {} f32 roundings", off / F32);

                let plain: Vec<half::bf16> = keys(9);
                let moved = turn(&moving, &turn(&at(&from), &plain));
                let off = worst(&moved, &turn(&at(&to), &plain), pairing);
                assert!(
                    off <= (2.0 + 2f64.sqrt()) * BF16 + 9.0 * F32,
                    "{rotary}: {} bf16 roundings",
                    off / BF16
                );

                // There and back, and not at all.
                let back = rotary.rerotation::<f32>(WIDTH, &to, &rotary, &from).unwrap();
                let keys: Vec<f32> = turn(&at(&from), &keys(9));
                assert!(worst(&turn(&back, &turn(&moving, &keys)), &keys, pairing) <= 2.0 * 2f64.sqrt() * 3.0 * F32);
                let still = rotary.rerotation::<f32>(WIDTH, &from, &rotary, &from).unwrap();
                assert!(worst(&turn(&still, &keys), &keys, pairing) <= 3.0 * F32);
            }
        }
    }
}

/// A rotation by the difference, which is what shifting caches is often written as, has the table factor twice and angles that no checkpoint knows.
#[test]
fn a_rotation_by_the_difference_is_another() {
    let yarn = Rotary::new(Pairing::Halves).with_scaling(Scaling::Yarn(Yarn::new(4.0, 4096)));
    let rounded = Rotary {
        precision: Precision::Reference,
        ..Rotary::new(Pairing::Halves)
    };
    for rotary in [yarn, rounded] {
        let (from, to, by) = (Positions::whole(&[100_003]), Positions::whole(&[3]), Positions::whole(&[-100_000]));
        let plain: Vec<f64> = keys(1);
        let at = |at: &Positions| rotary.rotation::<f64>(WIDTH, at).unwrap();
        let (turned, fresh) = (turn(&at(&from), &plain), turn(&at(&to), &plain));
        let moving = rotary.rerotation::<f64>(WIDTH, &from, &rotary, &to).unwrap();
        assert!(worst(&turn(&moving, &turned), &fresh, Pairing::Halves) <= 1e-14);
        assert!(worst(&turn(&at(&by), &turned), &fresh, Pairing::Halves) > 1e-4);
    }
}

/// A thousand shifts by one (vllm-project/vllm#43374). In f32 errors add up, within 3·√2 roundings a step: the rounded table is no exact rotation, and errs the same way each time. In bf16
/// nothing is left: a pair that turns by less than half a unit of what is stored never moves, and others turn by too much or too little.
#[test]
fn bug_family_26_repeated_turning_drifts_in_f32_and_is_lost_in_bf16() {
    const STEPS: usize = 1000;
    let rotary = Rotary::new(Pairing::Halves);
    let one = rotary
        .rerotation::<f32>(WIDTH, &Positions::range(0..1), &rotary, &Positions::range(1..2))
        .unwrap();
    let far = rotary.rotation::<f32>(WIDTH, &Positions::whole(&[STEPS as i64])).unwrap();

    let plain: Vec<f32> = keys(1);
    let shifted = (0..STEPS).fold(plain.clone(), |keys, _| turn(&one, &keys));
    let drift = worst(&shifted, &turn(&far, &plain), Pairing::Halves);
    assert!(drift <= (STEPS as f64 + 1.0) * 3.0 * 2f64.sqrt() * F32);
    assert!(drift > 9.0 * F32, "more than one turn is off by: {} roundings", drift / F32);

    let plain: Vec<half::bf16> = keys(1);
    let shifted = (0..STEPS).fold(plain.clone(), |keys, _| turn(&one, &keys));
    let at_once = turn(&far, &plain);
    // The slowest pair turns by 10000^(−30/32) = 1.8e-4 a step, 0.18 radians in all, and has not moved.
    let slow = [WIDTH / 2 - 1, WIDTH - 1];
    assert_eq!(slow.map(|j| shifted[j]), slow.map(|j| plain[j]));
    assert_ne!(slow.map(|j| at_once[j]), slow.map(|j| plain[j]));
    let stalled = worst(&shifted, &at_once, Pairing::Halves);
    eprintln!(
        "after {STEPS} turns by one: f32 off by {} roundings, bf16 by {stalled}",
        drift / F32
    );
    assert!(stalled > 0.1);
}

/// transformers turns each key by the frequencies of the call that read it, so that under dynamic NTK a cache is not what a whole pass gives; turned anew at each crossing it is.
///
/// Bound: as above, a turn per crossing (nine of them) and the two that are compared: 11·3·√2 roundings.
#[test]
fn bug_family_08_dynamic_ntk_and_cached_keys() {
    for pairing in PAIRINGS {
        let rotary = dynamic(pairing);
        let plain: Vec<f32> = keys(16);
        let whole = turn(&rotary.rotation(WIDTH, &Positions::range(0..16)).unwrap(), &plain);
        let (mut as_read, mut turned_anew): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
        let mut crossings = 0;
        for len in 1..=16usize {
            let (old, new) = (rotary.clone().at_length(len - 1), rotary.clone().at_length(len));
            let cached = Positions::range(0..len as i64 - 1);
            if let Some(crossing) = rotary.crossing(len - 1, len) {
                assert_eq!((crossing.original_len, crossing.old_len, crossing.new_len), (8, len - 1, len));
                turned_anew = turn(&old.rerotation(WIDTH, &cached, &new, &cached).unwrap(), &turned_anew);
                crossings += 1;
            }
            let key = turn(
                &new.rotation(WIDTH, &Positions::range(len as i64 - 1..len as i64)).unwrap(),
                &plain[(len - 1) * WIDTH..][..WIDTH],
            );
            as_read.extend(&key);
            turned_anew.extend(&key);
        }
        assert_eq!(crossings, 8, "from the ninth token on, each");
        assert!(worst(&turned_anew, &whole, pairing) <= 11.0 * 3.0 * 2f64.sqrt() * F32);
        assert!(worst(&as_read, &whole, pairing) > 0.1, "what a cache holds that is not turned anew");

        // Decided once: nothing to turn anew, and steps are the whole.
        let fixed = rotary.at_length(16);
        assert!((0..40).all(|len| fixed.crossing(len, len + 1).is_none()));
        let steps: Vec<f32> = (0..16)
            .flat_map(|t| {
                turn(
                    &fixed.rotation(WIDTH, &Positions::range(t..t + 1)).unwrap(),
                    &plain[t as usize * WIDTH..][..WIDTH],
                )
            })
            .collect();
        assert_eq!(steps, whole);
    }
}

/// LongRoPE changes frequencies once, between the trained length and the next token, in either direction; its table factor stays.
#[test]
fn bug_family_09_longrope_crosses_once_and_says_so() {
    let rotary = longrope(Pairing::Halves);
    let crossed: Vec<usize> = (0..40).filter(|len| rotary.crossing(*len, len + 1).is_some()).collect();
    assert_eq!(crossed, [8]);
    let crossing = rotary.crossing(8, 9).unwrap();
    assert_eq!(rotary.crossing(20, 3).map(|c| c.original_len), Some(8), "a cache that is cut back");
    assert!(crossing.to_string().contains("from 8 to 9 tokens, trained on 8"));

    let at = Positions::range(0..8);
    let plain: Vec<f32> = keys(8);
    let (old, new) = (rotary.clone().at_length(8), rotary.clone().at_length(9));
    let cached = turn(&old.rotation(WIDTH, &at).unwrap(), &plain);
    let fresh = turn(&new.rotation(WIDTH, &at).unwrap(), &plain);
    let anew = turn(&old.rerotation(WIDTH, &at, &new, &at).unwrap(), &cached);
    assert!(worst(&anew, &fresh, Pairing::Halves) <= 9.0 * F32);
    assert!(worst(&cached, &fresh, Pairing::Halves) > 0.1);
    // vLLM serves 9 tokens or more by the long frequencies from the first token on; transformers does not.
    assert_eq!(new.frequencies(WIDTH, 1).unwrap(), rotary.frequencies(WIDTH, 9).unwrap());
    assert_ne!(new.frequencies(WIDTH, 1).unwrap(), rotary.frequencies(WIDTH, 1).unwrap());
}

/// vLLM sets the length of dynamic NTK to s·L once, which makes the base (s² − s + 1)^(r/(r−2)) times as large, from the first token on.
///
/// Bound: a power of a power, on both sides: a few ε, times the logarithm of the frequency, below 10.
#[test]
fn dynamic_ntk_fixed_as_in_vllm() {
    let (s, r) = (2.0f64, WIDTH as f64);
    let base = 1e4 * (s * s - s + 1.0).powf(r / (r - 2.0));
    let fixed = dynamic(Pairing::Halves).at_length(16).frequencies(WIDTH, 1).unwrap();
    for (i, f) in fixed.pairs.iter().enumerate() {
        let expected = base.powf(-2.0 * i as f64 / r);
        assert!((f - expected).abs() <= 64.0 * f64::EPSILON * expected, "pair {i}");
    }
}

#[test]
fn only_scalings_that_look_at_a_length_cross() {
    let yarn = Rotary::new(Pairing::Halves).with_scaling(Scaling::Yarn(Yarn::new(4.0, 8)));
    assert!((0..40).all(|len| yarn.crossing(len, len + 1).is_none()));
    assert!(dynamic(Pairing::Halves).crossing(3, 8).is_none());
    let json = serde_json::to_string(&yarn).unwrap();
    assert!(!json.contains("length\""), "written only where it says something: {json}");
    let fixed = dynamic(Pairing::Halves).at_length(12);
    let json = serde_json::to_string(&fixed).unwrap();
    assert_eq!(serde_json::from_str::<Rotary>(&json).unwrap(), fixed);
}

#[test]
fn tokens_without_a_position_are_left_or_given_one() {
    let rotary = Rotary::new(Pairing::Halves).with_scaling(Scaling::Yarn(Yarn::new(4.0, 16)));
    let at = Positions::range(3..6);
    let some = at.clone().with_presence(&[true, false, true]).unwrap();
    let plain: Vec<f64> = keys(3);
    let turned = |at: &Positions| turn(&rotary.rotation::<f64>(WIDTH, at).unwrap(), &plain);
    let moving = rotary.rerotation::<f64>(WIDTH, &some, &rotary, &at).unwrap();
    assert!(worst(&turn(&moving, &turned(&some)), &turned(&at), Pairing::Halves) <= 1e-14);
    let still = rotary.rerotation::<f64>(WIDTH, &some, &rotary, &some).unwrap();
    assert_eq!(turn(&still, &turned(&some))[WIDTH..2 * WIDTH], plain[WIDTH..2 * WIDTH]);
    // Undone, they are what they were too, whatever the table factor.
    let mut undone = turned(&some);
    let shape = [1, 1, 3, WIDTH];
    let rotation = rotary.rotation::<f64>(WIDTH, &some).unwrap();
    rotation.apply(Turn::Inverse, ViewMut::new(&mut undone, shape).unwrap()).unwrap();
    assert!(worst(&undone, &plain, Pairing::Halves) <= 1e-14);
}

#[test]
fn rotations_that_do_not_fit_are_refused() {
    let rotary = |pairing| Rotary::new(pairing);
    let (at, more) = (Positions::range(0..3), Positions::range(0..4));
    let halves = rotary(Pairing::Halves);
    assert!(matches!(
        halves.rerotation::<f32>(WIDTH, &at, &halves, &more),
        Err(Error::Shape { .. })
    ));
    let narrow = halves.clone().with_rotary_dim(8);
    assert!(matches!(
        halves.rerotation::<f32>(WIDTH, &at, &narrow, &at),
        Err(Error::Shape { .. })
    ));
    let other = rotary(Pairing::Interleaved);
    assert!(matches!(
        halves.rerotation::<f32>(WIDTH, &at, &other, &at),
        Err(Error::Unsupported { .. })
    ));
    let two = Positions::whole_rows(&[0, 1, 2, 5, 6, 7], 2).unwrap();
    let three = Positions::whole_rows(&[0; 9], 3).unwrap();
    assert!(matches!(
        halves.rerotation::<f32>(WIDTH, &two, &halves, &three),
        Err(Error::Shape { .. })
    ));
    let spread = halves.rerotation::<f32>(WIDTH, &at, &halves, &two).unwrap();
    assert_eq!((spread.batch(), spread.len()), (2, 3));
}
