//! What acts on scores by distance: a straight line, buckets, or a table with a last row.

use super::count::Lengths;
use super::percent;
use super::published::{Curve, nearest};
use super::{Class, Finding, Unseen, What};
use crate::words::{decimal, grouped, significant, words};

/// What a clipped table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Numbers added to or subtracted from scores.
    Scalars,
    /// Vectors added to keys.
    Keys,
    /// Vectors added to keys and to values.
    KeysAndValues,
}

/// A penalty proportional to the distance, one slope per head.
pub(crate) fn alibi(slopes: &[f64], lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let steep = slopes.iter().copied().fold(0.0, f64::max);
    let flat = slopes.iter().copied().fold(f64::INFINITY, f64::min);
    let bias = |slope: f64, distance: u64| decimal(-slope * distance as f64, 2);
    let (was, is) = (trained - 1, length - 1);
    let (was_steep, was_flat) = (bias(steep, was), bias(flat, was));
    let (is_steep, is_flat) = (bias(steep, is), bias(flat, is));
    let share = (-flat * trained as f64).exp();
    let (weight, slope) = (percent_or_power(share), significant(flat));
    let weighed = if share < 0.05 {
        words!(
            "A steady loss, but no longer reach: even the widest head (slope {slope}) gives a token {trained} back {weight} of the weight of a near one with an equal score.",
            "损失平稳，但能利用的范围并没有变长：得分相同时，即使视野最宽的头（斜率 {slope}），给 {trained} 个位置之前的词元的权重也只有近处词元的 {weight}。"
        )
    } else {
        words!(
            "As a rule a steady loss. The widest head (slope {slope}) gives a token {trained} back {weight} of the weight of a near one with an equal score; steeper heads see less far.",
            "通常损失平稳。得分相同时，视野最宽的头（斜率 {slope}）给 {trained} 个位置之前的词元的权重是近处词元的 {weight}；斜率更大的头看得更近。"
        )
    };
    Finding {
        method: String::new(),
        class: Class::SaturatesOrIgnores,
        answer: words!(
            "It runs, by looking away from what is far: each head's penalty goes on along its line, to {is_steep} … {is_flat} at distance {is} (in training {was_steep} … {was_flat} at {was}).",
            "能运行，靠的是不看远处：每个头的惩罚沿直线继续增大，距离 {is} 处为 {is_steep} … {is_flat}（训练中距离 {was} 处为 {was_steep} … {was_flat}）。"
        ),
        out_of_distribution: vec![Unseen::new(
            What::Distances,
            lengths.pairs_apart(trained),
            lengths.pairs(),
            words!(
                "causal pairs that are {trained} or more apart; their penalty is larger than any in training, in the same direction",
                "距离不小于 {trained} 的因果对；其惩罚比训练中的都大，但方向一致"
            ),
        )],
        expect: weighed
            .and(nearest(Curve::Alibi, trained, length).sentence(Curve::Alibi))
            .and(words!(
                "Not every model stays flat: one of 1.3B parameters, trained on 1024 tokens of code, went from perplexity 3.8 to 18.7 at 1800 (Kazemnejad et al. 2023, arXiv 2305.19466).",
                "并非所有模型都平稳：一个 13 亿参数、在 1024 个词元的代码上训练的模型，到 1800 时困惑度从 3.8 升到 18.7（Kazemnejad et al. 2023, arXiv 2305.19466）。"
            )),
        advice: words!(
            "Nothing, if the task is local. If far tokens must be found, measure retrieval, not perplexity: at twice the trained length it was 0 to 5 % in a published test \
             (DroPE, Gelberg et al. 2025, 494M parameters).",
            "如果任务是局部的，无需处理。如果必须找到远处的词元，请测检索而不是困惑度：在一项已发表的测试中，两倍训练长度处的检索率为 0 到 5%（DroPE, Gelberg et al. 2025，4.94 亿参数）。"
        ),
    }
}

