//! Sines and rotations: every position has an answer, but slow frequencies have shown training only an arc of their circle.

use super::count::Lengths;
use super::published::{Curve, nearest};
use super::{Class, Finding, Unseen, What};
use crate::rotate::XPos;
use crate::words::{Words, decimal, grouped, significant, words};
use std::f64::consts::TAU;

/// The frequencies whose wavelength is longer than training, by index: `(first, last, how many)`.
fn incomplete(frequencies: &[f64], trained: u64) -> Option<(usize, usize, usize)> {
    let slow: Vec<usize> = (0..frequencies.len())
        .filter(|&i| TAU > trained as f64 * frequencies[i].abs())
        .collect();
    Some((*slow.first()?, *slow.last()?, slow.len()))
}

/// How many angles are new, and which.
fn angles(frequencies: &[f64], lengths: Lengths) -> Unseen {
    let Lengths { trained, length } = lengths;
    let total = frequencies.len() as u64;
    let Some((first, last, count)) = incomplete(frequencies, trained) else {
        return Unseen::new(
            What::Angles,
            0,
            total,
            words!(
                "each frequency alone has shown training its whole circle; only their combinations are new",
                "每个频率单独来看都已在训练中转满一圈，只有它们的组合是新的"
            ),
        );
    };
    let slowest = frequencies.iter().fold(f64::INFINITY, |a, w| a.min(w.abs()));
    let degrees = |t: u64| decimal((slowest * (t - 1) as f64).to_degrees(), 1);
    let (before, after) = (degrees(trained), degrees(length));
    let which = if first == last {
        format!("i = {first}")
    } else {
        format!("i = {first} … {last}")
    };
    Unseen::new(
        What::Angles,
        count as u64,
        total,
        words!(
            "frequencies ({which}) that take more than {trained} positions for one turn: training showed an arc, and they go past it (the slowest from {before}° to {after}°); \
             the others have shown their whole circle",
            "转一圈需要超过 {trained} 个位置的频率（{which}）：训练只见过一段弧，现在会越出这段弧（最慢的从 {before}° 到 {after}°）；其余频率都已转满一圈"
        ),
    )
}

/// Fixed vectors of sines and cosines; `frequencies` in radians per position.
pub(crate) fn sinusoidal(frequencies: &[f64], lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let new = grouped(lengths.ids_from(trained));
    let angles = angles(frequencies, lengths);
    let (slow, all) = (angles.unseen, angles.total);
    let scale = decimal(lengths.factor(), 4);
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, but breaks: {new} position vectors were never seen, and {slow} of {all} frequencies leave the arc that training showed.",
            "能运行，但会失效：有 {new} 个位置向量从未见过，{all} 个频率中有 {slow} 个越出训练见过的弧。"
        ),
        out_of_distribution: vec![
            Unseen::new(
                What::Ids,
                lengths.ids_from(trained),
                length,
                words!("position vectors that training never showed", "训练中从未出现的位置向量"),
            ),
            Unseen::new(
                What::Pairs,
                lengths.pairs_querying_from(trained),
                lengths.pairs(),
                words!(
                    "causal pairs whose query has an id of {trained} or more",
                    "查询编号不小于 {trained} 的因果对"
                ),
            ),
            angles,
        ],
        expect: words!(
            "The loss rises within some 20 to 50 tokens of the trained length.",
            "越过训练长度约 20 到 50 个词元后，损失就开始上升。"
        )
        .and(nearest(Curve::Sinusoidal, trained, length).sentence(Curve::Sinusoidal)),
        advice: words!(
            "Read in windows of {trained} tokens. Or train with ids that reach {length}: at full length, shifted (SHAPE, arXiv 2109.05644) or sampled (arXiv 2305.16843). \
             Dividing positions by {scale} keeps the angles in range but shrinks every distance: fine-tune after it.",
            "按 {trained} 个词元的窗口读取。或者让训练时的编号达到 {length}：用完整长度、平移编号（SHAPE, arXiv 2109.05644）或随机抽取编号（arXiv 2305.16843）。\
             把位置除以 {scale} 可使角度不越界，但所有距离都会缩小，之后需要微调。"
        ),
    }
}

