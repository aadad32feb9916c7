//! How fast layers turn, and what a length meets there, as text.

use super::sentence;
use crate::explain::model::at::{AtLength, RotaryAt, Standing, tokens};
use crate::explain::model::facts::{Incomplete, RotaryFacts, Scaled};
use crate::words::{Language, Words, decimal, said, significant, words};

impl RotaryFacts {
    pub(super) fn write(&self, language: Language, out: &mut String) {
        let Self { pairs, turning, .. } = self;
        let still = pairs - turning;
        if still > 0 {
            let text = words!(
                "{turning} of {pairs} pairs turn, {still} stand still.",
                "{pairs} 个坐标对中有 {turning} 个旋转，{still} 个不动。"
            );
            sentence(2, &text, language, out);
        }
        for axis in &self.axes {
            let (index, pairs) = (axis.axis, axis.pairs);
            let (fastest, slowest) = (tokens(axis.fastest.tokens), tokens(axis.slowest.tokens));
            let (first, last) = (axis.fastest.pair, axis.slowest.pair);
            let unit = if self.grid {
                said("patches", "图块")
            } else {
                said("tokens", "词元")
            };
            let (en, zh) = (unit.en, unit.zh);
            let of_axis = match (self.axes.len(), axis_name(self.grid, self.axes.len(), index)) {
                (0 | 1, _) => Words::default(),
                (_, None) => words!(" by axis {index}", "（轴 {index}）"),
                (_, Some(name)) => {
                    let (en, zh) = (name.en, name.zh);
                    words!(" by axis {index} ({en})", "（轴 {index}：{zh}）")
                }
            };
            let (of_en, of_zh) = (of_axis.en, of_axis.zh);
            let text = Words {
                en: format!("{pairs} pairs turn{of_en}: once in {fastest} {en} (pair {first}) to once in {slowest} (pair {last})."),
                zh: format!(
                    "{pairs} 个坐标对旋转{of_zh}：最快每 {fastest} 个{zh}一圈（第 {first} 对），最慢每 {slowest} 个（第 {last} 对）。"
                ),
            };
            sentence(2, &text, language, out);
        }
        if self.axes.len() > 1 && !self.grid {
            let text = words!(
                "A token of text has the same position on every axis; a patch of a picture has its own.",
                "文本词元在每个轴上的位置相同；图像的图块各轴不同。"
            );
            sentence(2, &text, language, out);
        }
        if let Some(scaled) = &self.scaled {
            sentence(2, &scaled.words(), language, out);
            if !self.grid && self.incomplete.iter().all(|incomplete| incomplete.scaled) {
                let text = words!(
                    "The file does not say how many tokens it was trained on before that: what follows takes its length as the one after it.",
                    "文件没有说明缩放之前的训练长度：以下把文件写明的长度当作缩放之后的长度。"
                );
                sentence(2, &text, language, out);
            }
        }
        if self.table_factor != 1.0 {
            let (factor, squared) = (decimal(self.table_factor, 6), decimal(self.table_factor.powi(2), 4));
            let text = words!(
                "Cosines and sines are multiplied by {factor}, so the turned part of a score by {squared}.",
                "余弦与正弦乘以 {factor}，因此分数中旋转的部分乘以 {squared}。"
            );
            sentence(2, &text, language, out);
        }
        if self.softmax_factor != 1.0 {
            let factor = decimal(self.softmax_factor, 6);
            let text = words!("The softmax scale is multiplied by {factor}.", "softmax 的缩放乘以 {factor}。");
            sentence(2, &text, language, out);
        }
        for incomplete in &self.incomplete {
            sentence(2, &incomplete.words(self.turning, self.scaled.is_some()), language, out);
        }
        if self.grid {
            let text = words!(
                "Positions are rows and columns of a picture: no length in tokens bounds them.",
                "位置是图像的行与列：不受词元长度的限制。"
            );
            sentence(2, &text, language, out);
        }
    }
}

/// What an axis is, where the number of axes says it: M-RoPE's three, and the two of a picture.
fn axis_name(grid: bool, axes: usize, axis: usize) -> Option<Words<&'static str>> {
    match (grid, axes, axis) {
        (false, 3, 0) => Some(said("time", "时间")),
        (false, 3, 1) | (true, 2, 0) => Some(said("row", "行")),
        (false, 3, 2) | (true, 2, 1) => Some(said("column", "列")),
        _ => None,
    }
}