/// The first distance whose row is `of` or a later one; `length` if there is none below. Rows grow with the distance, so it is found by halving.
fn start(row: impl Fn(u64) -> u64, of: u64, length: u64) -> u64 {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if row(middle) >= of {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Rows that distances from `first` on read, below `length`. Not every number between is in use: f32 rounding and small tables can skip a bucket.
fn in_use(row: impl Fn(u64) -> u64, first: u64, length: u64) -> u64 {
    let (mut count, mut at) = (0, first);
    while at < length {
        count += 1;
        at = start(&row, row(at) + 1, length);
    }
    count
}

/// DeBERTa's table of vectors: the `row` of each distance back.
pub(crate) fn rows(reads: Reads, row: impl Fn(u64) -> u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let far = row(length - 1);
    let found = if far > row(trained - 1) {
        let first = start(&row, row(trained - 1) + 1, length);
        let (unseen, all) = (in_use(&row, first, length), in_use(&row, 0, length));
        Finding {
            expect: words!(
                "Far keys get vectors that nothing has fitted: expect the loss to rise as soon as they come into reach.",
                "远处的键得到的是未经拟合的向量：一旦它们进入范围，损失预计就会上升。"
            ),
            ..unseen_buckets(first, unseen, all, lengths)
        }
    } else {
        let from = start(&row, far, length);
        saturated(from, in_use(&row, 0, from + 1), lengths)
    };
    with_reads(found, reads, start(&row, far, length), lengths)
}

/// A table with `rows` distances and no answer past them, or, `clamped`, the last row's.
pub(crate) fn table(rows: u64, clamped: bool, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    if clamped || rows >= length {
        return clipped(Reads::Keys, rows - 1, lengths);
    }
    let (last, new) = (rows - 1, grouped(lengths.pairs_apart(rows)));
    Finding {
        method: String::new(),
        class: Class::Cannot,
        answer: words!(
            "It cannot: the table has rows for distances 0 to {last}, and {new} causal pairs lie farther apart.",
            "不能运行：表中只有距离 0 到 {last} 的行，而有 {new} 个因果对相距更远。"
        ),
        out_of_distribution: vec![Unseen::new(
            What::Distances,
            lengths.pairs_apart(rows),
            lengths.pairs(),
            words!("causal pairs that are {rows} or more apart", "距离不小于 {rows} 的因果对"),
        )],
        expect: words!(
            "Clamped, far keys would share the farthest row and lose their order.",
            "若采用截断，远处的键会共用最远的一行，彼此失去顺序。"
        ),
        advice: words!(
            "Read in windows of {rows} tokens, or train with a table for {length} distances; clamp distances if the order of far tokens does not matter. It was trained on {trained}.",
            "按 {rows} 个词元的窗口读取，或训练一张有 {length} 个距离的表；如果远处词元的顺序不重要，就截断距离。训练长度为 {trained}。"
        ),
    }
}

/// T5's table: `bucket` of each distance back, `buckets` of them for that direction.
pub(crate) fn t5(bucket: impl Fn(u64) -> u64, buckets: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let far = bucket(length - 1);
    if far > bucket(trained - 1) {
        let first = start(&bucket, bucket(trained - 1) + 1, length);
        return unseen_buckets(first, in_use(&bucket, first, length), buckets, lengths);
    }
    let from = start(&bucket, far, length);
    let (before, after) = (trained - from, length - from);
    let gain = format!("{:+.2}", (after as f64 / before as f64).ln());
    let (before, after) = (grouped(before), grouped(after));
    let last = length - 1;
    Finding {
        method: String::new(),
        class: Class::SaturatesOrIgnores,
        answer: words!(
            "It runs, because it saturates: every distance from {from} to {last} is bucket {far}, which training used. No bucket is new.",
            "能运行，因为它会饱和：从 {from} 到 {last} 的每个距离都落在第 {far} 号桶，而训练用过这个桶。没有新的桶。"
        ),
        out_of_distribution: vec![Unseen::new(
            What::Buckets,
            0,
            buckets,
            words!(
                "buckets that training never used; for the last query, bucket {far} holds {after} keys instead of {before} ({gain} nat of weight if they score alike)",
                "训练中从未用过的桶；对最后一个查询，第 {far} 号桶里有 {after} 个键，而训练中最多 {before} 个（若得分相同，权重变化 {gain} nat）"
            ),
        )],
        expect: words!(
            "A slight gain up to about twice the trained length, then a slow rise, as one bucket gathers ever more keys whose order it cannot tell.",
            "在训练长度的约两倍以内略有改善，之后缓慢变差，因为同一个桶收进越来越多的键，而它分不清这些键的顺序。"
        )
        .and(nearest(Curve::T5, trained, length).sentence(Curve::T5)),
        advice: words!(
            "Nothing up to about twice the trained length. Past it, watch the loss per position, and read in windows where it rises.",
            "在训练长度的约两倍以内无需处理。更长时请观察逐位置的损失，在开始上升处改用分窗读取。"
        ),
    }
}

/// Some buckets begin past the trained length.
fn unseen_buckets(first: u64, unseen: u64, buckets: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let half = trained / 2;
    let apart = lengths.pairs_apart(first);
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, but breaks: {unseen} of {buckets} buckets begin at distance {first} or later and were never used in training on {trained} tokens; they hold their initial values.",
            "能运行，但会失效：{buckets} 个桶中有 {unseen} 个从距离 {first} 或更远处开始，在长度 {trained} 的训练中从未用过，仍是初始值。"
        ),
        out_of_distribution: vec![
            Unseen::new(
                What::Buckets,
                unseen,
                buckets,
                words!("buckets unseen in training", "训练中从未用过的桶"),
            ),
            Unseen::new(
                What::Distances,
                apart,
                lengths.pairs(),
                words!(
                    "causal pairs in these buckets, {first} or more apart",
                    "落在这些桶里、距离不小于 {first} 的因果对"
                ),
            ),
        ],
        expect: words!(
            "The published steadiness of T5's bias needs every bucket trained. Here far keys get a bias that nothing has fitted: expect the loss to rise as soon as they come into reach.",
            "T5 偏置在文献中的平稳表现，前提是每个桶都训练过。这里远处的键得到的是未经拟合的偏置：一旦它们进入范围，损失预计就会上升。"
        ),
        advice: words!(
            "Train with a max_distance of at most half the trained length ({half}), so that the last bucket is used; or, without training, read in windows of {trained} tokens. \
             Length {length} needs no more buckets than that.",
            "训练时让 max_distance 不超过训练长度的一半（{half}），使最后一个桶得到训练；若不重新训练，就按 {trained} 个词元的窗口读取。长度 {length} 并不需要更多的桶。"
        ),
    }
}

