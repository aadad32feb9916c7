//! Position ids of Qwen-VL models and resized tables against what transformers and PyTorch computed (`golden/positions/make.py`).

use posenc::attention::{Inputs, Outputs, Workspace};
use posenc::embed::{Bicubic, Sampling, resize_grid, resize_linear};
use posenc::positions::{Cut, Documents, Mrope, Next, Padding, Patches, Segment, Shards};
use posenc::{Alibi, Attends, Attention, Dims, Encoding, Error, Mask, Mode, Pairing, Positions, Rng, Rotary, View, ViewMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

#[derive(Deserialize)]
struct Ids {
    rope_index: Vec<RopeIndex>,
    vision: Vec<Vision>,
}

#[derive(Deserialize)]
struct RopeIndex {
    model: String,
    padding: String,
    rows: Vec<Vec<Written>>,
    mask: Vec<Vec<u8>>,
    position_ids: Vec<Vec<Vec<i64>>>,
    deltas: Vec<i64>,
}

/// A segment as the script writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(Kind, usize),
    Picture(Kind, [usize; 3]),
    Video(Kind, [usize; 3], f64),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Text,
    Image,
    Video,
    Frame,
}

#[derive(Deserialize)]
struct Vision {
    grids: Vec<[usize; 3]>,
    position_ids: Vec<[i64; 2]>,
    cu_seqlens: Vec<i64>,
}

#[derive(Deserialize)]
struct Resized {
    linear: Vec<Linear>,
    bicubic: Vec<Grid>,
}

