//! Sizes that no memory holds: an error before anything is written, where an allocation that fails would end the process. The sizes are those that types allow; the limit is 3 GB of addresses, set for a
//! child process, so that the test is the same on a machine with any memory.

use crate::UNTOUCHED;
use posenc::positions::{Cut, Documents, Mrope, Padding, Patches, Segment, Shards};
use posenc::rotate::coordinates;
use posenc::{
    Alibi, Attention, ClippedBias, Deberta, DebertaProjections, Dims, Direction, Encoding, Error, InputTable, Inputs, Learned, Mask, Mode,
    MusicTransformer, Outputs, Overflow, Pairing, Positions, Rotary, SharedBias, Shaw, Sinusoidal, Steps, T5Bias, TransformerXl, View,
    ViewMut, Workspace, XlNet,
};

/// The child's body: run by the test below.
#[test]
#[ignore = "runs under a limit of its address space"]
fn under_a_limit() {
    let longest = || Positions::range(0..Positions::LONGEST as i64);
    let too_large = |what: &str, result: Result<(), Error>| {
        println!("{what}: {result:?}");
        let error = result.expect_err(what);
        assert!(matches!(error, Error::Invalid { .. }), "{what}: {error}");
    };

    for pairing in [Pairing::Halves, Pairing::HalvesTwice] {
        too_large("a rotation", Rotary::new(pairing).rotation::<f32>(128, &longest()).map(|_| ()));
    }
    for encoding in [
        Encoding::from(Rotary::new(Pairing::Halves)),
        Learned::new(16).with_overflow(Overflow::Clamp).into(),
        Learned::new(16).with_overflow(Overflow::Interpolate).into(),
        InputTable::new(16).with_overflow(Overflow::Wrap).into(),
        Sinusoidal::paper().into(),
        MusicTransformer::new(4).with_overflow(Overflow::Clamp).into(),
        TransformerXl::paper().into(),
        XlNet::new().into(),
        Deberta::new(4, DebertaProjections::V2).into(),
    ] {
        let plan = encoding.plan(Dims::new(64, 4).unwrap()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        too_large(&plan.to_string(), plan.call(&params, &longest(), &longest()).map(|_| ()));
    }
    // What needs nothing per token answers for any length.
    for encoding in [
        Encoding::from(Shaw::new(4)),
        Alibi::new().into(),
        ClippedBias::new(4, Direction::KeyMinusQuery).into(),
        SharedBias::new(4).into(),
        T5Bias::decoder().into(),
    ] {
        let plan = encoding.plan(Dims::new(64, 4).unwrap()).unwrap();
        plan.call(&plan.init::<f32>(0).unwrap(), &longest(), &longest()).unwrap();
    }
    // A step to such a length is refused as a call is, and the steps begin anew.
    for encoding in [
        Encoding::from(Rotary::new(Pairing::Halves)),
        Learned::new(16).with_overflow(Overflow::Clamp).into(),
        Sinusoidal::paper().into(),
        MusicTransformer::new(4).with_overflow(Overflow::Clamp).into(),
    ] {
        let plan = encoding.plan(Dims::new(64, 4).unwrap()).unwrap();
        let (params, mut steps, short) = (plan.init::<f32>(0).unwrap(), Steps::default(), Positions::range(0..9));
        drop(plan.step(&mut steps, &params, &short, &short).unwrap());
        too_large(
            &plan.to_string(),
            plan.step(&mut steps, &params, &longest(), &longest()).map(|_| ()),
        );
        plan.step(&mut steps, &params, &short, &short).unwrap();
    }
    for rows in [1 << 29, 1 << 42] {
        let plan = Encoding::from(Learned::new(rows)).plan(Dims::new(64, 4).unwrap()).unwrap();
        too_large("parameters", plan.init::<f32>(0).map(|_| ()));
    }

    // A key that is repeated for as many tokens as a row may have: the view costs nothing, its packed copy would. (More queries than read keys where they lie.)
    let queries = 9;
    let none = Encoding::none().plan(Dims::new(64, 4).unwrap()).unwrap();
    let params = none.init::<f32>(0).unwrap();
    let call = none.call(&params, &Positions::range(0..queries as i64), &longest()).unwrap();
    let (x, mut out) = (vec![0.5f32; 64 * queries], vec![UNTOUCHED; 64 * queries]);
    let keys = View::strided(&x, [1, 4, Positions::LONGEST, 16], [0, 16, 0, 1]).unwrap();
    let inputs = Inputs::new(View::new(&x, [1, 4, queries, 16]).unwrap(), keys, keys);
    let outputs = Outputs {
        out: ViewMut::new(&mut out, [1, 4, queries, 16]).unwrap(),
        saved: None,
        weights: None,
    };
    let mut work = Workspace::default();
    too_large(
        "attention",
        Attention::default().forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut work),
    );
    assert!(out.iter().all(|x| *x == UNTOUCHED));

    for at in [
        Positions::grid(1 << 15, 1 << 16),
        Positions::packed(&[1 << 30, 1 << 30]),
        Positions::range(0..3).after_unplaced((1 << 31) - 3),
        Documents::from_lengths(&[1 << 31]).unwrap().positions(),
    ] {
        too_large("positions", call_with(&at));
    }
    too_large("axes", longest().with_axis(&longest()).map(|_| ()));
    let gap = Positions::range(5..5 + (1 << 31));
    too_large("joined rows", longest().followed_by(&gap, &[1 << 31], &[1 << 31]).map(|_| ()));
    let documents = Documents::from_lengths(&[1 << 31]).unwrap();
    too_large("documents", documents.positions_after(&[7]).map(|_| ()));
    let shards = Shards::of_documents(documents, 1, Cut::Contiguous).unwrap();
    too_large("a shard", shards.tokens(0).map(|_| ()));
    too_large("the order of shards", shards.order().map(|_| ()));
    too_large("a shard's positions", shards.positions(&longest(), 0).map(|_| ()));
    let mrope = Mrope::qwen2_vl();
    let placed = mrope.positions(&[&[Segment::Text(2)]], Padding::Left).unwrap();
    too_large("an answer", placed.following(&[2], 1 << 31).map(|_| ()));
    too_large("text", mrope.positions(&[&[Segment::Text(1 << 31)]], Padding::Left).map(|_| ()));
    let video = Patches {
        frames: 1 << 29,
        height: 2,
        width: 2,
    };
    too_large("a video", mrope.positions(&[&[Segment::Image(video)]], Padding::Left).map(|_| ()));
    too_large("patches", Positions::patches(&[video], 2).map(|_| ()));
    too_large("frames", Documents::frames(&[video]).map(|_| ()));
    for head_dim in [1 << 40, usize::MAX - 1] {
        too_large(
            "coordinates",
            coordinates(Pairing::Halves, Pairing::Interleaved, head_dim, 2).map(|_| ()),
        );
    }
    println!("all were refused");
}

fn call_with(at: &Positions) -> Result<(), Error> {
    let plan = Encoding::none().plan(Dims::new(64, 4)?)?;
    plan.call(&plan.init::<f32>(0)?, at, at).map(|_| ())
}

#[test]
#[cfg(target_os = "linux")]
fn sizes_that_no_memory_holds_are_errors() {
    if std::env::var_os("POSENC_NO_MEMORY_LIMIT").is_some() {
        println!("skipped: what this runs under (a sanitizer) takes more addresses than the limit");
        return;
    }
    let child = std::process::Command::new("sh")
        .args([
            "-c",
            r#"ulimit -v 3000000 && exec "$0" --ignored --exact memory::under_a_limit --nocapture --test-threads 1"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("all were refused"),
        "{}\n{said}\n{}",
        child.status,
        String::from_utf8_lossy(&child.stderr)
    );
}
