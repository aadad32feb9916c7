//! Views and positions, however they are made.

use super::bytes::{Bytes, place};
use posenc::positions::{Cut, Documents, Mrope, Next, Padding, Patches, Segment, Shards, Time};
use posenc::{At, Positions, View, ViewMut};

pub fn views(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let shape = [0; 4].map(|_| bytes.length());
    let (strides, size) = bytes.strides(shape, 2);
    let mut data = vec![0u8; bytes.near(size).min(1 << 14)];
    let size = data.len();
    let count = super::bytes::count(shape);
    let small = count.is_some_and(|count| count <= 1 << 12);
    let places: Option<Vec<usize>> = small
        .then(|| {
            (0..count.unwrap_or(0))
                .map(|i| place(i, shape, strides).filter(|place| *place < size))
                .collect()
        })
        .flatten();
    let contiguous = shape[3] <= 1 || strides[3] == 1;
    let view = View::strided(&data, shape, strides);
    if small {
        assert_eq!(
            view.is_ok(),
            places.is_some() && contiguous,
            "{shape:?}, strides {strides:?} on {size}"
        );
    } else if let Ok(view) = view {
        let last = shape.map(|n| n - 1);
        assert_eq!(view.row(last).len(), shape[3]);
    }
    if let Ok(view) = view {
        view.swap(0, bytes.below(4)).ok();
        view.broadcast("any", [0; 4].map(|_| bytes.length())).ok();
        view.as_slice().inspect(|slice| assert!(slice.len() <= size));
    }
    let Ok(mut view) = ViewMut::strided(&mut data, shape, strides) else {
        return;
    };
    let Some(places) = places else {
        // Of what is not small nothing is mutable: the storage is.
        assert!(count.is_some_and(|count| count <= size));
        return;
    };
    if !view.is_empty() {
        for i in 0..places.len() / shape[3] {
            let (a, rest) = (i / (shape[1] * shape[2]), i % (shape[1] * shape[2]));
            view.row_mut([a, rest / shape[2], rest % shape[2], 0])
                .iter_mut()
                .for_each(|x| *x += 1);
        }
    }
    // Each element is its own.
    assert_eq!(data.iter().map(|x| usize::from(*x)).sum::<usize>(), places.len());
    assert!(data.iter().all(|x| *x <= 1));
}

/// Reads everything there is of positions that cost storage.
fn read(at: &Positions) {
    if at.len() > 1 << 12 {
        at.get(0, 0, at.len() - 1);
        return;
    }
    for (axis, b) in (0..at.axes().min(8)).flat_map(|axis| (0..at.batch().min(8)).map(move |b| (axis, b))) {
        let row: At<'_> = at.at(axis, b, 0, at.len());
        for t in 0..at.len() {
            assert_eq!(row.get(t), at.get(axis, b, t));
            assert!(row.get(t).is_none_or(f64::is_finite));
            row.whole(t);
        }
    }
}

pub fn positions(mut bytes: Bytes<'_>) {
    let bytes = &mut bytes;
    let len = bytes.below(10);
    let (a, b) = (bytes.positions(len), bytes.positions(len));
    read(&a);
    let floats: Vec<f32> = (0..len).map(|_| bytes.number() as f32).collect();
    let rows = bytes.near(1);
    for at in [Positions::strict(&floats, rows), Positions::truncated(&floats, rows)]
        .into_iter()
        .flatten()
    {
        read(&at);
    }
    match bytes.below(8) {
        0 => {
            let token = a.len().min(40);
            let tokens: Vec<usize> = (0..bytes.below(8)).map(|_| bytes.about(token.max(1))).collect();
            if let Ok(at) = a.select(&tokens) {
                read(&at);
                assert_eq!(at.len(), tokens.len());
                for (t, token) in tokens.iter().enumerate() {
                    assert_eq!(at.get(0, 0, t), a.get(0, 0, *token));
                }
            }
        }
        1 => {
            if a.len().max(b.len()) <= 1 << 12
                && let Ok(at) = a.clone().with_axis(&b)
            {
                read(&at);
            }
        }
        2 => {
            let count = bytes.length();
            // As many as storage is made for, or too many.
            if !(1 << 12..=Positions::LONGEST).contains(&count) {
                let longer = a.clone().after_unplaced(count);
                assert_eq!(
                    longer.len() > Positions::LONGEST,
                    a.len().saturating_add(count) > Positions::LONGEST
                );
                read(&longer);
            }
        }
        3 => {
            let rows = bytes.near(a.batch().max(b.batch())).min(8);
            let near = |bytes: &mut Bytes<'_>, most: usize| (0..rows).map(|_| bytes.about(most.min(40) + 1)).collect::<Vec<_>>();
            let (kept, taken) = (near(bytes, a.len()), near(bytes, b.len()));
            if kept.iter().chain(&taken).any(|n| *n > 1 << 12 && *n <= Positions::LONGEST) {
                return;
            }
            if let Ok(at) = a.followed_by(&b, &kept, &taken) {
                read(&at);
                for (row, (kept, taken)) in kept.iter().zip(&taken).enumerate() {
                    let there = |at: &Positions, t| at.get(0, if at.batch() == 1 { 0 } else { row }, t);
                    (0..*kept).for_each(|t| assert_eq!(there(&at, t), there(&a, t)));
                    (0..*taken).for_each(|t| assert_eq!(there(&at, kept + t), there(&b, t)));
                }
            }
        }
        4 | 5 => documents(bytes),
        6 => pictures(bytes),
        _ => {
            let flags: Vec<i64> = (0..len).map(|_| i64::from(bytes.below(3) as u8)).collect();
            if let Ok(at) = Positions::from_attention_mask(&flags, bytes.near(1)) {
                read(&at);
            }
            let (height, width) = (bytes.length(), bytes.length());
            if height.saturating_mul(width) <= 1 << 12 || height.saturating_mul(width) > Positions::LONGEST {
                read(&Positions::grid(height, width));
            }
        }
    }
}