#[derive(Deserialize)]
struct Linear {
    align_corners: bool,
    table: Vec<[f64; 2]>,
    out: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
struct Grid {
    old: [usize; 2],
    new: [usize; 2],
    antialias: bool,
    align_corners: bool,
    scale: Option<[f64; 2]>,
    table: Vec<[f64; 2]>,
    out: Vec<[f64; 2]>,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/positions").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn patches([frames, height, width]: [usize; 3]) -> Patches {
    Patches { frames, height, width }
}

fn segment(written: &Written) -> Segment {
    match written {
        Written::Text(Kind::Text, n) => Segment::Text(*n),
        Written::Picture(Kind::Image, grid) => Segment::Image(patches(*grid)),
        // A frame of Qwen3-VL's is a video of one frame.
        Written::Picture(Kind::Frame, grid) => Segment::Video {
            patches: patches(*grid),
            seconds_per_grid: 1.0,
        },
        Written::Video(Kind::Video, grid, seconds_per_grid) => Segment::Video {
            patches: patches(*grid),
            seconds_per_grid: *seconds_per_grid,
        },
        _ => panic!("a segment's kind and its numbers do not fit"),
    }
}

fn rows(case: &RopeIndex) -> Vec<Vec<Segment>> {
    case.rows.iter().map(|row| row.iter().map(segment).collect()).collect()
}

fn rule(model: &str) -> Mrope {
    match model {
        "qwen2_vl" => Mrope::qwen2_vl(),
        "qwen2_5_vl" => Mrope::qwen2_5_vl(2.0),
        "qwen3_vl" => Mrope::qwen3_vl(),
        other => panic!("no rule for {other}"),
    }
}

/// Each id of each axis, and each delta, of three models' rows of text, pictures and videos, padded left and right.
#[test]
fn bug_family_16_mrope_ids_and_deltas_are_those_of_transformers() {
    let ids: Ids = read("mrope.json");
    assert_eq!(ids.rope_index.len(), 12);
    let mut differ = 0;
    for case in &ids.rope_index {
        let owned = rows(case);
        let rows: Vec<&[Segment]> = owned.iter().map(Vec::as_slice).collect();
        let padding = if case.padding == "left" { Padding::Left } else { Padding::Right };
        let placed = rule(&case.model).with_next(Next::Extent).positions(&rows, padding).unwrap();
        assert_eq!(placed.deltas, case.deltas, "{}", case.model);
        for (axis, by_row) in case.position_ids.iter().enumerate() {
            for (b, expected) in by_row.iter().enumerate() {
                let expected: Vec<_> = expected
                    .iter()
                    .zip(&case.mask[b])
                    .map(|(id, mask)| (*mask == 1).then_some(*id as f64))
                    .collect();
                let got: Vec<_> = (0..placed.positions.len()).map(|t| placed.positions.get(axis, b, t)).collect();
                assert_eq!(got, expected, "{} {} axis {axis} row {b}", case.model, case.padding);
            }
        }
        differ += usize::from(rule(&case.model).positions(&rows, padding).unwrap() != placed);
    }
    assert!(
        differ > 0,
        "no video here is longer than it is wide: the vectors cannot tell the two rules apart"
    );
}

/// huggingface/transformers#45381: a video of 84 frames that starts at 15 ends at 347 in time. The text behind it is at 348 in Qwen's own code and in transformers 5.2, and at 31, inside the
/// video, from 5.3 on.
#[test]
fn bug_family_16_text_behind_a_long_video() {
    let video = Segment::Video {
        patches: patches([84, 24, 32]),
        seconds_per_grid: 2.0,
    };
    let row = [Segment::Text(15), video, Segment::Text(10)];
    let placed = |next| Mrope::qwen2_5_vl(2.0).with_next(next).positions(&[&row], Padding::Left).unwrap();
    let (papers, later) = (placed(Next::Largest), placed(Next::Extent));
    let behind = 15 + 16_128;
    for axis in 0..3 {
        assert_eq!(papers.positions.get(axis, 0, behind), Some(348.0));
        assert_eq!(later.positions.get(axis, 0, behind), Some(31.0));
    }
    let last = |axis| papers.positions.get(axis, 0, behind - 1);
    assert_eq!([last(0), last(1), last(2)], [Some(347.0), Some(26.0), Some(30.0)]);
    // 358 positions for 16153 tokens, and 348 where the text lies inside the video: the answer begins behind the largest in both.
    assert_eq!((papers.deltas, later.deltas), (vec![358 - 16_153], vec![348 - 16_153]));
}

#[test]
fn timestamps_make_each_frame_a_picture() {
    let clip = patches([3, 4, 8]);
    let rule = Mrope::qwen3_vl();
    let frames = Segment::with_timestamps(clip, &[5, 4, 4]).unwrap();
    assert_eq!(frames.len(), 6);
    let placed = rule.positions(&[&frames], Padding::Right).unwrap();
    // 5 of text, then a frame 2 high and 4 wide at 5, text at 9.
    assert_eq!(
        (placed.positions.get(0, 0, 5), placed.positions.get(2, 0, 12)),
        (Some(5.0), Some(8.0))
    );
    assert_eq!(placed.positions.get(1, 0, 13), Some(9.0));
    // Without text between them frames follow each other.
    let video = Segment::Video {
        patches: clip,
        seconds_per_grid: 1.0,
    };
    let silent = rule.positions(&[&[video]], Padding::Right).unwrap();
    let none = Segment::with_timestamps(clip, &[0; 3]).unwrap();
    assert_eq!(silent, rule.positions(&[&none], Padding::Right).unwrap());
    assert!(matches!(Segment::with_timestamps(clip, &[1]), Err(Error::Shape { .. })));
}

#[test]
fn patches_lie_in_blocks_and_attend_within_their_frame() {
    for case in read::<Ids>("mrope.json").vision {
        let pictures: Vec<Patches> = case.grids.iter().map(|grid| patches(*grid)).collect();
        let at = Positions::patches(&pictures, 2).unwrap();
        let got: Vec<[i64; 2]> = (0..at.len())
            .map(|t| [0, 1].map(|axis| at.get(axis, 0, t).unwrap() as i64))
            .collect();
        assert_eq!(got, case.position_ids);
        assert_eq!(
            Documents::frames(&pictures).unwrap(),
            Documents::from_cu_seqlens(&case.cu_seqlens).unwrap()
        );
    }
}

#[test]
fn pictures_that_cannot_be_are_refused() {
    let rule = Mrope::qwen2_5_vl(2.0);
    let refused = |segment: Segment| rule.positions(&[&[Segment::Text(1), segment]], Padding::Left).unwrap_err();
    let image = |grid| refused(Segment::Image(patches(grid)));
    assert!(matches!(
        image([1, 5, 4]),
        Error::NotDivisible {
            what: "patches high",
            value: 5,
            ..
        }
    ));
    assert!(matches!(image([1, 4, 3]), Error::NotDivisible { what: "patches wide", .. }));
    assert!(matches!(image([0, 4, 4]), Error::Zero { what: "frames" }));
    assert!(matches!(image([1, 0, 4]), Error::Zero { .. }));
    let absurd = usize::MAX - 1;
    assert!(matches!(image([1, absurd, absurd]), Error::Invalid { .. }));
    assert!(matches!(image([absurd, 2, 2]), Error::Invalid { .. }));
    assert!(matches!(refused(Segment::Text(usize::MAX)), Error::Invalid { .. }));
    for seconds_per_grid in [-1.0, f64::NAN, f64::INFINITY, 1e300, 1e20] {
        let patches = patches([2, 2, 2]);
        assert!(matches!(
            refused(Segment::Video { patches, seconds_per_grid }),
            Error::Invalid { .. }
        ));
    }
    let none = Mrope { merge: 0, ..rule };
    let picture = Patches::picture(2, 2);
    assert!(matches!(
        none.positions(&[&[Segment::Image(picture)]], Padding::Left),
        Err(Error::Zero { what: "merge" })
    ));
    assert!(matches!(Positions::patches(&[picture], 0), Err(Error::Zero { what: "merge" })));
    assert!(matches!(
        Positions::patches(&[Patches::picture(3, 2)], 2),
        Err(Error::NotDivisible { .. })
    ));
    assert!(matches!(
        Positions::patches(&[Patches::picture(absurd, 2)], 2),
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        Documents::frames(&[Patches::picture(absurd, absurd)]),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(
        Documents::frames(&[patches([absurd, 0, absurd]), patches([0, absurd, absurd])])
            .unwrap()
            .count(),
        0
    );

    let placed = rule.positions(&[], Padding::Left).unwrap();
    assert!(placed.positions.is_empty() && placed.deltas.is_empty());
    let placed = rule.positions(&[&[], &[Segment::Text(2)]], Padding::Left).unwrap();
    assert_eq!((placed.deltas.clone(), placed.positions.get(2, 0, 1)), (vec![0, 0], None));
    assert!(matches!(placed.following(&[1], 1), Err(Error::Shape { .. })));
    assert!(matches!(placed.following(&[1, 2], usize::MAX), Err(Error::Invalid { .. })));
    assert!(matches!(placed.following(&[1, usize::MAX], 1), Err(Error::Invalid { .. })));
    let next = placed.following(&[0, 2], 2).unwrap();
    assert_eq!((next.axes(), next.get(1, 0, 1), next.get(2, 1, 0)), (3, Some(1.0), Some(2.0)));
}

/// Bound: at most 25 products of a table's entry (below 4 here) and a weight, which is a cubic of about ten operations on numbers below 8, each rounded to ε/2, on both sides:
/// 25 · 4 · 80 · ε = 2e-12.
fn close(what: &str, got: &[f64], expected: &[[f64; 2]]) {
    assert_eq!(got.len(), 2 * expected.len());
    for (got, expected) in got.iter().zip(expected.as_flattened()) {
        assert!(
            (got - expected).abs() <= 25.0 * 4.0 * 80.0 * f64::EPSILON,
            "{what}: {got} against {expected}"
        );
    }
}

#[test]
fn bug_family_24_resized_tables_are_those_of_pytorch() {
    let cases: Resized = read("resize.json");
    assert_eq!((cases.linear.len(), cases.bicubic.len()), (10, 12));
    let sampling = |align_corners| if align_corners { Sampling::Corners } else { Sampling::Centres };
    for case in cases.linear {
        let mut out = vec![f64::NAN; 2 * case.out.len()];
        resize_linear(
            View::new(case.table.as_flattened(), [case.table.len(), 2]).unwrap(),
            sampling(case.align_corners),
            ViewMut::new(&mut out, [case.out.len(), 2]).unwrap(),
        )
        .unwrap();
        close(&format!("{} to {}", case.table.len(), case.out.len()), &out, &case.out);
    }
    for case in cases.bicubic {
        let how = Bicubic {
            antialias: case.antialias,
            sampling: sampling(case.align_corners),
            scale: case.scale,
        };
        // With two rows in front, which stay.
        let table = [&[[7.0, 8.0], [9.0, -1.0]], case.table.as_slice()].concat();
        let mut out = vec![f64::NAN; 2 * (2 + case.out.len())];
        resize_grid(
            View::new(table.as_flattened(), [table.len(), 2]).unwrap(),
            2,
            case.old,
            how,
            case.new,
            ViewMut::new(&mut out, [2 + case.out.len(), 2]).unwrap(),
        )
        .unwrap();
        assert_eq!(out[..4], [7.0, 8.0, 9.0, -1.0]);
        close(&format!("{:?} to {:?}, {how:?}", case.old, case.new), &out[4..], &case.out);
    }
}

/// Two packed documents over two devices: each rank attends, at its own positions and under its own rows of the mask, from its queries to the keys of all ranks; put back in order, the
/// outputs are those of one device.
///
/// Bound: the same sums in another order, of at most 24 weights that sum to 1 and values below 4, over scores that are sums of 8 products: 1e-12.
#[test]
fn bug_family_14_shards_attend_as_the_whole_row_does() {
    let (heads, width) = (2, 8);
    let documents = Documents::from_lengths(&[8, 16]).unwrap();
    let n = documents.tokens();
    let plan = Encoding::from(Rotary::new(Pairing::Halves))
        .with(Alibi::new())
        .plan(Dims::new(heads * width, heads).unwrap())
        .unwrap();
    let params = plan.init::<f64>(1).unwrap();
    let mut rng = Rng::new(14);
    let [q, k, v] = [(); 3].map(|()| (0..n * heads * width).map(|_| rng.normal()).collect::<Vec<f64>>());
    let k_at = documents.positions();
    // Tokens by their index in the row, `[queries, heads, head_dim]`.
    let attend = |tokens: &[usize], q_at: &Positions| -> Vec<f64> {
        let row = heads * width;
        let q: Vec<f64> = tokens.iter().flat_map(|t| &q[t * row..][..row]).copied().collect();
        let mut attends = vec![false; tokens.len() * n];
        documents.attends(tokens.iter().copied(), true, &mut attends).unwrap();
        let mask = Mask::none().attends(Attends(View::new(&attends, [1, 1, tokens.len(), n]).unwrap()));
        let by_head = |x, n| View::new(x, [1, n, heads, width]).unwrap().swap(1, 2).unwrap();
        let inputs = Inputs::new(by_head(&q, tokens.len()), by_head(&k, n), by_head(&v, n));
        let mut out = vec![f64::NAN; q.len()];
        let outputs = Outputs {
            out: ViewMut::new(&mut out, [1, tokens.len(), heads, width]).unwrap().swap(1, 2).unwrap(),
            saved: None,
            weights: None,
        };
        let call = plan.call(&params, q_at, &k_at).unwrap();
        let (attention, mut work) = (Attention::default(), Workspace::default());
        attention.forward(&call, inputs, &mask, Mode::Evaluate, outputs, &mut work).unwrap();
        out
    };
    let whole = attend(&(0..n).collect::<Vec<_>>(), &k_at);
    for cut in [Cut::Contiguous, Cut::Zigzag] {
        let shards = Shards::of_documents(documents.clone(), 2, cut).unwrap();
        let gathered: Vec<f64> = (0..2)
            .flat_map(|rank| attend(&shards.tokens(rank).unwrap(), &shards.positions(&k_at, rank).unwrap()))
            .collect();
        for (token, at) in shards.order().unwrap().into_iter().enumerate() {
            let row = heads * width;
            for (got, expected) in gathered[at * row..][..row].iter().zip(&whole[token * row..][..row]) {
                assert!((got - expected).abs() <= 1e-12, "{cut:?}, token {token}: {got} against {expected}");
            }
        }
    }
}