/// `pairs 35–63`, `pair 12`.
pub(in crate::explain::model) fn pairs(range: Option<(usize, usize)>) -> Words {
    match range {
        Some((first, last)) if first == last => words!("pair {first}", "第 {first} 对"),
        Some((first, last)) => words!("pairs {first}–{last}", "第 {first}–{last} 对"),
        None => Words::default(),
    }
}

impl Scaled {
    pub(in crate::explain::model) fn words(&self) -> Words {
        let Scaled {
            by,
            length,
            kept,
            between,
            slowed,
            divisors,
            ..
        } = self;
        let (least, most) = (decimal(divisors.0, 3), decimal(divisors.1, 3));
        let all = kept + slowed + between;
        match (*kept, *slowed, *between) {
            (_, 0, 0) => words!(
                "Scaled by {by}: at {length} tokens every pair still turns as without it.",
                "缩放：{by}。{length} 个词元时，每一对的转速都不变。"
            ),
            (0, _, 0) => words!(
                "Scaled by {by}: every pair turns {most} times slower.",
                "缩放：{by}。每一对都慢 {most} 倍。"
            ),
            (0, 0, _) => words!(
                "Scaled by {by}: at {length} tokens each pair is slowed by its own factor, {least} to {most} times.",
                "缩放：{by}。{length} 个词元时，每一对各按自己的倍数减慢，{least} 到 {most} 倍。"
            ),
            (kept, 0, between) => words!(
                "Scaled by {by}: at {length} tokens {kept} of {all} pairs turn as without it, {between} slower, each by its own factor, up to {most} times.",
                "缩放：{by}。{length} 个词元时，{all} 对中 {kept} 对转速不变，{between} 对各按自己的倍数减慢，至多 {most} 倍。"
            ),
            (kept, slowed, 0) => words!(
                "Scaled by {by}: {kept} of {all} pairs turn as without it, {slowed} turn {most} times slower.",
                "缩放：{by}。{all} 对中 {kept} 对转速不变，{slowed} 对慢 {most} 倍。"
            ),
            (kept, slowed, between) => words!(
                "Scaled by {by}: {kept} of {all} pairs turn as without it, {slowed} turn {most} times slower, {between} in between.",
                "缩放：{by}。{all} 对中 {kept} 对转速不变，{slowed} 对慢 {most} 倍，{between} 对介于其间。"
            ),
        }
    }
}

impl Incomplete {
    fn words(&self, turning: usize, is_scaled: bool) -> Words {
        let Incomplete { length, pairs: n, .. } = self;
        let which = pairs(self.range);
        let (which_en, which_zh) = (which.en, which.zh);
        let how = match (is_scaled, self.scaled) {
            (false, _) => Words::default(),
            (true, false) => words!(", before scaling", "（缩放之前）"),
            (true, true) => words!(", as scaled", "（缩放之后）"),
        };
        let (how_en, how_zh) = (how.en, how.zh);
        if *n == 0 {
            return words!(
                "Every pair completes a turn within {length} tokens{how_en}.",
                "每个坐标对在 {length} 个词元之内都能转满一圈{how_zh}。"
            );
        }
        words!(
            "Never complete a turn in {length} tokens{how_en}: {n} of {turning} ({which_en}).",
            "在 {length} 个词元之内转不满一圈{how_zh}：{turning} 对中的 {n} 对（{which_zh}）。"
        )
    }
}

impl AtLength {
    pub(super) fn write(&self, chunked: bool, indent: usize, language: Language, out: &mut String) {
        let below = self.distances_below;
        if below < self.length {
            let (en, zh) = match chunked {
                true => ("a chunk", "分块"),
                false => ("the window", "窗口"),
            };
            let text = match self.standing {
                Some(Standing::Within) => words!(
                    "Nothing is new, at this or any length: {en} keeps every distance below {below}.",
                    "无论多长都没有新情况：{zh}使所有距离小于 {below}。"
                ),
                None => words!(
                    "If it was trained on at least {below} tokens, nothing is new at any length: {en} keeps every distance below that.",
                    "若训练至少用了 {below} 个词元，则无论多长都没有新情况：{zh}使所有距离小于它。"
                ),
                _ => words!("Distances stay below {below}, by {en}.", "{zh}使所有距离小于 {below}。"),
            };
            sentence(indent, &text, language, out);
        }
        for finding in &self.findings {
            sentence(indent, &finding.answer, language, out);
        }
        if let Some(rotary) = &self.rotary {
            rotary.write(self, indent, language, out);
        }
    }
}

