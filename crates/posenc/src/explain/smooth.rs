//! What acts on scores by a formula or a network of the distance: nothing ends at the trained length, and nothing was trained past it.

use super::count::Lengths;
use super::{Class, Finding, Unseen, What};
use crate::words::{decimal, significant, words};

/// How a penalty goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Falls {
    /// p·ln(1 + a·distance).
    Logarithm,
    /// a·distance^p.
    Power,
    /// The sum of this many cosines, whose slow ones still fall.
    Sinusoids { frequencies: u64 },
}

/// Pairs farther apart than any in training.
fn farther(lengths: Lengths) -> Unseen {
    let trained = lengths.trained;
    Unseen::new(
        What::Distances,
        lengths.pairs_apart(trained),
        lengths.pairs(),
        words!("causal pairs that are {trained} or more apart", "距离不小于 {trained} 的因果对"),
    )
}

/// A penalty that grows with the distance.
pub(crate) fn falling(falls: Falls, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let (was, is) = (trained.saturating_sub(1), length - 1);
    let ratio = is as f64 / was.max(1) as f64;
    let (more, times) = (decimal(ratio.ln(), 2), significant(ratio));
    let (answer, expect) = match falls {
        Falls::Logarithm => (
            words!(
                "It runs, along each head's curve: from distance {was} to {is} the penalty grows by p·{more} at most, the logarithm's step.",
                "能运行，沿每个头的曲线继续：从距离 {was} 到 {is}，惩罚最多再增加 p·{more}，即对数的增量。"
            ),
            words!(
                "Nearly flat: the farther, the less is new. Trained on 512 tokens and read up to 16384, this kernel was the best of its paper's (Chi et al. 2022, arXiv 2205.09921).",
                "基本平稳：越远，新增的越少。在 512 个词元上训练、读到 16384 时，它是论文中最好的核（Chi et al. 2022, arXiv 2205.09921）。"
            ),
        ),
        Falls::Power => (
            words!(
                "It runs, along each head's curve: from distance {was} to {is} the penalty grows {times}^p times, p being at most 2.",
                "能运行，沿每个头的曲线继续：从距离 {was} 到 {is}，惩罚变为原来的 {times}^p 倍，p 最大为 2。"
            ),
            words!(
                "A steady loss where p is large, by looking away from what is far; no longer reach than in training.",
                "p 较大时损失平稳，靠的是不看远处；能利用的范围并不比训练时长。"
            ),
        ),
        Falls::Sinusoids { frequencies } => (
            words!(
                "It runs: the bias falls on as long as the slowest of its {frequencies} cosines do, which no text reaches, and swings a little on the way.",
                "能运行：只要 {frequencies} 个余弦中最慢的还在下降，偏置就继续下降（没有文本长到其尽头），途中略有起伏。"
            ),
            words!(
                "A steady loss, as with a logarithmic penalty; the near tokens decide it (Chi et al. 2022, arXiv 2212.10356: such biases act as a soft window).",
                "损失平稳，与对数惩罚类似；由近处的词元决定（Chi et al. 2022, arXiv 2212.10356：这类偏置相当于一个软窗口）。"
            ),
        ),
    };
    Finding {
        method: String::new(),
        class: Class::SaturatesOrIgnores,
        answer,
        out_of_distribution: vec![farther(lengths)],
        expect,
        advice: words!(
            "Nothing, if the task is local. If far tokens must be found, measure retrieval, not perplexity.",
            "如果任务是局部的，无需处理。如果必须找到远处的词元，请测检索而不是困惑度。"
        ),
    }
}