/// A table with a row for each distance up to `k`, the last of which serves all larger ones.
pub(crate) fn clipped(reads: Reads, k: u64, lengths: Lengths) -> Finding {
    let found = if k < lengths.trained {
        saturated(k, k + 1, lengths)
    } else {
        untrained_distances(k, lengths)
    };
    with_reads(found, reads, k, lengths)
}

/// What it means that rows are vectors, the last of them from distance `k` on.
fn with_reads(found: Finding, reads: Reads, k: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let more = match reads {
        Reads::Scalars => return found,
        Reads::Keys => words!(
            "The rows are vectors: how much a distance matters depends on the query, but the far ones share one.",
            "表中的行是向量：距离的影响取决于查询，但远处的距离共用同一个向量。"
        ),
        Reads::KeysAndValues => {
            let (before, after) = (trained.saturating_sub(k), length.saturating_sub(k));
            words!(
                "Values carry rows too: the last row enters the output with the summed weight of up to {after} keys instead of {before}.",
                "值向量也带有这些行：最后一行以多达 {after} 个键（训练中为 {before} 个）的权重之和进入输出。"
            )
        }
    };
    Finding {
        expect: found.expect.and(more),
        ..found
    }
}

/// Training used the last of `rows` rows, that of distances from `k` on.
fn saturated(k: u64, rows: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let (before, after) = (trained - k, length - k);
    let gain = format!("{:+.2}", (after as f64 / before as f64).ln());
    let (before, after) = (grouped(before), grouped(after));
    Finding {
        method: String::new(),
        class: Class::SaturatesOrIgnores,
        answer: words!(
            "It runs, because it saturates: every distance of {k} or more reads the same row, which training used. No row is new.",
            "能运行，因为它会饱和：不小于 {k} 的距离都读同一行，而训练用过这一行。没有新的行。"
        ),
        out_of_distribution: vec![Unseen::new(
            What::Buckets,
            0,
            rows,
            words!(
                "rows, by distance before the query, that training never read; for the last query, the last row serves {after} keys instead of {before} ({gain} nat of weight if they score alike)",
                "训练从未读过的行（按查询之前的距离计）；对最后一个查询，最后一行管 {after} 个键，而训练中最多 {before} 个（若得分相同，权重变化 {gain} nat）"
            ),
        )],
        expect: words!(
            "A mild rise from dilution. Tokens {k} or more back have no order among them, at this length or in training.",
            "因注意力被稀释而轻微变差。{k} 个位置及更早的词元之间没有顺序，无论在这一长度还是在训练中。"
        ),
        advice: words!(
            "Nothing for a moderate overrun. Where the order of far tokens matters, train with a larger max_distance.",
            "适度超长时无需处理。如果远处词元的顺序重要，请用更大的 max_distance 训练。"
        ),
    }
}