impl RotaryAt {
    pub(super) fn write(&self, at: &AtLength, indent: usize, language: Language, out: &mut String) {
        let length = at.length;
        if at.standing.is_none() && at.distances_below == length {
            let text = words!(
                "The file names no length, so what training showed is not known.",
                "文件没有写明长度，因此无法知道训练见过什么。"
            );
            sentence(indent, &text, language, out);
        }
        // Behind a window that training filled there is nothing to count.
        let counts = at.distances_below == length || at.standing != Some(Standing::Within);
        for arcs in self.arcs.iter().filter(|_| counts) {
            let (trained, whole, kept, new) = (arcs.trained, arcs.whole, arcs.within, arcs.beyond);
            let how = match (self.arcs.len() > 1, arcs.scaled) {
                (false, _) => words!("{trained} tokens", "{trained} 个词元"),
                (true, false) => words!("{trained} tokens before scaling", "缩放之前的 {trained} 个词元"),
                (true, true) => words!("{trained} tokens as scaled", "缩放之后的 {trained} 个词元"),
            };
            let (how_en, how_zh) = (how.en, how.zh);
            let which = pairs(arcs.range);
            let (which_en, which_zh) = (which.en, which.zh);
            let text = match (whole, kept, new) {
                (_, 0, 0) if at.distances_below > trained => words!(
                    "{how_en} turn every pair round: each angle is known, but how they stand together at longer distances is not.",
                    "{how_zh}使每一对都转满一圈：每个角度都见过，但它们在更长距离上的组合没有见过。"
                ),
                (_, 0, 0) => words!(
                    "{how_en} turn every pair round: all angles are known.",
                    "{how_zh}使每一对都转满一圈：所有角度都见过。"
                ),
                (whole, kept, 0) => words!(
                    "{how_en} turn {whole} pairs round, and the other {kept} stay on the arc that those showed: no angle is new.",
                    "{how_zh}使 {whole} 对转满一圈，其余 {kept} 对仍在已见过的弧上：没有新的角度。"
                ),
                (whole, 0, new) => words!(
                    "{how_en} turn {whole} pairs round, so all their angles are known; the other {new} leave the arc that those showed ({which_en}).",
                    "{how_zh}使 {whole} 对转满一圈，其角度全部见过；其余 {new} 对越出已见过的弧（{which_zh}）。"
                ),
                (whole, kept, new) => words!(
                    "{how_en} turn {whole} pairs round, so all their angles are known; {kept} stay on the arc that those showed, {new} leave it ({which_en}).",
                    "{how_zh}使 {whole} 对转满一圈，其角度全部见过；{kept} 对仍在已见过的弧上，{new} 对越出（{which_zh}）。"
                ),
            };
            sentence(indent, &text, language, out);
        }
        if let Some(past) = self.changes_past {
            let text = match (self.changes_each, length > past) {
                (true, true) => words!(
                    "Past {past} tokens each new token slows the frequencies further: keys cached before were turned faster. Turn them anew, recompute them, or fix the length for the whole sequence; \
                     transformers does none of this and keeps the old keys.",
                    "超过 {past} 个词元后，每个新词元都使频率更慢：此前缓存的键转得更快。应重新旋转、重新计算，或为整个序列固定长度；transformers 不做这些，沿用旧的键。"
                ),
                (true, false) => words!(
                    "Up to {past} tokens the frequencies are those of training; past it each new token slows them.",
                    "在 {past} 个词元之内频率与训练时相同；超过之后每个新词元都使其变慢。"
                ),
                (false, true) => words!(
                    "Past {past} tokens it turns by its long factors: keys cached up to there were turned by the short ones. transformers drops its cache there and recomputes; vLLM uses the long \
                     factors from the start.",
                    "超过 {past} 个词元后改用长因子：此前缓存的键按短因子旋转。transformers 在此丢弃缓存并重新计算；vLLM 从一开始就使用长因子。"
                ),
                (false, false) => words!(
                    "Up to {past} tokens it turns by its short factors, past it by the long ones.",
                    "在 {past} 个词元之内按短因子旋转，超过之后按长因子旋转。"
                ),
            };
            sentence(indent, &text, language, out);
        }
        if let Some(rounding) = &self.rounding
            && rounding.radians > 0.0
        {
            let (radians, pair, last) = (significant(rounding.radians), rounding.pair, length - 1);
            let text = words!(
                "f32 angles, which the model was trained with, are up to {radians} rad from exact ones at position {last} (pair {pair}).",
                "模型训练时使用的 f32 角度，在位置 {last} 处与精确值相差至多 {radians} 弧度（第 {pair} 对）。"
            );
            sentence(indent, &text, language, out);
        }
    }
}