/// FIRE: distances are divided by the query's position, or by the length it begins with.
pub(crate) fn fire(threshold: f64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let from = significant(threshold);
    Finding {
        method: String::new(),
        class: Class::SaturatesOrIgnores,
        answer: words!(
            "It runs, because it squeezes: a query at position i divides its distances' logarithms by that of i (of {from}·|w| before it), so that the network is asked for values from 0 to 1 at any length.",
            "能运行，因为它会压缩：位置 i 的查询用 i 的对数（i 较小时用 {from}·|w|）去除距离的对数，因此任何长度下网络的输入都在 0 到 1 之间。"
        ),
        out_of_distribution: vec![
            Unseen::new(
                What::Contexts,
                lengths.ids_from(trained),
                length,
                words!(
                    "queries that divide by more than any in training: every distance, near ones too, is read a little smaller",
                    "除数大于训练中任何一个的查询：所有距离（包括近处的）都被读得略小一些"
                ),
            ),
            farther(lengths),
        ],
        expect: words!(
            "Nearly flat, and far tokens stay in view: trained on 2048 tokens, it was 2.28 in perplexity better than the best other encoding of its paper at 8192 (Li et al. 2023, arXiv 2310.04418).",
            "基本平稳，且仍能看到远处的词元：在 2048 个词元上训练，到 8192 时困惑度比论文中其他最好的编码低 2.28（Li et al. 2023, arXiv 2310.04418）。"
        ),
        advice: words!(
            "Nothing, as long as training went past the length that it begins with ({from}); else train with a smaller one.",
            "只要训练长度超过它的起始长度（{from}），就无需处理；否则请用更小的起始长度训练。"
        ),
    }
}

/// Swin v2's network of the offset.
pub(crate) fn log_cpb(window: u64, lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let scaled = |distance: u64| {
        decimal(
            (8.0 * distance as f64 / window.saturating_sub(1).max(1) as f64 + 1.0).log2() / 3.0,
            2,
        )
    };
    let (was, is) = (scaled(trained - 1), scaled(length - 1));
    Finding {
        method: String::new(),
        class: Class::CanButBreaks,
        answer: words!(
            "It runs, on offsets that training never showed: on its logarithmic scale the network is asked up to {is} (in training {was}).",
            "能运行，但用到训练中没有出现过的偏移：在对数尺度上网络的输入最大到 {is}（训练中到 {was}）。"
        ),
        out_of_distribution: vec![farther(lengths)],
        expect: words!(
            "A little is asked of the network past what it knows, which goes on in straight lines there, between 0 and 16: the logarithm is there to make this little (Liu et al. 2021, arXiv 2111.09883).",
            "对网络的要求略微超出其所知；它在那里按直线延伸，且限于 0 到 16 之间：取对数正是为了让超出的部分尽量小（Liu et al. 2021, arXiv 2111.09883）。"
        ),
        advice: words!(
            "Train briefly at {length}, as Swin v2 does with each larger window.",
            "在长度 {length} 上短暂续训，Swin v2 每次增大窗口时就是这样做的。"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXERCISE: Lengths = Lengths {
        trained: 2048,
        length: 3000,
    };

    #[test]
    fn what_is_new_is_counted_and_its_size_said() {
        let log = falling(Falls::Logarithm, EXERCISE);
        // ln(2999 / 2047) = 0.3819.
        assert!(log.answer.en.contains("p·0.38 at most"), "{}", log.answer.en);
        assert_eq!(log.out_of_distribution[0].unseen, 453_628);
        let power = falling(Falls::Power, EXERCISE);
        assert!(
            power.answer.en.contains("1.465^p") || power.answer.en.contains("1.47^p"),
            "{}",
            power.answer.en
        );
        let fire = fire(512.0, EXERCISE);
        assert_eq!(fire.out_of_distribution[0].unseen, 952);
        // log₂(9) / 3 = 1.06; log₂(1 + 8 · 2999 / 2047) / 3 = 1.22.
        let cpb = log_cpb(2048, EXERCISE);
        assert!(cpb.answer.en.contains("up to 1.22 (in training 1.06)"), "{}", cpb.answer.en);
        assert_eq!(cpb.class, Class::CanButBreaks);
    }

    #[test]
    fn one_token_is_no_division_by_zero() {
        let lengths = Lengths { trained: 1, length: 2 };
        for found in [
            falling(Falls::Logarithm, lengths),
            falling(Falls::Power, lengths),
            falling(Falls::Sinusoids { frequencies: 64 }, lengths),
            fire(512.0, lengths),
            log_cpb(1, lengths),
        ] {
            assert!(
                !found.answer.en.contains("NaN") && !found.answer.en.contains("inf"),
                "{}",
                found.answer.en
            );
        }
    }
}