/// Training never reached the last rows.
fn untrained_distances(k: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let last = k.min(length - 1);
    let unseen = last + 1 - trained;
    let rows = if last == trained {
        words!("row {trained}", "第 {trained} 行")
    } else {
        words!("rows {trained} to {last}", "第 {trained} 到 {last} 行")
    };
    let below = trained - 1;
    let half = (trained / 2).max(1);
    let (en, zh) = (rows.en, rows.zh);
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, but breaks: training on {trained} tokens never reached {en} of the table (by distance), where initial values still stand.",
            "能运行，但会失效：表中（按距离）{zh}在长度 {trained} 的训练中从未触及，仍是初始值。"
        ),
        out_of_distribution: vec![
            Unseen::new(
                What::Buckets,
                unseen,
                k + 1,
                words!(
                    "rows, by distance before the query, that training never read",
                    "训练从未读过的行（按查询之前的距离计）"
                ),
            ),
            Unseen::new(
                What::Distances,
                lengths.pairs_apart(trained),
                lengths.pairs(),
                words!("causal pairs that are {trained} or more apart", "距离不小于 {trained} 的因果对"),
            ),
        ],
        expect: words!(
            "Far keys get numbers that nothing has fitted: expect the loss to rise as soon as they come into reach.",
            "远处的键得到的是未经拟合的值：一旦它们进入范围，损失预计就会上升。"
        ),
        advice: words!(
            "Train with a max_distance well inside the trained length ({half} or less), so that the last row means \"{half} or more\". \
             Without training, cut the table to ±{below}.",
            "训练时让 max_distance 明显小于训练长度（不超过 {half}），使最后一行真正表示“{half} 及更远”。不重新训练的话，把表截到 ±{below}。"
        ),
    }
}