/// Projected sinusoids of distances, clamped or not; `frequencies` in radians per position.
pub(crate) fn distances(frequencies: &[f64], clamp_len: Option<u64>, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let angles = angles(frequencies, lengths);
    let apart = grouped(lengths.pairs_apart(trained));
    let below = trained - 1;
    let clamped = match clamp_len {
        Some(clamp_len) if clamp_len < length => words!(
            "Its clamp at {clamp_len} is itself a distance that training never showed.",
            "它的截断值 {clamp_len} 本身就是训练中从未出现的距离。"
        ),
        _ => words!("Nothing clamps them.", "没有截断。"),
    };
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, but on new distances: {apart} causal pairs read projected sinusoids that training never showed.",
            "能运行，但遇到新的距离，读到训练中从未出现的投影正弦向量：共有 {apart} 个因果对。"
        )
        .and(clamped),
        out_of_distribution: vec![
            Unseen::new(
                What::Distances,
                lengths.pairs_apart(trained),
                lengths.pairs(),
                words!("causal pairs that are {trained} or more apart", "距离不小于 {trained} 的因果对"),
            ),
            angles,
        ],
        expect: words!(
            "A slow rise at first: the weights of a projection can go on smoothly along a sinusoid, but nothing has fitted them there. Transformer-XL's own model read 1600 tokens after training on 384 (Dai et al. 2019, arXiv 1901.02860).",
            "起初缓慢变差：投影可以沿正弦平滑延续，但那里没有经过拟合。Transformer-XL 自己的模型训练时看 384 个词元，评测时看 1600 个（Dai et al. 2019, arXiv 1901.02860）。"
        ),
        advice: words!(
            "Clamp distances where training ended (clamp_len {below} or less), which needs no training and makes far keys share a row; or read in windows of {trained} tokens.",
            "把距离截断在训练结束处（clamp_len 不超过 {below}），无需训练，远处的键共用一行；或按 {trained} 个词元的窗口读取。"
        ),
    }
}

/// Queries and keys turn; `frequencies` in radians per position.
pub(crate) fn rotary(frequencies: &[f64], base: f64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let angles = angles(frequencies, lengths);
    let (slow, all) = (angles.unseen, angles.total);
    let apart = grouped(lengths.pairs_apart(trained));
    let answer = if slow > 0 {
        words!(
            "It runs, but breaks some way past {trained}: in {apart} causal pairs, {slow} of {all} turning pairs of coordinates reach angles that training never showed.",
            "能运行，但超过 {trained} 一段之后会失效：在 {apart} 个因果对中，{all} 个旋转坐标对里有 {slow} 个转到了训练中从未出现的角度。"
        )
    } else {
        words!(
            "It runs; {apart} causal pairs are further apart than any in training, though each turning pair of coordinates alone has shown its whole circle.",
            "能运行；有 {apart} 个因果对的距离超过训练中的任何一对，不过每个旋转坐标对单独来看都已转满一圈。"
        )
    };
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer,
        out_of_distribution: vec![
            Unseen::new(
                What::Distances,
                lengths.pairs_apart(trained),
                lengths.pairs(),
                words!("causal pairs that are {trained} or more apart", "距离不小于 {trained} 的因果对"),
            ),
            angles,
        ],
        expect: words!(
            "Usually fine for 10 to 40 % past the trained length, then a fast rise; large models fall harder (LLaMA-7B, trained on 2048: perplexity 7.2 there, above 1000 at 4096; \
             Chen et al. 2023, arXiv 2306.15595).",
            "通常在超出训练长度 10% 到 40% 以内没有问题，之后迅速恶化；大模型跌得更重（LLaMA-7B，训练长度 2048：困惑度 7.2，到 4096 时超过 1000；Chen et al. 2023, arXiv 2306.15595）。"
        )
        .and(nearest(Curve::Rotary, trained, length).sentence(Curve::Rotary)),
        advice: rotary_advice(2 * frequencies.len(), base, lengths),
    }
}