fn documents(bytes: &mut Bytes<'_>) {
    let ids: Vec<i64> = (0..bytes.below(6))
        .map(|_| if bytes.rarely() { bytes.id() } else { bytes.below(9) as i64 })
        .collect();
    let mut ends = ids.clone();
    if bytes.flag() {
        ends.sort_unstable();
        ends.insert(0, 0);
    }
    let lengths: Vec<usize> = ids.iter().map(|id| usize::try_from(*id).unwrap_or(usize::MAX)).collect();
    let made = if bytes.flag() {
        Documents::from_cu_seqlens(&ends)
    } else {
        Documents::from_lengths(&lengths)
    };
    let Ok(documents) = made else { return };
    if documents.tokens() > 1 << 12 {
        return;
    }
    read(&documents.positions());
    assert_eq!(documents.ids().count(), documents.tokens());
    let queries: Vec<usize> = (0..bytes.below(5)).map(|_| bytes.about(documents.tokens().max(1))).collect();
    let mut attends = vec![false; queries.len() * documents.tokens()];
    if documents.attends(queries.iter().copied(), bytes.flag(), &mut attends).is_ok() {
        for (query, row) in queries.iter().zip(attends.chunks_exact(documents.tokens().max(1))) {
            assert!(row[*query], "a token sees itself");
        }
    }
    let ranks = bytes.about(4);
    let Ok(shards) = Shards::of_documents(documents.clone(), ranks, bytes.pick(&[Cut::Contiguous, Cut::Zigzag])) else {
        return;
    };
    let mut all = Vec::new();
    for rank in 0..ranks.min(8) {
        all.extend(shards.tokens(rank).expect("a rank"));
        read(&shards.positions(&documents.positions(), rank).expect("a rank"));
    }
    if ranks <= 8 {
        all.sort_unstable();
        assert!(all.into_iter().eq(0..documents.tokens()));
    }
    assert_eq!(shards.order().expect("few tokens").len(), documents.tokens());
}

fn pictures(bytes: &mut Bytes<'_>) {
    let patches = |bytes: &mut Bytes<'_>| Patches {
        frames: bytes.about(4),
        height: bytes.even_about(4),
        width: bytes.even_about(4),
    };
    let few = |patches: &Patches| {
        let count = super::bytes::count([patches.frames, patches.height, patches.width, 1]);
        count.is_none_or(|count| count <= 1 << 12 || count > Positions::LONGEST)
    };
    let mut row = Vec::new();
    for _ in 0..bytes.below(4) {
        let patches = patches(bytes);
        if !few(&patches) {
            return;
        }
        row.push(match bytes.below(3) {
            0 => Segment::Text(bytes.below(9)),
            1 => Segment::Image(patches),
            _ => Segment::Video {
                patches,
                seconds_per_grid: bytes.number(),
            },
        });
        Positions::patches(&[patches], bytes.near(2)).ok().inspect(read);
        Documents::frames(&[patches]).ok();
        let before: Vec<usize> = (0..patches.frames.min(9)).map(|_| bytes.below(5)).collect();
        Segment::with_timestamps(patches, &before).ok();
    }
    let tokens_per_second = bytes.number();
    let mrope = Mrope {
        merge: bytes.near(2),
        time: bytes.pick(&[Time::Frames, Time::Timestamps, Time::Seconds { tokens_per_second }]),
        next: bytes.pick(&[Next::Largest, Next::Extent]),
    };
    if let Ok(placed) = mrope.positions(&[&row, &row[..row.len() / 2]], bytes.pick(&[Padding::Left, Padding::Right])) {
        read(&placed.positions);
        let read_so_far = [bytes.length(), bytes.below(9)];
        placed.following(&read_so_far, bytes.below(9)).ok().inspect(read);
    }
}