/// A share as a percentage, or as a power of ten where that would print as 0.
fn percent_or_power(share: f64) -> String {
    if share >= 1e-4 { percent(share) } else { significant(share) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bias::{alibi_slopes, t5_bucket};

    const EXERCISE: Lengths = Lengths {
        trained: 2048,
        length: 3000,
    };

    fn decoder(buckets: usize, max_distance: usize) -> impl Fn(u64) -> u64 {
        move |distance| t5_bucket(-(distance as i64), false, buckets, max_distance).unwrap() as u64
    }

    #[test]
    fn alibi_penalties_of_eight_heads() {
        let found = alibi(&alibi_slopes(8).unwrap(), EXERCISE);
        assert_eq!(found.class, Class::SaturatesOrIgnores);
        assert!(found.answer.en.contains("-1499.5 … -11.71"), "{}", found.answer.en);
        assert!(found.answer.en.contains("-1023.5 … -8 at 2047"), "{}", found.answer.en);
        assert!(found.expect.en.contains("0.03\u{a0}%"), "{}", found.expect.en); // e^−8
        assert_eq!(found.out_of_distribution[0].unseen, 453_628);
    }

    #[test]
    fn t5_saturates_from_113_on() {
        let found = t5(decoder(32, 128), 32, EXERCISE);
        assert_eq!(found.class, Class::SaturatesOrIgnores);
        assert!(
            found.answer.en.contains("every distance from 113 to 2999 is bucket 31"),
            "{}",
            found.answer.en
        );
        let note = &found.out_of_distribution[0].note.en;
        assert!(note.contains("2887 keys instead of 1935 (+0.40 nat"), "{note}");
    }

    #[test]
    fn buckets_unseen_in_training_are_counted() {
        for (buckets, max_distance) in [(32, 128), (8, 20), (4, 100), (2, 3)] {
            let bucket = decoder(buckets, max_distance);
            for trained in 1..60u64 {
                for length in trained + 1..70 {
                    let found = t5(&bucket, buckets as u64, Lengths { trained, length });
                    let seen: Vec<u64> = (0..trained).map(&bucket).collect();
                    let mut new: Vec<u64> = (trained..length).map(&bucket).filter(|b| !seen.contains(b)).collect();
                    let pairs: u64 = (0..length).filter(|&d| new.contains(&bucket(d))).map(|d| length - d).sum();
                    new.dedup();
                    assert_eq!(found.out_of_distribution[0].unseen, new.len() as u64);
                    assert_eq!(found.class == Class::CanButBreaks, !new.is_empty());
                    assert_eq!(found.out_of_distribution.get(1).map_or(0, |u| u.unseen), pairs);
                }
            }
        }
    }

    #[test]
    fn the_pilot_that_broke_has_unseen_buckets() {
        // max_distance 128 and 64 trained tokens: the far buckets never saw a token. 32 is a preset that holds.
        let lengths = Lengths { trained: 64, length: 512 };
        assert_eq!(t5(decoder(32, 128), 32, lengths).class, Class::CanButBreaks);
        assert_eq!(t5(decoder(32, 32), 32, lengths).class, Class::SaturatesOrIgnores);
    }

    #[test]
    fn rows_unseen_in_training_are_counted() {
        for k in 0..12u64 {
            for trained in 1..12u64 {
                for length in trained + 1..14 {
                    let found = clipped(Reads::Scalars, k, Lengths { trained, length });
                    let row = |d: u64| d.min(k);
                    let mut new: Vec<u64> = (0..length).map(row).filter(|&r| (0..trained).all(|d| row(d) != r)).collect();
                    new.dedup();
                    assert_eq!(found.out_of_distribution[0].unseen, new.len() as u64, "k {k}, {trained} → {length}");
                    assert_eq!(found.class == Class::CanButBreaks, !new.is_empty());
                }
            }
        }
    }

    #[test]
    fn values_are_mentioned_where_rows_reach_them() {
        let say = |reads| clipped(reads, 16, EXERCISE).expect.en;
        assert!(!say(Reads::Scalars).contains("Values"));
        assert!(say(Reads::Keys).contains("vectors"));
        assert!(say(Reads::KeysAndValues).contains("2984 keys instead of 2032"));
    }
}