/// Queries and keys turn at frequencies that are scaled: `trained` of a call of the trained length as it was trained, `scaled` of a call of the new
/// length, both in radians per position.
pub(crate) fn scaled_rotary(trained: &[f64], scaled: &[f64], scaling: &str, lengths: Lengths) -> Finding {
    let farthest = |frequency: f64, tokens: u64| frequency.abs() * (tokens - 1) as f64;
    let turn = |i: usize| TAU > farthest(trained[i], lengths.trained + 1);
    // Equal but for rounding is not past.
    let past = |i: usize| farthest(scaled[i], lengths.length) > farthest(trained[i], lengths.trained) * (1.0 + 1e-9);
    let (all, slow) = (trained.len(), (0..trained.len()).filter(|&i| turn(i)).count());
    let new = (0..all).filter(|&i| turn(i) && past(i)).count();
    let changed = (0..all).filter(|&i| trained[i] != scaled[i]).count();
    let Lengths { trained, length } = lengths;
    let answer = if new == 0 {
        words!(
            "It runs: scaled ({scaling}), none of the {slow} slow pairs of coordinates goes past the arc that training showed. {changed} of {all} pairs turn at another speed than in training.",
            "能运行：缩放后（{scaling}），{slow} 个慢速坐标对都没有越出训练见过的弧。{all} 个坐标对中有 {changed} 个的转速与训练时不同。"
        )
    } else {
        words!(
            "It runs, but may break: scaled ({scaling}), {new} of the {slow} slow pairs of coordinates still go past the arc that training showed. {changed} of {all} pairs turn at another speed than in training.",
            "能运行，但可能失效：缩放后（{scaling}），{slow} 个慢速坐标对中仍有 {new} 个越出训练见过的弧。{all} 个坐标对中有 {changed} 个的转速与训练时不同。"
        )
    };
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer,
        out_of_distribution: vec![
            Unseen::new(
                What::Distances,
                lengths.pairs_apart(trained),
                lengths.pairs(),
                words!("causal pairs that are {trained} or more apart", "距离不小于 {trained} 的因果对"),
            ),
            Unseen::new(
                What::Angles,
                new as u64,
                all as u64,
                words!(
                    "frequencies that go past the arc of their circle that training showed, at {length} tokens as scaled",
                    "缩放后在 {length} 个词元时越出训练所见弧段的频率"
                ),
            ),
        ],
        expect: words!(
            "A pair that turns slower than in training makes near tokens look nearer: some loss within the trained length, which a short training takes back.",
            "比训练时转得慢的坐标对会使近处的词元显得更近：在训练长度之内有一些损失，短暂训练即可恢复。"
        ),
        advice: words!(
            "Measure the loss per position at both lengths; train some hundred steps with the scaling if it has risen.",
            "在两种长度下分别测量每个位置的损失；若有上升，带着缩放再训练几百步。"
        ),
    }
}

/// The same where scores fade with distance besides.
pub(crate) fn fading(found: Finding, xpos: &XPos, pairs: usize, lengths: Lengths) -> Finding {
    let kept = |distance: u64, i: usize| decimal(100.0 * (distance as f64 / xpos.scale_base * XPos::log_zeta(i, pairs)).exp(), 1);
    let ends = |distance: u64| (kept(distance, 0), kept(distance, pairs - 1));
    let Lengths { trained, length } = lengths;
    let ((fast, slow), (new_fast, new_slow)) = (ends(trained - 1), ends(length - 1));
    Finding {
        expect: found.expect.and(words!(
            "xPos lets each pair's part of a score fade besides: over {trained} tokens to {fast} % (the fastest pair) … {slow} % (the slowest), over {length} to {new_fast} % … {new_slow} %, so far keys count for less (Sun et al. 2022, arXiv 2212.10554).",
            "xPos 还会让分数中每一对的贡献随距离衰减：跨 {trained} 个词元时降到 {fast} %（最快的一对）… {slow} %（最慢的一对），跨 {length} 个时降到 {new_fast} % … {new_slow} %，因此远处的影响更小（Sun et al. 2022, arXiv 2212.10554）。"
        )),
        ..found
    }
}

/// Position interpolation and a larger base, in this question's numbers.
fn rotary_advice(width: usize, base: f64, lengths: Lengths) -> Words {
    let Lengths { trained, length } = lengths;
    let factor = lengths.factor();
    let scale = decimal(factor, 4);
    let last = decimal((length - 1) as f64 / factor, 1);
    let interpolate = words!(
        "Position interpolation: divide positions by {scale} (the last becomes {last}), then train some 200 steps; without them all short distances are wrong too.",
        "位置插值：把位置除以 {scale}（最后一个变为 {last}），再训练约 200 步；不训练的话，短距离也会全部出错。"
    );
    let larger = if width > 2 && base > 0.0 {
        let larger = larger_base(base, factor, width);
        let larger = if larger < 1e7 { decimal(larger, 1) } else { significant(larger) };
        words!(
            "Or, without training, a larger base: {larger} (NTK-aware), or YaRN (arXiv 2309.00071).",
            "也可以不训练而换用更大的 base：{larger}（NTK-aware），或用 YaRN（arXiv 2309.00071）。"
        )
    } else {
        words!("Or YaRN (arXiv 2309.00071).", "也可以用 YaRN（arXiv 2309.00071）。")
    };
    interpolate.and(larger).and(words!(
        "Or read in windows of {trained} tokens.",
        "或者按 {trained} 个词元的窗口读取。"
    ))
}

/// The NTK-aware base b · s^(d / (d − 2)), with which the slowest pair turns as slowly as under interpolation by s.
fn larger_base(base: f64, factor: f64, width: usize) -> f64 {
    base * factor.powf(width as f64 / (width as f64 - 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(d: usize) -> Vec<f64> {
        (0..d / 2).map(|i| 1e4f64.powf(-2.0 * i as f64 / d as f64)).collect()
    }

    #[test]
    fn pairs_that_never_complete_a_turn() {
        // Width, trained length, slow pairs.
        let cases = [
            (128, 2048, 23),
            (32, 64, 11),
            (32, 128, 10),
            (32, 256, 9),
            (16, 64, 5),
            (16, 128, 5),
            (16, 256, 4),
            (64, 128, 21),
        ];
        for (d, trained, slow) in cases {
            let found = incomplete(&frequencies(d), trained);
            assert_eq!(found.map(|f| f.2), Some(slow), "d = {d}, trained on {trained}");
            assert_eq!(found.map(|f| (f.0, f.1)), Some((d / 2 - slow, d / 2 - 1)));
        }
        assert_eq!(incomplete(&frequencies(16), 1 << 40), None);
    }

    #[test]
    fn the_arcs_that_training_saw_decide() {
        // A frequency is slow if and only if the next position of a circle walked in steps of it is new ground at the end of training.
        for d in [4, 8, 16] {
            for trained in 1..200u64 {
                let w = frequencies(d);
                let slow = w.iter().filter(|&&w| trained as f64 * w < TAU).count() as u64;
                let found = angles(
                    &w,
                    Lengths {
                        trained,
                        length: trained + 1,
                    },
                );
                assert_eq!(found.unseen, slow);
            }
        }
    }

    #[test]
    fn ntk_bases_of_the_exercise() {
        assert_eq!(decimal(larger_base(1e4, 3000.0 / 2048.0, 128), 1), "14737.5");
        assert_eq!(decimal(larger_base(1e4, 3000.0 / 2048.0, 64), 1), "14829.9");
    }

    #[test]
    fn advice_carries_the_numbers_of_the_question() {
        let lengths = Lengths {
            trained: 2048,
            length: 3000,
        };
        let found = rotary(&frequencies(128), 1e4, lengths);
        assert!(found.advice.en.contains("2047.3") && found.advice.en.contains("14737.5"));
        assert!(found.advice.zh.contains("2047.3") && found.advice.zh.contains("14737.5"));
        assert!(found.out_of_distribution[1].note.en.contains("i = 41 … 63"));
        // A head of two coordinates has one pair, which no base can slow down.
        assert!(!rotary(&[1.0], 1e4, lengths).advice.en.contains("NTK"));
    }

    #[test]
    fn what_scaling_keeps_within_the_arcs_of_training() {
        use crate::rotate::Scaling;
        let lengths = Lengths {
            trained: 2048,
            length: 8192,
        };
        let of = |scaling: Scaling, length| scaling.frequencies(1e4, 128, length).unwrap().pairs;
        let plain = of(Scaling::Unscaled, 0);
        let new = |scaled: &[f64]| scaled_rotary(&plain, scaled, "", lengths).out_of_distribution[1].unseen;
        assert_eq!(new(&plain), 23);
        // 4 times slower over 4 times as many tokens: the last of 8192 stands at 2047.75, a hair past the last that was trained.
        assert_eq!(new(&of(Scaling::Linear { factor: 4.0 }, 0)), 23);
        assert_eq!(new(&of(Scaling::Linear { factor: 8191.0 / 2047.0 }, 0)), 0);
        assert_eq!(
            new(&of(Scaling::Ntk { factor: 4.0 }, 0)),
            23,
            "only its slowest pair is slowed by the whole factor"
        );
        assert_eq!(new(&of(Scaling::Ntk { factor: 64.0 }, 0)), 0);
    }

    #[test]
    fn sinusoids_of_a_wide_model() {
        let lengths = Lengths {
            trained: 2048,
            length: 3000,
        };
        let found = sinusoidal(&frequencies(1024), lengths);
        let unseen: Vec<u64> = found.out_of_distribution.iter().map(|u| u.unseen).collect();
        assert_eq!(unseen, [952, 2_403_324, 190]);
    }
}
